//! What upstream's strategies do to pods, workloads and storage before they are judged: fields of features that are
//! switched off are dropped, and what follows from other fields is filled in (`k8s.io/kubernetes/pkg/registry`,
//! `pkg/api/pod`, `pkg/api/persistentvolumeclaim`).

use druse_object::{Map, Value};

use crate::registry::Resource;
use crate::server::now;
use crate::validate::security::APPARMOR;

/// Completes a new object.
pub fn create(resource: &Resource, o: &mut Value) {
    drop_disabled(resource, o, None);
    old_fields(resource, None, o);
    match resource.stored_as.as_str() {
        "pods" => {
            gated(o);
            apparmor(o);
            match_label_keys(o);
        }
        "persistentvolumeclaims" => data_sources(o, None),
        "persistentvolumes" => {
            if let Some(status) = o.make_map_at(["status"]) {
                status.insert("lastPhaseTransitionTime", now());
            }
        }
        _ => {}
    }
}

/// Completes a changed object.
pub fn update(resource: &Resource, subresource: &str, old: &Value, new: &mut Value) {
    drop_disabled(resource, new, Some(old));
    old_fields(resource, Some(old), new);
    match (resource.stored_as.as_str(), subresource) {
        ("persistentvolumeclaims", "") => data_sources(new, Some(old)),
        ("csidrivers.storage.k8s.io", "") if old.get("spec") != new.get("spec") => {
            let generation = old.at(["metadata", "generation"]).and_then(Value::as_i64).unwrap_or(0);
            if let Some(m) = new.make_map_at(["metadata"]) {
                m.insert("generation", generation + 1);
            }
        }
        ("persistentvolumes", "status") => phase_time(old, new),
        // What holds a namespace changes by way of its own subresource.
        ("namespaces", "" | "status") => {
            if let (Some(spec), Some(m)) = (old.get("spec"), new.as_map_mut()) {
                m.insert("spec", spec.clone());
            }
        }
        (crate::strategy::CSRS, "status" | "approval") => condition_times(old, new),
        ("resourceclaims.resource.k8s.io", "status") => drop_deallocated(old, new),
        ("pods", "status") => pod_status(old, new),
        ("pods", "resize") => resize(old, new),
        ("pods", "ephemeralcontainers") => only_ephemeral_containers(old, new),
        _ => {}
    }
}

/// Drops fields that a cluster has to switch on or that only older versions of a kind have, and keeps an old field and
/// its new one alike.
fn old_fields(resource: &Resource, old: Option<&Value>, new: &mut Value) {
    match resource.stored_as.as_str() {
        // Of the secrets that an account may use, only the names count.
        "serviceaccounts" => {
            let secrets = new.get_mut("secrets").and_then(Value::as_array_mut);
            for secret in secrets.into_iter().flatten().filter_map(Value::as_map_mut) {
                secret.retain(|key, _| key == "name");
            }
        }
        "csidrivers.storage.k8s.io" => {
            const GATED: &str = "preventPodSchedulingIfMissing";
            if old.is_none_or(|o| o["spec"].get(GATED).is_none())
                && let Some(spec) = new.get_mut("spec").and_then(Value::as_map_mut)
            {
                spec.remove(GATED);
            }
        }
        "leases.coordination.k8s.io" => {
            if let Some(spec) = new.get_mut("spec").and_then(Value::as_map_mut) {
                for key in ["strategy", "preferredHolder"] {
                    if old.is_none_or(|o| o["spec"][key].is_null()) {
                        spec.remove(key);
                    }
                }
            }
        }
        "nodes" => {
            let Some(spec) = new.get_mut("spec").and_then(Value::as_map_mut) else { return };
            spec.remove("configSource");
            crate::validate::pod_range(spec);
        }
        "resourceslices.resource.k8s.io" => {
            const LISTS: [&str; 4] = ["bools", "ints", "strings", "versions"];
            let listed = |a: &Value| LISTS.iter().any(|k| a.get(k).is_some());
            let lists = |d: &Value| d["attributes"].as_map().is_some_and(|m| m.values().any(listed));
            let mapped = |d: &Value| d["nodeAllocatableResourceMappings"].as_map().is_some_and(|m| !m.is_empty());
            let before = old.map(|o| o["spec"]["devices"].items()).unwrap_or_default();
            let (keep_lists, keep_mapped) = (before.iter().any(lists), before.iter().any(mapped));
            let list = new.get_mut("spec").and_then(|s| s.get_mut("devices")).and_then(Value::as_array_mut);
            for d in list.into_iter().flatten().filter_map(Value::as_map_mut) {
                if !keep_mapped {
                    d.remove("nodeAllocatableResourceMappings");
                }
                let all = d.get_mut("attributes").filter(|_| !keep_lists).and_then(Value::as_map_mut);
                for (_, a) in all.into_iter().flat_map(Map::iter_mut) {
                    if let Some(a) = a.as_map_mut() {
                        LISTS.iter().for_each(|k| _ = a.remove(k));
                    }
                }
            }
        }
        crate::strategy::ENDPOINT_SLICES => {
            let had = old.is_some_and(|o| o["endpoints"].items().iter().any(|e| !e["deprecatedTopology"].is_null()));
            let endpoints = new.get_mut("endpoints").and_then(Value::as_array_mut).into_iter().flatten();
            for e in endpoints.filter(|_| !had).filter_map(Value::as_map_mut) {
                e.remove("deprecatedTopology");
            }
        }
        _ => {}
    }
}

