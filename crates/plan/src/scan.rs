//! Reads a whole tree for Flux objects, whoever applies them: the candidates for roots, and the sources they name.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use druse_flux::api::{HELM_GROUP, KUSTOMIZE_GROUP, SOURCE_GROUP};
use druse_kustomize::tree::{FileTree, Kind};
use druse_object::{Object, Provenance, yaml};
use rayon::prelude::*;

use crate::instance;
use crate::memo::Memo;

/// How deep folders are looked into.
const MAX_DEPTH: usize = 64;

/// The groups of the objects that say what is rendered, and of what.
const GROUPS: [&str; 5] = [KUSTOMIZE_GROUP, HELM_GROUP, SOURCE_GROUP, "source.extensions.fluxcd.io", instance::GROUP];

/// What a tree's files hold.
#[derive(Clone, Debug, Default)]
pub struct Scan {
    /// All Flux objects, in path order.
    pub objects: Vec<Arc<Object>>,
    /// How many YAML files were read.
    pub files: usize,
}

/// Reads all YAML of a tree. Files and documents that are not YAML are passed over: only the units that read them can
/// say whether that matters (templates of charts are no YAML either). `root` is the folder whose tree it is, under which
/// the memo keeps what was found; empty where it is none.
#[must_use]
pub fn scan(tree: &dyn FileTree, root: &Path, memo: &Memo) -> Scan {
    let mut paths = Vec::new();
    walk(tree, "", 0, &mut paths);
    let objects: Vec<Scanned> = paths.par_iter().filter_map(|path| read(tree, root, path, memo)).collect();
    memo.keep_scans(root);
    let mut objects: Vec<Arc<Object>> = objects.iter().flat_map(|o| o.iter().cloned()).collect();
    // What is written down is what somebody applied when bootstrapping; an operator takes it over.
    let id = |o: &Object| (o.kind().to_string(), o.namespace().to_string(), o.name().to_string());
    if objects.iter().any(|o| instance::is_made(o)) {
        let written: BTreeSet<_> = objects.iter().filter(|o| !instance::is_made(o)).map(|o| id(o)).collect();
        objects.retain(|o| !instance::is_made(o) || !written.contains(&id(o)));
    }
    Scan { objects, files: paths.len() }
}

/// The Flux objects of one file.
pub(crate) type Scanned = Arc<Vec<Arc<Object>>>;

fn walk(tree: &dyn FileTree, dir: &str, depth: usize, out: &mut Vec<String>) {
    let Ok(names) = tree.list(dir) else { return };
    for name in names {
        if matches!(name.as_str(), ".git" | ".druse" | "node_modules" | ".terraform") {
            continue;
        }
        let path = if dir.is_empty() { name } else { format!("{dir}/{name}") };
        match tree.kind(&path) {
            Some(Kind::Dir) if depth < MAX_DEPTH && tree.canonical(&path) == path => walk(tree, &path, depth + 1, out),
            Some(Kind::File) if path.ends_with(".yaml") || path.ends_with(".yml") => out.push(path),
            _ => {}
        }
    }
}

/// The Flux objects of a file; the same file in another revision, or in an earlier run, is not read again.
fn read(tree: &dyn FileTree, root: &Path, path: &str, memo: &Memo) -> Option<Scanned> {
    let id = tree.content_id(path).ok()?;
    let scan = || {
        let found = tree.read(path).ok().and_then(|bytes| Some(flux_objects(std::str::from_utf8(&bytes).ok()?, path)));
        Arc::new(found.unwrap_or_default())
    };
    Some(memo.scanned(root, &(path.to_string(), id), scan))
}

fn flux_objects(text: &str, path: &str) -> Vec<Arc<Object>> {
    // Parsing is the expensive part, and few files hold Flux objects.
    if !GROUPS.iter().any(|g| text.contains(g)) {
        return Vec::new();
    }
    let file: Arc<str> = path.into();
    let mut out = Vec::new();
    for doc in yaml::documents(text, yaml::Dialect::Sigs).into_iter().flatten() {
        let object = Object {
            value: doc.value,
            provenance: Provenance { file: Some(Arc::clone(&file)), line: doc.line, ..Provenance::default() },
        };
        let group = object.gvk().group;
        if GROUPS.contains(&group.as_str()) && !object.name().is_empty() {
            let made = instance::made_by(&object);
            out.push(Arc::new(object));
            out.extend(made.into_iter().map(Arc::new));
        }
    }
    out
}
