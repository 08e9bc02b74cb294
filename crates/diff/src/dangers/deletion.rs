//! What is deleted, and what is left behind: by pruning, with a unit that goes, by a move.

use std::collections::{BTreeMap, HashMap};

use druse_flux::api::HelmRelease;
use druse_plan::{Unit, UnitId, UnitKind};

use super::{Found, Subject, data, some_of};
use crate::fate;
use crate::model::Severity;
use crate::objects::Ref;

pub(super) fn check(found: &mut Found<'_>, subjects: &[Subject<'_>]) {
    pruned(found, subjects);
    removed_units(found, subjects);
    releases(found);
    changed_units(found, subjects);
    changed_namespaces(found, subjects);
}

/// Objects that units which stay no longer render.
fn pruned(found: &mut Found<'_>, subjects: &[Subject<'_>]) {
    let mut by_unit: BTreeMap<&UnitId, (Vec<String>, Vec<String>)> = BTreeMap::new();
    for subject in subjects {
        let (Some(gone), Some(fate)) = (subject.pair.base, &subject.fate) else { continue };
        let stays_elsewhere = !found.input.head.objects(&gone.object.key()).is_empty();
        if found.input.head.unit(&gone.unit.id).is_none() || stays_elsewhere {
            continue;
        }
        let names = by_unit.entry(&gone.unit.id).or_default();
        if fate.is_deleted() { &mut names.0 } else { &mut names.1 }.push(gone.object.key().to_string());
    }
    for (id, (deleted, left)) in by_unit {
        let Some(unit) = found.input.head.unit(id) else { continue };
        let objects = |n: usize| if n == 1 { "1 object".to_string() } else { format!("{n} objects") };
        if !deleted.is_empty() {
            let title = format!("{} will be deleted: {}", objects(deleted.len()), some_of(&deleted));
            found.unit("pruned", unit, title);
        }
        if !left.is_empty() {
            let title = format!("{} will be left behind: {}", objects(left.len()), some_of(&left));
            found.unit("orphaned", unit, title);
        }
    }
}

/// The unit of head that takes the place of one that is gone: of the same kind, it applies most of its objects, has its
/// name in another namespace, or reads the same folder.
fn successor<'a>(gone: &Unit, found: &Found<'a>, subjects: &[Subject<'a>]) -> Option<&'a Unit> {
    let input = found.input;
    let mut taken: BTreeMap<&UnitId, usize> = BTreeMap::new();
    for pair in subjects.iter().map(|s| &s.pair).filter(|p| p.moved()) {
        if let (Some(old), Some(new)) = (pair.base, pair.head)
            && old.unit.id == gone.id
        {
            *taken.entry(&new.unit.id).or_default() += 1;
        }
    }
    let is_new = |u: &&&'a Unit| input.base.unit(&u.id).is_none() && u.id.kind == gone.id.kind;
    let new_units: Vec<&'a Unit> = input.head.plan.units.iter().collect();
    let new_units: Vec<&&'a Unit> = new_units.iter().filter(is_new).collect();
    let path = |u: &Unit| u.definition.value.str_at(["spec", "path"]).map(str::to_string);
    new_units
        .iter()
        .find(|u| taken.get(&u.id).is_some_and(|n| 2 * n >= gone.objects.len()))
        .or_else(|| new_units.iter().find(|u| u.id.name == gone.id.name))
        .or_else(|| new_units.iter().find(|u| path(gone).is_some() && path(u) == path(gone)))
        .map(|u| **u)
}

fn removed_units(found: &mut Found<'_>, subjects: &[Subject<'_>]) {
    let (base, head) = (found.input.base, found.input.head);
    for unit in &base.plan.units {
        if head.unit(&unit.id).is_some() || found.input.matched.head_unknown.contains_key(&unit.id) {
            continue;
        }
        let fate = fate::of_unit(unit, base, head);
        let many = unit.objects.len();
        if let Some(next) = successor(unit, found, subjects) {
            let title = format!("{} becomes {}: {}", unit.id, next.id, of_many(many, fate.text()));
            let danger = found.unit("unit-moved", unit, title);
            if !fate.is_deleted() && fate::definition_is_deleted(unit, base, head) {
                danger.severity(Severity::Notice);
                danger.why = "The old unit goes without its objects, and the new one takes them over.".into();
                danger.remedy = "Nothing, as long as the new unit is reconciled too.".into();
            } else if !fate.is_deleted() {
                danger.severity(Severity::Warning);
                danger.why = "Nothing deletes the old unit: it stays in the cluster and goes on applying what the new one applies too.".into();
                danger.remedy = "Delete the old unit by hand once this is merged, with prune: false first so that it leaves its objects.".into();
            } else if unit.id.kind == UnitKind::Kustomization && !unit.objects.iter().any(data::holds_data) {
                danger.severity(Severity::Warning);
            }
        } else if fate.is_deleted() {
            found.unit("unit-removed", unit, format!("{} is removed: {}", unit.id, of_many(many, fate.text())));
        } else {
            found.unit("orphaned", unit, format!("{} is removed: {}", unit.id, of_many(many, fate.text())));
        }
    }
}

