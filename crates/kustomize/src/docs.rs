//! Manifests: the objects of a YAML text, read once per build.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher};
use std::sync::{Arc, Mutex};

use druse_object::{Provenance, Value, yaml};

use crate::error::{Result, fail, go_yaml};
use crate::ids::{meta_text, text};
use crate::resource::Resource;

/// The objects of files already read, by path and content. Share one between builds of the same tree so that a file
/// used by many is parsed once.
#[derive(Debug, Default)]
pub struct DocCache {
    entries: Mutex<HashMap<(String, usize, u64), Arc<Parsed>>>,
    hasher: std::collections::hash_map::RandomState,
}

type Parsed = Result<Vec<(Value, u32)>>;

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
            .map(|(value, line)| {
                let provenance = Provenance { file: Some(file.clone()), line: *line, ..Provenance::default() };
                Resource::new(value.clone(), provenance)
            })
            .collect()),
        Err(e) => Err(e.clone().at(path, e.line)),
    }
}

/// The objects of a text within a kustomization file.
pub(crate) fn from_text(text: &str, file: &str) -> Result<Vec<Resource>> {
    let provenance = Provenance { file: Some(file.into()), ..Provenance::default() };
    Ok(parse(text.as_bytes())?.into_iter().map(|(value, _)| Resource::new(value, provenance.clone())).collect())
}

fn parse(content: &[u8]) -> Parsed {
    let Ok(stream) = std::str::from_utf8(content) else {
        return Err(fail!("MalformedYAMLError: yaml: invalid leading UTF-8 octet"));
    };
    for line in stream.split_inclusive('\n').skip(1) {
        let Some(rest) = line.strip_prefix("---").filter(|r| r.ends_with('\n')) else { continue };
        let rest = rest.trim();
        if !rest.is_empty() && !rest.starts_with('#') {
            return Err(fail!("invalid document separator: {}", line.trim()));
        }
    }
    let mut documents = Vec::new();
    for document in yaml::documents(stream, yaml::Dialect::Kyaml) {
        let document = document.map_err(|e| crate::KustomizeError {
            line: e.line,
            ..fail!("MalformedYAMLError: {}", go_yaml(stream, &e, true))
        })?;
        if !document.value.is_null() {
            documents.push((document.value, document.line));
        }
    }
    // A single List is its items; other lists, and lists among documents, are replaced by theirs at the end.
    if let [(value, line)] = documents.as_slice()
        && matches!(value.str_at(["kind"]), Some("List" | "ResourceList"))
        && let Some(items) = value.get("items")
    {
        documents = items.items().iter().map(|item| (item.clone(), *line)).collect();
    }
    let mut queue: std::collections::VecDeque<(Value, u32)> = checked(documents)?.into();
    let mut objects = Vec::with_capacity(queue.len());
    while let Some((value, line)) = queue.pop_front() {
        let kind = value.get("kind").map(text).unwrap_or_default();
        if !kind.ends_with("List") {
            objects.push((value, line));
            continue;
        }
        match value.get("items") {
            None => objects.push((value, line)),
            Some(Value::Null) => {}
            Some(Value::Array(items)) => {
                queue.extend(checked(items.iter().map(|item| (item.clone(), line)).collect())?);
            }
            Some(other) => {
                return Err(fail!("expected array in {kind}/items, but found {}", other.kind_name()));
            }
        }
    }
    Ok(objects)
}

/// Drops empty documents and refuses those that are no objects.
fn checked(documents: Vec<(Value, u32)>) -> Parsed {
    let mut out = Vec::with_capacity(documents.len());
    for (value, line) in documents {
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
        out.push((value, line));
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
