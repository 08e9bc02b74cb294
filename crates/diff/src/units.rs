//! Why a unit differs: its definition, its files, its chart, its values, its variables, what it waits for.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use druse_flux::config::config_data;
use druse_flux::generator::clean_path;
use druse_plan::{Unit, UnitKind, UnitState};

use crate::fields::flat::{Step, flatten, path_text};
use crate::fields::{self};
use crate::model::{Cause, ChangeKind, Place};
use crate::objects::name_stem;
use crate::reads;
use crate::side::Side;

/// Where a unit is defined.
pub(crate) fn place(unit: &Unit) -> Place {
    let p = &unit.definition.provenance;
    Place {
        file: p.file.as_deref().unwrap_or_default().to_string(),
        line: p.line,
        template: p.template.as_deref().map(str::to_string),
    }
}

/// Why a unit that both sides have differs; `objects_differ` says whether its objects do.
pub(crate) fn causes(base: (&Unit, &Side<'_>), head: (&Unit, &Side<'_>), objects_differ: bool) -> Vec<Cause> {
    let (old, new) = (base.0, head.0);
    let mut out = Vec::new();
    states(old, new, &mut out);
    charts(old, new, &mut out);
    let chart_told = out.iter().any(|c| matches!(c, Cause::Chart { .. }));
    spec(old, new, chart_told, &mut out);
    sources(old, new, &mut out);
    match new.id.kind {
        _ if !objects_differ => {}
        UnitKind::Kustomization => substitute_from(base, head, &mut out),
        UnitKind::HelmRelease => values_from(base, head, &mut out),
    }
    if objects_differ || fails(old) || fails(new) {
        files(base, head, &mut out);
    }
    if out.is_empty() && objects_differ {
        out.push(Cause::ServedKinds);
    }
    out
}

/// Why a unit came or went.
pub(crate) fn came_or_went(unit: &Unit, here: &Side<'_>, other: &Side<'_>, change: ChangeKind) -> Vec<Cause> {
    let (base, head) = if change == ChangeKind::Added { (other, here) } else { (here, other) };
    let gone = unit.made_by.iter().filter(|m| **m != unit.id && other.unit(m).is_none());
    let mut out: Vec<Cause> = match change {
        ChangeKind::Removed => gone.map(|m| Cause::MakerRemoved { unit: m.to_string() }).collect(),
        _ => Vec::new(),
    };
    if let Some(file) = unit.definition.provenance.file.as_deref()
        && let Some(change) = reads::changed(file, base.tree, head.tree)
    {
        out.push(Cause::File { path: file.to_string(), change });
    }
    out
}

fn fails(unit: &Unit) -> bool {
    unit.state == UnitState::Failed
}

fn states(old: &Unit, new: &Unit, out: &mut Vec<Cause>) {
    let suspended = |u: &Unit| u.state == UnitState::Suspended;
    match (suspended(old), suspended(new)) {
        (false, true) => out.push(Cause::Suspended),
        (true, false) => out.push(Cause::Resumed),
        _ => {}
    }
    match (fails(old), fails(new)) {
        (false, true) => out.push(Cause::FailsNow),
        (true, false) => out.push(Cause::RendersAgain),
        _ => {}
    }
}

fn spec(old: &Unit, new: &Unit, chart_told: bool, out: &mut Vec<Cause>) {
    if Arc::ptr_eq(&old.definition, &new.definition) {
        return;
    }
    let (from, to) = (&old.definition.value["spec"], &new.definition.value["spec"]);
    let Some(delta) = fields::compare(from, to, None) else { return };
    let (mut values, mut own, mut variables) = (Vec::new(), Vec::new(), Vec::new());
    let mut depends = false;
    flatten(&delta, &mut |steps, _| {
        let keys: Vec<&str> = steps
            .iter()
            .map_while(|s| match s {
                Step::Key(k) => Some(k.as_str()),
                Step::Item(_) => None,
            })
            .collect();
        match keys.as_slice() {
            ["values", ..] => values.push(path_text(steps.get(1..).unwrap_or_default())),
            ["postBuild", "substitute", name, ..] => variables.push((*name).to_string()),
            ["dependsOn", ..] => depends = true,
            ["suspend"] => {}
            ["chart", "spec", "version"] if chart_told => {}
            _ => own.push(path_text(steps)),
        }
    });
    own.dedup();
    if depends {
        out.push(Cause::Dependencies);
    }
    if !own.is_empty() {
        out.push(Cause::Spec { fields: own });
    }
    if !values.is_empty() {
        out.push(Cause::Values { fields: values });
    }
    if !variables.is_empty() {
        variables.sort();
        out.push(Cause::Variables { names: variables, from: "spec.postBuild.substitute".into(), made_by: None });
    }
}

