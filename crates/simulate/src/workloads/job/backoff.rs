//! How long a Job waits before it replaces pods that failed: 10 seconds after the first failure, doubling to ten minutes.

use std::sync::Arc;
use std::time::Duration;

use druse_object::Value;
use jiff::{SignedDuration, Timestamp};

use crate::workloads::report::{condition, time_at};

const FIRST: SignedDuration = SignedDuration::from_secs(10);
const LONGEST: SignedDuration = SignedDuration::from_secs(600);

/// The failures since the last success.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backoff {
    failures: u32,
    last: Option<Timestamp>,
}

impl Backoff {
    /// So many failures, the last of them at this time.
    pub fn of(failures: u32, last: Timestamp) -> Self {
        Self { failures, last: Some(last) }
    }

    /// With pods that ended since.
    #[must_use]
    pub fn after(self, succeeded: &[Arc<Value>], failed: &[Arc<Value>]) -> Self {
        let success = succeeded.iter().map(|p| finished_at(p)).max();
        let failures = failed.iter().map(|p| finished_at(p)).filter(|t| success.is_none_or(|s| *t > s));
        let times: Vec<_> = failures.collect();
        let before = if success.is_some() { Self::default() } else { self };
        let more = u32::try_from(times.len()).unwrap_or(u32::MAX);
        Self { failures: before.failures.saturating_add(more), last: times.into_iter().max().or(before.last) }
    }

    /// How long to wait yet.
    pub fn remaining(self, now: Timestamp) -> Duration {
        let (Some(last), true) = (self.last, self.failures > 0) else { return Duration::ZERO };
        let mut pause = FIRST;
        for _ in 1..self.failures {
            pause = (pause * 2).min(LONGEST);
            if pause == LONGEST {
                break;
            }
        }
        Duration::try_from(pause - now.duration_since(last)).unwrap_or_default()
    }
}

/// When a pod ended: its containers' last end, or since when it is not ready, or when it was asked to go.
pub fn finished_at(pod: &Value) -> Timestamp {
    let containers = pod["status"]["containerStatuses"].items();
    let ends: Option<Vec<_>> = containers.iter().map(|c| time_at(&c["state"]["terminated"]["finishedAt"])).collect();
    let ended = ends.and_then(|e| e.into_iter().max());
    let not_ready = || {
        let ready = condition(pod["status"]["conditions"].items(), "Ready")?;
        time_at(&ready["lastTransitionTime"]).filter(|_| ready["status"].as_str() == Some("False"))
    };
    let asked = || {
        let grace = pod["metadata"]["deletionGracePeriodSeconds"].as_i64().unwrap_or(0);
        time_at(&pod["metadata"]["deletionTimestamp"])?.checked_sub(SignedDuration::from_secs(grace)).ok()
    };
    let made = || time_at(&pod["metadata"]["creationTimestamp"]);
    ended.or_else(not_ready).or_else(asked).or_else(made).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::list;

    fn ended(times: &[&str]) -> Vec<Arc<Value>> {
        let pods = times.iter().map(|t| {
            format!(
                "{{status: {{containerStatuses: [{{state: {{terminated: {{finishedAt: '2026-01-01T00:{t}Z'}}}}}}]}}}}"
            )
        });
        list(&format!("[{}]", pods.collect::<Vec<_>>().join(", ")))
    }

    #[test]
    fn the_pause_doubles_with_each_failure_and_a_success_ends_it() {
        let now: Timestamp = "2026-01-01T00:10:00Z".parse().unwrap();
        for (succeeded, failed, seconds) in [
            (vec![], vec![], 0),
            (vec![], vec!["10:00"], 10),
            (vec![], vec!["09:55"], 5),
            (vec![], vec!["09:00"], 0),
            (vec![], vec!["09:58", "10:00", "09:59"], 40),
            (vec![], vec!["10:00"; 20], 600),
            (vec!["09:59"], vec!["09:58", "10:00"], 10),
            (vec!["10:00"], vec!["09:58", "09:59"], 0),
        ] {
            let backoff = Backoff::default().after(&ended(&succeeded), &ended(&failed));
            assert_eq!(backoff.remaining(now).as_secs(), seconds, "{succeeded:?} {failed:?}");
        }
        let before = Backoff::of(1, now);
        assert_eq!(before.after(&[], &ended(&["10:00"])).remaining(now).as_secs(), 20);
        assert_eq!(before.after(&ended(&["10:00"]), &[]).remaining(now).as_secs(), 0);
    }
}
