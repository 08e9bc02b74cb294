//! Every kind of fault, planted one at a time in a homelab without any, is found where it was planted, and nothing else.
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

mod common;

use common::{Tree, check_tree, check_with, found, homelab, input, shown};
use druse_check::{Options, Severity, codes};

/// A fault: in `file`, the text `from` becomes `to`; it is to be found on the first line of `at.0` that has `at.1`.
struct Plant {
    code: &'static str,
    file: &'static str,
    from: &'static str,
    to: &'static str,
    at: (&'static str, &'static str),
}

const fn plant(
    code: &'static str,
    file: &'static str,
    from: &'static str,
    to: &'static str,
    line: &'static str,
) -> Plant {
    Plant { code, file, from, to, at: (file, line) }
}

const DEPLOYMENT: &str = "apps/web/deployment.yaml";
const ROUTES: &str = "apps/web/routes.yaml";
const RELEASE: &str = "apps/web/release.yaml";
const EXTRAS: &str = "apps/web/extras.yaml";
const POLICIES: &str = "apps/web/policies.yaml";
const ACCESS: &str = "apps/web/access.yaml";
const CONFIG: &str = "apps/web/config.yaml";
const WEB: &str = "apps/web/kustomization.yaml";
const UNIT: &str = "flux/units/web.yaml";

