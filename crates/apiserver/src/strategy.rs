//! What upstream's storage strategies do kind by kind around a write: which fields a client may set where, initial
//! status, generations.

use druse_object::{Map, Value};

use crate::auth::User;
use crate::registry::Resource;

/// Built-in kinds whose `metadata.generation` counts changes of what is wanted.
const GENERATIONS: &[&str] = &[
    "pods",
    "podtemplates",
    "replicationcontrollers",
    "deployments.apps",
    "daemonsets.apps",
    "replicasets.apps",
    "statefulsets.apps",
    "jobs.batch",
    "cronjobs.batch",
    "ingresses.networking.k8s.io",
    "ingressclasses.networking.k8s.io",
    "networkpolicies.networking.k8s.io",
    "poddisruptionbudgets.policy",
    "endpointslices.discovery.k8s.io",
    "mutatingwebhookconfigurations.admissionregistration.k8s.io",
    "validatingwebhookconfigurations.admissionregistration.k8s.io",
    "validatingadmissionpolicies.admissionregistration.k8s.io",
    "validatingadmissionpolicybindings.admissionregistration.k8s.io",
    "mutatingadmissionpolicies.admissionregistration.k8s.io",
    "mutatingadmissionpolicybindings.admissionregistration.k8s.io",
    "customresourcedefinitions.apiextensions.k8s.io",
    "flowschemas.flowcontrol.apiserver.k8s.io",
    "prioritylevelconfigurations.flowcontrol.apiserver.k8s.io",
    "deviceclasses.resource.k8s.io",
    "resourceslices.resource.k8s.io",
];

/// Custom resource definitions.
const CRDS: &str = "customresourcedefinitions.apiextensions.k8s.io";

/// Certificate signing requests.
pub const CSRS: &str = "certificatesigningrequests.certificates.k8s.io";

/// Their generation is 1 and stays so.
pub const PRIORITY_CLASSES: &str = "priorityclasses.scheduling.k8s.io";

/// Kinds that a PUT to a missing name creates.
const CREATED_BY_UPDATE: &[&str] = &[
    "runtimeclasses.node.k8s.io",
    "events",
    "endpoints",
    "limitranges",
    "leases.coordination.k8s.io",
    "roles.rbac.authorization.k8s.io",
    "rolebindings.rbac.authorization.k8s.io",
    "clusterroles.rbac.authorization.k8s.io",
    "clusterrolebindings.rbac.authorization.k8s.io",
    "services",
];

/// Built-in kinds whose updates must say which state they change.
const BY_VERSION_ONLY: &[&str] = &[
    "mutatingadmissionpolicies.admissionregistration.k8s.io",
    "mutatingadmissionpolicybindings.admissionregistration.k8s.io",
    "mutatingwebhookconfigurations.admissionregistration.k8s.io",
    "validatingadmissionpolicies.admissionregistration.k8s.io",
    "validatingadmissionpolicybindings.admissionregistration.k8s.io",
    "validatingwebhookconfigurations.admissionregistration.k8s.io",
    "customresourcedefinitions.apiextensions.k8s.io",
    "apiservices.apiregistration.k8s.io",
    "leases.coordination.k8s.io",
    "runtimeclasses.node.k8s.io",
    "poddisruptionbudgets.policy",
    "csidrivers.storage.k8s.io",
    "csinodes.storage.k8s.io",
    "csistoragecapacities.storage.k8s.io",
    "volumeattachments.storage.k8s.io",
];

/// Whether a PUT must carry a resource version.
#[must_use]
pub fn updated_by_version_only(resource: &Resource) -> bool {
    BY_VERSION_ONLY.contains(&resource.stored_as.as_str())
}

/// Whether a kind's objects carry a generation.
#[must_use]
pub fn counts_generations(resource: &Resource) -> bool {
    resource.custom || resource.stored_as == PRIORITY_CLASSES || GENERATIONS.contains(&resource.stored_as.as_str())
}

/// Whether a PUT creates what is missing.
#[must_use]
pub fn created_by_update(resource: &Resource) -> bool {
    CREATED_BY_UPDATE.contains(&resource.stored_as.as_str())
}

fn has_status(resource: &Resource, version: &str) -> bool {
    resource.version(version).is_some_and(|v| v.subresources.iter().any(|s| s.name == "status"))
}

/// Drops from a new object what only the server or the status subresource sets.
pub fn clear_for_create(resource: &Resource, version: &str, o: &mut Value) {
    if resource.stored_as == DAEMON_SETS {
        count_template(o, 1);
    }
    if has_status(resource, version)
        // Whoever registers a node says how it is.
        && resource.stored_as != "nodes"
        && let Some(m) = o.as_map_mut()
        && m.contains_key("status")
    {
        if resource.custom {
            m.remove("status");
        } else {
            m.insert("status", initial_status(resource, version));
        }
    }
    if resource.stored_as == CRDS {
        crate::crd::begin_status(o);
    }
}

