//! Evaluation: variables, operators, macros. Errors are absorbed where the other side of `&&` or `||` decides.

use std::sync::Arc;

use druse_object::value::Str;

use super::parse::{Expr, Field, Kind, Lit, Macro, Op};
use super::value::Val;
use super::{CelError, funcs, lists};

const OUT_OF_BUDGET: &str =
    "validation failed due to running out of cost budget, no further validation rules will be run";

/// Variables, what evaluation may still cost, and how deep it is.
pub(crate) struct Scope<'v, 'a> {
    variables: Vec<(Str, Val<'a>)>,
    budget: &'v mut u64,
}

type Out<'a> = Result<Val<'a>, CelError>;

/// Evaluates an expression.
pub(crate) fn eval<'a>(e: &Expr, variables: &[(&str, Val<'a>)], budget: &mut u64) -> Out<'a> {
    let variables = variables.iter().map(|(k, v)| (Str::from(*k), v.clone())).collect();
    Scope { variables, budget }.eval(e)
}

pub(crate) fn error<T>(text: impl Into<String>) -> Result<T, CelError> {
    Err(CelError(text.into()))
}

impl From<Lit> for Val<'_> {
    fn from(l: Lit) -> Self {
        match l {
            Lit::Null => Val::Null,
            Lit::Bool(b) => Val::Bool(b),
            Lit::Int(i) => Val::Int(i),
            Lit::Uint(u) => Val::Uint(u),
            Lit::Double(d) => Val::Double(d),
            Lit::Str(s) => Val::Str(s),
            Lit::Bytes(b) => Val::Bytes(Arc::new(b)),
        }
    }
}

