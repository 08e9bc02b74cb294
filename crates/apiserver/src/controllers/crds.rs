//! CRDs take effect: names and conditions are settled, the resource is served, and on deletion its objects go first.

use std::sync::Arc;
use std::time::Duration;

use druse_object::{Map, Value};

use super::source::{Event, Source};
use crate::crd;
use crate::handlers::{Call, DeleteOptions, Mode, change, remove};
use crate::server::{Shared, now};

pub const CRDS: &str = "customresourcedefinitions.apiextensions.k8s.io";
pub const CLEANUP: &str = "customresourcecleanup.apiextensions.k8s.io";

/// Serves what an established CRD declares, in the table and in the types.
pub fn serve(shared: &Shared, crd: &Value) {
    let name = crd.str_at(["metadata", "name"]).unwrap_or_default();
    if !crd::is_condition_true(crd, "NamesAccepted") && !crd::is_condition_true(crd, "Established") {
        return;
    }
    if let Err(e) = shared.schemas.set_crd(crd) {
        tracing::warn!(crd = name, error = %e, "the CRD's schema cannot be used");
        return;
    }
    match crd::resource(crd) {
        Some(r) => shared.registry.set_custom(name, r),
        None => shared.registry.remove_custom(name),
    }
}

/// A CRD was written.
pub fn changed(shared: &Shared, new: Option<&Value>, old: Option<&Value>) {
    match (new, old) {
        // Conditions change nothing of what is served.
        (Some(crd), Some(old)) if same_kind(crd, old) && is_served(shared, crd) => {}
        (Some(crd), _) => serve(shared, crd),
        (None, Some(old)) => {
            let name = old.str_at(["metadata", "name"]).unwrap_or_default();
            shared.registry.remove_custom(name);
            shared.schemas.remove_crd(name);
        }
        (None, None) => {}
    }
}

/// Settles CRDs as they come, change and go.
pub async fn run(shared: Arc<Shared>) {
    let mut source = Source::new(&shared, CRDS);
    let mut again = None;
    while let Some(event) = source.next(again).await {
        let names: Vec<String> = match event {
            Event::Reset => names(&shared),
            Event::Changes(list) => list.iter().map(|c| c.object.name.to_string()).collect(),
        };
        let mut failed = false;
        for name in names {
            failed |= !settle(&shared, &name).await;
        }
        again = failed.then_some(Duration::from_millis(200));
    }
}

fn names(shared: &Shared) -> Vec<String> {
    shared.objects(CRDS, "").iter().filter_map(|c| c.str_at(["metadata", "name"]).map(str::to_owned)).collect()
}

/// Brings one CRD's status up to date; on deletion, removes its objects, then its finalizer. `false`: try again.
async fn settle(shared: &Arc<Shared>, name: &str) -> bool {
    let Some(crd) = shared.object(CRDS, "", name) else { return true };
    let table = shared.registry.table();
    let Some(resource) = table.get("apiextensions.k8s.io", "customresourcedefinitions").cloned() else { return true };
    let call = Call::internal(shared, "crd-controller", &resource, "", name);
    if crd.str_at(["metadata", "deletionTimestamp"]).is_some() {
        return finish(shared, &call, name, &crd).await;
    }
    let others: Vec<Value> = shared
        .objects(CRDS, "")
        .into_iter()
        .filter(|c| c.str_at(["metadata", "name"]) != Some(name) && c["spec"]["group"] == crd["spec"]["group"])
        .collect();
    let taken = taken(&others);
    change(&call, name, "status", Mode::Admitted("kube-apiserver"), false, &mut |old, _| {
        let mut new = old.clone();
        crd::update_status(&mut new, &taken, &now());
        // Served before it is said to be: who sees the condition may use the kind at once.
        if !is_served(shared, &new) {
            serve(shared, &new);
        }
        Ok(new)
    })
    .await
    .is_ok()
}

/// Whether two states of a CRD declare the same.
fn same_kind(a: &Value, b: &Value) -> bool {
    let same = |key: &str| a["status"][key] == b["status"][key];
    a["spec"] == b["spec"] && same("storedVersions") && same("acceptedNames")
}

/// Whether a CRD's kind is in the table.
fn is_served(shared: &Shared, crd: &Value) -> bool {
    let (group, plural) = (crd.str_at(["spec", "group"]), crd.str_at(["spec", "names", "plural"]));
    shared.registry.table().get(group.unwrap_or_default(), plural.unwrap_or_default()).is_some_and(|r| r.custom)
}

/// The names that other CRDs of a group have been given.
fn taken(others: &[Value]) -> crd::TakenNames {
    let mut out = crd::TakenNames::default();
    for names in others.iter().map(|c| &c["status"]["acceptedNames"]) {
        let text = |k: &str| names.str_at([k]).filter(|s| !s.is_empty()).map(Into::into);
        out.resources.extend([text("plural"), text("singular")].into_iter().flatten());
        out.resources.extend(names["shortNames"].items().iter().filter_map(Value::as_str).map(Into::into));
        out.kinds.extend([text("kind"), text("listKind")].into_iter().flatten());
    }
    out
}

async fn finish(shared: &Arc<Shared>, call: &Call, name: &str, crd: &Value) -> bool {
    let holds = crd["metadata"]["finalizers"].items().iter().any(|f| f.as_str() == Some(CLEANUP));
    if !holds {
        return true;
    }
    let table = shared.registry.table();
    let group = crd.str_at(["spec", "group"]).unwrap_or_default();
    let plural = crd.str_at(["spec", "names", "plural"]).unwrap_or_default();
    if let Some(resource) = table.get(group, plural).cloned() {
        let Ok(page) = shared.store.list(&resource.stored_as, "", None, usize::MAX, None) else { return false };
        let left = page.items.len();
        for o in page.items {
            let call = Call::internal(shared, "crd-controller", &resource, &o.namespace, &o.name);
            let _ = remove(&call, &o.name, &DeleteOptions::default()).await;
        }
        if left > 0 && shared.store.count(&resource.stored_as) > 0 {
            return false;
        }
    }
    change(call, name, "status", Mode::System, false, &mut |old, _| {
        let mut new = old.clone();
        if let Some(meta) = new.make_map_at(["metadata"]) {
            let list: Vec<Value> =
                old["metadata"]["finalizers"].items().iter().filter(|f| f.as_str() != Some(CLEANUP)).cloned().collect();
            meta.insert("finalizers", list);
        }
        const DONE: (&str, &str) = ("InstanceDeletionCompleted", "removed all instances");
        set_terminating(&mut new, "False", DONE);
        Ok(new)
    })
    .await
    .is_ok()
}

/// Says that a declared kind is on its way out.
pub(crate) fn start_terminating(crd: &mut Value) {
    const WHY: &str = "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon";
    set_terminating(crd, "True", ("InstanceDeletionPending", WHY));
}

fn set_terminating(crd: &mut Value, status: &str, (reason, message): (&str, &str)) {
    let Some(list) = crd.get_mut("status").and_then(|s| s.get_mut("conditions")).and_then(Value::as_array_mut) else {
        return;
    };
    let mut c = Map::new();
    c.insert("type", "Terminating");
    c.insert("status", status);
    c.insert("lastTransitionTime", now());
    c.insert("reason", reason);
    c.insert("message", message);
    list.retain(|c| c.str_at(["type"]) != Some("Terminating"));
    list.push(Value::Map(c));
}
