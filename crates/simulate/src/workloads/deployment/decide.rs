//! What is to be done about a Deployment, decided from it, its ReplicaSets, its pods and the time.
//!
//! One round makes one step: the new ReplicaSet grows, or the old ones shrink, as far as surge and availability allow; what
//! its pods make of that brings the next round.

use std::sync::Arc;
use std::time::Duration;

use druse_object::Value;
use jiff::Timestamp;

use super::progress::Report;
use super::sets::{self, Set, Size};
use crate::workloads::pods;
use crate::workloads::report::Note;

/// What is to be done, in this order.
#[derive(Debug, Default)]
pub struct Plan {
    /// A ReplicaSet to make.
    pub create: Option<Value>,
    /// ReplicaSets to change.
    pub change: Vec<Set>,
    /// ReplicaSets to delete.
    pub remove: Vec<Arc<Value>>,
    /// Events about that.
    pub notes: Vec<Note>,
    /// The revision the Deployment gets.
    pub revision: Option<String>,
    /// Its status.
    pub status: Value,
    /// When to look again.
    pub again: Option<Duration>,
}

/// Decides. `old_pods_run` says whether pods of other ReplicaSets than the given one are there yet.
pub fn decide(
    deployment: &Value,
    all: &[Arc<Value>],
    old_pods_run: impl Fn(Option<&Value>) -> bool,
    now: Timestamp,
) -> Plan {
    let (new, old) = sets::find(deployment, all);
    let mut round = Round {
        deployment,
        size: Size::of(deployment),
        new,
        old,
        report: Report::new(deployment, now),
        plan: Plan::default(),
    };
    round.run(old_pods_run);
    round.finish()
}

struct Round<'a> {
    deployment: &'a Value,
    size: Size,
    new: Option<Set>,
    old: Vec<Set>,
    report: Report<'a>,
    plan: Plan,
}

