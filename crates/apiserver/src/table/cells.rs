//! What stands in the cells.
//!
//! For each built-in kind, `data/cells.tsv` says where each column's value comes from: a path (`.spec.type|<none>` with
//! what to show when there is none), a path with a form (`int`, `raw`, `len`, `bool`, `labels`, `selector`, …), or a function
//! (`fn ready`) of this module and [`super::pods`] for what has to be worked out.

use std::collections::HashMap;
use std::sync::LazyLock;

use druse_object::{Gvk, Value, json};

use super::{path, pods, time};
use crate::registry::{PrinterColumn, Resource};

const TABLE: &str = include_str!("../../data/cells.tsv");

static CELLS: LazyLock<HashMap<&'static str, Vec<&'static str>>> = LazyLock::new(|| {
    TABLE
        .lines()
        .filter_map(|l| {
            let mut parts = l.split('\t');
            Some((parts.next()?, parts.collect()))
        })
        .collect()
});

/// The cells of one object.
pub fn row(resource: &Resource, columns: &[PrinterColumn], o: &Value) -> Value {
    let sources = CELLS.get(resource.stored_as.as_str()).filter(|_| !resource.custom);
    columns
        .iter()
        .enumerate()
        .map(|(i, c)| match sources.and_then(|s| s.get(i)) {
            Some(source) => builtin(source, o),
            None => custom(c, o),
        })
        // Some kinds have more cells than columns.
        .chain(sources.into_iter().flatten().skip(columns.len()).map(|source| builtin(source, o)))
        .collect()
}

fn created(o: &Value) -> Option<&str> {
    o.str_at(["metadata", "creationTimestamp"])
}

fn custom(c: &PrinterColumn, o: &Value) -> Value {
    if c.json_path.is_empty() {
        return match c.name.as_str() {
            "Created At" => created(o).unwrap_or_default().into(),
            "Age" => time::ago(created(o)).into(),
            _ => o["metadata"]["name"].clone(),
        };
    }
    let found = path::lookup(o, &c.json_path);
    let Some(first) = found.first() else { return Value::Null };
    match c.kind.as_str() {
        "date" => match first.as_str() {
            Some(_) => time::ago(first.as_str()).into(),
            None => Value::Null,
        },
        "integer" | "number" | "boolean" => (*first).clone(),
        _ if found.len() == 1 => match first {
            Value::String(_) => (*first).clone(),
            other => json::to_string(other).into(),
        },
        _ => join(found.iter().map(|v| plain(v)), ","),
    }
}

fn plain(v: &Value) -> String {
    match v {
        Value::Null => String::new(),
        Value::String(s) => s.to_string(),
        other => json::to_string(other),
    }
}

fn join(parts: impl IntoIterator<Item = String>, with: &str) -> Value {
    parts.into_iter().collect::<Vec<_>>().join(with).into()
}

fn at<'a>(o: &'a Value, p: &str) -> &'a Value {
    p.trim_start_matches('.').split('.').fold(o, |v, k| &v[k])
}

fn builtin(source: &str, o: &Value) -> Value {
    match source.split_once(' ') {
        None if source == "name" => o["metadata"]["name"].clone(),
        None if source == "age" => time::ago(created(o)).into(),
        None => {
            let (p, default) = source.split_once('|').unwrap_or((source, ""));
            let text = if p.is_empty() { String::new() } else { plain(at(o, p)) };
            if text.is_empty() { default.into() } else { text.into() }
        }
        Some(("int", p)) => at(o, p).as_i64().unwrap_or(0).into(),
        Some(("raw", p)) => {
            let (p, default) = p.split_once('|').unwrap_or((p, ""));
            Some(at(o, p)).filter(|v| !v.is_null()).cloned().unwrap_or_else(|| default.into())
        }
        Some(("bool", p)) => at(o, p).as_bool().unwrap_or(false).into(),
        Some(("yes", p)) => at(o, p).as_bool().unwrap_or(true).into(),
        Some(("len", p)) => match at(o, p) {
            Value::Map(m) => m.len().into(),
            other => other.items().len().into(),
        },
        Some(("list", p)) => {
            let list = join(at(o, p).items().iter().map(plain), ",");
            if list.as_str() == Some("") { "<none>".into() } else { list }
        }
        Some(("names", p)) => join(at(o, p).items().iter().map(|c| plain(&c["name"])), ","),
        Some(("images", p)) => join(at(o, p).items().iter().map(|c| plain(&c["image"])), ","),
        Some(("labels", p)) => labels(at(o, p)).into(),
        Some(("selector", p)) => selector(at(o, p)).into(),
        Some(("modes", p)) => modes(at(o, p)).into(),
        Some((_, name)) => computed(name, o),
    }
}

