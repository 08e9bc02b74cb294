//! JSON for scripts: the model as it is, with sums.

use serde_json::json;

use crate::Diff;
use crate::model::Severity;

/// The version of the shape; it rises when a field changes its meaning or goes.
const VERSION: u32 = 1;

/// The diff as indented JSON, with `version` and a `summary` of counts.
#[must_use]
pub fn json(diff: &Diff) -> String {
    let (units, objects) = (diff.unit_counts(), diff.object_counts());
    let summary = json!({
        "units": units,
        "objects": objects,
        "dangers": {
            "danger": diff.count(Severity::Danger),
            "warning": diff.count(Severity::Warning),
            "notice": diff.count(Severity::Notice),
        },
    });
    // Everything in a diff has a JSON form; keys are always texts.
    let mut all = serde_json::to_value(diff).unwrap_or_default();
    if let Some(map) = all.as_object_mut() {
        map.shift_insert(0, "version".into(), json!(VERSION));
        map.shift_insert(1, "summary".into(), summary);
    }
    format!("{all:#}\n")
}
