//! What a careful reviewer would find in a homelab's tree: findings with place, cause and remedy.
//!
//! [`check()`] plans the tree as every other command does, while noting which files are read, and lets the rules
//! ([`rules`]) look at the plan, the objects and the files. Which kinds of findings there are is a table ([`codes`]); so
//! are the fields that refer to other objects, what makes objects at run time, and which APIs are deprecated. People
//! silence what they accept, with a reason ([`silence`], [`config`]). Reports are text, JSON, SARIF and GitHub's
//! annotations ([`report`]).
//!
//! What only a running cluster could answer is not guessed: where something unknown may make an object, its absence is
//! no finding.

pub mod codes;
pub mod config;
mod context;
pub mod files;
mod finding;
mod index;
mod mask;
mod paths;
mod pods;
pub mod position;
pub mod report;
mod rules;
mod silence;
mod tables;
mod words;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use druse_diff::Side;
use druse_diff::model::Revision;
use druse_kustomize::tree::{RecordingTree, parent};
use druse_plan::sources::Sources;
use druse_plan::{Fault, Memo, Plan, PlanOptions, TreeInput, plan_with};
use druse_source::Fetcher;

use crate::config::Config;
use crate::context::{Context, Minor};
use crate::files::Files;

pub use codes::Code;
pub use finding::{Finding, Place, Severity};

/// How a tree is checked.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// How it is planned; also which Kubernetes version it is checked for.
    pub plan: PlanOptions,
    /// Codes to look for that are off otherwise.
    pub also: Vec<String>,
    /// The tree as it was, to find what is dangerous about the change since.
    pub base: Option<TreeInput>,
    /// What is kept from one check to the next; both states of the tree share it. With one that keeps what units render
    /// to, files that were read for an earlier check count as read.
    pub memo: Arc<Memo>,
}

/// What was found.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// The findings, in order of place.
    pub findings: Vec<Finding>,
    /// How many were silenced.
    pub silenced: usize,
    /// How many units were looked at.
    pub units: usize,
    /// How many objects were looked at.
    pub objects: usize,
    /// How many files units read.
    pub files: usize,
}

impl Report {
    /// How many findings are as bad as this.
    #[must_use]
    pub fn count(&self, severity: Severity) -> usize {
        self.findings.iter().filter(|f| f.severity == severity).count()
    }

    /// The worst there is.
    #[must_use]
    pub fn worst(&self) -> Option<Severity> {
        self.findings.iter().map(|f| f.severity).max()
    }
}

/// Checks a tree. Never fails as a whole: what keeps it from being planned is a finding.
#[must_use]
pub fn check(input: &TreeInput, fetcher: &Arc<Fetcher>, options: &Options) -> Report {
    let recording = Arc::new(RecordingTree::new(Arc::clone(&input.tree)));
    let input = TreeInput { tree: Arc::clone(&recording) as _, ..input.clone() };
    let sources = Sources::with_memo(input, Arc::clone(fetcher), Arc::clone(&options.memo));
    // Looking for units reads all files; what the units read comes after.
    drop(recording.take());
    let plan = plan_with(&sources, &options.plan);
    let read = recording.take();
    let files = Files::new(recording, read);
    let (config, mut findings) = config::read(files.tree());
    let kube = kube(options);
    let wanted = |code: &str| {
        options.also.iter().any(|c| c.eq_ignore_ascii_case(code)) || matches!(config.severity.get(code), Some(Some(_)))
    };
    let cx = Context::new(&plan, &sources, &files, kube, &wanted);
    findings.extend(rules::run(&cx));
    if let Some(base) = &options.base {
        let sources = Sources::with_memo(base.clone(), Arc::clone(fetcher), Arc::clone(&options.memo));
        let before = plan_with(&sources, &options.plan);
        let old = Side::new(&before, &*base.tree, Revision::default());
        rules::changes(&cx, &old, &Side::new(&plan, files.tree(), Revision::default()), &mut findings);
    }
    finish(findings, &plan, &files, &config)
}

fn kube(options: &Options) -> Minor {
    let version = &options.plan.kube_version;
    Minor::parse(&format!("{}.{}", version.major, version.minor)).unwrap_or(Minor(1, 36))
}

/// Puts findings together: each once, as bad as the configuration says, without those that are silenced.
fn finish(findings: Vec<Finding>, plan: &Plan, files: &Files, config: &Config) -> Report {
    let mut findings = without_echoes(findings);
    // What is said of a value that stands where another is not known says nothing of that one.
    findings.retain(|f| f.code.code == "DR002" || !words::is_placeholder(&f.message));
    // Nor is it known what a webhook in the cluster gives every Kustomization to substitute.
    if plan.units.iter().any(gives_variables) {
        findings.retain(|f| f.code.code != "DR006" && !(f.code.code == "DR013" && f.message.contains("${")));
    }
    // What somebody commented out is applied by nobody.
    let aside = put_aside(plan, files);
    for finding in findings.iter_mut().filter(|f| f.unit.as_ref().is_some_and(|u| aside.contains(u))) {
        finding.severity = Severity::Info;
    }
    findings.retain_mut(|f| match config.severity.get(&f.code.code) {
        Some(Some(severity)) => {
            f.severity = *severity;
            true
        }
        Some(None) => false,
        None => true,
    });
    let mut findings = once_a_chart(findings);
    mask::apply(&mut findings, plan);
    let broken = |u: &druse_plan::Unit| u.errors.iter().any(|e| !matches!(e.fault, Fault::NotAtHand));
    let silenced = silence::apply(&mut findings, files, config, !plan.units.iter().any(broken));
    findings.sort_by(|a, b| {
        let key = |f: &Finding| (f.place.clone(), f.code.code.clone(), f.message.clone());
        key(a).cmp(&key(b))
    });
    let objects = plan.units.iter().map(|u| u.objects.len() + u.hooks.len()).sum();
    Report { findings, silenced, units: plan.units.len(), objects, files: files.read().len() }
}

