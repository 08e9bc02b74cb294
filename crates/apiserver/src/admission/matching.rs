//! What webhooks and policies have in common: how they are kept at hand, which writes they are about, and what their
//! expressions read.

use std::sync::Arc;

use druse_object::{Map, Value, json};
use parking_lot::Mutex;

use super::{Operation, Review};
use crate::cel::{Program, Val};
use crate::selector::LabelSelector;
use crate::server::Shared;

/// What all expressions of one webhook or policy may cost for one request, as upstream limits them.
pub const BUDGET: u64 = 10_000_000;

/// What is made of the objects of some kinds, kept until one of these changes.
pub struct Cache<T> {
    kinds: &'static [&'static str],
    read: fn(&Shared) -> T,
    /// The last change of each kind, and what was read then.
    kept: Mutex<Option<(Vec<u64>, Arc<T>)>>,
}

impl<T> Cache<T> {
    /// Keeps what `read` makes of the objects of these kinds.
    pub fn new(kinds: &'static [&'static str], read: fn(&Shared) -> T) -> Self {
        Self { kinds, read, kept: Mutex::default() }
    }

    /// What is made of the objects as they are now.
    pub fn current(&self, shared: &Shared) -> Arc<T> {
        let now: Vec<u64> = self.kinds.iter().map(|k| shared.store.last_change(k)).collect();
        let mut kept = self.kept.lock();
        match &*kept {
            Some((then, made)) if *then == now => made.clone(),
            _ => {
                let made = Arc::new((self.read)(shared));
                *kept = Some((now, made.clone()));
                made
            }
        }
    }
}

/// An expression, parsed, or why it could not be.
#[derive(Debug)]
pub struct Expression {
    /// As written.
    pub text: String,
    program: Result<Program, String>,
}

impl Expression {
    /// From an `expression` field.
    pub fn new(v: &Value) -> Self {
        let text = v.as_str().unwrap_or_default().to_owned();
        let program = Program::compile(&text).map_err(|e| e.to_string());
        Self { text, program }
    }

