//! JSON as sops writes it: tabs, and Go's escaping (`<`, `>` and `&` too).

use druse_object::{Value, json};

/// A document as text.
pub(crate) fn write(value: &Value) -> String {
    let mut out = json::to_string_pretty_ordered(value, "\t");
    if !out.ends_with('\n') {
        out.push('\n');
    }
    out
}
