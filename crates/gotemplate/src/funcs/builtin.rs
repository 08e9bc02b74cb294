//! The functions of Go's `text/template` itself (`funcs.go`). `and`, `or` and `call` are the executor's.
//!
//! The executor has checked how many arguments there are. Unlike other functions these see [`Val::Missing`] (no value)
//! where Go sees a zero `reflect.Value`, and [`Val::Nil`] where it sees a nil interface.

use std::cmp::Ordering;

use super::bytes;
use crate::env::{Env, FuncError, NativeFn};
use crate::exec::truth;
use crate::printf::{self, type_name};
use crate::strconv;
use crate::val::Val;

/// Name and implementation of each.
pub const FUNCS: &[(&str, NativeFn)] = &[
    ("and", special),
    ("call", special),
    ("eq", eq),
    ("ge", ge),
    ("gt", gt),
    ("html", html),
    ("index", index),
    ("js", js),
    ("le", le),
    ("len", len),
    ("lt", lt),
    ("ne", ne),
    ("not", not),
    ("or", special),
    ("print", print),
    ("printf", printf_),
    ("println", println_),
    ("slice", slice),
    ("urlquery", urlquery),
];

type Res = Result<Val, FuncError>;

/// What Go's reflection says when it is asked about no value at all.
const ZERO_VALUE: &str = "reflect: call of reflect.Value.Type on zero Value";

fn err<T>(message: impl Into<String>) -> Result<T, FuncError> {
    Err(FuncError::new(message))
}

fn special(_: &mut Env<'_>, _: &[Val]) -> Res {
    err("unreachable")
}

fn arg(args: &[Val], i: usize) -> &Val {
    args.get(i).unwrap_or(&Val::Missing)
}

/// Objects whose Go kind is a basic one (a named string, a duration) as that.
fn underlying(v: &Val) -> Val {
    match v {
        Val::Object(o) if matches!(o.kind(), "string" | "bool" | "int" | "int64" | "float64") => {
            Val::from_value_with_ints(&o.to_value())
        }
        v => v.clone(),
    }
}

// Comparison.

#[derive(Clone, Copy, PartialEq, Eq)]
enum Basic {
    Not,
    Bool,
    Int,
    Uint,
    Float,
    String,
}

fn basic(v: &Val) -> Basic {
    match v {
        Val::Bool(_) => Basic::Bool,
        Val::Int(_) | Val::Int64(_) => Basic::Int,
        Val::UInt64(_) => Basic::Uint,
        Val::Float(_) => Basic::Float,
        Val::Str(_) => Basic::String,
        _ => Basic::Not,
    }
}

fn incompatible<T>(a: &Val, b: &Val) -> Result<T, FuncError> {
    err(format!("incompatible types for comparison: {} and {}", type_name(a), type_name(b)))
}

/// The order of two basic values, `None` when they have none (NaN).
fn order(a: &Val, b: &Val) -> Option<Ordering> {
    match (a, b) {
        (Val::Bool(a), Val::Bool(b)) => Some(a.cmp(b)),
        (Val::Int(a) | Val::Int64(a), Val::Int(b) | Val::Int64(b)) => Some(a.cmp(b)),
        (Val::UInt64(a), Val::UInt64(b)) => Some(a.cmp(b)),
        (Val::Int(a) | Val::Int64(a), Val::UInt64(b)) => Some(i128::from(*a).cmp(&i128::from(*b))),
        (Val::UInt64(a), Val::Int(b) | Val::Int64(b)) => Some(i128::from(*a).cmp(&i128::from(*b))),
        (Val::Float(a), Val::Float(b)) => a.partial_cmp(b),
        (Val::Str(a), Val::Str(b)) => Some(a.cmp(b)),
        _ => None,
    }
}

fn comparable(a: Basic, b: Basic) -> bool {
    a == b || matches!((a, b), (Basic::Int, Basic::Uint) | (Basic::Uint, Basic::Int))
}

fn equal(a: &Val, b: &Val) -> Result<bool, FuncError> {
    let (ka, kb) = (basic(a), basic(b));
    if ka != Basic::Not || kb != Basic::Not {
        if comparable(ka, kb) {
            return Ok(order(a, b) == Some(Ordering::Equal));
        }
        return if a.is_nil() || b.is_nil() { Ok(false) } else { incompatible(a, b) };
    }
    let nil = |v: &Val| v.is_nil() || v.is_nil_list();
    if a.is_nil() || b.is_nil() || (kind(a) == kind(b) && (nil(a) || nil(b))) {
        return Ok(nil(a) && nil(b));
    }
    match (a, b) {
        (Val::Object(x), Val::Object(y)) if x.kind() == y.kind() => {
            Ok(std::rc::Rc::ptr_eq(x, y) || (x.type_name() == y.type_name() && x.to_value() == y.to_value()))
        }
        _ if kind(a) != kind(b) => {
            let text = printf::sprintf("%s: %v, %s: %v", &[a.clone(), named(a), named(b), b.clone()]);
            err(format!("non-comparable types {text}"))
        }
        _ => err(format!("non-comparable type {}", printf::sprintf("%s: %v", &[b.clone(), named(b)]))),
    }
}

