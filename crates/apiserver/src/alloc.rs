//! Cluster addresses and node ports of Services: what is taken is what Services in the store say.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use druse_object::Value;
use parking_lot::Mutex;

use crate::field::FieldError;

/// The range of cluster addresses, Talos' and kubeadm's default: `10.96.0.0/12` without its first and last address.
const NETWORK: (u32, u32) = (0x0a60_0000, 12);
/// The range of node ports.
const PORTS: std::ops::RangeInclusive<u16> = 30000..=32767;

#[derive(Debug, Default)]
struct Taken {
    addresses: BTreeSet<u32>,
    ports: BTreeSet<(u16, String)>,
    cursor: u32,
}

/// What is taken. Filled from the store at start, kept by creates, updates and deletes.
#[derive(Debug, Default)]
pub struct Allocators(Mutex<Taken>);

/// What a type of Service has.
struct Needs {
    address: bool,
    node_ports: bool,
    health_port: bool,
}

impl Needs {
    fn of(service: &Value) -> Self {
        let spec = &service["spec"];
        let kind = spec.str_at(["type"]).unwrap_or("ClusterIP");
        let allocates = spec.get("allocateLoadBalancerNodePorts").and_then(Value::as_bool) != Some(false);
        Self {
            address: kind != "ExternalName",
            node_ports: kind == "NodePort" || kind == "LoadBalancer" && allocates,
            health_port: kind == "LoadBalancer" && spec.str_at(["externalTrafficPolicy"]) == Some("Local"),
        }
    }
}

fn node_port(port: &Value) -> i64 {
    port["nodePort"].as_i64().unwrap_or(0)
}

/// Who says one cluster address only means the list too.
pub fn list_address(service: &mut Value) {
    let Some(spec) = service.make_map_at(["spec"]) else { return };
    let one = spec.get("clusterIP").and_then(Value::as_str).filter(|ip| !ip.is_empty()).map(Value::from);
    if let Some(one) = one
        && spec.get("clusterIPs").is_none_or(|l| l.items().is_empty())
    {
        spec.insert("clusterIPs", Value::Array(vec![one]));
    }
}

