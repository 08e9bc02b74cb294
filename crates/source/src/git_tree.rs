//! One revision of a local Git repository as a file tree, read from the object database; blobs only when asked for.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use druse_kustomize::tree::{ContentId, DEFAULT_MAX_FILE, FileTree, Kind, TreeError, join, parent};

use crate::error::SourceError;

/// How many links are followed for one path.
const MAX_LINKS: usize = 16;
/// How deep folders may be.
const MAX_DEPTH: usize = 128;

/// A commit's tree, or a folder of it.
pub struct GitTree {
    repository: gix::ThreadSafeRepository,
    commit: String,
    files: BTreeMap<String, Entry>,
    dirs: BTreeMap<String, BTreeSet<String>>,
}

#[derive(Clone, Copy)]
struct Entry {
    id: gix::ObjectId,
    link: bool,
}

impl std::fmt::Debug for GitTree {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GitTree").field("commit", &self.commit).finish_non_exhaustive()
    }
}

/// What a local repository says about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RepositoryInfo {
    /// The worktree's root.
    pub root: std::path::PathBuf,
    /// The URLs of its remotes.
    pub remotes: Vec<String>,
    /// The commit checked out, in hex.
    pub head: Option<String>,
    /// The branch checked out.
    pub branch: Option<String>,
}

/// What the repository around a path says about itself; `None` when the path is in none.
#[must_use]
pub fn repository_info(path: &Path) -> Option<RepositoryInfo> {
    let repository = gix::discover(path).ok()?;
    let root = repository.workdir()?.to_path_buf();
    let remotes = repository
        .remote_names()
        .iter()
        .filter_map(|name| repository.find_remote(name.to_string().as_str()).ok())
        .filter_map(|r| r.url(gix::remote::Direction::Fetch).map(|u| u.to_bstring().to_string()))
        .collect();
    let head = repository.head_id().ok().map(|id| id.to_string());
    let branch = repository.head_name().ok().flatten().map(|n| n.shorten().to_string());
    Some(RepositoryInfo { root, remotes, head, branch })
}

/// The best common ancestor of two revisions of the repository around a path, in hex.
///
/// # Errors
/// When there is no repository, no such revision, or the two have no commit in common.
pub fn merge_base(path: &Path, one: &str, other: &str) -> Result<String, SourceError> {
    let broken = |message: String| SourceError::Broken {
        what: format!("the common ancestor of {one:?} and {other:?} in {}", path.display()),
        message,
    };
    let repository = gix::discover(path).map_err(|e| broken(format!("there is no Git repository here: {e}")))?;
    let commit = |revision: &str| -> Result<gix::ObjectId, SourceError> {
        let id = repository
            .rev_parse_single(revision)
            .map_err(|e| broken(format!("there is no revision {revision:?}: {e}")))?;
        let object = id.object().map_err(|e| broken(e.to_string()))?;
        Ok(object.peel_to_commit().map_err(|e| broken(format!("{revision:?} is no commit: {e}")))?.id)
    };
    let base = repository.merge_base(commit(one)?, commit(other)?).map_err(|e| broken(e.to_string()))?;
    base.map(|id| id.to_string()).ok_or_else(|| broken("they have no commit in common".into()))
}

impl GitTree {
    /// The tree of a revision (`HEAD~2`, a branch, a tag, a commit) of the repository around `path`, from the folder
    /// `subdir` on (empty for all of it).
    ///
    /// # Errors
    /// When there is no repository, no such revision, or no such folder in it.
    pub fn open(path: &Path, revision: &str, subdir: &str) -> Result<Self, SourceError> {
        let broken = |message: String| SourceError::Broken {
            what: format!("revision {revision:?} of {}", path.display()),
            message,
        };
        let repository = gix::discover(path).map_err(|e| broken(format!("there is no Git repository here: {e}")))?;
        let id =
            repository.rev_parse_single(revision).map_err(|e| broken(format!("there is no such revision: {e}")))?;
        let commit = id
            .object()
            .map_err(|e| broken(e.to_string()))?
            .peel_to_commit()
            .map_err(|e| broken(format!("it is no commit: {e}")))?;
        let mut tree = commit.tree().map_err(|e| broken(e.to_string()))?;
        if !subdir.is_empty() {
            let entry = tree
                .lookup_entry_by_path(subdir)
                .map_err(|e| broken(e.to_string()))?
                .ok_or_else(|| broken(format!("it has no folder {subdir}")))?;
            tree = entry
                .object()
                .map_err(|e| broken(e.to_string()))?
                .try_into_tree()
                .map_err(|e| broken(e.to_string()))?;
        }
        let mut out = Self {
            commit: commit.id.to_string(),
            repository: repository.clone().into_sync(),
            files: BTreeMap::new(),
            dirs: BTreeMap::from([(String::new(), BTreeSet::new())]),
        };
        out.add(&tree, "", 0).map_err(broken)?;
        Ok(out)
    }

