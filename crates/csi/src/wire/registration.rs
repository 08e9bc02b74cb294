//! How a plugin makes itself known to the kubelet: `pluginregistration.Registration` (v1) of k8s.io/kubelet. The kubelet
//! calls it on every socket that appears in its `plugins_registry` folder.

use std::sync::Arc;

use tonic::Status;

use super::server::Service;

const MAX_REQUEST: usize = 1 << 20;

/// Asks what the plugin is.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct InfoRequest {}

/// What the plugin is.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct PluginInfo {
    /// `CSIPlugin` or `DevicePlugin`.
    #[prost(string, tag = "1")]
    pub kind: String,
    /// For CSI, the driver's name.
    #[prost(string, tag = "2")]
    pub name: String,
    /// The socket of the plugin itself, as the kubelet sees it.
    #[prost(string, tag = "3")]
    pub endpoint: String,
    /// Versions of the plugin's API.
    #[prost(string, repeated, tag = "4")]
    pub supported_versions: Vec<String>,
}

/// How registration went.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct RegistrationStatus {
    /// Whether the kubelet took the plugin.
    #[prost(bool, tag = "1")]
    pub plugin_registered: bool,
    /// Why not.
    #[prost(string, tag = "2")]
    pub error: String,
}

/// Nothing.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct RegistrationStatusResponse {}

/// What a plugin answers.
pub trait Registration: Send + Sync + 'static {
    /// What it is.
    fn info(&self) -> PluginInfo;
    /// The kubelet says how registration went.
    ///
    /// # Errors
    /// When the plugin does not accept that.
    fn notified(&self, status: RegistrationStatus) -> Result<(), Status>;
}

/// The contract served by `plugin`.
pub fn service<R: Registration>(plugin: Arc<R>) -> Service {
    let infos = plugin.clone();
    Service::new("pluginregistration.Registration")
        .unary("GetInfo", MAX_REQUEST, move |_: InfoRequest| {
            let info = infos.info();
            async move { Ok(info) }
        })
        .unary("NotifyRegistrationStatus", MAX_REQUEST, move |s: RegistrationStatus| {
            let answer = plugin.notified(s).map(|()| RegistrationStatusResponse {});
            async move { answer }
        })
}
