//! DR080, DR081, DR083: selectors that match nothing.

use druse_object::{Map, Value};

use crate::context::Context;
use crate::finding::Finding;
use crate::index::{Entry, Origin, is_custom};
use crate::paths;
use crate::pods::{self, Pod};
use crate::position::Step;

pub(super) fn check(cx: &Context<'_>, out: &mut Vec<Finding>) {
    let pods: Vec<Pod<'_, '_>> = cx.pods().collect();
    for entry in cx.own().filter(|e| e.origin == Origin::Tree) {
        let spec = &entry.object.value["spec"];
        let namespace = entry.object.namespace();
        match (entry.gvk.group.as_str(), entry.gvk.kind.as_str()) {
            ("", "Service") => {
                let selector = &spec["selector"];
                if selector.as_map().is_some_and(|m| !m.is_empty())
                    && !pods
                        .iter()
                        .any(|p| p.entry.object.namespace() == namespace && pods::has_all(selector, p.labels))
                    && (is_known(cx, namespace, &labels_of(selector)) || is_of_no_cluster(cx, namespace, selector))
                {
                    let path = ["spec", "selector"].map(Step::from);
                    out.push(cx.at(
                        entry,
                        &path,
                        &[],
                        "DR080",
                        format!("{} selects no pod: {}", entry.key(), shown(selector)),
                    ));
                }
            }
            ("networking.k8s.io", "NetworkPolicy") => {
                pods_selected(cx, entry, &pods, &spec["podSelector"], &["podSelector"], out);
                peers(cx, entry, &pods, out);
            }
            ("policy", "PodDisruptionBudget") => pods_selected(cx, entry, &pods, &spec["selector"], &["selector"], out),
            ("cilium.io", "CiliumNetworkPolicy") => cilium(cx, entry, &pods, out),
            ("monitoring.coreos.com", "ServiceMonitor") => {
                let selector = &spec["selector"];
                let hit = cx.index.of_kind("", "Service").any(|s| {
                    monitored(entry, s.object.namespace())
                        && pods::selects(selector, &s.object.value["metadata"]["labels"])
                });
                let open = spec["namespaceSelector"].is_null() && !is_known(cx, namespace, &labels(selector))
                    || !spec["namespaceSelector"].is_null() && cx.index.is_open("");
                if !hit && !open {
                    let path = ["spec", "selector"].map(Step::from);
                    out.push(cx.at(entry, &path, &[], "DR081", format!("{} selects no Service", entry.key())));
                }
            }
            ("monitoring.coreos.com", "PodMonitor") if spec["namespaceSelector"].is_null() => {
                pods_selected(cx, entry, &pods, &spec["selector"], &["selector"], out);
            }
            _ => {}
        }
    }
    for pod in pods.iter().filter(|p| p.entry.origin == Origin::Tree) {
        affinity(cx, pod, &pods, out);
    }
}

/// Whether a selector is for the pods of a database cluster (CloudNativePG labels them with its name) of which there are
/// others in the namespace, but not that one.
fn is_of_no_cluster(cx: &Context<'_>, namespace: &str, selector: &Value) -> bool {
    let Some(name) = selector.str_at(["cnpg.io/cluster"]) else { return false };
    let mut clusters =
        cx.index.of_kind("postgresql.cnpg.io", "Cluster").filter(|c| c.object.namespace() == namespace).peekable();
    clusters.peek().is_some() && clusters.all(|c| c.object.name() != name)
}

/// Whether a monitor looks at a namespace.
pub(super) fn monitored(entry: &Entry<'_>, namespace: &str) -> bool {
    let selector = &entry.object.value["spec"]["namespaceSelector"];
    if selector["any"].as_bool() == Some(true) {
        return true;
    }
    let names = selector["matchNames"].items();
    if names.is_empty() {
        entry.object.namespace() == namespace
    } else {
        names.iter().any(|n| n.as_str() == Some(namespace))
    }
}

fn labels_of(map: &Value) -> Vec<(String, String)> {
    map.as_map()
        .into_iter()
        .flat_map(Map::iter)
        .map(|(k, v)| (k.to_string(), v.as_str().unwrap_or_default().to_string()))
        .collect()
}

fn labels(selector: &Value) -> Vec<(String, String)> {
    let mut out = labels_of(&selector["matchLabels"]);
    for e in selector["matchExpressions"].items() {
        let key = e.str_at(["key"]).unwrap_or_default().to_string();
        out.extend(e["values"].items().iter().map(|v| (key.clone(), v.as_str().unwrap_or_default().to_string())));
        out.push((key, String::new()));
    }
    out
}

