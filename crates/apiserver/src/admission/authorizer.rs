//! The authorizer as expressions of policies and webhooks see it: `authorizer.group("apps").resource("deployments")
//! .namespace("a").check("get").allowed()`.

use std::sync::Arc;

use druse_object::Str;

use super::Review;
use crate::auth::{Attributes, Authorizer, Decision, User};
use crate::cel::{CelError, Native, Val};
use crate::server::Shared;

/// What one check costs, as upstream counts it.
const CHECK: u64 = 350_000;

/// How far a question has been put together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Whole,
    Path,
    Group,
    Resource,
}

/// The authorizer, or a question to it that is not asked yet.
#[derive(Clone, Debug)]
struct Question {
    authorizer: Arc<Authorizer>,
    user: User,
    about: Attributes,
    stage: Stage,
    /// What `authorizer.requestResource` asks about.
    request: Attributes,
}

/// The variable `authorizer` for a write under review.
#[must_use]
pub fn authorizer(shared: &Shared, review: &Review<'_>) -> Val<'static> {
    let request = Attributes {
        namespace: review.namespace.into(),
        group: review.resource.group.clone(),
        resource: review.resource.plural.clone(),
        subresource: review.subresource.into(),
        name: review.name.into(),
        ..Attributes::default()
    };
    Val::Native(Arc::new(Question {
        authorizer: shared.authorizer.clone(),
        user: review.user.clone(),
        about: Attributes::default(),
        stage: Stage::Whole,
        request,
    }))
}

impl Question {
    fn then(&self, stage: Stage, fill: impl FnOnce(&mut Attributes)) -> Val<'static> {
        let mut next = self.clone();
        next.stage = stage;
        fill(&mut next.about);
        Val::Native(Arc::new(next))
    }

    fn service_account(&self, namespace: &Str, name: &Str) -> Result<Val<'static>, CelError> {
        for (what, text) in [("namespace", namespace), ("name", name)] {
            if text.is_empty() {
                return Err(CelError(format!("invalid service account {what}")));
            }
        }
        let user = User::new(
            &format!("system:serviceaccount:{namespace}:{name}"),
            &["system:serviceaccounts", &format!("system:serviceaccounts:{namespace}"), "system:authenticated"],
        );
        Ok(Val::Native(Arc::new(Question { user, ..self.clone() })))
    }
}

impl Native for Question {
    fn type_name(&self) -> &'static str {
        match self.stage {
            Stage::Whole => "kubernetes.authorization.Authorizer",
            Stage::Path => "kubernetes.authorization.PathCheck",
            Stage::Group => "kubernetes.authorization.GroupCheck",
            Stage::Resource => "kubernetes.authorization.ResourceCheck",
        }
    }

    fn cost(&self, method: &str) -> u64 {
        if method == "check" { CHECK } else { 1 }
    }

    fn field(&self, name: &str) -> Option<Val<'static>> {
        (self.stage == Stage::Whole && name == "requestResource")
            .then(|| self.then(Stage::Resource, |a| *a = self.request.clone()))
    }

    fn call(&self, method: &str, args: &[Val<'_>]) -> Result<Val<'static>, CelError> {
        let texts: Vec<&Str> = args.iter().filter_map(|a| if let Val::Str(s) = a { Some(s) } else { None }).collect();
        match (self.stage, method, texts.as_slice()) {
            (Stage::Whole, "path", [p]) if !p.is_empty() => Ok(self.then(Stage::Path, |a| a.path = (*p).clone())),
            (Stage::Whole, "path", [_]) => Err(CelError("path must not be empty".into())),
            (Stage::Whole, "group", [g]) => Ok(self.then(Stage::Group, |a| a.group = (*g).clone())),
            (Stage::Whole, "serviceAccount", [namespace, name]) => self.service_account(namespace, name),
            (Stage::Group, "resource", [r]) if !r.is_empty() => {
                Ok(self.then(Stage::Resource, |a| a.resource = (*r).clone()))
            }
            (Stage::Group, "resource", [_]) => Err(CelError("resource must not be empty".into())),
            (Stage::Resource, "subresource", [s]) => Ok(self.then(Stage::Resource, |a| a.subresource = (*s).clone())),
            (Stage::Resource, "namespace", [n]) => Ok(self.then(Stage::Resource, |a| a.namespace = (*n).clone())),
            (Stage::Resource, "name", [n]) => Ok(self.then(Stage::Resource, |a| a.name = (*n).clone())),
            // Roles know no selectors: they neither widen nor narrow what is allowed.
            (Stage::Resource, "fieldSelector" | "labelSelector", [_]) => Ok(self.then(Stage::Resource, |_| {})),
            (Stage::Path | Stage::Resource, "check", [verb]) => {
                let about = Attributes { verb: (*verb).clone(), ..self.about.clone() };
                Ok(Val::Native(Arc::new(Answer(self.authorizer.decide(&self.user, &about)))))
            }
            _ => Err(CelError("no such overload".into())),
        }
    }
}

/// What the authorizer has said.
#[derive(Debug)]
struct Answer(Decision);

impl Native for Answer {
    fn type_name(&self) -> &'static str {
        "kubernetes.authorization.Decision"
    }

    fn call(&self, method: &str, args: &[Val<'_>]) -> Result<Val<'static>, CelError> {
        let reason = match &self.0 {
            Decision::Allow(reason) => Some(reason.as_str()),
            Decision::NoOpinion => None,
        };
        match (method, args) {
            ("allowed", []) => Ok(Val::Bool(reason.is_some())),
            ("reason", []) => Ok(Val::Str(reason.unwrap_or_default().into())),
            ("errored", []) => Ok(Val::Bool(false)),
            ("error", []) => Ok(Val::Str(Str::default())),
            _ => Err(CelError("no such overload".into())),
        }
    }
}
