//! What a pod's (and a job's) row says: how many containers are ready, and one word for its state.

use druse_object::Value;

use super::time;

fn restartable(c: &Value) -> bool {
    c.str_at(["restartPolicy"]) == Some("Always")
}

struct Seen {
    ready: usize,
    total: usize,
    reason: String,
    restarts: i64,
    last_restart: Option<String>,
}

fn has_condition(o: &Value, kind: &str) -> bool {
    let list = o["status"]["conditions"].items();
    list.iter().any(|c| c.str_at(["type"]) == Some(kind) && c.str_at(["status"]) == Some("True"))
}

fn ended(state: &Value, prefix: &str) -> String {
    let t = &state["terminated"];
    match (t["reason"].as_str().unwrap_or_default(), t["signal"].as_i64().unwrap_or(0)) {
        ("", 0) => format!("{prefix}ExitCode:{}", t["exitCode"].as_i64().unwrap_or(0)),
        ("", signal) => format!("{prefix}Signal:{signal}"),
        (reason, _) => format!("{prefix}{reason}"),
    }
}

fn later(a: Option<String>, status: &Value) -> Option<String> {
    // RFC 3339 in UTC orders as text.
    let b = status.str_at(["lastState", "terminated", "finishedAt"]).map(str::to_owned);
    a.max(b)
}

fn look(pod: &Value) -> Seen {
    let status = &pod["status"];
    let inits = pod["spec"]["initContainers"].items();
    let mut out = Seen {
        ready: 0,
        total: pod["spec"]["containers"].items().len() + inits.iter().filter(|c| restartable(c)).count(),
        reason: status["phase"].as_str().unwrap_or_default().to_owned(),
        restarts: 0,
        last_restart: None,
    };
    if let Some(r) = status["reason"].as_str().filter(|r| !r.is_empty()) {
        out.reason = r.to_owned();
    }
    let gated = status["conditions"]
        .items()
        .iter()
        .any(|c| c.str_at(["type"]) == Some("PodScheduled") && c.str_at(["reason"]) == Some("SchedulingGated"));
    if gated {
        out.reason = "SchedulingGated".into();
    }
    let mut initializing = false;
    let (mut sidecar_restarts, mut sidecar_last) = (0, None);
    for (i, c) in status["initContainerStatuses"].items().iter().enumerate() {
        let count = c["restartCount"].as_i64().unwrap_or(0);
        out.restarts += count;
        out.last_restart = later(out.last_restart, c);
        let sidecar = inits.iter().any(|s| s["name"] == c["name"] && restartable(s));
        if sidecar {
            sidecar_restarts += count;
            sidecar_last = later(sidecar_last, c);
        }
        let state = &c["state"];
        let terminated = state.get("terminated").is_some_and(|t| !t.is_null());
        if terminated && state["terminated"]["exitCode"].as_i64().unwrap_or(0) == 0 {
            continue;
        }
        if sidecar && c["started"].as_bool() == Some(true) {
            out.ready += usize::from(c["ready"].as_bool() == Some(true));
            continue;
        }
        let waiting = state["waiting"]["reason"].as_str().filter(|r| !r.is_empty() && *r != "PodInitializing");
        out.reason = match (terminated, waiting) {
            (true, _) => ended(state, "Init:"),
            (false, Some(reason)) => format!("Init:{reason}"),
            (false, None) => format!("Init:{i}/{}", inits.len()),
        };
        initializing = true;
        break;
    }
    if !initializing || has_condition(pod, "Initialized") {
        out.restarts = sidecar_restarts;
        out.last_restart = sidecar_last;
        let (mut running, mut error) = (false, String::new());
        for c in status["containerStatuses"].items().iter().rev() {
            out.restarts += c["restartCount"].as_i64().unwrap_or(0);
            out.last_restart = later(out.last_restart, c);
            let state = &c["state"];
            if let Some(reason) = state["waiting"]["reason"].as_str().filter(|r| !r.is_empty()) {
                out.reason = reason.to_owned();
            } else if state.get("terminated").is_some_and(|t| !t.is_null()) {
                out.reason = ended(state, "");
                if state["terminated"]["exitCode"].as_i64().unwrap_or(0) != 0 {
                    error.clone_from(&out.reason);
                }
            } else if c["ready"].as_bool() == Some(true) && state.get("running").is_some() {
                running = true;
                out.ready += 1;
            }
        }
        if out.reason == "Completed" {
            if running && has_condition(pod, "Ready") {
                out.reason = "Running".into();
            } else if !error.is_empty() {
                out.reason = error;
            } else if running {
                out.reason = "NotReady".into();
            }
        }
    }
    if pod.at(["metadata", "deletionTimestamp"]).is_some() {
        let phase = status["phase"].as_str().unwrap_or_default();
        if status["reason"].as_str() == Some("NodeLost") {
            out.reason = "Unknown".into();
        } else if !matches!(phase, "Succeeded" | "Failed") {
            out.reason = "Terminating".into();
        }
    }
    out
}

/// `1/2`
pub fn ready(pod: &Value) -> String {
    let s = look(pod);
    format!("{}/{}", s.ready, s.total)
}

/// `Running`, `Init:0/1`, `CrashLoopBackOff`, …
pub fn status(pod: &Value) -> String {
    look(pod).reason
}

/// `3 (5m ago)`
pub fn restarts(pod: &Value) -> String {
    let s = look(pod);
    match s.last_restart {
        Some(t) if s.restarts != 0 => format!("{} ({} ago)", s.restarts, time::ago(Some(&t))),
        _ => s.restarts.to_string(),
    }
}

/// Readiness gates that hold, of all.
pub fn gates(pod: &Value) -> String {
    let gates = pod["spec"]["readinessGates"].items();
    if gates.is_empty() {
        return "<none>".into();
    }
    let holding = gates.iter().filter(|g| has_condition(pod, g.str_at(["conditionType"]).unwrap_or_default())).count();
    format!("{holding}/{}", gates.len())
}

/// `Complete`, `Running`, …
pub fn job_status(job: &Value) -> &'static str {
    if has_condition(job, "Complete") {
        "Complete"
    } else if has_condition(job, "Failed") {
        "Failed"
    } else if job.at(["metadata", "deletionTimestamp"]).is_some() {
        "Terminating"
    } else if has_condition(job, "Suspended") {
        "Suspended"
    } else if has_condition(job, "FailureTarget") {
        "FailureTarget"
    } else if has_condition(job, "SuccessCriteriaMet") {
        "SuccessCriteriaMet"
    } else {
        "Running"
    }
}

/// `1/1`
pub fn job_completions(job: &Value) -> String {
    let done = job["status"]["succeeded"].as_i64().unwrap_or(0);
    match (job["spec"]["completions"].as_i64(), job["spec"]["parallelism"].as_i64().unwrap_or(0)) {
        (Some(n), _) => format!("{done}/{n}"),
        (None, p) if p > 1 => format!("{done}/1 of {p}"),
        (None, _) => format!("{done}/1"),
    }
}

/// How long it has run, or took.
pub fn job_duration(job: &Value) -> String {
    let at = |k: &str| job.str_at(["status", k]).and_then(time::seconds);
    match (at("startTime"), at("completionTime")) {
        (None, _) => String::new(),
        (Some(s), Some(e)) => time::human(e - s),
        (Some(s), None) => time::human(jiff::Timestamp::now().as_second() - s),
    }
}
