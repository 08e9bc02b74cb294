//! Volumes: claims are bound to volumes that are there, or to simulated ones of the size they ask for.
//!
//! As upstream's `pkg/controller/volume/persistentvolume` where volumes are declared: a claim gets the volume it names, the
//! one bound to it beforehand, or the smallest free one that has what it asks for. A claim whose class waits for its first
//! consumer is bound when a pod uses it. Beyond that there is no storage to ask: a claim that no declared volume fits gets
//! one made for it, whatever its class' provisioner, unless it asks for no class at all.

use std::sync::Arc;

use druse_object::{Quantity, Value, selector};
use druse_runtime::{Api, Cache, Caches, DeleteOptions, Key, Manager, Next, Patch, Reconciler, Recorder};
use serde_json::json;

use crate::workloads::pods::{going, has_ended};
use crate::workloads::report::Note;
use crate::{SIMULATED, kinds};

/// Stands for a provisioner or driver that nobody declared.
const DRIVER: &str = "simulated.druse.dev";

struct Binder {
    api: Api,
    claims: Arc<Cache>,
    volumes: Arc<Cache>,
    classes: Arc<Cache>,
    pods: Arc<Cache>,
    recorder: Recorder,
}

pub(crate) fn start(manager: &Manager, caches: &Caches) {
    let claims = caches.of(&kinds::claims());
    let volumes = caches.of(&kinds::volumes());
    let pods = caches.of(&kinds::pods());
    let queue = manager.queue();
    let binder = Binder {
        api: caches.api().clone(),
        claims: claims.clone(),
        volumes: volumes.clone(),
        classes: caches.of(&kinds::classes()),
        pods: pods.clone(),
        recorder: Recorder::new(caches.api().clone(), "persistentvolume-controller"),
    };
    manager.run("volumes", &queue, Arc::new(binder), 2);
    manager.watch(&queue, &claims);
    manager.watch_mapped(&queue, &volumes, move |c| {
        let sides = [&c.old, &c.new].into_iter().flatten();
        let mut keys: Vec<Key> = sides
            .filter_map(|v| {
                let claim = &v["spec"]["claimRef"];
                Some(Key::new(claim["namespace"].as_str()?, claim["name"].as_str()?))
            })
            .collect();
        if c.new.as_ref().is_some_and(|v| is_new(v)) {
            keys.push(c.key.clone());
        }
        if c.new.as_ref().is_some_and(|v| v["spec"]["claimRef"].is_null()) {
            // Any claim that waits may want a free one.
            keys.extend(claims.all().iter().filter(|c| !is_bound(c)).map(|c| Key::of(c)));
        }
        keys
    });
    manager.watch_mapped(&queue, &pods, |c| match (&c.old, &c.new) {
        (None, Some(pod)) => used(pod).map(|claim| Key::new(c.key.namespace.clone(), claim)).collect(),
        _ => Vec::new(),
    });
}

fn is_bound(claim: &Value) -> bool {
    claim.str_at(["status", "phase"]) == Some("Bound")
}

/// Whether a volume has just been declared: no claim has it, and nothing is said of it yet.
fn is_new(volume: &Value) -> bool {
    uid(&volume["spec"]["claimRef"]).is_none() && matches!(volume.str_at(["status", "phase"]), None | Some("Pending"))
}

/// Which claim, of several with a name over time, a reference is to; nothing where any is meant.
fn uid(claim_ref: &Value) -> Option<&str> {
    claim_ref["uid"].as_str().filter(|uid| !uid.is_empty())
}

/// The names of the claims a pod uses.
fn used(pod: &Value) -> impl Iterator<Item = &str> {
    pod["spec"]["volumes"].items().iter().filter_map(|v| v["persistentVolumeClaim"]["claimName"].as_str())
}

/// Whether a volume is bound, or meant, for a claim.
fn is_for(volume: &Value, claim: &Value) -> bool {
    let (of, metadata) = (&volume["spec"]["claimRef"], &claim["metadata"]);
    of["name"] == metadata["name"]
        && of["namespace"] == metadata["namespace"]
        && uid(of).is_none_or(|uid| metadata["uid"].as_str() == Some(uid))
}

