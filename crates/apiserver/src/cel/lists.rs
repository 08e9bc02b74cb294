//! The functions of lists.

use std::sync::Arc;

use super::eval::error;
use super::funcs::{Out, int, no_overload, text};
use super::value::Val;

/// The greatest or the least of values, or of a list's.
pub(super) fn extreme<'a>(args: &[Val<'a>], greatest: bool) -> Out<'a> {
    let list = match args {
        [one] => one.items().map_or_else(|| args.to_vec(), std::borrow::Cow::into_owned),
        _ => args.to_vec(),
    };
    let mut best: Option<Val<'a>> = None;
    for v in list {
        let better = match &best {
            None => true,
            Some(b) => match v.order(b) {
                Some(o) => {
                    if greatest {
                        o.is_gt()
                    } else {
                        o.is_lt()
                    }
                }
                None => return no_overload(),
            },
        };
        if better {
            best = Some(v);
        }
    }
    best.map_or_else(|| error("argument must not be empty"), Ok)
}

/// Sorts items by keys, which must be of one type that has an order.
pub(super) fn sorted<'a>(mut keyed: Vec<(Val<'a>, Val<'a>)>) -> Out<'a> {
    let orders = |(a, _): &(Val<'a>, Val<'a>), (b, _): &(Val<'a>, Val<'a>)| {
        a.type_name() == b.type_name() && a.order(b).is_some()
    };
    if keyed.iter().any(|k| !orders(k, k)) || keyed.windows(2).any(|w| !orders(&w[0], &w[1])) {
        return error("list elements must be comparable");
    }
    keyed.sort_by(|(a, _), (b, _)| a.order(b).unwrap_or(std::cmp::Ordering::Equal));
    Ok(Val::List(Arc::new(keyed.into_iter().map(|(_, v)| v).collect())))
}

/// A list with the items of the lists in it instead of these, `depth` levels down.
fn flatten<'a>(items: &[Val<'a>], depth: i64, out: &mut Vec<Val<'a>>) {
    for v in items {
        match v.items() {
            Some(inner) if depth > 0 => flatten(&inner, depth - 1, out),
            _ => out.push(v.clone()),
        }
    }
}

/// A function of a list.
pub(super) fn on_list<'a>(name: &str, items: &[Val<'a>], args: &[Val<'a>]) -> Out<'a> {
    match (name, args) {
        ("isSorted", []) => {
            for pair in items.windows(2) {
                let [a, b] = pair else { continue };
                match a.order(b) {
                    Some(o) if o.is_gt() => return Ok(Val::Bool(false)),
                    Some(_) => {}
                    None => return no_overload(),
                }
            }
            Ok(Val::Bool(true))
        }
        ("sum", []) => {
            let mut total: Option<Val<'a>> = None;
            for v in items {
                total = Some(match (total, v) {
                    (None, v) => v.clone(),
                    (Some(Val::Int(a)), Val::Int(b)) => match a.checked_add(*b) {
                        Some(n) => Val::Int(n),
                        None => return error("integer overflow"),
                    },
                    (Some(Val::Uint(a)), Val::Uint(b)) => Val::Uint(a.saturating_add(*b)),
                    (Some(Val::Double(a)), Val::Double(b)) => Val::Double(a + b),
                    (Some(Val::Duration(a)), Val::Duration(b)) => Val::Duration(a.saturating_add(*b)),
                    _ => return no_overload(),
                });
            }
            Ok(total.unwrap_or(Val::Int(0)))
        }
        ("min" | "max", []) if items.is_empty() => error(format!("{name} called on empty list")),
        ("min" | "max", []) => extreme(&[Val::List(Arc::new(items.to_vec()))], name == "max"),
        ("indexOf", [v]) => Ok(items.iter().position(|x| x.equals(v)).map_or(Val::Int(-1), int)),
        ("lastIndexOf", [v]) => Ok(items.iter().rposition(|x| x.equals(v)).map_or(Val::Int(-1), int)),
        ("join", sep) => {
            let sep = match sep {
                [] => "",
                [Val::Str(s)] => s.as_str(),
                _ => return no_overload(),
            };
            let mut parts = Vec::with_capacity(items.len());
            for v in items {
                match v {
                    Val::Str(s) => parts.push(s.as_str()),
                    _ => return no_overload(),
                }
            }
            text(parts.join(sep))
        }
        ("slice", [Val::Int(a), Val::Int(b)]) => {
            let range = usize::try_from(*a).ok().zip(usize::try_from(*b).ok()).and_then(|(a, b)| items.get(a..b));
            range
                .map(|r| Val::List(Arc::new(r.to_vec())))
                .map_or_else(|| error("cannot slice: index out of bounds"), Ok)
        }
        ("reverse", []) => Ok(Val::List(Arc::new(items.iter().rev().cloned().collect()))),
        ("distinct", []) => {
            let mut out: Vec<Val<'a>> = Vec::new();
            for v in items {
                if !out.iter().any(|o| o.equals(v)) {
                    out.push(v.clone());
                }
            }
            Ok(Val::List(Arc::new(out)))
        }
        ("flatten", depth @ ([] | [Val::Int(0..)])) => {
            let depth = if let [Val::Int(n)] = depth { *n } else { 1 };
            let mut out = Vec::new();
            flatten(items, depth, &mut out);
            Ok(Val::List(Arc::new(out)))
        }
        ("flatten", [Val::Int(_)]) => error("level must be non-negative"),
        ("sort", []) => sorted(items.iter().map(|v| (v.clone(), v.clone())).collect()),
        ("first", []) => Ok(Val::optional(items.first().cloned())),
        ("last", []) => Ok(Val::optional(items.last().cloned())),
        _ => no_overload(),
    }
}
