//! The HelmRelease controller: decides what a release needs, and does it.
//!
//! Follows fluxcd/helm-controller in what decides (digests of chart, values and post-renderers against the last
//! release, not manifests), in conditions, reasons and messages, and in what it stores (Helm's own release records).
//! Objects are applied server-side as Helm 4 does. Differences, on purpose: kinds that are not served yet do not fail a
//! release for good, it is tried again when they are; units waiting for another are woken by it.

use std::sync::Arc;
use std::time::Duration;

use druse_flux::api::{HELM_GROUP, HelmRelease, ReleaseAction};
use druse_flux::duration::GoDuration;
use druse_flux::release::{CrdsPolicy, RenderedRelease, compose_values};
use druse_flux::{graph, kstatus, release};
use druse_helm::{Capabilities, Release, ReleaseRecord, SeededHost, Values};
use druse_object::{Map, Object, Value, json};
use druse_plan::sources::SourceChart;
use druse_runtime::{ApiError, Caches, DeleteOptions, Key, Manager, Next, Reconciler, Resource, clock};
use sha2::{Digest, Sha256};

use crate::conditions;
use crate::context::{CacheLookup, Context, FINALIZER, RECONCILE_AT, Randomness, conditions, kinds, matters};
use crate::events::Recorder;
use crate::host::ClusterHost;
use crate::ssa::{Action, ApplyOptions, Change, ResourceManager};
use crate::storage::Storage;
use crate::{hooks, wait};

pub(crate) struct Controller {
    context: Arc<Context>,
    events: Recorder,
    ssa: ResourceManager,
}

/// Starts the controller.
pub(crate) fn start(manager: &Manager, caches: &Caches, context: &Arc<Context>) -> druse_runtime::Queue {
    let queue = manager.queue();
    let controller = Controller {
        context: context.clone(),
        events: Recorder::new(context.api.clone(), "helm-controller"),
        ssa: ResourceManager::new(context.api.clone(), "helm-controller", HELM_GROUP),
    };
    manager.run("helmrelease", &queue, Arc::new(controller), context.options.concurrency);
    let units = context.helm_releases.clone();
    manager.watch_mapped(&queue, &context.helm_releases, move |c| {
        let mut keys = Vec::new();
        if matters(c.old.as_deref(), c.new.as_deref()) {
            keys.push(c.key.clone());
        }
        if c.new.as_deref().is_some_and(conditions::is_ready) && !c.old.as_deref().is_some_and(conditions::is_ready) {
            keys.extend(units.all().iter().filter(|u| depends_on(u, &c.key)).map(|u| Key::of(u)));
        }
        keys
    });
    for (kind, cache) in &context.sources {
        let (units, kind) = (context.helm_releases.clone(), kind.clone());
        manager.watch_mapped(&queue, cache, move |c| {
            let revision = |v: &Option<Arc<Value>>| v.as_ref().map(|v| v["status"]["artifact"]["revision"].clone());
            let spec = |v: &Option<Arc<Value>>| v.as_ref().map(|v| v["metadata"]["generation"].clone());
            if c.old.is_some() && revision(&c.old) == revision(&c.new) && spec(&c.old) == spec(&c.new) {
                return Vec::new();
            }
            units.all().iter().filter(|u| reads_source(u, &kind, &c.key)).map(|u| Key::of(u)).collect()
        });
    }
    crate::wake_on_arrivals(manager, &queue, caches, context, "HelmRelease");
    queue
}

fn depends_on(unit: &Value, key: &Key) -> bool {
    let own = unit.str_at(["metadata", "namespace"]).unwrap_or_default();
    unit["spec"]["dependsOn"].items().iter().any(|d| {
        d["name"].as_str() == Some(&key.name) && d["namespace"].as_str().filter(|n| !n.is_empty()).unwrap_or(own) == key.namespace
    })
}

fn reads_source(unit: &Value, kind: &str, key: &Key) -> bool {
    let own = unit.str_at(["metadata", "namespace"]).unwrap_or_default();
    [&unit["spec"]["chart"]["spec"]["sourceRef"], &unit["spec"]["chartRef"]].into_iter().any(|r| {
        r["kind"].as_str() == Some(kind)
            && r["name"].as_str() == Some(&key.name)
            && r["namespace"].as_str().filter(|n| !n.is_empty()).unwrap_or(own) == key.namespace
    })
}