/// Completes a changed Service from its old state: what was allotted and is not said stays, what its new type does not
/// have goes, unless it was changed too, which is for validation to refuse.
pub fn keep(old: &Value, new: &mut Value) {
    let (had, has) = (Needs::of(old), Needs::of(new));
    let was = |key: &str| old["spec"].get(key).filter(|v| !v.is_null()).cloned();
    let same = |spec: &druse_object::Map, key: &str| spec.get(key).filter(|v| !v.is_null()).cloned() == was(key);
    let said = |spec: &druse_object::Map, key: &str| {
        spec.get(key).is_some_and(|v| !v.is_null() && v.as_str() != Some("") && v.as_i64() != Some(0))
    };
    let Some(spec) = new.make_map_at(["spec"]) else { return };
    // Who says or clears one address only means the list too.
    if same(spec, "clusterIPs") && !same(spec, "clusterIP") {
        match spec.get("clusterIP").filter(|ip| ip.as_str().is_some_and(|t| !t.is_empty())).cloned() {
            Some(ip) => spec.insert("clusterIPs", Value::Array(vec![ip])),
            None => spec.remove("clusterIPs"),
        };
    }
    if had.address && has.address {
        if !said(spec, "clusterIP")
            && let Some(ip) = was("clusterIP")
        {
            spec.insert("clusterIP", ip);
        }
        for key in ["ipFamilies", "ipFamilyPolicy"] {
            if !said(spec, key)
                && let Some(v) = was(key)
            {
                spec.insert(key, v);
            }
        }
        let listed = spec.get("clusterIPs").is_some_and(|l| !l.items().is_empty());
        if let Some(ips) = was("clusterIPs").filter(|_| !listed && same(spec, "clusterIP")) {
            spec.insert("clusterIPs", ips);
        }
    } else if had.address && same(spec, "clusterIP") && same(spec, "clusterIPs") {
        spec.remove("clusterIP");
        spec.remove("clusterIPs");
    }
    let old_ports = old["spec"]["ports"].items();
    if let Some(ports) = spec.get_mut("ports").and_then(Value::as_array_mut) {
        let numbers = |ports: &[Value]| ports.iter().map(node_port).filter(|p| *p > 0).collect::<Vec<_>>();
        let mut used = numbers(ports);
        // Ports may come and go as long as none brings a number of its own.
        let before = numbers(old_ports);
        let unchanged = used.iter().all(|p| before.contains(p));
        for port in ports.iter_mut() {
            if had.node_ports && has.node_ports && node_port(port) == 0 {
                let before =
                    old_ports.iter().find(|p| p["name"].as_str() == port["name"].as_str()).map_or(0, node_port);
                if before > 0
                    && !used.contains(&before)
                    && let Some(m) = port.as_map_mut()
                {
                    m.insert("nodePort", before);
                    used.push(before);
                }
            } else if had.node_ports
                && !has.node_ports
                && unchanged
                && let Some(m) = port.as_map_mut()
            {
                m.remove("nodePort");
            }
        }
    }
    if had.health_port && has.health_port && !said(spec, "healthCheckNodePort") {
        if let Some(port) = was("healthCheckNodePort") {
            spec.insert("healthCheckNodePort", port);
        }
    } else if had.health_port && !has.health_port && same(spec, "healthCheckNodePort") {
        spec.remove("healthCheckNodePort");
    }
    let old_kind = old.str_at(["spec", "type"]).unwrap_or("ClusterIP").to_owned();
    let kind = spec.get("type").and_then(Value::as_str).unwrap_or("ClusterIP").to_owned();
    let external = |ips: Option<&Value>| ips.is_some_and(|l| !l.items().is_empty());
    let outside = |kind: &str, ips: Option<&Value>| {
        matches!(kind, "NodePort" | "LoadBalancer") || kind == "ClusterIP" && external(ips)
    };
    for (key, had, has) in [
        ("allocateLoadBalancerNodePorts", old_kind == "LoadBalancer", kind == "LoadBalancer"),
        ("loadBalancerClass", old_kind == "LoadBalancer", kind == "LoadBalancer"),
        (
            "externalTrafficPolicy",
            outside(&old_kind, old.at(["spec", "externalIPs"])),
            outside(&kind, spec.get("externalIPs")),
        ),
        ("internalTrafficPolicy", old_kind != "ExternalName", kind != "ExternalName"),
    ] {
        if had && !has && same(spec, key) {
            spec.remove(key);
        }
    }
}

fn protocol(port: &Value) -> String {
    port["protocol"].as_str().unwrap_or("TCP").to_owned()
}

/// What a Service holds.
fn held(service: &Value) -> (Vec<u32>, Vec<(u16, String)>) {
    let spec = &service["spec"];
    let addresses = spec["clusterIPs"]
        .items()
        .iter()
        .chain(std::iter::once(&spec["clusterIP"]))
        .filter_map(|v| v.as_str()?.parse::<Ipv4Addr>().ok())
        .map(u32::from)
        .collect();
    let node_ports = spec["ports"].items().iter().map(|p| (&p["nodePort"], protocol(p)));
    let health = std::iter::once((&spec["healthCheckNodePort"], "TCP".to_owned()));
    let ports = node_ports
        .chain(health)
        .filter_map(|(p, proto)| Some((u16::try_from(p.as_i64()?).ok().filter(|p| *p > 0)?, proto)))
        .collect();
    (addresses, ports)
}

impl Allocators {
    /// Takes what a stored Service holds.
    pub fn learn(&self, service: &Value) {
        let (addresses, ports) = held(service);
        let mut t = self.0.lock();
        t.addresses.extend(addresses);
        t.ports.extend(ports);
    }

    /// Gives back what a Service held and its new state (if any) does not.
    pub fn release(&self, old: &Value, new: Option<&Value>) {
        let (addresses, ports) = held(old);
        let (kept_addresses, kept_ports) = new.map(held).unwrap_or_default();
        let mut t = self.0.lock();
        for a in addresses.iter().filter(|a| !kept_addresses.contains(a)) {
            t.addresses.remove(a);
        }
        for p in ports.iter().filter(|p| !kept_ports.contains(p)) {
            t.ports.remove(p);
        }
    }

