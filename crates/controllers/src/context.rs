//! What all controllers of a process share.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use druse_flux::FluxError;
use druse_flux::api::{HELM_GROUP, KUSTOMIZE_GROUP, SOURCE_GROUP};
use druse_flux::config::{ConfigData, config_data};
use druse_helm::Capabilities;
use druse_object::{Map, Object, Value};
use druse_plan::StandIns;
use druse_plan::sources::{Lookup, Sources};
use druse_runtime::{Api, ApiError, Cache, Caches, Key, Next, Patch, Resource, clock};
use parking_lot::{Mutex, RwLock};

use crate::conditions::Conditions;

/// Where randomness and the clock of templates come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Randomness {
    /// Seeded by unit, template and call: a rehearsal repeats itself.
    Seeded,
    /// True randomness, for a real cluster.
    True,
}

/// How the controllers run.
#[derive(Clone)]
pub struct Options {
    /// How sources become files and charts; [`crate::Controllers::use_sources`] replaces it.
    pub sources: Arc<Sources>,
    /// Whether a variable without value and default fails a Kustomization, as Flux 2.8 and later have it.
    pub strict_substitution: bool,
    /// Whether what cannot be had does not fail its Kustomization: values that no key opens get placeholders, remote
    /// resources that nobody has are left out, each with an event that says so. For rehearsals.
    pub lenient: bool,
    /// Keys for what SOPS encrypted, besides those in the Secrets that Kustomizations name.
    pub keys: Arc<druse_sops::Identities>,
    /// Whether CustomResourceDefinitions of the kinds that these controllers reconcile stay as they are when a
    /// Kustomization brings others. For rehearsals, where these controllers stand in for the Flux that a tree brings:
    /// definitions of another version of Flux would take away the versions they work with.
    pub keep_own_kinds: bool,
    /// What can stand in for charts and sources that are not at hand; `None` when nothing may.
    pub stand_ins: Option<Arc<dyn StandIns>>,
    /// What templates see of the cluster; `None` to ask the API each time.
    pub capabilities: Option<Capabilities>,
    /// Randomness of templates.
    pub randomness: Randomness,
    /// Units worked on at once.
    pub concurrency: usize,
    /// How soon something that waits for another is looked at again, if no event brings it back before.
    pub dependency_requeue: Duration,
}

/// The kinds the controllers reconcile.
pub(crate) mod kinds {
    use super::{HELM_GROUP, KUSTOMIZE_GROUP, Resource, SOURCE_GROUP};
    pub fn kustomizations() -> Resource {
        Resource::new(KUSTOMIZE_GROUP, "v1", "Kustomization", "kustomizations", true)
    }
    pub fn helm_releases() -> Resource {
        Resource::new(HELM_GROUP, "v2", "HelmRelease", "helmreleases", true)
    }
    pub fn sources() -> [Resource; 5] {
        [
            ("GitRepository", "gitrepositories"),
            ("OCIRepository", "ocirepositories"),
            ("HelmRepository", "helmrepositories"),
            ("HelmChart", "helmcharts"),
            ("Bucket", "buckets"),
        ]
        .map(|(kind, plural)| Resource::new(SOURCE_GROUP, "v1", kind, plural, true))
    }
    pub fn namespaces() -> Resource {
        Resource::new("", "v1", "Namespace", "namespaces", false)
    }
    pub fn crds() -> Resource {
        Resource::new("apiextensions.k8s.io", "v1", "CustomResourceDefinition", "customresourcedefinitions", false)
    }
    pub fn config(kind: &str) -> Resource {
        let plural = if kind == "Secret" { "secrets" } else { "configmaps" };
        Resource::new("", "v1", kind, plural, true)
    }
}

