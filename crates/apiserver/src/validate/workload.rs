//! Workloads and what watches over them (`k8s.io/kubernetes/pkg/apis/apps`, `batch`, `policy`, `autoscaling`).

use druse_object::Value;

use super::meta::{immutable, label_selector};
use super::pod::{nonnegative, template, template_immutable};
use crate::field::{FieldError, go_quote};

type Errors = Vec<FieldError>;

static NULL: Value = Value::Null;

fn at<'a>(v: &'a Value, path: &[&str]) -> &'a Value {
    path.iter().try_fold(v, |v, k| v.get(k)).unwrap_or(&NULL)
}

fn selector(spec: &Value, what: &str, out: &mut Errors) {
    let Some(selector) = spec.get("selector").filter(|v| !v.is_null()) else {
        out.push(FieldError::required("spec.selector", ""));
        return;
    };
    label_selector(selector, "spec.selector", out);
    let size = at(selector, &["matchLabels"]).as_map().map_or(0, druse_object::Map::len)
        + at(selector, &["matchExpressions"]).items().len();
    if size == 0 {
        out.push(FieldError::invalid(
            "spec.selector",
            selector.clone(),
            format!("empty selector is invalid for {what}"),
        ));
    }
}

fn selector_matches(spec: &Value, out: &mut Errors) {
    let labels = spec.at(["template", "metadata", "labels"]);
    if !druse_object::selector::selects(at(spec, &["selector"]), labels.unwrap_or(&Value::Null)) {
        out.push(FieldError::invalid(
            "spec.template.metadata.labels",
            labels.cloned().unwrap_or_default(),
            "`selector` does not match template `labels`",
        ));
    }
}

fn always_restarts(spec: &Value, what: &str, out: &mut Errors) {
    let pod = at(spec, &["template", "spec"]);
    let policy = at(pod, &["restartPolicy"]).as_str().unwrap_or_default();
    if policy != "Always" && !policy.is_empty() {
        out.push(FieldError::not_supported("spec.template.spec.restartPolicy", policy, &["Always"]));
    }
    if pod.get("activeDeadlineSeconds").is_some() {
        out.push(FieldError::forbidden(
            "spec.template.spec.activeDeadlineSeconds",
            format!("activeDeadlineSeconds in {what} is not Supported"),
        ));
    }
}

/// A number or a percentage that is not negative.
pub(super) fn int_or_percent(v: Option<&Value>, path: &str, out: &mut Errors) {
    match v {
        Some(Value::String(s)) => {
            let percent = s.strip_suffix('%').is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()));
            if !percent {
                out.push(FieldError::invalid(path, s.clone(), "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')"));
            }
        }
        v => nonnegative(v, path, out),
    }
}

fn is_zero(v: Option<&Value>) -> bool {
    matches!(v, Some(Value::Int(0))) || v.and_then(Value::as_str) == Some("0%")
}

/// Deployments.
pub(crate) fn deployment(new: &Value, old: Option<&Value>, out: &mut Errors) {
    let spec = at(new, &["spec"]);
    nonnegative(spec.get("replicas"), "spec.replicas", out);
    selector(spec, "deployment", out);
    selector_matches(spec, out);
    template(at(spec, &["template"]), "spec.template", out);
    always_restarts(spec, "ReplicaSet", out);
    let strategy = at(spec, &["strategy"]);
    match at(strategy, &["type"]).as_str().unwrap_or_default() {
        "Recreate" => {
            if strategy.get("rollingUpdate").is_some() {
                out.push(FieldError::forbidden(
                    "spec.strategy.rollingUpdate",
                    "may not be specified when strategy `type` is 'Recreate'",
                ));
            }
        }
        "RollingUpdate" => {
            let rolling = at(strategy, &["rollingUpdate"]);
            int_or_percent(rolling.get("maxUnavailable"), "spec.strategy.rollingUpdate.maxUnavailable", out);
            int_or_percent(rolling.get("maxSurge"), "spec.strategy.rollingUpdate.maxSurge", out);
            if is_zero(rolling.get("maxUnavailable")) && is_zero(rolling.get("maxSurge")) {
                let bad = rolling.get("maxUnavailable").cloned().unwrap_or_default();
                out.push(FieldError::invalid(
                    "spec.strategy.rollingUpdate.maxUnavailable",
                    bad,
                    "may not be 0 when `maxSurge` is 0",
                ));
            }
        }
        other => out.push(FieldError::not_supported("spec.strategy.type", other, &["Recreate", "RollingUpdate"])),
    }
    nonnegative(spec.get("minReadySeconds"), "spec.minReadySeconds", out);
    nonnegative(spec.get("revisionHistoryLimit"), "spec.revisionHistoryLimit", out);
    if let Some(deadline) = spec.get("progressDeadlineSeconds").and_then(Value::as_i64) {
        nonnegative(spec.get("progressDeadlineSeconds"), "spec.progressDeadlineSeconds", out);
        if deadline <= spec.get("minReadySeconds").and_then(Value::as_i64).unwrap_or(0) {
            out.push(FieldError::invalid(
                "spec.progressDeadlineSeconds",
                deadline,
                "must be greater than minReadySeconds",
            ));
        }
    }
    selector_immutable(spec, old, out);
}

