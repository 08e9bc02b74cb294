//! `APIService` entries: one for each group version this server serves itself, as upstream's aggregator registers them.
//! Nothing is aggregated: entries that name a Service are kept as they are and lead nowhere.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use druse_object::{Map, Value};

use crate::handlers::{Call, DeleteOptions, insert, remove};
use crate::registry::Table;
use crate::server::{Shared, now};

const STORED: &str = "apiservices.apiregistration.k8s.io";
const MANAGED: &str = "kube-aggregator.kubernetes.io/automanaged";

/// A group's place among the groups, as upstream orders those that matter to discovery.
const PRIORITIES: [(&str, i64); 18] = [
    ("", 18000),
    ("apps", 17800),
    ("events.k8s.io", 17750),
    ("authentication.k8s.io", 17700),
    ("authorization.k8s.io", 17600),
    ("autoscaling", 17500),
    ("batch", 17400),
    ("certificates.k8s.io", 17300),
    ("networking.k8s.io", 17200),
    ("policy", 17100),
    ("rbac.authorization.k8s.io", 17000),
    ("storage.k8s.io", 16800),
    ("apiextensions.k8s.io", 16700),
    ("admissionregistration.k8s.io", 16700),
    ("scheduling.k8s.io", 16600),
    ("coordination.k8s.io", 16500),
    ("node.k8s.io", 16300),
    ("flowcontrol.apiserver.k8s.io", 16100),
];

/// Follows the table of what is served.
pub async fn run(shared: Arc<Shared>) {
    let mut closing = shared.closing.subscribe();
    let mut seen = 0;
    loop {
        let generation = shared.registry.generation();
        if generation != seen {
            seen = generation;
            settle(&shared).await;
        }
        tokio::select! {
            () = tokio::time::sleep(Duration::from_millis(500)) => {}
            _ = closing.wait_for(|c| *c) => return,
        }
    }
}

/// What there should be: name, group, version, whether a CRD brought it, its place within the group.
fn wanted(table: &Table) -> BTreeMap<String, Value> {
    let mut out = BTreeMap::new();
    for (group, versions) in &table.groups {
        // The registration of registrations is the aggregator's own and has no entry.
        if group == "apiregistration.k8s.io" {
            continue;
        }
        let custom = table.resources.iter().any(|r| r.custom && r.group == *group);
        for version in versions {
            let name = format!("{version}.{group}");
            let of_group = PRIORITIES.iter().find(|(g, _)| g == group).map_or(16200, |(_, p)| *p);
            let of_version = match (group.as_str(), version.as_str()) {
                ("", _) => 1,
                ("autoscaling", "v2") => 30,
                ("flowcontrol.apiserver.k8s.io" | "resource.k8s.io", _) => 21,
                _ => 15,
            };
            let (group_priority, version_priority) = if custom { (1000, 100) } else { (of_group, of_version) };
            let mut labels = Map::new();
            labels.insert(MANAGED, if custom { "true" } else { "onstart" });
            let mut meta = Map::new();
            meta.insert("name", name.as_str());
            meta.insert("labels", labels);
            let mut spec = Map::new();
            if !group.is_empty() {
                spec.insert("group", group.clone());
            }
            spec.insert("groupPriorityMinimum", group_priority);
            spec.insert("version", version.clone());
            spec.insert("versionPriority", version_priority);
            let mut condition = Map::new();
            condition.insert("lastTransitionTime", now());
            condition.insert("message", "Local APIServices are always available");
            condition.insert("reason", "Local");
            condition.insert("status", "True");
            condition.insert("type", "Available");
            let mut status = Map::new();
            status.insert("conditions", Value::Array(vec![Value::Map(condition)]));
            let mut m = Map::new();
            m.insert("apiVersion", "apiregistration.k8s.io/v1");
            m.insert("kind", "APIService");
            m.insert("metadata", meta);
            m.insert("spec", spec);
            m.insert("status", status);
            // The core group's entry is called by its version and an empty group.
            out.insert(name, Value::Map(m));
        }
    }
    out
}

async fn settle(shared: &Arc<Shared>) {
    let table = shared.registry.table();
    let Some(resource) = table.get("apiregistration.k8s.io", "apiservices").cloned() else { return };
    let wanted = wanted(&table);
    for o in shared.objects(STORED, "") {
        let name = o.str_at(["metadata", "name"]).unwrap_or_default();
        let managed = o.at(["metadata", "labels"]).is_some_and(|l| l.get(MANAGED).is_some());
        if managed && !wanted.contains_key(name) {
            let call = Call::internal(shared, "kube-aggregator", &resource, "", name);
            let _ = remove(&call, name, &DeleteOptions::default()).await;
        }
    }
    let missing = wanted.into_iter().filter(|(name, _)| shared.stored(&resource, "", name).is_none());
    let making = missing.map(|(name, object)| {
        let resource = resource.clone();
        async move {
            let mut call = Call::internal(shared, "kube-aggregator", &resource, "", &name);
            call.keep_status = true;
            if let Err(e) = insert(&call, object, Some("kube-apiserver"), false).await {
                tracing::debug!(name, error = %e, "the APIService was not made");
            }
        }
    });
    futures::future::join_all(making).await;
}
