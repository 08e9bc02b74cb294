//! The Kustomization controller: builds, substitutes, applies in stages, prunes, waits.
//!
//! Follows fluxcd/kustomize-controller (kustomization_controller.go): order of steps, conditions, reasons, messages,
//! inventory, history and events. Differences, on purpose: a unit that waits for another is woken by it rather than by a
//! timer, and intermediate progress is written once per phase that takes time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use druse_flux::api::{DependencyRef, HELM_GROUP, KUSTOMIZE_GROUP, Kustomization, SOURCE_GROUP};
use druse_flux::decrypt::{self, Decryption};
use druse_flux::duration::GoDuration;
use druse_flux::{FluxError, generator, graph, kstatus, labels, substitute};
use druse_object::{Map, Object, Value, yaml};
use druse_plan::remote::Remotes;
use druse_plan::sources::SourceTree;
use druse_runtime::{Caches, Key, Manager, Next, Reconciler, Recorder, clock};
use sha2::{Digest, Sha256};

use crate::conditions;
use crate::context::{
    CacheLookup, Context, FINALIZER, RECONCILE_AT, conditions, depends_on, kinds, matters, refers_to,
};
use crate::ssa::{Action, ApplyOptions, Change, ResourceManager};
use crate::wait;
use crate::{inventory, normalize};

struct Controller {
    context: Arc<Context>,
    events: Recorder,
}

/// Starts the controller; returns its queue for others to wake units.
pub(crate) fn start(manager: &Manager, caches: &Caches, context: &Arc<Context>) -> druse_runtime::Queue {
    let queue = manager.queue();
    let controller =
        Controller { context: context.clone(), events: Recorder::new(context.api.clone(), "kustomize-controller") };
    manager.run("kustomization", &queue, Arc::new(controller), context.options.concurrency);
    let units = context.kustomizations.clone();
    manager.watch_mapped(&queue, &context.kustomizations, move |c| {
        let mut keys = Vec::new();
        if matters(c.old.as_deref(), c.new.as_deref()) {
            keys.push(c.key.clone());
        }
        // Those that wait for this one: to be ready, or to have applied a revision.
        let applied = |v: &Value| v["status"]["lastAppliedRevision"].clone();
        let ready = |v: &Option<Arc<Value>>| v.as_deref().filter(|v| conditions::is_ready(v)).map(applied);
        let (old, new) = (ready(&c.old), ready(&c.new));
        if new.is_some() && old != new {
            keys.extend(units.all().iter().filter(|u| depends_on(u, &c.key)).map(|u| Key::of(u)));
        }
        keys
    });
    // A new revision of a source concerns all units that read it.
    for (kind, cache) in &context.sources {
        let (units, kind) = (context.kustomizations.clone(), kind.clone());
        manager.watch_mapped(&queue, cache, move |c| {
            let revision = |v: &Option<Arc<Value>>| v.as_ref().map(|v| v["status"]["artifact"]["revision"].clone());
            if c.old.is_some() && revision(&c.old) == revision(&c.new) {
                return Vec::new();
            }
            let now = revision(&c.new).unwrap_or_default();
            let behind = |u: &Value| now.is_null() || u["status"]["lastAttemptedRevision"] != now;
            units.all().iter().filter(|u| reads_source(u, &kind, &c.key) && behind(u)).map(|u| Key::of(u)).collect()
        });
    }
    crate::wake_on_arrivals(manager, &queue, caches, context, "Kustomization");
    queue
}

fn reads_source(unit: &Value, kind: &str, key: &Key) -> bool {
    let r = &unit["spec"]["sourceRef"];
    r["kind"].as_str() == Some(kind) && refers_to(unit, r, key)
}

impl Reconciler for Controller {
    async fn reconcile(&self, key: Key) -> Next {
        match self.context.api.get(&kinds::kustomizations(), &key.namespace, &key.name).await {
            Ok(Some(object)) => self.step(&key, object).await,
            Ok(None) => {
                self.context.missing_kinds.lock().remove(&("Kustomization", key));
                Next::Wait
            }
            Err(_) => Next::Retry,
        }
    }
}

