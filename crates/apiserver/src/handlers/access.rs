//! Reviews of access: what they may say (`k8s.io/kubernetes/pkg/apis/authorization/validation`), and the answer of the
//! authorizer. Roles know no selectors: one that can be read changes nothing, one that cannot is told of.

use druse_object::{Map, Str, Value};

use super::Call;
use crate::auth::{Attributes, Decision, User};
use crate::field::FieldError;
use crate::selector::{LabelSelector, field_terms};
use crate::status::Status;
use crate::validate::{At, label_requirement, selector_operator};

/// The group of these reviews.
pub const GROUP: &str = "authorization.k8s.io";

/// Judges a review.
///
/// # Errors
/// 422 with all that is wrong with it.
pub fn check(call: &Call, review: &Value) -> Result<(), Status> {
    let kind = call.resource.plural.as_str();
    if kind == "selfsubjectrulesreviews" {
        return Ok(());
    }
    let local = kind == "localsubjectaccessreviews";
    let mut errors = Vec::new();
    let top = At::new(review, "");
    let spec = top.child("spec");
    let (about, path) = (spec.child("resourceAttributes"), spec.child("nonResourceAttributes"));
    if about.is_given() && path.is_given() {
        path.bad(shown(&path), "cannot be specified in combination with resourceAttributes", &mut errors);
    }
    if !about.is_given() && !path.is_given() {
        let why = "exactly one of nonResourceAttributes or resourceAttributes must be specified";
        about.bad(Value::Null, why, &mut errors);
    }
    let someone = !spec.text_of("user").is_empty() || spec.child("groups").len() > 0;
    if kind != "selfsubjectaccessreviews" && !someone {
        spec.child("user").bad("", "at least one of user or group must be specified", &mut errors);
    }
    for (key, of_labels) in [("fieldSelector", false), ("labelSelector", true)] {
        if let Some(selector) = about.get(key) {
            check_selector(&selector, of_labels, &mut errors);
        }
    }
    errors.extend(check_metadata(review, local));
    if local && about.is_given() && about.text_of("namespace") != call.namespace() {
        about.child("namespace").bad(about.text_of("namespace"), "must match metadata.namespace", &mut errors);
    }
    if local && path.is_given() {
        path.bad(shown(&path), "disallowed on this kind of request", &mut errors);
    }
    if errors.is_empty() { Ok(()) } else { Err(Status::invalid(GROUP, "", "", &errors)) }
}

/// Reviews have no metadata, but for the namespace of local ones.
fn check_metadata(review: &Value, local: bool) -> Option<FieldError> {
    let meta = review.get("metadata").and_then(Value::as_map)?;
    let may = |k: &str| k == "managedFields" || local && k == "namespace";
    let said = meta.iter().any(|(k, v)| !v.is_null() && !may(k));
    let why = if local { "must be empty except for namespace" } else { "must be empty" };
    said.then(|| FieldError::invalid("metadata", review["metadata"].clone(), why))
}

/// A path and a verb as Go names their fields.
fn shown(path: &At<'_, '_>) -> Value {
    let mut m = Map::new();
    m.insert("Path", path.text_of("path"));
    m.insert("Verb", path.text_of("verb"));
    Value::Map(m)
}

/// A selector says what it selects in one of two ways. Operators of later versions are left to these.
fn check_selector(selector: &At<'_, '_>, of_labels: bool, out: &mut Vec<FieldError>) {
    let (raw, requirements) = (selector.child("rawSelector"), selector.child("requirements"));
    match (raw.text().is_empty(), requirements.len() == 0) {
        (false, false) => raw.invalid("may not specified at the same time as requirements", out),
        (true, true) => {
            let why = format!("when {} is specified, requirements or rawSelector is required", selector.path());
            requirements.required(why, out);
        }
        _ => {}
    }
    for r in requirements.items() {
        if of_labels {
            label_requirement(r.value(), &r.path(), true, out);
            continue;
        }
        if r.text_of("key").is_empty() {
            r.child("key").required("must be specified", out);
        }
        selector_operator(r.value(), &r.path(), true, out);
    }
}

