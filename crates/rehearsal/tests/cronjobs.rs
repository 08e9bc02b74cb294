//! CronJobs from their schedule to what is left of their Jobs, with a clock that the test sets.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use druse_kustomize::tree::MemoryTree;
use druse_object::{Map, Value};
use druse_runtime::{Clock, Key, Patch, Resource};
use druse_simulate::nodes::Node;
use druse_simulate::{Hold, Options};
use jiff::{SignedDuration, Timestamp};
use support::{Cluster, events, pods};
use tokio::time::timeout;

/// A cluster whose controllers read a clock of its own.
struct Lab {
    cluster: Cluster,
    time: Arc<Mutex<Timestamp>>,
}

fn jobs() -> Resource {
    Resource::new("batch", "v1", "Job", "jobs", true)
}

fn cron_jobs() -> Resource {
    Resource::new("batch", "v1", "CronJob", "cronjobs", true)
}

/// A CronJob of every minute; its pods are held back when `held`.
fn every_minute(held: bool, spec: &str) -> String {
    format!(
        "apiVersion: batch/v1
kind: CronJob
metadata: {{name: tick, namespace: default}}
spec:
  schedule: '* * * * *'
  {spec}
  jobTemplate:
    spec:
      backoffLimit: 0
      template:
        metadata: {{labels: {{held: '{held}'}}}}
        spec: {{restartPolicy: Never, containers: [{{name: main, image: x}}]}}
"
    )
}

impl Lab {
    async fn start(cron: &str) -> Self {
        let time = Arc::new(Mutex::new(Timestamp::now()));
        let shown = time.clone();
        let options = Options {
            nodes: Node::numbered(1),
            stages: Vec::new(),
            hold: Hold::while_true(|pod| pod["metadata"]["labels"]["held"].as_str() == Some("true")),
            clock: Clock::reading(move || *shown.lock().unwrap()),
        };
        let cluster = Cluster::simulating(MemoryTree::new(), "main@sha1:0", Some(options)).await;
        cluster.apply(cron).await;
        // It counts from when it was made, which is whole seconds of the API's own clock.
        let made = cluster.get(&cron_jobs(), "default", "tick").await.unwrap();
        *time.lock().unwrap() = made.str_at(["metadata", "creationTimestamp"]).unwrap().parse().unwrap();
        cluster.idle().await;
        Self { cluster, time }
    }

