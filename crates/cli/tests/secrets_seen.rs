//! A secret's value is in the mounts of the pods that read it, and nowhere else: looked for in everything that a rehearsal
//! keeps, prints, logs at the finest level, and in the environment and arguments of every process of this machine.
#![allow(clippy::unwrap_used, clippy::print_stderr)] // helpers of tests

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_STANDARD_NO_PAD};
use common::{Lab, Running, git, remote_release};
use druse_csi::mount::Mounts;

const TERRAFORM: &str =
    concat!(include_str!("../../terraform/tests/identity.tf.txt"), include_str!("../../terraform/tests/reads.tf.txt"));
const CLASS: &str = r#"---
apiVersion: secrets-store.csi.x-k8s.io/v1
kind: SecretProviderClass
metadata: {name: app, namespace: default}
spec:
  provider: aws
  parameters:
    objects: |
      - {objectName: /home/app/db, objectType: ssmparameter, objectAlias: db}
      - {objectName: /home/app/parts, objectType: ssmparameter, objectAlias: whole, jmesPath: [{path: a.b, objectAlias: part}]}
  secretObjects:
    - {secretName: app, type: Opaque, data: [{objectName: db, key: password}]}
"#;
/// A driver that asks for volumes again and again: so values are renewed.
const DRIVER: &str = "apiVersion: storage.k8s.io/v1
kind: CSIDriver
metadata: {name: secrets-store.csi.k8s.io}
spec: {podInfoOnMount: true, attachRequired: false, requiresRepublish: true, volumeLifecycleModes: [Ephemeral], tokenRequests: [{audience: sts.amazonaws.com}]}
";

/// A StatefulSet that mounts the class as a ServiceAccount, which names the role `app`.
fn workload(name: &str, account: &str, image: &str) -> String {
    format!(
        r#"---
apiVersion: v1
kind: ServiceAccount
metadata: {{name: {account}, namespace: default, annotations: {{eks.amazonaws.com/role-arn: "arn:aws:iam::111122223333:role/app"}}}}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {{name: {name}, namespace: default}}
spec:
  serviceName: {name}
  selector: {{matchLabels: {{app: {name}}}}}
  template:
    metadata: {{labels: {{app: {name}}}}}
    spec:
      serviceAccountName: {account}
      containers: [{{name: main, image: "{image}"}}]
      volumes:
        - {{name: s, csi: {{driver: secrets-store.csi.k8s.io, readOnly: true, volumeAttributes: {{secretProviderClass: app}}}}}}
"#
    )
}

/// Every file under a folder.
fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        match entry.file_type() {
            Ok(t) if t.is_dir() => files(&entry.path(), found),
            Ok(t) if t.is_file() => found.push(entry.path()),
            _ => {}
        }
    }
}

fn holds(bytes: &[u8], needle: &str) -> bool {
    bytes.windows(needle.len()).any(|w| w == needle.as_bytes())
}

