//! Writing answers: objects, lists, tables, statuses, in the form agreed on.

use std::sync::Arc;

use bytes::{BufMut as _, Bytes, BytesMut};
use druse_object::{Map, Value, json, yaml};
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Response, StatusCode};

use crate::body::Body;
use crate::convert;
use crate::negotiate::{Accepted, Format, MetaVersion, PROTOBUF, Shape};
use crate::protobuf;
use crate::registry::Resource;
use crate::server::Shared;
use crate::status::Status;
use crate::store::Stored;
use crate::table;

/// A type as it is served to one request.
#[derive(Clone, Debug)]
pub struct View {
    /// The server, whose webhooks may have to convert.
    pub shared: Arc<Shared>,
    /// The resource.
    pub resource: Arc<Resource>,
    /// The version asked for.
    pub version: druse_object::Str,
    /// The agreed form.
    pub accepted: Accepted,
    /// What table rows carry of the object (`None`, `Metadata`, `Object`).
    pub include: Include,
}

/// What table rows carry of their object.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Include {
    /// Nothing.
    None,
    /// Its metadata.
    #[default]
    Metadata,
    /// All of it.
    Object,
}

/// An answer with JSON or YAML.
#[must_use]
pub fn text(code: u16, content_type: &'static str, body: impl Into<Bytes>) -> Response<Body> {
    let mut r = Response::new(Body::from(body));
    *r.status_mut() = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    r.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    r.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    r
}

/// 304, with no content type: caches would take it over onto what they have.
#[must_use]
pub fn not_modified() -> Response<Body> {
    let mut r = Response::new(Body::empty());
    *r.status_mut() = StatusCode::NOT_MODIFIED;
    r
}

/// A value in the agreed encoding.
#[must_use]
pub fn value(code: u16, v: &Value, format: Format) -> Response<Body> {
    match format {
        Format::Json => text(code, "application/json", json::to_string(v) + "\n"),
        Format::Pretty => text(code, "application/json", serde_json::to_string_pretty(v).unwrap_or_default() + "\n"),
        Format::Yaml => text(code, "application/yaml", yaml::to_string(v)),
        Format::Protobuf => match protobuf::encode(v) {
            Some(bytes) => text(code, PROTOBUF, bytes),
            None => value(code, v, Format::Json),
        },
    }
}

/// A status answer.
#[must_use]
pub fn status(s: &Status) -> Response<Body> {
    if s.plain {
        return text(s.code, "text/plain; charset=utf-8", s.message.clone());
    }
    let mut r = value(s.code, &s.to_value(), Format::Json);
    let retry = s.details.as_ref().and_then(|d| d.get("retryAfterSeconds")).and_then(Value::as_i64);
    if let Some(seconds) = retry
        && let Ok(v) = HeaderValue::from_str(&seconds.to_string())
    {
        r.headers_mut().insert(http::header::RETRY_AFTER, v);
    }
    r
}

