//! What is to be done about a Job, decided from the Job, its pods and the time.
//!
//! The order is upstream's (`syncJob`): what failed before what succeeded; pods are counted before their finalizers go,
//! and a Job ends when all are counted and none is on its way out.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use druse_object::{Map, Value};
use druse_runtime::clock;
use jiff::{SignedDuration, Timestamp};

use super::backoff::{Backoff, finished_at};
use super::policy::{self, Failure};
use super::uncounted::{Uncounted, number};
use super::{FINALIZER, indexes};
use crate::workloads::pods::{self, is_ready};
use crate::workloads::rank;
use crate::workloads::report::{Note, condition, is_true, new_condition, time_at};

/// The annotations that hand the failures of an index from pod to pod.
const FAILURES: &str = "batch.kubernetes.io/job-index-failure-count";
const IGNORED_FAILURES: &str = "batch.kubernetes.io/job-index-ignored-failure-count";

/// How many pods are made, deleted or counted at once.
const BATCH: usize = 500;

/// What is to be done, in this order.
#[derive(Debug, Default)]
pub struct Plan {
    /// Pods to delete.
    pub delete: Vec<Arc<Value>>,
    /// Whether pods that are deleted are let go uncounted.
    pub uncounted: bool,
    /// Pods to make.
    pub create: Vec<NewPod>,
    /// Whether the status has to be written before finalizers go.
    pub flush: bool,
    /// The status with pods that ended entered as uncounted.
    pub counting: Value,
    /// Pods whose ends are counted: their finalizer goes.
    pub unfinalize: Vec<Arc<Value>>,
    /// The status when that is done.
    pub counted: Value,
    /// Events about what was found.
    pub notes: Vec<Note>,
    /// Events about the end, told when `counted` is written.
    pub end: Vec<Note>,
    /// The pause after failures, to remember when the status is written.
    pub backoff: Backoff,
    /// When to look again.
    pub again: Option<Duration>,
}

/// A pod to make.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewPod {
    /// Its completion index.
    pub index: Option<u32>,
    /// Annotations beside it.
    pub annotations: Vec<(&'static str, String)>,
}

/// An end of the Job that has been found.
#[derive(Clone, Debug)]
struct End {
    kind: &'static str,
    reason: String,
    message: String,
}

impl End {
    fn new(kind: &'static str, reason: &str, message: &str) -> Self {
        Self { kind, reason: reason.to_owned(), message: message.to_owned() }
    }

    /// With the reason and message of a condition that was set before.
    fn again(kind: &'static str, condition: &Value) -> Self {
        let text = |field: &str| condition[field].as_str().unwrap_or_default();
        Self::new(kind, text("reason"), text("message"))
    }

    fn is_success(&self) -> bool {
        self.kind == "SuccessCriteriaMet"
    }
}

/// The Job and its pods, sorted.
struct Job<'a> {
    job: &'a Value,
    pods: &'a [Arc<Value>],
    now: Timestamp,
    completions: Option<i64>,
    active: Vec<Arc<Value>>,
    indexes: Option<Indexes>,
}

/// The state of an indexed Job.
#[derive(Default)]
struct Indexes {
    completions: u32,
    before: BTreeSet<u32>,
    succeeded: BTreeSet<u32>,
    /// With a limit of failures for each index.
    failed: Option<BTreeSet<u32>>,
    /// Failed pods that stay until their index has a new one, which inherits their count.
    waiting: BTreeMap<u32, Arc<Value>>,
}

/// Decides for a Job that has not ended.
pub fn decide(job: &Value, pods: &[Arc<Value>], backoff: Backoff, now: Timestamp) -> Plan {
    let mut sorted = pods.to_vec();
    if is_indexed(job) {
        sorted.sort_by_key(|p| indexes::of_pod(p));
    }
    let mut this = Job {
        job,
        pods: &sorted,
        now,
        completions: job["spec"]["completions"].as_i64(),
        active: sorted.iter().filter(|p| pods::is_active(p)).cloned().collect(),
        indexes: None,
    };
    this.decide(backoff)
}

fn is_indexed(job: &Value) -> bool {
    job.str_at(["spec", "completionMode"]) == Some("Indexed")
}

