//! Custom types: structural schemas as CRDs declare them (`apiextensions.k8s.io/v1` `JSONSchemaProps`), their
//! defaults, and the judgement of an object by them.

use std::sync::Arc;

use druse_object::{Value, value::Str};

use super::keywords::{Keywords, Rule, correlated};
use super::node::{Fields, Format, ListType, Node, Shape, Slot};
use super::types::TypeSchema;
use crate::field::{FieldError, FieldErrorKind as Kind};

/// How deep a schema or a walk along one may go.
const MAX_DEPTH: usize = 100;

/// A CRD's schema that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SchemaError(pub String);

/// What a CEL rule said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It holds.
    Holds,
    /// It does not; the text is `messageExpression`'s, when there is one.
    Fails(Option<String>),
    /// It could not be evaluated.
    Error(String),
}

/// Judges `x-kubernetes-validations` rules.
pub trait RuleEvaluator: Send + Sync {
    /// Whether the rule reads `oldSelf`, so that it runs only where there is an old value.
    fn is_transition(&self, rule: &Rule) -> bool;
    /// Evaluates a rule at a place of the object; `old` is the value that place had. `budget` is what evaluations of
    /// this object may still cost; the evaluator lowers it.
    fn evaluate(&self, rule: &Rule, value: &Value, old: Option<&Value>, node: &Node, budget: &mut u64) -> Verdict;
}

/// Reads a `JSONSchemaProps` value.
///
/// # Errors
/// When the schema is nested too deeply.
pub fn slot_from_json_schema(schema: &Value) -> Result<Slot, SchemaError> {
    read(schema, 0)
}

fn read(schema: &Value, depth: usize) -> Result<Slot, SchemaError> {
    if depth > MAX_DEPTH {
        return Err(SchemaError("the schema is nested too deeply".into()));
    }
    let flag = |key: &str| schema.get(key).and_then(Value::as_bool).unwrap_or(false);
    let sub = |v: &Value| read(v, depth + 1);
    let int_or_string = flag("x-kubernetes-int-or-string");
    let mut node = Node {
        shape: match schema.str_at(["type"]).unwrap_or_default() {
            "string" => Shape::Str,
            "integer" => Shape::Int,
            "number" => Shape::Number,
            "boolean" => Shape::Bool,
            "array" => Shape::List,
            "object" => Shape::Object,
            _ => Shape::Any,
        },
        format: match schema.str_at(["format"]).unwrap_or_default() {
            _ if int_or_string => Format::IntOrString,
            "" => Format::None,
            "int32" => Format::Int32,
            "int64" => Format::Int64,
            "date-time" => Format::DateTime,
            "byte" => Format::Byte,
            other => Format::Other(other.into()),
        },
        preserve: flag("x-kubernetes-preserve-unknown-fields"),
        embedded: flag("x-kubernetes-embedded-resource"),
        nullable: flag("nullable"),
        atomic: schema.str_at(["x-kubernetes-map-type"]) == Some("atomic"),
        list: match schema.str_at(["x-kubernetes-list-type"]) {
            Some("set") => ListType::Set,
            Some("map") => ListType::Map,
            _ => ListType::Atomic,
        },
        keys: strings(schema.get("x-kubernetes-list-map-keys")),
        required: strings(schema.get("required")),
        ..Node::default()
    };
    if let Some(fields) = schema.get("properties").and_then(Value::as_map) {
        let read: Result<Vec<_>, _> = fields.iter().map(|(k, v)| Ok((k.clone(), sub(v)?))).collect();
        node.fields = Fields::from_unsorted(read?);
    }
    match schema.get("additionalProperties") {
        Some(v @ Value::Map(_)) => node.values = Some(Box::new(sub(v)?)),
        Some(Value::Bool(true)) => {
            node.values = Some(Box::new(Slot::inline(Node { preserve: true, ..Node::default() })));
        }
        _ => {}
    }
    if let Some(items) = schema.get("items").filter(|v| v.as_map().is_some()) {
        node.items = Some(Box::new(sub(items)?));
    }
    node.keywords = read_keywords(schema, &sub)?;
    let mut slot = Slot::inline(node);
    slot.default = schema.get("default").filter(|v| !v.is_null()).cloned();
    Ok(slot)
}

fn strings(v: Option<&Value>) -> Vec<Str> {
    v.map(Value::items).unwrap_or_default().iter().filter_map(Value::as_str).map(Str::from).collect()
}

