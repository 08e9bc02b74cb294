//! What an untagged or tagged scalar means, as go-yaml's `resolve` decides it.

use std::borrow::Cow;

use super::Dialect;
use crate::number;
use crate::value::{Str, Value};

/// A node's tag, as far as go-yaml tells them apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Tag {
    #[default]
    None,
    /// `!`
    NonSpecific,
    Str,
    Int,
    Float,
    Bool,
    Null,
    Binary,
    Timestamp,
    Merge,
    /// Anything else: a scalar stays text.
    Other,
}

impl Tag {
    /// From the long form (`tag:yaml.org,2002:str`).
    pub(super) fn from_long(tag: &str) -> Self {
        match tag.strip_prefix("tag:yaml.org,2002:") {
            Some("str") => Tag::Str,
            Some("int") => Tag::Int,
            Some("float") => Tag::Float,
            Some("bool") => Tag::Bool,
            Some("null") => Tag::Null,
            Some("binary") => Tag::Binary,
            Some("timestamp") => Tag::Timestamp,
            Some("merge") => Tag::Merge,
            _ => Tag::Other,
        }
    }

    fn short(self) -> &'static str {
        match self {
            Tag::Int => "!!int",
            Tag::Float => "!!float",
            Tag::Bool => "!!bool",
            Tag::Null => "!!null",
            Tag::Timestamp => "!!timestamp",
            _ => "!!str",
        }
    }
}

/// A scalar as it was scanned.
pub(super) struct Scalar<'a> {
    pub(super) text: Cow<'a, str>,
    pub(super) plain: bool,
}

impl<'a> Scalar<'a> {
    pub(super) fn empty() -> Self {
        Self { text: Cow::Borrowed(""), plain: true }
    }

    pub(super) fn into_str(self) -> Str {
        into_str(self.text)
    }
}

fn into_str(text: Cow<'_, str>) -> Str {
    match text {
        Cow::Borrowed(s) => Str::new(s),
        Cow::Owned(s) => Str::from(s),
    }
}

/// The value of a scalar, or what is wrong with it.
pub(super) fn resolve(scalar: Scalar<'_>, tag: Tag, dialect: Dialect) -> Result<Value, String> {
    match tag {
        Tag::None if !scalar.plain => Ok(Value::String(scalar.into_str())),
        Tag::None => implicit(scalar, dialect),
        // v3 drops the tag; v2 knows no such tag and leaves text.
        Tag::NonSpecific if scalar.plain && dialect == Dialect::Kyaml => implicit(scalar, dialect),
        Tag::Str | Tag::Other | Tag::Merge | Tag::NonSpecific => Ok(Value::String(scalar.into_str())),
        Tag::Binary => {
            let bytes = decode_base64(&scalar.text).ok_or("!!binary value contains invalid base64 data")?;
            Ok(Value::String(String::from_utf8_lossy(&bytes).into()))
        }
        Tag::Timestamp if parse_timestamp(&scalar.text).is_some() => implicit(scalar, dialect),
        Tag::Int | Tag::Float | Tag::Bool | Tag::Null | Tag::Timestamp => {
            let text = scalar.text.clone();
            let value = implicit(scalar, dialect)?;
            let found = match &value {
                Value::Null => Tag::Null,
                Value::Bool(_) => Tag::Bool,
                Value::Int(_) | Value::UInt(_) => Tag::Int,
                Value::Float(_) => Tag::Float,
                _ => Tag::Str,
            };
            #[allow(clippy::cast_precision_loss)]
            match (tag, value) {
                (t, value) if t == found => Ok(value),
                (Tag::Float, Value::Int(i)) => Ok(Value::Float(i as f64)),
                _ => Err(format!("cannot decode {} `{text}` as a {}", found.short(), tag.short())),
            }
        }
    }
}

/// Whether a plain scalar that starts with `first` can be anything but text.
pub(super) fn may_be_typed(first: u8) -> bool {
    matches!(
        first,
        b'0'..=b'9' | b'+' | b'-' | b'.' | b'~' | b'y' | b'Y' | b'n' | b'N' | b't' | b'T' | b'f' | b'F' | b'o' | b'O'
    )
}

