//! Defaults of built-in kinds: a table by type, and the few that depend on something.
//!
//! Types are visited from the outside in, as upstream's generated defaulters do. A field counts as unset when it is
//! absent: decoding has dropped the zero values of fields that are not pointers.

use std::collections::HashMap;
use std::sync::LazyLock;

use druse_object::{Gvk, Map, Value};

use super::resources::{names_in, total};
use crate::schema::{Node, Shape, Slot};

static TABLE: LazyLock<HashMap<String, Map>> = LazyLock::new(|| {
    let parsed = druse_object::json::parse(include_bytes!("../../data/defaults.json")).unwrap_or_default();
    let Value::Map(types) = parsed else { return HashMap::new() };
    types.into_iter().filter_map(|(k, v)| Some((k.to_string(), v.as_map()?.clone()))).collect()
});

const MAX_DEPTH: usize = 100;

/// Fills in everything upstream's defaulters fill in for this kind. `value` is decoded.
pub fn default_object(gvk: &Gvk, value: &mut Value) {
    let Some(slot) = crate::schema::builtin_slot(gvk) else { return };
    visit(value, slot.node(), 0);
}

fn visit(value: &mut Value, node: &Node, depth: usize) {
    if depth > MAX_DEPTH {
        return;
    }
    if let Some(name) = &node.name {
        if let (Some(defaults), Value::Map(map)) = (TABLE.get(name.as_str()), &mut *value) {
            fill(map, defaults);
        }
        conditional(name, value);
    }
    match value {
        Value::Map(map) => {
            for (key, v) in map.iter_mut() {
                if let Some(slot) = node.child(key)
                    && reaches_struct(slot)
                {
                    visit(v, slot.node(), depth + 1);
                }
            }
        }
        Value::Array(items) => {
            if let Some(slot) = &node.items
                && reaches_struct(slot)
            {
                items.iter_mut().for_each(|v| visit(v, slot.node(), depth + 1));
            }
        }
        _ => {}
    }
}

fn reaches_struct(slot: &Slot) -> bool {
    matches!(slot.node().shape, Shape::Object | Shape::List)
}

/// Sets what is absent; goes into maps that are there.
fn fill(map: &mut Map, defaults: &Map) {
    for (key, default) in defaults.iter() {
        match (map.get_mut(key), default) {
            (None | Some(Value::Null), _) => {
                map.insert(key.clone(), default.clone());
            }
            (Some(Value::Map(inner)), Value::Map(d)) => fill(inner, d),
            _ => {}
        }
    }
}

fn set(value: &mut Value, key: &str, to: impl Into<Value>) {
    if let Some(map) = value.as_map_mut()
        && map.get(key).is_none_or(Value::is_null)
    {
        map.insert(key, to);
    }
}

/// The pull policy an image's tag asks for.
fn pull_policy(image: &str) -> &'static str {
    // What names no image has no tag that could be the latest.
    if !names_image(image) {
        return "IfNotPresent";
    }
    let name = image.split('@').next().unwrap_or_default();
    let digest = image.contains('@');
    let tag = name.rsplit('/').next().and_then(|last| last.split_once(':')).map(|(_, t)| t);
    match tag {
        Some("latest") => "Always",
        None if !digest => "Always",
        _ => "IfNotPresent",
    }
}

/// Whether this is a reference to an image (`github.com/distribution/reference`): where it is, its name, a tag and a
/// digest.
fn names_image(image: &str) -> bool {
    let (rest, digest) = image.split_once('@').map_or((image, None), |(rest, digest)| (rest, Some(digest)));
    let (path, tag) = match rest.rsplit_once(':') {
        Some((path, tag)) if !tag.contains('/') => (path, Some(tag)),
        _ => (rest, None),
    };
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let is_tag = |t: &str| {
        t.len() <= 128 && t.bytes().next().is_some_and(word) && t.bytes().all(|b| word(b) || b == b'.' || b == b'-')
    };
    let is_digest = |d: &str| {
        d.split_once(':').is_some_and(|(kind, hex)| {
            !kind.is_empty() && hex.len() >= 32 && hex.bytes().all(|b| b.is_ascii_hexdigit())
        })
    };
    let is_host = |h: &str| h.contains(['.', ':']) || h == "localhost" || h.bytes().any(|b| b.is_ascii_uppercase());
    let path = match path.split_once('/') {
        Some((host, path)) if is_host(host) => path,
        _ => path,
    };
    tag.is_none_or(is_tag) && digest.is_none_or(is_digest) && path.len() <= 255 && path.split('/').all(is_path_part)
}

