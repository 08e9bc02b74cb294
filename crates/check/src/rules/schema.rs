//! DR010–DR015: objects against the types of their kinds: Kubernetes' own, those of the tree's CustomResourceDefinitions,
//! and Flux'. What is judged is what the API would judge, by the code of the embedded one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use druse_apiserver::schema::{Format, ListType, Node, SchemaSet, Shape, TypeSchema};
use druse_apiserver::validate::{NameRule, validate_metadata, validate_sent};
use druse_apiserver::{FieldError, FieldErrorKind};
use druse_flux::api::KUSTOMIZE_GROUP;
use druse_object::{Gvk, Map, Object, Quantity, Value};
use druse_plan::kinds::crd_kind;
use druse_plan::{Fault, Unit, UnitState};
use rayon::prelude::*;

use crate::context::Context;
use crate::files::is_put_aside;
use crate::finding::{Finding, Severity};
use crate::index::{Entry, Existence, Origin};
use crate::position::{self, Step};
use crate::rules::deprecated;

const MAX_DEPTH: usize = 100;

pub(super) fn check(cx: &Context<'_>, out: &mut Vec<Finding>) {
    let schemas = schemas(cx);
    let found: Vec<Finding> = cx
        .index
        .entries
        .par_iter()
        .filter(|e| e.origin != Origin::Foreign)
        .flat_map_iter(|entry| {
            let mut found = Vec::new();
            judge(cx, &schemas, entry, &mut found);
            found
        })
        .collect();
    out.extend(found);
    // What was applied by hand to begin with is in no unit. Where it leads nowhere, nobody may have applied it.
    let led = |u: &Unit| u.errors.iter().all(|e| !matches!(e.fault, Fault::Source | Fault::Path));
    for unit in cx.plan.units.iter().filter(|u| u.is_root && u.made_by.is_empty() && led(u)) {
        if is_put_aside(unit.definition.provenance.file.as_deref().unwrap_or_default()) {
            continue;
        }
        let entry =
            Entry { unit, object: &unit.definition, gvk: unit.definition.gvk(), origin: Origin::Tree, hook: false };
        judge(cx, &schemas, &entry, out);
    }
    not_served(cx, &schemas, out);
}

/// The types of all kinds that the tree's objects are of.
fn schemas(cx: &Context<'_>) -> SchemaSet {
    let set = SchemaSet::builtin();
    let used: BTreeSet<(&str, &str)> =
        cx.index.entries.iter().map(|e| (e.gvk.group.as_str(), e.gvk.kind.as_str())).collect();
    let wanted = |o: &Object| {
        crd_kind(o).is_some_and(|k| {
            used.contains(&(k.group.as_str(), k.kind.as_str())) || k.group.ends_with(".toolkit.fluxcd.io")
        })
    };
    let in_tree: Vec<&Entry<'_>> =
        cx.index.of_kind("apiextensions.k8s.io", "CustomResourceDefinition").filter(|e| wanted(e.object)).collect();
    let names: BTreeSet<&str> = in_tree.iter().map(|e| e.object.name()).collect();
    let flux = druse_component::all().iter().filter(|c| c.name == "flux").flat_map(|c| c.crd_objects());
    for crd in flux.filter(|o| !names.contains(o.name())) {
        // A definition that cannot be used says nothing; if it is the tree's, it is judged itself.
        let _unusable = set.set_crd(&crd.value);
    }
    in_tree.par_iter().for_each(|e| {
        let _unusable = set.set_crd(&e.object.value);
    });
    set
}

