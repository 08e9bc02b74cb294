//! Services, configuration, storage, access: the rules of the kinds that are no workloads.

use base64::Engine as _;
use druse_object::{Gvk, Map, Value};

use super::at::{Errors, each, text};
use super::meta::immutable;
use super::names::{NameRule, config_key_errors};
use crate::field::{FieldError, FieldErrorKind};

const MAX_DATA: usize = 1024 * 1024;

fn data_size(v: &Value, keys: &[&str]) -> usize {
    keys.iter().flat_map(|k| v[k].as_map()).flat_map(Map::iter).map(|(_, v)| v.as_str().map_or(0, str::len)).sum()
}

fn immutable_data(new: &Value, old: Option<&Value>, keys: &[&str], out: &mut Errors) {
    let Some(old) = old else { return };
    if old["immutable"].as_bool() != Some(true) {
        return;
    }
    if new["immutable"].as_bool() != Some(true) {
        out.push(FieldError::forbidden("immutable", "field is immutable when `immutable` is set"));
    }
    for key in keys {
        if new[key] != old[key] {
            out.push(FieldError::forbidden(*key, "field is immutable when `immutable` is set"));
        }
    }
}

/// ConfigMaps.
pub(crate) fn config_map(new: &Value, old: Option<&Value>, out: &mut Errors) {
    immutable_data(new, old, &["data", "binaryData"], out);
    for key in ["data", "binaryData"] {
        for (k, _) in new[key].as_map().into_iter().flat_map(Map::iter) {
            each(config_key_errors(k), &format!("{key}[{k}]"), k, out);
            if key == "data" && new["binaryData"].get(k).is_some() {
                out.push(FieldError::invalid(
                    format!("data[{k}]"),
                    k.clone(),
                    "duplicate of key present in binaryData",
                ));
            }
        }
    }
    if data_size(new, &["data"]) + data_size(new, &["binaryData"]) / 4 * 3 > MAX_DATA {
        out.push(FieldError::new(FieldErrorKind::TooLong, "", None, format!("may not be more than {MAX_DATA} bytes")));
    }
}

/// Secrets.
pub(crate) fn secret(new: &Value, old: Option<&Value>, out: &mut Errors) {
    if let Some(old) = old {
        immutable(&new["type"], &old["type"], "type", out);
    }
    immutable_data(new, old, &["data"], out);
    for (k, _) in new["data"].as_map().into_iter().flat_map(Map::iter) {
        each(config_key_errors(k), &format!("data[{k}]"), k, out);
    }
    if data_size(new, &["data"]) / 4 * 3 > MAX_DATA {
        out.push(FieldError::new(
            FieldErrorKind::TooLong,
            "data",
            None,
            format!("may not be more than {MAX_DATA} bytes"),
        ));
    }
    let needs: &[&str] = match text(new, "type") {
        "kubernetes.io/tls" => &["tls.crt", "tls.key"],
        "kubernetes.io/dockercfg" => &[".dockercfg"],
        "kubernetes.io/dockerconfigjson" => &[".dockerconfigjson"],
        "kubernetes.io/ssh-auth" => &["ssh-privatekey"],
        _ => &[],
    };
    for key in needs {
        match new["data"].get(key) {
            None => out.push(FieldError::required(format!("data[{key}]"), "")),
            Some(v) if key.starts_with(".docker") => {
                let bytes = base64::engine::general_purpose::STANDARD.decode(v.as_str().unwrap_or_default());
                if let Err(e) = druse_object::json::parse(&bytes.unwrap_or_default()) {
                    out.push(FieldError::invalid(format!("data[{key}]"), "<secret contents redacted>", e.message));
                }
            }
            Some(_) => {}
        }
    }
    if text(new, "type") == "kubernetes.io/basic-auth" {
        let has = |key: &str| new["data"].get(key).is_some();
        if !has("username") && !has("password") {
            out.push(FieldError::required("data[username]", ""));
            out.push(FieldError::required("data[password]", ""));
        }
    }
    if text(new, "type") == "kubernetes.io/service-account-token"
        && new["metadata"]["annotations"].get("kubernetes.io/service-account.name").is_none()
    {
        out.push(FieldError::required("metadata.annotations[kubernetes.io/service-account.name]", ""));
    }
}

/// Roles.
pub(crate) fn role(new: &Value, out: &mut Errors) {
    for (i, rule) in new["rules"].items().iter().enumerate() {
        let path = format!("rules[{i}]");
        let size = |key: &str| rule[key].items().len();
        if size("verbs") == 0 {
            out.push(FieldError::required(format!("{path}.verbs"), "verbs must contain at least one value"));
        }
        if size("nonResourceURLs") > 0 {
            if new["kind"].as_str() == Some("Role") {
                out.push(FieldError::invalid(
                    format!("{path}.nonResourceURLs"),
                    rule["nonResourceURLs"].clone(),
                    "namespaced rules cannot apply to non-resource URLs",
                ));
            }
            if size("apiGroups") + size("resources") + size("resourceNames") > 0 {
                out.push(FieldError::invalid(
                    format!("{path}.nonResourceURLs"),
                    rule["nonResourceURLs"].clone(),
                    "rules cannot apply to both regular resources and non-resource URLs",
                ));
            }
            continue;
        }
        if size("apiGroups") == 0 {
            out.push(FieldError::required(
                format!("{path}.apiGroups"),
                "resource rules must supply at least one api group",
            ));
        }
        if size("resources") == 0 {
            out.push(FieldError::required(
                format!("{path}.resources"),
                "resource rules must supply at least one resource",
            ));
        }
    }
    let aggregation = &new["aggregationRule"];
    if !aggregation.is_null() && aggregation["clusterRoleSelectors"].items().is_empty() {
        let why = "at least one clusterRoleSelector required if aggregationRule is non-nil";
        out.push(FieldError::required("aggregationRule.clusterRoleSelectors", why));
    }
    for (i, s) in aggregation["clusterRoleSelectors"].items().iter().enumerate() {
        let path = format!("aggregationRule.clusterRoleSelectors[{i}]");
        let before = out.len();
        super::meta::label_selector(s, &path, out);
        if out.len() > before {
            out.push(FieldError::invalid(path, Value::Null, "invalid label selector."));
        }
    }
}

