//! DR082: ports that no container has.

use druse_object::Value;

use crate::context::Context;
use crate::finding::{Finding, Severity};
use crate::index::{Entry, Origin};
use crate::pods::{self, Pod};
use crate::position::Step;

pub(super) fn check(cx: &Context<'_>, out: &mut Vec<Finding>) {
    let pods: Vec<Pod<'_, '_>> = cx.pods().collect();
    for entry in cx.own() {
        if entry.is("", "Service") {
            service(cx, entry, &pods, out);
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

fn service(cx: &Context<'_>, entry: &Entry<'_>, pods: &[Pod<'_, '_>], out: &mut Vec<Finding>) {
    let spec = &entry.object.value["spec"];
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

/// Probes and hooks that name a port of their container.
fn probes(cx: &Context<'_>, pod: &Pod<'_, '_>, out: &mut Vec<Finding>) {
    for (at, container) in pod.containers() {
        let has = |name: &str| container["ports"].items().iter().any(|p| p.str_at(["name"]) == Some(name));
        for holder in ["livenessProbe", "readinessProbe", "startupProbe"] {
            for action in ["httpGet", "tcpSocket"] {
                let Some(name) = container[holder][action].str_at(["port"]).filter(|n| n.parse::<u16>().is_err())
                else {
                    continue;
                };
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