impl Reconciler for Controller {
    async fn reconcile(&self, key: Key) -> Next {
        match self.context.api.get(&kinds::helm_releases(), &key.namespace, &key.name).await {
            Ok(Some(object)) => self.step(&key, object).await,
            Ok(None) => {
                self.context.missing_kinds.lock().remove(&("HelmRelease", key));
                Next::Wait
            }
            Err(_) => Next::Retry,
        }
    }
}

/// Why a step did not go on.
pub(crate) struct Failure {
    pub reason: &'static str,
    pub message: String,
    /// Only waits for kinds to be served.
    pub missing_kinds: bool,
}

impl Failure {
    pub fn new(reason: &'static str, message: impl std::fmt::Display) -> Self {
        Self { reason, message: message.to_string(), missing_kinds: false }
    }
}

/// What a release is to become.
struct Desired {
    chart: SourceChart,
    values: Values,
    config_digest: String,
    post_renderers_digest: String,
}

impl Controller {
    async fn step(&self, key: &Key, object: Value) -> Next {
        let resource = kinds::helm_releases();
        let unit = match HelmRelease::read(&Object::new(object.clone())) {
            Ok(u) => u,
            Err(e) => {
                let mut new = object.clone();
                conditions(&mut new, &clock::now()).set("Ready", "False", "InvalidSpec", &e.to_string());
                let _next_change_brings_it_back = self.context.write_status(&resource, &object, &new).await;
                return Next::Wait;
            }
        };
        if !object["metadata"]["deletionTimestamp"].is_null() {
            return self.finalize(&object, &unit).await;
        }
        if self.context.set_finalizer(&resource, &object, FINALIZER, true).await.is_err() {
            return Next::Retry;
        }
        if unit.spec.suspend {
            return Next::Wait;
        }
        let mut new = object.clone();
        let next = self.attempt(key, &object, &mut new, &unit).await;
        let generation = new["metadata"]["generation"].clone();
        if let Some(status) = new.make_map_at(["status"]) {
            if let Some(at) = object["metadata"]["annotations"][RECONCILE_AT].as_str() {
                status.insert("lastHandledReconcileAt", at);
            }
            status.insert("observedGeneration", generation);
        }
        if conditions::get(&new, "Ready").is_some_and(|c| c["status"].as_str() == Some("True")) {
            conditions(&mut new, &clock::now()).remove("Reconciling");
        }
        match self.context.write_status(&resource, &object, &new).await {
            Ok(()) => next,
            Err(_) => Next::Retry,
        }
    }

    async fn attempt(&self, key: &Key, object: &Value, new: &mut Value, unit: &HelmRelease) -> Next {
        let interval = unit.spec.interval.map_or(Duration::from_secs(3600), |d| d.0);
        let dependency = self.context.options.dependency_requeue;
        for d in &unit.spec.depends_on {
            let (namespace, name) = graph::resolve(d, &unit.namespace);
            let there = self.context.helm_releases.get(&Key::new(namespace.as_str(), name.as_str()));
            let message = match there {
                None => format!("unable to get '{namespace}/{name}' dependency: helmreleases.helm.toolkit.fluxcd.io \"{name}\" not found"),
                Some(d) if !conditions::is_ready(&d) => format!("dependency '{namespace}/{name}' is not ready"),
                Some(_) => continue,
            };
            conditions(new, &clock::now()).set("Ready", "False", "DependencyNotReady", &message);
            return Next::After(dependency);
        }
        let chart = match self.chart(unit).await {
            Ok(chart) => chart,
            Err(ChartState::StandIn(message)) => {
                let now = clock::now();
                let mut c = conditions(new, &now);
                c.remove("Reconciling");
                c.set("Ready", "True", "StandIn", &message);
                return Next::After(interval);
            }
            Err(ChartState::Failed(message)) => {
                conditions(new, &clock::now()).set("Ready", "False", "ArtifactFailed", &message);
                return Next::After(interval.min(Duration::from_secs(60)));
            }
        };
        let waits = ("HelmRelease", key.clone());
        let arrivals = self.context.arrivals();
        match self.release(object, new, unit, chart).await {
            Ok(()) => {
                self.context.missing_kinds.lock().remove(&waits);
                Next::After(interval)
            }
            Err(f) => {
                {
                    let now = clock::now();
                    let mut c = conditions(new, &now);
                    c.remove("Reconciling");
                    c.set("Ready", "False", f.reason, &f.message);
                    if matches!(f.reason, "InstallFailed" | "UpgradeFailed") {
                        c.set("Released", "False", f.reason, &f.message);
                    }
                }
                self.events.event(new, true, f.reason, &f.message, &[]).await;
                if f.missing_kinds {
                    return self.context.wait_for_arrival(waits, arrivals, interval);
                }
                Next::Retry
            }
        }
    }

