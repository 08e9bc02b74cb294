//! Strategic merge as kustomize does it (kyaml's `merge2` with lists that grow at the front), which differs from the
//! API server's: unknown kinds replace lists, new items come first, and of the directives only `$patch` is known.

use druse_object::yaml::Step;
use druse_object::{Map, Value};

use crate::error::{Result, fail};
use crate::fieldspec::wrong_kind;
use crate::ids::text;
use crate::scalar;
use crate::schema::{Schema, Schemas};

/// How deep a patch may nest.
const MAX_DEPTH: usize = 500;

/// Merges `patch` into `dest`; `None` when the patch deletes it.
pub(crate) fn merge(dest: Value, patch: &Value, schemas: &Schemas) -> Result<Option<Value>> {
    let merger = Merger { schemas };
    Ok(match merger.walk(Some(dest), Some(patch.clone()), None, 0)? {
        Out::Clear => None,
        Out::Keep(value) | Out::Replaced(value) => Some(value),
    })
}

/// Removes the nulls for which nothing is written (`key:`) wherever a merge looks: kyaml keeps a null that the patch has
/// no word on when there is a text for it (`null`, `~`). It does not look into lists that are replaced as a whole.
pub(crate) fn drop_blanks(value: &mut Value, ways: &[Vec<Step>], schemas: &Schemas) {
    let root = schemas.of(value);
    for way in ways {
        drop_blank(value, way, root);
    }
}

fn drop_blank(value: &mut Value, way: &[Step], schema: Option<Schema<'_>>) {
    match (way, value) {
        ([Step::Key(key)], Value::Map(map)) if map.get(key).is_some_and(Value::is_null) => {
            map.remove(key);
        }
        ([Step::Key(key), rest @ ..], Value::Map(map)) => {
            if let Some(inner) = map.get_mut(key) {
                drop_blank(inner, rest, schema.and_then(|s| s.field(key)));
            }
        }
        ([Step::Index(i), rest @ ..], Value::Array(items)) => {
            let merges = schema.and_then(Schema::merge_keys).is_some_and(|keys| !keys.is_empty());
            if let Some(item) = items.get_mut(*i).filter(|_| merges) {
                drop_blank(item, rest, schema.and_then(Schema::items));
            }
        }
        _ => {}
    }
}

/// What becomes of a value.
enum Out {
    Clear,
    Keep(Value),
    /// The patch's value took the place of the other.
    Replaced(Value),
}

#[derive(PartialEq)]
enum Directive {
    Merge,
    Replace,
    Delete,
}

struct Merger<'a> {
    schemas: &'a Schemas,
}

fn present(value: Option<&Value>) -> Option<&Value> {
    value.filter(|v| !v.is_null())
}

fn directive_word(word: &str) -> Result<Directive> {
    match word {
        "delete" => Ok(Directive::Delete),
        "replace" => Ok(Directive::Replace),
        "merge" => Ok(Directive::Merge),
        other => Err(fail!("unknown patch strategy '{other}'")),
    }
}

/// Reads and removes the directive of a map.
fn map_directive(patch: &mut Map) -> Result<Directive> {
    let Some(value) = patch.get("$patch") else { return Ok(Directive::Merge) };
    let directive = directive_word(&text(value))?;
    patch.remove("$patch");
    Ok(directive)
}

/// Reads and removes the directive of a list: an item with nothing but `$patch`.
fn list_directive(patch: &mut Vec<Value>) -> Result<Directive> {
    let Some(item) = patch.iter().find(|i| i.get("$patch").is_some()) else { return Ok(Directive::Merge) };
    if item.as_map().is_none_or(|m| m.len() > 1) {
        return Ok(Directive::Merge);
    }
    let word = item.get("$patch").map(text).unwrap_or_default();
    let directive = directive_word(&word)?;
    patch.retain(|i| i.get("$patch").map(text).as_ref() != Some(&word));
    Ok(directive)
}

