//! Endpoints that somebody else writes for a Service without a selector, mirrored as EndpointSlices: what reads slices
//! alone finds them too. As upstream's `pkg/controller/endpointslicemirroring`.

use std::net::IpAddr;
use std::sync::Arc;

use druse_object::{Map, Value};
use druse_runtime::{ApiError, Cache, Caches, Key, Manager, Next, Reconciler, Recorder};

use super::behind::{Family, has_selector, ip};
use super::hands::Hands;
use super::hash::sort_slice_ports;
use super::port::Port;
use super::set::{Set, alike};
use super::slices::{MANAGED_BY, Plan, SERVICE_NAME, prefix, reuse, slice};
use super::subsets::{Subset, repack};
use super::trigger::TRIGGER_TIME;
use crate::kinds;
use crate::workloads::pods::{outcome, reference_as};
use crate::workloads::report::Note;

const CONTROLLER: &str = "endpointslicemirroring-controller.k8s.io";
/// The most addresses of a subset that are mirrored (upstream's `--mirroring-max-endpoints-per-subset`).
const MOST: usize = 1000;
/// Annotations that are not mirrored.
const LEFT_OUT: [&str; 2] = [TRIGGER_TIME, "kubectl.kubernetes.io/last-applied-configuration"];

struct Controller {
    services: Arc<Cache>,
    endpoints: Arc<Cache>,
    hands: Hands,
    recorder: Recorder,
}

pub fn start(manager: &Manager, caches: &Caches) {
    let (services, endpoints) = (caches.of(&kinds::services()), caches.of(&kinds::endpoints()));
    let controller = Arc::new(Controller {
        services: services.clone(),
        endpoints: endpoints.clone(),
        hands: Hands::new(caches, CONTROLLER, "Endpoints"),
        recorder: Recorder::new(caches.api().clone(), "endpoint-slice-mirroring-controller"),
    });
    let queue = manager.queue();
    manager.run("endpointslicemirroring", &queue, controller.clone(), 2);
    manager.watch_mapped(&queue, &services, |c| {
        let unselecting = |s: &Option<Arc<Value>>| s.as_ref().map(|s| !has_selector(s));
        let (was, is) = (unselecting(&c.old), unselecting(&c.new));
        let one_sided = was.or(is).filter(|_| c.old.is_none() || c.new.is_none());
        let news = one_sided.unwrap_or(was != is);
        if news { vec![c.key.clone()] } else { Vec::new() }
    });
    manager.watch_mapped(&queue, &endpoints, |c| {
        let mirrored = [&c.old, &c.new].into_iter().flatten().any(|e| is_mirrored(e));
        if mirrored { vec![c.key.clone()] } else { Vec::new() }
    });
    let slices = controller.hands.slices().clone();
    manager.watch_mapped(&queue, &slices, move |c| controller.hands.news(c));
}

/// Whether Endpoints are mirrored: their labels do not forbid it, and they are no lock of a leader election.
fn is_mirrored(endpoints: &Value) -> bool {
    let metadata = &endpoints["metadata"];
    metadata["labels"]["endpointslice.kubernetes.io/skip-mirror"].as_str() != Some("true")
        && metadata["annotations"]["control-plane.alpha.kubernetes.io/leader"].is_null()
}

impl Reconciler for Controller {
    async fn reconcile(&self, key: Key) -> Next {
        let endpoints = self.endpoints.get(&key).filter(|e| is_mirrored(e));
        let free = self.services.get(&key).is_some_and(|s| !has_selector(&s));
        let Some(endpoints) = endpoints.filter(|_| free) else {
            self.hands.written().forget(&key);
            return outcome(self.clear(&key).await);
        };
        if let Some(next) = self.hands.written().awaited(&key, self.hands.api()).await {
            return next;
        }
        let mirror = plan(&endpoints, &self.hands.made_for(&key));
        for note in &mirror.notes {
            note.tell(&self.recorder, &endpoints).await;
        }
        match self.hands.carry_out(&key, &endpoints, mirror.plan).await {
            Ok(()) => Next::Wait,
            Err(why) => {
                tracing::debug!(%key, "{why}");
                Next::Retry
            }
        }
    }
}

impl Controller {
    /// Deletes what was mirrored.
    async fn clear(&self, key: &Key) -> Result<(), ApiError> {
        for slice in self.hands.made_for(key) {
            self.hands.remove(key, &slice).await?;
        }
        Ok(())
    }
}

/// What becomes of slices, and what is told of it.
#[derive(Default)]
pub struct Mirror {
    pub plan: Plan,
    pub notes: Vec<Note>,
}

/// Addresses of one family that offer the same ports.
struct Group {
    family: Family,
    ports: Vec<Port>,
    wanted: Set,
    existing: Vec<Arc<Value>>,
}

