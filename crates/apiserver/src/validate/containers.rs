//! Containers of pods: names, ports, environment, mounts, resources, probes and life cycle
//! (`k8s.io/kubernetes/pkg/apis/core/validation`, `validateContainerCommon` and what it calls).

use std::collections::HashSet;

use druse_object::{Quantity, Value};

use super::at::{At, Errors, each};
use super::names::{NameRule, config_key_errors, env_name_errors, is_qualified_name, port_name_errors};
use super::pod::Spec;
use super::resources::container_requirements;
use super::security::security_context;
use crate::field::FieldError;

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
            each(port_name_errors(s), path, s, out);
        }
        v => port_number(v, path, out),
    }
}

/// The containers that a pod keeps running.
pub(crate) fn containers(list: &At, spec: &Spec, out: &mut Errors) {
    if list.len() == 0 {
        return list.required("", out);
    }
    let mut names = HashSet::new();
    for c in list.items() {
        common(&c, spec, out);
        if !names.insert(c.text_of("name")) {
            c.child("name").duplicate(c.text_of("name"), out);
        }
        keeps_running(&c, spec, out);
        restart_policy(&c, out);
    }
    host_ports(list.value().items(), list, out);
}

/// What only containers that keep running have: a life cycle and probes.
fn keeps_running(c: &At, spec: &Spec, out: &mut Errors) {
    if let Some(l) = c.get("lifecycle") {
        for hook in ["postStart", "preStop"] {
            if let Some(h) = l.get(hook) {
                handler(&h, &["exec", "httpGet", "tcpSocket", "sleep"], spec.grace, out);
            }
        }
    }
    for kind in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(p) = c.get(kind) {
            probe(&p, kind == "readinessProbe", out);
        }
    }
}

/// The containers that run before the others, or beside them when they restart always.
pub(crate) fn init_containers(list: &At, spec: &Spec, out: &mut Errors) {
    let mut names: HashSet<&str> = spec.at.child("containers").items().map(|c| c.text_of("name")).collect();
    for c in list.items() {
        common(&c, spec, out);
        restart_policy(&c, out);
        let sidecar = c.text_of("restartPolicy") == "Always";
        let name = c.text_of("name");
        if names.contains(name) {
            c.child("name").duplicate(name, out);
        } else if !name.is_empty() {
            names.insert(name);
        }
        // Counted alone, and so always as the first.
        host_ports(std::slice::from_ref(c.value()), list, out);
        if sidecar {
            keeps_running(&c, spec, out);
        } else {
            for kind in ["lifecycle", "livenessProbe", "readinessProbe", "startupProbe"] {
                if let Some(v) = c.get(kind) {
                    v.forbidden("may not be set for init containers without restartPolicy=Always", out);
                }
            }
            for p in c.child("resizePolicy").items().filter(|p| p.text_of("restartPolicy") == "RestartContainer") {
                p.child("restartPolicy")
                    .invalid("must not be set to 'RestartContainer' for non-sidecar initContainers", out);
            }
        }
    }
}

/// The fields that containers for debugging may have, in the order of Go's struct with those they may not.
const EPHEMERAL_REFUSED: [&str; 6] =
    ["ports", "resizePolicy", "livenessProbe", "readinessProbe", "startupProbe", "lifecycle"];

/// Containers added to a running pod for debugging.
pub(crate) fn ephemeral_containers(list: &At, spec: &Spec, out: &mut Errors) {
    let named = |key| spec.at.value().get(key).map(Value::items).unwrap_or_default().iter();
    let others: HashSet<&str> =
        named("containers").chain(named("initContainers")).filter_map(|c| c.str_at(["name"])).collect();
    let mut names = others.clone();
    for c in list.items() {
        common(&c, spec, out);
        trimmed_image(&c, out);
        if !names.insert(c.text_of("name")) {
            c.child("name").duplicate(c.text_of("name"), out);
        }
        let target = c.child("targetContainerName");
        if !target.text().is_empty() && !others.contains(target.text()) {
            target.not_found("", out);
        }
        let refused = |key: &str, out: &mut Errors| {
            if let Some(v) = c.get(key) {
                v.forbidden("cannot be set for an Ephemeral Container", out);
            }
        };
        refused("ports", out);
        if c.child("resources").len() > 0 {
            refused("resources", out);
        }
        EPHEMERAL_REFUSED.iter().skip(1).for_each(|key| refused(key, out));
        for m in c.child("volumeMounts").items() {
            for key in ["subPath", "subPathExpr"] {
                if !m.text_of(key).is_empty() {
                    m.child(key).forbidden("cannot be set for an Ephemeral Container", out);
                }
            }
        }
    }
}

