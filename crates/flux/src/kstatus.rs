//! Whether an object has become what it was declared to be, from its own status (kstatus of fluxcd/cli-utils).

use druse_object::Value;

/// What an object's status says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Status {
    /// Someone still works on it.
    InProgress,
    /// It cannot become what it was declared to be.
    Failed,
    /// It is what it was declared to be.
    Current,
    /// It is being deleted.
    Terminating,
    /// It does not exist (only given by callers; an object at hand is never this).
    NotFound,
    /// Nothing can be said.
    Unknown,
}

impl std::fmt::Display for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::InProgress => "InProgress",
            Self::Failed => "Failed",
            Self::Current => "Current",
            Self::Terminating => "Terminating",
            Self::NotFound => "NotFound",
            Self::Unknown => "Unknown",
        })
    }
}

/// A status with its reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// The status.
    pub status: Status,
    /// A word for it; empty for `Current`.
    pub reason: String,
    /// A sentence for it.
    pub message: String,
}

fn current(message: impl Into<String>) -> Health {
    Health { status: Status::Current, reason: String::new(), message: message.into() }
}

fn in_progress(reason: impl Into<String>, message: impl Into<String>) -> Health {
    Health { status: Status::InProgress, reason: reason.into(), message: message.into() }
}

fn failed(reason: impl Into<String>, message: impl Into<String>) -> Health {
    Health { status: Status::Failed, reason: reason.into(), message: message.into() }
}

/// Works out an object's status. `age_seconds` is how long ago it was created, where known: a Pod counts as
/// unschedulable only after 15 seconds.
#[must_use]
pub fn compute(object: &Value, age_seconds: Option<u64>) -> Health {
    if let Some(health) = generic(object) {
        return health;
    }
    let kind = object.str_at(["kind"]).unwrap_or_default();
    let group = object.str_at(["apiVersion"]).and_then(|v| v.split_once('/')).map_or("", |(g, _)| g);
    match (group, kind) {
        ("", "Service") => service(object),
        ("", "Pod") => pod(object, age_seconds),
        ("", "Secret" | "ConfigMap") | ("batch", "CronJob") => current("Resource is always ready"),
        ("", "PersistentVolumeClaim") => pvc(object),
        ("apps", "StatefulSet") => stateful_set(object),
        ("apps" | "extensions", "DaemonSet") => daemon_set(object),
        ("apps" | "extensions", "Deployment") => deployment(object),
        ("apps" | "extensions", "ReplicaSet") => replica_set(object),
        ("policy", "PodDisruptionBudget") => current("AllowedDisruptions has been computed."),
        ("batch", "Job") => job(object),
        ("apiextensions.k8s.io", "CustomResourceDefinition") => crd(object),
        _ => ready_condition(object).unwrap_or_else(|| current("Resource is current")),
    }
}

fn int<const N: usize>(object: &Value, path: [&str; N], default: i64) -> i64 {
    object.at(path).and_then(Value::as_i64).unwrap_or(default)
}

struct Condition<'a> {
    kind: &'a str,
    status: &'a str,
    reason: &'a str,
    message: &'a str,
}

fn conditions(object: &Value) -> impl Iterator<Item = Condition<'_>> {
    object.at(["status", "conditions"]).map_or(&[][..], Value::items).iter().map(|c| {
        let text = |key: &str| c.get(key).and_then(Value::as_str).unwrap_or_default();
        Condition { kind: text("type"), status: text("status"), reason: text("reason"), message: text("message") }
    })
}

fn generic(object: &Value) -> Option<Health> {
    if object.str_at(["metadata", "deletionTimestamp"]).is_some_and(|t| !t.is_empty()) {
        return Some(Health {
            status: Status::Terminating,
            reason: "Terminating".into(),
            message: "Resource scheduled for deletion".into(),
        });
    }
    let generation = object.at(["metadata", "generation"]).and_then(Value::as_i64);
    let observed = object.at(["status", "observedGeneration"]).and_then(Value::as_i64);
    if let (Some(generation), Some(observed)) = (generation, observed)
        && generation != observed
    {
        let kind = object.str_at(["kind"]).unwrap_or_default();
        return Some(in_progress(
            "LatestGenerationNotObserved",
            format!("{kind} generation is {generation}, but latest observed generation is {observed}"),
        ));
    }
    conditions(object).find_map(|c| match (c.kind, c.status) {
        ("Reconciling", "True") => Some(in_progress(c.reason, c.message)),
        ("Stalled", "True") => Some(failed(c.reason, c.message)),
        _ => None,
    })
}

