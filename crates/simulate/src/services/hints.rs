//! Hints for which zones and nodes an endpoint is meant, where a Service asks for near ones by `trafficDistribution`
//! (upstream's `k8s.io/endpointslice/trafficdist`).
//!
//! The older annotation `service.kubernetes.io/topology-mode`, which hands endpoints out by the CPUs of zones, turns these
//! hints off and gives none here.

use std::sync::Arc;

use druse_object::{Map, Value};

use super::slices::Plan;

/// Sets the hints of slices that are made or changed, and changes those that have others than they should.
pub fn set(service: &Value, plan: &mut Plan, unchanged: &[Arc<Value>]) {
    let annotations = &service["metadata"]["annotations"];
    let mode = ["service.kubernetes.io/topology-aware-hints", "service.kubernetes.io/topology-mode"];
    let mode = mode.iter().find_map(|a| annotations[*a].as_str());
    let near = match service.str_at(["spec", "trafficDistribution"]) {
        _ if matches!(mode, Some("Auto" | "auto")) => None,
        Some("PreferSameNode") => Some(Near::Node),
        Some("PreferClose" | "PreferSameZone") => Some(Near::Zone),
        _ => None,
    };
    let differs =
        |s: &Arc<Value>| s["endpoints"].items().iter().any(|e| hinted(e, near).is_some_and(|h| h != e["hints"]));
    plan.update.extend(unchanged.iter().filter(|s| differs(s)).map(|s| (**s).clone()));
    for slice in plan.create.iter_mut().chain(&mut plan.update) {
        let endpoints = slice.get_mut("endpoints").and_then(Value::as_array_mut);
        for endpoint in endpoints.into_iter().flatten() {
            let Some(hints) = hinted(endpoint, near) else { continue };
            let Some(m) = endpoint.make_map() else { continue };
            if hints.is_null() {
                m.remove("hints");
            } else {
                m.insert("hints", hints);
            }
        }
    }
}

/// How near.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Near {
    Zone,
    Node,
}

/// The hints that an endpoint should have, null for none; `None` when those it has are left alone.
fn hinted(endpoint: &Value, near: Option<Near>) -> Option<Value> {
    let Some(near) = near else { return Some(Value::Null) };
    if endpoint["conditions"]["ready"].as_bool() != Some(true) {
        return None;
    }
    let one = |name: &Value| -> Value { [[("name", name.clone())].into_iter().collect::<Map>()].into_iter().collect() };
    let mut hints = Map::new();
    if !endpoint["zone"].is_null() {
        hints.insert("forZones", one(&endpoint["zone"]));
    }
    if near == Near::Node && !endpoint["nodeName"].is_null() {
        hints.insert("forNodes", one(&endpoint["nodeName"]));
    }
    Some(if hints.is_empty() { Value::Null } else { Value::Map(hints) })
}
