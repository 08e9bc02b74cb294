//! DR082: ports that no container has.

use druse_object::Value;

use crate::context::Context;
use crate::finding::{Finding, Severity};
use crate::index::{Entry, Origin};
use crate::paths;
use crate::pods::{self, Pod};
use crate::position::Step;

pub(super) fn check(cx: &Context<'_>, out: &mut Vec<Finding>) {
    let pods: Vec<Pod<'_, '_>> = cx.pods().collect();
    for entry in cx.own() {
        if entry.is("", "Service") {
            service(cx, entry, &pods, out);
        }
        if entry.is("networking.k8s.io", "NetworkPolicy") && entry.origin == Origin::Tree {
            policy(cx, entry, &pods, out);
        }
        if let Some(pod) = pods::of(entry) {
            probes(cx, &pod, out);
        }
    }
    for kind in ["ServiceMonitor", "PodMonitor"] {
        for entry in cx.index.of_kind("monitoring.coreos.com", kind).filter(|e| e.origin == Origin::Tree) {
            monitor(cx, entry, &pods, out);
        }
    }
}

/// The node ports that an API server gives out unless told otherwise.
const NODE_PORTS: std::ops::RangeInclusive<i64> = 30000..=32767;

fn service(cx: &Context<'_>, entry: &Entry<'_>, pods: &[Pod<'_, '_>], out: &mut Vec<Finding>) {
    let spec = &entry.object.value["spec"];
    for (i, port) in spec["ports"].items().iter().enumerate() {
        let Some(number) = port["nodePort"].as_i64().filter(|n| *n > 0 && !NODE_PORTS.contains(n)) else { continue };
        let path = [Step::from("spec"), Step::from("ports"), Step::Index(i), Step::from("nodePort")];
        let message = format!("node port {number} is not in the valid range, which is 30000-32767 by default");
        let finding = cx.at(entry, &path, &[&number.to_string()], "DR013", message);
        // The range can be set, but hardly anybody does.
        out.push(finding.severity(Severity::Warning));
    }
    let selector = &spec["selector"];
    if selector.as_map().is_none_or(|m| m.is_empty()) {
        return;
    }
    let matched: Vec<&Pod<'_, '_>> = pods
        .iter()
        .filter(|p| p.entry.object.namespace() == entry.object.namespace() && pods::has_all(selector, p.labels))
        .collect();
    if matched.is_empty() {
        return;
    }
    for (i, port) in spec["ports"].items().iter().enumerate() {
        let (target, field) = match port.get("targetPort").filter(|t| !t.is_null()) {
            Some(t) => (t, "targetPort"),
            None => (&port["port"], "port"),
        };
        let path = [Step::from("spec"), Step::from("ports"), Step::Index(i), Step::from(field)];
        match target {
            Value::String(name) if name.parse::<u16>().is_err() => {
                if matched.iter().any(|p| p.has_port_named(name)) {
                    continue;
                }
                if entry.origin == Origin::Chart && cx.in_values(entry.unit, &[name]).is_none() {
                    continue;
                }
                let message = format!("no container of the pods that {} selects has a port named {name}", entry.key());
                out.push(cx.at(entry, &path, &[name], "DR082", message));
            }
            Value::Int(number) if entry.origin == Origin::Tree => {
                // Containers need not declare their ports; where all of them do, another number is a slip.
                let declared: Vec<Vec<i64>> = matched.iter().map(|p| numbers(p)).collect();
                if declared.iter().all(|d| !d.is_empty() && !d.contains(number)) {
                    let message = format!("no container of the pods that {} selects has port {number}", entry.key());
                    out.push(cx.at(entry, &path, &[], "DR082", message).severity(Severity::Warning));
                }
            }
            _ => {}
        }
    }
}

fn numbers(pod: &Pod<'_, '_>) -> Vec<i64> {
    pod.containers().iter().flat_map(|(_, c)| c["ports"].items()).filter_map(|p| p["containerPort"].as_i64()).collect()
}

/// Ports that a policy opens by name on the pods it is for.
fn policy(cx: &Context<'_>, entry: &Entry<'_>, pods: &[Pod<'_, '_>], out: &mut Vec<Finding>) {
    let own = |p: &&Pod<'_, '_>| {
        p.entry.object.namespace() == entry.object.namespace()
            && pods::selects(&entry.object.value["spec"]["podSelector"], p.labels)
    };
    let matched: Vec<&Pod<'_, '_>> = pods.iter().filter(own).collect();
    if matched.is_empty() {
        return;
    }
    for (path, port) in paths::all(&entry.object.value, "spec.ingress[].ports[].port") {
        let Some(name) = port.as_str().filter(|n| n.parse::<u16>().is_err()) else { continue };
        if !matched.iter().any(|p| p.has_port_named(name)) {
            let message = format!("no container of the pods that {} selects has a port named {name}", entry.key());
            out.push(cx.at(entry, &path, &[], "DR082", message).severity(Severity::Warning));
        }
    }
}

