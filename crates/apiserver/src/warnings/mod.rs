//! Warnings that a write is answered with: what is taken, but means something else than it seems to, is out of use, or
//! will be refused one day. The rules of upstream's strategies (`pkg/registry/*/*/strategy.go`), in their words.

mod pod;

use std::net::IpAddr;

use druse_object::{Gvk, Value};

use crate::field::go_quote;
use crate::validate::At;
use crate::validate::ip::{Cidr, mapped, sloppy};
use crate::validate::names::{is_dns1123_label, is_qualified_name};

type Warnings = Vec<String>;

/// What a write of this object is warned of. `old` is what it replaces; `None` for a creation.
pub(crate) fn of_write(gvk: &Gvk, custom: bool, new: &Value, old: Option<&Value>) -> Vec<String> {
    let mut out = Vec::new();
    let top = At::new(new, "");
    if custom {
        finalizers(&top, old, &mut out);
        return out;
    }
    let spec = top.child("spec");
    let changed = |field: &str| old.is_none_or(|o| o.at(["metadata", field]) != new.at(["metadata", field]));
    let (created, moved) = (old.is_none(), changed("generation"));
    match (gvk.group.as_str(), gvk.kind.as_str()) {
        ("", "Pod") if created => {
            label_name(&top, "the Pod's hostname", &mut out);
            pod::pod(&top, &mut out);
        }
        ("apps", "Deployment" | "ReplicaSet") | ("", "ReplicationController") if moved => {
            if created {
                label_name(&top, "Pod names and hostnames", &mut out);
            }
            pod::pod(&spec.child("template"), &mut out);
        }
        ("apps", "DaemonSet") if moved => pod::pod(&spec.child("template"), &mut out),
        ("", "PodTemplate") if moved => pod::pod(&top.child("template"), &mut out),
        ("apps", "StatefulSet") => {
            if moved {
                pod::pod(&spec.child("template"), &mut out);
            }
            for c in spec.child("volumeClaimTemplates").items() {
                // Their place is told apart so upstream.
                if created {
                    pod::claim(&At::new(c.child("spec").value(), &c.path()), &mut out);
                } else {
                    pod::claim(&c.child_as("spec", "Spec"), &mut out);
                }
            }
            // Go's zero value is no limit below zero.
            if spec.int_of("revisionHistoryLimit") < 0 {
                out.push(
                    "spec.revisionHistoryLimit: a negative value retains all historical revisions; a value >= 0 is recommended"
                        .into(),
                );
            }
        }
        ("batch", "Job") if moved => {
            if created {
                label_name(&top, "Pod names and hostnames", &mut out);
            }
            job(&spec, &mut out);
        }
        ("batch", "CronJob") => {
            if created {
                label_name(&top, "Pod names and hostnames", &mut out);
            }
            if moved {
                job(&spec.child("jobTemplate").child("spec"), &mut out);
            }
            if !created && spec.text_of("schedule").contains("TZ") {
                out.push(
                    "cannot use TZ or CRON_TZ in spec.spec.schedule, use timeZone instead, see https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/ for more details"
                        .into(),
                );
            }
        }
        ("", "Service") => service(&top, &mut out),
        ("", "Endpoints") => endpoints(&top, &mut out),
        ("discovery.k8s.io", "EndpointSlice") => slice(&top, created, &mut out),
        ("", "PersistentVolume") => volume(&top, &mut out),
        ("", "PersistentVolumeClaim") => {
            old_annotation(&top, "volume.beta.kubernetes.io/storage-class", STORAGE_CLASS, &mut out);
            pod::claim(&spec, &mut out);
        }
        ("", "Node") => node(&spec, &mut out),
        ("", "ResourceQuota") if created => quota(&spec.child("hard"), &mut out),
        ("networking.k8s.io", "Ingress") if created => {
            let given = new.at(["metadata", "annotations", "kubernetes.io/ingress.class"]).is_some();
            if given && spec.get("ingressClassName").is_none() {
                out.push(
                    "annotation \"kubernetes.io/ingress.class\" is deprecated, please use 'spec.ingressClassName' instead"
                        .into(),
                );
            }
        }
        ("networking.k8s.io", "NetworkPolicy") => {
            for (direction, peers) in [("ingress", "from"), ("egress", "to")] {
                for rule in spec.child(direction).items() {
                    for peer in rule.child(peers).items() {
                        let block = peer.child("ipBlock");
                        cidr(&block.child("cidr"), &mut out);
                        block.child("except").items().for_each(|e| cidr(&e, &mut out));
                    }
                }
            }
        }
        ("storage.k8s.io", "CSIDriver") => {
            let tokens = |v: &Value| v.at(["spec", "tokenRequests"]).map(|v| v.items().to_vec()).unwrap_or_default();
            let asked = tokens(new);
            let same = old.is_some_and(|o| tokens(o) == asked);
            if !asked.is_empty() && !same && spec.get("serviceAccountTokenInSecrets").is_none() {
                out.push(
                    "spec.serviceAccountTokenInSecrets is unset; if supported by this CSI driver, set to true to prevent possible logging of tokens in volume attributes"
                        .into(),
                );
            }
        }
        ("storage.k8s.io", "StorageClass") => {
            for t in top.child("allowedTopologies").items() {
                for e in t.child("matchLabelExpressions").items() {
                    if let Some(why) = pod::old_label(e.text_of("key")) {
                        out.push(format!("{}: {why}", e.child("key").path()));
                    }
                }
            }
        }
        ("node.k8s.io", "RuntimeClass") => {
            let scheduling = top.child("scheduling");
            let selector = scheduling.child("nodeSelector");
            for why in selector.entries().filter_map(|(k, _)| pod::old_label(k)) {
                out.push(format!("{}: {why}", selector.path()));
            }
        }
        _ => {}
    }
    out
}

