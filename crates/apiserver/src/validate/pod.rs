//! Pods and pod templates (`k8s.io/kubernetes/pkg/apis/core/validation`).

use std::collections::HashSet;

use druse_object::{Map, Value};

use super::meta::{immutable, label_selector, labels, subdomain_field};
use super::names::{env_name_errors, is_dns1123_label, is_qualified_name, port_name_errors};
use crate::field::FieldError;
use druse_object::Quantity;

type Errors = Vec<FieldError>;

fn text<'a>(v: &'a Value, key: &str) -> &'a str {
    v.str_at([key]).unwrap_or_default()
}

fn label_field(v: &str, path: &str, out: &mut Errors) {
    for m in is_dns1123_label(v) {
        out.push(FieldError::invalid(path, v, m));
    }
}

/// `must be between 1 and 65535, inclusive`
pub(crate) fn port_number(v: Option<&Value>, path: &str, out: &mut Errors) {
    let n = v.and_then(Value::as_i64).unwrap_or(0);
    if !(1..=65535).contains(&n) {
        out.push(FieldError::invalid(path, n, "must be between 1 and 65535, inclusive"));
    }
}

/// A port number or a port's name.
pub(crate) fn port_or_name(v: Option<&Value>, path: &str, out: &mut Errors) {
    match v {
        Some(Value::String(s)) => {
            for m in port_name_errors(s) {
                out.push(FieldError::invalid(path, s.clone(), m));
            }
        }
        v => port_number(v, path, out),
    }
}

/// A whole number that is not negative.
pub(crate) fn nonnegative(v: Option<&Value>, path: &str, out: &mut Errors) {
    if let Some(n) = v.and_then(Value::as_i64).filter(|n| *n < 0) {
        out.push(FieldError::invalid(path, n, "must be greater than or equal to 0"));
    }
}

/// A pod and a change of one.
pub(crate) fn pod(new: &Value, old: Option<&Value>, out: &mut Errors) {
    let empty = Value::Null;
    let spec = new.get("spec").unwrap_or(&empty);
    pod_spec(spec, "spec", out);
    if let Some(old) = old {
        super::pod_update::pod_update(spec, old.get("spec").unwrap_or(&empty), out);
    }
}

/// A pod template: its labels and its spec.
pub(crate) fn template(template: &Value, path: &str, out: &mut Errors) {
    labels(template.at(["metadata", "labels"]), &format!("{path}.labels"), out);
    let empty = Value::Null;
    pod_spec(template.get("spec").unwrap_or(&empty), &format!("{path}.spec"), out);
    let ephemeral = template.at(["spec", "ephemeralContainers"]).map_or(0, |v| v.items().len());
    if ephemeral > 0 {
        out.push(FieldError::forbidden(
            format!("{path}.spec.ephemeralContainers"),
            "ephemeral containers not allowed in pod template",
        ));
    }
}

