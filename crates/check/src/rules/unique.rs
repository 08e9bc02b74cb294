//! DR084: what only one can have: node ports, ports of nodes, addresses of load balancers, and the path of a host.

use std::collections::BTreeMap;

use druse_object::Value;

use crate::context::Context;
use crate::finding::Finding;
use crate::finding::Severity;
use crate::index::{Entry, Origin};
use crate::pods;
use crate::position::Step;

/// Annotations that ask for addresses, and those that let Services with the same value share them.
const ADDRESSES: &[(&str, &str)] = &[
    ("lbipam.cilium.io/ips", "lbipam.cilium.io/sharing-key"),
    ("io.cilium/lb-ipam-ips", "io.cilium/lb-ipam-sharing-key"),
    ("metallb.io/loadBalancerIPs", "metallb.io/allow-shared-ip"),
    ("metallb.universe.tf/loadBalancerIPs", "metallb.universe.tf/allow-shared-ip"),
    ("kube-vip.io/loadbalancerIPs", ""),
];

/// Who asks for something, and where.
struct Claim<'s, 'a> {
    entry: &'s Entry<'a>,
    path: Vec<Step>,
    /// What it says in values of charts.
    text: String,
    /// Ports that it is for, or a key that lets others share it: with something in common here, or without anything,
    /// two claims cannot both be met.
    ports: Vec<String>,
    share: String,
}