fn of_many(many: usize, fate: &str) -> String {
    match (many, fate.starts_with("stays")) {
        (0, _) => "it has no objects".to_string(),
        (1, true) => format!("its object {fate}"),
        (1, false) => format!("its object is {fate}"),
        (_, true) => format!("each of its {many} objects {fate}"),
        (_, false) => format!("its {many} objects are {fate}"),
    }
}

/// Releases that keep their HelmRelease and become others.
fn releases(found: &mut Found<'_>) {
    for unit in &found.input.head.plan.units {
        let Some(old) = found.input.base.unit(&unit.id).filter(|_| unit.id.kind == UnitKind::HelmRelease) else {
            continue;
        };
        let differs =
            |field: &&str| old.definition.value["spec"].get(field) != unit.definition.value["spec"].get(field);
        if !["releaseName", "targetNamespace", "storageNamespace"].iter().any(differs) {
            continue;
        }
        let (Ok(from), Ok(to)) = (HelmRelease::read(&old.definition), HelmRelease::read(&unit.definition)) else {
            continue;
        };
        let changes: Vec<String> = [
            ("name", from.release_name(), to.release_name()),
            ("namespace", from.release_namespace().to_string(), to.release_namespace().to_string()),
            ("storage namespace", from.storage_namespace().to_string(), to.storage_namespace().to_string()),
        ]
        .into_iter()
        .filter(|(_, a, b)| a != b)
        .map(|(what, a, b)| format!("{what} {a} becomes {b}"))
        .collect();
        if !changes.is_empty() {
            found.unit("release-moved", unit, format!("the release is another one: {}", changes.join(", ")));
        }
    }
}

/// The unit an object moves to, the object's name, and whether it holds data.
type Move<'a> = (&'a Unit, String, bool);

/// Objects that another unit applies than before.
fn changed_units(found: &mut Found<'_>, subjects: &[Subject<'_>]) {
    let mut moves: BTreeMap<(&UnitId, &UnitId), Vec<Move<'_>>> = BTreeMap::new();
    for pair in subjects.iter().map(|s| &s.pair).filter(|p| p.moved() && !p.hook) {
        let (Some(old), Some(new)) = (pair.base, pair.head) else { continue };
        let protected = fate::protection(old.object, old.unit.id.kind).is_some();
        let prunes = found
            .input
            .head
            .unit(&old.unit.id)
            .map_or_else(|| fate::of_unit(old.unit, found.input.base, found.input.head).is_deleted(), fate::prunes);
        if !protected && prunes {
            let entry = (new.unit, new.object.key().to_string(), data::holds_data(new.object));
            moves.entry((&old.unit.id, &new.unit.id)).or_default().push(entry);
        }
    }
    for ((from, to), objects) in moves {
        let Some((unit, ..)) = objects.first() else { continue };
        let names: Vec<String> = objects.iter().map(|(_, name, _)| name.clone()).collect();
        let title = format!("from {from} to {to}: {}", some_of(&names));
        let danger = found.unit("objects-change-unit", unit, title);
        if objects.iter().any(|(.., data)| *data) || from.kind == UnitKind::HelmRelease {
            danger.severity(Severity::Danger);
        }
    }
}

/// Objects that a unit made in one namespace and makes in another now.
fn changed_namespaces(found: &mut Found<'_>, subjects: &[Subject<'_>]) {
    let what = |r: &Ref<'_>| {
        (r.unit.id.clone(), r.object.gvk().group, r.object.kind().to_string(), r.object.name().to_string())
    };
    let added = subjects.iter().filter(|s| s.added().is_some()).filter_map(|s| s.pair.head);
    let added: HashMap<_, Ref<'_>> = added.map(|r| (what(&r), r)).collect();
    for gone in subjects.iter().filter_map(Subject::deleted) {
        let Some(new) = added.get(&what(&gone)) else { continue };
        let (kind, from, to) = (gone.object.kind(), gone.object.namespace(), new.object.namespace());
        if from != to {
            found.object("object-moves-namespace", gone, format!("{kind} moves from namespace {from} to {to}"));
        }
    }
}
