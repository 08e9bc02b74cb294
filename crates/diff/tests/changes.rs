//! What differs, and why: units, objects, fields, images, charts; what is not known; what is not shown.

mod common;

use common::{SYNC, Tree, diff, names, release, unit, unit_change};
use druse_diff::fields::flat::Mechanical;
use druse_diff::model::{Cause, ChangeKind, SideName};
use druse_diff::output;

const APP: &str = "Kustomization/flux-system/app";
const CLUSTER: &str = "Kustomization/flux-system/cluster";

fn config_map(name: &str, value: &str) -> String {
    format!("---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}, namespace: a}}\ndata: {{k: '{value}'}}\n")
}

#[test]
fn a_tree_does_not_differ_from_itself() {
    let tree = Tree::app(&config_map("one", "x"));
    let found = diff(&tree, &tree);
    assert!(found.is_empty() && found.dangers.is_empty() && found.not_rendered.is_empty());
    assert_eq!(output::text(&found, output::Style::default()), "");
}

#[test]
fn a_changed_file_is_named_and_only_its_unit_is_touched() {
    let base = Tree::app(&config_map("one", "x"))
        .file("app/kustomization.yaml", "resources: [all.yaml]\n")
        .file("app/unread.txt", "1");
    let head = base.clone().file("app/all.yaml", &config_map("one", "y")).file("app/unread.txt", "2");
    let found = diff(&base, &head);
    assert_eq!(names(&found), [APP]);
    let app = unit_change(&found, APP);
    assert_eq!(app.causes, [Cause::File { path: "app/all.yaml".into(), change: ChangeKind::Changed }]);
    let object = &app.objects[0];
    assert_eq!((object.object.as_str(), object.change), ("ConfigMap/a/one", ChangeKind::Changed));
    assert_eq!(object.place.to_string(), "app/all.yaml:2");
    assert_eq!(object.fields.len(), 1);
    assert_eq!(object.fields[0].path, "data.k");
}

#[test]
fn files_that_came_and_went_are_named() {
    let base = Tree::app(&config_map("one", "x")).file("app/old.yaml", &config_map("old", "x"));
    let head = Tree::app(&config_map("one", "x")).file("app/new.yaml", &config_map("new", "x"));
    let found = diff(&base, &head);
    assert_eq!(
        unit_change(&found, APP).causes,
        [
            Cause::File { path: "app/new.yaml".into(), change: ChangeKind::Added },
            Cause::File { path: "app/old.yaml".into(), change: ChangeKind::Removed },
        ]
    );
    let objects: Vec<String> =
        unit_change(&found, APP).objects.iter().map(|o| format!("{}{}", o.change.sign(), o.object)).collect();
    assert_eq!(objects, ["+ConfigMap/a/new", "-ConfigMap/a/old"]);
}

#[test]
fn variables_are_named_by_where_they_come_from() {
    let post = "  postBuild:\n    substitute: {own: one}\n    substituteFrom: [{kind: ConfigMap, name: vars}]\n";
    let vars = |v: &str| {
        format!(
            "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: vars, namespace: flux-system}}\ndata: {{domain: {v}, same: x}}\n"
        )
    };
    let tree = |own: &str, domain: &str| {
        Tree::app(&config_map("one", "${own}-${domain}"))
            .file("cluster/units.yaml", &unit("app", &post.replace("own: one", &format!("own: {own}"))))
            .file("cluster/vars.yaml", &vars(domain))
    };
    let found = diff(&tree("one", "a.org"), &tree("one", "b.org"));
    assert_eq!(
        unit_change(&found, APP).causes,
        [Cause::Variables {
            names: vec!["domain".into()],
            from: "ConfigMap/flux-system/vars".into(),
            made_by: Some(CLUSTER.into()),
        }]
    );
    let found = diff(&tree("one", "a.org"), &tree("two", "a.org"));
    assert_eq!(
        unit_change(&found, APP).causes,
        [Cause::Variables { names: vec!["own".into()], from: "spec.postBuild.substitute".into(), made_by: None }]
    );
}

fn chart(version: &str, value: &str, more: &str) -> Tree {
    let template = "apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: web\n  labels: {helm.sh/chart: \"{{ .Chart.Name }}-{{ .Chart.Version }}\"}\nspec:\n  selector: {matchLabels: {app: web}}\n  template:\n    metadata:\n      labels: {app: web}\n      annotations: {checksum/config: {{ .Values.text | sha256sum }}}\n    spec: {containers: [{name: web, image: \"example.org/web:{{ .Values.tag }}\"}]}\n---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: web}\ndata: {text: {{ .Values.text | quote }}}\n";
    Tree::default()
        .file("cluster/sync.yaml", SYNC)
        .file("cluster/release.yaml", &release("app", more))
        .file(
            "charts/app/Chart.yaml",
            &format!("apiVersion: v2\nname: app\nversion: {version}\nappVersion: v{version}\n"),
        )
        .file("charts/app/values.yaml", &format!("tag: 1.0.0\ntext: {value}\n"))
        .file("charts/app/templates/all.yaml", template)
}

