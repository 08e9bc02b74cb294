//! `LimitRanger`: a namespace's LimitRanges give containers requests and limits they do not name, and bound what pods
//! and claims may ask for.

use druse_object::{Map, Value};
use futures::future::{BoxFuture, ready};

use super::{Operation, Plugin, Review};
use crate::quota::{Usage, amounts};
use crate::server::Shared;
use crate::status::{Named, Status};
use druse_object::Quantity;

/// The plugin.
pub struct LimitRanger;

const ANNOTATION: &str = "kubernetes.io/limit-ranger";

impl Plugin for LimitRanger {
    fn name(&self) -> &'static str {
        "LimitRanger"
    }

    fn mutate<'a>(&'a self, shared: &'a Shared, review: &'a mut Review<'_>) -> BoxFuture<'a, Result<(), Status>> {
        if review.creates("pods") {
            let ranges = shared.objects("limitranges", review.namespace);
            if let Some(pod) = review.object.as_deref_mut() {
                for range in &ranges {
                    fill(pod, range);
                }
            }
        }
        Box::pin(ready(Ok(())))
    }

    fn validate<'a>(&'a self, shared: &'a Shared, review: &'a mut Review<'_>) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(ready(judge(shared, review)))
    }
}

/// Gives a pod's containers what a range names for them and they do not.
fn fill(pod: &mut Value, range: &Value) {
    let (mut limits, mut requests) = (Map::new(), Map::new());
    for item in range["spec"]["limits"].items().iter().filter(|i| i.str_at(["type"]) == Some("Container")) {
        for (from, to) in [("default", &mut limits), ("defaultRequest", &mut requests)] {
            for (k, v) in item[from].as_map().into_iter().flat_map(|m| m.iter()) {
                to.insert(k.clone(), v.clone());
            }
        }
    }
    let mut said = Vec::new();
    for (list, word) in [("containers", "container"), ("initContainers", "init container")] {
        let containers = pod.get_mut("spec").and_then(|s| s.get_mut(list)).and_then(Value::as_array_mut);
        for c in containers.into_iter().flatten() {
            let name = c.str_at(["name"]).unwrap_or_default().to_owned();
            for (what, defaults, noun) in [("requests", &requests, "request"), ("limits", &limits, "limit")] {
                let mut set = Vec::new();
                if defaults.is_empty() {
                    continue;
                }
                let Some(given) = c.make_map_at(["resources", what]) else { continue };
                for (k, v) in defaults.iter().filter(|(k, _)| !given.contains_key(k)) {
                    set.push((k.clone(), v.clone()));
                }
                for (k, v) in &set {
                    given.insert(k.clone(), v.clone());
                }
                if !set.is_empty() {
                    let mut names: Vec<&str> = set.iter().map(|(k, _)| k.as_str()).collect();
                    names.sort_unstable();
                    said.push(format!("{} {noun} for {word} {name}", names.join(", ")));
                }
            }
        }
    }
    if !said.is_empty()
        && let Some(annotations) = pod.make_map_at(["metadata", "annotations"])
    {
        annotations.insert(ANNOTATION, format!("LimitRanger plugin set: {}", said.join("; ")));
    }
}

/// What a container, a pod or a claim asks for.
struct Asked {
    requests: Usage,
    limits: Usage,
}

fn judge(shared: &Shared, review: &Review<'_>) -> Result<(), Status> {
    let Some(object) = review.object.as_deref() else { return Ok(()) };
    let stored_as = review.resource.stored_as.as_str();
    let changes = match review.operation {
        Operation::Create => review.subresource.is_empty(),
        // Of pods, what is asked for does not change afterwards, except by resizing.
        Operation::Update => stored_as == "persistentvolumeclaims" || review.subresource == "resize",
        _ => false,
    };
    if !changes || !matches!(stored_as, "pods" | "persistentvolumeclaims") || review.subresource == "status" {
        return Ok(());
    }
    let going = review.old.is_some_and(|o| o.at(["metadata", "deletionTimestamp"]).is_some());
    if going {
        return Ok(());
    }
    let mut errors = Vec::new();
    for range in shared.objects("limitranges", review.namespace) {
        for item in range["spec"]["limits"].items() {
            match (item.str_at(["type"]).unwrap_or_default(), stored_as) {
                ("Container", "pods") => {
                    for c in object["spec"]["containers"].items().iter().chain(object["spec"]["initContainers"].items())
                    {
                        bounds("Container", item, &of_container(c), &mut errors);
                    }
                }
                ("Pod", "pods") => bounds("Pod", item, &of_pod(object), &mut errors),
                ("PersistentVolumeClaim", "persistentvolumeclaims") => {
                    let requests = amounts(&object["spec"]["resources"]["requests"]);
                    claim_bounds(item, &requests, &mut errors);
                }
                _ => {}
            }
        }
    }
    if errors.is_empty() {
        return Ok(());
    }
    // Upstream's aggregate names an equal message once.
    let mut unique: Vec<String> = Vec::new();
    for e in errors {
        if !unique.contains(&e) {
            unique.push(e);
        }
    }
    let why = if unique.len() == 1 { unique.join("") } else { format!("[{}]", unique.join(", ")) };
    let n = Named { group: &review.resource.group, resource: &review.resource.plural, name: review.name };
    Err(Status::forbidden(n, why))
}

