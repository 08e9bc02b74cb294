//! What a careful reviewer would find in a homelab, planted one fault at a time in real ones (`faults/*.faults` say what
//! and where): each is found at its line, and nothing else is found but what is named beside it.
//!
//! Skipped without `DRUSE_SHARED`, the folder with the recorded homelabs and their charts. `DRUSE_FAULT=TEXT` plants only
//! the faults whose entry has the text.
#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test that cannot be set up fails, or says that it is skipped"
)]

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use druse_check::{Options, Report, check};
use druse_diff::model::Revision;
use druse_diff::{Side, compare};
use druse_kustomize::tree::{Kind, join};
use druse_kustomize::{DiskTree, FileTree, MemoryTree, OverlayTree};
use druse_object::{Value, yaml};
use druse_plan::sources::Sources;
use druse_plan::{Memo, PlanOptions, TreeInput, plan_with};
use druse_source::{Fetcher, FetcherOptions};

/// A homelab to plant in.
struct Lab {
    root: PathBuf,
    /// The folder that the faults' paths are below.
    folder: &'static str,
    /// Files that it gets in addition, or instead.
    extra: MemoryTree,
    fetcher: Arc<Fetcher>,
    memo: Arc<Memo>,
}

impl Lab {
    fn new(shared: &Path, root: PathBuf, folder: &'static str) -> Self {
        let options = FetcherOptions { offline: true, mirrors: vec![shared.to_path_buf()], cache: None };
        let fetcher = Arc::new(Fetcher::new(options).unwrap());
        Self { root, folder, extra: MemoryTree::new(), fetcher, memo: Arc::new(Memo::new()) }
    }

    fn path(&self, file: &str) -> String {
        format!("{}/{file}", self.folder)
    }

    fn text(&self, file: &str) -> String {
        let path = self.path(file);
        let bytes = self.extra.read(&path).or_else(|_| DiskTree::new(&self.root).unwrap().read(&path));
        String::from_utf8(bytes.unwrap_or_else(|e| panic!("{path}: {e}")).to_vec()).unwrap()
    }

    fn add(&mut self, file: &str, text: &str) {
        self.extra.insert(&self.path(file), text.as_bytes().to_vec());
    }

    fn input(&self, changed: &[(String, String)]) -> TreeInput {
        let mut upper = self.extra.clone();
        for (path, text) in changed {
            upper.insert(path, text.clone().into_bytes());
        }
        TreeInput::new(OverlayTree::new(upper, DiskTree::new(&self.root).unwrap()))
    }

    fn check(&self, changed: &[(String, String)], base: Option<TreeInput>) -> Report {
        self.check_with(changed, base, Arc::clone(&self.memo))
    }

    fn check_with(&self, changed: &[(String, String)], base: Option<TreeInput>, memo: Arc<Memo>) -> Report {
        let options = Options { memo, base, ..Options::default() };
        check(&self.input(changed), &self.fetcher, &options)
    }

    /// The findings beside those of the homelab as it is, as `CODE file:line`.
    fn beside(&self, report: &Report, clean: &BTreeSet<String>) -> BTreeSet<String> {
        said(report).difference(clean).cloned().collect()
    }
}

/// Findings as code and message (lines move).
fn said(report: &Report) -> BTreeSet<String> {
    report.findings.iter().map(|f| format!("{} {}\u{1}{}", f.code.code, f.place.file, f.message)).collect()
}

/// A fault, with the tree it makes and where it is to be found.
struct Planted {
    changed: Vec<(String, String)>,
    code: String,
    file: String,
    lines: RangeInclusive<usize>,
    with: Vec<String>,
    entry: String,
}

impl Planted {
    fn is_at(&self, code: &str, finding: &druse_check::Finding) -> bool {
        finding.code.code == code
            && finding.place.file == self.file
            && self.lines.contains(&usize::try_from(finding.place.line).unwrap())
    }

    fn place(&self) -> String {
        format!("{} {}:{:?}", self.code, self.file, self.lines)
    }
}

