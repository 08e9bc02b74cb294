//! Role-based access control: which roles a user's bindings give, worded as upstream words its reasons.

use std::sync::Arc;

use druse_object::{Str, Value};
use parking_lot::Mutex;

use super::User;
use crate::store::Store;

/// What is to be done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    /// `get`, `list`, …
    pub verb: Str,
    /// Empty for cluster-wide.
    pub namespace: Str,
    /// The group; empty for core.
    pub group: Str,
    /// The plural; empty for paths.
    pub resource: Str,
    /// `status`, …
    pub subresource: Str,
    /// The object's name.
    pub name: Str,
    /// The path, when no resource is meant.
    pub path: Str,
}

/// Yes, with a reason, or no.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Allowed, and by what.
    Allow(String),
    /// Nothing allows it.
    NoOpinion,
}

/// One rule of a role.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PolicyRule {
    /// What may be done.
    pub verbs: Vec<Str>,
    /// In which groups.
    pub groups: Vec<Str>,
    /// To what.
    pub resources: Vec<Str>,
    /// To which objects; empty for all.
    pub names: Vec<Str>,
    /// On which paths.
    pub paths: Vec<Str>,
}

fn strings(v: &Value) -> Vec<Str> {
    v.items().iter().filter_map(Value::as_str).map(Str::from).collect()
}

impl PolicyRule {
    /// Reads a rule object.
    #[must_use]
    pub fn of(v: &Value) -> Self {
        Self {
            verbs: strings(&v["verbs"]),
            groups: strings(&v["apiGroups"]),
            resources: strings(&v["resources"]),
            names: strings(&v["resourceNames"]),
            paths: strings(&v["nonResourceURLs"]),
        }
    }

    /// Whether it allows this.
    #[must_use]
    pub fn allows(&self, a: &Attributes) -> bool {
        let any = |list: &[Str], x: &str| list.iter().any(|e| e == "*" || e == x);
        if !any(&self.verbs, &a.verb) {
            return false;
        }
        if a.resource.is_empty() {
            return self.paths.iter().any(|p| {
                p == &a.path || p == "*" || p.strip_suffix('*').is_some_and(|prefix| a.path.starts_with(prefix))
            });
        }
        let resource = |r: &Str| {
            r == "*"
                || if a.subresource.is_empty() {
                    *r == a.resource
                } else {
                    r.split_once('/')
                        .is_some_and(|(res, sub)| sub == a.subresource && (res == "*" || res == a.resource))
                }
        };
        any(&self.groups, &a.group)
            && self.resources.iter().any(resource)
            && (self.names.is_empty() || self.names.contains(&a.name))
    }
}

#[derive(Debug)]
struct Role {
    namespace: Str,
    name: Str,
    rules: Vec<PolicyRule>,
}

#[derive(Debug)]
struct Binding {
    namespace: Str,
    name: Str,
    role_kind: Str,
    role: Str,
    /// Kind, namespace, name.
    subjects: Vec<(Str, Str, Str)>,
}

#[derive(Debug, Default)]
struct Policy {
    roles: Vec<Role>,
    bindings: Vec<Binding>,
}

const KINDS: [&str; 4] = [
    "clusterroles.rbac.authorization.k8s.io",
    "clusterrolebindings.rbac.authorization.k8s.io",
    "roles.rbac.authorization.k8s.io",
    "rolebindings.rbac.authorization.k8s.io",
];

/// Decides by the roles and bindings in the store, read anew when one of them changed.
pub struct Authorizer {
    store: Arc<dyn Store>,
    cache: Mutex<(Option<[u64; 4]>, Arc<Policy>)>,
}

impl std::fmt::Debug for Authorizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Authorizer")
    }
}

