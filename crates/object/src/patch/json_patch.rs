//! JSON patch as `evanphx/json-patch` v4 applies it below the API server and kustomize: negative indices count from
//! the end, `replace` may add a key to a map, a missing key tests equal to null; error texts are that library's.

use std::borrow::Cow;

use super::PatchError;
use crate::value::Value;

type Res<T> = Result<T, String>;

/// Applies a JSON patch (a list of operations) to `target` in place; all or nothing.
///
/// # Errors
/// When an operation is malformed, its path is missing, a `test` fails, or copies add more than [`MAX_COPIED`]; `target`
/// is then unchanged.
pub fn json_patch(target: &mut Value, patch: &Value) -> Result<(), PatchError> {
    let Value::Array(operations) = patch else {
        return Err(PatchError(format!("a JSON patch is a list of operations, this is of type {}", patch.kind_name())));
    };
    let mut doc = target.clone();
    let mut copied = 0;
    for operation in operations {
        apply(&mut doc, operation, &mut copied).map_err(PatchError)?;
    }
    *target = doc;
    Ok(())
}

/// How much text all copies of one patch may add, as the API server limits them: a few dozen operations could double a
/// document into more than any memory holds.
pub const MAX_COPIED: usize = 3 * 1024 * 1024;

fn apply(doc: &mut Value, operation: &Value, copied: &mut usize) -> Res<()> {
    if operation.as_map().is_none() {
        return Err(format!("an operation of a JSON patch is an object, this is of type {}", operation.kind_name()));
    }
    let path = || operation.get("path").and_then(Value::as_str);
    let from = || operation.get("from").and_then(Value::as_str);
    let value = || operation.get("value").unwrap_or(&Value::Null);
    match operation.get("op").and_then(Value::as_str).unwrap_or("unknown") {
        "add" => {
            let path = path().ok_or("add operation failed to decode path: missing value")?;
            let (node, key) = find(doc, path)
                .ok_or_else(|| missing(&format!("add operation does not apply: doc is missing path: \"{path}\"")))?;
            add(node, &key, value().clone()).map_err(|e| format!("error in add for path: '{path}': {e}"))
        }
        "remove" => {
            let path = path().ok_or("remove operation failed to decode path: missing value")?;
            let (node, key) = find(doc, path)
                .ok_or_else(|| missing(&format!("remove operation does not apply: doc is missing path: \"{path}\"")))?;
            remove(node, &key).map_err(|e| format!("error in remove for path: '{path}': {e}"))?;
            Ok(())
        }
        "replace" => {
            let path =
                path().ok_or("replace operation failed to decode path: operation missing path field: missing value")?;
            if path.is_empty() {
                if !matches!(value(), Value::Map(_) | Value::Array(_)) {
                    return Err("replace operation value must be object or array".into());
                }
                *doc = value().clone();
                return Ok(());
            }
            let (node, key) = find(doc, path)
                .ok_or_else(|| missing(&format!("replace operation does not apply: doc is missing path: {path}")))?;
            match node {
                Value::Map(m) => {
                    m.insert(&*key, value().clone());
                }
                Value::Array(a) => {
                    let slot = index(&key, a.len()).ok().and_then(|i| a.get_mut(i)).ok_or_else(|| {
                        missing(&format!("replace operation does not apply: doc is missing key: {path}"))
                    })?;
                    *slot = value().clone();
                }
                _ => {}
            }
            Ok(())
        }
        "move" => {
            let from =
                from().ok_or("move operation failed to decode from: operation, missing from field: missing value")?;
            let (node, key) = find(doc, from)
                .ok_or_else(|| missing(&format!("move operation does not apply: doc is missing from path: {from}")))?;
            let value = remove(node, &key).map_err(|e| format!("error in move for path: '{key}': {e}"))?;
            let path =
                path().ok_or("move operation failed to decode path: operation missing path field: missing value")?;
            let (node, key) = find(doc, path).ok_or_else(|| {
                missing(&format!("move operation does not apply: doc is missing destination path: {path}"))
            })?;
            add(node, &key, value).map_err(|e| format!("error in move for path: '{path}': {e}"))
        }
        "copy" => {
            let from =
                from().ok_or("copy operation failed to decode from: operation, missing from field: missing value")?;
            let (node, key) = find(doc, from)
                .ok_or_else(|| missing(&format!("copy operation does not apply: doc is missing from path: {from}")))?;
            let value = get(node, &key).map_err(|e| format!("error in copy for from: '{from}': {e}"))?;
            let value = value.cloned().unwrap_or_default();
            *copied += crate::json::to_string(&value).len();
            if *copied > MAX_COPIED {
                return Err(format!(
                    "Unable to complete the copy, the accumulated size increase of copy is {copied}, exceeding the limit {MAX_COPIED}"
                ));
            }
            let path = path().ok_or("copy operation failed to decode path: missing value")?;
            let (node, key) = find(doc, path).ok_or_else(|| {
                missing(&format!("copy operation does not apply: doc is missing destination path: {path}"))
            })?;
            add(node, &key, value).map_err(|e| format!("error while adding value during copy: {e}"))
        }
        "test" => {
            let path =
                path().ok_or("test operation failed to decode path: operation missing path field: missing value")?;
            let failed = || Err(format!("testing value {path} failed: test failed"));
            if path.is_empty() {
                return if doc == value() { Ok(()) } else { failed() };
            }
            let (node, key) = find(doc, path)
                .ok_or_else(|| missing(&format!("test operation does not apply: is missing path: {path}")))?;
            let found = get(node, &key).map_err(|e| format!("error in test for path: '{path}': {e}"))?;
            if found.unwrap_or(&Value::Null) == value() { Ok(()) } else { failed() }
        }
        other => Err(format!("Unexpected kind: {other}")),
    }
}

