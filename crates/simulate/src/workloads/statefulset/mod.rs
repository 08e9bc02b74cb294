//! StatefulSet: pods with ordinals and claims of their own, made and updated in order.
//!
//! As upstream's `pkg/controller/statefulset`. What to do is decided by [`decide`]; this does it.

mod claims;
mod decide;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::Arc;

use druse_object::Value;
use druse_runtime::{Api, ApiError, Cache, Caches, Clock, Key, Next, Patch, Reconciler};
use serde_json::json;

use super::hands::Hands;
use super::pods;
use super::report::{Note, write_status};
use super::revisions::{History, POD_LABEL, Revision};
use crate::kinds;
use decide::{Act, Between, Template};

pub struct Controller {
    api: Api,
    sets: Arc<Cache>,
    claims: Arc<Cache>,
    hands: Hands,
    history: History,
    clock: Clock,
}

impl Controller {
    pub fn new(caches: &Caches, clock: &Clock, sets: Arc<Cache>, pods: Arc<Cache>) -> Self {
        const COMPONENT: &str = "statefulset-controller";
        let api = caches.api().clone();
        let hands = Hands::new(&api, COMPONENT, pods);
        let history = History::new(&api, caches, COMPONENT, "controller.kubernetes.io/hash");
        let claims = caches.of(&kinds::claims());
        Self { api, sets, claims, hands, history, clock: clock.clone() }
    }

    async fn sync(&self, key: &Key, set: &Value) -> Result<Next, ApiError> {
        self.claims.synced().await;
        let mut mine = self.hands.claim(key, set, &[]).await?;
        mine.retain(|p| decide::ordinal_of(p, set).is_some());
        let revisions = self.history.of(key, set).await?;
        let update = &revisions.update;
        let told = set.str_at(["status", "currentRevision"]);
        let current = revisions.all.iter().find(|r| told == Some(&r.name)).unwrap_or(update);
        let between = Between { current: &current.name, update: &update.name, collisions: revisions.collisions };
        let stale = |ordinal: i64| {
            let name = format!("{}-{ordinal}", key.name);
            let there = claims::of_pod(set, ordinal).into_iter().filter_map(|(_, c)| self.claims.get(&Key::of(&c)));
            there.into_iter().any(|c| claims::blocks(set, &c, &name))
        };
        let plan = decide::decide(set, &mine, between, stale, self.clock.now());
        let mut done = Ok(());
        for act in &plan.acts {
            done = match act {
                Act::Create(ordinal, Template::Current) => self.create(key, set, *ordinal, current).await,
                Act::Create(ordinal, Template::Update) => self.create(key, set, *ordinal, update).await,
                Act::Claims(ordinal, pod) => self.see_to_claims(key, set, *ordinal, pod).await,
                Act::Delete(pod) => self.delete(key, set, pod).await,
            };
            if done.is_err() {
                break;
            }
        }
        if let Some(answer) = write_status(&self.api, self.sets.resource(), set, plan.status).await? {
            self.hands.written().changed(key, &self.sets, &answer);
        }
        done?;
        let mut used: BTreeSet<String> = [current.name.clone(), update.name.clone()].into();
        used.extend(mine.iter().filter_map(|p| p["metadata"]["labels"][POD_LABEL].as_str().map(str::to_owned)));
        self.history.clean_up(key, set, &revisions.all, &used).await?;
        Ok(plan.again.map_or(Next::Wait, Next::After))
    }

    async fn create(&self, key: &Key, set: &Value, ordinal: i64, revision: &Revision) -> Result<(), ApiError> {
        let pod = pod(set, ordinal, revision);
        let name = Key::of(&pod).name;
        self.make_claims(key, set, ordinal, &name).await?;
        let cache = self.hands.children();
        let made = match self.api.create(cache.resource(), &key.namespace, &pod).await {
            Ok(made) => made,
            Err(e) => {
                if e.reason() != "AlreadyExists" && !pods::namespace_goes(&e) {
                    self.tell_pod(set, "Create", &name, Some(&e)).await;
                }
                return Err(e);
            }
        };
        self.hands.written().made(key, cache, &made);
        self.tell_pod(set, "Create", &name, None).await;
        self.own_claims(key, set, ordinal, &made).await
    }

    async fn delete(&self, key: &Key, set: &Value, pod: &Value) -> Result<(), ApiError> {
        let result = self.hands.remove(key, pod).await.map(|_| ());
        self.tell_pod(set, "Delete", &Key::of(pod).name, result.as_ref().err()).await;
        result
    }

