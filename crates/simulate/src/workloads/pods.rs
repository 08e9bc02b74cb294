//! What workload controllers share: pods from templates, ownership, hashes, status writes.

use std::sync::Arc;

use druse_object::{Map, Value};
use druse_runtime::{Api, ApiError, Cache, Key, Next, Patch, Resource};
use serde_json::json;

/// The owner reference of a child's controller.
pub fn controller_of(v: &Value) -> Option<&Value> {
    v["metadata"]["ownerReferences"].items().iter().find(|o| o["controller"].as_bool() == Some(true))
}

/// The children of `owner` (by UID), oldest name first, that are not being deleted.
pub fn children(cache: &Cache, owner: &Value) -> Vec<Arc<Value>> {
    let uid = &owner["metadata"]["uid"];
    cache
        .in_namespace(owner.str_at(["metadata", "namespace"]).unwrap_or_default())
        .into_iter()
        .filter(|c| controller_of(c).is_some_and(|o| o["uid"] == *uid))
        .filter(|c| c["metadata"]["deletionTimestamp"].is_null())
        .collect()
}

/// Whether the object is on its way out, and its controller should leave it alone.
pub fn going(v: &Value) -> bool {
    !v["metadata"]["deletionTimestamp"].is_null()
}

/// An owner reference that says `owner` controls the child.
pub fn owner_reference(owner: &Value) -> Value {
    Value::from(json!([{
        "apiVersion": owner["apiVersion"].as_str(), "kind": owner["kind"].as_str(),
        "name": owner.str_at(["metadata", "name"]), "uid": owner.str_at(["metadata", "uid"]),
        "controller": true, "blockOwnerDeletion": true,
    }]))
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
    metadata.insert("ownerReferences", owner_reference(owner));
    m.insert("metadata", metadata);
    m.insert("spec", template["spec"].clone());
    Value::Map(m)
}

/// Makes `n` pods at once from a template.
pub async fn make_pods(api: &Api, owner: &Value, template: &Value, n: usize) -> Result<(), ApiError> {
    for _ in 0..n {
        let mut pod = from_template("v1", "Pod", template, owner);
        if let Some(m) = pod.make_map_at(["metadata"]) {
            m.insert("generateName", format!("{}-", owner.str_at(["metadata", "name"]).unwrap_or_default()));
        }
        let ns = owner.str_at(["metadata", "namespace"]).unwrap_or_default();
        api.create(&crate::kinds::pods(), ns, &pod).await?;
    }
    Ok(())
}

/// Upstream's safe alphabet for generated names (`rand.SafeEncodeString`).
const SAFE: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// A short stable hash of a pod template, for names and labels.
pub fn template_hash(template: &Value) -> String {
    let mut sorted = template.clone();
    sorted.sort_keys();
    let text = druse_object::json::to_string(&sorted);
    let mut h: u32 = 2_166_136_261;
    for b in text.bytes() {
        h = (h ^ u32::from(b)).wrapping_mul(16_777_619);
    }
    h.to_string().bytes().map(|b| char::from(SAFE[usize::from(b) % SAFE.len()])).collect()
}

/// Writes the status of an object when it differs from what is there.
pub async fn write_status(api: &Api, r: &Resource, object: &Value, status: serde_json::Value) -> Result<(), ApiError> {
    let status = Value::from(status);
    let same = status.as_map().is_some_and(|m| {
        m.iter()
            .all(|(k, v)| object["status"][k.as_str()] == *v || (v.is_null() && object["status"][k.as_str()].is_null()))
    });
    if same {
        return Ok(());
    }
    let mut patch = Map::new();
    patch.insert("status", status);
    let key = Key::of(object);
    api.patch(r, &key.namespace, &key.name, "status", Patch::Merge, &Value::Map(patch)).await.map(|_| ())
}

/// A condition, keeping the transition time of the one it replaces when its status is the same.
pub fn condition(object: &Value, kind: &str, status: bool, reason: &str, message: &str) -> serde_json::Value {
    let status = if status { "True" } else { "False" };
    let old = object["status"]["conditions"].items().iter().find(|c| {
        c["type"].as_str() == Some(kind) && c["status"].as_str() == Some(status) && c["reason"].as_str() == Some(reason)
    });
    let now = druse_runtime::clock::now();
    let time = |field: &str| old.and_then(|c| c[field].as_str()).unwrap_or(&now).to_owned();
    json!({
        "type": kind, "status": status, "reason": reason, "message": message,
        "lastTransitionTime": time("lastTransitionTime"), "lastUpdateTime": time("lastUpdateTime"),
    })
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
