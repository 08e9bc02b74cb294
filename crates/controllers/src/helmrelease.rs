//! The HelmRelease controller: prerequisites of a release (dependencies, chart, values), its end, and when to look
//! again. The release itself is [`crate::atomic`]'s.
//!
//! Follows fluxcd/helm-controller (`internal/controller`). Differences, on purpose: kinds that are not served yet do not
//! fail a release for good, it is tried again when they are; units waiting for another are woken by it.

use std::sync::Arc;
use std::time::Duration;

use druse_flux::api::{HELM_GROUP, HelmRelease, SOURCE_GROUP};
use druse_flux::release::{RenderedRelease, compose_values};
use druse_flux::{FluxError, graph, release};
use druse_helm::{Capabilities, Release, SeededHost, Values};
use druse_object::{Map, Object, Value};
use druse_plan::sources::SourceChart;
use druse_runtime::{Api, Caches, DeleteOptions, Key, Manager, Next, Reconciler, Recorder, clock};

use crate::actions::{self, Actions};
use crate::atomic::{self, Outcome, Run};
use crate::context::{
    CacheLookup, Context, FINALIZER, RECONCILE_AT, Randomness, conditions, depends_on, kinds, matters, refers_to,
};
use crate::host::ClusterHost;
use crate::storage::Storage;
use crate::{conditions, snapshot};

pub(crate) struct Controller {
    pub context: Arc<Context>,
    pub events: Recorder,
}

