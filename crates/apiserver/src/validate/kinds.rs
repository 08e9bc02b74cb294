//! Which rules hold for which kind.

use druse_object::{Gvk, Value};

use super::names::NameRule;
use super::{
    apiservice, certificates, core, csi, dra, event, flow, job, job_status, limits, meta, network, node, pod,
    pod_update, schema_rules, service, status, storage, table, webhooks, workload,
};
use crate::field::FieldError;

const ADMISSION: &str = "admissionregistration.k8s.io";

/// How a kind's names are judged.
fn name_rule(gvk: &Gvk) -> NameRule {
    match (gvk.group.as_str(), gvk.kind.as_str()) {
        ("", "Namespace") => NameRule::Label,
        ("", "Service") | ("apps", "StatefulSet") => NameRule::Label,
        ("rbac.authorization.k8s.io", _) | ("policy", "PodDisruptionBudget") => NameRule::PathSegment,
        // An address, which its own rule judges.
        ("networking.k8s.io", "IPAddress") => NameRule::PathSegment,
        // Called by version and group; core's group is empty: `v1.`.
        ("apiregistration.k8s.io", "APIService") => NameRule::PathSegment,
        // Upstream does not care what requests are called.
        ("certificates.k8s.io", "CertificateSigningRequest") => NameRule::PathSegment,
        ("", "Event") => NameRule::PathSegment,
        _ => NameRule::Subdomain,
    }
}

/// Whether objects of a built-in kind live in a namespace is the registry's knowledge; rules here take it from the
/// object: a namespace that has been set was allowed.
fn has_namespace(value: &Value) -> bool {
    value.str_at(["metadata", "namespace"]).is_some_and(|s| !s.is_empty())
}

/// Judges a new object of a built-in kind; it is decoded, defaulted and admitted.
#[must_use]
pub fn validate_create(gvk: &Gvk, value: &Value) -> Vec<FieldError> {
    let mut out = new_object(gvk, value);
    on_this_cluster(gvk, value, None, &mut out);
    finish(gvk, value, None, out)
}

/// The metadata of a new object and then what its kind's own rules say.
fn new_object(gvk: &Gvk, value: &Value) -> Vec<FieldError> {
    let metadata = || meta::validate_metadata(value, has_namespace(value), name_rule(gvk), qualifies_finalizers(gvk));
    if gvk.kind != "Event" {
        let mut out = metadata();
        rules(gvk, value, None, &mut out);
        return out;
    }
    let mut out = Vec::new();
    event::new(gvk, value, metadata, &mut out);
    out
}

/// Whether a kind's rules want more of a new object's finalizers than that they are qualified names.
fn qualifies_finalizers(gvk: &Gvk) -> bool {
    !matches!(
        (gvk.group.as_str(), gvk.kind.as_str()),
        (ADMISSION | "coordination.k8s.io" | "apiextensions.k8s.io" | "node.k8s.io" | "apiregistration.k8s.io", _)
            | ("policy", "PodDisruptionBudget")
            | ("", "Event")
    )
}

/// Whether a kind's rules leave the judging of what changed in metadata to the generic registry.
fn leaves_metadata(gvk: &Gvk) -> bool {
    matches!(
        (gvk.group.as_str(), gvk.kind.as_str()),
        (ADMISSION | "flowcontrol.apiserver.k8s.io", _)
            | ("", "Event" | "LimitRange" | "PersistentVolume")
            | ("policy", "PodDisruptionBudget")
            | ("storage.k8s.io", "CSINode" | "VolumeAttachment")
            | ("discovery.k8s.io", "EndpointSlice")
    )
}

/// Judges an object of a built-in kind as somebody sends it, decoded and defaulted: it is completed as a write completes
/// it (a job gets its selector, a Service its list of addresses) and then judged as by [`validate_create`]. What only
/// the cluster at hand refuses, another may take: that is not judged.
#[must_use]
pub fn validate_sent(gvk: &Gvk, mut value: Value) -> Vec<FieldError> {
    if let Some(resource) = crate::registry::builtin_table().and_then(|t| t.for_kind(&gvk.group, &gvk.kind).cloned()) {
        crate::strategy::prepare_create(&resource, &mut value);
    }
    let out = new_object(gvk, &value);
    finish(gvk, &value, None, out)
}

/// Judges a change of an object of a built-in kind.
#[must_use]
pub fn validate_update(gvk: &Gvk, new: &Value, old: &Value) -> Vec<FieldError> {
    let mut out = repeated(gvk, &meta::changed_metadata(new, old, true, if leaves_metadata(gvk) { 1 } else { 2 }));
    rules(gvk, new, Some(old), &mut out);
    on_this_cluster(gvk, new, Some(old), &mut out);
    finish(gvk, new, Some(old), out)
}

