//! OCI registries: the registry API, version 2 (OCI distribution specification), for charts and Flux artifacts.
//!
//! Anonymous and basic credentials through the token flow of `WWW-Authenticate`, tags with pages, manifests and
//! indexes, layers by media type, everything checked against its digest. Layers are kept in the cache under their own
//! digest. Plain HTTP only for registries that are said to be insecure and for this machine, after HTTPS was tried.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine as _;
use druse_helm::version::{Constraint, Version};
use reqwest::Url;
use reqwest::header::{ACCEPT, AUTHORIZATION};
use serde::Deserialize;

use super::helm::{MAX_CHART, chart_question};
use super::http::{Call, FailureKind, Http, Reply, is_loopback};
use super::{authorization, first_few, is_fixed, shown};
use crate::archive::{ArchiveTree, Links};
use crate::cache::{Cache, sha256, tree_digest};
use crate::error::SourceError;
use crate::index::pick;
use crate::mirror::Answer;
use crate::request::{Artifact, Auth, ChartArtifact, ChartRequest, OciRequest, Origin, TreeArtifact};

/// The largest manifest, token or page of tags, in bytes.
const MAX_DOCUMENT: u64 = 4 << 20;
/// The largest layer, in bytes.
const MAX_LAYER: u64 = 512 << 20;
/// How many pages of tags are read.
const MAX_PAGES: usize = 500;
/// Media types of a chart's layer.
const CHART_LAYERS: [&str; 2] = ["application/vnd.cncf.helm.chart.content.v1.tar+gzip", "application/tar+gzip"];
/// Media types of manifests, and of indexes of manifests.
const MANIFESTS: &str = "application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json, \
     application/vnd.oci.image.index.v1+json, application/vnd.docker.distribution.manifest.list.v2+json";

/// What is known of all registries.
#[derive(Default)]
pub(crate) struct Registries {
    /// Docker's stored credentials: registry (or a path in it) to credentials.
    stored: Vec<(String, Auth)>,
    /// `Authorization` by place and credentials.
    tokens: Mutex<HashMap<(String, Option<Auth>), String>>,
    /// Whether plain HTTP is spoken, for hosts for which that was found out.
    plain: Mutex<HashMap<String, bool>>,
}

impl std::fmt::Debug for Registries {
    /// Shows no credentials.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Registries").finish_non_exhaustive()
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Manifest {
    #[serde(default)]
    layers: Vec<Descriptor>,
    #[serde(default)]
    manifests: Vec<Descriptor>,
}

#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    #[serde(default)]
    media_type: String,
    digest: String,
    #[serde(default)]
    size: u64,
    platform: Option<Platform>,
}

#[derive(Clone, Deserialize)]
struct Platform {
    #[serde(default)]
    os: String,
    #[serde(default)]
    architecture: String,
}

/// A repository in a registry, as somebody asks for it.
struct Place {
    /// For messages: `oci://host/path`.
    shown: String,
    /// Where the API is.
    host: String,
    path: String,
    auth: Option<Auth>,
    insecure: bool,
}

impl Registries {
    pub(crate) fn new(configs: &[String]) -> Self {
        Self { stored: configs.iter().flat_map(|text| stored(text)).collect(), ..Self::default() }
    }

