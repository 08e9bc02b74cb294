//! The store: an index in memory, a committing thread, and a file when there is a directory.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use druse_object::Str;
use foldhash::fast::RandomState;
use futures::future::BoxFuture;
use parking_lot::{Mutex, RwLock};

use super::commit::{Committer, Job};
use super::disk::Disk;
use super::index::{Kind, Page};
use super::watch::{Watch, WatchError};
use super::{Key, Store, StoreError, Stored, Write};

/// How to open a store.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The directory to keep objects in; `None` keeps them in memory only.
    pub dir: Option<PathBuf>,
}

/// Everything readers share.
#[derive(Debug, Default)]
pub(super) struct State {
    kinds: RwLock<HashMap<Str, Arc<Kind>, RandomState>>,
    /// The resource version of the last visible write.
    revision: AtomicU64,
    /// Nothing is known of changes before this resource version: the store was restored then.
    floor: AtomicU64,
}

impl State {
    pub fn kind(&self, resource: &str) -> Arc<Kind> {
        if let Some(k) = self.kinds.read().get(resource) {
            return k.clone();
        }
        let mut kinds = self.kinds.write();
        let floor = self.floor.load(Ordering::Acquire);
        kinds.entry(resource.into()).or_insert_with(|| Arc::new(Kind::new(floor))).clone()
    }

    pub fn revision(&self) -> u64 {
        self.revision.load(Ordering::Acquire)
    }

    pub fn set_revision(&self, rv: u64) {
        self.revision.store(rv, Ordering::Release);
    }
}

/// The embedded store.
#[derive(Debug)]
pub struct MemStore {
    state: Arc<State>,
    committer: Committer,
    closed: Mutex<bool>,
}

impl MemStore {
    /// Opens a store, reading what its directory holds.
    ///
    /// # Errors
    /// When the directory cannot be made or is used by another process, or what it holds is damaged.
    pub fn open(options: Options) -> Result<Self, StoreError> {
        let Some(dir) = options.dir else {
            let state = Arc::new(State::default());
            return Ok(Self { committer: Committer::in_memory(state.clone()), state, closed: Mutex::new(false) });
        };
        let (disk, loaded) = Disk::open(&dir)?;
        let state = Arc::new(State::default());
        state.set_revision(loaded.revision);
        state.floor.store(loaded.floor, Ordering::Release);
        for (resource, objects, last_change) in loaded.kinds {
            let kind = state.kind(&resource);
            let mut inner = kind.inner.write();
            inner.objects = objects;
            // No change of this type happened between its last one and now, so a watch may go on from there.
            inner.complete_after = last_change.max(loaded.floor);
            inner.seen = inner.complete_after;
            drop(inner);
        }
        let committer = Committer::on_disk(state.clone(), disk)?;
        Ok(Self { state, committer, closed: Mutex::new(false) })
    }
}

impl Store for MemStore {
    fn get(&self, key: &Key) -> Option<Arc<Stored>> {
        self.state.kind(&key.resource).get(&key.namespace, &key.name)
    }

    fn list(
        &self,
        resource: &str,
        namespace: &str,
        after: Option<(&str, &str)>,
        limit: usize,
        at: Option<u64>,
    ) -> Result<Page, WatchError> {
        self.state.kind(resource).list(namespace, after, limit, at, || self.state.revision())
    }

    fn watch(&self, resource: &str, after: u64) -> Result<Watch, WatchError> {
        Watch::new(self.state.kind(resource), after)
    }

    fn write(&self, write: Write) -> BoxFuture<'static, Result<Arc<Stored>, StoreError>> {
        self.committer.submit(write)
    }

    fn revision(&self) -> u64 {
        self.state.revision()
    }

    fn last_change(&self, resource: &str) -> u64 {
        self.state.kind(resource).inner.read().seen
    }

    fn count(&self, resource: &str) -> usize {
        self.state.kind(resource).inner.read().objects.len()
    }

    fn resources(&self) -> Vec<Str> {
        let mut all: Vec<Str> = self.state.kinds.read().keys().cloned().collect();
        all.sort();
        all
    }

    fn close(&self) {
        let mut closed = self.closed.lock();
        if !*closed {
            *closed = true;
            self.committer.send(Job::Close);
            self.committer.join();
        }
    }
}

impl Drop for MemStore {
    fn drop(&mut self) {
        self.close();
    }
}