/// Where a kind keeps the template of its pods; a pod is its own. `None` for kinds that make none.
pub(crate) fn template_path(stored_as: &str) -> Option<&'static [&'static str]> {
    Some(match stored_as {
        "pods" => &[],
        "podtemplates" => &["template"],
        "cronjobs.batch" => &["spec", "jobTemplate", "spec", "template"],
        "replicationcontrollers"
        | "deployments.apps"
        | "replicasets.apps"
        | "daemonsets.apps"
        | "statefulsets.apps"
        | "jobs.batch" => &["spec", "template"],
        _ => return None,
    })
}

/// Drops fields of features that are off, unless the object has them already.
fn drop_disabled(resource: &Resource, new: &mut Value, old: Option<&Value>) {
    let Some(path) = template_path(&resource.stored_as) else { return };
    let before = old.map(|o| &path.iter().fold(o, |v, k| &v[*k])["spec"]);
    if let Some(spec) = path.iter().try_fold(&mut *new, |v, k| v.get_mut(k)).and_then(|t| t.get_mut("spec")) {
        drop_in_pod(spec, before);
    }
    const ROLLING: [&str; 3] = ["spec", "updateStrategy", "rollingUpdate"];
    let had = old.and_then(|o| o.at(ROLLING)).is_some_and(|r| r.get("maxUnavailable").is_some());
    if resource.stored_as == "statefulsets.apps"
        && !had
        && let Some(rolling) = ROLLING.iter().try_fold(new, |v, k| v.get_mut(k)).and_then(Value::as_map_mut)
    {
        rolling.remove("maxUnavailable");
    }
}

fn drop_in_pod(spec: &mut Value, old: Option<&Value>) {
    let Some(m) = spec.as_map_mut() else { return };
    if old.is_none_or(|o| o.get("schedulingGroup").is_none()) {
        m.remove("schedulingGroup");
    }
    let signals = |v: &Value| v["containers"].items().iter().any(|c| c.at(["lifecycle", "stopSignal"]).is_some());
    let keep_signals = old.is_some_and(signals);
    for list in ["containers", "initContainers", "ephemeralContainers"] {
        for c in m.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            let Some(c) = c.as_map_mut().filter(|_| !keep_signals) else { continue };
            let Some(l) = c.get_mut("lifecycle").and_then(Value::as_map_mut) else { continue };
            if l.remove("stopSignal").is_some() && l.is_empty() {
                c.remove("lifecycle");
            }
        }
    }
    let sources = |v: &Value, key: &str| {
        let all = v["volumes"].items().iter().flat_map(|v| v["projected"]["sources"].items());
        all.into_iter().any(|s| s.get(key).is_some())
    };
    for key in ["clusterTrustBundle", "podCertificate"] {
        if old.is_some_and(|o| sources(o, key)) {
            continue;
        }
        for v in m.get_mut("volumes").and_then(Value::as_array_mut).into_iter().flatten() {
            let list = v.get_mut("projected").and_then(|p| p.get_mut("sources")).and_then(Value::as_array_mut);
            for s in list.into_iter().flatten().filter_map(Value::as_map_mut) {
                s.remove(key);
            }
        }
    }
}

