//! Arguments as Go's `text/template` checks them: how many, and of which type.

use crate::env::FuncError;
use crate::val::{MapRef, Val};

use super::gofmt;

/// The result every function gives.
pub type Res = Result<Val, FuncError>;

/// Functions refuse to make texts longer than this, in bytes.
pub const MAX_TEXT: usize = 64 << 20;

/// Functions refuse to make lists longer than this.
pub const MAX_LIST: usize = 4 << 20;

/// How deep functions follow nested lists and maps: deeper data is taken to be cyclic.
pub const MAX_DEPTH: usize = 400;

/// An error from a message.
pub fn err<T>(message: impl Into<String>) -> Result<T, FuncError> {
    Err(FuncError(message.into()))
}

/// Refuses texts that would be too long; `None` stands for a length beyond counting.
pub fn bounded(len: Option<usize>) -> Result<(), FuncError> {
    match len {
        Some(n) if n <= MAX_TEXT => Ok(()),
        _ => err("the resulting text would be too long"),
    }
}

/// What Go reports when nil is used where a value has to be.
pub const NIL_DEREFERENCE: &str = "runtime error: invalid memory address or nil pointer dereference";

/// The arguments of one call, counted.
#[derive(Clone, Copy)]
pub struct Args<'a> {
    values: &'a [Val],
}

impl<'a> Args<'a> {
    /// Exactly `n` arguments.
    pub fn exact(name: &str, values: &'a [Val], n: usize) -> Result<Self, FuncError> {
        if values.len() == n {
            return Ok(Self { values });
        }
        err(format!("wrong number of args for {name}: want {n} got {}", values.len()))
    }

    /// `n` arguments or more.
    pub fn at_least(name: &str, values: &'a [Val], n: usize) -> Result<Self, FuncError> {
        if values.len() >= n {
            return Ok(Self { values });
        }
        err(format!("wrong number of args for {name}: want at least {n} got {}", values.len()))
    }

    /// The arguments from `i` on.
    pub fn from(&self, i: usize) -> &'a [Val] {
        self.values.get(i..).unwrap_or(&[])
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// An argument of any type; a missing value is nil.
    pub fn any(&self, i: usize) -> &'a Val {
        match self.values.get(i) {
            Some(Val::Missing) | None => &Val::Nil,
            Some(v) => v,
        }
    }

    /// As [`Args::any`], cloned.
    pub fn own(&self, i: usize) -> Val {
        self.any(i).clone()
    }

    fn wrong<T>(&self, i: usize, expected: &str) -> Result<T, FuncError> {
        let v = self.any(i);
        if v.is_nil() {
            return if i + 1 == self.values.len() {
                err(format!("invalid value; expected {expected}"))
            } else {
                err(format!("wrong type for value; expected {expected}; got interface {{}}"))
            };
        }
        err(format!("wrong type for value; expected {expected}; got {}", gofmt::type_name(v)))
    }

    /// A `string`.
    pub fn str(&self, i: usize) -> Result<&'a str, FuncError> {
        match self.any(i) {
            Val::Str(s) => Ok(s.as_str()),
            _ => self.wrong(i, "string"),
        }
    }

    /// An `int`.
    pub fn int(&self, i: usize) -> Result<i64, FuncError> {
        match self.any(i) {
            Val::Int(n) => Ok(*n),
            _ => self.wrong(i, "int"),
        }
    }

    /// A `float64` (whole literals will do).
    pub fn float(&self, i: usize) -> Result<f64, FuncError> {
        match self.any(i) {
            Val::Float(f) => Ok(*f),
            #[allow(clippy::cast_precision_loss)]
            Val::Int(n) => Ok(*n as f64),
            _ => self.wrong(i, "float64"),
        }
    }

    /// A `bool`.
    pub fn bool(&self, i: usize) -> Result<bool, FuncError> {
        match self.any(i) {
            Val::Bool(b) => Ok(*b),
            _ => self.wrong(i, "bool"),
        }
    }

    /// A `map[string]interface{}`; nil is an empty one.
    pub fn map(&self, i: usize) -> Result<MapRef, FuncError> {
        match self.any(i) {
            Val::Map(m) => Ok(m.clone()),
            Val::Nil | Val::Missing => Ok(MapRef::default()),
            Val::Object(o) => match o.entries() {
                Some(entries) => Ok(MapRef::new(entries.into_iter().collect())),
                None => self.wrong(i, "map[string]interface {}"),
            },
            _ => self.wrong(i, "map[string]interface {}"),
        }
    }

    /// A `[]interface{}`; nil is an empty one.
    pub fn list(&self, i: usize) -> Result<&'a [Val], FuncError> {
        match self.any(i) {
            Val::List(l) => Ok(l),
            Val::Nil | Val::Missing => Ok(&[]),
            _ => self.wrong(i, "[]interface {}"),
        }
    }
}
