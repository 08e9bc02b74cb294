//! Fills a mirror: writes charts and trees into the form that [`crate::mirror`] reads.
//!
//! Every file and folder is written beside its place and moved there, the index last, so that a mirror that is being
//! filled can be used, and a run that was cut off is simply done again. What has a version is never replaced by
//! something else; what moves (branches, `latest`) is.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use druse_kustomize::tree::{DiskTree, FileTree, Kind, join, parent};
use druse_object::{Map, Value, yaml};

use crate::cache::{sha256, tree_digest, write};
use crate::error::SourceError;
use crate::mirror::source_folder;
use crate::net::is_fixed;
use crate::request::{ChartArtifact, ChartRequest, GitRequest, OciRequest, TreeArtifact};

/// How deep trees are written.
const MAX_DEPTH: usize = 64;

/// What became of something that was put into a mirror.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Put {
    /// It was not there before.
    Written,
    /// It is there, as it was.
    Unchanged,
    /// Something else was there before; only for what moves.
    Replaced,
}

/// A mirror that is being filled. May be used from any number of threads, by one process at a time.
#[derive(Debug)]
pub struct MirrorWriter {
    root: PathBuf,
    /// Index entries by chart and version.
    charts: Mutex<BTreeMap<String, BTreeMap<String, Value>>>,
}

fn broken(what: impl std::fmt::Display, message: impl Into<String>) -> SourceError {
    SourceError::Broken { what: what.to_string(), message: message.into() }
}

impl MirrorWriter {
    /// Opens a folder to fill; it is made when it does not exist, and what it holds stays.
    ///
    /// # Errors
    /// When it cannot be made, or its index cannot be read.
    pub fn open(root: impl Into<PathBuf>) -> Result<Self, SourceError> {
        let root = root.into();
        for name in ["charts", "sources"] {
            let dir = root.join(name);
            std::fs::create_dir_all(&dir).map_err(|e| SourceError::io(&dir, &e))?;
        }
        let mut charts: BTreeMap<String, BTreeMap<String, Value>> = BTreeMap::new();
        let path = root.join("charts/index.yaml");
        if path.exists() {
            let text = std::fs::read_to_string(&path).map_err(|e| SourceError::io(&path, &e))?;
            let index = yaml::parse(&text, yaml::Dialect::Sigs).map_err(|e| broken(path.display(), e.to_string()))?;
            for (name, versions) in index.get("entries").and_then(Value::as_map).into_iter().flat_map(|m| m.iter()) {
                for entry in versions.items() {
                    let version = match entry.get("version") {
                        Some(Value::String(v)) => v.to_string(),
                        Some(v) => druse_object::json::to_string(v),
                        None => continue,
                    };
                    charts.entry(name.to_string()).or_default().insert(version, entry.clone());
                }
            }
        }
        Ok(Self { root, charts: Mutex::new(charts) })
    }

