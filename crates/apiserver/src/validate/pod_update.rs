//! What a change of a pod may do: of itself, its status, its containers for debugging, its resources
//! (`k8s.io/kubernetes/pkg/apis/core/validation`, `ValidatePodUpdate` and its kin).

use druse_object::{Map, Str, Value};

use super::at::{At, Errors};
use super::pod::metadata_and_spec;
use super::{dump, ip, security};
use crate::field::FieldError;

const UPDATABLE: &str = "`spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

fn annotations(v: &Value) -> &Value {
    &v["metadata"]["annotations"]
}

fn kept_annotations(new: &Value, old: &Value, out: &mut Errors) {
    let root = At::new(new, "");
    let meta = root.child("metadata");
    let list = meta.child("annotations");
    security::kept_annotations(&list, annotations(old), out);
    security::annotations(&list, &root.child("spec"), out);
}

/// Holds a changed pod against what it was; what holds for every pod has been judged.
pub(crate) fn update(new: &Value, old: &Value, out: &mut Errors) {
    kept_annotations(new, old, out);
    let root = At::new(new, "");
    let spec = root.child("spec");
    let before = &old["spec"];
    for key in ["containers", "initContainers"] {
        let list = spec.child(key);
        if list.len() != before[key].items().len() {
            return list.forbidden("pod updates may not add or remove containers", out);
        }
        for c in list.items() {
            c.child("image").need(out);
            super::containers::trimmed_image(&c, out);
        }
    }
    let deadline = spec.child("activeDeadlineSeconds");
    match (deadline.int(), before["activeDeadlineSeconds"].as_i64()) {
        (Some(n), _) if !(0..=i64::from(i32::MAX)).contains(&n) => {
            return deadline.within(0, i64::from(i32::MAX), out);
        }
        (Some(n), Some(was)) if was < n => {
            return deadline.invalid("must be less than or equal to previous value", out);
        }
        (None, Some(_)) => deadline.invalid("must not update from a positive integer to nil value", out),
        _ => {}
    }
    only_added_tolerations(&spec.child("tolerations"), &before["tolerations"], out);
    only_fewer_gates(&spec.child("schedulingGates"), &before["schedulingGates"], out);
    if spec.value() == before {
        return;
    }
    let munged = with_what_may_change(spec.value(), before, &spec, out);
    if munged != *before {
        let why =
            format!("pod updates may not change fields other than {UPDATABLE}\n{}", dump::difference(before, &munged));
        spec.forbidden(why, out);
    }
}

fn only_added_tolerations(new: &At, old: &Value, out: &mut Errors) {
    let rest = |t: &Value| {
        let mut m = t.as_map().cloned().unwrap_or_default();
        m.remove("tolerationSeconds");
        m
    };
    let kept = |t: &Value| new.value().items().iter().any(|n| rest(n) == rest(t));
    if !old.items().iter().all(kept) {
        return new.forbidden("existing toleration can not be modified except its tolerationSeconds", out);
    }
    super::scheduling::tolerations(new, out);
}

fn only_fewer_gates(new: &At, old: &Value, out: &mut Errors) {
    for g in new.items() {
        let name = g.text_of("name");
        if !old.items().iter().any(|o| o.str_at(["name"]) == Some(name)) {
            let why = format!("only deletion is allowed, but found new scheduling gate '{name}'");
            g.child("name").forbidden(why, out);
        }
    }
}

/// The new specification with everything put back that a change may touch.
fn with_what_may_change(new: &Value, old: &Value, spec: &At, out: &mut Errors) -> Value {
    let mut munged = new.clone();
    for key in ["containers", "initContainers"] {
        let images: Vec<Value> = old[key].items().iter().map(|c| c["image"].clone()).collect();
        for (c, image) in munged.get_mut(key).and_then(Value::as_array_mut).into_iter().flatten().zip(images) {
            if let Some(m) = c.as_map_mut() {
                m.insert("image", image);
            }
        }
    }
    let mut kept = vec!["activeDeadlineSeconds", "tolerations", "schedulingGates"];
    // A grace that makes no sense may be set right.
    let grace = |v: &Value| v["terminationGracePeriodSeconds"].as_i64();
    if grace(old).is_some_and(|g| g < 0) && grace(new) == Some(1) {
        kept.push("terminationGracePeriodSeconds");
    }
    // A pod that no scheduler looks at yet may be narrowed to fewer nodes.
    let gated = !old["schedulingGates"].items().is_empty();
    if gated && narrows(&spec.child("nodeSelector"), &old["nodeSelector"], out) {
        kept.push("nodeSelector");
    }
    if gated {
        narrow_affinity(new, old, &mut munged, spec, out);
    }
    let Some(m) = munged.as_map_mut() else { return munged };
    for key in kept {
        match old.get(key) {
            Some(v) => m.insert(key, v.clone()),
            None => m.remove(key),
        };
    }
    munged
}

