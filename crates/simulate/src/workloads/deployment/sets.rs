//! The ReplicaSets of a Deployment: which is the new one, how large each is to be, and the annotations that tell revision
//! and size.

use std::sync::Arc;

use druse_object::{Map, Value};
use serde_json::json;

use crate::workloads::pods;

/// The revision of a ReplicaSet, and of the Deployment: that of its new ReplicaSet.
pub const REVISION: &str = "deployment.kubernetes.io/revision";
/// The revisions a ReplicaSet had before it was rolled back to.
const HISTORY: &str = "deployment.kubernetes.io/revision-history";
/// The size of the Deployment when the ReplicaSet was last scaled, and the most pods it might have then.
const DESIRED: &str = "deployment.kubernetes.io/desired-replicas";
const MOST: &str = "deployment.kubernetes.io/max-replicas";
/// Tells the pods of a Deployment's ReplicaSets apart.
pub const HASH: &str = "pod-template-hash";

/// Annotations of a Deployment that its ReplicaSets do not get.
const OWN: [&str; 6] = [
    "kubectl.kubernetes.io/last-applied-configuration",
    "deprecated.deployment.rollback.to",
    REVISION,
    HISTORY,
    DESIRED,
    MOST,
];

/// A ReplicaSet, and what is to change about it.
#[derive(Clone, Debug)]
pub struct Set {
    /// As it is; for one that is to be made, as it is to be.
    pub object: Arc<Value>,
    /// How many pods it is to have.
    pub replicas: i64,
    annotations: Map,
    min_ready: Option<i64>,
}

impl Set {
    /// With nothing to change.
    pub fn new(object: Arc<Value>) -> Self {
        let replicas = object["spec"]["replicas"].as_i64().unwrap_or(0);
        Self { object, replicas, annotations: Map::new(), min_ready: None }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        self.object.str_at(["metadata", "name"]).unwrap_or_default()
    }

    /// A number of its status; 0 when there is none.
    pub fn status(&self, field: &str) -> i64 {
        self.object["status"][field].as_i64().unwrap_or(0)
    }

    fn annotation(&self, name: &str) -> Option<&str> {
        let changed = self.annotations.get(name).and_then(Value::as_str);
        changed.or_else(|| self.object["metadata"]["annotations"][name].as_str())
    }

    fn annotate(&mut self, name: &str, text: &str) -> bool {
        if self.annotation(name) == Some(text) {
            return false;
        }
        self.annotations.insert(name, text);
        true
    }

    /// Its revision; 0 when it has none.
    pub fn revision(&self) -> i64 {
        self.annotation(REVISION).and_then(|r| r.parse().ok()).unwrap_or(0)
    }

    /// The size the Deployment had when this was last scaled.
    pub fn desired(&self) -> Option<i64> {
        self.annotation(DESIRED)?.parse().ok()
    }

    /// The most pods the Deployment might have when this was last scaled.
    pub fn most(&self) -> Option<i64> {
        self.annotation(MOST)?.parse().ok().filter(|n| *n != 0)
    }

    /// Notes size and most pods of the Deployment.
    pub fn annotate_size(&mut self, size: &Size) {
        self.annotate(DESIRED, &size.replicas.to_string());
        self.annotate(MOST, &(size.replicas + size.surge).to_string());
    }

    /// Gives the new ReplicaSet the Deployment's annotations, `minReadySeconds` and, when it has an earlier one, the next
    /// revision.
    pub fn follow(&mut self, deployment: &Value, revision: i64) {
        for (name, text) in deployment["metadata"]["annotations"].as_map().into_iter().flat_map(Map::iter) {
            if let Some(text) = text.as_str().filter(|_| !OWN.contains(&name.as_str())) {
                self.annotate(name, text);
            }
        }
        if self.revision() < revision {
            if let Some(before) = self.annotation(REVISION).map(str::to_owned) {
                let history = longer_history(self.annotation(HISTORY).unwrap_or_default(), &before);
                self.annotate(HISTORY, &history);
            }
            self.annotate(REVISION, &revision.to_string());
        }
        let min_ready = deployment["spec"]["minReadySeconds"].as_i64().unwrap_or(0);
        if self.object["spec"]["minReadySeconds"].as_i64().unwrap_or(0) != min_ready {
            self.min_ready = Some(min_ready);
        }
    }

    /// The merge patch that makes the changes; `None` when there are none.
    pub fn patch(&self) -> Option<Value> {
        let resized = self.object["spec"]["replicas"].as_i64() != Some(self.replicas);
        if !resized && self.annotations.is_empty() && self.min_ready.is_none() {
            return None;
        }
        let mut spec = json!({});
        if resized {
            spec["replicas"] = json!(self.replicas);
        }
        if let Some(seconds) = self.min_ready {
            spec["minReadySeconds"] = json!(seconds);
        }
        // Only of what the decision was made from.
        Some(Value::from(json!({
            "metadata": {
                "resourceVersion": self.object.str_at(["metadata", "resourceVersion"]),
                "annotations": serde_json::Value::from(Value::Map(self.annotations.clone())),
            },
            "spec": spec,
        })))
    }
}

