//! Load balancer addresses, which are simulated unless the Service asks for one.

use druse_object::Value;
use druse_runtime::{Api, ApiError, Key, Patch};
use serde_json::json;

use crate::workloads::pods::going;
use crate::{SIMULATED, kinds};

/// Gives a Service of type LoadBalancer the addresses it asks for, or one of its own, and takes them from any other.
pub async fn assign(api: &Api, key: &Key, service: &Value) -> Result<(), ApiError> {
    if going(service) {
        return Ok(());
    }
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
        api.patch(&kinds::services(), &key.namespace, &key.name, "", Patch::Merge, &Value::from(note)).await?;
    }
    let status = Value::from(json!({"status": {"loadBalancer": {"ingress": ingress}}}));
    match api.patch(&kinds::services(), &key.namespace, &key.name, "status", Patch::Merge, &status).await {
        Err(e) if e.is_not_found() => Ok(()),
        other => other.map(|_| ()),
    }
}

fn checksum(text: &str) -> u32 {
    text.bytes().fold(2_166_136_261, |h: u32, b| (h ^ u32::from(b)).wrapping_mul(16_777_619))
}
