//! Namespaces: what each is born with (ServiceAccount `default`, ConfigMap `kube-root-ca.crt`), and their end
//! (everything in them goes first, with conditions that say what is left).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use druse_object::{Map, Value};

use super::source::{Event, Source};
use crate::handlers::{Call, DeleteOptions, Mode, change, insert, remove};
use crate::server::{Shared, now};

/// Follows namespaces, and looks again at those that are not empty yet.
pub async fn run(shared: Arc<Shared>) {
    let mut source = Source::new(&shared, "namespaces");
    let mut again = None;
    while let Some(event) = source.next(again).await {
        let names: Vec<String> = match event {
            Event::Reset => shared
                .objects("namespaces", "")
                .iter()
                .filter_map(|n| n.str_at(["metadata", "name"]).map(str::to_owned))
                .collect(),
            Event::Changes(list) => list.iter().map(|c| c.object.name.to_string()).collect(),
        };
        let mut waiting = false;
        for name in names {
            waiting |= !settle(&shared, &name).await;
        }
        again = waiting.then_some(Duration::from_millis(250));
    }
}

async fn settle(shared: &Arc<Shared>, name: &str) -> bool {
    let Some(ns) = shared.object("namespaces", "", name) else { return true };
    if ns.str_at(["metadata", "deletionTimestamp"]).is_none() {
        return furnish(shared, name).await;
    }
    empty(shared, name).await
}

/// Makes what every namespace has. `false`: something could not be made (a webhook refused it), so try again.
pub async fn furnish(shared: &Arc<Shared>, name: &str) -> bool {
    if !shared.furnish {
        return true;
    }
    let mut complete = true;
    let table = shared.registry.table();
    let mut account = Value::Null;
    if let Some(m) = account.make_map_at(["metadata"]) {
        m.insert("name", "default");
    }
    typed(&mut account, "ServiceAccount");
    let mut ca = Value::Null;
    if let Some(m) = ca.make_map_at(["metadata"]) {
        m.insert("name", "kube-root-ca.crt");
        let mut a = Map::new();
        a.insert(
            "kubernetes.io/description",
            "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the internal service IP or kubernetes.default.svc. No other usage is guaranteed across distributions of Kubernetes clusters.",
        );
        m.insert("annotations", a);
    }
    if let Some(m) = ca.make_map_at(["data"]) {
        m.insert("ca.crt", shared.ca_pem.as_str());
    }
    typed(&mut ca, "ConfigMap");
    for (plural, object, agent) in
        [("serviceaccounts", account, "kube-controller-manager"), ("configmaps", ca, "kube-controller-manager")]
    {
        let Some(r) = table.get("", plural) else { continue };
        let object_name = object.str_at(["metadata", "name"]).unwrap_or_default().to_owned();
        if shared.stored(r, name, &object_name).is_none() {
            let call = Call::internal(shared, agent, r, name, &object_name);
            if let Err(e) = insert(&call, object, Some(agent), false).await
                && e.reason != "AlreadyExists"
            {
                tracing::debug!(namespace = name, object = object_name, error = %e, "not made");
                // One that goes away meanwhile needs nothing any more.
                complete &= e.code == 403 || e.code == 404;
            }
        }
    }
    complete
}

fn typed(v: &mut Value, kind: &str) {
    if let Some(m) = v.make_map() {
        m.insert("apiVersion", "v1");
        m.insert("kind", kind);
    }
}

