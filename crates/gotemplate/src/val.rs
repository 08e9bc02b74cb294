//! Values as a Go template sees them.

use std::cell::{Ref, RefCell, RefMut};
use std::collections::BTreeMap;
use std::rc::Rc;

use druse_object::{Map, Str, Value};

use crate::env::{Env, FuncError};

/// A value in a template, with Go's semantics: maps and objects are references, strings and lists immutable.
#[derive(Clone, Default)]
pub enum Val {
    /// `nil`: an interface that holds nothing (a JSON null).
    #[default]
    Nil,
    /// No value at all: what a pipeline makes of nil and of a missing map key (Go's zero `reflect.Value`). Prints as
    /// `<no value>` (which Helm removes); as an argument it is nil.
    Missing,
    /// `bool`
    Bool(bool),
    /// Go `int`: literals, `len`, `atoi`, `int`.
    Int(i64),
    /// Go `int64`: arithmetic functions, `int64`.
    Int64(i64),
    /// Go `uint64`, for integers above `i64::MAX`.
    UInt64(u64),
    /// Go `float64`: every number that comes from YAML or JSON values.
    Float(f64),
    /// `string`
    Str(Str),
    /// `[]interface{}`; immutable, so shared freely.
    List(List),
    /// `map[string]interface{}`; a reference: `set` changes it for all who hold it.
    Map(MapRef),
    /// Anything with methods and fields of its own: `.Files`, `.Capabilities`, `.Chart`, a time, a certificate.
    Object(Rc<dyn GoObject>),
}

/// How deep nested values are followed, in levels; deeper data is taken to be cyclic.
pub const MAX_DEPTH: usize = 1000;

/// A shared immutable list.
pub type List = Rc<Vec<Val>>;

thread_local! {
    /// The one list that stands for Go's nil slice, told apart by its address.
    static NIL_LIST: List = Rc::new(Vec::new());
}

/// A shared map, always in key order (Go templates range and print maps so).
#[derive(Clone, Default)]
pub struct MapRef(Rc<RefCell<BTreeMap<Str, Val>>>);

impl MapRef {
    /// A new map.
    #[must_use]
    pub fn new(entries: BTreeMap<Str, Val>) -> Self {
        Self(Rc::new(RefCell::new(entries)))
    }
    /// To read.
    #[must_use]
    pub fn borrow(&self) -> Ref<'_, BTreeMap<Str, Val>> {
        self.0.borrow()
    }
    /// To change.
    #[must_use]
    pub fn borrow_mut(&self) -> RefMut<'_, BTreeMap<Str, Val>> {
        self.0.borrow_mut()
    }
    /// Whether both are the same map (not just equal ones).
    #[must_use]
    pub fn same(&self, other: &Self) -> bool {
        Rc::ptr_eq(&self.0, &other.0)
    }
    /// The value under `key`, cloned (values are cheap to clone).
    #[must_use]
    pub fn get(&self, key: &str) -> Option<Val> {
        self.0.borrow().get(key).cloned()
    }
    /// Sets a key.
    pub fn set(&self, key: impl Into<Str>, value: Val) {
        self.0.borrow_mut().insert(key.into(), value);
    }
}

