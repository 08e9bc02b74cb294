//! Patch: JSON, merge, strategic merge, and server-side apply.

use druse_object::{Gvk, Map, Value, patch};

use super::call::{FieldValidation, parse_json, parse_yaml};
use super::create::Made;
use super::forms::is;
use super::update::{Mode, change};
use super::{Answer, Call};
use crate::apply::{self, ApplyError};
use crate::negotiate::content_type;
use crate::server::now;
use crate::status::Status;

/// How a patch is to be read.
enum Kind {
    Json,
    Merge,
    Strategic,
    Apply,
}

/// PATCH on an object.
pub async fn patch(call: &Call) -> Answer {
    patch_sub(call, "").await
}

/// PATCH on an object or on a subresource that has its form.
pub async fn patch_sub(call: &Call, subresource: &str) -> Answer {
    let kind = match content_type(&call.headers) {
        "application/json-patch+json" => Kind::Json,
        "application/merge-patch+json" => Kind::Merge,
        "application/strategic-merge-patch+json" if !call.resource.custom => Kind::Strategic,
        "application/apply-patch+yaml" => Kind::Apply,
        _ if call.resource.custom => {
            return Err(Status::unsupported_media_type(
                "the body of the request was in an unknown format - accepted media types include: application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml",
            ));
        }
        _ => {
            return Err(Status {
                details: Some(Map::new()),
                ..Status::unsupported_media_type("415: Unsupported Media Type")
            });
        }
    };
    match kind {
        Kind::Apply => apply_patch(call, subresource).await,
        kind => other_patch(call, subresource, &kind).await,
    }
}

async fn other_patch(call: &Call, subresource: &str, kind: &Kind) -> Answer {
    let dry = call.dry_run()?;
    let name = call.info.name.as_str();
    if call.info.query.get("force").is_some() {
        let e = crate::FieldError::forbidden("force", "may not be specified for non-apply patch");
        return Err(Status::invalid("meta.k8s.io", "PatchOptions", "", &[e]));
    }
    // A patch is read once there is something to patch.
    if call.shared.stored(&call.resource, call.namespace(), name).is_none() {
        return Err(Status::not_found(call.named(name)));
    }
    let body = parse_json(&call.body).map_err(|e| match kind {
        Kind::Strategic => Status::bad_request(e),
        _ => Status::bad_request(format!("error decoding patch: {e}")),
    })?;
    if matches!(kind, Kind::Json) {
        check_operations(call, &body)?;
    }
    let schema = call.schema()?;
    let manager = call.manager();
    let made = change(call, name, subresource, Mode::Update(&manager), dry, &mut |old, _| {
        let mut new = old.clone();
        match kind {
            Kind::Json => {
                if !body.is_null() {
                    patch::json_patch(&mut new, &body).map_err(|e| json_patch_status(&e))?;
                }
            }
            Kind::Merge => {
                if body.is_null() {
                    return Err(Status::bad_request("Invalid JSON Patch"));
                }
                if body.as_map().is_none() {
                    let why = format!("error decoding patch: {}", no_map(&body));
                    return Err(Status::bad_request(why));
                }
                patch::merge_patch(&mut new, &body);
            }
            _ if body.is_null() => {}
            _ if body.as_map().is_none() => return Err(Status::bad_request(no_map(&body))),
            _ => patch::strategic_merge(&mut new, &body, Some(schema.merge_schema()))
                .map_err(|e| Status::new(500, "", e.to_string()))?,
        }
        let patched = new.clone();
        let mut new = call.read_object(new, Vec::new()).map_err(|s| {
            if s.reason != "BadRequest" {
                return s;
            }
            // What was wrong, without whose kind it was to be.
            let why = s.message.split_once("cannot be handled as a ").and_then(|(_, rest)| rest.split_once(": "));
            let why = why.map_or_else(|| s.message.clone(), |(_, why)| why.to_owned());
            let (shown, why) = match kind {
                // Upstream reads the outcome of a strategic merge by another way than JSON.
                Kind::Strategic => (go_printed(&body), converter_words(&why)),
                _ => (druse_object::json::to_string(&patched), why),
            };
            Status::invalid("", "", "", &[crate::FieldError::invalid("patch", shown, why)])
        })?;
        call.fits_name(&new)?;
        call.fit_namespace(&mut new)?;
        Ok(new)
    })
    .await?;
    made.answer(call, 200)
}

pub(super) fn no_map(v: &Value) -> String {
    format!("json: cannot unmarshal {} into Go value of type map[string]interface {{}}", is(v))
}

