//! Faults in a tree, end to end: each is said with what, where and what would help; the exit code is 1; all that does
//! not depend on the fault comes up.

#![allow(clippy::expect_used, clippy::unwrap_used)]

mod common;

use std::fs::{self, File};

use common::{Lab, archive, config_map, deployment, kustomization, release, remote_release, write};

#[test]
fn a_broken_document_fails_its_unit_alone() {
    let lab = Lab::new(
        &(kustomization("bad", "./bad", "") + &kustomization("after", "./after", "  dependsOn: [{name: bad}]\n")),
    );
    lab.file("bad/x.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: x\n   bad: [\n");
    lab.file("after/x.yaml", config_map("after"));
    let s = lab.settle(&[]);
    s.failed("bad", &["bad/x.yaml:5", "mapping values are not allowed"]);
    assert_eq!(s.state("after"), "waiting");
    assert_eq!(s.unit("after")["waitsFor"][0], "Kustomization/flux-system/bad");
    assert!(s.table.contains("waits for Kustomization/flux-system/bad"), "{}", s.table);
    // The same from the commands that only render: the fault on standard error, everything else on standard output.
    let r = lab.run(&mut lab.druse(&["render", ".", "--offline", "-o", "name"]));
    r.says(1, &["bad/x.yaml:5", "ConfigMap/default/good"]);
    assert!(r.stdout.contains("ConfigMap/default/after"), "what waits is still rendered:\n{r}");
    lab.run(&mut lab.druse(&["tree", ".", "--offline"])).says(1, &["bad/x.yaml:5", "Kustomization/flux-system/good"]);
    lab.run(&mut lab.druse(&["kustomize", "bad"])).says(1, &["kustomization.yaml"]);
}

#[test]
fn a_broken_document_in_the_bootstrap_folder_keeps_no_unit_from_coming_up() {
    let lab = Lab::new("");
    lab.file("cluster/more.yaml", "kind: Kustomization\n  oops\n: [");
    let s = lab.settle(&[]);
    s.ran.says(1, &[]);
    assert_eq!(s.state("cluster"), "failed", "{}", s.table);
    assert!(s.table.contains("at cluster/more.yaml:3"), "{}", s.table);
    s.ready(&["good"]);
}

#[test]
fn a_template_error_deep_in_a_subchart_names_the_template_and_its_line() {
    let lab = Lab::new(&(release("broken", "./charts/outer", "") + &release("fine", "./charts/fine", "")));
    let chart = |name: &str| format!("apiVersion: v2\nname: {name}\nversion: 1.0.0\n");
    lab.file("charts/fine/Chart.yaml", chart("fine"));
    lab.file(
        "charts/fine/templates/cm.yaml",
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: {{ .Release.Name }}}\n",
    );
    lab.file("charts/outer/Chart.yaml", chart("outer"));
    lab.file("charts/outer/charts/middle/Chart.yaml", chart("middle"));
    lab.file("charts/outer/charts/middle/charts/inner/Chart.yaml", chart("inner"));
    lab.file(
        "charts/outer/charts/middle/charts/inner/templates/cm.yaml",
        "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {{ required \"a name is needed\" .Values.name }}\n",
    );
    let s = lab.settle(&[]);
    s.failed(
        "broken",
        &["outer/charts/middle/charts/inner/templates/cm.yaml:4", "a name is needed", "cluster/units.yaml"],
    );
    s.ready(&["fine"]);
    lab.run(&mut lab.druse(&["template", "x", "charts/outer"]))
        .says(1, &["outer/charts/middle/charts/inner/templates/cm.yaml:4", "a name is needed"]);
}

#[test]
fn dependencies_in_a_circle_or_on_nobody_fail_by_name() {
    let needs = |on: &str| format!("  dependsOn: [{{name: {on}}}]\n");
    let lab = Lab::new(
        &(kustomization("one", "./one", &needs("two"))
            + &kustomization("two", "./two", &needs("one"))
            + &kustomization("lost", "./three", &needs("nobody"))),
    );
    for unit in ["one", "two", "three"] {
        lab.file(&format!("{unit}/cm.yaml"), config_map(unit));
    }
    let s = lab.settle(&[]);
    s.failed(
        "one",
        &["circle", "Kustomization/flux-system/one", "Kustomization/flux-system/two", "cluster/units.yaml:"],
    );
    s.failed("two", &["circle"]);
    s.failed("lost", &["Kustomization/flux-system/nobody", "no unit of the tree defines"]);
}