fn judge(cx: &Context<'_>, schemas: &SchemaSet, entry: &Entry<'_>, out: &mut Vec<Finding>) {
    // Definitions that charts bring are their authors' matter, and large.
    if entry.is_encrypted() || entry.gvk.kind == "CustomResourceDefinition" && entry.origin == Origin::Chart {
        return;
    }
    let Some(schema) = schemas.for_gvk(&entry.gvk) else { return };
    let secret = entry.is("", "Secret");
    let mut walk = Walk { flux: entry.gvk.group.ends_with(".toolkit.fluxcd.io"), found: Vec::new(), path: Vec::new() };
    walk.node(&entry.object.value, schema.root().node(), 0);
    let mut refused = false;
    // What a unit that fails for a variable would have put in its place is not known.
    let unset = entry.unit.errors.iter().any(|e| matches!(e.fault, Fault::Variable(_)));
    for fault in walk.found {
        let key = match fault.path.last() {
            Some(Step::Key(k)) => k.clone(),
            _ => String::new(),
        };
        let text = position::at(&entry.object.value, &fault.path).map(scalar).unwrap_or_default();
        refused |= fault.code == "DR011";
        if unset && text.contains("${") {
            continue;
        }
        let own = fault.code == "DR010" || fault.code == "DR013";
        if own && entry.origin == Origin::Chart && cx.in_values(entry.unit, &[&key, &text]).is_none() {
            // The chart's own, which its users cannot change.
            continue;
        }
        let texts = if secret { [key.as_str(), ""] } else { [text.as_str(), key.as_str()] };
        out.push(cx.at(entry, &fault.path, &texts, fault.code, fault.message));
    }
    dropped_labels(cx, entry, out);
    if !refused {
        values(cx, &schema, entry, secret, out);
    }
}

/// Of labels that are not all text, Flux keeps none where it sets its own: nothing that is rendered tells of them.
fn dropped_labels(cx: &Context<'_>, entry: &Entry<'_>, out: &mut Vec<Finding>) {
    // Few objects have none but Flux' left: only for these is the file looked at.
    let mut left = labels(&entry.object.value).into_iter().flat_map(Map::iter);
    if entry.origin == Origin::Chart || left.any(|(key, _)| !key.starts_with(KUSTOMIZE_GROUP)) {
        return;
    }
    let written = cx.document(entry.object).and_then(labels).into_iter().flat_map(Map::iter);
    for (key, v) in written.filter(|(_, v)| v.as_str().is_none()) {
        let path = [Step::from("metadata"), Step::from("labels"), Step::from(key.as_str())];
        let message =
            format!("metadata.labels.{key}: must be a string, not {}; Flux drops all labels beside it", scalar(v));
        out.push(cx.at(entry, &path, &[], "DR011", message));
    }
}

fn labels(v: &Value) -> Option<&Map> {
    v.at(["metadata", "labels"]).and_then(Value::as_map)
}

fn scalar(v: &Value) -> String {
    match v {
        Value::String(s) => s.to_string(),
        Value::Int(_) | Value::Bool(_) | Value::Float(_) => druse_object::json::to_string(v),
        _ => String::new(),
    }
}

/// Whether something stands where a value is not known, as that of a Secret that no key opens.
fn is_unknown(v: &Value) -> bool {
    v.as_str().is_some_and(crate::words::is_placeholder)
}

/// Whether such a thing stands anywhere in a value.
fn holds_unknown(v: &Value) -> bool {
    match v {
        Value::Map(m) => m.iter().any(|(_, v)| holds_unknown(v)),
        Value::Array(items) => items.iter().any(holds_unknown),
        v => is_unknown(v),
    }
}

