//! gRPC served over a unix socket, without a transport of tonic's: hyper speaks HTTP/2, tonic frames messages.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::UnixListener;
use tonic::body::Body;
use tonic::server::Grpc;
use tonic::{Request, Response, Status};
use tonic_prost::ProstCodec;

/// How long calls under way get when the server stops.
const DRAIN: Duration = Duration::from_secs(20);

type Answer = Pin<Box<dyn Future<Output = http::Response<Body>> + Send>>;
type Method = Box<dyn Fn(http::Request<Incoming>) -> Answer + Send + Sync>;

/// One gRPC service: its methods by name.
pub struct Service {
    name: &'static str,
    methods: HashMap<&'static str, Method>,
}

impl std::fmt::Debug for Service {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Service").field(&self.name).finish()
    }
}

impl Service {
    /// A service without methods: calls to it are `UNIMPLEMENTED`. `name` is qualified by its package (`csi.v1.Node`).
    #[must_use]
    pub fn new(name: &'static str) -> Self {
        Self { name, methods: HashMap::new() }
    }

    /// Adds a method of one request and one answer; requests of more than `max` bytes are refused.
    ///
    /// A call whose client goes away, or whose deadline passes there, is cut off where it waits.
    #[must_use]
    pub fn unary<Q, A, F, Fut>(mut self, name: &'static str, max: usize, call: F) -> Self
    where
        Q: prost::Message + Default + 'static,
        A: prost::Message + Default + 'static,
        F: Fn(Q) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = Result<A, Status>> + Send + 'static,
    {
        let method: Method = Box::new(move |request| {
            let call = call.clone();
            let handler = tower::service_fn(move |r: Request<Q>| {
                // A task of its own, so that a panic ends this call and not the connection with all others on it.
                let mut running = EndedWithCall(tokio::spawn(call(r.into_inner())));
                async move {
                    match (&mut running.0).await {
                        Ok(answer) => answer.map(Response::new),
                        // What it panicked with stays out of the answer: it may have been a value.
                        Err(_) => Err(Status::internal(format!("{name} ended abnormally; this is a bug"))),
                    }
                }
            });
            Box::pin(async move {
                let mut grpc = Grpc::new(ProstCodec::<A, Q>::default()).max_decoding_message_size(max);
                grpc.unary(handler, request).await
            })
        });
        self.methods.insert(name, method);
        self
    }
}

/// A task that ends when nobody waits for it any more.
struct EndedWithCall<T>(tokio::task::JoinHandle<T>);

impl<T> Drop for EndedWithCall<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A unix socket that is listened on; removed again when dropped, if it is still this one.
#[derive(Debug)]
pub struct Socket {
    listener: UnixListener,
    path: PathBuf,
    /// Device and inode, so that the socket of a successor is not removed.
    identity: (u64, u64),
}

impl Socket {
    /// Listens at `path`, in place of a socket that was left there. `mode` are the permission bits; the socket shows up
    /// under its name with these, and ready to be connected to.
    ///
    /// # Errors
    /// When something other than a socket is at `path`, or it cannot be made.
    pub fn bind(path: &Path, mode: u32) -> io::Result<Self> {
        match std::fs::symlink_metadata(path) {
            Ok(m) if !m.file_type().is_socket() => {
                return Err(io::Error::new(
                    io::ErrorKind::AlreadyExists,
                    "something that is not a socket is there already; remove it",
                ));
            }
            _ => {}
        }
        let name = path.file_name().ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "it names no file"))?;
        // Made aside under a hidden name, which the kubelet's plugin watcher ignores, and moved over what is there.
        let mut aside = std::ffi::OsString::from(".");
        aside.push(name);
        aside.push(".new");
        let aside = path.with_file_name(aside);
        match std::fs::remove_file(&aside) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        let listener = UnixListener::bind(&aside)?;
        let made = std::fs::set_permissions(&aside, std::fs::Permissions::from_mode(mode))
            .and_then(|()| std::fs::rename(&aside, path))
            .and_then(|()| std::fs::symlink_metadata(path));
        match made {
            Ok(m) => Ok(Self { listener, path: path.into(), identity: (m.dev(), m.ino()) }),
            Err(e) => {
                let _already_failing = std::fs::remove_file(&aside);
                Err(e)
            }
        }
    }

    /// Where it listens.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let ours = std::fs::symlink_metadata(&self.path).is_ok_and(|m| (m.dev(), m.ino()) == self.identity);
        if ours && let Err(e) = std::fs::remove_file(&self.path) {
            tracing::debug!("{}: {e}", self.path.display());
        }
    }
}

/// Serves `services` until `stop` is done; then no call is taken any more, and those under way get up to 20 seconds.
pub async fn serve(socket: Socket, services: Vec<Service>, stop: impl Future<Output = ()>) {
    let services: Arc<HashMap<&'static str, Service>> = Arc::new(services.into_iter().map(|s| (s.name, s)).collect());
    let graceful = GracefulShutdown::new();
    let mut http = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    http.timer(TokioTimer::new());
    tokio::pin!(stop);
    while let Some(stream) = druse_accept::next(&socket.listener, stop.as_mut()).await {
        let services = services.clone();
        let service = service_fn(move |r| route(services.clone(), r));
        let connection = graceful.watch(http.serve_connection(TokioIo::new(stream), service));
        tokio::spawn(async move {
            // A connection's end is the client's affair.
            let _ = connection.await;
        });
    }
    // Nobody finds it any more from here on.
    drop(socket);
    if tokio::time::timeout(DRAIN, graceful.shutdown()).await.is_err() {
        tracing::warn!("calls were still under way {DRAIN:?} after the stop");
    }
}

async fn route(
    services: Arc<HashMap<&'static str, Service>>,
    request: http::Request<Incoming>,
) -> Result<http::Response<Body>, Infallible> {
    let path = request.uri().path().to_owned();
    let found = path
        .strip_prefix('/')
        .and_then(|p| p.split_once('/'))
        .and_then(|(service, method)| services.get(service)?.methods.get(method));
    Ok(match found {
        Some(method) => method(request).await,
        None => Status::unimplemented(format!("{path} is not implemented")).into_http(),
    })
}
