//! Where pods are in objects, and which secrets volumes they have.

use druse_object::Value;
use druse_terraform::Place;

use super::Declaration;

pub use druse_csi::kubelet::DRIVER;

/// A secrets volume of a pod.
#[derive(Debug)]
pub(crate) struct Mount<'a> {
    /// The object that makes the pod.
    pub(crate) kind: &'a str,
    pub(crate) name: &'a str,
    pub(crate) namespace: &'a str,
    /// The driver: ours, or one that is called otherwise and asked for a SecretProviderClass.
    pub(crate) driver: &'a str,
    pub(crate) class: Option<&'a str>,
    /// The ServiceAccount; `None` when it cannot be told.
    pub(crate) account: Option<&'a str>,
    /// Paths that are mounted with `subPath`.
    pub(crate) sub_paths: Vec<&'a str>,
    pub(crate) place: Option<Place>,
}

impl Mount<'_> {
    pub(crate) fn who(&self) -> String {
        format!("{} {}/{}", self.kind, self.namespace, self.name)
    }
}

/// Where a kind of workload keeps its pod's specification.
fn pod_spec<'a>(kind: &str, value: &'a Value) -> Option<&'a Value> {
    match kind {
        "Pod" => value.at(["spec"]),
        "Deployment" | "StatefulSet" | "DaemonSet" | "ReplicaSet" | "ReplicationController" | "Job" => {
            value.at(["spec", "template", "spec"])
        }
        "CronJob" => value.at(["spec", "jobTemplate", "spec", "template", "spec"]),
        _ => None,
    }
}

/// The secrets volumes of an object's pods. Kinds that are not Kubernetes' own are searched for what looks like a pod's
/// specification; those of Flux are not, since their values only ask a chart for volumes.
pub(crate) fn mounts<'a>(d: &'a Declaration<'_>) -> Vec<Mount<'a>> {
    let object = d.object;
    let mut all = Vec::new();
    if let Some(spec) = pod_spec(object.kind(), &object.value) {
        let account = account(spec).unwrap_or("default");
        volumes(d, spec, Some(account), &mut all);
    } else if !object.gvk().group.ends_with("toolkit.fluxcd.io") && object.kind() != "CustomResourceDefinition" {
        search(d, &object.value, 0, &mut all);
    }
    all
}

fn account(spec: &Value) -> Option<&str> {
    let named = |n| spec.str_at([n]).filter(|s| !s.is_empty());
    named("serviceAccountName").or_else(|| named("serviceAccount"))
}

fn search<'a>(d: &'a Declaration<'_>, value: &'a Value, depth: usize, all: &mut Vec<Mount<'a>>) {
    if depth > 40 {
        return;
    }
    match value {
        Value::Array(items) => items.iter().for_each(|v| search(d, v, depth + 1, all)),
        Value::Map(map) => {
            if map.get("volumes").is_some_and(|v| v.items().iter().any(is_ours)) {
                // A workflow's volumes are mounted by its templates, which may have accounts of their own.
                let templates = map.get("templates").map(Value::items).unwrap_or_default();
                let user = |t: &&Value| uses(t, map.get("volumes").map(Value::items).unwrap_or_default());
                let own: Vec<&str> = templates.iter().filter(user).filter_map(account).collect();
                let one = own.first().copied().filter(|a| own.iter().all(|o| o == a));
                volumes(d, value, one.or_else(|| account(value)), all);
                return;
            }
            map.values().for_each(|v| search(d, v, depth + 1, all));
        }
        _ => {}
    }
}

/// Whether a volume is of the driver, or of one that has another name and is asked for what only this one gives.
fn is_ours(volume: &Value) -> bool {
    volume.str_at(["csi", "driver"]).is_some_and(|d| d == DRIVER || class(volume).is_some())
}

fn class(volume: &Value) -> Option<&str> {
    volume.str_at(["csi", "volumeAttributes", "secretProviderClass"]).filter(|c| !c.is_empty())
}

/// Whether a workflow's template mounts one of our volumes.
fn uses(template: &Value, volumes: &[Value]) -> bool {
    let names: Vec<&str> = volumes.iter().filter(|v| is_ours(v)).filter_map(|v| v.str_at(["name"])).collect();
    let containers = [template.at(["container"]), template.at(["script"])];
    let lists = ["initContainers", "sidecars"].map(|l| template.get(l).map(Value::items).unwrap_or_default());
    let all = containers.into_iter().flatten().chain(lists.into_iter().flatten());
    all.flat_map(|c| c.get("volumeMounts").map(Value::items).unwrap_or_default())
        .any(|m| m.str_at(["name"]).is_some_and(|n| names.contains(&n)))
}

fn volumes<'a>(d: &'a Declaration<'_>, spec: &'a Value, account: Option<&'a str>, all: &mut Vec<Mount<'a>>) {
    let object = d.object;
    for volume in spec.get("volumes").map(Value::items).unwrap_or_default().iter().filter(|v| is_ours(v)) {
        let name = volume.str_at(["name"]).unwrap_or_default();
        let lists = ["containers", "initContainers", "ephemeralContainers"];
        let containers = lists.iter().flat_map(|l| spec.get(l).map(Value::items).unwrap_or_default());
        let sub_paths = containers
            .flat_map(|c| c.get("volumeMounts").map(Value::items).unwrap_or_default())
            .filter(|m| m.str_at(["name"]) == Some(name))
            .filter_map(|m| m.str_at(["subPath"]).or_else(|| m.str_at(["subPathExpr"])))
            .filter(|p| !p.is_empty())
            .collect();
        all.push(Mount {
            kind: object.kind(),
            name: object.name(),
            namespace: if object.namespace().is_empty() { "default" } else { object.namespace() },
            driver: volume.str_at(["csi", "driver"]).unwrap_or_default(),
            class: class(volume),
            account,
            sub_paths,
            place: d.place.clone(),
        });
    }
}
