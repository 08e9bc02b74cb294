//! The server as a whole: building, the service, serving, stopping.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::task::{Context, Poll};

use druse_identity::SigningKey;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use http::{Request, Response};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use tokio::net::TcpListener;
use tower::Service;

use crate::admission::{Chain, Plugin};
use crate::auth::{Authenticate, Authorize, Authorizer, Issuer, User};
use crate::body::Body;
use crate::handlers::Handlers;
use crate::registry::{BuiltinError, Registry};
use crate::request::RequestInfo;
use crate::schema::SchemaSet;
use crate::serve::{self, Certificates, TlsError};
use crate::server::Shared;
use crate::status::Status;
use crate::store::{MemStore, Options, Store, StoreError};

/// Why a server cannot start or serve.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// TLS.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The shipped data.
    #[error(transparent)]
    Builtin(#[from] BuiltinError),
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {cause}; choose another address, or stop what uses it")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// What the system said.
        cause: String,
    },
}

/// The largest request body taken, as upstream.
const MAX_BODY: usize = 3 * 1024 * 1024;

/// How tokens are named when nothing else is said.
const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";

/// Prepares a server.
#[derive(Default)]
pub struct Builder {
    data_dir: Option<PathBuf>,
    token: Option<String>,
    issuer: Option<String>,
    signing_key: Option<SigningKey>,
    addresses: Vec<IpAddr>,
    plugins: Vec<Box<dyn Plugin>>,
    bare: bool,
    simulated_pods: bool,
}

impl std::fmt::Debug for Builder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Builder").field("data_dir", &self.data_dir).finish_non_exhaustive()
    }
}

impl Builder {
    /// Keeps everything in this directory; without one, in memory.
    #[must_use]
    pub fn data_dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.data_dir = Some(dir.into());
        self
    }

    /// The administrator's bearer token; without one a random one is made (and kept in the data directory).
    #[must_use]
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.token = Some(token.into());
        self
    }

    /// The issuer URL of ServiceAccount tokens.
    #[must_use]
    pub fn issuer(mut self, url: impl Into<String>) -> Self {
        self.issuer = Some(url.into());
        self
    }

    /// The key that ServiceAccount tokens are signed with; without one a key is made (and kept in the data directory).
    #[must_use]
    pub fn signing_key(mut self, key: SigningKey) -> Self {
        self.signing_key = Some(key);
        self
    }

    /// Addresses the server's certificate shall hold besides loopback.
    #[must_use]
    pub fn addresses(mut self, addresses: impl IntoIterator<Item = IpAddr>) -> Self {
        self.addresses.extend(addresses);
        self
    }

    /// Leaves namespaces as an API server alone leaves them: without the ServiceAccount `default` and the ConfigMap
    /// `kube-root-ca.crt`, which a controller manager makes.
    #[must_use]
    pub fn bare(mut self, bare: bool) -> Self {
        self.bare = bare;
        self
    }

    /// Says that all pods of this cluster are simulated: webhooks behind a Service that has no real endpoint are not
    /// called, and their configurations are marked as simulated.
    #[must_use]
    pub fn simulated_pods(mut self, simulated: bool) -> Self {
        self.simulated_pods = simulated;
        self
    }

    /// An admission plugin to run after the built-in ones.
    #[must_use]
    pub fn admission(mut self, plugin: Box<dyn Plugin>) -> Self {
        self.plugins.push(plugin);
        self
    }

    /// Opens the store, makes what a cluster is born with, starts the controllers.
    ///
    /// # Errors
    /// When the data directory is unusable, used by another process, or damaged.
    pub async fn build(self) -> Result<ApiServer, Error> {
        let dir = self.data_dir.clone();
        let options = Options { dir: dir.clone() };
        let store = tokio::task::spawn_blocking(move || MemStore::open(options))
            .await
            .map_err(|e| StoreError::Write(e.to_string()))??;
        let store: Arc<dyn Store> = Arc::new(store);
        let dir = self.data_dir.as_deref();
        let mut addresses = self.addresses;
        if addresses.iter().any(IpAddr::is_unspecified) {
            // Clients on other machines reach it there, and must find the address in the certificate.
            addresses.extend(serve::own_address());
        }
        let certificates = Certificates::open(dir, &addresses)?;
        let token = match (self.token, dir.map(|d| d.join("admin.token"))) {
            (Some(t), _) => t,
            (None, None) => serve::random_token(),
            (None, Some(path)) => match std::fs::read_to_string(&path) {
                Ok(t) if !t.trim().is_empty() => t.trim().to_owned(),
                _ => {
                    let t = serve::random_token();
                    serve::write_private(&path, t.as_bytes())
                        .map_err(|e| TlsError::File { path: path.clone(), cause: e.to_string() })?;
                    t
                }
            },
        };
        let mut admission = Chain::builtin();
        for p in self.plugins {
            admission.push(p);
        }
        let (closing, _) = tokio::sync::watch::channel(false);
        let shared = Arc::new(Shared {
            authorizer: Arc::new(Authorizer::new(store.clone())),
            store,
            registry: Registry::new()?,
            schemas: SchemaSet::builtin(),
            issuer: {
                let url = self.issuer.as_deref().unwrap_or(ISSUER);
                self.signing_key.map_or_else(|| Issuer::open(dir, url), |key| Issuer::with(key, url))
            },
            admission,
            callouts: crate::callout::Callouts::new(self.simulated_pods),
            allocators: crate::alloc::Allocators::default(),
            bookings: crate::quota::Bookings::default(),
            admin_token: Some(token.clone()),
            ca_pem: certificates.ca_pem.clone(),
            certificates: certificates.clone(),
            furnish: !self.bare,
            address: parking_lot::RwLock::new("127.0.0.1:6443".into()),
            closing,
            openapi: crate::openapi::Documents::default(),
        });
        crate::controllers::load(&shared);
        crate::bootstrap::run(&shared).await;
        crate::controllers::start(&shared);
        Ok(ApiServer { shared, certificates, token })
    }
}

