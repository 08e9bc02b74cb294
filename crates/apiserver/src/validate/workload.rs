//! Workloads that keep pods running (`k8s.io/kubernetes/pkg/apis/apps/validation`, and replication controllers).

use druse_object::{Map, Value};

use super::at::{At, Errors};
use super::dump;
use super::meta::label_selector;
use super::pod::{template, template_notes};
use super::storage::claim_spec;
use crate::field::FieldError;

/// Judges `spec.selector`; `false` when it cannot be read as one, which is an error already.
fn selector(spec: &At, what: &str, out: &mut Errors) -> bool {
    let s = spec.child("selector");
    if !s.is_given() {
        s.required("", out);
        return true;
    }
    let before = out.len();
    label_selector(s.value(), &s.path(), out);
    let readable = out.len() == before;
    if s.child("matchLabels").len() + s.child("matchExpressions").len() == 0 {
        s.invalid(format!("empty selector is invalid for {what}"), out);
    }
    readable
}

/// The selector selects the template's pods.
pub(super) fn selector_matches(spec: &At, out: &mut Errors) {
    let pods = spec.child("template");
    let labels = &pods.value()["metadata"]["labels"];
    if !druse_object::selector::selects(spec.child("selector").value(), labels) {
        no_match(&pods, labels, out);
    }
}

fn no_match(pods: &At, labels: &Value, out: &mut Errors) {
    let path = format!("{}.metadata.labels", pods.path());
    out.push(FieldError::invalid(path, labels.clone(), "`selector` does not match template `labels`"));
}

fn always_restarts(spec: &At, what: &str, out: &mut Errors) {
    let pods = spec.child("template");
    let pod = pods.child("spec");
    let policy = pod.child("restartPolicy");
    if policy.text() != "Always" {
        policy.unsupported(&["Always"], out);
    }
    if pod.get("activeDeadlineSeconds").is_some() {
        pod.child("activeDeadlineSeconds").forbidden(format!("activeDeadlineSeconds in {what} is not Supported"), out);
    }
}

const PERCENT: &str = "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')";

fn percent(v: &Value) -> Option<i64> {
    let digits = v.as_str()?.strip_suffix('%')?;
    let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    plain.then(|| digits.parse().unwrap_or(i64::MAX))
}

/// A number or a percentage that is not negative.
pub(super) fn int_or_percent(v: Option<&Value>, path: &str, out: &mut Errors) {
    let Some(v) = v else { return };
    let at = At::new(v, path);
    match v {
        Value::String(_) if percent(v).is_none() => at.invalid(PERCENT, out),
        Value::String(_) => {}
        _ => at.nonnegative(out),
    }
}

fn part_of_all(at: &At, out: &mut Errors) {
    int_or_percent(Some(at.value()).filter(|v| !v.is_null()), &at.path(), out);
}

fn at_most_all(at: &At, out: &mut Errors) {
    if percent(at.value()).is_some_and(|n| n > 100) {
        at.invalid("must not be greater than 100%", out);
    }
}

/// The number, of a percentage too; 0 for what is neither.
fn amount(at: &At) -> i64 {
    percent(at.value()).or_else(|| at.int()).or_else(|| at.text().parse().ok()).unwrap_or(0)
}

/// Deployments.
pub(crate) fn deployment(new: &Value, old: Option<&Value>, out: &mut Errors) {
    let root = At::new(new, "");
    let spec = root.child("spec");
    spec.child("replicas").nonnegative(out);
    replicated(&spec, out);
    let strategy = spec.child("strategy");
    let rolling = strategy.child("rollingUpdate");
    match strategy.text_of("type") {
        "Recreate" if rolling.is_given() => {
            rolling.forbidden("may not be specified when strategy `type` is 'Recreate'", out);
        }
        "Recreate" => {}
        "RollingUpdate" => {
            let (down, up) = (rolling.child("maxUnavailable"), rolling.child("maxSurge"));
            part_of_all(&down, out);
            part_of_all(&up, out);
            if amount(&down) == 0 && amount(&up) == 0 {
                down.invalid("may not be 0 when `maxSurge` is 0", out);
            }
            at_most_all(&down, out);
        }
        _ => {
            let shown = dump::internal("DeploymentStrategy", strategy.value());
            out.push(FieldError::not_supported(strategy.path(), shown, &["Recreate", "RollingUpdate"]));
        }
    }
    spec.child("minReadySeconds").nonnegative(out);
    spec.child("revisionHistoryLimit").nonnegative(out);
    let deadline = spec.child("progressDeadlineSeconds");
    deadline.nonnegative(out);
    if deadline.int().is_some_and(|n| n <= spec.int_of("minReadySeconds")) {
        deadline.invalid("must be greater than minReadySeconds", out);
    }
    selector_kept(&spec, old, out);
}

