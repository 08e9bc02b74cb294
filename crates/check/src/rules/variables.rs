//! DR009: variables that only other units set.

use std::collections::{BTreeMap, BTreeSet};

use druse_flux::substitute::is_disabled;
use druse_object::Value;
use druse_plan::UnitKind;

use crate::context::Context;
use crate::finding::Finding;
use crate::index::Origin;
use crate::position::Step;

pub(super) fn check(cx: &Context<'_>, out: &mut Vec<Finding>) {
    // Who sets which variable in its own definition; those of ConfigMaps are shared on purpose.
    let mut set: BTreeMap<&str, String> = BTreeMap::new();
    for unit in cx.plan.units.iter().filter(|u| u.id.kind == UnitKind::Kustomization) {
        for key in unit.definition.value["spec"]["postBuild"]["substitute"].as_map().into_iter().flat_map(|m| m.keys())
        {
            set.entry(key.as_str()).or_insert_with(|| unit.id.to_string());
        }
        for from in unit.definition.value["spec"]["postBuild"]["substituteFrom"].items() {
            let (kind, name) = (from.str_at(["kind"]).unwrap_or_default(), from.str_at(["name"]).unwrap_or_default());
            for e in cx.index.named("", kind, &unit.id.namespace, name) {
                for field in ["data", "stringData"] {
                    for key in e.object.value[field].as_map().into_iter().flat_map(|m| m.keys()) {
                        set.entry(key.as_str()).or_insert_with(|| unit.id.to_string());
                    }
                }
            }
        }
    }
    if set.is_empty() {
        return;
    }
    for entry in cx.own().filter(|e| e.origin == Origin::Tree && !is_disabled(e.object)) {
        if entry.unit.id.kind != UnitKind::Kustomization || !entry.unit.definition.value["spec"]["postBuild"].is_null()
        {
            continue;
        }
        if matches!(entry.gvk.kind.as_str(), "ConfigMap" | "Secret" | "Workflow" | "WorkflowTemplate" | "CronWorkflow")
        {
            continue;
        }
        let mut seen = BTreeSet::new();
        let mut path = Vec::new();
        walk(&entry.object.value, &mut path, &mut |path, text| {
            let code = path.iter().any(|s| matches!(s, Step::Key(k) if matches!(k.as_str(), "args" | "command" | "script" | "patch" | "annotations")));
            for name in names(text) {
                if let Some(unit) = set.get(name).filter(|_| !code && seen.insert(name.to_string())) {
                    let message = format!(
                        "${{{name}}} stays as it is written: {unit} sets this variable, {} none",
                        entry.unit.id
                    );
                    out.push(cx.at(entry, path, &[], "DR009", message));
                }
            }
        });
    }
}

fn names(text: &str) -> impl Iterator<Item = &str> {
    text.split("${").skip(1).filter_map(|rest| {
        let end = rest.find(|c: char| c != '_' && !c.is_ascii_alphanumeric())?;
        rest.get(..end).filter(|n| !n.is_empty())
    })
}

fn walk(value: &Value, path: &mut Vec<Step>, f: &mut dyn FnMut(&[Step], &str)) {
    match value {
        Value::Map(m) => {
            for (k, v) in m.iter() {
                path.push(Step::from(k.as_str()));
                walk(v, path, f);
                path.pop();
            }
        }
        Value::Array(a) => {
            for (i, v) in a.iter().enumerate() {
                path.push(Step::Index(i));
                walk(v, path, f);
                path.pop();
            }
        }
        Value::String(s) if s.contains("${") => f(path, s),
        _ => {}
    }
}
