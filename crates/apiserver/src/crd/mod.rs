//! CustomResourceDefinitions: the object's own rules, what it makes the API serve, and its status.
//!
//! Versions of one kind are converted with strategy `None` (only `apiVersion` changes) or by a webhook, which whoever
//! serves requests calls. CEL rules are judged by a [`RuleEvaluator`] when one is set; without one they are not.

mod declared;
mod paths;
mod rules;
#[cfg(test)]
mod tests;
mod validate;

use std::sync::Arc;

use druse_object::{Gvk, Map, Value, value::Str};

use crate::registry::{Conversion, PrinterColumn, Resource, ScalePaths, Subresource, Version};
use crate::schema::{Format, Node, RuleEvaluator, SchemaError, Shape, Slot, TypeSchema, named, slot_from_json_schema};
pub use validate::{validate_crd, validate_crd_update};

const OBJECT_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";

fn flag(schema: &Value, key: &str) -> bool {
    schema.get(key).and_then(Value::as_bool).unwrap_or(false)
}

fn text<'a>(v: &'a Value, path: &[&str]) -> &'a str {
    path.iter().try_fold(v, |v, k| v.get(k)).and_then(Value::as_str).unwrap_or_default()
}

fn versions(crd: &Value) -> &[Value] {
    crd.at(["spec", "versions"]).map(Value::items).unwrap_or_default()
}

/// The types a CRD declares, one a version.
///
/// # Errors
/// When a schema cannot be used.
pub fn types(crd: &Value, evaluator: Option<&Arc<dyn RuleEvaluator>>) -> Result<Vec<TypeSchema>, SchemaError> {
    let group = text(crd, &["spec", "group"]);
    let kind = text(crd, &["spec", "names", "kind"]);
    let preserve_all = crd.at(["spec", "preserveUnknownFields"]).and_then(Value::as_bool) == Some(true);
    versions(crd)
        .iter()
        .map(|v| {
            let slot = match v.at(["schema", "openAPIV3Schema"]) {
                Some(schema) => slot_from_json_schema(schema)?,
                None => Slot::inline(Node { preserve: true, shape: Shape::Object, ..Node::default() }),
            };
            let mut node = slot.node().clone();
            node.preserve |= preserve_all;
            complete_root(&mut node);
            let scale = v
                .at(["subresources", "scale"])
                .map(|s| (text(s, &["specReplicasPath"]).to_string(), text(s, &["statusReplicasPath"]).to_string()));
            Ok(TypeSchema {
                gvk: Gvk::new(group, text(v, &["name"]), kind),
                root: Slot::inline(node),
                builtin: false,
                scale,
                status_subresource: v.at(["subresources", "status"]).is_some(),
                evaluator: evaluator.cloned(),
            })
        })
        .collect()
}

/// Adds what every object has, as upstream does when it publishes and reads custom objects.
fn complete_root(node: &mut Node) {
    let mut fields: Vec<(Str, Slot)> = node.fields.iter().map(|(k, v)| (k.clone(), v.clone())).collect();
    fields.retain(|(k, _)| !["apiVersion", "kind", "metadata"].contains(&k.as_str()));
    let string = || Slot::inline(Node { shape: Shape::Str, format: Format::None, ..Node::default() });
    fields.push(("apiVersion".into(), string()));
    fields.push(("kind".into(), string()));
    let meta = named(OBJECT_META).unwrap_or_else(|| Slot::inline(Node { preserve: true, ..Node::default() }));
    fields.push(("metadata".into(), meta));
    node.fields = crate::schema::Fields::from_unsorted(fields);
    node.shape = Shape::Object;
}

fn words(v: Option<&Value>) -> Vec<Str> {
    v.map(Value::items).unwrap_or_default().iter().filter_map(Value::as_str).map(Str::from).collect()
}

fn verbs(list: &[&str]) -> Vec<Str> {
    list.iter().map(|v| Str::from(*v)).collect()
}

/// What the API serves for a CRD: its accepted names (or the wanted ones, before any were accepted) and its served
/// versions, the preferred one first. `None` when nothing is served.
#[must_use]
pub fn resource(crd: &Value) -> Option<Resource> {
    let names = crd
        .at(["status", "acceptedNames"])
        .filter(|n| !text(n, &["plural"]).is_empty())
        .or_else(|| crd.at(["spec", "names"]))?;
    let group: Str = text(crd, &["spec", "group"]).into();
    let kind: Str = text(names, &["kind"]).into();
    let mut served: Vec<Version> = Vec::new();
    for v in versions(crd) {
        if v.get("served").and_then(Value::as_bool) != Some(true) {
            continue;
        }
        served.push(version(v, &group, &kind));
    }
    served.sort_by(|a, b| {
        let rank = crate::registry::version_rank;
        rank(&b.name).cmp(&rank(&a.name)).then_with(|| a.name.cmp(&b.name))
    });
    let storage = versions(crd).iter().find(|v| v.get("storage").and_then(Value::as_bool) == Some(true));
    if served.is_empty() {
        return None;
    }
    Some(Resource {
        list_kind: text(names, &["listKind"]).into(),
        plural: text(names, &["plural"]).into(),
        singular: text(names, &["singular"]).into(),
        short_names: words(names.get("shortNames")),
        categories: words(names.get("categories")),
        namespaced: text(crd, &["spec", "scope"]) == "Namespaced",
        verbs: verbs(&["delete", "deletecollection", "get", "list", "patch", "create", "update", "watch"]),
        versions: served,
        storage_version: storage.map(|v| text(v, &["name"])).unwrap_or_default().into(),
        stored_as: format!("{}.{group}", text(names, &["plural"])).into(),
        conversion: conversion(crd),
        mixed: crd.at(["status", "storedVersions"]).is_some_and(|v| v.items().len() > 1)
            || crd.at(["metadata", "generation"]).and_then(Value::as_i64).is_some_and(|g| g > 1),
        custom: true,
        group,
        kind,
        ..Resource::default()
    })
}