pub fn plan(endpoints: &Value, existing: &[Arc<Value>]) -> Mirror {
    let mut out = Mirror::default();
    let (mut invalid, mut skipped) = (0, 0);
    let mut groups: Vec<Group> = Vec::new();
    for subset in repack(&Subset::read_all(&endpoints["subsets"])) {
        let mut ports = subset.ports.clone();
        sort_slice_ports(&mut ports);
        for family in [Family::V4, Family::V6] {
            if !groups.iter().any(|g| g.family == family && g.ports == ports) {
                groups.push(Group { family, ports: ports.clone(), wanted: Set::default(), existing: Vec::new() });
            }
        }
        let mut added = 0;
        let both = subset.ready.iter().map(|a| (a, true)).chain(subset.not_ready.iter().map(|a| (a, false)));
        for (address, ready) in both {
            if added >= MOST {
                break;
            }
            let Some(ip) = address["ip"].as_str().and_then(ip) else {
                invalid += 1;
                continue;
            };
            added += 1;
            if let Some(group) = groups.iter_mut().find(|g| g.family == Family::of(ip) && g.ports == ports) {
                group.wanted.add(endpoint(address, ip, ready));
            }
        }
        skipped += subset.len() - added;
    }
    if invalid > 0 {
        let message = format!("Skipped {invalid} invalid IP addresses when mirroring to EndpointSlices");
        out.notes.push(Note::warning("InvalidIPAddress", message));
    }
    if skipped > invalid {
        let message = format!(
            "A max of {MOST} addresses can be mirrored to EndpointSlices per Endpoints subset. {skipped} addresses were \
             skipped"
        );
        out.notes.push(Note::warning("TooManyAddressesToMirror", message));
    }
    for slice in existing {
        let mut ports: Vec<Port> = slice["ports"].items().iter().map(Port::read).collect();
        sort_slice_ports(&mut ports);
        let same = |g: &&mut Group| slice["addressType"].as_str() == Some(g.family.name()) && g.ports == ports;
        match groups.iter_mut().find(same) {
            Some(group) => group.existing.push(slice.clone()),
            None => out.plan.delete.push(slice.clone()),
        }
    }
    for group in groups {
        out.plan.append(mirror(endpoints, group));
    }
    reuse(&mut out.plan, |_| true);
    out
}

/// An address as the endpoint of a slice. Whether it serves or goes, Endpoints do not say.
fn endpoint(address: &Value, ip: IpAddr, ready: bool) -> Value {
    let mut m = Map::new();
    m.insert("addresses", vec![Value::from(ip.to_string())]);
    m.insert("conditions", [("ready", ready)].into_iter().collect::<Map>());
    for field in ["hostname", "targetRef", "nodeName"] {
        if !address[field].is_null() {
            m.insert(field, address[field].clone());
        }
    }
    Value::Map(m)
}

/// All addresses of a group are in one slice, which is written anew when anything about it differs.
fn mirror(endpoints: &Value, group: Group) -> Plan {
    let mut out = Plan::default();
    let Group { family, ports, mut wanted, existing } = group;
    if wanted.is_empty() {
        out.delete = existing;
        return out;
    }
    let first = existing.first();
    out.delete.extend(existing.iter().skip(1).cloned());
    let new = new(endpoints, &ports, family);
    if first.is_some_and(|old| says_the_same(old, &new, &wanted)) {
        return out;
    }
    let mut new = new;
    let mut all = Vec::new();
    while all.len() < MOST
        && let Some(endpoint) = wanted.pop()
    {
        all.push(endpoint);
    }
    if let Some(m) = new.make_map() {
        m.insert("endpoints", all);
    }
    match (first, new.make_map_at(["metadata"])) {
        (Some(old), Some(metadata)) => {
            metadata.remove("generateName");
            metadata.insert("name", old["metadata"]["name"].clone());
            out.update.push(new);
        }
        _ => out.create.push(new),
    }
    out
}

/// Whether a slice has these endpoints, and what comes from its Endpoints besides.
fn says_the_same(old: &Value, new: &Value, wanted: &Set) -> bool {
    let there = old["endpoints"].items();
    let map = |v: &Value, field: &str| v["metadata"][field].as_map().cloned().unwrap_or_default();
    let owner = |v: &Value| v["metadata"]["ownerReferences"].items().first().map(|o| o["uid"].clone());
    there.len() == wanted.len()
        && there.iter().all(|e| wanted.get(e).is_some_and(|w| alike(w, e)))
        && map(old, "labels") == map(new, "labels")
        && map(old, "annotations") == map(new, "annotations")
        && owner(old) == owner(new)
}

fn new(endpoints: &Value, ports: &[Port], family: Family) -> Value {
    let key = Key::of(endpoints);
    let of = &endpoints["metadata"];
    let mut labels = of["labels"].as_map().cloned().unwrap_or_default();
    labels.insert(SERVICE_NAME, key.name.as_str());
    labels.insert(MANAGED_BY, CONTROLLER);
    let mut annotations = of["annotations"].as_map().cloned().unwrap_or_default();
    annotations.retain(|k, _| !LEFT_OUT.contains(&k.as_str()));
    let mut metadata = Map::new();
    metadata.insert("generateName", prefix(&key.name));
    metadata.insert("namespace", key.namespace);
    metadata.insert("labels", labels);
    if !annotations.is_empty() {
        metadata.insert("annotations", annotations);
    }
    metadata.insert("ownerReferences", vec![reference_as(Some("v1"), Some("Endpoints"), endpoints)]);
    slice(metadata, ports, family)
}