fn labels(v: &Value) -> String {
    let mut list: Vec<String> =
        v.as_map().into_iter().flat_map(|m| m.iter()).map(|(k, v)| format!("{k}={}", plain(v))).collect();
    list.sort();
    if list.is_empty() { "<none>".into() } else { list.join(",") }
}

/// A selector as Go's generated code prints it.
fn go_selector(v: &Value) -> String {
    let labels = v["matchLabels"].as_map().into_iter().flat_map(|m| m.iter());
    let mut labels: Vec<String> = labels.map(|(k, v)| format!("{k}: {},", plain(v))).collect();
    labels.sort();
    let terms = v["matchExpressions"].items().iter().map(|e| {
        let values: Vec<String> = e["values"].items().iter().map(plain).collect();
        let (key, operator) = (plain(&e["key"]), plain(&e["operator"]));
        format!("LabelSelectorRequirement{{Key:{key},Operator:{operator},Values:[{}],}},", values.join(" "))
    });
    format!(
        "&LabelSelector{{MatchLabels:map[string]string{{{}}},MatchExpressions:[]LabelSelectorRequirement{{{}}},}}",
        labels.concat(),
        terms.collect::<String>()
    )
}

fn selector(v: &Value) -> String {
    let mut list: Vec<String> = v["matchLabels"]
        .as_map()
        .into_iter()
        .flat_map(|m| m.iter())
        .map(|(k, v)| format!("{k}={}", plain(v)))
        .collect();
    for e in v["matchExpressions"].items() {
        let key = plain(&e["key"]);
        let values: Vec<String> = e["values"].items().iter().map(plain).collect();
        list.push(match e["operator"].as_str().unwrap_or_default() {
            "In" => format!("{key} in ({})", values.join(",")),
            "NotIn" => format!("{key} notin ({})", values.join(",")),
            "Exists" => key,
            _ => format!("!{key}"),
        });
    }
    list.sort();
    if list.is_empty() { "<none>".into() } else { list.join(",") }
}

fn modes(v: &Value) -> String {
    let has = |m: &str| v.items().iter().any(|x| x.as_str() == Some(m));
    let all =
        [("ReadWriteOnce", "RWO"), ("ReadOnlyMany", "ROX"), ("ReadWriteMany", "RWX"), ("ReadWriteOncePod", "RWOP")];
    all.iter().filter(|(m, _)| has(m)).map(|(_, s)| *s).collect::<Vec<_>>().join(",")
}

fn is_annotated(o: &Value, key: &str) -> bool {
    o.at(["metadata", "annotations"]).and_then(|a| a.get(key)).and_then(Value::as_str) == Some("true")
}

fn first_some(list: impl IntoIterator<Item = String>) -> String {
    list.into_iter().find(|s| !s.is_empty()).unwrap_or_default()
}

/// A short list: three entries, then how many more.
fn short(list: &[String], none: &str) -> String {
    if list.is_empty() {
        return none.into();
    }
    let shown = list.iter().take(3).cloned().collect::<Vec<_>>().join(",");
    if list.len() > 3 { format!("{shown} + {} more...", list.len() - 3) } else { shown }
}

