//! What a role's trust policy says of a token: whether it lets it in, and which part of it keeps it out.
//!
//! STS refuses without a word about why. The policy as Terraform declares it is asked as STS asks its own, and then part by
//! part: for the proof, which has no token yet, and for a trace whose token was refused.

use druse_aws::iam::{Decision, Effect, HOLE, Policy, Principal, Request, Truth, evaluate_trust, glob, provider_name};
use druse_terraform::{Declared, Document, Place, Provider};

use crate::token::Facts;

const ACTION: &str = "sts:AssumeRoleWithWebIdentity";

/// Whom a token is of and for.
#[derive(Clone, Copy)]
pub(crate) struct Shown<'a> {
    /// `system:serviceaccount:NAMESPACE:NAME`
    pub(crate) subject: &'a str,
    pub(crate) audiences: &'a [&'a str],
}

/// What a trust policy says.
pub(crate) enum Answer<'p> {
    /// It lets the token in, as one of this provider.
    Lets(&'p Provider),
    /// It depends on what is not known, and on what.
    Unknown(String),
    /// It keeps it out.
    Refuses {
        /// A short name for why.
        code: &'static str,
        text: String,
    },
}

/// The providers that a tree declares for an issuer; where none is surely its, those of which it is not known.
pub(crate) fn providers<'d>(declared: &'d Declared, issuer: &str) -> Vec<&'d Provider> {
    let wanted = provider_name(issuer);
    let exact: Vec<&Provider> = declared.providers.iter().filter(|p| p.issuer == wanted).collect();
    if exact.is_empty() { declared.providers.iter().filter(|p| p.issuer.contains(HOLE)).collect() } else { exact }
}

/// What STS knows of a request with such a token of a provider.
fn request(policy: &Policy, provider: &Provider, shown: Shown<'_>) -> Request {
    let mut request = Request { open: true, ..Request::new(ACTION, "") };
    request = request.with(&format!("{}:sub", provider.issuer), shown.subject);
    for audience in shown.audiences {
        request = request.with(&format!("{}:aud", provider.issuer), *audience);
    }
    if provider.issuer.contains(HOLE) {
        return request;
    }
    // What is asked of other issuers' tokens, this one surely has not.
    let keys = policy.statements.iter().flat_map(|s| &s.conditions).map(|c| c.key.as_str());
    keys.filter(|k| is_claim(k)).fold(request, Request::without)
}

/// Whether a condition key is of a token's subject or audience.
fn is_claim(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    key.ends_with(":sub") || key.ends_with(":aud")
}

/// Evaluates a trust policy for a token of a provider.
pub(crate) fn ask(policy: &Policy, provider: &Provider, shown: Shown<'_>) -> Decision {
    evaluate_trust(policy, &provider.arn, &request(policy, provider, shown))
}

/// Evaluates the trust policy of the role `name` for a token of one of these providers.
pub(crate) fn answer<'p>(policy: &Policy, providers: &[&'p Provider], name: &str, shown: Shown<'_>) -> Answer<'p> {
    let decisions: Vec<(&Provider, Decision)> = providers.iter().map(|p| (*p, ask(policy, p, shown))).collect();
    if let Some((provider, _)) = decisions.iter().find(|(_, d)| matches!(d, Decision::Allowed(..))) {
        return Answer::Lets(provider);
    }
    let unknown = decisions.iter().find_map(|(_, d)| match d {
        Decision::Unknown(why) => Some(why.clone()),
        _ => None,
    });
    if let Some(why) = unknown {
        return Answer::Unknown(why);
    }
    let (code, text) = if decisions.iter().any(|(_, d)| matches!(d, Decision::Denied(..))) {
        ("trust-denied", format!("the trust policy of role {name} denies {} explicitly", shown.subject))
    } else {
        reason(policy, providers, name, shown)
    };
    Answer::Refuses { code, text }
}

