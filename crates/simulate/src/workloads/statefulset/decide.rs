//! What is to be done about a StatefulSet, decided from it, its pods and the time.
//!
//! In order (the default) each pod waits for those before it, and pods go from the last to the first; with `Parallel` none
//! waits. A new template is rolled out from the last pod down to the partition, one at a time.

use std::cmp::Reverse;
use std::sync::Arc;
use std::time::Duration;

use druse_object::{Map, Value};
use jiff::Timestamp;

use crate::workloads::pods::{self, going};
use crate::workloads::revisions::POD_LABEL;

/// One thing to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Act {
    /// Make the pod of this ordinal, from the new template or the one before.
    Create(i64, Template),
    /// See to the claims of a pod that is there.
    Claims(i64, Arc<Value>),
    /// Delete a pod.
    Delete(Arc<Value>),
}

/// Which template a pod is made from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Template {
    /// That of the current revision.
    Current,
    /// That of the revision being rolled out.
    Update,
}

/// What is to be done, in this order.
#[derive(Debug)]
pub struct Plan {
    /// All that can be done now.
    pub acts: Vec<Act>,
    /// The status.
    pub status: Value,
    /// When to look again.
    pub again: Option<Duration>,
}

/// The names of the revisions a StatefulSet is between.
#[derive(Clone, Copy, Debug)]
pub struct Between<'a> {
    /// That its pods had before.
    pub current: &'a str,
    /// That of its template.
    pub update: &'a str,
    /// How many names of revisions were taken.
    pub collisions: i64,
}

/// The number at the end of a pod's name, where the rest is the set's.
pub fn ordinal_of(pod: &Value, set: &Value) -> Option<i64> {
    let name = set.str_at(["metadata", "name"])?;
    let rest = pod.str_at(["metadata", "name"])?.strip_prefix(name)?.strip_prefix('-')?;
    rest.parse().ok().filter(|_| rest.bytes().all(|b| b.is_ascii_digit()))
}

/// The first ordinal, and the first beyond the last.
pub fn range(set: &Value) -> std::ops::Range<i64> {
    let start = set["spec"]["ordinals"]["start"].as_i64().unwrap_or(0);
    start..start + set["spec"]["replicas"].as_i64().unwrap_or(1)
}

fn revision(pod: &Value) -> &str {
    pod["metadata"]["labels"][POD_LABEL].as_str().unwrap_or_default()
}

/// Decides. `stale` says whether a pod cannot be made yet because a claim of its name is of a pod that is going.
pub fn decide(
    set: &Value,
    all: &[Arc<Value>],
    between: Between<'_>,
    stale: impl Fn(i64) -> bool,
    now: Timestamp,
) -> Plan {
    let mut round = Round { set, between, now, acts: Vec::new(), deleted_old: 0 };
    if !going(set) {
        round.run(all, stale);
    }
    let status = round.status(all);
    Plan { again: pods::next_available(set, all, now), acts: round.acts, status }
}

struct Round<'a> {
    set: &'a Value,
    between: Between<'a>,
    now: Timestamp,
    acts: Vec<Act>,
    /// Pods of the current revision deleted for the update.
    deleted_old: i64,
}

