//! StatefulSets and their pods → what is done.

use std::sync::Arc;

use druse_object::{Map, Value};

use super::claims;
use super::decide::{Act, Between, Plan, Template, decide};
use crate::testing::{list, value};
use crate::workloads::pods::has_ended;

const NOW: &str = "2026-01-01T00:10:00Z";

fn set(spec: &str, status: &str) -> Value {
    value(&format!(
        "apiVersion: apps/v1
kind: StatefulSet
metadata: {{name: db, namespace: home, uid: s, generation: 3}}
spec:
  {{replicas: 3, updateStrategy: {{type: RollingUpdate, rollingUpdate: {{partition: 0}}}}, selector: {{matchLabels: {{app: db}}}}, {spec}}}
status: {{{status}}}"
    ))
}

/// Pods as `ordinal revision state`, where a state is `ready`, `pending`, `failed`, or `going`.
fn pods(text: &str) -> Vec<Arc<Value>> {
    let pods = text.split(", ").filter(|t| !t.is_empty()).map(|t| {
        let parts: Vec<&str> = t.split(' ').collect();
        let phase = match parts[2] {
            "pending" => "Pending",
            "failed" => "Failed",
            _ => "Running",
        };
        let going = if parts[2] == "going" { "deletionTimestamp: x, " } else { "" };
        let ready = if phase == "Running" {
            "{type: Ready, status: 'True', lastTransitionTime: '2026-01-01T00:09:30Z'}"
        } else {
            ""
        };
        format!(
            "{{metadata: {{name: db-{0}, uid: p{0}, {going}labels: {{controller-revision-hash: {1}}}}}, \
             status: {{phase: {phase}, conditions: [{ready}]}}}}",
            parts[0], parts[1]
        )
    });
    list(&format!("[{}]", pods.collect::<Vec<_>>().join(", ")))
}

fn plan(set: &Value, running: &str, current: &str) -> Plan {
    let between = Between { current, update: "new", collisions: 0 };
    decide(set, &pods(running), between, |_| false, NOW.parse().unwrap())
}

/// What makes and deletes pods, in order: `+0` with the new template, `~0` with the current one, `-0`.
fn acts(plan: &Plan) -> String {
    let words = plan.acts.iter().filter_map(|a| match a {
        Act::Create(o, Template::Update) => Some(format!("+{o}")),
        Act::Create(o, Template::Current) => Some(format!("~{o}")),
        Act::Delete(p) => p.str_at(["metadata", "name"]).map(|n| n.replace("db", "")),
        Act::Claims(..) => None,
    });
    words.collect::<Vec<_>>().join(" ")
}

#[test]
fn pods_are_made_in_order_and_go_in_reverse_unless_all_may_at_once() {
    let parallel = "podManagementPolicy: Parallel";
    for (spec, running, expected) in [
        ("", "", "+0"),
        ("", "0 new pending", ""),
        ("", "0 new ready", "+1"),
        ("", "0 new ready, 1 new ready, 2 new ready", ""),
        // One that is missing in the middle comes first.
        ("", "0 new ready, 2 new pending", "+1"),
        ("", "0 new failed", "-0"),
        ("", "0 new going", ""),
        ("replicas: 1", "0 new ready, 1 new ready, 2 new ready", "-2"),
        ("replicas: 1", "0 new ready, 1 new ready, 2 new going", ""),
        ("replicas: 1", "0 new pending, 1 new ready, 2 new ready", ""),
        // An unavailable one goes when it is the first; otherwise that one is waited for.
        ("replicas: 1", "0 new ready, 1 new ready, 2 new pending", "-2"),
        ("replicas: 1", "0 new ready, 1 new pending, 2 new pending", ""),
        ("minReadySeconds: 60", "0 new ready", ""),
        ("minReadySeconds: 20", "0 new ready", "+1"),
        ("ordinals: {start: 2}, replicas: 2", "2 new ready", "+3"),
        (parallel, "", "+0 +1 +2"),
        ("podManagementPolicy: Parallel, replicas: 1", "0 new pending, 1 new ready, 2 new pending", "-2 -1"),
    ] {
        assert_eq!(acts(&plan(&set(spec, ""), running, "new")), expected, "{spec} {running}");
    }
}

