//! `configMapGenerator` and `secretGenerator`, and the hash that ends the names of what they make.

use std::collections::{BTreeMap, HashSet};

use base64::Engine;
use druse_object::{Map, Provenance, Value};
use sha2::{Digest, Sha256};

use crate::error::{Result, fail};
use crate::ids::text;
use crate::kustomization::{GeneratorArgs, GeneratorOptions};
use crate::loader::Loader;
use crate::resource::{Behavior, Resource};

/// Which kind is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Made {
    ConfigMap,
    Secret,
}

/// The options of an entry with those of the whole file filled in.
pub(crate) fn with_global(
    local: Option<GeneratorOptions>,
    global: Option<&GeneratorOptions>,
) -> Option<GeneratorOptions> {
    let Some(global) = global else { return local };
    let mut options = local.unwrap_or_default();
    for (mine, theirs) in [(&mut options.labels, &global.labels), (&mut options.annotations, &global.annotations)] {
        for (key, value) in theirs {
            mine.entry(key.clone()).or_insert_with(|| value.clone());
        }
    }
    options.disable_name_suffix_hash |= global.disable_name_suffix_hash;
    options.immutable |= global.immutable;
    Some(options)
}

/// Makes the object of one entry.
pub(crate) fn generate(made: Made, args: &GeneratorArgs, loader: &Loader<'_>, file: &str) -> Result<Resource> {
    if args.name.is_empty() {
        return Err(fail!("a configmap must have a name"));
    }
    let mut object = Map::new();
    object.insert("apiVersion", "v1");
    object.insert("kind", if made == Made::Secret { "Secret" } else { "ConfigMap" });
    let mut metadata = Map::new();
    metadata.insert("name", args.name.as_str());
    if !args.namespace.is_empty() {
        metadata.insert("namespace", args.namespace.as_str());
    }
    let pairs = pairs(args, loader).map_err(|e| e.wrap("loading KV pairs"))?;
    let mut values: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    let mut seen = HashSet::new();
    for (key, value) in pairs {
        if !seen.insert(key.clone()) {
            return Err(fail!("configmap {} illegally repeats the key `{key}`", args.name));
        }
        values.insert(key, value);
    }
    let keys: Vec<String> = values.keys().cloned().collect();
    let mut data = Map::new();
    let mut binary = Map::new();
    for (key, value) in values {
        match (made, String::from_utf8(value)) {
            (Made::Secret, value) => {
                let bytes = value.map_or_else(|e| e.into_bytes(), String::into_bytes);
                data.insert(key, base64_lines(&bytes));
            }
            (Made::ConfigMap, Ok(text)) => {
                data.insert(key, text);
            }
            (Made::ConfigMap, Err(e)) => {
                binary.insert(key, base64_lines(e.as_bytes()));
            }
        }
    }
    if let Some(options) = &args.options {
        for (field, texts) in [("labels", &options.labels), ("annotations", &options.annotations)] {
            if !texts.is_empty() {
                metadata.insert(field, texts.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect::<Map>());
            }
        }
    }
    object.insert("metadata", metadata);
    if made == Made::Secret {
        object.insert("type", if args.secret_type.is_empty() { "Opaque" } else { &args.secret_type });
    }
    if !data.is_empty() || made == Made::Secret {
        object.insert("data", data);
    }
    if !binary.is_empty() {
        object.insert("binaryData", binary);
    }
    if args.options.as_ref().is_some_and(|o| o.immutable) {
        object.insert("immutable", true);
    }
    let provenance = Provenance { file: Some(file.into()), ..Provenance::default() };
    let mut resource = Resource::new(Value::Map(object), provenance);
    resource.note_keys(keys.iter().map(String::as_str));
    if let Some(options) = &args.options {
        resource.note_keys(options.labels.keys().chain(options.annotations.keys()).map(String::as_str));
    }
    resource.needs_hash = !args.options.as_ref().is_some_and(|o| o.disable_name_suffix_hash);
    resource.behavior = Behavior::parse(&args.behavior);
    Ok(resource)
}

type Pair = (String, Vec<u8>);

fn pairs(args: &GeneratorArgs, loader: &Loader<'_>) -> Result<Vec<Pair>> {
    let mut out = Vec::new();
    for path in &args.envs {
        env_file(path, loader, &mut out)
            .map_err(|e| e.wrap(format_args!("env source files: [{}]", args.envs.join(" "))))?;
    }
    for literal in &args.literals {
        let pair = match literal.split_once('=') {
            Some((key, value)) if !key.is_empty() => (key.to_string(), unquoted(value).into()),
            _ => {
                return Err(fail!(
                    "literal sources [{}]: invalid literal source {literal}, expected key=value",
                    args.literals.join(" ")
                ));
            }
        };
        out.push(pair);
    }
    for source in &args.files {
        let pair = file_source(source).and_then(|(key, path)| {
            let (_, bytes) = loader.load(path)?;
            Ok((key.to_string(), bytes.to_vec()))
        });
        out.push(pair.map_err(|e| e.wrap(format_args!("file sources: [{}]", args.files.join(" "))))?);
    }
    Ok(out)
}

