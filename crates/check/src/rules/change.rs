//! DR090–DR092: what a change does that cannot be undone, or is refused. What is dangerous about a change is found by
//! `druse-diff`; here it becomes findings, placed at the fields that change.

use druse_diff::model::{Danger, Severity as Harm};
use druse_diff::{Side, compare};

use crate::context::Context;
use crate::finding::{Finding, Place, Severity};
use crate::position;

/// What the API refuses, beside immutable fields.
const REFUSED: [&str; 4] = ["immutable-field", "pvc-shrunk", "claim-templates-changed", "storage-class-changed"];
/// What other rules find in the state that the change leads to.
const FOUND_ELSEWHERE: [&str; 2] = ["secret-plaintext", "unit-fails"];

/// The dangers of a change.
pub(crate) fn check(cx: &Context<'_>, base: &Side<'_>, head: &Side<'_>, out: &mut Vec<Finding>) {
    for danger in compare(base, head).dangers {
        if FOUND_ELSEWHERE.contains(&danger.code) {
            continue;
        }
        let (code, severity) = match (danger.severity, danger.category) {
            (Harm::Danger, _) if REFUSED.contains(&danger.code) => ("DR090", Severity::Error),
            (Harm::Danger, "data loss") => ("DR091", Severity::Error),
            (Harm::Warning, "data loss") => ("DR091", Severity::Warning),
            (Harm::Danger | Harm::Warning, _) => ("DR092", Severity::Warning),
            (Harm::Notice, _) => ("DR092", Severity::Info),
        };
        out.push(finding(cx, &danger, code).severity(severity).help(danger.remedy.clone()));
    }
}

fn finding(cx: &Context<'_>, danger: &Danger, code: &str) -> Finding {
    let object = danger.object.as_deref().unwrap_or_default();
    let entry = cx.index.entries.iter().find(|e| e.key() == object && e.unit.id.to_string() == danger.unit);
    let message =
        if danger.title.contains(object) { danger.title.clone() } else { format!("{object}: {}", danger.title) };
    if let Some(entry) = entry {
        let path = danger.field.as_deref().map(|f| position::parse(&entry.object.value, f)).unwrap_or_default();
        let value = position::at(&entry.object.value, &path);
        let text = value.and_then(|v| v.as_str().map(str::to_string).or_else(|| v.as_i64().map(|i| i.to_string())));
        let text = text.as_deref().unwrap_or_default();
        // Values have an image's tag by itself.
        let tag = text.rsplit_once(':').map_or("", |(_, tag)| tag);
        return cx.at(entry, &path, &[text, tag], code, message);
    }
    // It is gone, or about the unit as a whole.
    let unit = cx.plan.units.iter().find(|u| u.id.to_string() == danger.unit);
    let place = match (unit, &danger.field) {
        (Some(unit), Some(field)) if danger.object.is_none() => {
            cx.of_unit(unit, &position::parse(&unit.definition.value, field))
        }
        _ => Place::new(&danger.place.file, danger.place.line),
    };
    let mut finding = Finding::new(code, place, message).unit(&danger.unit);
    finding.object.clone_from(&danger.object);
    finding
}
