//! Network policies, endpoints and their slices, ingresses and their classes, ranges of Service addresses
//! (`pkg/apis/networking/validation`, `pkg/apis/discovery/validation`).

use std::collections::HashSet;
use std::net::IpAddr;

use druse_object::{Map, Value};

use super::at::{At, Errors, each, text};
use super::ip::{self, Cidr};
use super::meta::{immutable, label_selector, labels, path_segment_field, subdomain_field};
use super::names::{
    NameRule, is_dns1123_label, is_dns1123_subdomain, is_qualified_name, label_value_errors, port_name_errors,
};
use super::pod::port_number;
use crate::field::{FieldError, FieldErrorKind};

const PROTOCOLS: [&str; 3] = ["SCTP", "TCP", "UDP"];
const MAX_ENDPOINTS: usize = 1000;
const MAX_ADDRESSES: usize = 100;
const MAX_TOPOLOGY: usize = 16;
const MAX_HINTS: usize = 8;

fn too_many(path: &str, have: usize, most: usize) -> FieldError {
    let detail = format!("must have at most {most} items");
    FieldError::new(FieldErrorKind::TooMany, path, Some(Value::from(have as i64)), detail)
}

/// Network policies.
pub(super) fn policy(new: &Value, old: Option<&Value>, out: &mut Errors) {
    let spec = &new["spec"];
    label_selector(&spec["podSelector"], "spec.podSelector", out);
    let known = old.map(ranges).unwrap_or_default();
    for (direction, side) in [("ingress", "from"), ("egress", "to")] {
        for (i, rule) in spec[direction].items().iter().enumerate() {
            let path = format!("spec.{direction}[{i}]");
            for (j, port) in rule["ports"].items().iter().enumerate() {
                policy_port(port, &format!("{path}.ports[{j}]"), out);
            }
            for (j, peer) in rule[side].items().iter().enumerate() {
                policy_peer(peer, &format!("{path}.{side}[{j}]"), &known, out);
            }
        }
    }
    let types = spec["policyTypes"].items();
    if types.len() > 2 {
        let why = "may not specify more than two policyTypes";
        out.push(FieldError::invalid("spec.policyTypes", spec["policyTypes"].clone(), why));
        return;
    }
    for (i, t) in types.iter().filter_map(Value::as_str).enumerate() {
        if !["Ingress", "Egress"].contains(&t) {
            out.push(FieldError::not_supported(format!("spec.policyTypes[{i}]"), t, &["Ingress", "Egress"]));
        }
    }
}

/// The ranges a policy names: what was let in once is not judged again.
fn ranges(policy: &Value) -> HashSet<&str> {
    let mut out = HashSet::new();
    for (direction, side) in [("ingress", "from"), ("egress", "to")] {
        for rule in policy["spec"][direction].items() {
            for block in rule[side].items().iter().map(|p| &p["ipBlock"]) {
                out.extend(block["cidr"].as_str());
                out.extend(block["except"].items().iter().filter_map(Value::as_str));
            }
        }
    }
    out
}

fn policy_port(port: &Value, path: &str, out: &mut Errors) {
    if let Some(p) = port["protocol"].as_str().filter(|p| !PROTOCOLS.contains(p)) {
        out.push(FieldError::not_supported(format!("{path}.protocol"), p, &["TCP", "UDP", "SCTP"]));
    }
    let end = port["endPort"].as_i64();
    let end_path = format!("{path}.endPort");
    match (&port["port"], end) {
        (Value::Null, Some(end)) => {
            out.push(FieldError::invalid(end_path, end, "may not be specified when `port` is not specified"));
        }
        (Value::Null, None) => {}
        (Value::String(name), end) => {
            if let Some(end) = end {
                out.push(FieldError::invalid(end_path, end, "may not be specified when `port` is non-numeric"));
            }
            each(port_name_errors(name), &format!("{path}.port"), name, out);
        }
        (number, end) => {
            port_number(Some(number), &format!("{path}.port"), out);
            let Some(end) = end else { return };
            let from = number.as_i64().unwrap_or(0);
            if end < from {
                out.push(FieldError::invalid(end_path.as_str(), from, "must be greater than or equal to `port`"));
            }
            port_number(Some(&Value::from(end)), &end_path, out);
        }
    }
}

