//! Data that is lost: claims, volumes, namespaces, and the resources that operators keep data for.

use std::collections::{HashMap, HashSet};
use std::sync::LazyLock;

use druse_object::{Quantity, Value};

use super::{Found, Subject, at, show, text_at};
use crate::fields;
use crate::model::Severity;

/// What is known of kinds, by group and kind.
struct Kinds {
    /// Kinds that hold data, with what goes with them.
    data: HashMap<(String, String), String>,
    /// Kinds that back data up.
    backups: HashSet<(String, String)>,
    /// Group, kind, and a field with the size of the kind's volumes.
    sizes: Vec<(String, String, String)>,
}

static KINDS: LazyLock<Kinds> = LazyLock::new(|| {
    #[derive(serde::Deserialize, Default)]
    struct File {
        data: Vec<(String, String, String)>,
        backups: HashSet<(String, String)>,
        sizes: Vec<(String, String, String)>,
    }
    let file: File = serde_json::from_str(include_str!("../../data/data-kinds.json")).unwrap_or_default();
    let data = file.data.into_iter().map(|(group, kind, what)| ((group, kind), what)).collect();
    Kinds { data, backups: file.backups, sizes: file.sizes }
});

/// Whether an object holds data that goes with it.
pub(super) fn holds_data(object: &druse_object::Object) -> bool {
    let gvk = object.gvk();
    KINDS.data.contains_key(&(gvk.group.to_string(), gvk.kind.to_string()))
        || matches!(
            (gvk.group.as_str(), gvk.kind.as_str()),
            ("", "PersistentVolumeClaim" | "PersistentVolume" | "Namespace")
        )
}

pub(super) fn check(found: &mut Found<'_>, subject: &Subject<'_>) {
    removed(found, subject);
    if let Some((old, new)) = subject.both() {
        let (old, new) = (&old.value, &new.value);
        if subject.is("", &["PersistentVolumeClaim"]) {
            claim(found, subject, old, new);
        } else if subject.is("apps", &["StatefulSet"]) {
            stateful_set(found, subject, old, new);
        } else if subject.is("", &["PersistentVolume"]) {
            reclaim(found, subject, old, new, "spec.persistentVolumeReclaimPolicy", "Retain");
        } else if subject.is("storage.k8s.io", &["StorageClass"]) {
            reclaim(found, subject, old, new, "reclaimPolicy", "Delete");
        }
        if subject.is("postgresql.cnpg.io", &["Cluster"]) {
            archive(found, subject, old, new);
        }
        for (_, _, field) in KINDS.sizes.iter().filter(|(group, kind, _)| subject.is(group, &[kind.as_str()])) {
            shrinks(found, subject, old, new, field, "volume");
        }
    }
}

fn removed(found: &mut Found<'_>, subject: &Subject<'_>) {
    let Some(gone) = subject.deleted() else { return };
    let gvk = gone.object.gvk();
    let name = gone.object.name();
    let how = subject.fate.as_ref().map(|f| f.text().to_string()).unwrap_or_default();
    match (gvk.group.as_str(), gvk.kind.as_str()) {
        ("", "PersistentVolumeClaim") => {
            let size = text_at(&gone.object.value, "spec.resources.requests.storage").unwrap_or("unknown size");
            found.object("pvc-removed", gone, format!("claim {name} ({size}) is {how}"));
        }
        ("", "PersistentVolume") => {
            found.object("pv-removed", gone, format!("volume {name} is {how}"));
        }
        ("", "Namespace") => {
            found.object("namespace-removed", gone, format!("namespace {name} is {how}"));
        }
        ("storage.k8s.io", "StorageClass") => {
            found.object("storage-class-removed", gone, format!("storage class {name} is {how}"));
        }
        ("apps", "StatefulSet")
            if text_at(&gone.object.value, "spec.persistentVolumeClaimRetentionPolicy.whenDeleted")
                == Some("Delete") =>
        {
            found.object(
                "claims-deleted-with-set",
                gone,
                format!("StatefulSet {name} is {how}, and its claims with it"),
            );
        }
        (group, kind) => {
            let key = (group.to_string(), kind.to_string());
            if let Some(what) = KINDS.data.get(&key) {
                found.object("data-removed", gone, format!("{kind} {name} is {how}: with it goes {what}"));
            } else if KINDS.backups.contains(&key) {
                found.object("backup-removed", gone, format!("{kind} {name} is {how}"));
            }
        }
    }
}

