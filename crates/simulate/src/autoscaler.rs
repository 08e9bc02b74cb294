//! HorizontalPodAutoscaler: keeps its target within bounds. No metrics are served here, and it says so.
//!
//! As upstream's `pkg/controller/podautoscaler` does where the metrics APIs are not installed: a target below
//! `minReplicas` or above `maxReplicas` is scaled, one at zero is left alone, and any other stays as it is while the
//! condition `ScalingActive` names the metric that cannot be had.

use std::sync::Arc;
use std::time::Duration;

use druse_object::{Gvk, Map, Value};
use druse_runtime::{
    Api, ApiError, Cache, Caches, Clock, Key, Manager, Next, Patch, Reconciler, Recorder, Resource, clock,
};
use jiff::Timestamp;
use serde_json::json;

use crate::kinds;
use crate::workloads::pods;
use crate::workloads::report::{Note, new_condition, set_in_place, write_status};

/// How often an autoscaler looks.
const PERIOD: Duration = Duration::from_secs(15);

struct Controller {
    api: Api,
    autoscalers: Arc<Cache>,
    recorder: Recorder,
    clock: Clock,
}

pub(crate) fn start(manager: &Manager, caches: &Caches, clock: &Clock) {
    let autoscalers = caches.of(&kinds::autoscalers());
    let controller = Controller {
        api: caches.api().clone(),
        autoscalers: autoscalers.clone(),
        recorder: Recorder::new(caches.api().clone(), "horizontal-pod-autoscaler"),
        clock: clock.clone(),
    };
    let queue = manager.queue();
    manager.run("autoscaler", &queue, Arc::new(controller), 2);
    // Its own reports bring nothing new.
    manager.watch_mapped(&queue, &autoscalers, |c| {
        let spec = |v: &Option<Arc<Value>>| v.as_ref().map(|v| v["spec"].clone());
        if spec(&c.old) == spec(&c.new) { Vec::new() } else { vec![c.key.clone()] }
    });
    for target in [kinds::apps("Deployment", "deployments"), kinds::apps("StatefulSet", "statefulsets")] {
        let (autoscalers, kind) = (autoscalers.clone(), target.gvk.kind.clone());
        manager.watch_mapped(&queue, &caches.of(&target), move |c| {
            // One that is resized is looked at when its time comes.
            if c.old.is_some() {
                return Vec::new();
            }
            let concerns = |a: &&Arc<Value>| {
                let target = &a["spec"]["scaleTargetRef"];
                target["kind"].as_str() == Some(&kind) && target["name"].as_str() == Some(&c.key.name)
            };
            autoscalers.in_namespace(&c.key.namespace).iter().filter(concerns).map(|a| Key::of(a)).collect()
        });
    }
}

impl Reconciler for Controller {
    async fn reconcile(&self, key: Key) -> Next {
        let Some(autoscaler) = self.autoscalers.get(&key).filter(|a| !pods::going(a)) else { return Next::Wait };
        match self.sync(&key, &autoscaler).await {
            Ok(()) => Next::After(PERIOD),
            Err(e) => pods::outcome(Err(e)),
        }
    }
}

impl Controller {
    async fn sync(&self, key: &Key, autoscaler: &Value) -> Result<(), ApiError> {
        let now = self.clock.now();
        let mut report = Report::new(autoscaler, now);
        match self.target(key, autoscaler).await {
            Ok((resource, scale)) => {
                let outcome = decide(autoscaler, &scale, &mut report);
                if let Some((replicas, reason)) = outcome {
                    self.resize(key, autoscaler, &resource, (replicas, reason), &mut report).await?;
                }
            }
            Err(e) => {
                report.note(Note::warning("FailedGetScale", e.to_string()));
                let why = format!("the HPA controller was unable to get the target's current scale: {e}");
                report.set("AbleToScale", false, "FailedGetScale", &why);
            }
        }
        let (status, notes) = report.finish();
        for note in notes {
            note.tell(&self.recorder, autoscaler).await;
        }
        write_status(&self.api, self.autoscalers.resource(), autoscaler, status).await.map(|_| ())
    }

    /// What is scaled, and its scale.
    async fn target(&self, key: &Key, autoscaler: &Value) -> Result<(Resource, Value), ApiError> {
        let target = &autoscaler["spec"]["scaleTargetRef"];
        let text = |field: &str| target[field].as_str().unwrap_or_default();
        let resource = self.api.resource(&Gvk::from_api_version(text("apiVersion"), text("kind"))).await?;
        let path = resource.path(&key.namespace, text("name"), "scale");
        let scale = self.api.request(http::Method::GET, &path, None, None).await?;
        Ok((resource, scale))
    }

