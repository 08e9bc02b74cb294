//! Files read and taken apart: which folders are modules, which of them are roots, what blocks they hold.

use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;

use druse_kustomize::tree::{FileTree, Kind as Entry, join};
use hcl_edit::Span as _;
use hcl_edit::structure::{Block, Body, Structure};

use crate::value::Place;

/// A file that is no Terraform configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {message}")]
pub struct LoadError {
    /// Where.
    pub place: Place,
    /// What is wrong.
    pub message: String,
}

/// A file's name and where its lines begin.
#[derive(Debug)]
pub(crate) struct FileInfo {
    pub(crate) name: Arc<str>,
    lines: Vec<usize>,
}

impl FileInfo {
    pub(crate) fn new(name: &str, text: &str) -> Self {
        let lines = text.bytes().enumerate().filter(|(_, b)| *b == b'\n').map(|(i, _)| i).collect();
        Self { name: name.into(), lines }
    }

    pub(crate) fn place(&self, span: Option<std::ops::Range<usize>>) -> Option<Place> {
        let line = self.lines.partition_point(|end| *end < span.as_ref().map_or(0, |s| s.start)) + 1;
        span.map(|_| Place { file: self.name.clone(), line: u32::try_from(line).unwrap_or(u32::MAX) })
    }
}

/// A block with its file.
#[derive(Debug)]
pub(crate) struct Decl {
    pub(crate) block: Block,
    pub(crate) file: Rc<FileInfo>,
}

impl Decl {
    pub(crate) fn place(&self) -> Option<Place> {
        self.file.place(self.block.span())
    }
    pub(crate) fn label(&self, n: usize) -> &str {
        self.block.labels.get(n).map(|l| l.as_str()).unwrap_or_default()
    }
}

/// Deeper nesting is refused before a parser goes down with it.
const MAX_DEPTH: usize = 200;
/// The most that is read of one file.
const MAX_FILE: usize = 4 << 20;

fn depth(text: &str) -> usize {
    let (mut depth, mut most) = (0usize, 0usize);
    for b in text.bytes() {
        match b {
            b'(' | b'[' | b'{' => {
                depth += 1;
                most = most.max(depth);
            }
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            // Operators nest on the right.
            b'?' | b'!' => most = most.max(depth + 1),
            _ => {}
        }
    }
    most
}

/// Whether a parser could go down with a text.
pub(crate) fn is_too_deep(text: &str) -> bool {
    let run = |set: &[u8]| {
        let (mut n, mut most) = (0usize, 0usize);
        for b in text.bytes() {
            n = if set.contains(&b) {
                n + 1
            } else if b.is_ascii_whitespace() {
                n
            } else {
                0
            };
            most = most.max(n);
        }
        most
    };
    depth(text) > MAX_DEPTH || run(b"!-") > MAX_DEPTH || text.matches('?').count() > 2000
}

/// Parses a file's text.
pub(crate) fn parse(name: &str, text: &str) -> Result<(Body, Rc<FileInfo>), LoadError> {
    let file = Rc::new(FileInfo::new(name, text));
    let wrong = |line: usize, message: String| LoadError {
        place: Place { file: file.name.clone(), line: u32::try_from(line).unwrap_or(u32::MAX) },
        message,
    };
    if is_too_deep(text) {
        return Err(wrong(1, format!("brackets are nested more than {MAX_DEPTH} deep")));
    }
    let body = hcl_edit::parser::parse_body(text).map_err(|e| wrong(e.location().line(), e.message().to_string()))?;
    Ok((body, file))
}

/// The text of a file of a tree.
pub(crate) fn read(tree: &dyn FileTree, path: &str) -> Option<String> {
    let bytes = tree.read(path).ok().filter(|b| b.len() <= MAX_FILE)?;
    String::from_utf8(bytes.to_vec()).ok()
}

/// The names of a folder's Terraform files.
pub(crate) fn files(tree: &dyn FileTree, folder: &str) -> Vec<String> {
    let names = tree.list(folder).unwrap_or_default();
    let is_override = |n: &str| n == "override.tf" || n.ends_with("_override.tf");
    names.into_iter().filter(|n| n.ends_with(".tf") && !n.starts_with('.') && !is_override(n)).collect()
}

/// The path of a folder that a module's `source` names, when it is local.
pub(crate) fn local_source(folder: &str, source: &str) -> Option<String> {
    (source.starts_with("./") || source.starts_with("../") || source == "." || source == "..")
        .then(|| join(folder, source))
        .flatten()
}

/// The folders of a tree that are root modules: they hold `.tf` files, and no module of the tree uses them.
#[must_use]
pub fn roots(tree: &dyn FileTree) -> Vec<String> {
    let (mut folders, mut used) = (Vec::new(), BTreeSet::new());
    collect(tree, "", 0, &mut folders);
    for folder in &folders {
        for name in files(tree, folder) {
            let path = join(folder, &name).unwrap_or_default();
            let Some(Ok((body, _))) = read(tree, &path).map(|text| parse(&path, &text)) else { continue };
            for structure in &body {
                let Structure::Block(b) = structure else { continue };
                if b.has_ident("module") {
                    let source = b.body.get_attribute("source").and_then(|a| a.value.as_str());
                    used.extend(source.and_then(|s| local_source(folder, s)));
                }
            }
        }
    }
    folders.retain(|f| !used.contains(f));
    folders
}

fn collect(tree: &dyn FileTree, folder: &str, depth: usize, out: &mut Vec<String>) {
    if depth > 12 {
        return;
    }
    if !files(tree, folder).is_empty() {
        out.push(folder.to_string());
    }
    for name in tree.list(folder).unwrap_or_default() {
        if name.starts_with('.') || name == "node_modules" || name == "target" {
            continue;
        }
        let Some(path) = join(folder, &name) else { continue };
        if tree.kind(&path) == Some(Entry::Dir) {
            collect(tree, &path, depth + 1, out);
        }
    }
}
