//! Helm repositories over HTTP: `index.yaml`, and the archives it names.
//!
//! An index is read once (per credentials) and checked against the server by `ETag` or `Last-Modified`; when the
//! server cannot be reached, the one last seen is used. Credentials go to the repository's own scheme, host and port,
//! and to other places only when the request says so, as Helm does it.

use std::collections::HashMap;
use std::io::Read as _;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use reqwest::Url;
use reqwest::header::{ACCEPT_ENCODING, AUTHORIZATION, IF_MODIFIED_SINCE, IF_NONE_MATCH};

use super::http::{Call, Http};
use super::oci::Registries;
use super::{authorization, first_few, is_fixed, shown};
use crate::cache::{Cache, sha256};
use crate::error::SourceError;
use crate::index::Index;
use crate::mirror::Answer;
use crate::request::{Artifact, Auth, ChartArtifact, ChartRequest, Origin};

/// The largest index, unpacked, in bytes.
const MAX_INDEX: u64 = 256 << 20;
/// The largest chart archive, in bytes.
pub(crate) const MAX_CHART: u64 = 100 << 20;

type Indexes = HashMap<(String, Option<Auth>), Arc<OnceLock<Result<Arc<Index>, SourceError>>>>;

/// All Helm repositories.
#[derive(Debug, Default)]
pub(crate) struct Repositories {
    indexes: Mutex<Indexes>,
}

/// The question under which the cache keeps a chart.
pub(crate) fn chart_question(repository: &str, name: &str, version: &str) -> String {
    format!("chart {} {name} {version}", shown(repository).trim_end_matches('/'))
}

