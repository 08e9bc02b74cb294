//! What an update of a pod may change.

use druse_object::{Map, Str, Value};

use super::dump;
use crate::field::FieldError;

type Errors = Vec<FieldError>;

const UPDATABLE: &str = "`spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

/// Holds a pod's new specification against its old one.
pub(crate) fn pod_update(new: &Value, old: &Value, out: &mut Errors) {
    let count = |v: &Value, key: &str| v.get(key).map_or(0, |v| v.items().len());
    for key in ["containers", "initContainers"] {
        if count(new, key) != count(old, key) {
            out.push(FieldError::forbidden(format!("spec.{key}"), "pod updates may not add or remove containers"));
            return;
        }
    }
    let mut munged = new.clone();
    for key in ["containers", "initContainers"] {
        let images: Vec<Value> = old
            .get(key)
            .map(Value::items)
            .unwrap_or_default()
            .iter()
            .map(|c| c.get("image").cloned().unwrap_or_default())
            .collect();
        for (c, image) in munged.get_mut(key).and_then(Value::as_array_mut).into_iter().flatten().zip(images) {
            if let Some(m) = c.as_map_mut() {
                m.insert("image", image);
            }
        }
    }
    if let Some(m) = munged.as_map_mut() {
        let mut kept = vec!["activeDeadlineSeconds", "tolerations", "schedulingGates"];
        // A grace that makes no sense may be set right.
        let grace = |v: &Value| v.get("terminationGracePeriodSeconds").and_then(Value::as_i64);
        if grace(old).is_some_and(|g| g < 0) && grace(new) == Some(1) {
            kept.push("terminationGracePeriodSeconds");
        }
        // A pod that no scheduler looks at yet may be narrowed to fewer nodes.
        if count(old, "schedulingGates") > 0 && narrows(new.get("nodeSelector"), old.get("nodeSelector"), out) {
            kept.push("nodeSelector");
        }
        for key in kept {
            match old.get(key) {
                Some(v) => m.insert(key, v.clone()),
                None => m.remove(key),
            };
        }
    }
    if munged != *old {
        out.push(FieldError::forbidden(
            "spec",
            format!("pod updates may not change fields other than {UPDATABLE}\n{}", dump::difference(old, &munged)),
        ));
    }
}

/// Holds a resized pod against what it was.
pub fn pod_resize(new: &Value, old: &Value, out: &mut Errors) {
    let class = crate::strategy::qos(old);
    if crate::strategy::qos(new) != class {
        out.push(FieldError::invalid("spec", class, "Pod QOS Class may not change as a result of resizing"));
    }
}

/// Whether the node selector of a gated pod changed, with an error when it did otherwise than by additions.
fn narrows(new: Option<&Value>, old: Option<&Value>, out: &mut Errors) -> bool {
    if new == old {
        return false;
    }
    let kept = |(k, v): (&Str, &Value)| new.and_then(|n| n.get(k)) == Some(v);
    if !old.and_then(Value::as_map).into_iter().flat_map(Map::iter).all(kept) {
        let why = "only additions to spec.nodeSelector are allowed (no mutations or deletions)";
        out.push(FieldError::invalid("spec.nodeSelector", new.cloned().unwrap_or_default(), why));
    }
    true
}
