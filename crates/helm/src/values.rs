//! Values as a user gives them: files merged in order, then `--set-json`, `--set`, `--set-string`, `--set-file`,
//! `--set-literal`.
//!
//! Go reads every number of a YAML or JSON document as a float64, but `--set` makes an int64; templates print the two
//! differently (`1e+06`, `1000000`). [`Values`] keeps that difference: floats for what came from documents, integers for
//! what was set.

use std::borrow::Cow;

use druse_object::yaml::{self, Dialect};
use druse_object::{Map, Value};

use crate::error::HelmError;
use crate::strvals;

/// Values for a chart; always a map.
#[derive(Clone, Debug, PartialEq)]
pub struct Values(Map);

impl Default for Values {
    fn default() -> Self {
        Self(Map::new())
    }
}

impl Values {
    /// From a document's value (YAML or JSON): numbers become floats. Anything but a map or null is refused.
    ///
    /// # Errors
    /// When the value is not a map.
    pub fn from_document(value: &Value) -> Result<Self, HelmError> {
        match value {
            Value::Null => Ok(Self::default()),
            Value::Map(m) => Ok(Self(m.iter().map(|(k, v)| (k.clone(), floats(v))).collect())),
            v => Err(HelmError::Values(not_a_map(v))),
        }
    }

    /// Reads a values file; several documents are merged.
    ///
    /// # Errors
    /// When the text is not YAML, or a document is not a map.
    pub fn from_yaml(text: &str) -> Result<Self, HelmError> {
        match load(text).map_err(HelmError::Values)? {
            Value::Map(m) => Ok(Self(m)),
            _ => Ok(Self::default()),
        }
    }

    /// Merges others over these: maps key by key, anything else replaced (nulls too, which later remove a default).
    pub fn merge(&mut self, over: Values) {
        merge_maps(&mut self.0, over.0);
    }

    /// `--set`: `a.b=1,c[0]=x,d={x,y}`; numbers, booleans and null are recognised.
    ///
    /// # Errors
    /// When the text does not parse.
    pub fn set(&mut self, text: &str) -> Result<(), HelmError> {
        strvals::parse_into(&mut self.0, text, strvals::typed)
            .map_err(|e| HelmError::Values(format!("failed parsing --set data: {e}")))
    }

    /// `--set-string`: as [`Values::set`], but every value is text.
    ///
    /// # Errors
    /// When the text does not parse.
    pub fn set_string(&mut self, text: &str) -> Result<(), HelmError> {
        strvals::parse_into(&mut self.0, text, |s| Ok(Value::from(s)))
            .map_err(|e| HelmError::Values(format!("failed parsing --set-string data: {e}")))
    }

    /// `--set-file`: the value is a path, `read` gives its contents.
    ///
    /// # Errors
    /// When the text does not parse, or `read` fails.
    pub fn set_file(&mut self, text: &str, read: impl FnMut(&str) -> Result<String, String>) -> Result<(), HelmError> {
        let mut read = read;
        strvals::parse_into(&mut self.0, text, |s| read(s).map(Value::from))
            .map_err(|e| HelmError::Values(format!("failed parsing --set-file data: {e}")))
    }

    /// `--set-json`: `a.b={"x":1}`, or one whole JSON object.
    ///
    /// # Errors
    /// When the text does not parse.
    pub fn set_json(&mut self, text: &str) -> Result<(), HelmError> {
        if text.trim_start().starts_with('{') {
            let value: Value = serde_json::from_str(text)
                .map_err(|_| HelmError::Values(format!("failed parsing --set-json data JSON: {text}")))?;
            self.merge(Self::from_document(&value)?);
            return Ok(());
        }
        strvals::parse_json_into(&mut self.0, text)
            .map_err(|_| HelmError::Values(format!("failed parsing --set-json data {text}")))
    }

    /// `--set-literal`: one key, everything after `=` is its text.
    ///
    /// # Errors
    /// When the text does not parse.
    pub fn set_literal(&mut self, text: &str) -> Result<(), HelmError> {
        strvals::parse_literal_into(&mut self.0, text)
            .map_err(|e| HelmError::Values(format!("failed parsing --set-literal data: {e}")))
    }

    /// The map inside.
    #[must_use]
    pub fn as_map(&self) -> &Map {
        &self.0
    }

    /// The values as a plain value (integers where they were set as such).
    #[must_use]
    pub fn to_value(&self) -> Value {
        Value::Map(self.0.clone())
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

fn not_a_map(v: &Value) -> String {
    let kind = match v {
        Value::Array(_) => "array",
        Value::String(_) => "string",
        Value::Bool(_) => "bool",
        _ => "number",
    };
    format!(
        "cannot unmarshal yaml document: error unmarshaling JSON: while decoding JSON: json: cannot unmarshal {kind} \
         into Go value of type map[string]interface {{}}"
    )
}

/// Reads a values file: all documents merged into one map, numbers as floats.
pub(crate) fn load(text: &str) -> Result<Value, String> {
    let mut out = Map::new();
    for doc in yaml::split_documents(text) {
        // Helm's line reader ends every line, the last one too: it matters to a block of text at the end.
        let mut text = Cow::Borrowed(doc.text);
        if !text.ends_with('\n') {
            text.to_mut().push('\n');
        }
        let value = yaml::parse(&text, Dialect::Sigs)
            .map_err(|e| format!("cannot unmarshal yaml document: error converting YAML to JSON: {}", e.go_text()))?;
        match value {
            Value::Null => {}
            Value::Map(m) => merge_maps(&mut out, m.into_iter().map(|(k, v)| (k, into_floats(v))).collect()),
            v => return Err(not_a_map(&v)),
        }
    }
    Ok(Value::Map(out))
}

/// Helm's `MergeMaps`, in place.
pub(crate) fn merge_maps(base: &mut Map, over: Map) {
    for (k, v) in over {
        match (base.get_mut(&k), v) {
            (Some(Value::Map(b)), Value::Map(o)) => merge_maps(b, o),
            (_, v) => {
                base.insert(k, v);
            }
        }
    }
}

#[allow(clippy::cast_precision_loss)]
fn into_floats(v: Value) -> Value {
    match v {
        Value::Int(i) => Value::Float(i as f64),
        Value::UInt(u) => Value::Float(u as f64),
        Value::Array(a) => Value::Array(a.into_iter().map(into_floats).collect()),
        Value::Map(m) => Value::Map(m.into_iter().map(|(k, v)| (k, into_floats(v))).collect()),
        v => v,
    }
}

fn floats(v: &Value) -> Value {
    into_floats(v.clone())
}
