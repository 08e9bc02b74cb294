//! Trees that bring Flux itself, as `flux bootstrap` writes them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use druse_object::yaml;
use druse_rehearsal::UnitState;
use support::whole::{SYNC, rehearse};

/// One Kustomization more, of a folder beside that of the cluster.
const APP: &str = "---
apiVersion: kustomize.toolkit.fluxcd.io/v1
kind: Kustomization
metadata: {name: app, namespace: flux-system}
spec: {interval: 10m, path: ./app, prune: true, sourceRef: {kind: GitRepository, name: flux-system}}
";

async fn bring_up(components: &str) {
    let app = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, namespace: default}\n";
    let sync = [SYNC, APP].concat();
    let files = [
        ("cluster/flux-system/gotk-sync.yaml", sync.as_str()),
        ("cluster/flux-system/gotk-components.yaml", components),
        ("app/cm.yaml", app),
    ];
    let (rehearsal, report) = rehearse(None, &files).await;
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
    bring_up(&crds.join("---\n")).await;
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
    bring_up(&old.join("---\n")).await;
}
