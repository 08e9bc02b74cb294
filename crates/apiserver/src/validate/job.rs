//! Jobs and cron jobs (`k8s.io/kubernetes/pkg/apis/batch/validation`).

use std::collections::HashSet;

use druse_object::{Map, Schedule, Value, schedule};

use super::at::{At, Errors};
use super::dump;
use super::meta::label_selector;
use super::names::is_dns1123_label;
use super::pod::template;
use crate::field::{FieldError, FieldErrorKind, go_quote};

/// How many indices a job may count.
const MOST_INDICES: i64 = 100_000;
/// How many pods at once, and failures, where it counts more than that.
const MOST_AT_ONCE: i64 = 10_000;
const MOST_RULES: usize = 20;
const MOST_CODES: usize = 255;
const LONGEST_MANAGER: usize = 63;
const LONGEST_INDEXES: usize = 64 * 1024;

fn job_spec(spec: &At, out: &mut Errors) {
    for key in [
        "parallelism",
        "completions",
        "activeDeadlineSeconds",
        "backoffLimit",
        "ttlSecondsAfterFinished",
        "backoffLimitPerIndex",
        "maxFailedIndexes",
    ] {
        spec.child(key).nonnegative(out);
    }
    let per_index = spec.child("backoffLimitPerIndex");
    let failed = spec.child("maxFailedIndexes");
    if failed.is_given() && !per_index.is_given() {
        per_index.required("when maxFailedIndexes is specified", out);
    }
    if let Some(by) = spec.get("managedBy") {
        by.domain_path(out);
        if by.text().len() > LONGEST_MANAGER {
            by.too_long(LONGEST_MANAGER, out);
        }
    }
    let mode = spec.child("completionMode");
    mode.any_of(&["NonIndexed", "Indexed"], out);
    match mode.text() {
        "Indexed" => indexed(spec, out),
        "" | "NonIndexed" => {
            for at in [per_index, failed].iter().filter(|at| at.is_given()) {
                at.invalid("requires indexed completion mode", out);
            }
        }
        _ => {}
    }
    if let Some(policy) = spec.get("podFailurePolicy") {
        failure_policy(spec, &policy.child("rules"), out);
    }
    if let Some(policy) = spec.get("successPolicy") {
        if mode.text() == "Indexed" {
            success_policy(&policy.child("rules"), spec.int_of("completions"), out);
        } else {
            policy.bad(dump::internal("SuccessPolicy", policy.value()), "requires indexed completion mode", out);
        }
    }
    let replacement = spec.child("podReplacementPolicy");
    if spec.get("podFailurePolicy").is_some() {
        replacement.any_of(&["Failed"], out);
    } else {
        replacement.any_of(&["Failed", "TerminatingOrFailed"], out);
    }
    let pods = spec.child("template");
    template(pods.value(), &pods.path(), out);
    let pod = pods.child("spec");
    let policy = pod.child("restartPolicy");
    match policy.text() {
        "" | "Always" => policy.required("valid values: \"OnFailure\", \"Never\"", out),
        "Never" => {}
        "OnFailure" if spec.get("podFailurePolicy").is_some() => {
            policy.invalid("only \"Never\" is supported when podFailurePolicy is specified", out);
        }
        "OnFailure" => {}
        _ => policy.unsupported(&["OnFailure", "Never"], out),
    }
}

