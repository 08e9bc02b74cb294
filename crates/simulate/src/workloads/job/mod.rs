//! Job: runs pods to completion.
//!
//! As upstream's `pkg/controller/job` and `ttlafterfinished`. What to do is decided by [`decide`]; this does it: pods are
//! deleted and made, their ends are entered in the status, their finalizers go, and then they are counted.

mod backoff;
mod decide;
mod indexes;
mod policy;
#[cfg(test)]
mod tests;
mod uncounted;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use druse_object::{Value, selector};
use druse_runtime::{Api, ApiError, Cache, Caches, Clock, DeleteOptions, Key, Next, Patch, Reconciler};
use jiff::SignedDuration;
use parking_lot::Mutex;
use serde_json::json;

use super::hands::Hands;
use super::pods;
use super::report::{condition, is_true, time_at, write_status};
use backoff::Backoff;
use decide::{NewPod, Plan};

/// What keeps a pod until its end is counted.
const FINALIZER: &str = "batch.kubernetes.io/job-tracking";

/// The label that names a pod's Job.
const JOB_NAME: &str = "batch.kubernetes.io/job-name";

/// Who looks after Jobs; others than this are left to theirs.
const OURS: &str = "kubernetes.io/job-controller";

pub struct Controller {
    api: Api,
    jobs: Arc<Cache>,
    hands: Hands,
    backoffs: Mutex<HashMap<Key, Backoff>>,
    clock: Clock,
}

/// How a Job has ended: `Complete` or `Failed`; `None` while it has not.
pub fn finished(job: &Value) -> Option<&'static str> {
    ["Complete", "Failed"].into_iter().find(|kind| is_true(job["status"]["conditions"].items(), kind))
}

impl Controller {
    pub fn new(caches: &Caches, clock: &Clock, jobs: Arc<Cache>, pods: Arc<Cache>) -> Self {
        let api = caches.api().clone();
        let hands = Hands::new(&api, "job-controller", pods);
        Self { api, jobs, hands, backoffs: Mutex::default(), clock: clock.clone() }
    }

    async fn sync(&self, key: &Key, job: &Value) -> Result<Next, ApiError> {
        let pods = self.hands.claim(key, job, &[FINALIZER]).await?;
        let backoff = self.backoffs.lock().get(key).copied().unwrap_or_default();
        let plan = decide::decide(job, &pods, backoff, self.clock.now());
        self.carry_out(key, job, plan).await
    }

    async fn carry_out(&self, key: &Key, job: &Value, plan: Plan) -> Result<Next, ApiError> {
        for note in &plan.notes {
            note.tell(self.hands.recorder(), job).await;
        }
        for pod in &plan.delete {
            if plan.uncounted {
                self.unfinalize(key, pod).await?;
            }
            self.hands.delete(key, job, pod).await?;
        }
        let (made, failed) = self.create(key, job, &plan.create).await;
        let (mut counting, mut counted) = (plan.counting, plan.counted);
        let missing = i64::try_from(plan.create.len() - made).unwrap_or(0);
        for status in [&mut counting, &mut counted] {
            let active = status["active"].as_i64().unwrap_or(0);
            if let Some(m) = status.as_map_mut().filter(|_| missing > 0) {
                m.remove("active");
                if active > missing {
                    m.insert("active", active - missing);
                }
            }
        }
        let mut job = job.clone();
        if plan.flush
            && let Some(answer) = write_status(&self.api, self.jobs.resource(), &job, counting).await?
        {
            self.hands.written().changed(key, &self.jobs, &answer);
            self.backoffs.lock().insert(key.clone(), plan.backoff);
            job = answer;
        }
        for pod in &plan.unfinalize {
            self.unfinalize(key, pod).await?;
        }
        if let Some(answer) = write_status(&self.api, self.jobs.resource(), &job, counted).await? {
            self.hands.written().changed(key, &self.jobs, &answer);
        }
        for note in &plan.end {
            note.tell(self.hands.recorder(), &job).await;
        }
        failed.map_or(Ok(plan.again.map_or(Next::Wait, Next::After)), Err)
    }

    /// Makes pods until one is refused; returns how many were made, and why not all.
    async fn create(&self, key: &Key, job: &Value, pods: &[NewPod]) -> (usize, Option<ApiError>) {
        for (made, new) in pods.iter().enumerate() {
            if let Err(e) = self.hands.create(key, job, &pod(job, new)).await {
                return (made, Some(e));
            }
        }
        (pods.len(), None)
    }

    async fn unfinalize(&self, key: &Key, pod: &Value) -> Result<(), ApiError> {
        let patch = Value::from(json!({"metadata": {"$deleteFromPrimitiveList/finalizers": [FINALIZER]}}));
        self.hands.patch(key, pod, Patch::Strategic, &patch).await.map(|_| ())
    }

    /// Lets go of pods whose Job is not there any more: nobody counts them.
    async fn release(&self, key: &Key, job: Option<&Value>) -> Result<(), ApiError> {
        for pod in self.hands.children().in_namespace(&key.namespace) {
            let kept = pod["metadata"]["finalizers"].items().iter().any(|f| f.as_str() == Some(FINALIZER));
            if kept && is_orphan(&pod, key, job) {
                self.unfinalize(key, &pod).await?;
            }
        }
        Ok(())
    }

