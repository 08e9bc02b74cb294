//! The Kubernetes patch formats: JSON (RFC 6902), merge (RFC 7386), strategic merge.

use crate::value::Value;

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

/// Applies a JSON patch (a list of operations) to `target` in place; all or nothing.
///
/// # Errors
/// When an operation is malformed, its path is missing, or a `test` fails; `target` is then unchanged.
pub fn json_patch(_target: &mut Value, _patch: &Value) -> Result<(), PatchError> {
    Err(PatchError(String::new()))
}

/// Applies a JSON merge patch to `target` in place.
pub fn merge_patch(_target: &mut Value, _patch: &Value) {}

/// Applies a strategic merge patch to `target` in place; without a schema lists are replaced and maps merged.
///
/// # Errors
/// When a directive is malformed, or a list item lacks its merge key.
pub fn strategic_merge(
    _target: &mut Value,
    _patch: &Value,
    _schema: Option<&dyn MergeSchema>,
) -> Result<(), PatchError> {
    Err(PatchError(String::new()))
}
