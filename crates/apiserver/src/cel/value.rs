//! What expressions evaluate to.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::sync::Arc;

use druse_object::{Map, Value, value::Str};

use super::CelError;
use crate::schema::{Format, ListType, Node};
use druse_object::Quantity;

/// A value; lists and maps of an object are borrowed from it.
#[derive(Clone, Debug)]
pub enum Val<'a> {
    /// `null`
    Null,
    /// A boolean.
    Bool(bool),
    /// A signed number.
    Int(i64),
    /// An unsigned number.
    Uint(u64),
    /// A floating point number.
    Double(f64),
    /// Text.
    Str(Str),
    /// Bytes.
    Bytes(Arc<Vec<u8>>),
    /// A list made by the expression.
    List(Arc<Vec<Val<'a>>>),
    /// A map made by the expression.
    Map(Arc<Vec<(Val<'a>, Val<'a>)>>),
    /// A list of an object, with its schema when there is one.
    JsonList(&'a [Value], Option<&'a Node>),
    /// A map of an object, with its schema when there is one.
    JsonMap(&'a Map, Option<&'a Node>),
    /// A point in time.
    Timestamp(jiff::Timestamp),
    /// A span of time in nanoseconds.
    Duration(i64),
    /// The name of a type.
    Type(&'static str),
    /// A value that may be absent.
    Optional(Option<Box<Val<'a>>>),
    /// A Kubernetes quantity.
    Quantity(Quantity),
    /// An IP address.
    Ip(std::net::IpAddr),
    /// A network: its address and prefix length.
    Cidr(std::net::IpAddr, u8),
    /// A parsed URL.
    Url(Arc<super::libs::Url>),
    /// A rule for text.
    Format(&'static super::named::NamedFormat),
    /// A semantic version.
    Semver(Arc<semver::Version>),
    /// Something of the surroundings.
    Native(Arc<dyn Native>),
}

/// A value of the expression's surroundings that has methods and no data of its own, as the authorizer.
pub trait Native: std::fmt::Debug + Send + Sync {
    /// The type's name as `type()` and messages have it.
    fn type_name(&self) -> &'static str;
    /// What calling a method costs.
    fn cost(&self, _method: &str) -> u64 {
        1
    }
    /// The value of a field.
    fn field(&self, _name: &str) -> Option<Val<'static>> {
        None
    }
    /// Calls a method.
    ///
    /// # Errors
    /// When there is no such method for these arguments, or it has no answer.
    fn call(&self, method: &str, args: &[Val<'_>]) -> Result<Val<'static>, CelError>;
}

impl<'a> Val<'a> {
    /// A JSON value without a schema.
    #[must_use]
    pub fn json(v: &'a Value) -> Self {
        Self::read(v, None)
    }

    /// A JSON value with its schema: times and durations become such.
    #[must_use]
    pub fn typed(v: &'a Value, node: &'a Node) -> Self {
        Self::read(v, Some(node))
    }

    /// A value that may be absent.
    #[must_use]
    pub fn optional(v: Option<Val<'a>>) -> Self {
        Val::Optional(v.map(Box::new))
    }

    fn read(v: &'a Value, node: Option<&'a Node>) -> Self {
        match v {
            Value::Null => Val::Null,
            Value::Bool(b) => Val::Bool(*b),
            // A whole number where the schema says `number` is a double.
            #[allow(clippy::cast_precision_loss)]
            Value::Int(i) if node.is_some_and(|n| n.shape == crate::schema::Shape::Number) => Val::Double(*i as f64),
            Value::Int(i) => Val::Int(*i),
            Value::UInt(u) => Val::Uint(*u),
            Value::Float(f) => match v.as_i64() {
                Some(i) if node.is_some_and(|n| n.shape == crate::schema::Shape::Int) => Val::Int(i),
                _ => Val::Double(*f),
            },
            Value::String(s) => match node.map(|n| &n.format) {
                Some(Format::DateTime) => s.parse().map_or_else(|_| Val::Str(s.clone()), Val::Timestamp),
                Some(Format::Other(f)) if f == "duration" => {
                    super::libs::parse_duration(s).map_or_else(|| Val::Str(s.clone()), Val::Duration)
                }
                _ => Val::Str(s.clone()),
            },
            Value::Array(a) => Val::JsonList(a, node),
            Value::Map(m) => Val::JsonMap(m, node),
        }
    }

    /// The type's name as `type()` and messages have it.
    #[must_use]
    pub fn type_name(&self) -> &'static str {
        match self {
            Val::Null => "null_type",
            Val::Bool(_) => "bool",
            Val::Int(_) => "int",
            Val::Uint(_) => "uint",
            Val::Double(_) => "double",
            Val::Str(_) => "string",
            Val::Bytes(_) => "bytes",
            Val::List(_) | Val::JsonList(..) => "list",
            Val::Map(_) | Val::JsonMap(..) => "map",
            Val::Timestamp(_) => "google.protobuf.Timestamp",
            Val::Duration(_) => "google.protobuf.Duration",
            Val::Type(_) => "type",
            Val::Optional(_) => "optional_type",
            Val::Quantity(_) => "kubernetes.Quantity",
            Val::Ip(_) => "net.IP",
            Val::Cidr(..) => "net.CIDR",
            Val::Url(_) => "kubernetes.URL",
            Val::Format(_) => "kubernetes.NamedFormat",
            Val::Semver(_) => "kubernetes.Semver",
            Val::Native(n) => n.type_name(),
        }
    }

    /// Whether it is a list.
    pub(crate) fn is_list(&self) -> bool {
        matches!(self, Val::List(_) | Val::JsonList(..))
    }

    /// Whether it is a map.
    pub(crate) fn is_map(&self) -> bool {
        matches!(self, Val::Map(_) | Val::JsonMap(..))
    }

    /// The items of a list.
    pub(crate) fn items(&self) -> Option<Cow<'_, [Val<'a>]>> {
        match self {
            Val::List(l) => Some(Cow::Borrowed(l)),
            Val::JsonList(l, node) => {
                let item = node.and_then(|n| n.items.as_deref()).map(crate::schema::Slot::node);
                Some(Cow::Owned(l.iter().map(|v| Val::read(v, item)).collect()))
            }
            _ => None,
        }
    }

    /// The entries of a map.
    pub(crate) fn entries(&self) -> Option<Cow<'_, [(Val<'a>, Val<'a>)]>> {
        match self {
            Val::Map(m) => Some(Cow::Borrowed(m)),
            Val::JsonMap(m, node) => Some(Cow::Owned(
                m.iter()
                    .map(|(k, v)| {
                        (
                            Val::Str(k.clone()),
                            Val::read(v, node.and_then(|n| n.child(k)).map(crate::schema::Slot::node)),
                        )
                    })
                    .collect(),
            )),
            _ => None,
        }
    }

    /// The value under a key; `Ok(None)` when there is none.
    pub(crate) fn get(&self, key: &Val<'a>) -> Result<Option<Val<'a>>, CelError> {
        match self {
            Val::JsonMap(m, node) => {
                let Val::Str(k) = key else { return Ok(None) };
                let node = node.and_then(|n| n.child(k)).map(crate::schema::Slot::node);
                Ok(m.get(k).map(|v| Val::read(v, node)))
            }
            Val::Map(m) => Ok(m.iter().find(|(k, _)| k.equals(key)).map(|(_, v)| v.clone())),
            Val::List(_) | Val::JsonList(..) => {
                let i = match key {
                    Val::Int(i) => usize::try_from(*i).ok(),
                    Val::Uint(u) => usize::try_from(*u).ok(),
                    Val::Double(d) if d.fract() == 0.0 && *d >= 0.0 && *d < 9e15 =>
                    {
                        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
                        Some(*d as usize)
                    }
                    _ => return Err(CelError("no such overload".into())),
                };
                Ok(match self {
                    Val::JsonList(l, node) => {
                        let item = node.and_then(|n| n.items.as_deref()).map(crate::schema::Slot::node);
                        i.and_then(|i| l.get(i)).map(|v| Val::read(v, item))
                    }
                    Val::List(l) => i.and_then(|i| l.get(i)).cloned(),
                    _ => None,
                })
            }
            Val::Optional(Some(inner)) => inner.get(key),
            Val::Optional(None) => Ok(None),
            _ => Err(CelError("no such overload".into())),
        }
    }

    /// Equality: numbers by value, lists in order (sets and keyed lists of objects in any), maps by entries.
    pub(crate) fn equals(&self, other: &Val<'_>) -> bool {
        match (self, other) {
            (Val::Null, Val::Null) => true,
            (Val::Bool(a), Val::Bool(b)) => a == b,
            (Val::Str(a), Val::Str(b)) => a == b,
            (Val::Bytes(a), Val::Bytes(b)) => a == b,
            (Val::Timestamp(a), Val::Timestamp(b)) => a == b,
            (Val::Duration(a), Val::Duration(b)) => a == b,
            (Val::Type(a), Val::Type(b)) => a == b,
            (Val::Quantity(a), Val::Quantity(b)) => a == b,
            (Val::Ip(a), Val::Ip(b)) => a == b,
            (Val::Cidr(a, x), Val::Cidr(b, y)) => a == b && x == y,
            (Val::Url(a), Val::Url(b)) => a.text == b.text,
            (Val::Format(a), Val::Format(b)) => a.name() == b.name(),
            (Val::Semver(a), Val::Semver(b)) => a.cmp_precedence(b).is_eq(),
            (Val::Optional(a), Val::Optional(b)) => match (a, b) {
                (None, None) => true,
                (Some(a), Some(b)) => a.equals(b),
                _ => false,
            },
            (Val::Int(_) | Val::Uint(_) | Val::Double(_), Val::Int(_) | Val::Uint(_) | Val::Double(_)) => {
                self.number_order(other) == Some(Ordering::Equal)
            }
            _ => {
                if let (Some(a), Some(b)) = (self.items(), other.items()) {
                    if a.len() != b.len() {
                        return false;
                    }
                    let unordered = matches!(self, Val::JsonList(_, Some(n)) if n.list != ListType::Atomic);
                    return if unordered {
                        a.iter().all(|x| b.iter().any(|y| x.equals(y)))
                    } else {
                        a.iter().zip(b.iter()).all(|(x, y)| x.equals(y))
                    };
                }
                if let (Some(a), Some(b)) = (self.entries(), other.entries()) {
                    return a.len() == b.len()
                        && a.iter().all(|(k, v)| b.iter().any(|(l, w)| k.equals(l) && v.equals(w)));
                }
                false
            }
        }
    }

    #[allow(clippy::cast_precision_loss)]
    fn number_order(&self, other: &Val<'_>) -> Option<Ordering> {
        let whole = |v: &Val<'_>| match v {
            Val::Int(i) => Some(i128::from(*i)),
            Val::Uint(u) => Some(i128::from(*u)),
            _ => None,
        };
        let double = |v: &Val<'_>| match v {
            Val::Int(i) => Some(*i as f64),
            Val::Uint(u) => Some(*u as f64),
            Val::Double(d) => Some(*d),
            _ => None,
        };
        match (whole(self), whole(other)) {
            (Some(a), Some(b)) => Some(a.cmp(&b)),
            _ => double(self)?.partial_cmp(&double(other)?),
        }
    }

    /// The order of two values of comparable types.
    pub(crate) fn order(&self, other: &Val<'_>) -> Option<Ordering> {
        match (self, other) {
            (Val::Bool(a), Val::Bool(b)) => Some(a.cmp(b)),
            (Val::Str(a), Val::Str(b)) => Some(a.cmp(b)),
            (Val::Bytes(a), Val::Bytes(b)) => Some(a.cmp(b)),
            (Val::Timestamp(a), Val::Timestamp(b)) => Some(a.cmp(b)),
            (Val::Duration(a), Val::Duration(b)) => Some(a.cmp(b)),
            (Val::Quantity(a), Val::Quantity(b)) => Some(a.cmp(b)),
            _ => self.number_order(other),
        }
    }

    /// As JSON, for results of expressions that make objects.
    #[must_use]
    pub fn to_value(&self) -> Value {
        match self {
            Val::Null | Val::Optional(None) => Value::Null,
            Val::Bool(b) => Value::Bool(*b),
            Val::Int(i) => Value::Int(*i),
            Val::Uint(u) => Value::from(*u),
            Val::Double(d) => Value::Float(*d),
            Val::Str(s) => Value::String(s.clone()),
            Val::JsonList(l, _) => Value::Array(l.to_vec()),
            Val::JsonMap(m, _) => Value::Map((*m).clone()),
            Val::List(l) => l.iter().map(Val::to_value).collect(),
            Val::Map(m) => Value::Map(m.iter().map(|(k, v)| (k.text(), v.to_value())).collect()),
            Val::Optional(Some(v)) => v.to_value(),
            other => Value::from(other.text()),
        }
    }

    /// As `string()` writes it.
    pub(crate) fn text(&self) -> String {
        match self {
            Val::Str(s) => s.to_string(),
            Val::Bool(b) => b.to_string(),
            Val::Int(i) => i.to_string(),
            Val::Uint(u) => u.to_string(),
            Val::Double(d) => d.to_string(),
            Val::Bytes(b) => String::from_utf8_lossy(b).into_owned(),
            Val::Timestamp(t) => t.to_string(),
            Val::Duration(n) => super::libs::duration_text(*n),
            Val::Type(t) => (*t).to_string(),
            Val::Quantity(q) => q.to_string(),
            Val::Ip(ip) => ip.to_string(),
            Val::Cidr(ip, n) => format!("{ip}/{n}"),
            Val::Url(u) => u.text.clone(),
            Val::Format(f) => f.name().to_owned(),
            Val::Semver(v) => v.to_string(),
            Val::Native(n) => n.type_name().to_owned(),
            other => druse_object::json::to_string(&other.to_value()),
        }
    }
}
