//! What a controller wrote and its caches must show before it decides again.
//!
//! Caches lag behind the API. A controller that counted pods too early would make those once more that it made just now;
//! upstream's controllers keep expectations against that. Here every write leaves a mark, which goes when the cache shows
//! the object as new as the write left it, or not any more.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use druse_object::{Str, Value};
use druse_runtime::{Api, Cache, Change, Key, Next};
use parking_lot::Mutex;
use tokio::time::Instant;

/// How long a cache may lack a new object before the API is asked whether it is there at all.
const PATIENCE: Duration = Duration::from_secs(1);

/// The marks of one controller's writes, for each object it works on.
#[derive(Default)]
pub struct Written(Mutex<HashMap<Key, Marks>>);

#[derive(Default)]
struct Marks {
    marks: Vec<Mark>,
    /// A reconcile was put off until the caches show what was written.
    waiting: bool,
}

struct Mark {
    cache: Arc<Cache>,
    key: Key,
    uid: Str,
    version: u64,
    /// The cache did not know the object before: that it lacks it does not mean that the object is gone.
    made: bool,
    at: Instant,
}

/// What a cache says about a mark.
#[derive(PartialEq, Eq)]
enum Seen {
    Yes,
    NotYet,
    /// It may not be there yet, or not any more.
    Missing,
}

impl Mark {
    fn seen(&self) -> Seen {
        match self.cache.get(&self.key) {
            Some(v) if uid(&v) != Some(&self.uid) => Seen::Yes,
            Some(v) if version(&v) >= self.version => Seen::Yes,
            None if self.made => Seen::Missing,
            None => Seen::Yes,
            Some(_) => Seen::NotYet,
        }
    }
}

impl Written {
    /// An object was made; `answer` is what the API said.
    pub fn made(&self, owner: &Key, cache: &Arc<Cache>, answer: &Value) {
        self.mark(owner, cache, answer, version(answer), true);
    }

    /// An object the cache knows was changed; `answer` is what the API said.
    pub fn changed(&self, owner: &Key, cache: &Arc<Cache>, answer: &Value) {
        self.mark(owner, cache, answer, version(answer), false);
    }

    /// An object the cache knows as `before` was asked to go.
    pub fn deleted(&self, owner: &Key, cache: &Arc<Cache>, before: &Value) {
        self.mark(owner, cache, before, version(before) + 1, false);
    }

    fn mark(&self, owner: &Key, cache: &Arc<Cache>, object: &Value, version: u64, made: bool) {
        let mark = Mark {
            cache: cache.clone(),
            key: Key::of(object),
            uid: uid(object).unwrap_or_default().into(),
            version,
            made,
            at: Instant::now(),
        };
        self.0.lock().entry(owner.clone()).or_default().marks.push(mark);
    }

    /// `None` when the caches show all that was written for `owner`; otherwise what its reconcile ends with, which comes
    /// back with the object that is missing.
    pub async fn awaited(&self, owner: &Key, api: &Api) -> Option<Next> {
        let mut marks = {
            let mut all = self.0.lock();
            let kept = all.get_mut(owner)?;
            // Now, so that a change that comes in between is not missed.
            kept.waiting = true;
            std::mem::take(&mut kept.marks)
        };
        marks.retain(|m| m.seen() != Seen::Yes);
        let mut left = Vec::new();
        for mark in marks {
            let lost = mark.made && mark.at.elapsed() >= PATIENCE && mark.seen() == Seen::Missing;
            if !lost || self.still_there(&mark, api).await {
                left.push(mark);
            }
        }
        let mut all = self.0.lock();
        if left.is_empty() {
            all.remove(owner);
            return None;
        }
        let kept = all.entry(owner.clone()).or_default();
        kept.marks.extend(left);
        kept.waiting = true;
        Some(Next::After(PATIENCE))
    }

    /// The object that marks are kept for, when it may be decided about: it is there, and the caches show all that was
    /// written for it. Otherwise what its reconcile ends with; what is kept for one that is gone goes.
    pub async fn owner(&self, owners: &Cache, key: &Key, api: &Api) -> Result<Arc<Value>, Next> {
        let Some(owner) = owners.get(key) else {
            self.forget(key);
            return Err(Next::Wait);
        };
        match self.awaited(key, api).await {
            Some(next) => Err(next),
            None => Ok(owner),
        }
    }

    /// Whether a reconcile of `owner` was put off until the caches show what was written.
    pub fn is_waiting(&self, owner: &Key) -> bool {
        self.0.lock().get(owner).is_some_and(|m| m.waiting)
    }

    /// Whether a change of a child is more than what was written for `owner`, or what its reconcile waits for.
    pub fn is_news(&self, owner: &Key, change: &Change) -> bool {
        let all = self.0.lock();
        let Some(marks) = all.get(owner).filter(|m| !m.waiting) else { return true };
        let own = |m: &Mark| match (&change.new, &change.old) {
            (Some(now), _) => uid(now) == Some(&m.uid) && version(now) <= m.version,
            (None, Some(before)) => uid(before) == Some(&m.uid) && version(before) < m.version,
            (None, None) => false,
        };
        !marks.marks.iter().any(own)
    }

    async fn still_there(&self, mark: &Mark, api: &Api) -> bool {
        match api.get(mark.cache.resource(), &mark.key.namespace, &mark.key.name).await {
            Ok(found) => found.is_some_and(|v| uid(&v) == Some(&mark.uid)),
            Err(_) => true,
        }
    }

    /// The object is gone: nothing is waited for any more.
    pub fn forget(&self, owner: &Key) {
        self.0.lock().remove(owner);
    }
}

fn uid(v: &Value) -> Option<&str> {
    v.str_at(["metadata", "uid"])
}

/// A resourceVersion as the number it is; 0 when it is none.
fn version(v: &Value) -> u64 {
    v.str_at(["metadata", "resourceVersion"]).and_then(|t| t.parse().ok()).unwrap_or(0)
}