type Claims<'s, 'a> = BTreeMap<(&'static str, String), Vec<Claim<'s, 'a>>>;

pub(super) fn check(cx: &Context<'_>, out: &mut Vec<Finding>) {
    let mut claims: Claims<'_, '_> = BTreeMap::new();
    for entry in cx.own().filter(|e| !e.hook) {
        match (entry.gvk.group.as_str(), entry.gvk.kind.as_str()) {
            ("", "Service") => service(entry, &mut claims),
            ("networking.k8s.io", "Ingress") => ingress(entry, &mut claims),
            (super::gateway::GROUP, "HTTPRoute") => route(entry, &mut claims),
            (super::gateway::GROUP, "Gateway") => gateway(entry, &mut claims),
            _ => host_ports(entry, &mut claims),
        }
    }
    for ((what, value), all) in &claims {
        for (i, claim) in all.iter().enumerate() {
            // One object in two units is another fault.
            let other = all
                .iter()
                .enumerate()
                .find(|(j, o)| *j != i && o.entry.object.key() != claim.entry.object.key() && conflict(what, claim, o));
            let Some((_, other)) = other else { continue };
            if claim.entry.origin == Origin::Chart && cx.in_values(claim.entry.unit, &[&claim.text]).is_none() {
                continue;
            }
            let message = format!("{what} {value} of {} is also that of {}", claim.entry.key(), other.entry.key());
            let finding = cx.at(claim.entry, &claim.path, &[&claim.text], "DR084", message);
            // The API refuses a node port that is taken; the rest only does not work as it should.
            out.push(if *what == "node port" { finding } else { finding.severity(Severity::Warning) });
        }
    }
}

fn conflict(what: &str, a: &Claim<'_, '_>, b: &Claim<'_, '_>) -> bool {
    if what != "address" {
        return true;
    }
    let same_port = a.ports.iter().any(|p| b.ports.contains(p));
    same_port || a.share != b.share || a.share.is_empty()
}

fn service<'s, 'a>(entry: &'s Entry<'a>, claims: &mut Claims<'s, 'a>) {
    let spec = &entry.object.value["spec"];
    let mut ports = Vec::new();
    for (i, port) in spec["ports"].items().iter().enumerate() {
        let protocol = port.str_at(["protocol"]).unwrap_or("TCP");
        ports.extend(port["port"].as_i64().map(|n| format!("{n}/{protocol}")));
        let Some(number) = port["nodePort"].as_i64().filter(|n| *n > 0) else { continue };
        let path = vec![Step::from("spec"), Step::from("ports"), Step::Index(i), Step::from("nodePort")];
        let claim = Claim { entry, path, text: number.to_string(), ports: Vec::new(), share: String::new() };
        claims.entry(("node port", format!("{number}/{protocol}"))).or_default().push(claim);
    }
    if spec.str_at(["type"]) != Some("LoadBalancer") {
        return;
    }
    let asked = addresses(entry, &["metadata", "annotations"], &ports, claims);
    if let Some(address) = spec.str_at(["loadBalancerIP"]).filter(|_| !asked) {
        let share = shared(&entry.object.value["metadata"]["annotations"]).to_string();
        let path = ["spec", "loadBalancerIP"].map(Step::from).to_vec();
        let claim = Claim { entry, path, text: address.into(), ports, share };
        claims.entry(("address", address.to_string())).or_default().push(claim);
    }
}

/// Ports of the nodes that pods take. Those that only some nodes can run may be apart.
fn host_ports<'s, 'a>(entry: &'s Entry<'a>, claims: &mut Claims<'s, 'a>) {
    let Some(pod) =
        pods::of(entry).filter(|p| matches!(p.entry.gvk.kind.as_str(), "Deployment" | "DaemonSet" | "StatefulSet"))
    else {
        return;
    };
    let placed = ["nodeSelector", "affinity", "nodeName"].iter().any(|k| !pod.spec[*k].is_null());
    for (at, container) in pod.containers().into_iter().filter(|_| !placed) {
        for (i, port) in container["ports"].items().iter().enumerate() {
            let Some(number) = port["hostPort"].as_i64().filter(|n| *n > 0) else { continue };
            let protocol = port.str_at(["protocol"]).unwrap_or("TCP");
            let ip = port.str_at(["hostIP"]).map(|ip| format!("{ip}:")).unwrap_or_default();
            let path =
                at.iter().cloned().chain([Step::from("ports"), Step::Index(i), Step::from("hostPort")]).collect();
            let claim = Claim { entry, path, text: number.to_string(), ports: Vec::new(), share: String::new() };
            claims.entry(("host port", format!("{ip}{number}/{protocol}"))).or_default().push(claim);
        }
    }
}

/// The key that lets Services with the same one share an address.
fn shared(annotations: &Value) -> &str {
    let keys = ADDRESSES.iter().map(|(_, key)| annotations.get(key).and_then(Value::as_str).unwrap_or_default());
    keys.into_iter().find(|k| !k.is_empty()).unwrap_or_default()
}

/// What annotations at a path ask for; says whether they ask for anything.
fn addresses<'s, 'a>(entry: &'s Entry<'a>, at: &[&str], ports: &[String], claims: &mut Claims<'s, 'a>) -> bool {
    let annotations = at.iter().fold(&entry.object.value, |v, key| &v[*key]);
    let share = shared(annotations);
    let mut asked = false;
    for (key, sharing) in ADDRESSES {
        let text = annotations.get(key).and_then(Value::as_str).unwrap_or_default();
        asked |= !text.is_empty();
        // kube-vip lets all share an address as long as their ports differ.
        let share = if sharing.is_empty() { "any" } else { share };
        for address in text.split(',').map(str::trim).filter(|a| !a.is_empty() && !a.contains("${")) {
            let path = at.iter().chain([key]).map(|k| Step::from(*k)).collect();
            let claim = Claim { entry, path, text: text.into(), ports: ports.to_vec(), share: share.into() };
            claims.entry(("address", address.to_string())).or_default().push(claim);
        }
    }
    asked
}

/// The Service that is made for a Gateway gets the annotations of its infrastructure.
fn gateway<'s, 'a>(entry: &'s Entry<'a>, claims: &mut Claims<'s, 'a>) {
    let listeners = entry.object.value["spec"]["listeners"].items();
    let ports: Vec<String> = listeners.iter().filter_map(|l| l["port"].as_i64()).map(|n| format!("{n}/TCP")).collect();
    addresses(entry, &["spec", "infrastructure", "annotations"], &ports, claims);
}

fn ingress<'s, 'a>(entry: &'s Entry<'a>, claims: &mut Claims<'s, 'a>) {
    let spec = &entry.object.value["spec"];
    let annotations = &entry.object.value["metadata"]["annotations"];
    let canary = annotations.as_map().into_iter().flat_map(|m| m.iter());
    if canary.into_iter().any(|(k, v)| k.ends_with("/canary") && v.as_str() == Some("true")) {
        return;
    }
    let class = spec.str_at(["ingressClassName"]).or(annotations.str_at(["kubernetes.io/ingress.class"]));
    for (i, rule) in spec["rules"].items().iter().enumerate() {
        let Some(host) = rule.str_at(["host"]).filter(|h| !h.contains("${")) else { continue };
        for (j, path) in rule["http"]["paths"].items().iter().enumerate() {
            let kind = path.str_at(["pathType"]).unwrap_or_default();
            let text = path.str_at(["path"]).unwrap_or("/");
            let at = [Step::from("spec"), Step::from("rules"), Step::Index(i), Step::from("http")];
            let at = at.into_iter().chain([Step::from("paths"), Step::Index(j), Step::from("path")]).collect();
            let claim = Claim { entry, path: at, text: host.into(), ports: Vec::new(), share: String::new() };
            let shown = format!("{host}{text} ({kind}, class {})", class.unwrap_or("by default"));
            claims.entry(("path", shown)).or_default().push(claim);
        }
    }
}

fn route<'s, 'a>(entry: &'s Entry<'a>, claims: &mut Claims<'s, 'a>) {
    let spec = &entry.object.value["spec"];
    for parent in spec["parentRefs"].items() {
        let namespace = parent.str_at(["namespace"]).unwrap_or(entry.object.namespace());
        let (name, section) = (parent.str_at(["name"]).unwrap_or_default(), parent.str_at(["sectionName"]));
        for host in spec["hostnames"].items().iter().filter_map(Value::as_str).filter(|h| !h.contains("${")) {
            for (i, rule) in spec["rules"].items().iter().enumerate() {
                let none = [Value::Null];
                let matches = if rule["matches"].items().is_empty() { &none[..] } else { rule["matches"].items() };
                for m in matches {
                    // Headers, methods and parameters tell requests for one path apart.
                    if m.as_map().is_some_and(|m| m.keys().any(|k| k.as_str() != "path")) {
                        continue;
                    }
                    let kind = m.at(["path", "type"]).and_then(Value::as_str).unwrap_or("PathPrefix");
                    let path = m.at(["path", "value"]).and_then(Value::as_str).unwrap_or("/");
                    let gateway = format!("{namespace}/{name}{}", section.map(|s| format!(" {s}")).unwrap_or_default());
                    let at = vec![Step::from("spec"), Step::from("rules"), Step::Index(i)];
                    let claim = Claim { entry, path: at, text: host.into(), ports: Vec::new(), share: String::new() };
                    claims
                        .entry(("path", format!("{host}{path} ({kind}, Gateway {gateway})")))
                        .or_default()
                        .push(claim);
                }
            }
        }
    }
}
