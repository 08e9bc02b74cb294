//! The network: Helm repositories (`helm`), OCI registries (`oci`) and Git servers (`git`) over one HTTP client (`http`).
//!
//! Calls block; the client's own small runtime does the waiting, so that callers may be on any thread, also on one of
//! an async runtime that may block. What was learnt (indexes, which hosts cannot be reached, tokens) is kept until it is
//! told to forget.

pub(crate) mod git;
pub(crate) mod helm;
pub(crate) mod http;
pub(crate) mod oci;
mod pack;
mod pkt;
mod tls;

pub use http::{chain, plain_client};

use std::time::Duration;

use crate::cache::Cache;
use crate::error::SourceError;
use crate::mirror::Answer;
use crate::request::{Auth, ChartArtifact, ChartRequest, GitRequest, OciRequest, TreeArtifact};

/// How the network is used. Nothing is read from the environment: who wants `HTTPS_PROXY` or Docker's stored
/// credentials obeyed passes them here.
#[derive(Clone)]
pub struct NetOptions {
    /// How long a connection may take to be made, name lookup and TLS included.
    pub connect_timeout: Duration,
    /// How long a server may stay silent.
    pub idle_timeout: Duration,
    /// How long one download may take in all, with everything that is tried again.
    pub total_timeout: Duration,
    /// How often a failure that may pass (429, 5xx, a broken connection) is tried again.
    pub retries: u32,
    /// The pause before the first retry; it doubles with each, and up to as much again is added by chance.
    pub backoff: Duration,
    /// The proxy for `http` URLs (`HTTP_PROXY`).
    pub http_proxy: Option<String>,
    /// The proxy for `https` URLs (`HTTPS_PROXY`).
    pub https_proxy: Option<String>,
    /// Hosts that are asked directly, comma-separated (`NO_PROXY`).
    pub no_proxy: Option<String>,
    /// Texts of Docker's `config.json`, whose `auths` are used for registries when a request brings no credentials;
    /// the first that knows a registry wins. Credential helpers are not run.
    pub registry_configs: Vec<String>,
    /// Certificates in PEM that are trusted besides the system's.
    pub extra_roots: Option<String>,
}

impl Default for NetOptions {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(20),
            total_timeout: Duration::from_secs(300),
            retries: 3,
            backoff: Duration::from_millis(250),
            http_proxy: None,
            https_proxy: None,
            no_proxy: None,
            registry_configs: Vec::new(),
            extra_roots: None,
        }
    }
}

impl std::fmt::Debug for NetOptions {
    /// Shows neither proxies nor registries: both may hold passwords.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NetOptions")
            .field("connect_timeout", &self.connect_timeout)
            .field("idle_timeout", &self.idle_timeout)
            .field("total_timeout", &self.total_timeout)
            .field("retries", &self.retries)
            .finish_non_exhaustive()
    }
}

/// Everything that is asked over the network.
#[derive(Debug)]
pub(crate) struct Network {
    http: http::Http,
    helm: helm::Repositories,
    oci: oci::Registries,
}

impl Network {
    pub(crate) fn new(options: NetOptions) -> Result<Self, SourceError> {
        let oci = oci::Registries::new(&options.registry_configs);
        Ok(Self { http: http::Http::new(options)?, helm: helm::Repositories::default(), oci })
    }

    pub(crate) fn forget(&self) {
        self.http.forget();
        self.helm.forget();
        self.oci.forget();
    }

    pub(crate) fn chart(
        &self,
        request: &ChartRequest,
        cache: Option<&Cache>,
    ) -> Result<Answer<ChartArtifact>, SourceError> {
        if let Some(place) = request.repository.strip_prefix("oci://") {
            let place = format!("{}/{}", place.trim_end_matches('/'), request.name);
            return self.oci.chart(&self.http, &place, request, cache);
        }
        self.helm.chart(&self.http, &self.oci, request, cache)
    }

    pub(crate) fn git(&self, request: &GitRequest, cache: Option<&Cache>) -> Result<Answer<TreeArtifact>, SourceError> {
        git::fetch(&self.http, request, cache)
    }

    /// A file by its URL.
    pub(crate) fn file(&self, url: reqwest::Url, limit: u64) -> Result<Vec<u8>, SourceError> {
        self.http.send(http::Call::get(url, limit)).map(|reply| reply.body)
    }

    pub(crate) fn oci(&self, request: &OciRequest, cache: Option<&Cache>) -> Result<Answer<TreeArtifact>, SourceError> {
        self.oci.tree(&self.http, request, cache)
    }
}

/// The `Authorization` header for credentials: `Basic`, or `Bearer` when there is no user name.
pub(crate) fn authorization(auth: &Auth) -> String {
    use base64::Engine as _;
    if auth.username.is_empty() {
        return format!("Bearer {}", auth.password);
    }
    let both = format!("{}:{}", auth.username, auth.password);
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(both))
}

/// A URL as it may be shown and stored: without user, password and query, each of which may hold a secret.
#[must_use]
pub fn shown(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_string() };
    let rest = rest.split(['?', '#']).next().unwrap_or_default();
    let (host, path) = rest.split_once('/').map_or((rest, None), |(h, p)| (h, Some(p)));
    let host = host.rsplit_once('@').map_or(host, |(_, h)| h);
    match path {
        Some(path) => format!("{scheme}://{host}/{path}"),
        None => format!("{scheme}://{host}"),
    }
}

/// Whether a version means one version for ever, so that it need not be looked up anew: `1.2.3`, `v1.2.3`, a digest.
pub(crate) fn is_fixed(version: &str) -> bool {
    let version = version.trim();
    version.starts_with("sha256:") || semver::Version::parse(version.strip_prefix('v').unwrap_or(version)).is_ok()
}

/// The first few of a list, for messages.
pub(crate) fn first_few<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let mut names: Vec<&str> = names.take(6).collect();
    if names.len() == 6 {
        names.pop();
        return format!("{}, …", names.join(", "));
    }
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shown_urls_hold_no_secrets() {
        for (url, want) in [
            ("https://u:p@h:8443/a/b?token=x#y", "https://h:8443/a/b"),
            ("https://h?token=x", "https://h"),
            ("oci://h/a@b", "oci://h/a@b"),
            ("git@github.com:a/b.git", "git@github.com:a/b.git"),
        ] {
            assert_eq!(shown(url), want);
        }
        let options = NetOptions { https_proxy: Some("http://u:geheim@p".into()), ..NetOptions::default() };
        assert!(!format!("{options:?}").contains("geheim"));
    }

    #[test]
    fn only_whole_versions_and_digests_are_fixed() {
        for (version, want) in [
            ("1.2.3", true),
            ("v1.2.3-rc.1+b", true),
            ("sha256:ab", true),
            ("1.2", false),
            (">=1.2.3", false),
            ("", false),
            ("latest", false),
        ] {
            assert_eq!(is_fixed(version), want, "{version}");
        }
    }
}