    pub(crate) fn forget(&self) {
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.plain.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// The chart at `host/path`.
    pub(crate) fn chart(
        &self,
        http: &Http,
        place: &str,
        request: &ChartRequest,
        cache: Option<&Cache>,
    ) -> Result<Answer<ChartArtifact>, SourceError> {
        let place = self.place(place, request.auth.as_ref(), request.insecure)?;
        let wanted = request.version.trim();
        let mut found = None;
        if wanted.starts_with("sha256:") {
            found = self.manifest(http, &place, wanted)?.map(|m| (wanted.to_string(), m));
        } else if is_fixed(wanted) || (!wanted.is_empty() && Constraint::parse(wanted).is_err()) {
            found = self.manifest(http, &place, &to_tag(wanted))?.map(|m| (wanted.to_string(), m));
        }
        if found.is_none() {
            if wanted.starts_with("sha256:") {
                return Ok(Answer::Lacks(format!("{} (has no such digest)", place.shown)));
            }
            let tags = self.tags(http, &place)?;
            let versions = versions(&tags);
            if Constraint::parse(if wanted.is_empty() { "*" } else { wanted }).is_err() {
                return Ok(Answer::Lacks(has(&place, &versions, &tags)));
            }
            let Some(version) = pick(versions.iter().map(String::as_str), wanted)?.and_then(|i| versions.get(i)) else {
                return Ok(Answer::Lacks(has(&place, &versions, &tags)));
            };
            let question = chart_question(&request.repository, &request.name, version);
            if is_fixed(version)
                && let Some((answer, bytes)) = cache.and_then(|c| c.chart(&question))
            {
                let artifact = Artifact { revision: answer.revision, digest: answer.digest, origin: Origin::Cache };
                return Ok(Answer::Found(ChartArtifact { artifact, bytes }));
            }
            found = self.manifest(http, &place, &to_tag(version))?.map(|m| (version.clone(), m));
        }
        let Some((version, (_, manifest))) = found else {
            return Ok(Answer::Lacks(format!("{} (has no manifest for {wanted})", place.shown)));
        };
        let layer = CHART_LAYERS
            .iter()
            .find_map(|t| manifest.layers.iter().find(|l| l.media_type == *t))
            .or(manifest.layers.first())
            .ok_or_else(|| broken(&place.shown, "the artifact has no layer: it is no chart"))?;
        let (bytes, origin) = self.layer(http, &place, layer, MAX_CHART, cache)?;
        if !bytes.starts_with(&[0x1f, 0x8b]) {
            return Err(broken(
                &place.shown,
                format!("its layer ({}) is no gzip archive: it is no chart", layer.media_type),
            ));
        }
        // A tag or digest does not say the chart's version.
        let revision = if Version::parse(&version).is_ok() {
            version.clone()
        } else {
            let chart = druse_helm::Chart::from_archive(&bytes).map_err(|e| broken(&place.shown, e.to_string()))?;
            chart.metadata.version
        };
        if let Some(cache) = cache {
            for asked in [version.as_str(), request.version.as_str()] {
                let question = chart_question(&request.repository, &request.name, asked);
                cache.put_answer(&question, &revision, None, &bytes)?;
            }
        }
        let artifact = Artifact { revision, digest: sha256(&bytes), origin };
        Ok(Answer::Found(ChartArtifact { artifact, bytes: bytes.into() }))
    }

    /// The files of a Flux artifact.
    pub(crate) fn tree(
        &self,
        http: &Http,
        request: &OciRequest,
        cache: Option<&Cache>,
    ) -> Result<Answer<TreeArtifact>, SourceError> {
        let url =
            request.url.strip_prefix("oci://").ok_or_else(|| broken(&shown(&request.url), "this is no oci:// URL"))?;
        let place = self.place(url, request.auth.as_ref(), request.insecure)?;
        let r = &request.reference;
        let reference = match (&r.digest, &r.semver, &r.tag) {
            (Some(digest), ..) => digest.clone(),
            (_, Some(range), _) => {
                let tags = self.tags(http, &place)?;
                let versions = versions(&tags);
                match pick(versions.iter().map(String::as_str), range)?.and_then(|i| versions.get(i)) {
                    Some(version) => to_tag(version),
                    None => return Ok(Answer::Lacks(has(&place, &versions, &tags))),
                }
            }
            (_, _, Some(tag)) => tag.clone(),
            _ => "latest".to_string(),
        };
        let Some((digest, manifest)) = self.manifest(http, &place, &reference)? else {
            return Ok(Answer::Lacks(format!("{} (has no {reference})", place.shown)));
        };
        let layer = match &request.media_type {
            None => manifest.layers.first(),
            Some(wanted) => manifest.layers.iter().find(|l| l.media_type == *wanted),
        };
        let layer = layer.ok_or_else(|| {
            let has = first_few(manifest.layers.iter().map(|l| l.media_type.as_str()));
            let wanted = request.media_type.as_deref().unwrap_or("any");
            broken(&place.shown, format!("the artifact has no layer of media type {wanted}; it has: {has}"))
        })?;
        let (bytes, origin) = self.layer(http, &place, layer, MAX_LAYER, cache)?;
        let revision = if reference == digest { digest } else { format!("{reference}@{digest}") };
        if let Some(cache) = cache {
            cache.put_answer(&question(request), &revision, None, &bytes)?;
        }
        Ok(Answer::Found(artifact(bytes, revision, origin, &place.shown)?))
    }

    fn place(&self, place: &str, auth: Option<&Auth>, insecure: bool) -> Result<Place, SourceError> {
        let shown = shown(&format!("oci://{place}"));
        let (host, path) = place
            .trim_end_matches('/')
            .split_once('/')
            .filter(|(h, p)| !h.is_empty() && !p.is_empty())
            .ok_or_else(|| broken(&shown, "the URL names no repository: oci://HOST/PATH is needed"))?;
        let auth = auth.cloned().or_else(|| self.stored_for(host, path));
        let (host, path) = match host {
            "docker.io" | "index.docker.io" if !path.contains('/') => {
                ("registry-1.docker.io", format!("library/{path}"))
            }
            "docker.io" | "index.docker.io" => ("registry-1.docker.io", path.to_string()),
            _ => (host, path.to_string()),
        };
        Ok(Place { shown, host: host.to_string(), path, auth, insecure })
    }

    /// Stored credentials: those for the longest path win.
    fn stored_for(&self, host: &str, path: &str) -> Option<Auth> {
        let hub = matches!(host, "docker.io" | "index.docker.io" | "registry-1.docker.io");
        let whole = format!("{host}/{path}");
        self.stored
            .iter()
            .filter(|(key, _)| {
                whole == *key
                    || whole.strip_prefix(key.as_str()).is_some_and(|rest| rest.starts_with('/'))
                    || (hub && matches!(key.as_str(), "index.docker.io" | "docker.io" | "registry-1.docker.io"))
            })
            // Of equals the first: max_by_key would take the last.
            .rev()
            .max_by_key(|(key, _)| key.len())
            .map(|(_, auth)| auth.clone())
    }

    fn url(&self, http: &Http, place: &Place, rest: &str) -> Result<Url, SourceError> {
        let bad = |e: &dyn std::fmt::Display| broken(&place.shown, format!("this is no URL: {e}"));
        let url = format!("https://{}/v2/{}/{rest}", place.host, place.path);
        let mut url = Url::parse(&url).map_err(|e| bad(&e))?;
        if (place.insecure || is_loopback(&url)) && self.is_plain(http, place, &url)? {
            // Not set_scheme: a port that is https' own would be lost.
            let host = place.host.clone();
            url = Url::parse(&format!("http://{host}/v2/{}/{rest}", place.path)).map_err(|e| bad(&e))?;
        }
        Ok(url)
    }

    /// Whether a registry that may speak plain HTTP does so: HTTPS is tried first.
    fn is_plain(&self, http: &Http, place: &Place, url: &Url) -> Result<bool, SourceError> {
        if let Some(known) = self.plain.lock().unwrap_or_else(PoisonError::into_inner).get(&place.host) {
            return Ok(*known);
        }
        let mut probe = Call::get(url.join("/v2/").unwrap_or_else(|_| url.clone()), MAX_DOCUMENT);
        probe.retry = false;
        let plain = match http.try_send(probe) {
            Ok(_) => false,
            Err(f) if f.status.is_some() => false,
            // With a port that is spelled out, HTTP would be refused as well.
            Err(f) if f.kind == FailureKind::Unreachable && url.port().is_some() => return Err(f.into_error(url)),
            Err(_) => true,
        };
        self.plain.lock().unwrap_or_else(PoisonError::into_inner).insert(place.host.clone(), plain);
        Ok(plain)
    }

    /// Asks a registry, with a token when it wants one. 404 is an answer.
    fn ask(&self, http: &Http, place: &Place, url: &Url, accept: &str, limit: u64) -> Result<Reply, SourceError> {
        let key = (format!("{}/{}", place.host, place.path), place.auth.clone());
        let call = |authorization: Option<&String>| {
            let mut call = Call::get(url.clone(), limit).accept(&[404]);
            if !accept.is_empty() {
                call = call.header(ACCEPT, accept);
            }
            match authorization {
                Some(value) => call.header(AUTHORIZATION, value.clone()),
                None => call,
            }
        };
        let known = self.tokens.lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned();
        let reply = http.send(call(known.as_ref()).accept(&[401]))?;
        if reply.status != 401 {
            return Ok(reply);
        }
        let challenges: Vec<&str> =
            reply.headers.get_all("www-authenticate").iter().filter_map(|v| v.to_str().ok()).collect();
        let authorization = self.authorize(http, place, url, &challenges)?;
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner).insert(key, authorization.clone());
        http.send(call(Some(&authorization)))
    }

