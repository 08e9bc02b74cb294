//! The rules a CRD object obeys (`k8s.io/apiextensions-apiserver` `apis/apiextensions/validation` and
//! `apiserver/schema`): here those of the object as a whole and its names, in [`version`] those of one version, in
//! [`schema`] what a schema may say, in [`structural`] that it says what every field is.

mod schema;
mod structural;
mod version;

use druse_object::Value;

use self::schema::root_schema;
use self::version::{columns, deprecation, go_version, subresources};
use super::{flag, text, versions};
use crate::field::FieldError;
use crate::validate::is_dns1123_subdomain;

type Errors = Vec<FieldError>;

/// Judges a new CRD beyond its metadata; it is decoded and defaulted.
#[must_use]
pub fn validate_crd(crd: &Value) -> Errors {
    let mut out = Vec::new();
    let (group, plural) = (text(crd, &["spec", "group"]), text(crd, &["spec", "names", "plural"]));
    let name = text(crd, &["metadata", "name"]);
    let wanted = format!("{plural}.{group}");
    for (key, name) in [("generateName", text(crd, &["metadata", "generateName"])), ("name", name)] {
        if !name.is_empty() && name != wanted {
            let why = "must be spec.names.plural+\".\"+spec.group";
            out.push(FieldError::invalid(format!("metadata.{key}"), name, why));
        }
    }
    spec(crd, None, &mut out);
    approval(crd, None, &mut out);
    let stored = versions(crd).iter().any(|v| flag(v, "storage"));
    if !stored {
        let why = "must have at least one stored version";
        out.push(FieldError::invalid("status.storedVersions", Value::Null, why));
    }
    out
}

/// Judges a changed CRD.
#[must_use]
pub fn validate_crd_update(new: &Value, old: &Value) -> Errors {
    let mut out = Vec::new();
    spec(new, Some(old), &mut out);
    let established = crate::crd::is_condition_true(old, "Established");
    let mut fixed = |path: &[&str], always: bool| {
        let get = |v: &Value| path.iter().try_fold(v, |v, k| v.get(k)).cloned().unwrap_or_default();
        if (always || established) && get(new) != get(old) {
            out.push(FieldError::invalid(path.join("."), get(new), "field is immutable"));
        }
    };
    fixed(&["spec", "scope"], false);
    fixed(&["spec", "names", "kind"], false);
    fixed(&["spec", "group"], true);
    fixed(&["spec", "names", "plural"], true);
    stored_versions(new, &mut out);
    approval(new, Some(old), &mut out);
    out
}

fn stored_versions(crd: &Value, out: &mut Errors) {
    let stored = crd.at(["status", "storedVersions"]).map(Value::items).unwrap_or_default();
    let names: Vec<&str> = versions(crd).iter().map(|v| text(v, &["name"])).collect();
    for (i, v) in stored.iter().enumerate() {
        let v = v.as_str().unwrap_or_default();
        if !names.contains(&v) {
            out.push(FieldError::invalid(
                format!("status.storedVersions[{i}]"),
                v,
                format!(
                    "missing from spec.versions; {v} was previously a storage version, and must remain in spec.versions until a storage migration ensures no data remains persisted in {v} and removes {v} from status.storedVersions"
                ),
            ));
        }
    }
}

