//! PodDisruptionBudget: how many pods there should be, how many are healthy, and how many may go.
//!
//! As upstream's `pkg/controller/disruption`. Evictions ask the status that is written here.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use druse_object::{Gvk, Map, Value, selector};
use druse_runtime::{Api, ApiError, Cache, Caches, Clock, Key, Manager, Next, Reconciler, Recorder};
use jiff::{SignedDuration, Timestamp};

use crate::kinds;
use crate::workloads::pods::{self, going, is_ready};
use crate::workloads::report::{Note, new_condition, set_in_place, time_at, write_status};

/// How long an eviction may take before the pod counts again.
const EVICTION: SignedDuration = SignedDuration::from_secs(120);

struct Controller {
    api: Api,
    budgets: Arc<Cache>,
    pods: Arc<Cache>,
    sets: Arc<Cache>,
    recorder: Recorder,
    clock: Clock,
}

pub(crate) fn start(manager: &Manager, caches: &Caches, clock: &Clock) {
    let (budgets, pods) = (caches.of(&kinds::budgets()), caches.of(&kinds::pods()));
    let controller = Controller {
        api: caches.api().clone(),
        budgets: budgets.clone(),
        pods: pods.clone(),
        sets: caches.of(&kinds::apps("ReplicaSet", "replicasets")),
        recorder: Recorder::new(caches.api().clone(), "controllermanager"),
        clock: clock.clone(),
    };
    let queue = manager.queue();
    manager.run("disruption", &queue, Arc::new(controller), 2);
    manager.watch(&queue, &budgets);
    manager.watch_mapped(&queue, &pods, move |c| {
        let concerns = |b: &&Arc<Value>| {
            let selects = |p: &Value| selector::selects(&b["spec"]["selector"], &p["metadata"]["labels"]);
            [&c.old, &c.new].into_iter().flatten().any(|p| selects(p))
        };
        budgets.in_namespace(&c.key.namespace).iter().filter(concerns).map(|b| Key::of(b)).collect()
    });
}

impl Reconciler for Controller {
    async fn reconcile(&self, key: Key) -> Next {
        let Some(budget) = self.budgets.get(&key) else { return Next::Wait };
        match self.sync(&key, &budget).await {
            Ok(again) => again.map_or(Next::Wait, Next::After),
            Err(e) => pods::outcome(Err(e)),
        }
    }
}

impl Controller {
    async fn sync(&self, key: &Key, budget: &Value) -> Result<Option<Duration>, ApiError> {
        let chosen = |p: &Arc<Value>| selector::selects(&budget["spec"]["selector"], &p["metadata"]["labels"]);
        let mut pods = self.pods.in_namespace(&key.namespace);
        pods.retain(chosen);
        if pods.is_empty() {
            Note::normal("NoPods", "No matching pods found").tell(&self.recorder, budget).await;
        }
        let now = self.clock.now();
        let (status, again) = match self.scale(key, budget, &pods).await? {
            Ok(scale) => {
                if scale.unmanaged > 0 {
                    Note::warning("UnmanagedPods", UNMANAGED).tell(&self.recorder, budget).await;
                }
                status(budget, &pods, &scale, now)
            }
            Err(why) => {
                let message = format!("Failed to calculate the number of expected pods: {why}");
                Note::warning("CalculateExpectedPodCountFailed", message).tell(&self.recorder, budget).await;
                (failed(budget, &why, now), None)
            }
        };
        write_status(&self.api, self.budgets.resource(), budget, status).await?;
        Ok(again)
    }

    /// How large what controls the pods is; the inner error says why that cannot be told.
    async fn scale(&self, key: &Key, budget: &Value, pods: &[Arc<Value>]) -> Result<Result<Scale, String>, ApiError> {
        let mut scale = Scale { pods: count(pods.len()), expected: 0, unmanaged: 0 };
        // A plain number of available pods needs nobody's size.
        if budget["spec"]["maxUnavailable"].is_null() && budget["spec"]["minAvailable"].as_i64().is_some() {
            scale.expected = scale.pods;
            return Ok(Ok(scale));
        }
        let mut sizes: BTreeMap<String, i64> = BTreeMap::new();
        for pod in pods {
            let Some(owner) = pods::controller_of(pod) else {
                scale.unmanaged += 1;
                continue;
            };
            let uid = owner["uid"].as_str().unwrap_or_default();
            if sizes.contains_key(uid) {
                continue;
            }
            match self.size(key, owner).await? {
                Some((of, size)) => sizes.insert(of, size),
                None => {
                    let name = Key::of(pod).name;
                    return Ok(Err(format!("found no controllers for pod \"{name}\"")));
                }
            };
        }
        scale.expected = sizes.values().sum();
        Ok(Ok(scale))
    }