fn env_file(path: &str, loader: &Loader<'_>, out: &mut Vec<Pair>) -> Result<()> {
    let (_, bytes) = loader.load(path)?;
    for (i, line) in bytes.split(|b| *b == b'\n').enumerate() {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let Ok(line) = std::str::from_utf8(line) else {
            return Err(fail!("line {} of {path} has invalid utf8 bytes", i + 1));
        };
        let line = if i == 0 { line.strip_prefix('\u{feff}').unwrap_or(line) } else { line };
        let line = line.trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (key, value) = line.split_once('=').unwrap_or((line, ""));
        if !key.is_empty() {
            out.push((key.to_string(), value.into()));
        }
    }
    Ok(())
}

fn unquoted(value: &str) -> &str {
    for quote in ['"', '\''] {
        if value.len() >= 2 && value.starts_with(quote) && value.ends_with(quote) {
            return &value[1..value.len() - 1];
        }
    }
    value
}

/// `path`, `key=path`
fn file_source(source: &str) -> Result<(&str, &str)> {
    match source.matches('=').count() {
        0 => Ok((source.trim_end_matches('/').rsplit('/').next().unwrap_or(source), source)),
        1 => match source.split_once('=').unwrap_or_default() {
            ("", path) => Err(fail!("missing key name for file path {path:?} in source {source:?}")),
            (key, "") => Err(fail!("missing file path for key name {key:?} in source {source:?}")),
            pair => Ok(pair),
        },
        _ => Err(fail!("source {source:?} key name or file path contains '='")),
    }
}

/// Base64 in lines of seventy characters, as kustomize writes it.
fn base64_lines(bytes: &[u8]) -> String {
    const LINE: usize = 70;
    let encoded = base64::engine::general_purpose::STANDARD.encode(bytes);
    if encoded.len() < LINE {
        return encoded;
    }
    let mut out = String::with_capacity(encoded.len() + encoded.len() / LINE + 1);
    for (i, c) in encoded.chars().enumerate() {
        out.push(c);
        if i % LINE == LINE - 1 {
            out.push('\n');
        }
    }
    if !out.ends_with('\n') {
        out.push('\n');
    }
    out
}

/// The hash of an object's content that its name ends with.
pub(crate) fn hash(object: &Value) -> String {
    let kind = object.get("kind").map(text).unwrap_or_default();
    let field = |name: &str| match object.get(name) {
        None => Value::from(""),
        Some(v @ Value::Map(_)) => v.clone(),
        Some(v) => Value::String(text(v)),
    };
    let mut content = Map::new();
    match kind.as_str() {
        // The name is looked for in a field that is really called `metadata/name`, and so never found.
        "ConfigMap" => {
            if let v @ Value::Map(_) = field("binaryData") {
                content.insert("binaryData", v);
            }
            content.insert("data", field("data"));
            content.insert("kind", "ConfigMap");
            content.insert("name", "");
        }
        "Secret" => {
            content.insert("data", field("data"));
            content.insert("kind", "Secret");
            content.insert("name", "");
            if let v @ Value::Map(_) = field("stringData") {
                content.insert("stringData", v);
            }
            content.insert("type", field("type"));
        }
        _ => {
            content.insert("object", object.clone());
        }
    }
    let mut content = Value::Map(content);
    content.sort_keys();
    let digest = hex::encode(Sha256::digest(go_json(&content)));
    digest
        .chars()
        .take(10)
        .map(|c| match c {
            '0' => 'g',
            '1' => 'h',
            '3' => 'k',
            'a' => 'm',
            'e' => 't',
            c => c,
        })
        .collect()
}

/// Compact JSON as Go's encoder writes it: `<`, `>`, `&` and the two line separators escaped.
pub(crate) fn go_json(value: &Value) -> String {
    let plain = serde_json::to_string(value).unwrap_or_default();
    let mut out = String::with_capacity(plain.len());
    let mut rest = plain.as_str();
    while let Some(c) = rest.chars().next() {
        let (before, after) = rest.split_at(c.len_utf8());
        match c {
            '<' => out.push_str("\\u003c"),
            '>' => out.push_str("\\u003e"),
            '&' => out.push_str("\\u0026"),
            '\u{2028}' => out.push_str("\\u2028"),
            '\u{2029}' => out.push_str("\\u2029"),
            _ => out.push_str(before),
        }
        rest = after;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_kustomizes() {
        // The hash of a ConfigMap with one empty value.
        let object = druse_object::json::parse(br#"{"kind": "ConfigMap", "data": {"one": ""}}"#).unwrap();
        assert_eq!(hash(&object), "9g67k2htb6");
    }

    #[test]
    fn sources_are_read_as_kustomize_reads_them() {
        assert_eq!(file_source("a/b.txt").unwrap(), ("b.txt", "a/b.txt"));
        assert_eq!(file_source("k=a/b.txt").unwrap(), ("k", "a/b.txt"));
        assert_eq!(file_source("=b").unwrap_err().message, "missing key name for file path \"b\" in source \"=b\"");
        assert_eq!(unquoted("'a'"), "a");
        assert_eq!(unquoted("\"a'"), "\"a'");
        assert_eq!(base64_lines(&[0; 60]).lines().count(), 2);
    }
}
