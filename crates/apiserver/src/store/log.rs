//! The write-ahead log: two files of fixed size, written in turns. A batch is one record, appended and synced; a file is
//! written from its start again when everything in it has reached the store's file.
//!
//! Files are filled with zeros once: overwriting what is allotted needs one write to the disk, growing a file several.
//!
//! A record: its length (4 bytes, of what follows the checksum, big-endian), CRC-32 of that (4), the resource version
//! before and after the batch (8 each), the payload, zeros up to a multiple of 8. Resource versions only grow, so what
//! an earlier turn has left in a file is told from what follows on.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use super::StoreError;

/// The size of one file.
pub(super) const SIZE: u64 = 4 << 20;
/// What stands before a record's payload.
const HEAD: usize = 24;
const NAMES: [&str; 2] = ["store.log0", "store.log1"];

/// A batch as the log holds it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Record {
    /// The resource version it follows on.
    pub before: u64,
    /// The resource version it ends at.
    pub after: u64,
    /// The changes.
    pub payload: Vec<u8>,
}

/// The files, open for writing.
#[derive(Debug)]
pub(super) struct Log {
    files: [File; 2],
    active: usize,
    /// Where the next record goes.
    at: u64,
}

fn padded(n: usize) -> usize {
    n.div_ceil(8) * 8
}

/// The bytes of a record.
pub(super) fn record(before: u64, after: u64, payload: &[u8]) -> Vec<u8> {
    let length = 16 + payload.len();
    let mut out = Vec::with_capacity(padded(HEAD + payload.len()));
    out.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&before.to_be_bytes());
    out.extend_from_slice(&after.to_be_bytes());
    out.extend_from_slice(payload);
    let crc = super::disk::checksum(out.get(8..).unwrap_or_default());
    if let Some(place) = out.get_mut(4..8) {
        place.copy_from_slice(&crc.to_be_bytes());
    }
    out.resize(padded(out.len()), 0);
    out
}

/// The record at the start of `bytes`, and how many bytes it takes.
fn parse(bytes: &[u8]) -> Option<(Record, usize)> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let (crc, rest) = rest.split_first_chunk::<4>()?;
    let length = u32::from_be_bytes(*length) as usize;
    let body = rest.get(..length).filter(|b| b.len() >= 16)?;
    let (before, after) = (body.first_chunk::<8>()?, body.get(8..16)?.first_chunk::<8>()?);
    let (before, after) = (u64::from_be_bytes(*before), u64::from_be_bytes(*after));
    if after <= before || super::disk::checksum(body) != u32::from_be_bytes(*crc) {
        return None;
    }
    Some((Record { before, after, payload: body.get(16..)?.to_vec() }, padded(8 + length)))
}

/// The records of one file: those of its last turn. All up to the resource version `filed` is in the store's file.
fn read_file(path: &Path, filed: u64) -> Result<Vec<Record>, StoreError> {
    let bytes = match std::fs::read(path) {
        Ok(b) => b,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(StoreError::Directory { path: path.to_owned(), cause: e.to_string() }),
    };
    let (mut at, mut out) = (0, Vec::<Record>::new());
    let follows = |out: &[Record], r: &Record| out.last().is_none_or(|l| r.before == l.after);
    while let Some((r, size)) = bytes.get(at..).and_then(parse) {
        if !follows(&out, &r) {
            break;
        }
        at += size;
        out.push(r);
    }
    // A record that was being written when the machine stopped is nobody's loss. One with later ones behind it is.
    let last = out.last().map_or(filed, |r| r.after.max(filed));
    let mut ahead = at;
    while let Some(rest) = bytes.get(ahead..).filter(|r| r.len() >= HEAD) {
        if let Some((r, _)) = parse(rest)
            && r.before >= last
        {
            return Err(StoreError::Corrupt(format!(
                "{}: the record at {at} is damaged, later ones follow it",
                path.display()
            )));
        }
        ahead += 8;
    }
    Ok(out)
}

/// What the log of a directory holds beyond the resource version `filed`, in order.
///
/// # Errors
/// When a record between others is damaged, or there is a gap.
pub(super) fn read(dir: &Path, filed: u64) -> Result<Vec<Record>, StoreError> {
    let mut all = Vec::new();
    for name in NAMES {
        all.extend(read_file(&dir.join(name), filed)?.into_iter().filter(|r| r.after > filed));
    }
    all.sort_by_key(|r| r.before);
    let mut at = filed;
    for r in &all {
        if r.before != at {
            return Err(StoreError::Corrupt(format!(
                "the log in {} goes on at resource version {} after {at}",
                dir.display(),
                r.before
            )));
        }
        at = r.after;
    }
    Ok(all)
}