/// A running server. Dropping it stops its controllers and closes its store.
#[derive(Debug)]
pub struct ApiServer {
    shared: Arc<Shared>,
    certificates: Certificates,
    token: String,
}

impl ApiServer {
    /// Prepares a server.
    #[must_use]
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// The API for callers in this process: without credentials they may do everything.
    #[must_use]
    pub fn service(&self) -> ApiService {
        self.service_as(User::admin())
    }

    /// The API for callers in this process that are `user` when they send no credentials.
    #[must_use]
    pub fn service_as(&self, user: User) -> ApiService {
        ApiService { shared: self.shared.clone(), default: user }
    }

    /// The administrator's bearer token.
    #[must_use]
    pub fn token(&self) -> &str {
        &self.token
    }

    /// The certificate authority's certificate, PEM.
    #[must_use]
    pub fn ca_pem(&self) -> &str {
        &self.certificates.ca_pem
    }

    /// The server's certificates, to make client certificates.
    #[must_use]
    pub fn certificates(&self) -> &Certificates {
        &self.certificates
    }

    /// A kubeconfig for the administrator.
    #[must_use]
    pub fn kubeconfig(&self, address: SocketAddr) -> String {
        serve::kubeconfig(&serve::url(address), self.ca_pem(), &self.token)
    }

    /// What the parts of the server share: store, types, issuer.
    #[must_use]
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Listens on an address; port 0 takes a free one.
    ///
    /// # Errors
    /// When it is taken or not this machine's.
    pub async fn listen(&self, address: SocketAddr) -> Result<TcpListener, Error> {
        TcpListener::bind(address).await.map_err(|e| Error::Listen { address, cause: e.to_string() })
    }

    /// Serves over TLS until [`Self::close`] is called, then lets running requests finish.
    ///
    /// # Errors
    /// When the certificates cannot be used.
    pub async fn serve(&self, listener: TcpListener) -> Result<(), Error> {
        if let Ok(a) = listener.local_addr() {
            *self.shared.address.write() = serve::advertised(a).to_string();
            crate::bootstrap::endpoints(&self.shared).await;
        }
        let service = self.service_as(User::anonymous());
        serve::run(listener, &self.certificates, service, self.shared.closing.subscribe()).await?;
        Ok(())
    }

    /// Ends watches and controllers and lets `serve` return; writes already taken are finished.
    pub fn close(&self) {
        self.shared.closing.send_replace(true);
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        self.close();
        self.shared.store.close();
    }
}

/// The API as a Tower service; clones share one server.
#[derive(Clone, Debug)]
pub struct ApiService {
    shared: Arc<Shared>,
    default: User,
}

impl<B> Service<Request<B>> for ApiService
where
    B: hyper::body::Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let shared = self.shared.clone();
        let default = self.default.clone();
        async move {
            let (mut parts, body) = request.into_parts();
            let head = parts.method == http::Method::HEAD;
            let body = match Limited::new(body, MAX_BODY).collect().await {
                Ok(b) => b.to_bytes(),
                Err(e) => {
                    let status = if e.downcast_ref::<LengthLimitError>().is_some() {
                        Status::new(
                            413,
                            "RequestEntityTooLarge",
                            format!("Request entity too large: limit is {MAX_BODY}"),
                        )
                    } else {
                        Status::bad_request(format!("the request's body could not be read: {e}"))
                    };
                    return Ok(crate::response::status(&status));
                }
            };
            let info = RequestInfo::of(&parts.method, parts.uri.path(), parts.uri.query());
            parts.extensions.insert(Arc::new(info));
            let handlers = Handlers::new(shared.clone());
            let mut layers = Authenticate::new(Authorize::new(handlers, shared.clone()), shared, default);
            let mut answer = layers.call(Request::from_parts(parts, body)).await;
            if head && let Ok(r) = &mut answer {
                // HTTP/2 clients take a body after HEAD for a broken server.
                *r.body_mut() = Body::empty();
            }
            answer
        }
        .boxed()
    }
}