impl<'a> Merger<'a> {
    fn walk(&self, dest: Option<Value>, patch: Option<Value>, schema: Option<Schema<'a>>, depth: usize) -> Result<Out> {
        if depth > MAX_DEPTH {
            return Err(fail!("patch is nested too deeply"));
        }
        let first = present(dest.as_ref()).or_else(|| present(patch.as_ref()));
        let expected = match first {
            None => {
                // Nothing but nulls: an explicit null stays unless the patch has a word on it.
                return Ok(match (dest, patch) {
                    (Some(Value::Null), None) => Out::Keep(Value::Null),
                    _ => Out::Clear,
                });
            }
            Some(Value::Map(_)) => "MappingNode",
            Some(Value::Array(_)) => "SequenceNode",
            Some(_) => "ScalarNode",
        };
        for value in [&dest, &patch] {
            let matches = match present(value.as_ref()) {
                None => true,
                Some(Value::Map(_)) => expected == "MappingNode",
                Some(Value::Array(_)) => expected == "SequenceNode",
                Some(_) => expected == "ScalarNode",
            };
            if !matches && let Some(value) = value {
                return Err(wrong_kind(expected, value));
            }
        }
        let schema = schema.or_else(|| [&dest, &patch].into_iter().find_map(|v| self.schemas.of(present(v.as_ref())?)));
        match expected {
            "MappingNode" => self.walk_map(dest, patch, schema, depth),
            "SequenceNode" => match schema.and_then(Schema::merge_keys) {
                Some(keys) => self.walk_keyed(dest, patch, schema, keys, depth),
                None => Ok(settle(patch.or(dest))),
            },
            _ => Ok(settle(match (dest, patch) {
                (dest, None) => dest,
                (Some(dest), Some(patch)) => Some(scalar::over(&dest, patch)),
                (None, patch) => patch,
            })),
        }
    }

    fn walk_map(
        &self,
        dest: Option<Value>,
        patch: Option<Value>,
        schema: Option<Schema<'a>>,
        depth: usize,
    ) -> Result<Out> {
        let mut replaced = false;
        let (mut dest, patch) = match (dest, patch) {
            (Some(Value::Map(dest)), None) => (dest, Map::new()),
            (Some(Value::Map(_)), Some(Value::Null)) => return Ok(Out::Clear),
            (Some(Value::Map(dest)), Some(Value::Map(mut patch))) => match map_directive(&mut patch)? {
                Directive::Delete => return Ok(Out::Clear),
                Directive::Merge => (dest, patch),
                Directive::Replace => {
                    replaced = true;
                    (patch.clone(), patch)
                }
            },
            // A map that is new is merged into itself: directives and nulls inside it go.
            (_, Some(Value::Map(mut patch))) => match map_directive(&mut patch) {
                Ok(Directive::Delete) => return Ok(Out::Clear),
                _ => (patch.clone(), patch),
            },
            (dest, _) => return Ok(settle(dest)),
        };
        // Without a schema there is no keyed list inside, and what the patch does not name stays as it is.
        if patch.is_empty() && schema.is_none() {
            return Ok(Out::Keep(Value::Map(dest)));
        }
        let mut names: Vec<_> = dest.keys().chain(patch.keys()).cloned().collect();
        names.sort();
        names.dedup();
        for name in names {
            let has = dest.get_mut(&name).map(std::mem::take);
            let field_schema = schema.and_then(|s| s.field(&name));
            match self.walk(has, patch.get(&name).cloned(), field_schema, depth + 1)? {
                Out::Clear => {
                    dest.remove(&name);
                }
                Out::Keep(value) | Out::Replaced(value) => {
                    dest.insert(name, value);
                }
            }
        }
        let out = Value::Map(dest);
        Ok(if replaced { Out::Replaced(out) } else { Out::Keep(out) })
    }

