//! Small trees that show one rule or one fault each: what is wrong is said by name and place, and all that does not
//! depend on it still renders.

#![allow(clippy::print_stderr)]

use std::sync::Arc;

use druse_kustomize::tree::MemoryTree;
use druse_object::Object;
use druse_plan::{Plan, PlanOptions, TreeInput, Unit, UnitId, UnitState, plan};
use druse_source::{Fetcher, FetcherOptions};

const SOURCE: &str = "apiVersion: source.toolkit.fluxcd.io/v1\nkind: GitRepository\nmetadata: {name: home, namespace: flux-system}\nspec: {url: https://example.org/me/home, interval: 1m}\n---\n";

fn kustomization(name: &str, path: &str, more: &str) -> String {
    format!(
        "---\napiVersion: kustomize.toolkit.fluxcd.io/v1\nkind: Kustomization\nmetadata: {{name: {name}, namespace: flux-system}}\nspec:\n  interval: 1h\n  prune: true\n  path: {path}\n  sourceRef: {{kind: GitRepository, name: home}}\n{more}"
    )
}

fn config_map(name: &str, data: &str) -> String {
    format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}, namespace: apps}}\ndata: {data}\n")
}

fn release(name: &str, chart: &str, more: &str) -> String {
    format!(
        "---\napiVersion: helm.toolkit.fluxcd.io/v2\nkind: HelmRelease\nmetadata: {{name: {name}, namespace: apps}}\nspec:\n  interval: 1h\n  chart:\n    spec:\n      chart: {chart}\n      sourceRef: {{kind: GitRepository, name: home, namespace: flux-system}}\n{more}"
    )
}

fn make_with(files: &[(&str, String)], fetcher: FetcherOptions) -> Plan {
    let tree: MemoryTree = files.iter().map(|(path, text)| (*path, text.clone())).collect();
    let fetcher = Fetcher::new(FetcherOptions { offline: true, ..fetcher }).expect("a fetcher");
    plan(&TreeInput::new(tree), &Arc::new(fetcher), &PlanOptions::default())
}

fn make(files: &[(&str, String)]) -> Plan {
    make_with(files, FetcherOptions::default())
}

fn unit<'a>(plan: &'a Plan, id: &str) -> &'a Unit {
    let id: UnitId = id.parse().expect("an id");
    plan.unit(&id).unwrap_or_else(|| {
        panic!("no unit {id} among {:?}", plan.units.iter().map(|u| u.id.to_string()).collect::<Vec<_>>())
    })
}

fn object<'a>(unit: &'a Unit, kind: &str, name: &str) -> &'a Object {
    unit.objects
        .iter()
        .find(|o| o.kind() == kind && o.name() == name)
        .unwrap_or_else(|| panic!("no {kind} {name} in {}: {:?}", unit.id, unit.errors))
}

