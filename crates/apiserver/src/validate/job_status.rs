//! Statuses of jobs: what has ended says so consistently, and stays ended
//! (`k8s.io/kubernetes/pkg/apis/batch/validation`, `ValidateJobStatusUpdate`). Most rules hold only for what an update
//! changes, so that jobs from before a rule can still be written to.

use std::collections::HashSet;

use druse_object::Value;

use super::at::{At, Errors};
use super::job::{count_indexes, interval};

/// Whether a condition holds.
pub(crate) fn is_true(list: &Value, kind: &str) -> bool {
    says(list, kind, "True")
}

fn says(list: &Value, kind: &str, status: &str) -> bool {
    let holds = |c: &Value| c.str_at(["type"]) == Some(kind) && c.str_at(["status"]) == Some(status);
    list.items().iter().any(holds)
}

/// A status and the one it follows.
struct Change<'a> {
    spec: &'a Value,
    now: At<'a, 'a>,
    was: &'a Value,
}

impl Change<'_> {
    fn now(&self, kind: &str) -> bool {
        is_true(&self.now.value()["conditions"], kind)
    }

    fn then(&self, kind: &str) -> bool {
        is_true(&self.was["conditions"], kind)
    }

    /// Whether a condition began or ceased to hold.
    fn turned(&self, kind: &str) -> bool {
        self.now(kind) != self.then(kind)
    }

    /// Whether a field changed; numbers that are not given are zero.
    fn moved(&self, key: &str) -> bool {
        let zero = |v: &Value| if v.as_i64() == Some(0) { Value::Null } else { v.clone() };
        zero(&self.now.value()[key]) != zero(&self.was[key])
    }

    fn finished(&self) -> bool {
        self.now("Complete") || self.now("Failed")
    }
}

/// Holds a job's new status against its old one.
pub(crate) fn status(new: &Value, old: &Value, out: &mut Errors) {
    let root = At::new(new, "");
    let now = root.child("status");
    let c = Change { spec: &new["spec"], now, was: &old["status"] };
    for key in ["active", "succeeded", "failed", "ready", "terminating"] {
        c.now.child(key).nonnegative(out);
    }
    uncounted(&c.now.child("uncountedTerminatedPods"), out);
    endings(&c, out);
    indexes(&c, out);
    let (terminating, ready) = (c.now.child("terminating"), c.now.child("ready"));
    let ended = c.finished() != (c.then("Complete") || c.then("Failed"));
    if (ended || c.moved("terminating")) && c.finished() && c.now.int_of("terminating") > 0 {
        terminating.invalid("terminating>0 is invalid for finished job", out);
    }
    if (c.moved("ready") || c.moved("active")) && ready.is_given() && c.now.int_of("ready") > c.now.int_of("active") {
        ready.invalid("cannot set more ready pods than active", out);
    }
    successes(&c, out);
    history(&c, out);
}

/// Completion and failure, with the times that go with them.
fn endings(c: &Change, out: &mut Errors) {
    let conditions = c.now.child("conditions");
    let (completed, started) = (c.now.child("completionTime"), c.now.child("startTime"));
    let (complete, failed) = (c.now("Complete"), c.now("Failed"));
    let (timed, began) = (c.moved("completionTime"), c.moved("startTime"));
    if (c.turned("Complete") || c.turned("Failed")) && complete && failed {
        conditions.wrong("cannot set Complete=True and Failed=true conditions", out);
    }
    if (c.turned("Complete") || c.turned("FailureTarget")) && complete && c.now("FailureTarget") {
        conditions.wrong("cannot set Complete=True and FailureTarget=true conditions", out);
    }
    if c.turned("Complete") || timed {
        if completed.is_given() && !complete {
            completed.invalid("cannot set completionTime when there is no Complete=True condition", out);
        }
        if !completed.is_given() && complete {
            completed.required("completionTime is required for Complete jobs", out);
        }
    }
    if (timed || began) && completed.is_given() && started.is_given() && completed.text() < started.text() {
        completed.invalid("must be equal to or after `startTime`", out);
    }
    if (c.turned("Failed") || c.moved("failedIndexes")) && failed && !c.now("FailureTarget") {
        conditions.wrong("cannot set Failed=True condition without the FailureTarget=true condition", out);
    }
    if (c.turned("Complete") || c.turned("SuccessCriteriaMet")) && complete && !c.now("SuccessCriteriaMet") {
        conditions.wrong("cannot set Complete=True condition without the SuccessCriteriaMet=true condition", out);
    }
    let ended = c.finished() != (c.then("Complete") || c.then("Failed"));
    if (ended || c.moved("active")) && c.finished() && c.now.int_of("active") > 0 {
        c.now.child("active").invalid("active>0 is invalid for finished job", out);
    }
    let suspended = c.spec["suspend"].as_bool() == Some(true);
    let nothing_to_do = suspended && c.spec["completions"].as_i64() == Some(0);
    if (ended || began) && !nothing_to_do && c.finished() && !started.is_given() {
        started.required("startTime is required for finished job", out);
    }
    let pods = c.now.child("uncountedTerminatedPods");
    let left = pods.child("failed").len() + pods.child("succeeded").len();
    if (ended || c.moved("uncountedTerminatedPods")) && c.finished() && left > 0 {
        let mut shown = druse_object::Map::new();
        for (go, key) in [("Succeeded", "succeeded"), ("Failed", "failed")] {
            shown.insert(go, pods.value()[key].clone());
        }
        pods.bad(shown, "must be empty for finished job", out);
    }
}

