//! The parts by themselves. With `DRUSE_SHARED` (charts and fixtures of real homelabs) on real files, and always on the
//! repository's own homelab and on charts and manifests made here.
#![allow(missing_docs, clippy::print_stderr, clippy::expect_used, clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use druse_benches::Bench;
use druse_helm::{Capabilities, Chart, File, Release, RenderOptions, SeededHost, Values};
use druse_kustomize::{BuildOptions, SnapshotTree};
use druse_object::yaml::{self, Dialect};
use druse_plan::sources::Sources;
use druse_plan::{Memo, PlanOptions, SecretValues, locate, plan_with};
use druse_source::{Fetcher, FetcherOptions};

fn main() {
    let bench = Bench::from_arguments();
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the repository").join("homelab");
    let shared = std::env::var_os("DRUSE_SHARED").map(PathBuf::from).filter(|s| s.join("charts/index.yaml").exists());
    if shared.is_none() {
        eprintln!("DRUSE_SHARED names no folder with charts/ and fixtures/: real charts and homelabs are left out");
    }
    yaml_parts(&bench);
    templates(&bench, shared.as_deref());
    unit(&bench, "homelab", &own, "kubernetes");
    plans(&bench, "homelab", &own, shared.as_deref());
    if let Some(shared) = shared {
        let fixture = shared.join("fixtures/homelab-2026-08");
        unit(&bench, "homelab-2026-08", &fixture, "kubernetes/mydata/nextcloud");
        plans(&bench, "homelab-2026-08", &fixture, Some(&shared));
    }
}

/// Many Deployments, as people write them: comments, block and flow style, quoted and folded text.
fn manifests() -> String {
    let one = |i: usize| {
        format!(
            "---\n# number {i}\napiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: app-{i}\n  namespace: apps\n  labels: {{app: app-{i}, tier: \"web\"}}\nspec:\n  replicas: 2\n  selector:\n    matchLabels:\n      app: app-{i}\n  template:\n    metadata:\n      annotations:\n        note: >-\n          a longer text that is\n          folded over lines\n    spec:\n      containers:\n        - name: main\n          image: registry.example.org/group/app:v1.2.{i}\n          args: [\"--port=8080\", '--verbose']\n          env:\n            - name: SETTING\n              value: \"some value of it\"\n          resources:\n            requests: {{cpu: 100m, memory: 128Mi}}\n            limits: {{memory: 256Mi}}\n"
        )
    };
    (0..1000).map(one).collect()
}

fn yaml_parts(bench: &Bench) {
    let text = manifests();
    for (name, dialect) in [("sigs", Dialect::Sigs), ("kyaml", Dialect::Kyaml)] {
        bench.run(&format!("yaml/parse/{name}"), text.len(), || yaml::documents(&text, dialect));
    }
    let values: Vec<_> = yaml::documents(&text, Dialect::Sigs).into_iter().flatten().map(|d| d.value).collect();
    let printed: usize = values.iter().map(|v| yaml::to_string(v).len()).sum();
    bench.run("yaml/print", printed, || values.iter().map(|v| yaml::to_string(v).len()).sum::<usize>());
}

fn render(chart: &Arc<Chart>) -> usize {
    let rendered = druse_helm::render(
        chart,
        &Values::default(),
        &Release::install("x", "default"),
        &Capabilities::default(),
        &SeededHost::new("bench"),
        &RenderOptions { skip_schema_validation: true, ..RenderOptions::default() },
    );
    rendered.expect("renders").manifests.len()
}

fn templates(bench: &Bench, shared: Option<&Path>) {
    let template = "{{- range $i, $_ := until 200 }}\n---\napiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {{ printf \"%s-%d\" $.Release.Name $i | trunc 63 }}\n  labels: {{- include \"labels\" $ | nindent 4 }}\ndata:\n  {{- with $.Values.data }}\n  {{- toYaml . | nindent 2 }}\n  {{- end }}\n{{- end }}\n";
    let helpers = "{{- define \"labels\" -}}\napp.kubernetes.io/name: {{ .Chart.Name }}\napp.kubernetes.io/version: {{ .Chart.Version | quote }}\n{{- end }}\n";
    let files = [
        ("Chart.yaml", "apiVersion: v2\nname: made\nversion: 1.0.0\n"),
        ("values.yaml", "data: {a: x, b: \"2\", c: {d: [1, 2, 3]}}\n"),
        ("templates/_helpers.tpl", helpers),
        ("templates/all.yaml", template),
    ];
    let files = files.iter().map(|(name, text)| File::new(*name, text.as_bytes().to_vec())).collect();
    let made = Arc::new(Chart::from_files(files).expect("a chart"));
    bench.run("template/made", 0, || render(&made));
    let Some(shared) = shared else { return };
    for name in ["kube-prometheus-stack-86.3.2", "cilium-1.20.0", "loki-5.48.0", "ingress-nginx-4.13.0"] {
        let Ok(bytes) = std::fs::read(shared.join(format!("charts/{name}.tgz"))) else { continue };
        bench.run(&format!("chart/load/{name}"), bytes.len(), || Chart::from_archive(&bytes).expect("a chart"));
        let chart = Arc::new(Chart::from_archive(&bytes).expect("a chart"));
        bench.run(&format!("template/{name}"), 0, || render(&chart));
    }
}

fn unit(bench: &Bench, name: &str, tree: &Path, folder: &str) {
    if !tree.join(folder).join("kustomization.yaml").exists() {
        return;
    }
    let tree = SnapshotTree::new(tree).expect("a tree");
    let options = BuildOptions { restriction: druse_kustomize::LoadRestriction::None, ..BuildOptions::default() };
    bench.run(&format!("kustomize/{name}/{folder}"), 0, || {
        druse_kustomize::build(&tree, folder, &options).expect("builds").len()
    });
}

fn plans(bench: &Bench, name: &str, tree: &Path, shared: Option<&Path>) {
    let plan = |memo: Memo| {
        let mirrors = shared.map(Path::to_path_buf).into_iter().collect();
        let fetcher = Fetcher::new(FetcherOptions { mirrors, offline: true, ..FetcherOptions::default() });
        let sources =
            Sources::with_memo(locate(tree).expect("a tree"), Arc::new(fetcher.expect("a fetcher")), memo.into());
        let options = PlanOptions { secrets: SecretValues::NotNeeded, ..PlanOptions::default() };
        plan_with(&sources, &options).units.len()
    };
    bench.run(&format!("plan/{name}/no memo"), 0, || plan(Memo::default()));
    let folder = tempfile::tempdir().expect("a folder");
    plan(Memo::in_folder(folder.path(), "bench"));
    bench.run(&format!("plan/{name}/from a folder"), 0, || plan(Memo::in_folder(folder.path(), "bench")));
}
