//! DaemonSets, nodes and pods → what is done.

use std::sync::Arc;

use druse_object::Value;

use super::decide::{Plan, decide};
use super::placement::{Place, place};
use super::pod;
use crate::testing::{list, value};

fn set(spec: &str) -> Value {
    value(&format!(
        "apiVersion: apps/v1
kind: DaemonSet
metadata: {{name: d, namespace: home, uid: u}}
spec: {{updateStrategy: {{type: RollingUpdate}}, template: {{spec: {{containers: [{{name: c}}]}}}}, {spec}}}"
    ))
}

fn nodes(names: &str) -> Vec<Arc<Value>> {
    let all: Vec<_> = names.split(' ').map(|n| format!("{{metadata: {{name: {n}}}}}")).collect();
    list(&format!("[{}]", all.join(", ")))
}

/// Pods as `name node revision state`, where a state is `ready`, `pending`, `failed` or `going`.
fn pods(text: &str) -> Vec<Arc<Value>> {
    let pods = text.split(", ").filter(|t| !t.is_empty()).map(|t| {
        let parts: Vec<&str> = t.split(' ').collect();
        let going = if parts[3] == "going" { "deletionTimestamp: x, " } else { "" };
        let phase = match parts[3] {
            "pending" => "Pending",
            "failed" => "Failed",
            _ => "Running",
        };
        let ready = if phase == "Running" { "{type: Ready, status: 'True'}" } else { "" };
        format!(
            "{{metadata: {{name: {}, namespace: home, {going}labels: {{controller-revision-hash: {}}}}}, \
             spec: {{nodeName: {}}}, status: {{phase: {phase}, conditions: [{ready}]}}}}",
            parts[0], parts[2], parts[1]
        )
    });
    list(&format!("[{}]", pods.collect::<Vec<_>>().join(", ")))
}

fn plan(set: &Value, running: &str) -> Plan {
    decide(set, &nodes("n1 n2 n3"), &pods(running), "new", "2026-01-01T00:00:00Z".parse().unwrap())
}

fn acts(plan: &Plan) -> String {
    let deleted = plan.delete.iter().filter_map(|p| p.str_at(["metadata", "name"])).map(|n| format!("-{n}"));
    deleted.chain(plan.create.iter().map(|n| format!("+{n}"))).collect::<Vec<_>>().join(" ")
}

#[test]
fn each_node_has_one_pod_and_updates_take_no_more_than_the_limit() {
    let surge = "updateStrategy: {rollingUpdate: {maxSurge: 1, maxUnavailable: 0}}";
    let all_old = "a n1 old ready, b n2 old ready, c n3 old ready";
    for (spec, running, expected) in [
        ("", "", "+n1 +n2 +n3"),
        ("", "a n1 new ready, b n2 new going", "+n3"),
        ("", "a n1 new ready, b n1 new ready, c n2 new ready, d n3 new ready", "-b"),
        ("", "a n1 new failed, b n2 new ready, c n3 new ready", "-a"),
        ("", "a n1 new ready, b n2 new ready, c n3 new ready, d gone new ready", "-d"),
        ("", all_old, "-a"),
        ("", "a n1 new pending, b n2 old ready, c n3 old ready", ""),
        ("", "a n1 new ready, b n2 old ready, c n3 old ready", "-b"),
        // One that is not available anyway goes at once.
        ("", "a n1 old pending, b n2 old ready, c n3 old ready", "-a"),
        ("updateStrategy: {rollingUpdate: {maxUnavailable: 50%}}", all_old, "-a -b"),
        ("updateStrategy: {type: OnDelete}", all_old, ""),
        (surge, all_old, "+n1"),
        (surge, "a n1 old ready, x n1 new pending, b n2 old ready, c n3 old ready", ""),
        (surge, "a n1 old ready, x n1 new ready, b n2 old ready, c n3 old ready", "-a"),
        (surge, "a n1 old pending, b n2 old ready, c n3 new ready", "+n1 +n2"),
    ] {
        assert_eq!(acts(&plan(&set(spec), running)), expected, "{spec} {running}");
    }
}

#[test]
fn the_status_counts_nodes() {
    let template = "template: {spec: {nodeSelector: {on: 'yes'}}}";
    let mut all = nodes("n1 n2");
    all.extend(list("[{metadata: {name: n3, labels: {on: 'yes'}}}, {metadata: {name: n4, labels: {on: 'yes'}}}]"));
    let running = pods("a n1 new ready, b n3 new ready, c n4 old pending");
    let plan = decide(&set(template), &all, &running, "new", "2026-01-01T00:00:00Z".parse().unwrap());
    assert_eq!(acts(&plan), "-a");
    assert_eq!(
        plan.status,
        value(
            "{currentNumberScheduled: 2, numberMisscheduled: 1, desiredNumberScheduled: 2, numberReady: 1, \
             updatedNumberScheduled: 1, numberAvailable: 1, numberUnavailable: 1}"
        )
    );
}

#[test]
fn taints_keep_pods_away_and_some_send_them_away() {
    let tainted =
        |effect: &str| value(&format!("{{metadata: {{name: n}}, spec: {{taints: [{{key: k, effect: {effect}}}]}}}}"));
    let cordoned = value("{spec: {taints: [{key: node.kubernetes.io/unschedulable, effect: NoSchedule}]}}");
    let tolerant = set("template: {spec: {tolerations: [{operator: Exists}]}}");
    for (set, node, runs, stays) in [
        (set(""), tainted("NoSchedule"), false, true),
        (set(""), tainted("NoExecute"), false, false),
        (set(""), tainted("PreferNoSchedule"), true, true),
        (set(""), cordoned, true, true),
        (tolerant, tainted("NoExecute"), true, true),
        (set("template: {spec: {nodeName: other}}"), tainted("PreferNoSchedule"), false, false),
    ] {
        assert_eq!(place(&set, &node), Place { runs, stays }, "{node:?}");
    }
}

#[test]
fn a_daemon_pod_is_bound_to_its_node_and_keeps_its_other_affinities() {
    let preferred = "preferredDuringSchedulingIgnoredDuringExecution: [{weight: 1}]";
    let set = set(&format!("template: {{spec: {{affinity: {{nodeAffinity: {{{preferred}}}}}}}}}"));
    let pod = pod(&set, "n1", "h");
    assert_eq!(pod["metadata"]["generateName"].as_str(), Some("d-"));
    assert_eq!(
        pod["spec"]["affinity"],
        value(&format!(
            "{{nodeAffinity: {{{preferred}, requiredDuringSchedulingIgnoredDuringExecution: {{nodeSelectorTerms: \
             [{{matchFields: [{{key: metadata.name, operator: In, values: [n1]}}]}}]}}}}}}"
        ))
    );
    assert_eq!(pod["spec"]["tolerations"].items().len(), 6);
}