/// Shared by the controllers of a process.
pub(crate) struct Context {
    pub api: Api,
    pub options: Options,
    trees: RwLock<Arc<Sources>>,
    pub sources: BTreeMap<String, Arc<Cache>>,
    pub kustomizations: Arc<Cache>,
    pub helm_releases: Arc<Cache>,
    /// Units that failed for a kind that is not served, a namespace or a ConfigMap that is not there, yet; woken by new
    /// ones and by units that become ready.
    pub missing_kinds: Mutex<BTreeSet<(&'static str, Key)>>,
    /// Counts new kinds and namespaces: a unit that failed while one came must look again.
    pub arrivals: AtomicU64,
}

impl Context {
    pub fn new(caches: &Caches, options: Options) -> Self {
        Self {
            api: caches.api().clone(),
            sources: kinds::sources().iter().map(|r| (r.gvk.kind.to_string(), caches.of(r))).collect(),
            kustomizations: caches.of(&kinds::kustomizations()),
            helm_releases: caches.of(&kinds::helm_releases()),
            missing_kinds: Mutex::default(),
            arrivals: AtomicU64::new(0),
            trees: RwLock::new(options.sources.clone()),
            options,
        }
    }

    /// How sources become files and charts, as of now.
    pub fn trees(&self) -> Arc<Sources> {
        self.trees.read().clone()
    }

    /// From now on, sources become files and charts so.
    pub fn use_trees(&self, sources: Arc<Sources>) {
        *self.trees.write() = sources;
    }

    /// The API with the rights of a unit: its service account's where it names one.
    pub fn api_for(&self, namespace: &str, service_account: Option<&str>) -> Api {
        match service_account.filter(|a| !a.is_empty()) {
            Some(account) => self.api.acting_as(&format!("system:serviceaccount:{namespace}:{account}")),
            None => self.api.clone(),
        }
    }

    /// How many kinds and namespaces have come so far.
    pub fn arrivals(&self) -> u64 {
        self.arrivals.load(Ordering::SeqCst)
    }

    /// Notes that a unit waits for a kind, a namespace or what another unit makes; says when to look again: at once when one came since `since`.
    pub fn wait_for_arrival(&self, unit: (&'static str, Key), since: u64, otherwise: Duration) -> Next {
        self.missing_kinds.lock().insert(unit);
        if self.arrivals() == since { Next::After(otherwise) } else { Next::After(Duration::from_millis(10)) }
    }

    /// A source object from the caches.
    pub fn source(&self, kind: &str, namespace: &str, name: &str) -> Option<Arc<Value>> {
        self.sources.get(kind)?.get(&Key::new(namespace, name))
    }

    /// The ConfigMaps and Secrets a unit reads, fetched now. Those that do not exist are left out.
    ///
    /// # Errors
    /// What the API answered, other than not found.
    pub async fn configs<'a>(
        &self,
        namespace: &str,
        wanted: impl Iterator<Item = (&'a str, &'a str)>,
    ) -> Result<BTreeMap<(String, String, String), ConfigData>, ApiError> {
        let mut found = BTreeMap::new();
        for (kind, name) in wanted {
            if let Some(v) = self.api.get(&kinds::config(kind), namespace, name).await? {
                found.insert((kind.to_owned(), namespace.to_owned(), name.to_owned()), config_data(&v));
            }
        }
        Ok(found)
    }

    /// Writes the status of `new` where it differs from `old`'s.
    ///
    /// # Errors
    /// What the API answered; an object that is gone meanwhile is no error.
    pub async fn write_status(&self, r: &Resource, old: &Value, new: &Value) -> Result<(), ApiError> {
        if old["status"] == new["status"] {
            return Ok(());
        }
        let mut status = new["status"].as_map().cloned().unwrap_or_default();
        for k in old["status"].as_map().into_iter().flat_map(Map::keys) {
            if !status.contains_key(k) {
                status.insert(k.clone(), Value::Null);
            }
        }
        let mut patch = Map::new();
        patch.insert("status", status);
        let key = Key::of(new);
        unless_gone(
            self.api.patch(r, &key.namespace, &key.name, "status", Patch::Merge, &Value::Map(patch)).await,
            r,
            &key,
        )
    }

    /// Says on an object that its spec cannot be read; its next change brings it back.
    pub async fn refuse_spec(&self, r: &Resource, object: &Value, why: &FluxError) -> Next {
        let mut new = object.clone();
        conditions(&mut new, &clock::now()).set("Ready", "False", "InvalidSpec", &why.to_string());
        let _next_change_brings_it_back = self.write_status(r, object, &new).await;
        Next::Wait
    }

