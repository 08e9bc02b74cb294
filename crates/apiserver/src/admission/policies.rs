//! `ValidatingAdmissionPolicy`: CEL expressions that refuse writes.
//!
//! Judged: match constraints and conditions, variables, parameters named or selected by a binding (each by itself),
//! messages, reasons, the actions `Deny` and `Warn`. Audit annotations have nowhere to go; that one has no value refuses
//! a write as upstream does.

use druse_object::{Gvk, Map, Value};
use futures::future::{BoxFuture, ready};

use super::authorizer::authorizer;
use super::matching::{BUDGET, Cache, Expression, matched_version, request, selected};
use super::{Plugin, Review};
use crate::cel::Val;
use crate::selector::LabelSelector;
use crate::server::Shared;
use crate::status::{Named, Status};

const POLICIES: &str = "validatingadmissionpolicies.admissionregistration.k8s.io";
const BINDINGS: &str = "validatingadmissionpolicybindings.admissionregistration.k8s.io";
/// A message an expression makes may be this long, in bytes.
const MAX_MESSAGE: usize = 5 * 1024;

struct Validation {
    expression: Expression,
    message: String,
    message_expression: Option<Expression>,
    reason: String,
}

/// What validating and mutating policies have alike.
pub(super) struct Common {
    pub name: String,
    pub spec: Value,
    conditions: Vec<Expression>,
    variables: Vec<(String, Expression)>,
    pub fails_closed: bool,
    /// Name and spec of each binding that counts.
    pub bindings: Vec<(String, Value)>,
}

struct Policy {
    common: Common,
    validations: Vec<Validation>,
    annotations: Vec<Expression>,
}

/// The plugin.
pub struct Policies(Cache<Vec<Policy>>);

impl Default for Policies {
    fn default() -> Self {
        Self(Cache::new(&[POLICIES, BINDINGS], read))
    }
}

impl Plugin for Policies {
    fn name(&self) -> &'static str {
        "ValidatingAdmissionPolicy"
    }

    fn validate<'a>(&'a self, shared: &'a Shared, review: &'a mut Review<'_>) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(ready(self.judge(shared, review)))
    }
}

/// Whether a binding asks for an action.
fn acts(spec: &Value, action: &str) -> bool {
    spec["validationActions"].items().iter().any(|a| a.as_str() == Some(action))
}

impl Common {
    /// Reads a policy; `counts` says which of its bindings do anything.
    pub(super) fn read(policy: &Value, bindings: &[Value], counts: impl Fn(&Value) -> bool) -> Self {
        let name = |v: &Value| v.str_at(["metadata", "name"]).unwrap_or_default().to_owned();
        let spec = policy["spec"].clone();
        let named = |v: &Value| (v.str_at(["name"]).unwrap_or_default().to_owned(), Expression::new(&v["expression"]));
        let own = bindings
            .iter()
            .filter(|b| b.str_at(["spec", "policyName"]) == policy.str_at(["metadata", "name"]) && counts(&b["spec"]));
        Self {
            name: name(policy),
            conditions: spec["matchConditions"].items().iter().map(|c| named(c).1).collect(),
            variables: spec["variables"].items().iter().map(named).collect(),
            fails_closed: spec.str_at(["failurePolicy"]) != Some("Ignore"),
            bindings: own.map(|b| (name(b), b["spec"].clone())).collect(),
            spec,
        }
    }

    /// The specs of the bindings by which this policy is about a write.
    pub(super) fn bound<'a>(
        &'a self,
        shared: &'a Shared,
        review: &'a Review<'_>,
    ) -> impl Iterator<Item = &'a (String, Value)> {
        let about = !self.bindings.is_empty() && matches(shared, review, &self.spec["matchConstraints"], true);
        let bindings = if about { self.bindings.as_slice() } else { &[] };
        bindings.iter().filter(|(_, spec)| matches(shared, review, &spec["matchResources"], false))
    }

    /// What the expressions read, when the conditions hold.
    ///
    /// # Errors
    /// A condition that has no value, unless that is ignored.
    pub(super) fn facts<'a>(
        &self,
        shared: &Shared,
        review: &'a Review<'_>,
        object: &'a Value,
        params: Value,
        budget: &mut u64,
    ) -> Result<Option<Facts<'a>>, String> {
        static NULL: Value = Value::Null;
        let mut facts = Facts {
            object,
            old: review.old.unwrap_or(&NULL),
            request: Value::Map(request(review, review.version)),
            params,
            namespace: shared.object("namespaces", "", review.namespace).unwrap_or_default(),
            variables: Value::Map(Map::new()),
            authorizer: authorizer(shared, review),
        };
        for c in &self.conditions {
            match facts.truth(c, budget) {
                Ok(true) => {}
                Ok(false) => return Ok(None),
                Err(e) if self.fails_closed => return Err(failed(c, &e)),
                Err(_) => return Ok(None),
            }
        }
        for (name, e) in &self.variables {
            // One that has no value only matters to expressions that read it.
            if let Ok(v) = facts.value(e, budget)
                && let Some(m) = facts.variables.as_map_mut()
            {
                m.insert(name.as_str(), v);
            }
        }
        Ok(Some(facts))
    }
}

