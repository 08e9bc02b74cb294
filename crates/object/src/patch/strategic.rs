//! Strategic merge as `k8s.io/apimachinery` does it for the API server and kubectl: directives `$patch`,
//! `$retainKeys`, `$deleteFromPrimitiveList/FIELD`, `$setElementOrder/FIELD`; lists merged by key or as sets, with the
//! server's order where the patch gives none.

use super::{MergeSchema, PatchError, field_of, merges};
use crate::map::Map;
use crate::value::Value;

const PATCH: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const DELETE_FROM: &str = "$deleteFromPrimitiveList/";
const ELEMENT_ORDER: &str = "$setElementOrder/";

type Res<T> = Result<T, PatchError>;
type Schema<'s> = Option<&'s dyn MergeSchema>;

fn err<T>(message: impl Into<String>) -> Res<T> {
    Err(PatchError(message.into()))
}

/// Applies a strategic merge patch to `target` in place; without a schema lists are replaced and maps merged.
///
/// # Errors
/// When a directive is malformed, or a list item lacks its merge key; `target` is then unchanged.
pub fn strategic_merge(target: &mut Value, patch: &Value, schema: Option<&dyn MergeSchema>) -> Result<(), PatchError> {
    let Value::Map(patch) = patch else {
        return err(format!("expected a map, but received a {}", patch.kind_name()));
    };
    let original = match target {
        Value::Map(m) => m.clone(),
        Value::Null => Map::new(),
        other => return err(format!("expected a map, but received a {}", other.kind_name())),
    };
    *target = Value::Map(merge_map(original, patch.clone(), schema)?);
    Ok(())
}

fn merge_map(mut original: Map, mut patch: Map, schema: Schema<'_>) -> Res<Map> {
    match patch.get(PATCH) {
        None => {}
        Some(Value::String(s)) if s == "replace" => {
            patch.remove(PATCH);
            return Ok(patch);
        }
        Some(Value::String(s)) if s == "delete" => return Ok(Map::new()),
        Some(other) => return err(format!("unknown patch type: {} in map: {}", show(other), show_map(&patch))),
    }
    if let Some(keys) = patch.remove(RETAIN_KEYS) {
        let Value::Array(keys) = keys else { return err("invalid patch format of retainKeys") };
        let keeps = |k: &str| keys.iter().any(|v| v.as_str() == Some(k));
        for (k, v) in patch.iter() {
            if !v.is_null() && !k.starts_with(DELETE_FROM) && !k.starts_with(ELEMENT_ORDER) && !keeps(k) {
                return err("invalid patch format of retainKeys");
            }
        }
        original.retain(|k, _| keeps(k));
    }
    apply_element_orders(&mut original, &mut patch, schema)?;
    for (key, value) in patch {
        let deleting = key.strip_prefix(DELETE_FROM).map(str::to_owned);
        let is_delete = deleting.is_some();
        let key = deleting.as_deref().unwrap_or(&key);
        if value.is_null() {
            original.remove(key);
            continue;
        }
        let field = field_of(schema, key);
        let merged = match (original.get_mut(key).map(std::mem::take), value) {
            (Some(Value::Array(old)), Value::Array(delete)) if is_delete => {
                Some(Value::Array(old.into_iter().filter(|v| !delete.contains(v)).collect()))
            }
            // Nothing to delete from.
            (old, _) if is_delete => {
                if let Some(old) = old {
                    original.insert(key, old);
                }
                continue;
            }
            (Some(Value::Map(old)), Value::Map(new)) => Some(Value::Map(merge_map(old, new, field)?)),
            (Some(Value::Array(old)), Value::Array(new)) => Some(Value::Array(merge_list(old, new, field)?)),
            (_, mut new) => {
                discard_nulls(&mut new);
                without_directives(new)
            }
        };
        match merged {
            Some(merged) => {
                original.insert(key, merged);
            }
            None => {
                original.remove(key);
            }
        }
    }
    Ok(original)
}

