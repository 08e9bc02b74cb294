//! The value every part of druse passes on: what a JSON or YAML document holds.

use std::fmt;

use serde::de::{self, Deserialize, DeserializeOwned, Deserializer, IntoDeserializer, MapAccess, SeqAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, Serializer};

use crate::map::Map;

/// Strings: short ones inline, long ones shared; cloning never copies text.
pub type Str = smol_str::SmolStr;

/// A JSON-like value that keeps the order of map keys and the kind of numbers.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Value {
    /// `null`
    #[default]
    Null,
    /// `true`, `false`
    Bool(bool),
    /// An integer that fits 64 signed bits.
    Int(i64),
    /// An integer above `i64::MAX`.
    UInt(u64),
    /// A number with a fraction or exponent.
    Float(f64),
    /// Text.
    String(Str),
    /// A list.
    Array(Vec<Value>),
    /// A map.
    Map(Map),
}

static NULL: Value = Value::Null;

impl Value {
    /// The value under `key`, when this is a map that has it.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.as_map()?.get(key)
    }

    /// The value under `key` to change in place, when this is a map that has it.
    pub fn get_mut(&mut self, key: &str) -> Option<&mut Value> {
        self.as_map_mut()?.get_mut(key)
    }

    /// Walks map keys; `None` as soon as one is missing.
    #[must_use]
    pub fn at<const N: usize>(&self, path: [&str; N]) -> Option<&Value> {
        path.iter().try_fold(self, |v, key| v.get(key))
    }

    /// The string at a path of map keys.
    #[must_use]
    pub fn str_at<const N: usize>(&self, path: [&str; N]) -> Option<&str> {
        self.at(path)?.as_str()
    }

    /// Walks map keys, making maps on the way (a null or absent value becomes a map). `None` when something else
    /// than a map stands in the way.
    pub fn make_map_at<const N: usize>(&mut self, path: [&str; N]) -> Option<&mut Map> {
        let mut v = self;
        for key in path {
            v = v.make_map()?.entry_or_null(key);
        }
        v.make_map()
    }

    /// This value as a map; null becomes an empty one.
    pub fn make_map(&mut self) -> Option<&mut Map> {
        if self.is_null() {
            *self = Value::Map(Map::new());
        }
        self.as_map_mut()
    }

    /// This value as a map.
    #[must_use]
    pub fn as_map(&self) -> Option<&Map> {
        match self {
            Value::Map(m) => Some(m),
            _ => None,
        }
    }

    /// This value as a map to change in place.
    pub fn as_map_mut(&mut self) -> Option<&mut Map> {
        match self {
            Value::Map(m) => Some(m),
            _ => None,
        }
    }

    /// This value as a list.
    #[must_use]
    pub fn as_array(&self) -> Option<&Vec<Value>> {
        match self {
            Value::Array(a) => Some(a),
            _ => None,
        }
    }

    /// This value as a list to change in place.
    pub fn as_array_mut(&mut self) -> Option<&mut Vec<Value>> {
        match self {
            Value::Array(a) => Some(a),
            _ => None,
        }
    }

    /// The items of a list; nothing for any other value.
    #[must_use]
    pub fn items(&self) -> &[Value] {
        match self {
            Value::Array(a) => a,
            _ => &[],
        }
    }

    /// This value as text (strings only, nothing is converted).
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Value::String(s) => Some(s),
            _ => None,
        }
    }

    /// This value as a boolean.
    #[must_use]
    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Value::Bool(b) => Some(*b),
            _ => None,
        }
    }

    /// This value as an integer; floats with no fraction count.
    #[must_use]
    pub fn as_i64(&self) -> Option<i64> {
        match self {
            Value::Int(i) => Some(*i),
            #[allow(clippy::cast_possible_truncation)]
            Value::Float(f) if f.fract() == 0.0 && f.abs() < 9.0e15 => Some(*f as i64),
            _ => None,
        }
    }

    /// This value as a float, whatever kind of number it is.
    #[must_use]
    #[allow(clippy::cast_precision_loss)]
    pub fn as_f64(&self) -> Option<f64> {
        match self {
            Value::Int(i) => Some(*i as f64),
            Value::UInt(u) => Some(*u as f64),
            Value::Float(f) => Some(*f),
            _ => None,
        }
    }

    /// Whether this is null.
    #[must_use]
    pub fn is_null(&self) -> bool {
        matches!(self, Value::Null)
    }

    /// What kind of value this is, in JSON's words: `null`, `boolean`, `integer`, `number`, `string`, `array`, `object`.
    #[must_use]
    pub fn kind_name(&self) -> &'static str {
        match self {
            Value::Null => "null",
            Value::Bool(_) => "boolean",
            Value::Int(_) | Value::UInt(_) => "integer",
            Value::Float(_) => "number",
            Value::String(_) => "string",
            Value::Array(_) => "array",
            Value::Map(_) => "object",
        }
    }

    /// Sorts the keys of all maps inside, as Go's JSON encoder writes them.
    pub fn sort_keys(&mut self) {
        match self {
            Value::Array(a) => a.iter_mut().for_each(Value::sort_keys),
            Value::Map(m) => {
                m.sort_keys();
                m.values_mut().for_each(Value::sort_keys);
            }
            _ => {}
        }
    }

    /// A typed view of this value.
    ///
    /// # Errors
    /// When the value does not have the shape of `T`; the error says what was expected.
    pub fn to_typed<T: DeserializeOwned>(&self) -> Result<T, ValueError> {
        T::deserialize(self)
    }

    /// The value a serialisable thing stands for.
    ///
    /// # Errors
    /// When the thing cannot be written as JSON (a map with keys that are not strings, for example).
    pub fn from_typed<T: Serialize>(thing: &T) -> Result<Value, ValueError> {
        serde_json::to_value(thing).map_err(|e| ValueError(e.to_string())).map(Value::from)
    }
}

