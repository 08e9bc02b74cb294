//! ReplicaSet: keeps the declared number of pods.
//!
//! As upstream's `pkg/controller/replicaset`: pods its selector chooses are adopted, those it does not choose any more are
//! released; which go first when there are too many says [`rank`].

use std::sync::Arc;

use druse_object::{Map, Value, selector};
use druse_runtime::{Api, ApiError, Cache, Caches, Clock, Key, Next, Reconciler};
use jiff::Timestamp;

use super::hands::Hands;
use super::pods::{self, is_active, is_ready, is_terminating};
use super::rank;
use super::report::{new_condition, write_status};

/// How many pods are made or deleted at once.
const BATCH: usize = 500;

pub struct Controller {
    api: Api,
    sets: Arc<Cache>,
    hands: Hands,
    clock: Clock,
}

impl Controller {
    pub fn new(caches: &Caches, clock: &Clock, sets: Arc<Cache>, pods: Arc<Cache>) -> Self {
        let api = caches.api().clone();
        let hands = Hands::new(&api, "replicaset-controller", pods);
        Self { api, sets, hands, clock: clock.clone() }
    }

    async fn sync(&self, key: &Key, set: &Value) -> Result<Next, ApiError> {
        let mine = self.hands.claim(key, set, &[]).await?;
        let now = self.clock.now();
        let failed = if pods::going(set) { None } else { self.manage(key, set, &mine, now).await.err() };
        let failure = failed.as_ref().map(|(reason, e)| (*reason, e.to_string()));
        let status = status(set, &mine, failure, now);
        if let Some(answer) = write_status(&self.api, self.sets.resource(), set, status).await? {
            self.hands.written().changed(key, &self.sets, &answer);
        }
        match failed {
            Some((_, e)) => Err(e),
            None => Ok(pods::next_available(set, &mine, now).map_or(Next::Wait, Next::After)),
        }
    }

    /// Makes or deletes pods; an error comes with the reason that the status gives.
    async fn manage(
        &self,
        key: &Key,
        set: &Value,
        mine: &[Arc<Value>],
        now: Timestamp,
    ) -> Result<(), (&'static str, ApiError)> {
        let active: Vec<Arc<Value>> = mine.iter().filter(|p| is_active(p)).cloned().collect();
        let want = usize::try_from(set["spec"]["replicas"].as_i64().unwrap_or(1)).unwrap_or(0);
        for _ in 0..want.saturating_sub(active.len()).min(BATCH) {
            let mut pod = pods::from_template("v1", "Pod", &set["spec"]["template"], set);
            if let Some(m) = pod.make_map_at(["metadata"]) {
                m.insert("generateName", format!("{}-", key.name));
            }
            self.hands.create(key, set, &pod).await.map_err(|e| ("FailedCreate", e))?;
        }
        if active.len() > want {
            let (related, count) = (self.related(set), active.len() - want);
            for pod in first_to_go(active, &related, count.min(BATCH), now) {
                self.hands.delete(key, set, &pod).await.map_err(|e| ("FailedDelete", e))?;
            }
        }
        Ok(())
    }

    /// The pods of all ReplicaSets with the same owner, this one included.
    fn related(&self, set: &Value) -> Vec<Arc<Value>> {
        let namespace = set.str_at(["metadata", "namespace"]).unwrap_or_default();
        let sets = self.sets.in_namespace(namespace);
        let own = |s: &&Arc<Value>| s["metadata"]["uid"] == set["metadata"]["uid"] || rank::same_owner(s, set);
        sets.iter().filter(own).flat_map(|s| pods::owned(self.hands.children(), s)).collect()
    }
}

fn first_to_go(mut active: Vec<Arc<Value>>, related: &[Arc<Value>], count: usize, now: Timestamp) -> Vec<Arc<Value>> {
    if count < active.len() {
        rank::sort_for_scale_down(&mut active, related, now);
    }
    active.truncate(count);
    active
}

