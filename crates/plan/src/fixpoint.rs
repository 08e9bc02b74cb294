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
use druse_flux::graph::Graph;
use druse_object::Object;
use druse_source::Fetcher;
use rayon::prelude::*;

use crate::clusters::{self, Rivals};
use crate::kinds::Kinds;
use crate::locate::TreeInput;
use crate::model::{Fault, Plan, PlanOptions, ServedKind, Unit, UnitError, UnitId, UnitKind, UnitState};
use crate::render::{Context, Output, chart_kinds, render_unit, unit_id};
use crate::scan::Scan;
use crate::sources::Sources;
use crate::world::{Name, World, same_content};

/// After so many rounds the plan is what it is. Each level of units in units takes a round, so that is deep.
const MAX_ROUNDS: usize = 64;
/// The namespace of objects that name none where nothing else says one.
const DEFAULT_NAMESPACE: &str = "default";

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
    let context = Context { sources, options, documents: druse_kustomize::DocCache::new() };
    let mut state = State {
        context: &context,
        base: base_kinds(options),
        roots: BTreeMap::new(),
        scanned: HashMap::new(),
        outputs: BTreeMap::new(),
    };
    let mut warnings = Vec::new();
    if tree_sources.is_empty() && scan.objects.iter().any(|o| Kustomization::is(o)) {
        warnings.push(
            "no source of the tree's Kustomizations was taken to be the tree itself: none has a remote of its repository as URL, and their paths are not in the tree".into(),
        );
    }
    state.find_roots(scan, &mut warnings);
    if !state.settle() {
        warnings.push(format!("units still change each other after {MAX_ROUNDS} rounds; the plan is the last one"));
    }
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
    outputs: BTreeMap<UnitId, Output>,
}

