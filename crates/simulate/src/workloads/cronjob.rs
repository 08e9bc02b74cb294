//! CronJob: makes Jobs when their time has come, follows them, and keeps as many finished ones as asked for.
//!
//! As upstream's `pkg/controller/cronjob`: what to do is decided by [`decide`] from the CronJob, its Jobs and the time;
//! a Job is named after the minute it was to start in, so that it is made once.

use std::sync::Arc;
use std::time::Duration;

use druse_object::{Schedule, Value, go, schedule};
use druse_runtime::{Api, ApiError, Cache, Caches, Clock, DeleteOptions, Key, Next, Reconciler, Recorder, clock};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use super::job::finished;
use super::pods;
use super::report::{Note, time_at, write_status};
use super::written::Written;

const SCHEDULED: &str = "batch.kubernetes.io/cronjob-scheduled-timestamp";

/// A CronJob that missed more starts than this is told of.
const MANY: i64 = 100;

/// Timers come back this much late: clocks of machines differ.
const PADDING: SignedDuration = SignedDuration::from_millis(100);

pub struct Controller {
    api: Api,
    cron_jobs: Arc<Cache>,
    jobs: Arc<Cache>,
    written: Written,
    recorder: Recorder,
    clock: Clock,
}

impl Controller {
    pub fn new(caches: &Caches, clock: &Clock, cron_jobs: Arc<Cache>, jobs: Arc<Cache>) -> Self {
        let recorder = Recorder::new(caches.api().clone(), "cronjob-controller");
        let api = caches.api().clone();
        Self { api, cron_jobs, jobs, written: Written::default(), recorder, clock: clock.clone() }
    }

    async fn sync(&self, key: &Key, cron: &Value) -> Result<Next, ApiError> {
        let decision = decide(cron, &pods::owned(&self.jobs, cron), self.clock.now());
        for note in &decision.notes {
            note.tell(&self.recorder, cron).await;
        }
        for job in &decision.delete {
            self.delete(key, cron, job).await?;
        }
        let mut status = decision.status;
        let made = match &decision.start {
            Some(start) => self.create(key, cron, start, &mut status).await,
            None => Ok(()),
        };
        if let Some(answer) = write_status(&self.api, self.cron_jobs.resource(), cron, status).await? {
            self.written.changed(key, &self.cron_jobs, &answer);
        }
        made?;
        Ok(decision.again.map_or(Next::Wait, Next::After))
    }

    async fn delete(&self, key: &Key, cron: &Value, job: &Value) -> Result<(), ApiError> {
        let name = Key::of(job).name;
        let options = DeleteOptions { propagation: Some("Background"), ..DeleteOptions::default() };
        if let Err(e) = self.api.delete(self.jobs.resource(), &key.namespace, &name, &options).await {
            Note::warning("FailedDelete", format!("Deleted job: {e}")).tell(&self.recorder, cron).await;
            return Err(e);
        }
        self.written.deleted(key, &self.jobs, job);
        Note::normal("SuccessfulDelete", format!("Deleted job {name}")).tell(&self.recorder, cron).await;
        Ok(())
    }

    /// Makes the Job and enters it in the status.
    async fn create(&self, key: &Key, cron: &Value, start: &Start, status: &mut Value) -> Result<(), ApiError> {
        let job = match self.api.create(self.jobs.resource(), &key.namespace, &start.job).await {
            Ok(job) => {
                let name = Key::of(&job).name;
                Note::normal("SuccessfulCreate", format!("Created job {name}")).tell(&self.recorder, cron).await;
                job
            }
            // Made before, without the status being written; or somebody else's, who looks after it.
            Err(e) if e.reason() == "AlreadyExists" => {
                let name = Key::of(&start.job).name;
                let there = self.api.get(self.jobs.resource(), &key.namespace, &name).await?;
                let own = there.filter(|j| pods::controller_of(j).is_some_and(|o| o["uid"] == cron["metadata"]["uid"]));
                let Some(job) = own else { return Ok(()) };
                job
            }
            Err(e) => {
                if !pods::namespace_goes(&e) {
                    Note::warning("FailedCreate", format!("Error creating job: {e}")).tell(&self.recorder, cron).await;
                }
                return Err(e);
            }
        };
        self.written.made(key, &self.jobs, &job);
        let mut active = status["active"].items().to_vec();
        active.push(reference(&job));
        if let Some(m) = status.make_map() {
            m.insert("active", active);
            m.insert("lastScheduleTime", clock::text(start.at));
        }
        Ok(())
    }
}