    fn walk_keyed(
        &self,
        dest: Option<Value>,
        patch: Option<Value>,
        schema: Option<Schema<'a>>,
        keys: &[String],
        depth: usize,
    ) -> Result<Out> {
        let (dest, patch) = match (dest, patch) {
            (Some(Value::Array(dest)), None) => (dest, Vec::new()),
            (Some(Value::Array(_)), Some(Value::Null)) => return Ok(Out::Clear),
            (Some(Value::Array(dest)), Some(Value::Array(mut patch))) => match list_directive(&mut patch)? {
                Directive::Delete => return Ok(Out::Clear),
                Directive::Merge => (dest, patch),
                Directive::Replace => (patch.clone(), patch),
            },
            (_, Some(Value::Array(patch))) => (patch.clone(), patch),
            (dest, _) => return Ok(settle(dest)),
        };
        let items = schema.and_then(Schema::items);
        if keys.is_empty() {
            return Ok(Out::Keep(Value::Array(merge_set(dest, patch))));
        }
        self.merge_items(dest, &patch, items, keys, depth).map(|items| Out::Keep(Value::Array(items)))
    }

    fn merge_items(
        &self,
        mut dest: Vec<Value>,
        patch: &[Value],
        schema: Option<Schema<'a>>,
        keys: &[String],
        depth: usize,
    ) -> Result<Vec<Value>> {
        let mut all: Vec<Vec<String>> = Vec::new();
        for item in patch.iter().chain(&dest) {
            let values: Vec<String> = keys.iter().map(|k| key_text(item, k)).collect();
            if !all.contains(&values) {
                all.push(values);
            }
        }
        if keys.len() > 1 {
            unify(&mut all);
        }
        let mut added: Vec<Value> = Vec::new();
        let mut used: Vec<String> = keys.to_vec();
        for values in all.clone() {
            let (valid_keys, valid_values) = valid(&all, &values, keys);
            let (own_keys, own_values) = valid(std::slice::from_ref(&valid_values), &valid_values, &valid_keys);
            let at = position(&dest, &own_keys, &own_values);
            let from_patch = position(patch, &own_keys, &own_values).and_then(|i| patch.get(i)).cloned();
            let old = at.and_then(|i| dest.get(i)).cloned();
            let out = self.walk(old, from_patch, schema, depth + 1)?;
            used.clone_from(&valid_keys);
            let (mut value, replaced) = match out {
                Out::Keep(value) => (value, false),
                Out::Replaced(value) => (value, true),
                Out::Clear => (Value::Null, false),
            };
            let gone = match &value {
                Value::Null => true,
                Value::Map(m) => m.is_empty(),
                _ => false,
            };
            if gone {
                set_item(&mut dest, None, &valid_keys, &valid_values);
                continue;
            }
            if let Value::Map(map) = &mut value {
                for (key, text) in valid_keys.iter().zip(&valid_values) {
                    if !map.contains_key(key) && !text.is_empty() {
                        map.insert(key.as_str(), scalar::resolve(text));
                    }
                }
            }
            // kyaml merges in place, so the item of the old list is the merged one too, except where the patch's
            // took its place: there the old one comes back below, as it does in kustomize.
            if let Some(place) = at.and_then(|i| dest.get_mut(i))
                && !replaced
            {
                *place = value.clone();
            }
            set_item(&mut added, Some(value), &valid_keys, &valid_values);
        }
        for item in dest {
            let mut values = Vec::new();
            for key in &used {
                match item.get(key) {
                    Some(value) => values.push(text(value).to_string()),
                    None => added.push(item.clone()),
                }
            }
            if used.len() > 1 {
                set_item(&mut added, None, &used, &values);
            }
            set_item(&mut added, Some(item), &used, &values);
        }
        Ok(added)
    }
}

fn settle(value: Option<Value>) -> Out {
    match value {
        None | Some(Value::Null) => Out::Clear,
        Some(value) => Out::Keep(value),
    }
}

