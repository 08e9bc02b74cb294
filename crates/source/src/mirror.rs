//! A mirror: a folder that stands in for the network.
//!
//! `charts/` is a Helm repository (`index.yaml` and archives), looked up by chart name and version whatever repository
//! was asked for; `sources/HOST/OWNER/NAME/REF/` holds trees of Git and OCI sources. Versions are never replaced.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use druse_kustomize::snapshot::SnapshotTree;

use crate::chart_bytes::ChartBytes;
use crate::error::SourceError;
use crate::index::{Index, pick};
use crate::request::{Artifact, ChartArtifact, GitReference, GitRequest, OciRequest, Origin, TreeArtifact};

/// A mirror folder.
#[derive(Debug)]
pub struct Mirror {
    root: PathBuf,
    index: OnceLock<Result<Index, SourceError>>,
}

/// What a mirror says to a question: the thing, or what it has instead.
pub(crate) enum Answer<T> {
    Found(T),
    Lacks(String),
}

impl Mirror {
    /// The mirror in a folder.
    ///
    /// # Errors
    /// When the folder does not exist, or has neither `charts` nor `sources`.
    pub fn open(root: impl Into<PathBuf>) -> Result<Self, SourceError> {
        let root = root.into();
        let broken = |message: &str| SourceError::Io { path: root.display().to_string(), message: message.to_string() };
        if !root.is_dir() {
            return Err(broken("there is no such folder to use as a mirror"));
        }
        if !root.join("charts").is_dir() && !root.join("sources").is_dir() {
            return Err(broken("this is no mirror: it has neither a charts nor a sources folder"));
        }
        Ok(Self { root, index: OnceLock::new() })
    }

