//! Who can reach what: Services, hosts, certificates, logins, network policies, and the selectors they go by.

use std::collections::BTreeSet;

use druse_object::{Object, Value};

use super::{Found, Subject, at, change, some_of, text_at};

/// Kinds of network policies.
const POLICIES: &[(&str, &str)] = &[
    ("networking.k8s.io", "NetworkPolicy"),
    ("cilium.io", "CiliumNetworkPolicy"),
    ("cilium.io", "CiliumClusterwideNetworkPolicy"),
    ("policy.networking.k8s.io", "AdminNetworkPolicy"),
    ("crd.projectcalico.org", "NetworkPolicy"),
    ("crd.projectcalico.org", "GlobalNetworkPolicy"),
    ("projectcalico.org", "NetworkPolicy"),
    ("projectcalico.org", "GlobalNetworkPolicy"),
];

/// Parts of annotation names by which gateways ask for a login, or let only some addresses in.
const GUARDS: &[&str] = &[
    "/auth-url",
    "/auth-signin",
    "/auth-type",
    "/auth-secret",
    "/auth-tls-secret",
    "/whitelist-source-range",
    "/allowlist-source-range",
    "traefik.ingress.kubernetes.io/router.middlewares",
];

pub(super) fn check(found: &mut Found<'_>, subject: &Subject<'_>) {
    if subject.is("", &["Service"]) {
        service(found, subject);
    }
    routes(found, subject);
    policies(found, subject);
    selectors(found, subject);
}

fn texts(value: &Value, path: &str) -> BTreeSet<String> {
    at(value, path).map(Value::items).unwrap_or_default().iter().filter_map(Value::as_str).map(str::to_string).collect()
}

fn reach(kind: Option<&str>) -> u8 {
    match kind {
        Some("LoadBalancer") => 2,
        Some("NodePort") => 1,
        _ => 0,
    }
}

fn service(found: &mut Found<'_>, subject: &Subject<'_>) {
    const TYPE: &str = "spec.type";
    if let Some(new) = subject.added() {
        if let Some(kind @ ("LoadBalancer" | "NodePort")) = text_at(&new.value, TYPE) {
            found
                .pair("load-balancer-added", &subject.pair, format!("new Service of type {kind}"))
                .map(|d| d.field(TYPE));
        }
        return;
    }
    let Some((old, new)) = subject.both() else { return };
    let (old, new) = (&old.value, &new.value);
    let (from, to) = (text_at(old, TYPE), text_at(new, TYPE));
    if reach(to) > reach(from) {
        let title = format!("type changes from {} to {}", from.unwrap_or("ClusterIP"), to.unwrap_or("ClusterIP"));
        found.pair("service-exposed", &subject.pair, title).map(|d| d.field(TYPE));
    }
    let more: Vec<String> =
        texts(new, "spec.externalIPs").difference(&texts(old, "spec.externalIPs")).cloned().collect();
    if !more.is_empty() {
        let title = format!("answers at external addresses too: {}", some_of(&more));
        found.pair("service-exposed", &subject.pair, title).map(|d| d.field("spec.externalIPs"));
    }
    const RANGES: &str = "spec.loadBalancerSourceRanges";
    let (old_ranges, new_ranges) = (texts(old, RANGES), texts(new, RANGES));
    let more: Vec<String> = new_ranges.difference(&old_ranges).cloned().collect();
    if !old_ranges.is_empty() && (new_ranges.is_empty() || !more.is_empty()) {
        let title = match more.is_empty() {
            true => "loadBalancerSourceRanges are gone: every address may connect".to_string(),
            false => format!("more addresses may connect: {}", some_of(&more)),
        };
        found.pair("service-exposed", &subject.pair, title).map(|d| d.field(RANGES));
    }
}

/// The hosts that an object makes an application answer at.
fn hosts(object: &Object) -> BTreeSet<String> {
    let gvk = object.gvk();
    match (gvk.group.as_str(), gvk.kind.as_str()) {
        ("networking.k8s.io" | "extensions", "Ingress") => at(&object.value, "spec.rules")
            .map(Value::items)
            .unwrap_or_default()
            .iter()
            .map(|r| text_at(r, "host").unwrap_or("*").to_string())
            .collect(),
        ("gateway.networking.k8s.io", "HTTPRoute" | "GRPCRoute" | "TLSRoute") => texts(&object.value, "spec.hostnames"),
        ("traefik.io" | "traefik.containo.us", "IngressRoute") => at(&object.value, "spec.routes")
            .map(Value::items)
            .unwrap_or_default()
            .iter()
            .filter_map(|r| text_at(r, "match"))
            .flat_map(|m| m.split("Host(").skip(1))
            .filter_map(|rest| rest.split(')').next())
            .flat_map(|names| names.split(','))
            .map(|name| name.trim().trim_matches(['`', '"', '\'']).to_string())
            .collect(),
        _ => BTreeSet::new(),
    }
}