/// Why a reconcile did not end with the unit ready.
struct Failure {
    reason: &'static str,
    message: String,
    /// Only waits for kinds to be served.
    missing_kinds: bool,
}

impl Failure {
    fn new(reason: &'static str, message: impl std::fmt::Display) -> Self {
        Self { reason, message: message.to_string(), missing_kinds: false }
    }
}

/// What a reconcile has come to so far; written to the status at its end.
struct Progress<'a> {
    object: &'a mut Value,
    revision: String,
    digest: Option<String>,
}

impl Controller {
    async fn step(&self, key: &Key, object: Value) -> Next {
        let resource = kinds::kustomizations();
        let unit = match Kustomization::read(&Object::new(object.clone())) {
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
            let written = self.context.write_status(&resource, &object, &new).await;
            return if written.is_ok() { Next::Wait } else { Next::Retry };
        }
        let next = self.attempt(key, &object, &mut new, &unit).await;
        if let Some(at) = object["metadata"]["annotations"][RECONCILE_AT].as_str()
            && let Some(status) = new.make_map_at(["status"])
        {
            status.insert("lastHandledReconcileAt", at);
        }
        let now = clock::now();
        if conditions::get(&new, "Ready").is_some_and(|c| c["status"].as_str() == Some("True")) {
            conditions(&mut new, &now).remove("Reconciling");
            let generation = new["metadata"]["generation"].clone();
            if let Some(status) = new.make_map_at(["status"]) {
                status.insert("observedGeneration", generation);
            }
        } else if let Some(message) =
            conditions::get(&new, "Reconciling").and_then(|c| c["message"].as_str()).map(str::to_owned)
        {
            conditions(&mut new, &now).set("Reconciling", "True", "ProgressingWithRetry", &message);
        }
        match self.context.write_status(&resource, &object, &new).await {
            Ok(()) => next,
            Err(_) => Next::Retry,
        }
    }

    async fn attempt(&self, key: &Key, object: &Value, new: &mut Value, unit: &Kustomization) -> Next {
        let now = clock::now();
        let interval = unit.spec.interval.unwrap_or(GoDuration(Duration::from_secs(600))).0;
        let retry = unit.spec.retry_interval.map_or(interval, |d| d.0);
        let source = match self.source(unit).await {
            Ok(source) => source,
            Err(SourceState::StandIn(message)) => {
                let mut c = conditions(new, &now);
                c.remove("Reconciling");
                c.set("Ready", "True", "StandIn", &message);
                return Next::After(interval);
            }
            Err(SourceState::Failed(message) | SourceState::Missing(message)) => {
                conditions(new, &now).set("Ready", "False", "ArtifactFailed", &message);
                return Next::After(retry);
            }
        };
        let revision = source.info.revision.clone();
        for dependency in &unit.spec.depends_on {
            if let Err(message) = self.dependency_ready(unit, dependency, &revision) {
                conditions(new, &now).set("Ready", "False", "DependencyNotReady", &message);
                let wait = GoDuration(self.context.options.dependency_requeue);
                let note = format!("Dependencies do not meet ready condition, retrying in {wait}");
                self.event(new, &revision, false, &note, &[]).await;
                return Next::After(self.context.options.dependency_requeue);
            }
        }
        let timeout = timeout(unit);
        let started = Instant::now();
        let arrivals = self.context.arrivals();
        let mut progress = Progress { object: new, revision: revision.clone(), digest: None };
        let result = self.build_and_apply(object, &mut progress, unit, source, timeout).await;
        let digest = progress.digest.take();
        let waits = ("Kustomization", key.clone());
        match result {
            Ok(()) => {
                self.context.missing_kinds.lock().remove(&waits);
                if let Some(status) = new.make_map_at(["status"]) {
                    status.insert("lastAppliedRevision", revision.as_str());
                }
                let message = format!("Applied revision: {revision}");
                conditions(new, &now).set("Ready", "True", "ReconciliationSucceeded", &message);
                history(new, digest, started, "ReconciliationSucceeded", &revision);
                let took = GoDuration(started.elapsed());
                let message = format!("Reconciliation finished in {took}, next run in {}", GoDuration(interval));
                let commit = [("kustomize.toolkit.fluxcd.io/commit_status", "update")];
                self.event(new, &revision, false, &message, &commit).await;
                Next::After(interval)
            }
            Err(f) => {
                conditions(new, &now).set("Ready", "False", f.reason, &f.message);
                history(new, digest, started, f.reason, &revision);
                self.event(new, &revision, true, &f.message, &[]).await;
                if f.missing_kinds {
                    return self.context.wait_for_arrival(waits, arrivals, retry);
                }
                Next::After(retry)
            }
        }
    }

