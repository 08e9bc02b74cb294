//! What is no fault is no finding: objects as people write them, which a cluster completes or may well take.
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

mod common;

use common::{check_tree, found, homelab};

const WEB: &str = "apps/web/kustomization.yaml";

/// What is found when the homelab's application has one more file.
fn found_with(text: &str) -> Vec<String> {
    let mut tree = homelab();
    tree.insert("apps/web/more.yaml".to_string(), text.to_string());
    let kustomization = tree.get_mut(WEB).unwrap();
    *kustomization = kustomization.replace("resources:\n", "resources:\n  - more.yaml\n");
    found(&check_tree(&tree))
}

#[test]
fn a_job_needs_no_selector_for_the_cluster_gives_it_one() {
    let job = "apiVersion: batch/v1\nkind: Job\nmetadata:\n  name: once\nspec:\n  template:\n    spec:\n      restartPolicy: Never\n      containers:\n        - name: once\n          image: ghcr.io/example/web:1.2.3\n";
    assert_eq!(found_with(job), [""; 0]);
    let always = job.replace("Never", "Always");
    assert_eq!(found_with(&always), ["DR013 apps/web/more.yaml:8"]);
}

#[test]
fn a_headless_service_says_so_in_one_field() {
    let service = "apiVersion: v1\nkind: Service\nmetadata:\n  name: headless\nspec:\n  clusterIP: None\n  selector:\n    app: web\n  ports:\n    - port: 80\n      targetPort: http\n";
    assert_eq!(found_with(service), [""; 0]);
}

#[test]
fn a_cluster_may_have_addresses_of_both_families() {
    let service = "apiVersion: v1\nkind: Service\nmetadata:\n  name: both\nspec:\n  ipFamilyPolicy: RequireDualStack\n  ipFamilies: [IPv4, IPv6]\n  selector:\n    app: web\n  ports:\n    - port: 80\n      targetPort: http\n";
    assert_eq!(found_with(service), [""; 0]);
    let unknown = service.replace("IPv6", "IPv5");
    assert_eq!(found_with(&unknown), ["DR013 apps/web/more.yaml:7"]);
}

#[test]
fn the_credentials_of_a_registry_are_json() {
    let secret = |data: &str| {
        format!(
            "apiVersion: v1\nkind: Secret\nmetadata:\n  name: pull\ntype: kubernetes.io/dockerconfigjson\nstringData:\n  .dockerconfigjson: '{data}'\n"
        )
    };
    // That it is committed in plain text is said beside.
    assert_eq!(found_with(&secret("{}")), ["DR060 apps/web/more.yaml:7"]);
    assert_eq!(found_with(&secret("x")), ["DR013 apps/web/more.yaml:7", "DR060 apps/web/more.yaml:7"]);
    let other = secret("{}").replace("  .dockerconfigjson", "  dockerconfigjson");
    assert!(found_with(&other).iter().any(|f| f.starts_with("DR012 apps/web/more.yaml")));
}

#[test]
fn a_config_map_that_is_used_is_missed_when_its_file_is_listed_no_more() {
    let mut tree = homelab();
    let kustomization = tree.get_mut(WEB).unwrap();
    *kustomization = kustomization.replace("  - config.yaml\n", "");
    let found = found(&check_tree(&tree));
    assert!(found.contains(&"DR003 apps/web/config.yaml:1".to_string()), "{found:?}");
    assert!(found.iter().any(|f| f.starts_with("DR020 apps/web/deployment.yaml")), "{found:?}");
}

#[test]
fn an_event_listener_is_called_through_a_service_that_its_operator_makes() {
    let text = "apiVersion: triggers.tekton.dev/v1beta1\nkind: EventListener\nmetadata:\n  name: build\nspec:\n  triggers: []\n---\napiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata:\n  name: build\nspec:\n  rules:\n    - backendRefs:\n        - name: el-build\n          port: 8080\n";
    assert!(!found_with(text).iter().any(|f| f.starts_with("DR028")));
    let other = text.replace("el-build", "build");
    assert!(found_with(&other).contains(&"DR028 apps/web/more.yaml:15".to_string()));
}