fn errors(unit: &Unit) -> String {
    unit.errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// The cluster folder with its sync file, and some folders.
fn cluster(units: &str, files: Vec<(&'static str, String)>) -> Plan {
    let mut all = vec![("cluster/sync.yaml", format!("{SOURCE}{}{units}", kustomization("cluster", "./cluster", "")))];
    all.extend(files);
    make(&all)
}

#[test]
fn a_root_renders_itself_and_its_units_follow_it() {
    let plan = cluster(&kustomization("app", "./app", ""), vec![("app/cm.yaml", config_map("a", "{k: v}"))]);
    let ids: Vec<String> = plan.units.iter().map(|u| u.id.to_string()).collect();
    assert_eq!(ids, ["Kustomization/flux-system/cluster", "Kustomization/flux-system/app"]);
    let root = unit(&plan, "ks/flux-system/cluster");
    assert!(root.is_root && root.made_by == [root.id.clone()]);
    let app = unit(&plan, "ks/flux-system/app");
    assert!(!app.is_root && app.made_by == [root.id.clone()]);
    assert_eq!(app.definition.provenance.file.as_deref(), Some("cluster/sync.yaml"));
    let cm = object(app, "ConfigMap", "a");
    assert_eq!(cm.provenance.to_string(), "app/cm.yaml:1 (in Kustomization/flux-system/app)");
    assert_eq!(cm.label("kustomize.toolkit.fluxcd.io/name"), Some("app"));
    assert_eq!(plan.tree_sources[0].id, "GitRepository/flux-system/home");
}

#[test]
fn a_template_beside_the_trees_source_does_not_hide_it() {
    let template = SOURCE.replace("https://example.org/me/home", "'${REPOSITORY}'");
    let files = vec![("app/cm.yaml", config_map("a", "{k: v}")), ("tmpl/cluster.yaml", template)];
    let plan = cluster(&kustomization("app", "./app", ""), files);
    object(unit(&plan, "ks/flux-system/app"), "ConfigMap", "a");
}

#[test]
fn broken_yaml_is_refused_with_its_place_and_the_rest_goes_on() {
    let units = kustomization("bad", "./bad", "") + &kustomization("good", "./good", "");
    let plan = cluster(
        &units,
        vec![("bad/x.yaml", "apiVersion: v1\nkind: [\n".into()), ("good/cm.yaml", config_map("a", "{k: v}"))],
    );
    let bad = unit(&plan, "ks/flux-system/bad");
    assert_eq!(bad.state, UnitState::Failed);
    assert_eq!(bad.errors[0].file.as_deref(), Some("bad/x.yaml"), "{}", errors(bad));
    let message = "failed to decode Kubernetes YAML from bad/x.yaml: MalformedYAMLError: yaml: line ";
    assert!(bad.errors[0].message.starts_with(message), "{}", errors(bad));
    assert_eq!(unit(&plan, "ks/flux-system/good").state, UnitState::Ok);
}

#[test]
fn a_missing_path_a_missing_source_and_a_suspended_unit_are_told_apart() {
    let units = kustomization("nowhere", "./nowhere", "")
        + &kustomization("nosource", "./app", "").replace("name: home}", "name: other}")
        + &kustomization("asleep", "./app", "  suspend: true\n");
    let plan = cluster(&units, vec![("app/cm.yaml", config_map("a", "{k: v}"))]);
    let nowhere = unit(&plan, "ks/flux-system/nowhere");
    assert!(errors(nowhere).contains("kustomization path not found: stat /nowhere"), "{}", errors(nowhere));
    assert!(errors(nowhere).starts_with("cluster/sync.yaml:"), "{}", errors(nowhere));
    let nosource = unit(&plan, "ks/flux-system/nosource");
    assert!(
        errors(nosource).contains("GitRepository/flux-system/other, which no unit of the tree defines"),
        "{}",
        errors(nosource)
    );
    let asleep = unit(&plan, "ks/flux-system/asleep");
    assert_eq!(asleep.state, UnitState::Suspended);
    assert!(asleep.objects.is_empty());
}

#[test]
fn dependencies_order_wait_and_must_not_go_in_circles() {
    let needs = |on: &str| format!("  dependsOn: [{{name: {on}}}]\n");
    let units = kustomization("a-last", "./app", &needs("z-first"))
        + &kustomization("z-first", "./app", "")
        + &kustomization("lost", "./app", &needs("nobody"))
        + &kustomization("waits", "./app", &needs("lost"))
        + &kustomization("one", "./app", &needs("two"))
        + &kustomization("two", "./app", &needs("one"));
    let plan = cluster(&units, vec![("app/cm.yaml", config_map("a", "{k: v}"))]);
    let at = |name: &str| plan.units.iter().position(|u| u.id.name == name).expect("there");
    assert!(at("z-first") < at("a-last"));
    let lost = unit(&plan, "ks/flux-system/lost");
    assert!(errors(lost).contains("dependsOn names Kustomization/flux-system/nobody"), "{}", errors(lost));
    assert_eq!(unit(&plan, "ks/flux-system/waits").state, UnitState::Waiting { on: vec![lost.id.clone()] });
    let circle = "Kustomization/flux-system/one -> Kustomization/flux-system/two -> Kustomization/flux-system/one";
    assert!(errors(unit(&plan, "ks/flux-system/two")).contains(circle));
    assert_eq!(unit(&plan, "ks/flux-system/a-last").state, UnitState::Ok);
}

#[test]
fn variables_come_from_what_other_units_make() {
    let units = kustomization("vars", "./vars", "")
        + &kustomization(
            "app",
            "./app",
            "  postBuild:\n    substitute: {n: '3'}\n    substituteFrom:\n    - {kind: ConfigMap, name: vars}\n    - {kind: Secret, name: maybe, optional: true}\n",
        )
        + &kustomization("plain", "./plain", "")
        + &kustomization("strict", "./strict", "  postBuild: {substitute: {SET: '1'}}\n");
    let vars = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: vars, namespace: flux-system}\ndata: {host: example.org, n: '1'}\n";
    let plan = cluster(
        &units,
        vec![
            ("vars/cm.yaml", vars.into()),
            ("app/cm.yaml", config_map("a", "{host: '${host}', n: '${n}', none: 'x${none:=}', lit: '$${host}'}")),
            ("strict/cm.yaml", config_map("s", "{a: '${UNSET}'}")),
            ("plain/cm.yaml", config_map("p", "{host: '${host}'}")),
        ],
    );
    let app = unit(&plan, "ks/flux-system/app");
    let data = &object(app, "ConfigMap", "a").value["data"];
    assert_eq!(druse_object::json::to_string(data), r#"{"host":"example.org","lit":"${host}","n":3,"none":"x"}"#);
    assert!(app.warnings.iter().any(|w| w.contains("Secret/maybe")), "{:?}", app.warnings);
    let strict = errors(unit(&plan, "ks/flux-system/strict"));
    let message = "post build failed for 'ConfigMap.v1.[noGrp]/s': envsubst error: variable substitution failed: variable not set (strict mode): \"UNSET\"";
    assert!(strict.contains(message) && strict.starts_with("strict/cm.yaml:1: "), "{strict}");
    let plain = &object(unit(&plan, "ks/flux-system/plain"), "ConfigMap", "p").value["data"];
    assert_eq!(plain.str_at(["host"]), Some("${host}"));
}

#[test]
fn what_only_a_cluster_holds_is_named_and_never_invented() {
    let hr = release("web", "charts/web", "  valuesFrom: [{kind: Secret, name: runtime}]\n");
    let plan = cluster(
        &kustomization("app", "./app", ""),
        vec![("app/hr.yaml", hr), chart_yaml(), ("charts/web/templates/cm.yaml", CM.into())],
    );
    let web = unit(&plan, "hr/apps/web");
    assert_eq!(web.state, UnitState::Failed);
    assert_eq!(web.unresolved, ["Secret apps/runtime (valuesFrom)"]);
    assert!(errors(web).contains("valuesFrom names Secret apps/runtime, which does not exist"), "{}", errors(web));
    assert!(errors(web).starts_with("app/hr.yaml:2"), "{}", errors(web));
}

fn chart_yaml() -> (&'static str, String) {
    ("charts/web/Chart.yaml", "apiVersion: v2\nname: web\nversion: 1.2.3\n".into())
}

const CM: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: '{{ .Release.Name }}'}\ndata:\n  ns: '{{ .Release.Namespace }}'\n  v: '{{ .Values.v }}'\n  has: '{{ .Capabilities.APIVersions.Has \"x.io/v1/X\" }}'\n  kube: '{{ .Capabilities.KubeVersion.Version }}'\n";

#[test]
fn releases_are_named_valued_and_changed_as_flux_does() {
    let hr = release(
        "web",
        "charts/web",
        "  targetNamespace: other\n  values: {v: inline}\n  valuesFrom: [{kind: ConfigMap, name: base}]\n  postRenderers:\n  - kustomize:\n      patches:\n      - target: {kind: ConfigMap}\n        patch: |\n          - {op: add, path: /data/patched, value: 'yes'}\n",
    );
    let plan = cluster(
        &kustomization("app", "./app", ""),
        vec![
            ("app/hr.yaml", hr),
            ("app/base.yaml", config_map("base", "{values.yaml: 'v: base'}")),
            chart_yaml(),
            ("charts/web/templates/cm.yaml", CM.into()),
        ],
    );
    let web = unit(&plan, "hr/apps/web");
    let cm = object(web, "ConfigMap", "other-web");
    assert_eq!(cm.namespace(), "other");
    assert_eq!(cm.label("helm.toolkit.fluxcd.io/namespace"), Some("apps"));
    let data = &cm.value["data"];
    assert_eq!(data.str_at(["v"]), Some("inline"));
    assert_eq!(data.str_at(["patched"]), Some("yes"));
    assert_eq!(data.str_at(["kube"]), Some("v1.36.3"));
    assert_eq!(cm.provenance.template.as_deref(), Some("web/templates/cm.yaml"));
    assert_eq!(web.chart.as_ref().map(|c| c.version.as_str()), Some("1.2.3"));
}

#[test]
fn text_at_the_end_of_a_document_keeps_its_line_break_but_for_the_last() {
    let two = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: one}\ndata:\n  t: |\n    x\n---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: two}\ndata:\n  t: |\n    x";
    let plan = cluster(
        &kustomization("app", "./app", ""),
        vec![
            ("app/hr.yaml", release("web", "charts/web", "")),
            chart_yaml(),
            ("charts/web/templates/cm.yaml", two.into()),
        ],
    );
    let web = unit(&plan, "hr/apps/web");
    assert_eq!(object(web, "ConfigMap", "one").value.str_at(["data", "t"]), Some("x\n"));
    assert_eq!(object(web, "ConfigMap", "two").value.str_at(["data", "t"]), Some("x"));
}

