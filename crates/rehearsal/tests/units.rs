//! Units that wait for each other and for kinds: named as waiting, brought up by what they wait for, not by a timer.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use druse_kustomize::tree::MemoryTree;
use support::{Cluster, condition, config_maps, kustomizations};

const NS: &str = "flux-system";

fn unit(name: &str, more: &str) -> String {
    format!(
        "apiVersion: kustomize.toolkit.fluxcd.io/v1\nkind: Kustomization\nmetadata: {{name: {name}, namespace: {NS}}}\nspec:\n  interval: 1h\n  path: ./{name}\n  prune: true\n  sourceRef: {{kind: GitRepository, name: tree}}\n{more}"
    )
}

fn tree(files: &[(&str, &str)]) -> MemoryTree {
    files.iter().map(|(p, t)| (*p, t.as_bytes().to_vec())).collect()
}

fn map(name: &str) -> String {
    format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}, namespace: default}}\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_unit_waits_for_its_dependency_and_comes_up_when_that_is_mended() {
    let b = map("b");
    let broken = tree(&[("a/x.yaml", "kind: [\n"), ("b/x.yaml", &b)]);
    let cluster = Cluster::start(broken, "main@sha1:1", false).await;
    let ks = kustomizations();
    cluster.apply(&unit("a", "")).await;
    cluster.apply(&unit("b", "  dependsOn: [{name: a}]\n")).await;
    cluster.until(&ks, NS, "a", |v| condition(v, "Ready").1 == "BuildFailed").await;
    cluster.until(&ks, NS, "b", |v| condition(v, "Ready").1 == "DependencyNotReady").await;
    assert_eq!(
        condition(cluster.get(&ks, NS, "b").await.as_ref(), "Ready").2,
        "dependency 'flux-system/a' is not ready"
    );
    assert!(cluster.get(&config_maps(), "default", "b").await.is_none());

    let (a, c) = (map("a"), map("c"));
    let whole = tree(&[("a/x.yaml", &a), ("a/y.yaml", &c), ("b/x.yaml", &b)]);
    cluster.revise(whole, "main@sha1:2");
    cluster.until(&ks, NS, "b", |v| condition(v, "Ready").0 == "True").await;
    assert!(cluster.get(&config_maps(), "default", "c").await.is_some());

    // What a later revision no longer has goes.
    cluster.revise(tree(&[("a/x.yaml", &a), ("b/x.yaml", &b)]), "main@sha1:3");
    cluster.until(&config_maps(), "default", "c", |v| v.is_none()).await;
    for name in ["a", "b"] {
        cluster
            .until(&ks, NS, name, |v| {
                v.and_then(|v| v.str_at(["status", "lastAppliedRevision"])) == Some("main@sha1:3")
            })
            .await;
        assert!(cluster.get(&config_maps(), "default", name).await.is_some());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_unit_whose_kind_is_not_served_comes_up_when_it_is() {
    let crd = "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {name: things.example.org}\nspec:\n  group: example.org\n  scope: Namespaced\n  names: {plural: things, singular: thing, kind: Thing, listKind: ThingList}\n  versions:\n  - name: v1\n    served: true\n    storage: true\n    schema: {openAPIV3Schema: {type: object}}\n";
    let thing = "apiVersion: example.org/v1\nkind: Thing\nmetadata: {name: t, namespace: default}\n";
    let beside = map("beside");
    let cluster = Cluster::start(
        tree(&[("things/t.yaml", thing), ("things/c.yaml", &beside), ("crds/x.yaml", crd)]),
        "main@sha1:1",
        false,
    )
    .await;
    let ks = kustomizations();
    cluster.apply(&unit("things", "")).await;
    cluster.until(&ks, NS, "things", |v| condition(v, "Ready").0 == "False").await;
    let message = condition(cluster.get(&ks, NS, "things").await.as_ref(), "Ready").2;
    assert!(
        message
            .starts_with("Thing/default/t dry-run failed: no matches for kind \"Thing\" in version \"example.org/v1\""),
        "{message}"
    );
    assert!(cluster.get(&config_maps(), "default", "beside").await.is_some(), "the others are applied all the same");
    cluster.apply(&unit("crds", "")).await;
    cluster.until(&ks, NS, "things", |v| condition(v, "Ready").0 == "True").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_no_key_opens_a_secret_placeholders_stand_in_and_the_rest_comes_up() {
    let secret = "apiVersion: v1\nkind: Secret\nmetadata: {name: s, namespace: default}\nstringData: {a: 'ENC[AES256_GCM,data:eA==,iv:eA==,tag:eA==,type:str]'}\n\
                  sops: {mac: x, age: [{recipient: age1x, enc: x}]}\n";
    let (a, b) = (map("a"), map("b"));
    let files = tree(&[("a/s.yaml", secret), ("a/x.yaml", &a), ("b/s.yaml", secret), ("b/x.yaml", &b)]);
    let cluster = Cluster::start(files, "main@sha1:1", false).await;
    let ks = kustomizations();
    cluster.apply(&unit("a", "  decryption: {provider: sops}\n")).await;
    cluster.apply(&unit("b", "")).await;
    cluster.until(&ks, NS, "a", |v| condition(v, "Ready").0 == "True").await;
    assert!(cluster.get(&config_maps(), "default", "a").await.is_some());
    let secrets = druse_runtime::Resource::new("", "v1", "Secret", "secrets", true);
    let s = cluster.get(&secrets, "default", "s").await.unwrap();
    let placeholder = "Li5QTEFDRUhPTERFUl9hLi4="; // ..PLACEHOLDER_a..
    assert_eq!(s.str_at(["data", "a"]), Some(placeholder), "encrypted text is no value");
    // Without decryption nothing could ever read it: that is a fault of the tree.
    cluster.until(&ks, NS, "b", |v| condition(v, "Ready").1 == "ReconciliationFailed").await;
    assert!(condition(cluster.get(&ks, NS, "b").await.as_ref(), "Ready").2.contains("configuring decryption"));
}
