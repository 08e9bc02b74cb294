//! Volumes: claims are bound to simulated persistent volumes of the size they ask for.
//!
//! A claim that names a volume is bound to it; any other gets one made for it, whatever its class' provisioner and
//! binding mode (there is no storage behind it to wait for).

use std::sync::Arc;

use druse_object::Value;
use druse_runtime::{Api, Cache, Caches, Key, Manager, Next, Patch, Reconciler};
use serde_json::json;

use crate::{SIMULATED, kinds};

struct Binder {
    api: Api,
    claims: Arc<Cache>,
    volumes: Arc<Cache>,
    classes: Arc<Cache>,
}

pub(crate) fn start(manager: &Manager, caches: &Caches) {
    let claims = caches.of(&kinds::claims());
    let volumes = caches.of(&kinds::volumes());
    let classes = caches.of(&kinds::classes());
    let queue = manager.queue();
    let binder = Binder { api: caches.api().clone(), claims: claims.clone(), volumes: volumes.clone(), classes };
    manager.run("volumes", &queue, Arc::new(binder), 2);
    manager.watch(&queue, &claims);
    manager.watch_mapped(&queue, &volumes, |c| {
        let v = c.new.as_ref().or(c.old.as_ref());
        v.and_then(|v| {
            let claim = &v["spec"]["claimRef"];
            Some(Key::new(claim["namespace"].as_str()?, claim["name"].as_str()?))
        })
        .into_iter()
        .collect()
    });
}

impl Reconciler for Binder {
    async fn reconcile(&self, key: Key) -> Next {
        let Some(claim) = self.claims.get(&key) else {
            return self.release(&key).await;
        };
        if !claim["metadata"]["deletionTimestamp"].is_null() {
            // Nothing uses the volume: what protects the claim may go.
            if claim["metadata"]["finalizers"]
                .items()
                .iter()
                .any(|f| f.as_str() == Some("kubernetes.io/pvc-protection"))
            {
                let patch = Value::from(json!({"metadata": {"finalizers": null}}));
                let _gone = self.api.patch(&kinds::claims(), &key.namespace, &key.name, "", Patch::Merge, &patch).await;
            }
            return Next::Wait;
        }
        if claim.str_at(["status", "phase"]) == Some("Bound") {
            return Next::Wait;
        }
        match self.bind(&key, &claim).await {
            Ok(()) => Next::Wait,
            Err(_) => Next::Retry,
        }
    }
}