    /// The mirror's folder.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Puts a chart in. It is found by its version afterwards, and by what was asked for when that is no range (a tag or
    /// digest of a registry). The index is written by [`MirrorWriter::finish`].
    ///
    /// # Errors
    /// When the mirror holds another chart of the same name and version, or it cannot be written.
    pub fn put_chart(&self, request: &ChartRequest, found: &ChartArtifact) -> Result<Put, SourceError> {
        let version = &found.artifact.revision;
        let what = format!("chart {} {version}", request.name);
        let bytes = found.bytes.read()?;
        let digest = sha256(&bytes).trim_start_matches("sha256:").to_string();
        let mut put = Put::Written;
        let mut names = vec![version.clone()];
        let wanted = request.version.trim();
        if !wanted.is_empty() && wanted != version && druse_helm::version::Constraint::parse(wanted).is_err() {
            names.push(wanted.to_string());
        }
        let file = format!("{}-{version}.tgz", request.name);
        if file.contains(['/', '\\']) || file.starts_with('.') {
            return Err(broken(what, "its name or version cannot be a file's name"));
        }
        for name in names {
            let known = self
                .charts
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .get(&request.name)
                .and_then(|v| v.get(&name).cloned());
            let known =
                known.map(|e| e.str_at(["digest"]).unwrap_or_default().trim_start_matches("sha256:").to_string());
            match known {
                Some(known) if known == digest => put = Put::Unchanged,
                Some(_) if is_fixed(&name) => {
                    return Err(broken(
                        &what,
                        "the mirror holds a different chart of that name and version, from another repository or an earlier time; \
                         remove that first, or use a second mirror",
                    ));
                }
                Some(_) => put = Put::Replaced,
                None => {}
            }
            let entry = Value::Map(Map::from_iter([
                ("apiVersion", Value::from("v2")),
                ("name", Value::from(&request.name)),
                ("version", Value::from(&name)),
                ("digest", Value::from(&digest)),
                ("urls", Value::from(vec![Value::from(file.as_str())])),
            ]));
            let path = self.root.join("charts").join(&file);
            let there = std::fs::read(&path).is_ok_and(|there| there == *bytes);
            if !there {
                write(&path, &bytes)?;
                if put == Put::Unchanged {
                    put = Put::Written;
                }
            }
            let mut charts = self.charts.lock().unwrap_or_else(PoisonError::into_inner);
            charts
                .entry(request.name.clone())
                .or_default()
                .entry(name)
                .and_modify(|e| {
                    if put == Put::Replaced {
                        *e = entry.clone();
                    }
                })
                .or_insert(entry);
        }
        Ok(put)
    }

    /// Puts the tree of a Git source in.
    ///
    /// # Errors
    /// When the mirror holds another tree of the same tag or commit, or it cannot be written.
    pub fn put_git(&self, request: &GitRequest, found: &TreeArtifact) -> Result<Put, SourceError> {
        let r = &request.reference;
        let name = match (&r.commit, &r.name) {
            (Some(commit), _) => commit.clone(),
            (_, Some(name)) => crate::mirror::short_name(name).to_string(),
            _ => found.artifact.revision.split('@').next().unwrap_or_default().to_string(),
        };
        let fixed = r.commit.is_some() || is_fixed(&name);
        self.put_tree(&request.url, &name, fixed, found)
    }

    /// Puts an OCI artifact in.
    ///
    /// # Errors
    /// As [`MirrorWriter::put_git`].
    pub fn put_oci(&self, request: &OciRequest, found: &TreeArtifact) -> Result<Put, SourceError> {
        let name = match &request.reference.digest {
            Some(digest) => digest.clone(),
            None => found.artifact.revision.split('@').next().unwrap_or_default().to_string(),
        };
        self.put_tree(&request.url, &name, is_fixed(&name), found)
    }

    fn put_tree(&self, url: &str, name: &str, fixed: bool, found: &TreeArtifact) -> Result<Put, SourceError> {
        let shown = crate::net::shown(url);
        let sources = self.root.join("sources");
        let folder = source_folder(url).and_then(|f| join("", &f)).filter(|f| !f.is_empty());
        let name = join("", name).filter(|n| !n.is_empty());
        let (Some(folder), Some(name)) = (folder, name) else {
            return Err(broken(shown, "its URL and reference cannot be a folder's name"));
        };
        let target = sources.join(folder).join(name);
        let mut put = Put::Written;
        if target.is_dir() {
            let there = DiskTree::new(&target).map_err(|e| broken(target.display(), e.to_string()))?;
            if tree_digest(&there)? == found.artifact.digest {
                return Ok(Put::Unchanged);
            }
            if fixed {
                return Err(broken(
                    target.display(),
                    format!(
                        "the mirror holds other files here than {shown} has now, and versions are not replaced; remove the folder first"
                    ),
                ));
            }
            put = Put::Replaced;
        }
        let scratch = tempfile::Builder::new()
            .prefix(".new-")
            .tempdir_in(&self.root)
            .map_err(|e| SourceError::io(&self.root, &e))?;
        let new = scratch.path().join("new");
        write_tree(&*found.tree, "", &new, 0)?;
        let dir = target.parent().unwrap_or(&sources);
        std::fs::create_dir_all(dir).map_err(|e| SourceError::io(dir, &e))?;
        if put == Put::Replaced {
            std::fs::rename(&target, scratch.path().join("old")).map_err(|e| SourceError::io(&target, &e))?;
        }
        std::fs::rename(&new, &target).map_err(|e| SourceError::io(&target, &e))?;
        Ok(put)
    }

