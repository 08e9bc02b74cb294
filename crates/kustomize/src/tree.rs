//! File trees: the only way this product reads a repository.
//!
//! A path is relative to the tree's root, with `/` between its parts; the root is the empty path. A tree never shows
//! anything outside its root. Trees: a folder on disk ([`DiskTree`]), the same as it was when first looked at
//! ([`SnapshotTree`](crate::snapshot::SnapshotTree)), files in memory ([`MemoryTree`]: tests, generated files), one
//! tree laid over another ([`OverlayTree`]) and one that remembers what was read of another ([`RecordingTree`]).

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use sha1::{Digest as _, Sha1};

/// The largest file a tree reads unless told otherwise: far above any manifest, far below any memory.
pub const DEFAULT_MAX_FILE: u64 = 32 * 1024 * 1024;

/// What a path is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A file.
    File,
    /// A folder.
    Dir,
}

/// A path that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TreeError {
    /// Nothing there.
    #[error("{path}: no such file or directory")]
    NotFound {
        /// The path asked for.
        path: String,
    },
    /// A folder where a file is needed.
    #[error("{path}: is a directory")]
    IsDir {
        /// The path asked for.
        path: String,
    },
    /// A file where a folder is needed.
    #[error("{path}: not a directory")]
    NotDir {
        /// The path asked for.
        path: String,
    },
    /// The path, or a link on it, leads out of the tree.
    #[error("{path}: leads outside the tree")]
    Outside {
        /// The path asked for.
        path: String,
    },
    /// The file is larger than the tree reads.
    #[error("{path}: {size} bytes is more than the limit of {limit}")]
    TooLarge {
        /// The path asked for.
        path: String,
        /// The file's size in bytes.
        size: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// Anything else the system says.
    #[error("{path}: {message}")]
    Io {
        /// The path asked for.
        path: String,
        /// The system's words.
        message: String,
    },
}

/// What names a file's content, whatever tree it is in: the id that Git gives it as a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ContentId(pub [u8; 20]);

impl ContentId {
    /// The id of some content.
    #[must_use]
    pub fn of(content: &[u8]) -> Self {
        let mut hash = Sha1::new();
        hash.update(format!("blob {}\0", content.len()));
        hash.update(content);
        Self(hash.finalize().into())
    }
}

/// A tree of files at one revision. Reading the same path twice gives the same answer as far as the caller can tell.
pub trait FileTree: Send + Sync {
    /// The whole content of a file; links are followed inside the root.
    ///
    /// # Errors
    /// When the path is missing, is a folder, leads out of the tree or is larger than the tree's limit.
    fn read(&self, path: &str) -> Result<Arc<[u8]>, TreeError>;

    /// A file's content for somebody who only looks whether it is what is sought: trees that remember what was read of
    /// them do not remember this.
    ///
    /// # Errors
    /// As [`FileTree::read`].
    fn search(&self, path: &str) -> Result<Arc<[u8]>, TreeError> {
        self.read(path)
    }

    /// What is at a path; `None` when there is nothing (or nothing inside the root).
    fn kind(&self, path: &str) -> Option<Kind>;

    /// The names in a folder, sorted by byte order.
    ///
    /// # Errors
    /// When the path is not a folder of the tree.
    fn list(&self, dir: &str) -> Result<Vec<String>, TreeError>;

    /// The path with its links resolved, for comparing places; the path itself where there are none.
    fn canonical(&self, path: &str) -> String {
        path.to_string()
    }

    /// What names a file's content. Trees that know it without reading the file say so here.
    ///
    /// # Errors
    /// As [`FileTree::read`].
    fn content_id(&self, path: &str) -> Result<ContentId, TreeError> {
        self.read(path).map(|content| ContentId::of(&content))
    }
}

