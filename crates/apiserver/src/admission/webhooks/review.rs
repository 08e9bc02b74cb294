//! `AdmissionReview`: the question a webhook is asked, and what its answer says.

use base64::Engine as _;
use druse_object::{Map, Value, json};

use crate::admission::Review;
use crate::admission::matching::request;
use crate::callout::Failure;
use crate::convert;
use crate::server::Shared;
use crate::status::Status;

/// What a webhook answers.
#[derive(Debug, Default)]
pub struct Verdict {
    /// For the client.
    pub warnings: Vec<String>,
    /// The `Status` of a refusal; possibly empty.
    pub refusal: Option<Map>,
    /// A JSON patch.
    pub patch: Option<Value>,
}

/// The question, in the newest form the webhook reads.
///
/// # Errors
/// When it reads none, or an object cannot be converted.
pub fn question(shared: &Shared, webhook: &Value, review: &Review<'_>, version: &str) -> Result<Value, Status> {
    let name = webhook.str_at(["name"]).unwrap_or_default();
    let known = webhook["admissionReviewVersions"].items().iter().filter_map(Value::as_str);
    let review_version = known.into_iter().find(|v| matches!(*v, "v1" | "v1beta1")).ok_or_else(|| {
        Status::internal(format!(
            "failed calling webhook \"{name}\": webhook does not accept known AdmissionReview versions (v1, v1beta1)"
        ))
    })?;
    let mut m = request(review, version);
    m.insert("uid", uuid::Uuid::new_v4().to_string());
    let mut put = |key: &str, v: Option<&Value>| -> Result<(), Status> {
        let shown = match v {
            // Forms of subresources are the same in all versions.
            Some(v) if review.object_is_subresource => v.clone(),
            Some(v) => convert::between(shared, v.clone(), review.resource, review.version, version)?,
            None => Value::Null,
        };
        m.insert(key, shown);
        Ok(())
    };
    put("object", review.object.as_deref())?;
    put("oldObject", review.old)?;
    let mut out = Map::new();
    out.insert("kind", "AdmissionReview");
    out.insert("apiVersion", format!("admission.k8s.io/{review_version}"));
    out.insert("request", m);
    Ok(Value::Map(out))
}

/// Reads an answer and holds it against its question.
///
/// # Errors
/// What is wrong with it.
pub fn read(answer: &Value, question: &Value, mutating: bool) -> Result<Verdict, Failure> {
    let bad = |why: String| format!("received invalid webhook response: {why}");
    let asked = question.str_at(["apiVersion"]).unwrap_or_default();
    let (given, kind) =
        (answer.str_at(["apiVersion"]).unwrap_or_default(), answer.str_at(["kind"]).unwrap_or_default());
    let old_form = asked.ends_with("v1beta1");
    if (given, kind) != (asked, "AdmissionReview") && !(old_form && given.is_empty() && kind.is_empty()) {
        return Err(bad(format!(
            "expected webhook response of {asked}, Kind=AdmissionReview, got {given}, Kind={kind}"
        )));
    }
    let Some(response) = answer.get("response").filter(|r| r.as_map().is_some()) else {
        return Err(bad("webhook response was absent".into()));
    };
    let uid = question.str_at(["request", "uid"]).unwrap_or_default();
    let given = response.str_at(["uid"]).unwrap_or_default();
    if given != uid && !old_form {
        return Err(bad(format!("expected response.uid={uid:?}, got {given:?}")));
    }
    let mut out = Verdict {
        warnings: response["warnings"].items().iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        ..Verdict::default()
    };
    let patch = response.str_at(["patch"]).unwrap_or_default();
    let kind = response.str_at(["patchType"]).unwrap_or_default();
    if !mutating && !patch.is_empty() && !old_form {
        return Err(bad("validating webhook may not return response.patch".into()));
    }
    if mutating && !patch.is_empty() {
        match kind {
            "JSONPatch" => {}
            "" if old_form => {}
            "" => return Err(bad("webhook returned response.patch but not response.patchType".into())),
            other => return Err(bad(format!("invalid response.patchType={other:?}, expected \"JSONPatch\""))),
        }
        let bytes = base64::engine::general_purpose::STANDARD.decode(patch).map_err(|e| bad(e.to_string()))?;
        out.patch = Some(json::parse(&bytes).map_err(|e| bad(e.to_string()))?);
    }
    if response.get("allowed").and_then(Value::as_bool) != Some(true) {
        out.refusal = Some(response.get("status").and_then(Value::as_map).cloned().unwrap_or_default());
    }
    Ok(out)
}

/// A webhook's refusal as its client gets it.
#[must_use]
pub fn denied(webhook: &str, status: &Map) -> Status {
    let by = format!("admission webhook \"{webhook}\" denied the request");
    let text = |k: &str| status.get(k).and_then(Value::as_str).unwrap_or_default();
    let message = match (text("message"), text("reason")) {
        ("", "") => format!("{by} without explanation"),
        ("", reason) => format!("{by}: {reason}"),
        (message, _) => format!("{by}: {message}"),
    };
    let code = status.get("code").and_then(Value::as_i64).and_then(|c| u16::try_from(c).ok()).unwrap_or(0);
    let mut out = Status::new(code.clamp(400, 599), "", message.clone());
    // The webhook's own words beside the message stay as they are.
    let mut whole = Map::new();
    whole.insert("kind", "Status");
    whole.insert("apiVersion", "v1");
    whole.insert("metadata", Map::new());
    whole.insert("status", "Failure");
    whole.insert("message", message);
    for key in ["reason", "details"] {
        if let Some(v) = status.get(key).filter(|v| v.as_str() != Some("")) {
            whole.insert(key, v.clone());
        }
    }
    whole.insert("code", i64::from(out.code));
    out.whole = Some(Box::new(Value::Map(whole)));
    out
}