/// What the API would say about a new object.
fn values(cx: &Context<'_>, schema: &Arc<TypeSchema>, entry: &Entry<'_>, secret: bool, out: &mut Vec<Finding>) {
    let unknown = |bytes: &[u8]| std::str::from_utf8(bytes).is_ok_and(crate::words::is_placeholder);
    if secret && druse_flux::config::config_data(&entry.object.value).values().any(|v| unknown(v)) {
        return;
    }
    let mut value = entry.object.value.clone();
    if let Some(m) = value.as_map_mut() {
        m.remove("status");
    }
    if let Err(e) = schema.decode(&mut value) {
        if holds_unknown(&value) {
            return;
        }
        let message =
            if secret { "the Secret cannot be read: its data is not base64".to_string() } else { e.to_string() };
        out.push(cx.at(entry, &[], &[], "DR011", message));
        return;
    }
    schema.default(&mut value);
    let mut errors = if schema.is_builtin() {
        validate_sent(&entry.gvk, value.clone())
    } else {
        validate_metadata(&value, !entry.object.namespace().is_empty(), NameRule::Subdomain, false)
    };
    errors.extend(schema.validate(&value, None));
    let fields: Vec<String> = errors.iter().map(|e| e.field.clone()).collect();
    for e in errors {
        if e.bad_value.as_ref().is_some_and(is_unknown) || is_extension(entry, &e) {
            continue;
        }
        // What is said of an item is not said of its list again.
        let inner = |f: &String| f.strip_prefix(&e.field).is_some_and(|rest| rest.starts_with(['[', '.']));
        if e.field == "<nil>" || fields.iter().any(inner) {
            continue;
        }
        let mut path = position::parse(&entry.object.value, &e.field);
        // The API judges what it makes of `stringData`.
        if secret && position::at(&entry.object.value, &path).is_none() {
            let written: Vec<Step> =
                std::iter::once(Step::from("stringData")).chain(path.iter().skip(1).cloned()).collect();
            if position::at(&entry.object.value, &written).is_some() {
                path = written;
            }
        }
        let text = e.bad_value.as_ref().map(scalar).filter(|_| !secret).unwrap_or_default();
        let written = position::at(&entry.object.value, &path);
        // What is said of a map (labels, resources) or a list is about what in it has that key or value.
        let within = match written {
            Some(Value::Map(m)) if !text.is_empty() => {
                m.iter().find(|(k, v)| k.as_str() == text || scalar(v) == text).map(|(k, _)| Step::from(k.as_str()))
            }
            Some(Value::Array(items)) if !text.is_empty() => {
                items.iter().position(|v| scalar(v) == text).map(Step::Index)
            }
            // Of some kinds of things (a strategy) the API shows the whole where it takes no such type.
            Some(Value::Map(m)) if e.kind == FieldErrorKind::NotSupported => m.get("type").map(|_| Step::from("type")),
            _ => None,
        };
        path.extend(within);
        let code = match e.kind {
            // The API says so of some values that are there.
            FieldErrorKind::Required if written.is_some_and(|v| !scalar(v).is_empty()) => "DR013",
            FieldErrorKind::Required => "DR012",
            // Nothing is written, and the zero that stands for it is refused.
            FieldErrorKind::Invalid if written.is_none() && text == "0" => "DR012",
            FieldErrorKind::TypeInvalid => "DR011",
            FieldErrorKind::Invalid if !schema.is_builtin() && e.bad_value.is_none() => "DR014",
            _ => "DR013",
        };
        let message = if secret { format!("{}: {}", e.field, e.detail) } else { e.to_string() };
        let key = path.iter().rev().find_map(|s| match s {
            Step::Key(k) => Some(k.as_str()),
            Step::Index(_) => None,
        });
        let finding = cx.at(entry, &path, &[&text, key.unwrap_or_default()], code, message);
        let scales_to_zero = entry.gvk.kind == "HorizontalPodAutoscaler" && e.field == "spec.minReplicas";
        if scales_to_zero && cx.files.say("HPAScaleToZero=true") {
            continue;
        }
        // What another version of Flux, or one that is extended, allows is not known.
        let others = code == "DR013" && entry.gvk.group.ends_with(".toolkit.fluxcd.io");
        out.push(if scales_to_zero {
            finding.severity(Severity::Warning).help("the API takes 0 only with its feature gate HPAScaleToZero")
        } else if others {
            finding.severity(Severity::Warning)
        } else {
            finding
        });
    }
}

/// Kinds that send events besides Flux' own: the Flux Operator adds them to the definitions of alerts and receivers
/// wherever it installs Flux.
const OPERATOR_KINDS: [&str; 3] = ["FluxInstance", "ResourceSet", "ResourceSetInputProvider"];

/// Whether an error is about what the Flux Operator allows beyond Flux.
fn is_extension(entry: &Entry<'_>, e: &FieldError) -> bool {
    entry.gvk.group == "notification.toolkit.fluxcd.io"
        && e.kind == FieldErrorKind::NotSupported
        && e.bad_value.as_ref().and_then(Value::as_str).is_some_and(|kind| OPERATOR_KINDS.contains(&kind))
}

struct Misfit {
    code: &'static str,
    path: Vec<Step>,
    message: String,
}

/// Goes through an object beside its type, and notes fields that the type does not have and values it cannot hold.
struct Walk {
    /// Flux' types keep what they do not name; here they are taken at their word.
    flux: bool,
    found: Vec<Misfit>,
    path: Vec<Step>,
}

