//! The folder in which renderings are kept between runs: `units/KEY/VARIANT`, one file a rendering, and `texts/KEY`, one
//! file a unit's rendering as it is printed.
//!
//! A file ends with the digest of its key and content and a checksum of all of it, and one that does not match is as good
//! as none, so no damage and no half-written file is ever given out. Files are written beside their place and moved there: any number of
//! processes can share a folder without locks. What was not used for longest goes first when the folder is full. No
//! fault of the folder is an error: what cannot be kept is rendered again.

use std::fs;
use std::hash::{BuildHasher as _, Hasher as _};
use std::io::{Read as _, Write as _};
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
/// The length of a checksum.
const CHECK: usize = 16;

/// What a rendering is kept under.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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

    /// The key's bytes, to be part of another.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// What names a content under the key.
    fn sum(&self, content: &[u8]) -> [u8; DIGEST] {
        let mut hash = Sha256::new();
        hash.update(self.0);
        hash.update(content);
        hash.finalize().into()
    }

    /// What tells damage to a file's bytes. Nobody's word is taken for it but the disk's, so that it need not be hard to
    /// forge; it is made of every byte that is read, and a digest would take longer than all else.
    fn check(&self, bytes: &[u8]) -> [u8; CHECK] {
        let (head, tail) = self.0.split_at(DIGEST / 2);
        let half = |seed: &[u8]| {
            let seed = seed.iter().fold(0u64, |n, byte| n.rotate_left(8) ^ u64::from(*byte));
            let mut hash = foldhash::quality::FixedState::with_seed(seed).build_hasher();
            hash.write(bytes);
            hash.write_usize(bytes.len());
            hash.finish().to_le_bytes()
        };
        let mut out = [0; CHECK];
        let (one, other) = out.split_at_mut(CHECK / 2);
        one.copy_from_slice(&half(head));
        other.copy_from_slice(&half(tail));
        out
    }
}

/// The folder.
pub(crate) struct Store {
    units: PathBuf,
    texts: PathBuf,
    limit: u64,
    wrote: AtomicBool,
}

impl Store {
    pub(crate) fn new(root: &Path) -> Self {
        let (units, texts) = (root.join("units"), root.join("texts"));
        Self { units, texts, limit: LIMIT, wrote: AtomicBool::new(false) }
    }

    fn folder(&self, key: &Key) -> PathBuf {
        sharded(&self.units, key)
    }

    /// The contents kept under a key, as far as they are undamaged, each with what names it.
    pub(crate) fn get<'s>(&'s self, key: &'s Key) -> impl Iterator<Item = (Vec<u8>, Key)> + 's {
        let entries = fs::read_dir(self.folder(key)).into_iter().flatten().flatten().take(VARIANTS);
        entries.filter_map(move |entry| read(&entry.path(), key))
    }

    /// Keeps a content under a key; what names it is returned.
    pub(crate) fn put(&self, key: &Key, content: &[u8]) -> Key {
        let sum = key.sum(content);
        let folder = self.folder(key);
        self.write(&folder, &hex::encode(sum.split_at(8).0), key, content, &sum);
        Key(sum)
    }

    /// The text kept under a key, unless it is damaged.
    pub(crate) fn text(&self, key: &Key) -> Option<Vec<u8>> {
        read(&sharded(&self.texts, key), key).map(|(text, _)| text)
    }

    /// As [`Store::text`], in place of what is in a buffer; false, and anything in it, where there is none.
    pub(crate) fn text_into(&self, key: &Key, buffer: &mut Vec<u8>) -> bool {
        read_into(&sharded(&self.texts, key), key, buffer).is_some()
    }

    /// Keeps the one text that there is under a key.
    pub(crate) fn put_text(&self, key: &Key, text: &[u8]) {
        let path = sharded(&self.texts, key);
        if let (Some(folder), Some(name)) = (path.parent(), path.file_name().and_then(|n| n.to_str())) {
            self.write(folder, name, key, text, &key.sum(text));
        }
    }

