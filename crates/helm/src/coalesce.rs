//! Helm's `CoalesceValues` and `MergeValues`: the values of a chart and of all charts below it as one map.
//!
//! Works on template maps because Helm's own code relies on Go maps being references: a global table copied into a
//! subchart is shared with its parent below the first level, and templates of both see changes to it.

use druse_gotemplate::{MapRef, Val};
use druse_object::Str;

use crate::error::HelmError;
use crate::node::Node;

const GLOBAL: &str = "global";

/// Collects what Helm would log.
pub(crate) type Warnings = Vec<String>;

/// Coalesces `values` (copied) over the defaults of `node` and its dependencies. With `merge`, nulls are kept for a
/// later pass; without, a null removes the default it stands over.
pub(crate) fn coalesce_values(
    node: &Node,
    values: &MapRef,
    merge: bool,
    warnings: &mut Warnings,
) -> Result<MapRef, HelmError> {
    let dest = crate::node::copy_map(values);
    coalesce(node, &dest, "", merge, warnings)?;
    Ok(dest)
}

fn prefixed(prefix: &str, key: &str) -> String {
    if prefix.is_empty() { key.to_owned() } else { format!("{prefix}.{key}") }
}

fn is_table(v: &Val) -> bool {
    matches!(v, Val::Map(_))
}

fn show(v: &Val) -> String {
    match v {
        Val::Nil | Val::Missing => "<nil>".into(),
        other => serde_json::to_string(&other.to_value()).unwrap_or_default(),
    }
}

fn entries(m: &MapRef) -> Vec<(Str, Val)> {
    m.borrow().iter().map(|(k, v)| (k.clone(), v.clone())).collect()
}

fn coalesce(node: &Node, dest: &MapRef, prefix: &str, merge: bool, warnings: &mut Warnings) -> Result<(), HelmError> {
    chart_values(node, dest, prefix, merge, warnings);
    for sub in &node.dependencies {
        let name = sub.name();
        let table = match dest.get(name) {
            None => {
                let m = MapRef::default();
                dest.set(name, Val::Map(m.clone()));
                m
            }
            Some(Val::Map(m)) => m,
            Some(other) => {
                return Err(HelmError::Values(format!("type mismatch on {name}: {}", go_debug(&other))));
            }
        };
        let sub_prefix = prefixed(prefix, node.name());
        globals(&table, dest, &sub_prefix, warnings);
        coalesce(sub, &table, &sub_prefix, merge, warnings)?;
    }
    Ok(())
}

/// What Go's `%t` prints: a boolean, and anything else as a mistake, lists and maps item by item.
fn go_debug(v: &Val) -> String {
    let joined = |items: Vec<String>| items.join(" ");
    match v {
        Val::Nil | Val::Missing => "%!t(<nil>)".into(),
        Val::Bool(b) => b.to_string(),
        Val::Str(s) => format!("%!t(string={s})"),
        Val::Int(i) => format!("%!t(int={i})"),
        Val::Int64(i) => format!("%!t(int64={i})"),
        Val::Float(f) => format!("%!t(float64={})", crate::metadata::go_float(*f)),
        Val::List(l) => format!("[{}]", joined(l.iter().map(go_debug).collect())),
        Val::Map(m) => {
            format!("map[{}]", joined(entries(m).iter().map(|(k, v)| format!("{k}:{}", go_debug(v))).collect()))
        }
        other => show(other),
    }
}