impl Repositories {
    pub(crate) fn forget(&self) {
        self.indexes.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    pub(crate) fn chart(
        &self,
        http: &Http,
        registries: &Registries,
        request: &ChartRequest,
        cache: Option<&Cache>,
    ) -> Result<Answer<ChartArtifact>, SourceError> {
        let (base, auth) = base(&request.repository, request.auth.as_ref())?;
        let index = self.index(http, &base, auth.as_ref(), cache)?;
        let Some(version) = index.find(&request.name, &request.version)? else {
            let has = index.entries.get(&request.name).into_iter().flatten().map(|v| v.version.as_str());
            let has = first_few(has);
            return Ok(Answer::Lacks(if has.is_empty() {
                format!("{} (has no chart of that name)", shown(base.as_str()))
            } else {
                format!("{} (has {has})", shown(base.as_str()))
            }));
        };
        let question = chart_question(&request.repository, &request.name, &version.version);
        let wanted = (!version.digest.is_empty()).then(|| format!("sha256:{}", version.digest.to_lowercase()));
        if is_fixed(&version.version)
            && let Some((answer, bytes)) = cache.and_then(|c| c.chart(&question))
            && wanted.as_ref().is_none_or(|w| *w == answer.digest)
        {
            let artifact = Artifact { revision: answer.revision, digest: answer.digest, origin: Origin::Cache };
            return Ok(Answer::Found(ChartArtifact { artifact, bytes }));
        }
        let what = format!("chart {} {} of {}", request.name, version.version, shown(base.as_str()));
        let broken = |message: String| SourceError::Broken { what: what.clone(), message };
        let place = version.urls.first().ok_or_else(|| broken("the index names no URL for it".into()))?;
        if let Some(oci) = place.strip_prefix("oci://") {
            let (place, tag) = oci.rsplit_once(':').filter(|(_, t)| !t.contains('/')).unwrap_or((oci, ""));
            let version = if tag.is_empty() { version.version.clone() } else { tag.to_string() };
            let auth = if request.pass_credentials { auth } else { None };
            let inner = ChartRequest { version, auth, ..request.clone() };
            return registries.chart(http, place, &inner, cache);
        }
        let url = resolve(&base, place).map_err(broken)?;
        let mut call = Call::get(url.clone(), MAX_CHART);
        if let Some(auth) = auth.filter(|_| request.pass_credentials || same_origin(&base, &url)) {
            call = call.header(AUTHORIZATION, authorization(&auth));
        }
        let reply = http.send(call)?;
        let got = sha256(&reply.body);
        if let Some(wanted) = wanted.filter(|w| *w != got) {
            return Err(SourceError::Digest { what: format!("{what} ({})", shown(url.as_str())), wanted, got });
        }
        if !reply.body.starts_with(&[0x1f, 0x8b]) {
            return Err(broken(format!("{} is no gzip archive", shown(url.as_str()))));
        }
        if let Some(cache) = cache {
            // Under the range too: it is what is used when the network is not there.
            for asked in [&version.version, &request.version] {
                let question = chart_question(&request.repository, &request.name, asked);
                cache.put_answer(&question, &version.version, None, &reply.body)?;
            }
        }
        let origin = Origin::Network(shown(url.as_str()));
        let artifact = Artifact { revision: version.version.clone(), digest: got, origin };
        Ok(Answer::Found(ChartArtifact { artifact, bytes: reply.body.into() }))
    }

    fn index(
        &self,
        http: &Http,
        base: &Url,
        auth: Option<&Auth>,
        cache: Option<&Cache>,
    ) -> Result<Arc<Index>, SourceError> {
        let key = (base.as_str().trim_end_matches('/').to_string(), auth.cloned());
        let cell = Arc::clone(self.indexes.lock().unwrap_or_else(PoisonError::into_inner).entry(key).or_default());
        cell.get_or_init(|| load_index(http, base, auth, cache).map(Arc::new)).clone()
    }
}

fn load_index(http: &Http, base: &Url, auth: Option<&Auth>, cache: Option<&Cache>) -> Result<Index, SourceError> {
    let broken = |url: &Url, message: String| SourceError::Broken { what: shown(url.as_str()), message };
    let url = resolve(base, "index.yaml").map_err(|m| broken(base, m))?;
    let question = format!("index {}", shown(url.as_str()));
    let known = cache.and_then(|c| c.answer(&question));
    // Indexes are large and pack well; what is not packed is taken as it is.
    let mut call = Call::get(url.clone(), MAX_INDEX).header(ACCEPT_ENCODING, "gzip").accept(&[304]);
    if let Some(auth) = auth {
        call = call.header(AUTHORIZATION, authorization(auth));
    }
    if let Some((answer, _)) = &known {
        if let Some(etag) = &answer.etag {
            call = call.header(IF_NONE_MATCH, etag.clone());
        }
        if let Some(modified) = &answer.modified {
            call = call.header(IF_MODIFIED_SINCE, modified.clone());
        }
    }
    let parse = |bytes: &[u8]| {
        let text = std::str::from_utf8(bytes).map_err(|e| broken(&url, e.to_string()))?;
        Index::parse(text).map_err(|message| broken(&url, format!("{message}; check the repository's URL")))
    };
    match (http.send(call), known) {
        (Ok(reply), Some((_, bytes))) if reply.status == 304 => parse(&bytes),
        (Ok(reply), _) => {
            let text = if reply.body.starts_with(&[0x1f, 0x8b]) {
                inflate(&reply.body, MAX_INDEX).map_err(|m| broken(&url, m))?
            } else {
                reply.body.clone()
            };
            let index = parse(&text)?;
            if let Some(cache) = cache {
                let etag = reply.header("etag").map(str::to_string);
                let modified = reply.header("last-modified").map(str::to_string);
                cache.put_validated(&question, "", etag, modified, &text)?;
            }
            Ok(index)
        }
        (Err(e @ SourceError::Fetch { transient: true, .. }), Some((_, bytes))) => {
            tracing::warn!("{e}; the index seen last is used");
            parse(&bytes)
        }
        (Err(e), _) => Err(e),
    }
}

/// Unpacks gzip up to a limit.
pub(crate) fn inflate(bytes: &[u8], limit: u64) -> Result<Vec<u8>, String> {
    let mut out = Vec::new();
    flate2::read::MultiGzDecoder::new(bytes)
        .take(limit + 1)
        .read_to_end(&mut out)
        .map_err(|e| format!("it cannot be unpacked: {e}"))?;
    if out.len() as u64 > limit {
        return Err(format!("it is larger than {} MiB when unpacked, the most that is taken", limit >> 20));
    }
    Ok(out)
}

/// A repository's URL with the credentials taken out of it; those of the request win.
fn base(repository: &str, auth: Option<&Auth>) -> Result<(Url, Option<Auth>), SourceError> {
    let broken = |message: String| SourceError::Broken { what: shown(repository), message };
    let mut url = Url::parse(repository).map_err(|e| broken(format!("this is no URL: {e}")))?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        return Err(broken(format!("charts do not come from {}: URLs; use https:// or oci://", url.scheme())));
    }
    let inner = take_credentials(&mut url);
    Ok((url, auth.cloned().or(inner)))
}