/// Whom a review is about.
#[must_use]
pub fn reviewed_user(spec: &Value) -> User {
    let groups = spec["groups"].items().iter().filter_map(Value::as_str).map(Str::from).collect();
    User { name: spec.str_at(["user"]).unwrap_or_default().into(), groups, ..User::default() }
}

fn attributes_of(spec: &Value) -> Attributes {
    let text = |v: &Value, k: &str| Str::from(v[k].as_str().unwrap_or_default());
    match spec.get("resourceAttributes") {
        Some(r) => Attributes {
            verb: text(r, "verb"),
            namespace: text(r, "namespace"),
            group: text(r, "group"),
            resource: text(r, "resource"),
            subresource: text(r, "subresource"),
            name: text(r, "name"),
            path: Str::default(),
        },
        None => {
            let n = &spec["nonResourceAttributes"];
            Attributes { verb: text(n, "verb"), path: text(n, "path"), ..Attributes::default() }
        }
    }
}

/// What could not be taken into account: selectors that cannot be read, all of them or in part.
fn ignored(spec: &Value) -> Option<String> {
    let about = &spec["resourceAttributes"];
    let mut out = Vec::new();
    for (key, operators) in
        [("fieldSelector", ["In", "NotIn"].as_slice()), ("labelSelector", &["In", "NotIn", "Exists", "DoesNotExist"])]
    {
        let selector = &about[key];
        let raw = selector["rawSelector"].as_str().filter(|t| !t.is_empty());
        let readable = raw.is_none_or(|t| match key {
            "labelSelector" => LabelSelector::parse(t).is_ok(),
            _ => field_terms(t).is_ok(),
        });
        let known = |r: &&Value| {
            let operator = r.str_at(["operator"]).unwrap_or_default();
            // A field has one value, so only one can be asked for.
            operators.contains(&operator) && (key == "labelSelector" || r["values"].items().len() == 1)
        };
        let (all, fine) = (selector["requirements"].items(), selector["requirements"].items().iter().filter(known));
        let fine = fine.count();
        if !readable || fine < all.len() {
            let how = if fine > 0 { "partially ignored" } else { "ignored" };
            out.push(format!("spec.resourceAttributes.{key} {how} due to parse error"));
        }
    }
    (!out.is_empty()).then(|| out.join("; "))
}

/// The authorizer's answer as a review's status.
#[must_use]
pub fn decide(call: &Call, user: &User, spec: &Value) -> Map {
    let mut status = Map::new();
    match call.shared.authorizer.decide(user, &attributes_of(spec)) {
        Decision::Allow(reason) => {
            status.insert("allowed", true);
            if !reason.is_empty() {
                status.insert("reason", reason);
            }
        }
        Decision::NoOpinion => {
            status.insert("allowed", false);
        }
    }
    if let Some(why) = ignored(spec) {
        status.insert("evaluationError", why);
    }
    status
}

/// What a user may do in a namespace, as far as roles say.
#[must_use]
pub fn rules(call: &Call, spec: &Value) -> Map {
    let namespace = spec.str_at(["namespace"]).unwrap_or_default();
    let list = |l: &[Str]| l.iter().cloned().collect::<Value>();
    let (mut resources, mut paths) = (Vec::new(), Vec::new());
    for r in call.shared.authorizer.rules(&call.user, namespace) {
        let mut m = Map::new();
        m.insert("verbs", list(&r.verbs));
        if r.paths.is_empty() {
            m.insert("apiGroups", list(&r.groups));
            m.insert("resources", list(&r.resources));
            if !r.names.is_empty() {
                m.insert("resourceNames", list(&r.names));
            }
            resources.push(Value::Map(m));
        } else {
            m.insert("nonResourceURLs", list(&r.paths));
            paths.push(Value::Map(m));
        }
    }
    let mut status = Map::new();
    status.insert("resourceRules", resources);
    status.insert("nonResourceRules", paths);
    status.insert("incomplete", false);
    status
}
