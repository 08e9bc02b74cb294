//! DaemonSet: one pod on each node its template may run on.
//!
//! As upstream's `pkg/controller/daemon`. What to do is decided by [`decide`]; this does it.

mod decide;
mod placement;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::Arc;

use druse_object::Value;
use druse_runtime::{Api, ApiError, Cache, Caches, Clock, Key, Next, Reconciler};

use super::hands::Hands;
use super::pods;
use super::report::write_status;
use super::revisions::{History, POD_LABEL};
use crate::kinds;

pub struct Controller {
    api: Api,
    sets: Arc<Cache>,
    nodes: Arc<Cache>,
    hands: Hands,
    history: History,
    clock: Clock,
}

impl Controller {
    pub fn new(caches: &Caches, clock: &Clock, sets: Arc<Cache>, pods: Arc<Cache>) -> Self {
        const COMPONENT: &str = "daemonset-controller";
        let api = caches.api().clone();
        let hands = Hands::new(&api, COMPONENT, pods);
        let history = History::new(&api, caches, COMPONENT, POD_LABEL);
        Self { api, sets, nodes: caches.of(&kinds::nodes()), hands, history, clock: clock.clone() }
    }

    async fn sync(&self, key: &Key, set: &Value) -> Result<Next, ApiError> {
        self.nodes.synced().await;
        let mine = self.hands.claim(key, set, &[]).await?;
        let revisions = self.history.of(key, set).await?;
        let hash = revisions.update.hash.as_str();
        let mut plan = decide::decide(set, &self.nodes.all(), &mine, hash, self.clock.now());
        if let Some(m) = plan.status.as_map_mut().filter(|_| revisions.collisions > 0) {
            m.insert("collisionCount", revisions.collisions);
        }
        for note in &plan.notes {
            note.tell(self.hands.recorder(), set).await;
        }
        let done = self.carry_out(key, set, &plan, hash).await;
        if let Some(answer) = write_status(&self.api, self.sets.resource(), set, plan.status).await? {
            self.hands.written().changed(key, &self.sets, &answer);
        }
        done?;
        let mut used: BTreeSet<String> = [hash.to_owned()].into();
        used.extend(mine.iter().filter_map(|p| p["metadata"]["labels"][POD_LABEL].as_str().map(str::to_owned)));
        self.history.clean_up(key, set, &revisions.all, &used).await?;
        Ok(plan.again.map_or(Next::Wait, Next::After))
    }

    async fn carry_out(&self, key: &Key, set: &Value, plan: &decide::Plan, hash: &str) -> Result<(), ApiError> {
        for node in &plan.create {
            self.hands.create(key, set, &pod(set, node, hash)).await?;
        }
        for pod in &plan.delete {
            self.hands.delete(key, set, pod).await?;
        }
        Ok(())
    }
}

/// The pod of a node.
fn pod(set: &Value, node: &str, hash: &str) -> Value {
    let mut pod = pods::from_template("v1", "Pod", &set["spec"]["template"], set);
    if let Some(m) = pod.make_map_at(["metadata"]) {
        m.insert("generateName", format!("{}-", set.str_at(["metadata", "name"]).unwrap_or_default()));
    }
    if let Some(labels) = pod.make_map_at(["metadata", "labels"]) {
        labels.insert(POD_LABEL, hash);
        if let Some(generation) = set["metadata"]["annotations"]["deprecated.daemonset.template.generation"].as_str() {
            labels.insert("pod-template-generation", generation);
        }
    }
    if let Some(spec) = pod.make_map_at(["spec"]) {
        placement::bind(spec, node);
    }
    pod
}

impl Reconciler for Controller {
    async fn reconcile(&self, key: Key) -> Next {
        let set = match self.history.owner(&self.sets, &self.hands, &key).await {
            Ok(set) => set,
            Err(next) => return next,
        };
        self.sync(&key, &set).await.unwrap_or_else(|e| pods::outcome(Err(e)))
    }
}
