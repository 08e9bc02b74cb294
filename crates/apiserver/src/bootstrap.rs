//! What a cluster is born with. Objects are data (`data/bootstrap.yaml`); those that exist are left as they are.

use std::sync::Arc;

use druse_object::Gvk;
use druse_object::yaml::{self, Dialect};

use crate::handlers::{Call, insert};
use crate::server::Shared;

const OBJECTS: &str = include_str!("../data/bootstrap.yaml");

/// Makes what is missing.
pub async fn run(shared: &Arc<Shared>) {
    let table = shared.registry.table();
    for document in yaml::documents(OBJECTS, Dialect::Sigs) {
        let Ok(document) = document else {
            tracing::error!("the bootstrap objects cannot be read");
            continue;
        };
        let mut object = document.value;
        let Some(gvk) = Gvk::of(&object) else { continue };
        let Some(resource) = table.for_kind(&gvk.group, &gvk.kind) else { continue };
        let name = object.str_at(["metadata", "name"]).unwrap_or_default().to_owned();
        let namespace = object.str_at(["metadata", "namespace"]).unwrap_or_default().to_owned();
        if shared.stored(resource, &namespace, &name).is_some() {
            continue;
        }
        let call = Call::internal(shared, "kube-apiserver", resource, &namespace, &name);
        if let Ok(schema) = shared.schema(&gvk) {
            if let Err(e) = schema.decode(&mut object) {
                tracing::error!(%gvk, name, error = %e, "a bootstrap object cannot be read");
            }
            schema.default(&mut object);
        }
        if let Err(e) = insert(&call, object, None, false).await
            && e.reason != "AlreadyExists"
        {
            tracing::error!(%gvk, name, error = %e, "a bootstrap object cannot be made");
        }
    }
    for ns in shared.objects("namespaces", "") {
        if let Some(name) = ns.str_at(["metadata", "name"]) {
            crate::controllers::furnish(shared, name).await;
        }
    }
    endpoints(shared).await;
}

/// The `kubernetes` Service's endpoint is this server.
async fn endpoints(shared: &Arc<Shared>) {
    let address = shared.address.read().clone();
    let Some((host, port)) = address.rsplit_once(':') else { return };
    let host = host.trim_matches(['[', ']']);
    // Endpoints may not name loopback; clients outside use the kubeconfig anyway.
    let (Ok(ip), Ok(port)) = (host.parse::<std::net::IpAddr>(), port.parse::<u16>()) else { return };
    if ip.is_loopback() || ip.is_unspecified() {
        return;
    }
    let text = format!(
        r#"{{"apiVersion":"v1","kind":"Endpoints","metadata":{{"name":"kubernetes","namespace":"default","labels":{{"endpointslice.kubernetes.io/skip-mirror":"true"}}}},"subsets":[{{"addresses":[{{"ip":"{ip}"}}],"ports":[{{"name":"https","port":{port},"protocol":"TCP"}}]}}]}}"#
    );
    let table = shared.registry.table();
    let (Ok(object), Some(r)) = (druse_object::json::parse(text.as_bytes()), table.get("", "endpoints")) else {
        return;
    };
    if shared.stored(r, "default", "kubernetes").is_none() {
        let call = Call::internal(shared, "kube-apiserver", r, "default", "kubernetes");
        let made: Result<_, _> = insert(&call, object, None, false).await;
        if let Err(e) = made {
            tracing::debug!(error = %e, "the kubernetes endpoints were not made");
        }
    }
}
