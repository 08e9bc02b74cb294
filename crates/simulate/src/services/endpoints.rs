//! The Endpoints of a Service, as upstream's `pkg/controller/endpoint` makes them.

use std::sync::Arc;

use druse_object::{Map, Value};
use druse_runtime::Key;
use jiff::Timestamp;

use super::behind::{self, Family};
use super::port::{self, Port};
use super::subsets::{Subset, repack};
use super::trigger::{self, TRIGGER_TIME};
use crate::workloads::pods::is_ready;

/// The label of Services without an address of their own, on what is made for them.
pub const HEADLESS: &str = "service.kubernetes.io/headless";
const MANAGED_BY: &str = "endpoints.kubernetes.io/managed-by";
const CONTROLLER: &str = "endpoint-controller";
const OVER_CAPACITY: &str = "endpoints.kubernetes.io/over-capacity";
/// The most addresses that Endpoints list.
const CAPACITY: usize = 1000;

/// What the Endpoints of a Service should be, when that is not what they are.
pub fn plan(
    service: &Value,
    pods: &[Arc<Value>],
    current: Option<&Value>,
    trigger: Option<Timestamp>,
) -> Option<Value> {
    let mut wanted = subsets(service, pods);
    let cut = truncate(&mut wanted);
    if let Some(current) = current {
        let there = Subset::read_all(&current["subsets"]);
        // Others may have packed what is there.
        let same = there == wanted || repack(&there) == wanted;
        let marked = !current["metadata"]["annotations"][OVER_CAPACITY].is_null();
        if same && marked == cut && labels_are(current, service) {
            return None;
        }
    }
    let key = Key::of(service);
    let mut object = current.cloned().unwrap_or_else(|| {
        let mut metadata = Map::new();
        metadata.insert("name", key.name);
        metadata.insert("namespace", key.namespace);
        let mut m = Map::new();
        m.insert("apiVersion", "v1");
        m.insert("kind", "Endpoints");
        m.insert("metadata", metadata);
        Value::Map(m)
    });
    let mut labels = service["metadata"]["labels"].as_map().cloned().unwrap_or_default();
    if behind::is_headless(service) {
        labels.insert(HEADLESS, "");
    } else {
        labels.remove(HEADLESS);
    }
    labels.insert(MANAGED_BY, CONTROLLER);
    if let Some(metadata) = object.make_map_at(["metadata"]) {
        metadata.insert("labels", labels);
    }
    if let Some(annotations) = object.make_map_at(["metadata", "annotations"]) {
        let notes = [(TRIGGER_TIME, trigger.map(trigger::text)), (OVER_CAPACITY, cut.then(|| "truncated".to_owned()))];
        for (name, note) in notes {
            match note {
                Some(note) => annotations.insert(name, note),
                None => annotations.remove(name),
            };
        }
    }
    if let Some(m) = object.make_map() {
        if wanted.is_empty() {
            m.remove("subsets");
        } else {
            m.insert("subsets", wanted.iter().map(Subset::written).collect::<Value>());
        }
    }
    Some(object)
}

/// All addresses behind a Service, in canonical order. Endpoints have those of its first family alone.
fn subsets(service: &Value, pods: &[Arc<Value>]) -> Vec<Subset> {
    let unready_too = service["spec"]["publishNotReadyAddresses"].as_bool() == Some(true);
    let first = service["spec"]["ipFamilies"].items().first().and_then(Value::as_str);
    let family = if first == Some("IPv6") { Family::V6 } else { Family::V4 };
    let ports = service["spec"]["ports"].items();
    let mut out = Vec::new();
    for pod in pods.iter().filter(|p| behind::stands(p, unready_too)) {
        let Some(ip) = behind::addresses(pod).find(|ip| Family::of(*ip) == family) else { continue };
        let mut address = Map::new();
        address.insert("ip", ip.to_string());
        if let Some(name) = behind::hostname(pod, service) {
            address.insert("hostname", name);
        }
        address.insert("nodeName", pod.str_at(["spec", "nodeName"]).unwrap_or_default());
        address.insert("targetRef", behind::target(pod));
        let mut add = |ports: Vec<Port>| {
            let mut subset = Subset { ports, ..Subset::default() };
            let side = if unready_too || is_ready(pod) { &mut subset.ready } else { &mut subset.not_ready };
            side.push(Value::Map(address.clone()));
            out.push(subset);
        };
        if ports.is_empty() && service.str_at(["spec", "clusterIP"]) == Some("None") {
            add(Vec::new());
        }
        for port in ports.iter().filter_map(|p| port::at_pod(p, pod)) {
            add(vec![port]);
        }
    }
    repack(&out)
}

/// Whether the labels are those of the Service and the controller's own. That of headless Services is not looked at.
fn labels_are(endpoints: &Value, service: &Value) -> bool {
    let labels = &endpoints["metadata"]["labels"];
    let own = |k: &str| k == HEADLESS || k == MANAGED_BY;
    let all = |v: &Value| v["metadata"]["labels"].as_map().cloned().unwrap_or_default();
    let mut found = all(endpoints);
    found.retain(|k, _| !own(k));
    let wanted = all(service);
    labels[MANAGED_BY].as_str() == Some(CONTROLLER)
        && found.len() == wanted.len()
        && found.iter().all(|(k, v)| wanted.get(k) == Some(v))
}

/// Leaves no more addresses than Endpoints may list, ready ones before others, each subset in proportion. Returns whether
/// any went.
fn truncate(subsets: &mut [Subset]) -> bool {
    let ready: usize = subsets.iter().map(|s| s.ready.len()).sum();
    let all: usize = subsets.iter().map(Subset::len).sum();
    if all <= CAPACITY {
        return false;
    }
    let cut_ready = ready > CAPACITY;
    let (most, of) = if cut_ready { (CAPACITY, ready) } else { (CAPACITY - ready, all - ready) };
    let mut left = most;
    for subset in subsets {
        let side = if cut_ready { &mut subset.ready } else { &mut subset.not_ready };
        let share = (side.len() * most).div_ceil(of).min(left);
        side.truncate(share);
        left -= side.len();
        if cut_ready {
            subset.not_ready.clear();
        }
    }
    true
}
