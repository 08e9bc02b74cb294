//! Manifests: the objects of a YAML text, read once per build.

use std::borrow::Cow;
use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher};
use std::sync::{Arc, Mutex};

use druse_object::{Provenance, Str, Value, yaml};

use crate::error::{Result, fail};
use crate::ids::{meta_text, text};
use crate::resource::Resource;

/// The objects of files already read, by path and content. Share one between builds of the same tree so that a file
/// used by many is parsed once.
#[derive(Debug, Default)]
pub struct DocCache {
    entries: Mutex<HashMap<(String, usize, u64), Arc<Parsed>>>,
    hasher: std::collections::hash_map::RandomState,
}

/// What kyaml sees in a document and a value does not hold.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Notes {
    /// The ways to nulls that nothing is written for.
    pub blanks: Vec<Vec<yaml::Step>>,
    /// Keys that are no texts.
    pub typed_keys: Vec<Str>,
}

impl Notes {
    fn kept(self) -> Option<Arc<Self>> {
        (self != Self::default()).then(|| Arc::new(self))
    }

    /// What is left of them for an item of a list's `items`.
    fn of_item(&self, item: usize) -> Option<Arc<Self>> {
        let inside = |way: &Vec<yaml::Step>| match way.as_slice() {
            [yaml::Step::Key(key), yaml::Step::Index(i), rest @ ..] if key == "items" && *i == item => {
                Some(rest.to_vec())
            }
            _ => None,
        };
        let blanks = self.blanks.iter().filter_map(inside).collect();
        Self { blanks, typed_keys: self.typed_keys.clone() }.kept()
    }

    /// What is left of them after the document went through JSON, in which every null is written.
    fn through_json(&self) -> Option<Arc<Self>> {
        Self { blanks: Vec::new(), typed_keys: self.typed_keys.clone() }.kept()
    }
}

/// A document's value, its line and its notes.
type Doc = (Value, u32, Option<Arc<Notes>>);
type Parsed = Result<Vec<Doc>>;

impl DocCache {
    /// An empty cache.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn get(&self, path: &str, content: &[u8]) -> Arc<Parsed> {
        let mut hasher = self.hasher.build_hasher();
        hasher.write(content);
        let key = (path.to_string(), content.len(), hasher.finish());
        if let Ok(entries) = self.entries.lock()
            && let Some(parsed) = entries.get(&key)
        {
            return parsed.clone();
        }
        let parsed = Arc::new(parse(content));
        if let Ok(mut entries) = self.entries.lock() {
            entries.insert(key, parsed.clone());
        }
        parsed
    }
}

/// The objects of a file of the tree.
pub(crate) fn from_file(cache: &DocCache, path: &str, content: &[u8]) -> Result<Vec<Resource>> {
    let parsed = cache.get(path, content);
    let file: Arc<str> = path.into();
    match parsed.as_ref() {
        Ok(objects) => Ok(objects
            .iter()
            .map(|(value, line, notes)| {
                let provenance = Provenance { file: Some(file.clone()), line: *line, ..Provenance::default() };
                Resource::new(value.clone(), provenance).with_notes(notes.as_deref())
            })
            .collect()),
        Err(e) => Err(e.clone().at(path, e.line)),
    }
}

/// The objects of a text within a kustomization file.
pub(crate) fn from_text(text: &str, file: &str) -> Result<Vec<Resource>> {
    let provenance = Provenance { file: Some(file.into()), ..Provenance::default() };
    let made = |(value, _, notes): Doc| Resource::new(value, provenance.clone()).with_notes(notes.as_deref());
    Ok(parse(text.as_bytes())?.into_iter().map(made).collect())
}