fn missing(message: &str) -> String {
    format!("{message}: missing value")
}

/// A part of a pointer: `~1` is `/`, `~0` is `~`.
fn decode(part: &str) -> Cow<'_, str> {
    if part.contains('~') { part.replace("~1", "/").replace("~0", "~").into() } else { part.into() }
}

/// The collection a path ends in, and the last part of the path.
fn find<'v, 'p>(doc: &'v mut Value, path: &'p str) -> Option<(&'v mut Value, Cow<'p, str>)> {
    let (_, rest) = path.split_once('/')?;
    let (parents, key) = rest.rsplit_once('/').map_or((None, rest), |(p, k)| (Some(p), k));
    let mut node = doc;
    for part in parents.into_iter().flat_map(|p| p.split('/')) {
        let part = decode(part);
        node = match node {
            Value::Map(m) => m.get_mut(&part)?,
            Value::Array(a) => {
                let i = index(&part, a.len()).ok()?;
                a.get_mut(i)?
            }
            _ => return None,
        };
    }
    matches!(node, Value::Map(_) | Value::Array(_)).then(|| (node, decode(key)))
}

/// A list index; negative ones count from the end. May be at or past the end.
fn index(key: &str, len: usize) -> Res<usize> {
    let digits = key.strip_prefix(['-', '+']).unwrap_or(key);
    if digits.is_empty() || !digits.bytes().all(|c| c.is_ascii_digit()) {
        return Err(format!("strconv.Atoi: parsing \"{key}\": invalid syntax"));
    }
    let i: i64 = key.parse().map_err(|_| format!("strconv.Atoi: parsing \"{key}\": value out of range"))?;
    let len = i64::try_from(len).unwrap_or(i64::MAX);
    let at = if i < 0 { i + len } else { i };
    usize::try_from(at).map_err(|_| invalid(i))
}

fn invalid(i: i64) -> String {
    format!("Unable to access invalid index: {i}: invalid index referenced")
}

fn get<'v>(node: &'v Value, key: &str) -> Res<Option<&'v Value>> {
    match node {
        Value::Map(m) => Ok(m.get(key)),
        Value::Array(a) => {
            let i = index(key, a.len())?;
            a.get(i).map(Some).ok_or_else(|| invalid(i64::try_from(i).unwrap_or(i64::MAX)))
        }
        _ => Ok(None),
    }
}

fn add(node: &mut Value, key: &str, value: Value) -> Res<()> {
    match node {
        Value::Map(m) => {
            m.insert(key, value);
        }
        Value::Array(a) if key == "-" => a.push(value),
        Value::Array(a) => {
            // An index from the end counts the place after the last item too.
            let i = index(key, a.len() + 1).map_err(|e| {
                if e.starts_with("strconv") { format!("value was not a proper array index: '{key}': {e}") } else { e }
            })?;
            if i > a.len() {
                return Err(invalid(i64::try_from(i).unwrap_or(i64::MAX)));
            }
            a.insert(i, value);
        }
        _ => {}
    }
    Ok(())
}

fn remove(node: &mut Value, key: &str) -> Res<Value> {
    match node {
        Value::Map(m) => m.remove(key).ok_or_else(|| missing(&format!("Unable to remove nonexistent key: {key}"))),
        Value::Array(a) => {
            let i = index(key, a.len())?;
            if i >= a.len() {
                return Err(invalid(i64::try_from(i).unwrap_or(i64::MAX)));
            }
            Ok(a.remove(i))
        }
        _ => Ok(Value::Null),
    }
}
