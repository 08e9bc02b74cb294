//! JSON as Go's `encoding/json` writes and reads it.

use std::rc::Rc;

use druse_object::{Map, Value};

use crate::env::{Env, FuncError};
use crate::val::{MapRef, Val};

use super::args::{Args, MAX_DEPTH, Res, err};
use super::{Entry, bytes, gofmt};

/// The functions of this theme: Helm's, and sprig's where Helm has none of its own.
pub const TABLE: &[Entry] = &[
    ("toJson", |_, a| Ok(Val::str(encode(Args::exact("toJson", a, 1)?.any(0), COMPACT).unwrap_or_default()))),
    ("mustToJson", |_, a| encode(Args::exact("mustToJson", a, 1)?.any(0), COMPACT).map(Val::str)),
    ("toPrettyJson", |_, a| {
        Ok(Val::str(encode(Args::exact("toPrettyJson", a, 1)?.any(0), PRETTY).unwrap_or_default()))
    }),
    ("mustToPrettyJson", |_, a| encode(Args::exact("mustToPrettyJson", a, 1)?.any(0), PRETTY).map(Val::str)),
    ("toRawJson", |_, a| encode(Args::exact("toRawJson", a, 1)?.any(0), RAW).map(Val::str)),
    ("mustToRawJson", |_, a| encode(Args::exact("mustToRawJson", a, 1)?.any(0), RAW).map(Val::str)),
    ("fromJson", from_json),
    ("fromJsonArray", from_json_array),
    ("mustFromJson", |_, a| {
        let text = Args::exact("mustFromJson", a, 1)?.str(0)?;
        Ok(Val::from_values(&decode(text).map_err(FuncError)?))
    }),
];

#[derive(Clone, Copy)]
struct Style {
    html: bool,
    pretty: bool,
}
const COMPACT: Style = Style { html: true, pretty: false };
const PRETTY: Style = Style { html: true, pretty: true };
const RAW: Style = Style { html: false, pretty: false };

/// The plain value Go's JSON encoder would write: floats without a fraction are integers, bytes that are no UTF-8 are
/// replaced, a nil list is null.
///
/// # Errors
/// When there is a number JSON cannot hold, or the value contains itself.
pub fn plain(v: &Val) -> Result<Value, FuncError> {
    plain_at(v, 0)
}

fn plain_at(v: &Val, depth: usize) -> Result<Value, FuncError> {
    if depth > MAX_DEPTH {
        return err(format!("json: unsupported value: encountered a cycle via {}", gofmt::type_name(v)));
    }
    Ok(match v {
        Val::Float(f) => number(*f)?,
        Val::Str(s) if bytes::has_private(s) => Value::String(valid(s).into()),
        Val::List(_) if v.is_nil_list() => Value::Null,
        Val::List(l) => Value::Array(l.iter().map(|v| plain_at(v, depth + 1)).collect::<Result<_, _>>()?),
        Val::Map(m) => {
            let m = m.borrow();
            let mut out = Map::with_capacity(m.len());
            for (k, v) in m.iter() {
                out.insert(k.clone(), plain_at(v, depth + 1)?);
            }
            Value::Map(out)
        }
        other => other.to_value(),
    })
}

fn number(f: f64) -> Result<Value, FuncError> {
    let Some(text) = gofmt::float_json(f) else {
        return err(format!("json: unsupported value: {}", gofmt::float_g(f)));
    };
    Ok(if let Ok(i) = text.parse::<i64>() {
        Value::Int(i)
    } else if let Ok(u) = text.parse::<u64>() {
        Value::UInt(u)
    } else {
        Value::Float(f)
    })
}

/// Text with the replacement character for what is no UTF-8.
pub(crate) fn valid(s: &str) -> String {
    String::from_utf8_lossy(&bytes::to_bytes(s)).into_owned()
}

fn encode(v: &Val, style: Style) -> Result<String, FuncError> {
    let mut out = String::new();
    write(&plain(v)?, style, 0, &mut out);
    Ok(out)
}

fn line(indent: usize, style: Style, out: &mut String) {
    if style.pretty {
        out.push('\n');
        out.extend(std::iter::repeat_n("  ", indent));
    }
}