impl Round<'_> {
    fn run(&mut self, all: &[Arc<Value>], stale: impl Fn(i64) -> bool) {
        let in_order = self.set.str_at(["spec", "podManagementPolicy"]) != Some("Parallel");
        let range = range(self.set);
        let at = |ordinal: i64| all.iter().find(|p| ordinal_of(p, self.set) == Some(ordinal));
        let mut condemned: Vec<&Arc<Value>> =
            all.iter().filter(|p| ordinal_of(p, self.set).is_some_and(|o| !range.contains(&o))).collect();
        condemned.sort_by_key(|p| Reverse(ordinal_of(p, self.set)));
        let replicas: Vec<(i64, Option<&Arc<Value>>)> = range.clone().map(|o| (o, at(o))).collect();
        let ready = |p: &Value| self.is_ready(p);
        let set = self.set;
        let now = self.now;
        let available = |p: &Value| ready(p) && pods::is_available(p, set, now);
        let mut acts = Vec::new();
        for (ordinal, pod) in &replicas {
            let waits = match pod {
                Some(pod) if pods::has_ended(pod) => {
                    if !going(pod) {
                        acts.push(Act::Delete((*pod).clone()));
                    }
                    true
                }
                None => {
                    if !stale(*ordinal) {
                        acts.push(Act::Create(*ordinal, self.template_of(*ordinal)));
                    }
                    true
                }
                Some(pod) => {
                    acts.push(Act::Claims(*ordinal, (*pod).clone()));
                    going(pod) || !available(pod)
                }
            };
            if in_order && waits {
                self.acts = acts;
                return;
            }
        }
        for pod in &condemned {
            acts.extend(ordinal_of(pod, self.set).map(|o| Act::Claims(o, (*pod).clone())));
        }
        // The one unavailable pod that may go although it is: the first of all.
        let unavailable = |p: &Value| !available(p) || going(p);
        let first = condemned.iter().rev().find(|p| unavailable(p)).map(|p| p["metadata"]["uid"].clone());
        for pod in &condemned {
            let blocked = !available(pod) && first.as_ref() != Some(&pod["metadata"]["uid"]);
            let waits = going(pod) || (in_order && blocked);
            if !waits {
                acts.push(Act::Delete((*pod).clone()));
            }
            if in_order {
                self.acts = acts;
                return;
            }
        }
        let old = if self.set.str_at(["spec", "updateStrategy", "type"]) == Some("OnDelete") {
            None
        } else {
            self.next_to_update(&replicas, &unavailable)
        };
        if let Some(pod) = old {
            self.deleted_old = i64::from(revision(&pod) == self.between.current);
            acts.push(Act::Delete(pod));
        }
        self.acts = acts;
    }

    fn is_ready(&self, pod: &Value) -> bool {
        pod.str_at(["status", "phase"]) == Some("Running") && pods::is_ready(pod)
    }

    /// The last pod down to the partition that has not the new template, when all after it are available.
    fn next_to_update(
        &self,
        replicas: &[(i64, Option<&Arc<Value>>)],
        unavailable: &dyn Fn(&Value) -> bool,
    ) -> Option<Arc<Value>> {
        let partition = self.set["spec"]["updateStrategy"]["rollingUpdate"]["partition"].as_i64().unwrap_or(0);
        for (_, pod) in replicas.iter().skip(usize::try_from(partition).unwrap_or(0)).rev() {
            // One that is only now made is not available yet.
            let pod = (*pod)?;
            if revision(pod) != self.between.update && !going(pod) {
                return Some(pod.clone());
            }
            if unavailable(pod) {
                return None;
            }
        }
        None
    }

    /// Below the partition pods keep the current template.
    fn template_of(&self, ordinal: i64) -> Template {
        let strategy = &self.set["spec"]["updateStrategy"];
        let start = range(self.set).start;
        let kept = match &strategy["rollingUpdate"] {
            Value::Null if strategy["type"].as_str() == Some("RollingUpdate") => {
                self.set["status"]["currentReplicas"].as_i64().unwrap_or(0)
            }
            rolling => rolling["partition"].as_i64().unwrap_or(0),
        };
        if ordinal < start + kept { Template::Current } else { Template::Update }
    }

    fn status(&self, all: &[Arc<Value>]) -> Value {
        let count =
            |which: &dyn Fn(&Value) -> bool| i64::try_from(all.iter().filter(|p| which(p)).count()).unwrap_or(0);
        let of = |name: &str| count(&|p| !going(p) && revision(p) == name);
        let replicas = count(&|_| true);
        let ready = count(&|p| self.is_ready(p));
        let updated = of(self.between.update);
        let mut current = (of(self.between.current) - self.deleted_old).max(0);
        let mut current_revision = self.between.current;
        let want = self.set["spec"]["replicas"].as_i64().unwrap_or(1);
        let rolls = self.set.str_at(["spec", "updateStrategy", "type"]) != Some("OnDelete");
        if rolls && [updated, ready, replicas].iter().all(|n| *n == want) {
            (current, current_revision) = (updated, self.between.update);
        }
        let mut m = Map::new();
        if let Some(generation) = self.set["metadata"]["generation"].as_i64() {
            m.insert("observedGeneration", generation);
        }
        m.insert("replicas", replicas);
        m.insert("availableReplicas", count(&|p| pods::is_available(p, self.set, self.now)));
        for (field, n) in [("readyReplicas", ready), ("currentReplicas", current), ("updatedReplicas", updated)] {
            if n != 0 {
                m.insert(field, n);
            }
        }
        m.insert("currentRevision", current_revision);
        m.insert("updateRevision", self.between.update);
        m.insert("collisionCount", self.between.collisions);
        let conditions = &self.set["status"]["conditions"];
        if !conditions.is_null() {
            m.insert("conditions", conditions.clone());
        }
        Value::Map(m)
    }
}
