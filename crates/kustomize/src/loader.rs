//! Where a build reads: one folder of one tree, with kustomize's rules on what may be read from there.

use std::sync::Arc;

use crate::error::{KustomizeError, Result, fail};
use crate::tree::{self, FileTree, Kind, TreeError};

/// Which files a kustomization may read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LoadRestriction {
    /// Only files in or below its own folder (the default of `kubectl kustomize`).
    #[default]
    RootOnly,
    /// Any file of the tree (what Flux allows).
    None,
}

/// What a remote reference led to.
pub enum RemoteContent {
    /// One file.
    File(Arc<[u8]>),
    /// A tree, of which a folder is the kustomization.
    Tree {
        /// The tree; nothing outside it is read.
        tree: Arc<dyn FileTree>,
        /// The folder in it.
        dir: String,
    },
}

/// Gets what `resources` and `components` name by URL.
pub trait Remote: Send + Sync {
    /// Gets a URL as kustomize spells it (`https://…`, `github.com/…?ref=…`, `git@…`).
    ///
    /// # Errors
    /// A message that says why not.
    fn get(&self, url: &str) -> std::result::Result<RemoteContent, String>;
}

/// Whether a reference names something outside the tree.
#[must_use]
pub fn is_remote(path: &str) -> bool {
    const STARTS: [&str; 9] =
        ["http://", "https://", "ssh://", "git://", "git::", "git@", "file://", "github.com/", "github.com:"];
    STARTS.iter().any(|s| path.starts_with(s))
        || path.contains("?ref=")
        || path.contains("?version=")
        || path.contains("_git/")
}

/// Whether a reference is a file by HTTP.
fn is_http(path: &str) -> bool {
    path.starts_with("http://") || path.starts_with("https://")
}

#[derive(Clone)]
pub(crate) enum TreeRef<'a> {
    Borrowed(&'a dyn FileTree),
    Shared(Arc<dyn FileTree>),
}

impl TreeRef<'_> {
    pub(crate) fn get(&self) -> &dyn FileTree {
        match self {
            Self::Borrowed(tree) => *tree,
            Self::Shared(tree) => tree.as_ref(),
        }
    }
}

/// A folder being built, and those that led to it.
#[derive(Clone)]
pub(crate) struct Loader<'a> {
    pub tree: TreeRef<'a>,
    /// The folder, canonical.
    pub dir: String,
    pub restriction: LoadRestriction,
    /// The absolute path of the tree's root, for messages.
    pub shown_root: Arc<str>,
    remote: Option<&'a dyn Remote>,
    parents: Vec<String>,
}

/// How deep bases may refer to bases.
const MAX_DEPTH: usize = 100;

