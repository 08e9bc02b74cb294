//! Git over HTTP: which commit a reference means, and that commit's files, without history.
//!
//! Speaks Git's smart HTTP protocol, version 2 (`ls-refs`, `fetch` with depth 1) and, with servers that know no better,
//! version 0, over this crate's HTTP client; see gitprotocol-http(5) and gitprotocol-v2(5). A repository on this machine
//! (`file://`) is read in place. Not supported: SSH, SHA-256 repositories, submodules.

use std::sync::Arc;

use druse_helm::version::{Constraint, Version};
use reqwest::Url;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderName};

use super::helm::take_credentials;
use super::http::{Call, Http, Reply, host_of};
use super::pkt::{Lines, Pkt, line};
use super::{authorization, first_few, pack, shown};
use crate::archive::{ArchiveTree, Links};
use crate::cache::{Cache, tree_digest};
use crate::error::SourceError;
use crate::git_tree::GitTree;
use crate::mirror::Answer;
use crate::request::{Artifact, Auth, GitReference, GitRequest, Origin, TreeArtifact};

/// The largest list of references, in bytes.
const MAX_REFS: u64 = 64 << 20;
/// The largest pack, in bytes.
const MAX_PACK: u64 = 512 << 20;
const PROTOCOL: HeaderName = HeaderName::from_static("git-protocol");

/// The question under which the cache keeps what a reference meant.
pub(crate) fn question(request: &GitRequest) -> String {
    format!("git {} {}", shown(&request.url), request.reference)
}

fn commit_question(url: &str, commit: &str) -> String {
    format!("git {} commit {commit}", shown(url))
}

/// An archive as an artifact.
pub(crate) fn artifact(
    bytes: Vec<u8>,
    revision: String,
    origin: Origin,
    what: &str,
) -> Result<TreeArtifact, SourceError> {
    let tree =
        ArchiveTree::new(bytes, Links::Follow).map_err(|message| SourceError::Broken { what: shown(what), message })?;
    let digest = tree_digest(&tree)?;
    Ok(TreeArtifact { artifact: Artifact { revision, digest, origin }, tree: Arc::new(tree) })
}

/// Fetches what a request means.
pub(crate) fn fetch(
    http: &Http,
    request: &GitRequest,
    cache: Option<&Cache>,
) -> Result<Answer<TreeArtifact>, SourceError> {
    let unsupported = |why: &str| SourceError::Unsupported {
        what: format!("Git repository {}", shown(&request.url)),
        why: why.to_string(),
    };
    let Some((scheme, _)) = request.url.split_once("://") else {
        return Err(unsupported(
            "Git over SSH is not supported yet; use the https:// URL, or put the files into a mirror",
        ));
    };
    match scheme {
        "http" | "https" => remote(http, request, cache),
        "file" => local(request),
        "ssh" | "git+ssh" => {
            Err(unsupported("Git over SSH is not supported yet; use the https:// URL, or put the files into a mirror"))
        }
        _ => Err(unsupported("this protocol is not supported; use https://")),
    }
}

/// A server and what it can do.
struct Server<'a> {
    http: &'a Http,
    base: Url,
    auth: Option<Auth>,
    /// The references, when the server knows only the old protocol and so named them all at once.
    old: Option<Vec<Ref>>,
    object_format: bool,
}

/// A reference as a server lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Ref {
    name: String,
    id: String,
    /// What an annotated tag points to.
    peeled: Option<String>,
}

impl Ref {
    fn commit(&self) -> &str {
        self.peeled.as_deref().unwrap_or(&self.id)
    }
}

