//! Watching a stored type: a cursor into its recent changes.
//!
//! A watcher holds no queue. It reads the shared history at its own pace; when the history has moved past it, it ends
//! with [`WatchError::Expired`] and the client lists again. So slow watchers neither delay writers nor grow memory.

use std::sync::Arc;

use tokio::sync::watch as signal;

use super::Stored;
use super::index::Kind;

/// What happened to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    /// It is new.
    Added,
    /// It was replaced.
    Modified,
    /// It is gone.
    Deleted,
}

/// One committed change.
#[derive(Debug)]
pub struct Change {
    /// What happened.
    pub kind: ChangeKind,
    /// The new state; for a deletion the last state, at the deletion's resource version.
    pub object: Arc<Stored>,
    /// The state before.
    pub previous: Option<Arc<Stored>>,
}

/// Why a watch or a list in the past cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WatchError {
    /// Changes since then are no longer known.
    #[error("too old resource version: {asked} ({oldest})")]
    Expired {
        /// The resource version asked for.
        asked: u64,
        /// The oldest one still known.
        oldest: u64,
    },
}

/// An open watch.
#[derive(Debug)]
pub struct Watch {
    kind: Arc<Kind>,
    signal: signal::Receiver<u64>,
    cursor: u64,
}

impl Watch {
    pub(super) fn new(kind: Arc<Kind>, after: u64) -> Result<Self, WatchError> {
        let signal = kind.signal.subscribe();
        {
            let inner = kind.inner.read();
            if after < inner.complete_after {
                return Err(WatchError::Expired { asked: after, oldest: inner.complete_after });
            }
        }
        Ok(Self { kind, signal, cursor: after })
    }

    /// Changes since the last call, without waiting; at most `max`.
    ///
    /// # Errors
    /// `Expired` when this watcher was too slow.
    pub fn poll(&mut self, max: usize) -> Result<Vec<Arc<Change>>, WatchError> {
        let inner = self.kind.inner.read();
        if self.cursor < inner.complete_after {
            return Err(WatchError::Expired { asked: self.cursor, oldest: inner.complete_after });
        }
        let from = inner.history.partition_point(|c| c.object.rv <= self.cursor);
        let out: Vec<_> = inner.history.iter().skip(from).take(max).cloned().collect();
        if let Some(last) = out.last() {
            self.cursor = last.object.rv;
        }
        Ok(out)
    }

    /// Waits until something may have changed. `false` when the store is gone.
    pub async fn changed(&mut self) -> bool {
        self.signal.changed().await.is_ok()
    }
}