#[test]
fn capabilities_hold_the_crds_of_all_units() {
    let crd = "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {name: xs.x.io}\nspec:\n  group: x.io\n  scope: Namespaced\n  names: {kind: X, plural: xs}\n  versions: [{name: v1, served: true, storage: true}]\n";
    let files = |crd_at: &'static str, policy: &str| {
        vec![
            ("app/hr.yaml", release("web", "charts/web", policy)),
            chart_yaml(),
            ("charts/web/templates/cm.yaml", CM.to_string()),
            ("other/cm.yaml", config_map("o", "{k: v}")),
            (crd_at, crd.to_string()),
        ]
    };
    let units = kustomization("app", "./app", "") + &kustomization("other", "./other", "");
    let has = |plan: &Plan| {
        object(unit(plan, "hr/apps/web"), "ConfigMap", "web").value.str_at(["data", "has"]).map(str::to_string)
    };
    let elsewhere = cluster(&units, files("other/crd.yaml", ""));
    assert_eq!(has(&elsewhere).as_deref(), Some("true"));
    let own = cluster(&units, files("charts/web/crds/x.yaml", ""));
    assert_eq!(has(&own).as_deref(), Some("true"));
    assert_eq!(unit(&own, "hr/apps/web").objects[0].kind(), "CustomResourceDefinition");
    let skipped = cluster(&units, files("charts/web/crds/x.yaml", "  install: {crds: Skip}\n"));
    assert_eq!(has(&skipped).as_deref(), Some("false"));
    let nowhere = cluster(&units, files("unread/crd.yaml", ""));
    assert_eq!(has(&nowhere).as_deref(), Some("false"));
}