/// Whether the node selector of a gated pod changed, with an error when it did otherwise than by additions.
fn narrows(new: &At, old: &Value, out: &mut Errors) -> bool {
    if new.value() == old {
        return false;
    }
    let kept = |(k, v): (&Str, &Value)| new.value().get(k) == Some(v);
    if !old.as_map().into_iter().flat_map(Map::iter).all(kept) {
        new.invalid("only additions to spec.nodeSelector are allowed (no mutations or deletions)", out);
    }
    true
}

/// The same for the affinity to nodes of a gated pod: terms stay, and may only ask for more.
fn narrow_affinity(new: &Value, old: &Value, munged: &mut Value, spec: &At, out: &mut Errors) {
    const TERMS: [&str; 3] = ["nodeAffinity", "requiredDuringSchedulingIgnoredDuringExecution", "nodeSelectorTerms"];
    let of = |v: &Value| v.at(["affinity", "nodeAffinity"]).cloned();
    if of(new) == of(old) {
        return;
    }
    let terms = |v: &Value| TERMS.iter().fold(&v["affinity"], |v, k| &v[k]).items().to_vec();
    let (before, after) = (terms(old), terms(new));
    let path = format!("{}.affinity.{}", spec.path(), TERMS.join("."));
    if !before.is_empty() && before.len() != after.len() {
        let why = "no additions/deletions to non-empty NodeSelectorTerms list are allowed";
        let shown: Vec<Value> = after.iter().map(|t| dump::internal("NodeSelectorTerm", t)).collect();
        let shown = if after.is_empty() { Value::Null } else { Value::Array(shown) };
        out.push(FieldError::invalid(path, shown, why));
    } else {
        for (i, (was, is)) in before.iter().zip(&after).enumerate() {
            let list = |v: &Value, key| v[key].items().to_vec();
            let empty = |v: &Value| list(v, "matchExpressions").is_empty() && list(v, "matchFields").is_empty();
            let grows = |key| list(is, key).starts_with(&list(was, key));
            let fits = if empty(was) { empty(is) } else { grows("matchExpressions") && grows("matchFields") };
            if !fits {
                let shown = dump::internal("NodeSelectorTerm", is);
                let why = "only additions are allowed (no mutations or deletions)";
                out.push(FieldError::invalid(format!("{path}[{i}]"), shown, why));
            }
        }
    }
    let others = |v: &Value| ["podAffinity", "podAntiAffinity"].iter().any(|k| v.at(["affinity", k]).is_some());
    let Some(m) = munged.as_map_mut() else { return };
    match (of(old), old.get("affinity")) {
        (Some(node), _) => {
            if let Some(a) = m.entry_or_null("affinity").make_map() {
                a.insert("nodeAffinity", node);
            }
        }
        (None, None) if !others(new) => _ = m.remove("affinity"),
        (None, _) => {
            if let Some(a) = m.get_mut("affinity").and_then(Value::as_map_mut) {
                a.remove("nodeAffinity");
            }
        }
    }
}

/// Containers added for debugging are never changed nor taken away.
pub(crate) fn ephemeral_containers(new: &Value, old: &Value, out: &mut Errors) {
    if security::is_mirror(old) {
        out.clear();
        return out.push(FieldError::forbidden("", "static pods do not support ephemeral containers"));
    }
    metadata_and_spec(new, out);
    kept_annotations(new, old, out);
    let (is, before) = [new, old].map(|v| v["spec"]["ephemeralContainers"].items()).into();
    for was in before {
        let name = was["name"].as_str().unwrap_or_default();
        let quoted = crate::field::go_quote(name);
        let why = match is.iter().rfind(|c| c.str_at(["name"]) == Some(name)) {
            None => format!("existing ephemeral containers {quoted} may not be removed\n"),
            Some(is) if is != was => format!(
                "existing ephemeral containers {quoted} may not be changed\n{}",
                dump::difference_of("EphemeralContainer", was, is)
            ),
            Some(_) => continue,
        };
        out.push(FieldError::forbidden("spec.ephemeralContainers", why));
    }
}

