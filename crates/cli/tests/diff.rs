//! `druse diff`: revisions from Git, what is printed, and with which exit code. Needs `git` to make the repository.

mod common;

use std::path::Path;
use std::process::{Command, Output};

use common::{SYNC, git};

fn write(dir: &Path, path: &str, text: &str) {
    let path = dir.join(path);
    std::fs::create_dir_all(path.parent().expect("a parent")).expect("made");
    std::fs::write(path, text).expect("written");
}

fn config_map(v: &str) -> String {
    format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: a, namespace: b}}\ndata: {{k: {v}}}\n")
}

const CLAIM: &str = "apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {name: data, namespace: b}\nspec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}\n";

/// Three commits: `one`, `two` changes a value, `three` (on a branch from `one`) removes a claim. On disk: `two`.
fn repository() -> Option<tempfile::TempDir> {
    let dir = tempfile::tempdir().expect("a folder");
    let root = dir.path();
    write(root, "cluster/sync.yaml", SYNC);
    write(root, "cluster/cm.yaml", &config_map("one"));
    write(root, "cluster/pvc.yaml", CLAIM);
    if !git(root, &["init"]) {
        return None;
    }
    let commit = |name: &str| {
        assert!(git(root, &["add", "-A"]) && git(root, &["commit", "-m", name]) && git(root, &["tag", name]));
    };
    commit("one");
    assert!(git(root, &["checkout", "-b", "side"]));
    std::fs::remove_file(root.join("cluster/pvc.yaml")).expect("removed");
    commit("three");
    assert!(git(root, &["checkout", "main"]));
    write(root, "cluster/cm.yaml", &config_map("two"));
    commit("two");
    Some(dir)
}

fn druse(dir: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_druse"))
        .current_dir(dir)
        .arg("diff")
        .args(args)
        .args(["--offline", "--color", "never", "--cache"])
        .arg(dir.join(".git/druse-cache"))
        .output()
        .expect("it runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

macro_rules! repository {
    () => {
        match repository() {
            Some(dir) => dir,
            None => {
                eprintln!("skipped: needs git");
                return;
            }
        }
    };
}

#[test]
fn revisions_are_compared_from_the_object_database() {
    let dir = repository!();
    let out = druse(dir.path(), &["--base", "one", "--head", "two"]);
    assert_eq!(out.status.code(), Some(0), "{}", text(&out.stderr));
    let shown = text(&out.stdout);
    assert!(shown.starts_with("one (") && shown.contains("data.k: one → two"), "{shown}");
    // Without a head, the files on disk; without a base, the last commit.
    write(dir.path(), "cluster/cm.yaml", &config_map("disk"));
    assert!(text(&druse(dir.path(), &[]).stdout).contains("data.k: two → disk"));
    assert!(text(&druse(dir.path(), &["--base", "HEAD~1"]).stdout).contains("data.k: one → disk"));
}

#[test]
fn a_branch_is_compared_with_where_it_left() {
    let dir = repository!();
    let all = text(&druse(dir.path(), &["--base", "main", "--head", "side"]).stdout);
    assert!(all.contains("data.k: two → one") && all.contains("[pvc-removed]"), "{all}");
    let own = text(&druse(dir.path(), &["--base", "main", "--head", "side", "--merge-base"]).stdout);
    assert!(!own.contains("data.k") && own.contains("[pvc-removed]"), "{own}");
}

#[test]
fn exit_codes_are_those_of_git_diff() {
    let dir = repository!();
    let code = |args: &[&str]| druse(dir.path(), args).status.code();
    assert_eq!(code(&["--base", "one", "--head", "two", "--exit-code"]), Some(1));
    assert_eq!(code(&["--base", "two", "--head", "two", "--exit-code"]), Some(0));
    assert_eq!(code(&["--base", "one", "--head", "two", "--fail-on", "notice"]), Some(0));
    assert_eq!(code(&["--base", "one", "--head", "three", "--fail-on", "danger"]), Some(1));
    let out = druse(dir.path(), &["--base", "nowhere"]);
    assert_eq!(out.status.code(), Some(2));
    assert!(text(&out.stderr).contains("nowhere"), "{}", text(&out.stderr));
    assert_eq!(code(&["--base", "one", "--unit", "ks/flux-system/none"]), Some(2));
    assert_eq!(text(&druse(dir.path(), &["--base", "two", "--head", "two"]).stdout), "");
}

#[test]
fn two_folders_are_compared_without_git() {
    let (old, new) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    for (dir, v) in [(&old, "one"), (&new, "two")] {
        write(dir.path(), "cluster/sync.yaml", SYNC);
        write(dir.path(), "cluster/cm.yaml", &config_map(v));
    }
    let base = old.path().display().to_string();
    let out = druse(new.path(), &["--base-path", &base, "-o", "json"]);
    let json: serde_json::Value = serde_json::from_slice(&out.stdout).expect("JSON");
    assert_eq!(json["units"][0]["objects"][0]["fields"][0]["to"], "two");
    let page = text(&druse(new.path(), &["--base-path", &base, "-o", "html"]).stdout);
    assert!(page.starts_with("<!DOCTYPE html>") && page.ends_with("</html>\n"));
    let comment = text(&druse(new.path(), &["--base-path", &base, "-o", "markdown"]).stdout);
    assert!(comment.starts_with("## druse diff\n"));
}

#[test]
fn a_warm_cache_changes_nothing_about_a_diff_and_shows_no_secret() {
    let dir = repository!();
    let root = dir.path();
    let vars = "---\napiVersion: kustomize.toolkit.fluxcd.io/v1\nkind: Kustomization\nmetadata: {name: app, namespace: flux-system}\nspec:\n  {interval: 1h, path: ./app, prune: true, sourceRef: {kind: GitRepository, name: home}, postBuild: {substituteFrom: [{kind: Secret, name: vars}]}}\n";
    let secret = |v: &str| {
        format!(
            "apiVersion: v1\nkind: Secret\nmetadata: {{name: vars, namespace: flux-system}}\nstringData: {{host: {v}-of-secret}}\n"
        )
    };
    write(root, "cluster/app.yaml", vars);
    write(root, "cluster/secret.yaml", &secret("first"));
    write(
        root,
        "app/cm.yaml",
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: used, namespace: b}\ndata: {url: 'https://${host}/'}\n",
    );
    assert!(git(root, &["add", "-A"]) && git(root, &["commit", "-m", "four"]) && git(root, &["tag", "four"]));
    write(root, "cluster/secret.yaml", &secret("second"));
    let all = ["--base", "four", "--all"];
    let fresh = text(&druse(root, &[&all[..], &["--no-cache"]].concat()).stdout);
    for run in ["cold", "warm", "warm again"] {
        let out = druse(root, &all);
        assert_eq!(text(&out.stdout), fresh, "{run}");
    }
    assert!(fresh.contains("stringData.host: value changed") && fresh.contains("variables host"), "{fresh}");
    assert!(fresh.contains("data.url") && !fresh.contains("-of-secret"), "{fresh}");
    assert_eq!(text(&druse(root, &["--base", "four", "--head", "four"]).stdout), "");
}
