//! A Kubernetes object with the story of where it came from.

use std::sync::Arc;

use crate::gvk::{Gvk, ObjectKey};
use crate::map::Map;
use crate::value::{Str, Value};

/// Where an object came from, as far as is known; shown in every finding and error about it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Provenance {
    /// The file, relative to the tree's root (or to the chart's, with `template`).
    pub file: Option<Arc<str>>,
    /// The first line of the object in that file, from 1; 0 when not known.
    pub line: u32,
    /// The unit that rendered it: `Kustomization/ns/name` or `HelmRelease/ns/name`.
    pub unit: Option<Arc<str>>,
    /// For objects of a chart, the template (`chart/templates/x.yaml`).
    pub template: Option<Arc<str>>,
}

impl std::fmt::Display for Provenance {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (&self.template, &self.file) {
            (Some(t), _) => f.write_str(t)?,
            (None, Some(file)) if self.line > 0 => write!(f, "{file}:{}", self.line)?,
            (None, Some(file)) => f.write_str(file)?,
            (None, None) => f.write_str("(generated)")?,
        }
        if let Some(unit) = &self.unit {
            write!(f, " (in {unit})")?;
        }
        Ok(())
    }
}

/// A Kubernetes object: a map value, with provenance.
#[derive(Clone, Debug, PartialEq)]
pub struct Object {
    /// The whole object, always a map.
    pub value: Value,
    /// Where it came from.
    pub provenance: Provenance,
}

/// The annotation in which `kubectl apply` keeps what it applied.
pub const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Whether a value is a core Secret; see [`Object::is_secret`].
#[must_use]
pub fn is_secret(value: &Value) -> bool {
    value.str_at(["kind"]) == Some("Secret") && value.str_at(["apiVersion"]) == Some("v1")
}

/// Whether an object is a core Secret, or a list with one.
#[must_use]
pub fn has_secrets(value: &Value) -> bool {
    is_secret(value) || value["items"].items().iter().any(has_secrets)
}

/// Puts `instead` in place of every value of an object's Secrets ([`has_secrets`]), also where an annotation holds what
/// was applied before. Keys stay; data that is no map becomes null: no Secret has such data, but neither is it for
/// anyone's eyes.
pub fn withhold_secrets(value: &mut Value, instead: &str) {
    if let Some(items) = value.get_mut("items").and_then(Value::as_array_mut) {
        items.iter_mut().for_each(|item| withhold_secrets(item, instead));
    }
    if !is_secret(value) {
        return;
    }
    for field in ["data", "stringData"] {
        match value.get_mut(field) {
            Some(Value::Map(entries)) => entries.values_mut().for_each(|v| *v = instead.into()),
            Some(other) => *other = Value::Null,
            None => {}
        }
    }
    let annotations = value.get_mut("metadata").and_then(|m| m.get_mut("annotations"));
    if let Some(last) = annotations.and_then(|a| a.get_mut(LAST_APPLIED)) {
        *last = instead.into();
    }
}

impl Object {
    /// An object of unknown origin.
    #[must_use]
    pub fn new(value: Value) -> Self {
        Self { value, provenance: Provenance::default() }
    }

    /// Its `apiVersion`; empty when absent.
    #[must_use]
    pub fn api_version(&self) -> &str {
        self.value.str_at(["apiVersion"]).unwrap_or_default()
    }

    /// Its `kind`; empty when absent.
    #[must_use]
    pub fn kind(&self) -> &str {
        self.value.str_at(["kind"]).unwrap_or_default()
    }

    /// Whether it is a core Secret, whose values nobody may see.
    #[must_use]
    pub fn is_secret(&self) -> bool {
        is_secret(&self.value)
    }

    /// Its group, version and kind.
    #[must_use]
    pub fn gvk(&self) -> Gvk {
        Gvk::from_api_version(self.api_version(), self.kind())
    }

    /// Its name; empty when absent.
    #[must_use]
    pub fn name(&self) -> &str {
        self.value.str_at(["metadata", "name"]).unwrap_or_default()
    }

    /// Its namespace; empty when absent.
    #[must_use]
    pub fn namespace(&self) -> &str {
        self.value.str_at(["metadata", "namespace"]).unwrap_or_default()
    }

    /// Its key as written (the namespace is not defaulted: whether a kind has one only discovery knows).
    #[must_use]
    pub fn key(&self) -> ObjectKey {
        let gvk = self.gvk();
        ObjectKey { group: gvk.group, kind: gvk.kind, namespace: self.namespace().into(), name: self.name().into() }
    }

    /// A label's value.
    #[must_use]
    pub fn label(&self, key: &str) -> Option<&str> {
        self.value.at(["metadata", "labels"])?.get(key)?.as_str()
    }

    /// An annotation's value.
    #[must_use]
    pub fn annotation(&self, key: &str) -> Option<&str> {
        self.value.at(["metadata", "annotations"])?.get(key)?.as_str()
    }

    /// `metadata`, made when absent. `None` when the object is no map or its metadata is something else.
    pub fn metadata_mut(&mut self) -> Option<&mut Map> {
        self.value.make_map_at(["metadata"])
    }

    /// Sets a label.
    pub fn set_label(&mut self, key: impl Into<Str>, value: impl Into<Value>) {
        if let Some(m) = self.value.make_map_at(["metadata", "labels"]) {
            m.insert(key, value);
        }
    }

    /// Sets an annotation.
    pub fn set_annotation(&mut self, key: impl Into<Str>, value: impl Into<Value>) {
        if let Some(m) = self.value.make_map_at(["metadata", "annotations"]) {
            m.insert(key, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::yaml;

    #[test]
    fn no_value_of_a_secret_stays_wherever_it_stands() {
        let text = "kind: List\napiVersion: v1\nitems:\n- kind: Secret\n  apiVersion: v1\n  metadata:\n    annotations:\n      \
                    kubectl.kubernetes.io/last-applied-configuration: geheim\n      note: kept\n  data: {a: geheim}\n  \
                    stringData: geheim\n- kind: ConfigMap\n  apiVersion: v1\n  data: {b: kept}\n";
        let mut list = yaml::parse(text, yaml::Dialect::Sigs).unwrap();
        assert!(has_secrets(&list) && !has_secrets(&list["items"].items()[1]));
        withhold_secrets(&mut list, "x");
        let [secret, config] = list["items"].items() else { panic!("{list:?}") };
        assert_eq!((secret["data"]["a"].as_str(), config["data"]["b"].as_str()), (Some("x"), Some("kept")));
        assert!(secret["stringData"].is_null());
        let annotations = &secret["metadata"]["annotations"];
        assert_eq!((annotations[LAST_APPLIED].as_str(), annotations["note"].as_str()), (Some("x"), Some("kept")));
    }
}
