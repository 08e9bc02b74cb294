//! `AdmissionReview` in, `AdmissionReview` out, as admission.k8s.io/v1 defines them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use druse_object::{Map, Value, json};

use super::Settings;

/// A review that cannot be answered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReviewError {
    /// It is no JSON, or no review.
    #[error("the request is no AdmissionReview: {0}")]
    Malformed(String),
}

/// Answers a review: the pod is always allowed, with a patch where its ServiceAccount has a role.
///
/// `account` gives a ServiceAccount by namespace and name.
///
/// # Errors
/// When the text is no review.
pub fn review(
    settings: &Settings,
    text: &[u8],
    account: impl FnOnce(&str, &str) -> Option<Value>,
) -> Result<Value, ReviewError> {
    let malformed = |m: &str| ReviewError::Malformed(m.to_string());
    let review = json::parse(text).map_err(|e| ReviewError::Malformed(e.to_string()))?;
    let request = review.get("request").ok_or_else(|| malformed("there is no request in it"))?;
    let mut response = Map::new();
    response.insert("uid", request.str_at(["uid"]).unwrap_or_default());
    response.insert("allowed", true);
    let pod = request.get("object").filter(|o| o.as_map().is_some());
    let pod = pod.ok_or_else(|| malformed("there is no object in it"))?;
    let namespace = request.str_at(["namespace"]).unwrap_or_default();
    let name = pod.str_at(["spec", "serviceAccountName"]).unwrap_or_default();
    let asked = account(namespace, name).and_then(|a| settings.account(&a));
    if let Some(asked) = asked {
        let mut changed = pod.clone();
        settings.mutate(&mut changed, &asked);
        let patch = json::to_string(&Value::Array(patch(pod, &changed)));
        response.insert("patchType", "JSONPatch");
        response.insert("patch", STANDARD.encode(patch));
    }
    let mut answer = Map::new();
    answer.insert("apiVersion", review.str_at(["apiVersion"]).unwrap_or("admission.k8s.io/v1"));
    answer.insert("kind", "AdmissionReview");
    answer.insert("response", Value::Map(response));
    Ok(Value::Map(answer))
}

/// The patch in upstream's shape: the volume added, the lists of containers replaced.
fn patch(before: &Value, after: &Value) -> Vec<Value> {
    let operation = |path: &str, value: Value| {
        Value::Map(Map::from_iter([("op", Value::from("add")), ("path", path.into()), ("value", value)]))
    };
    let list = |pod: &Value, name: &str| pod["spec"][name].clone();
    let mut patch = Vec::new();
    let (old, new) = (list(before, "volumes"), list(after, "volumes"));
    if old != new {
        match old {
            Value::Array(_) => patch.push(operation("/spec/volumes/0", new.items().first().cloned().into())),
            _ => patch.push(operation("/spec/volumes", new)),
        }
    }
    for name in ["containers", "initContainers"] {
        let (old, new) = (list(before, name), list(after, name));
        if old != new {
            patch.push(operation(&format!("/spec/{name}"), new));
        }
    }
    patch
}