    /// The clock moves to the next full minute, and the CronJob is looked at, as when its timer has come. Returns the name
    /// of the Job of that minute.
    async fn next_minute(&self) -> String {
        let minute = {
            let mut time = self.time.lock().unwrap();
            let minute = time.as_second().div_euclid(60) + 1;
            *time = Timestamp::from_second(minute * 60).unwrap() + SignedDuration::from_millis(100);
            minute
        };
        self.touch(&format!(r#"{{"metadata":{{"annotations":{{"minute":"{minute}"}}}}}}"#)).await;
        format!("tick-{minute}")
    }

    async fn touch(&self, patch: &str) {
        self.cluster.merge(&cron_jobs(), "default", "tick", patch).await;
        self.cluster.idle().await;
    }

    async fn names(&self, of: &Resource) -> Vec<String> {
        let all = self.cluster.list(of, "default").await;
        all.iter().map(|v| v.str_at(["metadata", "name"]).unwrap().to_owned()).collect()
    }

    async fn status(&self) -> Value {
        self.cluster.get(&cron_jobs(), "default", "tick").await.unwrap()["status"].clone()
    }

    /// The reasons and messages told about the CronJob.
    async fn told(&self) -> String {
        let all = self.cluster.list(&events(), "default").await;
        let own = all.iter().filter(|e| e.str_at(["involvedObject", "kind"]) == Some("CronJob"));
        let said = |e: &Value, k: &str| e[k].as_str().unwrap_or_default().to_owned();
        own.map(|e| format!("{}: {}", said(e, "reason"), said(e, "message"))).collect::<Vec<_>>().join("\n")
    }

    async fn succeeded(&self, job: &str) {
        let complete = |v: Option<&Value>| support::condition(v, "Complete").0 == "True";
        self.cluster.until(&jobs(), "default", job, complete).await;
    }

    /// Waits until there are as many pods: what a Job that goes leaves behind is collected after it.
    async fn left(&self, count: usize) {
        let few = async {
            while self.names(&pods()).await.len() != count {
                let _looked_at_again_anyway = timeout(Duration::from_millis(20), self.cluster.manager.moved()).await;
            }
        };
        timeout(Duration::from_secs(30), few).await.expect("pods go with their Jobs");
    }

    /// The held pod of a Job ends, badly.
    async fn fail(&self, job: &str) {
        let all = self.cluster.list(&pods(), "default").await;
        let pod = all.iter().find(|p| p.at(["metadata", "labels"]).unwrap()["job-name"].as_str() == Some(job));
        let name = Key::of(pod.expect("the Job has a pod")).name;
        let mut status = Map::new();
        status.insert("status", [("phase", "Failed")].into_iter().collect::<Map>());
        let api = &self.cluster.api;
        api.patch(&pods(), "default", &name, "status", Patch::Merge, &Value::Map(status)).await.unwrap();
        let failed = |v: Option<&Value>| support::condition(v, "Failed").0 == "True";
        self.cluster.until(&jobs(), "default", job, failed).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_is_made_in_its_minute_runs_and_is_reported() {
    let lab = Lab::start(&every_minute(false, "")).await;
    assert_eq!(lab.names(&jobs()).await, Vec::<String>::new(), "not before its time");
    let job = lab.next_minute().await;
    lab.succeeded(&job).await;
    assert_eq!(lab.names(&jobs()).await, [job.as_str()]);
    let made = lab.cluster.get(&jobs(), "default", &job).await.unwrap();
    let scheduled = lab.time.lock().unwrap().strftime("%Y-%m-%dT%H:%M:00Z").to_string();
    let annotations = made.at(["metadata", "annotations"]).unwrap();
    assert_eq!(annotations["batch.kubernetes.io/cronjob-scheduled-timestamp"].as_str(), Some(scheduled.as_str()));
    assert_eq!(made["status"]["succeeded"].as_i64(), Some(1));
    let status = lab.status().await;
    assert_eq!(status["lastScheduleTime"].as_str(), Some(scheduled.as_str()));
    assert_eq!(status["lastSuccessfulTime"], made["status"]["completionTime"]);
    assert!(status["active"].is_null());
    let pod = &lab.cluster.list(&pods(), "default").await[0];
    assert_eq!(pod.str_at(["status", "phase"]), Some("Succeeded"));
    let told = lab.told().await;
    assert!(told.contains(&format!("SuccessfulCreate: Created job {job}")), "{told}");
    assert!(told.contains(&format!("SawCompletedJob: Saw completed job: {job}, condition: Complete")), "{told}");
    // Looked at again within the minute, it makes no other.
    lab.touch(r#"{"metadata":{"annotations":{"again":"1"}}}"#).await;
    assert_eq!(lab.names(&jobs()).await, [job]);
}

#[tokio::test(flavor = "multi_thread")]
async fn as_many_finished_jobs_as_asked_for_are_kept_with_their_pods() {
    let lab = Lab::start(&every_minute(false, "successfulJobsHistoryLimit: 2")).await;
    let mut made = Vec::new();
    for _ in 0..4 {
        let job = lab.next_minute().await;
        lab.succeeded(&job).await;
        made.push(job);
    }
    lab.cluster.until(&jobs(), "default", &made[1], |j| j.is_none()).await;
    assert_eq!(lab.names(&jobs()).await, made[2..]);
    lab.left(2).await;
    let told = lab.told().await;
    assert!(told.contains(&format!("SuccessfulDelete: Deleted job {}", made[0])), "{told}");
    // No history at all.
    lab.touch(r#"{"spec":{"successfulJobsHistoryLimit":0}}"#).await;
    lab.cluster.until(&jobs(), "default", &made[3], |j| j.is_none()).await;
    assert_eq!(lab.names(&jobs()).await, Vec::<String>::new());
    lab.left(0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn failed_jobs_are_kept_by_a_limit_of_their_own_and_count_as_no_success() {
    let lab = Lab::start(&every_minute(true, "failedJobsHistoryLimit: 1")).await;
    let first = lab.next_minute().await;
    lab.fail(&first).await;
    let second = lab.next_minute().await;
    lab.fail(&second).await;
    lab.cluster.until(&jobs(), "default", &first, |j| j.is_none()).await;
    assert_eq!(lab.names(&jobs()).await, [second.as_str()]);
    let status = lab.status().await;
    assert!(status["lastSuccessfulTime"].is_null() && status["active"].is_null(), "{status:?}");
    let told = lab.told().await;
    assert!(told.contains(&format!("SawCompletedJob: Saw completed job: {second}, condition: Failed")), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspended_cronjob_makes_no_jobs_and_goes_on_with_the_most_recent_start() {
    let lab = Lab::start(&every_minute(false, "suspend: true")).await;
    lab.next_minute().await;
    lab.next_minute().await;
    let missed = lab.next_minute().await;
    assert_eq!(lab.names(&jobs()).await, Vec::<String>::new());
    lab.touch(r#"{"spec":{"suspend":false}}"#).await;
    assert_eq!(lab.names(&jobs()).await, [missed.as_str()], "the starts before it are not made up for");
    lab.succeeded(&missed).await;
    let next = lab.next_minute().await;
    assert_eq!(lab.names(&jobs()).await, [missed, next]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_was_missed_for_longer_than_its_deadline_is_left_out() {
    let lab = Lab::start(&every_minute(false, "startingDeadlineSeconds: 20")).await;
    lab.touch(r#"{"spec":{"suspend":true}}"#).await;
    lab.next_minute().await;
    *lab.time.lock().unwrap() += SignedDuration::from_secs(40);
    lab.touch(r#"{"spec":{"suspend":false}}"#).await;
    assert_eq!(lab.names(&jobs()).await, Vec::<String>::new());
    let next = lab.next_minute().await;
    assert_eq!(lab.names(&jobs()).await, [next]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_still_runs_is_left_alone_awaited_or_replaced() {
    let forbid = Lab::start(&every_minute(true, "concurrencyPolicy: Forbid")).await;
    let first = forbid.next_minute().await;
    forbid.next_minute().await;
    assert_eq!(forbid.names(&jobs()).await, [first.as_str()]);
    assert_eq!(forbid.status().await["active"].items()[0]["name"].as_str(), Some(first.as_str()));
    assert!(forbid.told().await.contains("JobAlreadyActive: Not starting job because prior execution is running"));
    // The start that was put off is made when the Job has ended.
    let late = forbid.next_minute().await;
    forbid.fail(&first).await;
    assert_eq!(forbid.names(&jobs()).await, [first, late]);

    let replace = Lab::start(&every_minute(true, "concurrencyPolicy: Replace")).await;
    let first = replace.next_minute().await;
    let second = replace.next_minute().await;
    replace.cluster.until(&jobs(), "default", &first, |j| j.is_none()).await;
    assert_eq!(replace.names(&jobs()).await, [second.as_str()]);
    assert_eq!(replace.status().await["active"].items().len(), 1);

    let allow = Lab::start(&every_minute(true, "concurrencyPolicy: Allow")).await;
    let both = [allow.next_minute().await, allow.next_minute().await];
    assert_eq!(allow.names(&jobs()).await, both);
    assert_eq!(allow.status().await["active"].items().len(), 2);
}
