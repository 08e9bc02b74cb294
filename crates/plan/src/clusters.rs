//! Several clusters in one repository (`clusters/staging`, `clusters/production`): their units have the same names, and
//! only one cluster is planned, that which the asked folder lies in.

use std::collections::BTreeMap;
use std::sync::Arc;

use druse_flux::generator::clean_path;
use druse_object::Object;

use crate::model::UnitId;

fn file(o: &Object) -> &str {
    o.provenance.file.as_deref().unwrap_or_default()
}

/// The folder that a Kustomization reads.
fn path_of(o: &Object) -> String {
    clean_path(o.value.str_at(["spec", "path"]).unwrap_or_default())
}

/// Whether a file or folder lies in a folder; everything lies in the empty one.
pub(crate) fn lies_in(path: &str, folder: &str) -> bool {
    folder.is_empty() || path.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// How many leading folders two paths have in common.
fn shared(a: &str, b: &str) -> usize {
    a.split('/').zip(b.split('/')).take_while(|(a, b)| a == b && !a.is_empty()).count()
}

/// The first of several paths' folders that are not the same: `clusters/staging` of `clusters/staging/sync.yaml`
/// against one in `clusters/production`.
fn own_folder<'a>(path: &'a str, rival: &str) -> &'a str {
    let depth = shared(path, rival) + 1;
    path.match_indices('/').nth(depth - 1).map_or(path, |(at, _)| path.get(..at).unwrap_or(path))
}

/// Orders objects so that those nearest to the asked folder come first, then those whose source is most surely the tree; otherwise
/// the order stays. What was put aside ([`is_put_aside`]) is left out.
pub(crate) fn nearest_first(
    objects: &[Arc<Object>],
    focus: &str,
    nearness: impl Fn(&Object) -> u8,
) -> Vec<Arc<Object>> {
    let mut out: Vec<Arc<Object>> = objects.iter().filter(|o| !is_put_aside(file(o), focus)).map(Arc::clone).collect();
    out.sort_by_cached_key(|o| (std::cmp::Reverse(shared(file(o), focus)), nearness(o)));
    out
}

/// Whether a file lies in a folder that people keep what is not in use in (hidden, `_…`, `archive`), unless that is the
/// folder asked for.
pub(crate) fn is_put_aside(path: &str, focus: &str) -> bool {
    let aside = |folder: &str| {
        folder.starts_with(['.', '_']) || matches!(folder, "archive" | "archived" | "deprecated" | "disabled")
    };
    let folders = || path.rsplit_once('/').map_or("", |(dir, _)| dir).split('/');
    folders().any(aside) && !focus.split('/').any(aside)
}

/// Of several definitions of the same root, the others than the one taken.
#[derive(Default)]
pub(crate) struct Rivals(BTreeMap<UnitId, Vec<Arc<Object>>>);

impl Rivals {
    pub(crate) fn add(&mut self, id: &UnitId, taken: &Object, other: &Arc<Object>) {
        if path_of(taken) != path_of(other) && file(taken) != file(other) {
            self.0.entry(id.clone()).or_default().push(Arc::clone(other));
        }
    }

    /// Leaves the roots of one cluster: those in the asked folder, where it holds any, and none that lie with another
    /// definition of a root that was taken. Says so where nothing but the order of names chose.
    pub(crate) fn narrow(&self, roots: &mut BTreeMap<UnitId, Arc<Object>>, focus: &str, warnings: &mut Vec<String>) {
        if !focus.is_empty() && roots.values().any(|o| lies_in(file(o), focus)) {
            roots.retain(|_, o| lies_in(file(o), focus));
        }
        let mut others: Vec<String> = Vec::new();
        for (id, rivals) in &self.0 {
            let Some(taken) = roots.get(id).cloned() else { continue };
            for rival in rivals {
                let folder = own_folder(file(rival), file(&taken)).to_string();
                let own = own_folder(file(&taken), file(rival));
                if shared(file(&taken), focus) == shared(file(rival), focus) && !others.contains(&folder) {
                    warnings.push(format!(
                        "{id} is defined in {} and in {}: this is a plan of {own}; give {folder} as path for the other",
                        file(&taken),
                        file(rival)
                    ));
                }
                others.push(folder);
                // What only the other cluster reads is the other's.
                let read = path_of(rival);
                if !read.is_empty() && !lies_in(&path_of(&taken), &read) {
                    others.push(read);
                }
            }
        }
        roots.retain(|_, o| !others.iter().any(|folder| lies_in(file(o), folder)));
    }
}
