//! Permissions that grow: rules of roles, and who holds them.

use std::collections::{BTreeMap, BTreeSet};

use druse_object::{Object, Value};

use super::{Found, Subject, at, some_of, text_at};
use crate::model::Severity;

const GROUP: &str = "rbac.authorization.k8s.io";

/// One permission; `*` is any. `url` stands in the resource for what is no resource.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Permission {
    group: String,
    resource: String,
    name: String,
    verb: String,
}

impl Permission {
    fn covers(&self, other: &Self) -> bool {
        let any = |mine: &str, theirs: &str| mine == "*" || mine == theirs;
        any(&self.group, &other.group)
            && (any(&self.resource, &other.resource)
                // `*/scale` is that subresource of everything.
                || self.resource.strip_prefix('*').is_some_and(|sub| !sub.is_empty() && other.resource.ends_with(sub)))
            && any(&self.name, &other.name)
            && any(&self.verb, &other.verb)
    }

    /// Whether whoever has it can get everything else, or all secrets.
    fn is_full_control(&self, cluster: bool) -> bool {
        let resource = self.resource.as_str();
        let core = matches!(self.group.as_str(), "" | "*");
        let reads = matches!(self.verb.as_str(), "get" | "list" | "watch" | "*");
        let makes = matches!(self.verb.as_str(), "create" | "update" | "patch" | "*");
        (self.verb == "*" && resource == "*" && self.group == "*")
            || matches!(self.verb.as_str(), "escalate" | "bind" | "impersonate")
            || (core && resource == "secrets" && reads && cluster && self.name == "*")
            || (core && matches!(resource, "pods/exec" | "nodes/proxy" | "serviceaccounts/token") && makes && cluster)
    }

    fn target(&self) -> String {
        let group =
            if self.group.is_empty() || self.group == "url" { String::new() } else { format!(".{}", self.group) };
        let name = if self.name == "*" { String::new() } else { format!(" {}", self.name) };
        format!("{}{group}{name}", self.resource)
    }
}

/// `get/list pods, create jobs.batch`.
fn texts<'p>(permissions: impl Iterator<Item = &'p Permission>) -> Vec<String> {
    let mut by_target: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for p in permissions {
        by_target.entry(p.target()).or_default().push(&p.verb);
    }
    by_target.into_iter().map(|(target, verbs)| format!("{} {target}", verbs.join("/"))).collect()
}

fn permissions(role: &Object) -> BTreeSet<Permission> {
    let list = |rule: &Value, field: &str| -> Vec<String> {
        rule.get(field)
            .map(Value::items)
            .unwrap_or_default()
            .iter()
            .filter_map(Value::as_str)
            .map(str::to_string)
            .collect()
    };
    let mut out = BTreeSet::new();
    for rule in at(&role.value, "rules").map(Value::items).unwrap_or_default() {
        let verbs = list(rule, "verbs");
        let mut names = list(rule, "resourceNames");
        if names.is_empty() {
            names.push("*".into());
        }
        for verb in &verbs {
            for group in list(rule, "apiGroups") {
                for resource in list(rule, "resources") {
                    for name in &names {
                        out.insert(Permission {
                            group: group.clone(),
                            resource: resource.clone(),
                            name: name.clone(),
                            verb: verb.clone(),
                        });
                    }
                }
            }
            for url in list(rule, "nonResourceURLs") {
                out.insert(Permission { group: "url".into(), resource: url, name: "*".into(), verb: verb.clone() });
            }
        }
    }
    out
}

pub(super) fn check(found: &mut Found<'_>, subject: &Subject<'_>) {
    if subject.is(GROUP, &["Role", "ClusterRole"]) {
        role(found, subject);
    } else if subject.is(GROUP, &["RoleBinding", "ClusterRoleBinding"]) {
        binding(found, subject);
    }
}

