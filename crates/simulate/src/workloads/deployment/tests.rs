//! Deployments and their ReplicaSets → what is done, step by step.

use std::sync::Arc;

use druse_object::Value;
use druse_runtime::clock;
use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use super::decide::{Plan, decide};
use super::sets::{REVISION, is_of};
use crate::testing::value;

/// A Deployment, its ReplicaSets, and pods that become available when a test says so.
struct World {
    deployment: Value,
    sets: Vec<Value>,
    now: Timestamp,
    notes: Vec<String>,
}

fn put(object: &mut Value, part: &str, patch: serde_json::Value) {
    if let (Some(m), Value::Map(patch)) = (object.make_map_at([part]), Value::from(patch)) {
        for (k, v) in patch.iter() {
            m.insert(k.clone(), v.clone());
        }
    }
}

impl World {
    fn new(spec: &str) -> Self {
        let deployment = value(&format!(
            "apiVersion: apps/v1
kind: Deployment
metadata: {{name: web, namespace: home, uid: d, generation: 1, annotations: {{team: a}}}}
spec:
  {{selector: {{matchLabels: {{app: web}}}}, progressDeadlineSeconds: 600, revisionHistoryLimit: 10,
   template: {{metadata: {{labels: {{app: web}}}}, spec: {{containers: [{{name: c, image: 'i:1'}}]}}}}, {spec}}}"
        ));
        let now = "2026-01-01T00:00:00Z".parse().unwrap();
        Self { deployment, sets: Vec::new(), now, notes: Vec::new() }
    }

    fn spec(&mut self, patch: serde_json::Value) {
        put(&mut self.deployment, "spec", patch);
        let generation = self.deployment["metadata"]["generation"].as_i64().unwrap_or(0) + 1;
        put(&mut self.deployment, "metadata", json!({"generation": generation}));
    }

    fn image(&mut self, image: &str) {
        let template =
            json!({"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": image}]}});
        self.spec(json!({"template": template}));
    }

    fn decide(&self) -> Plan {
        let sets: Vec<Arc<Value>> = self.sets.iter().cloned().map(Arc::new).collect();
        decide(&self.deployment, &sets, |_| false, self.now)
    }

    /// One round of the controller.
    fn round(&mut self) -> bool {
        let plan = self.decide();
        let mut changed = plan.create.is_some() || !plan.change.is_empty() || !plan.remove.is_empty();
        if let Some(mut set) = plan.create {
            let uid = format!("u{}", self.sets.len());
            let made = clock::text(self.now + SignedDuration::from_secs(i64::try_from(self.sets.len()).unwrap()));
            put(&mut set, "metadata", json!({"uid": uid, "creationTimestamp": made, "generation": 1}));
            self.sets.push(set);
        }
        for set in plan.change {
            let patch = set.patch().unwrap();
            let there = self.sets.iter_mut().find(|s| s["metadata"]["name"] == set.object["metadata"]["name"]).unwrap();
            put(there, "spec", patch["spec"].clone().into());
            let mut annotations = there["metadata"]["annotations"].as_map().cloned().unwrap_or_default();
            for (k, v) in patch["metadata"]["annotations"].as_map().unwrap().iter() {
                annotations.insert(k.clone(), v.clone());
            }
            there.make_map_at(["metadata"]).unwrap().insert("annotations", annotations);
        }
        self.sets.retain(|s| !plan.remove.iter().any(|r| r["metadata"]["uid"] == s["metadata"]["uid"]));
        changed |= self.deployment["status"] != plan.status;
        self.deployment.as_map_mut().unwrap().insert("status", plan.status);
        self.notes.extend(plan.notes.iter().map(|n| format!("{n:?}")));
        changed
    }

    /// Pods come and go as the ReplicaSets ask; those of `broken` images never become available.
    fn pods(&mut self, broken: &str) {
        for set in &mut self.sets {
            let n = set["spec"]["replicas"].as_i64().unwrap_or(0);
            let image = set["spec"]["template"]["spec"]["containers"].items()[0]["image"].clone();
            let available = if image.as_str() == Some(broken) { 0 } else { n };
            put(
                set,
                "status",
                json!({"replicas": n, "readyReplicas": available, "availableReplicas": available, "observedGeneration": 9}),
            );
        }
    }

    /// The sizes of all ReplicaSets.
    fn sizes(&self) -> Vec<i64> {
        self.sets.iter().map(|s| s["spec"]["replicas"].as_i64().unwrap_or(0)).collect()
    }

    /// Runs until nothing changes, and returns the sizes after each round.
    fn run(&mut self, broken: &str) -> Vec<Vec<i64>> {
        let mut out = Vec::new();
        for _ in 0..100 {
            let changed = self.round();
            if out.last() != Some(&self.sizes()) {
                out.push(self.sizes());
            }
            if !changed {
                break;
            }
            self.pods(broken);
        }
        out
    }

    fn progressing(&self) -> String {
        let conditions = self.deployment["status"]["conditions"].items();
        let c = conditions.iter().find(|c| c["type"].as_str() == Some("Progressing"));
        c.map_or_else(String::new, |c| {
            format!("{} {}", c["status"].as_str().unwrap_or_default(), c["reason"].as_str().unwrap_or_default())
        })
    }
}

