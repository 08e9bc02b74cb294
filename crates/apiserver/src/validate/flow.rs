//! Priority and fairness: which requests wait where (`pkg/apis/flowcontrol/validation`). The API does not queue by
//! these objects; it keeps them as upstream does.

use druse_object::{Map, Value};

use super::at::{Errors, each, text, words};
use super::dump;
use super::names::{is_dns1123_label, is_dns1123_subdomain};
use crate::controllers::flow::fixed_spec;
use crate::field::FieldError;

const LOWEST: i64 = 10_000;
const MOST_QUEUES: i64 = 10_000_000;
const VERBS: [&str; 9] = ["create", "delete", "deletecollection", "get", "list", "patch", "proxy", "update", "watch"];

/// Flow schemas.
pub(super) fn schema(new: &Value, out: &mut Errors) {
    let spec = &new["spec"];
    let path = "spec.matchingPrecedence";
    let n = spec["matchingPrecedence"].as_i64().unwrap_or(0);
    if n <= 0 {
        out.push(FieldError::invalid(path, n, "must be a positive value"));
    }
    if n > LOWEST {
        out.push(FieldError::invalid(path, n, format!("must not be greater than {LOWEST}")));
    }
    if n == 1 && new.str_at(["metadata", "name"]) != Some("exempt") {
        out.push(FieldError::invalid(path, n, "only the schema named 'exempt' may have matchingPrecedence 1"));
    }
    let method = &spec["distinguisherMethod"];
    if !method.is_null() && !["ByNamespace", "ByUser"].contains(&text(method, "type")) {
        // Shown as the Go struct.
        let mut shown = Map::new();
        shown.insert("Type", text(method, "type"));
        out.push(FieldError::not_supported("spec.distinguisherMethod.type", shown, &["ByNamespace", "ByUser"]));
    }
    let (path, level) = ("spec.priorityLevelConfiguration.name", text(&spec["priorityLevelConfiguration"], "name"));
    if level.is_empty() {
        out.push(FieldError::required(path, "must reference a priority level"));
    } else {
        each(is_dns1123_subdomain(level), path, level, out);
    }
    for (i, r) in spec["rules"].items().iter().enumerate() {
        rule(r, &format!("spec.rules[{i}]"), out);
    }
    let name = new.str_at(["metadata", "name"]).unwrap_or_default();
    if let Some(fixed) = fixed_spec("FlowSchema", name) {
        let show = |spec: &Value| dump::internal("FlowSchemaSpec", spec);
        if show(fixed) != show(spec) {
            out.push(FieldError::invalid("spec", show(spec), format!("spec of '{name}' must equal the fixed value")));
        }
    }
}

/// What is said of a flow schema or a level: each kind of condition once.
pub(super) fn status(new: &Value, out: &mut Errors) {
    let mut seen: Vec<&str> = Vec::new();
    for (i, c) in new["status"]["conditions"].items().iter().enumerate() {
        let (path, kind) = (format!("status.conditions[{i}].type"), text(c, "type"));
        if seen.contains(&kind) {
            out.push(FieldError::duplicate(path.as_str(), kind));
        }
        seen.push(kind);
        if kind.is_empty() {
            out.push(FieldError::required(path, ""));
        }
    }
}

fn rule(rule: &Value, path: &str, out: &mut Errors) {
    let subjects = rule["subjects"].items();
    if subjects.is_empty() {
        out.push(FieldError::required(format!("{path}.subjects"), "subjects must contain at least one value"));
    }
    for (i, s) in subjects.iter().enumerate() {
        subject(s, &format!("{path}.subjects[{i}]"), out);
    }
    let (resources, others) = (rule["resourceRules"].items(), rule["nonResourceRules"].items());
    if resources.is_empty() && others.is_empty() {
        let why = "at least one of resourceRules and nonResourceRules has to be non-empty";
        out.push(FieldError::required(path, why));
    }
    for (i, r) in resources.iter().enumerate() {
        let path = format!("{path}.resourceRules[{i}]");
        verbs(r, &path, out);
        some(r, "apiGroups", "resource rules must supply at least one api group", "api groups", &path, out);
        some(r, "resources", "resource rules must supply at least one resource", "resources", &path, out);
        namespaces(r, &path, out);
    }
    for (i, r) in others.iter().enumerate() {
        let path = format!("{path}.nonResourceRules[{i}]");
        verbs(r, &path, out);
        let missing = "nonResourceURLs must contain at least one value";
        some(r, "nonResourceURLs", missing, "non-resource URLs", &path, out);
        if !words(r, "nonResourceURLs").contains(&"*") {
            for (j, url) in words(r, "nonResourceURLs").into_iter().enumerate() {
                non_resource(url, &format!("{path}.nonResourceURLs[{j}]"), out);
            }
        }
    }
}