/// A pod with scheduling gates says that it waits for them.
fn gated(pod: &mut Value) {
    if pod["spec"]["schedulingGates"].items().is_empty() {
        return;
    }
    let mut c = Map::new();
    c.insert("type", "PodScheduled");
    c.insert("status", "False");
    c.insert("lastProbeTime", Value::Null);
    c.insert("lastTransitionTime", now());
    c.insert("reason", "SchedulingGated");
    c.insert("message", "Scheduling is blocked due to non-empty scheduling gates");
    if let Some(status) = pod.make_map_at(["status"]) {
        status.insert("conditions", Value::Array(vec![Value::Map(c)]));
    }
}

/// The profile that an annotation of old names, at the container it is for.
fn apparmor(pod: &mut Value) {
    if pod.str_at(["spec", "os", "name"]) == Some("windows") {
        return;
    }
    let annotations = pod.at(["metadata", "annotations"]).cloned().unwrap_or_default();
    let of_pod = pod.at(["spec", "securityContext", "appArmorProfile"]).cloned();
    let Some(spec) = pod.get_mut("spec") else { return };
    for list in ["initContainers", "containers", "ephemeralContainers"] {
        for c in spec.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            let key = format!("{APPARMOR}{}", c.str_at(["name"]).unwrap_or_default());
            let Some(said) = annotations.get(&key).and_then(Value::as_str) else { continue };
            if c.at(["securityContext", "appArmorProfile"]).is_some_and(|p| !p.is_null()) {
                continue;
            }
            let (kind, local) = match (said, said.strip_prefix("localhost/")) {
                ("unconfined", _) => ("Unconfined", None),
                ("runtime/default", _) => ("RuntimeDefault", None),
                (_, Some(name)) if !name.is_empty() && name.trim() == name => ("Localhost", Some(name)),
                _ => continue,
            };
            let mut profile = Map::new();
            profile.insert("type", kind);
            if let Some(name) = local {
                profile.insert("localhostProfile", name);
            }
            let profile = Value::Map(profile);
            if Some(&profile) != of_pod.as_ref()
                && let Some(m) = c.make_map_at(["securityContext"])
            {
                m.insert("appArmorProfile", profile);
            }
        }
    }
}

/// Selectors that take values from the pod's own labels get them.
fn match_label_keys(pod: &mut Value) {
    const LISTS: [&str; 2] =
        ["preferredDuringSchedulingIgnoredDuringExecution", "requiredDuringSchedulingIgnoredDuringExecution"];
    let labels = pod.at(["metadata", "labels"]).cloned().unwrap_or_default();
    let Some(spec) = pod.get_mut("spec") else { return };
    for kind in ["podAffinity", "podAntiAffinity"] {
        for list in LISTS {
            let terms = spec.get_mut("affinity").and_then(|a| a.get_mut(kind)).and_then(|a| a.get_mut(list));
            for t in terms.and_then(Value::as_array_mut).into_iter().flatten() {
                let weighted = t.get("podAffinityTerm").is_some();
                let term = if weighted { t.get_mut("podAffinityTerm") } else { Some(t) };
                if let Some(term) = term {
                    add_requirements(term, &labels);
                }
            }
        }
    }
    for c in spec.get_mut("topologySpreadConstraints").and_then(Value::as_array_mut).into_iter().flatten() {
        add_requirements(c, &labels);
    }
}

fn add_requirements(term: &mut Value, labels: &Value) {
    let mut more = Vec::new();
    for (list, operator) in [("matchLabelKeys", "In"), ("mismatchLabelKeys", "NotIn")] {
        for key in term.get(list).map(Value::items).unwrap_or_default().iter().filter_map(Value::as_str) {
            let Some(value) = labels.get(key) else { continue };
            let mut r = Map::new();
            r.insert("key", key);
            r.insert("operator", operator);
            r.insert("values", Value::Array(vec![value.clone()]));
            more.push(Value::Map(r));
        }
    }
    if more.is_empty() {
        return;
    }
    let Some(selector) = term.get_mut("labelSelector").and_then(Value::as_map_mut) else { return };
    let mut all = selector.get("matchExpressions").map(|e| e.items().to_vec()).unwrap_or_default();
    all.extend(more);
    selector.insert("matchExpressions", all);
}

