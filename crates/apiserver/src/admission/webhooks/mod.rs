//! `MutatingAdmissionWebhook` and `ValidatingAdmissionWebhook`: the webhooks that configurations in the store name.
//!
//! Mutating ones are asked one after another, by configuration name and order within it, and each sees what the last
//! has made; a patched object is read and defaulted anew. Whoever asks for `reinvocationPolicy: IfNeeded` is asked a
//! second time when something changed after it. Validating ones are asked side by side. Audit annotations are dropped:
//! there is no audit log.

mod review;

use std::time::Duration;

use druse_object::Value;
use futures::future::{BoxFuture, join_all};

use super::matching::{BUDGET, Cache, Expression, matched_version, request, selected};
use super::{Plugin, Review};
use crate::callout::{Failure, Target};
use crate::cel::Val;
use crate::convert;
use crate::server::Shared;
use crate::status::{Named, Status};
use review::Verdict;

const MUTATING: &str = "mutatingwebhookconfigurations.admissionregistration.k8s.io";
const VALIDATING: &str = "validatingwebhookconfigurations.admissionregistration.k8s.io";

/// One webhook of a configuration.
struct Webhook {
    /// The configuration's name.
    configuration: String,
    name: String,
    spec: Value,
    conditions: Vec<Expression>,
    ignores_failures: bool,
    equivalent: bool,
    again: bool,
    timeout: Duration,
}

impl Webhook {
    fn new(configuration: &str, spec: &Value) -> Self {
        let seconds = spec.get("timeoutSeconds").and_then(Value::as_i64).and_then(|s| u64::try_from(s).ok());
        Self {
            configuration: configuration.to_owned(),
            name: spec.str_at(["name"]).unwrap_or_default().to_owned(),
            conditions: spec["matchConditions"].items().iter().map(|c| Expression::new(&c["expression"])).collect(),
            ignores_failures: spec.str_at(["failurePolicy"]) == Some("Ignore"),
            equivalent: spec.str_at(["matchPolicy"]) != Some("Exact"),
            again: spec.str_at(["reinvocationPolicy"]) == Some("IfNeeded"),
            timeout: Duration::from_secs(seconds.unwrap_or(10)),
            spec: spec.clone(),
        }
    }
}

/// The webhooks of all configurations of a kind.
fn read(shared: &Shared, kind: &str) -> Vec<Webhook> {
    let mut all = Vec::new();
    for c in shared.objects(kind, "") {
        let name = c.str_at(["metadata", "name"]).unwrap_or_default();
        all.extend(c["webhooks"].items().iter().map(|w| Webhook::new(name, w)));
    }
    all
}

/// What configures admission is never subject to it: nobody shall lock themselves out.
fn exempt(review: &Review<'_>) -> bool {
    review.resource.group == "admissionregistration.k8s.io"
}

/// A webhook that is to be asked, and in which version of the object.
struct Wanted {
    version: String,
    target: Result<Target, Failure>,
}

impl Webhook {
    /// Whether this write concerns the webhook.
    fn wants(&self, shared: &Shared, review: &Review<'_>, kind: &str) -> Result<Option<Wanted>, Status> {
        let rules = self.spec["rules"].items();
        let Some(version) = matched_version(rules, review, self.equivalent).map(str::to_owned) else { return Ok(None) };
        if !selected(shared, review, &self.spec) || !self.conditions_hold(shared, review, &version)? {
            return Ok(None);
        }
        let target = shared.webhook_target(&self.spec["clientConfig"]);
        shared.callouts.note(kind, &self.configuration, target == Ok(Target::Simulated));
        if target == Ok(Target::Simulated) {
            tracing::debug!(webhook = self.name, "simulated: not called");
            return Ok(None);
        }
        let effects = self.spec.str_at(["sideEffects"]).unwrap_or_default();
        if review.dry_run && !matches!(effects, "None" | "NoneOnDryRun") {
            return Err(Status::bad_request(format!("admission webhook \"{}\" does not support dry run", self.name)));
        }
        Ok(Some(Wanted { version, target }))
    }

    fn conditions_hold(&self, shared: &Shared, review: &Review<'_>, version: &str) -> Result<bool, Status> {
        if self.conditions.is_empty() {
            return Ok(true);
        }
        let null = Value::Null;
        let request = Value::Map(request(review, version));
        let facts = [
            ("object", Val::json(review.object.as_deref().unwrap_or(&null))),
            ("oldObject", Val::json(review.old.unwrap_or(&null))),
            ("request", Val::json(&request)),
            ("authorizer", super::authorizer::authorizer(shared, review)),
        ];
        let mut budget = BUDGET;
        let mut failed = Vec::new();
        for c in &self.conditions {
            match c.truth(&facts, &mut budget) {
                Ok(true) => {}
                // One that does not hold decides, whatever the others say.
                Ok(false) => return Ok(false),
                Err(e) => failed.push(format!("expression '{}' resulted in error: {e}", c.text)),
            }
        }
        if failed.is_empty() {
            return Ok(true);
        }
        if self.ignores_failures {
            return Ok(false);
        }
        let n = Named { group: &review.resource.group, resource: &review.resource.plural, name: review.name };
        Err(Status::forbidden(n, failed.join(", ")))
    }