/// All of them are found as the only finding that is at least a warning.
const PLANTS: &[Plant] = &[
    plant("DR001", CONFIG, "  domain: ${DOMAIN}\n", "  domain: ${DOMAIN}\n bad\n", " bad"),
    plant("DR002", RELEASE, "    replicas: 2", "    fail: no more", "apiVersion: helm"),
    plant("DR002", WEB, "namespace: web\n", "namespace: web\nnoSuchField: x\n", "noSuchField"),
    plant("DR004", WEB, "  - extras.yaml", "  - extra.yaml", "  - extra.yaml"),
    plant("DR004", UNIT, "path: ./apps/web", "path: ./apps/wob", "path: ./apps/wob"),
    plant("DR005", WEB, "  - access.yaml", "  - access.yaml\n  - ./config.yaml", "  - ./config.yaml"),
    plant("DR006", CONFIG, "greeting: ${GREETING}", "greeting: ${GREETING2}", "GREETING2"),
    plant("DR007", RELEASE, "    replicas: 2", "    replicas: many", "    replicas: many"),
    plant("DR007", RELEASE, "      tag: 3.1.4", "      tag: 3.1.4\n      tga: 3", "tga: 3"),
    plant("DR010", DEPLOYMENT, "  replicas: 1", "  replicsa: 1", "replicsa"),
    plant("DR010", EXTRAS, "  size: small", "  size: small\n  sise: small", "sise"),
    plant("DR010", UNIT, "  prune: true", "  prune: true\n  pruen: true", "pruen"),
    plant("DR011", DEPLOYMENT, "containerPort: 8080", "containerPort: '8080'", "containerPort"),
    plant("DR011", EXTRAS, "  low: 1", "  low: one", "low: one"),
    plant("DR011", RELEASE, "memory: 128Mi", "memory: lots", "memory: lots"),
    plant("DR012", EXTRAS, "  size: small\n", "", "spec:"),
    plant("DR012", DEPLOYMENT, "        - name: web\n          image", "        - image", "        - image"),
    plant("DR013", EXTRAS, "size: small", "size: huge", "size: huge"),
    plant("DR013", EXTRAS, "label: abc", "label: ABC", "label: ABC"),
    plant("DR013", ROUTES, "      port: 80\n", "      port: 80000\n", "port: 80000"),
    plant("DR014", EXTRAS, "  low: 1", "  low: 5", "spec:"),
    plant("DR015", EXTRAS, "apiVersion: example.org/v1", "apiVersion: example.org/v2", "example.org/v2"),
    plant("DR015", POLICIES, "kind: NetworkPolicy", "kind: NetworkPolicyy", "apiVersion: networking.k8s.io/v1"),
    plant("DR016", RELEASE, "    existingClaim: web-data", "    existingClaims: web-data", "existingClaims"),
    plant(
        "DR017",
        WEB,
        "namespace: web\n",
        "namespace: web\npatches:\n  - target: {kind: Deployment, name: wbe}\n    patch: '[]'\n",
        "name: wbe",
    ),
    plant(
        "DR017",
        WEB,
        "namespace: web\n",
        "namespace: web\nimages:\n  - name: ghcr.io/example/wbe\n    newTag: 1.2.4\n",
        "name: ghcr",
    ),
    plant(
        "DR018",
        UNIT,
        "  prune: true",
        "  prune: true\n  healthCheckExprs:\n    - apiVersion: v1\n      kind: ConfigMap\n      current: has(data.key\n",
        "      current:",
    ),
    plant("DR019", RELEASE, "  values:\n", "  upgrade:\n    preserveValues: true\n  values:\n", "preserveValues"),
    plant("DR020", DEPLOYMENT, "            name: web-config", "            name: web-confg", "name: web-confg"),
    plant(
        "DR021",
        DEPLOYMENT,
        "                  name: web-secret",
        "                  name: web-secert",
        "web-secert",
    ),
    plant("DR021", RELEASE, "existingSecret: web-secret", "existingSecret: web-sceret", "web-sceret"),
    plant("DR022", DEPLOYMENT, "key: greeting", "key: greetings", "key: greetings"),
    plant("DR022", DEPLOYMENT, "key: password", "key: pasword", "key: pasword"),
    plant("DR022", DEPLOYMENT, "subPath: domain", "subPath: domian", "subPath: domian"),
    plant("DR023", DEPLOYMENT, "serviceAccountName: web", "serviceAccountName: wbe", "serviceAccountName"),
    plant("DR023", ACCESS, "    name: web\n    namespace: web", "    name: wbe\n    namespace: web", "name: wbe"),
    plant("DR024", DEPLOYMENT, "claimName: web-data", "claimName: web-dta", "claimName"),
    plant("DR024", RELEASE, "existingClaim: web-data", "existingClaim: web-dta", "existingClaim"),
    plant("DR025", "apps/web/storage.yaml", "storageClassName: fast", "storageClassName: fats", "storageClassName"),
    plant("DR026", ROUTES, "cluster-issuer: home-ca", "cluster-issuer: home-cb", "home-cb"),
    plant("DR027", DEPLOYMENT, "secretProviderClass: web-vault", "secretProviderClass: web-valt", "web-valt"),
    plant("DR028", ROUTES, "                name: web\n", "                name: wbe\n", "name: wbe"),
    plant("DR029", ROUTES, "                  name: http", "                  name: htpp", "name: htpp"),
    plant("DR030", ROUTES, "ingressClassName: edge", "ingressClassName: egde", "ingressClassName"),
    plant("DR030", DEPLOYMENT, "priorityClassName: important", "priorityClassName: importent", "priorityClassName"),
    plant("DR031", ACCESS, "name: pod-reader", "name: pod-raeder", "pod-raeder"),
    plant("DR032", POLICIES, "    kind: Deployment\n    name: web", "    kind: Deployment\n    name: wbe", "name: wbe"),
    plant("DR033", UNIT, "    name: home", "    name: hoem", "name: hoem"),
    plant("DR033", RELEASE, "        name: home", "        name: hoem", "name: hoem"),
    plant("DR034", UNIT, "        name: settings", "        name: setings", "name: setings"),
    plant("DR035", UNIT, "    - name: base", "    - name: bsae", "name: bsae"),
    plant(
        "DR036",
        CONFIG,
        "    kind: ClusterSecretStore\n    name: vault",
        "    kind: ClusterSecretStore\n    name: valt",
        "name: valt",
    ),
    plant("DR050", POLICIES, "apiVersion: policy/v1\n", "apiVersion: policy/v1beta1\n", "policy/v1beta1"),
    plant(
        "DR060",
        CONFIG,
        "apiVersion: v1\nkind: ConfigMap",
        "apiVersion: v1\nkind: Secret\nmetadata:\n  name: plain\nstringData:\n  password: hunter2\n---\napiVersion: v1\nkind: ConfigMap",
        "password: hunter2",
    ),
    plant(
        "DR061",
        CONFIG,
        "  domain: ${DOMAIN}\n",
        "  domain: ${DOMAIN}\n  token: ghp_0123456789abcdefghijABCDEFGHIJ012345\n",
        "ghp_",
    ),
    plant("DR070", DEPLOYMENT, "web:1.2.3", "web:latest", "web:latest"),
    plant("DR070", DEPLOYMENT, "web:1.2.3", "web", "image: ghcr.io/example/web"),
    plant("DR070", RELEASE, "tag: 3.1.4", "tag: latest", "tag: latest"),
    plant("DR080", ROUTES, "  selector:\n    app: web", "  selector:\n    app: wbe", "  selector:"),
    plant(
        "DR081",
        POLICIES,
        "  podSelector:\n    matchLabels:\n      app: web",
        "  podSelector:\n    matchLabels:\n      app: wbe",
        "podSelector",
    ),
    plant(
        "DR081",
        POLICIES,
        "  minAvailable: 1\n  selector:\n    matchLabels:\n      app: web",
        "  minAvailable: 1\n  selector:\n    matchLabels:\n      app: wbe",
        "  selector:",
    ),
    plant("DR082", ROUTES, "targetPort: http", "targetPort: htpp", "targetPort: htpp"),
    plant("DR082", DEPLOYMENT, "              port: http", "              port: htpp", "port: htpp"),
    plant("DR082", RELEASE, "port: metrics", "port: metrisc", "port: metrisc"),
    plant("DR082", POLICIES, "    - port: http", "    - port: htpp", "port: htpp"),
    plant(
        "DR083",
        DEPLOYMENT,
        "                matchLabels:\n                  app: web",
        "                matchLabels:\n                  app: wbe",
        "labelSelector",
    ),
    plant(
        "DR095",
        DEPLOYMENT,
        "          image: ghcr.io/example/web:1.2.3",
        "          image: ghcr.io/example/web # druse:ignore DR070",
        "druse:ignore",
    ),
    plant("DR096", DEPLOYMENT, "  replicas: 1", "  replicas: 1 # druse:ignore DR013 of old", "druse:ignore"),
    plant("DR097", DEPLOYMENT, "  replicas: 1", "  replicas: 1 # druse:ignore DR999 what", "druse:ignore"),
    plant(
        "DR086",
        DEPLOYMENT,
        "          image:",
        "          securityContext: {runAsNonRoot: true, runAsUser: 0}\n          image:",
        "runAsUser: 0",
    ),
];

