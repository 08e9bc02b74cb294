//! HelmReleases under the controllers: installed, upgraded, failed, remediated, tested, drifted and removed as under
//! Flux' helm-controller. No pods run: what a Deployment would make ready never becomes so.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use druse_helm::ReleaseRecord;
use druse_kustomize::tree::MemoryTree;
use druse_object::Value;
use druse_runtime::Resource;
use support::{Cluster, condition, config_maps, events, helm_releases, kustomizations, secrets};

const NS: &str = "flux-system";

const CHART: &[(&str, &str)] = &[
    ("charts/app/Chart.yaml", "apiVersion: v2\nname: app\nversion: 1.2.3\nappVersion: \"9\"\n"),
    ("charts/app/values.yaml", "color: red\nbroken: false\nextra: true\nthing: false\n"),
    (
        "charts/app/templates/cm.yaml",
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: {{ .Release.Name }}}\ndata:\n  color: {{ .Values.color }}\n  upgrade: \"{{ .Release.IsUpgrade }}\"\n  revision: \"{{ .Release.Revision }}\"\n",
    ),
    (
        "charts/app/templates/extra.yaml",
        "{{ if .Values.extra }}\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: {{ .Release.Name }}-extra}\n{{ end }}\n",
    ),
    (
        "charts/app/templates/kept.yaml",
        "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {{ .Release.Name }}-kept\n  annotations: {helm.sh/resource-policy: keep}\n",
    ),
    (
        "charts/app/templates/broken.yaml",
        "{{ if .Values.broken }}\napiVersion: apps/v1\nkind: Deployment\nmetadata: {name: {{ .Release.Name }}}\nspec:\n  selector: {matchLabels: {a: b}}\n  template:\n    metadata: {labels: {a: b}}\n    spec: {containers: [{name: c, image: i}]}\n{{ end }}\n",
    ),
    (
        "charts/app/templates/thing.yaml",
        "{{ if .Values.thing }}\napiVersion: example.org/v1\nkind: Thing\nmetadata: {name: {{ .Release.Name }}}\nspec: {size: 1, {{ .Values.thing }}: null}\n{{ end }}\n",
    ),
    (
        "charts/app/templates/bye.yaml",
        "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {{ .Release.Name }}-bye\n  annotations: {helm.sh/hook: pre-delete}\n",
    ),
    (
        "charts/app/templates/test.yaml",
        "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {{ .Release.Name }}-test\n  annotations: {helm.sh/hook: test}\n",
    ),
];

fn chart() -> MemoryTree {
    CHART.iter().map(|(p, t)| (*p, t.as_bytes().to_vec())).collect()
}

fn release(name: &str, spec: &str) -> String {
    format!(
        "apiVersion: helm.toolkit.fluxcd.io/v2\nkind: HelmRelease\nmetadata: {{name: {name}, namespace: {NS}}}\nspec:\n  interval: 1h\n  timeout: 1s\n  chart: {{spec: {{chart: ./charts/app, sourceRef: {{kind: GitRepository, name: tree}}}}}}\n{spec}"
    )
}

async fn records(cluster: &Cluster, name: &str) -> Vec<ReleaseRecord> {
    let mut all: Vec<ReleaseRecord> = cluster
        .list(&secrets(), NS)
        .await
        .iter()
        .filter(|s| s["metadata"]["labels"]["name"].as_str() == Some(name))
        .map(|s| ReleaseRecord::from_secret(s).unwrap())
        .collect();
    all.sort_by_key(|r| r.version);
    all
}

async fn statuses(cluster: &Cluster, name: &str) -> Vec<String> {
    records(cluster, name).await.into_iter().map(|r| r.status).collect()
}

async fn data(cluster: &Cluster, name: &str, key: &str) -> String {
    let v = cluster.get(&config_maps(), NS, name).await.unwrap_or_default();
    v["data"][key].as_str().unwrap_or_default().to_owned()
}

async fn reasons(cluster: &Cluster, name: &str) -> Vec<String> {
    let mut all: Vec<String> = cluster
        .list(&events(), NS)
        .await
        .iter()
        .filter(|e| {
            e["involvedObject"]["name"].as_str() == Some(name)
                && e["involvedObject"]["kind"].as_str() == Some("HelmRelease")
        })
        .map(|e| e["reason"].as_str().unwrap().to_owned())
        .collect();
    all.sort();
    all.dedup();
    all
}

