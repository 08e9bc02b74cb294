//! `merge` and `mergeOverwrite` as `mergo` 1.0.1 does them on `map[string]interface{}`.
//!
//! Maps merge in place, key by key, to any depth. Otherwise a value of the source is taken when the target has none
//! or an empty one (false, 0, "", an empty list or map, nil), or when overwriting; overwriting, even an empty value
//! of the source counts. A nil in the source is taken only when overwriting.

use crate::env::FuncError;
use crate::val::{MapRef, Val};

use super::args::{MAX_DEPTH, err};
use super::defaults::is_empty;

/// Merges `from` into `into`.
pub fn merge(into: &MapRef, from: &MapRef, overwrite: bool) -> Result<(), FuncError> {
    merge_at(into, from, overwrite, 0)
}

fn merge_at(into: &MapRef, from: &MapRef, overwrite: bool, depth: usize) -> Result<(), FuncError> {
    if depth > MAX_DEPTH {
        return err("the maps to merge are nested too deeply");
    }
    if into.same(from) {
        return Ok(());
    }
    // A copy of the entries (not of the values): the source may be part of the target.
    let entries: Vec<_> = from.borrow().iter().map(|(k, v)| (k.clone(), v.clone())).collect();
    for (key, source) in entries {
        if source.is_nil() {
            if overwrite {
                into.set(key, Val::Nil);
            }
            continue;
        }
        let target = into.get(&key);
        if let (Some(Val::Map(t)), Val::Map(s)) = (&target, &source) {
            merge_at(t, s, overwrite, depth + 1)?;
            // An empty target that the merge has filled stays; one that is still empty is replaced.
            if !t.borrow().is_empty() {
                continue;
            }
        }
        if overwrite || target.as_ref().is_none_or(is_empty) {
            into.set(key, source);
        }
    }
    Ok(())
}