impl<T: FileTree + ?Sized> FileTree for &T {
    fn read(&self, path: &str) -> Result<Arc<[u8]>, TreeError> {
        (**self).read(path)
    }
    fn search(&self, path: &str) -> Result<Arc<[u8]>, TreeError> {
        (**self).search(path)
    }
    fn kind(&self, path: &str) -> Option<Kind> {
        (**self).kind(path)
    }
    fn list(&self, dir: &str) -> Result<Vec<String>, TreeError> {
        (**self).list(dir)
    }
    fn canonical(&self, path: &str) -> String {
        (**self).canonical(path)
    }
    fn content_id(&self, path: &str) -> Result<ContentId, TreeError> {
        (**self).content_id(path)
    }
}

impl<T: FileTree + ?Sized> FileTree for Arc<T> {
    fn read(&self, path: &str) -> Result<Arc<[u8]>, TreeError> {
        (**self).read(path)
    }
    fn search(&self, path: &str) -> Result<Arc<[u8]>, TreeError> {
        (**self).search(path)
    }
    fn kind(&self, path: &str) -> Option<Kind> {
        (**self).kind(path)
    }
    fn list(&self, dir: &str) -> Result<Vec<String>, TreeError> {
        (**self).list(dir)
    }
    fn canonical(&self, path: &str) -> String {
        (**self).canonical(path)
    }
    fn content_id(&self, path: &str) -> Result<ContentId, TreeError> {
        (**self).content_id(path)
    }
}

/// A tree that remembers which files were read, or asked for in vain.
pub struct RecordingTree<T> {
    inner: T,
    read: Mutex<BTreeSet<String>>,
}

impl<T: FileTree> RecordingTree<T> {
    /// Remembers what is read of a tree from now on.
    #[must_use]
    pub fn new(inner: T) -> Self {
        Self { inner, read: Mutex::default() }
    }