/// What serves a route: its class, or its gateways.
fn served_by(object: &Object) -> BTreeSet<String> {
    let mut out = BTreeSet::new();
    match object.kind() {
        "Ingress" => out.extend(
            text_at(&object.value, "spec.ingressClassName")
                .or_else(|| object.annotation("kubernetes.io/ingress.class"))
                .map(|c| format!("class {c}")),
        ),
        _ => {
            for parent in at(&object.value, "spec.parentRefs").map(Value::items).unwrap_or_default() {
                let part = |field: &str| text_at(parent, field).unwrap_or_default();
                let section =
                    if part("sectionName").is_empty() { String::new() } else { format!(" {}", part("sectionName")) };
                out.insert(format!("gateway {}{section}", part("name")));
            }
        }
    }
    out
}

fn routes(found: &mut Found<'_>, subject: &Subject<'_>) {
    let Some(new) = subject.pair.head.map(|h| h.object) else { return };
    let after = hosts(new);
    if after.is_empty() {
        return;
    }
    let own = subject.pair.base.map(|b| hosts(b.object)).unwrap_or_default();
    let mut more: Vec<String> = after.difference(&own).cloned().collect();
    if !more.is_empty() {
        // A host that something else answered at before is not new.
        let input = found.input;
        let before = found
            .base_hosts
            .get_or_insert_with(|| input.base.plan.units.iter().flat_map(|u| &u.objects).flat_map(hosts).collect());
        more.retain(|host| !before.contains(host));
    }
    if !more.is_empty() {
        let by: Vec<String> = served_by(new).into_iter().collect();
        let by = if by.is_empty() { String::new() } else { format!(", by {}", by.join(" and ")) };
        found.pair("host-added", &subject.pair, format!("new host {}{by}", some_of(&more)));
    }
    let Some((old, new)) = subject.both() else { return };
    let (from, to) = (served_by(old), served_by(new));
    if !to.is_subset(&from) && !from.is_empty() {
        let words = |s: &BTreeSet<String>| s.iter().cloned().collect::<Vec<_>>().join(" and ");
        found.pair("route-moved", &subject.pair, format!("served by {} (was {})", words(&to), words(&from)));
    }
    let guards = |o: &Object| -> BTreeSet<String> {
        at(&o.value, "metadata.annotations")
            .and_then(Value::as_map)
            .into_iter()
            .flat_map(|m| m.keys())
            .filter(|k| GUARDS.iter().any(|g| k.ends_with(g)))
            .map(ToString::to_string)
            .collect()
    };
    let gone: Vec<String> = guards(old).difference(&guards(new)).cloned().collect();
    if !gone.is_empty() {
        found
            .pair("auth-removed", &subject.pair, format!("{} removed", some_of(&gone)))
            .map(|d| d.field("metadata.annotations"));
    }
    let secure = |o: &Object| -> BTreeSet<String> {
        at(&o.value, "spec.tls").map(Value::items).unwrap_or_default().iter().flat_map(|t| texts(t, "hosts")).collect()
    };
    let open: Vec<String> = secure(old).difference(&secure(new)).filter(|h| after.contains(*h)).cloned().collect();
    if !open.is_empty() {
        found
            .pair("tls-removed", &subject.pair, format!("{} loses its certificate", some_of(&open)))
            .map(|d| d.field("spec.tls"));
    }
}

fn policies(found: &mut Found<'_>, subject: &Subject<'_>) {
    if !POLICIES.iter().any(|(group, kind)| subject.is(group, &[kind])) {
        return;
    }
    if let Some(gone) = subject.deleted() {
        // With its unit go the pods it was about.
        if found.input.head.unit(&gone.unit.id).is_some() {
            found.object("network-policy-removed", gone, format!("{} is deleted", gone.object.key()));
        }
    }
    let Some((old, new)) = subject.both() else { return };
    widened(found, subject, old, new);
    if !subject.is("networking.k8s.io", &["NetworkPolicy"]) {
        return;
    }
    let gone: Vec<String> =
        texts(&old.value, "spec.policyTypes").difference(&texts(&new.value, "spec.policyTypes")).cloned().collect();
    if !gone.is_empty() {
        let title = format!("no longer restricts {}", some_of(&gone));
        found.pair("network-policy-removed", &subject.pair, title).map(|d| d.field("spec.policyTypes"));
    }
}

