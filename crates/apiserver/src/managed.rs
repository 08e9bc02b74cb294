//! Where the handlers record field ownership; the rules are [`crate::apply`]'s.

use druse_object::Value;

use crate::apply;
use crate::schema::TypeSchema;

/// Records what a create or update by `manager` sets.
pub fn record(old: Option<&Value>, new: &mut Value, manager: &str, subresource: &str, now: &str, schema: &TypeSchema) {
    apply::record_update(old, new, manager, subresource, now, schema);
    if subresource == "scale" {
        drop_scale_time(new);
    }
}

/// Upstream translates a scale's ownership into its parent's and loses the time on the way; entries without one come
/// first among the updates.
pub fn drop_scale_time(new: &mut Value) {
    let Some(list) = new.get_mut("metadata").and_then(|m| m.get_mut("managedFields")).and_then(Value::as_array_mut)
    else {
        return;
    };
    for e in list.iter_mut().filter(|e| e.str_at(["subresource"]) == Some("scale")) {
        if let Some(m) = e.as_map_mut() {
            m.remove("time");
        }
    }
    let rank = |e: &Value| (e.str_at(["operation"]) != Some("Apply"), e.get("time").is_some());
    list.sort_by_key(rank);
}

/// When nothing but times in the managed fields differs, keeps the old times: the write is none.
pub fn keep_times_if_same(old: &Value, new: &mut Value) {
    let (Some(was), Some(is)) = (old.at(["metadata", "managedFields"]), new.at(["metadata", "managedFields"])) else {
        return;
    };
    if was == is || without_times(was) != without_times(is) {
        return;
    }
    let mut candidate = new.clone();
    if let Some(m) = candidate.make_map_at(["metadata"]) {
        m.insert("managedFields", was.clone());
        if let Some(rv) = old.at(["metadata", "resourceVersion"]) {
            m.insert("resourceVersion", rv.clone());
        }
    }
    if candidate == *old {
        *new = candidate;
    }
}

fn without_times(v: &Value) -> Value {
    let mut v = v.clone();
    for e in v.as_array_mut().into_iter().flatten() {
        if let Some(m) = e.as_map_mut() {
            m.remove("time");
        }
    }
    v
}