/// Holds a resized pod against what it was: only processors and memory change, and none are taken away.
pub(crate) fn resize(new: &Value, old: &Value, out: &mut Errors) {
    if security::is_mirror(old) {
        out.clear();
        return out.push(FieldError::forbidden("", "static pods cannot be resized"));
    }
    if old.str_at(["spec", "os", "name"]) == Some("windows") {
        out.clear();
        return out.push(FieldError::forbidden("", "windows pods cannot be resized"));
    }
    metadata_and_spec(new, out);
    let class = crate::strategy::qos(old);
    if crate::strategy::qos(new) != class {
        out.push(FieldError::invalid("spec", class, "Pod QOS Class may not change as a result of resizing"));
    }
    let running = |c: &&Value| c.at(["state", "running"]).is_some();
    let first = old["status"]["containerStatuses"].items().iter().find(running);
    if first.is_some_and(|c| c.get("resources").is_none()) {
        out.push(FieldError::forbidden("spec", "Pod running on node without support for resize"));
    }
    let (is, was) = (&new["spec"], &old["spec"]);
    if !same_containers(is, was, out) {
        return;
    }
    own_amounts(is, was, out);
    for list in ["initContainers", "containers"] {
        for (i, (now, then)) in is[list].items().iter().zip(was[list].items()).enumerate() {
            for what in ["requests", "limits"] {
                if removed(&now["resources"], &then["resources"], what) {
                    let path = format!("spec.{list}[{i}].resources.{what}");
                    out.push(FieldError::forbidden(path, format!("resource {what} cannot be removed")));
                }
            }
        }
    }
    for list in ["containers", "initContainers"] {
        for (i, (now, then)) in is[list].items().iter().zip(was[list].items()).enumerate() {
            let init = list == "initContainers";
            if !only_amounts_differ(now, then) {
                out.push(if init {
                    let why = "only cpu and memory resources for init or sidecar containers are mutable";
                    FieldError::forbidden(format!("spec.initContainers[{i}]"), why)
                } else {
                    FieldError::forbidden("spec", "only cpu and memory resources are mutable")
                });
            }
            let restarts = |p: &Value| p.str_at(["restartPolicy"]) == Some("RestartContainer");
            if init && now != then && now.str_at(["restartPolicy"]) != Some("Always") {
                for _ in now["resizePolicy"].items().iter().filter(|p| restarts(p)) {
                    let why = "non-sidecar init containers with a resize policy of RestartContainer cannot be resized";
                    out.push(FieldError::forbidden(format!("spec.initContainers[{i}]"), why));
                }
            }
        }
    }
}

fn same_containers(new: &Value, old: &Value, out: &mut Errors) -> bool {
    let before = out.len();
    for list in ["containers", "initContainers"] {
        let (is, was) = (new[list].items(), old[list].items());
        if is.len() != was.len() {
            out.push(FieldError::forbidden(
                format!("spec.{list}"),
                format!("{list} may not be added or removed on resize"),
            ));
            continue;
        }
        for (i, _) in is.iter().zip(was).enumerate().filter(|(_, (n, o))| n.get("name") != o.get("name")) {
            let why = format!("{list} may not be renamed or reordered on resize");
            out.push(FieldError::forbidden(format!("spec.{list}[{i}].name"), why));
        }
    }
    out.len() == before
}

/// The amounts of the pod as a whole.
fn own_amounts(new: &Value, old: &Value, out: &mut Errors) {
    let (is, was) = (&new["resources"], &old["resources"]);
    if !was.is_null() && is.is_null() {
        return out.push(FieldError::forbidden("spec.resources", "pod-level resources cannot be removed"));
    }
    for what in ["requests", "limits"] {
        if removed(is, was, what) {
            let why = format!("pod-level resource {what} cannot be removed");
            out.push(FieldError::forbidden(format!("spec.resources.{what}"), why));
        }
    }
    if without_amounts(is) != without_amounts(was) {
        out.push(FieldError::forbidden("spec", "only cpu and memory resources are mutable at pod-level"));
    }
}

fn removed(new: &Value, old: &Value, what: &str) -> bool {
    let keys = old[what].as_map().into_iter().flat_map(Map::keys);
    keys.into_iter().any(|k| new[what].get(k).is_none())
}

