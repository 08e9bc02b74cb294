//! OpenAPI v2 in protobuf, as older clients and `kubectl`'s fallbacks ask for it: the messages of gnostic's
//! `OpenAPIv2.proto`, as far as kinds are described. Operations are left out; who wants those reads JSON.

use druse_object::{Map, Value, json};

use crate::protobuf::wire::{bytes, double, int};

/// A whole document.
#[must_use]
pub fn document(doc: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    text(&mut out, 1, &doc["swagger"]);
    let mut info = Vec::new();
    text(&mut info, 1, &doc["info"]["title"]);
    text(&mut info, 2, &doc["info"]["version"]);
    bytes(&mut out, 2, &info);
    bytes(&mut out, 8, b"");
    bytes(&mut out, 9, &named(&doc["definitions"]));
    out
}

fn text(out: &mut Vec<u8>, number: u64, v: &Value) {
    if let Some(s) = v.as_str().filter(|s| !s.is_empty()) {
        bytes(out, number, s.as_bytes());
    }
}

/// `Definitions` and `Properties`: schemas by name.
fn named(map: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    for (k, v) in map.as_map().into_iter().flat_map(Map::iter) {
        let mut entry = Vec::new();
        bytes(&mut entry, 1, k.as_bytes());
        bytes(&mut entry, 2, &schema(v));
        bytes(&mut out, 1, &entry);
    }
    out
}

/// A value that is no schema: text that reads as YAML.
fn any(v: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    bytes(&mut out, 2, format!("{}\n", json::to_string(v)).as_bytes());
    out
}

fn schema(v: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    for (k, v) in v.as_map().into_iter().flat_map(Map::iter) {
        match k.as_str() {
            "$ref" => text(&mut out, 1, v),
            "format" => text(&mut out, 2, v),
            "title" => text(&mut out, 3, v),
            "description" => text(&mut out, 4, v),
            "default" => bytes(&mut out, 5, &any(v)),
            "multipleOf" => double(&mut out, 6, v.as_f64().unwrap_or_default()),
            "maximum" => double(&mut out, 7, v.as_f64().unwrap_or_default()),
            "exclusiveMaximum" => flag(&mut out, 8, v),
            "minimum" => double(&mut out, 9, v.as_f64().unwrap_or_default()),
            "exclusiveMinimum" => flag(&mut out, 10, v),
            "maxLength" => number(&mut out, 11, v),
            "minLength" => number(&mut out, 12, v),
            "pattern" => text(&mut out, 13, v),
            "maxItems" => number(&mut out, 14, v),
            "minItems" => number(&mut out, 15, v),
            "uniqueItems" => flag(&mut out, 16, v),
            "maxProperties" => number(&mut out, 17, v),
            "minProperties" => number(&mut out, 18, v),
            "required" => v.items().iter().for_each(|r| text(&mut out, 19, r)),
            "enum" => v.items().iter().for_each(|e| bytes(&mut out, 20, &any(e))),
            "additionalProperties" => {
                let mut item = Vec::new();
                match v {
                    Value::Bool(b) => int(&mut item, 2, i64::from(*b)),
                    v => bytes(&mut item, 1, &schema(v)),
                }
                bytes(&mut out, 21, &item);
            }
            "type" => {
                let mut item = Vec::new();
                text(&mut item, 1, v);
                v.items().iter().for_each(|t| text(&mut item, 1, t));
                bytes(&mut out, 22, &item);
            }
            "items" => {
                let mut item = Vec::new();
                bytes(&mut item, 1, &schema(v));
                bytes(&mut out, 23, &item);
            }
            "allOf" => v.items().iter().for_each(|s| bytes(&mut out, 24, &schema(s))),
            "properties" => bytes(&mut out, 25, &named(v)),
            "example" => bytes(&mut out, 30, &any(v)),
            k if k.starts_with("x-") => {
                let mut extension = Vec::new();
                bytes(&mut extension, 1, k.as_bytes());
                bytes(&mut extension, 2, &any(v));
                bytes(&mut out, 31, &extension);
            }
            // Version 2 knows no other keyword.
            _ => {}
        }
    }
    out
}

fn flag(out: &mut Vec<u8>, number: u64, v: &Value) {
    int(out, number, i64::from(v.as_bool().unwrap_or_default()));
}

fn number(out: &mut Vec<u8>, number: u64, v: &Value) {
    int(out, number, v.as_i64().unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schema_is_written_by_gnostics_numbers() {
        let doc = json::parse(br#"{"definitions":{"A":{"type":"string","x-k":[1]}}}"#).unwrap();
        let schema = b"\xb2\x01\x08\x0a\x06string\xfa\x01\x0d\x0a\x03x-k\x12\x06\x12\x04[1]\n";
        let mut expected = b"\x12\x00\x42\x00\x4a".to_vec();
        let entry = [b"\x0a\x01A\x12", &[u8::try_from(schema.len()).unwrap()][..], schema].concat();
        expected.push(u8::try_from(entry.len() + 2).unwrap());
        expected.extend([0x0a, u8::try_from(entry.len()).unwrap()]);
        expected.extend(entry);
        assert_eq!(document(&doc), expected);
    }
}
