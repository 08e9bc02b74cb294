//! The steps of a release's reconcile: each is done and stored, and said in conditions, counters and an event.
//!
//! Follows the action reconcilers of helm-controller's `internal/reconcile` (install, upgrade, test, rollback and
//! uninstall remediation, drift correction, unlock) and its `summarize`.

use std::time::{Duration, Instant};

use druse_flux::duration::GoDuration;
use druse_helm::ReleaseRecord;
use druse_object::{Map, Value};
use druse_runtime::ApiError;

use crate::atomic::{NotStored, Remediation, Run, Step, bump, clear_failures, event_notes, notes_of, released};
use crate::conditions;
use crate::drift::{self, Drift};
use crate::hooks::{self, Runs};
use crate::snapshot;

impl Run<'_> {
    pub(crate) async fn perform(&mut self, step: Step, timeout: Duration) -> Result<(), NotStored> {
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
        let deployed = match self.actions().deploy(self.desired, before, upgrade, revision, timeout).await {
            Ok(deployed) => deployed,
            Err(e) => {
                if !e.applied.is_empty() && !upgrade {
                    self.status("inventory", Map::from_iter([("entries", Value::Array(e.applied.clone()))]));
                }
                return Err(e);
            }
        };
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
            return Err(NotStored { message: "no release found".into(), ..NotStored::default() });
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
                    return Err(NotStored { message: e, ..NotStored::default() });
                }
            }
        }
        self.summarize();
        Ok(())
    }

    async fn roll_back(&mut self, timeout: Duration) -> Result<(), NotStored> {
        let ignore = Remediation::of(self.unit, true).ignore_tests;
        let missing = || NotStored { message: "missing target release for rollback".into(), ..NotStored::default() };
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
                Err(NotStored { message: e, ..NotStored::default() })
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
    pub(crate) fn summarize(&mut self) {
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
