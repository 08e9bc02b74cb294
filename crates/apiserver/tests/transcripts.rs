//! Replays recorded exchanges with a real API server and expects no difference.
//!
//! Not among the files: `watch` (one answer tells of the recorded server's own lag) and `discovery` (one answer holds that
//! server's address).

mod common;

use std::process::Command;

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
    let server = std::sync::Arc::new(common::bare().await);
    let listener = server.listen("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let serving = server.clone();
    let task = tokio::spawn(async move { serving.serve(listener).await });
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
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    server.close();
    task.await.unwrap().unwrap();
}
