//! The in-memory state of one stored type: its objects in key order, and its recent changes.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;

use druse_object::Str;
use parking_lot::RwLock;
use tokio::sync::watch as signal;

use super::Stored;
use super::watch::{Change, ChangeKind, WatchError};

/// How many changes of one type are kept for watchers and paged lists to look back on.
const HISTORY: usize = 4096;
/// How many bytes of text they may hold, unless there are fewer than [`HISTORY_LEAST`].
const HISTORY_BYTES: usize = 16 << 20;
/// So many are kept however large they are.
const HISTORY_LEAST: usize = 64;

type Place = (Str, Str);

/// Part of a list.
#[derive(Debug)]
pub struct Page {
    /// The objects in key order.
    pub items: Vec<Arc<Stored>>,
    /// The resource version all of them are from.
    pub rv: u64,
    /// How many objects follow these.
    pub remaining: usize,
}

#[derive(Debug, Default)]
pub(super) struct Inner {
    pub objects: BTreeMap<Place, Arc<Stored>>,
    /// In resource version order.
    pub history: VecDeque<Arc<Change>>,
    history_bytes: usize,
    /// Every change after this resource version is in `history`.
    pub complete_after: u64,
    /// The global resource version as of the last change shown here.
    pub seen: u64,
}

/// One stored type.
#[derive(Debug)]
pub(super) struct Kind {
    pub inner: RwLock<Inner>,
    pub signal: signal::Sender<u64>,
}

impl Kind {
    pub fn new(complete_after: u64) -> Self {
        let (signal, _) = signal::channel(0);
        Self { inner: RwLock::new(Inner { complete_after, ..Inner::default() }), signal }
    }

    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<Stored>> {
        self.inner.read().objects.get(&(Str::from(namespace), Str::from(name))).cloned()
    }

    /// Shows one committed change.
    pub fn show(&self, change: Arc<Change>) {
        let mut inner = self.inner.write();
        let place = (change.object.namespace.clone(), change.object.name.clone());
        if change.kind == ChangeKind::Deleted {
            inner.objects.remove(&place);
        } else {
            inner.objects.insert(place, change.object.clone());
        }
        inner.history_bytes += change.object.json.len();
        while (inner.history.len() >= HISTORY || inner.history_bytes > HISTORY_BYTES)
            && inner.history.len() >= HISTORY_LEAST
        {
            let Some(old) = inner.history.pop_front() else { break };
            inner.complete_after = old.object.rv;
            inner.history_bytes = inner.history_bytes.saturating_sub(old.object.json.len());
        }
        inner.seen = change.object.rv;
        inner.history.push_back(change);
    }

    pub fn list(
        &self,
        namespace: &str,
        after: Option<(&str, &str)>,
        limit: usize,
        at: Option<u64>,
        revision: impl Fn() -> u64,
    ) -> Result<Page, WatchError> {
        let inner = self.inner.read();
        // Read under the lock: no change of this type newer than it can be missing from what follows.
        let now = revision().max(inner.seen);
        let rv = at.unwrap_or(now);
        let start = match after {
            Some((ns, name)) => Bound::Excluded((Str::from(ns), Str::from(name))),
            None if namespace.is_empty() => Bound::Unbounded,
            None => Bound::Included((Str::from(namespace), Str::default())),
        };
        let inside = |ns: &str| namespace.is_empty() || ns == namespace;
        let current = inner.objects.range((start.clone(), Bound::Unbounded));
        if rv >= inner.seen {
            let mut items = Vec::new();
            let mut remaining = 0;
            for (_, o) in current.take_while(|(k, _)| inside(&k.0)) {
                if items.len() < limit {
                    items.push(o.clone());
                } else {
                    remaining += 1;
                }
            }
            return Ok(Page { items, rv, remaining });
        }
        if rv < inner.complete_after {
            return Err(WatchError::Expired { asked: rv, oldest: inner.complete_after });
        }
        // An older state: take back the changes made since.
        let mut state: BTreeMap<Place, Arc<Stored>> =
            current.take_while(|(k, _)| inside(&k.0)).map(|(k, v)| (k.clone(), v.clone())).collect();
        for c in inner.history.iter().rev().take_while(|c| c.object.rv > rv) {
            let place = (c.object.namespace.clone(), c.object.name.clone());
            let past_start = match &start {
                Bound::Excluded(s) => place > *s,
                Bound::Included(s) => place >= *s,
                Bound::Unbounded => true,
            };
            if !past_start || !inside(&place.0) {
                continue;
            }
            match &c.previous {
                Some(p) => state.insert(place, p.clone()),
                None => state.remove(&place),
            };
        }
        let total = state.len();
        let items: Vec<_> = state.into_values().take(limit).collect();
        let remaining = total - items.len();
        Ok(Page { items, rv, remaining })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn change(rv: u64, name: &str, size: usize, previous: Option<Arc<Stored>>) -> Arc<Change> {
        let object = Arc::new(Stored::new("".into(), name.into(), rv, 0, Bytes::from(vec![b' '; size])));
        let kind = if previous.is_some() { ChangeKind::Modified } else { ChangeKind::Added };
        Arc::new(Change { kind, object, previous })
    }

    #[test]
    fn history_is_bounded_by_count_and_by_size_and_tells_what_it_lost() {
        let kind = Kind::new(0);
        let mut last = None;
        for rv in 1..=5000 {
            let c = change(rv, "a", 10, last.clone());
            last = Some(c.object.clone());
            kind.show(c);
        }
        assert_eq!(kind.inner.read().history.len(), HISTORY);
        assert_eq!(kind.inner.read().complete_after, 5000 - HISTORY as u64);
        let old = kind.list("", None, usize::MAX, Some(10), || 5000);
        assert!(matches!(old, Err(WatchError::Expired { asked: 10, .. })));
        let past = kind.list("", None, usize::MAX, Some(4000), || 5000).unwrap();
        assert_eq!((past.rv, past.items[0].rv), (4000, 4000));
        for rv in 5001..=5200 {
            kind.show(change(rv, "b", 1 << 20, None));
        }
        assert_eq!(kind.inner.read().history.len(), HISTORY_LEAST);
    }

    #[test]
    fn a_watcher_that_is_too_slow_is_told_and_does_not_hold_anything_up() {
        let kind = Arc::new(Kind::new(0));
        let mut watch = super::super::Watch::new(kind.clone(), 0).unwrap();
        kind.show(change(1, "a", 10, None));
        assert_eq!(watch.poll(10).unwrap().len(), 1);
        for rv in 2..=(HISTORY as u64 + 10) {
            kind.show(change(rv, "a", 10, None));
        }
        assert!(matches!(watch.poll(10), Err(WatchError::Expired { asked: 1, .. })));
    }
}