fn policy_peer(peer: &Value, path: &str, known: &HashSet<&str>, out: &mut Errors) {
    let mut peers = 0;
    for key in ["podSelector", "namespaceSelector"] {
        if !peer[key].is_null() {
            peers += 1;
            label_selector(&peer[key], &format!("{path}.{key}"), out);
        }
    }
    let block = &peer["ipBlock"];
    if !block.is_null() {
        peers += 1;
        ip_block(block, &format!("{path}.ipBlock"), known, out);
    }
    if peers == 0 {
        out.push(FieldError::required(path, "must specify a peer"));
    } else if peers > 1 && !block.is_null() {
        out.push(FieldError::forbidden(path, "may not specify both ipBlock and another peer"));
    }
}

fn ip_block(block: &Value, path: &str, known: &HashSet<&str>, out: &mut Errors) {
    let judged = |text: &str, path: &str, out: &mut Errors| {
        let mut said = Vec::new();
        let cidr = Cidr::legacy(text, path, &mut said);
        if !known.contains(text) {
            out.append(&mut said);
        }
        cidr
    };
    let all = text(block, "cidr");
    if all.is_empty() {
        out.push(FieldError::required(format!("{path}.cidr"), ""));
        return;
    }
    let Some(all) = judged(all, &format!("{path}.cidr"), out) else { return };
    for (i, except) in block["except"].items().iter().filter_map(Value::as_str).enumerate() {
        let path = format!("{path}.except[{i}]");
        if judged(except, &path, out).is_some_and(|e| !all.strictly_holds(e)) {
            out.push(FieldError::invalid(path, except, "must be a strict subset of `cidr`"));
        }
    }
}

/// Endpoints.
pub(super) fn endpoints(new: &Value, old: Option<&Value>, out: &mut Errors) {
    if old.is_some_and(|old| old["subsets"] == new["subsets"]) {
        return;
    }
    // Unlike upstream: this server itself may listen on the loopback address.
    let own = ["default", "kubernetes"] == ["namespace", "name"].map(|k| text(&new["metadata"], k));
    for (i, subset) in new["subsets"].items().iter().enumerate() {
        let path = format!("subsets[{i}]");
        if ["addresses", "notReadyAddresses"].iter().all(|k| subset[*k].items().is_empty()) {
            out.push(FieldError::required(path.as_str(), "must specify `addresses` or `notReadyAddresses`"));
        }
        for key in ["addresses", "notReadyAddresses"] {
            for (j, a) in subset[key].items().iter().enumerate() {
                endpoint_address(a, own, &format!("{path}.{key}[{j}]"), out);
            }
        }
        let ports = subset["ports"].items();
        for (j, port) in ports.iter().enumerate() {
            endpoint_port(port, ports.len() > 1, &format!("{path}.ports[{j}]"), out);
        }
    }
}

fn endpoint_address(a: &Value, loopback: bool, path: &str, out: &mut Errors) {
    let address = text(a, "ip");
    ip::legacy(address, &format!("{path}.ip"), out);
    let host = text(a, "hostname");
    if !host.is_empty() {
        each(is_dns1123_label(host), &format!("{path}.hostname"), host, out);
    }
    if let Some(node) = a["nodeName"].as_str() {
        each(is_dns1123_subdomain(node), &format!("{path}.nodeName"), node, out);
    }
    if !loopback {
        ip::endpoint(address, &format!("{path}.ip"), out);
    }
}

fn endpoint_port(port: &Value, named: bool, path: &str, out: &mut Errors) {
    let name = text(port, "name");
    if !name.is_empty() {
        each(is_dns1123_label(name), &format!("{path}.name"), name, out);
    } else if named {
        out.push(FieldError::required(format!("{path}.name"), ""));
    }
    port_number(port.get("port"), &format!("{path}.port"), out);
    protocol(port, path, out);
}

/// The protocol and the application protocol of an endpoint's port.
fn protocol(port: &Value, path: &str, out: &mut Errors) {
    match text(port, "protocol") {
        "" => out.push(FieldError::required(format!("{path}.protocol"), "")),
        p if !PROTOCOLS.contains(&p) => {
            out.push(FieldError::not_supported(format!("{path}.protocol"), p, &PROTOCOLS));
        }
        _ => {}
    }
    if let Some(p) = port["appProtocol"].as_str() {
        each(is_qualified_name(p), &format!("{path}.appProtocol"), p, out);
    }
}

