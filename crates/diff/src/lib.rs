//! What differs between two plans of a homelab, and what is dangerous about it.
//!
//! [`compare`] takes two [`Side`]s (a plan with the files it was made from) and makes a [`Diff`]: the units touched and
//! why, their objects field by field ([`fields`]), images, charts, [`dangers`], and what could not be rendered on
//! either side, which is never taken for a deletion. [`output`] writes it as text, Markdown, JSON and one HTML page.
//!
//! Values of Secrets are in none of it: they are masked before anything is written down. Knows nothing of Git and of
//! the network; whoever calls it makes the plans.

mod align;
pub mod dangers;
mod describe;
mod fate;
pub mod fields;
mod images;
pub mod lines;
pub mod model;
mod objects;
pub mod output;
mod reads;
mod secrets;
mod side;
mod units;
pub mod versions;

use std::collections::{BTreeMap, BTreeSet};

use druse_plan::{Unit, UnitId};

pub use model::Diff;
pub use secrets::MASK;
pub use side::Side;

use crate::model::{Cause, ChangeKind, ChartChange, NotRendered, SideName, UnitChange};
use crate::objects::{Matched, match_all};
use crate::side::Unknown;

/// Compares two sides.
#[must_use]
pub fn compare(base: &Side<'_>, head: &Side<'_>) -> Diff {
    let matched = match_all(base, head);
    let masker = secrets::Masker::new(&touched(&matched), &[base, head]);
    let mut units = units_of(base, head, &matched);
    describe::objects(&mut units, &matched, base, head, &masker);
    let charts = charts(base, head);
    let mut images = images::changes(matched.pairs.values().flatten());
    for text in
        images.iter_mut().flat_map(|i| [&mut i.image, &mut i.from, &mut i.to].into_iter().chain(&mut i.image_from))
    {
        *text = masker.owned(std::mem::take(text));
    }
    let dangers = dangers::find(&dangers::Input { base, head, matched: &matched, charts: &charts, masker: &masker });
    Diff {
        base: base.revision.clone(),
        head: head.revision.clone(),
        dangers,
        units,
        images,
        charts,
        not_rendered: not_rendered(base, head, &matched),
    }
}

/// The units whose Secrets' values a comparison needs where plans left them out ([`SecretValues`](druse_plan::SecretValues)):
/// plan again with these before [`compare`]. Without their values, Secrets that differ would not be told from others, and
/// what came from a Secret could not be masked.
#[must_use]
pub fn secrets_needed(base: &Side<'_>, head: &Side<'_>) -> BTreeSet<UnitId> {
    secrets::needed(&touched(&match_all(base, head)), &[base, head])
}

/// The units with objects that differ, on whichever side.
fn touched(matched: &Matched<'_>) -> BTreeSet<UnitId> {
    let sides = matched.pairs.values().flatten().flat_map(|p| [p.base, p.head]).flatten();
    sides.map(|r| r.unit.id.clone()).collect()
}

/// The units that differ, in head's order and then what is gone; their objects are still to be described.
fn units_of(base: &Side<'_>, head: &Side<'_>, matched: &Matched<'_>) -> Vec<UnitChange> {
    let mut out = Vec::new();
    for unit in &head.plan.units {
        let objects_differ = matched.pairs.contains_key(&unit.id);
        let not_compared = not_compared(&unit.id, matched);
        let (change, causes) = match base.unit(&unit.id) {
            None if matched.base_unknown.get(&unit.id).is_some_and(|u| u.state == "unknown") => continue,
            None => (ChangeKind::Added, units::came_or_went(unit, head, base, ChangeKind::Added)),
            Some(old) => (ChangeKind::Changed, units::causes((old, base), (unit, head), objects_differ)),
        };
        if change == ChangeKind::Added || objects_differ || !causes.is_empty() {
            out.push(unit_change(unit, change, causes, not_compared));
        }
    }
    for unit in base.plan.units.iter().filter(|u| head.unit(&u.id).is_none()) {
        if matched.head_unknown.get(&unit.id).is_some_and(|u| u.state == "unknown") {
            continue;
        }
        let causes = units::came_or_went(unit, base, head, ChangeKind::Removed);
        out.push(unit_change(unit, ChangeKind::Removed, causes, not_compared(&unit.id, matched)));
    }
    out
}

