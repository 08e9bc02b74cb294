//! What units see of each other while a plan is made: sources, ConfigMaps and Secrets, served kinds.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use druse_flux::api::SOURCE_GROUP;
use druse_flux::config::{ConfigData, ConfigSource, config_data};
use druse_helm::ApiVersions;
use druse_object::Object;

use crate::kinds::Kinds;

/// Kind, namespace and name of an object that units look up.
pub(crate) type Name = (String, String, String);

/// A state of the plan that units are rendered against.
#[derive(Clone)]
pub(crate) struct World {
    pub(crate) named: Arc<HashMap<Name, Arc<Object>>>,
    pub(crate) kinds: Arc<Kinds>,
    pub(crate) api_versions: Arc<ApiVersions>,
}

impl World {
    /// Whether units look objects like this one up. What SOPS encrypted says nothing: its text is not the value.
    pub(crate) fn keeps(object: &Object) -> bool {
        matches!(object.kind(), "ConfigMap" | "Secret")
            && object.api_version() == "v1"
            && object.value.get("sops").is_none()
            || object.gvk().group == SOURCE_GROUP
    }

    pub(crate) fn get(&self, kind: &str, namespace: &str, name: &str) -> Option<&Arc<Object>> {
        self.named.get(&(kind.to_string(), namespace.to_string(), name.to_string()))
    }
}

/// Whether two states of an object say the same to those that look it up: labels and the like do not matter.
pub(crate) fn same_content(a: &Object, b: &Object) -> bool {
    ["spec", "data", "stringData", "binaryData"].iter().all(|field| a.value.get(field) == b.value.get(field))
}

/// What a unit read while it rendered, to know when it must be rendered again.
#[derive(Clone, Default)]
pub(crate) struct Reads {
    pub(crate) named: BTreeMap<Name, Option<Arc<Object>>>,
    /// API versions asked for, with the answers.
    pub(crate) api: BTreeMap<String, bool>,
    /// The whole list, when all of it was looked at.
    pub(crate) all_api: Option<Arc<ApiVersions>>,
}

impl Reads {
    /// Whether rendering again in this world would read the same.
    pub(crate) fn hold_in(&self, world: &World) -> bool {
        let same = |a: &Option<Arc<Object>>, b: Option<&Arc<Object>>| match (a, b) {
            (None, None) => true,
            (Some(a), Some(b)) => Arc::ptr_eq(a, b) || same_content(a, b),
            _ => false,
        };
        self.named.iter().all(|(name, read)| same(read, world.named.get(name)))
            && self.api.iter().all(|(v, served)| world.api_versions.has(v) == *served)
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
        self.reads
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert((kind.to_string(), namespace.to_string(), name.to_string()), found.clone());
        found
    }

    pub(crate) fn into_reads(self) -> Reads {
        Reads { named: self.reads.into_inner().unwrap_or_else(PoisonError::into_inner), ..Reads::default() }
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
