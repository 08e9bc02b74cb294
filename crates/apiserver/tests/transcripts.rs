//! Replays recorded exchanges with real API servers and expects no difference: those that are shared with this checkout,
//! when there are any, and those in `tests/recordings`.
//!
//! The recordings of `shared` were made with a Kubernetes 1.36.3 API. Not among its files: `watch` (one answer tells of
//! the recorded server's own lag) and `discovery` (one answer holds that server's address). Those beside this test were
//! made with a kube-apiserver 1.36.1 (`tools/kube.py record`), a step a line; steps that two servers cannot answer alike
//! (own times and versions in a message) are left out.

#![allow(clippy::unwrap_used)]

mod common;

use std::process::Command;

use common::Served;

const FILES: [&str; 8] = ["core", "crud", "finalize", "rbac", "apply", "patch", "crd", "admission"];

#[tokio::test(flavor = "multi_thread")]
async fn recorded_exchanges_replay_without_a_difference() {
    let Some(shared) = common::shared() else {
        eprintln!("skipped: no recordings here");
        return;
    };
    if Command::new("python3").arg("--version").output().is_err() {
        eprintln!("skipped: no python3 here");
        return;
    }
    let mut wrong = check(shared.clone()).await;
    // Two applies that a second's end falls between are listed in another order, by their times: then once more.
    if wrong.is_some() {
        wrong = check(shared).await;
    }
    assert_eq!(wrong, None);
}

/// Checks the shared recordings at a new server; what the checker says of differences.
async fn check(shared: std::path::PathBuf) -> Option<String> {
    let served = Served::start(common::bare().await).await;
    let url = served.url();
    let output = tokio::task::spawn_blocking(move || {
        Command::new("python3")
            .arg(shared.join("tools/transcript.py"))
            .args(["check", &url, "--token", "admin"])
            .args(FILES.map(|f| shared.join(format!("kubernetes/transcripts/{f}.json"))))
            .output()
            .unwrap()
    })
    .await
    .unwrap();
    served.stop().await;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (!output.status.success()).then(|| text(&output.stdout) + &text(&output.stderr))
}

#[tokio::test(flavor = "multi_thread")]
async fn our_own_recordings_replay_without_a_difference() {
    // The client needs a provider; another test may have set it.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/recordings");
    let mut files: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|f| f.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty());
    let (mut compared, mut wrong) = (0, Vec::new());
    for file in files {
        // Each recording began at a server with nothing in it.
        let served = Served::start(common::bare().await).await;
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        let url = served.url();
        let replay = common::replay::Replay::new(&url, "admin");
        let (n, found) = replay.file(&name, &std::fs::read(&file).unwrap()).await;
        compared += n;
        wrong.extend(found);
        drop(replay);
        served.stop().await;
    }
    assert!(wrong.is_empty(), "{} of {compared} steps differ:\n{}", wrong.len(), wrong.join("\n"));
}