const VALUE_WORDS: [&str; 21] = [
    "enum",
    "minimum",
    "maximum",
    "multipleOf",
    "minLength",
    "maxLength",
    "pattern",
    "minItems",
    "maxItems",
    "uniqueItems",
    "minProperties",
    "maxProperties",
    "allOf",
    "anyOf",
    "oneOf",
    "not",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "additionalProperties",
    "x-kubernetes-validations",
    "x-kubernetes-int-or-string",
];

fn read_keywords(
    schema: &Value,
    sub: &dyn Fn(&Value) -> Result<Slot, SchemaError>,
) -> Result<Option<Box<Keywords>>, SchemaError> {
    if !VALUE_WORDS.iter().any(|w| schema.get(w).is_some()) {
        return Ok(None);
    }
    let int = |key: &str| schema.get(key).and_then(Value::as_i64);
    let number = |key: &str| schema.get(key).filter(|v| v.as_f64().is_some()).cloned();
    let flag = |key: &str| schema.get(key).and_then(Value::as_bool).unwrap_or(false);
    let list = |key: &str| {
        schema.get(key).map(Value::items).unwrap_or_default().iter().map(sub).collect::<Result<Vec<_>, _>>()
    };
    // Upstream drops these from int-or-string fields: they only say again what the flag says.
    let int_or_string = flag("x-kubernetes-int-or-string");
    let text = |v: &Value, key: &str| v.str_at([key]).filter(|s| !s.is_empty()).map(Str::from);
    let rules = schema.get("x-kubernetes-validations").map(Value::items).unwrap_or_default();
    Ok(Some(Box::new(Keywords {
        one_of_values: schema.get("enum").map(|v| v.items().to_vec()).unwrap_or_default(),
        minimum: number("minimum"),
        maximum: number("maximum"),
        exclusive_minimum: flag("exclusiveMinimum"),
        exclusive_maximum: flag("exclusiveMaximum"),
        multiple_of: schema.get("multipleOf").and_then(Value::as_f64),
        min_length: int("minLength"),
        max_length: int("maxLength"),
        pattern: text(schema, "pattern"),
        min_items: int("minItems"),
        max_items: int("maxItems"),
        unique_items: flag("uniqueItems"),
        min_properties: int("minProperties"),
        max_properties: int("maxProperties"),
        all_of: list("allOf")?,
        any_of: if int_or_string { Vec::new() } else { list("anyOf")? },
        one_of: list("oneOf")?,
        not: schema.get("not").map(sub).transpose()?.map(Box::new),
        closed: schema.get("additionalProperties") == Some(&Value::Bool(false)),
        rules: rules
            .iter()
            .map(|r| Rule {
                rule: text(r, "rule").unwrap_or_default(),
                message: text(r, "message"),
                message_expression: text(r, "messageExpression"),
                reason: text(r, "reason"),
                field_path: text(r, "fieldPath"),
                optional_old_self: r.get("optionalOldSelf").and_then(Value::as_bool).unwrap_or(false),
            })
            .collect(),
        ..Keywords::default()
    })))
}

/// Sets absent fields to their defaults, then drops nulls that are no values, as upstream does on every decode.
pub(crate) fn default_value(value: &mut Value, node: &Node) {
    fill(value, node, 0);
    drop_nulls(value, node, 0);
}

pub(crate) fn fill(value: &mut Value, node: &Node, depth: usize) {
    if depth > MAX_DEPTH {
        return;
    }
    match value {
        Value::Map(map) => {
            for (key, slot) in node.fields.iter() {
                let Some(default) = &slot.default else { continue };
                let absent = match map.get(key) {
                    None => true,
                    Some(v) => v.is_null() && !slot.node().nullable,
                };
                if absent {
                    map.insert(key.clone(), default.clone());
                }
            }
            for (key, v) in map.iter_mut() {
                let Some(slot) = node.child(key) else { continue };
                fill_null(v, slot);
                fill(v, slot.node(), depth + 1);
            }
        }
        Value::Array(items) => {
            let Some(slot) = &node.items else { return };
            for item in items {
                fill_null(item, slot);
                fill(item, slot.node(), depth + 1);
            }
        }
        _ => {}
    }
}

