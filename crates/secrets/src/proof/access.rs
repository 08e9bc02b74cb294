//! May the role read each object?

use druse_aws::arn::{Arn, parameter};
use druse_aws::iam::{Decision, Effect, HOLE, Policy, Request, Truth, evaluate, glob};
use druse_terraform::{Document, Place, Role};

use super::pods::Mount;
use super::{Prover, Severity};
use crate::class::{Class, Kind};

/// What is asked of AWS for one object.
struct Need {
    what: &'static str,
    name: String,
    arn: String,
    actions: &'static [&'static str],
    line: u32,
}

impl Prover<'_> {
    /// Whether a role's policies allow every object of a class.
    pub(super) fn allows(&mut self, role: usize, class: &Class, mount: &Mount<'_>, at: Option<&Place>) -> bool {
        let input = self.input;
        let index = role;
        let role = &input.declared.roles[role];
        let account = Arn::parse(&role.arn).map(|a| a.account.to_string()).unwrap_or_default();
        let only_region = match input.declared.regions.as_slice() {
            [one] => one.clone(),
            _ => HOLE.to_string(),
        };
        let mut good = true;
        let mut needs = Vec::new();
        let regions = [Some(class.region.clone().unwrap_or(only_region)), class.failover_region.clone()];
        for (n, region) in regions.into_iter().enumerate() {
            let Some(region) = region else { continue };
            for o in &class.objects {
                let name = match (n, &o.failover) {
                    (1, Some(f)) => &f.name,
                    _ => &o.name,
                };
                needs.push(need(o.kind, name, &region, &account, o.line));
            }
        }
        let (policies, unknown, invalid) = documents(role);
        if let Some((why, place)) = invalid {
            let text = format!("a policy of role {} is no policy: {why}", role.name);
            self.say(Severity::Error, "policy-invalid", (at, place.as_ref()), text, "AWS refuses it");
            return false;
        }
        let plain: Vec<&Policy> = policies.iter().map(|(p, _)| *p).collect();
        for need in needs {
            self.reads.entry(index).or_default().push(need.arn.clone());
            for action in need.actions {
                good &= self.may(role, &plain, &policies, unknown.as_deref(), &need, action, mount, at);
            }
            good &= self.is_declared(&need, role, &plain, unknown.is_some(), at);
        }
        if !good {
            self.lacking.insert(index);
        }
        good
    }

    #[expect(clippy::too_many_arguments, reason = "one question, with all it is about")]
    fn may(
        &mut self,
        role: &Role,
        plain: &[&Policy],
        policies: &[(&Policy, &Document)],
        unknown: Option<&str>,
        need: &Need,
        action: &str,
        mount: &Mount<'_>,
        at: Option<&Place>,
    ) -> bool {
        let request = Request { open: true, ..Request::new(action, &*need.arn) };
        let place_of = |p: usize, s: usize| policies.get(p).and_then(|(_, d)| d.statement_place(s)).cloned();
        let (name, what, object) = (&role.name, need.what, &need.name);
        let line = if need.line > 0 { format!(" (line {} of its objects)", need.line) } else { String::new() };
        match (evaluate(plain, &request), unknown) {
            (Decision::Allowed(..), _) => true,
            (Decision::Denied(p, s), _) => {
                let to = place_of(p, s);
                let text = format!("role {name} is explicitly denied {action} on {what} {object}{line}");
                self.say(
                    Severity::Error,
                    "permission-denied",
                    (at, to.as_ref()),
                    text,
                    "take the Deny away, or narrow it",
                );
                false
            }
            (Decision::Unknown(why), _) => {
                let to = role.place.clone();
                let text = format!("whether role {name} may {action} {what} {object} is not known: {why}");
                self.say(Severity::Unknown, "permission-unknown", (at, to.as_ref()), text, "");
                false
            }
            (Decision::NotAllowed, Some(why)) => {
                let text = format!("whether role {name} may {action} {what} {object} is not known: {why}");
                self.say(Severity::Unknown, "permission-unknown", (at, role.place.as_ref()), text, "");
                false
            }
            (Decision::NotAllowed, None) => {
                let (hint, place) = nearest(policies, &need.arn, action);
                let to = place.or_else(|| role.place.clone());
                let who = mount.who();
                let text =
                    format!("role {name} of {who} may not {action} {what} {object}{line}: no policy allows it{hint}");
                let remedy = format!("allow {action} on {}", need.arn.replace(HOLE, "*"));
                self.say(Severity::Error, "permission-missing", (at, to.as_ref()), text, &remedy);
                false
            }
        }
    }

    /// Whether the object is declared, where the tree declares such things at all; and whether its key may be used.
    fn is_declared(
        &mut self,
        need: &Need,
        role: &Role,
        policies: &[&Policy],
        unknown: bool,
        at: Option<&Place>,
    ) -> bool {
        let d = &self.input.declared;
        let list: Vec<(&str, Option<&str>, Option<&Place>)> = if need.what == "parameter" {
            d.parameters.iter().map(|p| (p.arn.as_str(), p.key_id.as_deref(), p.place.as_ref())).collect()
        } else {
            d.secrets.iter().map(|s| (s.arn.as_str(), s.key_id.as_deref(), s.place.as_ref())).collect()
        };
        let found = list.iter().find(|(arn, ..)| glob(arn, &need.arn, false) != Truth::No);
        let Some((_, key, place)) = found else {
            // A tree that declares none keeps them elsewhere.
            if !list.is_empty() && d.open.is_empty() {
                let text = format!("{} {} is read, but declared nowhere in the tree's Terraform", need.what, need.name);
                let near = list.first().and_then(|l| l.2).cloned();
                self.say(Severity::Warning, "undeclared", (at, near.as_ref()), text, "declare it, or correct the name");
            }
            return true;
        };
        let own = |k: &str| k.is_empty() || k.ends_with("alias/aws/ssm") || k.ends_with("alias/aws/secretsmanager");
        let Some(key) = key.filter(|k| !own(k)) else { return true };
        let arn = if key.starts_with("arn:") || key.contains(HOLE) {
            key.to_string()
        } else {
            let what = if key.starts_with("alias/") { key.to_string() } else { format!("key/{key}") };
            let need = Arn::parse(&need.arn);
            need.map_or_else(String::new, |a| format!("arn:{}:kms:{}:{}:{what}", a.partition, a.region, a.account))
        };
        let request = Request { open: true, ..Request::new("kms:Decrypt", arn) };
        let place = place.cloned();
        match evaluate(policies, &request) {
            Decision::Allowed(..) => true,
            Decision::Unknown(_) => true,
            Decision::NotAllowed if unknown => true,
            Decision::NotAllowed | Decision::Denied(..) => {
                let text = format!(
                    "role {} may not kms:Decrypt with the key of {} {}: reading it fails with AccessDeniedException",
                    role.name, need.what, need.name
                );
                self.say(Severity::Error, "kms", (at, place.as_ref()), text, "allow kms:Decrypt on the key's ARN");
                false
            }
        }
    }
}