fn line_of(tree: &Tree, file: &str, word: &str) -> usize {
    tree[file].lines().position(|l| l.contains(word)).unwrap_or_else(|| panic!("{file} has no {word:?}")) + 1
}

fn replaced(file: &str, from: &str, to: &str) -> Tree {
    let mut tree = homelab();
    let text = tree.get_mut(file).unwrap_or_else(|| panic!("no file {file}"));
    assert!(text.contains(from), "{file} has no {from:?}");
    *text = text.replacen(from, to, 1);
    tree
}

#[test]
fn the_homelab_has_no_fault() {
    let report = check_tree(&homelab());
    assert_eq!(found(&report), Vec::<String>::new(), "{:#?}", report.findings);
    assert!(report.units >= 5 && report.objects > 20 && report.files > 10, "{report:?}");
}

#[test]
fn each_planted_fault_is_found_at_its_line_and_nothing_else_is() {
    let mut wrong = Vec::new();
    for p in PLANTS {
        let tree = replaced(p.file, p.from, p.to);
        let wanted = format!("{} {}:{}", p.code, p.at.0, line_of(&tree, p.at.0, p.at.1));
        let report = check_tree(&tree);
        let got = found(&report);
        if got != [wanted.clone()] {
            let texts: Vec<&str> = report.findings.iter().map(|f| f.message.as_str()).collect();
            wrong.push(format!("{} in {}: wanted {wanted}, got {got:?}\n   {texts:?}", p.to, p.file));
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), PLANTS.len(), wrong.join("\n"));
}

#[test]
fn a_kind_used_without_waiting_for_what_installs_it_is_found() {
    let tree = replaced("flux/units/base.yaml", "  dependsOn:\n    - name: crds\n", "");
    let got = found(&check_tree(&tree));
    let issuer = line_of(&tree, "apps/base/classes.yaml", "kind: ClusterIssuer");
    assert!(got.contains(&format!("DR041 apps/base/classes.yaml:{issuer}")), "{got:?}");
    assert!(got.iter().all(|f| f.starts_with("DR041")), "{got:?}");
}

