//! Does the role trust exactly this ServiceAccount of this cluster?

use druse_aws::iam::{Decision, Effect, HOLE, Policy, Principal, Request, evaluate_trust};
use druse_terraform::{Document, Place, Provider};

use super::pods::Mount;
use super::{Prover, Severity};

/// The audience that the provider asks tokens for.
const AUDIENCE: &str = "sts.amazonaws.com";

fn ask(policy: &Policy, provider: &Provider, subject: &str, audience: &str) -> Decision {
    let request = Request {
        open: true,
        ..Request::new("sts:AssumeRoleWithWebIdentity", "")
            .with(&format!("{}:sub", provider.issuer), subject)
            .with(&format!("{}:aud", provider.issuer), audience)
    };
    evaluate_trust(policy, &provider.arn, &request)
}

fn host_path(url: &str) -> &str {
    url.trim_start_matches("https://").trim_end_matches('/')
}

impl Prover<'_> {
    /// Whether a role's trust policy lets the pod of a mount in. Says why not, and where it lets in too much.
    pub(super) fn trusts(&mut self, role: usize, mount: &Mount<'_>, account: Option<&Place>) -> bool {
        let input = self.input;
        let role = &input.declared.roles[role];
        let subject = format!("system:serviceaccount:{}:{}", mount.namespace, mount.account.unwrap_or_default());
        let name = role.name.replace(HOLE, "?");
        let policy = match &role.trust {
            Document::Policy { policy, .. } => policy,
            Document::Unknown { why, place } => {
                let text = format!("the trust policy of role {name} is not known: {why}");
                self.say(Severity::Unknown, "trust-unknown", (account, place.as_ref()), text, "");
                return false;
            }
            Document::Invalid { why, place } => {
                let text = format!("the trust policy of role {name} is no policy: {why}");
                self.say(Severity::Error, "trust-invalid", (account, place.as_ref()), text, "AWS refuses it");
                return false;
            }
        };
        let place = role.trust.statement_place(0).cloned().or_else(|| role.place.clone());
        let place = place.as_ref();
        let providers = &input.declared.providers;
        let candidates: Vec<&Provider> = match &input.issuer {
            Some((issuer, _)) => {
                let wanted = host_path(issuer);
                let exact: Vec<&Provider> = providers.iter().filter(|p| p.issuer == wanted).collect();
                if exact.is_empty() { providers.iter().filter(|p| p.issuer.contains(HOLE)).collect() } else { exact }
            }
            None => providers.iter().collect(),
        };
        if candidates.is_empty() {
            let declared: Vec<&str> = providers.iter().map(|p| p.issuer.as_str()).collect();
            let (text, from) = match &input.issuer {
                Some((issuer, at)) => {
                    let others = if declared.is_empty() {
                        String::new()
                    } else {
                        format!("; declared is {}", declared.join(", "))
                    };
                    (
                        format!(
                            "the cluster signs as {issuer}, which is no OIDC provider of the tree's Terraform{others}"
                        ),
                        Some(at),
                    )
                }
                None => ("Terraform declares no OIDC provider".to_string(), account),
            };
            let severity = if input.declared.open.is_empty() { Severity::Error } else { Severity::Unknown };
            let to = providers.first().and_then(|p| p.place.as_ref()).or(place);
            self.say(
                severity,
                "issuer",
                (from, to),
                text,
                "declare aws_iam_openid_connect_provider with the cluster's issuer",
            );
            return false;
        }
        let decisions: Vec<(&Provider, Decision)> =
            candidates.iter().map(|p| (*p, ask(policy, p, &subject, AUDIENCE))).collect();
        let allowed = decisions.iter().find(|(_, d)| matches!(d, Decision::Allowed(..)));
        let Some((provider, _)) = allowed else {
            if let Some((_, Decision::Unknown(why))) = decisions.iter().find(|(_, d)| matches!(d, Decision::Unknown(_)))
            {
                let text = format!("whether role {name} trusts {subject} is not known: {why}");
                self.say(Severity::Unknown, "trust-unknown", (account, place), text, "");
                return false;
            }
            let (code, text) = reason(policy, &decisions, &name, &subject);
            let remedy = "the trust policy names the provider, this subject and the audience sts.amazonaws.com";
            self.say(Severity::Error, code, (account, place), text, remedy);
            return false;
        };
        let ids = &provider.client_ids;
        if !ids.iter().any(|i| i == AUDIENCE) && ids.iter().all(|i| !i.contains(HOLE)) {
            let text = format!("the OIDC provider {} does not take the audience {AUDIENCE}", provider.issuer);
            self.say(Severity::Error, "audience", (account, provider.place.as_ref()), text, "add it to client_id_list");
            return false;
        }
        // Names that no ServiceAccount has: whoever is let in under them is let in by a pattern.
        let other = "system:serviceaccount:0-nobody:0-nobody";
        let same_namespace = format!("system:serviceaccount:{}:0-nobody", mount.namespace);
        let lets_in = |s: &str, a: &str| matches!(ask(policy, provider, s, a), Decision::Allowed(..));
        let wide = if lets_in(other, AUDIENCE) {
            Some("ServiceAccounts of every namespace")
        } else if lets_in(&same_namespace, AUDIENCE) {
            Some("every ServiceAccount of the namespace")
        } else {
            None
        };
        if let Some(who) = wide {
            let text = format!("role {name} trusts {who}, not only {subject}");
            self.say(Severity::Warning, "trust-wide", (account, place), text, "compare the subject with StringEquals");
        }
        if lets_in(&subject, "0-nothing") {
            let text = format!("role {name} asks for no audience: a token made for another service is accepted too");
            let remedy = "compare the aud with sts.amazonaws.com";
            self.say(Severity::Warning, "trust-audience", (account, place), text, remedy);
        }
        true
    }
}