#[test]
fn a_release_is_touched_by_its_values() {
    let head = chart("1.0.0", "a", "  values: {tag: 1.1.0}\n");
    let found = diff(&chart("1.0.0", "a", "  values: {tag: 1.0.0}\n"), &head);
    let app = unit_change(&found, "HelmRelease/apps/app");
    assert_eq!(app.causes, [Cause::Values { fields: vec!["tag".into()] }]);
    assert_eq!(app.objects[0].place.to_string(), "cluster/release.yaml:2 (app/templates/all.yaml)");
    let image = &found.images[0];
    assert_eq!((image.image.as_str(), image.from.as_str(), image.to.as_str()), ("example.org/web", "1.0.0", "1.1.0"));
    assert_eq!(image.used_by[0].object, "Deployment/apps/web");
    // The HelmRelease object itself differs too, in the unit that makes it.
    assert_eq!(unit_change(&found, CLUSTER).objects[0].object, "HelmRelease/apps/app");
}

#[test]
fn values_from_elsewhere_are_named() {
    let from = "  valuesFrom: [{kind: ConfigMap, name: settings}]\n";
    let settings = |tag: &str| {
        format!(
            "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: settings, namespace: apps}}\ndata: {{values.yaml: 'tag: {tag}'}}\n"
        )
    };
    let tree = |tag: &str| chart("1.0.0", "a", from).file("cluster/settings.yaml", &settings(tag));
    let found = diff(&tree("1.0.0"), &tree("1.0.1"));
    assert_eq!(
        unit_change(&found, "HelmRelease/apps/app").causes,
        [Cause::ValuesFrom {
            object: "ConfigMap/apps/settings".into(),
            keys: vec!["values.yaml".into()],
            made_by: Some(CLUSTER.into()),
        }]
    );
}

#[test]
fn what_only_echoes_a_change_is_marked() {
    let found = diff(&chart("1.0.0", "a", ""), &chart("1.0.1", "b", ""));
    let app = unit_change(&found, "HelmRelease/apps/app");
    let web = app.objects.iter().find(|o| o.object == "Deployment/apps/web").expect("it differs");
    assert!(web.is_mechanical());
    let marks: Vec<_> = web.fields.iter().map(|f| f.mechanical).collect();
    assert_eq!(marks, [Some(Mechanical::VersionLabel), Some(Mechanical::Checksum)]);
    let config = app.objects.iter().find(|o| o.object == "ConfigMap/apps/web").expect("it differs");
    assert!(!config.is_mechanical());
    let chart = &found.charts[0];
    assert_eq!((chart.from.as_str(), chart.to.as_str()), ("1.0.0", "1.0.1"));
    assert_eq!((chart.app_from.as_str(), chart.app_to.as_str()), ("v1.0.0", "v1.0.1"));
    assert!(app.causes.contains(&Cause::Chart { from: "app 1.0.0".into(), to: "app 1.0.1".into() }));
}

#[test]
fn a_generated_config_map_is_one_object_under_two_names() {
    let kustomization =
        "namespace: a\nresources: [pod.yaml]\nconfigMapGenerator: [{name: settings, literals: [k=VALUE]}]\n";
    let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: {containers: [{name: c, image: 'x:1', envFrom: [{configMapRef: {name: settings}}]}]}\n";
    let tree = |v: &str| {
        Tree::app("")
            .without("app/all.yaml")
            .file("app/kustomization.yaml", &kustomization.replace("VALUE", v))
            .file("app/pod.yaml", pod)
    };
    let found = diff(&tree("one"), &tree("two"));
    let app = unit_change(&found, APP);
    assert_eq!(app.counts().changed, 2, "{:?}", app.objects);
    assert_eq!(app.counts().total(), 2);
    let map = app.objects.iter().find(|o| o.object.starts_with("ConfigMap/a/settings-")).expect("it differs");
    assert!(map.renamed_from.as_deref().is_some_and(|n| n.starts_with("settings-")));
    let pod = app.objects.iter().find(|o| o.object == "Pod/a/p").expect("it differs");
    assert!(pod.is_mechanical());
    assert!(found.dangers.is_empty(), "{:?}", found.dangers);
}

