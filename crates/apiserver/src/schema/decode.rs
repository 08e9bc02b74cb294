//! Reading an object as its Go struct would be read and written again: types checked, unknown fields dropped and
//! named, nulls and empty values left out where the struct leaves them out, zero structs written where it writes them,
//! quantities in canonical form.

use druse_object::{Map, Value, value::Str};

use super::node::{Format, Node, Shape, Slot};
use super::types::DecodeError;
use druse_object::quantity::{FORMAT, Quantity};

/// The path to where decoding is: for unknown fields with list indexes, for type errors without.
#[derive(Default)]
struct At {
    full: String,
    plain: String,
    owner: Str,
}

impl At {
    fn field<T>(&mut self, name: &str, slot: &Slot, f: impl FnOnce(&mut Self) -> T) -> T {
        let (full, plain) = (self.full.len(), self.plain.len());
        if let Some(way) = &slot.embedded_in {
            if plain > 0 {
                self.plain.push('.');
            }
            self.plain.push_str(way);
        }
        for path in [&mut self.full, &mut self.plain] {
            if !path.is_empty() {
                path.push('.');
            }
            path.push_str(name);
        }
        let out = f(self);
        self.full.truncate(full);
        self.plain.truncate(plain);
        out
    }

    /// A map's entry: part of the paths of unknown fields, not of the paths of Go's type errors.
    fn entry<T>(&mut self, key: &str, f: impl FnOnce(&mut Self) -> T) -> T {
        let full = self.full.len();
        self.full.push('.');
        self.full.push_str(key);
        let out = f(self);
        self.full.truncate(full);
        out
    }

    fn index<T>(&mut self, i: usize, f: impl FnOnce(&mut Self) -> T) -> T {
        let full = self.full.len();
        self.full.push_str(&format!("[{i}]"));
        let out = f(self);
        self.full.truncate(full);
        out
    }
}

/// Decodes `value` in place; returns the paths of unknown fields, which are gone then.
pub(crate) fn decode(value: &mut Value, slot: &Slot) -> Result<Vec<String>, DecodeError> {
    let mut unknown = Vec::new();
    decode_at(value, slot, &mut At::default(), &mut unknown)?;
    Ok(unknown)
}

/// Drops fields the schema does not know; returns their paths.
pub(crate) fn prune(value: &mut Value, node: &Node, path: &mut String, unknown: &mut Vec<String>) {
    match value {
        Value::Map(map) => {
            if node.embedded {
                prune_embedded(map, path, unknown);
            }
            let keep_unknown = node.preserve || node.shape == Shape::Any;
            map.retain(|key, v| {
                let length = path.len();
                let known = node.child(key);
                if known.is_none()
                    && !keep_unknown
                    && !(node.embedded && ["apiVersion", "kind", "metadata"].contains(&key.as_str()))
                {
                    unknown.push(if path.is_empty() { key.to_string() } else { format!("{path}.{key}") });
                    return false;
                }
                if let Some(slot) = known {
                    if !path.is_empty() {
                        path.push('.');
                    }
                    path.push_str(key);
                    prune(v, slot.node(), path, unknown);
                    path.truncate(length);
                }
                true
            });
        }
        Value::Array(items) => {
            let Some(slot) = &node.items else { return };
            for (i, item) in items.iter_mut().enumerate() {
                let length = path.len();
                path.push_str(&format!("[{i}]"));
                prune(item, slot.node(), path, unknown);
                path.truncate(length);
            }
        }
        _ => {}
    }
}

fn prune_embedded(map: &mut Map, path: &mut String, unknown: &mut Vec<String>) {
    if let (Some(meta), Some(slot)) = (map.get_mut("metadata"), super::builtin::named(super::types::OBJECT_META)) {
        let length = path.len();
        path.push_str(if path.is_empty() { "metadata" } else { ".metadata" });
        prune(meta, slot.node(), path, unknown);
        path.truncate(length);
    }
}

/// What Go calls a JSON value in an error.
fn go_value(value: &Value) -> String {
    match value {
        Value::Null => "null".into(),
        Value::Bool(_) => "bool".into(),
        Value::Int(_) | Value::UInt(_) => "number".into(),
        Value::Float(_) => format!("number {}", druse_object::json::to_string(value)),
        Value::String(_) => "string".into(),
        Value::Array(_) => "array".into(),
        Value::Map(_) => "object".into(),
    }
}

