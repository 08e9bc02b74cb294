//! The EndpointSlices of a Service: which are made, changed and deleted, so that they have what stands behind it.
//!
//! As upstream's reconciler of `k8s.io/endpointslice`: one set of slices an IP family and set of ports, endpoints left in
//! the slices they are in, slices that would go used again for others.

use std::sync::Arc;

use druse_object::{Map, Value};
use druse_runtime::Key;
use jiff::Timestamp;

use super::behind::{self, Family, addresses, hostname, stands, target};
use super::endpoints::HEADLESS;
use super::hash::sort_slice_ports;
use super::hints;
use super::port::{self, Port};
use super::set::{Set, alike};
use super::trigger::{self, TRIGGER_TIME};
use crate::workloads::pods::{going, is_ready, reference_as};

/// Who manages the slices of Services.
pub const CONTROLLER: &str = "endpointslice-controller.k8s.io";
/// The label with the name of the Service.
pub const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// The label with the name of the controller.
pub const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
/// The most endpoints of a slice (upstream's `--max-endpoints-per-slice`).
const MOST: usize = 100;

/// What becomes of slices.
#[derive(Debug, Default)]
pub struct Plan {
    pub create: Vec<Value>,
    pub update: Vec<Value>,
    pub delete: Vec<Arc<Value>>,
    /// Why something could not be done.
    pub failures: Vec<String>,
}

impl Plan {
    pub fn append(&mut self, other: Self) {
        self.create.extend(other.create);
        self.update.extend(other.update);
        self.delete.extend(other.delete);
        self.failures.extend(other.failures);
    }
}

/// A Service, the pods that it selects, and the nodes they are on.
pub struct Behind<'a> {
    pub service: &'a Value,
    pub pods: &'a [Arc<Value>],
    pub node: &'a dyn Fn(&str) -> Option<Arc<Value>>,
}

/// What becomes of the slices that the controller has made for a Service.
pub fn plan(behind: &Behind<'_>, existing: &[Arc<Value>], trigger: Option<Timestamp>) -> Plan {
    let families = Family::of_service(behind.service);
    let mut out = Plan::default();
    for family in &families {
        let of = existing.iter().filter(|s| family_of(s) == Some(*family)).cloned().collect();
        out.append(for_family(behind, of, *family));
    }
    for slice in out.create.iter_mut().chain(&mut out.update) {
        if let Some(annotations) = slice.make_map_at(["metadata", "annotations"]) {
            match trigger {
                Some(at) => annotations.insert(TRIGGER_TIME, trigger::text(at)),
                None => annotations.remove(TRIGGER_TIME),
            };
        }
    }
    let strays = existing.iter().filter(|s| family_of(s).is_none_or(|f| !families.contains(&f)));
    out.delete.extend(strays.cloned());
    out
}

fn family_of(slice: &Value) -> Option<Family> {
    match slice["addressType"].as_str() {
        Some("IPv4") => Some(Family::V4),
        Some("IPv6") => Some(Family::V6),
        _ => None,
    }
}

/// Endpoints that offer the same ports, and the slices of these ports.
struct Group {
    ports: Vec<Port>,
    wanted: Set,
    existing: Vec<Arc<Value>>,
    /// Whether any pod offers these ports.
    desired: bool,
}

/// The group of these ports. There are few of them: most often all pods offer the same.
fn group(groups: &mut Vec<Group>, mut ports: Vec<Port>) -> &mut Group {
    sort_slice_ports(&mut ports);
    let place = groups.iter().position(|g| g.ports == ports).unwrap_or_else(|| {
        groups.push(Group { ports, wanted: Set::default(), existing: Vec::new(), desired: false });
        groups.len() - 1
    });
    &mut groups[place]
}

