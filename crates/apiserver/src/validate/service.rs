//! Services (`pkg/apis/core/validation`, `validateService` and what it calls).

use std::collections::HashSet;
use std::net::IpAddr;

use druse_object::{Map, Value};

use super::at::{Errors, each, text, words};
use super::ip::{self, Cidr};
use super::meta::{labels, subdomain_field};
use super::names::{is_dns1123_label, is_qualified_name};
use super::pod::{port_number, port_or_name};
use crate::field::FieldError;

const SOURCE_RANGES: &str = "service.beta.kubernetes.io/load-balancer-source-ranges";
const BALANCER_ONLY: &str = "may only be used when `type` is 'LoadBalancer'";
/// The longest session affinity, in seconds: a day.
const LONGEST_AFFINITY: i64 = 86_400;

fn enumeration(spec: &Value, key: &str, allowed: &[&str], out: &mut Errors) {
    let value = text(spec, key);
    let path = format!("spec.{key}");
    if value.is_empty() {
        out.push(FieldError::required(path, ""));
    } else if !allowed.contains(&value) {
        out.push(FieldError::not_supported(path, value, allowed));
    }
}

/// A Service and a change of one.
pub(super) fn service(new: &Value, old: Option<&Value>, out: &mut Errors) {
    let spec = &new["spec"];
    if let Some(old) = old {
        changed(spec, &old["spec"], out);
    }
    let kind = text(spec, "type");
    let headless = text(spec, "clusterIP") == "None";
    let ports = spec["ports"].items();
    if ports.is_empty() && !headless && kind != "ExternalName" {
        out.push(FieldError::required("spec.ports", ""));
    }
    match kind {
        "LoadBalancer" | "NodePort" if headless => {
            let why = format!("may not be set to 'None' for {kind} services");
            out.push(FieldError::invalid("spec.clusterIPs[0]", "None", why));
        }
        "ExternalName" => external_name(spec, out),
        _ => {}
    }
    let mut names = HashSet::new();
    for (i, p) in ports.iter().enumerate() {
        port(p, ports.len() > 1, &mut names, &format!("spec.ports[{i}]"), out);
    }
    labels(spec.get("selector"), "spec.selector", out);
    affinity(spec, out);
    if kind != "ExternalName" {
        addresses(spec, old.map(|o| &o["spec"]), out);
    }
    let known = old.map(|o| words(&o["spec"], "externalIPs")).unwrap_or_default();
    for (i, address) in words(spec, "externalIPs").into_iter().enumerate() {
        let path = format!("spec.externalIPs[{i}]");
        if known.contains(&address) || ip::legacy(address, &path, out).is_some() {
            ip::endpoint(address, &path, out);
        }
    }
    enumeration(spec, "type", &["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"], out);
    used_once(ports, kind, out);
    source_ranges(new, old, kind, out);
    if kind != "LoadBalancer" && !spec["allocateLoadBalancerNodePorts"].is_null() {
        out.push(FieldError::forbidden("spec.allocateLoadBalancerNodePorts", BALANCER_ONLY));
    }
    if let Some(class) = spec["loadBalancerClass"].as_str() {
        let path = "spec.loadBalancerClass";
        if kind == "LoadBalancer" {
            each(is_qualified_name(class), path, class, out);
        } else {
            out.push(FieldError::forbidden(path, BALANCER_ONLY));
        }
    }
    traffic(spec, kind, out);
}

/// The families of addresses that this cluster has, which is IPv4 only.
pub(super) fn families(new: &Value, old: Option<&Value>, out: &mut Errors) {
    let spec = &new["spec"];
    let free = |spec: &Value| text(spec, "clusterIP") == "None" && spec["selector"].as_map().is_none_or(Map::is_empty);
    if !free(spec) && old.is_none_or(|o| free(&o["spec"])) {
        for (i, family) in words(spec, "ipFamilies").into_iter().enumerate().filter(|(_, f)| *f == "IPv6") {
            let why = "not configured on this cluster";
            out.push(FieldError::invalid(format!("spec.ipFamilies[{i}]"), family, why));
        }
        if let Some(p) = spec["ipFamilyPolicy"].as_str().filter(|p| *p == "RequireDualStack") {
            let why = "this cluster is not configured for dual-stack services";
            out.push(FieldError::invalid("spec.ipFamilyPolicy", p, why));
        }
    }
}