/// Endpoint slices.
pub(super) fn endpoint_slice(new: &Value, old: Option<&Value>, out: &mut Errors) {
    let kinds = ["FQDN", "IPv4", "IPv6"];
    let kind = text(new, "addressType");
    if kind.is_empty() {
        out.push(FieldError::required("addressType", ""));
    } else if !kinds.contains(&kind) {
        out.push(FieldError::not_supported("addressType", kind, &kinds));
    }
    let mut names = HashSet::new();
    for (i, port) in new["ports"].items().iter().enumerate() {
        let path = format!("ports[{i}]");
        let name = text(port, "name");
        if !name.is_empty() {
            each(is_dns1123_label(name), &format!("{path}.name"), name, out);
        }
        if !names.insert(name) {
            out.push(FieldError::duplicate(format!("{path}.name"), name));
        }
        protocol(port, &path, out);
    }
    if old.is_none_or(|old| old["endpoints"] != new["endpoints"]) {
        slice_endpoints(new["endpoints"].items(), kind, out);
    }
    if let Some(old) = old {
        immutable(&new["addressType"], &old["addressType"], "addressType", out);
    }
}

fn slice_endpoints(endpoints: &[Value], kind: &str, out: &mut Errors) {
    if endpoints.len() > MAX_ENDPOINTS {
        out.push(too_many("endpoints", endpoints.len(), MAX_ENDPOINTS));
        return;
    }
    for (i, e) in endpoints.iter().enumerate() {
        let path = format!("endpoints[{i}]");
        let all = format!("{path}.addresses");
        let addresses = e["addresses"].items();
        if addresses.is_empty() {
            out.push(FieldError::required(all.as_str(), "must contain at least 1 address"));
        } else if addresses.len() > MAX_ADDRESSES {
            out.push(too_many(&all, addresses.len(), MAX_ADDRESSES));
        }
        for (j, a) in addresses.iter().filter_map(Value::as_str).enumerate() {
            slice_address(a, kind, &all, &format!("{all}[{j}]"), out);
        }
        if let Some(node) = e["nodeName"].as_str() {
            each(is_dns1123_subdomain(node), &format!("{path}.nodeName"), node, out);
        }
        let topology = format!("{path}.deprecatedTopology");
        let count = e["deprecatedTopology"].as_map().map_or(0, |m| m.len());
        if count > MAX_TOPOLOGY {
            out.push(too_many(&topology, count, MAX_TOPOLOGY));
        }
        labels(e.get("deprecatedTopology"), &topology, out);
        if let Some(host) = e["hostname"].as_str() {
            each(is_dns1123_label(host), &format!("{path}.hostname"), host, out);
        }
        for (key, rule) in [
            ("forZones", label_value_errors as fn(&str) -> Vec<String>),
            ("forNodes", is_dns1123_subdomain as fn(&str) -> Vec<String>),
        ] {
            let path = format!("{path}.hints.{key}");
            let hints = e["hints"][key].items();
            if hints.len() > MAX_HINTS {
                out.push(too_many(&path, hints.len(), MAX_HINTS));
                break;
            }
            let mut seen = HashSet::new();
            for (j, name) in hints.iter().map(|h| text(h, "name")).enumerate() {
                let path = format!("{path}[{j}].name");
                if !seen.insert(name) {
                    out.push(FieldError::duplicate(path.as_str(), name));
                }
                each(rule(name), &path, name, out);
            }
        }
    }
}

fn slice_address(address: &str, kind: &str, list: &str, path: &str, out: &mut Errors) {
    let (ip, wanted, word) = match kind {
        "IPv4" => (ip::legacy(address, path, out), true, "must be an IPv4 address"),
        "IPv6" => (ip::canonical(address, path, out), false, "must be an IPv6 address"),
        "FQDN" => return fully_qualified(address, path, out),
        _ => return,
    };
    let Some(ip) = ip else { return };
    if ip.is_ipv4() != wanted {
        // Upstream names the list here, not the item.
        out.push(FieldError::invalid(list, address, word));
    }
    // Unlike upstream: a process on this host is named by the loopback address it listens on.
    if !ip.is_loopback() {
        ip::endpoint(address, path, out);
    }
}

