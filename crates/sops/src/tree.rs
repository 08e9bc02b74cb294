//! The walk over a document: every value that is encrypted is decrypted in its place, and all go into the MAC.

use druse_object::{Map, Value};
use sha2::{Digest, Sha512};
use zeroize::Zeroizing;

use crate::cipher::{self, Plain};
use crate::error::SopsError;
use crate::metadata::Metadata;

/// What a MAC over encrypted values only starts with, so that it never equals one over all (`sha256("sops")`).
const ONLY_ENCRYPTED: [u8; 32] = [
    0x8a, 0x3f, 0xd2, 0xad, 0x54, 0xce, 0x66, 0x52, 0x7b, 0x10, 0x34, 0xf3, 0xd1, 0x47, 0xbe, 0x0b, 0x0b, 0x97, 0x5b,
    0x3b, 0xf4, 0x4f, 0x72, 0xc6, 0xfd, 0xad, 0xec, 0x81, 0x76, 0xf2, 0x7d, 0x69,
];
/// How deep documents may be nested.
const MAX_DEPTH: usize = 1000;

/// Decrypts the values of one file.
pub(crate) struct Walk<'m> {
    metadata: &'m Metadata,
    key: Zeroizing<Vec<u8>>,
    mac: Sha512,
    /// The encrypted texts in document order, each with what it became.
    pub(crate) opened: Vec<(String, Value)>,
}

/// What authenticates a value: its keys, each with a colon after it.
fn additional_data(path: &[&str]) -> String {
    format!("{}:", path.join(":"))
}

impl<'m> Walk<'m> {
    pub(crate) fn new(metadata: &'m Metadata, key: Zeroizing<Vec<u8>>) -> Self {
        let mut mac = Sha512::new();
        if metadata.mac_only_encrypted {
            mac.update(ONLY_ENCRYPTED);
        }
        Self { metadata, key, mac, opened: Vec::new() }
    }

    /// A document with its values decrypted.
    pub(crate) fn document(&mut self, value: &Value) -> Result<Value, SopsError> {
        Ok(self.value(value, &mut Vec::new())?.unwrap_or_default())
    }

    fn value<'v>(&mut self, value: &'v Value, path: &mut Vec<&'v str>) -> Result<Option<Value>, SopsError> {
        if path.len() > MAX_DEPTH {
            return Err(SopsError::Metadata(format!("the document is nested more than {MAX_DEPTH} deep")));
        }
        match value {
            Value::Map(map) => {
                let mut out = Map::with_capacity(map.len());
                for (k, v) in map.iter() {
                    path.push(k);
                    let v = self.value(v, path)?;
                    path.pop();
                    if let Some(v) = v {
                        out.insert(k.clone(), v);
                    }
                }
                Ok(Some(out.into()))
            }
            Value::Array(list) => {
                let mut out = Vec::with_capacity(list.len());
                for item in list {
                    // The index is no part of the path.
                    out.extend(self.value(item, path)?);
                }
                Ok(Some(Value::Array(out)))
            }
            Value::Null => Ok(Some(Value::Null)),
            leaf => self.leaf(leaf, path),
        }
    }

    fn leaf(&mut self, leaf: &Value, path: &[&str]) -> Result<Option<Value>, SopsError> {
        if !self.metadata.rule.encrypts(path, leaf.as_str()) {
            if !self.metadata.mac_only_encrypted {
                self.mac.update(plain_bytes(leaf));
            }
            return Ok(Some(leaf.clone()));
        }
        let Some(text) = leaf.as_str() else {
            return Err(failed(path, &format!("it must be encrypted text, but is {}", leaf.kind_name())));
        };
        match self.bytes(text, path)? {
            Plain::Comment(_) => Ok(None),
            Plain::Text(bytes) => {
                let plain = std::str::from_utf8(&bytes).map_err(|_| failed(path, "it holds bytes that are no text"))?;
                self.remember(text, plain.into())
            }
            Plain::Int(i) => self.remember(text, i.into()),
            // Both JSON and YAML write a whole number without a fraction, and it is read again as an integer.
            #[allow(clippy::cast_possible_truncation, reason = "in range, and whole")]
            Plain::Float(f) if f.fract() == 0.0 && f.abs() < 1e15 => self.remember(text, Value::Int(f as i64)),
            Plain::Float(f) => self.remember(text, Value::Float(f)),
            Plain::Bool(b) => self.remember(text, b.into()),
            Plain::Time(t) => self.remember(text, t.into()),
        }
    }

    #[allow(clippy::unnecessary_wraps, reason = "the form in which a leaf is returned")]
    fn remember(&mut self, text: &str, value: Value) -> Result<Option<Value>, SopsError> {
        if !text.is_empty() {
            self.opened.push((text.to_string(), value.clone()));
        }
        Ok(Some(value))
    }

    /// Decrypts one text and takes it into the MAC.
    pub(crate) fn bytes(&mut self, text: &str, path: &[&str]) -> Result<Plain, SopsError> {
        let plain = cipher::decrypt(text, &self.key, &additional_data(path)).map_err(|e| failed(path, e))?;
        if let Some(bytes) = plain.mac_bytes() {
            self.mac.update(Zeroizing::new(bytes).as_slice());
        }
        Ok(plain)
    }

    /// The text of an encrypted comment, when it was encrypted under one of these paths.
    pub(crate) fn comment<'p>(&self, text: &str, paths: impl Iterator<Item = &'p [&'p str]>) -> Option<String> {
        let key = &self.key;
        let plain = paths.into_iter().find_map(|p| cipher::decrypt(text, key, &additional_data(p)).ok())?;
        match plain {
            Plain::Comment(bytes) | Plain::Text(bytes) => String::from_utf8(bytes).ok(),
            _ => None,
        }
    }

    /// Whether the MAC that the document carries is that of its values; `None` when it carries none.
    pub(crate) fn mac_holds(self) -> Option<bool> {
        let metadata = self.metadata;
        if metadata.mac.is_empty() {
            return None;
        }
        let own = hex::encode_upper(self.mac.finalize());
        // The time authenticates the MAC; it has no path.
        match cipher::decrypt(&metadata.mac, &self.key, &metadata.last_modified) {
            Ok(Plain::Text(t)) if t.is_empty() => None,
            Ok(Plain::Text(t)) => Some(t == own.as_bytes()),
            _ => Some(false),
        }
    }
}

fn failed(path: &[&str], message: &str) -> SopsError {
    SopsError::Value { path: path.join("."), message: message.to_string() }
}

fn plain_bytes(leaf: &Value) -> Vec<u8> {
    match leaf {
        Value::Bool(b) => Plain::Bool(*b).mac_bytes().unwrap_or_default(),
        Value::Int(i) => i.to_string().into_bytes(),
        Value::UInt(u) => u.to_string().into_bytes(),
        Value::Float(f) => f.to_string().into_bytes(),
        Value::String(s) => s.as_bytes().to_vec(),
        Value::Null | Value::Array(_) | Value::Map(_) => Vec::new(),
    }
}
