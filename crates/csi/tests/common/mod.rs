//! What the tests share: an embedded API with the driver's kinds and a pod, a provider that does as it is told, a folder
//! that stands for the kubelet's.
#![allow(dead_code, clippy::unwrap_used, clippy::print_stderr, clippy::field_reassign_with_default)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use druse_apiserver::ApiServer;
use druse_csi::mount::Mounts;
use druse_csi::node::{Node, Settings};
use druse_csi::providers::Providers;
use druse_csi::wire::Status;
use druse_csi::wire::csi::{AccessType, MountVolume, NodePublishVolumeRequest, NodeUnpublishVolumeRequest};
use druse_csi::wire::csi::{TOKENS, VolumeCapability};
use druse_csi::wire::provider::{self, File, MountRequest, MountResponse, ObjectVersion, Provider};
use druse_csi::wire::provider::{VersionRequest, VersionResponse};
use druse_object::{Value, json, yaml};
use druse_runtime::{Api, Resource};
use parking_lot::Mutex;

pub const NODE: &str = "node-a";

/// What the provider does next.
#[derive(Clone, Debug)]
pub enum Answer {
    Files(Vec<(String, Vec<u8>, i32)>, String),
    Refuse(Status),
    Code(String),
    Hang,
    NoVersions,
}

/// A request as the provider understood it.
#[derive(Clone, Debug)]
pub struct Seen {
    pub attributes: Value,
    pub secrets: Value,
    pub target: String,
    pub permission: String,
    pub current: Vec<ObjectVersion>,
}

pub struct Fake {
    pub answer: Mutex<Answer>,
    pub seen: Mutex<Vec<Seen>>,
}

impl Fake {
    pub fn new() -> Arc<Self> {
        let fake = Self { answer: Mutex::new(Answer::Hang), seen: Mutex::default() };
        fake.gives(&[("password", "old")], "1");
        Arc::new(fake)
    }
    /// From now on it has these files, each in this version.
    pub fn gives(&self, files: &[(&str, &str)], version: &str) {
        let files = files.iter().map(|(p, c)| ((*p).to_owned(), c.as_bytes().to_vec(), 0o644)).collect();
        *self.answer.lock() = Answer::Files(files, version.into());
    }
    pub fn does(&self, answer: Answer) {
        *self.answer.lock() = answer;
    }
    pub fn asked(&self) -> usize {
        self.seen.lock().len()
    }
    pub fn last(&self) -> Seen {
        self.seen.lock().last().unwrap().clone()
    }
}

impl Provider for Fake {
    async fn version(&self, _: VersionRequest) -> Result<VersionResponse, Status> {
        Ok(VersionResponse {
            version: provider::VERSION.into(),
            runtime_name: "fake".into(),
            runtime_version: "1.0.0".into(),
        })
    }
    async fn mount(&self, request: MountRequest) -> Result<MountResponse, Status> {
        self.seen.lock().push(Seen {
            attributes: json::parse(request.attributes.as_bytes()).unwrap(),
            secrets: json::parse(request.secrets.as_bytes()).unwrap(),
            target: request.target_path.clone(),
            permission: request.permission.clone(),
            current: request.current_object_version.clone(),
        });
        let answer = self.answer.lock().clone();
        let mut response = MountResponse::default();
        match answer {
            Answer::Files(files, version) => {
                for (path, contents, mode) in files {
                    response.object_version.push(ObjectVersion { id: format!("id/{path}"), version: version.clone() });
                    response.files.push(File { path, mode, contents });
                }
                Ok(response)
            }
            Answer::Refuse(status) => Err(status),
            Answer::Code(code) => {
                response.error = Some(provider::Error { code });
                Ok(response)
            }
            Answer::Hang => std::future::pending().await,
            Answer::NoVersions => Ok(response),
        }
    }
}

pub struct World {
    pub dir: tempfile::TempDir,
    pub server: ApiServer,
    pub api: Api,
    pub fake: Arc<Fake>,
}

/// A pod with a secrets volume.
#[derive(Clone, Debug)]
pub struct TestPod {
    pub name: String,
    pub uid: String,
    pub target: PathBuf,
}

const CRDS: &str = "
- {kind: SecretProviderClass, plural: secretproviderclasses}
- {kind: SecretProviderClassPodStatus, plural: secretproviderclasspodstatuses}
";

pub const CLASS: &str = "
apiVersion: secrets-store.csi.x-k8s.io/v1
kind: SecretProviderClass
metadata: {name: app, namespace: default}
spec:
  provider: fake
  parameters: {objects: '- objectName: password', shared: class}
";

impl World {
    pub async fn new() -> Self {
        let server = ApiServer::builder().token("admin").build().await.unwrap();
        let api = Api::new(kube::Client::new(server.service(), "default"));
        let world = Self { dir: tempfile::tempdir().unwrap(), server, api, fake: Fake::new() };
        for crd in yaml::parse_strict(CRDS).unwrap().items() {
            let (kind, plural) = (crd["kind"].as_str().unwrap(), crd["plural"].as_str().unwrap());
            world
                .create(&format!(
                    "
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {{name: {plural}.secrets-store.csi.x-k8s.io}}
spec:
  group: secrets-store.csi.x-k8s.io
  scope: Namespaced
  names: {{kind: {kind}, listKind: {kind}List, plural: {plural}, singular: {}}}
  versions:
  - name: v1
    served: true
    storage: true
    schema: {{openAPIV3Schema: {{type: object, x-kubernetes-preserve-unknown-fields: true}}}}
",
                    kind.to_lowercase()
                ))
                .await;
            // A definition takes effect a moment after it is written.
            let name = format!("{plural}.secrets-store.csi.x-k8s.io");
            world.until("the kind is served", async |w| w.is_established(&name).await.then_some(())).await;
        }
        world.create(CLASS).await;
        world
    }