fn selector_immutable(spec: &Value, old: Option<&Value>, out: &mut Errors) {
    if let Some(old) = old {
        immutable(at(spec, &["selector"]), at(old, &["spec", "selector"]), "spec.selector", out);
    }
}

/// Replica sets.
pub(crate) fn replica_set(new: &Value, old: Option<&Value>, out: &mut Errors) {
    let spec = at(new, &["spec"]);
    nonnegative(spec.get("replicas"), "spec.replicas", out);
    nonnegative(spec.get("minReadySeconds"), "spec.minReadySeconds", out);
    selector(spec, "deployment", out);
    selector_matches(spec, out);
    template(at(spec, &["template"]), "spec.template", out);
    always_restarts(spec, "ReplicaSet", out);
    selector_immutable(spec, old, out);
}

/// Replication controllers.
pub(crate) fn replication_controller(new: &Value, out: &mut Errors) {
    let spec = at(new, &["spec"]);
    nonnegative(spec.get("replicas"), "spec.replicas", out);
    if spec.get("selector").is_none() {
        out.push(FieldError::required("spec.selector", ""));
    }
    match spec.get("template") {
        Some(t) => template(t, "spec.template", out),
        None => out.push(FieldError::required("spec.template", "")),
    }
}

/// The counters of a workload's status: none is negative, none counts more than there are.
pub(crate) fn status(kind: &str, new: &Value, out: &mut Errors) {
    let (first, parts, ready): (&[&str], &[&str], &str) = match kind {
        "Deployment" => (
            &["replicas", "updatedReplicas", "readyReplicas", "availableReplicas", "unavailableReplicas"],
            &["updatedReplicas", "readyReplicas", "availableReplicas"],
            "readyReplicas",
        ),
        "StatefulSet" => (
            &["replicas", "readyReplicas", "currentReplicas", "updatedReplicas"],
            &["readyReplicas", "currentReplicas", "updatedReplicas", "availableReplicas"],
            "status.readyReplicas",
        ),
        "ReplicaSet" => (
            &["replicas", "fullyLabeledReplicas", "readyReplicas", "availableReplicas"],
            &["fullyLabeledReplicas", "readyReplicas", "availableReplicas"],
            "readyReplicas",
        ),
        _ => return,
    };
    let status = at(new, &["status"]);
    let count = |key: &str| at(status, &[key]).as_i64().unwrap_or(0);
    for key in first {
        nonnegative(status.get(key), &format!("status.{key}"), out);
    }
    for key in parts.iter().filter(|k| count(k) > count("replicas")) {
        let why = "cannot be greater than status.replicas";
        out.push(FieldError::invalid(format!("status.{key}"), count(key), why));
    }
    if count("availableReplicas") > count("readyReplicas") {
        let why = format!("cannot be greater than {ready}");
        out.push(FieldError::invalid("status.availableReplicas", count("availableReplicas"), why));
    }
}

