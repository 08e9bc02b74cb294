//! The structural rules: every field has a type, combinations only restrict, and defaults are values of their schema.

use druse_object::{Map, Value};

use super::Errors;
use super::schema::{MAX_DEPTH, Place, children, combined, must_be};
use crate::crd::{flag, text};
use crate::field::FieldError;
use crate::schema::TypeSchema;

/// The structural rules: every field has a type, and combinations only restrict.
pub(super) fn structural(schema: &Value, path: &str, place: Place, depth: usize, out: &mut Errors) {
    if depth > MAX_DEPTH {
        return;
    }
    let ty = text(schema, &["type"]);
    let (embedded, int_or_string, preserve) = (
        flag(schema, "x-kubernetes-embedded-resource"),
        flag(schema, "x-kubernetes-int-or-string"),
        flag(schema, "x-kubernetes-preserve-unknown-fields"),
    );
    let is = |key: &str| format!("{path}.{key}");
    if ty == "array" && schema.get("items").is_none() {
        out.push(FieldError::required(is("items"), "must be specified"));
    }
    if place == Place::Root && schema.get("additionalProperties").is_some() {
        out.push(FieldError::forbidden(is("additionalProperties"), "must not be used at the root"));
    }
    if embedded && ty != "object" {
        must_be(ty, "object", &is("type"), "must be object if x-kubernetes-embedded-resource is true", out);
    } else if ty.is_empty() && !int_or_string && !preserve {
        let words = match place {
            Place::Root => "must not be empty at the root",
            Place::Item => "must not be empty for specified array items",
            Place::Field => "must not be empty for specified object fields",
        };
        out.push(FieldError::required(is("type"), words));
    }
    if embedded && schema.get("additionalProperties").is_some() {
        out.push(FieldError::forbidden(
            is("additionalProperties"),
            "must not be used if x-kubernetes-embedded-resource is set",
        ));
    }
    if place == Place::Root && !ty.is_empty() && ty != "object" {
        out.push(FieldError::invalid(is("type"), ty, "must be object at the root"));
    }
    if embedded && !preserve && schema.get("properties").and_then(Value::as_map).is_none_or(Map::is_empty) {
        out.push(FieldError::required(
            is("properties"),
            "must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields",
        ));
    }
    if int_or_string && preserve {
        out.push(FieldError::invalid(
            is("x-kubernetes-preserve-unknown-fields"),
            true,
            "must be false if x-kubernetes-int-or-string is true",
        ));
    }
    if int_or_string && embedded {
        out.push(FieldError::invalid(
            is("x-kubernetes-embedded-resource"),
            true,
            "must be false if x-kubernetes-int-or-string is true",
        ));
    }
    if let Some(pattern) = schema.str_at(["pattern"])
        && let Err(e) = regex::Regex::new(pattern)
    {
        out.push(FieldError::invalid(
            is("pattern"),
            pattern,
            format!("must be a valid regular expression, but isn't: {e}"),
        ));
    }
    if place == Place::Root || embedded {
        for key in ["apiVersion", "kind"] {
            let ty = schema.get("properties").and_then(|p| p.get(key)).map(|s| text(s, &["type"]));
            if let Some(ty) = ty.filter(|t| *t != "string") {
                out.push(FieldError::invalid(format!("{path}.properties[{key}].type"), ty, "must be string"));
            }
        }
    }
    if let Some(meta) =
        schema.get("properties").and_then(|p| p.get("metadata")).filter(|_| place == Place::Root || embedded)
    {
        metadata_schema(meta, &format!("{path}.properties[metadata]"), out);
    }
    for (v, at, place) in children(schema, path) {
        structural(v, &at, place, depth + 1, out);
    }
    for (v, at) in combined(schema, path) {
        nested(v, schema, &at, int_or_string, depth + 1, out);
    }
}

fn metadata_schema(meta: &Value, path: &str, out: &mut Errors) {
    if text(meta, &["type"]) != "object" {
        out.push(FieldError::invalid(format!("{path}.type"), text(meta, &["type"]), "must be object"));
    }
    let only_names = meta
        .as_map()
        .into_iter()
        .flat_map(Map::iter)
        .all(|(k, _)| ["type", "properties", "description", "title"].contains(&k.as_str()))
        && meta
            .get("properties")
            .and_then(Value::as_map)
            .into_iter()
            .flat_map(Map::iter)
            .all(|(k, _)| k == "name" || k == "generateName");
    if !only_names {
        out.push(FieldError::forbidden(
            path,
            "must not specify anything other than name and generateName, but metadata is implicitly specified",
        ));
    }
}