    fn write(&self, folder: &Path, name: &str, key: &Key, content: &[u8], sum: &[u8]) {
        let whole = [content, sum].concat();
        let written = fs::create_dir_all(folder).and_then(|()| {
            // Readable by its owner only, and moved into place when complete.
            let mut file = tempfile::NamedTempFile::new_in(folder)?;
            file.write_all(&whole)?;
            file.write_all(&key.check(&whole))?;
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
        let all = |root: &Path| inside(root).flat_map(|shard| inside(&shard).collect::<Vec<_>>()).collect::<Vec<_>>();
        let units = all(&self.units).into_iter().flat_map(|folder| inside(&folder).collect::<Vec<_>>());
        for file in units.chain(all(&self.texts)) {
            let Ok(meta) = fs::symlink_metadata(&file) else { continue };
            if meta.is_file() {
                files.push((meta.modified().unwrap_or(SystemTime::UNIX_EPOCH), meta.len(), file));
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

impl Store {
    /// Makes room, if something was kept since the last time.
    pub(crate) fn tidy(&self) {
        if self.wrote.swap(false, Ordering::Relaxed) {
            self.trim();
        }
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.tidy();
    }
}

/// The place of a key in a folder, which is not too full for any file system.
fn sharded(root: &Path, key: &Key) -> PathBuf {
    let hex = hex::encode(key.0);
    let (head, tail) = hex.split_at(2);
    root.join(head).join(tail)
}

/// A file's content and what names it, unless it is damaged.
fn read(path: &Path, key: &Key) -> Option<(Vec<u8>, Key)> {
    let mut content = Vec::new();
    let name = read_into(path, key, &mut content)?;
    Some((content, name))
}

/// As [`read`], in place of what is in a buffer.
fn read_into(path: &Path, key: &Key, buffer: &mut Vec<u8>) -> Option<Key> {
    buffer.clear();
    let mut file = fs::File::open(path).ok()?;
    let meta = file.metadata().ok()?;
    buffer.reserve(usize::try_from(meta.len()).ok()?);
    file.read_to_end(buffer).ok()?;
    let (whole, check) = buffer.split_last_chunk::<CHECK>()?;
    let (content, sum) = whole.split_last_chunk::<DIGEST>()?;
    let (length, sum) = (content.len(), *sum);
    if key.check(whole) != *check {
        return None;
    }
    buffer.truncate(length);
    mark_used(path, &meta);
    Some(Key(sum))
}

fn inside(folder: &Path) -> impl Iterator<Item = PathBuf> {
    fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path())
}

fn mark_used(path: &Path, meta: &fs::Metadata) {
    let now = SystemTime::now();
    if meta.modified().is_ok_and(|at| now.duration_since(at).is_ok_and(|age| age > MARK_EVERY))
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
        let mut out: Vec<_> = store.get(key).map(|(content, _)| content).collect();
        out.sort();
        out
    }

    #[test]
    fn contents_come_back_under_their_key_only() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::new(dir.path());
        assert!(all(&store, &key(1)).is_empty());
        store.put(&key(1), b"one");
        store.put(&key(1), b"another");
        store.put(&key(1), b"one");
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
        store.put(&key(1), b"some content");
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
            store.put(&key(n), &[n; 900]);
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
    fn a_text_comes_back_unless_it_is_damaged_and_makes_room_as_others_do() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::new(dir.path());
        assert_eq!(store.text(&key(1)), None);
        store.put_text(&key(1), b"old");
        store.put_text(&key(1), b"new");
        assert_eq!(store.text(&key(1)).as_deref(), Some(&b"new"[..]));
        assert_eq!(store.text(&key(2)), None);
        let file = sharded(&store.texts, &key(1));
        let good = fs::read(&file).unwrap();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0x10;
            fs::write(&file, &bad).unwrap();
            assert_eq!(store.text(&key(1)), None, "byte {at}");
        }
        fs::write(&file, &good).unwrap();
        store.limit = 1;
        store.trim();
        assert_eq!(store.text(&key(1)), None);
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_no_error() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("units"), "a file").unwrap();
        let store = Store::new(dir.path());
        store.put(&key(1), b"x");
        assert!(all(&store, &key(1)).is_empty());
    }
}