    /// Writes the index of charts, when it has changed.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn finish(&self) -> Result<(), SourceError> {
        let charts = self.charts.lock().unwrap_or_else(PoisonError::into_inner);
        let entries = charts.iter().map(|(name, versions)| {
            let mut versions: Vec<(&String, &Value)> = versions.iter().collect();
            versions.sort_by_key(|(v, _)| std::cmp::Reverse(druse_helm::version::Version::parse(v).ok()));
            (name.as_str(), Value::from(versions.into_iter().map(|(_, e)| e.clone()).collect::<Vec<_>>()))
        });
        let index =
            Value::Map(Map::from_iter([("apiVersion", Value::from("v1")), ("entries", Value::Map(entries.collect()))]));
        let text = yaml::to_string(&index);
        let path = self.root.join("charts/index.yaml");
        if std::fs::read(&path).is_ok_and(|t| t == text.as_bytes()) {
            return Ok(());
        }
        write(&path, text.as_bytes())
    }
}

/// Writes a folder of a tree; links to folders stay links.
fn write_tree(tree: &dyn FileTree, from: &str, to: &Path, depth: usize) -> Result<(), SourceError> {
    if depth > MAX_DEPTH {
        return Err(broken(from, format!("folders are nested more than {MAX_DEPTH} deep")));
    }
    std::fs::create_dir_all(to).map_err(|e| SourceError::io(to, &e))?;
    for name in tree.list(from).map_err(|e| broken(from, e.to_string()))? {
        let path = if from.is_empty() { name.clone() } else { format!("{from}/{name}") };
        let target = to.join(&name);
        match tree.kind(&path) {
            Some(Kind::File) => {
                let bytes = tree.read(&path).map_err(|e| broken(&path, e.to_string()))?;
                std::fs::write(&target, bytes).map_err(|e| SourceError::io(&target, &e))?;
            }
            Some(Kind::Dir) if tree.canonical(&path) == path => write_tree(tree, &path, &target, depth + 1)?,
            Some(Kind::Dir) => link(&path, &tree.canonical(&path), &target)?,
            // A link that leads nowhere.
            None => {}
        }
    }
    Ok(())
}

#[cfg(unix)]
fn link(path: &str, canonical: &str, target: &Path) -> Result<(), SourceError> {
    let up = "../".repeat(parent(path).split('/').filter(|p| !p.is_empty()).count());
    let to = format!("{up}{canonical}");
    let to = if to.is_empty() { "." } else { &to };
    std::os::unix::fs::symlink(to, target).map_err(|e| SourceError::io(target, &e))
}