fn shown(selector: &Value) -> String {
    labels_of(selector).iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>().join(", ")
}

/// Whether all pods of a namespace that such labels could be of are known: nothing unknown is applied to it, and no
/// resource of an operator is meant.
fn is_known(cx: &Context<'_>, namespace: &str, labels: &[(String, String)]) -> bool {
    if cx.index.is_open(namespace) || namespace == "kube-system" {
        return false;
    }
    let makers: Vec<&Entry<'_>> = cx
        .index
        .entries
        .iter()
        .filter(|e| e.object.namespace() == namespace && is_custom(&e.gvk.group) && e.gvk.group != "cilium.io")
        .collect();
    let names = |e: &Entry<'_>| !crate::tables::get().makes_nothing.contains(&crate::tables::kind_name(&e.gvk));
    // Operators label pods with the name of the resource, their own, or a key of their group.
    let maker_of = |(key, value): &(String, String)| {
        let domain = key.split('/').next().filter(|_| key.contains('/')).unwrap_or_default();
        makers.iter().any(|m| {
            let system = m.gvk.group.split('.').next().unwrap_or_default();
            !value.is_empty() && (names(m) && value.contains(m.object.name()) || value.contains(system))
                || !domain.is_empty() && (m.gvk.group.ends_with(domain) || domain.ends_with(m.gvk.group.as_str()))
        })
    };
    !labels.iter().any(maker_of)
}

fn pods_selected(
    cx: &Context<'_>,
    entry: &Entry<'_>,
    pods: &[Pod<'_, '_>],
    selector: &Value,
    field: &[&str],
    out: &mut Vec<Finding>,
) {
    let wanted = labels(selector);
    if wanted.is_empty() {
        return;
    }
    let namespace = entry.object.namespace();
    let hit = pods.iter().any(|p| p.entry.object.namespace() == namespace && pods::selects(selector, p.labels));
    if !hit && is_known(cx, namespace, &wanted) {
        let path: Vec<Step> = std::iter::once("spec").chain(field.iter().copied()).map(Step::from).collect();
        out.push(cx.at(entry, &path, &[], "DR081", format!("{} selects no pod", entry.key())));
    }
}

/// Whether a label is one that Cilium itself gives to what it protects.
fn is_of_cilium(key: &str) -> bool {
    key.contains("io.kubernetes.") || key.contains("io.cilium.") || key.contains("reserved")
}

/// Those that a NetworkPolicy lets in or out. Peers in namespaces that are named by other labels are not looked for.
fn peers(cx: &Context<'_>, entry: &Entry<'_>, pods: &[Pod<'_, '_>], out: &mut Vec<Finding>) {
    for (list, field) in [("ingress", "from"), ("egress", "to")] {
        for (path, peer) in paths::all(&entry.object.value, &format!("spec.{list}[].{field}[]")) {
            let selector = &peer["podSelector"];
            let wanted = labels(selector);
            let of = &peer["namespaceSelector"];
            let namespace = match of.at(["matchLabels", "kubernetes.io/metadata.name"]).and_then(Value::as_str) {
                Some(name) => name,
                None if of.is_null() => entry.object.namespace(),
                None => continue,
            };
            let hit = pods.iter().any(|p| p.entry.object.namespace() == namespace && pods::selects(selector, p.labels));
            if wanted.is_empty() || hit || !is_known(cx, namespace, &wanted) {
                continue;
            }
            let path: Vec<Step> = path.into_iter().chain([Step::from("podSelector")]).collect();
            let message =
                format!("{} allows pods of which there are none: {}", entry.key(), shown(&selector["matchLabels"]));
            out.push(cx.at(entry, &path, &[], "DR081", message));
        }
    }
}