fn computed(name: &str, o: &Value) -> Value {
    let spec = &o["spec"];
    let status = &o["status"];
    let text = |v: &Value| plain(v);
    let int = |v: &Value| v.as_i64().unwrap_or(0);
    match name {
        "ready" => pods::ready(o).into(),
        "status" => pods::status(o).into(),
        "restarts" => pods::restarts(o).into(),
        "gates" => pods::gates(o).into(),
        "job-status" => pods::job_status(o).into(),
        "job-completions" => pods::job_completions(o).into(),
        "job-duration" => pods::job_duration(o).into(),
        "suspend" => spec["suspend"].as_bool().map_or("<unset>", |b| if b { "True" } else { "False" }).into(),
        "last-schedule" => match status.str_at(["lastScheduleTime"]) {
            Some(t) => time::ago(Some(t)).into(),
            None => "<none>".into(),
        },
        "replicas-ready" => format!("{}/{}", int(&status["readyReplicas"]), int(&spec["replicas"])).into(),
        "external-ip" => external_ip(o).into(),
        "service-ports" => {
            let list: Vec<String> = spec["ports"]
                .items()
                .iter()
                .map(|p| {
                    let proto = text(&p["protocol"]);
                    match int(&p["nodePort"]) {
                        0 => format!("{}/{proto}", int(&p["port"])),
                        n => format!("{}:{n}/{proto}", int(&p["port"])),
                    }
                })
                .collect();
            if list.is_empty() { "<none>".into() } else { list.join(",").into() }
        }
        "hosts" => {
            let rules = spec["rules"].items();
            let list: Vec<String> = rules.iter().take(3).map(|r| text(&r["host"])).filter(|h| !h.is_empty()).collect();
            match (list.is_empty(), rules.len() > 3) {
                (true, _) => "*".into(),
                (false, true) => format!("{} + {} more...", list.join(","), rules.len() - 3).into(),
                (false, false) => list.join(",").into(),
            }
        }
        "addresses" => balancers(o).into(),
        "ingress-ports" => if spec["tls"].items().is_empty() { "80" } else { "80, 443" }.into(),
        "ingress-class-name" => marked_default(o, &["ingressclass.kubernetes.io/is-default-class"]),
        "storage-class-name" => marked_default(
            o,
            &["storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"],
        ),
        "parameters" => match spec.get("parameters") {
            Some(p) => {
                let group = text(&p["apiGroup"]);
                let dot = if group.is_empty() { "" } else { "." };
                format!("{}{dot}{group}/{}", text(&p["kind"]), text(&p["name"])).into()
            }
            None => "<none>".into(),
        },
        "endpoints" => {
            let mut list = Vec::new();
            for s in o["subsets"].items() {
                let addresses = || s["addresses"].items().iter().map(|a| text(&a["ip"]));
                if s["ports"].items().is_empty() {
                    list.extend(addresses());
                }
                for p in s["ports"].items() {
                    list.extend(addresses().map(|a| match a.contains(':') {
                        true => format!("[{a}]:{}", int(&p["port"])),
                        false => format!("{a}:{}", int(&p["port"])),
                    }));
                }
            }
            short(&list, "<none>").into()
        }
        "slice-ports" => {
            let ports = o["ports"].items().iter();
            let list: Vec<String> = ports
                .map(|p| {
                    p["port"].as_i64().map_or_else(|| first_some([text(&p["name"]), "*".into()]), |n| n.to_string())
                })
                .collect();
            short(&list, "<unset>").into()
        }
        "slice-endpoints" => {
            let list: Vec<String> =
                o["endpoints"].items().iter().flat_map(|e| e["addresses"].items()).map(plain).collect();
            short(&list, "<unset>").into()
        }
        "node-status" => {
            let ready = status["conditions"].items().iter().find(|c| c.str_at(["type"]) == Some("Ready"));
            let mut list = vec![match ready.and_then(|c| c.str_at(["status"])) {
                Some("True") => "Ready",
                Some(_) => "NotReady",
                None => "Unknown",
            }];
            if spec["unschedulable"].as_bool() == Some(true) {
                list.push("SchedulingDisabled");
            }
            list.join(",").into()
        }
        "node-roles" => {
            let map = o.at(["metadata", "labels"]).and_then(Value::as_map);
            let mut roles: Vec<String> = map
                .into_iter()
                .flat_map(|m| m.iter())
                .filter_map(|(k, v)| match (k.strip_prefix("node-role.kubernetes.io/"), k.as_str()) {
                    (Some(r), _) => Some(r.to_owned()),
                    (None, "kubernetes.io/role") => Some(plain(v)),
                    _ => None,
                })
                .filter(|r| !r.is_empty())
                .collect();
            roles.sort();
            roles.dedup();
            if roles.is_empty() { "<none>".into() } else { roles.join(",").into() }
        }
        "internal-ip" => node_address(o, "InternalIP"),
        "node-external-ip" => node_address(o, "ExternalIP"),
        "kernel" => {
            let info = &status["nodeInfo"];
            let kernel = first_some([text(&info["kernelVersion"]), "<unknown>".into()]);
            match text(&info["architecture"]) {
                a if a.is_empty() => kernel.into(),
                a => format!("{kernel} ({a})").into(),
            }
        }
        "last-seen" => last_seen(o).into(),
        "first-seen" => first_seen(o).into(),
        "event-count" => match o.get("series").filter(|s| !s.is_null()) {
            Some(s) => int(&s["count"]).into(),
            None => int(&o["count"]).max(1).into(),
        },
        "event-object" => {
            let i = &o["involvedObject"];
            let kind = text(&i["kind"]).to_lowercase();
            match text(&i["name"]) {
                n if n.is_empty() => kind.into(),
                n => format!("{kind}/{n}").into(),
            }
        }
        "event-source" => {
            let component = first_some([text(&o["source"]["component"]), text(&o["reportingComponent"])]);
            match first_some([text(&o["source"]["host"]), text(&o["reportingInstance"])]) {
                i if i.is_empty() => component.into(),
                i => format!("{component}, {i}").into(),
            }
        }
        "event-message" => text(&o["message"]).trim().into(),
        "phase" if o.at(["metadata", "deletionTimestamp"]).is_some() => "Terminating".into(),
        "phase" => text(&status["phase"]).into(),
        "claim" => match spec.get("claimRef").filter(|c| !c.is_null()) {
            Some(c) => format!("{}/{}", text(&c["namespace"]), text(&c["name"])).into(),
            None => "".into(),
        },
        "claim-capacity" if text(&spec["volumeName"]).is_empty() => "".into(),
        "claim-capacity" => first_some([text(&status["capacity"]["storage"]), "0".into()]).into(),
        "claim-modes" if text(&spec["volumeName"]).is_empty() => "".into(),
        "claim-modes" => modes(&status["accessModes"]).into(),
        "scale-target" => {
            format!("{}/{}", text(&spec["scaleTargetRef"]["kind"]), text(&spec["scaleTargetRef"]["name"])).into()
        }
        "metrics" => metrics(o).into(),
        "data" => {
            let n = |k: &str| o[k].as_map().map_or(0, druse_object::Map::len);
            (n("data") + n("binaryData")).into()
        }
        "role" => format!("{}/{}", text(&o["roleRef"]["kind"]), text(&o["roleRef"]["name"])).into(),
        "users" => subjects(o, "User"),
        "groups" => subjects(o, "Group"),
        "accounts" => subjects(o, "ServiceAccount"),
        "api-service" => match text(&spec["service"]["name"]) {
            n if n.is_empty() => "Local".into(),
            n => format!("{}/{n}", text(&spec["service"]["namespace"])).into(),
        },
        "api-available" => {
            let list = status["conditions"].items();
            match list.iter().find(|c| c.str_at(["type"]) == Some("Available")) {
                Some(c) if c.str_at(["status"]) == Some("True") => "True".into(),
                Some(c) => format!("{} ({})", text(&c["status"]), text(&c["reason"])).into(),
                None => "Unknown".into(),
            }
        }
        "csr-duration" => spec["expirationSeconds"].as_i64().map_or_else(|| "<none>".into(), time::human).into(),
        "csr-status" => {
            let has = |t: &str| status["conditions"].items().iter().any(|c| c.str_at(["type"]) == Some(t));
            let mut out = if has("Denied") {
                "Denied"
            } else if has("Approved") {
                "Approved"
            } else {
                "Pending"
            }
            .to_owned();
            if has("Failed") {
                out.push_str(",Failed");
            }
            if !text(&status["certificate"]).is_empty() {
                out.push_str(",Issued");
            }
            out.into()
        }
        "controller" => {
            let owners = o["metadata"]["ownerReferences"].items();
            match owners.iter().find(|r| r["controller"].as_bool() == Some(true)) {
                Some(r) => {
                    let gvk = Gvk::from_api_version(&text(&r["apiVersion"]), &text(&r["kind"]));
                    let dot = if gvk.group.is_empty() { "" } else { "." };
                    format!("{}{dot}{}/{}", gvk.kind.to_lowercase(), gvk.group, text(&r["name"])).into()
                }
                None => "<none>".into(),
            }
        }
        "quota-requests" => quota(o, false),
        "quota-limits" => quota(o, true),
        "token-requests" => match spec.get("tokenRequests").filter(|t| !t.is_null()) {
            Some(t) => join(t.items().iter().map(|t| text(&t["audience"])), ","),
            None => "<unset>".into(),
        },
        "param-kind" => match spec.get("paramKind").filter(|p| !p.is_null()) {
            Some(p) => format!("{}/{}", text(&p["apiVersion"]), text(&p["kind"])).into(),
            None => "<unset>".into(),
        },
        "param-ref" => match spec.get("paramRef").filter(|p| !p.is_null()) {
            Some(p) => {
                let ns = first_some([text(&p["namespace"]), "*".into()]);
                match text(&p["name"]) {
                    n if n.is_empty() && p["selector"].is_null() => "<unset>".into(),
                    n if n.is_empty() => go_selector(&p["selector"]).into(),
                    n => format!("{ns}/{n}").into(),
                }
            }
            None => "<unset>".into(),
        },
        "missing-level" => {
            let dangling = status["conditions"].items().iter().find(|c| c.str_at(["type"]) == Some("Dangling"));
            dangling.and_then(|c| c.str_at(["status"])).unwrap_or("?").into()
        }
        "claim-state" => {
            let mut list = Vec::new();
            if o.at(["metadata", "deletionTimestamp"]).is_some() {
                list.push("deleted");
            }
            if status.get("allocation").is_none_or(Value::is_null) {
                if list.is_empty() {
                    list.push("pending");
                }
            } else {
                list.push("allocated");
                if !status["reservedFor"].items().is_empty() {
                    list.push("reserved");
                }
            }
            list.join(",").into()
        }
        "parent-ref" => {
            let p = &spec["parentRef"];
            join(
                [&p["resource"], &p["group"], &p["namespace"], &p["name"]]
                    .map(text)
                    .into_iter()
                    .filter(|s| !s.is_empty()),
                "/",
            )
        }
        _ => Value::Null,
    }
}

