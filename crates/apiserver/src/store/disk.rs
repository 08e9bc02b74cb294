//! The durable side: one redb file.
//!
//! `objects`: `resource \0 namespace \0 name` → resource version (8 bytes, big-endian), CRC-32 of what follows the head's
//! length (4), length of the head (2), the text. The text of a Secret is sealed (AES-256-GCM, for this key and this resource
//! version, with the key in `store.key` beside the file), which the highest bit of the head's length says: a copy of the
//! store alone, or of its log, shows no value. `numbers`: `revision`, and `deleted:RESOURCE`, the resource version of a type's last
//! deletion. redb's commit is atomic and fsynced; it locks the file, which keeps a second process out. Opening it takes
//! over what the log ([`super::log`]) holds beyond it.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use druse_identity::seal::{SealError, Sealer};
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
/// Before the second, Secrets were not sealed.
const FORMAT: u64 = 2;
const FIXED: usize = 14;
/// The stored type that is sealed.
const SEALED: &str = "secrets";
/// In the length of the head: the text is sealed.
const SEAL: u16 = 0x8000;

/// An open file. After a write that failed (a full disk, most often) redb takes no other one: it is opened anew then,
/// before the next write.
#[derive(Debug)]
pub(super) struct Disk {
    path: PathBuf,
    sealer: Sealer,
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
        let key_file = dir.join("store.key");
        let sealer = Sealer::open(&key_file).map_err(|e| match e {
            SealError::File { cause, .. } => StoreError::Directory { path: key_file, cause },
            other => failed(other),
        })?;
        let tx = db.begin_write().map_err(failed)?;
        let format = {
            tx.open_table(OBJECTS).map_err(corrupt)?;
            let mut numbers = tx.open_table(NUMBERS).map_err(corrupt)?;
            let format = numbers.get("format").map_err(corrupt)?.map(|v| v.value());
            match format {
                None => {
                    numbers.insert("format", FORMAT).map_err(failed)?;
                }
                Some(1 | FORMAT) => {}
                Some(other) => {
                    return Err(StoreError::Corrupt(format!(
                        "{}: format {other} is not the one this program reads ({FORMAT})",
                        path.display()
                    )));
                }
            }
            format
        };
        tx.commit().map_err(failed)?;
        replay(&db, dir)?;
        if format == Some(1) {
            seal_all(&db, &sealer)?;
            log::remove(dir)?;
        }
        let loaded = Self::load(&db, &sealer)?;
        Ok((Self { path, sealer, db: Mutex::new(Some(db)) }, loaded))
    }

    fn load(db: &Database, sealer: &Sealer) -> Result<Loaded, StoreError> {
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
            let (resource, object) = read(k.value(), v.value(), sealer)?;
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
                        let record = self.record(&key, o)?;
                        objects.insert(key.as_slice(), record.as_slice()).map_err(failed)?;
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
                    table.insert(key.as_slice(), self.record(&key, o)?.as_slice()).map_err(failed)?;
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

    /// An object as it is written under a key.
    pub fn record(&self, key: &[u8], o: &Stored) -> Result<Vec<u8>, StoreError> {
        record(key, o, &self.sealer)
    }
}

/// What a text is sealed for: it opens nowhere else.
fn place(key: &[u8], rv: u64) -> Vec<u8> {
    [key, &rv.to_be_bytes()].concat()
}