/// Removes the log: what it holds is in the store's file, or is not wanted any more.
pub(super) fn remove(dir: &Path) -> Result<(), StoreError> {
    for name in NAMES {
        let path = dir.join(name);
        match std::fs::remove_file(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                return Err(StoreError::Directory { path, cause: e.to_string() });
            }
            _ => {}
        }
    }
    Ok(())
}

fn make(path: &PathBuf) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.create(true).truncate(false).read(true).write(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        options.mode(0o600);
    }
    let mut file = options.open(path)?;
    if file.metadata()?.len() < SIZE {
        let zeros = vec![0; 1 << 16];
        for _ in 0..SIZE >> 16 {
            file.write_all(&zeros)?;
        }
        file.sync_all()?;
    }
    Ok(file)
}

impl Log {
    /// Makes or opens the files. Whatever they hold must have reached the store's file.
    pub fn open(dir: &Path) -> io::Result<Self> {
        let [a, b] = NAMES.map(|n| make(&dir.join(n)));
        let files = [a?, b?];
        // A file whose name is not on the disk is lost with what it holds.
        #[cfg(unix)]
        File::open(dir)?.sync_all()?;
        Ok(Self { files, active: 0, at: 0 })
    }

    /// Whether a record of this size fits behind the others.
    pub fn has_room(&self, size: usize) -> bool {
        self.at + size as u64 <= SIZE
    }

    /// Goes on at the start of the other file; what that holds must have reached the store's file.
    pub fn switch(&mut self) {
        self.active = 1 - self.active;
        self.at = 0;
    }

    /// Goes on at the start of the same file; what it holds must have reached the store's file.
    pub fn restart(&mut self) {
        self.at = 0;
    }

    /// Appends a record; when this returns it is on the disk.
    pub fn append(&mut self, record: &[u8]) -> io::Result<()> {
        let Some(file) = self.files.get_mut(self.active) else { return Err(io::ErrorKind::NotFound.into()) };
        write_at(file, record, self.at)?;
        file.sync_data()?;
        self.at += record.len() as u64;
        Ok(())
    }
}

#[cfg(unix)]
fn write_at(file: &mut File, bytes: &[u8], at: u64) -> io::Result<()> {
    use std::os::unix::fs::FileExt as _;
    file.write_all_at(bytes, at)
}

#[cfg(not(unix))]
fn write_at(file: &mut File, bytes: &[u8], at: u64) -> io::Result<()> {
    use std::io::{Seek as _, SeekFrom};
    file.seek(SeekFrom::Start(at))?;
    file.write_all(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(n: u64) -> Vec<u8> {
        record(n, n + 1, format!("payload {n}").as_bytes())
    }

    fn revisions(dir: &Path, filed: u64) -> Vec<u64> {
        read(dir, filed).unwrap().iter().map(|r| r.after).collect()
    }

    #[test]
    fn what_was_appended_is_read_and_what_an_earlier_turn_left_is_not() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(revisions(dir.path(), 0), [0u64; 0]);
        let mut log = Log::open(dir.path()).unwrap();
        for n in 5..9 {
            log.append(&batch(n)).unwrap();
        }
        log.switch();
        log.append(&batch(9)).unwrap();
        assert_eq!(revisions(dir.path(), 5), [6, 7, 8, 9, 10]);
        assert_eq!(revisions(dir.path(), 8), [9, 10]);
        // The first file's turn comes again when all up to 9 is in the store's file.
        log.switch();
        log.append(&batch(10)).unwrap();
        assert_eq!(revisions(dir.path(), 9), [10, 11]);
    }

    #[test]
    fn a_torn_end_is_dropped_and_damage_before_it_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = Log::open(dir.path()).unwrap();
        for n in 0..3 {
            log.append(&batch(n)).unwrap();
        }
        let path = dir.path().join(NAMES[0]);
        let whole = std::fs::read(&path).unwrap();
        let size = batch(0).len();
        let damage = |at: usize| {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            std::fs::write(&path, bytes).unwrap();
        };
        damage(2 * size + HEAD);
        assert_eq!(revisions(dir.path(), 0), [1, 2]);
        damage(size + HEAD);
        assert!(matches!(read(dir.path(), 0), Err(StoreError::Corrupt(_))));
        damage(HEAD);
        assert!(matches!(read(dir.path(), 0), Err(StoreError::Corrupt(_))), "{:?}", read(dir.path(), 0));
    }
}
