//! What a kubelet does for secrets volumes: publishes them before a pod's containers start, with what the CSIDriver object
//! asks for, and takes them away with the pod.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use druse_csi::kubelet::{DRIVER, drivers, publish_request, volume_id, volumes};
use druse_csi::mount::Mounts;
use druse_csi::node::{Node, Published, Settings};
use druse_csi::providers::Providers;
use druse_csi::wire::csi::{NodePublishVolumeRequest, NodeUnpublishVolumeRequest};
use druse_object::Value;
use druse_runtime::{Api, Cache, Caches, Key, Manager, Next, Patch, Reconciler, Recorder, Resource};
use parking_lot::Mutex;
use serde_json::json;

use super::provider::{Foreign, Rehearsed};
use super::{Asked, MOUNTED, VolumeReport, VolumeState, Volumes};

/// Published volumes of a pod, by its UID.
type Targets = HashMap<Key, (String, Vec<(String, PathBuf)>)>;

/// The kubelets of all simulated nodes.
pub(super) struct Kubelet {
    api: Api,
    pods: Arc<Cache>,
    provider: Arc<Rehearsed>,
    /// The names of the tree's other providers.
    foreign: Vec<String>,
    /// Where pods' folders are.
    root: PathBuf,
    mounts: Mounts,
    nodes: Mutex<BTreeMap<String, Node>>,
    targets: Mutex<Targets>,
    reports: Volumes,
    events: Recorder,
}

fn text<'v>(object: &'v Value, path: &[&str; 2]) -> &'v str {
    object.str_at(*path).unwrap_or_default()
}

impl Kubelet {
    /// Starts to publish.
    pub(super) fn start(
        manager: &Manager,
        caches: &Caches,
        provider: Arc<Rehearsed>,
        asked: &Asked,
        place: (PathBuf, Mounts),
        reports: Volumes,
    ) -> Arc<Self> {
        let pods = caches.of(&Resource::new("", "v1", "Pod", "pods", true));
        let own = druse_secrets::provider::serve::NAME;
        let kubelet = Arc::new(Self {
            api: caches.api().clone(),
            pods: pods.clone(),
            provider,
            foreign: asked.providers.iter().filter(|p| *p != own && !p.is_empty()).cloned().collect(),
            root: place.0,
            mounts: place.1,
            nodes: Mutex::default(),
            targets: Mutex::default(),
            reports,
            events: Recorder::new(caches.api().clone(), "kubelet"),
        });
        let queue = manager.queue();
        manager.run("secrets-volumes", &queue, kubelet.clone(), 4);
        manager.watch(&queue, &pods);
        kubelet
    }

    /// Takes mounts of the system down; folders stay.
    pub(super) async fn stop(&self) {
        if self.mounts == Mounts::Folder {
            return;
        }
        let keys: Vec<Key> = self.targets.lock().keys().cloned().collect();
        for key in keys {
            self.take_away(&key).await;
        }
    }

    /// The driver of a node.
    fn node(&self, name: &str) -> Node {
        let mut nodes = self.nodes.lock();
        let made = || {
            let mut providers = Providers::new([]).with(druse_secrets::provider::serve::NAME, self.provider.clone());
            for name in &self.foreign {
                providers = providers.with(name, Arc::new(Foreign(name.clone())));
            }
            let settings = Settings { node: name.into(), mounts: self.mounts, rotation: None };
            Node::new(settings, self.api.clone(), providers)
        };
        nodes.entry(name.to_string()).or_insert_with(made).clone()
    }

    /// Publishes one volume.
    async fn publish(&self, pod: &Value, volume: &Value, target: &Path) -> (VolumeState, usize, String) {
        let request = match self.request(pod, volume, target).await {
            Ok(request) => request,
            Err(e) => return (VolumeState::Failed, 0, e),
        };
        let node = self.node(text(pod, &["spec", "nodeName"]));
        match node.publish(request).await {
            Ok(published) => {
                let objects = match published {
                    Published::Mounted(objects) => objects.len(),
                    // Of an earlier run: what it has is what it keeps.
                    _ => std::fs::read_dir(target.join("..data")).map_or(0, Iterator::count),
                };
                match self.provider.simulated(text(pod, &["metadata", "uid"])) {
                    Some(why) => (VolumeState::Simulated, objects, why),
                    None => (VolumeState::Mounted, objects, String::new()),
                }
            }
            Err(e) => (VolumeState::Failed, 0, e.to_string()),
        }
    }

    /// What the kubelet tells the driver: the volume's own attributes, and of the pod what the CSIDriver asks for. A driver
    /// that is only stood in for has no such object, and is told of the pod.
    async fn request(&self, pod: &Value, volume: &Value, target: &Path) -> Result<NodePublishVolumeRequest, String> {
        let driver = self.api.get(&drivers(), "", DRIVER).await.map_err(|e| format!("CSIDriver {DRIVER}: {e}"))?;
        let driver = driver.unwrap_or_else(|| Value::from(json!({"spec": {"podInfoOnMount": true}})));
        let pod_info = driver["spec"]["podInfoOnMount"].as_bool() == Some(true);
        publish_request(&self.api, &driver, pod, volume, &target.to_string_lossy(), pod_info).await
    }

