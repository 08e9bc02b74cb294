//! A finding is placed where a person wrote what is at fault, however it came into the object.
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

mod common;

use common::{Tree, check_tree, found, homelab};

const WEB: &str = "apps/web/kustomization.yaml";

/// The homelab with lines more in a kustomization, and files more.
fn with(kustomization: &str, files: &[(&str, &str)]) -> Tree {
    let mut tree = homelab();
    tree.get_mut(WEB).unwrap().push_str(kustomization);
    for (path, text) in files {
        tree.insert((*path).to_string(), (*text).to_string());
    }
    tree
}

fn line(tree: &Tree, file: &str, word: &str) -> String {
    format!("{file}:{}", tree[file].lines().position(|l| l.contains(word)).unwrap() + 1)
}

#[test]
fn a_patch_in_a_file_is_the_place() {
    let patch = "apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: web\nspec:\n  template:\n    spec:\n      priorityClassName: nothing\n";
    let tree = with("patches:\n  - path: patch.yaml\n", &[("apps/web/patch.yaml", patch)]);
    assert_eq!(found(&check_tree(&tree)), ["DR030 apps/web/patch.yaml:8"]);
}

#[test]
fn a_patch_within_a_kustomization_is_the_place() {
    let merge = "patches:\n  - patch: |-\n      apiVersion: apps/v1\n      kind: Deployment\n      metadata:\n        name: web\n      spec:\n        template:\n          spec:\n            priorityClassName: nothing\n";
    let tree = with(merge, &[]);
    assert_eq!(found(&check_tree(&tree)), [format!("DR030 {}", line(&tree, WEB, "nothing"))]);
    let json = "patches:\n  - target: {kind: Deployment, name: web}\n    patch: |-\n      - op: replace\n        path: /spec/template/spec/priorityClassName\n        value: nothing\n";
    let tree = with(json, &[]);
    assert_eq!(found(&check_tree(&tree)), [format!("DR030 {}", line(&tree, WEB, "nothing"))]);
}

#[test]
fn a_patch_of_the_unit_is_the_place() {
    let mut tree = homelab();
    let unit = "flux/units/web.yaml";
    tree.get_mut(unit).unwrap().push_str("  patches:\n    - target: {kind: Deployment, name: web}\n      patch: |-\n        - op: replace\n          path: /spec/template/spec/priorityClassName\n          value: nothing\n");
    assert_eq!(found(&check_tree(&tree)), [format!("DR030 {}", line(&tree, unit, "nothing"))]);
}

#[test]
fn an_image_that_a_kustomization_replaces_is_found_there() {
    let tree = with("images:\n  - name: ghcr.io/example/web\n    newTag: latest\n", &[]);
    assert_eq!(found(&check_tree(&tree)), [format!("DR070 {}", line(&tree, WEB, "newTag"))]);
}

#[test]
fn values_from_a_generated_config_map_are_found_in_the_file_they_come_from() {
    let values = "replicas: many\nexistingSecret: nowhere\n";
    let generator = "configMapGenerator:\n  - name: demo-values\n    files: [values.yaml=./demo-values.yaml]\ngeneratorOptions:\n  disableNameSuffixHash: true\n";
    let mut tree = with(generator, &[("apps/web/demo-values.yaml", values)]);
    let release = tree.get_mut("apps/web/release.yaml").unwrap();
    *release = release.replace("    replicas: 2\n", "").replace("    existingSecret: web-secret\n", "");
    release.push_str("  valuesFrom:\n    - kind: ConfigMap\n      name: demo-values\n");
    assert_eq!(found(&check_tree(&tree)), ["DR007 apps/web/demo-values.yaml:1"]);
    tree.insert("apps/web/demo-values.yaml".into(), values.replace("many", "2"));
    assert_eq!(found(&check_tree(&tree)), ["DR021 apps/web/demo-values.yaml:2"]);
}

#[test]
fn a_component_is_the_place_for_what_it_brings() {
    let tree = with(
        "components:\n  - ../parts\n",
        &[
            (
                "apps/parts/kustomization.yaml",
                "apiVersion: kustomize.config.k8s.io/v1alpha1\nkind: Component\nresources: [pvc.yaml]\n",
            ),
            (
                "apps/parts/pvc.yaml",
                "apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata:\n  name: cache\nspec:\n  accessModes: [ReadWriteOnce]\n  storageClassName: fst\n  resources: {requests: {storage: 1Gi}}\n",
            ),
        ],
    );
    assert_eq!(found(&check_tree(&tree)), ["DR025 apps/parts/pvc.yaml:7"]);
}