fn implicit(scalar: Scalar<'_>, dialect: Dialect) -> Result<Value, String> {
    let text = &*scalar.text;
    let Some(&first) = text.as_bytes().first() else {
        return Ok(Value::Null);
    };
    if !may_be_typed(first) {
        return Ok(Value::String(scalar.into_str()));
    }
    if let Some(value) = word(text, dialect) {
        return match value {
            Value::Float(f) if dialect == Dialect::Sigs => {
                let shown = if f.is_nan() {
                    "NaN"
                } else if f > 0.0 {
                    "+Inf"
                } else {
                    "-Inf"
                };
                Err(format!("json: unsupported value: {shown}"))
            }
            value => Ok(value),
        };
    }
    match first {
        b'.' => {
            if let Some(f) = float(text) {
                return Ok(Value::Float(f));
            }
        }
        b'0'..=b'9' | b'+' | b'-' => {
            if dialect == Dialect::Kyaml
                && let Some(full) = parse_timestamp(text)
            {
                return Ok(Value::String(full.into()));
            }
            if let Some(value) = number(text) {
                return Ok(value);
            }
        }
        _ => {}
    }
    Ok(Value::String(scalar.into_str()))
}

/// The words that are not text.
fn word(text: &str, dialect: Dialect) -> Option<Value> {
    if text.len() > 5 {
        return None;
    }
    Some(match text {
        "~" | "null" | "Null" | "NULL" => Value::Null,
        "true" | "True" | "TRUE" => Value::Bool(true),
        "false" | "False" | "FALSE" => Value::Bool(false),
        "y" | "Y" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" if dialect == Dialect::Sigs => Value::Bool(true),
        "n" | "N" | "no" | "No" | "NO" | "off" | "Off" | "OFF" if dialect == Dialect::Sigs => Value::Bool(false),
        ".nan" | ".NaN" | ".NAN" => Value::Float(f64::NAN),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => Value::Float(f64::INFINITY),
        "-.inf" | "-.Inf" | "-.INF" => Value::Float(f64::NEG_INFINITY),
        _ => return None,
    })
}

/// An integer (decimal, `0x`, `0o`, `0b`, or octal after a bare 0) or a float; `_` is left out first.
fn number(text: &str) -> Option<Value> {
    let plain: Cow<'_, str> =
        if memchr::memchr(b'_', text.as_bytes()).is_some() { text.replace('_', "").into() } else { text.into() };
    let (negative, digits) = match plain.as_bytes().first()? {
        b'-' => (true, plain.get(1..)?),
        b'+' => (false, plain.get(1..)?),
        _ => (false, &*plain),
    };
    if let Some(magnitude) = integer(digits) {
        if negative {
            if magnitude <= 1 << 63 {
                return Some(Value::Int(0i64.wrapping_sub_unsigned(magnitude)));
            }
        } else if let Ok(i) = i64::try_from(magnitude) {
            return Some(Value::Int(i));
        } else if !plain.starts_with('+') {
            return Some(Value::UInt(magnitude));
        }
    }
    if is_float(digits) { float(&plain) } else { None }.map(Value::Float)
}

/// Unsigned digits with Go's base prefixes.
fn integer(digits: &str) -> Option<u64> {
    let b = digits.as_bytes();
    let (radix, body) = match b {
        [b'0', b'b' | b'B', _, ..] => (2, digits.get(2..)?),
        [b'0', b'o' | b'O', _, ..] => (8, digits.get(2..)?),
        [b'0', b'x' | b'X', _, ..] => (16, digits.get(2..)?),
        [b'0'] => return Some(0),
        [b'0', ..] => (8, digits.get(1..)?),
        _ => (10, digits),
    };
    if !body.bytes().all(|c| c.is_ascii_alphanumeric()) {
        return None;
    }
    u64::from_str_radix(body, radix).ok()
}