/// Drops owners that are named twice in the same words; the warning of it. `admitted` says that admission has seen the
/// object since the request was read.
pub(crate) fn one_of_each_owner(object: &mut Value, admitted: bool) -> Option<String> {
    let owners = object.get_mut("metadata").and_then(|m| m.get_mut("ownerReferences")).and_then(Value::as_array_mut)?;
    let mut kept: Vec<Value> = Vec::new();
    let mut twice: Vec<String> = Vec::new();
    for o in owners.iter() {
        if kept.contains(o) {
            let uid = o.str_at(["uid"]).unwrap_or_default().to_owned();
            if !twice.contains(&uid) {
                twice.push(uid);
            }
        } else {
            kept.push(o.clone());
        }
    }
    if twice.is_empty() {
        return None;
    }
    *owners = kept;
    let when = if admitted { " after mutating admission happens" } else { "" };
    Some(format!(
        ".metadata.ownerReferences contains duplicate entries{when}; API server dedups owner references in 1.20+, and may reject such requests as early as 1.24; please fix your requests; duplicate UID(s) observed: {}",
        twice.join(", ")
    ))
}

fn label_name(top: &At<'_, '_>, what: &str, out: &mut Warnings) {
    let wrong = is_dns1123_label(top.child("metadata").text_of("name"));
    if !wrong.is_empty() {
        out.push(format!(
            "metadata.name: this is used in {what}, which can result in surprising behavior; a DNS label is recommended: [{}]",
            wrong.join(" ")
        ));
    }
}

