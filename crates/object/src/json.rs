//! JSON text, as Go's encoder writes it.

use std::collections::HashSet;
use std::fmt::Write;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use crate::number::write_json;
use crate::value::Value;

/// JSON text that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {message}")]
pub struct JsonError {
    /// From 1.
    pub line: usize,
    /// From 1.
    pub column: usize,
    /// What is wrong.
    pub message: String,
}

/// Reads one JSON value. Integers keep their kind; a key set twice keeps its last value; at most 127 levels deep.
///
/// # Errors
/// When the bytes are not one JSON value, or it is nested too deeply.
pub fn parse(text: &[u8]) -> Result<Value, JsonError> {
    serde_json::from_slice(text).map_err(|e| {
        let text = e.to_string();
        let place = format!(" at line {} column {}", e.line(), e.column());
        JsonError {
            line: e.line(),
            column: e.column(),
            message: text.strip_suffix(&place).unwrap_or(&text).to_string(),
        }
    })
}

/// The keys that are set twice in a JSON text, as Go's strict decoder names them (`spec.containers[0].name`), each time
/// one is set again. Nothing of a text that is none.
#[must_use]
pub fn repeated_keys(text: &[u8]) -> Vec<String> {
    let mut found = Vec::new();
    let mut reader = serde_json::Deserializer::from_slice(text);
    // A text that is no JSON has been refused by whoever read it.
    let _ = Repeats { path: String::new(), found: &mut found }.deserialize(&mut reader);
    found
}

struct Repeats<'a> {
    path: String,
    found: &'a mut Vec<String>,
}

impl<'de> DeserializeSeed<'de> for Repeats<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Repeats<'_> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let mut i = 0;
        loop {
            let path = format!("{}[{i}]", self.path);
            if items.next_element_seed(Repeats { path, found: &mut *self.found })?.is_none() {
                return Ok(());
            }
            i += 1;
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        let mut seen = HashSet::new();
        while let Some(key) = entries.next_key::<String>()? {
            let path = if self.path.is_empty() { key.clone() } else { format!("{}.{key}", self.path) };
            if !seen.insert(key) {
                self.found.push(path.clone());
            }
            entries.next_value_seed(Repeats { path, found: &mut *self.found })?;
        }
        Ok(())
    }
}

/// How to lay JSON out.
#[derive(Clone, Copy)]
struct Style<'a> {
    sorted: bool,
    /// Prefix and indentation of Go's `MarshalIndent`; compact without.
    indent: Option<(&'a str, &'a str)>,
    html: bool,
}

/// Compact JSON with keys in the value's own order, written as Go's encoder escapes it (HTML characters included).
#[must_use]
pub fn to_string(value: &Value) -> String {
    let mut out = String::new();
    write_value(&mut out, value, Style { sorted: false, indent: None, html: true }, 0);
    out
}

/// As [`to_string`] with all maps' keys sorted, as Go writes its maps.
#[must_use]
pub fn to_string_sorted(value: &Value) -> String {
    let mut out = String::new();
    write_value(&mut out, value, Style { sorted: true, indent: None, html: true }, 0);
    out
}

/// As [`to_string_sorted`] without escaping `<`, `>` and `&` (Go's `SetEscapeHTML(false)`; sprig's `toRawJson`).
#[must_use]
pub fn to_string_raw(value: &Value) -> String {
    let mut out = String::new();
    write_value(&mut out, value, Style { sorted: true, indent: None, html: false }, 0);
    out
}

/// As Go's `MarshalIndent(value, "", indent)`: keys sorted, one entry a line, empty collections as `{}` and `[]`.
#[must_use]
pub fn to_string_pretty(value: &Value, indent: &str) -> String {
    let mut out = String::new();
    write_value(&mut out, value, Style { sorted: true, indent: Some(("", indent)), html: true }, 0);
    out
}

/// As [`to_string_pretty`] with keys in their own order.
#[must_use]
pub fn to_string_pretty_ordered(value: &Value, indent: &str) -> String {
    let mut out = String::new();
    write_value(&mut out, value, Style { sorted: false, indent: Some(("", indent)), html: true }, 0);
    out
}

fn line(out: &mut String, style: Style<'_>, depth: usize) {
    if let Some((prefix, indent)) = style.indent {
        out.push('\n');
        out.push_str(prefix);
        for _ in 0..depth {
            out.push_str(indent);
        }
    }
}

