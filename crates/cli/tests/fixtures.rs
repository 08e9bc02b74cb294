//! Whole homelabs brought up by `druse up`: the repository's own, and the recorded ones (with `DRUSE_SHARED`, which holds
//! them and their charts). Every unit becomes ready and every secrets volume is mounted, but for what no mirror has.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod common;

use std::path::{Path, PathBuf};

use common::Lab;
use serde_json::Value;

/// Brings a tree up; the units that are not ready, and the secrets volumes that are not mounted.
fn left(tree: &Path, mirror: Option<&Path>) -> (Vec<String>, Vec<String>) {
    let lab = Lab::bare();
    let mut up = lab.up(&["--once", "-o", "json"]);
    if let Some(mirror) = mirror {
        up.arg("--mirror").arg(mirror);
    }
    let ran = lab.run(up.current_dir(tree));
    let report: Value = serde_json::from_str(&ran.stdout).unwrap_or_else(|e| panic!("no report ({e}):\n{ran}"));
    let of = |list: &str, is: fn(&Value) -> bool, name: &str| -> Vec<String> {
        let all = report[list].as_array().into_iter().flatten();
        all.filter(|v| is(v)).map(|v| format!("{}: {}", v[name].as_str().unwrap(), v["message"])).collect()
    };
    (
        of("units", |u| u["state"] != "ready" && u["state"] != "standIn", "unit"),
        of("secrets", |v| v["state"] == "failed", "pod"),
    )
}

#[test]
fn the_reference_homelab_comes_up() {
    let homelab = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../homelab");
    assert_eq!(left(&homelab, None), (Vec::new(), Vec::new()));
}

#[test]
fn recorded_homelabs_come_up() {
    let Some(shared) = std::env::var_os("DRUSE_SHARED").map(PathBuf::from) else {
        eprintln!("skipped: DRUSE_SHARED names no folder with fixtures and charts");
        return;
    };
    // The chart of one release is in no mirror.
    for (tree, without_chart) in [("homelab-2024-04", None), ("homelab-2026-08", Some("argo-events"))] {
        let (mut units, volumes) = left(&shared.join("fixtures").join(tree), Some(&shared));
        units.retain(|u| !without_chart.is_some_and(|chart| u.contains(&format!("chart {chart} "))));
        assert_eq!((units, volumes), (Vec::new(), Vec::new()), "{tree}");
    }
}
