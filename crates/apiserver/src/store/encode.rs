//! The text form of an object: `apiVersion` and `kind` first, `metadata` next, all other keys sorted, and a known
//! place for the resource version, which only the committing thread knows.

use bytes::{Bytes, BytesMut};
use druse_object::{Map, Value};

/// An object's text without its resource version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded {
    text: Vec<u8>,
    /// Where `"resourceVersion":"…",` (or without the comma, in an otherwise empty `metadata`) goes.
    at: usize,
    lone: bool,
    head: u16,
}

fn write_value(out: &mut Vec<u8>, v: &Value) {
    // Writing to a vector cannot fail, and keys are always strings.
    let _ = serde_json::to_writer(&mut *out, v);
}

fn write_sorted(out: &mut Vec<u8>, v: &Value) {
    match v {
        Value::Map(m) => {
            out.push(b'{');
            write_entries(out, m, |_| true);
            out.push(b'}');
        }
        Value::Array(a) => {
            out.push(b'[');
            for (i, x) in a.iter().enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                write_sorted(out, x);
            }
            out.push(b']');
        }
        other => write_value(out, other),
    }
}

/// Writes the entries that pass; answers whether any did.
fn write_entries(out: &mut Vec<u8>, m: &Map, keep: impl Fn(&str) -> bool) -> bool {
    let mut keys: Vec<(&str, &Value)> = m.iter().map(|(k, v)| (k.as_str(), v)).filter(|(k, _)| keep(k)).collect();
    keys.sort_unstable_by_key(|(k, _)| *k);
    for (i, (k, v)) in keys.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        let _ = serde_json::to_writer(&mut *out, k);
        out.push(b':');
        write_sorted(out, v);
    }
    !keys.is_empty()
}

impl Encoded {
    /// The text of an object. A resource version in it is left out.
    #[must_use]
    pub fn of(object: &Value) -> Self {
        let mut out = Vec::with_capacity(512);
        out.extend_from_slice(b"{\"apiVersion\":");
        write_value(&mut out, &object["apiVersion"]);
        out.extend_from_slice(b",\"kind\":");
        write_value(&mut out, &object["kind"]);
        out.push(b',');
        let head = u16::try_from(out.len()).unwrap_or(u16::MAX);
        out.extend_from_slice(b"\"metadata\":{");
        let at = out.len();
        let lone = match object.get("metadata").and_then(Value::as_map) {
            Some(m) => !write_entries(&mut out, m, |k| k != "resourceVersion"),
            None => true,
        };
        out.push(b'}');
        if let Some(m) = object.as_map() {
            let mark = out.len();
            out.push(b',');
            if !write_entries(&mut out, m, |k| !matches!(k, "apiVersion" | "kind" | "metadata")) {
                out.truncate(mark);
            }
        }
        out.push(b'}');
        Self { text: out, at, lone, head }
    }

    /// How much of the text is `apiVersion` and `kind`.
    #[must_use]
    pub fn head(&self) -> u16 {
        self.head
    }

    /// The whole text with a resource version.
    #[must_use]
    pub fn at(&self, rv: u64) -> Bytes {
        let mut out = BytesMut::with_capacity(self.text.len() + 44);
        let (a, b) = self.text.split_at(self.at);
        out.extend_from_slice(a);
        out.extend_from_slice(format!("\"resourceVersion\":\"{rv}\"").as_bytes());
        if !self.lone {
            out.extend_from_slice(b",");
        }
        out.extend_from_slice(b);
        out.freeze()
    }

    /// The text without a resource version (a dry run's answer).
    #[must_use]
    pub fn bare(&self) -> Bytes {
        Bytes::copy_from_slice(&self.text)
    }

    /// Whether a stored object's text is this one, its resource version aside.
    #[must_use]
    pub fn same_as(&self, stored: &super::Stored) -> bool {
        self.at(stored.rv) == stored.json
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use druse_object::json;

    #[test]
    fn keys_are_sorted_after_the_type_and_the_version_is_spliced_in() {
        let v = json::parse(
            br#"{"metadata":{"name":"a","resourceVersion":"3"},"kind":"X","action":{"b":1,"a":2},"apiVersion":"v1"}"#,
        )
        .unwrap();
        let e = Encoded::of(&v);
        assert_eq!(
            e.at(7),
            r#"{"apiVersion":"v1","kind":"X","metadata":{"resourceVersion":"7","name":"a"},"action":{"a":2,"b":1}}"#
        );
        assert_eq!(&e.at(7)[usize::from(e.head())..][..10], b"\"metadata\"");
        let bare = Encoded::of(&json::parse(br#"{"kind":"X","apiVersion":"v1"}"#).unwrap());
        assert_eq!(bare.at(1), r#"{"apiVersion":"v1","kind":"X","metadata":{"resourceVersion":"1"}}"#);
    }
}
