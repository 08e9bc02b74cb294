//! Where a DaemonSet's pods belong: the nodes its template may run on, and what binds a pod to its node.

use druse_object::{Map, Value};
use serde_json::json;

use crate::scheduler::{selected, tolerates};

/// Tolerations that every daemon pod has.
const TOLERATED: [(&str, &str); 6] = [
    ("node.kubernetes.io/not-ready", "NoExecute"),
    ("node.kubernetes.io/unreachable", "NoExecute"),
    ("node.kubernetes.io/disk-pressure", "NoSchedule"),
    ("node.kubernetes.io/memory-pressure", "NoSchedule"),
    ("node.kubernetes.io/pid-pressure", "NoSchedule"),
    ("node.kubernetes.io/unschedulable", "NoSchedule"),
];

/// What a node is for a DaemonSet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// A pod is to run there.
    pub runs: bool,
    /// A pod that is there already may stay.
    pub stays: bool,
}

/// Whether a DaemonSet's pods belong on a node.
pub fn place(set: &Value, node: &Value) -> Place {
    let template = &set["spec"]["template"];
    let named = template.str_at(["spec", "nodeName"]).filter(|n| !n.is_empty());
    let fits = named.is_none_or(|n| Some(n) == node.str_at(["metadata", "name"])) && selected(template, node);
    let mut tolerations = template["spec"]["tolerations"].items().to_vec();
    tolerations.extend(own_tolerations(&template["spec"]));
    let tolerated = |effects: &[&str]| {
        let taints = node["spec"]["taints"].items().iter();
        let of_effect = |t: &&Value| t["effect"].as_str().is_some_and(|e| effects.contains(&e));
        taints.filter(of_effect).all(|t| tolerates(&tolerations, t))
    };
    Place { runs: fits && tolerated(&["NoSchedule", "NoExecute"]), stays: fits && tolerated(&["NoExecute"]) }
}

fn own_tolerations(spec: &Value) -> Vec<Value> {
    let network = ("node.kubernetes.io/network-unavailable", "NoSchedule");
    let host = (spec["hostNetwork"].as_bool() == Some(true)).then_some(network);
    let all = TOLERATED.into_iter().chain(host);
    all.map(|(key, effect)| Value::from(json!({"key": key, "operator": "Exists", "effect": effect}))).collect()
}

/// Binds a pod to a node by affinity, which leaves the binding itself to the scheduler, and gives it what daemon pods
/// tolerate.
pub fn bind(spec: &mut Map, node: &str) {
    let before = Value::Map(spec.clone());
    let mut tolerations = before["tolerations"].items().to_vec();
    for own in own_tolerations(&before) {
        let same = |t: &Value| ["key", "operator", "effect", "value"].iter().all(|f| t[*f] == own[*f]);
        if !tolerations.iter().any(same) {
            tolerations.push(own);
        }
    }
    spec.insert("tolerations", tolerations);
    let terms = json!([{"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node]}]}]);
    let mut affinity = before["affinity"].clone();
    if let Some(required) = affinity.make_map_at(["nodeAffinity", "requiredDuringSchedulingIgnoredDuringExecution"]) {
        required.insert("nodeSelectorTerms", Value::from(terms));
    }
    spec.insert("affinity", affinity);
}

/// The node a daemon pod is, or is to be, on.
pub fn node_of(pod: &Value) -> &str {
    let required = &pod["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"];
    let bound = || {
        let terms = required["nodeSelectorTerms"].items();
        let fields = terms.iter().flat_map(|t| t["matchFields"].items());
        fields.into_iter().find(|f| f["key"].as_str() == Some("metadata.name"))?["values"].items().first()?.as_str()
    };
    pod.str_at(["spec", "nodeName"]).filter(|n| !n.is_empty()).or_else(bound).unwrap_or_default()
}