fn pod_spec(spec: &Value, path: &str, out: &mut Errors) {
    let volumes = volumes(spec, &format!("{path}.volumes"), out);
    let containers = spec.get("containers").map(Value::items).unwrap_or_default();
    if containers.is_empty() {
        out.push(FieldError::required(format!("{path}.containers"), ""));
    }
    let mut names = HashSet::new();
    let grace = spec.get("terminationGracePeriodSeconds").cloned();
    for (i, c) in containers.iter().enumerate() {
        let at = format!("{path}.containers[{i}]");
        container(c, &at, &volumes, false, out);
        let name = text(c, "name");
        if !name.is_empty() && !names.insert(name.to_string()) {
            out.push(FieldError::duplicate(format!("{at}.name"), name));
        }
        for kind in ["livenessProbe", "readinessProbe", "startupProbe"] {
            probe(c.get(kind), &format!("{at}.{kind}"), kind, out);
        }
    }
    host_ports(containers, &format!("{path}.containers"), out);
    for (i, c) in spec.get("initContainers").map(Value::items).unwrap_or_default().iter().enumerate() {
        let at = format!("{path}.initContainers[{i}]");
        let restarts = text(c, "restartPolicy") == "Always";
        container(c, &at, &volumes, true, out);
        let name = text(c, "name");
        if !name.is_empty() && !names.insert(name.to_string()) {
            out.push(FieldError::duplicate(format!("{at}.name"), name));
        }
        for kind in ["livenessProbe", "readinessProbe", "startupProbe", "lifecycle"] {
            if c.get(kind).is_none() {
                continue;
            }
            if !restarts {
                out.push(FieldError::forbidden(
                    format!("{at}.{kind}"),
                    "may not be set for init containers without restartPolicy=Always",
                ));
            } else if kind != "lifecycle" {
                probe(c.get(kind), &format!("{at}.{kind}"), kind, out);
            }
        }
    }
    if let Some(n) = grace.as_ref().and_then(Value::as_i64)
        && n < 0
    {
        out.push(FieldError::invalid(
            format!("{path}.terminationGracePeriodSeconds"),
            n,
            "must be greater than or equal to 0",
        ));
    }
    for (key, allowed) in [
        ("restartPolicy", ["Always", "OnFailure", "Never"].as_slice()),
        ("dnsPolicy", ["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"].as_slice()),
    ] {
        let v = text(spec, key);
        if v.is_empty() {
            out.push(FieldError::required(format!("{path}.{key}"), ""));
        } else if !allowed.contains(&v) {
            out.push(FieldError::not_supported(format!("{path}.{key}"), v, allowed));
        }
    }
    labels(spec.get("nodeSelector"), &format!("{path}.nodeSelector"), out);
    security_context(spec.get("securityContext"), &format!("{path}.securityContext"), out);
    affinity(spec, path, out);
    spread(spec, path, out);
    for key in ["serviceAccountName", "nodeName", "priorityClassName", "runtimeClassName"] {
        let v = text(spec, key);
        if !v.is_empty() {
            subdomain_field(v, &format!("{path}.{key}"), out);
        }
    }
    if let Some(n) = spec.get("activeDeadlineSeconds").and_then(Value::as_i64)
        && !(1..=i64::from(i32::MAX)).contains(&n)
    {
        out.push(FieldError::invalid(
            format!("{path}.activeDeadlineSeconds"),
            n,
            "must be between 1 and 2147483647, inclusive",
        ));
    }
    for key in ["hostname", "subdomain"] {
        let v = text(spec, key);
        if !v.is_empty() {
            label_field(v, &format!("{path}.{key}"), out);
        }
    }
    tolerations(spec, &format!("{path}.tolerations"), out);
}

fn volumes(spec: &Value, path: &str, out: &mut Errors) -> HashSet<String> {
    let mut names = HashSet::new();
    for (i, v) in spec.get("volumes").map(Value::items).unwrap_or_default().iter().enumerate() {
        let at = format!("{path}[{i}]");
        let sources: Vec<&str> =
            v.as_map().into_iter().flat_map(Map::keys).map(|k| k.as_str()).filter(|k| *k != "name").collect();
        if sources.is_empty() {
            out.push(FieldError::required(at.as_str(), "must specify a volume type"));
        }
        for extra in sources.iter().skip(1) {
            out.push(FieldError::forbidden(format!("{at}.{extra}"), "may not specify more than 1 volume type"));
        }
        for (source, key) in [
            ("secret", "secretName"),
            ("hostPath", "path"),
            ("persistentVolumeClaim", "claimName"),
            ("configMap", "name"),
            ("nfs", "server"),
            ("nfs", "path"),
            ("csi", "driver"),
        ] {
            if v.get(source).is_some_and(|s| text(s, key).is_empty()) {
                out.push(FieldError::required(format!("{at}.{source}.{key}"), ""));
            }
        }
        let name = text(v, "name");
        if name.is_empty() {
            out.push(FieldError::required(format!("{at}.name"), ""));
        } else {
            label_field(name, &format!("{at}.name"), out);
            if !names.insert(name.to_string()) {
                out.push(FieldError::duplicate(format!("{at}.name"), name));
            }
        }
    }
    names
}

