//! From what units rendered to to the plan: final identities of objects, dependencies, duplicates, states, order.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use druse_flux::graph::Graph;
use druse_object::{Gvk, Object, ObjectKey, Provenance, Str, Value};

use crate::codec::Writer;
use crate::kinds::Kinds;
use crate::model::{Fault, Unit, UnitError, UnitId, UnitState};
use crate::render::{Done, Output};
use crate::shared::Objects;
use crate::trace::Asked;

/// The namespace of objects that name none where nothing else says one.
pub(crate) const DEFAULT_NAMESPACE: &str = "default";

/// What the final identity of an object depends on: what it says itself.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Head {
    pub(crate) gvk: Gvk,
    pub(crate) namespace: Str,
    pub(crate) name: Str,
    pub(crate) provenance: Provenance,
}

impl Head {
    pub(crate) fn of(o: &Object) -> Self {
        Self { gvk: o.gvk(), namespace: o.namespace().into(), name: o.name().into(), provenance: o.provenance.clone() }
    }
}

/// What gives one of a unit's objects (counted with its hooks behind them) its final identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fix {
    at: usize,
    /// The namespace it gets; none when it loses the one it has.
    namespace: Option<Str>,
}

impl Fix {
    /// Writes down what it does.
    pub(crate) fn write(&self, w: &mut Writer) {
        w.number(self.at as u64);
        w.optional(self.namespace.as_deref(), Writer::text);
    }

    fn apply(&self, o: &mut Object) {
        let Some(meta) = o.metadata_mut() else { return };
        match &self.namespace {
            Some(namespace) => drop(meta.insert("namespace", namespace.clone())),
            None => drop(meta.remove("namespace")),
        }
    }
}

/// What is to be said and done about a unit's objects where these kinds are served: what has no namespace in the file
/// gets the unit's, what can have none loses it.
pub(crate) struct Finish {
    pub(crate) fixes: Vec<Fix>,
    errors: Vec<UnitError>,
    warnings: Vec<String>,
}

pub(crate) fn finish(output: &Output, kinds: &Kinds) -> Finish {
    let mut out = Finish { fixes: Vec::new(), errors: Vec::new(), warnings: Vec::new() };
    let mut not_served: BTreeMap<String, &Provenance> = BTreeMap::new();
    for (at, Head { gvk, namespace, name, provenance }) in output.heads.iter().enumerate() {
        let namespaced = kinds.is_namespaced(&gvk.group, &gvk.kind);
        if namespaced.is_none() {
            not_served.entry(gvk.to_string()).or_insert(provenance);
        } else if !kinds.serves(&gvk.group, &gvk.version, &gvk.kind) {
            let versions: Vec<&str> = kinds.versions(&gvk.group, &gvk.kind).collect();
            out.warnings.push(format!(
                "{provenance}: {} is not served in version {}, only in {}",
                gvk.kind,
                gvk.version,
                versions.join(", ")
            ));
        }
        match (namespaced, namespace.is_empty()) {
            (Some(false), false) => out.fixes.push(Fix { at, namespace: None }),
            (Some(true), true) => {
                let namespace = if output.default_namespace.is_empty() {
                    // What Flux' server-side apply says when a Kustomization leaves the namespace open.
                    out.errors.push(
                        UnitError::new(format!("{}/{name} namespace not specified: an empty namespace may not be set when a resource name is provided", gvk.kind))
                            .at(provenance)
                            .help("set metadata.namespace, or namespace in the kustomization, or spec.targetNamespace")
                            .fault(Fault::NoNamespace),
                    );
                    DEFAULT_NAMESPACE
                } else {
                    &output.default_namespace
                };
                out.fixes.push(Fix { at, namespace: Some(namespace.into()) });
            }
            _ => {}
        }
    }
    out.warnings.extend(not_served.into_iter().map(|(gvk, place)| {
        format!("{gvk} (first in {place}) is served by nothing in the plan: no CustomResourceDefinition defines it")
    }));
    out
}

