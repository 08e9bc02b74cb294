//! What the schema of a CRD's version may say: what CRDs may not use at all, and how extensions go together.

use druse_object::{Map, Value};

use super::Errors;
use super::structural::{defaults, structural};
use crate::crd::{flag, rules, text};
use crate::field::FieldError;

/// How deep a schema is looked into.
pub(super) const MAX_DEPTH: usize = 100;

/// Where a schema stands in the one around it.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Place {
    Root,
    Field,
    Item,
}

pub(super) fn root_schema(schema: &Value, path: &str, version: &Value, unchanged: bool, out: &mut Errors) {
    if version.at(["subresources", "status"]).is_some()
        && text(schema, &["type"]) != "object"
        && !text(schema, &["type"]).is_empty()
    {
        out.push(FieldError::invalid(
            format!("{path}.type"),
            text(schema, &["type"]),
            "only \"object\" is allowed as the type at the root of the schema if the status subresource is enabled",
        ));
    }
    if schema.get("nullable").and_then(Value::as_bool) == Some(true) {
        out.push(FieldError::forbidden(format!("{path}.nullable"), "nullable cannot be true at the root"));
    }
    let before = out.len();
    openapi(schema, path, 0, out);
    if out.len() == before {
        structural(schema, path, Place::Root, 0, out);
    }
    if out.len() == before {
        defaults(schema, path, 0, out);
    }
    if out.len() == before {
        rules::judge(schema, path, unchanged, out);
    }
}

pub(super) fn children<'a>(schema: &'a Value, path: &str) -> Vec<(&'a Value, String, Place)> {
    let mut out = Vec::new();
    if let Some(v) = schema.get("items").filter(|v| v.as_map().is_some()) {
        out.push((v, format!("{path}.items"), Place::Item));
    }
    if let Some(v) = schema.get("additionalProperties").filter(|v| v.as_map().is_some()) {
        out.push((v, format!("{path}.additionalProperties"), Place::Field));
    }
    for (k, v) in schema.get("properties").and_then(Value::as_map).into_iter().flat_map(Map::iter) {
        out.push((v, format!("{path}.properties[{k}]"), Place::Field));
    }
    out
}

pub(super) fn combined<'a>(schema: &'a Value, path: &str) -> Vec<(&'a Value, String)> {
    let mut out = Vec::new();
    for key in ["allOf", "anyOf", "oneOf"] {
        for (i, v) in schema.get(key).map(Value::items).unwrap_or_default().iter().enumerate() {
            out.push((v, format!("{path}.{key}[{i}]")));
        }
    }
    out.extend(schema.get("not").map(|v| (v, format!("{path}.not"))));
    out
}

/// What CRDs may not use at all, and how extensions go together.
pub(super) fn openapi(schema: &Value, path: &str, depth: usize, out: &mut Errors) {
    if depth > MAX_DEPTH {
        out.push(FieldError::invalid(path, "", "the schema is nested too deeply"));
        return;
    }
    let has = |key: &str| schema.get(key).is_some();
    if flag(schema, "uniqueItems") {
        out.push(FieldError::forbidden(
            format!("{path}.uniqueItems"),
            "uniqueItems cannot be set to true since the runtime complexity becomes quadratic",
        ));
    }
    if has("properties") && schema.get("additionalProperties").is_some_and(|v| *v != Value::Bool(false)) {
        out.push(FieldError::forbidden(
            format!("{path}.additionalProperties"),
            "additionalProperties and properties are mutual exclusive",
        ));
    }
    for key in ["id", "additionalItems", "patternProperties", "definitions", "dependencies", "$ref"] {
        if has(key) {
            out.push(FieldError::forbidden(format!("{path}.{key}"), format!("{key} is not supported")));
        }
    }
    let ty = text(schema, &["type"]);
    let types = ["array", "boolean", "integer", "number", "object", "string"];
    if ty == "null" {
        out.push(FieldError::forbidden(
            format!("{path}.type"),
            "type cannot be set to null, use nullable as an alternative",
        ));
    } else if !ty.is_empty() && !types.contains(&ty) {
        out.push(FieldError::not_supported(format!("{path}.type"), ty, &types));
    }
    if schema.get("items").is_some_and(|v| v.as_array().is_some()) {
        out.push(FieldError::forbidden(format!("{path}.items"), "items must be a schema object and not an array"));
    }
    if schema.get("x-kubernetes-preserve-unknown-fields") == Some(&Value::Bool(false)) {
        out.push(FieldError::invalid(
            format!("{path}.x-kubernetes-preserve-unknown-fields"),
            false,
            "must be true or undefined",
        ));
    }
    if let Some(map_type) = schema.str_at(["x-kubernetes-map-type"]) {
        must_be(ty, "object", &format!("{path}.type"), "must be object if x-kubernetes-map-type is specified", out);
        if !["atomic", "granular"].contains(&map_type) {
            out.push(FieldError::not_supported(
                format!("{path}.x-kubernetes-map-type"),
                map_type,
                &["atomic", "granular"],
            ));
        }
    }
    list_type(schema, path, ty, out);
    for (i, rule) in schema.get("x-kubernetes-validations").map(Value::items).unwrap_or_default().iter().enumerate() {
        let at = format!("{path}.x-kubernetes-validations[{i}]");
        let (code, message) = (text(rule, &["rule"]).trim(), text(rule, &["message"]));
        let broken = |text: &str| text.contains(['\n', '\r']);
        if code.is_empty() {
            out.push(FieldError::required(format!("{at}.rule"), "rule is not specified"));
        } else if !message.is_empty() && message.trim().is_empty() {
            out.push(FieldError::invalid(format!("{at}.message"), message, "must be non-empty if specified"));
        } else if broken(message.trim()) {
            out.push(FieldError::invalid(format!("{at}.message"), message, "must not contain line breaks"));
        } else if broken(code) && message.is_empty() {
            out.push(FieldError::required(
                format!("{at}.message"),
                "message must be specified if rule contains line breaks",
            ));
        }
        let said = text(rule, &["messageExpression"]);
        if !said.is_empty() && said.trim().is_empty() {
            let why = "messageExpression must be non-empty if specified";
            out.push(FieldError::required(format!("{at}.messageExpression"), why));
        }
        let field = text(rule, &["fieldPath"]);
        if !field.is_empty() {
            let mut wrong = |why: &str| out.push(FieldError::invalid(format!("{at}.fieldPath"), field, why));
            if field.trim().is_empty() {
                wrong("must be non-empty if specified");
            }
            if broken(field) {
                wrong("must not contain line breaks");
            }
            if !crate::crd::paths::leads_somewhere(schema, field) {
                wrong("must be a valid path");
            }
        }
        if let Some(reason) = rule.str_at(["reason"]).filter(|r| !r.is_empty()) {
            let known = ["FieldValueDuplicate", "FieldValueForbidden", "FieldValueInvalid", "FieldValueRequired"];
            if !known.contains(&reason) {
                out.push(FieldError::not_supported(format!("{at}.reason"), reason, &known));
            }
        }
    }
    for (v, at, _) in children(schema, path) {
        openapi(v, &at, depth + 1, out);
    }
    for (v, at) in combined(schema, path) {
        if v.get("default").is_some() {
            out.push(FieldError::forbidden(format!("{at}.default"), "must be undefined to be structural"));
        }
    }
}

