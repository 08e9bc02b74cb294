//! Eviction: the deletion of a pod that disruption budgets have a say in (`k8s.io/kubernetes/pkg/registry/core/pod`).

use druse_object::{Gvk, Map, Value};

use super::call::check_dry_run;
use super::delete::{Options, check_propagation, remove};
use super::pods::set_condition;
use super::update::{Mode, change};
use super::{Answer, Call};
use crate::admission::Operation;
use crate::field::FieldError;
use crate::response;
use crate::server::now;
use crate::status::{Named, Status};

const KIND: &str = "Eviction";
const REFUSED: &str = "Cannot evict pod as it would violate the pod's disruption budget.";
/// More disruptions than this at one time are not kept account of.
const MOST_DISRUPTED: usize = 2000;
/// After how many seconds to ask again where the budget's controller has something to do first.
const AGAIN: i64 = 10;

/// Deletes a pod unless a disruption budget forbids it.
pub async fn evict(call: &Call) -> Answer {
    let name = call.info.name.as_str();
    let dry = call.dry_run()?;
    let mut body = call.body_as(&Gvk::new("policy", "v1", KIND), &["policy/v1beta1"])?;
    if body.str_at(["metadata", "name"]).unwrap_or_default() != name {
        return Err(Status::bad_request("name in URL does not match name in Eviction object"));
    }
    const BROKEN: &str = "ignoreStoreReadErrorWithClusterBreakingPotential";
    if body.at(["deleteOptions", BROKEN]).and_then(Value::as_bool) == Some(true) {
        let why = "can not be set for pod eviction, try after removing the option";
        let error = FieldError::invalid(format!("deleteOptions.{BROKEN}"), true, why);
        return Err(Status::invalid("policy", KIND, name, &[error]));
    }
    let asked = body.get("deleteOptions").cloned().unwrap_or_default();
    let text = |path: [&str; 2]| asked.str_at(path).filter(|t| !t.is_empty()).map(str::to_owned);
    let orphan = asked.get("orphanDependents").and_then(Value::as_bool);
    let (here, there) = (call.info.query.all("dryRun").collect::<Vec<_>>(), asked["dryRun"].items());
    if !here.is_empty() && !there.is_empty() && !there.iter().map(Value::as_str).eq(here.iter().map(|d| Some(*d))) {
        let there = super::patch::go_printed(&asked["dryRun"]);
        let why = format!("Non-matching dry-run options in request and content: [{}] and {there}", here.join(" "));
        return Err(Status::new(500, "", why));
    }
    let said = check_dry_run("DeleteOptions", asked["dryRun"].items());
    let dry = dry | said.as_ref().is_ok_and(|dry| *dry);
    let options = Options {
        grace: asked.get("gracePeriodSeconds").and_then(Value::as_i64),
        uid: text(["preconditions", "uid"]),
        resource_version: text(["preconditions", "resourceVersion"]),
        propagation: asked.str_at(["propagationPolicy"]).map(str::to_owned),
        dry_run: dry,
        collection: false,
    };
    call.admit(Operation::Create, &mut body, None, dry).await?;
    let pod = call.shared.object("pods", call.namespace(), name).ok_or_else(|| Status::not_found(call.named(name)))?;
    check_propagation(asked.str_at(["propagationPolicy"]), orphan)?;
    said?;
    if counts(&pod) {
        ask_budget(call, &pod, dry).await?;
    }
    go(call, name, options).await?;
    Ok(response::status(&Status::success(201, None)))
}

/// Whether a budget has a say: not about pods that have ended, have not begun or are going anyway.
fn counts(pod: &Value) -> bool {
    let ended = matches!(pod.str_at(["status", "phase"]), Some("Succeeded" | "Failed" | "Pending"));
    !ended && pod.str_at(["metadata", "deletionTimestamp"]).is_none()
}

fn count(budget: &Value, key: &str) -> i64 {
    budget.at(["status", key]).and_then(Value::as_i64).unwrap_or(0)
}

/// Asks the pod's budget for one disruption, and takes it.
async fn ask_budget(call: &Call, pod: &Value, dry: bool) -> Result<(), Status> {
    let mut matching = call.shared.objects("poddisruptionbudgets.policy", call.namespace());
    matching.retain(|b| druse_object::selector::selects(&b["spec"]["selector"], &pod["metadata"]["labels"]));
    let budget = match matching.as_slice() {
        [] => return Ok(()),
        [one] => one,
        _ => {
            let why =
                "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.";
            return Err(Status::new(500, "", why));
        }
    };
    let is_ready = |c: &Value| c.str_at(["type"]) == Some("Ready") && c.str_at(["status"]) == Some("True");
    if !pod["status"]["conditions"].items().iter().any(is_ready) {
        let always = budget.str_at(["spec", "unhealthyPodEvictionPolicy"]) == Some("AlwaysAllow");
        let desired = count(budget, "desiredHealthy");
        if always || desired > 0 && count(budget, "currentHealthy") >= desired {
            return Ok(());
        }
    }
    check(budget)?;
    if dry {
        return Ok(());
    }
    let budgets = call.table.for_kind("policy", "PodDisruptionBudget").ok_or_else(Status::no_resource)?.clone();
    let name = budget.str_at(["metadata", "name"]).unwrap_or_default();
    let info = crate::request::RequestInfo { name: name.into(), subresource: "status".into(), ..(*call.info).clone() };
    let of_budget = Call {
        resource: budgets,
        version: "v1".into(),
        info: std::sync::Arc::new(info),
        ..call.for_namespace(call.namespace())
    };
    let manager = Mode::Admitted("kube-apiserver");
    let pod = pod.str_at(["metadata", "name"]).unwrap_or_default();
    change(&of_budget, name, "status", manager, false, &mut |old, _| {
        check(old)?;
        let mut new = old.clone();
        take(&mut new, pod);
        Ok(new)
    })
    .await?;
    Ok(())
}