fn named(v: &Val) -> Val {
    Val::str(type_name(v).as_ref())
}

fn kind(v: &Val) -> &str {
    match v {
        Val::List(_) => "slice",
        Val::Map(_) => "map",
        Val::Object(o) => o.kind(),
        _ => "",
    }
}

fn less(a: &Val, b: &Val) -> Result<bool, FuncError> {
    let (ka, kb) = (basic(a), basic(b));
    if ka == Basic::Not || kb == Basic::Not {
        return err("invalid type for comparison");
    }
    if !comparable(ka, kb) {
        return incompatible(a, b);
    }
    if ka == Basic::Bool {
        return err("invalid type for comparison");
    }
    Ok(order(a, b) == Some(Ordering::Less))
}

fn pair(args: &[Val]) -> (Val, Val) {
    (underlying(arg(args, 0)), underlying(arg(args, 1)))
}

fn eq(_: &mut Env<'_>, args: &[Val]) -> Res {
    if args.len() < 2 {
        return err("missing argument for comparison");
    }
    let first = underlying(arg(args, 0));
    for other in args.iter().skip(1) {
        if equal(&first, &underlying(other))? {
            return Ok(Val::Bool(true));
        }
    }
    Ok(Val::Bool(false))
}

fn ne(_: &mut Env<'_>, args: &[Val]) -> Res {
    let (a, b) = pair(args);
    Ok(Val::Bool(!equal(&a, &b)?))
}

fn lt(_: &mut Env<'_>, args: &[Val]) -> Res {
    let (a, b) = pair(args);
    Ok(Val::Bool(less(&a, &b)?))
}

fn less_or_equal(args: &[Val]) -> Result<bool, FuncError> {
    let (a, b) = pair(args);
    Ok(less(&a, &b)? || equal(&a, &b)?)
}

fn le(_: &mut Env<'_>, args: &[Val]) -> Res {
    Ok(Val::Bool(less_or_equal(args)?))
}

fn gt(_: &mut Env<'_>, args: &[Val]) -> Res {
    Ok(Val::Bool(!less_or_equal(args)?))
}

fn ge(_: &mut Env<'_>, args: &[Val]) -> Res {
    let (a, b) = pair(args);
    Ok(Val::Bool(!less(&a, &b)?))
}

fn not(_: &mut Env<'_>, args: &[Val]) -> Res {
    Ok(Val::Bool(!truth(arg(args, 0))))
}

// Indexing.

/// An index into something of length `cap`.
fn position(v: &Val, cap: usize) -> Result<usize, FuncError> {
    let n = match underlying(v) {
        Val::Int(i) | Val::Int64(i) => i,
        #[allow(clippy::cast_possible_wrap)]
        Val::UInt64(u) => u as i64,
        Val::Nil | Val::Missing => return err("cannot index slice/array with nil"),
        other => {
            return err(format!("cannot index slice/array with type {}", type_name(&other)));
        }
    };
    match usize::try_from(n) {
        Ok(i) if i <= cap => Ok(i),
        _ => err(format!("index out of range: {n}")),
    }
}

fn index(_: &mut Env<'_>, args: &[Val]) -> Res {
    let mut item = arg(args, 0).clone();
    if item.is_nil() {
        return err("index of untyped nil");
    }
    for key in args.iter().skip(1) {
        item = match &item {
            Val::List(list) => {
                let i = position(key, list.len())?;
                match list.get(i) {
                    Some(v) => v.clone(),
                    None => return err("reflect: slice index out of range"),
                }
            }
            Val::Str(s) => {
                let data = bytes::to_bytes(s);
                match data.get(position(key, data.len())?) {
                    Some(b) => Val::UInt64(u64::from(*b)),
                    None => return err("reflect: string index out of range"),
                }
            }
            Val::Map(map) => map.get(&map_key(key)?).unwrap_or(Val::Nil),
            Val::Object(o) => match o.entries() {
                Some(entries) if matches!(o.kind(), "slice" | "array") => {
                    let i = position(key, entries.len())?;
                    match entries.into_iter().nth(i) {
                        Some((_, v)) => v,
                        None => return err("reflect: slice index out of range"),
                    }
                }
                Some(entries) => {
                    let key = map_key(key)?;
                    entries.into_iter().find(|(k, _)| *k == key).map_or(Val::Nil, |(_, v)| v)
                }
                None => return err(format!("can't index item of type {}", o.type_name())),
            },
            Val::Nil | Val::Missing => return err("index of nil pointer"),
            other => return err(format!("can't index item of type {}", type_name(other))),
        };
        if matches!(item, Val::Missing) {
            item = Val::Nil;
        }
    }
    Ok(item)
}