    async fn release(&self, old: &Value, new: &mut Value, unit: &HelmRelease, chart: SourceChart) -> Result<(), Failure> {
        let wanted: Vec<(String, String)> =
            unit.spec.values_from.iter().map(|r| (r.kind.to_string(), r.name.to_string())).collect();
        let configs = self
            .context
            .configs(&unit.namespace, wanted.iter().map(|(k, n)| (k.as_str(), n.as_str())))
            .await
            .map_err(|e| Failure::new("ValuesError", e))?;
        let composed = compose_values(unit, &configs)
            .map_err(|e| Failure::new("ValuesError", format!("could not resolve chart values reference: {e}")))?;
        let desired = Desired {
            config_digest: digest(&composed.values.to_value()),
            post_renderers_digest: post_renderers_digest(unit),
            values: composed.values,
            chart,
        };
        let storage = Storage::new(self.context.api.clone(), unit.storage_namespace(), &unit.release_name());
        let last = storage.last().await.map_err(|e| Failure::new("StorageError", e))?;
        let version = desired.chart.info.version.clone();
        if let Some(status) = new.make_map_at(["status"]) {
            status.insert("storageNamespace", unit.storage_namespace());
            status.insert("helmChart", format!("{}/{}", chart_namespace(unit), unit.helm_chart_name()));
            status.insert("lastAttemptedRevision", version.as_str());
            status.insert("lastAttemptedConfigDigest", desired.config_digest.as_str());
            status.insert("lastAttemptedGeneration", old["metadata"]["generation"].clone());
            status.insert("observedPostRenderersDigest", desired.post_renderers_digest.as_str());
        }
        let deployed = last.as_ref().is_some_and(|r| r.status == "deployed");
        if deployed && in_sync(old, &desired) && (unit.spec.drift_detection.is_none() || conditions::is_ready(old)) {
            let recorded = conditions::get(old, "Released").cloned();
            let mode = unit.spec.drift_detection.as_ref().and_then(|d| d.mode.as_deref());
            if mode != Some("enabled") {
                let (reason, message) = match &recorded {
                    Some(c) => (c["reason"].as_str().unwrap_or("InstallSucceeded").to_owned(), c["message"].as_str().unwrap_or_default().to_owned()),
                    None => ("InstallSucceeded".to_owned(), String::new()),
                };
                conditions(new, &clock::now()).set("Ready", "True", &reason, &message);
                return Ok(());
            }
        }
        self.run_action(old, new, unit, &desired, &storage, last).await
    }

