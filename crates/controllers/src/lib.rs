//! Flux-compatible controllers against any Kubernetes API: sources, Kustomizations, HelmReleases.
//!
//! They call the same render code as the command line (`druse-flux`, `druse-plan`): what was rehearsed is what runs.
//! [`start`] runs them on a [`Manager`] until it is dropped. Know nothing of which API they talk to.

mod actions;
mod atomic;
pub mod conditions;
mod context;
mod drift;
mod helmrelease;
mod hooks;
mod host;
pub mod inventory;
mod kustomization;
mod normalize;
mod snapshot;
mod source;
pub mod ssa;
mod steps;
mod storage;
pub mod wait;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use druse_object::Value;
use druse_plan::sources::Sources;
use druse_runtime::{Cache, Caches, Key, Manager, Queue};

pub use context::{Options, Randomness};

/// Running controllers. They run until their manager is dropped, whatever becomes of this.
pub struct Controllers {
    context: Arc<context::Context>,
    sources: Vec<(Arc<Cache>, Queue)>,
}

impl Controllers {
    /// Reads sources another way from now on (a new revision of the tree, say): all of them are looked at again, and
    /// units whose sources changed follow.
    pub fn use_sources(&self, sources: Arc<Sources>) {
        self.context.use_trees(sources);
        for (cache, queue) in &self.sources {
            cache.all().iter().for_each(|o| queue.add(Key::of(o)));
        }
    }
}

/// Starts all controllers.
pub fn start(manager: &Manager, caches: &Caches, options: Options) -> Controllers {
    let context = Arc::new(context::Context::new(caches, options));
    let sources = source::start(manager, &context);
    kustomization::start(manager, caches, &context);
    helmrelease::start(manager, caches, &context);
    Controllers { context, sources }
}

/// Wakes the units that wait for kinds to be served, for namespaces, or for what other units make, whenever one comes.
fn wake_on_arrivals(
    manager: &Manager,
    queue: &Queue,
    caches: &Caches,
    context: &Arc<context::Context>,
    unit: &'static str,
) {
    let waiting = move |context: &context::Context| -> Vec<Key> {
        context.arrivals.fetch_add(1, Ordering::SeqCst);
        let missing = context.missing_kinds.lock();
        missing.iter().filter(|(kind, _)| *kind == unit).map(|(_, key)| Key::clone(key)).collect()
    };
    let shared = context.clone();
    manager.watch_mapped(queue, &caches.of(&context::kinds::crds()), move |c| {
        let established = |v: &Arc<Value>| ssa::condition_is(v, "Established", "True");
        let Some(new) = c.new.as_ref().filter(|v| established(v)) else { return Vec::new() };
        if c.old.as_ref().is_some_and(established) {
            return Vec::new();
        }
        shared.api.forget_group(new.str_at(["spec", "group"]).unwrap_or_default());
        waiting(&shared)
    });
    let shared = context.clone();
    manager.watch_mapped(queue, &caches.of(&context::kinds::namespaces()), move |c| {
        if c.old.is_none() { waiting(&shared) } else { Vec::new() }
    });
    // A unit that has become ready, or ready anew, may have made what others read.
    let applied = |v: &Value| {
        let ready = conditions::get(v, "Ready").filter(|c| c["status"].as_str() == Some("True"));
        ready.map(|c| (c["message"].clone(), c["lastTransitionTime"].clone()))
    };
    for units in [&context.kustomizations, &context.helm_releases] {
        let shared = context.clone();
        manager.watch_mapped(queue, units, move |c| {
            let (old, new) = (c.old.as_deref().and_then(applied), c.new.as_deref().and_then(applied));
            if new.is_some() && old != new { waiting(&shared) } else { Vec::new() }
        });
    }
}