    /// The size of a pod's controller, by its UID: that of the Deployment above a ReplicaSet, or what the kind's scale says.
    async fn size(&self, key: &Key, owner: &Value) -> Result<Option<(String, i64)>, ApiError> {
        let set = self.sets.get(&Key::new(key.namespace.clone(), owner["name"].as_str().unwrap_or_default()));
        let above = set.as_ref().filter(|s| s["metadata"]["uid"] == owner["uid"]).and_then(|s| pods::controller_of(s));
        let owner = above.unwrap_or(owner);
        let text = |field: &str| owner[field].as_str().unwrap_or_default();
        let resource = match self.api.resource(&Gvk::from_api_version(text("apiVersion"), text("kind"))).await {
            Err(e) if e.is_not_found() => return Ok(None),
            other => other?,
        };
        let path = resource.path(&key.namespace, text("name"), "scale");
        match self.api.request(http::Method::GET, &path, None, None).await {
            Ok(scale) => Ok(Some((text("uid").to_owned(), scale["spec"]["replicas"].as_i64().unwrap_or(0)))),
            Err(e) if e.is_not_found() => Ok(None),
            Err(e) => Err(e),
        }
    }
}

const UNMANAGED: &str = "Pods selected by this PodDisruptionBudget were found to be unmanaged. As a result, the status of \
                         the PDB cannot be calculated correctly, which may result in undefined behavior. To account for \
                         these pods please set \".spec.minAvailable\" field of the PDB to an integer value.";

/// The pods of a budget and what controls them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Scale {
    pods: i64,
    /// How many pods there should be.
    expected: i64,
    /// How many pods nothing controls.
    unmanaged: i64,
}

fn count(n: usize) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

/// The status of a budget, and when to look again because an eviction will have taken too long.
fn status(budget: &Value, pods: &[Arc<Value>], scale: &Scale, now: Timestamp) -> (Value, Option<Duration>) {
    let spec = &budget["spec"];
    let desired = if spec["maxUnavailable"].is_null() {
        pods::int_or_percent(&spec["minAvailable"], scale.expected, true, "0")
    } else {
        (scale.expected - pods::int_or_percent(&spec["maxUnavailable"], scale.expected, true, "0")).max(0)
    };
    let mut disrupted = Map::new();
    let mut again = None;
    for pod in pods.iter().filter(|p| !going(p)) {
        let name = pod.str_at(["metadata", "name"]).unwrap_or_default();
        let since = &budget["status"]["disruptedPods"][name];
        let left = time_at(since).map(|t| EVICTION - now.duration_since(t)).filter(|left| left.is_positive());
        if let Some(left) = left.and_then(|l| Duration::try_from(l).ok()) {
            disrupted.insert(name, since.clone());
            again = Some(again.map_or(left, |other: Duration| other.min(left)));
        }
    }
    let healthy = |p: &&Arc<Value>| {
        !going(p) && is_ready(p) && !disrupted.contains_key(p.str_at(["metadata", "name"]).unwrap_or_default())
    };
    let healthy = count(pods.iter().filter(healthy).count());
    let allowed = if scale.expected <= 0 { 0 } else { (healthy - desired).max(0) };
    let mut m = Map::new();
    if let Some(generation) = budget["metadata"]["generation"].as_i64() {
        m.insert("observedGeneration", generation);
    }
    if !disrupted.is_empty() {
        m.insert("disruptedPods", disrupted);
    }
    for (field, n) in [
        ("disruptionsAllowed", allowed),
        ("currentHealthy", healthy),
        ("desiredHealthy", desired),
        ("expectedPods", scale.expected),
    ] {
        m.insert(field, n);
    }
    let observed = &budget["metadata"]["generation"];
    let (holds, reason) = if allowed > 0 { (true, "SufficientPods") } else { (false, "InsufficientPods") };
    m.insert("conditions", conditions(budget, holds, reason, "", observed, now));
    (Value::Map(m), again)
}

