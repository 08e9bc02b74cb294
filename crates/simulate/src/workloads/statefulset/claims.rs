//! The claims of a StatefulSet's pods: made from `volumeClaimTemplates`, kept or let go with pod and set as
//! `persistentVolumeClaimRetentionPolicy` says.

use druse_object::Value;
use serde_json::json;

use super::decide::range;
use crate::workloads::pods;

/// The claims of a pod, each with the name of its volume.
pub fn of_pod(set: &Value, ordinal: i64) -> Vec<(String, Value)> {
    let name = set.str_at(["metadata", "name"]).unwrap_or_default();
    let templates = set["spec"]["volumeClaimTemplates"].items().iter();
    templates
        .map(|template| {
            let volume = template.str_at(["metadata", "name"]).unwrap_or_default().to_owned();
            let mut claim = template.clone();
            if let Some(m) = claim.as_map_mut() {
                m.insert("apiVersion", "v1");
                m.insert("kind", "PersistentVolumeClaim");
                m.remove("status");
            }
            if let Some(m) = claim.make_map_at(["metadata"]) {
                m.remove("creationTimestamp");
                m.insert("name", format!("{volume}-{name}-{ordinal}"));
                m.insert("namespace", set["metadata"]["namespace"].clone());
            }
            if let (Some(labels), Some(selector)) =
                (claim.make_map_at(["metadata", "labels"]), set["spec"]["selector"]["matchLabels"].as_map())
            {
                for (k, v) in selector.iter() {
                    labels.insert(k.clone(), v.clone());
                }
            }
            (volume, claim)
        })
        .collect()
}

/// The volumes of a pod with its claims among them; those of the template that have a claim's name give way.
pub fn volumes(template: &Value, claims: &[(String, Value)]) -> Vec<Value> {
    let mut volumes: Vec<Value> = claims
        .iter()
        .map(|(volume, claim)| {
            let claim = claim.str_at(["metadata", "name"]);
            Value::from(json!({"name": volume, "persistentVolumeClaim": {"claimName": claim}}))
        })
        .collect();
    let named = |v: &&Value| !claims.iter().any(|(volume, _)| v["name"].as_str() == Some(volume));
    volumes.extend(template["spec"]["volumes"].items().iter().filter(named).cloned());
    volumes
}

fn deletes(set: &Value, when: &str) -> bool {
    set["spec"]["persistentVolumeClaimRetentionPolicy"][when].as_str() == Some("Delete")
}

/// Whether a reference names this object, of whatever UID.
fn names(reference: &Value, kind: &str, object: &Value) -> bool {
    reference["kind"].as_str() == Some(kind) && reference["name"] == object["metadata"]["name"]
}

/// Whether a claim still belongs to a pod or set of the same name that was before this one.
pub fn is_stale(claim: &Value, kind: &str, object: &Value) -> bool {
    let references = claim["metadata"]["ownerReferences"].items();
    references.iter().any(|r| names(r, kind, object) && r["uid"] != object["metadata"]["uid"])
}

/// Whether the claim of a pod that is to be made waits for one of that name to go.
pub fn blocks(set: &Value, claim: &Value, pod_name: &str) -> bool {
    let references = claim["metadata"]["ownerReferences"].items();
    deletes(set, "whenScaled")
        && references.iter().any(|r| r["kind"].as_str() == Some("Pod") && r["name"].as_str() == Some(pod_name))
}

/// The owner references a claim is to have instead of those it has; `None` when they are right, or others' matter.
pub fn owners(claim: &Value, set: &Value, pod: &Value, ordinal: i64) -> Option<Vec<Value>> {
    if is_stale(claim, "StatefulSet", set) || is_stale(claim, "Pod", pod) {
        return None;
    }
    let (scaled, deleted) = (deletes(set, "whenScaled"), deletes(set, "whenDeleted"));
    let references = claim["metadata"]["ownerReferences"].items();
    let ours = |r: &Value| names(r, "StatefulSet", set) || names(r, "Pod", pod);
    let mut wanted: Vec<Value> = references.iter().filter(|r| !ours(r)).cloned().collect();
    let managed = wanted.iter().any(|r| r["controller"].as_bool() == Some(true));
    let condemned = !range(set).contains(&ordinal);
    if !(managed && (scaled || deleted)) {
        if scaled && condemned {
            wanted.push(pods::reference_as(Some("v1"), Some("Pod"), pod));
        } else if deleted {
            wanted.push(pods::reference_as(Some("apps/v1"), Some("StatefulSet"), set));
        }
    }
    (wanted.as_slice() != references).then_some(wanted)
}
