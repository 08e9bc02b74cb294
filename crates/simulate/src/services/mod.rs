//! Services: their EndpointSlices and Endpoints, Endpoints mirrored as slices, and addresses for those of type
//! LoadBalancer.
//!
//! As kube-controller-manager's `endpoint`, `endpointslice` and `endpointslicemirroring` controllers do it. The first two
//! look at the same pods for the same reasons, and are one here.

mod address;
mod behind;
mod endpoints;
mod hands;
mod hash;
mod hints;
mod mirror;
mod port;
mod set;
mod slices;
mod subsets;
#[cfg(test)]
mod tests;
mod trigger;

use std::sync::Arc;

use druse_object::Value;
use druse_runtime::{ApiError, Cache, Caches, DeleteOptions, Key, Manager, Next, Reconciler, Recorder};
use jiff::Timestamp;

use crate::kinds;
use crate::workloads::pods::namespace_goes;
use crate::workloads::report::Note;
use hands::Hands;
use trigger::Triggers;

struct Controller {
    services: Arc<Cache>,
    pods: Arc<Cache>,
    nodes: Arc<Cache>,
    endpoints: Arc<Cache>,
    hands: Hands,
    triggers: Triggers,
    of_slices: Recorder,
    of_endpoints: Recorder,
}

pub(crate) fn start(manager: &Manager, caches: &Caches) {
    let recorder = |component| Recorder::new(caches.api().clone(), component);
    let controller = Arc::new(Controller {
        services: caches.of(&kinds::services()),
        pods: caches.of(&kinds::pods()),
        nodes: caches.of(&kinds::nodes()),
        endpoints: caches.of(&kinds::endpoints()),
        hands: Hands::new(caches, slices::CONTROLLER, "Service"),
        triggers: Triggers::default(),
        of_slices: recorder("endpoint-slice-controller"),
        of_endpoints: recorder("endpoint-controller"),
    });
    let queue = manager.queue();
    manager.run("services", &queue, controller.clone(), 4);
    manager.watch(&queue, &controller.services);
    let services = controller.services.clone();
    manager.watch_mapped(&queue, &controller.pods, move |c| {
        let labels = behind::concerned(c);
        if labels.is_empty() {
            return Vec::new();
        }
        let mut all = services.in_namespace(&c.key.namespace);
        all.retain(|s| labels.iter().any(|l| behind::selects(s, l)));
        all.iter().map(|s| Key::of(s)).collect()
    });
    // Nodes are only looked up, and have to be known before anything is.
    manager.watch_mapped(&queue, &controller.nodes, |_| Vec::new());
    let by = controller.clone();
    manager.watch_mapped(&queue, controller.hands.slices(), move |c| {
        let mut keys = by.hands.news(c);
        // Those of a Service that is gone go with it.
        keys.retain(|k| by.services.get(k).is_some());
        keys
    });
    let by = controller.clone();
    manager.watch_mapped(&queue, &controller.endpoints, move |c| {
        let gone = c.new.is_none() && by.services.get(&c.key).is_some();
        if gone || by.hands.written().is_waiting(&c.key) { vec![c.key.clone()] } else { Vec::new() }
    });
    mirror::start(manager, caches);
    // Endpoints whose Service went while nobody looked.
    let leftover = queue.clone();
    manager.keep(tokio::spawn(async move {
        controller.services.synced().await;
        controller.endpoints.synced().await;
        let left = controller.endpoints.all();
        left.iter()
            .filter(|e| e["metadata"]["annotations"]["control-plane.alpha.kubernetes.io/leader"].is_null())
            .map(|e| Key::of(e))
            .filter(|k| controller.services.get(k).is_none())
            .for_each(|k| leftover.add(k));
    }));
}

impl Reconciler for Controller {
    async fn reconcile(&self, key: Key) -> Next {
        let service = match self.hands.written().owner(&self.services, &key, self.hands.api()).await {
            Ok(service) => service,
            Err(next) if self.services.get(&key).is_some() => return next,
            Err(_) => return self.gone(&key).await,
        };
        let mut failed = address::assign(self.hands.api(), &key, &service).await.is_err();
        if behind::is_selecting(&service) {
            let mut pods = self.pods.in_namespace(&key.namespace);
            pods.retain(|p| behind::selects(&service, &p["metadata"]["labels"]));
            let trigger = self.triggers.since_last(&key, &service, &pods);
            failed |= self.slices(&key, &service, &pods, trigger).await.is_err();
            failed |= self.endpoints(&key, &service, &pods, trigger).await.is_err();
        }
        if failed { Next::Retry } else { Next::Wait }
    }
}

/// Something failed, and was told.
struct Told;

impl Controller {
    /// The Service is gone: its slices go with it as what it owns, its Endpoints by their name.
    async fn gone(&self, key: &Key) -> Next {
        self.triggers.forget(key);
        let resource = self.endpoints.resource();
        let gone = self.hands.api().delete(resource, &key.namespace, &key.name, &DeleteOptions::default()).await;
        if gone.is_err() { Next::Retry } else { Next::Wait }
    }

    async fn slices(
        &self,
        key: &Key,
        service: &Value,
        pods: &[Arc<Value>],
        trigger: Option<Timestamp>,
    ) -> Result<(), Told> {
        let mut existing = self.hands.made_for(key);
        existing.retain(|s| s["metadata"]["deletionTimestamp"].is_null());
        let node = |name: &str| self.nodes.get(&Key::new("", name));
        let mut plan = slices::plan(&slices::Behind { service, pods, node: &node }, &existing, trigger);
        let mut failures = std::mem::take(&mut plan.failures);
        failures.extend(self.hands.carry_out(key, service, plan).await.err());
        failures.dedup();
        let why = match failures.as_slice() {
            [] => return Ok(()),
            [one] => one.clone(),
            several => format!("[{}]", several.join(", ")),
        };
        let message = format!("Error updating Endpoint Slices for Service {key}: {why}");
        Note::warning("FailedToUpdateEndpointSlices", message).tell(&self.of_slices, service).await;
        Err(Told)
    }

    async fn endpoints(
        &self,
        key: &Key,
        service: &Value,
        pods: &[Arc<Value>],
        trigger: Option<Timestamp>,
    ) -> Result<(), Told> {
        let current = self.endpoints.get(key);
        let Some(object) = endpoints::plan(service, pods, current.as_deref(), trigger) else { return Ok(()) };
        let (api, resource, written) = (self.hands.api(), self.endpoints.resource(), self.hands.written());
        let done: Result<(), (ApiError, Note)> = if current.is_some() {
            api.replace(resource, "", &object).await.map(|a| written.changed(key, &self.endpoints, &a)).map_err(|e| {
                let message = format!("Failed to update endpoint {key}: {e}");
                (e, Note::warning("FailedToUpdateEndpoint", message))
            })
        } else {
            let made = api.create(resource, &key.namespace, &object).await;
            made.map(|a| written.made(key, &self.endpoints, &a)).map_err(|e| {
                let message = format!("Failed to create endpoint for service {key}: {e}");
                (e, Note::warning("FailedToCreateEndpoint", message))
            })
        };
        match done {
            Ok(()) => Ok(()),
            Err((e, _)) if namespace_goes(&e) => Ok(()),
            Err((_, note)) => {
                note.tell(&self.of_endpoints, &object).await;
                Err(Told)
            }
        }
    }
}
