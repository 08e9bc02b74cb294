//! Rendered files become manifests and hooks: split into documents, sorted by kind.

use std::sync::{Arc, LazyLock};

use druse_object::yaml::{self, Dialect};
use druse_object::{Map, Object, Provenance, Value};
use memchr::memmem;

use crate::capabilities::lines;
use crate::error::HelmError;
use crate::metadata::scalar_text;

/// The annotation that makes an object a hook.
pub const HOOK_ANNOTATION: &str = "helm.sh/hook";
/// The annotation that orders hooks of one event.
pub const HOOK_WEIGHT_ANNOTATION: &str = "helm.sh/hook-weight";
/// The annotation that says when a hook's object is deleted.
pub const HOOK_DELETE_ANNOTATION: &str = "helm.sh/hook-delete-policy";
/// The annotation that says when a hook's logs are shown.
pub const HOOK_OUTPUT_LOG_ANNOTATION: &str = "helm.sh/hook-output-log-policy";
/// The annotation that keeps an object when its release goes.
pub const RESOURCE_POLICY_ANNOTATION: &str = "helm.sh/resource-policy";

static INSTALL_ORDER: LazyLock<Vec<&'static str>> =
    LazyLock::new(|| lines(include_str!("../data/install-order.txt")).collect());
static UNINSTALL_ORDER: LazyLock<Vec<&'static str>> =
    LazyLock::new(|| lines(include_str!("../data/uninstall-order.txt")).collect());

/// Where a kind comes in an install: a number for sorting; kinds not in Helm's list come last, by name.
#[must_use]
pub fn install_order(kind: &str) -> (usize, &str) {
    order(&INSTALL_ORDER, kind)
}

/// Where a kind comes in an uninstall.
#[must_use]
pub fn uninstall_order(kind: &str) -> (usize, &str) {
    order(&UNINSTALL_ORDER, kind)
}

fn order<'a>(list: &[&str], kind: &'a str) -> (usize, &'a str) {
    match list.iter().position(|k| *k == kind) {
        Some(i) => (i, ""),
        None => (list.len(), kind),
    }
}

/// Whether an object is kept when its release is uninstalled or no longer holds it (`helm.sh/resource-policy: keep`).
#[must_use]
pub fn is_kept(object: &Value) -> bool {
    object
        .at(["metadata", "annotations", RESOURCE_POLICY_ANNOTATION])
        .and_then(Value::as_str)
        .is_some_and(|p| p.trim().eq_ignore_ascii_case("keep"))
}

/// One document of a release.
#[derive(Clone, Debug)]
pub struct Manifest {
    /// The template it came from (`chart/templates/x.yaml`).
    pub template: Arc<str>,
    /// Its text, as rendered.
    pub text: String,
    /// Its parsed value; null for a document of comments only.
    pub value: Value,
}

impl Manifest {
    /// The objects in it, with their provenance: none for an empty document, one each for the items of a `List`.
    #[must_use]
    pub fn into_objects(self) -> Vec<Object> {
        objects_of(self.value, &self.template)
    }

    /// The kind it says it has; empty when it says none.
    #[must_use]
    pub fn kind(&self) -> &str {
        self.value.str_at(["kind"]).unwrap_or("")
    }
}

fn objects_of(mut value: Value, template: &Arc<str>) -> Vec<Object> {
    let is_list = value.str_at(["kind"]).is_some_and(|k| k.ends_with("List"));
    let Value::Map(map) = &mut value else { return Vec::new() };
    if map.is_empty() {
        return Vec::new();
    }
    if is_list && let Some(Value::Array(items)) = map.get_mut("items") {
        return std::mem::take(items).into_iter().flat_map(|v| objects_of(v, template)).collect();
    }
    vec![Object { value, provenance: Provenance { template: Some(Arc::clone(template)), ..Provenance::default() } }]
}

/// A manifest that Helm runs at a point in a release's life instead of installing it.
#[derive(Clone, Debug)]
pub struct Hook {
    /// The object.
    pub manifest: Manifest,
    /// Its name.
    pub name: String,
    /// Its kind.
    pub kind: String,
    /// When it runs (`pre-install`, `test`, …), lower case.
    pub events: Vec<String>,
    /// Order among hooks of one event, low first.
    pub weight: i64,
    /// When its object is deleted (`before-hook-creation`, `hook-succeeded`, `hook-failed`); none: before the next
    /// creation.
    pub delete_policies: Vec<String>,
    /// When its logs are shown.
    pub output_log_policies: Vec<String>,
}

