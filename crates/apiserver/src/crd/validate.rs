//! The rules a CRD object obeys: names, versions, structural schemas (`k8s.io/apiextensions-apiserver`
//! `apis/apiextensions/validation` and `apiserver/schema`).

use druse_object::{Map, Value};

use super::{flag, rules, text, versions};
use crate::field::FieldError;
use crate::schema::TypeSchema;
use crate::validate::is_dns1123_subdomain;

const MAX_DEPTH: usize = 100;

type Errors = Vec<FieldError>;

/// Judges a new CRD beyond its metadata; it is decoded and defaulted.
#[must_use]
pub fn validate_crd(crd: &Value) -> Errors {
    let mut out = Vec::new();
    let (group, plural) = (text(crd, &["spec", "group"]), text(crd, &["spec", "names", "plural"]));
    let name = text(crd, &["metadata", "name"]);
    let wanted = format!("{plural}.{group}");
    for (key, name) in [("generateName", text(crd, &["metadata", "generateName"])), ("name", name)] {
        if !name.is_empty() && name != wanted {
            let why = "must be spec.names.plural+\".\"+spec.group";
            out.push(FieldError::invalid(format!("metadata.{key}"), name, why));
        }
    }
    spec(crd, None, &mut out);
    approval(crd, None, &mut out);
    let stored = versions(crd).iter().any(|v| flag(v, "storage"));
    if !stored {
        let why = "must have at least one stored version";
        out.push(FieldError::invalid("status.storedVersions", Value::Null, why));
    }
    out
}

/// Judges a changed CRD.
#[must_use]
pub fn validate_crd_update(new: &Value, old: &Value) -> Errors {
    let mut out = Vec::new();
    spec(new, Some(old), &mut out);
    let established = super::is_condition_true(old, "Established");
    let mut fixed = |path: &[&str], always: bool| {
        let get = |v: &Value| path.iter().try_fold(v, |v, k| v.get(k)).cloned().unwrap_or_default();
        if (always || established) && get(new) != get(old) {
            out.push(FieldError::invalid(path.join("."), get(new), "field is immutable"));
        }
    };
    fixed(&["spec", "scope"], false);
    fixed(&["spec", "names", "kind"], false);
    fixed(&["spec", "group"], true);
    fixed(&["spec", "names", "plural"], true);
    stored_versions(new, &mut out);
    approval(new, Some(old), &mut out);
    out
}

fn stored_versions(crd: &Value, out: &mut Errors) {
    let stored = crd.at(["status", "storedVersions"]).map(Value::items).unwrap_or_default();
    let names: Vec<&str> = versions(crd).iter().map(|v| text(v, &["name"])).collect();
    for (i, v) in stored.iter().enumerate() {
        let v = v.as_str().unwrap_or_default();
        if !names.contains(&v) {
            out.push(FieldError::invalid(
                format!("status.storedVersions[{i}]"),
                v,
                format!(
                    "missing from spec.versions; {v} was previously a storage version, and must remain in spec.versions until a storage migration ensures no data remains persisted in {v} and removes {v} from status.storedVersions"
                ),
            ));
        }
    }
}