    /// What was read since the last call.
    #[must_use]
    pub fn take(&self) -> BTreeSet<String> {
        std::mem::take(&mut *self.read.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl<T: FileTree> FileTree for RecordingTree<T> {
    fn read(&self, path: &str) -> Result<Arc<[u8]>, TreeError> {
        if let Some(clean) = join("", path) {
            self.read.lock().unwrap_or_else(PoisonError::into_inner).insert(clean);
        }
        self.inner.read(path)
    }
    fn search(&self, path: &str) -> Result<Arc<[u8]>, TreeError> {
        self.inner.search(path)
    }
    fn kind(&self, path: &str) -> Option<Kind> {
        self.inner.kind(path)
    }
    fn list(&self, dir: &str) -> Result<Vec<String>, TreeError> {
        self.inner.list(dir)
    }
    fn canonical(&self, path: &str) -> String {
        self.inner.canonical(path)
    }
}

/// Joins a relative path to a folder and cleans the result (`.`, `..`, doubled `/`). `None` when it leads above the
/// root or `path` is absolute.
#[must_use]
pub fn join(dir: &str, path: &str) -> Option<String> {
    if path.starts_with('/') {
        return None;
    }
    let mut parts: Vec<&str> = Vec::new();
    for part in dir.split('/').chain(path.split('/')) {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

/// The folder a path is in; empty for the root's own entries.
#[must_use]
pub fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(dir, _)| dir)
}

fn outside(path: &str) -> TreeError {
    TreeError::Outside { path: path.to_string() }
}

fn not_found(path: &str) -> TreeError {
    TreeError::NotFound { path: path.to_string() }
}

/// Where a rehearsal keeps its state by default: never part of a tree, wherever it lies.
pub(crate) const STATE_DIR: &str = ".druse";

/// A folder on disk. Links are followed as long as they stay inside it.
#[derive(Clone, Debug)]
pub struct DiskTree {
    root: PathBuf,
    max_file: u64,
}

impl DiskTree {
    /// The tree of a folder.
    ///
    /// # Errors
    /// When the folder does not exist or is none.
    pub fn new(root: impl AsRef<Path>) -> Result<Self, TreeError> {
        let shown = root.as_ref().display().to_string();
        let root = fs::canonicalize(root.as_ref()).map_err(|e| io_error(&shown, &e))?;
        if !root.is_dir() {
            return Err(TreeError::NotDir { path: shown });
        }
        Ok(Self { root, max_file: DEFAULT_MAX_FILE })
    }

    /// The same tree with another limit on the size of a file, in bytes.
    #[must_use]
    pub fn with_max_file(mut self, bytes: u64) -> Self {
        self.max_file = bytes;
        self
    }

    /// The folder, with links resolved.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    fn resolve(&self, path: &str) -> Result<PathBuf, TreeError> {
        let clean = join("", path).ok_or_else(|| outside(path))?;
        let full = self.root.join(&clean);
        let real = fs::canonicalize(&full).map_err(|e| io_error(path, &e))?;
        if real.starts_with(&self.root) { Ok(real) } else { Err(outside(path)) }
    }
}

fn io_error(path: &str, e: &std::io::Error) -> TreeError {
    match e.kind() {
        std::io::ErrorKind::NotFound => not_found(path),
        std::io::ErrorKind::NotADirectory => TreeError::NotDir { path: path.to_string() },
        std::io::ErrorKind::IsADirectory => TreeError::IsDir { path: path.to_string() },
        _ => TreeError::Io { path: path.to_string(), message: e.to_string() },
    }
}

impl DiskTree {
    /// Reads a path that is known to lead nowhere else: resolving it costs more than reading a small file.
    pub(crate) fn read_resolved(&self, path: &str) -> Result<Arc<[u8]>, TreeError> {
        self.read_at(&self.root.join(path), path)
    }

    fn read_at(&self, real: &Path, path: &str) -> Result<Arc<[u8]>, TreeError> {
        // Looked at before it is opened: opening a pipe waits for a writer.
        let meta = fs::metadata(real).map_err(|e| io_error(path, &e))?;
        if meta.is_dir() {
            return Err(TreeError::IsDir { path: path.to_string() });
        }
        if !meta.is_file() {
            return Err(TreeError::Io { path: path.to_string(), message: "not a regular file".to_string() });
        }
        let too_large = |size| TreeError::TooLarge { path: path.to_string(), size, limit: self.max_file };
        if meta.len() > self.max_file {
            return Err(too_large(meta.len()));
        }
        let file = fs::File::open(real).map_err(|e| io_error(path, &e))?;
        let mut bytes = Vec::with_capacity(usize::try_from(meta.len()).unwrap_or(0));
        file.take(self.max_file + 1).read_to_end(&mut bytes).map_err(|e| io_error(path, &e))?;
        if bytes.len() as u64 > self.max_file {
            return Err(too_large(bytes.len() as u64));
        }
        Ok(bytes.into())
    }
}

impl FileTree for DiskTree {
    fn read(&self, path: &str) -> Result<Arc<[u8]>, TreeError> {
        self.read_at(&self.resolve(path)?, path)
    }

    fn kind(&self, path: &str) -> Option<Kind> {
        let real = self.resolve(path).ok()?;
        let meta = fs::metadata(real).ok()?;
        Some(if meta.is_dir() { Kind::Dir } else { Kind::File })
    }

    fn list(&self, dir: &str) -> Result<Vec<String>, TreeError> {
        let real = self.resolve(dir)?;
        let mut names = Vec::new();
        for entry in fs::read_dir(real).map_err(|e| io_error(dir, &e))? {
            let entry = entry.map_err(|e| io_error(dir, &e))?;
            // A name that is no UTF-8 cannot be written in a manifest either.
            if let Some(name) = entry.file_name().to_str().filter(|n| *n != STATE_DIR) {
                names.push(name.to_string());
            }
        }
        names.sort();
        Ok(names)
    }

    fn canonical(&self, path: &str) -> String {
        let Ok(real) = self.resolve(path) else { return path.to_string() };
        let Ok(rest) = real.strip_prefix(&self.root) else { return path.to_string() };
        let parts: Vec<_> = rest
            .components()
            .filter_map(|c| match c {
                Component::Normal(p) => p.to_str(),
                _ => None,
            })
            .collect();
        parts.join("/")
    }
}

/// Files in memory.
#[derive(Clone, Debug, Default)]
pub struct MemoryTree {
    files: BTreeMap<String, Arc<[u8]>>,
    dirs: BTreeMap<String, BTreeSet<String>>,
}

impl MemoryTree {
    /// An empty tree.
    #[must_use]
    pub fn new() -> Self {
        let mut tree = Self::default();
        tree.dirs.insert(String::new(), BTreeSet::new());
        tree
    }

    /// Puts a file at a path, replacing what was there. A path that leads out of the tree is ignored.
    pub fn insert(&mut self, path: &str, content: impl Into<Arc<[u8]>>) {
        let Some(path) = join("", path) else { return };
        self.add_to_parent(&path);
        self.files.insert(path, content.into());
    }

    /// Makes an empty folder.
    pub fn insert_dir(&mut self, path: &str) {
        let Some(path) = join("", path) else { return };
        if !path.is_empty() {
            self.add_to_parent(&path);
        }
        self.dirs.entry(path).or_default();
    }

    fn add_to_parent(&mut self, path: &str) {
        let mut child = path;
        loop {
            let (dir, name) = child.rsplit_once('/').unwrap_or(("", child));
            let fresh = self.dirs.entry(dir.to_string()).or_default().insert(name.to_string());
            if dir.is_empty() || !fresh {
                break;
            }
            child = dir;
        }
    }

    /// The paths of all files, sorted.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        self.files.keys().map(String::as_str)
    }
}

impl<P: AsRef<str>, C: Into<Vec<u8>>> FromIterator<(P, C)> for MemoryTree {
    fn from_iter<T: IntoIterator<Item = (P, C)>>(iter: T) -> Self {
        let mut tree = Self::new();
        for (path, content) in iter {
            tree.insert(path.as_ref(), content.into());
        }
        tree
    }
}

impl FileTree for MemoryTree {
    fn read(&self, path: &str) -> Result<Arc<[u8]>, TreeError> {
        let clean = join("", path).ok_or_else(|| outside(path))?;
        match self.files.get(&clean) {
            Some(bytes) => Ok(bytes.clone()),
            None if self.dirs.contains_key(&clean) => Err(TreeError::IsDir { path: path.to_string() }),
            None => Err(not_found(path)),
        }
    }

