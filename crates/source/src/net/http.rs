//! The HTTP client: timeouts, limits, redirects, retries, proxies, and memory of hosts that cannot be reached.
//!
//! What may pass is tried again with growing pauses: 429 (after `Retry-After`), 5xx, connections that break. What will
//! not pass is not: 4xx, certificates that are not trusted. A name that does not resolve and a connection that is
//! refused are tried once more and then remembered, so that a machine without a network learns it in moments however
//! many repositories a tree names; while no host has answered and some could not be reached, others are tried hastily.

use std::collections::BTreeMap;
use std::error::Error as StdError;
use std::hash::{BuildHasher, Hasher};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use reqwest::{Method, Url};

use super::{NetOptions, shown, tls};
use crate::error::SourceError;

/// How many redirects are followed.
const MAX_REDIRECTS: usize = 10;
/// The longest pause that a server may ask for.
const MAX_PAUSE: Duration = Duration::from_secs(30);
/// After how many unreachable hosts, while none has answered, others are tried hastily.
const HASTY_AFTER: usize = 3;
/// How long a connection may take to be made then.
const HASTY_CONNECT: Duration = Duration::from_secs(1);
/// After how many connect timeouts' time, while none has answered, the others are not tried at all.
const SILENT_AFTER: u32 = 2;

/// One request.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) method: Method,
    pub(crate) url: Url,
    pub(crate) headers: Vec<(HeaderName, String)>,
    pub(crate) body: Bytes,
    /// The most bytes that are read.
    pub(crate) limit: u64,
    /// Statuses besides 2xx that are answers and no failures.
    pub(crate) accept: Vec<u16>,
    /// Whether a failure that may pass is tried again.
    pub(crate) retry: bool,
}

impl Call {
    pub(crate) fn get(url: Url, limit: u64) -> Self {
        let headers = Vec::new();
        Self { method: Method::GET, url, headers, body: Bytes::new(), limit, accept: Vec::new(), retry: true }
    }

    pub(crate) fn post(url: Url, body: Vec<u8>, limit: u64) -> Self {
        Self { method: Method::POST, body: body.into(), ..Self::get(url, limit) }
    }

    pub(crate) fn header(mut self, name: HeaderName, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub(crate) fn accept(mut self, statuses: &[u16]) -> Self {
        self.accept.extend_from_slice(statuses);
        self
    }
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
    /// Who answered, after redirects.
    pub(crate) url: Url,
}

impl Reply {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

/// What kind of failure it is, which says what is done about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FailureKind {
    /// No name, nobody listening, the proxy refuses.
    Unreachable,
    /// No connection within the time for it.
    ConnectTimeout,
    /// The server's certificate or TLS.
    Tls,
    /// Silence while the answer was awaited.
    Silence,
    /// Other things that may pass.
    Passing,
    /// What stays.
    Lasting,
}

/// A request that failed.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    pub(crate) kind: FailureKind,
    pub(crate) message: String,
    pub(crate) status: Option<u16>,
    retry_after: Option<Duration>,
}

impl Failure {
    fn new(kind: FailureKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), status: None, retry_after: None }
    }

    pub(crate) fn into_error(self, url: &Url) -> SourceError {
        let transient = !matches!(self.kind, FailureKind::Tls | FailureKind::Lasting);
        SourceError::Fetch { url: shown(url.as_str()), message: self.message, status: self.status, transient }
    }
}

/// The client.
pub(crate) struct Http {
    inner: Arc<Inner>,
    runtime: OnceLock<Option<tokio::runtime::Runtime>>,
}

impl std::fmt::Debug for Http {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Http").field("options", &self.inner.options).finish_non_exhaustive()
    }
}

struct Inner {
    /// Made for the first request: reading the system's certificates takes longer than many a command that needs none.
    clients: OnceLock<Result<Clients, Failure>>,
    options: NetOptions,
    unreachable: Mutex<BTreeMap<String, Failure>>,
    reached: AtomicBool,
    /// When the first host was asked.
    first_asked: Mutex<Option<Instant>>,
}

struct Clients {
    plain: reqwest::Client,
    /// The same with little patience for connections.
    hasty: reqwest::Client,
    has_roots: bool,
}