    async fn run_action(
        &self,
        old: &Value,
        new: &mut Value,
        unit: &HelmRelease,
        desired: &Desired,
        storage: &Storage,
        last: Option<ReleaseRecord>,
    ) -> Result<(), Failure> {
        let replaced = last.as_ref().filter(|r| r.status != "uninstalled");
        let upgrade = replaced.is_some_and(|r| matches!(r.status.as_str(), "deployed" | "superseded" | "failed"));
        let (word, past, failed) = if upgrade {
            ("upgrade", "UpgradeSucceeded", "UpgradeFailed")
        } else {
            ("install", "InstallSucceeded", "InstallFailed")
        };
        let empty = ReleaseAction::default();
        let action = if upgrade { &unit.spec.upgrade } else { &unit.spec.install };
        let action = action.as_ref().unwrap_or(&empty);
        let timeout = action.timeout.or(unit.spec.timeout).map_or(Duration::from_secs(300), |d| d.0);
        let revision = last.as_ref().map_or(1, |r| r.version + 1);
        let name = unit.release_name();
        let namespace = unit.release_namespace().to_owned();
        let helm_release = if upgrade {
            Release::upgrade(name.as_str(), namespace.as_str(), revision)
        } else {
            Release { revision, ..Release::install(name.as_str(), namespace.as_str()) }
        };
        if let Some(status) = new.make_map_at(["status"]) {
            status.insert("lastAttemptedReleaseAction", word);
            status.insert("lastAttemptedReleaseActionDuration", "0s");
        }
        let progress = format!("Running '{word}' action with timeout of {}", GoDuration(timeout));
        {
            let now = clock::now();
            let mut c = conditions(new, &now);
            c.set("Reconciling", "True", "Progressing", &progress);
            c.set("Ready", "Unknown", "Progressing", &progress);
        }
        let _progress_only = self.context.write_status(&kinds::helm_releases(), old, new).await;
        let chart_name = format!("{}@{}", desired.chart.info.name, desired.chart.info.version);
        let describe = |e: &dyn std::fmt::Display| {
            Failure::new(failed, format!("Helm {word} failed for release {namespace}/{name} with chart {chart_name}: {e}"))
        };
        let rendered = self.render(unit, desired, &helm_release).await.map_err(|e| describe(&e))?;
        let record = record(unit, desired, &helm_release, &rendered, last.as_ref());
        let job = Job { controller: self, unit, action, timeout, rendered: &rendered, upgrade, namespace: &namespace };
        let result = job.run().await;
        let outcome = match result {
            Ok(()) => Ok(()),
            // Nothing is recorded as failed for kinds that may come: the release is tried again as it is.
            Err(f) if f.missing_kinds => return Err(Failure { missing_kinds: true, ..describe(&f.message) }),
            Err(f) => Err(describe(&f.message)),
        };
        if upgrade && outcome.is_ok() {
            if let Some(last) = &last {
                self.remove_stale(&last.manifest, &rendered, unit).await;
            }
        }
        let mut record = record;
        record.status = if outcome.is_ok() { "deployed" } else { "failed" }.to_owned();
        record.description = match &outcome {
            Ok(()) if upgrade => "Upgrade complete".to_owned(),
            Ok(()) => "Install complete".to_owned(),
            Err(f) => f.message.clone(),
        };
        let keep = unit.spec.max_history.unwrap_or(5);
        storage.store(&record, outcome.is_ok(), keep).await.map_err(|e| describe(&e))?;
        outcome?;
        let done = format!("Helm {word} succeeded for release {namespace}/{name}.v{revision} with chart {chart_name}");
        snapshot(new, &record, desired);
        {
            let now = clock::now();
            let mut c = conditions(new, &now);
            c.remove("Reconciling");
            c.set("Ready", "True", past, &done);
            c.set("Released", "True", past, &done);
        }
        let annotations = [("helm.toolkit.fluxcd.io/revision", desired.chart.info.version.as_str())];
        self.events.event(new, false, past, &done, &annotations).await;
        Ok(())
    }

    async fn render(&self, unit: &HelmRelease, desired: &Desired, r: &Release) -> Result<RenderedRelease, String> {
        let capabilities = match &self.context.options.capabilities {
            Some(c) => c.clone(),
            None => crate::host::live_capabilities(&self.context.api).await.map_err(|e| e.to_string())?,
        };
        let unit = unit.clone();
        let (chart, values, r) = (desired.chart.chart.clone(), desired.values.clone(), r.clone());
        let host = ClusterHost::new(self.context.api.clone(), tokio::runtime::Handle::current());
        let seeded = self.context.options.randomness == Randomness::Seeded;
        tokio::task::spawn_blocking(move || render_with(&unit, &chart, &values, &r, &capabilities, host, seeded))
            .await
            .map_err(|e| e.to_string())?
    }

    /// Deletes what the last release held and this one no longer does, unless it is to be kept.
    async fn remove_stale(&self, last: &str, rendered: &RenderedRelease, unit: &HelmRelease) {
        let namespace = unit.release_namespace();
        let now: Vec<_> = self.with_namespaces(rendered.objects.clone(), namespace).await.iter().map(Object::key).collect();
        for object in self.with_namespaces(objects_of(last), namespace).await.into_iter().rev() {
            if now.contains(&object.key()) || druse_helm::manifest::is_kept(&object.value) {
                continue;
            }
            if let Ok(r) = self.context.api.resource(&object.gvk()).await {
                let options = DeleteOptions { propagation: Some("Background"), ..DeleteOptions::default() };
                if let Err(e) = self.context.api.delete(&r, object.namespace(), object.name(), &options).await {
                    tracing::warn!("{} of release {} could not be removed: {e}", object.key(), unit.name);
                }
            }
        }
    }

