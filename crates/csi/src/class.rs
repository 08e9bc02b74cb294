//! The objects of a volume in the API: SecretProviderClass, which says what is mounted, and
//! SecretProviderClassPodStatus, which says what was.

use std::collections::BTreeMap;

use druse_object::{Map, Value};
use druse_runtime::{Api, ApiError, Resource};

use crate::wire::provider::ObjectVersion;

const GROUP: &str = "secrets-store.csi.x-k8s.io";
/// On pod statuses: the node they belong to.
pub const NODE_LABEL: &str = "internal.secrets-store.csi.k8s.io/node-name";

/// SecretProviderClass.
#[must_use]
pub fn classes() -> Resource {
    Resource::new(GROUP, "v1", "SecretProviderClass", "secretproviderclasses", true)
}

/// SecretProviderClassPodStatus.
#[must_use]
pub fn statuses() -> Resource {
    Resource::new(GROUP, "v1", "SecretProviderClassPodStatus", "secretproviderclasspodstatuses", true)
}

/// Pod.
#[must_use]
pub fn pods() -> Resource {
    Resource::new("", "v1", "Pod", "pods", true)
}

/// Why there is no class to mount.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ClassError {
    /// It does not exist.
    #[error("SecretProviderClass {0}/{1} does not exist; it must be in the pod's own namespace")]
    Missing(String, String),
    /// It is not complete.
    #[error("SecretProviderClass {namespace}/{name}: {what}")]
    Incomplete {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
        /// What it lacks.
        what: &'static str,
    },
    /// The API does not serve the kind.
    #[error("the API does not know SecretProviderClass: are the CRDs of secrets-store-csi-driver installed?")]
    NotServed,
    /// The API did not give it.
    #[error("SecretProviderClass {namespace}/{name} cannot be read: {source}")]
    Api {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
        /// What the API said.
        source: Box<ApiError>,
    },
}

/// What a SecretProviderClass asks for.
#[derive(Clone, Debug, PartialEq)]
pub struct Class {
    /// The provider's name.
    pub provider: String,
    /// What the provider is told.
    pub parameters: BTreeMap<String, String>,
    /// Whether Secrets are to be made of what is mounted.
    pub syncs: bool,
}

impl Class {
    /// Reads one.
    ///
    /// # Errors
    /// When it does not exist, has no provider or no parameters, or the API is away.
    pub async fn get(api: &Api, namespace: &str, name: &str) -> Result<Self, ClassError> {
        match api.request(http::Method::GET, &classes().path(namespace, name, ""), None, None).await {
            Ok(v) => Self::of(&v),
            Err(e) if e.reason() == "NotFound" && e.is_not_found() && about_an_object(&e) => {
                Err(ClassError::Missing(namespace.into(), name.into()))
            }
            Err(e) if e.is_not_found() => Err(ClassError::NotServed),
            Err(source) => {
                Err(ClassError::Api { namespace: namespace.into(), name: name.into(), source: source.into() })
            }
        }
    }

    /// From the object.
    ///
    /// # Errors
    /// When it has no provider or no parameters.
    pub fn of(v: &Value) -> Result<Self, ClassError> {
        let incomplete = |what| ClassError::Incomplete {
            namespace: v.str_at(["metadata", "namespace"]).unwrap_or_default().into(),
            name: v.str_at(["metadata", "name"]).unwrap_or_default().into(),
            what,
        };
        let provider = v.str_at(["spec", "provider"]).unwrap_or_default();
        if provider.is_empty() {
            return Err(incomplete("spec.provider is not set"));
        }
        let parameters = strings(&v["spec"]["parameters"]);
        if parameters.is_empty() {
            return Err(incomplete("spec.parameters is not set"));
        }
        let syncs = !v["spec"]["secretObjects"].items().is_empty();
        Ok(Self { provider: provider.into(), parameters, syncs })
    }
}

/// A 404 names the object when it was the object that was not found, and nothing when the kind is not served.
fn about_an_object(e: &ApiError) -> bool {
    matches!(e, ApiError::Status { status, .. } if status["details"]["name"].as_str().is_some_and(|n| !n.is_empty()))
}