fn indexed(spec: &At, out: &mut Errors) {
    let (completions, parallelism) = (spec.child("completions"), spec.child("parallelism"));
    let failed = spec.child("maxFailedIndexes");
    let beyond = |at: &At, most: i64, why: String, out: &mut Errors| {
        if at.int().is_some_and(|n| n > most) {
            at.invalid(why, out);
        }
    };
    if !completions.is_given() {
        completions.required("when completion mode is Indexed", out);
    }
    let why = format!("must be less than or equal to {MOST_INDICES} when completion mode is Indexed");
    beyond(&parallelism, MOST_INDICES, why, out);
    if let Some(all) = completions.int() {
        beyond(&failed, all, "must be less than or equal to completions".into(), out);
    }
    beyond(&failed, MOST_INDICES, format!("must be less than or equal to {MOST_INDICES}"), out);
    if completions.int().is_some_and(|n| n > MOST_INDICES) && spec.get("backoffLimitPerIndex").is_some() {
        if !failed.is_given() {
            failed.required(format!("must be specified when completions is above {MOST_INDICES}"), out);
        }
        let why = format!(
            "must be less than or equal to {MOST_AT_ONCE} when completions are above {MOST_INDICES} and used with backoff limit per index"
        );
        beyond(&parallelism, MOST_AT_ONCE, why.clone(), out);
        beyond(&failed, MOST_AT_ONCE, why, out);
    }
}

fn failure_policy(spec: &At, rules: &At, out: &mut Errors) {
    const ACTIONS: [&str; 4] = ["Count", "FailIndex", "FailJob", "Ignore"];
    if rules.len() > MOST_RULES {
        rules.too_many(MOST_RULES, out);
    }
    let pod = &spec.value()["template"]["spec"];
    let lists = ["containers", "initContainers"].map(|l| pod[l].items());
    let names: HashSet<&str> = lists.into_iter().flatten().filter_map(|c| c.str_at(["name"])).collect();
    for rule in rules.items() {
        let action = rule.child("action");
        match action.text() {
            "" => action.required(valid_values(&ACTIONS), out),
            "FailIndex" if spec.get("backoffLimitPerIndex").is_none() => {
                action.invalid("requires the backoffLimitPerIndex to be set", out);
            }
            _ => action.any_of(&ACTIONS, out),
        }
        let (codes, conditions) = (rule.get("onExitCodes"), rule.child("onPodConditions"));
        if let Some(codes) = &codes {
            exit_codes(codes, &names, out);
        }
        if conditions.len() > MOST_RULES {
            conditions.too_many(MOST_RULES, out);
        }
        for c in conditions.items() {
            c.child("type").qualified(out);
            let (status, allowed) = (c.child("status"), ["False", "True", "Unknown"]);
            if status.text().is_empty() {
                status.required(valid_values(&allowed), out);
            } else {
                status.any_of(&allowed, out);
            }
        }
        match (codes.is_some(), conditions.len() > 0) {
            (true, true) => rule.wrong("specifying both OnExitCodes and OnPodConditions is not supported", out),
            (false, false) => rule.wrong("specifying one of OnExitCodes and OnPodConditions is required", out),
            _ => {}
        }
    }
}

/// `valid values: ["a" "b"]`
fn valid_values(all: &[&str]) -> String {
    let quoted: Vec<String> = all.iter().map(|a| go_quote(a)).collect();
    format!("valid values: [{}]", quoted.join(" "))
}

fn exit_codes(codes: &At, names: &HashSet<&str>, out: &mut Errors) {
    let (operator, allowed) = (codes.child("operator"), ["In", "NotIn"]);
    if operator.text().is_empty() {
        operator.required(valid_values(&allowed), out);
    } else {
        operator.any_of(&allowed, out);
    }
    if let Some(name) = codes.get("containerName").filter(|n| !names.contains(n.text())) {
        name.invalid("must be one of the container or initContainer names in the pod template", out);
    }
    let values = codes.child("values");
    if values.len() == 0 {
        values.invalid("at least one value is required", out);
    } else if values.len() > MOST_CODES {
        values.too_many(MOST_CODES, out);
    }
    let mut seen = HashSet::new();
    for v in values.items() {
        let n = v.int().unwrap_or(0);
        if operator.text() == "In" && n == 0 {
            v.invalid("must not be 0 for the In operator", out);
        }
        if !seen.insert(n) {
            v.duplicate(n, out);
        }
    }
    let numbers: Vec<i64> = values.value().items().iter().filter_map(Value::as_i64).collect();
    if !numbers.is_sorted() {
        values.invalid("must be ordered", out);
    }
}

