//! `druse render` and `druse tree`: what is printed where, and with which exit code.

mod common;

use std::path::Path;
use std::process::{Command, Output};

use common::{SYNC, kustomization};

fn tree(broken: bool) -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a folder");
    let write = |path: &str, text: &str| {
        let path = dir.path().join(path);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("made");
        std::fs::write(path, text).expect("written");
    };
    let app = kustomization("app", "./app", "  dependsOn: [{name: cluster}]\n");
    write("cluster/sync.yaml", &format!("{SYNC}{app}"));
    write("app/cm.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, namespace: b}\n");
    if broken {
        write("app/broken.yaml", "kind: [\n");
    }
    dir
}

fn druse(dir: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_druse"))
        .args(args)
        .arg(dir)
        .args(["--offline", "--color", "never", "--cache"])
        .arg(dir.join(".cache"))
        .output()
        .expect("it runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn every_object_is_printed_with_its_place() {
    let dir = tree(false);
    let out = druse(dir.path(), &["render"]);
    assert_eq!(out.status.code(), Some(0), "{}", text(&out.stderr));
    let yaml = text(&out.stdout);
    assert!(
        yaml.contains("---\n# app/cm.yaml:1 (in Kustomization/flux-system/app)\napiVersion: v1\nkind: ConfigMap\n"),
        "{yaml}"
    );
    let names = druse(dir.path(), &["render", "-o", "name", "--unit", "ks/flux-system/app"]);
    assert_eq!(text(&names.stdout), "ConfigMap/b/a\n");
    let json = druse(dir.path(), &["render", "-o", "json"]);
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).expect("JSON");
    assert_eq!(json["items"].as_array().map(Vec::len), Some(4));
}

#[test]
fn a_fault_is_reported_and_the_rest_printed() {
    let dir = tree(true);
    let out = druse(dir.path(), &["render", "-o", "name"]);
    assert_eq!(out.status.code(), Some(1));
    assert!(text(&out.stdout).contains("GitRepository.source.toolkit.fluxcd.io/flux-system/home\n"));
    let report = text(&out.stderr);
    assert!(report.contains("error: Kustomization/flux-system/app: app/broken.yaml"), "{report}");
    let other = druse(dir.path(), &["render", "-o", "name", "--unit", "ks/flux-system/cluster"]);
    assert_eq!(other.status.code(), Some(0));
    let unknown = druse(dir.path(), &["render", "--unit", "ks/flux-system/none"]);
    assert_eq!(unknown.status.code(), Some(1));
    assert!(text(&unknown.stderr).contains("is no unit of the tree"));
}

#[test]
fn the_tree_is_shown_as_table_json_and_graph() {
    let dir = tree(false);
    let table = text(&druse(dir.path(), &["tree"]).stdout);
    let app = table.lines().find(|l| l.starts_with("Kustomization/flux-system/app ")).expect("a line");
    assert!(app.contains("this tree: ./app") && app.ends_with("Kustomization/flux-system/cluster"), "{table}");
    let json: serde_json::Value =
        serde_json::from_slice(&druse(dir.path(), &["tree", "-o", "json"]).stdout).expect("JSON");
    assert_eq!(json["units"][1]["unit"], "Kustomization/flux-system/app");
    assert_eq!(json["units"][1]["dependsOn"][0], "Kustomization/flux-system/cluster");
    assert_eq!(json["units"][0]["root"], true);
    let dot = text(&druse(dir.path(), &["tree", "-o", "dot"]).stdout);
    assert!(
        dot.contains("\"Kustomization/flux-system/cluster\" -> \"Kustomization/flux-system/app\" [label=makes];"),
        "{dot}"
    );
}

#[test]
fn what_is_no_tree_is_refused() {
    let dir = tree(false);
    let out = druse(&dir.path().join("cluster/sync.yaml"), &["render"]);
    assert_eq!(out.status.code(), Some(1));
    assert!(text(&out.stderr).contains("this is no folder"), "{}", text(&out.stderr));
    let out = druse(&dir.path().join("none"), &["tree"]);
    assert_eq!(out.status.code(), Some(1));
    let out = druse(dir.path(), &["render", "--mirror", "/nowhere/at/all"]);
    assert!(text(&out.stderr).contains("no such folder to use as a mirror"), "{}", text(&out.stderr));
}