fn claim(found: &mut Found<'_>, subject: &Subject<'_>, old: &Value, new: &Value) {
    shrinks(found, subject, old, new, "spec.resources.requests.storage", "claim");
    const CLASS: &str = "spec.storageClassName";
    let (from, to) = (text_at(old, CLASS), text_at(new, CLASS));
    if from != to {
        let words = |class: Option<&str>| class.map_or("the default class".to_string(), |c| format!("class {c:?}"));
        let title = format!("claim changes from {} to {}", words(from), words(to));
        if let Some(danger) = found.pair("storage-class-changed", &subject.pair, title) {
            danger.field(CLASS);
            if from.is_none() {
                danger.severity(Severity::Warning).also("It is harmless where that is the default class.");
            }
        }
    }
}

fn shrinks(found: &mut Found<'_>, subject: &Subject<'_>, old: &Value, new: &Value, field: &str, what: &str) {
    let sizes = (at(old, field).and_then(Quantity::of), at(new, field).and_then(Quantity::of));
    if let (Some(from), Some(to)) = sizes
        && to < from
    {
        let title = format!("{what} shrinks from {} to {}", show(at(old, field)), show(at(new, field)));
        found.pair("pvc-shrunk", &subject.pair, title).map(|d| d.field(field));
    }
}

fn stateful_set(found: &mut Found<'_>, subject: &Subject<'_>, old: &Value, new: &Value) {
    const TEMPLATES: &str = "spec.volumeClaimTemplates";
    let (from, to) = (at(old, TEMPLATES), at(new, TEMPLATES));
    let empty = Value::Array(Vec::new());
    if let Some(delta) = fields::compare(from.unwrap_or(&empty), to.unwrap_or(&empty), None) {
        let mut paths = Vec::new();
        fields::flat::flatten(&delta, &mut |_, field| paths.push(field.path.clone()));
        let title = format!("volumeClaimTemplates change: {}", super::some_of(&paths));
        let field = super::deepest(TEMPLATES, from, to);
        found.pair("claim-templates-changed", &subject.pair, title).map(|d| d.field(&field));
    }
    for when in ["whenDeleted", "whenScaled"] {
        let path = format!("spec.persistentVolumeClaimRetentionPolicy.{when}");
        if text_at(new, &path) == Some("Delete") && text_at(old, &path) != Some("Delete") {
            let event = if when == "whenDeleted" { "the StatefulSet is deleted" } else { "it is scaled down" };
            let title = format!("claims are deleted when {event} (they were kept)");
            found.pair("claims-deleted-with-set", &subject.pair, title).map(|d| d.field(&path));
        }
    }
}

/// A database that is backed up no more: neither its own archive nor one of a plugin is left.
fn archive(found: &mut Found<'_>, subject: &Subject<'_>, old: &Value, new: &Value) {
    let archives = |v: &Value| {
        let own = at(v, "spec.backup").is_some_and(|b| b.as_map().is_some_and(|m| !m.is_empty()));
        let plugin = |p: &Value| p["isWALArchiver"].as_bool() == Some(true) && p["enabled"].as_bool() != Some(false);
        own || at(v, "spec.plugins").is_some_and(|p| p.items().iter().any(plugin))
    };
    if archives(old) && !archives(new) {
        let title = "the database is not backed up any more".to_string();
        found.pair("backup-removed", &subject.pair, title).map(|d| d.field("spec.backup"));
    }
}

fn reclaim(found: &mut Found<'_>, subject: &Subject<'_>, old: &Value, new: &Value, path: &str, default: &str) {
    let (from, to) = (text_at(old, path).unwrap_or(default), text_at(new, path).unwrap_or(default));
    if from != "Delete" && to == "Delete" {
        found
            .pair("reclaim-delete", &subject.pair, format!("reclaim policy changes from {from} to Delete"))
            .map(|d| d.field(path));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_compare_across_units() {
        let q = |s: &str| Quantity::of(&Value::from(s));
        assert!(q("1Gi") > q("1G"));
        assert_eq!(q("1024Mi"), q("1Gi"));
        assert_eq!(q("1e3").map(Quantity::approximate), Some(1000.0));
        assert_eq!(q("lots"), None);
    }

    #[test]
    fn the_tables_are_read() {
        assert!(KINDS.data.len() > 20 && KINDS.backups.len() > 8 && KINDS.sizes.len() > 8);
    }
}
