//! What configures admission (`k8s.io/kubernetes/pkg/apis/admissionregistration/validation`): webhook configurations,
//! and the policies whose expressions can be read.

use std::collections::HashSet;

use druse_object::Value;

use super::at::{Errors, each, text, words};
use super::expressions::{ANYTHING, MESSAGE, NOTE, OBJECT, PATCH, TRUTH, Variables};
use super::meta::label_selector;
use super::names::{is_dns1123_subdomain, is_qualified_name};
use crate::field::FieldError;

/// A webhook configuration.
pub(crate) fn configuration(new: &Value, out: &mut Errors) {
    let mut names = HashSet::new();
    for (i, w) in new["webhooks"].items().iter().enumerate() {
        let path = format!("webhooks[{i}]");
        webhook(w, &path, out);
        let name = text(w, "name");
        if !name.is_empty() && !names.insert(name) {
            out.push(FieldError::duplicate(format!("{path}.name"), name));
        }
    }
}

fn webhook(w: &Value, path: &str, out: &mut Errors) {
    qualified_domain(text(w, "name"), &format!("{path}.name"), out);
    for (i, r) in w["rules"].items().iter().enumerate() {
        rule(r, &format!("{path}.rules[{i}]"), out);
    }
    one_of(w, "failurePolicy", &["Fail", "Ignore"], path, out);
    one_of(w, "matchPolicy", &["Equivalent", "Exact"], path, out);
    one_of(w, "reinvocationPolicy", &["IfNeeded", "Never"], path, out);
    let effects = ["None", "NoneOnDryRun"];
    if text(w, "sideEffects").is_empty() {
        out.push(FieldError::required(format!("{path}.sideEffects"), "must specify one of None, NoneOnDryRun"));
    } else {
        one_of(w, "sideEffects", &effects, path, out);
    }
    if let Some(t) = w.get("timeoutSeconds").and_then(Value::as_i64).filter(|t| !(1..=30).contains(t)) {
        let why = "the timeout value must be between 1 and 30 seconds";
        out.push(FieldError::invalid(format!("{path}.timeoutSeconds"), t, why));
    }
    for key in ["namespaceSelector", "objectSelector"] {
        if let Some(s) = w.get(key) {
            label_selector(s, &format!("{path}.{key}"), out);
        }
    }
    client(&w["clientConfig"], &format!("{path}.clientConfig"), out);
    let versions = words(w, "admissionReviewVersions");
    let at = format!("{path}.admissionReviewVersions");
    if versions.is_empty() {
        out.push(FieldError::required(at, "must specify one of v1, v1beta1"));
    } else {
        let mut seen = HashSet::new();
        for (i, v) in versions.iter().enumerate().filter(|(_, v)| !seen.insert(**v)) {
            out.push(FieldError::invalid(format!("{at}[{i}]"), *v, "duplicate version"));
        }
        if !versions.iter().any(|v| matches!(*v, "v1" | "v1beta1")) {
            let why = "must include at least one of v1, v1beta1";
            out.push(FieldError::invalid(at, w["admissionReviewVersions"].clone(), why));
        }
    }
    conditions(&w["matchConditions"], false, &format!("{path}.matchConditions"), out);
}

/// A name of at least three labels.
fn qualified_domain(name: &str, path: &str, out: &mut Errors) {
    if name.is_empty() {
        out.push(FieldError::required(path, ""));
        return;
    }
    let wrong = is_dns1123_subdomain(name);
    if !wrong.is_empty() {
        each(wrong, path, name, out);
    } else if name.split('.').count() < 3 {
        let why = "should be a domain with at least three segments separated by dots";
        out.push(FieldError::invalid(path, name, why));
    }
}

fn one_of(v: &Value, key: &str, allowed: &[&str], path: &str, out: &mut Errors) {
    let given = text(v, key);
    if !given.is_empty() && !allowed.contains(&given) {
        out.push(FieldError::not_supported(format!("{path}.{key}"), given, allowed));
    }
}

