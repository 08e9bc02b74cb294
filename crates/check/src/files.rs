//! The tree's files: which were read while units rendered, their text and documents, and what comments in them say.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};

use druse_kustomize::tree::{FileTree, Kind, parent};
use druse_object::{Value, yaml};

/// How deep folders are looked into.
const MAX_DEPTH: usize = 64;
/// Files larger than this are not looked at where they are no YAML.
const MAX_TEXT: usize = 1 << 20;

/// One document of a file.
#[derive(Debug)]
pub struct Document {
    /// What it holds.
    pub value: Value,
    /// The line its content starts on, from 1.
    pub line: u32,
    /// The last line before the next document.
    pub end: u32,
}

impl Document {
    /// Its kind; empty when it has none.
    #[must_use]
    pub fn kind(&self) -> &str {
        self.value.str_at(["kind"]).unwrap_or_default()
    }

    /// Its name; empty when it has none.
    #[must_use]
    pub fn name(&self) -> &str {
        self.value.str_at(["metadata", "name"]).unwrap_or_default()
    }
}

/// A file with its documents, read when asked for.
pub struct File {
    /// Its path.
    pub path: String,
    text: Arc<[u8]>,
    documents: OnceLock<Vec<Document>>,
}

impl File {
    /// Its text; empty when it is not UTF-8.
    #[must_use]
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.text).unwrap_or_default()
    }

    /// Its documents, those left out that are not YAML.
    #[must_use]
    pub fn documents(&self) -> &[Document] {
        self.documents.get_or_init(|| {
            let text = self.text();
            let mut out: Vec<Document> = yaml::documents(text, yaml::Dialect::Sigs)
                .into_iter()
                .flatten()
                .map(|d| Document { value: d.value, line: d.line, end: u32::MAX })
                .collect();
            let starts: Vec<u32> = out.iter().skip(1).map(|d| d.line).collect();
            for (d, next) in out.iter_mut().zip(starts) {
                d.end = next.saturating_sub(1);
            }
            out
        })
    }

    /// The document that starts at a line, or around it.
    #[must_use]
    pub fn document_at(&self, line: u32) -> Option<&Document> {
        self.documents().iter().find(|d| line <= d.end)
    }
}

/// The files of a tree.
pub struct Files {
    tree: Arc<dyn FileTree>,
    files: BTreeMap<String, File>,
    others: Vec<String>,
    read: BTreeSet<String>,
}

impl Files {
    /// The files of a tree, of which these were read by units.
    #[must_use]
    pub fn new(tree: Arc<dyn FileTree>, read: BTreeSet<String>) -> Self {
        let mut paths = Vec::new();
        walk(&*tree, "", 0, &mut paths);
        let (mut paths, others): (Vec<String>, _) = paths.into_iter().partition(|p| is_yaml(p));
        paths.extend(read.iter().filter(|p| is_yaml(p)).cloned());
        let files = paths
            .into_iter()
            .filter_map(|path| {
                let text = tree.read(&path).ok()?;
                Some((path.clone(), File { path, text, documents: OnceLock::new() }))
            })
            .collect();
        Self { tree, files, others, read }
    }

    /// The tree.
    #[must_use]
    pub fn tree(&self) -> &dyn FileTree {
        &*self.tree
    }

    /// A YAML file.
    #[must_use]
    pub fn get(&self, path: &str) -> Option<&File> {
        self.files.get(path)
    }

    /// All YAML files, in path order.
    pub fn iter(&self) -> impl Iterator<Item = &File> {
        self.files.values()
    }

    /// The tree's other text files with a path that is wanted, but for large ones. Read one by one, and not kept.
    pub fn others(&self, wanted: impl Fn(&str) -> bool) -> impl Iterator<Item = File> {
        self.others.iter().filter(move |path| wanted(path)).filter_map(|path| {
            let text = self.tree.read(path).ok()?;
            let plain = text.len() <= MAX_TEXT && memchr::memchr(0, &text).is_none();
            plain.then(|| File { path: path.clone(), text, documents: OnceLock::new() })
        })
    }

    /// The files and folders whose entry in a kustomization is commented out.
    #[must_use]
    pub fn commented_out(&self) -> BTreeSet<String> {
        let mut out = BTreeSet::new();
        for file in self.iter().filter(|f| is_kustomization(&f.path)) {
            let dir = parent(&file.path);
            for line in file.text().lines() {
                let Some(entry) = line.trim_start().strip_prefix('#') else { continue };
                let Some(path) = entry.trim_start().strip_prefix("- ") else { continue };
                let path = path.split_whitespace().next().unwrap_or_default().trim_matches(['"', '\'']);
                out.extend(druse_kustomize::tree::join(dir, path));
            }
        }
        out
    }

    /// Whether a file that configures machines says this (`runtime-config: …/v1beta1=true`, `feature-gates: X=true`), in
    /// YAML or in a template of it. Comments and prose do not count.
    #[must_use]
    pub fn say(&self, text: &str) -> bool {
        let says = |f: &File| f.text().lines().any(|l| !l.trim_start().starts_with('#') && l.contains(text));
        let template = |path: &str| [".j2", ".tpl", ".tmpl", ".toml", ".nix", ".tf"].iter().any(|e| path.ends_with(e));
        self.iter().any(says) || self.others(template).any(|f| says(&f))
    }

    /// Whether a unit read it.
    #[must_use]
    pub fn was_read(&self, path: &str) -> bool {
        self.read.contains(path)
    }

    /// What units read.
    #[must_use]
    pub fn read(&self) -> &BTreeSet<String> {
        &self.read
    }
}

/// Whether a path is that of a YAML file.
#[must_use]
pub fn is_yaml(path: &str) -> bool {
    path.ends_with(".yaml") || path.ends_with(".yml") || path.rsplit('/').next() == Some("Kustomization")
}

/// Whether a path is that of a kustomization.
#[must_use]
pub fn is_kustomization(path: &str) -> bool {
    druse_kustomize::FILE_NAMES.contains(&path.rsplit('/').next().unwrap_or_default())
}

/// Whether a path is in a folder whose name says that what is in it is not in use.
#[must_use]
pub fn is_put_aside(path: &str) -> bool {
    let folders = path.rsplit_once('/').map_or("", |(d, _)| d);
    folders.split('/').any(|name| {
        name.starts_with(['.', '_']) && name.len() > 1
            || matches!(name, "archive" | "archived" | "deprecated" | "old" | "disabled" | "unused" | "attic")
    })
}

fn walk(tree: &dyn FileTree, dir: &str, depth: usize, out: &mut Vec<String>) {
    let Ok(names) = tree.list(dir) else { return };
    for name in names {
        if name.starts_with(".git") && name != ".github"
            || matches!(name.as_str(), ".druse" | "node_modules" | ".terraform" | "target")
        {
            continue;
        }
        let path = if dir.is_empty() { name } else { format!("{dir}/{name}") };
        match tree.kind(&path) {
            Some(Kind::Dir) if depth < MAX_DEPTH && tree.canonical(&path) == path => walk(tree, &path, depth + 1, out),
            Some(Kind::File) => out.push(path),
            _ => {}
        }
    }
}
