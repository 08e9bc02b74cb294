//! What can be said of an expression before it is evaluated: names nobody declares, comparisons of types that have
//! none, and the type of its result where it is certain.
//!
//! Not cel-go's type checker: a type that is not certain here is left to evaluation, so nothing that upstream
//! compiles is refused.

use druse_object::value::Str;

use super::funcs;
use super::parse::{Expr, Lit, Macro, Op, shown};

/// A type as far as it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ty {
    Null,
    Bool,
    Int,
    Uint,
    Double,
    Str,
    Bytes,
    List,
    Map,
    /// Known to be of no type upstream: an object's field without a schema.
    Dyn,
    /// Not known here.
    Unknown,
}

impl Ty {
    /// The type's name as cel-go prints it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Ty::Null => "null_type",
            Ty::Bool => "bool",
            Ty::Int => "int",
            Ty::Uint => "uint",
            Ty::Double => "double",
            Ty::Str => "string",
            Ty::Bytes => "bytes",
            Ty::List => "list",
            Ty::Map => "map",
            Ty::Dyn | Ty::Unknown => "dyn",
        }
    }

    fn scalar(self) -> bool {
        matches!(self, Ty::Bool | Ty::Int | Ty::Uint | Ty::Double | Ty::Str | Ty::Bytes)
    }
}

struct Checker<'a> {
    text: &'a str,
    declared: Vec<(Str, Ty)>,
    error: Option<String>,
}

/// The type of an expression's result, when `declared` are the variables it may read.
///
/// # Errors
/// What is wrong, as cel-go words it, with its place.
pub(super) fn check(root: &Expr, text: &str, declared: &[(&str, Ty)]) -> Result<Ty, String> {
    let declared = declared.iter().map(|(n, t)| (Str::from(*n), *t)).collect();
    let mut c = Checker { text, declared, error: None };
    let ty = c.of(root);
    c.error.map_or(Ok(ty), Err)
}

