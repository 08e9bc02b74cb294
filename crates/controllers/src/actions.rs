//! What the actions of a release do to the cluster: install, upgrade, roll back, uninstall.
//!
//! Follows Helm 4's `pkg/action`, with server-side apply. One difference, on purpose: a record is written once, when the
//! action has ended, not also before it begins.

use std::time::Duration;

use druse_flux::api::{HelmRelease, ReleaseAction};
use druse_flux::duration::GoDuration;
use druse_flux::inventory::InventoryEntry;
use druse_flux::kstatus;
use druse_flux::release::{CrdsPolicy, RenderedRelease};
use druse_helm::{Release, ReleaseRecord};
use druse_object::{Map, Object, Value, yaml};
use druse_runtime::{Api, ApiError, DeleteOptions, Resource, clock};

use crate::atomic::NotStored;
use crate::context::kinds;
use crate::helmrelease::{Controller, Desired};
use crate::hooks::{self, Runs};
use crate::ssa::{Action, ApplyOptions, Change, ResourceManager};
use crate::storage::Storage;
use crate::wait;

/// Acts on one release with its rights.
pub(crate) struct Actions<'a> {
    pub c: &'a Controller,
    pub api: &'a Api,
    pub unit: &'a HelmRelease,
}

/// An install or upgrade that got as far as the cluster.
pub(crate) struct Deployed {
    /// What to store; its status and description are still to be set.
    pub record: ReleaseRecord,
    /// The inventory entries of its objects.
    pub inventory: Vec<Value>,
    /// Why it failed.
    pub error: Option<String>,
}

/// A failed apply or wait.
struct Failed {
    message: String,
    missing: bool,
    changes: Vec<Change>,
}

impl Failed {
    fn new(e: impl std::fmt::Display) -> Self {
        Self { message: e.to_string(), missing: false, changes: Vec::new() }
    }
}

fn not_stored(e: impl std::fmt::Display) -> NotStored {
    NotStored { message: e.to_string(), ..NotStored::default() }
}

