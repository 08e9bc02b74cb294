//! Sessions of the real kubectl with `druse api --workloads`: rollouts, Services. Skipped where there is no kubectl
//! (`DRUSE_KUBECTL`). What it must say is in `tests/sessions/*.txt`; one file is one server with two nodes.

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::print_stderr)]

mod common;
#[path = "../../apiserver/tests/common/session.rs"]
mod session;

use std::path::{Path, PathBuf};

use common::{Lab, Running};

fn play(name: &str) {
    let Some(kubectl) = std::env::var_os("DRUSE_KUBECTL").filter(|v| !v.is_empty()).map(PathBuf::from) else {
        eprintln!("skipped: no kubectl (set DRUSE_KUBECTL)");
        return;
    };
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sessions").join(name);
    let text = std::fs::read_to_string(&path).unwrap();
    let lab = Lab::bare();
    let folder = lab.path("session");
    std::fs::create_dir(&folder).unwrap();
    let config = folder.join("kubeconfig");
    let mut command = lab.druse(&["api", "--workloads", "--nodes", "2", "--listen", "127.0.0.1:0", "--kubeconfig"]);
    let mut api = Running::start(&lab, command.arg(&config));
    api.until("serves", |r| r.stdout().contains("serving") || r.stderr().contains("serving"));
    let wrong = session::play(&kubectl, &folder, &text);
    assert!(wrong.is_empty(), "{} otherwise than {}:\n\n{}", wrong.len(), path.display(), wrong.join("\n"));
    api.signal("INT");
    api.end().says(0, &[]);
}

macro_rules! sessions {
    ($($name:ident),*) => {$(
        #[test]
        fn $name() {
            play(concat!(stringify!($name), ".txt"));
        }
    )*};
}

sessions!(deployment, statefulset, daemonset, service, cronjob);