/// `\.[0-9]+ | [0-9]+(\.[0-9]*)?`, then an optional exponent; the sign is already off.
fn is_float(digits: &str) -> bool {
    let b = digits.as_bytes();
    let run = |from: usize| b.get(from..).map_or(0, |r| r.iter().take_while(|c| c.is_ascii_digit()).count());
    let whole = run(0);
    let mut at = whole;
    if b.get(at) == Some(&b'.') {
        let fraction = run(at + 1);
        if whole == 0 && fraction == 0 {
            return false;
        }
        at += 1 + fraction;
    } else if whole == 0 {
        return false;
    }
    if matches!(b.get(at), Some(b'e' | b'E')) {
        at += 1;
        if matches!(b.get(at), Some(b'+' | b'-')) {
            at += 1;
        }
        let exponent = run(at);
        if exponent == 0 {
            return false;
        }
        at += exponent;
    }
    at == b.len()
}

/// A finite float; out of range is none, as Go's `ParseFloat` fails then.
fn float(text: &str) -> Option<f64> {
    text.parse::<f64>().ok().filter(|f| f.is_finite())
}

/// A map key as text: `sigs.k8s.io/yaml` converts keys to strings when it makes JSON.
pub(super) fn key_of(value: Value) -> Result<Str, String> {
    match value {
        Value::String(s) => Ok(s),
        Value::Int(i) => Ok(Str::from(i.to_string())),
        Value::Bool(b) => Ok(Str::new_static(if b { "true" } else { "false" })),
        Value::Float(f) => Ok(number::format_g32(f).into()),
        Value::UInt(u) => Err(format!("unsupported map key of type: uint64, key: {u}")),
        Value::Null => Err("unsupported map key of type: %!s(<nil>), key: <nil>".into()),
        Value::Array(_) | Value::Map(_) => Err(format!("invalid map key: {}", go_syntax(&value))),
    }
}

/// Go's `%#v` of a value as go-yaml v2 decodes it: what is shown when a template's braces were left where YAML sees a map.
fn go_syntax(value: &Value) -> String {
    match value {
        Value::Null => "interface {}(nil)".into(),
        Value::Bool(b) => b.to_string(),
        Value::Int(i) => i.to_string(),
        Value::UInt(u) => format!("{u:#x}"),
        Value::Float(f) => {
            let mut out = String::new();
            number::write_g(&mut out, *f);
            out
        }
        Value::String(s) => format!("{s:?}"),
        Value::Array(a) => format!("[]interface {{}}{{{}}}", a.iter().map(go_syntax).collect::<Vec<_>>().join(", ")),
        Value::Map(m) => {
            let entries: Vec<String> = m.iter().map(|(k, v)| format!("{k:?}:{}", go_syntax(v))).collect();
            format!("map[interface {{}}]interface {{}}{{{}}}", entries.join(", "))
        }
    }
}

/// Base64 with padding; line ends are skipped, as Go's decoder does.
fn decode_base64(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len() / 4 * 3);
    let (mut acc, mut have, mut pad) = (0u32, 0u32, 0u32);
    for b in text.bytes() {
        let v = match b {
            b'A'..=b'Z' => b - b'A',
            b'a'..=b'z' => b - b'a' + 26,
            b'0'..=b'9' => b - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            b'=' => {
                pad += 1;
                continue;
            }
            b'\n' | b'\r' => continue,
            _ => return None,
        };
        if pad > 0 {
            return None;
        }
        acc = (acc << 6) | u32::from(v);
        have += 1;
        if have == 4 {
            out.extend_from_slice(acc.to_be_bytes().get(1..)?);
            (acc, have) = (0, 0);
        }
    }
    match (have, pad) {
        (0, 0) => {}
        (2, 2) => out.push(u8::try_from((acc >> 4) & 0xFF).ok()?),
        (3, 1) => out.extend_from_slice((acc << 6).to_be_bytes().get(1..3)?),
        _ => return None,
    }
    Some(out)
}