/// A Go value with fields and methods.
pub trait GoObject {
    /// Go's name of the type, as `%T` and `typeOf` print it (`time.Time`, `*chart.Metadata`).
    fn type_name(&self) -> &str;
    /// Go's kind, as `kindOf` says it (`struct`, `ptr`, `map`, …).
    fn kind(&self) -> &str {
        "struct"
    }
    /// A field, or a method that takes no arguments. `None`: there is no such field or method.
    fn field(&self, name: &str, env: &mut Env<'_>) -> Option<Result<Val, FuncError>>;
    /// A method called with arguments. `None`: there is no such method.
    fn call(&self, name: &str, args: &[Val], env: &mut Env<'_>) -> Option<Result<Val, FuncError>> {
        if args.is_empty() { self.field(name, env) } else { None }
    }
    /// Entries, for types that can be ranged and indexed like maps (`.Files`, `.Subcharts`); `None` for others.
    fn entries(&self) -> Option<Vec<(Str, Val)>> {
        None
    }
    /// What `print` writes.
    fn display(&self) -> String;
    /// The plain value `toYaml`, `toJson` and deep copies see.
    fn to_value(&self) -> Value;
    /// What `if` and `default` see.
    fn truth(&self) -> bool {
        true
    }
    /// For functions that know the concrete type (`date` knows times).
    fn as_any(&self) -> &dyn std::any::Any;
}

impl Val {
    /// From a value of the YAML or JSON kind. As Helm's values do, every number becomes a float64.
    #[must_use]
    pub fn from_values(v: &Value) -> Val {
        #[allow(clippy::cast_precision_loss)]
        match v {
            Value::Null => Val::Nil,
            Value::Bool(b) => Val::Bool(*b),
            Value::Int(i) => Val::Float(*i as f64),
            Value::UInt(u) => Val::Float(*u as f64),
            Value::Float(f) => Val::Float(*f),
            Value::String(s) => Val::Str(s.clone()),
            Value::Array(a) => Val::List(Rc::new(a.iter().map(Val::from_values).collect())),
            Value::Map(m) => Val::Map(MapRef::new(m.iter().map(|(k, v)| (k.clone(), Val::from_values(v))).collect())),
        }
    }

    /// As [`Val::from_values`], but integers stay Go `int64` (values set by `--set`, and typed Go data).
    #[must_use]
    pub fn from_value_with_ints(v: &Value) -> Val {
        match v {
            Value::Int(i) => Val::Int64(*i),
            Value::UInt(u) => Val::UInt64(*u),
            Value::Array(a) => Val::List(Rc::new(a.iter().map(Val::from_value_with_ints).collect())),
            Value::Map(m) => {
                Val::Map(MapRef::new(m.iter().map(|(k, v)| (k.clone(), Val::from_value_with_ints(v))).collect()))
            }
            other => Val::from_values(other),
        }
    }

    /// The plain value this holds; a missing value is null. Deeper than [`MAX_DEPTH`] levels (a map that holds itself)
    /// everything is null.
    #[must_use]
    pub fn to_value(&self) -> Value {
        self.plain(0)
    }

    fn plain(&self, depth: usize) -> Value {
        match self {
            Val::Nil | Val::Missing => Value::Null,
            Val::Bool(b) => Value::Bool(*b),
            Val::Int(i) | Val::Int64(i) => Value::Int(*i),
            Val::UInt64(u) => Value::from(*u),
            Val::Float(f) => Value::Float(*f),
            Val::Str(s) => Value::String(s.clone()),
            Val::List(_) if self.is_nil_list() => Value::Null,
            Val::List(_) | Val::Map(_) if depth > MAX_DEPTH => Value::Null,
            Val::List(l) => Value::Array(l.iter().map(|v| v.plain(depth + 1)).collect()),
            Val::Map(m) => Value::Map(m.borrow().iter().map(|(k, v)| (k.clone(), v.plain(depth + 1))).collect::<Map>()),
            Val::Object(o) => o.to_value(),
        }
    }

    /// Text.
    #[must_use]
    pub fn str(s: impl Into<Str>) -> Val {
        Val::Str(s.into())
    }

    /// A list.
    #[must_use]
    pub fn list(items: Vec<Val>) -> Val {
        Val::List(Rc::new(items))
    }

    /// Go's nil slice: empty like any empty list, but `null` in JSON and YAML (`concat (list) (list) | toJson`).
    #[must_use]
    pub fn nil_list() -> Val {
        Val::List(NIL_LIST.with(Rc::clone))
    }

    /// Whether this is the nil slice.
    #[must_use]
    pub fn is_nil_list(&self) -> bool {
        matches!(self, Val::List(l) if l.is_empty() && NIL_LIST.with(|nil| Rc::ptr_eq(nil, l)))
    }

    /// Whether this is nil or missing.
    #[must_use]
    pub fn is_nil(&self) -> bool {
        matches!(self, Val::Nil | Val::Missing)
    }
}