fn container(c: &Value, path: &str, volumes: &HashSet<String>, _init: bool, out: &mut Errors) {
    let name = text(c, "name");
    if name.is_empty() {
        out.push(FieldError::required(format!("{path}.name"), ""));
    } else {
        label_field(name, &format!("{path}.name"), out);
    }
    if text(c, "image").is_empty() {
        out.push(FieldError::required(format!("{path}.image"), ""));
    }
    let policy = text(c, "terminationMessagePolicy");
    if !["", "File", "FallbackToLogsOnError"].contains(&policy) {
        out.push(FieldError::not_supported(
            format!("{path}.terminationMessagePolicy"),
            policy,
            &["File", "FallbackToLogsOnError"],
        ));
    }
    ports(c, &format!("{path}.ports"), out);
    env(c, path, out);
    mounts(c, &format!("{path}.volumeMounts"), volumes, out);
    let pull = text(c, "imagePullPolicy");
    if !["", "Always", "IfNotPresent", "Never"].contains(&pull) {
        out.push(FieldError::not_supported(
            format!("{path}.imagePullPolicy"),
            pull,
            &["Always", "IfNotPresent", "Never"],
        ));
    }
    resources(c.get("resources"), &format!("{path}.resources"), out);
    security_context(c.get("securityContext"), &format!("{path}.securityContext"), out);
    if c.at(["securityContext", "privileged"]) == Some(&Value::Bool(true))
        && c.at(["securityContext", "allowPrivilegeEscalation"]) == Some(&Value::Bool(false))
    {
        let bad = c.get("securityContext").cloned().unwrap_or_default();
        out.push(FieldError::invalid(
            format!("{path}.securityContext"),
            bad,
            "cannot set `allowPrivilegeEscalation` to false and `privileged` to true",
        ));
    }
}

fn ports(c: &Value, path: &str, out: &mut Errors) {
    let mut names = HashSet::new();
    for (i, p) in c.get("ports").map(Value::items).unwrap_or_default().iter().enumerate() {
        let at = format!("{path}[{i}]");
        let name = text(p, "name");
        if !name.is_empty() {
            let errors = port_name_errors(name);
            if errors.is_empty() {
                if !names.insert(name.to_string()) {
                    out.push(FieldError::duplicate(format!("{at}.name"), name));
                }
            } else {
                for m in errors {
                    out.push(FieldError::invalid(format!("{at}.name"), name, m));
                }
            }
        }
        if p.get("containerPort").and_then(Value::as_i64).unwrap_or(0) == 0 {
            out.push(FieldError::required(format!("{at}.containerPort"), ""));
        } else {
            port_number(p.get("containerPort"), &format!("{at}.containerPort"), out);
        }
        if p.get("hostPort").and_then(Value::as_i64).is_some_and(|n| n != 0) {
            port_number(p.get("hostPort"), &format!("{at}.hostPort"), out);
        }
        let protocol = text(p, "protocol");
        if protocol.is_empty() {
            out.push(FieldError::required(format!("{at}.protocol"), ""));
        } else if !["SCTP", "TCP", "UDP"].contains(&protocol) {
            out.push(FieldError::not_supported(format!("{at}.protocol"), protocol, &["SCTP", "TCP", "UDP"]));
        }
    }
}

fn host_ports(containers: &[Value], path: &str, out: &mut Errors) {
    let mut seen = HashSet::new();
    for (i, c) in containers.iter().enumerate() {
        for (j, p) in c.get("ports").map(Value::items).unwrap_or_default().iter().enumerate() {
            let Some(n) = p.get("hostPort").and_then(Value::as_i64).filter(|n| *n != 0) else { continue };
            let key = format!("{}/{}/{n}", text(p, "protocol"), text(p, "hostIP"));
            if !seen.insert(key.clone()) {
                out.push(FieldError::duplicate(format!("{path}[{i}].ports[{j}].hostPort"), key));
            }
        }
    }
}

