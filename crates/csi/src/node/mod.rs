//! Publishing volumes: from the kubelet's request to files in the pod's mount, and away again.
//!
//! Usable without any socket: whoever has a [`Node`] calls [`Node::publish`] as the kubelet would.

mod request;

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use druse_object::{Map, Value};
use druse_runtime::{Api, ApiError, Recorder};
use parking_lot::Mutex;

use crate::class::{Class, ClassError, Pod, PodStatus, statuses};
use crate::metrics::Metrics;
use crate::mount::{MountError, Mounts};
use crate::providers::{ProviderError, Providers};
use crate::volume::{Content, ContentError, Volume};
use crate::wire::csi::{NodePublishVolumeRequest, NodeUnpublishVolumeRequest};
use crate::wire::provider::ObjectVersion;
use crate::wire::{Code, Status};
use request::Wanted;

/// What a node's driver is told.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The node's name.
    pub node: String,
    /// How volumes are mounted.
    pub mounts: Mounts,
    /// How often published volumes are renewed, give or take a tenth; never without.
    pub rotation: Option<Duration>,
}

/// Why a volume is not published or unpublished.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// The request lacks something.
    #[error("{0}")]
    Argument(&'static str),
    /// The volume names no class.
    #[error("the volume has no attribute secretProviderClass")]
    NoClass,
    /// The kubelet does not say for whom.
    #[error("the kubelet does not say which pod the volume is for: set podInfoOnMount: true on the CSIDriver object")]
    NoPodInfo,
    /// The path and the attributes disagree about the pod.
    #[error("the volume's attributes name another pod than its path: set podInfoOnMount: true on the CSIDriver object")]
    ForeignPod,
    /// There is nothing to mount.
    #[error(transparent)]
    Class(#[from] ClassError),
    /// The provider gave nothing.
    #[error(transparent)]
    Provider(#[from] ProviderError),
    /// The provider gave what cannot be written.
    #[error(transparent)]
    Content(#[from] ContentError),
    /// The target is not right, or the system refused.
    #[error(transparent)]
    Mount(#[from] MountError),
    /// The files could not be written.
    #[error("cannot write into {}: {source}", .target.display())]
    Write {
        /// The target.
        target: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The status object could not be written.
    #[error("SecretProviderClassPodStatus {name} cannot be written: {source}")]
    Status {
        /// Its name.
        name: String,
        /// What the API said.
        source: Box<ApiError>,
    },
    /// Something here is wrong.
    #[error("the driver failed in itself; this is a bug")]
    Bug,
}

impl PublishError {
    /// The kind of error, as upstream's metrics name it.
    #[must_use]
    pub fn reason(&self) -> &str {
        match self {
            Self::Class(ClassError::Missing(..)) => "SecretProviderClassNotFound",
            Self::Provider(e) => e.reason(),
            Self::Content(_) | Self::Write { .. } => "FileWriteError",
            Self::Mount(MountError::System { .. }) | Self::Status { .. } | Self::Bug => "FailedToMount",
            Self::Mount(_) => "FailedToEnsureMountPoint",
            _ => "FailedToMount",
        }
    }

    /// The gRPC status code that fits.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::Argument(_) | Self::NoClass | Self::Mount(MountError::Target(_)) => Code::InvalidArgument,
            Self::NoPodInfo | Self::ForeignPod | Self::Class(ClassError::Incomplete { .. } | ClassError::NotServed) => {
                Code::FailedPrecondition
            }
            Self::Class(ClassError::Missing(..)) => Code::NotFound,
            Self::Provider(ProviderError::Refused { code, .. }) => *code,
            Self::Class(ClassError::Api { .. }) | Self::Status { .. } | Self::Provider(_) => Code::Unavailable,
            Self::Content(_) | Self::Mount(_) | Self::Write { .. } | Self::Bug => Code::Internal,
        }
    }
}

/// What publishing did.
#[derive(Debug)]
pub enum Published {
    /// The volume is mounted now, with these objects.
    Mounted(Vec<ObjectVersion>),
    /// It was already, and is not to be renewed now.
    Already,
    /// It was already, and was renewed; whether anything in it changed.
    Renewed(bool),
    /// It was already, and could not be renewed: it keeps what it has. The kubelet is told of no error, because it would
    /// take the volume for not mounted (kubernetes/kubernetes#121271).
    Kept(PublishError),
}

/// What is known of a published volume. Its lock is held by whoever works on the volume.
#[derive(Default)]
struct Known {
    /// When its provider was last asked.
    asked: Option<Instant>,
    /// What it holds, and is in its status object.
    objects: Option<Vec<ObjectVersion>>,
}

/// The driver's work on one node. Cheap to clone.
#[derive(Clone)]
pub struct Node(Arc<Inner>);

struct Inner {
    settings: Settings,
    api: Api,
    providers: Providers,
    metrics: Arc<Metrics>,
    events: Recorder,
    volumes: Mutex<HashMap<PathBuf, Arc<tokio::sync::Mutex<Known>>>>,
}

impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Node").field("settings", &self.0.settings).finish_non_exhaustive()
    }
}

impl Node {
    /// With the API that has the classes, and the providers that have the secrets.
    #[must_use]
    pub fn new(settings: Settings, api: Api, providers: Providers) -> Self {
        let events = Recorder::new(api.clone(), "csi-secrets-store-controller");
        Self(Arc::new(Inner { settings, api, providers, metrics: Arc::default(), events, volumes: Mutex::default() }))
    }

    /// What it was told.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.0.settings
    }

    /// What it counts.
    #[must_use]
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.0.metrics
    }

    /// The providers it asks.
    #[must_use]
    pub fn providers(&self) -> &Providers {
        &self.0.providers
    }

    pub(crate) fn api(&self) -> &Api {
        &self.0.api
    }

    pub(crate) fn events(&self) -> &Recorder {
        &self.0.events
    }

    /// Publishes a volume, or renews one that is published and due. It goes on to its end even when nobody waits for it
    /// any more. One volume is worked on by one call at a time.
    ///
    /// # Errors
    /// When the volume is not published; nothing of it is left then. A volume that was published before stays as it is,
    /// see [`Published::Kept`].
    pub async fn publish(&self, request: NodePublishVolumeRequest) -> Result<Published, PublishError> {
        let node = self.clone();
        tokio::spawn(async move { node.publish_counted(request).await }).await.unwrap_or(Err(PublishError::Bug))
    }

    async fn publish_counted(&self, request: NodePublishVolumeRequest) -> Result<Published, PublishError> {
        let begun = Instant::now();
        let mut provider = String::new();
        let (pod, published) = match Wanted::of(request) {
            Ok(wanted) => {
                let pod = wanted.pod.clone();
                (Some(pod), self.publish_wanted(wanted, &mut provider).await)
            }
            Err(e) => (None, Err(e)),
        };
        let metrics = &self.0.metrics;
        let shown = pod.as_ref().map(Pod::to_string).unwrap_or_default();
        match &published {
            Ok(Published::Mounted(objects)) => {
                metrics.published(&provider);
                tracing::info!(pod = shown, provider, objects = objects.len(), took = ?begun.elapsed(), "volume published");
            }
            Ok(Published::Already) => metrics.published(&provider),
            Ok(Published::Renewed(changed)) => {
                metrics.published(&provider);
                metrics.rotated(&provider, *changed, begun.elapsed());
                if *changed {
                    tracing::info!(pod = shown, provider, took = ?begun.elapsed(), "volume renewed");
                }
            }
            Ok(Published::Kept(e)) => {
                metrics.not_published(&provider, e.reason());
                metrics.not_rotated(&provider, e.reason());
                tracing::warn!(pod = shown, provider, "volume not renewed, it keeps what it has: {e}");
                if let Some(pod) = &pod {
                    let message = format!("secrets are not renewed, the volume keeps what it has: {e}");
                    self.0.events.event(&pod_object(pod), true, "MountRotationFailed", &message, &[]).await;
                }
            }
            Err(e) => {
                metrics.not_published(&provider, e.reason());
                tracing::warn!(pod = shown, provider, "volume not published: {e}");
            }
        }
        published
    }

    async fn publish_wanted(&self, wanted: Wanted, provider: &mut String) -> Result<Published, PublishError> {
        let volume = self.volume(&wanted.target);
        let mut known = volume.lock().await;
        let (mounts, target) = (self.0.settings.mounts, wanted.target.clone());
        let (mounted, again) = blocking(move || -> Result<_, PublishError> {
            let mounted = mounts.is_mounted(&target)?;
            Ok((mounted, mounted && open(&target, None)?.holds_anything().map_err(|e| write_error(&target, e))?))
        })
        .await?;
        if again && !self.is_due(&wanted.target, &known) {
            return Ok(Published::Already);
        }
        match self.fill(&wanted, mounted, again, &mut known, provider).await {
            Ok(changed) if again => Ok(Published::Renewed(changed)),
            Ok(_) => Ok(Published::Mounted(known.objects.clone().unwrap_or_default())),
            Err(e) if again => Ok(Published::Kept(e)),
            Err(e) => {
                // The kubelet tries again from the start.
                let target = wanted.target.clone();
                if let Err(left) = blocking(move || mounts.unmount(&target).map_err(PublishError::from)).await {
                    tracing::warn!(target_path = %wanted.target.display(), "{left}");
                }
                *known = Known::default();
                Err(e)
            }
        }
    }

    /// Asks the provider and writes what it says; whether anything changed.
    async fn fill(
        &self,
        wanted: &Wanted,
        mounted: bool,
        again: bool,
        known: &mut Known,
        provider: &mut String,
    ) -> Result<bool, PublishError> {
        let inner = &self.0;
        let class = Class::get(&inner.api, &wanted.pod.namespace, &wanted.class).await?;
        provider.clone_from(&class.provider);
        let mounts = inner.settings.mounts;
        if !mounted {
            let target = wanted.target.clone();
            blocking(move || mounts.mount(&target).map_err(PublishError::from)).await?;
        }
        let mut status = PodStatus {
            pod: wanted.pod.clone(),
            class: wanted.class.clone(),
            target_path: wanted.target.to_string_lossy().into_owned(),
            objects: Vec::new(),
        };
        let current = match &known.objects {
            Some(objects) => objects.clone(),
            // This process is younger than the mount.
            None if again => self.recorded(&status).await,
            None => Vec::new(),
        };
        let request = wanted.mount_request(&class.parameters, &current)?;
        known.asked = Some(Instant::now());
        let mut response = inner.providers.mount(&class.provider, request).await?;
        let content = Content::new(std::mem::take(&mut response.files))?;
        let (target, group) = (wanted.target.clone(), wanted.group);
        let changed = blocking(move || {
            // A folder that stands in for a mount gives nothing to groups: it is closed to them.
            let volume = open(&target, group.filter(|_| mounts == Mounts::Tmpfs))?;
            // No files at all: the provider writes into the mount itself, as providers did before v0.0.21.
            let own = content.is_empty() && volume.holds_anything().map_err(|e| write_error(&target, e))?;
            if own { Ok(false) } else { volume.write(&content).map_err(|e| write_error(&target, e)) }
        })
        .await?;
        status.objects = std::mem::take(&mut response.object_version);
        status.objects.sort();
        if known.objects.as_ref() != Some(&status.objects) {
            let saved = status.save(&inner.api, &inner.settings.node).await;
            saved.map_err(|source| PublishError::Status { name: status.name(), source: source.into() })?;
            known.objects = Some(status.objects);
        }
        Ok(changed)
    }

    /// What the status object says is mounted; nothing when it cannot be read, which costs the provider an extra read.
    async fn recorded(&self, of: &PodStatus) -> Vec<ObjectVersion> {
        let object = self.0.api.get(&statuses(), &of.pod.namespace, &of.name()).await.ok().flatten();
        let status = object.as_ref().and_then(PodStatus::of);
        status
            .filter(|s| s.pod.uid == of.pod.uid && s.target_path == of.target_path)
            .map(|s| s.objects)
            .unwrap_or_default()
    }

    /// Takes a volume away. Where none is, that is done already. Asks neither provider nor API.
    ///
    /// # Errors
    /// When the request lacks something, or the system refuses.
    pub async fn unpublish(&self, request: NodeUnpublishVolumeRequest) -> Result<(), PublishError> {
        let node = self.clone();
        let done = tokio::spawn(async move { node.unpublish_here(request).await }).await;
        let done = done.unwrap_or(Err(PublishError::Bug));
        match &done {
            Ok(()) => self.0.metrics.unpublished(),
            Err(e) => {
                self.0.metrics.not_unpublished();
                tracing::warn!("volume not unpublished: {e}");
            }
        }
        done
    }

    async fn unpublish_here(&self, request: NodeUnpublishVolumeRequest) -> Result<(), PublishError> {
        if request.volume_id.is_empty() {
            return Err(PublishError::Argument("Volume ID missing in request"));
        }
        if request.target_path.is_empty() {
            return Err(PublishError::Argument("Target path missing in request"));
        }
        let target = PathBuf::from(request.target_path);
        let volume = self.volume(&target);
        let mut known = volume.lock().await;
        let (mounts, path) = (self.0.settings.mounts, target.clone());
        blocking(move || mounts.unmount(&path).map_err(PublishError::from)).await?;
        *known = Known::default();
        drop(known);
        // Forgotten, unless somebody waits for it.
        let mut volumes = self.0.volumes.lock();
        if Arc::strong_count(&volume) == 2 {
            volumes.remove(&target);
        }
        tracing::info!(target_path = %target.display(), "volume unpublished");
        Ok(())
    }

    fn volume(&self, target: &Path) -> Arc<tokio::sync::Mutex<Known>> {
        self.0.volumes.lock().entry(target.into()).or_default().clone()
    }

    /// Whether a published volume is to be renewed now.
    fn is_due(&self, target: &Path, known: &Known) -> bool {
        let Some(interval) = self.0.settings.rotation else { return false };
        let passed = known.asked.map(|at| at.elapsed()).or_else(|| {
            // This process is younger than the mount; the mount says when it was last changed.
            let changed = std::fs::symlink_metadata(target).and_then(|m| m.modified()).ok()?;
            changed.elapsed().ok()
        });
        passed.is_none_or(|p| p >= jittered(interval, target))
    }

    /// Whether the volume at `target` is published and due; false while it is being worked on.
    pub(crate) fn wants_renewal(&self, target: &Path) -> bool {
        match self.0.volumes.lock().get(target) {
            Some(volume) => volume.try_lock().is_ok_and(|known| self.is_due(target, &known)),
            None => self.is_due(target, &Known::default()),
        }
    }
}

