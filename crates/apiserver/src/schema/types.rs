//! A type as the handlers use it: one kind in one version, built-in or custom.

use std::sync::Arc;

use druse_object::patch::MergeSchema;
use druse_object::{Gvk, Map, Value};

use super::node::{Shape, Slot};
use super::structural::RuleEvaluator;
use super::{decode, structural};
use crate::field::FieldError;

/// The full name of object metadata.
pub(crate) const OBJECT_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";

/// An object that its type cannot be read from; the text is what follows
/// `KIND in version "V" cannot be handled as a KIND: `.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct DecodeError(pub String);

/// One kind in one version.
#[derive(Clone)]
pub struct TypeSchema {
    /// Which kind.
    pub gvk: Gvk,
    pub(crate) root: Slot,
    pub(crate) builtin: bool,
    /// The JSON paths of a custom type's scale subresource: spec and status replicas.
    pub(crate) scale: Option<(String, String)>,
    /// Whether a custom type has a status subresource.
    pub(crate) status_subresource: bool,
    pub(crate) evaluator: Option<Arc<dyn RuleEvaluator>>,
}

impl std::fmt::Debug for TypeSchema {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TypeSchema").field("gvk", &self.gvk).field("builtin", &self.builtin).finish_non_exhaustive()
    }
}

impl TypeSchema {
    /// Whether this is a built-in type (read as a Go struct), not a custom one.
    #[must_use]
    pub fn is_builtin(&self) -> bool {
        self.builtin
    }

    /// The place of the whole object.
    #[must_use]
    pub fn root(&self) -> &Slot {
        &self.root
    }

    /// Reads an object as its Go type (or, for custom types, prunes it): see [`decode`](super::decode). Returns the
    /// paths of unknown fields, which are dropped: with `fieldValidation=Strict` they are an error, with `Warn`
    /// warnings, both worded `unknown field "PATH"`.
    ///
    /// # Errors
    /// When a value has a type its field cannot hold.
    pub fn decode(&self, value: &mut Value) -> Result<Vec<String>, DecodeError> {
        if self.builtin {
            return decode::decode(value, &self.root);
        }
        let mut unknown = Vec::new();
        if let Some(meta) = value.get_mut("metadata")
            && let Some(slot) = super::builtin::named(OBJECT_META)
        {
            let found = decode::decode(meta, &slot)?;
            unknown.extend(found.into_iter().map(|p| format!("metadata.{p}")));
        }
        unknown.extend(self.prune(value));
        Ok(unknown)
    }

    /// Drops fields that the type does not have and returns their paths (`spec.foo`, `spec.list[0].bar`).
    pub fn prune(&self, value: &mut Value) -> Vec<String> {
        let mut unknown = Vec::new();
        decode::prune(value, self.root.node(), &mut String::new(), &mut unknown);
        unknown
    }

    /// Makes null what upstream's storage does not tell from nothing: lists and maps of built-in types that are written
    /// even when empty.
    pub fn forget_empty(&self, value: &mut Value) {
        if decode::has_empty(value) {
            decode::forget_empty(value, &self.root);
        }
    }

    /// Fills in defaults: those of the schema, and for built-in types all of [`crate::validate::default_object`].
    pub fn default(&self, value: &mut Value) {
        if self.builtin {
            crate::validate::default_object(&self.gvk, value);
        } else {
            structural::default_value(value, self.root.node());
        }
    }

    /// As [`Self::default`] for an object that an apply makes: nulls in custom objects stay, to be judged.
    pub fn fill(&self, value: &mut Value) {
        if self.builtin {
            crate::validate::default_object(&self.gvk, value);
        } else {
            structural::fill(value, self.root.node(), 0);
        }
    }

    /// Judges an object by the type's schema: for custom types every keyword, list keys and sets, and the CEL rules
    /// when an evaluator is set. Built-in types have no such rules here; see [`crate::validate`].
    #[must_use]
    pub fn validate(&self, value: &Value, old: Option<&Value>) -> Vec<FieldError> {
        if self.builtin { Vec::new() } else { structural::validate(value, old, self) }
    }

    /// How a strategic merge patch merges this type.
    #[must_use]
    pub fn merge_schema(&self) -> &dyn MergeSchema {
        &self.root
    }

    /// The object that stands for "nothing yet" when ownership of a created object is recorded: a zero Go struct as
    /// it is written, or for custom types only the kind.
    #[must_use]
    pub fn empty(&self) -> Value {
        let mut map = if self.builtin { decode::zero_struct(self.root.node()) } else { Map::new() };
        map.insert("apiVersion", self.gvk.api_version());
        map.insert("kind", self.gvk.kind.clone());
        Value::Map(map)
    }

    /// Whether writes to the main resource leave `status` alone.
    #[must_use]
    pub fn resets_status(&self) -> bool {
        if self.builtin { self.root.node().fields.get("status").is_some() } else { self.status_subresource }
    }

    /// Whether the type has a field at this path of map keys (`status`).
    #[must_use]
    pub fn has_field(&self, name: &str) -> bool {
        let node = self.root.node();
        node.child(name).is_some() || node.preserve || node.shape == Shape::Any
    }
}
