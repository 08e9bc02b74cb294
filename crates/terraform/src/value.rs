//! Values with the place where they are written.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use druse_aws::iam::HOLE;
use druse_object as object;

/// A file and a line in it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// Relative to the tree's root.
    pub file: Arc<str>,
    /// From 1.
    pub line: u32,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub struct Value {
    /// What it is.
    pub kind: Kind,
    /// Where it is written.
    pub place: Option<Place>,
    /// For a text that encodes something (`jsonencode`): what it encodes, with places.
    pub encodes: Option<Arc<Value>>,
}

/// What a value is.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// Absent.
    Null,
    /// A boolean.
    Bool(bool),
    /// A number.
    Number(f64),
    /// A text; parts that are not known are [`HOLE`]s.
    String(String),
    /// A list, tuple or set.
    List(Vec<Value>),
    /// A map or object, in the order of its keys.
    Map(BTreeMap<String, Value>),
    /// Not known, and why.
    Unknown(String),
}

impl From<Kind> for Value {
    fn from(kind: Kind) -> Self {
        Self { kind, place: None, encodes: None }
    }
}

impl Value {
    /// Absent.
    #[must_use]
    pub fn null() -> Self {
        Kind::Null.into()
    }
    /// Not known.
    #[must_use]
    pub fn unknown(why: impl Into<String>) -> Self {
        Kind::Unknown(why.into()).into()
    }
    /// A text.
    #[must_use]
    pub fn string(text: impl Into<String>) -> Self {
        Kind::String(text.into()).into()
    }
    /// The same at a place.
    #[must_use]
    pub fn at(mut self, place: Option<Place>) -> Self {
        self.place = place;
        self
    }
    /// Whether it is absent.
    #[must_use]
    pub fn is_null(&self) -> bool {
        self.kind == Kind::Null
    }
    /// Whether nothing of it is known.
    #[must_use]
    pub fn is_unknown(&self) -> bool {
        matches!(self.kind, Kind::Unknown(_))
    }
    /// Whether all of it is known, in depth.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        match &self.kind {
            Kind::Unknown(_) => false,
            Kind::String(s) => !s.contains(HOLE),
            Kind::List(items) => items.iter().all(Self::is_whole),
            Kind::Map(m) => m.iter().all(|(k, v)| !k.contains(HOLE) && v.is_whole()),
            Kind::Null | Kind::Bool(_) | Kind::Number(_) => true,
        }
    }
    /// As a text, as Terraform converts it; what is unknown is a hole. `None` for lists, maps and null.
    #[must_use]
    pub fn text(&self) -> Option<String> {
        match &self.kind {
            Kind::String(s) => Some(s.clone()),
            Kind::Number(n) => Some(number(*n)),
            Kind::Bool(b) => Some(b.to_string()),
            Kind::Unknown(_) => Some(HOLE.to_string()),
            Kind::Null | Kind::List(_) | Kind::Map(_) => None,
        }
    }
    /// As a boolean, as Terraform converts it.
    #[must_use]
    pub fn bool(&self) -> Option<bool> {
        match &self.kind {
            Kind::Bool(b) => Some(*b),
            Kind::String(s) => s.parse().ok(),
            _ => None,
        }
    }
    /// As a number, as Terraform converts it.
    #[must_use]
    pub fn number(&self) -> Option<f64> {
        match &self.kind {
            Kind::Number(n) => Some(*n),
            Kind::String(s) => s.parse().ok().filter(|n: &f64| n.is_finite()),
            _ => None,
        }
    }
    /// A map's value.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Self> {
        match &self.kind {
            Kind::Map(m) => m.get(key),
            _ => None,
        }
    }
    /// A list's items; a single value counts as a list of one, null as none.
    #[must_use]
    pub fn items(&self) -> &[Self] {
        match &self.kind {
            Kind::List(items) => items,
            Kind::Null => &[],
            _ => std::slice::from_ref(self),
        }
    }
    /// As plain data; holes stay in texts, what is unknown is a hole.
    #[must_use]
    pub fn plain(&self) -> object::Value {
        match &self.kind {
            Kind::Null => object::Value::Null,
            Kind::Bool(b) => (*b).into(),
            Kind::Number(n) => whole(*n).map_or_else(|| object::Value::Float(*n), object::Value::Int),
            Kind::String(s) => s.as_str().into(),
            Kind::List(items) => items.iter().map(Self::plain).collect(),
            Kind::Map(m) => object::Value::Map(m.iter().map(|(k, v)| (k.as_str(), v.plain())).collect()),
            Kind::Unknown(_) => object::Value::from(HOLE.to_string().as_str()),
        }
    }
    /// From plain data, all at one place.
    #[must_use]
    pub fn from_plain(value: &object::Value, place: Option<&Place>) -> Self {
        let kind = match value {
            object::Value::Null => Kind::Null,
            object::Value::Bool(b) => Kind::Bool(*b),
            object::Value::Array(items) => Kind::List(items.iter().map(|i| Self::from_plain(i, place)).collect()),
            object::Value::Map(m) => {
                Kind::Map(m.iter().map(|(k, v)| (k.to_string(), Self::from_plain(v, place))).collect())
            }
            object::Value::String(s) => Kind::String(s.to_string()),
            number => Kind::Number(number.as_f64().unwrap_or_default()),
        };
        Self { kind, place: place.cloned(), encodes: None }
    }
}

/// A number as Terraform writes it.
pub(crate) fn number(n: f64) -> String {
    whole(n).map_or_else(|| n.to_string(), |i| i.to_string())
}

#[expect(clippy::cast_possible_truncation, reason = "guarded: whole and far below the limits of i64")]
pub(crate) fn whole(n: f64) -> Option<i64> {
    (n.fract() == 0.0 && n.abs() < 9e15).then_some(n as i64)
}
