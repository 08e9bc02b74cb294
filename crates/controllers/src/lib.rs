//! Flux-compatible controllers against any Kubernetes API: sources, Kustomizations, HelmReleases.
//!
//! They call the same render code as the command line (`druse-flux`, `druse-plan`): what was rehearsed is what runs.
//! [`start`] runs them on a [`Manager`] until it is dropped. Know nothing of which API they talk to.

pub mod conditions;
mod context;
pub mod events;
mod helmrelease;
mod hooks;
mod host;
pub mod inventory;
mod kustomization;
mod source;
pub mod ssa;
mod storage;
pub mod wait;

use std::sync::Arc;

use druse_object::Value;
use druse_runtime::{Cache, Caches, Key, Manager, Queue};

pub use context::{Options, Randomness};

/// Starts all controllers.
pub fn start(manager: &Manager, caches: &Caches, options: Options) {
    let context = Arc::new(context::Context::new(caches, options));
    source::start(manager, &context);
    kustomization::start(manager, caches, &context);
    helmrelease::start(manager, caches, &context);
}

/// Wakes the units that wait for kinds to be served whenever a definition is established.
fn wake_on_new_kinds(
    manager: &Manager,
    queue: &Queue,
    crds: &Cache,
    context: &Arc<context::Context>,
    unit: &'static str,
) {
    let context = context.clone();
    manager.watch_mapped(queue, crds, move |c| {
        let established = |v: &Arc<Value>| ssa::condition_is(v, "Established", "True");
        let Some(new) = c.new.as_ref().filter(|v| established(v)) else { return Vec::new() };
        if c.old.as_ref().is_some_and(established) {
            return Vec::new();
        }
        context.api.forget_group(new.str_at(["spec", "group"]).unwrap_or_default());
        let waiting = context.missing_kinds.lock();
        waiting.iter().filter(|(kind, _)| *kind == unit).map(|(_, key)| Key::clone(key)).collect()
    });
}