const DAEMON_SETS: &str = "daemonsets.apps";
/// Counts the changes of a daemon set's template, as older clients read it.
const TEMPLATE_GENERATION: &str = "deprecated.daemonset.template.generation";

fn count_template(o: &mut Value, n: i64) {
    if let Some(m) = o.make_map_at(["metadata", "annotations"]) {
        m.insert(TEMPLATE_GENERATION, n.to_string());
    }
}

/// The status a new built-in object shows.
fn initial_status(resource: &Resource, version: &str) -> Value {
    let mut s = Map::new();
    match resource.stored_as.as_str() {
        "services" | "ingresses.networking.k8s.io" => {
            s.insert("loadBalancer", Map::new());
        }
        "pods" | "persistentvolumeclaims" | "persistentvolumes" => {
            s.insert("phase", "Pending");
        }
        "namespaces" => {
            s.insert("phase", "Active");
        }
        "replicasets.apps" | "replicationcontrollers" => {
            s.insert("replicas", 0i64);
        }
        "statefulsets.apps" => {
            s.insert("availableReplicas", 0i64);
            s.insert("replicas", 0i64);
        }
        "daemonsets.apps" => {
            for f in ["currentNumberScheduled", "desiredNumberScheduled", "numberMisscheduled", "numberReady"] {
                s.insert(f, 0i64);
            }
        }
        "volumeattachments.storage.k8s.io" => {
            s.insert("attached", false);
        }
        "poddisruptionbudgets.policy" => {
            for f in ["currentHealthy", "desiredHealthy", "disruptionsAllowed", "expectedPods"] {
                s.insert(f, 0i64);
            }
        }
        "horizontalpodautoscalers.autoscaling" if version == "v1" => {
            s.insert("currentReplicas", 0i64);
            s.insert("desiredReplicas", 0i64);
        }
        "horizontalpodautoscalers.autoscaling" => {
            s.insert("desiredReplicas", 0i64);
            s.insert("currentMetrics", Value::Null);
        }
        _ => {}
    }
    Value::Map(s)
}

/// Writes into a certificate signing request who made it; nobody says that for themselves.
pub fn requested_by(user: &User, csr: &mut Value) {
    let who = user.to_value();
    let Some(spec) = csr.make_map_at(["spec"]) else { return };
    for (field, from) in [("username", "username"), ("uid", "uid"), ("groups", "groups"), ("extra", "extra")] {
        match who.get(from) {
            Some(v) => spec.insert(field, v.clone()),
            None => spec.remove(field),
        };
    }
}

/// Completes a new object.
pub fn prepare_create(resource: &Resource, o: &mut Value) {
    crate::prepare::create(resource, o);
    match resource.stored_as.as_str() {
        "namespaces" => {
            if let Some(spec) = o.make_map_at(["spec"])
                && !spec.get("finalizers").is_some_and(|f| f.items().iter().any(|f| f.as_str() == Some("kubernetes")))
            {
                let mut list = spec.get("finalizers").map(|f| f.items().to_vec()).unwrap_or_default();
                list.push("kubernetes".into());
                spec.insert("finalizers", list);
            }
            if let Some(status) = o.make_map_at(["status"]) {
                status.insert("phase", "Active");
            }
        }
        "pods" => {
            let class = qos(o);
            if let Some(status) = o.make_map_at(["status"]) {
                status.insert("phase", "Pending");
                status.insert("qosClass", class);
            }
        }
        "services" | "ingresses.networking.k8s.io" => {
            if resource.stored_as == "services" {
                crate::alloc::list_address(o);
                set_families(o);
            }
            if let Some(status) = o.make_map_at(["status"])
                && !status.contains_key("loadBalancer")
            {
                status.insert("loadBalancer", Map::new());
            }
        }
        "persistentvolumeclaims" | "persistentvolumes" => {
            if let Some(status) = o.make_map_at(["status"]) {
                status.insert("phase", "Pending");
            }
        }
        "jobs.batch" => select_own_pods(o),
        _ => {}
    }
}

/// The label that tells a job's pods from all others.
pub const JOB_UID: &str = "batch.kubernetes.io/controller-uid";

