//! The status of a Deployment and what its conditions say of a rollout: available, progressing, stuck.

use std::time::Duration;

use druse_object::{Map, Value};
use jiff::{SignedDuration, Timestamp};

use super::sets::{Set, Size};
use crate::workloads::report::{condition, keep_transition, new_condition, time_at};

const PROGRESSING: &str = "Progressing";
const FAILURE: &str = "ReplicaFailure";

/// Reasons of the Progressing condition.
const AVAILABLE: &str = "NewReplicaSetAvailable";
const UPDATED: &str = "ReplicaSetUpdated";
const TIMED_OUT: &str = "ProgressDeadlineExceeded";
const PAUSED: &str = "DeploymentPaused";

/// The status being made.
#[derive(Debug)]
pub struct Report<'a> {
    deployment: &'a Value,
    now: Timestamp,
    conditions: Vec<Value>,
    rollout: bool,
}

/// Sets a condition as Deployments do: one with the same status and reason stays as it is, another goes to the end.
pub fn set(conditions: &mut Vec<Value>, new: Value) {
    let kind = new["type"].as_str().unwrap_or_default().to_owned();
    let mut new = new;
    if let Some(old) = condition(conditions, &kind)
        && old["status"] == new["status"]
    {
        if old["reason"] == new["reason"] {
            return;
        }
        keep_transition(&mut new, old);
    }
    conditions.retain(|c| c["type"].as_str() != Some(&kind));
    conditions.push(new);
}

impl<'a> Report<'a> {
    /// Begins with the conditions that are there.
    pub fn new(deployment: &'a Value, now: Timestamp) -> Self {
        let conditions = deployment["status"]["conditions"].items().to_vec();
        Self { deployment, now, conditions, rollout: false }
    }

    /// The seconds after which a rollout without progress is stuck.
    fn deadline(&self) -> Option<i64> {
        self.deployment["spec"]["progressDeadlineSeconds"].as_i64().filter(|s| *s != i64::from(i32::MAX))
    }

    fn progressing(&self) -> Option<&Value> {
        condition(&self.conditions, PROGRESSING)
    }

    fn reason(&self) -> Option<&str> {
        self.progressing()?["reason"].as_str()
    }

    fn condition(&self, kind: &str, holds: bool, reason: &str, message: &str) -> Value {
        new_condition(kind, holds, reason, message, &["lastUpdateTime", "lastTransitionTime"], self.now)
    }

    fn say(&mut self, reason: &str, message: &str) {
        if self.deadline().is_some() {
            let new = self.condition(PROGRESSING, true, reason, message);
            set(&mut self.conditions, new);
        }
    }

    /// Says that the Deployment is paused, or not any more, so that the time it was is no lack of progress.
    pub fn pause(&mut self, paused: bool) {
        let told = self.reason() == Some(PAUSED);
        if self.deadline().is_none() || self.reason() == Some(TIMED_OUT) || paused == told {
            return;
        }
        let (reason, message) =
            if paused { (PAUSED, "Deployment is paused") } else { ("DeploymentResumed", "Deployment is resumed") };
        let mut new = self.condition(PROGRESSING, false, reason, message);
        if let Some(m) = new.as_map_mut() {
            m.insert("status", "Unknown");
        }
        set(&mut self.conditions, new);
    }

    /// The new ReplicaSet was there already.
    pub fn found(&mut self, name: &str) {
        if self.progressing().is_none() {
            self.say("FoundNewReplicaSet", &format!("Found new replica set \"{name}\""));
        }
    }

    /// The new ReplicaSet is made.
    pub fn created(&mut self, name: &str) {
        self.say("NewReplicaSetCreated", &format!("Created new replica set \"{name}\""));
    }

    /// This round is part of a rollout, whose progress is judged.
    pub fn follows_rollout(&mut self) {
        self.rollout = true;
    }

    /// The status with all that, and when to look again for lack of progress.
    pub fn status(&self, size: &Size, all: &[&Set], new: Option<&Set>) -> (Value, Option<Duration>) {
        let sum = |field: &str| all.iter().map(|s| s.status(field)).sum::<i64>();
        let total: i64 = all.iter().map(|s| s.replicas).sum();
        let available = sum("availableReplicas");
        let mut m = Map::new();
        for field in ["observedGeneration", "collisionCount"] {
            let v = if field == "observedGeneration" {
                &self.deployment["metadata"]["generation"]
            } else {
                &self.deployment["status"][field]
            };
            if !v.is_null() {
                m.insert(field, v.clone());
            }
        }
        for (field, n) in [
            ("replicas", sum("replicas")),
            ("updatedReplicas", new.map_or(0, |s| s.status("replicas"))),
            ("readyReplicas", sum("readyReplicas")),
            ("availableReplicas", available),
            ("unavailableReplicas", (total - available).max(0)),
        ] {
            if n != 0 {
                m.insert(field, n);
            }
        }
        m.insert("terminatingReplicas", sum("terminatingReplicas"));
        let status = Value::Map(m);
        let mut conditions = self.conditions.clone();
        let availability = if available >= size.replicas - size.unavailable {
            self.condition("Available", true, "MinimumReplicasAvailable", "Deployment has minimum availability.")
        } else {
            let message = "Deployment does not have minimum availability.";
            self.condition("Available", false, "MinimumReplicasUnavailable", message)
        };
        set(&mut conditions, availability);
        if self.rollout {
            self.judge(&mut conditions, &status, size, new);
            self.hand_up_failures(&mut conditions, all, new);
        }
        let again = if self.rollout { self.next_look(&conditions, &status, size) } else { None };
        let mut status = status;
        if let Some(m) = status.as_map_mut().filter(|_| !conditions.is_empty()) {
            m.insert("conditions", conditions);
        }
        (status, again)
    }