impl Hook {
    /// Whether it is a test.
    #[must_use]
    pub fn is_test(&self) -> bool {
        self.events.iter().any(|e| e == "test")
    }
}

/// A file of `crds/`.
#[derive(Clone, Debug)]
pub struct Crd {
    /// Its path with the charts it lies in (`chart/charts/sub/crds/x.yaml`).
    pub path: Arc<str>,
    /// Its text.
    pub text: String,
}

impl Crd {
    /// The objects in it.
    ///
    /// # Errors
    /// When a document is not YAML.
    pub fn objects(&self) -> Result<Vec<Object>, HelmError> {
        let mut out = Vec::new();
        for doc in yaml::documents(&self.text, Dialect::Sigs) {
            let doc = doc.map_err(|e| HelmError::Yaml {
                path: self.path.to_string(),
                message: e.to_string(),
                rendered: String::new(),
            })?;
            out.extend(objects_of(doc.value, &self.path));
        }
        Ok(out)
    }
}

/// Splits text at lines that begin with `---`; documents of blanks only are dropped, leading blanks too.
pub(crate) fn split(text: &str) -> Vec<&str> {
    let text = text.trim_start();
    let mut out = Vec::new();
    let mut start = 0;
    let mut push = |from: usize, to: usize| {
        if let Some(doc) = text.get(from..to).filter(|d| !d.trim().is_empty()) {
            out.push(doc.trim_start());
        }
    };
    let first = text.starts_with("---").then_some(0);
    for line in first.into_iter().chain(memmem::find_iter(text.as_bytes(), "\n---").map(|end| end + 1)) {
        push(start, line);
        let after = text.get(line + 3..).unwrap_or_default();
        start = line + 3 + (after.len() - after.trim_start_matches([' ', '\t']).len());
    }
    push(start, text.len());
    out
}

const HOOK_EVENTS: [&str; 9] = [
    "pre-install",
    "post-install",
    "pre-delete",
    "post-delete",
    "pre-upgrade",
    "post-upgrade",
    "pre-rollback",
    "post-rollback",
    "test",
];

/// What a document says at its head, read as Go's decoder reads it into Helm's struct.
struct Head {
    name: String,
    kind: String,
    annotations: Vec<(String, String)>,
}

fn go_kind(v: &Value) -> &'static str {
    match v {
        Value::Map(_) => "object",
        Value::Array(_) => "array",
        Value::String(_) => "string",
        Value::Bool(_) => "bool",
        _ => "number",
    }
}

fn field<'a>(map: &'a Map, name: &str) -> Option<&'a Value> {
    map.get(name).or_else(|| map.iter().find(|(k, _)| k.eq_ignore_ascii_case(name)).map(|(_, v)| v))
}

impl Head {
    fn read(value: &Value) -> Result<Self, String> {
        let decode = |v: &Value, into: &str| {
            Err(format!(
                "error unmarshaling JSON: while decoding JSON: json: cannot unmarshal {} into Go {into}",
                go_kind(v)
            ))
        };
        let mut head = Self { name: String::new(), kind: String::new(), annotations: Vec::new() };
        let map = match value {
            Value::Null => return Ok(head),
            Value::Map(m) => m,
            v => return decode(v, "value of type util.SimpleHead"),
        };
        for (key, into) in [("apiVersion", None), ("kind", Some(&mut head.kind))] {
            if let Some(v) = field(map, key) {
                match (scalar_text(v), into) {
                    (Some(text), Some(into)) => *into = text,
                    (Some(_), None) => {}
                    (None, _) => return decode(v, &format!("struct field SimpleHead.{key} of type string")),
                }
            }
        }
        let meta = match field(map, "metadata") {
            None | Some(Value::Null) => return Ok(head),
            Some(Value::Map(m)) => m,
            Some(v) => {
                return decode(
                    v,
                    "struct field SimpleHead.metadata of type struct { Name string \"json:\\\"name\\\"\"; Annotations map[string]string \"json:\\\"annotations\\\"\" }",
                );
            }
        };
        if let Some(v) = field(meta, "name") {
            match scalar_text(v) {
                Some(text) => head.name = text,
                None => return decode(v, "struct field .metadata.name of type string"),
            }
        }
        match field(meta, "annotations") {
            None | Some(Value::Null) => {}
            Some(Value::Map(m)) => {
                for (k, v) in m.iter() {
                    match scalar_text(v) {
                        Some(text) => head.annotations.push((k.to_string(), text)),
                        None => return decode(v, "struct field .metadata.annotations of type string"),
                    }
                }
            }
            Some(v) => return decode(v, "struct field .metadata.annotations of type map[string]string"),
        }
        Ok(head)
    }