/// The interval of one volume: up to a tenth shorter or longer, always the same for one target, so that volumes published
/// together are not renewed together.
fn jittered(interval: Duration, target: &Path) -> Duration {
    use std::hash::{Hash as _, Hasher as _};
    let mut hasher = std::hash::DefaultHasher::new();
    target.hash(&mut hasher);
    let spread = f64::from(u32::try_from(hasher.finish() >> 32).unwrap_or(0)) / f64::from(u32::MAX);
    interval.mul_f64(0.9 + 0.2 * spread)
}

/// Runs what blocks on the file system where it may.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, PublishError> + Send + 'static,
) -> Result<T, PublishError> {
    tokio::task::spawn_blocking(work).await.unwrap_or(Err(PublishError::Bug))
}

fn open(target: &Path, group: Option<u32>) -> Result<Volume, PublishError> {
    Volume::open(target, group).map_err(|e| write_error(target, e))
}

fn write_error(target: &Path, source: io::Error) -> PublishError {
    PublishError::Write { target: target.into(), source }
}

/// A pod as events refer to it.
fn pod_object(pod: &Pod) -> Value {
    let metadata: Map = [("name", pod.name.as_str()), ("namespace", pod.namespace.as_str()), ("uid", pod.uid.as_str())]
        .into_iter()
        .collect();
    let mut object = Map::new();
    object.insert("apiVersion", "v1");
    object.insert("kind", "Pod");
    object.insert("metadata", metadata);
    Value::Map(object)
}

impl From<PublishError> for Status {
    fn from(e: PublishError) -> Self {
        Status::new(e.code(), e.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renewals_of_volumes_published_together_are_spread_over_a_fifth_of_the_interval() {
        let minutes = Duration::from_secs(120);
        let mut all: Vec<_> = (0..500).map(|i| jittered(minutes, Path::new(&format!("/pods/{i}/mount")))).collect();
        assert_eq!(all[7], jittered(minutes, Path::new("/pods/7/mount")));
        all.sort();
        assert!(all[0] >= Duration::from_secs(108) && all[499] <= Duration::from_secs(132));
        // No tenth of the span takes more than a fifth of them.
        let span = Duration::from_millis(2400);
        for start in &all {
            assert!(all.iter().filter(|d| *d >= start && **d < *start + span).count() < 100);
        }
    }
}
