//! What units rendered to, kept under everything they read.
//!
//! A unit is a function of its definition, what its source reference leads to, the options, and what it asked while it
//! rendered: files and listings of the tree, objects of other units, served API versions. All of that is kept with the
//! output, absences too, so an output is given out again only where rendering would read the very same. Hence a plan
//! with a memo is the plan without one, and two revisions planned with one memo share what did not change.

use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use druse_helm::Chart;
use druse_kustomize::DocCache;
use druse_kustomize::tree::{ContentId, FileTree};
use druse_object::Object;

use crate::codec::{Reader, Writer};
use crate::entry;
use crate::finish::Fix;
use crate::model::{ServedKind, UnitError, UnitId};
use crate::render::Output;
use crate::store::{Key, Store};
use crate::trace::Trace;
use crate::world::{World, identical};

pub(crate) type Cells<K, V> = Mutex<HashMap<K, Arc<OnceLock<V>>>>;

/// Makes a thing once, however many threads ask for it at the same time.
pub(crate) fn once<K: Eq + Hash + Clone, V: Clone>(cells: &Cells<K, V>, key: &K, make: impl FnOnce() -> V) -> V {
    let cell = Arc::clone(cells.lock().unwrap_or_else(PoisonError::into_inner).entry(key.clone()).or_default());
    cell.get_or_init(make).clone()
}

/// What plans share: parsed charts and files and, unless it is the default one, what units rendered to.
#[derive(Default)]
pub struct Memo {
    units: Option<Mutex<HashMap<UnitId, Vec<Arc<Entry>>>>>,
    store: Option<Store>,
    build: String,
    rendered: Mutex<BTreeSet<UnitId>>,
    pub(crate) charts: Cells<String, Result<Arc<Chart>, UnitError>>,
    pub(crate) chart_kinds: Cells<String, Arc<Vec<ServedKind>>>,
    pub(crate) scans: Cells<(String, ContentId), Arc<Vec<Arc<Object>>>>,
    pub(crate) documents: DocCache,
}

impl std::fmt::Debug for Memo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Memo").field("keeps_units", &self.units.is_some()).finish_non_exhaustive()
    }
}

/// One rendering of a unit: under what, and to what.
pub(crate) struct Entry {
    pub(crate) definition: Arc<Object>,
    /// The options and what the source reference led to.
    pub(crate) setting: String,
    pub(crate) trace: Trace,
    pub(crate) output: Arc<Output>,
    /// What was changed in the objects when the plan was finished; absent when it was not.
    pub(crate) fixes: Option<Vec<Fix>>,
}

/// What a rendering is sought for.
pub(crate) struct Sought<'a> {
    pub(crate) id: &'a UnitId,
    pub(crate) definition: &'a Arc<Object>,
    pub(crate) setting: &'a str,
    /// The tree it reads, where that is not named by the setting.
    pub(crate) tree: Option<&'a dyn FileTree>,
    pub(crate) world: &'a World,
    /// Whether the values of Secrets must be there.
    pub(crate) clear: bool,
}

impl Memo {
    /// A memo that keeps what units render to, for planning several revisions.
    #[must_use]
    pub fn new() -> Self {
        Self { units: Some(Mutex::default()), ..Self::default() }
    }

    /// A memo that also keeps it in a folder, which any number of processes may share. `build` names the program: what
    /// another build rendered is not given out.
    #[must_use]
    pub fn in_folder(folder: &Path, build: &str) -> Self {
        Self { store: Some(Store::new(folder)), build: build.to_string(), ..Self::new() }
    }

    pub(crate) fn keeps_units(&self) -> bool {
        self.units.is_some()
    }

    /// The rendering of a unit that would be made again here; `revive` completes one that was kept in the folder.
    pub(crate) fn find(&self, sought: &Sought<'_>, revive: impl Fn(Output) -> Output) -> Option<Arc<Entry>> {
        let units = self.units.as_ref()?;
        let kept = units.lock().unwrap_or_else(PoisonError::into_inner).get(sought.id).cloned().unwrap_or_default();
        let fits = |e: &&Arc<Entry>| {
            e.setting == sought.setting
                && identical(&e.definition, sought.definition)
                && !(sought.clear && e.output.withheld)
                && e.output.reads.hold_exactly_in(sought.world)
                && sought.tree.is_none_or(|tree| e.trace.holds_in(tree))
        };
        if let Some(entry) = kept.iter().find(fits) {
            return Some(Arc::clone(entry));
        }
        let store = self.store.as_ref()?;
        let key = self.key(sought.id, sought.definition, sought.setting);
        let (trace, output) =
            store.get(&key).find_map(|bytes| entry::read(bytes, sought.tree, sought.world, sought.clear))?;
        let entry = Arc::new(Entry {
            definition: Arc::clone(sought.definition),
            setting: sought.setting.to_string(),
            trace,
            output: Arc::new(revive(output)),
            fixes: None,
        });
        units.lock().unwrap_or_else(PoisonError::into_inner).entry(sought.id.clone()).or_default().push(entry.clone());
        Some(entry)
    }

    fn key(&self, id: &UnitId, definition: &Object, setting: &str) -> Key {
        let mut w = Writer::default();
        w.object(definition);
        Key::of([b"unit", self.build.as_bytes(), id.to_string().as_bytes(), &w.0, setting.as_bytes()])
    }

    /// Keeps a rendering in the folder, if there is one.
    pub(crate) fn store(
        &self,
        id: &UnitId,
        definition: &Object,
        setting: &str,
        output: &Output,
        trace: &Trace,
        world: &World,
    ) {
        if let Some(store) = &self.store
            && let Some(bytes) = entry::write(id.kind, output, trace, world)
        {
            store.put(&self.key(id, definition, setting), bytes);
        }
    }

    /// The kinds that a chart defines.
    pub(crate) fn kinds_of_chart(
        &self,
        identity: &String,
        find: impl FnOnce() -> Vec<ServedKind>,
    ) -> Arc<Vec<ServedKind>> {
        once(&self.chart_kinds, identity, || {
            let Some(store) = &self.store else { return Arc::new(find()) };
            let key = Key::of([b"kinds", self.build.as_bytes(), identity.as_bytes()]);
            let kept = store.get(&key).find_map(|bytes| Reader::new(&bytes).list(entry::served_from));
            Arc::new(kept.unwrap_or_else(|| {
                let found = find();
                let mut w = Writer::default();
                w.list(found.iter(), entry::served_to);
                store.put(&key, w.0);
                found
            }))
        })
    }

    /// The units that were rendered with this memo because nothing kept was the same.
    #[must_use]
    pub fn rendered(&self) -> BTreeSet<UnitId> {
        self.rendered.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn note_rendered(&self, id: &UnitId) {
        self.rendered.lock().unwrap_or_else(PoisonError::into_inner).insert(id.clone());
    }

    /// Keeps a rendering, in the place of another where it is that one with its objects finished.
    pub(crate) fn keep(&self, id: &UnitId, instead: Option<&Arc<Entry>>, entry: Entry) {
        let Some(units) = &self.units else { return };
        let mut units = units.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = units.entry(id.clone()).or_default();
        let same = kept.iter_mut().find(|e| instead.is_some_and(|old| Arc::ptr_eq(e, old) && old.fixes.is_none()));
        match same {
            Some(place) => *place = Arc::new(entry),
            None => kept.push(Arc::new(entry)),
        }
    }
}
