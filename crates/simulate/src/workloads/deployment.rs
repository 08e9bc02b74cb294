//! Deployment: one ReplicaSet a pod template, rolled over within maxSurge and maxUnavailable.

use std::sync::Arc;

use druse_object::{Map, Value};
use druse_runtime::{Api, ApiError, Cache, Caches, DeleteOptions, Key, Next, Patch, Reconciler};
use serde_json::json;

use super::pods;

const REVISION: &str = "deployment.kubernetes.io/revision";
const HASH: &str = "pod-template-hash";

pub struct Controller {
    api: Api,
    deployments: Arc<Cache>,
    sets: Arc<Cache>,
}

impl Controller {
    pub fn new(caches: &Caches, deployments: Arc<Cache>, sets: Arc<Cache>) -> Self {
        Self { api: caches.api().clone(), deployments, sets }
    }

    async fn sync(&self, d: &Value) -> Result<(), ApiError> {
        let want = d["spec"]["replicas"].as_i64().unwrap_or(1);
        let sets = pods::children(&self.sets, d);
        let hash = pods::template_hash(&d["spec"]["template"]);
        let (mut new, old): (Vec<_>, Vec<_>) =
            sets.into_iter().partition(|s| s["metadata"]["labels"][HASH].as_str() == Some(&hash));
        let new = new.pop();
        let count = |s: &Value| s["spec"]["replicas"].as_i64().unwrap_or(0);
        let available = |s: &Value| s["status"]["availableReplicas"].as_i64().unwrap_or(0);
        let old_total: i64 = old.iter().map(|s| count(s)).sum();
        let recreate = d.str_at(["spec", "strategy", "type"]) == Some("Recreate");
        let rolling = &d["spec"]["strategy"]["rollingUpdate"];
        let surge = if recreate { 0 } else { pods::int_or_percent(&rolling["maxSurge"], want, true, "25%") };
        let mut unavailable = pods::int_or_percent(&rolling["maxUnavailable"], want, false, "25%");
        if surge == 0 && unavailable == 0 {
            unavailable = 1;
        }
        let paused = d["spec"]["paused"].as_bool() == Some(true);

        // Scale up within the surge, then old ones down as new ones become available.
        let room = if recreate && old_total > 0 { 0 } else { (want + surge - old_total).max(0) };
        let target = want.min(room);
        match &new {
            None if !paused => return self.create_set(d, &hash, target, &old).await,
            None => {}
            Some(s) if count(s) > want || count(s) < target => {
                self.scale(s, if count(s) > want { want } else { target }).await?;
            }
            Some(_) => {}
        }
        let new_available = new.as_ref().map_or(0, |s| available(s));
        let old_available: i64 = old.iter().map(|s| available(s)).sum();
        let keep = if recreate { 0 } else { want - unavailable };
        let mut may_go = if recreate { old_total } else { (new_available + old_available - keep).max(0) };
        for s in old.iter().filter(|s| count(s) > 0) {
            // Pods that never became available may always go.
            let broken = count(s) - available(s);
            let down = (may_go + broken).min(count(s));
            if down > 0 {
                self.scale(s, count(s) - down).await?;
                may_go -= (down - broken).max(0);
            }
        }
        self.clean_history(d, &old).await?;
        self.report(d, want, new.as_deref(), &old).await
    }

    async fn create_set(&self, d: &Value, hash: &str, replicas: i64, old: &[Arc<Value>]) -> Result<(), ApiError> {
        let mut template = d["spec"]["template"].clone();
        if let Some(labels) = template.make_map_at(["metadata", "labels"]) {
            labels.insert(HASH, hash);
        }
        let mut selector = d["spec"]["selector"].clone();
        if let Some(labels) = selector.make_map_at(["matchLabels"]) {
            labels.insert(HASH, hash);
        }
        let revision = 1 + old.iter().filter_map(|s| revision(s)).max().unwrap_or(0);
        let mut set = pods::from_template("apps/v1", "ReplicaSet", &template, d);
        let mut annotations = d["metadata"]["annotations"].as_map().cloned().unwrap_or_default();
        annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
        annotations.insert(REVISION, revision.to_string());
        annotations.insert(
            "deployment.kubernetes.io/desired-replicas",
            d["spec"]["replicas"].as_i64().unwrap_or(1).to_string(),
        );
        if let Some(m) = set.make_map_at(["metadata"]) {
            m.insert("name", format!("{}-{hash}", d.str_at(["metadata", "name"]).unwrap_or_default()));
            m.insert("annotations", annotations);
        }
        let mut spec = Map::new();
        spec.insert("replicas", replicas);
        spec.insert("selector", selector);
        spec.insert("template", template);
        if let Some(m) = set.as_map_mut() {
            m.insert("spec", spec);
        }
        let ns = d.str_at(["metadata", "namespace"]).unwrap_or_default();
        match self.api.create(self.sets.resource(), ns, &set).await {
            // The cache had not seen it yet; its event brings this deployment back.
            Err(e) if e.reason() == "AlreadyExists" => {}
            other => {
                other?;
            }
        }
        if d["metadata"]["annotations"][REVISION].as_str() != Some(&revision.to_string()) {
            let note = json!({"metadata": {"annotations": {REVISION: revision.to_string()}}});
            let key = Key::of(d);
            self.api
                .patch(self.deployments.resource(), &key.namespace, &key.name, "", Patch::Merge, &Value::from(note))
                .await?;
        }
        Ok(())
    }