/// A domain name of at least two labels (upstream `IsFullyQualifiedDomainName`).
fn fully_qualified(name: &str, path: &str, out: &mut Errors) {
    if name.is_empty() {
        out.push(FieldError::required(path, ""));
        return;
    }
    let bare = name.strip_suffix('.').unwrap_or(name);
    let errors = is_dns1123_subdomain(bare);
    if errors.is_empty() && bare.split('.').count() < 2 {
        out.push(FieldError::invalid(path, bare, "should be a domain with at least two segments separated by dots"));
    }
    each(errors, path, bare, out);
    for label in bare.split('.').filter(|l| l.len() > 63) {
        each(is_dns1123_label(label), path, label, out);
    }
}

/// Ingresses.
pub(super) fn ingress(new: &Value, old: Option<&Value>, out: &mut Errors) {
    let spec = &new["spec"];
    let rules = spec["rules"].items();
    if rules.is_empty() && spec["defaultBackend"].is_null() {
        let why = "either `defaultBackend` or `rules` must be specified";
        out.push(FieldError::invalid("spec", spec["rules"].clone(), why));
    }
    if !spec["defaultBackend"].is_null() {
        ingress_backend(&spec["defaultBackend"], "spec.defaultBackend", out);
    }
    for (i, rule) in rules.iter().enumerate() {
        ingress_rule(rule, &format!("spec.rules[{i}]"), out);
    }
    for (i, tls) in spec["tls"].items().iter().enumerate() {
        let path = format!("spec.tls[{i}]");
        for (j, host) in tls["hosts"].items().iter().filter_map(Value::as_str).enumerate() {
            host_name(host, &format!("{path}.hosts[{j}]"), out);
        }
        let secret = text(tls, "secretName");
        if !secret.is_empty() {
            subdomain_field(secret, &format!("{path}.secretName"), out);
        }
    }
    if let Some(class) = spec["ingressClassName"].as_str() {
        subdomain_field(class, "spec.ingressClassName", out);
    }
    let annotation = new.at(["metadata", "annotations", "kubernetes.io/ingress.class"]).and_then(Value::as_str);
    if let (Some(said), Some(class), None) = (annotation, spec["ingressClassName"].as_str(), old)
        && said != class
    {
        let why = "must match `ingressClassName` when both are specified";
        out.push(FieldError::invalid("annotations.kubernetes.io/ingress.class", said, why));
    }
}

/// A host of a rule or a certificate: `*.` may stand before it.
fn host_name(host: &str, path: &str, out: &mut Errors) {
    const WILDCARD: &str = "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must consist of lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character (e.g. '*.example.com', regex used for validation is '\\*\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
    if !host.contains('*') {
        each(is_dns1123_subdomain(host), path, host, out);
    } else if !host.strip_prefix("*.").is_some_and(|rest| is_dns1123_subdomain(rest).is_empty()) {
        out.push(FieldError::invalid(path, host, WILDCARD));
    }
}

fn ingress_rule(rule: &Value, path: &str, out: &mut Errors) {
    let host = text(rule, "host");
    let at = format!("{path}.host");
    if !host.is_empty() {
        if host.parse::<IpAddr>().is_ok() {
            out.push(FieldError::invalid(at.as_str(), host, "must be a DNS name, not an IP address"));
        }
        host_name(host, &at, out);
    }
    let http = &rule["http"];
    if http.is_null() {
        return;
    }
    let paths = http["paths"].items();
    if paths.is_empty() {
        out.push(FieldError::required(format!("{path}.http.paths"), ""));
    }
    for (j, p) in paths.iter().enumerate() {
        let path = format!("{path}.http.paths[{j}]");
        let types = ["Exact", "ImplementationSpecific", "Prefix"];
        if p["pathType"].is_null() {
            out.push(FieldError::required(format!("{path}.pathType"), "pathType must be specified"));
            continue;
        }
        match text(p, "pathType") {
            "ImplementationSpecific" => {
                if !text(p, "path").is_empty() && !text(p, "path").starts_with('/') {
                    out.push(FieldError::invalid(format!("{path}.path"), text(p, "path"), "must be an absolute path"));
                }
            }
            kind if types.contains(&kind) => exact_path(text(p, "path"), &format!("{path}.path"), out),
            kind => out.push(FieldError::not_supported(format!("{path}.pathType"), kind, &types)),
        }
        ingress_backend(&p["backend"], &format!("{path}.backend"), out);
    }
}

