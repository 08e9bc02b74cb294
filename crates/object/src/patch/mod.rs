//! The Kubernetes patch formats: JSON (RFC 6902), merge (RFC 7386), strategic merge as the API server does it. What
//! kustomize calls a strategic merge is another thing, and is in `druse-kustomize`.

mod json_patch;
mod strategic;
#[cfg(test)]
mod tests;

use crate::value::Value;

pub use json_patch::json_patch;
pub use strategic::strategic_merge;

/// A patch that cannot be applied.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct PatchError(pub String);

/// How a list or map is merged; what the published schemas say in `x-kubernetes-patch-*` and `x-kubernetes-list-*`.
pub trait MergeSchema {
    /// The schema of a map's field.
    fn field(&self, name: &str) -> Option<&dyn MergeSchema>;
    /// The schema of a list's items (or of a map's values where all have one schema).
    fn items(&self) -> Option<&dyn MergeSchema>;
    /// The key by which list items are merged; `None` when a list is replaced.
    fn merge_key(&self) -> Option<&str>;
    /// Whether a list of scalars is merged as a set.
    fn is_merged_set(&self) -> bool;
    /// Whether a map keeps only the keys of the patch's `$retainKeys`.
    fn retain_keys(&self) -> bool;
}

/// The schema of a map's field, whether named or common to all values.
fn field_of<'s>(schema: Option<&'s dyn MergeSchema>, name: &str) -> Option<&'s dyn MergeSchema> {
    let schema = schema?;
    schema.field(name).or_else(|| schema.items())
}

/// Whether a list is merged rather than replaced.
fn merges(schema: Option<&dyn MergeSchema>) -> bool {
    schema.is_some_and(|s| s.merge_key().is_some() || s.is_merged_set())
}

/// Applies a JSON merge patch to `target` in place: maps merge, null removes, anything else replaces.
pub fn merge_patch(target: &mut Value, patch: &Value) {
    let Value::Map(fields) = patch else {
        *target = patch.clone();
        return;
    };
    if target.as_map().is_none() {
        *target = Value::Map(crate::Map::new());
    }
    let Some(map) = target.as_map_mut() else { return };
    for (key, value) in fields.iter() {
        if value.is_null() {
            map.remove(key);
        } else {
            merge_patch(map.entry_or_null(key), value);
        }
    }
}