#[cfg(not(unix))]
fn link(path: &str, canonical: &str, _target: &Path) -> Result<(), SourceError> {
    let _ = parent(path);
    Err(broken(path, format!("it is a link to the folder {canonical}, which cannot be made on this system")))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use druse_kustomize::tree::MemoryTree;

    use super::*;
    use crate::request::{Artifact, GitReference, OciReference, Origin};
    use crate::{Fetcher, FetcherOptions};

    fn artifact(revision: &str, digest: String) -> Artifact {
        Artifact { revision: revision.into(), digest, origin: Origin::Cache }
    }

    fn chart(version: &str, bytes: &str) -> ChartArtifact {
        let bytes = bytes.as_bytes().to_vec();
        ChartArtifact { artifact: artifact(version, sha256(&bytes)), bytes: bytes.into() }
    }

    fn tree(revision: &str, text: &str) -> TreeArtifact {
        let tree: MemoryTree = [("a/b.yaml", text.as_bytes().to_vec())].into_iter().collect();
        let digest = tree_digest(&tree).unwrap();
        TreeArtifact { artifact: artifact(revision, digest), tree: Arc::new(tree) }
    }

    fn ask(version: &str) -> ChartRequest {
        ChartRequest {
            repository: "oci://h/x".into(),
            name: "a".into(),
            version: version.into(),
            ..ChartRequest::default()
        }
    }

    #[test]
    fn charts_are_found_again_and_never_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let w = MirrorWriter::open(dir.path()).unwrap();
        assert_eq!(w.put_chart(&ask("1.x"), &chart("1.2.0", "one")).unwrap(), Put::Written);
        assert_eq!(w.put_chart(&ask("latest"), &chart("1.3.0", "two")).unwrap(), Put::Written);
        assert!(
            w.put_chart(&ask("1.2.0"), &chart("1.2.0", "other")).unwrap_err().to_string().contains("different chart")
        );
        w.finish().unwrap();
        let first = std::fs::read(dir.path().join("charts/index.yaml")).unwrap();
        let w = MirrorWriter::open(dir.path()).unwrap();
        assert_eq!(w.put_chart(&ask("1.2.0"), &chart("1.2.0", "one")).unwrap(), Put::Unchanged);
        assert_eq!(w.put_chart(&ask("latest"), &chart("1.4.0", "three")).unwrap(), Put::Replaced);
        assert_eq!(w.put_chart(&ask("latest"), &chart("1.3.0", "two")).unwrap(), Put::Replaced);
        w.finish().unwrap();
        let options = FetcherOptions { mirrors: vec![dir.path().into()], ..FetcherOptions::default() };
        let f = Fetcher::new(options).unwrap();
        assert_eq!(&**f.chart(&ask("~1.2.0")).unwrap().bytes.read().unwrap(), b"one");
        assert_eq!(&**f.chart(&ask("latest")).unwrap().bytes.read().unwrap(), b"two");
        assert_eq!(&**f.chart(&ask("1.4.0")).unwrap().bytes.read().unwrap(), b"three");
        assert!(String::from_utf8(first).unwrap().starts_with("apiVersion: v1\nentries:\n"));
        assert!(w.put_chart(&ChartRequest { name: "../x".into(), ..ask("") }, &chart("1.0.0", "x")).is_err());
    }

    #[test]
    fn trees_are_found_again_and_only_what_moves_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let w = MirrorWriter::open(dir.path()).unwrap();
        let url = "https://github.com/a/b.git".to_string();
        let git = |reference: GitReference| GitRequest { url: url.clone(), reference, auth: None };
        let branch = git(GitReference { branch: Some("feature/x".into()), ..GitReference::default() });
        let range = git(GitReference { semver: Some(">=1".into()), ..GitReference::default() });
        let named = git(GitReference { name: Some("refs/heads/main".into()), ..GitReference::default() });
        assert_eq!(w.put_git(&branch, &tree("feature/x@sha1:1", "one")).unwrap(), Put::Written);
        assert_eq!(w.put_git(&branch, &tree("feature/x@sha1:1", "one")).unwrap(), Put::Unchanged);
        assert_eq!(w.put_git(&branch, &tree("feature/x@sha1:2", "two")).unwrap(), Put::Replaced);
        assert_eq!(w.put_git(&range, &tree("v1.0.0@sha1:1", "tag")).unwrap(), Put::Written);
        assert!(w.put_git(&range, &tree("v1.0.0@sha1:2", "moved")).unwrap_err().to_string().contains("not replaced"));
        assert_eq!(w.put_git(&named, &tree("refs/heads/main@sha1:2", "main")).unwrap(), Put::Written);
        let oci =
            OciRequest { url: "oci://ghcr.io/a/b".into(), reference: OciReference::default(), ..OciRequest::default() };
        assert_eq!(w.put_oci(&oci, &tree("latest@sha256:2", "oci")).unwrap(), Put::Written);
        w.finish().unwrap();
        let options = FetcherOptions { mirrors: vec![dir.path().into()], ..FetcherOptions::default() };
        let f = Fetcher::new(options).unwrap();
        for (request, want) in [(&branch, "two"), (&range, "tag"), (&named, "main")] {
            assert_eq!(&*f.git(request).unwrap().tree.read("a/b.yaml").unwrap(), want.as_bytes());
        }
        assert_eq!(&*f.oci(&oci).unwrap().tree.read("a/b.yaml").unwrap(), b"oci");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2, "nothing else is left");
    }
}