async fn ask(cluster: &Cluster, name: &str, annotations: &[&str], when: &str) {
    let list: Vec<String> = annotations.iter().map(|a| format!(r#""reconcile.fluxcd.io/{a}":"{when}""#)).collect();
    let patch = format!(r#"{{"metadata":{{"annotations":{{{}}}}}}}"#, list.join(","));
    cluster.merge(&helm_releases(), NS, name, &patch).await;
    cluster
        .until(&helm_releases(), NS, name, |v| {
            v.and_then(|v| v.str_at(["status", "lastHandledReconcileAt"])) == Some(when)
        })
        .await;
}

fn ready(v: Option<&Value>) -> bool {
    condition(v, "Ready").0 == "True"
        && v.is_some_and(|v| v["status"]["observedGeneration"] == v["metadata"]["generation"])
}

fn stalled(v: Option<&Value>) -> bool {
    condition(v, "Stalled").0 == "True"
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_is_installed_upgraded_and_removed() {
    let mut tree = chart();
    let kustomization = |color: &str| {
        format!(
            "configMapGenerator:\n- name: values\n  namespace: {NS}\n  literals: [\"values.yaml=color: {color}\"]\n  options: {{disableNameSuffixHash: true}}\n"
        )
    };
    tree.insert("values/kustomization.yaml", kustomization("blue").into_bytes());
    let cluster = Cluster::start(tree.clone(), "main@sha1:1", false).await;
    let hr = helm_releases();
    // Its values come later than it does.
    cluster.apply(&release("web", "  valuesFrom: [{kind: ConfigMap, name: values}]\n")).await;
    cluster.until(&hr, NS, "web", |v| condition(v, "Ready").1 == "ValuesError").await;
    let message = condition(cluster.get(&hr, NS, "web").await.as_ref(), "Ready").2;
    assert_eq!(
        message,
        "could not resolve ConfigMap chart values reference 'flux-system/values' with key 'values.yaml': configmaps \"values\" not found"
    );
    cluster
        .apply(&format!(
            "apiVersion: kustomize.toolkit.fluxcd.io/v1\nkind: Kustomization\nmetadata: {{name: values, namespace: {NS}}}\nspec: {{interval: 1h, path: ./values, prune: true, sourceRef: {{kind: GitRepository, name: tree}}}}\n"
        ))
        .await;
    cluster.until(&hr, NS, "web", ready).await;
    let v = cluster.get(&hr, NS, "web").await.unwrap();
    let message = "Helm install succeeded for release flux-system/web.v1 with chart app@1.2.3";
    let said = |kind: &str| condition(Some(&v), kind);
    assert_eq!(said("Ready"), ("True".into(), "InstallSucceeded".into(), message.into()));
    assert_eq!(said("Released"), ("True".into(), "InstallSucceeded".into(), message.into()));
    assert_eq!(said("Reconciling").0, "");
    assert_eq!(v["status"]["history"].items()[0]["action"].as_str(), Some("install"));
    assert_eq!(
        (data(&cluster, "web", "color").await.as_str(), data(&cluster, "web", "upgrade").await.as_str()),
        ("blue", "false")
    );

    // Asked again, nothing is to be done.
    ask(&cluster, "web", &["requestedAt"], "1").await;
    assert_eq!(statuses(&cluster, "web").await, ["deployed"]);

    // Other values are an upgrade, once somebody looks.
    tree.insert("values/kustomization.yaml", kustomization("green").into_bytes());
    cluster.revise(tree.clone(), "main@sha1:2");
    cluster
        .until(&kustomizations(), NS, "values", |v| {
            v.and_then(|v| v.str_at(["status", "lastAppliedRevision"])) == Some("main@sha1:2")
        })
        .await;
    ask(&cluster, "web", &["requestedAt"], "2").await;
    cluster.until(&hr, NS, "web", |v| ready(v) && condition(v, "Ready").1 == "UpgradeSucceeded").await;
    assert_eq!(data(&cluster, "web", "color").await, "green");
    assert_eq!(
        (data(&cluster, "web", "upgrade").await.as_str(), data(&cluster, "web", "revision").await.as_str()),
        ("true", "2")
    );
    assert_eq!(statuses(&cluster, "web").await, ["superseded", "deployed"]);
    let v = cluster.get(&hr, NS, "web").await.unwrap();
    let history: Vec<_> = v["status"]["history"].items().iter().map(|s| s["status"].as_str().unwrap()).collect();
    assert_eq!(history, ["deployed", "superseded"]);

    // What the chart no longer renders goes.
    cluster.merge(&hr, NS, "web", r#"{"spec":{"values":{"extra":false}}}"#).await;
    cluster.until(&config_maps(), NS, "web-extra", |v| v.is_none()).await;
    // A forced release needs no reason.
    ask(&cluster, "web", &["requestedAt", "forceAt"], "3").await;
    cluster.until(&hr, NS, "web", ready).await;
    assert_eq!(statuses(&cluster, "web").await, ["superseded", "superseded", "superseded", "deployed"]);

    cluster.api.delete(&hr, NS, "web", &Default::default()).await.unwrap();
    cluster.until(&hr, NS, "web", |v| v.is_none()).await;
    assert!(cluster.get(&config_maps(), NS, "web").await.is_none());
    assert!(cluster.get(&config_maps(), NS, "web-kept").await.is_some());
    assert!(cluster.get(&config_maps(), NS, "web-bye").await.is_some(), "the pre-delete hook ran");
    assert!(records(&cluster, "web").await.is_empty());
    assert_eq!(
        reasons(&cluster, "web").await,
        ["InstallSucceeded", "UninstallSucceeded", "UpgradeSucceeded", "ValuesError"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_release_stalls_after_its_retries() {
    let cluster = Cluster::start(chart(), "main@sha1:1", false).await;
    let hr = helm_releases();
    cluster.apply(&release("once", "  values: {broken: true}\n")).await;
    cluster.apply(&release("twice", "  values: {broken: true}\n  install: {remediation: {retries: 1}}\n")).await;
    cluster.until(&hr, NS, "once", stalled).await;
    cluster.until(&hr, NS, "twice", stalled).await;
    let v = cluster.get(&hr, NS, "once").await.unwrap();
    assert_eq!(
        condition(Some(&v), "Stalled"),
        ("True".into(), "RetriesExceeded".into(), "Failed to install after 1 attempt(s)".into())
    );
    let (status, reason, message) = condition(Some(&v), "Ready");
    assert_eq!((status.as_str(), reason.as_str()), ("False", "InstallFailed"));
    assert!(message.starts_with("Helm install failed for release flux-system/once with chart app@1.2.3: timeout waiting for: [Deployment/flux-system/once"), "{message}");
    assert_eq!(v["status"]["installFailures"].as_i64(), Some(1));
    assert_eq!(statuses(&cluster, "once").await, ["failed"]);
    let v = cluster.get(&hr, NS, "twice").await.unwrap();
    assert_eq!(condition(Some(&v), "Stalled").2, "Failed to install after 2 attempt(s)");
    assert_eq!(statuses(&cluster, "twice").await, ["failed"], "the first try was uninstalled");
    assert_eq!(reasons(&cluster, "twice").await, ["InstallFailed", "UninstallSucceeded"]);

    // A change is a new chance.
    cluster.merge(&hr, NS, "once", r#"{"spec":{"values":{"broken":false}}}"#).await;
    cluster.until(&hr, NS, "once", ready).await;
    let v = cluster.get(&hr, NS, "once").await.unwrap();
    assert_eq!(condition(Some(&v), "Ready").1, "UpgradeSucceeded");
    assert!(v["status"]["failures"].is_null() && condition(Some(&v), "Stalled").0.is_empty());
    assert_eq!(statuses(&cluster, "once").await, ["failed", "deployed"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_upgrade_is_rolled_back() {
    let cluster = Cluster::start(chart(), "main@sha1:1", false).await;
    let hr = helm_releases();
    cluster
        .apply(&release("back", "  upgrade: {remediation: {remediateLastFailure: true}}\n  values: {color: red}\n"))
        .await;
    cluster.until(&hr, NS, "back", ready).await;
    cluster.merge(&hr, NS, "back", r#"{"spec":{"values":{"color":"blue","broken":true}}}"#).await;
    cluster.until(&hr, NS, "back", stalled).await;
    let v = cluster.get(&hr, NS, "back").await.unwrap();
    let message = "Helm rollback to previous release flux-system/back.v1 with chart app@1.2.3 succeeded";
    assert_eq!(condition(Some(&v), "Ready"), ("False".into(), "RollbackSucceeded".into(), message.into()));
    assert_eq!(condition(Some(&v), "Remediated"), ("True".into(), "RollbackSucceeded".into(), message.into()));
    assert_eq!(data(&cluster, "back", "color").await, "red");
    assert!(cluster.get(&support::deployments(), NS, "back").await.is_none());
    assert_eq!(statuses(&cluster, "back").await, ["superseded", "failed", "deployed"]);
    assert_eq!(records(&cluster, "back").await[2].description, "Rollback to 1");
}

#[tokio::test(flavor = "multi_thread")]
async fn drift_is_found_and_corrected_and_tests_are_run() {
    let cluster = Cluster::start(chart(), "main@sha1:1", false).await;
    let hr = helm_releases();
    let ignore = "  driftDetection: {mode: enabled, ignore: [{paths: [/data/upgrade], target: {kind: ConfigMap}}]}\n";
    cluster.apply(&release("fix", &format!("{ignore}  test: {{enable: true}}\n"))).await;
    cluster.apply(&release("warn", "  driftDetection: {mode: warn}\n")).await;
    cluster.until(&hr, NS, "fix", ready).await;
    cluster.until(&hr, NS, "warn", ready).await;
    let v = cluster.get(&hr, NS, "fix").await.unwrap();
    let message =
        "Helm test succeeded for release flux-system/fix.v1 with chart app@1.2.3: 1 test hook completed successfully";
    assert_eq!(condition(Some(&v), "TestSuccess"), ("True".into(), "TestSucceeded".into(), message.into()));
    assert_eq!(condition(Some(&v), "Ready").1, "TestSucceeded");
    assert_eq!(v["status"]["history"].items()[0]["testHooks"]["fix-test"]["phase"].as_str(), Some("Succeeded"));
    assert_eq!(condition(Some(&v), "Drifted").1, "NoDriftDetected");

    for name in ["fix", "warn"] {
        cluster.merge(&config_maps(), NS, name, r#"{"data":{"color":"edited","upgrade":"mine"}}"#).await;
        ask(&cluster, name, &["requestedAt"], "1").await;
    }
    assert_eq!(data(&cluster, "fix", "color").await, "red");
    assert_eq!(data(&cluster, "fix", "upgrade").await, "mine", "what is ignored is left alone");
    assert_eq!(statuses(&cluster, "fix").await, ["deployed"]);
    assert_eq!(data(&cluster, "warn", "color").await, "edited");
    let v = cluster.get(&hr, NS, "warn").await.unwrap();
    let message = "Cluster state of release flux-system/warn.v1 has drifted from the desired state:\nConfigMap/flux-system/warn changed (0 additions, 2 changes, 0 removals)";
    assert_eq!(condition(Some(&v), "Drifted"), ("True".into(), "DriftDetected".into(), message.into()));
    assert_eq!(condition(Some(&v), "Ready").0, "True");
    assert_eq!(
        reasons(&cluster, "fix").await,
        ["DriftCorrected", "DriftDetected", "InstallSucceeded", "TestSucceeded"]
    );

    // A suspended release is left alone, also when it is removed.
    cluster.merge(&hr, NS, "warn", r#"{"spec":{"suspend":true}}"#).await;
    cluster.api.delete(&hr, NS, "warn", &Default::default()).await.unwrap();
    cluster.until(&hr, NS, "warn", |v| v.is_none()).await;
    assert_eq!(statuses(&cluster, "warn").await, ["deployed"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_whose_kind_is_not_served_is_applied_in_part_and_removed_whole() {
    let cluster = Cluster::start(chart(), "main@sha1:1", false).await;
    let hr = helm_releases();
    cluster.apply(&release("part", "  values: {thing: refs}\n")).await;
    cluster.until(&hr, NS, "part", |v| condition(v, "Ready").1 == "InstallFailed").await;
    assert!(cluster.get(&config_maps(), NS, "part").await.is_some());
    assert!(records(&cluster, "part").await.is_empty());
    cluster.api.delete(&hr, NS, "part", &Default::default()).await.unwrap();
    cluster.until(&hr, NS, "part", |v| v.is_none()).await;
    assert!(cluster.get(&config_maps(), NS, "part").await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_schema_does_not_know_and_nulls_are_dropped_from_a_release() {
    let cluster = Cluster::start(chart(), "main@sha1:1", false).await;
    let definition = "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {name: things.example.org}\nspec:\n  group: example.org\n  scope: Namespaced\n  names: {kind: Thing, plural: things}\n  versions:\n  - name: v1\n    served: true\n    storage: true\n    schema:\n      openAPIV3Schema:\n        type: object\n        properties:\n          spec: {type: object, properties: {size: {type: integer}, refs: {type: array, items: {type: string}}}}\n";
    cluster.apply(definition).await;
    let things = Resource::new("example.org", "v1", "Thing", "things", true);
    for field in ["refs", "odd"] {
        cluster.apply(&release(field, &format!("  values: {{thing: {field}}}\n"))).await;
        cluster.until(&helm_releases(), NS, field, ready).await;
        let thing = cluster.get(&things, NS, field).await.unwrap();
        assert_eq!(thing["spec"], Value::from(serde_json::json!({"size": 1})), "{field}");
    }
}