/// Judges a change of an object of a built-in kind by way of one of its subresources.
#[must_use]
pub fn validate_subresource(gvk: &Gvk, subresource: &str, new: &Value, old: &Value) -> Vec<FieldError> {
    let mut out = Vec::new();
    match (gvk.group.as_str(), gvk.kind.as_str(), subresource) {
        ("", "Pod", "status") => pod_update::status(new, old, &mut out),
        ("", "Pod", "resize") => pod_update::resize(new, old, &mut out),
        ("", "Pod", "ephemeralcontainers") => pod_update::ephemeral_containers(new, old, &mut out),
        ("", "PersistentVolumeClaim", "status") => storage::claim_status(new, &mut out),
        ("storage.k8s.io", "VolumeAttachment", "status") => csi::attachment_status(new, &mut out),
        ("policy", "PodDisruptionBudget", "status") => workload::budget_status(new, &mut out),
        ("certificates.k8s.io", _, "approval" | "status") => {
            certificates::decision(new, old, subresource == "approval", &mut out);
        }
        ("autoscaling", "HorizontalPodAutoscaler", "status") => status::autoscaler(new, &mut out),
        ("", "ResourceQuota", "status") => status::quota(new, &mut out),
        ("batch", "Job", "status") => job_status::status(new, old, &mut out),
        ("flowcontrol.apiserver.k8s.io", _, "status") => flow::status(new, &mut out),
        ("resource.k8s.io", "ResourceClaim", "status") => dra::status(new, old, &mut out),
        ("networking.k8s.io", "Ingress", "status") => network::load_balancer(new, old, false, &mut out),
        ("", "Service", "status") => network::load_balancer(new, old, true, &mut out),
        ("", "Namespace", "finalize") => node::finalized(new, &mut out),
        ("", "Namespace", "status") => node::namespace_status(new, &mut out),
        ("apps", _, "status") | ("", "ReplicationController", "status") => {
            workload::status(&gvk.kind, new, old, &mut out);
        }
        _ => {}
    }
    out
}

/// What this cluster's network cannot do for an object.
fn on_this_cluster(gvk: &Gvk, new: &Value, old: Option<&Value>, out: &mut Vec<FieldError>) {
    if gvk.group.is_empty() && gvk.kind == "Service" {
        service::families(new, old, out);
    }
}

/// Adds what the schema alone says where the kind's own rules said nothing about it.
fn finish(gvk: &Gvk, value: &Value, old: Option<&Value>, mut out: Vec<FieldError>) -> Vec<FieldError> {
    let core = ["Pod", "PodTemplate", "ReplicationController", "PersistentVolume", "PersistentVolumeClaim"];
    let whole = ["apps", "batch", "storage.k8s.io", "resource.k8s.io"].contains(&gvk.group.as_str())
        || gvk.group.is_empty() && core.contains(&gvk.kind.as_str());
    if whole {
        // Their rules say all there is to say.
        return out;
    }
    let more = schema_rules::check(gvk, value, old);
    for e in more {
        // What a rule refused as a whole is not looked into.
        let within =
            |inner: &str, outer: &str| inner.strip_prefix(outer).is_some_and(|rest| rest.starts_with(['.', '[']));
        let covered =
            out.iter().any(|o| o.field == e.field || within(&o.field, &e.field) || within(&e.field, &o.field));
        if !covered {
            out.push(e);
        }
    }
    out
}

/// How often a kind's rules look at labels and annotations of a changed object, and how often at its finalizers: found
/// by asking a real server.
fn looks(gvk: &Gvk) -> (usize, usize) {
    match (gvk.group.as_str(), gvk.kind.as_str()) {
        ("policy", "PodDisruptionBudget") | ("" | "events.k8s.io", "Event") => (2, 0),
        (ADMISSION, _) | ("coordination.k8s.io" | "apiextensions.k8s.io", _) => (3, 0),
        ("node.k8s.io" | "apiregistration.k8s.io", _) => (4, 0),
        ("", "ConfigMap" | "Secret" | "ServiceAccount" | "Pod" | "PersistentVolumeClaim" | "PersistentVolume")
        | ("", "Namespace" | "Node" | "Endpoints")
        | ("batch", "Job")
        | ("apps", "ControllerRevision")
        | ("rbac.authorization.k8s.io", _)
        | ("networking.k8s.io", "Ingress" | "IngressClass")
        | ("storage.k8s.io", "StorageClass" | "CSIStorageCapacity" | "VolumeAttributesClass") => (4, 2),
        _ => (3, 1),
    }
}

/// Upstream tells what is wrong with metadata as often as its layers look at it.
fn repeated(gvk: &Gvk, errors: &[FieldError]) -> Vec<FieldError> {
    let (marks, finalizers) = looks(gvk);
    let times = |e: &FieldError| match e.field.as_str() {
        "metadata.labels" | "metadata.annotations" => marks,
        f if f.starts_with("metadata.finalizers[") => finalizers,
        _ => 1,
    };
    let most = errors.iter().map(times).max().unwrap_or(0);
    (0..most).flat_map(|n| errors.iter().filter(move |e| times(e) > n).cloned()).collect()
}