/// What may not change while a Service has cluster addresses.
fn changed(new: &Value, old: &Value, out: &mut Errors) {
    const SET: &str = "may not change once set";
    let external = |v: &Value| text(v, "type") == "ExternalName";
    let headless = |v: &Value| text(v, "clusterIP") == "None";
    if !(external(new) || external(old) || headless(new) && headless(old)) {
        let (before, after) = (words(old, "clusterIPs"), words(new, "clusterIPs"));
        for (i, _) in before.iter().zip(&after).enumerate().filter(|(_, (b, a))| b != a) {
            out.push(FieldError::invalid(format!("spec.clusterIPs[{i}]"), new["clusterIPs"].clone(), SET));
        }
        let dual = |v: &Value| ["PreferDualStack", "RequireDualStack"].contains(&text(v, "ipFamilyPolicy"));
        if before.len() > after.len() && !after.is_empty() && dual(new) {
            let why = "must be set to 'SingleStack' when releasing the secondary cluster IP";
            out.push(FieldError::invalid("spec.ipFamilyPolicy", new["ipFamilyPolicy"].clone(), why));
        }
    }
    let balanced = |v: &Value| text(v, "type") == "LoadBalancer";
    if balanced(new) && balanced(old) && new["loadBalancerClass"] != old["loadBalancerClass"] {
        out.push(FieldError::invalid("spec.loadBalancerClass", new["loadBalancerClass"].clone(), SET));
    }
    if checked(new) && checked(old) && new["healthCheckNodePort"] != old["healthCheckNodePort"] {
        out.push(FieldError::forbidden("spec.healthCheckNodePort", "field is immutable"));
    }
}

/// Whether nodes answer health checks for it.
fn checked(spec: &Value) -> bool {
    text(spec, "type") == "LoadBalancer" && text(spec, "externalTrafficPolicy") == "Local"
}

fn external_name(spec: &Value, out: &mut Errors) {
    for key in ["clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
        if !spec[key].is_null() && spec[key].as_array().is_none_or(|a| !a.is_empty()) {
            out.push(FieldError::forbidden(format!("spec.{key}"), "may not be set for ExternalName services"));
        }
    }
    let name = text(spec, "externalName");
    match name.strip_suffix('.').unwrap_or(name) {
        "" => out.push(FieldError::required("spec.externalName", "")),
        name => subdomain_field(name, "spec.externalName", out),
    }
}

fn port<'a>(p: &'a Value, named: bool, names: &mut HashSet<&'a str>, path: &str, out: &mut Errors) {
    let name = text(p, "name");
    let at = format!("{path}.name");
    if !name.is_empty() {
        each(is_dns1123_label(name), &at, name, out);
        if !names.insert(name) {
            out.push(FieldError::duplicate(at, name));
        }
    } else if named {
        out.push(FieldError::required(at, ""));
    }
    port_number(p.get("port"), &format!("{path}.port"), out);
    let protocols = ["SCTP", "TCP", "UDP"];
    match text(p, "protocol") {
        "" => out.push(FieldError::required(format!("{path}.protocol"), "")),
        other if !protocols.contains(&other) => {
            out.push(FieldError::not_supported(format!("{path}.protocol"), other, &protocols));
        }
        _ => {}
    }
    port_or_name(p.get("targetPort"), &format!("{path}.targetPort"), out);
    if let Some(app) = p["appProtocol"].as_str() {
        let at = format!("{path}.appProtocol");
        each(is_qualified_name(app), &at, app, out);
    }
}