    /// Adds or removes a finalizer; an object that is gone meanwhile is no error.
    ///
    /// # Errors
    /// What the API answered.
    pub async fn set_finalizer(&self, r: &Resource, object: &Value, name: &str, on: bool) -> Result<(), ApiError> {
        let mut list: Vec<Value> = object["metadata"]["finalizers"].items().to_vec();
        let has = list.iter().any(|f| f.as_str() == Some(name));
        if has == on {
            return Ok(());
        }
        if on {
            list.push(name.into());
        } else {
            list.retain(|f| f.as_str() != Some(name));
        }
        let mut patch = Value::default();
        if let Some(m) = patch.make_map_at(["metadata"]) {
            m.insert("finalizers", list);
            m.insert("resourceVersion", object["metadata"]["resourceVersion"].clone());
        }
        let key = Key::of(object);
        unless_gone(self.api.patch(r, &key.namespace, &key.name, "", Patch::Merge, &patch).await, r, &key)
    }
}

/// The outcome of a write to an object that may be gone meanwhile; what the API refuses is logged, it is tried again.
fn unless_gone(result: Result<Value, ApiError>, r: &Resource, key: &Key) -> Result<(), ApiError> {
    match result {
        Err(e) if e.is_not_found() => Ok(()),
        Err(e) if e.is_conflict() => Err(e),
        Err(e) => {
            tracing::warn!("{} {key}: {e}", r.gvk.kind);
            Err(e)
        }
        Ok(_) => Ok(()),
    }
}

/// Source objects as rendering looks them up: from the watch caches, Secrets for credentials fetched beforehand.
pub(crate) struct CacheLookup<'a> {
    pub context: &'a Context,
    pub secrets: BTreeMap<(String, String, String), ConfigData>,
}

impl Lookup for CacheLookup<'_> {
    fn get(&self, kind: &str, namespace: &str, name: &str) -> Option<Arc<Object>> {
        self.context.source(kind, namespace, name).map(|v| Arc::new(Object::new((*v).clone())))
    }
    fn secret(&self, namespace: &str, name: &str) -> Option<ConfigData> {
        self.secrets.get(&("Secret".to_owned(), namespace.to_owned(), name.to_owned())).cloned()
    }
}

/// The finalizer of all Flux objects.
pub(crate) const FINALIZER: &str = "finalizers.fluxcd.io";
/// Asks for a reconcile now; its value is echoed in the status.
pub(crate) const RECONCILE_AT: &str = "reconcile.fluxcd.io/requestedAt";

/// The conditions of an object, to change.
pub(crate) fn conditions<'a>(object: &'a mut Value, now: &'a str) -> Conditions<'a> {
    Conditions { object, now }
}

/// Whether a change is one to reconcile for: new, respecified, asked for, or on its way out; not its own status.
pub(crate) fn matters(old: Option<&Value>, new: Option<&Value>) -> bool {
    let (Some(old), Some(new)) = (old, new) else { return true };
    old["metadata"]["generation"] != new["metadata"]["generation"]
        || old["metadata"]["deletionTimestamp"] != new["metadata"]["deletionTimestamp"]
        || old["metadata"]["annotations"][RECONCILE_AT] != new["metadata"]["annotations"][RECONCILE_AT]
}

/// Whether a reference of `unit` (`name`, and `namespace` where it is not the unit's own) means the object under `key`.
pub(crate) fn refers_to(unit: &Value, reference: &Value, key: &Key) -> bool {
    let own = unit.str_at(["metadata", "namespace"]).unwrap_or_default();
    reference["name"].as_str() == Some(&key.name)
        && reference["namespace"].as_str().filter(|n| !n.is_empty()).unwrap_or(own) == key.namespace
}

/// Whether `unit` waits for the unit under `key`, which is of its own kind.
pub(crate) fn depends_on(unit: &Value, key: &Key) -> bool {
    unit["spec"]["dependsOn"].items().iter().any(|d| refers_to(unit, d, key))
}
