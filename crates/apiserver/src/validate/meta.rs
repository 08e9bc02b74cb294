//! Object metadata: names, labels, annotations, owners, finalizers (`k8s.io/apimachinery/pkg/api/validation`).

use druse_object::{Map, Value};

use super::at::{Errors, each};
use super::names::{NameRule, is_dns1123_subdomain, is_qualified_name, label_value_errors};
use crate::field::{FieldError, FieldErrorKind};

const ANNOTATIONS_MAX: usize = 256 * 1024;

/// Labels at a path.
pub(crate) fn labels(value: Option<&Value>, path: &str, out: &mut Errors) {
    for (k, v) in value.and_then(Value::as_map).into_iter().flat_map(Map::iter) {
        each(is_qualified_name(k), path, k, out);
        let v = v.as_str().unwrap_or_default();
        each(label_value_errors(v), path, v, out);
    }
}

/// Annotations at a path.
pub(crate) fn annotations(value: Option<&Value>, path: &str, out: &mut Errors) {
    let mut total = 0;
    for (k, v) in value.and_then(Value::as_map).into_iter().flat_map(Map::iter) {
        each(is_qualified_name(&k.to_lowercase()), path, k, out);
        total += k.len() + v.as_str().map_or(0, str::len);
    }
    if total > ANNOTATIONS_MAX {
        let text = format!("may not be more than {ANNOTATIONS_MAX} bytes");
        out.push(FieldError::new(FieldErrorKind::TooLong, path, None, text));
    }
}

fn owners(value: Option<&Value>, path: &str, out: &mut Errors) {
    let mut controller: Option<String> = None;
    for owner in value.map(Value::items).unwrap_or_default() {
        let text = |key: &str| owner.str_at([key]).unwrap_or_default();
        let (api, kind, name) = (text("apiVersion"), text("kind"), text("name"));
        // Upstream reports all owners' fields at the list's own path.
        if api.is_empty() {
            out.push(FieldError::invalid(format!("{path}.apiVersion"), api, "version must not be empty"));
        }
        if kind.is_empty() {
            out.push(FieldError::invalid(format!("{path}.kind"), "", "must not be empty"));
        }
        if name.is_empty() {
            out.push(FieldError::invalid(format!("{path}.name"), "", "must not be empty"));
        }
        if text("uid").is_empty() {
            out.push(FieldError::invalid(format!("{path}.uid"), "", "must not be empty"));
        }
        if kind == "Event" && matches!(api, "v1" | "events.k8s.io/v1") {
            let (group, version) = api.rsplit_once('/').unwrap_or(("", api));
            let why = format!("{group}/{version}, Kind={kind} is disallowed from being an owner");
            out.push(FieldError::invalid(path, owner.clone(), why));
        }
        if owner.get("controller").and_then(Value::as_bool) == Some(true) {
            let me = format!("{kind}/{name}");
            if let Some(other) = &controller {
                out.push(FieldError::invalid(
                    path,
                    value.cloned().unwrap_or_default(),
                    format!(
                        "Only one reference can have Controller set to true. Found \"true\" in references for {other} and {me}"
                    ),
                ));
            } else {
                controller = Some(me);
            }
        }
    }
}

fn finalizers(value: Option<&Value>, path: &str, core: bool, out: &mut Errors) {
    let items = value.map(Value::items).unwrap_or_default();
    for f in items.iter().filter_map(Value::as_str) {
        each(is_qualified_name(f), path, f, out);
    }
    let has = |name: &str| items.iter().any(|f| f.as_str() == Some(name));
    if has("orphan") && has("foregroundDeletion") {
        out.push(FieldError::invalid(
            path,
            value.cloned().unwrap_or_default(),
            "finalizer orphan and foregroundDeletion cannot be both set",
        ));
    }
    if core {
        for (i, f) in items.iter().enumerate() {
            let f = f.as_str().unwrap_or_default();
            if !f.contains('/') && !["kubernetes", "orphan", "foregroundDeletion"].contains(&f) {
                let text = "name is neither a standard finalizer name nor is it fully qualified";
                out.push(FieldError::invalid(format!("{path}[{i}]"), f, text));
            }
        }
    }
}

