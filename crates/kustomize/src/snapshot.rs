//! A folder on disk as it was when each part of it was first looked at.
//!
//! Asking [`DiskTree`] resolves every path anew, part by part, which costs more than all else on a large tree. A
//! snapshot reads each folder once and each file once; only links still go the long way. What it has said it says again,
//! however the folder changes meanwhile.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::hash::Hash;
use std::path::Path;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use crate::tree::{ContentId, DiskTree, FileTree, Kind, STATE_DIR, TreeError, join};

/// What a folder's listing says of an entry.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Entry {
    File,
    Dir,
    Link,
}

type Folder = Result<BTreeMap<Arc<str>, Entry>, TreeError>;
type Content = (Result<Arc<[u8]>, TreeError>, OnceLock<ContentId>);
type Memo<V> = RwLock<HashMap<Arc<str>, V>>;

/// A folder on disk, each part of it as it was when first asked for.
pub struct SnapshotTree {
    disk: DiskTree,
    folders: Memo<Arc<Folder>>,
    contents: Memo<Arc<Content>>,
    links: Memo<Option<Arc<str>>>,
}

/// Where a path leads.
enum Place {
    File(String),
    Dir(String),
    /// To nothing: a folder that is reached without links has no such entry.
    Missing,
    /// Nowhere that the listings of folders say: the system knows why.
    Nowhere,
}

impl SnapshotTree {
    /// The tree of a folder.
    ///
    /// # Errors
    /// When the folder does not exist or is none.
    pub fn new(root: impl AsRef<Path>) -> Result<Self, TreeError> {
        Ok(Self {
            disk: DiskTree::new(root)?,
            folders: Memo::default(),
            contents: Memo::default(),
            links: Memo::default(),
        })
    }

    /// The folder, with links resolved.
    #[must_use]
    pub fn root(&self) -> &Path {
        self.disk.root()
    }

    /// A folder that is reached without links.
    fn folder(&self, dir: &str) -> Arc<Folder> {
        known(&self.folders, dir, || Arc::new(self.read_folder(dir)))
    }

    fn read_folder(&self, dir: &str) -> Folder {
        let io = |e: std::io::Error| TreeError::Io { path: dir.to_string(), message: e.to_string() };
        let mut out = BTreeMap::new();
        for entry in fs::read_dir(self.disk.root().join(dir)).map_err(io)? {
            let entry = entry.map_err(io)?;
            let kind = entry.file_type().map_err(io)?;
            let kind = match kind.is_symlink() {
                true => Entry::Link,
                false if kind.is_dir() => Entry::Dir,
                false => Entry::File,
            };
            // A name that is no UTF-8 cannot be written in a manifest either.
            if let Some(name) = entry.file_name().to_str().filter(|n| *n != STATE_DIR) {
                out.insert(name.into(), kind);
            }
        }
        Ok(out)
    }

    fn place(&self, path: &str) -> Place {
        let Some(clean) = join("", path) else { return Place::Nowhere };
        if clean.is_empty() {
            return Place::Dir(clean);
        }
        let mut at = 0;
        loop {
            let end = clean.get(at..).and_then(|rest| rest.find('/')).map_or(clean.len(), |i| at + i);
            let (dir, name) = (clean.get(..at.saturating_sub(1)).unwrap_or(""), clean.get(at..end).unwrap_or(""));
            let entry = match &*self.folder(dir) {
                Ok(entries) => entries.get(name).copied(),
                Err(_) => return Place::Nowhere,
            };
            match entry {
                Some(Entry::Dir) if end < clean.len() => at = end + 1,
                Some(Entry::Dir) => return Place::Dir(clean),
                Some(Entry::File) if end == clean.len() => return Place::File(clean),
                Some(Entry::Link) => break,
                None => return Place::Missing,
                Some(Entry::File) => return Place::Nowhere,
            }
        }
        // A link: the system resolves it, and what it leads to is looked up without.
        let real = known(&self.links, &clean, || {
            self.disk.kind(&clean).map(|_| self.disk.canonical(&clean)).filter(|real| *real != clean).map(Arc::from)
        });
        real.map_or(Place::Nowhere, |real| self.place(&real))
    }

    fn content(&self, path: &str) -> Result<Arc<Content>, TreeError> {
        match self.place(path) {
            Place::File(real) => {
                Ok(known(&self.contents, &real, || Arc::new((self.disk.read_resolved(&real), OnceLock::new()))))
            }
            Place::Dir(_) => Err(TreeError::IsDir { path: path.to_string() }),
            Place::Missing => Err(TreeError::NotFound { path: path.to_string() }),
            Place::Nowhere => Err(self.disk.read(path).err().unwrap_or(TreeError::NotFound { path: path.to_string() })),
        }
    }
}

/// What is known, or is found out now; of two that find it out at once, the first is right.
fn known<V: Clone>(memo: &Memo<V>, key: &str, make: impl FnOnce() -> V) -> V
where
    Arc<str>: Hash,
{
    if let Some(found) = memo.read().unwrap_or_else(PoisonError::into_inner).get(key) {
        return found.clone();
    }
    let made = make();
    memo.write().unwrap_or_else(PoisonError::into_inner).entry(key.into()).or_insert(made).clone()
}