fn spec(crd: &Value, old: Option<&Value>, out: &mut Errors) {
    let group = text(crd, &["spec", "group"]);
    if group.is_empty() {
        out.push(FieldError::required("spec.group", ""));
    } else {
        let errors = is_dns1123_subdomain(group);
        if !errors.is_empty() {
            out.push(FieldError::invalid("spec.group", group, errors.join(",")));
        } else if !group.contains('.') {
            out.push(FieldError::invalid("spec.group", group, "should be a domain with at least one dot"));
        }
    }
    match text(crd, &["spec", "scope"]) {
        "Cluster" | "Namespaced" => {}
        "" => out.push(FieldError::required("spec.scope", "")),
        other => out.push(FieldError::not_supported("spec.scope", other, &["Cluster", "Namespaced"])),
    }
    let list = versions(crd);
    for (i, v) in list.iter().enumerate() {
        if v.at(["schema", "openAPIV3Schema"]).is_none() {
            out.push(FieldError::required(format!("spec.versions[{i}].schema.openAPIV3Schema"), ""));
        }
        deprecation(v, &format!("spec.versions[{i}].deprecationWarning"), out);
    }
    let mut names: Vec<&str> = Vec::new();
    let mut storage = 0;
    let mut unique = true;
    for (i, v) in list.iter().enumerate() {
        let name = text(v, &["name"]);
        let errors = crate::validate::NameRule::Label1035.errors(name, false);
        if !errors.is_empty() {
            out.push(FieldError::invalid(format!("spec.versions[{i}].name"), name, errors.join(",")));
        }
        unique &= !names.contains(&name);
        names.push(name);
        storage += usize::from(v.get("storage").and_then(Value::as_bool) == Some(true));
    }
    let shown = || match crd["spec"].get("versions") {
        Some(Value::Array(_)) => Value::Array(list.iter().map(go_version).collect()),
        _ => Value::Null,
    };
    if !unique {
        out.push(FieldError::invalid("spec.versions", shown(), "must contain unique version names"));
    }
    if storage != 1 {
        out.push(FieldError::invalid(
            "spec.versions",
            shown(),
            "must have exactly one version marked as storage version",
        ));
    }
    if let Some(first) = list.first().map(|v| text(v, &["name"])) {
        let errors = crate::validate::NameRule::Label1035.errors(first, false);
        if !errors.is_empty() {
            out.push(FieldError::invalid("spec.version", first, errors.join(",")));
        }
    }
    if crd.at(["spec", "preserveUnknownFields"]) == Some(&Value::Bool(true)) {
        let why =
            "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead";
        out.push(FieldError::invalid("spec.preserveUnknownFields", true, why));
    }
    for key in ["plural", "singular", "kind", "listKind"] {
        if text(crd, &["spec", "names", key]).is_empty() {
            out.push(FieldError::required(format!("spec.names.{key}"), ""));
        }
    }
    names_rules(crd, out);
    // One schema for all versions is one schema upstream: errors then name the place it has inside the server.
    let first = list.first().and_then(|v| v.get("schema"));
    let shared = list.iter().all(|v| v.get("schema") == first);
    for (i, v) in list.iter().enumerate() {
        let at = if shared {
            "spec.validation.openAPIV3Schema".to_string()
        } else {
            format!("spec.versions[{i}].schema.openAPIV3Schema")
        };
        if let Some(schema) = v.at(["schema", "openAPIV3Schema"]) {
            if !(shared && i > 0) {
                let named = |o: &&Value| o.get("name") == v.get("name");
                let before = old.and_then(|o| versions(o).iter().find(named));
                let unchanged = before.is_some_and(|o| o.at(["schema", "openAPIV3Schema"]) == Some(schema));
                root_schema(schema, &at, v, unchanged, out);
            }
            let alike = |key: &str| list.iter().all(|o| o.get(key) == v.get(key));
            let place = if alike("additionalPrinterColumns") && alike("selectableFields") {
                "spec".to_owned()
            } else {
                format!("spec.versions[{i}]")
            };
            if !(place == "spec" && i > 0) {
                columns(v, &place, out);
            }
            subresources(
                v,
                &if shared { "spec.subresources".to_string() } else { format!("spec.versions[{i}].subresources") },
                i > 0 && shared,
                out,
            );
        }
    }
    if let Some(conversion) = crd.at(["spec", "conversion"]) {
        match text(conversion, &["strategy"]) {
            "None" => {
                const UNUSED: &str = "should not be set when strategy is not set to Webhook";
                if conversion.at(["webhook", "clientConfig"]).is_some() {
                    out.push(FieldError::forbidden("spec.conversion.webhookClientConfig", UNUSED));
                }
                if conversion.at(["webhook", "conversionReviewVersions"]).is_some_and(|v| !v.items().is_empty()) {
                    out.push(FieldError::forbidden("spec.conversion.conversionReviewVersions", UNUSED));
                }
            }
            "Webhook" => webhook(&conversion["webhook"], out),
            "" => out.push(FieldError::required("spec.conversion.strategy", "")),
            other => out.push(FieldError::not_supported("spec.conversion.strategy", other, &["None", "Webhook"])),
        }
    }
}