fn env(c: &Value, path: &str, out: &mut Errors) {
    for (i, e) in c.get("env").map(Value::items).unwrap_or_default().iter().enumerate() {
        let at = format!("{path}.env[{i}]");
        let name = text(e, "name");
        if name.is_empty() {
            out.push(FieldError::required(format!("{at}.name"), ""));
        } else {
            for m in env_name_errors(name) {
                out.push(FieldError::invalid(format!("{at}.name"), name, m));
            }
        }
        let Some(from) = e.get("valueFrom") else { continue };
        let at = format!("{at}.valueFrom");
        let sources = from.as_map().map_or(0, Map::len);
        if !text(e, "value").is_empty() && sources > 0 {
            out.push(FieldError::invalid(at.as_str(), "", "may not be specified when `value` is not empty"));
        }
        if sources == 0 {
            out.push(FieldError::invalid(at.as_str(), "", "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`"));
        } else if sources > 1 {
            out.push(FieldError::invalid(at.as_str(), "", "may not have more than one field specified at a time"));
        }
        for key in ["configMapKeyRef", "secretKeyRef"] {
            let Some(r) = from.get(key) else { continue };
            if text(r, "name").is_empty() {
                out.push(FieldError::required(format!("{at}.{key}.name"), ""));
            }
            if text(r, "key").is_empty() {
                out.push(FieldError::required(format!("{at}.{key}.key"), ""));
            } else {
                for m in super::names::config_key_errors(text(r, "key")) {
                    out.push(FieldError::invalid(format!("{at}.{key}.key"), text(r, "key"), m));
                }
            }
        }
        if from.get("fieldRef").is_some_and(|r| text(r, "fieldPath").is_empty()) {
            out.push(FieldError::required(format!("{at}.fieldRef.fieldPath"), ""));
        }
    }
}

fn mounts(c: &Value, path: &str, volumes: &HashSet<String>, out: &mut Errors) {
    let mut points = HashSet::new();
    for (i, m) in c.get("volumeMounts").map(Value::items).unwrap_or_default().iter().enumerate() {
        let at = format!("{path}[{i}]");
        let name = text(m, "name");
        if name.is_empty() {
            out.push(FieldError::required(format!("{at}.name"), ""));
        }
        if !volumes.contains(name) {
            out.push(FieldError::new(
                crate::field::FieldErrorKind::NotFound,
                format!("{at}.name"),
                Some(name.into()),
                "",
            ));
        }
        let point = text(m, "mountPath");
        if point.is_empty() {
            out.push(FieldError::required(format!("{at}.mountPath"), ""));
        } else if !points.insert(point.to_string()) {
            out.push(FieldError::invalid(format!("{at}.mountPath"), point, "must be unique"));
        }
        let sub = text(m, "subPath");
        if sub.starts_with('/') {
            out.push(FieldError::invalid(format!("{at}.subPath"), sub, "must be a relative path"));
        } else if sub.split('/').any(|p| p == "..") {
            out.push(FieldError::invalid(format!("{at}.subPath"), sub, "must not contain '..'"));
        }
    }
}

/// Requests and limits: names, no negative amounts, no request above its limit.
pub(crate) fn resources(r: Option<&Value>, path: &str, out: &mut Errors) {
    let Some(r) = r else { return };
    let list = |key: &str| r.get(key).and_then(Value::as_map);
    let amount = |v: &Value| v.as_str().and_then(|s| Quantity::parse(s).ok());
    for key in ["limits", "requests"] {
        for (name, v) in list(key).into_iter().flat_map(Map::iter) {
            let at = format!("{path}.{key}[{name}]");
            let qualified = name.contains('/');
            let standard = ["cpu", "memory", "ephemeral-storage", "storage"].contains(&name.as_str())
                || name.starts_with("hugepages-");
            for m in is_qualified_name(name) {
                out.push(FieldError::invalid(format!("{path}.{key}"), name.clone(), m));
            }
            if !qualified && !standard {
                out.push(FieldError::invalid(
                    at.as_str(),
                    name.clone(),
                    "must be a standard resource type or fully qualified",
                ));
                out.push(FieldError::invalid(at.as_str(), name.clone(), "must be a standard resource for containers"));
            }
            let Some(q) = amount(v) else { continue };
            if q.is_negative() {
                out.push(FieldError::invalid(at.as_str(), v.clone(), "must be greater than or equal to 0"));
            }
            if key == "requests" {
                match list("limits").and_then(|l| l.get(name)) {
                    Some(limit) if amount(limit).is_some_and(|l| q > l) => {
                        let shown = limit.as_str().unwrap_or_default();
                        out.push(FieldError::invalid(
                            format!("{path}.requests"),
                            v.clone(),
                            format!("must be less than or equal to {name} limit of {shown}"),
                        ));
                    }
                    None if qualified || name.starts_with("hugepages-") => {
                        out.push(FieldError::required(
                            format!("{path}.limits"),
                            "Limit must be set for non overcommitable resources",
                        ));
                    }
                    _ => {}
                }
            }
        }
    }
}