/// Gives a job a selector of its own, and its template the labels that go with it, unless it brings one.
fn select_own_pods(job: &mut Value) {
    if job.at(["spec", "manualSelector"]).and_then(Value::as_bool) != Some(true) {
        let name = job.str_at(["metadata", "name"]).unwrap_or_default().to_owned();
        let uid = job.str_at(["metadata", "uid"]).unwrap_or_default().to_owned();
        if let Some(labels) = job.make_map_at(["spec", "template", "metadata", "labels"]) {
            let mut all: std::collections::BTreeMap<_, _> =
                labels.iter().map(|(k, v)| (k.to_string(), v.clone())).collect();
            for (key, value) in [
                ("job-name", &name),
                ("batch.kubernetes.io/job-name", &name),
                ("controller-uid", &uid),
                (JOB_UID, &uid),
            ] {
                all.entry(key.to_owned()).or_insert_with(|| value.as_str().into());
            }
            *labels = all.into_iter().collect();
        }
        if let Some(m) = job.make_map_at(["spec", "selector", "matchLabels"]) {
            m.insert(JOB_UID, uid);
        }
    }
}

/// Gives a limit range that says no name one of its own.
pub fn name_limit_range(range: &mut Value) {
    if range.str_at(["metadata", "name"]).is_none_or(str::is_empty)
        && let Some(meta) = range.make_map_at(["metadata"])
    {
        meta.insert("name", uuid::Uuid::new_v4().to_string());
    }
}

/// What labels an object shows once it is stored: a namespace its name, a job or a replication controller without labels
/// of its own those of its pods.
pub fn show_labels(resource: &Resource, o: &mut Value) {
    match resource.stored_as.as_str() {
        "jobs.batch" | "replicationcontrollers" => show_pod_labels(o),
        "namespaces" => {
            let name = o.str_at(["metadata", "name"]).unwrap_or_default().to_owned();
            if let Some(labels) = o.make_map_at(["metadata", "labels"]) {
                labels.insert("kubernetes.io/metadata.name", name);
            }
        }
        _ => {}
    }
}

fn show_pod_labels(job: &mut Value) {
    let labels = job.at(["spec", "template", "metadata", "labels"]).cloned();
    if let (Some(labels), Some(meta)) = (labels, job.make_map_at(["metadata"]))
        && meta.get("labels").and_then(Value::as_map).is_none_or(Map::is_empty)
    {
        meta.insert("labels", labels);
    }
}

/// This cluster has IPv4 only: a Service that does not say otherwise gets that family. One without addresses and pods of
/// its own may have endpoints of both.
fn set_families(service: &mut Value) {
    let Some(spec) = service.make_map_at(["spec"]) else { return };
    if spec.get("type").and_then(Value::as_str) == Some("ExternalName") {
        return;
    }
    let free = spec.get("clusterIP").and_then(Value::as_str) == Some("None")
        && spec.get("selector").and_then(Value::as_map).is_none_or(Map::is_empty);
    if spec.get("ipFamilyPolicy").is_none_or(Value::is_null) {
        spec.insert("ipFamilyPolicy", if free { "RequireDualStack" } else { "SingleStack" });
    }
    let mut families = spec.get("ipFamilies").map(|f| f.items().to_vec()).unwrap_or_default();
    if families.is_empty() {
        families.push("IPv4".into());
    }
    if free && families.len() == 1 && spec.get("ipFamilyPolicy").and_then(Value::as_str) != Some("SingleStack") {
        families.push(if families[0].as_str() == Some("IPv4") { "IPv6".into() } else { "IPv4".into() });
    }
    spec.insert("ipFamilies", Value::Array(families));
}

/// A pod's quality of service class: by what it asks for as a whole, when it does, or else by its containers.
pub fn qos(pod: &Value) -> &'static str {
    let spec = &pod["spec"];
    let own = &spec["resources"];
    let given = |what: &str| own[what].as_map().is_some_and(|m| !m.is_empty());
    let parts: Vec<&Value> = if given("requests") || given("limits") {
        vec![own]
    } else {
        let all = spec["containers"].items().iter().chain(spec["initContainers"].items());
        all.map(|c| &c["resources"]).collect()
    };
    let amounts = |r: &Value, what: &str| -> Vec<(String, druse_object::Quantity)> {
        let entries = r[what].as_map().into_iter().flat_map(Map::iter);
        let read = entries.filter(|(k, _)| matches!(k.as_str(), "cpu" | "memory"));
        let read = read.filter_map(|(k, v)| Some((k.to_string(), druse_object::Quantity::of(v)?)));
        read.filter(|(_, q)| !q.is_zero()).collect()
    };
    let (mut any, mut guaranteed) = (false, true);
    for r in parts {
        let (limits, requests) = (amounts(r, "limits"), amounts(r, "requests"));
        any |= !limits.is_empty() || !requests.is_empty();
        guaranteed &= limits.len() == 2 && requests.iter().all(|r| limits.contains(r));
    }
    match (any, guaranteed) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}

