//! The one place that orders writes.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread::JoinHandle;

use foldhash::fast::RandomState;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::disk::Disk;
use super::journal::Journal;
use super::memory::State;
use super::watch::{Change, ChangeKind};
use super::{Expect, Key, StoreError, Stored, Write};

/// At most this many writes share one durable transaction.
const BATCH: usize = 512;

type Answer = Result<Arc<Stored>, StoreError>;

/// What the committing thread is asked.
#[derive(Debug)]
pub(super) enum Job {
    /// A write and where its answer goes.
    Write(Box<Write>, oneshot::Sender<Answer>),
    /// Finish what is queued and stop.
    Close,
}

/// The way to the committing thread, or, without a disk, the lock that orders writes.
#[derive(Debug)]
pub(super) struct Committer {
    state: Arc<State>,
    direct: Mutex<()>,
    jobs: Mutex<Option<mpsc::Sender<Job>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    durable: bool,
}

/// A write that passed its check.
#[derive(Clone)]
pub(super) struct Accepted {
    /// What was written.
    pub key: Key,
    /// What watchers will see.
    pub change: Arc<Change>,
}

impl Committer {
    pub fn in_memory(state: Arc<State>) -> Self {
        Self { state, direct: Mutex::new(()), jobs: Mutex::new(None), thread: Mutex::new(None), durable: false }
    }

    pub fn on_disk(state: Arc<State>, disk: Disk) -> Result<Self, StoreError> {
        let (send, receive) = mpsc::channel();
        let shared = state.clone();
        let journal = Journal::new(disk, state.revision())?;
        let thread = std::thread::Builder::new()
            .name("store-commit".into())
            .spawn(move || run(&shared, journal, &receive))
            .map_err(|e| StoreError::Write(e.to_string()))?;
        Ok(Self {
            state,
            direct: Mutex::new(()),
            jobs: Mutex::new(Some(send)),
            thread: Mutex::new(Some(thread)),
            durable: true,
        })
    }

    pub fn submit(&self, write: Write) -> BoxFuture<'static, Answer> {
        if !self.durable {
            let _order = self.direct.lock();
            let mut batch = Batch::new(&self.state);
            let answer = batch.accept(write);
            batch.show(&self.state);
            return futures::future::ready(answer).boxed();
        }
        let (send, receive) = oneshot::channel();
        self.send(Job::Write(Box::new(write), send));
        async move { receive.await.unwrap_or(Err(StoreError::Closed)) }.boxed()
    }

    pub fn send(&self, job: Job) {
        if let Some(jobs) = &*self.jobs.lock() {
            // A closed channel drops the job, and with it the sender its answer would have used.
            let _ = jobs.send(job);
        }
    }

    pub fn join(&self) {
        self.jobs.lock().take();
        if let Some(t) = self.thread.lock().take() {
            let _ = t.join();
        }
    }
}

/// Writes decided together, not yet visible.
struct Batch {
    revision: u64,
    accepted: Vec<Accepted>,
    /// What this batch has already done to an object.
    pending: HashMap<Key, Option<u64>, RandomState>,
    state: Arc<State>,
}

impl Batch {
    fn new(state: &Arc<State>) -> Self {
        Self { revision: state.revision(), accepted: Vec::new(), pending: HashMap::default(), state: state.clone() }
    }

    fn accept(&mut self, write: Write) -> Answer {
        let current = self.state.kind(&write.key.resource).get(&write.key.namespace, &write.key.name);
        let version = self.pending.get(&write.key).copied().unwrap_or(current.as_ref().map(|c| c.rv));
        let holds = match write.expect {
            Expect::Absent => version.is_none(),
            Expect::At(rv) => version == Some(rv),
        };
        // A second write to one object in a batch can only expect what the first has made, which nobody has seen.
        if !holds || self.pending.contains_key(&write.key) {
            return Err(StoreError::Conflict);
        }
        let rv = self.revision + 1;
        let (json, head) = match (&write.object, &current) {
            (Some(o), _) => (o.at(rv), o.head()),
            (None, Some(c)) => (c.json.clone(), c.head),
            (None, None) => return Err(StoreError::Conflict),
        };
        let object = Arc::new(Stored::new(write.key.namespace.clone(), write.key.name.clone(), rv, head, json));
        let kind = match (write.delete, &current) {
            (true, _) => ChangeKind::Deleted,
            (false, None) => ChangeKind::Added,
            (false, Some(_)) => ChangeKind::Modified,
        };
        self.revision = rv;
        self.pending.insert(write.key.clone(), (!write.delete).then_some(rv));
        let change = Arc::new(Change { kind, object: object.clone(), previous: current });
        self.accepted.push(Accepted { key: write.key, change });
        Ok(object)
    }

    fn show(self, state: &State) {
        let mut touched = Vec::new();
        for a in self.accepted {
            let kind = state.kind(&a.key.resource);
            let rv = a.change.object.rv;
            kind.show(a.change);
            state.set_revision(rv);
            if !touched.iter().any(|t: &Arc<super::index::Kind>| Arc::ptr_eq(t, &kind)) {
                touched.push(kind);
            }
        }
        for kind in touched {
            kind.signal.send_replace(self.revision);
        }
    }
}

fn run(state: &Arc<State>, mut journal: Journal, jobs: &mpsc::Receiver<Job>) {
    let mut open = true;
    while open {
        let Ok(first) = jobs.recv() else { break };
        let mut batch = Batch::new(state);
        let mut answers = Vec::new();
        let mut next = Some(first);
        while let Some(job) = next {
            match job {
                Job::Write(w, to) => {
                    let answer = batch.accept(*w);
                    answers.push((to, answer));
                }
                Job::Close => {
                    open = false;
                    break;
                }
            }
            next = if answers.len() < BATCH { jobs.try_recv().ok() } else { None };
        }
        let failed = if batch.accepted.is_empty() {
            None
        } else {
            journal.commit(&batch.accepted, batch.revision, state.revision()).err()
        };
        if failed.is_none() {
            batch.show(state);
        }
        for (to, answer) in answers {
            // A client that went away needs no answer.
            let _ = to.send(match (&failed, answer) {
                (Some(e), Ok(_)) => Err(e.clone()),
                (_, answer) => answer,
            });
        }
    }
    journal.close(state.revision());
}
