//! Maps: sprig's `dict.go`.

use druse_object::Str;

use crate::env::{Env, FuncError};
use crate::val::{MapRef, Val};

use super::args::{Args, MAX_DEPTH, Res, err};
use super::{Entry, gofmt, merge};

/// The functions of this theme. Where Go's map order is random, ours is the keys' order.
pub const TABLE: &[Entry] = &[
    ("dict", dict),
    ("get", get),
    ("set", set),
    ("unset", unset),
    ("hasKey", has_key),
    ("pluck", pluck),
    ("keys", keys),
    ("values", values),
    ("pick", pick),
    ("omit", omit),
    ("merge", |_, a| merged("merge", a, false, false)),
    ("mustMerge", |_, a| merged("mustMerge", a, false, true)),
    ("mergeOverwrite", |_, a| merged("mergeOverwrite", a, true, false)),
    ("mustMergeOverwrite", |_, a| merged("mustMergeOverwrite", a, true, true)),
    ("dig", dig),
    ("deepCopy", |_, a| deep_copy("deepCopy", a)),
    ("mustDeepCopy", |_, a| deep_copy("mustDeepCopy", a)),
];

fn dict(_: &mut Env<'_>, a: &[Val]) -> Res {
    let map = MapRef::default();
    for pair in a.chunks(2) {
        if let Some(key) = pair.first() {
            let key = match key {
                Val::Str(s) => s.clone(),
                other => gofmt::sprint(other).into(),
            };
            let value = pair.get(1).cloned().unwrap_or_else(|| Val::str(""));
            map.set(key, if matches!(value, Val::Missing) { Val::Nil } else { value });
        }
    }
    Ok(Val::Map(map))
}

fn get(_: &mut Env<'_>, a: &[Val]) -> Res {
    let a = Args::exact("get", a, 2)?;
    Ok(a.map(0)?.get(a.str(1)?).unwrap_or_else(|| Val::str("")))
}

fn set(_: &mut Env<'_>, a: &[Val]) -> Res {
    let a = Args::exact("set", a, 3)?;
    if a.any(0).is_nil() {
        return err("assignment to entry in nil map");
    }
    let map = a.map(0)?;
    map.set(a.str(1)?, a.own(2));
    Ok(Val::Map(map))
}

fn unset(_: &mut Env<'_>, a: &[Val]) -> Res {
    let a = Args::exact("unset", a, 2)?;
    let map = a.map(0)?;
    map.borrow_mut().remove(a.str(1)?);
    Ok(Val::Map(map))
}

fn has_key(_: &mut Env<'_>, a: &[Val]) -> Res {
    let a = Args::exact("hasKey", a, 2)?;
    let key = a.str(1)?;
    Ok(Val::Bool(a.map(0)?.borrow().contains_key(key)))
}

fn pluck(_: &mut Env<'_>, a: &[Val]) -> Res {
    let a = Args::at_least("pluck", a, 1)?;
    let key = a.str(0)?;
    let mut out = Vec::new();
    for i in 1..a.len() {
        out.extend(a.map(i)?.get(key));
    }
    Ok(Val::list(out))
}

fn keys(_: &mut Env<'_>, a: &[Val]) -> Res {
    let a = Args::at_least("keys", a, 0)?;
    let mut out = Vec::new();
    for i in 0..a.len() {
        out.extend(a.map(i)?.borrow().keys().cloned().map(Val::Str));
    }
    Ok(Val::list(out))
}

fn values(_: &mut Env<'_>, a: &[Val]) -> Res {
    let a = Args::exact("values", a, 1)?;
    Ok(Val::list(a.map(0)?.borrow().values().cloned().collect()))
}

fn pick(_: &mut Env<'_>, a: &[Val]) -> Res {
    let a = Args::at_least("pick", a, 1)?;
    let (from, out) = (a.map(0)?, MapRef::default());
    for i in 1..a.len() {
        let key = a.str(i)?;
        if let Some(v) = from.get(key) {
            out.set(key, v);
        }
    }
    Ok(Val::Map(out))
}

fn omit(_: &mut Env<'_>, a: &[Val]) -> Res {
    let a = Args::at_least("omit", a, 1)?;
    let mut out = a.map(0)?.borrow().clone();
    for i in 1..a.len() {
        out.remove(a.str(i)?);
    }
    Ok(Val::Map(MapRef::new(out)))
}

fn merged(name: &str, a: &[Val], overwrite: bool, must: bool) -> Res {
    let a = Args::at_least(name, a, 1)?;
    let into = a.map(0)?;
    for i in 1..a.len() {
        if let Err(e) = merge::merge(&into, &a.map(i)?, overwrite) {
            return if must { Err(e) } else { Ok(Val::str("")) };
        }
    }
    Ok(Val::Map(into))
}

/// Go's words for a type assertion to a map that fails.
fn not_a_map(v: &Val) -> String {
    match v {
        Val::Nil | Val::Missing => "interface conversion: interface {} is nil, not map[string]interface {}".to_owned(),
        other => format!(
            "interface conversion: interface {{}} is {}, not map[string]interface {{}}",
            gofmt::type_name(other)
        ),
    }
}

fn dig(_: &mut Env<'_>, a: &[Val]) -> Res {
    let [path @ .., default, root] = a else {
        return err("dig needs at least three arguments");
    };
    if path.is_empty() {
        return err("dig needs at least three arguments");
    }
    if !matches!(root, Val::Map(_)) {
        return err(not_a_map(root));
    }
    let mut steps = Vec::with_capacity(path.len());
    for key in path {
        match key {
            Val::Str(s) => steps.push(s),
            Val::Nil | Val::Missing => return err("interface conversion: interface {} is nil, not string"),
            other => {
                return err(format!("interface conversion: interface {{}} is {}, not string", gofmt::type_name(other)));
            }
        }
    }
    let mut at = root.clone();
    for key in steps {
        let Val::Map(m) = &at else {
            return err(not_a_map(&at));
        };
        match m.get(key) {
            Some(v) => at = v,
            None => return Ok(default.clone()),
        }
    }
    Ok(at)
}

fn deep_copy(name: &str, a: &[Val]) -> Res {
    let a = Args::exact(name, a, 1)?;
    copy(a.any(0), 0)
}

/// A copy that shares no map with the original. Objects, which do not change, are shared.
pub(crate) fn copy(v: &Val, depth: usize) -> Result<Val, FuncError> {
    if depth > MAX_DEPTH {
        return err("deepCopy error: the value is nested too deeply");
    }
    Ok(match v {
        Val::List(l) => Val::list(l.iter().map(|v| copy(v, depth + 1)).collect::<Result<_, _>>()?),
        Val::Map(m) => {
            let copied = |(k, v): (&Str, &Val)| Ok((k.clone(), copy(v, depth + 1)?));
            let entries: Result<_, FuncError> = m.borrow().iter().map(copied).collect();
            Val::Map(MapRef::new(entries?))
        }
        other => other.clone(),
    })
}
