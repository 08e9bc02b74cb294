//! Files that a source has under other paths than the tree: a folder of it that is published as an artifact, and the
//! artifacts that an ArtifactGenerator (Flux' source-watcher) copies together from others.
//!
//! Copying is that of source-watcher: a folder is copied into the destination under its own name, what matches a pattern
//! keeps its path but for what stands before `/**`, and a `**` is a `*`. Its strategies `Merge` and `Extract` are not
//! followed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use druse_kustomize::tree::{ContentId, FileTree, Kind, TreeError, join, parent};
use druse_object::{Object, Value};

/// How deep folders are copied.
const MAX_DEPTH: usize = 64;

/// A folder of a tree as a tree of its own.
pub(crate) struct Subtree {
    tree: Arc<dyn FileTree>,
    folder: String,
}

impl Subtree {
    pub(crate) fn new(tree: Arc<dyn FileTree>, folder: &str) -> Self {
        Self { tree, folder: folder.to_string() }
    }

    fn path(&self, path: &str) -> Result<String, TreeError> {
        let clean = join("", path).ok_or_else(|| TreeError::Outside { path: path.to_string() })?;
        Ok(join(&self.folder, &clean).unwrap_or_default())
    }
}

impl FileTree for Subtree {
    fn read(&self, path: &str) -> Result<Arc<[u8]>, TreeError> {
        self.tree.read(&self.path(path)?)
    }
    fn kind(&self, path: &str) -> Option<Kind> {
        self.tree.kind(&self.path(path).ok()?)
    }
    fn list(&self, dir: &str) -> Result<Vec<String>, TreeError> {
        self.tree.list(&self.path(dir)?)
    }
    fn canonical(&self, path: &str) -> String {
        let Ok(inner) = self.path(path) else { return path.to_string() };
        let found = self.tree.canonical(&inner);
        let inside = found.strip_prefix(&self.folder).map(|rest| rest.trim_start_matches('/').to_string());
        inside.unwrap_or_else(|| path.to_string())
    }
    fn content_id(&self, path: &str) -> Result<ContentId, TreeError> {
        self.tree.content_id(&self.path(path)?)
    }
}

/// Files of other trees, each under a path of its own.
#[derive(Default)]
pub(crate) struct CopiedTree {
    files: BTreeMap<String, (Arc<dyn FileTree>, String)>,
    folders: BTreeMap<String, BTreeSet<String>>,
}

/// The ArtifactGenerator that makes an artifact, and what it says of it.
pub(crate) fn generator<'o>(
    objects: &'o [Arc<Object>],
    namespace: &str,
    name: &str,
) -> Option<(&'o Arc<Object>, &'o Value)> {
    objects.iter().filter(|o| o.kind() == "ArtifactGenerator").find_map(|o| {
        // A kustomization may say the namespace.
        let here = o.namespace() == namespace || o.namespace().is_empty();
        let artifacts = o.value["spec"]["artifacts"].items();
        let artifact = artifacts.iter().find(|a| here && a.str_at(["name"]) == Some(name))?;
        Some((o, artifact))
    })
}

/// The sources that an ArtifactGenerator copies from (kind, namespace and name), each with a path that it names in it, up
/// to the first pattern.
pub(crate) fn read_by(generator: &Object) -> Vec<((String, String, String), String)> {
    let spec = &generator.value["spec"];
    let mut out = Vec::new();
    for source in spec["sources"].items() {
        let text = |key: &str| source.str_at([key]).filter(|t| !t.is_empty());
        let (Some(alias), Some(kind), Some(name)) = (text("alias"), text("kind"), text("name")) else { continue };
        let id = (
            kind.to_string(),
            text("namespace").unwrap_or_else(|| generator.namespace()).to_string(),
            name.to_string(),
        );
        let copies = spec["artifacts"].items().iter().flat_map(|a| a["copy"].items());
        let from = copies.filter_map(|c| c.str_at(["from"])?.strip_prefix('@')?.strip_prefix(alias)?.strip_prefix('/'));
        for path in from {
            let plain: Vec<&str> = path.split('/').take_while(|part| !part.contains(['*', '?', '['])).collect();
            out.push((id.clone(), join("", &plain.join("/")).unwrap_or_default()));
        }
    }
    out
}