    /// What a challenge is answered with.
    fn authorize(&self, http: &Http, place: &Place, url: &Url, challenges: &[&str]) -> Result<String, SourceError> {
        let refused = |message: &str| SourceError::Fetch {
            url: shown(url.as_str()),
            message: message.to_string(),
            status: Some(401),
            transient: false,
        };
        for challenge in challenges {
            let (scheme, parameters) = challenge.split_once(' ').unwrap_or((challenge, ""));
            if scheme.eq_ignore_ascii_case("basic") {
                return place.auth.as_ref().map(authorization).ok_or_else(|| {
                    refused(
                        "the registry wants credentials; give the source a secretRef, or log in with docker or helm",
                    )
                });
            }
            if !scheme.eq_ignore_ascii_case("bearer") {
                continue;
            }
            if let Some(auth) = place.auth.as_ref().filter(|a| a.username.is_empty()) {
                return Ok(authorization(auth));
            }
            let parameters = parameters_of(parameters);
            let get =
                |name: &str| parameters.iter().find(|(k, _)| k.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str());
            let realm =
                get("realm").ok_or_else(|| refused("the registry wants a token, and does not say from where"))?;
            let mut realm = url.join(realm).map_err(|e| refused(&format!("where tokens come from is no URL: {e}")))?;
            if realm.scheme() != "https" && url.scheme() == "https" {
                return Err(refused("the registry wants credentials sent over plain HTTP, which is not done"));
            }
            {
                let mut query = realm.query_pairs_mut();
                if let Some(service) = get("service") {
                    query.append_pair("service", service);
                }
                let wanted = format!("repository:{}:pull", place.path);
                query.append_pair("scope", get("scope").filter(|s| !s.is_empty()).unwrap_or(&wanted));
            }
            let mut call = Call::get(realm.clone(), MAX_DOCUMENT);
            if let Some(auth) = &place.auth {
                call = call.header(AUTHORIZATION, authorization(auth));
            }
            let reply = http.send(call)?;
            let token: Token = serde_json::from_slice(&reply.body)
                .map_err(|e| broken(&shown(realm.as_str()), format!("the answer is no token: {e}")))?;
            let token = [token.token, token.access_token].into_iter().flatten().find(|t| !t.is_empty());
            let token = token.ok_or_else(|| broken(&shown(realm.as_str()), "the answer has no token"))?;
            return Ok(format!("Bearer {token}"));
        }
        Err(refused("the registry wants credentials in a way that is not supported"))
    }