/// Judges the form of a JSON patch: a list of operations, whose fields are texts.
///
/// # Errors
/// 400 for what is none, 413 for too many.
pub fn check_operations(call: &Call, body: &Value) -> Result<(), Status> {
    const TEXTS: [&str; 3] = ["op", "path", "from"];
    let refuse = |why: String| Err(Status::bad_request(format!("error decoding patch: {why}")));
    if body.as_array().is_none() && !body.is_null() {
        return refuse(format!("json: cannot unmarshal {} into Go value of type []handlers.jsonPatchOp", is(body)));
    }
    for (i, operation) in body.items().iter().enumerate() {
        let Some(m) = operation.as_map() else {
            if operation.is_null() {
                continue;
            }
            let why = format!("json: cannot unmarshal {} into Go value of type handlers.jsonPatchOp", is(operation));
            return refuse(why);
        };
        for (key, v) in m.iter() {
            if TEXTS.contains(&key.as_str()) && v.as_str().is_none() && !v.is_null() {
                let to = format!("Go struct field jsonPatchOp.{key} of type string");
                return refuse(format!("json: cannot unmarshal {} into {to}", is(v)));
            }
            if !TEXTS.contains(&key.as_str()) && key != "value" && call.field_validation()? == FieldValidation::Warn {
                call.warnings.lock().push(format!("json patch unknown field \"[{i}].{key}\""));
            }
        }
    }
    let operations = body.items().len();
    if operations > MAX_OPERATIONS {
        let why = format!("The allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, got {operations}");
        return Err(too_large(&why));
    }
    Ok(())
}

/// A value as Go prints it with `%+v`.
pub(super) fn go_printed(v: &Value) -> String {
    let joined = |parts: Vec<String>| parts.join(" ");
    match v {
        Value::Map(m) => {
            let mut entries: Vec<_> = m.iter().map(|(k, v)| (k.as_str(), v)).collect();
            entries.sort_unstable_by_key(|(k, _)| *k);
            format!("map[{}]", joined(entries.iter().map(|(k, v)| format!("{k}:{}", go_printed(v))).collect()))
        }
        Value::Array(a) => format!("[{}]", joined(a.iter().map(go_printed).collect())),
        Value::String(s) => s.to_string(),
        Value::Null => "<nil>".to_owned(),
        other => druse_object::json::to_string(other),
    }
}

/// What a type that does not fit is called by the converter of untyped objects, from what it is called in JSON.
pub(super) fn converter_words(message: &str) -> String {
    let found = message.split_once("cannot unmarshal ").and_then(|(_, rest)| {
        let (from, rest) = rest.split_once(" into Go ")?;
        Some((from, rest.rsplit_once(" of type ")?.1))
    });
    let Some((from, to)) = found else { return message.to_owned() };
    let from = match from {
        "number" => "int64",
        "object" => "map[string]interface {}",
        "array" => "[]interface {}",
        other => other,
    };
    let from = &from.replacen("number ", "int64 ", 1);
    match to {
        t if t.starts_with("map[") => format!("cannot restore map from {from}"),
        t if t.starts_with("[]") => format!("cannot restore slice from {from}"),
        t if t.contains('.') => format!("cannot restore struct from: {from}"),
        // Go converts no other pair of unlike kinds that JSON has.
        "string" if from == "int64" => format!("cannot convert {from} to {to}"),
        t if from.starts_with("int64 ") => format!("cannot convert float64 to {t}"),
        t => format!("unrecognized type: {t}"),
    }
}

/// How many operations a JSON patch may have, as upstream.
const MAX_OPERATIONS: usize = 10_000;

fn too_large(why: &str) -> Status {
    Status::new(413, "RequestEntityTooLarge", format!("Request entity too large: {why}"))
}

/// Upstream does not say which operation failed, except for patches that would blow an object up.
pub fn json_patch_status(e: &patch::PatchError) -> Status {
    if e.0.starts_with("Unable to complete the copy") {
        return too_large(&e.0);
    }
    Status {
        details: Some(Map::new()),
        ..Status::new(422, "Invalid", "the server rejected our request due to an error in our request")
    }
}

