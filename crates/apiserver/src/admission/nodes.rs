//! `TaintNodesByCondition`: nothing is scheduled to a new node before somebody finds it ready. `PodTopologyLabels`: pods
//! know by labels of their own in which zone and region their node is.

use druse_object::{Map, Value};
use futures::future::{BoxFuture, ready};

use super::{Operation, Plugin, Review};
use crate::server::Shared;
use crate::status::Status;

/// The taint of a node that is not known to be ready.
const NOT_READY: &str = "node.kubernetes.io/not-ready";

/// The plugin that taints new nodes.
pub struct TaintNodesByCondition;

impl Plugin for TaintNodesByCondition {
    fn name(&self) -> &'static str {
        "TaintNodesByCondition"
    }

    fn mutate<'a>(&'a self, _: &'a Shared, review: &'a mut Review<'_>) -> BoxFuture<'a, Result<(), Status>> {
        if review.creates("nodes")
            && let Some(spec) = review.object.as_deref_mut().and_then(|n| n.make_map_at(["spec"]))
        {
            taint(spec);
        }
        Box::pin(ready(Ok(())))
    }
}

fn taint(spec: &mut Map) {
    let list = spec.entry_or_null("taints");
    if list.is_null() {
        *list = Value::Array(Vec::new());
    }
    let Some(list) = list.as_array_mut() else { return };
    let is = |t: &Value| t.str_at(["key"]) == Some(NOT_READY) && t.str_at(["effect"]) == Some("NoSchedule");
    if !list.iter().any(is) {
        let mut t = Map::new();
        t.insert("key", NOT_READY);
        t.insert("effect", "NoSchedule");
        list.push(Value::Map(t));
    }
}

/// The labels of a node that its pods get.
const TOPOLOGY: [&str; 2] = ["topology.kubernetes.io/zone", "topology.kubernetes.io/region"];

/// The plugin that labels pods that are on a node from the start, and bindings, whose labels their pods take over.
pub struct PodTopologyLabels;

impl Plugin for PodTopologyLabels {
    fn name(&self) -> &'static str {
        "PodTopologyLabels"
    }

    fn mutate<'a>(&'a self, shared: &'a Shared, review: &'a mut Review<'_>) -> BoxFuture<'a, Result<(), Status>> {
        if review.operation == Operation::Create && review.resource.stored_as == "pods" {
            let subresource = review.subresource;
            if let Some(object) = review.object.as_deref_mut() {
                label(shared, subresource, object);
            }
        }
        Box::pin(ready(Ok(())))
    }
}

fn label(shared: &Shared, subresource: &str, object: &mut Value) {
    let node = match subresource {
        "" => object.str_at(["spec", "nodeName"]),
        "binding" if object.str_at(["target", "kind"]) == Some("Node") => object.str_at(["target", "name"]),
        _ => None,
    };
    let node = node.filter(|n| !n.is_empty()).and_then(|n| shared.object("nodes", "", n)).unwrap_or_default();
    for key in TOPOLOGY {
        if let Some(v) = node.at(["metadata", "labels", key])
            && let Some(labels) = object.make_map_at(["metadata", "labels"])
        {
            labels.insert(key, v.clone());
        }
    }
}
