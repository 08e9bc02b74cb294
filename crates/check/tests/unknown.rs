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

/// What app-template makes is known without the chart, and so is what its values want.
#[test]
fn what_the_values_of_a_chart_that_is_not_at_hand_name_is_looked_for() {
    let release = |values: &str| {
        let head = not_at_hand("shop", "app-template");
        let (front, _) = head.trim_end().rsplit_once('}').unwrap();
        let indented: String = values.lines().map(|l| format!("    {l}\n")).collect();
        let mut tree = homelab();
        // The specification in block form, so that values can follow.
        let spec = front.rsplit_once("spec: {interval").map(|(before, _)| before.to_string()).unwrap();
        let text = format!(
            "{spec}spec:\n  interval: 1h\n  chart: {{spec: {{chart: app-template, version: 1.2.3, sourceRef: {{kind: HelmRepository, name: charts}}}}}}\n  values:\n{indented}"
        );
        tree.insert("apps/web/shop.yaml".into(), text);
        tree.get_mut("apps/web/kustomization.yaml").unwrap().push_str("  - shop.yaml\n");
        tree
    };
    let fine = "controllers:\n  shop:\n    containers:\n      app:\n        image: {repository: ghcr.io/example/shop, tag: 1.0.0}\n        envFrom:\n          - configMapRef: {name: web-config}\n        env:\n          GREETING: {valueFrom: {configMapKeyRef: {name: web-config, key: greeting}}}\npersistence:\n  data: {existingClaim: web-data}\n  other: {type: emptyDir}\n";
    assert_eq!(errors(&release(fine)), Vec::<String>::new());
    for (from, to, code) in [
        ("existingClaim: web-data", "existingClaim: web-dta", "DR024"),
        ("configMapRef: {name: web-config}", "configMapRef: {name: web-confg}", "DR020"),
        ("configMapRef: {name: web-config}", "secretRef: {name: '{{ .Release.Name }}-secret'}", "DR021"),
        ("key: greeting", "key: greting", "DR022"),
    ] {
        assert!(fine.contains(from), "{from}");
        let tree = release(&fine.replacen(from, to, 1));
        let found = errors(&tree);
        let line = tree["apps/web/shop.yaml"].lines().position(|l| l.contains(to)).unwrap() + 1;
        assert_eq!(found.len(), 1, "{to}: {found:?}");
        assert!(found[0].starts_with(&format!("{code} apps/web/shop.yaml:{line} ")), "{to}: {found:?}");
    }
    let report = check_tree(&release(&fine.replace("tag: 1.0.0", "tag: latest")));
    assert!(report.findings.iter().any(|f| f.code.code == "DR070" && f.place.file == "apps/web/shop.yaml"));
    // What the release makes itself is there.
    let own =
        format!("{}configMaps:\n  own: {{data: {{a: b}}}}\n", fine.replacen("name: web-config", "name: shop-own", 1));
    assert_eq!(errors(&release(&own)), Vec::<String>::new());
}

#[test]
fn a_chart_that_is_not_at_hand_is_said_once() {
    let mut tree = homelab();
    for name in ["one", "two", "three"] {
        tree.insert(format!("apps/web/{name}.yaml"), not_at_hand(name, "shop"));
    }
    let repository = tree["apps/web/one.yaml"].split("---\n").next().unwrap().to_string();
    for name in ["two", "three"] {
        let text = tree.get_mut(&format!("apps/web/{name}.yaml")).unwrap();
        *text = text.replace(&format!("{repository}---\n"), "");
    }
    tree.get_mut("apps/web/kustomization.yaml").unwrap().push_str("  - one.yaml\n  - two.yaml\n  - three.yaml\n");
    let report = check_tree(&tree);
    let found: Vec<&druse_check::Finding> = report.findings.iter().filter(|f| f.code.code == "DR008").collect();
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].message.contains("2 other units need it"), "{}", found[0].message);
}

#[test]
fn a_unit_whose_file_is_commented_out_is_expected_to_be_nothing() {
    let mut tree = homelab();
    let unit = tree["flux/units/web.yaml"].replace("name: web", "name: aside").replace("./apps/web", "./apps/aside");
    tree.insert("flux/later/aside.yaml".into(), unit);
    let service = "apiVersion: v1\nkind: Service\nmetadata: {name: aside, namespace: web}\nspec: {selector: {a: b}}\n";
    tree.insert("apps/aside/service.yaml".into(), service.into());
    assert!(!errors(&tree).is_empty(), "somebody may have applied it");
    tree.get_mut("flux/units/kustomization.yaml").unwrap().push_str("  # - ../later/aside.yaml\n");
    assert_eq!(errors(&tree), Vec::<String>::new());
}

/// Settings that somebody applied by hand are looked for in all files; that makes none of these read.
#[test]
fn files_that_were_only_searched_are_not_read() {
    let mut tree = with(&[("flux/units/kustomization.yaml", "  - settings.yaml\n", "")]);
    let settings = tree.remove("flux/units/settings.yaml").unwrap();
    tree.insert("bootstrap/settings.yaml".into(), settings);
    let forgotten = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: x\n";
    tree.insert("apps/web/forgotten.yaml".into(), forgotten.into());
    let report = check_tree(&tree);
    let unread: Vec<&str> =
        report.findings.iter().filter(|f| f.code.code == "DR003").map(|f| f.place.file.as_str()).collect();
    assert_eq!(unread, ["apps/web/forgotten.yaml"]);
}

#[test]
fn what_is_for_everybody_is_no_secret() {
    let mut tree = homelab();
    let secret = |value: &str| {
        format!("apiVersion: v1\nkind: Secret\nmetadata: {{name: keys}}\nstringData:\n  authorized_keys: {value}\n")
    };
    tree.get_mut("apps/web/kustomization.yaml").unwrap().push_str("  - keys.yaml\n");
    tree.insert("apps/web/keys.yaml".into(), secret("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIMgapzKx me@home"));
    assert_eq!(errors(&tree), Vec::<String>::new());
    tree.insert("apps/web/keys.yaml".into(), secret("correct-horse-battery"));
    assert_eq!(errors(&tree).len(), 1);
}
