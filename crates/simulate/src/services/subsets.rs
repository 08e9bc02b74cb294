//! Subsets of Endpoints: addresses that offer the same ports, packed the way upstream packs them
//! (`pkg/api/v1/endpoints`, `RepackSubsets`).

use std::collections::{BTreeMap, HashMap};

use druse_object::{Map, Value};

use super::hash;
use super::port::Port;

/// Addresses, ready and not, that offer the same ports.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Subset {
    pub ready: Vec<Value>,
    pub not_ready: Vec<Value>,
    pub ports: Vec<Port>,
}

impl Subset {
    /// The subsets of an Endpoints object, as they are written.
    pub fn read_all(subsets: &Value) -> Vec<Self> {
        let read = |s: &Value| Self {
            ready: s["addresses"].items().iter().map(plain).collect(),
            not_ready: s["notReadyAddresses"].items().iter().map(plain).collect(),
            ports: s["ports"].items().iter().map(Port::read).map(named).collect(),
        };
        subsets.items().iter().map(read).collect()
    }

    /// As it is written.
    pub fn written(&self) -> Value {
        let mut m = Map::new();
        for (field, addresses) in [("addresses", &self.ready), ("notReadyAddresses", &self.not_ready)] {
            if !addresses.is_empty() {
                m.insert(field, addresses.clone());
            }
        }
        if !self.ports.is_empty() {
            m.insert("ports", self.ports.iter().map(Port::of_subset).collect::<Value>());
        }
        Value::Map(m)
    }

    /// How many addresses it has.
    pub fn len(&self) -> usize {
        self.ready.len() + self.not_ready.len()
    }
}

/// An address without what changes with each write of its pod.
fn plain(address: &Value) -> Value {
    let mut address = address.clone();
    if let Some(target) = address.get_mut("targetRef").and_then(Value::as_map_mut) {
        target.remove("resourceVersion");
    }
    address
}

/// A port of Endpoints always has a name, be it empty.
fn named(mut port: Port) -> Port {
    port.name.get_or_insert_default();
    port
}

/// Which of all addresses, and whether each is ready.
type Offering = BTreeMap<usize, bool>;

/// Packs subsets: each address once for all the ports it offers, each set of ports once for all that offer them.
pub fn repack(subsets: &[Subset]) -> Vec<Subset> {
    let mut all: Vec<&Value> = Vec::new();
    let mut known: HashMap<(&str, &str), usize> = HashMap::new();
    // Where no port is declared, the addresses are kept by themselves.
    let mut by_port: Vec<(Option<&Port>, Offering)> = Vec::new();
    let mut places: HashMap<Option<&Port>, usize> = HashMap::new();
    for subset in subsets {
        let ports: Vec<Option<&Port>> =
            if subset.ports.is_empty() { vec![None] } else { subset.ports.iter().map(Some).collect() };
        for port in ports {
            let place = *places.entry(port).or_insert_with(|| {
                by_port.push((port, Offering::new()));
                by_port.len() - 1
            });
            let both = subset.ready.iter().map(|a| (a, true)).chain(subset.not_ready.iter().map(|a| (a, false)));
            for (address, ready) in both {
                let key = identity(address);
                let one = *known.entry(key).or_insert_with(|| {
                    all.push(address);
                    all.len() - 1
                });
                // Not ready wins.
                by_port[place].1.entry(one).and_modify(|was| *was &= ready).or_insert(ready);
            }
        }
    }
    let mut groups: Vec<(Offering, Vec<Port>)> = Vec::new();
    let mut found: HashMap<Vec<(usize, bool)>, usize> = HashMap::new();
    for (port, offering) in by_port.into_iter().filter(|(_, o)| !o.is_empty()) {
        let key: Vec<(usize, bool)> = offering.iter().map(|(a, r)| (*a, *r)).collect();
        let place = *found.entry(key).or_insert_with(|| {
            groups.push((offering, Vec::new()));
            groups.len() - 1
        });
        groups[place].1.extend(port.cloned());
    }
    let mut out: Vec<Subset> = groups
        .into_iter()
        .map(|(offering, mut ports)| {
            let of = |wanted: bool| {
                let chosen = offering.iter().filter(|(_, ready)| **ready == wanted);
                let mut out: Vec<Value> = chosen.map(|(a, _)| all[*a].clone()).collect();
                out.sort_by_cached_key(order);
                out
            };
            hash::sort_subset_ports(&mut ports);
            Subset { ready: of(true), not_ready: of(false), ports }
        })
        .collect();
    hash::sort_subsets(&mut out);
    out
}

/// What makes an address one: two pods may share an IP, that of their node.
fn identity(address: &Value) -> (&str, &str) {
    (address["ip"].as_str().unwrap_or_default(), address.str_at(["targetRef", "uid"]).unwrap_or_default())
}

/// Addresses are listed by the text of their IP (10.0.0.10 comes before 10.0.0.2) and then by what they lead to.
fn order(address: &Value) -> (String, Option<String>) {
    let (ip, uid) = identity(address);
    (ip.to_owned(), (!address["targetRef"].is_null()).then(|| uid.to_owned()))
}
