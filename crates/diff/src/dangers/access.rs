//! What pods may do on their node: privileges, the node's namespaces and files, capabilities, the user they run as.

use std::collections::BTreeMap;

use druse_object::{Object, Value};

use super::{Found, Subject, at, some_of, text_at};
use crate::model::Severity;

/// The pod specification of a workload.
pub(crate) fn pod_spec(object: &Object) -> Option<&Value> {
    let gvk = object.gvk();
    let path = match (gvk.group.as_str(), gvk.kind.as_str()) {
        ("", "Pod") => "spec",
        ("apps", "Deployment" | "StatefulSet" | "DaemonSet" | "ReplicaSet") | ("batch", "Job") => "spec.template.spec",
        ("", "ReplicationController") => "spec.template.spec",
        ("batch", "CronJob") => "spec.jobTemplate.spec.template.spec",
        _ => return None,
    };
    at(&object.value, path)
}

pub(super) fn check(found: &mut Found<'_>, subject: &Subject<'_>) {
    if subject.is("", &["Namespace"]) {
        return namespace(found, subject);
    }
    let Some(new) = subject.pair.head.map(|h| h.object) else { return };
    let Some(new_spec) = pod_spec(new) else { return };
    let old_spec = subject.pair.base.and_then(|b| pod_spec(b.object));
    let before = old_spec.map(|s| powers(s, &|_| true)).unwrap_or_default();
    let is_new = old_spec.is_none();
    let known: Vec<&str> = old_spec.into_iter().flat_map(containers).filter_map(|c| text_at(c, "name")).collect();
    let mut gained: BTreeMap<&'static str, Vec<String>> = BTreeMap::new();
    for (code, what) in powers(new_spec, &|container| known.contains(&container)) {
        // From root said to root not said, nothing is gained.
        let was_root = code == "runs-as-root"
            && before
                .iter()
                .any(|(c, w)| *c == code && w.split(' ').nth(1) == what.split(' ').nth(1) && w.ends_with("root"));
        if !was_root && !before.contains(&(code, what.clone())) {
            gained.entry(code).or_default().push(what);
        }
    }
    for (code, what) in gained {
        let title = format!("{} {}: {}", new.kind(), new.name(), some_of(&what));
        let Some(danger) = found.pair(code, &subject.pair, title) else { continue };
        if is_new && danger.severity == Severity::Danger {
            danger.severity(Severity::Warning);
        }
    }
}

pub(super) fn containers(spec: &Value) -> impl Iterator<Item = &Value> {
    ["initContainers", "containers", "ephemeralContainers"]
        .into_iter()
        .flat_map(|field| spec.get(field).map(Value::items).unwrap_or_default())
}

/// What a pod may do beyond a plain one, by kind of danger. Of containers that are not `known`, what follows from saying
/// nothing is left out: a new container that says nothing has not lost a restriction.
fn powers(spec: &Value, known: &dyn Fn(&str) -> bool) -> Vec<(&'static str, String)> {
    let mut out: Vec<(&'static str, String)> = Vec::new();
    let truth = |v: &Value, path: &str| at(v, path).and_then(Value::as_bool);
    for field in ["hostNetwork", "hostPID", "hostIPC"] {
        if truth(spec, field) == Some(true) {
            out.push(("host-namespaces", field.to_string()));
        }
    }
    for volume in spec.get("volumes").map(Value::items).unwrap_or_default() {
        if let Some(path) = text_at(volume, "hostPath.path") {
            out.push(("host-path", format!("mounts {path} of the node")));
        }
    }
    if text_at(spec, "securityContext.seccompProfile.type") == Some("Unconfined") {
        out.push(("unconfined", "seccomp profile Unconfined".into()));
    }
    for container in containers(spec) {
        let name = text_at(container, "name").unwrap_or_default();
        let only_said = !known(name);
        if truth(container, "securityContext.privileged") == Some(true) {
            out.push(("privileged", format!("container {name} is privileged")));
        }
        for profile in ["seccompProfile", "appArmorProfile"] {
            if text_at(container, &format!("securityContext.{profile}.type")) == Some("Unconfined") {
                out.push(("unconfined", format!("container {name} has {profile} Unconfined")));
            }
        }
        for capability in at(container, "securityContext.capabilities.add").map(Value::items).unwrap_or_default() {
            if let Some(capability) = capability.as_str() {
                out.push(("capability-added", format!("container {name} adds {capability}")));
            }
        }
        for port in container.get("ports").map(Value::items).unwrap_or_default() {
            if let Some(port) = at(port, "hostPort").and_then(Value::as_i64).filter(|p| *p > 0) {
                out.push(("host-port", format!("port {port} of the node")));
            }
        }
        user(spec, container, name, only_said, &mut out);
        if !only_said {
            let drops = at(container, "securityContext.capabilities.drop").map(Value::items).unwrap_or_default();
            if !drops.iter().any(|d| d.as_str().is_some_and(|d| d.eq_ignore_ascii_case("all"))) {
                out.push(("capability-added", format!("container {name} no longer drops all capabilities")));
            }
            if truth(container, "securityContext.allowPrivilegeEscalation") != Some(false) {
                out.push(("privilege-escalation", format!("container {name} no longer forbids privilege escalation")));
            }
        }
    }
    out
}

fn user(spec: &Value, container: &Value, name: &str, only_said: bool, out: &mut Vec<(&'static str, String)>) {
    let effective = |field: &str| {
        let path = format!("securityContext.{field}");
        at(container, &path).or_else(|| at(spec, &path))
    };
    let user = effective("runAsUser").and_then(Value::as_i64);
    let non_root = effective("runAsNonRoot").and_then(Value::as_bool) == Some(true);
    if user == Some(0) {
        out.push(("runs-as-root", format!("container {name} runs as root")));
    } else if !only_said && user.is_none() && !non_root {
        out.push(("runs-as-root", format!("container {name} may run as root: nothing says which user")));
    }
}

fn namespace(found: &mut Found<'_>, subject: &Subject<'_>) {
    let Some((old, new)) = subject.both() else { return };
    const ENFORCE: &str = "pod-security.kubernetes.io/enforce";
    // Without the label the cluster's default holds, which is privileged unless configured otherwise.
    let rank = |level: Option<&str>| match level {
        Some("restricted") => 2,
        Some("baseline") => 1,
        _ => 0,
    };
    let (from, to) = (old.label(ENFORCE), new.label(ENFORCE));
    if rank(to) < rank(from) {
        let title = format!("pod security goes from {} to {}", from.unwrap_or("none"), to.unwrap_or("none"));
        found
            .pair("pod-security-loosened", &subject.pair, title)
            .map(|d| d.field(&format!("metadata.labels.{ENFORCE}")));
    }
}