async fn apply_patch(call: &Call, subresource: &str) -> Answer {
    let dry = call.dry_run()?;
    let name = call.info.name.as_str();
    let manager = call.info.query.get("fieldManager").unwrap_or_default().to_owned();
    if manager.is_empty() {
        let e = crate::FieldError::required("fieldManager", "is required for apply patch");
        return Err(Status::invalid("meta.k8s.io", "PatchOptions", "", &[e]));
    }
    let force = call.info.query.flag("force");
    let schema = call.schema()?;
    let undecodable = |e| Status::bad_request(format!("error decoding YAML: {e}"));
    let mut applied = parse_yaml(&call.body)
        .map_err(|e| format!("error converting YAML to JSON: {e}"))
        .and_then(|v| match v {
            Value::Null => Ok(Value::Map(Map::new())),
            Value::Map(_) => Ok(v),
            other => Err(format!(
                "error unmarshaling JSON: while decoding JSON: json: cannot unmarshal {} into Go value of type map[string]interface {{}}",
                if other.as_f64().is_some() { "number" } else { other.kind_name() }
            )),
        })
        .map_err(undecodable)?;
    call.field_validation()?;
    let failed = |e: ApplyError| apply_status(&e);
    loop {
        let exists = call.shared.stored(&call.resource, call.namespace(), name).is_some();
        check_applied(call, name, &mut applied)?;
        if !exists {
            if !subresource.is_empty() {
                return Err(Status::not_found(call.named(name)));
            }
            if applied.str_at(["metadata", "uid"]).is_some_and(|u| !u.is_empty()) {
                let why = format!(
                    "uid mismatch: the provided object specified uid {}, and no existing object was found",
                    applied.str_at(["metadata", "uid"]).unwrap_or_default()
                );
                return Err(Status::conflict(call.named(name), why));
            }
            let mut new =
                apply::apply(None, &applied, &manager, force, subresource, &now(), &schema).map_err(failed)?;
            call.fits_name(&new)?;
            schema.fill(&mut new);
            match super::create::insert(call, new, None, dry).await {
                Err(e) if e.reason == "AlreadyExists" => continue,
                made => return made?.answer(call, 201),
            }
        }
        let done = change(call, name, subresource, Mode::Apply, dry, &mut |old, stored| {
            let mut new =
                apply::apply(Some(old), &applied, &manager, force, subresource, &now(), &schema).map_err(failed)?;
            call.fits_name(&new)?;
            schema.fill(&mut new);
            call.fit_namespace(&mut new)?;
            let rv = applied.str_at(["metadata", "resourceVersion"]).unwrap_or_default();
            let rv = if rv.is_empty() { stored.rv.to_string() } else { rv.to_owned() };
            if let Some(m) = new.make_map_at(["metadata"]) {
                m.insert("resourceVersion", rv);
            }
            Ok(new)
        })
        .await;
        match done {
            Err(e) if e.reason == "NotFound" && subresource.is_empty() => {}
            made => {
                let made: Made = made?;
                return made.answer(call, 200);
            }
        }
    }
}

fn check_applied(call: &Call, name: &str, applied: &mut Value) -> Result<(), Status> {
    let said = Gvk::from_api_version(
        applied.str_at(["apiVersion"]).unwrap_or_default(),
        applied.str_at(["kind"]).unwrap_or_default(),
    );
    let ours = call.table.for_kind(&said.group, &said.kind).is_some_and(|r| r.stored_as == call.resource.stored_as);
    if !ours || call.resource.version(&said.version).is_none() {
        let shown = format!("{}/{}, Kind={}", said.group, said.version, said.kind);
        return Err(Status::bad_request(format!("invalid object type: {shown}")));
    }
    // The name is judged once the merge is done: what is there lends its own.
    let unnamed = applied.str_at(["metadata", "name"]).is_none_or(str::is_empty);
    if unnamed
        && call.resource.custom
        && let Some(m) = applied.make_map_at(["metadata"])
    {
        m.insert("name", name);
    }
    // A namespace that is not said is left unsaid: it is filled in after ownership is worked out.
    if applied.str_at(["metadata", "namespace"]).is_some_and(|n| !n.is_empty()) {
        call.fit_namespace(applied)?;
    }
    Ok(())
}

pub(super) fn apply_status(e: &ApplyError) -> Status {
    let message = e.to_string();
    match e {
        ApplyError::BadRequest(_) => Status::bad_request(message),
        ApplyError::Schema(_) => Status::new(500, "", message),
        ApplyError::Conflicts(list) => {
            let causes: Vec<Value> = list
                .iter()
                .map(|c| {
                    let mut m = Map::new();
                    m.insert("reason", "FieldManagerConflict");
                    m.insert("message", format!("conflict with {}", c.manager));
                    m.insert("field", c.field.as_str());
                    Value::Map(m)
                })
                .collect();
            let mut details = Map::new();
            details.insert("causes", causes);
            Status { details: Some(details), ..Status::new(409, "Conflict", message) }
        }
    }
}
