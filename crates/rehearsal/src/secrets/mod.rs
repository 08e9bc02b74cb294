//! The keyless secrets path, walked for every pod of a tree that mounts a SecretProviderClass.
//!
//! [`kubelet`] publishes the volumes as a kubelet would, with the CSI driver's own node service; [`provider`] is the AWS
//! provider behind it, which reads of the local cloud that [`aws`] makes of the tree's Terraform. Every byte goes the real
//! way: the pod's token, STS, the Parameter Store, the files. Values are made up unless the cloud's folder holds others;
//! where the tree does not say what a role may do, files are made up too, and that is said. A pod whose way is broken
//! stays in ContainerCreating, with the reason as an event and in the report. Secrets that classes ask for with
//! `secretObjects` are made with the rights of the tree's driver.

mod aws;
mod kubelet;
mod provider;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use druse_csi::mount::Mounts;
use druse_object::Value;
use druse_plan::Plan;
use druse_runtime::{Api, Caches, Manager};
use parking_lot::Mutex;
use serde::Serialize;

use crate::RehearsalError;
pub(crate) use aws::Aws;
use kubelet::Kubelet;

/// On a pod whose secrets volumes are mounted: its UID.
const MOUNTED: &str = "druse.dev/secrets-mounted";

/// How a secrets volume of a pod stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum VolumeState {
    /// It cannot be mounted.
    Failed,
    /// Its files are made up, since the tree does not say what a role may do.
    Simulated,
    /// It is mounted.
    Mounted,
}

/// A secrets volume of a pod.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct VolumeReport {
    /// How it stands.
    pub state: VolumeState,
    /// `namespace/name` of the pod.
    pub pod: String,
    /// The volume.
    pub volume: String,
    /// The SecretProviderClass.
    pub class: String,
    /// How many objects it holds.
    pub objects: usize,
    /// Where its files are.
    pub path: String,
    /// Why it is not simply mounted.
    pub message: String,
}

/// What the rehearsal knows of the volumes, by pod.
type Volumes = Arc<Mutex<BTreeMap<(String, String), Vec<VolumeReport>>>>;

/// Counts the changes of what the local cloud keeps.
type Changes = tokio::sync::watch::Receiver<u64>;

/// The path while it is walked.
pub(crate) struct Path {
    volumes: Volumes,
    kubelet: Arc<Kubelet>,
    /// Holds the files of a rehearsal that keeps nothing.
    _folder: Option<tempfile::TempDir>,
    cloud: Option<provider::LocalCloud>,
}

/// What the plan's SecretProviderClasses ask for.
pub(crate) struct Asked {
    /// `spec.provider` of each.
    pub(crate) providers: Vec<String>,
    /// `spec.parameters` of each that is AWS'.
    pub(crate) parameters: Vec<Value>,
    /// The accounts of the roles that ServiceAccounts name.
    pub(crate) accounts: Vec<String>,
    /// As whom the tree's driver runs, where it has one.
    pub(crate) driver: Option<String>,
}

impl Asked {
    /// Reads a plan, before its objects are forgotten.
    pub(crate) fn of(plan: &Plan) -> Self {
        let mut asked = Self { providers: Vec::new(), parameters: Vec::new(), accounts: Vec::new(), driver: None };
        for o in plan.units.iter().flat_map(|u| &u.objects) {
            match o.kind() {
                "SecretProviderClass" => {
                    let provider = o.value.str_at(["spec", "provider"]).unwrap_or_default();
                    asked.providers.push(provider.to_string());
                    if provider == druse_secrets::provider::serve::NAME {
                        asked.parameters.push(o.value["spec"]["parameters"].clone());
                    }
                }
                "ServiceAccount" => {
                    let arn = o.annotation("eks.amazonaws.com/role-arn").and_then(druse_aws::arn::Arn::parse);
                    asked.accounts.extend(arn.map(|a| a.account.to_string()));
                }
                "DaemonSet" => {
                    let account = druse_csi::kubelet::driver_account(&o.value);
                    let user = account.map(|a| format!("system:serviceaccount:{}:{a}", o.namespace()));
                    asked.driver = asked.driver.or(user);
                }
                _ => {}
            }
        }
        asked.providers.sort();
        asked.providers.dedup();
        asked.accounts.sort();
        asked.accounts.dedup();
        asked
    }
}

/// What holds a pod until its secrets are mounted.
pub(crate) fn hold() -> druse_simulate::Hold {
    druse_simulate::Hold::while_true(|object| {
        let uid = object.str_at(["metadata", "uid"]).unwrap_or_default();
        druse_csi::kubelet::volumes(object).next().is_some()
            && object["metadata"]["annotations"][MOUNTED].as_str() != Some(uid)
    })
}

impl Path {
    /// Starts the cloud, where the plan needs one, and the kubelet.
    pub(crate) async fn start(
        api: &Api,
        manager: &Manager,
        caches: &Caches,
        aws: Aws,
        asked: Asked,
        place: (Option<PathBuf>, Mounts),
    ) -> Result<Self, RehearsalError> {
        let internal = |e: &dyn std::fmt::Display| RehearsalError::Internal(format!("the secrets path: {e}"));
        let (data_dir, mounts) = place;
        let folder = match &data_dir {
            Some(_) => None,
            None => Some(tempfile::tempdir().map_err(|e| internal(&e))?),
        };
        let root = data_dir.clone().or_else(|| folder.as_ref().map(|f| f.path().into())).unwrap_or_default();
        let (provider, cloud) = provider::Rehearsed::start(api, aws, &asked, data_dir.as_deref()).await?;
        let volumes = Volumes::default();
        let root = std::path::absolute(root.join("pods")).map_err(|e| internal(&e))?;
        let changes = cloud.as_ref().map(|c| c.changes.clone());
        let place = (root, mounts);
        let kubelet = Kubelet::start(manager, caches, Arc::new(provider), &asked, place, volumes.clone(), changes);
        Ok(Self { volumes, kubelet, _folder: folder, cloud })
    }

    /// Where the local cloud answers, where there is one.
    pub(crate) fn cloud(&self) -> Option<SocketAddr> {
        self.cloud.as_ref().map(|c| c.address)
    }

    /// How the volumes stand, those that failed first.
    pub(crate) fn report(&self) -> Vec<VolumeReport> {
        let mut all: Vec<VolumeReport> = self.volumes.lock().values().flatten().cloned().collect();
        all.sort();
        all
    }

    /// Ends it; mounts of the system are taken down, folders stay for the next run.
    pub(crate) async fn stop(self) {
        self.kubelet.stop().await;
        if let Some(cloud) = self.cloud {
            cloud.serving.abort();
        }
    }
}
