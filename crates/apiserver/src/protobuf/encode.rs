//! Writing.
//!
//! What the JSON form leaves out is left out here too: readers take a missing field for its zero value.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use druse_object::{Map, Value, json};

use super::wire::{bytes, double, int, varint};
use super::{Field, Kind, MAGIC, MAX_DEPTH, Message, SCHEMA};

/// An object in its envelope; `None` when its kind has no protobuf form.
#[must_use]
pub fn encode(object: &Value) -> Option<Vec<u8>> {
    let (api_version, kind) = (object.str_at(["apiVersion"])?, object.str_at(["kind"])?);
    let index = *SCHEMA.kinds.get(&(api_version.to_owned(), kind.to_owned()))?;
    let mut meta = Vec::new();
    bytes(&mut meta, 1, api_version.as_bytes());
    bytes(&mut meta, 2, kind.as_bytes());
    let mut raw = Vec::new();
    fields(&mut raw, object.as_map()?, SCHEMA.messages.get(index)?, 0);
    let mut out = Vec::with_capacity(raw.len() + meta.len() + 24);
    out.extend_from_slice(MAGIC);
    bytes(&mut out, 1, &meta);
    bytes(&mut out, 2, &raw);
    bytes(&mut out, 3, b"");
    bytes(&mut out, 4, b"");
    Some(out)
}

/// One event of a watch: its length, then a `WatchEvent` around an enveloped object.
#[must_use]
pub fn event(kind: &str, object: &[u8]) -> Vec<u8> {
    let mut extension = Vec::with_capacity(object.len() + 8);
    bytes(&mut extension, 1, object);
    let mut out = vec![0; 4];
    bytes(&mut out, 1, kind.as_bytes());
    bytes(&mut out, 2, &extension);
    let length = u32::try_from(out.len() - 4).unwrap_or(u32::MAX);
    if let Some(place) = out.first_chunk_mut::<4>() {
        *place = length.to_be_bytes();
    }
    out
}

fn fields(out: &mut Vec<u8>, map: &Map, message: &Message, depth: usize) {
    if depth > MAX_DEPTH {
        return;
    }
    for f in &message.fields {
        if f.inlined {
            if let Kind::Message(i) = f.kind
                && let Some(inner) = SCHEMA.messages.get(i)
            {
                let mut content = Vec::new();
                fields(&mut content, map, inner, depth + 1);
                bytes(out, f.number, &content);
            }
            continue;
        }
        match map.get(&f.name) {
            None | Some(Value::Null) => {}
            Some(v) => field(out, f, v, depth),
        }
    }
}

fn field(out: &mut Vec<u8>, f: &Field, v: &Value, depth: usize) {
    match (&f.kind, v) {
        (Kind::Map(kind), Value::Map(m)) => {
            for (k, v) in m.iter() {
                let mut entry = Vec::new();
                bytes(&mut entry, 1, k.as_bytes());
                if !v.is_null() {
                    single(&mut entry, 2, kind, v, depth);
                }
                bytes(out, f.number, &entry);
            }
        }
        (kind, Value::Array(items)) if f.repeated => {
            for v in items {
                single(out, f.number, kind, v, depth);
            }
        }
        (kind, v) => single(out, f.number, kind, v, depth),
    }
}

fn single(out: &mut Vec<u8>, number: u64, kind: &Kind, v: &Value, depth: usize) {
    match (kind, v) {
        (Kind::Text, Value::String(s)) => bytes(out, number, s.as_bytes()),
        (Kind::Bytes, Value::String(s)) => bytes(out, number, &STANDARD.decode(s.as_bytes()).unwrap_or_default()),
        (Kind::Bool, Value::Bool(b)) => int(out, number, i64::from(*b)),
        (Kind::Int, v) => int(out, number, v.as_i64().unwrap_or_default()),
        (Kind::Fixed64, v) => {
            double(out, number, v.as_f64().unwrap_or_default());
        }
        #[allow(clippy::cast_possible_truncation)]
        (Kind::Fixed32, v) => {
            varint(out, number << 3 | 5);
            out.extend_from_slice(&(v.as_f64().unwrap_or_default() as f32).to_le_bytes());
        }
        (Kind::Message(i), v) => {
            let Some(message) = SCHEMA.messages.get(*i) else { return };
            let mut content = Vec::new();
            object(&mut content, v, message, depth + 1);
            bytes(out, number, &content);
        }
        _ => {}
    }
}

