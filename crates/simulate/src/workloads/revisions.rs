//! ControllerRevisions: the pod templates a StatefulSet or DaemonSet has had, as upstream's `pkg/controller/history` keeps
//! them and `kubectl rollout history` and `undo` read them.

use std::collections::BTreeSet;
use std::sync::Arc;

use druse_object::{Map, Value};
use druse_runtime::{Api, ApiError, Cache, Caches, Key, Next, Patch};
use serde_json::json;

use super::hands::Hands;
use super::pods;
use crate::kinds;

/// The label of a pod that names the revision it was made from.
pub const POD_LABEL: &str = "controller-revision-hash";

/// The revisions of one kind of owner.
pub struct History {
    hands: Hands,
    /// The label of a revision that carries its hash.
    label: &'static str,
}

/// One template.
#[derive(Clone, Debug)]
pub struct Revision {
    /// The ControllerRevision's name.
    pub name: String,
    /// Its hash.
    pub hash: String,
    object: Arc<Value>,
}

impl Revision {
    /// The pod template.
    pub fn template(&self) -> Value {
        let mut template = self.object["data"]["spec"]["template"].clone();
        if let Some(m) = template.as_map_mut() {
            m.remove("$patch");
        }
        template
    }

    fn number(&self) -> i64 {
        self.object["revision"].as_i64().unwrap_or(0)
    }
}

/// All revisions of an object, the oldest first, and which of them its template is.
#[derive(Debug)]
pub struct Revisions {
    /// All.
    pub all: Vec<Revision>,
    /// That of the template now.
    pub update: Revision,
    /// How many names were taken when it was made.
    pub collisions: i64,
}

impl History {
    /// For a controller whose revisions carry their hash under `label`.
    pub fn new(api: &Api, caches: &Caches, component: &'static str, label: &'static str) -> Self {
        Self {
            hands: Hands::new(api, component, caches.of(&kinds::apps("ControllerRevision", "controllerrevisions"))),
            label,
        }
    }

    /// An owner that may be decided about: it is there, and the caches show all that was written for it, here and by the
    /// hands that make its pods. Otherwise what its reconcile ends with.
    pub async fn owner(&self, owners: &Cache, pods: &Hands, key: &Key) -> Result<Arc<Value>, Next> {
        let api = self.hands.api();
        let revisions_seen = self.hands.written().owner(owners, key, api).await;
        revisions_seen.and(pods.written().owner(owners, key, api).await)
    }

    /// Finds the revision of an object's template among those it has; makes it when there is none, and makes it the latest
    /// when it was rolled back to.
    pub async fn of(&self, key: &Key, owner: &Value) -> Result<Revisions, ApiError> {
        let claimed = self.hands.claim(key, owner, &[]).await?;
        let mut all: Vec<Revision> = claimed.into_iter().map(|object| self.read(object)).collect();
        all.sort_by_key(|r| (r.number(), r.object.str_at(["metadata", "creationTimestamp"]).map(str::to_owned)));
        let mut collisions = owner["status"]["collisionCount"].as_i64().unwrap_or(0);
        let data = data(owner);
        let next = all.last().map_or(1, |r| r.number() + 1);
        if let Some(i) = all.iter().rposition(|r| r.object["data"] == data) {
            let mut found = all[i].clone();
            if i + 1 != all.len() {
                let patch = Value::from(json!({"revision": next}));
                if let Some(answer) = self.hands.patch(key, &found.object, Patch::Merge, &patch).await? {
                    found = self.read(Arc::new(answer));
                    all.remove(i);
                    all.push(found.clone());
                }
            }
            return Ok(Revisions { all, update: found, collisions });
        }
        loop {
            let object = self.fresh(owner, &data, next, collisions);
            let cache = self.hands.children();
            let made = match self.hands.api().create(cache.resource(), &key.namespace, &object).await {
                Err(e) if e.reason() == "AlreadyExists" => {
                    let there = self.hands.api().get(cache.resource(), &key.namespace, &Key::of(&object).name).await?;
                    let Some(same) = there.filter(|r| r["data"] == data) else {
                        collisions += 1;
                        continue;
                    };
                    same
                }
                other => other?,
            };
            self.hands.written().made(key, cache, &made);
            let update = self.read(Arc::new(made));
            all.push(update.clone());
            return Ok(Revisions { all, update, collisions });
        }
    }

    fn read(&self, object: Arc<Value>) -> Revision {
        let text = |v: Option<&str>| v.unwrap_or_default().to_owned();
        let name = text(object.str_at(["metadata", "name"]));
        let hash = text(object["metadata"]["labels"][self.label].as_str());
        Revision { name, hash, object }
    }

    fn fresh(&self, owner: &Value, data: &Value, number: i64, collisions: i64) -> Value {
        let hash = pods::template_hash(data, Some(collisions));
        let mut labels = owner["spec"]["template"]["metadata"]["labels"].as_map().cloned().unwrap_or_default();
        labels.insert(self.label, hash.as_str());
        let mut metadata = Map::new();
        metadata.insert("name", format!("{}-{hash}", owner.str_at(["metadata", "name"]).unwrap_or_default()));
        metadata.insert("namespace", owner["metadata"]["namespace"].clone());
        metadata.insert("labels", labels);
        if !owner["metadata"]["annotations"].is_null() {
            metadata.insert("annotations", owner["metadata"]["annotations"].clone());
        }
        metadata.insert("ownerReferences", vec![pods::owner_reference(owner)]);
        let mut m = Map::new();
        m.insert("apiVersion", "apps/v1");
        m.insert("kind", "ControllerRevision");
        m.insert("metadata", metadata);
        m.insert("data", data.clone());
        m.insert("revision", number);
        Value::Map(m)
    }

    /// Deletes the oldest revisions that are not in use, beyond as many as the owner keeps.
    pub async fn clean_up(
        &self,
        key: &Key,
        owner: &Value,
        all: &[Revision],
        used: &BTreeSet<String>,
    ) -> Result<(), ApiError> {
        let limit = owner["spec"]["revisionHistoryLimit"].as_i64().unwrap_or(10);
        let old: Vec<&Revision> = all.iter().filter(|r| !used.contains(&r.name) && !used.contains(&r.hash)).collect();
        let extra = old.len().saturating_sub(usize::try_from(limit).unwrap_or(usize::MAX));
        for revision in old.into_iter().take(extra) {
            self.hands.remove(key, &revision.object).await?;
        }
        Ok(())
    }
}

/// What a revision keeps: a patch that makes the template what it was.
fn data(owner: &Value) -> Value {
    let mut template = owner["spec"]["template"].clone();
    if let Some(m) = template.make_map() {
        m.insert("$patch", "replace");
    }
    let mut out = Value::default();
    if let Some(spec) = out.make_map_at(["spec"]) {
        spec.insert("template", template);
    }
    out
}
