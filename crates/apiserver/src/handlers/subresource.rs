//! Subresources: status, scale, token, finalize, and those of pods.

use std::sync::{Arc, LazyLock};

use druse_object::{Gvk, Map, Value, patch as patches};
use http::Response;

use super::create::Made;
use super::update::{Mode, change};
use super::{Answer, Call, pods, read, reviews};
use crate::admission::Operation;
use crate::body::Body;
use crate::field::FieldError;
use crate::negotiate::content_type;
use crate::registry::{Resource, ScalePaths};
use crate::response::View;
use crate::status::Status;

/// Answers a request on a subresource.
pub async fn dispatch(call: &Call, sub: &str) -> Answer {
    let declared = call.version()?.subresources.iter().find(|s| s.name == sub).cloned();
    let name = call.resource.stored_as.as_str();
    let Some(declared) = declared else {
        return Err(if call.resource.custom {
            Status::not_found(call.named(&call.info.name))
        } else {
            Status::no_resource()
        });
    };
    if !declared.verbs.iter().any(|v| v == call.info.verb) {
        let plain = Status::method_not_supported();
        if !call.resource.custom {
            return Err(plain);
        }
        let message = format!("{} is not supported on resources of kind \"{name}\"", call.info.verb);
        let mut details = Map::new();
        details.insert("group", call.resource.group.as_str());
        details.insert("kind", call.resource.plural.as_str());
        return Err(Status { message, details: Some(details), ..plain });
    }
    match (call.resource.stored_as.as_str(), sub) {
        (_, "scale") => scale(call).await,
        ("serviceaccounts", "token") => reviews::token(call).await,
        ("pods", "binding") => pods::bind(call).await,
        ("pods", "eviction") => super::evict::evict(call).await,
        ("pods", "log") => pods::log(call),
        ("pods" | "services" | "nodes", "exec" | "attach" | "portforward" | "proxy") => pods::connect(call, sub).await,
        (_, _) => match call.info.verb {
            "get" => read::get(call),
            "update" => super::update::update_sub(call, sub).await,
            "patch" => super::patch::patch_sub(call, sub).await,
            _ => Err(Status::method_not_supported()),
        },
    }
}

/// The value at a simple JSON path (`.spec.replicas`).
#[must_use]
pub fn at_path<'a>(v: &'a Value, path: &str) -> Option<&'a Value> {
    path.trim_start_matches('.').split('.').try_fold(v, |v, k| v.get(k))
}

fn set_path(v: &mut Value, path: &str, new: Value) {
    let keys: Vec<&str> = path.trim_start_matches('.').split('.').collect();
    let Some((last, parents)) = keys.split_last() else { return };
    let mut at = v;
    for k in parents {
        let Some(m) = at.make_map() else { return };
        at = m.entry_or_null(k);
    }
    if let Some(m) = at.make_map() {
        m.insert(*last, new);
    }
}

fn scale_of(call: &Call, paths: &ScalePaths, o: &Value) -> Value {
    let mut meta = Map::new();
    for k in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        if let Some(v) = o.at(["metadata", k]) {
            meta.insert(k, v.clone());
        }
    }
    let number = |p: &str| at_path(o, p).and_then(Value::as_i64);
    let mut spec = Map::new();
    if let Some(n) = number(&paths.spec_replicas).filter(|n| *n != 0) {
        spec.insert("replicas", n);
    }
    let mut status = Map::new();
    status.insert("replicas", number(&paths.status_replicas).unwrap_or(0));
    let selector = if call.resource.custom {
        (!paths.label_selector.is_empty())
            .then(|| at_path(o, &paths.label_selector).and_then(Value::as_str).unwrap_or_default().to_owned())
    } else {
        Some(selector_text(&o["spec"]["selector"]))
    };
    if let Some(s) = selector.filter(|s| !s.is_empty()) {
        status.insert("selector", s);
    }
    let mut m = Map::new();
    m.insert("kind", "Scale");
    m.insert("apiVersion", "autoscaling/v1");
    m.insert("metadata", meta);
    m.insert("spec", spec);
    m.insert("status", status);
    Value::Map(m)
}

