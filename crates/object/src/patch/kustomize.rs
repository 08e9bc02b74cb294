//! Strategic merge as kustomize does it (kyaml's `merge2`, list items prepended): no `$setElementOrder` and the like,
//! list items matched by all their map keys, items of the patch first, emptied items and null fields dropped.
//!
//! kyaml walks target and patch together and rewrites the target's nodes in place; where a part of the patch is taken
//! over whole, it walks that part against itself, which is what strips directives and nulls from it. The functions
//! below keep that shape, because several results (the order of ports, for one) follow from it alone.

use super::{MergeSchema, PatchError, merges};
use crate::map::Map;
use crate::value::{Str, Value};
use crate::yaml;

const PATCH: &str = "$patch";

type Res<T> = Result<T, PatchError>;
type Schema<'s> = Option<&'s dyn MergeSchema>;

/// What a map or list of a patch asks for.
#[derive(Clone, Copy, PartialEq)]
enum Directive {
    Merge,
    Replace,
    Delete,
}

/// The patch's side of a walk.
#[derive(Clone, Copy)]
enum Src<'v> {
    /// The patch says nothing here.
    Missing,
    /// The target's side is the patch's own node, taken over.
    Same,
    Value(&'v Value),
}

/// Merges a kustomize patch into `target`; false when the patch deletes the whole object (`target` is then null).
///
/// # Errors
/// When a directive is unknown, or patch and target have different kinds of values at the same place; `target` is then
/// unchanged.
pub fn kustomize_merge(
    target: &mut Value,
    patch: &Value,
    schema: Option<&dyn MergeSchema>,
) -> Result<bool, PatchError> {
    let merged = walk(Some(target.clone()), Src::Value(patch), schema)?;
    let kept = merged.is_some();
    *target = merged.unwrap_or_default();
    Ok(kept)
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Map,
    List,
    Scalar,
}

fn kind(value: &Value) -> Option<Kind> {
    match value {
        Value::Null => None,
        Value::Map(_) => Some(Kind::Map),
        Value::Array(_) => Some(Kind::List),
        _ => Some(Kind::Scalar),
    }
}

fn wrong_kind(expected: Kind, found: &Value) -> PatchError {
    let name = |k| match k {
        Some(Kind::Map) => "MappingNode",
        Some(Kind::List) => "SequenceNode",
        _ => "ScalarNode",
    };
    PatchError(format!(
        "wrong node kind: expected {} but was {}: node contents:\n{}",
        name(Some(expected)),
        name(kind(found)),
        yaml::to_string_ordered(found)
    ))
}

fn walk(dest: Option<Value>, src: Src<'_>, schema: Schema<'_>) -> Res<Option<Value>> {
    let dest_kind = dest.as_ref().and_then(kind);
    let src_kind = match src {
        Src::Value(v) => kind(v),
        _ => None,
    };
    let Some(wanted) = dest_kind.or(src_kind) else {
        // A null that stands in the target stays; one in the patch removes.
        return Ok(if matches!(src, Src::Missing) { dest } else { None });
    };
    if let Src::Value(v) = src {
        match src_kind {
            None => return Ok(None),
            Some(k) if k != wanted => return Err(wrong_kind(wanted, v)),
            Some(_) => {}
        }
    }
    let dest = dest.filter(|d| !d.is_null());
    match (dest, src) {
        (Some(Value::Map(dest)), src) => merge_map(dest, src, schema),
        (None, Src::Value(Value::Map(new))) => {
            if directive(new.get(PATCH))? == Directive::Delete {
                return Ok(None);
            }
            merge_map(new.clone(), Src::Same, schema)
        }
        (Some(Value::Array(dest)), src) if merges(schema) => merge_list(dest, src, schema),
        (None, Src::Value(Value::Array(new))) if merges(schema) => {
            merge_items(new.clone(), &[], Src::Same, schema).map(Some)
        }
        (_, Src::Value(v)) => Ok(Some(v.clone())),
        (dest, _) => Ok(dest),
    }
}

fn directive(value: Option<&Value>) -> Res<Directive> {
    match value {
        None | Some(Value::Null) => Ok(Directive::Merge),
        Some(Value::String(s)) if s == "merge" => Ok(Directive::Merge),
        Some(Value::String(s)) if s == "replace" => Ok(Directive::Replace),
        Some(Value::String(s)) if s == "delete" => Ok(Directive::Delete),
        Some(other) => Err(PatchError(format!("unknown patch strategy '{}'", text(other)))),
    }
}