fn unit_change(unit: &Unit, change: ChangeKind, causes: Vec<Cause>, not_compared: Option<String>) -> UnitChange {
    UnitChange {
        unit: unit.id.to_string(),
        change,
        place: units::place(unit),
        causes,
        objects: Vec::new(),
        not_compared,
    }
}

fn not_compared(id: &UnitId, matched: &Matched<'_>) -> Option<String> {
    let of = |side: &BTreeMap<&UnitId, Unknown>| side.get(id).map(|u| u.state);
    match (of(&matched.base_unknown), of(&matched.head_unknown)) {
        (None, None) => None,
        (Some(b), Some(h)) if b == h => Some(format!("{b} on both sides")),
        (Some(b), Some(h)) => Some(format!("{b} in base, {h} in head")),
        (Some(b), None) => Some(format!("{b} in base")),
        (None, Some(h)) => Some(format!("{h} in head")),
    }
}

fn charts(base: &Side<'_>, head: &Side<'_>) -> Vec<ChartChange> {
    let mut out = Vec::new();
    for unit in &head.plan.units {
        let old = base.unit(&unit.id).and_then(|u| u.chart.as_ref());
        let (Some(from), Some(to)) = (old, &unit.chart) else { continue };
        let version =
            |c: &druse_plan::ChartInfo| if c.version.is_empty() { c.wanted.clone() } else { c.version.clone() };
        if (&from.name, version(from)) == (&to.name, version(to)) {
            continue;
        }
        let same_chart = from.name == to.name;
        out.push(ChartChange {
            unit: unit.id.to_string(),
            chart: to.name.clone(),
            chart_from: (!same_chart).then(|| from.name.clone()),
            step: if same_chart { versions::step(&version(from), &version(to)) } else { model::Step::Other },
            from: version(from),
            to: version(to),
            app_from: from.app_version.clone(),
            app_to: to.app_version.clone(),
            place: units::place(unit),
        });
    }
    out
}

fn not_rendered(base: &Side<'_>, head: &Side<'_>, matched: &Matched<'_>) -> Vec<NotRendered> {
    let mut out = Vec::new();
    let mut add = |side: SideName, own: &BTreeMap<&UnitId, Unknown>, other: &BTreeMap<&UnitId, Unknown>| {
        for (id, unknown) in own {
            let both = other.get(*id).is_some_and(|o| o.state == unknown.state);
            // What is so on both sides is told once, and suspended units are as they are meant to be.
            if both && (side == SideName::Base || unknown.state == "suspended") {
                continue;
            }
            out.push(NotRendered {
                side: side.clone(),
                unit: id.to_string(),
                state: unknown.state.to_string(),
                reasons: unknown.reasons.clone(),
                both,
            });
        }
    };
    add(SideName::Base, &matched.base_unknown, &matched.head_unknown);
    add(SideName::Head, &matched.head_unknown, &matched.base_unknown);
    // A unit that failed after it rendered is compared, but neither side would be applied.
    for (side, name, other) in [(base, SideName::Base, head), (head, SideName::Head, base)] {
        for unit in side.plan.units.iter().filter(|u| !u.errors.is_empty() && side::unknown(u).is_none()) {
            let both = other.unit(&unit.id).is_some_and(|o| o.errors == unit.errors);
            if both && name == SideName::Base {
                continue;
            }
            let reasons = unit.errors.iter().map(ToString::to_string).collect();
            out.push(NotRendered {
                side: name.clone(),
                unit: unit.id.to_string(),
                state: "failed".into(),
                reasons,
                both,
            });
        }
    }
    out
}
