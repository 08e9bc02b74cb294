//! Warnings about pods and their templates (`pkg/api/pod/warnings.go`, `pkg/api/node/util.go`).

use druse_object::Value;

use super::{Warnings, ip};
use crate::field::go_quote;
use crate::validate::At;
use crate::validate::names::label_value_errors;
use crate::validate::security::{APPARMOR, SECCOMP_CONTAINER, SECCOMP_POD, each_container};

/// What a node's label that is out of use is to be replaced by.
pub(super) fn old_label(key: &str) -> Option<&'static str> {
    Some(match key {
        "beta.kubernetes.io/arch" => "deprecated since v1.14; use \"kubernetes.io/arch\" instead",
        "beta.kubernetes.io/os" => "deprecated since v1.14; use \"kubernetes.io/os\" instead",
        "failure-domain.beta.kubernetes.io/region" => {
            "deprecated since v1.17; use \"topology.kubernetes.io/region\" instead"
        }
        "failure-domain.beta.kubernetes.io/zone" => {
            "deprecated since v1.17; use \"topology.kubernetes.io/zone\" instead"
        }
        "beta.kubernetes.io/instance-type" => {
            "deprecated since v1.17; use \"node.kubernetes.io/instance-type\" instead"
        }
        "app.kubernetes.io/created-by" => "deprecated since v1.9",
        "scheduler.alpha.kubernetes.io/preferAvoidPods" => "deprecated since v1.22; use Taints and Tolerations instead",
        "node-role.kubernetes.io/master" => "use \"node-role.kubernetes.io/control-plane\" instead",
        _ => return None,
    })
}

/// A term that selects nodes.
pub(super) fn node_term(term: &At<'_, '_>, values_too: bool, out: &mut Warnings) {
    for e in term.child("matchExpressions").items() {
        let key = e.child("key");
        if let Some(why) = old_label(key.text()) {
            out.push(format!("{}: {} is {why}", key.path(), key.text()));
        }
        if values_too {
            for v in e.child("values").items() {
                for why in label_value_errors(v.text()) {
                    out.push(format!("{}: {} is invalid, {why}", v.path(), v.text()));
                }
            }
        }
    }
}

