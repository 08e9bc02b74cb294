//! One side of a diff: a plan, the files it was made from, and which of its units say nothing about their objects.

use std::collections::{BTreeMap, HashMap};
use std::sync::OnceLock;

use druse_kustomize::FileTree;
use druse_object::{Object, ObjectKey};
use druse_plan::{Plan, Unit, UnitId, UnitState};

use crate::model::Revision;

/// One side of a diff.
pub struct Side<'a> {
    /// The plan.
    pub plan: &'a Plan,
    /// The files it was made from.
    pub tree: &'a dyn FileTree,
    /// How it is named.
    pub revision: Revision,
    pub(crate) units: HashMap<&'a UnitId, &'a Unit>,
    /// All objects by key, as unit's and object's index; made when first asked for.
    by_key: OnceLock<HashMap<ObjectKey, Vec<(usize, usize)>>>,
}

impl std::fmt::Debug for Side<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Side").field("revision", &self.revision).finish_non_exhaustive()
    }
}

/// Why nothing is known of a unit's objects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unknown {
    /// `failed`, `stand-in`, `suspended`, `unknown`.
    pub(crate) state: &'static str,
    pub(crate) reasons: Vec<String>,
}

impl<'a> Side<'a> {
    /// A plan with its files.
    #[must_use]
    pub fn new(plan: &'a Plan, tree: &'a dyn FileTree, revision: Revision) -> Self {
        let units = plan.units.iter().map(|u| (&u.id, u)).collect();
        Self { plan, tree, revision, units, by_key: OnceLock::new() }
    }

    pub(crate) fn unit(&self, id: &UnitId) -> Option<&'a Unit> {
        self.units.get(id).copied()
    }

    /// The objects of a key, whichever units apply them.
    pub(crate) fn objects(&self, key: &ObjectKey) -> Vec<(&'a Unit, &'a Object)> {
        let all = self.by_key.get_or_init(|| {
            let mut out: HashMap<ObjectKey, Vec<(usize, usize)>> = HashMap::new();
            for (u, unit) in self.plan.units.iter().enumerate() {
                for (o, object) in unit.objects.iter().enumerate() {
                    out.entry(object.key()).or_default().push((u, o));
                }
            }
            out
        });
        let plan = self.plan;
        all.get(key)
            .into_iter()
            .flatten()
            .filter_map(|(u, o)| {
                let unit = plan.units.get(*u)?;
                Some((unit, unit.objects.get(*o)?))
            })
            .collect()
    }

    /// The object of a core kind that units refer to by name.
    pub(crate) fn named(&self, kind: &str, namespace: &str, name: &str) -> Option<(&'a Unit, &'a Object)> {
        let key = ObjectKey { group: "".into(), kind: kind.into(), namespace: namespace.into(), name: name.into() };
        self.objects(&key).first().copied()
    }

    /// Units of the *other* side that this side cannot know: not among its units, because what would make them is not
    /// rendered here.
    pub(crate) fn unknown_of(&self, other: &Side<'a>) -> BTreeMap<&'a UnitId, Unknown> {
        let mut out: BTreeMap<&UnitId, Unknown> = BTreeMap::new();
        for unit in other.plan.units.iter().filter(|u| self.unit(&u.id).is_none() && u.is_root) {
            if let Some(reason) = self.broken_definition(unit) {
                out.insert(&unit.id, Unknown { state: "unknown", reasons: vec![reason] });
            }
        }
        // What makes a unit may be made by another that is unknown.
        loop {
            let mut grew = false;
            for unit in other.plan.units.iter().filter(|u| self.unit(&u.id).is_none()) {
                if out.contains_key(&unit.id) {
                    continue;
                }
                let maker = unit
                    .made_by
                    .iter()
                    .filter(|m| **m != unit.id)
                    .find(|m| self.unit(m).map_or_else(|| out.contains_key(m), |here| unknown(here).is_some()));
                if let Some(maker) = maker {
                    let reasons = vec![format!("{maker}, which makes it, is not rendered")];
                    out.insert(&unit.id, Unknown { state: "unknown", reasons });
                    grew = true;
                }
            }
            if !grew {
                return out;
            }
        }
    }

    /// The definition of a root that is still there, but cannot be read.
    fn broken_definition(&self, unit: &Unit) -> Option<String> {
        let file = unit.definition.provenance.file.as_deref()?;
        let bytes = self.tree.read(file).ok()?;
        let text = String::from_utf8_lossy(&bytes);
        let error = druse_object::yaml::documents(&text, druse_object::yaml::Dialect::Sigs)
            .into_iter()
            .find_map(Result::err)?;
        Some(format!("{file}: its definition cannot be read: {error}"))
    }
}

/// Why nothing is known of a unit's objects; `None` when they are known. A unit that failed after it rendered still has
/// its objects.
pub(crate) fn unknown(unit: &Unit) -> Option<Unknown> {
    let has_objects = !unit.objects.is_empty() || !unit.hooks.is_empty();
    match &unit.state {
        UnitState::Failed if !has_objects => {
            Some(Unknown { state: "failed", reasons: unit.errors.iter().map(ToString::to_string).collect() })
        }
        UnitState::StandIn { component, reason } => {
            Some(Unknown { state: "stand-in", reasons: vec![format!("{component} would stand in for it: {reason}")] })
        }
        UnitState::Suspended => Some(Unknown { state: "suspended", reasons: vec!["it is suspended".into()] }),
        _ => None,
    }
}