    /// All tags.
    fn tags(&self, http: &Http, place: &Place) -> Result<Vec<String>, SourceError> {
        let mut url = self.url(http, place, "tags/list?n=1000")?;
        let mut tags = Vec::new();
        for _ in 0..MAX_PAGES {
            let reply = self.ask(http, place, &url, "application/json", MAX_DOCUMENT)?;
            if reply.status == 404 {
                return Ok(tags);
            }
            let page: Tags = serde_json::from_slice(&reply.body)
                .map_err(|e| broken(&shown(url.as_str()), format!("the answer is no list of tags: {e}")))?;
            tags.extend(page.tags.into_iter().flatten());
            let next = reply.header("link").and_then(next_page).and_then(|n| url.join(n).ok());
            match next {
                Some(next) if next != url && (next.scheme(), next.host_str()) == (url.scheme(), url.host_str()) => {
                    url = next;
                }
                _ => return Ok(tags),
            }
        }
        Ok(tags)
    }

    /// A manifest with its digest, by tag or digest; of an index the one for linux/amd64, or the first. `None` when
    /// there is none.
    fn manifest(&self, http: &Http, place: &Place, reference: &str) -> Result<Option<(String, Manifest)>, SourceError> {
        let Some((digest, manifest)) = self.one_manifest(http, place, reference)? else { return Ok(None) };
        if !manifest.layers.is_empty() || manifest.manifests.is_empty() {
            return Ok(Some((digest, manifest)));
        }
        let is_usual =
            |d: &&Descriptor| d.platform.as_ref().is_some_and(|p| p.os == "linux" && p.architecture == "amd64");
        let inner = manifest.manifests.iter().find(is_usual).or(manifest.manifests.first());
        let Some(inner) = inner else { return Ok(None) };
        Ok(self.one_manifest(http, place, &inner.digest)?.map(|(_, m)| (digest, m)))
    }