fn role(found: &mut Found<'_>, subject: &Subject<'_>) {
    let Some(new) = subject.pair.head.map(|h| h.object) else { return };
    let cluster = new.kind() == "ClusterRole";
    let before = subject.pair.base.map(|b| permissions(b.object)).unwrap_or_default();
    let gained: Vec<Permission> =
        permissions(new).into_iter().filter(|p| !before.iter().any(|b| b.covers(p))).collect();
    let grave = texts(gained.iter().filter(|p| p.is_full_control(cluster)));
    if !grave.is_empty() {
        let title = format!("{} {} may {}", new.kind(), new.name(), some_of(&grave));
        if let Some(danger) = found.pair("rbac-full-control", &subject.pair, title) {
            danger.field("rules");
            if subject.added().is_some() {
                danger.severity(Severity::Warning);
            }
        }
    }
    let other = texts(gained.iter().filter(|p| !p.is_full_control(cluster)));
    if !other.is_empty() && subject.both().is_some() {
        let title = format!("{} {} may also {}", new.kind(), new.name(), some_of(&other));
        found.pair("rbac-widened", &subject.pair, title).map(|d| d.field("rules"));
    }
    if let Some((old, new)) = subject.both() {
        for to in ["admin", "edit", "view"] {
            let label = format!("rbac.authorization.k8s.io/aggregate-to-{to}");
            if new.label(&label) == Some("true") && old.label(&label) != Some("true") {
                let title = format!("what {} grants is added to everyone who holds {to}", new.name());
                found.pair("rbac-widened", &subject.pair, title).map(|d| d.field("metadata.labels"));
            }
        }
    }
}

fn subjects(binding: &Object) -> BTreeSet<String> {
    let part = |s: &Value, field: &str| s.get(field).and_then(Value::as_str).unwrap_or_default().to_string();
    at(&binding.value, "subjects")
        .map(Value::items)
        .unwrap_or_default()
        .iter()
        .map(|s| match part(s, "namespace") {
            ns if ns.is_empty() => format!("{} {}", part(s, "kind"), part(s, "name")),
            ns => format!("{} {ns}/{}", part(s, "kind"), part(s, "name")),
        })
        .collect()
}

fn binding(found: &mut Found<'_>, subject: &Subject<'_>) {
    let Some(new) = subject.pair.head.map(|h| h.object) else { return };
    let role = text_at(&new.value, "roleRef.name").unwrap_or_default().to_string();
    let before = subject.pair.base.map(|b| subjects(b.object)).unwrap_or_default();
    let gained: Vec<String> = subjects(new).difference(&before).cloned().collect();
    if gained.is_empty() {
        return;
    }
    let anyone: Vec<&String> = gained
        .iter()
        .filter(|s| {
            let name = s.rsplit(' ').next().unwrap_or_default();
            matches!(name, "system:anonymous" | "system:unauthenticated" | "system:authenticated")
                || name == "system:serviceaccounts"
        })
        .collect();
    if role == "cluster-admin" && new.kind() == "ClusterRoleBinding" {
        let title = format!("{} becomes cluster-admin", some_of(&gained));
        found.pair("rbac-full-control", &subject.pair, title).map(|d| d.field("subjects"));
    } else if let Some(anyone) = anyone.first() {
        let title = format!("{anyone} (everyone in it) holds {role}");
        found.pair("rbac-full-control", &subject.pair, title).map(|d| d.field("subjects"));
    } else if subject.both().is_some() {
        let title = format!("{} holds {role} too", some_of(&gained));
        found.pair("binding-widened", &subject.pair, title).map(|d| d.field("subjects"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn p(group: &str, resource: &str, verb: &str) -> Permission {
        Permission { group: group.into(), resource: resource.into(), name: "*".into(), verb: verb.into() }
    }

    #[test]
    fn wildcards_cover_what_they_mean() {
        assert!(p("*", "*", "*").covers(&p("apps", "deployments", "get")));
        assert!(p("apps", "*/scale", "patch").covers(&p("apps", "deployments/scale", "patch")));
        assert!(!p("", "pods", "*").covers(&p("", "secrets", "get")));
        assert!(!p("", "pods", "get").covers(&p("", "pods", "list")));
        let mut named = p("", "secrets", "get");
        named.name = "one".into();
        assert!(p("", "secrets", "get").covers(&named) && !named.covers(&p("", "secrets", "get")));
        assert!(!named.is_full_control(true) && p("", "secrets", "get").is_full_control(true));
    }
}