/// What is said of an expression that has no value.
pub(super) fn failed(e: &Expression, why: &str) -> String {
    format!("expression '{}' resulted in error: {why}", e.text)
}

fn read(shared: &Shared) -> Vec<Policy> {
    let bindings = shared.objects(BINDINGS, "");
    shared
        .objects(POLICIES, "")
        .into_iter()
        .map(|p| {
            let common = Common::read(&p, &bindings, |spec| acts(spec, "Deny") || acts(spec, "Warn"));
            let spec = &common.spec;
            Policy {
                validations: spec["validations"]
                    .items()
                    .iter()
                    .map(|v| Validation {
                        expression: Expression::new(&v["expression"]),
                        message: v.str_at(["message"]).unwrap_or_default().trim().to_owned(),
                        message_expression: v.get("messageExpression").map(Expression::new),
                        reason: v.str_at(["reason"]).unwrap_or("Invalid").to_owned(),
                    })
                    .collect(),
                annotations: spec["auditAnnotations"]
                    .items()
                    .iter()
                    .map(|a| Expression::new(&a["valueExpression"]))
                    .collect(),
                common,
            }
        })
        .collect()
}

impl Policies {
    fn judge(&self, shared: &Shared, review: &Review<'_>) -> Result<(), Status> {
        // Policies do not judge what sets policies.
        if review.resource.group == "admissionregistration.k8s.io" {
            return Ok(());
        }
        let policies = self.0.current(shared);
        for p in policies.iter() {
            for (binding, spec) in p.common.bound(shared, review) {
                let Err(refusal) = p.judge(shared, review, binding, spec) else { continue };
                if acts(spec, "Deny") {
                    return Err(refusal);
                }
                let causes = refusal.details.as_ref().and_then(|d| d.get("causes"));
                let words = causes.and_then(|c| c.items().first()).and_then(|c| c.str_at(["message"]));
                let words = words.unwrap_or_default().replacen(" denied request: ", ": ", 1);
                review.warnings.lock().push(format!("Validation failed for {words}"));
            }
        }
        Ok(())
    }
}

/// Whether a write is among those that rules and selectors name. Without rules a policy matches nothing, and a binding
/// leaves the choice to its policy.
fn matches(shared: &Shared, review: &Review<'_>, m: &Value, rules_needed: bool) -> bool {
    let equivalent = m.str_at(["matchPolicy"]) != Some("Exact");
    let named = |rules: &Value| matched_version(rules.items(), review, equivalent).is_some();
    let rules = &m["resourceRules"];
    let included = if rules.items().is_empty() { !rules_needed } else { named(rules) };
    included && !named(&m["excludeResourceRules"]) && selected(shared, review, m)
}

/// What the expressions of one policy read.
pub(super) struct Facts<'a> {
    object: &'a Value,
    old: &'a Value,
    request: Value,
    params: Value,
    namespace: Value,
    variables: Value,
    authorizer: Val<'static>,
}

impl Facts<'_> {
    fn list(&self) -> [(&str, Val<'_>); 7] {
        [
            ("object", Val::json(self.object)),
            ("oldObject", Val::json(self.old)),
            ("request", Val::json(&self.request)),
            ("params", Val::json(&self.params)),
            ("namespaceObject", Val::json(&self.namespace)),
            ("variables", Val::json(&self.variables)),
            ("authorizer", self.authorizer.clone()),
        ]
    }

    fn truth(&self, e: &Expression, budget: &mut u64) -> Result<bool, String> {
        e.truth(&self.list(), budget)
    }

    pub(super) fn value(&self, e: &Expression, budget: &mut u64) -> Result<Value, String> {
        e.value(&self.list(), budget)
    }
}

impl Policy {
    fn judge(&self, shared: &Shared, review: &Review<'_>, binding: &str, spec: &Value) -> Result<(), Status> {
        let deny = |message: &str, reason: &str| Err(denied(review, &self.common.name, binding, message, reason));
        let all = match self.common.params(shared, review, spec) {
            Ok(p) => p,
            Err(why) if self.common.fails_closed => {
                return deny(&format!("failed to configure binding: {why}"), "Invalid");
            }
            Err(_) => return Ok(()),
        };
        for params in all {
            if let Err((message, reason)) = self.judge_with(shared, review, params) {
                return deny(&message, &reason);
            }
        }
        Ok(())
    }