    /// A finished Job goes when its time to live is over.
    async fn expire(&self, key: &Key, job: &Value) -> Result<Next, ApiError> {
        let Some(ttl) = job["spec"]["ttlSecondsAfterFinished"].as_i64().filter(|_| !pods::going(job)) else {
            return Ok(Next::Wait);
        };
        let conditions = job["status"]["conditions"].items();
        let end = finished(job).and_then(|kind| condition(conditions, kind));
        let now = self.clock.now();
        let since = end.and_then(|c| time_at(&c["lastTransitionTime"])).unwrap_or(now);
        let left = SignedDuration::from_secs(ttl) - now.duration_since(since);
        if left.is_positive() {
            return Ok(Next::After(Duration::try_from(left).unwrap_or_default()));
        }
        let options = DeleteOptions {
            propagation: Some("Foreground"),
            uid: job.str_at(["metadata", "uid"]).map(str::to_owned),
            ..DeleteOptions::default()
        };
        self.api.delete(self.jobs.resource(), &key.namespace, &key.name, &options).await?;
        Ok(Next::Wait)
    }
}

/// Whether a pod was of this Job, or of one before it of the same name, and is not any more.
fn is_orphan(pod: &Value, key: &Key, job: Option<&Value>) -> bool {
    let own = |uid: &Value| job.is_some_and(|j| j["metadata"]["uid"] == *uid);
    match pods::controller_of(pod) {
        Some(owner) => {
            owner["kind"].as_str() == Some("Job") && owner["name"].as_str() == Some(&key.name) && !own(&owner["uid"])
        }
        None => {
            let labels = &pod["metadata"]["labels"];
            let adopted = job.is_some_and(|j| selector::selects(&j["spec"]["selector"], labels));
            labels[JOB_NAME].as_str() == Some(&key.name) && !adopted
        }
    }
}

/// A pod of a Job.
fn pod(job: &Value, new: &NewPod) -> Value {
    const LONGEST_PREFIX: usize = 58;
    let mut pod = pods::from_template("v1", "Pod", &job["spec"]["template"], job);
    let name = job.str_at(["metadata", "name"]).unwrap_or_default();
    let mut prefix = format!("{name}-");
    if let Some(index) = new.index {
        let suffix = format!("-{index}-");
        prefix = format!("{}{suffix}", &name[..name.len().min(LONGEST_PREFIX - suffix.len())]);
        for part in ["labels", "annotations"] {
            if let Some(m) = pod.make_map_at(["metadata", part]) {
                m.insert(indexes::INDEX, index.to_string());
            }
        }
        if let Some(spec) = pod.make_map_at(["spec"]) {
            spec.insert("hostname", format!("{name}-{index}"));
            for part in ["initContainers", "containers"] {
                spec.get_mut(part).and_then(Value::as_array_mut).into_iter().flatten().for_each(tell_index);
            }
        }
    }
    if let Some(annotations) = pod.make_map_at(["metadata", "annotations"]).filter(|_| !new.annotations.is_empty()) {
        for (annotation, text) in &new.annotations {
            annotations.insert(*annotation, text.as_str());
        }
    }
    let mut finalizers = job["spec"]["template"]["metadata"]["finalizers"].items().to_vec();
    if !finalizers.iter().any(|f| f.as_str() == Some(FINALIZER)) {
        finalizers.push(FINALIZER.into());
    }
    if let Some(m) = pod.make_map_at(["metadata"]) {
        m.insert("generateName", prefix);
        m.insert("finalizers", finalizers);
    }
    pod
}

/// Gives a container its pod's index, unless it has a variable of that name.
fn tell_index(container: &mut Value) {
    const VARIABLE: &str = "JOB_COMPLETION_INDEX";
    let mut env = container["env"].items().to_vec();
    if env.iter().any(|v| v["name"].as_str() == Some(VARIABLE)) {
        return;
    }
    let path = format!("metadata.labels['{}']", indexes::INDEX);
    env.push(Value::from(json!({"name": VARIABLE, "valueFrom": {"fieldRef": {"fieldPath": path}}})));
    if let Some(m) = container.as_map_mut() {
        m.insert("env", env);
    }
}

impl Reconciler for Controller {
    async fn reconcile(&self, key: Key) -> Next {
        if let Some(next) = self.hands.written().awaited(&key, &self.api).await {
            return next;
        }
        let job = self.jobs.get(&key);
        if let Err(e) = self.release(&key, job.as_deref()).await {
            return pods::outcome(Err(e));
        }
        let Some(job) = job else {
            self.hands.written().forget(&key);
            self.backoffs.lock().remove(&key);
            return Next::Wait;
        };
        if job.str_at(["spec", "managedBy"]).is_some_and(|by| by != OURS) {
            return Next::Wait;
        }
        let result = if finished(&job).is_some() {
            self.backoffs.lock().remove(&key);
            self.expire(&key, &job).await
        } else {
            self.sync(&key, &job).await
        };
        result.unwrap_or_else(|e| pods::outcome(Err(e)))
    }
}