#[test]
fn a_new_template_is_rolled_out_from_the_last_pod_down_to_the_partition() {
    let partition = "updateStrategy: {type: RollingUpdate, rollingUpdate: {partition: 2}}";
    for (spec, running, expected) in [
        ("", "0 old ready, 1 old ready, 2 old ready", "-2"),
        ("", "0 old ready, 1 old ready", "+2"),
        ("", "0 old ready, 1 old ready, 2 new pending", ""),
        ("", "0 old ready, 1 old ready, 2 new ready", "-1"),
        (partition, "0 old ready, 1 old ready, 2 new ready", ""),
        // Below the partition pods come back as they were.
        (partition, "0 old ready, 2 new ready", "~1"),
        ("updateStrategy: {type: OnDelete}", "0 old ready, 1 old ready, 2 old ready", ""),
    ] {
        assert_eq!(acts(&plan(&set(spec, ""), running, "old")), expected, "{spec} {running}");
    }
}

#[test]
fn the_status_counts_pods_by_revision() {
    let numbers = |p: &Plan| {
        let n = |f: &str| p.status[f].as_i64().unwrap_or(0);
        let revision = p.status["currentRevision"].as_str().unwrap_or_default().to_owned();
        (n("replicas"), n("readyReplicas"), n("currentReplicas"), n("updatedReplicas"), revision)
    };
    for (running, expected) in [
        ("0 old ready, 1 old ready, 2 new pending", (3, 2, 2, 1, "old")),
        // The one that is deleted for the update is not of the current revision any more.
        ("0 old ready, 1 old ready, 2 old ready", (3, 3, 2, 0, "old")),
        ("0 new ready, 1 new ready, 2 new ready", (3, 3, 3, 3, "new")),
    ] {
        let (a, b, c, d, e) = numbers(&plan(&set("", ""), running, "old"));
        assert_eq!((a, b, c, d, e.as_str()), expected, "{running}");
    }
    assert_eq!(plan(&set("minReadySeconds: 60", ""), "0 new ready", "new").again.map(|d| d.as_secs()), Some(30));
    assert!(has_ended(&pods("0 new failed")[0]));
}

#[test]
fn claims_belong_to_the_set_or_to_a_pod_that_is_scaled_away_as_the_policy_says() {
    let claim = |owners: &str| value(&format!("{{metadata: {{ownerReferences: [{owners}]}}}}"));
    let (of_set, of_pod) = ("{kind: StatefulSet, name: db, uid: s}", "{kind: Pod, name: db-1, uid: p1}");
    let pod = &pods("1 new ready")[0];
    let policy = |scaled: &str, deleted: &str, replicas: i64| {
        let text = format!("{{whenScaled: {scaled}, whenDeleted: {deleted}}}");
        set(&format!("replicas: {replicas}, persistentVolumeClaimRetentionPolicy: {text}"), "")
    };
    for (set, owners, expected) in [
        (policy("Retain", "Retain", 3), "", None),
        (policy("Retain", "Retain", 3), of_set, Some(vec![])),
        (policy("Retain", "Delete", 3), "", Some(vec!["StatefulSet"])),
        (policy("Delete", "Delete", 3), "", Some(vec!["StatefulSet"])),
        (policy("Delete", "Delete", 1), "", Some(vec!["Pod"])),
        (policy("Delete", "Retain", 3), of_pod, Some(vec![])),
        (policy("Delete", "Retain", 1), "", Some(vec!["Pod"])),
        // What another controls, or a pod before this one had, is left alone.
        (policy("Delete", "Delete", 3), "{kind: X, name: x, uid: x, controller: true}", None),
        (policy("Delete", "Delete", 3), "{kind: Pod, name: db-1, uid: before}", None),
    ] {
        let found = claims::owners(&claim(owners), &set, pod, 1);
        let kinds = found.map(|o| o.iter().filter_map(|r| r["kind"].as_str().map(str::to_owned)).collect::<Vec<_>>());
        assert_eq!(kinds, expected.map(|e| e.into_iter().map(str::to_owned).collect()), "{owners}");
    }
}

#[test]
fn a_claim_is_its_template_with_the_pods_name_and_the_sets_labels() {
    let set = set("volumeClaimTemplates: [{metadata: {name: data}, spec: {x: 1}, status: {phase: Pending}}]", "");
    let found = claims::of_pod(&set, 2);
    let expected = "{apiVersion: v1, kind: PersistentVolumeClaim, spec: {x: 1}, \
                    metadata: {name: data-db-2, namespace: home, labels: {app: db}}}";
    assert_eq!(found, [("data".to_owned(), value(expected))]);
    let template = value("{spec: {volumes: [{name: data, emptyDir: {}}, {name: tmp, emptyDir: {}}]}}");
    let names: Vec<_> = claims::volumes(&template, &found)
        .iter()
        .map(|v| (v["name"].as_str().unwrap_or_default().to_owned(), v["emptyDir"].as_map().is_some_and(Map::is_empty)))
        .collect();
    assert_eq!(names, [("data".to_owned(), false), ("tmp".to_owned(), true)]);
}
