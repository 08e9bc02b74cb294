//! The other way round: what is declared and used by nobody, and permissions wider than needed.

use druse_aws::iam::{Effect, HOLE, Principal, Truth, glob};
use druse_object::Value;

use super::access::documents;
use super::{Prover, Severity, subjects};
use crate::class::{Class, Kind};

/// The actions by which values are read.
const READING: &[(&str, &str)] = &[("ssm:GetParameters", "ssm"), ("secretsmanager:GetSecretValue", "secretsmanager")];

impl Prover<'_> {
    pub(super) fn look_back(&mut self) {
        self.unused_classes();
        let used = self.unused_roles();
        self.unread_parameters(&used);
        self.wide_permissions();
        for (why, place) in &self.input.declared.open {
            self.findings.push(super::Finding {
                severity: Severity::Unknown,
                code: "terraform-open",
                message: why.clone(),
                from: None,
                to: place.clone(),
                remedy: String::new(),
                words: Default::default(),
            });
        }
        for e in &self.input.declared.errors {
            self.findings.push(super::Finding {
                severity: Severity::Error,
                code: "terraform-syntax",
                message: e.message.clone(),
                from: None,
                to: Some(e.place.clone()),
                remedy: "terraform validate names what it expects there".into(),
                words: Default::default(),
            });
        }
    }

    fn unused_classes(&mut self) {
        let all: Vec<_> = self.classes.iter().map(|(k, (_, p))| (k.clone(), p.clone())).collect();
        for (key, place) in all {
            if self.used_classes.contains(&key) || self.named_unrendered(&key.1) {
                continue;
            }
            let text = format!(
                "SecretProviderClass {}/{} is mounted by no pod: nothing is fetched, and a Secret it would sync never appears",
                key.0, key.1
            );
            self.say(Severity::Warning, "class-unused", (place.as_ref(), None), text, "mount it, or take it away");
        }
    }

    /// Roles that trust the cluster and that nobody names. Returns the roles in use.
    fn unused_roles(&mut self) -> Vec<usize> {
        let annotation = format!("{}/role-arn", self.input.annotation_prefix);
        let accounts: Vec<(String, String, String)> = self
            .accounts
            .iter()
            .filter_map(|((ns, n), (o, _))| Some((ns.clone(), n.clone(), o.annotation(&annotation)?.to_string())))
            .collect();
        let declared = self.input.declared;
        let mut used = Vec::new();
        for (n, role) in declared.roles.iter().enumerate() {
            let Some(trust) = role.trust.policy() else { continue };
            let ours = |p: &Principal| match p {
                Principal::Federated(arn) => declared.providers.iter().any(|p| p.arn == *arn),
                _ => false,
            };
            let trusts = trust.statements.iter().filter_map(|s| s.principals.as_ref()).any(|p| p.list.iter().any(ours));
            let named = accounts.iter().any(|(.., arn)| glob(&role.arn, arn, false) != Truth::No);
            if named {
                used.push(n);
            }
            // Workloads may name a role in other ways than by an annotation: in an environment, in a values file.
            let elsewhere = |needle: &str| {
                self.input.unrendered.iter().any(|u| u.opaque || names(&u.text, needle))
                    || self.input.objects.iter().any(|d| mentions(&d.object.value, needle, 0))
            };
            if !trusts
                || named
                || self.meant.contains(&n)
                || role.arn.contains(HOLE)
                || elsewhere(&role.arn)
                || elsewhere(&format!("role/{}", role.name))
            {
                continue;
            }
            let subjects: Vec<&str> = subjects(role).collect();
            let account = |subject: &str| {
                let (ns, n) = subject.strip_prefix("system:serviceaccount:")?.split_once(':')?;
                Some((ns.to_string(), n.to_string()))
            };
            if subjects.iter().filter_map(|s| account(s)).any(|a| self.without_role.contains(&a)) {
                continue;
            }
            let account = subjects.first().and_then(|s| self.accounts.get(&account(s)?).cloned());
            let (hint, to) = match account {
                Some((o, place)) => {
                    let it =
                        format!("; ServiceAccount {}/{} is there, but not annotated with it", o.namespace(), o.name());
                    (it, place)
                }
                None => (String::new(), None),
            };
            let for_whom =
                if subjects.is_empty() { String::new() } else { format!(" (it trusts {})", subjects.join(", ")) };
            let text = format!("nobody uses role {}{for_whom}{hint}", role.name);
            self.say(
                Severity::Warning,
                "role-unused",
                (role.place.as_ref(), to.as_ref()),
                text,
                "take it away, or annotate the ServiceAccount",
            );
        }
        used
    }

    fn unread_parameters(&mut self, used: &[usize]) {
        let declared = self.input.declared;
        let mut asked: Vec<(Kind, String)> = Vec::new();
        for (o, _) in self.classes.values() {
            match Class::parse(&o.value["spec"]["parameters"]) {
                Ok(class) => asked.extend(class.objects.into_iter().flat_map(|o| {
                    let other = o.failover.map(|f| (o.kind, f.name));
                    std::iter::once((o.kind, o.name)).chain(other)
                })),
                // What it asks for is not known.
                Err(_) => return,
            }
        }
        for p in &declared.parameters {
            let named = asked
                .iter()
                .any(|(k, n)| *k == Kind::Parameter && (*n == p.name || glob(&p.arn, n, false) != Truth::No));
            // An application may read it by itself, with a role that is in use.
            let may = used.iter().any(|n| {
                let role = &declared.roles[*n];
                // What one may read that may not read what is asked for, is most likely what was meant.
                let reads_by_class = self.reads.contains_key(n) && !self.lacking.contains(n);
                let (policies, unknown, _) = documents(role);
                unknown.is_some()
                    || !reads_by_class
                        && policies.iter().flat_map(|(p, _)| &p.statements).any(|s| {
                            s.effect == Effect::Allow
                                && s.resources.as_ref().is_some_and(|r| r.matches(&p.arn, false) != Truth::No)
                        })
            });
            if named || may || p.name.contains(HOLE) || self.named_unrendered(&p.name) {
                continue;
            }
            let text = format!("nobody reads parameter {}", p.name);
            self.say(
                Severity::Warning,
                "parameter-unread",
                (p.place.as_ref(), None),
                text,
                "take it away, or mount it",
            );
        }
    }

    /// Statements that allow reading more than is read by the pods that use the role.
    fn wide_permissions(&mut self) {
        let declared = self.input.declared;
        let reads: Vec<(usize, Vec<String>)> = self.reads.iter().map(|(k, v)| (*k, v.clone())).collect();
        for (n, arns) in reads {
            let role = &declared.roles[n];
            let (policies, ..) = documents(role);
            for (policy, document) in policies {
                for (i, s) in policy.statements.iter().enumerate().filter(|(_, s)| s.effect == Effect::Allow) {
                    let Some(resources) = &s.resources else { continue };
                    let service = READING.iter().find(|(a, _)| s.actions.matches(a, true) == Truth::Yes);
                    let Some((_, service)) = service else { continue };
                    let place = document.statement_place(i).cloned();
                    let ours: Vec<&String> = arns.iter().filter(|a| a.split(':').nth(2) == Some(service)).collect();
                    let spare: Vec<&str> = resources
                        .list
                        .iter()
                        .filter(|r| !ours.iter().any(|a| glob(r, a, true) != Truth::No))
                        .filter(|r| !self.misplaced.iter().any(|(m, a)| *m == n && glob(r, a, true) != Truth::No))
                        .map(String::as_str)
                        .collect();
                    let pattern: Vec<&str> = resources
                        .list
                        .iter()
                        .filter(|r| ours.iter().any(|a| glob(r, a, true) != Truth::No) && is_open(r, service))
                        .map(String::as_str)
                        .collect();
                    let mut wide = Vec::new();
                    if resources.not {
                        wide.push("everything but what NotResource names".to_string());
                    } else {
                        if !pattern.is_empty() {
                            wide.push(format!("everything that {} means", pattern.join(", ")));
                        }
                        if !spare.is_empty() && !self.lacking.contains(&n) {
                            wide.push(format!("{}, which no pod of the role mounts", spare.join(", ")));
                        }
                    }
                    let actions: Vec<&str> = s.actions.list.iter().map(String::as_str).filter(|a| is_wide(a)).collect();
                    if !actions.is_empty() && !s.actions.not {
                        let needed =
                            if *service == "ssm" { "ssm:GetParameters" } else { "GetSecretValue and DescribeSecret" };
                        wide.push(format!("{} where {needed} is needed", actions.join(", ")));
                    }
                    if !wide.is_empty() {
                        let text = format!("role {} may read more than is read: {}", role.name, wide.join("; "))
                            .replace(HOLE, "?");
                        let remedy = "name the parameters, and only the actions that are used";
                        self.say(Severity::Warning, "permission-wide", (place.as_ref(), None), text, remedy);
                    }
                }
            }
        }
    }
}

