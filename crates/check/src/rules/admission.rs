//! DR086: pods that nobody starts: those that the Pod Security Standard of their namespace forbids, judged by the code of
//! the embedded API, and those that the kubelet refuses because they are to run as root and not to.

use druse_apiserver::admission::forbidden;
use druse_object::Value;

use crate::context::Context;
use crate::finding::{Finding, Severity};
use crate::index::Origin;
use crate::paths;
use crate::pods::{self, Pod};
use crate::position::Step;

pub(super) fn check(cx: &Context<'_>, out: &mut Vec<Finding>) {
    let mutated = is_mutated(cx);
    // What a chart runs before it goes, or to test itself, is the chart's.
    for entry in cx.own().filter(|e| !e.hook) {
        let Some(pod) = pods::of(entry) else { continue };
        if let Some((path, message)) = refused(cx, &pod) {
            let texts = [texts_of(&path)];
            let finding = cx.at(entry, &path, &texts.each_ref().map(String::as_str), "DR086", message);
            // What a policy adds to pods in the cluster may be what is missing.
            out.push(if mutated { finding.severity(Severity::Warning) } else { finding });
        }
        for (path, message) in as_root(&pod) {
            if entry.origin == Origin::Chart && cx.in_values(entry.unit, &["runAsNonRoot"]).is_none() {
                continue;
            }
            out.push(cx.at(entry, &path, &["runAsUser", "runAsNonRoot"], "DR086", message));
        }
    }
}

/// The last key of a path: what values of charts call the field, too.
fn texts_of(path: &[Step]) -> String {
    let key = |s: &Step| match s {
        Step::Key(k) => Some(k.clone()),
        Step::Index(_) => None,
    };
    path.iter().rev().find_map(key).unwrap_or_default()
}

/// Whether something in the tree changes pods when they are made.
fn is_mutated(cx: &Context<'_>) -> bool {
    let kyverno = ["ClusterPolicy", "Policy"].into_iter().flat_map(|kind| cx.index.of_kind("kyverno.io", kind));
    let mut mutates = kyverno.map(|e| &e.object.value["spec"]["rules"]);
    mutates.any(|rules| rules.items().iter().any(|r| r.get("mutate").is_some()))
        || cx.index.of_kind("policies.kyverno.io", "MutatingPolicy").next().is_some()
        || cx.index.of_kind("admissionregistration.k8s.io", "MutatingAdmissionPolicy").next().is_some()
}

/// What the namespace forbids of a pod, with the field that the first rule it breaks is about.
fn refused(cx: &Context<'_>, pod: &Pod<'_, '_>) -> Option<(Vec<Step>, String)> {
    let namespace = pod.entry.object.namespace();
    let at = cx.index.named("", "Namespace", "", namespace).next()?;
    let depth = pod.path.len().checked_sub(1)?;
    let template = crate::position::at(&pod.entry.object.value, pod.path.get(..depth)?)?;
    let (standard, broken) = forbidden(&at.object.value, &template["metadata"], pod.spec)?;
    let standard = standard.trim_end_matches(":latest");
    let (first, _) = broken.first()?;
    let why: Vec<&str> = broken.iter().map(|(reason, _)| reason.as_str()).collect();
    let message = format!(
        "namespace {namespace} enforces Pod Security {standard:?}, which forbids pods of {}: {}",
        pod.entry.key(),
        why.join(", ")
    );
    Some((field(pod, first), message))
}

/// The field of a pod that a rule of the standards is about, by the rule's name.
fn field(pod: &Pod<'_, '_>, reason: &str) -> Vec<Step> {
    let mut path = pod.path.clone();
    let context = |fields: &[&str], wrong: &dyn Fn(&Value) -> bool| {
        let container = pod.containers().into_iter().find(|(_, c)| wrong(&c["securityContext"]));
        container
            .map(|(at, _)| [at, ["securityContext"].iter().chain(fields).map(|k| Step::from(*k)).collect()].concat())
    };
    let drops = |c: &Value| c["capabilities"]["drop"].items().iter().any(|d| d.as_str() == Some("ALL"));
    let found = match reason {
        "allowPrivilegeEscalation != false" => {
            context(&["allowPrivilegeEscalation"], &|c| c["allowPrivilegeEscalation"].as_bool() != Some(false))
        }
        "privileged" => context(&["privileged"], &|c| c["privileged"].as_bool() == Some(true)),
        "unrestricted capabilities" => context(&["capabilities", "drop"], &|c| !drops(c))
            .or_else(|| context(&["capabilities", "add"], &|c| !c["capabilities"]["add"].items().is_empty())),
        "non-default capabilities" => {
            context(&["capabilities", "add"], &|c| !c["capabilities"]["add"].items().is_empty())
        }
        "runAsNonRoot != true" => context(&["runAsNonRoot"], &|c| c["runAsNonRoot"].as_bool() == Some(false)),
        "runAsUser=0" => context(&["runAsUser"], &|c| c["runAsUser"].as_i64() == Some(0)),
        "hostPath volumes" | "restricted volume types" => {
            const ALLOWED: [&str; 9] = [
                "name",
                "configMap",
                "csi",
                "downwardAPI",
                "emptyDir",
                "ephemeral",
                "persistentVolumeClaim",
                "projected",
                "secret",
            ];
            let mut volumes = pod.spec["volumes"].items().iter().enumerate();
            let kind = |v: &Value| v.as_map()?.keys().find(|k| !ALLOWED.contains(&k.as_str())).map(ToString::to_string);
            volumes.find_map(|(i, v)| Some((i, kind(v)?))).map(|(i, kind)| {
                [pod.path.clone(), vec![Step::from("volumes"), Step::Index(i), Step::Key(kind)]].concat()
            })
        }
        "host namespaces" => ["hostNetwork", "hostPID", "hostIPC"]
            .iter()
            .find(|k| pod.spec[**k].as_bool() == Some(true))
            .map(|k| [pod.path.clone(), vec![Step::from(*k)]].concat()),
        "hostPort" => {
            let ports = paths::all(pod.spec, "containers[].ports[].hostPort").into_iter();
            ports.map(|(at, _)| [pod.path.clone(), at].concat()).next()
        }
        _ => None,
    };
    found.unwrap_or_else(|| {
        path.push(Step::from("securityContext"));
        path
    })
}

/// Containers that must not run as root and are told to: the kubelet does not start them.
fn as_root(pod: &Pod<'_, '_>) -> Vec<(Vec<Step>, String)> {
    let mut out = Vec::new();
    let whole = &pod.spec["securityContext"];
    for (at, container) in pod.containers() {
        let own = &container["securityContext"];
        let of = |key: &str| if own[key].is_null() { &whole[key] } else { &own[key] };
        if of("runAsNonRoot").as_bool() != Some(true) || of("runAsUser").as_i64() != Some(0) {
            continue;
        }
        let inner = ["securityContext", "runAsUser"].map(Step::from);
        let base = if own["runAsUser"].is_null() { &pod.path } else { &at };
        let path: Vec<Step> = base.iter().cloned().chain(inner).collect();
        if out.iter().any(|(p, _)| *p == path) {
            continue;
        }
        let name = container.str_at(["name"]).unwrap_or_default();
        out.push((path, format!("container {name} must not run as root (runAsNonRoot) and is to run as user 0")));
    }
    out
}
