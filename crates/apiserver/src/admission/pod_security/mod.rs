//! `PodSecurity`: the Pod Security Standards as a namespace's labels ask for them. Enforced on pods; warned of on pods
//! and on everything that makes pods. Audit annotations have nowhere to go: there is no audit log.

mod checks;

use std::collections::BTreeMap;

use druse_object::Value;
use futures::future::{BoxFuture, ready};

use super::{Operation, Plugin, Review};
use crate::field::FieldError;
use crate::prepare::template_path;
use crate::server::Shared;
use crate::status::{Named, Status};
use checks::{Broken, Pod};

/// How much is forbidden.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Nothing.
    Privileged,
    /// Known ways out of a container.
    Baseline,
    /// All that is not best practice.
    Restricted,
}

/// A level of a version of the standards.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Standard {
    level: Level,
    version: String,
}

impl std::fmt::Display for Standard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let level = match self.level {
            Level::Privileged => "privileged",
            Level::Baseline => "baseline",
            Level::Restricted => "restricted",
        };
        write!(f, "{level}:{}", self.version)
    }
}

impl Standard {
    fn broken(&self, meta: &Value, spec: &Value) -> Vec<Broken> {
        let minor = self.version.strip_prefix("v1.").and_then(|m| m.parse().ok()).unwrap_or(u32::MAX);
        checks::broken(self.level, &Pod { meta, spec, minor })
    }
}

/// What a namespace asks for.
struct Policy {
    enforce: Standard,
    warn: Standard,
    errors: Vec<FieldError>,
}

const PREFIX: &str = "pod-security.kubernetes.io/";

impl Policy {
    fn of(namespace: &Value) -> Self {
        let mut errors = Vec::new();
        let label = |k: &str| namespace.at(["metadata", "labels"]).and_then(|l| l.str_at([&format!("{PREFIX}{k}")]));
        let mut wrong = |k: &str, value: &str, why: &str| {
            errors.push(FieldError::invalid(format!("metadata.labels[{PREFIX}{k}]"), value, why));
        };
        let level = |k: &str, wrong: &mut dyn FnMut(&str, &str, &str)| match label(k)? {
            "privileged" => Some(Ok(Level::Privileged)),
            "baseline" => Some(Ok(Level::Baseline)),
            "restricted" => Some(Ok(Level::Restricted)),
            other => {
                wrong(k, other, "must be one of privileged, baseline, restricted");
                Some(Err(()))
            }
        };
        let version = |k: &str, wrong: &mut dyn FnMut(&str, &str, &str)| {
            let text = label(k)?;
            let known = text.strip_prefix("v1.").is_some_and(|m| m.parse::<u32>().is_ok());
            if text != "latest" && !known {
                wrong(k, text, "must be \"latest\" or \"v1.x\"");
                return Some("latest".to_owned());
            }
            Some(text.to_owned())
        };
        let enforce = level("enforce", &mut wrong);
        let enforced = version("enforce-version", &mut wrong).unwrap_or_else(|| "latest".into());
        let _ = (level("audit", &mut wrong), version("audit-version", &mut wrong));
        let warn = level("warn", &mut wrong);
        let warned = version("warn-version", &mut wrong);
        // A level that cannot be read is taken for the strictest; warnings are left out then.
        let enforce_level = match enforce {
            None => Level::Privileged,
            Some(Ok(l)) => l,
            Some(Err(())) => Level::Restricted,
        };
        let enforce_standard = Standard { level: enforce_level, version: enforced };
        let warn_standard = match (warn, enforce) {
            // Who enforces is warned of the same, unless they say otherwise.
            (None, Some(Ok(l))) => {
                Standard { level: l, version: warned.unwrap_or_else(|| enforce_standard.version.clone()) }
            }
            (Some(Ok(l)), _) => Standard { level: l, version: warned.unwrap_or_else(|| "latest".into()) },
            _ => Standard { level: Level::Privileged, version: "latest".into() },
        };
        Self { enforce: enforce_standard, warn: warn_standard, errors }
    }
}

fn shown(broken: &[Broken]) -> String {
    let one = |(reason, detail): &Broken| {
        if detail.is_empty() { reason.clone() } else { format!("{reason} ({detail})") }
    };
    broken.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// The standard that a namespace enforces (`restricted:latest`) and the rules of it that a pod breaks, each with its
/// details; `None` when the pod is let in.
#[must_use]
pub fn forbidden(namespace: &Value, meta: &Value, spec: &Value) -> Option<(String, Vec<(String, String)>)> {
    let policy = Policy::of(namespace);
    let broken = policy.enforce.broken(meta, spec);
    (!broken.is_empty()).then(|| (policy.enforce.to_string(), broken))
}

/// The plugin.
pub struct PodSecurity;

impl Plugin for PodSecurity {
    fn name(&self) -> &'static str {
        "PodSecurity"
    }

    fn validate<'a>(&'a self, shared: &'a Shared, review: &'a mut Review<'_>) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(ready(judge(shared, review)))
    }
}