/// Lowercase letters and digits, with a dot, one or two underscores or any number of dashes between them.
fn is_path_part(part: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let ends = |b: Option<u8>| b.is_some_and(plain);
    ends(part.bytes().next())
        && ends(part.bytes().last())
        && part
            .split(|c: char| c.is_ascii() && plain(c as u8))
            .all(|between| matches!(between, "" | "." | "_" | "__") || between.bytes().all(|b| b == b'-'))
}

/// Defaults of numbers for which Go does not tell 0 from nothing.
fn unset_zero(value: &mut Value, defaults: &[(&str, i64)]) {
    let Some(m) = value.as_map_mut() else { return };
    for (key, n) in defaults {
        if m.get(key).is_none_or(|v| v.is_null() || v.as_i64() == Some(0)) {
            m.insert(*key, *n);
        }
    }
}

/// A node's first range, in its old field and its new one; the old one is believed where they differ
/// (`pkg/apis/core/v1/conversion.go`).
pub(crate) fn pod_range(spec: &mut Map) {
    let first = spec.get("podCIDRs").and_then(|l| l.items().first()).cloned();
    let one = spec.get("podCIDR").filter(|v| v.as_str().is_some_and(|t| !t.is_empty())).cloned();
    match (one, first) {
        (Some(one), first) if first.as_ref() != Some(&one) => {
            spec.insert("podCIDRs", Value::Array(vec![one]));
        }
        (None, Some(first)) => {
            spec.insert("podCIDR", first);
        }
        _ => {}
    }
}

