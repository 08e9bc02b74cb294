//! Jobs and their pods → what is done.

use druse_object::{Map, Value};
use jiff::Timestamp;

use super::backoff::Backoff;
use super::decide::{NewPod, Plan, decide};
use super::pod;
use crate::testing::{list, value};

const NOW: &str = "2026-01-01T00:10:00Z";

fn job(spec: &str, status: &str) -> Value {
    value(&format!(
        "apiVersion: batch/v1
kind: Job
metadata: {{name: j, namespace: home, uid: u}}
spec: {{parallelism: 2, completions: 3, backoffLimit: 6, template: {{spec: {{containers: [{{name: c}}]}}}}, {spec}}}
status: {{uncountedTerminatedPods: {{}}, startTime: '2026-01-01T00:00:00Z', {status}}}"
    ))
}

/// A pod as `name phase`, with an index as `name phase index`; in capitals it has no finalizer any more, and with a `-` in
/// front it was asked to go.
fn pods(text: &str) -> Vec<std::sync::Arc<Value>> {
    let pods = text.split(", ").filter(|t| !t.is_empty()).map(|t| {
        let parts: Vec<&str> = t.split(' ').collect();
        let name = parts[0].trim_start_matches('-');
        let finalizers = if name.to_uppercase() == name { "" } else { "batch.kubernetes.io/job-tracking" };
        let going = if parts[0].starts_with('-') { "deletionTimestamp: '2026-01-01T00:09:50Z', " } else { "" };
        let index = parts
            .get(2)
            .map(|i| format!("annotations: {{batch.kubernetes.io/job-completion-index: '{i}'}}, "))
            .unwrap_or_default();
        let ready = if parts[1] == "Running" { "{type: Ready, status: 'True'}" } else { "" };
        let ended = "{state: {terminated: {exitCode: 1, finishedAt: '2026-01-01T00:00:00Z'}}, name: c}";
        let containers = if parts[1] == "Failed" { ended } else { "" };
        format!(
            "{{metadata: {{name: {name}, uid: {name}, namespace: home, {going}{index}finalizers: [{finalizers}]}}, \
             status: {{phase: {}, conditions: [{ready}], containerStatuses: [{containers}]}}}}",
            parts[1]
        )
    });
    list(&format!("[{}]", pods.collect::<Vec<_>>().join(", ")))
}

fn plan(job: &Value, running: &str) -> Plan {
    decide(job, &pods(running), Backoff::default(), NOW.parse().unwrap())
}

fn names(pods: &[std::sync::Arc<Value>]) -> String {
    pods.iter().filter_map(|p| p.str_at(["metadata", "name"])).collect::<Vec<_>>().join(" ")
}

/// The numbers of a status, and its conditions as `Type=Reason`.
fn said(status: &Value) -> String {
    let mut out: Vec<String> =
        ["active", "ready", "terminating", "succeeded", "failed", "completedIndexes", "failedIndexes"]
            .iter()
            .filter_map(|f| match &status[*f] {
                Value::Null | Value::Int(0) => None,
                v => Some(format!(
                    "{f} {}",
                    v.as_str().map_or_else(|| v.as_i64().unwrap_or(0).to_string(), str::to_owned)
                )),
            })
            .collect();
    for c in status["conditions"].items() {
        let text = |f: &str| c[f].as_str().unwrap_or_default();
        out.push(format!("{}={} {}", text("type"), text("status"), text("reason")));
    }
    let uncounted = &status["uncountedTerminatedPods"];
    if uncounted.as_map().is_some_and(|m| !Map::is_empty(m)) {
        out.push(format!("uncounted {}", druse_object::json::to_string(uncounted)));
    }
    out.join(", ")
}

/// Spec, status and pods → what is deleted, how many are made, what is unfinalized; the status then.
type Case = (&'static str, &'static str, &'static str, &'static str, usize, &'static str, &'static str);

