//! Scalars as kyaml sees them: a text with a type, so that one may be written over another.

use druse_object::{Value, yaml};

use crate::error::{Result, fail};
use crate::ids::text;

/// The value of a plain scalar in YAML.
pub(crate) fn resolve(plain: &str) -> Value {
    let could_be_typed = plain.len() < 64
        && !plain.is_empty()
        && plain.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-._~:".contains(&b))
        && !plain.ends_with(':')
        && plain != "-";
    if plain.is_empty() {
        return Value::Null;
    }
    if could_be_typed
        && let Ok(value) = yaml::parse(plain, yaml::Dialect::Kyaml)
        && !matches!(value, Value::Map(_) | Value::Array(_))
    {
        return value;
    }
    Value::from(plain)
}

/// Whether a plain scalar in YAML is a text.
pub(crate) fn is_text(plain: &str) -> bool {
    matches!(resolve(plain), Value::String(s) if s == plain)
}

/// `new` written over `old`: a text that had to be quoted to be one keeps its quotes, and so makes a text of `new`.
pub(crate) fn over(old: &Value, new: Value) -> Value {
    match (old, &new) {
        (Value::String(old), Value::Bool(_) | Value::Int(_) | Value::UInt(_) | Value::Float(_))
            if !matches!(resolve(old), Value::String(_)) =>
        {
            Value::String(text(&new))
        }
        _ => new,
    }
}

/// The text written into a scalar that keeps its type.
///
/// # Errors
/// When the text is none of that type.
pub(crate) fn retype(old: &Value, new: &str) -> Result<Value> {
    let value = resolve(new);
    let tag = |v: &Value| match v {
        Value::Null => "!!null",
        Value::Bool(_) => "!!bool",
        Value::Int(_) | Value::UInt(_) => "!!int",
        Value::Float(_) => "!!float",
        _ => "!!str",
    };
    match (old, &value) {
        (Value::String(_), _) => Ok(Value::from(new)),
        (Value::Float(_), Value::Int(_) | Value::UInt(_)) => Ok(value),
        _ if tag(old) == tag(&value) => Ok(value),
        _ => {
            Err(fail!("map[string]interface {{}}(nil): yaml: cannot decode {} `{new}` as a {}", tag(&value), tag(old)))
        }
    }
}