#[test]
fn values_are_in_the_mounts_and_nowhere_else() {
    let lab = Lab::new("");
    lab.file("cluster/driver.yaml", remote_release("driver", "secrets-store-csi-driver", "1.6.0"));
    lab.file("good/driver.yaml", DRIVER);
    lab.file("good/class.yaml", CLASS);
    lab.file("good/reader.yaml", workload("reader", "app", "example.org/app:1"));
    lab.file("terraform/main.tf", TERRAFORM);
    let committed = git(&lab.tree(), &["init"]) && git(&lab.tree(), &["add", "."]);
    assert!(committed && git(&lab.tree(), &["commit", "-m", "all"]), "this needs git");
    lab.file("good/reader.yaml", workload("reader", "app", "example.org/app:2"));
    // Somebody who names the role of another, to mount what that one mounts.
    lab.file("good/stranger.yaml", workload("stranger", "stranger", "example.org/app:1"));
    let mut up = Running::start(&lab, lab.up(&[]).env("DRUSE_LOG", "trace"));
    up.until_settled();

    let mounted = || -> BTreeSet<PathBuf> {
        let mut kept = Vec::new();
        files(&lab.data().join("pods"), &mut kept);
        kept.into_iter().filter(|p| p.components().any(|c| c.as_os_str() == "mount")).collect()
    };
    let read = |files: &BTreeSet<PathBuf>| -> Vec<String> {
        files.iter().filter_map(|p| fs::read_to_string(p).ok()).collect()
    };
    let before = mounted();
    let names: BTreeSet<&str> = before.iter().filter_map(|p| p.file_name()?.to_str()).collect();
    assert!(names.is_superset(&BTreeSet::from(["db", "whole", "part"])), "{names:?}\n{}", up.stderr());
    let mut values = read(&before);

    // A value that is put while the pod runs gets into the volume that it has.
    let address = up.stderr();
    let address = address.split("AWS_ENDPOINT_URL=").nth(1).unwrap().split(' ').next().unwrap();
    let of_the_path = |args: &[&str]| {
        let mut c = lab.druse(args);
        c.env("KUBECONFIG", lab.kubeconfig()).env("DRUSE_LOG", "trace").env("AWS_REGION", "us-west-2");
        c.env("AWS_ENDPOINT_URL", address);
        c.env("AWS_SHARED_CREDENTIALS_FILE", lab.data().join("cloud/administrator.credentials"));
        c
    };
    let put = lab
        .fed(&mut of_the_path(&["secrets", "put", "/home/app/db", "--undeclared", "--offline"]), "put-while-it-runs");
    put.says(0, &["version 2"]);
    // What is written beside the old files is the volume's once `..data` leads to it.
    let file = before.iter().find(|p| p.ends_with("db")).unwrap();
    let current = file.parent().and_then(Path::parent).unwrap().join("..data/db");
    let renewed = || fs::read_to_string(&current).is_ok_and(|v| v == "put-while-it-runs");
    up.until("the volume is renewed", |_| renewed());
    let mounted = mounted();
    values.extend(read(&mounted));
    assert!(values.iter().all(|v| v.len() > 8), "too short to be looked for: {values:?}");

    // What the commands of the path print while it runs.
    let mut said = put.stdout + &put.stderr;
    for args in [
        &["secrets", "trace", "default/reader-0"][..],
        &["secrets", "trace", "default/reader-0", "-o", "json"],
        &["secrets", "trace", "default/stranger-0"],
        &["secrets", "check", "--offline"],
        &["secrets", "list", "--offline"],
        &["secrets", "diff", "--offline"],
        &["render", "--offline"],
        &["check", "--offline"],
        &["tree", "--offline", "-o", "json"],
        &["diff", "--offline", "-o", "html"],
        &["diff", "--offline", "-o", "json"],
    ] {
        let ran = lab.run(&mut of_the_path(args));
        assert!(!format!("{ran}").contains("panicked"), "{args:?}: {ran}");
        said.push_str(&ran.stdout);
        said.push_str(&ran.stderr);
        if args.get(2) == Some(&"default/stranger-0") {
            // AWS does not say why; the tree does.
            let why = "role app trusts system:serviceaccount:default:app, but the pod runs as \
                       system:serviceaccount:default:stranger (terraform/main.tf:";
            ran.says(1, &[why, "it stops at: assume"]);
        } else if args[1] == "trace" {
            assert!(ran.status.success(), "{args:?}: {ran}");
            // The issuer's documents are in its bucket, and read there.
            assert!(ran.stdout.contains("is among the 1 published"), "{ran}");
        }
        if args[0] == "diff" {
            assert!(ran.stdout.contains("example.org/app:2"), "{args:?}: {ran}");
        }
    }
    let logged = up.stderr() + &up.stdout();
    assert!(logged.contains("TRACE") && said.contains("TRACE"), "the log is on");

    // Everything in every form that it might be kept in; tokens by how they all begin.
    let mut needles: Vec<String> = Vec::new();
    for v in &values {
        needles.extend([v.clone(), BASE64_STANDARD.encode(v), BASE64_STANDARD_NO_PAD.encode(v)]);
        needles.push(v.bytes().map(|b| format!("{b:02x}")).collect());
    }
    for needle in &needles {
        assert!(!said.contains(needle) && !logged.contains(needle), "a value was printed or logged");
    }
    assert!(!said.contains("eyJhbGciOi") && !logged.contains("eyJhbGciOi"), "a token was printed or logged");
    let mut all = Vec::new();
    files(lab.path("").as_path(), &mut all);
    for file in all.iter().filter(|f| !mounted.contains(*f)) {
        let bytes = fs::read(file).unwrap_or_default();
        let found = needles.iter().any(|n| holds(&bytes, n));
        assert!(!found, "{} holds a value", file.display());
    }
    let mut processes = 0;
    for process in fs::read_dir("/proc").unwrap().flatten() {
        for what in ["environ", "cmdline"] {
            // Processes come and go, and others' are not readable for everybody.
            let Ok(bytes) = fs::read(process.path().join(what)) else { continue };
            processes += usize::from(what == "environ" && !bytes.is_empty());
            assert!(!needles.iter().any(|n| holds(&bytes, n)), "{} shows a value", process.path().join(what).display());
        }
    }
    assert!(processes > 1, "the environment of processes can be read");

    up.signal("INT");
    up.end().says(0, &[]);
}

/// The secrets volumes that are mounted below a folder.
fn mounted(folder: &Path) -> usize {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let below = format!(" {}/pods/", fs::canonicalize(folder).unwrap().display());
    table.lines().filter(|l| l.contains(&below) && l.contains(" - tmpfs ")).count()
}

#[test]
fn root_gets_volumes_in_memory_and_none_is_left() {
    if Mounts::detect() != Mounts::Tmpfs {
        eprintln!("SKIPPED: this needs the right to mount (root)");
        return;
    }
    let lab = Lab::new("");
    lab.file("cluster/driver.yaml", remote_release("driver", "secrets-store-csi-driver", "1.6.0"));
    lab.file("good/class.yaml", CLASS);
    lab.file("good/reader.yaml", workload("reader", "app", "example.org/app:1"));
    lab.file("terraform/main.tf", TERRAFORM);
    let up = |more: &[&str]| {
        let mut c = lab.druse(&["up", ".", "--offline", "--listen", "127.0.0.1:0", "--data"]);
        c.arg(lab.data()).args(more);
        let mut up = Running::start(&lab, &mut c);
        up.until_settled();
        up
    };
    let killed = up(&[]);
    assert_eq!(mounted(&lab.data()), 1);
    drop(killed);
    assert_eq!(mounted(&lab.data()), 1, "nobody took it down");
    // Whoever starts afresh does, and goes in order.
    let ended = up(&["--fresh"]);
    assert_eq!(mounted(&lab.data()), 1);
    ended.signal("INT");
    ended.end().says(0, &[]);
    assert_eq!(mounted(&lab.data()), 0);
}
