//! A small homelab without faults, to plant faults in.
#![allow(dead_code, reason = "each test file uses a part")]
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

use std::collections::BTreeMap;
use std::sync::Arc;

use druse_check::{Finding, Options, Report, Severity, check};
use druse_kustomize::MemoryTree;
use druse_plan::TreeInput;
use druse_source::{Fetcher, FetcherOptions};

/// Files by path.
pub type Tree = BTreeMap<String, String>;

macro_rules! files {
    ($($path:literal),* $(,)?) => { [$(($path, include_str!(concat!("../tree/", $path)))),*] };
}

/// The homelab.
pub fn homelab() -> Tree {
    files![
        "flux/cluster.yaml",
        "flux/units/base.yaml",
        "flux/units/crds.yaml",
        "flux/units/kustomization.yaml",
        "flux/units/settings.yaml",
        "flux/units/web.yaml",
        "apps/base/classes.yaml",
        "apps/base/kustomization.yaml",
        "apps/base/namespaces.yaml",
        "apps/crds/kustomization.yaml",
        "apps/crds/others.yaml",
        "apps/crds/widgets.yaml",
        "apps/web/access.yaml",
        "apps/web/config.yaml",
        "apps/web/deployment.yaml",
        "apps/web/extras.yaml",
        "apps/web/kustomization.yaml",
        "apps/web/policies.yaml",
        "apps/web/release.yaml",
        "apps/web/routes.yaml",
        "apps/web/storage.yaml",
        "charts/demo/Chart.yaml",
        "charts/demo/templates/deployment.yaml",
        "charts/demo/values.schema.json",
        "charts/demo/values.yaml",
    ]
    .into_iter()
    .map(|(path, text)| (path.to_string(), text.to_string()))
    .collect()
}

/// Checks a tree without network.
pub fn check_tree(tree: &Tree) -> Report {
    check_with(tree, &Options::default())
}

/// Checks a tree without network, in this way.
pub fn check_with(tree: &Tree, options: &Options) -> Report {
    let fetcher = Fetcher::new(FetcherOptions { offline: true, ..FetcherOptions::default() }).unwrap();
    check(&input(tree), &Arc::new(fetcher), options)
}

/// A tree as the check takes it.
pub fn input(tree: &Tree) -> TreeInput {
    let files: MemoryTree = tree.iter().map(|(path, text)| (path.as_str(), text.as_bytes().to_vec())).collect();
    TreeInput::new(files)
}

/// Findings as `CODE file:line`, those that are only worth knowing left out.
pub fn found(report: &Report) -> Vec<String> {
    shown(report.findings.iter().filter(|f| f.severity > Severity::Info))
}

/// Findings as `CODE file:line`.
pub fn shown<'f>(findings: impl Iterator<Item = &'f Finding>) -> Vec<String> {
    findings.map(|f| format!("{} {}", f.code.code, f.place)).collect()
}
