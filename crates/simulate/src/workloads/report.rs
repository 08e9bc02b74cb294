//! How controllers report: events, statuses and their conditions.

use druse_object::{Map, Value};
use druse_runtime::{Api, ApiError, Key, Patch, Recorder, Resource, clock};
use jiff::Timestamp;

/// An event to tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    warning: bool,
    reason: String,
    message: String,
}

impl Note {
    /// Of type `Normal`.
    pub fn normal(reason: &str, message: impl Into<String>) -> Self {
        Self { warning: false, reason: reason.to_owned(), message: message.into() }
    }

    /// Of type `Warning`.
    pub fn warning(reason: &str, message: impl Into<String>) -> Self {
        Self { warning: true, reason: reason.to_owned(), message: message.into() }
    }

    /// Records it about an object.
    pub async fn tell(&self, recorder: &Recorder, about: &Value) {
        recorder.event(about, self.warning, &self.reason, &self.message, &[]).await;
    }
}

/// Writes the status of an object when it differs from what is there, and returns what the API answered.
///
/// What the new status lacks is taken away. Refused as a conflict when the object is not any more what the status was made
/// from.
pub async fn write_status(api: &Api, r: &Resource, object: &Value, status: Value) -> Result<Option<Value>, ApiError> {
    write_status_and(api, r, object, status, None).await
}

/// As [`write_status`], with an annotation in the same write: so it counts as no change of what is declared.
pub async fn write_status_and(
    api: &Api,
    r: &Resource,
    object: &Value,
    status: Value,
    annotation: Option<(&str, &str)>,
) -> Result<Option<Value>, ApiError> {
    let old = &object["status"];
    let annotation = annotation.filter(|(k, v)| object["metadata"]["annotations"][*k].as_str() != Some(v));
    let same = *old == status || (old.is_null() && status.as_map().is_some_and(Map::is_empty));
    if same && annotation.is_none() {
        return Ok(None);
    }
    let mut changed = match status {
        Value::Map(m) => m,
        _ => Map::new(),
    };
    for (field, was) in old.as_map().into_iter().flat_map(Map::iter) {
        match changed.get(field) {
            None => {
                changed.insert(field.clone(), Value::Null);
            }
            Some(is) if is == was => {
                changed.remove(field);
            }
            // A merge patch leaves alone what a map lacks.
            Some(Value::Map(is)) => {
                let gone = was.as_map().into_iter().flat_map(Map::keys).filter(|k| !is.contains_key(k));
                let nulls: Vec<_> = gone.cloned().collect();
                if let Some(m) = changed.get_mut(field).and_then(Value::as_map_mut) {
                    nulls.into_iter().for_each(|k| {
                        m.insert(k, Value::Null);
                    });
                }
            }
            Some(_) => {}
        }
    }
    let mut metadata = Map::new();
    metadata.insert("resourceVersion", object["metadata"]["resourceVersion"].clone());
    if let Some(annotation) = annotation {
        metadata.insert("annotations", [annotation].into_iter().collect::<Map>());
    }
    let mut patch = Map::new();
    patch.insert("metadata", metadata);
    patch.insert("status", changed);
    let key = Key::of(object);
    api.patch(r, &key.namespace, &key.name, "status", Patch::Merge, &Value::Map(patch)).await.map(Some)
}

/// A time as statuses write them; `None` when there is none.
pub fn time_at(v: &Value) -> Option<Timestamp> {
    v.as_str().and_then(|t| t.parse().ok())
}

/// The condition of a type.
pub fn condition<'a>(conditions: &'a [Value], kind: &str) -> Option<&'a Value> {
    conditions.iter().find(|c| c["type"].as_str() == Some(kind))
}

/// Whether the condition of a type is there and true.
pub fn is_true(conditions: &[Value], kind: &str) -> bool {
    condition(conditions, kind).is_some_and(|c| c["status"].as_str() == Some("True"))
}

/// A new condition; `times` are the fields that get the time.
pub fn new_condition(kind: &str, status: bool, reason: &str, message: &str, times: &[&str], now: Timestamp) -> Value {
    let mut c = Map::new();
    c.insert("type", kind);
    c.insert("status", if status { "True" } else { "False" });
    c.insert("reason", reason);
    c.insert("message", message);
    for field in times {
        c.insert(*field, clock::text(now));
    }
    Value::Map(c)
}

/// Gives a condition the time at which its status last became what it is: that of the one before.
pub fn keep_transition(new: &mut Value, old: &Value) {
    if let Some(m) = new.as_map_mut() {
        m.insert("lastTransitionTime", old["lastTransitionTime"].clone());
    }
}

/// Sets a condition in the place of the one of its type, as apimachinery's `meta.SetStatusCondition` does.
pub fn set_in_place(conditions: &mut Vec<Value>, mut new: Value) {
    match conditions.iter_mut().find(|c| c["type"] == new["type"]) {
        Some(old) => {
            if old["status"] == new["status"] {
                keep_transition(&mut new, old);
            }
            *old = new;
        }
        None => conditions.push(new),
    }
}
