//! The durable side: one redb file.
//!
//! `objects`: `resource \0 namespace \0 name` → resource version (8 bytes, big-endian), CRC-32 of the text (4), length
//! of the head (2), the text. `numbers`: `revision`, and `deleted:RESOURCE`, the resource version of a type's last
//! deletion. redb's commit is atomic and fsynced; it locks the file, which keeps a second process out. Opening it takes
//! over what the log ([`super::log`]) holds beyond it.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use druse_object::Str;
use parking_lot::Mutex;
use redb::{Database, DatabaseError, ReadableDatabase as _, ReadableTable as _, TableDefinition};

use super::commit::Accepted;
use super::journal::{self, Replayed};
use super::log;
use super::watch::ChangeKind;
use super::{StoreError, Stored};

const OBJECTS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("objects");
const NUMBERS: TableDefinition<'_, &str, u64> = TableDefinition::new("numbers");
const FORMAT: u64 = 1;
const FIXED: usize = 14;

/// An open file. After a write that failed (a full disk, most often) redb takes no other one: it is opened anew then,
/// before the next write.
#[derive(Debug)]
pub(super) struct Disk {
    path: PathBuf,
    db: Mutex<Option<Database>>,
}

/// A type's objects, and the resource version of its last change.
type LoadedKind = (Str, BTreeMap<(Str, Str), Arc<Stored>>, u64);

/// What a file holds.
#[derive(Debug, Default)]
pub(super) struct Loaded {
    pub revision: u64,
    /// The resource version a restored store began at; 0 otherwise.
    pub floor: u64,
    pub kinds: Vec<LoadedKind>,
}

fn corrupt(e: impl std::fmt::Display) -> StoreError {
    StoreError::Corrupt(e.to_string())
}

fn failed(e: impl std::fmt::Display) -> StoreError {
    StoreError::Write(e.to_string())
}

pub(super) fn checksum(text: &[u8]) -> u32 {
    let mut crc = flate2::Crc::new();
    crc.update(text);
    crc.sum()
}

/// Makes the directory, readable by its owner only, and keeps Git from taking it up.
pub(crate) fn prepare(dir: &Path) -> Result<(), StoreError> {
    let wrong =
        |path: &Path, cause: std::io::Error| StoreError::Directory { path: path.to_owned(), cause: cause.to_string() };
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::DirBuilderExt as _;
        builder.mode(0o700);
    }
    builder.create(dir).map_err(|e| wrong(dir, e))?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        fs::set_permissions(dir, fs::Permissions::from_mode(0o700)).map_err(|e| wrong(dir, e))?;
    }
    let ignore = dir.join(".gitignore");
    match fs::OpenOptions::new().write(true).create_new(true).open(&ignore) {
        Ok(mut f) => f.write_all(b"*\n").map_err(|e| wrong(&ignore, e))?,
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
        Err(e) => return Err(wrong(&ignore, e)),
    }
    Ok(())
}

impl Disk {
    /// Opens a directory's file and reads it. redb panics on pages that contradict each other, so this happens on a
    /// thread of its own, named [`super::OPENING`].
    pub fn open(dir: &Path) -> Result<(Self, Loaded), StoreError> {
        let owned = dir.to_owned();
        std::thread::Builder::new()
            .name(super::OPENING.to_owned())
            .spawn(move || Self::open_here(&owned))
            .map_err(failed)?
            .join()
            .unwrap_or_else(|_| {
                Err(corrupt(format_args!("{}: its pages contradict each other", dir.join("store.redb").display())))
            })
    }

    fn open_here(dir: &Path) -> Result<(Self, Loaded), StoreError> {
        prepare(dir)?;
        let path: PathBuf = dir.join("store.redb");
        let db = open_file(&path)?;
        let tx = db.begin_write().map_err(failed)?;
        {
            tx.open_table(OBJECTS).map_err(corrupt)?;
            let mut numbers = tx.open_table(NUMBERS).map_err(corrupt)?;
            let format = numbers.get("format").map_err(corrupt)?.map(|v| v.value());
            match format {
                None => {
                    numbers.insert("format", FORMAT).map_err(failed)?;
                }
                Some(FORMAT) => {}
                Some(other) => {
                    return Err(StoreError::Corrupt(format!(
                        "{}: format {other} is not the one this program reads ({FORMAT})",
                        path.display()
                    )));
                }
            }
        }
        tx.commit().map_err(failed)?;
        replay(&db, dir)?;
        let loaded = Self::load(&db)?;
        Ok((Self { path, db: Mutex::new(Some(db)) }, loaded))
    }

