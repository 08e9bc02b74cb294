//! Watch caches: one per kind and process, kept current by a list and a watch, shared by all who need the kind.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use druse_object::{Str, Value};
use http_body_util::BodyExt;
use parking_lot::{Mutex, RwLock};
use tokio::sync::{Notify, mpsc, watch};
use tracing::{debug, warn};

use crate::api::{Api, ApiError, ListOptions, Resource};
use crate::queue::Manager;

/// Namespace (empty for cluster-scoped objects) and name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// The namespace; empty for cluster-scoped objects.
    pub namespace: Str,
    /// The name.
    pub name: Str,
}

impl Key {
    /// From both parts.
    pub fn new(namespace: impl Into<Str>, name: impl Into<Str>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }
    /// Of an object.
    #[must_use]
    pub fn of(v: &Value) -> Self {
        Self::new(
            v.str_at(["metadata", "namespace"]).unwrap_or_default(),
            v.str_at(["metadata", "name"]).unwrap_or_default(),
        )
    }
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if !self.namespace.is_empty() {
            write!(f, "{}/", self.namespace)?;
        }
        f.write_str(&self.name)
    }
}

/// What happened to an object.
#[derive(Clone, Debug)]
pub struct Change {
    /// Which.
    pub key: Key,
    /// What it was before, when the cache knew it.
    pub old: Option<Arc<Value>>,
    /// What it is now; `None` when it is gone.
    pub new: Option<Arc<Value>>,
}

#[derive(Default)]
struct State {
    objects: BTreeMap<Key, Arc<Value>>,
    subscribers: Vec<mpsc::UnboundedSender<Change>>,
}

/// The current objects of one kind, eventually consistent with the API, without their managed fields (and definitions
/// without their schemas).
pub struct Cache {
    resource: Resource,
    /// The label selector; empty for all objects.
    labels: String,
    state: RwLock<State>,
    synced: watch::Sender<bool>,
}

impl Cache {
    /// The kind cached.
    #[must_use]
    pub fn resource(&self) -> &Resource {
        &self.resource
    }
    /// One object.
    #[must_use]
    pub fn get(&self, key: &Key) -> Option<Arc<Value>> {
        self.state.read().objects.get(key).cloned()
    }
    /// All objects in key order.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Value>> {
        self.state.read().objects.values().cloned().collect()
    }
    /// The objects of one namespace in name order.
    #[must_use]
    pub fn in_namespace(&self, namespace: &str) -> Vec<Arc<Value>> {
        self.state
            .read()
            .objects
            .range(Key::new(namespace, "")..)
            .take_while(|(k, _)| k.namespace == namespace)
            .map(|(_, v)| v.clone())
            .collect()
    }
    /// How many objects there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.state.read().objects.len()
    }
    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// All changes from now on, after one change for each object already here.
    #[must_use]
    pub fn subscribe(&self) -> mpsc::UnboundedReceiver<Change> {
        let (tx, rx) = mpsc::unbounded_channel();
        let mut state = self.state.write();
        for (key, v) in &state.objects {
            let _receiver_is_here = tx.send(Change { key: key.clone(), old: None, new: Some(v.clone()) });
        }
        state.subscribers.push(tx);
        rx
    }
    /// Waits until the first list has been taken in.
    pub async fn synced(&self) {
        let mut rx = self.synced.subscribe();
        // The sender lives as long as `self`, so this ends only with `true`.
        let _sender_lives = rx.wait_for(|s| *s).await;
    }

    /// Turns true with the first list.
    pub(crate) fn sync_signal(&self) -> watch::Receiver<bool> {
        self.synced.subscribe()
    }

    fn put(&self, mut v: Value) {
        trim(&mut v);
        let key = Key::of(&v);
        let new = Arc::new(v);
        let mut state = self.state.write();
        let old = state.objects.insert(key.clone(), new.clone());
        if old.as_ref().is_some_and(|o| version(o) == version(&new)) {
            return;
        }
        tell(&mut state.subscribers, &Change { key, old, new: Some(new) });
    }

    fn remove(&self, key: Key) {
        let mut state = self.state.write();
        if let Some(old) = state.objects.remove(&key) {
            tell(&mut state.subscribers, &Change { key, old: Some(old), new: None });
        }
    }

    fn replace(&self, items: Vec<Value>) {
        let mut gone: BTreeMap<Key, ()> = self.state.read().objects.keys().map(|k| (k.clone(), ())).collect();
        for v in items {
            gone.remove(&Key::of(&v));
            self.put(v);
        }
        gone.into_keys().for_each(|k| self.remove(k));
        self.synced.send_replace(true);
    }
}

/// Leaves out what no controller reads from a cache and what is large: who owns which field, and the schemas of
/// definitions. Whoever needs the whole object asks the API.
fn trim(v: &mut Value) {
    if let Some(m) = v.get_mut("metadata").and_then(Value::as_map_mut) {
        m.remove("managedFields");
    }
    if v["kind"].as_str() == Some("CustomResourceDefinition") {
        for version in
            v.get_mut("spec").and_then(|s| s.get_mut("versions")).and_then(Value::as_array_mut).into_iter().flatten()
        {
            if let Some(m) = version.as_map_mut() {
                m.remove("schema");
            }
        }
    }
}

fn version(v: &Value) -> Option<&str> {
    v.str_at(["metadata", "resourceVersion"])
}