    async fn build_and_apply(
        &self,
        object: &Value,
        progress: &mut Progress<'_>,
        unit: &Kustomization,
        source: SourceTree,
        timeout: Duration,
    ) -> Result<(), Failure> {
        let now = clock::now();
        let revision = progress.revision.clone();
        let timeout_text = GoDuration(timeout);
        let phase = |progress: &mut Progress<'_>, what: &str| {
            let message = format!("{what} for revision {revision} with a timeout of {timeout_text}");
            conditions(progress.object, &now).set("Reconciling", "True", "Progressing", &message);
        };
        conditions(progress.object, &now).set("Ready", "Unknown", "Progressing", "Reconciliation in progress");
        phase(progress, "Fetching manifests");
        let path = generator::clean_path(&unit.spec.path);
        if source.tree.kind(&path).is_none() {
            let message = format!("kustomization path not found: stat {path}: no such file or directory");
            return Err(Failure::new("ArtifactFailed", message));
        }
        if let Some(status) = progress.object.make_map_at(["status"]) {
            status.insert("lastAttemptedRevision", revision.as_str());
        }
        phase(progress, "Building manifests");
        if unit.spec.kube_config.is_some() {
            let message = "failed to build kube client: spec.kubeConfig: other clusters are not supported";
            return Err(Failure::new("ReconciliationFailed", message));
        }
        let (mut objects, notes) = self.build(unit, &source).await?;
        for note in notes {
            self.event(progress.object, &revision, true, &note, &[]).await;
        }
        progress.digest = Some(digest(&objects));
        labels::set_kustomization_owner(&mut objects, &unit.namespace, &unit.name);
        if let Some(common) = &unit.spec.common_metadata {
            labels::set_common_metadata(&mut objects, common);
        }
        if self.context.options.keep_own_kinds {
            objects.retain(|o| !defines_own_kind(o));
        }
        if let Some(o) = objects.iter().find(|o| is_encrypted(o)) {
            let what = "configuring decryption is required for this secret to be reconciled";
            let message = format!("{} is SOPS encrypted, {what}\n", o.key());
            return Err(Failure::new("ReconciliationFailed", message));
        }
        normalize::all(&mut objects);
        phase(progress, "Detecting drift");
        let applied = self.ssa_for(unit).apply_all(objects, &self.apply_options(unit)).await;
        let old = progress.object["status"]["inventory"]["entries"].items().to_vec();
        let changes = match applied {
            Ok(changes) => changes,
            Err(failure) => {
                let log = change_log(&failure.changes);
                if !failure.changes.is_empty() && failure.missing_kinds {
                    // What was applied must not be forgotten, and nothing is pruned on a partial apply.
                    let mut entries = old;
                    inventory::merge(&mut entries, inventory::of_changes(&failure.changes));
                    set_inventory(progress.object, entries);
                }
                let message = format!("{}\n{log}", failure.message);
                let missing_kinds = failure.missing_kinds;
                return Err(Failure { missing_kinds, ..Failure::new("ReconciliationFailed", message) });
            }
        };
        let log = change_log(&changes);
        if !log.is_empty() {
            self.event(progress.object, &revision, false, log.trim_end(), &[]).await;
        }
        let entries = inventory::of_changes(&changes);
        let stale = inventory::stale(&old, &entries);
        set_inventory(progress.object, entries.clone());
        if unit.spec.prune && !stale.is_empty() {
            self.prune(progress.object, unit, &revision, entries, &stale).await?;
        }
        self.check_health(object, progress, unit, &changes, !log.is_empty(), timeout).await
    }

    /// Applies with the rights of the unit's account, where it names one.
    fn ssa_for(&self, unit: &Kustomization) -> ResourceManager {
        let account = unit.spec.service_account_name.as_deref();
        ResourceManager::new(self.context.api_for(&unit.namespace, account), "kustomize-controller", KUSTOMIZE_GROUP)
    }

    /// The unit's objects, and what building them had to say.
    async fn build(&self, unit: &Kustomization, source: &SourceTree) -> Result<(Vec<Object>, Vec<String>), Failure> {
        let failed = |e: &dyn std::fmt::Display| Failure::new("BuildFailed", e);
        let wanted: Vec<(String, String)> = unit
            .spec
            .post_build
            .iter()
            .flat_map(|p| &p.substitute_from)
            .map(|r| (r.kind.to_string(), r.name.to_string()))
            .collect();
        let configs = self
            .context
            .configs(&unit.namespace, wanted.iter().map(|(k, n)| (k.as_str(), n.as_str())))
            .await
            .map_err(|e| failed(&e))?;
        let lenient = self.context.options.lenient;
        let mut keys = (*self.context.options.keys).clone();
        if let Some(secret) = unit.spec.decryption.as_ref().and_then(|d| d.secret_ref.as_ref()) {
            let found = self.context.configs(&unit.namespace, [("Secret", secret.name.as_str())].into_iter()).await;
            match found.map_err(|e| failed(&e))?.into_values().next() {
                Some(data) => keys.extend(&decrypt::keys_of_secret(&data).map_err(|e| failed(&e))?),
                None if lenient => {}
                None => return Err(failed(&format!("secrets \"{}\" not found", secret.name))),
            }
        }
        let trees = self.context.trees();
        let (unit, tree) = (unit.clone(), source.tree.clone());
        let strict = self.context.options.strict_substitution;
        let built = tokio::task::spawn_blocking(move || {
            let plain = |e: FluxError| (e.to_string(), false);
            let remotes = Remotes::new(trees.fetcher(), lenient);
            let decryption = Decryption { keys, mask: lenient };
            let settings = generator::BuildSettings {
                as_met: true,
                decryption: Some(&decryption),
                remote: Some(&remotes),
                ..Default::default()
            };
            let (mut objects, notes) = generator::build_with(&*tree, &unit.spec, &settings).map_err(plain)?;
            let mut said: Vec<String> = notes.sealed.iter().map(ToString::to_string).collect();
            said.extend(notes.changed);
            said.extend(remotes.missing());
            if let Some(post_build) = &unit.spec.post_build {
                let collected = substitute::collect(post_build, &unit.namespace, &configs).map_err(|e| match &e {
                    FluxError::ConfigNotFound { kind, name, .. } => (missing_config(&objects, kind, name), true),
                    _ => plain(e),
                })?;
                let options = substitute::Options {
                    strict,
                    always: unit.spec.substitute_strategy.as_deref() == Some("Always"),
                    open: collected.open,
                };
                for o in &mut objects {
                    substitute::substitute(o, &collected.variables, options).map_err(plain)?;
                }
            }
            Ok::<_, (String, bool)>((objects, said))
        })
        .await;
        match built {
            Ok(Ok(built)) => Ok(built),
            // What it reads may come with another unit.
            Ok(Err((message, missing_kinds))) => Err(Failure { missing_kinds, ..failed(&message) }),
            Err(e) => Err(failed(&e)),
        }
    }

    fn apply_options(&self, unit: &Kustomization) -> ApplyOptions {
        let key = |name: &str| format!("{KUSTOMIZE_GROUP}/{name}");
        ApplyOptions {
            force: unit.spec.force,
            force_selector: vec![(key("force"), "enabled")],
            exclusions: vec![(key("reconcile"), "disabled"), (key("ssa"), "ignore")],
            if_not_present: vec![(key("ssa"), "ifnotpresent")],
            merge: vec![(key("ssa"), "merge")],
            concurrency: 4,
            ..ApplyOptions::default()
        }
    }

    async fn prune(
        &self,
        object: &mut Value,
        unit: &Kustomization,
        revision: &str,
        mut entries: Vec<Value>,
        stale: &[Value],
    ) -> Result<(), Failure> {
        let (changes, result) = self.delete(unit, stale).await;
        if let Err((message, survivors)) = result {
            inventory::merge(&mut entries, inventory::of_changes(&survivors));
            set_inventory(object, entries);
            return Err(Failure::new("PruneFailed", message));
        }
        let log: Vec<String> = changes.iter().map(ToString::to_string).collect();
        if !log.is_empty() {
            self.event(object, revision, false, &log.join("\n"), &[]).await;
        }
        Ok(())
    }

    async fn delete(
        &self,
        unit: &Kustomization,
        entries: &[Value],
    ) -> (Vec<Change>, Result<(), (String, Vec<Change>)>) {
        let key = |name: &str| format!("{KUSTOMIZE_GROUP}/{name}");
        let exclusions = [(key("prune"), "disabled"), (key("reconcile"), "disabled"), (key("ssa"), "ignore")];
        let objects = entries.iter().filter_map(inventory::object_of).collect();
        self.ssa_for(unit).delete_all(objects, (&unit.namespace, &unit.name), &exclusions).await
    }

    async fn check_health(
        &self,
        old: &Value,
        progress: &mut Progress<'_>,
        unit: &Kustomization,
        changes: &[Change],
        drifted: bool,
        timeout: Duration,
    ) -> Result<(), Failure> {
        let now = clock::now();
        let targets: Vec<wait::Target> = if unit.spec.wait {
            changes.iter().filter(|c| c.action != Action::Skipped).filter_map(wait::Target::of_change).collect()
        } else {
            unit.spec.health_checks.iter().map(wait::Target::of_reference).collect()
        };
        let own =
            |t: &wait::Target| t.gvk.kind == "Kustomization" && t.namespace == unit.namespace && t.name == unit.name;
        let targets: Vec<_> = targets.into_iter().filter(|t| !own(t)).collect();
        if targets.is_empty() {
            conditions(progress.object, &now).remove("Healthy");
            return Ok(());
        }
        let was_healthy = conditions::get(old, "Healthy").is_some_and(|c| c["status"].as_str() == Some("True"));
        let message = format!(
            "Running health checks for revision {} with a timeout of {}",
            progress.revision,
            GoDuration(timeout)
        );
        {
            let mut c = conditions(progress.object, &now);
            c.set("Reconciling", "True", "Progressing", &message);
            c.set("Healthy", "Unknown", "Progressing", &message);
        }
        let _progress_only = self.context.write_status(&kinds::kustomizations(), old, progress.object).await;
        let started = Instant::now();
        if let Err(e) = wait::until_current(&self.context.api, &targets, timeout, kstatus::compute).await {
            let now = clock::now();
            conditions(progress.object, &now).set("Healthy", "False", "HealthCheckFailed", &e);
            let message = format!("health check failed after {}: {e}", GoDuration(started.elapsed()));
            return Err(Failure::new("HealthCheckFailed", message));
        }
        let message = format!("Health check passed in {}", GoDuration(started.elapsed()));
        let new_revision = old.str_at(["status", "lastAppliedRevision"]) != Some(&progress.revision);
        if !was_healthy || (new_revision && drifted) {
            self.event(progress.object, &progress.revision, false, &message, &[]).await;
        }
        conditions(progress.object, &clock::now()).set("Healthy", "True", "Succeeded", &message);
        Ok(())
    }

    fn dependency_ready(&self, unit: &Kustomization, dependency: &DependencyRef, revision: &str) -> Result<(), String> {
        let (namespace, name) = graph::resolve(dependency, &unit.namespace);
        let Some(d) = self.context.kustomizations.get(&Key::new(namespace.as_str(), name.as_str())) else {
            return Err(format!(
                "dependency '{namespace}/{name}' not found: kustomizations.kustomize.toolkit.fluxcd.io \"{name}\" not found"
            ));
        };
        if !conditions::is_ready(&d) {
            return Err(format!("dependency '{namespace}/{name}' is not ready"));
        }
        let stand_in = conditions::get(&d, "Ready").is_some_and(|c| c["reason"].as_str() == Some("StandIn"));
        let reference = &unit.spec.source_ref;
        let source_key = Key::new(reference.namespace.as_deref().unwrap_or(&unit.namespace), reference.name.as_str());
        let same_source = reads_source(&d, &reference.kind, &source_key);
        if !stand_in && same_source && d.str_at(["status", "lastAppliedRevision"]) != Some(revision) {
            return Err(format!("dependency '{namespace}/{name}' revision is not up to date"));
        }
        Ok(())
    }

    async fn source(&self, unit: &Kustomization) -> Result<SourceTree, SourceState> {
        let reference = unit.spec.source_ref.clone();
        let namespace = reference.namespace.clone().filter(|n| !n.is_empty()).unwrap_or_else(|| unit.namespace.clone());
        let object = self.context.source(&reference.kind, &namespace, &reference.name);
        if object.is_none() {
            let own = self.context.trees().stands_for(&reference, &namespace);
            if !own {
                return Err(SourceState::Missing(format!(
                    "{}.{SOURCE_GROUP} \"{}\" not found",
                    reference.kind, reference.name
                )));
            }
        }
        let secret = object.as_ref().and_then(|o| o["spec"]["secretRef"]["name"].as_str().map(str::to_owned));
        let wanted = secret.iter().map(|s| ("Secret", s.as_str()));
        let secrets = self.context.configs(&namespace, wanted).await.map_err(|e| SourceState::Failed(e.to_string()))?;
        let context = self.context.clone();
        let own = unit.namespace.clone();
        let result = tokio::task::spawn_blocking(move || {
            let lookup = CacheLookup { context: &context, secrets };
            context.trees().tree(&lookup, &reference, &own).map_err(Box::new)
        })
        .await
        .map_err(|e| SourceState::Failed(e.to_string()))?;
        result.map_err(|failure| {
            let url = failure.source.as_ref().map(|s| s.url.clone()).unwrap_or_default();
            if let (true, Some(stand_ins)) = (failure.not_at_hand, &self.context.options.stand_ins)
                && let Some(s) = stand_ins.for_source(&url)
            {
                return SourceState::StandIn(format!(
                    "stand-in: source {url} not fetched, the {} component does its work (simulated)",
                    s.component
                ));
            }
            SourceState::Failed(failure.error.to_string())
        })
    }

    async fn finalize(&self, object: &Value, unit: &Kustomization) -> Next {
        let policy = unit.spec.deletion_policy.as_deref().filter(|p| !p.is_empty()).unwrap_or("MirrorPrune");
        let entries = object["status"]["inventory"]["entries"].items();
        let delete = !unit.spec.suspend
            && match policy {
                "MirrorPrune" => unit.spec.prune,
                "Delete" | "WaitForTermination" => true,
                _ => false,
            };
        if delete && !entries.is_empty() {
            let revision = object.str_at(["status", "lastAppliedRevision"]).unwrap_or_default().to_owned();
            let (changes, result) = self.delete(unit, entries).await;
            if result.is_err() {
                self.event(object, &revision, true, "pruning for deleted resource failed", &[]).await;
                return Next::Retry;
            }
            let log: Vec<String> = changes.iter().map(ToString::to_string).collect();
            if !log.is_empty() {
                self.event(object, &revision, false, &log.join("\n"), &[]).await;
            }
            if policy == "WaitForTermination" {
                let timeout = timeout(unit);
                let targets: Vec<_> = changes
                    .iter()
                    .filter(|c| c.action == Action::Deleted)
                    .filter_map(wait::Target::of_change)
                    .collect();
                if wait::until_gone(&self.context.api, &targets, timeout).await.is_err() {
                    self.event(object, &revision, true, "failed to wait for resources termination", &[]).await;
                }
            }
        }
        match self.context.set_finalizer(&kinds::kustomizations(), object, FINALIZER, false).await {
            Ok(()) => Next::Wait,
            Err(_) => Next::Retry,
        }
    }

    /// An event with the unit's Ready reason, as upstream records it.
    async fn event(&self, object: &Value, revision: &str, warning: bool, message: &str, more: &[(&str, &str)]) {
        let reason = conditions::get(object, "Ready").and_then(|c| c["reason"].as_str()).unwrap_or("Progressing");
        let mut annotations = more.to_vec();
        if !revision.is_empty() {
            annotations.push(("kustomize.toolkit.fluxcd.io/revision", revision));
        }
        self.events.event(object, warning, reason, message, &annotations).await;
    }
}