/// Selector and template of what makes replica sets, or is one.
fn replicated(spec: &At, out: &mut Errors) {
    if selector(spec, "deployment", out) {
        let pods = spec.child("template");
        selector_matches(spec, out);
        template(pods.value(), &pods.path(), out);
        always_restarts(spec, "ReplicaSet", out);
    } else {
        spec.child("selector").invalid("invalid label selector", out);
    }
}

fn selector_kept(spec: &At, old: Option<&Value>, out: &mut Errors) {
    if let Some(old) = old {
        spec.child("selector").unchanged(&old["spec"]["selector"], out);
    }
}

/// Replica sets.
pub(crate) fn replica_set(new: &Value, old: Option<&Value>, out: &mut Errors) {
    let root = At::new(new, "");
    let spec = root.child("spec");
    spec.child("replicas").nonnegative(out);
    spec.child("minReadySeconds").nonnegative(out);
    replicated(&spec, out);
    selector_kept(&spec, old, out);
}

/// Replication controllers.
pub(crate) fn replication_controller(new: &Value, out: &mut Errors) {
    let root = At::new(new, "");
    let spec = root.child("spec");
    let wanted = spec.child("selector");
    if wanted.len() == 0 {
        wanted.required("", out);
    }
    let pods = spec.child("template");
    if pods.is_given() {
        let labels = &pods.value()["metadata"]["labels"];
        if wanted.len() > 0 && !druse_object::selector::has_all(wanted.value(), labels) {
            no_match(&pods, labels, out);
        }
        template(pods.value(), &pods.path(), out);
        always_restarts(&spec, "ReplicationController", out);
    } else {
        pods.required("", out);
    }
    // These come from the type's own rules, after all others.
    if spec.get("replicas").is_none() {
        spec.child("replicas").required("", out);
    }
    spec.child("replicas").nonnegative(out);
    spec.child("minReadySeconds").nonnegative(out);
}

/// Counters of a kind's status: those that are not negative, those that count no more than all, and the word for the
/// one that available ones may not exceed.
struct Counters {
    kind: &'static str,
    counts: &'static [&'static str],
    parts: &'static [&'static str],
    ready: &'static str,
}

const COUNTERS: [Counters; 5] = [
    Counters {
        kind: "Deployment",
        counts: &[
            "observedGeneration",
            "replicas",
            "updatedReplicas",
            "readyReplicas",
            "availableReplicas",
            "unavailableReplicas",
            "terminatingReplicas",
            "collisionCount",
        ],
        parts: &["updatedReplicas", "readyReplicas", "availableReplicas"],
        ready: "readyReplicas",
    },
    Counters {
        kind: "StatefulSet",
        counts: &[
            "replicas",
            "readyReplicas",
            "currentReplicas",
            "updatedReplicas",
            "availableReplicas",
            "observedGeneration",
            "collisionCount",
        ],
        parts: &["readyReplicas", "currentReplicas", "updatedReplicas", "availableReplicas"],
        ready: "status.readyReplicas",
    },
    Counters {
        kind: "ReplicaSet",
        counts: &[
            "replicas",
            "fullyLabeledReplicas",
            "readyReplicas",
            "availableReplicas",
            "observedGeneration",
            "terminatingReplicas",
        ],
        parts: &["fullyLabeledReplicas", "readyReplicas", "availableReplicas"],
        ready: "readyReplicas",
    },
    Counters {
        kind: "ReplicationController",
        counts: &["replicas", "fullyLabeledReplicas", "readyReplicas", "availableReplicas", "observedGeneration"],
        parts: &["fullyLabeledReplicas", "readyReplicas", "availableReplicas"],
        ready: "readyReplicas",
    },
    Counters {
        kind: "DaemonSet",
        counts: &[
            "currentNumberScheduled",
            "numberMisscheduled",
            "desiredNumberScheduled",
            "numberReady",
            "observedGeneration",
            "updatedNumberScheduled",
            "numberAvailable",
            "numberUnavailable",
            "collisionCount",
        ],
        parts: &[],
        ready: "",
    },
];

/// The counters of a workload's status: none is negative, none counts more than there are.
pub(crate) fn status(kind: &str, new: &Value, old: &Value, out: &mut Errors) {
    let Some(rules) = COUNTERS.iter().find(|c| c.kind == kind) else { return };
    let root = At::new(new, "");
    let status = root.child("status");
    rules.counts.iter().for_each(|key| status.child(key).nonnegative(out));
    let all = status.int_of("replicas");
    for key in rules.parts.iter().filter(|k| status.int_of(k) > all) {
        status.child(key).bad(status.int_of(key), "cannot be greater than status.replicas", out);
    }
    let available = status.int_of("availableReplicas");
    if !rules.ready.is_empty() && available > status.int_of("readyReplicas") {
        let why = format!("cannot be greater than {}", rules.ready);
        status.child("availableReplicas").bad(available, why, out);
    }
    if rules.counts.contains(&"collisionCount") {
        let was = old["status"]["collisionCount"].as_i64();
        if was.is_some_and(|was| status.child("collisionCount").int().is_none_or(|n| n < was)) {
            status.child("collisionCount").bad(status.int_of("collisionCount"), "cannot be decremented", out);
        }
    }
}