fn merge_map(mut dest: Map, mut src: Src<'_>, schema: Schema<'_>) -> Res<Option<Value>> {
    match src {
        Src::Missing => {}
        Src::Same => {
            if directive(dest.get(PATCH))? == Directive::Delete {
                return Ok(None);
            }
            dest.remove(PATCH);
        }
        Src::Value(v) => match directive(v.get(PATCH))? {
            Directive::Delete => return Ok(None),
            Directive::Replace => {
                dest = v.as_map().cloned().unwrap_or_default();
                dest.remove(PATCH);
                src = Src::Same;
            }
            Directive::Merge => {}
        },
    }
    let new = match src {
        Src::Value(Value::Map(m)) => Some(m),
        _ => None,
    };
    let mut keys: Vec<Str> = dest.keys().cloned().collect();
    keys.extend(new.into_iter().flat_map(Map::keys).filter(|k| *k != PATCH && !dest.contains_key(k)).cloned());
    keys.sort_unstable();
    for key in keys {
        let field = super::field_of(schema, &key);
        let old = dest.get_mut(&key).map(std::mem::take);
        let src = match (src, new) {
            (Src::Same, _) => Src::Same,
            (_, Some(new)) => new.get(&key).map_or(Src::Missing, Src::Value),
            _ => Src::Missing,
        };
        match walk(old, src, field)? {
            Some(value) => {
                dest.insert(key, value);
            }
            None => {
                dest.remove(&key);
            }
        }
    }
    Ok(Some(Value::Map(dest)))
}

/// The directive of a list: the first item that has a `$patch`, when it has nothing else; the items without it.
fn list_directive(items: &[Value]) -> Res<(Directive, Vec<Value>)> {
    let Some(found) = items.iter().filter_map(Value::as_map).find(|m| m.contains_key(PATCH) && m.len() == 1) else {
        return Ok((Directive::Merge, items.to_vec()));
    };
    let first = items.iter().filter_map(Value::as_map).find(|m| m.contains_key(PATCH));
    if first.is_some_and(|m| m.len() > 1) {
        return Ok((Directive::Merge, items.to_vec()));
    }
    let asked = directive(found.get(PATCH))?;
    let word = found.get(PATCH).map(text).unwrap_or_default();
    let mut rest = items.to_vec();
    set_item(&mut rest, None, &[PATCH], &[word]);
    Ok((asked, rest))
}

/// A scalar as its node's text.
fn text(value: &Value) -> String {
    match value {
        Value::String(s) => s.to_string(),
        Value::Null => "null".into(),
        Value::Map(_) | Value::Array(_) => String::new(),
        other => crate::json::to_string(other),
    }
}

fn merge_list(dest: Vec<Value>, src: Src<'_>, schema: Schema<'_>) -> Res<Option<Value>> {
    let merged = match src {
        Src::Missing => merge_items(dest, &[], Src::Missing, schema)?,
        Src::Same => match list_directive(&dest)? {
            (Directive::Delete, _) => return Ok(None),
            (_, rest) => merge_items(rest, &[], Src::Same, schema)?,
        },
        Src::Value(v) => match list_directive(v.items())? {
            (Directive::Delete, _) => return Ok(None),
            (Directive::Replace, rest) => merge_items(rest, &[], Src::Same, schema)?,
            (Directive::Merge, rest) => merge_items(dest, &rest, src, schema)?,
        },
    };
    Ok(Some(merged))
}

/// Whether an item matches values of keys; an empty value matches any when `any` says so. The key "" stands for a
/// scalar item itself.
fn matches(item: &Value, keys: &[&str], values: &[String], any: bool) -> bool {
    let mut found = false;
    for (i, key) in keys.iter().enumerate() {
        if let Some(want) = values.get(i) {
            found = match item {
                Value::Map(m) if !key.is_empty() => {
                    m.get(key).is_some_and(|v| (any && want.is_empty()) || text(v) == *want)
                }
                Value::Map(_) | Value::Array(_) => false,
                scalar => key.is_empty() && text(scalar) == *want,
            };
        }
        if !found {
            return false;
        }
    }
    found
}

fn is_nothing(item: &Value) -> bool {
    item.is_null() || item.as_map().is_some_and(Map::is_empty)
}

/// kyaml's `ElementSetter`: replaces the items that match by `item`, appends it when none does, removes them without
/// one. Empty items go on the way.
fn set_item(list: &mut Vec<Value>, item: Option<&Value>, keys: &[&str], values: &[String]) {
    let for_maps = keys.first().is_some_and(|k| !k.is_empty()) && values.first().is_some_and(|v| !v.is_empty());
    let mut found = false;
    let mut out = Vec::with_capacity(list.len() + 1);
    for old in std::mem::take(list) {
        if is_nothing(&old) {
            continue;
        }
        if old.as_map().is_none() && for_maps {
            out.push(old);
        } else if matches(&old, keys, values, true) {
            found = true;
            out.extend(item.cloned());
        } else if !values.is_empty() {
            out.push(old);
        }
    }
    if let Some(item) = item.filter(|_| !found) {
        out.push(item.clone());
    }
    *list = out;
}

