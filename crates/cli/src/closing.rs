//! The closing table of a rehearsal, and below it what needs a person: stand-ins, failures with place and remedy.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use druse_rehearsal::{Report, UnitReport, UnitState, VolumeState};

use crate::globals::Paint;

/// Up to so many units all are listed; of more, those that are not plainly ready.
const ALL: usize = 40;
/// A unit's name takes at most so much of the table's width.
const MAX_UNIT: usize = 56;

/// How the table is written.
pub struct Style {
    /// Colours.
    pub paint: Paint,
    /// Columns of the terminal.
    pub width: usize,
    /// Whether every unit is listed, however many there are.
    pub all: bool,
}

/// The whole closing text.
pub fn text(report: &Report, style: &Style) -> String {
    let mut out = String::new();
    let all = style.all || report.units.len() <= ALL;
    let shown: Vec<&UnitReport> = report.units.iter().filter(|u| all || u.state != UnitState::Ready).collect();
    table(&mut out, &shown, style);
    let left_out = report.units.len() - shown.len();
    if left_out > 0 {
        let _ = writeln!(out, "{}", style.paint.dim(&format!("{left_out} more units are ready; -v lists them")));
    }
    stand_ins(&mut out, report, style.paint);
    failures(&mut out, report, style.paint);
    secrets(&mut out, report, style);
    summary(&mut out, report, style.paint);
    out
}

fn table(out: &mut String, units: &[&UnitReport], style: &Style) {
    if units.is_empty() {
        return;
    }
    let longest = |f: fn(&UnitReport) -> usize, least: usize| units.iter().map(|u| f(u)).max().unwrap_or(0).max(least);
    let unit_width = longest(|u| u.unit.chars().count(), 4).min(MAX_UNIT);
    let state_width = longest(|u| u.state.word().len(), 5);
    let message_width = style.width.saturating_sub(unit_width + state_width + 7 + 6).max(20);
    let header = format!("{:unit_width$}  {:state_width$}  {:>7}  MESSAGE", "UNIT", "STATE", "OBJECTS");
    let _ = writeln!(out, "{}", style.paint.bold(&header));
    for u in units {
        let state = format!("{:state_width$}", u.state.word());
        let state = match u.state {
            UnitState::Ready => style.paint.green(&state),
            UnitState::Failed => style.paint.red(&state),
            _ => style.paint.yellow(&state),
        };
        // What a unit waits for is said nowhere else, so it is not cut.
        let message = if u.state == UnitState::Waiting { waiting(u) } else { cut(one_line(&u.message), message_width) };
        let unit = cut_middle(&u.unit, unit_width);
        let line = format!("{unit:unit_width$}  {state}  {:>7}  {message}", u.objects);
        let _ = writeln!(out, "{}", line.trim_end());
    }
}

fn waiting(u: &UnitReport) -> String {
    if u.waits_for.is_empty() { u.message.clone() } else { format!("waits for {}", u.waits_for.join(", ")) }
}

fn one_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    text.chars().take(width.saturating_sub(1)).chain(['…']).collect()
}

/// Keeps both ends: the kind in front, the name at the end.
fn cut_middle(text: &str, width: usize) -> String {
    let many = text.chars().count();
    if many <= width {
        return text.to_owned();
    }
    let head = width / 3;
    let tail = width.saturating_sub(head + 1);
    text.chars().take(head).chain(['…']).chain(text.chars().skip(many - tail)).collect()
}

/// Each chart or source that was not fetched; where it was looked for is said once for all that share it.
fn stand_ins(out: &mut String, report: &Report, paint: Paint) {
    let rows: Vec<_> = report.units.iter().filter_map(|u| Some((u, u.stand_in.as_ref()?))).collect();
    if rows.is_empty() {
        return;
    }
    let _ = writeln!(out, "\n{}", paint.yellow("stood in for, simulated:"));
    let unit_width = rows.iter().map(|(u, _)| u.unit.chars().count()).max().unwrap_or(0).min(MAX_UNIT);
    let what_width = rows.iter().map(|(_, s)| s.instead_of.chars().count()).max().unwrap_or(0).min(MAX_UNIT);
    let place = |reason: &str| reason.find("looked in").and_then(|at| reason.get(at..)).unwrap_or(reason).to_owned();
    for (i, (u, s)) in rows.iter().enumerate() {
        let _ = writeln!(out, "  {:unit_width$}  {:what_width$}  by {}", u.unit, s.instead_of, s.component);
        let here = place(&s.reason);
        if rows.get(i + 1).is_none_or(|(_, next)| place(&next.reason) != here) {
            let _ = writeln!(out, "      {}", paint.dim(&here));
        }
    }
}

