//! ReplicaSet: keeps the declared number of pods.

use std::sync::Arc;

use druse_object::Value;
use druse_runtime::{Api, ApiError, Cache, Caches, Key, Next, Reconciler};
use serde_json::json;

use super::pods;
use crate::services::{delete_pod, is_ready};

pub struct Controller {
    api: Api,
    sets: Arc<Cache>,
    pods: Arc<Cache>,
}

impl Controller {
    pub fn new(caches: &Caches, sets: Arc<Cache>, pods: Arc<Cache>) -> Self {
        Self { api: caches.api().clone(), sets, pods }
    }

    async fn sync(&self, set: &Value) -> Result<(), ApiError> {
        let mut mine = pods::children(&self.pods, set);
        mine.retain(|p| !matches!(p.str_at(["status", "phase"]), Some("Succeeded" | "Failed")));
        let want = usize::try_from(set["spec"]["replicas"].as_i64().unwrap_or(1)).unwrap_or(0);
        if mine.len() < want {
            pods::make_pods(&self.api, set, &set["spec"]["template"], want - mine.len()).await?;
        } else {
            // Pods that are not ready go first.
            mine.sort_by_key(|p| (is_ready(p), Key::of(p)));
            for p in &mine[..mine.len() - want] {
                delete_pod(&self.api, p).await?;
            }
        }
        let ready = mine.iter().filter(|p| is_ready(p)).count();
        let status = json!({
            "observedGeneration": set["metadata"]["generation"].as_i64(),
            "replicas": mine.len(), "fullyLabeledReplicas": mine.len(), "readyReplicas": ready, "availableReplicas": ready,
        });
        pods::write_status(&self.api, self.sets.resource(), set, status).await
    }
}

impl Reconciler for Controller {
    async fn reconcile(&self, key: Key) -> Next {
        match self.sets.get(&key) {
            Some(set) if !pods::going(&set) => pods::outcome(self.sync(&set).await),
            _ => Next::Wait,
        }
    }
}