fn spec(crd: &Value, old: Option<&Value>, out: &mut Errors) {
    let group = text(crd, &["spec", "group"]);
    if group.is_empty() {
        out.push(FieldError::required("spec.group", ""));
    } else {
        let errors = is_dns1123_subdomain(group);
        if !errors.is_empty() {
            out.push(FieldError::invalid("spec.group", group, errors.join(",")));
        } else if !group.contains('.') {
            out.push(FieldError::invalid("spec.group", group, "should be a domain with at least one dot"));
        }
    }
    match text(crd, &["spec", "scope"]) {
        "Cluster" | "Namespaced" => {}
        "" => out.push(FieldError::required("spec.scope", "")),
        other => out.push(FieldError::not_supported("spec.scope", other, &["Cluster", "Namespaced"])),
    }
    let list = versions(crd);
    for (i, v) in list.iter().enumerate() {
        if v.at(["schema", "openAPIV3Schema"]).is_none() {
            out.push(FieldError::required(format!("spec.versions[{i}].schema.openAPIV3Schema"), ""));
        }
        deprecation(v, &format!("spec.versions[{i}].deprecationWarning"), out);
    }
    let mut names: Vec<&str> = Vec::new();
    let mut storage = 0;
    let mut unique = true;
    for (i, v) in list.iter().enumerate() {
        let name = text(v, &["name"]);
        let errors = crate::validate::NameRule::Label1035.errors(name, false);
        if !errors.is_empty() {
            out.push(FieldError::invalid(format!("spec.versions[{i}].name"), name, errors.join(",")));
        }
        unique &= !names.contains(&name);
        names.push(name);
        storage += usize::from(v.get("storage").and_then(Value::as_bool) == Some(true));
    }
    let shown = || match crd["spec"].get("versions") {
        Some(Value::Array(_)) => Value::Array(list.iter().map(go_version).collect()),
        _ => Value::Null,
    };
    if !unique {
        out.push(FieldError::invalid("spec.versions", shown(), "must contain unique version names"));
    }
    if storage != 1 {
        out.push(FieldError::invalid(
            "spec.versions",
            shown(),
            "must have exactly one version marked as storage version",
        ));
    }
    if let Some(first) = list.first().map(|v| text(v, &["name"])) {
        let errors = crate::validate::NameRule::Label1035.errors(first, false);
        if !errors.is_empty() {
            out.push(FieldError::invalid("spec.version", first, errors.join(",")));
        }
    }
    if crd.at(["spec", "preserveUnknownFields"]) == Some(&Value::Bool(true)) {
        let why =
            "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead";
        out.push(FieldError::invalid("spec.preserveUnknownFields", true, why));
    }
    for key in ["plural", "singular", "kind", "listKind"] {
        if text(crd, &["spec", "names", key]).is_empty() {
            out.push(FieldError::required(format!("spec.names.{key}"), ""));
        }
    }
    names_rules(crd, out);
    // One schema for all versions is one schema upstream: errors then name the place it has inside the server.
    let first = list.first().and_then(|v| v.get("schema"));
    let shared = list.iter().all(|v| v.get("schema") == first);
    for (i, v) in list.iter().enumerate() {
        let at = if shared {
            "spec.validation.openAPIV3Schema".to_string()
        } else {
            format!("spec.versions[{i}].schema.openAPIV3Schema")
        };
        if let Some(schema) = v.at(["schema", "openAPIV3Schema"]) {
            if !(shared && i > 0) {
                let named = |o: &&Value| o.get("name") == v.get("name");
                let before = old.and_then(|o| versions(o).iter().find(named));
                let unchanged = before.is_some_and(|o| o.at(["schema", "openAPIV3Schema"]) == Some(schema));
                root_schema(schema, &at, v, unchanged, out);
            }
            let alike = |key: &str| list.iter().all(|o| o.get(key) == v.get(key));
            let place = if alike("additionalPrinterColumns") && alike("selectableFields") {
                "spec".to_owned()
            } else {
                format!("spec.versions[{i}]")
            };
            if !(place == "spec" && i > 0) {
                columns(v, &place, out);
            }
            subresources(
                v,
                &if shared { "spec.subresources".to_string() } else { format!("spec.versions[{i}].subresources") },
                i > 0 && shared,
                out,
            );
        }
    }
    if let Some(conversion) = crd.at(["spec", "conversion"]) {
        match text(conversion, &["strategy"]) {
            "None" => {
                const UNUSED: &str = "should not be set when strategy is not set to Webhook";
                if conversion.at(["webhook", "clientConfig"]).is_some() {
                    out.push(FieldError::forbidden("spec.conversion.webhookClientConfig", UNUSED));
                }
                if conversion.at(["webhook", "conversionReviewVersions"]).is_some_and(|v| !v.items().is_empty()) {
                    out.push(FieldError::forbidden("spec.conversion.conversionReviewVersions", UNUSED));
                }
            }
            "Webhook" => webhook(&conversion["webhook"], out),
            "" => out.push(FieldError::required("spec.conversion.strategy", "")),
            other => out.push(FieldError::not_supported("spec.conversion.strategy", other, &["None", "Webhook"])),
        }
    }
}

/// A version as Go shows the struct when every version has the same schema, which then stands elsewhere.
fn go_version(v: &Value) -> Value {
    let mut m = Map::new();
    m.insert("Name", v["name"].clone());
    for (name, key) in [("Served", "served"), ("Storage", "storage"), ("Deprecated", "deprecated")] {
        m.insert(name, v[key].as_bool().unwrap_or(false));
    }
    m.insert("DeprecationWarning", v["deprecationWarning"].clone());
    for name in ["Schema", "Subresources", "AdditionalPrinterColumns", "SelectableFields"] {
        m.insert(name, Value::Null);
    }
    Value::Map(m)
}

fn deprecation(version: &Value, path: &str, out: &mut Errors) {
    const LONGEST: usize = 256;
    let Some(warning) = version.str_at(["deprecationWarning"]) else { return };
    let mut no = |why: String| out.push(FieldError::invalid(path, warning, why));
    if !flag(version, "deprecated") {
        return no("can only be set for deprecated versions".into());
    }
    if warning.len() > LONGEST {
        no(format!("must be <= {LONGEST} characters long"));
    }
    if warning.is_empty() {
        no("must not be an empty string".into());
    }
    if let Some((i, _)) = warning.char_indices().find(|(_, c)| c.is_control()) {
        no(format!("must only contain printable UTF-8 characters; non-printable character found at index {i}"));
    }
}

