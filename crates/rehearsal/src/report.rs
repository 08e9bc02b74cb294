//! How a rehearsal stands: one line a unit, from the live objects' statuses.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use druse_object::Value;
use druse_plan::Plan;
use serde::Serialize;

/// How a unit stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum UnitState {
    /// It is ready.
    Ready,
    /// It is ready because a component does the work of what was not fetched.
    StandIn,
    /// It is being worked on, or has not been looked at yet.
    Progressing,
    /// It waits for another unit.
    Waiting,
    /// It failed.
    Failed,
    /// It is suspended.
    Suspended,
}

impl UnitState {
    /// The word for tables.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Ready => "Ready",
            Self::StandIn => "Ready (stand-in)",
            Self::Progressing => "Progressing",
            Self::Waiting => "Waiting",
            Self::Failed => "Failed",
            Self::Suspended => "Suspended",
        }
    }
}

/// One unit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct UnitReport {
    /// `Kustomization/ns/name` or `HelmRelease/ns/name`.
    pub unit: String,
    /// How it stands.
    pub state: UnitState,
    /// The unit's own words.
    pub message: String,
    /// How many objects it has applied or would.
    pub objects: usize,
    /// Where it is defined, `file:line`.
    pub defined: String,
}

/// All units.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// The units, in the plan's order.
    pub units: Vec<UnitReport>,
    /// Seconds since the rehearsal started.
    pub seconds: f64,
}

impl Report {
    pub(crate) fn new(plan: &Plan, live: &[Arc<Value>], elapsed: Duration) -> Self {
        let mut by_id: BTreeMap<String, &Arc<Value>> = live
            .iter()
            .map(|v| {
                let part = |p: &str| v.str_at(["metadata", p]).unwrap_or_default();
                (format!("{}/{}/{}", v["kind"].as_str().unwrap_or_default(), part("namespace"), part("name")), v)
            })
            .collect();
        let mut units: Vec<UnitReport> = plan
            .units
            .iter()
            .map(|u| {
                let id = u.id.to_string();
                let provenance = &u.definition.provenance;
                let defined = match &provenance.file {
                    Some(f) if provenance.line > 0 => format!("{f}:{}", provenance.line),
                    Some(f) => f.to_string(),
                    None => String::new(),
                };
                let (state, message) = match by_id.remove(&id) {
                    Some(v) => state_of(v),
                    // Its maker failed or waits, so it does not exist yet.
                    None => match u.made_by.first() {
                        Some(maker) => (UnitState::Waiting, format!("not there yet: waits for {maker}")),
                        None => (UnitState::Progressing, String::new()),
                    },
                };
                UnitReport { unit: id, state, message, objects: u.objects.len(), defined }
            })
            .collect();
        for (id, v) in by_id {
            let (state, message) = state_of(v);
            units.push(UnitReport { unit: id, state, message, objects: 0, defined: String::new() });
        }
        Self { units, seconds: elapsed.as_secs_f64() }
    }

    /// Whether no unit is still being worked on.
    #[must_use]
    pub fn is_conclusive(&self) -> bool {
        !self.units.iter().any(|u| u.state == UnitState::Progressing)
    }

    /// Whether every unit is ready (or rightly suspended).
    #[must_use]
    pub fn all_ready(&self) -> bool {
        self.units.iter().all(|u| matches!(u.state, UnitState::Ready | UnitState::StandIn | UnitState::Suspended))
    }

    /// How many units stand so.
    #[must_use]
    pub fn count(&self, state: UnitState) -> usize {
        self.units.iter().filter(|u| u.state == state).count()
    }
}

fn state_of(v: &Value) -> (UnitState, String) {
    let ready = v["status"]["conditions"].items().iter().find(|c| c["type"].as_str() == Some("Ready"));
    let text = |c: &Value, field: &str| c[field].as_str().unwrap_or_default().to_owned();
    if v["spec"]["suspend"].as_bool() == Some(true) {
        return (UnitState::Suspended, "suspended".to_owned());
    }
    let Some(c) = ready else { return (UnitState::Progressing, String::new()) };
    let stale = c["observedGeneration"].as_i64().is_some_and(|g| Some(g) != v["metadata"]["generation"].as_i64());
    let state = match (c["status"].as_str(), c["reason"].as_str()) {
        _ if stale => UnitState::Progressing,
        (Some("True"), Some("StandIn")) => UnitState::StandIn,
        (Some("True"), _) => UnitState::Ready,
        (Some("False"), Some("DependencyNotReady")) => UnitState::Waiting,
        (Some("False"), _) => UnitState::Failed,
        _ => UnitState::Progressing,
    };
    (state, text(c, "message"))
}
