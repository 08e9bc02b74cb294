//! `dependsOn`: who waits for whom, in which order units can go, and circles.

use std::collections::{BTreeMap, BTreeSet};

use crate::api::DependencyRef;

/// The namespace and name that a dependency means: its own namespace, or that of the object that has it.
#[must_use]
pub fn resolve(dependency: &DependencyRef, own_namespace: &str) -> (String, String) {
    let namespace = dependency.namespace.as_deref().filter(|n| !n.is_empty()).unwrap_or(own_namespace);
    (namespace.to_string(), dependency.name.to_string())
}

/// What waits for what, by any ordered id.
#[derive(Clone, Debug)]
pub struct Graph<Id: Ord> {
    edges: BTreeMap<Id, BTreeSet<Id>>,
}

impl<Id: Ord> Default for Graph<Id> {
    fn default() -> Self {
        Self { edges: BTreeMap::new() }
    }
}

/// The result of ordering a graph.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order<Id> {
    /// What can go, each after all it waits for; ties in id order.
    pub sorted: Vec<Id>,
    /// The circles, each once, as the ids on it; starts with the smallest.
    pub cycles: Vec<Vec<Id>>,
    /// What is on no circle but waits for one, directly or not.
    pub behind_cycles: Vec<Id>,
}

impl<Id: Ord + Clone> Graph<Id> {
    /// Adds a node.
    pub fn node(&mut self, id: Id) {
        self.edges.entry(id).or_default();
    }

    /// Says that `id` waits for `on`. What is no node by itself does not hold anything up.
    pub fn edge(&mut self, id: Id, on: Id) {
        self.edges.entry(id).or_default().insert(on);
    }

    /// The order in which nodes can go.
    #[must_use]
    pub fn order(&self) -> Order<Id> {
        let mut missing: BTreeMap<&Id, usize> = BTreeMap::new();
        let mut waiting: BTreeMap<&Id, Vec<&Id>> = BTreeMap::new();
        for (id, on) in &self.edges {
            let known: Vec<&Id> = on.iter().filter(|o| self.edges.contains_key(o)).collect();
            missing.insert(id, known.len());
            for o in known {
                waiting.entry(o).or_default().push(id);
            }
        }
        let mut free: BTreeSet<&Id> = missing.iter().filter(|(_, n)| **n == 0).map(|(id, _)| *id).collect();
        let mut sorted = Vec::new();
        while let Some(id) = free.pop_first() {
            missing.remove(id);
            sorted.push(id.clone());
            for w in waiting.get(id).into_iter().flatten() {
                if let Some(n) = missing.get_mut(w) {
                    *n -= 1;
                    if *n == 0 {
                        free.insert(w);
                    }
                }
            }
        }
        // What is left is on a circle or behind one. Following first unmet dependencies from any of it must come back.
        let mut cycles: Vec<Vec<Id>> = Vec::new();
        let mut seen: BTreeSet<&Id> = BTreeSet::new();
        for start in missing.keys() {
            let mut path: Vec<&Id> = Vec::new();
            let mut at = *start;
            while !seen.contains(at) {
                seen.insert(at);
                path.push(at);
                let Some(next) = self.edges.get(at).and_then(|on| on.iter().find(|o| missing.contains_key(o))) else {
                    break;
                };
                at = next;
            }
            if let Some(i) = path.iter().position(|p| *p == at) {
                let circle = path.get(i..).unwrap_or_default();
                let smallest = circle.iter().enumerate().min_by_key(|(_, id)| **id).map_or(0, |(i, _)| i);
                cycles.push(circle.iter().cycle().skip(smallest).take(circle.len()).map(|id| (*id).clone()).collect());
            }
        }
        let on_cycle: BTreeSet<&Id> = cycles.iter().flatten().collect();
        let behind_cycles = missing.keys().filter(|id| !on_cycle.contains(*id)).map(|id| (*id).clone()).collect();
        Order { sorted, cycles, behind_cycles }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_what_can_go_and_names_circles() {
        let mut g = Graph::default();
        for (id, on) in
            [("c", "b"), ("b", "a"), ("x", "y"), ("y", "z"), ("z", "x"), ("w", "x"), ("s", "s"), ("m", "absent")]
        {
            g.edge(id, on);
        }
        g.node("a");
        let order = g.order();
        assert_eq!(order.sorted, ["a", "b", "c", "m"]);
        assert_eq!(order.cycles, [vec!["s"], vec!["x", "y", "z"]]);
        assert_eq!(order.behind_cycles, ["w"]);
    }
}