fn affinity(spec: &Value, out: &mut Errors) {
    enumeration(spec, "sessionAffinity", &["ClientIP", "None"], out);
    let config = &spec["sessionAffinityConfig"];
    let path = "spec.sessionAffinityConfig";
    match text(spec, "sessionAffinity") {
        "ClientIP" => {
            let client = &config["clientIP"];
            if config.is_null() {
                out.push(FieldError::required(path, "when session affinity type is ClientIP"));
            } else if client.is_null() {
                out.push(FieldError::required(format!("{path}.clientIP"), "when session affinity type is ClientIP"));
            } else if client["timeoutSeconds"].is_null() {
                let why = "when session affinity type is ClientIP";
                out.push(FieldError::required(format!("{path}.clientIP.timeoutSeconds"), why));
            } else if let Some(n) = client["timeoutSeconds"].as_i64().filter(|n| !(1..=LONGEST_AFFINITY).contains(n)) {
                let why = format!("must be greater than 0 and less than {LONGEST_AFFINITY}");
                out.push(FieldError::invalid(format!("{path}.clientIP.timeoutSeconds"), n, why));
            }
        }
        "None" if !config.is_null() => {
            out.push(FieldError::forbidden(path, "must not be set when session affinity is None"));
        }
        _ => {}
    }
}

/// Cluster addresses and their families (upstream `ValidateServiceClusterIPsRelatedFields`).
fn addresses(spec: &Value, old: Option<&Value>, out: &mut Errors) {
    let path = "spec.clusterIPs";
    let (one, all) = (text(spec, "clusterIP"), words(spec, "clusterIPs"));
    let invalid = |why: &str| FieldError::invalid(path, spec["clusterIPs"].clone(), why);
    match (one, all.first()) {
        ("", Some(_)) => out.push(invalid("must be empty when `clusterIP` is not specified")),
        ("", None) => {}
        (_, None) => out.push(FieldError::required(path, "")),
        (one, Some(first)) if one != *first => out.push(invalid("first value must match `clusterIP`")),
        _ => {}
    }
    let families = words(spec, "ipFamilies");
    for (i, family) in families.iter().enumerate() {
        let path = format!("spec.ipFamilies[{i}]");
        if !["IPv4", "IPv6"].contains(family) {
            out.push(FieldError::not_supported(path.as_str(), *family, &["IPv4", "IPv6"]));
        }
        if families.iter().take(i).any(|f| f == family) {
            out.push(FieldError::duplicate(path, *family));
        }
    }
    let policies = ["PreferDualStack", "RequireDualStack", "SingleStack"];
    if let Some(p) = spec["ipFamilyPolicy"].as_str().filter(|p| !policies.contains(p)) {
        out.push(FieldError::not_supported("spec.ipFamilyPolicy", p, &policies));
    }
    let known = old.map(|o| words(o, "clusterIPs")).unwrap_or_default();
    let mut bad = false;
    for (i, address) in all.iter().enumerate() {
        if i == 0 && *address == "None" {
            if all.len() > 1 {
                bad = true;
                out.push(invalid("'None' must be the first and only value"));
            }
        } else if !known.contains(address) {
            bad |= ip::legacy(address, &format!("{path}[{i}]"), out).is_none();
        }
    }
    if all.len() > 2 {
        out.push(invalid("may only hold up to 2 values"));
    }
    if bad {
        return;
    }
    let is_v6 = |a: &str| a.parse::<IpAddr>().is_ok_and(|a| a.is_ipv6());
    if all.len() > 1 && all.iter().all(|a| is_v6(a)) | all.iter().all(|a| !is_v6(a)) {
        out.push(invalid("may specify no more than one IP for each IP family"));
    }
    if one == "None" {
        return;
    }
    for (i, (address, family)) in all.iter().zip(&families).enumerate() {
        let wrong = match *family {
            "IPv4" => is_v6(address),
            "IPv6" => !is_v6(address),
            _ => false,
        };
        if wrong {
            let why = format!("expected an {family} value as indicated by `ipFamilies[{i}]`");
            out.push(FieldError::invalid(format!("{path}[{i}]"), *address, why));
        }
    }
}