fn for_family(behind: &Behind<'_>, existing: Vec<Arc<Value>>, family: Family) -> Plan {
    let service = behind.service;
    let count = existing.len();
    let mut out = Plan::default();
    let mut groups: Vec<Group> = Vec::new();
    let mut unchanged: Vec<Arc<Value>> = existing.clone();
    for slice in existing {
        if is_of(&slice, service) {
            let ports = slice["ports"].items().iter().map(Port::read).collect();
            group(&mut groups, ports).existing.push(slice);
        } else {
            out.delete.push(slice);
        }
    }
    for pod in behind.pods.iter().filter(|p| stands(p, true)) {
        let declared = service["spec"]["ports"].items();
        let group = group(&mut groups, declared.iter().filter_map(|p| port::at_pod(p, pod)).collect());
        group.desired = true;
        match endpoint(behind, pod, family) {
            Ok(Some(endpoint)) => group.wanted.add(endpoint),
            Ok(None) => {}
            Err(why) => out.failures.push(why),
        }
    }
    for group in groups {
        if group.desired {
            out.append(fill(service, group, family));
        } else {
            out.delete.extend(group.existing);
        }
    }
    if out.delete.len() == count && out.create.is_empty() {
        // A Service is never without a slice, even if nothing is behind it.
        let placeholder = new(service, &[], family);
        match out.delete.as_slice() {
            [only] if is_placeholder(only, &placeholder) => out.delete.clear(),
            _ => out.create.push(placeholder),
        }
    }
    let changed = |s: &Arc<Value>| {
        let named = |o: &Value| o["metadata"]["name"] == s["metadata"]["name"];
        out.update.iter().any(named) || out.delete.iter().any(|o| named(o))
    };
    unchanged.retain(|s| !changed(s));
    hints::set(service, &mut out, &unchanged);
    reuse(&mut out, |s| is_of(s, service));
    out
}

/// Whether a slice is owned by this very Service, not by one of its name that is gone.
fn is_of(slice: &Value, service: &Value) -> bool {
    slice["metadata"]["ownerReferences"].items().iter().any(|o| {
        o["uid"] == service["metadata"]["uid"]
            && o["kind"].as_str() == Some("Service")
            && o["apiVersion"].as_str() == Some("v1")
    })
}

fn is_placeholder(slice: &Value, placeholder: &Value) -> bool {
    let labels = |v: &Value| v["metadata"]["labels"].as_map().cloned().unwrap_or_default();
    slice["endpoints"].items().is_empty()
        && slice["ports"].items().is_empty()
        && slice["addressType"] == placeholder["addressType"]
        && labels(slice) == labels(placeholder)
}

/// Turns deletions into updates where as many slices are made.
pub fn reuse(plan: &mut Plan, may: impl Fn(&Value) -> bool) {
    for old in std::mem::take(&mut plan.delete) {
        // The family of a slice never changes.
        let place = plan.create.iter().rposition(|n| n["addressType"] == old["addressType"] && may(&old));
        let Some(place) = place else {
            plan.delete.push(old);
            continue;
        };
        let mut slice = plan.create.remove(place);
        if let Some(metadata) = slice.make_map_at(["metadata"]) {
            metadata.insert("name", old["metadata"]["name"].clone());
        }
        plan.update.push(slice);
    }
}

/// What a pod is to the Service; `None` when it has no address of the family.
fn endpoint(behind: &Behind<'_>, pod: &Value, family: Family) -> Result<Option<Value>, String> {
    let service = behind.service;
    let unready_too = service["spec"]["publishNotReadyAddresses"].as_bool() == Some(true);
    let name = pod.str_at(["spec", "nodeName"]).unwrap_or_default();
    let node = (behind.node)(name);
    if node.is_none() && !unready_too {
        let (pod, service) = (Key::of(pod).name, Key::of(service));
        return Err(format!("skipping Pod {pod} for Service {service}: Node {name} Not Found"));
    }
    let mut all: Vec<String> = addresses(pod).filter(|ip| Family::of(*ip) == family).map(|ip| ip.to_string()).collect();
    if all.is_empty() {
        return Ok(None);
    }
    all.sort_unstable();
    let (serving, terminating) = (is_ready(pod), going(pod));
    let mut conditions = Map::new();
    conditions.insert("ready", unready_too || (serving && !terminating));
    conditions.insert("serving", serving);
    conditions.insert("terminating", terminating);
    let mut m = Map::new();
    m.insert("addresses", all.into_iter().collect::<Value>());
    m.insert("conditions", conditions);
    if let Some(host) = hostname(pod, service) {
        m.insert("hostname", host);
    }
    m.insert("targetRef", target(pod));
    if !name.is_empty() {
        m.insert("nodeName", name);
    }
    let zone = node.as_ref().and_then(|n| n.at(["metadata", "labels"])?.str_at(["topology.kubernetes.io/zone"]));
    if let Some(zone) = zone.filter(|z| !z.is_empty()) {
        m.insert("zone", zone);
    }
    Ok(Some(Value::Map(m)))
}

/// A slice without endpoints.
fn new(service: &Value, ports: &[Port], family: Family) -> Value {
    let key = Key::of(service);
    let mut metadata = Map::new();
    metadata.insert("generateName", prefix(&key.name));
    metadata.insert("namespace", key.namespace);
    metadata.insert("labels", labels(service, &Value::Null).0);
    metadata.insert("ownerReferences", vec![reference_as(Some("v1"), Some("Service"), service)]);
    slice(metadata, ports, family)
}

