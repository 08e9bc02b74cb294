//! Reads a whole tree for Flux objects, whoever applies them: the candidates for roots, and the sources they name.

use std::sync::Arc;

use druse_flux::api::{HELM_GROUP, KUSTOMIZE_GROUP, SOURCE_GROUP};
use druse_kustomize::tree::{FileTree, Kind};
use druse_object::{Object, Provenance, yaml};

/// How deep folders are looked into.
const MAX_DEPTH: usize = 64;

/// What a tree's files hold.
#[derive(Clone, Debug, Default)]
pub struct Scan {
    /// All Flux objects, in path order.
    pub objects: Vec<Arc<Object>>,
    /// How many YAML files were read.
    pub files: usize,
}

/// Reads all YAML of a tree. Files and documents that are not YAML are passed over: only the units that read them can
/// say whether that matters (templates of charts are no YAML either).
#[must_use]
pub fn scan(tree: &dyn FileTree) -> Scan {
    let mut out = Scan::default();
    walk(tree, "", 0, &mut out);
    out
}

fn walk(tree: &dyn FileTree, dir: &str, depth: usize, out: &mut Scan) {
    let Ok(names) = tree.list(dir) else { return };
    for name in names {
        if matches!(name.as_str(), ".git" | ".druse" | "node_modules" | ".terraform") {
            continue;
        }
        let path = if dir.is_empty() { name } else { format!("{dir}/{name}") };
        match tree.kind(&path) {
            Some(Kind::Dir) if depth < MAX_DEPTH && tree.canonical(&path) == path => walk(tree, &path, depth + 1, out),
            Some(Kind::File) if path.ends_with(".yaml") || path.ends_with(".yml") => read(tree, &path, out),
            _ => {}
        }
    }
}

fn read(tree: &dyn FileTree, path: &str, out: &mut Scan) {
    out.files += 1;
    let Ok(bytes) = tree.read(path) else { return };
    let Ok(text) = std::str::from_utf8(&bytes) else { return };
    // Parsing is the expensive part, and few files hold Flux objects.
    if ![KUSTOMIZE_GROUP, HELM_GROUP, SOURCE_GROUP].iter().any(|g| text.contains(g)) {
        return;
    }
    let file: Arc<str> = path.into();
    for doc in yaml::documents(text, yaml::Dialect::Sigs).into_iter().flatten() {
        let object = Object {
            value: doc.value,
            provenance: Provenance { file: Some(Arc::clone(&file)), line: doc.line, ..Provenance::default() },
        };
        let group = object.gvk().group;
        if [KUSTOMIZE_GROUP, HELM_GROUP, SOURCE_GROUP].contains(&group.as_str()) && !object.name().is_empty() {
            out.objects.push(Arc::new(object));
        }
    }
}