impl Reconciler for Controller {
    async fn reconcile(&self, key: Key) -> Next {
        let cron = match self.written.owner(&self.cron_jobs, &key, &self.api).await {
            Ok(cron) => cron,
            Err(next) => return next,
        };
        self.sync(&key, &cron).await.unwrap_or_else(|e| pods::outcome(Err(e)))
    }
}

/// What is to be done about a CronJob.
#[derive(Debug, Default)]
struct Decision {
    status: Value,
    notes: Vec<Note>,
    /// Finished Jobs beyond what is kept, and running ones that a new one replaces.
    delete: Vec<Arc<Value>>,
    start: Option<Start>,
    /// When to look again.
    again: Option<Duration>,
}

/// A Job to make.
#[derive(Debug)]
struct Start {
    job: Value,
    at: Timestamp,
}

/// Decides from a CronJob, all Jobs it controls, and the time.
fn decide(cron: &Value, jobs: &[Arc<Value>], now: Timestamp) -> Decision {
    let mut d = Decision { status: cron["status"].clone(), ..Decision::default() };
    d.delete = beyond_history(cron, jobs);
    let uid = |v: &Value| v.str_at(["metadata", "uid"]).unwrap_or_default().to_owned();
    let mut active: Vec<Value> = cron["status"]["active"].items().to_vec();
    active.retain(|a| !d.delete.iter().any(|j| a["uid"].as_str() == Some(&uid(j))));
    let mut last_success = cron.str_at(["status", "lastSuccessfulTime"]).map(str::to_owned);
    for job in jobs {
        let name = job.str_at(["metadata", "name"]).unwrap_or_default();
        let found = active.iter().position(|a| a["uid"].as_str() == Some(&uid(job)));
        match (finished(job), found) {
            (None, None) => d.notes.push(Note::warning(
                "UnexpectedJob",
                format!("Saw a job that the controller did not create or forgot: {name}"),
            )),
            (None, Some(_)) => {}
            (Some(how), found) => {
                if let Some(i) = found {
                    active.remove(i);
                    let message = format!("Saw completed job: {name}, condition: {how}");
                    d.notes.push(Note::normal("SawCompletedJob", message));
                }
                let completed = job.str_at(["status", "completionTime"]).filter(|_| how == "Complete");
                // Times of one form compare as text.
                if let Some(t) = completed.filter(|t| last_success.as_deref().is_none_or(|last| *t > last)) {
                    last_success = Some(t.to_owned());
                }
            }
        }
    }
    active.retain(|a| {
        let there = jobs.iter().any(|j| a["uid"].as_str() == Some(&uid(j)));
        if !there {
            let name = a["name"].as_str().unwrap_or_default();
            d.notes.push(Note::normal("MissingJob", format!("Active job went missing: {name}")));
        }
        there
    });
    if !pods::going(cron) {
        start(cron, jobs, now, &mut active, &mut d);
    }
    if let Some(m) = d.status.make_map() {
        m.remove("active");
        if !active.is_empty() {
            m.insert("active", active);
        }
        if let Some(t) = last_success {
            m.insert("lastSuccessfulTime", t);
        }
    }
    d
}

