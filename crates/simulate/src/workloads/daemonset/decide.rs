//! What is to be done about a DaemonSet, decided from it, the nodes, its pods and the time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use druse_object::{Map, Value};
use jiff::Timestamp;

use super::placement::{Place, node_of, place};
use crate::workloads::pods::{self, going, is_available, is_ready};
use crate::workloads::report::Note;
use crate::workloads::revisions::POD_LABEL;

/// What is to be done, in this order.
#[derive(Debug, Default)]
pub struct Plan {
    /// Pods to delete.
    pub delete: Vec<Arc<Value>>,
    /// Nodes that get a pod.
    pub create: Vec<String>,
    /// Events about that.
    pub notes: Vec<Note>,
    /// The status.
    pub status: Value,
    /// When to look again.
    pub again: Option<Duration>,
}

/// The new and the old pod of a node.
type Pair = (Option<Arc<Value>>, Option<Arc<Value>>);

/// Decides; `hash` is that of the DaemonSet's template.
pub fn decide(set: &Value, nodes: &[Arc<Value>], all: &[Arc<Value>], hash: &str, now: Timestamp) -> Plan {
    let mut on: BTreeMap<&str, Vec<Arc<Value>>> = BTreeMap::new();
    for pod in all.iter().filter(|p| !(going(p) && pods::has_ended(p))) {
        on.entry(node_of(pod)).or_default().push(pod.clone());
    }
    for pods in on.values_mut() {
        pods.sort_by_key(|p| {
            let placed = p.str_at(["spec", "nodeName"]).is_some_and(|n| !n.is_empty());
            (
                !placed,
                p.str_at(["metadata", "creationTimestamp"]).map(str::to_owned),
                p.str_at(["metadata", "name"]).map(str::to_owned),
            )
        });
    }
    let places: BTreeMap<&str, Place> =
        nodes.iter().filter_map(|n| Some((n.str_at(["metadata", "name"])?, place(set, n)))).collect();
    let desired = i64::try_from(places.values().filter(|p| p.runs).count()).unwrap_or(0);
    let mut round = Round { set, hash, now, on: &on, places: &places, desired, plan: Plan::default() };
    if !going(set) {
        round.manage();
        // Updates wait until every node has what it needs.
        if round.plan.delete.is_empty()
            && round.plan.create.is_empty()
            && set.str_at(["spec", "updateStrategy", "type"]) != Some("OnDelete")
        {
            round.update();
        }
    }
    round.plan.status = round.status();
    round.plan.again = pods::next_available(set, all, now);
    round.plan
}

struct Round<'a> {
    set: &'a Value,
    hash: &'a str,
    now: Timestamp,
    on: &'a BTreeMap<&'a str, Vec<Arc<Value>>>,
    places: &'a BTreeMap<&'a str, Place>,
    desired: i64,
    plan: Plan,
}