#[test]
fn a_secret_from_values_in_plain_text_is_found_at_its_generator() {
    let tree = with("secretGenerator:\n  - name: made\n    literals:\n      - token=abcdef\n", &[]);
    assert_eq!(found(&check_tree(&tree)), [format!("DR060 {}", line(&tree, WEB, "token=abcdef"))]);
}

#[test]
fn a_file_that_several_units_read_is_said_once() {
    let mut tree = homelab();
    let text = tree.get_mut("apps/web/config.yaml").unwrap();
    *text = text.replace("  domain: ${DOMAIN}", "  domain: ${DOMAIN}\n bad");
    let other = tree["flux/units/web.yaml"].replace("  name: web\n", "  name: web2\n");
    tree.insert("flux/units/web2.yaml".into(), other);
    tree.get_mut("flux/units/kustomization.yaml").unwrap().push_str("  - web2.yaml\n");
    let got = found(&check_tree(&tree));
    assert_eq!(got.iter().filter(|f| f.starts_with("DR001")).count(), 1, "{got:?}");
}

#[test]
fn a_variable_without_a_value_is_found_in_the_file_that_a_generator_read() {
    let generator = "configMapGenerator:\n  - name: board\n    files: [board.json]\n";
    let tree = with(generator, &[("apps/web/board.json", "{\n  \"uid\": \"${DS_PROMETHEUS}\"\n}\n")]);
    assert_eq!(found(&check_tree(&tree)), ["DR006 apps/web/board.json:2"]);
}

#[test]
fn a_value_that_a_schema_refuses_for_several_reasons_is_found_once() {
    let mut tree = homelab();
    let schema = tree.get_mut("charts/demo/values.schema.json").unwrap();
    *schema = schema.replace(
        r#"{"type": "integer", "minimum": 0}"#,
        r#"{"anyOf": [{"type": "integer"}, {"type": "null"}, {"type": "string", "maxLength": 2}]}"#,
    );
    let release = tree.get_mut("apps/web/release.yaml").unwrap();
    *release = release
        .replace("replicas: 2", "replicas: many")
        .replace("      tag:", "      one: 1\n      two: 2\n      tag:");
    let report = check_tree(&tree);
    let at = |word: &str| format!("DR007 {}", line(&tree, "apps/web/release.yaml", word));
    assert_eq!(found(&report), [at("one: 1"), at("two: 2"), at("replicas")]);
    let message = &report.findings.iter().find(|f| f.message.starts_with("replicas")).unwrap().message;
    assert!(
        message.contains("want integer") && message.contains("want null") && message.contains("maxLength"),
        "{message}"
    );
}

#[test]
fn a_component_of_a_unit_that_is_not_there_is_found_where_the_unit_names_it() {
    let mut tree = homelab();
    let unit = tree.get_mut("flux/units/web.yaml").unwrap();
    unit.push_str("  components:\n    - ../parts/scaler\n");
    assert_eq!(found(&check_tree(&tree)), [format!("DR004 {}", line(&tree, "flux/units/web.yaml", "parts/scaler"))]);
    let tree = with("components:\n  - ../parts/scaler\n", &[]);
    assert_eq!(found(&check_tree(&tree)), [format!("DR004 {}", line(&tree, WEB, "parts/scaler"))]);
}

#[test]
fn a_variable_of_a_unit_is_the_place_where_several_read_the_file() {
    let claim = "apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {name: '${NAME:=data}'}\nspec:\n  accessModes: [ReadWriteOnce]\n  storageClassName: ${CLASS:=fast}\n  resources: {requests: {storage: 1Gi}}\n";
    let part = "apiVersion: kustomize.config.k8s.io/v1alpha1\nkind: Component\nresources: [pvc.yaml]\n";
    let mut tree = homelab();
    tree.insert("apps/parts/kustomization.yaml".into(), part.into());
    tree.insert("apps/parts/pvc.yaml".into(), claim.into());
    for unit in ["flux/units/web.yaml", "flux/units/base.yaml"] {
        tree.get_mut(unit).unwrap().push_str("  components: [../parts]\n");
    }
    let web = tree.get_mut("flux/units/web.yaml").unwrap();
    *web = web.replace("      GREETING: hello\n", "      GREETING: hello\n      CLASS: fats\n");
    let base = tree.get_mut("flux/units/base.yaml").unwrap();
    base.push_str("  targetNamespace: web\n  postBuild:\n    substitute:\n      CLASS: fast\n      NAME: other\n");
    let report = check_tree(&tree);
    let wrong: Vec<String> = found(&report).into_iter().filter(|f| f.starts_with("DR025")).collect();
    assert_eq!(wrong, [format!("DR025 {}", line(&tree, "flux/units/web.yaml", "CLASS: fats"))]);
}