/// Role bindings.
pub(crate) fn binding(new: &Value, old: Option<&Value>, gvk: &Gvk, out: &mut Errors) {
    let role = &new["roleRef"];
    let group = text(role, "apiGroup");
    if group != "rbac.authorization.k8s.io" {
        out.push(FieldError::not_supported("roleRef.apiGroup", group, &["rbac.authorization.k8s.io"]));
    }
    let kinds: &[&str] = if gvk.kind == "RoleBinding" { &["Role", "ClusterRole"] } else { &["ClusterRole"] };
    if !kinds.contains(&text(role, "kind")) {
        out.push(FieldError::not_supported("roleRef.kind", text(role, "kind"), kinds));
    }
    if text(role, "name").is_empty() {
        out.push(FieldError::required("roleRef.name", ""));
    } else {
        let name = text(role, "name");
        each(NameRule::PathSegment.errors(name, false), "roleRef.name", name, out);
    }
    for (i, s) in new["subjects"].items().iter().enumerate() {
        let path = format!("subjects[{i}]");
        if text(s, "name").is_empty() {
            out.push(FieldError::required(format!("{path}.name"), ""));
        }
        let group = text(s, "apiGroup");
        match text(s, "kind") {
            "ServiceAccount" => {
                if !group.is_empty() {
                    out.push(FieldError::not_supported(format!("{path}.apiGroup"), group, &[""]));
                }
                let name = text(s, "name");
                if !name.is_empty() {
                    super::meta::subdomain_field(name, &format!("{path}.name"), out);
                }
                if gvk.kind != "RoleBinding" && text(s, "namespace").is_empty() {
                    out.push(FieldError::required(format!("{path}.namespace"), ""));
                }
            }
            "User" | "Group" => {
                if group != "rbac.authorization.k8s.io" {
                    out.push(FieldError::not_supported(
                        format!("{path}.apiGroup"),
                        group,
                        &["rbac.authorization.k8s.io"],
                    ));
                }
            }
            other => {
                out.push(FieldError::not_supported(
                    format!("{path}.kind"),
                    other,
                    &["ServiceAccount", "User", "Group"],
                ));
            }
        }
    }
    if let Some(old) = old
        && &old["roleRef"] != role
    {
        // Upstream shows the internal struct here, whose fields have no JSON names.
        let mut shown = Map::new();
        for (key, from) in [("APIGroup", "apiGroup"), ("Kind", "kind"), ("Name", "name")] {
            shown.insert(key, text(role, from));
        }
        out.push(FieldError::invalid("roleRef", shown, "cannot change roleRef"));
    }
}

/// The classes that the system brings: name and value.
const SYSTEM_CLASSES: [(&str, i64); 2] =
    [("system-node-critical", 2_000_001_000), ("system-cluster-critical", 2_000_000_000)];

/// Whether a class is one that the system brings.
pub(crate) fn is_system_priority(name: &str) -> bool {
    SYSTEM_CLASSES.iter().any(|(n, _)| *n == name)
}

/// Why a class that has a name of the system's is none of its.
fn not_the_systems(new: &Value, name: &str) -> Option<String> {
    let Some((_, value)) = SYSTEM_CLASSES.iter().find(|(n, _)| *n == name) else {
        return Some(format!("{name} is not a known system priority class"));
    };
    if new["value"].as_i64().unwrap_or(0) != *value {
        return Some(format!("value of {name} PriorityClass must be {value}"));
    }
    let default = new["globalDefault"].as_bool() == Some(true);
    default.then(|| format!("globalDefault of {name} PriorityClass must be false"))
}

/// Priority classes.
pub(crate) fn priority_class(new: &Value, old: Option<&Value>, out: &mut Errors) {
    let name = text(&new["metadata"], "name");
    let (value, policy) = (new["value"].as_i64().unwrap_or(0), &new["preemptionPolicy"]);
    if let Some(old) = old {
        if old["value"] != new["value"] {
            out.push(FieldError::forbidden("value", "may not be changed in an update."));
        }
        return immutable(policy, &old["preemptionPolicy"], "preemptionPolicy", out);
    }
    if name.starts_with("system-") {
        if let Some(why) = not_the_systems(new, name) {
            let why =
                format!("priority class names with 'system-' prefix are reserved for system use only. error: {why}");
            out.push(FieldError::forbidden("metadata.name", why));
        }
    } else if value > 1_000_000_000 {
        out.push(FieldError::forbidden("value", "maximum allowed value of a user defined priority is 1000000000"));
    }
    // Upstream lists these unsorted.
    const POLICIES: [&str; 2] = ["PreemptLowerPriority", "Never"];
    match policy.as_str() {
        Some("") => out.push(FieldError::required("preemptionPolicy", "")),
        Some(p) if !POLICIES.contains(&p) => {
            out.push(FieldError::not_supported("preemptionPolicy", p, &POLICIES));
        }
        _ => {}
    }
}