fn go_type(slot: &Slot, node: &Node) -> String {
    if let Some(t) = &slot.go_type {
        return t.to_string();
    }
    if let Some(name) = &node.name {
        let mut parts = name.rsplit('.');
        let kind = parts.next().unwrap_or_default();
        let version = parts.next().unwrap_or_default();
        return format!("{version}.{kind}");
    }
    match node.shape {
        Shape::Bool => "bool".into(),
        Shape::Int if node.format == Format::Int64 => "int64".into(),
        Shape::Int => "int32".into(),
        Shape::Number => "float64".into(),
        Shape::Str | Shape::Any => "string".into(),
        Shape::List => format!("[]{}", node.items.as_deref().map(|s| go_type(s, s.node())).unwrap_or_default()),
        Shape::Object => {
            format!("map[string]{}", node.values.as_deref().map(|s| go_type(s, s.node())).unwrap_or_default())
        }
    }
}

fn mismatch(value: &Value, slot: &Slot, node: &Node, at: &At) -> DecodeError {
    wrong(&go_value(value), &go_type(slot, node), at)
}

fn wrong(found: &str, wanted: &str, at: &At) -> DecodeError {
    let place =
        if at.plain.is_empty() { "Go value".to_string() } else { format!("Go struct field {}.{}", at.owner, at.plain) };
    DecodeError(format!("json: cannot unmarshal {found} into {place} of type {wanted}"))
}

/// What Go calls a JSON value in an error about a whole number.
fn go_number(value: &Value) -> String {
    match value {
        Value::Int(_) | Value::UInt(_) => format!("number {}", druse_object::json::to_string(value)),
        _ => go_value(value),
    }
}

fn decode_at(value: &mut Value, slot: &Slot, at: &mut At, unknown: &mut Vec<String>) -> Result<(), DecodeError> {
    let node = slot.node();
    if value.is_null() {
        return Ok(());
    }
    match (&node.format, &node.shape) {
        (Format::Quantity, _) => return decode_quantity(value, false),
        (Format::IntOrString, _) => {
            return match value {
                Value::Int(i) if i32::try_from(*i).is_ok() => Ok(()),
                Value::String(_) => Ok(()),
                // Whatever is no text is read as a number.
                _ => Err(wrong(&go_number(value), "int32", at)),
            };
        }
        _ => {}
    }
    match node.shape {
        Shape::Any => Ok(()),
        Shape::Bool => expect(matches!(value, Value::Bool(_)), value, slot, node, at),
        Shape::Int => {
            let fits = match value {
                Value::Int(i) => node.format != Format::Int32 || i32::try_from(*i).is_ok(),
                _ => false,
            };
            if fits { Ok(()) } else { Err(wrong(&go_number(value), &go_type(slot, node), at)) }
        }
        Shape::Number => expect(value.as_f64().is_some(), value, slot, node, at),
        Shape::Str => {
            let Value::String(s) = &*value else {
                return Err(match is_time(node) {
                    // These read themselves, from a text.
                    true => wrong(&go_value(value), "string", at),
                    false => mismatch(value, slot, node, at),
                });
            };
            match node.format {
                Format::Byte => check_base64(s),
                Format::DateTime if node.name.as_deref().is_some_and(|n| n.ends_with("MicroTime")) => {
                    check_micro_time(s)
                }
                Format::DateTime => check_time(s),
                _ => Ok(()),
            }
        }
        Shape::List => {
            let Value::Array(items) = value else { return Err(mismatch(value, slot, node, at)) };
            let Some(inner) = &node.items else { return Ok(()) };
            for (i, item) in items.iter_mut().enumerate() {
                at.index(i, |at| decode_at(item, inner, at, unknown))?;
                if item.is_null() && !inner.pointer {
                    *item = zero(inner).unwrap_or_default();
                }
            }
            Ok(())
        }
        Shape::Object => {
            let Value::Map(map) = value else { return Err(mismatch(value, slot, node, at)) };
            if node.is_struct() {
                return decode_struct(map, node, at, unknown);
            }
            let Some(inner) = &node.values else { return Ok(()) };
            for (key, v) in map.iter_mut() {
                at.entry(key, |at| match inner.node().format {
                    Format::Quantity => decode_quantity(v, true),
                    _ => decode_at(v, inner, at, unknown),
                })?;
                if v.is_null() && !inner.pointer {
                    let bytes = inner.node().format == Format::Byte;
                    *v = if bytes { Value::from("") } else { zero(inner).unwrap_or_default() };
                }
            }
            Ok(())
        }
    }
}