/// The status of a ReplicaSet with these pods; `failure` says why they could not be made as many as they should.
fn status(set: &Value, mine: &[Arc<Value>], failure: Option<(&str, String)>, now: Timestamp) -> Value {
    const FAILURE: &str = "ReplicaFailure";
    let active: Vec<&Arc<Value>> = mine.iter().filter(|p| is_active(p)).collect();
    let template = &set["spec"]["template"]["metadata"]["labels"];
    let count = |which: &dyn Fn(&Value) -> bool| i64::try_from(active.iter().filter(|p| which(p)).count()).unwrap_or(0);
    let mut m = Map::new();
    if let Some(generation) = set["metadata"]["generation"].as_i64() {
        m.insert("observedGeneration", generation);
    }
    m.insert("replicas", count(&|_| true));
    for (field, n) in [
        ("fullyLabeledReplicas", count(&|p| selector::has_all(template, &p["metadata"]["labels"]))),
        ("readyReplicas", count(&is_ready)),
        ("availableReplicas", count(&|p| pods::is_available(p, set, now))),
    ] {
        if n != 0 {
            m.insert(field, n);
        }
    }
    m.insert("terminatingReplicas", mine.iter().filter(|p| is_terminating(p)).count());
    let mut conditions = set["status"]["conditions"].items().to_vec();
    match failure {
        Some((reason, message)) if !conditions.iter().any(|c| c["type"].as_str() == Some(FAILURE)) => {
            conditions.push(new_condition(FAILURE, true, reason, &message, &["lastTransitionTime"], now));
        }
        Some(_) => {}
        None => conditions.retain(|c| c["type"].as_str() != Some(FAILURE)),
    }
    if !conditions.is_empty() {
        m.insert("conditions", conditions);
    }
    Value::Map(m)
}

impl Reconciler for Controller {
    async fn reconcile(&self, key: Key) -> Next {
        let set = match self.hands.written().owner(&self.sets, &key, &self.api).await {
            Ok(set) => set,
            Err(next) => return next,
        };
        self.sync(&key, &set).await.unwrap_or_else(|e| pods::outcome(Err(e)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{list, value};

    #[test]
    fn the_status_counts_active_pods_and_says_why_there_are_too_few() {
        let set = value(
            "metadata: {generation: 2}
spec: {minReadySeconds: 60, template: {metadata: {labels: {app: a, tier: b}}}}
status: {conditions: [{type: ReplicaFailure, status: 'True', reason: FailedCreate, message: before}]}",
        );
        let pods = list(
            "
- {metadata: {labels: {app: a, tier: b}}, status: {phase: Running, conditions: [{type: Ready, status: 'True', lastTransitionTime: '2026-01-01T00:00:00Z'}]}}
- {metadata: {labels: {app: a}}, status: {phase: Running, conditions: [{type: Ready, status: 'True', lastTransitionTime: '2026-01-01T00:09:30Z'}]}}
- {metadata: {labels: {app: a}}, status: {phase: Pending}}
- {metadata: {labels: {app: a}, deletionTimestamp: x}, status: {phase: Running}}
- {metadata: {labels: {app: a}}, status: {phase: Failed}}",
        );
        let now = "2026-01-01T00:10:00Z".parse().unwrap();
        assert_eq!(
            status(&set, &pods, None, now),
            value(
                "{observedGeneration: 2, replicas: 3, fullyLabeledReplicas: 1, readyReplicas: 2, availableReplicas: 1, \
                 terminatingReplicas: 1}"
            )
        );
        assert_eq!(pods::next_available(&set, &pods, now).map(|d| d.as_secs()), Some(30));
        let told = |set: &Value| {
            let status = status(set, &[], Some(("FailedCreate", "quota".into())), now);
            status["conditions"].items()[0]["message"].as_str().unwrap_or_default().to_owned()
        };
        assert_eq!(told(&set), "before");
        assert_eq!(told(&value("{}")), "quota");
    }
}