/// Which indices have completed and failed.
fn indexes(c: &Change, out: &mut Errors) {
    let (completed, failed) = (c.now.child("completedIndexes"), c.now.child("failedIndexes"));
    let (done, lost) = (c.moved("completedIndexes"), c.moved("failedIndexes"));
    let all = c.spec["completions"].as_i64();
    let per_index = !c.spec["backoffLimitPerIndex"].is_null();
    let judge = |at: &At, what: &str, out: &mut Errors| {
        if let Some(Err(why)) = all.map(|n| count_indexes(at.text(), n)) {
            at.invalid(format!("error parsing {what}: {why}"), out);
        }
    };
    if done {
        judge(&completed, "completedIndexes", out);
    }
    if lost && per_index && failed.is_given() {
        judge(&failed, "failedIndexes", out);
    }
    let indexed = c.spec["completionMode"].as_str() == Some("Indexed");
    if done && !completed.text().is_empty() && !indexed {
        completed.invalid("cannot set non-empty completedIndexes when non-indexed completion mode", out);
    }
    if lost && !per_index && failed.is_given() {
        failed.invalid("cannot set non-null failedIndexes when backoffLimitPerIndex is null", out);
    }
    if let Some(all) = all.filter(|_| (done || lost) && failed.is_given())
        && let Some(at) = overlap(completed.text(), failed.text(), all)
    {
        failed.invalid(format!("failedIndexes and completedIndexes overlap at index: {at}"), out);
    }
}

/// The first index in both lists; parts that cannot be read are left out.
fn overlap(completed: &str, failed: &str, all: i64) -> Option<i64> {
    let read = |t: &str| -> Vec<(i64, i64)> { t.split(',').filter_map(|p| interval(p, all).ok()).collect() };
    let failed = read(failed);
    let both = read(completed).into_iter().flat_map(|(a, b)| {
        failed.iter().filter(move |(x, y)| a <= *y && *x <= b).map(move |(x, _)| a.max(*x)).collect::<Vec<_>>()
    });
    both.min()
}

fn successes(c: &Change, out: &mut Errors) {
    let conditions = c.now.child("conditions");
    if c.now("SuccessCriteriaMet") {
        for (kind, shown) in [("Failed", "Failed"), ("FailureTarget", "FailureTarget")] {
            if c.now(kind) {
                let why = format!("cannot set SuccessCriteriaMet=True and {shown}=true conditions");
                conditions.wrong(&why, out);
            }
        }
    } else if !c.spec["successPolicy"].is_null() && c.now("Complete") {
        let why = "cannot set Complete=True for Job with SuccessPolicy unless SuccessCriteriaMet=True";
        conditions.wrong(why, out);
    }
}

/// What may not be taken back.
fn history(c: &Change, out: &mut Errors) {
    let conditions = c.now.child("conditions");
    for kind in ["Failed", "Complete", "FailureTarget"] {
        if c.then(kind) && !c.now(kind) {
            conditions.wrong(&format!("cannot disable the terminal {kind}=True condition"), out);
        }
    }
    let grown = |key: &str| c.now.int_of(key) >= c.was[key].as_i64().unwrap_or(0);
    if !grown("failed") {
        c.now.child("failed").bad(c.now.int_of("failed"), "cannot decrease the failed counter", out);
    }
    // A job that counts as many indices as it has pods may be given fewer.
    let indexed = c.spec["completionMode"].as_str() == Some("Indexed");
    let elastic = indexed && c.spec["completions"] == c.spec["parallelism"];
    if !elastic && !grown("succeeded") {
        c.now.child("succeeded").bad(c.now.int_of("succeeded"), "cannot decrease the succeeded counter", out);
    }
    let (completed, started) = (c.now.child("completionTime"), c.now.child("startTime"));
    if completed.is_given() && !c.was["completionTime"].is_null() && c.moved("completionTime") {
        completed.invalid("field is immutable", out);
    }
    let list = |v: &Value| v["conditions"].clone();
    let resumes = says(&list(c.was), "Suspended", "True") && says(&list(c.now.value()), "Suspended", "False");
    let suspended = c.spec["suspend"].as_bool() == Some(true);
    if c.moved("startTime") && !resumes && !c.was["startTime"].is_null() && !suspended {
        started.invalid("field is immutable for unsuspended job once set", out);
    }
    if c.then("SuccessCriteriaMet") && !c.now("SuccessCriteriaMet") {
        conditions.wrong("cannot disable the SuccessCriteriaMet=True condition", out);
    }
    if c.then("Complete") && !c.then("SuccessCriteriaMet") && c.now("SuccessCriteriaMet") {
        let why = "cannot set SuccessCriteriaMet=True for Job already has Complete=true conditions";
        conditions.wrong(why, out);
    }
}

/// Pods that have ended and are not counted yet: each once.
fn uncounted(list: &At, out: &mut Errors) {
    let mut seen = HashSet::new();
    for key in ["succeeded", "failed"] {
        for uid in list.child(key).items() {
            if uid.text().is_empty() {
                uid.bad("", "must not be empty", out);
            } else if !seen.insert(uid.text()) {
                uid.duplicate(uid.text(), out);
            }
        }
    }
}