enum SourceState {
    /// A component does the work of what was not fetched.
    StandIn(String),
    /// No such object.
    Missing(String),
    Failed(String),
}

fn set_inventory(object: &mut Value, entries: Vec<Value>) {
    if let Some(i) = object.make_map_at(["status", "inventory"]) {
        i.insert("entries", entries);
    }
}

fn change_log(changes: &[Change]) -> String {
    changes
        .iter()
        .filter(|c| matches!(c.action, Action::Created | Action::Configured))
        .map(|c| format!("{c}\n"))
        .collect()
}

/// How long one apply and wait may take: half a minute less than the interval where nothing is said, never under that.
fn timeout(unit: &Kustomization) -> Duration {
    const LEAST: Duration = Duration::from_secs(30);
    let interval = unit.spec.interval.map_or(Duration::from_secs(600), |d| d.0);
    unit.spec.timeout.map_or_else(|| interval.saturating_sub(LEAST), |d| d.0).max(LEAST)
}

/// Whether an object is a Secret that SOPS encrypted and that may not be applied as it is.
fn is_encrypted(o: &Object) -> bool {
    o.kind() == "Secret"
        && o.value.get("sops").is_some()
        && o.annotation(&format!("{KUSTOMIZE_GROUP}/decrypt")) != Some("disabled")
}

