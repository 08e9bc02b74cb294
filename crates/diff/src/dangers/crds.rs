//! CustomResourceDefinitions: removed with all their objects, versions no longer served, left as they were by Helm.

use std::collections::{BTreeMap, BTreeSet};

use druse_flux::api::HelmRelease;
use druse_flux::release::CrdsPolicy;
use druse_object::{Object, Value};
use druse_plan::{Unit, UnitId, UnitKind};

use super::{Found, Subject, at, some_of, text_at};
use crate::fate;
use crate::model::Severity;

const GROUP: &str = "apiextensions.k8s.io";
const KIND: &[&str] = &["CustomResourceDefinition"];

pub(super) fn check(found: &mut Found<'_>, subject: &Subject<'_>) {
    if !subject.is(GROUP, KIND) {
        return;
    }
    if let Some(gone) = subject.deleted() {
        let instances = instances(gone.object, &found.input.base.plan.units, None);
        let title = match instances.len() {
            0 => format!("{} is deleted, with all its objects", gone.object.name()),
            n => format!(
                "{} is deleted, with all its objects: {n} in this tree, {}",
                gone.object.name(),
                some_of(&instances)
            ),
        };
        found.object("crd-removed", gone, title);
    }
    let Some((old, new)) = subject.both() else { return };
    if is_left_alone(subject) {
        return;
    }
    let gone: Vec<String> = served(old).difference(&served(new)).cloned().collect();
    for version in gone {
        let users = instances(new, &found.input.head.plan.units, Some(&version));
        let title = match users.len() {
            0 => format!("{} no longer serves {version}", new.name()),
            n => format!(
                "{} no longer serves {version}, which {n} objects of this tree use: {}",
                new.name(),
                some_of(&users)
            ),
        };
        if let Some(danger) = found.pair("crd-version-removed", &subject.pair, title) {
            danger.field("spec.versions");
            if !users.is_empty() {
                danger.severity(Severity::Danger);
            }
        }
    }
}

fn served(crd: &Object) -> BTreeSet<String> {
    at(&crd.value, "spec.versions")
        .map(Value::items)
        .unwrap_or_default()
        .iter()
        .filter(|v| v.get("served").and_then(Value::as_bool) != Some(false))
        .filter_map(|v| v.str_at(["name"]).map(str::to_string))
        .collect()
}

/// The objects of a tree that a definition defines, in one version or in any.
fn instances(crd: &Object, units: &[Unit], version: Option<&str>) -> Vec<String> {
    let group = text_at(&crd.value, "spec.group").unwrap_or_default();
    let kind = text_at(&crd.value, "spec.names.kind").unwrap_or_default();
    let mut out: Vec<String> = units
        .iter()
        .flat_map(|u| &u.objects)
        .filter(|o| o.kind() == kind)
        .filter(|o| {
            let gvk = o.gvk();
            gvk.group == group && version.is_none_or(|v| gvk.version == v)
        })
        .map(|o| o.key().to_string())
        .collect();
    out.sort();
    out.dedup();
    out
}

/// Whether Helm leaves a definition as it is when the release is upgraded.
fn is_left_alone(subject: &Subject<'_>) -> bool {
    subject.pair.head.is_some_and(|h| {
        h.unit.id.kind == UnitKind::HelmRelease
            && fate::is_in_crds_folder(h.object)
            && HelmRelease::read(&h.unit.definition)
                .is_ok_and(|r| CrdsPolicy::on_upgrade(&r.spec).is_none_or(|p| p != CrdsPolicy::CreateReplace))
    })
}

/// Releases whose charts bring other definitions than before, which Helm does not upgrade.
pub(super) fn not_upgraded(found: &mut Found<'_>, subjects: &[Subject<'_>]) {
    let mut by_unit: BTreeMap<&UnitId, Vec<String>> = BTreeMap::new();
    for subject in subjects.iter().filter(|s| s.is(GROUP, KIND) && is_left_alone(s)) {
        let Some((old, new)) = subject.both() else { continue };
        if old.value.get("spec") != new.value.get("spec")
            && let Some(head) = subject.pair.head
        {
            by_unit.entry(&head.unit.id).or_default().push(new.name().to_string());
        }
    }
    for (id, names) in by_unit {
        if let Some(unit) = found.input.head.unit(id) {
            let title =
                format!("{} of the chart's CRDs changed and will not be upgraded: {}", names.len(), some_of(&names));
            found.unit("crds-not-upgraded", unit, title);
        }
    }
}