fn expect(fits: bool, value: &Value, slot: &Slot, node: &Node, at: &At) -> Result<(), DecodeError> {
    if fits { Ok(()) } else { Err(mismatch(value, slot, node, at)) }
}

fn decode_struct(map: &mut Map, node: &Node, at: &mut At, unknown: &mut Vec<String>) -> Result<(), DecodeError> {
    let owner = node.name.as_deref().and_then(|n| n.rsplit('.').next()).unwrap_or_default();
    let outer = std::mem::replace(&mut at.owner, owner.into());
    let mut result = Ok(());
    map.retain(|key, v| {
        if result.is_err() {
            return true;
        }
        let Some(slot) = node.fields.get(key) else {
            unknown.push(if at.full.is_empty() { key.to_string() } else { format!("{}.{key}", at.full) });
            return false;
        };
        result = at.field(key, slot, |at| decode_at(v, slot, at, unknown));
        keep(v, slot)
    });
    at.owner = outer;
    result?;
    for (key, slot) in node.fields.iter() {
        if let Some(written) = written_when_absent(slot)
            && !map.contains_key(key)
        {
            map.insert(key.clone(), written);
        }
    }
    Ok(())
}

/// Whether there is an empty list or map somewhere.
pub(crate) fn has_empty(value: &Value) -> bool {
    match value {
        Value::Array(a) => a.is_empty() || a.iter().any(has_empty),
        Value::Map(m) => m.is_empty() || m.iter().any(|(_, v)| has_empty(v)),
        _ => false,
    }
}

/// Makes empty lists and maps null where a struct writes them.
pub(crate) fn forget_empty(value: &mut Value, slot: &Slot) {
    let node = slot.node();
    match value {
        Value::Map(map) if node.is_struct() => {
            for (key, v) in map.iter_mut() {
                let Some(slot) = node.fields.get(key) else { continue };
                let free = slot.node().preserve || slot.node().shape == Shape::Any;
                let plain = slot.omitempty == Some(false) && !slot.node().is_struct() && !free;
                let empty = match v {
                    Value::Array(a) => a.is_empty(),
                    Value::Map(m) => m.is_empty(),
                    _ => false,
                };
                if plain && empty {
                    *v = Value::Null;
                } else {
                    forget_empty(v, slot);
                }
            }
        }
        Value::Map(map) => {
            if let Some(slot) = node.values.as_deref() {
                map.iter_mut().for_each(|(_, v)| forget_empty(v, slot));
            }
        }
        Value::Array(items) => {
            if let Some(slot) = node.items.as_deref() {
                items.iter_mut().for_each(|v| forget_empty(v, slot));
            }
        }
        _ => {}
    }
}

/// Whether the struct writes this field; a value that is not written becomes absent.
fn keep(value: &mut Value, slot: &Slot) -> bool {
    let Some(omitempty) = slot.omitempty else { return !value.is_null() };
    if value.is_null() {
        match written_when_absent(slot) {
            Some(v) => *value = v,
            None => return false,
        }
        return true;
    }
    if !omitempty || slot.pointer {
        return true;
    }
    match value {
        Value::Bool(b) => *b,
        Value::Int(i) => *i != 0,
        Value::Float(f) => *f != 0.0,
        Value::String(s) => !s.is_empty(),
        Value::Array(a) => !a.is_empty(),
        Value::Map(m) => {
            let node = slot.node();
            !m.is_empty() || node.is_struct() || node.preserve || node.shape == Shape::Any
        }
        _ => true,
    }
}

/// What a struct writes for a field nobody set; `None` when it leaves the field out.
fn written_when_absent(slot: &Slot) -> Option<Value> {
    let omitempty = slot.omitempty?;
    if slot.pointer {
        return (!omitempty).then_some(Value::Null);
    }
    let node = slot.node();
    let is_go_struct = node.is_struct()
        || node.name.is_some()
            && (node.shape == Shape::Object
                || is_time(node)
                || matches!(node.format, Format::Quantity | Format::IntOrString));
    if is_go_struct {
        // A struct is never empty to Go's encoder; only `omitzero` leaves it out.
        return if slot.omitzero { None } else { zero(slot) };
    }
    if omitempty { None } else { zero(slot) }
}