fn of_container(c: &Value) -> Asked {
    Asked { requests: amounts(&c["resources"]["requests"]), limits: amounts(&c["resources"]["limits"]) }
}

/// A pod's sums: its containers together, or an init container that needs more, one after another.
fn of_pod(pod: &Value) -> Asked {
    let sum = |what: &str| {
        let mut out = Usage::new();
        for c in pod["spec"]["containers"].items() {
            for (k, q) in amounts(&c["resources"][what]) {
                let had = out.get(&k).copied();
                out.insert(k, had.map_or(q, |h| h.plus(q)));
            }
        }
        for c in pod["spec"]["initContainers"].items() {
            for (k, q) in amounts(&c["resources"][what]) {
                let had = out.get(&k).copied();
                out.insert(k, had.map_or(q, |h| h.max(q)));
            }
        }
        out
    };
    Asked { requests: sum("requests"), limits: sum("limits") }
}

fn bounds(kind: &str, item: &Value, asked: &Asked, errors: &mut Vec<String>) {
    for (k, least) in amounts(&item["min"]) {
        let (request, limit) = (asked.requests.get(&k), asked.limits.get(&k));
        let words = format!("minimum {k} usage per {kind} is {least}");
        match (request, limit) {
            (None, _) => errors.push(format!("{words}.  No request is specified")),
            (Some(r), _) if *r < least => errors.push(format!("{words}, but request is {r}")),
            (_, Some(l)) if *l < least => errors.push(format!("{words}, but limit is {l}")),
            _ => {}
        }
    }
    for (k, most) in amounts(&item["max"]) {
        let (request, limit) = (asked.requests.get(&k), asked.limits.get(&k));
        let words = format!("maximum {k} usage per {kind} is {most}");
        match (limit, request) {
            (None, _) => errors.push(format!("{words}.  No limit is specified")),
            (Some(l), _) if *l > most => errors.push(format!("{words}, but limit is {l}")),
            (_, Some(r)) if *r > most => errors.push(format!("{words}, but request is {r}")),
            _ => {}
        }
    }
    for (k, most) in amounts(&item["maxLimitRequestRatio"]) {
        let words = format!("{k} max limit to request ratio per {kind} is {most}");
        let zero = |q: Option<&Quantity>| q.is_none_or(|q| q.is_zero());
        let (request, limit) = (asked.requests.get(&k), asked.limits.get(&k));
        if zero(request) {
            errors.push(format!("{words}, but no request is specified or request is 0"));
        } else if zero(limit) {
            errors.push(format!("{words}, but no limit is specified or limit is 0"));
        } else if let (Some(r), Some(l)) = (request, limit) {
            let ratio = l.approximate() / r.approximate();
            if ratio > most.approximate() {
                errors.push(format!("{words}, but provided ratio is {ratio:.6}"));
            }
        }
    }
}

fn claim_bounds(item: &Value, requests: &Usage, errors: &mut Vec<String>) {
    const KIND: &str = "PersistentVolumeClaim";
    for (k, least) in amounts(&item["min"]) {
        let words = format!("minimum {k} usage per {KIND} is {least}");
        match requests.get(&k) {
            None => errors.push(format!("{words}.  No request is specified")),
            Some(r) if *r < least => errors.push(format!("{words}, but request is {r}")),
            _ => {}
        }
    }
    for (k, most) in amounts(&item["max"]) {
        let words = format!("maximum {k} usage per {KIND} is {most}");
        match requests.get(&k) {
            None => errors.push(format!("{words}.  No request is specified")),
            Some(r) if *r > most => errors.push(format!("{words}, but request is {r}")),
            _ => {}
        }
    }
}
