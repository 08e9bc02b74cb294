//! Finds the roots and renders all units until nothing changes any more.
//!
//! Rounds: all Kustomizations whose inputs changed are rendered, in parallel, against the same state of the plan; when
//! none is left, all such HelmReleases. A unit's inputs are its definition and what it looked up while it rendered, so
//! a release is rendered again only when an answer it was given would be another one now.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use druse_flux::api::{HelmRelease, Kustomization};
use druse_flux::generator::clean_path;
use druse_object::{Object, ObjectKey};
use druse_source::Fetcher;
use rayon::prelude::*;

use crate::clusters::{self, Rivals};
use crate::finish::{self, DEFAULT_NAMESPACE};
use crate::instance;
use crate::kinds::Kinds;
use crate::locate::TreeInput;
use crate::model::{Plan, PlanOptions, SecretValues, ServedKind, Unit, UnitId, UnitKind, UnitState};
use crate::render::{Context, Done, Output, Recall, chart_kinds, render_unit, unit_id};
use crate::scan::Scan;
use crate::secrets;
use crate::sources::Sources;
use crate::world::{Name, World, same_content};

/// After so many rounds the plan is what it is. Each level of units in units takes a round, so that is deep.
const MAX_ROUNDS: usize = 64;
/// After so many, what units lack is looked for in files that no unit reads.
const ROUNDS_ALONE: usize = 12;

type Definitions = BTreeMap<UnitId, (Arc<Object>, Vec<UnitId>)>;

/// Makes the plan of a tree. Never fails as a whole: what is wrong is an error of the unit it is wrong with.
#[must_use]
pub fn plan(input: &TreeInput, fetcher: &Arc<Fetcher>, options: &PlanOptions) -> Plan {
    plan_with(&Sources::new(input.clone(), Arc::clone(fetcher)), options)
}

/// As [`plan`], with sources that others go on using: what was fetched and parsed is kept.
#[must_use]
pub fn plan_with(sources: &Sources, options: &PlanOptions) -> Plan {
    let scan = &sources.scan;
    let tree_sources = sources.tree_sources().to_vec();
    let context = Context { sources, options };
    let mut state = State {
        context: &context,
        base: base_kinds(options),
        roots: BTreeMap::new(),
        scanned: HashMap::new(),
        outputs: BTreeMap::new(),
        clear: BTreeSet::new(),
        by_hand: HashMap::new(),
        sought: BTreeSet::new(),
    };
    let mut warnings = Vec::new();
    if tree_sources.is_empty() && scan.objects.iter().any(|o| Kustomization::is(o)) {
        warnings.push(
            "no source of the tree's Kustomizations was taken to be the tree itself: none has a remote of its repository as URL, and their paths are not in the tree".into(),
        );
    }
    state.find_roots(scan, &mut warnings);
    let read = state.files_of_units();
    if !state.settle() {
        warnings.push(format!("units still change each other after {MAX_ROUNDS} rounds; the plan is the last one"));
    }
    warnings.extend(unread_releases(scan, &[read, state.files_of_units()]));
    warnings.extend(state.resource_sets());
    let mut plan = state.finish();
    warnings.append(&mut plan.warnings);
    plan.warnings = warnings;
    plan.tree_sources = tree_sources;
    plan
}

fn base_kinds(options: &PlanOptions) -> Kinds {
    let mut kinds = Kinds::built_in();
    for kind in options.stand_ins.always_served() {
        kinds.add(&kind);
    }
    kinds
}

struct State<'a> {
    context: &'a Context<'a>,
    base: Kinds,
    /// The roots with their definitions as scanned.
    roots: BTreeMap<UnitId, Arc<Object>>,
    /// Sources that roots name, as scanned; they count while no unit renders them.
    scanned: HashMap<Name, Arc<Object>>,
    outputs: BTreeMap<UnitId, Done>,
    /// Units whose Secrets others read: their values must be there.
    clear: BTreeSet<UnitId>,
    /// ConfigMaps and Secrets that lie in the tree, but that no unit applies.
    by_hand: HashMap<Name, Arc<Object>>,
    /// Those that were looked for.
    sought: BTreeSet<Name>,
}

