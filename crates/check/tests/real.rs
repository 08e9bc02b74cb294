//! Faults planted in a real homelab are found at their lines, all in one go; what is found in it as it is, is true.
//! Skipped without `DRUSE_SHARED`, the folder with the recorded homelabs and their charts.
#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test that cannot be set up fails, or says that it is skipped"
)]

mod common;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use common::shown;
use druse_check::{Options, Report, Severity, check};
use druse_kustomize::{DiskTree, FileTree, MemoryTree, OverlayTree};
use druse_plan::TreeInput;
use druse_source::{Fetcher, FetcherOptions};

fn shared() -> Option<PathBuf> {
    let dir = std::env::var_os("DRUSE_SHARED").map(PathBuf::from);
    if dir.is_none() {
        eprintln!("skipped: DRUSE_SHARED is not set");
    }
    dir
}

fn check_tree(shared: &Path, tree: impl FileTree + 'static) -> Report {
    let options = FetcherOptions { offline: true, mirrors: vec![shared.to_path_buf()], cache: None };
    check(&TreeInput::new(tree), &Arc::new(Fetcher::new(options).unwrap()), &Options::default())
}

/// Code, file, text, what it becomes, and the line's text to find the fault at.
type Plant = (&'static str, &'static str, &'static str, &'static str, &'static str);

const PLANTS: &[Plant] = &[
    ("DR010", "miniflux/app/release.yaml", "  maxHistory: 1", "  maxHistroy: 1", "maxHistroy"),
    ("DR010", "miniflux/deps/postgres.yaml", "  instances:", "  instancse:", "instancse"),
    ("DR011", "miniflux/app/release.yaml", "cpu: 10m", "cpu: 10mm", "cpu: 10mm"),
    ("DR012", "ingress-nginx/certificate.yaml", "  secretName: timtor.dev-wildcard-certificate-secret\n", "", "spec:"),
    ("DR016", "unpoller/app/release.yaml", "    persistence:", "    persistance:", "persistance"),
    ("DR021", "vaultwarden/backup/backup.yaml", "repository: ", "repository: x", "repository"),
    ("DR022", "miniflux/app/release.yaml", "key: ADMIN_USERNAME", "key: ADMIN_USER", "key: ADMIN_USER"),
    ("DR024", "vaultwarden/app/release.yaml", "existingClaim: ", "existingClaim: x", "existingClaim"),
    ("DR025", "vaultwarden/app/pvc.yaml", "storageClassName: ", "storageClassName: x", "storageClassName"),
    ("DR026", "ingress-nginx/certificate.yaml", "name: timtor.dev-le-dns01", "name: timtor.dev-le-dns02", "le-dns02"),
    (
        "DR027",
        "miniflux/app/release.yaml",
        "secretProviderClass: *s",
        "secretProviderClass: miniflux-scret",
        "miniflux-scret",
    ),
    (
        "DR028",
        "mydata/immich/app/release.yaml",
        "name: immich\n                port: *p1",
        "name: imich\n                port: *p1",
        "name: imich",
    ),
    ("DR029", "grafana/app/httproute.yaml", "port: ", "port: 1", "port: 1"),
    ("DR036", "grafana/app/httproute.yaml", "name: cilium-default", "name: cilium-defalt", "cilium-defalt"),
    (
        "DR060",
        "vaultwarden/app/pvc.yaml",
        "apiVersion: v1\n",
        "apiVersion: v1\nkind: Secret\nmetadata: {name: x, namespace: vaultwarden}\nstringData:\n  password: abc\n---\napiVersion: v1\n",
        "password: abc",
    ),
    ("DR070", "miniflux/app/release.yaml", "tag: 2.3.3-distroless", "tag: latest", "tag: latest"),
    ("DR071", "kromgo/app/release.yaml", "version: 3.7.3", "version: 3.7.x", "3.7.x"),
];

#[test]
fn faults_planted_in_a_real_homelab_are_found_at_their_lines() {
    let Some(shared) = shared() else { return };
    let root = shared.join("fixtures/homelab-2026-08");
    let disk = || DiskTree::new(&root).unwrap();
    let mut upper = MemoryTree::new();
    let mut wanted = BTreeSet::new();
    let mut texts = std::collections::BTreeMap::new();
    for (_, file, from, to, _) in PLANTS {
        let path = format!("kubernetes/{file}");
        let text = texts
            .entry(path.clone())
            .or_insert_with(|| String::from_utf8(disk().read(&path).unwrap().to_vec()).unwrap());
        assert!(text.contains(from), "{file} has no {from:?}");
        *text = text.replacen(from, to, 1);
    }
    for (code, file, _, _, mark) in PLANTS {
        let path = format!("kubernetes/{file}");
        let line = texts[&path].lines().position(|l| l.contains(mark)).unwrap() + 1;
        wanted.insert(format!("{code} {path}:{line}"));
    }
    for (path, text) in texts {
        upper.insert(&path, text.into_bytes());
    }
    let report = check_tree(&shared, OverlayTree::new(upper, disk()));
    let got: BTreeSet<String> = shown(report.findings.iter()).into_iter().collect();
    let missed: Vec<&String> = wanted.difference(&got).collect();
    assert!(missed.is_empty(), "not found: {missed:#?}\nfound: {got:#?}");
}

/// What is wrong with the recorded homelabs, looked at one by one.
#[test]
fn errors_in_real_homelabs_are_true_faults() {
    let Some(shared) = shared() else { return };
    let expected: [(&str, &[&str]); 2] = [
        (
            "homelab-2026-08",
            &[
                // Fields of a container's securityContext in that of the pod.
                "DR010 kubernetes/prometheus/kube-prometheus-stack.yaml:50",
                "DR010 kubernetes/prometheus/kube-prometheus-stack.yaml:51",
                "DR010 kubernetes/prometheus/kube-prometheus-stack.yaml:52",
            ],
        ),
        (
            "homelab-2024-04",
            &[
                "DR010 kubernetes/prometheus/kube-prometheus-stack.yaml:48",
                "DR010 kubernetes/prometheus/kube-prometheus-stack.yaml:49",
                "DR010 kubernetes/prometheus/kube-prometheus-stack.yaml:50",
                "DR010 kubernetes/reloader/reloader.yaml:36",
                "DR010 kubernetes/reloader/reloader.yaml:37",
                "DR010 kubernetes/reloader/reloader.yaml:38",
            ],
        ),
    ];
    for (name, expected) in expected {
        let report = check_tree(&shared, DiskTree::new(shared.join("fixtures").join(name)).unwrap());
        let got = shown(report.findings.iter().filter(|f| f.severity == Severity::Error));
        assert_eq!(got, expected, "{name}");
    }
}
