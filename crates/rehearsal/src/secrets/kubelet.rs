//! What a kubelet does for secrets volumes: publishes them before a pod's containers start, with what the CSIDriver object
//! asks for, publishes them again while the pod runs, where the CSIDriver asks for that too, and takes them away with the
//! pod. A real kubelet asks again every minute or so; here a volume is renewed when the local cloud has new values.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

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
use super::{Asked, Changes, MOUNTED, VolumeReport, VolumeState, Volumes};

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
    /// Pods with volumes that the cloud may have newer values for.
    stale: Mutex<HashSet<Key>>,
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
        changes: Option<Changes>,
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
            stale: Mutex::default(),
            reports,
            events: Recorder::new(caches.api().clone(), "kubelet"),
        });
        let queue = manager.queue();
        manager.run("secrets-volumes", &queue, kubelet.clone(), 4);
        manager.watch(&queue, &pods);
        if let Some(mut changes) = changes {
            let kubelet = kubelet.clone();
            manager.keep(tokio::spawn(async move {
                while changes.changed().await.is_ok() {
                    let mounted: Vec<Key> = kubelet.targets.lock().keys().cloned().collect();
                    kubelet.stale.lock().extend(mounted.iter().cloned());
                    mounted.into_iter().for_each(|pod| queue.add(pod));
                }
            }));
        }
        // Of all nodes: the volumes of all of them are on this machine.
        let node = kubelet.node("");
        let api = caches.api();
        let driver = asked.driver.as_deref().map(|user| api.acting_as(user));
        druse_csi::sync::start_as(manager, caches, &node, "", driver.as_ref().unwrap_or(api));
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
            let settings = Settings { node: name.into(), mounts: self.mounts, rotation: Some(Duration::ZERO) };
            Node::new(settings, self.api.clone(), providers)
        };
        nodes.entry(name.to_string()).or_insert_with(made).clone()
    }

    /// Publishes one volume. One that is renewed is left alone where the CSIDriver does not ask for more.
    async fn publish(
        &self,
        pod: &Value,
        volume: &Value,
        target: &Path,
        renewed: bool,
    ) -> Option<(VolumeState, usize, String)> {
        let request = match self.request(pod, volume, target, renewed).await {
            Ok(request) => request?,
            Err(e) => return Some((VolumeState::Failed, 0, e)),
        };
        let node = self.node(text(pod, &["spec", "nodeName"]));
        let published = match node.publish(request).await {
            Ok(published) => published,
            Err(e) => return Some((VolumeState::Failed, 0, e.to_string())),
        };
        let objects = match &published {
            Published::Mounted(objects) => objects.len(),
            _ => std::fs::read_dir(target.join("..data")).map_or(0, Iterator::count),
        };
        let simulated = self.provider.simulated(text(pod, &["metadata", "uid"]));
        Some(match (published, simulated) {
            (Published::Kept(e), _) => (VolumeState::Mounted, objects, format!("not renewed: {e}")),
            (_, Some(why)) => (VolumeState::Simulated, objects, why),
            (_, None) => (VolumeState::Mounted, objects, String::new()),
        })
    }

    /// What the kubelet tells the driver: the volume's own attributes, and of the pod what the CSIDriver asks for; to renew
    /// a volume, only where it asks for that. A driver that is only stood in for has no such object, and is told of the pod.
    async fn request(
        &self,
        pod: &Value,
        volume: &Value,
        target: &Path,
        renewed: bool,
    ) -> Result<Option<NodePublishVolumeRequest>, String> {
        let driver = self.api.get(&drivers(), "", DRIVER).await.map_err(|e| format!("CSIDriver {DRIVER}: {e}"))?;
        let driver = driver.unwrap_or_else(|| Value::from(json!({"spec": {"podInfoOnMount": true}})));
        let asks = |what: &str| driver["spec"][what].as_bool() == Some(true);
        if renewed && !asks("requiresRepublish") {
            return Ok(None);
        }
        let target = target.to_string_lossy();
        publish_request(&self.api, &driver, pod, volume, &target, asks("podInfoOnMount")).await.map(Some)
    }

    /// Takes the volumes of a pod away that is gone.
    async fn take_away(&self, key: &Key) {
        self.reports.lock().remove(&(key.namespace.to_string(), key.name.to_string()));
        self.stale.lock().remove(key);
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
        let before = match self.targets.lock().contains_key(&key) {
            true => self.reports.lock().get(&place).filter(|r| done(r)).cloned(),
            false => None,
        };
        let stale = self.stale.lock().remove(&key);
        if before.is_some() && !stale {
            return Next::Wait;
        }
        let (mut reports, mut targets) = (Vec::new(), Vec::new());
        for volume in volumes(&pod) {
            let name = volume.str_at(["name"]).unwrap_or_default();
            let target = self.root.join(&uid).join("volumes/kubernetes.io~csi").join(name).join("mount");
            targets.push((name.to_string(), target.clone()));
            let published = self.publish(&pod, volume, &target, before.is_some()).await;
            let Some((state, objects, message)) = published else {
                reports.extend(before.iter().flatten().filter(|r| r.volume == name).cloned());
                continue;
            };
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
        let kept = reports.iter().any(|r| r.state == VolumeState::Mounted && !r.message.is_empty());
        self.targets.lock().insert(key.clone(), (uid.clone(), targets));
        self.reports.lock().insert(place, reports);
        if kept {
            self.stale.lock().insert(key.clone());
        }
        if !good || kept {
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
