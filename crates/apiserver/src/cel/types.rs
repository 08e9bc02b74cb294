//! Types as cel-go's checker has them (`common/types`), and what the functions of Kubernetes' environment take and give.
//!
//! The table `data/cel.tsv` is upstream's own: `tools/kube.py cel functions` prints it.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, LazyLock};

use druse_object::value::Str;

/// A type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Type {
    /// Any, decided when evaluated.
    Dyn,
    /// As good as [`Type::Dyn`], under the name of its message.
    Any,
    /// Of what is wrong already.
    Error,
    Null,
    Bool,
    Int,
    Uint,
    Double,
    Str,
    Bytes,
    Duration,
    Timestamp,
    /// The type of a type.
    Meta(Option<Arc<Type>>),
    List(Arc<Type>),
    Map(Arc<Type>, Arc<Type>),
    /// A parameter of a function's declaration.
    Param(Str),
    /// What is not known yet; numbered in the order they come up.
    Var(usize),
    /// A type with a name and parameters.
    Opaque(Str, Vec<Type>),
    /// An object with fields, by its name.
    Struct(Str),
}

impl Type {
    pub(crate) fn list(of: Type) -> Self {
        Type::List(Arc::new(of))
    }

    pub(crate) fn map(key: Type, value: Type) -> Self {
        Type::Map(Arc::new(key), Arc::new(value))
    }

    pub(crate) fn optional(of: Type) -> Self {
        Type::Opaque(OPTIONAL.into(), vec![of])
    }

    /// What an optional may hold.
    pub(super) fn held(&self) -> Option<&Type> {
        match self {
            Type::Opaque(name, params) if name == OPTIONAL => params.first(),
            _ => None,
        }
    }

    /// The first of the type's parameters.
    pub(super) fn first(&self) -> Option<&Type> {
        match self {
            Type::List(of) | Type::Map(of, _) | Type::Meta(Some(of)) => Some(of),
            Type::Opaque(_, params) => params.first(),
            _ => None,
        }
    }

    /// Whether values always have the same size (`isScalar` of `checker/cost.go`).
    pub(super) fn scalar(&self) -> bool {
        match self {
            Type::Bool | Type::Double | Type::Duration | Type::Int | Type::Timestamp | Type::Uint => true,
            t => t.held().is_some_and(Type::scalar),
        }
    }

    /// As `Type.String` writes it: well-known types by their messages' names.
    pub(crate) fn long_name(&self) -> String {
        match self {
            Type::Null => "null_type".into(),
            Type::Any => "google.protobuf.Any".into(),
            Type::Duration => "google.protobuf.Duration".into(),
            Type::Timestamp => "google.protobuf.Timestamp".into(),
            Type::Meta(Some(of)) => format!("type({})", of.long_name()),
            Type::List(of) => format!("list({})", of.long_name()),
            Type::Map(k, v) => format!("map({}, {})", k.long_name(), v.long_name()),
            Type::Opaque(name, params) if !params.is_empty() => {
                let params: Vec<String> = params.iter().map(Type::long_name).collect();
                format!("{name}({})", params.join(", "))
            }
            t => t.to_string(),
        }
    }

    /// The same type with parts of it replaced.
    pub(super) fn map_parts(&self, f: &mut impl FnMut(&Type) -> Type) -> Type {
        match self {
            Type::List(of) => Type::list(f(of)),
            Type::Map(k, v) => Type::map(f(k), f(v)),
            Type::Meta(Some(of)) => Type::Meta(Some(Arc::new(f(of)))),
            Type::Opaque(name, params) => Type::Opaque(name.clone(), params.iter().map(f).collect()),
            t => t.clone(),
        }
    }
}

const OPTIONAL: &str = "optional_type";

/// As `FormatCELType` writes it.
impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Type::Dyn => "dyn",
            Type::Any => "any",
            Type::Error => "!error!",
            Type::Null => "null",
            Type::Bool => "bool",
            Type::Int => "int",
            Type::Uint => "uint",
            Type::Double => "double",
            Type::Str => "string",
            Type::Bytes => "bytes",
            Type::Duration => "duration",
            Type::Timestamp => "timestamp",
            Type::Meta(None) => "type",
            Type::Meta(Some(of)) => return write!(f, "type({of})"),
            Type::List(of) => return write!(f, "list({of})"),
            Type::Map(k, v) => return write!(f, "map({k}, {v})"),
            Type::Var(n) => return write!(f, "_var{n}"),
            Type::Param(name) | Type::Struct(name) => name,
            Type::Opaque(name, params) if params.is_empty() => name,
            Type::Opaque(name, params) => {
                let params: Vec<String> = params.iter().map(ToString::to_string).collect();
                return write!(f, "{name}({})", params.join(", "));
            }
        })
    }
}

/// One way to call a function.
#[derive(Debug)]
pub(super) struct Overload {
    pub(super) id: &'static str,
    /// Whether it is called on its first argument.
    pub(super) method: bool,
    pub(super) args: Vec<Type>,
    pub(super) result: Type,
}

/// What the environment declares.
#[derive(Debug, Default)]
pub(super) struct Declarations {
    pub(super) functions: HashMap<&'static str, Vec<Overload>>,
    pub(super) names: HashMap<&'static str, Type>,
}

/// The declarations of Kubernetes' environment.
pub(super) static DECLARED: LazyLock<Declarations> = LazyLock::new(|| {
    let mut out = Declarations::default();
    for line in include_str!("../../data/cel.tsv").lines() {
        let mut columns = line.split('\t');
        let mut next = || columns.next().unwrap_or_default();
        let (kind, name, id, result, args) = (next(), next(), next(), read(next()), next());
        if kind == "name" {
            out.names.insert(name, result);
            continue;
        }
        let args = args.split(' ').filter(|a| !a.is_empty()).map(read).collect();
        out.functions.entry(name).or_default().push(Overload { id, method: kind == "method", args, result });
    }
    out
});

/// A type as the table has it: messages begin with a dot, parameters with a quote.
fn read(text: &str) -> Type {
    let (name, params) = match text.split_once('(') {
        Some((name, rest)) => (name, parts(rest.strip_suffix(')').unwrap_or(rest))),
        None => (text, Vec::new()),
    };
    let mut params = params.into_iter();
    match name {
        "dyn" => Type::Dyn,
        "null" => Type::Null,
        "bool" => Type::Bool,
        "int" => Type::Int,
        "uint" => Type::Uint,
        "double" => Type::Double,
        "string" => Type::Str,
        "bytes" => Type::Bytes,
        "duration" => Type::Duration,
        "timestamp" => Type::Timestamp,
        "type" => Type::Meta(params.next().map(Arc::new)),
        "list" => Type::list(params.next().unwrap_or(Type::Dyn)),
        "map" => Type::map(params.next().unwrap_or(Type::Dyn), params.next().unwrap_or(Type::Dyn)),
        _ => match (name.strip_prefix('.'), name.strip_prefix('\'')) {
            (Some(name), _) => Type::Struct(name.into()),
            (_, Some(name)) => Type::Param(name.into()),
            _ => Type::Opaque(name.into(), params.collect()),
        },
    }
}

/// Types between commas.
fn parts(text: &str) -> Vec<Type> {
    let (mut out, mut depth, mut from) = (Vec::new(), 0, 0);
    for (i, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            ',' if depth == 0 => {
                out.extend(text.get(from..i).map(read));
                from = i + 1;
            }
            _ => {}
        }
    }
    out.extend(text.get(from..).filter(|t| !t.is_empty()).map(read));
    out
}
