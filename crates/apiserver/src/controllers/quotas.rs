//! Keeps what ResourceQuotas say is used true: admission only ever adds, this counts anew.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use druse_object::{Map, Value};

use super::source::{Event, Source};
use crate::handlers::{Call, Mode, change};
use crate::quota::{self, QUOTAS, Usage};
use crate::server::Shared;
use crate::store::Key;

/// How often what is used is counted while there are quotas.
const EVERY: Duration = Duration::from_secs(1);

/// Follows quotas, and while there are any, everything they may count.
pub async fn run(shared: Arc<Shared>) {
    let mut source = Source::new(&shared, QUOTAS);
    let mut counted = 0;
    let mut again = None;
    while let Some(event) = source.next(again).await {
        let quotas = shared.objects(QUOTAS, "");
        again = (!quotas.is_empty()).then_some(EVERY);
        let revision = shared.store.revision();
        if matches!(event, Event::Reset) && revision == counted {
            continue;
        }
        let mut all = true;
        for q in &quotas {
            all &= count(&shared, q).await;
        }
        // What could not be counted is tried again, whether or not anything changes until then.
        counted = if all { revision } else { 0 };
    }
}

/// Answers whether the quota's status is true now.
async fn count(shared: &Arc<Shared>, quota: &Value) -> bool {
    let text = |k: &str| quota.str_at(["metadata", k]).unwrap_or_default().to_owned();
    let (namespace, name) = (text("namespace"), text("name"));
    let hard = quota::amounts(&quota["spec"]["hard"]);
    let mut used: Usage = hard.keys().map(|k| (k.clone(), quota::whole(0))).collect();
    let key = Key::new(QUOTAS, namespace.as_str(), name.as_str());
    let Some(mut booked) = shared.bookings.of(&key) else { return false };
    for kind in kinds(&hard) {
        for o in shared.objects(&kind, &namespace) {
            let name = o.str_at(["metadata", "name"]).unwrap_or_default();
            booked.retain(|(k, _)| k.resource != *kind || k.name != *name);
            if quota::in_scope(quota, &kind, &o) {
                quota::add(&mut used, &quota::limited(quota, &quota::usage(&kind, &o)));
            }
        }
    }
    // Admitted, and not stored yet.
    booked.iter().for_each(|(_, more)| quota::add(&mut used, more));
    let (hard, used) = (quota::list(&hard), quota::list(&used));
    if quota["status"]["hard"] == hard && quota["status"]["used"] == used {
        return true;
    }
    let rv = text("resourceVersion");
    let table = shared.registry.table();
    let Some(resource) = table.get("", QUOTAS).cloned() else { return true };
    let call = Call::internal(shared, "resourcequota-controller", &resource, &namespace, &name);
    let done = change(&call, &name, "status", Mode::System, false, &mut |old, _| {
        let mut new = old.clone();
        if let Some(m) = new.make_map() {
            let mut status = Map::new();
            status.insert("hard", hard.clone());
            status.insert("used", used.clone());
            m.insert("status", status);
        }
        // What was counted belongs to this state: a booking meanwhile must not be undone.
        if let Some(m) = new.make_map_at(["metadata"]) {
            m.insert("resourceVersion", rv.as_str());
        }
        Ok(new)
    })
    .await;
    if let Err(e) = &done {
        tracing::debug!(quota = name, error = %e, "counted again later");
    }
    done.is_ok()
}

/// The stored types that a quota's names count.
fn kinds(hard: &Usage) -> BTreeSet<String> {
    hard.keys()
        .map(|k| match k.as_str() {
            k if k.starts_with("count/") => k.trim_start_matches("count/").to_owned(),
            k if k.starts_with("services") => "services".into(),
            "configmaps" | "secrets" | "replicationcontrollers" | "resourcequotas" => k.clone(),
            k if k.ends_with("persistentvolumeclaims") || k.ends_with("requests.storage") => {
                "persistentvolumeclaims".into()
            }
            _ => "pods".into(),
        })
        .collect()
}