    fn kind(&self, path: &str) -> Option<Kind> {
        let clean = join("", path)?;
        if self.files.contains_key(&clean) {
            Some(Kind::File)
        } else if clean.is_empty() || self.dirs.contains_key(&clean) {
            Some(Kind::Dir)
        } else {
            None
        }
    }

    fn list(&self, dir: &str) -> Result<Vec<String>, TreeError> {
        let clean = join("", dir).ok_or_else(|| outside(dir))?;
        match self.dirs.get(&clean) {
            Some(names) => Ok(names.iter().cloned().collect()),
            None if clean.is_empty() => Ok(Vec::new()),
            None if self.files.contains_key(&clean) => Err(TreeError::NotDir { path: dir.to_string() }),
            None => Err(not_found(dir)),
        }
    }
}

/// One tree laid over another: a file of the upper hides the lower's, folders are merged.
pub struct OverlayTree<U, L> {
    upper: U,
    lower: L,
}

impl<U: FileTree, L: FileTree> OverlayTree<U, L> {
    /// `upper` laid over `lower`.
    pub fn new(upper: U, lower: L) -> Self {
        Self { upper, lower }
    }
}

impl<U: FileTree, L: FileTree> FileTree for OverlayTree<U, L> {
    fn read(&self, path: &str) -> Result<Arc<[u8]>, TreeError> {
        match self.upper.kind(path) {
            Some(Kind::File) => self.upper.read(path),
            _ => self.lower.read(path),
        }
    }

    fn kind(&self, path: &str) -> Option<Kind> {
        match self.upper.kind(path) {
            Some(Kind::File) => Some(Kind::File),
            upper => self.lower.kind(path).or(upper),
        }
    }

