//! One stored object served in several versions.
//!
//! Custom resources convert by renaming (`None` strategy) or by their CRD's webhook. Two built-in types have a second
//! form: events (`events.k8s.io` names core's fields differently) and autoscalers ([`autoscalers`]).

use std::time::Duration;

use druse_object::{Map, Value};

use crate::autoscalers;
use crate::callout::{self, Failure, Target};
use crate::registry::{Conversion, Resource};
use crate::server::Shared;
use crate::status::Status;

/// Whether stored text can never be sent as it is, because it belongs to another group.
#[must_use]
pub fn always(resource: &Resource) -> bool {
    resource.group == "events.k8s.io"
}

/// A stored object in a served version.
///
/// # Errors
/// When the webhook that converts fails.
pub fn to_version(shared: &Shared, mut v: Value, resource: &Resource, version: &str) -> Result<Value, Status> {
    if resource.custom {
        return custom(shared, vec![v], resource, version).map(first);
    }
    if version == resource.storage_version && !always(resource) {
        return Ok(v);
    }
    if let Some(m) = v.as_map_mut() {
        if resource.group == "events.k8s.io" {
            rename(m, &EVENT, false);
        }
        if resource.group == "autoscaling" && version == "v1" {
            autoscalers::first(m);
        }
        m.insert("apiVersion", resource.api_version(version));
    }
    Ok(v)
}

/// Stored objects in a served version; those that a webhook converts are sent to it together.
///
/// # Errors
/// As [`to_version`].
pub fn all_to_version(
    shared: &Shared,
    list: Vec<Value>,
    resource: &Resource,
    version: &str,
) -> Result<Vec<Value>, Status> {
    if resource.custom {
        return custom(shared, list, resource, version);
    }
    list.into_iter().map(|v| to_version(shared, v, resource, version)).collect()
}

/// An object of a served version in the stored one.
///
/// # Errors
/// When the webhook that converts fails.
pub fn to_stored(shared: &Shared, mut v: Value, resource: &Resource, version: &str) -> Result<Value, Status> {
    if resource.custom {
        return custom(shared, vec![v], resource, &resource.storage_version).map(first);
    }
    if version == resource.storage_version && !always(resource) {
        return Ok(v);
    }
    if let Some(m) = v.as_map_mut() {
        if resource.group == "events.k8s.io" {
            rename(m, &EVENT, true);
            m.insert("apiVersion", "v1");
        } else {
            if resource.group == "autoscaling" && version == "v1" {
                autoscalers::second(m);
            }
            m.insert("apiVersion", resource.api_version(&resource.storage_version));
        }
    }
    // As it is read from the store.
    if resource.stored_as == autoscalers::STORED {
        crate::validate::default_object(&resource.gvk(&resource.storage_version), &mut v);
    }
    Ok(v)
}

/// An object of one served version in another one.
///
/// # Errors
/// When the webhook that converts fails.
pub fn between(shared: &Shared, v: Value, resource: &Resource, from: &str, to: &str) -> Result<Value, Status> {
    if from == to {
        return Ok(v);
    }
    to_version(shared, to_stored(shared, v, resource, from)?, resource, to)
}

fn first(list: Vec<Value>) -> Value {
    list.into_iter().next().unwrap_or_default()
}

/// Custom objects in another version: by their CRD's webhook, or by name only. Those that have it stay as they are.
fn custom(shared: &Shared, mut list: Vec<Value>, resource: &Resource, version: &str) -> Result<Vec<Value>, Status> {
    let wanted = resource.api_version(version);
    let other = |v: &Value| v.str_at(["apiVersion"]) != Some(wanted.as_str());
    if resource.mixed {
        // What was written under another schema is read as it would be under today's.
        for v in &mut list {
            let own = druse_object::Gvk::of(v);
            if let Some(Ok(schema)) = own.map(|gvk| shared.schema(&gvk)) {
                schema.prune(v);
                schema.default(v);
            }
        }
    }
    if !list.iter().any(other) {
        return Ok(list);
    }
    let pruned = |v: &mut Value| {
        if let Ok(schema) = shared.schema(&resource.gvk(version)) {
            schema.prune(v);
        }
    };
    if let Some(c) = &resource.conversion {
        let target = shared.webhook_target(&c.config);
        shared.callouts.note(crate::controllers::CRDS, &c.crd, target == Ok(Target::Simulated));
        if target != Ok(Target::Simulated) {
            let objects: Vec<Value> = list.iter().filter(|v| other(v)).cloned().collect();
            let kind = objects.first().map(|o| {
                let gvk = druse_object::Gvk::of(o).unwrap_or_else(|| resource.gvk(version));
                format!("{}, Kind={}", gvk.api_version(), gvk.kind)
            });
            let made = by_webhook(shared, c, target, &wanted, &objects).map_err(|why| {
                Status::internal(format!("conversion webhook for {} failed: {why}", kind.unwrap_or_default()))
            })?;
            let mut made = made.into_iter();
            for v in list.iter_mut().filter(|v| other(v)) {
                if let Some(m) = made.next() {
                    *v = m;
                    pruned(v);
                }
            }
            return Ok(list);
        }
    }
    for v in list.iter_mut().filter(|v| other(v)) {
        if let Some(m) = v.as_map_mut() {
            m.insert("apiVersion", wanted.as_str());
        }
        pruned(v);
    }
    Ok(list)
}