/// The secrets volumes: those that could not be mounted, those that were made up and why, and how many were read.
fn secrets(out: &mut String, report: &Report, style: &Style) {
    let of = |state| report.secrets.iter().filter(move |v| v.state == state);
    for v in of(VolumeState::Failed) {
        let _ = writeln!(out, "\n{} pod {} waits for volume {}:", style.paint.red("failed:"), v.pod, v.volume);
        let _ = writeln!(out, "  {}", v.message);
    }
    if of(VolumeState::Simulated).next().is_some() {
        let _ = writeln!(out, "\n{}", style.paint.yellow("secrets volumes with made-up files, simulated:"));
        let mut reasons: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        of(VolumeState::Simulated).for_each(|v| reasons.entry(&v.message).or_default().push(&v.pod));
        for (why, pods) in reasons {
            let _ = writeln!(out, "  {}\n      {}", pods.join(", "), style.paint.dim(why));
        }
    }
    let read = of(VolumeState::Mounted).count();
    if read > 0 {
        let objects: usize = of(VolumeState::Mounted).map(|v| v.objects).sum();
        let _ = writeln!(
            out,
            "\n{} {read} secrets volumes mounted ({objects} objects) through token, STS and Parameter Store of the local \
             cloud ({}: the values are made up unless you set them)",
            style.paint.green("secrets:"),
            style.paint.yellow("simulated")
        );
        if style.all {
            for v in of(VolumeState::Mounted) {
                let _ = writeln!(out, "  {}  {}", v.pod, v.path);
            }
        }
    }
}

/// Each failed unit with all that is known. A remedy that helps several is said once, at the last of them.
fn failures(out: &mut String, report: &Report, paint: Paint) {
    let failed: Vec<&UnitReport> = report.units.iter().filter(|u| u.state == UnitState::Failed).collect();
    let mut helped: BTreeMap<&str, usize> = BTreeMap::new();
    for help in failed.iter().flat_map(|u| &u.errors).filter_map(|e| e.remedy.as_deref()) {
        *helped.entry(help).or_default() += 1;
    }
    for u in failed {
        let defined = if u.defined.is_empty() { String::new() } else { format!(" ({})", u.defined) };
        let _ = writeln!(out, "\n{} {}{defined}", paint.red("failed:"), u.unit);
        // The tree's own view is the more precise one where both say the same.
        if !u.errors.iter().any(|e| same(&u.message, &e.message)) {
            indent(out, &u.message, "    ");
        }
        for e in &u.errors {
            let place = match (&e.file, e.line) {
                (Some(f), 0) => f.clone(),
                (Some(f), line) => format!("{f}:{line}"),
                (None, _) => String::new(),
            };
            indent(out, &e.message, "    ");
            if !place.is_empty() && !e.message.starts_with(&place) {
                let _ = writeln!(out, "    at {place}");
            }
            let Some(help) = &e.remedy else { continue };
            if let Some(left) = helped.get_mut(help.as_str()) {
                *left -= 1;
                if *left == 0 {
                    let _ = writeln!(out, "    {} {help}", paint.cyan("help:"));
                }
            }
        }
    }
}

/// Whether two texts say the same thing: one holds the other, or they begin alike and differ in a path.
fn same(a: &str, b: &str) -> bool {
    let alike = a.chars().zip(b.chars()).take_while(|(a, b)| a == b).count();
    a.contains(b) || b.contains(a) || alike >= 24
}

fn indent(out: &mut String, text: &str, by: &str) {
    for line in text.lines() {
        let _ = writeln!(out, "{by}{line}");
    }
}

fn summary(out: &mut String, report: &Report, paint: Paint) {
    let objects: usize = report.units.iter().map(|u| u.objects).sum();
    let ready = report.count(UnitState::Ready) + report.count(UnitState::StandIn);
    let mut text = format!("{} units, {ready} ready", report.units.len());
    let stand_ins = report.count(UnitState::StandIn);
    if stand_ins > 0 {
        let _ = write!(text, " ({stand_ins} of them by a stand-in)");
    }
    for (state, word) in [
        (UnitState::Suspended, "suspended"),
        (UnitState::Progressing, "in progress"),
        (UnitState::Waiting, "waiting"),
        (UnitState::Failed, "failed"),
    ] {
        let count = report.count(state);
        if count > 0 {
            let _ = write!(text, ", {count} {word}");
        }
    }
    let _ = write!(text, "; {objects} objects; {:.1} s", report.seconds);
    let _ = writeln!(out, "\n{}", paint.bold(&text));
    let _ = writeln!(
        out,
        "{}",
        paint.dim(
            "simulated: nodes, container processes, storage behind volumes, load balancer addresses, stand-ins' work"
        )
    );
}