    /// Fills in what a new or changed Service needs and takes what it asks for. On an error nothing stays taken. For a
    /// `dry` run nothing is taken, and what is asked for may be taken already, as upstream.
    ///
    /// # Errors
    /// When an address or port is taken, outside the range, or none is left.
    pub fn allocate(&self, service: &mut Value, old: Option<&Value>, dry: bool) -> Result<(), FieldError> {
        let kind = service.str_at(["spec", "type"]).unwrap_or("ClusterIP").to_owned();
        let (had_addresses, had_ports) = old.map(held).unwrap_or_default();
        let mut t = self.0.lock();
        let mut new_addresses = Vec::new();
        let mut new_ports: Vec<(u16, String)> = Vec::new();
        let Some(spec) = service.make_map_at(["spec"]) else { return Ok(()) };
        if kind == "ExternalName" {
            return Ok(());
        }
        let asked = spec.get("clusterIP").and_then(Value::as_str).unwrap_or_default().to_owned();
        if asked.is_empty() {
            let free = t.free_address().ok_or_else(|| {
                FieldError::new(
                    crate::field::FieldErrorKind::Internal,
                    "spec.clusterIPs",
                    None,
                    "failed to allocate a serviceIP: range is full",
                )
            })?;
            let text = Ipv4Addr::from(free).to_string();
            spec.insert("clusterIP", text.as_str());
            spec.insert("clusterIPs", Value::Array(vec![text.into()]));
            new_addresses.push(free);
        } else if let Ok(ip) = asked.parse::<Ipv4Addr>() {
            let ip = u32::from(ip);
            if !had_addresses.contains(&ip) {
                let why = if !inside(ip) {
                    Some(format!(
                        "the provided IP ({asked}) is not in the valid range. The range of valid IPs is 10.96.0.0/{}",
                        NETWORK.1
                    ))
                } else if t.addresses.contains(&ip) && !dry {
                    Some("provided IP is already allocated".to_owned())
                } else {
                    None
                };
                if let Some(why) = why {
                    let list = Value::Array(vec![asked.as_str().into()]);
                    let detail = format!("failed to allocate IP {asked}: {why}");
                    return Err(FieldError::invalid("spec.clusterIPs", list, detail));
                }
                new_addresses.push(ip);
            }
            if spec.get("clusterIPs").is_none_or(|v| v.items().is_empty()) {
                spec.insert("clusterIPs", Value::Array(vec![asked.into()]));
            }
        } else if asked == "None" {
            spec.insert("clusterIPs", Value::Array(vec!["None".into()]));
        }
        let wants_ports = kind == "NodePort"
            || kind == "LoadBalancer"
                && spec.get("allocateLoadBalancerNodePorts").and_then(Value::as_bool) != Some(false);
        if matches!(kind.as_str(), "NodePort" | "LoadBalancer")
            && let Some(ports) = spec.get_mut("ports").and_then(Value::as_array_mut)
        {
            for (i, port) in ports.iter_mut().enumerate() {
                let proto = protocol(port);
                let asked = port["nodePort"].as_i64().and_then(|p| u16::try_from(p).ok()).filter(|p| *p > 0);
                let chosen = match asked {
                    Some(p) => {
                        let pair = (p, proto.clone());
                        let field = format!("spec.ports[{i}].nodePort");
                        if !PORTS.contains(&p) && !dry {
                            return Err(FieldError::invalid(
                                field,
                                i64::from(p),
                                "provided port is not in the valid range. The range of valid ports is 30000-32767",
                            ));
                        }
                        if t.ports.contains(&pair) && !had_ports.contains(&pair) && !dry {
                            return Err(FieldError::invalid(field, i64::from(p), "provided port is already allocated"));
                        }
                        pair
                    }
                    None if wants_ports => {
                        let free = PORTS.clone().find(|p| {
                            let pair = (*p, proto.clone());
                            !t.ports.contains(&pair) && !new_ports.contains(&pair)
                        });
                        let Some(p) = free else {
                            return Err(FieldError::new(
                                crate::field::FieldErrorKind::Internal,
                                format!("spec.ports[{i}].nodePort"),
                                None,
                                "failed to allocate a nodePort: range is full",
                            ));
                        };
                        (p, proto)
                    }
                    None => continue,
                };
                if let Some(m) = port.as_map_mut() {
                    m.insert("nodePort", i64::from(chosen.0));
                }
                new_ports.push(chosen);
            }
        }
        if !dry {
            t.addresses.extend(new_addresses);
            t.ports.extend(new_ports);
        }
        Ok(())
    }
}