    async fn resize(
        &self,
        key: &Key,
        autoscaler: &Value,
        resource: &Resource,
        (replicas, reason): (i64, &str),
        report: &mut Report<'_>,
    ) -> Result<(), ApiError> {
        let name = autoscaler["spec"]["scaleTargetRef"]["name"].as_str().unwrap_or_default();
        let body = Value::from(json!({"spec": {"replicas": replicas}}));
        match self.api.patch(resource, &key.namespace, name, "scale", Patch::Merge, &body).await {
            Ok(_) => {
                let message = format!("the HPA controller was able to update the target scale to {replicas}");
                report.set("AbleToScale", true, "SucceededRescale", &message);
                report.note(Note::normal("SuccessfulRescale", format!("New size: {replicas}; reason: {reason}")));
                report.resized(replicas);
            }
            Err(e) => {
                let message = format!("New size: {replicas}; reason: {reason}; error: {e}");
                report.note(Note::warning("FailedRescale", message));
                let why = format!("the HPA controller was unable to update the target scale: {e}");
                report.set("AbleToScale", false, "FailedUpdateScale", &why);
            }
        }
        Ok(())
    }
}

/// Looks at a target's scale; returns the size it is to get, and why.
fn decide(autoscaler: &Value, scale: &Value, report: &mut Report<'_>) -> Option<(i64, &'static str)> {
    let spec = &autoscaler["spec"];
    let current = scale["spec"]["replicas"].as_i64().unwrap_or(0);
    let least = spec["minReplicas"].as_i64().unwrap_or(1);
    let most = spec["maxReplicas"].as_i64().unwrap_or(i64::MAX);
    let message = "the HPA controller was able to get the target's current scale";
    report.set("AbleToScale", true, "SucceededGetScale", message);
    report.current = Some(current);
    if current == 0 && least != 0 {
        let message = "scaling is disabled since the replica count of the target is zero";
        report.set("ScalingActive", false, "ScalingDisabled", message);
        report.desired = Some(0);
        return None;
    }
    if current > most {
        return Some((most, "Current number of replicas above Spec.MaxReplicas"));
    }
    if current < least {
        return Some((least, "Current number of replicas below Spec.MinReplicas"));
    }
    if scale.str_at(["status", "selector"]).is_none_or(str::is_empty) {
        report.note(Note::warning("SelectorRequired", "selector is required"));
        let message = "the HPA target's scale is missing a selector";
        report.set("ScalingActive", false, "InvalidSelector", message);
        report.note(Note::warning("FailedComputeMetricsReplicas", "selector is required"));
        return None;
    }
    let metrics = spec["metrics"].items();
    let missing: Vec<Missing> = metrics.iter().map(Missing::of).collect();
    for m in &missing {
        report.note(Note::warning(m.reason, m.why.as_str()));
    }
    if let Some(first) = missing.first() {
        let why = format!("the HPA was unable to compute the replica count: {}", first.why);
        report.set("ScalingActive", false, first.reason, &why);
        let all = metrics.len();
        let first = &first.first_error;
        let message = format!("invalid metrics ({all} invalid out of {all}), first error is: {first}");
        report.note(Note::warning("FailedComputeMetricsReplicas", message));
    }
    report.metrics = missing.len();
    None
}

/// A metric that cannot be had.
struct Missing {
    reason: &'static str,
    why: String,
    /// As it is told when it is the first.
    first_error: String,
}

impl Missing {
    fn of(metric: &Value) -> Self {
        let kind = metric["type"].as_str().unwrap_or_default();
        let (field, reason) = match kind {
            "Resource" => ("resource", "FailedGetResourceMetric"),
            "ContainerResource" => ("containerResource", "FailedGetContainerResourceMetric"),
            "Pods" => ("pods", "FailedGetPodsMetric"),
            "Object" => ("object", "FailedGetObjectMetric"),
            _ => ("external", "FailedGetExternalMetric"),
        };
        let source = &metric[field];
        let name = source["name"].as_str().or(source["metric"]["name"].as_str()).unwrap_or_default();
        let resources = "unable to fetch metrics from resource metrics API: the server could not find the requested \
                         resource (get pods.metrics.k8s.io)";
        let custom = "unable to fetch metrics from custom metrics API: no custom metrics API (custom.metrics.k8s.io) \
                      registered";
        let (why, what) = match kind {
            "Resource" | "ContainerResource" => {
                let measure = if source["target"]["averageValue"].is_null() { "utilization" } else { "usage" };
                let why =
                    format!("failed to get {name} {measure}: unable to get metrics for resource {name}: {resources}");
                let what = if kind == "Resource" {
                    format!("{name} resource")
                } else {
                    format!("{} container", source["container"].as_str().unwrap_or_default())
                };
                (why, what)
            }
            "Pods" => (format!("unable to get metric {name}: {custom}"), "pods".to_owned()),
            "Object" => {
                let about = &source["describedObject"];
                let text = |f: &str| about[f].as_str().unwrap_or_default();
                (
                    format!("unable to get metric {name}: {custom} on {} {}", text("kind"), text("name")),
                    "object".to_owned(),
                )
            }
            _ => {
                let why = format!(
                    "unable to get external metric {name}: unable to fetch metrics from external metrics API: the server \
                     could not find the requested resource (get {name}.external.metrics.k8s.io)"
                );
                (why, format!("{name} external"))
            }
        };
        let first_error = format!("failed to get {what} metric value: {why}");
        Self { reason, why, first_error }
    }
}