impl Round<'_> {
    fn run(&mut self, old_pods_run: impl Fn(Option<&Value>) -> bool) {
        if pods::going(self.deployment) {
            return;
        }
        let paused = self.deployment["spec"]["paused"].as_bool() == Some(true);
        self.report.pause(paused);
        let revision = 1 + self.old.iter().map(Set::revision).max().unwrap_or(0);
        if let Some(new) = &mut self.new {
            new.follow(self.deployment, revision);
            self.plan.revision = Some(new.revision().to_string());
            self.report.found(new.name());
        }
        let resized = self.all().any(|s| s.replicas > 0 && s.desired().is_some_and(|d| d != self.size.replicas));
        if paused || resized {
            self.scale();
            if paused {
                self.clean_up();
            }
            return;
        }
        self.report.follows_rollout();
        if sets::rolls(self.deployment) {
            self.roll(revision);
        } else {
            self.recreate(revision, old_pods_run);
        }
    }

    fn all(&self) -> impl Iterator<Item = &Set> {
        self.old.iter().chain(&self.new)
    }

    fn make_new(&mut self, revision: i64) {
        if self.new.is_some() {
            return;
        }
        let replicas = self.room_for_new(0);
        let set = sets::fresh(self.deployment, revision, replicas);
        self.plan.create = Some((*set.object).clone());
        self.plan.revision = Some(revision.to_string());
        self.report.created(set.name());
        if replicas > 0 {
            let message = format!("Scaled up replica set {} from 0 to {replicas}", set.name());
            self.plan.notes.push(Note::normal("ScalingReplicaSet", message));
        }
        self.new = Some(set);
    }

    /// How many pods the new ReplicaSet may have that has `there`.
    fn room_for_new(&self, there: i64) -> i64 {
        if !sets::rolls(self.deployment) {
            return self.size.replicas;
        }
        let total: i64 = self.all().map(|s| s.replicas).sum();
        let room = (self.size.replicas + self.size.surge - total).max(0);
        there + room.min(self.size.replicas - there)
    }

    fn roll(&mut self, revision: i64) {
        self.make_new(revision);
        let there = self.new.as_ref().map_or(0, |n| n.replicas);
        let target = if there > self.size.replicas { self.size.replicas } else { self.room_for_new(there).max(there) };
        if let Some(new) = &mut self.new
            && resize(new, target, &self.size, &mut self.plan.notes)
        {
            return;
        }
        if self.shrink_old() {
            return;
        }
        self.clean_up_when_complete();
    }

    /// Takes from the old ReplicaSets what is not available, then what is available beyond what has to be.
    fn shrink_old(&mut self) -> bool {
        let (new_replicas, new_available) =
            self.new.as_ref().map_or((0, 0), |n| (n.replicas, n.status("availableReplicas")));
        let total: i64 = self.all().map(|s| s.replicas).sum();
        let needed = self.size.replicas - self.size.unavailable;
        let most = total - needed - (new_replicas - new_available);
        // What has not yet shrunk as it was asked to tells of pods that go.
        let shrinks = |s: &Set| s.status("availableReplicas") > s.replicas;
        if self.old.iter().all(|s| s.replicas == 0) || most <= 0 || self.old.iter().any(shrinks) {
            return false;
        }
        let before: i64 = self.old.iter().map(|s| s.replicas).sum();
        let mut left = most;
        for set in &mut self.old {
            let unavailable = (set.replicas - set.status("availableReplicas")).max(0);
            let down = unavailable.min(left).min(set.replicas);
            left -= down;
            resize(set, set.replicas - down, &self.size, &mut self.plan.notes);
        }
        let available: i64 = self.all().map(|s| s.status("availableReplicas")).sum();
        let mut left = (available - needed).max(0);
        for set in &mut self.old {
            let down = set.replicas.min(left);
            left -= down;
            resize(set, set.replicas - down, &self.size, &mut self.plan.notes);
        }
        before != self.old.iter().map(|s| s.replicas).sum::<i64>()
    }

    fn recreate(&mut self, revision: i64, old_pods_run: impl Fn(Option<&Value>) -> bool) {
        let mut shrunk = false;
        for set in &mut self.old {
            shrunk |= resize(set, 0, &self.size, &mut self.plan.notes);
        }
        let runs = self.old.iter().any(|s| s.status("replicas") > 0);
        if shrunk || runs || old_pods_run(self.new.as_ref().map(|n| &*n.object)) {
            return;
        }
        self.make_new(revision);
        if let Some(new) = &mut self.new {
            resize(new, self.size.replicas, &self.size, &mut self.plan.notes);
        }
        self.clean_up_when_complete();
    }

    /// Gives the ReplicaSets their share of the Deployment's new size, without rolling on.
    fn scale(&mut self) {
        let size = self.size;
        let active: Vec<usize> = self.all().enumerate().filter(|(_, s)| s.replicas > 0).map(|(i, _)| i).collect();
        if active.len() <= 1 {
            // The only one that has pods, or else the newest.
            let newest = self.old.len() - usize::from(self.new.is_none() && !self.old.is_empty());
            let which = active.first().copied().unwrap_or(newest);
            if let Some(set) = self.old.iter_mut().chain(&mut self.new).nth(which) {
                resize(set, size.replicas, &size, &mut self.plan.notes);
            }
            return;
        }
        let saturated = self.new.as_ref().is_some_and(|n| {
            n.replicas == size.replicas
                && n.desired() == Some(size.replicas)
                && n.status("availableReplicas") == size.replicas
        });
        if saturated {
            for set in &mut self.old {
                resize(set, 0, &size, &mut self.plan.notes);
            }
        } else if sets::rolls(self.deployment) {
            self.share(&active);
        }
    }

    /// Shares what is added or taken among the ReplicaSets that have pods, by their sizes; the largest gets the rest.
    fn share(&mut self, active: &[usize]) {
        let size = self.size;
        let before = self.deployment["status"]["replicas"].as_i64().unwrap_or(0);
        let mut shared: Vec<&mut Set> = self.old.iter_mut().chain(&mut self.new).collect();
        let total: i64 = active.iter().map(|i| shared[*i].replicas).sum();
        let allowed = if size.replicas > 0 { size.replicas + size.surge } else { 0 };
        let add = allowed - total;
        let mut order = active.to_vec();
        // By size; of equal ones the newer grow first and the older shrink first.
        if add > 0 {
            order.reverse();
        }
        order.sort_by_key(|i| std::cmp::Reverse(shared[*i].replicas));
        let mut sizes = Vec::new();
        let mut added = 0;
        for i in &order {
            let share = if add == 0 { 0 } else { proportion(shared[*i], &size, before, add - added) };
            added += share;
            sizes.push(shared[*i].replicas + share);
        }
        if let Some(first) = sizes.first_mut() {
            *first = (*first + add - added).max(0);
        }
        for (i, replicas) in order.iter().zip(sizes) {
            resize(shared[*i], replicas, &size, &mut self.plan.notes);
            shared[*i].annotate_size(&size);
        }
    }

    fn clean_up_when_complete(&mut self) {
        let status = &self.deployment["status"];
        let all = |field: &str| status[field].as_i64().unwrap_or(0) == self.size.replicas;
        let observed = status["observedGeneration"].as_i64() >= self.deployment["metadata"]["generation"].as_i64();
        if all("updatedReplicas") && all("replicas") && all("availableReplicas") && observed {
            self.clean_up();
        }
    }

    /// Old, empty ReplicaSets beyond the history's limit go, the oldest revisions first.
    fn clean_up(&mut self) {
        let Some(limit) = self.deployment["spec"]["revisionHistoryLimit"].as_i64() else { return };
        let mut old: Vec<&Set> = self.old.iter().filter(|s| !pods::going(&s.object)).collect();
        let extra = old.len().saturating_sub(usize::try_from(limit).unwrap_or(usize::MAX));
        old.sort_by_key(|s| s.revision());
        let observed =
            |s: &Set| s.object["metadata"]["generation"].as_i64().unwrap_or(0) <= s.status("observedGeneration");
        self.plan.remove = old
            .into_iter()
            .take(extra)
            .filter(|s| s.status("replicas") == 0 && s.replicas == 0 && observed(s))
            .map(|s| s.object.clone())
            .collect();
    }

    fn finish(mut self) -> Plan {
        let all: Vec<&Set> = self.all().collect();
        (self.plan.status, self.plan.again) = self.report.status(&self.size, &all, self.new.as_ref());
        let made = self.plan.create.is_some();
        self.plan.change = self.old;
        self.plan.change.extend(self.new.filter(|_| !made));
        self.plan.change.retain(|s| s.patch().is_some());
        self.plan
    }
}

/// What a ReplicaSet gets of what is added or taken, at most `left`.
fn proportion(set: &Set, size: &Size, before: i64, left: i64) -> i64 {
    let share = if size.replicas == 0 {
        -set.replicas
    } else {
        match set.most().unwrap_or(before) {
            0 => 0,
            // Halves are rounded up.
            most => (2 * set.replicas * (size.replicas + size.surge) + most) / (2 * most) - set.replicas,
        }
    };
    if left > 0 { share.min(left) } else { share.max(left) }
}

/// Scales a ReplicaSet; false when it has that size already.
fn resize(set: &mut Set, replicas: i64, size: &Size, notes: &mut Vec<Note>) -> bool {
    if set.replicas == replicas {
        return false;
    }
    let way = if replicas > set.replicas { "up" } else { "down" };
    let message = format!("Scaled {way} replica set {} from {} to {replicas}", set.name(), set.replicas);
    notes.push(Note::normal("ScalingReplicaSet", message));
    set.replicas = replicas;
    set.annotate_size(size);
    true
}