/// The declared volume a claim is bound to: the one that is for it, or else the smallest free one with its class, mode,
/// access modes and labels and no less than its size.
fn fitting(claim: &Value, volumes: &[Arc<Value>]) -> Option<Arc<Value>> {
    let spec = &claim["spec"];
    let size = |v: &Value| v.as_str().and_then(|t| Quantity::parse(t).ok()).unwrap_or_default();
    let wanted = size(&spec["resources"]["requests"]["storage"]);
    let mode = |v: &Value| v.as_str().unwrap_or("Filesystem").to_owned();
    let class = |v: &Value| v.as_str().unwrap_or_default().to_owned();
    let fits = |v: &&Arc<Value>| {
        let has = &v["spec"];
        !going(v)
            && size(&has["capacity"]["storage"]) >= wanted
            && mode(&has["volumeMode"]) == mode(&spec["volumeMode"])
            && spec["accessModes"].items().iter().all(|m| has["accessModes"].items().contains(m))
    };
    let free = |v: &&Arc<Value>| {
        v["spec"]["claimRef"].is_null()
            && !matches!(v.str_at(["status", "phase"]), Some("Released" | "Failed"))
            && class(&v["spec"]["storageClassName"]) == class(&spec["storageClassName"])
            && (spec["selector"].is_null() || selector::selects(&spec["selector"], &v["metadata"]["labels"]))
    };
    let fit: Vec<_> = volumes.iter().filter(fits).collect();
    let meant = fit.iter().find(|v| is_for(v, claim)).copied();
    let smallest = || fit.iter().copied().filter(free).min_by_key(|v| size(&v["spec"]["capacity"]["storage"]));
    meant.or_else(smallest).cloned()
}