/// Daemon sets.
pub(crate) fn daemon_set(new: &Value, old: Option<&Value>, out: &mut Errors) {
    let spec = at(new, &["spec"]);
    // Who may be selected is judged before who is.
    selector_immutable(spec, old, out);
    let before = out.len();
    if !at(spec, &["selector"]).is_null() {
        selector(spec, "daemonset", out);
    }
    if out.len() == before || spec.get("selector").is_some() {
        selector_matches(spec, out);
    }
    template(at(spec, &["template"]), "spec.template", out);
    always_restarts(spec, "DaemonSet", out);
    nonnegative(spec.get("minReadySeconds"), "spec.minReadySeconds", out);
    let strategy = at(spec, &["updateStrategy"]);
    match at(strategy, &["type"]).as_str().unwrap_or_default() {
        "OnDelete" => {}
        "RollingUpdate" => {
            let rolling = at(strategy, &["rollingUpdate"]);
            int_or_percent(rolling.get("maxUnavailable"), "spec.updateStrategy.rollingUpdate.maxUnavailable", out);
            int_or_percent(rolling.get("maxSurge"), "spec.updateStrategy.rollingUpdate.maxSurge", out);
        }
        other => out.push(FieldError::not_supported("spec.updateStrategy.type", other, &["RollingUpdate", "OnDelete"])),
    }
    nonnegative(spec.get("revisionHistoryLimit"), "spec.revisionHistoryLimit", out);
}

/// Stateful sets.
pub(crate) fn stateful_set(new: &Value, old: Option<&Value>, out: &mut Errors) {
    let spec = at(new, &["spec"]);
    let management = at(spec, &["podManagementPolicy"]).as_str().unwrap_or_default();
    if !["OrderedReady", "Parallel"].contains(&management) {
        out.push(FieldError::invalid("spec.podManagementPolicy", management, "must be 'OrderedReady' or 'Parallel'"));
    }
    let strategy = at(spec, &["updateStrategy"]);
    match at(strategy, &["type"]).as_str().unwrap_or_default() {
        "OnDelete" => {
            if let Some(r) = strategy.get("rollingUpdate") {
                out.push(FieldError::invalid(
                    "spec.updateStrategy.rollingUpdate",
                    r.clone(),
                    "only allowed for updateStrategy 'RollingUpdate'",
                ));
            }
        }
        "RollingUpdate" => {
            nonnegative(
                strategy.at(["rollingUpdate", "partition"]),
                "spec.updateStrategy.rollingUpdate.partition",
                out,
            );
        }
        _ => out.push(FieldError::invalid(
            "spec.updateStrategy",
            strategy.clone(),
            "must be 'RollingUpdate' or 'OnDelete'",
        )),
    }
    nonnegative(spec.get("replicas"), "spec.replicas", out);
    nonnegative(spec.get("minReadySeconds"), "spec.minReadySeconds", out);
    selector(spec, "statefulset", out);
    selector_matches(spec, out);
    // Claims of the set become volumes of its pods under the same names.
    let mut pod_template = at(spec, &["template"]).clone();
    let claims: Vec<Value> =
        at(spec, &["volumeClaimTemplates"]).items().iter().map(|c| at(c, &["metadata", "name"]).clone()).collect();
    if !claims.is_empty()
        && let Some(pod) = pod_template.make_map_at(["spec"])
    {
        let volumes = pod.entry_or_null("volumes");
        if !matches!(volumes, Value::Array(_)) {
            *volumes = Value::Array(Vec::new());
        }
        for name in claims {
            if let Some(list) = volumes.as_array_mut() {
                list.retain(|v| v.get("name") != Some(&name));
                let mut v = druse_object::Map::new();
                v.insert("name", name);
                v.insert("emptyDir", druse_object::Map::new());
                list.push(Value::Map(v));
            }
        }
    }
    template(&pod_template, "spec.template", out);
    always_restarts(spec, "StatefulSet", out);
    if let Some(old) = old {
        let allowed = [
            "replicas",
            "template",
            "updateStrategy",
            "minReadySeconds",
            "ordinals",
            "revisionHistoryLimit",
            "persistentVolumeClaimRetentionPolicy",
        ];
        let rest = |v: &Value| {
            let mut m = at(v, &["spec"]).as_map().cloned().unwrap_or_default();
            m.retain(|k, _| !allowed.contains(&k.as_str()));
            m
        };
        if rest(new) != rest(old) {
            out.push(FieldError::forbidden("spec", "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden"));
        }
    }
}