/// Plants what an entry of a list of faults says.
fn plant(lab: &Lab, entry: &Value) -> Planted {
    let text = |key: &str| entry.str_at([key]);
    let shown = druse_object::json::to_string(entry);
    let file = text("file").unwrap_or_else(|| panic!("no file: {shown}"));
    let before = lab.text(file);
    let (after, start) = match text("add") {
        Some(add) => (format!("{}\n---\n{add}", before.trim_end()), before.trim_end().len() + 5),
        None => {
            let (from, put) = (text("for").unwrap(), text("put").unwrap());
            let skip = text("after").map_or(0, |a| before.find(a).unwrap_or_else(|| panic!("no {a:?}: {shown}")));
            let at = skip + before[skip..].find(from).unwrap_or_else(|| panic!("nothing to change: {shown}"));
            let same = from.bytes().zip(put.bytes()).take_while(|(a, b)| a == b).count();
            (format!("{}{put}{}", &before[..at], &before[at + from.len()..]), at + same)
        }
    };
    let other = text("in").map(|f| (f, lab.text(f)));
    let (on, content) = other.as_ref().map_or((file, &after), |(f, t)| (*f, t));
    let changed_line = after[..start.min(after.len())].matches('\n').count();
    let from = if other.is_some() { 0 } else { changed_line };
    let lines: Vec<&str> = content.lines().collect();
    let line = match text("at") {
        None | Some("any") => from,
        Some(mark) => match mark.strip_prefix('^') {
            Some(mark) => (0..=from).rev().find(|i| lines[*i].trim_start().starts_with(mark.trim_start())),
            None => (from..lines.len()).find(|i| lines[*i].contains(mark)),
        }
        .unwrap_or_else(|| panic!("no line with {mark:?}: {shown}")),
    };
    // Of the document: what comes after the separator above, up to the one below.
    let end = |l: &&str| l.starts_with("---");
    let lines = if text("at") == Some("any") {
        let above = lines[..=line.min(lines.len() - 1)].iter().rposition(&end).unwrap_or(0);
        let below = lines[above + 1..].iter().position(end).map_or(lines.len(), |i| above + 1 + i);
        above + 1..=below
    } else {
        line + 1..=line + 1
    };
    Planted {
        changed: vec![(lab.path(file), after)],
        code: text("find").unwrap().to_string(),
        file: lab.path(on),
        lines,
        with: entry["with"].items().iter().filter_map(Value::as_str).map(str::to_string).collect(),
        entry: shown,
    }
}

fn shared() -> Option<PathBuf> {
    let dir = std::env::var_os("DRUSE_SHARED").map(PathBuf::from);
    if dir.is_none() {
        eprintln!("skipped: DRUSE_SHARED is not set");
    }
    dir
}

/// Plants all faults of a list, one at a time, and says which are not found as they should be.
fn review(lab: &Lab, list: &str) {
    let faults = yaml::parse(list, yaml::Dialect::Sigs).unwrap();
    let only = std::env::var("DRUSE_FAULT").unwrap_or_default();
    let clean = said(&lab.check(&[], None));
    let (mut wrong, mut all) = (String::new(), 0);
    for entry in faults.items() {
        let p = plant(lab, entry);
        if !p.entry.contains(&only) {
            continue;
        }
        all += 1;
        // What a memo knows was read before.
        let memo = if p.code == "DR003" { Arc::default() } else { Arc::clone(&lab.memo) };
        let report = lab.check_with(&p.changed, None, memo);
        let beside = lab.beside(&report, &clean);
        let new =
            |f: &&druse_check::Finding| beside.contains(&format!("{} {}\u{1}{}", f.code.code, f.place.file, f.message));
        let found: Vec<String> =
            report.findings.iter().filter(new).map(|f| format!("{} {}: {}", f.code.code, f.place, f.message)).collect();
        let missed = !report.findings.iter().filter(new).any(|f| p.is_at(&p.code, f));
        let noise = found.iter().any(|f| !f.starts_with(&p.code) && !p.with.iter().any(|w| f.starts_with(w.as_str())));
        if missed || noise {
            let what = if missed { "not found" } else { "found more" };
            let _ = writeln!(wrong, "{what}: {}\n  wanted {}", p.entry, p.place());
            for f in found {
                let _ = writeln!(wrong, "  found  {f}");
            }
        }
    }
    assert!(wrong.is_empty(), "of {all} faults:\n{wrong}");
}

/// The homelab of 2026, with an application added to it.
fn recorded(shared: &Path) -> Lab {
    let mut lab = Lab::new(shared, shared.join("fixtures/homelab-2026-08"), "kubernetes");
    lab.add("miniflux/app/shop.yaml", include_str!("faults/shop.yaml"));
    let list = lab.text("miniflux/kustomization.yaml");
    lab.add("miniflux/kustomization.yaml", &list.replace("  - app/repo.yaml", "  - app/shop.yaml\n  - app/repo.yaml"));
    lab
}