/// The units that no unit makes and whose file is commented out in a kustomization, with all that they make.
fn put_aside(plan: &Plan, files: &Files) -> BTreeSet<String> {
    let mut roots = plan.units.iter().filter(|u| u.is_root && u.made_by.is_empty()).peekable();
    if roots.peek().is_none() {
        return BTreeSet::new();
    }
    let commented = files.commented_out();
    let is_aside = |u: &&druse_plan::Unit| {
        let file = u.definition.provenance.file.as_deref().unwrap_or_default();
        let dir = parent(file);
        !file.is_empty() && !files.was_read(file) && (commented.contains(file) || commented.contains(dir))
    };
    let mut aside: BTreeSet<&druse_plan::UnitId> = roots.filter(is_aside).map(|u| &u.id).collect();
    let mut known = 0;
    while known < aside.len() {
        known = aside.len();
        let made = plan.units.iter().filter(|u| !u.made_by.is_empty() && u.made_by.iter().all(|by| aside.contains(by)));
        let made: Vec<&druse_plan::UnitId> = made.map(|u| &u.id).collect();
        aside.extend(made);
    }
    aside.into_iter().map(ToString::to_string).collect()
}

/// Whether a unit is the webhook that adds variables to Kustomizations when they are applied.
fn gives_variables(unit: &druse_plan::Unit) -> bool {
    let chart = unit.chart.as_ref().map_or("", |c| c.name.as_str());
    [chart, &unit.id.name].iter().any(|name| name.contains("kustomize-mutating-webhook"))
}

/// Says of a chart or source that is not at hand once that it is not, at the first that wants it, and how many others do.
fn once_a_chart(mut findings: Vec<Finding>) -> Vec<Finding> {
    let mut wanted: BTreeMap<String, Vec<Place>> = BTreeMap::new();
    for f in findings.iter().filter(|f| f.code.code == "DR008") {
        wanted.entry(f.message.clone()).or_default().push(f.place.clone());
    }
    wanted.values_mut().for_each(|places| places.sort());
    findings.retain_mut(|f| {
        let Some(places) = wanted.get(&f.message).filter(|p| f.code.code == "DR008" && p.len() > 1) else {
            return true;
        };
        if places.first() != Some(&f.place) {
            return false;
        }
        let others = places.len() - 1;
        let units = if others == 1 { "one other unit needs".to_string() } else { format!("{others} other units need") };
        f.message = format!("{}; {units} it, too", f.message);
        true
    });
    findings
}

/// Takes out what is said twice: by several units that read the same file, or by a failed rendering whose cause has a
/// finding of its own.
fn without_echoes(findings: Vec<Finding>) -> Vec<Finding> {
    let shapes: BTreeSet<Place> = findings
        .iter()
        .filter(|f| matches!(f.code.code.as_str(), "DR010" | "DR011" | "DR012" | "DR013" | "DR014" | "DR050"))
        .map(|f| f.place.clone())
        .collect();
    let listed: BTreeSet<String> =
        findings.iter().filter(|f| f.code.code == "DR005" && f.unit.is_none()).map(|f| f.place.file.clone()).collect();
    let of = |codes: &[&str]| -> BTreeSet<Place> {
        findings.iter().filter(|f| codes.contains(&f.code.code.as_str())).map(|f| f.place.clone()).collect()
    };
    let (variables, refused) = (of(&["DR006", "DR009"]), of(&["DR007"]));
    let unset = findings.iter().any(|f| f.code.code == "DR006");
    let mut seen: BTreeSet<(Place, &'static str, String)> = BTreeSet::new();
    findings
        .into_iter()
        .filter(|f| {
            let echo = match f.code.code.as_str() {
                "DR002" => shapes.iter().any(|p| p.file == f.place.file && f.unit.is_some()),
                "DR005" => f.unit.is_some() && !listed.is_empty(),
                // A variable that stays as it is written is no value.
                "DR013" => variables.contains(&f.place) || f.message.contains("${") && unset,
                // Nor does a unit that fails for one make objects of that name.
                "DR033" | "DR035" | "DR042" | "DR043" if f.message.contains("${") => unset,
                // What the schema refuses is not said to be unused again.
                "DR016" => refused.contains(&f.place),
                _ => false,
            };
            !echo && seen.insert((f.place.clone(), f.code.code.as_str(), f.message.clone()))
        })
        .collect()
}
