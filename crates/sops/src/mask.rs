//! What stands in for values that no key at hand decrypts.
//!
//! The placeholder's form (`..PLACEHOLDER_<key>..`) is that of flux-local and flate: it is safe wherever a value may end
//! up (a YAML scalar, part of a host name) and says which value is missing.

use druse_object::{Str, Value};

use crate::cipher::is_ciphertext;
use crate::error::SopsError;
use crate::format::Format;
use crate::stores::{dotenv, json, load, yaml};

/// How every placeholder starts.
pub const PLACEHOLDER_PREFIX: &str = "..PLACEHOLDER_";

/// What stands in for the value under `key`.
#[must_use]
pub fn placeholder(key: &str) -> String {
    format!("{PLACEHOLDER_PREFIX}{key}..")
}

/// Replaces every encrypted value of an object by what `stand_in` gives for its keys, and takes the `sops` metadata off.
pub fn mask_value(value: &mut Value, stand_in: &dyn Fn(&[Str]) -> String) {
    if let Some(map) = value.as_map_mut() {
        map.remove("sops");
    }
    mask(value, &mut Vec::new(), stand_in);
}

fn mask(value: &mut Value, path: &mut Vec<Str>, stand_in: &dyn Fn(&[Str]) -> String) {
    match value {
        Value::Map(map) => {
            for (k, v) in map.iter_mut() {
                path.push(k.clone());
                mask(v, path, stand_in);
                path.pop();
            }
        }
        Value::Array(list) => list.iter_mut().for_each(|v| mask(v, path, stand_in)),
        Value::String(s) if is_ciphertext(s) => *s = stand_in(path).into(),
        _ => {}
    }
}

/// An encrypted file with placeholders for its values, in the format that decrypting would give; `name` stands for the
/// whole of a binary one.
///
/// # Errors
/// When the file is not of its format.
pub fn mask_file(bytes: &[u8], input: Format, output: Format, name: &str) -> Result<Vec<u8>, SopsError> {
    if output == Format::Binary {
        return Ok(placeholder(name).into_bytes());
    }
    let mut loaded = load(bytes, input)?;
    let own = |path: &[Str]| placeholder(path.last().map_or(name, Str::as_str));
    loaded.documents.iter_mut().for_each(|d| mask_value(d, &own));
    let first = loaded.documents.first().cloned().unwrap_or_default();
    Ok(match output {
        Format::Yaml => yaml::write(&loaded.documents),
        Format::Json => json::write(&first),
        Format::Dotenv => dotenv::write_plain(&first)?,
        Format::Ini | Format::Binary => return Err(crate::open::unsupported_ini()),
    }
    .into_bytes())
}
