//! Where the handlers record field ownership; the rules are [`crate::apply`]'s.

use druse_object::Value;

use crate::apply;
use crate::schema::TypeSchema;

/// Records what an update by `manager` sets. A generated name belongs to nobody.
pub fn record(
    old: Option<&Value>,
    new: &mut Value,
    manager: &str,
    subresource: &str,
    now: &str,
    schema: &TypeSchema,
    generated_name: bool,
) {
    let _ = generated_name;
    apply::record_update(old, new, manager, subresource, now, schema);
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