fn ready_condition(object: &Value) -> Option<Health> {
    conditions(object).filter(|c| c.kind == "Ready").find_map(|c| match c.status {
        "True" => Some(current("Resource is Ready")),
        "False" | "Unknown" => Some(in_progress(c.reason, c.message)),
        _ => None,
    })
}

fn service(object: &Value) -> Health {
    if object.str_at(["spec", "type"]) == Some("LoadBalancer")
        && object.str_at(["spec", "clusterIP"]).unwrap_or_default().is_empty()
    {
        return in_progress("NoIPAssigned", "ClusterIP not set. Service type: LoadBalancer");
    }
    current("Service is ready")
}

fn pvc(object: &Value) -> Health {
    match object.str_at(["status", "phase"]).unwrap_or("unknown") {
        "Bound" => current("PVC is Bound"),
        phase => in_progress("NotBound", format!("PVC is not Bound. phase: {phase}")),
    }
}

fn pod(object: &Value, age_seconds: Option<u64>) -> Health {
    match object.str_at(["status", "phase"]).unwrap_or_default() {
        "Succeeded" => current("Pod has completed successfully"),
        "Failed" => current("Pod has completed, but not successfully"),
        "Running" => {
            if conditions(object).any(|c| c.kind == "Ready" && c.status == "True") {
                return current("Pod is Ready");
            }
            let crashing: Vec<&str> = object
                .at(["status", "containerStatuses"])
                .map_or(&[][..], Value::items)
                .iter()
                .filter(|c| c.str_at(["state", "waiting", "reason"]) == Some("CrashLoopBackOff"))
                .filter_map(|c| c.str_at(["name"]))
                .collect();
            if crashing.is_empty() {
                in_progress("PodRunningNotReady", "Pod is running but is not Ready")
            } else {
                failed("ContainerCrashLooping", format!("Containers in CrashLoop state: {}", crashing.join(",")))
            }
        }
        "Pending" => {
            let unschedulable = conditions(object)
                .any(|c| c.kind == "PodScheduled" && c.status == "False" && c.reason == "Unschedulable");
            match (unschedulable, age_seconds) {
                (true, Some(age)) if age < 15 => in_progress("PodNotScheduled", "Pod has not been scheduled"),
                (true, _) => failed("PodUnschedulable", "Pod could not be scheduled"),
                (false, _) => in_progress("PodPending", "Pod is in the Pending phase"),
            }
        }
        _ => in_progress("PodNotObserved", "Pod phase not available"),
    }
}

fn stateful_set(object: &Value) -> Health {
    if object.str_at(["spec", "updateStrategy", "type"]) == Some("OnDelete") {
        return current("StatefulSet is using the ondelete update strategy");
    }
    let wanted = int(object, ["spec", "replicas"], 1);
    let status = |field| int(object, ["status", field], 0);
    let (replicas, ready) = (status("replicas"), status("readyReplicas"));
    let (present, updated) = (status("currentReplicas"), status("updatedReplicas"));
    let partition = int(object, ["spec", "updateStrategy", "rollingUpdate", "partition"], -1);
    if wanted > replicas {
        return in_progress("LessReplicas", format!("Replicas: {replicas}/{wanted}"));
    }
    if wanted > ready {
        return in_progress("LessReady", format!("Ready: {ready}/{wanted}"));
    }
    if replicas > wanted {
        return in_progress("ExtraPods", format!("Pending termination: {}", replicas - wanted));
    }
    if partition != -1 {
        let due = wanted.saturating_sub(partition);
        if updated < due {
            return in_progress("PartitionRollout", format!("updated: {updated}/{due}"));
        }
        return current(format!("Partition rollout complete. updated: {updated}"));
    }
    if wanted > present {
        return in_progress("LessCurrent", format!("current: {present}/{wanted}"));
    }
    let revision = |field| object.str_at(["status", field]).unwrap_or_default();
    if revision("currentRevision") != revision("updateRevision") {
        return in_progress("RevisionMismatch", "Waiting for updated revision to match current");
    }
    current(format!("All replicas scheduled as expected. Replicas: {replicas}"))
}