/// The revisions before, oldest first, as far as 2000 characters go.
fn longer_history(history: &str, revision: &str) -> String {
    const LONGEST: usize = 2000;
    let mut all: Vec<&str> = history.split(',').filter(|r| !r.is_empty()).chain([revision]).collect();
    while all.len() > 1 && all.iter().map(|r| r.len() + 1).sum::<usize>() > LONGEST + 1 {
        all.remove(0);
    }
    all.join(",")
}

/// How large a Deployment is to be, and how far it may leave that while it is rolled over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// How many pods are asked for.
    pub replicas: i64,
    /// How many there may be beside them.
    pub surge: i64,
    /// How many of them may be unavailable.
    pub unavailable: i64,
}

impl Size {
    /// Of a Deployment.
    pub fn of(deployment: &Value) -> Self {
        let spec = &deployment["spec"];
        let replicas = spec["replicas"].as_i64().unwrap_or(1);
        if !rolls(deployment) {
            return Self { replicas, surge: 0, unavailable: 0 };
        }
        let rolling = &spec["strategy"]["rollingUpdate"];
        let surge = pods::int_or_percent(&rolling["maxSurge"], replicas, true, "25%");
        let mut unavailable = pods::int_or_percent(&rolling["maxUnavailable"], replicas, false, "25%");
        if surge == 0 && unavailable == 0 {
            unavailable = 1;
        }
        Self { replicas, surge, unavailable: unavailable.min(replicas) }
    }
}

/// Whether a Deployment replaces its pods step by step.
pub fn rolls(deployment: &Value) -> bool {
    deployment.str_at(["spec", "strategy", "type"]) != Some("Recreate")
}

/// Finds the new ReplicaSet, the oldest one with the Deployment's template, and the others in the order they were made.
pub fn find(deployment: &Value, sets: &[Arc<Value>]) -> (Option<Set>, Vec<Set>) {
    let template = without_hash(&deployment["spec"]["template"]);
    let mut all: Vec<Set> = sets.iter().cloned().map(Set::new).collect();
    all.sort_by_key(made);
    let new = all.iter().position(|s| without_hash(&s.object["spec"]["template"]) == template).map(|i| all.remove(i));
    (new, all)
}

/// Whether a ReplicaSet is what this Deployment would make.
pub fn is_of(set: &Value, deployment: &Value) -> bool {
    pods::controller_of(set).is_some_and(|o| o["uid"] == deployment["metadata"]["uid"])
        && without_hash(&set["spec"]["template"]) == without_hash(&deployment["spec"]["template"])
}

/// Orders ReplicaSets by when they were made.
pub fn made(set: &Set) -> (Option<String>, String) {
    let time = set.object.str_at(["metadata", "creationTimestamp"]).map(str::to_owned);
    (time, set.name().to_owned())
}

fn without_hash(template: &Value) -> Value {
    let mut out = template.clone();
    if let Some(metadata) = out.get_mut("metadata").and_then(Value::as_map_mut) {
        if let Some(labels) = metadata.get_mut("labels").and_then(Value::as_map_mut) {
            labels.remove(HASH);
        }
        if metadata.get("labels").and_then(Value::as_map).is_some_and(Map::is_empty) {
            metadata.remove("labels");
        }
    }
    out
}

/// A new ReplicaSet of `replicas` pods.
pub fn fresh(deployment: &Value, revision: i64, replicas: i64) -> Set {
    let collisions = deployment["status"]["collisionCount"].as_i64();
    let hash = pods::template_hash(&deployment["spec"]["template"], collisions);
    let mut template = deployment["spec"]["template"].clone();
    let mut selector = deployment["spec"]["selector"].clone();
    let labels = [template.make_map_at(["metadata", "labels"]), selector.make_map_at(["matchLabels"])];
    for labels in labels.into_iter().flatten() {
        labels.insert(HASH, hash.as_str());
    }
    let mut object = pods::from_template("apps/v1", "ReplicaSet", &template, deployment);
    let name = deployment.str_at(["metadata", "name"]).unwrap_or_default();
    let longest = 253 - 1 - hash.len();
    if let Some(m) = object.make_map_at(["metadata"]) {
        m.remove("annotations");
        m.insert("name", format!("{}-{hash}", &name[..name.len().min(longest)]));
    }
    let mut spec = Map::new();
    spec.insert("replicas", replicas);
    if let Some(seconds) = deployment["spec"]["minReadySeconds"].as_i64().filter(|s| *s != 0) {
        spec.insert("minReadySeconds", seconds);
    }
    spec.insert("selector", selector);
    spec.insert("template", template);
    if let Some(m) = object.as_map_mut() {
        m.insert("spec", spec);
    }
    let mut set = Set::new(Arc::new(object));
    set.follow(deployment, revision);
    set.annotate_size(&Size::of(deployment));
    let annotations = std::mem::take(&mut set.annotations);
    let mut object = (*set.object).clone();
    if let Some(m) = object.make_map_at(["metadata"]) {
        m.insert("annotations", annotations);
    }
    Set::new(Arc::new(object))
}
