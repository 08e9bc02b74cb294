//! What tests of controllers begin with: objects written as YAML.

use std::sync::Arc;

use druse_object::{Value, yaml};

/// An object.
pub fn value(text: &str) -> Value {
    yaml::parse(text, yaml::Dialect::Sigs).unwrap()
}

/// Objects, as a cache gives them.
pub fn list(text: &str) -> Vec<Arc<Value>> {
    value(text).items().iter().cloned().map(Arc::new).collect()
}