    /// The commit, in hex.
    #[must_use]
    pub fn commit(&self) -> &str {
        &self.commit
    }

    fn add(&mut self, tree: &gix::Tree<'_>, dir: &str, depth: usize) -> Result<(), String> {
        if depth > MAX_DEPTH {
            return Err(format!("{dir}: folders are nested more than {MAX_DEPTH} deep"));
        }
        for entry in tree.iter() {
            let entry = entry.map_err(|e| e.to_string())?;
            // A name that is no UTF-8 cannot be written in a manifest either.
            let Ok(name) = std::str::from_utf8(entry.filename()) else { continue };
            let path = if dir.is_empty() { name.to_string() } else { format!("{dir}/{name}") };
            let mode = entry.mode();
            if mode.is_tree() {
                let sub = entry.object().map_err(|e| e.to_string())?.try_into_tree().map_err(|e| e.to_string())?;
                self.dirs.entry(path.clone()).or_default();
                self.add(&sub, &path, depth + 1)?;
            } else if mode.is_blob() || mode.is_link() {
                self.files.insert(path, Entry { id: entry.object_id(), link: mode.is_link() });
            } else {
                // A submodule: its files are in another repository.
                continue;
            }
            self.dirs.entry(dir.to_string()).or_default().insert(name.to_string());
        }
        Ok(())
    }

    fn blob(&self, entry: Entry, path: &str) -> Result<Arc<[u8]>, TreeError> {
        let io = |message: String| TreeError::Io { path: path.to_string(), message };
        let repository = self.repository.to_thread_local();
        let size = repository.find_header(entry.id).map_err(|e| io(e.to_string()))?.size();
        if size > DEFAULT_MAX_FILE {
            return Err(TreeError::TooLarge { path: path.to_string(), size, limit: DEFAULT_MAX_FILE });
        }
        let object = repository.find_object(entry.id).map_err(|e| io(e.to_string()))?;
        Ok(object.data.as_slice().into())
    }

    /// The path with links resolved, part by part; `None` when it leads nowhere or out.
    fn resolve(&self, path: &str) -> Option<String> {
        let mut rest: Vec<String> =
            join("", path)?.split('/').rev().filter(|p| !p.is_empty()).map(str::to_string).collect();
        let mut done = String::new();
        let mut links = 0;
        while let Some(part) = rest.pop() {
            let next = join(&done, &part)?;
            match self.files.get(&next) {
                Some(entry) if entry.link => {
                    links += 1;
                    if links > MAX_LINKS {
                        return None;
                    }
                    let target = self.blob(*entry, &next).ok()?;
                    let target = join(parent(&next), std::str::from_utf8(&target).ok()?)?;
                    rest.extend(target.split('/').rev().filter(|p| !p.is_empty()).map(str::to_string));
                    done = String::new();
                }
                _ => done = next,
            }
        }
        Some(done)
    }
}

impl FileTree for GitTree {
    fn read(&self, path: &str) -> Result<Arc<[u8]>, TreeError> {
        let clean = self.resolve(path).ok_or_else(|| TreeError::Outside { path: path.to_string() })?;
        match self.files.get(&clean) {
            Some(entry) => self.blob(*entry, path),
            None if self.dirs.contains_key(&clean) => Err(TreeError::IsDir { path: path.to_string() }),
            None => Err(TreeError::NotFound { path: path.to_string() }),
        }
    }

    fn kind(&self, path: &str) -> Option<Kind> {
        let clean = self.resolve(path)?;
        if self.files.contains_key(&clean) {
            Some(Kind::File)
        } else {
            self.dirs.contains_key(&clean).then_some(Kind::Dir)
        }
    }

    fn list(&self, dir: &str) -> Result<Vec<String>, TreeError> {
        let clean = self.resolve(dir).ok_or_else(|| TreeError::Outside { path: dir.to_string() })?;
        match self.dirs.get(&clean) {
            Some(names) => Ok(names.iter().cloned().collect()),
            None if self.files.contains_key(&clean) => Err(TreeError::NotDir { path: dir.to_string() }),
            None => Err(TreeError::NotFound { path: dir.to_string() }),
        }
    }

    fn canonical(&self, path: &str) -> String {
        self.resolve(path).unwrap_or_else(|| path.to_string())
    }

    fn content_id(&self, path: &str) -> Result<ContentId, TreeError> {
        // Links are resolved here, so that a blob is always the content that reading gives.
        match self.resolve(path).and_then(|clean| self.files.get(&clean)) {
            Some(Entry { id: gix::ObjectId::Sha1(id), .. }) => Ok(ContentId(*id)),
            _ => self.read(path).map(|content| ContentId::of(&content)),
        }
    }
}