impl Actions<'_> {
    fn ssa(&self) -> ResourceManager {
        ResourceManager::new(self.api.clone(), "helm-controller", druse_flux::api::HELM_GROUP)
    }

    /// Installs, or upgrades from `current`.
    ///
    /// # Errors
    /// When it failed before anything was done, or waits for kinds or namespaces: nothing is to be stored.
    pub async fn deploy(
        &self,
        desired: &Desired,
        current: Option<&ReleaseRecord>,
        upgrade: bool,
        revision: i64,
        timeout: Duration,
    ) -> Result<Deployed, NotStored> {
        let (name, namespace) = (self.unit.release_name(), self.unit.release_namespace());
        let release = if upgrade {
            Release::upgrade(name.as_str(), namespace, revision)
        } else {
            Release { revision, ..Release::install(name.as_str(), namespace) }
        };
        let rendered = self.c.render(self.unit, desired, &release).await.map_err(not_stored)?;
        let empty = ReleaseAction::default();
        let action = if upgrade { &self.unit.spec.upgrade } else { &self.unit.spec.install };
        let action = action.as_ref().unwrap_or(&empty);
        if action.create_namespace && self.unit.spec.target_namespace.is_some() {
            self.make_namespace(namespace).await.map_err(not_stored)?;
        }
        self.apply_crds(&rendered, upgrade)
            .await
            .map_err(|e| not_stored(format!("failed to apply CustomResourceDefinitions: {e}")))?;
        let mut objects = self.c.with_namespaces(rendered.objects.clone(), namespace).await;
        mark_managed(&mut objects, &name, namespace);
        let mut runs = Runs::new();
        let result = self.apply(&rendered, objects, action, upgrade, timeout, &mut runs).await;
        let error = match result {
            Ok(()) => None,
            // Recorded in the status, so that it goes when the unit goes before its kinds come.
            Err(f) if f.missing => {
                let applied = crate::inventory::of_changes(&f.changes);
                return Err(NotStored { message: f.message, missing: true, applied });
            }
            Err(f) => {
                if upgrade && action.cleanup_on_fail {
                    self.remove_created(&f.changes).await;
                }
                Some(f.message)
            }
        };
        // Kinds may have come to be served meanwhile: only now is it certain which objects have a namespace.
        let objects = self.c.with_namespaces(rendered.objects.clone(), namespace).await;
        let keys: Vec<_> = objects.iter().map(Object::key).collect();
        let inventory = inventory(objects.iter().chain(&rendered.crds));
        if let (None, Some(current)) = (&error, current) {
            let old = self.c.with_namespaces(objects_of(&current.manifest), namespace).await;
            for o in old.into_iter().rev().filter(|o| !keys.contains(&o.key())) {
                if druse_helm::manifest::is_kept(&o.value) {
                    continue;
                }
                if let Err(e) = self.delete(&o, "Background").await {
                    tracing::warn!("{} of release {} could not be removed: {e}", o.key(), self.unit.name);
                }
            }
        }
        let now = clock::now();
        let record = ReleaseRecord {
            name,
            namespace: namespace.to_owned(),
            version: revision,
            first_deployed: current.map_or_else(|| now.clone(), |l| l.first_deployed.clone()),
            last_deployed: now,
            notes: rendered.notes.clone(),
            chart: druse_helm::release::chart_value(&desired.chart.chart, &desired.chart.chart.values),
            config: desired.values.to_value(),
            manifest: manifest_of(&rendered),
            hooks: rendered.hooks.iter().map(|h| hooks::record(h, &self.unit.name, &runs)).collect(),
            apply_method: "ssa".to_owned(),
            ..ReleaseRecord::default()
        };
        Ok(Deployed { record, inventory, error })
    }

    async fn apply(
        &self,
        rendered: &RenderedRelease,
        objects: Vec<Object>,
        action: &ReleaseAction,
        upgrade: bool,
        timeout: Duration,
        runs: &mut Runs,
    ) -> Result<(), Failed> {
        let (before, after) = if upgrade { ("pre-upgrade", "post-upgrade") } else { ("pre-install", "post-install") };
        let namespace = self.unit.release_namespace();
        if !action.disable_hooks {
            hooks::run(self.api, &rendered.hooks, before, namespace, timeout, runs).await.map_err(Failed::new)?;
        }
        let going: Vec<String> =
            objects.iter().filter(|o| wait::goes_when_done(&o.value)).map(|o| o.key().to_string()).collect();
        let options = release_options(action, namespace);
        let changes = match self.ssa().apply_all(objects, &options).await {
            Ok(changes) => changes,
            Err(f) => return Err(Failed { message: f.message, missing: f.missing_kinds, changes: f.changes }),
        };
        let rest = async {
            if !action.disable_wait {
                self.wait(&changes, &going, action, timeout).await?;
            }
            if !action.disable_hooks {
                hooks::run(self.api, &rendered.hooks, after, namespace, timeout, runs).await?;
            }
            Ok::<_, String>(())
        };
        rest.await.map_err(|message| Failed { message, missing: false, changes })
    }

    async fn wait(
        &self,
        changes: &[Change],
        going: &[String],
        action: &ReleaseAction,
        timeout: Duration,
    ) -> Result<(), String> {
        let targets: Vec<_> = changes
            .iter()
            .filter(|c| c.action != Action::Skipped)
            .filter_map(wait::Target::of_change)
            .filter(|t| !(action.disable_wait_for_jobs && t.gvk.kind == "Job"))
            .map(|t| wait::Target { gone_is_done: going.contains(&t.to_string()), ..t })
            .collect();
        wait::until_current(self.api, &targets, timeout, kstatus::compute).await
    }

    async fn make_namespace(&self, name: &str) -> Result<(), ApiError> {
        let r = kinds::namespaces();
        if self.api.get(&r, "", name).await?.is_some() {
            return Ok(());
        }
        let mut ns = Value::default();
        if let Some(m) = ns.make_map() {
            m.insert("apiVersion", "v1");
            m.insert("kind", "Namespace");
        }
        if let Some(m) = ns.make_map_at(["metadata"]) {
            m.insert("name", name);
            m.insert("labels", [("name", name)].into_iter().collect::<Map>());
        }
        match self.api.create(&r, "", &ns).await {
            Err(e) if e.reason() != "AlreadyExists" => Err(e),
            _ => Ok(()),
        }
    }

    async fn apply_crds(&self, rendered: &RenderedRelease, upgrade: bool) -> Result<(), String> {
        let spec = &self.unit.spec;
        let policy = if upgrade { CrdsPolicy::on_upgrade(spec) } else { CrdsPolicy::on_install(spec) };
        let policy = policy.ok_or("crds: not one of Skip, Create, CreateReplace")?;
        if policy == CrdsPolicy::Skip || rendered.crds.is_empty() {
            return Ok(());
        }
        let mut crds = Vec::new();
        for crd in &rendered.crds {
            if policy == CrdsPolicy::Create {
                let there = self.api.get(&kinds::crds(), "", crd.name()).await.map_err(|e| e.to_string())?;
                // What a component made to stand in until the chart came is the chart's to replace.
                let stays = |v: &Value| v["metadata"]["annotations"]["druse.dev/simulated"].is_null();
                if there.as_ref().is_some_and(stays) {
                    continue;
                }
            }
            crds.push(crd.clone());
        }
        let options = ApplyOptions { concurrency: 4, ..ApplyOptions::default() };
        self.ssa().apply_all(crds, &options).await.map(|_| ()).map_err(|f| f.message)
    }

    async fn delete(&self, o: &Object, propagation: &'static str) -> Result<(), ApiError> {
        let r = match self.api.resource(&o.gvk()).await {
            Ok(r) => r,
            Err(ApiError::NoMatch(_)) => return Ok(()),
            Err(e) => return Err(e),
        };
        let options = DeleteOptions { propagation: Some(propagation), ..DeleteOptions::default() };
        self.api.delete(&r, o.namespace(), o.name(), &options).await.map(|_| ())
    }

    async fn remove_created(&self, changes: &[Change]) {
        for change in changes.iter().rev().filter(|c| c.action == Action::Created) {
            let Some(t) = wait::Target::of_change(change) else { continue };
            let Ok(r) = self.api.resource(&t.gvk).await else { continue };
            let options = DeleteOptions { propagation: Some("Background"), ..DeleteOptions::default() };
            if let Err(e) = self.api.delete(&r, &t.namespace, &t.name, &options).await {
                tracing::warn!("{t} of the failed release {} could not be removed: {e}", self.unit.name);
            }
        }
    }

    /// The objects of a stored release as they were applied.
    pub async fn stored_objects(&self, record: &ReleaseRecord) -> Vec<Object> {
        let mut objects = self.c.with_namespaces(objects_of(&record.manifest), &record.namespace).await;
        mark_managed(&mut objects, &record.name, &record.namespace);
        objects
    }

    /// Brings `target` back after `last`. Gives the record to store, and why it failed if it did.
    pub async fn roll_back(
        &self,
        target: &ReleaseRecord,
        last: &ReleaseRecord,
        timeout: Duration,
    ) -> (ReleaseRecord, Option<String>) {
        let mut new = ReleaseRecord {
            version: last.version + 1,
            last_deployed: clock::now(),
            description: format!("Rollback to {}", target.version),
            ..target.clone()
        };
        "deployed".clone_into(&mut new.status);
        let result = self.bring_back(target, last, timeout).await;
        if let Err(e) = &result {
            "failed".clone_into(&mut new.status);
            new.description = format!("Rollback {:?} failed: {e}", new.name);
        }
        (new, result.err())
    }

    async fn bring_back(&self, target: &ReleaseRecord, last: &ReleaseRecord, timeout: Duration) -> Result<(), String> {
        let action = self.unit.spec.rollback.clone().unwrap_or_default();
        let hooks = hooks::of_record(target);
        let mut runs = Runs::new();
        if !action.disable_hooks {
            hooks::run(self.api, &hooks, "pre-rollback", &target.namespace, timeout, &mut runs).await?;
        }
        let objects = self.stored_objects(target).await;
        let keys: Vec<_> = objects.iter().map(Object::key).collect();
        let options = release_options(&action, &target.namespace);
        let changes = self.ssa().apply_all(objects, &options).await.map_err(|f| f.message)?;
        for o in self.stored_objects(last).await.iter().rev().filter(|o| !keys.contains(&o.key())) {
            if !druse_helm::manifest::is_kept(&o.value) {
                self.delete(o, "Background").await.map_err(|e| e.to_string())?;
            }
        }
        if !action.disable_wait {
            self.wait(&changes, &[], &action, timeout).await?;
        }
        if !action.disable_hooks {
            hooks::run(self.api, &hooks, "post-rollback", &target.namespace, timeout, &mut runs).await?;
        }
        Ok(())
    }

    /// Removes what was applied of a release that never came to be stored.
    ///
    /// # Errors
    /// What could not be removed.
    pub async fn remove_unstored(&self, entries: &[Value]) -> Result<(), String> {
        let objects = entries.iter().filter_map(crate::inventory::object_of).collect();
        let (_, result) = self.ssa().delete_all(objects, (&self.unit.namespace, &self.unit.name), &[]).await;
        result.map_err(|(message, _)| message)
    }

    /// Removes a release and its records, or only marks the record where the spec has the history kept.
    ///
    /// # Errors
    /// What could not be removed.
    pub async fn uninstall(
        &self,
        storage: &Storage,
        mut record: ReleaseRecord,
        object: &Value,
        timeout: Duration,
    ) -> Result<ReleaseRecord, String> {
        let spec = &object["spec"]["uninstall"];
        let yes = |key: &str| spec[key].as_bool() == Some(true);
        let propagation = match spec["deletionPropagation"].as_str() {
            Some("foreground") => "Foreground",
            Some("orphan") => "Orphan",
            _ => "Background",
        };
        let hooks = hooks::of_record(&record);
        let mut runs = Runs::new();
        if !yes("disableHooks") {
            hooks::run(self.api, &hooks, "pre-delete", &record.namespace, timeout, &mut runs).await?;
        }
        let mut objects = self.c.with_namespaces(objects_of(&record.manifest), &record.namespace).await;
        objects.retain(|o| !druse_helm::manifest::is_kept(&o.value));
        let mut errors = Vec::new();
        for o in objects.iter().rev() {
            if let Err(e) = self.delete(o, propagation).await {
                errors.push(format!("{}: {e}", o.key()));
            }
        }
        if !errors.is_empty() {
            return Err(errors.join("; "));
        }
        if !yes("disableWait") {
            let targets: Vec<_> = objects.iter().map(wait::Target::of).collect();
            wait::until_gone(self.api, &targets, timeout).await?;
        }
        if !yes("disableHooks") {
            hooks::run(self.api, &hooks, "post-delete", &record.namespace, timeout, &mut runs).await?;
        }
        "uninstalled".clone_into(&mut record.status);
        record.deleted = clock::now();
        "Uninstallation complete".clone_into(&mut record.description);
        let stored = if yes("keepHistory") { storage.update(&record).await } else { storage.purge().await };
        stored.map_err(|e| e.to_string())?;
        Ok(record)
    }
}