/// A claim's source is told under an old and a new name; what the old one cannot say is dropped from it.
fn data_sources(claim: &mut Value, old: Option<&Value>) {
    const OLD: &str = "dataSource";
    const NEW: &str = "dataSourceRef";
    let was = |key: &str| old.and_then(|o| o.at(["spec", key])).is_some_and(|v| !v.is_null());
    let Some(spec) = claim.get_mut("spec").and_then(Value::as_map_mut) else { return };
    let elsewhere = |r: &Value| r.str_at(["namespace"]).is_some_and(|n| !n.is_empty());
    if !was(NEW) && spec.get(NEW).is_some_and(elsewhere) {
        // Sources in other namespaces wait for a feature that is off.
        spec.remove(NEW);
    }
    if !was(OLD) && spec.get(NEW).is_none_or(Value::is_null) {
        let group = |s: &Value| s.str_at(["apiGroup"]).unwrap_or_default().to_owned();
        const KNOWN: [(&str, Option<&str>); 2] =
            [("", Some("PersistentVolumeClaim")), ("snapshot.storage.k8s.io", Some("VolumeSnapshot"))];
        let known = spec.get(OLD).is_some_and(|s| KNOWN.contains(&(group(s).as_str(), s.str_at(["kind"]))));
        if !known {
            spec.remove(OLD);
        }
    }
    let given = |spec: &Map, key: &str| spec.get(key).filter(|v| !v.is_null()).cloned();
    match (given(spec, OLD), given(spec, NEW)) {
        (Some(s), None) => _ = spec.insert(NEW, s),
        (None, Some(r)) if !elsewhere(&r) => {
            let mut s = r;
            if let Some(m) = s.as_map_mut() {
                m.remove("namespace");
            }
            spec.insert(OLD, s);
        }
        _ => {}
    }
}

/// When a volume came into its phase.
fn phase_time(old: &Value, new: &mut Value) {
    const KEY: &str = "lastPhaseTransitionTime";
    let of = |v: &Value, key: &str| v.at(["status", key]).filter(|v| !v.is_null()).cloned();
    let (was, is) = (of(old, KEY), of(new, KEY));
    let same = of(old, "phase") == of(new, "phase");
    let time = match (same, was, is) {
        (true, Some(was), None) => was,
        (false, was, is) if is.is_none() || is == was => now().into(),
        _ => return,
    };
    if let Some(status) = new.make_map_at(["status"]) {
        status.insert(KEY, time);
    }
}

/// When what is said of a certificate signing request was said, and since when it is so.
fn condition_times(old: &Value, new: &mut Value) {
    let unset = |v: Option<&Value>| v.is_none_or(Value::is_null);
    let was = &old["status"]["conditions"];
    let list = new.get_mut("status").and_then(|s| s.get_mut("conditions")).and_then(Value::as_array_mut);
    for c in list.into_iter().flatten() {
        let like =
            |o: &&Value| ["type", "status"].iter().all(|k| o.get(k) == c.get(k)) && !unset(o.get("lastTransitionTime"));
        let since = was.items().iter().find(like).map_or_else(|| now().into(), |o| o["lastTransitionTime"].clone());
        let Some(m) = c.as_map_mut() else { continue };
        for (key, time) in [("lastUpdateTime", now().into()), ("lastTransitionTime", since)] {
            if unset(m.get(key)) {
                m.insert(key, time);
            }
        }
    }
}

/// Drops what is said of devices that a claim has no longer.
fn drop_deallocated(old: &Value, new: &mut Value) {
    let id = |d: &Value| ["driver", "pool", "device", "shareID"].map(|k| d.str_at([k]).unwrap_or_default().to_owned());
    let held =
        |v: &Value| -> Vec<_> { v["status"]["allocation"]["devices"]["results"].items().iter().map(id).collect() };
    let (was, is) = (held(old), held(new));
    let gone = |d: &Value| was.contains(&id(d)) && !is.contains(&id(d));
    let Some(status) = new.get_mut("status").and_then(Value::as_map_mut) else { return };
    if let Some(list) = status.get_mut("devices").and_then(Value::as_array_mut) {
        list.retain(|d| !gone(d));
        if list.is_empty() {
            status.remove("devices");
        }
    }
}

