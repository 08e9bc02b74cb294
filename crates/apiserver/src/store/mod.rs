//! Where objects are kept: an ordered in-memory index over a durable log, with one global resource version.
//!
//! Objects are kept as the JSON text they are served as ([`Stored`]): a get or a watch event copies bytes and parses
//! nothing, and text is several times smaller than a tree of values, which is what counts on a small machine. Only
//! writes, selectors on fields and tables parse.
//!
//! One thread orders all writes ([`commit`]). It takes what has queued up, gives each write its resource version,
//! makes them durable together ([`journal`]: a write-ahead [`log`], and behind it the store's file, [`disk`]) and only
//! then shows them to readers and watchers and answers: what has been acknowledged or seen is on disk. Without a
//! directory the same happens in memory only.

mod commit;
mod disk;
mod encode;
mod index;
mod journal;
mod log;
mod memory;
mod snapshot;
mod watch;

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use druse_object::Str;
use futures::future::BoxFuture;

pub use encode::Encoded;
pub use index::Page;
pub use memory::{MemStore, Options};
pub use snapshot::{restore, snapshot};
pub use watch::{Change, ChangeKind, Watch, WatchError};

/// The name of the thread that opens a store. A panic on it means damaged data and becomes [`StoreError::Corrupt`], so a
/// program may leave it out of what its panic hook shows.
pub const OPENING: &str = "druse-store-open";

/// Names one object: its stored type, namespace (empty when cluster-scoped) and name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// The stored type: `deployments.apps`.
    pub resource: Str,
    /// The namespace, empty when cluster-scoped.
    pub namespace: Str,
    /// The name.
    pub name: Str,
}

impl Key {
    /// From its parts.
    pub fn new(resource: impl Into<Str>, namespace: impl Into<Str>, name: impl Into<Str>) -> Self {
        Self { resource: resource.into(), namespace: namespace.into(), name: name.into() }
    }
}

/// One object at one resource version.
#[derive(Debug)]
pub struct Stored {
    /// Namespace, empty when cluster-scoped.
    pub namespace: Str,
    /// Name.
    pub name: Str,
    /// The resource version, also inside the text.
    pub rv: u64,
    /// How many bytes of `json` are the opening brace, `apiVersion` and `kind` with their comma.
    pub head: u16,
    /// The whole object.
    pub json: Bytes,
    labels: std::sync::OnceLock<Box<[(Str, Str)]>>,
}

impl Stored {
    pub(crate) fn new(namespace: Str, name: Str, rv: u64, head: u16, json: Bytes) -> Self {
        Self { namespace, name, rv, head, json, labels: std::sync::OnceLock::new() }
    }

    /// The object as a value.
    ///
    /// # Errors
    /// When the stored text is no JSON, which only damage to memory or disk can cause.
    pub fn value(&self) -> Result<druse_object::Value, StoreError> {
        druse_object::json::parse(&self.json)
            .map_err(|e| StoreError::Corrupt(format!("object {}/{}: {e}", self.namespace, self.name)))
    }

    /// Its labels, read once.
    pub fn labels(&self) -> &[(Str, Str)] {
        self.labels.get_or_init(|| {
            #[derive(serde::Deserialize)]
            struct Outer {
                #[serde(default)]
                metadata: Meta,
            }
            #[derive(serde::Deserialize, Default)]
            struct Meta {
                #[serde(default)]
                labels: Option<std::collections::BTreeMap<String, String>>,
            }
            serde_json::from_slice::<Outer>(&self.json)
                .ok()
                .and_then(|o| o.metadata.labels)
                .unwrap_or_default()
                .into_iter()
                .map(|(k, v)| (k.into(), v.into()))
                .collect()
        })
    }

    /// A label's value.
    pub fn label(&self, key: &str) -> Option<&str> {
        self.labels().iter().find(|(k, _)| k == key).map(|(_, v)| v.as_str())
    }
}

/// What must hold for a write to happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// No such object.
    Absent,
    /// The object at exactly this resource version.
    At(u64),
}

/// A write: what it is about, what must hold, and the new text (`None` deletes).
#[derive(Clone, Debug)]
pub struct Write {
    /// The object.
    pub key: Key,
    /// What must hold.
    pub expect: Expect,
    /// The new text, without its resource version; for a deletion the last state watchers shall see.
    pub object: Option<Encoded>,
    /// Whether this removes the object.
    pub delete: bool,
}

/// Why a store cannot do what it was asked.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// The object is not as the write expects; read again and decide anew.
    #[error("the object changed meanwhile")]
    Conflict,
    /// Another process serves this directory.
    #[error("{0} is used by another process: stop it, or choose another data directory")]
    Locked(PathBuf),
    /// The directory cannot be used.
    #[error("data directory {path}: {cause}")]
    Directory {
        /// Which directory or file.
        path: PathBuf,
        /// What the system said.
        cause: String,
    },
    /// The disk refused a write; nothing was changed.
    #[error("write to the data directory failed: {0}")]
    Write(String),
    /// What is stored is damaged.
    #[error("stored data is damaged: {0}; restore a snapshot, or start with an empty data directory")]
    Corrupt(String),
    /// A backup cannot be read.
    #[error("the backup cannot be restored: {0}")]
    Snapshot(String),
    /// The store is shut down.
    #[error("the store is closed")]
    Closed,
}

/// A place to keep objects.
///
/// Implementations promise: writes to one object are linearizable; resource versions strictly grow over all objects
/// and restarts; a write that returned is durable (as far as the implementation is); readers and watchers see writes
/// in the order of their resource versions and never one that could still be lost.
pub trait Store: Send + Sync + 'static {
    /// One object.
    fn get(&self, key: &Key) -> Option<Arc<Stored>>;
    /// Objects of a type in key order, all from one moment. `namespace` empty means all; `after` skips keys up to and
    /// with it; `at` asks for the state at that resource version.
    ///
    /// # Errors
    /// `WatchError::Expired` when the state at `at` is no longer known.
    fn list(
        &self,
        resource: &str,
        namespace: &str,
        after: Option<(&str, &str)>,
        limit: usize,
        at: Option<u64>,
    ) -> Result<Page, WatchError>;
    /// Changes of a type after a resource version.
    ///
    /// # Errors
    /// `WatchError::Expired` when changes since then are no longer known.
    fn watch(&self, resource: &str, after: u64) -> Result<Watch, WatchError>;
    /// Does a write; answers the object as it is now stored (for a deletion, its last state).
    fn write(&self, write: Write) -> BoxFuture<'static, Result<Arc<Stored>, StoreError>>;
    /// The resource version of the last visible write.
    fn revision(&self) -> u64;
    /// The resource version of a type's last change; 0 when there was none.
    fn last_change(&self, resource: &str) -> u64;
    /// How many objects of a type there are.
    fn count(&self, resource: &str) -> usize;
    /// The stored types that hold or held objects, sorted.
    fn resources(&self) -> Vec<Str>;
    /// Waits for queued writes and closes files; later writes fail.
    fn close(&self);
}