    fn one_manifest(
        &self,
        http: &Http,
        place: &Place,
        reference: &str,
    ) -> Result<Option<(String, Manifest)>, SourceError> {
        let url = self.url(http, place, &format!("manifests/{reference}"))?;
        let reply = self.ask(http, place, &url, MANIFESTS, MAX_DOCUMENT)?;
        if reply.status == 404 {
            return Ok(None);
        }
        let got = sha256(&reply.body);
        let wanted = if reference.contains(':') { Some(reference) } else { reply.header("docker-content-digest") };
        if let Some(wanted) = wanted.filter(|w| w.starts_with("sha256:") && *w != got) {
            return Err(SourceError::Digest { what: shown(url.as_str()), wanted: wanted.to_string(), got });
        }
        if reference.contains(':') && !reference.starts_with("sha256:") {
            return Err(broken(&place.shown, format!("{reference}: only sha256 digests are supported")));
        }
        let manifest = serde_json::from_slice(&reply.body)
            .map_err(|e| broken(&shown(url.as_str()), format!("the answer is no manifest: {e}")))?;
        Ok(Some((got, manifest)))
    }

    /// A layer's content, from the cache when it is there.
    fn layer(
        &self,
        http: &Http,
        place: &Place,
        layer: &Descriptor,
        limit: u64,
        cache: Option<&Cache>,
    ) -> Result<(Vec<u8>, Origin), SourceError> {
        if let Some(bytes) = cache.and_then(|c| c.blob(&layer.digest)) {
            return Ok((bytes, Origin::Cache));
        }
        if !layer.digest.starts_with("sha256:") {
            return Err(broken(
                &place.shown,
                format!("its layer has digest {:?}; only sha256 is supported", layer.digest),
            ));
        }
        if layer.size > limit {
            return Err(broken(
                &place.shown,
                format!("its layer is larger than {} MiB, the most that is taken", limit >> 20),
            ));
        }
        let url = self.url(http, place, &format!("blobs/{}", layer.digest))?;
        let reply = self.ask(http, place, &url, "", limit)?;
        if reply.status == 404 {
            return Err(broken(&place.shown, format!("the registry lacks the layer {} that it names", layer.digest)));
        }
        let got = sha256(&reply.body);
        if got != layer.digest {
            return Err(SourceError::Digest { what: shown(url.as_str()), wanted: layer.digest.clone(), got });
        }
        Ok((reply.body, Origin::Network(place.shown.clone())))
    }
}

/// The question under which the cache keeps an artifact.
pub(crate) fn question(request: &OciRequest) -> String {
    format!("oci {} {} {}", shown(&request.url), request.reference, request.media_type.as_deref().unwrap_or_default())
}

/// A layer as an artifact.
pub(crate) fn artifact(
    bytes: Vec<u8>,
    revision: String,
    origin: Origin,
    what: &str,
) -> Result<TreeArtifact, SourceError> {
    let tree = ArchiveTree::new(bytes, Links::Skip).map_err(|m| broken(what, m))?;
    let digest = tree_digest(&tree)?;
    Ok(TreeArtifact { artifact: Artifact { revision, digest, origin }, tree: Arc::new(tree) })
}

fn broken(what: &str, message: impl Into<String>) -> SourceError {
    SourceError::Broken { what: what.to_string(), message: message.into() }
}

#[derive(Deserialize)]
struct Token {
    token: Option<String>,
    access_token: Option<String>,
}

#[derive(Deserialize)]
struct Tags {
    tags: Option<Vec<String>>,
}

/// A version as a tag: tags have no `+`.
fn to_tag(version: &str) -> String {
    version.replace('+', "_")
}

/// The tags that are versions, newest first.
fn versions(tags: &[String]) -> Vec<String> {
    let mut versions: Vec<(Version, String)> =
        tags.iter().map(|t| t.replace('_', "+")).filter_map(|t| Some((Version::parse(&t).ok()?, t))).collect();
    versions.sort_by(|a, b| b.cmp(a));
    versions.into_iter().map(|(_, t)| t).collect()
}

fn has(place: &Place, versions: &[String], tags: &[String]) -> String {
    let some = if versions.is_empty() {
        first_few(tags.iter().map(String::as_str))
    } else {
        first_few(versions.iter().map(String::as_str))
    };
    if some.is_empty() { format!("{} (is not there)", place.shown) } else { format!("{} (has {some})", place.shown) }
}

