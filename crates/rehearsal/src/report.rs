//! How a rehearsal stands: one line a unit, from the live objects' statuses.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use druse_object::{Object, Value};
use druse_plan::model::UnitError;
use druse_plan::{Plan, Unit, UnitKind};
use serde::Serialize;

use crate::secrets::{VolumeReport, VolumeState};

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

    /// Whether it is ready, by itself or by a stand-in.
    #[must_use]
    pub fn is_ready(self) -> bool {
        matches!(self, Self::Ready | Self::StandIn)
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
    /// The units it waits for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub waits_for: Vec<String>,
    /// What does the work of what was not fetched.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stand_in: Option<StandInReport>,
    /// What is wrong, with places and remedies, as far as the tree itself shows it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<UnitError>,
}

/// What does the work of a chart or source that was not fetched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StandInReport {
    /// The component.
    pub component: String,
    /// The chart's name and version, or the source's URL.
    pub instead_of: String,
    /// What was not fetched, and where it was looked for.
    pub reason: String,
}

/// All units.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// The units, in the plan's order.
    pub units: Vec<UnitReport>,
    /// Seconds since the rehearsal started.
    pub seconds: f64,
    /// The secrets volumes of pods, those that failed first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<VolumeReport>,
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
                let live = by_id.remove(&u.id.to_string());
                of_unit(u, live.map(Arc::as_ref))
            })
            .collect();
        for (id, v) in by_id {
            let (state, message) = state_of(v);
            units.push(UnitReport {
                unit: id,
                state,
                message,
                objects: 0,
                defined: String::new(),
                waits_for: Vec::new(),
                stand_in: None,
                errors: Vec::new(),
            });
        }
        let states: BTreeMap<String, UnitState> = units.iter().map(|u| (u.unit.clone(), u.state)).collect();
        for u in units.iter_mut().filter(|u| u.state == UnitState::Waiting) {
            u.waits_for.retain(|on| !states.get(on).is_some_and(|s| s.is_ready()));
        }
        Self { units, seconds: elapsed.as_secs_f64(), secrets: Vec::new() }
    }

    /// Whether no unit is still being worked on.
    #[must_use]
    pub fn is_conclusive(&self) -> bool {
        !self.units.iter().any(|u| u.state == UnitState::Progressing)
    }

    /// Whether every unit is ready (or rightly suspended), and no pod waits for its secrets.
    #[must_use]
    pub fn all_ready(&self) -> bool {
        self.units.iter().all(|u| u.state.is_ready() || u.state == UnitState::Suspended)
            && self.secrets.iter().all(|v| v.state != VolumeState::Failed)
    }

    /// How many units stand so.
    #[must_use]
    pub fn count(&self, state: UnitState) -> usize {
        self.units.iter().filter(|u| u.state == state).count()
    }
}

/// How one unit of the plan stands, with what the plan knows about why.
fn of_unit(u: &Unit, live: Option<&Value>) -> UnitReport {
    let (mut state, mut message) = match live {
        Some(v) => state_of(v),
        // Its maker failed or waits, so it does not exist yet.
        None => match u.made_by.iter().find(|m| **m != u.id) {
            Some(maker) => (UnitState::Waiting, format!("not there yet: {maker} defines it")),
            None => (UnitState::Progressing, String::new()),
        },
    };
    if state == UnitState::Ready && u.id.kind == UnitKind::Kustomization && !u.unresolved.is_empty() {
        // Ready without what could not be decrypted must not look like ready with it.
        message = u.unresolved.join("; ");
    }
    let mut errors = Vec::new();
    // A unit that waits for what can never be (itself, in a circle; what nobody defines) has failed.
    if state == UnitState::Waiting && live.is_some() && !u.errors.is_empty() {
        state = UnitState::Failed;
    }
    if state == UnitState::Failed {
        errors.clone_from(&u.errors);
        if errors.is_empty() {
            errors.extend(named_in(u, &message));
        }
    }
    let waits_for = match (state, live) {
        (UnitState::Waiting, None) => u.made_by.iter().filter(|m| **m != u.id).map(ToString::to_string).collect(),
        (UnitState::Waiting, Some(_)) => u.depends_on.iter().map(ToString::to_string).collect(),
        _ => Vec::new(),
    };
    let stand_in = match &u.state {
        druse_plan::UnitState::StandIn { component, reason } if state == UnitState::StandIn => Some(StandInReport {
            component: component.clone(),
            instead_of: match (&u.chart, &u.source) {
                (Some(c), _) => format!("chart {} {}", c.name, c.wanted),
                (None, Some(s)) => format!("{} {}", s.id, s.url),
                (None, None) => "its source".to_owned(),
            },
            reason: reason.clone(),
        }),
        _ => None,
    };
    let provenance = &u.definition.provenance;
    UnitReport {
        unit: u.id.to_string(),
        state,
        message,
        objects: u.objects.len(),
        defined: place(provenance),
        waits_for,
        stand_in,
        errors,
    }
}

fn place(provenance: &druse_object::Provenance) -> String {
    match &provenance.file {
        Some(f) if provenance.line > 0 => format!("{f}:{}", provenance.line),
        Some(f) => f.to_string(),
        None => String::new(),
    }
}

/// What the API's words are about, line by line: controllers name an object first, as `Kind/namespace/name`. What was
/// done all the same (`… created`) is left out; a line that names nothing belongs to the one before it.
fn named_in(u: &Unit, message: &str) -> Vec<UnitError> {
    let ids: Vec<String> = u
        .objects
        .iter()
        .map(|o| {
            let slash = if o.namespace().is_empty() { "" } else { "/" };
            format!("{}/{}{slash}{}", o.kind(), o.namespace(), o.name())
        })
        .collect();
    let mut errors: Vec<UnitError> = Vec::new();
    for line in message.lines() {
        let done = [" created", " configured", " unchanged", " deleted", " skipped"].iter().any(|w| line.ends_with(w));
        if done && ids.iter().any(|id| line.starts_with(id.as_str())) {
            continue;
        }
        let found = u.objects.iter().zip(&ids).filter_map(|(o, id)| Some((position(line, id)?, o))).min_by_key(|f| f.0);
        match (found, errors.last_mut()) {
            (Some((_, object)), _) => errors.push(at_object(line, object)),
            (None, Some(before)) => {
                before.message.push('\n');
                before.message.push_str(line);
            }
            // Nothing is known about it: the unit's own words say it all.
            (None, None) => return Vec::new(),
        }
    }
    errors
}

/// Where an id stands in a text as a whole word.
fn position(text: &str, id: &str) -> Option<usize> {
    let goes_on = |c: char| c.is_alphanumeric() || c == '-' || c == '/';
    text.match_indices(id)
        .map(|(at, _)| at)
        .find(|at| !text.get(at + id.len()..).unwrap_or_default().starts_with(goes_on))
}

fn at_object(line: &str, object: &Object) -> UnitError {
    let error = UnitError::new(line).at(&object.provenance);
    if !line.contains("no matches for kind") {
        return error;
    }
    let gvk = object.gvk();
    error.help(format!(
        "nothing in the tree brings the CustomResourceDefinition of {} ({}): add it, or a chart that brings it",
        gvk.kind, gvk.group
    ))
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
