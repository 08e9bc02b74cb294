//! Data that is still there and no longer where it is looked for, kept in fewer copies, or backed up less.

use std::collections::{BTreeMap, BTreeSet};

use druse_object::Value;

use super::access::containers;
use super::{Found, Subject, at, show, text_at};

/// Fields with how many copies are kept, by group and kind.
const COPIES: &[(&str, &str, &str)] = &[
    ("ceph.rook.io", "CephBlockPool", "spec.replicated.size"),
    ("ceph.rook.io", "CephFilesystem", "spec.metadataPool.replicated.size"),
    ("ceph.rook.io", "CephObjectStore", "spec.metadataPool.replicated.size"),
    ("ceph.rook.io", "CephObjectStore", "spec.dataPool.replicated.size"),
    ("ceph.rook.io", "CephCluster", "spec.mon.count"),
    ("longhorn.io", "Volume", "spec.numberOfReplicas"),
];

pub(super) fn check(found: &mut Found<'_>, subject: &Subject<'_>) {
    let Some((old, new)) = subject.both() else { return };
    let (old, new) = (&old.value, &new.value);
    for (_, _, field) in COPIES.iter().filter(|(group, kind, _)| subject.is(group, &[kind])) {
        fewer(found, subject, old, new, field, "copies-dropped");
    }
    const CONFIRMED: &str = "spec.cleanupPolicy.confirmation";
    let confirms = |v: &Value| text_at(v, CONFIRMED) == Some("yes-really-destroy-data");
    if subject.is("ceph.rook.io", &["CephCluster"]) && confirms(new) && !confirms(old) {
        let title = "what the disks hold is destroyed when the cluster is deleted";
        found.pair("cleanup-confirmed", &subject.pair, title).map(|d| d.field(CONFIRMED));
    }
    if subject.is("volsync.backube", &["ReplicationSource"]) {
        for mover in ["restic", "kopia"] {
            for span in ["hourly", "daily", "weekly", "monthly", "yearly", "last", "latest"] {
                fewer(found, subject, old, new, &format!("spec.{mover}.retain.{span}"), "backup-weakened");
            }
        }
        paused(found, subject, old, new, "spec.paused");
    }
    if subject.is("postgresql.cnpg.io", &["ScheduledBackup"]) {
        paused(found, subject, old, new, "spec.suspend");
    }
    if subject.is("apps", &["Deployment", "StatefulSet", "DaemonSet"]) {
        mounts(found, subject, old, new);
    }
}

fn fewer(found: &mut Found<'_>, subject: &Subject<'_>, old: &Value, new: &Value, field: &str, code: &'static str) {
    let number = |v: &Value| at(v, field).and_then(Value::as_i64);
    let (Some(from), Some(to)) = (number(old), number(new)) else { return };
    if to < from {
        found.pair(code, &subject.pair, format!("{field} drops from {from} to {to}")).map(|d| d.field(field));
    }
}

fn paused(found: &mut Found<'_>, subject: &Subject<'_>, old: &Value, new: &Value, field: &str) {
    let is = |v: &Value| at(v, field).and_then(Value::as_bool) == Some(true);
    if is(new) && !is(old) {
        let name = text_at(new, "metadata.name").unwrap_or_default();
        found.pair("backup-weakened", &subject.pair, format!("backup {name} is paused")).map(|d| d.field(field));
    }
}

/// The claims that pods mount, each with where.
fn claims(object: &Value) -> BTreeMap<String, BTreeSet<String>> {
    let Some(spec) = at(object, "spec.template.spec") else { return BTreeMap::new() };
    let volumes = spec["volumes"].items().iter();
    let named = volumes.filter_map(|v| Some((v.str_at(["name"])?, text_at(v, "persistentVolumeClaim.claimName")?)));
    let paths = |volume: &str| -> BTreeSet<String> {
        let mounts = containers(spec).flat_map(|c| c["volumeMounts"].items());
        let own = mounts.filter(|m| m.str_at(["name"]) == Some(volume));
        own.filter_map(|m| m.str_at(["mountPath"])).map(|p| p.trim_end_matches('/').to_string()).collect()
    };
    let mut claims: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    // Two volumes can be of one claim.
    named.for_each(|(volume, claim)| claims.entry(claim.to_string()).or_default().extend(paths(volume)));
    claims
}

fn mounts(found: &mut Found<'_>, subject: &Subject<'_>, old: &Value, new: &Value) {
    let (before, after) = (claims(old), claims(new));
    for (claim, paths) in &before {
        match after.get(claim) {
            None => {
                let title = format!("claim {claim} is not mounted any more");
                found.pair("volume-unmounted", &subject.pair, title).map(|d| d.field("spec.template.spec.volumes"));
            }
            Some(now) if !paths.is_empty() && paths.is_disjoint(now) => {
                let shown = |p: &BTreeSet<String>| p.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
                let to = if now.is_empty() { show(None) } else { shown(now) };
                let title = format!("claim {claim} moves from {} to {to}", shown(paths));
                found.pair("volume-unmounted", &subject.pair, title).map(|d| d.field("spec.template.spec.containers"));
            }
            Some(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_volumes_of_one_claim_are_one_claim_with_the_paths_of_both() {
        let text = "spec: {template: {spec: {
            volumes: [{name: a, persistentVolumeClaim: {claimName: c}}, {name: b, persistentVolumeClaim: {claimName: c}}],
            containers: [{volumeMounts: [{name: a, mountPath: /a/}, {name: b, mountPath: /b}]}]}}}";
        let object = druse_object::yaml::parse_strict(text).unwrap();
        let paths = BTreeSet::from(["/a".to_owned(), "/b".to_owned()]);
        assert_eq!(claims(&object), BTreeMap::from([("c".to_owned(), paths)]));
    }
}
