//! The labels and annotations that Flux writes on what it applies.

use druse_object::{Map, Object, Value};

use crate::api::{CommonMetadata, HELM_GROUP, KUSTOMIZE_GROUP};

/// Sets the labels that say which Kustomization applied an object (after its common metadata).
pub fn set_kustomization_owner(objects: &mut [Object], namespace: &str, name: &str) {
    // Of labels that are not all text, Go's accessors see none: what is set takes the place of all of them.
    let odd = |labels: &Map| labels.iter().any(|(_, v)| v.as_str().is_none());
    for o in objects.iter_mut() {
        if o.value.at(["metadata", "labels"]).and_then(Value::as_map).is_some_and(odd) {
            let _dropped = o.metadata_mut().map(|m| m.remove("labels"));
        }
    }
    set_origin(objects, KUSTOMIZE_GROUP, namespace, name);
}

/// Sets the labels that say which HelmRelease applied an object (after its common metadata).
pub fn set_release_owner(objects: &mut [Object], namespace: &str, name: &str) {
    set_origin(objects, HELM_GROUP, namespace, name);
}

fn set_origin(objects: &mut [Object], group: &str, namespace: &str, name: &str) {
    for o in objects {
        o.set_label(format!("{group}/name"), name);
        o.set_label(format!("{group}/namespace"), namespace);
    }
}

/// Sets a unit's common labels and annotations on its objects; they win over the objects' own.
pub fn set_common_metadata(objects: &mut [Object], common: &CommonMetadata) {
    for o in objects {
        put(o, "labels", &common.labels);
        put(o, "annotations", &common.annotations);
    }
}

fn put(object: &mut Object, field: &str, entries: &Map) {
    if entries.is_empty() {
        return;
    }
    if let Some(target) = object.value.make_map_at(["metadata", field]) {
        for (k, v) in entries.iter() {
            target.insert(k.clone(), Value::clone(v));
        }
    }
}
