//! Pods and pod templates (`k8s.io/kubernetes/pkg/apis/core/validation`, `ValidatePodSpec`).

use std::collections::{HashMap, HashSet};

use druse_object::{Map, Quantity, Value};

use super::at::{At, Errors};
use super::containers::{self, trimmed_image};
use super::meta::{annotations, labels};
use super::names::{NameRule, is_dns1123_subdomain_with_underscore, is_qualified_name};
use super::resources::{container_requirements, names_in, pod_requirements, total};
use super::{ip, scheduling, security, volumes};
use crate::field::FieldError;

pub(crate) use super::containers::{port_number, port_or_name};

/// What rules about parts of a pod need to know of the whole.
pub(crate) struct Spec<'v, 'p> {
    /// The specification.
    pub at: &'p At<'v, 'p>,
    /// Its volumes that are in order, by name.
    pub volumes: HashMap<&'v str, &'v Value>,
    /// The names of its resource claims.
    pub claims: Vec<&'v str>,
    /// How long its containers are given to end.
    pub grace: Option<i64>,
    /// Whether it shares the host's users.
    pub host_users: bool,
}

/// A pod and a change of one.
pub(crate) fn pod(new: &Value, old: Option<&Value>, out: &mut Errors) {
    metadata_and_spec(new, out);
    match old {
        Some(old) => super::pod_update::update(new, old, out),
        None => {
            let root = At::new(new, "");
            let spec = root.child("spec");
            if spec.child("ephemeralContainers").len() > 0 {
                spec.child("ephemeralContainers").forbidden("cannot be set on create", out);
            }
            if !spec.text_of("nodeName").is_empty() && spec.child("schedulingGates").len() > 0 {
                spec.child("nodeName").forbidden("cannot be set until all schedulingGates have been cleared", out);
            }
            security::profiles_match(new.at(["metadata", "annotations"]), &spec, out);
        }
    }
}

/// What holds for a pod however it comes.
pub(crate) fn metadata_and_spec(pod: &Value, out: &mut Errors) {
    let root = At::new(pod, "");
    let (meta, spec) = (root.child("metadata"), root.child("spec"));
    security::annotations(&meta.child("annotations"), &spec, out);
    pod_spec(&spec, Some(meta.value()), out);
    if spec.text_of("serviceAccountName").is_empty() {
        for v in spec.child("volumes").items() {
            for s in v.child("projected").child("sources").items() {
                if let Some(token) = s.get("serviceAccountToken") {
                    token.forbidden("must not be specified when serviceAccountName is not set", out);
                }
            }
        }
    }
    for list in ["containers", "initContainers"] {
        spec.child(list).items().for_each(|c| trimmed_image(&c, out));
    }
}

/// A pod template: its labels, annotations and specification.
pub(crate) fn template(template: &Value, path: &str, out: &mut Errors) {
    let at = At::new(template, path);
    let spec = at.child("spec");
    let notes = template.at(["metadata", "annotations"]);
    template_notes(&at, out);
    pod_spec(&spec, None, out);
    security::profiles_match(notes, &spec, out);
    if spec.child("ephemeralContainers").len() > 0 {
        spec.child("ephemeralContainers").forbidden("ephemeral containers not allowed in pod template", out);
    }
}

/// A pod template's labels and annotations.
pub(crate) fn template_notes(at: &At, out: &mut Errors) {
    let path = at.path();
    labels(at.value().at(["metadata", "labels"]), &format!("{path}.labels"), out);
    let notes = at.value().at(["metadata", "annotations"]);
    let notes_at = format!("{path}.annotations");
    annotations(notes, &notes_at, out);
    security::annotations(&At::new(notes.unwrap_or(&Value::Null), &notes_at), &at.child("spec"), out);
}