/// Whether a Job is to start now, and when to look again.
fn start(cron: &Value, jobs: &[Arc<Value>], now: Timestamp, active: &mut Vec<Value>, d: &mut Decision) {
    let zone_name = cron.str_at(["spec", "timeZone"]);
    let Some(zone) = schedule::zone(zone_name.unwrap_or_default()) else {
        let name = zone_name.unwrap_or_default();
        let message = format!("invalid timeZone: {}: unknown time zone {name}", go::quote(name));
        return d.notes.push(Note::warning("UnknownTimeZone", message));
    };
    if cron["spec"]["suspend"].as_bool() == Some(true) {
        return;
    }
    let text = cron.str_at(["spec", "schedule"]).unwrap_or_default();
    if text.contains("TZ") {
        d.notes.push(Note::warning(
            "UnsupportedSchedule",
            format!(
                "CRON_TZ or TZ used in schedule {} is not officially supported, see \
                 https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/ for more details",
                go::quote(text)
            ),
        ));
    }
    let schedule = match Schedule::parse(text) {
        Ok(schedule) => schedule,
        Err(why) => {
            let message = format!("unparseable schedule: {} : {why}", go::quote(text));
            return d.notes.push(Note::warning("UnparseableSchedule", message));
        }
    };
    let runs = Runs { schedule: &schedule, zone: &zone, cron, now };
    let due = match runs.most_recent(true) {
        Ok(due) => due,
        Err(why) => {
            return d.notes.push(Note::warning("InvalidSchedule", format!("invalid schedule: {text} : {why}")));
        }
    };
    d.again = runs.pause();
    let Some(at) = due.time else { return };
    if due.missed > MANY {
        let message =
            "too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew".to_owned();
        d.notes.push(Note::warning("TooManyMissedTimes", message));
    }
    let deadline = cron["spec"]["startingDeadlineSeconds"].as_i64();
    if deadline.is_some_and(|s| at.saturating_add(SignedDuration::from_secs(s)).is_ok_and(|end| end < now)) {
        let time = at.strftime("%a, %d %b %Y %H:%M:%S +0000");
        return d.notes.push(Note::warning("MissSchedule", format!("Missed scheduled time to start a job: {time}")));
    }
    let name = format!("{}-{}", cron.str_at(["metadata", "name"]).unwrap_or_default(), at.as_second().div_euclid(60));
    let done = time_at(&cron["status"]["lastScheduleTime"]) == Some(at);
    if done || active.iter().any(|a| a["name"].as_str() == Some(&name)) {
        return;
    }
    match cron.str_at(["spec", "concurrencyPolicy"]) {
        Some("Forbid") if !active.is_empty() => {
            let message = "Not starting job because prior execution is running and concurrency policy is Forbid";
            return d.notes.push(Note::normal("JobAlreadyActive", message.to_owned()));
        }
        Some("Replace") => {
            let running = |j: &&Arc<Value>| active.iter().any(|a| a["uid"] == j["metadata"]["uid"]);
            d.delete.extend(jobs.iter().filter(running).cloned());
            active.clear();
        }
        _ => {}
    }
    d.start = Some(Start { job: job(cron, &name, at, &zone), at });
}

/// The starts of a CronJob up to now.
struct Runs<'a> {
    schedule: &'a Schedule,
    zone: &'a TimeZone,
    cron: &'a Value,
    now: Timestamp,
}

/// The most recent start.
#[derive(Debug, PartialEq, Eq)]
struct Due {
    /// When the search began.
    since: Timestamp,
    /// The start; `None` when there was none.
    time: Option<Timestamp>,
    /// How many starts lie between, roughly.
    missed: i64,
}

impl Runs<'_> {
    fn next(&self, after: Timestamp) -> Option<Timestamp> {
        self.schedule.next(after, self.zone)
    }

    /// The most recent start since the last one (or since the CronJob was made), not before the starting deadline when
    /// that is asked for.
    fn most_recent(&self, within_deadline: bool) -> Result<Due, &'static str> {
        const NO_TIME: &str = "time difference between two schedules is less than 1 second";
        let made = time_at(&self.cron["metadata"]["creationTimestamp"]);
        let mut since = time_at(&self.cron["status"]["lastScheduleTime"]).or(made).unwrap_or(self.now);
        if let Some(seconds) = self.cron["spec"]["startingDeadlineSeconds"].as_i64().filter(|_| within_deadline) {
            let deadline = self.now.saturating_sub(SignedDuration::from_secs(seconds)).unwrap_or(since);
            since = since.max(deadline);
        }
        let first = self.next(since).ok_or(NO_TIME)?;
        let second = self.next(first).ok_or(NO_TIME)?;
        if self.now < first {
            return Ok(Due { since, time: None, missed: 0 });
        }
        if self.now < second {
            return Ok(Due { since, time: Some(first), missed: 0 });
        }
        let between = second.duration_since(first).as_secs();
        if between < 1 {
            return Err(NO_TIME);
        }
        let missed = self.now.duration_since(first).as_secs() / between + 1;
        // One step back from where an even schedule has its last start, and on from there: an uneven one gets there too.
        let back = SignedDuration::from_secs((missed - 2).saturating_mul(between));
        let mut time = None;
        let mut t = first.saturating_add(back).ok().and_then(|t| self.next(t));
        while let Some(start) = t.filter(|t| *t <= self.now) {
            time = Some(start);
            t = self.next(start);
        }
        Ok(Due { since, time, missed })
    }

    /// How long until the next start.
    fn pause(&self) -> Option<Duration> {
        let from = match self.most_recent(false) {
            Ok(Due { time: Some(time), .. }) => time,
            Ok(Due { since, missed: 0, .. }) => since,
            Ok(_) | Err(_) => self.now,
        };
        let pause = self.next(from)?.duration_since(self.now) + PADDING;
        Some(Duration::try_from(pause).unwrap_or_default())
    }
}

