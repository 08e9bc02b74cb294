//! DaemonSet: one pod on each node its template may run on.

use std::collections::BTreeMap;
use std::sync::Arc;

use druse_object::Value;
use druse_runtime::{Api, ApiError, Cache, Caches, Key, Next, Reconciler};
use serde_json::json;

use super::pods;
use crate::kinds;
use crate::services::{delete_pod, is_ready};

const HASH: &str = "controller-revision-hash";

pub struct Controller {
    api: Api,
    sets: Arc<Cache>,
    pods: Arc<Cache>,
    nodes: Arc<Cache>,
}

impl Controller {
    pub fn new(caches: &Caches, sets: Arc<Cache>, pods: Arc<Cache>) -> Self {
        Self { api: caches.api().clone(), sets, pods, nodes: caches.of(&kinds::nodes()) }
    }

    async fn sync(&self, set: &Value) -> Result<(), ApiError> {
        self.nodes.synced().await;
        let hash = pods::template_hash(&set["spec"]["template"]);
        let spec = &set["spec"]["template"]["spec"];
        let wanted: Vec<String> = self
            .nodes
            .all()
            .iter()
            .filter(|n| {
                let labels = &n["metadata"]["labels"];
                spec["nodeSelector"].as_map().is_none_or(|m| m.iter().all(|(k, v)| labels[k.as_str()] == *v))
            })
            .filter(|n| {
                let terms = &spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"];
                terms.is_null() || terms.items().iter().any(|t| crate::scheduler::term_holds(t, n))
            })
            .filter_map(|n| n.str_at(["metadata", "name"]).map(str::to_owned))
            .collect();
        let mut on: BTreeMap<String, Vec<Arc<Value>>> = BTreeMap::new();
        let mine = pods::children(&self.pods, set);
        for p in &mine {
            on.entry(node_of(p).to_owned()).or_default().push(p.clone());
        }
        let current = |p: &Value| p["metadata"]["labels"][HASH].as_str() == Some(&hash);
        let ready = mine.iter().filter(|p| is_ready(p)).count();
        let rolling = set.str_at(["spec", "updateStrategy", "type"]) != Some("OnDelete");
        let mut may_go = usize::try_from(pods::int_or_percent(
            &set["spec"]["updateStrategy"]["rollingUpdate"]["maxUnavailable"],
            i64::try_from(wanted.len()).unwrap_or(1),
            true,
            "1",
        ))
        .unwrap_or(1);
        may_go = may_go.saturating_sub(mine.len() - ready);
        for node in &wanted {
            match on.remove(node).as_deref() {
                None => self.create(set, node, &hash).await?,
                Some(there) => {
                    for extra in &there[1..] {
                        delete_pod(&self.api, extra).await?;
                    }
                    if rolling && !current(&there[0]) && may_go > 0 {
                        may_go -= 1;
                        delete_pod(&self.api, &there[0]).await?;
                    }
                }
            }
        }
        for p in on.values().flatten() {
            delete_pod(&self.api, p).await?;
        }
        let status = json!({
            "observedGeneration": set["metadata"]["generation"].as_i64(),
            "desiredNumberScheduled": wanted.len(), "currentNumberScheduled": mine.len(), "numberMisscheduled": 0,
            "numberReady": ready, "numberAvailable": (ready > 0).then_some(ready),
            "updatedNumberScheduled": mine.iter().filter(|p| current(p)).count(),
            "numberUnavailable": (wanted.len() > ready).then(|| wanted.len() - ready),
        });
        pods::write_status(&self.api, self.sets.resource(), set, status).await
    }

    async fn create(&self, set: &Value, node: &str, hash: &str) -> Result<(), ApiError> {
        let mut pod = pods::from_template("v1", "Pod", &set["spec"]["template"], set);
        if let Some(m) = pod.make_map_at(["metadata"]) {
            // Named after its node, so that a repeat before the cache has caught up changes nothing.
            let name = set.str_at(["metadata", "name"]).unwrap_or_default();
            m.insert("name", format!("{name}-{}", pods::template_hash(&Value::from(format!("{node}/{hash}")))));
        }
        if let Some(labels) = pod.make_map_at(["metadata", "labels"]) {
            labels.insert(HASH, hash);
        }
        let affinity = json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
            {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node]}]}
        ]}}});
        if let Some(spec) = pod.make_map_at(["spec"]) {
            spec.insert("affinity", Value::from(affinity));
        }
        let ns = set.str_at(["metadata", "namespace"]).unwrap_or_default();
        match self.api.create(&kinds::pods(), ns, &pod).await {
            Err(e) if e.reason() == "AlreadyExists" => Ok(()),
            other => other.map(|_| ()),
        }
    }
}

/// The node a daemon pod is, or is to be, on.
fn node_of(pod: &Value) -> &str {
    pod.str_at(["spec", "nodeName"]).filter(|n| !n.is_empty()).or_else(|| {
        pod["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
            .items()
            .first()?["matchFields"]
            .items()
            .first()?["values"]
            .items()
            .first()?
            .as_str()
    })
    .unwrap_or_default()
}

impl Reconciler for Controller {
    async fn reconcile(&self, key: Key) -> Next {
        match self.sets.get(&key) {
            Some(set) if !pods::going(&set) => pods::outcome(self.sync(&set).await),
            _ => Next::Wait,
        }
    }
}
