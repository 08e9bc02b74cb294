//! Work queues: keys to reconcile, each at most once at a time, with requeues and backoff.
//!
//! The semantics of client-go's rate-limited work queue: a key added while it is being worked on runs again when it is
//! done; a failure comes back after a growing pause.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tracing::debug;

use crate::cache::{Cache, Change, Key};

/// What to do with a key after it was worked on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Nothing, until something changes.
    Wait,
    /// Again after this long.
    After(Duration),
    /// It failed in a way that may pass: again after a growing pause.
    Retry,
}

/// Works on one key at a time.
pub trait Reconciler: Send + Sync + 'static {
    /// Brings the world closer to what the object under `key` declares. Must be safe to repeat.
    fn reconcile(&self, key: Key) -> impl Future<Output = Next> + Send;
}

struct Inner {
    ready: VecDeque<Key>,
    queued: HashSet<Key>,
    running: HashSet<Key>,
    again: HashSet<Key>,
    delayed: BTreeMap<(Instant, u64), Key>,
    delayed_at: HashMap<Key, (Instant, u64)>,
    failures: HashMap<Key, u32>,
    next_id: u64,
}

/// A queue of keys. Cheap to clone.
#[derive(Clone)]
pub struct Queue {
    inner: Arc<Mutex<Inner>>,
    wake: Arc<Notify>,
    busy: Busy,
    /// Turn true when the caches that feed the queue are complete.
    fed_by: Arc<Mutex<Vec<watch::Receiver<bool>>>>,
}

/// Counts work that is queued or running, over all queues of a manager.
#[derive(Clone)]
struct Busy {
    count: Arc<AtomicUsize>,
    changed: Arc<watch::Sender<u64>>,
}

impl Busy {
    fn up(&self) {
        self.count.fetch_add(1, Ordering::SeqCst);
        self.changed.send_modify(|n| *n += 1);
    }
    fn down(&self) {
        self.count.fetch_sub(1, Ordering::SeqCst);
        self.changed.send_modify(|n| *n += 1);
    }
}

impl Queue {
    fn new(busy: Busy) -> Self {
        Self {
            inner: Arc::new(Mutex::new(Inner {
                ready: VecDeque::new(),
                queued: HashSet::new(),
                running: HashSet::new(),
                again: HashSet::new(),
                delayed: BTreeMap::new(),
                delayed_at: HashMap::new(),
                failures: HashMap::new(),
                next_id: 0,
            })),
            wake: Arc::default(),
            busy,
            fed_by: Arc::default(),
        }
    }

    /// Adds a key now; nothing happens when it already waits.
    pub fn add(&self, key: Key) {
        let mut q = self.inner.lock();
        if let Some(at) = q.delayed_at.remove(&key) {
            q.delayed.remove(&at);
        }
        if q.running.contains(&key) {
            q.again.insert(key);
        } else if q.queued.insert(key.clone()) {
            q.ready.push_back(key);
            self.busy.up();
            self.wake.notify_one();
        }
    }

    /// Adds a key after a while; an earlier time already set stays.
    pub fn add_after(&self, key: Key, after: Duration) {
        let at = Instant::now() + after;
        let mut q = self.inner.lock();
        if q.queued.contains(&key) {
            return;
        }
        if let Some(old) = q.delayed_at.get(&key).copied() {
            if old.0 <= at {
                return;
            }
            q.delayed.remove(&old);
        }
        q.next_id += 1;
        let slot = (at, q.next_id);
        q.delayed.insert(slot, key.clone());
        q.delayed_at.insert(key, slot);
        self.wake.notify_one();
    }

    /// The next key whose time has come, marked as running.
    async fn next(&self) -> Key {
        loop {
            let until = {
                let mut q = self.inner.lock();
                let now = Instant::now();
                while let Some((&slot, _)) = q.delayed.first_key_value() {
                    if slot.0 > now {
                        break;
                    }
                    if let Some(key) = q.delayed.remove(&slot) {
                        q.delayed_at.remove(&key);
                        if q.running.contains(&key) {
                            q.again.insert(key);
                        } else if q.queued.insert(key.clone()) {
                            q.ready.push_back(key);
                            self.busy.up();
                        }
                    }
                }
                if let Some(key) = q.ready.pop_front() {
                    q.queued.remove(&key);
                    q.running.insert(key.clone());
                    return key;
                }
                q.delayed.first_key_value().map(|(slot, _)| slot.0)
            };
            match until {
                Some(at) => {
                    tokio::select! {
                        () = tokio::time::sleep_until(at) => {}
                        () = self.wake.notified() => {}
                    }
                }
                None => self.wake.notified().await,
            }
        }
    }

    fn done(&self, key: Key, next: Next) {
        let mut q = self.inner.lock();
        q.running.remove(&key);
        let again = q.again.remove(&key);
        let failures = if next == Next::Retry {
            let n = q.failures.entry(key.clone()).or_insert(0);
            *n += 1;
            *n
        } else {
            q.failures.remove(&key);
            0
        };
        drop(q);
        if again {
            self.add(key);
        } else {
            match next {
                Next::Wait => {}
                Next::After(d) => self.add_after(key, d),
                Next::Retry => self.add_after(key, backoff(failures)),
            }
        }
        self.busy.down();
    }

    /// Keys a change of another kind concerns: `map` names them.
    pub fn feed(
        &self,
        cache: &Cache,
        map: impl Fn(&Change) -> Vec<Key> + Send + 'static,
    ) -> tokio::task::JoinHandle<()> {
        self.fed_by.lock().push(cache.sync_signal());
        let mut changes = cache.subscribe();
        let queue = self.clone();
        tokio::spawn(async move {
            while let Some(change) = changes.recv().await {
                map(&change).into_iter().for_each(|k| queue.add(k));
            }
        })
    }
}

