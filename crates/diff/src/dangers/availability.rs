//! What serves less than before: suspended units, fewer replicas, budgets that go, webhooks that stand in the way.

use std::collections::BTreeMap;

use druse_object::{Object, Value};
use druse_plan::UnitState;
use druse_plan::model::Fault;

use super::{Found, Subject, at, show, text_at};
use crate::model::{Place, Severity};

pub(super) fn check(found: &mut Found<'_>, subject: &Subject<'_>) {
    replicas(found, subject);
    if subject.is("batch", &["CronJob"]) {
        cron(found, subject);
    }
    if subject.is("admissionregistration.k8s.io", &["ValidatingWebhookConfiguration", "MutatingWebhookConfiguration"]) {
        webhooks(found, subject);
    }
    if subject.is("policy", &["PodDisruptionBudget"])
        && let Some(gone) = subject.deleted()
        && found.input.head.unit(&gone.unit.id).is_some()
    {
        found.object("pdb-removed", gone, format!("{} is deleted", gone.object.key()));
    }
}

/// Units that are suspended in head, or do not render there, and did in base.
pub(super) fn units(found: &mut Found<'_>) {
    for new in &found.input.head.plan.units {
        let old = found.input.base.unit(&new.id);
        let was = |state: &UnitState| old.is_some_and(|o| o.state == *state);
        if new.state == UnitState::Suspended && old.is_some() && !was(&UnitState::Suspended) {
            found.unit("suspended", new, format!("{} is suspended", new.id)).field("spec.suspend");
        }
        if new.state == UnitState::Failed && !was(&UnitState::Failed) {
            let error = new.errors.first();
            let message = error.map(|e| e.message.lines().next().unwrap_or_default()).unwrap_or_default();
            let danger = found.unit("unit-fails", new, format!("{} fails: {message}", new.id));
            if let Some(file) = error.and_then(|e| e.file.clone()) {
                danger.place = Place { file, line: error.map_or(0, |e| e.line), template: None };
            }
            // Whoever runs this may only have no network.
            if new.errors.iter().all(|e| e.fault == Fault::NotAtHand) {
                danger.severity(Severity::Warning);
            }
            if let Some(remedy) = error.and_then(|e| e.remedy.as_deref()) {
                let mut letters = remedy.chars();
                let first = letters.next().map(char::to_uppercase).into_iter().flatten();
                danger.remedy = first.chain(letters).chain(['.']).collect();
            }
        }
    }
}

fn replicas(found: &mut Found<'_>, subject: &Subject<'_>) {
    let Some((old, new)) = subject.both() else { return };
    let built_in = subject.is("apps", &["Deployment", "StatefulSet"]);
    let field = match new.kind() {
        "HorizontalPodAutoscaler" => "spec.minReplicas",
        "Cluster" if new.gvk().group == "postgresql.cnpg.io" => "spec.instances",
        _ => "spec.replicas",
    };
    let number = |o: &Object| at(&o.value, field).and_then(Value::as_i64).or(built_in.then_some(1));
    let (Some(from), Some(to)) = (number(old), number(new)) else { return };
    if to >= from || (built_in && is_scaled_elsewhere(found, new)) {
        return;
    }
    let code = match to {
        0 => "scaled-to-zero",
        1 => "ha-lost",
        _ => "replicas-dropped",
    };
    let what = field.rsplit('.').next().unwrap_or(field);
    found.pair(code, &subject.pair, format!("{what} drops from {from} to {to}")).map(|d| d.field(field));
}

/// Whether an autoscaler of head sets the replicas.
fn is_scaled_elsewhere(found: &Found<'_>, workload: &Object) -> bool {
    found.input.head.plan.units.iter().flat_map(|u| &u.objects).any(|o| {
        matches!(o.kind(), "HorizontalPodAutoscaler" | "ScaledObject")
            && o.namespace() == workload.namespace()
            && text_at(&o.value, "spec.scaleTargetRef.name") == Some(workload.name())
    })
}

fn cron(found: &mut Found<'_>, subject: &Subject<'_>) {
    let Some((old, new)) = subject.both() else { return };
    let is = |o: &Object| at(&o.value, "spec.suspend").and_then(Value::as_bool) == Some(true);
    if is(new) && !is(old) {
        let title = format!("CronJob {} is suspended (schedule {})", new.name(), show(at(&new.value, "spec.schedule")));
        found.pair("cron-suspended", &subject.pair, title).map(|d| d.field("spec.suspend"));
    }
}

fn webhooks(found: &mut Found<'_>, subject: &Subject<'_>) {
    let Some(new) = subject.pair.head.map(|h| h.object) else { return };
    // Fail is what the API server sets when nothing is said.
    let policies = |o: &Object| -> BTreeMap<String, String> {
        at(&o.value, "webhooks")
            .map(Value::items)
            .unwrap_or_default()
            .iter()
            .map(|w| {
                let policy = text_at(w, "failurePolicy").unwrap_or("Fail");
                (text_at(w, "name").unwrap_or_default().to_string(), policy.to_string())
            })
            .collect()
    };
    let before = subject.pair.base.map(|b| policies(b.object)).unwrap_or_default();
    let closed: Vec<String> = policies(new)
        .into_iter()
        .filter(|(name, policy)| policy == "Fail" && before.get(name).is_none_or(|p| p != "Fail"))
        .map(|(name, _)| name)
        .collect();
    if closed.is_empty() {
        return;
    }
    let title = format!("failurePolicy Fail: {}", super::some_of(&closed));
    if let Some(danger) = found.pair("webhook-fails-closed", &subject.pair, title) {
        danger.field("webhooks");
        if subject.added().is_some() {
            danger.severity(Severity::Notice);
        }
    }
}