fn conversion(crd: &Value) -> Option<Conversion> {
    let webhook = crd.at(["spec", "conversion", "webhook"])?;
    (text(crd, &["spec", "conversion", "strategy"]) == "Webhook").then(|| Conversion {
        crd: text(crd, &["metadata", "name"]).into(),
        config: webhook["clientConfig"].clone(),
        review_versions: words(webhook.get("conversionReviewVersions")),
    })
}

fn version(v: &Value, group: &Str, kind: &Str) -> Version {
    let name: Str = text(v, &["name"]).into();
    let mut subresources = Vec::new();
    let edit = verbs(&["get", "patch", "update"]);
    if v.at(["subresources", "status"]).is_some() {
        subresources.push(Subresource {
            name: "status".into(),
            kind: Gvk::new("", "", kind.clone()),
            verbs: edit.clone(),
        });
    }
    let scale = v.at(["subresources", "scale"]).map(|s| ScalePaths {
        spec_replicas: text(s, &["specReplicasPath"]).into(),
        status_replicas: text(s, &["statusReplicasPath"]).into(),
        label_selector: text(s, &["labelSelectorPath"]).into(),
    });
    if scale.is_some() {
        subresources.push(Subresource {
            name: "scale".into(),
            kind: Gvk::new("autoscaling", "v1", "Scale"),
            verbs: edit,
        });
    }
    let columns = v.get("additionalPrinterColumns").map(Value::items).unwrap_or_default();
    let columns: Vec<PrinterColumn> = columns
        .iter()
        .map(|c| PrinterColumn {
            name: text(c, &["name"]).into(),
            kind: text(c, &["type"]).into(),
            format: text(c, &["format"]).into(),
            description: text(c, &["description"]).into(),
            priority: c.get("priority").and_then(Value::as_i64).unwrap_or(0),
            json_path: text(c, &["jsonPath"]).into(),
        })
        .collect();
    let selectable = v.get("selectableFields").map(Value::items).unwrap_or_default();
    let deprecation = (v.get("deprecated").and_then(Value::as_bool) == Some(true)).then(|| {
        v.str_at(["deprecationWarning"])
            .map_or_else(|| format!("{group}/{name} {kind} is deprecated").into(), Str::from)
    });
    Version {
        selectable: selectable.iter().map(|s| text(s, &["jsonPath"]).into()).collect(),
        name,
        subresources,
        columns,
        scale,
        deprecation,
    }
}

/// Defaults of the CRD object itself.
pub(crate) fn default_crd(crd: &mut Value) {
    let stored: Option<Value> = versions(crd)
        .iter()
        .find(|v| v.get("storage").and_then(Value::as_bool) == Some(true))
        .and_then(|v| v.get("name").cloned());
    if let Some(names) = crd.make_map_at(["spec", "names"]) {
        let kind = names.get("kind").and_then(Value::as_str).unwrap_or_default().to_string();
        let unset = |m: &Map, key: &str| m.get(key).and_then(Value::as_str).is_none_or(str::is_empty);
        if unset(names, "singular") {
            names.insert("singular", kind.to_lowercase());
        }
        if unset(names, "listKind") && !kind.is_empty() {
            names.insert("listKind", format!("{kind}List"));
        }
    }
    if crd.at(["status", "storedVersions"]).is_none_or(|v| v.items().is_empty())
        && let (Some(stored), Some(status)) = (stored, crd.make_map_at(["status"]))
    {
        status.insert("storedVersions", vec![stored]);
    }
}

/// The status of a new CRD, whose names nobody has looked at.
pub(crate) fn begin_status(crd: &mut Value) {
    let stored: Vec<Value> = versions(crd)
        .iter()
        .filter(|v| v.get("storage").and_then(Value::as_bool) == Some(true))
        .filter_map(|v| v.get("name").cloned())
        .collect();
    let mut names = Map::new();
    names.insert("plural", "");
    names.insert("kind", "");
    let mut status = Map::new();
    status.insert("conditions", Value::Null);
    status.insert("acceptedNames", names);
    status.insert("storedVersions", stored);
    if let Some(m) = crd.as_map_mut() {
        m.insert("status", status);
    }
}

