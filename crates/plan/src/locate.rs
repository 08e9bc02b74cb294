//! Which tree a path means: a folder of a repository stands for the whole of it, a folder that is a homelab by itself
//! (inside a larger repository, or in none) for itself.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use druse_flux::api::Kustomization;
use druse_flux::generator::clean_path;
use druse_kustomize::snapshot::SnapshotTree;
use druse_kustomize::tree::{FileTree, Kind};
use druse_source::git_tree::{GitTree, RepositoryInfo, repository_info};

use crate::memo::Memo;
use crate::scan::scan;

/// A tree to plan.
#[derive(Clone)]
pub struct TreeInput {
    /// Its files.
    pub tree: Arc<dyn FileTree>,
    /// The URLs under which it is known: its repository's remotes.
    pub remotes: Vec<String>,
    /// Its revision as Flux writes one; `worktree` for files on disk that need not be committed.
    pub revision: String,
    /// The folder that it is, for messages; empty when it is none.
    pub root: PathBuf,
    /// The folder within it that was asked for, without slashes at the ends; empty for all of it. Of several clusters
    /// in one repository it chooses one.
    pub focus: String,
}

impl TreeInput {
    /// A tree that is in no repository.
    pub fn new(tree: impl FileTree + 'static) -> Self {
        Self {
            tree: Arc::new(tree),
            remotes: Vec::new(),
            revision: "worktree".into(),
            root: PathBuf::new(),
            focus: String::new(),
        }
    }
}

impl std::fmt::Debug for TreeInput {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TreeInput").field("root", &self.root).field("revision", &self.revision).finish_non_exhaustive()
    }
}

/// A tree that cannot be planned at all.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// The path is no folder.
    #[error("{path}: {message}")]
    Path {
        /// The path.
        path: String,
        /// What is wrong with it.
        message: String,
    },
    /// The revision cannot be read.
    #[error(transparent)]
    Revision(#[from] druse_source::SourceError),
}

/// The tree around a path, as it lies on disk.
///
/// # Errors
/// When the path is no folder that can be read.
pub fn locate(path: &Path) -> Result<TreeInput, PlanError> {
    Located::around(path)?.on_disk()
}

/// The tree around a path, as it was at a revision of its repository; the worktree is not looked at.
///
/// # Errors
/// When the path is in no repository, or the repository has no such revision.
pub fn locate_revision(path: &Path, revision: &str) -> Result<TreeInput, PlanError> {
    Located::around(path)?.at(revision)
}

/// Where the tree around a path is, of which several revisions can be read.
#[derive(Clone, Debug)]
pub struct Located {
    path: PathBuf,
    root: PathBuf,
    info: Option<RepositoryInfo>,
}

impl Located {
    /// Finds the tree around a path.
    ///
    /// # Errors
    /// When the path is no folder that can be read.
    pub fn around(path: &Path) -> Result<Self, PlanError> {
        let (root, info) = root_of(path)?;
        Ok(Self { path: path.to_path_buf(), root, info })
    }

    /// The tree as it lies on disk.
    ///
    /// # Errors
    /// When its folder cannot be read.
    pub fn on_disk(&self) -> Result<TreeInput, PlanError> {
        let root = self.root.clone();
        let fail = |message: String| PlanError::Path { path: root.display().to_string(), message };
        let tree = SnapshotTree::new(&root).map_err(|e| fail(e.to_string()))?;
        let (remotes, focus) = (remotes(&root, self.info.as_ref()), focus(&self.path, &root));
        Ok(TreeInput { tree: Arc::new(tree), remotes, revision: "worktree".into(), root, focus })
    }

    /// The tree as it was at a revision of its repository; the worktree is not looked at.
    ///
    /// # Errors
    /// When it is in no repository, or the repository has no such revision.
    pub fn at(&self, revision: &str) -> Result<TreeInput, PlanError> {
        let Some(info) = &self.info else {
            return Err(PlanError::Path {
                path: self.path.display().to_string(),
                message: format!("revision {revision:?} was asked for, but this is no Git repository"),
            });
        };
        let root = self.root.clone();
        let git_root = std::fs::canonicalize(&info.root).unwrap_or_else(|_| info.root.clone());
        let subdir = root.strip_prefix(&git_root).ok().and_then(Path::to_str).unwrap_or_default().to_string();
        let tree = GitTree::open(&info.root, revision, &subdir)?;
        let revision = format!("{revision}@sha1:{}", tree.commit());
        let (remotes, focus) = (remotes(&root, Some(info)), focus(&self.path, &root));
        Ok(TreeInput { tree: Arc::new(tree), remotes, revision, root, focus })
    }
}

/// Where a path lies in its tree.
fn focus(path: &Path, root: &Path) -> String {
    let start = std::fs::canonicalize(path).unwrap_or_default();
    start.strip_prefix(root).ok().and_then(Path::to_str).unwrap_or_default().to_string()
}

/// A tree that is only a part of its repository is not what the repository's remotes name.
fn remotes(root: &Path, info: Option<&RepositoryInfo>) -> Vec<String> {
    info.filter(|i| std::fs::canonicalize(&i.root).is_ok_and(|r| r == root))
        .map(|i| i.remotes.clone())
        .unwrap_or_default()
}

/// The folder that a path's tree starts at: of the path and the folders around it, up to the repository's root, the one
/// in which most of the paths exist that the Kustomizations found under the path name.
fn root_of(path: &Path) -> Result<(PathBuf, Option<RepositoryInfo>), PlanError> {
    let fail = |message: String| PlanError::Path { path: path.display().to_string(), message };
    let start = std::fs::canonicalize(path).map_err(|e| fail(e.to_string()))?;
    if !start.is_dir() {
        return Err(fail("this is no folder; give the folder of a homelab's repository".into()));
    }
    let Some(info) = repository_info(&start) else { return Ok((start, None)) };
    let Ok(git_root) = std::fs::canonicalize(&info.root) else { return Ok((start, None)) };
    // There is no folder around it to choose: nothing need be read to find out.
    if start == git_root {
        return Ok((git_root, Some(info)));
    }
    let tree = SnapshotTree::new(&start).map_err(|e| fail(e.to_string()))?;
    let paths: Vec<String> = scan(&tree, &start, &Memo::default())
        .objects
        .iter()
        .filter(|o| Kustomization::is(o))
        .filter_map(|o| Some(clean_path(o.value.str_at(["spec", "path"])?)))
        .filter(|p| !p.is_empty())
        .collect();
    if paths.is_empty() {
        return Ok((git_root, Some(info)));
    }
    let mut best = (0, start.clone());
    for folder in start.ancestors().take_while(|f| f.starts_with(&git_root)) {
        let Ok(tree) = SnapshotTree::new(folder) else { continue };
        let score = paths.iter().filter(|p| tree.kind(p) == Some(Kind::Dir)).count();
        if score > best.0 {
            best = (score, folder.to_path_buf());
        }
    }
    Ok((best.1, Some(info)))
}