/// Judges the metadata of a new object. `core` adds what upstream's built-in kinds check beyond custom ones.
#[must_use]
pub fn validate_metadata(object: &Value, namespaced: bool, rule: NameRule, core: bool) -> Vec<FieldError> {
    let mut out = Vec::new();
    let text = |key: &str| object.str_at(["metadata", key]).unwrap_or_default();
    let generate = text("generateName");
    if !generate.is_empty() {
        each(rule.errors(generate, true), "metadata.generateName", generate, &mut out);
    }
    let name = text("name");
    if name.is_empty() {
        out.push(FieldError::required("metadata.name", "name or generateName is required"));
    } else {
        each(rule.errors(name, false), "metadata.name", name, &mut out);
    }
    let namespace = text("namespace");
    if namespaced {
        if namespace.is_empty() {
            out.push(FieldError::required("metadata.namespace", ""));
        } else {
            each(NameRule::Label.errors(namespace, false), "metadata.namespace", namespace, &mut out);
        }
    } else if !namespace.is_empty() {
        out.push(FieldError::forbidden("metadata.namespace", "not allowed on this type"));
    }
    if object.at(["metadata", "generation"]).and_then(Value::as_i64).is_some_and(|g| g < 0) {
        let g = object.at(["metadata", "generation"]).cloned().unwrap_or_default();
        out.push(FieldError::invalid("metadata.generation", g, "must be greater than or equal to 0"));
    }
    common(object, core, &mut out);
    out
}

fn common(object: &Value, core: bool, out: &mut Errors) {
    let meta = |key: &str| object.at(["metadata", key]);
    labels(meta("labels"), "metadata.labels", out);
    annotations(meta("annotations"), "metadata.annotations", out);
    owners(meta("ownerReferences"), "metadata.ownerReferences", out);
    finalizers(meta("finalizers"), "metadata.finalizers", core, out);
}

/// Judges a change of metadata.
#[must_use]
pub fn validate_metadata_update(new: &Value, old: &Value, core: bool) -> Vec<FieldError> {
    changed_metadata(new, old, core, if core { 2 } else { 1 })
}

/// As [`validate_metadata_update`]; `times` is how often upstream looks at what changed.
pub(super) fn changed_metadata(new: &Value, old: &Value, core: bool, times: usize) -> Vec<FieldError> {
    let mut out = Vec::new();
    let at = |v: &Value, key: &str| v.at(["metadata", key]).cloned().unwrap_or_default();
    if !at(old, "deletionTimestamp").is_null() {
        let before = at(old, "finalizers");
        let mut fresh: Vec<Value> =
            at(new, "finalizers").items().iter().filter(|f| !before.items().contains(f)).cloned().collect();
        fresh.sort_by(|a, b| a.as_str().cmp(&b.as_str()));
        if !fresh.is_empty() {
            let list: Vec<String> = fresh.iter().filter_map(Value::as_str).map(crate::field::go_quote).collect();
            let error = FieldError::forbidden(
                "metadata.finalizers",
                format!(
                    "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
                    list.join(", ")
                ),
            );
            // Built-in kinds are judged twice upstream; the answer shows it.
            out.extend(std::iter::repeat_n(error, times));
        }
    }
    let mut changed = Vec::new();
    for key in ["name", "namespace", "uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds"] {
        immutable(&at(new, key), &at(old, key), &format!("metadata.{key}"), &mut changed);
    }
    // Built-in kinds are judged by the generic registry and by their own; labels, annotations and finalizers by each as
    // often as `kinds` says.
    for _ in 0..times {
        out.extend(changed.iter().cloned());
    }
    common(new, core, &mut out);
    out
}