pub(super) fn must_be(ty: &str, wanted: &str, path: &str, words: &str, out: &mut Errors) {
    if ty.is_empty() {
        out.push(FieldError::required(path, words));
    } else if ty != wanted {
        out.push(FieldError::invalid(path, ty, words));
    }
}

fn list_type(schema: &Value, path: &str, ty: &str, out: &mut Errors) {
    let keys = schema.get("x-kubernetes-list-map-keys").map(Value::items).unwrap_or_default();
    let list = schema.str_at(["x-kubernetes-list-type"]);
    let items = schema.get("items").filter(|v| v.as_map().is_some());
    if let Some(list) = list {
        must_be(ty, "array", &format!("{path}.type"), "must be array if x-kubernetes-list-type is specified", out);
        if !["atomic", "set", "map"].contains(&list) {
            out.push(FieldError::not_supported(
                format!("{path}.x-kubernetes-list-type"),
                list,
                &["atomic", "set", "map"],
            ));
        }
        if list == "set"
            && let Some(items) = items
        {
            let words = "must be atomic as item of a list with x-kubernetes-list-type=set";
            match text(items, &["type"]) {
                "array" if items.str_at(["x-kubernetes-list-type"]).is_some_and(|t| t != "atomic") => {
                    out.push(FieldError::invalid(
                        format!("{path}.items.x-kubernetes-list-type"),
                        text(items, &["x-kubernetes-list-type"]),
                        words,
                    ));
                }
                "object" if items.str_at(["x-kubernetes-map-type"]) != Some("atomic") => {
                    out.push(FieldError::invalid(format!("{path}.items.x-kubernetes-map-type"), Value::Null, words));
                }
                _ => {}
            }
        }
    }
    let at = format!("{path}.x-kubernetes-list-map-keys");
    if !keys.is_empty() && list != Some("map") {
        let words = "must be map if x-kubernetes-list-map-keys is non-empty";
        out.push(match list {
            None => FieldError::required(format!("{path}.x-kubernetes-list-type"), words),
            Some(l) => FieldError::invalid(format!("{path}.x-kubernetes-list-type"), l, words),
        });
    }
    if list != Some("map") {
        return;
    }
    if keys.is_empty() {
        out.push(FieldError::required(at.as_str(), "must not be empty if x-kubernetes-list-type is map"));
    }
    let Some(items) = items else {
        out.push(FieldError::required(format!("{path}.items"), "must have a schema if x-kubernetes-list-type is map"));
        return;
    };
    if text(items, &["type"]) != "object" {
        out.push(FieldError::invalid(
            format!("{path}.items.type"),
            text(items, &["type"]),
            "must be object if parent array's x-kubernetes-list-type is map",
        ));
    }
    let all = || schema.get("x-kubernetes-list-map-keys").cloned().unwrap_or_default();
    for (i, key) in keys.iter().filter_map(Value::as_str).enumerate() {
        match items.get("properties").and_then(|p| p.get(key)) {
            None => out.push(FieldError::invalid(at.as_str(), all(), "entries must all be names of item properties")),
            Some(p) => {
                if ["array", "object"].contains(&text(p, &["type"])) {
                    out.push(FieldError::invalid(
                        format!("{path}.items.properties[{key}].type"),
                        text(items, &["type"]),
                        "must be a scalar type if parent array's x-kubernetes-list-type is map",
                    ));
                }
                let required = items.get("required").is_some_and(|r| r.items().iter().any(|v| v.as_str() == Some(key)));
                if !required && p.get("default").is_none() {
                    out.push(FieldError::required(format!("{path}.items.properties[{key}].default"), "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property"));
                }
                if flag(p, "nullable") {
                    out.push(FieldError::forbidden(
                        format!("{path}.items.properties[{key}].nullable"),
                        "this property is in x-kubernetes-list-map-keys, so it cannot be nullable",
                    ));
                }
            }
        }
        if keys.iter().take(i).any(|k| k.as_str() == Some(key)) {
            out.push(FieldError::invalid(at.as_str(), all(), "must not contain duplicate entries"));
        }
    }
}