/// Probes and hooks that name a port of their container.
fn probes(cx: &Context<'_>, pod: &Pod<'_, '_>, out: &mut Vec<Finding>) {
    for (at, container) in pod.containers() {
        let has = |name: &str| container["ports"].items().iter().any(|p| p.str_at(["name"]) == Some(name));
        for holder in ["livenessProbe", "readinessProbe", "startupProbe"] {
            for action in ["httpGet", "tcpSocket"] {
                let port = &container[holder][action]["port"];
                if let (Some(number), Origin::Tree) = (port.as_i64(), pod.entry.origin) {
                    // Health is often served on a port that nobody declares.
                    let declared = numbers(pod);
                    if !declared.is_empty() && !declared.contains(&number) {
                        let path: Vec<Step> =
                            at.iter().cloned().chain([holder, action, "port"].map(Step::from)).collect();
                        let message = format!("no container of the pod has port {number}");
                        let finding = cx.at(pod.entry, &path, &[], "DR082", message);
                        // A number that is almost a declared one is a slip.
                        let slip = declared.iter().find(|d| is_slip(number, **d));
                        out.push(match slip {
                            Some(port) => finding
                                .severity(Severity::Warning)
                                .help(format!("correct the number, if {port} is meant; if not, declare the port")),
                            None => finding.severity(Severity::Info),
                        });
                    }
                }
                let Some(name) = port.as_str().filter(|n| n.parse::<u16>().is_err()) else { continue };
                if has(name) || name.contains("${") {
                    continue;
                }
                if pod.entry.origin == Origin::Chart && cx.in_values(pod.entry.unit, &[name]).is_none() {
                    continue;
                }
                let mut path = at.clone();
                path.extend([holder, action, "port"].map(Step::from));
                let container = container.str_at(["name"]).unwrap_or_default();
                let message = format!("container {container} has no port named {name}");
                out.push(cx.at(pod.entry, &path, &[name], "DR082", message));
            }
        }
    }
}

/// Whether a number is another but for one digit, or two that are swapped.
fn is_slip(number: i64, other: i64) -> bool {
    let (a, b) = (number.to_string(), other.to_string());
    a.len() > 2 && crate::words::is_one_letter_off(&a, &b)
}

/// Endpoints of a monitor name ports of the Services, or pods, that it selects.
fn monitor(cx: &Context<'_>, entry: &Entry<'_>, pods: &[Pod<'_, '_>], out: &mut Vec<Finding>) {
    let spec = &entry.object.value["spec"];
    let (field, of_pods) =
        if entry.gvk.kind == "PodMonitor" { ("podMetricsEndpoints", true) } else { ("endpoints", false) };
    let in_scope = |namespace: &str| super::selectors::monitored(entry, namespace);
    let services: Vec<&Entry<'_>> = cx
        .index
        .of_kind("", "Service")
        .filter(|s| {
            in_scope(s.object.namespace()) && pods::selects(&spec["selector"], &s.object.value["metadata"]["labels"])
        })
        .collect();
    let matched: Vec<&Pod<'_, '_>> = pods
        .iter()
        .filter(|p| in_scope(p.entry.object.namespace()) && pods::selects(&spec["selector"], p.labels))
        .collect();
    if of_pods && matched.is_empty() || !of_pods && services.is_empty() {
        return;
    }
    for (i, endpoint) in spec[field].items().iter().enumerate() {
        let Some(name) = endpoint.str_at(["port"]) else { continue };
        let known = if of_pods {
            matched.iter().any(|p| p.has_port_named(name))
        } else {
            services
                .iter()
                .flat_map(|s| s.object.value["spec"]["ports"].items())
                .any(|p| p.str_at(["name"]) == Some(name))
        };
        if !known {
            let path = [Step::from("spec"), Step::from(field), Step::Index(i), Step::from("port")];
            let what = if of_pods { "pod" } else { "Service" };
            let message = format!("no {what} that {} selects has a port named {name}", entry.key());
            out.push(cx.at(entry, &path, &[], "DR082", message));
        }
    }
}