#[test]
fn faults_planted_in_a_recorded_homelab_are_found() {
    let Some(shared) = shared() else { return };
    review(&recorded(&shared), include_str!("faults/homelab-2026-08.faults"));
}

#[test]
fn faults_planted_in_its_earlier_state_are_found() {
    let Some(shared) = shared() else { return };
    let lab = Lab::new(&shared, shared.join("fixtures/homelab-2024-04"), "kubernetes");
    review(&lab, include_str!("faults/homelab-2024-04.faults"));
}

#[test]
fn faults_planted_in_our_own_homelab_are_found() {
    let Some(shared) = shared() else { return };
    // Only its own files: the tests of this repository hold other homelabs.
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut lab = Lab::new(&shared, here.join("src"), "homelab");
    let disk = DiskTree::new(here.join("../../homelab")).unwrap();
    let mut folders = vec![String::new()];
    while let Some(folder) = folders.pop() {
        for name in disk.list(&folder).unwrap() {
            let path = join(&folder, &name).unwrap();
            match disk.kind(&path) {
                Some(Kind::Dir) => folders.push(path),
                _ => lab.add(&path, &String::from_utf8_lossy(&disk.read(&path).unwrap())),
            }
        }
    }
    review(&lab, include_str!("faults/homelab.faults"));
}

#[test]
fn an_application_without_faults_adds_no_finding() {
    let Some(shared) = shared() else { return };
    let lab = Lab::new(&shared, shared.join("fixtures/homelab-2026-08"), "kubernetes");
    let clean = said(&lab.check(&[], None));
    let with = said(&recorded(&shared).check(&[], None));
    // The homelab leaves it to retries that kinds are there before what is of them.
    let more: Vec<&String> = with.difference(&clean).filter(|f| !f.starts_with("DR041")).collect();
    assert_eq!(more, Vec::<&String>::new());
}

#[test]
fn dangerous_changes_are_found_by_diff_and_check() {
    let Some(shared) = shared() else { return };
    let mut lab = recorded(&shared);
    let units = lab.text("flux-system/app/boostrap.yaml");
    lab.add("flux-system/app/boostrap.yaml", &units.replace("prune: false", "prune: true"));
    let lab = lab;
    let only = std::env::var("DRUSE_FAULT").unwrap_or_default();
    let plan = |input: &TreeInput| {
        let sources = Sources::with_memo(input.clone(), Arc::clone(&lab.fetcher), Arc::clone(&lab.memo));
        plan_with(&sources, &PlanOptions::default())
    };
    let before = lab.input(&[]);
    let base = plan(&before);
    let (mut wrong, mut all) = (String::new(), 0);
    for entry in yaml::parse(include_str!("faults/changes.faults"), yaml::Dialect::Sigs).unwrap().items() {
        let p = plant(&lab, entry);
        if !p.entry.contains(&only) {
            continue;
        }
        all += 1;
        let input = lab.input(&p.changed);
        let head = plan(&input);
        let side = |plan, tree| Side::new(plan, tree, Revision::default());
        let diff = compare(&side(&base, &*before.tree), &side(&head, &*input.tree));
        if !diff.dangers.iter().any(|d| d.code == p.code) {
            let found: Vec<String> = diff.dangers.iter().map(|d| format!("{}: {}", d.code, d.title)).collect();
            let _ = writeln!(wrong, "no danger {}: {}\n  found {found:#?}", p.code, p.entry);
        }
        let Some(wanted) = entry.str_at(["as"]) else { continue };
        let report = lab.check(&p.changed, Some(before.clone()));
        if !report.findings.iter().any(|f| p.is_at(wanted, f)) {
            let changes = report.findings.iter().filter(|f| f.code.code.starts_with("DR09"));
            let found: Vec<String> = changes.map(|f| format!("{} {}: {}", f.code.code, f.place, f.message)).collect();
            let _ = writeln!(wrong, "not found: {}\n  wanted {wanted} at {}, found {found:#?}", p.entry, p.place());
        }
    }
    assert!(wrong.is_empty(), "of {all} changes:\n{wrong}");
}
