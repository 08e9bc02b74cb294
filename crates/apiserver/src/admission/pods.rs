//! What new pods get: their ServiceAccount and its token, default tolerations, their priority.

use druse_object::{Map, Value, json};
use futures::future::{BoxFuture, ready};

use super::{Operation, Plugin, Review};
use crate::server::Shared;
use crate::status::{Named, Status};
use crate::strategy::PRIORITY_CLASSES;

fn forbidden(review: &Review<'_>, why: impl std::fmt::Display) -> Status {
    Status::forbidden(Named { group: "", resource: "pods", name: review.name }, why)
}

/// `ServiceAccount`
pub struct ServiceAccount;

const MOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

impl Plugin for ServiceAccount {
    fn name(&self) -> &'static str {
        "ServiceAccount"
    }

    fn mutate<'a>(&'a self, shared: &'a Shared, review: &'a mut Review<'_>) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(ready(account(shared, review)))
    }
}

fn account(shared: &Shared, review: &mut Review<'_>) -> Result<(), Status> {
    if !review.creates("pods") {
        return Ok(());
    }
    let ns = review.namespace.to_owned();
    let pod = match review.object.as_deref_mut() {
        Some(p) if p.at(["metadata", "annotations", "kubernetes.io/config.mirror"]).is_none() => p,
        _ => return Ok(()),
    };
    let Some(spec) = pod.make_map_at(["spec"]) else { return Ok(()) };
    let mut name = spec.get("serviceAccountName").and_then(Value::as_str).unwrap_or_default().to_owned();
    if name.is_empty() {
        name = "default".into();
    }
    spec.insert("serviceAccountName", name.as_str());
    spec.insert("serviceAccount", name.as_str());
    let Some(account) = shared.object("serviceaccounts", &ns, &name) else {
        let why = format!("error looking up service account {ns}/{name}: serviceaccount \"{name}\" not found");
        return Err(forbidden(review, why));
    };
    let wants = |v: Option<&Value>| v.and_then(Value::as_bool);
    let mount = wants(spec.get("automountServiceAccountToken"))
        .or(wants(account.get("automountServiceAccountToken")))
        .unwrap_or(true);
    if mount {
        mount_token(spec);
    }
    let secrets = account["imagePullSecrets"].items();
    if spec.get("imagePullSecrets").is_none_or(|v| v.items().is_empty()) && !secrets.is_empty() {
        spec.insert("imagePullSecrets", secrets.to_vec());
    }
    Ok(())
}

fn mount_token(spec: &mut Map) {
    let needs = |c: &Value| !c["volumeMounts"].items().iter().any(|m| m.str_at(["mountPath"]) == Some(MOUNT));
    let has_token = spec.get("volumes").map(Value::items).unwrap_or_default().iter().find_map(|v| {
        let name = v.str_at(["name"])?;
        name.starts_with("kube-api-access-").then(|| name.to_owned())
    });
    let volume = has_token.clone().unwrap_or_else(|| {
        let mut o = Value::Null;
        if let Some(m) = o.make_map_at(["metadata"]) {
            m.insert("generateName", "kube-api-access-");
        }
        crate::meta::generate_name(&mut o);
        o.str_at(["metadata", "name"]).unwrap_or_default().to_owned()
    });
    let mut mounted = false;
    for list in ["initContainers", "containers", "ephemeralContainers"] {
        for c in spec.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            if !needs(c) {
                continue;
            }
            let Some(c) = c.as_map_mut() else { continue };
            let mut mount = Map::new();
            mount.insert("name", volume.as_str());
            mount.insert("readOnly", true);
            mount.insert("mountPath", MOUNT);
            let mounts = c.entry_or_null("volumeMounts");
            if mounts.is_null() {
                *mounts = Value::Array(Vec::new());
            }
            if let Some(mounts) = mounts.as_array_mut() {
                mounts.push(Value::Map(mount));
                mounted = true;
            }
        }
    }
    if !mounted || has_token.is_some() {
        return;
    }
    let text = format!(
        r#"{{"name":"{volume}","projected":{{"defaultMode":420,"sources":[
        {{"serviceAccountToken":{{"expirationSeconds":3607,"path":"token"}}}},
        {{"configMap":{{"name":"kube-root-ca.crt","items":[{{"key":"ca.crt","path":"ca.crt"}}]}}}},
        {{"downwardAPI":{{"items":[{{"path":"namespace","fieldRef":{{"apiVersion":"v1","fieldPath":"metadata.namespace"}}}}]}}}}]}}}}"#
    );
    let Ok(projected) = json::parse(text.as_bytes()) else { return };
    let volumes = spec.entry_or_null("volumes");
    if volumes.is_null() {
        *volumes = Value::Array(Vec::new());
    }
    if let Some(list) = volumes.as_array_mut() {
        list.push(projected);
    }
}

