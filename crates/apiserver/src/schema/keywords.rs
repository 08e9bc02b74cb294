//! Value rules of custom types: the OpenAPI keywords, judged in the order and words of the validator upstream uses.

use std::sync::OnceLock;

use druse_object::{Value, value::Str};

use super::node::{Format, Node, Shape, Slot};
use crate::field::{FieldError, FieldErrorKind as ErrorKind, go_quote};

/// One `x-kubernetes-validations` entry.
#[derive(Clone, Debug, Default)]
pub struct Rule {
    /// The CEL expression.
    pub rule: Str,
    /// The message on failure.
    pub message: Option<Str>,
    /// A CEL expression that makes the message.
    pub message_expression: Option<Str>,
    /// The cause's reason (`FieldValueInvalid` by default).
    pub reason: Option<Str>,
    /// A field path, relative to the rule's place, that the error names.
    pub field_path: Option<Str>,
    /// Whether a transition rule runs without an old value.
    pub optional_old_self: bool,
}

/// The value keywords of one node.
#[derive(Debug, Default)]
pub struct Keywords {
    /// `enum`
    pub one_of_values: Vec<Value>,
    /// `minimum`
    pub minimum: Option<Value>,
    /// `maximum`
    pub maximum: Option<Value>,
    /// `exclusiveMinimum`
    pub exclusive_minimum: bool,
    /// `exclusiveMaximum`
    pub exclusive_maximum: bool,
    /// `multipleOf`
    pub multiple_of: Option<f64>,
    /// `minLength`
    pub min_length: Option<i64>,
    /// `maxLength`
    pub max_length: Option<i64>,
    /// `pattern`
    pub pattern: Option<Str>,
    /// `minItems`
    pub min_items: Option<i64>,
    /// `maxItems`
    pub max_items: Option<i64>,
    /// `uniqueItems`
    pub unique_items: bool,
    /// `minProperties`
    pub min_properties: Option<i64>,
    /// `maxProperties`
    pub max_properties: Option<i64>,
    /// `allOf`
    pub all_of: Vec<Slot>,
    /// `anyOf`
    pub any_of: Vec<Slot>,
    /// `oneOf`
    pub one_of: Vec<Slot>,
    /// `not`
    pub not: Option<Box<Slot>>,
    /// `additionalProperties: false`
    pub closed: bool,
    /// `x-kubernetes-validations`
    pub rules: Vec<Rule>,
    /// The pattern, compiled on first use; `None` inside when it cannot be.
    pub(crate) compiled: OnceLock<Option<regex::Regex>>,
}

impl Clone for Keywords {
    fn clone(&self) -> Self {
        Self {
            one_of_values: self.one_of_values.clone(),
            minimum: self.minimum.clone(),
            maximum: self.maximum.clone(),
            exclusive_minimum: self.exclusive_minimum,
            exclusive_maximum: self.exclusive_maximum,
            multiple_of: self.multiple_of,
            min_length: self.min_length,
            max_length: self.max_length,
            pattern: self.pattern.clone(),
            min_items: self.min_items,
            max_items: self.max_items,
            unique_items: self.unique_items,
            min_properties: self.min_properties,
            max_properties: self.max_properties,
            all_of: self.all_of.clone(),
            any_of: self.any_of.clone(),
            one_of: self.one_of.clone(),
            not: self.not.clone(),
            closed: self.closed,
            rules: self.rules.clone(),
            compiled: OnceLock::new(),
        }
    }
}