#[test]
fn secret_values_are_not_shown_wherever_they_went() {
    let secret = |v: &str| {
        format!(
            "---\napiVersion: v1\nkind: Secret\nmetadata: {{name: vars, namespace: flux-system}}\nstringData: {{token: {v}, same: same-for-both}}\n"
        )
    };
    let post = "  postBuild:\n    substituteFrom: [{kind: Secret, name: vars}]\n";
    let tree = |v: &str| {
        Tree::app(&config_map("one", "prefix-${token}"))
            .file("cluster/units.yaml", &unit("app", post))
            .file("cluster/vars.yaml", &secret(v))
    };
    let (base, head) = (tree("first-value-of-it"), tree("second-value-of-it"));
    let found = diff(&base, &head);
    let field = &unit_change(&found, CLUSTER).objects[0].fields[0];
    assert_eq!((field.path.as_str(), field.hidden), ("stringData.token", true));
    assert_eq!((&field.from, &field.to), (&None, &None));
    let used = &unit_change(&found, APP).objects[0].fields[0];
    assert!(used.hidden && used.path == "data.k");
    let added = diff(
        &tree("first-value-of-it").without("cluster/vars.yaml").file("cluster/units.yaml", &unit("app", "")),
        &head,
    );
    for d in [&found, &added] {
        let all = output::Style { all: true, ..Default::default() };
        for text in [output::json(d), output::html(d), output::markdown(d), output::text(d, all)] {
            assert!(!text.contains("value-of-it") && !text.contains("same-for-both"), "{text}");
        }
    }
    assert!(output::json(&added).contains("token"), "keys are shown");
}

#[test]
fn what_does_not_render_is_not_deleted() {
    let base = Tree::app(&config_map("one", "x"));
    let head = base.clone().file("app/all.yaml", "kind: [\n");
    let found = diff(&base, &head);
    let app = unit_change(&found, APP);
    assert!(app.objects.is_empty());
    let dangers: Vec<&str> = found.dangers.iter().map(|d| d.code).collect();
    assert_eq!(dangers, ["unit-fails"]);
    assert_eq!(found.dangers[0].place.file, "app/all.yaml");
    assert_eq!(app.not_compared.as_deref(), Some("failed in head"));
    assert!(app.causes.contains(&Cause::FailsNow));
    let entry = &found.not_rendered[0];
    assert_eq!((entry.side.clone(), entry.unit.as_str(), entry.both), (SideName::Head, APP, false));
    assert!(entry.reasons[0].contains("app/all.yaml"), "{:?}", entry.reasons);
    // And what renders again is not new.
    let back = diff(&head, &base);
    assert!(unit_change(&back, APP).objects.is_empty());
    assert_eq!(back.not_rendered[0].side, SideName::Base);
}

#[test]
fn units_that_a_broken_unit_would_make_are_not_removed() {
    let base = Tree::app(&config_map("one", "x"));
    let head = base.clone().file("cluster/units.yaml", "kind: [\n");
    let found = diff(&base, &head);
    assert!(found.dangers.iter().all(|d| d.code == "unit-fails"), "{:?}", found.dangers);
    assert!(!names(&found).contains(&APP));
    let states: Vec<(&str, &str)> = found.not_rendered.iter().map(|n| (n.unit.as_str(), n.state.as_str())).collect();
    assert!(states.contains(&(APP, "unknown")), "{states:?}");
}

#[test]
fn charts_that_are_not_at_hand_are_not_deletions() {
    let remote = "---\napiVersion: source.toolkit.fluxcd.io/v1\nkind: HelmRepository\nmetadata: {name: r, namespace: apps}\nspec: {url: https://charts.example.org}\n---\napiVersion: helm.toolkit.fluxcd.io/v2\nkind: HelmRelease\nmetadata: {name: app, namespace: apps}\nspec: {interval: 1h, chart: {spec: {chart: app, version: 2.0.0, sourceRef: {kind: HelmRepository, name: r}}}}\n";
    let found = diff(&chart("1.0.0", "a", ""), &chart("1.0.0", "a", "").file("cluster/release.yaml", remote));
    assert!(unit_change(&found, "HelmRelease/apps/app").objects.is_empty());
    assert!(found.dangers.iter().all(|d| d.code != "pruned"), "{:?}", found.dangers);
    assert_eq!(found.charts[0].to, "2.0.0");
}

#[test]
fn json_keeps_its_shape() {
    let found = diff(&Tree::app(&config_map("one", "x")), &Tree::app(&config_map("one", "y")));
    let json: serde_json::Value = serde_json::from_str(&output::json(&found)).expect("JSON");
    let keys: Vec<&String> = json.as_object().expect("a map").keys().collect();
    assert_eq!(keys, ["version", "summary", "base", "head", "dangers", "units", "images", "charts", "notRendered"]);
    assert_eq!(json["summary"]["objects"]["changed"], 1);
    assert_eq!(json["units"][0]["objects"][0]["fields"][0]["from"], "x");
}