impl<'a> Loader<'a> {
    pub(crate) fn new(
        tree: &'a dyn FileTree,
        dir: &str,
        restriction: LoadRestriction,
        shown_root: &str,
        remote: Option<&'a dyn Remote>,
    ) -> Result<Loader<'a>> {
        let loader = Loader {
            tree: TreeRef::Borrowed(tree),
            dir: String::new(),
            restriction,
            shown_root: if shown_root == "/" { "/" } else { shown_root.trim_end_matches('/') }.into(),
            remote,
            parents: Vec::new(),
        };
        let dir = loader.confirm_dir(dir).map_err(|e| e.wrap("must build at directory"))?;
        Ok(Loader { dir, ..loader })
    }

    /// A path of the tree as messages show it.
    pub(crate) fn shown(&self, path: &str) -> String {
        match (self.shown_root.is_empty(), path.is_empty()) {
            (false, true) => self.shown_root.to_string(),
            (true, true) => ".".to_string(),
            (true, false) => path.to_string(),
            (false, false) if &*self.shown_root == "/" => format!("/{path}"),
            (false, false) => format!("{}/{path}", self.shown_root),
        }
    }

    /// The folder as messages show it.
    pub(crate) fn shown_dir(&self) -> String {
        self.shown(&self.dir)
    }

    fn at(&self, path: &str) -> Result<String> {
        if path.starts_with('/') {
            let root = self.shown_root.trim_end_matches('/');
            let inside = path.strip_prefix(root).filter(|rest| !self.shown_root.is_empty() && rest.starts_with('/'));
            if let Some(full) = inside.and_then(|rest| tree::join("", rest.trim_start_matches('/'))) {
                return Ok(full);
            }
            // kustomize would read it from the disk; the tree is all there is here.
            let end = path.get(1..).and_then(|p| p.find('/')).map_or(path.len(), |i| i + 1);
            let e = match self.restriction {
                LoadRestriction::RootOnly => fail!(
                    "evalsymlink failure on '{path}' : lstat {}: no such file or directory",
                    path.get(..end).unwrap_or(path)
                ),
                LoadRestriction::None => fail!("open {path}: no such file or directory"),
            };
            return Err(e.help("use a path relative to the kustomization file"));
        }
        tree::join(&self.dir, path).ok_or_else(|| {
            fail!("security; file '{path}' leads out of the tree").help("keep what is built inside the repository")
        })
    }

    fn confirm_dir(&self, path: &str) -> Result<String> {
        let full = tree::join(&self.dir, path)
            .ok_or_else(|| fail!("not a valid directory: '{path}' leads out of the tree"))?;
        match self.tree.get().kind(&full) {
            Some(Kind::Dir) => Ok(self.tree.get().canonical(&full)),
            Some(Kind::File) => Err(fail!("'{}': file is not directory", self.shown(&full))),
            None => Err(self.missing(&full).wrap("not a valid directory")),
        }
    }

    fn missing(&self, full: &str) -> KustomizeError {
        let first_missing = self.first_missing(full);
        fail!(
            "evalsymlink failure on '{}' : lstat {}: no such file or directory",
            self.shown(full),
            self.shown(&first_missing)
        )
    }

    fn first_missing(&self, full: &str) -> String {
        let mut path = String::new();
        for part in full.split('/') {
            if !path.is_empty() {
                path.push('/');
            }
            path.push_str(part);
            if self.tree.get().kind(&path).is_none() {
                break;
            }
        }
        path
    }

    /// The loader of a base or component.
    pub(crate) fn enter(&self, path: &str) -> Result<Loader<'a>> {
        if path.is_empty() {
            return Err(fail!("new root cannot be empty"));
        }
        if path.starts_with('/') {
            return Err(fail!("new root '{path}' cannot be absolute"));
        }
        let dir = self.confirm_dir(path).map_err(|e| e.wrap("must build at directory"))?;
        for visited in std::iter::once(&self.dir).chain(self.parents.iter().rev()) {
            if within(visited, &dir) {
                return Err(fail!(
                    "cycle detected: candidate root '{}' contains visited root '{}'",
                    self.shown(&dir),
                    self.shown(visited)
                ));
            }
        }
        if self.parents.len() >= MAX_DEPTH {
            return Err(fail!("bases are nested more than {MAX_DEPTH} deep"));
        }
        let mut parents = self.parents.clone();
        parents.push(self.dir.clone());
        Ok(Loader { dir, parents, ..self.clone() })
    }

    /// The loader of a folder in a tree that was got from elsewhere.
    pub(crate) fn enter_remote(&self, url: &str, tree: Arc<dyn FileTree>, dir: &str) -> Result<Loader<'a>> {
        let loader = Loader {
            tree: TreeRef::Shared(tree),
            dir: String::new(),
            restriction: LoadRestriction::RootOnly,
            shown_root: url.into(),
            remote: self.remote,
            parents: Vec::new(),
        };
        let dir = loader.confirm_dir(dir).map_err(|e| e.wrap("must build at directory"))?;
        Ok(Loader { dir, ..loader })
    }

    /// What a URL leads to.
    pub(crate) fn get(&self, url: &str) -> Result<RemoteContent> {
        match self.remote {
            Some(remote) => remote.get(url).map_err(KustomizeError::new),
            None => Err(fail!("remote resource '{url}' is not allowed here")
                .help("copy it into the repository, or name its source so that it can be fetched")),
        }
    }

    /// A file's place in the tree and its content. URLs are read as they are.
    pub(crate) fn load(&self, path: &str) -> Result<(String, Arc<[u8]>)> {
        if is_http(path) {
            return match self.get(path)? {
                RemoteContent::File(bytes) => Ok((path.to_string(), bytes)),
                RemoteContent::Tree { .. } => Err(fail!("URL is a git repository")),
            };
        }
        let full = self.at(path)?;
        let tree = self.tree.get();
        if self.restriction == LoadRestriction::RootOnly {
            match tree.kind(&full) {
                None => return Err(self.missing(&full)),
                Some(Kind::Dir) => return Err(fail!("'{}' must resolve to a file", self.shown(&full))),
                Some(Kind::File) => {}
            }
            let real = tree.canonical(&full);
            if !within(tree::parent(&real), &self.dir) {
                return Err(fail!("security; file '{}' is not in or below '{}'", self.shown(&full), self.shown_dir())
                    .help(
                        "move the file into the kustomization's folder, or make it a base with its own kustomization",
                    ));
            }
        }
        match tree.read(&full) {
            Ok(bytes) => Ok((full, bytes)),
            Err(TreeError::NotFound { .. }) => Err(fail!("open {}: no such file or directory", self.shown(&full))),
            Err(TreeError::IsDir { .. }) => Err(fail!("read {}: is a directory", self.shown(&full))),
            Err(TreeError::NotDir { .. }) => Err(fail!("open {}: not a directory", self.shown(&full))),
            Err(e @ TreeError::TooLarge { .. }) => Err(fail!("{e}").at(&full, 0)),
            Err(e) => Err(fail!("{e}")),
        }
    }
}

/// Whether `path` is `dir` or below it.
fn within(path: &str, dir: &str) -> bool {
    dir.is_empty() || path == dir || path.strip_prefix(dir).is_some_and(|rest| rest.starts_with('/'))
}