    fn load(db: &Database) -> Result<Loaded, StoreError> {
        let tx = db.begin_read().map_err(corrupt)?;
        let numbers = tx.open_table(NUMBERS).map_err(corrupt)?;
        let number = |name: &str| numbers.get(name).map_err(corrupt).map(|v| v.map_or(0, |v| v.value()));
        let mut loaded = Loaded { revision: number("revision")?, floor: number("restored")?, kinds: Vec::new() };
        let mut last: BTreeMap<Str, u64> = BTreeMap::new();
        for row in numbers.iter().map_err(corrupt)? {
            let (k, v) = row.map_err(corrupt)?;
            if let Some(resource) = k.value().strip_prefix("deleted:") {
                last.insert(resource.into(), v.value());
            }
        }
        let mut kinds: BTreeMap<Str, BTreeMap<(Str, Str), Arc<Stored>>> = BTreeMap::new();
        for row in tx.open_table(OBJECTS).map_err(corrupt)?.iter().map_err(corrupt)? {
            let (k, v) = row.map_err(corrupt)?;
            let (resource, object) = read(k.value(), v.value())?;
            let newest = last.entry(resource.clone()).or_default();
            *newest = object.rv.max(*newest);
            if object.rv > loaded.revision {
                return Err(corrupt("an object is newer than the store"));
            }
            kinds
                .entry(resource)
                .or_default()
                .insert((object.namespace.clone(), object.name.clone()), Arc::new(object));
        }
        loaded.kinds = last
            .into_iter()
            .map(|(resource, rv)| {
                let objects = kinds.remove(&resource).unwrap_or_default();
                (resource, objects, rv)
            })
            .collect();
        Ok(loaded)
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        self.path.parent().unwrap_or(&self.path)
    }

    /// Writes changes durably: all, or, on an error, none. `before` is the resource version they follow on. Of several
    /// changes to one object only the last is written.
    pub fn commit(&self, accepted: &[Accepted], revision: u64, before: u64) -> Result<(), StoreError> {
        self.with(before, |db| {
            let tx = db.begin_write().map_err(failed)?;
            {
                let mut objects = tx.open_table(OBJECTS).map_err(failed)?;
                let mut numbers = tx.open_table(NUMBERS).map_err(failed)?;
                let mut last = BTreeMap::new();
                for a in accepted {
                    last.insert(key(&a.key.resource, &a.key.namespace, &a.key.name), a);
                }
                for (key, a) in last {
                    let o = &a.change.object;
                    if a.change.kind == ChangeKind::Deleted {
                        objects.remove(key.as_slice()).map_err(failed)?;
                    } else {
                        objects.insert(key.as_slice(), record(o).as_slice()).map_err(failed)?;
                    }
                }
                for a in accepted.iter().filter(|a| a.change.kind == ChangeKind::Deleted) {
                    let name = format!("deleted:{}", a.key.resource);
                    numbers.insert(name.as_str(), a.change.object.rv).map_err(failed)?;
                }
                numbers.insert("revision", revision).map_err(failed)?;
            }
            tx.commit().map_err(failed)
        })
    }

    /// Does something with the file, opened anew when it failed before. A write may have reached the disk although it
    /// failed; then the file is ahead of what readers see, and only a new start takes it up.
    fn with(&self, before: u64, f: impl FnOnce(&Database) -> Result<(), StoreError>) -> Result<(), StoreError> {
        let mut slot = self.db.lock();
        let db = match slot.take() {
            Some(db) => db,
            None => {
                let db = open_file(&self.path).map_err(failed)?;
                let tx = db.begin_read().map_err(failed)?;
                let numbers = tx.open_table(NUMBERS).map_err(failed)?;
                let is = numbers.get("revision").map_err(failed)?.map_or(0, |v| v.value());
                if is != before {
                    return Err(failed("a write that failed reached the disk after all; start the server anew"));
                }
                drop(numbers);
                db
            }
        };
        f(&db)?;
        *slot = Some(db);
        Ok(())
    }
}

fn open_file(path: &Path) -> Result<Database, StoreError> {
    Database::builder().set_cache_size(8 << 20).create(path).map_err(|e| match e {
        DatabaseError::DatabaseAlreadyOpen => StoreError::Locked(path.parent().unwrap_or(path).to_owned()),
        DatabaseError::Storage(redb::StorageError::Io(e)) if e.kind() != std::io::ErrorKind::InvalidData => {
            StoreError::Directory { path: path.to_owned(), cause: e.to_string() }
        }
        other => StoreError::Corrupt(format!("{}: {other}", path.display())),
    })
}