#[test]
fn a_missing_path_is_named_with_the_unit_that_names_it() {
    let lab = Lab::new(&kustomization("bad", "./nowhere", ""));
    lab.settle(&[]).failed("bad", &["nowhere", "cluster/units.yaml:11", "path not found"]);
}

#[test]
fn a_chart_not_at_hand_is_stood_in_for_by_name_or_fails_by_name() {
    let lab =
        Lab::new(&(remote_release("tls", "cert-manager", "v1.99.0") + &remote_release("other", "unheard-of", "1.2.3")));
    write(&lab.mirror().join("charts/index.yaml"), b"apiVersion: v1\nentries: {}\n");
    let mirror = lab.mirror().display().to_string();
    let s = lab.settle(&["--mirror", &mirror]);
    s.failed(
        "other",
        &["unheard-of 1.2.3", "https://charts.example.org", &mirror, "--mirror DIR", "cluster/units.yaml:"],
    );
    assert_eq!(s.state("tls"), "standIn");
    let place = s.table.find("stood in for").unwrap_or_else(|| panic!("{}", s.table));
    for word in ["chart cert-manager v1.99.0", "by cert-manager", "looked in mirror"] {
        assert!(s.table[place..].contains(word), "{}", s.table);
    }
    assert!(s.table[place..].contains(&mirror), "where it was looked for:\n{}", s.table);
    lab.settle(&["--mirror", &mirror, "--no-stand-ins", "--fresh"])
        .failed("tls", &["cert-manager v1.99.0", "https://charts.example.org", &mirror]);
    let missing = lab.path("nothing").display().to_string();
    lab.run(&mut lab.up(&["--once", "--mirror", &missing])).says(1, &[&missing, "help:"]);
}

#[test]
fn an_archive_that_reaches_out_of_itself_or_inflates_without_end_is_refused() {
    let lab = Lab::new(
        &(remote_release("climbs", "climbs", "1.0.0")
            + &remote_release("absolute", "absolute", "1.0.0")
            + &remote_release("bomb", "bomb", "1.0.0")
            + &remote_release("cut", "cut", "1.0.0")
            + &remote_release("text", "text", "1.0.0")),
    );
    let chart = |name: &str| format!("apiVersion: v2\nname: {name}\nversion: 1.0.0\n");
    let target = lab.path("written").display().to_string();
    let zeros = vec![0; 300 << 20];
    let entries = |name: &str, evil: &str, content: &[u8]| {
        archive(&[(&format!("{name}/Chart.yaml"), chart(name).as_bytes()), (evil, content)])
    };
    let bomb = entries("bomb", "bomb/files/zeros", &zeros);
    assert!(bomb.len() < 1 << 20);
    let whole = entries("cut", "cut/values.yaml", b"a: b\n");
    let mut index = "apiVersion: v1\nentries:\n".to_string();
    for (name, bytes) in [
        ("climbs", entries("climbs", "../../../../../../written", b"x")),
        ("absolute", entries("absolute", &target, b"x")),
        ("bomb", bomb),
        ("cut", whole[..whole.len() / 2].to_vec()),
        ("text", b"this is no archive".to_vec()),
    ] {
        index += &format!("  {name}:\n  - {{name: {name}, version: 1.0.0, urls: [{name}-1.0.0.tgz]}}\n");
        write(&lab.mirror().join(format!("charts/{name}-1.0.0.tgz")), &bytes);
    }
    write(&lab.mirror().join("charts/index.yaml"), index.as_bytes());
    let mirror = lab.mirror().display().to_string();
    let s = lab.settle(&["--mirror", &mirror]);
    s.failed("climbs", &["chart climbs 1.0.0 from mirror", &mirror, "parent directory", "../", "help:"]);
    s.failed("absolute", &["chart absolute 1.0.0 from mirror", "absolute paths", &target]);
    s.failed("bomb", &["chart bomb 1.0.0 from mirror", "larger than the maximum size"]);
    s.failed("cut", &["chart cut 1.0.0 from mirror", "incomplete"]);
    s.failed("text", &["chart text 1.0.0 from mirror", "does not appear to be a gzipped archive"]);
    assert!(!lab.path("written").exists());
    let file = lab.mirror().join("charts/bomb-1.0.0.tgz");
    lab.run(&mut lab.druse(&["template", "x", &file.display().to_string()])).says(1, &["larger than the maximum size"]);
}