/// The URL of a `Link` header's next page.
fn next_page(link: &str) -> Option<&str> {
    link.split(',').find_map(|part| {
        let (url, rest) = part.trim().strip_prefix('<')?.split_once('>')?;
        let rel = rest.split(';').any(|p| matches!(p.trim(), "rel=\"next\"" | "rel=next"));
        rel.then_some(url)
    })
}

/// The parameters of a challenge: `realm="…",service="…",scope="…"`.
fn parameters_of(text: &str) -> Vec<(String, String)> {
    let mut out = Vec::new();
    let mut rest = text;
    while let Some((name, tail)) = rest.split_once('=') {
        let name = name.trim_matches([' ', ',']).to_string();
        let (value, tail) = match tail.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').unwrap_or((quoted, "")),
            None => tail.split_once(',').unwrap_or((tail, "")),
        };
        out.push((name, value.trim().to_string()));
        rest = tail;
    }
    out
}

/// Credentials in the text of Docker's `config.json`; what it does not hold itself (helpers) is passed over.
fn stored(text: &str) -> Vec<(String, Auth)> {
    let Ok(json) = serde_json::from_str::<serde_json::Value>(text) else {
        tracing::warn!("a registry configuration is no JSON and is passed over");
        return Vec::new();
    };
    let auths = json.get("auths").and_then(|a| a.as_object()).into_iter().flatten();
    auths
        .filter_map(|(key, entry)| {
            let text = |name: &str| entry.get(name).and_then(|v| v.as_str()).unwrap_or_default().to_string();
            let mut auth = Auth { username: text("username"), password: text("password") };
            if let Ok(both) = base64::engine::general_purpose::STANDARD.decode(text("auth"))
                && let Some((user, password)) = String::from_utf8_lossy(&both).split_once(':')
            {
                auth = Auth { username: user.to_string(), password: password.trim_end_matches('\0').to_string() };
            }
            if auth.password.is_empty() {
                return None;
            }
            let key = key.split_once("://").map_or(key.as_str(), |(_, k)| k);
            let key = key.trim_end_matches('/').trim_end_matches("/v1").trim_end_matches("/v2");
            Some((key.to_string(), auth))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_and_links_are_read() {
        let p = parameters_of(r#"realm="https://a/token?x=1",service="s, t",scope=repository:a:pull"#);
        assert_eq!(p[0], ("realm".into(), "https://a/token?x=1".into()));
        assert_eq!(p[1], ("service".into(), "s, t".into()));
        assert_eq!(p[2], ("scope".into(), "repository:a:pull".into()));
        assert_eq!(next_page(r#"</v2/a/tags/list?last=b&n=2>; rel="next""#), Some("/v2/a/tags/list?last=b&n=2"));
        assert_eq!(next_page("</x>; rel=prev"), None);
    }

    #[test]
    fn tags_that_are_versions_come_newest_first() {
        let tags: Vec<String> = ["latest", "1.2.0", "v1.10.0", "1.2.0_b1"].map(String::from).to_vec();
        assert_eq!(versions(&tags).first().map(String::as_str), Some("v1.10.0"));
        assert!(versions(&tags).contains(&"1.2.0+b1".to_string()));
        assert_eq!(to_tag("1.2.0+b1"), "1.2.0_b1");
    }

    #[test]
    fn stored_credentials_are_found_by_the_longest_path() {
        let config = r#"{"auths": {"ghcr.io": {"auth": "dTpw"}, "ghcr.io/org": {"username": "v", "password": "q"},
            "https://index.docker.io/v1/": {"auth": "aDppag=="}, "x.io": {}}, "credsStore": "desktop"}"#;
        let r = Registries::new(&[config.to_string(), "no JSON".to_string()]);
        let auth = |host: &str, path: &str| r.stored_for(host, path).map(|a| a.username);
        assert_eq!(auth("ghcr.io", "a/b").as_deref(), Some("u"));
        assert_eq!(auth("ghcr.io", "org/b").as_deref(), Some("v"));
        assert_eq!(auth("ghcr.io", "orgs/b").as_deref(), Some("u"));
        assert_eq!(auth("docker.io", "a/b").as_deref(), Some("h"));
        assert_eq!(auth("x.io", "a"), None);
    }
}
