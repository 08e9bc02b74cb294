//! What the server itself writes into metadata: names, UIDs, times, and what a client may not touch.

use druse_object::{Map, Value};

use crate::field::FieldError;
use crate::registry::Resource;
use crate::server::now;
use crate::validate::{NameRule, validate_metadata, validate_metadata_update};

/// Whether the server has to make up a name.
#[must_use]
pub fn wants_generated_name(o: &Value) -> bool {
    let text = |k| o.str_at(["metadata", k]).unwrap_or_default();
    text("name").is_empty() && !text("generateName").is_empty()
}

/// Letters that make no words, as upstream uses them.
const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// Makes up a name from `generateName`.
pub fn generate_name(o: &mut Value) {
    let base: String = o.str_at(["metadata", "generateName"]).unwrap_or_default().chars().take(58).collect();
    let suffix: String =
        (0..5).filter_map(|_| ALPHABET.get(rand::random_range(0..ALPHABET.len())).map(|b| char::from(*b))).collect();
    if let Some(m) = o.make_map_at(["metadata"]) {
        m.insert("name", base + &suffix);
    }
}

/// Fields of metadata that only the server sets.
const SERVER_FIELDS: [&str; 6] =
    ["uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "generation", "selfLink"];

/// Sets what a new object gets.
pub fn fill_for_create(resource: &Resource, o: &mut Value) {
    if let Some(m) = o.make_map_at(["metadata"]) {
        for f in SERVER_FIELDS {
            m.remove(f);
        }
        m.remove("resourceVersion");
        m.insert("uid", uuid::Uuid::new_v4().to_string());
        m.insert("creationTimestamp", now());
        if crate::strategy::counts_generations(resource) {
            m.insert("generation", 1i64);
        }
        for empty in ["labels", "annotations", "finalizers", "ownerReferences", "managedFields"] {
            drop_if_empty(m, empty);
        }
    }
}

fn drop_if_empty(m: &mut Map, key: &str) {
    let empty = match m.get(key) {
        Some(Value::Map(x)) => x.is_empty(),
        Some(Value::Array(x)) => x.is_empty(),
        Some(Value::Null) => true,
        _ => false,
    };
    if empty {
        m.remove(key);
    }
}

/// Gives a new state of an object what the client cannot change.
pub fn carry_over(old: &Value, new: &mut Value) {
    let Some(m) = new.make_map_at(["metadata"]) else { return };
    for f in SERVER_FIELDS {
        match old.at(["metadata", f]) {
            // Another one said here is refused, not replaced.
            Some(v) if f != "uid" || m.get(f).is_none_or(|u| u.as_str().is_none_or(str::is_empty)) => {
                m.insert(f, v.clone());
            }
            None if !f.starts_with("deletion") => {
                m.remove(f);
            }
            _ => {}
        }
    }
    m.remove("resourceVersion");
    for empty in ["labels", "annotations", "finalizers", "ownerReferences"] {
        drop_if_empty(m, empty);
    }
}

/// Whether an object being deleted has nothing left to wait for.
#[must_use]
pub fn is_finished_deletion(o: &Value) -> bool {
    let meta = &o["metadata"];
    let waits = meta["deletionGracePeriodSeconds"].as_i64().unwrap_or(0) > 0;
    let held = o.str_at(["kind"]) == Some("Namespace") && !o["spec"]["finalizers"].items().is_empty();
    meta.get("deletionTimestamp").is_some() && meta["finalizers"].items().is_empty() && !waits && !held
}

/// Judges the metadata of a new custom object (built-in kinds are judged with their other rules).
#[must_use]
pub fn validate_create(resource: &Resource, o: &Value) -> Vec<FieldError> {
    if !resource.custom {
        return Vec::new();
    }
    validate_metadata(o, resource.namespaced, NameRule::Subdomain, false)
}

/// Judges a change to a custom object's metadata.
#[must_use]
pub fn validate_update(resource: &Resource, old: &Value, new: &Value) -> Vec<FieldError> {
    if !resource.custom {
        return Vec::new();
    }
    let mut out = validate_metadata_update(new, old, false);
    out.extend(validate_metadata(new, resource.namespaced, NameRule::Subdomain, false));
    out
}