/// The webhook that converts.
fn webhook(webhook: &Value, out: &mut Errors) {
    let path = "spec.conversion.webhookClientConfig";
    let config = &webhook["clientConfig"];
    if config.is_null() {
        out.push(FieldError::required(path, "required when strategy is set to Webhook"));
    } else if config["url"].is_null() == config["service"].is_null() {
        out.push(FieldError::required(path, "exactly one of url or service is required"));
    } else {
        crate::validate::webhook_client(config, path, out);
    }
    let path = "spec.conversion.conversionReviewVersions";
    let versions = webhook["conversionReviewVersions"].items();
    if versions.is_empty() {
        out.push(FieldError::required(path, ""));
    } else if !versions.iter().any(|v| matches!(v.as_str(), Some("v1" | "v1beta1"))) {
        let shown = webhook["conversionReviewVersions"].clone();
        out.push(FieldError::invalid(path, shown, "must include at least one of v1, v1beta1"));
    }
}

/// Groups of the Kubernetes project want a link to who approved them.
pub(in crate::crd) fn approval(new: &Value, old: Option<&Value>, out: &mut Errors) {
    const KEY: &str = "api-approved.kubernetes.io";
    const SEE: &str = "see https://github.com/kubernetes/enhancements/pull/1111";
    let group = text(new, &["spec", "group"]);
    let protected = ["k8s.io", "kubernetes.io"]
        .iter()
        .any(|g| group == *g || group.strip_suffix(g).is_some_and(|rest| rest.ends_with('.')));
    let said = |v: &Value| v.str_at(["metadata", "annotations", KEY]).map(str::to_owned);
    if !protected || old.is_some_and(|o| said(o) == said(new)) {
        return;
    }
    let path = format!("metadata.annotations[{KEY}]");
    let words = format!("protected groups must have approval annotation \"{KEY}\"");
    match said(new) {
        None => out.push(FieldError::required(path, format!("{words}, {SEE}"))),
        Some(s) if s.starts_with("unapproved") => {}
        Some(s) if s.split_once("://").is_some_and(|(scheme, rest)| !scheme.is_empty() && !rest.is_empty()) => {}
        Some(s) => {
            let why = format!("{words} with either a URL or a reason starting with \"unapproved\", {SEE}");
            out.push(FieldError::invalid(path, s, why));
        }
    }
}

fn names_rules(crd: &Value, out: &mut Errors) {
    let label = |v: &str, path: String, out: &mut Errors| {
        let errors = crate::validate::NameRule::Label1035.errors(v, false);
        if !v.is_empty() && !errors.is_empty() {
            out.push(FieldError::invalid(path, v, errors.join(",")));
        }
    };
    for key in ["plural", "singular"] {
        label(text(crd, &["spec", "names", key]), format!("spec.names.{key}"), out);
    }
    for key in ["kind", "listKind"] {
        let v = text(crd, &["spec", "names", key]);
        let errors = crate::validate::NameRule::Label1035.errors(&v.to_lowercase(), false);
        if !v.is_empty() && !errors.is_empty() {
            let text = format!("may have mixed case, but should otherwise match: {}", errors.join(","));
            out.push(FieldError::invalid(format!("spec.names.{key}"), v, text));
        }
    }
    let (kind, list_kind) = (text(crd, &["spec", "names", "kind"]), text(crd, &["spec", "names", "listKind"]));
    if !kind.is_empty() && kind == list_kind {
        out.push(FieldError::invalid("spec.names.listKind", list_kind, "kind and listKind may not be the same"));
    }
    for key in ["shortNames", "categories"] {
        let list = crd.at(["spec", "names"]).and_then(|n| n.get(key)).map(Value::items).unwrap_or_default();
        for (i, v) in list.iter().enumerate() {
            label(v.as_str().unwrap_or_default(), format!("spec.names.{key}[{i}]"), out);
        }
    }
}
