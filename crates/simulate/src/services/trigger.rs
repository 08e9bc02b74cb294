//! When the change happened that endpoints are written for, as the annotation
//! `endpoints.kubernetes.io/last-change-trigger-time` tells it (upstream's `TriggerTimeTracker` of
//! `k8s.io/endpointslice/util`).

use std::collections::HashMap;
use std::sync::Arc;

use druse_object::{Str, Value};
use druse_runtime::Key;
use jiff::Timestamp;
use parking_lot::Mutex;

use crate::workloads::report::{condition, time_at};

/// The annotation.
pub const TRIGGER_TIME: &str = "endpoints.kubernetes.io/last-change-trigger-time";

/// What was seen of each Service and its pods when its endpoints were last looked at.
#[derive(Default)]
pub struct Triggers(Mutex<HashMap<Key, Seen>>);

#[derive(Default)]
struct Seen {
    service: Option<Timestamp>,
    pods: HashMap<Str, Timestamp>,
}

impl Triggers {
    /// The earliest change since the last call for this Service; its creation when this is the first; `None` when nothing
    /// that has a time has changed.
    pub fn since_last(&self, key: &Key, service: &Value, pods: &[Arc<Value>]) -> Option<Timestamp> {
        let made = time_at(&service["metadata"]["creationTimestamp"]);
        let times = pods.iter().filter_map(|p| {
            let ready = condition(p["status"]["conditions"].items(), "Ready")?;
            Some((p.str_at(["metadata", "name"])?.into(), time_at(&ready["lastTransitionTime"])?))
        });
        let now = Seen { service: made, pods: times.collect() };
        let mut known = self.0.lock();
        let Some(before) = known.get(key) else {
            known.insert(key.clone(), now);
            return made;
        };
        let pods = now.pods.iter().filter(|(name, at)| before.pods.get(*name).is_none_or(|was| was < *at));
        let first = pods.map(|(_, at)| *at).chain(made.filter(|_| made > before.service)).min();
        known.insert(key.clone(), now);
        first
    }

    /// The Service is gone.
    pub fn forget(&self, key: &Key) {
        self.0.lock().remove(key);
    }
}

/// A time as the annotation has it.
pub fn text(time: Timestamp) -> String {
    time.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{list, value};

    const MADE: &str = "2026-01-01T00:00:00Z";

    fn service(made: &str) -> Value {
        value(&format!("{{metadata: {{name: web, namespace: home, creationTimestamp: '{made}'}}}}"))
    }

    fn pods(times: &[&str]) -> Vec<Arc<Value>> {
        let pods = times.iter().enumerate().map(|(i, at)| {
            let condition = format!("{{type: Ready, lastTransitionTime: '2026-01-01T00:{at}Z'}}");
            format!("{{metadata: {{name: web-{i}}}, status: {{conditions: [{condition}]}}}}")
        });
        list(&format!("[{}]", pods.collect::<Vec<_>>().join(", ")))
    }

    #[test]
    fn a_trigger_is_the_services_creation_first_and_then_the_earliest_change() {
        let triggers = Triggers::default();
        let key = Key::new("home", "web");
        let since = |made: &str, times: &[&str]| triggers.since_last(&key, &service(made), &pods(times)).map(text);
        assert_eq!(since(MADE, &["01:00"]).as_deref(), Some(MADE), "whatever its pods say");
        assert_eq!(since(MADE, &["01:00"]), None, "nothing changed");
        assert_eq!(since(MADE, &["03:00", "02:00"]).as_deref(), Some("2026-01-01T00:02:00Z"));
        assert_eq!(since(MADE, &["03:00"]), None, "a pod that goes leaves no time behind");
        assert_eq!(since(MADE, &["03:00", "02:00"]).as_deref(), Some("2026-01-01T00:02:00Z"), "it is new again");
        let again = "2026-01-01T00:09:00Z";
        assert_eq!(since(again, &["03:00", "02:00"]).as_deref(), Some(again), "another Service of the name");
        triggers.forget(&key);
        assert_eq!(triggers.since_last(&key, &service(again), &pods(&["10:00"])).map(text).as_deref(), Some(again));
    }
}
