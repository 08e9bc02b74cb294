//! Live progress of a rehearsal on standard error: one line that is redrawn on a terminal, lines of change elsewhere.

use std::collections::BTreeSet;
use std::io::{IsTerminal, Write as _};
use std::path::Path;

use druse_rehearsal::{Rehearsal, Report, UnitState};

use crate::globals::{Globals, Paint};
use crate::say::say;

/// What has been shown so far.
pub struct Progress {
    paint: Paint,
    quiet: bool,
    verbose: bool,
    terminal: bool,
    drawn: bool,
    ready: BTreeSet<String>,
}

impl Progress {
    /// Nothing shown yet.
    pub fn new(globals: &Globals) -> Self {
        Self {
            paint: globals.paint_stderr(),
            quiet: globals.quiet,
            verbose: globals.verbose > 0,
            terminal: std::io::stderr().is_terminal(),
            drawn: false,
            ready: BTreeSet::new(),
        }
    }

    /// The tree is read, and what it names is fetched.
    pub fn planning(&mut self, tree: &Path) {
        self.draw(&format!("reading {} and what it names…", tree.display()));
    }

    /// The API serves.
    pub fn serving(&mut self, rehearsal: &Rehearsal, kubeconfig: &Path) {
        self.clear();
        if self.quiet {
            return;
        }
        let plan = rehearsal.plan();
        for s in &plan.tree_sources {
            say!("{}", self.paint.dim(&format!("{} ({}) is this tree: {}", s.id, s.url, s.reason)));
        }
        if self.verbose {
            for w in &plan.warnings {
                say!("{} {w}", self.paint.yellow("warning:"));
            }
        } else if !plan.warnings.is_empty() {
            let many = plan.warnings.len();
            let s = if many == 1 { "" } else { "s" };
            say!("{} {many} remark{s} on the tree (-v shows them)", self.paint.yellow("warning:"));
        }
        say!("serving https://{}, kubeconfig {}", rehearsal.address(), kubeconfig.display());
    }

    /// How all units stand now.
    pub fn show(&mut self, report: &Report) {
        if self.quiet {
            return;
        }
        if !self.terminal {
            for u in report.units.iter().filter(|u| u.state.is_ready()) {
                if self.ready.insert(u.unit.clone()) {
                    say!("{:5.1}s  {}  {}", report.seconds, u.state.word(), u.unit);
                }
            }
            return;
        }
        let ready = report.units.iter().filter(|u| u.state.is_ready()).count();
        let mut text = format!("{:5.1}s  {ready}/{} units ready", report.seconds, report.units.len());
        // Most of what fails while others still come up is tried again; only the closing table judges.
        for (state, word) in [(UnitState::Failed, "not yet"), (UnitState::Waiting, "waiting")] {
            let count = report.count(state);
            if count > 0 {
                text.push_str(&format!(", {count} {word}"));
            }
        }
        if let Some(u) = report.units.iter().find(|u| u.state == UnitState::Progressing) {
            text.push_str(&format!("  {}", u.unit));
        }
        self.draw(&text);
    }

    /// Ends the redrawn line.
    pub fn clear(&mut self) {
        if std::mem::take(&mut self.drawn) {
            let _nobody_listens = write!(std::io::stderr(), "\r\x1b[2K");
        }
    }

    fn draw(&mut self, text: &str) {
        if self.quiet || !self.terminal {
            return;
        }
        let width = crate::globals::width().saturating_sub(1);
        let text: String = text.chars().take(width).collect();
        let mut err = std::io::stderr();
        let _nobody_listens = write!(err, "\r\x1b[2K{text}").and_then(|()| err.flush());
        self.drawn = true;
    }
}
