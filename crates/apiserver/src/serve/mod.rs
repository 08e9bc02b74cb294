//! The service over TLS: certificates, the accept loop, the kubeconfig.

mod tls;

use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tower::Service;

use crate::auth::{self, User};
use crate::body::Body;

pub use druse_identity::file::write_private;
pub use tls::{Certificates, TlsError, keyless_authority};

/// How long a client may take for its TLS handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How many handshakes may be under way at once.
const HANDSHAKES: usize = 512;

/// Serves until `stop` turns true, then lets running requests finish.
pub async fn run<S>(
    listener: TcpListener,
    certificates: &Certificates,
    service: S,
    mut stop: tokio::sync::watch::Receiver<bool>,
) -> Result<(), TlsError>
where
    S: Service<Request<hyper::body::Incoming>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(certificates.server_config()?));
    let slots = Arc::new(tokio::sync::Semaphore::new(HANDSHAKES));
    let graceful = hyper_util::server::graceful::GracefulShutdown::new();
    let stop = stop.wait_for(|s| *s);
    tokio::pin!(stop);
    while let Some(stream) = druse_accept::next(&listener, stop.as_mut()).await {
        let Ok(slot) = slots.clone().acquire_owned().await else { break };
        let (acceptor, service, watcher) = (acceptor.clone(), service.clone(), graceful.watcher());
        tokio::spawn(async move {
            let Ok(Ok(stream)) = tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await else { return };
            drop(slot);
            let user = stream.get_ref().1.peer_certificates().and_then(|c| c.first()).and_then(|c| auth::subject(c));
            let service = WithPeer { inner: service, user };
            let mut builder = Builder::new(TokioExecutor::new());
            builder.http1().timer(TokioTimer::new()).header_read_timeout(Duration::from_secs(30));
            builder.http2().timer(TokioTimer::new()).max_concurrent_streams(250);
            let connection =
                builder.serve_connection_with_upgrades(TokioIo::new(stream), TowerToHyperService::new(service));
            // A connection's end is the client's affair.
            let _ = watcher.watch(connection.into_owned()).await;
        });
    }
    drop(listener);
    let _ = tokio::time::timeout(Duration::from_secs(5), graceful.shutdown()).await;
    Ok(())
}

/// Puts the client certificate's user into each request.
#[derive(Clone)]
struct WithPeer<S> {
    inner: S,
    user: Option<User>,
}

impl<S, B> Service<Request<B>> for WithPeer<S>
where
    S: Service<Request<B>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> S::Future {
        if let Some(u) = &self.user {
            request.extensions_mut().insert(auth::PeerUser(u.clone()));
        }
        self.inner.call(request)
    }
}

/// A kubeconfig for a server, as YAML text.
#[must_use]
pub fn kubeconfig(server: &str, ca_pem: &str, token: &str) -> String {
    use base64::Engine as _;
    let ca = base64::engine::general_purpose::STANDARD.encode(ca_pem);
    format!(
        "apiVersion: v1\nkind: Config\nclusters:\n- name: druse\n  cluster:\n    server: {server}\n    certificate-authority-data: {ca}\ncontexts:\n- name: druse\n  context:\n    cluster: druse\n    user: admin\ncurrent-context: druse\nusers:\n- name: admin\n  user:\n    token: {token}\n"
    )
}

/// The URL of an address that clients on this machine can use.
#[must_use]
pub fn url(address: SocketAddr) -> String {
    let ip = address.ip();
    if ip.is_unspecified() { format!("https://127.0.0.1:{}", address.port()) } else { format!("https://{address}") }
}

/// The address of this machine that others reach it at: the one its default route leaves from.
#[must_use]
pub fn own_address() -> Option<IpAddr> {
    // Connecting a datagram socket sends nothing, it only picks the way.
    let socket = std::net::UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9)).ok()?;
    Some(socket.local_addr().ok()?.ip()).filter(|ip| !ip.is_unspecified())
}

/// The address clients are told for a server that listens at `address`: this machine's own when it listens on all, as
/// upstream's `--advertise-address` is chosen.
#[must_use]
pub fn advertised(address: SocketAddr) -> SocketAddr {
    match own_address() {
        Some(own) if address.ip().is_unspecified() => SocketAddr::new(own, address.port()),
        _ => address,
    }
}

/// A random bearer token.
#[must_use]
pub fn random_token() -> String {
    let bytes: [u8; 24] = rand::random();
    hex::encode(bytes)
}