/// How long an uninstall may take.
pub(crate) fn uninstall_timeout(unit: &HelmRelease, object: &Value) -> Duration {
    let own = object["spec"]["uninstall"]["timeout"].as_str().and_then(GoDuration::parse);
    own.or(unit.spec.timeout).map_or(Duration::from_secs(300), |d| d.0)
}

/// The manifest as Helm stores it: what was applied, each object under the template it came from.
fn manifest_of(rendered: &RenderedRelease) -> String {
    let mut out = String::new();
    for o in &rendered.objects {
        out.push_str("---\n");
        if let Some(t) = &o.provenance.template {
            out.push_str(&format!("# Source: {t}\n"));
        }
        yaml::write_into(&mut out, &o.value);
        if !out.ends_with('\n') {
            out.push('\n');
        }
    }
    out
}

/// The objects of a stored manifest.
fn objects_of(manifest: &str) -> Vec<Object> {
    yaml::documents(manifest, yaml::Dialect::Sigs)
        .into_iter()
        .filter_map(Result::ok)
        .filter(|d| d.value.get("kind").is_some())
        .map(|d| Object::new(d.value))
        .collect()
}

/// What Helm writes on every object it manages.
fn mark_managed(objects: &mut [Object], release: &str, namespace: &str) {
    for o in objects {
        o.set_label("app.kubernetes.io/managed-by", "Helm");
        o.set_annotation("meta.helm.sh/release-name", release);
        o.set_annotation("meta.helm.sh/release-namespace", namespace);
    }
}

fn inventory<'a>(objects: impl Iterator<Item = &'a Object>) -> Vec<Value> {
    objects
        .map(|o| {
            let entry = InventoryEntry::new(&o.key(), &o.gvk().version);
            let mut m = Map::new();
            m.insert("id", entry.id.as_str());
            m.insert("v", entry.version.as_str());
            Value::Map(m)
        })
        .collect()
}

/// The HelmCharts that stand for charts of releases.
pub(crate) fn helm_charts() -> Resource {
    Resource::new("source.toolkit.fluxcd.io", "v1", "HelmChart", "helmcharts", true)
}

/// How the objects of a release are applied.
fn release_options(action: &ReleaseAction, namespace: &str) -> ApplyOptions {
    ApplyOptions {
        force: action.force,
        drop_refused_fields: true,
        default_namespace: namespace.to_owned(),
        concurrency: 4,
        ..ApplyOptions::default()
    }
}