    /// Asks; the answer is about the object in `wanted`'s version.
    async fn ask(
        &self,
        shared: &Shared,
        question: &Value,
        wanted: &Wanted,
        mutating: bool,
    ) -> Result<Verdict, Failure> {
        let target = wanted.target.as_ref().map_err(|e| format!("failed to call webhook: {e}"))?;
        let answer = shared.post(&self.spec["clientConfig"], target, question, self.timeout).await?;
        review::read(&answer, question, mutating)
    }

    /// The refusal when a call failed, unless failures are ignored.
    fn failed(&self, why: &Failure) -> Result<(), Status> {
        tracing::warn!(webhook = self.name, error = why, ignored = self.ignores_failures, "webhook failed");
        if self.ignores_failures {
            return Ok(());
        }
        Err(Status::internal(format!("failed calling webhook \"{}\": {why}", self.name)))
    }
}

/// The mutating webhooks.
pub struct Mutating(Cache<Vec<Webhook>>);

impl Default for Mutating {
    fn default() -> Self {
        Self(Cache::new(&[MUTATING], |shared| read(shared, MUTATING)))
    }
}

/// What one request remembers of its webhooks between the rounds.
#[derive(Default)]
pub struct Rounds {
    /// Webhooks (by place) that are to be asked again when something changed after them.
    asked: Vec<usize>,
    due: Vec<usize>,
    last: Option<Value>,
}

impl Mutating {
    /// Asks every webhook concerned. In the first round all of them; in the second those that want to be asked again
    /// because something changed. Answers whether any changed the object.
    ///
    /// # Errors
    /// The first refusal, or failure that is not ignored.
    pub async fn round(
        &self,
        shared: &Shared,
        review: &mut Review<'_>,
        rounds: &mut Rounds,
        second: bool,
    ) -> Result<bool, Status> {
        let all = self.0.current(shared);
        if all.is_empty() || exempt(review) {
            return Ok(false);
        }
        if second && rounds.last.as_ref() != review.object.as_deref() {
            let asked = rounds.asked.clone();
            rounds.due.extend(asked);
        }
        let mut any = false;
        for (i, w) in all.iter().enumerate() {
            if second && !rounds.due.contains(&i) {
                continue;
            }
            let Some(wanted) = w.wants(shared, review, MUTATING)? else { continue };
            let changed = w.mutate(shared, review, &wanted).await?;
            if changed {
                any = true;
                rounds.due.append(&mut rounds.asked);
            }
            if w.again {
                rounds.asked.push(i);
            }
        }
        rounds.last = review.object.as_deref().cloned();
        Ok(any)
    }
}

impl Webhook {
    async fn mutate(&self, shared: &Shared, review: &mut Review<'_>, wanted: &Wanted) -> Result<bool, Status> {
        let question = review::question(shared, &self.spec, review, &wanted.version)?;
        let verdict = match self.ask(shared, &question, wanted, true).await {
            Ok(v) => v,
            Err(why) => {
                self.failed(&why)?;
                return Ok(false);
            }
        };
        review.warnings.lock().extend(verdict.warnings);
        if let Some(refusal) = verdict.refusal {
            return Err(review::denied(&self.name, &refusal));
        }
        let (Some(patch), Some(object)) = (verdict.patch, review.object.as_deref_mut()) else { return Ok(false) };
        let r = review.resource;
        let mut patched = object.clone();
        if review.object_is_subresource {
            druse_object::patch::json_patch(&mut patched, &patch).map_err(Status::internal)?;
        } else {
            patched = convert::between(shared, patched, r, review.version, &wanted.version)?;
            druse_object::patch::json_patch(&mut patched, &patch).map_err(Status::internal)?;
            patched = convert::between(shared, patched, r, &wanted.version, review.version)?;
            // Read as a client's object is: unknown fields go, defaults come.
            let schema = shared.schema(&r.gvk(review.version))?;
            schema.decode(&mut patched).map_err(Status::internal)?;
            schema.default(&mut patched);
        }
        let changed = patched != *object;
        *object = patched;
        Ok(changed)
    }
}

/// The validating webhooks.
pub struct Validating(Cache<Vec<Webhook>>);

impl Default for Validating {
    fn default() -> Self {
        Self(Cache::new(&[VALIDATING], |shared| read(shared, VALIDATING)))
    }
}

impl Plugin for Validating {
    fn name(&self) -> &'static str {
        "ValidatingAdmissionWebhook"
    }

    fn validate<'a>(&'a self, shared: &'a Shared, review: &'a mut Review<'_>) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(async move {
            let all = self.0.current(shared);
            if all.is_empty() || exempt(review) {
                return Ok(());
            }
            let mut calls = Vec::new();
            for w in all.iter() {
                let Some(wanted) = w.wants(shared, review, VALIDATING)? else { continue };
                let question = review::question(shared, &w.spec, review, &wanted.version)?;
                calls.push(async move { (w, w.ask(shared, &question, &wanted, false).await) });
            }
            for (w, answer) in join_all(calls).await {
                match answer {
                    Err(why) => w.failed(&why)?,
                    Ok(verdict) => {
                        review.warnings.lock().extend(verdict.warnings);
                        if let Some(refusal) = verdict.refusal {
                            return Err(review::denied(&w.name, &refusal));
                        }
                    }
                }
            }
            Ok(())
        })
    }
}
