//! A cluster for tests: the API in this process, the controllers, a tree whose revision can change.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

pub mod whole;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use druse_apiserver::ApiServer;
use druse_controllers::{Controllers, Options, Randomness};
use druse_kustomize::tree::MemoryTree;
use druse_object::{Object, Value, yaml};
use druse_plan::TreeInput;
use druse_plan::sources::Sources;
use druse_runtime::{Api, Caches, Manager, Patch, Resource};
use druse_source::{Fetcher, FetcherOptions};

/// The URL under which the tree is known.
pub const URL: &str = "https://localhost/tree";
/// How long anything may take before a test gives up.
const PATIENCE: Duration = Duration::from_secs(90);
/// Events between queues take microseconds.
const QUIET: Duration = Duration::from_millis(200);

pub struct Cluster {
    pub api: Api,
    pub server: Arc<ApiServer>,
    pub manager: Manager,
    pub controllers: Controllers,
    _caches: Caches,
}

fn sources(tree: MemoryTree, revision: &str) -> Arc<Sources> {
    let mut tree = tree;
    let source = format!(
        "apiVersion: source.toolkit.fluxcd.io/v1\nkind: GitRepository\nmetadata: {{name: tree, namespace: flux-system}}\nspec: {{interval: 1h, url: {URL}}}\n"
    );
    tree.insert(".source/tree.yaml", source.into_bytes());
    let input = TreeInput { remotes: vec![URL.into()], revision: revision.into(), ..TreeInput::new(tree) };
    let fetcher = Fetcher::new(FetcherOptions { offline: true, ..FetcherOptions::default() }).unwrap();
    Arc::new(Sources::new(input, Arc::new(fetcher)))
}

impl Cluster {
    /// Without nodes and pods; with them when `simulate`.
    pub async fn start(tree: MemoryTree, revision: &str, simulate: bool) -> Self {
        let nodes = druse_simulate::nodes::Node::numbered(1);
        let options = druse_simulate::Options { nodes, ..druse_simulate::Options::default() };
        Self::simulating(tree, revision, simulate.then_some(options)).await
    }

    /// With what is to be simulated.
    pub async fn simulating(tree: MemoryTree, revision: &str, simulate: Option<druse_simulate::Options>) -> Self {
        let server = Arc::new(ApiServer::builder().build().await.unwrap());
        let api = Api::new(kube::Client::new(server.service(), "default"));
        let caches = Caches::new(api.clone());
        let manager = Manager::new();
        let flux = druse_component::all().iter().find(|c| c.name == "flux").expect("the flux component");
        for crd in flux.crd_objects() {
            api.apply(&crd, "test", false).await.unwrap();
        }
        let crds =
            Resource::new("apiextensions.k8s.io", "v1", "CustomResourceDefinition", "customresourcedefinitions", false);
        caches.retry_missing_on(&manager, &crds);
        if let Some(options) = simulate {
            druse_simulate::start(&manager, &caches, options).await.unwrap();
        }
        let controllers = druse_controllers::start(
            &manager,
            &caches,
            Options {
                sources: sources(tree, revision),
                strict_substitution: true,
                lenient: true,
                keys: Arc::default(),
                keep_own_kinds: true,
                stand_ins: None,
                capabilities: None,
                randomness: Randomness::Seeded,
                concurrency: 8,
                // Longer than a test: nothing may wait for it.
                dependency_requeue: Duration::from_secs(600),
            },
        );
        let cluster = Self { api, server, manager, controllers, _caches: caches };
        cluster.apply("apiVersion: v1\nkind: Namespace\nmetadata: {name: flux-system}\n").await;
        let source = format!(
            "apiVersion: source.toolkit.fluxcd.io/v1\nkind: GitRepository\nmetadata: {{name: tree, namespace: flux-system}}\nspec: {{interval: 1h, url: {URL}}}\n"
        );
        cluster.apply(&source).await;
        let repositories = Resource::new("source.toolkit.fluxcd.io", "v1", "GitRepository", "gitrepositories", true);
        cluster.until(&repositories, "flux-system", "tree", |v| condition(v, "Ready").0 == "True").await;
        cluster
    }

