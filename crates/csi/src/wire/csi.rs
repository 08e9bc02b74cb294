//! The Container Storage Interface (`csi.v1`, container-storage-interface/spec 1.11): the services Identity and Node.
//!
//! Every other method is `UNIMPLEMENTED`: all of Controller, and what stages, expands or measures volumes. (Upstream's
//! driver announces Controller and staging, and does nothing in either.)

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use tonic::Status;
use zeroize::Zeroize as _;

use super::server::Service;

/// The kubelet's key, in a volume's context or secrets, for the pod's tokens by audience: JSON.
pub const TOKENS: &str = "csi.storage.k8s.io/serviceAccount.tokens";

/// The largest request taken: volume contexts are small, Secrets below 1 MiB.
const MAX_REQUEST: usize = 4 << 20;

/// Asks for the plugin's name.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct GetPluginInfoRequest {}

/// The plugin's name.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct GetPluginInfoResponse {
    /// The driver's name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Its version, opaque.
    #[prost(string, tag = "2")]
    pub vendor_version: String,
}

/// Asks what the plugin can do.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct GetPluginCapabilitiesRequest {}

/// What the plugin can do.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct GetPluginCapabilitiesResponse {
    /// Each capability.
    #[prost(message, repeated, tag = "1")]
    pub capabilities: Vec<PluginCapability>,
}

/// One capability of a plugin.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct PluginCapability {
    /// A service beside Identity and Node.
    #[prost(message, optional, tag = "1")]
    pub service: Option<Typed>,
}

/// An enumeration's value in a message of its own, as capabilities have it.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Typed {
    /// The value.
    #[prost(int32, tag = "1")]
    pub r#type: i32,
}

/// Asks whether the plugin is ready.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ProbeRequest {}

/// Whether the plugin is ready.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ProbeResponse {
    /// Nothing means ready.
    #[prost(message, optional, tag = "1")]
    pub ready: Option<BoolValue>,
}

/// `google.protobuf.BoolValue`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct BoolValue {
    /// The value.
    #[prost(bool, tag = "1")]
    pub value: bool,
}

/// A capability that is a set of calls.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct RpcCapability {
    /// The calls.
    #[prost(message, optional, tag = "1")]
    pub rpc: Option<Typed>,
}

/// How a volume is used.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct VolumeCapability {
    /// As a block device or as files.
    #[prost(oneof = "AccessType", tags = "1, 2")]
    pub access_type: Option<AccessType>,
    /// By how many, and whether they write.
    #[prost(message, optional, tag = "3")]
    pub access_mode: Option<AccessMode>,
}

/// What a volume looks like to its user.
#[derive(Clone, PartialEq, Eq, prost::Oneof)]
pub enum AccessType {
    /// A block device.
    #[prost(message, tag = "1")]
    Block(BlockVolume),
    /// A folder.
    #[prost(message, tag = "2")]
    Mount(MountVolume),
}

/// A block device.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct BlockVolume {}

/// A folder.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct MountVolume {
    /// The file system asked for.
    #[prost(string, tag = "1")]
    pub fs_type: String,
    /// Mount options asked for.
    #[prost(string, repeated, tag = "2")]
    pub mount_flags: Vec<String>,
    /// The group that files belong to (the pod's fsGroup), for drivers with [`VOLUME_MOUNT_GROUP`].
    #[prost(string, tag = "3")]
    pub volume_mount_group: String,
}

/// `VolumeCapability.AccessMode`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct AccessMode {
    /// `SINGLE_NODE_WRITER` is 1, `SINGLE_NODE_READER_ONLY` 2, …
    #[prost(int32, tag = "1")]
    pub mode: i32,
}

/// Makes a volume available to a pod. Its secrets and tokens are zeroed when it is dropped.
#[derive(Clone, PartialEq, prost::Message)]
#[prost(skip_debug)]
pub struct NodePublishVolumeRequest {
    /// The volume; for ephemeral ones a name the kubelet makes up.
    #[prost(string, tag = "1")]
    pub volume_id: String,
    /// Where it was staged.
    #[prost(string, tag = "3")]
    pub staging_target_path: String,
    /// Where the pod's container runtime takes it from.
    #[prost(string, tag = "4")]
    pub target_path: String,
    /// How the volume is used.
    #[prost(message, optional, tag = "5")]
    pub volume_capability: Option<VolumeCapability>,
    /// Whether the pod may not write to it.
    #[prost(bool, tag = "6")]
    pub readonly: bool,
    /// The data of the Secret that `nodePublishSecretRef` names; tokens under [`TOKENS`] where the CSIDriver asks for them
    /// there.
    #[prost(btree_map = "string, string", tag = "7")]
    pub secrets: BTreeMap<String, String>,
    /// The volume's attributes, and what the kubelet says of the pod (`csi.storage.k8s.io/…`).
    #[prost(btree_map = "string, string", tag = "8")]
    pub volume_context: BTreeMap<String, String>,
}