impl View {
    /// Whether stored text can be sent as it is.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        self.accepted.shape == Shape::Object
            && self.accepted.format == Format::Json
            && self.version == self.resource.storage_version
            && !convert::always(&self.resource)
            && !self.resource.mixed
    }

    /// The object in the version asked for.
    ///
    /// # Errors
    /// When the stored text is damaged.
    pub fn value_of(&self, o: &Stored) -> Result<Value, Status> {
        convert::to_version(&self.shared, o.value()?, &self.resource, self.told_in())
    }

    /// The version that an answer is made from: tables of autoscalers tell what the first version cannot say in order.
    fn told_in(&self) -> &str {
        let table = self.accepted.shape == Shape::Table;
        if table && self.resource.stored_as == crate::autoscalers::STORED { "v2" } else { &self.version }
    }

    /// The text of one object as a watch event carries it, or a whole answer.
    ///
    /// # Errors
    /// When the stored text is damaged.
    pub fn object_bytes(&self, o: &Stored, columns: bool) -> Result<Bytes, Status> {
        if self.is_plain() {
            return Ok(o.json.clone());
        }
        let v = self.value_of(o)?;
        Ok(self.bytes(&self.shape_value(v, columns)))
    }

    /// A value in the agreed encoding, as events carry it.
    #[must_use]
    pub fn bytes(&self, v: &Value) -> Bytes {
        if self.accepted.format == Format::Protobuf
            && let Some(bytes) = protobuf::encode(v)
        {
            return bytes.into();
        }
        json::to_string(v).into()
    }

    fn shape_value(&self, v: Value, columns: bool) -> Value {
        match self.accepted.shape {
            Shape::Table => table::of(self, &[v], None, columns),
            Shape::Metadata => metadata_only(&table::shown(&self.resource, &v), self.accepted.meta),
            _ => v,
        }
    }

    /// An answer with one object.
    ///
    /// # Errors
    /// When the stored text is damaged.
    pub fn object(&self, code: u16, o: &Stored) -> Result<Response<Body>, Status> {
        if self.is_plain() {
            return Ok(text(code, "application/json", o.json.clone()));
        }
        Ok(self.answer(code, self.value_of(o)?))
    }

    /// An answer with a value that is not stored (a dry run's result, a scale).
    #[must_use]
    pub fn answer(&self, code: u16, v: Value) -> Response<Body> {
        value(code, &self.shape_value(v, true), self.accepted.format)
    }

    /// An answer with a list.
    ///
    /// # Errors
    /// When a stored text is damaged.
    pub fn list(&self, items: &[Arc<Stored>], meta: Map) -> Result<Response<Body>, Status> {
        if self.is_plain() {
            let size: usize = items.iter().map(|o| o.json.len() + 1).sum();
            let mut out = BytesMut::with_capacity(size + 256);
            let kind = Value::from(self.resource.list_kind.as_str());
            out.put_slice(format!("{{\"kind\":{},", json::to_string(&kind)).as_bytes());
            let version = Value::from(self.resource.api_version(&self.version));
            out.put_slice(format!("\"apiVersion\":{},", json::to_string(&version)).as_bytes());
            out.put_slice(format!("\"metadata\":{},\"items\":[", json::to_string(&Value::Map(meta))).as_bytes());
            for (i, o) in items.iter().enumerate() {
                if i > 0 {
                    out.put_u8(b',');
                }
                if self.resource.custom {
                    out.put_slice(&o.json);
                } else {
                    // Typed lists do not repeat the type in each item.
                    out.put_u8(b'{');
                    out.put_slice(o.json.get(usize::from(o.head)..).unwrap_or_default());
                }
            }
            out.put_slice(b"]}\n");
            return Ok(text(200, "application/json", out.freeze()));
        }
        let mut values = Vec::with_capacity(items.len());
        for o in items {
            values.push(o.value()?);
        }
        let values = convert::all_to_version(&self.shared, values, &self.resource, self.told_in())?;
        Ok(self.list_of(values, meta))
    }

    /// An answer with a list of values.
    #[must_use]
    pub fn list_of(&self, values: Vec<Value>, meta: Map) -> Response<Body> {
        let out = match self.accepted.shape {
            Shape::Table => table::of(self, &values, Some(meta), true),
            Shape::Metadata => {
                let version = self.accepted.meta;
                let items: Vec<Value> =
                    values.iter().map(|v| metadata_only(&table::shown(&self.resource, v), version)).collect();
                let mut m = Map::new();
                m.insert("kind", "PartialObjectMetadataList");
                m.insert("apiVersion", version.api_version());
                m.insert("metadata", meta);
                // Go's list of no items that was never made.
                m.insert("items", if items.is_empty() { Value::Null } else { items.into() });
                Value::Map(m)
            }
            _ => {
                let mut m = Map::new();
                m.insert("kind", self.resource.list_kind.as_str());
                m.insert("apiVersion", self.resource.api_version(&self.version));
                m.insert("metadata", meta);
                let items: Vec<Value> = values
                    .into_iter()
                    .map(|mut v| {
                        if let (false, Some(m)) = (self.resource.custom, v.as_map_mut()) {
                            m.remove("apiVersion");
                            m.remove("kind");
                        }
                        v
                    })
                    .collect();
                m.insert("items", items);
                Value::Map(m)
            }
        };
        value(200, &out, self.accepted.format)
    }
}

/// An object's metadata as `PartialObjectMetadata`.
#[must_use]
pub fn metadata_only(v: &Value, version: MetaVersion) -> Value {
    let mut m = Map::new();
    m.insert("kind", "PartialObjectMetadata");
    m.insert("apiVersion", version.api_version());
    m.insert("metadata", v["metadata"].clone());
    Value::Map(m)
}
