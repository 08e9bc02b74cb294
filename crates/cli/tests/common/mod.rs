//! What the end-to-end tests share: trees in temporary folders, and the built binary with a bounded time to answer.

#![allow(dead_code, clippy::expect_used, clippy::unwrap_used)]

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// Longer than anything takes on a busy machine; only a hang gets there.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// The source that stands for the tree, and a Kustomization that reads the folder it is in.
pub const SYNC: &str = "apiVersion: source.toolkit.fluxcd.io/v1
kind: GitRepository
metadata: {name: home, namespace: flux-system}
spec: {url: https://example.org/me/home, interval: 1m}
---
apiVersion: kustomize.toolkit.fluxcd.io/v1
kind: Kustomization
metadata: {name: cluster, namespace: flux-system}
spec:
  interval: 1h
  prune: true
  path: ./cluster
  sourceRef: {kind: GitRepository, name: home}
";

/// A Kustomization of a folder; `more` is further lines of its spec, indented by two.
pub fn kustomization(name: &str, path: &str, more: &str) -> String {
    format!(
        "---\napiVersion: kustomize.toolkit.fluxcd.io/v1\nkind: Kustomization\nmetadata: {{name: {name}, namespace: flux-system}}\nspec:\n  interval: 1h\n  prune: true\n  path: {path}\n  sourceRef: {{kind: GitRepository, name: home}}\n{more}"
    )
}

/// A HelmRelease of a chart in the tree.
pub fn release(name: &str, chart: &str, more: &str) -> String {
    format!(
        "---\napiVersion: helm.toolkit.fluxcd.io/v2\nkind: HelmRelease\nmetadata: {{name: {name}, namespace: flux-system}}\nspec:\n  interval: 1h\n  chart:\n    spec:\n      chart: {chart}\n      sourceRef: {{kind: GitRepository, name: home}}\n{more}"
    )
}

/// A HelmRelease of a chart in a Helm repository, with the repository.
pub fn remote_release(name: &str, chart: &str, version: &str) -> String {
    format!(
        "---\napiVersion: source.toolkit.fluxcd.io/v1\nkind: HelmRepository\nmetadata: {{name: {name}, namespace: flux-system}}\nspec: {{interval: 1h, url: https://charts.example.org}}\n---\napiVersion: helm.toolkit.fluxcd.io/v2\nkind: HelmRelease\nmetadata: {{name: {name}, namespace: flux-system}}\nspec:\n  interval: 1h\n  chart:\n    spec:\n      chart: {chart}\n      version: {version}\n      sourceRef: {{kind: HelmRepository, name: {name}}}\n"
    )
}

/// A ConfigMap in the default namespace.
pub fn config_map(name: &str) -> String {
    format!("---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}, namespace: default}}\ndata: {{k: v}}\n")
}

/// A Deployment in the default namespace.
pub fn deployment(name: &str) -> String {
    format!(
        "---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: {name}, namespace: default}}\nspec:\n  selector: {{matchLabels: {{app: {name}}}}}\n  template:\n    metadata: {{labels: {{app: {name}}}}}\n    spec: {{containers: [{{name: main, image: 'example.org/{name}:1'}}]}}\n"
    )
}

/// A homelab in a temporary folder, with a data directory, a cache and a mirror beside it.
pub struct Lab {
    dir: tempfile::TempDir,
}

impl Lab {
    /// A tree whose root reads `cluster/`, in which `units` are defined, and one unit more, `good`, that has no fault.
    pub fn new(units: &str) -> Self {
        let lab = Self::bare();
        lab.file("cluster/sync.yaml", SYNC);
        lab.file("cluster/units.yaml", format!("{}{units}", kustomization("good", "./good", "")));
        lab.file("good/all.yaml", config_map("good") + &deployment("good"));
        lab
    }

    /// No files at all.
    pub fn bare() -> Self {
        let lab = Self { dir: tempfile::tempdir().unwrap() };
        fs::create_dir(lab.tree()).unwrap();
        lab
    }

    pub fn tree(&self) -> PathBuf {
        self.dir.path().join("tree")
    }

    pub fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    pub fn kubeconfig(&self) -> PathBuf {
        self.data().join("kubeconfig")
    }

    pub fn mirror(&self) -> PathBuf {
        self.dir.path().join("mirror")
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes a file of the tree.
    pub fn file(&self, path: &str, content: impl AsRef<[u8]>) {
        let path = self.tree().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    /// The binary with nothing of this machine's in its environment.
    pub fn druse(&self, args: &[&str]) -> Command {
        let mut c = Command::new(env!("CARGO_BIN_EXE_druse"));
        c.args(args).current_dir(self.tree()).env_clear().env("DRUSE_CACHE", self.path("cache"));
        c.env("HOME", self.path("home")).env("PATH", std::env::var_os("PATH").unwrap_or_default());
        c
    }

    /// `druse up`, on a port of its own, with further arguments. Without mounts, which would outlive one that is killed.
    pub fn up(&self, more: &[&str]) -> Command {
        let mut c = self.druse(&["up", ".", "--offline", "--no-tmpfs", "--listen", "127.0.0.1:0", "--data"]);
        c.arg(self.data()).args(more);
        c
    }

    /// `druse up --once` to its end.
    pub fn settle(&self, more: &[&str]) -> Settled {
        let ran = self.run(&mut self.up(&[&["--once", "-o", "json"], more].concat()));
        let report = serde_json::from_str(&ran.stdout).unwrap_or_else(|e| panic!("no report ({e}):\n{ran}"));
        let table = self.run(&mut self.up(&[&["--once"], more].concat())).stdout;
        Settled { ran, report, table }
    }

    /// Runs a command to its end.
    pub fn run(&self, command: &mut Command) -> Ran {
        Running::start(self, command).end()
    }

    /// Runs a command to its end, with this standard input.
    pub fn fed(&self, command: &mut Command, input: &str) -> Ran {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let out = child.wait_with_output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Ran { status: out.status, stdout: text(out.stdout), stderr: text(out.stderr) }
    }

    /// `druse cloud` of the tree, with its data beside the tree and further arguments; where it answers.
    pub fn cloud(&self, more: &[&str]) -> (Running, String) {
        let mut c = self.druse(&["cloud", ".", "--listen", "127.0.0.1:0", "--data"]);
        c.arg(self.path("cloud")).args(more);
        let mut cloud = Running::start(self, &mut c);
        cloud.until("the cloud is served", |r| r.stderr().contains("serving"));
        let said = cloud.stderr();
        let at = said.find("http://").unwrap_or_else(|| panic!("{said}"));
        let url = said[at..].split(": ").next().unwrap().to_owned();
        (cloud, url)
    }

    /// The credentials of the cloud's administrator, as AWS' tools read them.
    pub fn administrator(&self) -> PathBuf {
        self.path("cloud/administrator.credentials")
    }

    /// All lines of all files under a folder, to see that nothing was lost or written.
    pub fn listing(&self, dir: &Path) -> Vec<String> {
        let mut names: Vec<String> =
            fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }
}

/// A command that ended.
pub struct Ran {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    pub fn code(&self) -> i32 {
        self.status.code().unwrap_or_else(|| panic!("ended by a signal:\n{self}"))
    }

    /// Asserts the exit code and that what was said (on either output) holds all of `words`.
    pub fn says(&self, code: i32, words: &[&str]) -> &Self {
        assert_eq!(self.status.code(), Some(code), "{self}");
        let all = format!("{}{}", self.stdout, self.stderr);
        for w in words {
            assert!(all.contains(w), "does not say {w:?}:\n{self}");
        }
        assert!(!all.contains("panicked"), "{self}");
        self
    }
}

impl std::fmt::Display for Ran {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}\n--- stdout\n{}\n--- stderr\n{}", self.status, self.stdout, self.stderr)
    }
}

/// A rehearsal that settled, with its report as JSON and (from a second run on the same data) as a table.
pub struct Settled {
    pub ran: Ran,
    pub report: serde_json::Value,
    pub table: String,
}

impl Settled {
    pub fn unit(&self, name: &str) -> &serde_json::Value {
        let units = self.report["units"].as_array().unwrap();
        units
            .iter()
            .find(|u| u["unit"].as_str().unwrap().ends_with(&format!("/{name}")))
            .unwrap_or_else(|| panic!("no unit {name}:\n{}", self.ran))
    }

    pub fn state(&self, name: &str) -> &str {
        self.unit(name)["state"].as_str().unwrap()
    }

    /// Asserts that a unit failed, that the table says all of `words`, and that what has no fault came up.
    pub fn failed(&self, name: &str, words: &[&str]) -> &Self {
        self.ran.says(1, &[]);
        assert_eq!(self.state(name), "failed", "{name}:\n{}", self.table);
        let section = self.table.find("\nfailed:").map_or("", |at| &self.table[at..]);
        for w in words {
            assert!(section.contains(w), "the failures do not say {w:?}:\n{}", self.table);
        }
        self.ready(&["cluster", "good"])
    }

    pub fn ready(&self, names: &[&str]) -> &Self {
        for name in names {
            assert_eq!(self.state(name), "ready", "{name}:\n{}\n{}", self.table, self.ran.stderr);
        }
        self
    }
}

/// A command that runs; killed when dropped. Its output goes to files, so that it never waits for a reader.
pub struct Running {
    pub child: Child,
    out: PathBuf,
    err: PathBuf,
}

impl Running {
    pub fn start(lab: &Lab, command: &mut Command) -> Self {
        static COUNT: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
        let n = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let (out, err) = (lab.path(&format!("{n}.out")), lab.path(&format!("{n}.err")));
        command.stdin(Stdio::null()).stdout(File::create(&out).unwrap()).stderr(File::create(&err).unwrap());
        Self { child: command.spawn().expect("the binary starts"), out, err }
    }

    pub fn stdout(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.out).unwrap()).into_owned()
    }

    pub fn stderr(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.err).unwrap()).into_owned()
    }

    /// Sends a signal by name.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    /// Looks again and again until something is true; fails when the command ends first.
    pub fn until(&mut self, what: &str, mut done: impl FnMut(&Self) -> bool) {
        let from = Instant::now();
        while !done(self) {
            let ended = self.child.try_wait().unwrap();
            assert!(ended.is_none(), "ended before {what}:\n{}\n{}", self.stdout(), self.stderr());
            assert!(from.elapsed() < PATIENCE, "never {what}:\n{}\n{}", self.stdout(), self.stderr());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits until a `druse up` has shown its closing report.
    pub fn until_settled(&mut self) {
        self.until("settled", |r| r.stderr().contains("Look around:"));
    }

    /// Waits for the end.
    pub fn end(mut self) -> Ran {
        let from = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return Ran { status, stdout: self.stdout(), stderr: self.stderr() };
            }
            assert!(from.elapsed() < PATIENCE, "does not end:\n{}\n{}", self.stdout(), self.stderr());
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ended_already = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// Git in a folder, with nothing of this machine's configuration; whether it succeeded.
pub fn git(dir: &Path, args: &[&str]) -> bool {
    Command::new("git")
        .current_dir(dir)
        .args(["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "init.defaultBranch=main"])
        .args(args)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .output()
        .is_ok_and(|o| o.status.success())
}

/// A gzipped tar with these entries, whatever their names.
pub fn archive(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut tar = tar::Builder::new(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best()));
    for (name, content) in entries {
        let mut h = tar::Header::new_gnu();
        // Not through `set_path`, which refuses the names that these tests are about.
        h.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        h.set_size(content.len() as u64);
        h.set_mode(0o644);
        h.set_cksum();
        tar.append(&h, *content).unwrap();
    }
    tar.into_inner().unwrap().finish().unwrap()
}

/// Writes a file whose owner's parent folders are made as needed.
pub fn write(path: &Path, content: &[u8]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    File::create(path).unwrap().write_all(content).unwrap();
}
