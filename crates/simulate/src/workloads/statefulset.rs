//! StatefulSet: pods with ordinals and claims of their own, made and updated in order.

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
}

impl Controller {
    pub fn new(caches: &Caches, sets: Arc<Cache>, pods: Arc<Cache>) -> Self {
        Self { api: caches.api().clone(), sets, pods }
    }

    async fn sync(&self, set: &Value) -> Result<(), ApiError> {
        let name = set.str_at(["metadata", "name"]).unwrap_or_default();
        let ns = set.str_at(["metadata", "namespace"]).unwrap_or_default();
        let want = set["spec"]["replicas"].as_i64().unwrap_or(1);
        let start = set["spec"]["ordinals"]["start"].as_i64().unwrap_or(0);
        let revision = format!("{name}-{}", pods::template_hash(&set["spec"]["template"]));
        let in_order = set.str_at(["spec", "podManagementPolicy"]) != Some("Parallel");
        let mine = pods::children(&self.pods, set);
        let of =
            |ordinal: i64| mine.iter().find(|p| p.str_at(["metadata", "name"]) == Some(&format!("{name}-{ordinal}")));

        let mut blocked = false;
        for ordinal in start..start + want {
            if blocked && in_order {
                break;
            }
            if let Some(p) = of(ordinal) {
                blocked = !is_ready(p);
            } else {
                self.create(set, ns, name, ordinal, &revision).await?;
                blocked = true;
            }
        }
        // Scale down from the highest ordinal.
        let mut extra: Vec<_> =
            mine.iter().filter(|p| ordinal_of(p, name).is_some_and(|o| o >= start + want)).collect();
        extra.sort_by_key(|p| std::cmp::Reverse(ordinal_of(p, name)));
        for p in extra.iter().take(if in_order { 1 } else { extra.len() }) {
            delete_pod(&self.api, p).await?;
        }
        // Roll to a new template, highest ordinal first, one at a time, when everything is ready.
        let rolling = set.str_at(["spec", "updateStrategy", "type"]) != Some("OnDelete");
        let partition = set["spec"]["updateStrategy"]["rollingUpdate"]["partition"].as_i64().unwrap_or(0);
        let current = |p: &Value| p["metadata"]["labels"][HASH].as_str() == Some(&revision);
        let ready = mine.iter().filter(|p| is_ready(p)).count();
        if rolling && ready == mine.len() && i64::try_from(ready) == Ok(want) {
            let stale = (start + partition..start + want).rev().filter_map(of).find(|p| !current(p));
            if let Some(p) = stale {
                delete_pod(&self.api, p).await?;
            }
        }
        let updated = mine.iter().filter(|p| current(p)).count();
        let done = updated == mine.len();
        let status = json!({
            "observedGeneration": set["metadata"]["generation"].as_i64(),
            "replicas": mine.len(), "readyReplicas": ready, "availableReplicas": ready,
            "currentReplicas": if done { mine.len() } else { mine.len() - updated }, "updatedReplicas": updated,
            "currentRevision": if done { Some(revision.as_str()) } else { set.str_at(["status", "currentRevision"]).or(Some(revision.as_str())) },
            "updateRevision": revision, "collisionCount": 0,
        });
        pods::write_status(&self.api, self.sets.resource(), set, status).await
    }

    async fn create(&self, set: &Value, ns: &str, name: &str, ordinal: i64, revision: &str) -> Result<(), ApiError> {
        let pod_name = format!("{name}-{ordinal}");
        let mut pod = pods::from_template("v1", "Pod", &set["spec"]["template"], set);
        if let Some(m) = pod.make_map_at(["metadata"]) {
            m.insert("name", pod_name.as_str());
        }
        if let Some(labels) = pod.make_map_at(["metadata", "labels"]) {
            labels.insert(HASH, revision);
            labels.insert("statefulset.kubernetes.io/pod-name", pod_name.as_str());
            labels.insert("apps.kubernetes.io/pod-index", ordinal.to_string());
        }
        let mut volumes: Vec<Value> = pod["spec"]["volumes"].items().to_vec();
        for template in set["spec"]["volumeClaimTemplates"].items() {
            let volume = template.str_at(["metadata", "name"]).unwrap_or_default();
            let claim_name = format!("{volume}-{pod_name}");
            let mut claim = template.clone();
            if let Some(m) = claim.as_map_mut() {
                m.insert("apiVersion", "v1");
                m.insert("kind", "PersistentVolumeClaim");
                m.remove("status");
            }
            if let Some(m) = claim.make_map_at(["metadata"]) {
                m.insert("name", claim_name.as_str());
                m.insert("namespace", ns);
            }
            if let (Some(labels), Some(selector)) =
                (claim.make_map_at(["metadata", "labels"]), set["spec"]["selector"]["matchLabels"].as_map())
            {
                for (k, v) in selector.iter() {
                    labels.insert(k.clone(), v.clone());
                }
            }
            match self.api.create(&kinds::claims(), ns, &claim).await {
                Err(e) if e.reason() == "AlreadyExists" => {}
                other => {
                    other?;
                }
            }
            volumes.retain(|v| v["name"].as_str() != Some(volume));
            volumes.push(Value::from(json!({"name": volume, "persistentVolumeClaim": {"claimName": claim_name}})));
        }
        if let Some(spec) = pod.make_map_at(["spec"]) {
            if !volumes.is_empty() {
                spec.insert("volumes", volumes);
            }
            spec.insert("hostname", pod_name.as_str());
            if let Some(service) = set.str_at(["spec", "serviceName"]).filter(|s| !s.is_empty()) {
                spec.insert("subdomain", service);
            }
        }
        match self.api.create(&kinds::pods(), ns, &pod).await {
            Err(e) if e.reason() == "AlreadyExists" => Ok(()),
            other => other.map(|_| ()),
        }
    }
}

fn ordinal_of(pod: &Value, set: &str) -> Option<i64> {
    pod.str_at(["metadata", "name"])?.strip_prefix(set)?.strip_prefix('-')?.parse().ok()
}

impl Reconciler for Controller {
    async fn reconcile(&self, key: Key) -> Next {
        match self.sets.get(&key) {
            Some(set) if !pods::going(&set) => pods::outcome(self.sync(&set).await),
            _ => Next::Wait,
        }
    }
}
