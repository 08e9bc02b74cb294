//! Priority and fairness as objects: those a cluster is born with (`data/flow.yaml`) are made and kept as they are
//! while their annotation says so, and every flow schema says whether the level it leads to is there
//! (`k8s.io/apiserver/pkg/util/flowcontrol`, `k8s.io/kubernetes/pkg/registry/flowcontrol/rest`). Requests are not queued
//! by them.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use druse_object::yaml::{self, Dialect};
use druse_object::{Gvk, Map, Value};
use futures::future::join_all;

use crate::apply;
use crate::handlers::{Call, Mode, change, insert};
use crate::server::{Shared, now};
use crate::status::Status;

/// The group of these kinds.
pub const GROUP: &str = "flowcontrol.apiserver.k8s.io";
const OBJECTS: &str = include_str!("../../data/flow.yaml");
const PRODUCER: &str = "api-priority-and-fairness-config-producer-v1";
const CONSUMER: &str = "api-priority-and-fairness-config-consumer-v1";
const FIXED: &str = "apf.kubernetes.io/autoupdate-spec";
const EVERY: Duration = Duration::from_secs(60);

static WANTED: LazyLock<Vec<Value>> = LazyLock::new(|| {
    let documents = yaml::documents(OBJECTS, Dialect::Sigs);
    documents.into_iter().filter_map(Result::ok).map(|d| d.value).collect()
});

/// The specification that an object must have; nothing for those that may have any.
pub(crate) fn fixed_spec(kind: &str, name: &str) -> Option<&'static Value> {
    let is = |o: &&Value| o.str_at(["kind"]) == Some(kind) && o.str_at(["metadata", "name"]) == Some(name);
    ["exempt", "catch-all"].contains(&name).then(|| WANTED.iter().find(is)).flatten().map(|o| &o["spec"])
}

/// Makes what is missing and puts back what was changed, now and then.
pub async fn run(shared: Arc<Shared>) {
    let mut closing = shared.closing.subscribe();
    loop {
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            _ = closing.wait_for(|c| *c) => return,
        }
        maintain(&shared).await;
    }
}

/// Makes what is missing and puts back what was changed.
pub async fn maintain(shared: &Arc<Shared>) {
    // Levels come first, so that what leads to them finds them; those of one kind together, so that they share commits.
    let is_level = |o: &&Value| o.str_at(["kind"]) == Some("PriorityLevelConfiguration");
    let (levels, schemas): (Vec<&Value>, Vec<&Value>) = WANTED.iter().partition(is_level);
    for kind in [levels, schemas] {
        join_all(kind.into_iter().map(|wanted| keep(shared, wanted))).await;
    }
    settle(shared).await;
}

async fn keep(shared: &Arc<Shared>, wanted: &Value) {
    let table = shared.registry.table();
    let Some(gvk) = Gvk::of(wanted) else { return };
    let Some(resource) = table.for_kind(&gvk.group, &gvk.kind) else { return };
    let name = wanted.str_at(["metadata", "name"]).unwrap_or_default();
    let call = Call::internal(shared, "kube-apiserver", resource, "", name);
    let done = match shared.object(&resource.stored_as, "", name) {
        None => {
            let mut object = wanted.clone();
            if let Some(m) = object.make_map_at(["metadata", "annotations"]) {
                m.insert(FIXED, "true");
            }
            object.make_map_at(["status"]);
            insert(&call, object, Some(PRODUCER), false).await.map(drop)
        }
        Some(o) => {
            let says = o.at(["metadata", "annotations"]).and_then(|a| a.get(FIXED)).and_then(Value::as_str);
            if says != Some("true") || o["spec"] == wanted["spec"] {
                return;
            }
            let spec = wanted["spec"].clone();
            change(&call, name, "", Mode::Update(PRODUCER), false, &mut |old, _| {
                let mut new = old.clone();
                if let Some(m) = new.as_map_mut() {
                    m.insert("spec", spec.clone());
                }
                Ok(new)
            })
            .await
            .map(drop)
        }
    };
    if let Err(e) = done
        && e.reason != "AlreadyExists"
    {
        tracing::error!(%gvk, name, error = %e, "an object of priority and fairness is not as it should be");
    }
}

/// Lets every flow schema say whether its level is there.
pub async fn settle(shared: &Arc<Shared>) {
    let table = shared.registry.table();
    let Some(resource) = table.for_kind(GROUP, "FlowSchema") else { return };
    let told = shared.objects(&resource.stored_as, "").into_iter().filter_map(|schema| {
        let name = schema.str_at(["metadata", "name"])?.to_owned();
        let level = schema.str_at(["spec", "priorityLevelConfiguration", "name"]).unwrap_or_default();
        let found = shared.object(&format!("prioritylevelconfigurations.{GROUP}"), "", level).is_some();
        let (status, reason, what) = match found {
            true => ("False", "Found", "and it exists"),
            false => ("True", "NotFound", "but there is no such object"),
        };
        let message =
            format!("This FlowSchema references the PriorityLevelConfiguration object named \"{level}\" {what}");
        let says = |c: &Value| {
            let is = |key: &str, text: &str| c.str_at([key]) == Some(text);
            is("type", "Dangling") && is("status", status) && is("reason", reason) && is("message", &message)
        };
        if schema["status"]["conditions"].items().iter().any(says) {
            return None;
        }
        let mut c = Map::new();
        let time = now();
        let parts = [
            ("type", "Dangling"),
            ("status", status),
            ("lastTransitionTime", &time),
            ("reason", reason),
            ("message", &message),
        ];
        for (key, text) in parts {
            c.insert(key, text);
        }
        Some((name, c))
    });
    let told: Vec<(String, Map)> = told.collect();
    let tell = async |(name, condition): (String, Map)| {
        let call = Call::internal(shared, "kube-apiserver", resource, "", &name);
        if let Err(e) = apply_condition(&call, &name, condition, CONSUMER).await
            && e.reason != "NotFound"
        {
            tracing::error!(name, error = %e, "a flow schema does not say whether its level is there");
        }
    };
    join_all(told.into_iter().map(tell)).await;
}

/// Applies a condition to an object's status, as a part of the server that does so by itself.
pub(crate) async fn apply_condition(call: &Call, name: &str, condition: Map, manager: &str) -> Result<(), Status> {
    let call = call.on_subresource("status");
    let schema = call.schema()?;
    let gvk = call.gvk();
    let mut part = Value::Map(Map::new());
    if let Some(m) = part.as_map_mut() {
        m.insert("apiVersion", gvk.api_version());
        m.insert("kind", gvk.kind.as_str());
    }
    if let Some(m) = part.make_map_at(["metadata"]) {
        m.insert("name", name);
    }
    if let Some(m) = part.make_map_at(["status"]) {
        m.insert("conditions", Value::Array(vec![Value::Map(condition)]));
    }
    change(&call, name, "status", Mode::System, false, &mut |old, _| {
        apply::apply(Some(old), &part, manager, true, "status", &now(), &schema)
            .map_err(|e| Status::internal(e.to_string()))
    })
    .await
    .map(drop)
}