#[test]
fn a_template_error_deep_in_a_subchart_names_the_template() {
    let plan = cluster(
        &(kustomization("app", "./app", "") + &kustomization("good", "./good", "")),
        vec![
            ("app/hr.yaml", release("web", "charts/web", "")),
            chart_yaml(),
            ("charts/web/charts/deep/Chart.yaml", "apiVersion: v2\nname: deep\nversion: 0.1.0\n".into()),
            ("charts/web/charts/deep/templates/x.yaml", "a: 1\nb: {{ fail \"no good\" }}\n".into()),
            ("good/cm.yaml", config_map("a", "{k: v}")),
        ],
    );
    let web = unit(&plan, "hr/apps/web");
    let text = errors(web);
    assert!(text.contains("web/charts/deep/templates/x.yaml:2") && text.contains("no good"), "{text}");
    assert_eq!(unit(&plan, "ks/flux-system/good").state, UnitState::Ok);
}

#[test]
fn an_object_without_a_namespace_is_refused_as_flux_refuses_it() {
    let plan = cluster(
        &kustomization("app", "./app", ""),
        vec![("app/cm.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n---\napiVersion: v1\nkind: Namespace\nmetadata: {name: n, namespace: x}\n".into())],
    );
    let app = unit(&plan, "ks/flux-system/app");
    assert!(errors(app).contains("ConfigMap/a namespace not specified"), "{}", errors(app));
    assert_eq!(object(app, "Namespace", "n").namespace(), "");
}

#[test]
fn charts_not_in_the_mirror_and_archives_that_lead_out_fail_by_name() {
    let dir = tempfile::tempdir().expect("a folder");
    let charts = dir.path().join("charts");
    std::fs::create_dir(&charts).expect("made");
    let mut builder = tar::Builder::new(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast()));
    let mut header = tar::Header::new_gnu();
    header.as_gnu_mut().expect("gnu").name[..17].copy_from_slice(b"evil/../../passwd");
    header.set_size(1);
    header.set_cksum();
    builder.append(&header, &b"x"[..]).expect("added");
    let bytes = builder.into_inner().and_then(flate2::write::GzEncoder::finish).expect("packed");
    std::fs::write(charts.join("evil-1.0.0.tgz"), bytes).expect("written");
    std::fs::write(
        charts.join("index.yaml"),
        "apiVersion: v1\nentries:\n  evil: [{version: 1.0.0, urls: [evil-1.0.0.tgz]}]\n",
    )
    .expect("written");

    let repository = "apiVersion: source.toolkit.fluxcd.io/v1\nkind: HelmRepository\nmetadata: {name: charts, namespace: apps}\nspec: {url: https://charts.example.org}\n";
    let hr = |name: &str, version: &str| {
        format!(
            "---\napiVersion: helm.toolkit.fluxcd.io/v2\nkind: HelmRelease\nmetadata: {{name: {name}-{}, namespace: apps}}\nspec:\n  interval: 1h\n  chart: {{spec: {{chart: {name}, version: {version}, sourceRef: {{kind: HelmRepository, name: charts}}}}}}\n",
            version.replace('.', "-")
        )
    };
    let sync = format!("{SOURCE}{}", kustomization("cluster", "./cluster", ""));
    let files = [
        ("cluster/sync.yaml", sync),
        (
            "cluster/hr.yaml",
            format!("{repository}{}{}{}", hr("evil", "1.0.0"), hr("evil", "1.0.1"), hr("gone", "2.0.0")),
        ),
    ];
    let plan = make_with(&files, FetcherOptions { mirrors: vec![dir.path().into()], ..FetcherOptions::default() });
    let evil = errors(unit(&plan, "hr/apps/evil-1-0-0"));
    assert!(evil.contains("chart evil 1.0.0"), "{evil}");
    let other = errors(unit(&plan, "hr/apps/evil-1-0-1"));
    assert!(
        other.contains("chart evil 1.0.1 of https://charts.example.org was not found") && other.contains("(has 1.0.0)"),
        "{other}"
    );
    let gone = errors(unit(&plan, "hr/apps/gone-2-0-0"));
    assert!(gone.contains("has no chart of that name"), "{gone}");
    assert_eq!(unit(&plan, "ks/flux-system/cluster").state, UnitState::Ok);
}

