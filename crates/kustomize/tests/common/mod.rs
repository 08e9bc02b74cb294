//! Finding and running the real thing, and comparing with it.
#![allow(dead_code, clippy::unwrap_used, clippy::print_stderr)]

use std::path::{Path, PathBuf};
use std::process::Command;

use druse_kustomize::KustomizeError;
use druse_object::{Object, yaml};

/// The kustomize that this crate follows.
const VERSION: &str = "v5.8.1";

/// kubectl, when there is one with the kustomize that this crate follows.
pub fn kubectl() -> Option<PathBuf> {
    let found = std::env::var_os("DRUSE_KUBECTL").map(PathBuf::from).or_else(|| {
        std::env::split_paths(&std::env::var_os("PATH")?).map(|dir| dir.join("kubectl")).find(|p| p.is_file())
    });
    let Some(found) = found else {
        eprintln!("skipped: no kubectl (set DRUSE_KUBECTL)");
        return None;
    };
    let version = Command::new(&found).args(["version", "--client"]).output().ok()?;
    if !String::from_utf8_lossy(&version.stdout).contains(VERSION) {
        eprintln!("skipped: {} has another kustomize than {VERSION} (set DRUSE_KUBECTL)", found.display());
        return None;
    }
    Some(found)
}

/// The shared fixtures, when they are there.
pub fn shared() -> Option<PathBuf> {
    let found = std::env::var_os("DRUSE_SHARED")
        .map(PathBuf::from)
        .or_else(|| Some(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared")))
        .filter(|p| p.is_dir());
    if found.is_none() {
        eprintln!("skipped: no shared fixtures (set DRUSE_SHARED)");
    }
    found
}

/// What `kubectl kustomize` prints, or its error.
pub fn kustomize(kubectl: &Path, dir: &Path) -> Result<String, String> {
    let out = Command::new(kubectl).arg("kustomize").arg(dir).output().unwrap();
    if out.status.success() {
        Ok(String::from_utf8(out.stdout).unwrap())
    } else {
        let text = String::from_utf8_lossy(&out.stderr).into_owned();
        let text: Vec<&str> = text.lines().filter(|l| !l.starts_with("# Warning")).collect();
        Err(text.join("\n").trim().trim_start_matches("error: ").to_string())
    }
}

/// How two builds differ, object by object in order; errors by their message.
pub fn difference(ours: &Result<Vec<Object>, KustomizeError>, theirs: &Result<String, String>) -> Option<String> {
    match (ours, theirs) {
        (Ok(ours), Ok(theirs)) => {
            let theirs: Vec<_> = yaml::documents(theirs, yaml::Dialect::Sigs)
                .into_iter()
                .map(|d| d.unwrap().value)
                .filter(|v| !v.is_null())
                .collect();
            for (i, (a, b)) in ours.iter().zip(&theirs).enumerate() {
                if a.value != *b {
                    return Some(format!(
                        "object {i} differs\n--- ours\n{}--- theirs\n{}",
                        yaml::to_string(&a.value),
                        yaml::to_string(b)
                    ));
                }
            }
            (ours.len() != theirs.len()).then(|| format!("{} objects, not {}", ours.len(), theirs.len()))
        }
        (Err(ours), Err(theirs)) => {
            let (ours, theirs) = (ours.message.trim(), theirs.trim());
            (ours != theirs).then(|| format!("error differs\n--- ours\n{ours}\n--- theirs\n{theirs}"))
        }
        (Ok(_), Err(theirs)) => Some(format!("builds, but kubectl says: {theirs}")),
        (Err(ours), Ok(_)) => Some(format!("kubectl builds it; we say: {}", ours.message)),
    }
}