/// What pods themselves refuse in an image's name, and templates do not.
pub(crate) fn trimmed_image(c: &At, out: &mut Errors) {
    let image = c.text_of("image");
    if image.trim().len() != image.len() {
        c.child("image").invalid("must not have leading or trailing whitespace", out);
    }
}

fn common(c: &At, spec: &Spec, out: &mut Errors) {
    let name = c.child("name");
    if name.need(out) {
        name.label(out);
    }
    c.child("image").need(out);
    c.child("terminationMessagePolicy").one_of(&["File", "FallbackToLogsOnError"], out);
    ports(&c.child("ports"), out);
    env(&c.child("env"), out);
    env_from(&c.child("envFrom"), out);
    mounts(c, spec, out);
    devices(c, spec, out);
    c.child("imagePullPolicy").one_of(&PULL_POLICIES, out);
    let resources = c.child("resources");
    container_requirements(&resources, &spec.claims, out);
    resize_policy(&c.child("resizePolicy"), spec.at.text_of("restartPolicy") == "Never", out);
    security_context(&c.child("securityContext"), spec.host_users, out);
}

/// When an image is fetched.
pub(crate) const PULL_POLICIES: [&str; 3] = ["Always", "IfNotPresent", "Never"];

fn ports(list: &At, out: &mut Errors) {
    let mut names = HashSet::new();
    for p in list.items() {
        let name = p.child("name");
        if !name.text().is_empty() {
            let wrong = port_name_errors(name.text());
            if wrong.is_empty() && !names.insert(name.text()) {
                name.duplicate(name.text(), out);
            }
            name.each(wrong, out);
        }
        match p.int_of("containerPort") {
            0 => p.child("containerPort").required("", out),
            _ => p.child("containerPort").within(1, 65535, out),
        }
        if p.int_of("hostPort") != 0 {
            p.child("hostPort").within(1, 65535, out);
        }
        p.child("protocol").one_of(&["SCTP", "TCP", "UDP"], out);
    }
}

fn host_ports(containers: &[Value], list: &At, out: &mut Errors) {
    let mut seen = HashSet::new();
    for (i, c) in containers.iter().enumerate() {
        for (j, p) in c.get("ports").map(Value::items).unwrap_or_default().iter().enumerate() {
            let Some(n) = p.get("hostPort").and_then(Value::as_i64).filter(|n| *n != 0) else { continue };
            let text = |key| p.str_at([key]).unwrap_or_default();
            let key = format!("{}/{}/{n}", text("protocol"), text("hostIP"));
            if !seen.insert(key.clone()) {
                out.push(FieldError::duplicate(format!("{}[{i}].ports[{j}].hostPort", list.path()), key));
            }
        }
    }
}

/// Where a variable's value may come from.
const SOURCES: [&str; 5] = ["fieldRef", "resourceFieldRef", "configMapKeyRef", "secretKeyRef", "fileKeyRef"];
/// Fields of a pod that a variable may show, sorted.
const ENV_FIELDS: [&str; 9] = [
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];

fn env(list: &At, out: &mut Errors) {
    for e in list.items() {
        let name = e.child("name");
        if name.need(out) {
            name.each(env_name_errors(name.text()), out);
        }
        let Some(from) = e.get("valueFrom") else { continue };
        for key in SOURCES {
            let Some(r) = from.get(key) else { continue };
            match key {
                "fieldRef" => field_ref(&r, &ENV_FIELDS, out),
                "resourceFieldRef" => resource_ref(&r, false, out),
                "fileKeyRef" => file_ref(&r, out),
                _ => {
                    let name = r.child("name");
                    name.each(NameRule::Subdomain.errors(name.text(), false), out);
                    let key = r.child("key");
                    if key.need(out) {
                        key.each(config_key_errors(key.text()), out);
                    }
                }
            }
        }
        let sources = SOURCES.iter().filter(|key| from.get(key).is_some()).count();
        if sources == 0 {
            let why = "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`";
            from.bad("", why, out);
        } else if !e.text_of("value").is_empty() {
            from.bad("", "may not be specified when `value` is not empty", out);
        } else if sources > 1 {
            from.bad("", "may not have more than one field specified at a time", out);
        }
    }
}

