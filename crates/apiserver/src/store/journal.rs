//! How a batch becomes durable: as one record of the log, which is one write and one sync, and in the store's file when
//! a file of the log is full. A thread of its own writes that, while the log's other file takes the next batches.
//!
//! Where there is no log (it is being made, it failed, or a batch is larger than it) batches go straight to the store's
//! file, with all that it lacks.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::JoinHandle;

use super::StoreError;
use super::commit::Accepted;
use super::disk::{self, Disk};
use super::log::{self, Log};
use crate::store::watch::ChangeKind;

/// What the writing thread is asked.
enum Task {
    /// Make the log's files.
    Open(PathBuf),
    /// Write changes up to this resource version to the store's file, which is at the other.
    File(Arc<Vec<Accepted>>, u64, u64),
}

enum Done {
    Opened(std::io::Result<Log>),
    Filed(Result<u64, StoreError>),
}

/// The durable side of a store. One thread uses it.
pub(super) struct Journal {
    disk: Arc<Disk>,
    log: Option<Log>,
    /// The resource version the store's file is at, as far as known.
    filed: u64,
    /// What the log's active file holds.
    pending: Vec<Accepted>,
    /// What its other file holds and the store's file lacks, with the resource version that ends it.
    filing: Option<(Arc<Vec<Accepted>>, u64)>,
    /// Whether the thread has been asked to write that and has not answered.
    asked: bool,
    tasks: Option<Sender<Task>>,
    done: Receiver<Done>,
    thread: Option<JoinHandle<()>>,
}

impl Journal {
    /// Over a store's file that holds everything up to the resource version `filed`.
    pub fn new(disk: Disk, filed: u64) -> Result<Self, StoreError> {
        let disk = Arc::new(disk);
        let (tasks, todo) = mpsc::channel();
        let (answers, done) = mpsc::channel();
        let writer = disk.clone();
        let thread = std::thread::Builder::new()
            .name("store-file".into())
            .spawn(move || {
                for task in todo {
                    let answer = match task {
                        Task::Open(dir) => Done::Opened(Log::open(&dir)),
                        Task::File(list, revision, before) => {
                            Done::Filed(writer.commit(&list, revision, before).map(|()| revision))
                        }
                    };
                    if answers.send(answer).is_err() {
                        return;
                    }
                }
            })
            .map_err(|e| StoreError::Write(e.to_string()))?;
        // Making the files takes a while, and the first batches need not wait for it.
        let _ = tasks.send(Task::Open(disk.dir().to_owned()));
        Ok(Self {
            disk,
            log: None,
            filed,
            pending: Vec::new(),
            filing: None,
            asked: false,
            tasks: Some(tasks),
            done,
            thread: Some(thread),
        })
    }

    fn take(&mut self, done: Done) -> Result<(), StoreError> {
        match done {
            Done::Opened(Ok(log)) => {
                self.log = Some(log);
                Ok(())
            }
            Done::Opened(Err(e)) => {
                tracing::warn!(error = %e, "the store's log cannot be made; every batch goes to the store's file");
                Ok(())
            }
            Done::Filed(result) => {
                self.asked = false;
                self.filed = result?;
                self.filing = None;
                Ok(())
            }
        }
    }

    /// Waits until the log's other file may be written again.
    fn settle(&mut self) -> Result<(), StoreError> {
        while self.asked {
            let done = self.done.recv().map_err(|_| StoreError::Closed)?;
            self.take(done)?;
        }
        // It has failed before, and is tried anew.
        if let Some((list, revision)) = self.filing.clone() {
            self.disk.commit(&list, revision, self.filed)?;
            self.filed = revision;
            self.filing = None;
        }
        Ok(())
    }

    /// Writes everything the store's file lacks, and these changes.
    fn straight(&mut self, accepted: &[Accepted], revision: u64) -> Result<(), StoreError> {
        self.settle()?;
        let all: Vec<Accepted> = self.pending.iter().chain(accepted).cloned().collect();
        self.disk.commit(&all, revision, self.filed)?;
        self.filed = revision;
        self.pending.clear();
        if let Some(log) = &mut self.log {
            log.restart();
        }
        Ok(())
    }