/// A slice without endpoints, of which the metadata is given.
pub fn slice(metadata: Map, ports: &[Port], family: Family) -> Value {
    let mut m = Map::new();
    m.insert("apiVersion", "discovery.k8s.io/v1");
    m.insert("kind", "EndpointSlice");
    m.insert("metadata", metadata);
    m.insert("addressType", family.name());
    m.insert("endpoints", Vec::<Value>::new());
    m.insert("ports", ports.iter().map(Port::of_slice).collect::<Value>());
    Value::Map(m)
}

/// What the generated name of a slice begins with.
pub fn prefix(service: &str) -> String {
    // A name of full length leaves no room for the dash.
    if service.len() < 253 { format!("{service}-") } else { service.to_owned() }
}

/// The labels of a Service's slices, and whether a slice differs in those that come from the Service.
fn labels(service: &Value, slice: &Value) -> (Map, bool) {
    let own = |k: &str| [SERVICE_NAME, MANAGED_BY, HEADLESS].contains(&k);
    let theirs = |v: &Value| {
        let mut labels = v["metadata"]["labels"].as_map().cloned().unwrap_or_default();
        labels.retain(|k, _| !own(k));
        labels
    };
    let mut labels = theirs(service);
    let differ = labels != theirs(slice);
    if behind::is_headless(service) {
        labels.insert(HEADLESS, "");
    }
    labels.insert(SERVICE_NAME, service["metadata"]["name"].clone());
    labels.insert(MANAGED_BY, CONTROLLER);
    (labels, differ)
}

/// Fits endpoints of the same ports into slices: first those that stay where they are, then into slices that change
/// anyhow, at last into one that still has room, or new ones.
fn fill(service: &Value, group: Group, family: Family) -> Plan {
    let mut wanted = group.wanted;
    let mut out = Plan::default();
    let mut same = Vec::new();
    for slice in group.existing {
        let old = slice["endpoints"].items();
        let mut changed = false;
        let stay: Vec<Value> = old
            .iter()
            .filter_map(|e| {
                let new = wanted.take(e)?;
                changed |= !alike(&new, e);
                Some(new)
            })
            .collect();
        let (labels, relabelled) = labels(service, &slice);
        if changed || stay.len() != old.len() {
            if stay.is_empty() {
                out.delete.push(slice);
            } else {
                out.update.push(with(&slice, Some(labels), Some(stay)));
            }
        } else if relabelled {
            out.update.push(with(&slice, Some(labels), None));
        } else {
            same.push(slice);
        }
    }
    let size = |s: &Value| s["endpoints"].items().len();
    // The fullest first.
    out.update.sort_by_key(|s| std::cmp::Reverse(size(s)));
    for slice in &mut out.update {
        top_up(slice, &mut wanted);
    }
    while !wanted.is_empty() {
        let room = |s: &Arc<Value>| (size(s) + wanted.len() <= MOST).then(|| MOST - size(s));
        let fitting = same.iter().enumerate().filter(|_| wanted.len() < MOST);
        let fullest = fitting.filter_map(|(i, s)| Some((room(s)?, i))).min();
        if let Some((_, at)) = fullest {
            let mut slice = with(&same.remove(at), None, None);
            top_up(&mut slice, &mut wanted);
            out.update.push(slice);
        } else {
            let mut slice = new(service, &group.ports, family);
            top_up(&mut slice, &mut wanted);
            out.create.push(slice);
        }
    }
    out
}

/// A copy of a slice with other labels or endpoints.
fn with(slice: &Value, labels: Option<Map>, endpoints: Option<Vec<Value>>) -> Value {
    let mut slice = slice.clone();
    if let (Some(labels), Some(metadata)) = (labels, slice.make_map_at(["metadata"])) {
        metadata.insert("labels", labels);
    }
    if let (Some(endpoints), Some(m)) = (endpoints, slice.make_map()) {
        m.insert("endpoints", endpoints);
    }
    slice
}

/// Puts endpoints into a slice until it is full.
fn top_up(slice: &mut Value, wanted: &mut Set) {
    let Some(m) = slice.make_map() else { return };
    let mut endpoints = m.remove("endpoints").and_then(|e| e.as_array().cloned()).unwrap_or_default();
    while endpoints.len() < MOST
        && let Some(endpoint) = wanted.pop()
    {
        endpoints.push(endpoint);
    }
    m.insert("endpoints", endpoints);
}