fn fill_null(value: &mut Value, slot: &Slot) {
    if let (Value::Null, Some(default), false) = (&*value, &slot.default, slot.node().nullable) {
        *value = default.clone();
    }
}

fn drop_nulls(value: &mut Value, node: &Node, depth: usize) {
    if depth > MAX_DEPTH {
        return;
    }
    match value {
        Value::Map(map) => map.retain(|key, v| {
            let Some(slot) = node.child(key) else { return true };
            if v.is_null() && !slot.node().nullable && slot.default.is_none() {
                return false;
            }
            drop_nulls(v, slot.node(), depth + 1);
            true
        }),
        Value::Array(items) => {
            if let Some(slot) = &node.items {
                items.iter_mut().for_each(|v| drop_nulls(v, slot.node(), depth + 1));
            }
        }
        _ => {}
    }
}

/// All that a custom type's schema says about an object, in upstream's order.
pub(crate) fn validate(value: &Value, old: Option<&Value>, schema: &TypeSchema) -> Vec<FieldError> {
    let node = schema.root.node();
    let mut out = Vec::new();
    super::keywords::check(value, old, node, "", &mut out);
    if let Some((spec, status)) = &schema.scale {
        check_replicas(value, spec, &mut out);
        check_replicas(value, status, &mut out);
    }
    check_embedded(value, node, "", &mut out);
    check_lists(value, old, node, "", &mut out);
    let blocked = out.iter().any(|e| {
        matches!(e.kind, Kind::NotSupported | Kind::Required | Kind::TooLong | Kind::TooMany | Kind::TypeInvalid)
    });
    if has_rules(node, 0) {
        if blocked {
            out.push(FieldError::invalid(
                "<nil>",
                Value::Null,
                "some validation rules were not checked because the object was invalid; \
                 correct the existing errors to complete validation",
            ));
        } else if let Some(evaluator) = &schema.evaluator {
            let mut budget = RULE_BUDGET;
            check_rules(value, old, node, "", evaluator, &mut budget, &mut out, 0);
        }
    }
    out
}

/// What the rules of one object may cost together (upstream's `RuntimeCELCostBudget`).
const RULE_BUDGET: u64 = 10_000_000;

fn check_replicas(value: &Value, path: &str, out: &mut Vec<FieldError>) {
    let go_kind = |v: &Value| match v {
        Value::String(_) => "string",
        Value::Bool(_) => "bool",
        Value::Int(_) | Value::UInt(_) => "int64",
        Value::Float(_) => "float64",
        Value::Array(_) => "[]interface {}",
        _ => "map[string]interface {}",
    };
    let shown = |v: &Value| v.as_str().map_or_else(|| druse_object::json::to_string(v), str::to_string);
    let mut found = value;
    for part in path.split('.').filter(|p| !p.is_empty()) {
        match found {
            Value::Map(m) => match m.get(part) {
                Some(v) => found = v,
                None => return,
            },
            Value::Null => return,
            other => {
                let (is, text) = (go_kind(other), shown(other));
                let text =
                    format!("{path} accessor error: {text} is of the type {is}, expected map[string]interface{{}}");
                out.push(FieldError::invalid(path, 0_i64, text));
                return;
            }
        }
    }
    match found {
        Value::Int(n) if *n < 0 => out.push(FieldError::invalid(path, *n, "should be a non-negative integer")),
        Value::Int(n) if *n > i64::from(i32::MAX) => {
            out.push(FieldError::invalid(path, *n, format!("should be less than or equal to {}", i32::MAX)));
        }
        Value::Int(_) | Value::Null => {}
        other => {
            let (shown, kind) = (shown(other), go_kind(other));
            let text = format!("{path} accessor error: {shown} is of the type {kind}, expected int64");
            out.push(FieldError::invalid(path, 0_i64, text));
        }
    }
}

fn join(path: &str, key: &str, is_field: bool) -> String {
    if !is_field {
        format!("{path}[{key}]")
    } else if path.is_empty() {
        key.to_string()
    } else {
        format!("{path}.{key}")
    }
}

