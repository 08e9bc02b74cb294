//! Controllers that a control plane without them would not be one: CRDs taking effect, namespaces emptied,
//! dependents collected, what every namespace is born with, roles aggregated, quotas counted, certificates signed,
//! priority and fairness described.
//!
//! They work on the server's state directly and write through the same handlers as every client.

mod apiservices;
mod certificates;
mod crds;
pub(crate) mod flow;
mod garbage;
mod namespaces;
mod quotas;
mod roles;
mod simulated;
mod source;
mod tokens;

pub(crate) use crds::{CLEANUP as CRD_CLEANUP, CRDS, start_terminating};
pub use namespaces::furnish;
pub use roles::settle as settle_roles;

use std::sync::Arc;

use druse_object::Value;

use crate::registry::Resource;
use crate::server::Shared;

/// What has to happen at once after a write, before its client is answered.
pub fn after_write(shared: &Arc<Shared>, resource: &Resource, new: Option<&Value>, old: Option<&Value>) {
    if resource.stored_as == crds::CRDS {
        crds::changed(shared, new, old);
    }
}

/// Reads the CRDs in the store into the table; before the first request.
pub fn load(shared: &Arc<Shared>) {
    for crd in shared.objects(crds::CRDS, "") {
        crds::serve(shared, &crd);
    }
    for service in shared.objects("services", "") {
        shared.allocators.learn(&service);
    }
}

/// Starts the controllers; they end when the server closes.
pub fn start(shared: &Arc<Shared>) {
    tokio::spawn(crds::run(shared.clone()));
    tokio::spawn(namespaces::run(shared.clone()));
    tokio::spawn(garbage::run(shared.clone()));
    tokio::spawn(simulated::run(shared.clone()));
    tokio::spawn(roles::run(shared.clone()));
    tokio::spawn(tokens::run(shared.clone()));
    tokio::spawn(apiservices::run(shared.clone()));
    tokio::spawn(quotas::run(shared.clone()));
    tokio::spawn(certificates::run(shared.clone()));
    tokio::spawn(flow::run(shared.clone()));
}