    /// Objects with the release's namespace where their kind has one and they name none.
    async fn with_namespaces(&self, mut objects: Vec<Object>, namespace: &str) -> Vec<Object> {
        for o in &mut objects {
            if !o.namespace().is_empty() {
                continue;
            }
            if self.context.api.resource(&o.gvk()).await.is_ok_and(|r| r.namespaced) {
                if let Some(m) = o.metadata_mut() {
                    m.insert("namespace", namespace);
                }
            }
        }
        objects
    }

    async fn chart(&self, unit: &HelmRelease) -> Result<SourceChart, ChartState> {
        let failed = |e: &dyn std::fmt::Display| ChartState::Failed(e.to_string());
        let namespace = chart_namespace(unit).to_owned();
        let reference = unit.spec.chart.as_ref().map(|c| &c.spec.source_ref).or(unit.spec.chart_ref.as_ref());
        let source = reference.and_then(|r| self.context.source(&r.kind, &namespace, &r.name));
        let secret = source.as_ref().and_then(|o| o["spec"]["secretRef"]["name"].as_str().map(str::to_owned));
        let wanted = secret.iter().map(|s| ("Secret", s.as_str()));
        let secrets = self.context.configs(&namespace, wanted).await.map_err(|e| failed(&e))?;
        let (context, unit_) = (self.context.clone(), unit.clone());
        let result = tokio::task::spawn_blocking(move || {
            let lookup = CacheLookup { context: &context, secrets };
            context.trees().chart(&lookup, &unit_)
        })
        .await
        .map_err(|e| failed(&e))?;
        match result {
            Ok(chart) => {
                self.publish_chart(unit, Ok(&chart)).await;
                Ok(chart)
            }
            Err(failure) => {
                let name = failure.chart.as_ref().map(|c| c.name.clone()).unwrap_or_default();
                let version = failure.chart.as_ref().map(|c| c.wanted.clone()).unwrap_or_default();
                if let (true, Some(stand_ins)) = (failure.not_at_hand, &self.context.options.stand_ins) {
                    let component = stand_ins
                        .for_chart(&name)
                        .or_else(|| failure.source.as_ref().and_then(|s| stand_ins.for_source(&s.url)));
                    if let Some(component) = component {
                        return Err(ChartState::StandIn(format!(
                            "stand-in: chart {name} {version} not fetched, the {} component does its work (simulated)",
                            component.component
                        )));
                    }
                }
                let message = failure.error.to_string();
                self.publish_chart(unit, Err(&message)).await;
                Err(ChartState::Failed(format!(
                    "HelmChart '{namespace}/{}' is not ready: {message}",
                    unit.helm_chart_name()
                )))
            }
        }
    }

    /// Keeps the HelmChart object that stands for the unit's chart, as Flux shows it.
    async fn publish_chart(&self, unit: &HelmRelease, result: Result<&SourceChart, &str>) {
        let Some(template) = &unit.spec.chart else { return };
        let resource = Resource::new("source.toolkit.fluxcd.io", "v1", "HelmChart", "helmcharts", true);
        let namespace = chart_namespace(unit);
        let name = unit.helm_chart_name();
        let mut object = Value::default();
        if let Some(m) = object.make_map() {
            m.insert("apiVersion", "source.toolkit.fluxcd.io/v1");
            m.insert("kind", "HelmChart");
            m.insert("spec", Value::from_typed(&template.spec).map(without_empty).unwrap_or_default());
        }
        if let Some(m) = object.make_map_at(["metadata"]) {
            m.insert("name", name.as_str());
            m.insert("namespace", namespace);
            m.insert(
                "labels",
                [
                    ("helm.toolkit.fluxcd.io/name", unit.name.as_str()),
                    ("helm.toolkit.fluxcd.io/namespace", unit.namespace.as_str()),
                ]
                .into_iter()
                .collect::<Map>(),
            );
        }
        if let Some(m) = object.make_map_at(["spec"]) {
            if !m.contains_key("interval") {
                m.insert("interval", unit.spec.interval.map_or("1h0m0s".to_owned(), |d| d.to_string()));
            }
        }
        let applied = match self.context.api.apply(&Object::new(object), "helm-controller", false).await {
            Ok(v) => v,
            Err(e) => {
                tracing::debug!("HelmChart {namespace}/{name} not written: {e}");
                return;
            }
        };
        let mut new = applied.clone();
        let generation = new["metadata"]["generation"].clone();
        let now = clock::now();
        match result {
            Ok(chart) => {
                let message = format!("pulled '{}' chart with version '{}'", chart.info.name, chart.info.version);
                if let Some(status) = new.make_map_at(["status"]) {
                    status.insert("observedGeneration", generation);
                    status.insert("observedChartName", chart.info.name.as_str());
                    let mut artifact = Map::new();
                    artifact.insert("revision", chart.info.version.as_str());
                    artifact.insert("digest", chart.info.digest.as_str());
                    status.insert("artifact", artifact);
                }
                conditions(&mut new, &now).set("Ready", "True", "ChartPullSucceeded", &message);
            }
            Err(message) => conditions(&mut new, &now).set("Ready", "False", "ChartPullError", message),
        }
        let _shown_only = self.context.write_status(&resource, &applied, &new).await;
    }

