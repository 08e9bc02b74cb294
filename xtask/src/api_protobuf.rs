//! Writes the protobuf field numbers of built-in kinds, from the `.proto` files of the Go modules they live in.
//!
//! Deflated text. `K group version kind message` names the message of a kind; `M message` begins one, and each line after
//! it is a field: number, JSON name, type, flags (`r` repeated, `i` inlined: its fields are the message's own in JSON).
//! Types are protobuf's (`string`, `map<string,bytes>`) or messages' numbers in order (`#12`). Only messages that a
//! kind reaches are kept.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{Read, Write};
use std::path::Path;

use serde_json::Value;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

struct Field {
    number: u32,
    name: String,
    kind: String,
    repeated: bool,
}

type Messages = BTreeMap<String, Vec<Field>>;

fn read_proto(path: &Path, out: &mut Messages) -> Result<()> {
    let text = fs::read_to_string(path)?;
    let mut package = String::new();
    let mut message: Option<String> = None;
    for line in text.lines() {
        let line = line.split("//").next().unwrap_or_default().trim();
        if let Some(p) = line.strip_prefix("package ") {
            package = p.trim_end_matches(';').to_owned();
        } else if let Some(m) = line.strip_prefix("message ") {
            let name = format!("{package}.{}", m.trim_end_matches('{').trim());
            out.entry(name.clone()).or_default();
            message = (!m.ends_with('}')).then_some(name);
        } else if line == "}" {
            message = None;
        } else if let (Some(m), Some((left, number))) = (&message, line.split_once(" = ")) {
            let digits: String = number.chars().take_while(char::is_ascii_digit).collect();
            let Ok(number) = digits.parse() else { continue };
            let repeated = left.starts_with("repeated ");
            let left = left.trim_start_matches("repeated ").trim_start_matches("optional ").trim();
            let Some((kind, name)) = left.rsplit_once(' ') else { continue };
            let full = |k: &str| match k.strip_prefix('.') {
                Some(k) => k.to_owned(),
                None if k.starts_with(|c: char| c.is_ascii_uppercase()) => format!("{package}.{k}"),
                None => k.to_owned(),
            };
            let kind = match kind.strip_prefix("map<").and_then(|k| k.strip_suffix('>')) {
                Some(kv) => {
                    let (k, v) = kv.split_once(',').unwrap_or((kv, "string"));
                    format!("map<{},{}>", k.trim(), full(v.trim()))
                }
                None => full(kind),
            };
            let field = Field { number, name: name.to_owned(), kind, repeated };
            if let Some(fields) = out.get_mut(m) {
                fields.push(field);
            }
        }
    }
    Ok(())
}

fn walk(dir: &Path, out: &mut Messages) -> Result<()> {
    for e in fs::read_dir(dir)? {
        let path = e?.path();
        if path.is_dir() {
            walk(&path, out)?;
        } else if path.file_name().is_some_and(|n| n == "generated.proto") {
            read_proto(&path, out)?;
        }
    }
    Ok(())
}

/// The OpenAPI definition that describes a message.
fn definition_name(message: &str) -> String {
    let rest = message.strip_prefix("k8s.io.").unwrap_or(message);
    format!(
        "io.k8s.{}",
        rest.replace("apiextensions_apiserver", "apiextensions-apiserver")
            .replace("kube_aggregator", "kube-aggregator")
    )
}

/// The name a field has in JSON. The `.proto` files spell some differently: `Webhooks`, `uID`, `xKubernetesListType`.
fn json_name<'a>(field: &'a str, properties: Option<&'a serde_json::Map<String, Value>>) -> &'a str {
    let plain = |s: &str| s.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_ascii_lowercase();
    match properties {
        Some(p) if !p.contains_key(field) => p.keys().find(|k| plain(k) == plain(field)).map_or(field, String::as_str),
        _ => field,
    }
}

fn inner(kind: &str) -> &str {
    match kind.strip_prefix("map<").and_then(|k| k.strip_suffix('>')) {
        Some(kv) => kv.split_once(',').map_or(kv, |(_, v)| v),
        None => kind,
    }
}

/// Reads `openapi-v2.json.gz` in `openapi` and the module folders, writes `to`.
pub fn run(openapi: &Path, to: &Path, modules: &[String]) -> Result<()> {
    let mut messages = Messages::new();
    for m in modules {
        walk(Path::new(m), &mut messages)?;
    }
    let mut text = String::new();
    flate2::read::GzDecoder::new(fs::File::open(openapi.join("openapi-v2.json.gz"))?).read_to_string(&mut text)?;
    let document: Value = serde_json::from_str(&text)?;
    let definitions = document["definitions"].as_object().ok_or("no definitions")?;
    let mut kinds = Vec::new();
    let mut todo: Vec<String> = Vec::new();
    for name in messages.keys() {
        let Some(d) = definitions.get(&definition_name(name)) else { continue };
        for k in d["x-kubernetes-group-version-kind"].as_array().into_iter().flatten() {
            let part = |p: &str| k[p].as_str().unwrap_or_default().to_owned();
            kinds.push((part("group"), part("version"), part("kind"), name.clone()));
            todo.push(name.clone());
        }
    }
    let mut kept = BTreeSet::new();
    while let Some(name) = todo.pop() {
        let Some(fields) = messages.get(&name) else { continue };
        if kept.insert(name) {
            todo.extend(fields.iter().map(|f| inner(&f.kind).to_owned()));
        }
    }
    let index: BTreeMap<&str, usize> = kept.iter().enumerate().map(|(i, n)| (n.as_str(), i)).collect();
    let mut out = String::new();
    for (group, version, kind, message) in &kinds {
        let group = if group.is_empty() { "-" } else { group };
        out.push_str(&format!("K {group} {version} {kind} {}\n", index[message.as_str()]));
    }
    for name in &kept {
        out.push_str(&format!("M {name}\n"));
        let properties = definitions.get(&definition_name(name)).and_then(|d| d["properties"].as_object());
        for f in &messages[name] {
            let json = json_name(&f.name, properties);
            let number = |k: &str| index.get(k).map_or_else(|| k.to_owned(), |i| format!("#{i}"));
            let kind = if f.kind.starts_with("map<") {
                let (k, v) = f.kind[4..f.kind.len() - 1].split_once(',').unwrap_or_default();
                format!("map<{k},{}>", number(v))
            } else {
                number(&f.kind)
            };
            let inlined = kind.starts_with('#') && !f.repeated && properties.is_some_and(|p| !p.contains_key(json));
            let flags = format!("{}{}", if f.repeated { "r" } else { "" }, if inlined { "i" } else { "" });
            out.push_str(&format!("{} {json} {kind} {}\n", f.number, if flags.is_empty() { "-" } else { &flags }));
        }
    }
    let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(out.as_bytes())?;
    fs::write(to, encoder.finish()?)?;
    Ok(())
}
