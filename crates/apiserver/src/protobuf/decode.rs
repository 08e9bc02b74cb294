//! Reading.
//!
//! Zero values that protobuf always writes are dropped later, when the object is read as its type.

use base64::Engine as _;
use druse_object::{Map, Value, json};

use super::{Kind, MAGIC, MAX_DEPTH, SCHEMA};
use crate::server::timestamp;

/// One field on the wire.
enum Wire<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

struct Reader<'a>(&'a [u8]);

type Result<T> = std::result::Result<T, String>;

impl<'a> Reader<'a> {
    fn varint(&mut self) -> Result<u64> {
        let mut out = 0u64;
        for shift in (0..64).step_by(7) {
            let (b, rest) = self.0.split_first().ok_or("unexpected EOF")?;
            self.0 = rest;
            out |= u64::from(b & 0x7f) << shift;
            if b & 0x80 == 0 {
                return Ok(out);
            }
        }
        Err("proto: integer overflow".into())
    }

    fn take(&mut self, n: usize) -> Result<&'a [u8]> {
        let (a, b) = self.0.split_at_checked(n).ok_or("unexpected EOF")?;
        self.0 = b;
        Ok(a)
    }

    fn next(&mut self) -> Result<Option<(u64, Wire<'a>)>> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let tag = self.varint()?;
        let fixed = |b: &[u8]| b.iter().rev().fold(0u64, |a, b| (a << 8) | u64::from(*b));
        let wire = match tag & 7 {
            0 => Wire::Number(self.varint()?),
            1 => Wire::Number(fixed(self.take(8)?)),
            5 => Wire::Number(fixed(self.take(4)?)),
            2 => {
                let n = usize::try_from(self.varint()?).map_err(|_| "proto: integer overflow")?;
                Wire::Bytes(self.take(n)?)
            }
            other => return Err(format!("proto: illegal wireType {other}")),
        };
        Ok(Some((tag >> 3, wire)))
    }
}

fn text(bytes: &[u8]) -> Result<Value> {
    std::str::from_utf8(bytes).map(Value::from).map_err(|_| "proto: invalid UTF-8".to_owned())
}

/// Reads a body; the answer says its `apiVersion` and `kind`.
///
/// # Errors
/// What is wrong with it.
pub fn decode(body: &[u8]) -> Result<Value> {
    let rest = body
        .strip_prefix(MAGIC)
        .ok_or("provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]")?;
    let mut envelope = Reader(rest);
    let (mut api_version, mut kind, mut raw) = (String::new(), String::new(), &[][..]);
    while let Some((number, wire)) = envelope.next()? {
        match (number, wire) {
            (1, Wire::Bytes(b)) => {
                let mut meta = Reader(b);
                while let Some((n, w)) = meta.next()? {
                    if let Wire::Bytes(b) = w {
                        let t = String::from_utf8_lossy(b).into_owned();
                        match n {
                            1 => api_version = t,
                            2 => kind = t,
                            _ => {}
                        }
                    }
                }
            }
            (2, Wire::Bytes(b)) => raw = b,
            _ => {}
        }
    }
    let key = (api_version, kind);
    let index = SCHEMA.kinds.get(&key).or_else(|| {
        // Options of any group and version are one message.
        key.1.ends_with("Options").then(|| SCHEMA.kinds.get(&("v1".to_owned(), key.1.clone()))).flatten()
    });
    let Some(index) = index else {
        return Err(format!("no kind \"{}\" is registered for version \"{}\"", key.1, key.0));
    };
    let mut out = Map::new();
    out.insert("apiVersion", key.0);
    out.insert("kind", key.1);
    message(raw, *index, &mut out, 0)?;
    Ok(Value::Map(out))
}