fn conditional(name: &str, value: &mut Value) {
    let Some(short) =
        name.strip_prefix("io.k8s.api.").or_else(|| name.strip_prefix("io.k8s.apiextensions-apiserver.pkg.apis."))
    else {
        return;
    };
    match short {
        "core.v1.Container" | "core.v1.EphemeralContainer" => {
            let policy = pull_policy(value.str_at(["image"]).unwrap_or_default());
            set(value, "imagePullPolicy", policy);
        }
        "resource.v1.ExactDeviceRequest" | "resource.v1.DeviceSubRequest" => {
            if value.str_at(["allocationMode"]).is_none_or(str::is_empty)
                && let Some(m) = value.as_map_mut()
            {
                m.insert("allocationMode", "ExactCount");
            }
            if value.str_at(["allocationMode"]) == Some("ExactCount") {
                unset_zero(value, &[("count", 1)]);
            }
        }
        "resource.v1.DeviceToleration" => {
            if value.str_at(["operator"]).is_none_or(str::is_empty)
                && let Some(m) = value.as_map_mut()
            {
                m.insert("operator", "Equal");
            }
        }
        "resource.v1.DeviceTaint" => set(value, "timeAdded", crate::server::now()),
        "flowcontrol.v1.FlowSchemaSpec" => unset_zero(value, &[("matchingPrecedence", 1000)]),
        "flowcontrol.v1.QueuingConfiguration" => {
            unset_zero(value, &[("handSize", 8), ("queues", 64), ("queueLengthLimit", 50)]);
        }
        "core.v1.NodeSpec" => {
            if let Some(spec) = value.as_map_mut() {
                pod_range(spec);
            }
        }
        "core.v1.ImageVolumeSource" => {
            let policy = pull_policy(value.str_at(["reference"]).unwrap_or_default());
            set(value, "pullPolicy", policy);
        }
        "core.v1.Volume" if value.as_map().is_some_and(|m| m.keys().all(|k| k == "name")) => {
            set(value, "emptyDir", Map::new());
        }
        "core.v1.Pod" => pod(value),
        "core.v1.PodStatus" => pod_addresses(value),
        "batch.v1.PodFailurePolicyOnPodConditionsPattern" if value.str_at(["status"]) == Some("") => {
            if let Some(m) = value.as_map_mut() {
                m.insert("status", "True");
            }
        }
        "core.v1.PodSpec" => {
            // One account under two names: the old name follows the new one.
            let name = ["serviceAccountName", "serviceAccount"]
                .iter()
                .find_map(|k| value.str_at([k]).filter(|s| !s.is_empty()));
            if let (Some(name), Some(map)) = (name.map(str::to_string), value.as_map_mut()) {
                map.insert("serviceAccountName", name.as_str());
                map.insert("serviceAccount", name);
            }
        }
        "core.v1.Secret" => {
            use base64::Engine;
            if let Some(Value::Map(plain)) = value.as_map_mut().and_then(|m| m.remove("stringData"))
                && let Some(data) = value.make_map_at(["data"])
            {
                for (k, v) in plain {
                    data.insert(k, base64::engine::general_purpose::STANDARD.encode(v.as_str().unwrap_or_default()));
                }
            }
        }
        "apps.v1.StatefulSetSpec" => {
            for claim in value.get_mut("volumeClaimTemplates").and_then(Value::as_array_mut).into_iter().flatten() {
                // Whatever they say that they are.
                if let Some(claim) = claim.as_map_mut() {
                    claim.insert("apiVersion", "v1");
                    claim.insert("kind", "PersistentVolumeClaim");
                }
            }
        }
        "core.v1.Namespace" => {
            let name = value.str_at(["metadata", "name"]).unwrap_or_default().to_string();
            if !name.is_empty()
                && let Some(labels) = value.make_map_at(["metadata", "labels"])
            {
                labels.insert("kubernetes.io/metadata.name", name);
            }
        }
        "core.v1.Service" => service(value),
        "core.v1.NodeStatus" => {
            if let Some(capacity) = value.get("capacity").cloned() {
                set(value, "allocatable", capacity);
            }
        }
        "core.v1.LimitRangeItem" if value.str_at(["type"]) == Some("Container") => limit_range(value),
        "core.v1.ReplicationController" => {
            let labels = value.at(["spec", "template", "metadata", "labels"]).cloned();
            if let Some(labels) = labels {
                if let Some(spec) = value.get_mut("spec") {
                    set(spec, "selector", labels.clone());
                }
                inherit_labels(value, labels);
            }
        }
        "apps.v1.DeploymentStrategy" if value.str_at(["type"]) == Some("RollingUpdate") => {
            set(value, "rollingUpdate", Map::new());
            if let Some(r) = value.get_mut("rollingUpdate") {
                set(r, "maxUnavailable", "25%");
                set(r, "maxSurge", "25%");
            }
        }
        "apps.v1.DaemonSetUpdateStrategy" if value.str_at(["type"]) == Some("RollingUpdate") => {
            set(value, "rollingUpdate", Map::new());
            if let Some(r) = value.get_mut("rollingUpdate") {
                set(r, "maxUnavailable", 1);
                set(r, "maxSurge", 0);
            }
        }
        "apps.v1.StatefulSetUpdateStrategy" => {
            if value.get("type").is_none() {
                set(value, "type", "RollingUpdate");
                set(value, "rollingUpdate", Map::new());
            }
            if value.str_at(["type"]) == Some("RollingUpdate")
                && let Some(r) = value.get_mut("rollingUpdate")
            {
                set(r, "partition", 0);
            }
        }
        "batch.v1.Job" => job(value),
        "batch.v1.JobTemplateSpec" => {}
        "networking.v1.NetworkPolicySpec" if value.get("policyTypes").is_none_or(|v| v.items().is_empty()) => {
            let mut types = vec![Value::from("Ingress")];
            if value.get("egress").is_some_and(|v| !v.items().is_empty()) {
                types.push("Egress".into());
            }
            if let Some(m) = value.as_map_mut() {
                m.insert("policyTypes", types);
            }
        }
        "rbac.v1.RoleRef" if value.str_at(["apiGroup"]).unwrap_or_default().is_empty() => {
            if let Some(m) = value.as_map_mut() {
                m.insert("apiGroup", "rbac.authorization.k8s.io");
            }
        }
        "rbac.v1.Subject" if matches!(value.str_at(["kind"]), Some("User" | "Group")) => {
            set(value, "apiGroup", "rbac.authorization.k8s.io");
        }
        "autoscaling.v2.HorizontalPodAutoscalerSpec" => hpa(value),
        "apiextensions.v1.CustomResourceDefinition" => crate::crd::default_crd(value),
        _ => {}
    }
}

fn inherit_labels(value: &mut Value, labels: Value) {
    if let Some(meta) = value.make_map_at(["metadata"])
        && meta.get("labels").and_then(Value::as_map).is_none_or(Map::is_empty)
    {
        meta.insert("labels", labels);
    }
}

