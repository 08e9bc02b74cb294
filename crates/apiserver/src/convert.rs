//! One stored object served in several versions.
//!
//! Custom resources convert by renaming (`None` strategy). Two built-in types have a second form: events
//! (`events.k8s.io` names core's fields differently) and autoscalers (`v1` shows only the CPU target).

use druse_object::{Map, Value, json};

use crate::registry::Resource;
use crate::status::Status;

/// Whether stored text can never be sent as it is, because it belongs to another group.
#[must_use]
pub fn always(resource: &Resource) -> bool {
    resource.group == "events.k8s.io"
}

/// A stored object in a served version.
///
/// # Errors
/// None today; conversion by webhook will have some.
pub fn to_version(mut v: Value, resource: &Resource, version: &str) -> Result<Value, Status> {
    if version == resource.storage_version && !always(resource) {
        return Ok(v);
    }
    if let Some(m) = v.as_map_mut() {
        if resource.group == "events.k8s.io" {
            rename(m, &EVENT, false);
        }
        if resource.group == "autoscaling" && version == "v1" {
            hpa_to_v1(m);
        }
        m.insert("apiVersion", resource.api_version(version));
    }
    Ok(v)
}

/// An object of a served version in the stored one.
///
/// # Errors
/// None today; conversion by webhook will have some.
pub fn to_stored(mut v: Value, resource: &Resource, version: &str) -> Result<Value, Status> {
    if version == resource.storage_version && !always(resource) {
        return Ok(v);
    }
    if let Some(m) = v.as_map_mut() {
        if resource.group == "events.k8s.io" {
            rename(m, &EVENT, true);
            m.insert("apiVersion", "v1");
        } else {
            if resource.group == "autoscaling" && version == "v1" {
                hpa_from_v1(m);
            }
            m.insert("apiVersion", resource.api_version(&resource.storage_version));
        }
    }
    Ok(v)
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

/// Where `v1` keeps what only `v2` can say.
const METRICS: &str = "autoscaling.alpha.kubernetes.io/metrics";
const BEHAVIOR: &str = "autoscaling.alpha.kubernetes.io/behavior";

fn hpa_to_v1(m: &mut Map) {
    let mut kept = Map::new();
    if let Some(spec) = m.get_mut("spec").and_then(Value::as_map_mut) {
        if let Some(behavior) = spec.remove("behavior") {
            kept.insert(BEHAVIOR, json::to_string(&behavior));
        }
        if let Some(metrics) = spec.remove("metrics") {
            let is_cpu = |v: &Value| {
                v.str_at(["type"]) == Some("Resource")
                    && v.str_at(["resource", "name"]) == Some("cpu")
                    && v.str_at(["resource", "target", "type"]) == Some("Utilization")
            };
            let mut others = Vec::new();
            for metric in metrics.items() {
                if is_cpu(metric) && spec.get("targetCPUUtilizationPercentage").is_none() {
                    let target = metric["resource"]["target"]["averageUtilization"].clone();
                    spec.insert("targetCPUUtilizationPercentage", target);
                } else {
                    others.push(metric.clone());
                }
            }
            if !others.is_empty() {
                kept.insert(METRICS, json::to_string(&Value::Array(others)));
            }
        }
    }
    if let Some(status) = m.get_mut("status").and_then(Value::as_map_mut) {
        status.remove("currentMetrics");
        status.remove("conditions");
    }
    if !kept.is_empty()
        && let Some(annotations) = m.entry_or_null("metadata").make_map_at(["annotations"])
    {
        for (k, v) in kept {
            annotations.insert(k, v);
        }
    }
}

fn hpa_from_v1(m: &mut Map) {
    let mut metrics = Vec::new();
    let mut behavior = None;
    if let Some(annotations) = m.entry_or_null("metadata").make_map_at(["annotations"]) {
        let mut take = |k: &str| {
            let v = annotations.remove(k)?;
            json::parse(v.as_str()?.as_bytes()).ok()
        };
        if let Some(Value::Array(list)) = take(METRICS) {
            metrics = list;
        }
        behavior = take(BEHAVIOR);
    }
    if let Some(spec) = m.entry_or_null("spec").make_map() {
        if let Some(cpu) = spec.remove("targetCPUUtilizationPercentage").filter(|c| !c.is_null()) {
            let mut metric = Value::Null;
            if let Some(target) = metric.make_map_at(["resource", "target"]) {
                target.insert("type", "Utilization");
                target.insert("averageUtilization", cpu);
            }
            if let Some(r) = metric.make_map_at(["resource"]) {
                r.insert("name", "cpu");
            }
            if let Some(top) = metric.make_map() {
                top.insert("type", "Resource");
            }
            metrics.insert(0, metric);
        }
        if !metrics.is_empty() {
            spec.insert("metrics", metrics);
        }
        if let Some(b) = behavior {
            spec.insert("behavior", b);
        }
    }
}