fn tell(subscribers: &mut Vec<mpsc::UnboundedSender<Change>>, change: &Change) {
    subscribers.retain(|s| s.send(change.clone()).is_ok());
}

/// The cache of each kind and label selector, and the task that keeps it current.
type Running = Arc<Mutex<HashMap<(Resource, String), (Arc<Cache>, tokio::task::AbortHandle)>>>;

/// The caches of a process: each kind is watched once. Cheap to clone; the watches end with the last clone.
#[derive(Clone)]
pub struct Caches {
    api: Api,
    running: Running,
    /// Woken when kinds that were not served may be now.
    retry: Arc<Notify>,
    _guard: Arc<Guard>,
}

struct Guard(Running);
impl Drop for Guard {
    fn drop(&mut self) {
        self.0.lock().values().for_each(|(_, task)| task.abort());
    }
}

impl Caches {
    /// None yet; each starts when first asked for.
    #[must_use]
    pub fn new(api: Api) -> Self {
        let running = Running::default();
        Self { api, _guard: Arc::new(Guard(running.clone())), running, retry: Arc::default() }
    }

    /// The API watched.
    #[must_use]
    pub fn api(&self) -> &Api {
        &self.api
    }

    /// The cache of a kind, started when it is the first to ask. A kind not served yet is waited for.
    #[must_use]
    pub fn of(&self, resource: &Resource) -> Arc<Cache> {
        self.labelled(resource, "")
    }

    /// As [`Self::of`], of the objects alone that a label selector chooses (`app=web`).
    #[must_use]
    pub fn labelled(&self, resource: &Resource, labels: &str) -> Arc<Cache> {
        let mut running = self.running.lock();
        let wanted = (resource.clone(), labels.to_owned());
        if let Some((cache, _)) = running.get(&wanted) {
            return cache.clone();
        }
        let cache = Arc::new(Cache {
            resource: resource.clone(),
            labels: labels.to_owned(),
            state: RwLock::default(),
            synced: watch::Sender::new(false),
        });
        let task = tokio::spawn(keep_current(self.api.clone(), cache.clone(), self.retry.clone()));
        running.insert(wanted, (cache.clone(), task.abort_handle()));
        cache
    }

    /// Ends all watches now, before the API they watch goes away; the caches keep what they know.
    pub fn stop(&self) {
        self.running.lock().values().for_each(|(_, task)| task.abort());
    }

    /// Looks again for kinds that were not served whenever a definition in `definitions` changes, instead of waiting for
    /// the next round.
    pub fn retry_missing_on(&self, manager: &Manager, definitions: &Resource) {
        let mut changes = self.of(definitions).subscribe();
        let retry = self.retry.clone();
        manager.keep(tokio::spawn(async move {
            while changes.recv().await.is_some() {
                retry.notify_waiters();
            }
        }));
    }
}

/// Lists, watches, and starts over whenever the watch breaks or is too old. Never ends.
async fn keep_current(api: Api, cache: Arc<Cache>, retry: Arc<Notify>) {
    let mut pause = Duration::from_millis(5);
    loop {
        match list_and_watch(&api, &cache).await {
            Ok(()) => pause = Duration::from_millis(5),
            Err(e) => {
                if e.is_not_found() {
                    // The kind is not served: it has no objects.
                    cache.replace(Vec::new());
                    debug!(kind = %cache.resource.gvk, "not served yet");
                } else {
                    warn!(kind = %cache.resource.gvk, "watch broke, starting over: {e}");
                }
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    () = retry.notified() => {}
                }
                pause = (pause * 2).min(Duration::from_secs(2));
            }
        }
    }
}

async fn list_and_watch(api: &Api, cache: &Cache) -> Result<(), ApiError> {
    let chosen = ListOptions { labels: cache.labels.clone(), ..ListOptions::default() };
    let (items, mut from) = api.list(&cache.resource, "", &chosen).await?;
    cache.replace(items);
    loop {
        let mut body = match api.watch(&cache.resource, &chosen, &from).await {
            Ok(r) => r.into_body(),
            Err(e) if e.code() == 410 => return Ok(()),
            Err(e) => return Err(e),
        };
        let mut buffer: Vec<u8> = Vec::new();
        while let Some(frame) = body.frame().await {
            let Ok(frame) = frame else { break };
            let Ok(data) = frame.into_data() else { continue };
            let mut rest: &[u8] = &data;
            while let Some(end) = rest.iter().position(|b| *b == b'\n') {
                buffer.extend_from_slice(&rest[..end]);
                rest = &rest[end + 1..];
                let line = std::mem::take(&mut buffer);
                if line.iter().all(u8::is_ascii_whitespace) {
                    continue;
                }
                let mut event = druse_object::json::parse(&line)
                    .map_err(|e| ApiError::Transport(format!("watch event is not JSON: {e}")))?;
                let object = event.get_mut("object").map(std::mem::take).unwrap_or_default();
                if event["type"].as_str() == Some("ERROR") {
                    // Too old, most often: list again.
                    return Ok(());
                }
                if let Some(v) = version(&object) {
                    v.clone_into(&mut from);
                }
                match event["type"].as_str() {
                    Some("ADDED" | "MODIFIED") => cache.put(object),
                    Some("DELETED") => cache.remove(Key::of(&object)),
                    _ => {}
                }
            }
            buffer.extend_from_slice(rest);
        }
    }
}