/// A path that is compared, not matched by an ingress controller's own rules.
fn exact_path(value: &str, path: &str, out: &mut Errors) {
    if !value.starts_with('/') {
        out.push(FieldError::invalid(path, value, "must be an absolute path"));
    }
    if value.is_empty() {
        return;
    }
    for bad in ["//", "/./", "/../", "%2f", "%2F"] {
        if value.contains(bad) {
            out.push(FieldError::invalid(path, value, format!("must not contain '{bad}'")));
        }
    }
    for bad in ["/..", "/."] {
        if value.ends_with(bad) {
            out.push(FieldError::invalid(path, value, format!("cannot end with '{bad}'")));
        }
    }
}

fn ingress_backend(b: &Value, path: &str, out: &mut Errors) {
    let has = |key: &str| !b[key].is_null();
    match (has("service"), has("resource")) {
        (true, true) => out.push(FieldError::invalid(path, "", "cannot set both resource and service backends")),
        (false, true) => {
            let at = format!("{path}.resource");
            let r = &b["resource"];
            if let Some(group) = r["apiGroup"].as_str() {
                each(is_dns1123_subdomain(group), &format!("{at}.apiGroup"), group, out);
            }
            for key in ["kind", "name"] {
                path_segment_field(text(r, key), &format!("{at}.{key}"), "", out);
            }
        }
        (true, false) => {
            let s = &b["service"];
            let name = text(s, "name");
            if name.is_empty() {
                out.push(FieldError::required(format!("{path}.service.name"), ""));
            } else {
                each(is_dns1123_label(name), &format!("{path}.service.name"), name, out);
            }
            let (number, port_name) = (&s["port"]["number"], text(&s["port"], "name"));
            match (number.as_i64().is_some_and(|n| n != 0), !port_name.is_empty()) {
                (true, true) => out.push(FieldError::invalid(path, "", "cannot set both port name & port number")),
                (false, false) => out.push(FieldError::required(path, "port name or number is required")),
                (true, false) => port_number(Some(number), &format!("{path}.service.port.number"), out),
                (false, true) => {
                    each(port_name_errors(port_name), &format!("{path}.service.port.name"), port_name, out);
                }
            }
        }
        (false, false) => {
            out.push(FieldError::invalid(path, "", "resource or service backend is required"));
        }
    }
}

/// Ingress classes.
pub(super) fn ingress_class(new: &Value, old: Option<&Value>, out: &mut Errors) {
    const LONGEST: usize = 250;
    let spec = &new["spec"];
    let controller = At::new(&spec["controller"], "spec.controller");
    if let Some(old) = old {
        controller.unchanged(&old["spec"]["controller"], out);
    }
    if controller.text().len() > LONGEST {
        controller.too_long(LONGEST, out);
    }
    controller.domain_path(out);
    let params = &spec["parameters"];
    if params.is_null() {
        return;
    }
    let path = "spec.parameters";
    if let Some(group) = params["apiGroup"].as_str() {
        each(is_dns1123_subdomain(group), &format!("{path}.apiGroup"), group, out);
    }
    for key in ["kind", "name"] {
        path_segment_field(text(params, key), &format!("{path}.{key}"), "", out);
    }
    let namespace = params["namespace"].as_str();
    let at = format!("{path}.namespace");
    match params["scope"].as_str() {
        None => out.push(FieldError::required(format!("{path}.scope"), "")),
        Some("Namespace") => match namespace {
            None => out.push(FieldError::required(at, "`parameters.scope` is set to 'Namespace'")),
            Some(n) => each(is_dns1123_label(n), &at, n, out),
        },
        Some("Cluster") => {
            if namespace.is_some() {
                out.push(FieldError::forbidden(at, "`parameters.scope` is set to 'Cluster'"));
            }
        }
        Some(other) => {
            out.push(FieldError::not_supported(format!("{path}.scope"), other, &["Cluster", "Namespace"]));
        }
    }
}

