//! Which pods go first when there are too many, as upstream's `ActivePods` and `ActivePodsWithRanks` order them.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::sync::Arc;

use druse_object::Value;
use jiff::Timestamp;

use super::pods::{controller_of, is_active, is_ready};
use super::report::{condition, time_at};

/// The annotation that says what deleting a pod costs.
const COST: &str = "controller.kubernetes.io/pod-deletion-cost";

/// Orders two pods: what is placed, runs, is ready, and has been so for longer goes later.
pub fn first_to_go(a: &Value, b: &Value) -> Ordering {
    progress(a)
        .cmp(&progress(b))
        .then_with(|| later_first(ready_since(a), ready_since(b)))
        .then_with(|| restarts(b).cmp(&restarts(a)))
        .then_with(|| later_first(made(a), made(b)))
}

/// Sorts the pods of a ReplicaSet, those that go first at the front: cost counts before crowding on a node, and ages
/// differ only by their order of magnitude. `related` are the pods of all ReplicaSets of the same owner.
pub fn sort_for_scale_down(pods: &mut [Arc<Value>], related: &[Arc<Value>], now: Timestamp) {
    let mut on: HashMap<&str, usize> = HashMap::new();
    for pod in related.iter().filter(|p| is_active(p)) {
        *on.entry(pod.str_at(["spec", "nodeName"]).unwrap_or_default()).or_default() += 1;
    }
    let crowd = |p: &Value| on.get(p.str_at(["spec", "nodeName"]).unwrap_or_default()).copied().unwrap_or(0);
    pods.sort_by(|a, b| {
        progress(a)
            .cmp(&progress(b))
            .then_with(|| cost(a).cmp(&cost(b)))
            .then_with(|| crowd(b).cmp(&crowd(a)))
            .then_with(|| magnitude(ready_since(a), now).cmp(&magnitude(ready_since(b), now)))
            .then_with(|| restarts(b).cmp(&restarts(a)))
            .then_with(|| magnitude(made(a), now).cmp(&magnitude(made(b), now)))
            .then_with(|| a.str_at(["metadata", "uid"]).cmp(&b.str_at(["metadata", "uid"])))
    });
}

/// Placed, running, ready.
fn progress(pod: &Value) -> (bool, u8, bool) {
    let placed = pod.str_at(["spec", "nodeName"]).is_some_and(|n| !n.is_empty());
    let phase = match pod.str_at(["status", "phase"]) {
        Some("Running") => 2,
        Some("Unknown") => 1,
        _ => 0,
    };
    (placed, phase, is_ready(pod))
}

fn cost(pod: &Value) -> i32 {
    pod["metadata"]["annotations"][COST].as_str().and_then(|c| c.parse().ok()).unwrap_or(0)
}

fn ready_since(pod: &Value) -> Option<Timestamp> {
    let ready = condition(pod["status"]["conditions"].items(), "Ready")?;
    time_at(&ready["lastTransitionTime"]).filter(|_| is_ready(pod))
}

fn made(pod: &Value) -> Option<Timestamp> {
    time_at(&pod["metadata"]["creationTimestamp"])
}

/// The most restarts of a container.
fn restarts(pod: &Value) -> i64 {
    pod["status"]["containerStatuses"].items().iter().filter_map(|c| c["restartCount"].as_i64()).max().unwrap_or(0)
}

/// What has no time goes first.
fn later_first(a: Option<Timestamp>, b: Option<Timestamp>) -> Ordering {
    b.is_none().cmp(&a.is_none()).then_with(|| b.cmp(&a))
}

/// The order of magnitude of an age; what has no time is youngest.
fn magnitude(since: Option<Timestamp>, now: Timestamp) -> i64 {
    let age = since.map_or(0, |t| now.duration_since(t).as_nanos());
    age.max(0).checked_ilog2().map_or(-1, i64::from)
}

/// Whether two ReplicaSets have the same controller.
pub fn same_owner(a: &Value, b: &Value) -> bool {
    let owner = |v: &Value| controller_of(v).map(|o| o["uid"].clone());
    owner(a).is_some() && owner(a) == owner(b)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::list;

    /// The names of pods in the order they go.
    fn order(pods: &str) -> Vec<String> {
        let mut pods = list(pods);
        let related = pods.clone();
        sort_for_scale_down(&mut pods, &related, "2026-01-10T00:00:00Z".parse().unwrap());
        pods.iter().filter_map(|p| p.str_at(["metadata", "name"]).map(str::to_owned)).collect()
    }

    fn pod(name: &str, node: &str, phase: &str, ready: &str, more: &str) -> String {
        format!(
            "{{metadata: {{name: {name}, uid: {name}, creationTimestamp: '2026-01-01T00:00:00Z', {more}}}, \
             spec: {{nodeName: '{node}'}}, status: {{phase: {phase}, conditions: [{ready}]}}}}"
        )
    }

    #[test]
    fn the_least_advanced_pods_go_first_then_the_cheap_the_crowded_and_the_young() {
        let ready = |t: &str| format!("{{type: Ready, status: 'True', lastTransitionTime: '{t}'}}");
        let old = ready("2026-01-01T00:00:00Z");
        let pods = [
            pod("a-old", "n1", "Running", &old, ""),
            pod("b-young", "n1", "Running", &ready("2026-01-09T23:59:00Z"), ""),
            pod("c-alone", "n2", "Running", &old, ""),
            pod("d-cheap", "n2", "Running", &old, "annotations: {controller.kubernetes.io/pod-deletion-cost: '-1'}"),
            pod("e-dear", "n1", "Running", &old, "annotations: {controller.kubernetes.io/pod-deletion-cost: '5'}"),
            pod("f-unready", "n1", "Running", "", ""),
            pod("g-pending", "n1", "Pending", "", ""),
            pod("h-unplaced", "", "Pending", "", ""),
        ];
        let expected = ["h-unplaced", "g-pending", "f-unready", "d-cheap", "b-young", "a-old", "c-alone", "e-dear"];
        assert_eq!(order(&format!("[{}]", pods.join(", "))), expected);
    }
}