fn remote(http: &Http, request: &GitRequest, cache: Option<&Cache>) -> Result<Answer<TreeArtifact>, SourceError> {
    let server = Server::open(http, &request.url, request.auth.as_ref())?;
    let r = &request.reference;
    // What is fetched, the commit if that is known already, and how Flux writes it.
    let (object, commit, name) = match r {
        GitReference { commit: Some(commit), .. } => {
            let commit = commit.to_lowercase();
            if commit.len() != 40 || !commit.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Err(server.broken(format!("{commit:?} is no commit: 40 hexadecimal digits are needed")));
            }
            (commit.clone(), commit, r.branch.clone().unwrap_or_default())
        }
        _ => {
            let found = match r {
                GitReference { name: Some(name), .. } => server.find(name)?.map(|f| (f, name.clone())),
                GitReference { semver: Some(range), .. } => server.newest(range)?,
                GitReference { tag: Some(tag), .. } => {
                    server.find(&format!("refs/tags/{tag}"))?.map(|f| (f, tag.clone()))
                }
                GitReference { branch, .. } => {
                    let branch = branch.as_deref().unwrap_or("master");
                    server.find(&format!("refs/heads/{branch}"))?.map(|f| (f, branch.to_string()))
                }
            };
            let Some((found, name)) = found else { return Ok(Answer::Lacks(server.has(r)?)) };
            (found.id.clone(), found.commit().to_string(), name)
        }
    };
    let revision =
        |commit: &str| if name.is_empty() { format!("sha1:{commit}") } else { format!("{name}@sha1:{commit}") };
    if let Some((_, bytes)) = cache.and_then(|c| c.answer(&commit_question(&request.url, &commit))) {
        let revision = revision(&commit);
        if let Some(cache) = cache {
            cache.put_answer(&question(request), &revision, None, &bytes)?;
        }
        return Ok(Answer::Found(artifact(bytes, revision, Origin::Cache, &request.url)?));
    }
    let pack = server.pack(&object)?;
    let scratch = cache.map(|c| c.root().join("tmp"));
    let (commit, archive) = pack::to_archive(&pack, &object, scratch.as_deref()).map_err(|m| server.broken(m))?;
    drop(pack);
    let revision = revision(&commit);
    if let Some(cache) = cache {
        cache.put_answer(&commit_question(&request.url, &commit), &format!("sha1:{commit}"), None, &archive)?;
        cache.put_answer(&question(request), &revision, None, &archive)?;
    }
    Ok(Answer::Found(artifact(archive, revision, Origin::Network(shown(&request.url)), &request.url)?))
}

impl<'a> Server<'a> {
    fn open(http: &'a Http, url: &str, auth: Option<&Auth>) -> Result<Self, SourceError> {
        let broken = |message: String| SourceError::Broken { what: shown(url), message };
        let mut base = Url::parse(url.trim_end_matches('/')).map_err(|e| broken(format!("this is no URL: {e}")))?;
        let inner = take_credentials(&mut base);
        base.set_query(None);
        let mut server = Self { http, base, auth: auth.cloned().or(inner), old: None, object_format: false };
        let mut info = server.at("/info/refs");
        info.set_query(Some("service=git-upload-pack"));
        let reply = server.send(Call::get(info, MAX_REFS).header(PROTOCOL, "version=2"))?;
        let kind = reply.header("content-type").unwrap_or_default();
        if !kind.starts_with("application/x-git-upload-pack-advertisement") {
            return Err(broken(format!(
                "there is no Git repository here, the server answered with {kind:?}; check the URL"
            )));
        }
        // After a redirect (a repository that was renamed, `.git` added) the rest is asked for at the new place.
        if let Some(path) = reply.url.path().strip_suffix("/info/refs") {
            let mut moved = reply.url.clone();
            moved.set_path(path);
            moved.set_query(None);
            if host_of(&moved) != host_of(&server.base) || moved.scheme() != server.base.scheme() {
                server.auth = None;
            }
            server.base = moved;
        }
        let mut lines = Lines(&reply.body).filter(|l| !matches!(l, Ok(Pkt::Flush))).peekable();
        if matches!(lines.peek(), Some(Ok(p)) if p.text().is_some_and(|t| t.starts_with("# service="))) {
            lines.next();
        }
        if matches!(lines.peek(), Some(Ok(p)) if p.text() == Some("version 2")) {
            for pkt in lines {
                let text = pkt.map_err(|m| server.broken(m))?;
                if let Some(format) = text.text().and_then(|t| t.strip_prefix("object-format=")) {
                    server.object_format = true;
                    server.check_format(format)?;
                }
            }
            return Ok(server);
        }
        server.old = Some(server.old_refs(lines)?);
        Ok(server)
    }

    fn check_format(&self, format: &str) -> Result<(), SourceError> {
        if format.split_whitespace().next() == Some("sha1") {
            return Ok(());
        }
        Err(self.broken(format!("repositories with {format} are not supported")))
    }

