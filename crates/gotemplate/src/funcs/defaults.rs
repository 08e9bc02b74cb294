//! Defaults and emptiness: sprig's `defaults.go`, without JSON.

use crate::env::Env;
use crate::val::Val;

use super::Entry;
use super::args::{Args, Res};

/// The functions of this theme.
pub const TABLE: &[Entry] = &[
    ("default", default),
    ("empty", |_, a| Ok(Val::Bool(is_empty(Args::exact("empty", a, 1)?.any(0))))),
    ("coalesce", |_, a| Ok(a.iter().find(|v| !is_empty(v)).cloned().unwrap_or(Val::Nil))),
    ("all", |_, a| Ok(Val::Bool(a.iter().all(|v| !is_empty(v))))),
    ("any", |_, a| Ok(Val::Bool(a.iter().any(|v| !is_empty(v))))),
    ("ternary", ternary),
];

/// Whether a value is its type's zero value, or a container without entries. Structs never are.
#[must_use]
pub fn is_empty(v: &Val) -> bool {
    match v {
        Val::Nil | Val::Missing => true,
        Val::Bool(b) => !b,
        Val::Int(i) | Val::Int64(i) => *i == 0,
        Val::UInt64(u) => *u == 0,
        Val::Float(f) => *f == 0.0,
        Val::Str(s) => s.is_empty(),
        Val::List(l) => l.is_empty(),
        Val::Map(m) => m.borrow().is_empty(),
        Val::Object(o) => !o.truth(),
    }
}

fn default(_: &mut Env<'_>, a: &[Val]) -> Res {
    let a = Args::at_least("default", a, 1)?;
    Ok(if a.len() < 2 || is_empty(a.any(1)) { a.own(0) } else { a.own(1) })
}

fn ternary(_: &mut Env<'_>, a: &[Val]) -> Res {
    let a = Args::exact("ternary", a, 3)?;
    Ok(if a.bool(2)? { a.own(0) } else { a.own(1) })
}