fn inside(ip: u32) -> bool {
    let (base, bits) = NETWORK;
    let last = base | ((1u32 << (32 - bits)) - 1);
    ip > base && ip < last
}

impl Taken {
    fn free_address(&mut self) -> Option<u32> {
        let (base, bits) = NETWORK;
        let count = (1u32 << (32 - bits)) - 2;
        // Low addresses are left for those who choose one.
        let (reserved, start) = (256, self.cursor);
        for i in 0..count {
            let offset = (start + i) % count;
            let ip = base + 1 + (reserved + offset) % count;
            if !self.addresses.contains(&ip) {
                self.cursor = (offset + 1) % count;
                return Some(ip);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use druse_object::json;

    #[test]
    fn a_replaced_service_keeps_what_it_was_given_and_a_new_type_drops_what_it_has_not() {
        let service = |t: &str| json::parse(format!(r#"{{"spec":{t}}}"#).as_bytes()).unwrap();
        let old = service(
            r#"{"type":"NodePort","clusterIP":"10.96.1.1","clusterIPs":["10.96.1.1"],"externalTrafficPolicy":"Cluster",
            "ports":[{"name":"a","port":80,"nodePort":30001},{"name":"b","port":81,"nodePort":30002}]}"#,
        );
        let kept = |t: &str| {
            let mut new = service(t);
            keep(&old, &mut new);
            json::to_string(&new["spec"])
        };
        assert_eq!(
            kept(r#"{"type":"NodePort","ports":[{"name":"b","port":9},{"name":"c","port":8}]}"#),
            r#"{"type":"NodePort","ports":[{"name":"b","port":9,"nodePort":30002},{"name":"c","port":8}],"clusterIP":"10.96.1.1","clusterIPs":["10.96.1.1"]}"#
        );
        let mut plain = old.clone();
        plain.make_map_at(["spec"]).unwrap().insert("type", "ClusterIP");
        keep(&old, &mut plain);
        assert_eq!(
            json::to_string(&plain["spec"]),
            r#"{"type":"ClusterIP","clusterIP":"10.96.1.1","clusterIPs":["10.96.1.1"],"ports":[{"name":"a","port":80},{"name":"b","port":81}]}"#
        );
        plain.make_map_at(["spec"]).unwrap().insert("type", "ExternalName");
        keep(&old, &mut plain);
        assert!(plain["spec"].get("clusterIP").is_none() && plain["spec"].get("clusterIPs").is_none());
    }

    #[test]
    fn addresses_and_ports_are_given_once_and_given_back() {
        let a = Allocators::default();
        let mut one = json::parse(br#"{"spec":{"type":"NodePort","ports":[{"port":80},{"port":81}]}}"#).unwrap();
        a.allocate(&mut one, None, false).unwrap();
        let mut two = one.clone();
        assert!(a.allocate(&mut two, None, false).unwrap_err().to_string().contains("already allocated"));
        assert_ne!(one["spec"]["ports"].items()[0], one["spec"]["ports"].items()[1]);
        a.allocate(&mut one.clone(), Some(&one), false).unwrap();
        a.release(&one, None);
        a.allocate(&mut two, None, false).unwrap();
        let mut headless = json::parse(br#"{"spec":{"clusterIP":"None"}}"#).unwrap();
        a.allocate(&mut headless, None, false).unwrap();
        assert_eq!(headless["spec"]["clusterIPs"], Value::Array(vec!["None".into()]));
    }
}