fn job_spec(spec: &Value, path: &str, out: &mut Errors) {
    for key in [
        "parallelism",
        "completions",
        "activeDeadlineSeconds",
        "backoffLimit",
        "ttlSecondsAfterFinished",
        "backoffLimitPerIndex",
        "maxFailedIndexes",
    ] {
        nonnegative(spec.get(key), &format!("{path}.{key}"), out);
    }
    let indexed = at(spec, &["completionMode"]).as_str() == Some("Indexed");
    if indexed && spec.get("completions").is_none() {
        out.push(FieldError::required(format!("{path}.completions"), "when completion mode is Indexed"));
    }
    if !indexed {
        for key in ["backoffLimitPerIndex", "maxFailedIndexes"] {
            if let Some(v) = spec.get(key) {
                out.push(FieldError::invalid(format!("{path}.{key}"), v.clone(), "requires indexed completion mode"));
            }
        }
    }
    template(at(spec, &["template"]), &format!("{path}.template"), out);
    let policy = at(spec, &["template", "spec", "restartPolicy"]).as_str().unwrap_or_default();
    let at_policy = format!("{path}.template.spec.restartPolicy");
    match policy {
        "" | "Always" => out.push(FieldError::required(at_policy, "valid values: \"OnFailure\", \"Never\"")),
        "OnFailure" | "Never" => {}
        other => out.push(FieldError::not_supported(at_policy, other, &["OnFailure", "Never"])),
    }
}

/// Jobs.
pub(crate) fn job(new: &Value, old: Option<&Value>, out: &mut Errors) {
    let spec = at(new, &["spec"]);
    job_spec(spec, "spec", out);
    if let Some(selector) = spec.get("selector") {
        label_selector(selector, "spec.selector", out);
        let manual = at(spec, &["manualSelector"]).as_bool() == Some(true);
        let uid = at(new, &["metadata", "uid"]);
        let labels = at(selector, &["matchLabels"]);
        let generated = labels.as_map().is_some_and(|m| m.len() == 1)
            && labels.get(crate::strategy::JOB_UID) == Some(uid)
            && at(selector, &["matchExpressions"]).items().is_empty();
        if old.is_none() && !manual && !generated {
            out.push(FieldError::invalid("spec.selector", selector.clone(), "`selector` not auto-generated"));
        }
        selector_matches(spec, out);
    }
    let Some(old) = old.map(|o| at(o, &["spec"])) else { return };
    let suspended = at(old, &["suspend"]).as_bool() == Some(true);
    let indexed = at(spec, &["completionMode"]).as_str() == Some("Indexed");
    if !indexed || at(spec, &["completions"]) != at(spec, &["parallelism"]) {
        immutable(at(spec, &["completions"]), at(old, &["completions"]), "spec.completions", out);
    }
    immutable(at(spec, &["selector"]), at(old, &["selector"]), "spec.selector", out);
    if !suspended {
        template_immutable(at(spec, &["template"]), at(old, &["template"]), "spec.template", out);
    }
    for key in ["completionMode", "podFailurePolicy", "backoffLimitPerIndex", "managedBy", "successPolicy"] {
        immutable(at(spec, &[key]), at(old, &[key]), &format!("spec.{key}"), out);
    }
}