    async fn finalize(&self, object: &Value, unit: &HelmRelease) -> Next {
        let storage = Storage::new(self.context.api.clone(), unit.storage_namespace(), &unit.release_name());
        let last = match storage.last().await {
            Ok(l) => l,
            Err(e) if e.is_not_found() => None,
            Err(_) => return Next::Retry,
        };
        if let Some(record) = last.filter(|_| !unit.spec.suspend) {
            if let Err(message) = self.uninstall(unit, &record).await {
                self.events.event(object, true, "UninstallFailed", &message, &[]).await;
                return Next::Retry;
            }
            if storage.purge().await.is_err() {
                return Next::Retry;
            }
            let message = format!(
                "Helm uninstall succeeded for release {}/{}.v{}",
                unit.release_namespace(),
                record.name,
                record.version
            );
            self.events.event(object, false, "UninstallSucceeded", &message, &[]).await;
        }
        let charts = Resource::new("source.toolkit.fluxcd.io", "v1", "HelmChart", "helmcharts", true);
        let options = DeleteOptions::default();
        let gone = self.context.api.delete(&charts, chart_namespace(unit), &unit.helm_chart_name(), &options).await;
        if gone.is_err() {
            return Next::Retry;
        }
        match self.context.set_finalizer(&kinds::helm_releases(), object, FINALIZER, false).await {
            Ok(()) => Next::Wait,
            Err(_) => Next::Retry,
        }
    }

    async fn uninstall(&self, unit: &HelmRelease, record: &ReleaseRecord) -> Result<(), String> {
        let objects = self.with_namespaces(objects_of(&record.manifest), unit.release_namespace()).await;
        let mut errors = Vec::new();
        for o in objects.iter().rev().filter(|o| !druse_helm::manifest::is_kept(&o.value)) {
            let r = match self.context.api.resource(&o.gvk()).await {
                Ok(r) => r,
                Err(ApiError::NoMatch(_)) => continue,
                Err(e) => {
                    errors.push(e.to_string());
                    continue;
                }
            };
            let options = DeleteOptions { propagation: Some("Background"), ..DeleteOptions::default() };
            if let Err(e) = self.context.api.delete(&r, o.namespace(), o.name(), &options).await {
                errors.push(format!("{}: {e}", o.key()));
            }
        }
        if errors.is_empty() {
            Ok(())
        } else {
            Err(format!("Helm uninstall failed for release {}/{}: {}", record.namespace, record.name, errors.join("; ")))
        }
    }
}

enum ChartState {
    /// A component does the chart's work.
    StandIn(String),
    Failed(String),
}

/// One install or upgrade.
struct Job<'a> {
    controller: &'a Controller,
    unit: &'a HelmRelease,
    action: &'a ReleaseAction,
    timeout: Duration,
    rendered: &'a RenderedRelease,
    upgrade: bool,
    namespace: &'a str,
}