fn deployment(object: &Value) -> Health {
    // Without a deadline (or with the largest, which means none) no Progressing condition is ever written.
    let mut progressing = int(object, ["spec", "progressDeadlineSeconds"], i64::from(i32::MAX)) == i64::from(i32::MAX);
    let mut available = false;
    for c in conditions(object) {
        match c.kind {
            "Progressing" if c.reason == "ProgressDeadlineExceeded" => {
                return failed(c.reason, "Progress deadline exceeded");
            }
            "Progressing" if c.status == "True" && c.reason == "NewReplicaSetAvailable" => progressing = true,
            "Available" if c.status == "True" => available = true,
            _ => {}
        }
    }
    let wanted = int(object, ["spec", "replicas"], 1);
    let status = |field| int(object, ["status", field], 0);
    let (replicas, updated) = (status("replicas"), status("updatedReplicas"));
    let (ready, usable) = (status("readyReplicas"), status("availableReplicas"));
    if wanted > replicas {
        return in_progress("LessReplicas", format!("Replicas: {replicas}/{wanted}"));
    }
    if wanted > updated {
        return in_progress("LessUpdated", format!("Updated: {updated}/{wanted}"));
    }
    if replicas > wanted {
        return in_progress("ExtraPods", format!("Pending termination: {}", replicas - wanted));
    }
    if updated > usable {
        return in_progress("LessAvailable", format!("Available: {usable}/{updated}"));
    }
    if wanted > ready {
        return in_progress("LessReady", format!("Ready: {ready}/{wanted}"));
    }
    if !progressing {
        return in_progress("ReplicaSetNotAvailable", "ReplicaSet not Available");
    }
    if !available {
        return in_progress("DeploymentNotAvailable", "Deployment not Available");
    }
    current(format!("Deployment is available. Replicas: {replicas}"))
}

fn replica_set(object: &Value) -> Health {
    if conditions(object).any(|c| c.kind == "ReplicaFailure" && c.status == "True") {
        return in_progress("ReplicaFailure", "Replica Failure condition. Check Pods");
    }
    let wanted = int(object, ["spec", "replicas"], 1);
    let status = |field| int(object, ["status", field], 0);
    let replicas = status("replicas");
    for (field, reason, word) in [
        ("fullyLabeledReplicas", "LessLabelled", "Labelled"),
        ("availableReplicas", "LessAvailable", "Available"),
        ("readyReplicas", "LessReady", "Ready"),
    ] {
        let n = status(field);
        if wanted > n {
            return in_progress(reason, format!("{word}: {n}/{wanted}"));
        }
    }
    if replicas > wanted {
        return in_progress("ExtraPods", format!("Pending termination: {}", replicas - wanted));
    }
    current(format!("ReplicaSet is available. Replicas: {replicas}"))
}

fn daemon_set(object: &Value) -> Health {
    for (path, field, reason) in [
        (["metadata", "generation"], "metadata.generation", "NoGeneration"),
        (["status", "observedGeneration"], "status.observedGeneration", "NoObservedGeneration"),
    ] {
        if object.at(path).and_then(Value::as_i64).is_none() {
            return in_progress(reason, format!("DaemonSet {field} not found"));
        }
    }
    let desired = int(object, ["status", "desiredNumberScheduled"], -1);
    if desired == -1 {
        return in_progress("NoDesiredNumber", "Missing .status.desiredNumberScheduled");
    }
    for (field, reason, word) in [
        ("currentNumberScheduled", "LessCurrent", "Current"),
        ("updatedNumberScheduled", "LessUpdated", "Updated"),
        ("numberAvailable", "LessAvailable", "Available"),
        ("numberReady", "LessReady", "Ready"),
    ] {
        let n = int(object, ["status", field], 0);
        if desired > n {
            return in_progress(reason, format!("{word}: {n}/{desired}"));
        }
    }
    current(format!("All replicas scheduled as expected. Replicas: {desired}"))
}

