//! Policy documents: read strictly, so that what is misread is refused instead of being ignored.

use druse_object::Value;

use super::{Condition, HOLE, Request, Truth, glob};

/// A policy document.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Policy {
    /// Its statements.
    pub statements: Vec<Statement>,
}

/// What a statement does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It allows.
    Allow,
    /// It denies, whatever else allows.
    Deny,
}

/// Patterns that are wanted, or excluded (`NotAction`, `NotResource`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Patterns {
    /// The patterns.
    pub list: Vec<String>,
    /// Whether everything else is meant.
    pub not: bool,
}

/// Who a statement of a trust policy is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Principal {
    /// An identity provider, by ARN or host.
    Federated(String),
    /// An account or role.
    Aws(String),
    /// An AWS service.
    Service(String),
    /// Anybody.
    Any,
}

/// The principals of a statement, or those it excludes (`NotPrincipal`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principals {
    /// Who.
    pub list: Vec<Principal>,
    /// Whether everybody else is meant.
    pub not: bool,
}

/// One statement.
#[derive(Clone, Debug, PartialEq)]
pub struct Statement {
    /// Its name.
    pub sid: Option<String>,
    /// What it does.
    pub effect: Effect,
    /// Who it is about; identity policies have none.
    pub principals: Option<Principals>,
    /// Which actions.
    pub actions: Patterns,
    /// Which resources; trust policies have none.
    pub resources: Option<Patterns>,
    /// What must hold besides.
    pub conditions: Vec<Condition>,
}

/// Why a document is no policy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct PolicyError(pub String);

fn wrong<T>(message: impl Into<String>) -> Result<T, PolicyError> {
    Err(PolicyError(message.into()))
}

impl Policy {
    /// Reads a document.
    ///
    /// # Errors
    /// What AWS would refuse: unknown elements, an effect that is neither Allow nor Deny, a statement without actions.
    pub fn parse(value: &Value) -> Result<Self, PolicyError> {
        let Some(map) = value.as_map() else { return wrong("a policy is an object") };
        for key in map.keys() {
            if !matches!(key.as_str(), "Version" | "Id" | "Statement") {
                return wrong(format!("a policy has no element {key:?}; Version, Id and Statement are"));
            }
        }
        let variables = match map.get("Version").map(Value::as_str) {
            None | Some(Some("2008-10-17")) => false,
            Some(Some("2012-10-17")) => true,
            Some(other) => return wrong(format!("Version is 2012-10-17, not {:?}", other.unwrap_or_default())),
        };
        let mut statements = match map.get("Statement") {
            Some(Value::Array(list)) => list.iter().map(Statement::parse).collect::<Result<_, _>>()?,
            Some(one @ Value::Map(_)) => vec![Statement::parse(one)?],
            _ => return wrong("a policy has a Statement"),
        };
        if variables {
            statements.iter_mut().for_each(Statement::leave_variables_open);
        }
        Ok(Self { statements })
    }
}

/// A text whose policy variables (`${aws:username}`) are holes: what they stand for is known when something is asked.
fn without_variables(text: &str) -> String {
    let (mut out, mut rest) = (String::new(), text);
    while let Some((before, after)) = rest.split_once("${") {
        let Some((_, after)) = after.split_once('}') else { break };
        out.push_str(before);
        out.push(HOLE);
        rest = after;
    }
    out + rest
}

fn strings(value: &Value, what: &str) -> Result<Vec<String>, PolicyError> {
    match value {
        Value::String(s) => Ok(vec![s.to_string()]),
        Value::Array(items) => items
            .iter()
            .map(|i| i.as_str().map(str::to_string).ok_or_else(|| PolicyError(format!("{what} holds strings"))))
            .collect(),
        _ => wrong(format!("{what} is a string or a list of strings")),
    }
}

