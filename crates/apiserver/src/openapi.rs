//! Serving OpenAPI: v2 as one document, v3 group by group; built-in types from shipped documents, custom ones merged in.

use std::sync::Arc;

use bytes::Bytes;
use druse_object::{Map, Value};
use http::HeaderMap;
use http::header::{ACCEPT, ETAG, IF_NONE_MATCH};
use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};

use crate::body::Body;
use crate::response;
use crate::schema::openapi as documents;
use crate::server::Shared;
use crate::status::Status;

const V2_PROTOBUF: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

/// The documents made last, and the registry's generation they were made for.
#[derive(Debug, Default)]
pub struct Documents {
    v2: Mutex<Option<(u64, Document)>>,
    v2_protobuf: Mutex<Option<(u64, Document)>>,
    v3: Mutex<Vec<(String, u64, Document)>>,
}

#[derive(Clone, Debug)]
struct Document {
    text: Bytes,
    tag: String,
}

impl Document {
    fn new(text: Vec<u8>) -> Self {
        let tag = hex::encode_upper(Sha256::digest(&text));
        Self { text: text.into(), tag }
    }
}

/// Answers a path under `/openapi`.
///
/// # Errors
/// 404 for a path or group that is not served; 406 for encodings that are not spoken.
pub async fn serve(shared: &Arc<Shared>, rest: &[&str], headers: &HeaderMap) -> Result<http::Response<Body>, Status> {
    let shared = shared.clone();
    let accepts = |kind: &str| headers.get_all(ACCEPT).iter().any(|v| v.to_str().is_ok_and(|v| v.contains(kind)));
    // Clients write the version with a dot or, newer ones, an at sign, which no answer's content type may hold.
    let protobuf = accepts(V2_PROTOBUF) || accepts("application/com.github.proto-openapi.spec.v2@v1.0+protobuf");
    let json_wanted = headers.get(ACCEPT).is_none() || accepts("json") || accepts("*/*");
    let wants_protobuf = rest == ["v2"] && protobuf && !accepts("application/json");
    if !json_wanted && !wants_protobuf {
        return Err(Status::not_acceptable("application/json"));
    }
    let rest: Vec<String> = rest.iter().map(ToString::to_string).collect();
    let words: Vec<&str> = rest.iter().map(String::as_str).collect();
    let known = headers.get(IF_NONE_MATCH).cloned();
    let blocking = |f: Box<dyn FnOnce() -> Result<Document, Status> + Send>| async {
        tokio::task::spawn_blocking(f).await.map_err(Status::internal)?
    };
    let document = match words.as_slice() {
        ["v2"] if wants_protobuf => blocking(Box::new(move || v2_protobuf(&shared))).await?,
        ["v2"] => blocking(Box::new(move || v2(&shared))).await?,
        ["v3"] => return Ok(response::value(200, &index(&shared), crate::negotiate::Format::Json)),
        ["v3", path @ ..] => {
            let path = path.join("/");
            match blocking(Box::new(move || v3(&shared, &path))).await {
                Err(s) if s.code == 404 => return Ok(response::text(404, "text/plain; charset=utf-8", "")),
                found => found?,
            }
        }
        _ => return Err(Status::no_path()),
    };
    let tag = format!("\"{}\"", document.tag);
    let mut r = if known.is_some_and(|k| k.as_bytes() == tag.as_bytes()) {
        response::not_modified()
    } else {
        let kind = if wants_protobuf { V2_PROTOBUF } else { "application/json" };
        response::text(200, kind, document.text)
    };
    if let Ok(v) = http::HeaderValue::from_str(&tag) {
        r.headers_mut().insert(ETAG, v);
    }
    Ok(r)
}

fn custom_resources(shared: &Shared) -> Vec<Value> {
    shared.objects("customresourcedefinitions.apiextensions.k8s.io", "")
}

fn v2(shared: &Shared) -> Result<Document, Status> {
    let generation = shared.registry.generation();
    let mut cache = shared.openapi.v2.lock();
    if let Some((g, d)) = &*cache
        && *g == generation
    {
        return Ok(d.clone());
    }
    let text = documents::openapi_v2(&custom_resources(shared));
    let d = Document::new(text);
    *cache = Some((generation, d.clone()));
    Ok(d)
}

fn v2_protobuf(shared: &Shared) -> Result<Document, Status> {
    let generation = shared.registry.generation();
    let mut cache = shared.openapi.v2_protobuf.lock();
    if let Some((g, d)) = &*cache
        && *g == generation
    {
        return Ok(d.clone());
    }
    let doc = druse_object::json::parse(&v2(shared)?.text).map_err(Status::internal)?;
    let d = Document::new(crate::schema::gnostic::document(&doc));
    *cache = Some((generation, d.clone()));
    Ok(d)
}

fn v3(shared: &Shared, path: &str) -> Result<Document, Status> {
    let generation = shared.registry.generation();
    let mut cache = shared.openapi.v3.lock();
    if let Some((_, _, d)) = cache.iter().find(|(p, g, _)| p == path && *g == generation) {
        return Ok(d.clone());
    }
    let text = documents::openapi_v3(path, &custom_resources(shared)).ok_or_else(Status::no_path)?;
    let d = Document::new(text);
    cache.retain(|(p, g, _)| p != path && *g == generation);
    cache.push((path.to_owned(), generation, d.clone()));
    Ok(d)
}

fn index(shared: &Shared) -> Value {
    let generation = shared.registry.generation();
    let table = shared.registry.table();
    let mut paths = Map::new();
    for (group, versions) in &table.groups {
        for v in versions {
            let path = if group.is_empty() { format!("api/{v}") } else { format!("apis/{group}/{v}") };
            let custom = table.resources.iter().any(|r| r.custom && r.group == *group);
            // The hash only has to change when the document does.
            let seed = if custom { format!("{path} {generation}") } else { path.clone() };
            let hash = hex::encode_upper(Sha256::digest(seed.as_bytes()));
            let mut m = Map::new();
            m.insert("serverRelativeURL", format!("/openapi/v3/{path}?hash={hash}"));
            paths.insert(path, m);
        }
    }
    let mut m = Map::new();
    m.insert("paths", paths);
    Value::Map(m)
}