/// A map of strings; other values are left out.
pub(crate) fn strings(v: &Value) -> BTreeMap<String, String> {
    let entries = v.as_map().into_iter().flat_map(Map::iter);
    entries.filter_map(|(k, v)| Some((k.to_string(), v.as_str()?.to_owned()))).collect()
}

/// The pod a volume is mounted for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
}

impl std::fmt::Display for Pod {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// What is mounted where, as a SecretProviderClassPodStatus says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodStatus {
    /// For whom.
    pub pod: Pod,
    /// The class.
    pub class: String,
    /// Where.
    pub target_path: String,
    /// What, and which version of it.
    pub objects: Vec<ObjectVersion>,
}

impl PodStatus {
    /// The object's name, as upstream makes it.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}-{}-{}", self.pod.name, self.pod.namespace, self.class)
    }

    /// From the object; `None` when it is none of a driver's.
    #[must_use]
    pub fn of(v: &Value) -> Option<Self> {
        let status = v.get("status")?;
        let name = status["podName"].as_str()?;
        let owner = v["metadata"]["ownerReferences"].items().iter().find(|o| o["kind"].as_str() == Some("Pod"));
        let objects = status["objects"].items().iter().map(|o| ObjectVersion {
            id: o["id"].as_str().unwrap_or_default().into(),
            version: o["version"].as_str().unwrap_or_default().into(),
        });
        Some(Self {
            pod: Pod {
                namespace: v.str_at(["metadata", "namespace"])?.into(),
                name: name.into(),
                uid: owner.and_then(|o| o["uid"].as_str()).unwrap_or_default().into(),
            },
            class: status["secretProviderClassName"].as_str()?.into(),
            target_path: status["targetPath"].as_str()?.into(),
            objects: objects.collect(),
        })
    }

    /// Writes it for `node`: made, or changed when there is one of an earlier pod of this name.
    ///
    /// # Errors
    /// What the API answered.
    pub async fn save(&self, api: &Api, node: &str) -> Result<(), ApiError> {
        let statuses = statuses();
        let namespace = &self.pod.namespace;
        match api.create(&statuses, namespace, &self.object(node, None)).await {
            Err(e) if e.reason() == "AlreadyExists" => {}
            made => return made.map(|_| ()),
        }
        // Somebody else may change it meanwhile (the garbage collector, an operator's hand).
        let mut tries = 5;
        loop {
            let Some(current) = api.get(&statuses, namespace, &self.name()).await? else {
                // Of an earlier pod, and collected just now.
                return api.create(&statuses, namespace, &self.object(node, None)).await.map(|_| ());
            };
            match api.replace(&statuses, "", &self.object(node, Some(current))).await {
                Err(e) if e.is_conflict() && tries > 0 => tries -= 1,
                replaced => return replaced.map(|_| ()),
            }
        }
    }

    /// The object, over what it is now.
    fn object(&self, node: &str, current: Option<Value>) -> Value {
        let mut objects = self.objects.clone();
        objects.sort();
        let objects: Value = objects
            .iter()
            .map(|o| Value::Map([("id", o.id.as_str()), ("version", o.version.as_str())].into_iter().collect()))
            .collect();
        let mut status = Map::new();
        status.insert("podName", self.pod.name.as_str());
        status.insert("secretProviderClassName", self.class.as_str());
        status.insert("mounted", true);
        status.insert("targetPath", self.target_path.as_str());
        status.insert("objects", objects);
        let mut owner = Map::new();
        owner.insert("apiVersion", "v1");
        owner.insert("kind", "Pod");
        owner.insert("name", self.pod.name.as_str());
        owner.insert("uid", self.pod.uid.as_str());

        let mut object = current.unwrap_or_default();
        if let Some(m) = object.make_map() {
            m.insert("apiVersion", format!("{GROUP}/v1"));
            m.insert("kind", "SecretProviderClassPodStatus");
            m.insert("status", status);
        }
        if let Some(m) = object.make_map_at(["metadata"]) {
            m.insert("name", self.name());
            m.insert("namespace", self.pod.namespace.as_str());
            m.insert("ownerReferences", Value::Array(vec![Value::Map(owner)]));
        }
        if let Some(labels) = object.make_map_at(["metadata", "labels"]) {
            labels.insert(NODE_LABEL, node);
        }
        object
    }
}
