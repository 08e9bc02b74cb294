//! Does the role trust exactly this ServiceAccount of this cluster?

use druse_aws::iam::{Decision, HOLE, Principal};
use druse_terraform::{Document, Place};

use super::pods::Mount;
use super::{Prover, Severity, subject};
use crate::token::AUDIENCE;
use crate::trust::{Answer, Shown, answer, ask, providers};

impl Prover<'_> {
    /// Whether a role's trust policy lets the pod of a mount in. Says why not, and where it lets in too much.
    pub(super) fn trusts(&mut self, role: usize, mount: &Mount<'_>, account: Option<&Place>) -> bool {
        let input = self.input;
        let index = role;
        let role = &input.declared.roles[role];
        let subject = subject(mount.namespace, mount.account.unwrap_or_default());
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
        let candidates = match &input.issuer {
            Some((issuer, _)) => providers(input.declared, issuer),
            None => input.declared.providers.iter().collect(),
        };
        if candidates.is_empty() {
            let declared: Vec<&str> = input.declared.providers.iter().map(|p| p.issuer.as_str()).collect();
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
            // Whatever else there may be: a role that trusts declared providers alone does not trust this issuer.
            let named = policy.statements.iter().filter_map(|s| s.principals.as_ref()).flat_map(|p| &p.list);
            let settled = named.clone().count() > 0
                && named.into_iter().all(|p| matches!(p, Principal::Federated(arn) if input.declared.providers.iter().any(|d| d.arn == *arn)));
            let severity = if settled || input.declared.open.is_empty() { Severity::Error } else { Severity::Unknown };
            let to = input.declared.providers.first().and_then(|p| p.place.as_ref()).or(place);
            self.say(
                severity,
                "issuer",
                (from, to),
                text,
                "declare aws_iam_openid_connect_provider with the cluster's issuer",
            );
            return false;
        }
        let shown = Shown { subject: &subject, audiences: &[AUDIENCE] };
        let provider = match answer(policy, &candidates, &name, shown) {
            Answer::Lets(provider) => provider,
            Answer::Unknown(why) => {
                let text = format!("whether role {name} trusts {subject} is not known: {why}");
                self.say(Severity::Unknown, "trust-unknown", (account, place), text, "");
                return false;
            }
            Answer::Refuses { code, text } => {
                let remedy = "the trust policy names the provider, this subject and the audience sts.amazonaws.com";
                let other = self.trusting(index, mount).map(|n| &input.declared.roles[n].name);
                let other = other.map(|n| format!("; the role that trusts it is {}", n.replace(HOLE, "?")));
                let text = text + &other.unwrap_or_default();
                self.say(Severity::Error, code, (account, place), text, remedy);
                self.about(&role.arn);
                return false;
            }
        };
        let ids = &provider.client_ids;
        if !ids.iter().any(|i| i == AUDIENCE) && ids.iter().all(|i| !i.contains(HOLE)) {
            let text = format!("the OIDC provider {} does not take the audience {AUDIENCE}", provider.issuer);
            // One fault, whoever's way it breaks: told once where the tree says who signs.
            let from = input.issuer.as_ref().map(|(_, at)| at).or(account);
            self.say(Severity::Error, "audience", (from, provider.place.as_ref()), text, "add it to client_id_list");
            return false;
        }
        // Names that no ServiceAccount has: whoever is let in under them is let in by a pattern.
        let other = "system:serviceaccount:0-nobody:0-nobody";
        let same_namespace = format!("system:serviceaccount:{}:0-nobody", mount.namespace);
        let lets_in = |subject: &str, audience: &str| {
            matches!(ask(policy, provider, Shown { subject, audiences: &[audience] }), Decision::Allowed(..))
        };
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
