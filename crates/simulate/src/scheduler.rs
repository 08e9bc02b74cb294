//! The scheduler: binds pods to simulated nodes.
//!
//! Node names, selectors and required node affinity are honoured where some node satisfies them. Where none does the pod
//! is still placed, and an annotation says which demand no simulated node meets: a rehearsal is about the tree, and real
//! nodes get labels (from device plugins, feature discovery) that simulated ones lack.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use druse_object::Value;
use druse_runtime::{Api, Cache, Caches, Key, Manager, Next, Patch, Reconciler};
use serde_json::json;

use crate::{SIMULATED, kinds};

struct Scheduler {
    api: Api,
    pods: Arc<Cache>,
    nodes: Arc<Cache>,
    turn: AtomicUsize,
}

pub(crate) fn start(manager: &Manager, caches: &Caches) {
    let (pods, nodes) = (caches.of(&kinds::pods()), caches.of(&kinds::nodes()));
    let queue = manager.queue();
    let api = caches.api().clone();
    let scheduler = Scheduler { api, pods: pods.clone(), nodes: nodes.clone(), turn: AtomicUsize::new(0) };
    manager.run("scheduler", &queue, Arc::new(scheduler), 4);
    manager.watch(&queue, &pods);
    // Pods that found no node at all wait for one.
    manager.watch_mapped(&queue, &nodes, move |c| match c.old {
        None => pods.all().iter().filter(|p| !placed(p)).map(|p| Key::of(p)).collect(),
        Some(_) => Vec::new(),
    });
}

impl Reconciler for Scheduler {
    async fn reconcile(&self, key: Key) -> Next {
        let Some(pod) = self.pods.get(&key) else { return Next::Wait };
        let nodes = self.nodes.all();
        if placed(&pod) || !pod["metadata"]["deletionTimestamp"].is_null() || nodes.is_empty() {
            return Next::Wait;
        }
        let fitting: Vec<_> = nodes.iter().filter(|n| selected(&pod, n)).collect();
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let node = match fitting.len() {
            0 => &nodes[turn % nodes.len()],
            n => fitting[turn % n],
        };
        let name = node.str_at(["metadata", "name"]).unwrap_or_default();
        let binding = json!({
            "apiVersion": "v1", "kind": "Binding",
            "metadata": {"name": key.name.as_str(), "namespace": key.namespace.as_str()},
            "target": {"apiVersion": "v1", "kind": "Node", "name": name},
        });
        let path = kinds::pods().path(&key.namespace, &key.name, "binding");
        let bound =
            self.api.request(http::Method::POST, &path, Some("application/json"), Some(&Value::from(binding))).await;
        match bound {
            Err(e) if e.is_not_found() => return Next::Wait,
            Err(_) => return Next::Retry,
            Ok(_) => {}
        }
        if fitting.is_empty() {
            let note = json!({"metadata": {"annotations": {
                SIMULATED: format!("placement: no simulated node meets {}", demands(&pod)),
            }}});
            let _only_a_note =
                self.api.patch(&kinds::pods(), &key.namespace, &key.name, "", Patch::Merge, &Value::from(note)).await;
        }
        Next::Wait
    }
}

fn placed(pod: &Value) -> bool {
    pod.str_at(["spec", "nodeName"]).is_some_and(|n| !n.is_empty())
}

fn demands(pod: &Value) -> String {
    let selector = &pod["spec"]["nodeSelector"];
    let what = if selector.is_null() { &pod["spec"]["affinity"]["nodeAffinity"] } else { selector };
    druse_object::json::to_string(what)
}

/// Whether the node is one of those that a pod (or a pod template) selects by labels and required affinity.
pub(crate) fn selected(pod: &Value, node: &Value) -> bool {
    let labels = &node["metadata"]["labels"];
    let selected = pod["spec"]["nodeSelector"].as_map().is_none_or(|m| m.iter().all(|(k, v)| labels[k.as_str()] == *v));
    let terms =
        &pod["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"];
    selected && (terms.is_null() || terms.items().iter().any(|t| term_holds(t, node)))
}

/// One node selector term: all its expressions hold.
fn term_holds(term: &Value, node: &Value) -> bool {
    let labels = &node["metadata"]["labels"];
    let name = &node["metadata"]["name"];
    term["matchExpressions"].items().iter().all(|e| expression_holds(e, &labels[e["key"].as_str().unwrap_or_default()]))
        && term["matchFields"].items().iter().all(|e| expression_holds(e, name))
}

/// Whether one of these tolerations is of the taint.
pub(crate) fn tolerates(tolerations: &[Value], taint: &Value) -> bool {
    let unset = |v: &Value| v.as_str().is_none_or(str::is_empty);
    tolerations.iter().any(|t| {
        let exists = t["operator"].as_str() == Some("Exists");
        let value = |v: &Value| v.as_str().unwrap_or_default().to_owned();
        (unset(&t["effect"]) || t["effect"] == taint["effect"])
            && (t["key"] == taint["key"] || (unset(&t["key"]) && exists))
            && (exists || value(&t["value"]) == value(&taint["value"]))
    })
}

fn expression_holds(e: &Value, found: &Value) -> bool {
    let values = e["values"].items();
    let number = |v: &Value| v.as_str().and_then(|s| s.parse::<i64>().ok());
    match e["operator"].as_str() {
        Some("In") => values.contains(found),
        Some("NotIn") => !values.contains(found),
        Some("Exists") => !found.is_null(),
        Some("DoesNotExist") => found.is_null(),
        Some("Gt") => number(found).zip(values.first().and_then(number)).is_some_and(|(a, b)| a > b),
        Some("Lt") => number(found).zip(values.first().and_then(number)).is_some_and(|(a, b)| a < b),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors_and_required_affinity_choose_nodes() {
        let node: Value =
            serde_json::from_str(r#"{"metadata":{"name":"n","labels":{"gpu":"true","size":"4"}}}"#).unwrap();
        let pod = |spec: &str| -> Value { serde_json::from_str(&format!(r#"{{"spec":{spec}}}"#)).unwrap() };
        assert!(selected(&pod("{}"), &node));
        assert!(selected(&pod(r#"{"nodeSelector":{"gpu":"true"}}"#), &node));
        assert!(!selected(&pod(r#"{"nodeSelector":{"gpu":"false"}}"#), &node));
        let affinity = |e: &str| {
            pod(&format!(
                r#"{{"affinity":{{"nodeAffinity":{{"requiredDuringSchedulingIgnoredDuringExecution":
                    {{"nodeSelectorTerms":[{{"matchExpressions":[{e}]}}]}}}}}}}}"#
            ))
        };
        assert!(selected(&affinity(r#"{"key":"size","operator":"Gt","values":["3"]}"#), &node));
        assert!(!selected(&affinity(r#"{"key":"gpu","operator":"DoesNotExist"}"#), &node));
    }
}