/// Puts back what this way of writing may not change: the status on the main resource, the rest on `status`.
pub fn reset_fields(resource: &Resource, version: &str, subresource: &str, old: &Value, new: &mut Value) {
    let restore = |new: &mut Value, key: &str| {
        let Some(m) = new.as_map_mut() else { return };
        match old.get(key) {
            Some(v) => {
                m.insert(key, v.clone());
            }
            None => {
                m.remove(key);
            }
        }
    };
    if resource.stored_as == CSRS {
        restore(new, "spec");
        return match subresource {
            "" => restore(new, "status"),
            "approval" => {
                // Only what is decided; a certificate is the signer's.
                let conditions = new.at(["status", "conditions"]).cloned();
                restore(new, "status");
                if let (Some(c), Some(status)) = (conditions, new.make_map_at(["status"])) {
                    status.insert("conditions", c);
                }
            }
            // What was decided stays as it is.
            _ => ["Approved", "Denied"].iter().for_each(|kind| keep_conditions(old, new, kind)),
        };
    }
    if resource.stored_as == DAEMON_SETS && matches!(subresource, "" | "status") {
        let was =
            old.str_at(["metadata", "annotations", TEMPLATE_GENERATION]).and_then(|n| n.parse().ok()).unwrap_or(0);
        let changed = subresource.is_empty() && old["spec"]["template"] != new["spec"]["template"];
        count_template(new, was + i64::from(changed));
    }
    match subresource {
        "" if has_status(resource, version) => restore(new, "status"),
        "status" => {
            let keys: Vec<String> = [old, &*new]
                .iter()
                .filter_map(|v| v.as_map())
                .flat_map(|m| m.keys().map(ToString::to_string))
                .filter(|k| !matches!(k.as_str(), "status" | "metadata" | "apiVersion" | "kind"))
                .collect();
            for k in keys {
                restore(new, &k);
            }
            let fixed: &[&str] = if resource.custom {
                &["labels", "annotations", "finalizers", "ownerReferences", "generateName"]
            } else if resource.stored_as == "deployments.apps" {
                &["labels"]
            } else if resource.stored_as == "pods" {
                &["ownerReferences"]
            } else if crate::apply::STATUS_ALONE.contains(&resource.kind.as_str()) {
                &["labels", "annotations", "finalizers", "ownerReferences", "deletionTimestamp"]
            } else {
                &[]
            };
            for key in fixed {
                let was = old.at(["metadata", key]).cloned();
                if let Some(m) = new.make_map_at(["metadata"]) {
                    match was {
                        Some(v) => {
                            m.insert(*key, v);
                        }
                        None => {
                            m.remove(key);
                        }
                    }
                }
            }
        }
        _ => {}
    }
}

/// Keeps the conditions of a type, where there are as many as there were.
fn keep_conditions(old: &Value, new: &mut Value, kind: &str) {
    let is = |c: &&Value| c.str_at(["type"]) == Some(kind);
    let was: Vec<Value> = old["status"]["conditions"].items().iter().filter(is).cloned().collect();
    let list = new.get_mut("status").and_then(|s| s.get_mut("conditions")).and_then(Value::as_array_mut);
    let now: Vec<&mut Value> = list.into_iter().flatten().filter(|c| c.str_at(["type"]) == Some(kind)).collect();
    if now.len() == was.len() {
        now.into_iter().zip(was).for_each(|(c, was)| *c = was);
    }
}

/// Endpoint slices.
pub const ENDPOINT_SLICES: &str = "endpointslices.discovery.k8s.io";

/// Completes a changed object: its generation, and what follows from the change.
pub fn prepare_update(resource: &Resource, subresource: &str, old: &Value, new: &mut Value) {
    crate::prepare::update(resource, subresource, old, new);
    if resource.stored_as == "services" && subresource.is_empty() {
        crate::alloc::keep(old, new);
        crate::alloc::list_address(new);
    }
    let fixed = resource.stored_as == PRIORITY_CLASSES;
    if fixed || subresource == "status" || subresource == "binding" || !counts_generations(resource) {
        return;
    }
    let wanted = |v: &Value| -> Value {
        match (resource.custom, v) {
            (true, Value::Map(m)) => {
                let mut m = m.clone();
                m.remove("metadata");
                m.remove("status");
                Value::Map(m)
            }
            (false, Value::Map(m)) => {
                let mut m = m.clone();
                for k in ["metadata", "status", "apiVersion", "kind"] {
                    m.remove(k);
                }
                Value::Map(m)
            }
            _ => Value::Null,
        }
    };
    // What their controllers act on beside the spec.
    let also = match resource.stored_as.as_str() {
        "deployments.apps" => old.at(["metadata", "annotations"]) != new.at(["metadata", "annotations"]),
        ENDPOINT_SLICES => old.at(["metadata", "labels"]) != new.at(["metadata", "labels"]),
        _ => false,
    };
    if (also || wanted(old) != wanted(new))
        && let Some(m) = new.make_map_at(["metadata"])
    {
        let g = m.get("generation").and_then(Value::as_i64).unwrap_or(0);
        m.insert("generation", g + 1);
    }
}
