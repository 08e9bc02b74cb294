//! File formats: from bytes to documents and metadata, and decrypted documents back to text.

pub(crate) mod dotenv;
pub(crate) mod json;
pub(crate) mod yaml;

use druse_object::Value;

use crate::error::SopsError;
use crate::format::Format;
use crate::metadata::Metadata;

/// An encrypted file, read.
pub(crate) struct Loaded {
    pub(crate) format: Format,
    /// Its documents, without metadata.
    pub(crate) documents: Vec<Value>,
    pub(crate) metadata: Metadata,
    /// The lines of a dotenv file, comments included.
    pub(crate) lines: Vec<dotenv::Line>,
}

/// Reads an encrypted file.
pub(crate) fn load(bytes: &[u8], format: Format) -> Result<Loaded, SopsError> {
    let fail = |message: String| SopsError::Format { format: format.as_str(), message };
    if format == Format::Ini {
        return Err(crate::open::unsupported_ini());
    }
    if format == Format::Dotenv {
        return dotenv::load(bytes);
    }
    let mut documents = if format == Format::Yaml {
        let text = std::str::from_utf8(bytes).map_err(|e| fail(e.to_string()))?;
        druse_object::yaml::documents(text, druse_object::yaml::Dialect::Kyaml)
            .into_iter()
            .map(|d| d.map(|d| d.value))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|e| fail(e.to_string()))?
    } else {
        vec![druse_object::json::parse(bytes).map_err(|e| fail(e.to_string()))?]
    };
    // The metadata of the first document counts; all carry it.
    let mut found = None;
    for (i, document) in documents.iter_mut().enumerate() {
        let own = document.as_map_mut().and_then(|m| m.remove("sops"));
        if i == 0 {
            found = own;
        }
    }
    let metadata = Metadata::read(&found.ok_or(SopsError::NotEncrypted)?)?;
    Ok(Loaded { format, documents, metadata, lines: Vec::new() })
}

/// A scalar as text, as sops writes it into formats that have only text (Go's `%v`, floats with a fraction).
pub(crate) fn scalar_text(value: &Value) -> Option<String> {
    Some(match value {
        Value::String(s) => s.to_string(),
        Value::Bool(b) => b.to_string(),
        Value::Int(i) => i.to_string(),
        Value::UInt(u) => u.to_string(),
        Value::Float(f) if f.fract() == 0.0 && f.abs() < 1e21 => format!("{f:.1}"),
        Value::Float(f) => f.to_string(),
        Value::Null => "<nil>".to_string(),
        Value::Array(_) | Value::Map(_) => return None,
    })
}