fn probe(p: Option<&Value>, path: &str, kind: &str, out: &mut Errors) {
    let Some(p) = p else { return };
    let handlers: Vec<&str> =
        ["exec", "httpGet", "tcpSocket", "grpc"].into_iter().filter(|h| p.get(h).is_some()).collect();
    for extra in handlers.iter().skip(1) {
        out.push(FieldError::forbidden(format!("{path}.{extra}"), "may not specify more than 1 handler type"));
    }
    match handlers.first() {
        None => out.push(FieldError::required(path, "must specify a handler type")),
        Some(&"exec") => {
            if p.at(["exec", "command"]).is_none_or(|v| v.items().is_empty()) {
                out.push(FieldError::required(format!("{path}.exec.command"), ""));
            }
        }
        Some(&"httpGet") => {
            if p.str_at(["httpGet", "path"]).is_none_or(str::is_empty) {
                out.push(FieldError::required(format!("{path}.httpGet.path"), ""));
            }
            port_or_name(p.at(["httpGet", "port"]), &format!("{path}.httpGet.port"), out);
            let scheme = p.str_at(["httpGet", "scheme"]).unwrap_or_default();
            if !["HTTP", "HTTPS"].contains(&scheme) {
                out.push(FieldError::not_supported(format!("{path}.httpGet.scheme"), scheme, &["HTTP", "HTTPS"]));
            }
        }
        Some(&"tcpSocket") => port_or_name(p.at(["tcpSocket", "port"]), &format!("{path}.tcpSocket.port"), out),
        Some(_) => port_number(p.at(["grpc", "port"]), &format!("{path}.grpc.port"), out),
    }
    for key in ["initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"] {
        nonnegative(p.get(key), &format!("{path}.{key}"), out);
    }
    if kind != "readinessProbe"
        && let Some(n) = p.get("successThreshold").and_then(Value::as_i64).filter(|n| *n != 1)
    {
        out.push(FieldError::invalid(format!("{path}.successThreshold"), n, "must be 1"));
    }
}

fn security_context(s: Option<&Value>, path: &str, out: &mut Errors) {
    let Some(s) = s else { return };
    for key in ["runAsUser", "runAsGroup", "fsGroup"] {
        if let Some(n) = s.get(key).and_then(Value::as_i64).filter(|n| !(0..=i64::from(i32::MAX)).contains(n)) {
            out.push(FieldError::invalid(format!("{path}.{key}"), n, "must be between 0 and 2147483647, inclusive"));
        }
    }
}

fn affinity(spec: &Value, path: &str, out: &mut Errors) {
    for kind in ["podAffinity", "podAntiAffinity"] {
        let Some(a) = spec.at(["affinity"]).and_then(|a| a.get(kind)) else { continue };
        let base = format!("{path}.affinity.{kind}");
        for (i, t) in a
            .get("requiredDuringSchedulingIgnoredDuringExecution")
            .map(Value::items)
            .unwrap_or_default()
            .iter()
            .enumerate()
        {
            affinity_term(t, &format!("{base}.requiredDuringSchedulingIgnoredDuringExecution[{i}]"), out);
        }
        for (i, t) in a
            .get("preferredDuringSchedulingIgnoredDuringExecution")
            .map(Value::items)
            .unwrap_or_default()
            .iter()
            .enumerate()
        {
            let at = format!("{base}.preferredDuringSchedulingIgnoredDuringExecution[{i}]");
            let weight = t.get("weight").and_then(Value::as_i64).unwrap_or(0);
            if !(1..=100).contains(&weight) {
                out.push(FieldError::invalid(format!("{at}.weight"), weight, "must be in the range 1-100"));
            }
            if let Some(term) = t.get("podAffinityTerm") {
                affinity_term(term, &format!("{at}.podAffinityTerm"), out);
            }
        }
    }
}