/// Does to a unit's objects what is to be done; those of an output that others hold too are copied first, those not
/// looked at yet are changed when they are.
pub(crate) fn apply(output: &mut Arc<Output>, fixes: &[Fix]) {
    if fixes.is_empty() {
        return;
    }
    let output = Arc::make_mut(output);
    let count = output.objects.len();
    for fix in fixes {
        if let Some(hook) = fix.at.checked_sub(count).and_then(|at| output.hooks.get_mut(at)) {
            fix.apply(&mut hook.object);
        }
    }
    if output.objects.is_made() {
        let objects = output.objects.make_mut();
        for fix in fixes {
            if let Some(object) = objects.get_mut(fix.at) {
                fix.apply(object);
            }
        }
        return;
    }
    let (base, fixes) = (output.objects.clone(), fixes.to_vec());
    output.objects = Objects::lazy(count, move |i| {
        let mut object = base.one(i).unwrap_or_else(|| Object::new(Value::default()));
        fixes.iter().filter(|fix| fix.at == i).for_each(|fix| fix.apply(&mut object));
        object
    });
}

/// The keys of a unit's own objects (hooks come and go), as fixed.
pub(crate) fn keys(output: &Output, fixes: &[Fix]) -> Vec<ObjectKey> {
    let mut keys: Vec<ObjectKey> = output
        .heads
        .iter()
        .take(output.objects.len())
        .map(|h| ObjectKey {
            group: h.gvk.group.clone(),
            kind: h.gvk.kind.clone(),
            namespace: h.namespace.clone(),
            name: h.name.clone(),
        })
        .collect();
    for fix in fixes {
        if let Some(key) = keys.get_mut(fix.at) {
            key.namespace = fix.namespace.clone().unwrap_or_default();
        }
    }
    keys
}

/// Puts a unit together.
pub(crate) fn unit(
    id: &UnitId,
    definition: &Arc<Object>,
    made_by: &[UnitId],
    is_root: bool,
    done: &Done,
    finish: Finish,
) -> Unit {
    let output = &done.output;
    let state = match (&output.stand_in, output.suspended) {
        (_, true) => UnitState::Suspended,
        (Some((stand_in, reason)), _) => {
            UnitState::StandIn { component: stand_in.component.clone(), reason: reason.clone() }
        }
        _ => UnitState::Ok,
    };
    Unit {
        id: id.clone(),
        definition: Arc::clone(definition),
        made_by: made_by.to_vec(),
        is_root,
        depends_on: output.depends_on.clone(),
        source: done.source.clone(),
        chart: output.chart.clone(),
        state,
        objects: Objects::clone(&output.objects),
        secrets_withheld: output.withheld,
        asked: Asked(Arc::clone(&done.trace)),
        kept: done.kept().finished(&finish.fixes),
        hooks: output.hooks.clone(),
        errors: output.errors.iter().cloned().chain(finish.errors).collect(),
        warnings: output.warnings.iter().cloned().chain(finish.warnings).collect(),
        unresolved: output.unresolved.clone(),
    }
}

/// Dependencies on nothing and in circles are errors of the units that have them.
pub(crate) fn check_dependencies(units: &mut BTreeMap<UnitId, Unit>) {
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
pub(crate) fn duplicates<'a>(keys: impl Iterator<Item = (&'a UnitId, &'a [ObjectKey])>) -> Vec<String> {
    let mut owners: HashMap<&ObjectKey, Vec<&UnitId>> = HashMap::new();
    for (id, key) in keys.flat_map(|(id, keys)| keys.iter().map(move |key| (id, key))) {
        let owners = owners.entry(key).or_default();
        if owners.last() != Some(&id) {
            owners.push(id);
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
pub(crate) fn spread_waiting(units: &mut BTreeMap<UnitId, Unit>) {
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
pub(crate) fn in_order(mut units: BTreeMap<UnitId, Unit>) -> Vec<Unit> {
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
