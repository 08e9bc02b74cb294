//! The webhook over HTTPS, with certificates that are read again when their files change.

use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use druse_object::{Value, json};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use parking_lot::Mutex;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::net::TcpListener;

use super::{Settings, review};
use crate::IdentityError;

/// The largest review taken: a pod is below the API's limit of 3 MiB, a review holds it and more.
const MAX_BODY: usize = 8 << 20;

/// Gives ServiceAccounts by namespace and name.
pub type Accounts = Arc<dyn Fn(&str, &str) -> Option<Value> + Send + Sync>;

/// A certificate and key in files, read again when either file has changed. Files that do not fit each other (one was
/// replaced, the other not yet) leave the pair in use that was in use before.
pub struct Certificate {
    certificate: PathBuf,
    key: PathBuf,
    loaded: Mutex<(Option<[SystemTime; 2]>, Arc<CertifiedKey>)>,
}

impl std::fmt::Debug for Certificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Certificate").field("certificate", &self.certificate).finish_non_exhaustive()
    }
}

impl Certificate {
    /// Reads both files.
    ///
    /// # Errors
    /// When they cannot be read, or do not fit.
    pub fn open(certificate: &Path, key: &Path) -> Result<Self, IdentityError> {
        let stamp = stamp(certificate, key);
        let loaded = Mutex::new((stamp, Arc::new(load(certificate, key)?)));
        Ok(Self { certificate: certificate.into(), key: key.into(), loaded })
    }

    fn current(&self) -> Arc<CertifiedKey> {
        let now = stamp(&self.certificate, &self.key);
        let mut loaded = self.loaded.lock();
        if now.is_some() && now != loaded.0 {
            match load(&self.certificate, &self.key) {
                Ok(pair) => *loaded = (now, Arc::new(pair)),
                Err(e) => tracing::warn!("the new certificate is not used: {e}"),
            }
        }
        loaded.1.clone()
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current())
    }
}

fn stamp(certificate: &Path, key: &Path) -> Option<[SystemTime; 2]> {
    let at = |p: &Path| std::fs::metadata(p).and_then(|m| m.modified()).ok();
    Some([at(certificate)?, at(key)?])
}

fn load(certificate: &Path, key: &Path) -> Result<CertifiedKey, IdentityError> {
    let read = |p: &Path| std::fs::read(p).map_err(|e| IdentityError::file(p, e));
    let chain = CertificateDer::pem_slice_iter(&read(certificate)?)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| IdentityError::file(certificate, format!("this is no certificate: {e:?}")))?;
    if chain.is_empty() {
        return Err(IdentityError::file(certificate, "there is no certificate in it"));
    }
    let text = zeroize::Zeroizing::new(read(key)?);
    let private =
        PrivateKeyDer::from_pem_slice(&text).map_err(|_| IdentityError::file(key, "there is no key in it"))?;
    let provider = rustls::crypto::ring::default_provider();
    CertifiedKey::from_der(chain, private, &provider)
        .map_err(|e| IdentityError::file(key, format!("it does not fit {}: {e}", certificate.display())))
}

/// Serves until `stop` is done: `POST /mutate` for the API server, `GET /healthz` for probes.
///
/// # Errors
/// When TLS cannot be set up.
pub async fn serve(
    listener: TcpListener,
    certificate: Certificate,
    settings: Settings,
    accounts: Accounts,
    stop: impl Future<Output = ()>,
) -> Result<(), IdentityError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| IdentityError::Place(e.to_string()))?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(certificate));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let settings = Arc::new(settings);
    tokio::pin!(stop);
    while let Some(stream) = druse_accept::next(&listener, stop.as_mut()).await {
        let (acceptor, settings, accounts) = (acceptor.clone(), settings.clone(), accounts.clone());
        tokio::spawn(async move {
            let Ok(Ok(stream)) = tokio::time::timeout(Duration::from_secs(10), acceptor.accept(stream)).await else {
                return;
            };
            let service = service_fn(move |r| answer(r, settings.clone(), accounts.clone()));
            // A connection's end is the client's affair.
            let _ = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
    Ok(())
}

async fn answer(
    request: Request<Incoming>,
    settings: Arc<Settings>,
    accounts: Accounts,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let plain = |status: StatusCode, text: String| {
        let mut r = Response::new(Full::from(text));
        *r.status_mut() = status;
        r
    };
    match (request.method(), request.uri().path()) {
        (&Method::GET, "/healthz") => return Ok(plain(StatusCode::OK, "ok".into())),
        (&Method::POST, "/mutate") => {}
        (_, "/mutate") => return Ok(plain(StatusCode::METHOD_NOT_ALLOWED, "POST an AdmissionReview".into())),
        _ => return Ok(plain(StatusCode::NOT_FOUND, "there are /mutate and /healthz".into())),
    }
    let is_json = request.headers().get("content-type").is_some_and(|t| t.as_bytes().starts_with(b"application/json"));
    if !is_json {
        let text = "Invalid Content-Type, expected `application/json`".to_string();
        return Ok(plain(StatusCode::UNSUPPORTED_MEDIA_TYPE, text));
    }
    let Ok(body) = Limited::new(request.into_body(), MAX_BODY).collect().await else {
        return Ok(plain(StatusCode::PAYLOAD_TOO_LARGE, "the review is too large".into()));
    };
    Ok(match review(&settings, &body.to_bytes(), |ns, name| accounts(ns, name)) {
        Ok(answer) => {
            let mut r = plain(StatusCode::OK, json::to_string(&answer));
            r.headers_mut().insert("content-type", hyper::header::HeaderValue::from_static("application/json"));
            r
        }
        Err(e) => plain(StatusCode::BAD_REQUEST, e.to_string()),
    })
}
