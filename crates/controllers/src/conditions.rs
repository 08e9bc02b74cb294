//! Status conditions as Flux' controllers keep them (`fluxcd/pkg/runtime/conditions`): order, transition times,
//! `Reconciling` and `Stalled` beside `Ready`.

use druse_object::{Map, Value};

/// The conditions of an object's status, ready to be changed.
#[derive(Debug)]
pub struct Conditions<'a> {
    /// The object; its `status.conditions` is changed in place.
    pub object: &'a mut Value,
    /// Now, RFC 3339 with seconds.
    pub now: &'a str,
}

impl Conditions<'_> {
    /// Sets a condition; its transition time moves only when its status, reason or message change.
    pub fn set(&mut self, kind: &str, status: &str, reason: &str, message: &str) {
        let generation = self.object["metadata"]["generation"].clone();
        let now = self.now.to_owned();
        let mut c = Map::new();
        c.insert("lastTransitionTime", now);
        c.insert("message", message);
        c.insert("observedGeneration", generation);
        c.insert("reason", reason);
        c.insert("status", status);
        c.insert("type", kind);
        let Some(list) = self.list() else { return };
        if let Some(old) = list.iter_mut().find(|c| c["type"].as_str() == Some(kind)) {
            let same = ["status", "reason", "message"].iter().all(|k| Some(&old[k]) == c.get(k));
            if same && let Some(t) = old.get("lastTransitionTime").cloned() {
                c.insert("lastTransitionTime", t);
            }
            *old = Value::Map(c);
        } else {
            list.push(Value::Map(c));
        }
        // Ready, Reconciling and Stalled are what people read first: upstream sorts them to the front.
        list.sort_by_key(|c| match c["type"].as_str() {
            Some("Stalled") => 0,
            Some("Reconciling") => 1,
            Some("Ready") => 2,
            _ => 3,
        });
    }

    /// Removes a condition.
    pub fn remove(&mut self, kind: &str) {
        if let Some(list) = self.list() {
            list.retain(|c| c["type"].as_str() != Some(kind));
        }
    }

    fn list(&mut self) -> Option<&mut Vec<Value>> {
        let conditions = self.object.make_map_at(["status"])?.entry_or_null("conditions");
        if conditions.is_null() {
            *conditions = Value::Array(Vec::new());
        }
        conditions.as_array_mut()
    }
}

/// A condition of an object.
#[must_use]
pub fn get<'a>(object: &'a Value, kind: &str) -> Option<&'a Value> {
    object["status"]["conditions"].items().iter().find(|c| c["type"].as_str() == Some(kind))
}

/// Whether the object says it is ready, at its current generation.
#[must_use]
pub fn is_ready(object: &Value) -> bool {
    get(object, "Ready").is_some_and(|c| c["status"].as_str() == Some("True"))
        && object["metadata"]["generation"] == object["status"]["observedGeneration"]
}
