//! The two states of a real homelab repository, against the offline mirror: every unit whose inputs are at hand renders,
//! the others fail by name, and nothing depends on the number of threads.

#![allow(clippy::print_stderr)]

use std::path::PathBuf;
use std::sync::Arc;

use druse_plan::{Plan, PlanOptions, ServedKind, StandIn, StandIns, UnitKind, UnitState, locate, plan};
use druse_source::{Fetcher, FetcherOptions};

fn shared() -> Option<PathBuf> {
    let dir = std::env::var_os("DRUSE_SHARED")
        .map(PathBuf::from)
        .unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared"));
    if dir.join("fixtures").is_dir() {
        return Some(dir);
    }
    eprintln!("skipped: no shared fixtures (set DRUSE_SHARED)");
    None
}

struct TestStandIns;

impl StandIns for TestStandIns {
    fn for_chart(&self, chart: &str) -> Option<StandIn> {
        let component = match chart {
            "mimir-distributed" => "grafana",
            "flux2" => "flux",
            _ => return None,
        };
        Some(StandIn { component: component.into(), kinds: Vec::new() })
    }
    fn for_source(&self, url: &str) -> Option<StandIn> {
        (url == "https://github.com/fluxcd/flux2").then(|| StandIn { component: "flux".into(), kinds: Vec::new() })
    }
    fn always_served(&self) -> Vec<ServedKind> {
        Vec::new()
    }
}

fn make(fixture: &str, stand_ins: bool) -> Option<Plan> {
    let shared = shared()?;
    let fetcher =
        Fetcher::new(FetcherOptions { mirrors: vec![shared.clone()], offline: true, ..FetcherOptions::default() })
            .expect("a mirror");
    let input = locate(&shared.join("fixtures").join(fixture)).expect("a tree");
    let mut options = PlanOptions::default();
    if stand_ins {
        options.stand_ins = Arc::new(TestStandIns);
    }
    Some(plan(&input, &Arc::new(fetcher), &options))
}

fn describe(plan: &Plan) -> String {
    let mut out = String::new();
    for u in &plan.units {
        out.push_str(&format!("{} {:?} {} objects\n", u.id, u.state, u.objects.len()));
        for e in &u.errors {
            out.push_str(&format!("    error: {e}\n"));
        }
        for w in u.warnings.iter().chain(&u.unresolved) {
            out.push_str(&format!("    note: {w}\n"));
        }
    }
    for w in &plan.warnings {
        out.push_str(&format!("warning: {w}\n"));
    }
    for s in &plan.tree_sources {
        out.push_str(&format!("tree: {s:?}\n"));
    }
    out
}

/// Units that fail, as `kind/ns/name`.
fn failed(plan: &Plan) -> Vec<String> {
    plan.units.iter().filter(|u| u.state == UnitState::Failed).map(|u| u.id.to_string()).collect()
}

#[test]
fn the_newer_homelab_renders_all_but_what_the_mirror_lacks() {
    let Some(plan) = make("homelab-2026-08", true) else { return };
    println!("{}", describe(&plan));
    assert_eq!(failed(&plan), ["HelmRelease/argo-system/argo-events"]);
    let stand_ins: Vec<String> =
        plan.units.iter().filter(|u| matches!(u.state, UnitState::StandIn { .. })).map(|u| u.id.to_string()).collect();
    assert_eq!(stand_ins, ["HelmRelease/flux-system/flux2", "HelmRelease/mimir/mimir"]);
    let error = &plan.units.iter().find(|u| u.state == UnitState::Failed).expect("one").errors[0];
    assert!(error.message.contains("chart argo-events 2.4.24"), "{error}");
    assert!(error.message.contains("has no chart of that name"), "{error}");
    assert_eq!(plan.tree_sources.len(), 1);
    assert_eq!(plan.tree_sources[0].id, "GitRepository/flux-system/homelab");
    assert!(plan.units.iter().filter(|u| u.id.kind == UnitKind::HelmRelease).count() > 30);
}

#[test]
fn the_older_homelab_renders_all_but_what_the_mirror_lacks() {
    let Some(plan) = make("homelab-2024-04", true) else { return };
    println!("{}", describe(&plan));
    assert_eq!(failed(&plan), Vec::<String>::new());
}

#[test]
fn without_stand_ins_what_is_not_at_hand_fails_by_name() {
    let Some(plan) = make("homelab-2026-08", false) else { return };
    assert_eq!(
        failed(&plan),
        ["HelmRelease/argo-system/argo-events", "HelmRelease/flux-system/flux2", "HelmRelease/mimir/mimir"]
    );
}

#[test]
fn the_number_of_threads_does_not_show() {
    let with = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool");
        pool.install(|| make("homelab-2026-08", true))
    };
    let (Some(one), Some(many)) = (with(1), with(8)) else { return };
    for (a, b) in describe(&one).lines().zip(describe(&many).lines()) {
        assert_eq!(a, b);
    }
    for (a, b) in one.units.iter().zip(&many.units) {
        assert_eq!(a.objects, b.objects, "{}", a.id);
    }
}
