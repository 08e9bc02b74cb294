//! `status.uncountedTerminatedPods`: a pod's end is entered there first, then its finalizer goes, then it is counted. So
//! none is lost and none is counted twice, whenever the controller stops.

use druse_object::{Map, Value};
use serde_json::json;

/// The pods that have ended and are not yet part of the numbers.
pub struct Uncounted {
    /// With success.
    pub succeeded: Vec<String>,
    /// Without.
    pub failed: Vec<String>,
}

impl Uncounted {
    /// As a status has them.
    pub fn of(status: &Map) -> Self {
        let list = |field: &str| {
            let uids = status.get("uncountedTerminatedPods").map(|u| u[field].items()).unwrap_or_default();
            uids.iter().filter_map(|u| u.as_str().map(str::to_owned)).collect()
        };
        Self { succeeded: list("succeeded"), failed: list("failed") }
    }

    /// Whether all are counted.
    pub fn is_empty(&self) -> bool {
        self.succeeded.is_empty() && self.failed.is_empty()
    }

    /// Adds those without their finalizer to the numbers; true when there were any.
    pub fn count(&mut self, status: &mut Map, has_finalizer: impl Fn(&str) -> bool) -> bool {
        let mut any = false;
        for (field, uids) in [("succeeded", &mut self.succeeded), ("failed", &mut self.failed)] {
            let before = uids.len();
            uids.retain(|u| has_finalizer(u));
            let ended = i64::try_from(before - uids.len()).unwrap_or(i64::MAX);
            if ended > 0 {
                any = true;
                status.insert(field, number(status, field) + ended);
            }
        }
        any
    }

    /// Enters them in a status.
    pub fn write(&self, status: &mut Map) {
        let mut out = json!({});
        for (field, uids) in [("succeeded", &self.succeeded), ("failed", &self.failed)] {
            if !uids.is_empty() {
                out[field] = json!(uids);
            }
        }
        status.insert("uncountedTerminatedPods", Value::from(out));
    }
}

/// A number of a status; 0 when it has none.
pub fn number(status: &Map, field: &str) -> i64 {
    status.get(field).and_then(Value::as_i64).unwrap_or(0)
}
