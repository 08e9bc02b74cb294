//! What kustomizations name by URL: folders of Git repositories and plain files, through the fetcher, so that mirrors
//! and the cache stand in for the network.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use druse_kustomize::tree::{MemoryTree, TreeError};
use druse_kustomize::{Remote, RemoteContent};
use druse_source::{Fetcher, GitReference, GitRequest, SourceError};

/// Remote resources of one unit.
pub struct Remotes<'a> {
    fetcher: &'a Fetcher,
    /// Whether what is not at hand is left out, and only remembered.
    lenient: bool,
    missing: Mutex<BTreeSet<String>>,
    asked: Mutex<bool>,
}

impl<'a> Remotes<'a> {
    /// Remote resources through a fetcher. When `lenient`, one that nobody has counts as empty.
    #[must_use]
    pub fn new(fetcher: &'a Fetcher, lenient: bool) -> Self {
        Self { fetcher, lenient, missing: Mutex::default(), asked: Mutex::default() }
    }

    /// What was left out, each with where it was looked for.
    #[must_use]
    pub fn missing(&self) -> Vec<String> {
        self.missing.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    /// Whether anything was asked for.
    #[must_use]
    pub fn were_asked(&self) -> bool {
        *self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fetch(&self, place: &Place) -> Result<RemoteContent, SourceError> {
        match place {
            Place::File(url) => self.fetcher.file(url).map(|bytes| RemoteContent::File(bytes.into())),
            Place::Git { url, reference, path, file } => {
                let request = |reference| GitRequest { url: url.clone(), reference, auth: None };
                let tree = match reference {
                    None => self
                        .fetcher
                        .git(&request(GitReference { name: Some("HEAD".into()), ..GitReference::default() })),
                    Some(r) if r.len() == 40 && r.bytes().all(|b| b.is_ascii_hexdigit()) => {
                        self.fetcher.git(&request(GitReference { commit: Some(r.clone()), ..GitReference::default() }))
                    }
                    // A tag or a branch; only asking tells.
                    Some(r) => self
                        .fetcher
                        .git(&request(GitReference { tag: Some(r.clone()), ..GitReference::default() }))
                        .or_else(|e| {
                            let branch = GitReference { branch: Some(r.clone()), ..GitReference::default() };
                            self.fetcher.git(&request(branch)).map_err(|_| e)
                        }),
                }?
                .tree;
                if *file {
                    let broken = |e: TreeError| SourceError::Broken { what: url.clone(), message: e.to_string() };
                    return tree.read(path).map(RemoteContent::File).map_err(broken);
                }
                Ok(RemoteContent::Tree { tree, dir: path.clone() })
            }
        }
    }
}

impl Remote for Remotes<'_> {
    fn get(&self, url: &str) -> Result<RemoteContent, String> {
        *self.asked.lock().unwrap_or_else(PoisonError::into_inner) = true;
        let place = Place::of(url);
        let failed = match self.fetch(&place) {
            Ok(content) => return Ok(content),
            // A file that the Git repository is not at hand for may be so by itself.
            Err(e) => match &place {
                Place::Git { file: true, .. } => match self.fetch(&Place::File(url.to_string())) {
                    Ok(content) => return Ok(content),
                    Err(_) => e,
                },
                _ => e,
            },
        };
        if !self.lenient || !failed.is_not_at_hand() {
            return Err(failed.to_string());
        }
        self.missing.lock().unwrap_or_else(PoisonError::into_inner).insert(format!("remote resource {url}: {failed}"));
        Ok(match place {
            Place::Git { file: false, .. } if !url.starts_with("http") => {
                let tree: MemoryTree =
                    [("kustomization.yaml", "resources: [empty.yaml]\n"), ("empty.yaml", "")].into_iter().collect();
                RemoteContent::Tree { tree: Arc::new(tree), dir: String::new() }
            }
            _ => RemoteContent::File(Arc::from(&b""[..])),
        })
    }
}

/// Where a URL leads.
#[derive(Debug, PartialEq, Eq)]
enum Place {
    /// A plain file.
    File(String),
    /// A folder or file of a Git repository.
    Git { url: String, reference: Option<String>, path: String, file: bool },
}

impl Place {
    /// Reads a URL as kustomize spells it.
    fn of(url: &str) -> Self {
        let plain = url.strip_prefix("git::").unwrap_or(url);
        let (body, query) = plain.split_once('?').unwrap_or((plain, ""));
        let reference = query
            .split('&')
            .find_map(|p| p.strip_prefix("ref=").or_else(|| p.strip_prefix("version=")))
            .filter(|r| !r.is_empty())
            .map(str::to_string);
        if let Some(rest) = body.strip_prefix("https://raw.githubusercontent.com/")
            && let [owner, name, tail @ ..] = rest.split('/').collect::<Vec<_>>().as_slice()
        {
            let tail = match tail {
                ["refs", "tags" | "heads", tail @ ..] => tail,
                tail => tail,
            };
            if let [reference, path @ ..] = tail
                && !path.is_empty()
            {
                return Self::Git {
                    url: format!("https://github.com/{owner}/{name}"),
                    reference: Some((*reference).to_string()),
                    path: path.join("/"),
                    file: true,
                };
            }
        }
        let body = body
            .strip_prefix("git@github.com:")
            .map_or_else(|| body.to_string(), |p| format!("https://github.com/{p}"));
        let body = body.strip_prefix("ssh://git@").map_or_else(|| body.clone(), |p| format!("https://{p}"));
        let body = body.strip_prefix("github.com/").map_or_else(|| body.clone(), |p| format!("https://github.com/{p}"));
        let (scheme, rest) = body.split_once("://").unwrap_or(("https", &body));
        // A double slash, or the end of `.git`, parts repository and path; on the large hosts it is owner and name.
        let parted = rest.split_once("//").or_else(|| rest.split_once(".git/"));
        let (repository, path) = match parted {
            Some((repository, path)) => (repository.to_string(), path),
            None if ["github.com/", "gitlab.com/", "codeberg.org/"].iter().any(|h| rest.starts_with(h)) => {
                let mut parts = rest.splitn(4, '/');
                let head: Vec<&str> = parts.by_ref().take(3).collect();
                (head.join("/"), parts.next().unwrap_or_default())
            }
            None if reference.is_some() => (rest.to_string(), ""),
            None => return Self::File(url.to_string()),
        };
        if let ["releases", "download" | "latest", ..] | ["raw" | "blob", ..] =
            path.split('/').collect::<Vec<_>>().as_slice()
        {
            return Self::File(url.to_string());
        }
        let repository = repository.strip_suffix(".git").unwrap_or(&repository);
        Self::Git {
            url: format!("{scheme}://{repository}"),
            reference,
            path: path.trim_matches('/').to_string(),
            file: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read_as_kustomize_spells_them() {
        let git = |url: &str, reference: Option<&str>, path: &str, file| Place::Git {
            url: url.into(),
            reference: reference.map(str::to_string),
            path: path.into(),
            file,
        };
        let r = "https://github.com/o/r";
        for (url, want) in [
            ("https://github.com/o/r//config/crd?ref=v1", git(r, Some("v1"), "config/crd", false)),
            ("github.com/o/r/config/crd?ref=v1", git(r, Some("v1"), "config/crd", false)),
            ("git@github.com:o/r.git//x?ref=main", git(r, Some("main"), "x", false)),
            ("https://github.com/o/r.git/x?timeout=90&ref=v2", git(r, Some("v2"), "x", false)),
            ("https://github.com/o/r", git(r, None, "", false)),
            ("https://raw.githubusercontent.com/o/r/v1/a/b.yaml", git(r, Some("v1"), "a/b.yaml", true)),
            ("https://raw.githubusercontent.com/o/r/refs/tags/v1/b.yaml", git(r, Some("v1"), "b.yaml", true)),
            ("https://example.org/a//b?ref=x", git("https://example.org/a", Some("x"), "b", false)),
        ] {
            assert_eq!(Place::of(url), want, "{url}");
        }
        for url in ["https://github.com/o/r/releases/download/v1/m.yaml", "https://example.org/m.yaml"] {
            assert_eq!(Place::of(url), Place::File(url.into()));
        }
    }
}
