//! What units see of each other while a plan is made: sources, ConfigMaps and Secrets, served kinds.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use druse_flux::api::SOURCE_GROUP;
use druse_flux::config::{ConfigData, ConfigSource, config_data};
use druse_helm::ApiVersions;
use druse_object::{Gvk, Object, Value};

use crate::kinds::Kinds;

/// Kind, namespace and name of an object that units look up.
pub(crate) type Name = (String, String, String);

/// A state of the plan that units are rendered against.
#[derive(Clone)]
pub(crate) struct World {
    pub(crate) named: Arc<HashMap<Name, Arc<Object>>>,
    pub(crate) kinds: Arc<Kinds>,
    pub(crate) api_versions: Arc<ApiVersions>,
    /// Secrets whose values are not there: what makes them came from the cache.
    pub(crate) withheld: Arc<BTreeSet<Name>>,
}

impl World {
    /// Whether units look objects like this one up. What SOPS encrypted says nothing: its text is not the value.
    pub(crate) fn keeps(object: &Object) -> bool {
        Self::may_keep(&object.gvk()) && (object.value.get("sops").is_none() || object.gvk().group == SOURCE_GROUP)
    }

    /// Whether objects of a kind are among those.
    pub(crate) fn may_keep(gvk: &Gvk) -> bool {
        matches!(gvk.kind.as_str(), "ConfigMap" | "Secret") && gvk.group.is_empty() && gvk.version == "v1"
            || gvk.group == SOURCE_GROUP
    }

    pub(crate) fn get(&self, kind: &str, namespace: &str, name: &str) -> Option<&Arc<Object>> {
        self.named.get(&(kind.to_string(), namespace.to_string(), name.to_string()))
    }
}

/// Whether two states of an object say the same to those that look it up: labels and the like do not matter.
pub(crate) fn same_content(a: &Object, b: &Object) -> bool {
    ["spec", "data", "stringData", "binaryData"].iter().all(|field| a.value.get(field) == b.value.get(field))
}

/// Whether two objects are the same in everything, the order of keys and the place included.
pub(crate) fn identical(a: &Object, b: &Object) -> bool {
    fn same(a: &Value, b: &Value) -> bool {
        match (a, b) {
            (Value::Map(a), Value::Map(b)) => {
                a.len() == b.len() && a.iter().zip(b.iter()).all(|((k, v), (l, w))| k == l && same(v, w))
            }
            (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(v, w)| same(v, w)),
            _ => a == b,
        }
    }
    a.provenance == b.provenance && same(&a.value, &b.value)
}

/// What a unit read while it rendered, to know when it must be rendered again.
#[derive(Clone, Default)]
pub(crate) struct Reads {
    pub(crate) named: BTreeMap<Name, Option<Arc<Object>>>,
    /// API versions asked for, with the answers.
    pub(crate) api: BTreeMap<String, bool>,
    /// The whole list, when all of it was looked at.
    pub(crate) all_api: Option<Arc<ApiVersions>>,
    /// Whether it read something secret besides objects: what it rendered to is kept in memory only.
    pub(crate) secret: bool,
    /// Secrets it read whose values were withheld.
    pub(crate) withheld: BTreeSet<Name>,
}

impl Reads {
    /// Whether rendering again in this world would read the same.
    pub(crate) fn hold_in(&self, world: &World) -> bool {
        let same = |a: &Option<Arc<Object>>, b: Option<&Arc<Object>>| match (a, b) {
            (None, None) => true,
            (Some(a), Some(b)) => Arc::ptr_eq(a, b) || same_content(a, b),
            _ => false,
        };
        self.named.iter().all(|(name, read)| same(read, world.named.get(name))) && self.same_api(world)
    }

    /// Whether what was read is in this world to the letter, with the places it is at: errors name those.
    pub(crate) fn hold_exactly_in(&self, world: &World) -> bool {
        let same = |a: &Option<Arc<Object>>, b: Option<&Arc<Object>>| match (a, b) {
            (None, None) => true,
            (Some(a), Some(b)) => Arc::ptr_eq(a, b) || identical(a, b),
            _ => false,
        };
        self.named.iter().all(|(name, read)| same(read, world.named.get(name))) && self.same_api(world)
    }

    fn same_api(&self, world: &World) -> bool {
        self.api.iter().all(|(v, served)| world.api_versions.has(v) == *served)
            && self.all_api.as_ref().is_none_or(|all| all.iter().eq(world.api_versions.iter()))
    }
}

/// A world that remembers what was asked.
pub(crate) struct Recorder<'a> {
    world: &'a World,
    reads: Mutex<BTreeMap<Name, Option<Arc<Object>>>>,
}

impl<'a> Recorder<'a> {
    pub(crate) fn new(world: &'a World) -> Self {
        Self { world, reads: Mutex::default() }
    }

    pub(crate) fn get(&self, kind: &str, namespace: &str, name: &str) -> Option<Arc<Object>> {
        let found = self.world.get(kind, namespace, name).cloned();
        let name = (kind.to_string(), namespace.to_string(), name.to_string());
        self.reads.lock().unwrap_or_else(PoisonError::into_inner).insert(name, found.clone());
        found
    }

    pub(crate) fn into_reads(self) -> Reads {
        let named = self.reads.into_inner().unwrap_or_else(PoisonError::into_inner);
        let withheld = self.world.withheld.iter().filter(|name| named.contains_key(*name)).cloned().collect();
        Reads { named, withheld, ..Reads::default() }
    }
}

impl crate::sources::Lookup for Recorder<'_> {
    fn get(&self, kind: &str, namespace: &str, name: &str) -> Option<Arc<Object>> {
        Recorder::get(self, kind, namespace, name)
    }
    fn secret(&self, namespace: &str, name: &str) -> Option<ConfigData> {
        self.config("Secret", namespace, name)
    }
}

impl ConfigSource for Recorder<'_> {
    fn config(&self, kind: &str, namespace: &str, name: &str) -> Option<ConfigData> {
        self.get(kind, namespace, name).map(|o| config_data(&o.value))
    }
}