impl Authorizer {
    /// Over a store.
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self { store, cache: Mutex::new((None, Arc::default())) }
    }

    fn policy(&self) -> Arc<Policy> {
        let now = KINDS.map(|k| self.store.last_change(k));
        let mut cache = self.cache.lock();
        if cache.0 != Some(now) {
            *cache = (Some(now), Arc::new(self.read()));
        }
        cache.1.clone()
    }

    fn read(&self) -> Policy {
        let mut policy = Policy::default();
        for kind in KINDS {
            let Ok(page) = self.store.list(kind, "", None, usize::MAX, None) else { continue };
            for o in page.items {
                let Ok(v) = o.value() else { continue };
                if kind.starts_with("clusterroles") || kind.starts_with("roles") {
                    policy.roles.push(Role {
                        namespace: o.namespace.clone(),
                        name: o.name.clone(),
                        rules: v["rules"].items().iter().map(PolicyRule::of).collect(),
                    });
                } else {
                    let text = |v: &Value, k: &str| Str::from(v[k].as_str().unwrap_or_default());
                    policy.bindings.push(Binding {
                        namespace: o.namespace.clone(),
                        name: o.name.clone(),
                        role_kind: text(&v["roleRef"], "kind"),
                        role: text(&v["roleRef"], "name"),
                        subjects: v["subjects"]
                            .items()
                            .iter()
                            .map(|s| (text(s, "kind"), text(s, "namespace"), text(s, "name")))
                            .collect(),
                    });
                }
            }
        }
        policy
    }

    /// Visits every rule that applies to a user in a namespace (cluster-wide ones included) until one says stop.
    fn visit(&self, user: &User, namespace: &str, mut f: impl FnMut(&PolicyRule, &dyn Fn() -> String) -> bool) {
        let policy = self.policy();
        for b in &policy.bindings {
            if !b.namespace.is_empty() && b.namespace != namespace {
                continue;
            }
            let Some(subject) = b.subjects.iter().find(|s| applies(user, s, &b.namespace)) else { continue };
            let role_namespace = if b.role_kind == "Role" { b.namespace.as_str() } else { "" };
            let Some(role) = policy.roles.iter().find(|r| r.namespace == role_namespace && r.name == b.role) else {
                continue;
            };
            let reason = || {
                let (kind, sns, sname) = subject;
                let by = if b.namespace.is_empty() {
                    format!("ClusterRoleBinding \"{}\"", b.name)
                } else {
                    format!("RoleBinding \"{}/{}\"", b.name, b.namespace)
                };
                let to = if kind == "ServiceAccount" {
                    let ns = if sns.is_empty() { &b.namespace } else { sns };
                    format!("ServiceAccount \"{sname}/{ns}\"")
                } else {
                    format!("{kind} \"{sname}\"")
                };
                format!("RBAC: allowed by {by} of {} \"{}\" to {to}", b.role_kind, b.role)
            };
            for rule in &role.rules {
                if !f(rule, &reason) {
                    return;
                }
            }
        }
    }

    /// Whether a user may do something.
    #[must_use]
    pub fn decide(&self, user: &User, a: &Attributes) -> Decision {
        if user.groups.iter().any(|g| g == "system:masters") {
            return Decision::Allow(String::new());
        }
        let mut out = Decision::NoOpinion;
        self.visit(user, &a.namespace, |rule, reason| {
            if rule.allows(a) {
                out = Decision::Allow(reason());
                return false;
            }
            true
        });
        out
    }

    /// All rules that hold for a user in a namespace.
    #[must_use]
    pub fn rules(&self, user: &User, namespace: &str) -> Vec<PolicyRule> {
        let mut out = Vec::new();
        if user.groups.iter().any(|g| g == "system:masters") {
            let all = || vec![Str::from("*")];
            out.push(PolicyRule { verbs: all(), groups: all(), resources: all(), ..PolicyRule::default() });
            out.push(PolicyRule { verbs: all(), paths: all(), ..PolicyRule::default() });
        }
        self.visit(user, namespace, |rule, _| {
            out.push(rule.clone());
            true
        });
        out
    }
}

fn applies(user: &User, (kind, namespace, name): &(Str, Str, Str), binding_namespace: &str) -> bool {
    match kind.as_str() {
        "User" => user.name == *name,
        "Group" => user.groups.contains(name),
        "ServiceAccount" => {
            let ns = if namespace.is_empty() { binding_namespace } else { namespace.as_str() };
            user.name
                .strip_prefix("system:serviceaccount:")
                .and_then(|rest| rest.split_once(':'))
                .is_some_and(|(n, a)| n == ns && a == name.as_str())
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use druse_object::json;

    #[test]
    fn a_rule_names_groups_resources_subresources_and_paths() {
        let rule = |t: &str| PolicyRule::of(&json::parse(t.as_bytes()).unwrap());
        let on = |verb: &str, group: &str, resource: &str, sub: &str| Attributes {
            verb: verb.into(),
            group: group.into(),
            resource: resource.into(),
            subresource: sub.into(),
            ..Attributes::default()
        };
        let r = rule(r#"{"verbs":["get"],"apiGroups":["apps"],"resources":["deployments","*/scale"]}"#);
        assert!(r.allows(&on("get", "apps", "deployments", "")));
        assert!(r.allows(&on("get", "apps", "statefulsets", "scale")));
        assert!(!r.allows(&on("get", "apps", "deployments", "status")));
        assert!(!r.allows(&on("list", "apps", "deployments", "")));
        let p = rule(r#"{"verbs":["get"],"nonResourceURLs":["/healthz","/apis/*"]}"#);
        let path = |s: &str| Attributes { verb: "get".into(), path: s.into(), ..Attributes::default() };
        assert!(p.allows(&path("/healthz")) && p.allows(&path("/apis/apps")) && !p.allows(&path("/metrics")));
    }
}
