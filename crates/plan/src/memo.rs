//! What units rendered to, kept under everything they read.
//!
//! A unit is a function of its definition, what its source reference leads to, the options, and what it asked while it
//! rendered: files and listings of the tree, objects of other units, served API versions. All of that is kept with the
//! output, absences too, so an output is given out again only where rendering would read the very same. Hence a plan
//! with a memo is the plan without one, and two revisions planned with one memo share what did not change.

use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use druse_helm::Chart;
use druse_kustomize::DocCache;
use druse_kustomize::tree::{ContentId, FileTree};
use druse_object::Object;

use crate::codec::{Reader, Writer};
use crate::entry;
use crate::finish::Fix;
use crate::model::{ServedKind, Unit, UnitError, UnitId};
use crate::render::Output;
use crate::scan::Scanned;
use crate::store::{Key, Store};
use crate::trace::Trace;
use crate::world::{World, identical};

pub(crate) type Cells<K, V> = Mutex<HashMap<K, Arc<OnceLock<V>>>>;

/// Makes a thing once, however many threads ask for it at the same time.
pub(crate) fn once<K: Eq + Hash + Clone, V: Clone>(cells: &Cells<K, V>, key: &K, make: impl FnOnce() -> V) -> V {
    let cell = Arc::clone(cells.lock().unwrap_or_else(PoisonError::into_inner).entry(key.clone()).or_default());
    cell.get_or_init(make).clone()
}

/// What files were found to hold, by path and content.
type Recalled = HashMap<(String, ContentId), Scanned>;

/// What plans share: parsed charts and files and, unless it is the default one, what units rendered to.
#[derive(Default)]
pub struct Memo {
    units: Option<Mutex<HashMap<UnitId, Vec<Arc<Entry>>>>>,
    store: Option<Store>,
    build: String,
    rendered: Mutex<BTreeSet<UnitId>>,
    pub(crate) charts: Cells<String, Result<Arc<Chart>, UnitError>>,
    pub(crate) chart_kinds: Cells<String, Arc<Vec<ServedKind>>>,
    pub(crate) scans: Cells<(String, ContentId), Scanned>,
    /// What earlier runs found in files, by the tree's folder.
    recalled: Cells<PathBuf, Arc<Recalled>>,
    /// Whether a file was scanned that the folder does not know.
    scanned: AtomicBool,
    pub(crate) documents: DocCache,
}

impl std::fmt::Debug for Memo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Memo").field("keeps_units", &self.units.is_some()).finish_non_exhaustive()
    }
}

/// As what a unit's rendering is kept in the folder; nothing where it is not. It is no part of what a unit is, so that
/// units compare and print the same wherever they come from.
#[derive(Clone, Copy, Default)]
pub struct Kept(pub(crate) Option<Key>);

impl std::fmt::Debug for Kept {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Kept")
    }
}

impl Kept {
    /// The same rendering with its objects finished.
    pub(crate) fn finished(self, fixes: &[Fix]) -> Self {
        let mut w = Writer::default();
        fixes.iter().for_each(|fix| fix.write(&mut w));
        Self(self.0.map(|key| Key::of([b"finished", key.bytes(), &w.0])))
    }
}

