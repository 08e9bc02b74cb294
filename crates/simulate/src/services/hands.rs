//! What the controllers of slices do to them, and what of it their caches have yet to show.

use std::sync::Arc;

use druse_object::Value;
use druse_runtime::{Api, ApiError, Cache, Caches, Change, DeleteOptions, Key};

use super::slices::{MANAGED_BY, Plan, SERVICE_NAME};
use crate::kinds;
use crate::workloads::pods::{going, namespace_goes};
use crate::workloads::written::Written;

pub struct Hands {
    api: Api,
    slices: Arc<Cache>,
    /// The controller whose slices these are.
    controller: &'static str,
    /// What it makes slices of.
    of: &'static str,
    written: Written,
}

impl Hands {
    pub fn new(caches: &Caches, controller: &'static str, of: &'static str) -> Self {
        let slices = caches.of(&kinds::slices());
        Self { api: caches.api().clone(), slices, controller, of, written: Written::default() }
    }

    pub fn api(&self) -> &Api {
        &self.api
    }

    pub fn slices(&self) -> &Arc<Cache> {
        &self.slices
    }

    pub fn written(&self) -> &Written {
        &self.written
    }

    /// The slices that the controller has made for this name.
    pub fn made_for(&self, key: &Key) -> Vec<Arc<Value>> {
        let mut slices = self.slices.in_namespace(&key.namespace);
        slices.retain(|s| {
            let labels = &s["metadata"]["labels"];
            labels[SERVICE_NAME].as_str() == Some(&key.name) && labels[MANAGED_BY].as_str() == Some(self.controller)
        });
        slices
    }

    /// For whom a change of a slice is news: not for whom the controller made it, unless that one waits to see it.
    pub fn news(&self, change: &Change) -> Vec<Key> {
        let label = |v: &Arc<Value>, name: &str| {
            v.at(["metadata", "labels"]).and_then(|l| l.str_at([name])).unwrap_or_default().to_owned()
        };
        let managed = |v: &Arc<Value>| label(v, MANAGED_BY) == self.controller;
        let sides: Vec<&Arc<Value>> = [&change.old, &change.new].into_iter().flatten().collect();
        if !sides.iter().any(|v| managed(v)) {
            return Vec::new();
        }
        let mut keys: Vec<Key> = sides
            .iter()
            .map(|v| Key::new(change.key.namespace.clone(), label(v, SERVICE_NAME)))
            .filter(|k| !k.name.is_empty())
            .collect();
        keys.dedup();
        let known = keys.len() == 1 && sides.iter().all(|v| managed(v));
        keys.retain(|k| !known || self.written.is_news(k, change));
        keys
    }

    /// Makes, changes and deletes slices for `owner`; the error is in the controller's own words. None are made for an
    /// owner that goes.
    pub async fn carry_out(&self, key: &Key, owner: &Value, plan: Plan) -> Result<(), String> {
        let failed = |what: &str, e: ApiError| format!("failed to {what}EndpointSlice for {} {key}: {e}", self.of);
        let resource = self.slices.resource();
        if !going(owner) {
            for slice in &plan.create {
                match self.api.create(resource, &key.namespace, slice).await {
                    Ok(made) => self.written.made(key, &self.slices, &made),
                    Err(e) if namespace_goes(&e) => return Ok(()),
                    Err(e) => return Err(failed("create ", e)),
                }
            }
        }
        for slice in &plan.update {
            match self.api.replace(resource, "", slice).await {
                Ok(answer) => self.written.changed(key, &self.slices, &answer),
                Err(e) => return Err(failed(&format!("update {} ", Key::of(slice).name), e)),
            }
        }
        for slice in &plan.delete {
            self.remove(key, slice).await.map_err(|e| failed(&format!("delete {} ", Key::of(slice).name), e))?;
        }
        Ok(())
    }

    /// Deletes a slice; one that is gone is no failure.
    pub async fn remove(&self, key: &Key, slice: &Value) -> Result<(), ApiError> {
        let (resource, name) = (self.slices.resource(), Key::of(slice).name);
        self.api.delete(resource, &key.namespace, &name, &DeleteOptions::default()).await?;
        self.written.deleted(key, &self.slices, slice);
        Ok(())
    }
}
