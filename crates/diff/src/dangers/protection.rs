//! What protected something and is taken away: annotations that keep, finalizers, encryption.

use std::collections::BTreeSet;

use druse_kustomize::FileTree;
use druse_object::{Object, Value};
use druse_plan::UnitKind;

use super::{Found, Subject, at, some_of, text_at};
use crate::fate;

pub(super) fn check(found: &mut Found<'_>, subject: &Subject<'_>) {
    let Some((old, new)) = subject.both() else { return };
    let kind = subject.pair.head.map_or(UnitKind::Kustomization, |h| h.unit.id.kind);
    if let Some(protection) = fate::protection(old, kind)
        && fate::protection(new, kind).is_none()
    {
        let title = format!("{protection} is removed from {}", new.key());
        found.pair("protection-removed", &subject.pair, title).map(|d| d.field("metadata.annotations"));
    }
    let finalizers = |o: &Object| -> BTreeSet<String> {
        at(&o.value, "metadata.finalizers")
            .map(Value::items)
            .unwrap_or_default()
            .iter()
            .filter_map(Value::as_str)
            .map(str::to_string)
            .collect()
    };
    let gone: Vec<String> = finalizers(old).difference(&finalizers(new)).cloned().collect();
    if !gone.is_empty() {
        let title = format!("finalizer {} is removed from {}", some_of(&gone), new.key());
        found.pair("protection-removed", &subject.pair, title).map(|d| d.field("metadata.finalizers"));
    }
    if new.is_secret() {
        plaintext(found, subject, old, new);
    }
}

/// Whether the file an object comes from holds what SOPS encrypted; decrypted objects do not show it any more.
fn is_encrypted(object: &Object, tree: &dyn FileTree) -> Option<bool> {
    if object.value.get("sops").is_some() {
        return Some(true);
    }
    let bytes = tree.read(object.provenance.file.as_deref()?).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    Some(text.contains("sops:") && text.contains("ENC[AES256_GCM,"))
}

fn plaintext(found: &mut Found<'_>, subject: &Subject<'_>, old: &Object, new: &Object) {
    let (base, head) = (found.input.base, found.input.head);
    let has_data =
        ["data", "stringData"].iter().any(|f| at(&new.value, f).and_then(Value::as_map).is_some_and(|m| !m.is_empty()));
    if has_data && is_encrypted(old, base.tree) == Some(true) && is_encrypted(new, head.tree) == Some(false) {
        let title = format!("{} is not encrypted any more", new.key());
        found.pair("secret-plaintext", &subject.pair, title);
    }
}

/// Units that delete more than they did.
pub(super) fn units(found: &mut Found<'_>) {
    for unit in &found.input.head.plan.units {
        let Some(old) = found.input.base.unit(&unit.id).filter(|_| unit.id.kind == UnitKind::Kustomization) else {
            continue;
        };
        let (from, to) = (&old.definition.value, &unit.definition.value);
        let truth = |v: &Value, path: &str| at(v, path).and_then(Value::as_bool) == Some(true);
        if truth(to, "spec.prune") && !truth(from, "spec.prune") {
            found.unit("prune-enabled", unit, format!("{} prunes from now on", unit.id)).field("spec.prune");
        }
        if text_at(from, "spec.deletionPolicy") == Some("Orphan")
            && text_at(to, "spec.deletionPolicy") != Some("Orphan")
        {
            let title = format!("deletionPolicy: Orphan is removed from {}", unit.id);
            found.unit("protection-removed", unit, title).field("spec.deletionPolicy");
        }
        if truth(to, "spec.force") && !truth(from, "spec.force") {
            found
                .unit("force-enabled", unit, format!("{} may delete and recreate objects", unit.id))
                .field("spec.force");
        }
    }
}