fn used_once(ports: &[Value], kind: &str, out: &mut Errors) {
    let node_port = |p: &Value| p["nodePort"].as_i64().unwrap_or(0);
    if kind == "ClusterIP" {
        for (i, _) in ports.iter().enumerate().filter(|(_, p)| node_port(p) != 0) {
            let why = "may not be used when `type` is 'ClusterIP'";
            out.push(FieldError::forbidden(format!("spec.ports[{i}].nodePort"), why));
        }
    }
    let mut node_ports = HashSet::new();
    for (i, p) in ports.iter().enumerate().filter(|(_, p)| node_port(p) != 0) {
        if !node_ports.insert((text(p, "protocol"), node_port(p))) {
            out.push(FieldError::duplicate(format!("spec.ports[{i}].nodePort"), node_port(p)));
        }
    }
    let mut used = HashSet::new();
    for (i, p) in ports.iter().enumerate() {
        let number = p["port"].as_i64().unwrap_or(0);
        if !used.insert((text(p, "protocol"), number)) {
            // Shown as the Go struct that upstream looks it up by.
            let mut key = Map::new();
            key.insert("Name", "");
            key.insert("Protocol", text(p, "protocol"));
            key.insert("AppProtocol", Value::Null);
            key.insert("Port", number);
            key.insert("TargetPort", 0i64);
            key.insert("NodePort", 0i64);
            out.push(FieldError::duplicate(format!("spec.ports[{i}]"), key));
        }
    }
}

fn source_ranges(new: &Value, old: Option<&Value>, kind: &str, out: &mut Errors) {
    let ranges = words(&new["spec"], "loadBalancerSourceRanges");
    let annotation = |v: &Value| v.str_at(["metadata", "annotations", SOURCE_RANGES]).map(str::to_owned);
    if !ranges.is_empty() {
        // Upstream spells the field like this.
        let path = "spec.LoadBalancerSourceRanges";
        if kind != "LoadBalancer" {
            out.push(FieldError::forbidden(path, BALANCER_ONLY));
        }
        let known = old.map(|o| words(&o["spec"], "loadBalancerSourceRanges")).unwrap_or_default();
        for (i, range) in ranges.iter().map(|r| r.trim()).enumerate() {
            if !known.iter().any(|k| k.trim() == range) {
                Cidr::legacy(range, &format!("{path}[{i}]"), out);
            }
        }
    } else if let Some(said) = annotation(new) {
        let path = format!("metadata.annotations[{SOURCE_RANGES}]");
        if kind != "LoadBalancer" {
            out.push(FieldError::forbidden(path.as_str(), BALANCER_ONLY));
        }
        if old.is_none_or(|o| annotation(o).as_ref() != Some(&said)) {
            for range in said.trim().split(',').map(str::trim).filter(|r| !r.is_empty()) {
                Cidr::legacy(range, &path, out);
            }
        }
    }
}

fn traffic(spec: &Value, kind: &str, out: &mut Errors) {
    let external = text(spec, "externalTrafficPolicy");
    let reachable =
        ["NodePort", "LoadBalancer"].contains(&kind) || kind == "ClusterIP" && !spec["externalIPs"].items().is_empty();
    let path = "spec.externalTrafficPolicy";
    if reachable {
        enumeration(spec, "externalTrafficPolicy", &["Cluster", "Local"], out);
    } else if !external.is_empty() {
        out.push(FieldError::invalid(path, external, "may only be set for externally-accessible services"));
    }
    let health = spec["healthCheckNodePort"].as_i64().unwrap_or(0);
    if !checked(spec) && health != 0 {
        let why = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'";
        out.push(FieldError::invalid("spec.healthCheckNodePort", health, why));
    } else if health != 0 {
        port_number(spec.get("healthCheckNodePort"), "spec.healthCheckNodePort", out);
    }
    if spec["internalTrafficPolicy"].is_null() {
        if ["NodePort", "LoadBalancer", "ClusterIP"].contains(&kind) {
            out.push(FieldError::required("spec.internalTrafficPolicy", ""));
        }
    } else {
        enumeration(spec, "internalTrafficPolicy", &["Cluster", "Local"], out);
    }
    let ways = ["PreferClose", "PreferSameZone", "PreferSameNode"];
    if let Some(way) = spec["trafficDistribution"].as_str().filter(|w| !ways.contains(w)) {
        out.push(FieldError::not_supported("spec.trafficDistribution", way, &ways));
    }
}
