//! Events (`pkg/apis/core/validation/events.go`): loosely by the core API, strictly by `events.k8s.io`.

use druse_object::{Gvk, Value};

use super::at::{Errors, each};
use super::meta::immutable;
use super::names::is_qualified_name;
use crate::field::FieldError;

/// The longest of each text, in bytes.
const LIMITS: [(&str, usize); 4] = [("reportingInstance", 128), ("action", 128), ("reason", 128), ("message", 1024)];
/// What only events of the core API say.
const OLDER: [&str; 4] = ["source", "firstTimestamp", "lastTimestamp", "count"];

/// A new event. The core API looks at its metadata only when all else is well, the newer one after what both ask for.
pub(super) fn new(gvk: &Gvk, event: &Value, metadata: impl FnOnce() -> Errors, out: &mut Errors) {
    if gvk.group == "events.k8s.io" {
        let event = crate::convert::core_event(event.clone());
        both(true, &event, out);
        out.extend(metadata());
        strict(&event, None, out);
        return;
    }
    both(false, event, out);
    if out.is_empty() {
        out.extend(metadata());
    }
}

/// A change of an event.
pub(super) fn changed(gvk: &Gvk, new: &Value, old: Option<&Value>, out: &mut Errors) {
    if gvk.group != "events.k8s.io" {
        both(false, new, out);
        return;
    }
    let core = crate::convert::core_event;
    let new = core(new.clone());
    both(true, &new, out);
    strict(&new, old.cloned().map(core).as_ref(), out);
}

/// What both groups ask of an event, in the core API's words.
fn both(strict: bool, new: &Value, out: &mut Errors) {
    let text = |key: &'static str| new[key].as_str().unwrap_or_default();
    let own = new.str_at(["metadata", "namespace"]).unwrap_or_default();
    let about = new["involvedObject"].str_at(["namespace"]).unwrap_or_default();
    let timed = is_timed(new);
    let fits = match (timed, about.is_empty()) {
        (false, true) => ["", "default"].contains(&own),
        (false, false) => about == own,
        (true, empty) => !empty || ["default", "kube-system"].contains(&own),
    };
    if !fits {
        out.push(FieldError::invalid("involvedObject.namespace", about, "does not match event.namespace"));
    }
    if timed {
        named_well(strict, &text, out);
    }
}

fn is_timed(event: &Value) -> bool {
    event["eventTime"].as_str().is_some_and(|t| !t.is_empty())
}

/// What only the newer group asks of an event, in the core API's words.
fn strict(new: &Value, old: Option<&Value>, out: &mut Errors) {
    let text = |key: &'static str| new[key].as_str().unwrap_or_default();
    match old {
        None => {
            series(&new["series"], out);
            if !is_timed(new) {
                out.push(FieldError::required("eventTime", ""));
            }
            let kind = text("type");
            if !["Normal", "Warning"].contains(&kind) {
                out.push(FieldError::invalid("type", "", format!("has invalid value: {kind}")));
            }
            for key in OLDER {
                let set = match &new[key] {
                    Value::Null | Value::Int(0) => false,
                    Value::String(s) => !s.is_empty(),
                    Value::Map(m) => m.iter().any(|(_, v)| v.as_str().is_some_and(|s| !s.is_empty())),
                    _ => true,
                };
                if set {
                    out.push(FieldError::invalid(key, "", "needs to be unset"));
                }
            }
        }
        Some(old) => {
            if old["series"] != new["series"] {
                series(&new["series"], out);
            }
            // Upstream looks at the reason twice.
            let same = ["involvedObject", "reason", "message"].into_iter().chain(OLDER).chain([
                "reason",
                "type",
                "eventTime",
                "action",
                "related",
                "reportingComponent",
                "reportingInstance",
            ]);
            for key in same {
                let shown = if key == "reportingComponent" { "reportingController" } else { key };
                immutable(&new[key], &old[key], shown, out);
            }
        }
    }
}

fn named_well<'a>(strict: bool, text: &impl Fn(&'static str) -> &'a str, out: &mut Errors) {
    let controller = text("reportingComponent");
    let path = if strict { "reportingController" } else { "reportingComponent" };
    if controller.is_empty() {
        out.push(FieldError::required(path, ""));
    }
    each(is_qualified_name(controller), path, controller, out);
    for (key, most) in LIMITS {
        if text(key).is_empty() && key != "message" {
            out.push(FieldError::required(key, ""));
        }
        if text(key).len() > most {
            out.push(FieldError::invalid(key, "", format!("can have at most {most} characters")));
        }
    }
}

fn series(series: &Value, out: &mut Errors) {
    if series.is_null() {
        return;
    }
    if series["count"].as_i64().unwrap_or(0) < 2 {
        out.push(FieldError::invalid("series.count", "", "should be at least 2"));
    }
    if series["lastObservedTime"].as_str().is_none_or(str::is_empty) {
        out.push(FieldError::required("series.lastObservedTime", ""));
    }
}
