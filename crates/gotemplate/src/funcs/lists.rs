//! Lists: sprig's `list.go`.

use std::rc::Rc;

use crate::env::{Env, FuncError};
use crate::val::Val;

use super::args::{Args, MAX_LIST, NIL_DEREFERENCE, Res, err};
use super::{Entry, defaults, gofmt, numeric};

/// The functions of this theme. The `must` forms differ only in how Go reports the same errors.
pub const TABLE: &[Entry] = &[
    ("list", |_, a| Ok(Val::list(a.to_vec()))),
    ("tuple", |_, a| Ok(Val::list(a.to_vec()))),
    ("append", |_, a| push("append", a)),
    ("push", |_, a| push("push", a)),
    ("mustAppend", |_, a| push("mustAppend", a)),
    ("mustPush", |_, a| push("mustPush", a)),
    ("prepend", |_, a| prepend("prepend", a)),
    ("mustPrepend", |_, a| prepend("mustPrepend", a)),
    ("first", |_, a| first("first", a)),
    ("mustFirst", |_, a| first("mustFirst", a)),
    ("last", |_, a| last("last", a)),
    ("mustLast", |_, a| last("mustLast", a)),
    ("rest", |_, a| rest("rest", a)),
    ("mustRest", |_, a| rest("mustRest", a)),
    ("initial", |_, a| initial("initial", a)),
    ("mustInitial", |_, a| initial("mustInitial", a)),
    ("reverse", |_, a| reverse("reverse", a)),
    ("mustReverse", |_, a| reverse("mustReverse", a)),
    ("compact", |_, a| compact("compact", a)),
    ("mustCompact", |_, a| compact("mustCompact", a)),
    ("uniq", |_, a| uniq("uniq", a)),
    ("mustUniq", |_, a| uniq("mustUniq", a)),
    ("without", |_, a| without("without", a)),
    ("mustWithout", |_, a| without("mustWithout", a)),
    ("has", |_, a| has("has", a)),
    ("mustHas", |_, a| has("mustHas", a)),
    ("slice", |_, a| slice("slice", a)),
    ("mustSlice", |_, a| slice("mustSlice", a)),
    ("chunk", |_, a| chunk("chunk", a)),
    ("mustChunk", |_, a| chunk("mustChunk", a)),
    ("concat", concat),
];

/// The items of a list; `what` is Go's complaint about anything else, followed by its kind.
fn items(v: &Val, what: &str) -> Result<Rc<Vec<Val>>, FuncError> {
    match v {
        Val::List(l) => Ok(Rc::clone(l)),
        Val::Nil | Val::Missing => err(NIL_DEREFERENCE),
        // A Go slice type with methods, such as `.Capabilities.APIVersions`.
        Val::Object(o) if matches!(o.kind(), "slice" | "array") => {
            Ok(Rc::new(o.entries().unwrap_or_default().into_iter().map(|(_, item)| item).collect()))
        }
        other => err(format!("{what} {}", gofmt::kind(other))),
    }
}

fn push(name: &str, a: &[Val]) -> Res {
    let a = Args::exact(name, a, 2)?;
    let mut out = items(a.any(0), "Cannot push on type")?.to_vec();
    out.push(a.own(1));
    Ok(Val::list(out))
}

fn prepend(name: &str, a: &[Val]) -> Res {
    let a = Args::exact(name, a, 2)?;
    let mut out = items(a.any(0), "Cannot prepend on type")?.to_vec();
    out.insert(0, a.own(1));
    Ok(Val::list(out))
}

fn first(name: &str, a: &[Val]) -> Res {
    let a = Args::exact(name, a, 1)?;
    Ok(items(a.any(0), "Cannot find first on type")?.first().cloned().unwrap_or(Val::Nil))
}

fn last(name: &str, a: &[Val]) -> Res {
    let a = Args::exact(name, a, 1)?;
    Ok(items(a.any(0), "Cannot find last on type")?.last().cloned().unwrap_or(Val::Nil))
}

fn rest(name: &str, a: &[Val]) -> Res {
    let a = Args::exact(name, a, 1)?;
    Ok(match items(a.any(0), "Cannot find rest on type")?.as_slice() {
        [] => Val::nil_list(),
        [_, tail @ ..] => Val::list(tail.to_vec()),
    })
}