fn suspended(job: &Value) -> bool {
    job["spec"]["suspend"].as_bool() == Some(true)
}

fn has_finalizer(pod: &Value) -> bool {
    pod["metadata"]["finalizers"].items().iter().any(|f| f.as_str() == Some(FINALIZER))
}

fn uid(pod: &Value) -> &str {
    pod.str_at(["metadata", "uid"]).unwrap_or_default()
}

fn phase(pod: &Value) -> Option<&str> {
    pod.str_at(["status", "phase"])
}

fn count(n: usize) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

impl Job<'_> {
    fn decide(&mut self, backoff: Backoff) -> Plan {
        let mut plan = Plan::default();
        let mut status = self.job["status"].as_map().cloned().unwrap_or_default();
        let before = status.clone();
        let mut uncounted = Uncounted::of(&status);
        let succeeded_now = self.valid(&uncounted.succeeded, |p| phase(p) == Some("Succeeded"));
        let failed_now = self.valid(&uncounted.failed, |p| policy::failed(self.job, p));
        let mut succeeded = number(&status, "succeeded") + count(succeeded_now.len() + uncounted.succeeded.len());
        let counting = failed_now.iter().filter(|p| policy::failure(self.job, p) != Failure::Ignored).count();
        let failed = number(&status, "failed") + count(counting + uncounted.failed.len());
        if !suspended(self.job) && status.get("startTime").is_none() {
            status.insert("startTime", clock::text(self.now));
        }
        plan.backoff = backoff.after(&succeeded_now, &failed_now);

        let mut end = self.found_before().or_else(|| self.failed_by_policy());
        if end.is_none() {
            end = self.past_limits(failed, &status, &mut plan);
        }
        if is_indexed(self.job) {
            let (indexes, found) = self.look_at_indexes(&end);
            succeeded = count(indexes.succeeded.len());
            self.indexes = Some(indexes);
            end = end.or(found);
        }

        let mut ready = count(self.active.iter().filter(|p| is_ready(p)).count());
        let mut terminating = count(self.pods.iter().filter(|p| pods::is_terminating(p)).count());
        let mut active = count(self.active.len());
        let mut flush = false;
        if end.is_some() {
            plan.delete.clone_from(&self.active);
        } else {
            if self.job["metadata"]["deletionTimestamp"].is_null() {
                active = self.manage(succeeded, terminating, &mut plan);
                end = self.completed(succeeded, active - count(plan.delete.len()));
                if end.is_none() {
                    flush |= self.suspend(&mut status, &mut plan);
                }
            } else {
                end = self.completed(succeeded, active);
            }
        }
        let deleted = count(plan.delete.len());
        active -= deleted;
        terminating += deleted;
        ready -= count(plan.delete.iter().filter(|p| is_ready(p)).count());
        for (field, n) in [("active", active), ("ready", ready), ("terminating", terminating)] {
            let was = before.get(field).and_then(Value::as_i64);
            flush |= was != Some(n) && !(field == "active" && was.is_none() && n == 0);
            status.insert(field, n);
        }
        if active == 0 {
            status.remove("active");
        }
        self.track(&mut plan, status, &mut uncounted, end, flush, terminating);
        plan
    }

    /// The pods that have their finalizer, are not in `counted` and, with indexes, have one that is asked for.
    fn valid(&self, counted: &[String], which: impl Fn(&Value) -> bool) -> Vec<Arc<Value>> {
        let fits = |p: &&Arc<Value>| {
            has_finalizer(p) && !counted.iter().any(|c| c == uid(p)) && self.index_fits(p) && which(p)
        };
        self.pods.iter().filter(fits).cloned().collect()
    }

    fn index_fits(&self, pod: &Value) -> bool {
        !is_indexed(self.job)
            || indexes::of_pod(pod).is_some_and(|i| self.completions.is_some_and(|c| i64::from(i) < c))
    }

    /// The end that an earlier status tells of.
    fn found_before(&self) -> Option<End> {
        let conditions = self.job["status"]["conditions"].items();
        let found = |kind| condition(conditions, kind).filter(|_| is_true(conditions, kind));
        let success = found("SuccessCriteriaMet").map(|c| End::again("SuccessCriteriaMet", c));
        success.or_else(|| found("FailureTarget").map(|c| End::again("Failed", c)))
    }

    fn failed_by_policy(&self) -> Option<End> {
        let failed = self.pods.iter().filter(|p| policy::failed(self.job, p));
        failed.into_iter().find_map(|p| match policy::failure(self.job, p) {
            Failure::FailsJob(why) => Some(End::new("FailureTarget", "PodFailurePolicy", &why)),
            _ => None,
        })
    }

    fn past_limits(&self, failed: i64, status: &Map, plan: &mut Plan) -> Option<End> {
        let limit = self.job["spec"]["backoffLimit"].as_i64().unwrap_or(6);
        if failed > limit || self.restarted_beyond(limit) {
            let message = "Job has reached the specified backoff limit";
            return Some(End::new("FailureTarget", "BackoffLimitExceeded", message));
        }
        let deadline = self.job["spec"]["activeDeadlineSeconds"].as_i64().filter(|_| !suspended(self.job))?;
        let started = time_at(status.get("startTime")?)?;
        let left = SignedDuration::from_secs(deadline) - self.now.duration_since(started);
        if left.is_positive() {
            plan.again = Duration::try_from(left).ok();
            return None;
        }
        Some(End::new("FailureTarget", "DeadlineExceeded", "Job was active longer than specified deadline"))
    }

    /// Whether containers that are restarted in place were so too often.
    fn restarted_beyond(&self, limit: i64) -> bool {
        if self.job["spec"]["template"]["spec"]["restartPolicy"].as_str() != Some("OnFailure") {
            return false;
        }
        let running = self.pods.iter().filter(|p| matches!(phase(p), Some("Running" | "Pending")));
        let restarts: i64 = running
            .flat_map(|p| {
                let status = &p["status"];
                status["initContainerStatuses"].items().iter().chain(status["containerStatuses"].items())
            })
            .filter_map(|c| c["restartCount"].as_i64())
            .sum();
        if limit == 0 { restarts > 0 } else { restarts >= limit }
    }

    /// The state of the indexes, and the end they make.
    fn look_at_indexes(&self, end: &Option<End>) -> (Indexes, Option<End>) {
        let spec = &self.job["spec"];
        let completions = self.completions.and_then(|c| u32::try_from(c).ok()).unwrap_or(0);
        let before = indexes::parse(self.job.str_at(["status", "completedIndexes"]).unwrap_or_default(), completions);
        let mut out = Indexes { completions, succeeded: before.clone(), before, ..Indexes::default() };
        let fresh = self.valid(&[], |p| phase(p) == Some("Succeeded"));
        out.succeeded.extend(fresh.iter().filter_map(|p| indexes::of_pod(p)));
        let mut found = None;
        if let Some(limit) = spec["backoffLimitPerIndex"].as_i64() {
            let told = self.job.str_at(["status", "failedIndexes"]).unwrap_or_default();
            let mut failed = indexes::parse(told, completions);
            let ended = self.valid(&[], |p| policy::failed(self.job, p));
            let over = ended.iter().filter(|p| match policy::failure(self.job, p) {
                Failure::FailsIndex => true,
                Failure::Ignored => false,
                Failure::Counts | Failure::FailsJob(_) => annotated(p, FAILURES) >= limit,
            });
            failed.extend(over.filter_map(|p| indexes::of_pod(p)));
            let most = spec["maxFailedIndexes"].as_i64();
            if end.is_none() && most.is_some_and(|m| count(failed.len()) > m) {
                let message = "Job has exceeded the specified maximal number of failed indexes";
                found = Some(End::new("FailureTarget", "MaxFailedIndexesExceeded", message));
            } else if end.is_none()
                && !failed.is_empty()
                && failed.len() + out.succeeded.len() >= usize::try_from(completions).unwrap_or(usize::MAX)
            {
                found = Some(End::new("FailureTarget", "FailedIndexes", "Job has failed indexes"));
            }
            out.waiting = self.waiting(&ended, &out.succeeded, &failed);
            out.failed = Some(failed);
        }
        if end.is_none() && found.is_none() {
            found = policy::success(self.job, completions, &out.succeeded)
                .map(|message| End::new("SuccessCriteriaMet", "SuccessPolicy", &message));
        }
        (out, found)
    }

    /// The last failed pod of each index that goes on without an active one.
    fn waiting(
        &self,
        ended: &[Arc<Value>],
        succeeded: &BTreeSet<u32>,
        failed: &BTreeSet<u32>,
    ) -> BTreeMap<u32, Arc<Value>> {
        let active: BTreeSet<u32> = self.active.iter().filter_map(|p| indexes::of_pod(p)).collect();
        let mut out: BTreeMap<u32, Arc<Value>> = BTreeMap::new();
        for pod in ended {
            let Some(i) = indexes::of_pod(pod) else { continue };
            if succeeded.contains(&i) || failed.contains(&i) || active.contains(&i) {
                continue;
            }
            let order = |p: &Value| (all_failures(p), finished_at(p));
            if out.get(&i).is_none_or(|last| order(last) <= order(pod)) {
                out.insert(i, pod.clone());
            }
        }
        out
    }

    /// Makes or deletes pods; returns how many are then active, before what is deleted is taken off.
    fn manage(&self, succeeded: i64, terminating: i64, plan: &mut Plan) -> i64 {
        let active = count(self.active.len());
        if suspended(self.job) {
            plan.delete.clone_from(&self.active);
            plan.uncounted = true;
            return active;
        }
        let parallelism = self.job["spec"]["parallelism"].as_i64().unwrap_or(1);
        let want = match self.completions {
            None if succeeded > 0 => active,
            None => parallelism,
            Some(completions) => (completions - succeeded).min(parallelism).max(0),
        };
        plan.delete = self.too_many(usize::try_from(active - want).unwrap_or(0));
        plan.delete.truncate(BATCH);
        if !plan.delete.is_empty() {
            plan.uncounted = true;
            return active;
        }
        let leaving = if policy::replaces_ended_only(self.job) { terminating } else { 0 };
        let missing = usize::try_from(want - leaving - active).unwrap_or(0).min(BATCH);
        if missing == 0 {
            return active;
        }
        let each = !self.job["spec"]["backoffLimitPerIndex"].is_null();
        let mut pause = if each { Duration::ZERO } else { plan.backoff.remaining(self.now) };
        if pause.is_zero() {
            plan.create = match &self.indexes {
                None => vec![NewPod::default(); missing],
                Some(indexes) => {
                    let pending = self.pending(indexes, missing);
                    let left = |i: &u32| indexes.waiting.get(i).map_or(Duration::ZERO, |p| self.remaining(p));
                    let now: Vec<u32> = pending.iter().copied().filter(|i| left(i).is_zero()).collect();
                    if now.is_empty() {
                        pause = pending.iter().map(left).min().unwrap_or_default();
                    }
                    now.into_iter().map(|i| self.of_index(i, indexes)).collect()
                }
            };
        }
        if !pause.is_zero() {
            plan.again = Some(plan.again.map_or(pause, |other| other.min(pause)));
            // Upstream reports none active while it waits.
            return 0;
        }
        active + count(plan.create.len())
    }

    fn remaining(&self, pod: &Value) -> Duration {
        let failures = u32::try_from(all_failures(pod) + 1).unwrap_or(u32::MAX);
        Backoff::of(failures, finished_at(pod)).remaining(self.now)
    }

    fn of_index(&self, index: u32, indexes: &Indexes) -> NewPod {
        let mut annotations = Vec::new();
        if indexes.failed.is_some() {
            let (mut failures, mut ignored) = (0, 0);
            if let Some(before) = indexes.waiting.get(&index) {
                (failures, ignored) = (annotated(before, FAILURES), annotated(before, IGNORED_FAILURES));
                match policy::failure(self.job, before) {
                    Failure::Ignored => ignored += 1,
                    _ => failures += 1,
                }
            }
            annotations.push((FAILURES, failures.to_string()));
            if ignored > 0 {
                annotations.push((IGNORED_FAILURES, ignored.to_string()));
            }
        }
        NewPod { index: Some(index), annotations }
    }

    /// The first indexes that have neither ended nor a pod.
    fn pending(&self, indexes: &Indexes, most: usize) -> Vec<u32> {
        let mut taken: BTreeSet<u32> = self.active.iter().filter_map(|p| indexes::of_pod(p)).collect();
        if policy::replaces_ended_only(self.job) {
            taken.extend(self.pods.iter().filter(|p| pods::is_terminating(p)).filter_map(|p| indexes::of_pod(p)));
        }
        let failed = indexes.failed.as_ref();
        (0..indexes.completions)
            .filter(|i| !taken.contains(i) && !indexes.succeeded.contains(i) && failed.is_none_or(|f| !f.contains(i)))
            .take(most)
            .collect()
    }

    /// At least `least` active pods to delete, the least advanced first; with indexes also those without one, with one
    /// beyond the completions, and all but one of each index.
    fn too_many(&self, least: usize) -> Vec<Arc<Value>> {
        let mut left = self.active.clone();
        left.sort_by(|a, b| rank::first_to_go(a, b));
        let mut out = Vec::new();
        if is_indexed(self.job) {
            // The most advanced pod of each index stays.
            let mut stays: BTreeMap<u32, usize> = BTreeMap::new();
            for (n, pod) in left.iter().enumerate().filter(|(_, p)| self.index_fits(p)) {
                if let Some(i) = indexes::of_pod(pod) {
                    stays.insert(i, n);
                }
            }
            let keep: BTreeSet<usize> = stays.into_values().collect();
            let (kept, gone): (Vec<_>, Vec<_>) = left.into_iter().enumerate().partition(|(n, _)| keep.contains(n));
            out = gone.into_iter().map(|(_, p)| p).collect();
            left = kept.into_iter().map(|(_, p)| p).collect();
        }
        let more = least.saturating_sub(out.len());
        out.extend(left.into_iter().take(more));
        out
    }

    fn completed(&self, succeeded: i64, active: i64) -> Option<End> {
        let enough = match self.completions {
            None => succeeded > 0,
            Some(completions) => succeeded >= completions,
        };
        let message = "Reached expected number of succeeded pods";
        (enough && active == 0).then(|| End::new("SuccessCriteriaMet", "CompletionsReached", message))
    }

    /// Says whether the Job is suspended; true when that is new.
    fn suspend(&self, status: &mut Map, plan: &mut Plan) -> bool {
        let suspended = suspended(self.job);
        let (reason, message, event) = if suspended {
            ("JobSuspended", "Job suspended", "Suspended")
        } else {
            ("JobResumed", "Job resumed", "Resumed")
        };
        if !self.set_condition(status, "Suspended", suspended, reason, message) {
            return false;
        }
        plan.notes.push(Note::normal(event, message));
        status.remove("startTime");
        if !suspended {
            status.insert("startTime", clock::text(self.now));
        }
        true
    }

    /// Sets a condition and returns whether that changed anything; none is added only to be false.
    fn set_condition(&self, status: &mut Map, kind: &str, holds: bool, reason: &str, message: &str) -> bool {
        let mut conditions = status.get("conditions").map(|c| c.items().to_vec()).unwrap_or_default();
        let times = ["lastProbeTime", "lastTransitionTime"];
        let new = new_condition(kind, holds, reason, message, &times, self.now);
        match conditions.iter_mut().find(|c| c["type"].as_str() == Some(kind)) {
            Some(old) if ["status", "reason", "message"].iter().all(|f| old[*f] == new[*f]) => return false,
            Some(old) => *old = new,
            None if holds => conditions.push(new),
            None => return false,
        }
        status.insert("conditions", conditions);
        true
    }

    /// Enters pods that ended as uncounted, counts those whose finalizer goes, and ends the Job when all are counted.
    fn track(
        &self,
        plan: &mut Plan,
        mut status: Map,
        uncounted: &mut Uncounted,
        end: Option<End>,
        mut flush: bool,
        terminating: i64,
    ) {
        let tracked: BTreeSet<String> =
            self.pods.iter().filter(|p| has_finalizer(p)).map(|p| uid(p).to_owned()).collect();
        flush |= uncounted.count(&mut status, |u| tracked.contains(u));
        let mut new_indexes = BTreeSet::new();
        let mut more = false;
        for pod in self.pods.iter().filter(|p| has_finalizer(p)) {
            let failed = policy::failed(self.job, pod);
            if !self.may_count(pod, failed, end.is_some()) {
                continue;
            }
            plan.unfinalize.push(pod.clone());
            let id = uid(pod).to_owned();
            if phase(pod) == Some("Succeeded") && !uncounted.failed.contains(&id) {
                if let Some(all) = &self.indexes {
                    let fresh = indexes::of_pod(pod).filter(|i| self.index_fits(pod) && !all.before.contains(i));
                    flush |= fresh.is_some();
                    new_indexes.extend(fresh);
                } else if !uncounted.succeeded.contains(&id) {
                    flush = true;
                    uncounted.succeeded.push(id);
                }
            } else if (failed || end.as_ref().is_some_and(|e| !e.is_success()))
                && !uncounted.failed.contains(&id)
                && self.index_fits(pod)
                && policy::failure(self.job, pod) != Failure::Ignored
            {
                // When the Job has failed, so has all that ran.
                flush = true;
                uncounted.failed.push(id);
            }
            if new_indexes.len() + uncounted.succeeded.len() + uncounted.failed.len() >= BATCH {
                more = true;
                break;
            }
        }
        if let Some(all) = &self.indexes {
            flush |= self.tell_indexes(&mut status, all, &new_indexes);
        }
        let end = end.map(|e| {
            let (interim, last) = match e.kind {
                "FailureTarget" => (Some("FailureTarget"), "Failed"),
                "SuccessCriteriaMet" => (Some("SuccessCriteriaMet"), "Complete"),
                other => (None, other),
            };
            if let Some(kind) = interim {
                flush |= self.set_condition(&mut status, kind, true, &e.reason, &e.message);
            }
            End { kind: last, ..e }
        });
        uncounted.write(&mut status);
        plan.flush = flush;
        plan.counting = Value::Map(status.clone());

        let gone: BTreeSet<&str> = plan.unfinalize.iter().map(|p| uid(p)).collect();
        uncounted.count(&mut status, |u| tracked.contains(u) && !gone.contains(u));
        uncounted.write(&mut status);
        if let Some(end) = end.filter(|_| !more && uncounted.is_empty() && terminating == 0) {
            self.set_condition(&mut status, end.kind, true, &end.reason, &end.message);
            if end.kind == "Complete" {
                status.insert("completionTime", clock::text(self.now));
                if self.completions.is_some_and(|c| number(&status, "succeeded") > c) {
                    let message = "Too many succeeded pods running after completion count reached";
                    plan.end.push(Note::warning("TooManySucceededPods", message));
                }
                plan.end.push(Note::normal("Completed", "Job completed"));
            } else {
                plan.end.push(Note::warning(&end.reason, end.message));
            }
        }
        plan.counted = Value::Map(status);
    }

    /// Whether a pod's end may be counted and its finalizer go.
    fn may_count(&self, pod: &Value, failed: bool, ends: bool) -> bool {
        if ends || pods::going(self.job) || phase(pod) == Some("Succeeded") {
            return true;
        }
        let waits = indexes::of_pod(pod)
            .and_then(|i| self.indexes.as_ref()?.waiting.get(&i))
            .is_some_and(|waiting| uid(waiting) == uid(pod));
        failed && !waits
    }

    fn tell_indexes(&self, status: &mut Map, all: &Indexes, fresh: &BTreeSet<u32>) -> bool {
        let succeeded: BTreeSet<u32> = all.succeeded.union(fresh).copied().collect();
        let before = (status.get("completedIndexes").cloned(), status.get("failedIndexes").cloned());
        status.remove("succeeded");
        status.remove("completedIndexes");
        if !succeeded.is_empty() {
            status.insert("succeeded", count(succeeded.len()));
            status.insert("completedIndexes", indexes::text(&succeeded));
        }
        status.remove("failedIndexes");
        if let Some(failed) = &all.failed {
            status.insert("failedIndexes", indexes::text(failed));
        }
        before != (status.get("completedIndexes").cloned(), status.get("failedIndexes").cloned())
    }
}

/// The number in an annotation; 0 when it is none.
fn annotated(pod: &Value, name: &str) -> i64 {
    pod["metadata"]["annotations"][name].as_str().and_then(|t| t.parse::<u32>().ok()).map_or(0, i64::from)
}

fn all_failures(pod: &Value) -> i64 {
    annotated(pod, FAILURES) + annotated(pod, IGNORED_FAILURES)
}