fn write_value(out: &mut String, value: &Value, style: Style<'_>, depth: usize) {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(b) => out.push_str(if *b { "true" } else { "false" }),
        Value::Int(i) => {
            let _ = write!(out, "{i}");
        }
        Value::UInt(u) => {
            let _ = write!(out, "{u}");
        }
        Value::Float(f) => write_json(out, *f),
        Value::String(s) => write_string(out, s, style.html),
        Value::Array(a) => {
            out.push('[');
            for (i, item) in a.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                line(out, style, depth + 1);
                write_value(out, item, style, depth + 1);
            }
            if !a.is_empty() {
                line(out, style, depth);
            }
            out.push(']');
        }
        Value::Map(m) => {
            out.push('{');
            let mut first = true;
            let mut entry = |out: &mut String, k: &str, v: &Value| {
                if !std::mem::take(&mut first) {
                    out.push(',');
                }
                line(out, style, depth + 1);
                write_string(out, k, style.html);
                out.push(':');
                if style.indent.is_some() {
                    out.push(' ');
                }
                write_value(out, v, style, depth + 1);
            };
            if style.sorted && !m.keys().is_sorted() {
                let mut entries: Vec<_> = m.iter().collect();
                entries.sort_unstable_by(|a, b| a.0.cmp(b.0));
                for (k, v) in entries {
                    entry(out, k, v);
                }
            } else {
                for (k, v) in m.iter() {
                    entry(out, k, v);
                }
            }
            if !m.is_empty() {
                line(out, style, depth);
            }
            out.push('}');
        }
    }
}

/// Appends a JSON string as Go's encoder escapes it.
fn write_string(out: &mut String, s: &str, html: bool) {
    out.push('"');
    let b = s.as_bytes();
    let mut from = 0;
    for (i, c) in b.iter().enumerate() {
        let escape = match c {
            b'"' => "\\\"",
            b'\\' => "\\\\",
            b'\n' => "\\n",
            b'\r' => "\\r",
            b'\t' => "\\t",
            0x08 => "\\b",
            0x0c => "\\f",
            b'<' if html => "\\u003c",
            b'>' if html => "\\u003e",
            b'&' if html => "\\u0026",
            0..=0x1f => "",
            // U+2028 and U+2029, which JavaScript takes for line ends.
            0xE2 if b.get(i + 1) == Some(&0x80) && b.get(i + 2) == Some(&0xA8) => "\\u2028",
            0xE2 if b.get(i + 1) == Some(&0x80) && b.get(i + 2) == Some(&0xA9) => "\\u2029",
            _ => continue,
        };
        out.push_str(s.get(from..i).unwrap_or_default());
        if escape.is_empty() {
            let _ = write!(out, "\\u{c:04x}");
        } else {
            out.push_str(escape);
        }
        from = i + if *c == 0xE2 { 3 } else { 1 };
    }
    out.push_str(s.get(from..).unwrap_or_default());
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_as_go_does() {
        let v = parse("{\"b\":[1,1.0,1e21,1e-7,1e-10,123456789.5,-0.0],\"a\":\"<é&>\\u2028\\u0001\\\"\\n\\u007f\",\"c\":{},\"d\":[]}".as_bytes());
        let v = v.unwrap_or_default();
        assert_eq!(
            to_string_sorted(&v),
            "{\"a\":\"\\u003cé\\u0026\\u003e\\u2028\\u0001\\\"\\n\u{7f}\",\"b\":[1,1,1e+21,1e-7,1e-10,123456789.5,-0],\"c\":{},\"d\":[]}"
        );
        assert!(to_string(&v).starts_with("{\"b\":"));
        assert!(to_string_raw(&v).starts_with("{\"a\":\"<é&>"));
        assert_eq!(
            to_string_pretty(&parse(br#"{"b":[1,{}],"a":{"c":[]}}"#).unwrap_or_default(), "  "),
            "{\n  \"a\": {\n    \"c\": []\n  },\n  \"b\": [\n    1,\n    {}\n  ]\n}"
        );
    }

    #[test]
    fn depth_is_bounded_and_errors_say_where() {
        assert!(parse("[".repeat(100_000).as_bytes()).is_err());
        assert_eq!(parse(b"{\"a\":\n x}").map_err(|e| (e.line, e.column)), Err((2, 2)));
    }
}