#[test]
fn pods_are_made_deleted_and_counted() {
    let cases: &[Case] = &[
        ("", "", "", "", 2, "", "active 2"),
        ("", "", "a Running", "", 1, "", "active 2, ready 1"),
        ("parallelism: 1", "", "a Running, b Pending", "b", 0, "", "active 1, ready 1, terminating 1"),
        ("", "", "a Succeeded, b Running", "", 1, "a", "active 2, ready 1, succeeded 1"),
        ("", "succeeded: 2", "A Succeeded, B Succeeded", "", 1, "", "active 1, succeeded 2"),
        ("", "", "a Failed", "", 2, "a", "active 2, failed 1"),
        // A pod that is on its way out has failed, and is replaced …
        ("", "", "-a Running, b Running", "", 1, "a", "active 2, ready 1, terminating 1, failed 1"),
        // … unless only those that ended are.
        ("podReplacementPolicy: Failed", "", "-a Running, b Running", "", 0, "", "active 1, ready 1, terminating 1"),
        // Without completions one success is enough, and what runs may end.
        ("completions: null", "", "a Succeeded, b Running", "", 0, "a", "active 1, ready 1, succeeded 1"),
        // What was entered before and has no finalizer any more is counted now.
        (
            "",
            "uncountedTerminatedPods: {succeeded: [A], failed: [B]}",
            "A Succeeded, B Failed",
            "",
            2,
            "",
            "active 2, succeeded 1, failed 1",
        ),
    ];
    for (spec, status, running, delete, create, unfinalize, then) in cases {
        let plan = plan(&job(spec, status), running);
        let done = (names(&plan.delete), plan.create.len(), names(&plan.unfinalize), said(&plan.counted));
        assert_eq!(
            done,
            ((*delete).into(), *create, (*unfinalize).into(), (*then).into()),
            "{spec} {status} {running}"
        );
    }
}

