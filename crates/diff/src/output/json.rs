//! JSON for scripts: the model ([`crate::model`]) as it is, with sums.
//!
//! ```text
//! version      1; rises when a field changes its meaning or goes, not when one is added
//! summary      units, objects {added, changed, removed}; dangers {danger, warning, notice}
//! base, head   {name, commit?}
//! dangers[]    {code, severity, category, title, object?, unit, place {file, line, template?}, field?, why, remedy}
//! units[]      {unit, change, place, causes[] {kind, …}, objects[], notCompared?}
//!   objects[]  {object, apiVersion, change, place, renamedFrom?, movedFrom?, hook?, fate?, fields[]?, yaml?}
//!     fields[] {path, change, from?, to?, lines[]? {fromLine, toLine, lines[]}, hidden?, mechanical?}
//! images[]     {image, imageFrom?, from, to, step, usedBy[] {unit, object, container}}
//! charts[]     {unit, chart, chartFrom?, from, to, appFrom, appTo, step, place}
//! notRendered[] {side, unit, state, reasons[], bothSides}
//! ```
//!
//! Objects are `Kind/namespace/name`, units `Kustomization/namespace/name` or `HelmRelease/namespace/name`. Values of
//! Secrets are in none of it: their fields say `hidden`.

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
