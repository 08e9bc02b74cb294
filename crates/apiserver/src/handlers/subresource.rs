//! Subresources: status, scale, token, finalize, and those of pods.

use std::sync::{Arc, LazyLock};

use druse_object::{Map, Value, patch as patches};
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
    let Some(declared) = declared else { return Err(Status::no_resource()) };
    if !declared.verbs.iter().any(|v| v == call.info.verb) {
        return Err(Status::method_not_supported());
    }
    match (call.resource.stored_as.as_str(), sub) {
        (_, "scale") => scale(call).await,
        ("serviceaccounts", "token") => reviews::token(call).await,
        ("pods", "binding") => pods::bind(call).await,
        ("pods", "eviction") => pods::evict(call).await,
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
    let body = match content_type(&call.headers) {
        "application/apply-patch+yaml" => {
            super::call::parse_yaml(&call.body).map_err(|e| Status::bad_request(format!("error decoding YAML: {e}")))?
        }
        _ if call.info.verb == "update" => call.body_value("Scale")?,
        _ => super::call::parse_json(&call.body)
            .map_err(|e| Status::bad_request(format!("error decoding patch: {e}")))?,
    };
    let json_patch = content_type(&call.headers) == "application/json-patch+json";
    loop {
        let stored = call.shared.stored(&call.resource, call.namespace(), name);
        let stored = stored.ok_or_else(|| Status::not_found(call.named(name)))?;
        let old = scale_of(call, &paths, &call.view.value_of(&stored)?);
        let mut scale = if call.info.verb == "update" { body.clone() } else { old.clone() };
        if json_patch {
            patches::json_patch(&mut scale, &body).map_err(|e| super::patch::json_patch_status(&e))?;
        } else if call.info.verb != "update" {
            patches::merge_patch(&mut scale, &body);
        }
        call.admit(Operation::Update, &mut scale, Some(&old), dry).await?;
        let replicas = scale.at(["spec", "replicas"]).and_then(Value::as_i64).unwrap_or(0);
        if replicas < 0 {
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
            if let Some(m) = new.make_map_at(["metadata"]) {
                m.insert("resourceVersion", rv);
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
