//! DR017: patches and image replacements that meet nothing.
//!
//! kustomize says nothing of a patch whose target is not there. Judged is only what is plain: a target with a kind, and
//! a name if any (no label selectors), and images by name; and only against the whole plan, so that what any unit has
//! counts.

use druse_object::Value;
use druse_plan::UnitKind;
use regex::Regex;

use crate::context::Context;
use crate::files::is_kustomization;
use crate::finding::{Finding, Place};
use crate::position::{Step, locate};

pub(super) fn check(cx: &Context<'_>, out: &mut Vec<Finding>) {
    // What is not rendered may be what is meant.
    if cx.index.opaque.iter().any(|o| o.unit.id.kind == UnitKind::Kustomization) {
        return;
    }
    for file in cx.files.iter().filter(|f| is_kustomization(&f.path) && cx.files.was_read(&f.path)) {
        let Some(document) = file.documents().first() else { continue };
        for (path, message) in misses(cx, &document.value) {
            let place = Place::new(&file.path, locate(file.text(), document.line, &path).line);
            out.push(Finding::new("DR017", place, message));
        }
    }
    for unit in cx.plan.units.iter().filter(|u| u.id.kind == UnitKind::Kustomization) {
        for (path, message) in misses(cx, &unit.definition.value["spec"]) {
            let path: Vec<Step> = std::iter::once(Step::from("spec")).chain(path).collect();
            out.push(cx.unit(unit, &path, "DR017", message));
        }
    }
}

/// The patches and images of a kustomization (or a unit's spec) that meet nothing, with their paths in it.
fn misses(cx: &Context<'_>, value: &Value) -> Vec<(Vec<Step>, String)> {
    let mut out = Vec::new();
    for (i, patch) in value["patches"].items().iter().enumerate() {
        let target = &patch["target"];
        let (Some(kind), name) = (target.str_at(["kind"]), target.str_at(["name"])) else { continue };
        let Some(name) = name else {
            let plain = kind.bytes().all(|b| b.is_ascii_alphanumeric());
            if plain && !cx.index.entries.iter().any(|e| e.gvk.kind == kind) && !is_made_of_units(cx, kind) {
                let path = vec![Step::from("patches"), Step::Index(i), Step::from("target"), Step::from("kind")];
                out.push((path, format!("no unit has any {kind} that this patch could be for")));
            }
            continue;
        };
        if target.get("labelSelector").is_some() || target.get("annotationSelector").is_some() || name.contains("${") {
            continue;
        }
        let Ok(pattern) = Regex::new(&format!("^(?:{name})$")) else { continue };
        // Names may get a prefix, suffix or hash on the way.
        let hit = cx
            .index
            .entries
            .iter()
            .filter(|e| e.gvk.kind == kind)
            .any(|e| pattern.is_match(e.object.name()) || e.object.name().contains(name));
        if !hit {
            let path = vec![Step::from("patches"), Step::Index(i), Step::from("target"), Step::from("name")];
            out.push((path, format!("no unit has the {kind} {name} that this patch is for")));
        }
    }
    for (i, image) in value["images"].items().iter().enumerate() {
        let (Some(name), None) = (image.str_at(["name"]), image.str_at(["newName"])) else { continue };
        if !cx.index.entries.iter().any(|e| mentions(&e.object.value, name)) {
            let path = vec![Step::from("images"), Step::Index(i), Step::from("name")];
            out.push((path, format!("no object uses the image {name} that is replaced here")));
        }
    }
    out
}

/// Whether units are of a kind, which may be in no unit themselves.
fn is_made_of_units(cx: &Context<'_>, kind: &str) -> bool {
    cx.plan.units.iter().any(|u| u.definition.kind() == kind)
}

fn mentions(value: &Value, text: &str) -> bool {
    match value {
        Value::Map(m) => m.values().any(|v| mentions(v, text)),
        Value::Array(a) => a.iter().any(|v| mentions(v, text)),
        Value::String(s) => s.contains(text),
        _ => false,
    }
}