fn success_policy(rules: &At, completions: i64, out: &mut Errors) {
    if rules.len() == 0 {
        rules.required("at least one rules must be specified when the successPolicy is specified", out);
    }
    if rules.len() > MOST_RULES {
        rules.too_many(MOST_RULES, out);
    }
    for rule in rules.items() {
        let (count, indexes) = (rule.get("succeededCount"), rule.get("succeededIndexes"));
        if count.is_none() && indexes.is_none() {
            rule.required("at least one of succeededCount or succeededIndexes must be specified", out);
        }
        let mut total = 0;
        if let Some(at) = &indexes {
            if at.text().len() > LONGEST_INDEXES {
                at.too_long(LONGEST_INDEXES, out);
            }
            match count_indexes(at.text(), completions) {
                Ok(n) => total = n,
                Err(why) => at.invalid(format!("error parsing succeededIndexes: {why}"), out),
            }
        }
        let Some(count) = count else { continue };
        count.nonnegative(out);
        let n = count.int().unwrap_or(0);
        if n > completions {
            let why = format!("must be less than or equal to {completions} (the number of specified completions)");
            count.invalid(why, out);
        }
        if indexes.is_some() && n > total {
            let why = format!(
                "must be less than or equal to {total} (the number of indexes in the specified succeededIndexes field)"
            );
            count.invalid(why, out);
        }
    }
}

/// How many indices `1,3-5` names; all are below `completions` and they rise.
pub(super) fn count_indexes(text: &str, completions: i64) -> Result<i64, String> {
    let (mut total, mut last) = (0, None);
    for part in text.split(',').filter(|_| !text.is_empty()) {
        let (from, to) = interval(part, completions)?;
        if let Some(last) = last.filter(|l| *l >= from) {
            return Err(format!("non-increasing order, previous: {last}, current: {from}"));
        }
        total += to - from + 1;
        last = Some(to);
    }
    Ok(total)
}

pub(super) fn interval(part: &str, completions: i64) -> Result<(i64, i64), String> {
    let number = |t: &str| {
        let n = t.parse::<i64>();
        let n = n.map_err(|_| format!("cannot convert string to integer for index: {}", go_quote(t)))?;
        if n >= completions { Err(format!("too large index: {}", go_quote(t))) } else { Ok(n) }
    };
    match part.split('-').collect::<Vec<_>>().as_slice() {
        [one] => number(one).map(|n| (n, n)),
        [from, to] => {
            let (from, to) = (number(from)?, number(to)?);
            if from < to {
                Ok((from, to))
            } else {
                Err(format!("non-increasing order, previous: {from}, current: {to}"))
            }
        }
        _ => Err(format!(
            "the fragment {} violates the requirement that an index interval can have at most two parts separated by '-'",
            go_quote(part)
        )),
    }
}