impl State<'_> {
    /// Renders every Kustomization of the tree once, to see who renders whom: those that no other renders are roots,
    /// and of those that render each other all. Without any Kustomization, the HelmReleases are the roots.
    fn find_roots(&mut self, scan: &Scan, warnings: &mut Vec<String>) {
        let mut candidates: BTreeMap<UnitId, Arc<Object>> = BTreeMap::new();
        let focus = self.context.sources.input().focus.as_str();
        let sources = self.context.sources;
        let objects = clusters::nearest_first(&scan.objects, focus, |o| sources.nearness(o));
        let (made, objects): (Vec<_>, Vec<_>) = objects.into_iter().partition(|o| instance::is_made(o));
        let mut rivals = Rivals::default();
        for o in &objects {
            // What names no source is a patch of one that does.
            if let Some(id) = unit_id(o, DEFAULT_NAMESPACE)
                && id.kind == UnitKind::Kustomization
                && o.value.str_at(["spec", "sourceRef", "name"]).is_some()
            {
                match candidates.entry(id) {
                    Entry::Vacant(entry) => drop(entry.insert(Arc::clone(o))),
                    Entry::Occupied(entry) => rivals.add(entry.key(), entry.get(), o),
                }
            }
        }
        let mut all_sources: HashMap<Name, Arc<Object>> = HashMap::new();
        for o in objects.iter().chain(&made).filter(|o| World::keeps(o)) {
            all_sources.entry(name_of(o, DEFAULT_NAMESPACE)).or_insert_with(|| Arc::clone(o));
        }
        let made: Vec<_> = made.into_iter().filter(|o| Kustomization::is(o)).collect();
        if candidates.is_empty() {
            if let Some(o) = made.first()
                && let Some(id) = unit_id(o, DEFAULT_NAMESPACE)
            {
                self.roots.insert(id, Arc::clone(o));
                self.scanned = all_sources;
                return;
            }
            for o in objects.iter().filter(|o| HelmRelease::is(o)) {
                if let Some(id) = unit_id(o, DEFAULT_NAMESPACE) {
                    self.roots.entry(id).or_insert_with(|| Arc::clone(o));
                }
            }
            self.scanned = all_sources;
            return;
        }
        let kinds = Arc::new(self.base.clone());
        let world = World {
            named: Arc::new(all_sources.clone()),
            withheld: Arc::default(),
            api_versions: Arc::new(kinds.api_versions(&self.context.options.api_versions)),
            kinds,
        };
        let outputs: BTreeMap<UnitId, Done> =
            self.render_all(&candidates.iter().collect::<Vec<_>>(), &world).into_iter().collect();
        // Who renders whom: by id, or by place where the id changes on the way (a namespace or prefix set).
        let by_place: HashMap<(&str, &str), &UnitId> =
            candidates.iter().filter_map(|(id, o)| Some(((o.provenance.file.as_deref()?, o.name()), id))).collect();
        let mut renders: BTreeMap<&UnitId, BTreeSet<&UnitId>> = BTreeMap::new();
        for (id, done) in &outputs {
            for (made, object) in &done.output.units {
                let place = object.provenance.file.as_deref().and_then(|f| by_place.get(&(f, object.name())).copied());
                for target in candidates.get_key_value(made).map(|(k, _)| k).into_iter().chain(place) {
                    if target != id {
                        renders.entry(id).or_default().insert(target);
                    }
                }
            }
        }
        // What could not be rendered yet (its variables come from another unit) or at all renders what lies in its
        // folder, for all that is known. Where it would change that on the way (variables, patches, …) it must not come
        // up unchanged; where it would not, the fault keeps nothing else from coming up.
        for (id, done) in
            outputs.iter().filter(|(_, done)| done.output.heads.is_empty() && !done.output.errors.is_empty())
        {
            let Some(definition) = candidates.get(id) else { continue };
            if !changes_what_it_renders(definition) {
                continue;
            }
            let folder = clean_path(definition.value.str_at(["spec", "path"]).unwrap_or_default());
            let in_tree = done.source.as_ref().is_some_and(|s| s.is_tree);
            for (target, o) in candidates.iter().filter(|(target, _)| *target != id && in_tree && !folder.is_empty()) {
                if o.provenance.file.as_deref().is_some_and(|f| clusters::lies_in(f, &folder)) {
                    renders.entry(id).or_default().insert(target);
                }
            }
        }
        let reach: BTreeMap<&UnitId, BTreeSet<&UnitId>> =
            candidates.keys().map(|id| (id, reachable(id, &renders))).collect();
        // What lies in the folder of a unit that renders without it is listed by no kustomization: nobody applies it.
        let passed_over: BTreeSet<&UnitId> = candidates
            .iter()
            .filter(|(id, o)| {
                let file = o.provenance.file.as_deref().unwrap_or_default();
                outputs.iter().any(|(other, done)| {
                    let folder = candidates.get(other).and_then(|d| d.value.str_at(["spec", "path"])).map(clean_path);
                    other != *id
                        && !done.output.heads.is_empty()
                        && done.source.as_ref().is_some_and(|s| s.is_tree)
                        && folder.is_some_and(|f| !f.is_empty() && clusters::lies_in(file, &f))
                        && !reach.get(other).is_some_and(|r| r.contains(*id))
                        && !reach.get(*id).is_some_and(|r| r.contains(other) || r.contains(*id))
                        && !outputs.get(*id).is_some_and(|own| own.output.units.iter().any(|(made, _)| made == *id))
                })
            })
            .map(|(id, _)| id)
            .collect();
        for (id, definition) in &candidates {
            let rendered_by_outsider = reach.iter().any(|(other, reached)| {
                *other != id && reached.contains(id) && !reach.get(id).is_some_and(|r| r.contains(*other))
            });
            // What the API would refuse by itself gets the rest from a parent, which here is not in use.
            let without = ["interval", "prune"].iter().all(|f| definition.value["spec"].get(f).is_none());
            let part = candidates.len() > 1 && (without || definition.name().contains("${"));
            if !rendered_by_outsider && !passed_over.contains(id) && !part {
                self.roots.insert(id.clone(), Arc::clone(definition));
            }
        }
        rivals.narrow(&mut self.roots, focus, warnings);
        let lost: Vec<String> = passed_over
            .iter()
            .filter(|id| !reach.values().any(|r| r.contains(**id)))
            .filter_map(|id| candidates.get(*id)?.provenance.file.as_deref().map(str::to_string))
            .collect::<BTreeSet<_>>()
            .into_iter()
            .collect();
        if !lost.is_empty() {
            warnings.push(format!("Kustomizations in files that no unit reads are never applied: {}", lost.join(", ")));
        }
        self.outputs = outputs;
        self.begin_above(&made, &world);
        for root in self.roots.keys() {
            for name in self.outputs.get(root).into_iter().flat_map(|done| done.output.reads.named.keys()) {
                if let Some(o) = all_sources.get(name) {
                    self.scanned.insert(name.clone(), Arc::clone(o));
                }
            }
        }
    }

    /// What an operator makes of an instance is above the roots that it renders; that of another cluster renders none.
    fn begin_above(&mut self, made: &[Arc<Object>], world: &World) {
        for o in made {
            let Some(id) = unit_id(o, DEFAULT_NAMESPACE).filter(|id| !self.outputs.contains_key(id)) else { continue };
            let done = self.render(&id, o, world);
            let renders = |root: &UnitId, definition: &Object| {
                let file = definition.provenance.file.as_deref();
                done.output.units.iter().any(|(unit, by)| {
                    unit == root || by.name() == definition.name() && by.provenance.file.as_deref() == file
                })
            };
            let before = self.roots.len();
            self.roots.retain(|root, definition| !renders(root, definition));
            if self.roots.len() < before {
                self.roots.insert(id.clone(), Arc::clone(o));
                self.outputs.insert(id, done);
            }
        }
    }

    /// Whether a unit renders another, or one that does.
    fn outputs_reach(&self, from: &UnitId, to: &UnitId) -> bool {
        let mut queue = vec![from];
        let mut seen: BTreeSet<&UnitId> = BTreeSet::from([from]);
        while let Some(id) = queue.pop() {
            if id == to {
                return true;
            }
            let made = self.outputs.get(id).into_iter().flat_map(|done| &done.output.units).map(|(made, _)| made);
            queue.extend(made.filter(|id| seen.insert(id)));
        }
        false
    }

    /// What is to be said of ResourceSets: a Flux Operator makes objects of them, which are in no plan.
    fn resource_sets(&self) -> Option<String> {
        let heads = self.outputs.values().flat_map(|done| &done.output.heads);
        let sets = heads.filter(|h| h.gvk.kind == "ResourceSet" && h.gvk.group == instance::GROUP);
        let names: BTreeSet<String> = sets.map(|h| format!("{} ({})", h.name, h.provenance)).collect();
        let names: Vec<String> = names.into_iter().collect();
        (!names.is_empty()).then(|| {
            format!("what a Flux Operator makes of ResourceSets is not rendered by this version: {}", names.join(", "))
        })
    }

    /// The files that the units rendered so far make units of.
    fn files_of_units(&self) -> BTreeSet<Arc<str>> {
        let units = self.outputs.values().flat_map(|done| &done.output.units);
        units.filter_map(|(_, o)| o.provenance.file.clone()).collect()
    }

    /// Renders what changed until nothing does; false when that does not happen.
    fn settle(&mut self) -> bool {
        for round in 0..MAX_ROUNDS {
            if round >= ROUNDS_ALONE {
                // A unit that needs what it makes itself does not come to rest without what a person brings first.
                self.look_in_files();
            }
            let definitions = self.definitions();
            self.outputs.retain(|id, _| definitions.contains_key(id));
            let world = self.world(&[]);
            let dirty = |kind: UnitKind| -> Vec<(&UnitId, &Arc<Object>)> {
                definitions
                    .iter()
                    .filter(|(id, (definition, _))| id.kind == kind && self.is_dirty(id, definition, &world))
                    .map(|(id, (definition, _))| (id, definition))
                    .collect()
            };
            let kustomizations = dirty(UnitKind::Kustomization);
            let rendered: Vec<(UnitId, Done)> = if kustomizations.is_empty() {
                let releases = dirty(UnitKind::HelmRelease);
                if releases.is_empty() {
                    if self.look_in_files() {
                        continue;
                    }
                    return true;
                }
                // The kinds of charts not yet rendered are known from their crds/ folders; with them at hand few
                // releases need a second rendering.
                let fresh: Vec<ServedKind> = releases
                    .par_iter()
                    .with_max_len(1)
                    .filter(|(id, _)| !self.outputs.contains_key(*id))
                    .flat_map_iter(|(id, definition)| chart_kinds(self.context, id, definition, &world))
                    .collect();
                self.render_all(&releases, &self.world(&fresh))
            } else {
                self.render_all(&kustomizations, &world)
            };
            for (id, done) in rendered {
                if !done.output.reads.withheld.is_empty() {
                    self.clear.extend(self.makers_of(&done.output.reads.withheld));
                }
                if let Some(before) = self.outputs.insert(id.clone(), done) {
                    // Another revision goes the same way.
                    before.keep(self.context.sources.memo(), &id, None);
                }
            }
        }
        false
    }

    /// Renders units in parallel. They differ in size by far: each is a task of its own, so that no thread waits while
    /// another has several before it.
    fn render_all(&self, units: &[(&UnitId, &Arc<Object>)], world: &World) -> Vec<(UnitId, Done)> {
        units
            .par_iter()
            .with_max_len(1)
            .map(|(id, definition)| ((*id).clone(), self.render(id, definition, world)))
            .collect()
    }

    fn render(&self, id: &UnitId, definition: &Arc<Object>, world: &World) -> Done {
        let clear = match &self.context.options.secrets {
            SecretValues::Needed => true,
            SecretValues::NeededOf(units) => units.contains(id),
            SecretValues::NotNeeded => false,
        };
        let recall = if clear || self.clear.contains(id) { Recall::Clear } else { Recall::Allowed };
        render_unit(self.context, id, definition, world, recall)
    }

    /// The units that make Secrets of these names.
    fn makers_of(&self, names: &BTreeSet<Name>) -> Vec<UnitId> {
        let makes = |output: &Output| output.named.iter().any(|(name, _)| names.contains(&with_namespace(name)));
        self.outputs.iter().filter(|(_, done)| makes(&done.output)).map(|(id, _)| id.clone()).collect()
    }

    /// Looks in the tree's files for what units read and no unit makes; whether anything was found.
    fn look_in_files(&mut self) -> bool {
        let wanted: BTreeSet<Name> = self
            .outputs
            .values()
            .map(|done| &done.output)
            .filter(|out| !out.errors.is_empty())
            .flat_map(|out| out.reads.named.iter().filter(|(_, read)| read.is_none()).map(|(name, _)| name))
            .filter(|name| matches!(name.0.as_str(), "ConfigMap" | "Secret"))
            .filter(|name| !self.sought.contains(*name))
            .cloned()
            .collect();
        if wanted.is_empty() {
            return false;
        }
        self.sought.extend(wanted.iter().cloned());
        let found = secrets::in_files(&*self.context.sources.input().tree, &wanted);
        let any = !found.is_empty();
        self.by_hand.extend(found);
        any
    }

    fn is_dirty(&self, id: &UnitId, definition: &Arc<Object>, world: &World) -> bool {
        self.outputs.get(id).is_none_or(|Done { output: out, .. }| {
            out.withheld && self.clear.contains(id)
                || !out.definition.as_ref().is_some_and(|d| Arc::ptr_eq(d, definition) || same_content(d, definition))
                || !out.reads.hold_in(world)
        })
    }

    /// All units that exist now: the roots and what they render, with who renders them. A rendered definition takes the
    /// place of a root's scanned one; of several, that of the first unit.
    fn definitions(&self) -> Definitions {
        let mut out: Definitions = self.roots.iter().map(|(id, o)| (id.clone(), (Arc::clone(o), Vec::new()))).collect();
        let mut queue: Vec<UnitId> = out.keys().cloned().collect();
        let mut seen: BTreeSet<UnitId> = queue.iter().cloned().collect();
        let mut rendered: BTreeMap<UnitId, BTreeMap<UnitId, Arc<Object>>> = BTreeMap::new();
        while let Some(id) = queue.pop() {
            for (made, object) in self.outputs.get(&id).into_iter().flat_map(|o| &o.output.units) {
                rendered.entry(made.clone()).or_default().insert(id.clone(), Arc::clone(object));
                if seen.insert(made.clone()) {
                    queue.push(made.clone());
                }
            }
        }
        for (id, makers) in rendered {
            if let Some(object) = makers.values().next() {
                out.insert(id, (Arc::clone(object), makers.keys().cloned().collect()));
            }
        }
        out
    }

    fn world(&self, more: &[ServedKind]) -> World {
        let mut named = self.scanned.clone();
        let mut kinds = self.base.clone();
        let mut withheld = BTreeSet::new();
        for Done { output, .. } in self.outputs.values().rev() {
            // In reverse, so that of several units with the same object the first has the last word.
            named.extend(output.named.iter().map(|(name, o)| (with_namespace(name), Arc::clone(o))));
            output.kinds.iter().for_each(|k| kinds.add(k));
            if output.withheld {
                let secrets = output.named.iter().filter(|(name, _)| name.0 == "Secret");
                withheld.extend(secrets.map(|(name, _)| with_namespace(name)));
            }
        }
        for (name, secret) in self.outputs.values().flat_map(|done| &done.output.made) {
            named.entry(with_namespace(name)).or_insert_with(|| Arc::clone(secret));
        }
        for (name, object) in &self.by_hand {
            named.entry(name.clone()).or_insert_with(|| Arc::clone(object));
        }
        more.iter().for_each(|k| kinds.add(k));
        let api_versions = Arc::new(kinds.api_versions(&self.context.options.api_versions));
        World { named: Arc::new(named), kinds: Arc::new(kinds), api_versions, withheld: Arc::new(withheld) }
    }

    fn finish(mut self) -> Plan {
        let definitions = self.definitions();
        let world = self.world(&[]);
        let mut units: BTreeMap<UnitId, Unit> = BTreeMap::new();
        let mut keys: Vec<(&UnitId, Vec<ObjectKey>)> = Vec::new();
        for (id, (definition, made_by)) in &definitions {
            let mut done = self.outputs.remove(id).unwrap_or_default();
            let mut finish = finish::finish(&done.output, &world.kinds);
            if done.fixes.as_ref().is_some_and(|applied| *applied != finish.fixes) {
                // Kept from where other kinds were served: its objects are not those that were rendered.
                done = render_unit(self.context, id, definition, &world, Recall::Never);
                finish = finish::finish(&done.output, &world.kinds);
            }
            if done.fixes.is_none() {
                finish::apply(&mut done.output, &finish.fixes);
            }
            keys.push((id, finish::keys(&done.output, &finish.fixes)));
            let fixes = finish.fixes.clone();
            // What came up as a root before others could be rendered is none when one of those renders it.
            let is_root =
                self.roots.contains_key(id) && made_by.iter().all(|by| by == id || self.outputs_reach(id, by));
            units.insert(id.clone(), finish::unit(id, definition, made_by, is_root, &done, finish));
            done.keep(self.context.sources.memo(), id, Some(fixes));
        }
        finish::check_dependencies(&mut units);
        let warnings = finish::duplicates(keys.iter().map(|(id, keys)| (*id, keys.as_slice())));
        for unit in units.values_mut().filter(|u| !u.errors.is_empty()) {
            unit.state = UnitState::Failed;
        }
        finish::spread_waiting(&mut units);
        Plan { units: finish::in_order(units), tree_sources: Vec::new(), warnings, kinds: world.kinds }
    }
}

