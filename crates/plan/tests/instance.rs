//! What a Flux Operator makes of a FluxInstance is where a plan begins.

use std::sync::Arc;

use druse_kustomize::tree::MemoryTree;
use druse_plan::{Plan, PlanOptions, TreeInput, plan};
use druse_source::{Fetcher, FetcherOptions};

fn make(files: &[(&str, String)]) -> Plan {
    let tree: MemoryTree = files.iter().map(|(path, text)| (*path, text.clone())).collect();
    let fetcher = Fetcher::new(FetcherOptions { offline: true, ..FetcherOptions::default() }).expect("a fetcher");
    plan(&TreeInput::new(tree), &Arc::new(fetcher), &PlanOptions::default())
}

fn units(plan: &Plan) -> Vec<String> {
    let mut all: Vec<String> =
        plan.units.iter().map(|u| format!("{}{}", u.id, if u.is_root { " (root)" } else { "" })).collect();
    all.sort();
    all
}

fn instance(path: &str) -> String {
    format!(
        "apiVersion: fluxcd.controlplane.io/v1\nkind: FluxInstance\nmetadata: {{name: flux, namespace: flux-system}}\n\
         spec: {{sync: {{kind: GitRepository, url: 'https://example.org/me/home', ref: refs/heads/main, path: {path}}}}}\n"
    )
}

fn kustomization(name: &str, path: &str) -> String {
    format!(
        "apiVersion: kustomize.toolkit.fluxcd.io/v1\nkind: Kustomization\nmetadata: {{name: {name}, namespace: flux-system}}\n\
         spec: {{interval: 1h, prune: true, path: {path}, sourceRef: {{kind: GitRepository, name: flux-system}}}}\n"
    )
}

fn config_map(name: &str) -> String {
    format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}, namespace: apps}}\n")
}

#[test]
fn the_folder_that_an_instance_syncs_is_a_root_with_all_that_lies_in_it() {
    let plan = make(&[
        ("boot/instance.yaml", instance("clusters/home")),
        ("clusters/home/apps.yaml", kustomization("apps", "apps")),
        ("clusters/home/beside.yaml", config_map("beside")),
        ("apps/one.yaml", config_map("one")),
    ]);
    assert_eq!(units(&plan), ["Kustomization/flux-system/apps", "Kustomization/flux-system/flux-system (root)"]);
    let root = plan.unit(&"Kustomization/flux-system/flux-system".parse().expect("an id")).expect("the root");
    assert!(root.objects.iter().any(|o| o.name() == "beside"), "{:?}", root.errors);
    assert_eq!(root.definition.provenance.file.as_deref(), Some("boot/instance.yaml"));
}

#[test]
fn without_any_kustomization_the_instance_is_the_only_root() {
    let plan = make(&[("boot/instance.yaml", instance("cluster")), ("cluster/one.yaml", config_map("one"))]);
    assert_eq!(units(&plan), ["Kustomization/flux-system/flux-system (root)"]);
}

#[test]
fn an_instance_that_renders_none_of_the_roots_is_another_clusters() {
    let plan = make(&[
        ("a/instance.yaml", instance("elsewhere/flux")),
        ("elsewhere/flux/cm.yaml", config_map("other")),
        ("home/apps.yaml", kustomization("apps", "apps")),
        ("apps/one.yaml", config_map("one")),
    ]);
    assert_eq!(units(&plan), ["Kustomization/flux-system/apps (root)"]);
}

#[test]
fn what_an_operator_makes_of_resource_sets_is_said_not_to_be_there() {
    let set = "apiVersion: fluxcd.controlplane.io/v1\nkind: ResourceSet\nmetadata: {name: tenants, namespace: apps}\n\
               spec: {resources: []}\n";
    let plan = make(&[
        ("home/apps.yaml", kustomization("apps", "apps")),
        ("apps/set.yaml", set.into()),
        ("apps/one.yaml", config_map("one")),
    ]);
    let said = plan.warnings.iter().find(|w| w.contains("ResourceSets")).expect("a warning");
    assert!(said.contains("tenants (apps/set.yaml:1"), "{said}");
}

#[test]
fn part_of_a_kustomization_that_a_parent_would_complete_is_no_root() {
    let part = "apiVersion: kustomize.toolkit.fluxcd.io/v1\nkind: Kustomization\n\
                metadata: {name: part, namespace: flux-system}\n\
                spec: {path: apps, sourceRef: {kind: GitRepository, name: flux-system}}\n";
    let plan = make(&[
        ("home/apps.yaml", kustomization("apps", "apps")),
        ("parts/ks.yaml", part.into()),
        ("apps/one.yaml", config_map("one")),
    ]);
    assert_eq!(units(&plan), ["Kustomization/flux-system/apps (root)"]);
}