fn pod(value: &mut Value) {
    if let Some(spec) = value.get_mut("spec").and_then(Value::as_map_mut)
        && spec.get("terminationGracePeriodSeconds").and_then(Value::as_i64).is_some_and(|n| n < 0)
    {
        spec.insert("terminationGracePeriodSeconds", 1i64);
    }
    let host_network = value.at(["spec", "hostNetwork"]).and_then(Value::as_bool) == Some(true);
    for list in ["containers", "initContainers"] {
        let Some(items) = value.get_mut("spec").and_then(|s| s.get_mut(list)).and_then(Value::as_array_mut) else {
            continue;
        };
        for c in items {
            if let Some(Value::Map(limits)) = c.at(["resources", "limits"]).cloned()
                && let Some(requests) = c.make_map_at(["resources", "requests"])
            {
                for (k, v) in limits {
                    if !requests.contains_key(&k) {
                        requests.insert(k, v);
                    }
                }
            }
            if host_network {
                for port in c.get_mut("ports").and_then(Value::as_array_mut).into_iter().flatten() {
                    if let Some(n) = port.get("containerPort").cloned() {
                        set(port, "hostPort", n);
                    }
                }
            }
        }
    }
    pod_requests(value);
}

/// A pod that asks for something as a whole asks for what its containers do, or what it is limited to.
fn pod_requests(value: &mut Value) {
    let Some(spec) = value.get("spec") else { return };
    let Some(own) = spec.get("resources").filter(|r| !r.is_null()) else { return };
    let amounts = |what: &str| own.get(what).and_then(Value::as_map).cloned().unwrap_or_default();
    let (mut limits, mut requests) = (amounts("limits"), amounts("requests"));
    let huge = |name: &str| name.starts_with("hugepages-");
    if limits.is_empty() && requests.is_empty() {
        return;
    }
    for name in names_in(spec, "limits").into_iter().filter(|n| huge(n)) {
        if let Some(sum) = total(spec, "limits", name).filter(|_| !requests.contains_key(name))
            && !limits.contains_key(name)
        {
            limits.insert(name, sum.to_string());
        }
    }
    if !limits.is_empty() {
        for name in names_in(spec, "requests").into_iter().filter(|n| matches!(*n, "cpu" | "memory")) {
            if let Some(sum) = total(spec, "requests", name).filter(|_| !requests.contains_key(name)) {
                requests.insert(name, sum.to_string());
            }
        }
        for (name, limit) in limits.iter() {
            if (huge(name) || matches!(&**name, "cpu" | "memory")) && !requests.contains_key(name) {
                requests.insert(name.clone(), limit.clone());
            }
        }
    }
    for (what, list) in [("limits", limits), ("requests", requests)] {
        if let Some(m) = value.make_map_at(["spec", "resources"]).filter(|_| !list.is_empty()) {
            m.insert(what, list);
        }
    }
}

/// A pod's address is the first of its addresses; a client that knows only the one is right about it.
fn pod_addresses(status: &mut Value) {
    let single = status.str_at(["podIP"]).unwrap_or_default().to_owned();
    let first = status.get("podIPs").and_then(|l| l.items().first()).and_then(|a| a.str_at(["ip"])).map(str::to_owned);
    let Some(m) = status.as_map_mut() else { return };
    match first {
        Some(first) if single.is_empty() => _ = m.insert("podIP", first),
        Some(first) if first == single => {}
        _ if single.is_empty() => {}
        _ => {
            let mut one = Map::new();
            one.insert("ip", single);
            m.insert("podIPs", Value::Array(vec![Value::Map(one)]));
        }
    }
}