impl Walk {
    fn wrong(&mut self, value: &Value, wanted: &str) {
        let message =
            format!("{}: {} is needed here, and this is {}", position::show(&self.path), wanted, article(value));
        self.found.push(Misfit { code: "DR011", path: self.path.clone(), message });
    }

    fn node(&mut self, value: &Value, node: &Node, depth: usize) {
        if depth > MAX_DEPTH || value.is_null() || is_unknown(value) {
            return;
        }
        match node.format {
            Format::Quantity => {
                let fits = match value {
                    Value::String(s) => s.is_empty() || Quantity::parse(s).is_ok(),
                    Value::Int(_) | Value::UInt(_) | Value::Float(_) => true,
                    _ => false,
                };
                if !fits {
                    self.wrong(value, "a quantity (500m, 1Gi)");
                }
                return;
            }
            Format::IntOrString => {
                if !matches!(value, Value::Int(_) | Value::String(_)) {
                    self.wrong(value, "a number or text");
                }
                return;
            }
            _ => {}
        }
        match (node.shape, value) {
            (Shape::Any, Value::Map(_)) if !node.fields.is_empty() => self.map(value, node, depth),
            (Shape::Any, _) => {}
            (Shape::Bool, Value::Bool(_)) | (Shape::Str, Value::String(_)) => {}
            (Shape::Int, v) if v.as_i64().is_some() || matches!(v, Value::UInt(_)) => {}
            (Shape::Number, v) if v.as_f64().is_some() => {}
            (Shape::Object, Value::Map(_)) => self.map(value, node, depth),
            (Shape::List, Value::Array(items)) => {
                let Some(slot) = &node.items else { return };
                self.twins(items, node);
                for (i, item) in items.iter().enumerate() {
                    self.path.push(Step::Index(i));
                    self.node(item, slot.node(), depth + 1);
                    self.path.pop();
                }
            }
            (shape, value) => self.wrong(
                value,
                match shape {
                    Shape::Bool => "true or false",
                    Shape::Int => "a whole number",
                    Shape::Number => "a number",
                    Shape::Str => "text",
                    Shape::List => "a list",
                    _ => "a map",
                },
            ),
        }
    }

    /// Items that are one to server-side apply, which refuses them: those with the same values of their list's keys.
    fn twins(&mut self, items: &[Value], node: &Node) {
        if node.list != ListType::Map || node.keys.is_empty() {
            return;
        }
        let slot = node.items.as_ref();
        let mut seen: BTreeMap<Vec<String>, usize> = BTreeMap::new();
        for (i, item) in items.iter().enumerate() {
            let key = |k: &druse_object::Str| {
                let default = || slot.and_then(|s| s.node().child(k)).and_then(|s| s.default.as_ref());
                item.get(k).or_else(default).map(scalar)
            };
            let Some(id) = node.keys.iter().map(key).collect::<Option<Vec<String>>>() else { continue };
            let shown: Vec<String> = node.keys.iter().zip(&id).map(|(k, v)| format!("{k} {v}")).collect();
            if let Some(first) = seen.insert(id, i) {
                let at = position::show(&self.path);
                let message = format!("{at}[{first}] and {at}[{i}] have the same {}", shown.join(" and "));
                let mut path = self.path.clone();
                path.extend([Step::Index(i), Step::from(node.keys.first().map_or("", |k| k.as_str()))]);
                self.found.push(Misfit { code: "DR013", path, message });
            }
        }
    }

    fn map(&mut self, value: &Value, node: &Node, depth: usize) {
        let Some(map) = value.as_map() else { return };
        let open = node.preserve && (!self.flux || node.fields.is_empty())
            || node.shape == Shape::Any && node.fields.is_empty();
        for (key, v) in map.iter() {
            if self.path.is_empty() && key == "status" {
                continue;
            }
            let own = node.embedded && ["apiVersion", "kind", "metadata"].contains(&key.as_str());
            let child = node.child(key);
            self.path.push(Step::from(key.as_str()));
            match child {
                Some(slot) => self.node(v, slot.node(), depth + 1),
                None if open || own => {}
                None => {
                    let near = node.fields.iter().map(|(k, _)| k.as_str());
                    let hint = crate::words::nearest(key, near).map(|n| format!("; {n} is one")).unwrap_or_default();
                    let holder = self.path.get(..self.path.len() - 1).unwrap_or_default();
                    let holder = if holder.is_empty() { "the object".to_string() } else { position::show(holder) };
                    let message = format!("{holder} has no field {key}{hint}");
                    self.found.push(Misfit { code: "DR010", path: self.path.clone(), message });
                }
            }
            self.path.pop();
        }
    }
}