/// A Cilium policy's endpoints: labels may carry the name of their source.
fn cilium(cx: &Context<'_>, entry: &Entry<'_>, pods: &[Pod<'_, '_>], out: &mut Vec<Finding>) {
    let value = &entry.object.value;
    let one = value.at(["spec", "endpointSelector"]).map(|s| (vec![Step::from("spec")], s));
    let many = value["specs"]
        .items()
        .iter()
        .enumerate()
        .filter_map(|(i, s)| Some((vec![Step::from("specs"), Step::Index(i)], s.get("endpointSelector")?)));
    for (mut path, selector) in one.into_iter().chain(many) {
        let wanted = labels(selector);
        if wanted.is_empty() || wanted.iter().any(|(k, _)| is_of_cilium(k)) {
            continue;
        }
        let plain = without_sources(selector);
        let namespace = entry.object.namespace();
        let hit = pods.iter().any(|p| p.entry.object.namespace() == namespace && pods::selects(&plain, p.labels));
        if !hit && is_known(cx, namespace, &labels(&plain)) {
            path.push(Step::from("endpointSelector"));
            let message = format!("{} selects no pod: {}", entry.key(), shown(&plain["matchLabels"]));
            out.push(cx.at(entry, &path, &[], "DR081", message));
        }
    }
    for list in ["spec", "specs[]"] {
        for at in ["ingress[].fromEndpoints[]", "egress[].toEndpoints[]"] {
            for (path, selector) in paths::all(value, &format!("{list}.{at}")) {
                cilium_peer(cx, entry, pods, &path, selector, out);
            }
        }
    }
}

/// Those that a Cilium policy lets in or out: of its own namespace, or of the one that a label names.
fn cilium_peer(
    cx: &Context<'_>,
    entry: &Entry<'_>,
    pods: &[Pod<'_, '_>],
    path: &[Step],
    selector: &Value,
    out: &mut Vec<Finding>,
) {
    const NAMESPACE: &str = "io.kubernetes.pod.namespace";
    let mut plain = without_sources(selector);
    let named = plain.str_at(["matchLabels", NAMESPACE]).map(str::to_string);
    if let Some(m) = plain.make_map_at(["matchLabels"]) {
        m.remove(NAMESPACE);
    }
    let wanted = labels(&plain);
    let namespace = named.as_deref().unwrap_or(entry.object.namespace());
    if wanted.is_empty() || namespace.is_empty() || wanted.iter().any(|(k, _)| is_of_cilium(k)) {
        return;
    }
    let hit = pods.iter().any(|p| p.entry.object.namespace() == namespace && pods::selects(&plain, p.labels));
    if !hit && is_known(cx, namespace, &wanted) {
        let message = format!("{} allows pods of which there are none: {}", entry.key(), shown(&plain["matchLabels"]));
        out.push(cx.at(entry, path, &[], "DR081", message));
    }
}

fn without_sources(selector: &Value) -> Value {
    let plain = |k: &str| k.strip_prefix("k8s:").or_else(|| k.strip_prefix("any:")).unwrap_or(k).to_string();
    let mut out = selector.clone();
    if let Some(m) = out.make_map_at(["matchLabels"]) {
        let all: Vec<(String, Value)> = m.iter().map(|(k, v)| (plain(k), v.clone())).collect();
        *m = all.into_iter().collect();
    }
    if let Some(list) = out.get_mut("matchExpressions").and_then(Value::as_array_mut) {
        for e in list {
            if let Some(key) = e.str_at(["key"]).map(plain)
                && let Some(m) = e.as_map_mut()
            {
                m.insert("key", key);
            }
        }
    }
    out
}

/// A pod that must run beside others of which there are none.
fn affinity(cx: &Context<'_>, pod: &Pod<'_, '_>, pods: &[Pod<'_, '_>], out: &mut Vec<Finding>) {
    let field = "requiredDuringSchedulingIgnoredDuringExecution";
    for (i, term) in pod.spec["affinity"]["podAffinity"][field].items().iter().enumerate() {
        let selector = &term["labelSelector"];
        let wanted = labels(selector);
        if wanted.is_empty() || !term["namespaceSelector"].is_null() {
            continue;
        }
        let own = pod.entry.object.namespace();
        let namespaces: Vec<&str> = term["namespaces"].items().iter().filter_map(Value::as_str).collect();
        let namespaces = if namespaces.is_empty() { vec![own] } else { namespaces };
        let hit =
            pods.iter().any(|p| namespaces.contains(&p.entry.object.namespace()) && pods::selects(selector, p.labels));
        if !hit && namespaces.iter().all(|n| is_known(cx, n, &wanted)) {
            let mut path = pod.path.clone();
            path.extend(["affinity", "podAffinity", field].map(Step::from));
            path.extend([Step::Index(i), Step::from("labelSelector")]);
            let message = format!("{} must run beside pods of which there are none", pod.entry.key());
            out.push(cx.at(pod.entry, &path, &[], "DR083", message));
        }
    }
}