impl Round<'_> {
    fn is_new(&self, pod: &Value) -> bool {
        pod["metadata"]["labels"][POD_LABEL].as_str() == Some(self.hash)
    }

    fn is_available(&self, pod: &Value) -> bool {
        is_available(pod, self.set, self.now)
    }

    /// How many nodes may have a second pod while an update runs, and how many none.
    fn limits(&self) -> (i64, i64) {
        let rolling = &self.set["spec"]["updateStrategy"]["rollingUpdate"];
        let surge = pods::int_or_percent(&rolling["maxSurge"], self.desired, true, "0");
        let unavailable = pods::int_or_percent(&rolling["maxUnavailable"], self.desired, true, "1");
        (surge, if surge == 0 && unavailable == 0 { 1 } else { unavailable })
    }

    /// One pod on each node it belongs on, none elsewhere; pods that ended are replaced.
    fn manage(&mut self) {
        let surges = self.limits().0 > 0;
        for (node, place) in self.places {
            let there = self.on.get(node).map_or(&[][..], Vec::as_slice);
            if there.is_empty() {
                if place.runs {
                    self.plan.create.push((*node).to_owned());
                }
            } else if place.stays {
                self.keep_one(node, there, surges);
            } else {
                self.plan.delete.extend(there.iter().filter(|p| !going(p)).cloned());
            }
        }
        // Pods whose node is gone.
        let gone = self.on.iter().filter(|(node, _)| !node.is_empty() && !self.places.contains_key(*node));
        self.plan.delete.extend(gone.flat_map(|(_, pods)| pods).filter(|p| !going(p)).cloned());
    }

    fn keep_one(&mut self, node: &str, there: &[Arc<Value>], surges: bool) {
        let mut running = Vec::new();
        for pod in there.iter().filter(|p| !going(p)) {
            let name = format!(
                "{}/{}",
                pod.str_at(["metadata", "namespace"]).unwrap_or_default(),
                pod.str_at(["metadata", "name"]).unwrap_or_default()
            );
            let note = match pod.str_at(["status", "phase"]) {
                Some("Failed") => Note::warning(
                    "FailedDaemonPod",
                    format!("Found failed daemon pod {name} on node {node}, will try to kill it"),
                ),
                Some("Succeeded") => Note::normal(
                    "SucceededDaemonPod",
                    format!("Found succeeded daemon pod {name} on node {node}, will try to delete it"),
                ),
                _ => {
                    running.push(pod);
                    continue;
                }
            };
            self.plan.notes.push(note);
            self.plan.delete.push(pod.clone());
        }
        if running.len() <= 1 {
            return;
        }
        if !surges {
            self.plan.delete.extend(running.into_iter().skip(1).cloned());
            return;
        }
        // An old and a new one may be there together, until one of them makes the other needless.
        let (new, old): (Vec<_>, Vec<_>) = running.into_iter().partition(|p| self.is_new(p));
        self.plan.delete.extend(new.iter().skip(1).chain(old.iter().skip(1)).map(|p| (*p).clone()));
        if let (Some(new), Some(old)) = (new.first(), old.first())
            && (!is_ready(old) || self.is_available(new))
        {
            self.plan.delete.push((*old).clone());
        }
    }

    /// The new and the old pod of a node; `None` when there is more than one of a kind.
    fn pair(&self, there: &[Arc<Value>]) -> Option<Pair> {
        let (new, old): (Vec<_>, Vec<_>) = there.iter().filter(|p| !going(p)).cloned().partition(|p| self.is_new(p));
        (new.len() <= 1 && old.len() <= 1).then(|| (new.into_iter().next(), old.into_iter().next()))
    }

    fn update(&mut self) {
        let (surge, unavailable) = self.limits();
        if surge > 0 { self.update_with_surge(surge) } else { self.update_in_place(unavailable) }
    }

    /// Old pods go while no more than `limit` nodes are without an available one; unavailable old ones go at once.
    fn update_in_place(&mut self, limit: i64) {
        let mut unavailable = 0;
        let mut candidates = Vec::new();
        for there in self.on.values() {
            match self.pair(there) {
                Some((Some(new), None)) if self.is_available(&new) => {}
                Some((None, Some(old))) if self.is_available(&old) => candidates.push(old),
                Some((None, Some(old))) => {
                    unavailable += 1;
                    self.plan.delete.push(old);
                }
                _ => unavailable += 1,
            }
        }
        let more = usize::try_from(limit - unavailable).unwrap_or(0);
        self.plan.delete.extend(candidates.into_iter().take(more));
    }

    /// New pods are made beside old ones on no more than `limit` nodes, and at once beside unavailable ones; an old one
    /// goes when the new one is available.
    fn update_with_surge(&mut self, limit: i64) {
        let (mut surged, mut available) = (0, 0);
        let mut candidates = Vec::new();
        let mut strangers = Vec::new();
        for (node, there) in self.on {
            let Some((new, old)) = self.pair(there) else {
                surged += 1;
                continue;
            };
            available += i64::from(old.as_ref().or(new.as_ref()).is_some_and(|p| self.is_available(p)));
            let belongs = self.places.get(node).is_some_and(|p| p.runs);
            match (new, old) {
                (_, None) => {}
                (None, Some(old)) => match (self.is_available(&old), belongs) {
                    (false, false) => self.plan.delete.push(old),
                    (false, true) => self.plan.create.push((*node).to_owned()),
                    (true, false) => strangers.push(old),
                    (true, true) => candidates.push((*node).to_owned()),
                },
                (Some(new), Some(old)) if self.is_available(&new) => self.plan.delete.push(old),
                (Some(_), Some(_)) => surged += 1,
            }
        }
        let spare = usize::try_from(available - self.desired).unwrap_or(0);
        self.plan.delete.extend(strangers.into_iter().take(spare));
        let more = usize::try_from(limit - surged).unwrap_or(0);
        self.plan.create.extend(candidates.into_iter().take(more));
    }

    fn status(&self) -> Value {
        let (mut current, mut strange, mut ready, mut updated, mut available) = (0i64, 0i64, 0i64, 0i64, 0i64);
        for (node, place) in self.places {
            let Some(oldest) = self.on.get(node).and_then(|p| p.first()) else { continue };
            if !place.runs {
                strange += 1;
                continue;
            }
            current += 1;
            ready += i64::from(is_ready(oldest));
            available += i64::from(self.is_available(oldest));
            updated += i64::from(self.is_new(oldest));
        }
        let mut m = Map::new();
        m.insert("currentNumberScheduled", current);
        m.insert("numberMisscheduled", strange);
        m.insert("desiredNumberScheduled", self.desired);
        m.insert("numberReady", ready);
        if let Some(generation) = self.set["metadata"]["generation"].as_i64() {
            m.insert("observedGeneration", generation);
        }
        for (field, n) in [
            ("updatedNumberScheduled", updated),
            ("numberAvailable", available),
            ("numberUnavailable", self.desired - available),
        ] {
            if n != 0 {
                m.insert(field, n);
            }
        }
        for field in ["collisionCount", "conditions"] {
            let kept = &self.set["status"][field];
            if !kept.is_null() {
                m.insert(field, kept.clone());
            }
        }
        Value::Map(m)
    }
}
