//! One reconcile of a release: looks at its state, does the next action, looks again, until nothing is left to do or it
//! must wait.
//!
//! Follows helm-controller's `internal/reconcile` (`AtomicRelease`, `DetermineReleaseState` and the action reconcilers):
//! which action follows from which state, retries and remediation, conditions, reasons, messages, events, counters.
//! What the actions do to the cluster is in [`crate::actions`].

use std::time::{Duration, Instant};

use druse_flux::api::HelmRelease;
use druse_flux::duration::GoDuration;
use druse_helm::ReleaseRecord;
use druse_object::{Map, Value};
use druse_runtime::{Api, ApiError, clock};

use crate::actions::Actions;
use crate::conditions;
use crate::context::{RECONCILE_AT, conditions, kinds};
use crate::drift::{self, Drift};
use crate::helmrelease::{Controller, Desired};
use crate::hooks::{self, Runs};
use crate::snapshot;
use crate::storage::Storage;

/// Asks for a release even when nothing changed; equal to [`RECONCILE_AT`]'s value to count.
const FORCE_AT: &str = "reconcile.fluxcd.io/forceAt";
/// Asks to forget failures; equal to [`RECONCILE_AT`]'s value to count.
const RESET_AT: &str = "reconcile.fluxcd.io/resetAt";

/// What a reconcile of a release came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Nothing is left to do.
    Done,
    /// There is more to do, after a growing pause.
    Retry,
    /// There is more to do after this long.
    RetryAfter(Duration),
    /// It has failed for good, until something it is made of changes or somebody asks.
    Stalled,
    /// It waits for kinds to be served or namespaces to be there; nothing was stored.
    Missing,
}

/// How a release relates to what is wanted.
enum State {
    Absent,
    Unmanaged,
    OutOfSync,
    Locked(Box<ReleaseRecord>),
    Untested,
    InSync,
    Failed,
    Drifted(Vec<Drift>),
}

/// What to do next.
enum Step {
    Install,
    Upgrade,
    Test,
    RollBack,
    Uninstall,
    Correct(Vec<Drift>),
    Unlock(Box<ReleaseRecord>),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Release,
    Test,
    Remediate,
    Correct,
    Unlock,
}

impl Step {
    fn name(&self) -> &'static str {
        match self {
            Self::Install => "install",
            Self::Upgrade => "upgrade",
            Self::Test => "test",
            Self::RollBack => "rollback",
            Self::Uninstall => "uninstall",
            Self::Correct(_) => "correct cluster drift",
            Self::Unlock(_) => "unlock",
        }
    }

    fn kind(&self) -> Kind {
        match self {
            Self::Install | Self::Upgrade => Kind::Release,
            Self::Test => Kind::Test,
            Self::RollBack | Self::Uninstall => Kind::Remediate,
            Self::Correct(_) => Kind::Correct,
            Self::Unlock(_) => Kind::Unlock,
        }
    }
}

/// Why there is no next step.
enum NoStep {
    Exhausted,
    NoTarget,
    Failed,
}

/// A step that changed nothing in the store.
pub(crate) struct NotStored {
    pub message: String,
    pub missing: bool,
}

impl From<ApiError> for NotStored {
    fn from(e: ApiError) -> Self {
        Self { message: e.to_string(), missing: false }
    }
}

/// What a spec says about failures of an action.
struct Remediation {
    retries: i64,
    ignore_tests: bool,
    remediate_last: bool,
    uninstalls: bool,
    upgrade: bool,
}

impl Remediation {
    fn of(unit: &HelmRelease, upgrade: bool) -> Self {
        let action = if upgrade { &unit.spec.upgrade } else { &unit.spec.install };
        let r = action.as_ref().and_then(|a| a.remediation.clone()).unwrap_or_default();
        let ignore = unit.spec.test.as_ref().is_some_and(|t| t.ignore_failures);
        Self {
            retries: r.retries,
            ignore_tests: r.ignore_test_failures.unwrap_or(ignore),
            remediate_last: r.remediate_last_failure.unwrap_or(upgrade && r.retries > 0),
            uninstalls: !upgrade || r.strategy.as_deref() == Some("uninstall"),
            upgrade,
        }
    }

