//! What must not be shown: the values of Secrets, wherever they went.
//!
//! A Secret's own values are masked by where they stand. Values that units take from Secrets (`substituteFrom`,
//! `valuesFrom`) end up in other objects; these are masked by what they say, in every text that is shown.

use std::collections::BTreeSet;

use druse_flux::config::config_data;
use druse_object::object::LAST_APPLIED;
use druse_object::{Map, Object, Value};
use druse_plan::{Unit, UnitId, UnitKind};

use crate::side::Side;

/// Stands where a value is not shown.
pub const MASK: &str = "••••••";

/// Shorter values are too common to be told from other text, and are masked only where they are all of it.
const MIN_WITHIN: usize = 6;
/// Shorter values are not masked: they would be guessed anyway.
const MIN_WHOLE: usize = 4;

/// Masks what came from Secrets.
#[derive(Clone, Debug, Default)]
pub(crate) struct Masker {
    /// The longest first, so that a value within another does not leave the rest of it.
    within: Vec<String>,
    whole: BTreeSet<String>,
}

impl Masker {
    /// A masker of what these units, and those that make them, take from Secrets on either side.
    pub(crate) fn new(units: &BTreeSet<UnitId>, sides: &[&Side<'_>]) -> Self {
        let mut values: BTreeSet<String> = BTreeSet::new();
        for side in sides {
            for (namespace, name) in taken_by(units, side) {
                if let Some((_, secret)) = side.named("Secret", &namespace, &name) {
                    for value in config_data(&secret.value).into_values() {
                        add(&mut values, &String::from_utf8_lossy(&value));
                    }
                }
            }
        }
        let mut within: Vec<String> = values.iter().filter(|v| v.chars().count() >= MIN_WITHIN).cloned().collect();
        within.sort_by(|a, b| b.len().cmp(&a.len()).then(a.cmp(b)));
        Self { within, whole: values }
    }

    /// The text without what came from Secrets.
    pub(crate) fn text(&self, text: &str) -> Option<String> {
        if self.whole.contains(text) {
            return Some(MASK.to_string());
        }
        let mut out: Option<String> = None;
        for needle in &self.within {
            let current = out.as_deref().unwrap_or(text);
            if current.contains(needle.as_str()) {
                out = Some(current.replace(needle.as_str(), MASK));
            }
        }
        out
    }

    /// As [`Masker::text`], for text that is made anyway.
    pub(crate) fn owned(&self, text: String) -> String {
        self.text(&text).unwrap_or(text)
    }

    /// Masks all texts in a value.
    pub(crate) fn value(&self, value: &mut Value) {
        if self.whole.is_empty() {
            return;
        }
        match value {
            Value::String(s) => {
                if let Some(masked) = self.text(s) {
                    *s = masked.into();
                }
            }
            Value::Int(_) | Value::UInt(_) | Value::Float(_) => {
                if self.whole.contains(&druse_object::json::to_string(value)) {
                    *value = MASK.into();
                }
            }
            Value::Array(a) => a.iter_mut().for_each(|v| self.value(v)),
            Value::Map(m) => m.values_mut().for_each(|v| self.value(v)),
            Value::Null | Value::Bool(_) => {}
        }
    }
}

/// A value, its lines, and where it is a document, the texts in it.
fn add(values: &mut BTreeSet<String>, text: &str) {
    let text = text.trim();
    let mut put = |t: &str| {
        let t = t.trim();
        if t.chars().count() >= MIN_WHOLE && !matches!(t.to_ascii_lowercase().as_str(), "true" | "false" | "null") {
            values.insert(t.to_string());
        }
    };
    put(text);
    if text.contains('\n') || text.contains(": ") || text.starts_with('{') {
        for document in druse_object::yaml::documents(text, druse_object::yaml::Dialect::Sigs).into_iter().flatten() {
            leaves(&document.value, &mut put);
        }
    }
}

fn leaves(value: &Value, put: &mut impl FnMut(&str)) {
    match value {
        Value::String(s) => put(s),
        Value::Int(_) | Value::UInt(_) | Value::Float(_) => put(&druse_object::json::to_string(value)),
        Value::Array(a) => a.iter().for_each(|v| leaves(v, put)),
        Value::Map(m) => m.values().for_each(|v| leaves(v, put)),
        Value::Null | Value::Bool(_) => {}
    }
}

/// The units of a set with all that make them.
fn with_makers(units: &BTreeSet<UnitId>, side: &Side<'_>) -> BTreeSet<UnitId> {
    let mut out = units.clone();
    let mut queue: Vec<UnitId> = units.iter().cloned().collect();
    while let Some(id) = queue.pop() {
        for maker in side.unit(&id).into_iter().flat_map(|u| &u.made_by) {
            if out.insert(maker.clone()) {
                queue.push(maker.clone());
            }
        }
    }
    out
}

/// Namespaces and names of the Secrets that units, and those that make them, take values from.
fn taken_by(units: &BTreeSet<UnitId>, side: &Side<'_>) -> BTreeSet<(String, String)> {
    let units = with_makers(units, side);
    let units = units.iter().filter_map(|id| side.unit(id));
    units.flat_map(|u| secrets_of(u).map(|name| (u.id.namespace.to_string(), name.to_string()))).collect()
}

/// The units whose Secrets must have their values, so that what differs can be told and what came from them be masked:
/// of those whose values were withheld, the ones that differ and the ones that these take values from.
pub(crate) fn needed(touched: &BTreeSet<UnitId>, sides: &[&Side<'_>]) -> BTreeSet<UnitId> {
    let mut out = BTreeSet::new();
    for side in sides {
        let taken = taken_by(touched, side);
        for unit in side.plan.units.iter().filter(|u| u.secrets_withheld) {
            let is_taken =
                |o: &Object| o.is_secret() && taken.contains(&(o.namespace().to_string(), o.name().to_string()));
            if touched.contains(&unit.id) || (!taken.is_empty() && unit.objects.iter().any(is_taken)) {
                out.insert(unit.id.clone());
            }
        }
    }
    out
}

/// The names of the Secrets that a unit takes values from.
fn secrets_of(unit: &Unit) -> impl Iterator<Item = &str> {
    let spec = &unit.definition.value["spec"];
    let references = match unit.id.kind {
        UnitKind::Kustomization => &spec["postBuild"]["substituteFrom"],
        UnitKind::HelmRelease => &spec["valuesFrom"],
    };
    references.items().iter().filter(|r| r.str_at(["kind"]) == Some("Secret")).filter_map(|r| r.str_at(["name"]))
}

/// Whether a field of an object is a Secret's value: its data, or a copy of it that kubectl made.
pub(crate) fn hides(object: &Object, path: &[&str]) -> bool {
    object.is_secret() && matches!(path, ["data" | "stringData", ..] | ["metadata", "annotations", LAST_APPLIED])
}

/// A value with all that is not a map's key masked.
pub(crate) fn mask(value: &Value) -> Value {
    match value {
        Value::Map(m) => m.iter().map(|(k, v)| (k.clone(), mask(v))).collect::<Map>().into(),
        Value::Null => Value::Null,
        _ => MASK.into(),
    }
}

/// A copy of an object that can be shown.
pub(crate) fn shown(object: &Object, masker: &Masker) -> Value {
    let mut value = object.value.clone();
    if object.is_secret() {
        for field in ["data", "stringData"] {
            if let Some(data) = value.get_mut(field) {
                *data = mask(data);
            }
        }
        if let Some(annotations) = value.get_mut("metadata").and_then(|m| m.get_mut("annotations"))
            && let Some(copy) = annotations.get_mut(LAST_APPLIED)
        {
            *copy = MASK.into();
        }
    }
    masker.value(&mut value);
    value
}