impl<'a> Scope<'_, 'a> {
    /// Takes a cost from the budget.
    pub(crate) fn spend(&mut self, cost: u64) -> Result<(), CelError> {
        if *self.budget < cost.max(1) {
            *self.budget = 0;
            return error(OUT_OF_BUDGET);
        }
        *self.budget -= cost.max(1);
        Ok(())
    }

    fn with<T>(&mut self, names: Vec<(Str, Val<'a>)>, f: impl FnOnce(&mut Self) -> T) -> T {
        let length = self.variables.len();
        self.variables.extend(names);
        let out = f(self);
        self.variables.truncate(length);
        out
    }

    fn variable(&self, name: &str) -> Option<Val<'a>> {
        self.variables.iter().rev().find(|(k, _)| k == name).map(|(_, v)| v.clone())
    }

    pub(crate) fn eval(&mut self, e: &Expr) -> Out<'a> {
        self.spend(1)?;
        match &e.kind {
            Kind::Lit(l) => Ok(l.clone().into()),
            Kind::Ident(name) => match self.variable(name) {
                Some(v) => Ok(v),
                None => funcs::type_named(name)
                    .map(Val::Type)
                    .map_or_else(|| error(format!("undeclared reference to '{name}' (in container '')")), Ok),
            },
            Kind::Select { of, field, optional } => self.select(of, field, *optional),
            Kind::Has(of, field) => {
                let v = self.eval(of)?;
                Ok(Val::Bool(has_key(&v, &field.name)?))
            }
            Kind::Index { of, at, optional } => {
                let (v, k) = (self.eval(of)?, self.eval(at)?);
                let is_optional = *optional || matches!(v, Val::Optional(_));
                let found = v.get(&k)?;
                if is_optional {
                    return Ok(Val::optional(found));
                }
                match found {
                    Some(v) => Ok(v),
                    None if v.is_list() => error(format!("index out of bounds: {}", k.text())),
                    None => error(format!("no such key: {}", k.text())),
                }
            }
            Kind::Call { name, target, args } => self.call(name, target.as_deref(), args),
            Kind::List(items) => {
                let mut out = Vec::with_capacity(items.len());
                for (e, optional) in items {
                    match (self.eval(e)?, optional) {
                        (Val::Optional(v), true) => out.extend(v.map(|v| *v)),
                        (v, _) => out.push(v),
                    }
                }
                Ok(Val::List(Arc::new(out)))
            }
            Kind::Map(items) | Kind::Message(_, items) => {
                let mut out: Vec<(Val<'a>, Val<'a>)> = Vec::with_capacity(items.len());
                for (k, v, optional) in items {
                    let k = self.eval(k)?;
                    let v = match (self.eval(v)?, optional) {
                        (Val::Optional(None), true) => continue,
                        (Val::Optional(Some(v)), true) => *v,
                        (v, _) => v,
                    };
                    if out.iter().any(|(l, _)| l.equals(&k)) {
                        return error(format!("Failed with repeated key: {}", k.text()));
                    }
                    out.push((k, v));
                }
                Ok(Val::Map(Arc::new(out)))
            }
            Kind::If(cond, yes, no) => match self.eval(cond)? {
                Val::Bool(true) => self.eval(yes),
                Val::Bool(false) => self.eval(no),
                _ => error("no such overload"),
            },
            Kind::And(a, b) => self.junction(a, b, false),
            Kind::Or(a, b) => self.junction(a, b, true),
            Kind::Not(e) => match self.eval(e)? {
                Val::Bool(b) => Ok(Val::Bool(!b)),
                _ => error("no such overload"),
            },
            Kind::Neg(e) => match self.eval(e)? {
                Val::Int(i) => i.checked_neg().map(Val::Int).map_or_else(|| error("integer overflow"), Ok),
                Val::Double(d) => Ok(Val::Double(-d)),
                Val::Duration(d) => d.checked_neg().map(Val::Duration).map_or_else(|| error("integer overflow"), Ok),
                _ => error("no such overload"),
            },
            Kind::Binary(op, a, b) => {
                let (a, b) = (self.eval(a)?, self.eval(b)?);
                self.spend(size_cost(&a) + size_cost(&b))?;
                binary(*op, &a, &b)
            }
            Kind::Over { kind, range, names, bodies } => self.over(*kind, range, names, bodies),
        }
    }

    fn select(&mut self, of: &Expr, field: &Field, optional: bool) -> Out<'a> {
        let v = self.eval(of)?;
        let field = &field.name;
        let key = Val::Str(field.clone());
        if optional || matches!(v, Val::Optional(_)) {
            return Ok(Val::optional(v.get(&key).unwrap_or(None)));
        }
        if let Val::Native(n) = &v {
            return n.field(field).map_or_else(|| error(format!("undefined field '{field}'")), Ok);
        }
        if !v.is_map() {
            return error(format!("unsupported type: {} has no field {field}", v.type_name()));
        }
        match v.get(&key)? {
            Some(v) => Ok(v),
            None => error(format!("no such key: {field}")),
        }
    }

    /// `&&` stops at false, `||` at true, from either side.
    fn junction(&mut self, a: &Expr, b: &Expr, decides: bool) -> Out<'a> {
        let bool_of = |v: Out<'a>| match v {
            Ok(Val::Bool(b)) => Ok(b),
            Ok(_) => error("no such overload"),
            Err(e) => Err(e),
        };
        let left = bool_of(self.eval(a));
        if left == Ok(decides) {
            return Ok(Val::Bool(decides));
        }
        let right = bool_of(self.eval(b));
        match (left, right) {
            (_, Ok(b)) if b == decides => Ok(Val::Bool(decides)),
            (Err(e), _) | (_, Err(e)) => Err(e),
            _ => Ok(Val::Bool(!decides)),
        }
    }

    fn call(&mut self, name: &str, target: Option<&Expr>, args: &[Expr]) -> Out<'a> {
        // Qualified names look like calls on a variable: `optional.of(x)`, `sets.contains(a, b)`.
        if let Some(Kind::Ident(space)) = target.map(|t| &t.kind)
            && self.variable(space).is_none()
            && funcs::is_namespace(space)
        {
            let args = args.iter().map(|a| self.eval(a)).collect::<Result<Vec<_>, _>>()?;
            self.spend(args.iter().map(size_cost).sum())?;
            return funcs::call_global(&format!("{space}.{name}"), &args);
        }
        if let (Some(target), "or" | "orValue") = (target, name) {
            return match (self.eval(target)?, args) {
                (Val::Optional(Some(v)), [_]) => Ok(if name == "or" { Val::Optional(Some(v)) } else { *v }),
                (Val::Optional(None), [other]) => self.eval(other),
                _ => error("no such overload"),
            };
        }
        let target = target.map(|t| self.eval(t)).transpose()?;
        let args = args.iter().map(|a| self.eval(a)).collect::<Result<Vec<_>, _>>()?;
        self.spend(target.iter().chain(&args).map(size_cost).sum())?;
        match target {
            Some(Val::Native(n)) => {
                self.spend(n.cost(name))?;
                n.call(name, &args)
            }
            Some(t) => funcs::call_method(name, &t, &args),
            None => funcs::call_global(name, &args),
        }
    }

    fn over(&mut self, kind: Macro, range: &Expr, names: &[Str], bodies: &[Expr]) -> Out<'a> {
        let range = self.eval(range)?;
        if matches!(kind, Macro::OptMap | Macro::OptFlatMap) {
            let Val::Optional(inner) = range else { return error("no such overload") };
            let (Some(v), Some(name), Some(body)) = (inner, names.first(), bodies.first()) else {
                return Ok(Val::Optional(None));
            };
            let out = self.with(vec![(name.clone(), *v)], |s| s.eval(body))?;
            return Ok(if kind == Macro::OptMap { Val::optional(Some(out)) } else { out });
        }
        let pairs: Vec<(Val<'a>, Val<'a>)> = match (range.items(), range.entries()) {
            (Some(items), _) => items
                .iter()
                .enumerate()
                .map(|(i, v)| (Val::Int(i64::try_from(i).unwrap_or(i64::MAX)), v.clone()))
                .collect(),
            (_, Some(entries)) => entries.into_owned(),
            _ => return error("no such overload"),
        };
        let by_key = !range.is_list();
        let (mut list, mut map): (Vec<Val<'a>>, Vec<(Val<'a>, Val<'a>)>) = (Vec::new(), Vec::new());
        let (mut hits, mut failure) = (0_u64, None);
        for (k, v) in pairs {
            self.spend(1)?;
            // One name stands for a list's item or a map's key; two for index or key, and value.
            let one = if by_key { k.clone() } else { v.clone() };
            let bound: Vec<(Str, Val<'a>)> = match names {
                [a] => vec![(a.clone(), one.clone())],
                [a, b] => vec![(a.clone(), k.clone()), (b.clone(), v)],
                _ => return error("a macro takes one or two names"),
            };
            let results: Result<Vec<Val<'a>>, CelError> = self.with(bound, |s| {
                let mut out = Vec::with_capacity(bodies.len());
                for (i, body) in bodies.iter().enumerate() {
                    let r = s.eval(body)?;
                    // The first of two bodies is a filter.
                    let skip = bodies.len() == 2 && i == 0 && matches!(r, Val::Bool(false));
                    out.push(r);
                    if skip {
                        break;
                    }
                }
                Ok(out)
            });
            let results = match results {
                Ok(r) => r,
                Err(e) if matches!(kind, Macro::All | Macro::Exists) && *self.budget > 0 => {
                    failure.get_or_insert(e);
                    continue;
                }
                Err(e) => return Err(e),
            };
            if bodies.len() == 2 && results.len() < 2 {
                continue;
            }
            let Some(last) = results.into_iter().next_back() else { continue };
            match (kind, &last) {
                (Macro::All, Val::Bool(false)) => return Ok(Val::Bool(false)),
                (Macro::Exists, Val::Bool(true)) => return Ok(Val::Bool(true)),
                (Macro::All | Macro::Exists, Val::Bool(_)) => {}
                (Macro::ExistsOne, Val::Bool(b)) => hits += u64::from(*b),
                (Macro::Filter, Val::Bool(b)) => {
                    if *b {
                        list.push(one);
                    }
                }
                (Macro::Map | Macro::TransformList, _) => list.push(last),
                (Macro::TransformMap, _) => map.push((k, last)),
                (Macro::SortBy, _) if !by_key => map.push((last, one)),
                _ => return error("no such overload"),
            }
        }
        if let Some(e) = failure {
            return Err(e);
        }
        Ok(match kind {
            Macro::All => Val::Bool(true),
            Macro::Exists => Val::Bool(false),
            Macro::ExistsOne => Val::Bool(hits == 1),
            Macro::TransformMap => Val::Map(Arc::new(map)),
            Macro::SortBy => return lists::sorted(map),
            _ => Val::List(Arc::new(list)),
        })
    }
}