/// Waits until all caches that feed a queue have taken in their first list: what is not in them does not exist.
async fn synced(queue: &Queue) {
    let pending = |r: &watch::Receiver<bool>| !*r.borrow();
    loop {
        let next = queue.fed_by.lock().iter().find(|r| pending(r)).cloned();
        let Some(mut signal) = next else { return };
        if signal.wait_for(|s| *s).await.is_err() {
            // The cache is gone, and never gets there.
            queue.fed_by.lock().retain(|r| r.has_changed().is_ok());
        }
    }
}

/// 25 ms doubling to two minutes.
fn backoff(failures: u32) -> Duration {
    Duration::from_millis(25 << failures.saturating_sub(1).min(12)).min(Duration::from_secs(120))
}

/// Runs reconcilers and knows when there is nothing left to do. Dropping it stops them.
pub struct Manager {
    busy: Busy,
    tasks: Mutex<Vec<tokio::task::JoinHandle<()>>>,
}

impl Default for Manager {
    fn default() -> Self {
        Self::new()
    }
}

impl Manager {
    /// With nothing to run yet.
    #[must_use]
    pub fn new() -> Self {
        Self { busy: Busy { count: Arc::default(), changed: Arc::new(watch::Sender::new(0)) }, tasks: Mutex::default() }
    }

    /// A queue whose work counts as this manager's.
    #[must_use]
    pub fn queue(&self) -> Queue {
        Queue::new(self.busy.clone())
    }

    /// Keeps a task until the manager is dropped.
    pub fn keep(&self, task: tokio::task::JoinHandle<()>) {
        self.tasks.lock().push(task);
    }

    /// Feeds a queue with every change of a kind, under the object's own key.
    pub fn watch(&self, queue: &Queue, cache: &Cache) {
        self.keep(queue.feed(cache, |c| vec![c.key.clone()]));
    }

    /// Feeds a queue with the keys that a change of another kind concerns.
    pub fn watch_mapped(&self, queue: &Queue, cache: &Cache, map: impl Fn(&Change) -> Vec<Key> + Send + 'static) {
        self.keep(queue.feed(cache, map));
    }

    /// Works on a queue, on at most `concurrency` keys at a time, once all that feeds it has been listed.
    #[allow(clippy::needless_pass_by_value)]
    pub fn run<R: Reconciler>(&self, name: &'static str, queue: &Queue, reconciler: Arc<R>, concurrency: usize) {
        for _ in 0..concurrency.max(1) {
            let (queue, reconciler) = (queue.clone(), reconciler.clone());
            self.keep(tokio::spawn(async move {
                loop {
                    let key = queue.next().await;
                    synced(&queue).await;
                    // A panic in one reconcile must not end the worker nor leave its key marked as running.
                    let work = tokio::spawn({
                        let (reconciler, key) = (reconciler.clone(), key.clone());
                        async move { reconciler.reconcile(key).await }
                    });
                    let next = work.await.unwrap_or(Next::Retry);
                    debug!(controller = name, %key, ?next, "reconciled");
                    queue.done(key, next);
                }
            }));
        }
    }

    /// How many keys wait or run now; delayed ones do not count.
    #[must_use]
    pub fn busy(&self) -> usize {
        self.busy.count.load(Ordering::SeqCst)
    }

    /// Waits until anything is queued or done.
    pub async fn moved(&self) {
        let mut changed = self.busy.changed.subscribe();
        let _sender_lives = changed.changed().await;
    }

    /// Waits until nothing has waited or run for `quiet` (events may be on their way when the queues are empty).
    pub async fn idle(&self, quiet: Duration) {
        let mut changed = self.busy.changed.subscribe();
        loop {
            changed.mark_unchanged();
            if self.busy() == 0 {
                tokio::select! {
                    () = tokio::time::sleep(quiet) => return,
                    _ = changed.changed() => {}
                }
            } else {
                let _sender_lives = changed.changed().await;
            }
        }
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        self.tasks.lock().iter().for_each(tokio::task::JoinHandle::abort);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Count(Arc<Mutex<Vec<Key>>>, Next);
    impl Reconciler for Count {
        async fn reconcile(&self, key: Key) -> Next {
            let mut seen = self.0.lock();
            seen.push(key);
            if seen.len() < 3 { self.1 } else { Next::Wait }
        }
    }

    async fn three_times(next: Next) {
        let manager = Manager::new();
        let queue = manager.queue();
        let seen = Arc::default();
        manager.run("count", &queue, Arc::new(Count(Arc::clone(&seen), next)), 2);
        queue.add(Key::new("ns", "a"));
        while seen.lock().len() < 3 {
            tokio::task::yield_now().await;
        }
        manager.idle(Duration::from_millis(1)).await;
        assert_eq!(seen.lock().len(), 3);
    }

    #[tokio::test]
    async fn a_failure_is_tried_again() {
        three_times(Next::Retry).await;
    }

    #[tokio::test]
    async fn a_requeue_comes_back_after_its_time() {
        three_times(Next::After(Duration::from_millis(1))).await;
    }

    #[tokio::test]
    async fn a_key_waits_only_once() {
        let manager = Manager::new();
        let queue = manager.queue();
        queue.add(Key::new("ns", "a"));
        queue.add(Key::new("ns", "a"));
        assert_eq!(manager.busy(), 1);
    }
}
