//! What workload controllers share: pods from templates, ownership, hashes, status writes.

use std::sync::Arc;
use std::time::Duration;

use druse_object::{Map, Value};
use druse_runtime::{ApiError, Cache, Next};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use super::report::{condition, is_true, time_at};

/// The owner reference of a child's controller.
pub fn controller_of(v: &Value) -> Option<&Value> {
    v["metadata"]["ownerReferences"].items().iter().find(|o| o["controller"].as_bool() == Some(true))
}

/// All objects that `owner` controls (by UID), in name order.
pub fn owned(cache: &Cache, owner: &Value) -> Vec<Arc<Value>> {
    let uid = &owner["metadata"]["uid"];
    cache
        .in_namespace(owner.str_at(["metadata", "namespace"]).unwrap_or_default())
        .into_iter()
        .filter(|c| controller_of(c).is_some_and(|o| o["uid"] == *uid))
        .collect()
}

/// Whether the object is on its way out, and its controller should leave it alone.
pub fn going(v: &Value) -> bool {
    !v["metadata"]["deletionTimestamp"].is_null()
}

/// Whether a pod has neither ended nor been asked to.
pub fn is_active(pod: &Value) -> bool {
    !has_ended(pod) && !going(pod)
}

/// Whether a pod was asked to go and has not ended yet.
pub fn is_terminating(pod: &Value) -> bool {
    !has_ended(pod) && going(pod)
}

/// Whether a pod's containers have ended for good.
pub fn has_ended(pod: &Value) -> bool {
    matches!(pod.str_at(["status", "phase"]), Some("Succeeded" | "Failed"))
}

/// Whether a pod's Ready condition holds.
pub fn is_ready(pod: &Value) -> bool {
    is_true(pod["status"]["conditions"].items(), "Ready")
}

/// Whether a pod has been ready for as long as its owner's `minReadySeconds` asks.
pub fn is_available(pod: &Value, owner: &Value, now: Timestamp) -> bool {
    is_ready(pod) && ready_for(pod, owner, now).is_none()
}

/// When the next ready pod becomes available; `None` when all are.
pub fn next_available(owner: &Value, pods: &[Arc<Value>], now: Timestamp) -> Option<Duration> {
    pods.iter().filter(|p| is_active(p) && is_ready(p)).filter_map(|p| ready_for(p, owner, now)).min()
}

/// How long a ready pod has yet to stay so; `None` when it was long enough.
fn ready_for(pod: &Value, owner: &Value, now: Timestamp) -> Option<Duration> {
    let seconds = owner["spec"]["minReadySeconds"].as_i64().filter(|s| *s > 0)?;
    let ready = condition(pod["status"]["conditions"].items(), "Ready")?;
    let since = time_at(&ready["lastTransitionTime"]).unwrap_or(now);
    let left = SignedDuration::from_secs(seconds) - now.duration_since(since);
    Duration::try_from(left).ok().filter(|d| !d.is_zero())
}

/// The reference that says `owner` controls the child.
pub fn owner_reference(owner: &Value) -> Value {
    reference_as(owner["apiVersion"].as_str(), owner["kind"].as_str(), owner)
}

/// The same for an owner that need not say of what kind it is.
pub fn reference_as(api_version: Option<&str>, kind: Option<&str>, owner: &Value) -> Value {
    Value::from(json!({
        "apiVersion": api_version, "kind": kind,
        "name": owner.str_at(["metadata", "name"]), "uid": owner.str_at(["metadata", "uid"]),
        "controller": true, "blockOwnerDeletion": true,
    }))
}

/// An object made from a template (`metadata`, `spec`), owned by `owner`.
pub fn from_template(api_version: &str, kind: &str, template: &Value, owner: &Value) -> Value {
    let mut m = Map::new();
    m.insert("apiVersion", api_version);
    m.insert("kind", kind);
    let mut metadata = Map::new();
    metadata.insert("namespace", owner["metadata"]["namespace"].clone());
    for part in ["labels", "annotations"] {
        let v = &template["metadata"][part];
        if !v.is_null() {
            metadata.insert(part, v.clone());
        }
    }
    metadata.insert("ownerReferences", vec![owner_reference(owner)]);
    m.insert("metadata", metadata);
    m.insert("spec", template["spec"].clone());
    Value::Map(m)
}

/// Upstream's safe alphabet for generated names (`rand.SafeEncodeString`).
const SAFE: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// A short stable hash of a pod template, for names and labels; another after each collision.
pub fn template_hash(template: &Value, collisions: Option<i64>) -> String {
    let mut sorted = template.clone();
    sorted.sort_keys();
    let text = druse_object::json::to_string(&sorted);
    let mut h: u32 = 2_166_136_261;
    for b in text.bytes().chain(collisions.into_iter().flat_map(i64::to_le_bytes)) {
        h = (h ^ u32::from(b)).wrapping_mul(16_777_619);
    }
    h.to_string().bytes().map(|b| char::from(SAFE[usize::from(b) % SAFE.len()])).collect()
}

/// Whether something cannot be made because its namespace is being deleted: nothing that a controller has to tell.
pub fn namespace_goes(e: &ApiError) -> bool {
    matches!(e, ApiError::Status { status, .. }
        if status["details"]["causes"].items().iter().any(|c| c["reason"].as_str() == Some("NamespaceTerminating")))
}

/// How a reconcile ends.
pub fn outcome(result: Result<(), ApiError>) -> Next {
    match result {
        Ok(()) => Next::Wait,
        Err(e) if e.is_not_found() => Next::Wait,
        Err(_) => Next::Retry,
    }
}

/// An integer or a percentage of `total`, rounded as asked (upstream's `GetScaledValueFromIntOrPercent`).
pub fn int_or_percent(v: &Value, total: i64, round_up: bool, default: &str) -> i64 {
    let text = match v {
        Value::Int(i) => return *i,
        Value::String(s) => s.as_str(),
        _ => default,
    };
    match text.strip_suffix('%').and_then(|p| p.parse::<i64>().ok()) {
        Some(p) if round_up => (p * total + 99) / 100,
        Some(p) => p * total / 100,
        None => text.parse().unwrap_or(0),
    }
}