fn is_time(node: &Node) -> bool {
    node.format == Format::DateTime && node.name.is_some()
}

/// The zero value of what is found here, as Go's encoder writes it.
pub(crate) fn zero(slot: &Slot) -> Option<Value> {
    let node = slot.node();
    Some(match (&node.format, node.shape) {
        (Format::Quantity, _) => Value::from("0"),
        (Format::IntOrString, _) => Value::Int(0),
        (Format::DateTime, _) => Value::Null,
        (Format::Byte, _) => Value::Null,
        (_, Shape::Bool) => Value::Bool(false),
        (_, Shape::Int) => Value::Int(0),
        (_, Shape::Number) => Value::Int(0),
        (_, Shape::Str) => Value::from(""),
        (_, Shape::Object) if node.is_struct() => Value::Map(zero_struct(node)),
        _ => Value::Null,
    })
}

/// The fields a zero struct writes.
pub(crate) fn zero_struct(node: &Node) -> Map {
    node.fields.iter().filter_map(|(k, slot)| written_when_absent(slot).map(|v| (k.clone(), v))).collect()
}

fn decode_quantity(value: &mut Value, resource_list: bool) -> Result<(), DecodeError> {
    let text = match &*value {
        Value::Null => return Ok(()),
        Value::String(s) => s.to_string(),
        Value::Int(_) | Value::UInt(_) | Value::Float(_) => druse_object::json::to_string(value),
        _ => return Err(DecodeError(FORMAT.into())),
    };
    let q = Quantity::parse(&text).map_err(|e| DecodeError(e.into()))?;
    *value = Value::from(if resource_list { q.rounded_to_milli() } else { q }.to_string());
    Ok(())
}

/// Go's `encoding/base64` reader: line breaks are skipped, the error names the byte.
fn check_base64(text: &str) -> Result<(), DecodeError> {
    let bad = |at: usize| Err(DecodeError(format!("illegal base64 data at input byte {at}")));
    let bytes: Vec<(usize, u8)> = text.bytes().enumerate().filter(|(_, b)| *b != b'\n' && *b != b'\r').collect();
    let mut data = 0;
    let mut padding = 0;
    for (i, b) in &bytes {
        match b {
            b'=' if data % 4 >= 2 && padding + data % 4 < 4 => padding += 1,
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'+' | b'/' if padding == 0 => data += 1,
            _ => return bad(*i),
        }
    }
    let short = (data + padding) % 4 != 0;
    if short {
        // Go reports the start of the quantum it could not finish.
        let start = bytes.len() / 4 * 4;
        return bad(bytes.get(start).map_or(text.len(), |(i, _)| *i));
    }
    Ok(())
}

/// A time to the microsecond: all six digits are written, as Go's layout says.
fn check_micro_time(text: &str) -> Result<(), DecodeError> {
    let quoted = crate::field::go_quote(text);
    let wrong = |rest: &str, part: &str| {
        let rest = crate::field::go_quote(rest);
        let layout = "2006-01-02T15:04:05.000000Z07:00";
        Err(DecodeError(format!("parsing time {quoted} as \"{layout}\": cannot parse {rest} as \"{part}\"")))
    };
    if !super::structural::format_fits("date-time", text) {
        return wrong(text, "2006");
    }
    let rest = text.get("2006-01-02T15:04:05".len()..).unwrap_or_default();
    let digits = rest.strip_prefix('.').map_or(0, |r| r.bytes().take_while(u8::is_ascii_digit).count());
    if digits == 6 { Ok(()) } else { wrong(rest, ".000000") }
}

fn check_time(text: &str) -> Result<(), DecodeError> {
    if super::structural::format_fits("date-time", text) {
        return Ok(());
    }
    let quoted = crate::field::go_quote(text);
    Err(DecodeError(format!(
        "parsing time {quoted} as \"2006-01-02T15:04:05Z07:00\": cannot parse {quoted} as \"2006\""
    )))
}
