//! A tar archive as a file tree: the form in which fetched trees are cached and used.
//!
//! The archive stays as it is in memory, with an index of where files begin. Links are followed inside the tree.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use druse_kustomize::tree::{DEFAULT_MAX_FILE, FileTree, Kind, TreeError, join, parent};

/// The most bytes that an archive may have, unpacked.
pub(crate) const MAX_TREE: u64 = 1 << 30;
/// How many links are followed for one path.
const MAX_LINKS: usize = 16;
/// How many files an archive may have.
const MAX_FILES: usize = 1_000_000;

/// What is done with the links of an archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Links {
    /// They are followed.
    Follow,
    /// They are passed over, as Flux does with those of OCI artifacts.
    Skip,
}

/// The files of a tar archive.
pub(crate) struct ArchiveTree {
    bytes: Vec<u8>,
    files: BTreeMap<String, Item>,
    dirs: BTreeMap<String, BTreeSet<String>>,
}

enum Item {
    File { start: usize, end: usize },
    Link(String),
}

impl ArchiveTree {
    /// Reads an archive, packed with gzip or not.
    pub(crate) fn new(bytes: Vec<u8>, links: Links) -> Result<Self, String> {
        let bytes = if bytes.starts_with(&[0x1f, 0x8b]) { crate::net::helm::inflate(&bytes, MAX_TREE)? } else { bytes };
        let mut files = BTreeMap::new();
        let mut dirs = BTreeMap::from([(String::new(), BTreeSet::new())]);
        let mut archive = tar::Archive::new(bytes.as_slice());
        for entry in archive.entries().map_err(|e| format!("this is no tar archive: {e}"))? {
            let entry = entry.map_err(|e| format!("the archive is damaged: {e}"))?;
            let name = entry.path_bytes();
            // A name that is no UTF-8 cannot be written in a manifest either.
            let Ok(name) = std::str::from_utf8(&name) else { continue };
            let path = join("", name).ok_or_else(|| format!("the archive has {name:?}, which leads out of it"))?;
            let kind = entry.header().entry_type();
            if path.is_empty() {
                continue;
            }
            if kind.is_dir() {
                add_dirs(&mut dirs, &path);
                dirs.entry(path).or_default();
                continue;
            }
            let item = if kind.is_file() {
                let start = usize::try_from(entry.raw_file_position()).unwrap_or(usize::MAX);
                let end = start.saturating_add(usize::try_from(entry.size()).unwrap_or(usize::MAX));
                if end > bytes.len() {
                    return Err(format!("the archive ends within {name}"));
                }
                Item::File { start, end }
            } else if kind.is_symlink() && links == Links::Follow {
                match entry.link_name_bytes().as_deref().map(std::str::from_utf8) {
                    Some(Ok(target)) => Item::Link(target.to_string()),
                    _ => continue,
                }
            } else {
                continue;
            };
            if files.len() >= MAX_FILES {
                return Err(format!("the archive has more than {MAX_FILES} files"));
            }
            add_dirs(&mut dirs, &path);
            files.insert(path, item);
        }
        Ok(Self { bytes, files, dirs })
    }

    /// The path with links resolved, part by part; `None` when it leads nowhere or out.
    fn resolve(&self, path: &str) -> Option<String> {
        let parts =
            |p: &str| -> Vec<String> { p.split('/').rev().filter(|p| !p.is_empty()).map(str::to_string).collect() };
        let mut rest = parts(&join("", path)?);
        let mut done = String::new();
        let mut links = 0;
        while let Some(part) = rest.pop() {
            let next = join(&done, &part)?;
            match self.files.get(&next) {
                Some(Item::Link(target)) => {
                    links += 1;
                    if links > MAX_LINKS {
                        return None;
                    }
                    rest.extend(parts(&join(parent(&next), target)?));
                    done = String::new();
                }
                _ => done = next,
            }
        }
        Some(done)
    }
}

fn add_dirs(dirs: &mut BTreeMap<String, BTreeSet<String>>, path: &str) {
    let mut path = path;
    while !path.is_empty() {
        let dir = parent(path);
        let name = path.rsplit('/').next().unwrap_or(path);
        if !dirs.entry(dir.to_string()).or_default().insert(name.to_string()) {
            return;
        }
        path = dir;
    }
}

impl FileTree for ArchiveTree {
    fn read(&self, path: &str) -> Result<Arc<[u8]>, TreeError> {
        let clean = self.resolve(path).ok_or_else(|| TreeError::Outside { path: path.to_string() })?;
        match self.files.get(&clean) {
            Some(Item::File { start, end }) => {
                let size = (end - start) as u64;
                if size > DEFAULT_MAX_FILE {
                    return Err(TreeError::TooLarge { path: path.to_string(), size, limit: DEFAULT_MAX_FILE });
                }
                Ok(self.bytes.get(*start..*end).unwrap_or_default().into())
            }
            None if self.dirs.contains_key(&clean) => Err(TreeError::IsDir { path: path.to_string() }),
            _ => Err(TreeError::NotFound { path: path.to_string() }),
        }
    }

    fn kind(&self, path: &str) -> Option<Kind> {
        let clean = self.resolve(path)?;
        if self.files.contains_key(&clean) {
            return Some(Kind::File);
        }
        self.dirs.contains_key(&clean).then_some(Kind::Dir)
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
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive() -> Vec<u8> {
        let mut b = tar::Builder::new(Vec::new());
        let mut h = tar::Header::new_gnu();
        h.set_mode(0o644);
        h.set_size(3);
        b.append_data(&mut h, "./a/b/c.yaml", &b"x: "[..]).unwrap();
        h.set_size(0);
        h.set_entry_type(tar::EntryType::Symlink);
        b.append_link(&mut h, "link", "a/b").unwrap();
        b.append_link(&mut h, "loop", "loop").unwrap();
        b.append_link(&mut h, "out", "../../etc").unwrap();
        b.into_inner().unwrap()
    }

    #[test]
    fn files_are_read_in_place_and_links_stay_inside() {
        let tree = ArchiveTree::new(archive(), Links::Follow).unwrap();
        assert_eq!(tree.list("").unwrap(), ["a", "link", "loop", "out"]);
        assert_eq!(&*tree.read("link/c.yaml").unwrap(), b"x: ");
        assert_eq!(tree.canonical("link"), "a/b");
        assert_eq!(tree.kind("a/b"), Some(Kind::Dir));
        assert!(tree.read("loop").is_err());
        assert!(tree.read("out").is_err());
        assert!(matches!(tree.read("a"), Err(TreeError::IsDir { .. })));
        let tree = ArchiveTree::new(archive(), Links::Skip).unwrap();
        assert_eq!(tree.list("").unwrap(), ["a"]);
    }

    #[test]
    fn damage_is_an_error() {
        let mut cut = archive();
        cut.truncate(514);
        assert!(ArchiveTree::new(cut, Links::Follow).is_err());
        assert!(ArchiveTree::new(vec![0x1f, 0x8b, 1, 2], Links::Follow).is_err());
    }
}