#[test]
fn what_two_services_ask_for_is_found_at_both() {
    let other = |name: &str, port: &str, address: &str| {
        format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec:\n  type: LoadBalancer\n  loadBalancerIP: {address}\n  selector: {{app: web}}\n  ports:\n    - {{port: 80, targetPort: http, nodePort: 3{port}}}\n---\n"
        )
    };
    let with = |services: &str| {
        replaced(
            ROUTES,
            "apiVersion: networking.k8s.io/v1\nkind: Ingress",
            &format!("{services}apiVersion: networking.k8s.io/v1\nkind: Ingress"),
        )
    };
    let both = with(&(other("a", "0080", "10.0.0.1") + &other("b", "0080", "10.0.0.2")));
    let line = line_of(&both, ROUTES, "nodePort");
    assert_eq!(found(&check_tree(&both)), [format!("DR084 {ROUTES}:{line}"), format!("DR084 {ROUTES}:{}", line + 10)]);
    let address = with(&(other("a", "0080", "10.0.0.1") + &other("b", "0081", "10.0.0.1")));
    let line = line_of(&address, ROUTES, "loadBalancerIP");
    let report = check_tree(&address);
    assert_eq!(found(&report), [format!("DR084 {ROUTES}:{line}"), format!("DR084 {ROUTES}:{}", line + 10)]);
    assert_eq!(report.worst(), Some(Severity::Warning), "some load balancers share addresses");
    let neither = with(&(other("a", "0080", "10.0.0.1") + &other("b", "0081", "10.0.0.2")));
    assert_eq!(found(&check_tree(&neither)), Vec::<String>::new());
}

#[test]
fn an_object_of_two_units_is_found() {
    let tree =
        replaced("apps/web/kustomization.yaml", "  - access.yaml", "  - access.yaml\n  - ../base/namespaces.yaml");
    let got = found(&check_tree(&tree));
    assert_eq!(got, ["DR042 apps/base/namespaces.yaml:4"]);
    let worst = |tree: &Tree| check_tree(tree).worst();
    assert_eq!(worst(&tree), Some(Severity::Warning), "units that agree");
    let mut tree = tree;
    tree.insert("apps/web/own.yaml".into(), tree["apps/base/classes.yaml"].replace("value: 1000", "value: 2000"));
    let list = tree.get_mut("apps/web/kustomization.yaml").unwrap();
    *list = list.replace("  - ../base/namespaces.yaml", "  - own.yaml");
    assert_eq!(worst(&tree), Some(Severity::Error), "units that do not");
}

#[test]
fn dependencies_in_a_circle_are_found_at_each_unit() {
    let tree = replaced("flux/units/crds.yaml", "  wait: true", "  wait: true\n  dependsOn:\n    - name: web");
    let got = found(&check_tree(&tree));
    for unit in ["crds", "base", "web"] {
        let file = format!("flux/units/{unit}.yaml");
        let line = tree[&file].lines().position(|l| l.contains("dependsOn")).unwrap() + 2;
        assert!(got.contains(&format!("DR040 {file}:{line}")), "{unit}: {got:?}");
    }
    assert!(got.iter().all(|f| f.starts_with("DR040")), "{got:?}");
}

#[test]
fn a_namespace_that_nothing_creates_is_found_once_a_unit() {
    let tree = replaced("apps/base/kustomization.yaml", "  - namespaces.yaml\n", "");
    let got = found(&check_tree(&tree));
    assert_eq!(got.iter().filter(|f| f.starts_with("DR043")).count(), 1, "{got:?}");
    assert!(got.contains(&"DR003 apps/base/namespaces.yaml:1".to_string()), "{got:?}");
}

#[test]
fn files_beside_those_that_are_read_are_found_and_those_elsewhere_are_not() {
    let mut tree = homelab();
    let manifest = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: x\n";
    tree.insert("apps/web/forgotten.yaml".into(), manifest.into());
    tree.insert("apps/web/values.yaml".into(), "replicas: 1\n".into());
    tree.insert("docs/example.yaml".into(), manifest.into());
    tree.insert(".github/workflows/ci.yaml".into(), "name: x\non: push\n".into());
    assert_eq!(found(&check_tree(&tree)), ["DR003 apps/web/forgotten.yaml:1"]);
}

#[test]
fn a_variable_that_only_another_unit_sets_is_found() {
    let tree = replaced("apps/base/classes.yaml", "  controller: example.org/edge", "  controller: ${DOMAIN}/edge");
    let line = line_of(&tree, "apps/base/classes.yaml", "${DOMAIN}");
    assert!(found(&check_tree(&tree)).contains(&format!("DR009 apps/base/classes.yaml:{line}")));
}