/// A selector object as a parameter writes it.
fn selector_text(v: &Value) -> String {
    let pairs = |m: &Value| -> Vec<String> {
        m.as_map()
            .into_iter()
            .flat_map(|m| m.iter())
            .filter_map(|(k, v)| Some(format!("{k}={}", v.as_str()?)))
            .collect()
    };
    let mut out = if v.get("matchLabels").is_some() || v.get("matchExpressions").is_some() {
        pairs(&v["matchLabels"])
    } else {
        pairs(v)
    };
    for e in v["matchExpressions"].items() {
        let key = e["key"].as_str().unwrap_or_default();
        let mut values: Vec<&str> = e["values"].items().iter().filter_map(Value::as_str).collect();
        values.sort_unstable();
        out.push(match e["operator"].as_str().unwrap_or_default() {
            "In" => format!("{key} in ({})", values.join(",")),
            "NotIn" => format!("{key} notin ({})", values.join(",")),
            "Exists" => key.to_owned(),
            _ => format!("!{key}"),
        });
    }
    out.sort();
    out.join(",")
}

static SCALE: LazyLock<Gvk> = LazyLock::new(|| Gvk::new("autoscaling", "v1", "Scale"));

/// Scales as tables print them.
static SCALES: LazyLock<Arc<Resource>> = LazyLock::new(|| {
    Arc::new(Resource {
        group: "autoscaling".into(),
        kind: "Scale".into(),
        plural: "scales".into(),
        stored_as: "scales.autoscaling".into(),
        ..Resource::default()
    })
});

fn answer_scale(call: &Call, scale: Value) -> Response<Body> {
    // A custom kind's scale is printed with the kind's own columns.
    if call.resource.custom {
        return call.view.answer(200, scale);
    }
    View { resource: SCALES.clone(), version: "v1".into(), ..call.view.clone() }.answer(200, scale)
}