/// A rule that says which requests are meant.
fn rule(r: &Value, path: &str, out: &mut Errors) {
    let known = ["*", "CONNECT", "CREATE", "DELETE", "UPDATE"];
    for (key, what, known) in [
        ("operations", "other operations", &known[..]),
        ("apiGroups", "other API groups", &[]),
        ("apiVersions", "other API versions", &[]),
    ] {
        let (list, at) = (words(r, key), format!("{path}.{key}"));
        if list.is_empty() {
            out.push(FieldError::required(&at, ""));
        }
        if list.len() > 1 && list.contains(&"*") {
            let why = format!("if '*' is present, must not specify {what}");
            out.push(FieldError::invalid(&at, r[key].clone(), why));
        }
        for (i, w) in list.iter().enumerate().filter(|(_, w)| !known.is_empty() && !known.contains(w)) {
            out.push(FieldError::not_supported(format!("{at}[{i}]"), *w, known));
        }
        for (i, _) in list.iter().enumerate().filter(|(_, w)| key == "apiVersions" && w.is_empty()) {
            out.push(FieldError::required(format!("{at}[{i}]"), ""));
        }
    }
    let (list, at) = (words(r, "resources"), format!("{path}.resources"));
    if list.is_empty() {
        out.push(FieldError::required(&at, ""));
    }
    if list.len() > 1 && list.contains(&"*/*") {
        let why = "if '*/*' is present, must not specify other resources";
        out.push(FieldError::invalid(&at, r["resources"].clone(), why));
    }
    if list.contains(&"*") && list.iter().any(|w| *w != "*" && !w.contains('/')) {
        let why = "if '*' is present, must not specify other resources without subresources";
        out.push(FieldError::invalid(&at, r["resources"].clone(), why));
    }
    for (i, (resource, sub)) in list.iter().enumerate().filter_map(|(i, w)| Some((i, w.split_once('/')?))) {
        for wide in [format!("{resource}/*"), format!("*/{sub}")] {
            let own = format!("{resource}/{sub}");
            if own != wide && own != "*/*" && list.contains(&wide.as_str()) {
                let why = format!("if '{wide}' is present, must not specify {own}");
                out.push(FieldError::invalid(format!("{at}[{i}]"), own, why));
            }
        }
    }
    one_of(r, "scope", &["*", "Cluster", "Namespaced"], path, out);
}

/// Where a webhook is.
pub(crate) fn client(c: &Value, path: &str, out: &mut Errors) {
    let (url, service) = (c.get("url").and_then(Value::as_str), c.get("service"));
    match (url, service) {
        (Some(u), None) => webhook_url(u, &format!("{path}.url"), out),
        (None, Some(s)) => {
            let at = format!("{path}.service");
            // Upstream names the one when the other is missing.
            for (key, missing) in [("name", "namespace"), ("namespace", "name")] {
                if text(s, missing).is_empty() {
                    out.push(FieldError::required(format!("{at}.{key}"), ""));
                }
            }
            let port = s.get("port").and_then(Value::as_i64).unwrap_or(443);
            if !(1..=65535).contains(&port) {
                let why = "port is not valid: must be between 1 and 65535, inclusive";
                out.push(FieldError::invalid(format!("{at}.port"), port, why));
            }
            if let Some(p) = s.get("path").and_then(Value::as_str) {
                service_path(p, &format!("{at}.path"), out);
            }
        }
        _ => out.push(FieldError::required(path, "exactly one of url or service is required")),
    }
}

