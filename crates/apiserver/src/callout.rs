//! Calling webhooks: where a `clientConfig` leads, the HTTP client for it, and which webhooks are only simulated.
//!
//! A `service` leads to the ready endpoints of that Service, as upstream resolves it with its aggregator's resolver: a
//! process on this host is reached when EndpointSlices (or Endpoints) name its address. Endpoints that are simulated
//! pods answer nobody; a webhook that has no others is *simulated*: it is not called, and its configuration says so.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use bytes::Bytes;
use druse_object::{Value, json};
use parking_lot::Mutex;
use rustls::pki_types::{CertificateDer, pem::PemObject as _};
use tokio::sync::mpsc;

use crate::server::Shared;
use crate::trust::Bundle;

/// Marks what is simulated, and says what about it.
pub const SIMULATED: &str = "druse.dev/simulated";
/// The most bytes of an answer that are read.
const MAX_ANSWER: usize = 16 * 1024 * 1024;
/// How many clients are kept; one holds its connections.
const CLIENTS: usize = 256;

/// Why a webhook gave no answer, in upstream's words.
pub type Failure = String;

/// Where a webhook is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// Something listens there, or should: the URL that is called and shown, and the addresses its host name stands
    /// for when it is a Service's.
    At {
        /// What is called.
        url: String,
        /// The URL as messages show it: a Service's with the Service's port.
        shown: String,
        /// Addresses of the host; empty asks the resolver.
        addresses: Vec<SocketAddr>,
    },
    /// Only simulated pods stand behind it.
    Simulated,
}

impl Target {
    fn plain(url: String) -> Self {
        Target::At { shown: url.clone(), url, addresses: Vec::new() }
    }
}

/// One webhook's configuration object: its stored type and name.
type Owner = (String, String);

/// Clients by what they trust and where they go, and which configurations were found simulated.
#[derive(Debug)]
pub struct Callouts {
    clients: Mutex<HashMap<(String, Target), reqwest::Client>>,
    known: Mutex<HashMap<Owner, bool>>,
    changes: mpsc::UnboundedSender<(Owner, bool)>,
    inbox: Mutex<Option<mpsc::UnboundedReceiver<(Owner, bool)>>>,
    simulated_pods: bool,
}

impl Callouts {
    /// None made yet. `simulated_pods`: all pods of this cluster are simulated, so a Service without endpoints will
    /// only ever have simulated ones.
    #[must_use]
    pub fn new(simulated_pods: bool) -> Self {
        let (changes, inbox) = mpsc::unbounded_channel();
        Self {
            clients: Mutex::default(),
            known: Mutex::default(),
            changes,
            inbox: Mutex::new(Some(inbox)),
            simulated_pods,
        }
    }

    /// The configurations that come to be simulated, or cease to; for the one who writes it into them.
    pub fn changes(&self) -> Option<mpsc::UnboundedReceiver<(Owner, bool)>> {
        self.inbox.lock().take()
    }

    /// Notes whether a configuration's webhooks are simulated.
    pub fn note(&self, stored_as: &str, name: &str, simulated: bool) {
        let owner = (stored_as.to_owned(), name.to_owned());
        let mut known = self.known.lock();
        // Nothing needs to be said of a webhook that was always called.
        if known.get(&owner).copied().unwrap_or(false) == simulated {
            return;
        }
        known.insert(owner.clone(), simulated);
        // Nobody listens when the server closes.
        let _ = self.changes.send((owner, simulated));
    }

    fn client(&self, ca_bundle: &str, target: &Target) -> Result<reqwest::Client, Failure> {
        let key = (ca_bundle.to_owned(), target.clone());
        let mut clients = self.clients.lock();
        if let Some(c) = clients.get(&key) {
            return Ok(c.clone());
        }
        let mut builder = reqwest::Client::builder()
            .tls_backend_preconfigured(tls(ca_bundle)?)
            .user_agent("kube-apiserver-admission")
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy();
        if let Target::At { url, addresses, .. } = target
            && !addresses.is_empty()
            && let Some(host) = reqwest::Url::parse(url).ok().as_ref().and_then(|u| u.host_str())
        {
            builder = builder.resolve_to_addrs(host, addresses);
        }
        let client = builder.build().map_err(|e| why(&e, &[]))?;
        if clients.len() >= CLIENTS {
            clients.clear();
        }
        clients.insert(key, client.clone());
        Ok(client)
    }
}