fn some(r: &Value, key: &str, missing: &str, what: &str, path: &str, out: &mut Errors) {
    let list = words(r, key);
    let at = format!("{path}.{key}");
    if list.is_empty() {
        out.push(FieldError::required(at, missing));
    } else if list.len() > 1 && list.contains(&"*") {
        let why = format!("if '*' is present, must not specify other {what}");
        out.push(FieldError::invalid(at, r[key].clone(), why));
    }
}

fn verbs(r: &Value, path: &str, out: &mut Errors) {
    some(r, "verbs", "verbs must contain at least one value", "verbs", path, out);
    let list = words(r, "verbs");
    if !list.contains(&"*") && list.iter().any(|v| !VERBS.contains(v)) {
        out.push(FieldError::not_supported(format!("{path}.verbs"), r["verbs"].clone(), &VERBS));
    }
}

fn namespaces(r: &Value, path: &str, out: &mut Errors) {
    let list = words(r, "namespaces");
    let at = format!("{path}.namespaces");
    if list.is_empty() && r["clusterScope"].as_bool() != Some(true) {
        let why = "resource rules that are not cluster scoped must supply at least one namespace";
        out.push(FieldError::required(at, why));
    } else if list.contains(&"*") {
        if list.len() > 1 {
            let why = "if '*' is present, must not specify other namespaces";
            out.push(FieldError::invalid(at, r["namespaces"].clone(), why));
        }
    } else {
        for (i, ns) in list.into_iter().enumerate() {
            for why in is_dns1123_label(ns) {
                let why = format!("each member of this list must be '*' or a DNS-1123 label; {why}");
                out.push(FieldError::invalid(format!("{at}[{i}]"), ns, why));
            }
        }
    }
}

fn non_resource(url: &str, path: &str, out: &mut Errors) {
    let why = if url.is_empty() {
        "must not be empty"
    } else if url == "/" {
        return;
    } else if !url.starts_with('/') {
        "must start with slash"
    } else if url.contains(' ') {
        "must not contain white-space"
    } else if url.contains("//") {
        "must not contain double slash"
    } else if url.strip_suffix("/*").unwrap_or(url).contains('*') {
        "wildcard can only do suffix matching"
    } else {
        return;
    };
    out.push(FieldError::invalid(path, url, why));
}

fn subject(s: &Value, path: &str, out: &mut Errors) {
    const KINDS: [(&str, &str); 3] = [("Group", "group"), ("ServiceAccount", "serviceAccount"), ("User", "user")];
    let kind = text(s, "kind");
    let Some((_, field)) = KINDS.iter().find(|(k, _)| *k == kind) else {
        let kinds = KINDS.map(|(k, _)| k);
        out.push(FieldError::not_supported(format!("{path}.kind"), kind, &kinds));
        return;
    };
    let (at, of) = (format!("{path}.{field}"), &s[*field]);
    if of.is_null() {
        out.push(FieldError::required(at, format!("{field} is required when subject kind is '{kind}'")));
    } else {
        let name = text(of, "name");
        if name.is_empty() {
            out.push(FieldError::required(format!("{at}.name"), ""));
        }
        if *field == "serviceAccount" {
            if !name.is_empty() && name != "*" {
                let wrong = is_dns1123_subdomain(name).into_iter();
                out.extend(wrong.map(|why| FieldError::invalid(format!("{at}.name"), name, why)));
            }
            let ns = text(of, "namespace");
            if ns.is_empty() {
                let why = "must specify namespace for service account";
                out.push(FieldError::required(format!("{at}.namespace"), why));
            } else {
                let wrong = is_dns1123_label(ns).into_iter();
                out.extend(wrong.map(|why| FieldError::invalid(format!("{at}.namespace"), ns, why)));
            }
        }
    }
    for (other, key) in KINDS.iter().filter(|(k, _)| *k != kind) {
        if !s[*key].is_null() {
            let why = format!("{key} is forbidden when subject kind is not '{other}'");
            out.push(FieldError::forbidden(format!("{path}.{key}"), why));
        }
    }
}