/// Why no statement of a trust policy lets a token in.
fn reason(policy: &Policy, providers: &[&Provider], name: &str, shown: Shown<'_>) -> (&'static str, String) {
    let trusts = |p: &Principal| matches!(p, Principal::Federated(arn) if providers.iter().any(|p| p.arn == *arn));
    let statements = policy.statements.iter().filter(|s| s.effect == Effect::Allow);
    let trusted: Vec<_> =
        statements.filter(|s| s.principals.as_ref().is_some_and(|p| p.list.iter().any(trusts))).collect();
    if trusted.is_empty() {
        let issuers: Vec<&str> = providers.iter().map(|p| p.issuer.as_str()).collect();
        return ("trust-provider", format!("role {name} does not trust the OIDC provider {}", issuers.join(", ")));
    }
    if !trusted.iter().any(|s| s.actions.matches(ACTION, true) == Truth::Yes) {
        return ("trust-action", format!("role {name} does not allow {ACTION}"));
    }
    for provider in providers {
        let asked = request(policy, provider, shown);
        let of = |claim: &str| format!("{}:{claim}", provider.issuer);
        for c in trusted.iter().flat_map(|s| &s.conditions) {
            let (holds, values) = (c.holds(&asked), c.values.join(", "));
            if holds.is_some_and(|t| t != Truth::No) {
                continue;
            }
            let but = if c.operator.contains("Not") { "all but " } else { "" };
            if c.key.eq_ignore_ascii_case(&of("sub")) {
                let text = format!("role {name} trusts {but}{values}, but the pod runs as {}", shown.subject);
                return ("trust-subject", text);
            }
            if c.key.eq_ignore_ascii_case(&of("aud")) {
                let audiences = shown.audiences.join(", ");
                let text = format!("role {name} wants the audience {but}{values}, but tokens are for {audiences}");
                return ("trust-audience", text);
            }
            if is_claim(&c.key) {
                let text = format!(
                    "role {name} compares {}, which is a key of another issuer than {}",
                    c.key, provider.issuer
                );
                return ("trust-issuer", text);
            }
            let why =
                if holds.is_none() { "which is an operator that IAM does not have" } else { "which does not hold" };
            return ("trust", format!("role {name} asks {} of {}, {why}", c.operator, c.key));
        }
    }
    ("trust", format!("the conditions of role {name}'s trust policy do not hold for {}", shown.subject))
}

/// What the tree's Terraform says of a token with which STS let nobody into a role: the reason's short name, and the reason
/// with its line. `None` where the tree does not declare the role, and may leave it to others.
pub(crate) fn explain(declared: &Declared, arn: &str, token: &Facts) -> Option<(&'static str, String)> {
    let Some(role) = declared.roles.iter().find(|r| glob(&r.arn, arn, false) != Truth::No) else {
        let settled = declared.open.is_empty() && !declared.roles.is_empty();
        return settled.then(|| ("role-missing", format!("the tree's Terraform declares no role {arn}")));
    };
    let at = |text: String, place: Option<&Place>| match place {
        Some(place) => format!("{text} ({place})"),
        None => text,
    };
    let place = role.trust.statement_place(0).or(role.place.as_ref());
    let policy = match &role.trust {
        Document::Policy { policy, .. } => policy,
        Document::Unknown { why, .. } | Document::Invalid { why, .. } => {
            return Some((
                "trust-unknown",
                at(format!("the trust policy of role {} is not known: {why}", role.name), place),
            ));
        }
    };
    let candidates = providers(declared, &token.issuer);
    if candidates.is_empty() {
        let all: Vec<&str> = declared.providers.iter().map(|p| p.issuer.as_str()).collect();
        let text = format!(
            "the token is of {}, which is no OIDC provider of the tree's Terraform ({})",
            token.issuer,
            all.join(", ")
        );
        return Some(("issuer", at(text, place)));
    }
    let audiences: Vec<&str> = token.audiences.iter().map(String::as_str).collect();
    let shown = Shown { subject: &token.subject, audiences: &audiences };
    Some(match answer(policy, &candidates, &role.name, shown) {
        Answer::Refuses { code, text } => (code, at(text, place)),
        Answer::Unknown(why) => (
            "trust-unknown",
            at(format!("whether role {} trusts {} is not known: {why}", role.name, token.subject), place),
        ),
        Answer::Lets(_) => (
            "not-applied",
            at(format!("the tree's Terraform lets {} in: what AWS has is another policy", token.subject), place),
        ),
    })
}