/// Judges `value` against the node; `path` is the field path so far (empty at the root). What equals its old value is
/// not judged again: objects that were stored before a rule came may be changed elsewhere (upstream's ratcheting).
pub(crate) fn check(value: &Value, old: Option<&Value>, node: &Node, path: &str, out: &mut Vec<FieldError>) {
    if old == Some(value) {
        return;
    }
    let name = if path.is_empty() { "<nil>" } else { path };
    let subject = if path.is_empty() { String::new() } else { format!("{path} ") };
    if !check_type(value, node, path, name, out) {
        return;
    }
    let invalid = |bad: Value, text: String| FieldError::invalid(name, bad, format!("{subject}in body {text}"));
    let words = node.keywords.as_deref();
    if let Some(k) = words {
        check_combinations(value, k, path, out);
        check_scalar(value, k, &invalid, name, out);
    }
    check_format(value, node, path, name, out);
    if let Value::Array(items) = value {
        if let Some(slot) = &node.items {
            for (i, item) in items.iter().enumerate() {
                check(item, correlated(item, old, node), slot.node(), &format!("{path}[{i}]"), out);
            }
        }
        if let Some(k) = words {
            let n = i64::try_from(items.len()).unwrap_or(i64::MAX);
            if let Some(min) = k.min_items.filter(|m| n < *m) {
                out.push(invalid(n.into(), format!("should have at least {min} items")));
            }
            if let Some(max) = k.max_items.filter(|m| n > *m) {
                out.push(too_many(name, n, max));
            }
            if k.unique_items && (1..items.len()).any(|i| items.iter().take(i).any(|x| Some(x) == items.get(i))) {
                out.push(invalid(Value::from(""), "shouldn't contain duplicates".into()));
            }
        }
    }
    if let Some(k) = words
        && !k.one_of_values.is_empty()
        && !k.one_of_values.contains(value)
    {
        out.push(not_supported(name, value.clone(), &k.one_of_values));
    }
    if let Value::Map(map) = value {
        let n = i64::try_from(map.len()).unwrap_or(i64::MAX);
        if let Some(k) = words {
            if let Some(min) = k.min_properties.filter(|m| n < *m) {
                out.push(invalid(n.into(), format!("should have at least {min} properties")));
            }
            if let Some(max) = k.max_properties.filter(|m| n > *m) {
                out.push(too_many(name, n, max));
            }
        }
        let join = |key: &str| if path.is_empty() { key.to_string() } else { format!("{path}.{key}") };
        for (key, v) in map.iter() {
            if let Some(slot) = node.child(key) {
                check(v, old.and_then(|o| o.get(key)), slot.node(), &join(key), out);
            } else if words.is_some_and(|k| k.closed) {
                let text = format!("{path}.{key} in body is a forbidden property");
                out.push(FieldError::invalid(name, "", text));
            }
        }
        for key in &node.required {
            if !map.contains_key(key) {
                out.push(FieldError::required(join(key), ""));
            }
        }
    }
}

/// The old item that a list item continues: for lists of maps the one with the same keys, otherwise none.
pub(crate) fn correlated<'a>(item: &Value, old: Option<&'a Value>, node: &Node) -> Option<&'a Value> {
    if node.list != super::node::ListType::Map || node.keys.is_empty() {
        return None;
    }
    old?.items().iter().find(|o| node.keys.iter().all(|k| o.get(k) == item.get(k)))
}

/// The JSON schema type names a value may have; false stops the walk below it.
fn check_type(value: &Value, node: &Node, path: &str, name: &str, out: &mut Vec<FieldError>) -> bool {
    let expected = match (node.shape, &node.format) {
        (_, Format::IntOrString) => "integer,string",
        (Shape::Any, _) => return true,
        (Shape::Bool, _) => "boolean",
        (Shape::Int, _) => "integer",
        (Shape::Number, _) => "number",
        (Shape::Str, _) => "string",
        (Shape::List, _) => "array",
        (Shape::Object, _) => "object",
    };
    let (actual, fits) = match value {
        Value::Null => ("null", node.nullable),
        Value::Bool(_) => ("boolean", expected == "boolean"),
        Value::Int(_) | Value::UInt(_) => ("integer", matches!(expected, "integer" | "number" | "integer,string")),
        Value::Float(f) => ("number", expected == "number" || expected.starts_with("integer") && f.fract() == 0.0),
        Value::String(_) => ("string", matches!(expected, "string" | "integer,string")),
        Value::Array(_) => ("array", expected == "array"),
        Value::Map(_) => ("object", expected == "object"),
    };
    if fits {
        return !value.is_null();
    }
    let subject = if path.is_empty() { String::new() } else { format!("{path} ") };
    let text = format!("{subject}in body must be of type {expected}: \"{actual}\"");
    out.push(FieldError::new(ErrorKind::TypeInvalid, name, Some(actual.into()), text));
    false
}

fn check_combinations(value: &Value, k: &Keywords, path: &str, out: &mut Vec<FieldError>) {
    let judge = |slot: &Slot| {
        let mut errors = Vec::new();
        check(value, None, slot.node(), path, &mut errors);
        errors
    };
    let plain = |text: String| FieldError::invalid("<nil>", "", text);
    let best = |all: Vec<Vec<FieldError>>| all.into_iter().min_by_key(Vec::len).unwrap_or_default();
    if !k.any_of.is_empty() {
        let results: Vec<_> = k.any_of.iter().map(judge).collect();
        if results.iter().all(|r| !r.is_empty()) {
            out.push(plain(format!("\"{path}\" must validate at least one schema (anyOf)")));
            out.extend(best(results));
        }
    }
    if !k.one_of.is_empty() {
        let results: Vec<_> = k.one_of.iter().map(judge).collect();
        match results.iter().filter(|r| r.is_empty()).count() {
            1 => {}
            0 => {
                out.push(plain(format!("\"{path}\" must validate one and only one schema (oneOf). Found none valid")));
                out.extend(best(results));
            }
            n => out.push(plain(format!(
                "\"{path}\" must validate one and only one schema (oneOf). Found {n} valid alternatives"
            ))),
        }
    }
    if !k.all_of.is_empty() {
        let results: Vec<_> = k.all_of.iter().map(judge).collect();
        let valid = results.iter().filter(|r| r.is_empty()).count();
        let total = results.len();
        out.extend(results.into_iter().flatten());
        if valid != total {
            let more = if valid == 0 { ". None validated" } else { "" };
            out.push(plain(format!("\"{path}\" must validate all the schemas (allOf){more}")));
        }
    }
    if let Some(not) = &k.not
        && judge(not).is_empty()
    {
        out.push(plain(format!("\"{path}\" must not validate the schema (not)")));
    }
}

