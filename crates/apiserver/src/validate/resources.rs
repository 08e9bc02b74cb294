//! Amounts of resources that containers and pods ask for.

use std::collections::HashSet;

use druse_object::{Map, Quantity, Value};

use super::at::{At, Errors};
use super::limits::{container_resource, extended, overcommits, pod_resource};
use crate::field::FieldError;

/// How a resource's name is judged.
type NameCheck = fn(&str, &str, &mut Errors);

/// Requests and limits of a container: names, no negative amounts, no request above its limit. `claims` are the names
/// of the pod's resource claims.
pub(crate) fn container_requirements(r: &At, claims: &[&str], out: &mut Errors) {
    requirements(r, container_resource, claims, out);
}

/// Requests and limits of a whole pod.
pub(crate) fn pod_requirements(r: &At, claims: &[&str], out: &mut Errors) {
    if r.get("claims").is_some() {
        r.child("claims").forbidden("claims may not be set for Resources at pod-level", out);
    }
    requirements(r, pod_resource, claims, out);
}

fn requirements(r: &At, name_check: NameCheck, claims: &[&str], out: &mut Errors) {
    if !r.is_given() {
        return;
    }
    let limits_at = r.child("limits");
    let (mut computes, mut huge) = (false, false);
    for key in ["limits", "requests"] {
        let list = r.child(key);
        for (name, v) in list.entries() {
            name_check(name, &v.path(), out);
            let Some(q) = v.quantity() else { continue };
            amount(name, &v, q, out);
            if key == "requests" {
                against_limit(name, &list, &v, q, &limits_at, out);
            }
            if name.starts_with("hugepages-") {
                huge = true;
                let size = name.strip_prefix("hugepages-").and_then(|s| Quantity::parse(s).ok());
                let whole = size.is_some_and(|s| s.value() > 0 && q.value() % s.value() == 0);
                if !whole {
                    v.invalid(format!("{} is not positive integer multiple of {name}", v.text()), out);
                }
            }
            computes |= matches!(name, "cpu" | "memory");
        }
    }
    if huge && !computes {
        r.forbidden("HugePages require cpu or memory", out);
    }
    claim_names(&r.child("claims"), claims, out);
}

/// An amount is not negative, and whole where only whole ones exist.
fn amount(name: &str, v: &At, q: Quantity, out: &mut Errors) {
    if q.is_negative() {
        v.invalid("must be greater than or equal to 0", out);
    }
    let counted = super::limits::COUNTS.contains(&name) || extended(name);
    if counted && q.rounded_to_milli() != Quantity::parse(&q.value().to_string()).unwrap_or_default() {
        v.invalid("must be an integer", out);
    }
}

fn against_limit(name: &str, list: &At, v: &At, q: Quantity, limits: &At, out: &mut Errors) {
    let overcommits = overcommits(name);
    match limits.entry(name).quantity() {
        Some(limit) if q != limit && !overcommits => {
            let shown = limits.entry(name).text();
            list.bad(v.value().clone(), format!("must be equal to {name} limit of {shown}"), out);
        }
        Some(limit) if q > limit => {
            let shown = limits.entry(name).text();
            list.bad(v.value().clone(), format!("must be less than or equal to {name} limit of {shown}"), out);
        }
        None if !overcommits => limits.required("Limit must be set for non overcommitable resources", out),
        _ => {}
    }
}

fn claim_names(list: &At, claims: &[&str], out: &mut Errors) {
    let mut names: HashSet<String> = HashSet::new();
    for c in list.items() {
        let name = c.text_of("name");
        if name.is_empty() {
            c.required("", out);
            continue;
        }
        let request = c.child("request");
        if names.contains(name) {
            c.duplicate(name, out);
        } else {
            let mut key = name.to_owned();
            if !request.text().is_empty() {
                request.label(out);
                key = format!("{name}/{}", request.text());
            }
            if names.contains(&key) {
                c.duplicate(key.as_str(), out);
            } else if request.text().is_empty() {
                let of_it = |k: &&String| k.split_once('/').is_some_and(|(n, _)| n == name);
                names.iter().filter(of_it).for_each(|_| c.duplicate(name, out));
            }
            names.insert(key);
        }
        if !claims.contains(&name) {
            let mut all = claims.to_vec();
            all.sort_unstable();
            let rest = if all.is_empty() { " which is empty".to_owned() } else { format!(": {}", all.join(", ")) };
            let why = format!("must be one of the names in pod.spec.resourceClaims{rest}");
            out.push(FieldError::new(crate::field::FieldErrorKind::NotFound, c.path(), Some(name.into()), why));
        }
    }
}

/// The sum of an amount over containers, as schedulers count it: those that start one after another count by the
/// largest, sidecars beside all that come later.
pub(crate) fn total(spec: &Value, what: &str, name: &str) -> Option<Quantity> {
    let of = |c: &Value| c.at(["resources", what, name]).and_then(Quantity::of);
    let list = |key: &str| spec.get(key).map(Value::items).unwrap_or_default().iter();
    let mut sum: Option<Quantity> = None;
    let add = |sum: &mut Option<Quantity>, q: Option<Quantity>| {
        if let Some(q) = q {
            *sum = Some(sum.map_or(q, |s| s.plus(q)));
        }
    };
    list("containers").for_each(|c| add(&mut sum, of(c)));
    let (mut beside, mut most): (Option<Quantity>, Option<Quantity>) = (None, None);
    for c in list("initContainers") {
        let mut now = beside;
        add(&mut now, of(c));
        if c.str_at(["restartPolicy"]) == Some("Always") {
            add(&mut sum, of(c));
            beside = now;
        }
        most = most.max(now);
    }
    sum.max(most)
}

/// Names of amounts in a list.
pub(crate) fn names_in<'v>(spec: &'v Value, what: &'v str) -> Vec<&'v str> {
    let lists = ["containers", "initContainers"].into_iter();
    let containers = lists.flat_map(|key| spec.get(key).map(Value::items).unwrap_or_default());
    let amounts = containers.filter_map(move |c| c.at(["resources", what])?.as_map());
    let mut all: Vec<&str> = amounts.flat_map(Map::iter).map(|(k, _)| k.as_str()).collect();
    all.sort_unstable();
    all.dedup();
    all
}