/// Reads a message's fields into a map.
fn message(bytes: &[u8], index: usize, out: &mut Map, depth: usize) -> Result<()> {
    if depth > MAX_DEPTH {
        return Err("exceeded max depth".into());
    }
    let Some(schema) = SCHEMA.messages.get(index) else { return Ok(()) };
    let mut reader = Reader(bytes);
    while let Some((number, wire)) = reader.next()? {
        let Some(f) = schema.fields.iter().find(|f| f.number == number) else { continue };
        match (&f.kind, wire) {
            (Kind::Map(kind), Wire::Bytes(b)) => {
                let (k, v) = entry(b, kind, depth)?;
                if let Some(m) = out.entry_or_null(&f.name).make_map() {
                    m.insert(k, v);
                }
            }
            (Kind::Message(i), Wire::Bytes(b)) if f.inlined => message(b, *i, out, depth + 1)?,
            (Kind::Int | Kind::Bool | Kind::Fixed64 | Kind::Fixed32, Wire::Bytes(packed)) if f.repeated => {
                let mut r = Reader(packed);
                while !r.0.is_empty() {
                    let n = match f.kind {
                        Kind::Fixed64 => r.take(8)?.iter().rev().fold(0u64, |a, b| (a << 8) | u64::from(*b)),
                        Kind::Fixed32 => r.take(4)?.iter().rev().fold(0u64, |a, b| (a << 8) | u64::from(*b)),
                        _ => r.varint()?,
                    };
                    let v = single(&f.kind, Wire::Number(n), depth)?;
                    push(out, &f.name, v);
                }
            }
            (kind, wire) => {
                let v = single(kind, wire, depth)?;
                if f.repeated {
                    push(out, &f.name, v);
                } else {
                    out.insert(f.name.clone(), v);
                }
            }
        }
    }
    Ok(())
}

fn push(out: &mut Map, name: &str, v: Value) {
    let list = out.entry_or_null(name);
    if list.is_null() {
        *list = Value::Array(Vec::new());
    }
    if let Some(list) = list.as_array_mut() {
        list.push(v);
    }
}

fn entry(bytes: &[u8], kind: &Kind, depth: usize) -> Result<(String, Value)> {
    let mut r = Reader(bytes);
    let (mut key, mut value) = (String::new(), None);
    while let Some((n, w)) = r.next()? {
        match (n, w) {
            (1, Wire::Bytes(b)) => key = String::from_utf8_lossy(b).into_owned(),
            (2, w) => value = Some(single(kind, w, depth)?),
            _ => {}
        }
    }
    let value = match (value, kind) {
        (Some(v), _) => v,
        (None, Kind::Text | Kind::Bytes) => Value::from(""),
        (None, Kind::Message(i)) => object(&[], *i, depth + 1)?,
        (None, _) => Value::Int(0),
    };
    Ok((key, value))
}

#[allow(clippy::cast_possible_wrap, clippy::cast_possible_truncation)]
fn single(kind: &Kind, wire: Wire<'_>, depth: usize) -> Result<Value> {
    Ok(match (kind, wire) {
        (Kind::Text, Wire::Bytes(b)) => text(b)?,
        (Kind::Bytes, Wire::Bytes(b)) => base64::engine::general_purpose::STANDARD.encode(b).into(),
        (Kind::Bool, Wire::Number(n)) => Value::Bool(n != 0),
        (Kind::Int, Wire::Number(n)) => Value::Int(n as i64),
        (Kind::Fixed64, Wire::Number(n)) => Value::Float(f64::from_bits(n)),
        (Kind::Fixed32, Wire::Number(n)) => Value::Float(f64::from(f32::from_bits(n as u32))),
        (Kind::Message(i), Wire::Bytes(b)) => object(b, *i, depth + 1)?,
        _ => return Err("proto: wrong wireType".into()),
    })
}