/// Whether a map has a field.
fn has_key(v: &Val<'_>, field: &Str) -> Result<bool, CelError> {
    let v = match v {
        Val::Optional(Some(v)) => v,
        Val::Optional(None) => return Ok(false),
        v => v,
    };
    match v {
        Val::JsonMap(m, _) => Ok(m.get(field).is_some()),
        Val::Map(m) => Ok(m.iter().any(|(k, _)| matches!(k, Val::Str(s) if s == field))),
        _ => error("no such overload"),
    }
}

/// What looking at a value costs: long text and lists cost more.
fn size_cost(v: &Val<'_>) -> u64 {
    let n = match v {
        Val::Str(s) => s.len() / 10,
        Val::Bytes(b) => b.len() / 10,
        Val::List(l) => l.len(),
        Val::JsonList(l, _) => l.len(),
        Val::Map(m) => m.len(),
        Val::JsonMap(m, _) => m.len(),
        _ => 0,
    };
    n as u64
}

fn binary<'a>(op: Op, a: &Val<'a>, b: &Val<'a>) -> Out<'a> {
    match op {
        Op::Eq => return Ok(Val::Bool(a.equals(b))),
        Op::Ne => return Ok(Val::Bool(!a.equals(b))),
        Op::In => {
            if let Some(items) = b.items() {
                return Ok(Val::Bool(items.iter().any(|v| v.equals(a))));
            }
            return match b.entries() {
                Some(_) => Ok(Val::Bool(b.get(a)?.is_some())),
                None => error("no such overload"),
            };
        }
        Op::Lt | Op::Le | Op::Gt | Op::Ge => {
            let Some(order) = a.order(b) else { return error("no such overload") };
            return Ok(Val::Bool(match op {
                Op::Lt => order.is_lt(),
                Op::Le => order.is_le(),
                Op::Gt => order.is_gt(),
                _ => order.is_ge(),
            }));
        }
        _ => {}
    }
    let overflow = |v: Option<i64>| v.map(Val::Int).map_or_else(|| error("integer overflow"), Ok);
    match (a, b) {
        (Val::Int(x), Val::Int(y)) => match op {
            Op::Add => overflow(x.checked_add(*y)),
            Op::Sub => overflow(x.checked_sub(*y)),
            Op::Mul => overflow(x.checked_mul(*y)),
            Op::Div if *y == 0 => error("division by zero"),
            Op::Div => overflow(x.checked_div(*y)),
            _ if *y == 0 => error("modulus by zero"),
            _ => overflow(x.checked_rem(*y)),
        },
        (Val::Uint(x), Val::Uint(y)) => {
            let v = match op {
                Op::Add => x.checked_add(*y),
                Op::Sub => x.checked_sub(*y),
                Op::Mul => x.checked_mul(*y),
                Op::Div if *y == 0 => return error("division by zero"),
                Op::Div => x.checked_div(*y),
                _ if *y == 0 => return error("modulus by zero"),
                _ => x.checked_rem(*y),
            };
            v.map(Val::Uint).map_or_else(|| error("unsigned integer overflow"), Ok)
        }
        (Val::Double(x), Val::Double(y)) => match op {
            Op::Add => Ok(Val::Double(x + y)),
            Op::Sub => Ok(Val::Double(x - y)),
            Op::Mul => Ok(Val::Double(x * y)),
            Op::Div => Ok(Val::Double(x / y)),
            _ => error("no such overload"),
        },
        (Val::Str(x), Val::Str(y)) if op == Op::Add => Ok(Val::Str(format!("{x}{y}").into())),
        (Val::Bytes(x), Val::Bytes(y)) if op == Op::Add => {
            Ok(Val::Bytes(Arc::new([x.as_slice(), y.as_slice()].concat())))
        }
        (Val::Duration(x), Val::Duration(y)) => {
            let v = match op {
                Op::Add => x.checked_add(*y),
                Op::Sub => x.checked_sub(*y),
                _ => return error("no such overload"),
            };
            v.map(Val::Duration).map_or_else(|| error("integer overflow"), Ok)
        }
        (Val::Timestamp(t), Val::Duration(d)) | (Val::Duration(d), Val::Timestamp(t)) => {
            let d = jiff::SignedDuration::from_nanos(*d);
            let moved = match op {
                Op::Add => t.checked_add(d),
                Op::Sub => t.checked_sub(d),
                _ => return error("no such overload"),
            };
            moved.map(Val::Timestamp).or_else(|_| error("timestamp overflow"))
        }
        (Val::Timestamp(x), Val::Timestamp(y)) if op == Op::Sub => {
            let d = x.duration_since(*y).as_nanos();
            i64::try_from(d).map(Val::Duration).or_else(|_| error("duration overflow"))
        }
        _ => match (a.items(), b.items()) {
            (Some(x), Some(y)) if op == Op::Add => Ok(Val::List(Arc::new(x.iter().chain(y.iter()).cloned().collect()))),
            _ => error("no such overload"),
        },
    }
}