/// Resources without what resizing may change.
fn without_amounts(r: &Value) -> Value {
    let mut r = r.clone();
    if let Some(m) = r.as_map_mut() {
        for what in ["requests", "limits"] {
            if let Some(list) = m.get_mut(what).and_then(Value::as_map_mut) {
                list.retain(|k, _| !matches!(k.as_str(), "cpu" | "memory"));
            }
        }
        m.retain(|_, v| !v.as_map().is_some_and(Map::is_empty));
    }
    if r.as_map().is_some_and(Map::is_empty) { Value::Null } else { r }
}

fn only_amounts_differ(new: &Value, old: &Value) -> bool {
    let rest = |c: &Value| {
        let mut m = c.as_map().cloned().unwrap_or_default();
        let resources = m.remove("resources").unwrap_or_default();
        (m, without_amounts(&resources))
    };
    rest(new) == rest(old)
}

/// Holds a pod's new status against its old one.
pub(crate) fn status(new: &Value, old: &Value, out: &mut Errors) {
    kept_annotations(new, old, out);
    let root = At::new(new, "");
    let s = root.child("status");
    let was = &old["status"];
    for c in s.child("conditions").items() {
        if c.int_of("observedGeneration") < 0 {
            c.child("observedGeneration").invalid("must be a non-negative integer", out);
        }
        let kind = c.text_of("type");
        if !matches!(kind, "PodScheduled" | "Ready" | "Initialized") {
            c.child_as("type", "Type").qualified(out);
        }
    }
    let nominated = s.child("nominatedNodeName");
    if !nominated.text().is_empty() && *nominated.value() != was["nominatedNodeName"] {
        nominated.subdomain(out);
        if old.str_at(["spec", "nodeName"]).is_some_and(|n| !n.is_empty()) {
            nominated.forbidden("may not be set on pods that are already bound to a node", out);
        }
    }
    if s.int_of("observedGeneration") < 0 {
        s.child("observedGeneration").invalid("must be a non-negative integer", out);
    }
    s.child("qosClass").unchanged(&was["qosClass"], out);
    let spec = &old["spec"];
    for (list, containers) in [
        ("containerStatuses", "containers"),
        ("initContainerStatuses", "initContainers"),
        ("ephemeralContainerStatuses", ""),
    ] {
        transitions(&s.child(list), &was[list], spec, containers, out);
    }
    for (list, single) in [("podIPs", "podIP"), ("hostIPs", "hostIP")] {
        addresses(&s, was, list, single, out);
    }
    for list in ["containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses"] {
        for c in s.child(list).items() {
            let user = c.child("user");
            let linux = user.child("linux");
            if !linux.is_given() {
                continue;
            }
            if new.str_at(["spec", "os", "name"]) == Some("windows") {
                linux.forbidden("cannot be set for a windows pod", out);
                continue;
            }
            for key in ["uid", "gid"] {
                linux.child(key).within(0, i64::from(i32::MAX), out);
            }
            linux.child("supplementalGroups").items().for_each(|g| g.within(0, i64::from(i32::MAX), out));
        }
    }
    for (list, containers) in [("containerStatuses", "containers"), ("initContainerStatuses", "initContainers")] {
        let all = new["spec"][containers].items();
        for c in s.child(list).items() {
            let container = all.iter().find(|k| k.get("name") == c.value().get("name"));
            allocated(&c.child("allocatedResourcesStatus"), container, out);
        }
    }
    for c in s.child("ephemeralContainerStatuses").items().filter(|c| c.child("allocatedResourcesStatus").len() > 0) {
        c.child("allocatedResourcesStatus").forbidden("must not be specified in container status", out);
    }
}