#[test]
fn releases_alone_are_roots_and_unread_ones_are_named() {
    let chart = [("charts/web/Chart.yaml", chart_yaml().1), ("charts/web/templates/cm.yaml", CM.to_string())];
    let mut files = vec![(
        "hr.yaml",
        SOURCE.replace("flux-system", "apps")
            + &release("web", "charts/web", "").replace(", namespace: flux-system}", "}"),
    )];
    files.extend(chart.clone());
    let plan = make(&files);
    assert!(unit(&plan, "hr/apps/web").is_root);

    let mut files = vec![
        ("cluster/sync.yaml", format!("{SOURCE}{}", kustomization("cluster", "./cluster", ""))),
        ("old/hr.yaml", release("web", "charts/web", "")),
    ];
    files.extend(chart);
    let plan = make(&files);
    assert_eq!(plan.units.len(), 1);
    assert!(plan.warnings.iter().any(|w| w.contains("old/hr.yaml")), "{:?}", plan.warnings);
}

/// Two clusters in one repository, as `flux bootstrap` lays them out.
fn clusters_tree() -> Vec<(String, String)> {
    let mut files = Vec::new();
    for name in ["production", "staging"] {
        let sync = format!("{SOURCE}{}", kustomization("flux-system", &format!("./clusters/{name}"), ""));
        let units = kustomization("apps", &format!("./apps/{name}"), "")
            + &kustomization(&format!("only-{name}"), &format!("./only/{name}"), "");
        files.push((format!("clusters/{name}/flux-system/gotk-sync.yaml"), sync));
        files.push((format!("clusters/{name}/apps.yaml"), units));
        files.push((format!("apps/{name}/cm.yaml"), config_map("a", &format!("{{cluster: {name}}}"))));
        files.push((format!("only/{name}/cm.yaml"), config_map("b", "{}")));
    }
    files
}

#[test]
fn of_several_clusters_the_asked_folder_chooses_one() {
    let make = |focus: &str| {
        let tree: MemoryTree = clusters_tree().into_iter().collect();
        let fetcher = Fetcher::new(FetcherOptions { offline: true, ..FetcherOptions::default() }).expect("a fetcher");
        let input = TreeInput { focus: focus.into(), ..TreeInput::new(tree) };
        plan(&input, &Arc::new(fetcher), &PlanOptions::default())
    };
    for (focus, cluster) in [
        ("clusters/staging", "staging"),
        ("clusters/production", "production"),
        ("clusters/staging/flux-system", "staging"),
        ("", "production"),
    ] {
        let plan = make(focus);
        let mut ids: Vec<String> = plan.units.iter().map(|u| u.id.name.to_string()).collect();
        ids.sort();
        assert_eq!(ids, ["apps", "flux-system", format!("only-{cluster}").as_str()], "{focus:?}");
        let app = object(unit(&plan, "ks/flux-system/apps"), "ConfigMap", "a");
        assert_eq!(app.value.str_at(["data", "cluster"]), Some(cluster), "{focus:?}");
        let told = plan.warnings.iter().any(|w| w.contains("give clusters/staging as path for the other"));
        assert_eq!(told, focus.is_empty(), "{focus:?}: {:?}", plan.warnings);
    }
}

#[test]
fn what_a_failed_unit_would_make_does_not_come_up_without_it() {
    let from = "  postBuild: {substituteFrom: [{kind: ConfigMap, name: vars}]}\n";
    let files = |vars: &str| {
        vec![
            ("apps/web/ks.yaml", kustomization("web", "./apps/web/app", "")),
            ("apps/kustomization.yaml", "resources: [web/ks.yaml]\n".to_string()),
            ("apps/web/app/cm.yaml", config_map("a", "{}")),
            ("cluster/vars.yaml", config_map(vars, "{a: b}").replace("apps", "flux-system")),
        ]
    };
    let plan = cluster(&kustomization("apps", "./apps", from), files("vars"));
    let web = unit(&plan, "ks/flux-system/web");
    assert!(!web.is_root && web.state == UnitState::Ok);
    let plan = cluster(&kustomization("apps", "./apps", from), files("other"));
    assert_eq!(unit(&plan, "ks/flux-system/apps").state, UnitState::Failed);
    assert_eq!(plan.units.len(), 2, "web is not made by anything");
}