/// The labels a job gives its pods: those that say whose they are, and the name under old and new keys.
fn own_labels(job: &Value) -> [(&'static str, &str); 4] {
    let uid = job.str_at(["metadata", "uid"]).unwrap_or_default();
    let name = job.str_at(["metadata", "name"]).unwrap_or_default();
    [
        ("controller-uid", uid),
        ("job-name", name),
        (crate::strategy::JOB_UID, uid),
        ("batch.kubernetes.io/job-name", name),
    ]
}

fn generated_selector(job: &Value, spec: &At, out: &mut Errors) {
    let selector = spec.child("selector");
    if spec.is("manualSelector") || !selector.is_given() {
        return;
    }
    let labels = &job["spec"]["template"]["metadata"]["labels"];
    let mut expected = Map::new();
    for (key, value) in own_labels(job) {
        expected.insert(key, value);
        let has = labels.str_at([key]);
        let path = format!("spec.template.metadata.labels[{key}]");
        let shown = || Value::Map(labels.as_map().cloned().unwrap_or_default());
        match has {
            None => {
                let why = format!("must be '{value}'");
                out.push(FieldError::new(FieldErrorKind::Required, path, Some(shown()), why));
            }
            Some(h) if h != value => out.push(FieldError::invalid(path, shown(), format!("must be '{value}'"))),
            Some(_) => {}
        }
    }
    if !druse_object::selector::selects(selector.value(), &Value::Map(expected)) {
        selector.invalid("`selector` not auto-generated", out);
    }
}

/// Jobs.
pub(crate) fn job(new: &Value, old: Option<&Value>, out: &mut Errors) {
    let root = At::new(new, "");
    let spec = root.child("spec");
    generated_selector(new, &spec, out);
    selected(&spec, out);
    let all = spec.int_of("completions");
    if spec.text_of("completionMode") == "Indexed" && all > 0 {
        let name = new.str_at(["metadata", "name"]).unwrap_or_default();
        let host = format!("{name}-{}", all - 1);
        if !is_dns1123_label(&host).is_empty() {
            let why = format!("will not able to create pod with invalid DNS label: {host}");
            out.push(FieldError::invalid("metadata.name", name, why));
        }
    }
    if let Some(old) = old {
        // Upstream judges the specification of a changed job twice.
        selected(&spec, out);
        changed(&spec, old, out);
    }
}

/// A job's specification with its selector.
fn selected(spec: &At, out: &mut Errors) {
    job_spec(spec, out);
    let selector = spec.child("selector");
    if selector.is_given() {
        label_selector(selector.value(), "spec.selector", out);
    } else {
        selector.required("", out);
    }
    super::workload::selector_matches(spec, out);
}

fn changed(spec: &At, old: &Value, out: &mut Errors) {
    let was = &old["spec"];
    let completions = spec.child("completions");
    if spec.text_of("completionMode") != "Indexed" {
        completions.unchanged(&was["completions"], out);
    } else if completions.is_given()
        && *completions.value() != was["completions"]
        && *completions.value() != spec.value()["parallelism"]
    {
        completions.invalid("can only be modified in tandem with spec.parallelism", out);
    }
    spec.child("selector").unchanged(&was["selector"], out);
    template_changed(&spec.child("template"), &was["template"], Paused::of(old), out);
    for (key, kind) in [
        ("completionMode", ""),
        ("podFailurePolicy", "PodFailurePolicy"),
        ("backoffLimitPerIndex", ""),
        ("managedBy", ""),
        ("successPolicy", "SuccessPolicy"),
    ] {
        let at = spec.child(key);
        if *at.value() != was[key] {
            let shown = if kind.is_empty() { at.value().clone() } else { dump::internal(kind, at.value()) };
            at.bad(shown, "field is immutable", out);
        }
    }
}

/// Whether a job's pods are held back.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Paused {
    No,
    /// Asked for, and not come true yet.
    Soon,
    /// No pod runs.
    Yes,
}

impl Paused {
    fn of(job: &Value) -> Self {
        let status = &job["status"];
        let idle = status["active"].as_i64().unwrap_or(0) == 0;
        match job.at(["spec", "suspend"]).and_then(Value::as_bool) {
            Some(true) if idle && super::job_status::is_true(&status["conditions"], "Suspended") => Self::Yes,
            Some(true) => Self::Soon,
            _ => Self::No,
        }
    }
}