/// A field that may not change.
pub(crate) fn immutable(new: &Value, old: &Value, path: &str, out: &mut Errors) {
    if new != old {
        out.push(FieldError::invalid(path, new.clone(), "field is immutable"));
    }
}

/// The metadata of an object inside a custom object: only what has a shape is judged.
pub(crate) fn embedded_metadata(meta: &Value, path: &str, out: &mut Errors) {
    labels(meta.get("labels"), &format!("{path}.labels"), out);
    annotations(meta.get("annotations"), &format!("{path}.annotations"), out);
}

/// The metadata of something that is made from a template: labels and annotations only.
pub(crate) fn template_metadata(meta: &super::at::At, out: &mut Errors) {
    const REFUSED: [(&str, &str); 9] = [
        ("name", "name"),
        ("generateName", "generateName"),
        ("namespace", "namespace"),
        ("selfLink", "selfLink"),
        // As Go's name of the field comes out with its first letter made small.
        ("uid", "uID"),
        ("resourceVersion", "resourceVersion"),
        ("generation", "generation"),
        ("ownerReferences", "ownerReferences"),
        ("finalizers", "finalizers"),
    ];
    annotations(meta.value().get("annotations"), &meta.child("annotations").path(), out);
    labels(meta.value().get("labels"), &meta.child("labels").path(), out);
    for (key, shown) in REFUSED {
        let v = meta.child_as(key, shown);
        if v.is_given() && v.value().as_str() != Some("") && v.int() != Some(0) {
            v.forbidden("cannot be set", out);
        }
    }
}

/// A label selector at a path.
pub(crate) fn label_selector(value: &Value, path: &str, out: &mut Errors) {
    labels(value.get("matchLabels"), &format!("{path}.matchLabels"), out);
    for (i, e) in value.get("matchExpressions").map(Value::items).unwrap_or_default().iter().enumerate() {
        label_requirement(e, &format!("{path}.matchExpressions[{i}]"), false, out);
    }
}

/// One requirement of labels. `any_operator` says that operators which are not known are left to others.
pub(crate) fn label_requirement(e: &Value, at: &str, any_operator: bool, out: &mut Errors) {
    selector_operator(e, at, any_operator, out);
    let key = e.str_at(["key"]).unwrap_or_default();
    each(is_qualified_name(key), &format!("{at}.key"), key, out);
    for (j, v) in e.get("values").map(Value::items).unwrap_or_default().iter().filter_map(Value::as_str).enumerate() {
        each(label_value_errors(v), &format!("{at}.values[{j}]"), v, out);
    }
}

/// The operator of a requirement, and whether it has the values that belong to it.
pub(crate) fn selector_operator(e: &Value, at: &str, any_operator: bool, out: &mut Errors) {
    let values = e.get("values").map(Value::items).unwrap_or_default();
    match e.str_at(["operator"]).unwrap_or_default() {
        "In" | "NotIn" => {
            if values.is_empty() {
                let why = "must be specified when `operator` is 'In' or 'NotIn'";
                out.push(FieldError::required(format!("{at}.values"), why));
            }
        }
        "Exists" | "DoesNotExist" => {
            if !values.is_empty() {
                let why = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
                out.push(FieldError::forbidden(format!("{at}.values"), why));
            }
        }
        _ if any_operator => {}
        other => out.push(FieldError::invalid(format!("{at}.operator"), other, "not a valid selector operator")),
    }
}

/// A DNS subdomain name in a field.
pub(crate) fn subdomain_field(value: &str, path: &str, out: &mut Errors) {
    each(is_dns1123_subdomain(value), path, value, out);
}

/// A name in a field that may be a part of a URL's path; `missing` is said when it is empty.
pub(super) fn path_segment_field(value: &str, path: &str, missing: &str, out: &mut Errors) {
    if value.is_empty() {
        out.push(FieldError::required(path, missing));
    } else {
        each(NameRule::PathSegment.errors(value, false), path, value, out);
    }
}
