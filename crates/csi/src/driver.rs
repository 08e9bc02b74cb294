//! The driver as a service: CSI on a socket, made known to the kubelet, with metrics and health over HTTP.

use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use tokio::net::TcpListener;
use tokio::sync::{Notify, watch};

use crate::node::Node;
use crate::wire::csi::{self, GetPluginCapabilitiesResponse, GetPluginInfoResponse, NodeGetCapabilitiesResponse};
use crate::wire::csi::{
    NodeGetInfoResponse, NodePublishVolumeRequest, NodeUnpublishVolumeRequest, RpcCapability, Typed,
};
use crate::wire::registration::{self, PluginInfo, Registration, RegistrationStatus};
use crate::wire::server::{Socket, serve};
use crate::wire::{Code, Status};

/// Only this user talks to the driver: whoever does can have any pod's secrets written anywhere.
const SOCKET_MODE: u32 = 0o600;
/// How long to wait before asking a kubelet again that refused.
const AGAIN: Duration = Duration::from_secs(10);

/// How the driver presents itself.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The driver's name, as volumes name it.
    pub name: String,
    /// The driver's version.
    pub version: String,
}

struct Served {
    identity: Identity,
    node: Node,
}

impl csi::Driver for Served {
    fn info(&self) -> GetPluginInfoResponse {
        GetPluginInfoResponse { name: self.identity.name.clone(), vendor_version: self.identity.version.clone() }
    }
    fn capabilities(&self) -> GetPluginCapabilitiesResponse {
        GetPluginCapabilitiesResponse { capabilities: Vec::new() }
    }
    fn probe(&self) -> Result<bool, Status> {
        Ok(true)
    }
    fn node_capabilities(&self) -> NodeGetCapabilitiesResponse {
        // The kubelet tells the driver the pod's fsGroup then, and does not walk the volume itself.
        let group = RpcCapability { rpc: Some(Typed { r#type: csi::VOLUME_MOUNT_GROUP }) };
        NodeGetCapabilitiesResponse { capabilities: vec![group] }
    }
    fn node_info(&self) -> NodeGetInfoResponse {
        NodeGetInfoResponse { node_id: self.node.settings().node.clone(), max_volumes_per_node: 0 }
    }
    async fn publish(&self, request: NodePublishVolumeRequest) -> Result<(), Status> {
        let pod = |key: &str| request.volume_context.get(key).cloned().unwrap_or_default();
        let (namespace, name) = (pod("csi.storage.k8s.io/pod.namespace"), pod("csi.storage.k8s.io/pod.name"));
        match self.node.publish(request).await {
            Ok(_) => Ok(()),
            Err(e) if e.code() == Code::InvalidArgument || name.is_empty() => Err(e.into()),
            Err(e) => {
                let text = format!("failed to mount secrets store objects for pod {namespace}/{name}: {e}");
                Err(Status::new(e.code(), text))
            }
        }
    }
    async fn unpublish(&self, request: NodeUnpublishVolumeRequest) -> Result<(), Status> {
        Ok(self.node.unpublish(request).await?)
    }
}

/// Serves CSI at `socket` until `stop` turns true, and returns once the calls under way have ended.
///
/// # Errors
/// When the socket cannot be made.
pub async fn run(identity: Identity, node: Node, socket: &Path, stop: watch::Receiver<bool>) -> std::io::Result<()> {
    let socket = Socket::bind(socket, SOCKET_MODE)?;
    tracing::info!(endpoint = %socket.path().display(), driver = identity.name, "serving CSI");
    serve(socket, csi::services(&Arc::new(Served { identity, node })), stopped(stop)).await;
    Ok(())
}

/// What makes the driver known to the kubelet: a socket in its `plugins_registry`.
#[derive(Clone, Debug)]
pub struct Registrar {
    /// The driver's name.
    pub driver: String,
    /// The kubelet's folder, as this process sees it.
    pub registry: PathBuf,
    /// The driver's own socket, as the kubelet sees it.
    pub endpoint: PathBuf,
}

struct Registering {
    registrar: Registrar,
    refused: Notify,
}

impl Registration for Registering {
    fn info(&self) -> PluginInfo {
        PluginInfo {
            kind: "CSIPlugin".into(),
            name: self.registrar.driver.clone(),
            endpoint: self.registrar.endpoint.to_string_lossy().into_owned(),
            supported_versions: vec!["1.0.0".into()],
        }
    }
    fn notified(&self, status: RegistrationStatus) -> Result<(), Status> {
        if status.plugin_registered {
            tracing::info!(driver = self.registrar.driver, "the kubelet has registered the driver");
        } else {
            tracing::warn!("the kubelet does not register the driver: {}", status.error);
            self.refused.notify_one();
        }
        Ok(())
    }
}

impl Registrar {
    /// The socket in the registry.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.registry.join(format!("{}-reg.sock", self.driver))
    }

    /// Offers the driver to the kubelet until `stop` turns true. A kubelet that refuses is asked again after ten seconds.
    ///
    /// # Errors
    /// When the socket cannot be made.
    pub async fn run(self, mut stop: watch::Receiver<bool>) -> std::io::Result<()> {
        loop {
            let socket = Socket::bind(&self.socket(), SOCKET_MODE)?;
            let plugin = Arc::new(Registering { registrar: self.clone(), refused: Notify::new() });
            let until = async {
                tokio::select! {
                    () = stopped(stop.clone()) => {}
                    () = plugin.refused.notified() => {}
                }
            };
            serve(socket, vec![registration::service(plugin.clone())], until).await;
            tokio::select! {
                () = stopped(stop.clone()) => return Ok(()),
                () = tokio::time::sleep(AGAIN) => {}
            }
            stop.mark_unchanged();
        }
    }
}

/// Serves `GET /metrics` (Prometheus) and `GET /healthz` until `stop` turns true.
pub async fn metrics(listener: TcpListener, node: Node, stop: watch::Receiver<bool>) {
    let service = service_fn(move |r| {
        let answer = answer(&r, &node);
        async move { Ok::<_, Infallible>(answer) }
    });
    druse_accept::http1(listener, stopped(stop), service).await;
}

fn answer(request: &Request<Incoming>, node: &Node) -> Response<Full<Bytes>> {
    let (status, text) = match (request.method(), request.uri().path()) {
        (&Method::GET, "/metrics") => (StatusCode::OK, node.metrics().text()),
        (&Method::GET, "/healthz") => (StatusCode::OK, "ok".into()),
        _ => (StatusCode::NOT_FOUND, "there are /metrics and /healthz".into()),
    };
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = status;
    let kind = http::HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(http::header::CONTENT_TYPE, kind);
    response
}

/// Waits until the flag turns true, or nobody can turn it any more.
async fn stopped(mut stop: watch::Receiver<bool>) {
    let _or_nobody_left = stop.wait_for(|s| *s).await;
}