/// The same error about the path as it was asked for.
fn about(error: TreeError, asked: &str) -> TreeError {
    let asked = asked.to_string();
    match error {
        TreeError::NotFound { .. } => TreeError::NotFound { path: asked },
        TreeError::IsDir { .. } => TreeError::IsDir { path: asked },
        TreeError::NotDir { .. } => TreeError::NotDir { path: asked },
        TreeError::Outside { .. } => TreeError::Outside { path: asked },
        TreeError::TooLarge { size, limit, .. } => TreeError::TooLarge { path: asked, size, limit },
        TreeError::Io { message, .. } => TreeError::Io { path: asked, message },
    }
}

impl FileTree for SnapshotTree {
    fn read(&self, path: &str) -> Result<Arc<[u8]>, TreeError> {
        self.content(path)?.0.clone().map_err(|e| about(e, path))
    }

    fn kind(&self, path: &str) -> Option<Kind> {
        match self.place(path) {
            Place::File(_) => Some(Kind::File),
            Place::Dir(_) => Some(Kind::Dir),
            Place::Missing | Place::Nowhere => None,
        }
    }

    fn list(&self, dir: &str) -> Result<Vec<String>, TreeError> {
        match self.place(dir) {
            Place::Dir(real) => match &*self.folder(&real) {
                Ok(entries) => Ok(entries.keys().map(ToString::to_string).collect()),
                Err(e) => Err(about(e.clone(), dir)),
            },
            Place::File(_) => Err(TreeError::NotDir { path: dir.to_string() }),
            Place::Missing => Err(TreeError::NotFound { path: dir.to_string() }),
            Place::Nowhere => Err(self.disk.list(dir).err().unwrap_or(TreeError::NotFound { path: dir.to_string() })),
        }
    }

    fn canonical(&self, path: &str) -> String {
        match self.place(path) {
            Place::File(real) | Place::Dir(real) => real,
            Place::Missing | Place::Nowhere => path.to_string(),
        }
    }

    fn content_id(&self, path: &str) -> Result<ContentId, TreeError> {
        let content = self.content(path)?;
        match &content.0 {
            Ok(bytes) => Ok(*content.1.get_or_init(|| ContentId::of(bytes))),
            Err(e) => Err(about(e.clone(), path)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agree(disk: &DiskTree, snapshot: &SnapshotTree, path: &str) {
        assert_eq!(snapshot.read(path), disk.read(path), "{path}");
        assert_eq!(snapshot.kind(path), disk.kind(path), "{path}");
        assert_eq!(snapshot.list(path).ok(), disk.list(path).ok(), "{path}");
        assert_eq!(snapshot.canonical(path), disk.canonical(path), "{path}");
        assert_eq!(snapshot.content_id(path), disk.content_id(path), "{path}");
    }

    #[test]
    fn it_says_what_the_folder_says_links_and_faults_included() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        fs::create_dir_all(root.join("real/deep")).unwrap();
        fs::create_dir_all(root.join(".druse")).unwrap();
        fs::write(root.join("real/deep/f"), "in").unwrap();
        fs::write(root.join("top"), "").unwrap();
        fs::write(dir.path().join("secret"), "out").unwrap();
        #[cfg(unix)]
        for (to, at) in [
            ("real", "link"),
            ("../secret", "leak"),
            ("nowhere", "dangling"),
            ("round", "round"),
            ("../link/deep", "real/again"),
        ] {
            std::os::unix::fs::symlink(to, root.join(at)).unwrap();
        }
        let (disk, snapshot) = (DiskTree::new(&root).unwrap(), SnapshotTree::new(&root).unwrap());
        for path in [
            "",
            ".",
            "real",
            "real/deep",
            "real/deep/f",
            "./real/../top",
            "link",
            "link/deep/f",
            "link/deep/again",
            "real/again/f",
            "leak",
            "dangling",
            "round",
            "none",
            "none/x",
            "top/x",
            "../x",
            "/top",
        ] {
            agree(&disk, &snapshot, path);
        }
    }

    #[test]
    fn what_it_has_said_it_says_again() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("f"), "old").unwrap();
        let snapshot = SnapshotTree::new(dir.path()).unwrap();
        assert_eq!(&*snapshot.read("f").unwrap(), b"old");
        fs::write(dir.path().join("f"), "new").unwrap();
        fs::write(dir.path().join("g"), "new").unwrap();
        assert_eq!(&*snapshot.read("f").unwrap(), b"old");
        assert_eq!(snapshot.content_id("f").unwrap(), ContentId::of(b"old"));
        assert_eq!(snapshot.kind("g"), None);
    }

    #[test]
    fn content_is_named_as_git_names_it() {
        let id = ContentId::of(b"hello\n").0;
        assert_eq!(hex::encode(id), "ce013625030ba8dba906f756967f9e9ca394464a");
    }
}