#[test]
fn a_rollout_grows_the_new_and_shrinks_the_old_within_surge_and_availability() {
    for (strategy, replicas, steps) in [
        // 25 % of 4 is one more, one less.
        (
            "{type: RollingUpdate, rollingUpdate: {maxSurge: 25%, maxUnavailable: 25%}}",
            4,
            vec![vec![3, 1], vec![3, 2], vec![1, 2], vec![1, 4], vec![0, 4]],
        ),
        (
            "{type: RollingUpdate, rollingUpdate: {maxSurge: 1, maxUnavailable: 0}}",
            2,
            vec![vec![2, 1], vec![1, 1], vec![1, 2], vec![0, 2]],
        ),
        (
            "{type: RollingUpdate, rollingUpdate: {maxSurge: 0, maxUnavailable: 1}}",
            2,
            vec![vec![1, 0], vec![1, 1], vec![0, 1], vec![0, 2]],
        ),
        ("{type: RollingUpdate, rollingUpdate: {maxSurge: 0%, maxUnavailable: 0%}}", 1, vec![vec![0, 0], vec![0, 1]]),
        ("{type: Recreate}", 3, vec![vec![0], vec![0, 3]]),
    ] {
        let mut world = World::new(&format!("replicas: {replicas}, strategy: {strategy}"));
        assert_eq!(world.run(""), [vec![replicas]], "{strategy}");
        assert_eq!(world.progressing(), "True NewReplicaSetAvailable");
        world.image("i:2");
        assert_eq!(world.run(""), steps, "{strategy}");
        assert_eq!(world.progressing(), "True NewReplicaSetAvailable");
    }
}

#[test]
fn a_template_that_never_becomes_available_stops_the_rollout_and_is_told_after_the_deadline() {
    let rolling = "{type: RollingUpdate, rollingUpdate: {maxSurge: 25%, maxUnavailable: 25%}}";
    let mut world = World::new(&format!("replicas: 4, strategy: {rolling}"));
    world.run("");
    world.image("i:2");
    assert_eq!(world.run("i:2").last(), Some(&vec![3, 2]));
    assert_eq!(world.progressing(), "True ReplicaSetUpdated");
    assert_eq!(world.decide().again.map(|d| d.as_secs()), Some(601));
    world.now += SignedDuration::from_secs(601);
    world.round();
    assert_eq!(world.progressing(), "False ProgressDeadlineExceeded");
    // Back to the template before: its ReplicaSet grows again, as a new revision.
    world.image("i:1");
    assert_eq!(world.run("i:2").last(), Some(&vec![4, 0]));
    assert_eq!(world.progressing(), "True NewReplicaSetAvailable");
    let annotation =
        |name: &str| world.sets[0]["metadata"]["annotations"][name].as_str().unwrap_or_default().to_owned();
    assert_eq!(
        (annotation(REVISION), annotation("deployment.kubernetes.io/revision-history")),
        ("3".into(), "1".into())
    );
}

#[test]
fn a_paused_deployment_is_scaled_but_not_rolled() {
    let mut world = World::new("replicas: 2");
    world.run("");
    world.spec(json!({"paused": true}));
    world.image("i:2");
    world.spec(json!({"replicas": 3}));
    assert_eq!(world.run(""), [vec![3]]);
    assert_eq!(world.progressing(), "Unknown DeploymentPaused");
    world.spec(json!({"paused": false}));
    assert_eq!(world.run("").last(), Some(&vec![0, 3]));
}

#[test]
fn a_deployment_scaled_in_mid_rollout_keeps_its_proportions() {
    let rolling = "{type: RollingUpdate, rollingUpdate: {maxSurge: 3, maxUnavailable: 2}}";
    let mut world = World::new(&format!("replicas: 10, strategy: {rolling}"));
    world.run("");
    world.image("i:2");
    assert_eq!(world.run("i:2").last(), Some(&vec![8, 5]));
    world.spec(json!({"replicas": 15}));
    world.round();
    assert_eq!(world.sizes(), [11, 7]);
    world.pods("i:2");
    world.spec(json!({"replicas": 5}));
    world.round();
    assert_eq!(world.sizes(), [5, 3]);
    // The old pods that go are available still: that is no reason to take more of them.
    world.round();
    assert_eq!(world.sizes(), [5, 3]);
}

#[test]
fn the_history_is_as_long_as_asked_for() {
    let mut world = World::new("replicas: 1, revisionHistoryLimit: 1");
    for image in ["i:1", "i:2", "i:3", "i:4"] {
        world.image(image);
        world.run("");
    }
    let revisions: Vec<_> = world.sets.iter().filter_map(|s| s["metadata"]["annotations"][REVISION].as_str()).collect();
    assert_eq!(revisions, ["3", "4"]);
}

#[test]
fn the_replica_set_is_the_template_with_its_hash() {
    let world = World::new("replicas: 2, minReadySeconds: 5");
    let plan = world.decide();
    let set = plan.create.unwrap();
    let hash = set["metadata"]["labels"]["pod-template-hash"].as_str().unwrap().to_owned();
    assert_eq!(set["metadata"]["name"].as_str().unwrap(), format!("web-{hash}"));
    assert_eq!(
        set["metadata"]["annotations"],
        value(
            "{team: a, deployment.kubernetes.io/revision: '1', deployment.kubernetes.io/desired-replicas: '2', \
             deployment.kubernetes.io/max-replicas: '3'}"
        )
    );
    assert_eq!(set["spec"]["selector"], value(&format!("{{matchLabels: {{app: web, pod-template-hash: {hash}}}}}")));
    assert_eq!(set["spec"]["minReadySeconds"].as_i64(), Some(5));
    assert!(is_of(&set, &world.deployment));
    let mut collided = World::new("replicas: 2, minReadySeconds: 5");
    collided.deployment.as_map_mut().unwrap().insert("status", value("{collisionCount: 1}"));
    assert_ne!(collided.decide().create.unwrap()["metadata"]["name"], set["metadata"]["name"]);
}