    /// The references that version 0 of the protocol names at once, peeled ones (`^{}`) put to their tags.
    fn old_refs<'p>(&self, lines: impl Iterator<Item = Result<Pkt<'p>, String>>) -> Result<Vec<Ref>, SourceError> {
        let mut refs: Vec<Ref> = Vec::new();
        for pkt in lines {
            let pkt = pkt.map_err(|m| self.broken(m))?;
            let Some(text) = pkt.text() else { continue };
            let (text, capabilities) = text.split_once('\0').unwrap_or((text, ""));
            if let Some(format) = capabilities.split(' ').find_map(|c| c.strip_prefix("object-format=")) {
                self.check_format(format)?;
            }
            let Some((id, name)) = text.split_once(' ') else { continue };
            match (name.strip_suffix("^{}"), refs.last_mut()) {
                (Some(name), Some(last)) if last.name == name => last.peeled = Some(id.to_string()),
                _ => refs.push(Ref { name: name.to_string(), id: id.to_string(), peeled: None }),
            }
        }
        Ok(refs)
    }

    fn broken(&self, message: impl Into<String>) -> SourceError {
        SourceError::Broken { what: shown(self.base.as_str()), message: message.into() }
    }

    fn at(&self, path: &str) -> Url {
        let mut url = self.base.clone();
        url.set_path(&format!("{}{path}", self.base.path().trim_end_matches('/')));
        url
    }

    fn send(&self, mut call: Call) -> Result<Reply, SourceError> {
        if let Some(auth) = &self.auth {
            call = call.header(AUTHORIZATION, authorization(auth));
        }
        self.http.send(call)
    }

    fn post(&self, body: Vec<u8>, limit: u64, version_2: bool) -> Result<Reply, SourceError> {
        let mut call = Call::post(self.at("/git-upload-pack"), body, limit)
            .header(CONTENT_TYPE, "application/x-git-upload-pack-request")
            .header(ACCEPT, "application/x-git-upload-pack-result");
        if version_2 {
            call = call.header(PROTOCOL, "version=2");
        }
        self.send(call)
    }

    fn command(&self, name: &str) -> Vec<u8> {
        let mut out = Vec::new();
        line(&mut out, &format!("command={name}"));
        if self.object_format {
            line(&mut out, "object-format=sha1");
        }
        out.extend_from_slice(b"0001");
        out
    }

    /// The references whose names begin so.
    fn refs(&self, prefix: &str) -> Result<Vec<Ref>, SourceError> {
        if let Some(refs) = &self.old {
            return Ok(refs.iter().filter(|r| r.name.starts_with(prefix)).cloned().collect());
        }
        let mut body = self.command("ls-refs");
        line(&mut body, "peel");
        line(&mut body, &format!("ref-prefix {prefix}"));
        body.extend_from_slice(b"0000");
        let reply = self.post(body, MAX_REFS, true)?;
        let mut refs = Vec::new();
        for pkt in Lines(&reply.body) {
            let pkt = pkt.map_err(|m| self.broken(m))?;
            let Some(text) = pkt.text() else { break };
            if let Some(said) = text.strip_prefix("ERR ") {
                return Err(self.broken(format!("the server says: {said}")));
            }
            let mut words = text.split(' ');
            let (Some(id), Some(name)) = (words.next(), words.next()) else { continue };
            let peeled = words.find_map(|w| w.strip_prefix("peeled:")).map(str::to_string);
            if name.starts_with(prefix) {
                refs.push(Ref { name: name.to_string(), id: id.to_string(), peeled });
            }
        }
        Ok(refs)
    }

    fn find(&self, name: &str) -> Result<Option<Ref>, SourceError> {
        Ok(self.refs(name)?.into_iter().find(|r| r.name == name))
    }

    /// The newest tag in a range.
    fn newest(&self, range: &str) -> Result<Option<(Ref, String)>, SourceError> {
        let refs = self.refs("refs/tags/")?;
        let name = newest(refs.iter().filter_map(|r| r.name.strip_prefix("refs/tags/")), range)?.map(str::to_string);
        Ok(name.and_then(|n| {
            refs.into_iter().find(|r| r.name.strip_prefix("refs/tags/") == Some(n.as_str())).map(|r| (r, n))
        }))
    }

    /// What there is instead of a reference that is not there.
    fn has(&self, reference: &GitReference) -> Result<String, SourceError> {
        let prefix = if reference.tag.is_some() || reference.semver.is_some() { "refs/tags/" } else { "refs/heads/" };
        let refs = self.refs(prefix)?;
        let has = first_few(refs.iter().filter_map(|r| r.name.strip_prefix(prefix)));
        let has = if has.is_empty() { "none of the kind".to_string() } else { has };
        Ok(format!("{} (has {has})", shown(self.base.as_str())))
    }

    /// A pack with an object and all that it needs, without history.
    fn pack(&self, object: &str) -> Result<Vec<u8>, SourceError> {
        let mut body = Vec::new();
        if self.old.is_some() {
            line(&mut body, &format!("want {object} side-band-64k ofs-delta no-progress agent=druse"));
            line(&mut body, "deepen 1");
            body.extend_from_slice(b"0000");
            line(&mut body, "done");
        } else {
            body = self.command("fetch");
            for argument in ["no-progress", "ofs-delta", &format!("want {object}"), "deepen 1", "done"] {
                line(&mut body, argument);
            }
            body.extend_from_slice(b"0000");
        }
        let reply = self.post(body, MAX_PACK, self.old.is_none())?;
        let mut pack = Vec::new();
        let mut in_pack = false;
        for pkt in Lines(&reply.body) {
            let pkt = pkt.map_err(|m| self.broken(m))?;
            let Pkt::Data(data) = pkt else { continue };
            if !in_pack {
                match pkt.text() {
                    Some(text) if text.starts_with("ERR ") => {
                        return Err(self.broken(format!("the server says: {}", text.trim_start_matches("ERR "))));
                    }
                    // Version 2 announces the pack, version 0 says that nothing is shared.
                    Some("packfile" | "NAK") => in_pack = true,
                    _ => {}
                }
                continue;
            }
            match data.split_first() {
                Some((1, data)) => pack.extend_from_slice(data),
                Some((3, said)) => {
                    return Err(self.broken(format!("the server says: {}", String::from_utf8_lossy(said).trim())));
                }
                _ => {}
            }
        }
        if pack.is_empty() {
            return Err(self.broken(format!("the server sent no files for {object}; check that the commit exists")));
        }
        Ok(pack)
    }
}