/// Takes the `$setElementOrder` lists and the lists they order out of the patch and applies both.
fn apply_element_orders(original: &mut Map, patch: &mut Map, schema: Schema<'_>) -> Res<()> {
    let directives: Vec<_> = patch.keys().filter(|k| k.starts_with(ELEMENT_ORDER)).cloned().collect();
    for directive in directives {
        let Some(key) = directive.strip_prefix(ELEMENT_ORDER) else { continue };
        let Some(Value::Array(order)) = patch.remove(&directive) else {
            return err("invalid patch format of setElementOrder list");
        };
        let list = |v: Value| match v {
            Value::Array(a) => Ok(a),
            other => err(format!("expected a []interface{{}}, but received a {}", other.kind_name())),
        };
        let field = field_of(schema, key);
        let merge_key = field.and_then(MergeSchema::merge_key);
        let changes = match patch.get(key) {
            Some(Value::Null) | None => None,
            Some(_) => patch.remove(key).map(list).transpose()?,
        };
        let old = original.get(key).cloned().map(list).transpose()?;
        if let Some(changes) = &changes {
            check_order(changes, &order, merge_key)?;
        }
        let mut server = old.clone().unwrap_or_default();
        if let (Some(changes), Some(merge_key)) = (&changes, merge_key) {
            rewrite_in_place(&mut server, changes, merge_key);
        }
        let none = |l: &Option<Vec<Value>>| l.as_ref().is_none_or(Vec::is_empty);
        if (old.is_some() || changes.is_some()) && none(&old) && none(&changes) {
            return err("no elements in any of the given slices");
        }
        let merged = match (old, changes) {
            (Some(old), None) => old,
            (None, Some(new)) => new.into_iter().filter_map(without_directives).collect(),
            (Some(old), Some(new)) => merge_list(old, new, field)?,
            (None, None) => continue,
        };
        original.insert(key, Value::Array(put_in_order(merged, &order, &server, merge_key)?));
    }
    Ok(())
}

/// What merging makes of the memory of the server's list. apimachinery orders by that list after having deleted from it
/// and appended to it in place, so its length stays and its items move up; kubectl's patches rely on the outcome.
fn rewrite_in_place(server: &mut [Value], changes: &[Value], merge_key: &str) {
    let mut len = server.len();
    for item in changes.iter().filter(|i| is_deletion(i)) {
        let id = item.get(merge_key);
        let mut at = 0;
        while at < len {
            if id.is_some() && server.get(at).and_then(|v| v.get(merge_key)) == id {
                // The last place keeps its item.
                if let Some(tail) = server.get_mut(at..len) {
                    tail.rotate_left(1);
                }
                let copy = len.checked_sub(2).and_then(|i| server.get(i)).cloned();
                if let (Some(copy), Some(last)) = (copy, server.get_mut(len - 1).filter(|_| at + 1 < len)) {
                    *last = copy;
                }
                len -= 1;
            } else {
                at += 1;
            }
        }
    }
    if changes.iter().any(|i| i.get(PATCH).is_some_and(|p| p.as_str() == Some("replace"))) {
        return;
    }
    for item in changes.iter().filter(|i| i.get(PATCH).is_none()) {
        let known = server.iter().take(len).any(|v| v.get(merge_key) == item.get(merge_key));
        if !known {
            if let Some(slot) = server.get_mut(len) {
                *slot = item.clone();
            }
            len += 1;
        }
    }
}

/// The items of a patch must stand in the order its `$setElementOrder` list gives.
fn check_order(patch: &[Value], order: &[Value], merge_key: Option<&str>) -> Res<()> {
    let kept: Vec<&Value> = patch.iter().filter(|i| merge_key.is_none() || !is_deletion(i)).collect();
    if order.is_empty() || patch.is_empty() {
        return Ok(());
    }
    // As apimachinery walks both: other directives are passed only while the order list lasts.
    let (mut at, mut at_order) = (0, 0);
    while let (Some(item), Some(wanted)) = (kept.get(at), order.get(at_order)) {
        if item.get(PATCH).is_some() {
            at += 1;
            continue;
        }
        if identity(item, merge_key)? == identity(wanted, merge_key)? {
            at += 1;
        }
        at_order += 1;
    }
    if at < kept.len() && at_order >= order.len() {
        return err(format!(
            "The order in patch list:\n{}\n doesn't match $setElementOrder list:\n{}\n",
            show_list(patch),
            show_list(order)
        ));
    }
    Ok(())
}

fn is_deletion(item: &Value) -> bool {
    item.get(PATCH).and_then(Value::as_str) == Some("delete")
}

/// What an item is told apart by: the value of its merge key, or itself.
fn identity<'v>(item: &'v Value, merge_key: Option<&str>) -> Res<&'v Value> {
    match (merge_key, item) {
        (None, item) => Ok(item),
        (Some(key), Value::Map(m)) => m
            .get(key)
            .ok_or_else(|| PatchError(format!("map: {} does not contain declared merge key: {key}", show_map(m)))),
        (Some(_), other) => err(format!("expected a map, but received a {}", other.kind_name())),
    }
}