    /// The mirror's folder.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    fn index(&self) -> Result<&Index, SourceError> {
        self.index
            .get_or_init(|| {
                let path = self.root.join("charts/index.yaml");
                if !path.exists() {
                    return Ok(Index::default());
                }
                let text = std::fs::read_to_string(&path).map_err(|e| SourceError::io(&path, &e))?;
                Index::parse(&text).map_err(|message| SourceError::Broken { what: path.display().to_string(), message })
            })
            .as_ref()
            .map_err(Clone::clone)
    }

    pub(crate) fn chart(&self, name: &str, wanted: &str) -> Result<Answer<ChartArtifact>, SourceError> {
        let index = self.index()?;
        let place = self.root.join("charts");
        let Some(version) = index.find(name, wanted)? else {
            let has: Vec<&str> =
                index.entries.get(name).into_iter().flatten().map(|v| v.version.as_str()).take(5).collect();
            return Ok(Answer::Lacks(if has.is_empty() {
                format!("mirror {} (has no chart of that name)", place.display())
            } else {
                format!("mirror {} (has {})", place.display(), has.join(", "))
            }));
        };
        let file = version.urls.first().map(String::as_str).unwrap_or_default();
        let path = inside(&place, file).ok_or_else(|| SourceError::Broken {
            what: place.join("index.yaml").display().to_string(),
            message: format!("chart {name} {}: {file:?} is no file beside the index", version.version),
        })?;
        let (bytes, got) = ChartBytes::of_file(&path)?;
        if !version.digest.is_empty() && version.digest != got {
            return Err(SourceError::Digest { what: path.display().to_string(), wanted: version.digest.clone(), got });
        }
        Ok(Answer::Found(ChartArtifact {
            artifact: Artifact {
                revision: version.version.clone(),
                digest: format!("sha256:{got}"),
                origin: Origin::Mirror(self.root.display().to_string()),
            },
            bytes,
        }))
    }

    pub(crate) fn git(&self, request: &GitRequest) -> Result<Answer<TreeArtifact>, SourceError> {
        let r = &request.reference;
        let wanted = match r {
            GitReference { commit: Some(v), .. } => Wanted::Exact(v.clone()),
            GitReference { name: Some(v), .. } => Wanted::Exact(short_name(v).to_string()),
            GitReference { semver: Some(v), .. } => Wanted::Range(v.clone()),
            GitReference { tag: Some(v), .. } | GitReference { branch: Some(v), .. } => Wanted::Exact(v.clone()),
            _ => Wanted::Exact("master".to_string()),
        };
        self.source(&request.url, &wanted)
    }

    pub(crate) fn oci(&self, request: &OciRequest) -> Result<Answer<TreeArtifact>, SourceError> {
        let r = &request.reference;
        let wanted = match (&r.digest, &r.semver, &r.tag) {
            (Some(v), ..) => Wanted::Exact(v.clone()),
            (_, Some(v), _) => Wanted::Range(v.clone()),
            (_, _, Some(v)) => Wanted::Exact(v.clone()),
            _ => Wanted::Exact("latest".to_string()),
        };
        self.source(&request.url, &wanted)
    }

    fn source(&self, url: &str, wanted: &Wanted) -> Result<Answer<TreeArtifact>, SourceError> {
        let place = self.root.join("sources");
        let Some(folder) = source_folder(url).and_then(|f| inside(&place, &f)) else {
            return Ok(Answer::Lacks(format!("mirror {} (the URL has no host and path)", place.display())));
        };
        let name = match wanted {
            Wanted::Exact(name) => Some(name.clone()),
            Wanted::Range(range) => {
                let mut names: Vec<String> = folder
                    .read_dir()
                    .into_iter()
                    .flatten()
                    .filter_map(|e| e.ok()?.file_name().into_string().ok())
                    .filter(|n| druse_helm::version::Version::parse(n).is_ok())
                    .collect();
                names.sort_by_key(|n| std::cmp::Reverse(druse_helm::version::Version::parse(n).ok()));
                pick(names.iter().map(String::as_str), range)?.and_then(|i| names.get(i).cloned())
            }
        };
        let path = name.as_deref().and_then(|n| inside(&folder, n));
        let tree = match &path {
            Some(path) if path.is_dir() => SnapshotTree::new(path)
                .map_err(|e| SourceError::Io { path: path.display().to_string(), message: e.to_string() })?,
            _ => {
                let mut has: Vec<String> = folder
                    .read_dir()
                    .into_iter()
                    .flatten()
                    .filter_map(|e| e.ok()?.file_name().into_string().ok())
                    .collect();
                has.sort();
                let has = if has.is_empty() { "is not there".to_string() } else { format!("has {}", has.join(", ")) };
                return Ok(Answer::Lacks(format!("mirror {} ({has})", folder.display())));
            }
        };
        let name = name.unwrap_or_default();
        let digest = crate::cache::tree_digest(&tree)?;
        Ok(Answer::Found(TreeArtifact {
            artifact: Artifact {
                revision: format!("{name}@{digest}"),
                digest,
                origin: Origin::Mirror(self.root.display().to_string()),
            },
            tree: Arc::new(tree),
        }))
    }
}

enum Wanted {
    Exact(String),
    Range(String),
}

/// A full reference name without `refs/heads/` or `refs/tags/`: the folder it has in a mirror.
pub(crate) fn short_name(name: &str) -> &str {
    let name = name.strip_prefix("refs/").unwrap_or(name);
    name.strip_prefix("heads/").or_else(|| name.strip_prefix("tags/")).unwrap_or(name)
}

/// `HOST/OWNER/NAME` of a Git or OCI URL, without user, port and `.git`; `None` when it has none.
#[must_use]
pub fn source_folder(url: &str) -> Option<String> {
    let rest = match url.split_once("://") {
        Some((_, rest)) => rest.to_string(),
        // user@host:path
        None => url.split_once(':').map(|(host, path)| format!("{host}/{path}"))?,
    };
    let (host, path) = rest.split_once('/')?;
    let host = host.rsplit_once('@').map_or(host, |(_, h)| h);
    let host = host.split_once(':').map_or(host, |(h, _)| h);
    let path = path.trim_matches('/');
    let path = path.strip_suffix(".git").unwrap_or(path);
    if host.is_empty() || path.is_empty() {
        return None;
    }
    Some(format!("{}/{path}", host.to_lowercase()))
}

