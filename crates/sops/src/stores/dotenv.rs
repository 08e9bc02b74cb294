//! dotenv files: `KEY=value` lines and comments; the metadata is flattened into `sops_…` keys.

use druse_object::{Map, Value};

use super::{Loaded, scalar_text};
use crate::error::SopsError;
use crate::format::Format;
use crate::metadata::Metadata;
use crate::tree::Walk;

/// What a line is.
pub(crate) enum Line {
    Comment(String),
    Key(String),
}

fn fail(message: String) -> SopsError {
    SopsError::Format { format: "dotenv", message }
}

/// Reads an encrypted file.
pub(crate) fn load(bytes: &[u8]) -> Result<Loaded, SopsError> {
    let text = std::str::from_utf8(bytes).map_err(|e| fail(e.to_string()))?;
    let (mut lines, mut values, mut flat) = (Vec::new(), Map::new(), Vec::new());
    for (i, line) in text.split('\n').enumerate().filter(|(_, l)| !l.is_empty()) {
        if let Some(comment) = line.strip_prefix('#') {
            lines.push(Line::Comment(comment.to_string()));
            continue;
        }
        let (key, value) = line.split_once('=').ok_or_else(|| fail(format!("line {} is no KEY=value", i + 1)))?;
        let value = value.replace("\\n", "\n");
        if let Some(key) = key.strip_prefix("sops_") {
            flat.push((key.to_string(), value));
        } else {
            if values.insert(key, value).is_some() {
                return Err(fail(format!("line {} sets {key} again", i + 1)));
            }
            lines.push(Line::Key(key.to_string()));
        }
    }
    if flat.is_empty() {
        return Err(SopsError::NotEncrypted);
    }
    let metadata = Metadata::read(&unflatten(&flat)?)?;
    Ok(Loaded { format: Format::Dotenv, documents: vec![values.into()], metadata, lines })
}

/// `age__list_0__map_enc=…` back to lists and maps.
fn unflatten(flat: &[(String, String)]) -> Result<Value, SopsError> {
    let mut root = Value::Map(Map::new());
    for (path, value) in flat {
        let bad = || SopsError::Metadata(format!("sops_{path} does not fit the other keys"));
        let mut at = &mut root;
        let mut rest = format!("__map_{path}");
        while !rest.is_empty() {
            let (list, tail) = match (rest.strip_prefix("__map_"), rest.strip_prefix("__list_")) {
                (Some(tail), _) => (false, tail.to_string()),
                (_, Some(tail)) => (true, tail.to_string()),
                _ => return Err(bad()),
            };
            let end = [tail.find("__map_"), tail.find("__list_")].into_iter().flatten().min().unwrap_or(tail.len());
            let (name, after) = tail.split_at(end);
            if list {
                let index: usize = name.parse().ok().filter(|i| *i < 1000).ok_or_else(bad)?;
                if at.is_null() {
                    *at = Value::Array(Vec::new());
                }
                let items = at.as_array_mut().ok_or_else(bad)?;
                if items.len() <= index {
                    items.resize(index + 1, Value::Null);
                }
                at = items.get_mut(index).ok_or_else(bad)?;
            } else {
                if at.is_null() {
                    *at = Value::Map(Map::new());
                }
                at = at.as_map_mut().ok_or_else(bad)?.entry_or_null(name);
            }
            rest = after.to_string();
        }
        *at = value.as_str().into();
    }
    Ok(root)
}

fn line(out: &mut String, key: &str, value: &Value) -> Result<(), SopsError> {
    let text =
        scalar_text(value).ok_or_else(|| fail(format!("{key} holds a map or list, which dotenv has no form for")))?;
    out.push_str(key);
    out.push('=');
    out.push_str(&text.replace('\n', "\\n"));
    out.push('\n');
    Ok(())
}

/// A decrypted document as text: in the order and with the comments of the file, when it was a dotenv file.
pub(crate) fn write(loaded: &Loaded, document: &Value, walk: &Walk<'_>) -> Result<String, SopsError> {
    if loaded.format != Format::Dotenv {
        return write_plain(document);
    }
    let mut out = String::new();
    for l in &loaded.lines {
        match l {
            Line::Key(key) => line(&mut out, key, &document[key.as_str()])?,
            Line::Comment(text) => {
                let paths: [&[&str]; 1] = [&[]];
                let plain = walk.comment(text, paths.into_iter());
                out.push('#');
                out.push_str(plain.as_deref().unwrap_or(text));
                out.push('\n');
            }
        }
    }
    Ok(out)
}

/// A document as text.
pub(crate) fn write_plain(document: &Value) -> Result<String, SopsError> {
    let mut out = String::new();
    for (k, v) in document.as_map().into_iter().flat_map(|m| m.iter()) {
        line(&mut out, k, v)?;
    }
    Ok(out)
}