    /// Creates an object from YAML; returns it as the API has it.
    pub async fn create(&self, text: &str) -> Value {
        let object = yaml::parse_strict(text).unwrap();
        let gvk = druse_object::Gvk::of(&object).unwrap();
        let resource = self.api.resource(&gvk).await.unwrap();
        let namespace = object.str_at(["metadata", "namespace"]).unwrap_or_default().to_owned();
        self.api.create(&resource, &namespace, &object).await.unwrap()
    }

    async fn is_established(&self, definition: &str) -> bool {
        let (group, kind, plural) = ("apiextensions.k8s.io", "CustomResourceDefinition", "customresourcedefinitions");
        let there = self.api.get(&Resource::new(group, "v1", kind, plural, false), "", definition).await.unwrap();
        let conditions = there.as_ref().map(|d| d["status"]["conditions"].items()).unwrap_or_default();
        conditions.iter().any(|c| c.str_at(["type"]) == Some("Established") && c.str_at(["status"]) == Some("True"))
    }

    /// One object by kind, in the default namespace.
    pub async fn get(&self, group: &str, kind: &str, plural: &str, name: &str) -> Option<Value> {
        self.api.get(&Resource::new(group, "v1", kind, plural, true), "default", name).await.unwrap()
    }

    pub async fn secret(&self, name: &str) -> Option<Value> {
        self.get("", "Secret", "secrets", name).await
    }

    pub async fn status(&self, pod: &str) -> Option<Value> {
        let name = format!("{pod}-default-app");
        let group = "secrets-store.csi.x-k8s.io";
        self.get(group, "SecretProviderClassPodStatus", "secretproviderclasspodstatuses", &name).await
    }

    /// Waits until `get` gives what `f` accepts.
    pub async fn until<T>(&self, what: &str, mut get: impl AsyncFnMut(&Self) -> Option<T>) -> T {
        let begun = std::time::Instant::now();
        loop {
            if let Some(found) = get(self).await {
                return found;
            }
            assert!(begun.elapsed() < Duration::from_secs(60), "{what}");
            tokio::task::yield_now().await;
        }
    }

    /// A pod in the default namespace; `owner` is YAML for its ownerReferences.
    pub async fn pod(&self, name: &str, owner: &str) -> TestPod {
        self.pod_with(name, owner, "").await
    }

    /// The same, with further fields of its volume's `csi`.
    pub async fn pod_with(&self, name: &str, owner: &str, csi: &str) -> TestPod {
        let made = self
            .create(&format!(
                "
apiVersion: v1
kind: Pod
metadata: {{name: {name}, namespace: default, ownerReferences: [{owner}]}}
spec:
  nodeName: {NODE}
  containers: [{{name: main, image: 'example.org/app:1'}}]
  volumes:
  - name: secrets
    csi: {{driver: secrets-store.csi.k8s.io, readOnly: true, volumeAttributes: {{secretProviderClass: app}}{csi}}}
"
            ))
            .await;
        let uid = made.str_at(["metadata", "uid"]).unwrap().to_owned();
        let target = self.dir.path().join(format!("pods/{uid}/volumes/kubernetes.io~csi/secrets/mount"));
        TestPod { name: name.into(), uid, target }
    }

    pub fn settings(&self) -> Settings {
        Settings { node: NODE.into(), mounts: Mounts::Folder, rotation: None }
    }

    /// A node with the fake provider in this process.
    pub fn node(&self, settings: Settings) -> Node {
        Node::new(settings, self.api.clone(), Providers::new([]).with("fake", self.fake.clone()))
    }
}

impl TestPod {
    /// The request the kubelet sends.
    pub fn publish(&self) -> NodePublishVolumeRequest {
        let mut r = NodePublishVolumeRequest::default();
        r.volume_id = format!("csi-{}", self.uid);
        r.target_path = self.target.to_str().unwrap().into();
        r.readonly = true;
        r.volume_capability =
            Some(VolumeCapability { access_type: Some(AccessType::Mount(MountVolume::default())), access_mode: None });
        for (k, v) in [
            ("secretProviderClass", "app"),
            ("csi.storage.k8s.io/pod.name", &self.name),
            ("csi.storage.k8s.io/pod.namespace", "default"),
            ("csi.storage.k8s.io/pod.uid", &self.uid),
            ("csi.storage.k8s.io/serviceAccount.name", "default"),
            ("csi.storage.k8s.io/ephemeral", "true"),
            (TOKENS, "{\"sts.amazonaws.com\":{\"token\":\"TOKEN\"}}"),
        ] {
            r.volume_context.insert(k.into(), v.into());
        }
        r
    }

    pub fn unpublish(&self) -> NodeUnpublishVolumeRequest {
        NodeUnpublishVolumeRequest {
            volume_id: format!("csi-{}", self.uid),
            target_path: self.target.to_str().unwrap().into(),
        }
    }

    pub fn file(&self, name: &str) -> String {
        std::fs::read_to_string(self.target.join(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
    }

    /// Names a pod sees.
    pub fn names(&self) -> Vec<String> {
        names(&self.target)
    }
}

/// Names in a folder, the atomic update's own left out.
pub fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = entries.filter(|n| !n.starts_with("..")).collect();
    names.sort();
    names
}

pub fn versions(pairs: &[(&str, &str)]) -> Vec<ObjectVersion> {
    pairs.iter().map(|(i, v)| ObjectVersion { id: (*i).into(), version: (*v).into() }).collect()
}

pub fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

pub fn root() -> bool {
    let root = Mounts::detect() == Mounts::Tmpfs;
    if !root {
        eprintln!("SKIPPED: this needs the right to mount (root)");
    }
    root
}
