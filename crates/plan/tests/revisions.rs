//! Revisions of a repository are planned from its object database, whatever the worktree holds; which folder is the tree
//! follows from the paths that its Kustomizations name. Needs `git` to make the repository.

#![allow(clippy::print_stderr)]

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use druse_plan::{Plan, PlanOptions, TreeInput, locate, locate_revision, plan};
use druse_source::{Fetcher, FetcherOptions};

fn git(dir: &Path, args: &[&str]) -> bool {
    Command::new("git")
        .current_dir(dir)
        .args(["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "init.defaultBranch=main"])
        .args(args)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .output()
        .is_ok_and(|o| o.status.success())
}

fn sync(prefix: &str, url: &str) -> String {
    format!(
        "apiVersion: source.toolkit.fluxcd.io/v1\nkind: GitRepository\nmetadata: {{name: home, namespace: flux-system}}\nspec: {{url: {url}}}\n---\napiVersion: kustomize.toolkit.fluxcd.io/v1\nkind: Kustomization\nmetadata: {{name: cluster, namespace: flux-system}}\nspec: {{interval: 1h, path: ./{prefix}cluster, sourceRef: {{kind: GitRepository, name: home}}}}\n"
    )
}

fn make(input: &TreeInput) -> Plan {
    let fetcher = Fetcher::new(FetcherOptions { offline: true, ..FetcherOptions::default() }).expect("a fetcher");
    plan(input, &Arc::new(fetcher), &PlanOptions::default())
}

fn value(plan: &Plan) -> Option<String> {
    let o = plan.units.first()?.objects.iter().find(|o| o.kind() == "ConfigMap")?;
    o.value.str_at(["data", "v"]).map(str::to_string)
}

fn config_map(v: &str) -> String {
    format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: a, namespace: b}}\ndata: {{v: '{v}'}}\n")
}

#[test]
fn a_revision_is_read_from_the_object_database() {
    let dir = tempfile::tempdir().expect("a folder");
    let root = dir.path();
    let url = "https://example.org/me/home";
    std::fs::create_dir_all(root.join("cluster/deep")).expect("made");
    std::fs::write(root.join("cluster/sync.yaml"), sync("", url)).expect("written");
    std::fs::write(root.join("cluster/cm.yaml"), config_map("one")).expect("written");
    if !(git(root, &["init"]) && git(root, &["remote", "add", "origin", "git@example.org:me/home.git"])) {
        eprintln!("skipped: needs git");
        return;
    }
    assert!(git(root, &["add", "."]) && git(root, &["commit", "-m", "one"]));
    std::fs::write(root.join("cluster/cm.yaml"), config_map("two")).expect("written");
    std::os::unix::fs::symlink("/etc/passwd", root.join("cluster/leak.yaml")).expect("linked");
    assert!(git(root, &["add", "."]) && git(root, &["commit", "-m", "two"]));
    std::fs::remove_file(root.join("cluster/leak.yaml")).expect("removed");
    std::fs::write(root.join("cluster/cm.yaml"), config_map("three")).expect("written");

    // Any folder of the repository stands for all of it.
    let worktree = make(&locate(&root.join("cluster/deep")).expect("a tree"));
    assert_eq!(value(&worktree).as_deref(), Some("three"));
    assert_eq!(worktree.tree_sources[0].reason, "its URL is a remote of the tree's repository");
    let two = make(&locate_revision(root, "HEAD").expect("a tree"));
    assert_eq!(value(&two).as_deref(), Some("two"));
    assert!(two.units[0].source.as_ref().expect("a source").revision.starts_with("HEAD@sha1:"));
    let one = make(&locate_revision(&root.join("cluster"), "main~1").expect("a tree"));
    assert_eq!(value(&one).as_deref(), Some("one"));
    let error = locate_revision(root, "nowhere").expect_err("no such revision").to_string();
    assert!(error.contains("nowhere") && error.contains("no such revision"), "{error}");
}

#[test]
fn a_homelab_inside_a_larger_repository_is_a_tree_by_itself() {
    let dir = tempfile::tempdir().expect("a folder");
    let root = dir.path();
    for (home, prefix) in [("homelab", ""), ("other", "other/")] {
        std::fs::create_dir_all(root.join(home).join("cluster")).expect("made");
        std::fs::write(root.join(home).join("cluster/sync.yaml"), sync(prefix, "https://example.org/me/x"))
            .expect("written");
        std::fs::write(root.join(home).join("cluster/cm.yaml"), config_map(home)).expect("written");
    }
    if !git(root, &["init"]) {
        eprintln!("skipped: needs git");
        return;
    }
    assert!(git(root, &["add", "."]) && git(root, &["commit", "-m", "one"]));
    let real = std::fs::canonicalize(root).expect("there");
    let inner = locate(&root.join("homelab")).expect("a tree");
    assert_eq!(inner.root, real.join("homelab"));
    assert_eq!(value(&make(&inner)).as_deref(), Some("homelab"));
    let revision = locate_revision(&root.join("homelab"), "HEAD").expect("a tree");
    assert_eq!(value(&make(&revision)).as_deref(), Some("homelab"));
    // Paths that start at the repository's root make the repository the tree.
    assert_eq!(locate(&root.join("other")).expect("a tree").root, real);
}