fn charts(old: &Unit, new: &Unit, out: &mut Vec<Cause>) {
    let (Some(from), Some(to)) = (&old.chart, &new.chart) else { return };
    let text =
        |c: &druse_plan::ChartInfo| format!("{} {}", c.name, if c.version.is_empty() { &c.wanted } else { &c.version });
    if text(from) != text(to) {
        out.push(Cause::Chart { from: text(from), to: text(to) });
    } else if from.digest != to.digest && !from.digest.is_empty() && !to.digest.is_empty() {
        out.push(Cause::ChartContent { chart: text(to) });
    }
}

fn sources(old: &Unit, new: &Unit, out: &mut Vec<Cause>) {
    let (Some(from), Some(to)) = (&old.source, &new.source) else { return };
    let same_revision = new.chart.is_some() || from.revision == to.revision || (from.is_tree && to.is_tree);
    if from.id == to.id && from.url == to.url && same_revision {
        return;
    }
    let text = |s: &druse_plan::SourceInfo| {
        let revision = if new.chart.is_some() { "" } else { s.revision.split('@').next().unwrap_or_default() };
        format!("{} {} {revision}", s.id, s.url).trim_end().to_string()
    };
    if text(from) != text(to) {
        out.push(Cause::Source { from: text(from), to: text(to) });
    }
}

fn files(base: (&Unit, &Side<'_>), head: (&Unit, &Side<'_>), out: &mut Vec<Cause>) {
    let is_tree = |u: &Unit| u.source.as_ref().is_some_and(|s| s.is_tree);
    if !is_tree(base.0) && !is_tree(head.0) {
        return;
    }
    let (base_tree, head_tree) = (base.1.tree, head.1.tree);
    let changed = match head.0.id.kind {
        UnitKind::Kustomization => reads::changed_files((base.0, base_tree), (head.0, head_tree)),
        UnitKind::HelmRelease => {
            let chart = head.0.definition.value.str_at(["spec", "chart", "spec", "chart"]).unwrap_or_default();
            reads::changed_in_folder(&clean_path(chart), base_tree, head_tree)
        }
    };
    out.extend(changed.into_iter().map(|(path, change)| Cause::File { path, change }));
}

/// The entries of a ConfigMap or Secret that are not the same on both sides, by name only, and what makes it.
fn changed_entries(
    kind: &str,
    names: (&str, &str),
    base: (&Unit, &Side<'_>),
    head: (&Unit, &Side<'_>),
) -> Option<(Vec<String>, Option<String>)> {
    let from = base.1.named(kind, &base.0.id.namespace, names.0);
    let to = head.1.named(kind, &head.0.id.namespace, names.1);
    let data = |o: Option<(&Unit, &druse_object::Object)>| o.map(|(_, o)| config_data(&o.value)).unwrap_or_default();
    let (old, new) = (data(from), data(to));
    let keys: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    let changed: Vec<String> = keys.into_iter().filter(|k| old.get(*k) != new.get(*k)).cloned().collect();
    let made_by = to.or(from).map(|(unit, _)| unit.id.to_string());
    (!changed.is_empty()).then_some((changed, made_by))
}

fn substitute_from(base: (&Unit, &Side<'_>), head: (&Unit, &Side<'_>), out: &mut Vec<Cause>) {
    let references = |u: &Unit| -> BTreeSet<(String, String)> {
        u.definition.value["spec"]["postBuild"]["substituteFrom"]
            .items()
            .iter()
            .filter_map(|r| Some((r.str_at(["kind"])?.to_string(), r.str_at(["name"])?.to_string())))
            .collect()
    };
    for (kind, name) in references(base.0).intersection(&references(head.0)) {
        if let Some((names, made_by)) = changed_entries(kind, (name, name), base, head) {
            let from = format!("{kind}/{}/{name}", head.0.id.namespace);
            out.push(Cause::Variables { names, from, made_by });
        }
    }
}

fn values_from(base: (&Unit, &Side<'_>), head: (&Unit, &Side<'_>), out: &mut Vec<Cause>) {
    let references = |u: &Unit| -> Vec<(String, String)> {
        u.definition.value["spec"]["valuesFrom"]
            .items()
            .iter()
            .filter_map(|r| Some((r.str_at(["kind"])?.to_string(), r.str_at(["name"])?.to_string())))
            .collect()
    };
    let old: BTreeMap<(String, String), String> = references(base.0)
        .into_iter()
        .map(|(kind, name)| ((kind.clone(), name_stem(&name).unwrap_or(&name).to_string()), name))
        .collect();
    for (kind, name) in references(head.0) {
        let Some(before) = old.get(&(kind.clone(), name_stem(&name).unwrap_or(&name).to_string())) else { continue };
        if let Some((keys, made_by)) = changed_entries(&kind, (before, &name), base, head) {
            let object = format!("{kind}/{}/{name}", head.0.id.namespace);
            out.push(Cause::ValuesFrom { object, keys, made_by });
        }
    }
}
