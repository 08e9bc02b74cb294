//! The folder in which renderings are kept between runs: `units/KEY/VARIANT`, one file a rendering.
//!
//! A file begins with the digest of its key and content, and one that does not match is as good as none, so no damage
//! and no half-written file is ever given out. Files are written beside their place and moved there: any number of
//! processes can share a folder without locks. What was not used for longest goes first when the folder is full. No
//! fault of the folder is an error: what cannot be kept is rendered again.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use sha2::{Digest, Sha256};

/// How large the folder may become, in bytes: some dozens of revisions of a large homelab.
const LIMIT: u64 = 512 * 1024 * 1024;
/// How many renderings of one unit under one key are looked at; more come about only where other units go back and
/// forth.
const VARIANTS: usize = 8;
/// How long a file goes without being marked as used again.
const MARK_EVERY: Duration = Duration::from_secs(60 * 60);
/// The length of a digest.
const DIGEST: usize = 32;

/// What a rendering is kept under.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Key([u8; DIGEST]);

impl Key {
    /// The key of all that the parts say.
    pub(crate) fn of<'p>(parts: impl IntoIterator<Item = &'p [u8]>) -> Self {
        let mut hash = Sha256::new();
        for part in parts {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        Self(hash.finalize().into())
    }

    fn sum(&self, content: &[u8]) -> [u8; DIGEST] {
        let mut hash = Sha256::new();
        hash.update(self.0);
        hash.update(content);
        hash.finalize().into()
    }
}

/// The folder.
pub(crate) struct Store {
    root: PathBuf,
    limit: u64,
    wrote: AtomicBool,
}

impl Store {
    pub(crate) fn new(root: &Path) -> Self {
        Self { root: root.join("units"), limit: LIMIT, wrote: AtomicBool::new(false) }
    }

    fn folder(&self, key: &Key) -> PathBuf {
        let hex = hex::encode(key.0);
        let (head, tail) = hex.split_at(2);
        self.root.join(head).join(tail)
    }

    /// The contents kept under a key, as far as they are undamaged.
    pub(crate) fn get<'s>(&'s self, key: &'s Key) -> impl Iterator<Item = Vec<u8>> + 's {
        let entries = fs::read_dir(self.folder(key)).into_iter().flatten().flatten().take(VARIANTS);
        entries.filter_map(move |entry| {
            let path = entry.path();
            let mut content = fs::read(&path).ok()?;
            let sum = content.split_off(content.len().checked_sub(DIGEST)?);
            if key.sum(&content)[..] != sum[..] {
                return None;
            }
            mark_used(&path);
            Some(content)
        })
    }

    /// Keeps a content under a key.
    pub(crate) fn put(&self, key: &Key, mut content: Vec<u8>) {
        let sum = key.sum(&content);
        let folder = self.folder(key);
        let name = hex::encode(sum.split_at(8).0);
        content.extend_from_slice(&sum);
        let written = fs::create_dir_all(&folder).and_then(|()| {
            // Readable by its owner only, and moved into place when complete.
            let mut file = tempfile::NamedTempFile::new_in(&folder)?;
            file.write_all(&content)?;
            file.persist(folder.join(name)).map_err(|e| e.error)
        });
        if let Err(e) = written {
            tracing::debug!("{}: a rendering cannot be kept: {e}", folder.display());
        }
        self.wrote.store(true, Ordering::Relaxed);
    }

    /// Makes room: the files not used for longest go until the folder is at most as large as it may be.
    fn trim(&self) {
        let mut files: Vec<(SystemTime, u64, PathBuf)> = Vec::new();
        for folder in inside(&self.root).flat_map(|shard| inside(&shard).collect::<Vec<_>>()) {
            for file in inside(&folder) {
                let Ok(meta) = fs::symlink_metadata(&file) else { continue };
                if meta.is_file() {
                    files.push((meta.modified().unwrap_or(SystemTime::UNIX_EPOCH), meta.len(), file));
                }
            }
        }
        let mut size: u64 = files.iter().map(|(_, size, _)| size).sum();
        files.sort();
        for (_, bytes, path) in files {
            if size <= self.limit {
                break;
            }
            // Another process may have been faster.
            let _ = fs::remove_file(&path);
            if let Some(folder) = path.parent() {
                let _ = fs::remove_dir(folder);
            }
            size = size.saturating_sub(bytes);
        }
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        if self.wrote.load(Ordering::Relaxed) {
            self.trim();
        }
    }
}

fn inside(folder: &Path) -> impl Iterator<Item = PathBuf> {
    fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path())
}

fn mark_used(path: &Path) {
    let now = SystemTime::now();
    let old =
        |meta: &fs::Metadata| meta.modified().is_ok_and(|at| now.duration_since(at).is_ok_and(|age| age > MARK_EVERY));
    if fs::metadata(path).is_ok_and(|meta| old(&meta))
        && let Ok(file) = fs::File::options().append(true).open(path)
    {
        let _ = file.set_modified(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: u8) -> Key {
        Key::of([&[n][..]])
    }

    fn all(store: &Store, key: &Key) -> Vec<Vec<u8>> {
        let mut out: Vec<_> = store.get(key).collect();
        out.sort();
        out
    }

    #[test]
    fn contents_come_back_under_their_key_only() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::new(dir.path());
        assert!(all(&store, &key(1)).is_empty());
        store.put(&key(1), b"one".to_vec());
        store.put(&key(1), b"another".to_vec());
        store.put(&key(1), b"one".to_vec());
        assert_eq!(all(&store, &key(1)), [b"another".to_vec(), b"one".to_vec()]);
        assert!(all(&store, &key(2)).is_empty());
        fs::create_dir_all(store.folder(&key(2)).parent().unwrap()).unwrap();
        fs::rename(store.folder(&key(1)), store.folder(&key(2))).unwrap();
        assert!(all(&store, &key(2)).is_empty(), "a file is good only where it was put");
    }

    #[test]
    fn damage_anywhere_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::new(dir.path());
        store.put(&key(1), b"some content".to_vec());
        let file = inside(&store.folder(&key(1))).next().unwrap();
        let good = fs::read(&file).unwrap();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            fs::write(&file, &bad).unwrap();
            assert!(all(&store, &key(1)).is_empty(), "byte {at}");
            fs::write(&file, &good[..at]).unwrap();
            assert!(all(&store, &key(1)).is_empty(), "cut at {at}");
        }
        fs::write(&file, &good).unwrap();
        assert_eq!(all(&store, &key(1)).len(), 1);
    }

    #[test]
    fn what_was_not_used_for_longest_goes_first() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::new(dir.path());
        store.limit = 3 * 1000;
        for n in 0..5u8 {
            store.put(&key(n), vec![n; 900]);
            let file = inside(&store.folder(&key(n))).next().unwrap();
            let at = SystemTime::now() - Duration::from_secs(10_000 * u64::from(10 - n));
            fs::File::options().append(true).open(file).unwrap().set_modified(at).unwrap();
        }
        assert_eq!(all(&store, &key(0)).len(), 1, "used now");
        store.trim();
        let left: Vec<u8> = (0..5).filter(|n| !all(&store, &key(*n)).is_empty()).collect();
        assert_eq!(left, [0, 3, 4]);
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_no_error() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("units"), "a file").unwrap();
        let store = Store::new(dir.path());
        store.put(&key(1), b"x".to_vec());
        assert!(all(&store, &key(1)).is_empty());
    }
}
