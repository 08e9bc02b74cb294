//! Services: endpoint slices of the ready pods they select, and addresses for those of type LoadBalancer.
//!
//! Slices follow kube-controller-manager's endpointslice controller in shape (labels, owner, conditions); one slice a
//! service and address family suffices here. Load balancer addresses are simulated unless the Service asks for one.

use std::sync::Arc;

use druse_object::{Map, Value};
use druse_runtime::{Api, Cache, Caches, Key, Manager, Next, Patch, Reconciler};
use serde_json::json;

use crate::workloads::pods::is_ready;
use crate::{SIMULATED, kinds};

struct Endpoints {
    api: Api,
    services: Arc<Cache>,
    pods: Arc<Cache>,
    slices: Arc<Cache>,
}

pub(crate) fn start(manager: &Manager, caches: &Caches) {
    let (services, pods) = (caches.of(&kinds::services()), caches.of(&kinds::pods()));
    let slices = caches.of(&kinds::slices());
    let queue = manager.queue();
    let worker = Endpoints { api: caches.api().clone(), services: services.clone(), pods: pods.clone(), slices };
    manager.run("services", &queue, Arc::new(worker), 4);
    manager.watch(&queue, &services);
    let all = services;
    manager.watch_mapped(&queue, &pods, move |c| {
        let concerns = |pod: &Value| {
            pod["metadata"]["namespace"].as_str().map(|ns| (ns.to_owned(), pod["metadata"]["labels"].clone()))
        };
        let sides: Vec<_> = [&c.old, &c.new].into_iter().flatten().filter_map(|p| concerns(p)).collect();
        sides
            .iter()
            .flat_map(|(ns, labels)| {
                all.in_namespace(ns)
                    .into_iter()
                    .filter(|s| selects(&s["spec"]["selector"], labels))
                    .map(|s| Key::of(&s))
            })
            .collect()
    });
}

/// Whether a plain selector (all its labels equal) selects these labels; an empty one selects nothing.
pub(crate) fn selects(selector: &Value, labels: &Value) -> bool {
    selector.as_map().is_some_and(|s| !s.is_empty() && s.iter().all(|(k, v)| labels[k.as_str()] == *v))
}

impl Reconciler for Endpoints {
    async fn reconcile(&self, key: Key) -> Next {
        let Some(service) = self.services.get(&key) else { return Next::Wait };
        if !service["metadata"]["deletionTimestamp"].is_null() {
            return Next::Wait;
        }
        let slice = self.slice(&key, &service).await;
        let address = self.address(&key, &service).await;
        if slice.is_err() || address.is_err() { Next::Retry } else { Next::Wait }
    }
}

