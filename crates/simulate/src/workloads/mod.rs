//! The workload controllers of a Kubernetes cluster: what turns Deployments, StatefulSets, DaemonSets, Jobs and CronJobs
//! into pods, follows rollouts, and reports status.
//!
//! Each follows its upstream namesake in `k8s.io/kubernetes/pkg/controller` in what it makes and reports; the pods they
//! make are simulated.

mod cronjob;
mod daemonset;
mod deployment;
mod hands;
mod job;
pub(crate) mod pods;
mod rank;
mod replicaset;
pub(crate) mod report;
mod revisions;
mod statefulset;
pub(crate) mod written;

use std::sync::Arc;

use druse_object::{Value, selector};
use druse_runtime::{Cache, Caches, Clock, Key, Manager, Queue, Reconciler, Resource};

use crate::kinds;

/// Starts all workload controllers.
pub(crate) fn start(manager: &Manager, caches: &Caches, clock: &Clock) {
    let deployments = kinds::apps("Deployment", "deployments");
    let replica_sets = kinds::apps("ReplicaSet", "replicasets");
    let stateful_sets = kinds::apps("StatefulSet", "statefulsets");
    let daemon_sets = kinds::apps("DaemonSet", "daemonsets");
    let jobs = kinds::batch("Job", "jobs");
    let cron_jobs = kinds::batch("CronJob", "cronjobs");
    run(manager, caches, "deployment", &deployments, &replica_sets, |caches, own, children| {
        deployment::Controller::new(caches, clock, own, children)
    });
    run(manager, caches, "replicaset", &replica_sets, &kinds::pods(), |caches, own, children| {
        replicaset::Controller::new(caches, clock, own, children)
    });
    run(manager, caches, "statefulset", &stateful_sets, &kinds::pods(), |caches, own, pods| {
        statefulset::Controller::new(caches, clock, own, pods)
    });
    let daemons = run(manager, caches, "daemonset", &daemon_sets, &kinds::pods(), |caches, own, pods| {
        daemonset::Controller::new(caches, clock, own, pods)
    });
    let all = caches.of(&daemon_sets);
    manager.watch_mapped(&daemons, &caches.of(&kinds::nodes()), move |c| {
        let places = |node: &Option<Arc<Value>>| {
            node.as_ref().map(|n| (n["metadata"]["labels"].clone(), n["spec"]["taints"].clone()))
        };
        // What else nodes report places no pods.
        if places(&c.old) == places(&c.new) { Vec::new() } else { all.all().iter().map(|s| Key::of(s)).collect() }
    });
    run(manager, caches, "job", &jobs, &kinds::pods(), |caches, own, pods| {
        job::Controller::new(caches, clock, own, pods)
    });
    run(manager, caches, "cronjob", &cron_jobs, &jobs, |caches, own, jobs| {
        cronjob::Controller::new(caches, clock, own, jobs)
    });
}

/// One controller: woken by its own objects, by the children it controls, and by those it may adopt.
fn run<R: Reconciler>(
    manager: &Manager,
    caches: &Caches,
    name: &'static str,
    own: &Resource,
    child: &Resource,
    make: impl FnOnce(&Caches, Arc<Cache>, Arc<Cache>) -> R,
) -> Queue {
    let (objects, children) = (caches.of(own), caches.of(child));
    let queue = manager.queue();
    manager.run(name, &queue, Arc::new(make(caches, objects.clone(), children.clone())), 4);
    manager.watch(&queue, &objects);
    let kind = own.gvk.kind.clone();
    manager.watch_mapped(&queue, &children, move |c| {
        let sides = [&c.old, &c.new].into_iter().flatten();
        let owners = sides.filter_map(|v| pods::controller_of(v)).filter(|o| o["kind"].as_str() == Some(kind.as_str()));
        let mut keys: Vec<Key> =
            owners.map(|o| Key::new(c.key.namespace.clone(), o["name"].as_str().unwrap_or_default())).collect();
        if let Some(orphan) = c.new.as_ref().filter(|v| pods::controller_of(v).is_none()) {
            let labels = &orphan["metadata"]["labels"];
            let all = objects.in_namespace(&c.key.namespace);
            keys.extend(all.iter().filter(|o| selector::selects(&o["spec"]["selector"], labels)).map(|o| Key::of(o)));
        }
        keys.dedup();
        keys
    });
    queue
}
