//! What a controller does to its children (pods, ReplicaSets): claims, makes and deletes them, tells events about that, and
//! remembers what its cache has to show before it decides again.

use std::sync::Arc;

use druse_object::{Value, selector};
use druse_runtime::{Api, ApiError, Cache, DeleteOptions, Key, Patch, Recorder};
use serde_json::json;

use super::pods;
use super::report::Note;
use super::written::Written;

pub struct Hands {
    api: Api,
    recorder: Recorder,
    children: Arc<Cache>,
    written: Written,
}

impl Hands {
    /// For a controller whose events come from `component`.
    pub fn new(api: &Api, component: &'static str, children: Arc<Cache>) -> Self {
        let recorder = Recorder::new(api.clone(), component);
        Self { api: api.clone(), recorder, children, written: Written::default() }
    }

    pub fn api(&self) -> &Api {
        &self.api
    }

    pub fn recorder(&self) -> &Recorder {
        &self.recorder
    }

    pub fn children(&self) -> &Arc<Cache> {
        &self.children
    }

    pub fn written(&self) -> &Written {
        &self.written
    }

    /// The children of `owner` that its selector chooses. Those that nobody controls are adopted, with `finalizers`; those
    /// that it does not choose any more are released.
    pub async fn claim(&self, key: &Key, owner: &Value, finalizers: &[&str]) -> Result<Vec<Arc<Value>>, ApiError> {
        let mut out = Vec::new();
        for child in self.children.in_namespace(&key.namespace) {
            let chosen = || selector::selects(&owner["spec"]["selector"], &child["metadata"]["labels"]);
            match pods::controller_of(&child) {
                Some(by) if by["uid"] != owner["metadata"]["uid"] => {}
                Some(_) if chosen() => out.push(child),
                None if chosen() && !pods::going(owner) && !pods::going(&child) => {
                    let mut patch = json!({"metadata": {
                        "uid": child.str_at(["metadata", "uid"]),
                        "ownerReferences": [serde_json::Value::from(pods::owner_reference(owner))],
                    }});
                    if !finalizers.is_empty() {
                        patch["metadata"]["finalizers"] = json!(finalizers);
                    }
                    if let Some(adopted) = self.patch(key, &child, Patch::Strategic, &Value::from(patch)).await? {
                        out.push(Arc::new(adopted));
                    }
                }
                Some(_) if !pods::going(owner) => {
                    let mut patch = json!({"metadata": {
                        "uid": child.str_at(["metadata", "uid"]),
                        "ownerReferences": [{"$patch": "delete", "uid": owner.str_at(["metadata", "uid"])}],
                    }});
                    if !finalizers.is_empty() {
                        patch["metadata"]["$deleteFromPrimitiveList/finalizers"] = json!(finalizers);
                    }
                    self.patch(key, &child, Patch::Strategic, &Value::from(patch)).await?;
                }
                _ => {}
            }
        }
        Ok(out)
    }

    /// Makes a pod, and tells of it.
    pub async fn create(&self, key: &Key, owner: &Value, pod: &Value) -> Result<(), ApiError> {
        match self.api.create(self.children.resource(), &key.namespace, pod).await {
            Ok(made) => {
                self.written.made(key, &self.children, &made);
                let name = Key::of(&made).name;
                Note::normal("SuccessfulCreate", format!("Created pod: {name}")).tell(&self.recorder, owner).await;
                Ok(())
            }
            Err(e) => {
                if !pods::namespace_goes(&e) {
                    Note::warning("FailedCreate", format!("Error creating: {e}")).tell(&self.recorder, owner).await;
                }
                Err(e)
            }
        }
    }

    /// Deletes a pod, and tells of it. One that is gone already is no failure.
    pub async fn delete(&self, key: &Key, owner: &Value, pod: &Value) -> Result<(), ApiError> {
        match self.remove(key, pod).await {
            Ok(true) => {
                let name = Key::of(pod).name;
                Note::normal("SuccessfulDelete", format!("Deleted pod: {name}")).tell(&self.recorder, owner).await;
                Ok(())
            }
            Ok(false) => Ok(()),
            Err(e) => {
                Note::warning("FailedDelete", format!("Error deleting: {e}")).tell(&self.recorder, owner).await;
                Err(e)
            }
        }
    }

    /// Deletes a child without a word; false when it was gone already.
    pub async fn remove(&self, key: &Key, child: &Value) -> Result<bool, ApiError> {
        let name = Key::of(child).name;
        let options = DeleteOptions::default();
        let there = self.api.delete(self.children.resource(), &key.namespace, &name, &options).await?;
        self.written.deleted(key, &self.children, child);
        Ok(there)
    }

    /// Changes a child; `None` when it is gone.
    pub async fn patch(
        &self,
        key: &Key,
        child: &Value,
        how: Patch<'_>,
        body: &Value,
    ) -> Result<Option<Value>, ApiError> {
        let name = Key::of(child).name;
        match self.api.patch(self.children.resource(), &key.namespace, &name, "", how, body).await {
            Ok(answer) => {
                self.written.changed(key, &self.children, &answer);
                Ok(Some(answer))
            }
            Err(e) if e.is_not_found() => Ok(None),
            Err(e) => Err(e),
        }
    }
}