/// A pod, or a template at its place.
pub(super) fn pod(pod: &At<'_, '_>, out: &mut Warnings) {
    let spec = pod.child("spec");
    let metadata = pod.child("metadata");
    let annotations = metadata.child("annotations");
    nodes(&spec, out);
    for (key, why) in [
        ("scheduler.alpha.kubernetes.io/critical-pod", "non-functional in v1.16+; use the \"priorityClassName\" field"),
        ("security.alpha.kubernetes.io/sysctls", "non-functional in v1.11+; use the \"sysctls\" field"),
        ("security.alpha.kubernetes.io/unsafe-sysctls", "non-functional in v1.11+; use the \"sysctls\" field"),
    ] {
        if annotations.value().get(key).is_some() {
            out.push(format!("{}: {why} instead", annotations.entry(key).path()));
        }
    }
    volumes(&spec, out);
    twice(&spec, "hostAliases", "ip", out);
    twice(&spec, "imagePullSecrets", "name", out);
    for s in spec.child("imagePullSecrets").items().filter(|s| s.text_of("name").is_empty()) {
        out.push(format!("{}: invalid empty name \"\"", s.child("name").path()));
    }
    let overhead = spec.child("overhead");
    for resource in ["memory", "ephemeral-storage"] {
        fraction(&overhead.entry(resource), overhead.value().get(resource), out);
    }
    let profile = |of: &At<'_, '_>, what: &str| of.value().at(["securityContext", what]).is_some();
    let seccomp = |key: &str, out: &mut Warnings| {
        if annotations.value().get(key).is_some() {
            let place = annotations.entry(key).path();
            out.push(format!("{place}: non-functional in v1.27+; use the \"seccompProfile\" field instead"));
        }
    };
    if !profile(&spec, "seccompProfile") {
        seccomp(SECCOMP_POD, out);
    }
    each_container(&spec, |c| {
        let name = c.text_of("name");
        if !profile(c, "seccompProfile") {
            seccomp(&format!("{SECCOMP_CONTAINER}{name}"), out);
        }
        let key = format!("{APPARMOR}{name}");
        let asked = annotations.value().get(&key).is_some();
        if asked && !profile(c, "appArmorProfile") && !profile(&spec, "appArmorProfile") {
            let place = annotations.entry(&key).path();
            out.push(format!("{place}: deprecated since v1.30; use the \"appArmorProfile\" field instead"));
        }
        let resources = c.child("resources");
        for resource in ["memory", "ephemeral-storage"] {
            for side in ["limits", "requests"] {
                let side = resources.child(side);
                fraction(&side.entry(resource), side.value().get(resource), out);
            }
        }
        hidden_env(c, out);
    });
    ports(&spec, out);
    let grace = spec.child("terminationGracePeriodSeconds");
    if grace.int().is_some_and(|n| n < 0) {
        out.push(format!("{}: must be >= 0; negative values are invalid and will be treated as 1", grace.path()));
    }
    let affinity = spec.child("affinity");
    for kind in ["podAffinity", "podAntiAffinity"] {
        let kind = affinity.child(kind);
        for t in kind.child("requiredDuringSchedulingIgnoredDuringExecution").items() {
            no_selector(&t, out);
        }
        for t in kind.child("preferredDuringSchedulingIgnoredDuringExecution").items() {
            no_selector(&t.child("podAffinityTerm"), out);
        }
    }
    for ns in spec.child("dnsConfig").child("nameservers").items() {
        ip(&ns, out);
    }
    for a in spec.child("hostAliases").items() {
        ip(&a.child("ip"), out);
    }
}

fn nodes(spec: &At<'_, '_>, out: &mut Warnings) {
    for (key, at) in spec.child("nodeSelector").entries() {
        if let Some(why) = old_label(key) {
            out.push(format!("{}: {why}", at.path()));
        }
    }
    let affinity = spec.child("affinity");
    let affinity = affinity.child("nodeAffinity");
    let required = affinity.child("requiredDuringSchedulingIgnoredDuringExecution");
    for t in required.child("nodeSelectorTerms").items() {
        node_term(&t, false, out);
    }
    for t in affinity.child("preferredDuringSchedulingIgnoredDuringExecution").items() {
        node_term(&t.child("preference"), true, out);
    }
    for t in spec.child("topologySpreadConstraints").items() {
        let key = t.child("topologyKey");
        if let Some(why) = old_label(key.text()) {
            out.push(format!("{}: {} is {why}", key.path(), key.text()));
        }
        no_selector(&t, out);
    }
}

fn no_selector(term: &At<'_, '_>, out: &mut Warnings) {
    let selector = term.child("labelSelector");
    if !selector.is_given() {
        out.push(format!("{}: a null labelSelector results in matching no pod", selector.path()));
    }
}

fn volumes(spec: &At<'_, '_>, out: &mut Warnings) {
    for v in spec.child("volumes").items() {
        for (kind, why) in [
            ("photonPersistentDisk", "deprecated in v1.11, non-functional in v1.16+"),
            ("gitRepo", "deprecated in v1.11, and disabled by default in v1.33+"),
            ("scaleIO", "deprecated in v1.16, non-functional in v1.22+"),
            ("flocker", "deprecated in v1.22, non-functional in v1.25+"),
            ("storageos", "deprecated in v1.22, non-functional in v1.25+"),
            ("quobyte", "deprecated in v1.22, non-functional in v1.25+"),
            ("glusterfs", "deprecated in v1.25, non-functional in v1.26+"),
        ] {
            if v.get(kind).is_some() {
                let name = if kind == "storageos" { "storageOS" } else { kind };
                out.push(format!("{}: {why}", v.child_as(kind, name).path()));
            }
        }
        let ephemeral = v.child("ephemeral");
        let template = ephemeral.child("volumeClaimTemplate");
        claim(&template.child("spec"), out);
        for kind in ["cephfs", "rbd"] {
            if let Some(at) = v.get(kind) {
                out.push(format!("{}: deprecated in v1.28, non-functional in v1.31+", at.path()));
            }
        }
    }
    for v in spec.child("volumes").items() {
        overlaps(&v, out);
    }
}

