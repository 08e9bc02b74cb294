//! What cannot be known from the files is no error: values that no key here opens, and what charts that are not at hand
//! bring.
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

mod common;

use common::{Tree, check_tree, homelab};
use druse_check::Severity;

/// The findings of a tree that are errors.
fn errors(tree: &Tree) -> Vec<String> {
    let report = check_tree(tree);
    let bad = report.findings.iter().filter(|f| f.severity == Severity::Error);
    bad.map(|f| format!("{} {} {}", f.code.code, f.place, f.message)).collect()
}

fn with(changes: &[(&str, &str, &str)]) -> Tree {
    let mut tree = homelab();
    for (file, from, to) in changes {
        let text = tree.get_mut(*file).unwrap();
        assert!(text.contains(from), "{file} has {from}");
        *text = text.replacen(from, to, 1);
    }
    tree
}

/// The settings as a Secret that no key here opens.
fn encrypted() -> Tree {
    let decryption = "  prune: true\n  decryption: {provider: sops}\n";
    let mut tree = with(&[
        ("flux/units/web.yaml", "kind: ConfigMap", "kind: Secret"),
        ("flux/cluster.yaml", "  prune: true\n", decryption),
    ]);
    tree.insert(
        "flux/units/settings.yaml".into(),
        "apiVersion: v1\nkind: Secret\nmetadata: {name: settings}\n\
         stringData: {DOMAIN: 'ENC[AES256_GCM,data:eA==,iv:eA==,tag:eA==,type:str]'}\n\
         sops: {mac: 'ENC[x]', age: [{recipient: age1xyz, enc: x}]}\n"
            .into(),
    );
    tree
}

#[test]
fn a_value_that_no_key_opens_is_not_judged() {
    let mut tree = encrypted();
    let text = tree.get_mut("apps/web/deployment.yaml").unwrap();
    *text = text.replacen("replicas: 1", "replicas: ${DOMAIN}", 1);
    let routes = "apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {name: more}\n\
                  spec: {rules: [{host: 'more.${DOMAIN}'}]}\n";
    tree.insert("apps/web/more.yaml".into(), routes.into());
    let text = tree.get_mut("apps/web/kustomization.yaml").unwrap();
    text.push_str("  - more.yaml\n");
    assert_eq!(errors(&tree), Vec::<String>::new());
    // What is wrong whatever the value is stays wrong.
    let text = tree.get_mut("apps/web/more.yaml").unwrap();
    *text = text.replace("host:", "hots:");
    assert_eq!(errors(&tree).len(), 1, "{:?}", errors(&tree));
}

#[test]
fn a_chart_that_fails_for_a_value_that_no_key_opens_is_a_warning_with_the_remedy() {
    let mut tree = encrypted();
    let text = tree.get_mut("apps/web/release.yaml").unwrap();
    *text = text.replacen("    replicas: 2", "    fail: ${DOMAIN}", 1);
    assert_eq!(errors(&tree), Vec::<String>::new());
    let report = check_tree(&tree);
    let failed = report.findings.iter().find(|f| f.code.code == "DR002").unwrap();
    assert!(failed.remedy.as_deref().unwrap_or_default().contains("SOPS_AGE_KEY_FILE"), "{failed:?}");
}

/// A release of a chart that nobody has here.
fn not_at_hand(name: &str, chart: &str) -> String {
    format!(
        "apiVersion: source.toolkit.fluxcd.io/v1\nkind: HelmRepository\nmetadata: {{name: charts}}\n\
         spec: {{interval: 1h, url: https://charts.example.org}}\n---\n\
         apiVersion: helm.toolkit.fluxcd.io/v2\nkind: HelmRelease\nmetadata: {{name: {name}}}\n\
         spec: {{interval: 1h, chart: {{spec: {{chart: {chart}, version: 1.2.3, \
         sourceRef: {{kind: HelmRepository, name: charts}}}}}}}}\n"
    )
}