/// How long a conversion may take, as upstream.
const TIMEOUT: Duration = Duration::from_secs(30);

fn by_webhook(
    shared: &Shared,
    conversion: &Conversion,
    target: Result<Target, Failure>,
    wanted: &str,
    objects: &[Value],
) -> Result<Vec<Value>, Failure> {
    let target = target?;
    let version = conversion.review_versions.iter().find(|v| matches!(v.as_str(), "v1" | "v1beta1"));
    let version = version.ok_or("it does not accept known ConversionReview versions (v1, v1beta1)")?;
    let uid = uuid::Uuid::new_v4().to_string();
    let mut request = Map::new();
    request.insert("uid", uid.as_str());
    request.insert("desiredAPIVersion", wanted);
    request.insert("objects", objects.to_vec());
    let mut review = Map::new();
    review.insert("kind", "ConversionReview");
    review.insert("apiVersion", format!("apiextensions.k8s.io/{version}"));
    review.insert("request", request);
    let review = Value::Map(review);
    let answer = callout::wait(shared.post(&conversion.config, &target, &review, TIMEOUT))
        .map_err(|e| e.trim_start_matches("failed to call webhook: ").to_owned())?;
    let response = &answer["response"];
    if response.as_map().is_none() {
        return Err("no response provided".into());
    }
    if response.str_at(["uid"]) != Some(uid.as_str()) && version == "v1" {
        return Err(format!("expected response.uid={uid:?}, got {:?}", response.str_at(["uid"]).unwrap_or_default()));
    }
    if response.str_at(["result", "status"]) != Some("Success") {
        let message = response.str_at(["result", "message"]).filter(|m| !m.is_empty());
        return Err(message.unwrap_or("the response does not say that it succeeded").to_owned());
    }
    let made = response["convertedObjects"].items();
    if made.len() != objects.len() {
        return Err(format!("it returned {} objects, expected {}", made.len(), objects.len()));
    }
    made.iter().zip(objects).map(|(new, old)| checked(new, old, wanted)).collect()
}

/// A converted object must be the same object; of its metadata a webhook may change labels and annotations.
fn checked(new: &Value, old: &Value, wanted: &str) -> Result<Value, Failure> {
    if new.str_at(["apiVersion"]) != Some(wanted) || new["kind"] != old["kind"] {
        return Err(format!(
            "invalid converted object: expected {wanted}, Kind={}, got {}, Kind={}",
            old.str_at(["kind"]).unwrap_or_default(),
            new.str_at(["apiVersion"]).unwrap_or_default(),
            new.str_at(["kind"]).unwrap_or_default()
        ));
    }
    for key in ["name", "namespace", "uid"] {
        if new.at(["metadata", key]) != old.at(["metadata", key]) {
            return Err(format!("invalid converted object: metadata.{key} was changed"));
        }
    }
    let mut meta = old.get("metadata").and_then(Value::as_map).cloned().unwrap_or_default();
    for key in ["labels", "annotations"] {
        match new.at(["metadata", key]) {
            Some(v) => meta.insert(key, v.clone()),
            None => meta.remove(key),
        };
    }
    let mut out = new.clone();
    if let Some(m) = out.as_map_mut() {
        m.insert("metadata", meta);
    }
    Ok(out)
}

/// Core's name, the newer group's name.
const EVENT: [(&str, &str); 8] = [
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("reportingComponent", "reportingController"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
    ("reportingInstance", "reportingInstance"),
];

/// An autoscaler of version 1 as version 2 says it.
pub(crate) fn second_autoscaler(mut v: Value) -> Value {
    if let Some(m) = v.as_map_mut() {
        autoscalers::second(m);
    }
    v
}

/// An event of the newer group in core's words.
pub(crate) fn core_event(mut v: Value) -> Value {
    if let Some(m) = v.as_map_mut() {
        rename(m, &EVENT, true);
    }
    v
}

fn rename(m: &mut Map, names: &[(&str, &str)], back: bool) {
    for (core, newer) in names {
        let (from, to) = if back { (newer, core) } else { (core, newer) };
        if from != to
            && let Some(v) = m.remove(from)
        {
            m.insert(*to, v);
        }
    }
}
