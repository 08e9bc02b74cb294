//! What bounds or scales others: limit ranges, resource quotas, autoscalers, disruption budgets
//! (`pkg/apis/core/validation`, `pkg/apis/autoscaling/validation`, `pkg/apis/policy/validation`).

use std::collections::{BTreeSet, HashSet};

use druse_object::{Map, Quantity, Value};

use super::at::{Errors, each, text};
use super::meta::{label_selector, path_segment_field};
use super::names::{is_dns1123_label, is_qualified_name};
use super::workload::int_or_percent;
use crate::field::FieldError;

/// Names of amounts without a `/` that the system knows, with what they may stand in.
const STANDARD: [&str; 20] = [
    "cpu",
    "memory",
    "ephemeral-storage",
    "requests.cpu",
    "requests.memory",
    "requests.ephemeral-storage",
    "limits.cpu",
    "limits.memory",
    "limits.ephemeral-storage",
    "pods",
    "resourcequotas",
    "services",
    "replicationcontrollers",
    "secrets",
    "configmaps",
    "persistentvolumeclaims",
    "storage",
    "requests.storage",
    "services.nodeports",
    "services.loadbalancers",
];

/// Those that count objects: whole numbers only.
pub(super) const COUNTS: [&str; 9] = [
    "pods",
    "resourcequotas",
    "services",
    "replicationcontrollers",
    "secrets",
    "configmaps",
    "persistentvolumeclaims",
    "services.nodeports",
    "services.loadbalancers",
];

/// An amount as it was written.
fn shown(v: &Value) -> String {
    v.as_str().map_or_else(|| v.as_i64().unwrap_or_default().to_string(), str::to_owned)
}

fn amounts(v: &Value) -> impl Iterator<Item = (&str, Quantity)> {
    v.as_map().into_iter().flat_map(Map::iter).filter_map(|(k, v)| Some((k.as_str(), Quantity::of(v)?)))
}

pub(super) fn huge_pages(name: &str) -> bool {
    name.starts_with("hugepages-") || name.starts_with("requests.hugepages-")
}

/// A name that the system itself gives to an amount.
pub(super) fn native(name: &str) -> bool {
    !name.contains('/') || name.contains("kubernetes.io/")
}

/// Whether more of an amount may be limited than requested.
pub(super) fn overcommits(name: &str) -> bool {
    native(name) && !name.starts_with("hugepages-")
}

/// A name outside `kubernetes.io` that nodes may offer.
pub(super) fn extended(name: &str) -> bool {
    !native(name) && !name.starts_with("requests.") && is_qualified_name(&format!("requests.{name}")).is_empty()
}

fn resource_name(name: &str, path: &str, out: &mut Errors) -> bool {
    let errors = is_qualified_name(name);
    let bad = !errors.is_empty();
    each(errors, path, name, out);
    if !bad && !name.contains('/') && !STANDARD.contains(&name) && !huge_pages(name) {
        out.push(FieldError::invalid(path, name, "must be a standard resource type or fully qualified"));
    }
    !name.contains('/')
}

/// The name of an amount that containers ask for.
pub(super) fn container_resource(name: &str, path: &str, out: &mut Errors) {
    let plain = resource_name(name, path, out);
    if plain && !STANDARD[..3].contains(&name) && !name.starts_with("hugepages-") {
        out.push(FieldError::invalid(path, name, "must be a standard resource for containers"));
    } else if !native(name) && !extended(name) {
        out.push(FieldError::invalid(path, name, "doesn't follow extended resource name standard"));
    }
}

/// The name of an amount that a whole pod asks for.
pub(super) fn pod_resource(name: &str, path: &str, out: &mut Errors) {
    let before = out.len();
    resource_name(name, path, out);
    if out.len() == before && !matches!(name, "cpu" | "memory") && !name.starts_with("hugepages-") {
        out.push(FieldError::not_supported(path, name, &["cpu", "hugepages-", "memory"]));
    }
}

/// Limit ranges.
pub(super) fn limit_range(new: &Value, out: &mut Errors) {
    let mut types = HashSet::new();
    for (i, limit) in new["spec"]["limits"].items().iter().enumerate() {
        let path = format!("spec.limits[{i}]");
        let kind = text(limit, "type");
        limit_type(kind, &format!("{path}.type"), out);
        if !types.insert(kind) {
            out.push(FieldError::duplicate(format!("{path}.type"), kind));
        }
        limit_names(limit, kind, &path, out);
        limit_order(limit, kind, &path, out);
    }
}