fn file_ref(r: &At, out: &mut Errors) {
    let key = r.child("key");
    if key.need(out) {
        key.each(env_name_errors(key.text()), out);
    }
    let volume = r.child("volumeName");
    if volume.need(out) {
        volume.label(out);
    }
    let path = r.child("path");
    if path.need(out) {
        super::volumes::no_backsteps(&path, out);
    }
}

/// Fields that a pod's own description may be asked for; only some of them where.
const FIELD_LABELS: [&str; 14] = [
    "metadata.annotations",
    "metadata.labels",
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.restartPolicy",
    "spec.serviceAccountName",
    "spec.schedulerName",
    "status.phase",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];

/// A field of the pod (`metadata.labels['a']`); `allowed` are those without a subscript, sorted.
pub(crate) fn field_ref(r: &At, allowed: &[&str], out: &mut Errors) {
    if !r.child("apiVersion").need(out) {
        return;
    }
    let path = r.child("fieldPath");
    if !path.need(out) {
        return;
    }
    let (text, version) = (path.text(), r.text_of("apiVersion"));
    let refuse = |why: String, out: &mut Errors| path.invalid(format!("error converting fieldPath: {why}"), out);
    if version != "v1" {
        return refuse(format!("unsupported pod version: {version}"), out);
    }
    let subscript = text.strip_suffix("']").and_then(|t| t.split_once("['")).filter(|(of, _)| !of.is_empty());
    match subscript {
        Some(("metadata.annotations", key)) => r.each_of(key, is_qualified_name(&key.to_lowercase()), out),
        Some(("metadata.labels", key)) => r.each_of(key, is_qualified_name(key), out),
        Some(_) => refuse(format!("field label does not support subscript: {text}"), out),
        None => {
            // An old name.
            let text = if text == "spec.host" { "spec.nodeName" } else { text };
            if !FIELD_LABELS.contains(&text) {
                refuse(format!("field label not supported: {text}"), out);
            } else if !allowed.contains(&text) {
                out.push(FieldError::not_supported(path.path(), text, allowed));
            }
        }
    }
}

/// Amounts of a container that a variable or a file may show, sorted.
const RESOURCE_FIELDS: [&str; 6] = [
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
];

/// An amount of a container; a file in a volume must say of which.
pub(crate) fn resource_ref(r: &At, volume: bool, out: &mut Errors) {
    let resource = r.child("resource");
    let huge = |name: &str| name.starts_with("requests.hugepages-") || name.starts_with("limits.hugepages-");
    if volume && r.text_of("containerName").is_empty() {
        r.child("containerName").required("", out);
    } else if resource.need(out) && !RESOURCE_FIELDS.contains(&resource.text()) && !huge(resource.text()) {
        resource.unsupported(&RESOURCE_FIELDS, out);
    }
    let divisor = r.child("divisor");
    if divisor.quantity().is_none_or(Quantity::is_zero) {
        return;
    }
    let sizes = ["1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei"];
    let name = resource.text();
    let (known, allowed, what): (bool, &[&str], &str) = match name.split_once('.').map(|(_, n)| n) {
        Some("cpu") => (true, &["1m", "1"], "cpu resource"),
        Some("memory") => (true, &sizes, "memory resource"),
        Some("ephemeral-storage") => (true, &sizes, "local ephemeral storage resource"),
        _ => (huge(name), &sizes, "hugepages resource"),
    };
    if known && !allowed.contains(&divisor.text()) {
        let list = if allowed.len() == 2 { "1m and 1".to_owned() } else { allowed.join(", ") };
        divisor.bad(name, format!("only divisor's values {list} are supported with the {what}"), out);
    }
}

