//! `ResourceQuota`, the last plugin: what would exceed a quota of its namespace is refused; what fits is booked into
//! the quota's status at once, so that requests side by side cannot exceed it together.

use std::collections::BTreeMap;

use druse_object::{Map, Value};
use futures::future::BoxFuture;

use super::{Operation, Plugin, Review};
use crate::quota::{self, QUOTAS, Usage};
use crate::server::Shared;
use crate::status::{Named, Status};
use crate::store::{Encoded, Expect, Key, StoreError, Write};

/// The plugin.
pub struct ResourceQuota;

impl Plugin for ResourceQuota {
    fn name(&self) -> &'static str {
        "ResourceQuota"
    }

    fn validate<'a>(&'a self, shared: &'a Shared, review: &'a mut Review<'_>) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(async move {
            let counts = matches!(review.operation, Operation::Create | Operation::Update)
                && review.subresource.is_empty()
                && !review.namespace.is_empty()
                && shared.store.count(QUOTAS) > 0;
            if !counts {
                return Ok(());
            }
            for quota in shared.objects(QUOTAS, review.namespace) {
                if let Err(refused) = book(shared, review, quota).await {
                    let object = Key::new(review.resource.stored_as.clone(), review.namespace, review.name);
                    shared.bookings.settle(&object);
                    return Err(refused);
                }
            }
            Ok(())
        })
    }
}

/// Names that every container has to give when a quota limits them.
const NEEDED: [&str; 6] = ["cpu", "memory", "requests.cpu", "requests.memory", "limits.cpu", "limits.memory"];

fn refuse(review: &Review<'_>, why: String) -> Status {
    let n = Named { group: &review.resource.group, resource: &review.resource.plural, name: review.name };
    Status::forbidden(n, why)
}

/// What an update adds to what was used before; nothing when it adds nothing.
fn growth(review: &Review<'_>, quota: &Value) -> Usage {
    let kind = review.resource.stored_as.as_str();
    let of = |o: Option<&Value>| match o {
        Some(o) if quota::in_scope(quota, kind, o) => quota::limited(quota, &quota::usage(kind, o)),
        _ => Usage::new(),
    };
    let (before, after) = (of(review.old), of(review.object.as_deref()));
    let grown = after.into_iter().map(|(k, q)| {
        let more = before.get(&k).map_or(q, |b| q.minus(*b));
        (k, more)
    });
    grown.filter(|(_, q)| !q.is_zero() && !q.is_negative()).collect()
}

fn needs(review: &Review<'_>, quota: &Value) -> Result<(), Status> {
    let Some(pod) = review.object.as_deref().filter(|_| review.creates("pods")) else { return Ok(()) };
    if !quota::in_scope(quota, "pods", pod) {
        return Ok(());
    }
    let hard = quota::amounts(&quota["spec"]["hard"]);
    let mut missing: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for name in NEEDED.iter().filter(|n| hard.contains_key(**n)) {
        let (list, resource) = name.split_once('.').unwrap_or(("requests", name));
        for c in pod["spec"]["containers"].items().iter().chain(pod["spec"]["initContainers"].items()) {
            if c["resources"][list].get(resource).is_none() {
                missing.entry(name).or_default().push(c.str_at(["name"]).unwrap_or_default());
            }
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    let words: Vec<String> = missing.iter().map(|(k, c)| format!("{k} for: {}", c.join(","))).collect();
    let name = quota.str_at(["metadata", "name"]).unwrap_or_default();
    Err(refuse(review, format!("failed quota: {name}: must specify {}", words.join("; "))))
}

/// Checks one quota and books what the request adds.
async fn book(shared: &Shared, review: &Review<'_>, mut quota: Value) -> Result<(), Status> {
    needs(review, &quota)?;
    let more = growth(review, &quota);
    if more.is_empty() {
        return Ok(());
    }
    let name = quota.str_at(["metadata", "name"]).unwrap_or_default().to_owned();
    let key = Key::new(QUOTAS, review.namespace, name.as_str());
    let object = Key::new(review.resource.stored_as.clone(), review.namespace, review.name);
    loop {
        let hard = quota::amounts(&quota["spec"]["hard"]);
        let mut used = quota::amounts(&quota["status"]["used"]);
        let before = used.clone();
        quota::add(&mut used, &more);
        let over: Vec<&String> = more.keys().filter(|k| used.get(*k) > hard.get(*k)).collect();
        if !over.is_empty() {
            let part = |from: &Usage| -> Usage {
                over.iter().map(|k| ((*k).clone(), from.get(*k).copied().unwrap_or_default())).collect()
            };
            return Err(refuse(
                review,
                format!(
                    "exceeded quota: {name}, requested: {}, used: {}, limited: {}",
                    quota::shown(&part(&more)),
                    quota::shown(&part(&before)),
                    quota::shown(&part(&hard))
                ),
            ));
        }
        if review.dry_run {
            return Ok(());
        }
        let rv = quota.str_at(["metadata", "resourceVersion"]).and_then(|v| v.parse().ok()).unwrap_or(0);
        if let Some(m) = quota.make_map() {
            let mut status = m.get("status").and_then(Value::as_map).cloned().unwrap_or_else(Map::new);
            status.insert("hard", quota::list(&hard));
            status.insert("used", quota::list(&used));
            m.insert("status", status);
        }
        let encoded = Some(Encoded::of(&quota));
        let write = Write { key: key.clone(), expect: Expect::At(rv), object: encoded, delete: false };
        shared.bookings.begin(&key, &object, &more);
        match shared.store.write(write).await {
            Ok(_) => {
                shared.bookings.written(&key, &object);
                return Ok(());
            }
            Err(StoreError::Conflict) => {}
            Err(e) => return Err(e.into()),
        }
        // Somebody else booked first: look at what is left.
        match shared.object(QUOTAS, review.namespace, &name) {
            Some(q) => quota = q,
            None => return Ok(()),
        }
    }
}