#[test]
fn encrypted_secrets_are_named_and_placeholders_stand_for_their_values() {
    let secret = "apiVersion: v1\nkind: Secret\nmetadata: {name: vars, namespace: flux-system}\nstringData: {host: 'ENC[AES256_GCM,data:eA==,iv:eA==,tag:eA==,type:str]'}\nsops: {mac: 'ENC[x]', age: [{recipient: age1xyz, enc: x}]}\n";
    let decryption = "  decryption: {provider: sops}\n";
    let from = "  postBuild: {substituteFrom: [{kind: Secret, name: vars}]}\n";
    let units = kustomization("vars", "./vars", decryption)
        + &kustomization("app", "./app", from)
        + &kustomization("bare", "./bare", "");
    let plan = cluster(
        &units,
        vec![
            ("vars/s.yaml", secret.into()),
            ("vars/cm.yaml", config_map("a", "{k: v}")),
            ("app/cm.yaml", config_map("b", "{host: '${host}'}")),
            ("bare/s.yaml", secret.replace("name: vars", "name: bare")),
        ],
    );
    let vars = unit(&plan, "ks/flux-system/vars");
    assert_eq!(
        vars.unresolved,
        [
            "Secret/flux-system/vars is SOPS encrypted for age1xyz and no key at hand opens it: its values are placeholders"
        ]
    );
    let masked = object(vars, "Secret", "vars");
    assert_eq!(masked.value.str_at(["stringData", "host"]), Some("..PLACEHOLDER_host.."));
    assert!(vars.state == UnitState::Ok && masked.value.get("sops").is_none());
    // What reads it renders as far as it can, and says what it lacks.
    let app = unit(&plan, "ks/flux-system/app");
    assert_eq!(app.unresolved, ["values of Secret/vars (substituteFrom)"]);
    assert_eq!(object(app, "ConfigMap", "b").value.str_at(["data", "host"]), Some("..PLACEHOLDER_host.."));
    assert_eq!(app.state, UnitState::Ok);
    let bare = unit(&plan, "ks/flux-system/bare");
    assert!(errors(bare).contains("configuring decryption is required"), "{}", errors(bare));
}

#[test]
fn secrets_that_a_cluster_makes_or_a_person_applies_do_not_fail_those_that_read_them() {
    let from = |name: &str| format!("  postBuild: {{substituteFrom: [{{kind: Secret, name: {name}}}]}}\n");
    let units = kustomization("made", "./made", "")
        + &kustomization("reads", "./reads", &from("domain"))
        + &kustomization("by-hand", "./by-hand", &from("boot"))
        + &kustomization("gone", "./gone", &from("nowhere"));
    let plan = cluster(
        &units,
        vec![
            (
                "made/es.yaml",
                "apiVersion: external-secrets.io/v1\nkind: ExternalSecret\nmetadata: {name: domain, namespace: flux-system}\nspec: {dataFrom: [{extract: {key: d}}]}\n".into(),
            ),
            ("reads/cm.yaml", config_map("a", "{host: 'app.${domain}'}")),
            ("by-hand/cm.yaml", config_map("b", "{token: '${token}'}")),
            ("gone/cm.yaml", config_map("c", "{x: '${x}'}")),
            (
                "bootstrap/secret.yaml",
                "apiVersion: v1\nkind: Secret\nmetadata: {name: boot, namespace: flux-system}\nstringData: {token: hunter2}\n".into(),
            ),
        ],
    );
    let reads = unit(&plan, "ks/flux-system/reads");
    assert_eq!(object(reads, "ConfigMap", "a").value.str_at(["data", "host"]), Some("app...PLACEHOLDER_domain.."));
    assert_eq!(reads.unresolved, ["values of Secret/domain (substituteFrom)"]);
    // A Secret in a file that no unit reads is known to exist; its values are not looked at.
    let by_hand = unit(&plan, "ks/flux-system/by-hand");
    assert_eq!(object(by_hand, "ConfigMap", "b").value.str_at(["data", "token"]), Some("..PLACEHOLDER_token.."));
    assert!(errors(unit(&plan, "ks/flux-system/gone")).contains("nowhere, which does not exist"));
}

#[test]
fn what_no_kustomization_lists_and_what_was_put_aside_is_no_root() {
    let plan = cluster(
        &kustomization("apps", "./apps", ""),
        vec![
            ("apps/kustomization.yaml", "resources: [web/ks.yaml]\n".to_string()),
            ("apps/web/ks.yaml", kustomization("web", "./apps/web/app", "")),
            ("apps/web/app/cm.yaml", config_map("a", "{}")),
            ("apps/lost/ks.yaml", kustomization("lost", "./apps/lost/app", "")),
            ("apps/lost/app/cm.yaml", config_map("b", "{}")),
            (".archive/old/ks.yaml", kustomization("old", "./apps/web/app", "")),
        ],
    );
    let mut names: Vec<&str> = plan.units.iter().map(|u| u.id.name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["apps", "cluster", "web"]);
    let told = "Kustomizations in files that no unit reads are never applied: apps/lost/ks.yaml";
    assert!(plan.warnings.iter().any(|w| w == told), "{:?}", plan.warnings);
}