fn set_condition(crd: &mut Value, kind: &str, status: &str, reason: &str, message: &str, now: &str) {
    let Some(map) = crd.make_map_at(["status"]) else { return };
    let slot = map.entry_or_null("conditions");
    if !matches!(slot, Value::Array(_)) {
        *slot = Value::Array(Vec::new());
    }
    let Some(list) = slot.as_array_mut() else { return };
    let found = list.iter().position(|c| c.str_at(["type"]) == Some(kind));
    let same_status = |c: &Value| c.str_at(["status"]) == Some(status);
    let since = found
        .and_then(|i| list.get(i))
        .filter(|c| same_status(c))
        .and_then(|c| c.get("lastTransitionTime").cloned())
        .unwrap_or_else(|| Value::from(now));
    let mut c = Map::new();
    c.insert("lastTransitionTime", since);
    c.insert("message", message);
    c.insert("reason", reason);
    c.insert("status", status);
    c.insert("type", kind);
    match found.and_then(|i| list.get_mut(i)) {
        Some(place) => *place = Value::Map(c),
        None => list.push(Value::Map(c)),
    }
}

/// Whether a condition of the CRD is true.
#[must_use]
pub fn is_condition_true(crd: &Value, kind: &str) -> bool {
    let conditions = crd.at(["status", "conditions"]).map(Value::items).unwrap_or_default();
    conditions.iter().any(|c| c.str_at(["type"]) == Some(kind) && c.str_at(["status"]) == Some("True"))
}

/// Names that other resources of the group already use.
#[derive(Clone, Debug, Default)]
pub struct TakenNames {
    /// Plural, singular and short names.
    pub resources: Vec<Str>,
    /// Kinds and list kinds.
    pub kinds: Vec<Str>,
}

/// Decides a CRD's names and conditions, as upstream's naming and establishing controllers do, and keeps
/// `storedVersions` complete. Returns whether it is established. `now` is RFC 3339.
pub fn update_status(crd: &mut Value, taken: &TakenNames, now: &str) -> bool {
    let wanted = crd.at(["spec", "names"]).cloned().unwrap_or_default();
    let mut accepted = crd.at(["status", "acceptedNames"]).and_then(Value::as_map).cloned().unwrap_or_default();
    let mut conflict: Option<(&str, String)> = None;
    for (key, list, reason) in [
        ("plural", &taken.resources, "PluralConflict"),
        ("singular", &taken.resources, "SingularConflict"),
        ("kind", &taken.kinds, "KindConflict"),
        ("listKind", &taken.kinds, "ListKindConflict"),
    ] {
        let name = text(&wanted, &[key]);
        if !name.is_empty() && list.iter().any(|t| t == name) {
            // The last one found is the one that is told.
            conflict = Some((reason, format!("{name:?} is already in use")));
        } else {
            accepted.insert(key, name);
        }
    }
    let short = words(wanted.get("shortNames"));
    if let Some(used) = short.iter().find(|s| taken.resources.contains(s)) {
        conflict = Some(("ShortNamesConflict", format!("{:?} is already in use", used.as_str())));
    } else if !short.is_empty() {
        accepted.insert("shortNames", short.into_iter().collect::<Value>());
    } else {
        accepted.remove("shortNames");
    }
    match wanted.get("categories") {
        Some(c) => accepted.insert("categories", c.clone()),
        None => accepted.remove("categories"),
    };
    if let Some(status) = crd.make_map_at(["status"]) {
        status.insert("acceptedNames", accepted);
    }
    match &conflict {
        None => set_condition(crd, "NamesAccepted", "True", "NoConflicts", "no conflicts found", now),
        Some((reason, message)) => set_condition(crd, "NamesAccepted", "False", reason, message, now),
    }
    if !is_condition_true(crd, "Established") {
        if conflict.is_none() {
            set_condition(
                crd,
                "Established",
                "True",
                "InitialNamesAccepted",
                "the initial names have been accepted",
                now,
            );
        } else {
            set_condition(crd, "Established", "False", "NotAccepted", "not all names are accepted", now);
        }
    }
    keep_stored_versions(crd);
    is_condition_true(crd, "Established")
}

/// The storage version is always among the stored ones.
fn keep_stored_versions(crd: &mut Value) {
    let storage = versions(crd)
        .iter()
        .find(|v| v.get("storage").and_then(Value::as_bool) == Some(true))
        .and_then(|v| v.get("name").cloned());
    let (Some(storage), Some(status)) = (storage, crd.make_map_at(["status"])) else { return };
    let slot = status.entry_or_null("storedVersions");
    if !matches!(slot, Value::Array(_)) {
        *slot = Value::Array(Vec::new());
    }
    if let Some(list) = slot.as_array_mut()
        && !list.contains(&storage)
    {
        list.push(storage);
    }
}