/// What devices a container has: ones that it asked for, each told once.
fn allocated(list: &At, container: Option<&Value>, out: &mut Errors) {
    const LONGEST: usize = 1024;
    const CLAIM: &str = "must match one of the container's resource claims in a format 'claim:<claimName>/<request>' or 'claim:<claimName>' if request is empty";
    for a in list.items() {
        let name = a.text_of("name");
        let claim = name.strip_prefix("claim:");
        let fits = |c: &Value| match claim {
            Some(claim) => c["resources"]["claims"].items().iter().any(|k| {
                let request = k.str_at(["request"]).filter(|r| !r.is_empty());
                let whole = k.str_at(["name"]).unwrap_or_default().to_owned();
                claim == request.map_or(whole.clone(), |r| format!("{whole}/{r}"))
            }),
            None => c.at(["resources", "requests", name]).is_some(),
        };
        if container.is_some_and(|c| !fits(c)) {
            let why = if claim.is_some() { CLAIM } else { "must match one of the container's resource requests" };
            a.child("name").invalid(why, out);
        }
        let mut seen = Vec::new();
        for r in a.child("resources").items() {
            r.child("health").any_of(&["Healthy", "Unhealthy", "Unknown"], out);
            if let Some(m) = r.get("message") {
                match m.text().len() {
                    0 => m.required("must be non-empty if specified", out),
                    n if n > LONGEST => m.too_long(LONGEST, out),
                    _ => {}
                }
            }
            let id = r.text_of("resourceID");
            if seen.contains(&id) {
                r.child("resourceID").duplicate(id, out);
            }
            seen.push(id);
        }
    }
}

/// What has ended stays ended, unless its pod starts such containers again.
fn transitions(new: &At, old: &Value, spec: &Value, containers: &str, out: &mut Errors) {
    let ended = |c: &Value| c.at(["state", "terminated"]).filter(|t| !t.is_null()).cloned();
    let all = ["initContainers", "containers"].map(|l| spec[l].items());
    let rules = |c: &Value| c["restartPolicyRules"].items().to_vec();
    let restarts_all = |c: &Value| rules(c).iter().any(|r| r.str_at(["action"]) == Some("RestartAllContainers"));
    if !containers.is_empty() && all.iter().copied().flatten().any(restarts_all) {
        return;
    }
    for (i, was) in old.items().iter().enumerate() {
        let Some(end) = ended(was) else { continue };
        let same = |c: &&Value| c.get("name") == was.get("name");
        let revived = new.value().items().iter().find(|c| same(c) && ended(c).is_none()).is_some();
        if !revived {
            continue;
        }
        let code = end["exitCode"].as_i64().unwrap_or(0);
        let container = spec[containers].items().iter().find(same);
        if !container.is_some_and(|c| starts_again(c, spec, code)) {
            let path = format!("{}[{i}].state", new.path());
            out.push(FieldError::forbidden(path, "may not be transitioned to non-terminated state"));
        }
    }
}

fn starts_again(c: &Value, spec: &Value, code: i64) -> bool {
    for rule in c["restartPolicyRules"].items() {
        let listed = rule.at(["exitCodes", "values"]).is_some_and(|v| v.items().contains(&Value::Int(code)));
        let holds = match rule.str_at(["exitCodes", "operator"]) {
            Some("In") => listed,
            Some("NotIn") => !listed,
            _ => false,
        };
        if holds {
            return rule.str_at(["action"]) == Some("Restart");
        }
    }
    let policy = c.str_at(["restartPolicy"]).or_else(|| spec.str_at(["restartPolicy"]));
    match policy {
        Some("OnFailure") => code != 0,
        Some("Never") => false,
        _ => true,
    }
}

/// The addresses of a pod or its host: at most one of each family, the first again where older clients look.
fn addresses(s: &At, was: &Value, list: &str, single: &str, out: &mut Errors) {
    let all = s.child(list);
    let host = single == "hostIP";
    if let Some(first) = all.items().next()
        && host
        && first.text_of("ip") != s.text_of(single)
    {
        first.child("ip").invalid("must be equal to `hostIP`", out);
    }
    let known: Vec<&str> = was[list].items().iter().filter_map(|a| a.str_at(["ip"])).collect();
    let mut families = Vec::new();
    for a in all.items() {
        let text = a.text_of("ip");
        if !known.contains(&text) {
            ip::legacy(text, &a.path(), out);
        }
        families.extend(text.parse::<std::net::IpAddr>().ok().map(|a| a.is_ipv4()));
    }
    if all.len() > 1 {
        families.sort_unstable();
        families.dedup();
        if families.len() < 2 || all.len() > 2 {
            let why = "may specify no more than one IP for each IP family";
            let shown: Vec<Value> = all.value().items().iter().map(internal_ip).collect();
            all.bad(Value::Array(shown), why, out);
        }
    }
}

fn internal_ip(a: &Value) -> Value {
    let mut m = Map::new();
    m.insert("IP", a["ip"].clone());
    Value::Map(m)
}