#[test]
fn an_end_is_entered_before_the_finalizer_goes_and_counted_after() {
    let plan = plan(&job("", ""), "a Succeeded, b Failed, c Running");
    assert!(plan.flush);
    assert_eq!(said(&plan.counting), r#"active 2, ready 1, uncounted {"succeeded":["a"],"failed":["b"]}"#);
    assert_eq!(said(&plan.counted), "active 2, ready 1, succeeded 1, failed 1");
}

#[test]
fn a_job_ends_when_all_are_counted_and_none_is_on_its_way_out() {
    let complete = "SuccessCriteriaMet=True CompletionsReached";
    let cases: &[(&str, &str, &str, &str)] = &[
        (
            "",
            "",
            "a Succeeded, b Succeeded, c Succeeded",
            "succeeded 3, SuccessCriteriaMet=True CompletionsReached, Complete=True CompletionsReached",
        ),
        (
            "",
            "succeeded: 2",
            "a Succeeded, -b Running",
            "terminating 1, succeeded 3, failed 1, SuccessCriteriaMet=True CompletionsReached",
        ),
        ("completions: 0", "", "", "SuccessCriteriaMet=True CompletionsReached, Complete=True CompletionsReached"),
        (
            "backoffLimit: 0",
            "",
            "a Failed, b Running",
            "terminating 1, failed 2, FailureTarget=True BackoffLimitExceeded",
        ),
        (
            "backoffLimit: 0",
            "failed: 2, conditions: [{type: FailureTarget, status: 'True', reason: BackoffLimitExceeded, message: m}]",
            "",
            "failed 2, FailureTarget=True BackoffLimitExceeded, Failed=True BackoffLimitExceeded",
        ),
        ("activeDeadlineSeconds: 600", "", "", "FailureTarget=True DeadlineExceeded, Failed=True DeadlineExceeded"),
        (
            "podFailurePolicy: {rules: [{action: FailJob, onExitCodes: {operator: In, values: [1]}}]}",
            "",
            "a Failed",
            "failed 1, FailureTarget=True PodFailurePolicy, Failed=True PodFailurePolicy",
        ),
        (
            "podFailurePolicy: {rules: [{action: Ignore, onExitCodes: {operator: In, values: [1]}}]}, backoffLimit: 0",
            "",
            "a Failed",
            "active 2",
        ),
    ];
    for (spec, status, running, then) in cases {
        assert_eq!(said(&plan(&job(spec, status), running).counted), *then, "{spec} {status} {running}");
    }
    let ended = plan(&job("", "succeeded: 3"), "");
    assert!(said(&ended.counted).contains(complete));
    assert_eq!(ended.counted.str_at(["completionTime"]), Some(NOW));
    assert_eq!(
        format!("{:?}", ended.end),
        format!("{:?}", [crate::workloads::report::Note::normal("Completed", "Job completed")])
    );
}

#[test]
fn time_brings_a_job_back() {
    let deadline = plan(&job("activeDeadlineSeconds: 900", ""), "a Running, b Running");
    assert_eq!(deadline.again.map(|d| d.as_secs()), Some(300));
    let now: Timestamp = NOW.parse().unwrap();
    let backoff = decide(&job("", ""), &pods("b Running"), Backoff::of(2, now), now);
    assert_eq!((backoff.create.len(), backoff.again.map(|d| d.as_secs())), (0, Some(20)));
}

#[test]
fn a_suspended_job_has_no_pods_and_no_start() {
    let suspended = plan(&job("suspend: true", ""), "a Running");
    assert_eq!((names(&suspended.delete), suspended.uncounted), ("a".into(), true));
    assert_eq!(said(&suspended.counted), "terminating 1, Suspended=True JobSuspended");
    assert!(suspended.counted["startTime"].is_null());
    let resumed =
        plan(&job("", "conditions: [{type: Suspended, status: 'True', reason: JobSuspended, message: m}]"), "");
    assert_eq!(said(&resumed.counted), "active 2, Suspended=False JobResumed");
    assert_eq!(resumed.counted.str_at(["startTime"]), Some(NOW));
}

#[test]
fn each_index_succeeds_once() {
    let indexed = |spec: &str, status: &str| job(&format!("completionMode: Indexed, completions: 5, {spec}"), status);
    let made =
        |p: &Plan| p.create.iter().map(|n| n.index.map_or("-".into(), |i| i.to_string())).collect::<Vec<_>>().join(" ");
    let per_index = "backoffLimitPerIndex: 1";
    for (spec, status, running, delete, create, then) in [
        ("", "", "", "", "0 1", "active 2"),
        ("", "completedIndexes: 0-1", "a Running 3", "", "2", "active 2, ready 1, succeeded 2, completedIndexes 0,1"),
        ("", "", "a Succeeded 1, b Running 0", "", "2", "active 2, ready 1, succeeded 1, completedIndexes 1"),
        // One pod an index, none beyond the completions.
        ("", "", "a Running 0, b Pending 0, c Running 7", "b c", "", "active 1, ready 1, terminating 2"),
        (
            "",
            "completedIndexes: 0-3",
            "a Succeeded 4",
            "",
            "",
            "succeeded 5, completedIndexes 0-4, SuccessCriteriaMet=True CompletionsReached, Complete=True CompletionsReached",
        ),
        // A failed pod stays until its index has a new one.
        (per_index, "", "a Failed 0, b Running 1", "", "0", "active 2, ready 1, failedIndexes "),
        (
            "successPolicy: {rules: [{succeededIndexes: '0'}]}",
            "",
            "a Succeeded 0, b Running 1",
            "b",
            "",
            "terminating 1, succeeded 1, completedIndexes 0, SuccessCriteriaMet=True SuccessPolicy",
        ),
    ] {
        let plan = plan(&indexed(spec, status), running);
        assert_eq!((names(&plan.delete), made(&plan)), (delete.into(), create.into()), "{spec} {status} {running}");
        assert_eq!(said(&plan.counted), then, "{spec} {status} {running}");
    }
    let again = plan(&indexed(per_index, ""), "a Failed 0");
    let annotation = |n: &str| vec![("batch.kubernetes.io/job-index-failure-count", n.to_owned())];
    assert_eq!(
        again.create,
        [
            NewPod { index: Some(0), annotations: annotation("1") },
            NewPod { index: Some(1), annotations: annotation("0") },
        ]
    );
}

#[test]
fn the_pod_of_an_index_knows_it() {
    let new = NewPod { index: Some(2), annotations: vec![("batch.kubernetes.io/job-index-failure-count", "1".into())] };
    let expected = value(
        "apiVersion: v1
kind: Pod
metadata:
  namespace: home
  generateName: j-2-
  labels: {batch.kubernetes.io/job-completion-index: '2'}
  annotations:
    batch.kubernetes.io/job-completion-index: '2'
    batch.kubernetes.io/job-index-failure-count: '1'
  ownerReferences: [{apiVersion: batch/v1, kind: Job, name: j, uid: u, controller: true, blockOwnerDeletion: true}]
  finalizers: [batch.kubernetes.io/job-tracking]
spec:
  hostname: j-2
  containers:
  - name: c
    env:
    - name: JOB_COMPLETION_INDEX
      valueFrom: {fieldRef: {fieldPath: 'metadata.labels[''batch.kubernetes.io/job-completion-index'']'}}",
    );
    assert_eq!(pod(&job("", ""), &new), expected);
}