    fn complete(&self, status: &Value, size: &Size) -> bool {
        ["updatedReplicas", "replicas", "availableReplicas"].iter().all(|f| number(status, f) == size.replicas)
    }

    /// Whether more is updated, ready or available than before, or less is old.
    fn moved(&self, status: &Value) -> bool {
        let before = &self.deployment["status"];
        let grew = |f: &str| number(status, f) > number(before, f);
        let old = |s: &Value| number(s, "replicas") - number(s, "updatedReplicas");
        grew("updatedReplicas") || grew("readyReplicas") || grew("availableReplicas") || old(status) < old(before)
    }

    fn judge(&self, conditions: &mut Vec<Value>, status: &Value, size: &Size, new: Option<&Set>) {
        let Some(deadline) = self.deadline() else {
            return conditions.retain(|c| c["type"].as_str() != Some(PROGRESSING));
        };
        let current = self.progressing();
        if number(status, "replicas") == number(status, "updatedReplicas") && self.reason() == Some(AVAILABLE) {
            return;
        }
        let name = self.deployment.str_at(["metadata", "name"]).unwrap_or_default();
        let who = new.map_or_else(|| format!("Deployment \"{name}\""), |s| format!("ReplicaSet \"{}\"", s.name()));
        if self.complete(status, size) {
            let message = format!("{who} has successfully progressed.");
            set(conditions, self.condition(PROGRESSING, true, AVAILABLE, &message));
        } else if self.moved(status) {
            // The time of the last progress is told even where the reason stays.
            let mut new = self.condition(PROGRESSING, true, UPDATED, &format!("{who} is progressing."));
            if let Some(old) = current.filter(|c| c["status"].as_str() == Some("True")) {
                keep_transition(&mut new, old);
            }
            conditions.retain(|c| c["type"].as_str() != Some(PROGRESSING));
            conditions.push(new);
        } else if self.timed_out(deadline) {
            let message = format!("{who} has timed out progressing.");
            set(conditions, self.condition(PROGRESSING, false, TIMED_OUT, &message));
        }
    }

    fn timed_out(&self, deadline: i64) -> bool {
        match self.reason() {
            None | Some(AVAILABLE) => false,
            Some(TIMED_OUT) => true,
            Some(_) => self.left(deadline).is_some_and(|left| left.is_negative()),
        }
    }

    /// How long the rollout may go on without progress.
    fn left(&self, deadline: i64) -> Option<SignedDuration> {
        let last = time_at(&self.progressing()?["lastUpdateTime"])?;
        Some(SignedDuration::from_secs(deadline) - self.now.duration_since(last))
    }

    /// What keeps ReplicaSets from making pods is told of the Deployment too, that of the new one first.
    fn hand_up_failures(&self, conditions: &mut Vec<Value>, all: &[&Set], new: Option<&Set>) {
        let failure = |s: &Set| condition(s.object["status"]["conditions"].items(), FAILURE).cloned();
        match new.and_then(failure).or_else(|| all.iter().find_map(|s| failure(s))) {
            Some(mut found) => {
                if let Some(m) = found.as_map_mut() {
                    let time = m.get("lastTransitionTime").cloned().unwrap_or_default();
                    m.insert("lastUpdateTime", time);
                }
                set(conditions, found);
            }
            None => conditions.retain(|c| c["type"].as_str() != Some(FAILURE)),
        }
    }

    fn next_look(&self, conditions: &[Value], status: &Value, size: &Size) -> Option<Duration> {
        let deadline = self.deadline()?;
        let current = condition(conditions, PROGRESSING)?;
        if self.complete(status, size) || current["reason"].as_str() == Some(TIMED_OUT) {
            return None;
        }
        let left = SignedDuration::from_secs(deadline) - self.now.duration_since(time_at(&current["lastUpdateTime"])?);
        // A second more than that, so that it has passed by then.
        Duration::try_from(left.max(SignedDuration::ZERO) + SignedDuration::from_secs(1)).ok()
    }
}

fn number(status: &Value, field: &str) -> i64 {
    status[field].as_i64().unwrap_or(0)
}