/// A message as its JSON form: some types are written as plain values.
fn object(bytes: &[u8], index: usize, depth: usize) -> Result<Value> {
    let Some(schema) = SCHEMA.messages.get(index) else { return Ok(Value::Null) };
    let mut m = Map::new();
    let short = schema.name.rsplit('.').next().unwrap_or_default();
    let number = |m: &Map, k: &str| m.get(k).and_then(Value::as_i64).unwrap_or(0);
    let raw = |key: &str| -> Result<Value> {
        let mut r = Reader(bytes);
        let _ = key;
        while let Some((n, w)) = r.next()? {
            if let (1, Wire::Bytes(b)) = (n, w) {
                return if b.is_empty() { Ok(Value::Null) } else { json::parse(b).map_err(|e| e.to_string()) };
            }
        }
        Ok(Value::Null)
    };
    if matches!(short, "RawExtension" | "FieldsV1" | "JSON") {
        return raw(short);
    }
    message(bytes, index, &mut m, depth)?;
    Ok(match short {
        "Time" | "Timestamp" if bytes.is_empty() => Value::Null,
        "Time" | "Timestamp" => timestamp(number(&m, "seconds")).into(),
        "MicroTime" if bytes.is_empty() => Value::Null,
        "MicroTime" => {
            let base = timestamp(number(&m, "seconds"));
            format!("{}.{:06}Z", base.trim_end_matches('Z'), number(&m, "nanos") / 1000).into()
        }
        "Duration" => duration(number(&m, "duration")).into(),
        "Quantity" | "QuantityValue" => m.remove("string").unwrap_or_else(|| "0".into()),
        "IntOrString" if number(&m, "type") == 1 => m.remove("strVal").unwrap_or_else(|| "".into()),
        "IntOrString" => number(&m, "intVal").into(),
        "JSONSchemaPropsOrBool" => match m.remove("schema") {
            Some(s) => s,
            None => m.remove("allows").unwrap_or(Value::Bool(false)),
        },
        "JSONSchemaPropsOrArray" => match m.remove("schema") {
            Some(s) => s,
            None => m.remove("jSONSchemas").unwrap_or_default(),
        },
        "JSONSchemaPropsOrStringArray" => match m.remove("schema") {
            Some(s) => s,
            None => m.remove("property").unwrap_or_default(),
        },
        // A named list type: protobuf needs a message around it. A projection is an object that has nothing but items.
        _ if !short.ends_with("Projection")
            && schema.fields.len() == 1
            && schema.fields.iter().all(|f| f.name == "items" && f.repeated) =>
        {
            m.remove("items").unwrap_or_else(|| Value::Array(Vec::new()))
        }
        _ => Value::Map(m),
    })
}

/// A duration as Go writes it: `1h30m0s`.
fn duration(nanoseconds: i64) -> String {
    let (sign, n) = if nanoseconds < 0 { ("-", nanoseconds.unsigned_abs()) } else { ("", nanoseconds.unsigned_abs()) };
    let (seconds, rest) = (n / 1_000_000_000, n % 1_000_000_000);
    let fraction = format!("{rest:09}");
    let fraction = fraction.trim_end_matches('0');
    let s = if fraction.is_empty() { format!("{}s", seconds % 60) } else { format!("{}.{fraction}s", seconds % 60) };
    match (seconds / 3600, seconds / 60 % 60) {
        (0, 0) => format!("{sign}{s}"),
        (0, m) => format!("{sign}{m}m{s}"),
        (h, m) => format!("{sign}{h}h{m}m{s}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(number: u8, content: &[u8]) -> Vec<u8> {
        let mut out = vec![number << 3 | 2, u8::try_from(content.len()).unwrap()];
        out.extend_from_slice(content);
        out
    }

    #[test]
    fn an_enveloped_object_becomes_its_json_form() {
        let meta = [field(1, b"v1"), field(2, b"ConfigMap")].concat();
        let entry = [field(1, b"k"), field(2, b"v")].concat();
        let object = [field(1, &field(1, b"name")), field(2, &entry)].concat();
        let body = [MAGIC, &field(1, &meta), &field(2, &object)].concat();
        let v = decode(&body).unwrap();
        assert_eq!(
            v,
            json::parse(br#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"name"},"data":{"k":"v"}}"#)
                .unwrap()
        );
    }

    #[test]
    fn damaged_messages_are_refused() {
        assert!(decode(b"{}").is_err());
        assert!(decode(b"k8s\0\x0a\xff\xff").is_err());
        let meta = [field(1, b"v1"), field(2, b"Nope")].concat();
        assert!(decode(&[MAGIC, &field(1, &meta)].concat()).unwrap_err().contains("no kind \"Nope\""));
        assert_eq!(duration(5_400_000_000_000), "1h30m0s");
        assert_eq!(duration(1_500_000_000), "1.5s");
    }
}
