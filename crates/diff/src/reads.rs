//! Which of the files that a unit reads changed.

use std::collections::{BTreeMap, BTreeSet};

use druse_kustomize::tree::{FileTree, Kind, join};
use druse_plan::Unit;

use crate::model::ChangeKind;

/// The files that a Kustomization of the tree reads on either side and that are not the same on both.
pub(crate) fn changed_files(
    base: (&Unit, &dyn FileTree),
    head: (&Unit, &dyn FileTree),
) -> BTreeMap<String, ChangeKind> {
    let mut paths = base.0.asked.files();
    paths.extend(head.0.asked.files());
    paths.into_iter().filter_map(|path| Some((path.clone(), changed(&path, base.1, head.1)?))).collect()
}

/// The files of a folder that are not the same on both sides.
pub(crate) fn changed_in_folder(dir: &str, base: &dyn FileTree, head: &dyn FileTree) -> BTreeMap<String, ChangeKind> {
    let mut paths = BTreeSet::new();
    collect(dir, base, &mut paths, 0);
    collect(dir, head, &mut paths, 0);
    paths.into_iter().filter_map(|path| Some((path.clone(), changed(&path, base, head)?))).collect()
}

/// How deep folders may be.
const MAX_DEPTH: usize = 32;

fn collect(dir: &str, tree: &dyn FileTree, out: &mut BTreeSet<String>, depth: usize) {
    if depth > MAX_DEPTH {
        return;
    }
    for name in tree.list(dir).unwrap_or_default() {
        let Some(path) = join(dir, &name) else { continue };
        match tree.kind(&path) {
            Some(Kind::File) => drop(out.insert(path)),
            Some(Kind::Dir) => collect(&path, tree, out, depth + 1),
            None => {}
        }
    }
}

/// What happened to a file.
pub(crate) fn changed(path: &str, base: &dyn FileTree, head: &dyn FileTree) -> Option<ChangeKind> {
    match (base.read(path), head.read(path)) {
        (Ok(b), Ok(h)) => (b != h).then_some(ChangeKind::Changed),
        (Ok(_), Err(_)) => Some(ChangeKind::Removed),
        (Err(_), Ok(_)) => Some(ChangeKind::Added),
        (Err(_), Err(_)) => None,
    }
}