    fn list(&self, dir: &str) -> Result<Vec<String>, TreeError> {
        match (self.upper.list(dir), self.lower.list(dir)) {
            (Ok(upper), Ok(lower)) => {
                let names: BTreeSet<String> = upper.into_iter().chain(lower).collect();
                Ok(names.into_iter().collect())
            }
            (Ok(names), Err(_)) | (Err(_), Ok(names)) => Ok(names),
            (Err(_), Err(e)) => Err(e),
        }
    }

    fn canonical(&self, path: &str) -> String {
        match self.upper.kind(path) {
            Some(_) => self.upper.canonical(path),
            None => self.lower.canonical(path),
        }
    }

    fn content_id(&self, path: &str) -> Result<ContentId, TreeError> {
        match self.upper.kind(path) {
            Some(Kind::File) => self.upper.content_id(path),
            _ => self.lower.content_id(path),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_cleaned_and_never_leave_the_root() {
        assert_eq!(join("a/b", "../c/./d"), Some("a/c/d".to_string()));
        assert_eq!(join("", "."), Some(String::new()));
        assert_eq!(join("a", "../.."), None);
        assert_eq!(join("a", "/etc/passwd"), None);
        assert_eq!(parent("a/b/c"), "a/b");
        assert_eq!(parent("a"), "");
    }

    #[test]
    fn a_memory_tree_knows_its_folders() {
        let tree: MemoryTree = [("a/b/c.yaml", "x"), ("a/d.yaml", "y")].into_iter().collect();
        assert_eq!(tree.kind("a/b"), Some(Kind::Dir));
        assert_eq!(tree.list("a").unwrap(), ["b", "d.yaml"]);
        assert_eq!(tree.list("").unwrap(), ["a"]);
        assert_eq!(&*tree.read("./a/../a/d.yaml").unwrap(), b"y");
        assert!(matches!(tree.read("a"), Err(TreeError::IsDir { .. })));
        assert!(matches!(tree.read("../x"), Err(TreeError::Outside { .. })));
    }

    #[test]
    fn a_disk_tree_follows_links_only_inside_its_root() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        fs::create_dir_all(root.join("real")).unwrap();
        fs::write(root.join("real/f"), "in").unwrap();
        fs::write(dir.path().join("secret"), "out").unwrap();
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink("real", root.join("link")).unwrap();
            std::os::unix::fs::symlink("../secret", root.join("leak")).unwrap();
        }
        let tree = DiskTree::new(&root).unwrap();
        assert_eq!(&*tree.read("link/f").unwrap(), b"in");
        assert_eq!(tree.canonical("link/f"), "real/f");
        assert!(matches!(tree.read("leak"), Err(TreeError::Outside { .. })));
        assert_eq!(tree.kind("leak"), None);
        assert!(matches!(tree.read("none"), Err(TreeError::NotFound { .. })));
    }

    #[test]
    fn a_file_above_the_limit_is_an_error_and_not_read() {
        let dir = tempfile::tempdir().unwrap();
        let file = fs::File::create(dir.path().join("huge")).unwrap();
        file.set_len(1 << 30).unwrap();
        let tree = DiskTree::new(dir.path()).unwrap();
        let err = tree.read("huge").unwrap_err();
        assert_eq!(err.to_string(), format!("huge: {} bytes is more than the limit of {DEFAULT_MAX_FILE}", 1 << 30));
    }

    #[test]
    fn an_overlay_hides_files_and_merges_folders() {
        let upper: MemoryTree = [("a/x", "new")].into_iter().collect();
        let lower: MemoryTree = [("a/x", "old"), ("a/y", "y"), ("b", "b")].into_iter().collect();
        let tree = OverlayTree::new(upper, lower);
        assert_eq!(&*tree.read("a/x").unwrap(), b"new");
        assert_eq!(&*tree.read("a/y").unwrap(), b"y");
        assert_eq!(tree.list("a").unwrap(), ["x", "y"]);
        assert_eq!(tree.kind("b"), Some(Kind::File));
    }
}