/// What a client trusts: the bundle, or without one what the system trusts.
fn tls(ca_bundle: &str) -> Result<rustls::ClientConfig, Failure> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?;
    if ca_bundle.is_empty() {
        let verifier = rustls_platform_verifier::Verifier::new(provider).map_err(|e| e.to_string())?;
        return Ok(builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier)).with_no_client_auth());
    }
    let bad = |why: &dyn std::fmt::Display| format!("unable to load root certificates: {why}");
    let pem = base64::engine::general_purpose::STANDARD.decode(ca_bundle).map_err(|e| bad(&e))?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let bundle = Bundle::new(certificates.map_err(|e| bad(&e))?, provider).map_err(|e| bad(&e))?;
    Ok(builder.dangerous().with_custom_certificate_verifier(Arc::new(bundle)).with_no_client_auth())
}

/// Why a call failed, as the Go client says it where people know the words.
fn why(e: &reqwest::Error, addresses: &[SocketAddr]) -> String {
    let mut deepest: &dyn std::error::Error = e;
    while let Some(cause) = deepest.source() {
        deepest = cause;
    }
    let text = deepest.to_string();
    let refused = deepest.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
    match (refused, addresses.first()) {
        (Some(std::io::ErrorKind::ConnectionRefused), Some(a)) => format!("dial tcp {a}: connect: connection refused"),
        (Some(std::io::ErrorKind::ConnectionRefused), None) => "dial tcp: connect: connection refused".into(),
        _ if text.contains("UnknownIssuer") => {
            "tls: failed to verify certificate: x509: certificate signed by unknown authority".into()
        }
        _ if text.contains("Expired") || text.contains("NotValidYet") => {
            "tls: failed to verify certificate: x509: certificate has expired or is not yet valid".into()
        }
        _ => text,
    }
}