fn merge_items(mut dest: Vec<Value>, new: &[Value], src: Src<'_>, schema: Schema<'_>) -> Res<Value> {
    let mut keys = schema.map(|s| s.list_map_keys()).unwrap_or_default();
    let mut ids: Vec<Vec<String>> = Vec::new();
    let scalars = keys.is_empty();
    for item in new.iter().chain(&dest) {
        let id: Vec<String> = if scalars {
            vec![text(item)]
        } else {
            let part = |k: &&str| item.get(k).filter(|v| !is_empty(v)).map(text).unwrap_or_default();
            keys.iter().map(part).collect()
        };
        if !ids.contains(&id) {
            ids.push(id);
        }
    }
    if scalars {
        keys.push("");
    }
    unify(&mut ids);
    // Keys no item has a value for are left out of the comparison.
    let used: Vec<usize> =
        (0..keys.len()).filter(|i| ids.iter().any(|id| id.get(*i).is_some_and(|v| !v.is_empty()))).collect();
    let used = if used.is_empty() { (0..keys.len()).collect() } else { used };
    let valid: Vec<&str> = used.iter().filter_map(|i| keys.get(*i).copied()).collect();
    let items = schema.and_then(MergeSchema::items);
    let mut added: Vec<Value> = Vec::with_capacity(ids.len());
    for id in &ids {
        let values: Vec<String> = used.iter().filter_map(|i| id.get(*i).cloned()).collect();
        // An item is looked up by those of the keys it has.
        let has = |v: &&(&str, String)| !v.1.is_empty() || v.0.is_empty();
        let pairs: Vec<(&str, String)> = valid.iter().copied().zip(values.iter().cloned()).collect();
        let (mut by_keys, mut by_values): (Vec<&str>, Vec<String>) = pairs.iter().filter(has).cloned().unzip();
        if by_keys.is_empty() {
            (by_keys, by_values) = pairs.into_iter().unzip();
        }
        let at = dest.iter().position(|v| matches(v, &by_keys, &by_values, false));
        let old = at.and_then(|i| dest.get(i)).cloned();
        let (src, replaces) = match src {
            Src::Value(_) => match new.iter().find(|v| matches(v, &by_keys, &by_values, false)) {
                Some(v) => (Src::Value(v), v.get(PATCH).and_then(Value::as_str) == Some("replace")),
                None => (Src::Missing, false),
            },
            // Nothing of the patch's own to take over where there is no such item.
            Src::Same if old.is_none() => (Src::Missing, false),
            other => (other, false),
        };
        let merged = walk(old, src, items)?.filter(|v| !is_nothing(v));
        let Some(mut merged) = merged else {
            // The directive is off the node even where the node cannot be found again and stays.
            if let Some(m) = at.and_then(|i| dest.get_mut(i)).filter(|_| matches!(src, Src::Same)) {
                m.as_map_mut().and_then(|m| m.remove(PATCH));
            }
            set_item(&mut dest, None, &valid, &values);
            continue;
        };
        if let Some(m) = merged.as_map_mut() {
            for (key, value) in valid.iter().zip(&values) {
                if !m.contains_key(key) && !value.is_empty() {
                    m.insert(*key, scalar(value));
                }
            }
        }
        // The target's node is the merged one now, unless the patch's took its place.
        if let Some(slot) = at.and_then(|i| dest.get_mut(i)).filter(|_| !replaces) {
            *slot = merged.clone();
        }
        set_item(&mut added, Some(&merged), &valid, &values);
    }
    if ids.is_empty() {
        return Ok(Value::Array(dest));
    }
    append(&mut added, dest, &valid);
    Ok(Value::Array(added))
}

/// kyaml's `appendListNode`: the target's items after the patch's; with several keys those both have move to the end.
fn append(added: &mut Vec<Value>, dest: Vec<Value>, keys: &[&str]) {
    for item in dest {
        if keys.first() == Some(&"") {
            let t = text(&item);
            set_item(added, Some(&item), keys, &[t]);
            continue;
        }
        let mut values = Vec::with_capacity(keys.len());
        for key in keys {
            match item.get(key) {
                Some(v) => values.push(text(v)),
                None => added.push(item.clone()),
            }
        }
        if keys.len() > 1 {
            set_item(added, None, keys, &values);
        }
        set_item(added, Some(&item), keys, &values);
    }
}

/// Whether kyaml takes a node for empty.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Map(m) => m.is_empty(),
        Value::Array(a) => a.is_empty(),
        _ => false,
    }
}

/// The value of an untagged scalar.
fn scalar(text: &str) -> Value {
    yaml::parse(text, yaml::Dialect::Kyaml).unwrap_or_else(|_| Value::from(text))
}

/// Makes one identity of two that agree where both say something (`8080` with and without a protocol).
fn unify(ids: &mut [Vec<String>]) {
    if ids.first().is_none_or(|id| id.len() < 2) {
        return;
    }
    for i in 0..ids.len() {
        for j in 0..ids.len() {
            let (Some(a), Some(b)) = (ids.get(i), ids.get(j)) else { continue };
            let common = a.iter().zip(b).any(|(x, y)| x == y);
            let agree = a.iter().zip(b).all(|(x, y)| x == y || x.is_empty() || y.is_empty());
            if i == j || !common || !agree {
                continue;
            }
            let pick = |(x, y): (&String, &String)| if x.is_empty() { y.clone() } else { x.clone() };
            let both: Vec<String> = a.iter().zip(b).map(pick).collect();
            for k in [i, j] {
                if let Some(id) = ids.get_mut(k) {
                    id.clone_from(&both);
                }
            }
        }
    }
}
