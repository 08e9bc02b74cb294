//! `namespace`: sets it on every object that may have one, and where objects name their own.

use std::collections::HashMap;

use druse_object::{Map, Value};

use crate::error::{Result, fail};
use crate::fieldspec::{FieldSpec, FieldSpecs, Make, set_scalar, wrong_kind};
use crate::ids::{IdKey, text};
use crate::resource::{Resource, Resources};

/// Which subjects of role bindings get the namespace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Subjects {
    /// Those named `default`.
    #[default]
    NamedDefault,
    /// All service accounts.
    ServiceAccounts,
    /// None.
    Nobody,
}

pub(super) fn apply(
    resources: &mut Resources,
    namespace: &str,
    specs: &FieldSpecs,
    unset_only: bool,
    subjects: Subjects,
) -> Result<()> {
    if namespace.is_empty() {
        return Ok(());
    }
    let mut count: HashMap<IdKey, usize> = HashMap::new();
    for resource in resources.iter() {
        *count.entry(resource.id().key()).or_default() += 1;
    }
    let mut conflict = None;
    for resource in resources.list_mut() {
        let by_helm = resource.by_helm
            || resource
                .value
                .at(["metadata", "annotations"])
                .and_then(|a| a.get("internal.config.kubernetes.io/helm-generated"))
                .is_some_and(|v| text(v) == "true");
        if resource.is_empty() || by_helm {
            continue;
        }
        let before = resource.id().key();
        resource.store_previous();
        set(resource, namespace, specs, unset_only, subjects)?;
        let id = resource.id();
        let after = id.key();
        if before != after {
            if let Some(n) = count.get_mut(&before) {
                *n -= 1;
            }
            *count.entry(after.clone()).or_default() += 1;
        }
        if count.get(&after) != Some(&1) {
            conflict = Some(id);
            break;
        }
    }
    let Some(id) = conflict else { return Ok(()) };
    let same: Vec<&Resource> = resources.iter().filter(|r| r.id().same(&id)).collect();
    let shown: Vec<String> = same.iter().map(|r| r.to_json()).collect();
    let places: Vec<String> = same.iter().map(|r| r.provenance.to_string()).collect();
    let place = same.last().map(|r| r.provenance.clone()).unwrap_or_default();
    Err(fail!("namespace transformation produces ID conflict: [{}]", shown.join(" "))
        .at(place.file.as_deref().unwrap_or_default(), place.line)
        .help(format!("{} become one object ({id}): rename one, or build them apart", places.join(" and "))))
}

/// Sets the namespace on one object.
pub(super) fn set(
    resource: &mut Resource,
    namespace: &str,
    specs: &FieldSpecs,
    unset_only: bool,
    subjects: Subjects,
) -> Result<()> {
    let id = resource.id();
    let mut setter = |field: &mut Value| {
        if unset_only && !text(field).is_empty() {
            return Ok(());
        }
        set_scalar(field, namespace.into())
    };
    if !id.cluster {
        FieldSpec::any("metadata/namespace", true).apply(&mut resource.value, &id, Make::Scalar, &mut setter)?;
    }
    let is_binding = |kind: &str| kind == "RoleBinding" || kind == "ClusterRoleBinding";
    if is_binding(&id.gvk.kind) && subjects != Subjects::Nobody {
        set_subjects(&mut resource.value, subjects, &mut setter)?;
    }
    let is_v1 = id.gvk.group.is_empty() && id.gvk.version == "v1";
    for spec in &specs.0 {
        let handled_above = spec.path == "metadata/namespace"
            || (spec.path == "metadata/name" && !is_v1)
            || (is_binding(&id.gvk.kind) && is_binding(&spec.gvk.kind) && spec.path == "subjects/namespace");
        if !handled_above {
            spec.apply(&mut resource.value, &id, Make::Scalar, &mut setter).map_err(|e| {
                let holds_others =
                    ["but got SequenceNode", "but got MappingNode"].iter().any(|m| e.message.contains(m));
                e.wrap(if holds_others {
                    "namespace field specs must target scalar nodes"
                } else {
                    "namespace transformation failed"
                })
            })?;
        }
    }
    Ok(())
}

fn set_subjects(
    object: &mut Value,
    subjects: Subjects,
    setter: &mut dyn FnMut(&mut Value) -> Result<()>,
) -> Result<()> {
    let list = match object.get_mut("subjects") {
        None | Some(Value::Null) => return Ok(()),
        Some(Value::Array(list)) => list,
        Some(other) => {
            return Err(wrong_kind("SequenceNode", other).wrap("setting namespace on (cluster)role binding subjects"));
        }
    };
    for subject in list {
        let Some(map) = subject.as_map_mut() else { continue };
        let is = |map: &Map, field: &str, word: &str| map.get(field).is_some_and(|v| text(v) == word);
        let chosen = match subjects {
            Subjects::NamedDefault => is(map, "name", "default"),
            Subjects::ServiceAccounts => is(map, "kind", "ServiceAccount"),
            Subjects::Nobody => false,
        };
        if chosen {
            setter(map.entry_or_null("namespace"))
                .map_err(|e| e.wrap("setting namespace on (cluster)role binding subjects"))?;
        }
    }
    Ok(())
}