impl Job<'_> {
    async fn run(&self) -> Result<(), Failure> {
        let failed = |e: &dyn std::fmt::Display| Failure::new("", e);
        let c = self.controller;
        let api = &c.context.api;
        let (before, after) = if self.upgrade { ("pre-upgrade", "post-upgrade") } else { ("pre-install", "post-install") };
        if self.action.create_namespace {
            let mut ns = Value::default();
            if let Some(m) = ns.make_map() {
                m.insert("apiVersion", "v1");
                m.insert("kind", "Namespace");
            }
            if let Some(m) = ns.make_map_at(["metadata"]) {
                m.insert("name", self.namespace);
            }
            let r = Resource::new("", "v1", "Namespace", "namespaces", false);
            if api.get(&r, "", self.namespace).await.map_err(|e| failed(&e))?.is_none() {
                api.create(&r, "", &ns).await.map_err(|e| failed(&e))?;
            }
        }
        self.apply_crds().await?;
        let run_hooks = !self.action.disable_hooks;
        if run_hooks {
            hooks::run(api, &self.rendered.hooks, before, self.namespace, self.timeout).await.map_err(|e| failed(&e))?;
        }
        let mut objects = c.with_namespaces(self.rendered.objects.clone(), self.namespace).await;
        mark_managed(&mut objects, &self.unit.release_name(), self.namespace);
        let going: Vec<String> =
            objects.iter().filter(|o| wait::goes_when_done(&o.value)).map(|o| o.key().to_string()).collect();
        let options = ApplyOptions { force: self.action.force, drop_unknown_fields: true, concurrency: 4, ..ApplyOptions::default() };
        let changes = match c.ssa.apply_all(objects, &options).await {
            Ok(changes) => changes,
            Err(f) => return Err(Failure { missing_kinds: f.missing_kinds, ..failed(&f.message) }),
        };
        if !self.action.disable_wait {
            self.wait(&changes, &going).await?;
        }
        if run_hooks {
            hooks::run(api, &self.rendered.hooks, after, self.namespace, self.timeout).await.map_err(|e| failed(&e))?;
        }
        Ok(())
    }

    async fn apply_crds(&self) -> Result<(), Failure> {
        let policy = if self.upgrade {
            CrdsPolicy::on_upgrade(&self.unit.spec)
        } else {
            CrdsPolicy::on_install(&self.unit.spec)
        };
        let policy = policy.ok_or_else(|| Failure::new("", "crds: not one of Skip, Create, CreateReplace"))?;
        if policy == CrdsPolicy::Skip || self.rendered.crds.is_empty() {
            return Ok(());
        }
        let mut crds = self.rendered.crds.clone();
        if policy == CrdsPolicy::Create {
            let mut missing = Vec::new();
            for crd in crds {
                let there = self.controller.context.api.get(&kinds::crds(), "", crd.name()).await;
                // What a component made to stand in until the chart came is the chart's to replace.
                let replaceable = |v: &Value| !v["metadata"]["annotations"]["druse.dev/simulated"].is_null();
                match there {
                    Ok(Some(v)) if !replaceable(&v) => {}
                    Ok(_) => missing.push(crd),
                    Err(e) => return Err(Failure::new("", e)),
                }
            }
            crds = missing;
        }
        let options = ApplyOptions { concurrency: 4, ..ApplyOptions::default() };
        let applied = self.controller.ssa.apply_all(crds, &options).await;
        applied.map(|_| ()).map_err(|f| Failure::new("", f.message))
    }

    async fn wait(&self, changes: &[Change], going: &[String]) -> Result<(), Failure> {
        let targets: Vec<_> = changes
            .iter()
            .filter(|c| c.action != Action::Skipped)
            .filter_map(wait::Target::of_change)
            .filter(|t| !(self.action.disable_wait_for_jobs && t.gvk.kind == "Job"))
            .map(|t| wait::Target { gone_is_done: going.contains(&t.to_string()), ..t })
            .collect();
        wait::until_current(&self.controller.context.api, &targets, self.timeout, kstatus::compute)
            .await
            .map_err(|e| Failure::new("", e))
    }
}

fn render_with(
    unit: &HelmRelease,
    chart: &Arc<druse_helm::Chart>,
    values: &Values,
    r: &Release,
    capabilities: &Capabilities,
    host: ClusterHost,
    seeded: bool,
) -> Result<RenderedRelease, String> {
    let rendered = if seeded {
        let seed = format!("HelmRelease/{}/{}", unit.namespace, unit.name);
        let lookup = SeededHost::new(seed).with_lookup(move |v, k, ns, n| host.find(v, k, ns, n));
        release::render(unit, chart, values, r, capabilities, &lookup)
    } else {
        release::render(unit, chart, values, r, capabilities, &host)
    };
    rendered.map_err(|e| e.to_string())
}