/// Reads go-yaml's timestamp formats and writes what Go's JSON encoder makes of such a time (RFC 3339 with up to nine
/// digits of fraction): `2001-1-2`, `2001-1-2 15:4:5.9`, `2001-1-2T15:4:5.9Z`, `…+01:00`, `t` for `T`.
fn parse_timestamp(text: &str) -> Option<String> {
    let b = text.as_bytes();
    if b.len() < 8 || b.get(4) != Some(&b'-') || !b.iter().take(4).all(u8::is_ascii_digit) {
        return None;
    }
    let (date, time) = match text.find(['T', 't', ' ']) {
        Some(i) => (text.get(..i)?, Some((b.get(i).copied()?, text.get(i + 1..)?))),
        None => (text, None),
    };
    let mut parts = date.split('-');
    let year = parts.next()?;
    let month = small(parts.next()?, 1, 12)?;
    let days = match month {
        4 | 6 | 9 | 11 => 30,
        2 => {
            let y: u32 = year.parse().ok()?;
            if y.is_multiple_of(4) && (!y.is_multiple_of(100) || y.is_multiple_of(400)) { 29 } else { 28 }
        }
        _ => 31,
    };
    let day = small(parts.next()?, 1, days)?;
    if parts.next().is_some() {
        return None;
    }
    let mut out = format!("{year}-{month:02}-{day:02}T");
    let Some((mark, time)) = time else {
        out.push_str("00:00:00Z");
        return Some(out);
    };
    let (clock, zone) = match time.find(['Z', '+', '-']) {
        Some(i) if mark != b' ' => (time.get(..i)?, time.get(i..)?),
        None if mark == b' ' => (time, "Z"),
        _ => return None,
    };
    let (clock, fraction) = clock.split_once('.').unwrap_or((clock, ""));
    let mut parts = clock.split(':');
    let hour = small(parts.next()?, 0, 23)?;
    let minute = small(parts.next()?, 0, 59)?;
    let second = small(parts.next()?, 0, 59)?;
    if parts.next().is_some() || !fraction.bytes().all(|c| c.is_ascii_digit()) || fraction.len() > 9 {
        return None;
    }
    out.push_str(&format!("{hour:02}:{minute:02}:{second:02}"));
    let fraction = fraction.trim_end_matches('0');
    if !fraction.is_empty() {
        out.push('.');
        out.push_str(fraction);
    }
    match zone {
        "Z" | "+00:00" | "-00:00" => out.push('Z'),
        z if z.len() == 6 && z.starts_with(['+', '-']) && z.get(3..4) == Some(":") => {
            small(z.get(1..3)?, 0, 24)?;
            small(z.get(4..6)?, 0, 60)?;
            out.push_str(z);
        }
        _ => return None,
    }
    Some(out)
}

/// One or two digits between two bounds.
fn small(text: &str, low: u32, high: u32) -> Option<u32> {
    if text.is_empty() || text.len() > 2 || !text.bytes().all(|c| c.is_ascii_digit()) {
        return None;
    }
    text.parse().ok().filter(|n| (low..=high).contains(n))
}

/// Whether a plain scalar of this text reads back as text, for the eyes of go-yaml's writer (old booleans, timestamps
/// and numbers in base 60 included).
pub(super) fn is_text(text: &str) -> bool {
    let Some(&first) = text.as_bytes().first() else { return false };
    if !may_be_typed(first) {
        return true;
    }
    if word(text, Dialect::Sigs).is_some() {
        return false;
    }
    match first {
        b'.' => float(text).is_none(),
        b'0'..=b'9' | b'+' | b'-' => number(text).is_none() && parse_timestamp(text).is_none() && !is_base60(text),
        _ => true,
    }
}

/// `[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?`
fn is_base60(text: &str) -> bool {
    let body = text.strip_prefix(['-', '+']).unwrap_or(text);
    let mut parts = body.split(':');
    let digits = |s: &str| s.bytes().all(|c| c.is_ascii_digit() || c == b'_');
    let Some(head) = parts.next().filter(|h| h.starts_with(|c: char| c.is_ascii_digit()) && digits(h)) else {
        return false;
    };
    let Some(tail) = body.get(head.len() + 1..) else { return false };
    let (tail, fraction) = tail.split_once('.').unwrap_or((tail, ""));
    digits(fraction) && tail.split(':').all(|p| small(p, 0, 59).is_some())
}