fn write(v: &Value, style: Style, indent: usize, out: &mut String) {
    match v {
        Value::Null => out.push_str("null"),
        Value::Bool(b) => out.push_str(if *b { "true" } else { "false" }),
        Value::Int(i) => out.push_str(&i.to_string()),
        Value::UInt(u) => out.push_str(&u.to_string()),
        Value::Float(f) => out.push_str(&gofmt::float_json(*f).unwrap_or_else(|| "null".to_owned())),
        Value::String(s) => text(s, style.html, out),
        Value::Array(a) if a.is_empty() => out.push_str("[]"),
        Value::Array(a) => {
            out.push('[');
            for (i, v) in a.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                line(indent + 1, style, out);
                write(v, style, indent + 1, out);
            }
            line(indent, style, out);
            out.push(']');
        }
        Value::Map(m) if m.is_empty() => out.push_str("{}"),
        Value::Map(m) => {
            out.push('{');
            for (i, (k, v)) in m.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                line(indent + 1, style, out);
                text(k, style.html, out);
                out.push_str(if style.pretty { ": " } else { ":" });
                write(v, style, indent + 1, out);
            }
            line(indent, style, out);
            out.push('}');
        }
    }
}

/// A JSON string with Go's escapes.
fn text(s: &str, html: bool, out: &mut String) {
    out.push('"');
    for c in s.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            c if c < ' ' || matches!(c, '\u{2028}' | '\u{2029}') || html && matches!(c, '<' | '>' | '&') => {
                out.push_str(&format!("\\u{:04x}", u32::from(c)));
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

/// Reads JSON; the error is close to Go's text.
pub(crate) fn decode(text: &str) -> Result<Value, String> {
    serde_json::from_str::<Value>(text).map_err(|e| {
        if e.is_eof() {
            return "unexpected end of JSON input".to_owned();
        }
        let at = text.split_inclusive('\n').take(e.line().saturating_sub(1)).map(str::len).sum::<usize>()
            + e.column().saturating_sub(1);
        let c = text.get(at..).and_then(|t| t.chars().next()).or_else(|| text.chars().last()).unwrap_or(' ');
        let shown = match c {
            '\'' => "'\\''".to_owned(),
            '"' => "'\"'".to_owned(),
            c => format!("'{}'", c.escape_default()),
        };
        let message = e.to_string();
        let place = if message.starts_with("trailing characters") {
            "after top-level value"
        } else if message.starts_with("key must be") {
            "looking for beginning of object key string"
        } else if message.starts_with("expected `:`") {
            "after object key"
        } else if message.starts_with("expected `,` or `}`") {
            "after object key:value pair"
        } else if message.starts_with("expected `,` or `]`") {
            "after array element"
        } else if message.starts_with("control character") {
            "in string literal"
        } else {
            "looking for beginning of value"
        };
        format!("invalid character {shown} {place}")
    })
}

/// Go's word for a JSON value that does not fit the type asked for.
fn go_word(v: &Value) -> &'static str {
    match v {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Int(_) | Value::UInt(_) | Value::Float(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Map(_) => "object",
    }
}

/// The map a decoded text is, or one with the error under `Error`.
pub(crate) fn map_or_error(decoded: Result<Value, String>, prefix: &str) -> Val {
    let error = match decoded {
        Ok(Value::Null) => return Val::Map(MapRef::default()),
        Ok(v @ Value::Map(_)) => return Val::from_values(&v),
        Ok(other) => {
            format!("{prefix}json: cannot unmarshal {} into Go value of type map[string]interface {{}}", go_word(&other))
        }
        Err(e) => e,
    };
    let map = MapRef::default();
    map.set("Error", Val::str(error));
    Val::Map(map)
}

/// The list a decoded text is, or one of the error alone.
pub(crate) fn list_or_error(decoded: Result<Value, String>, prefix: &str) -> Val {
    match decoded {
        Ok(Value::Null) => Val::nil_list(),
        Ok(Value::Array(a)) => Val::List(Rc::new(a.iter().map(Val::from_values).collect())),
        Ok(other) => Val::list(vec![Val::str(format!(
            "{prefix}json: cannot unmarshal {} into Go value of type []interface {{}}",
            go_word(&other)
        ))]),
        Err(e) => Val::list(vec![Val::str(e)]),
    }
}

fn from_json(_: &mut Env<'_>, a: &[Val]) -> Res {
    Ok(map_or_error(decode(Args::exact("fromJson", a, 1)?.str(0)?), ""))
}

fn from_json_array(_: &mut Env<'_>, a: &[Val]) -> Res {
    Ok(list_or_error(decode(Args::exact("fromJsonArray", a, 1)?.str(0)?), ""))
}