fn rules(gvk: &Gvk, new: &Value, old: Option<&Value>, out: &mut Vec<FieldError>) {
    match (gvk.group.as_str(), gvk.kind.as_str()) {
        ("", "Pod") => pod::pod(new, old, out),
        ("", "ReplicationController") => workload::replication_controller(new, out),
        ("", "Service") => service::service(new, old, out),
        ("", "ConfigMap") => core::config_map(new, old, out),
        ("", "Secret") => core::secret(new, old, out),
        ("", "PersistentVolumeClaim") => storage::claim(new, old, out),
        ("", "PersistentVolume") => storage::volume(new, old, out),
        ("", "ResourceQuota") => limits::quota(new, old, out),
        ("", "PodTemplate") => pod::template(&new["template"], "template", out),
        ("" | "events.k8s.io", "Event") => event::changed(gvk, new, old, out),
        ("apps", "Deployment") => workload::deployment(new, old, out),
        ("apps", "ReplicaSet") => workload::replica_set(new, old, out),
        ("apps", "DaemonSet") => workload::daemon_set(new, old, out),
        ("apps", "StatefulSet") => workload::stateful_set(new, old, out),
        ("batch", "Job") => job::job(new, old, out),
        ("batch", "CronJob") => job::cron_job(new, old, out),
        ("certificates.k8s.io", "CertificateSigningRequest") => certificates::request(new, old, out),
        ("", "Node") => node::node(new, old, out),
        ("", "Namespace") => node::namespace(new, out),
        ("node.k8s.io", "RuntimeClass") => node::runtime_class(new, old, out),
        ("flowcontrol.apiserver.k8s.io", "FlowSchema") => flow::schema(new, out),
        ("flowcontrol.apiserver.k8s.io", "PriorityLevelConfiguration") => flow::level(new, out),
        ("", "LimitRange") => limits::limit_range(new, out),
        ("", "Endpoints") => network::endpoints(new, old, out),
        ("discovery.k8s.io", "EndpointSlice") => network::endpoint_slice(new, old, out),
        ("networking.k8s.io", "Ingress") => network::ingress(new, old, out),
        ("networking.k8s.io", "IngressClass") => network::ingress_class(new, old, out),
        ("networking.k8s.io", "IPAddress") => network::ip_address(new, old, out),
        ("networking.k8s.io", "NetworkPolicy") => network::policy(new, old, out),
        ("networking.k8s.io", "ServiceCIDR") => network::service_cidr(new, old, out),
        ("resource.k8s.io", "DeviceClass") => dra::class(new, old, out),
        ("resource.k8s.io", "ResourceClaim") => dra::claim(new, old, out),
        ("resource.k8s.io", "ResourceClaimTemplate") => dra::template(new, old, out),
        ("resource.k8s.io", "ResourceSlice") => dra::slice(new, old, out),
        ("rbac.authorization.k8s.io", "Role" | "ClusterRole") => core::role(new, out),
        ("rbac.authorization.k8s.io", "RoleBinding" | "ClusterRoleBinding") => core::binding(new, old, gvk, out),
        ("apps", "ControllerRevision") => workload::revision(new, old, out),
        ("storage.k8s.io", "CSIDriver") => csi::csi_driver(new, old, out),
        ("storage.k8s.io", "CSINode") => csi::csi_node(new, old, out),
        ("storage.k8s.io", "CSIStorageCapacity") => csi::csi_capacity(new, old, out),
        ("storage.k8s.io", "VolumeAttachment") => csi::attachment(new, old, out),
        ("storage.k8s.io", "VolumeAttributesClass") => csi::attributes_class(new, old, out),
        ("storage.k8s.io", "StorageClass") => csi::storage_class(new, old, out),
        ("scheduling.k8s.io", "PriorityClass") => core::priority_class(new, old, out),
        ("apiregistration.k8s.io", "APIService") => apiservice::service(new, out),
        ("policy", "PodDisruptionBudget") => limits::disruption_budget(new, out),
        ("autoscaling", "HorizontalPodAutoscaler") if gvk.version == "v1" => {
            limits::autoscaler(&crate::convert::second_autoscaler(new.clone()), out);
        }
        ("autoscaling", "HorizontalPodAutoscaler") => limits::autoscaler(new, out),
        ("apiextensions.k8s.io", "CustomResourceDefinition") => out.extend(match old {
            None => crate::crd::validate_crd(new),
            Some(old) => crate::crd::validate_crd_update(new, old),
        }),
        (ADMISSION, "MutatingWebhookConfiguration" | "ValidatingWebhookConfiguration") => {
            webhooks::configuration(new, out);
        }
        (ADMISSION, "ValidatingAdmissionPolicy") => {
            table::check(gvk, new, out);
            webhooks::policy(new, out);
        }
        (ADMISSION, "MutatingAdmissionPolicy") => {
            table::check(gvk, new, out);
            webhooks::mutating_policy(new, out);
        }
        (ADMISSION, "ValidatingAdmissionPolicyBinding") => {
            table::check(gvk, new, out);
            webhooks::binding(new, out);
        }
        _ => table::check(gvk, new, out),
    }
}
