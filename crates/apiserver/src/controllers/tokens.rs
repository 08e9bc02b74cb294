//! Secrets of type `kubernetes.io/service-account-token`: filled with a token that lasts as long as they do, and removed
//! with their ServiceAccount.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use druse_object::Value;

use super::source::{Event, Source};
use crate::handlers::{Call, DeleteOptions, Mode, change, remove};
use crate::server::Shared;

const KIND: &str = "kubernetes.io/service-account-token";
const ACCOUNT: &str = "kubernetes.io/service-account.name";
const UID: &str = "kubernetes.io/service-account.uid";
/// How often Secrets whose ServiceAccount is not there yet are looked at again.
const AGAIN: Duration = Duration::from_secs(1);
/// How often a Secret may be found without its ServiceAccount before it is taken for left behind.
const PATIENCE: u32 = 10;

/// Follows Secrets, and while there are such ones, their ServiceAccounts.
pub async fn run(shared: Arc<Shared>) {
    if !shared.furnish {
        return;
    }
    let mut secrets = Source::new(&shared, "secrets");
    // Those of this type, and how often each was found without its ServiceAccount.
    let mut known: HashMap<(String, String), u32> = HashMap::new();
    let mut seen = None;
    let mut again = None;
    while let Some(event) = secrets.next(again).await {
        let now = shared.store.last_change("secrets");
        let found: Vec<Value> = match event {
            // Nothing changed: only ServiceAccounts may have gone.
            Event::Reset if seen == Some(now) => {
                known.keys().filter_map(|(ns, name)| shared.object("secrets", ns, name)).collect()
            }
            Event::Reset => shared.objects("secrets", ""),
            Event::Changes(list) => list.iter().filter_map(|c| c.object.value().ok()).collect(),
        };
        seen = Some(now);
        for secret in found.iter().filter(|s| s.str_at(["type"]) == Some(KIND)) {
            settle(&shared, secret, &mut known).await;
        }
        known.retain(|(ns, name), _| shared.object("secrets", ns, name).is_some());
        again = (!known.is_empty()).then_some(AGAIN);
    }
}

async fn settle(shared: &Arc<Shared>, secret: &Value, known: &mut HashMap<(String, String), u32>) {
    let text = |k: &str| secret.str_at(["metadata", k]).unwrap_or_default().to_owned();
    let (namespace, name, own) = (text("namespace"), text("name"), text("uid"));
    let times = known.entry((namespace.clone(), name.clone())).or_default();
    let annotation = |k: &str| secret.at(["metadata", "annotations"]).and_then(|a| a.get(k)).and_then(Value::as_str);
    let account = annotation(ACCOUNT).unwrap_or_default();
    let table = shared.registry.table();
    let Some(resource) = table.get("", "secrets").cloned() else { return };
    let call = Call::internal(shared, "kube-controller-manager", &resource, &namespace, &name);
    let uid = shared.object("serviceaccounts", &namespace, account);
    let uid = uid.as_ref().and_then(|a| a.str_at(["metadata", "uid"])).map(str::to_owned);
    let uid = uid.filter(|u| annotation(UID).is_none_or(|a| a == u));
    let Some(uid) = uid else {
        // One made just before its ServiceAccount is given the time; one whose ServiceAccount went goes too.
        *times += 1;
        if annotation(UID).is_some() || *times > PATIENCE {
            let options = DeleteOptions { uid: Some(own), ..DeleteOptions::default() };
            let _ = remove(&call, &name, &options).await;
        }
        return;
    };
    *times = 0;
    let has = |k: &str| secret["data"].str_at([k]).is_some_and(|v| !v.is_empty());
    if annotation(UID).is_some() && has("token") && has("ca.crt") && has("namespace") {
        return;
    }
    let claims = crate::auth::Claims::lasting(&namespace, account, &uid, &name);
    let signer = shared.clone();
    let signed = tokio::task::spawn_blocking(move || signer.issuer.sign(&claims)).await;
    let Ok(Ok(token)) = signed else {
        tracing::warn!(secret = name, "no token could be made");
        return;
    };
    let done = change(&call, &name, "", Mode::System, false, &mut |old, _| {
        let mut new = old.clone();
        if let Some(a) = new.make_map_at(["metadata", "annotations"]) {
            a.insert(UID, uid.as_str());
        }
        if let Some(data) = new.make_map_at(["data"]) {
            for (k, v) in [("ca.crt", &shared.ca_pem), ("namespace", &namespace), ("token", &token)] {
                data.insert(k, STANDARD.encode(v));
            }
        }
        Ok(new)
    })
    .await;
    if let Err(e) = done {
        tracing::debug!(secret = name, error = %e, "not filled");
    }
}