/// Priority levels.
pub(super) fn level(new: &Value, out: &mut Errors) {
    let spec = &new["spec"];
    let kind = text(spec, "type");
    let exempt = new.str_at(["metadata", "name"]) == Some("exempt");
    if (kind == "Exempt") != exempt {
        out.extend(
            (kind == "Exempt" || exempt)
                .then(|| FieldError::invalid("spec.type", kind, "must be 'Exempt' if and only if `name` is 'exempt'")),
        );
    }
    let (limited, free) = (&spec["limited"], &spec["exempt"]);
    match kind {
        "Exempt" => {
            if !limited.is_null() {
                out.push(FieldError::forbidden("spec.limited", "must be nil if the type is not Limited"));
            }
            shares(free, "spec.exempt", out);
        }
        "Limited" => {
            if !free.is_null() {
                out.push(FieldError::forbidden("spec.exempt", "must be nil if the type is Limited"));
            }
            if limited.is_null() {
                out.push(FieldError::required("spec.limited", "must not be empty when type is Limited"));
            } else {
                shares(limited, "spec.limited", out);
                response(&limited["limitResponse"], "spec.limited.limitResponse", out);
            }
        }
        other => out.push(FieldError::not_supported("spec.type", other, &["Exempt", "Limited"])),
    }
    let name = new.str_at(["metadata", "name"]).unwrap_or_default();
    let Some(fixed) = fixed_spec("PriorityLevelConfiguration", name) else { return };
    let show = |spec: &Value| dump::internal("PriorityLevelConfigurationSpec", spec);
    let (mut wanted, given) = (show(fixed), show(spec));
    // How much the exempt may lend is the administrator's to say.
    let except = if exempt { " except the 'spec.exempt' field" } else { "" };
    if exempt && let Some(m) = wanted.as_map_mut() {
        m.insert("Exempt", given["Exempt"].clone());
    }
    if wanted != given {
        let why = format!("spec of '{name}'{except} must equal the fixed value");
        out.push(FieldError::invalid("spec", given, why));
    }
}

fn shares(v: &Value, path: &str, out: &mut Errors) {
    let int = |key: &str| v[key].as_i64();
    if let Some(n) = int("nominalConcurrencyShares").filter(|n| *n < 0) {
        let at = format!("{path}.nominalConcurrencyShares");
        out.push(FieldError::invalid(at, n, "must be a non-negative integer"));
    }
    if let Some(n) = int("lendablePercent").filter(|n| !(0..=100).contains(n)) {
        out.push(FieldError::invalid(format!("{path}.lendablePercent"), n, "must be between 0 and 100, inclusive"));
    }
    if let Some(n) = int("borrowingLimitPercent").filter(|n| *n < 0) {
        let at = format!("{path}.borrowingLimitPercent");
        out.push(FieldError::invalid(at, n, "if specified, must be a non-negative integer"));
    }
}

fn response(v: &Value, path: &str, out: &mut Errors) {
    let (at, queuing) = (format!("{path}.queuing"), &v["queuing"]);
    match text(v, "type") {
        "Reject" if !queuing.is_null() => {
            let why = "must be nil if limited.limitResponse.type is not Limited";
            out.push(FieldError::forbidden(at, why));
        }
        "Queue" if queuing.is_null() => {
            let why = "must not be empty if limited.limitResponse.type is Limited";
            out.push(FieldError::required(at, why));
        }
        "Queue" => {
            let int = |key: &str| queuing[key].as_i64().unwrap_or(0);
            let (queues, hand, length) = (int("queues"), int("handSize"), int("queueLengthLimit"));
            let mut no = |key: &str, n: i64, why: String| {
                out.push(FieldError::invalid(format!("{at}.{key}"), n, why));
            };
            if length <= 0 {
                no("queueLengthLimit", length, "must be positive".into());
            }
            if queues <= 0 {
                no("queues", queues, "must be positive".into());
            } else if queues > MOST_QUEUES {
                no("queues", queues, format!("must not be greater than {MOST_QUEUES}"));
            }
            if hand <= 0 {
                no("handSize", hand, "must be positive".into());
            } else if hand > queues {
                no("handSize", hand, format!("should not be greater than queues ({queues})"));
            }
        }
        "Reject" => {}
        other => out.push(FieldError::not_supported(format!("{path}.type"), other, &["Queue", "Reject"])),
    }
}
