//! JSON as Go's `encoding/json` writes and reads it.

use std::rc::Rc;

use druse_object::{Map, Value, json};

use crate::env::{Env, FuncError};
use crate::val::{MapRef, Val};

use super::args::{Args, MAX_DEPTH, Res, err};
use super::{Entry, bytes, gofmt};

/// The functions of this theme: Helm's, and sprig's where Helm has none of its own.
pub const TABLE: &[Entry] = &[
    ("toJson", |_, a| Ok(Val::str(encode(Args::exact("toJson", a, 1)?.any(0), json::to_string).unwrap_or_default()))),
    ("mustToJson", |_, a| encode(Args::exact("mustToJson", a, 1)?.any(0), json::to_string).map(Val::str)),
    ("toPrettyJson", |_, a| {
        Ok(Val::str(encode(Args::exact("toPrettyJson", a, 1)?.any(0), pretty).unwrap_or_default()))
    }),
    ("mustToPrettyJson", |_, a| encode(Args::exact("mustToPrettyJson", a, 1)?.any(0), pretty).map(Val::str)),
    ("toRawJson", |_, a| encode(Args::exact("toRawJson", a, 1)?.any(0), json::to_string_raw).map(Val::str)),
    ("mustToRawJson", |_, a| encode(Args::exact("mustToRawJson", a, 1)?.any(0), json::to_string_raw).map(Val::str)),
    ("fromJson", from_json),
    ("fromJsonArray", from_json_array),
    ("mustFromJson", |_, a| {
        let text = Args::exact("mustFromJson", a, 1)?.str(0)?;
        Ok(Val::from_values(&decode(text).map_err(FuncError)?))
    }),
];

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
    if !f.is_finite() {
        return err(format!("json: unsupported value: {}", gofmt::float_g(f)));
    }
    #[allow(clippy::cast_possible_truncation)]
    Ok(match f {
        f if f.fract() != 0.0 => Value::Float(f),
        f if f.abs() < 9_007_199_254_740_992.0 => Value::Int(f as i64),
        // Above 2^53 Go writes the shortest digits and zeros: the integer they make, not the float's exact one.
        f => {
            let digits = f.to_string();
            digits.parse().map(Value::Int).or_else(|_| digits.parse().map(Value::UInt)).unwrap_or(Value::Float(f))
        }
    })
}

/// Text with the replacement character for what is no UTF-8.
pub(crate) fn valid(s: &str) -> String {
    String::from_utf8_lossy(&bytes::to_bytes(s)).into_owned()
}

fn pretty(value: &Value) -> String {
    json::to_string_pretty(value, "  ")
}

fn encode(v: &Val, write: fn(&Value) -> String) -> Result<String, FuncError> {
    plain(v).map(|value| write(&value))
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
            format!(
                "{prefix}json: cannot unmarshal {} into Go value of type map[string]interface {{}}",
                go_word(&other)
            )
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
