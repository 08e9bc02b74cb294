//! All types the API serves at a moment.

use std::collections::HashMap;
use std::sync::Arc;

use druse_object::{Gvk, Value};
use parking_lot::RwLock;

use super::builtin;
use super::structural::{RuleEvaluator, SchemaError};
use super::types::TypeSchema;

/// Built-in types and those of CRDs; clones share one state.
#[derive(Clone, Default)]
pub struct SchemaSet {
    inner: Arc<RwLock<HashMap<Gvk, Arc<TypeSchema>>>>,
    crds: Arc<RwLock<HashMap<String, Vec<Gvk>>>>,
    evaluator: Option<Arc<dyn RuleEvaluator>>,
}

impl SchemaSet {
    /// The built-in types, decoded on first use; CEL rules of custom types are judged by [`crate::cel`].
    #[must_use]
    pub fn builtin() -> Self {
        Self::default().with_evaluator(Arc::new(crate::cel::CelRules::new()))
    }

    /// The same set, judging CEL rules of custom types with this evaluator.
    #[must_use]
    pub fn with_evaluator(mut self, evaluator: Arc<dyn RuleEvaluator>) -> Self {
        self.evaluator = Some(evaluator);
        self
    }

    /// The type of a kind.
    #[must_use]
    pub fn for_gvk(&self, gvk: &Gvk) -> Option<Arc<TypeSchema>> {
        if let Some(found) = self.inner.read().get(gvk) {
            return Some(found.clone());
        }
        let root = builtin::of_gvk(gvk)?;
        let schema = Arc::new(TypeSchema {
            gvk: gvk.clone(),
            root,
            builtin: true,
            scale: None,
            status_subresource: false,
            evaluator: None,
        });
        self.inner.write().insert(gvk.clone(), schema.clone());
        Some(schema)
    }

    /// Every built-in kind.
    pub fn builtin_kinds() -> impl Iterator<Item = &'static Gvk> {
        builtin::kinds()
    }

    /// Adds or replaces the types of a CRD object (defaulted and valid).
    ///
    /// # Errors
    /// When a version's schema cannot be used; the set is unchanged then.
    pub fn set_crd(&self, crd: &Value) -> Result<(), SchemaError> {
        let types = crate::crd::types(crd, self.evaluator.as_ref())?;
        let name = crd.str_at(["metadata", "name"]).unwrap_or_default().to_string();
        self.remove_crd(&name);
        let mut crds = self.crds.write();
        let mut inner = self.inner.write();
        crds.insert(name, types.iter().map(|t| t.gvk.clone()).collect());
        for t in types {
            inner.insert(t.gvk.clone(), Arc::new(t));
        }
        Ok(())
    }

    /// Removes the types of the CRD with this name.
    pub fn remove_crd(&self, name: &str) {
        let Some(gvks) = self.crds.write().remove(name) else { return };
        let mut inner = self.inner.write();
        for gvk in gvks {
            inner.remove(&gvk);
        }
    }
}