/// A message from its JSON form, which for some types is a plain value.
fn object(out: &mut Vec<u8>, v: &Value, message: &Message, depth: usize) {
    let short = message.name.rsplit('.').next().unwrap_or_default();
    let part = |name: &str| message.fields.iter().find(|f| f.name == name);
    let named = |out: &mut Vec<u8>, name: &str, v: &Value| {
        if let Some(f) = part(name) {
            field(out, f, v, depth);
        }
    };
    match (short, v) {
        ("RawExtension" | "FieldsV1" | "JSON", v) => bytes(out, 1, json::to_string(v).as_bytes()),
        ("Time" | "MicroTime" | "Timestamp", Value::String(s)) => {
            if let Ok(t) = s.parse::<jiff::Timestamp>() {
                int(out, 1, t.as_second());
                int(out, 2, i64::from(t.subsec_nanosecond()));
            }
        }
        ("Duration", Value::String(s)) => int(out, 1, crate::cel::parse_duration(s).unwrap_or_default()),
        ("Quantity" | "QuantityValue", Value::String(s)) => bytes(out, 1, s.as_bytes()),
        ("Quantity" | "QuantityValue", v) => bytes(out, 1, json::to_string(v).as_bytes()),
        ("IntOrString", Value::String(s)) => {
            int(out, 1, 1);
            bytes(out, 3, s.as_bytes());
        }
        ("IntOrString", v) => {
            int(out, 1, 0);
            int(out, 2, v.as_i64().unwrap_or_default());
        }
        ("JSONSchemaPropsOrBool", Value::Bool(b)) => int(out, 1, i64::from(*b)),
        ("JSONSchemaPropsOrBool", v) => {
            // One that has a schema allows.
            int(out, 1, 1);
            named(out, "schema", v);
        }
        ("JSONSchemaPropsOrArray", v @ Value::Array(_)) => named(out, "jSONSchemas", v),
        ("JSONSchemaPropsOrStringArray", v @ Value::Array(_)) => named(out, "property", v),
        ("JSONSchemaPropsOrArray" | "JSONSchemaPropsOrStringArray", v) => named(out, "schema", v),
        // A named list type: protobuf needs a message around it.
        (_, v @ Value::Array(_)) => named(out, "items", v),
        (_, Value::Map(m)) => fields(out, m, message, depth),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protobuf::decode;

    fn same(text: &str) {
        let v = json::parse(text.as_bytes()).unwrap();
        let back = decode(&encode(&v).unwrap()).unwrap();
        assert_eq!(json::to_string_sorted(&back), json::to_string_sorted(&v));
    }

    /// Every field of every message that is a type of the API is called as that type calls it.
    #[test]
    fn fields_are_called_as_in_json() {
        for m in &SCHEMA.messages {
            let name =
                m.name.replacen("k8s.io.", "io.k8s.", 1).replace("apiextensions_apiserver", "apiextensions-apiserver");
            let Some(slot) = crate::schema::named(&name) else { continue };
            let node = slot.node();
            if node.fields.is_empty() {
                continue;
            }
            for f in m.fields.iter().filter(|f| !f.inlined) {
                assert!(node.fields.get(&f.name).is_some(), "{}: {}", m.name, f.name);
            }
        }
    }

    #[test]
    fn objects_read_back_as_they_were_written() {
        same(
            r#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"p","creationTimestamp":"2026-01-02T03:04:05Z","generation":-1,
            "labels":{"a":"b"},"managedFields":[{"manager":"m","fieldsV1":{"f:spec":{}},"time":"2026-01-02T03:04:05Z"}]},
            "spec":{"containers":[{"name":"c","image":"i","resources":{"limits":{"cpu":"100m"}},
            "livenessProbe":{"httpGet":{"path":"/","port":"web"},"periodSeconds":3},"ports":[{"containerPort":80}]}],
            "volumes":[{"name":"v","configMap":{"name":"x","defaultMode":420}}],"hostNetwork":true,
            "tolerations":[{"key":"k","tolerationSeconds":300}]}}"#,
        );
        same(
            r#"{"apiVersion":"apps/v1","kind":"DeploymentList","metadata":{"resourceVersion":"7"},"items":[
            {"metadata":{"name":"d"},"spec":{"strategy":{"rollingUpdate":{"maxSurge":"25%","maxUnavailable":1}}}}]}"#,
        );
        same(r#"{"apiVersion":"v1","kind":"Secret","metadata":{"name":"s"},"data":{"k":"AAEC/w=="},"type":"Opaque"}"#);
        same(
            r#"{"apiVersion":"apiextensions.k8s.io/v1","kind":"CustomResourceDefinition","metadata":{"name":"x"},"spec":{"versions":[
            {"name":"v1","schema":{"openAPIV3Schema":{"type":"object","additionalProperties":{"type":"string"},
            "properties":{"a":{"items":{"type":"integer"},"default":[1,{"b":null}],"enum":["x",2],"x-kubernetes-list-type":"set"}}}}}]}}"#,
        );
        same(
            r#"{"apiVersion":"admissionregistration.k8s.io/v1","kind":"ValidatingWebhookConfiguration","metadata":{"name":"w"},
            "webhooks":[{"name":"a.b.c","rules":[{"operations":["CREATE"],"apiGroups":[""],"scope":"*"}]}]}"#,
        );
        same(
            r#"{"apiVersion":"coordination.k8s.io/v1","kind":"Lease","metadata":{"name":"l"},"spec":{"renewTime":"2026-01-02T03:04:05.123456Z"}}"#,
        );
        same(
            r#"{"apiVersion":"meta.k8s.io/v1","kind":"PartialObjectMetadataList","metadata":{"resourceVersion":"3"},"items":[{"metadata":{"name":"a","finalizers":["f"]}}]}"#,
        );
        assert!(encode(&json::parse(br#"{"apiVersion":"example.com/v1","kind":"X"}"#).unwrap()).is_none());
    }
}