impl std::ops::Index<&str> for Value {
    type Output = Value;
    /// The value under `key`, null when absent.
    fn index(&self, key: &str) -> &Value {
        self.get(key).unwrap_or(&NULL)
    }
}

macro_rules! from {
    ($($t:ty => $e:expr),* $(,)?) => {$(
        impl From<$t> for Value {
            fn from(v: $t) -> Self {
                #[allow(clippy::redundant_closure_call)]
                ($e)(v)
            }
        }
    )*};
}
from! {
    bool => Value::Bool,
    i64 => Value::Int,
    i32 => |v| Value::Int(i64::from(v)),
    u32 => |v| Value::Int(i64::from(v)),
    u64 => |v: u64| i64::try_from(v).map_or(Value::UInt(v), Value::Int),
    usize => |v: usize| Value::from(v as u64),
    f64 => Value::Float,
    Str => Value::String,
    String => |v: String| Value::String(v.into()),
    &String => |v: &String| Value::String(v.into()),
    Vec<Value> => Value::Array,
    Map => Value::Map,
}
impl From<&str> for Value {
    fn from(v: &str) -> Self {
        Value::String(v.into())
    }
}
impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(v: Option<T>) -> Self {
        v.map_or(Value::Null, Into::into)
    }
}
impl<T: Into<Value>> FromIterator<T> for Value {
    fn from_iter<I: IntoIterator<Item = T>>(iter: I) -> Self {
        Value::Array(iter.into_iter().map(Into::into).collect())
    }
}

impl From<serde_json::Value> for Value {
    fn from(v: serde_json::Value) -> Self {
        use serde_json::Value as J;
        match v {
            J::Null => Value::Null,
            J::Bool(b) => Value::Bool(b),
            J::Number(n) => n
                .as_i64()
                .map(Value::Int)
                .or_else(|| n.as_u64().map(Value::UInt))
                .unwrap_or_else(|| Value::Float(n.as_f64().unwrap_or(f64::NAN))),
            J::String(s) => Value::String(s.into()),
            J::Array(a) => a.into_iter().collect(),
            J::Object(o) => Value::Map(o.into_iter().collect()),
        }
    }
}

impl From<Value> for serde_json::Value {
    fn from(v: Value) -> Self {
        match v {
            Value::Null => Self::Null,
            Value::Bool(b) => Self::Bool(b),
            Value::Int(i) => Self::from(i),
            Value::UInt(u) => Self::from(u),
            Value::Float(f) => serde_json::Number::from_f64(f).map_or(Self::Null, Self::Number),
            Value::String(s) => Self::String(s.into()),
            Value::Array(a) => Self::Array(a.into_iter().map(Self::from).collect()),
            Value::Map(m) => Self::Object(m.into_iter().map(|(k, v)| (k.into(), Self::from(v))).collect()),
        }
    }
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match self {
            Value::Null => s.serialize_unit(),
            Value::Bool(b) => s.serialize_bool(*b),
            Value::Int(i) => s.serialize_i64(*i),
            Value::UInt(u) => s.serialize_u64(*u),
            Value::Float(f) => s.serialize_f64(*f),
            Value::String(t) => s.serialize_str(t),
            Value::Array(a) => s.collect_seq(a),
            Value::Map(m) => m.serialize(s),
        }
    }
}

impl Serialize for Map {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let mut out = s.serialize_map(Some(self.len()))?;
        for (k, v) in self.iter() {
            out.serialize_entry(k.as_str(), v)?;
        }
        out.end()
    }
}