/// A pod's specification; `meta` is the pod's metadata, `None` in a template.
fn pod_spec(at: &At, meta: Option<&Value>, out: &mut Errors) {
    if at.get("terminationGracePeriodSeconds").is_none() {
        at.child("terminationGracePeriodSeconds").required("", out);
    }
    let name = meta.and_then(|m| m.str_at(["name"])).unwrap_or_default();
    let volumes = volumes::volumes(&at.child("volumes"), meta.is_some(), name, out);
    let claims = at.value().get("resourceClaims").map(Value::items).unwrap_or_default();
    let claims = claims.iter().filter_map(|c| c.str_at(["name"])).filter(|n| !n.is_empty()).collect();
    resource_claims(&at.child("resourceClaims"), out);
    let spec = Spec {
        at,
        volumes,
        claims,
        grace: at.child("terminationGracePeriodSeconds").int(),
        host_users: at.value().get("hostUsers").and_then(Value::as_bool) != Some(false),
    };
    containers::containers(&at.child("containers"), &spec, out);
    containers::init_containers(&at.child("initContainers"), &spec, out);
    containers::ephemeral_containers(&at.child("ephemeralContainers"), &spec, out);
    own_resources(at, &spec.claims, out);
    host_network_ports(at, meta.is_some(), out);
    at.child("restartPolicy").one_of(&["Always", "OnFailure", "Never"], out);
    at.child("dnsPolicy").one_of(&["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"], out);
    labels(at.value().get("nodeSelector"), &at.child("nodeSelector").path(), out);
    security::pod_security_context(at, out);
    scheduling::affinity(&at.child("affinity"), out);
    dns_config(at, out);
    at.child("readinessGates").items().for_each(|g| g.child("conditionType").qualified(out));
    scheduling_gates(&at.child("schedulingGates"), out);
    scheduling::spread(&at.child("topologySpreadConstraints"), out);
    security::host_process(at, out);
    security::own_users(at, out);
    hostname_override(at, out);
    for key in ["serviceAccountName", "nodeName"] {
        if !at.text_of(key).is_empty() {
            at.child(key).subdomain(out);
        }
    }
    at.child("activeDeadlineSeconds").within(1, i64::from(i32::MAX), out);
    for key in ["hostname", "subdomain"] {
        if !at.text_of(key).is_empty() {
            at.child(key).label(out);
        }
    }
    scheduling::tolerations(&at.child("tolerations"), out);
    for alias in at.child("hostAliases").items() {
        let address = alias.child("ip");
        ip::legacy(address.text(), &address.path(), out);
        alias.child("hostnames").items().for_each(|h| h.subdomain(out));
    }
    if !at.text_of("priorityClassName").is_empty() {
        at.child("priorityClassName").subdomain(out);
    }
    if let Some(class) = at.get("runtimeClassName") {
        class.subdomain(out);
    }
    if let Some(policy) = at.get("preemptionPolicy") {
        policy.one_of(&["PreemptLowerPriority", "Never"], out);
    }
    if let Some(overhead) = at.get("overhead") {
        let mut limits = Map::new();
        limits.insert("limits", overhead.value().clone());
        container_requirements(&At::new(&Value::Map(limits), &overhead.path()), &[], out);
    }
    security::operating_system(at, out);
    file_volumes(at, out);
}

fn resource_claims(list: &At, out: &mut Errors) {
    let mut names = HashSet::new();
    for c in list.items() {
        let name = c.child("name");
        if name.need(out) {
            if names.contains(name.text()) {
                name.duplicate(name.text(), out);
            } else {
                name.label(out);
                names.insert(name.text());
            }
        }
        let (claim, template) = (c.get("resourceClaimName"), c.get("resourceClaimTemplateName"));
        let wrong = match (&claim, &template) {
            (Some(_), Some(_)) => "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified",
            (None, None) => "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`",
            _ => "",
        };
        if !wrong.is_empty() {
            c.bad(super::dump::internal("PodResourceClaim", c.value()), wrong, out);
        }
        for at in [claim, template].into_iter().flatten() {
            at.each(NameRule::Subdomain.errors(at.text(), false), out);
        }
    }
}

/// Resources of the pod as a whole: no less than its containers ask for together.
fn own_resources(spec: &At, claims: &[&str], out: &mut Errors) {
    let Some(r) = spec.get("resources") else { return };
    if spec.value().str_at(["os", "name"]) == Some("windows") {
        return r.forbidden("may not be set for a windows pod", out);
    }
    pod_requirements(&r, claims, out);
    let compare = |what: &'static str, only_huge: bool, out: &mut Errors| {
        let list = r.child(what);
        for name in names_in(spec.value(), what) {
            let at = list.entry(name);
            let (Some(own), Some(sum)) = (at.quantity(), total(spec.value(), what, name)) else { continue };
            if sum > own && (!only_huge || name.starts_with("hugepages-")) {
                let why = format!("must be greater than or equal to aggregate container {what} of {}", shown(sum));
                at.invalid(why, out);
            }
        }
    };
    compare("requests", false, out);
    compare("limits", true, out);
    for (i, c) in spec.child("containers").items().enumerate() {
        for (name, v) in c.child("resources").child("limits").entries() {
            let own = r.child("limits").entry(name).quantity();
            if own.zip(v.quantity()).is_some_and(|(own, l)| l > own) {
                let path = format!("{}.containers[{i}][{name}].limits", r.path());
                let most = r.child("limits").entry(name).text();
                let why = format!("must be less than or equal to pod limits of {most}");
                out.push(FieldError::invalid(path, v.value().clone(), why));
            }
        }
    }
}

