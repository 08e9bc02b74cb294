//! What every controller stands on: an API client for plain [`Value`](druse_object::Value)s ([`Api`]), watch caches
//! shared by all who need a kind ([`Caches`]), and work queues that run a reconciler with bounded concurrency,
//! requeues and backoff ([`Manager`]), Events about what was done ([`Recorder`]).
//!
//! Works against any Kubernetes API a `kube::Client` reaches, the embedded one in this process included. Knows nothing
//! of what is reconciled.

pub mod api;
pub mod cache;
pub mod clock;
pub mod events;
pub mod queue;
mod sealed;

pub use api::{Api, ApiError, DeleteOptions, ListOptions, Patch, Resource};
pub use cache::{Cache, Caches, Change, Key};
pub use clock::Clock;
pub use events::Recorder;
pub use queue::{Manager, Next, Queue, Reconciler};
pub use sealed::PodToken;