/// `DefaultTolerationSeconds`
pub struct DefaultTolerationSeconds;

impl Plugin for DefaultTolerationSeconds {
    fn name(&self) -> &'static str {
        "DefaultTolerationSeconds"
    }

    fn mutate<'a>(&'a self, _: &'a Shared, review: &'a mut Review<'_>) -> BoxFuture<'a, Result<(), Status>> {
        let updates = review.operation == super::Operation::Update
            && review.subresource.is_empty()
            && review.resource.stored_as == "pods";
        if (updates || review.creates("pods"))
            && let Some(spec) = review.object.as_deref_mut().and_then(|p| p.make_map_at(["spec"]))
        {
            for key in ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"] {
                tolerate(spec, key);
            }
        }
        Box::pin(ready(Ok(())))
    }
}

fn tolerate(spec: &mut Map, key: &str) {
    let list = spec.entry_or_null("tolerations");
    if list.is_null() {
        *list = Value::Array(Vec::new());
    }
    let Some(list) = list.as_array_mut() else { return };
    let text = |v: &Value, k: &str| v.get(k).and_then(Value::as_str).unwrap_or_default().to_owned();
    let covers = list.iter().any(|t| {
        let (k, effect) = (text(t, "key"), text(t, "effect"));
        (k == key || k.is_empty()) && (effect == "NoExecute" || effect.is_empty())
    });
    if !covers {
        let mut t = Map::new();
        t.insert("key", key);
        t.insert("operator", "Exists");
        t.insert("effect", "NoExecute");
        t.insert("tolerationSeconds", 300i64);
        list.push(Value::Map(t));
    }
}

/// `Priority`
pub struct Priority;

impl Plugin for Priority {
    fn name(&self) -> &'static str {
        "Priority"
    }

    fn mutate<'a>(&'a self, shared: &'a Shared, review: &'a mut Review<'_>) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(ready(priority(shared, review)))
    }

    fn validate<'a>(&'a self, shared: &'a Shared, review: &'a mut Review<'_>) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(ready(one_default(shared, review)))
    }
}

/// The class that pods have which name none: of several, which can be made at one time, the lowest.
fn default_class(shared: &Shared) -> Option<Value> {
    let all = shared.objects(PRIORITY_CLASSES, "").into_iter();
    all.filter(|c| c.get("globalDefault").and_then(Value::as_bool) == Some(true))
        .min_by_key(|c| c.get("value").and_then(Value::as_i64))
}

/// There is one default class.
fn one_default(shared: &Shared, review: &Review<'_>) -> Result<(), Status> {
    let writes = matches!(review.operation, Operation::Create | Operation::Update);
    if review.resource.stored_as != PRIORITY_CLASSES || !writes || !review.subresource.is_empty() {
        return Ok(());
    }
    let is_default = |c: &Value| c.get("globalDefault").and_then(Value::as_bool) == Some(true);
    if !review.object.as_deref().is_some_and(is_default) {
        return Ok(());
    }
    let Some(class) = default_class(shared) else { return Ok(()) };
    let name = class.str_at(["metadata", "name"]).unwrap_or_default();
    if review.operation == Operation::Update && name == review.name {
        return Ok(());
    }
    let named = Named { group: &review.resource.group, resource: &review.resource.plural, name: review.name };
    Err(Status::forbidden(
        named,
        format!("PriorityClass {name} is already marked as default. Only one default can exist"),
    ))
}

/// A changed pod that does not say its priority keeps it.
fn keep_priority(review: &mut Review<'_>) {
    let old = review.old.cloned().unwrap_or_default();
    let Some(spec) = review.object.as_deref_mut().and_then(|p| p.make_map_at(["spec"])) else { return };
    for key in ["priority", "preemptionPolicy"] {
        if let Some(v) = old["spec"].get(key).filter(|v| !v.is_null())
            && spec.get(key).is_none_or(Value::is_null)
        {
            spec.insert(key, v.clone());
        }
    }
}

