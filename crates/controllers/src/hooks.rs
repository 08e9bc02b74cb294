//! Hooks of a release: run in weight order, jobs and pods waited for, deleted as their policies say.
//!
//! Follows Helm's `pkg/action/hooks.go`.

use std::collections::BTreeMap;
use std::time::Duration;

use druse_flux::kstatus;
use druse_flux::release::ReleaseHook;
use druse_helm::ReleaseRecord;
use druse_object::{Map, Object, Value, yaml};
use druse_runtime::{Api, DeleteOptions, clock};

use crate::wait::{self, Target};

/// How a hook's last run went, by the hook's name.
pub(crate) type Runs = BTreeMap<String, Map>;

/// Runs the hooks of one event, and notes how they went.
///
/// # Errors
/// The first hook that fails, and how.
pub(crate) async fn run(
    api: &Api,
    hooks: &[ReleaseHook],
    event: &str,
    namespace: &str,
    timeout: Duration,
    runs: &mut Runs,
) -> Result<(), String> {
    let mut due: Vec<&ReleaseHook> = hooks.iter().filter(|h| h.events.iter().any(|e| e == event)).collect();
    due.sort_by(|a, b| {
        let key = |h: &ReleaseHook| {
            let order = druse_helm::manifest::install_order(h.object.kind());
            (h.weight, (order.0, order.1.to_owned()), h.object.name().to_owned())
        };
        key(a).cmp(&key(b))
    });
    for hook in &due {
        let failed =
            |e: &dyn std::fmt::Display| format!("failed {event}: {} {}: {e}", hook.object.kind(), hook.object.name());
        let mut object = hook.object.clone();
        let resource = api.resource(&object.gvk()).await.map_err(|e| failed(&e))?;
        if resource.namespaced
            && object.namespace().is_empty()
            && let Some(m) = object.metadata_mut()
        {
            m.insert("namespace", namespace);
        }
        let has = |policy: &str| hook.delete_policies.iter().any(|p| p == policy);
        let target = Target::of(&object);
        let mut run = Map::new();
        run.insert("started_at", clock::now());
        if has("before-hook-creation") || hook.delete_policies.is_empty() {
            delete(api, &object, &target, timeout).await.map_err(|e| failed(&e))?;
        }
        api.create(&resource, object.namespace(), &object.value).await.map_err(|e| failed(&e))?;
        let result = if matches!(object.kind(), "Job" | "Pod") {
            wait::until_current(api, std::slice::from_ref(&target), timeout, finished).await
        } else {
            Ok(())
        };
        run.insert("completed_at", clock::now());
        run.insert("phase", if result.is_ok() { "Succeeded" } else { "Failed" });
        runs.insert(hook.object.name().to_owned(), run);
        match result {
            Ok(()) => {}
            Err(e) => {
                if has("hook-failed") {
                    let _first_failure_counts = delete(api, &object, &target, timeout).await;
                }
                return Err(failed(&e));
            }
        }
    }
    for hook in due.iter().filter(|h| h.delete_policies.iter().any(|p| p == "hook-succeeded")) {
        let mut object = hook.object.clone();
        if object.namespace().is_empty()
            && let Some(m) = object.metadata_mut()
        {
            m.insert("namespace", namespace);
        }
        let target = Target::of(&object);
        delete(api, &object, &target, timeout).await?;
    }
    Ok(())
}

/// A job is done when it is complete, a pod when it has run to its end.
fn finished(v: &Value, age: Option<u64>) -> kstatus::Health {
    match v["kind"].as_str() {
        Some("Job") => kstatus::compute_job_completed(v),
        Some("Pod") if v.str_at(["status", "phase"]) == Some("Running") => {
            let mut pending = v.clone();
            if let Some(m) = pending.make_map_at(["status"]) {
                m.insert("phase", "Pending");
            }
            kstatus::compute(&pending, age)
        }
        _ => kstatus::compute(v, age),
    }
}

async fn delete(api: &Api, object: &Object, target: &Target, timeout: Duration) -> Result<(), String> {
    let resource = api.resource(&object.gvk()).await.map_err(|e| e.to_string())?;
    let options = DeleteOptions { propagation: Some("Background"), ..DeleteOptions::default() };
    let was_there =
        api.delete(&resource, object.namespace(), object.name(), &options).await.map_err(|e| e.to_string())?;
    if was_there { wait::until_gone(api, std::slice::from_ref(target), timeout).await } else { Ok(()) }
}

/// A hook as release records hold it.
pub(crate) fn record(hook: &ReleaseHook, release: &str, runs: &Runs) -> Value {
    let list = |l: &[String]| -> Value { l.iter().map(String::as_str).collect() };
    let never = || [("phase", "")].into_iter().collect::<Map>();
    let mut m = Map::new();
    m.insert("name", hook.object.name());
    m.insert("kind", hook.object.kind());
    m.insert("path", hook.object.provenance.template.as_deref().unwrap_or(release));
    m.insert("manifest", yaml::to_string(&hook.object.value));
    m.insert("events", list(&hook.events));
    m.insert("last_run", runs.get(hook.object.name()).cloned().unwrap_or_else(never));
    if hook.weight != 0 {
        m.insert("weight", hook.weight);
    }
    if !hook.delete_policies.is_empty() {
        m.insert("delete_policies", list(&hook.delete_policies));
    }
    Value::Map(m)
}

/// The hooks a record holds.
pub(crate) fn of_record(record: &ReleaseRecord) -> Vec<ReleaseHook> {
    let list = |v: &Value| v.items().iter().filter_map(|e| Some(e.as_str()?.to_owned())).collect();
    record
        .hooks
        .iter()
        .filter_map(|h| {
            let object = yaml::parse(h["manifest"].as_str()?, yaml::Dialect::Sigs).ok()?;
            Some(ReleaseHook {
                object: Object::new(object),
                events: list(&h["events"]),
                weight: h["weight"].as_i64().unwrap_or(0),
                delete_policies: list(&h["delete_policies"]),
            })
        })
        .collect()
}