    fn counter(&self) -> &'static str {
        if self.upgrade { "upgradeFailures" } else { "installFailures" }
    }

    fn failures(&self, object: &Value) -> i64 {
        object["status"][self.counter()].as_i64().unwrap_or(0)
    }

    fn exhausted(&self, object: &Value) -> bool {
        self.retries >= 0 && self.failures(object) > self.retries
    }
}

/// A reconcile under way.
pub(crate) struct Run<'a> {
    pub c: &'a Controller,
    pub api: Api,
    pub unit: &'a HelmRelease,
    pub desired: &'a Desired,
    pub storage: Storage,
    pub object: &'a mut Value,
    /// The object as its status was last written.
    pub written: &'a mut Value,
}

fn bump(object: &mut Value, counter: &str) {
    let n = object["status"][counter].as_i64().unwrap_or(0);
    if let Some(status) = object.make_map_at(["status"]) {
        status.insert(counter, n + 1);
    }
}

/// Forgets all failures.
pub(crate) fn clear_failures(object: &mut Value) {
    if let Some(status) = object.make_map_at(["status"]) {
        for counter in ["failures", "installFailures", "upgradeFailures"] {
            status.remove(counter);
        }
    }
}

/// Whether an annotation asks for something now; each value is handled once.
fn asked(object: &mut Value, annotation: &str, handled: &str) -> bool {
    let annotations = &object["metadata"]["annotations"];
    let (Some(value), requested) = (annotations[annotation].as_str(), annotations[RECONCILE_AT].as_str()) else {
        return false;
    };
    if object["status"][handled].as_str() == Some(value) {
        return false;
    }
    let (value, now) = (value.to_owned(), requested == Some(value));
    if let Some(status) = object.make_map_at(["status"]) {
        status.insert(handled, value);
    }
    now
}

/// Whether somebody asks to forget failures.
pub(crate) fn reset_asked(object: &mut Value) -> bool {
    asked(object, RESET_AT, "lastHandledResetAt")
}

fn is_true(object: &Value, kind: &str) -> bool {
    conditions::get(object, kind).is_some_and(|c| c["status"].as_str() == Some("True"))
}

/// What events about a release carry.
pub(crate) fn event_notes(version: &str, digest: &str, app_version: &str) -> Vec<(&'static str, String)> {
    let mut notes = vec![
        ("helm.toolkit.fluxcd.io/revision", version.to_owned()),
        ("helm.toolkit.fluxcd.io/token", digest.to_owned()),
        ("helm.toolkit.fluxcd.io/app-version", app_version.to_owned()),
    ];
    notes.retain(|(_, v)| !v.is_empty());
    notes
}

fn notes_of(snapshot: &Value) -> Vec<(&'static str, String)> {
    let text = |k: &str| snapshot[k].as_str().unwrap_or_default();
    event_notes(text("chartVersion"), text("configDigest"), text("appVersion"))
}