fn name_of(object: &Object, default_namespace: &str) -> Name {
    let namespace = if object.namespace().is_empty() { default_namespace } else { object.namespace() };
    (object.kind().to_string(), namespace.to_string(), object.name().to_string())
}

fn with_namespace(name: &Name) -> Name {
    if name.1.is_empty() { (name.0.clone(), DEFAULT_NAMESPACE.to_string(), name.2.clone()) } else { name.clone() }
}

fn reachable<'a>(from: &'a UnitId, edges: &BTreeMap<&'a UnitId, BTreeSet<&'a UnitId>>) -> BTreeSet<&'a UnitId> {
    let mut seen = BTreeSet::new();
    let mut queue = vec![from];
    while let Some(id) = queue.pop() {
        for next in edges.get(id).into_iter().flatten() {
            if seen.insert(*next) {
                queue.push(next);
            }
        }
    }
    seen
}

/// Whether a Kustomization does more to the objects in its folder than to apply them.
fn changes_what_it_renders(definition: &Object) -> bool {
    let spec = &definition.value["spec"];
    [
        "postBuild",
        "patches",
        "patchesStrategicMerge",
        "patchesJson6902",
        "components",
        "images",
        "targetNamespace",
        "namePrefix",
        "nameSuffix",
        "commonMetadata",
        "decryption",
    ]
    .iter()
    .any(|field| !spec[field].is_null())
}

/// What is to be said of HelmReleases that files hold and no unit makes: neither any Kustomization of the tree by itself,
/// nor the plan at rest. What fails at first, for a ConfigMap that another unit makes, makes its units later.
fn unread_releases(scan: &Scan, read: &[BTreeSet<Arc<str>>]) -> Option<String> {
    let unread: BTreeSet<&str> = scan
        .objects
        .iter()
        .filter(|o| HelmRelease::is(o))
        // What names no chart is a patch of one that does.
        .filter(|o| ["chart", "chartRef"].iter().any(|f| o.value["spec"].get(f).is_some()))
        .filter_map(|o| o.provenance.file.as_deref())
        .filter(|f| !read.iter().any(|files| files.contains(*f)))
        .collect();
    let files: Vec<&str> = unread.into_iter().collect();
    (!files.is_empty())
        .then(|| format!("HelmReleases in files that no unit reads are never applied: {}", files.join(", ")))
}