/// The text of an item's key; empty when it has none or an empty one.
fn key_text(item: &Value, key: &str) -> String {
    item.get(key).map(|v| text(v).to_string()).unwrap_or_default()
}

/// Gives lists of key values that agree where both say something what the other says more.
fn unify(all: &mut [Vec<String>]) {
    for i in 0..all.len() {
        for j in 0..all.len() {
            let (Some(a), Some(b)) = (all.get(i), all.get(j)) else { continue };
            let agrees = a.iter().zip(b).all(|(x, y)| x == y || x.is_empty() || y.is_empty());
            let common = a.iter().zip(b).any(|(x, y)| x == y);
            if !agrees || !common {
                continue;
            }
            let joined: Vec<String> =
                a.iter().zip(b).map(|(x, y)| if x.is_empty() { y.clone() } else { x.clone() }).collect();
            for k in [i, j] {
                if let Some(place) = all.get_mut(k) {
                    place.clone_from(&joined);
                }
            }
        }
    }
}

/// The keys that any item has, and an item's values for them.
fn valid(all: &[Vec<String>], values: &[String], keys: &[String]) -> (Vec<String>, Vec<String>) {
    let used = |i: usize| all.iter().any(|v| v.get(i).is_some_and(|v| !v.is_empty()));
    if !(0..keys.len()).any(used) {
        return (keys.to_vec(), values.to_vec());
    }
    let keep = |list: &[String]| -> Vec<String> {
        list.iter().enumerate().filter(|(i, _)| used(*i)).map(|(_, v)| v.clone()).collect()
    };
    (keep(keys), keep(values))
}

fn matches(item: &Value, keys: &[String], values: &[String]) -> bool {
    keys.iter().zip(values).all(|(k, v)| item.get(k).is_some_and(|x| !is_container(x) && text(x) == v.as_str()))
}

fn is_container(value: &Value) -> bool {
    matches!(value, Value::Map(_) | Value::Array(_))
}

fn position(items: &[Value], keys: &[String], values: &[String]) -> Option<usize> {
    items.iter().position(|item| item.as_map().is_some() && matches(item, keys, values))
}

/// Replaces every item with these key values by `element` (or removes them), adding it when there is none. Nulls and
/// empty maps are dropped on the way.
fn set_item(items: &mut Vec<Value>, element: Option<Value>, keys: &[String], values: &[String]) {
    let mut found = false;
    let mapping = keys.first().is_some_and(|k| !k.is_empty()) && values.first().is_some_and(|v| !v.is_empty());
    let mut out = Vec::with_capacity(items.len() + 1);
    for item in items.drain(..) {
        match &item {
            Value::Null => continue,
            Value::Map(m) if m.is_empty() => continue,
            Value::Map(_) => {}
            _ if mapping => {
                out.push(item);
                continue;
            }
            _ => {}
        }
        let hit = !values.is_empty()
            && keys.iter().enumerate().all(|(j, key)| {
                // With fewer values than keys the last answer stands, as in kyaml.
                let Some(value) = values.get(j) else { return true };
                // An empty value asks only that the key is there.
                item.get(key).is_some_and(|x| value.is_empty() || (!is_container(x) && text(x) == value.as_str()))
            });
        if !hit {
            if !values.is_empty() {
                out.push(item);
            }
            continue;
        }
        found = true;
        if let Some(element) = &element {
            out.push(element.clone());
        }
    }
    if let Some(element) = element
        && !found
        && !element.is_null()
    {
        out.push(element);
    }
    *items = out;
}

/// Merges lists of scalars as sets: the patch's first.
fn merge_set(dest: Vec<Value>, patch: Vec<Value>) -> Vec<Value> {
    let mut out: Vec<Value> = Vec::with_capacity(dest.len() + patch.len());
    for item in patch.into_iter().chain(dest) {
        if !out.iter().any(|have| text(have) == text(&item)) {
            out.push(item);
        }
    }
    out
}