/// Finalizers of custom objects that are new and whose names others may take too.
fn finalizers(top: &At<'_, '_>, old: Option<&Value>, out: &mut Warnings) {
    let list = |v: &Value| -> Vec<String> {
        let all = v.at(["metadata", "finalizers"]).map(Value::items).unwrap_or_default();
        all.iter().filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let before = old.map(list).unwrap_or_default();
    let mut added: Vec<String> = list(top.value()).into_iter().filter(|f| !before.contains(f)).collect();
    added.sort_unstable();
    added.dedup();
    for f in added {
        let quoted = go_quote(&f);
        out.extend(is_qualified_name(&f).into_iter().map(|why| format!("metadata.finalizers: {quoted}: {why}")));
        if !f.contains('/') && !["orphan", "foregroundDeletion", "kubernetes"].contains(&f.as_str()) {
            let path = if f.contains('.') { " including a path (/)" } else { "" };
            out.push(format!(
                "metadata.finalizers: {quoted}: prefer a domain-qualified finalizer name{path} to avoid accidental conflicts with other finalizer writers"
            ));
        }
    }
}

fn job(spec: &At<'_, '_>, out: &mut Warnings) {
    let indexed = spec.text_of("completionMode") == "Indexed";
    if indexed && spec.int_of("completions") > 100_000 && spec.int_of("parallelism") > 10_000 {
        out.push(format!(
            "{}: In Indexed Jobs with a number of completions higher than 10^5 and a parallelism higher than 10^4, Kubernetes might not be able to track completedIndexes when a big number of indexes fail",
            spec.path()
        ));
    }
    pod::pod(&spec.child("template"), out);
}

fn service(top: &At<'_, '_>, out: &mut Warnings) {
    let spec = top.child("spec");
    if top.value().at(["metadata", "annotations", "service.kubernetes.io/topology-aware-hints"]).is_some() {
        out.push(
            "annotation service.kubernetes.io/topology-aware-hints is deprecated, please use service.kubernetes.io/topology-mode instead"
                .into(),
        );
    }
    let headless = spec.text_of("type") == "ClusterIP" && spec.text_of("clusterIP") == "None";
    let external_name = spec.text_of("type") == "ExternalName";
    if !external_name && !["", "None"].contains(&spec.text_of("clusterIP")) {
        spec.child("clusterIPs").items().for_each(|a| ip(&a, out));
    }
    let external = spec.child("externalIPs").len() > 0;
    if headless {
        if !spec.text_of("loadBalancerIP").is_empty() {
            out.push("spec.loadBalancerIP is ignored for headless services".into());
        }
        if external {
            out.push("spec.externalIPs is ignored for headless services".into());
        }
        if spec.text_of("sessionAffinity") != "None" {
            out.push("spec.SessionAffinity is ignored for headless services".into());
        }
    }
    spec.child("externalIPs").items().for_each(|a| ip(&a, out));
    if external && !headless && !external_name {
        out.push("spec.externalIPs is deprecated and may no longer be implemented in some clusters".into());
    }
    ip(&spec.child("loadBalancerIP"), out);
    spec.child("loadBalancerSourceRanges").items().for_each(|r| cidr(&r, out));
    if external_name && external {
        out.push("spec.externalIPs is ignored when spec.type is \"ExternalName\"".into());
    }
    if !external_name && !spec.text_of("externalName").is_empty() {
        out.push("spec.externalName is ignored when spec.type is not \"ExternalName\"".into());
    }
    if spec.text_of("trafficDistribution") == "PreferClose" {
        out.push("spec.trafficDistribution: \"PreferClose\" is deprecated; use \"PreferSameZone\"".into());
    }
}

fn endpoints(top: &At<'_, '_>, out: &mut Warnings) {
    if managed_by(top, "endpoints.kubernetes.io/managed-by") == "endpoint-controller" {
        return;
    }
    for s in top.child("subsets").items() {
        for list in ["addresses", "notReadyAddresses"] {
            s.child(list).items().for_each(|a| ip(&a.child("ip"), out));
        }
    }
}

fn managed_by<'v>(top: &At<'v, '_>, label: &str) -> &'v str {
    top.value().str_at(["metadata", "labels", label]).unwrap_or_default()
}

fn slice(top: &At<'_, '_>, created: bool, out: &mut Warnings) {
    if created && top.text_of("addressType") == "FQDN" {
        out.push("spec.addressType: FQDN endpoints are deprecated".into());
    }
    let by = managed_by(top, "endpointslice.kubernetes.io/managed-by");
    if ["endpointslice-controller.k8s.io", "endpointslicemirroring-controller.k8s.io"].contains(&by)
        || top.text_of("addressType") == "FQDN"
    {
        return;
    }
    for e in top.child("endpoints").items() {
        e.child("addresses").items().for_each(|a| ip(&a, out));
    }
}

const STORAGE_CLASS: &str = "deprecated since v1.8; use \"storageClassName\" attribute instead";

fn old_annotation(top: &At<'_, '_>, key: &str, why: &str, out: &mut Warnings) {
    if top.value().at(["metadata", "annotations", key]).is_some() {
        out.push(format!("metadata.annotations[{key}]: {why}"));
    }
}

fn volume(top: &At<'_, '_>, out: &mut Warnings) {
    old_annotation(top, "volume.beta.kubernetes.io/storage-class", STORAGE_CLASS, out);
    let options = "deprecated since v1.31; use \"mountOptions\" attribute instead";
    old_annotation(top, "volume.beta.kubernetes.io/mount-options", options, out);
    let spec = top.child("spec");
    if spec.text_of("persistentVolumeReclaimPolicy") == "Recycle" {
        out.push(
            "spec.persistentVolumeReclaimPolicy: The Recycle reclaim policy is deprecated. Instead, the recommended approach is to use dynamic provisioning."
                .into(),
        );
    }
    let affinity = spec.child("nodeAffinity");
    for t in affinity.child("required").child("nodeSelectorTerms").items() {
        pod::node_term(&t, false, out);
    }
    for (kind, name, why) in [
        ("cephfs", "cephfs", "deprecated in v1.28, non-functional in v1.31+"),
        ("photonPersistentDisk", "photonPersistentDisk", "deprecated in v1.11, non-functional in v1.16+"),
        ("scaleIO", "scaleIO", "deprecated in v1.16, non-functional in v1.22+"),
        ("storageos", "storageOS", "deprecated in v1.22, non-functional in v1.25+"),
        ("glusterfs", "glusterfs", "deprecated in v1.25, non-functional in v1.26+"),
        ("rbd", "rbd", "deprecated in v1.28, non-functional in v1.31+"),
    ] {
        if spec.get(kind).is_some() {
            out.push(format!("spec.{name}: {why}"));
        }
    }
}

fn node(spec: &At<'_, '_>, out: &mut Warnings) {
    if spec.get("configSource").is_some() {
        out.push("spec.configSource: the feature is removed".into());
    }
    if !spec.text_of("externalID").is_empty() {
        out.push("spec.externalID: this field is deprecated, and is unused by Kubernetes".into());
    }
    spec.child("podCIDRs").items().for_each(|r| cidr(&r, out));
}

fn quota(hard: &At<'_, '_>, out: &mut Warnings) {
    for resource in ["cpu", "memory", "storage", "ephemeral-storage"] {
        let mut request = format!("requests.{resource}");
        if hard.value().get(&request).is_none() && ["cpu", "memory"].contains(&resource) {
            request = resource.to_owned();
        }
        let limit = format!("limits.{resource}");
        let amount = |key: &str| hard.value().get(key).and_then(druse_object::Quantity::of);
        if let (Some(r), Some(l)) = (amount(&request), amount(&limit))
            && r > l
        {
            let (r, l) = (hard.text_of(&request), hard.text_of(&limit));
            out.push(format!("ResourceQuota {request} ({r}) should be less than {limit} ({l})"));
        }
    }
}

/// An address that is not written as it should be.
fn ip(at: &At<'_, '_>, out: &mut Warnings) {
    let text = at.text();
    if text.is_empty() {
        return;
    }
    let parsed: Option<IpAddr> = text.parse().ok();
    match parsed {
        Some(ip) if ip.is_ipv6() && !mapped(ip) => {
            if ip.to_string() != text {
                out.push(format!(
                    "{}: IPv6 address {} should be in RFC 5952 canonical format (\"{ip}\")",
                    at.path(),
                    go_quote(text)
                ));
            }
        }
        Some(IpAddr::V4(_)) => {}
        other => {
            let Some(ip) = other.or_else(|| sloppy(text)) else { return };
            let ip = ip.to_canonical();
            out.push(format!("{}: non-standard IP address {} is invalid: use \"{ip}\"", at.path(), go_quote(text)));
        }
    }
}

/// A range that is not written as it should be.
fn cidr(at: &At<'_, '_>, out: &mut Warnings) {
    let text = at.text();
    let Some(range) = Cidr::read(text) else { return };
    let width = if range.address.is_ipv4() { 32 } else { 128 };
    let before = out.len();
    if range.first() != range.address {
        out.push(format!(
            "{}: CIDR value {} is ambiguous in this context (should be \"{}/{}\" or \"{}/{width}\"?)",
            at.path(),
            go_quote(text),
            range.first(),
            range.bits,
            range.address
        ));
    }
    let (address, bits) = text.split_once('/').unwrap_or_default();
    let parsed: Option<IpAddr> = address.parse().ok();
    if parsed.is_none_or(mapped) || bits.len() > 1 && bits.starts_with('0') {
        let (ip, bits) = (range.first(), range.bits);
        out.push(format!("{}: non-standard CIDR value {} is invalid: use \"{ip}/{bits}\"", at.path(), go_quote(text)));
    }
    if out.len() == before && parsed.is_some_and(|ip| ip.is_ipv6()) {
        let canonical = format!("{}/{}", range.address, range.bits);
        if canonical != text {
            out.push(format!(
                "{}: IPv6 CIDR value {} should be in RFC 5952 canonical format (\"{canonical}\")",
                at.path(),
                go_quote(text)
            ));
        }
    }
}
