//! Small homelabs in memory, planned and compared.

#![allow(dead_code, clippy::expect_used)]

use std::collections::BTreeMap;
use std::sync::Arc;

use druse_diff::model::{Danger, Revision, UnitChange};
use druse_diff::{Diff, Side, compare};
use druse_kustomize::tree::MemoryTree;
use druse_plan::{Plan, PlanOptions, TreeInput, plan};
use druse_source::{Fetcher, FetcherOptions};

/// The source that stands for the tree, and the root that reads `cluster/`.
pub const SYNC: &str = "apiVersion: source.toolkit.fluxcd.io/v1
kind: GitRepository
metadata: {name: home, namespace: flux-system}
spec: {url: https://example.org/me/home, interval: 1m}
---
apiVersion: kustomize.toolkit.fluxcd.io/v1
kind: Kustomization
metadata: {name: cluster, namespace: flux-system}
spec: {interval: 1h, prune: true, path: ./cluster, sourceRef: {kind: GitRepository, name: home}}
";

/// A Kustomization that reads the folder of its name and prunes; `more` are further entries of its spec.
pub fn unit(name: &str, more: &str) -> String {
    format!(
        "---\napiVersion: kustomize.toolkit.fluxcd.io/v1\nkind: Kustomization\nmetadata: {{name: {name}, namespace: flux-system}}\nspec:\n  interval: 1h\n  prune: true\n  path: ./{name}\n  sourceRef: {{kind: GitRepository, name: home}}\n{more}"
    )
}

/// A HelmRelease of the chart `charts/NAME` of the tree.
pub fn release(name: &str, more: &str) -> String {
    format!(
        "---\napiVersion: helm.toolkit.fluxcd.io/v2\nkind: HelmRelease\nmetadata: {{name: {name}, namespace: apps}}\nspec:\n  interval: 1h\n  chart: {{spec: {{chart: ./charts/{name}, sourceRef: {{kind: GitRepository, name: home, namespace: flux-system}}}}}}\n{more}"
    )
}

/// A tree's files.
#[derive(Clone, Default)]
pub struct Tree(BTreeMap<String, String>);

impl Tree {
    /// A root, and one unit `app` with one file.
    pub fn app(yaml: &str) -> Self {
        Self::default()
            .file("cluster/sync.yaml", SYNC)
            .file("cluster/units.yaml", &unit("app", ""))
            .file("app/all.yaml", yaml)
    }

    /// With a file, in place of one that is there.
    pub fn file(mut self, path: &str, text: &str) -> Self {
        self.0.insert(path.into(), text.into());
        self
    }

    /// Without a file.
    pub fn without(mut self, path: &str) -> Self {
        self.0.remove(path);
        self
    }

    /// Its files as the product reads them.
    pub fn memory(&self) -> MemoryTree {
        self.0.iter().map(|(k, v)| (k.as_str(), v.clone().into_bytes())).collect()
    }

    /// Writes the files into a folder.
    pub fn write(&self, dir: &std::path::Path) {
        for (path, text) in &self.0 {
            let path = dir.join(path);
            std::fs::create_dir_all(path.parent().expect("a parent")).expect("made");
            std::fs::write(path, text).expect("written");
        }
    }

    /// Its plan.
    pub fn plan(&self) -> Plan {
        let fetcher = Fetcher::new(FetcherOptions { offline: true, ..FetcherOptions::default() }).expect("a fetcher");
        plan(&TreeInput::new(self.memory()), &Arc::new(fetcher), &PlanOptions::default())
    }
}

fn revision(name: &str) -> Revision {
    Revision { name: name.into(), commit: None }
}

/// The diff of two trees.
pub fn diff(base: &Tree, head: &Tree) -> Diff {
    let (base_plan, head_plan) = (base.plan(), head.plan());
    let (base_tree, head_tree) = (base.memory(), head.memory());
    compare(
        &Side::new(&base_plan, &base_tree, revision("main")),
        &Side::new(&head_plan, &head_tree, revision("working tree")),
    )
}

/// `code severity title` of every danger.
pub fn dangers(diff: &Diff) -> Vec<String> {
    diff.dangers.iter().map(|d| format!("{} {}: {}", d.code, d.severity.word(), d.title)).collect()
}

/// The dangers of one code.
pub fn of<'d>(diff: &'d Diff, code: &str) -> Vec<&'d Danger> {
    diff.dangers.iter().filter(|d| d.code == code).collect()
}

/// A unit's change.
pub fn unit_change<'d>(diff: &'d Diff, unit: &str) -> &'d UnitChange {
    diff.units.iter().find(|u| u.unit == unit).unwrap_or_else(|| panic!("{unit} is not among {:?}", names(diff)))
}

/// The units that differ.
pub fn names(diff: &Diff) -> Vec<&str> {
    diff.units.iter().map(|u| u.unit.as_str()).collect()
}