/// Pods of a job stay as they are; while they are held back, where they run and what they ask for may change.
fn template_changed(new: &At, old: &Value, paused: Paused, out: &mut Errors) {
    if paused != Paused::Yes {
        if new.value() != old {
            new.bad(dump::internal("PodTemplateSpec", new.value()), "field is immutable", out);
        }
        return;
    }
    let mut before = old["spec"].clone();
    let is = &new.value()["spec"];
    let take = |v: &mut Value, key: &str, from: Option<&Value>| {
        let Some(m) = v.as_map_mut() else { return };
        match from {
            Some(x) => _ = m.insert(key, x.clone()),
            None => _ = m.remove(key),
        }
    };
    for key in ["nodeSelector", "tolerations", "schedulingGates"] {
        take(&mut before, key, is.get(key));
    }
    let node = is.at(["affinity", "nodeAffinity"]);
    if before.get("affinity").is_some() || is.get("affinity").is_some() {
        let mut a = before["affinity"].clone();
        a.make_map();
        take(&mut a, "nodeAffinity", node);
        let empty = a.as_map().is_none_or(Map::is_empty) && is.get("affinity").is_none();
        take(&mut before, "affinity", (!empty).then_some(&a));
    }
    for list in ["containers", "initContainers"] {
        let now = is[list].items();
        let Some(then) = before.get_mut(list).and_then(Value::as_array_mut).filter(|l| l.len() == now.len()) else {
            continue;
        };
        for (t, n) in then.iter_mut().zip(now).filter(|(t, n)| t.get("name") == n.get("name")) {
            take(t, "resources", n.get("resources"));
        }
    }
    if before != *is {
        new.as_if("spec").bad(dump::internal("PodSpec", is), "field is immutable", out);
    }
}

/// Cron jobs.
pub(crate) fn cron_job(new: &Value, old: Option<&Value>, out: &mut Errors) {
    const LONGEST_NAME: usize = 52;
    let root = At::new(new, "");
    let spec = root.child("spec");
    let schedule = spec.child("schedule");
    schedule.need(out);
    if !schedule.text().is_empty() {
        let was = old.and_then(|o| o.str_at(["spec", "schedule"])).unwrap_or_default();
        let zoned = schedule.text().contains("TZ");
        if let Err(why) = Schedule::parse(schedule.text()) {
            schedule.invalid(why, out);
        }
        if zoned && was.contains("TZ") && spec.get("timeZone").is_some() {
            schedule.invalid("cannot use both timeZone field and TZ or CRON_TZ in schedule", out);
        } else if zoned && !was.contains("TZ") {
            schedule.invalid("cannot use TZ or CRON_TZ in schedule, use timeZone field instead", out);
        }
    }
    spec.child("startingDeadlineSeconds").nonnegative(out);
    if let Some(zone) = spec.get("timeZone")
        && old.is_none_or(|o| o.at(["spec", "timeZone"]) != Some(zone.value()))
    {
        time_zone(&zone, out);
    }
    spec.child("concurrencyPolicy").one_of(&["Allow", "Forbid", "Replace"], out);
    let job_template = spec.child("jobTemplate");
    let job = job_template.child("spec");
    job_spec(&job, out);
    if let Some(selector) = job.get("selector") {
        selector.invalid("`selector` will be auto-generated", out);
    }
    if job.is("manualSelector") {
        job.child("manualSelector").unsupported(&["nil", "false"], out);
    }
    for key in ["successfulJobsHistoryLimit", "failedJobsHistoryLimit"] {
        spec.child(key).nonnegative(out);
    }
    let name = new.str_at(["metadata", "name"]).unwrap_or_default();
    if old.is_none() && name.len() > LONGEST_NAME {
        let why = format!("must be no more than {LONGEST_NAME} characters");
        out.push(FieldError::invalid("metadata.name", name, why));
    }
}

fn time_zone(at: &At, out: &mut Errors) {
    let zone = at.text();
    if zone.is_empty() {
        return at.invalid("timeZone must be nil or non-empty string", out);
    }
    let unknown = format!("unknown time zone {zone}");
    let word = |p: &str| {
        let plain = p.bytes().all(|b| b.is_ascii_alphabetic() || b.is_ascii_digit() || b".-_+".contains(&b));
        plain && (1..=14).contains(&p.len()) && p != "." && p != ".." && !p.starts_with('-')
    };
    if !zone.split('/').all(word) {
        return at.invalid(unknown, out);
    }
    if zone.eq_ignore_ascii_case("Local") {
        let why = "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones";
        at.invalid(why, out);
    }
    if schedule::zone(zone).is_none() {
        at.invalid(unknown, out);
    }
}