#[test]
fn a_kind_that_a_later_unit_brings_is_waited_for() {
    let lab = Lab::new(&(kustomization("user", "./user", "") + &kustomization("crd", "./crd", "")));
    lab.file("user/w.yaml", "apiVersion: example.org/v1\nkind: Widget\nmetadata: {name: w, namespace: default}\n");
    lab.file(
        "crd/crd.yaml",
        "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {name: widgets.example.org}\nspec:\n  group: example.org\n  scope: Namespaced\n  names: {kind: Widget, plural: widgets, singular: widget, listKind: WidgetList}\n  versions: [{name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}}]\n",
    );
    let s = lab.settle(&[]);
    s.ready(&["cluster", "good", "crd", "user"]).ran.says(0, &[]);
}

#[test]
fn files_that_cannot_be_read_are_named_and_never_waited_for() {
    let mut units = String::new();
    for unit in ["huge", "pipe", "outside", "latin", "dangling", "locked"] {
        units += &kustomization(unit, &format!("./{unit}"), "");
    }
    let lab = Lab::new(&units);
    let path = |p: &str| lab.tree().join(p);
    for unit in ["huge", "pipe", "outside", "latin", "dangling", "locked"] {
        lab.file(&format!("{unit}/kustomization.yaml"), "resources: [x.yaml]\n");
    }
    File::create(path("huge/x.yaml")).unwrap().set_len(1 << 30).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(path("pipe/x.yaml")).status().unwrap().success());
    fs::write(lab.path("secret.yaml"), config_map("secret")).unwrap();
    std::os::unix::fs::symlink("../../secret.yaml", path("outside/x.yaml")).unwrap();
    std::os::unix::fs::symlink("nothing.yaml", path("dangling/x.yaml")).unwrap();
    fs::write(path("latin/x.yaml"), b"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: caf\xe9}\n").unwrap();
    fs::write(path("locked/x.yaml"), config_map("locked")).unwrap();
    fs::set_permissions(path("locked/x.yaml"), std::os::unix::fs::PermissionsExt::from_mode(0o0)).unwrap();
    // Links that lead round in circles are harmless.
    std::os::unix::fs::symlink("..", path("good/up")).unwrap();
    std::os::unix::fs::symlink("self", path("self")).unwrap();
    let s = lab.settle(&[]);
    s.failed("huge", &["huge/x.yaml", "1073741824 bytes is more than the limit"]);
    s.failed("pipe", &["pipe/x.yaml", "not a regular file"]);
    s.failed("outside", &["outside/x.yaml", "outside"]);
    s.failed("dangling", &["dangling/x.yaml"]);
    s.failed("latin", &["latin/x.yaml", "UTF-8"]);
    if fs::read(path("locked/x.yaml")).is_err() {
        s.failed("locked", &["locked/x.yaml", "ermission denied"]);
    } else {
        eprintln!("this user may read every file: that one may not is not tested");
    }
    lab.run(&mut lab.druse(&["kustomize", "huge"])).says(1, &["huge/x.yaml", "more than the limit"]);
}

#[test]
fn an_object_that_the_api_refuses_is_named_with_its_place() {
    let lab = Lab::new(&kustomization("bad", "./bad", ""));
    lab.file("bad/a.yaml", config_map("fine") + &deployment("Not_A_Name"));
    lab.settle(&[]).failed("bad", &["Deployment/default/Not_A_Name", "bad/a.yaml:7"]);
}

#[test]
fn a_tree_without_units_and_a_path_that_is_none_are_refused() {
    let lab = Lab::bare();
    lab.file("README.md", "nothing here");
    lab.run(&mut lab.up(&["--once"])).says(1, &["no Flux Kustomization or HelmRelease", "tree", "help:"]);
    lab.run(&mut lab.druse(&["up", "nowhere", "--once"])).says(1, &["nowhere", "No such file", "help:"]);
    lab.run(&mut lab.druse(&["up", "README.md", "--once"])).says(1, &["README.md", "this is no folder"]);
    lab.run(&mut lab.druse(&["render", "nowhere"])).says(1, &["nowhere", "No such file"]);
    assert!(!lab.tree().join(".druse").exists(), "a tree that is refused gets no data directory");
}
