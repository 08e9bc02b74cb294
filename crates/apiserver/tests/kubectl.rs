//! The real kubectl against this API, verb by verb. What it must say is in `tests/kubectl/*.txt`; one file is one
//! server. Skipped where there is no kubectl (`DRUSE_KUBECTL`).
//!
//! How a file is read, `common/session.rs` says.

#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod common;
#[path = "common/session.rs"]
mod session;

use std::path::{Path, PathBuf};

use common::Served;
use session::play;

fn kubectl() -> Option<PathBuf> {
    std::env::var_os("DRUSE_KUBECTL").filter(|v| !v.is_empty()).map(PathBuf::from)
}

async fn session(name: &str) {
    let Some(kubectl) = kubectl() else {
        eprintln!("skipped: no kubectl (set DRUSE_KUBECTL)");
        return;
    };
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kubectl").join(name);
    let text = std::fs::read_to_string(&path).unwrap();
    let served = Served::start(druse_apiserver::ApiServer::builder().token("admin").build().await.unwrap()).await;
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("kubeconfig"), served.server.kubeconfig(served.address)).unwrap();
    let at = folder.path().to_owned();
    let wrong = tokio::task::spawn_blocking(move || play(&kubectl, &at, &text)).await.unwrap();
    served.stop().await;
    assert!(wrong.is_empty(), "{} otherwise than {}:\n\n{}", wrong.len(), path.display(), wrong.join("\n"));
}

macro_rules! sessions {
    ($($name:ident),*) => {$(
        #[tokio::test(flavor = "multi_thread")]
        async fn $name() {
            session(concat!(stringify!($name), ".txt")).await;
        }
    )*};
}

sessions!(reading, writing, applying, workloads, pods, access, nodes, custom);
