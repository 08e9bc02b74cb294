//! What differs between two values, field by field: maps by key, lists by what tells their items apart.
//!
//! [`compare`] makes a [`Delta`], which holds everything that is needed to make the one value from the other
//! ([`Delta::apply`]); [`flatten`](flat::flatten) makes it a list of changed fields for people.

pub mod flat;
mod lists;
#[cfg(test)]
mod tests;

use druse_kustomize::Schema;
use druse_object::{Str, Value};

pub use lists::{ItemDelta, ListDelta};

/// How deep values are compared; what lies deeper is compared as a whole.
const MAX_DEPTH: usize = 64;

/// What differs between two values.
#[derive(Clone, Debug, PartialEq)]
pub enum Delta {
    /// It is only in head.
    Added(Value),
    /// It is only in base.
    Removed(Value),
    /// It is another value.
    Changed {
        /// In base.
        from: Value,
        /// In head.
        to: Value,
    },
    /// Entries of a map differ.
    Map(Vec<(Str, Delta)>),
    /// Items of a list differ, or their order.
    List(ListDelta),
}

/// What differs between two values; `None` when nothing does. `schema` says which lists merge by which keys.
#[must_use]
pub fn compare(base: &Value, head: &Value, schema: Option<Schema<'_>>) -> Option<Delta> {
    compare_at(base, head, schema, 0)
}

fn compare_at(base: &Value, head: &Value, schema: Option<Schema<'_>>, depth: usize) -> Option<Delta> {
    match (base, head) {
        (Value::Map(b), Value::Map(h)) if depth < MAX_DEPTH => {
            let mut out = Vec::new();
            for (key, old) in b.iter() {
                let delta = match h.get(key) {
                    Some(new) => compare_at(old, new, schema.and_then(|s| s.field(key)), depth + 1),
                    None => Some(Delta::Removed(old.clone())),
                };
                out.extend(delta.map(|d| (key.clone(), d)));
            }
            for (key, new) in h.iter().filter(|(key, _)| !b.contains_key(key)) {
                out.push((key.clone(), Delta::Added(new.clone())));
            }
            (!out.is_empty()).then_some(Delta::Map(out))
        }
        (Value::Array(b), Value::Array(h)) if depth < MAX_DEPTH => {
            if b == h {
                return None;
            }
            lists::compare(b, h, schema, depth).map(Delta::List)
        }
        _ if base == head => None,
        _ => Some(Delta::Changed { from: base.clone(), to: head.clone() }),
    }
}

impl Delta {
    /// Makes head's value from base's.
    #[must_use]
    pub fn apply(&self, base: Option<&Value>) -> Option<Value> {
        match self {
            Self::Added(value) | Self::Changed { to: value, .. } => Some(value.clone()),
            Self::Removed(_) => None,
            Self::Map(entries) => {
                let mut map = base?.as_map()?.clone();
                for (key, delta) in entries {
                    match delta.apply(map.get(key)) {
                        Some(value) => drop(map.insert(key.clone(), value)),
                        None => drop(map.remove(key)),
                    }
                }
                Some(Value::Map(map))
            }
            Self::List(list) => list.apply(base?.items()).map(Value::Array),
        }
    }
}
