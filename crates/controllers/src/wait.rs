//! Waiting for objects to become what they were declared to be, or to be gone.
//!
//! Polls the API as Flux' status poller does, quickly at first: what a rehearsal waits for takes milliseconds.

use std::time::{Duration, Instant};

use druse_flux::api::HealthCheckRef;
use druse_flux::inventory::InventoryEntry;
use druse_flux::kstatus::{Health, Status};
use druse_object::{Gvk, Str, Value};
use druse_runtime::{Api, ApiError};

use crate::ssa::Change;

/// An object waited for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Its kind.
    pub gvk: Gvk,
    /// Its namespace.
    pub namespace: Str,
    /// Its name.
    pub name: Str,
    /// Whether being gone means being done: a Job that is deleted when it has finished.
    pub gone_is_done: bool,
}

/// Whether an object is a Job that the cluster deletes when it has finished.
#[must_use]
pub fn goes_when_done(object: &Value) -> bool {
    object["kind"].as_str() == Some("Job") && !object["spec"]["ttlSecondsAfterFinished"].is_null()
}

impl Target {
    /// An object.
    #[must_use]
    pub fn of(object: &druse_object::Object) -> Self {
        Self {
            gvk: object.gvk(),
            namespace: object.namespace().into(),
            name: object.name().into(),
            gone_is_done: goes_when_done(&object.value),
        }
    }

    /// The object of a change.
    #[must_use]
    pub fn of_change(c: &Change) -> Option<Self> {
        let entry = InventoryEntry { id: c.id.clone(), version: c.version.clone() };
        let (gvk, key) = (entry.gvk()?, entry.key()?);
        Some(Self { gvk, namespace: key.namespace, name: key.name, gone_is_done: false })
    }

    /// The object a health check names.
    #[must_use]
    pub fn of_reference(r: &HealthCheckRef) -> Self {
        Self {
            gvk: Gvk::from_api_version(&r.api_version, &r.kind),
            namespace: r.namespace.clone(),
            name: r.name.clone(),
            gone_is_done: false,
        }
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/", self.gvk.kind)?;
        if !self.namespace.is_empty() {
            write!(f, "{}/", self.namespace)?;
        }
        f.write_str(&self.name)
    }
}

/// Pauses between looks: 5 ms, growing to 40 ms, and to a second when it takes longer than a rehearsal does.
fn pause(round: u32) -> Duration {
    if round > 250 { Duration::from_secs(1) } else { Duration::from_millis(5u64 << round.min(3)) }
}

/// Waits until all targets are current.
///
/// # Errors
/// What was not current when the time was over, or failed for good, in Flux' words.
pub async fn until_current(
    api: &Api,
    targets: &[Target],
    timeout: Duration,
    health: fn(&Value, Option<u64>) -> Health,
) -> Result<(), String> {
    let started = Instant::now();
    let mut open: Vec<(&Target, Status)> = targets.iter().map(|t| (t, Status::Unknown)).collect();
    let mut round = 0;
    loop {
        let mut still = Vec::new();
        for (t, _) in open {
            let status = match look(api, t).await {
                Ok(Some(v)) => {
                    let age = v.str_at(["metadata", "creationTimestamp"]).and_then(druse_runtime::clock::seconds_since);
                    health(&v, age).status
                }
                Ok(None) if t.gone_is_done => Status::Current,
                Ok(None) => Status::NotFound,
                Err(_) => Status::Unknown,
            };
            if status != Status::Current {
                still.push((t, status));
            }
        }
        if still.is_empty() {
            return Ok(());
        }
        let failed = still.iter().all(|(_, s)| *s == Status::Failed);
        if failed || started.elapsed() >= timeout {
            let list: Vec<String> = still.iter().map(|(t, s)| format!("{t} status: '{s}'")).collect();
            let why = if failed { "failed early due to stalled resources" } else { "timeout waiting for" };
            return Err(format!("{why}: [{}]", list.join(", ")));
        }
        open = still;
        tokio::time::sleep(pause(round).min(timeout.saturating_sub(started.elapsed()))).await;
        round += 1;
    }
}

/// Waits until all targets are gone.
///
/// # Errors
/// What was still there when the time was over.
pub async fn until_gone(api: &Api, targets: &[Target], timeout: Duration) -> Result<(), String> {
    let started = Instant::now();
    let mut round = 0;
    loop {
        let mut there = Vec::new();
        for t in targets {
            if !matches!(look(api, t).await, Ok(None)) {
                there.push(t.to_string());
            }
        }
        if there.is_empty() {
            return Ok(());
        }
        if started.elapsed() >= timeout {
            return Err(format!("timeout waiting for termination of: [{}]", there.join(", ")));
        }
        tokio::time::sleep(pause(round)).await;
        round += 1;
    }
}

async fn look(api: &Api, t: &Target) -> Result<Option<Value>, ApiError> {
    match api.resource(&t.gvk).await {
        Ok(r) => api.get(&r, &t.namespace, &t.name).await,
        Err(ApiError::NoMatch(_)) => Ok(None),
        Err(e) => Err(e),
    }
}
