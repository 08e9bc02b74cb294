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
            if review.old.is_some_and(|o| o["rules"] == object["rules"])
                || may("escalate", plural, review.namespace, review.name)
            {
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
            let missing = || Status::not_found(Named { group: GROUP, resource: plural, name: role });
            shared.object(&stored_as, namespace, role).ok_or_else(missing)?["rules"].clone()
        }
        _ => return Ok(()),
    };
    let held = shared.authorizer.rules(review.user, review.namespace);
    let lacking: Vec<String> = granted
        .items()
        .iter()
        .map(PolicyRule::of)
        .filter(|rule| !asked(rule).iter().all(|a| held.iter().any(|h| h.allows(a))))
        .map(|rule| shown(&rule))
        .collect();
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

fn shown(rule: &PolicyRule) -> String {
    let parts = [
        ("APIGroups", &rule.groups),
        ("Resources", &rule.resources),
        ("ResourceNames", &rule.names),
        ("NonResourceURLs", &rule.paths),
        ("Verbs", &rule.verbs),
    ];
    let list = |v: &[Str]| format!("[{}]", v.iter().map(|s| crate::field::go_quote(s)).collect::<Vec<_>>().join(", "));
    let set = parts.iter().filter(|(_, v)| !v.is_empty());
    format!("{{{}}}", set.map(|(k, v)| format!("{k}:{}", list(v))).collect::<Vec<_>>().join(", "))
}

fn who(user: &User) -> String {
    format!("user {} (groups={})", crate::field::go_quote(&user.name), quoted(&user.groups))
}