fn chart_namespace(unit: &HelmRelease) -> &str {
    let reference = unit.spec.chart.as_ref().map(|c| &c.spec.source_ref).or(unit.spec.chart_ref.as_ref());
    reference.and_then(|r| r.namespace.as_deref()).filter(|n| !n.is_empty()).unwrap_or(&unit.namespace)
}

/// The objects of a stored manifest.
fn objects_of(manifest: &str) -> Vec<Object> {
    druse_object::yaml::documents(manifest, druse_object::yaml::Dialect::Sigs)
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

/// Whether the last release was made of the same chart, values and post-renderers.
fn in_sync(old: &Value, desired: &Desired) -> bool {
    let Some(last) = old["status"]["history"].items().first() else { return false };
    last["chartName"].as_str() == Some(&desired.chart.info.name)
        && last["chartVersion"].as_str() == Some(&desired.chart.info.version)
        && last["chartDigest"].as_str().is_none_or(|d| d == desired.chart.info.digest)
        && last["configDigest"].as_str() == Some(&desired.config_digest)
        && old.str_at(["status", "observedPostRenderersDigest"]).unwrap_or_default() == desired.post_renderers_digest
}

fn digest(v: &Value) -> String {
    let mut sorted = v.clone();
    sorted.sort_keys();
    format!("sha256:{}", hex::encode(Sha256::digest(json::to_string(&sorted).as_bytes())))
}

fn post_renderers_digest(unit: &HelmRelease) -> String {
    if unit.spec.post_renderers.is_empty() && unit.spec.common_metadata.is_none() {
        return String::new();
    }
    let both = (&unit.spec.post_renderers, &unit.spec.common_metadata);
    Value::from_typed(&both).map(|v| digest(&v)).unwrap_or_default()
}

fn record(
    unit: &HelmRelease,
    desired: &Desired,
    r: &Release,
    rendered: &RenderedRelease,
    last: Option<&ReleaseRecord>,
) -> ReleaseRecord {
    let now = clock::now();
    ReleaseRecord {
        name: r.name.clone(),
        namespace: r.namespace.clone(),
        version: r.revision,
        first_deployed: last.map_or_else(|| now.clone(), |l| l.first_deployed.clone()),
        last_deployed: now,
        notes: rendered.notes.clone(),
        chart: druse_helm::release::chart_value(&desired.chart.chart, &desired.chart.chart.values),
        config: desired.values.to_value(),
        manifest: rendered.manifest.clone(),
        hooks: rendered.hooks.iter().map(|h| hooks::record(h, &unit.name)).collect(),
        apply_method: "ssa".to_owned(),
        ..ReleaseRecord::default()
    }
}

/// Puts a release at the head of the history that statuses keep.
fn snapshot(object: &mut Value, record: &ReleaseRecord, desired: &Desired) {
    let mut s = Map::new();
    s.insert("apiVersion", "v2");
    s.insert("appVersion", desired.chart.chart.metadata.app_version.as_str());
    s.insert("chartName", desired.chart.info.name.as_str());
    s.insert("chartVersion", desired.chart.info.version.as_str());
    s.insert("chartDigest", desired.chart.info.digest.as_str());
    s.insert("configDigest", desired.config_digest.as_str());
    s.insert("digest", digest(&record.to_value()));
    s.insert("firstDeployed", record.first_deployed.as_str());
    s.insert("lastDeployed", record.last_deployed.as_str());
    s.insert("name", record.name.as_str());
    s.insert("namespace", record.namespace.as_str());
    s.insert("status", record.status.as_str());
    s.insert("version", record.version);
    let Some(status) = object.make_map_at(["status"]) else { return };
    let history = status.entry_or_null("history");
    let mut entries = vec![Value::Map(s)];
    for mut e in history.items().iter().cloned() {
        if e["status"].as_str() == Some("deployed") {
            if let Some(m) = e.as_map_mut() {
                m.insert("status", "superseded");
            }
        }
        entries.push(e);
    }
    entries.truncate(5);
    *history = Value::Array(entries);
}

fn without_empty(v: Value) -> Value {
    match v {
        Value::Map(m) => {
            let kept: Map = m
                .into_iter()
                .map(|(k, v)| (k, without_empty(v)))
                .filter(|(_, v)| match v {
                    Value::Null | Value::Bool(false) => false,
                    Value::Array(a) => !a.is_empty(),
                    Value::Map(m) => !m.is_empty(),
                    _ => true,
                })
                .collect();
            Value::Map(kept)
        }
        other => other,
    }
}
