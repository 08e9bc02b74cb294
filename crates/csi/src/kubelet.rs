//! The kubelet's side of a volume: which volumes of a pod are the driver's, and the request that publishes one. For whoever
//! does its work: [`crate::rotate`] where it does not renew, and kubelets that are simulated.

use std::collections::BTreeMap;

use druse_object::Value;
use druse_runtime::{Api, Resource};

use crate::class::strings;
use crate::sealed::to_json_text;
use crate::wire::csi::{AccessType, MountVolume, NodePublishVolumeRequest, TOKENS, VolumeCapability};

/// The driver's name.
pub const DRIVER: &str = "secrets-store.csi.k8s.io";
/// How long tokens last where the CSIDriver does not say, in seconds.
const TOKEN_SECONDS: i64 = 3600;

/// CSIDriver.
#[must_use]
pub fn drivers() -> Resource {
    Resource::new("storage.k8s.io", "v1", "CSIDriver", "csidrivers", false)
}

/// The volumes of a pod that are the driver's.
pub fn volumes(pod: &Value) -> impl Iterator<Item = &Value> {
    pod["spec"]["volumes"].items().iter().filter(|v| v.str_at(["csi", "driver"]) == Some(DRIVER))
}

/// The ServiceAccount as which a DaemonSet runs a secrets-store driver; `None` for another DaemonSet. A driver has the
/// driver's folder of the kubelet (`linux.kubeletRootDir`, `plugin-dir` in upstream's chart).
#[must_use]
pub fn driver_account(daemon_set: &Value) -> Option<&str> {
    let pod = &daemon_set["spec"]["template"]["spec"];
    let mut folders = pod["volumes"].items().iter().filter_map(|v| v.str_at(["hostPath", "path"]));
    let is_driver = folders.any(|f| f.trim_end_matches('/').ends_with("/plugins/csi-secrets-store"));
    is_driver.then(|| pod.str_at(["serviceAccountName"]).unwrap_or("default"))
}

/// The pod's volume of a class.
pub(crate) fn volume_of<'a>(pod: &'a Value, class: &str) -> Option<&'a Value> {
    volumes(pod).find(|v| v.str_at(["csi", "volumeAttributes", "secretProviderClass"]) == Some(class))
}

/// What an ephemeral volume is called.
#[must_use]
pub fn volume_id(pod_uid: &str, volume: &str) -> String {
    format!("csi-{pod_uid}-{volume}")
}

/// The request that publishes a pod's volume at `target`, with tokens of the pod's own ServiceAccount for the audiences
/// that the CSIDriver object names; of the pod it tells where `pod_info` is asked for. The Secret that
/// `nodePublishSecretRef` names is not in it.
///
/// # Errors
/// When the API gives no token.
#[allow(clippy::field_reassign_with_default)] // fields are moved out of nothing that zeroes itself
pub async fn publish_request(
    api: &Api,
    driver: &Value,
    pod: &Value,
    volume: &Value,
    target: &str,
    pod_info: bool,
) -> Result<NodePublishVolumeRequest, String> {
    let text = |path: [&str; 2]| pod.str_at(path).unwrap_or_default();
    let (namespace, name, uid) =
        (text(["metadata", "namespace"]), text(["metadata", "name"]), text(["metadata", "uid"]));
    let account = Some(text(["spec", "serviceAccountName"])).filter(|a| !a.is_empty()).unwrap_or("default");
    let mut request = NodePublishVolumeRequest::default();
    request.volume_id = volume_id(uid, volume["name"].as_str().unwrap_or_default());
    request.target_path = target.to_owned();
    request.readonly = volume["csi"]["readOnly"].as_bool().unwrap_or_default();
    let group = pod["spec"]["securityContext"]["fsGroup"].as_i64().map(|g| g.to_string()).unwrap_or_default();
    let access = AccessType::Mount(MountVolume { volume_mount_group: group, ..MountVolume::default() });
    request.volume_capability = Some(VolumeCapability { access_type: Some(access), access_mode: None });
    request.volume_context = strings(&volume["csi"]["volumeAttributes"]);
    if pod_info {
        for (key, value) in [
            ("csi.storage.k8s.io/pod.name", name),
            ("csi.storage.k8s.io/pod.namespace", namespace),
            ("csi.storage.k8s.io/pod.uid", uid),
            ("csi.storage.k8s.io/serviceAccount.name", account),
            ("csi.storage.k8s.io/ephemeral", "true"),
        ] {
            request.volume_context.insert(key.into(), value.into());
        }
    }
    let mut tokens = BTreeMap::new();
    for wanted in driver["spec"]["tokenRequests"].items() {
        let audience = wanted["audience"].as_str().unwrap_or_default();
        let seconds = wanted["expirationSeconds"].as_i64().unwrap_or(TOKEN_SECONDS);
        let made = api.pod_token(namespace, account, audience, seconds, (name, uid)).await;
        tokens.insert(audience, made.map_err(|e| format!("no token for ServiceAccount {namespace}/{account}: {e}"))?);
    }
    if !tokens.is_empty() {
        let text: BTreeMap<&str, BTreeMap<&str, &str>> = tokens
            .iter()
            .map(|(audience, t)| (*audience, [("token", t.token.as_str()), ("expirationTimestamp", &t.expires)].into()))
            .collect();
        let mut text = to_json_text(&text).ok_or("its tokens are no JSON")?;
        // Zeroed with the request.
        request.volume_context.insert(TOKENS.into(), std::mem::take(&mut *text));
    }
    Ok(request)
}