struct ValueVisitor;
impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }
    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }
    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }
    fn visit_some<D: Deserializer<'de>>(self, d: D) -> Result<Value, D::Error> {
        d.deserialize_any(self)
    }
    fn visit_bool<E>(self, v: bool) -> Result<Value, E> {
        Ok(Value::Bool(v))
    }
    fn visit_i64<E>(self, v: i64) -> Result<Value, E> {
        Ok(Value::Int(v))
    }
    fn visit_u64<E>(self, v: u64) -> Result<Value, E> {
        Ok(Value::from(v))
    }
    fn visit_f64<E>(self, v: f64) -> Result<Value, E> {
        Ok(Value::Float(v))
    }
    fn visit_str<E>(self, v: &str) -> Result<Value, E> {
        Ok(Value::from(v))
    }
    fn visit_string<E>(self, v: String) -> Result<Value, E> {
        Ok(Value::from(v))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut a: A) -> Result<Value, A::Error> {
        let mut out = Vec::with_capacity(a.size_hint().unwrap_or(0).min(4096));
        while let Some(v) = a.next_element()? {
            out.push(v);
        }
        Ok(Value::Array(out))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut a: A) -> Result<Value, A::Error> {
        let mut out = Map::with_capacity(a.size_hint().unwrap_or(0).min(4096));
        while let Some((k, v)) = a.next_entry::<KeyText, Value>()? {
            out.insert(k.0, v);
        }
        Ok(Value::Map(out))
    }
}

/// A map key read without an intermediate `String` for short keys.
struct KeyText(Str);
impl<'de> Deserialize<'de> for KeyText {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct V;
        impl Visitor<'_> for V {
            type Value = KeyText;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string key")
            }
            fn visit_str<E>(self, v: &str) -> Result<KeyText, E> {
                Ok(KeyText(v.into()))
            }
        }
        d.deserialize_str(V)
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        d.deserialize_any(ValueVisitor)
    }
}

impl<'de> Deserialize<'de> for Map {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        match Value::deserialize(d)? {
            Value::Map(m) => Ok(m),
            other => Err(de::Error::custom(format!("expected an object, found {}", other.kind_name()))),
        }
    }
}

/// A value that does not have the shape asked for.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{0}")]
pub struct ValueError(pub String);

impl de::Error for ValueError {
    fn custom<T: fmt::Display>(msg: T) -> Self {
        ValueError(msg.to_string())
    }
}

impl<'de> IntoDeserializer<'de, ValueError> for &'de Value {
    type Deserializer = Self;
    fn into_deserializer(self) -> Self {
        self
    }
}

impl<'de> Deserializer<'de> for &'de Value {
    type Error = ValueError;

    fn deserialize_any<V: Visitor<'de>>(self, v: V) -> Result<V::Value, ValueError> {
        match self {
            Value::Null => v.visit_unit(),
            Value::Bool(b) => v.visit_bool(*b),
            Value::Int(i) => v.visit_i64(*i),
            Value::UInt(u) => v.visit_u64(*u),
            Value::Float(f) => v.visit_f64(*f),
            Value::String(s) => v.visit_borrowed_str(s),
            Value::Array(a) => v.visit_seq(de::value::SeqDeserializer::new(a.iter())),
            Value::Map(m) => v.visit_map(de::value::MapDeserializer::new(m.iter().map(|(k, x)| (k.as_str(), x)))),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, v: V) -> Result<V::Value, ValueError> {
        if self.is_null() { v.visit_none() } else { v.visit_some(self) }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, v: V) -> Result<V::Value, ValueError> {
        v.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        v: V,
    ) -> Result<V::Value, ValueError> {
        match self {
            Value::String(s) => v.visit_enum(s.as_str().into_deserializer()),
            Value::Map(m) if m.len() == 1 => v.visit_enum(de::value::MapAccessDeserializer::new(
                de::value::MapDeserializer::new(m.iter().map(|(k, x)| (k.as_str(), x))),
            )),
            other => Err(ValueError(format!("expected one of {variants:?} for {name}, found {}", other.kind_name()))),
        }
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq
        tuple tuple_struct map struct identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn typed_views_read_and_write_the_same_shape() {
        #[derive(serde::Deserialize, serde::Serialize, PartialEq, Debug)]
        struct Spec {
            name: String,
            replicas: Option<i32>,
            tags: Vec<String>,
        }
        let v: Value = serde_json::from_str(r#"{"name":"a","replicas":2,"tags":["x"]}"#).unwrap();
        let spec: Spec = v.to_typed().unwrap();
        assert_eq!(spec, Spec { name: "a".into(), replicas: Some(2), tags: vec!["x".into()] });
        assert_eq!(Value::from_typed(&spec).unwrap(), v);
    }

    #[test]
    fn numbers_keep_their_kind_and_size() {
        let v: Value = serde_json::from_str("[1, 1.0, 18446744073709551615, -3]").unwrap();
        assert_eq!(v.items(), [Value::Int(1), Value::Float(1.0), Value::UInt(u64::MAX), Value::Int(-3)]);
    }
}