impl Disk {
    /// Replaces everything by these objects, at a resource version before which nothing is known.
    pub fn replace(&self, objects: &[(Str, Stored)], revision: u64) -> Result<(), StoreError> {
        self.with(0, |db| {
            let tx = db.begin_write().map_err(failed)?;
            tx.delete_table(OBJECTS).map_err(failed)?;
            tx.delete_table(NUMBERS).map_err(failed)?;
            {
                let mut table = tx.open_table(OBJECTS).map_err(failed)?;
                for (resource, o) in objects {
                    let key = key(resource, &o.namespace, &o.name);
                    table.insert(key.as_slice(), record(o).as_slice()).map_err(failed)?;
                }
                let mut numbers = tx.open_table(NUMBERS).map_err(failed)?;
                for (name, n) in [("format", FORMAT), ("revision", revision), ("restored", revision)] {
                    numbers.insert(name, n).map_err(failed)?;
                }
            }
            tx.commit().map_err(failed)
        })?;
        // Its changes are of another history now.
        log::remove(self.dir())
    }
}

/// Brings the file up to what the log holds beyond it.
fn replay(db: &Database, dir: &Path) -> Result<(), StoreError> {
    let tx = db.begin_read().map_err(corrupt)?;
    let filed = tx.open_table(NUMBERS).map_err(corrupt)?.get("revision").map_err(corrupt)?.map_or(0, |v| v.value());
    let records = log::read(dir, filed)?;
    let Some(last) = records.last() else { return Ok(()) };
    let tx = db.begin_write().map_err(failed)?;
    {
        let mut objects = tx.open_table(OBJECTS).map_err(failed)?;
        let mut numbers = tx.open_table(NUMBERS).map_err(failed)?;
        for r in &records {
            let changes = journal::decode(&r.payload)
                .ok_or_else(|| corrupt(format_args!("a record of the log in {} cannot be read", dir.display())))?;
            for change in changes {
                match change {
                    Replayed::Put(key, record) => {
                        objects.insert(key, record).map_err(failed)?;
                    }
                    Replayed::Delete(key, rv) => {
                        objects.remove(key).map_err(failed)?;
                        let resource = key.split(|b| *b == 0).next().unwrap_or_default();
                        let name = format!("deleted:{}", String::from_utf8_lossy(resource));
                        numbers.insert(name.as_str(), rv).map_err(failed)?;
                    }
                }
            }
        }
        numbers.insert("revision", last.after).map_err(failed)?;
    }
    tx.commit().map_err(failed)
}

/// The key of an object's row.
pub(super) fn key(resource: &str, namespace: &str, name: &str) -> Vec<u8> {
    [resource.as_bytes(), namespace.as_bytes(), name.as_bytes()].join(&0)
}

/// An object as it is written.
pub(super) fn record(o: &Stored) -> Vec<u8> {
    let mut record = Vec::with_capacity(o.json.len() + FIXED);
    record.extend_from_slice(&o.rv.to_be_bytes());
    record.extend_from_slice(&checksum(&o.json).to_be_bytes());
    record.extend_from_slice(&o.head.to_be_bytes());
    record.extend_from_slice(&o.json);
    record
}

fn read(key: &[u8], record: &[u8]) -> Result<(Str, Stored), StoreError> {
    let shown = String::from_utf8_lossy(key).replace('\0', "/");
    let damaged = |what: &str| StoreError::Corrupt(format!("object {shown}: {what}"));
    let mut parts = key.split(|b| *b == 0).map(std::str::from_utf8);
    let (Some(Ok(resource)), Some(Ok(namespace)), Some(Ok(name)), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(damaged("its key is malformed"));
    };
    let (rv, rest) = record.split_first_chunk::<8>().ok_or_else(|| damaged("its record is cut short"))?;
    let (crc, rest) = rest.split_first_chunk::<4>().ok_or_else(|| damaged("its record is cut short"))?;
    let (head, text) = rest.split_first_chunk::<2>().ok_or_else(|| damaged("its record is cut short"))?;
    if checksum(text) != u32::from_be_bytes(*crc) {
        return Err(damaged("checksum mismatch"));
    }
    let stored = Stored::new(
        namespace.into(),
        name.into(),
        u64::from_be_bytes(*rv),
        u16::from_be_bytes(*head),
        Bytes::copy_from_slice(text),
    );
    Ok((resource.into(), stored))
}