fn limit_type(kind: &str, path: &str, out: &mut Errors) {
    let errors = is_qualified_name(kind);
    let standard = ["Pod", "Container", "PersistentVolumeClaim"];
    if errors.is_empty() && !kind.contains('/') && !standard.contains(&kind) {
        out.push(FieldError::invalid(path, kind, "must be a standard limit type or fully qualified"));
    }
    each(errors, path, kind, out);
}

fn limit_names(limit: &Value, kind: &str, path: &str, out: &mut Errors) {
    let pod = kind == "Pod";
    let judge = |key: &str, out: &mut Errors| {
        for name in limit[key].as_map().into_iter().flat_map(Map::keys) {
            let at = format!("{path}.{key}[{name}]");
            if pod || kind == "Container" {
                container_resource(name, &at, out);
            } else {
                resource_name(name, &at, out);
            }
        }
    };
    judge("max", out);
    judge("min", out);
    for key in ["default", "defaultRequest"] {
        if !pod {
            judge(key, out);
        } else if limit[key].as_map().is_some_and(|m| !m.is_empty()) {
            out.push(FieldError::forbidden(format!("{path}.{key}"), "may not be specified when `type` is 'Pod'"));
        }
    }
    let storage = |key: &str| !limit[key]["storage"].is_null();
    if kind == "PersistentVolumeClaim" && !storage("min") && !storage("max") {
        let why = "either minimum or maximum storage value is required, but neither was provided";
        out.push(FieldError::required(format!("{path}.limits"), why));
    }
    judge("maxLimitRequestRatio", out);
}

/// Each amount's bounds must be in order: min, default request, default, max.
fn limit_order(limit: &Value, kind: &str, path: &str, out: &mut Errors) {
    let usable: &[&str] = if kind == "Pod" {
        &["max", "min", "maxLimitRequestRatio"]
    } else {
        &["max", "min", "default", "defaultRequest", "maxLimitRequestRatio"]
    };
    let names: BTreeSet<&str> = usable.iter().flat_map(|k| amounts(&limit[*k])).map(|(k, _)| k).collect();
    for name in names {
        let get = |key: &str| {
            let v = &limit[key][name];
            usable.contains(&key).then(|| Quantity::of(v).map(|q| (q, v))).flatten()
        };
        let (min, max) = (get("min"), get("max"));
        let (default, request) = (get("default"), get("defaultRequest"));
        // The lower bound, the upper one, the field that is blamed, the value shown, and the words for both.
        let pairs = [
            (min, max, "min", min, "min value", "max value"),
            (min, request, "defaultRequest", request, "min value", "default request value"),
            (request, max, "defaultRequest", request, "default request value", "max value"),
            (request, default, "defaultRequest", request, "default request value", "default limit value"),
            (min, default, "default", min, "min value", "default value"),
            (default, max, "default", max, "default value", "max value"),
        ];
        for (low, high, key, bad, low_word, high_word) in pairs {
            let (Some((a, a_text)), Some((b, b_text)), Some((_, bad))) = (low, high, bad) else { continue };
            if a > b {
                let why = format!("{low_word} {} is greater than {high_word} {}", shown(a_text), shown(b_text));
                out.push(FieldError::invalid(format!("{path}.{key}[{name}]"), bad.clone(), why));
            }
        }
        let Some((ratio, ratio_text)) = get("maxLimitRequestRatio") else {
            not_overcommitted(name, default, request, path, out);
            continue;
        };
        let at = format!("{path}.maxLimitRequestRatio[{name}]");
        if ratio.approximate() < 1.0 {
            let why = format!("ratio {} is less than 1", shown(ratio_text));
            out.push(FieldError::invalid(at.as_str(), ratio_text.clone(), why));
        }
        if let (Some((min, _)), Some((max, _))) = (min, max) {
            let most = max.approximate() / min.approximate();
            if ratio.approximate() > most {
                let why = format!("ratio {} is greater than max/min = {most:.6}", shown(ratio_text));
                out.push(FieldError::invalid(at, ratio_text.clone(), why));
            }
        }
        not_overcommitted(name, default, request, path, out);
    }
}

