//! Kubernetes Events about what controllers did, as client-go's recorder writes them.
//!
//! Repeats of one event within a run raise its count instead of making another object.

use std::collections::HashMap;
use std::sync::Arc;

use crate::api::{Api, Patch, Resource};
use druse_object::{Map, Value};
use parking_lot::Mutex;

/// Writes events for one controller. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Recorder {
    api: Api,
    component: &'static str,
    resource: Resource,
    seen: Arc<Mutex<HashMap<String, (String, u32)>>>,
}

impl Recorder {
    /// For a controller (`kustomize-controller`).
    #[must_use]
    pub fn new(api: Api, component: &'static str) -> Self {
        let resource = Resource::new("", "v1", "Event", "events", true);
        Self { api, component, resource, seen: Arc::default() }
    }

    /// Records an event about `object`; failures are logged, never raised.
    pub async fn event(
        &self,
        object: &Value,
        warning: bool,
        reason: &str,
        message: &str,
        annotations: &[(&str, &str)],
    ) {
        let namespace = object.str_at(["metadata", "namespace"]).unwrap_or("default").to_owned();
        let name = object.str_at(["metadata", "name"]).unwrap_or_default();
        let identity =
            format!("{}/{namespace}/{name}\u{0}{reason}\u{0}{message}", object["kind"].as_str().unwrap_or_default());
        let now = crate::clock::now();
        let repeat = self.seen.lock().get(&identity).cloned();
        if let Some((event, count)) = repeat {
            let mut patch = Map::new();
            patch.insert("count", count + 1);
            patch.insert("lastTimestamp", now.as_str());
            let done = self.api.patch(&self.resource, &namespace, &event, "", Patch::Merge, &Value::Map(patch)).await;
            if done.is_ok() {
                self.seen.lock().insert(identity, (event, count + 1));
                return;
            }
        }
        let event = format!("{name}.{:016x}", crate::clock::unix_nanos());
        let mut metadata = Map::new();
        metadata.insert("name", event.as_str());
        metadata.insert("namespace", namespace.as_str());
        if !annotations.is_empty() {
            metadata.insert("annotations", annotations.iter().map(|(k, v)| (*k, *v)).collect::<Map>());
        }
        let mut about = Map::new();
        about.insert("apiVersion", object["apiVersion"].clone());
        about.insert("kind", object["kind"].clone());
        about.insert("name", name);
        about.insert("namespace", namespace.as_str());
        about.insert("resourceVersion", object["metadata"]["resourceVersion"].clone());
        about.insert("uid", object["metadata"]["uid"].clone());
        let mut m = Map::new();
        m.insert("apiVersion", "v1");
        m.insert("kind", "Event");
        m.insert("metadata", metadata);
        m.insert("involvedObject", about);
        m.insert("type", if warning { "Warning" } else { "Normal" });
        m.insert("reason", reason);
        m.insert("message", clip(message));
        m.insert("source", [("component", self.component)].into_iter().collect::<Map>());
        m.insert("reportingComponent", self.component);
        m.insert("firstTimestamp", now.as_str());
        m.insert("lastTimestamp", now.as_str());
        m.insert("count", 1i64);
        match self.api.create(&self.resource, &namespace, &Value::Map(m)).await {
            Ok(_) => {
                let mut seen = self.seen.lock();
                if seen.len() > 4096 {
                    seen.clear();
                }
                seen.insert(identity, (event, 1));
            }
            Err(e) => tracing::debug!("event for {namespace}/{name} not recorded: {e}"),
        }
    }
}

/// The API refuses messages over 1024 bytes.
fn clip(message: &str) -> &str {
    const LIMIT: usize = 1024;
    let mut end = message.len().min(LIMIT);
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    &message[..end]
}
