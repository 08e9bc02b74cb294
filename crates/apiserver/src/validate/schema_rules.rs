//! What the published schemas of built-in types already say: required text fields and enumerations.
//!
//! Only where upstream's own validation is known to agree: `status` is left alone, and what did not change is not
//! judged again.

use druse_object::{Gvk, Map, Value};

use crate::field::{FieldError, FieldErrorKind};
use crate::schema::{Node, Shape, builtin_slot};

const MAX_DEPTH: usize = 100;

/// The errors, in field order.
pub(crate) fn check(gvk: &Gvk, value: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let mut out = Vec::new();
    // Events and reviews are written by machines against looser rules.
    let loose = gvk.kind == "Event" || gvk.kind.ends_with("Review") || gvk.group == "resource.k8s.io";
    let own = gvk.group == "apiextensions.k8s.io"
        || matches!(
            gvk.kind.as_str(),
            "FlowSchema"
                | "PriorityLevelConfiguration"
                | "RuntimeClass"
                | "ResourceQuota"
                | "Service"
                | "EndpointSlice"
                | "Endpoints"
                | "Node"
        );
    if loose || own {
        return out;
    }
    if let (Some(slot), Value::Map(map)) = (builtin_slot(gvk), value) {
        for (key, v) in map.iter() {
            if ["metadata", "status"].contains(&key.as_str()) {
                continue;
            }
            if let Some(slot) = slot.node().child(key) {
                walk(v, old.and_then(|o| o.get(key)), slot.node(), key, 0, &mut out);
            }
        }
    }
    out
}

fn walk(value: &Value, old: Option<&Value>, node: &Node, path: &str, depth: usize, out: &mut Vec<FieldError>) {
    if depth > MAX_DEPTH || old == Some(value) {
        return;
    }
    match value {
        Value::Map(map) if node.is_struct() => {
            for name in &node.required {
                let empty = map.get(name).and_then(Value::as_str) == Some("");
                let is_text = node.fields.get(name).is_some_and(|s| s.node().shape == Shape::Str && !s.pointer);
                if empty && is_text {
                    out.push(FieldError::required(format!("{path}.{name}"), ""));
                }
            }
            for (key, v) in map.iter() {
                if let Some(slot) = node.fields.get(key) {
                    walk(v, old.and_then(|o| o.get(key)), slot.node(), &format!("{path}.{key}"), depth + 1, out);
                }
            }
        }
        Value::Map(map) => {
            if let Some(slot) = node.values.as_deref().filter(|s| s.node().shape == Shape::Object) {
                for (key, v) in Map::iter(map) {
                    walk(v, old.and_then(|o| o.get(key)), slot.node(), &format!("{path}[{key}]"), depth + 1, out);
                }
            }
        }
        Value::Array(items) => {
            if let Some(slot) = &node.items {
                for (i, item) in items.iter().enumerate() {
                    let old = old.and_then(|o| o.items().iter().find(|o| *o == item));
                    walk(item, old, slot.node(), &format!("{path}[{i}]"), depth + 1, out);
                }
            }
        }
        Value::String(s) if !s.is_empty() => {
            if let Some(k) = node.keywords.as_deref()
                && !k.one_of_values.is_empty()
                && !k.one_of_values.contains(value)
            {
                let allowed: Vec<String> =
                    k.one_of_values.iter().filter_map(Value::as_str).map(crate::field::go_quote).collect();
                let detail = format!("supported values: {}", allowed.join(", "));
                out.push(FieldError::new(FieldErrorKind::NotSupported, path, Some(value.clone()), detail));
            }
        }
        _ => {}
    }
}