fn check_scalar(
    value: &Value,
    k: &Keywords,
    invalid: &dyn Fn(Value, String) -> FieldError,
    name: &str,
    out: &mut Vec<FieldError>,
) {
    if let Value::String(s) = value {
        let n = i64::try_from(s.chars().count()).unwrap_or(i64::MAX);
        if let Some(max) = k.max_length.filter(|m| n > *m) {
            out.push(too_long(name, max));
        }
        if let Some(min) = k.min_length.filter(|m| n < *m) {
            out.push(invalid(value.clone(), format!("should be at least {min} chars long")));
        }
        if let Some(pattern) = &k.pattern {
            let regex = k.compiled.get_or_init(|| regex::RegexBuilder::new(pattern).size_limit(1 << 20).build().ok());
            if regex.as_ref().is_some_and(|r| !r.is_match(s)) {
                out.push(invalid(value.clone(), format!("should match '{pattern}'")));
            }
        }
    }
    if let Some(n) = value.as_f64() {
        let number = |v: &Value| v.as_f64();
        if let Some(factor) = k.multiple_of
            && factor > 0.0
            && ((n / factor) - (n / factor).round()).abs() > 1e-9
        {
            out.push(invalid(value.clone(), format!("should be a multiple of {factor}")));
        }
        if let Some(max) = &k.maximum
            && number(max).is_some_and(|m| n > m || k.exclusive_maximum && n >= m)
        {
            let text = if k.exclusive_maximum { "less than" } else { "less than or equal to" };
            out.push(invalid(value.clone(), format!("should be {text} {}", druse_object::json::to_string(max))));
        }
        if let Some(min) = &k.minimum
            && number(min).is_some_and(|m| n < m || k.exclusive_minimum && n <= m)
        {
            let text = if k.exclusive_minimum { "greater than" } else { "greater than or equal to" };
            out.push(invalid(value.clone(), format!("should be {text} {}", druse_object::json::to_string(min))));
        }
    }
}

/// Texts have their format, and whole numbers fit into their size.
fn check_format(value: &Value, node: &Node, path: &str, name: &str, out: &mut Vec<FieldError>) {
    if let (Value::String(s), Some(format)) = (value, format_name(node))
        && !super::structural::format_fits(format, s)
    {
        let subject = if path.is_empty() { String::new() } else { format!("{path} ") };
        let text = format!("{subject}in body must be of type {format}: {}", druse_object::json::to_string(value));
        out.push(FieldError::new(ErrorKind::TypeInvalid, name, Some(value.clone()), text));
    }
    let fits = |n: i64| i32::try_from(n).is_ok();
    if matches!(node.format, Format::Int32) && value.as_i64().is_some_and(|n| !fits(n)) {
        let text = format!("Checked value must be of type integer with format int32 in {path}");
        out.push(FieldError::invalid("<nil>", "", text));
    }
}

fn format_name(node: &Node) -> Option<&str> {
    match &node.format {
        Format::DateTime => Some("date-time"),
        Format::Byte => Some("byte"),
        Format::Other(s) => Some(s),
        _ => None,
    }
}

/// A list or map with too many entries.
pub(crate) fn too_many(name: &str, n: i64, max: i64) -> FieldError {
    let items = if max == 1 { "item" } else { "items" };
    FieldError::new(ErrorKind::TooMany, name, Some(n.into()), format!("must have at most {max} {items}"))
}

/// Text that is too long.
pub(crate) fn too_long(name: &str, max: i64) -> FieldError {
    let bytes = if max == 1 { "byte" } else { "bytes" };
    FieldError::new(ErrorKind::TooLong, name, None, format!("may not be more than {max} {bytes}"))
}

/// A value outside an enumeration of any values.
pub(crate) fn not_supported(name: &str, value: Value, allowed: &[Value]) -> FieldError {
    let quoted = |v: &Value| match v {
        Value::String(s) => go_quote(s),
        other => go_quote(&druse_object::json::to_string(other)),
    };
    let list: Vec<String> = allowed.iter().map(quoted).collect();
    FieldError::new(ErrorKind::NotSupported, name, Some(value), format!("supported values: {}", list.join(", ")))
}