fn env_from(list: &At, out: &mut Errors) {
    for e in list.items() {
        let prefix = e.child("prefix");
        prefix.each(env_name_errors(prefix.text()), out);
        let mut sources = 0;
        for key in ["configMapRef", "secretRef"] {
            let Some(r) = e.get(key) else { continue };
            sources += 1;
            let name = r.child("name");
            if name.need(out) {
                name.each(NameRule::Subdomain.errors(name.text(), true), out);
            }
        }
        if sources == 0 {
            list.bad("", "must specify one of: `configMapRef` or `secretRef`", out);
        } else if sources > 1 {
            list.bad("", "may not have more than one field specified at a time", out);
        }
    }
}

fn mounts(c: &At, spec: &Spec, out: &mut Errors) {
    let list = c.child("volumeMounts");
    let devices = c.child("volumeDevices");
    let privileged = c.child("securityContext").is("privileged");
    let mut points = HashSet::new();
    for m in list.items() {
        let (name, point) = (m.child("name"), m.child("mountPath"));
        name.need(out);
        if !spec.volumes.contains_key(name.text()) {
            name.not_found("", out);
        }
        point.need(out);
        if !points.insert(point.text()) {
            point.invalid("must be unique", out);
        }
        if devices.items().any(|d| d.text_of("name") == name.text()) {
            name.invalid("must not already exist in volumeDevices", out);
        }
        if devices.items().any(|d| d.text_of("devicePath") == point.text()) {
            point.invalid("must not already exist as a path in volumeDevices", out);
        }
        // The rest is told without the index.
        let (sub, expression) = (m.text_of("subPath"), m.text_of("subPathExpr"));
        if !sub.is_empty() {
            super::volumes::descending(sub, &list.child_of(m.value(), "subPath"), out);
        }
        if !expression.is_empty() {
            if !sub.is_empty() {
                m.child("subPathExpr").invalid("subPathExpr and subPath are mutually exclusive", out);
            }
            super::volumes::descending(expression, &list.child_of(m.value(), "subPathExpr"), out);
        }
        let propagation = m.text_of("mountPropagation");
        if !propagation.is_empty() {
            let at = list.child_of(m.value(), "mountPropagation");
            at.any_of(&["Bidirectional", "HostToContainer", "None"], out);
            if propagation == "Bidirectional" && !privileged {
                at.forbidden("Bidirectional mount propagation is available only to privileged containers", out);
            }
        }
        let at = list.child_of(m.value(), "recursiveReadOnly");
        match at.value().as_str() {
            None | Some("Disabled") => {}
            Some("Enabled" | "IfPossible") => {
                if !m.is("readOnly") {
                    at.forbidden("may only be specified when readOnly is true", out);
                }
                if !matches!(propagation, "" | "None") {
                    at.forbidden("may only be specified when mountPropagation is None or not specified", out);
                }
            }
            Some(_) => at.unsupported(&["Disabled", "Enabled", "IfPossible"], out),
        }
    }
}

fn devices(c: &At, spec: &Spec, out: &mut Errors) {
    let list = c.child("volumeDevices");
    let mounts = c.child("volumeMounts");
    let (mut names, mut paths) = (HashSet::new(), HashSet::new());
    for d in list.items() {
        let (name, path) = (d.child("name"), d.child("devicePath"));
        name.need(out);
        if names.contains(name.text()) {
            name.invalid("must be unique", out);
        }
        match spec.volumes.get(name.text()) {
            None => name.not_found("", out),
            Some(v) if v.get("persistentVolumeClaim").is_none() && v.get("ephemeral").is_none() => name
                .invalid("can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode", out),
            Some(_) => {}
        }
        path.need(out);
        if paths.contains(path.text()) {
            path.invalid("must be unique", out);
        }
        if path.text().split('/').any(|p| p == "..") {
            path.invalid("can not contain backsteps ('..')", out);
        } else {
            paths.insert(path.text());
        }
        if mounts.items().any(|m| m.text_of("name") == name.text()) {
            name.invalid("must not already exist in volumeMounts", out);
        }
        if mounts.items().any(|m| m.text_of("mountPath") == path.text()) {
            path.invalid("must not already exist as a path in volumeMounts", out);
        }
        if !name.text().is_empty() {
            names.insert(name.text());
        }
    }
}

