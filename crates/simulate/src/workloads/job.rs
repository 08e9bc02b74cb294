//! Job: runs pods to completion.

use std::sync::Arc;
use std::time::Duration;

use druse_object::Value;
use druse_runtime::{Api, ApiError, Cache, Caches, DeleteOptions, Key, Next, Reconciler, clock};
use serde_json::json;

use super::pods;

pub struct Controller {
    api: Api,
    jobs: Arc<Cache>,
    pods: Arc<Cache>,
}

impl Controller {
    pub fn new(caches: &Caches, jobs: Arc<Cache>, pods: Arc<Cache>) -> Self {
        Self { api: caches.api().clone(), jobs, pods }
    }

    async fn sync(&self, job: &Value) -> Result<Next, ApiError> {
        let finished = ["Complete", "Failed"].iter().any(|kind| {
            let c = job["status"]["conditions"].items().iter();
            c.clone().any(|c| c["type"].as_str() == Some(kind) && c["status"].as_str() == Some("True"))
        });
        if finished {
            return self.expire(job).await;
        }
        if job["spec"]["suspend"].as_bool() == Some(true) {
            let c = pods::condition(job, "Suspended", true, "JobSuspended", "Job suspended");
            pods::write_status(&self.api, self.jobs.resource(), job, json!({"conditions": [c]})).await?;
            return Ok(Next::Wait);
        }
        let mine = pods::children(&self.pods, job);
        let phase = |want: &str| mine.iter().filter(|p| p.str_at(["status", "phase"]) == Some(want)).count();
        let (succeeded, failed) = (phase("Succeeded"), phase("Failed"));
        let active = mine.len() - succeeded - failed;
        let parallelism = count(&job["spec"]["parallelism"]).unwrap_or(1);
        let completions = count(&job["spec"]["completions"]).unwrap_or(parallelism.max(1));
        let missing = parallelism.min(completions.saturating_sub(succeeded)).saturating_sub(active);
        if missing > 0 {
            let mut template = job["spec"]["template"].clone();
            let name = job.str_at(["metadata", "name"]).unwrap_or_default();
            let uid = job.str_at(["metadata", "uid"]).unwrap_or_default();
            if let Some(labels) = template.make_map_at(["metadata", "labels"]) {
                for (k, v) in [
                    ("batch.kubernetes.io/controller-uid", uid),
                    ("batch.kubernetes.io/job-name", name),
                    ("controller-uid", uid),
                    ("job-name", name),
                ] {
                    labels.insert(k, v);
                }
            }
            pods::make_pods(&self.api, job, &template, missing).await?;
        }
        let now = clock::now();
        let started = job.str_at(["status", "startTime"]).unwrap_or(&now).to_owned();
        let ready = mine.iter().filter(|p| crate::services::is_ready(p)).count();
        let mut status = json!({
            "startTime": started, "active": (active + missing > 0).then_some(active + missing), "ready": ready,
            "succeeded": (succeeded > 0).then_some(succeeded), "failed": (failed > 0).then_some(failed),
            "terminating": 0, "uncountedTerminatedPods": {},
        });
        if succeeded >= completions {
            status["completionTime"] = json!(now);
            let message = "Reached expected number of succeeded pods";
            status["conditions"] =
                json!([job_condition("SuccessCriteriaMet", message, &now), job_condition("Complete", message, &now),]);
        }
        pods::write_status(&self.api, self.jobs.resource(), job, status).await?;
        Ok(Next::Wait)
    }

    /// A finished job goes when its time to live is over.
    async fn expire(&self, job: &Value) -> Result<Next, ApiError> {
        let Some(ttl) = job["spec"]["ttlSecondsAfterFinished"].as_i64().and_then(|t| u64::try_from(t).ok()) else {
            return Ok(Next::Wait);
        };
        let age = job.str_at(["status", "completionTime"]).and_then(clock::seconds_since).unwrap_or(0);
        if age < ttl {
            return Ok(Next::After(Duration::from_secs(ttl - age)));
        }
        let key = Key::of(job);
        let options = DeleteOptions { propagation: Some("Foreground"), ..DeleteOptions::default() };
        self.api.delete(self.jobs.resource(), &key.namespace, &key.name, &options).await?;
        Ok(Next::Wait)
    }
}

fn count(v: &Value) -> Option<usize> {
    v.as_i64().and_then(|n| usize::try_from(n).ok())
}

fn job_condition(kind: &str, message: &str, now: &str) -> serde_json::Value {
    json!({
        "type": kind, "status": "True", "reason": "CompletionsReached", "message": message,
        "lastProbeTime": now, "lastTransitionTime": now,
    })
}

impl Reconciler for Controller {
    async fn reconcile(&self, key: Key) -> Next {
        match self.jobs.get(&key) {
            Some(job) if !pods::going(&job) => match self.sync(&job).await {
                Ok(next) => next,
                Err(e) => pods::outcome(Err(e)),
            },
            _ => Next::Wait,
        }
    }
}