/// Seals the Secrets of a file that was written before that was done.
fn seal_all(db: &Database, sealer: &Sealer) -> Result<(), StoreError> {
    let tx = db.begin_write().map_err(failed)?;
    {
        let mut objects = tx.open_table(OBJECTS).map_err(failed)?;
        let from = [SEALED.as_bytes(), &[0]].concat();
        let to = [SEALED.as_bytes(), &[1]].concat();
        let mut sealed = Vec::new();
        for row in objects.range(from.as_slice()..to.as_slice()).map_err(corrupt)? {
            let (k, v) = row.map_err(corrupt)?;
            let (_, object) = read(k.value(), v.value(), sealer)?;
            sealed.push((k.value().to_vec(), record(k.value(), &object, sealer)?));
        }
        for (key, record) in sealed {
            objects.insert(key.as_slice(), record.as_slice()).map_err(failed)?;
        }
        tx.open_table(NUMBERS).map_err(failed)?.insert("format", FORMAT).map_err(failed)?;
    }
    tx.commit().map_err(failed)
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

fn record(key: &[u8], o: &Stored, sealer: &Sealer) -> Result<Vec<u8>, StoreError> {
    let sealed = match key.split(|b| *b == 0).next() == Some(SEALED.as_bytes()) {
        true => Some(sealer.seal(&o.json, &place(key, o.rv)).map_err(failed)?),
        false => None,
    };
    let text = sealed.as_deref().unwrap_or(&o.json);
    let head = if sealed.is_some() { o.head | SEAL } else { o.head };
    let mut record = Vec::with_capacity(text.len() + FIXED);
    record.extend_from_slice(&o.rv.to_be_bytes());
    record.extend_from_slice(&checksum(text).to_be_bytes());
    record.extend_from_slice(&head.to_be_bytes());
    record.extend_from_slice(text);
    Ok(record)
}

fn read(key: &[u8], record: &[u8], sealer: &Sealer) -> Result<(Str, Stored), StoreError> {
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
    let (rv, head) = (u64::from_be_bytes(*rv), u16::from_be_bytes(*head));
    let text = match head & SEAL != 0 {
        true => {
            let opened = sealer.open_sealed(text, &place(key, rv));
            let text = opened.map_err(|_| damaged("it is not sealed with the key in store.key, which was replaced"))?;
            Bytes::copy_from_slice(&text)
        }
        false => Bytes::copy_from_slice(text),
    };
    Ok((resource.into(), Stored::new(namespace.into(), name.into(), rv, head & !SEAL, text)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::journal::Journal;
    use crate::store::watch::Change;
    use crate::store::{Encoded, Key};

    fn secret(rv: u64) -> Accepted {
        let text = br#"{"apiVersion":"v1","kind":"Secret","stringData":{"password":"planted"}}"#;
        let encoded = Encoded::of(&druse_object::json::parse(text).unwrap());
        let object = Stored::new("n".into(), "s".into(), rv, encoded.head(), encoded.at(rv));
        let change = Change { kind: ChangeKind::Added, object: Arc::new(object), previous: None };
        Accepted { key: Key::new(SEALED, "n", "s"), change: Arc::new(change) }
    }

    /// The text of the one object that a directory holds.
    fn held(dir: &Path) -> Result<String, StoreError> {
        let (_, loaded) = Disk::open(dir)?;
        let object = loaded.kinds[0].1.values().next().unwrap().clone();
        Ok(String::from_utf8(object.json.to_vec()).unwrap())
    }

    fn shows(dir: &Path) -> bool {
        fs::read_dir(dir).unwrap().any(|file| {
            let bytes = fs::read(file.unwrap().path()).unwrap();
            bytes.windows(7).any(|w| w == b"planted")
        })
    }

    #[test]
    fn secrets_are_sealed_in_the_log_and_in_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let (disk, _) = Disk::open(dir.path()).unwrap();
        let mut journal = Journal::new(disk, 0).unwrap();
        journal.commit(&[secret(1)], 1, 0).unwrap();
        assert!(!shows(dir.path()), "in the log");
        journal.close(1);
        assert!(!shows(dir.path()), "in the file");
        assert!(held(dir.path()).unwrap().contains("planted"));
        fs::remove_file(dir.path().join("store.key")).unwrap();
        let e = held(dir.path()).unwrap_err().to_string();
        assert!(e.contains("object secrets/n/s") && e.contains("store.key"), "{e}");
    }

    #[test]
    fn secrets_of_a_store_from_before_are_sealed_when_it_is_opened() {
        let dir = tempfile::tempdir().unwrap();
        let secret = secret(1);
        let object = &secret.change.object;
        {
            let (disk, _) = Disk::open(dir.path()).unwrap();
            let key = key(SEALED, "n", "s");
            let plain = record(b"others", object, &disk.sealer).unwrap();
            disk.with(0, |db| {
                let tx = db.begin_write().map_err(failed)?;
                tx.open_table(OBJECTS).map_err(failed)?.insert(key.as_slice(), plain.as_slice()).map_err(failed)?;
                let mut numbers = tx.open_table(NUMBERS).map_err(failed)?;
                for (name, n) in [("format", 1), ("revision", 1)] {
                    numbers.insert(name, n).map_err(failed)?;
                }
                drop(numbers);
                tx.commit().map_err(failed)
            })
            .unwrap();
        }
        assert!(shows(dir.path()));
        assert_eq!(held(dir.path()).unwrap().as_bytes(), &object.json[..]);
        let (disk, _) = Disk::open(dir.path()).unwrap();
        disk.with(1, |db| {
            let tx = db.begin_read().map_err(failed)?;
            let objects = tx.open_table(OBJECTS).map_err(failed)?;
            let row = objects.get(key(SEALED, "n", "s").as_slice()).map_err(failed)?.unwrap();
            assert!(!row.value().windows(7).any(|w| w == b"planted"));
            Ok(())
        })
        .unwrap();
    }
}