/// Starts the controller.
pub(crate) fn start(manager: &Manager, caches: &Caches, context: &Arc<Context>) -> druse_runtime::Queue {
    let queue = manager.queue();
    let controller =
        Controller { context: context.clone(), events: Recorder::new(context.api.clone(), "helm-controller") };
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

fn reads_source(unit: &Value, kind: &str, key: &Key) -> bool {
    [&unit["spec"]["chart"]["spec"]["sourceRef"], &unit["spec"]["chartRef"]]
        .into_iter()
        .any(|r| r["kind"].as_str() == Some(kind) && refers_to(unit, r, key))
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

/// What a release is to become.
pub(crate) struct Desired {
    pub chart: SourceChart,
    pub values: Values,
    pub config_digest: String,
    pub post_renderers_digest: String,
    pub common_metadata_digest: String,
}

impl Desired {
    /// The chart's version.
    pub fn version(&self) -> &str {
        &self.chart.chart.metadata.version
    }
}

/// When a unit that waits is looked at again.
enum Ended {
    /// Its status is that of its current generation.
    Observed(Next),
    /// It is not: there is more to do first.
    Unfinished(Next),
}

impl Controller {
    async fn step(&self, key: &Key, object: Value) -> Next {
        let resource = kinds::helm_releases();
        let unit = match HelmRelease::read(&Object::new(object.clone())) {
            Ok(u) => u,
            Err(e) => return self.context.refuse_spec(&resource, &object, &e).await,
        };
        if !object["metadata"]["deletionTimestamp"].is_null() {
            return self.finalize(&object, &unit).await;
        }
        if self.context.set_finalizer(&resource, &object, FINALIZER, true).await.is_err() {
            return Next::Retry;
        }
        let mut new = object.clone();
        if let Some(status) = new.make_map_at(["status"])
            && !status.contains_key("observedGeneration")
        {
            status.insert("observedGeneration", -1i64);
        }
        if unit.spec.suspend {
            let saved = self.context.write_status(&resource, &object, &new).await;
            return if saved.is_ok() { Next::Wait } else { Next::Retry };
        }
        let mut written = object;
        let (next, observed) = match self.attempt(key, &mut written, &mut new, &unit).await {
            Ended::Observed(next) => (next, true),
            Ended::Unfinished(next) => (next, false),
        };
        let generation = new["metadata"]["generation"].clone();
        let asked = new["metadata"]["annotations"][RECONCILE_AT].as_str().map(str::to_owned);
        if let Some(status) = new.make_map_at(["status"]) {
            if let Some(at) = asked {
                status.insert("lastHandledReconcileAt", at);
            }
            if observed {
                status.insert("observedGeneration", generation);
            }
        }
        match self.context.write_status(&resource, &written, &new).await {
            Ok(()) => next,
            Err(_) => Next::Retry,
        }
    }

    async fn attempt(&self, key: &Key, written: &mut Value, new: &mut Value, unit: &HelmRelease) -> Ended {
        let interval = unit.spec.interval.map_or(Duration::from_secs(3600), |d| d.0);
        let dependency = self.context.options.dependency_requeue;
        let now = clock::now();
        {
            let mut c = conditions(new, &now);
            c.remove("Stalled");
            c.set("Reconciling", "True", "Progressing", "Fulfilling prerequisites");
        }
        if let Err(message) = self.dependencies(unit) {
            conditions(new, &now).set("Ready", "False", "DependencyNotReady", &message);
            self.events.event(new, false, "DependencyNotReady", &message, &[]).await;
            return Ended::Unfinished(Next::After(dependency));
        }
        if let Some(r) = &unit.spec.chart_ref {
            let namespace = chart_namespace(unit);
            if self.context.source(&r.kind, namespace, &r.name).is_none() {
                let message =
                    format!("could not get Source object: {}.{SOURCE_GROUP} \"{}\" not found", r.kind, r.name);
                conditions(new, &now).set("Ready", "False", "ArtifactFailed", &message);
                return Ended::Unfinished(Next::Retry);
            }
        }
        let chart = match self.chart(unit, new).await {
            Ok(chart) => chart,
            Err(ChartState::StandIn(message)) => {
                let mut c = conditions(new, &now);
                c.remove("Reconciling");
                c.set("Ready", "True", "StandIn", &message);
                return Ended::Observed(Next::After(interval));
            }
            Err(ChartState::Failed(message)) => {
                conditions(new, &now).set("Ready", "False", "SourceNotReady", &message);
                return Ended::Unfinished(Next::After(dependency.max(Duration::from_secs(30)).min(interval)));
            }
        };
        let waits = ("HelmRelease", key.clone());
        let arrivals = self.context.arrivals();
        let desired = match self.desired(unit, chart).await {
            Ok(desired) => desired,
            Err(message) => {
                conditions(new, &now).set("Ready", "False", "ValuesError", &message);
                self.events.event(new, true, "ValuesError", &message, &[]).await;
                // They may come with another unit; a person's are looked for now and then.
                let again = Duration::from_secs(15);
                return Ended::Unfinished(self.context.wait_for_arrival(waits, arrivals, again));
            }
        };
        if unit.spec.kube_config.is_some() {
            let message = "spec.kubeConfig: other clusters are not supported";
            conditions(new, &now).set("Ready", "False", "RESTClientError", message);
            return Ended::Unfinished(Next::After(interval));
        }
        let api = self.context.api_for(&unit.namespace, unit.spec.service_account_name.as_deref());
        if let Some(next) = self.leave_old_target(new, unit, &desired, &api).await {
            return Ended::Unfinished(next);
        }
        let attempted = |k: &str| new["status"][k].as_str().unwrap_or_default().to_owned();
        let changed = new["status"]["lastAttemptedGeneration"] != new["metadata"]["generation"]
            || attempted("lastAttemptedRevision") != desired.version()
            || attempted("lastAttemptedConfigDigest") != desired.config_digest;
        if atomic::reset_asked(new) || changed {
            atomic::clear_failures(new);
        }
        let generation = new["metadata"]["generation"].clone();
        if let Some(status) = new.make_map_at(["status"]) {
            status.insert("storageNamespace", unit.storage_namespace());
            status.insert("lastAttemptedGeneration", generation);
            status.insert("lastAttemptedRevision", desired.version());
            status.insert("lastAttemptedConfigDigest", desired.config_digest.as_str());
        }
        let storage = Storage::new(api.clone(), unit.storage_namespace(), &unit.release_name());
        let outcome = Run { c: self, api, unit, desired: &desired, storage, object: new, written }.go().await;
        if outcome != Outcome::Missing {
            self.context.missing_kinds.lock().remove(&waits);
        }
        match outcome {
            Outcome::Done => Ended::Observed(Next::After(interval)),
            Outcome::Retry => Ended::Unfinished(Next::Retry),
            Outcome::RetryAfter(d) => Ended::Observed(Next::After(d)),
            Outcome::Stalled => Ended::Observed(Next::Wait),
            Outcome::Missing => Ended::Unfinished(self.context.wait_for_arrival(waits, arrivals, interval)),
        }
    }

    fn dependencies(&self, unit: &HelmRelease) -> Result<(), String> {
        for d in &unit.spec.depends_on {
            let (namespace, name) = graph::resolve(d, &unit.namespace);
            match self.context.helm_releases.get(&Key::new(namespace.as_str(), name.as_str())) {
                None => {
                    return Err(format!(
                        "unable to get '{namespace}/{name}' dependency: helmreleases.{HELM_GROUP} \"{name}\" not found"
                    ));
                }
                Some(d) if !conditions::is_ready(&d) => {
                    return Err(format!("dependency '{namespace}/{name}' is not ready"));
                }
                Some(_) => {}
            }
        }
        Ok(())
    }

    async fn desired(&self, unit: &HelmRelease, chart: SourceChart) -> Result<Desired, String> {
        let wanted: Vec<(String, String)> =
            unit.spec.values_from.iter().map(|r| (r.kind.to_string(), r.name.to_string())).collect();
        let wanted = wanted.iter().map(|(k, n)| (k.as_str(), n.as_str()));
        let configs = self.context.configs(&unit.namespace, wanted).await.map_err(|e| e.to_string())?;
        let composed = compose_values(unit, &configs).map_err(|e| values_error(unit, &e))?;
        let digest = |present: bool, v: Option<Value>| match v {
            Some(v) if present => snapshot::value_digest(&v),
            _ => String::new(),
        };
        let spec = &unit.spec;
        Ok(Desired {
            config_digest: snapshot::values_digest(&composed.values.to_value()),
            post_renderers_digest: digest(
                !spec.post_renderers.is_empty(),
                Value::from_typed(&spec.post_renderers).ok(),
            ),
            common_metadata_digest: digest(
                spec.common_metadata.is_some(),
                Value::from_typed(&spec.common_metadata).ok(),
            ),
            values: composed.values,
            chart,
        })
    }

    /// Uninstalls the release that this one was before it moved; says when to go on.
    async fn leave_old_target(
        &self,
        new: &mut Value,
        unit: &HelmRelease,
        desired: &Desired,
        api: &Api,
    ) -> Option<Next> {
        let latest = snapshot::latest(new)?.clone();
        let namespace = new.str_at(["status", "storageNamespace"]).filter(|n| !n.is_empty())?.to_owned();
        let same_chart = latest["chartName"].as_str() == Some(desired.chart.chart.name());
        let in_place = new["spec"]["upgrade"]["chartNameChangeStrategy"].as_str() == Some("InPlaceUpgrade");
        let same = namespace == unit.storage_namespace()
            && latest["namespace"].as_str() == Some(unit.release_namespace())
            && latest["name"].as_str() == Some(&unit.release_name())
            && (same_chart || in_place);
        if same {
            return None;
        }
        if !self.uninstall(new, unit, api, &namespace).await {
            return Some(Next::Retry);
        }
        atomic::clear_failures(new);
        if let Some(status) = new.make_map_at(["status"]) {
            status.remove("history");
            status.remove("storageNamespace");
        }
        Some(Next::After(Duration::from_millis(10)))
    }

    /// Uninstalls the release that the status remembers; says whether it is gone.
    async fn uninstall(&self, object: &mut Value, unit: &HelmRelease, api: &Api, namespace: &str) -> bool {
        let Some(latest) = snapshot::latest(object).cloned() else { return true };
        let (name, chart) = (snapshot::release_name(&latest), snapshot::chart_name(&latest));
        let storage = Storage::new(api.clone(), namespace, latest["name"].as_str().unwrap_or_default());
        let kept = object["spec"]["uninstall"]["keepHistory"].as_bool() == Some(true);
        let record = match storage.last().await {
            Ok(record) => record.filter(|r| !(kept && r.status == "uninstalled")),
            Err(e) if e.is_not_found() => None,
            Err(_) => return false,
        };
        let (result, message) = match record {
            None => (Ok(()), format!("Release {name} was not found, assuming it is uninstalled")),
            Some(record) => {
                let timeout = actions::uninstall_timeout(unit, object);
                let result = Actions { c: self, api, unit }.uninstall(&storage, record, object, timeout).await;
                let message = match &result {
                    Ok(_) => format!("Helm uninstall succeeded for release {name} with chart {chart}"),
                    Err(e) => format!("Helm uninstall failed for release {name} with chart {chart}: {}", e.trim()),
                };
                let reason = if result.is_ok() { "UninstallSucceeded" } else { "UninstallFailed" };
                let text = |k: &str| latest[k].as_str().unwrap_or_default();
                let notes = atomic::event_notes(text("chartVersion"), text("configDigest"), text("appVersion"));
                let notes: Vec<(&str, &str)> = notes.iter().map(|(k, v)| (*k, v.as_str())).collect();
                self.events.event(object, result.is_err(), reason, &message, &notes).await;
                (result.map(|_| ()), message)
            }
        };
        let reason = if result.is_ok() { "UninstallSucceeded" } else { "UninstallFailed" };
        let now = clock::now();
        let mut c = conditions(object, &now);
        c.set("Released", "False", reason, &message);
        c.set("Ready", "False", reason, &message);
        result.is_ok()
    }

    async fn finalize(&self, object: &Value, unit: &HelmRelease) -> Next {
        let resource = kinds::helm_releases();
        if !unit.spec.suspend {
            let mut new = object.clone();
            let namespace = object.str_at(["status", "storageNamespace"]).unwrap_or_default();
            let api = self.context.api_for(&unit.namespace, unit.spec.service_account_name.as_deref());
            if !namespace.is_empty() && !self.uninstall(&mut new, unit, &api, namespace).await {
                let _tried_again_anyway = self.context.write_status(&resource, object, &new).await;
                return Next::Retry;
            }
            let entries = object["status"]["inventory"]["entries"].items();
            if snapshot::latest(object).is_none() && !entries.is_empty() {
                let removed = Actions { c: self, api: &api, unit }.remove_unstored(entries).await;
                if let Err(message) = removed {
                    self.events.event(object, true, "UninstallFailed", &message, &[]).await;
                    return Next::Retry;
                }
            }
            if unit.spec.chart.is_some() {
                let (namespace, name) = (chart_namespace(unit), unit.helm_chart_name());
                let (charts, options) = (actions::helm_charts(), DeleteOptions::default());
                if self.context.api.delete(&charts, namespace, &name, &options).await.is_err() {
                    return Next::Retry;
                }
            }
        }
        match self.context.set_finalizer(&resource, object, FINALIZER, false).await {
            Ok(()) => Next::Wait,
            Err(_) => Next::Retry,
        }
    }

    pub(crate) async fn render(
        &self,
        unit: &HelmRelease,
        desired: &Desired,
        r: &Release,
    ) -> Result<RenderedRelease, String> {
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

    /// Objects with the release's namespace where their kind has one and they name none.
    pub(crate) async fn with_namespaces(&self, mut objects: Vec<Object>, namespace: &str) -> Vec<Object> {
        for o in &mut objects {
            if !o.namespace().is_empty() {
                continue;
            }
            if self.context.api.resource(&o.gvk()).await.is_ok_and(|r| r.namespaced)
                && let Some(m) = o.metadata_mut()
            {
                m.insert("namespace", namespace);
            }
        }
        objects
    }

    async fn chart(&self, unit: &HelmRelease, new: &mut Value) -> Result<SourceChart, ChartState> {
        if let (Some(_), Some(status)) = (&unit.spec.chart, new.make_map_at(["status"])) {
            status.insert("helmChart", format!("{}/{}", chart_namespace(unit), unit.helm_chart_name()));
        }
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
            context.trees().chart(&lookup, &unit_).map_err(Box::new)
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
        let resource = actions::helm_charts();
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
        if let Some(m) = object.make_map_at(["spec"])
            && !m.contains_key("interval")
        {
            m.insert("interval", unit.spec.interval.map_or("1h0m0s".to_owned(), |d| d.to_string()));
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
                    let (version, digest) = (chart.info.version.as_str(), chart.info.digest.as_str());
                    let artifact = crate::source::artifact("HelmChart", &Key::of(&applied), version, digest, &now);
                    if status.get("artifact").is_none_or(|a| Some(&a["digest"]) != artifact.get("digest")) {
                        status.insert("artifact", artifact);
                    }
                }
                conditions(&mut new, &now).set("Ready", "True", "ChartPullSucceeded", &message);
            }
            Err(message) => conditions(&mut new, &now).set("Ready", "False", "ChartPullError", message),
        }
        let _shown_only = self.context.write_status(&resource, &applied, &new).await;
    }
}

enum ChartState {
    /// A component does the chart's work.
    StandIn(String),
    Failed(String),
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

/// Why there are no values, in Flux' words.
fn values_error(unit: &HelmRelease, e: &FluxError) -> String {
    let key = |kind: &str, name: &str| {
        unit.spec
            .values_from
            .iter()
            .find(|r| r.kind == kind && r.name == name)
            .map_or("values.yaml", |r| r.key())
            .to_owned()
    };
    match e {
        FluxError::ConfigNotFound { kind, namespace, name, .. } => format!(
            "could not resolve {kind} chart values reference '{namespace}/{name}' with key '{}': {}s \"{name}\" not found",
            key(kind, name),
            kind.to_lowercase()
        ),
        FluxError::KeyNotFound { kind, namespace, name, key } => format!(
            "could not resolve {kind} chart values reference '{namespace}/{name}' with key '{key}': key not found"
        ),
        other => format!("could not resolve chart values reference: {other}"),
    }
}