    fn annotation(&self, name: &str) -> Option<&str> {
        self.annotations.iter().find(|(k, _)| k == name).map(|(_, v)| v.as_str())
    }

    fn list(&self, name: &str) -> Vec<String> {
        self.annotation(name).map_or_else(Vec::new, |v| v.split(',').map(|p| p.trim().to_lowercase()).collect())
    }
}

/// Helm's `SortManifests`: documents of all files (sorted by path) as hooks and manifests in install order.
///
/// # Errors
/// For the first document that is not YAML or has an impossible head: its path and why.
pub(crate) fn sort(files: &[(Arc<str>, String)]) -> Result<(Vec<Hook>, Vec<Manifest>), (String, String)> {
    let (mut hooks, mut manifests) = (Vec::new(), Vec::new());
    for (path, content) in files {
        if path.rsplit('/').next().is_some_and(|n| n.starts_with('_')) {
            continue;
        }
        for text in split(content) {
            let value = yaml::parse(text, Dialect::Sigs)
                .map_err(|e| (path.to_string(), format!("error converting YAML to JSON: {}", e.go_text())))?;
            let head = Head::read(&value).map_err(|e| (path.to_string(), e))?;
            let manifest = Manifest { template: Arc::clone(path), text: text.to_owned(), value };
            let Some(types) = head.annotation(HOOK_ANNOTATION) else {
                manifests.push((head.kind, manifest));
                continue;
            };
            let events: Option<Vec<String>> = types
                .split(',')
                .map(|t| match t.trim().to_lowercase().as_str() {
                    "test-success" => Some("test".to_owned()),
                    t => HOOK_EVENTS.contains(&t).then(|| t.to_owned()),
                })
                .collect();
            // An unknown hook type drops the document, as Helm does.
            let Some(events) = events else { continue };
            hooks.push(Hook {
                weight: head.annotation(HOOK_WEIGHT_ANNOTATION).and_then(|w| w.parse().ok()).unwrap_or(0),
                delete_policies: head.list(HOOK_DELETE_ANNOTATION),
                output_log_policies: head.list(HOOK_OUTPUT_LOG_ANNOTATION),
                name: head.name,
                kind: head.kind,
                events,
                manifest,
            });
        }
    }
    hooks.sort_by(|a, b| install_order(&a.kind).cmp(&install_order(&b.kind)));
    manifests.sort_by(|a, b| install_order(&a.0).cmp(&install_order(&b.0)));
    Ok((hooks, manifests.into_iter().map(|(_, m)| m).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_split_where_helm_splits_them() {
        assert_eq!(split("\n---\na: 1\n---  \n\n--- \nb: 2\n---c: 3"), ["a: 1\n", "b: 2\n", "c: 3"]);
        assert_eq!(split("a: |\n  ---\n  x"), ["a: |\n  ---\n  x"]);
        assert!(split(" \n--- \n").is_empty());
        assert_eq!(split("# only a comment\n"), ["# only a comment\n"]);
    }

    #[test]
    fn known_kinds_come_in_helms_order_and_unknown_ones_last_by_name() {
        let mut kinds = ["Zed", "Deployment", "Alpha", "Namespace", "Service"];
        kinds.sort_by(|a, b| install_order(a).cmp(&install_order(b)));
        assert_eq!(kinds, ["Namespace", "Service", "Deployment", "Alpha", "Zed"]);
    }
}
