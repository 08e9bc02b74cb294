//! DR041: units that use a kind which another unit installs, without waiting for it.

use std::collections::{BTreeMap, BTreeSet};

use druse_plan::kinds::crd_kind;
use druse_plan::{UnitId, UnitKind};

use crate::context::Context;
use crate::finding::{Finding, Severity};
use crate::index::Origin;
use crate::position::Step;

pub(super) fn check(cx: &Context<'_>, out: &mut Vec<Finding>) {
    let mut installers: BTreeMap<(String, String), BTreeSet<&UnitId>> = BTreeMap::new();
    for e in cx.index.of_kind("apiextensions.k8s.io", "CustomResourceDefinition") {
        if let Some(kind) = crd_kind(e.object) {
            installers.entry((kind.group, kind.kind)).or_default().insert(&e.unit.id);
        }
    }
    let before = waits(cx);
    let mut seen = BTreeSet::new();
    for entry in cx.own().filter(|e| e.origin == Origin::Tree && e.unit.id.kind == UnitKind::Kustomization) {
        if entry.gvk.group.ends_with(".toolkit.fluxcd.io") {
            continue;
        }
        // A dependency that does not exist is a fault of its own, and may be just this one, misspelt.
        if entry.unit.depends_on.iter().any(|on| cx.plan.unit(on).is_none()) {
            continue;
        }
        let Some(by) = installers.get(&(entry.gvk.group.to_string(), entry.gvk.kind.to_string())) else { continue };
        let reached = before.get(&entry.unit.id);
        let fine = by.contains(&entry.unit.id) || by.iter().any(|id| reached.is_some_and(|r| r.contains(*id)));
        let Some(installer) = by.first() else { continue };
        if fine || !seen.insert((&entry.unit.id, *installer)) {
            continue;
        }
        // One Kustomization cannot wait for a release; the one that applies the release can be waited for.
        let wanted = cx
            .plan
            .unit(installer)
            .filter(|u| u.id.kind == UnitKind::HelmRelease)
            .and_then(|u| u.made_by.first())
            .unwrap_or(installer);
        let path = ["kind"].map(Step::from);
        let finding = if *wanted == entry.unit.id {
            let message = format!("{} is applied together with {installer}, which installs its kind", entry.key());
            cx.at(entry, &path, &[], "DR041", message).severity(Severity::Info).help(
                "move it to a unit of its own that depends on this one (Flux tries again until the kind is there)",
            )
        } else {
            let message = format!(
                "{} needs a kind that {installer} installs, and {} does not wait for it",
                entry.key(),
                entry.unit.id
            );
            cx.at(entry, &path, &[], "DR041", message).help(format!("add {wanted} to dependsOn of {}", entry.unit.id))
        };
        out.push(finding);
    }
}

/// For each unit, all those that were applied before it: what it waits for, what made it, and what these made.
fn waits<'a>(cx: &'a Context<'_>) -> BTreeMap<&'a UnitId, BTreeSet<&'a UnitId>> {
    let mut made: BTreeMap<&UnitId, Vec<&UnitId>> = BTreeMap::new();
    for unit in &cx.plan.units {
        for by in unit.made_by.iter().filter(|by| **by != unit.id) {
            made.entry(by).or_default().push(&unit.id);
        }
    }
    let mut out = BTreeMap::new();
    for unit in &cx.plan.units {
        let mut reached: BTreeSet<&UnitId> = BTreeSet::new();
        let mut queue: Vec<&UnitId> = vec![&unit.id];
        let mut chain: BTreeSet<&UnitId> = BTreeSet::new();
        while let Some(id) = queue.pop() {
            if !chain.insert(id) {
                continue;
            }
            let Some(u) = cx.plan.unit(id) else { continue };
            queue.extend(u.made_by.iter());
            for on in &u.depends_on {
                // What is waited for, with all that it makes.
                let mut inner = vec![on];
                while let Some(id) = inner.pop() {
                    if reached.insert(id) {
                        inner.extend(made.get(id).into_iter().flatten());
                    }
                }
                queue.push(on);
            }
            reached.extend(u.made_by.iter().filter(|by| **by != unit.id));
        }
        out.insert(&unit.id, reached);
    }
    out
}
