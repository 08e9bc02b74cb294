//! Kills a server under load at random moments: what it acknowledged is there afterwards, nothing is there by half,
//! resource versions never go back, and watches go on or are told to start over.
//!
//! Three rounds in a test run; `DRUSE_KILL_ROUNDS=2000 cargo test -p druse-apiserver --test kill` for more.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use base64::Engine as _;
use druse_apiserver::store::{Key, MemStore, Options, Store as _, WatchError};
use druse_object::{Value, json};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

const WRITERS: usize = 8;
/// After so many rounds a new folder is begun: every round looks at all that the folder holds, which grows with each.
const ROUNDS_OF_A_FOLDER: u64 = 100;
const MAPS: &str = "/api/v1/namespaces/default/configmaps";

/// The example that serves a folder; built along with the tests.
fn server() -> PathBuf {
    let own = std::env::current_exe().unwrap();
    own.parent().unwrap().parent().unwrap().join("examples/serve")
}

struct Running {
    child: Child,
    url: String,
    client: reqwest::Client,
}

fn start(dir: &Path) -> Running {
    start_by(Command::new(server()), dir)
}

fn start_by(mut command: Command, dir: &Path) -> Running {
    let config = dir.with_extension("kubeconfig");
    let _ = std::fs::remove_file(&config);
    let child = command.args(["127.0.0.1:0", "admin"]).args([dir, &config]).stdout(Stdio::null()).spawn().unwrap();
    let begun = Instant::now();
    let text = loop {
        match std::fs::read_to_string(&config) {
            Ok(t) if t.contains("token:") => break t,
            _ => assert!(begun.elapsed() < Duration::from_secs(60), "the server does not come up"),
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let field = |name: &str| text.lines().find_map(|l| l.trim().strip_prefix(name)).unwrap().trim().to_owned();
    let ca = base64::engine::general_purpose::STANDARD.decode(field("certificate-authority-data:")).unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(&ca).unwrap()).unwrap();
    let tls = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let client = reqwest::Client::builder().tls_backend_preconfigured(tls).no_proxy().build().unwrap();
    Running { child, url: field("server:"), client }
}

/// What was acknowledged: objects with the least number they must hold, and the newest resource version.
#[derive(Default)]
struct Acknowledged {
    numbers: BTreeMap<String, u64>,
    newest: u64,
}

impl Acknowledged {
    fn note(&mut self, answer: &Value, number: u64) {
        let name = answer.str_at(["metadata", "name"]).unwrap().to_owned();
        let rv: u64 = answer.str_at(["metadata", "resourceVersion"]).unwrap().parse().unwrap();
        self.newest = self.newest.max(rv);
        self.numbers.insert(name, number);
    }
}

/// Writes until the server is gone: a new object, then a change to the writer's own one.
async fn write(client: reqwest::Client, url: String, writer: usize, round: u64, done: Arc<Mutex<Acknowledged>>) {
    for i in 0u64.. {
        let number = round * 1_000_000 + i;
        let post = client
            .post(format!("{url}{MAPS}"))
            .bearer_auth("admin")
            .header("content-type", "application/json")
            .body(format!(r#"{{"metadata":{{"name":"r{round}-w{writer}-{i}"}},"data":{{"n":"{number}"}}}}"#));
        // Applied, so that it need not be there.
        let own = format!("w{writer}");
        let put = client
            .patch(format!("{url}{MAPS}/{own}?fieldManager=t&force=true"))
            .bearer_auth("admin")
            .header("content-type", "application/apply-patch+yaml")
            .body(format!(
                r#"{{"apiVersion":"v1","kind":"ConfigMap","metadata":{{"name":"{own}"}},"data":{{"n":"{number}"}}}}"#
            ));
        for request in [post, put] {
            let Ok(answer) = request.send().await else { return };
            let ok = answer.status().is_success();
            let Ok(text) = answer.bytes().await else { return };
            let Ok(v) = json::parse(&text) else { return };
            assert!(ok, "{v:?}");
            done.lock().unwrap().note(&v, number);
        }
    }
}

/// Holds a folder against what was acknowledged, without a server.
fn check(dir: &Path, done: &Acknowledged) -> u64 {
    let store = MemStore::open(Options { dir: Some(dir.to_owned()) }).unwrap();
    assert!(store.revision() >= done.newest, "resource versions went back: {} < {}", store.revision(), done.newest);
    for (name, number) in &done.numbers {
        let stored = store.get(&Key::new("configmaps", "default", name.as_str()));
        let v = stored.unwrap_or_else(|| panic!("{name} was acknowledged and is lost")).value().unwrap();
        let is: u64 = v.str_at(["data", "n"]).unwrap().parse().unwrap();
        assert!(is >= *number, "{name}: {number} was acknowledged, {is} is there");
    }
    let all = store.list("configmaps", "default", None, usize::MAX, None).unwrap();
    for o in &all.items {
        let v = o.value().unwrap();
        assert!(v.at(["metadata", "uid"]).is_some(), "{} is there by half", o.name);
        assert!(o.rv <= store.revision());
    }
    match store.watch("configmaps", done.newest) {
        Ok(_) | Err(WatchError::Expired { .. }) => {}
    }
    store.revision()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_survives_sigkill_under_load() {
    if !server().is_file() {
        eprintln!("skipped: {} is not built (cargo test builds it, --test alone may not)", server().display());
        return;
    }
    let rounds = std::env::var("DRUSE_KILL_ROUNDS").ok().and_then(|r| r.parse().ok()).unwrap_or(3u64);
    let mut dir = tempfile::tempdir().unwrap();
    let mut done = Arc::new(Mutex::new(Acknowledged::default()));
    let mut last = 0;
    for round in 0..rounds {
        if round % ROUNDS_OF_A_FOLDER == 0 {
            dir = tempfile::tempdir().unwrap();
            done = Arc::default();
            last = 0;
        }
        let data = dir.path().join("data");
        let mut running = start(&data);
        let writers: Vec<_> = (0..WRITERS)
            .map(|w| tokio::spawn(write(running.client.clone(), running.url.clone(), w, round, done.clone())))
            .collect();
        let before = done.lock().unwrap().newest;
        let begun = Instant::now();
        // Not before it has done something, and then at any moment.
        while done.lock().unwrap().newest == before {
            assert!(begun.elapsed() < Duration::from_secs(60), "nothing is acknowledged");
            tokio::task::yield_now().await;
        }
        tokio::time::sleep(Duration::from_micros(rand::random_range(0..250_000))).await;
        running.child.kill().unwrap();
        running.child.wait().unwrap();
        for w in writers {
            w.await.unwrap();
        }
        let revision = check(&data, &done.lock().unwrap());
        assert!(revision >= last, "resource versions went back over a restart");
        last = revision;
        let count = done.lock().unwrap().numbers.len();
        if round % 100 == 99 {
            eprintln!("round {}: {count} objects, resource version {revision}", round + 1);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_is_full_fails_writes_and_nothing_else() {
    if !server().is_file() || Command::new("sh").arg("-c").arg("ulimit -f 9000").status().is_ok_and(|s| !s.success()) {
        eprintln!("skipped: no example server, or no shell that limits file sizes");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    // As on a full disk, writing a file beyond a size fails; the signal that comes with this limit is ignored.
    let mut command = Command::new("sh");
    command.args(["-c", "trap '' XFSZ; ulimit -f 9000; exec \"$@\"", "sh"]).arg(server());
    let mut running = start_by(command, &data);
    let ask = |method: reqwest::Method, path: String, body: String| {
        let request = running.client.request(method, format!("{}{path}", running.url)).bearer_auth("admin").body(body);
        async move {
            let answer = request.header("content-type", "application/json").send().await.unwrap();
            (answer.status().as_u16(), json::parse(&answer.bytes().await.unwrap()).unwrap())
        }
    };
    let filler = "x".repeat(500_000);
    let mut made = 0;
    let refused = loop {
        let body = format!(r#"{{"metadata":{{"name":"m{made}"}},"data":{{"x":"{filler}"}}}}"#);
        let (code, answer) = ask(reqwest::Method::POST, MAPS.into(), body).await;
        if code != 201 {
            break (code, answer);
        }
        made += 1;
        assert!(made < 100, "the limit does not hold");
    };
    assert_eq!(refused.0, 500, "{:?}", refused.1);
    assert!(refused.1.str_at(["message"]).unwrap().contains("write to the data directory failed"), "{:?}", refused.1);
    let (code, list) = ask(reqwest::Method::GET, format!("{MAPS}?limit=1"), String::new()).await;
    assert!(code == 200 && !list["items"].items().is_empty());
    assert_eq!(ask(reqwest::Method::GET, format!("{MAPS}/m{made}"), String::new()).await.0, 404);
    // What is small, or makes room, may still succeed; whatever is answered is what is there after a restart.
    let (code, _) = ask(reqwest::Method::DELETE, format!("{MAPS}/m0"), String::new()).await;
    running.child.kill().unwrap();
    running.child.wait().unwrap();
    let store = MemStore::open(Options { dir: Some(data) }).unwrap();
    let has = |n: usize| store.get(&Key::new("configmaps", "default", format!("m{n}"))).is_some();
    assert!((1..made).all(has) && !has(made));
    assert_eq!(has(0), code != 200);
}