fn not_overcommitted(
    name: &str,
    default: Option<(Quantity, &Value)>,
    request: Option<(Quantity, &Value)>,
    path: &str,
    out: &mut Errors,
) {
    if let (false, Some((d, d_text)), Some((r, r_text))) = (overcommits(name), default, request)
        && d != r
    {
        let why =
            format!("default value {} must equal to defaultRequest value {} in {name}", shown(d_text), shown(r_text));
        out.push(FieldError::invalid(format!("{path}.defaultRequest[{name}]"), r_text.clone(), why));
    }
}

/// Resource quotas.
pub(super) fn quota(new: &Value, old: Option<&Value>, out: &mut Errors) {
    let spec = &new["spec"];
    for (name, v) in spec["hard"].as_map().into_iter().flat_map(Map::iter) {
        let path = format!("spec.hard[{name}]");
        let plain = resource_name(name, &path, out);
        if plain && (!STANDARD.contains(&name.as_str()) || name == "storage") && !huge_pages(name) {
            out.push(FieldError::invalid(path.as_str(), name.clone(), "must be a standard resource for quota"));
        }
        let Some(q) = Quantity::of(v) else { continue };
        if q.is_negative() {
            out.push(FieldError::invalid(path.as_str(), v.clone(), "must be greater than or equal to 0"));
        }
        if (COUNTS.contains(&name.as_str()) || extended(name)) && q.approximate().fract() != 0.0 {
            out.push(FieldError::invalid(path, v.clone(), "must be an integer"));
        }
    }
    let scopes: Vec<&str> = spec["scopes"].items().iter().filter_map(Value::as_str).collect();
    let fail = |out: &mut Errors, why: &str| {
        out.push(FieldError::invalid("spec.scopes", spec["scopes"].clone(), why));
    };
    for scope in &scopes {
        if !SCOPES.contains(scope) {
            fail(out, "unsupported scope");
        }
        for _ in misfits(spec, scope) {
            fail(out, "unsupported scope applied to resource");
        }
    }
    for _ in conflicts(&scopes) {
        fail(out, "conflicting scopes");
    }
    if !spec["scopeSelector"].is_null() {
        scope_selector(spec, out);
    }
    if let Some(old) = old {
        let set = |v: &Value| -> BTreeSet<String> {
            v["spec"]["scopes"].items().iter().filter_map(Value::as_str).map(str::to_owned).collect()
        };
        if set(old) != set(new) {
            fail(out, "field is immutable");
        }
    }
}

const SCOPES: [&str; 7] = [
    "Terminating",
    "NotTerminating",
    "BestEffort",
    "NotBestEffort",
    "PriorityClass",
    "VolumeAttributesClass",
    "CrossNamespacePodAffinity",
];

/// The amounts of a quota that its scope says nothing about.
fn misfits<'a>(spec: &'a Value, scope: &'a str) -> impl Iterator<Item = &'a str> {
    let pods = ["pods"];
    let compute = ["cpu", "memory", "limits.cpu", "limits.memory", "requests.cpu", "requests.memory"];
    let claims = ["persistentvolumeclaims", "requests.storage"];
    spec["hard"].as_map().into_iter().flat_map(Map::keys).map(|k| k.as_str()).filter(move |k| {
        let known = STANDARD.contains(k) && *k != "storage" || huge_pages(k);
        let fits = match scope {
            "Terminating" | "NotTerminating" | "NotBestEffort" | "PriorityClass" | "CrossNamespacePodAffinity" => {
                pods.contains(k) || compute.contains(k)
            }
            "BestEffort" => pods.contains(k),
            "VolumeAttributesClass" => claims.contains(k),
            _ => true,
        };
        known && !fits
    })
}

fn conflicts(scopes: &[&str]) -> impl Iterator<Item = ()> {
    let has = |name: &str| scopes.contains(&name);
    let pairs = [has("BestEffort") && has("NotBestEffort"), has("Terminating") && has("NotTerminating")];
    pairs.into_iter().filter(|both| *both).map(|_| ())
}

