//! Functions by name, with the Go signatures that the executor checks before it calls them.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, OnceLock};

use crate::Table;
use crate::env::NativeFn;
use crate::funcs::builtin;
use crate::printf;
use crate::val::Val;

/// The parameter types of Helm's functions, one a line: `name(type,...type) result`, by reflection over helm v4.3.1.
const SIGNATURES: &str = include_str!("signatures.txt");

/// The parameter types of Go's own functions.
const GO_SIGNATURES: &str = "\
and(reflect.Value,...reflect.Value)
call(reflect.Value,...reflect.Value)
eq(reflect.Value,...reflect.Value)
ge(reflect.Value,reflect.Value)
gt(reflect.Value,reflect.Value)
html(...interface{})
index(reflect.Value,...reflect.Value)
js(...interface{})
le(reflect.Value,reflect.Value)
len(reflect.Value)
lt(reflect.Value,reflect.Value)
ne(reflect.Value,reflect.Value)
not(reflect.Value)
or(reflect.Value,...reflect.Value)
print(...interface{})
printf(string,...interface{})
println(...interface{})
slice(reflect.Value,...reflect.Value)
urlquery(...interface{})";

/// A parameter's Go type, as far as the executor tells them apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ty {
    /// `interface {}`
    Any,
    /// `reflect.Value`: nil and no value stay distinct.
    Value,
    String,
    Bool,
    Int,
    Int64,
    Float64,
    /// Any other type, by name.
    Other(Box<str>),
}

impl Ty {
    fn parse(text: &str) -> Self {
        match text {
            "interface{}" => Ty::Any,
            "reflect.Value" => Ty::Value,
            "string" => Ty::String,
            "bool" => Ty::Bool,
            "int" => Ty::Int,
            "int64" => Ty::Int64,
            "float64" => Ty::Float64,
            other => Ty::Other(other.replace("interface{}", "interface {}").into()),
        }
    }

    /// Go's name.
    pub(crate) fn name(&self) -> &str {
        match self {
            Ty::Any => "interface {}",
            Ty::Value => "reflect.Value",
            Ty::String => "string",
            Ty::Bool => "bool",
            Ty::Int => "int",
            Ty::Int64 => "int64",
            Ty::Float64 => "float64",
            Ty::Other(name) => name,
        }
    }

    pub(crate) fn can_be_nil(&self) -> bool {
        match self {
            Ty::Any | Ty::Value => true,
            Ty::Other(name) => ["[]", "map[", "*", "func("].iter().any(|p| name.starts_with(p)),
            _ => false,
        }
    }

    pub(crate) fn accepts(&self, v: &Val) -> bool {
        match (self, v) {
            (Ty::Any | Ty::Value, _)
            | (Ty::String, Val::Str(_))
            | (Ty::Bool, Val::Bool(_))
            | (Ty::Int, Val::Int(_))
            | (Ty::Int64, Val::Int64(_))
            | (Ty::Float64, Val::Float(_)) => true,
            // Lists and maps are not typed by element here, so any will do.
            (Ty::Other(name), Val::List(_)) => name.starts_with("[]"),
            (Ty::Other(name), Val::Map(_)) => name.starts_with("map["),
            (ty, Val::Object(o)) => o.type_name() == ty.name() || (o.kind() == "map" && ty.name().starts_with("map[")),
            _ => false,
        }
    }
}

/// The parameters of a function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Signature {
    pub params: Vec<Ty>,
    /// The last parameter takes any number of arguments.
    pub variadic: bool,
}

impl Signature {
    fn parse(params: &str) -> Self {
        let mut variadic = false;
        let params = params
            .split(',')
            .filter(|p| !p.is_empty())
            .map(|p| {
                let element = p.strip_prefix("...");
                variadic |= element.is_some();
                Ty::parse(element.unwrap_or(p))
            })
            .collect();
        Self { params, variadic }
    }

    /// The type of argument `i`.
    pub(crate) fn param(&self, i: usize) -> &Ty {
        self.params.get(i).or(self.params.last().filter(|_| self.variadic)).unwrap_or(&Ty::Any)
    }
}

fn signatures(table: &'static str) -> impl Iterator<Item = (&'static str, Signature)> {
    table.lines().filter_map(|line| {
        let (name, rest) = line.split_once('(')?;
        Some((name, Signature::parse(rest.split_once(')')?.0)))
    })
}

fn known_signatures() -> &'static HashMap<&'static str, Signature> {
    static KNOWN: OnceLock<HashMap<&'static str, Signature>> = OnceLock::new();
    KNOWN.get_or_init(|| signatures(SIGNATURES).collect())
}

/// What the executor does itself instead of calling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Special {
    No,
    And,
    Or,
    Call,
}

/// One function of a [`FuncMap`].
pub struct Func {
    name: Cow<'static, str>,
    pub(crate) call: NativeFn,
    /// `None`: arguments are passed as they are, nil for no value.
    pub(crate) signature: Option<Signature>,
    pub(crate) special: Special,
}

impl Func {
    /// The name templates call it by.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl fmt::Debug for Func {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Func({})", self.name)
    }
}

/// The functions templates can call. Cheap to clone; names are looked up while parsing only.
#[derive(Clone, Debug)]
pub struct FuncMap(Arc<Table<Cow<'static, str>, Arc<Func>>>);

impl FuncMap {
    /// Go's own functions only.
    #[must_use]
    pub fn go() -> Self {
        let mut known: HashMap<_, _> = signatures(GO_SIGNATURES).collect();
        let map = builtin::FUNCS
            .iter()
            .map(|&(name, call)| {
                let special = match name {
                    "and" => Special::And,
                    "or" => Special::Or,
                    "call" => Special::Call,
                    _ => Special::No,
                };
                let func = Func { name: name.into(), call, signature: known.remove(name), special };
                (Cow::Borrowed(name), Arc::new(func))
            })
            .collect();
        Self(Arc::new(map))
    }

    /// With more functions; those of the same name are replaced. Arguments of functions that Helm has too are checked against
    /// Helm's signatures before the call.
    #[must_use]
    pub fn with<N: Into<Cow<'static, str>>>(mut self, funcs: impl IntoIterator<Item = (N, NativeFn)>) -> Self {
        let map = Arc::make_mut(&mut self.0);
        for (name, call) in funcs {
            let name = name.into();
            let signature = known_signatures().get(name.as_ref()).cloned();
            map.insert(name.clone(), Arc::new(Func { name, call, signature, special: Special::No }));
        }
        self
    }

    /// The function of that name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Arc<Func>> {
        self.0.get(name)
    }

    /// All names, in order.
    #[must_use]
    pub fn names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.0.keys().map(AsRef::as_ref).collect();
        names.sort_unstable();
        names
    }
}

/// The type an argument has, for messages.
pub(crate) fn type_of(v: &Val) -> Cow<'_, str> {
    match v {
        Val::Nil => Cow::Borrowed("interface {}"),
        v => printf::type_name(v),
    }
}