fn marked_default(o: &Value, annotations: &[&str]) -> Value {
    let name = plain(&o["metadata"]["name"]);
    if annotations.iter().any(|a| is_annotated(o, a)) { format!("{name} (default)").into() } else { name.into() }
}

fn node_address(o: &Value, kind: &str) -> Value {
    let found = o["status"]["addresses"].items().iter().find(|a| a.str_at(["type"]) == Some(kind));
    found.map_or_else(|| "<none>".into(), |a| a["address"].clone())
}

fn balancers(o: &Value) -> String {
    let mut list: Vec<String> = o["status"]["loadBalancer"]["ingress"]
        .items()
        .iter()
        .map(|i| first_some([plain(&i["ip"]), plain(&i["hostname"])]))
        .filter(|s| !s.is_empty())
        .collect();
    list.sort();
    list.dedup();
    list.join(",")
}

fn external_ip(o: &Value) -> String {
    let spec = &o["spec"];
    let own: Vec<String> = spec["externalIPs"].items().iter().map(plain).collect();
    match spec["type"].as_str().unwrap_or_default() {
        "ClusterIP" | "NodePort" if own.is_empty() => "<none>".into(),
        "ClusterIP" | "NodePort" => own.join(","),
        "LoadBalancer" => {
            let mut all: Vec<String> = Some(balancers(o)).filter(|b| !b.is_empty()).into_iter().collect();
            all.extend(own);
            if all.is_empty() { "<pending>".into() } else { all.join(",") }
        }
        "ExternalName" => plain(&spec["externalName"]),
        _ => "<unknown>".into(),
    }
}