fn job(object: &Value) -> Health {
    let parallelism = int(object, ["spec", "parallelism"], 1);
    let completions = int(object, ["spec", "completions"], parallelism);
    let status = |field| int(object, ["status", field], 0);
    let (succeeded, active, failures) = (status("succeeded"), status("active"), status("failed"));
    for c in conditions(object).filter(|c| c.status == "True") {
        match c.kind {
            "Complete" => return current(format!("Job Completed. succeeded: {succeeded}/{completions}")),
            "Failed" => return failed("JobFailed", format!("Job Failed. failed: {failures}/{completions}")),
            _ => {}
        }
    }
    if object.str_at(["status", "startTime"]).unwrap_or_default().is_empty() {
        return in_progress("JobNotStarted", "Job not started");
    }
    current(format!("Job in progress. success:{succeeded}, active: {active}, failed: {failures}"))
}

/// A Job's status where completion is waited for, as Flux' controllers do: a running Job is not current.
#[must_use]
pub fn compute_job_completed(object: &Value) -> Health {
    let health = compute(object, None);
    let done = conditions(object).any(|c| matches!(c.kind, "Complete" | "Failed") && c.status == "True");
    if health.status == Status::Current && !done {
        return in_progress("JobInProgress", health.message);
    }
    health
}

fn crd(object: &Value) -> Health {
    for c in conditions(object) {
        match (c.kind, c.status) {
            ("NamesAccepted", "False") => return failed(c.reason, c.message),
            ("Established", "False") if c.reason != "Installing" => return failed(c.reason, c.message),
            ("Established", "True") => return current("CRD is established"),
            _ => {}
        }
    }
    in_progress("Installing", "Install in progress")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(json: &str) -> (Status, String) {
        let health = compute(&druse_object::json::parse(json.as_bytes()).unwrap(), None);
        (health.status, health.message)
    }

    #[test]
    fn workloads_follow_their_counts() {
        let deployment = |status: &str| {
            format!(
                r#"{{"apiVersion":"apps/v1","kind":"Deployment","metadata":{{"generation":2}},
                "spec":{{"replicas":2,"progressDeadlineSeconds":600}},"status":{status}}}"#
            )
        };
        assert_eq!(
            status(&deployment(r#"{"observedGeneration":1}"#)),
            (Status::InProgress, "Deployment generation is 2, but latest observed generation is 1".into())
        );
        assert_eq!(
            status(&deployment(r#"{"observedGeneration":2,"replicas":2,"updatedReplicas":1}"#)),
            (Status::InProgress, "Updated: 1/2".into())
        );
        assert_eq!(
            status(&deployment(
                r#"{"observedGeneration":2,"replicas":2,"updatedReplicas":2,"readyReplicas":2,"availableReplicas":2,
                "conditions":[{"type":"Progressing","status":"True","reason":"NewReplicaSetAvailable"},
                {"type":"Available","status":"True"}]}"#
            )),
            (Status::Current, "Deployment is available. Replicas: 2".into())
        );
        assert_eq!(
            status(r#"{"apiVersion":"apps/v1","kind":"DaemonSet","metadata":{"generation":1}}"#).0,
            Status::InProgress
        );
    }

    #[test]
    fn custom_resources_follow_their_conditions() {
        let cr = |conditions: &str| {
            format!(r#"{{"apiVersion":"x.io/v1","kind":"X","status":{{"conditions":[{conditions}]}}}}"#)
        };
        assert_eq!(status(&cr("")).0, Status::Current);
        assert_eq!(status(&cr(r#"{"type":"Ready","status":"False","message":"m"}"#)), (Status::InProgress, "m".into()));
        assert_eq!(status(&cr(r#"{"type":"Stalled","status":"True","message":"m"}"#)), (Status::Failed, "m".into()));
        assert_eq!(status(&cr(r#"{"type":"Ready","status":"True"}"#)).0, Status::Current);
    }

    #[test]
    fn a_running_job_is_current_but_not_completed() {
        let job = druse_object::json::parse(
            br#"{"apiVersion":"batch/v1","kind":"Job","status":{"startTime":"t","active":1}}"#,
        )
        .unwrap();
        assert_eq!(compute(&job, None).status, Status::Current);
        assert_eq!(compute_job_completed(&job).status, Status::InProgress);
    }
}