fn service(value: &mut Value) {
    let Some(spec) = value.get_mut("spec") else { return };
    set(spec, "sessionAffinity", "None");
    set(spec, "type", "ClusterIP");
    match spec.str_at(["sessionAffinity"]) {
        Some("ClientIP") => {
            if spec.at(["sessionAffinityConfig", "clientIP", "timeoutSeconds"]).is_none()
                && let Some(m) = spec.make_map_at(["sessionAffinityConfig", "clientIP"])
            {
                m.insert("timeoutSeconds", 10800);
            }
        }
        _ => {
            if let Some(m) = spec.as_map_mut() {
                m.remove("sessionAffinityConfig");
            }
        }
    }
    for port in spec.get_mut("ports").and_then(Value::as_array_mut).into_iter().flatten() {
        set(port, "protocol", "TCP");
        let unset = matches!(port.get("targetPort"), None | Some(Value::Null | Value::Int(0)))
            || port.str_at(["targetPort"]) == Some("");
        if unset
            && let Some(n) = port.get("port").cloned()
            && let Some(m) = port.as_map_mut()
        {
            m.insert("targetPort", n);
        }
    }
    let kind = spec.str_at(["type"]).unwrap_or_default().to_string();
    let external_ips = kind == "ClusterIP" && spec.get("externalIPs").is_some_and(|v| !v.items().is_empty());
    if kind == "NodePort" || kind == "LoadBalancer" || external_ips {
        set(spec, "externalTrafficPolicy", "Cluster");
    }
    if ["NodePort", "LoadBalancer", "ClusterIP"].contains(&kind.as_str()) {
        set(spec, "internalTrafficPolicy", "Cluster");
    }
    if kind == "LoadBalancer" {
        set(spec, "allocateLoadBalancerNodePorts", true);
        let ingress =
            value.get_mut("status").and_then(|s| s.get_mut("loadBalancer")).and_then(|l| l.get_mut("ingress"));
        for i in ingress.and_then(Value::as_array_mut).into_iter().flatten() {
            if i.str_at(["ip"]).is_some_and(|s| !s.is_empty()) {
                set(i, "ipMode", "VIP");
            }
        }
    }
}

fn limit_range(value: &mut Value) {
    let of = |value: &Value, key: &str| value.get(key).and_then(Value::as_map).cloned().unwrap_or_default();
    let mut default = of(value, "default");
    let mut request = of(value, "defaultRequest");
    let copy = |from: Map, to: &mut Map| {
        for (k, v) in from {
            if !to.contains_key(&k) {
                to.insert(k, v);
            }
        }
    };
    copy(of(value, "max"), &mut default);
    copy(default.clone(), &mut request);
    copy(of(value, "min"), &mut request);
    let Some(m) = value.as_map_mut() else { return };
    for (key, list) in [("default", default), ("defaultRequest", request)] {
        if !list.is_empty() {
            m.insert(key, list);
        }
    }
}

fn job(value: &mut Value) {
    let labels = value.at(["spec", "template", "metadata", "labels"]).cloned();
    if let Some(labels) = labels {
        inherit_labels(value, labels);
    }
    let Some(spec) = value.get_mut("spec") else { return };
    if spec.get("completions").is_none() && spec.get("parallelism").is_none() {
        set(spec, "completions", 1);
    }
    set(spec, "parallelism", 1);
    let per_index = spec.get("backoffLimitPerIndex").is_some();
    set(spec, "backoffLimit", if per_index { i32::MAX } else { 6 });
    let policy = spec.get("podFailurePolicy").is_some();
    set(spec, "podReplacementPolicy", if policy { "Failed" } else { "TerminatingOrFailed" });
    set(spec, "completionMode", "NonIndexed");
    set(spec, "suspend", false);
    set(spec, "manualSelector", false);
}

fn hpa(value: &mut Value) {
    if value.get("metrics").is_none_or(|v| v.items().is_empty()) {
        let metric = druse_object::json::parse(
            br#"[{"type":"Resource","resource":{"name":"cpu","target":{"type":"Utilization","averageUtilization":80}}}]"#,
        );
        if let (Ok(metric), Some(m)) = (metric, value.as_map_mut()) {
            m.insert("metrics", metric);
        }
    }
    let Some(behavior) = value.get_mut("behavior") else { return };
    for (key, text) in [
        (
            "scaleUp",
            r#"{"stabilizationWindowSeconds":0,"selectPolicy":"Max","policies":[{"type":"Pods","value":4,"periodSeconds":15},{"type":"Percent","value":100,"periodSeconds":15}]}"#,
        ),
        ("scaleDown", r#"{"selectPolicy":"Max","policies":[{"type":"Percent","value":100,"periodSeconds":15}]}"#),
    ] {
        let Ok(Value::Map(defaults)) = druse_object::json::parse(text.as_bytes()) else { continue };
        set(behavior, key, Map::new());
        if let Some(Value::Map(m)) = behavior.get_mut(key) {
            // A list of no policies is one: it is refused, not filled.
            let none = m.get("policies").is_some_and(|p| p.as_array().is_some_and(|p| p.is_empty()));
            fill(m, &defaults);
            if none {
                m.insert("policies", Value::Array(Vec::new()));
            }
        }
    }
}
