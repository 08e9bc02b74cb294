//! Opening a document: metadata, data key, the walk, the MAC.

use druse_object::Value;

use crate::cipher::Plain;
use crate::error::SopsError;
use crate::format::Format;
use crate::identity::Identities;
use crate::metadata::{Metadata, Recipients};
use crate::stores::{Loaded, dotenv, json, load, yaml};
use crate::tree::Walk;

/// Whether the MAC of a document is that of its values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Integrity {
    /// It is.
    Verified,
    /// It is not: unencrypted values were changed, or values were added or removed, after encrypting. Each encrypted
    /// value is still what was encrypted at its place.
    Mismatch,
    /// The document carries no MAC.
    Absent,
}

impl Integrity {
    fn of(holds: Option<bool>) -> Self {
        match holds {
            Some(true) => Self::Verified,
            Some(false) => Self::Mismatch,
            None => Self::Absent,
        }
    }
}

/// A decrypted document.
#[derive(Clone, PartialEq)]
pub struct Opened<T> {
    /// What it holds, without metadata.
    pub content: T,
    /// Whether its MAC holds.
    pub integrity: Integrity,
}

/// Whether an object carries SOPS metadata with a MAC.
#[must_use]
pub fn is_encrypted(value: &Value) -> bool {
    value.at(["sops", "mac"]).is_some_and(|m| m.as_str().is_some_and(|m| !m.is_empty()))
}

/// Whom an object is encrypted for; nobody when it is not or cannot be read.
#[must_use]
pub fn recipients(value: &Value) -> Recipients {
    value.get("sops").and_then(|s| Metadata::read(s).ok()).map(|m| m.recipients).unwrap_or_default()
}

/// Whom a file is encrypted for; nobody when it is not or cannot be read.
#[must_use]
pub fn recipients_of_file(bytes: &[u8], input: Format) -> Recipients {
    load(bytes, input).map(|l| l.metadata.recipients).unwrap_or_default()
}

/// Decrypts an object that carries its metadata under `sops`; the result is without it.
///
/// The MAC of an object that was changed on the way (by kustomize, say) does not hold and says nothing.
///
/// # Errors
/// When it is not encrypted, no key opens it, or a value is not what was encrypted at its place.
pub fn open_value(value: &Value, identities: &Identities) -> Result<Opened<Value>, SopsError> {
    let metadata = Metadata::read(value.get("sops").ok_or(SopsError::NotEncrypted)?)?;
    let mut rest = value.clone();
    if let Some(map) = rest.as_map_mut() {
        map.remove("sops");
    }
    let mut walk = Walk::new(&metadata, metadata.data_key(identities)?);
    let content = walk.document(&rest)?;
    Ok(Opened { content, integrity: Integrity::of(walk.mac_holds()) })
}

/// Decrypts a file of one format and writes it in another, as `sops decrypt` does: YAML with four spaces and its
/// comments, JSON with tabs, dotenv line by line.
///
/// # Errors
/// As [`open_value`], and when the file is not of its format or cannot be written in the other.
pub fn open_file(
    bytes: &[u8],
    input: Format,
    output: Format,
    identities: &Identities,
) -> Result<Opened<Vec<u8>>, SopsError> {
    let loaded = load(bytes, input)?;
    let mut walk = Walk::new(&loaded.metadata, loaded.metadata.data_key(identities)?);
    let content =
        if output == Format::Binary { binary(&loaded, &mut walk)? } else { emit(bytes, &loaded, output, &mut walk)? };
    Ok(Opened { content, integrity: Integrity::of(walk.mac_holds()) })
}

fn emit(bytes: &[u8], loaded: &Loaded, output: Format, walk: &mut Walk<'_>) -> Result<Vec<u8>, SopsError> {
    let documents = loaded.documents.iter().map(|d| walk.document(d)).collect::<Result<Vec<Value>, _>>()?;
    let text = match output {
        Format::Yaml => {
            let source = (loaded.format == Format::Yaml).then(|| std::str::from_utf8(bytes).ok()).flatten();
            source
                .filter(|s| s.contains('#') || s.contains(",type:comment]"))
                .and_then(|s| yaml::rewrite(s, loaded, walk))
                .unwrap_or_else(|| yaml::write(&documents))
        }
        Format::Json => json::write(documents.first().unwrap_or(&Value::Null)),
        Format::Dotenv => dotenv::write(loaded, documents.first().unwrap_or(&Value::Null), walk)?,
        Format::Ini | Format::Binary => return Err(unsupported_ini()),
    };
    Ok(text.into_bytes())
}

/// The bytes under the key `data`, which need not be text.
fn binary(loaded: &Loaded, walk: &mut Walk<'_>) -> Result<Vec<u8>, SopsError> {
    let fail = |message: &str| SopsError::Format { format: "binary", message: message.to_string() };
    let mut out = None;
    for (key, value) in loaded.documents.first().and_then(Value::as_map).into_iter().flat_map(|m| m.iter()) {
        let text = value.as_str().ok_or_else(|| fail("its data is no encrypted text"))?;
        if let Plain::Text(bytes) = walk.bytes(text, &[key])?
            && key == "data"
        {
            out = Some(bytes);
        }
    }
    out.ok_or_else(|| fail("it holds no data"))
}

pub(crate) fn unsupported_ini() -> SopsError {
    SopsError::Format { format: "INI", message: "encrypted INI files are not supported; use dotenv or binary".into() }
}
