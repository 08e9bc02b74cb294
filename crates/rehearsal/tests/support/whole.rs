//! A whole tree rehearsed: plan, API, controllers and simulated cluster, as `druse up` starts them.

use std::path::Path;
use std::sync::Arc;

use druse_identity::SigningKey;
use druse_kustomize::tree::MemoryTree;
use druse_plan::TreeInput;
use druse_rehearsal::{Mounts, Options, Rehearsal, Report};
use druse_runtime::Api;
use druse_source::{Fetcher, FetcherOptions};

/// The source that stands for the tree, and a Kustomization that reads `cluster/`.
pub const SYNC: &str = "apiVersion: source.toolkit.fluxcd.io/v1
kind: GitRepository
metadata: {name: flux-system, namespace: flux-system}
spec: {interval: 1m, url: https://example.org/me/home}
---
apiVersion: kustomize.toolkit.fluxcd.io/v1
kind: Kustomization
metadata: {name: flux-system, namespace: flux-system}
spec: {interval: 10m, path: ./cluster, prune: true, sourceRef: {kind: GitRepository, name: flux-system}}
";

/// The ServiceAccount `app`, which names a role, and a Deployment that runs as it; `pod` is further lines of its pods'
/// specification, indented by six.
pub fn app(pod: &str) -> String {
    format!(
        "apiVersion: v1
kind: ServiceAccount
metadata:
  name: app
  namespace: default
  annotations: {{eks.amazonaws.com/role-arn: 'arn:aws:iam::111122223333:role/app'}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: app, namespace: default}}
spec:
  selector: {{matchLabels: {{app: app}}}}
  template:
    metadata: {{labels: {{app: app}}}}
    spec:
      serviceAccountName: app
{pod}"
    )
}

/// A HelmRelease of a chart in a Helm repository, with the repository; `more` is further lines of its spec, indented by two.
pub fn release(name: &str, chart: &str, version: &str, more: &str) -> String {
    format!(
        "apiVersion: source.toolkit.fluxcd.io/v1
kind: HelmRepository
metadata: {{name: charts, namespace: flux-system}}
spec: {{interval: 1h, url: https://charts.example.org}}
---
apiVersion: helm.toolkit.fluxcd.io/v2
kind: HelmRelease
metadata: {{name: {name}, namespace: flux-system}}
spec:
  interval: 1h
  chart:
    spec: {{chart: {chart}, version: {version}, sourceRef: {{kind: HelmRepository, name: charts}}}}
{more}"
    )
}

/// A tree of these files, brought up as far as it comes by itself, without network.
pub async fn rehearse(data_dir: Option<&Path>, files: &[(&str, &str)]) -> (Rehearsal, Report) {
    rehearse_signed(None, data_dir, files).await
}

/// The same, with tokens signed by this key.
pub async fn rehearse_signed(
    signing_key: Option<SigningKey>,
    data_dir: Option<&Path>,
    files: &[(&str, &str)],
) -> (Rehearsal, Report) {
    let tree: MemoryTree = files.iter().map(|(path, text)| (*path, text.as_bytes().to_vec())).collect();
    let fetcher = Fetcher::new(FetcherOptions { offline: true, ..FetcherOptions::default() }).unwrap();
    let rehearsal = Rehearsal::start(Options {
        keys: Arc::default(),
        signing_key,
        input: TreeInput::new(tree),
        fetcher: Arc::new(fetcher),
        stand_ins: true,
        data_dir: data_dir.map(Into::into),
        listen: "127.0.0.1:0".parse().unwrap(),
        nodes: druse_simulate::nodes::Node::numbered(1),
        mounts: Mounts::Folder,
    })
    .await
    .unwrap();
    let report = rehearsal.settled().await;
    (rehearsal, report)
}

/// A client of its API, as the administrator.
pub async fn client(rehearsal: &Rehearsal) -> Api {
    let file = kube::config::Kubeconfig::from_yaml(&rehearsal.kubeconfig()).unwrap();
    let config = kube::Config::from_custom_kubeconfig(file, &Default::default()).await.unwrap();
    Api::new(kube::Client::try_from(config).unwrap())
}