fn webhook_url(url: &str, path: &str, out: &mut Errors) {
    const FORM: &str = "; desired format: https://host[/path]";
    if !url.contains(':') {
        // Go reads a path with neither scheme nor host.
        out.push(FieldError::invalid(path, "", format!("'https' is the only allowed URL scheme{FORM}")));
        out.push(FieldError::invalid(path, "", format!("host must be specified{FORM}")));
        return;
    }
    let Ok(u) = reqwest::Url::parse(url) else {
        out.push(FieldError::required(path, format!("url must be a valid URL: cannot be parsed{FORM}")));
        return;
    };
    if u.scheme() != "https" {
        out.push(FieldError::invalid(path, u.scheme(), format!("'https' is the only allowed URL scheme{FORM}")));
    }
    if u.host_str().unwrap_or_default().is_empty() {
        out.push(FieldError::invalid(path, "", format!("host must be specified{FORM}")));
    }
    if !u.username().is_empty() {
        let who = u.password().map_or_else(|| u.username().to_owned(), |p| format!("{}:{p}", u.username()));
        out.push(FieldError::invalid(path, who, "user information is not permitted in the URL"));
    }
    if let Some(f) = u.fragment() {
        out.push(FieldError::invalid(path, f, "fragments are not permitted in the URL"));
    }
    if let Some(q) = u.query() {
        out.push(FieldError::invalid(path, q, "query parameters are not permitted in the URL"));
    }
}

fn service_path(p: &str, path: &str, out: &mut Errors) {
    if p == "/" || p.is_empty() {
        return;
    }
    if p == "//" {
        out.push(FieldError::invalid(path, p, "segment[0] may not be empty"));
        return;
    }
    if !p.starts_with('/') {
        out.push(FieldError::invalid(path, p, "must start with a '/'"));
    }
    let whole = p.get(1..).unwrap_or_default();
    let steps: Vec<&str> = whole.strip_suffix('/').unwrap_or(whole).split('/').collect();
    for (i, step) in steps.iter().enumerate() {
        if step.is_empty() {
            out.push(FieldError::invalid(path, p, format!("segment[{i}] may not be empty")));
            continue;
        }
        for why in is_dns1123_subdomain(step) {
            out.push(FieldError::invalid(path, p, format!("segment[{i}]: {why}")));
        }
    }
}

fn conditions(list: &Value, params: bool, path: &str, out: &mut Errors) {
    let (mut names, scope) = (HashSet::new(), Variables::new(params));
    for (i, c) in list.items().iter().enumerate() {
        let at = format!("{path}[{i}]");
        let condition = Value::from(text(c, "expression").trim());
        scope.expression(&condition, format!("{at}.expression"), "", &TRUTH, out);
        let name = text(c, "name");
        if name.is_empty() {
            out.push(FieldError::required(format!("{at}.name"), ""));
            continue;
        }
        out.extend(is_qualified_name(name).into_iter().map(|w| FieldError::invalid(format!("{at}.name"), name, w)));
        if !names.insert(name) {
            out.push(FieldError::duplicate(format!("{at}.name"), name));
        }
    }
}

/// A mutating policy's own fields; what is missing altogether the table says.
pub(crate) fn mutating_policy(new: &Value, out: &mut Errors) {
    let spec = &new["spec"];
    let params = spec.get("paramKind").is_some();
    let scope = parts(spec, Variables::new(params).with_patches(), out);
    for (i, m) in spec["mutations"].items().iter().enumerate() {
        let at = format!("spec.mutations[{i}]");
        match text(m, "patchType") {
            "ApplyConfiguration" if m.get("applyConfiguration").is_none() => {
                let why = "must be specified when patchType is ApplyConfiguration";
                out.push(FieldError::required(format!("{at}.applyConfiguration"), why));
            }
            "ApplyConfiguration" => {
                let at = format!("{at}.applyConfiguration.expression");
                scope.expression(&m["applyConfiguration"]["expression"], at, "", &OBJECT, out);
            }
            "JSONPatch" if m.get("jsonPatch").is_none() => {
                let why = "must be specified when patchType is JSONPatch";
                out.push(FieldError::required(format!("{at}.jsonPatch"), why));
            }
            "JSONPatch" => {
                let at = format!("{at}.jsonPatch.expression");
                scope.expression(&m["jsonPatch"]["expression"], at, "", &PATCH, out);
            }
            _ => one_of(m, "patchType", &["ApplyConfiguration", "JSONPatch"], &at, out),
        }
    }
}

/// A validating policy's own fields; what is missing altogether the table says.
pub(crate) fn policy(new: &Value, out: &mut Errors) {
    let spec = &new["spec"];
    let params = spec.get("paramKind").is_some();
    let scope = parts(spec, Variables::new(params), out);
    validations(new, &scope, out);
}

