//! CronJob: watched and reported. In a rehearsal no clock runs the schedule; a job is made from it by hand
//! (`kubectl create job --from`).

use std::sync::Arc;

use druse_object::Value;
use druse_runtime::{Api, ApiError, Cache, Caches, Key, Next, Reconciler};
use serde_json::json;

use super::pods;

pub struct Controller {
    api: Api,
    cron_jobs: Arc<Cache>,
    jobs: Arc<Cache>,
}

impl Controller {
    pub fn new(caches: &Caches, cron_jobs: Arc<Cache>, jobs: Arc<Cache>) -> Self {
        Self { api: caches.api().clone(), cron_jobs, jobs }
    }

    async fn sync(&self, cron: &Value) -> Result<(), ApiError> {
        let active: Vec<serde_json::Value> = pods::children(&self.jobs, cron)
            .iter()
            .filter(|j| j["status"]["completionTime"].is_null())
            .map(|j| {
                json!({
                    "apiVersion": "batch/v1", "kind": "Job", "namespace": j.str_at(["metadata", "namespace"]),
                    "name": j.str_at(["metadata", "name"]), "uid": j.str_at(["metadata", "uid"]),
                })
            })
            .collect();
        let active = (!active.is_empty()).then_some(active);
        pods::write_status(&self.api, self.cron_jobs.resource(), cron, json!({"active": active})).await
    }
}

impl Reconciler for Controller {
    async fn reconcile(&self, key: Key) -> Next {
        match self.cron_jobs.get(&key) {
            Some(cron) if !pods::going(&cron) => pods::outcome(self.sync(&cron).await),
            _ => Next::Wait,
        }
    }
}