/// Whether a budget allows one more disruption.
fn check(budget: &Value) -> Result<(), Status> {
    let name = budget.str_at(["metadata", "name"]).unwrap_or_default();
    let refused = |message: String, again: Option<i64>| {
        let mut cause = Map::new();
        cause.insert("reason", "DisruptionBudget");
        cause.insert("message", message);
        let mut status = Status::new(429, "TooManyRequests", REFUSED).with_causes(vec![Value::Map(cause)]);
        if let (Some(n), Some(d)) = (again, status.details.as_mut()) {
            d.insert("retryAfterSeconds", n);
        }
        status
    };
    let generation = budget.at(["metadata", "generation"]).and_then(Value::as_i64).unwrap_or(0);
    if count(budget, "observedGeneration") < generation {
        let why = format!("The disruption budget {name} is still being processed by the server.");
        return Err(refused(why, Some(AGAIN)));
    }
    let named = Named { group: "policy", resource: "poddisruptionbudget", name };
    let allowed = count(budget, "disruptionsAllowed");
    if allowed < 0 {
        return Err(Status::forbidden(named, "pdb disruptions allowed is negative"));
    }
    if budget.at(["status", "disruptedPods"]).and_then(Value::as_map).is_some_and(|m| m.len() > MOST_DISRUPTED) {
        let why = "DisruptedPods map too big - too many evictions not confirmed by PDB controller";
        return Err(Status::forbidden(named, why));
    }
    if allowed > 0 {
        return Ok(());
    }
    let (healthy, needed) = (count(budget, "currentHealthy"), count(budget, "desiredHealthy"));
    let conditions = budget.at(["status", "conditions"]).map(Value::items).unwrap_or_default();
    let said = conditions
        .iter()
        .find(|c| c.str_at(["type"]) == Some("DisruptionAllowed"))
        .filter(|c| c.str_at(["status"]) == Some("False"))
        .map(|c| (c.str_at(["reason"]).unwrap_or_default(), c.str_at(["message"]).unwrap_or_default()))
        .filter(|(_, message)| !message.is_empty());
    let forbids = format!("The disruption budget {name} does not allow evicting pods currently");
    let why = match said {
        Some(("SyncFailed", message)) => format!("{forbids} because it failed sync: {message}"),
        _ if healthy <= needed => {
            format!("The disruption budget {name} needs {needed} healthy pods and has {healthy} currently")
        }
        Some((reason, message)) => format!("{forbids} ({reason}): {message}"),
        None => forbids,
    };
    Err(refused(why, None))
}

/// Takes one disruption from a budget for a pod.
fn take(budget: &mut Value, pod: &str) {
    let left = count(budget, "disruptionsAllowed") - 1;
    let observed = count(budget, "observedGeneration");
    let Some(status) = budget.make_map_at(["status"]) else { return };
    status.insert("disruptionsAllowed", left);
    if left == 0 {
        let mut c = Map::new();
        c.insert("type", "DisruptionAllowed");
        c.insert("status", "False");
        c.insert("observedGeneration", observed);
        c.insert("lastTransitionTime", now());
        c.insert("reason", "InsufficientPods");
        c.insert("message", "");
        let mut all = status.get("conditions").map(|l| l.items().to_vec()).unwrap_or_default();
        all.retain(|c| c.str_at(["type"]) != Some("DisruptionAllowed"));
        all.push(Value::Map(c));
        status.insert("conditions", all);
    }
    if let Some(disrupted) = budget.make_map_at(["status", "disruptedPods"]) {
        disrupted.insert(pod, now());
    }
}

/// Tells the pod why it goes, and deletes it.
async fn go(call: &Call, name: &str, mut options: Options) -> Result<(), Status> {
    if !options.dry_run {
        let checked = options.clone();
        let made = change(call, name, "status", Mode::System, false, &mut |old, stored| {
            super::delete::check_preconditions(call, name, &checked, old, stored.rv)?;
            let mut new = old.clone();
            let more = [("reason", "EvictionByEvictionAPI"), ("message", "Eviction API: evicting")];
            set_condition(&mut new, "DisruptionTarget", &more);
            Ok(new)
        })
        .await?;
        if let (Some(rv), super::create::Made::Stored(o)) = (options.resource_version.as_mut(), &made) {
            *rv = o.rv.to_string();
        }
    }
    remove(call, name, &options).await?;
    Ok(())
}