impl Binder {
    async fn bind(&self, key: &Key, claim: &Value) -> Result<(), druse_runtime::ApiError> {
        let uid = claim.str_at(["metadata", "uid"]).unwrap_or_default();
        let size = &claim["spec"]["resources"]["requests"]["storage"];
        let named = claim.str_at(["spec", "volumeName"]).unwrap_or_default();
        let volume = if named.is_empty() { format!("pvc-{uid}") } else { named.to_owned() };
        let claim_ref = json!({
            "apiVersion": "v1", "kind": "PersistentVolumeClaim",
            "namespace": key.namespace.as_str(), "name": key.name.as_str(), "uid": uid,
        });
        let class = claim.str_at(["spec", "storageClassName"]).unwrap_or_default();
        let declared = self.classes.get(&Key::new("", class));
        let text = |v: Option<&str>, default: &str| v.unwrap_or(default).to_owned();
        if self.volumes.get(&Key::new("", volume.as_str())).is_none() {
            let object = json!({
                "apiVersion": "v1", "kind": "PersistentVolume",
                "metadata": {"name": volume, "annotations": {
                    SIMULATED: "volume: no storage stands behind it",
                    "pv.kubernetes.io/provisioned-by":
                        text(declared.as_ref().and_then(|c| c["provisioner"].as_str()), "druse.dev/simulated"),
                }},
                "spec": {
                    "accessModes": serde_json::Value::from(claim["spec"]["accessModes"].clone()),
                    "capacity": {"storage": serde_json::Value::from(size.clone())},
                    "claimRef": claim_ref,
                    "persistentVolumeReclaimPolicy":
                        text(declared.as_ref().and_then(|c| c["reclaimPolicy"].as_str()), "Delete"),
                    "storageClassName": class,
                    "volumeMode": text(claim.str_at(["spec", "volumeMode"]), "Filesystem"),
                    "csi": {
                        "driver": driver(declared.as_ref().and_then(|c| c["provisioner"].as_str())),
                        "volumeHandle": format!("simulated-{uid}"),
                    },
                },
            });
            match self.api.create(&kinds::volumes(), "", &Value::from(object)).await {
                Err(e) if e.reason() == "AlreadyExists" => {}
                other => {
                    other?;
                }
            }
        } else {
            let patch = json!({"spec": {"claimRef": claim_ref}});
            self.api.patch(&kinds::volumes(), "", &volume, "", Patch::Merge, &Value::from(patch)).await?;
        }
        let bound = Value::from(json!({"status": {"phase": "Bound"}}));
        self.api.patch(&kinds::volumes(), "", &volume, "status", Patch::Merge, &bound).await?;
        if named.is_empty() {
            let patch = json!({
                "metadata": {"annotations": {"pv.kubernetes.io/bind-completed": "yes", "pv.kubernetes.io/bound-by-controller": "yes"}},
                "spec": {"volumeName": volume},
            });
            self.api.patch(&kinds::claims(), &key.namespace, &key.name, "", Patch::Merge, &Value::from(patch)).await?;
        }
        let status = json!({"status": {
            "phase": "Bound",
            "accessModes": serde_json::Value::from(claim["spec"]["accessModes"].clone()),
            "capacity": {"storage": serde_json::Value::from(size.clone())},
        }});
        self.api
            .patch(&kinds::claims(), &key.namespace, &key.name, "status", Patch::Merge, &Value::from(status))
            .await?;
        Ok(())
    }

    /// The claim is gone: its volume goes too, or is released, as its reclaim policy says.
    async fn release(&self, key: &Key) -> Next {
        for v in self.volumes.all() {
            let claim = &v["spec"]["claimRef"];
            if claim["name"].as_str() != Some(&key.name) || claim["namespace"].as_str() != Some(&key.namespace) {
                continue;
            }
            let name = v.str_at(["metadata", "name"]).unwrap_or_default();
            let done = if v.str_at(["spec", "persistentVolumeReclaimPolicy"]) == Some("Delete") {
                if v["metadata"]["finalizers"].items().is_empty() {
                    self.api
                        .delete(&kinds::volumes(), "", name, &druse_runtime::DeleteOptions::default())
                        .await
                        .map(|_| ())
                } else {
                    let patch = Value::from(json!({"metadata": {"finalizers": null}}));
                    self.api.patch(&kinds::volumes(), "", name, "", Patch::Merge, &patch).await.map(|_| ())
                }
            } else if v.str_at(["status", "phase"]) == Some("Released") {
                Ok(())
            } else {
                let patch = Value::from(json!({"status": {"phase": "Released"}}));
                self.api.patch(&kinds::volumes(), "", name, "status", Patch::Merge, &patch).await.map(|_| ())
            };
            if done.is_err_and(|e| !e.is_not_found()) {
                return Next::Retry;
            }
        }
        Next::Wait
    }
}

/// The CSI driver of a class' provisioner. One that could be no driver's name (`rancher.io/local-path`) is simulated, as is
/// one that nobody declared.
fn driver(provisioner: Option<&str>) -> &str {
    const LONGEST: usize = 63;
    let fits = |p: &&str| p.len() <= LONGEST && p.bytes().all(|b| b.is_ascii_alphanumeric() || b"-.".contains(&b));
    provisioner.filter(fits).unwrap_or("simulated.druse.dev")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_provisioner_that_could_be_no_csi_driver_is_simulated() {
        for (provisioner, expected) in [
            (Some("driver.longhorn.io"), "driver.longhorn.io"),
            (Some("rancher.io/local-path"), "simulated.druse.dev"),
            (None, "simulated.druse.dev"),
        ] {
            assert_eq!(driver(provisioner), expected);
        }
    }
}
