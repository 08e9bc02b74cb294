//! `TaintNodesByCondition`: nothing is scheduled to a new node before somebody finds it ready.

use druse_object::{Map, Value};
use futures::future::{BoxFuture, ready};

use super::{Plugin, Review};
use crate::server::Shared;
use crate::status::Status;

/// The taint of a node that is not known to be ready.
const NOT_READY: &str = "node.kubernetes.io/not-ready";

/// The plugin.
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