async fn scale(call: &Call) -> Answer {
    let paths = call.version()?.scale.clone().ok_or_else(Status::no_resource)?;
    let name = call.info.name.as_str();
    if call.info.verb == "get" {
        let o = call
            .shared
            .stored(&call.resource, call.namespace(), name)
            .ok_or_else(|| Status::not_found(call.named(name)))?;
        let v = call.view.value_of(&o)?;
        return Ok(answer_scale(call, scale_of(call, &paths, &v)));
    }
    let dry = call.dry_run()?;
    let manager = call.manager();
    if content_type(&call.headers) == "application/apply-patch+yaml" {
        return apply_scale(call, &paths, dry).await;
    }
    let body = match call.info.verb {
        "update" => {
            let body = call.body_as(&SCALE, &[])?;
            call.fits_name(&body)?;
            body
        }
        _ => super::call::parse_json(&call.body)
            .map_err(|e| Status::bad_request(format!("error decoding patch: {e}")))?,
    };
    let json_patch = content_type(&call.headers) == "application/json-patch+json";
    let strategic = content_type(&call.headers) == "application/strategic-merge-patch+json";
    if json_patch {
        super::patch::check_operations(call, &body)?;
    }
    loop {
        let stored = call.shared.stored(&call.resource, call.namespace(), name);
        let stored = stored.ok_or_else(|| Status::not_found(call.named(name)))?;
        let old = scale_of(call, &paths, &call.view.value_of(&stored)?);
        let mut scale = if call.info.verb == "update" { body.clone() } else { old.clone() };
        if json_patch && body.is_null() {
            // No operation at all.
        } else if json_patch {
            patches::json_patch(&mut scale, &body).map_err(|e| super::patch::json_patch_status(&e))?;
        } else if call.info.verb != "update" {
            match (&body, strategic) {
                (Value::Map(_), _) => patches::merge_patch(&mut scale, &body),
                (Value::Null, true) => {}
                (Value::Null, false) => return Err(Status::bad_request("Invalid JSON Patch")),
                (_, true) => return Err(Status::bad_request(super::patch::no_map(&body))),
                (_, false) => {
                    let why = format!("error decoding patch: {}", super::patch::no_map(&body));
                    return Err(Status::bad_request(why));
                }
            }
        }
        if call.info.verb != "update" {
            fits_scale(call, &mut scale.clone()).map_err(|why| {
                let shown = owned_scale(&call.view.value_of(&stored).unwrap_or_default(), &paths, scale.clone());
                let (shown, why) = match strategic {
                    true => (super::patch::go_printed(&body), super::patch::converter_words(&why)),
                    false => (druse_object::json::to_string(&shown), why),
                };
                Status::invalid("", "", "", &[FieldError::invalid("patch", shown, why)])
            })?;
            call.fits_name(&scale)?;
        }
        call.admit(Operation::Update, &mut scale, Some(&old), dry).await?;
        let replicas = scale.at(["spec", "replicas"]).and_then(Value::as_i64).unwrap_or(0);
        // A custom kind's own schema judges the number.
        if replicas < 0 && !call.resource.custom {
            let e = FieldError::invalid("spec.replicas", replicas, "must be greater than or equal to 0");
            return Err(Status::invalid("autoscaling", "Scale", name, &[e]));
        }
        // What was admitted is what is written: after another write admission judges anew.
        let mut moved = false;
        let made = change(call, name, "scale", Mode::Admitted(&manager), dry, &mut |old, now| {
            moved = now.rv != stored.rv;
            if moved {
                return Err(Status::modified(call.named(name)));
            }
            let mut new = old.clone();
            set_path(&mut new, &paths.spec_replicas, Value::Int(replicas));
            let rv = scale.str_at(["metadata", "resourceVersion"]).unwrap_or_default().to_owned();
            let uid = scale.at(["metadata", "uid"]).filter(|u| u.as_str() != Some("")).cloned();
            if let Some(m) = new.make_map_at(["metadata"]) {
                m.insert("resourceVersion", rv);
                if let Some(uid) = uid {
                    m.insert("uid", uid);
                }
            }
            Ok(new)
        })
        .await;
        let v = match made {
            Err(_) if moved => continue,
            made => match &made? {
                Made::Stored(o) => call.view.value_of(o)?,
                Made::Dry(v) => v.clone(),
            },
        };
        return Ok(answer_scale(call, scale_of(call, &paths, &v)));
    }
}

/// Reads a value as a scale; the error is Go's.
fn fits_scale(call: &Call, v: &mut Value) -> Result<(), String> {
    match call.shared.schema(&SCALE) {
        Ok(schema) => schema.decode(v).map(drop).map_err(|e| e.to_string()),
        Err(_) => Ok(()),
    }
}

/// A scale with what is known of who owns its one field, as upstream patches it.
fn owned_scale(o: &Value, paths: &ScalePaths, mut scale: Value) -> Value {
    let keys = paths.spec_replicas.trim_start_matches('.').split('.').map(|k| format!("f:{k}"));
    let keys: Vec<String> = keys.collect();
    let owns = |e: &&Value| keys.iter().try_fold(&e["fieldsV1"], |v, k| v.get(k)).is_some();
    let mut entries: Vec<Value> = Vec::new();
    for e in o["metadata"]["managedFields"].items().iter().filter(owns) {
        let mut replicas = Map::new();
        replicas.insert("f:replicas", Map::new());
        let mut fields = Map::new();
        fields.insert("f:spec", replicas);
        let mut m = Map::new();
        for key in ["manager", "operation"] {
            m.insert(key, e[key].clone());
        }
        m.insert("apiVersion", "autoscaling/v1");
        m.insert("fieldsType", "FieldsV1");
        m.insert("fieldsV1", fields);
        if let Some(sub) = e.get("subresource") {
            m.insert("subresource", sub.clone());
        }
        entries.push(Value::Map(m));
    }
    if let Some(meta) = scale.make_map_at(["metadata"])
        && !entries.is_empty()
    {
        meta.insert("managedFields", entries);
    }
    let order = |v: &Value| -> Map {
        let mut m = Map::new();
        for key in ["apiVersion", "kind", "metadata", "spec", "status"] {
            if let Some(x) = v.get(key) {
                m.insert(key, x.clone());
            }
        }
        m
    };
    Value::Map(order(&scale))
}

