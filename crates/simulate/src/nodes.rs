//! Simulated nodes.

use druse_object::{Map, Value};
use druse_runtime::{Api, clock};
use serde_json::json;

use crate::{SIMULATED, SimulateError, kinds};

/// The namespace of the nodes' Leases.
const LEASES: &str = "kube-node-lease";

/// A node to simulate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// Whether it carries the control plane role.
    pub control_plane: bool,
    /// CPU architecture: `amd64`, `arm64`.
    pub arch: String,
    /// Labels beside the well-known ones.
    pub labels: Vec<(String, String)>,
}

impl Node {
    /// `n` nodes named `node-1`…, the first of them the control plane.
    #[must_use]
    pub fn numbered(n: usize) -> Vec<Self> {
        (1..=n)
            .map(|i| Self {
                name: format!("node-{i}"),
                control_plane: i == 1,
                arch: "amd64".to_owned(),
                labels: Vec::new(),
            })
            .collect()
    }
}

/// Creates the nodes that are not there yet; a stage makes them ready.
pub(crate) async fn create(api: &Api, nodes: &[Node]) -> Result<(), SimulateError> {
    let resource = kinds::nodes();
    for (i, node) in nodes.iter().enumerate() {
        let failed = |e| SimulateError::Node { node: node.name.clone(), source: Box::new(e) };
        if let Some(there) = api.get(&resource, "", &node.name).await.map_err(failed)? {
            renew(api, node, there.str_at(["metadata", "uid"]).unwrap_or_default()).await.map_err(failed)?;
            continue;
        }
        let mut labels: Map = node.labels.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        for (k, v) in [
            ("kubernetes.io/arch", node.arch.as_str()),
            ("kubernetes.io/os", "linux"),
            ("kubernetes.io/hostname", node.name.as_str()),
        ] {
            labels.insert(k, v);
        }
        if node.control_plane {
            labels.insert("node-role.kubernetes.io/control-plane", "");
        }
        let mut object = Value::from(json!({
            "apiVersion": "v1", "kind": "Node",
            "metadata": {"name": node.name, "annotations": {SIMULATED: "node: no machine stands behind it"}},
            "spec": {"podCIDR": format!("10.244.{i}.0/24"), "podCIDRs": [format!("10.244.{i}.0/24")]},
        }));
        if let Some(m) = object.make_map_at(["metadata"]) {
            m.insert("labels", labels);
        }
        let made = api.create(&resource, "", &object).await.map_err(failed)?;
        let status = json!({
            "metadata": {"name": node.name}, "apiVersion": "v1", "kind": "Node",
            "status": {
                "addresses": [{"type": "InternalIP", "address": format!("192.0.2.{}", i + 1)}, {"type": "Hostname", "address": node.name}],
                "capacity": {"cpu": "8", "memory": "32Gi", "pods": "250", "ephemeral-storage": "256Gi"},
                "allocatable": {"cpu": "8", "memory": "32Gi", "pods": "250", "ephemeral-storage": "256Gi"},
                "nodeInfo": {
                    "architecture": node.arch, "operatingSystem": "linux", "kubeletVersion": "v1.36.3",
                    "containerRuntimeVersion": "simulated://druse", "kernelVersion": "simulated", "osImage": "simulated",
                    "machineID": "", "systemUUID": "", "bootID": "", "kubeProxyVersion": "",
                },
                "conditions": [{
                    "type": "Ready", "status": "True", "reason": "Simulated", "message": "simulated by druse",
                    "lastHeartbeatTime": clock::now(), "lastTransitionTime": clock::now(),
                }],
            },
        });
        let how = druse_runtime::Patch::Merge;
        api.patch(&resource, "", &node.name, "status", how, &Value::from(status)).await.map_err(failed)?;
        // A new node is tainted until a controller finds it ready.
        let untainted = Value::from(json!({"spec": {"taints": null}}));
        api.patch(&resource, "", &node.name, "", how, &untainted).await.map_err(failed)?;
        renew(api, node, made.str_at(["metadata", "uid"]).unwrap_or_default()).await.map_err(failed)?;
    }
    Ok(())
}

/// Holds the node's Lease as a kubelet does at its start: made when it is not there, renewed when it is.
///
/// Nothing renews it further: nodes are not evicted for silence here.
async fn renew(api: &Api, node: &Node, uid: &str) -> Result<(), druse_runtime::ApiError> {
    let resource = kinds::leases();
    // A MicroTime has six decimals.
    let now = clock::now().replace('Z', ".000000Z");
    let mut lease = json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": {"name": node.name},
        "spec": {"holderIdentity": node.name, "leaseDurationSeconds": 40, "renewTime": now},
    });
    if api.get(&resource, LEASES, &node.name).await?.is_some() {
        api.patch(&resource, LEASES, &node.name, "", druse_runtime::Patch::Merge, &Value::from(lease)).await?;
        return Ok(());
    }
    lease["metadata"]["ownerReferences"] = json!([{"apiVersion": "v1", "kind": "Node", "name": node.name, "uid": uid}]);
    api.create(&resource, LEASES, &Value::from(lease)).await?;
    Ok(())
}