/// A schema inside `allOf`, `anyOf`, `oneOf` or `not`.
fn nested(schema: &Value, outer: &Value, path: &str, int_or_string: bool, depth: usize, out: &mut Errors) {
    if depth > MAX_DEPTH {
        return;
    }
    let set = |key: &str| match schema.get(key) {
        None | Some(Value::Null | Value::Bool(false)) => false,
        Some(Value::String(s)) => !s.is_empty(),
        Some(Value::Array(a)) => !a.is_empty(),
        Some(_) => true,
    };
    // The two forms that say `integer or string` again are allowed to name types.
    if !int_or_string && set("type") {
        out.push(FieldError::forbidden(format!("{path}.type"), "must be empty to be structural"));
    }
    for (key, words) in [
        ("additionalProperties", "must be undefined to be structural"),
        ("default", "must be undefined to be structural"),
        ("title", "must be empty to be structural"),
        ("description", "must be empty to be structural"),
        ("nullable", "must be false to be structural"),
        ("x-kubernetes-preserve-unknown-fields", "must be false to be structural"),
        ("x-kubernetes-embedded-resource", "must be false to be structural"),
        ("x-kubernetes-int-or-string", "must be false to be structural"),
        ("x-kubernetes-list-map-keys", "must be empty to be structural"),
        ("x-kubernetes-list-type", "must be undefined to be structural"),
        ("x-kubernetes-map-type", "must be undefined to be structural"),
    ] {
        if set(key) {
            out.push(FieldError::forbidden(format!("{path}.{key}"), words));
        }
    }
    let preserve = flag(outer, "x-kubernetes-preserve-unknown-fields");
    for (k, v) in schema.get("properties").and_then(Value::as_map).into_iter().flat_map(Map::iter) {
        let at = format!("{path}.properties[{k}]");
        match outer.get("properties").and_then(|p| p.get(k)) {
            Some(o) => nested(v, o, &at, false, depth + 1, out),
            None if preserve => nested(v, &Value::Null, &at, false, depth + 1, out),
            None => {
                out.push(FieldError::required(base_of_combination(&at), format!("because it is defined in {at}")));
            }
        }
    }
    for (v, at) in combined(schema, path) {
        nested(v, outer, &at, int_or_string, depth + 1, out);
    }
}

/// The path without its combinations: where a property has to be declared.
fn base_of_combination(path: &str) -> String {
    let mut out = String::new();
    for part in path.split('.') {
        let word = part.split('[').next().unwrap_or_default();
        if ["allOf", "anyOf", "oneOf", "not"].contains(&word) {
            continue;
        }
        if !out.is_empty() {
            out.push('.');
        }
        out.push_str(part);
    }
    out
}

/// Defaults are values of their own schema.
pub(super) fn defaults(schema: &Value, path: &str, depth: usize, out: &mut Errors) {
    if depth > MAX_DEPTH {
        return;
    }
    if let Some(default) = schema.get("default").filter(|v| !v.is_null()) {
        let at = format!("{path}.default");
        if let Ok(slot) = crate::schema::slot_from_json_schema(schema) {
            let ty = TypeSchema {
                gvk: druse_object::Gvk::default(),
                root: slot,
                builtin: false,
                scale: None,
                status_subresource: false,
                evaluator: None,
            };
            let mut pruned = default.clone();
            if !ty.prune(&mut pruned).is_empty() {
                out.push(FieldError::invalid(at.as_str(), default.clone(), "must not have unknown fields"));
            }
            for mut e in ty.validate(default, None) {
                if e.detail.starts_with("some validation rules") {
                    continue;
                }
                e.field = if e.field == "<nil>" { at.clone() } else { format!("{at}.{}", e.field) };
                if e.detail.starts_with("in body") {
                    // Upstream names the value here, which has no name.
                    e.detail.insert(0, ' ');
                }
                out.push(e);
            }
        }
    }
    for (v, at, _) in children(schema, path) {
        defaults(v, &at, depth + 1, out);
    }
}