impl Reconciler for Binder {
    async fn reconcile(&self, key: Key) -> Next {
        // No claim is in no namespace: it is a volume's key.
        if key.namespace.is_empty() {
            return self.offer(&key).await;
        }
        let Some(claim) = self.claims.get(&key) else {
            return self.release(&key).await;
        };
        if going(&claim) {
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
        if is_bound(&claim) {
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
        self.classes.synced().await;
        let named = claim.str_at(["spec", "volumeName"]).filter(|n| !n.is_empty());
        let class = claim.str_at(["spec", "storageClassName"]);
        let declared = class.and_then(|c| self.classes.get(&Key::new("", c)));
        let found = match named {
            Some(name) => self.volumes.get(&Key::new("", name)),
            None => fitting(claim, &self.volumes.all()),
        };
        if let Some(volume) = found {
            // One that another claim has is waited for.
            let taken = !volume["spec"]["claimRef"].is_null() && !is_for(&volume, claim);
            return if taken { Ok(()) } else { self.join(key, claim, &volume).await };
        }
        let waits = declared.as_ref().and_then(|c| c["volumeBindingMode"].as_str()) == Some("WaitForFirstConsumer");
        if waits && !self.is_used(key) {
            let message = "waiting for first consumer to be created before binding";
            Note::normal("WaitForFirstConsumer", message).tell(&self.recorder, claim).await;
            return Ok(());
        }
        if class == Some("") && named.is_none() {
            let message = "no persistent volumes available for this claim and no storage class is set";
            Note::normal("FailedBinding", message).tell(&self.recorder, claim).await;
            return Ok(());
        }
        let volume = provisioned(claim, declared.as_deref());
        let volume = match self.api.create(&kinds::volumes(), "", &volume).await {
            Err(e) if e.reason() == "AlreadyExists" => volume,
            other => other?,
        };
        self.join(key, claim, &volume).await
    }

    fn is_used(&self, key: &Key) -> bool {
        self.pods.in_namespace(&key.namespace).iter().any(|p| !has_ended(p) && used(p).any(|c| c == key.name))
    }

    /// Binds claim and volume to each other.
    async fn join(&self, key: &Key, claim: &Value, volume: &Value) -> Result<(), druse_runtime::ApiError> {
        let name = volume.str_at(["metadata", "name"]).unwrap_or_default();
        let by_us = json!({"pv.kubernetes.io/bound-by-controller": "yes"});
        if volume["spec"]["claimRef"]["uid"] != claim["metadata"]["uid"] {
            let mut patch = json!({"spec": {"claimRef": {
                "apiVersion": "v1", "kind": "PersistentVolumeClaim", "namespace": key.namespace.as_str(),
                "name": key.name.as_str(), "uid": claim.str_at(["metadata", "uid"]),
            }}});
            if volume["spec"]["claimRef"].is_null() {
                patch["metadata"] = json!({"annotations": by_us});
            }
            self.api.patch(&kinds::volumes(), "", name, "", Patch::Merge, &Value::from(patch)).await?;
        }
        let bound = Value::from(json!({"status": {"phase": "Bound"}}));
        self.api.patch(&kinds::volumes(), "", name, "status", Patch::Merge, &bound).await?;
        let mut annotations = json!({"pv.kubernetes.io/bind-completed": "yes"});
        if claim.str_at(["spec", "volumeName"]).is_none_or(str::is_empty) {
            annotations["pv.kubernetes.io/bound-by-controller"] = json!("yes");
        }
        let patch = json!({"metadata": {"annotations": annotations}, "spec": {"volumeName": name}});
        self.api.patch(&kinds::claims(), &key.namespace, &key.name, "", Patch::Merge, &Value::from(patch)).await?;
        let status = json!({"status": {
            "phase": "Bound",
            "accessModes": serde_json::Value::from(volume["spec"]["accessModes"].clone()),
            "capacity": serde_json::Value::from(volume["spec"]["capacity"].clone()),
        }});
        self.api
            .patch(&kinds::claims(), &key.namespace, &key.name, "status", Patch::Merge, &Value::from(status))
            .await
            .map(|_| ())
    }

    /// A volume that is new may be had.
    async fn offer(&self, key: &Key) -> Next {
        let Some(volume) = self.volumes.get(key).filter(|v| is_new(v) && !going(v)) else { return Next::Wait };
        // As it was seen: a claim may be given it meanwhile.
        let seen = volume.str_at(["metadata", "resourceVersion"]);
        let patch = Value::from(json!({"metadata": {"resourceVersion": seen}, "status": {"phase": "Available"}}));
        match self.api.patch(&kinds::volumes(), "", &key.name, "status", Patch::Merge, &patch).await {
            Ok(_) => Next::Wait,
            Err(e) if e.is_not_found() => Next::Wait,
            Err(_) => Next::Retry,
        }
    }

    /// The claim is gone: its volume goes too, or is released, as its reclaim policy says.
    async fn release(&self, key: &Key) -> Next {
        for v in self.volumes.all() {
            let claim = &v["spec"]["claimRef"];
            let of_it =
                claim["name"].as_str() == Some(&key.name) && claim["namespace"].as_str() == Some(&key.namespace);
            // One that is meant for a claim still to come goes on waiting for it.
            if !of_it || uid(claim).is_none() {
                continue;
            }
            let name = v.str_at(["metadata", "name"]).unwrap_or_default();
            let done = if v.str_at(["spec", "persistentVolumeReclaimPolicy"]) == Some("Delete") {
                if v["metadata"]["finalizers"].items().is_empty() {
                    self.api.delete(&kinds::volumes(), "", name, &DeleteOptions::default()).await.map(|_| ())
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

/// The volume made for a claim, as its class (when declared) asks.
fn provisioned(claim: &Value, class: Option<&Value>) -> Value {
    let uid = claim.str_at(["metadata", "uid"]).unwrap_or_default();
    let named = claim.str_at(["spec", "volumeName"]).filter(|n| !n.is_empty());
    let of_class = |field: &str| class.and_then(|c| c[field].as_str());
    let provisioner = of_class("provisioner").unwrap_or(DRIVER);
    let part = |v: &Value| serde_json::Value::from(v.clone());
    let (spec, metadata) = (&claim["spec"], &claim["metadata"]);
    Value::from(json!({
        "apiVersion": "v1", "kind": "PersistentVolume",
        "metadata": {"name": named.map_or_else(|| format!("pvc-{uid}"), str::to_owned), "annotations": {
            SIMULATED: "volume: no storage stands behind it",
            "pv.kubernetes.io/provisioned-by": provisioner,
        }},
        "spec": {
            "accessModes": part(&spec["accessModes"]),
            "capacity": {"storage": part(&spec["resources"]["requests"]["storage"])},
            "claimRef": {
                "apiVersion": "v1", "kind": "PersistentVolumeClaim",
                "namespace": part(&metadata["namespace"]), "name": part(&metadata["name"]), "uid": uid,
            },
            "persistentVolumeReclaimPolicy": of_class("reclaimPolicy").unwrap_or("Delete"),
            "storageClassName": spec["storageClassName"].as_str().unwrap_or_default(),
            "volumeMode": spec["volumeMode"].as_str().unwrap_or("Filesystem"),
            "csi": {"driver": driver(provisioner), "volumeHandle": format!("simulated-{uid}")},
        },
    }))
}

/// A provisioner as the name of a CSI driver. One that could be no driver's name (`rancher.io/local-path`) is simulated.
fn driver(provisioner: &str) -> &str {
    const LONGEST: usize = 63;
    let fits =
        provisioner.len() <= LONGEST && provisioner.bytes().all(|b| b.is_ascii_alphanumeric() || b"-.".contains(&b));
    if fits { provisioner } else { DRIVER }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{list, value};

    fn claim(spec: &str) -> Value {
        value(&format!(
            "{{metadata: {{namespace: home, name: data, uid: c}}, spec: {{accessModes: [ReadWriteOnce], \
             resources: {{requests: {{storage: 5Gi}}}}, {spec}}}}}"
        ))
    }

    /// A volume of a class, with the spec's other fields and a phase.
    fn volume(name: &str, size: &str, spec: &str, phase: &str) -> String {
        format!(
            "{{metadata: {{name: {name}, labels: {{disk: {name}}}}}, spec: {{capacity: {{storage: {size}}}, \
             accessModes: [ReadWriteOnce, ReadOnlyMany], {spec}}}, status: {{phase: {phase}}}}}"
        )
    }

    #[test]
    fn a_claim_gets_the_volume_meant_for_it_or_the_smallest_free_one_that_fits() {
        let mine = "claimRef: {namespace: home, name: data}";
        let others = "claimRef: {namespace: home, name: other}";
        let before = "claimRef: {namespace: home, name: data, uid: before}";
        for (spec, volumes, expected) in [
            ("", vec![("big", "50Gi", "", ""), ("small", "6Gi", "", ""), ("tiny", "1Gi", "", "")], Some("small")),
            ("", vec![("small", "6Gi", "", ""), ("meant", "50Gi", mine, "")], Some("meant")),
            ("", vec![("others", "6Gi", others, ""), ("before", "6Gi", before, "Released")], None),
            ("", vec![("released", "6Gi", "", "Released")], None),
            (
                "storageClassName: nfs",
                vec![("none", "6Gi", "", ""), ("nfs", "6Gi", "storageClassName: nfs", "")],
                Some("nfs"),
            ),
            ("selector: {matchLabels: {disk: b}}", vec![("a", "6Gi", "", ""), ("b", "9Gi", "", "")], Some("b")),
            ("accessModes: [ReadWriteMany]", vec![("a", "6Gi", "", "")], None),
            ("volumeMode: Block", vec![("a", "6Gi", "", ""), ("b", "6Gi", "volumeMode: Block", "")], Some("b")),
        ] {
            let all: Vec<_> = volumes.iter().map(|(n, size, spec, phase)| volume(n, size, spec, phase)).collect();
            let found = fitting(&claim(spec), &list(&format!("[{}]", all.join(", "))));
            let name = found.as_ref().and_then(|v| v.str_at(["metadata", "name"]));
            assert_eq!(name, expected, "{spec} {volumes:?}");
        }
    }

    #[test]
    fn a_volume_is_made_as_the_class_asks() {
        let class = value("{provisioner: rancher.io/local-path, reclaimPolicy: Retain}");
        let made = provisioned(&claim("storageClassName: local"), Some(&class));
        assert_eq!(
            made["metadata"]["annotations"]["pv.kubernetes.io/provisioned-by"].as_str(),
            Some("rancher.io/local-path")
        );
        assert_eq!(made["spec"]["persistentVolumeReclaimPolicy"].as_str(), Some("Retain"));
        assert_eq!(made["spec"]["csi"]["driver"].as_str(), Some(DRIVER));
        assert!(is_for(&made, &claim("")));
    }
}