fn initial(name: &str, a: &[Val]) -> Res {
    let a = Args::exact(name, a, 1)?;
    Ok(match items(a.any(0), "Cannot find initial on type")?.as_slice() {
        [] => Val::nil_list(),
        [head @ .., _] => Val::list(head.to_vec()),
    })
}

fn reverse(name: &str, a: &[Val]) -> Res {
    let a = Args::exact(name, a, 1)?;
    Ok(Val::list(items(a.any(0), "Cannot find reverse on type")?.iter().rev().cloned().collect()))
}

fn compact(name: &str, a: &[Val]) -> Res {
    let a = Args::exact(name, a, 1)?;
    let list = items(a.any(0), "Cannot compact on type")?;
    Ok(Val::list(list.iter().filter(|v| !defaults::is_empty(v)).cloned().collect()))
}

fn uniq(name: &str, a: &[Val]) -> Res {
    let a = Args::exact(name, a, 1)?;
    let mut out: Vec<Val> = Vec::new();
    // Strings, the usual case, are looked up instead of compared.
    let mut seen = std::collections::HashSet::new();
    for v in items(a.any(0), "Cannot find uniq on type")?.iter() {
        let new = match v {
            Val::Str(s) => seen.insert(s.clone()),
            v => !out.iter().any(|o| gofmt::deep_equal(v, o)),
        };
        if new {
            out.push(v.clone());
        }
    }
    Ok(Val::list(out))
}

fn without(name: &str, a: &[Val]) -> Res {
    let a = Args::at_least(name, a, 1)?;
    let list = items(a.any(0), "Cannot find without on type")?;
    Ok(Val::list(list.iter().filter(|v| !a.from(1).iter().any(|o| gofmt::deep_equal(o, v))).cloned().collect()))
}

fn has(name: &str, a: &[Val]) -> Res {
    let a = Args::exact(name, a, 2)?;
    if a.any(1).is_nil() {
        return Ok(Val::Bool(false));
    }
    let list = items(a.any(1), "Cannot find has on type")?;
    Ok(Val::Bool(list.iter().any(|v| gofmt::deep_equal(a.any(0), v))))
}

fn slice(name: &str, a: &[Val]) -> Res {
    let a = Args::at_least(name, a, 1)?;
    let list = items(a.any(0), "list should be type of slice or array but")?;
    if list.is_empty() {
        return Ok(Val::Nil);
    }
    let bound = |i: usize, default: usize| {
        if a.len() > i { usize::try_from(numeric::to_i64(a.any(i))).ok() } else { Some(default) }
    };
    match (bound(1, 0), bound(2, list.len())) {
        (Some(from), Some(to)) => match list.get(from..to) {
            Some(part) => Ok(Val::list(part.to_vec())),
            None => err("reflect.Value.Slice: slice index out of bounds"),
        },
        _ => err("reflect.Value.Slice: slice index out of bounds"),
    }
}

fn chunk(name: &str, a: &[Val]) -> Res {
    let a = Args::exact(name, a, 2)?;
    let size = a.int(0)?;
    let list = items(a.any(1), "Cannot chunk type")?;
    if list.is_empty() && size > 0 {
        return Ok(Val::list(Vec::new()));
    }
    match usize::try_from(size) {
        Ok(size) if size > 0 => Ok(Val::list(list.chunks(size).map(|c| Val::list(c.to_vec())).collect())),
        _ => err("runtime error: makeslice: len out of range"),
    }
}

fn concat(_: &mut Env<'_>, a: &[Val]) -> Res {
    let mut out = Vec::new();
    for v in a {
        match v {
            Val::List(l) if out.len() + l.len() > MAX_LIST => return err("the resulting list would be too long"),
            Val::List(l) => out.extend(l.iter().cloned()),
            Val::Nil | Val::Missing => return err(NIL_DEREFERENCE),
            other => return err(format!("Cannot concat type {} as list", gofmt::kind(other))),
        }
    }
    Ok(if out.is_empty() { Val::nil_list() } else { Val::list(out) })
}