/// The webhook that converts.
fn webhook(webhook: &Value, out: &mut Errors) {
    let path = "spec.conversion.webhookClientConfig";
    let config = &webhook["clientConfig"];
    if config.is_null() {
        out.push(FieldError::required(path, "required when strategy is set to Webhook"));
    } else if config["url"].is_null() == config["service"].is_null() {
        out.push(FieldError::required(path, "exactly one of url or service is required"));
    } else {
        crate::validate::webhook_client(config, path, out);
    }
    let path = "spec.conversion.conversionReviewVersions";
    let versions = webhook["conversionReviewVersions"].items();
    if versions.is_empty() {
        out.push(FieldError::required(path, ""));
    } else if !versions.iter().any(|v| matches!(v.as_str(), Some("v1" | "v1beta1"))) {
        let shown = webhook["conversionReviewVersions"].clone();
        out.push(FieldError::invalid(path, shown, "must include at least one of v1, v1beta1"));
    }
}

/// Groups of the Kubernetes project want a link to who approved them.
pub(super) fn approval(new: &Value, old: Option<&Value>, out: &mut Errors) {
    const KEY: &str = "api-approved.kubernetes.io";
    const SEE: &str = "see https://github.com/kubernetes/enhancements/pull/1111";
    let group = text(new, &["spec", "group"]);
    let protected = ["k8s.io", "kubernetes.io"]
        .iter()
        .any(|g| group == *g || group.strip_suffix(g).is_some_and(|rest| rest.ends_with('.')));
    let said = |v: &Value| v.str_at(["metadata", "annotations", KEY]).map(str::to_owned);
    if !protected || old.is_some_and(|o| said(o) == said(new)) {
        return;
    }
    let path = format!("metadata.annotations[{KEY}]");
    let words = format!("protected groups must have approval annotation \"{KEY}\"");
    match said(new) {
        None => out.push(FieldError::required(path, format!("{words}, {SEE}"))),
        Some(s) if s.starts_with("unapproved") => {}
        Some(s) if s.split_once("://").is_some_and(|(scheme, rest)| !scheme.is_empty() && !rest.is_empty()) => {}
        Some(s) => {
            let why = format!("{words} with either a URL or a reason starting with \"unapproved\", {SEE}");
            out.push(FieldError::invalid(path, s, why));
        }
    }
}

/// What tables show of a version's objects, and what they can be selected by.
fn columns(version: &Value, path: &str, out: &mut Errors) {
    const TYPES: [&str; 5] = ["boolean", "date", "integer", "number", "string"];
    const FORMATS: [&str; 8] = ["byte", "date", "date-time", "double", "float", "int32", "int64", "password"];
    for (i, c) in version["additionalPrinterColumns"].items().iter().enumerate() {
        let path = format!("{path}.additionalPrinterColumns[{i}]");
        if text(c, &["name"]).is_empty() {
            out.push(FieldError::required(format!("{path}.name"), ""));
        }
        for (key, allowed) in [("type", &TYPES[..]), ("format", &FORMATS[..])] {
            let (v, why) = (text(c, &[key]), format!("must be one of {}", allowed.join(",")));
            if v.is_empty() && key == "type" {
                out.push(FieldError::required(format!("{path}.{key}"), why));
            } else if !v.is_empty() && !allowed.contains(&v) {
                out.push(FieldError::invalid(format!("{path}.{key}"), v, why));
            }
        }
        let at = format!("{path}.JSONPath");
        match text(c, &["jsonPath"]) {
            "" => out.push(FieldError::required(at, "")),
            p if !p.starts_with('.') => {
                out.push(FieldError::invalid(at, p, "must be a simple json path starting with ."));
            }
            _ => {}
        }
    }
    let mut seen: Vec<&str> = Vec::new();
    for (i, f) in version["selectableFields"].items().iter().enumerate() {
        let at = format!("{path}.selectableFields[{i}].jsonPath");
        let p = text(f, &["jsonPath"]);
        if p.is_empty() {
            out.push(FieldError::required(at, ""));
            continue;
        }
        if seen.contains(&p) {
            out.push(FieldError::duplicate(at, p));
            continue;
        }
        seen.push(p);
        let Some(rest) = p.strip_prefix('.') else {
            let word = p.split(['.', '[']).next().unwrap_or_default();
            out.push(FieldError::invalid(at, p, format!("is an invalid path: expected [ or . but got: {word}")));
            continue;
        };
        let schema = version.at(["schema", "openAPIV3Schema"]);
        let found = rest.split('.').try_fold(schema, |s, key| {
            let s = s.and_then(|s| s.get("properties")).and_then(|p| p.get(key));
            s.map(Some).filter(|_| key != "metadata")
        });
        match found.flatten().map(|s| text(s, &["type"])) {
            None => {
                out.push(FieldError::invalid(at, p, "is an invalid path: does not refer to a valid field"));
            }
            Some("string" | "boolean" | "integer") => {}
            Some(_) => {
                let why = "must point to a field of type string, boolean or integer. Enum string fields and strings with formats are allowed.";
                out.push(FieldError::invalid(at, p, why));
            }
        }
    }
}