/// Why a trust policy lets nobody of this name in.
fn reason(policy: &Policy, decisions: &[(&Provider, Decision)], name: &str, subject: &str) -> (&'static str, String) {
    let issuers: Vec<&str> = decisions.iter().map(|(p, _)| p.issuer.as_str()).collect();
    if decisions.iter().any(|(_, d)| matches!(d, Decision::Denied(..))) {
        return ("trust-denied", format!("the trust policy of role {name} denies {subject} explicitly"));
    }
    let statements = policy.statements.iter().filter(|s| s.effect == Effect::Allow);
    let trusted: Vec<_> = statements
        .filter(|s| {
            s.principals.as_ref().is_some_and(|p| {
                p.list.iter().any(|x| match x {
                    Principal::Federated(arn) => decisions.iter().any(|(p, _)| p.arn == *arn),
                    _ => false,
                })
            })
        })
        .collect();
    if trusted.is_empty() {
        return ("trust-provider", format!("role {name} does not trust the OIDC provider {}", issuers.join(", ")));
    }
    if !trusted.iter().any(|s| s.actions.matches("sts:AssumeRoleWithWebIdentity", true) == druse_aws::iam::Truth::Yes) {
        return ("trust-action", format!("role {name} does not allow sts:AssumeRoleWithWebIdentity"));
    }
    for issuer in &issuers {
        for c in trusted.iter().flat_map(|s| &s.conditions) {
            let values = c.values.join(", ");
            if c.key.eq_ignore_ascii_case(&format!("{issuer}:sub")) && !c.values.iter().any(|v| v == subject) {
                return ("trust-subject", format!("role {name} trusts {values}, but the pod runs as {subject}"));
            }
            if c.key.eq_ignore_ascii_case(&format!("{issuer}:aud")) && !c.values.iter().any(|v| v == AUDIENCE) {
                return (
                    "trust-audience",
                    format!("role {name} wants the audience {values}, but tokens are for {AUDIENCE}"),
                );
            }
            let own = c.key.to_lowercase().ends_with(":sub") || c.key.to_lowercase().ends_with(":aud");
            if own && !issuers.iter().any(|i| c.key.to_lowercase().starts_with(&format!("{}:", i.to_lowercase()))) {
                let text = format!("role {name} compares {}, which is a key of another issuer than {issuer}", c.key);
                return ("trust-issuer", text);
            }
        }
    }
    ("trust", format!("the conditions of role {name}'s trust policy do not hold for {subject}"))
}