fn scope_selector(spec: &Value, out: &mut Errors) {
    let path = "spec.scopeSelector.matchExpressions";
    let mut scopes = Vec::new();
    for e in spec["scopeSelector"]["matchExpressions"].items() {
        let (scope, operator) = (text(e, "scopeName"), text(e, "operator"));
        if !SCOPES.contains(&scope) {
            out.push(FieldError::invalid(format!("{path}.scopeName"), scope, "unsupported scope"));
        }
        for _ in misfits(spec, scope) {
            let why = "unsupported scope applied to resource";
            out.push(FieldError::invalid(path, spec["scopeSelector"].clone(), why));
        }
        let by_values = ["PriorityClass", "VolumeAttributesClass"].contains(&scope) || !SCOPES.contains(&scope);
        let at = format!("{path}.operator");
        if !by_values && operator != "Exists" {
            let why = "must be 'Exists' when scope is any of ResourceQuotaScopeTerminating, ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity";
            out.push(FieldError::invalid(at.as_str(), operator, why));
        }
        let values = e["values"].items();
        match operator {
            "In" | "NotIn" if values.is_empty() => {
                let why = "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector";
                out.push(FieldError::required(format!("{path}.values"), why));
            }
            "Exists" | "DoesNotExist" if !values.is_empty() => {
                let why = "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector";
                out.push(FieldError::invalid(format!("{path}.values"), e["values"].clone(), why));
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            other => out.push(FieldError::invalid(at, other, "not a valid selector operator")),
        }
        scopes.push(scope);
    }
    for _ in conflicts(&scopes) {
        out.push(FieldError::invalid(path, spec["scopes"].clone(), "conflicting scopes"));
    }
}

/// Disruption budgets.
pub(super) fn disruption_budget(new: &Value, out: &mut Errors) {
    let spec = &new["spec"];
    if !spec["minAvailable"].is_null() && !spec["maxUnavailable"].is_null() {
        // Shown as the Go struct.
        let mut shown = Map::new();
        for (key, name) in [
            ("minAvailable", "MinAvailable"),
            ("selector", "Selector"),
            ("maxUnavailable", "MaxUnavailable"),
            ("unhealthyPodEvictionPolicy", "UnhealthyPodEvictionPolicy"),
        ] {
            shown.insert(name, spec[key].clone());
        }
        out.push(FieldError::invalid("spec", shown, "minAvailable and maxUnavailable cannot be both set"));
    }
    for key in ["minAvailable", "maxUnavailable"] {
        let v = &spec[key];
        if v.is_null() {
            continue;
        }
        let path = format!("spec.{key}");
        int_or_percent(Some(v), &path, out);
        let percent = v.as_str().and_then(|s| s.strip_suffix('%')).and_then(|n| n.parse::<i64>().ok());
        if percent.is_some_and(|n| n > 100) {
            out.push(FieldError::invalid(path, v.clone(), "must not be greater than 100%"));
        }
    }
    if !spec["selector"].is_null() {
        label_selector(&spec["selector"], "spec.selector", out);
    }
    let policies = ["AlwaysAllow", "IfHealthyBudget"];
    if let Some(p) = spec["unhealthyPodEvictionPolicy"].as_str().filter(|p| !policies.contains(p)) {
        out.push(FieldError::not_supported("spec.unhealthyPodEvictionPolicy", p, &policies));
    }
}

/// Autoscalers, as version 2 of their API has them.
pub(super) fn autoscaler(new: &Value, out: &mut Errors) {
    let spec = &new["spec"];
    let int = |key: &str| spec[key].as_i64();
    if let Some(min) = int("minReplicas").filter(|n| *n < 1) {
        out.push(FieldError::invalid("spec.minReplicas", min, "must be greater than or equal to 1"));
    }
    let max = int("maxReplicas").unwrap_or(0);
    if max == 0 {
        out.push(FieldError::required("spec.maxReplicas", "must be set and greater than 0"));
    } else if max < 0 {
        out.push(FieldError::invalid("spec.maxReplicas", max, "must be greater than or equal to 1"));
    }
    if int("minReplicas").is_some_and(|min| max < min) {
        out.push(FieldError::invalid("spec.maxReplicas", max, "must be greater than or equal to `minReplicas`"));
    }
    scaled(&spec["scaleTargetRef"], "spec.scaleTargetRef", false, out);
    for (i, metric) in spec["metrics"].items().iter().enumerate() {
        metric_spec(metric, &format!("spec.metrics[{i}]"), out);
    }
    if int("minReplicas") == Some(0)
        && !spec["metrics"].items().iter().any(|m| ["Object", "External"].contains(&text(m, "type")))
    {
        let why = "must specify at least one Object or External metric to support scaling to zero replicas";
        out.push(FieldError::forbidden("spec.metrics", why));
    }
    for key in ["scaleUp", "scaleDown"] {
        if !spec["behavior"][key].is_null() {
            scaling_rules(&spec["behavior"][key], &format!("spec.behavior.{key}"), out);
        }
    }
}

/// What is scaled or measured: an object by version, kind and name.
fn scaled(target: &Value, path: &str, core_too: bool, out: &mut Errors) {
    path_segment_field(text(target, "kind"), &format!("{path}.kind"), "", out);
    path_segment_field(text(target, "name"), &format!("{path}.name"), "", out);
    let version = text(target, "apiVersion");
    let at = format!("{path}.apiVersion");
    if version.split('/').count() > 2 {
        out.push(FieldError::invalid(at, version, format!("unexpected GroupVersion string: {version}")));
    } else if !(version.contains('/') || core_too || text(target, "kind") == "ReplicationController" && version == "v1")
    {
        out.push(FieldError::invalid(at, version, "apiVersion must specify API group"));
    }
}

/// Kinds of metrics: the name of the type and the field that belongs to it, in the order upstream looks.
const METRICS: [(&str, &str); 5] = [
    ("Object", "object"),
    ("External", "external"),
    ("Pods", "pods"),
    ("Resource", "resource"),
    ("ContainerResource", "containerResource"),
];

fn metric_spec(metric: &Value, path: &str, out: &mut Errors) {
    let names = ["ContainerResource", "External", "Object", "Pods", "Resource"];
    let kind = text(metric, "type");
    let at = format!("{path}.type");
    if kind.is_empty() {
        out.push(FieldError::required(at.as_str(), "must specify a metric source type"));
    }
    if !names.contains(&kind) {
        out.push(FieldError::not_supported(at.as_str(), kind, &names));
    }
    let mut present: Vec<&str> = METRICS.iter().map(|(_, f)| *f).filter(|f| !metric[*f].is_null()).collect();
    if let Some(first) = present.first() {
        metric_source(first, &metric[*first], &format!("{path}.{first}"), out);
    }
    match METRICS.iter().find(|(k, _)| *k == kind) {
        Some((_, field)) => {
            if metric[*field].is_null() {
                let why = "must populate information for the given metric source";
                out.push(FieldError::required(format!("{path}.{field}"), why));
            }
            if present.len() != 1 {
                present.retain(|f| f != field);
                out.extend(present.iter().map(|f| only(path, f)));
            }
        }
        None => {
            out.push(FieldError::not_supported(at, kind, &names));
            if present.len() != 1 {
                out.extend(present.iter().map(|f| only(path, f)));
            }
        }
    }
}

fn only(path: &str, field: &str) -> FieldError {
    FieldError::forbidden(format!("{path}.{field}"), "must populate the given metric source only")
}

fn metric_source(field: &str, source: &Value, path: &str, out: &mut Errors) {
    let target = &source["target"];
    let at = format!("{path}.target");
    match field {
        "resource" if text(source, "name").is_empty() => {
            out.push(FieldError::required(format!("{path}.name"), "must specify a resource name"));
        }
        "containerResource" => {
            let name = text(source, "name");
            if name.is_empty() {
                out.push(FieldError::required(format!("{path}.name"), "must specify a resource name"));
            } else {
                container_resource(name, &format!("{path}.name"), out);
            }
            let container = text(source, "container");
            let at = format!("{path}.container");
            if container.is_empty() {
                out.push(FieldError::required(at, "must specify a container"));
            } else {
                each(is_dns1123_label(container), &at, container, out);
            }
        }
        "object" => scaled(&source["describedObject"], &format!("{path}.describedObject"), true, out),
        _ => {}
    }
    if ["object", "external", "pods"].contains(&field) {
        let at = format!("{path}.metric.name");
        path_segment_field(text(&source["metric"], "name"), &at, "must specify a metric name", out);
    }
    metric_target(target, &at, out);
    let has = |key: &str| !target[key].is_null();
    let (value, average, used) = (has("value"), has("averageValue"), has("averageUtilization"));
    match field {
        "object" if !value && !average => {
            let why = "must set either a target value or averageValue";
            out.push(FieldError::required(format!("{at}.averageValue"), why));
        }
        "external" if !value && !average => {
            let why = "must set either a target value for metric or a per-pod target";
            out.push(FieldError::required(format!("{at}.averageValue"), why));
        }
        "external" if value && average => {
            let why = "may not set both a target value for metric and a per-pod target";
            out.push(FieldError::forbidden(format!("{at}.value"), why));
        }
        "pods" if !average => {
            let why = "must specify a positive target averageValue";
            out.push(FieldError::required(format!("{at}.averageValue"), why));
        }
        "resource" | "containerResource" if !used && !average => {
            let why = "must set either a target raw value or a target utilization";
            out.push(FieldError::required(format!("{at}.averageUtilization"), why));
        }
        "resource" | "containerResource" if used && average => {
            let why = "may not set both a target raw value and a target utilization";
            out.push(FieldError::forbidden(format!("{at}.averageValue"), why));
        }
        _ => {}
    }
}

fn metric_target(target: &Value, path: &str, out: &mut Errors) {
    let kind = text(target, "type");
    let at = format!("{path}.type");
    if kind.is_empty() {
        out.push(FieldError::required(at.as_str(), "must specify a metric target type"));
    }
    if !["Utilization", "Value", "AverageValue"].contains(&kind) {
        out.push(FieldError::invalid(at, kind, "must be either Utilization, Value, or AverageValue"));
    }
    for key in ["value", "averageValue"] {
        if Quantity::of(&target[key]).is_some_and(|q| q.is_negative() || q.is_zero()) {
            out.push(FieldError::invalid(format!("{path}.{key}"), target[key].clone(), "must be positive"));
        }
    }
    if let Some(n) = target["averageUtilization"].as_i64().filter(|n| *n < 1) {
        out.push(FieldError::invalid(format!("{path}.averageUtilization"), n, "must be greater than 0"));
    }
}

fn scaling_rules(rules: &Value, path: &str, out: &mut Errors) {
    const LONGEST_WINDOW: i64 = 3600;
    const LONGEST_PERIOD: i64 = 1800;
    if let Some(n) = rules["stabilizationWindowSeconds"].as_i64() {
        let at = format!("{path}.stabilizationWindowSeconds");
        if n < 0 {
            out.push(FieldError::invalid(at.as_str(), n, "must be greater than or equal to zero"));
        }
        if n > LONGEST_WINDOW {
            out.push(FieldError::invalid(at, n, format!("must be less than or equal to {LONGEST_WINDOW}")));
        }
    }
    let selects = ["Disabled", "Max", "Min"];
    if let Some(s) = rules["selectPolicy"].as_str().filter(|s| !selects.contains(s)) {
        out.push(FieldError::not_supported(format!("{path}.selectPolicy"), s, &selects));
    }
    let policies = rules["policies"].items();
    if policies.is_empty() {
        out.push(FieldError::required(format!("{path}.policies"), "must specify at least one Policy"));
    }
    for (i, p) in policies.iter().enumerate() {
        let path = format!("{path}.policies[{i}]");
        let kind = text(p, "type");
        if !["Percent", "Pods"].contains(&kind) {
            out.push(FieldError::not_supported(format!("{path}.type"), kind, &["Percent", "Pods"]));
        }
        for key in ["value", "periodSeconds"] {
            let n = p[key].as_i64().unwrap_or(0);
            if n <= 0 {
                out.push(FieldError::invalid(format!("{path}.{key}"), n, "must be greater than zero"));
            }
        }
        if let Some(n) = p["periodSeconds"].as_i64().filter(|n| *n > LONGEST_PERIOD) {
            let why = format!("must be less than or equal to {LONGEST_PERIOD}");
            out.push(FieldError::invalid(format!("{path}.periodSeconds"), n, why));
        }
    }
    if Quantity::of(&rules["tolerance"]).is_some_and(Quantity::is_negative) {
        let at = format!("{path}.tolerance");
        out.push(FieldError::invalid(at, rules["tolerance"].clone(), "must be greater than or equal to 0"));
    }
}