impl CopiedTree {
    /// Does what one entry of `copy` says; `source` gives the files that an alias stands for.
    pub(crate) fn copy(
        &mut self,
        operation: &Value,
        source: &dyn Fn(&str) -> Option<Arc<dyn FileTree>>,
    ) -> Result<(), String> {
        let text = |key: &str| operation.str_at([key]).unwrap_or_default();
        let (from, to) = (text("from"), text("to"));
        if let strategy @ ("Merge" | "Extract") = text("strategy") {
            return Err(format!("copy from {from}: the strategy {strategy} is not followed by this version"));
        }
        let (alias, pattern) = from
            .strip_prefix('@')
            .and_then(|f| f.split_once('/'))
            .ok_or_else(|| format!("{from:?} is no @alias/path"))?;
        let into = to.strip_prefix("@artifact/").ok_or_else(|| format!("{to:?} does not start with @artifact/"))?;
        let base = join("", into).ok_or_else(|| format!("{to:?} leads out of the artifact"))?;
        let tree = source(alias).ok_or_else(|| format!("no source has the alias {alias}"))?;
        let left_out: Vec<&str> = operation["exclude"].items().iter().filter_map(Value::as_str).collect();
        let matches = if pattern.contains(['*', '?', '[', ']']) {
            glob(&*tree, pattern)
        } else {
            join("", pattern).into_iter().filter(|p| tree.kind(p).is_some()).collect()
        };
        if matches.is_empty() && operation["optional"].as_bool() != Some(true) {
            return Err(format!("copy from {from}: there is no such file or folder"));
        }
        let below = pattern.strip_suffix("/**");
        for path in matches {
            let name = path.rsplit('/').next().unwrap_or_default();
            let dest = if pattern.contains(['*', '?', '[', ']']) {
                let stripped = below.and_then(|b| path.strip_prefix(b)).and_then(|rest| rest.strip_prefix('/'));
                join(&base, stripped.unwrap_or(&path))
            } else if tree.kind(&path) == Some(Kind::Dir) || into.is_empty() || into.ends_with('/') {
                join(&base, name)
            } else {
                Some(base.clone())
            };
            self.add(&tree, &path, &dest.unwrap_or_default(), &left_out, 0);
        }
        Ok(())
    }

    fn add(&mut self, tree: &Arc<dyn FileTree>, path: &str, dest: &str, left_out: &[&str], depth: usize) {
        if depth > MAX_DEPTH || left_out.iter().any(|pattern| fits(pattern, path)) {
            return;
        }
        match tree.kind(path) {
            Some(Kind::Dir) => {
                for name in tree.list(path).unwrap_or_default() {
                    let (from, to) = (join(path, &name), join(dest, &name));
                    self.add(tree, &from.unwrap_or_default(), &to.unwrap_or_default(), left_out, depth + 1);
                }
            }
            Some(Kind::File) => {
                self.files.insert(dest.to_string(), (Arc::clone(tree), path.to_string()));
                let mut inner = dest;
                while !inner.is_empty() {
                    let folder = parent(inner);
                    let name = inner.rsplit('/').next().unwrap_or_default();
                    self.folders.entry(folder.to_string()).or_default().insert(name.to_string());
                    inner = folder;
                }
            }
            None => {}
        }
    }

    /// Where a file was copied from.
    pub(crate) fn origin(&self, path: &str) -> Option<&str> {
        self.files.get(path).map(|(_, from)| from.as_str())
    }

    fn file(&self, path: &str) -> Result<&(Arc<dyn FileTree>, String), TreeError> {
        let clean = join("", path).ok_or_else(|| TreeError::Outside { path: path.to_string() })?;
        self.files.get(&clean).ok_or_else(|| match self.folders.contains_key(&clean) {
            true => TreeError::IsDir { path: path.to_string() },
            false => TreeError::NotFound { path: path.to_string() },
        })
    }
}

impl FileTree for CopiedTree {
    fn read(&self, path: &str) -> Result<Arc<[u8]>, TreeError> {
        self.file(path).and_then(|(tree, from)| tree.read(from))
    }
    fn kind(&self, path: &str) -> Option<Kind> {
        let clean = join("", path)?;
        if self.files.contains_key(&clean) {
            return Some(Kind::File);
        }
        (clean.is_empty() || self.folders.contains_key(&clean)).then_some(Kind::Dir)
    }
    fn list(&self, dir: &str) -> Result<Vec<String>, TreeError> {
        let clean = join("", dir).ok_or_else(|| TreeError::Outside { path: dir.to_string() })?;
        match (self.folders.get(&clean), self.files.contains_key(&clean)) {
            (Some(names), _) => Ok(names.iter().cloned().collect()),
            (None, true) => Err(TreeError::NotDir { path: dir.to_string() }),
            (None, false) if clean.is_empty() => Ok(Vec::new()),
            (None, false) => Err(TreeError::NotFound { path: dir.to_string() }),
        }
    }
    fn content_id(&self, path: &str) -> Result<ContentId, TreeError> {
        self.file(path).and_then(|(tree, from)| tree.content_id(from))
    }
}