/// The Job of one start.
fn job(cron: &Value, name: &str, at: Timestamp, zone: &TimeZone) -> Value {
    let mut job = pods::from_template("batch/v1", "Job", &cron["spec"]["jobTemplate"], cron);
    let local = at.to_zoned(zone.clone());
    let scheduled =
        if local.offset().is_zero() { clock::text(at) } else { local.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string() };
    if let Some(m) = job.make_map_at(["metadata"]) {
        m.insert("name", name);
    }
    if let Some(m) = job.make_map_at(["metadata", "annotations"]) {
        m.insert(SCHEDULED, scheduled);
    }
    job
}

fn reference(job: &Value) -> Value {
    let text = |field: &str| job.str_at(["metadata", field]);
    Value::from(json!({
        "apiVersion": "batch/v1", "kind": "Job", "name": text("name"), "namespace": text("namespace"),
        "resourceVersion": text("resourceVersion"), "uid": text("uid"),
    }))
}

/// The oldest finished Jobs beyond what the CronJob keeps of each outcome.
fn beyond_history(cron: &Value, jobs: &[Arc<Value>]) -> Vec<Arc<Value>> {
    let mut out = Vec::new();
    for (limit, outcome) in [("successfulJobsHistoryLimit", "Complete"), ("failedJobsHistoryLimit", "Failed")] {
        let Some(limit) = cron["spec"][limit].as_i64().and_then(|n| usize::try_from(n).ok()) else { continue };
        let mut ended: Vec<_> = jobs.iter().filter(|j| finished(j) == Some(outcome) && !pods::going(j)).collect();
        // Those without a start come last.
        ended.sort_by_key(|j| {
            let start = j.str_at(["status", "startTime"]).map(str::to_owned);
            (start.is_none(), start, j.str_at(["metadata", "name"]).map(str::to_owned))
        });
        let extra = ended.len().saturating_sub(limit);
        out.extend(ended.into_iter().take(extra).cloned());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{list, value};

    const MADE: &str = "2026-01-01T00:00:10Z";

    fn cron(spec: &str, status: &str) -> Value {
        value(&format!(
            "apiVersion: batch/v1
kind: CronJob
metadata: {{name: backup, namespace: home, uid: c, creationTimestamp: {MADE}}}
spec: {{schedule: '*/10 * * * *', concurrencyPolicy: Allow, jobTemplate: {{metadata: {{labels: {{app: b}}}}, spec: {{x: 1}}}}, {spec}}}
status: {status}"
        ))
    }

    fn at(cron: &Value, jobs: &str, now: &str) -> Decision {
        decide(cron, &list(jobs), now.parse().unwrap())
    }

    fn said(d: &Decision) -> Vec<String> {
        d.notes.iter().map(|n| format!("{n:?}")).collect()
    }

    fn started(d: &Decision) -> Option<&str> {
        d.start.as_ref().and_then(|s| s.job.str_at(["metadata", "name"]))
    }

    #[test]
    fn a_job_starts_when_its_minute_has_come_and_only_once() {
        for (spec, status, now, job, again) in [
            ("", "{}", "2026-01-01T00:09:59Z", None, 1.1),
            ("", "{}", "2026-01-01T00:10:00Z", Some("backup-29453770"), 600.1),
            // The latest of several starts that were missed is made up for.
            ("", "{}", "2026-01-01T00:45:00Z", Some("backup-29453800"), 300.1),
            ("", "{lastScheduleTime: '2026-01-01T00:40:00Z'}", "2026-01-01T00:45:00Z", None, 300.1),
            ("", "{active: [{name: backup-29453800, uid: j}]}", "2026-01-01T00:45:00Z", None, 300.1),
            ("startingDeadlineSeconds: 200", "{}", "2026-01-01T00:45:00Z", None, 300.1),
            ("startingDeadlineSeconds: 400", "{}", "2026-01-01T00:45:00Z", Some("backup-29453800"), 300.1),
        ] {
            let d = at(&cron(spec, status), "[{metadata: {name: backup-29453800, uid: j}}]", now);
            assert_eq!(started(&d), job, "{spec} {status} {now}");
            assert!((d.again.unwrap().as_secs_f64() - again).abs() < 1e-6, "{spec} {status} {now}: {:?}", d.again);
        }
    }

    #[test]
    fn the_job_is_the_templates_with_the_time_it_was_to_start() {
        for (spec, scheduled) in [
            ("", "2026-01-01T00:10:00Z"),
            ("timeZone: Asia/Tokyo", "2026-01-01T09:10:00+09:00"),
            ("timeZone: Europe/London", "2026-01-01T00:10:00Z"),
        ] {
            let start = at(&cron(spec, "{}"), "[]", "2026-01-01T00:10:00Z").start.unwrap();
            let expected = value(&format!(
                "apiVersion: batch/v1
kind: Job
metadata:
  namespace: home
  labels: {{app: b}}
  ownerReferences:
  - {{apiVersion: batch/v1, kind: CronJob, name: backup, uid: c, controller: true, blockOwnerDeletion: true}}
  name: backup-29453770
  annotations: {{batch.kubernetes.io/cronjob-scheduled-timestamp: '{scheduled}'}}
spec: {{x: 1}}"
            ));
            assert_eq!(start.job, expected);
        }
    }

    #[test]
    fn what_keeps_a_job_from_starting_is_told() {
        let running = "[{metadata: {name: backup-1, uid: j}}]";
        let active = "{active: [{name: backup-1, uid: j}]}";
        for (spec, status, jobs, reason, message) in [
            (
                "concurrencyPolicy: Forbid",
                active,
                running,
                "JobAlreadyActive",
                "Not starting job because prior execution is running and concurrency policy is Forbid",
            ),
            ("schedule: nightly", "{}", "[]", "UnparseableSchedule", "expected exactly 5 fields, found 1: [nightly]"),
            (
                "schedule: 0 0 31 2 *",
                "{}",
                "[]",
                "InvalidSchedule",
                "invalid schedule: 0 0 31 2 * : time difference between two schedules is less than 1 second",
            ),
            ("timeZone: Mars/Base", "{}", "[]", "UnknownTimeZone", "unknown time zone Mars/Base"),
            (
                "schedule: 30 0 * * *, startingDeadlineSeconds: 60",
                "{lastScheduleTime: '2025-12-31T00:30:00Z'}",
                "[]",
                "",
                "",
            ),
        ] {
            let d = at(&cron(spec, status), jobs, "2026-01-01T00:45:00Z");
            assert_eq!(started(&d), None, "{spec}");
            let said = said(&d);
            assert!(said.iter().all(|n| n.contains(reason) && n.contains(message)), "{said:?}");
            assert_eq!(said.len(), usize::from(!reason.is_empty()), "{said:?}");
        }
        let d = at(&cron("suspend: true", "{}"), "[]", "2026-01-01T00:45:00Z");
        assert!(d.start.is_none() && d.notes.is_empty() && d.again.is_none());
    }

    #[test]
    fn more_than_a_hundred_missed_starts_are_told_and_the_last_is_made_up_for() {
        let d = at(&cron("", "{}"), "[]", "2026-01-02T00:00:00Z");
        assert_eq!(started(&d), Some("backup-29455200"));
        assert!(said(&d)[0].contains("TooManyMissedTimes"));
    }

    #[test]
    fn a_running_job_is_replaced_where_that_is_asked_for() {
        let active = "{active: [{name: backup-1, uid: j}]}";
        let jobs = "[{metadata: {name: backup-1, uid: j}}]";
        let d = at(&cron("concurrencyPolicy: Replace", active), jobs, "2026-01-01T00:45:00Z");
        assert_eq!(d.delete.len(), 1);
        assert_eq!(started(&d), Some("backup-29453800"));
        assert!(d.status["active"].is_null());
    }

    #[test]
    fn finished_jobs_leave_the_status_and_beyond_the_history_they_go() {
        let ended = |name: &str, condition: &str, time: &str| {
            format!(
                "{{metadata: {{name: {name}, uid: {name}}}, status: {{startTime: '{time}', completionTime: '{time}', \
                 conditions: [{{type: {condition}, status: 'True'}}]}}}}"
            )
        };
        let jobs = format!(
            "[{}, {}, {}, {}]",
            ended("a", "Complete", "2026-01-01T00:20:00Z"),
            ended("b", "Complete", "2026-01-01T00:10:00Z"),
            ended("c", "Failed", "2026-01-01T00:30:00Z"),
            "{metadata: {name: d, uid: d}}"
        );
        let cron = cron(
            "suspend: true, successfulJobsHistoryLimit: 1, failedJobsHistoryLimit: 1",
            "{active: [{name: a, uid: a}, {name: b, uid: b}, {name: gone, uid: gone}]}",
        );
        let d = at(&cron, &jobs, "2026-01-01T00:45:00Z");
        let gone: Vec<_> = d.delete.iter().filter_map(|j| j.str_at(["metadata", "name"])).collect();
        assert_eq!(gone, ["b"]);
        assert_eq!(d.status, value("{lastSuccessfulTime: '2026-01-01T00:20:00Z'}"));
        assert_eq!(
            d.notes,
            [
                Note::normal("SawCompletedJob", "Saw completed job: a, condition: Complete"),
                Note::warning("UnexpectedJob", "Saw a job that the controller did not create or forgot: d"),
                Note::normal("MissingJob", "Active job went missing: gone"),
            ]
        );
    }
}
