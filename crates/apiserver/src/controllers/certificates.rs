//! Signs approved certificate requests of the signers every cluster has, with this server's authority.
//!
//! Each signer accepts only what upstream's does: kubelets' certificates have their subject and usages, others any
//! subject. Requests of other signers are somebody else's.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use druse_object::{Map, Value};

use super::source::{Event, Source};
use crate::auth::request_subject;
use crate::handlers::{Call, Mode, change};
use crate::server::{Shared, now};
use crate::strategy::CSRS;

/// How long a certificate lasts when its request does not say.
const YEAR: u64 = 365 * 24 * 3600;
/// The least a request may ask for, as upstream.
const LEAST: u64 = 600;

/// Follows requests.
pub async fn run(shared: Arc<Shared>) {
    let mut source = Source::new(&shared, CSRS);
    while let Some(event) = source.next(None).await {
        let names: Vec<String> = match event {
            Event::Reset => shared
                .objects(CSRS, "")
                .iter()
                .filter_map(|c| c.str_at(["metadata", "name"]).map(str::to_owned))
                .collect(),
            Event::Changes(list) => list.iter().map(|c| c.object.name.to_string()).collect(),
        };
        for name in names {
            settle(&shared, &name).await;
        }
    }
}

fn has(csr: &Value, kind: &str) -> bool {
    csr["status"]["conditions"].items().iter().any(|c| c.str_at(["type"]) == Some(kind))
}

async fn settle(shared: &Arc<Shared>, name: &str) {
    let Some(csr) = shared.object(CSRS, "", name) else { return };
    let signed = csr.str_at(["status", "certificate"]).is_some_and(|c| !c.is_empty());
    if !has(&csr, "Approved") || has(&csr, "Failed") || signed {
        return;
    }
    let Some(outcome) = sign(shared, &csr) else { return };
    let table = shared.registry.table();
    let Some(resource) = table.get("certificates.k8s.io", "certificatesigningrequests").cloned() else { return };
    let call = Call::internal(shared, "certificate-controller", &resource, "", name);
    let done = change(&call, name, "status", Mode::System, false, &mut |old, _| {
        let mut new = old.clone();
        let Some(status) = new.make_map_at(["status"]) else { return Ok(new) };
        match &outcome {
            Ok(pem) => {
                status.insert("certificate", STANDARD.encode(pem));
            }
            Err(why) => {
                let mut c = Map::new();
                c.insert("type", "Failed");
                c.insert("status", "True");
                c.insert("reason", "SignerValidationFailure");
                c.insert("message", why.as_str());
                c.insert("lastUpdateTime", now());
                c.insert("lastTransitionTime", now());
                let mut list = status.get("conditions").map(|c| c.items().to_vec()).unwrap_or_default();
                list.push(Value::Map(c));
                status.insert("conditions", list);
            }
        }
        Ok(new)
    })
    .await;
    if let Err(e) = done {
        tracing::warn!(request = name, error = %e, "a certificate could not be handed out");
    }
}

/// The certificate, or why it is not made; `None` when the signer is none of this server's.
fn sign(shared: &Shared, csr: &Value) -> Option<Result<String, String>> {
    let signer = csr.str_at(["spec", "signerName"])?.strip_prefix("kubernetes.io/")?;
    let usages: Vec<&str> = csr["spec"]["usages"].items().iter().filter_map(Value::as_str).collect();
    let pem = STANDARD.decode(csr.str_at(["spec", "request"])?).ok().and_then(|b| String::from_utf8(b).ok());
    let Some(pem) = pem else { return Some(Err("the request is no PEM".into())) };
    let subject = pem::parse(&pem).ok().and_then(|p| request_subject(p.contents()));
    let only = |allowed: &[&str], needed: &str| usages.iter().all(|u| allowed.contains(u)) && usages.contains(&needed);
    let node = subject.as_ref().is_some_and(|u| {
        u.name.starts_with("system:node:") && u.groups.iter().map(|g| g.as_str()).eq(["system:nodes"])
    });
    let client = ["digital signature", "key encipherment", "client auth"];
    let serving = ["digital signature", "key encipherment", "server auth"];
    let accepted = match signer {
        "kube-apiserver-client" => only(&client, "client auth"),
        "kube-apiserver-client-kubelet" => node && only(&client, "client auth"),
        "kubelet-serving" => node && only(&serving, "server auth"),
        "legacy-unknown" => true,
        _ => return None,
    };
    if !accepted {
        return Some(Err(format!("the request's subject or usages are not those that kubernetes.io/{signer} signs")));
    }
    let asked = csr.at(["spec", "expirationSeconds"]).and_then(Value::as_i64).and_then(|s| u64::try_from(s).ok());
    let lasts = Duration::from_secs(asked.map_or(YEAR, |s| s.clamp(LEAST, YEAR)));
    Some(shared.certificates.sign(&pem, &usages, lasts).map_err(|e| e.to_string()))
}
