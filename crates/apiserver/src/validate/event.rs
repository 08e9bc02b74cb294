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

/// An event, and a change of one.
pub(super) fn event(gvk: &Gvk, new: &Value, old: Option<&Value>, out: &mut Errors) {
    let strict = gvk.group == "events.k8s.io";
    if strict {
        let core = crate::convert::core_event;
        judge(true, &core(new.clone()), old.cloned().map(core).as_ref(), out);
    } else {
        judge(false, new, old, out);
    }
}

/// Judges an event in the core API's words.
fn judge(strict: bool, new: &Value, old: Option<&Value>, out: &mut Errors) {
    let text = |key: &'static str| new[key].as_str().unwrap_or_default();
    let own = new.str_at(["metadata", "namespace"]).unwrap_or_default();
    let about = new["involvedObject"].str_at(["namespace"]).unwrap_or_default();
    let timed = new["eventTime"].as_str().is_some_and(|t| !t.is_empty());
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
    if !strict {
        return;
    }
    match old {
        None => {
            series(&new["series"], out);
            if !timed {
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