    /// Takes the volumes of a pod away that is gone.
    async fn take_away(&self, key: &Key) {
        self.reports.lock().remove(&(key.namespace.to_string(), key.name.to_string()));
        let Some((uid, targets)) = self.targets.lock().remove(key) else { return };
        let node = self.node("");
        for (volume, target) in targets {
            let request = NodeUnpublishVolumeRequest {
                volume_id: volume_id(&uid, &volume),
                target_path: target.to_string_lossy().into_owned(),
            };
            if let Err(e) = node.unpublish(request).await {
                tracing::warn!(%key, "{e}");
            }
        }
        // What is left of the pod's folder: empty ones.
        let _ = tokio::fs::remove_dir_all(self.root.join(uid)).await;
    }

    /// Says what is missing: containers wait, and an event tells why.
    async fn failed(&self, pod: &Value, volume: &str, why: &str) {
        let message = format!("MountVolume.SetUp failed for volume {volume:?} : {why}");
        self.events.event(pod, true, "FailedMount", &message, &[]).await;
        if pod.str_at(["status", "phase"]).is_some_and(|p| p != "Pending")
            || !pod["status"]["containerStatuses"].is_null()
        {
            return;
        }
        let waiting = |c: &Value| {
            json!({
                "name": c.str_at(["name"]), "image": c.str_at(["image"]), "imageID": "", "ready": false, "started": false,
                "restartCount": 0, "state": {"waiting": {"reason": "ContainerCreating"}},
            })
        };
        let list = |name: &str| pod["spec"][name].items().iter().map(waiting).collect::<Vec<_>>();
        let status = json!({"status": {"phase": "Pending", "containerStatuses": list("containers")}});
        self.patch(pod, "status", &Value::from(status)).await;
    }

    async fn patch(&self, pod: &Value, subresource: &str, patch: &Value) {
        let (namespace, name) = (text(pod, &["metadata", "namespace"]), text(pod, &["metadata", "name"]));
        let done = self.api.patch(self.pods.resource(), namespace, name, subresource, Patch::Merge, patch).await;
        if let Err(e) = done {
            tracing::debug!("{namespace}/{name}: {e}");
        }
    }
}

impl Reconciler for Kubelet {
    async fn reconcile(&self, key: Key) -> Next {
        let pod = self.pods.get(&key);
        let uid = pod.as_ref().map(|p| text(p, &["metadata", "uid"]).to_string()).unwrap_or_default();
        let other = self.targets.lock().get(&key).is_some_and(|(of, _)| *of != uid);
        if other {
            self.take_away(&key).await;
        }
        let Some(pod) = pod else { return Next::Wait };
        let over = pod.str_at(["status", "phase"]).is_some_and(|p| p == "Succeeded" || p == "Failed");
        if volumes(&pod).next().is_none()
            || pod.str_at(["spec", "nodeName"]).is_none()
            || !pod["metadata"]["deletionTimestamp"].is_null()
            || over
        {
            return Next::Wait;
        }
        let place = (key.namespace.to_string(), key.name.to_string());
        let done = |reports: &[VolumeReport]| reports.iter().all(|r| r.state != VolumeState::Failed);
        if self.targets.lock().contains_key(&key) && self.reports.lock().get(&place).is_some_and(|r| done(r)) {
            return Next::Wait;
        }
        let (mut reports, mut targets) = (Vec::new(), Vec::new());
        for volume in volumes(&pod) {
            let name = volume.str_at(["name"]).unwrap_or_default();
            let target = self.root.join(&uid).join("volumes/kubernetes.io~csi").join(name).join("mount");
            targets.push((name.to_string(), target.clone()));
            let (state, objects, message) = self.publish(&pod, volume, &target).await;
            if state == VolumeState::Failed {
                self.failed(&pod, name, &message).await;
            }
            reports.push(VolumeReport {
                state,
                pod: format!("{}/{}", key.namespace, key.name),
                volume: name.to_string(),
                class: volume
                    .str_at(["csi", "volumeAttributes", "secretProviderClass"])
                    .unwrap_or_default()
                    .to_string(),
                objects,
                path: target.display().to_string(),
                message,
            });
        }
        let good = done(&reports);
        let simulated = reports.iter().any(|r| r.state == VolumeState::Simulated);
        self.targets.lock().insert(key, (uid.clone(), targets));
        self.reports.lock().insert(place, reports);
        if !good {
            return Next::Retry;
        }
        if pod["metadata"]["annotations"][MOUNTED].as_str() != Some(&uid) {
            let mut annotations = json!({ MOUNTED: uid });
            if simulated {
                annotations["druse.dev/secrets"] = json!("simulated: the values are made up");
            }
            self.patch(&pod, "", &Value::from(json!({"metadata": {"annotations": annotations}}))).await;
        }
        Next::Wait
    }
}