/// The spec of a claim.
pub(super) fn claim(spec: &At<'_, '_>, out: &mut Warnings) {
    let resources = spec.child("resources");
    for side in ["requests", "limits"] {
        let side = resources.child(side);
        fraction(&side.entry("storage"), side.value().get("storage"), out);
    }
}

fn fraction(place: &At<'_, '_>, amount: Option<&Value>, out: &mut Warnings) {
    let Some(q) = amount.and_then(druse_object::Quantity::of) else { return };
    // Upstream looks at thousandths, rounded up.
    let whole = q.rounded_to_milli().approximate().fract() == 0.0;
    if !whole {
        let text = amount.and_then(Value::as_str).unwrap_or_default();
        out.push(format!("{}: fractional byte value {} is invalid, must be an integer", place.path(), go_quote(text)));
    }
}

/// A file of a volume and what it comes from.
#[derive(PartialEq)]
struct Source {
    path: String,
    from: String,
}

impl Source {
    fn shown(&self) -> String {
        let path = go_quote(&self.path);
        if self.from.is_empty() { path } else { format!("{path} ({})", self.from) }
    }
}

/// Files of one volume that lie where others do, or below.
fn overlaps(volume: &At<'_, '_>, out: &mut Warnings) {
    let name = go_quote(volume.text_of("name"));
    let items = |of: &Value, from: &str| -> Vec<Source> {
        let paths = of["items"].items().iter().filter_map(|i| i.str_at(["path"]));
        paths.map(|p| Source { path: p.to_owned(), from: from.to_owned() }).collect()
    };
    let named = |kind: &str, name: &Value| format!("{kind} {}", go_quote(name.as_str().unwrap_or_default()));
    let v = volume.value();
    let mut look = |what: &str, sources: Vec<Source>| {
        let mut seen: Vec<Source> = Vec::new();
        for mut s in sources {
            s.path.truncate(s.path.trim_end_matches('/').len());
            if !s.path.is_empty() {
                let (a, below) = (format!("{}/", s.path), |a: &str, b: &str| a.starts_with(b));
                for o in seen.iter().filter(|o| !o.path.is_empty()) {
                    let b = format!("{}/", o.path);
                    if below(&a, &b) || below(&b, &a) {
                        let (s, o) = (s.shown(), o.shown());
                        out.push(format!("volume {name} ({what}): overlapping paths: {s} with {o}"));
                    }
                }
            }
            seen.push(s);
        }
    };
    look(&named("ConfigMap", &v["configMap"]["name"]), items(&v["configMap"], ""));
    look(&named("Secret", &v["secret"]["secretName"]), items(&v["secret"], ""));
    look("DownwardAPI", items(&v["downwardAPI"], ""));
    let mut all = Vec::new();
    let mut empty = Vec::new();
    for source in v["projected"]["sources"].items() {
        let Some((kind, s)) = source.as_map().and_then(|m| m.iter().find(|(_, v)| !v.is_null())) else {
            empty.push(format!("volume {name} (Projected) has no sources provided"));
            continue;
        };
        let one = |field: &str, from: String| {
            let path = s.str_at([field]).filter(|p| !p.is_empty() || field == "path").unwrap_or_default();
            Source { path: path.to_owned(), from }
        };
        match kind.as_str() {
            "configMap" => all.extend(items(s, &named("ConfigMap", &s["name"]))),
            "secret" => all.extend(items(s, &named("Secret", &s["name"]))),
            "downwardAPI" => all.extend(items(s, "DownwardAPI")),
            "serviceAccountToken" => all.push(one("path", "ServiceAccountToken".into())),
            "clusterTrustBundle" => {
                let name = if s["name"].is_null() { &s["signerName"] } else { &s["name"] };
                all.push(one("path", named("ClusterTrustBundle", name)));
            }
            "podCertificate" => {
                for (field, what) in [
                    ("certificateChainPath", "chain"),
                    ("keyPath", "key"),
                    ("credentialBundlePath", "credential bundle"),
                ] {
                    all.push(one(field, format!("PodCertificate {what}")));
                }
            }
            _ => {}
        }
    }
    look("Projected", all);
    out.extend(empty);
}