fn merge_list(mut old: Vec<Value>, new: Vec<Value>, schema: Schema<'_>) -> Res<Vec<Value>> {
    if !merges(schema) {
        return Ok(new);
    }
    if old.is_empty() && new.is_empty() {
        return Ok(old);
    }
    let kinds = || old.iter().chain(&new).map(std::mem::discriminant);
    if old.iter().chain(&new).any(|v| v.as_array().is_some()) {
        return err("lists of lists are not supported");
    }
    let maps = old.iter().chain(&new).next().is_some_and(|v| v.as_map().is_some());
    if maps && kinds().any(|k| Some(k) != kinds().next()) {
        return err(format!("list element types are not identical: [{} {}]", show_list(&old), show_list(&new)));
    }
    if !maps {
        let server = old.clone();
        let mut both: Vec<Value> = Vec::with_capacity(old.len() + new.len());
        for v in old.into_iter().chain(new.iter().cloned()) {
            if !both.contains(&v) {
                both.push(v);
            }
        }
        return put_in_order(both, &new, &server, None);
    }
    let Some(key) = schema.and_then(MergeSchema::merge_key) else {
        return err("cannot merge lists without merge key");
    };
    let items = schema.and_then(MergeSchema::items);
    let mut changes = Vec::with_capacity(new.len());
    let mut replace = false;
    for item in new {
        match item.get(PATCH) {
            None => changes.push(item),
            Some(Value::String(s)) if s == "delete" => {
                let id = identity(&item, Some(key))?;
                old.retain(|v| v.get(key) != Some(id));
            }
            Some(Value::String(s)) if s == "replace" => replace = true,
            Some(Value::String(s)) if s == "merge" => {
                return err("merging lists cannot yet be specified in the patch");
            }
            Some(other) => return err(format!("unknown patch type: {} in map: {}", show(other), show(&item))),
        }
    }
    if replace {
        return Ok(changes);
    }
    let server = old.clone();
    let order = changes.clone();
    for item in changes {
        let id = identity(&item, Some(key))?.clone();
        match old.iter_mut().find(|v| v.get(key) == Some(&id)) {
            Some(slot) => {
                if let (Value::Map(a), Value::Map(b)) = (std::mem::take(slot), item) {
                    *slot = Value::Map(merge_map(a, b, items)?);
                }
            }
            None => old.push(item),
        }
    }
    put_in_order(old, &order, &server, Some(key))
}

/// Orders merged items: those the patch (or its order list) names in that order, the others where the server had them.
fn put_in_order(merged: Vec<Value>, order: &[Value], server: &[Value], merge_key: Option<&str>) -> Res<Vec<Value>> {
    let place = |list: &[Value], id: &Value| list.iter().position(|v| identity(v, merge_key).is_ok_and(|i| i == id));
    // (place in the order list, place on the server, item)
    let (mut named, mut rest) = (Vec::new(), Vec::new());
    for item in merged {
        let id = identity(&item, merge_key)?;
        let on_server = place(server, id);
        match place(order, id) {
            Some(i) => named.push((i, on_server, item)),
            None => rest.push((on_server.unwrap_or(usize::MAX), item)),
        }
    }
    named.sort_by_key(|n| n.0);
    rest.sort_by_key(|r| r.0);
    let mut out = Vec::with_capacity(named.len() + rest.len());
    let (mut named, mut rest) = (named.into_iter().peekable(), rest.into_iter().peekable());
    loop {
        let rest_first = match (rest.peek(), named.peek()) {
            (Some((r, _)), Some((_, n, _))) => n.is_some_and(|n| *r < n),
            (Some(_), None) => true,
            (None, Some(_)) => false,
            (None, None) => return Ok(out),
        };
        out.extend(if rest_first { rest.next().map(|r| r.1) } else { named.next().map(|n| n.2) });
    }
}

/// A new value without the parts that are directives; none when it is one itself.
fn without_directives(value: Value) -> Option<Value> {
    match value {
        Value::Map(m) => {
            if m.contains_key(PATCH) {
                return None;
            }
            Some(Value::Map(m.into_iter().filter_map(|(k, v)| Some((k, without_directives(v)?))).collect()))
        }
        Value::Array(a) => Some(Value::Array(a.into_iter().filter_map(without_directives).collect())),
        other => Some(other),
    }
}

fn discard_nulls(value: &mut Value) {
    match value {
        Value::Map(m) => {
            m.retain(|_, v| !v.is_null());
            m.values_mut().for_each(discard_nulls);
        }
        Value::Array(a) => a.iter_mut().for_each(discard_nulls),
        _ => {}
    }
}

/// A value as Go's `%v` prints it, for error texts.
fn show(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".into(),
        Value::String(s) => s.to_string(),
        Value::Array(a) => show_list(a),
        Value::Map(m) => show_map(m),
        other => crate::json::to_string(other),
    }
}

fn show_list(list: &[Value]) -> String {
    let items: Vec<String> = list.iter().map(show).collect();
    format!("[{}]", items.join(" "))
}

fn show_map(map: &Map) -> String {
    let mut entries: Vec<_> = map.iter().collect();
    entries.sort_by(|a, b| a.0.cmp(b.0));
    let items: Vec<String> = entries.iter().map(|(k, v)| format!("{k}:{}", show(v))).collect();
    format!("map[{}]", items.join(" "))
}
