//! The same trees built here and by `kubectl kustomize`: every kustomization of the shared fixtures.
//!
//! Needs kubectl (the environment variable DRUSE_KUBECTL, or on the PATH) and the fixtures; skips without.

#![allow(clippy::unwrap_used)]

mod common;

use std::path::{Path, PathBuf};

use druse_kustomize::{BuildOptions, DiskTree, build, to_yaml};

fn kustomizations(dir: &Path, out: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        if path.is_dir() && !path.is_symlink() {
            kustomizations(&path, out);
        } else if druse_kustomize::FILE_NAMES.iter().any(|n| entry.file_name() == *n) {
            out.push(dir.to_path_buf());
        }
    }
}

#[test]
fn every_kustomization_of_the_fixtures_builds_as_with_kubectl() {
    let (Some(kubectl), Some(shared)) = (common::kubectl(), common::shared()) else { return };
    let mut problems = Vec::new();
    let mut bytes_equal = 0;
    let mut count = 0;
    for root in ["fixtures/homelab-2024-04", "fixtures/homelab-2026-08", "flux/tree"] {
        let root = shared.join(root).canonicalize().unwrap();
        let tree = DiskTree::new(&root).unwrap();
        let shown = root.display().to_string();
        let mut dirs = Vec::new();
        kustomizations(&root, &mut dirs);
        dirs.sort();
        assert!(!dirs.is_empty());
        for dir in dirs {
            count += 1;
            let path = dir.strip_prefix(&root).unwrap().to_str().unwrap();
            let options = BuildOptions { shown_root: &shown, ..BuildOptions::default() };
            let ours = build(&tree, path, &options);
            let theirs = common::kustomize(&kubectl, &dir);
            match common::difference(&ours, &theirs) {
                Some(difference) => problems.push(format!("{path}: {difference}")),
                None => {
                    if let (Ok(ours), Ok(theirs)) = (&ours, &theirs) {
                        if to_yaml(ours) == *theirs {
                            bytes_equal += 1;
                        } else {
                            eprintln!("{path}: objects equal, bytes not");
                        }
                    }
                }
            }
        }
    }
    eprintln!("{count} kustomizations, {bytes_equal} equal to the byte");
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}
