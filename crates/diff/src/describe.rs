//! What differs in an object, written down: changed fields with their echoes marked, whole objects as YAML, and no
//! Secret's value anywhere.

use std::collections::HashMap;

use druse_kustomize::Schemas;
use druse_object::{Object, Value, yaml};

use crate::fate;
use crate::fields::flat::{FieldChange, Mechanical, Step, flatten};
use crate::fields::{self};
use crate::model::{ChangeKind, ObjectChange, Place, UnitChange};
use crate::objects::{Matched, Pair, Ref};
use crate::secrets::{self, MASK, Masker};
use crate::side::Side;
use crate::units;

/// Old and new names of objects that only their hash names differently, by namespace.
type Renames<'a> = HashMap<(&'a str, &'a str), &'a str>;

/// Where an object comes from: its own file, or that of the release whose chart makes it.
pub(crate) fn place(object: Ref<'_>) -> Place {
    let p = &object.object.provenance;
    match p.file.as_deref().filter(|_| p.template.is_none()) {
        Some(file) => Place { file: file.to_string(), line: p.line, template: None },
        None => Place { template: p.template.as_deref().map(str::to_string), ..units::place(object.unit) },
    }
}

/// Writes the objects of all units down.
pub(crate) fn objects(
    out: &mut [UnitChange],
    matched: &Matched<'_>,
    base: &Side<'_>,
    head: &Side<'_>,
    masker: &Masker,
) {
    let mut renames: Renames<'_> = HashMap::new();
    for pair in matched.pairs.values().flatten().filter(|p| p.renamed()) {
        if let (Some(old), Some(new)) = (pair.base, pair.head) {
            renames.insert((old.object.namespace(), old.object.name()), new.object.name());
        }
    }
    let schemas = Schemas::builtin();
    let by_name: HashMap<String, &Vec<Pair<'_>>> = matched.pairs.iter().map(|(id, p)| (id.to_string(), p)).collect();
    for unit in out {
        for pair in by_name.get(&unit.unit).into_iter().flat_map(|p| p.iter()) {
            unit.objects.extend(object(pair, &renames, &schemas, base, head, masker));
        }
    }
}

fn object(
    pair: &Pair<'_>,
    renames: &Renames<'_>,
    schemas: &Schemas,
    base: &Side<'_>,
    head: &Side<'_>,
    masker: &Masker,
) -> Option<ObjectChange> {
    let shown = pair.either()?;
    let mut out = ObjectChange {
        object: masker.owned(shown.object.key().to_string()),
        api_version: shown.object.api_version().to_string(),
        change: pair.change(),
        place: place(shown),
        renamed_from: None,
        moved_from: None,
        hook: pair.hook,
        fate: None,
        fields: Vec::new(),
        yaml: None,
    };
    match (pair.base, pair.head) {
        (Some(old), Some(new)) => {
            out.renamed_from = pair.renamed().then(|| old.object.name().to_string());
            out.moved_from = pair.moved().then(|| old.unit.id.to_string());
            out.fields = changed_fields(old.object, new.object, renames, schemas, masker, pair.moved());
        }
        (only_base, only_head) => {
            let only = only_head.or(only_base)?;
            if out.change == ChangeKind::Removed && !pair.hook {
                out.fate = Some(fate::of_object(only, base, head).text().to_string());
            }
            out.yaml = Some(yaml::to_string(&secrets::shown(only.object, masker)));
        }
    }
    Some(out)
}

fn changed_fields(
    old: &Object,
    new: &Object,
    renames: &Renames<'_>,
    schemas: &Schemas,
    masker: &Masker,
    moved: bool,
) -> Vec<FieldChange> {
    let Some(delta) = fields::compare(&old.value, &new.value, schemas.of(&new.value)) else { return Vec::new() };
    flatten(&delta, &mut |steps, field| {
        let path: Vec<&str> = steps
            .iter()
            .map(|s| match s {
                Step::Key(k) => k.as_str(),
                Step::Item(label) => label.as_str(),
            })
            .collect();
        field.mechanical = mechanical(&path, field, new.namespace(), renames, moved);
        field.path = masker.owned(std::mem::take(&mut field.path));
        if secrets::hides(new, &path) {
            hide(field);
            return;
        }
        if is_encrypted(&field.from) && is_encrypted(&field.to) {
            hide(field);
            return;
        }
        let before = (field.from.clone(), field.to.clone());
        for value in [&mut field.from, &mut field.to].into_iter().flatten() {
            masker.value(value);
        }
        // Both masked to the same text: what differs is what must not be shown.
        if field.from == field.to && before.0 != before.1 {
            field.hidden = true;
        }
    })
}

fn hide(field: &mut FieldChange) {
    field.hidden = true;
    for value in [&mut field.from, &mut field.to] {
        *value = value.as_ref().map(secrets::mask).filter(|v| !matches!(v, Value::String(s) if s == MASK));
    }
}

fn is_encrypted(value: &Option<Value>) -> bool {
    value.as_ref().and_then(Value::as_str).is_some_and(|s| s.starts_with("ENC[AES256_GCM,"))
}

fn mechanical(
    path: &[&str],
    field: &FieldChange,
    namespace: &str,
    renames: &Renames<'_>,
    moved: bool,
) -> Option<Mechanical> {
    let text = |v: &Option<Value>| v.as_ref().and_then(Value::as_str).map(str::to_string);
    if path.first() == Some(&"sops") {
        return Some(Mechanical::Encryption);
    }
    let (from, to) = (text(&field.from)?, text(&field.to)?);
    if path == ["metadata", "name"] && renames.get(&(namespace, from.as_str())) == Some(&to.as_str()) {
        return Some(Mechanical::RenamedReference);
    }
    if renames.get(&(namespace, from.as_str())) == Some(&to.as_str()) {
        return Some(Mechanical::RenamedReference);
    }
    let [.., "metadata", map, key] = path else { return None };
    match *map {
        "annotations" if is_digest_name(key) && is_digest(&from) && is_digest(&to) => Some(Mechanical::Checksum),
        "labels" if moved && key.starts_with("kustomize.toolkit.fluxcd.io/") => Some(Mechanical::OwnerLabel),
        "labels" if moved && key.starts_with("helm.toolkit.fluxcd.io/") => Some(Mechanical::OwnerLabel),
        "labels" | "annotations" if is_version_label(key) => Some(Mechanical::VersionLabel),
        _ => None,
    }
}

fn is_digest_name(key: &str) -> bool {
    let key = key.to_lowercase();
    ["checksum", "hash", "digest", "sha256"].iter().any(|word| key.contains(word))
}

/// At least eight hexadecimal or base64 characters and nothing else.
fn is_digest(text: &str) -> bool {
    let text = text.strip_prefix("sha256:").unwrap_or(text);
    text.len() >= 8 && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"+/=_-".contains(&b))
}

fn is_version_label(key: &str) -> bool {
    matches!(
        key,
        "helm.sh/chart"
            | "chart"
            | "app.kubernetes.io/version"
            | "app.kubernetes.io/chart"
            | "controller-gen.kubebuilder.io/version"
    )
}
