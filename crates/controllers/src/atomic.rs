//! One reconcile of a release: looks at its state, does the next action, looks again, until nothing is left to do or it
//! must wait.
//!
//! Follows helm-controller's `internal/reconcile` (`AtomicRelease`, `DetermineReleaseState` and the action reconcilers):
//! which action follows from which state, retries and remediation, conditions, reasons, messages, events, counters.
//! What each step reports is in [`crate::steps`], what it does to the cluster in [`crate::actions`].

use std::time::Duration;

use druse_flux::api::HelmRelease;
use druse_flux::duration::GoDuration;
use druse_helm::ReleaseRecord;
use druse_object::Value;
use druse_runtime::{Api, ApiError, clock};

use crate::actions::Actions;
use crate::conditions;
use crate::context::{RECONCILE_AT, conditions, kinds};
use crate::drift::{self, Drift};
use crate::helmrelease::{Controller, Desired};
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
pub(crate) enum Step {
    Install,
    Upgrade,
    Test,
    RollBack,
    Uninstall,
    Correct(Vec<Drift>),
    Unlock(Box<ReleaseRecord>),
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
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
#[derive(Default)]
pub(crate) struct NotStored {
    pub message: String,
    /// Whether it only waits for kinds or namespaces.
    pub missing: bool,
    /// The inventory entries of what was applied all the same.
    pub applied: Vec<Value>,
}

impl From<ApiError> for NotStored {
    fn from(e: ApiError) -> Self {
        Self { message: e.to_string(), ..Self::default() }
    }
}

/// What a spec says about failures of an action.
pub(crate) struct Remediation {
    retries: i64,
    pub(crate) ignore_tests: bool,
    remediate_last: bool,
    uninstalls: bool,
    upgrade: bool,
}

impl Remediation {
    pub(crate) fn of(unit: &HelmRelease, upgrade: bool) -> Self {
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

    pub(crate) fn counter(&self) -> &'static str {
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

pub(crate) fn bump(object: &mut Value, counter: &str) {
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

pub(crate) fn notes_of(snapshot: &Value) -> Vec<(&'static str, String)> {
    let text = |k: &str| snapshot[k].as_str().unwrap_or_default();
    event_notes(text("chartVersion"), text("configDigest"), text("appVersion"))
}

impl Run<'_> {
    pub(crate) fn set(&mut self, kind: &str, status: &str, reason: &str, message: &str) {
        let now = clock::now();
        let mut c = conditions(self.object, &now);
        match kind {
            "Reconciling" => c.remove("Stalled"),
            "Stalled" => c.remove("Reconciling"),
            _ => {}
        }
        c.set(kind, status, reason, message);
    }

    pub(crate) fn unset(&mut self, kind: &str) {
        conditions(self.object, "").remove(kind);
    }

    pub(crate) fn status(&mut self, key: &'static str, value: impl Into<Value>) {
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

    pub(crate) async fn event(&self, warning: bool, reason: &str, message: &str, notes: &[(&'static str, String)]) {
        let notes: Vec<(&str, &str)> = notes.iter().map(|(k, v)| (*k, v.as_str())).collect();
        self.c.events.event(self.object, warning, reason, message, &notes).await;
    }

    pub(crate) fn actions(&self) -> Actions<'_> {
        Actions { c: self.c, api: &self.api, unit: self.unit }
    }

    fn last_action(&self) -> &str {
        self.object.str_at(["status", "lastAttemptedReleaseAction"]).unwrap_or_default()
    }

    /// How failures of the last action are dealt with.
    pub(crate) fn active(&self) -> Option<Remediation> {
        match self.last_action() {
            "install" => Some(Remediation::of(self.unit, false)),
            "upgrade" => Some(Remediation::of(self.unit, true)),
            _ => None,
        }
    }

    /// How soon the last action is tried again, where the spec has it tried again instead of remediated.
    pub(crate) fn retry(&self, action: &str) -> Option<Duration> {
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
}

pub(crate) fn released(word: &str, s: &Value) -> String {
    format!("Helm {word} succeeded for release {} with chart {}", snapshot::release_name(s), snapshot::chart_name(s))
}