impl fmt::Debug for NodePublishVolumeRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let context: BTreeMap<_, _> = self.volume_context.iter().filter(|(k, _)| *k != TOKENS).collect();
        f.debug_struct("NodePublishVolumeRequest")
            .field("volume_id", &self.volume_id)
            .field("target_path", &self.target_path)
            .field("readonly", &self.readonly)
            .field("volume_context", &context)
            .finish_non_exhaustive()
    }
}

impl Drop for NodePublishVolumeRequest {
    fn drop(&mut self) {
        self.secrets.values_mut().for_each(|v| v.zeroize());
        if let Some(tokens) = self.volume_context.get_mut(TOKENS) {
            tokens.zeroize();
        }
    }
}

/// Nothing.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct NodePublishVolumeResponse {}

/// Undoes [`NodePublishVolumeRequest`].
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct NodeUnpublishVolumeRequest {
    /// The volume.
    #[prost(string, tag = "1")]
    pub volume_id: String,
    /// Where it was published.
    #[prost(string, tag = "2")]
    pub target_path: String,
}

/// Nothing.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct NodeUnpublishVolumeResponse {}

/// Asks what the node service can do.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct NodeGetCapabilitiesRequest {}

/// What the node service can do.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct NodeGetCapabilitiesResponse {
    /// Each capability.
    #[prost(message, repeated, tag = "1")]
    pub capabilities: Vec<RpcCapability>,
}

/// A capability of Node: the driver gives files to the pod's group itself.
pub const VOLUME_MOUNT_GROUP: i32 = 6;

/// Asks which node this is.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct NodeGetInfoRequest {}

/// Which node this is.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct NodeGetInfoResponse {
    /// The node's name.
    #[prost(string, tag = "1")]
    pub node_id: String,
    /// The most volumes it takes; 0 for no limit.
    #[prost(int64, tag = "2")]
    pub max_volumes_per_node: i64,
}

/// What a driver on a node does. A request's arguments are not checked beforehand.
pub trait Driver: Send + Sync + 'static {
    /// `GetPluginInfo`.
    fn info(&self) -> GetPluginInfoResponse;
    /// `GetPluginCapabilities`.
    fn capabilities(&self) -> GetPluginCapabilitiesResponse;
    /// `Probe`: whether it is ready.
    ///
    /// # Errors
    /// When it never will be.
    fn probe(&self) -> Result<bool, Status>;
    /// `NodeGetCapabilities`.
    fn node_capabilities(&self) -> NodeGetCapabilitiesResponse;
    /// `NodeGetInfo`.
    fn node_info(&self) -> NodeGetInfoResponse;
    /// `NodePublishVolume`.
    fn publish(&self, request: NodePublishVolumeRequest) -> impl Future<Output = Result<(), Status>> + Send;
    /// `NodeUnpublishVolume`.
    fn unpublish(&self, request: NodeUnpublishVolumeRequest) -> impl Future<Output = Result<(), Status>> + Send;
}

/// The services Identity and Node served by `driver`, to hand to [`serve`](super::server::serve).
pub fn services<D: Driver>(driver: &Arc<D>) -> Vec<Service> {
    macro_rules! at_once {
        ($request:ty, $driver:ident, $argument:pat => $answer:expr) => {{
            let $driver = driver.clone();
            move |$argument: $request| std::future::ready($answer)
        }};
    }
    let identity = Service::new("csi.v1.Identity")
        .unary("GetPluginInfo", MAX_REQUEST, at_once!(GetPluginInfoRequest, d, _ => Ok(d.info())))
        .unary(
            "GetPluginCapabilities",
            MAX_REQUEST,
            at_once!(GetPluginCapabilitiesRequest, d, _ => Ok(d.capabilities())),
        )
        .unary(
            "Probe",
            MAX_REQUEST,
            at_once!(ProbeRequest, d, _ => {
                d.probe().map(|value| ProbeResponse { ready: Some(BoolValue { value }) })
            }),
        );
    let (publishes, unpublishes) = (driver.clone(), driver.clone());
    let node = Service::new("csi.v1.Node")
        .unary("NodeGetInfo", MAX_REQUEST, at_once!(NodeGetInfoRequest, d, _ => Ok(d.node_info())))
        .unary(
            "NodeGetCapabilities",
            MAX_REQUEST,
            at_once!(NodeGetCapabilitiesRequest, d, _ => Ok(d.node_capabilities())),
        )
        .unary("NodePublishVolume", MAX_REQUEST, move |r| {
            let d = publishes.clone();
            async move { d.publish(r).await.map(|()| NodePublishVolumeResponse {}) }
        })
        .unary("NodeUnpublishVolume", MAX_REQUEST, move |r| {
            let d = unpublishes.clone();
            async move { d.unpublish(r).await.map(|()| NodeUnpublishVolumeResponse {}) }
        });
    vec![identity, node]
}