/// Waits for a webhook where code cannot be asynchronous: reading an object in another version.
///
/// # Errors
/// The webhook's, or when nothing can be waited for.
pub fn wait<T: Send>(future: impl Future<Output = Result<T, Failure>> + Send) -> Result<T, Failure> {
    use tokio::runtime::{Builder, Handle, RuntimeFlavor};
    if let Ok(h) = Handle::try_current()
        && h.runtime_flavor() == RuntimeFlavor::MultiThread
    {
        // Other tasks move to another worker meanwhile.
        return tokio::task::block_in_place(|| h.block_on(future));
    }
    std::thread::scope(|s| {
        let own = s.spawn(|| {
            let runtime = Builder::new_current_thread().enable_all().build().map_err(|e| e.to_string())?;
            runtime.block_on(future)
        });
        match own.join() {
            Ok(v) => v,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

impl Shared {
    /// Finds out where a `clientConfig` leads.
    ///
    /// # Errors
    /// When it names a Service that is missing or has no endpoint.
    pub fn webhook_target(&self, config: &Value) -> Result<Target, Failure> {
        if let Some(url) = config.str_at(["url"]).filter(|u| !u.is_empty()) {
            return Ok(Target::plain(url.to_owned()));
        }
        let service = &config["service"];
        let text = |k: &str| service.str_at([k]).unwrap_or_default();
        let (namespace, name, path) = (text("namespace"), text("name"), text("path"));
        let port = service.get("port").and_then(Value::as_i64).unwrap_or(443);
        let found = self.object("services", namespace, name);
        let object = match found {
            Some(o) => o,
            None if self.callouts.simulated_pods => return Ok(Target::Simulated),
            None => return Err(format!("service \"{name}\" not found")),
        };
        let path = if path.is_empty() || path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        let host = format!("{name}.{namespace}.svc");
        if object.str_at(["spec", "type"]) == Some("ExternalName") {
            let external = object.str_at(["spec", "externalName"]).unwrap_or_default();
            return Ok(Target::plain(format!("https://{external}:{port}{path}")));
        }
        let declared = object["spec"]["ports"].items().iter().find(|p| p["port"].as_i64() == Some(port));
        let declared = declared.ok_or_else(|| format!("no service port {port} found for service \"{name}\""))?;
        let found = self.endpoints(namespace, name, declared.str_at(["name"]).unwrap_or_default());
        let Some(at) = found.real.first().map(SocketAddr::port) else {
            if found.simulated || self.callouts.simulated_pods {
                return Ok(Target::Simulated);
            }
            return Err(format!("no endpoints available for service \"{name}\""));
        };
        // A client speaks to one port; endpoints of one Service port differ in it only by way of a named target port.
        let addresses = found.real.into_iter().filter(|a| a.port() == at).collect();
        let shown = format!("https://{host}:{port}{path}");
        Ok(Target::At { url: format!("https://{host}:{at}{path}"), shown, addresses })
    }

    fn endpoints(&self, namespace: &str, service: &str, port: &str) -> Found {
        let mut out = Found::default();
        let number = |ports: &Value| {
            let named = |p: &&Value| p.str_at(["name"]).unwrap_or_default() == port;
            let p = ports.items().iter().find(named)?;
            u16::try_from(p["port"].as_i64()?).ok()
        };
        let mut add = |address: &str, port: u16, target: &Value| {
            let Ok(ip) = address.parse::<IpAddr>() else { return };
            let pod = target.str_at(["name"]).filter(|_| target.str_at(["kind"]) == Some("Pod"));
            let ns = target.str_at(["namespace"]).unwrap_or(namespace);
            let simulated = pod
                .and_then(|p| self.object("pods", ns, p))
                .is_some_and(|p| p.at(["metadata", "annotations"]).is_some_and(|a| a.get(SIMULATED).is_some()));
            if simulated {
                out.simulated = true;
            } else if !out.real.contains(&SocketAddr::new(ip, port)) {
                out.real.push(SocketAddr::new(ip, port));
            }
        };
        for slice in self.objects("endpointslices.discovery.k8s.io", namespace) {
            let labels = slice.at(["metadata", "labels"]);
            if labels.and_then(|l| l.str_at(["kubernetes.io/service-name"])) != Some(service) {
                continue;
            }
            let Some(port) = number(&slice["ports"]) else { continue };
            for e in slice["endpoints"].items() {
                if e.at(["conditions", "ready"]).and_then(Value::as_bool) == Some(false) {
                    continue;
                }
                for a in e["addresses"].items().iter().filter_map(Value::as_str) {
                    add(a, port, &e["targetRef"]);
                }
            }
        }
        if let Some(object) = self.object("endpoints", namespace, service) {
            for subset in object["subsets"].items() {
                let Some(port) = number(&subset["ports"]) else { continue };
                for a in subset["addresses"].items() {
                    add(a.str_at(["ip"]).unwrap_or_default(), port, &a["targetRef"]);
                }
            }
        }
        out
    }

    /// Posts a JSON document to a webhook and reads the answer.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn post(
        &self,
        config: &Value,
        target: &Target,
        body: &Value,
        timeout: Duration,
    ) -> Result<Value, Failure> {
        let Target::At { url, shown, addresses } = target else { return Err("the webhook is simulated".into()) };
        let client = self.callouts.client(config.str_at(["caBundle"]).unwrap_or_default(), target)?;
        let joint = if url.contains('?') { '&' } else { '?' };
        let limit = format!("{joint}timeout={}s", timeout.as_secs());
        let shown = format!("{shown}{limit}");
        let failed = |why: &dyn std::fmt::Display| format!("failed to call webhook: Post \"{shown}\": {why}");
        let send = async {
            let sent = client
                .post(format!("{url}{limit}"))
                .header(http::header::CONTENT_TYPE, "application/json")
                .header(http::header::ACCEPT, "application/json, */*")
                .body(json::to_string(body))
                .send()
                .await;
            let mut answer = sent.map_err(|e| failed(&why(&e, addresses)))?;
            let code = answer.status().as_u16();
            let mut text = Vec::new();
            while let Some(more) = answer.chunk().await.map_err(|e| failed(&why(&e, addresses)))? {
                let more: Bytes = more;
                if text.len() + more.len() > MAX_ANSWER {
                    return Err(failed(&"the answer is larger than any object"));
                }
                text.extend_from_slice(&more);
            }
            if !(200..300).contains(&code) {
                // As the Go client words an answer that is no Status.
                return Err(match code {
                    404 => "failed to call webhook: the server could not find the requested resource".to_owned(),
                    500.. => format!(
                        "failed to call webhook: an error on the server ({}) has prevented the request from succeeding",
                        go_quoted(&text)
                    ),
                    _ => format!(
                        "failed to call webhook: the server rejected our request for an unknown reason ({code})"
                    ),
                });
            }
            json::parse(&text).map_err(|e| format!("received invalid webhook response: {e}"))
        };
        match tokio::time::timeout(timeout, send).await {
            Ok(done) => done,
            Err(_) => Err(failed(&"context deadline exceeded")),
        }
    }
}

fn go_quoted(text: &[u8]) -> String {
    let shown: String = String::from_utf8_lossy(text).trim().chars().take(512).collect();
    crate::field::go_quote(&shown)
}

#[derive(Default)]
struct Found {
    real: Vec<SocketAddr>,
    simulated: bool,
}
