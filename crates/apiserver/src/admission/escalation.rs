//! Nobody grants more than they have: roles may only hold, and bindings only give, what the writer may do, unless the
//! writer may `escalate` the role or `bind` it.

use druse_object::{Str, Value};
use futures::future::{BoxFuture, ready};

use super::{Operation, Plugin, Review};
use crate::auth::rbac::PolicyRule;
use crate::auth::{Attributes, Decision, User};
use crate::server::Shared;
use crate::status::{Named, Status};

const GROUP: &str = "rbac.authorization.k8s.io";

/// The plugin.
pub struct Escalation;

impl Plugin for Escalation {
    fn name(&self) -> &'static str {
        "RBACEscalation"
    }

    fn validate<'a>(&'a self, shared: &'a Shared, review: &'a mut Review<'_>) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(ready(judge(shared, review)))
    }
}

fn judge(shared: &Shared, review: &Review<'_>) -> Result<(), Status> {
    let writes = matches!(review.operation, Operation::Create | Operation::Update);
    if review.resource.group != GROUP || !writes || review.user.groups.iter().any(|g| g == "system:masters") {
        return Ok(());
    }
    let Some(object) = review.object.as_deref() else { return Ok(()) };
    if review.old.is_some_and(|old| only_collected(old, object)) {
        return Ok(());
    }
    let may = |verb: &str, resource: &str, namespace: &str, name: &str| {
        let a = Attributes {
            verb: verb.into(),
            namespace: namespace.into(),
            group: GROUP.into(),
            resource: resource.into(),
            name: name.into(),
            ..Attributes::default()
        };
        shared.authorizer.decide(review.user, &a) != Decision::NoOpinion
    };
    let granted: Value = match review.resource.plural.as_str() {
        plural @ ("roles" | "clusterroles") => {
            if may("escalate", plural, review.namespace, review.name) {
                return Ok(());
            }
            object["rules"].clone()
        }
        "rolebindings" | "clusterrolebindings" => {
            let role = object.str_at(["roleRef", "name"]).unwrap_or_default();
            let cluster = object.str_at(["roleRef", "kind"]) == Some("ClusterRole");
            let (plural, namespace) = if cluster { ("clusterroles", "") } else { ("roles", review.namespace) };
            if may("bind", plural, review.namespace, role) {
                return Ok(());
            }
            let stored_as = format!("{plural}.{GROUP}");
            // Upstream names the binding's resource here.
            let missing = || Status::not_found(Named { group: GROUP, resource: &review.resource.plural, name: role });
            shared.object(&stored_as, namespace, role).ok_or_else(missing)?["rules"].clone()
        }
        _ => return Ok(()),
    };
    let held = shared.authorizer.rules(review.user, review.namespace);
    let lacking = granted.items().iter().map(PolicyRule::of).flat_map(|rule| asked(&rule));
    let lacking = compacted(lacking.filter(|a| !held.iter().any(|h| h.allows(a))));
    if lacking.is_empty() {
        return Ok(());
    }
    let named = Named { group: GROUP, resource: &review.resource.plural, name: review.name };
    Err(Status::forbidden(
        named,
        format!(
            "{} is attempting to grant RBAC permissions not currently held:\n{}",
            who(review.user),
            lacking.join("\n")
        ),
    ))
}

/// Every single thing a rule allows; a wildcard asks for the same wildcard.
fn asked(rule: &PolicyRule) -> Vec<Attributes> {
    let mut out = Vec::new();
    for verb in &rule.verbs {
        for path in &rule.paths {
            out.push(Attributes { verb: verb.clone(), path: path.clone(), ..Attributes::default() });
        }
        for group in &rule.groups {
            for resource in &rule.resources {
                let (resource, sub) = resource.split_once('/').unwrap_or((resource, ""));
                let one = |name: &str| Attributes {
                    verb: verb.clone(),
                    group: group.clone(),
                    resource: resource.into(),
                    subresource: sub.into(),
                    name: name.into(),
                    ..Attributes::default()
                };
                if rule.names.is_empty() {
                    out.push(one(""));
                }
                out.extend(rule.names.iter().map(|n| one(n)));
            }
        }
    }
    out
}

fn quoted(list: &[Str]) -> String {
    let all: Vec<String> = list.iter().map(|s| crate::field::go_quote(s)).collect();
    format!("[{}]", all.join(" "))
}

/// Whether nothing changes but what lets the garbage collector delete the object.
fn only_collected(old: &Value, new: &Value) -> bool {
    let rest = |v: &Value| {
        let mut v = v.clone();
        if let Some(m) = v.make_map_at(["metadata"]) {
            for key in ["ownerReferences", "finalizers", "managedFields"] {
                m.remove(key);
            }
        }
        v
    };
    rest(old) == rest(new)
}

/// What is lacking, put into words: the verbs of one resource together (`CompactRules`), everything once, sorted.
fn compacted(lacking: impl Iterator<Item = Attributes>) -> Vec<String> {
    let mut rules: Vec<PolicyRule> = Vec::new();
    for a in lacking {
        let resource = match a.subresource.as_str() {
            "" => a.resource.clone(),
            sub => format!("{}/{sub}", a.resource).into(),
        };
        let some = |text: &Str| if text.is_empty() { Vec::new() } else { vec![text.clone()] };
        let of_path = !a.path.is_empty();
        let rule = PolicyRule {
            verbs: vec![a.verb.clone()],
            groups: if of_path { Vec::new() } else { vec![a.group.clone()] },
            resources: if of_path { Vec::new() } else { vec![resource] },
            names: some(&a.name),
            paths: some(&a.path),
        };
        let like = |r: &&mut PolicyRule| {
            !of_path && r.groups == rule.groups && r.resources == rule.resources && r.names == rule.names
        };
        match rules.iter_mut().find(like) {
            Some(known) => known.verbs.extend(rule.verbs),
            None => rules.push(rule),
        }
    }
    let all: std::collections::BTreeSet<String> = rules.iter().map(shown).collect();
    all.into_iter().collect()
}

fn shown(rule: &PolicyRule) -> String {
    let parts = [
        ("APIGroups", &rule.groups),
        ("Resources", &rule.resources),
        ("NonResourceURLs", &rule.paths),
        ("ResourceNames", &rule.names),
        ("Verbs", &rule.verbs),
    ];
    let set = parts.iter().filter(|(_, v)| !v.is_empty());
    format!("{{{}}}", set.map(|(k, v)| format!("{k}:{}", quoted(v))).collect::<Vec<_>>().join(", "))
}

fn who(user: &User) -> String {
    format!("user {} (groups={})", crate::field::go_quote(&user.name), quoted(&user.groups))
}
