//! A simulated cluster underneath the embedded API: nodes, scheduling, and workloads that become ready.
//!
//! The controllers of a Kubernetes cluster that turn declared workloads into pods run here for real ([`workloads`],
//! [`scheduler`], [`volumes`], [`services`], [`disruption`], [`autoscaler`]); what is simulated is the machines and the
//! processes. Pods, nodes and any other kind move from state to state by [`stage`]s written as data (`data/stages.yaml`,
//! and those components add).
//! Whatever a stage did carries the annotation `druse.dev/simulated`, and conditions it sets say `Simulated`.

pub mod autoscaler;
pub mod disruption;
pub mod nodes;
pub mod scheduler;
pub mod services;
pub mod stage;
#[cfg(test)]
mod testing;
pub mod volumes;
pub mod workloads;

use std::sync::Arc;

use druse_object::Value;
use druse_runtime::{Caches, Clock, Manager, Resource};

pub use stage::{Stage, StageError};

/// The annotation that says what in an object is simulated.
pub const SIMULATED: &str = "druse.dev/simulated";

/// What to simulate.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The nodes.
    pub nodes: Vec<nodes::Node>,
    /// Stages beside the built-in ones.
    pub stages: Vec<Stage>,
    /// What pods have to wait for before they run.
    pub hold: Hold,
    /// What time it is for the controllers that wait for one.
    pub clock: Clock,
}

/// Says whether a pod waits for something that others do for it, such as mounting its volumes. They change the pod when
/// it may go on.
#[derive(Clone, Default)]
pub struct Hold(Option<Arc<Test>>);

type Test = dyn Fn(&Value) -> bool + Send + Sync;

impl Hold {
    /// Holds pods while this is true of them.
    #[must_use]
    pub fn while_true(of: impl Fn(&Value) -> bool + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(of)))
    }

    pub(crate) fn holds(&self, object: &Value) -> bool {
        self.0.as_ref().is_some_and(|of| of(object))
    }
}

impl std::fmt::Debug for Hold {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Hold({})", self.0.is_some())
    }
}

/// Starts the simulated cluster; it runs until the manager is dropped.
///
/// # Errors
/// When the nodes cannot be made, or a stage's template does not parse.
pub async fn start(manager: &Manager, caches: &Caches, options: Options) -> Result<(), SimulateError> {
    nodes::create(caches.api(), &options.nodes).await?;
    let mut stages = stage::builtin()?;
    stages.extend(options.stages);
    stage::start(manager, caches, stages, &options.hold)?;
    scheduler::start(manager, caches);
    volumes::start(manager, caches);
    services::start(manager, caches);
    workloads::start(manager, caches, &options.clock);
    disruption::start(manager, caches, &options.clock);
    autoscaler::start(manager, caches, &options.clock);
    Ok(())
}

/// Why the simulated cluster could not start.
#[derive(Debug, thiserror::Error)]
pub enum SimulateError {
    /// A stage is malformed.
    #[error(transparent)]
    Stage(#[from] StageError),
    /// The API refused something.
    #[error("cannot make simulated node {node}: {source}")]
    Node {
        /// The node's name.
        node: String,
        /// What the API answered.
        source: Box<druse_runtime::ApiError>,
    },
}

/// The kinds simulated, as they are served.
pub(crate) mod kinds {
    use super::{Arc, Resource};

    fn core(kind: &str, plural: &str, namespaced: bool) -> Arc<Resource> {
        Arc::new(Resource::new("", "v1", kind, plural, namespaced))
    }
    pub fn pods() -> Arc<Resource> {
        core("Pod", "pods", true)
    }
    pub fn nodes() -> Arc<Resource> {
        core("Node", "nodes", false)
    }
    pub fn leases() -> Arc<Resource> {
        Arc::new(Resource::new("coordination.k8s.io", "v1", "Lease", "leases", true))
    }
    pub fn services() -> Arc<Resource> {
        core("Service", "services", true)
    }
    pub fn claims() -> Arc<Resource> {
        core("PersistentVolumeClaim", "persistentvolumeclaims", true)
    }
    pub fn volumes() -> Arc<Resource> {
        core("PersistentVolume", "persistentvolumes", false)
    }
    pub fn endpoints() -> Arc<Resource> {
        core("Endpoints", "endpoints", true)
    }
    pub fn slices() -> Arc<Resource> {
        Arc::new(Resource::new("discovery.k8s.io", "v1", "EndpointSlice", "endpointslices", true))
    }
    pub fn classes() -> Arc<Resource> {
        Arc::new(Resource::new("storage.k8s.io", "v1", "StorageClass", "storageclasses", false))
    }
    pub fn budgets() -> Arc<Resource> {
        Arc::new(Resource::new("policy", "v1", "PodDisruptionBudget", "poddisruptionbudgets", true))
    }
    pub fn autoscalers() -> Arc<Resource> {
        let kind = "HorizontalPodAutoscaler";
        Arc::new(Resource::new("autoscaling", "v2", kind, "horizontalpodautoscalers", true))
    }
    pub fn apps(kind: &str, plural: &str) -> Arc<Resource> {
        Arc::new(Resource::new("apps", "v1", kind, plural, true))
    }
    pub fn batch(kind: &str, plural: &str) -> Arc<Resource> {
        Arc::new(Resource::new("batch", "v1", kind, plural, true))
    }
}