/// What an autoscaler says.
struct Report<'a> {
    autoscaler: &'a Value,
    now: Timestamp,
    conditions: Vec<Value>,
    notes: Vec<Note>,
    current: Option<i64>,
    desired: Option<i64>,
    rescaled: bool,
    /// How many metrics were looked at, of which nothing is known.
    metrics: usize,
}

impl<'a> Report<'a> {
    fn new(autoscaler: &'a Value, now: Timestamp) -> Self {
        let conditions = autoscaler["status"]["conditions"].items().to_vec();
        Self {
            autoscaler,
            now,
            conditions,
            notes: Vec::new(),
            current: None,
            desired: None,
            rescaled: false,
            metrics: 0,
        }
    }

    fn note(&mut self, note: Note) {
        self.notes.push(note);
    }

    fn resized(&mut self, replicas: i64) {
        self.desired = Some(replicas);
        self.rescaled = true;
    }

    fn set(&mut self, kind: &str, holds: bool, reason: &str, message: &str) {
        let new = new_condition(kind, holds, reason, message, &["lastTransitionTime"], self.now);
        set_in_place(&mut self.conditions, new);
    }

    fn finish(self) -> (Value, Vec<Note>) {
        let old = &self.autoscaler["status"];
        let mut m = Map::new();
        if self.rescaled {
            m.insert("lastScaleTime", clock::text(self.now));
        } else if !old["lastScaleTime"].is_null() {
            m.insert("lastScaleTime", old["lastScaleTime"].clone());
        }
        let number = |new: Option<i64>, field: &str| new.or_else(|| old[field].as_i64()).unwrap_or(0);
        let current = number(self.current, "currentReplicas");
        if current != 0 {
            m.insert("currentReplicas", current);
        }
        m.insert("desiredReplicas", number(self.desired, "desiredReplicas"));
        let metrics = match self.metrics {
            0 => Value::Null,
            n => Value::Array(vec![Value::from(json!({"type": ""})); n]),
        };
        m.insert("currentMetrics", metrics);
        m.insert("conditions", self.conditions);
        (Value::Map(m), self.notes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::value;

    #[test]
    fn a_target_is_kept_within_bounds_and_otherwise_left_alone_for_want_of_metrics() {
        let now = "2026-01-01T00:00:00Z".parse().unwrap();
        let autoscaler = value(
            "spec:
  minReplicas: 2
  maxReplicas: 4
  metrics: [{type: Resource, resource: {name: cpu, target: {type: Utilization, averageUtilization: 80}}}]
status: {desiredReplicas: 3}",
        );
        for (replicas, selector, resize, reason, desired) in [
            (1, "app=a", Some(2), None, 3),
            (9, "app=a", Some(4), None, 3),
            (0, "app=a", None, Some("ScalingDisabled"), 0),
            (3, "app=a", None, Some("FailedGetResourceMetric"), 3),
            (3, "", None, Some("InvalidSelector"), 3),
        ] {
            let scale = value(&format!("{{spec: {{replicas: {replicas}}}, status: {{selector: '{selector}'}}}}"));
            let mut report = Report::new(&autoscaler, now);
            assert_eq!(decide(&autoscaler, &scale, &mut report).map(|(n, _)| n), resize, "{replicas}");
            let (status, _) = report.finish();
            let active = status["conditions"].items().iter().find(|c| c["type"].as_str() == Some("ScalingActive"));
            assert_eq!(active.and_then(|c| c["reason"].as_str()), reason, "{replicas}");
            assert_eq!(status["desiredReplicas"].as_i64(), Some(desired), "{replicas}");
        }
    }

    #[test]
    fn a_missing_metric_is_told_in_full() {
        let metric = value("{type: Resource, resource: {name: memory, target: {averageValue: 1Gi}}}");
        let missing = Missing::of(&metric);
        let why = "failed to get memory usage: unable to get metrics for resource memory: unable to fetch metrics from \
                   resource metrics API: the server could not find the requested resource (get pods.metrics.k8s.io)";
        assert_eq!(missing.why, why);
        assert_eq!(missing.first_error, format!("failed to get memory resource metric value: {why}"));
    }
}