fn judge(shared: &Shared, review: &Review<'_>) -> Result<(), Status> {
    let Some(object) = review.object.as_deref() else { return Ok(()) };
    match review.resource.stored_as.as_str() {
        "namespaces" if review.subresource.is_empty() => namespace(shared, review, object),
        "pods" if matches!(review.subresource, "" | "ephemeralcontainers" | "resize") => pod(shared, review, object),
        kind if review.subresource.is_empty() && kind != "pods" => {
            if let Some(path) = template_path(kind) {
                let policy = Policy::of(&shared.object("namespaces", "", review.namespace).unwrap_or_default());
                if policy.warn.level > Level::Privileged {
                    let template = path.iter().fold(object, |v, k| &v[*k]);
                    warn(review, &policy, &template["metadata"], &template["spec"]);
                }
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

fn warn(review: &Review<'_>, policy: &Policy, meta: &Value, spec: &Value) {
    let broken = policy.warn.broken(meta, spec);
    if !broken.is_empty() && !spec.is_null() {
        review.warnings.lock().push(format!("would violate PodSecurity \"{}\": {}", policy.warn, shown(&broken)));
    }
}

fn pod(shared: &Shared, review: &Review<'_>, pod: &Value) -> Result<(), Status> {
    let policy = Policy::of(&shared.object("namespaces", "", review.namespace).unwrap_or_default());
    if policy.enforce.level == Level::Privileged && policy.warn.level == Level::Privileged {
        return Ok(());
    }
    if review.old.is_some_and(|old| !significant(pod, old)) {
        return Ok(());
    }
    let broken = policy.enforce.broken(&pod["metadata"], &pod["spec"]);
    if !broken.is_empty() {
        let n = Named { group: "", resource: "pods", name: review.name };
        return Err(Status::forbidden(n, format!("violates PodSecurity \"{}\": {}", policy.enforce, shown(&broken))));
    }
    warn(review, &policy, &pod["metadata"], &pod["spec"]);
    Ok(())
}

/// Whether an update of a pod changes what is judged: its containers, or their images.
fn significant(new: &Value, old: &Value) -> bool {
    ["containers", "initContainers", "ephemeralContainers"].iter().any(|k| {
        let (a, b) = (new["spec"][*k].items(), old["spec"][*k].items());
        a.len() != b.len() || a.iter().zip(b).any(|(x, y)| x["image"] != y["image"])
    })
}

fn namespace(shared: &Shared, review: &Review<'_>, object: &Value) -> Result<(), Status> {
    let policy = Policy::of(object);
    let before = review.old.filter(|_| review.operation == Operation::Update).map(Policy::of);
    let known = before.as_ref().is_some_and(|b| b.errors == policy.errors);
    if !policy.errors.is_empty() && !known {
        return Err(Status::invalid("", "Namespace", review.name, &policy.errors));
    }
    let Some(before) = before else { return Ok(()) };
    let (new, old) = (&policy.enforce, &before.enforce);
    let stricter = new.level > Level::Privileged && (new.version != old.version || new.level > old.level);
    if new == old || !stricter {
        return Ok(());
    }
    // Pods that are there stay; whoever changes the label is told of them, the same reasons together.
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for pod in shared.objects("pods", review.name) {
        let broken = new.broken(&pod["metadata"], &pod["spec"]);
        if !broken.is_empty() {
            let reasons: Vec<&str> = broken.iter().map(|(r, _)| r.as_str()).collect();
            let name = pod.str_at(["metadata", "name"]).unwrap_or_default().to_owned();
            found.entry(reasons.join(", ")).or_default().push(name);
        }
    }
    if found.is_empty() {
        return Ok(());
    }
    let mut lines: Vec<String> = found
        .into_iter()
        .map(|(reasons, names)| {
            let first = names.iter().min().cloned().unwrap_or_default();
            match names.len() {
                1 => format!("{first}: {reasons}"),
                2 => format!("{first} (and 1 other pod): {reasons}"),
                n => format!("{first} (and {} other pods): {reasons}", n - 1),
            }
        })
        .collect();
    lines.sort();
    let mut warnings = review.warnings.lock();
    let ns = review.name;
    warnings.push(format!("existing pods in namespace \"{ns}\" violate the new PodSecurity enforce level \"{new}\""));
    warnings.extend(lines);
    Ok(())
}