    /// Makes a batch durable: all of it, or, on an error, none. `before` is the resource version it follows on.
    pub fn commit(&mut self, accepted: &[Accepted], revision: u64, before: u64) -> Result<(), StoreError> {
        while let Ok(done) = self.done.try_recv() {
            // What failed is tried anew when its place is needed.
            if let Err(e) = self.take(done) {
                tracing::warn!(error = %e, "the store's file cannot be written; the log goes on");
            }
        }
        let size: usize = accepted.iter().map(|a| a.change.object.json.len() + 256).sum();
        if self.log.is_none() || size as u64 > log::SIZE / 2 {
            return self.straight(accepted, revision);
        }
        let record = log::record(before, revision, &encode(accepted, &self.disk)?);
        if self.log.as_ref().is_some_and(|l| !l.has_room(record.len())) {
            self.settle()?;
            let list = Arc::new(std::mem::take(&mut self.pending));
            if let Some(tasks) = self.tasks.as_ref().filter(|_| !list.is_empty()) {
                self.asked = tasks.send(Task::File(list.clone(), before, self.filed)).is_ok();
                self.filing = Some((list, before));
            }
            if let Some(log) = &mut self.log {
                log.switch();
            }
        }
        let Some(log) = &mut self.log else { return self.straight(accepted, revision) };
        match log.append(&record) {
            Ok(()) => {
                self.pending.extend_from_slice(accepted);
                Ok(())
            }
            Err(e) => {
                tracing::warn!(error = %e, "the store's log cannot be written; every batch goes to the store's file");
                self.log = None;
                self.straight(accepted, revision)
            }
        }
    }

    /// Brings the store's file up to date. What cannot be written stays in the log.
    pub fn close(mut self, revision: u64) {
        let filed = self.settle().and_then(|()| {
            if self.pending.is_empty() { Ok(()) } else { self.disk.commit(&self.pending, revision, self.filed) }
        });
        if let Err(e) = filed {
            tracing::warn!(error = %e, "the store's file is behind; its log is read at the next start");
        }
        self.tasks.take();
        if let Some(t) = self.thread.take() {
            let _ = t.join();
        }
    }
}

/// A batch as a record holds it: for each change whether it deletes (1 byte), the lengths of its key and its content
/// (4 each, big-endian), both; for a deletion the content is its resource version alone.
fn encode(accepted: &[Accepted], disk: &Disk) -> Result<Vec<u8>, StoreError> {
    let mut out = Vec::new();
    for a in accepted {
        let deletes = a.change.kind == ChangeKind::Deleted;
        let key = disk::key(&a.key.resource, &a.key.namespace, &a.key.name);
        let content = match deletes {
            true => a.change.object.rv.to_be_bytes().to_vec(),
            false => disk.record(&key, &a.change.object)?,
        };
        out.push(u8::from(deletes));
        for part in [&key, &content] {
            out.extend_from_slice(&u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes());
        }
        out.extend_from_slice(&key);
        out.extend_from_slice(&content);
    }
    Ok(out)
}

/// One change of a record.
pub(super) enum Replayed<'a> {
    /// The key and what stands under it.
    Put(&'a [u8], &'a [u8]),
    /// The key, and the resource version of the deletion.
    Delete(&'a [u8], u64),
}