/// One rendering of a unit: under what, and to what.
pub(crate) struct Entry {
    pub(crate) kept: Kept,
    pub(crate) definition: Arc<Object>,
    /// The options and what the source reference led to.
    pub(crate) setting: String,
    pub(crate) trace: Arc<Trace>,
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
        let (trace, output, sum) = store.get(&key).find_map(|(bytes, sum)| {
            let (trace, output) = entry::read(bytes, sought.tree, sought.world, sought.clear)?;
            Some((trace, output, sum))
        })?;
        let entry = Arc::new(Entry {
            kept: Kept(Some(sum)),
            definition: Arc::clone(sought.definition),
            setting: sought.setting.to_string(),
            trace: Arc::new(trace),
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

    /// What a unit's rendering became when it was printed the last time, as [`Memo::keep_text`] was told.
    /// It takes the place of what is in the buffer; where it is not known the answer is false.
    pub fn text(&self, unit: &Unit, buffer: &mut Vec<u8>) -> bool {
        let known = self.store.as_ref().zip(self.text_key(unit));
        known.is_some_and(|(store, key)| store.text_into(&key, buffer))
    }

    /// Keeps what a unit's rendering became when it was printed, where the rendering itself is kept. It is read by other
    /// runs and kept on disk: values of Secrets must not be in it.
    pub fn keep_text(&self, unit: &Unit, text: &[u8]) {
        if let (Some(store), Some(key)) = (&self.store, self.text_key(unit)) {
            store.put_text(&key, text);
        }
    }

    /// Makes room in the folder, as happens by itself when a memo is dropped: for who ends without dropping it.
    pub fn tidy(&self) {
        if let Some(store) = &self.store {
            store.tidy();
        }
    }

    fn text_key(&self, unit: &Unit) -> Option<Key> {
        Some(Key::of([b"text", self.build.as_bytes(), unit.kept.0?.bytes()]))
    }

    /// Keeps a rendering in the folder, if there is one, and says as what.
    pub(crate) fn store(
        &self,
        id: &UnitId,
        definition: &Object,
        setting: &str,
        output: &Output,
        trace: &Trace,
        world: &World,
    ) -> Kept {
        let Some(store) = &self.store else { return Kept::default() };
        let bytes = entry::write(id.kind, output, trace, world);
        Kept(bytes.map(|bytes| store.put(&self.key(id, definition, setting), &bytes)))
    }

    fn scans_key(&self, root: &Path) -> Key {
        Key::of([b"scans", self.build.as_bytes(), root.as_os_str().as_encoded_bytes()])
    }

    /// What the files of a folder's tree hold: by path and content, so that nothing stale is among what earlier runs
    /// found.
    pub(crate) fn scanned(&self, root: &Path, place: &(String, ContentId), scan: impl FnOnce() -> Scanned) -> Scanned {
        let recalled = once(&self.recalled, &root.to_path_buf(), || {
            let bytes = self.store.as_ref().and_then(|store| store.text(&self.scans_key(root)));
            let found = bytes.and_then(|bytes| {
                Reader::new(&bytes).list(|r| {
                    let place = (r.text()?.to_string(), r.bytes::<20>().map(ContentId)?);
                    Some((place, Arc::new(r.list(|r| r.object().map(Arc::new))?)))
                })
            });
            Arc::new(Recalled::from_iter(found.unwrap_or_default()))
        });
        once(&self.scans, place, || {
            recalled.get(place).map(Arc::clone).unwrap_or_else(|| {
                self.scanned.store(true, Ordering::Relaxed);
                scan()
            })
        })
    }

    /// Keeps what was found in files of a tree, where some of it is new; what no file of this run holds goes.
    pub(crate) fn keep_scans(&self, root: &Path) {
        let Some(store) = self.store.as_ref().filter(|_| self.scanned.swap(false, Ordering::Relaxed)) else { return };
        let mut w = Writer::default();
        let scans = self.scans.lock().unwrap_or_else(PoisonError::into_inner);
        let known: Vec<_> = scans.iter().filter_map(|(place, cell)| Some((place, cell.get()?))).collect();
        w.list(known.into_iter(), |w, ((path, id), objects)| {
            w.text(path);
            w.0.extend(id.0);
            w.list(objects.iter(), |w, o| w.object(o));
        });
        store.put_text(&self.scans_key(root), &w.0);
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
            let kept = store.get(&key).find_map(|(bytes, _)| Reader::new(&bytes).list(entry::served_from));
            Arc::new(kept.unwrap_or_else(|| {
                let found = find();
                let mut w = Writer::default();
                w.list(found.iter(), entry::served_to);
                store.put(&key, &w.0);
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
