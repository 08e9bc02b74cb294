//! Expressions evaluated.

use std::cell::Cell;
use std::cmp::Ordering;

use druse_aws::sealed::Json;
use zeroize::Zeroizing;

use super::parse::{Node, Order};
use super::{PathError, functions};

/// How many bytes an expression may make of a value, all that it makes on the way included. A secret has 64 KiB at most,
/// and `[@, @] | [@, @] | …` doubles it with every step.
const MOST: usize = 16 << 20;

/// What is left of it.
pub(super) struct Budget(Cell<usize>);

impl Budget {
    pub(super) fn new() -> Self {
        Self(Cell::new(MOST))
    }

    pub(super) fn spend(&self, bytes: usize) -> Result<(), PathError> {
        self.0.set(self.0.get().checked_sub(bytes).ok_or(PathError::TooMuch)?);
        Ok(())
    }
}

/// About how many bytes a value takes.
fn size(v: &Json) -> usize {
    let own = size_of::<Json>();
    match v {
        Json::Null | Json::Bool(_) => own,
        Json::Number(t) | Json::Text(t) => own + t.len(),
        Json::List(items) => own + items.iter().map(size).sum::<usize>(),
        Json::Map(entries) => own + entries.iter().map(|(k, v)| size_of::<String>() + k.len() + size(v)).sum::<usize>(),
    }
}

pub(super) fn evaluate(node: &Node, input: &Json, budget: &Budget) -> Result<Json, PathError> {
    let found = find(node, input, budget)?;
    budget.spend(size(&found))?;
    Ok(found)
}

fn find(node: &Node, input: &Json, budget: &Budget) -> Result<Json, PathError> {
    Ok(match node {
        Node::This | Node::Given(_) => input.clone(),
        Node::Field(name) => input.get(name).cloned().unwrap_or(Json::Null),
        Node::Literal(v) => v.clone(),
        Node::Index(n) => {
            let items = input.items();
            let at = if *n < 0 { n + i64::try_from(items.len()).unwrap_or(i64::MAX) } else { *n };
            usize::try_from(at).ok().and_then(|n| items.get(n)).cloned().unwrap_or(Json::Null)
        }
        Node::Slice(from, to, step) => match input {
            Json::List(items) => Json::List(slice(items, *from, *to, *step)),
            _ => Json::Null,
        },
        Node::Then(first, second) => evaluate(second, &evaluate(first, input, budget)?, budget)?,
        Node::Each(list, then) => match evaluate(list, input, budget)? {
            Json::List(items) => each(items.iter(), then, budget)?,
            _ => Json::Null,
        },
        Node::EachValue(map, then) => match evaluate(map, input, budget)? {
            Json::Map(entries) => each(entries.iter().map(|(_, v)| v), then, budget)?,
            _ => Json::Null,
        },
        Node::Flat(list) => match evaluate(list, input, budget)? {
            Json::List(items) => {
                let mut flat = Vec::new();
                for item in items {
                    match item {
                        Json::List(inner) => flat.extend(inner),
                        other => flat.push(other),
                    }
                }
                Json::List(flat)
            }
            _ => Json::Null,
        },
        Node::Filter(list, condition, then) => match evaluate(list, input, budget)? {
            Json::List(items) => {
                let mut kept = Vec::new();
                for item in items {
                    if is_true(&evaluate(condition, &item, budget)?) {
                        kept.push(item);
                    }
                }
                each(kept.iter(), then, budget)?
            }
            _ => Json::Null,
        },
        Node::List(_) | Node::Map(_) if *input == Json::Null => Json::Null,
        Node::List(nodes) => Json::List(nodes.iter().map(|n| evaluate(n, input, budget)).collect::<Result<_, _>>()?),
        Node::Map(entries) => {
            let entry = |(k, n): &(String, Node)| Ok((Zeroizing::new(k.clone()), evaluate(n, input, budget)?));
            Json::Map(entries.iter().map(entry).collect::<Result<_, PathError>>()?)
        }
        Node::Compare(order, left, right) => {
            compare(*order, &evaluate(left, input, budget)?, &evaluate(right, input, budget)?)
        }
        Node::And(left, right) => {
            let left = evaluate(left, input, budget)?;
            if is_true(&left) { evaluate(right, input, budget)? } else { left }
        }
        Node::Or(left, right) => {
            let left = evaluate(left, input, budget)?;
            if is_true(&left) { left } else { evaluate(right, input, budget)? }
        }
        Node::Not(inner) => Json::Bool(!is_true(&evaluate(inner, input, budget)?)),
        Node::Call(name, arguments) => functions::call(name, arguments, input, budget)?,
    })
}

fn each<'a>(items: impl Iterator<Item = &'a Json>, then: &Node, budget: &Budget) -> Result<Json, PathError> {
    let found = items.map(|i| evaluate(then, i, budget)).filter(|v| !matches!(v, Ok(Json::Null)));
    Ok(Json::List(found.collect::<Result<_, _>>()?))
}

fn slice(items: &[Json], from: Option<i64>, to: Option<i64>, step: i64) -> Vec<Json> {
    let length = i64::try_from(items.len()).unwrap_or(i64::MAX);
    let (low, high) = if step > 0 { (0, length) } else { (-1, length - 1) };
    let bound = |n: Option<i64>, otherwise: i64| match n {
        None => otherwise,
        Some(n) if n < 0 => n.saturating_add(length).clamp(low, high),
        Some(n) => n.clamp(low, high),
    };
    let (from, to) = if step > 0 { (bound(from, low), bound(to, high)) } else { (bound(from, high), bound(to, low)) };
    let mut out = Vec::new();
    let mut at = from;
    while if step > 0 { at < to } else { at > to } {
        out.extend(usize::try_from(at).ok().and_then(|n| items.get(n)).cloned());
        at = at.saturating_add(step);
    }
    out
}

pub(super) fn is_true(v: &Json) -> bool {
    match v {
        Json::Null | Json::Bool(false) => false,
        Json::Text(t) => !t.is_empty(),
        Json::List(items) => !items.is_empty(),
        Json::Map(entries) => !entries.is_empty(),
        _ => true,
    }
}

pub(super) fn number(v: &Json) -> Option<f64> {
    v.number().and_then(|n| n.parse().ok())
}

/// Whether two values are the same, numbers by value and maps in any order.
fn same(a: &Json, b: &Json) -> bool {
    match (a, b) {
        (Json::Number(_), Json::Number(_)) => number(a) == number(b),
        (Json::List(a), Json::List(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Json::Map(x), Json::Map(y)) => {
            x.len() == y.len() && x.iter().all(|(k, v)| b.get(k).is_some_and(|w| same(v, w)))
        }
        _ => a == b,
    }
}

fn compare(order: Order, a: &Json, b: &Json) -> Json {
    let by_size = |wanted: &[Ordering]| match (number(a), number(b)) {
        (Some(a), Some(b)) => Json::Bool(a.partial_cmp(&b).is_some_and(|o| wanted.contains(&o))),
        _ => Json::Null,
    };
    match order {
        Order::Equal => Json::Bool(same(a, b)),
        Order::NotEqual => Json::Bool(!same(a, b)),
        Order::Less => by_size(&[Ordering::Less]),
        Order::AtMost => by_size(&[Ordering::Less, Ordering::Equal]),
        Order::More => by_size(&[Ordering::Greater]),
        Order::AtLeast => by_size(&[Ordering::Greater, Ordering::Equal]),
    }
}