/// Peers that a policy lets through and did not: each rule lets each of its peers through, on each of its ports.
fn widened(found: &mut Found<'_>, subject: &Subject<'_>, old: &Object, new: &Object) {
    // Of others, what a rule means depends on an order or an action.
    if !subject.is("networking.k8s.io", &["NetworkPolicy"]) && !subject.is("cilium.io", &["CiliumNetworkPolicy"]) {
        return;
    }
    // Another selector is another danger; what is let through is then about other pods.
    let (before, after) = (allowed(old), allowed(new));
    let covers = |a: &Allowed, b: &Allowed| {
        let wide = |a: &str, b: &str| a == ANY || a == b;
        a.of == b.of && a.way == b.way && wide(&a.peer, &b.peer) && wide(&a.port, &b.port)
    };
    let more: BTreeSet<String> = after
        .iter()
        .filter(|a| before.iter().any(|b| b.of == a.of) && !before.iter().any(|b| covers(b, a)))
        .map(|a| {
            let port = if a.port == ANY { "every port" } else { &a.port };
            format!("{} {}, {port}", if a.way == "ingress" { "from" } else { "to" }, a.peer)
        })
        .collect();
    if !more.is_empty() {
        let more: Vec<String> = more.into_iter().collect();
        let title = format!("lets more through: {}", some_of(&more));
        found.pair("network-policy-widened", &subject.pair, title).map(|d| d.field("spec"));
    }
}

const ANY: &str = "anywhere";

/// What a policy lets through: for whom, in or out, which peer, on which port.
struct Allowed {
    of: String,
    way: &'static str,
    peer: String,
    port: String,
}

fn allowed(policy: &Object) -> Vec<Allowed> {
    let json = |v: Option<&Value>| v.map(druse_object::json::to_string).unwrap_or_default();
    let mut out = Vec::new();
    let value = &policy.value;
    let one = at(value, "spec").into_iter();
    for spec in one.chain(at(value, "specs").map(Value::items).unwrap_or_default()) {
        let of = json(spec.get("podSelector").or(spec.get("endpointSelector")));
        for way in ["ingress", "egress"] {
            for rule in spec.get(way).map(Value::items).unwrap_or_default() {
                let mut peers = Vec::new();
                let mut ports = Vec::new();
                for (key, v) in rule.as_map().into_iter().flat_map(|m| m.iter()) {
                    match key.as_str() {
                        "from" | "to" => peers.extend(v.items().iter().map(|p| json(Some(p)))),
                        "ports" => ports.extend(v.items().iter().map(|p| json(Some(p)))),
                        "toPorts" => ports.extend(v.items().iter().flat_map(|p| {
                            let rules = json(p.get("rules"));
                            p.get("ports")
                                .map(Value::items)
                                .unwrap_or_default()
                                .iter()
                                .map(move |p| json(Some(p)) + &rules)
                        })),
                        key => peers.extend(v.items().iter().map(|p| format!("{key} {}", json(Some(p))))),
                    }
                }
                // Saying nothing says anyone, and every port.
                let or_any = |list: Vec<String>| if list.is_empty() { vec![ANY.to_string()] } else { list };
                let (peers, ports) = (or_any(peers), or_any(ports));
                for peer in &peers {
                    let allowed =
                        |port: &String| Allowed { of: of.clone(), way, peer: peer.clone(), port: port.clone() };
                    out.extend(ports.iter().map(allowed));
                }
            }
        }
    }
    out
}

fn selectors(found: &mut Found<'_>, subject: &Subject<'_>) {
    let Some((old, new)) = subject.both() else { return };
    let field = match (new.gvk().group.as_str(), new.kind()) {
        ("", "Service") | ("policy", "PodDisruptionBudget") => "spec.selector",
        ("networking.k8s.io", "NetworkPolicy") => "spec.podSelector",
        ("cilium.io", "CiliumNetworkPolicy" | "CiliumClusterwideNetworkPolicy") => "spec.endpointSelector",
        ("monitoring.coreos.com", "ServiceMonitor" | "PodMonitor") => "spec.selector",
        _ => return,
    };
    let (from, to) = (at(&old.value, field), at(&new.value, field));
    if from != to {
        let title = format!("{field} changes {}", change(from, to));
        found.pair("selector-changed", &subject.pair, title).map(|d| d.field(field));
    }
}