fn shown(q: Quantity) -> String {
    q.to_string()
}

fn host_network_ports(spec: &At, is_pod: bool, out: &mut Errors) {
    if !spec.is("hostNetwork") {
        return;
    }
    for c in spec.child("containers").items() {
        for p in c.child("ports").items() {
            let (host, own) = (p.int_of("hostPort"), p.int_of("containerPort"));
            if (is_pod || host != 0) && host != own {
                p.child("hostPort").bad(host, "must match `containerPort` when `hostNetwork` is true", out);
            }
        }
    }
}

fn dns_config(spec: &At, out: &mut Errors) {
    const SERVERS: usize = 3;
    const SEARCHES: usize = 32;
    const LONGEST: usize = 2048;
    let config = spec.child("dnsConfig");
    let (servers, searches) = (config.child("nameservers"), config.child("searches"));
    if spec.text_of("dnsPolicy") == "None" {
        if !config.is_given() {
            return config.required("must provide `dnsConfig` when `dnsPolicy` is None", out);
        }
        if servers.len() == 0 {
            return servers.required("must provide at least one DNS nameserver when `dnsPolicy` is None", out);
        }
    }
    if servers.len() > SERVERS {
        servers.invalid(format!("must not have more than {SERVERS} nameservers"), out);
    }
    for s in servers.items() {
        ip::legacy(s.text(), &s.path(), out);
    }
    if searches.len() > SEARCHES {
        searches.invalid(format!("must not have more than {SEARCHES} search paths"), out);
    }
    let length: usize = searches.items().map(|s| s.text().len() + 1).sum();
    if length.saturating_sub(1) > LONGEST {
        let why = format!("must not have more than {LONGEST} characters (including spaces) in the search list");
        searches.invalid(why, out);
    }
    for s in searches.items().filter(|s| s.text() != ".") {
        let name = s.text().strip_suffix('.').unwrap_or(s.text());
        s.each_of(name, is_dns1123_subdomain_with_underscore(name), out);
    }
    for o in config.child("options").items() {
        if o.text_of("name").is_empty() {
            o.required("must not be empty", out);
        }
    }
}

fn scheduling_gates(list: &At, out: &mut Errors) {
    let mut seen = HashSet::new();
    for g in list.items() {
        let name = g.text_of("name");
        g.each_of(name, is_qualified_name(name), out);
        if !seen.insert(name) {
            g.duplicate(name, out);
        }
    }
}

fn hostname_override(spec: &At, out: &mut Errors) {
    const LONGEST: usize = 64;
    let Some(name) = spec.get("hostnameOverride") else { return };
    if spec.is("setHostnameAsFQDN") {
        name.forbidden("may not be specified when setHostnameAsFQDN is true", out);
    }
    if spec.is("hostNetwork") {
        name.forbidden("may not be specified when hostNetwork is true", out);
    }
    if name.text().len() > LONGEST {
        name.too_long(LONGEST, out);
    }
    name.subdomain(out);
}

/// Variables read from files: those lie in volumes that only the pod writes to.
fn file_volumes(spec: &At, out: &mut Errors) {
    let volumes = spec.value().get("volumes").map(Value::items).unwrap_or_default();
    security::each_container(spec, |c| {
        for e in c.child("env").items() {
            let from = e.child("valueFrom");
            let Some(r) = from.get("fileKeyRef") else { continue };
            let name = r.child("volumeName");
            match volumes.iter().rfind(|v| v.str_at(["name"]).unwrap_or_default() == name.text()) {
                None => name.not_found("", out),
                Some(v) if v.get("emptyDir").is_none() => {
                    name.bad(name.text(), "referenced volume must be of type emptyDir", out);
                }
                Some(_) => {}
            }
        }
    });
}