fn affinity_term(t: &Value, path: &str, out: &mut Errors) {
    if let Some(s) = t.get("labelSelector") {
        label_selector(s, &format!("{path}.labelSelector"), out);
    }
    let key = text(t, "topologyKey");
    if key.is_empty() {
        out.push(FieldError::required(format!("{path}.topologyKey"), "can not be empty"));
    } else {
        for m in is_qualified_name(key) {
            out.push(FieldError::invalid(format!("{path}.topologyKey"), key, m));
        }
    }
}

fn spread(spec: &Value, path: &str, out: &mut Errors) {
    for (i, c) in spec.get("topologySpreadConstraints").map(Value::items).unwrap_or_default().iter().enumerate() {
        let at = format!("{path}.topologySpreadConstraints[{i}]");
        let skew = c.get("maxSkew").and_then(Value::as_i64).unwrap_or(0);
        if skew <= 0 {
            out.push(FieldError::invalid(format!("{at}.maxSkew"), skew, "must be greater than zero"));
        }
        if text(c, "topologyKey").is_empty() {
            out.push(FieldError::required(format!("{at}.topologyKey"), "can not be empty"));
        }
        let when = text(c, "whenUnsatisfiable");
        if !["DoNotSchedule", "ScheduleAnyway"].contains(&when) {
            out.push(FieldError::not_supported(
                format!("{at}.whenUnsatisfiable"),
                when,
                &["DoNotSchedule", "ScheduleAnyway"],
            ));
        }
        if let Some(s) = c.get("labelSelector") {
            label_selector(s, &format!("{at}.labelSelector"), out);
        }
    }
}

fn tolerations(spec: &Value, path: &str, out: &mut Errors) {
    for (i, t) in spec.get("tolerations").map(Value::items).unwrap_or_default().iter().enumerate() {
        let at = format!("{path}[{i}]");
        let (key, operator) = (text(t, "key"), text(t, "operator"));
        if !key.is_empty() {
            for m in is_qualified_name(key) {
                out.push(FieldError::invalid(format!("{at}.key"), key, m));
            }
        }
        if key.is_empty() && operator != "Exists" {
            out.push(FieldError::invalid(
                format!("{at}.operator"),
                operator,
                "operator must be Exists when `key` is empty, which means \"match all values and all keys\"",
            ));
        }
        if t.get("tolerationSeconds").is_some() && text(t, "effect") != "NoExecute" {
            out.push(FieldError::invalid(
                format!("{at}.effect"),
                text(t, "effect"),
                "effect must be 'NoExecute' when `tolerationSeconds` is set",
            ));
        }
        match operator {
            "" | "Equal" | "Lt" | "Gt" => {}
            "Exists" if !text(t, "value").is_empty() => {
                out.push(FieldError::invalid(
                    format!("{at}.operator"),
                    text(t, "value"),
                    "value must be empty when `operator` is 'Exists'",
                ));
            }
            "Exists" => {}
            other => out.push(FieldError::not_supported(format!("{at}.operator"), other, &["Equal", "Exists"])),
        }
        let effect = text(t, "effect");
        if !["", "NoSchedule", "PreferNoSchedule", "NoExecute"].contains(&effect) {
            out.push(FieldError::not_supported(
                format!("{at}.effect"),
                effect,
                &["NoSchedule", "PreferNoSchedule", "NoExecute"],
            ));
        }
    }
}

/// A pod template that may not change.
pub(crate) fn template_immutable(new: &Value, old: &Value, path: &str, out: &mut Errors) {
    immutable(new, old, path, out);
}
