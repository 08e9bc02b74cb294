//! What volumes, claims and ingresses get: protection while in use, and default classes.

use druse_object::{Quantity, Value};
use futures::future::{BoxFuture, ready};

use super::{Operation, Plugin, Review};
use crate::server::Shared;
use crate::status::{Named, Status};

/// `StorageObjectInUseProtection`
pub struct InUseProtection;

impl Plugin for InUseProtection {
    fn name(&self) -> &'static str {
        "StorageObjectInUseProtection"
    }

    fn mutate<'a>(&'a self, _: &'a Shared, review: &'a mut Review<'_>) -> BoxFuture<'a, Result<(), Status>> {
        let finalizer = if review.creates("persistentvolumeclaims") {
            Some("kubernetes.io/pvc-protection")
        } else if review.creates("persistentvolumes") {
            Some("kubernetes.io/pv-protection")
        } else if review.creates("volumeattributesclasses.storage.k8s.io") {
            Some("kubernetes.io/vac-protection")
        } else {
            None
        };
        if let (Some(f), Some(o)) = (finalizer, review.object.as_deref_mut())
            && let Some(meta) = o.make_map_at(["metadata"])
        {
            let mut list = meta.get("finalizers").map(|v| v.items().to_vec()).unwrap_or_default();
            if !list.iter().any(|x| x.as_str() == Some(f)) {
                list.push(f.into());
            }
            meta.insert("finalizers", list);
        }
        Box::pin(ready(Ok(())))
    }
}

/// `DefaultStorageClass` and `DefaultIngressClass`
pub struct DefaultClasses;

/// The newest object with an annotation set to `true`.
fn default_of(shared: &Shared, stored_as: &str, annotation: &str) -> Option<Value> {
    let mut found: Vec<Value> = shared
        .objects(stored_as, "")
        .into_iter()
        .filter(|c| {
            c.at(["metadata", "annotations"]).and_then(|a| a.get(annotation)).and_then(Value::as_str) == Some("true")
        })
        .collect();
    let made = |v: &Value| v.str_at(["metadata", "creationTimestamp"]).unwrap_or_default().to_owned();
    found.sort_by(|a, b| {
        made(b).cmp(&made(a)).then_with(|| a.str_at(["metadata", "name"]).cmp(&b.str_at(["metadata", "name"])))
    });
    found.into_iter().next()
}

impl Plugin for DefaultClasses {
    fn name(&self) -> &'static str {
        "DefaultStorageClass"
    }

    fn mutate<'a>(&'a self, shared: &'a Shared, review: &'a mut Review<'_>) -> BoxFuture<'a, Result<(), Status>> {
        let (stored_as, annotation, field, old) = if review.creates("persistentvolumeclaims") {
            (
                "storageclasses.storage.k8s.io",
                "storageclass.kubernetes.io/is-default-class",
                "storageClassName",
                "volume.beta.kubernetes.io/storage-class",
            )
        } else if review.creates("ingresses.networking.k8s.io") {
            (
                "ingressclasses.networking.k8s.io",
                "ingressclass.kubernetes.io/is-default-class",
                "ingressClassName",
                "kubernetes.io/ingress.class",
            )
        } else {
            return Box::pin(ready(Ok(())));
        };
        if let Some(o) = review.object.as_deref_mut() {
            let chosen = o.at(["spec", field]).is_some_and(|v| !v.is_null())
                || o.at(["metadata", "annotations"]).is_some_and(|a| a.get(old).is_some());
            if !chosen
                && let Some(class) = default_of(shared, stored_as, annotation)
                && let Some(spec) = o.make_map_at(["spec"])
            {
                spec.insert(field, class.str_at(["metadata", "name"]).unwrap_or_default());
            }
        }
        Box::pin(ready(Ok(())))
    }
}

/// `PersistentVolumeClaimResize`
pub struct ClaimResize;

impl Plugin for ClaimResize {
    fn name(&self) -> &'static str {
        "PersistentVolumeClaimResize"
    }

    fn validate<'a>(&'a self, shared: &'a Shared, review: &'a mut Review<'_>) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(ready(may_grow(shared, review)))
    }
}

fn may_grow(shared: &Shared, review: &Review<'_>) -> Result<(), Status> {
    let claims = review.operation == Operation::Update
        && review.subresource.is_empty()
        && review.resource.stored_as == "persistentvolumeclaims";
    let (Some(new), Some(old)) = (review.object.as_deref(), review.old) else { return Ok(()) };
    let asked =
        |v: &Value| v.at(["spec", "resources", "requests", "storage"]).and_then(Quantity::of).unwrap_or_default();
    if !claims || asked(new) <= asked(old) {
        return Ok(());
    }
    let named = Named { group: "", resource: "persistentvolumeclaims", name: review.name };
    if old.str_at(["status", "phase"]) != Some("Bound") {
        return Err(Status::forbidden(named, "Only bound persistent volume claims can be expanded"));
    }
    let class = new.str_at(["spec", "storageClassName"]).filter(|c| !c.is_empty());
    let class = class.and_then(|c| shared.object("storageclasses.storage.k8s.io", "", c));
    if class.and_then(|c| c.get("allowVolumeExpansion").and_then(Value::as_bool)) != Some(true) {
        let why = "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize";
        return Err(Status::forbidden(named, why));
    }
    Ok(())
}