/// Embedded objects say what they are and have valid metadata.
fn check_embedded(value: &Value, node: &Node, path: &str, out: &mut Vec<FieldError>) {
    match value {
        Value::Map(map) => {
            if node.embedded {
                for key in ["apiVersion", "kind"] {
                    if map.get(key).and_then(Value::as_str).is_none_or(str::is_empty) {
                        out.push(FieldError::required(join(path, key, true), ""));
                    }
                }
                if let Some(meta) = map.get("metadata") {
                    crate::validate::embedded_metadata(meta, &join(path, "metadata", true), out);
                }
            }
            for (key, v) in map.iter() {
                if let Some(slot) = node.child(key) {
                    check_embedded(v, slot.node(), &join(path, key, node.fields.get(key).is_some()), out);
                }
            }
        }
        Value::Array(items) => {
            if let Some(slot) = &node.items {
                for (i, item) in items.iter().enumerate() {
                    check_embedded(item, slot.node(), &format!("{path}[{i}]"), out);
                }
            }
        }
        _ => {}
    }
}

/// Sets hold no value twice, lists of maps no key twice.
fn check_lists(value: &Value, old: Option<&Value>, node: &Node, path: &str, out: &mut Vec<FieldError>) {
    if old == Some(value) {
        return;
    }
    match value {
        Value::Map(map) => {
            for (key, v) in map.iter() {
                if let Some(slot) = node.child(key) {
                    let old = old.and_then(|o| o.get(key));
                    check_lists(v, old, slot.node(), &join(path, key, node.fields.get(key).is_some()), out);
                }
            }
        }
        Value::Array(items) => {
            let Some(slot) = &node.items else { return };
            if node.list != ListType::Atomic {
                let key_of = |item: &Value| -> Value {
                    if node.list == ListType::Set {
                        return item.clone();
                    }
                    let mut key: druse_object::Map =
                        node.keys.iter().filter_map(|k| item.get(k).map(|v| (k.clone(), v.clone()))).collect();
                    key.sort_keys();
                    Value::Map(key)
                };
                let mut seen = std::collections::HashSet::new();
                for (i, item) in items.iter().enumerate() {
                    let key = key_of(item);
                    if !seen.insert(druse_object::json::to_string(&key)) {
                        out.push(FieldError::duplicate(format!("{path}[{i}]"), key));
                    }
                }
            }
            for (i, item) in items.iter().enumerate() {
                check_lists(item, correlated(item, old, node), slot.node(), &format!("{path}[{i}]"), out);
            }
        }
        _ => {}
    }
}

/// Whether the schema has any CEL rule.
pub(crate) fn has_rules(node: &Node, depth: usize) -> bool {
    if depth > MAX_DEPTH {
        return false;
    }
    node.keywords.as_ref().is_some_and(|k| !k.rules.is_empty())
        || node
            .fields
            .iter()
            .any(|(_, s)| matches!(s.target, super::node::Target::Inline(_)) && has_rules(s.node(), depth + 1))
        || node.values.as_ref().is_some_and(|s| has_rules(s.node(), depth + 1))
        || node.items.as_ref().is_some_and(|s| has_rules(s.node(), depth + 1))
}

#[allow(clippy::too_many_arguments)]
fn check_rules(
    value: &Value,
    old: Option<&Value>,
    node: &Node,
    path: &str,
    evaluator: &Arc<dyn RuleEvaluator>,
    budget: &mut u64,
    out: &mut Vec<FieldError>,
    depth: usize,
) {
    if depth > MAX_DEPTH {
        return;
    }
    let unchanged = old == Some(value);
    for rule in node.keywords.iter().flat_map(|k| &k.rules) {
        let transition = evaluator.is_transition(rule);
        if transition && old.is_none() && !rule.optional_old_self || !transition && unchanged {
            continue;
        }
        let name = if path.is_empty() { "<nil>" } else { path };
        let field = rule.field_path.as_ref().map_or_else(
            || name.to_string(),
            |p| {
                if path.is_empty() { p.trim_start_matches('.').to_string() } else { format!("{path}{p}") }
            },
        );
        let kind = match rule.reason.as_deref() {
            Some("FieldValueForbidden") => Kind::Forbidden,
            Some("FieldValueRequired") => Kind::Required,
            Some("FieldValueDuplicate") => Kind::Duplicate,
            _ => Kind::Invalid,
        };
        match evaluator.evaluate(rule, value, old, node, budget) {
            Verdict::Holds => {}
            Verdict::Fails(message) => {
                let text = message
                    .or_else(|| rule.message.as_ref().map(ToString::to_string))
                    .unwrap_or_else(|| format!("failed rule: {}", rule.rule.trim()));
                // Scalars are shown, lists and maps are not.
                let bad =
                    Some(value).filter(|v| !matches!(v, Value::Map(_) | Value::Array(_)) && kind == Kind::Invalid);
                out.push(FieldError::new(kind, field, bad.cloned(), text));
            }
            Verdict::Error(text) => out.push(FieldError::new(Kind::Invalid, field, None, text)),
        }
    }
    match value {
        Value::Map(map) => {
            for (key, v) in map.iter() {
                if let Some(slot) = node.child(key) {
                    let old = old.and_then(|o| o.get(key));
                    let path = join(path, key, node.fields.get(key).is_some());
                    check_rules(v, old, slot.node(), &path, evaluator, budget, out, depth + 1);
                }
            }
        }
        Value::Array(items) => {
            if let Some(slot) = &node.items {
                for (i, item) in items.iter().enumerate() {
                    let old = correlated(item, old, node);
                    check_rules(item, old, slot.node(), &format!("{path}[{i}]"), evaluator, budget, out, depth + 1);
                }
            }
        }
        _ => {}
    }
}