/// Whether a resource pattern means more than one object. The ending of a secret's ARN is random, so a pattern there is
/// needed.
fn is_open(pattern: &str, service: &str) -> bool {
    let Some((_, resource)) = pattern.match_indices(':').nth(4).map(|(i, _)| pattern.split_at(i + 1)) else {
        return pattern.contains('*');
    };
    let resource = if service == "secretsmanager" {
        resource.strip_suffix("-??????").or_else(|| resource.strip_suffix("-*")).unwrap_or(resource)
    } else {
        resource
    };
    resource.contains(['*', '?'])
}

fn is_wide(action: &str) -> bool {
    action.contains(['*', '?'])
}

/// Whether a text holds a role's name or ARN, and not merely the beginning of a longer one.
fn names(text: &str, needle: &str) -> bool {
    let goes_on = |c: char| c.is_ascii_alphanumeric() || "+=,.@_-/".contains(c);
    text.match_indices(needle).any(|(i, _)| !text[i + needle.len()..].starts_with(goes_on))
}

/// Whether any text in a value holds another.
fn mentions(value: &Value, needle: &str, depth: usize) -> bool {
    match value {
        Value::String(s) => names(s, needle),
        Value::Array(items) => depth < 60 && items.iter().any(|v| mentions(v, needle, depth + 1)),
        Value::Map(m) => depth < 60 && m.values().any(|v| mentions(v, needle, depth + 1)),
        _ => false,
    }
}