/// Cron jobs.
pub(crate) fn cron_job(new: &Value, out: &mut Errors) {
    let spec = at(new, &["spec"]);
    let name = at(new, &["metadata", "name"]).as_str().unwrap_or_default();
    if name.len() > 52 {
        out.push(FieldError::invalid("metadata.name", name, "must be no more than 52 characters"));
    }
    let schedule = at(spec, &["schedule"]).as_str().unwrap_or_default();
    if schedule.is_empty() {
        out.push(FieldError::required("spec.schedule", ""));
    } else if let Err(text) = check_schedule(schedule) {
        out.push(FieldError::invalid("spec.schedule", schedule, text));
    }
    nonnegative(spec.get("startingDeadlineSeconds"), "spec.startingDeadlineSeconds", out);
    if let Some(zone) = spec.get("timeZone").and_then(Value::as_str) {
        if zone.is_empty() {
            out.push(FieldError::invalid("spec.timeZone", zone, "timeZone must be nil or non-empty string"));
        } else if zone == "Local" || jiff::tz::TimeZone::get(zone).is_err() {
            out.push(FieldError::invalid("spec.timeZone", zone, format!("unknown time zone {zone}")));
        }
    }
    let policy = at(spec, &["concurrencyPolicy"]).as_str().unwrap_or_default();
    if policy.is_empty() {
        out.push(FieldError::required("spec.concurrencyPolicy", ""));
    } else if !["Allow", "Forbid", "Replace"].contains(&policy) {
        out.push(FieldError::not_supported("spec.concurrencyPolicy", policy, &["Allow", "Forbid", "Replace"]));
    }
    job_spec(at(spec, &["jobTemplate", "spec"]), "spec.jobTemplate.spec", out);
    for key in ["successfulJobsHistoryLimit", "failedJobsHistoryLimit"] {
        nonnegative(spec.get(key), &format!("spec.{key}"), out);
    }
}

/// A cron expression, refused in the words of the parser upstream uses (`robfig/cron`).
fn check_schedule(text: &str) -> Result<(), String> {
    if text.contains("TZ=") {
        return Err("cannot use TZ or CRON_TZ in schedule, use timeZone field instead".into());
    }
    if let Some(rest) = text.strip_prefix('@') {
        let known = ["yearly", "annually", "monthly", "weekly", "daily", "midnight", "hourly"];
        return if known.contains(&rest) || rest.strip_prefix("every ").is_some_and(|d| !d.is_empty()) {
            Ok(())
        } else {
            Err(format!("unrecognized descriptor: {text}"))
        };
    }
    let fields: Vec<&str> = text.split_whitespace().collect();
    if fields.len() != 5 {
        return Err(format!("expected exactly 5 fields, found {}: [{}]", fields.len(), fields.join(" ")));
    }
    const MONTHS: &[&str] = &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
    const DAYS: &[&str] = &["sun", "mon", "tue", "wed", "thu", "fri", "sat"];
    let bounds: [(u32, u32, &[&str]); 5] = [(0, 59, &[]), (0, 23, &[]), (1, 31, &[]), (1, 12, MONTHS), (0, 6, DAYS)];
    for (field, (min, max, names)) in fields.iter().zip(bounds) {
        for part in field.split(',') {
            check_cron_part(part, min, max, names)?;
        }
    }
    Ok(())
}

fn check_cron_part(part: &str, min: u32, max: u32, names: &[&str]) -> Result<(), String> {
    let number = |s: &str| -> Result<u32, String> {
        if let Some(i) = names.iter().position(|n| n.eq_ignore_ascii_case(s)) {
            return Ok(u32::try_from(i).unwrap_or(0) + min);
        }
        s.parse::<u32>()
            .map_err(|_| format!("failed to parse int from {s}: strconv.Atoi: parsing {}: invalid syntax", go_quote(s)))
    };
    let mut steps = part.split('/');
    let range = steps.next().unwrap_or_default();
    let step = steps.next();
    if steps.next().is_some() {
        return Err(format!("too many slashes: {part}"));
    }
    let (low, high) = if range == "*" || range == "?" {
        (min, max)
    } else {
        let mut ends = range.split('-');
        let low = number(ends.next().unwrap_or_default())?;
        let high = match ends.next() {
            Some(h) => number(h)?,
            None if step.is_some() => max,
            None => low,
        };
        if ends.next().is_some() {
            return Err(format!("too many hyphens: {part}"));
        }
        (low, high)
    };
    if let Some(step) = step
        && number(step)? == 0
    {
        return Err(format!("step of range should be a positive number: {part}"));
    }
    if low < min {
        return Err(format!("beginning of range ({low}) below minimum ({min}): {part}"));
    }
    if high > max {
        return Err(format!("end of range ({high}) above maximum ({max}): {part}"));
    }
    if low > high {
        return Err(format!("beginning of range ({low}) beyond end of range ({high}): {part}"));
    }
    Ok(())
}
