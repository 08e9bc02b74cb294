//! Name prefixes and suffixes.

use crate::error::Result;
use crate::fieldspec::{FieldSpecs, Make, set_scalar};
use crate::ids::{Gvk, text};
use crate::resource::Resources;

/// Kinds whose names mean something elsewhere.
fn is_skipped(gvk: &Gvk) -> bool {
    gvk.kind == "CustomResourceDefinition"
        || gvk.kind == "Namespace"
        || (gvk.kind == "APIService" && gvk.group == "apiregistration.k8s.io")
}

pub(super) fn apply(resources: &mut Resources, prefix: &str, suffix: &str, specs: &FieldSpecs) -> Result<()> {
    for resource in resources.list_mut() {
        let original = resource.original_id();
        if is_skipped(&original.gvk) {
            continue;
        }
        for spec in specs.0.iter().filter(|s| original.gvk.is_selected(&s.gvk)) {
            if spec.path == "metadata/name" {
                if !prefix.is_empty() {
                    resource.prefixes.push(prefix.into());
                }
                if !suffix.is_empty() {
                    resource.suffixes.push(suffix.into());
                }
                if !prefix.is_empty() || !suffix.is_empty() {
                    resource.store_previous();
                }
            }
            let id = resource.id();
            spec.apply(&mut resource.value, &id, Make::Scalar, &mut |field| {
                let name = format!("{prefix}{}{suffix}", text(field));
                set_scalar(field, name.into())
            })?;
        }
    }
    Ok(())
}