/// The newest of some tags in a range.
fn newest<'t>(tags: impl Iterator<Item = &'t str>, range: &str) -> Result<Option<&'t str>, SourceError> {
    let constraint = Constraint::parse(range).map_err(|_| SourceError::Version(range.to_string()))?;
    Ok(tags
        .filter_map(|t| Some((Version::parse(t).ok()?, t)))
        .filter(|(v, _)| constraint.check(v))
        .max()
        .map(|(_, t)| t))
}

/// A repository on this machine.
fn local(request: &GitRequest) -> Result<Answer<TreeArtifact>, SourceError> {
    let what = shown(&request.url);
    let broken = |message: String| SourceError::Broken { what: what.clone(), message };
    let url = Url::parse(&request.url).map_err(|e| broken(format!("this is no URL: {e}")))?;
    let path = url.to_file_path().map_err(|()| broken("this is no path on this machine".into()))?;
    let repository = gix::open_opts(&path, gix::open::Options::isolated())
        .map_err(|e| broken(format!("there is no Git repository here: {e}")))?;
    let names = |prefix: &str| -> Vec<String> {
        let Ok(platform) = repository.references() else { return Vec::new() };
        let Ok(found) = platform.prefixed(prefix) else { return Vec::new() };
        found.filter_map(|r| r.ok()?.name().as_bstr().to_string().strip_prefix(prefix).map(str::to_string)).collect()
    };
    let r = &request.reference;
    let (revision, name) = match r {
        GitReference { commit: Some(commit), branch, .. } => (commit.clone(), branch.clone().unwrap_or_default()),
        GitReference { name: Some(name), .. } => (name.clone(), name.clone()),
        GitReference { semver: Some(range), .. } => {
            let tags = names("refs/tags/");
            match newest(tags.iter().map(String::as_str), range)? {
                Some(tag) => (format!("refs/tags/{tag}"), tag.to_string()),
                None => {
                    return Ok(Answer::Lacks(format!("{what} (has {})", first_few(tags.iter().map(String::as_str)))));
                }
            }
        }
        GitReference { tag: Some(tag), .. } => (format!("refs/tags/{tag}"), tag.clone()),
        GitReference { branch, .. } => {
            let branch = branch.as_deref().unwrap_or("master");
            (format!("refs/heads/{branch}"), branch.to_string())
        }
    };
    if repository.rev_parse_single(revision.as_str()).is_err() {
        let prefix = if r.tag.is_some() { "refs/tags/" } else { "refs/heads/" };
        return Ok(Answer::Lacks(format!("{what} (has {})", first_few(names(prefix).iter().map(String::as_str)))));
    }
    let tree = GitTree::open(&path, &revision, "")?;
    let commit = tree.commit().to_string();
    let revision = if name.is_empty() { format!("sha1:{commit}") } else { format!("{name}@sha1:{commit}") };
    let digest = tree_digest(&tree)?;
    let artifact = Artifact { revision, digest, origin: Origin::Network(what) };
    Ok(Answer::Found(TreeArtifact { artifact, tree: Arc::new(tree) }))
}