/// Copies the globals of `src` into `dest`, tables merged from the top down.
fn globals(dest: &MapRef, src: &MapRef, prefix: &str, warnings: &mut Warnings) {
    let dg = match dest.get(GLOBAL) {
        None => MapRef::default(),
        Some(Val::Map(m)) => m,
        Some(_) => {
            warnings.push(format!("warning: skipping globals because destination {GLOBAL} is not a table."));
            return;
        }
    };
    let sg = match src.get(GLOBAL) {
        None => MapRef::default(),
        Some(Val::Map(m)) => m,
        Some(_) => {
            warnings.push(format!("warning: skipping globals because source {GLOBAL} is not a table."));
            return;
        }
    };
    for (key, val) in entries(&sg) {
        if let Val::Map(table) = &val {
            // One level is copied; what is below stays shared, as in Helm.
            let copy = MapRef::new(table.borrow().clone());
            match dg.get(&key) {
                None => dg.set(key, Val::Map(copy)),
                Some(Val::Map(d)) => {
                    tables(&copy, &d, &prefixed(prefix, &key), true, warnings);
                    dg.set(key, Val::Map(copy));
                }
                Some(_) => warnings.push(format!("Conflict: cannot merge map onto non-map for {key:?}. Skipping.")),
            }
        } else if dg.get(&key).is_some_and(|d| is_table(&d)) {
            warnings.push(format!("key {key} is table. Skipping"));
        } else {
            dg.set(key, val);
        }
    }
    dest.set(GLOBAL, Val::Map(dg));
}

/// Fills `v` with the chart's own defaults.
fn chart_values(node: &Node, v: &MapRef, prefix: &str, merge: bool, warnings: &mut Warnings) {
    let sub_prefix = prefixed(prefix, node.name());
    let defaults = node.values();
    for (key, val) in entries(&defaults) {
        match v.get(&key) {
            Some(Val::Nil) if !merge => {
                v.borrow_mut().remove(&key);
            }
            Some(Val::Map(dest)) => match &val {
                Val::Map(src) => {
                    let merge = merge || node.dependencies.iter().any(|d| d.name() == key);
                    if !merge {
                        drop_nulls(src);
                    }
                    tables(&dest, src, &prefixed(&sub_prefix, &key), merge, warnings);
                }
                Val::Nil => {}
                _ => warnings.push(format!("warning: skipped value for {sub_prefix}.{key}: Not a table.")),
            },
            Some(_) => {}
            None => {
                if !merge {
                    match &val {
                        Val::Nil => continue,
                        Val::Map(m) => drop_nulls(m),
                        _ => {}
                    }
                }
                v.set(key, val);
            }
        }
    }
}

fn drop_nulls(m: &MapRef) {
    m.borrow_mut().retain(|_, v| !matches!(v, Val::Nil));
    for (_, v) in entries(m) {
        if let Val::Map(sub) = v {
            drop_nulls(&sub);
        }
    }
}

/// Helm's `coalesceTablesFullKey`: merges `src` into `dst`, which wins.
pub(crate) fn tables(dst: &MapRef, src: &MapRef, prefix: &str, merge: bool, warnings: &mut Warnings) {
    if dst.same(src) {
        return;
    }
    let had_value: Vec<Str> =
        src.borrow().iter().filter(|(_, v)| !matches!(v, Val::Nil)).map(|(k, _)| k.clone()).collect();
    for (key, val) in entries(dst) {
        if matches!(val, Val::Nil) {
            src.set(key, Val::Nil);
        }
    }
    for (key, val) in entries(src) {
        let full = || prefixed(prefix, &key);
        match dst.get(&key) {
            Some(Val::Nil) if !merge && had_value.binary_search(&key).is_ok() => {
                dst.borrow_mut().remove(&key);
            }
            None => dst.set(key, val),
            Some(dv) => match (&dv, &val) {
                (Val::Map(d), Val::Map(s)) => tables(d, s, &full(), merge, warnings),
                (_, Val::Map(_)) => warnings.push(format!(
                    "warning: cannot overwrite table with non table for {} ({})",
                    full(),
                    show(&val)
                )),
                (Val::Map(_), v) if !matches!(v, Val::Nil) => warnings.push(format!(
                    "warning: destination for {} is a table. Ignoring non-table value ({})",
                    full(),
                    show(&val)
                )),
                _ => {}
            },
        }
    }
}