#[test]
fn a_chart_from_a_repository_needs_one_version_and_must_be_found() {
    let mut tree = homelab();
    let text = tree.get_mut(RELEASE).unwrap();
    *text = text
        .replace("chart: ./charts/demo", "chart: demo\n      version: '>=1.0.0'")
        .replace("kind: GitRepository", "kind: HelmRepository");
    text.push_str("---\napiVersion: source.toolkit.fluxcd.io/v1\nkind: HelmRepository\nmetadata:\n  name: home\n  namespace: flux-system\nspec:\n  url: https://charts.example.org\n  interval: 1h\n");
    // The kustomization puts everything in its own namespace.
    *text = text.replace("        namespace: flux-system\n", "        namespace: web\n");
    let line = line_of(&tree, RELEASE, ">=1.0.0");
    let report = check_tree(&tree);
    assert_eq!(shown(report.findings.iter()), [format!("DR008 {RELEASE}:{line}"), format!("DR071 {RELEASE}:{line}")]);
}

#[test]
fn what_is_only_worth_knowing_is_a_note() {
    let tree = replaced(UNIT, "  prune: true", "  prune: true\n  suspend: true");
    let report = check_tree(&tree);
    let line = line_of(&tree, UNIT, "suspend");
    assert_eq!(shown(report.findings.iter().filter(|f| f.code.code == "DR044")), [format!("DR044 {UNIT}:{line}")]);
    let tree = replaced(DEPLOYMENT, "      priorityClassName", "      hostNetwork: true\n      priorityClassName");
    let report = check_tree(&tree);
    let line = line_of(&tree, DEPLOYMENT, "hostNetwork");
    assert_eq!(
        shown(report.findings.iter().filter(|f| f.severity == Severity::Info)),
        [format!("DR085 {DEPLOYMENT}:{line}")]
    );
}

#[test]
fn deprecation_depends_on_the_version_checked_for() {
    let tree = replaced(POLICIES, "apiVersion: policy/v1\n", "apiVersion: policy/v1beta1\n");
    let mut options = Options::default();
    options.plan.kube_version = druse_helm::KubeVersion::parse("v1.24.0").unwrap();
    assert_eq!(found(&check_with(&tree, &options)), ["DR051 apps/web/policies.yaml:1"]);
    options.plan.kube_version = druse_helm::KubeVersion::parse("v1.20.0").unwrap();
    assert_eq!(found(&check_with(&tree, &options)), Vec::<String>::new());
}

#[test]
fn codes_that_are_off_are_looked_for_when_asked() {
    let options = Options { also: vec!["DR072".into()], ..Options::default() };
    let report = check_with(&homelab(), &options);
    assert_eq!(report.findings.iter().filter(|f| f.code.code == "DR072").count(), 3, "{:?}", report.findings);
}

/// What is found beside, once the homelab as it was is given.
fn since(tree: &Tree) -> Vec<String> {
    found(&check_with(tree, &Options { base: Some(input(&homelab())), ..Options::default() }))
}

#[test]
fn changes_that_are_refused_or_lose_data_are_found_when_there_is_a_base() {
    let shrunk = replaced("apps/web/storage.yaml", "storage: 10Gi", "storage: 5Gi");
    assert_eq!(since(&shrunk), ["DR090 apps/web/storage.yaml:10"]);
    let tree = replaced("apps/web/storage.yaml", "accessModes: [ReadWriteOnce]", "accessModes: [ReadWriteMany]");
    assert_eq!(since(&tree), ["DR090 apps/web/storage.yaml:6"]);
    let gone = replaced(WEB, "  - storage.yaml\n", "");
    assert!(since(&gone).contains(&"DR091 apps/web/storage.yaml:1".to_string()), "{:?}", since(&gone));
    let privileged =
        replaced(DEPLOYMENT, "          image:", "          securityContext: {privileged: true}\n          image:");
    assert_eq!(since(&privileged).len(), 1, "{:?}", since(&privileged));
    assert!(since(&privileged)[0].starts_with("DR092 apps/web/deployment.yaml:"));
    assert_eq!(since(&homelab()), Vec::<String>::new());
}

#[test]
fn every_code_has_a_planted_fault() {
    let text = include_str!("planted.rs");
    for code in codes::all() {
        assert!(text.matches(&code.code).count() > 0, "{} is planted nowhere", code.code);
    }
}
