//! Strategic merge as kustomize does it (kyaml's `merge2`, list items prepended): no `$setElementOrder` and the like,
//! list items matched by all their map keys, items of the patch first, emptied items and null fields dropped.

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

/// Merges a kustomize patch into `target`; false when the patch deletes the whole object (`target` is then null).
///
/// # Errors
/// When a directive is unknown, or patch and target have different kinds of values at the same place; `target` is then
/// unchanged.
pub fn kustomize_merge(target: &mut Value, patch: &Value, schema: Option<&dyn MergeSchema>) -> Result<bool, PatchError> {
    let merged = walk(Some(target.clone()), Some(patch), schema)?;
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

fn walk(dest: Option<Value>, src: Option<&Value>, schema: Schema<'_>) -> Res<Option<Value>> {
    let dest_kind = dest.as_ref().and_then(kind);
    let src_kind = src.and_then(kind);
    let Some(wanted) = dest_kind.or(src_kind) else {
        // A null that stands in the target stays; one in the patch removes.
        return Ok(if src.is_some() { None } else { dest });
    };
    let Some(src) = src else { return Ok(dest) };
    let Some(src_kind) = src_kind else { return Ok(None) };
    if src_kind != wanted {
        return Err(wrong_kind(wanted, src));
    }
    match (dest, src) {
        (Some(Value::Map(dest)), Value::Map(src)) => merge_map(dest, src, schema),
        (Some(Value::Array(dest)), Value::Array(src)) => merge_list(dest, src, schema),
        (None | Some(Value::Null), src) => fresh(src, schema),
        (_, src) => Ok(Some(src.clone())),
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

fn merge_map(mut dest: Map, src: &Map, schema: Schema<'_>) -> Res<Option<Value>> {
    match directive(src.get(PATCH))? {
        Directive::Delete => return Ok(None),
        Directive::Replace => return fresh_map(src, schema).map(|m| Some(Value::Map(m))),
        Directive::Merge => {}
    }
    let mut keys: Vec<&Str> = src.keys().filter(|k| *k != PATCH).collect();
    keys.sort_unstable();
    for key in keys {
        let field = schema.and_then(|s| s.field(key).or_else(|| s.items()));
        let old = dest.get_mut(key).map(std::mem::take);
        match walk(old, src.get(key), field)? {
            Some(value) => {
                dest.insert(key.clone(), value);
            }
            None => {
                dest.remove(key);
            }
        }
    }
    Ok(Some(Value::Map(dest)))
}

/// A value the target did not have: the patch's, without directives and null fields.
fn fresh(src: &Value, schema: Schema<'_>) -> Res<Option<Value>> {
    match src {
        Value::Null => Ok(None),
        Value::Map(m) => {
            if directive(m.get(PATCH))? == Directive::Delete {
                return Ok(None);
            }
            fresh_map(m, schema).map(|m| Some(Value::Map(m)))
        }
        Value::Array(items) if merges(schema) => {
            let (asked, items) = list_directive(items)?;
            if asked == Directive::Delete {
                return Ok(None);
            }
            fresh_items(items, schema).map(|l| Some(Value::Array(l)))
        }
        other => Ok(Some(other.clone())),
    }
}

fn fresh_map(src: &Map, schema: Schema<'_>) -> Res<Map> {
    let mut out = Map::with_capacity(src.len());
    for (key, value) in src.iter().filter(|(k, _)| *k != PATCH) {
        let field = schema.and_then(|s| s.field(key).or_else(|| s.items()));
        if let Some(value) = fresh(value, field)? {
            out.insert(key.clone(), value);
        }
    }
    Ok(out)
}

fn fresh_items<'v>(items: impl Iterator<Item = &'v Value>, schema: Schema<'_>) -> Res<Vec<Value>> {
    let schema = schema.and_then(MergeSchema::items);
    let mut out = Vec::new();
    for item in items {
        if let Some(value) = fresh(item, schema)?
            && !is_empty_map(&value)
        {
            out.push(value);
        }
    }
    Ok(out)
}

fn is_empty_map(value: &Value) -> bool {
    value.as_map().is_some_and(Map::is_empty)
}

/// The directive of a list (an item that is nothing but `$patch`), and the other items.
fn list_directive(items: &[Value]) -> Res<(Directive, impl Iterator<Item = &Value>)> {
    let is_directive = |v: &Value| v.as_map().is_some_and(|m| m.len() == 1 && m.contains_key(PATCH));
    let asked = match items.iter().find(|v| v.get(PATCH).is_some()) {
        Some(v) if is_directive(v) => directive(v.get(PATCH))?,
        _ => Directive::Merge,
    };
    Ok((asked, items.iter().filter(move |v| !is_directive(v))))
}

/// A scalar as its node's text.
fn text(value: &Value) -> String {
    match value {
        Value::String(s) => s.to_string(),
        Value::Null => String::new(),
        other => crate::json::to_string(other),
    }
}

fn merge_list(mut dest: Vec<Value>, src: &[Value], schema: Schema<'_>) -> Res<Option<Value>> {
    if !merges(schema) {
        return Ok(Some(Value::Array(src.to_vec())));
    }
    let (asked, src) = list_directive(src)?;
    let src: Vec<&Value> = src.collect();
    match asked {
        Directive::Delete => return Ok(None),
        Directive::Replace => return fresh_items(src.into_iter(), schema).map(|l| Some(Value::Array(l))),
        Directive::Merge => {}
    }
    let keys = schema.map(|s| s.list_map_keys()).unwrap_or_default();
    if keys.is_empty() {
        // A set of scalars: the patch's first, then what only the target has.
        let mut out: Vec<Value> = Vec::with_capacity(dest.len() + src.len());
        let mut seen = Vec::new();
        for v in src.into_iter().chain(&dest) {
            let t = text(v);
            if !seen.contains(&t) {
                seen.push(t);
                out.push(v.clone());
            }
        }
        return Ok(Some(Value::Array(out)));
    }
    let mut ids: Vec<Vec<String>> = Vec::new();
    for item in src.iter().copied().chain(&dest) {
        let id: Vec<String> = keys.iter().map(|k| item.get(k).map(text).unwrap_or_default()).collect();
        if !ids.contains(&id) {
            ids.push(id);
        }
    }
    unify(&mut ids);
    // Keys no item has are left out of the comparison.
    let used: Vec<usize> = (0..keys.len()).filter(|i| ids.iter().any(|id| id.get(*i).is_some_and(|v| !v.is_empty()))).collect();
    let items = schema.and_then(MergeSchema::items);
    let mut out: Vec<Value> = Vec::with_capacity(ids.len());
    let mut done: Vec<&Vec<String>> = Vec::new();
    for id in &ids {
        if done.contains(&id) {
            continue;
        }
        done.push(id);
        let matches = |v: &Value| {
            let mut any = false;
            v.as_map().is_some()
                && keys.iter().zip(id).filter(|(_, want)| !want.is_empty()).all(|(k, want)| {
                    any = true;
                    v.get(k).is_some_and(|f| text(f) == *want)
                })
                && any
        };
        let old = dest.iter().position(matches);
        let new = src.iter().copied().find(|v| matches(v));
        if old.is_none() && new.is_none() {
            continue;
        }
        let old = old.map(|i| dest.remove(i));
        let Some(mut merged) = walk(old, new, items)?.filter(|v| !is_empty_map(v)) else {
            dest.retain(|v| !matches(v));
            continue;
        };
        if let Some(m) = merged.as_map_mut() {
            for (k, want) in used.iter().filter_map(|i| Some((keys.get(*i)?, id.get(*i)?))) {
                if !m.contains_key(k) && !want.is_empty() {
                    m.insert(*k, scalar(want));
                }
            }
        }
        out.push(merged);
    }
    // Items without any of the keys, and further items with the same ones.
    out.extend(dest.into_iter().filter(|v| !v.is_null() && !is_empty_map(v)));
    Ok(Some(Value::Array(out)))
}

/// The value of an untagged scalar.
fn scalar(text: &str) -> Value {
    yaml::parse(text, yaml::Dialect::Kyaml).unwrap_or_else(|_| Value::from(text))
}

/// Makes one identity of two that agree where both say something (`8080` with and without a protocol).
fn unify(ids: &mut [Vec<String>]) {
    for i in 0..ids.len() {
        for j in 0..ids.len() {
            let (Some(a), Some(b)) = (ids.get(i), ids.get(j)) else { continue };
            let common = a.iter().zip(b).any(|(x, y)| x == y);
            let agree = a.iter().zip(b).all(|(x, y)| x == y || x.is_empty() || y.is_empty());
            if i == j || !common || !agree {
                continue;
            }
            let both: Vec<String> =
                a.iter().zip(b).map(|(x, y)| if x.is_empty() { y.clone() } else { x.clone() }).collect();
            if let Some(a) = ids.get_mut(i) {
                a.clone_from(&both);
            }
            if let Some(b) = ids.get_mut(j) {
                *b = both;
            }
        }
    }
}
