//! Deployment: one ReplicaSet a pod template, rolled over within `maxSurge` and `maxUnavailable`.
//!
//! As upstream's `pkg/controller/deployment`. What to do is decided by [`decide`]; this does it.

mod decide;
mod progress;
mod sets;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use druse_object::{Map, Value};
use druse_runtime::{Api, ApiError, Cache, Caches, Clock, Key, Next, Patch, Reconciler};

use super::hands::Hands;
use super::pods;
use super::report::{Note, new_condition, write_status, write_status_and};

pub struct Controller {
    api: Api,
    deployments: Arc<Cache>,
    pods: Arc<Cache>,
    hands: Hands,
    clock: Clock,
}

impl Controller {
    pub fn new(caches: &Caches, clock: &Clock, deployments: Arc<Cache>, sets: Arc<Cache>) -> Self {
        let api = caches.api().clone();
        let hands = Hands::new(&api, "deployment-controller", sets);
        let pods = caches.of(&crate::kinds::pods());
        Self { api, deployments, pods, hands, clock: clock.clone() }
    }

    async fn sync(&self, key: &Key, deployment: &Value) -> Result<Next, ApiError> {
        let sets = self.hands.claim(key, deployment, &[]).await?;
        let old_pods_run = |new: Option<&Value>| {
            let old = sets.iter().filter(|s| new.is_none_or(|n| n["metadata"]["uid"] != s["metadata"]["uid"]));
            old.flat_map(|s| pods::owned(&self.pods, s)).any(|p| !pods::has_ended(&p))
        };
        let plan = decide::decide(deployment, &sets, old_pods_run, self.clock.now());
        if let Some(set) = &plan.create
            && let Err(e) = self.create(key, deployment, set).await
        {
            return self.not_made(deployment, set, e).await;
        }
        for set in &plan.change {
            if let Some(patch) = set.patch() {
                self.hands.patch(key, &set.object, Patch::Merge, &patch).await?;
            }
        }
        for note in &plan.notes {
            note.tell(self.hands.recorder(), deployment).await;
        }
        for set in &plan.remove {
            self.hands.remove(key, set).await?;
        }
        let again = plan.again.map_or(Next::Wait, Next::After);
        self.finish(key, deployment, plan).await?;
        Ok(again)
    }

    async fn create(&self, key: &Key, deployment: &Value, set: &Value) -> Result<(), ApiError> {
        let cache = self.hands.children();
        let made = match self.api.create(cache.resource(), &key.namespace, set).await {
            Err(e) if e.reason() == "AlreadyExists" => {
                let there = self.api.get(cache.resource(), &key.namespace, &Key::of(set).name).await?;
                there.filter(|s| sets::is_of(s, deployment)).ok_or(e)?
            }
            other => other?,
        };
        self.hands.written().made(key, cache, &made);
        Ok(())
    }

    /// The new ReplicaSet's name is taken, or it was refused: the status says so.
    async fn not_made(&self, deployment: &Value, set: &Value, e: ApiError) -> Result<Next, ApiError> {
        let mut status = deployment["status"].clone();
        let name = Key::of(set).name;
        if e.reason() == "AlreadyExists" {
            // Another hash is tried.
            let count = status["collisionCount"].as_i64().unwrap_or(0);
            if let Some(m) = status.make_map() {
                m.insert("collisionCount", count + 1);
            }
        } else if !pods::namespace_goes(&e) {
            let message = format!("Failed to create new replica set \"{name}\": {e}");
            Note::warning("ReplicaSetCreateError", message.as_str()).tell(self.hands.recorder(), deployment).await;
            let times = ["lastUpdateTime", "lastTransitionTime"];
            let new = new_condition("Progressing", false, "ReplicaSetCreateError", &message, &times, self.clock.now());
            let mut conditions = status["conditions"].items().to_vec();
            progress::set(&mut conditions, new);
            if let Some(m) = status.make_map() {
                m.insert("conditions", conditions);
            }
        }
        write_status(&self.api, self.deployments.resource(), deployment, status).await?;
        Err(e)
    }

    /// Writes status and revision.
    async fn finish(&self, key: &Key, deployment: &Value, plan: decide::Plan) -> Result<(), ApiError> {
        let resource = self.deployments.resource();
        let revision = plan.revision.as_deref().map(|r| (sets::REVISION, r));
        if let Some(answer) = write_status_and(&self.api, resource, deployment, plan.status, revision).await? {
            self.hands.written().changed(key, &self.deployments, &answer);
        }
        Ok(())
    }
}

impl Reconciler for Controller {
    async fn reconcile(&self, key: Key) -> Next {
        let deployment = match self.hands.written().owner(&self.deployments, &key, &self.api).await {
            Ok(deployment) => deployment,
            Err(next) => return next,
        };
        let selector = &deployment["spec"]["selector"];
        let all = ["matchLabels", "matchExpressions"]
            .iter()
            .all(|f| selector[*f].as_map().is_none_or(Map::is_empty) && selector[*f].items().is_empty());
        if all {
            let message = "This deployment is selecting all pods. A non-empty selector is required.";
            Note::warning("SelectingAll", message).tell(self.hands.recorder(), &deployment).await;
            return Next::Wait;
        }
        self.sync(&key, &deployment).await.unwrap_or_else(|e| pods::outcome(Err(e)))
    }
}
