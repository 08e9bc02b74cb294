//! DR042: one object that several units apply.

use std::collections::BTreeMap;

use druse_object::{Object, ObjectKey, Value};

use crate::context::Context;
use crate::finding::{Finding, Place, Severity};
use crate::index::{Entry, Origin};
use crate::position::Step;

pub(super) fn check(cx: &Context<'_>, out: &mut Vec<Finding>) {
    let mut owners: BTreeMap<ObjectKey, Vec<&Entry<'_>>> = BTreeMap::new();
    for e in cx.index.entries.iter().filter(|e| !e.hook && !e.object.name().is_empty()) {
        let all = owners.entry(e.object.key()).or_default();
        if all.last().is_none_or(|last| last.unit.id != e.unit.id) {
            all.push(e);
        }
    }
    let mut groups: BTreeMap<(Vec<String>, Place, bool), Vec<Finding>> = BTreeMap::new();
    for (key, all) in owners.iter().filter(|(_, all)| all.len() > 1) {
        let Some(first) = all.first() else { continue };
        // Said where the tree says it: at a manifest rather than at a release.
        let at = all.iter().rev().find(|e| e.origin == Origin::Tree).or(all.last()).unwrap_or(first);
        let names: Vec<String> = all.iter().map(|e| e.unit.id.to_string()).collect();
        let same = all.iter().all(|e| !conflict(&plain(e.object), &plain(first.object)));
        // Helm leaves definitions that are there alone.
        let definitions = key.kind == "CustomResourceDefinition" && all.iter().all(|e| e.origin == Origin::Chart);
        let message =
            format!("{key} is applied by {}{}", names.join(" and "), if same { "" } else { ", which disagree" });
        let path = ["metadata", "name"].map(Step::from);
        let mut finding = cx.at(at, &path, &[], "DR042", message);
        // Units that agree change nothing until one of them goes.
        let harmless = same || definitions;
        if harmless {
            finding = finding.severity(Severity::Warning);
        }
        groups.entry((names, finding.place.clone(), harmless)).or_default().push(finding);
    }
    // What two releases have in common is one finding: it is one cause.
    for ((names, ..), mut all) in groups {
        let others = all.len() - 1;
        all.truncate(1);
        if let Some(first) = all.first_mut().filter(|_| others > 0) {
            let object = first.object.clone().unwrap_or_default();
            let many = if others == 1 { "one other".to_string() } else { format!("{others} others") };
            first.message = format!("{object} and {many} are applied by {}", names.join(" and "));
        }
        out.append(&mut all);
    }
}

/// What an object is for: without labels and annotations, which units put on it.
fn plain(object: &Object) -> Value {
    let mut value = object.value.clone();
    if let Some(meta) = value.make_map_at(["metadata"]) {
        meta.remove("labels");
        meta.remove("annotations");
    }
    value
}

/// Whether two objects set a field to different values; fields that only one of them sets live side by side.
fn conflict(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Map(a), Value::Map(b)) => a.iter().any(|(k, v)| b.get(k).is_some_and(|other| conflict(v, other))),
        (a, b) => a != b,
    }
}