/// A role's policies that are read; why one is not known; what is wrong with one that is none.
type Documents<'a> = (Vec<(&'a Policy, &'a Document)>, Option<String>, Option<(String, Option<Place>)>);

pub(super) fn documents(role: &Role) -> Documents<'_> {
    let mut unknown = role.open.clone();
    let mut invalid = None;
    let mut policies = Vec::new();
    for p in &role.policies {
        match &p.document {
            d @ Document::Policy { policy, .. } => policies.push((policy, d)),
            Document::Unknown { why, .. } => unknown = unknown.or_else(|| Some(why.clone())),
            Document::Invalid { why, place } => invalid = invalid.or_else(|| Some((why.clone(), place.clone()))),
        }
    }
    (policies, unknown, invalid)
}

fn need(kind: Kind, name: &str, region: &str, account: &str, line: u32) -> Need {
    let partition = druse_aws::endpoint::partition(region);
    match kind {
        Kind::Parameter => Need {
            what: "parameter",
            arn: if name.starts_with("arn:") { name.to_string() } else { parameter(partition, region, account, name) },
            name: name.to_string(),
            actions: &["ssm:GetParameters"],
            line,
        },
        Kind::Secret => Need {
            what: "secret",
            // AWS adds six random characters to a secret's name.
            arn: if name.starts_with("arn:") {
                name.to_string()
            } else {
                format!("arn:{partition}:secretsmanager:{region}:{account}:secret:{name}-{HOLE}")
            },
            name: name.to_string(),
            actions: &["secretsmanager:GetSecretValue", "secretsmanager:DescribeSecret"],
            line,
        },
    }
}

/// What of a role's policies comes nearest to allowing an action: a hint, and its place.
fn nearest(policies: &[(&Policy, &Document)], arn: &str, action: &str) -> (String, Option<Place>) {
    let mut by_action = None;
    for (policy, document) in policies {
        for (n, s) in policy.statements.iter().enumerate().filter(|(_, s)| s.effect == Effect::Allow) {
            let Some(resources) = &s.resources else { continue };
            let place = || document.statement_place(n).cloned();
            let on_it = resources.matches(arn, false) != Truth::No;
            if on_it && s.actions.matches(action, true) == Truth::No {
                let service = action.split(':').next().unwrap_or_default();
                let same = s.actions.list.iter().any(|a| a.to_lowercase().starts_with(&format!("{service}:")));
                if same {
                    return (format!("; the nearest allows {}", s.actions.list.join(", ")), place());
                }
            }
            if s.actions.matches(action, true) != Truth::No && !on_it && by_action.is_none() {
                let slashes = resources.list.iter().any(|r| r.contains("parameter//") || r.contains("parameter:/"));
                let why =
                    if slashes { " (a path stands after one slash: parameter/a/b, not parameter//a/b)" } else { "" };
                let list = resources.list.join(", ").replace(HOLE, "?");
                by_action = Some((format!("; the nearest allows it on {list}{why}"), place()));
            }
        }
    }
    by_action.unwrap_or_default()
}