#[test]
fn remote_resources_that_nobody_has_are_named_and_the_rest_renders() {
    let plan = cluster(
        &kustomization("apps", "./apps", ""),
        vec![
            (
                "apps/kustomization.yaml",
                "resources: [cm.yaml, 'https://example.org/crds.yaml', 'github.com/o/r//config?ref=v1']\n".to_string(),
            ),
            ("apps/cm.yaml", config_map("a", "{}")),
        ],
    );
    let apps = unit(&plan, "ks/flux-system/apps");
    assert_eq!((apps.objects.len(), apps.state.clone()), (1, UnitState::Ok), "{}", errors(apps));
    assert!(apps.unresolved.iter().any(|u| u.starts_with("remote resource https://example.org/crds.yaml: ")));
    assert!(apps.unresolved.iter().any(|u| u.starts_with("remote resource github.com/o/r//config?ref=v1: ")));
}

#[test]
fn an_object_that_a_chart_makes_twice_is_refused_as_flux_refuses_it() {
    let twice = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n---\n\
                 apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n";
    let hook = "apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: b}\n---\n\
                apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: b, annotations: {helm.sh/hook: pre-install}}\n";
    let local = "apiVersion: v1\nkind: ConfigMap\n\
                 metadata: {name: c, annotations: {config.kubernetes.io/local-config: 'true'}}\n";
    let with = |template: &str| {
        let plan = cluster(
            &release("one", "./charts/web", ""),
            vec![chart_yaml(), ("charts/web/templates/all.yaml", template.to_string())],
        );
        let unit = unit(&plan, "HelmRelease/apps/one");
        (errors(unit), unit.warnings.join("\n"), unit.objects.len())
    };
    assert!(with(twice).0.contains("already registered id: ConfigMap.v1.[noGrp]/a.[noNs]"), "{}", with(twice).0);
    // Only newer versions refuse what is a hook besides.
    let (errors, warnings, objects) = with(hook);
    assert!(errors.is_empty() && warnings.contains("postRenderStrategy") && objects == 1, "{errors} {warnings}");
    assert_eq!(with(local).2, 0);
}

#[test]
fn labels_that_are_not_all_text_are_lost_as_flux_loses_them() {
    let odd = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, namespace: apps, labels: {x: true, y: z}}\n";
    let plan = cluster("", vec![("cluster/odd.yaml", odd.to_string())]);
    let object = object(unit(&plan, "Kustomization/flux-system/cluster"), "ConfigMap", "a");
    assert_eq!(object.label("y"), None);
    assert_eq!(object.label("kustomize.toolkit.fluxcd.io/name"), Some("cluster"));
}

#[test]
fn a_chart_is_built_with_the_dependencies_it_was_locked_to() {
    let head = "apiVersion: v2\nname: demo\nversion: 1.0.0\ndependencies:\n\
                - {name: other, version: '>=1.0.0', repository: 'https://charts.example.org'}\n";
    let lock = "dependencies:\n- {name: other, version: 1.2.3, repository: 'https://charts.example.org'}\n";
    let plan = cluster(
        &release("one", "./charts/demo", ""),
        vec![("charts/demo/Chart.yaml", head.to_string()), ("charts/demo/Chart.lock", lock.to_string())],
    );
    let said = errors(unit(&plan, "HelmRelease/apps/one"));
    assert!(said.contains("chart other 1.2.3"), "{said}");
}

#[test]
fn what_an_artifact_is_copied_from_is_the_tree_where_its_paths_are() {
    // As `flux bootstrap` leaves it: the source itself is in the cluster only.
    let from = "---\napiVersion: source.extensions.fluxcd.io/v1beta1\nkind: ArtifactGenerator\nmetadata: {name: parts, namespace: flux-system}\nspec:\n  sources: [{alias: all, kind: GitRepository, name: flux-system}]\n  artifacts:\n    - name: apps\n      copy: [{from: '@all/apps/**', to: '@artifact/'}]\n";
    let app = kustomization("apps", "./web", "")
        .replace("{kind: GitRepository, name: home}", "{kind: ExternalArtifact, name: apps}");
    let plan = make(&[("cluster/units.yaml", format!("{app}{from}")), ("apps/web/cm.yaml", config_map("a", "{k: v}"))]);
    let apps = unit(&plan, "ks/flux-system/apps");
    assert_eq!(errors(apps), "");
    assert_eq!(object(apps, "ConfigMap", "a").provenance.file.as_deref(), Some("apps/web/cm.yaml"));
    assert_eq!(plan.tree_sources[0].id, "GitRepository/flux-system/flux-system");
}

