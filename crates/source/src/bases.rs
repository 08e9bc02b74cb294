//! What kustomizations name by URL: folders of Git repositories, and single files.
//!
//! Files of `raw.githubusercontent.com` are files of a repository, so a mirror can have them too.

use std::sync::Arc;

use druse_kustomize::{Remote, RemoteContent, RepoSpec};
use reqwest::Url;

use crate::fetcher::Fetcher;
use crate::request::{GitReference, GitRequest, TreeArtifact};

/// The largest file read by URL, in bytes.
const MAX_FILE: u64 = 32 * 1024 * 1024;

impl Remote for Fetcher {
    fn get(&self, url: &str) -> Result<RemoteContent, String> {
        if let Some(file) = RawFile::parse(url) {
            let tree = self.revision(&format!("https://github.com/{}", file.repository), file.reference)?.tree;
            return tree.read(file.path).map(RemoteContent::File).map_err(|e| format!("{url}: {e}"));
        }
        let is_file = [".yaml", ".yml", ".json"].iter().any(|end| url.split('?').next().unwrap_or(url).ends_with(end));
        if is_file && url.starts_with("http") {
            return self.file(url).map(RemoteContent::File);
        }
        let Some(spec) = RepoSpec::parse(url) else { return Err(format!("'{url}' names no Git repository")) };
        let found = self.revision(&spec.url, &spec.reference)?;
        Ok(RemoteContent::Tree { tree: found.tree, dir: spec.dir })
    }
}

impl Fetcher {
    /// A repository's tree at what a URL calls `ref`: a commit, else a tag, else a branch.
    fn revision(&self, url: &str, reference: &str) -> Result<TreeArtifact, String> {
        let ask = |reference: GitReference| {
            self.git(&GitRequest { url: url.to_string(), reference, auth: None }).map_err(|e| e.to_string())
        };
        if reference.is_empty() {
            return ask(GitReference { name: Some("HEAD".to_string()), ..GitReference::default() });
        }
        if reference.starts_with("refs/") {
            return ask(GitReference { name: Some(reference.to_string()), ..GitReference::default() });
        }
        if reference.len() == 40 && reference.bytes().all(|b| b.is_ascii_hexdigit()) {
            return ask(GitReference { commit: Some(reference.to_string()), ..GitReference::default() });
        }
        ask(GitReference { tag: Some(reference.to_string()), ..GitReference::default() }).or_else(|of_tag| {
            ask(GitReference { branch: Some(reference.to_string()), ..GitReference::default() }).map_err(|_| of_tag)
        })
    }

    /// A file by its URL.
    fn file(&self, url: &str) -> Result<Arc<[u8]>, String> {
        let parsed = Url::parse(url).map_err(|e| format!("{url}: {e}"))?;
        match self.network() {
            Some(network) => network.file(parsed, MAX_FILE).map(Arc::from).map_err(|e| e.to_string()),
            None => Err(format!("{url} was not fetched: the network is not used (offline)")),
        }
    }
}

/// A file of a repository on GitHub, by the URL of its raw content.
struct RawFile<'a> {
    /// `OWNER/NAME`
    repository: String,
    reference: &'a str,
    path: &'a str,
}

impl<'a> RawFile<'a> {
    fn parse(url: &'a str) -> Option<Self> {
        let rest = url.strip_prefix("https://raw.githubusercontent.com/")?;
        let mut parts = rest.splitn(3, '/');
        let (owner, name, rest) = (parts.next()?, parts.next()?, parts.next()?);
        let rest = rest.strip_prefix("refs/heads/").or_else(|| rest.strip_prefix("refs/tags/")).unwrap_or(rest);
        let (reference, path) = rest.split_once('/')?;
        let path = path.split('?').next().unwrap_or(path);
        Some(Self { repository: format!("{owner}/{name}"), reference, path })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::FetcherOptions;

    #[test]
    fn remote_bases_and_raw_files_come_from_a_mirror() {
        let mirror = tempfile::tempdir().unwrap();
        let dir = mirror.path().join("sources/github.com/o/r/v1/deploy");
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join("kustomization.yaml"), "resources: [a.yaml]\n").unwrap();
        std::fs::write(dir.join("a.yaml"), "kind: A\n").unwrap();
        let options =
            FetcherOptions { mirrors: vec![mirror.path().into()], offline: true, ..FetcherOptions::default() };
        let fetcher = Fetcher::new(options).unwrap();
        match fetcher.get("github.com/o/r//deploy?ref=v1").unwrap() {
            RemoteContent::Tree { tree, dir } => assert!(tree.read(&format!("{dir}/a.yaml")).is_ok()),
            RemoteContent::File(_) => panic!("a folder is asked for"),
        }
        match fetcher.get("https://raw.githubusercontent.com/o/r/v1/deploy/a.yaml").unwrap() {
            RemoteContent::File(bytes) => assert_eq!(&*bytes, b"kind: A\n"),
            RemoteContent::Tree { .. } => panic!("a file is asked for"),
        }
        let Err(e) = fetcher.get("github.com/o/other?ref=v1") else { panic!("nobody has it") };
        assert!(e.contains("github.com/o/other") && e.contains("mirror"), "{e}");
        let Err(e) = fetcher.get("https://example.org/a.yaml") else { panic!("offline") };
        assert!(e.contains("offline"), "{e}");
    }
}