impl State<'_> {
    /// Renders every Kustomization of the tree once, to see who renders whom: those that no other renders are roots,
    /// and of those that render each other all. Without any Kustomization, the HelmReleases are the roots.
    fn find_roots(&mut self, scan: &Scan, warnings: &mut Vec<String>) {
        let mut candidates: BTreeMap<UnitId, Arc<Object>> = BTreeMap::new();
        let focus = self.context.sources.input().focus.as_str();
        let objects = clusters::nearest_first(&scan.objects, focus);
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
        for o in objects.iter().filter(|o| World::keeps(o)) {
            all_sources.entry(name_of(o, DEFAULT_NAMESPACE)).or_insert_with(|| Arc::clone(o));
        }
        if candidates.is_empty() {
            for o in scan.objects.iter().filter(|o| HelmRelease::is(o)) {
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
            api_versions: Arc::new(kinds.api_versions(&self.context.options.api_versions)),
            kinds,
        };
        let outputs: BTreeMap<UnitId, Output> =
            candidates.par_iter().map(|(id, def)| (id.clone(), render_unit(self.context, id, def, &world))).collect();
        // Who renders whom: by id, or by place where the id changes on the way (a namespace or prefix set).
        let by_place: HashMap<(&str, &str), &UnitId> =
            candidates.iter().filter_map(|(id, o)| Some(((o.provenance.file.as_deref()?, o.name()), id))).collect();
        let mut renders: BTreeMap<&UnitId, BTreeSet<&UnitId>> = BTreeMap::new();
        for (id, output) in &outputs {
            for (made, object) in &output.units {
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
        for (id, output) in outputs.iter().filter(|(_, out)| out.objects.is_empty() && !out.errors.is_empty()) {
            let Some(definition) = candidates.get(id) else { continue };
            if !changes_what_it_renders(definition) {
                continue;
            }
            let folder = clean_path(definition.value.str_at(["spec", "path"]).unwrap_or_default());
            let in_tree = output.source.as_ref().is_some_and(|s| s.is_tree);
            for (target, o) in candidates.iter().filter(|(target, _)| *target != id && in_tree && !folder.is_empty()) {
                if o.provenance.file.as_deref().is_some_and(|f| clusters::lies_in(f, &folder)) {
                    renders.entry(id).or_default().insert(target);
                }
            }
        }
        let reach: BTreeMap<&UnitId, BTreeSet<&UnitId>> =
            candidates.keys().map(|id| (id, reachable(id, &renders))).collect();
        for (id, definition) in &candidates {
            let rendered_by_outsider = reach.iter().any(|(other, reached)| {
                *other != id && reached.contains(id) && !reach.get(id).is_some_and(|r| r.contains(*other))
            });
            if !rendered_by_outsider {
                self.roots.insert(id.clone(), Arc::clone(definition));
            }
        }
        rivals.narrow(&mut self.roots, focus, warnings);
        for root in self.roots.keys() {
            for name in outputs.get(root).into_iter().flat_map(|o| o.reads.named.keys()) {
                if let Some(o) = all_sources.get(name) {
                    self.scanned.insert(name.clone(), Arc::clone(o));
                }
            }
        }
        self.outputs = outputs;
        let unread: BTreeSet<&str> = scan
            .objects
            .iter()
            .filter(|o| HelmRelease::is(o))
            // What names no chart is a patch of one that does.
            .filter(|o| ["chart", "chartRef"].iter().any(|f| o.value["spec"].get(f).is_some()))
            .filter_map(|o| o.provenance.file.as_deref())
            .filter(|f| {
                !self
                    .outputs
                    .values()
                    .any(|out| out.units.iter().any(|(_, o)| o.provenance.file.as_deref() == Some(*f)))
            })
            .collect();
        if !unread.is_empty() {
            let files: Vec<&str> = unread.into_iter().collect();
            warnings.push(format!("HelmReleases in files that no unit reads are never applied: {}", files.join(", ")));
        }
    }

    /// Renders what changed until nothing does; false when that does not happen.
    fn settle(&mut self) -> bool {
        for _ in 0..MAX_ROUNDS {
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
            let rendered: Vec<(UnitId, Output)> = if kustomizations.is_empty() {
                let releases = dirty(UnitKind::HelmRelease);
                if releases.is_empty() {
                    return true;
                }
                // The kinds of charts not yet rendered are known from their crds/ folders; with them at hand few
                // releases need a second rendering.
                let fresh: Vec<ServedKind> = releases
                    .par_iter()
                    .filter(|(id, _)| !self.outputs.contains_key(*id))
                    .flat_map_iter(|(id, definition)| chart_kinds(self.context, id, definition, &world))
                    .collect();
                let world = self.world(&fresh);
                releases
                    .par_iter()
                    .map(|(id, definition)| ((*id).clone(), render_unit(self.context, id, definition, &world)))
                    .collect()
            } else {
                kustomizations
                    .par_iter()
                    .map(|(id, definition)| ((*id).clone(), render_unit(self.context, id, definition, &world)))
                    .collect()
            };
            self.outputs.extend(rendered);
        }
        false
    }

    fn is_dirty(&self, id: &UnitId, definition: &Arc<Object>, world: &World) -> bool {
        self.outputs.get(id).is_none_or(|out| {
            !out.definition.as_ref().is_some_and(|d| Arc::ptr_eq(d, definition) || same_content(d, definition))
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
            for (made, object) in self.outputs.get(&id).into_iter().flat_map(|o| &o.units) {
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
        for output in self.outputs.values().rev() {
            // In reverse, so that of several units with the same object the first has the last word.
            named.extend(output.named.iter().map(|(name, o)| (with_namespace(name), Arc::clone(o))));
            output.kinds.iter().for_each(|k| kinds.add(k));
        }
        more.iter().for_each(|k| kinds.add(k));
        let api_versions = Arc::new(kinds.api_versions(&self.context.options.api_versions));
        World { named: Arc::new(named), kinds: Arc::new(kinds), api_versions }
    }

    fn finish(mut self) -> Plan {
        let definitions = self.definitions();
        let kinds = self.world(&[]).kinds;
        let mut outputs = std::mem::take(&mut self.outputs);
        let mut units: BTreeMap<UnitId, Unit> = BTreeMap::new();
        for (id, (definition, made_by)) in &definitions {
            let output = outputs.remove(id).unwrap_or_default();
            let is_root = self.roots.contains_key(id);
            units.insert(id.clone(), unit(id, definition, made_by, is_root, output, &kinds));
        }
        check_dependencies(&mut units);
        let warnings = note_duplicates(&mut units);
        for unit in units.values_mut().filter(|u| !u.errors.is_empty()) {
            unit.state = UnitState::Failed;
        }
        spread_waiting(&mut units);
        Plan { units: in_order(units), tree_sources: Vec::new(), warnings, kinds }
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

/// Puts a unit together and gives its objects their final identity: what has no namespace in the file gets the unit's,
/// what can have none loses it.
fn unit(
    id: &UnitId,
    definition: &Arc<Object>,
    made_by: &[UnitId],
    is_root: bool,
    output: Output,
    kinds: &Kinds,
) -> Unit {
    let mut objects = output.objects;
    let mut hooks = output.hooks;
    let mut errors = output.errors;
    let mut warnings = output.warnings;
    let mut not_served: BTreeMap<String, String> = BTreeMap::new();
    for o in objects.iter_mut().chain(hooks.iter_mut().map(|h| &mut h.object)) {
        let gvk = o.gvk();
        let namespaced = kinds.is_namespaced(&gvk.group, &gvk.kind);
        if namespaced.is_none() {
            not_served.entry(gvk.to_string()).or_insert_with(|| o.provenance.to_string());
        } else if !kinds.serves(&gvk.group, &gvk.version, &gvk.kind) {
            let versions: Vec<&str> = kinds.versions(&gvk.group, &gvk.kind).collect();
            warnings.push(format!(
                "{}: {} is not served in version {}, only in {}",
                o.provenance,
                gvk.kind,
                gvk.version,
                versions.join(", ")
            ));
        }
        let has_namespace = !o.namespace().is_empty();
        match namespaced {
            Some(false) if has_namespace => {
                if let Some(meta) = o.metadata_mut() {
                    meta.remove("namespace");
                }
            }
            Some(true) if !has_namespace => {
                let namespace = if output.default_namespace.is_empty() {
                    // What Flux' server-side apply says when a Kustomization leaves the namespace open.
                    errors.push(
                        UnitError::new(format!("{}/{} namespace not specified: an empty namespace may not be set when a resource name is provided", o.kind(), o.name()))
                            .at(&o.provenance)
                            .help("set metadata.namespace, or namespace in the kustomization, or spec.targetNamespace")
                            .fault(Fault::NoNamespace),
                    );
                    DEFAULT_NAMESPACE
                } else {
                    &output.default_namespace
                };
                if let Some(meta) = o.metadata_mut() {
                    meta.insert("namespace", namespace);
                }
            }
            None if !has_namespace && !output.default_namespace.is_empty() => {}
            _ => {}
        }
    }
    for (gvk, place) in not_served {
        warnings.push(format!(
            "{gvk} (first in {place}) is served by nothing in the plan: no CustomResourceDefinition defines it"
        ));
    }
    let state = match (output.stand_in, output.suspended) {
        (_, true) => UnitState::Suspended,
        (Some((stand_in, reason)), _) => UnitState::StandIn { component: stand_in.component, reason },
        _ => UnitState::Ok,
    };
    Unit {
        id: id.clone(),
        definition: Arc::clone(definition),
        made_by: made_by.to_vec(),
        is_root,
        depends_on: output.depends_on,
        source: output.source,
        chart: output.chart,
        state,
        objects,
        hooks,
        errors,
        warnings,
        unresolved: output.unresolved,
    }
}

/// Dependencies on nothing and in circles are errors of the units that have them.
fn check_dependencies(units: &mut BTreeMap<UnitId, Unit>) {
    let mut graph = Graph::default();
    for (id, unit) in units.iter() {
        graph.node(id.clone());
        for on in &unit.depends_on {
            graph.edge(id.clone(), on.clone());
        }
    }
    let order = graph.order();
    let known: BTreeSet<UnitId> = units.keys().cloned().collect();
    for unit in units.values_mut() {
        for on in unit.depends_on.iter().filter(|on| !known.contains(on)) {
            unit.errors.push(
                UnitError::new(format!("dependsOn names {on}, which no unit of the tree defines"))
                    .at(&unit.definition.provenance)
                    .help("correct the name or namespace (its own by default), or add the unit")
                    .fault(Fault::Dependency(on.clone())),
            );
        }
    }
    for cycle in order.cycles {
        let mut names: Vec<String> = cycle.iter().map(ToString::to_string).collect();
        names.extend(names.first().cloned());
        for id in &cycle {
            if let Some(unit) = units.get_mut(id) {
                unit.errors.push(
                    UnitError::new(format!("dependsOn goes round in a circle: {}", names.join(" -> ")))
                        .at(&unit.definition.provenance)
                        .help("remove one of these dependencies")
                        .fault(Fault::Cycle(cycle.clone())),
                );
            }
        }
    }
}

/// Objects that several units apply are fought over.
fn note_duplicates(units: &mut BTreeMap<UnitId, Unit>) -> Vec<String> {
    let mut owners: HashMap<druse_object::ObjectKey, Vec<UnitId>> = HashMap::new();
    for (id, unit) in units.iter() {
        for o in &unit.objects {
            let owners = owners.entry(o.key()).or_default();
            if owners.last() != Some(id) {
                owners.push(id.clone());
            }
        }
    }
    let mut out: Vec<String> = owners
        .into_iter()
        .filter(|(_, owners)| owners.len() > 1)
        .map(|(key, owners)| {
            let names: Vec<String> = owners.iter().map(ToString::to_string).collect();
            format!("{key} is applied by {}", names.join(" and "))
        })
        .collect();
    out.sort();
    out
}

/// Units wait for what fails or waits itself.
fn spread_waiting(units: &mut BTreeMap<UnitId, Unit>) {
    loop {
        let unready: BTreeSet<UnitId> = units
            .values()
            .filter(|u| matches!(u.state, UnitState::Failed | UnitState::Waiting { .. } | UnitState::Suspended))
            .map(|u| u.id.clone())
            .collect();
        let mut changed = false;
        for unit in units.values_mut() {
            let on: Vec<UnitId> = unit.depends_on.iter().filter(|d| unready.contains(d)).cloned().collect();
            let waits = match &unit.state {
                UnitState::Ok | UnitState::StandIn { .. } => !on.is_empty(),
                UnitState::Waiting { on: before } => *before != on,
                UnitState::Failed | UnitState::Suspended => false,
            };
            if waits {
                unit.state = UnitState::Waiting { on };
                changed = true;
            }
        }
        if !changed {
            return;
        }
    }
}

/// Units in the order in which they can go: after what they depend on, and after what makes them.
fn in_order(mut units: BTreeMap<UnitId, Unit>) -> Vec<Unit> {
    let mut graph = Graph::default();
    for (id, unit) in &units {
        graph.node(id.clone());
        for on in unit.depends_on.iter().chain(&unit.made_by).filter(|on| *on != id) {
            graph.edge(id.clone(), on.clone());
        }
    }
    let order = graph.order();
    let mut out: Vec<Unit> = order.sorted.iter().filter_map(|id| units.remove(id)).collect();
    // What is on a circle, or behind one, in id order.
    out.extend(units.into_values());
    out
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