/// The status of a budget that cannot be judged: nothing may be evicted.
fn failed(budget: &Value, why: &str, now: Timestamp) -> Value {
    let mut status = budget["status"].clone();
    let observed = &budget["status"]["observedGeneration"];
    if let Some(m) = status.make_map() {
        m.insert("disruptionsAllowed", 0);
        for field in ["currentHealthy", "desiredHealthy", "expectedPods"] {
            if !m.contains_key(field) {
                m.insert(field, 0);
            }
        }
        m.insert("conditions", conditions(budget, false, "SyncFailed", why, observed, now));
    }
    status
}

fn conditions(
    budget: &Value,
    holds: bool,
    reason: &str,
    message: &str,
    observed: &Value,
    now: Timestamp,
) -> Vec<Value> {
    const KIND: &str = "DisruptionAllowed";
    let mut all = budget["status"]["conditions"].items().to_vec();
    let mut new = new_condition(KIND, holds, reason, message, &["lastTransitionTime"], now);
    if let Some(m) = new.as_map_mut()
        && observed.as_i64().is_some_and(|g| g != 0)
    {
        m.insert("observedGeneration", observed.clone());
    }
    set_in_place(&mut all, new);
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{list, value};

    /// Five pods, of which one is not ready, one was evicted and one was evicted too long ago.
    const PODS: &str = "
- {metadata: {name: a}, status: {conditions: [{type: Ready, status: 'True'}]}}
- {metadata: {name: b}, status: {conditions: [{type: Ready, status: 'True'}]}}
- {metadata: {name: unready}}
- {metadata: {name: evicted}, status: {conditions: [{type: Ready, status: 'True'}]}}
- {metadata: {name: stayed}, status: {conditions: [{type: Ready, status: 'True'}]}}";

    #[test]
    fn a_budget_counts_healthy_pods_against_those_that_should_be() {
        let now = "2026-01-01T00:10:00Z".parse().unwrap();
        let evicted = "disruptedPods: {evicted: '2026-01-01T00:09:00Z', stayed: '2026-01-01T00:05:00Z', gone: '2026-01-01T00:09:00Z'}";
        for (spec, expected, desired, allowed) in [
            ("maxUnavailable: 1", 5, 4, 0),
            ("maxUnavailable: 3", 5, 2, 1),
            ("maxUnavailable: 50%", 5, 2, 1),
            ("maxUnavailable: 9", 5, 0, 3),
            ("minAvailable: 1", 5, 1, 2),
            ("minAvailable: 50%", 5, 3, 0),
            ("minAvailable: 0", 0, 0, 0),
        ] {
            let budget = value(&format!("{{metadata: {{generation: 1}}, spec: {{{spec}}}, status: {{{evicted}}}}}"));
            let scale = Scale { pods: 5, expected, unmanaged: 0 };
            let (status, again) = status(&budget, &list(PODS), &scale, now);
            let number = |f: &str| status[f].as_i64().unwrap_or(-1);
            assert_eq!(
                (
                    number("expectedPods"),
                    number("currentHealthy"),
                    number("desiredHealthy"),
                    number("disruptionsAllowed")
                ),
                (expected, 3, desired, allowed),
                "{spec}"
            );
            assert_eq!(status["disruptedPods"], value("{evicted: '2026-01-01T00:09:00Z'}"));
            assert_eq!(again.map(|d| d.as_secs()), Some(60));
            let reason = if allowed > 0 { "SufficientPods" } else { "InsufficientPods" };
            assert_eq!(status["conditions"].items()[0]["reason"].as_str(), Some(reason), "{spec}");
        }
    }

    #[test]
    fn a_budget_that_cannot_be_judged_allows_nothing_and_says_why() {
        let now = "2026-01-01T00:10:00Z".parse().unwrap();
        let status = failed(&value("{status: {disruptionsAllowed: 2, currentHealthy: 3}}"), "no size", now);
        assert_eq!(
            status,
            value(
                "{disruptionsAllowed: 0, currentHealthy: 3, desiredHealthy: 0, expectedPods: 0, conditions: [{type: \
                 DisruptionAllowed, status: 'False', lastTransitionTime: '2026-01-01T00:10:00Z', reason: SyncFailed, \
                 message: no size}]}"
            )
        );
    }
}
