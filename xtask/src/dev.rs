//! Chores of every day: the whole test run, with the real tools that tests compare with.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

/// `cargo xtask test [ARGS]`: fetches the real helm and kubectl, AWS' clients and csi-sanity (once, under
/// `target/`), and runs all tests, those on recorded homelabs too where the folder `shared` lies beside the repository.
pub fn test(args: &[String]) -> io::Result<()> {
    let root = root();
    let tools = root.join("target").join("tools");
    let fetched = Command::new("python3").arg(root.join("tools/fetch.py")).arg(&tools).status();
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(&root).args(["test", "--workspace"]).args(args);
    if fetched.is_ok_and(|s| s.success()) {
        cargo.env("DRUSE_HELM", tools.join("helm")).env("DRUSE_KUBECTL", tools.join("kubectl"));
    }
    let clients = root.join("target").join("aws-clients");
    let fetched = Command::new("python3").arg(root.join("tools/aws_clients.py")).arg(&clients).status();
    if fetched.is_ok_and(|s| s.success()) {
        cargo.env("DRUSE_AWS_CLIENTS", clients.join("bin"));
    }
    let sanity = root.join("target").join("csi-sanity");
    let fetched = Command::new("python3").arg(root.join("tools/csi_sanity.py")).arg(&sanity).status();
    if fetched.is_ok_and(|s| s.success()) {
        cargo.env("DRUSE_CSI_SANITY", sanity.join("csi-sanity"));
    }
    let shared = root.join("..").join("shared");
    if std::env::var_os("DRUSE_SHARED").is_none()
        && let Ok(shared) = shared.canonicalize()
    {
        cargo.env("DRUSE_SHARED", shared);
    }
    run(&mut cargo)
}

/// `cargo xtask ci`: what CI checks.
pub fn ci() -> io::Result<()> {
    let cargo = || {
        let mut c = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        c.current_dir(root());
        c
    };
    run(cargo().args(["fmt", "--all", "--check"]))?;
    run(cargo().args(["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]))?;
    test(&[])
}

fn run(command: &mut Command) -> io::Result<()> {
    let status = command.status()?;
    if status.success() { Ok(()) } else { Err(io::Error::other(format!("{command:?} ended with {status}"))) }
}

/// The repository's root: two folders up from nothing, one from this crate.
fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_owned()
}