/// Daemon sets.
pub(crate) fn daemon_set(new: &Value, old: Option<&Value>, out: &mut Errors) {
    let root = At::new(new, "");
    let spec = root.child("spec");
    // Who may be selected is judged before who is.
    selector_kept(&spec, old, out);
    let wanted = spec.child("selector");
    let before = out.len();
    if wanted.is_given() {
        label_selector(wanted.value(), &wanted.path(), out);
    }
    let empty = wanted.child("matchLabels").len() + wanted.child("matchExpressions").len() == 0;
    if out.len() == before {
        selector_matches(&spec, out);
    }
    if wanted.is_given() && empty {
        wanted.invalid("empty selector is invalid for daemonset", out);
    }
    let pods = spec.child("template");
    template(pods.value(), &pods.path(), out);
    always_restarts(&spec, "DaemonSet", out);
    spec.child("minReadySeconds").nonnegative(out);
    let strategy = spec.child("updateStrategy");
    let rolling = strategy.child("rollingUpdate");
    match strategy.text_of("type") {
        "OnDelete" => {}
        "RollingUpdate" if !rolling.is_given() => rolling.required("", out),
        "RollingUpdate" => {
            let (down, up) = (rolling.child("maxUnavailable"), rolling.child("maxSurge"));
            part_of_all(&down, out);
            part_of_all(&up, out);
            at_most_all(&down, out);
            at_most_all(&up, out);
            match (amount(&down) != 0, amount(&up) != 0) {
                (true, true) => up.invalid("may not be set when maxUnavailable is non-zero", out),
                (false, false) => down.required("cannot be 0 when maxSurge is 0", out),
                _ => {}
            }
        }
        _ => {
            let shown = dump::internal("DaemonSetUpdateStrategy", strategy.value());
            out.push(FieldError::not_supported(strategy.path(), shown, &["RollingUpdate", "OnDelete"]));
        }
    }
    spec.child("revisionHistoryLimit").nonnegative(out);
}

/// Stateful sets.
pub(crate) fn stateful_set(new: &Value, old: Option<&Value>, out: &mut Errors) {
    let root = At::new(new, "");
    let spec = root.child("spec");
    set_spec(&spec, old.is_some(), out);
    let Some(old) = old else { return };
    const FREE: [&str; 7] = [
        "replicas",
        "template",
        "updateStrategy",
        "minReadySeconds",
        "ordinals",
        "revisionHistoryLimit",
        "persistentVolumeClaimRetentionPolicy",
    ];
    let rest = |spec: &Value| {
        let mut m = spec.as_map().cloned().unwrap_or_default();
        m.retain(|k, _| !FREE.contains(&k.as_str()));
        m
    };
    if rest(spec.value()) != rest(&old["spec"]) {
        spec.forbidden("updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden", out);
    }
}

fn set_spec(spec: &At, update: bool, out: &mut Errors) {
    let management = spec.child("podManagementPolicy");
    if management.need(out) && !["OrderedReady", "Parallel"].contains(&management.text()) {
        management.invalid("must be 'OrderedReady' or 'Parallel'", out);
    }
    let strategy = spec.child("updateStrategy");
    let rolling = strategy.child("rollingUpdate");
    match strategy.text_of("type") {
        "" => strategy.required("", out),
        "OnDelete" => {
            if rolling.is_given() {
                let shown = dump::internal("RollingUpdateStatefulSetStrategy", rolling.value());
                rolling.bad(shown, "only allowed for updateStrategy 'RollingUpdate'", out);
            }
        }
        "RollingUpdate" => {
            rolling.child("partition").nonnegative(out);
            if let Some(most) = rolling.get("maxUnavailable") {
                part_of_all(&most, out);
                if amount(&most) == 0 {
                    most.invalid("cannot be 0", out);
                }
                at_most_all(&most, out);
            }
        }
        _ => {
            let shown = dump::internal("StatefulSetUpdateStrategy", strategy.value());
            strategy.bad(shown, "must be 'RollingUpdate' or 'OnDelete'", out);
        }
    }
    let retention = spec.child("persistentVolumeClaimRetentionPolicy");
    if retention.is_given() {
        for key in ["whenDeleted", "whenScaled"] {
            let policy = retention.child(key);
            if !["Retain", "Delete"].contains(&policy.text()) {
                policy.unsupported(&["Retain", "Delete"], out);
            }
        }
    }
    if !update {
        spec.child("volumeClaimTemplates").items().for_each(|c| claim_spec(&c.child("spec"), out));
    }
    spec.child("replicas").nonnegative(out);
    spec.child("minReadySeconds").nonnegative(out);
    spec.child("ordinals").child("start").nonnegative(out);
    let service = spec.child("serviceName");
    if !update && !service.text().is_empty() {
        service.label(out);
    }
    if selector(spec, "statefulset", out) {
        selector_matches(spec, out);
        let pods = spec.child("template");
        template(&with_claims(spec), &pods.path(), out);
        // Upstream judges these once more.
        template_notes(&pods, out);
    } else {
        spec.child("selector").invalid("", out);
    }
    always_restarts(spec, "StatefulSet", out);
}