/// Whether an object defines a kind that these controllers reconcile.
fn defines_own_kind(o: &Object) -> bool {
    o.kind() == "CustomResourceDefinition"
        && [KUSTOMIZE_GROUP, HELM_GROUP, SOURCE_GROUP].iter().any(|g| o.value.str_at(["spec", "group"]) == Some(*g))
}

/// That variables cannot be read, in Flux' words: it finds out at the first object.
fn missing_config(objects: &[Object], kind: &str, name: &str) -> String {
    let why = format!("substitute from '{kind}/{name}' error: {}s \"{name}\" not found", kind.to_lowercase());
    match objects.first() {
        Some(o) => {
            let gvk = o.gvk();
            let group = if gvk.group.is_empty() { "[noGrp]" } else { &gvk.group };
            format!("post build failed for '{}.{}.{group}/{}': {why}", gvk.kind, gvk.version, o.name())
        }
        None => why,
    }
}

/// The digest of a build, for the history: of its YAML as kustomize writes it.
fn digest(objects: &[Object]) -> String {
    let text: Vec<String> = objects.iter().map(|o| yaml::to_string(&o.value)).collect();
    format!("sha256:{}", hex::encode(Sha256::digest(text.join("---\n").as_bytes())))
}

/// Puts a reconcile at the head of the unit's history: repeats of one digest and outcome are counted, five are kept.
fn history(object: &mut Value, digest: Option<String>, started: Instant, status: &str, revision: &str) {
    let Some(digest) = digest else { return };
    let now = clock::now();
    let Some(m) = object.make_map_at(["status"]) else { return };
    let list = m.entry_or_null("history");
    let mut entries = list.items().to_vec();
    let same = |e: &Value| e["digest"].as_str() == Some(&digest) && e["lastReconciledStatus"].as_str() == Some(status);
    let mut entry = match entries.iter().position(same) {
        Some(i) => entries.remove(i),
        None => {
            let mut e = Map::new();
            e.insert("digest", digest.as_str());
            e.insert("firstReconciled", now.as_str());
            e.insert("totalReconciliations", 0i64);
            Value::Map(e)
        }
    };
    let total = entry["totalReconciliations"].as_i64().unwrap_or(0) + 1;
    if let Some(e) = entry.as_map_mut() {
        e.insert("lastReconciled", now.as_str());
        e.insert("lastReconciledDuration", GoDuration(started.elapsed()).to_string());
        e.insert("lastReconciledStatus", status);
        e.insert("metadata", [("revision", revision)].into_iter().collect::<Map>());
        e.insert("totalReconciliations", total);
    }
    entries.insert(0, entry);
    entries.truncate(5);
    *list = Value::Array(entries);
}
