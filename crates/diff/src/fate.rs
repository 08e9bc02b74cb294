//! What becomes of an object, or of a unit, that head does not have any more.
//!
//! Source of behaviour: kustomize-controller (`prune`, `deletionPolicy`, the `prune: disabled` annotation, a suspended
//! object is finalised without pruning), helm-controller (uninstall when the HelmRelease is deleted) and Helm
//! (`helm.sh/resource-policy: keep`; an upgrade and an uninstall leave what came from `crds/` alone).

use std::collections::BTreeSet;

use druse_flux::api::Kustomization;
use druse_object::Object;
use druse_plan::{Unit, UnitId, UnitKind};

use crate::objects::Ref;
use crate::side::Side;

/// What becomes of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It is deleted, and so.
    Deleted(String),
    /// It stays in the cluster, and why.
    Stays(String),
}

impl Fate {
    pub(crate) fn is_deleted(&self) -> bool {
        matches!(self, Self::Deleted(_))
    }

    pub(crate) fn text(&self) -> &str {
        match self {
            Self::Deleted(text) | Self::Stays(text) => text,
        }
    }
}

/// Whether an object came from a chart's `crds/`, which Helm only ever adds.
pub(crate) fn is_in_crds_folder(object: &Object) -> bool {
    object.provenance.template.as_deref().is_some_and(|t| t.split('/').any(|part| part == "crds"))
        && object.kind() == "CustomResourceDefinition"
        && !object.provenance.template.as_deref().unwrap_or_default().contains("/templates/")
}

/// What protects an object from deletion by its unit: the annotation, or label, that does.
pub(crate) fn protection(object: &Object, unit: UnitKind) -> Option<&'static str> {
    let has = |key: &str, value: &str| {
        [object.annotation(key), object.label(key)].into_iter().flatten().any(|v| v.eq_ignore_ascii_case(value))
    };
    match unit {
        UnitKind::Kustomization if has("kustomize.toolkit.fluxcd.io/prune", "disabled") => {
            Some("kustomize.toolkit.fluxcd.io/prune: disabled")
        }
        UnitKind::Kustomization if has("kustomize.toolkit.fluxcd.io/reconcile", "disabled") => {
            Some("kustomize.toolkit.fluxcd.io/reconcile: disabled")
        }
        UnitKind::HelmRelease if object.annotation("helm.sh/resource-policy").is_some_and(|v| v.trim() == "keep") => {
            Some("helm.sh/resource-policy: keep")
        }
        _ => None,
    }
}

/// What becomes of an object that head does not render any more.
pub(crate) fn of_object(object: Ref<'_>, base: &Side<'_>, head: &Side<'_>) -> Fate {
    if let Some((other, _)) = head.objects(&object.object.key()).first() {
        return Fate::Stays(format!("stays: {} applies it too", other.id));
    }
    if let Some(protection) = protection(object.object, object.unit.id.kind) {
        return Fate::Stays(format!("stays in the cluster, unmanaged: {protection}"));
    }
    if object.unit.id.kind == UnitKind::HelmRelease && is_in_crds_folder(object.object) {
        return Fate::Stays("stays in the cluster: Helm never deletes what comes from a chart's crds/ folder".into());
    }
    match head.unit(&object.unit.id) {
        Some(unit) if prunes(unit) => Fate::Deleted(match unit.id.kind {
            UnitKind::Kustomization => format!("deleted: {} prunes what it no longer renders", unit.id),
            UnitKind::HelmRelease => "deleted by the release's upgrade".to_string(),
        }),
        Some(unit) => Fate::Stays(format!("stays in the cluster, unmanaged: {} does not prune", unit.id)),
        None => of_unit(object.unit, base, head),
    }
}

/// Whether a unit deletes what it no longer renders.
pub(crate) fn prunes(unit: &Unit) -> bool {
    unit.id.kind == UnitKind::HelmRelease
        || unit.definition.value.at(["spec", "prune"]).and_then(|v| v.as_bool()) == Some(true)
}

/// Whether the object that defines a unit which head does not have any more is deleted from the cluster.
pub(crate) fn definition_is_deleted(unit: &Unit, base: &Side<'_>, head: &Side<'_>) -> bool {
    definition(unit, base, head, &mut BTreeSet::new()).is_ok()
}

/// What becomes of the objects of a unit that head does not have any more.
pub(crate) fn of_unit(unit: &Unit, base: &Side<'_>, head: &Side<'_>) -> Fate {
    of_unit_seen(unit, base, head, &mut BTreeSet::new())
}

fn of_unit_seen(unit: &Unit, base: &Side<'_>, head: &Side<'_>, seen: &mut BTreeSet<UnitId>) -> Fate {
    definition(unit, base, head, seen).map_or_else(Fate::Stays, |how| match unit.id.kind {
        UnitKind::HelmRelease => Fate::Deleted(format!("deleted: {how}, and the release is uninstalled")),
        UnitKind::Kustomization => match leaves_objects(unit) {
            Some(why) => Fate::Stays(format!("stays in the cluster, unmanaged: {} is deleted with {why}", unit.id)),
            None => Fate::Deleted(format!("deleted: {how}, and its finalizer deletes all it applied")),
        },
    })
}

fn leaves_objects(unit: &Unit) -> Option<String> {
    let spec = Kustomization::read(&unit.definition).ok()?.spec;
    match spec.deletion_policy.as_deref().unwrap_or("MirrorPrune") {
        "Orphan" => Some("deletionPolicy: Orphan".into()),
        "Delete" | "WaitForTermination" => None,
        _ if spec.prune => None,
        _ => Some("prune: false".into()),
    }
}

/// How a unit's own object gets deleted (`Ok`), or why it does not (`Err`).
fn definition(unit: &Unit, base: &Side<'_>, head: &Side<'_>, seen: &mut BTreeSet<UnitId>) -> Result<String, String> {
    seen.insert(unit.id.clone());
    if let Some(protection) = unit.made_by.first().and_then(|m| protection(&unit.definition, m.kind)) {
        return Err(format!("stays in the cluster: {} has {protection}", unit.id));
    }
    if unit.made_by.iter().all(|m| *m == unit.id) {
        return if unit.made_by.is_empty() {
            Err(format!("stays in the cluster until someone deletes {}, which no unit applies", unit.id))
        } else {
            Err(format!("stays in the cluster until someone deletes {}: nothing is left that would", unit.id))
        };
    }
    let mut why = Err(String::new());
    for maker in unit.made_by.iter().filter(|m| **m != unit.id) {
        if seen.contains(maker) {
            continue;
        }
        why = match head.unit(maker) {
            Some(maker) if prunes(maker) => return Ok(format!("{} prunes {}", maker.id, unit.id)),
            Some(maker) => Err(format!("stays in the cluster, with {}: {} does not prune", unit.id, maker.id)),
            None => match base.unit(maker).map(|m| of_unit_seen(m, base, head, seen)) {
                Some(Fate::Deleted(how)) => return Ok(how.strip_prefix("deleted: ").unwrap_or(&how).to_string()),
                Some(Fate::Stays(how)) => Err(how),
                None => Err(format!("stays in the cluster until someone deletes {}", unit.id)),
            },
        };
    }
    why
}