    async fn tell_pod(&self, set: &Value, verb: &str, pod: &str, failed: Option<&ApiError>) {
        let set_name = Key::of(set).name;
        let about = format!("{verb} Pod {pod} in StatefulSet {set_name}");
        let note = match failed {
            None => Note::normal(&format!("Successful{verb}"), format!("{about} successful")),
            Some(e) => Note::warning(&format!("Failed{verb}"), format!("{about} failed error: {e}")),
        };
        note.tell(self.hands.recorder(), set).await;
    }

    async fn see_to_claims(&self, key: &Key, set: &Value, ordinal: i64, pod: &Value) -> Result<(), ApiError> {
        if pod.str_at(["status", "phase"]) == Some("Pending") && decide::range(set).contains(&ordinal) {
            self.make_claims(key, set, ordinal, &Key::of(pod).name).await?;
        }
        self.own_claims(key, set, ordinal, pod).await
    }

    /// Makes the claims of a pod that are not there.
    async fn make_claims(&self, key: &Key, set: &Value, ordinal: i64, pod: &str) -> Result<(), ApiError> {
        for (_, claim) in claims::of_pod(set, ordinal) {
            let claim_key = Key::of(&claim);
            if self.claims.get(&claim_key).is_some() {
                continue;
            }
            match self.api.create(self.claims.resource(), &key.namespace, &claim).await {
                Ok(made) => {
                    self.hands.written().made(key, &self.claims, &made);
                    let about =
                        format!("Create Claim {} Pod {pod} in StatefulSet {} success", claim_key.name, key.name);
                    Note::normal("SuccessfulCreate", about).tell(self.hands.recorder(), set).await;
                }
                Err(e) if e.reason() == "AlreadyExists" => {}
                Err(e) => {
                    let about = format!("Create Claim {} for Pod {pod} in StatefulSet {}", claim_key.name, key.name);
                    let note = Note::warning("FailedCreate", format!("{about} failed error: {e}"));
                    note.tell(self.hands.recorder(), set).await;
                    return Err(e);
                }
            }
        }
        Ok(())
    }

    /// Lets the claims of a pod go with pod and set, or not, as the retention policy says.
    async fn own_claims(&self, key: &Key, set: &Value, ordinal: i64, pod: &Value) -> Result<(), ApiError> {
        for (_, claim) in claims::of_pod(set, ordinal) {
            let Some(there) = self.claims.get(&Key::of(&claim)) else { continue };
            let Some(owners) = claims::owners(&there, set, pod, ordinal) else { continue };
            let patch = Value::from(json!({"metadata": {
                "resourceVersion": there.str_at(["metadata", "resourceVersion"]),
                "ownerReferences": owners.into_iter().map(serde_json::Value::from).collect::<Vec<_>>(),
            }}));
            let (resource, name) = (self.claims.resource(), Key::of(&claim).name);
            let answer = self.api.patch(resource, &key.namespace, &name, "", Patch::Merge, &patch).await?;
            self.hands.written().changed(key, &self.claims, &answer);
        }
        Ok(())
    }
}

/// The pod of an ordinal.
fn pod(set: &Value, ordinal: i64, revision: &Revision) -> Value {
    let template = revision.template();
    let mut pod = pods::from_template("v1", "Pod", &template, set);
    let prefix = format!("{}-", set.str_at(["metadata", "name"]).unwrap_or_default());
    let name = format!("{prefix}{ordinal}");
    if let Some(m) = pod.make_map_at(["metadata"]) {
        // Upstream leaves the prefix there, though the name is given.
        m.insert("generateName", prefix);
        m.insert("name", name.as_str());
    }
    if let Some(labels) = pod.make_map_at(["metadata", "labels"]) {
        labels.insert(POD_LABEL, revision.name.as_str());
        labels.insert("statefulset.kubernetes.io/pod-name", name.as_str());
        labels.insert("apps.kubernetes.io/pod-index", ordinal.to_string());
    }
    let volumes = claims::volumes(&template, &claims::of_pod(set, ordinal));
    if let Some(spec) = pod.make_map_at(["spec"]) {
        if !volumes.is_empty() {
            spec.insert("volumes", volumes);
        }
        spec.insert("hostname", name.as_str());
        if let Some(service) = set.str_at(["spec", "serviceName"]).filter(|s| !s.is_empty()) {
            spec.insert("subdomain", service);
        }
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