impl Statement {
    fn parse(value: &Value) -> Result<Self, PolicyError> {
        let Some(map) = value.as_map() else { return wrong("a statement is an object") };
        for key in map.keys() {
            let known =
                ["Sid", "Effect", "Principal", "NotPrincipal", "Action", "NotAction", "Resource", "NotResource"];
            if !known.contains(&key.as_str()) && key != "Condition" {
                return wrong(format!("a statement has no element {key:?}"));
            }
        }
        let patterns = |name: &str| -> Result<Option<Patterns>, PolicyError> {
            let not_name = format!("Not{name}");
            match (map.get(name), map.get(&not_name)) {
                (Some(_), Some(_)) => wrong(format!("{name} and {not_name} exclude each other")),
                (Some(v), None) => Ok(Some(Patterns { list: strings(v, name)?, not: false })),
                (None, Some(v)) => Ok(Some(Patterns { list: strings(v, &not_name)?, not: true })),
                (None, None) => Ok(None),
            }
        };
        let principals = match (map.get("Principal"), map.get("NotPrincipal")) {
            (Some(_), Some(_)) => return wrong("Principal and NotPrincipal exclude each other"),
            (Some(v), None) => Some(Principals { list: principals(v)?, not: false }),
            (None, Some(v)) => Some(Principals { list: principals(v)?, not: true }),
            (None, None) => None,
        };
        Ok(Self {
            sid: map.get("Sid").and_then(Value::as_str).map(str::to_string),
            effect: match map.get("Effect").and_then(Value::as_str) {
                Some("Allow") => Effect::Allow,
                Some("Deny") => Effect::Deny,
                other => return wrong(format!("Effect is Allow or Deny, not {:?}", other.unwrap_or_default())),
            },
            principals,
            actions: match patterns("Action")? {
                Some(p) => p,
                None => return wrong("a statement has Action or NotAction"),
            },
            resources: patterns("Resource")?,
            conditions: map.get("Condition").map(Condition::parse).transpose()?.unwrap_or_default(),
        })
    }

    fn leave_variables_open(&mut self) {
        let resources = self.resources.iter_mut().flat_map(|r| &mut r.list);
        let compared = self.conditions.iter_mut().flat_map(|c| &mut c.values);
        resources.chain(compared).for_each(|text| *text = without_variables(text));
    }

    fn holds(&self, request: &Request) -> Truth {
        let mut all = self.actions.matches(&request.action, true);
        for c in &self.conditions {
            if all == Truth::No {
                break;
            }
            let truth = match c.holds(request) {
                Some(truth) => truth,
                // An operator nobody knows: it never allows, and always denies.
                None => Truth::from(self.effect == Effect::Deny),
            };
            all = all.and(truth);
        }
        all
    }

    /// Whether the statement of an identity policy applies to a request.
    #[must_use]
    pub fn applies(&self, request: &Request) -> Truth {
        let resource = self.resources.as_ref().map_or(Truth::No, |r| r.matches(&request.resource, false));
        resource.and(self.holds(request))
    }

    /// Whether the statement of a trust policy applies to a principal's request.
    #[must_use]
    pub fn applies_to(&self, principal: &Principal, request: &Request) -> Truth {
        let who = match &self.principals {
            None => Truth::No,
            Some(p) => {
                let any = p.list.iter().map(|x| x.matches(principal)).max().unwrap_or(Truth::No);
                if p.not { !any } else { any }
            }
        };
        who.and(self.holds(request))
    }
}

fn principals(value: &Value) -> Result<Vec<Principal>, PolicyError> {
    if value.as_str() == Some("*") {
        return Ok(vec![Principal::Any]);
    }
    let Some(map) = value.as_map() else { return wrong("Principal is \"*\" or an object") };
    let mut all = Vec::new();
    for (kind, names) in map.iter() {
        for name in strings(names, "Principal")? {
            all.push(match kind.as_str() {
                "AWS" if name == "*" => Principal::Any,
                "AWS" => Principal::Aws(name),
                "Federated" => Principal::Federated(name),
                "Service" => Principal::Service(name),
                "CanonicalUser" => Principal::Aws(name),
                other => return wrong(format!("Principal has no kind {other:?}")),
            });
        }
    }
    Ok(all)
}

impl Principal {
    /// Whether this principal of a policy is that one. Principals know no wildcards but `*` alone.
    fn matches(&self, other: &Self) -> Truth {
        match (self, other) {
            (Self::Any, _) => Truth::Yes,
            (Self::Federated(a), Self::Federated(b))
            | (Self::Aws(a), Self::Aws(b))
            | (Self::Service(a), Self::Service(b)) => glob(a, b, false),
            _ => Truth::No,
        }
    }
}

impl Patterns {
    /// Whether a text is meant. Actions are compared without regard to case, resources with.
    #[must_use]
    pub fn matches(&self, text: &str, any_case: bool) -> Truth {
        let lower = |s: &str| if any_case { s.to_ascii_lowercase() } else { s.to_string() };
        let text = lower(text);
        let any = self.list.iter().map(|p| glob(&lower(p), &text, true)).max().unwrap_or(Truth::No);
        if self.not { !any } else { any }
    }
}