/// A server-side apply on a scale: an apply of the one field it stands for.
async fn apply_scale(call: &Call, paths: &ScalePaths, dry: bool) -> Answer {
    let name = call.info.name.as_str();
    let manager = call.info.query.get("fieldManager").unwrap_or_default().to_owned();
    if manager.is_empty() {
        let e = FieldError::required("fieldManager", "is required for apply patch");
        return Err(Status::invalid("meta.k8s.io", "PatchOptions", "", &[e]));
    }
    let force = call.info.query.flag("force");
    let schema = call.schema()?;
    let mut applied =
        super::call::parse_yaml(&call.body).map_err(|e| Status::bad_request(format!("error decoding YAML: {e}")))?;
    fits_scale(call, &mut applied).map_err(Status::bad_request)?;
    // What is there lends its name.
    if applied.str_at(["metadata", "name"]).is_some_and(|n| !n.is_empty()) {
        call.fits_name(&applied)?;
    }
    let wanted = applied.at(["spec", "replicas"]).and_then(Value::as_i64);
    let stored = call.shared.stored(&call.resource, call.namespace(), name);
    let stored = stored.ok_or_else(|| Status::not_found(call.named(name)))?;
    let old = scale_of(call, paths, &call.view.value_of(&stored)?);
    let mut scale = old.clone();
    if let Some(n) = wanted {
        set_path(&mut scale, "spec.replicas", Value::Int(n));
    }
    call.admit(Operation::Update, &mut scale, Some(&old), dry).await?;
    if let Some(n) = wanted.filter(|n| *n < 0) {
        let e = FieldError::invalid("spec.replicas", n, "must be greater than or equal to 0");
        return Err(Status::invalid("autoscaling", "Scale", name, &[e]));
    }
    let gvk = call.gvk();
    let made = change(call, name, "scale", Mode::System, dry, &mut |old, _| {
        let mut part = Value::Map(Map::new());
        set_path(&mut part, "apiVersion", gvk.api_version().into());
        set_path(&mut part, "kind", gvk.kind.as_str().into());
        set_path(&mut part, "metadata.name", name.into());
        if let Some(n) = wanted {
            set_path(&mut part, &paths.spec_replicas, Value::Int(n));
        }
        let done = crate::apply::apply(Some(old), &part, &manager, force, "scale", &crate::server::now(), &schema);
        let mut new = done.map_err(|e| super::patch::apply_status(&as_scale(e, &gvk.api_version())))?;
        crate::managed::drop_scale_time(&mut new);
        Ok(new)
    })
    .await?;
    let v = match made {
        Made::Stored(o) => call.view.value_of(&o)?,
        Made::Dry(v) => v,
    };
    Ok(answer_scale(call, scale_of(call, paths, &v)))
}

/// Conflicts about a scale are told in its own version.
fn as_scale(e: crate::apply::ApplyError, version: &str) -> crate::apply::ApplyError {
    use crate::apply::ApplyError;
    match e {
        ApplyError::Conflicts(mut list) => {
            for c in &mut list {
                c.manager = c.manager.replace(&format!("using {version}"), "using autoscaling/v1");
                c.field = ".spec.replicas".into();
            }
            ApplyError::Conflicts(list)
        }
        other => other,
    }
}