/// The template with the set's claims as volumes under the same names, and without the names the set gives its pods.
fn with_claims(spec: &At) -> Value {
    let mut pods = spec.child("template").value().clone();
    let claims: Vec<Value> = spec
        .child("volumeClaimTemplates")
        .value()
        .items()
        .iter()
        .map(|c| c.at(["metadata", "name"]).cloned().unwrap_or_default())
        .collect();
    let Some(pod) = pods.get_mut("spec").and_then(Value::as_map_mut) else { return pods };
    pod.remove("subdomain");
    pod.remove("hostname");
    if claims.is_empty() {
        return pods;
    }
    let mut volumes: Vec<Value> = Vec::new();
    for name in &claims {
        let mut claim = Map::new();
        claim.insert("claimName", name.clone());
        let mut v = Map::new();
        v.insert("name", name.clone());
        v.insert("persistentVolumeClaim", claim);
        volumes.push(Value::Map(v));
    }
    let others = pod.get("volumes").map(|v| v.items().to_vec()).unwrap_or_default();
    volumes.extend(others.into_iter().filter(|v| v.get("name").is_none_or(|n| !claims.contains(n))));
    pod.insert("volumes", volumes);
    pods
}

/// Revisions of what makes pods: an object that stays as it is.
pub(crate) fn revision(new: &Value, old: Option<&Value>, out: &mut Errors) {
    let root = At::new(new, "");
    let data = root.child("data");
    root.child("revision").nonnegative(out);
    match (old, data.value()) {
        (Some(old), _) => data.unchanged(&old["data"], out),
        (None, Value::Null) => data.required("data is mandatory", out),
        (None, Value::Map(_)) => {}
        (None, _) => data.required("data must be a valid JSON object", out),
    }
}

/// Conditions of a disruption budget are whole, its counts no less than nothing.
pub(super) fn budget_status(new: &Value, out: &mut Errors) {
    let root = At::new(new, "");
    let status = root.child("status");
    conditions(&status.child("conditions"), out);
    for key in ["disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods"] {
        status.child(key).nonnegative(out);
    }
}

/// Conditions in the form that newer kinds share.
pub(super) fn conditions(list: &At, out: &mut Errors) {
    const LONGEST_REASON: usize = 1024;
    const LONGEST_MESSAGE: usize = 32 * 1024;
    const REASON: &str = "a condition reason must start with alphabetic character, optionally followed by a string of alphanumeric characters or '_,:', and must end with an alphanumeric character or '_' (e.g. 'my_name',  or 'MY_NAME',  or 'MyName',  or 'ReasonA,ReasonB',  or 'ReasonA:ReasonB', regex used for validation is '[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?')";
    let mut seen = Vec::new();
    for c in list.items() {
        let kind = c.child("type");
        if seen.contains(&kind.text()) {
            kind.duplicate(kind.text(), out);
        }
        seen.push(kind.text());
        kind.qualified(out);
        c.child("status").any_of(&["False", "True", "Unknown"], out);
        if c.int_of("observedGeneration") < 0 {
            c.child("observedGeneration").invalid("must be greater than or equal to zero", out);
        }
        if !c.child("lastTransitionTime").is_given() {
            c.child("lastTransitionTime").required("", out);
        }
        let reason = c.child("reason");
        let text = reason.text();
        if reason.need(out) {
            let inner = |b: u8| b.is_ascii_alphanumeric() || b"_,:".contains(&b);
            let last = text.bytes().last().is_some_and(|b| b.is_ascii_alphanumeric() || b == b'_');
            let first = text.bytes().next().is_some_and(|b| b.is_ascii_alphabetic());
            if !(first && last && text.bytes().all(inner)) {
                reason.invalid(REASON, out);
            }
            if text.len() > LONGEST_REASON {
                reason.too_long(LONGEST_REASON, out);
            }
        }
        if c.text_of("message").len() > LONGEST_MESSAGE {
            c.child("message").too_long(LONGEST_MESSAGE, out);
        }
    }
}
