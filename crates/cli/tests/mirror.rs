//! `druse mirror` from end to end: a tree whose chart and files come from servers on this machine is mirrored, and then
//! planned with nothing but the mirror.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};

type Files = Arc<Mutex<BTreeMap<String, Vec<u8>>>>;

/// Serves files over HTTP; what is no HTTP is answered by hanging up.
fn serve() -> (SocketAddr, Files) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let files = Files::default();
    let served = Arc::clone(&files);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let files = Arc::clone(&served);
            std::thread::spawn(move || answer(stream, &files));
        }
    });
    (address, files)
}

fn answer(stream: TcpStream, files: &Files) -> Option<()> {
    let mut reader = BufReader::new(stream);
    if !reader.fill_buf().ok()?.first()?.is_ascii_uppercase() {
        return None;
    }
    let mut first = String::new();
    reader.read_line(&mut first).ok()?;
    let mut line = String::new();
    while reader.read_line(&mut line).ok()? > 2 {
        line.clear();
    }
    let path = first.split(' ').nth(1)?;
    let (status, body) = files.lock().ok()?.get(path).map_or((404, Vec::new()), |b| (200, b.clone()));
    let head = format!("HTTP/1.1 {status} X\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", body.len());
    reader.get_mut().write_all(&[head.as_bytes(), &body].concat()).ok()
}

fn tgz(files: &[(&str, &str)]) -> Vec<u8> {
    let mut tar = tar::Builder::new(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast()));
    for (path, text) in files {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_size(text.len() as u64);
        tar.append_data(&mut header, path, text.as_bytes()).unwrap();
    }
    tar.into_inner().unwrap().finish().unwrap()
}

fn sha256(bytes: &[u8]) -> String {
    use sha2::Digest as _;
    sha2::Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

fn druse(args: &[&str], cache: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_druse"));
    command.args(args).arg("--cache").arg(cache).env_clear().output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn a_tree_is_mirrored_and_then_needs_no_network() {
    let (address, files) = serve();
    let chart = tgz(&[
        ("demo/Chart.yaml", "apiVersion: v2\nname: demo\nversion: 1.2.3\n"),
        ("demo/templates/a.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: from-chart}\n"),
    ]);
    let layer =
        tgz(&[("deploy/a.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: from-oci, namespace: default}\n")]);
    let manifest = format!(
        r#"{{"layers":[{{"mediaType":"application/vnd.cncf.flux.content.v1.tar+gzip","digest":"sha256:{}","size":{}}}]}}"#,
        sha256(&layer),
        layer.len()
    );
    let index = format!(
        "apiVersion: v1\nentries:\n  demo:\n  - {{version: 1.2.3, urls: [demo-1.2.3.tgz], digest: {}}}\n",
        sha256(&chart)
    );
    files.lock().unwrap().extend([
        ("/charts/index.yaml".to_string(), index.into_bytes()),
        ("/v2/files/app/manifests/v1.0.0".to_string(), manifest.into_bytes()),
        (format!("/v2/files/app/blobs/sha256:{}", sha256(&layer)), layer),
    ]);
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    std::fs::create_dir_all(path("tree/cluster")).unwrap();
    std::fs::write(
        path("tree/cluster/all.yaml"),
        format!(
            r#"
apiVersion: source.toolkit.fluxcd.io/v1
kind: HelmRepository
metadata: {{name: charts, namespace: default}}
spec: {{url: "http://{address}/charts", interval: 1h}}
---
apiVersion: helm.toolkit.fluxcd.io/v2
kind: HelmRelease
metadata: {{name: demo, namespace: default}}
spec:
  interval: 1h
  chart: {{spec: {{chart: demo, version: "1.x", sourceRef: {{kind: HelmRepository, name: charts}}}}}}
---
apiVersion: source.toolkit.fluxcd.io/v1
kind: OCIRepository
metadata: {{name: app, namespace: default}}
spec: {{url: "oci://{address}/files/app", interval: 1h, ref: {{tag: v1.0.0}}}}
---
apiVersion: kustomize.toolkit.fluxcd.io/v1
kind: Kustomization
metadata: {{name: app, namespace: default}}
spec: {{interval: 1h, prune: true, path: ./deploy, sourceRef: {{kind: OCIRepository, name: app}}}}
---
apiVersion: source.toolkit.fluxcd.io/v1
kind: GitRepository
metadata: {{name: home, namespace: default}}
spec: {{url: "https://git.invalid/me/home", interval: 1h}}
---
apiVersion: kustomize.toolkit.fluxcd.io/v1
kind: Kustomization
metadata: {{name: home, namespace: default}}
spec: {{interval: 1h, prune: true, path: ./cluster, sourceRef: {{kind: GitRepository, name: home}}}}
"#
        ),
    )
    .unwrap();
    let (tree, cache, mirror) =
        (path("tree").display().to_string(), path("cache"), path("mirror").display().to_string());
    let run = || druse(&["mirror", &tree, "--to", &mirror, "-o", "json"], &cache);

    // The archive is missing at first: said by name, and everything else is there.
    let out = run();
    assert_eq!(out.status.code(), Some(1), "{}", text(&out.stderr));
    assert!(text(&out.stderr).contains("demo-1.2.3.tgz: the server answered 404"), "{}", text(&out.stderr));
    assert!(path("mirror/sources/127.0.0.1/files/app/v1.0.0/deploy/a.yaml").exists());

    files.lock().unwrap().insert("/charts/demo-1.2.3.tgz".into(), chart);
    let out = run();
    assert_eq!(out.status.code(), Some(0), "{}", text(&out.stderr));
    let items: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    let status = |kind: &str| items.as_array().unwrap().iter().find(|i| i["kind"] == kind).unwrap()["status"].clone();
    assert_eq!((status("chart"), status("oci")), ("written".into(), "unchanged".into()));

    let before = std::fs::read(path("mirror/charts/index.yaml")).unwrap();
    let out = run();
    assert_eq!(out.status.code(), Some(0), "{}", text(&out.stderr));
    assert!(!text(&out.stdout).contains("written"), "{}", text(&out.stdout));
    assert_eq!(std::fs::read(path("mirror/charts/index.yaml")).unwrap(), before);

    let out = druse(&["render", &tree, "--mirror", &mirror, "--offline"], &path("no-cache"));
    assert_eq!(out.status.code(), Some(0), "{}", text(&out.stderr));
    for name in ["from-chart", "from-oci"] {
        assert!(text(&out.stdout).contains(name), "{}", text(&out.stdout));
    }
}