fn resize_policy(list: &At, never: bool, out: &mut Errors) {
    let mut seen = HashSet::new();
    for p in list.items() {
        let (name, policy) = (p.text_of("resourceName"), p.text_of("restartPolicy"));
        if !seen.insert(name) {
            p.duplicate(name, out);
        }
        for (v, allowed) in
            [(name, ["cpu", "memory"].as_slice()), (policy, ["NotRequired", "RestartContainer"].as_slice())]
        {
            if v.is_empty() {
                list.required("", out);
            } else if !allowed.contains(&v) {
                out.push(FieldError::not_supported(list.path(), v, allowed));
            }
        }
        if never && policy != "NotRequired" {
            list.bad(policy, "must be 'NotRequired' when pod `restartPolicy` is 'Never'", out);
        }
    }
}

/// The longest list of restart rules, and of exit codes in one.
const MOST_RULES: usize = 20;
const MOST_CODES: usize = 255;

fn restart_policy(c: &At, out: &mut Errors) {
    let (policy, rules) = (c.child("restartPolicy"), c.child("restartPolicyRules"));
    if !policy.is_given() {
        if rules.len() > 0 {
            policy.required("must specify restartPolicy when restart rules are used", out);
        } else {
            return;
        }
    }
    policy.any_of(&["Always", "Never", "OnFailure"], out);
    if rules.len() > MOST_RULES {
        rules.too_many(MOST_RULES, out);
    }
    for rule in rules.items() {
        let action = rule.child("action");
        if !["Restart", "RestartAllContainers"].contains(&action.text()) {
            action.unsupported(&["Restart", "RestartAllContainers"], out);
        }
        match rule.get("exitCodes") {
            None => rule.child("exitCodes").required("must be specified", out),
            Some(codes) => {
                let operator = codes.child("operator");
                if !["In", "NotIn"].contains(&operator.text()) {
                    operator.unsupported(&["In", "NotIn"], out);
                }
                if codes.child("values").len() > MOST_CODES {
                    codes.child("values").too_many(MOST_CODES, out);
                }
            }
        }
    }
}

fn probe(p: &At, readiness: bool, out: &mut Errors) {
    handler(p, &["exec", "httpGet", "tcpSocket", "grpc"], None, out);
    for key in ["initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"] {
        p.child(key).nonnegative(out);
    }
    let grace = p.child("terminationGracePeriodSeconds");
    if grace.int().is_some_and(|n| n <= 0) {
        grace.invalid("must be greater than 0", out);
    }
    if readiness {
        if grace.is_given() {
            grace.invalid("must not be set for readinessProbes", out);
        }
    } else if p.int_of("successThreshold") != 1 {
        p.child("successThreshold").bad(p.int_of("successThreshold"), "must be 1", out);
    }
}

/// What is done to a container; `grace` bounds how long it may sleep.
fn handler(h: &At, kinds: &[&str], grace: Option<i64>, out: &mut Errors) {
    let mut handlers = 0;
    for kind in kinds {
        let Some(v) = h.get(kind) else { continue };
        handlers += 1;
        if handlers > 1 {
            v.forbidden("may not specify more than 1 handler type", out);
            continue;
        }
        match *kind {
            "exec" => _ = v.child("command").need(out),
            "httpGet" => http_get(&v, out),
            "tcpSocket" => port_or_name(v.value().get("port"), &v.child("port").path(), out),
            "grpc" => port_number(v.value().get("port"), &v.child("port").path(), out),
            _ => {
                let seconds = v.int_of("seconds");
                if let Some(grace) = grace.filter(|g| !(0..=*g).contains(&seconds)) {
                    let why = format!("must be non-negative and less than terminationGracePeriodSeconds ({grace})");
                    v.bad(seconds, why, out);
                }
            }
        }
    }
    if handlers == 0 {
        h.required("must specify a handler type", out);
    }
}

const HEADER: &str = "a valid HTTP header must consist of alphanumeric characters or '-' (e.g. 'X-Header-Name', regex used for validation is '[-A-Za-z0-9]+')";

fn http_get(v: &At, out: &mut Errors) {
    v.child("path").need(out);
    port_or_name(v.value().get("port"), &v.child("port").path(), out);
    let scheme = v.child("scheme");
    if !["HTTP", "HTTPS"].contains(&scheme.text()) {
        scheme.unsupported(&["HTTP", "HTTPS"], out);
    }
    for header in v.child("httpHeaders").value().items() {
        let name = header.str_at(["name"]).unwrap_or_default();
        if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
            v.child("httpHeaders").bad(name, HEADER, out);
        }
    }
}