/// Ranges that Services take their addresses from.
pub(super) fn service_cidr(new: &Value, old: Option<&Value>, out: &mut Errors) {
    let path = "spec.cidrs";
    let cidrs = new["spec"]["cidrs"].items();
    if let Some(old) = old {
        let before = old["spec"]["cidrs"].items();
        let widened = before.len() == 1 && cidrs.len() == 2;
        if before.len() != cidrs.len() && !widened {
            out.push(FieldError::invalid(path, new["spec"]["cidrs"].clone(), "field is immutable"));
            return;
        }
        for (i, (_, a)) in before.iter().zip(cidrs).enumerate().filter(|(_, (b, a))| a != b) {
            out.push(FieldError::invalid(format!("{path}[{i}]"), a.clone(), "field is immutable"));
        }
        if !widened {
            return;
        }
    }
    if cidrs.is_empty() {
        out.push(FieldError::required(path, "at least one CIDR required"));
        return;
    }
    if cidrs.len() > 2 {
        // Shown as the Go struct.
        let mut shown = druse_object::Map::new();
        shown.insert("CIDRs", new["spec"]["cidrs"].clone());
        out.push(FieldError::invalid(path, shown, "may only hold up to 2 values"));
        return;
    }
    let families: Vec<Option<bool>> = cidrs
        .iter()
        .filter_map(Value::as_str)
        .enumerate()
        .map(|(i, c)| Cidr::canonical(c, &format!("{path}[{i}]"), out).map(|c| c.address.is_ipv4()))
        .collect();
    if let [Some(a), Some(b)] = families.as_slice()
        && a == b
    {
        let why = "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64";
        out.push(FieldError::invalid(path, new["spec"]["cidrs"].clone(), why));
    }
}

/// Addresses in use: the name is one.
pub(super) fn ip_address(new: &Value, old: Option<&Value>, out: &mut Errors) {
    if old.is_none() {
        for key in ["generateName", "name"] {
            if let Some(name) = new.str_at(["metadata", key]).filter(|name| !name.is_empty()) {
                ip::canonical(name, &format!("metadata.{key}"), out);
            }
        }
    }
    let parent = &new["spec"]["parentRef"];
    parent_reference(parent, out);
    if old.is_some_and(|o| &o["spec"]["parentRef"] != parent) {
        // Shown as the Go struct.
        let mut shown = Map::new();
        for (name, key) in [("Group", "group"), ("Resource", "resource"), ("Namespace", "namespace"), ("Name", "name")]
        {
            shown.insert(name, text(parent, key));
        }
        let shown = if parent.is_null() { Value::Null } else { Value::Map(shown) };
        out.push(FieldError::invalid("spec.parentRef", shown, "field is immutable"));
    }
}

fn parent_reference(parent: &Value, out: &mut Errors) {
    let path = "spec.parentRef";
    if parent.is_null() {
        out.push(FieldError::required(path, ""));
        return;
    }
    let group = text(parent, "group");
    if !group.is_empty() {
        each(is_dns1123_subdomain(group), &format!("{path}.group"), group, out);
    }
    for (key, needed) in [("resource", true), ("name", true), ("namespace", false)] {
        let value = text(parent, key);
        if value.is_empty() && needed {
            out.push(FieldError::required(format!("{path}.{key}"), ""));
        }
        each(NameRule::PathSegment.errors(value, false), &format!("{path}.{key}"), value, out);
    }
}

/// Where a balancer lets requests in: for a Service, or for an Ingress.
pub(super) fn load_balancer(new: &Value, old: &Value, service: bool, out: &mut Errors) {
    let root = At::new(new, "");
    let status = root.child("status");
    let balancer = status.child("loadBalancer");
    let list = balancer.child("ingress");
    if service && new.str_at(["spec", "type"]) != Some("LoadBalancer") {
        if list.len() > 0 {
            list.forbidden("may only be used when `spec.type` is 'LoadBalancer'", out);
        }
        return;
    }
    let before = old["status"]["loadBalancer"]["ingress"].items();
    let known: Vec<&str> = before.iter().filter_map(|i| i.str_at(["ip"])).collect();
    for point in list.items() {
        let (ip, name, mode) = (point.child("ip"), point.child("hostname"), point.child("ipMode"));
        let has_ip = !ip.text().is_empty();
        // What was there already may be as it was.
        if has_ip && !known.contains(&ip.text()) {
            super::ip::legacy(ip.text(), &ip.path(), out);
        }
        match (service, mode.is_given(), has_ip) {
            (true, false, true) => mode.required("must be specified when `ip` is set", out),
            (true, true, false) => mode.forbidden("may not be specified when `ip` is not set", out),
            (true, true, true) => mode.any_of(&["Proxy", "VIP"], out),
            _ => {}
        }
        if !name.text().is_empty() {
            name.subdomain(out);
            if super::ip::sloppy(name.text()).is_some() {
                name.invalid("must be a DNS name, not an IP address", out);
            }
        }
    }
}