fn names_rules(crd: &Value, out: &mut Errors) {
    let label = |v: &str, path: String, out: &mut Errors| {
        let errors = crate::validate::NameRule::Label1035.errors(v, false);
        if !v.is_empty() && !errors.is_empty() {
            out.push(FieldError::invalid(path, v, errors.join(",")));
        }
    };
    for key in ["plural", "singular"] {
        label(text(crd, &["spec", "names", key]), format!("spec.names.{key}"), out);
    }
    for key in ["kind", "listKind"] {
        let v = text(crd, &["spec", "names", key]);
        let errors = crate::validate::NameRule::Label1035.errors(&v.to_lowercase(), false);
        if !v.is_empty() && !errors.is_empty() {
            let text = format!("may have mixed case, but should otherwise match: {}", errors.join(","));
            out.push(FieldError::invalid(format!("spec.names.{key}"), v, text));
        }
    }
    let (kind, list_kind) = (text(crd, &["spec", "names", "kind"]), text(crd, &["spec", "names", "listKind"]));
    if !kind.is_empty() && kind == list_kind {
        out.push(FieldError::invalid("spec.names.listKind", list_kind, "kind and listKind may not be the same"));
    }
    for key in ["shortNames", "categories"] {
        let list = crd.at(["spec", "names"]).and_then(|n| n.get(key)).map(Value::items).unwrap_or_default();
        for (i, v) in list.iter().enumerate() {
            label(v.as_str().unwrap_or_default(), format!("spec.names.{key}[{i}]"), out);
        }
    }
}

fn subresources(version: &Value, path: &str, skip: bool, out: &mut Errors) {
    let Some(scale) = version.at(["subresources", "scale"]).filter(|_| !skip) else { return };
    for (key, under, words) in [
        ("specReplicasPath", ".spec.", "should be a json path under .spec"),
        ("statusReplicasPath", ".status.", "should be a json path under .status"),
    ] {
        let v = text(scale, &[key]);
        if v.is_empty() {
            out.push(FieldError::required(format!("{path}.scale.{key}"), ""));
        } else if !v.starts_with('.') {
            out.push(FieldError::invalid(
                format!("{path}.scale.{key}"),
                v,
                "must be a simple json path starting with .",
            ));
        } else if !v.starts_with(under) {
            out.push(FieldError::invalid(format!("{path}.scale.{key}"), v, words));
        }
    }
    let v = text(scale, &["labelSelectorPath"]);
    if !v.is_empty() && !v.starts_with('.') {
        let why = "must be a simple json path starting with .";
        out.push(FieldError::invalid(format!("{path}.scale.labelSelectorPath"), v, why));
    } else if !v.is_empty() && !v.starts_with(".spec.") && !v.starts_with(".status.") {
        out.push(FieldError::invalid(
            format!("{path}.scale.labelSelectorPath"),
            v,
            "should be a json path under either .spec or .status",
        ));
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Place {
    Root,
    Field,
    Item,
}

fn root_schema(schema: &Value, path: &str, version: &Value, unchanged: bool, out: &mut Errors) {
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

fn children<'a>(schema: &'a Value, path: &str) -> Vec<(&'a Value, String, Place)> {
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

fn combined<'a>(schema: &'a Value, path: &str) -> Vec<(&'a Value, String)> {
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
fn openapi(schema: &Value, path: &str, depth: usize, out: &mut Errors) {
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
            if !super::paths::leads_somewhere(schema, field) {
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

fn must_be(ty: &str, wanted: &str, path: &str, words: &str, out: &mut Errors) {
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

/// The structural rules: every field has a type, and combinations only restrict.
fn structural(schema: &Value, path: &str, place: Place, depth: usize, out: &mut Errors) {
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
fn defaults(schema: &Value, path: &str, depth: usize, out: &mut Errors) {
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
