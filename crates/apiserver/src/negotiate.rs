//! Content negotiation: what a client sends, and what it can read.
//!
//! JSON and YAML are spoken for everything, protobuf for built-in kinds and for bare metadata. CBOR is not spoken, as
//! upstream leaves it off: who reads nothing else is refused (406), and so is who writes it (415).

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

/// In which version of `meta.k8s.io` tables and bare metadata are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MetaVersion {
    /// The one of today.
    #[default]
    V1,
    /// The one before: the same in other words.
    V1beta1,
}

impl MetaVersion {
    /// As objects say it.
    #[must_use]
    pub fn api_version(self) -> &'static str {
        match self {
            Self::V1 => "meta.k8s.io/v1",
            Self::V1beta1 => "meta.k8s.io/v1beta1",
        }
    }
}

/// What was agreed on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Accepted {
    /// The encoding.
    pub format: Format,
    /// The shape.
    pub shape: Shape,
    /// The version of that shape.
    pub meta: MetaVersion,
}

/// What is asked for, as far as it decides what is spoken of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// A document: discovery, a version.
    Document,
    /// A built-in resource. Its routes know whole media types only; a collection's may be watched.
    BuiltIn {
        /// Whether it can be watched.
        streams: bool,
    },
    /// A custom resource.
    Custom,
}

const TEXTS: &str = "application/json, application/yaml";
/// What objects are sent as.
pub const ACCEPTED: &str = "application/json, application/yaml, application/vnd.kubernetes.protobuf";
const STREAMS: &str = ", application/json;stream=watch, application/vnd.kubernetes.protobuf;stream=watch";

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

/// Agrees on an answer's form.
///
/// # Errors
/// 406 when the client reads nothing that is spoken.
pub fn accept(headers: &HeaderMap, pretty: bool, asked: Asked) -> Result<Accepted, Status> {
    let list = ranges(headers);
    let json = if pretty { Format::Pretty } else { Format::Json };
    if list.is_empty() {
        return Ok(Accepted { format: json, ..Accepted::default() });
    }
    let routed = |r: &Range<'_>| r.kind == "*/*" || ACCEPTED.split(", ").any(|a| a == r.kind);
    if let Asked::BuiltIn { streams } = asked
        && !list.iter().any(routed)
    {
        let streams = if streams { STREAMS } else { "" };
        let message = format!("406: Not Acceptable\n\nAvailable representations: {ACCEPTED}{streams}");
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
            Shape::Object => matches!(asked, Asked::BuiltIn { .. }),
            Shape::Metadata => true,
            _ => false,
        };
        if format == Format::Protobuf && !written {
            continue;
        }
        let meta = if param("v") == Some("v1beta1") { MetaVersion::V1beta1 } else { MetaVersion::V1 };
        return Ok(Accepted { format, shape, meta });
    }
    Err(Status::not_acceptable(if asked == Asked::Document { TEXTS } else { ACCEPTED }))
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