#[test]
fn alerts_may_be_of_kinds_that_the_flux_operator_adds() {
    let alert = "apiVersion: notification.toolkit.fluxcd.io/v1beta3\nkind: Alert\nmetadata:\n  name: all\nspec:\n  providerRef:\n    name: chat\n  eventSources:\n    - kind: FluxInstance\n      name: '*'\n---\napiVersion: notification.toolkit.fluxcd.io/v1beta3\nkind: Provider\nmetadata:\n  name: chat\nspec:\n  type: generic\n  address: https://chat.example.org\n";
    assert_eq!(found_with(alert), [""; 0]);
    let other = alert.replace("FluxInstance", "FluxInstances");
    assert_eq!(found_with(&other), ["DR013 apps/web/more.yaml:9"]);
}

#[test]
fn an_address_in_a_secret_is_no_secret() {
    let secret =
        |url: &str| format!("apiVersion: v1\nkind: Secret\nmetadata:\n  name: redis\nstringData:\n  url: {url}\n");
    assert_eq!(found_with(&secret("rediss://redis.databases:6379?ssl_keyfile=/run/tls.key")), [""; 0]);
    assert_eq!(found_with(&secret("redis://default:hunter2@redis.databases:6379")), ["DR060 apps/web/more.yaml:6"]);
}

#[test]
fn what_flux_exports_of_itself_is_not_judged() {
    let binding = "apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRoleBinding\nmetadata:\n  name: crd-controller\nroleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: view}\nsubjects:\n  - kind: ServiceAccount\n    name: image-reflector-controller\n    namespace: web\n";
    assert_eq!(found_with(binding), ["DR023 apps/web/more.yaml:8"]);
    let mut tree = homelab();
    let exported = format!("---\n# This manifest was generated by flux. DO NOT EDIT.\n{binding}");
    tree.insert("apps/web/gotk-components.yaml".to_string(), exported);
    let kustomization = tree.get_mut(WEB).unwrap();
    *kustomization = kustomization.replace("resources:\n", "resources:\n  - gotk-components.yaml\n");
    assert_eq!(found(&check_tree(&tree)), [""; 0]);
}

#[test]
fn gateways_may_not_ask_for_one_address() {
    let gateway = |name: &str, address: &str| {
        format!(
            "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {{name: {name}}}\nspec:\n  gatewayClassName: edge\n  infrastructure:\n    annotations:\n      lbipam.cilium.io/ips: {address}\n  listeners: [{{name: http, protocol: HTTP, port: 80}}]\n"
        )
    };
    let addresses = |a: &str, b: &str| {
        let found = found_with(&format!("{}---\n{}", gateway("a", a), gateway("b", b)));
        found.into_iter().filter(|f| f.starts_with("DR084")).collect::<Vec<_>>()
    };
    assert_eq!(addresses("10.0.0.1", "10.0.0.2"), [""; 0]);
    assert_eq!(addresses("10.0.0.1", "10.0.0.1"), ["DR084 apps/web/more.yaml:8", "DR084 apps/web/more.yaml:18"]);
}

#[test]
fn a_service_of_a_database_names_one_that_is_there() {
    let service = |name: &str| {
        format!(
            "apiVersion: postgresql.cnpg.io/v1\nkind: Cluster\nmetadata: {{name: db}}\nspec: {{instances: 1}}\n---\napiVersion: v1\nkind: Service\nmetadata: {{name: db-lb}}\nspec:\n  selector:\n    cnpg.io/cluster: {name}\n  ports: [{{port: 5432}}]\n"
        )
    };
    let selects = |name: &str| found_with(&service(name)).iter().any(|f| f.starts_with("DR080"));
    assert!(!selects("db") && selects("dbs"));
}
