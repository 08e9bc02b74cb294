//! YAML as the Go tools read and write it.

use std::ops::Range;

use crate::value::Value;

/// Whose reading of YAML to follow where they differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// `sigs.k8s.io/yaml` (goyaml.v2): YAML 1.1 words (`yes`, `on`, …) are booleans. Helm, kubectl, Flux' API objects.
    Sigs,
    /// kyaml (go.yaml.in/yaml/v3): only `true`/`false` spellings are booleans in untyped values. kustomize.
    Kyaml,
}

/// One document of a stream.
#[derive(Clone, Debug)]
pub struct Document {
    /// What it holds; null for an empty document.
    pub value: Value,
    /// The line its content starts on, from 1.
    pub line: u32,
    /// Its bytes in the stream.
    pub range: Range<usize>,
}

/// A document that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {message}")]
pub struct YamlError {
    /// From 1, counted in the whole stream.
    pub line: u32,
    /// From 1, in characters.
    pub column: u32,
    /// What is wrong.
    pub message: String,
}

/// Reads a stream of documents; a broken one does not stop those after it.
#[must_use]
pub fn documents(_text: &str, _dialect: Dialect) -> Vec<Result<Document, YamlError>> {
    Vec::new()
}

/// Reads the first document (what Go's `Unmarshal` does); null when there is none.
///
/// # Errors
/// When the text is not YAML.
pub fn parse(text: &str, dialect: Dialect) -> Result<Value, YamlError> {
    documents(text, dialect).into_iter().next().map_or(Ok(Value::Null), |d| d.map(|d| d.value))
}

/// Writes a value as `sigs.k8s.io/yaml`'s `Marshal`: map keys sorted, two spaces, lists not indented.
#[must_use]
pub fn to_string(_value: &Value) -> String {
    String::new()
}

/// Writes a value as kyaml does: keys in their own order.
#[must_use]
pub fn to_string_ordered(_value: &Value) -> String {
    String::new()
}