/// Removes what is in a namespace; when nothing is left, the namespace. `false`: not yet.
async fn empty(shared: &Arc<Shared>, name: &str) -> bool {
    let table = shared.registry.table();
    let mut left: BTreeMap<String, usize> = BTreeMap::new();
    let mut finalizers: BTreeMap<String, usize> = BTreeMap::new();
    for r in table.resources.iter().filter(|r| r.namespaced && r.is_stored() && r.allows("delete")) {
        if r.group == "events.k8s.io" {
            continue;
        }
        let list =
            || shared.store.list(&r.stored_as, name, None, usize::MAX, None).map(|p| p.items).unwrap_or_default();
        for o in list() {
            let call = Call::internal(shared, "namespace-controller", r, name, &o.name);
            let options = DeleteOptions { propagation: Some("Background".into()), ..DeleteOptions::default() };
            let _ = remove(&call, &o.name, &options).await;
        }
        for o in list() {
            *left.entry(r.qualified()).or_default() += 1;
            let Ok(v) = o.value() else { continue };
            for f in v["metadata"]["finalizers"].items().iter().filter_map(Value::as_str) {
                *finalizers.entry(f.to_owned()).or_default() += 1;
            }
        }
    }
    let Some(resource) = table.get("", "namespaces").cloned() else { return true };
    let call = Call::internal(shared, "namespace-controller", &resource, "", name);
    let done = left.is_empty();
    let changed = change(&call, name, "finalize", Mode::System, false, &mut |old, _| {
        let mut new = old.clone();
        conditions(&mut new, &left, &finalizers);
        if done && let Some(spec) = new.make_map_at(["spec"]) {
            let list: Vec<Value> = old["spec"]["finalizers"]
                .items()
                .iter()
                .filter(|f| f.as_str() != Some("kubernetes"))
                .cloned()
                .collect();
            if list.is_empty() {
                spec.remove("finalizers");
            } else {
                spec.insert("finalizers", list);
            }
        }
        Ok(new)
    })
    .await;
    done && changed.is_ok_and(|_| true) || shared.object("namespaces", "", name).is_none()
}

fn counted(what: &BTreeMap<String, usize>, verb: &str) -> String {
    what.iter().map(|(k, n)| format!("{k} {verb} {n} resource instances")).collect::<Vec<_>>().join(", ")
}

fn conditions(ns: &mut Value, left: &BTreeMap<String, usize>, finalizers: &BTreeMap<String, usize>) {
    let rows = [
        (
            "NamespaceDeletionDiscoveryFailure",
            false,
            "ResourcesDiscovered",
            "All resources successfully discovered".to_owned(),
        ),
        (
            "NamespaceDeletionGroupVersionParsingFailure",
            false,
            "ParsedGroupVersions",
            "All legacy kube types successfully parsed".to_owned(),
        ),
        (
            "NamespaceDeletionContentFailure",
            false,
            "ContentDeleted",
            "All content successfully deleted, may be waiting on finalization".to_owned(),
        ),
        (
            "NamespaceContentRemaining",
            !left.is_empty(),
            if left.is_empty() { "ContentRemoved" } else { "SomeResourcesRemain" },
            if left.is_empty() {
                "All content successfully removed".to_owned()
            } else {
                format!("Some resources are remaining: {}", counted(left, "has"))
            },
        ),
        (
            "NamespaceFinalizersRemaining",
            !finalizers.is_empty(),
            if finalizers.is_empty() { "ContentHasNoFinalizers" } else { "SomeFinalizersRemain" },
            if finalizers.is_empty() {
                "All content-preserving finalizers finished".to_owned()
            } else {
                format!("Some content in the namespace has finalizers remaining: {}", counted(finalizers, "in"))
            },
        ),
    ];
    let Some(status) = ns.make_map_at(["status"]) else { return };
    status.insert("phase", "Terminating");
    let had = status.get("conditions").map(|c| c.items().to_vec()).unwrap_or_default();
    let list: Vec<Value> = rows
        .into_iter()
        .map(|(kind, is, reason, message)| {
            let state = if is { "True" } else { "False" };
            let before = had.iter().find(|c| c.str_at(["type"]) == Some(kind));
            let since = before
                .filter(|c| c.str_at(["status"]) == Some(state))
                .and_then(|c| c.str_at(["lastTransitionTime"]).map(str::to_owned))
                .unwrap_or_else(now);
            let mut m = Map::new();
            m.insert("type", kind);
            m.insert("status", state);
            m.insert("lastTransitionTime", since);
            m.insert("reason", reason);
            m.insert("message", message);
            Value::Map(m)
        })
        .collect();
    status.insert("conditions", list);
}