fn first_seen(o: &Value) -> String {
    time::ago(o.str_at(["firstTimestamp"]).or(o.str_at(["eventTime"])))
}

fn last_seen(o: &Value) -> String {
    match (o.str_at(["series", "lastObservedTime"]), o.str_at(["lastTimestamp"])) {
        (Some(t), _) | (None, Some(t)) => time::ago(Some(t)),
        (None, None) => first_seen(o),
    }
}

fn subjects(o: &Value, kind: &str) -> Value {
    let of_kind = o["subjects"].items().iter().filter(|s| s.str_at(["kind"]) == Some(kind));
    join(
        of_kind.map(|s| match (kind, plain(&s["namespace"])) {
            ("ServiceAccount", ns) => format!("{ns}/{}", plain(&s["name"])),
            _ => plain(&s["name"]),
        }),
        ", ",
    )
}

fn quota(o: &Value, limits: bool) -> Value {
    let mut list: Vec<String> = o["status"]["hard"]
        .as_map()
        .into_iter()
        .flat_map(|m| m.iter())
        .filter(|(k, _)| k.starts_with("limits.") == limits)
        .map(|(k, hard)| {
            let used = first_some([plain(&o["status"]["used"][k.as_str()]), "0".into()]);
            format!("{k}: {used}/{}", plain(hard))
        })
        .collect();
    list.sort();
    join(list, ", ")
}