/// Reads what [`encode`] wrote; `None` when it cannot be.
pub(super) fn decode(mut payload: &[u8]) -> Option<Vec<Replayed<'_>>> {
    let mut out = Vec::new();
    while let Some((deletes, rest)) = payload.split_first() {
        let (key, rest) = rest.split_first_chunk::<4>()?;
        let (content, rest) = rest.split_first_chunk::<4>()?;
        let (key, content) = (u32::from_be_bytes(*key) as usize, u32::from_be_bytes(*content) as usize);
        let (key, rest) = (rest.get(..key)?, rest.get(key..)?);
        let (content, rest) = (rest.get(..content)?, rest.get(content..)?);
        out.push(if *deletes == 1 {
            Replayed::Delete(key, u64::from_be_bytes(content.try_into().ok()?))
        } else {
            Replayed::Put(key, content)
        });
        payload = rest;
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::watch::Change;
    use crate::store::{Encoded, Key, Stored};
    use druse_object::json;

    fn change(name: &str, rv: u64, kind: ChangeKind, text: &str) -> Accepted {
        let encoded =
            Encoded::of(&json::parse(format!(r#"{{"apiVersion":"v1","kind":"A","d":"{text}"}}"#).as_bytes()).unwrap());
        let object = Stored::new("n".into(), name.into(), rv, encoded.head(), encoded.at(rv));
        let change = Change { kind, object: Arc::new(object), previous: None };
        Accepted { key: Key::new("as", "n", name), change: Arc::new(change) }
    }

    /// The names, resource versions and texts a directory holds, and its resource version.
    fn held(dir: &std::path::Path) -> (Vec<(String, u64)>, u64) {
        let (_, loaded) = Disk::open(dir).unwrap();
        let objects = loaded.kinds.iter().flat_map(|(_, objects, _)| objects.values());
        (objects.map(|o| (o.name.to_string(), o.rv)).collect(), loaded.revision)
    }

    /// The files as a crash at this moment leaves them.
    fn crash(dir: &std::path::Path) -> tempfile::TempDir {
        let copy = tempfile::tempdir().unwrap();
        for file in std::fs::read_dir(dir).unwrap() {
            let file = file.unwrap();
            std::fs::copy(file.path(), copy.path().join(file.file_name())).unwrap();
        }
        copy
    }

    fn journal(dir: &std::path::Path) -> Journal {
        let (disk, loaded) = Disk::open(dir).unwrap();
        let mut j = Journal::new(disk, loaded.revision).unwrap();
        let done = j.done.recv().unwrap();
        j.take(done).unwrap();
        j
    }

    #[test]
    fn what_only_the_log_holds_is_there_after_a_crash() {
        let dir = tempfile::tempdir().unwrap();
        let mut j = journal(dir.path());
        j.commit(&[change("a", 1, ChangeKind::Added, "x"), change("b", 2, ChangeKind::Added, "x")], 2, 0).unwrap();
        j.commit(&[change("a", 3, ChangeKind::Deleted, "x"), change("b", 4, ChangeKind::Modified, "y")], 4, 2).unwrap();
        assert_eq!(j.filed, 0);
        let after = crash(dir.path());
        assert_eq!(held(after.path()), (vec![("b".to_owned(), 4)], 4));
        let mut j = journal(after.path());
        j.commit(&[change("c", 5, ChangeKind::Added, "x")], 5, 4).unwrap();
        j.close(5);
        assert_eq!(held(after.path()), (vec![("b".to_owned(), 4), ("c".to_owned(), 5)], 5));
    }

    #[test]
    fn full_log_files_move_to_the_stores_file_and_large_batches_go_straight() {
        let dir = tempfile::tempdir().unwrap();
        let mut j = journal(dir.path());
        let text = "x".repeat(600_000);
        for n in 1..=30u64 {
            let kind = if n == 1 { ChangeKind::Added } else { ChangeKind::Modified };
            j.commit(&[change("a", n, kind, &text)], n, n - 1).unwrap();
        }
        assert!(j.filed > 0);
        let large = "x".repeat(3_000_000);
        j.commit(&[change("b", 31, ChangeKind::Added, &large)], 31, 30).unwrap();
        assert_eq!((j.filed, j.pending.len()), (31, 0));
        j.commit(&[change("c", 32, ChangeKind::Added, "x")], 32, 31).unwrap();
        let after = crash(dir.path());
        let expected = [("a", 30), ("b", 31), ("c", 32)].map(|(n, rv)| (n.to_owned(), rv)).to_vec();
        assert_eq!(held(after.path()), (expected, 32));
    }
}
