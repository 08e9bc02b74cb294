//! Field specs: which fields of which kinds a transformer changes, and the walk to those fields.

use druse_object::{Map, Value};
use serde::Deserialize;

use crate::error::{Result, fail};
use crate::ids::{Gvk, ResId};

/// A field of the objects of some kinds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct FieldSpec {
    /// The kinds; empty parts mean any.
    #[serde(flatten)]
    pub gvk: Gvk,
    /// The way to the field: map keys with `/` between them (`\/` for a slash inside a key); lists on the way are
    /// walked through, and a key that ends in `[]` must be one.
    pub path: String,
    /// Whether the field is made when absent.
    pub create: bool,
}

/// What a field is made as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Make {
    /// Nothing is made.
    Nothing,
    /// A scalar.
    Scalar,
    /// A map.
    Map,
}

/// Splits a path at a delimiter that no backslash escapes; a leading delimiter is ignored.
pub(crate) fn split_path(path: &str, delimiter: char) -> Vec<String> {
    let mut parts: Vec<String> = Vec::new();
    let mut pieces = path.split(delimiter).peekable();
    if path.starts_with(delimiter) {
        pieces.next();
    }
    for piece in pieces {
        match parts.last_mut() {
            Some(last) if last.ends_with('\\') => {
                last.pop();
                last.push(delimiter);
                last.push_str(piece);
            }
            _ => parts.push(piece.to_string()),
        }
    }
    parts
}

/// Like [`split_path`] with dots, but brackets keep what is inside them together: `a.[name=x.y].b`.
pub(crate) fn smart_split(path: &str) -> Vec<String> {
    let mut out = Vec::new();
    let mut parts = split_path(path, '.').into_iter();
    while let Some(part) = parts.next() {
        if !part.starts_with('[') || part.ends_with(']') {
            out.push(part);
            continue;
        }
        let mut all = part;
        for next in parts.by_ref() {
            all.push('.');
            all.push_str(&next);
            if next.ends_with(']') {
                break;
            }
        }
        if all.contains('=') {
            out.push(all);
        } else {
            out.push(all.trim_matches(['[', ']']).to_string());
        }
    }
    out
}

impl FieldSpec {
    /// A spec for every kind.
    pub fn any(path: &str, create: bool) -> Self {
        Self { gvk: Gvk::default(), path: path.to_string(), create }
    }

    /// Calls `set` on each field of `object` that the spec names.
    pub(crate) fn apply(
        &self,
        object: &mut Value,
        id: &ResId,
        make: Make,
        set: &mut dyn FnMut(&mut Value) -> Result<()>,
    ) -> Result<()> {
        if !id.gvk.is_selected(&self.gvk) {
            return Ok(());
        }
        let path = split_path(&self.path, '/');
        self.walk(object, &path, make, set)
            .map_err(|e| e.wrap(format_args!("considering field '{}' of object {id}", self.path)))
    }

    fn walk(
        &self,
        value: &mut Value,
        path: &[String],
        make: Make,
        set: &mut dyn FnMut(&mut Value) -> Result<()>,
    ) -> Result<()> {
        let Some((first, rest)) = path.split_first() else { return set(value) };
        match value {
            Value::Null => Ok(()),
            Value::Array(items) => {
                for item in items {
                    self.walk(item, path, make, set)
                        .map_err(|e| e.wrap(format_args!("visit traversal on path: [{}]", path.join(" "))))?;
                }
                Ok(())
            }
            Value::Map(map) => self.walk_map(map, first, rest, make, set),
            _ => Err(fail!("expected sequence or mapping node")),
        }
    }

    fn walk_map(
        &self,
        map: &mut Map,
        first: &str,
        rest: &[String],
        make: Make,
        set: &mut dyn FnMut(&mut Value) -> Result<()>,
    ) -> Result<()> {
        let (name, is_list) = match first.strip_suffix("[]") {
            Some(name) => (name, true),
            None => (first, false),
        };
        if name.is_empty() {
            return Err(fail!("cannot set or create an empty field name"));
        }
        let create = self.create && make != Make::Nothing && !is_list;
        if !create && !map.contains_key(name) {
            return Ok(());
        }
        let field = map.entry_or_null(name);
        if field.is_null() {
            if is_list {
                *field = Value::Array(Vec::new());
            } else if create && (!rest.is_empty() || make == Make::Map) {
                *field = Value::Map(Map::new());
            }
        }
        self.walk(field, rest, make, set)
    }
}

/// The words of the error for a value of the wrong kind.
pub(crate) fn wrong_kind(expected: &str, value: &Value) -> crate::KustomizeError {
    let got = match value {
        Value::Map(_) => "MappingNode",
        Value::Array(_) => "SequenceNode",
        _ => "ScalarNode",
    };
    fail!(
        "wrong node kind: expected {expected} but got {got}: node contents:\n{}",
        druse_object::yaml::to_string_ordered(value)
    )
}

/// Sets a scalar field; a list or a map in its place is an error.
pub(crate) fn set_scalar(field: &mut Value, value: Value) -> Result<()> {
    match field {
        Value::Map(_) | Value::Array(_) => Err(wrong_kind("ScalarNode", field)),
        _ => {
            *field = value;
            Ok(())
        }
    }
}

/// Sets an entry of a map field; a null field stays null, anything else is an error.
pub(crate) fn set_entry(field: &mut Value, key: &str, value: &str) -> Result<()> {
    match field {
        Value::Map(map) => {
            map.insert(key, value);
            Ok(())
        }
        Value::Null => Ok(()),
        _ => Err(wrong_kind("MappingNode", field)),
    }
}

/// A list of specs in which no two mean the same.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct FieldSpecs(pub Vec<FieldSpec>);

impl FieldSpecs {
    /// Adds a spec unless one that covers it is there.
    ///
    /// # Errors
    /// When one is there that disagrees on `create`.
    pub(crate) fn add(&mut self, spec: &FieldSpec) -> Result<()> {
        match self.0.iter().find(|have| have.path == spec.path && have.gvk.is_selected(&spec.gvk)) {
            Some(have) if have.create != spec.create => Err(fail!("conflicting fieldspecs")),
            Some(_) => Ok(()),
            None => {
                self.0.push(spec.clone());
                Ok(())
            }
        }
    }

    /// Adds all of `other`.
    pub(crate) fn merge(&mut self, other: &FieldSpecs) -> Result<()> {
        other.0.iter().try_for_each(|spec| self.add(spec))
    }

    pub(crate) fn sort(&mut self) {
        self.0.sort_by_cached_key(|spec| spec.gvk.sort_key());
    }

    /// Calls `set` on each field of `object` that one of the specs names.
    pub(crate) fn apply(
        &self,
        object: &mut Value,
        id: &ResId,
        make: Make,
        set: &mut dyn FnMut(&mut Value) -> Result<()>,
    ) -> Result<()> {
        self.0.iter().try_for_each(|spec| spec.apply(object, id, make, set))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_split_at_unescaped_delimiters_and_keep_brackets_together() {
        assert_eq!(split_path("a/b\\/c/d", '/'), ["a", "b/c", "d"]);
        assert_eq!(split_path("/a/b", '/'), ["a", "b"]);
        assert_eq!(smart_split("a.[name=x.y].b"), ["a", "[name=x.y]", "b"]);
        assert_eq!(smart_split("a.[b.c/d].e"), ["a", "b.c/d", "e"]);
        assert_eq!(smart_split("a\\.b.c"), ["a.b", "c"]);
    }
}