impl Endpoints {
    async fn slice(&self, key: &Key, service: &Value) -> Result<(), druse_runtime::ApiError> {
        if service["spec"]["selector"].as_map().is_none_or(druse_object::Map::is_empty) {
            return Ok(());
        }
        let mut pods: Vec<_> = self
            .pods
            .in_namespace(&key.namespace)
            .into_iter()
            .filter(|p| selects(&service["spec"]["selector"], &p["metadata"]["labels"]))
            .filter(|p| p.str_at(["status", "podIP"]).is_some_and(|ip| !ip.is_empty()))
            .filter(|p| !matches!(p.str_at(["status", "phase"]), Some("Succeeded" | "Failed")))
            .collect();
        pods.sort_by_key(|p| Key::of(p));
        let endpoints: Vec<serde_json::Value> = pods
            .iter()
            .map(|p| {
                let going = !p["metadata"]["deletionTimestamp"].is_null();
                let ready = !going && is_ready(p);
                json!({
                    "addresses": [p.str_at(["status", "podIP"])],
                    "conditions": {"ready": ready, "serving": is_ready(p), "terminating": going},
                    "nodeName": p.str_at(["spec", "nodeName"]),
                    "targetRef": {
                        "kind": "Pod", "namespace": key.namespace.as_str(),
                        "name": p.str_at(["metadata", "name"]), "uid": p.str_at(["metadata", "uid"]),
                    },
                })
            })
            .collect();
        let ports: Vec<serde_json::Value> = service["spec"]["ports"]
            .items()
            .iter()
            .map(|p| {
                json!({
                    "name": p["name"].as_str().unwrap_or_default(),
                    "port": target_port(p, pods.first().map(|p| &**p)),
                    "protocol": p["protocol"].as_str().unwrap_or("TCP"),
                })
            })
            .collect();
        let mut labels: Map = service["metadata"]["labels"].as_map().cloned().unwrap_or_default();
        labels.insert("endpointslice.kubernetes.io/managed-by", "endpointslice-controller.k8s.io");
        labels.insert("kubernetes.io/service-name", key.name.clone());
        let name = format!("{}-simulated", key.name);
        let object = json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {
                "name": name, "namespace": key.namespace.as_str(),
                "labels": serde_json::Value::from(Value::Map(labels)),
                "ownerReferences": [{
                    "apiVersion": "v1", "kind": "Service", "name": key.name.as_str(),
                    "uid": service.str_at(["metadata", "uid"]), "controller": true, "blockOwnerDeletion": true,
                }],
            },
            "endpoints": endpoints, "ports": ports,
        });
        let object = Value::from(object);
        let old = self.slices.get(&Key::new(key.namespace.clone(), name.as_str()));
        if old.is_some_and(|o| o["endpoints"] == object["endpoints"] && o["ports"] == object["ports"]) {
            return Ok(());
        }
        let how = Patch::Apply { manager: "endpointslice-controller", force: true, dry_run: false };
        match self.api.patch(&kinds::slices(), &key.namespace, &name, "", how, &object).await {
            Err(e) if e.is_not_found() => Ok(()),
            other => other.map(|_| ()),
        }
    }

    async fn address(&self, key: &Key, service: &Value) -> Result<(), druse_runtime::ApiError> {
        let wants = service.str_at(["spec", "type"]) == Some("LoadBalancer");
        let has = !service["status"]["loadBalancer"]["ingress"].items().is_empty();
        if wants == has {
            return Ok(());
        }
        let ingress = if wants {
            let asked = [
                "metallb.io/loadBalancerIPs",
                "metallb.universe.tf/loadBalancerIPs",
                "lbipam.cilium.io/ips",
                "io.cilium/lb-ipam-ips",
            ]
            .iter()
            .find_map(|a| service["metadata"]["annotations"][a].as_str())
            .or_else(|| service.str_at(["spec", "loadBalancerIP"]))
            .filter(|ips| !ips.is_empty());
            let ips: Vec<String> = match asked {
                Some(ips) => ips.split(',').map(|ip| ip.trim().to_owned()).collect(),
                None => vec![format!("198.51.100.{}", 1 + checksum(&key.to_string()) % 254)],
            };
            ips.into_iter().map(|ip| json!({"ip": ip, "ipMode": "VIP"})).collect()
        } else {
            Vec::new()
        };
        if wants {
            let note = json!({"metadata": {"annotations": {SIMULATED: "address: nothing announces it"}}});
            self.api.patch(&kinds::services(), &key.namespace, &key.name, "", Patch::Merge, &Value::from(note)).await?;
        }
        let status = Value::from(json!({"status": {"loadBalancer": {"ingress": ingress}}}));
        match self.api.patch(&kinds::services(), &key.namespace, &key.name, "status", Patch::Merge, &status).await {
            Err(e) if e.is_not_found() => Ok(()),
            other => other.map(|_| ()),
        }
    }
}

fn checksum(text: &str) -> u32 {
    text.bytes().fold(2_166_136_261, |h: u32, b| (h ^ u32::from(b)).wrapping_mul(16_777_619))
}

fn target_port(port: &Value, pod: Option<&Value>) -> i64 {
    let own = port["port"].as_i64().unwrap_or_default();
    match &port["targetPort"] {
        Value::String(name) => pod
            .into_iter()
            .flat_map(|p| p["spec"]["containers"].items())
            .flat_map(|c| c["ports"].items())
            .find(|p| p["name"].as_str() == Some(name))
            .and_then(|p| p["containerPort"].as_i64())
            .unwrap_or(own),
        other => other.as_i64().filter(|p| *p != 0).unwrap_or(own),
    }
}