    async fn scale(&self, set: &Value, replicas: i64) -> Result<(), ApiError> {
        let key = Key::of(set);
        let patch = Value::from(json!({"spec": {"replicas": replicas}}));
        self.api.patch(self.sets.resource(), &key.namespace, &key.name, "", Patch::Merge, &patch).await.map(|_| ())
    }

    /// Old, empty sets beyond the revision history limit go, oldest first.
    async fn clean_history(&self, d: &Value, old: &[Arc<Value>]) -> Result<(), ApiError> {
        let limit = usize::try_from(d["spec"]["revisionHistoryLimit"].as_i64().unwrap_or(10)).unwrap_or(0);
        let mut empty: Vec<_> = old
            .iter()
            .filter(|s| s["spec"]["replicas"].as_i64() == Some(0) && s["status"]["replicas"].as_i64().unwrap_or(0) == 0)
            .collect();
        empty.sort_by_key(|s| revision(s));
        for s in empty.iter().take(empty.len().saturating_sub(limit)) {
            let key = Key::of(s);
            self.api.delete(self.sets.resource(), &key.namespace, &key.name, &DeleteOptions::default()).await?;
        }
        Ok(())
    }

    async fn report(&self, d: &Value, want: i64, new: Option<&Value>, old: &[Arc<Value>]) -> Result<(), ApiError> {
        let field = |s: &Value, f: &str| s["status"][f].as_i64().unwrap_or(0);
        let sum = |f: &str| new.map_or(0, |s| field(s, f)) + old.iter().map(|s| field(s, f)).sum::<i64>();
        let updated = new.map_or(0, |s| field(s, "replicas"));
        let (total, ready, available) = (sum("replicas"), sum("readyReplicas"), sum("availableReplicas"));
        let unavailable_allowed =
            pods::int_or_percent(&d["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"], want, false, "25%");
        let enough = available >= want - unavailable_allowed;
        let complete = updated == want && total == want && available >= want;
        let set = new.and_then(|s| s.str_at(["metadata", "name"])).unwrap_or_default();
        let progress = if complete {
            ("NewReplicaSetAvailable", format!("ReplicaSet \"{set}\" has successfully progressed."))
        } else {
            ("ReplicaSetUpdated", format!("ReplicaSet \"{set}\" is progressing."))
        };
        let available_condition = if enough {
            pods::condition(d, "Available", true, "MinimumReplicasAvailable", "Deployment has minimum availability.")
        } else {
            pods::condition(
                d,
                "Available",
                false,
                "MinimumReplicasUnavailable",
                "Deployment does not have minimum availability.",
            )
        };
        let absent_when_zero = |n: i64| (n != 0).then_some(n);
        let status = json!({
            "observedGeneration": d["metadata"]["generation"].as_i64(),
            "replicas": absent_when_zero(total), "updatedReplicas": absent_when_zero(updated),
            "readyReplicas": absent_when_zero(ready), "availableReplicas": absent_when_zero(available),
            "unavailableReplicas": absent_when_zero((total.max(want) - available).max(0)),
            "conditions": [available_condition, pods::condition(d, "Progressing", true, progress.0, &progress.1)],
        });
        pods::write_status(&self.api, self.deployments.resource(), d, status).await
    }
}

fn revision(set: &Value) -> Option<i64> {
    set["metadata"]["annotations"][REVISION].as_str()?.parse().ok()
}

impl Reconciler for Controller {
    async fn reconcile(&self, key: Key) -> Next {
        match self.deployments.get(&key) {
            Some(d) if !pods::going(&d) => pods::outcome(self.sync(&d).await),
            _ => Next::Wait,
        }
    }
}