/// Whether text has a format that upstream's validator checks; unknown formats always fit.
pub(crate) fn format_fits(format: &str, text: &str) -> bool {
    let groups = |sizes: &[usize]| {
        let parts: Vec<&str> = text.split('-').collect();
        parts.len() == sizes.len()
            && parts.iter().zip(sizes).all(|(p, n)| p.len() == *n && p.bytes().all(|b| b.is_ascii_hexdigit()))
    };
    match format {
        "date-time" | "datetime" => {
            text.len() >= 20
                && text.as_bytes().get(10).is_some_and(|b| matches!(b, b'T' | b't'))
                && text.parse::<jiff::Timestamp>().is_ok()
        }
        "date" => text.len() == 10 && text.parse::<jiff::civil::Date>().is_ok(),
        "byte" => {
            use base64::Engine;
            base64::engine::general_purpose::STANDARD.decode(text).is_ok()
        }
        "ipv4" => text.parse::<std::net::Ipv4Addr>().is_ok(),
        "ipv6" => text.parse::<std::net::Ipv6Addr>().is_ok(),
        "cidr" => text.split_once('/').is_some_and(|(ip, bits)| {
            ip.parse::<std::net::IpAddr>()
                .is_ok_and(|ip| bits.parse::<u8>().is_ok_and(|b| b <= if ip.is_ipv4() { 32 } else { 128 }))
        }),
        "uuid" => groups(&[8, 4, 4, 4, 12]) || text.len() == 32 && text.bytes().all(|b| b.is_ascii_hexdigit()),
        "mac" => {
            let parts: Vec<&str> = text.split([':', '-']).collect();
            parts.len() == 6 && parts.iter().all(|p| p.len() == 2 && p.bytes().all(|b| b.is_ascii_hexdigit()))
        }
        "email" => text.split_once('@').is_some_and(|(a, b)| !a.is_empty() && !b.is_empty() && !b.contains('@')),
        "uri" => {
            text.starts_with('/')
                || text.split_once(':').is_some_and(|(scheme, rest)| {
                    !rest.is_empty()
                        && scheme.starts_with(|c: char| c.is_ascii_alphabetic())
                        && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b))
                })
        }
        "hostname" => {
            text.len() <= 255
                && text.split('.').all(|p| {
                    !p.is_empty()
                        && p.len() <= 63
                        && !p.starts_with('-')
                        && !p.ends_with('-')
                        && p.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
                })
        }
        "duration" => duration_fits(text),
        _ => true,
    }
}

/// Go's `time.ParseDuration`, or a number followed by one unit's name.
fn duration_fits(text: &str) -> bool {
    let mut rest = text.trim_start_matches(['+', '-']);
    if rest == "0" {
        return true;
    }
    if rest.is_empty() {
        return false;
    }
    while !rest.is_empty() {
        let number = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        if number == 0 {
            return false;
        }
        rest = rest.get(number..).unwrap_or_default().trim_start();
        let unit = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        let (name, more) = rest.split_at(unit);
        let known = [
            "ns", "us", "µs", "ms", "s", "m", "h", "d", "w", "day", "days", "hour", "hours", "minute", "minutes",
            "second", "seconds", "week", "weeks",
        ];
        if !known.contains(&name.trim()) {
            return false;
        }
        rest = more;
    }
    true
}