/// What fits a pattern, one part of the path after the other.
fn glob(tree: &dyn FileTree, pattern: &str) -> Vec<String> {
    let mut found = vec![String::new()];
    for part in pattern.split('/').filter(|p| !p.is_empty() && *p != ".") {
        let mut next = Vec::new();
        for dir in found {
            let names = tree.list(&dir).unwrap_or_default();
            next.extend(
                names.iter().filter(|n| druse_flux::glob::matches(part, n) == Some(true)).filter_map(|n| join(&dir, n)),
            );
        }
        found = next;
    }
    found
}

/// Whether a path fits a pattern in which `**` stands for any number of folders.
fn fits(pattern: &str, path: &str) -> bool {
    fn parts(pattern: &[&str], path: &[&str]) -> bool {
        match (pattern, path) {
            ([], []) => true,
            (["**", rest @ ..], _) => {
                parts(rest, path) || path.split_first().is_some_and(|(_, more)| parts(pattern, more))
            }
            ([p, rest @ ..], [name, more @ ..]) => {
                druse_flux::glob::matches(p, name) == Some(true) && parts(rest, more)
            }
            _ => false,
        }
    }
    parts(&pattern.split('/').collect::<Vec<_>>(), &path.split('/').collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use druse_kustomize::MemoryTree;
    use druse_object::yaml;

    use super::*;

    fn copied(operations: &str) -> Result<Vec<String>, String> {
        let tree: Arc<dyn FileTree> = Arc::new(
            [("a/b/x.yaml", "1"), ("a/b/c/y.yaml", "2"), ("a/z.txt", "3")].into_iter().collect::<MemoryTree>(),
        );
        let mut out = CopiedTree::default();
        for operation in yaml::parse(operations, yaml::Dialect::Sigs).map_err(|e| e.to_string())?.items() {
            out.copy(operation, &|alias| (alias == "repo").then(|| Arc::clone(&tree)))?;
        }
        Ok(out.files.iter().map(|(to, (_, from))| format!("{to} < {from}")).collect())
    }

    #[test]
    fn folders_are_copied_under_their_name_and_patterns_without_what_stands_before_them() {
        let all = |text: &str| copied(text).unwrap_or_else(|e| vec![e]);
        assert_eq!(
            all("[{from: '@repo/a/b/', to: '@artifact/a/b/'}]"),
            ["a/b/b/c/y.yaml < a/b/c/y.yaml", "a/b/b/x.yaml < a/b/x.yaml"]
        );
        assert_eq!(
            all("[{from: '@repo/a/b/**', to: '@artifact/'}]"),
            ["c/y.yaml < a/b/c/y.yaml", "x.yaml < a/b/x.yaml"]
        );
        assert_eq!(all("[{from: '@repo/a/*.txt', to: '@artifact/t'}]"), ["t/a/z.txt < a/z.txt"]);
        assert_eq!(all("[{from: '@repo/a/z.txt', to: '@artifact/n.txt'}]"), ["n.txt < a/z.txt"]);
        assert_eq!(all("[{from: '@repo/a/**', to: '@artifact/', exclude: ['**/*.yaml']}]"), ["z.txt < a/z.txt"]);
        assert_eq!(all("[{from: '@repo/none', to: '@artifact/', optional: true}]"), Vec::<String>::new());
        assert_eq!(
            all("[{from: '@repo/none', to: '@artifact/'}]"),
            ["copy from @repo/none: there is no such file or folder"]
        );
        assert!(copied("[{from: '@other/a', to: '@artifact/'}]").is_err());
        assert!(copied("[{from: '@repo/a', to: '@artifact/../x'}]").is_err());
    }

    #[test]
    fn a_folder_stands_for_a_tree() {
        let tree: MemoryTree = [("k/a/x.yaml", "1"), ("other.yaml", "2")].into_iter().collect();
        let sub = Subtree::new(Arc::new(tree), "k");
        assert_eq!(sub.list("").ok(), Some(vec!["a".to_string()]));
        assert_eq!(sub.read("a/x.yaml").ok().as_deref(), Some(&b"1"[..]));
        assert!(sub.read("../other.yaml").is_err());
    }
}