#[test]
fn another_branch_of_the_repository_is_not_the_tree() {
    let tenant = SOURCE.replace("name: home,", "name: tenant,").replace("{url:", "{ref: {branch: tenant}, url:");
    let own = kustomization("tenant", "./production", "").replace("name: home}", "name: tenant}");
    let files = |path: &'static str| {
        let units = format!("{SOURCE}{}---\n{tenant}{own}", kustomization("cluster", "./cluster", ""));
        [("cluster/sync.yaml", units), (path, config_map("a", "{k: v}"))]
    };
    let elsewhere = make(&files("other/cm.yaml"));
    let said = errors(unit(&elsewhere, "ks/flux-system/tenant"));
    assert!(said.contains("https://example.org/me/home") && !said.contains("path not found"), "{said}");
    // Where its folder is there, the branch has what the tree has.
    let here = make(&files("production/cm.yaml"));
    assert_eq!(errors(unit(&here, "ks/flux-system/tenant")), "");
}

#[test]
fn a_unit_whose_name_is_a_variable_is_a_part_of_others_and_no_root() {
    let part = kustomization("${APP}-db", "./db", "");
    let plan = cluster(
        &kustomization("app", "./app", ""),
        vec![
            ("app/cm.yaml", config_map("a", "{k: v}")),
            ("db/cm.yaml", config_map("b", "{k: v}")),
            ("parts/db/ks.yaml", part),
        ],
    );
    let ids: Vec<String> = plan.units.iter().map(|u| u.id.to_string()).collect();
    assert_eq!(ids, ["Kustomization/flux-system/cluster", "Kustomization/flux-system/app"]);
}

#[test]
fn a_chart_may_be_copied_together_for_a_release() {
    let from = "---\napiVersion: source.extensions.fluxcd.io/v1beta1\nkind: ArtifactGenerator\nmetadata: {name: parts, namespace: apps}\nspec:\n  sources: [{alias: all, kind: GitRepository, name: home, namespace: flux-system}]\n  artifacts:\n    - name: web\n      copy: [{from: '@all/charts/web', to: '@artifact/'}]\n";
    let release = "---\napiVersion: helm.toolkit.fluxcd.io/v2\nkind: HelmRelease\nmetadata: {name: web, namespace: apps}\nspec: {interval: 1h, chartRef: {kind: ExternalArtifact, name: web}}\n";
    let sync = format!("{SOURCE}{}", kustomization("cluster", "./cluster", ""));
    let plan = make(&[
        ("cluster/sync.yaml", sync),
        ("cluster/web.yaml", format!("{from}{release}")),
        ("charts/web/Chart.yaml", chart_yaml().1),
        ("charts/web/templates/cm.yaml", CM.to_string()),
    ]);
    let web = unit(&plan, "hr/apps/web");
    assert_eq!(errors(web), "");
    assert_eq!(web.objects.len(), 1);
}

#[test]
fn the_tag_beside_a_digest_says_which_chart_of_a_mirror_is_meant() {
    let dir = tempfile::tempdir().expect("a folder");
    let charts = dir.path().join("charts");
    std::fs::create_dir(&charts).expect("made");
    let mut builder = tar::Builder::new(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast()));
    for (name, text) in [("web/Chart.yaml", chart_yaml().1), ("web/templates/cm.yaml", CM.to_string())] {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        builder.append_data(&mut header, name, text.as_bytes()).expect("added");
    }
    let bytes = builder.into_inner().and_then(flate2::write::GzEncoder::finish).expect("packed");
    std::fs::write(charts.join("web-1.0.0.tgz"), bytes).expect("written");
    std::fs::write(
        charts.join("index.yaml"),
        "apiVersion: v1\nentries:\n  web: [{version: 1.0.0, urls: [web-1.0.0.tgz]}]\n",
    )
    .expect("written");
    let release = |reference: &str| {
        format!(
            "---\napiVersion: source.toolkit.fluxcd.io/v1\nkind: OCIRepository\nmetadata: {{name: web, namespace: apps}}\nspec:\n  interval: 1h\n  url: oci://ghcr.io/example/charts/web\n  ref: {{{reference}}}\n---\napiVersion: helm.toolkit.fluxcd.io/v2\nkind: HelmRelease\nmetadata: {{name: web, namespace: apps}}\nspec: {{interval: 1h, chartRef: {{kind: OCIRepository, name: web}}}}\n"
        )
    };
    let sync = format!("{SOURCE}{}", kustomization("cluster", "./cluster", ""));
    let with = |reference: &str| {
        let files = [("cluster/sync.yaml", sync.clone()), ("cluster/web.yaml", release(reference))];
        make_with(&files, FetcherOptions { mirrors: vec![dir.path().into()], ..FetcherOptions::default() })
    };
    let plan = with("tag: 1.0.0, digest: 'sha256:aa'");
    let web = unit(&plan, "hr/apps/web");
    assert_eq!(errors(web), "");
    assert!(web.warnings.iter().any(|w| w.contains("whether it is sha256:aa")), "{:?}", web.warnings);
    let plan = with("tag: 1.0.1, digest: 'sha256:aa'");
    assert!(errors(unit(&plan, "hr/apps/web")).contains("chart web sha256:aa"));
}