fn parse(content: &[u8]) -> Parsed {
    let Ok(stream) = std::str::from_utf8(content) else {
        return Err(fail!("MalformedYAMLError: yaml: invalid leading UTF-8 octet"));
    };
    let stream = if stream.contains('\r') { Cow::Owned(stream.replace("\r\n", "\n")) } else { Cow::Borrowed(stream) };
    let pieces = pieces(&stream)?;
    let mut documents = Vec::with_capacity(pieces.len());
    for (text, above) in &pieces {
        let Some(document) = yaml::first_document(text, yaml::Dialect::Kyaml) else { continue };
        let document = document.map_err(|e| crate::KustomizeError {
            line: above + e.line,
            ..fail!("MalformedYAMLError: {}", e.go_text_v3())
        })?;
        if !document.value.is_null() {
            let notes = Notes { blanks: document.blanks, typed_keys: document.typed_keys }.kept();
            documents.push((document.value, above + document.line, notes));
        }
    }
    // A single List is its items; other lists, and lists among documents, are replaced by theirs at the end.
    if let ([(value, line, notes)], [_]) = (documents.as_slice(), pieces.as_slice())
        && matches!(value.str_at(["kind"]), Some("List" | "ResourceList"))
        && let Some(items) = value.get("items")
    {
        let item = |(i, item): (usize, &Value)| (item.clone(), *line, notes.as_ref().and_then(|n| n.of_item(i)));
        documents = items.items().iter().enumerate().map(item).collect();
    }
    let mut queue: std::collections::VecDeque<Doc> = checked(documents)?.into();
    let mut objects = Vec::with_capacity(queue.len());
    while let Some((value, line, notes)) = queue.pop_front() {
        let kind = value.get("kind").map(text).unwrap_or_default();
        if !kind.ends_with("List") {
            objects.push((value, line, notes));
            continue;
        }
        match value.get("items") {
            None => objects.push((value, line, notes)),
            Some(Value::Null) => {}
            Some(Value::Array(items)) => {
                let notes = notes.as_ref().and_then(|n| n.through_json());
                queue.extend(checked(items.iter().map(|item| (item.clone(), line, notes.clone())).collect())?);
            }
            Some(other) => {
                let found = match other {
                    Value::Map(_) => "map[string]interface {}",
                    Value::Bool(_) => "bool",
                    Value::Int(_) => "int",
                    Value::UInt(_) => "uint64",
                    Value::Float(_) => "float64",
                    _ => "string",
                };
                return Err(fail!("expected array in {kind}/items, but found {found}"));
            }
        }
    }
    Ok(objects)
}

/// The documents of a stream as kyaml cuts them, at every line of `---` but the first of the stream, each with the number
/// of lines above it.
fn pieces(stream: &str) -> Result<Vec<(&str, u32)>> {
    let mut out = Vec::new();
    let (mut start, mut above) = (0, 0);
    let part = |from: usize, to: usize| stream.get(from..to).unwrap_or_default();
    while let Some(i) = part(start, stream.len()).find("\n---") {
        let end = start + i + 1;
        // The last line of a stream separates only when it ends.
        let Some(length) = part(end, stream.len()).find('\n') else { break };
        let line = part(end, end + length);
        if line.get(3..).is_some_and(|rest| !rest.trim().is_empty() && !rest.trim().starts_with('#')) {
            return Err(fail!("invalid document separator: {}", line.trim()));
        }
        let piece = part(start, end);
        out.push((piece, above));
        above += u32::try_from(piece.matches('\n').count()).unwrap_or(u32::MAX).saturating_add(1);
        start = end + length + 1;
    }
    out.push((part(start, stream.len()), above));
    Ok(out)
}

/// Drops empty documents and refuses those that are no objects.
fn checked(documents: Vec<Doc>) -> Parsed {
    let mut out = Vec::with_capacity(documents.len());
    for (value, line, notes) in documents {
        let empty = match &value {
            Value::Null => true,
            Value::Map(m) => m.is_empty(),
            Value::Array(a) => a.is_empty(),
            _ => false,
        };
        if empty {
            continue;
        }
        check_object(&value).map_err(|e| crate::KustomizeError { line, ..e })?;
        out.push((value, line, notes));
    }
    Ok(out)
}

fn check_object(value: &Value) -> Result<()> {
    let set = |v: Option<&Value>| {
        v.is_some_and(|v| match v {
            Value::Null => false,
            Value::Map(m) => !m.is_empty(),
            Value::Array(a) => !a.is_empty(),
            _ => true,
        })
    };
    let any = ["apiVersion", "kind"].iter().any(|f| set(value.get(f)))
        || ["name", "namespace", "labels", "annotations"].iter().any(|f| set(value.at(["metadata", f])));
    if !any {
        return Err(fail!("missing Resource metadata"));
    }
    let kind = value.get("kind").map(text).unwrap_or_default();
    if kind.is_empty() {
        return Err(fail!("missing kind in object {}", go_meta(value)));
    }
    if !kind.ends_with("List") && meta_text(value, "name").is_empty() {
        return Err(fail!("missing metadata.name in object {}", go_meta(value)));
    }
    Ok(())
}

/// An object's metadata as Go prints the structure with `%v`.
fn go_meta(value: &Value) -> String {
    let map = |field| {
        let mut entries: Vec<String> = value
            .at(["metadata", field])
            .and_then(Value::as_map)
            .into_iter()
            .flat_map(druse_object::Map::iter)
            .map(|(k, v)| format!("{k}:{}", text(v)))
            .collect();
        entries.sort();
        format!("map[{}]", entries.join(" "))
    };
    let top = |field| value.get(field).map(text).unwrap_or_default();
    format!(
        "{{{{{} {}}} {{{{{} {}}} {} {}}}}}",
        top("apiVersion"),
        top("kind"),
        meta_text(value, "name"),
        meta_text(value, "namespace"),
        map("labels"),
        map("annotations")
    )
}
