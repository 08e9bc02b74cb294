//! Content negotiation: what a client sends, and what it can read.
//!
//! JSON and YAML are spoken for everything, protobuf for built-in kinds and for bare metadata. CBOR is not spoken:
//! who reads nothing else is refused (406); clients that ask for it offer JSON beside it.

use http::HeaderMap;
use http::header::{ACCEPT, CONTENT_TYPE};

use crate::status::Status;

/// How to write an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// JSON.
    #[default]
    Json,
    /// Indented JSON.
    Pretty,
    /// YAML.
    Yaml,
    /// Protobuf in its envelope; what has no such form is written as JSON.
    Protobuf,
}

/// In what shape to write an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Shape {
    /// The object itself.
    #[default]
    Object,
    /// A table for people.
    Table,
    /// Only its metadata.
    Metadata,
    /// Aggregated discovery, v2 or v2beta1.
    Discovery(bool),
}

/// What was agreed on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Accepted {
    /// The encoding.
    pub format: Format,
    /// The shape.
    pub shape: Shape,
}

/// What is spoken of custom resources, tables and documents.
const TEXTS: &str = "application/json, application/yaml";
const ACCEPTED: &str = "application/json, application/yaml, application/vnd.kubernetes.protobuf";

/// The content type of protobuf.
pub const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";

struct Range<'a> {
    kind: &'a str,
    params: Vec<(&'a str, &'a str)>,
}

fn ranges(headers: &HeaderMap) -> Vec<Range<'_>> {
    let mut out = Vec::new();
    for value in headers.get_all(ACCEPT) {
        for part in value.to_str().unwrap_or_default().split(',') {
            let mut pieces = part.split(';').map(str::trim);
            let Some(kind) = pieces.next().filter(|k| !k.is_empty()) else { continue };
            let params = pieces.filter_map(|p| p.split_once('=')).collect();
            out.push(Range { kind, params });
        }
    }
    out
}

/// Agrees on an answer's form. `protobuf` says whether what is asked for is a kind with a protobuf form.
///
/// # Errors
/// 406 when the client reads nothing that is spoken.
pub fn accept(headers: &HeaderMap, pretty: bool, protobuf: bool) -> Result<Accepted, Status> {
    let list = ranges(headers);
    let json = if pretty { Format::Pretty } else { Format::Json };
    if list.is_empty() {
        return Ok(Accepted { format: json, shape: Shape::Object });
    }
    // Built-in kinds stand behind a router that knows whole media types only.
    let routed = |r: &Range<'_>| r.kind == "*/*" || ACCEPTED.split(", ").any(|a| a == r.kind);
    if protobuf && !list.iter().any(routed) {
        let message = format!("406: Not Acceptable\n\nAvailable representations: {ACCEPTED}");
        return Err(Status { details: Some(druse_object::Map::new()), ..Status::new(406, "NotAcceptable", message) });
    }
    for r in &list {
        let format = match r.kind {
            "application/json" | "*/*" | "application/*" => json,
            "application/yaml" => Format::Yaml,
            PROTOBUF => Format::Protobuf,
            _ => continue,
        };
        let param = |k: &str| r.params.iter().find(|(n, _)| *n == k).map(|(_, v)| *v);
        let shape = match (param("as"), param("g"), param("v")) {
            (None, _, _) => Shape::Object,
            (Some("Table"), Some("meta.k8s.io"), Some("v1" | "v1beta1")) => Shape::Table,
            (
                Some("PartialObjectMetadata" | "PartialObjectMetadataList"),
                Some("meta.k8s.io"),
                Some("v1" | "v1beta1"),
            ) => Shape::Metadata,
            (Some("APIGroupDiscoveryList"), Some("apidiscovery.k8s.io"), Some("v2")) => Shape::Discovery(true),
            (Some("APIGroupDiscoveryList"), Some("apidiscovery.k8s.io"), Some("v2beta1")) => Shape::Discovery(false),
            _ => continue,
        };
        let written = match shape {
            Shape::Object => protobuf,
            Shape::Metadata => true,
            _ => false,
        };
        if format == Format::Protobuf && !written {
            continue;
        }
        return Ok(Accepted { format, shape });
    }
    Err(Status::not_acceptable(if protobuf { ACCEPTED } else { TEXTS }))
}

/// What encoding a request body has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// JSON (also when nothing is said).
    Json,
    /// YAML.
    Yaml,
    /// Protobuf in its envelope.
    Protobuf,
}

/// The content type without parameters; empty when absent.
#[must_use]
pub fn content_type(headers: &HeaderMap) -> &str {
    headers
        .get(CONTENT_TYPE)
        .and_then(|v| v.to_str().ok())
        .unwrap_or_default()
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
}

/// The encoding of a body that holds an object.
///
/// # Errors
/// 415 for encodings that are not spoken.
pub fn content(headers: &HeaderMap) -> Result<Content, Status> {
    match content_type(headers) {
        "" | "application/json" | "*/*" => Ok(Content::Json),
        "application/yaml" => Ok(Content::Yaml),
        PROTOBUF => Ok(Content::Protobuf),
        _ => Err(Status::unsupported_media_type(format!(
            "the body of the request was in an unknown format - accepted media types include: {ACCEPTED}"
        ))),
    }
}