    /// Whether it holds.
    pub fn truth(&self, facts: &[(&str, Val<'_>)], budget: &mut u64) -> Result<bool, String> {
        self.program.as_ref().map_err(Clone::clone)?.eval_bool(facts, budget).map_err(|e| e.to_string())
    }

    /// Its value.
    pub fn value(&self, facts: &[(&str, Val<'_>)], budget: &mut u64) -> Result<Value, String> {
        let program = self.program.as_ref().map_err(Clone::clone)?;
        program.eval(facts, budget).map(|v| v.to_value()).map_err(|e| e.to_string())
    }
}

fn operation(o: Operation) -> &'static str {
    match o {
        Operation::Create => "CREATE",
        Operation::Update => "UPDATE",
        Operation::Delete => "DELETE",
        Operation::Connect => "CONNECT",
    }
}

fn any(list: &Value, x: &str) -> bool {
    list.items().iter().any(|v| matches!(v.as_str(), Some(s) if s == "*" || s == x))
}

/// Whether a write is among those a rule names when it is seen in `version`.
#[must_use]
pub fn rule_matches(rule: &Value, review: &Review<'_>, version: &str) -> bool {
    let plural = review.resource.plural.as_str();
    let on_resource = rule["resources"].items().iter().filter_map(Value::as_str).any(|r| {
        let (resource, sub) = r.split_once('/').unwrap_or((r, ""));
        (resource == "*" || resource == plural) && (sub == "*" || sub == review.subresource)
    });
    let scope = rule.str_at(["scope"]).unwrap_or("*");
    let names = &rule["resourceNames"];
    on_resource
        && any(&rule["operations"], operation(review.operation))
        && any(&rule["apiGroups"], &review.resource.group)
        && any(&rule["apiVersions"], version)
        && (scope == "*" || (scope == "Namespaced") == review.resource.namespaced)
        && (names.items().is_empty() || any(names, review.name))
}

/// The version in which rules see a write: its own, or with `Equivalent` matching another one of the same resource.
#[must_use]
pub fn matched_version<'a>(rules: &[Value], review: &'a Review<'_>, equivalent: bool) -> Option<&'a str> {
    let own = review.version;
    if rules.iter().any(|r| rule_matches(r, review, own)) {
        return Some(own);
    }
    if !equivalent {
        return None;
    }
    let others = review.resource.versions.iter().map(|v| v.name.as_str()).filter(|v| *v != own);
    others.into_iter().find(|v| rules.iter().any(|r| rule_matches(r, review, v)))
}

/// Whether the labels of the namespace and of the object are those selected.
#[must_use]
pub fn selected(shared: &Shared, review: &Review<'_>, m: &Value) -> bool {
    let labels_of = |o: &Value, selector: &LabelSelector| {
        selector.matches(|k| o.at(["metadata", "labels"]).and_then(|l| l.get(k)).and_then(Value::as_str))
    };
    let namespaces = LabelSelector::from_object(&m["namespaceSelector"]);
    if !namespaces.is_empty() {
        let is_namespace = review.resource.stored_as == "namespaces";
        let subject = if is_namespace {
            review.object.as_deref().or(review.old).cloned()
        } else if review.namespace.is_empty() {
            None
        } else {
            Some(shared.object("namespaces", "", review.namespace).unwrap_or_default())
        };
        if subject.is_some_and(|n| !labels_of(&n, &namespaces)) {
            return false;
        }
    }
    let objects = LabelSelector::from_object(&m["objectSelector"]);
    objects.is_empty() || [review.object.as_deref(), review.old].into_iter().flatten().any(|o| labels_of(o, &objects))
}

/// The request as expressions and webhooks read it, seen in `version`; without its objects.
#[must_use]
pub fn request(review: &Review<'_>, version: &str) -> Map {
    let r = review.resource;
    // A subresource with a form of its own is of another kind.
    let kind = |version: &str| {
        let sub = r.version(version).and_then(|v| v.subresources.iter().find(|s| s.name == review.subresource));
        let mut m = Map::new();
        match sub.map(|s| &s.kind) {
            Some(k) if review.object_is_subresource && k.version.is_empty() => {
                m.insert("group", r.group.clone());
                m.insert("version", version);
                m.insert("kind", k.kind.clone());
            }
            Some(k) if review.object_is_subresource => {
                m.insert("group", k.group.clone());
                m.insert("version", k.version.clone());
                m.insert("kind", k.kind.clone());
            }
            _ => {
                m.insert("group", r.group.clone());
                m.insert("version", version);
                m.insert("kind", r.kind.clone());
            }
        }
        m
    };
    let resource = |version: &str| {
        let mut m = Map::new();
        m.insert("group", r.group.clone());
        m.insert("version", version);
        m.insert("resource", r.plural.clone());
        m
    };
    let mut m = Map::new();
    m.insert("kind", kind(version));
    m.insert("resource", resource(version));
    m.insert("requestKind", kind(review.version));
    m.insert("requestResource", resource(review.version));
    if !review.subresource.is_empty() {
        m.insert("subResource", review.subresource);
        m.insert("requestSubResource", review.subresource);
    }
    if !review.name.is_empty() {
        m.insert("name", review.name);
    }
    let namespace = if r.stored_as == "namespaces" { review.name } else { review.namespace };
    if !namespace.is_empty() {
        m.insert("namespace", namespace);
    }
    m.insert("operation", operation(review.operation));
    m.insert("userInfo", review.user.to_value());
    m.insert("dryRun", review.dry_run);
    m.insert("options", options(review));
    m
}

/// The options of the request, as far as its query gives them.
fn options(review: &Review<'_>) -> Map {
    let mut m = Map::new();
    let patch = review.info.verb == "patch";
    let kind = match review.operation {
        Operation::Create if !patch => "CreateOptions",
        Operation::Delete => "DeleteOptions",
        _ if patch => "PatchOptions",
        _ => "UpdateOptions",
    };
    m.insert("kind", kind);
    m.insert("apiVersion", "meta.k8s.io/v1");
    if review.dry_run {
        m.insert("dryRun", Value::Array(vec!["All".into()]));
    }
    for key in ["fieldManager", "fieldValidation", "propagationPolicy"] {
        if let Some(v) = review.info.query.get(key).filter(|v| !v.is_empty()) {
            m.insert(key, v);
        }
    }
    if patch && review.info.query.get("force").is_some() {
        m.insert("force", review.info.query.flag("force"));
    }
    if let Some(g) = review.info.query.get("gracePeriodSeconds").and_then(|g| json::parse(g.as_bytes()).ok()) {
        m.insert("gracePeriodSeconds", g);
    }
    m
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_names_resources_but_subresources_only_after_a_slash() {
        let resource = crate::registry::Resource {
            plural: "pods".into(),
            kind: "Pod".into(),
            namespaced: true,
            versions: vec![crate::registry::Version { name: "v1".into(), ..Default::default() }],
            ..Default::default()
        };
        let (user, info, warnings) = (crate::auth::User::anonymous(), Default::default(), Default::default());
        let review = |subresource: &'static str| Review {
            operation: Operation::Create,
            resource: &resource,
            version: "v1",
            subresource,
            namespace: "ns",
            name: "p",
            object: None,
            old: None,
            object_is_subresource: false,
            user: &user,
            dry_run: false,
            info: &info,
            warnings: &warnings,
        };
        let rule = |resources: &str, more: &str| {
            let text = format!(
                r#"{{"apiGroups":[""],"apiVersions":["*"],"operations":["CREATE"],"resources":["{resources}"]{more}}}"#
            );
            json::parse(text.as_bytes()).unwrap_or_default()
        };
        assert!(rule_matches(&rule("*", ""), &review(""), "v1"));
        assert!(!rule_matches(&rule("*", ""), &review("eviction"), "v1"));
        assert!(rule_matches(&rule("*/*", ""), &review("eviction"), "v1"));
        assert!(rule_matches(&rule("pods/*", ""), &review("eviction"), "v1"));
        assert!(rule_matches(&rule("*/eviction", ""), &review("eviction"), "v1"));
        assert!(!rule_matches(&rule("pods", r#","scope":"Cluster""#), &review(""), "v1"));
        assert!(rule_matches(&rule("pods", r#","resourceNames":["p"]"#), &review(""), "v1"));
        assert!(!rule_matches(&rule("pods", r#","resourceNames":["q"]"#), &review(""), "v1"));
    }
}