    /// The tree becomes another.
    pub fn revise(&self, tree: MemoryTree, revision: &str) {
        self.controllers.use_sources(sources(tree, revision));
    }

    pub async fn apply(&self, text: &str) {
        for d in yaml::documents(text, yaml::Dialect::Sigs) {
            let object = Object::new(d.unwrap().value);
            if object.kind().is_empty() {
                continue;
            }
            let r = self.api.resource(&object.gvk()).await.unwrap();
            let how = Patch::Apply { manager: "test", force: true, dry_run: false };
            self.api.patch(&r, object.namespace(), object.name(), "", how, &object.value).await.unwrap();
        }
    }

    pub async fn get(&self, r: &Resource, namespace: &str, name: &str) -> Option<Value> {
        self.api.get(r, namespace, name).await.unwrap()
    }

    pub async fn list(&self, r: &Resource, namespace: &str) -> Vec<Value> {
        self.api.list(r, namespace, &Default::default()).await.unwrap().0
    }

    pub async fn merge(&self, r: &Resource, namespace: &str, name: &str, patch: &str) {
        let patch: Value = serde_json::from_str(patch).unwrap();
        self.api.patch(r, namespace, name, "", Patch::Merge, &patch).await.unwrap();
    }

    /// Waits until the object is as wished, and nothing is queued any more.
    pub async fn until(&self, r: &Resource, namespace: &str, name: &str, wish: impl Fn(Option<&Value>) -> bool) {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let now = self.get(r, namespace, name).await;
            if wish(now.as_ref()) {
                break;
            }
            if tokio::time::Instant::now() > deadline {
                panic!(
                    "{} {namespace}/{name} did not become what it should be: {}",
                    r.gvk.kind,
                    serde_json::to_string_pretty(&now).unwrap()
                );
            }
            // Whatever is under way moves some queue.
            let _looked_at_again_anyway = tokio::time::timeout(Duration::from_millis(20), self.manager.moved()).await;
        }
        self.idle().await;
    }

    /// Waits until nothing is queued or running.
    pub async fn idle(&self) {
        tokio::time::timeout(PATIENCE, self.manager.idle(QUIET)).await.expect("the controllers come to rest");
    }
}

pub fn kustomizations() -> Resource {
    Resource::new("kustomize.toolkit.fluxcd.io", "v1", "Kustomization", "kustomizations", true)
}
pub fn helm_releases() -> Resource {
    Resource::new("helm.toolkit.fluxcd.io", "v2", "HelmRelease", "helmreleases", true)
}
pub fn config_maps() -> Resource {
    Resource::new("", "v1", "ConfigMap", "configmaps", true)
}
pub fn secrets() -> Resource {
    Resource::new("", "v1", "Secret", "secrets", true)
}
pub fn pods() -> Resource {
    Resource::new("", "v1", "Pod", "pods", true)
}
pub fn deployments() -> Resource {
    Resource::new("apps", "v1", "Deployment", "deployments", true)
}
pub fn events() -> Resource {
    Resource::new("", "v1", "Event", "events", true)
}

/// A condition's reason and message.
pub fn condition(v: Option<&Value>, kind: &str) -> (String, String, String) {
    let text = |c: &Value, k: &str| c[k].as_str().unwrap_or_default().to_owned();
    v.and_then(|v| v["status"]["conditions"].items().iter().find(|c| c["type"].as_str() == Some(kind)))
        .map(|c| (text(c, "status"), text(c, "reason"), text(c, "message")))
        .unwrap_or_default()
}

pub fn shared() -> Option<PathBuf> {
    let dir = std::env::var_os("DRUSE_SHARED")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared"), PathBuf::from);
    dir.join("flux").is_dir().then_some(dir)
}

/// A folder's files.
pub fn folder(root: &Path) -> MemoryTree {
    fn walk(root: &Path, dir: &Path, tree: &mut MemoryTree) {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(root, &path, tree);
            } else {
                let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
                tree.insert(&name, std::fs::read(&path).unwrap());
            }
        }
    }
    let mut tree = MemoryTree::new();
    walk(root, root, &mut tree);
    tree
}