fn article(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "true or false",
        Value::Int(_) | Value::UInt(_) | Value::Float(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Map(_) => "a map",
    }
}

/// Whether all that could define a kind is known, but for what components stand in for: of those the names say enough.
fn nothing_defines(cx: &Context<'_>, group: &str, kind: &str) -> bool {
    let known = |u: &Unit| matches!(u.state, UnitState::StandIn { .. });
    let definition = format!("{}s.{group}", kind.to_lowercase());
    cx.index.opaque.iter().all(|o| known(o.unit))
        && cx.index.exists("apiextensions.k8s.io", "CustomResourceDefinition", "", &definition) == Existence::Missing
}

/// Kinds and versions that nothing serves.
fn not_served(cx: &Context<'_>, schemas: &SchemaSet, out: &mut Vec<Finding>) {
    let mut served: BTreeMap<(String, String), Vec<String>> = BTreeMap::new();
    for e in cx.index.of_kind("apiextensions.k8s.io", "CustomResourceDefinition") {
        if let Some(k) = crd_kind(e.object) {
            served.entry((k.group, k.kind)).or_default().extend(k.versions);
        }
    }
    let mut seen: BTreeSet<(&Gvk, String)> = BTreeSet::new();
    for entry in cx.own() {
        let Gvk { group, version, kind } = &entry.gvk;
        if schemas.for_gvk(&entry.gvk).is_some() || deprecated::is_known(&entry.gvk) {
            continue;
        }
        let known = cx.plan.kinds.is_namespaced(group, kind);
        let builtin = SchemaSet::builtin_kinds().any(|k| k.group == *group);
        // The same kind is wanted again and again; once a unit is enough.
        let place = if entry.origin == Origin::Chart { entry.unit.id.to_string() } else { entry.key() };
        let path = ["apiVersion"].map(Step::from);
        if let Some(versions) = served.get(&(group.to_string(), kind.to_string())) {
            if !versions.iter().any(|v| v == version) && seen.insert((&entry.gvk, place)) {
                let message =
                    format!("{kind} is not served as {}, only as {}", entry.gvk.api_version(), versions.join(", "));
                out.push(cx.at(entry, &path, &[], "DR015", message));
            }
        } else if known.is_none() {
            if !seen.insert((&entry.gvk, place)) {
                continue;
            }
            let message = format!("nothing serves {kind} of {}", entry.gvk.api_version());
            let finding = cx.at(entry, &path, &[], "DR015", message);
            // A group much like one that has the kind is that one, misspelt.
            let groups = served.keys().filter(|(_, k)| *k == kind.as_str()).map(|(g, _)| g.as_str());
            let like = crate::words::nearest(group, groups);
            if let Some(like) = like {
                out.push(finding.help(format!("correct apiVersion ({kind} is of {like})")));
            } else if builtin {
                out.push(finding);
            } else if nothing_defines(cx, group, kind) {
                // Definitions can come from outside the tree: from a bootstrap, or from the nodes.
                out.push(finding.severity(Severity::Warning));
            }
        } else if builtin && !cx.plan.kinds.serves(group, version, kind) && seen.insert((&entry.gvk, place)) {
            let versions: Vec<&str> = cx.plan.kinds.versions(group, kind).collect();
            let message =
                format!("{kind} is not served as {}, only as {}", entry.gvk.api_version(), versions.join(", "));
            let finding = cx.at(entry, &path, &[], "DR015", message);
            // Versions on trial can be switched on, which is written where machines are configured.
            let trial = version.contains("alpha") || version.contains("beta");
            if trial && cx.files.say(&format!("{group}/{version}=true")) {
                continue;
            }
            out.push(if trial { finding.severity(Severity::Warning) } else { finding });
        }
    }
}
