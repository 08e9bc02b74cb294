//! Policies read and evaluated, as IAM does for identity policies and trust policies.
//!
//! Evaluation has three values: what a policy's text leaves open, because a part of it is not known before it is
//! applied ([`HOLE`]), is a policy variable, or a condition asks for what the request does not tell, is *unknown*, neither
//! allowed nor denied.
//! A condition operator that is not known never lets an `Allow` apply, and always lets a `Deny` apply.

mod condition;
mod glob;
mod policy;

pub use condition::Condition;
pub use glob::{HOLE, Truth, glob};
pub use policy::{Effect, Patterns, Policy, PolicyError, Principal, Principals, Statement};

use std::collections::BTreeMap;

/// What is asked for.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// `ssm:GetParameters`.
    pub action: String,
    /// The resource's ARN.
    pub resource: String,
    /// The values of condition keys, the keys in lower case; no values for a key that the request surely lacks.
    pub context: BTreeMap<String, Vec<String>>,
    /// Whether keys that are not in the context may have values that are merely not known here.
    pub open: bool,
}

impl Request {
    /// A request without context.
    #[must_use]
    pub fn new(action: impl Into<String>, resource: impl Into<String>) -> Self {
        Self { action: action.into(), resource: resource.into(), ..Self::default() }
    }

    /// The same request with a condition key's value.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl Into<String>) -> Self {
        self.context.entry(key.to_ascii_lowercase()).or_default().push(value.into());
        self
    }

    /// The same request, which surely lacks a condition key that it has no value of.
    #[must_use]
    pub fn without(mut self, key: &str) -> Self {
        self.context.entry(key.to_ascii_lowercase()).or_default();
        self
    }

    /// Whether it is not known that the request lacks a condition key, in lower case.
    fn leaves_open(&self, key: &str) -> bool {
        self.open && !self.context.contains_key(key)
    }
}

/// The name of an OIDC provider, with which its condition keys begin: its URL without the scheme and a closing slash.
#[must_use]
pub fn provider_name(url: &str) -> &str {
    url.trim_start_matches("https://").trim_end_matches('/')
}

/// What policies say about a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// A statement allows it and none denies it: policy and statement, from 0.
    Allowed(usize, usize),
    /// A statement denies it: policy and statement, from 0.
    Denied(usize, usize),
    /// No statement allows it.
    NotAllowed,
    /// It depends on what is not known, and on what.
    Unknown(String),
}

/// Evaluates identity policies: an explicit deny wins, then an allow.
#[must_use]
pub fn evaluate(policies: &[&Policy], request: &Request) -> Decision {
    decide(policies, |s| s.applies(request))
}

/// Evaluates a trust policy for a federated principal (`provider` is the OIDC provider's ARN).
#[must_use]
pub fn evaluate_trust(policy: &Policy, provider: &str, request: &Request) -> Decision {
    decide(&[policy], |s| s.applies_to(&Principal::Federated(provider.to_string()), request))
}

fn decide(policies: &[&Policy], applies: impl Fn(&Statement) -> Truth) -> Decision {
    let (mut allowed, mut unknown) = (None, None);
    for (p, policy) in policies.iter().enumerate() {
        for (n, statement) in policy.statements.iter().enumerate() {
            match (statement.effect, applies(statement)) {
                (Effect::Deny, Truth::Yes) => return Decision::Denied(p, n),
                (Effect::Deny, Truth::Maybe) => {
                    unknown.get_or_insert_with(|| format!("whether statement {} denies it is not known", n + 1));
                }
                (Effect::Allow, Truth::Yes) => {
                    allowed.get_or_insert((p, n));
                }
                (Effect::Allow, Truth::Maybe) if allowed.is_none() => {
                    unknown.get_or_insert_with(|| format!("whether statement {} allows it is not known", n + 1));
                }
                (_, Truth::No) | (Effect::Allow, Truth::Maybe) => {}
            }
        }
    }
    // A deny elsewhere would have been found above: an allow found before an unknown allow settles it.
    let denies = |text: &String| text.contains("denies");
    match (allowed, unknown) {
        (_, Some(text)) if denies(&text) => Decision::Unknown(text),
        (Some((p, n)), _) => Decision::Allowed(p, n),
        (None, Some(text)) => Decision::Unknown(text),
        (None, None) => Decision::NotAllowed,
    }
}

#[cfg(test)]
mod tests;
