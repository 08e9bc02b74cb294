//! Renewing published volumes where the kubelet does not: when the CSIDriver object lacks `requiresRepublish`.
//!
//! Every volume of this node is published again as the kubelet would do it, with tokens from the TokenRequest API for the
//! audiences that the CSIDriver names. What upstream's driver did before 1.6; it needs the rights to make tokens
//! (`serviceaccounts/token`) and, where volumes have a `nodePublishSecretRef`, to read that Secret.

use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use druse_object::Value;
use druse_runtime::{Api, ListOptions};

use crate::class::{NODE_LABEL, PodStatus, pods, statuses};
use crate::kubelet::{DRIVER, drivers, publish_request, volume_of};
use crate::mount::pod_and_volume;
use crate::node::Node;
use crate::wire::csi::NodePublishVolumeRequest;

/// How many volumes are renewed at once.
const CONCURRENT: usize = 8;

/// Renews this node's volumes as they come due, for as long as it is polled. Does nothing while the kubelet does it.
pub async fn run(node: Node) {
    let Some(interval) = node.settings().rotation else { return };
    // Volumes come due at times of their own; looking often is cheap, as only those due are asked about.
    let pause = (interval / 20).clamp(Duration::from_millis(100), Duration::from_secs(30));
    loop {
        tokio::time::sleep(pause).await;
        if let Err(e) = round(&node).await {
            tracing::warn!("volumes are not looked at for renewal: {e}");
        }
    }
}

/// Renews the volumes that are due now; returns how many were asked about.
///
/// # Errors
/// When the API cannot be asked. What goes wrong with one volume is logged and counted, and does not stop the others.
pub async fn round(node: &Node) -> Result<usize, String> {
    let api = node.api();
    let driver =
        api.get(&drivers(), "", DRIVER).await.map_err(|e| format!("CSIDriver {DRIVER} cannot be read: {e}"))?;
    let Some(driver) = driver else { return Err(format!("there is no CSIDriver {DRIVER}")) };
    if driver["spec"]["requiresRepublish"].as_bool() == Some(true) {
        return Ok(0);
    }
    let mine = ListOptions { labels: format!("{NODE_LABEL}={}", node.settings().node), ..ListOptions::default() };
    let (listed, _) = api.list(&statuses(), "", &mine).await.map_err(|e| format!("pod statuses: {e}"))?;
    let due = listed.iter().filter_map(PodStatus::of).filter(|s| node.wants_renewal(Path::new(&s.target_path)));
    let mut running = tokio::task::JoinSet::new();
    let mut asked = 0;
    for status in due {
        if running.len() >= CONCURRENT {
            running.join_next().await;
        }
        asked += 1;
        let (node, driver) = (node.clone(), driver.clone());
        running.spawn(async move {
            match request(node.api(), &driver, &status).await {
                // Whatever comes of it is logged and counted there.
                Ok(Some(request)) => drop(node.publish(request).await),
                Ok(None) => {}
                Err(e) => {
                    node.metrics().not_rotated("", "FailedToRotate");
                    tracing::warn!(pod = %status.pod, "volume not renewed: {e}");
                }
            }
        });
    }
    while running.join_next().await.is_some() {}
    Ok(asked)
}

/// The request the kubelet would send; nothing for pods that have ended.
async fn request(api: &Api, driver: &Value, status: &PodStatus) -> Result<Option<NodePublishVolumeRequest>, String> {
    let namespace = &status.pod.namespace;
    let pod = api.get(&pods(), namespace, &status.pod.name).await.map_err(|e| format!("pod {}: {e}", status.pod))?;
    let Some(pod) = pod else { return Ok(None) };
    let uid = pod.str_at(["metadata", "uid"]).unwrap_or_default();
    let ended = matches!(pod.str_at(["status", "phase"]), Some("Succeeded" | "Failed"));
    if ended || uid != status.pod.uid || pod.at(["metadata", "deletionTimestamp"]).is_some_and(|t| !t.is_null()) {
        return Ok(None);
    }
    let Some(volume) = volume_of(&pod, &status.class) else { return Ok(None) };
    if pod_and_volume(Path::new(&status.target_path)) != Some((uid, volume["name"].as_str().unwrap_or_default())) {
        return Err(format!("{} is not the path of a volume of pod {}", status.target_path, status.pod));
    }
    let mut request = publish_request(api, driver, &pod, volume, &status.target_path, true).await?;
    // It has been published, so that it was.
    request.readonly = true;
    if let Some(name) = volume.str_at(["csi", "nodePublishSecretRef", "name"]) {
        let data = api.secret_data(namespace, name).await.map_err(|e| format!("Secret {namespace}/{name}: {e}"))?;
        let data = data.ok_or_else(|| format!("nodePublishSecretRef: there is no Secret {namespace}/{name}"))?;
        for (key, value) in data {
            // Zeroed with the request.
            let decoded = BASE64_STANDARD.decode(&*value).ok().and_then(|v| String::from_utf8(v).ok());
            let decoded = decoded.ok_or_else(|| format!("Secret {namespace}/{name}: {key} is not text"))?;
            request.secrets.insert(key, decoded);
        }
    }
    Ok(Some(request))
}