/// What policies of both kinds have; the variables they declare are added.
fn parts(spec: &Value, mut scope: Variables, out: &mut Errors) -> Variables {
    one_of(spec, "failurePolicy", &["Fail", "Ignore"], "spec", out);
    if let Some(kind) = spec.get("paramKind") {
        for key in ["apiVersion", "kind"] {
            if text(kind, key).is_empty() {
                out.push(FieldError::required(format!("spec.paramKind.{key}"), ""));
            }
        }
    }
    if let Some(m) = spec.get("matchConstraints") {
        let rules = m["resourceRules"].items();
        if rules.is_empty() {
            out.push(FieldError::required("spec.matchConstraints.resourceRules", ""));
        }
        for key in ["namespaceSelector", "objectSelector"] {
            if let Some(s) = m.get(key) {
                super::meta::label_selector(s, &format!("spec.matchConstraints.{key}"), out);
            }
        }
        for (i, r) in rules.iter().enumerate() {
            rule(r, &format!("spec.matchConstraints.resourceRules[{i}]"), out);
        }
    }
    conditions(&spec["matchConditions"], spec.get("paramKind").is_some(), "spec.matchConditions", out);
    for (i, v) in spec["variables"].items().iter().enumerate() {
        let name = text(v, "name");
        let identifier =
            name.chars().enumerate().all(|(i, c)| c == '_' || c.is_ascii_alphabetic() || i > 0 && c.is_ascii_digit());
        if name.is_empty() {
            out.push(FieldError::required(format!("spec.variables[{i}].name"), "name is not specified"));
        } else if !identifier {
            let why = "must be a valid CEL identifier";
            out.push(FieldError::invalid(format!("spec.variables[{i}].name"), name, why));
        }
        let at = format!("spec.variables[{i}].expression");
        let ty = scope.expression(&v["expression"], at, "expression is not specified", &ANYTHING, out);
        scope.declare(name, ty.as_ref());
    }
    scope
}

fn validations(new: &Value, scope: &Variables, out: &mut Errors) {
    let spec = &new["spec"];
    for (i, v) in spec["validations"].items().iter().enumerate() {
        let at = format!("spec.validations[{i}]");
        scope.expression(&v["expression"], format!("{at}.expression"), "expression is not specified", &TRUTH, out);
        let (message, place) = (text(v, "messageExpression"), format!("{at}.messageExpression"));
        if !message.is_empty() && message.trim().is_empty() {
            out.push(FieldError::invalid(place, message, "must be non-empty if specified"));
        } else if !message.is_empty() {
            scope.without_authorizer().expression(&v["messageExpression"], place, "", &MESSAGE, out);
        }
        if !text(v, "message").is_empty() && text(v, "message").trim().is_empty() {
            let why = "must be non-empty if specified";
            out.push(FieldError::invalid(format!("{at}.message"), text(v, "message"), why));
        } else if text(v, "message").trim().contains(['\n', '\r']) {
            let why = "must not contain line breaks";
            out.push(FieldError::invalid(format!("{at}.message"), text(v, "message"), why));
        }
        one_of(v, "reason", &["Forbidden", "Invalid", "RequestEntityTooLarge"], &at, out);
    }
    let mut keys = HashSet::new();
    for (i, a) in spec["auditAnnotations"].items().iter().enumerate() {
        let at = format!("spec.auditAnnotations[{i}]");
        let key = format!("{}/{}", new.str_at(["metadata", "name"]).unwrap_or_default(), text(a, "key"));
        let wrong = is_qualified_name(&key).into_iter();
        out.extend(wrong.map(|why| FieldError::invalid(format!("{at}.key"), key.as_str(), why)));
        let missing = "valueExpression is not specified";
        scope.expression(&a["valueExpression"], format!("{at}.valueExpression"), missing, &NOTE, out);
        if !keys.insert(text(a, "key")) {
            out.push(FieldError::duplicate(format!("{at}.key"), text(a, "key")));
        }
    }
}

