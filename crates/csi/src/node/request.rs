//! What the kubelet asks for, read out of its request, and what the provider is told.

use std::collections::BTreeMap;
use std::path::PathBuf;

use zeroize::Zeroizing;

use super::PublishError;
use crate::class::Pod;
use crate::mount::pod_and_volume;
use crate::sealed::to_json_text;
use crate::wire::csi::{AccessType, NodePublishVolumeRequest, TOKENS};
use crate::wire::provider::{MountRequest, ObjectVersion};

/// The mode of files whose provider is told none: 0644, as JSON.
const PERMISSION: &str = "420";

/// A volume to publish.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) target: PathBuf,
    pub(super) pod: Pod,
    pub(super) class: String,
    /// The pod's fsGroup.
    pub(super) group: Option<u32>,
    request: NodePublishVolumeRequest,
}

impl Wanted {
    /// Checks a request, in upstream's order.
    pub(super) fn of(request: NodePublishVolumeRequest) -> Result<Self, PublishError> {
        let missing = |what| Err(PublishError::Argument(what));
        let Some(capability) = &request.volume_capability else {
            return missing("Volume capability missing in request");
        };
        if request.volume_id.is_empty() {
            return missing("Volume ID missing in request");
        }
        if request.target_path.is_empty() {
            return missing("Target path missing in request");
        }
        if request.volume_context.is_empty() {
            return missing("Volume attributes missing in request");
        }
        let group = match &capability.access_type {
            Some(AccessType::Block(_)) => return missing("Secrets cannot be a block device"),
            Some(AccessType::Mount(m)) if !m.volume_mount_group.is_empty() => {
                let group = m.volume_mount_group.parse();
                Some(group.map_err(|_| PublishError::Argument("The volume mount group is not a number"))?)
            }
            _ => None,
        };
        if !request.readonly {
            return missing("Readonly is not true in request; set readOnly: true on the volume");
        }
        let said = |key: &str| request.volume_context.get(key).filter(|v| !v.is_empty()).cloned();
        let class = said("secretProviderClass").ok_or(PublishError::NoClass)?;
        let pod = Pod {
            namespace: said("csi.storage.k8s.io/pod.namespace").ok_or(PublishError::NoPodInfo)?,
            name: said("csi.storage.k8s.io/pod.name").ok_or(PublishError::NoPodInfo)?,
            uid: said("csi.storage.k8s.io/pod.uid").ok_or(PublishError::NoPodInfo)?,
        };
        let target = PathBuf::from(&request.target_path);
        // Attributes can be written by whoever makes the pod, the path is the kubelet's own.
        if pod_and_volume(&target).is_some_and(|(uid, _)| uid != pod.uid) {
            return Err(PublishError::ForeignPod);
        }
        Ok(Self { target, pod, class, group, request })
    }

    /// What the provider is told: the class' parameters, over them everything the kubelet says of the volume and the pod,
    /// and the pod's tokens, which newer kubelets give among the secrets.
    #[allow(clippy::field_reassign_with_default)] // fields are moved out of nothing that zeroes itself
    pub(super) fn mount_request(
        &self,
        parameters: &BTreeMap<String, String>,
        current: &[ObjectVersion],
    ) -> Result<MountRequest, PublishError> {
        let r = &self.request;
        let mut attributes: BTreeMap<&str, &str> =
            parameters.iter().chain(&r.volume_context).map(|(k, v)| (k.as_str(), v.as_str())).collect();
        if let Some(tokens) = r.secrets.get(TOKENS).filter(|t| !t.is_empty()) {
            attributes.insert(TOKENS, tokens);
        }
        let secrets: BTreeMap<&str, &str> =
            r.secrets.iter().filter(|(k, _)| *k != TOKENS).map(|(k, v)| (k.as_str(), v.as_str())).collect();
        let mut mount = MountRequest::default();
        mount.attributes = std::mem::take(&mut *json(&attributes)?);
        mount.secrets = match secrets.is_empty() {
            true => "null".into(), // as Go writes a map that was never made
            false => std::mem::take(&mut *json(&secrets)?),
        };
        mount.target_path.clone_from(&r.target_path);
        mount.permission = PERMISSION.into();
        mount.current_object_version = current.to_vec();
        Ok(mount)
    }
}

fn json(entries: &BTreeMap<&str, &str>) -> Result<Zeroizing<String>, PublishError> {
    to_json_text(entries).ok_or(PublishError::Bug)
}