/// Items of a list that say again what an earlier one says in this field.
fn twice(spec: &At<'_, '_>, list: &str, field: &str, out: &mut Warnings) {
    let list = spec.child(list);
    let mut seen: Vec<&str> = Vec::new();
    for item in list.items() {
        let text = item.text_of(field);
        if seen.contains(&text) {
            out.push(format!("{}: duplicate {field} {}", item.child(field).path(), go_quote(text)));
        } else {
            seen.push(text);
        }
    }
}

fn hidden_env(container: &At<'_, '_>, out: &mut Warnings) {
    let mut seen: Vec<&str> = Vec::new();
    for e in container.child("env").items() {
        let (name, value) = (e.text_of("name"), e.text_of("value"));
        if !seen.contains(&name) {
            seen.push(name);
            continue;
        }
        // A value that builds on the one before hides nothing.
        let reference = format!("$({name})");
        if e.get("valueFrom").is_some() || value == reference || !value.contains(&reference) {
            let name = go_quote(name);
            out.push(format!(
                "{}: hides previous definition of {name}, which may be dropped when using apply",
                e.path()
            ));
        }
    }
}

struct Port {
    path: String,
    number: i64,
    protocol: String,
    host_ip: String,
    host: i64,
}

fn ports(spec: &At<'_, '_>, out: &mut Warnings) {
    let mut seen: Vec<Port> = Vec::new();
    each_container(spec, |c| {
        for p in c.child("ports").items() {
            let port = Port {
                path: p.path(),
                number: p.int_of("containerPort"),
                protocol: p.text_of("protocol").to_owned(),
                host_ip: p.text_of("hostIP").to_owned(),
                host: p.int_of("hostPort"),
            };
            if !port.host_ip.is_empty() && port.host == 0 {
                // Go's words for the whole port.
                out.push(format!(
                    "{}: hostIP set without hostPort: {{Name:{} HostPort:0 ContainerPort:{} Protocol:{} HostIP:{}}}",
                    port.path,
                    p.text_of("name"),
                    port.number,
                    port.protocol,
                    port.host_ip
                ));
            }
            for o in seen.iter().filter(|o| o.number == port.number && o.protocol == port.protocol) {
                let how = if port.host_ip == o.host_ip && port.host == o.host {
                    "duplicate"
                } else if port.host == 0 || o.host == 0 {
                    "overlapping"
                } else if port.host == o.host && port.host_ip.is_empty() != o.host_ip.is_empty() {
                    "dangerously ambiguous"
                } else {
                    continue;
                };
                out.push(format!("{}: {how} port definition with {}", port.path, o.path));
            }
            seen.push(port);
        }
    });
    let mut names: Vec<(String, String)> = Vec::new();
    each_container(spec, |c| {
        for p in c.child("ports").items() {
            let name = p.text_of("name");
            if name.is_empty() {
                continue;
            }
            match names.iter().find(|(n, _)| n == name) {
                Some((_, other)) => out.push(format!(
                    "{}: duplicate port name {} with {other}, services and probes that select ports by name will use {other}",
                    p.path(),
                    go_quote(name)
                )),
                None => names.push((name.to_owned(), p.path())),
            }
        }
    });
}