fn priority(shared: &Shared, review: &mut Review<'_>) -> Result<(), Status> {
    let pod = review.resource.stored_as == "pods" && review.subresource.is_empty();
    if pod && review.operation == Operation::Update {
        keep_priority(review);
    }
    if !review.creates("pods") {
        return Ok(());
    }
    let Some(spec) = review.object.as_deref_mut().and_then(|p| p.make_map_at(["spec"])) else { return Ok(()) };
    let asked = spec.get("priorityClassName").and_then(Value::as_str).unwrap_or_default().to_owned();
    let class = if asked.is_empty() {
        default_class(shared)
    } else {
        match shared.object(PRIORITY_CLASSES, "", &asked) {
            Some(c) => Some(c),
            None => return Err(forbidden(review, format!("no PriorityClass with name {asked} was found"))),
        }
    };
    let (value, policy) = match &class {
        Some(c) => (
            c.get("value").and_then(Value::as_i64).unwrap_or(0),
            c.str_at(["preemptionPolicy"]).unwrap_or("PreemptLowerPriority").to_owned(),
        ),
        None => (0, "PreemptLowerPriority".to_owned()),
    };
    if let Some(c) = &class {
        spec.insert("priorityClassName", c.str_at(["metadata", "name"]).unwrap_or_default());
    }
    let given = spec.get("priority").and_then(Value::as_i64);
    if given.is_some_and(|g| g != value) {
        return Err(forbidden(
            review,
            format!(
                "the integer value of priority ({}) must not be provided in pod spec; priority admission controller computed {value} from the given PriorityClass name",
                given.unwrap_or_default()
            ),
        ));
    }
    let wanted = spec.get("preemptionPolicy").and_then(Value::as_str).map(str::to_owned);
    if let Some(wanted) = wanted.filter(|w| *w != policy) {
        return Err(forbidden(
            review,
            format!(
                "the string value of PreemptionPolicy ({wanted}) must not be provided in pod spec; priority admission controller computed {policy} from the given PriorityClass name"
            ),
        ));
    }
    spec.insert("priority", value);
    spec.insert("preemptionPolicy", policy);
    Ok(())
}

/// `RuntimeClass`
pub struct RuntimeClass;

impl Plugin for RuntimeClass {
    fn name(&self) -> &'static str {
        "RuntimeClass"
    }

    fn mutate<'a>(&'a self, shared: &'a Shared, review: &'a mut Review<'_>) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(ready(runtime_class(shared, review)))
    }

    fn validate<'a>(&'a self, shared: &'a Shared, review: &'a mut Review<'_>) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(ready(runtime_overhead(shared, review)))
    }
}

fn class_of(shared: &Shared, review: &Review<'_>) -> Result<Option<Value>, Status> {
    let pod = review.object.as_deref();
    let Some(name) = pod.and_then(|p| p.str_at(["spec", "runtimeClassName"])) else { return Ok(None) };
    let class = shared.object("runtimeclasses.node.k8s.io", "", name);
    class.map(Some).ok_or_else(|| forbidden(review, format!("pod rejected: RuntimeClass \"{name}\" not found")))
}

/// Gives a pod what its runtime class costs and where that runs.
fn runtime_class(shared: &Shared, review: &mut Review<'_>) -> Result<(), Status> {
    if !review.creates("pods") {
        return Ok(());
    }
    let Some(class) = class_of(shared, review)? else { return Ok(()) };
    let Some(spec) = review.object.as_deref_mut().and_then(|p| p.make_map_at(["spec"])) else { return Ok(()) };
    if let Some(fixed) = class.at(["overhead", "podFixed"]) {
        if spec.get("overhead").is_some_and(|o| o.as_map().is_some_and(|m| !m.is_empty()) && o != fixed) {
            return Err(forbidden(
                review,
                "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead",
            ));
        }
        spec.insert("overhead", fixed.clone());
    }
    let Some(places) = class.get("scheduling") else { return Ok(()) };
    for (k, v) in places["nodeSelector"].as_map().into_iter().flat_map(Map::iter) {
        let own = spec.entry_or_null("nodeSelector");
        let Some(own) = own.make_map() else { continue };
        if own.get(k).is_some_and(|o| o != v) {
            let why = format!(
                "conflict: runtimeClass.scheduling.nodeSelector[{k}] = {}; pod.spec.nodeSelector[{k}] = {}",
                v.as_str().unwrap_or_default(),
                own.get(k).and_then(Value::as_str).unwrap_or_default()
            );
            return Err(forbidden(review, why));
        }
        own.insert(k.clone(), v.clone());
    }
    let bears = places["tolerations"].items().to_vec();
    if !bears.is_empty() {
        let mut list = spec.get("tolerations").map(|t| t.items().to_vec()).unwrap_or_default();
        list.extend(bears.into_iter().filter(|t| !spec.get("tolerations").is_some_and(|l| l.items().contains(t))));
        spec.insert("tolerations", list);
    }
    Ok(())
}

fn runtime_overhead(shared: &Shared, review: &Review<'_>) -> Result<(), Status> {
    if !review.creates("pods") {
        return Ok(());
    }
    let class = class_of(shared, review)?;
    let own = review.object.as_deref().and_then(|p| p.at(["spec", "overhead"])).cloned().unwrap_or_default();
    let fixed = class.as_ref().and_then(|c| c.at(["overhead", "podFixed"])).cloned().unwrap_or_default();
    let empty = |v: &Value| v.as_map().is_none_or(Map::is_empty);
    if !empty(&own) && empty(&fixed) {
        let why = "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead";
        return Err(forbidden(review, why));
    }
    if own != fixed && !empty(&fixed) {
        let why = "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead";
        return Err(forbidden(review, why));
    }
    Ok(())
}