/// A relative path in a folder; `None` when it is none or leads out.
fn inside(folder: &Path, path: &str) -> Option<PathBuf> {
    let clean = druse_kustomize::tree::join("", path)?;
    (!clean.is_empty()).then(|| folder.join(clean))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_become_folders() {
        for (url, want) in [
            ("https://github.com/kubernetes-sigs/gateway-api", Some("github.com/kubernetes-sigs/gateway-api")),
            ("https://user@GitHub.com:443/a/b.git", Some("github.com/a/b")),
            ("ssh://git@github.com/a/b.git", Some("github.com/a/b")),
            ("git@github.com:a/b.git", Some("github.com/a/b")),
            ("oci://ghcr.io/stefanprodan/manifests/podinfo", Some("ghcr.io/stefanprodan/manifests/podinfo")),
            ("https://github.com", None),
            ("nonsense", None),
        ] {
            assert_eq!(source_folder(url).as_deref(), want, "{url}");
        }
    }

    #[test]
    fn what_is_no_mirror_is_refused_and_paths_stay_inside() {
        let dir = tempfile::tempdir().unwrap();
        assert!(Mirror::open(dir.path()).unwrap_err().to_string().contains("no mirror"));
        assert!(Mirror::open(dir.path().join("none")).unwrap_err().to_string().contains("no such folder"));
        assert_eq!(inside(dir.path(), "../x"), None);
        assert_eq!(inside(dir.path(), ""), None);
    }

    #[test]
    fn a_damaged_archive_is_refused_and_a_version_never_replaced() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("charts")).unwrap();
        let index = format!(
            "apiVersion: v1\nentries:\n  a:\n  - {{version: 1.0.0, urls: [a.tgz], digest: {}}}\n  - {{version: 2.0.0, urls: [../a.tgz]}}\n",
            "0".repeat(64)
        );
        std::fs::write(dir.path().join("charts/index.yaml"), index).unwrap();
        std::fs::write(dir.path().join("charts/a.tgz"), "x").unwrap();
        let mirror = Mirror::open(dir.path()).unwrap();
        assert!(matches!(mirror.chart("a", "1.0.0"), Err(SourceError::Digest { .. })));
        assert!(matches!(mirror.chart("a", "2.0.0"), Err(SourceError::Broken { .. })));
        assert!(matches!(mirror.chart("a", "1.0.1").unwrap(), Answer::Lacks(has) if has.contains("has 2.0.0, 1.0.0")));
    }

    #[test]
    fn sources_are_found_by_url_and_ref() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("sources/github.com/a/b/v1.2.0/x")).unwrap();
        std::fs::create_dir_all(dir.path().join("sources/github.com/a/b/v1.10.0")).unwrap();
        std::fs::write(dir.path().join("sources/github.com/a/b/v1.2.0/x/y.yaml"), "a: 1").unwrap();
        let mirror = Mirror::open(dir.path()).unwrap();
        let ask = |reference: GitReference| {
            mirror.git(&GitRequest { url: "https://github.com/a/b.git".into(), reference, auth: None }).unwrap()
        };
        let tag = |t: &str| GitReference { tag: Some(t.into()), ..Default::default() };
        let Answer::Found(found) = ask(tag("v1.2.0")) else { panic!("not found") };
        assert_eq!(&*found.tree.read("x/y.yaml").unwrap(), b"a: 1");
        assert!(found.artifact.revision.starts_with("v1.2.0@sha256:"));
        let Answer::Found(found) = ask(GitReference { semver: Some(">=1.0.0".into()), ..Default::default() }) else {
            panic!("not found")
        };
        assert!(found.artifact.revision.starts_with("v1.10.0@"));
        assert!(matches!(ask(tag("v9")), Answer::Lacks(has) if has.contains("has v1.10.0, v1.2.0")));
    }
}
