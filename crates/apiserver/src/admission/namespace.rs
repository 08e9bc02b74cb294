//! `NamespaceLifecycle`: nothing is made in a namespace that is missing or going away.

use druse_object::{Map, Value};
use futures::future::{BoxFuture, ready};

use super::{Operation, Plugin, Review};
use crate::server::Shared;
use crate::status::{Named, Status};

/// The plugin.
pub struct Lifecycle;

impl Plugin for Lifecycle {
    fn name(&self) -> &'static str {
        "NamespaceLifecycle"
    }

    fn mutate<'a>(&'a self, shared: &'a Shared, review: &'a mut Review<'_>) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(ready(judge(shared, review)))
    }
}

fn judge(shared: &Shared, review: &Review<'_>) -> Result<(), Status> {
    // Whether a namespace is there is no business of one who only asks what they may do in it.
    let asks = review.resource.group == "authorization.k8s.io";
    if review.operation != Operation::Create || review.namespace.is_empty() || asks {
        return Ok(());
    }
    let ns = review.namespace;
    let Some(namespace) = shared.object("namespaces", "", ns) else {
        return Err(Status::not_found(Named { group: "", resource: "namespaces", name: ns }));
    };
    if namespace.str_at(["metadata", "deletionTimestamp"]).is_none() {
        return Ok(());
    }
    let mut cause = Map::new();
    cause.insert("reason", "NamespaceTerminating");
    cause.insert("message", format!("namespace {ns} is being terminated"));
    cause.insert("field", "metadata.namespace");
    let named = Named { group: &review.resource.group, resource: &review.resource.plural, name: review.name };
    let why = format!("unable to create new content in namespace {ns} because it is being terminated");
    Err(Status::forbidden(named, why).with_causes(vec![Value::Map(cause)]))
}