fn metrics(o: &Value) -> String {
    let current = |i: usize, source: &str, what: &str| {
        let v = &o["status"]["currentMetrics"].items().get(i).cloned().unwrap_or_default()[source]["current"][what];
        plain(v)
    };
    let mut list = Vec::new();
    let specs = o["spec"]["metrics"].items();
    for (i, m) in specs.iter().enumerate() {
        let kind = m["type"].as_str().unwrap_or_default();
        let source = match kind {
            "Resource" => "resource",
            "ContainerResource" => "containerResource",
            "Pods" => "pods",
            "Object" => "object",
            _ => "external",
        };
        let target = &m[source]["target"];
        let unknown = |s: String| first_some([s, "<unknown>".into()]);
        list.push(if source.ends_with("esource") {
            let name = plain(&m[source]["name"]);
            if target.get("averageValue").is_some() {
                format!("{name}: {}/{}", unknown(current(i, source, "averageValue")), plain(&target["averageValue"]))
            } else {
                let percent = |s: String| if s.is_empty() { s } else { s + "%" };
                let is = unknown(percent(current(i, source, "averageUtilization")));
                let want = first_some([percent(plain(&target["averageUtilization"])), "<auto>".into()]);
                format!("{name}: {is}/{want}")
            }
        } else if target.get("averageValue").is_some() {
            let avg = if source == "pods" { "" } else { " (avg)" };
            format!("{}/{}{avg}", unknown(current(i, source, "averageValue")), plain(&target["averageValue"]))
        } else {
            format!("{}/{}", unknown(current(i, source, "value")), plain(&target["value"]))
        });
    }
    match list.len() {
        0 => "<none>".into(),
        1 | 2 => list.join(", "),
        n => format!("{} + {} more...", list.iter().take(2).cloned().collect::<Vec<_>>().join(", "), n - 2),
    }
}