impl Clients {
    fn new(options: &NetOptions) -> Result<Self, SourceError> {
        let (tls, has_roots) = tls::config(options.extra_roots.as_deref())?;
        let client = |connect_timeout: Duration| build(options, &tls, connect_timeout, redirects());
        let hasty = client(options.connect_timeout.min(HASTY_CONNECT))?;
        Ok(Self { plain: client(options.connect_timeout)?, hasty, has_roots })
    }
}

impl Http {
    /// A client that is ready when it is first used; what is wrong with its options is said here.
    pub(crate) fn new(options: NetOptions) -> Result<Self, SourceError> {
        tls::extra_certificates(options.extra_roots.as_deref())?;
        proxies(&options)?;
        let unreachable = Mutex::default();
        let inner = Inner {
            clients: OnceLock::new(),
            options,
            unreachable,
            reached: AtomicBool::new(false),
            first_asked: Mutex::default(),
        };
        Ok(Self { inner: Arc::new(inner), runtime: OnceLock::new() })
    }

    pub(crate) fn forget(&self) {
        self.inner.unreachable.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.inner.reached.store(false, Ordering::Relaxed);
        *self.inner.first_asked.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Sends a request and waits for the whole answer.
    pub(crate) fn send(&self, call: Call) -> Result<Reply, SourceError> {
        let url = call.url.clone();
        self.try_send(call).map_err(|f| f.into_error(&url))
    }

    /// As [`Http::send`], with the kind of failure.
    pub(crate) fn try_send(&self, call: Call) -> Result<Reply, Failure> {
        let runtime = self.runtime.get_or_init(|| {
            tokio::runtime::Builder::new_multi_thread()
                .worker_threads(1)
                .thread_name("druse-net")
                .enable_all()
                .build()
                .ok()
        });
        let dead =
            || Failure::new(FailureKind::Lasting, "the network's threads could not be started or stopped working");
        let Some(runtime) = runtime else { return Err(dead()) };
        let (tx, rx) = std::sync::mpsc::channel();
        let inner = Arc::clone(&self.inner);
        runtime.spawn(async move {
            let total = inner.options.total_timeout;
            let result = tokio::time::timeout(total, inner.send(call)).await.unwrap_or_else(|_| {
                Err(Failure::new(FailureKind::Passing, format!("it took more than {total:?} in all; try again later")))
            });
            // The receiver waits below for exactly this.
            let _ = tx.send(result);
        });
        rx.recv().unwrap_or_else(|_| Err(dead()))
    }
}

impl Drop for Http {
    fn drop(&mut self) {
        // A runtime may not be waited for on a thread of another one.
        if let Some(Some(runtime)) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// A client for calls that are made elsewhere, with the same roots, proxies and patience, that follows no redirect:
/// signed requests are for one address.
///
/// # Errors
/// When there are no roots, or a proxy is no URL.
pub fn plain_client(options: &NetOptions) -> Result<reqwest::Client, SourceError> {
    let (tls, _) = tls::config(options.extra_roots.as_deref())?;
    build(options, &tls, options.connect_timeout, reqwest::redirect::Policy::none())
}

fn build(
    options: &NetOptions,
    tls: &rustls::ClientConfig,
    connect_timeout: Duration,
    redirects: reqwest::redirect::Policy,
) -> Result<reqwest::Client, SourceError> {
    let builder = reqwest::Client::builder()
        .tls_backend_preconfigured(tls.clone())
        .user_agent(concat!("druse/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(connect_timeout)
        .read_timeout(options.idle_timeout)
        .redirect(redirects)
        .no_proxy();
    let builder = proxies(options)?.into_iter().fold(builder, reqwest::ClientBuilder::proxy);
    builder.build().map_err(|e| SourceError::Broken { what: "HTTP client".to_string(), message: chain(&e) })
}

fn proxies(options: &NetOptions) -> Result<Vec<reqwest::Proxy>, SourceError> {
    // The message of the library would show the proxy's password.
    let bad = |name: &str| SourceError::Broken { what: name.to_string(), message: "this proxy is no URL".to_string() };
    let direct = options.no_proxy.as_deref().and_then(reqwest::NoProxy::from_string);
    let mut proxies = Vec::new();
    if let Some(proxy) = options.http_proxy.as_deref().filter(|p| !p.is_empty()) {
        proxies.push(reqwest::Proxy::http(proxy).map_err(|_| bad("HTTP_PROXY"))?.no_proxy(direct.clone()));
    }
    if let Some(proxy) = options.https_proxy.as_deref().filter(|p| !p.is_empty()) {
        proxies.push(reqwest::Proxy::https(proxy).map_err(|_| bad("HTTPS_PROXY"))?.no_proxy(direct));
    }
    Ok(proxies)
}

fn redirects() -> reqwest::redirect::Policy {
    reqwest::redirect::Policy::custom(|attempt| {
        let was_https = attempt.previous().last().is_some_and(|u| u.scheme() == "https");
        if attempt.previous().len() > MAX_REDIRECTS {
            attempt.error(format!("it redirects more than {MAX_REDIRECTS} times"))
        } else if was_https && attempt.url().scheme() != "https" {
            let to = shown(attempt.url().as_str());
            attempt.error(format!("it redirects from https to {to}, which is not followed"))
        } else {
            attempt.follow()
        }
    })
}

/// `host:port` of a URL.
pub(crate) fn host_of(url: &Url) -> String {
    format!("{}:{}", url.host_str().unwrap_or_default(), url.port_or_known_default().unwrap_or_default())
}

/// Whether a URL means this machine.
pub(crate) fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

impl Inner {
    async fn send(&self, call: Call) -> Result<Reply, Failure> {
        let host = host_of(&call.url);
        let hasty = {
            let known = self.unreachable.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(failure) = known.get(&host) {
                return Err(failure.clone());
            }
            if let Some(failure) = self.silence(known.len()) {
                return Err(failure);
            }
            let is_sure = |f: &Failure| f.kind == FailureKind::ConnectTimeout;
            !self.reached.load(Ordering::Relaxed) && (known.len() >= HASTY_AFTER || known.values().any(is_sure))
        };
        let mut tries = 0u32;
        loop {
            let failure = match self.attempt(&call, hasty).await {
                Ok(reply) => return Ok(reply),
                Err(failure) => failure,
            };
            let most = match failure.kind {
                FailureKind::Unreachable if hasty => 0,
                FailureKind::Unreachable | FailureKind::Silence => 1,
                FailureKind::Passing => self.options.retries,
                FailureKind::ConnectTimeout | FailureKind::Tls | FailureKind::Lasting => 0,
            };
            if !call.retry || tries >= most.min(self.options.retries) {
                if matches!(failure.kind, FailureKind::Unreachable | FailureKind::ConnectTimeout) {
                    self.unreachable.lock().unwrap_or_else(PoisonError::into_inner).insert(host, failure.clone());
                }
                return Err(failure);
            }
            let pause = match (failure.kind, failure.retry_after) {
                (_, Some(asked)) if asked > MAX_PAUSE => return Err(failure),
                (_, Some(asked)) => asked,
                (FailureKind::Unreachable, None) => self.options.backoff.min(Duration::from_millis(100)),
                _ => self.options.backoff.saturating_mul(1 << tries.min(8)).min(MAX_PAUSE),
            };
            tracing::debug!(url = shown(call.url.as_str()), "{}; trying again", failure.message);
            tokio::time::sleep(jitter(pause)).await;
            tries += 1;
        }
    }

    /// Why no further host is asked: where several did not answer for some time and none did, the network is not there,
    /// and waiting for each host of a tree in turn would only take long.
    fn silence(&self, unreachable: usize) -> Option<Failure> {
        let mut first = self.first_asked.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = first.get_or_insert_with(Instant::now).elapsed();
        let silent = !self.reached.load(Ordering::Relaxed) && unreachable >= HASTY_AFTER;
        (silent && waited > self.options.connect_timeout * SILENT_AFTER).then(|| {
            let message =
                format!("not asked, as none of {unreachable} hosts has answered in {} seconds", waited.as_secs());
            Failure::new(FailureKind::ConnectTimeout, message)
        })
    }

    fn clients(&self) -> Result<&Clients, Failure> {
        let made = self
            .clients
            .get_or_init(|| Clients::new(&self.options).map_err(|e| Failure::new(FailureKind::Lasting, e.to_string())));
        made.as_ref().map_err(Clone::clone)
    }

    async fn attempt(&self, call: &Call, hasty: bool) -> Result<Reply, Failure> {
        let mut headers = HeaderMap::new();
        for (name, value) in &call.headers {
            let mut value = HeaderValue::from_str(value).map_err(|_| {
                Failure::new(FailureKind::Lasting, format!("a value for {name} has characters that HTTP cannot send"))
            })?;
            value.set_sensitive(name == reqwest::header::AUTHORIZATION);
            headers.append(name.clone(), value);
        }
        let clients = self.clients()?;
        let client = if hasty { &clients.hasty } else { &clients.plain };
        let request = client.request(call.method.clone(), call.url.clone()).headers(headers).body(call.body.clone());
        let mut response = request.send().await.map_err(|e| self.failure(e, clients.has_roots))?;
        self.reached.store(true, Ordering::Relaxed);
        let status = response.status().as_u16();
        let good = (200..300).contains(&status) || call.accept.contains(&status);
        let limit = if good { call.limit } else { 4096 };
        let too_large = || {
            Failure::new(
                FailureKind::Lasting,
                format!("the answer is larger than {} MiB, the most that is taken", call.limit >> 20),
            )
        };
        if good && response.content_length().is_some_and(|l| l > limit) {
            return Err(too_large());
        }
        let mut body = Vec::new();
        loop {
            match response.chunk().await {
                Ok(Some(chunk)) if (body.len() + chunk.len()) as u64 > limit => {
                    if good {
                        return Err(too_large());
                    }
                    break;
                }
                Ok(Some(chunk)) => body.extend_from_slice(&chunk),
                Ok(None) => break,
                Err(_) if !good => break,
                Err(e) => {
                    let mut failure = self.failure(e, clients.has_roots);
                    if failure.kind == FailureKind::Passing {
                        failure.message =
                            format!("the answer broke off after {} bytes ({})", body.len(), failure.message);
                    }
                    return Err(failure);
                }
            }
        }
        if !good {
            return Err(status_failure(status, response.headers(), &body));
        }
        Ok(Reply { status, headers: std::mem::take(response.headers_mut()), url: response.url().clone(), body })
    }

    fn failure(&self, e: reqwest::Error, has_roots: bool) -> Failure {
        use FailureKind as K;
        let e = e.without_url();
        let text = chain(&e);
        let first: &(dyn StdError + 'static) = &e;
        let sources = || std::iter::successors(Some(first), |e| (**e).source());
        let io_kinds: Vec<std::io::ErrorKind> =
            sources().filter_map(|s| s.downcast_ref::<std::io::Error>()).map(std::io::Error::kind).collect();
        let tls = tls_error(first, 0);
        if let Some(tls) = tls {
            let remedy = match tls {
                rustls::Error::InvalidCertificate(_) if !has_roots => {
                    "this machine has no root certificates: install the system's CA certificates"
                }
                rustls::Error::InvalidCertificate(_) => {
                    "if you trust the server, add its authority to the system's certificates"
                }
                _ => "the server may speak plain HTTP, or TLS that is too old",
            };
            return Failure::new(K::Tls, format!("TLS failed: {tls}; {remedy}"));
        }
        if e.is_redirect() {
            return Failure::new(K::Lasting, text);
        }
        if e.is_connect() {
            if e.is_timeout() {
                return Failure::new(
                    K::ConnectTimeout,
                    "no connection could be made in time; check the network, proxy or firewall",
                );
            }
            if text.contains("dns error") {
                let why = text.rsplit(": ").next().unwrap_or_default();
                return Failure::new(
                    K::Unreachable,
                    format!("the host's name cannot be resolved ({why}); check the name and the network"),
                );
            }
            use std::io::ErrorKind::{ConnectionRefused, HostUnreachable, NetworkDown, NetworkUnreachable};
            if io_kinds
                .iter()
                .any(|k| matches!(k, ConnectionRefused | HostUnreachable | NetworkDown | NetworkUnreachable))
            {
                return Failure::new(
                    K::Unreachable,
                    format!("no connection can be made ({text}); check the address and the network"),
                );
            }
            if text.contains("tunnel") || text.contains("proxy") {
                return Failure::new(
                    K::Unreachable,
                    format!("the proxy does not let us through ({text}); check the proxy settings"),
                );
            }
            return Failure::new(K::Passing, format!("the connection failed ({text})"));
        }
        if e.is_timeout() {
            let limit = self.options.idle_timeout;
            return Failure::new(K::Silence, format!("the server was silent for {limit:?}; try again later"));
        }
        if e.is_builder() {
            return Failure::new(K::Lasting, text);
        }
        Failure::new(K::Passing, text)
    }
}

/// The TLS error among an error's causes; those that system errors wrap are not in the plain chain of causes.
fn tls_error<'e>(e: &'e (dyn StdError + 'static), depth: usize) -> Option<&'e rustls::Error> {
    if depth > 16 {
        return None;
    }
    let wrapped = e.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
    e.downcast_ref::<rustls::Error>()
        .or_else(|| tls_error(wrapped?, depth + 1))
        .or_else(|| tls_error(e.source()?, depth + 1))
}

/// What a status other than success means.
fn status_failure(status: u16, headers: &HeaderMap, body: &[u8]) -> Failure {
    let words = reqwest::StatusCode::from_u16(status).ok().and_then(|s| s.canonical_reason()).unwrap_or_default();
    let mut message = format!("the server answered {status} {words}");
    if let Some(said) = said(body) {
        message.push_str(&format!(" ({said})"));
    }
    message.push_str(match status {
        401 => "; it wants other credentials than it was given",
        403 => "; the credentials (or none) do not allow this",
        404 | 410 => "; check the URL, the name and the version",
        407 => "; the proxy wants credentials",
        429 => "; too many requests, try again later",
        500.. => "; try again later",
        _ => "",
    });
    let kind = match status {
        429 | 500 | 502 | 503 | 504 => FailureKind::Passing,
        407 => FailureKind::Unreachable,
        _ => FailureKind::Lasting,
    };
    // As a date it is hardly used; the growing pause does then.
    let retry_after =
        headers.get(RETRY_AFTER).and_then(|v| v.to_str().ok()?.trim().parse().ok()).map(Duration::from_secs);
    Failure { kind, message, status: Some(status), retry_after }
}

/// What a server says about a failure, when it is short and plain: a registry's first error, or one line of text.
fn said(body: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(body).ok()?.trim();
    let said = match serde_json::from_str::<serde_json::Value>(text) {
        Ok(json) => {
            let first = json.pointer("/errors/0").unwrap_or(&json);
            first
                .get("message")
                .and_then(|m| m.as_str())
                .or_else(|| first.get("code").and_then(|m| m.as_str()))?
                .to_string()
        }
        Err(_) => text.to_string(),
    };
    let plain = !said.is_empty()
        && said.chars().count() <= 160
        && !said.contains(['<', '\n'])
        && !said.contains(char::is_control);
    plain.then_some(said)
}

/// An error with its causes, each said once: what the HTTP client says of itself is only that it failed.
#[must_use]
pub fn chain(e: &dyn StdError) -> String {
    let mut parts: Vec<String> = Vec::new();
    let mut next = Some(e);
    while let Some(e) = next {
        let text = e.to_string();
        if !parts.iter().any(|p| p.contains(&text)) && parts.len() < 8 {
            parts.push(text);
        }
        next = e.source();
    }
    // The first only says that a request was sent.
    if parts.len() > 1
        && parts.first().is_some_and(|p| p.starts_with("error sending request") || p.starts_with("client error"))
    {
        parts.remove(0);
    }
    if parts.len() > 1 && parts.first().is_some_and(|p| p.starts_with("client error")) {
        parts.remove(0);
    }
    parts.join(": ")
}

/// A pause with up to as much again by chance, so that clients that failed together do not come back together.
fn jitter(pause: Duration) -> Duration {
    let random = std::hash::RandomState::new().build_hasher().finish();
    pause + pause.mul_f64(f64::from(u32::try_from(random >> 32).unwrap_or(0)) / f64::from(u32::MAX))
}