    /// Judges with one object of parameters; a refusal is its message and reason.
    fn judge_with(&self, shared: &Shared, review: &Review<'_>, params: Value) -> Result<(), (String, String)> {
        let null = Value::Null;
        let failed = |e: &Expression, why: &str| (failed(e, why), "Invalid".to_owned());
        let mut budget = BUDGET;
        let object = review.object.as_deref().unwrap_or(&null);
        let fails_closed = self.common.fails_closed;
        let facts = self.common.facts(shared, review, object, params, &mut budget);
        let Some(facts) = facts.map_err(|why| (why, "Invalid".to_owned()))? else { return Ok(()) };
        for v in &self.validations {
            match facts.truth(&v.expression, &mut budget) {
                Ok(true) => {}
                Ok(false) => {
                    let made = v.message_expression.as_ref().and_then(|e| facts.value(e, &mut budget).ok());
                    let made = made.as_ref().and_then(Value::as_str).map(str::trim);
                    let made = made.filter(|m| !m.is_empty() && !m.contains('\n') && m.len() <= MAX_MESSAGE);
                    let fallback = format!("failed expression: {}", v.expression.text.trim());
                    let message = made.unwrap_or(if v.message.is_empty() { &fallback } else { &v.message });
                    return Err((message.to_owned(), v.reason.clone()));
                }
                Err(e) if fails_closed => return Err(failed(&v.expression, &e)),
                Err(_) => {}
            }
        }
        for a in &self.annotations {
            match facts.value(a, &mut budget) {
                Ok(Value::String(_) | Value::Null) => {}
                Ok(_) if fails_closed => {
                    let why = "valueExpression must evaluate to a string or null";
                    return Err(failed(a, why));
                }
                Err(e) if fails_closed => return Err(failed(a, &e)),
                Ok(_) | Err(_) => {}
            }
        }
        Ok(())
    }
}

impl Common {
    /// The objects a binding names or selects as parameters; one null when none is wanted. `Err` says why none is there
    /// that must be.
    pub(super) fn params(&self, shared: &Shared, review: &Review<'_>, binding: &Value) -> Result<Vec<Value>, String> {
        let (Some(kind), Some(reference)) = (self.spec.get("paramKind"), binding.get("paramRef")) else {
            return Ok(vec![Value::Null]);
        };
        let gvk = Gvk::from_api_version(
            kind.str_at(["apiVersion"]).unwrap_or_default(),
            kind.str_at(["kind"]).unwrap_or_default(),
        );
        let table = shared.registry.table();
        let Some(resource) = table.for_kind(&gvk.group, &gvk.kind) else {
            return Err(format!("failed to find resource referenced by paramKind: '{gvk}'"));
        };
        let named = reference.str_at(["namespace"]).filter(|n| !n.is_empty());
        let namespace = match (resource.namespaced, named, review.namespace) {
            (false, Some(_), _) => {
                return Err("paramRef.namespace must not be provided for a cluster-scoped `paramKind`".into());
            }
            (false, None, _) => "",
            (true, None, "") => {
                return Err(
                    "cannot use namespaced paramRef in policy binding that matches cluster-scoped resources".into()
                );
            }
            (true, named, own) => named.unwrap_or(own),
        };
        let found: Vec<Value> = match reference.str_at(["name"]).filter(|n| !n.is_empty()) {
            Some(name) => shared.object(&resource.stored_as, namespace, name).into_iter().collect(),
            None => {
                let selector = LabelSelector::from_object(&reference["selector"]);
                let all = shared.objects(&resource.stored_as, namespace).into_iter();
                all.filter(|o| {
                    selector.matches(|k| o.at(["metadata", "labels"]).and_then(|l| l.get(k)).and_then(Value::as_str))
                })
                .collect()
            }
        };
        if found.is_empty() && reference.str_at(["parameterNotFoundAction"]) != Some("Allow") {
            return Err("no params found for policy binding with `Deny` parameterNotFoundAction".into());
        }
        // Without parameters there is nothing to judge by.
        Ok(found)
    }
}

fn denied(review: &Review<'_>, policy: &str, binding: &str, message: &str, reason: &str) -> Status {
    let (code, reason) = match reason {
        "Unauthorized" => (401, "Unauthorized"),
        "Forbidden" => (403, "Forbidden"),
        "RequestEntityTooLarge" => (413, "RequestEntityTooLarge"),
        _ => (422, "Invalid"),
    };
    let text = format!("ValidatingAdmissionPolicy '{policy}' with binding '{binding}' denied request: {message}");
    let mut cause = Map::new();
    cause.insert("message", text.as_str());
    let n = Named { group: &review.resource.group, resource: &review.resource.plural, name: review.name };
    Status { code, reason, ..Status::forbidden(n, &text).with_causes(vec![Value::Map(cause)]) }
}