/// What a status of a pod that does not say it keeps.
fn pod_status(old: &Value, new: &mut Value) {
    let was = old.get("status").cloned().unwrap_or_default();
    let Some(status) = new.make_map_at(["status"]) else { return };
    let unset = |v: Option<&Value>| v.is_none_or(|v| v.is_null() || v.as_str() == Some("") || v.as_i64() == Some(0));
    for key in ["qosClass", "observedGeneration"] {
        if let Some(v) = was.get(key).filter(|_| unset(status.get(key))) {
            status.insert(key, v.clone());
        }
    }
    let mut known: Vec<&Value> = was.get("conditions").map(Value::items).unwrap_or_default().iter().collect();
    for c in status.get_mut("conditions").and_then(Value::as_array_mut).into_iter().flatten() {
        let Some(i) = known.iter().position(|k| k.get("type") == c.get("type")) else { continue };
        let before = known.remove(i).get("observedGeneration").filter(|g| g.as_i64() != Some(0)).cloned();
        if let (Some(g), Some(m)) = (before, c.as_map_mut())
            && unset(m.get("observedGeneration"))
        {
            m.insert("observedGeneration", g);
        }
    }
}

/// Keeps of a changed pod what debugging is about: its containers for that.
fn only_ephemeral_containers(old: &Value, new: &mut Value) {
    const KEY: &str = "ephemeralContainers";
    let added = new["spec"].get(KEY).cloned();
    let mut spec = old["spec"].clone();
    if let Some(m) = spec.as_map_mut() {
        match added {
            Some(list) => _ = m.insert(KEY, list),
            None => _ = m.remove(KEY),
        }
    }
    if let Some(m) = new.as_map_mut() {
        m.insert("spec", spec);
        m.insert("status", old["status"].clone());
    }
    keep_metadata(old, new);
}

/// Keeps of a changed pod what resizing is about: the resources of its containers and its own. Other containers than
/// there were are left for the rules to refuse.
fn resize(old: &Value, new: &mut Value) {
    let names =
        |v: &Value, list: &str| -> Vec<Value> { v["spec"][list].items().iter().map(|c| c["name"].clone()).collect() };
    if ["containers", "initContainers"].iter().any(|l| old["spec"][*l].items().len() != new["spec"][*l].items().len()) {
        return;
    }
    let mut spec = old["spec"].clone();
    for list in ["containers", "initContainers"] {
        if names(old, list) != names(new, list) {
            if let Some(m) = spec.as_map_mut() {
                m.insert(list, new["spec"][list].clone());
            }
            continue;
        }
        let wanted = new["spec"][list].items().to_vec();
        for (c, w) in spec.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten().zip(&wanted) {
            for key in ["resources", "resizePolicy"] {
                match (w.get(key), c.as_map_mut()) {
                    (Some(v), Some(m)) => _ = m.insert(key, v.clone()),
                    (None, Some(m)) => _ = m.remove(key),
                    (_, None) => {}
                }
            }
        }
    }
    if let Some(m) = spec.as_map_mut() {
        match new["spec"].get("resources") {
            Some(r) => _ = m.insert("resources", r.clone()),
            None => _ = m.remove("resources"),
        }
    }
    if let Some(m) = new.as_map_mut() {
        m.insert("spec", spec);
        m.insert("status", old["status"].clone());
    }
    keep_metadata(old, new);
}

/// Puts back the metadata that a write on a subresource leaves alone.
pub fn keep_metadata(old: &Value, new: &mut Value) {
    let Some(meta) = new.make_map_at(["metadata"]) else { return };
    for key in ["labels", "annotations", "finalizers", "ownerReferences", "deletionTimestamp"] {
        match old.at(["metadata", key]) {
            Some(v) => _ = meta.insert(key, v.clone()),
            None => _ = meta.remove(key),
        }
    }
}