#[test]
fn what_a_chart_that_is_not_at_hand_may_bring_is_not_missed() {
    let health = "  prune: true\n  healthChecks:\n    - apiVersion: apiextensions.k8s.io/v1\n      \
                  kind: CustomResourceDefinition\n      name: dnsendpoints.externaldns.k8s.io\n";
    let missed = with(&[("flux/units/web.yaml", "  prune: true\n", health)]);
    assert_eq!(errors(&missed).len(), 1, "{:?}", errors(&missed));
    let add = |chart: &str| {
        let mut tree = missed.clone();
        tree.insert("apps/web/more.yaml".into(), not_at_hand("more", chart));
        tree.get_mut("apps/web/kustomization.yaml").unwrap().push_str("  - more.yaml\n");
        tree
    };
    // Its name begins a word of the definition's, or it brings what its values say.
    assert_eq!(errors(&add("external-dns")), Vec::<String>::new());
    assert_eq!(errors(&add("k8s-resource")), Vec::<String>::new());
    assert_eq!(errors(&add("jellyfin")).len(), 1);
}

#[test]
fn a_base_by_url_that_nobody_has_may_bring_what_is_missing_beside_it() {
    let gone = [("apps/web/deployment.yaml", "serviceAccountName: web", "serviceAccountName: worker")];
    assert_eq!(errors(&with(&gone)).len(), 1, "{:?}", errors(&with(&gone)));
    let mut tree = with(&gone);
    let text = tree.get_mut("apps/web/kustomization.yaml").unwrap();
    *text = text.replace("resources:\n", "resources:\n  - https://example.org/worker/install.yaml\n");
    assert_eq!(errors(&tree), Vec::<String>::new());
    // What only defines kinds brings no account.
    let text = tree.get_mut("apps/web/kustomization.yaml").unwrap();
    *text = text.replace("worker/install.yaml", "worker/crds.yaml");
    assert_eq!(errors(&tree).len(), 1, "{:?}", errors(&tree));
}

#[test]
fn what_a_unit_that_lacks_a_variable_leaves_in_names_is_not_judged_beside_it() {
    let mut tree = with(&[(
        "apps/web/config.yaml",
        "kind: ConfigMap\nmetadata:\n  name: ",
        "kind: ConfigMap\nmetadata:\n  name: ${NOWHERE}-",
    )]);
    let report = check_tree(&tree);
    let codes: Vec<&str> =
        report.findings.iter().filter(|f| f.severity > Severity::Info).map(|f| f.code.code.as_str()).collect();
    assert!(codes.contains(&"DR006") && !codes.contains(&"DR013"), "{codes:?}");
    // A unit that substitutes nothing says so by the name that it makes.
    let text = tree.get_mut("flux/units/web.yaml").unwrap();
    let (start, end) = (text.find("  postBuild:").unwrap(), text.find("  sourceRef:").unwrap());
    text.replace_range(start..end, "");
    let report = check_tree(&tree);
    assert!(report.findings.iter().any(|f| f.code.code == "DR013"), "{:?}", report.findings);
}

#[test]
fn a_class_that_nothing_here_brings_is_missed_where_all_others_name_one_like_it() {
    let claim = |name: &str, class: &str| {
        format!(
            "apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {{name: {name}}}\nspec:\n  accessModes: [ReadWriteOnce]\n  storageClassName: {class}\n  resources: {{requests: {{storage: 1Gi}}}}\n"
        )
    };
    let storage = |other: &str| {
        let mut tree = homelab();
        let claims = [claim("a", "ceph-block"), claim("b", "ceph-block"), claim("c", other)].join("---\n");
        tree.insert("apps/web/claims.yaml".into(), claims);
        // A release that is not at hand brings the class.
        tree.insert("apps/web/rook.yaml".into(), "apiVersion: source.toolkit.fluxcd.io/v1\nkind: HelmRepository\nmetadata: {name: rook}\nspec: {url: 'https://charts.rook.io/release', interval: 1h}\n---\napiVersion: helm.toolkit.fluxcd.io/v2\nkind: HelmRelease\nmetadata: {name: rook}\nspec: {interval: 1h, chart: {spec: {chart: rook-ceph-cluster, version: 1.99.0, sourceRef: {kind: HelmRepository, name: rook}}}}\n".into());
        let text = tree.get_mut("apps/web/kustomization.yaml").unwrap();
        text.push_str("  - claims.yaml\n  - rook.yaml\n");
        let report = check_tree(&tree);
        let found = report.findings.iter().filter(|f| f.code.code == "DR025");
        found.map(|f| (f.severity, f.place.line)).collect::<Vec<_>>()
    };
    assert_eq!(storage("ceph-blck"), [(Severity::Warning, 22)]);
    assert_eq!(storage("ceph-filesystem"), []);
}