fn map_key(v: &Val) -> Result<druse_object::Str, FuncError> {
    match underlying(v) {
        Val::Str(s) => Ok(s),
        Val::Nil | Val::Missing => err("value is nil; should be of type string"),
        other => err(format!("value has type {}; should be string", type_name(&other))),
    }
}

fn slice(_: &mut Env<'_>, args: &[Val]) -> Res {
    let item = underlying(arg(args, 0));
    let indexes = args.get(1..).unwrap_or(&[]);
    if item.is_nil() {
        return err("slice of untyped nil");
    }
    if indexes.len() > 3 {
        return err(format!("too many slice indexes: {}", indexes.len()));
    }
    let cap = match &item {
        Val::Str(_) if indexes.len() == 3 => return err("cannot 3-index slice a string"),
        Val::Str(s) => bytes::len(s),
        Val::List(l) => l.len(),
        other => return err(format!("can't slice item of type {}", type_name(other))),
    };
    let mut bounds = [0, cap, cap];
    for (bound, v) in bounds.iter_mut().zip(indexes) {
        *bound = position(v, cap)?;
    }
    let [from, to, max] = bounds;
    if from > to {
        return err(format!("invalid slice index: {from} > {to}"));
    }
    if indexes.len() == 3 && to > max {
        return err(format!("invalid slice index: {to} > {max}"));
    }
    Ok(match &item {
        Val::Str(s) => Val::Str(bytes::slice(s, from, to).unwrap_or_default()),
        Val::List(l) => Val::list(l.get(from..to).unwrap_or(&[]).to_vec()),
        _ => Val::Nil,
    })
}

fn len(_: &mut Env<'_>, args: &[Val]) -> Res {
    let n = match &underlying(arg(args, 0)) {
        Val::Str(s) => bytes::len(s),
        Val::List(l) => l.len(),
        Val::Map(m) => m.borrow().len(),
        Val::Object(o) => match o.entries() {
            Some(entries) => entries.len(),
            None => return err(format!("len of type {}", o.type_name())),
        },
        Val::Nil => return err("len of nil pointer"),
        Val::Missing => return err(ZERO_VALUE),
        other => return err(format!("len of type {}", type_name(other))),
    };
    Ok(Val::Int(i64::try_from(n).unwrap_or(i64::MAX)))
}

// Printing and escaping.

fn print(_: &mut Env<'_>, args: &[Val]) -> Res {
    Ok(Val::str(printf::sprint(args)))
}

fn println_(_: &mut Env<'_>, args: &[Val]) -> Res {
    Ok(Val::str(printf::sprintln(args)))
}

fn printf_(_: &mut Env<'_>, args: &[Val]) -> Res {
    match args.split_first() {
        Some((Val::Str(format), rest)) => Ok(Val::str(printf::sprintf(format, rest))),
        _ => err("wrong type for value; expected string"),
    }
}

/// The arguments as one text; nil prints as `<no value>` here.
fn text_of(args: &[Val]) -> String {
    if let [Val::Str(s)] = args {
        return s.to_string();
    }
    let shown: Vec<Val> = args.iter().map(|v| if v.is_nil() { Val::str("<no value>") } else { v.clone() }).collect();
    printf::sprint(&shown)
}

fn html(_: &mut Env<'_>, args: &[Val]) -> Res {
    let mut out = String::new();
    for c in text_of(args).chars() {
        match c {
            '\0' => out.push('\u{fffd}'),
            '"' => out.push_str("&#34;"),
            '\'' => out.push_str("&#39;"),
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            c => out.push(c),
        }
    }
    Ok(Val::str(out))
}

fn js(_: &mut Env<'_>, args: &[Val]) -> Res {
    let mut out = String::new();
    for c in text_of(args).chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\'' => out.push_str("\\'"),
            '"' => out.push_str("\\\""),
            '<' | '>' | '&' | '=' => out.push_str(&format!("\\u{:04X}", u32::from(c))),
            c if c < ' ' => out.push_str(&format!("\\u{:04X}", u32::from(c))),
            c if c.is_ascii() || strconv::is_print(c) => out.push(c),
            c => out.push_str(&format!("\\u{:04X}", u32::from(c))),
        }
    }
    Ok(Val::str(out))
}

fn urlquery(_: &mut Env<'_>, args: &[Val]) -> Res {
    let text = text_of(args);
    let mut out = String::with_capacity(text.len());
    for b in bytes::to_bytes(&text).iter() {
        match b {
            b' ' => out.push('+'),
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                out.push(char::from(*b));
            }
            b => out.push_str(&format!("%{b:02X}")),
        }
    }
    Ok(Val::str(out))
}
