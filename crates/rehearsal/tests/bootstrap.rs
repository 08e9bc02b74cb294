//! Trees that bring Flux itself, as `flux bootstrap` writes them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::Arc;

use druse_kustomize::tree::MemoryTree;
use druse_object::yaml;
use druse_plan::TreeInput;
use druse_rehearsal::{Options, Rehearsal, UnitState};
use druse_source::{Fetcher, FetcherOptions};

const SYNC: &str = "apiVersion: source.toolkit.fluxcd.io/v1
kind: GitRepository
metadata: {name: flux-system, namespace: flux-system}
spec: {interval: 1m, url: https://example.org/me/home}
---
apiVersion: kustomize.toolkit.fluxcd.io/v1
kind: Kustomization
metadata: {name: flux-system, namespace: flux-system}
spec: {interval: 10m, path: ./cluster, prune: true, sourceRef: {kind: GitRepository, name: flux-system}}
---
apiVersion: kustomize.toolkit.fluxcd.io/v1
kind: Kustomization
metadata: {name: app, namespace: flux-system}
spec: {interval: 10m, path: ./app, prune: true, sourceRef: {kind: GitRepository, name: flux-system}}
";

async fn rehearse(components: String) {
    let app = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, namespace: default}\n";
    let files = [
        ("cluster/flux-system/gotk-sync.yaml", SYNC.to_string()),
        ("cluster/flux-system/gotk-components.yaml", components),
        ("app/cm.yaml", app.to_string()),
    ];
    let tree: MemoryTree = files.iter().map(|(p, t)| (*p, t.as_bytes().to_vec())).collect();
    let fetcher = Fetcher::new(FetcherOptions { offline: true, ..FetcherOptions::default() }).unwrap();
    let rehearsal = Rehearsal::start(Options {
        input: TreeInput::new(tree),
        fetcher: Arc::new(fetcher),
        stand_ins: true,
        keys: std::sync::Arc::default(),
        data_dir: None,
        listen: "127.0.0.1:0".parse().unwrap(),
        nodes: druse_simulate::nodes::Node::numbered(1),
        mounts: druse_rehearsal::Mounts::Folder,
    })
    .await
    .unwrap();
    let report = rehearsal.settled().await;
    for unit in &report.units {
        assert_eq!(unit.state, UnitState::Ready, "{}: {}", unit.unit, unit.message);
    }
    assert_eq!(report.units.len(), 2);
    rehearsal.stop().await;
}

/// The kinds that the controllers work on are served before the first unit could bring them.
#[tokio::test(flavor = "multi_thread")]
async fn a_tree_that_brings_flux_own_kinds_comes_up() {
    let flux = druse_component::all().iter().find(|c| c.name == "flux").expect("the component");
    let crds: Vec<String> = flux.crd_objects().iter().map(|o| yaml::to_string(&o.value)).collect();
    rehearse(crds.join("---\n")).await;
}

/// An older Flux would take away the versions that the controllers here work with.
#[tokio::test(flavor = "multi_thread")]
async fn definitions_of_an_older_flux_do_not_replace_what_is_served() {
    let crd = |group: &str, kind: &str, version: &str| {
        let (plural, group) = (format!("{}s", kind.to_lowercase()), format!("{group}.toolkit.fluxcd.io"));
        format!(
            "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {{name: {plural}.{group}}}\nspec:\n  group: {group}\n  scope: Namespaced\n  names: {{kind: {kind}, plural: {plural}, listKind: {kind}List, singular: {}}}\n  versions:\n  - name: {version}\n    served: true\n    storage: true\n    schema: {{openAPIV3Schema: {{type: object, x-kubernetes-preserve-unknown-fields: true}}}}\n",
            kind.to_lowercase()
        )
    };
    let old = [
        crd("helm", "HelmRelease", "v2beta1"),
        crd("source", "HelmChart", "v1beta2"),
        crd("kustomize", "Kustomization", "v1beta1"),
    ];
    rehearse(old.join("---\n")).await;
}