impl Checker<'_> {
    fn fail(&mut self, at: Option<usize>, why: &str) {
        let Some(at) = at else { return };
        self.error.get_or_insert_with(|| shown(self.text, at, why));
    }

    /// The type of a variable.
    fn declared(&self, name: &str) -> Option<Ty> {
        self.declared.iter().rev().find(|(n, _)| n == name).map(|(_, ty)| *ty)
    }

    /// Where a name first stands as a variable.
    fn place_of(&self, name: &str) -> Option<usize> {
        let word = |c: char| c.is_alphanumeric() || c == '_';
        self.text.match_indices(name).map(|(i, _)| i).find(|i| {
            let before = self.text.get(..*i).unwrap_or_default().chars().next_back();
            let after = self.text.get(i + name.len()..).unwrap_or_default().chars().next();
            !before.is_some_and(|c| word(c) || c == '.' || c == '"' || c == '\'') && !after.is_some_and(word)
        })
    }

    fn of(&mut self, e: &Expr) -> Ty {
        match e {
            Expr::Lit(l) => match l {
                Lit::Null => Ty::Null,
                Lit::Bool(_) => Ty::Bool,
                Lit::Int(_) => Ty::Int,
                Lit::Uint(_) => Ty::Uint,
                Lit::Double(_) => Ty::Double,
                Lit::Str(_) => Ty::Str,
                Lit::Bytes(_) => Ty::Bytes,
            },
            Expr::Ident(name) => {
                if let Some(ty) = self.declared(name) {
                    return ty;
                }
                if funcs::type_named(name).is_none() {
                    let why = format!("undeclared reference to '{name}' (in container '')");
                    self.fail(self.place_of(name), &why);
                }
                Ty::Unknown
            }
            Expr::Select { of, optional, .. } => match self.of(of) {
                Ty::Dyn if !optional => Ty::Dyn,
                _ => Ty::Unknown,
            },
            Expr::Has(of, _) => {
                self.of(of);
                Ty::Bool
            }
            Expr::Index { of, at, optional } => {
                self.of(at);
                match self.of(of) {
                    Ty::Dyn if !optional => Ty::Dyn,
                    _ => Ty::Unknown,
                }
            }
            Expr::Call { name, target, args } => {
                // Qualified functions (`math.greatest`) have a name for their target.
                let on = target.as_deref().map(|t| match t {
                    Expr::Ident(n) if self.declared(n).is_none() && funcs::is_namespace(n) => Ty::Unknown,
                    t => self.of(t),
                });
                for a in args {
                    self.of(a);
                }
                match (name.as_str(), on) {
                    ("size", _) => Ty::Int,
                    ("startsWith" | "endsWith" | "matches", Some(_)) => Ty::Bool,
                    ("contains", Some(Ty::Str)) => Ty::Bool,
                    ("lowerAscii" | "upperAscii" | "trim", Some(Ty::Str)) => Ty::Str,
                    ("string", None) => Ty::Str,
                    ("int", None) => Ty::Int,
                    ("bool", None) => Ty::Bool,
                    _ => Ty::Unknown,
                }
            }
            Expr::List(items) => {
                for (e, _) in items {
                    self.of(e);
                }
                Ty::List
            }
            Expr::Map(items) => {
                for (k, v, _) in items {
                    self.of(k);
                    self.of(v);
                }
                Ty::Map
            }
            Expr::If(c, a, b) => {
                self.of(c);
                let (a, b) = (self.of(a), self.of(b));
                if a == b { a } else { Ty::Unknown }
            }
            Expr::And(a, b) | Expr::Or(a, b) => {
                self.of(a);
                self.of(b);
                Ty::Bool
            }
            Expr::Not(e) => {
                self.of(e);
                Ty::Bool
            }
            Expr::Neg(e) => self.of(e),
            Expr::Binary(op, a, b) => {
                let (a, b) = (self.of(a), self.of(b));
                self.binary(*op, a, b)
            }
            Expr::Over { kind, range, names, bodies } => {
                self.of(range);
                let before = self.declared.len();
                self.declared.extend(names.iter().map(|n| (n.clone(), Ty::Unknown)));
                for b in bodies {
                    self.of(b);
                }
                self.declared.truncate(before);
                match kind {
                    Macro::All | Macro::Exists | Macro::ExistsOne => Ty::Bool,
                    Macro::Map | Macro::Filter | Macro::TransformList | Macro::SortBy => Ty::List,
                    Macro::TransformMap => Ty::Map,
                    Macro::OptMap | Macro::OptFlatMap => Ty::Unknown,
                }
            }
            Expr::Bind(name, value, body) => {
                let ty = self.of(value);
                self.declared.push((name.clone(), ty));
                let out = self.of(body);
                self.declared.pop();
                out
            }
        }
    }

    fn binary(&mut self, op: Op, a: Ty, b: Ty) -> Ty {
        let (name, sign, compares) = match op {
            Op::Eq => ("_==_", "==", true),
            Op::Ne => ("_!=_", "!=", true),
            Op::Lt => ("_<_", "<", true),
            Op::Le => ("_<=_", "<=", true),
            Op::Gt => ("_>_", ">", true),
            Op::Ge => ("_>=_", ">=", true),
            Op::In => return Ty::Bool,
            Op::Add => ("_+_", "+", false),
            Op::Sub => ("_-_", "-", false),
            Op::Mul => ("_*_", "*", false),
            Op::Div => ("_/_", "/", false),
            Op::Rem => ("_%_", "%", false),
        };
        let number = |t: Ty| matches!(t, Ty::Int | Ty::Uint | Ty::Double);
        let ordered = !matches!(op, Op::Eq | Op::Ne);
        let apart = a.scalar() && b.scalar() && a != b && !(compares && ordered && number(a) && number(b));
        if apart {
            let why = format!("found no matching overload for '{name}' applied to '({}, {})'", a.name(), b.name());
            // The sign's place is certain only where it stands once.
            let mut places = self.text.match_indices(sign).map(|(i, _)| i);
            let first = places.next().filter(|_| places.next().is_none());
            self.fail(first, &why);
        }
        if compares {
            Ty::Bool
        } else if a == b {
            a
        } else {
            Ty::Unknown
        }
    }
}
