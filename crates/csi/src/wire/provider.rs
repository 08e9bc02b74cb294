//! The contract between the driver and a provider of secrets: `v1alpha1.CSIDriverProvider` of
//! kubernetes-sigs/secrets-store-csi-driver. A provider listens at `FOLDER/NAME.sock`.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tonic::Status;
use zeroize::Zeroize as _;

use super::channel::Channel;
use super::server::Service;

/// The version of the contract, as both sides name it in [`VersionRequest`] and [`VersionResponse`].
pub const VERSION: &str = "v1alpha1";
const NAME: &str = "v1alpha1.CSIDriverProvider";

/// The driver introduces itself.
#[derive(Clone, PartialEq, prost::Message)]
pub struct VersionRequest {
    /// The contract's version: [`VERSION`].
    #[prost(string, tag = "1")]
    pub version: String,
}

/// The provider introduces itself.
#[derive(Clone, PartialEq, prost::Message)]
pub struct VersionResponse {
    /// The contract's version: [`VERSION`].
    #[prost(string, tag = "1")]
    pub version: String,
    /// The provider's name.
    #[prost(string, tag = "2")]
    pub runtime_name: String,
    /// The provider's version, as semver.
    #[prost(string, tag = "3")]
    pub runtime_version: String,
}

/// What a volume asks for.
#[derive(Clone, PartialEq, prost::Message)]
#[prost(skip_debug)]
pub struct MountRequest {
    /// JSON object of strings: the SecretProviderClass' parameters, what the kubelet says of the pod
    /// (`csi.storage.k8s.io/pod.name`, …) and, where the CSIDriver asks for them, the pod's tokens
    /// (`csi.storage.k8s.io/serviceAccount.tokens`).
    #[prost(string, tag = "1")]
    pub attributes: String,
    /// JSON object of strings: the Secret that `nodePublishSecretRef` names. `null` or `{}` when there is none.
    #[prost(string, tag = "2")]
    pub secrets: String,
    /// Where the volume is published. Providers that answer with [`MountResponse::files`] need not look at it.
    #[prost(string, tag = "3")]
    pub target_path: String,
    /// JSON number: the mode of files that say none (`420` is 0644).
    #[prost(string, tag = "4")]
    pub permission: String,
    /// What is mounted now.
    #[prost(message, repeated, tag = "5")]
    pub current_object_version: Vec<ObjectVersion>,
}

impl fmt::Debug for MountRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MountRequest")
            .field("target_path", &self.target_path)
            .field("permission", &self.permission)
            .field("current_object_version", &self.current_object_version)
            .finish_non_exhaustive()
    }
}

impl Drop for MountRequest {
    fn drop(&mut self) {
        self.attributes.zeroize();
        self.secrets.zeroize();
    }
}

/// The whole content of the volume.
#[derive(Clone, PartialEq, prost::Message)]
pub struct MountResponse {
    /// What was read, and which version of it.
    #[prost(message, repeated, tag = "1")]
    pub object_version: Vec<ObjectVersion>,
    /// Why it failed; a code that is not empty is a failure.
    #[prost(message, optional, tag = "2")]
    pub error: Option<Error>,
    /// Every file of the volume.
    #[prost(message, repeated, tag = "3")]
    pub files: Vec<File>,
}

/// A file of the volume. Its contents are zeroed when it is dropped.
#[derive(Clone, PartialEq, prost::Message)]
#[prost(skip_debug)]
pub struct File {
    /// Path below the mount; neither absolute nor with `..`.
    #[prost(string, tag = "1")]
    pub path: String,
    /// Permission bits (0 to 0o777).
    #[prost(int32, tag = "2")]
    pub mode: i32,
    /// The value.
    #[prost(bytes = "vec", tag = "3")]
    pub contents: Vec<u8>,
}

impl fmt::Debug for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("File")
            .field("path", &self.path)
            .field("mode", &format_args!("{:04o}", self.mode))
            .field("bytes", &self.contents.len())
            .finish()
    }
}

impl Drop for File {
    fn drop(&mut self) {
        self.contents.zeroize();
    }
}

/// An object and its version, as the store counts.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, prost::Message)]
pub struct ObjectVersion {
    /// Unique among the volume's objects.
    #[prost(string, tag = "1")]
    pub id: String,
    /// The store's version of it.
    #[prost(string, tag = "2")]
    pub version: String,
}

/// A failure by code, for the driver's metrics.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Error {
    /// The code; empty when nothing failed.
    #[prost(string, tag = "1")]
    pub code: String,
}

/// What a provider does.
pub trait Provider: Send + Sync + 'static {
    /// Who it is.
    fn version(&self, request: VersionRequest) -> impl Future<Output = Result<VersionResponse, Status>> + Send;
    /// Everything a volume asks for.
    fn mount(&self, request: MountRequest) -> impl Future<Output = Result<MountResponse, Status>> + Send;
}

/// The contract served by `provider`, to hand to [`serve`](super::server::serve). Requests of up to `max_request` bytes are
/// taken (gRPC's default is 4 MiB).
pub fn service<P: Provider>(provider: Arc<P>, max_request: usize) -> Service {
    let versions = provider.clone();
    Service::new(NAME)
        .unary("Version", max_request, move |r| {
            let p = versions.clone();
            async move { p.version(r).await }
        })
        .unary("Mount", max_request, move |r| {
            let p = provider.clone();
            async move { p.mount(r).await }
        })
}

/// A provider on the other side of a socket. Cheap to clone; connects when first needed, and again when the provider was
/// restarted.
#[derive(Clone, Debug)]
pub struct Client {
    channel: Channel,
}

impl Client {
    /// For the provider that listens at `socket`; nothing is connected yet. Answers larger than `max_response` bytes are
    /// refused.
    #[must_use]
    pub fn new(socket: &Path, max_response: usize) -> Self {
        Self { channel: Channel::new(socket, max_response) }
    }

    /// Asks who it is.
    ///
    /// # Errors
    /// `UNAVAILABLE` when nobody listens, `DEADLINE_EXCEEDED` when there is no answer in `timeout`; otherwise the
    /// provider's own.
    pub async fn version(&self, request: VersionRequest, timeout: Duration) -> Result<VersionResponse, Status> {
        self.channel.unary("/v1alpha1.CSIDriverProvider/Version", request, timeout).await
    }

    /// Asks for a volume's content.
    ///
    /// # Errors
    /// As [`Client::version`]; an answer that carries an [`Error`] is `Ok`.
    pub async fn mount(&self, request: MountRequest, timeout: Duration) -> Result<MountResponse, Status> {
        self.channel.unary("/v1alpha1.CSIDriverProvider/Mount", request, timeout).await
    }
}