impl Run<'_> {
    fn set(&mut self, kind: &str, status: &str, reason: &str, message: &str) {
        let now = clock::now();
        let mut c = conditions(self.object, &now);
        match kind {
            "Reconciling" => c.remove("Stalled"),
            "Stalled" => c.remove("Reconciling"),
            _ => {}
        }
        c.set(kind, status, reason, message);
    }

    fn unset(&mut self, kind: &str) {
        conditions(self.object, "").remove(kind);
    }

    fn status(&mut self, key: &'static str, value: impl Into<Value>) {
        if let Some(status) = self.object.make_map_at(["status"]) {
            status.insert(key, value);
        }
    }

    async fn save(&mut self) {
        let saved = self.c.context.write_status(&kinds::helm_releases(), self.written, self.object).await;
        if saved.is_ok() {
            self.written.clone_from(self.object);
        }
    }

    async fn event(&self, warning: bool, reason: &str, message: &str, notes: &[(&'static str, String)]) {
        let notes: Vec<(&str, &str)> = notes.iter().map(|(k, v)| (*k, v.as_str())).collect();
        self.c.events.event(self.object, warning, reason, message, &notes).await;
    }

    fn actions(&self) -> Actions<'_> {
        Actions { c: self.c, api: &self.api, unit: self.unit }
    }

    fn last_action(&self) -> &str {
        self.object.str_at(["status", "lastAttemptedReleaseAction"]).unwrap_or_default()
    }

    /// How failures of the last action are dealt with.
    fn active(&self) -> Option<Remediation> {
        match self.last_action() {
            "install" => Some(Remediation::of(self.unit, false)),
            "upgrade" => Some(Remediation::of(self.unit, true)),
            _ => None,
        }
    }

    /// How soon the last action is tried again, where the spec has it tried again instead of remediated.
    fn retry(&self, action: &str) -> Option<Duration> {
        let strategy = &self.object["spec"][action]["strategy"];
        let interval = || strategy["retryInterval"].as_str().and_then(GoDuration::parse);
        (strategy["name"].as_str() == Some("RetryOnFailure"))
            .then(|| interval().map_or(Duration::from_secs(300), |d| d.0))
    }

    fn active_retry(&self) -> Option<Duration> {
        self.retry(self.last_action())
    }

    fn retry_later(&mut self, after: Duration) -> Outcome {
        let message = format!("retrying after {}", GoDuration(after));
        self.set("Reconciling", "True", "ProgressingWithRetry", &message);
        Outcome::RetryAfter(after)
    }

    fn retry_soon(&mut self) -> Outcome {
        let message = conditions::get(self.object, "Ready").and_then(|c| c["message"].as_str()).unwrap_or_default();
        let message = message.to_owned();
        self.set("Reconciling", "True", "ProgressingWithRetry", &message);
        Outcome::Retry
    }

    fn exhausted(&mut self) -> Outcome {
        let attempts = self.active().map_or(0, |r| r.failures(self.object));
        let message = format!("Failed to {} after {attempts} attempt(s)", self.last_action());
        self.set("Stalled", "True", "RetriesExceeded", &message);
        Outcome::Stalled
    }

    /// Works on the release.
    pub async fn go(&mut self) -> Outcome {
        let mut done: Vec<Kind> = Vec::new();
        loop {
            let state = match self.state().await {
                Ok(state) => state,
                Err(e) => {
                    let message = format!("Could not determine release state: {e}");
                    self.set("Ready", "False", "StateError", &message);
                    return Outcome::Retry;
                }
            };
            let step = match self.next(state).await {
                Ok(Some(step)) => step,
                Ok(None) => {
                    self.unset("Reconciling");
                    self.summarize();
                    return Outcome::Done;
                }
                Err(NoStep::Exhausted) => return self.exhausted(),
                Err(NoStep::NoTarget) => {
                    let why = "Failed to perform remediation: missing target release for rollback: cannot remediate failed release";
                    self.set("Stalled", "True", "MissingRollbackTarget", why);
                    return Outcome::Stalled;
                }
                Err(NoStep::Failed) => return Outcome::Retry,
            };
            let kind = step.kind();
            if done.contains(&kind) {
                if let Some(after) = self.active_retry() {
                    return self.retry_later(after);
                }
                if self.active().is_none_or(|r| !r.exhausted(self.object)) {
                    return self.retry_soon();
                }
                self.unset("Reconciling");
                return Outcome::Done;
            }
            let timeout = self.timeout(step.name());
            let message = format!("Running '{}' action with timeout of {}", step.name(), GoDuration(timeout));
            self.set("Reconciling", "True", "Progressing", &message);
            if kind == Kind::Release {
                self.set("Ready", "Unknown", "Progressing", &message);
            }
            self.save().await;
            if let Err(e) = self.perform(step, timeout).await {
                if let (Some(after), false) = (self.active_retry(), e.missing) {
                    return self.retry_later(after);
                }
                if is_true(self.object, "Ready") {
                    self.set("Ready", "False", "ReconcileError", &e.message);
                }
                return if e.missing { Outcome::Missing } else { Outcome::Retry };
            }
            if kind == Kind::Remediate {
                if let Some(after) = self.active_retry() {
                    return self.retry_later(after);
                }
                let more = |r: &Remediation| !r.exhausted(self.object) || (r.upgrade && r.uninstalls);
                if self.active().is_none_or(|r| more(&r)) {
                    return self.retry_soon();
                }
                return self.exhausted();
            }
            done.push(kind);
            self.save().await;
        }
    }

    fn timeout(&self, action: &str) -> Duration {
        let own = self.object["spec"][action]["timeout"].as_str().and_then(GoDuration::parse);
        own.or(self.unit.spec.timeout).map_or(Duration::from_secs(300), |d| d.0)
    }

    async fn state(&mut self) -> Result<State, String> {
        let last =
            self.storage.last().await.map_err(|e| format!("failed to retrieve last release from storage: {e}"))?;
        let Some(last) = last else { return Ok(State::Absent) };
        if last.status.starts_with("pending-") {
            return Ok(State::Locked(Box::new(last)));
        }
        let Some(latest) = snapshot::latest(self.object) else {
            return Ok(if last.status == "uninstalled" { State::Absent } else { State::Unmanaged });
        };
        if latest["version"].as_i64() != Some(last.version) || !snapshot::matches(latest, &last) {
            return Ok(State::Unmanaged);
        }
        match last.status.as_str() {
            "failed" => return Ok(State::Failed),
            "uninstalled" => return Ok(State::Absent),
            "deployed" => {}
            other => return Err(format!("unable to determine state for release with status '{other}'")),
        }
        let (tested, test_failed) = (snapshot::is_tested(latest), snapshot::has_failed_test(latest));
        let metadata = &last.chart["metadata"];
        let same_chart = metadata["name"].as_str() == Some(self.desired.chart.chart.name())
            && metadata["version"].as_str() == Some(self.desired.version());
        if !same_chart || latest["configDigest"].as_str() != Some(&self.desired.config_digest) {
            return Ok(State::OutOfSync);
        }
        if self.object["status"]["observedGeneration"] != self.object["metadata"]["generation"] {
            let observed = |k: &str| self.object["status"][k].as_str().unwrap_or_default().to_owned();
            if observed("observedPostRenderersDigest") != self.desired.post_renderers_digest
                || observed("observedCommonMetadataDigest") != self.desired.common_metadata_digest
            {
                return Ok(State::OutOfSync);
            }
        }
        if self.unit.spec.test.as_ref().is_some_and(|t| t.enable) {
            if !tested {
                return Ok(State::Untested);
            }
            if test_failed && self.active().is_some_and(|r| !r.ignore_tests) {
                return Ok(State::Failed);
            }
        }
        if self.drift_mode().is_some() {
            let objects = self.actions().stored_objects(&last).await;
            let rules = self.unit.spec.drift_detection.as_ref();
            let drifts = drift::detect(&self.api, objects, "helm-controller", rules).await?;
            if !drifts.is_empty() {
                return Ok(State::Drifted(drifts));
            }
        }
        Ok(State::InSync)
    }

    fn drift_mode(&self) -> Option<&str> {
        let mode = self.unit.spec.drift_detection.as_ref()?.mode.as_deref()?;
        matches!(mode, "enabled" | "warn").then_some(mode)
    }

    /// After a rollback that is what is wanted now, the release counts as upgraded.
    fn settle_remediated(&mut self) {
        if !is_true(self.object, "Remediated") {
            return;
        }
        let Some(s) = snapshot::latest(self.object) else { return };
        let message = released("upgrade", s);
        self.unset("Remediated");
        self.set("Released", "True", "UpgradeSucceeded", &message);
    }

    async fn next(&mut self, state: State) -> Result<Option<Step>, NoStep> {
        let forced = asked(self.object, FORCE_AT, "lastHandledForceAt");
        Ok(match state {
            State::InSync => {
                let ignore = match (self.active_retry(), self.active()) {
                    (Some(_), _) => None,
                    (None, Some(r)) => Some(r.ignore_tests),
                    (None, None) => Some(self.unit.spec.test.as_ref().is_some_and(|t| t.ignore_failures)),
                };
                snapshot::truncate(self.object, ignore);
                if forced {
                    return Ok(Some(Step::Upgrade));
                }
                self.settle_remediated();
                let reason = conditions::get(self.object, "Released").and_then(|c| c["reason"].as_str());
                let word = match reason {
                    Some("InstallFailed") => Some(("install", "InstallSucceeded")),
                    Some("UpgradeFailed") => Some(("upgrade", "UpgradeSucceeded")),
                    _ => None,
                };
                if let (Some((word, reason)), Some(s)) = (word, snapshot::latest(self.object)) {
                    let message = released(word, s);
                    self.set("Released", "True", reason, &message);
                    self.summarize();
                }
                if self.drift_mode().is_some() {
                    self.set("Drifted", "False", "NoDriftDetected", "No drift detected against the cluster state");
                }
                None
            }
            State::Locked(record) => Some(Step::Unlock(record)),
            State::Absent => {
                if Remediation::of(self.unit, false).exhausted(self.object) && !forced {
                    return Err(NoStep::Exhausted);
                }
                Some(Step::Install)
            }
            State::Unmanaged => {
                if let Some(status) = self.object.make_map_at(["status"]) {
                    status.remove("history");
                }
                Some(Step::Upgrade)
            }
            State::OutOfSync => {
                if Remediation::of(self.unit, true).exhausted(self.object) && !forced {
                    return Err(NoStep::Exhausted);
                }
                Some(Step::Upgrade)
            }
            State::Drifted(drifts) => {
                let name = snapshot::latest(self.object).map(snapshot::release_name).unwrap_or_default();
                let message = format!(
                    "Cluster state of release {name} has drifted from the desired state:\n{}",
                    drift::summary(&drifts)
                );
                self.event(true, "DriftDetected", &message, &[]).await;
                self.set("Drifted", "True", "DriftDetected", &message);
                (self.drift_mode() == Some("enabled")).then_some(Step::Correct(drifts))
            }
            State::Untested => {
                self.settle_remediated();
                Some(Step::Test)
            }
            State::Failed => {
                if self.active_retry().is_some() {
                    snapshot::truncate(self.object, None);
                    return Ok(Some(Step::Upgrade));
                }
                let Some(r) = self.active().filter(|r| r.failures(self.object) > 0 && !forced) else {
                    return Ok(Some(Step::Upgrade));
                };
                if r.exhausted(self.object) && !r.remediate_last {
                    return Err(NoStep::Exhausted);
                }
                snapshot::truncate(self.object, Some(r.ignore_tests));
                if r.uninstalls {
                    return Ok(Some(Step::Uninstall));
                }
                let Some(target) = snapshot::previous(self.object, r.ignore_tests).cloned() else {
                    return Err(NoStep::NoTarget);
                };
                let stored = self.storage.get(target["version"].as_i64().unwrap_or(0)).await;
                match stored {
                    Ok(Some(record)) if snapshot::matches(&target, &record) => Some(Step::RollBack),
                    Ok(_) => Some(Step::Upgrade),
                    Err(_) => return Err(NoStep::Failed),
                }
            }
        })
    }

    async fn perform(&mut self, step: Step, timeout: Duration) -> Result<(), NotStored> {
        match step {
            Step::Install => self.release(false, timeout).await,
            Step::Upgrade => self.release(true, timeout).await,
            Step::Test => self.test(timeout).await,
            Step::RollBack => self.roll_back(timeout).await,
            Step::Uninstall => self.uninstall(timeout).await,
            Step::Correct(drifts) => {
                self.correct(&drifts).await;
                Ok(())
            }
            Step::Unlock(record) => self.unlock(*record).await,
        }
    }

    async fn release(&mut self, upgrade: bool, timeout: Duration) -> Result<(), NotStored> {
        let (word, title) = if upgrade { ("upgrade", "Upgrade") } else { ("install", "Install") };
        self.status("lastAttemptedReleaseAction", word);
        if !upgrade && let Some(status) = self.object.make_map_at(["status"]) {
            status.remove("history");
        }
        self.unset("TestSuccess");
        self.unset("Remediated");
        let started = Instant::now();
        let result = self.deploy(upgrade, timeout).await;
        self.status("lastAttemptedReleaseActionDuration", GoDuration(started.elapsed()).to_string());
        let error = match &result {
            Ok(None) => None,
            Ok(Some(message)) => Some(message.clone()),
            Err(e) => Some(e.message.clone()),
        };
        if let Some(e) = error {
            let message = format!(
                "Helm {word} failed for release {}/{} with chart {}@{}: {}",
                self.unit.release_namespace(),
                self.unit.release_name(),
                self.desired.chart.chart.name(),
                self.desired.version(),
                e.trim()
            );
            bump(self.object, "failures");
            self.set("Released", "False", &format!("{title}Failed"), &message);
            let d = self.desired;
            let notes = event_notes(d.version(), &d.config_digest, &d.chart.chart.metadata.app_version);
            self.event(true, &format!("{title}Failed"), &message, &notes).await;
            if result.is_ok() {
                bump(self.object, Remediation::of(self.unit, upgrade).counter());
            }
            self.summarize();
            return result.map(|_| ());
        }
        let latest = snapshot::latest(self.object).cloned().unwrap_or_default();
        let message = released(word, &latest);
        self.set("Released", "True", &format!("{title}Succeeded"), &message);
        if self.unit.spec.test.as_ref().is_some_and(|t| t.enable) && !snapshot::is_tested(&latest) {
            let (name, chart) = (snapshot::release_name(&latest), snapshot::chart_name(&latest));
            let message = format!("Helm release {name} with chart {chart} is awaiting tests");
            self.set("TestSuccess", "Unknown", "AwaitingTests", &message);
        }
        if self.retry(word).is_some() {
            clear_failures(self.object);
        }
        self.event(false, &format!("{title}Succeeded"), &message, &notes_of(&latest)).await;
        self.summarize();
        Ok(())
    }

    /// Installs or upgrades and stores the outcome; the error of a stored failure is in the result.
    async fn deploy(&mut self, upgrade: bool, timeout: Duration) -> Result<Option<String>, NotStored> {
        let records = self.storage.records().await?;
        let last = records.last();
        let current = records.iter().rev().find(|r| r.status == "deployed").or(last);
        let revision = last.map_or(1, |r| r.version + 1);
        let before = if upgrade { current } else { None };
        let deployed = self.actions().deploy(self.desired, before, upgrade, revision, timeout).await?;
        let mut record = deployed.record;
        let (verb, noun) = if upgrade { ("Upgrade", "Upgrade") } else { ("Install", "Release") };
        match &deployed.error {
            None => {
                "deployed".clone_into(&mut record.status);
                record.description = format!("{verb} complete");
            }
            Some(e) => {
                "failed".clone_into(&mut record.status);
                record.description = format!("{noun} {:?} failed: {e}", record.name);
            }
        }
        self.keep(&record, if upgrade { "upgrade" } else { "install" }).await?;
        self.status("inventory", Map::from_iter([("entries", Value::Array(deployed.inventory))]));
        Ok(deployed.error)
    }

    /// Stores a record, and what the status remembers of it.
    async fn keep(&mut self, record: &ReleaseRecord, action: &str) -> Result<(), ApiError> {
        let most = self.unit.spec.max_history.unwrap_or(5);
        self.storage.store(record, record.status == "deployed", most).await?;
        snapshot::put(self.object, snapshot::of(record, action));
        if record.status == "deployed" && self.object["status"]["history"].items().len() > 1 {
            let records = self.storage.records().await?;
            snapshot::supersede(self.object, &records);
        }
        Ok(())
    }

    async fn test(&mut self, timeout: Duration) -> Result<(), NotStored> {
        let Some(mut record) = self.storage.last().await? else {
            return Err(NotStored { message: "no release found".into(), missing: false });
        };
        let filters = self.object["spec"]["test"]["filters"].items().to_vec();
        let selected = |name: &str| {
            let named = |f: &&Value| f["name"].as_str() == Some(name);
            let excluded = |f: &&Value| f["exclude"].as_bool() == Some(true);
            !filters.iter().filter(excluded).any(|f| named(&f))
                && (filters.iter().all(|f| excluded(&f)) || filters.iter().any(|f| !excluded(&f) && named(&f)))
        };
        let tests: Vec<_> = hooks::of_record(&record)
            .into_iter()
            .filter(|h| h.events.iter().any(|e| e == "test" || e == "test-success") && selected(h.object.name()))
            .map(|mut h| {
                h.events = vec!["test".to_owned()];
                h
            })
            .collect();
        let mut runs = Runs::new();
        let result = hooks::run(&self.api, &tests, "test", &record.namespace, timeout, &mut runs).await;
        for h in &mut record.hooks {
            let run = h["name"].as_str().and_then(|n| runs.get(n)).cloned();
            if let (Some(run), Some(m)) = (run, h.as_map_mut()) {
                m.insert("last_run", run);
            }
        }
        self.storage.update(&record).await?;
        let hooks: Map = tests
            .iter()
            .map(|h| {
                let run = runs.get(h.object.name()).cloned().unwrap_or_default();
                let renamed: Map =
                    [("started_at", "lastStarted"), ("completed_at", "lastCompleted"), ("phase", "phase")]
                        .into_iter()
                        .filter_map(|(from, to)| Some((to, run.get(from)?.clone())))
                        .collect();
                (h.object.name().to_owned(), Value::Map(renamed))
            })
            .collect();
        let count = hooks.len();
        snapshot::change_latest(self.object, |m| {
            m.insert("testHooks", hooks);
        });
        let latest = snapshot::latest(self.object).cloned().unwrap_or_default();
        let (name, chart) = (snapshot::release_name(&latest), snapshot::chart_name(&latest));
        match result {
            Ok(()) => {
                let what = match count {
                    0 => "no test hooks".to_owned(),
                    1 => "1 test hook completed successfully".to_owned(),
                    n => format!("{n} test hooks completed successfully"),
                };
                let message = format!("Helm test succeeded for release {name} with chart {chart}: {what}");
                self.set("TestSuccess", "True", "TestSucceeded", &message);
                self.event(false, "TestSucceeded", &message, &notes_of(&latest)).await;
            }
            Err(e) => {
                let message = format!("Helm test failed for release {name} with chart {chart}: {}", e.trim());
                bump(self.object, "failures");
                self.set("TestSuccess", "False", "TestFailed", &message);
                self.event(true, "TestFailed", &message, &notes_of(&latest)).await;
                if snapshot::is_tested(&latest) {
                    if let Some(r) = self.active().filter(|r| !r.ignore_tests) {
                        bump(self.object, r.counter());
                    }
                } else {
                    self.summarize();
                    return Err(NotStored { message: e, missing: false });
                }
            }
        }
        self.summarize();
        Ok(())
    }

    async fn roll_back(&mut self, timeout: Duration) -> Result<(), NotStored> {
        let ignore = Remediation::of(self.unit, true).ignore_tests;
        let missing = || NotStored { message: "missing target release for rollback".into(), missing: false };
        let target = snapshot::previous(self.object, ignore).cloned().ok_or_else(missing)?;
        let (name, chart) = (snapshot::release_name(&target), snapshot::chart_name(&target));
        let last = self.storage.last().await?.ok_or_else(missing)?;
        let record = self.storage.get(target["version"].as_i64().unwrap_or(0)).await?.ok_or_else(missing)?;
        let (new, error) = self.actions().roll_back(&record, &last, timeout).await;
        self.keep(&new, "rollback").await?;
        let message = match &error {
            None => format!("Helm rollback to previous release {name} with chart {chart} succeeded"),
            Some(e) => format!("Helm rollback to previous release {name} with chart {chart} failed: {}", e.trim()),
        };
        let (status, reason) =
            if error.is_none() { ("True", "RollbackSucceeded") } else { ("False", "RollbackFailed") };
        if error.is_some() {
            bump(self.object, "failures");
        }
        self.set("Remediated", status, reason, &message);
        self.event(error.is_some(), reason, &message, &notes_of(&target)).await;
        self.summarize();
        Ok(())
    }

    async fn uninstall(&mut self, timeout: Duration) -> Result<(), NotStored> {
        let latest = snapshot::latest(self.object).cloned().unwrap_or_default();
        let (name, chart) = (snapshot::release_name(&latest), snapshot::chart_name(&latest));
        let result = match self.storage.last().await? {
            Some(record) => self.actions().uninstall(&self.storage, record, self.object, timeout).await.map(Some),
            None => Ok(None),
        };
        match result {
            Ok(record) => {
                if let Some(r) = record {
                    snapshot::put(self.object, snapshot::of(&r, "uninstall-remediation"));
                }
                let message = format!("Helm uninstall remediation for release {name} with chart {chart} succeeded");
                self.set("Remediated", "True", "UninstallSucceeded", &message);
                self.event(false, "UninstallSucceeded", &message, &notes_of(&latest)).await;
                Ok(())
            }
            Err(e) => {
                let message = format!("Helm uninstall remediation for release {name} with chart {chart} failed: {e}");
                bump(self.object, "failures");
                self.set("Remediated", "False", "UninstallFailed", &message);
                self.event(true, "UninstallFailed", &message, &notes_of(&latest)).await;
                Err(NotStored { message: e, missing: false })
            }
        }
    }

    async fn correct(&mut self, drifts: &[Drift]) {
        self.set("Ready", "Unknown", "Progressing", "correcting cluster drift");
        let (done, errors) = drift::correct(&self.api, drifts, "helm-controller").await;
        let latest = snapshot::latest(self.object).cloned().unwrap_or_default();
        let name = snapshot::release_name(&latest);
        if !errors.is_empty() {
            let partially = if done.is_empty() { "" } else { "partially " };
            let mut message =
                format!("Failed to {partially}correct cluster state of release {name}:\n{}", errors.join("\n"));
            if !done.is_empty() {
                message.push_str(&format!("\n\nSuccessful corrections:\n{}", done.join("\n")));
            }
            self.event(true, "DriftCorrectionFailed", &message, &notes_of(&latest)).await;
        } else if !done.is_empty() {
            let message = format!("Cluster state of release {name} has been corrected:\n{}", done.join("\n"));
            self.event(false, "DriftCorrected", &message, &notes_of(&latest)).await;
        }
    }

    async fn unlock(&mut self, mut record: ReleaseRecord) -> Result<(), NotStored> {
        record.description = format!("Release unlocked from stale '{}' state", record.status);
        "failed".clone_into(&mut record.status);
        self.storage.update(&record).await?;
        snapshot::put(self.object, snapshot::of(&record, ""));
        Ok(())
    }

    /// Makes `Ready` say what the condition that matters most says.
    fn summarize(&mut self) {
        let test = self.unit.spec.test.clone().unwrap_or_default();
        let mut order = vec!["Remediated"];
        if test.enable && !test.ignore_failures {
            order.push("TestSuccess");
        }
        order.push("Released");
        if !test.enable {
            self.unset("TestSuccess");
        }
        let newest = |kind: &&str| conditions::get(self.object, kind).cloned();
        let mut found: Vec<Value> = order.iter().filter_map(newest).collect();
        found.sort_by_key(|c| std::cmp::Reverse(c["observedGeneration"].as_i64()));
        if let Some(c) = found.first() {
            let text = |k: &str| c[k].as_str().unwrap_or_default().to_owned();
            let status = if text("type") == "Remediated" { "False".to_owned() } else { text("status") };
            if status == "True" {
                self.unset("Stalled");
            }
            self.set("Ready", &status, &text("reason"), &text("message"));
        }
        let (post, common) = (&self.desired.post_renderers_digest, &self.desired.common_metadata_digest);
        if let Some(status) = self.object.make_map_at(["status"]) {
            for (key, digest) in [("observedPostRenderersDigest", post), ("observedCommonMetadataDigest", common)] {
                if digest.is_empty() {
                    status.remove(key);
                } else {
                    status.insert(key, digest.as_str());
                }
            }
        }
    }
}

fn released(word: &str, s: &Value) -> String {
    format!("Helm {word} succeeded for release {} with chart {}", snapshot::release_name(s), snapshot::chart_name(s))
}
