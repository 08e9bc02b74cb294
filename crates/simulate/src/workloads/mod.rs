//! The workload controllers of a Kubernetes cluster: what turns Deployments, StatefulSets, DaemonSets, Jobs and CronJobs
//! into pods, follows rollouts, and reports status.
//!
//! Each follows its upstream namesake in `k8s.io/kubernetes/pkg/controller` in what it makes and reports; the pods they
//! make are simulated.

mod cronjob;
mod daemonset;
mod deployment;
mod job;
mod pods;
mod replicaset;
mod statefulset;

use std::sync::Arc;

use druse_runtime::{Cache, Caches, Key, Manager, Reconciler, Resource};

use crate::kinds;

/// Starts all workload controllers.
pub(crate) fn start(manager: &Manager, caches: &Caches) {
    let deployments = kinds::apps("Deployment", "deployments");
    let replica_sets = kinds::apps("ReplicaSet", "replicasets");
    let stateful_sets = kinds::apps("StatefulSet", "statefulsets");
    let daemon_sets = kinds::apps("DaemonSet", "daemonsets");
    let jobs = kinds::batch("Job", "jobs");
    let cron_jobs = kinds::batch("CronJob", "cronjobs");
    run(manager, caches, "deployment", &deployments, &replica_sets, deployment::Controller::new);
    run(manager, caches, "replicaset", &replica_sets, &kinds::pods(), replicaset::Controller::new);
    run(manager, caches, "statefulset", &stateful_sets, &kinds::pods(), statefulset::Controller::new);
    run(manager, caches, "daemonset", &daemon_sets, &kinds::pods(), daemonset::Controller::new);
    run(manager, caches, "job", &jobs, &kinds::pods(), job::Controller::new);
    run(manager, caches, "cronjob", &cron_jobs, &jobs, cronjob::Controller::new);
}

/// One controller: woken by its own objects and by the children it controls.
fn run<R: Reconciler>(
    manager: &Manager,
    caches: &Caches,
    name: &'static str,
    own: &Resource,
    child: &Resource,
    make: impl FnOnce(&Caches, Arc<Cache>, Arc<Cache>) -> R,
) {
    let (objects, children) = (caches.of(own), caches.of(child));
    let queue = manager.queue();
    manager.run(name, &queue, Arc::new(make(caches, objects.clone(), children.clone())), 4);
    manager.watch(&queue, &objects);
    let kind = own.gvk.kind.clone();
    manager.watch_mapped(&queue, &children, move |c| {
        [&c.old, &c.new]
            .into_iter()
            .flatten()
            .filter_map(|v| {
                let owner = pods::controller_of(v)?;
                (owner["kind"].as_str() == Some(kind.as_str()))
                    .then(|| Key::new(c.key.namespace.clone(), owner["name"].as_str().unwrap_or_default()))
            })
            .collect()
    });
}
