//! Labels, annotations and numbers of replicas.

use druse_object::Value;

use crate::error::{Result, fail};
use crate::fieldspec::{FieldSpecs, Make, set_entry, set_scalar};
use crate::kustomization::{Replica, Texts};
use crate::resource::Resources;

/// Sets all of `texts` in every field of `specs`.
pub(super) fn set_texts(resources: &mut Resources, texts: &Texts, specs: &FieldSpecs) -> Result<()> {
    if texts.is_empty() {
        return Ok(());
    }
    for resource in resources.contents_mut() {
        let id = resource.id();
        resource.note_keys(texts.keys().map(String::as_str));
        specs.apply(&mut resource.value, &id, Make::Map, &mut |field| {
            texts.iter().try_for_each(|(key, value)| set_entry(field, key, value))
        })?;
    }
    resources.drop_empty();
    Ok(())
}

/// Sets the number of replicas of the objects with a name.
pub(super) fn set_replicas(resources: &mut Resources, replica: &Replica, specs: &FieldSpecs) -> Result<()> {
    let mut found = false;
    for spec in &specs.0 {
        for resource in resources.contents_mut() {
            if resource.is_empty()
                || !resource.matches_any_id(&|id| id.name == replica.name && id.gvk.is_selected(&spec.gvk))
            {
                continue;
            }
            found = true;
            let id = resource.id();
            spec.apply(&mut resource.value, &id, Make::Scalar, &mut |field| {
                set_scalar(field, Value::Int(replica.count))
            })?;
        }
    }
    if found {
        return Ok(());
    }
    let kinds: Vec<String> = specs.0.iter().map(|s| s.gvk.to_string()).collect();
    Err(fail!(
        "resource with name {} does not match a config with the following GVK [{}]",
        replica.name,
        kinds.join(" ")
    ))
}