/// Takes user and password out of a URL.
pub(crate) fn take_credentials(url: &mut Url) -> Option<Auth> {
    let decode = |text: &str| percent_decode(text);
    let auth = (!url.username().is_empty() || url.password().is_some())
        .then(|| Auth { username: decode(url.username()), password: decode(url.password().unwrap_or_default()) });
    // Neither fails for a URL with a host.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    auth
}

fn percent_decode(text: &str) -> String {
    let mut out = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let hex = (*first == b'%').then(|| tail.get(..2)).flatten();
        match hex.and_then(|h| std::str::from_utf8(h).ok()).and_then(|h| u8::from_str_radix(h, 16).ok()) {
            Some(byte) => {
                out.push(byte);
                rest = tail.get(2..).unwrap_or_default();
            }
            None => {
                out.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// What an index's URL means: absolute, or relative to the repository, whose query it then inherits.
fn resolve(base: &Url, place: &str) -> Result<Url, String> {
    let bad = |e: &dyn std::fmt::Display| format!("{:?} is no URL: {e}", shown(place));
    if place.contains("://") {
        let url = Url::parse(place).map_err(|e| bad(&e))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(format!("{:?}: charts are fetched over http and https only", shown(place)));
        }
        return Ok(url);
    }
    let mut folder = base.clone();
    if !folder.path().ends_with('/') {
        folder.set_path(&format!("{}/", base.path()));
    }
    let mut url = folder.join(place).map_err(|e| bad(&e))?;
    if url.query().is_none() {
        url.set_query(base.query());
    }
    Ok(url)
}

fn same_origin(a: &Url, b: &Url) -> bool {
    (a.scheme(), a.host_str(), a.port_or_known_default()) == (b.scheme(), b.host_str(), b.port_or_known_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_of_an_index_are_relative_to_the_repository_or_absolute() {
        let url = |base: &str, place: &str| resolve(&Url::parse(base).unwrap(), place).unwrap().to_string();
        assert_eq!(url("https://h/charts", "a-1.tgz"), "https://h/charts/a-1.tgz");
        assert_eq!(url("https://h/charts/", "x/a-1.tgz"), "https://h/charts/x/a-1.tgz");
        assert_eq!(url("https://h/charts?t=1", "a.tgz"), "https://h/charts/a.tgz?t=1");
        assert_eq!(url("https://h/charts", "/a.tgz"), "https://h/a.tgz");
        assert_eq!(url("https://h/charts", "https://o/a.tgz"), "https://o/a.tgz");
        assert!(resolve(&Url::parse("https://h").unwrap(), "file:///etc/passwd").is_err());
    }

    #[test]
    fn credentials_in_the_url_are_taken_out() {
        let (url, auth) = base("https://u%40x:p@h/c", None).unwrap();
        assert_eq!(url.as_str(), "https://h/c");
        assert_eq!(auth, Some(Auth { username: "u@x".into(), password: "p".into() }));
        assert!(base("ftp://h/c", None).unwrap_err().to_string().contains("ftp"));
    }
}