/// A binding's own fields; what is missing altogether the table says.
pub(crate) fn binding(new: &Value, out: &mut Errors) {
    let spec = &new["spec"];
    let name = text(spec, "policyName");
    if !name.is_empty() {
        out.extend(is_dns1123_subdomain(name).into_iter().map(|w| FieldError::invalid("spec.policyName", name, w)));
    }
    if let Some(p) = spec.get("paramRef") {
        match (text(p, "name").is_empty(), p.get("selector").is_none()) {
            (true, true) => {
                out.push(FieldError::required("spec.paramRef", "one of name or selector must be specified"));
            }
            (false, false) => {
                for key in ["name", "selector"] {
                    let why = "name and selector are mutually exclusive";
                    out.push(FieldError::forbidden(format!("spec.paramRef.{key}"), why));
                }
            }
            _ => {}
        }
        if text(p, "parameterNotFoundAction").is_empty() {
            out.push(FieldError::required("spec.paramRef.parameterNotFoundAction", ""));
        } else {
            one_of(p, "parameterNotFoundAction", &["Deny", "Allow"], "spec.paramRef", out);
        }
    }
    let actions = words(spec, "validationActions");
    for (i, a) in actions.iter().enumerate() {
        let at = format!("spec.validationActions[{i}]");
        if !["Audit", "Deny", "Warn"].contains(a) {
            out.push(FieldError::not_supported(at, *a, &["Audit", "Deny", "Warn"]));
        } else if actions.iter().take(i).any(|b| b == a) {
            out.push(FieldError::duplicate(at, *a));
        }
    }
    if actions.contains(&"Deny") && actions.contains(&"Warn") {
        let why = "must not contain both Deny and Warn (repeating the same validation failure information in the API response and headers serves no purpose)";
        out.push(FieldError::invalid("spec.validationActions", spec["validationActions"].clone(), why));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use druse_object::json;

    fn judged(f: fn(&Value, &mut Errors), object: &str) -> Vec<String> {
        let mut out = Vec::new();
        f(&json::parse(object.as_bytes()).unwrap(), &mut out);
        out.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_webhook_needs_a_place_and_says_what_it_does() {
        let good = r#"{"name":"a.example.org","clientConfig":{"service":{"name":"a","namespace":"b","path":"/x"}},"sideEffects":"None","admissionReviewVersions":["v1"]"#;
        assert_eq!(judged(configuration, &format!(r#"{{"webhooks":[{good}}}]}}"#)), [""; 0]);
        assert_eq!(
            judged(
                configuration,
                r#"{"webhooks":[{"name":"short","clientConfig":{"url":"http://x/"},"timeoutSeconds":40,"sideEffects":"Some","admissionReviewVersions":["v9"]}]}"#
            ),
            [
                r#"webhooks[0].name: Invalid value: "short": should be a domain with at least three segments separated by dots"#,
                r#"webhooks[0].sideEffects: Unsupported value: "Some": supported values: "None", "NoneOnDryRun""#,
                "webhooks[0].timeoutSeconds: Invalid value: 40: the timeout value must be between 1 and 30 seconds",
                r#"webhooks[0].clientConfig.url: Invalid value: "http": 'https' is the only allowed URL scheme; desired format: https://host[/path]"#,
                r#"webhooks[0].admissionReviewVersions: Invalid value: ["v9"]: must include at least one of v1, v1beta1"#,
            ]
        );
    }

    #[test]
    fn a_policys_expressions_can_be_read() {
        let policy_of = |validation: &str| {
            format!(
                r#"{{"spec":{{"matchConstraints":{{"resourceRules":[{{"operations":["*"],"apiGroups":["*"],"apiVersions":["*"],"resources":["*"]}}]}},"validations":[{validation}]}}}}"#
            )
        };
        assert_eq!(judged(policy, &policy_of(r#"{"expression":"true"}"#)), [""; 0]);
        assert_eq!(judged(policy, &policy_of(r#"{"expression":" "}"#)).len(), 1);
        assert!(judged(policy, &policy_of(r#"{"expression":"1 +"}"#))[0].contains("compilation failed"));
    }
}
