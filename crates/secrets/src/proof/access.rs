//! May the role read each object?

use druse_aws::arn::{Arn, parameter};
use druse_aws::iam::{Decision, Effect, HOLE, Policy, Request, Truth, evaluate, glob};
use druse_terraform::{Declared, Document, Place, Role, kms};

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

/// A role and its policies.
struct Access<'a> {
    index: usize,
    role: &'a Role,
    plain: &'a [&'a Policy],
    policies: &'a [(&'a Policy, &'a Document)],
    /// Why there may be more of them.
    unknown: Option<&'a str>,
}

/// Whether an object may be read.
enum Allowed {
    Yes,
    /// No policy allows it.
    No,
    /// A policy denies it.
    Denied,
    Unknown,
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
        let access = Access { index, role, plain: &plain, policies: &policies, unknown: unknown.as_deref() };
        for need in needs {
            self.reads.entry(index).or_default().push(need.arn.clone());
            let allowed = self.may(&access, &need, mount, at);
            good &= matches!(allowed, Allowed::Yes);
            let list = listed(input.declared, &need);
            match list.iter().find(|(arn, ..)| glob(arn, &need.arn, false) != Truth::No) {
                // One break: what may not be read need not be decrypted either.
                Some(_) if matches!(allowed, Allowed::No) => {}
                Some((_, _, key, place)) => good &= self.decrypts(&need, &access, (*key, *place), at),
                None => self.undeclared(&need, &list, &allowed, at),
            }
        }
        if !good {
            self.lacking.insert(index);
        }
        good
    }

    /// Whether a role may do all that an object needs. What is missing is one finding, whatever the number of actions.
    fn may(&mut self, access: &Access<'_>, need: &Need, mount: &Mount<'_>, at: Option<&Place>) -> Allowed {
        let Access { role, plain, policies, unknown, .. } = access;
        let place_of = |p: usize, s: usize| policies.get(p).and_then(|(_, d)| d.statement_place(s)).cloned();
        let (name, what, object) = (&role.name, need.what, &need.name);
        let line = if need.line > 0 { format!(" (line {} of its objects)", need.line) } else { String::new() };
        let (mut missing, mut open) = (Vec::new(), None);
        for action in need.actions {
            let request = Request { open: true, ..Request::new(*action, &*need.arn) };
            match (evaluate(plain, &request), unknown) {
                (Decision::Allowed(..), _) => {}
                (Decision::Denied(p, s), _) => {
                    let to = place_of(p, s);
                    let text = format!("role {name} is explicitly denied {action} on {what} {object}{line}");
                    let remedy = "take the Deny away, or narrow it";
                    self.say(Severity::Error, "permission-denied", (at, to.as_ref()), text, remedy);
                    self.about(object);
                    return Allowed::Denied;
                }
                (Decision::Unknown(why), _) => open = open.or(Some((*action, why))),
                (Decision::NotAllowed, Some(why)) => open = open.or(Some((*action, (*why).to_string()))),
                (Decision::NotAllowed, None) => missing.push(*action),
            }
        }
        if let Some(first) = missing.first() {
            let (hint, place) = nearest(policies, &need.arn, first);
            let (hint, place) = match hint.is_empty() {
                false => (hint, place),
                true => self.elsewhere(access.index, &need.arn, first),
            };
            let to = place.or_else(|| role.place.clone());
            let (who, actions) = (mount.who(), missing.join(", "));
            let text =
                format!("role {name} of {who} may not {actions} {what} {object}{line}: no policy allows it{hint}");
            let remedy = format!("allow {actions} on {}", need.arn.replace(HOLE, "*"));
            self.say(Severity::Error, "permission-missing", (at, to.as_ref()), text, &remedy);
            self.about(object);
            return Allowed::No;
        }
        let Some((action, why)) = open else { return Allowed::Yes };
        let text = format!("whether role {name} may {action} {what} {object} is not known: {why}");
        self.say(Severity::Unknown, "permission-unknown", (at, role.place.as_ref()), text, "");
        self.about(object);
        Allowed::Unknown
    }

    /// Another role that may do it, where this one has nothing of the kind: its policy may have been meant for this one.
    fn elsewhere(&mut self, role: usize, arn: &str, action: &str) -> (String, Option<Place>) {
        let input = self.input;
        for (n, other) in input.declared.roles.iter().enumerate().filter(|(n, _)| *n != role) {
            let (policies, ..) = documents(other);
            let plain: Vec<&Policy> = policies.iter().map(|(p, _)| *p).collect();
            let request = Request { open: true, ..Request::new(action, arn) };
            if let Decision::Allowed(p, s) = evaluate(&plain, &request) {
                self.misplaced.insert((n, arn.to_string()));
                let place = policies.get(p).and_then(|(_, d)| d.statement_place(s)).cloned();
                return (format!("; role {} may: is that policy attached to the right role?", other.name), place);
            }
        }
        (String::new(), None)
    }

    /// Says that an object is not declared, and which is the nearest that is. A tree that declares none of its kind keeps
    /// them elsewhere.
    fn undeclared(&mut self, need: &Need, list: &[Listed<'_>], allowed: &Allowed, at: Option<&Place>) {
        let alike = |name: &str| name.bytes().zip(need.name.bytes()).take_while(|(a, b)| a == b).count();
        let Some(nearest) = list.iter().max_by_key(|l| alike(l.1)) else { return };
        if !self.input.declared.open.is_empty() {
            return;
        }
        let (what, name, near) = (need.what, &need.name, nearest.1.replace(HOLE, "?"));
        if matches!(allowed, Allowed::No) {
            // One break: a name that nobody declares is one that nobody may read.
            if let Some(last) = self.findings.last_mut() {
                last.message.push_str(&format!("; nor is it declared (the nearest {what} is {near})"));
            }
            return;
        }
        let text =
            format!("{what} {name} is read, but declared nowhere in the tree's Terraform; the nearest is {near}");
        self.say(Severity::Warning, "undeclared", (at, nearest.3), text, "declare it, or correct the name");
        self.about(name);
    }

    /// Whether a role may use the key that encrypts an object.
    fn decrypts(
        &mut self,
        need: &Need,
        access: &Access<'_>,
        (key, place): (Option<&str>, Option<&Place>),
        at: Option<&Place>,
    ) -> bool {
        let (role, policies) = (access.role, access.plain);
        let own = |k: &str| k.is_empty() || k.ends_with("alias/aws/ssm") || k.ends_with("alias/aws/secretsmanager");
        let Some(key) = key.filter(|k| !own(k)) else { return true };
        let Some(beside) = Arn::parse(&need.arn) else { return true };
        let arn = kms::key_arn(&self.input.declared.aliases, key, &beside);
        let request = Request { open: true, ..Request::new("kms:Decrypt", &*arn) };
        let hint = match evaluate(policies, &request) {
            Decision::Allowed(..) | Decision::Unknown(_) => return true,
            Decision::NotAllowed if access.unknown.is_some() => return true,
            Decision::NotAllowed => {
                let decrypting = policies.iter().flat_map(|p| &p.statements);
                let decrypting = decrypting
                    .filter(|s| s.effect == Effect::Allow && s.actions.matches("kms:Decrypt", true) != Truth::No);
                let keys: Vec<&str> =
                    decrypting.filter_map(|s| s.resources.as_ref()).flat_map(|r| &r.list).map(String::as_str).collect();
                if keys.iter().any(|k| kms::may_be_same(k, &arn)) {
                    return true;
                }
                match keys.as_slice() {
                    [] => String::new(),
                    keys if keys.iter().any(|k| k.contains(":alias/")) => {
                        "; an alias among a policy's resources allows nothing: name the key's ARN".into()
                    }
                    keys => format!("; the nearest allows it with {}", keys.join(", ").replace(HOLE, "?")),
                }
            }
            Decision::Denied(..) => "; it is denied explicitly".into(),
        };
        let text = format!(
            "role {} may not kms:Decrypt with the key of {} {}: reading it fails with AccessDeniedException{hint}",
            role.name, need.what, need.name
        );
        self.say(Severity::Error, "kms", (at, place), text, "allow kms:Decrypt on the key's ARN");
        self.about(&need.name);
        false
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

/// An object that is declared: its ARN, name, key and place.
type Listed<'d> = (&'d str, &'d str, Option<&'d str>, Option<&'d Place>);

/// What a tree declares of an object's kind.
fn listed<'d>(d: &'d Declared, need: &Need) -> Vec<Listed<'d>> {
    if need.what == "parameter" {
        let all = d.parameters.iter();
        all.map(|p| (p.arn.as_str(), p.name.as_str(), p.key_id.as_deref(), p.place.as_ref())).collect()
    } else {
        let all = d.secrets.iter();
        all.map(|s| (s.arn.as_str(), s.name.as_str(), s.key_id.as_deref(), s.place.as_ref())).collect()
    }
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
