//! A rehearsal's process and its data directory, end to end: ports, folders, signals, `kill -9`, damage.

#![allow(clippy::expect_used, clippy::unwrap_used)]

mod common;

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::{Lab, Running, config_map, deployment, kustomization, remote_release};

/// A tree with a unit that never settles: it waits for a health check that nothing fulfils, for an hour.
fn slow_lab() -> Lab {
    let check =
        "  timeout: 1h\n  healthChecks: [{apiVersion: apps/v1, kind: Deployment, name: absent, namespace: default}]\n";
    let lab = Lab::new(&kustomization("slow", "./slow", check));
    lab.file("slow/all.yaml", config_map("slow"));
    lab
}

#[test]
fn a_port_in_use_is_named_and_loses_nothing() {
    let lab = Lab::new("");
    lab.settle(&[]).ready(&["cluster", "good"]);
    let before = lab.listing(&lab.data());
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for more in [&["--fresh"][..], &[]] {
        let mut up = lab.druse(&["up", ".", "--once", "--offline", "--listen", &address, "--data"]);
        up.arg(lab.data()).args(more);
        lab.run(&mut up).says(1, &[&address, "in use", "--listen"]);
    }
    assert_eq!(lab.listing(&lab.data()), before);
}

#[test]
fn a_data_directory_that_cannot_be_one_is_named() {
    let lab = Lab::new("");
    fs::write(lab.data(), "a file").unwrap();
    let data = lab.data().display().to_string();
    lab.run(&mut lab.up(&["--once"])).says(1, &[&data, "--data"]);
    lab.run(&mut lab.up(&["--once", "--fresh"])).says(1, &[&data, "--data"]);
    assert_eq!(fs::read_to_string(lab.data()).unwrap(), "a file");
    // Nobody, not even root, makes folders here.
    let mut up = lab.druse(&["up", ".", "--once", "--offline", "--listen", "127.0.0.1:0", "--data", "/proc/druse"]);
    lab.run(&mut up).says(1, &["/proc/druse", "--data"]);
}

#[test]
fn a_read_only_data_directory_is_named() {
    let lab = Lab::new("");
    fs::create_dir(lab.data()).unwrap();
    fs::set_permissions(lab.data(), fs::Permissions::from_mode(0o500)).unwrap();
    if fs::write(lab.data().join("probe"), "").is_ok() {
        eprintln!("this user may write everywhere: not tested");
        return;
    }
    let data = lab.data().display().to_string();
    lab.run(&mut lab.up(&["--once"])).says(1, &[&data, "--data"]);
}

#[test]
fn fresh_empties_only_what_a_rehearsal_made() {
    let lab = Lab::new("");
    fs::create_dir(lab.data()).unwrap();
    fs::write(lab.data().join("photos.tar"), "dear").unwrap();
    lab.run(&mut lab.up(&["--once", "--fresh"])).says(1, &["holds no rehearsal", "--data"]);
    assert_eq!(fs::read_to_string(lab.data().join("photos.tar")).unwrap(), "dear");
}

#[test]
fn a_data_directory_in_use_is_left_to_its_user() {
    let lab = Lab::new("");
    let mut first = Running::start(&lab, &mut lab.up(&[]));
    first.until_settled();
    let data = lab.data().display().to_string();
    for more in [&["--once"][..], &["--once", "--fresh"]] {
        lab.run(&mut lab.up(more)).says(1, &[&data, "used by another process", "--data"]);
    }
    assert!(lab.data().join("store.redb").exists());
    first.signal("INT");
    first.end().says(0, &["2 units, 2 ready"]);
}

#[test]
fn an_interrupt_before_all_has_settled_ends_quickly_and_keeps_the_state() {
    let lab = slow_lab();
    for (signal, code) in [("INT", 130), ("TERM", 143)] {
        let mut up = Running::start(&lab, &mut lab.up(&["--once"]));
        up.until("good is ready", |r| r.stderr().contains("Ready  Kustomization/flux-system/good"));
        let from = Instant::now();
        up.signal(signal);
        let ended = up.end();
        ended.says(code, &["interrupted", "in progress", "Kustomization/flux-system/slow"]);
        assert!(from.elapsed() < Duration::from_secs(10), "{ended}");
    }
    // The same tree, mended, goes on from the same data.
    lab.file("slow/all.yaml", deployment("absent"));
    lab.settle(&[]).ready(&["cluster", "good", "slow"]);
}

#[test]
fn an_interrupt_while_the_tree_is_read_ends_at_once() {
    let lab = Lab::new(&remote_release("far", "far", "1.0.0"));
    // A server that accepts and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    let units = fs::read_to_string(lab.tree().join("cluster/units.yaml")).unwrap();
    lab.file("cluster/units.yaml", units.replace("https://charts.example.org", &url));
    let mut up = lab.druse(&["up", ".", "--once", "--listen", "127.0.0.1:0", "--data"]);
    up.arg(lab.data());
    let up = Running::start(&lab, &mut up);
    let _asked = silent.accept().unwrap();
    let from = Instant::now();
    up.signal("INT");
    up.end().says(130, &[]);
    assert!(from.elapsed() < Duration::from_secs(10));
}

#[test]
fn an_interrupt_after_all_has_settled_is_the_way_to_end() {
    let lab = Lab::new("");
    for signal in ["INT", "TERM"] {
        let mut up = Running::start(&lab, &mut lab.up(&[]));
        up.until_settled();
        up.signal(signal);
        let ended = up.end();
        ended.says(0, &["2 units, 2 ready", "export KUBECONFIG=", &lab.kubeconfig().display().to_string()]);
    }
    let mode = fs::metadata(lab.data()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    assert_eq!(fs::metadata(lab.kubeconfig()).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn a_killed_rehearsal_goes_on_where_it_was() {
    let mut units = String::new();
    for i in 0..8 {
        units += &kustomization(&format!("u{i}"), &format!("./u{i}"), "");
    }
    let lab = Lab::new(&units);
    for i in 0..8 {
        lab.file(&format!("u{i}/all.yaml"), config_map(&format!("c{i}")) + &deployment(&format!("d{i}")));
    }
    for ready in [1, 3, 6] {
        let mut up = Running::start(&lab, &mut lab.up(&["--once"]));
        // When all has settled before it could be killed, nothing is lost for this test: the next one still starts anew.
        let mut ended = false;
        while !ended && up.stderr().matches("Ready  Kustomization").count() < ready {
            ended = up.child.try_wait().unwrap().is_some();
        }
        up.child.kill().unwrap();
        drop(up);
    }
    let names: Vec<String> = (0..8).map(|i| format!("u{i}")).collect();
    let s = lab.settle(&[]);
    s.ready(&names.iter().map(String::as_str).collect::<Vec<_>>()).ran.says(0, &[]);
    s.ready(&["cluster", "good"]);
}

#[test]
fn damaged_state_is_refused_and_kept() {
    let lab = Lab::new("");
    lab.settle(&[]).ready(&["cluster", "good"]);
    let store = lab.data().join("store.redb");
    let whole = fs::read(&store).unwrap();
    let garbage = b"this is no store".repeat(1000);
    let cut = whole[..whole.len() / 3].to_vec();
    let mut scribbled = whole.clone();
    for (i, b) in scribbled.iter_mut().enumerate().skip(4096) {
        *b ^= u8::try_from(i % 251).unwrap();
    }
    for (what, bytes) in [("garbage", garbage), ("cut", cut), ("scribbled", scribbled)] {
        fs::write(&store, &bytes).unwrap();
        let r = lab.run(&mut lab.up(&["--once"]));
        r.says(1, &["damaged", "--fresh"]);
        assert!(fs::read(&store).unwrap().len() >= bytes.len().min(4096), "{what} was thrown away:\n{r}");
    }
    fs::write(&store, &whole).unwrap();
    lab.settle(&[]).ready(&["cluster", "good"]);
    fs::write(&store, "x").unwrap();
    lab.settle(&["--fresh"]).ready(&["cluster", "good"]);
}

#[test]
fn the_default_data_directory_is_never_part_of_the_tree_nor_of_git() {
    let lab = Lab::new("");
    let git = |args: &[&str]| {
        let out = Command::new("git").args(args).current_dir(lab.tree()).output().unwrap();
        assert!(out.status.success(), "{out:?}");
        String::from_utf8(out.stdout).unwrap()
    };
    git(&["init", "-q"]);
    git(&["add", "."]);
    let up = || lab.druse(&["up", ".", "--once", "--offline", "--listen", "127.0.0.1:0", "-o", "json"]);
    lab.run(&mut up()).says(0, &[]);
    // Even where a Kustomization reads the root of the tree.
    let data = lab.tree().join(".druse");
    assert_eq!(fs::metadata(&data).unwrap().permissions().mode() & 0o777, 0o700);
    assert_eq!(fs::read_to_string(data.join(".gitignore")).unwrap(), "*\n");
    assert_eq!(
        git(&["status", "--porcelain", "--untracked-files=all"]).lines().filter(|l| l.contains(".druse")).count(),
        0
    );
    fs::write(data.join("stray.yaml"), config_map("stray") + &kustomization("stray", "./good", "")).unwrap();
    lab.file("cluster/whole.yaml", kustomization("whole", "./", ""));
    let r = lab.run(&mut lab.druse(&["render", ".", "--offline", "-o", "name"]));
    r.says(0, &["ConfigMap/default/good"]);
    assert!(!r.stdout.contains("stray"), "{r}");
    lab.run(&mut up());
    let r = lab.run(&mut up());
    assert!(!r.stdout.contains("stray"), "{r}");
}

#[test]
fn output_holds_no_escape_codes_off_a_terminal_and_parses_where_it_says_so() {
    let lab = Lab::new(&kustomization("bad", "./nowhere", ""));
    for (args, envs) in [(&["--once"][..], &[][..]), (&["--once", "-v"], &[("NO_COLOR", "1"), ("TERM", "xterm")])] {
        let r = lab.run(lab.up(args).envs(envs.iter().copied()));
        r.says(1, &["failed: Kustomization/flux-system/bad"]);
        assert!(!r.stdout.contains('\x1b') && !r.stderr.contains('\x1b'), "{r}");
        assert!(r.stdout.lines().take(4).all(|l| l.chars().count() <= 100), "wider than 100 columns:\n{r}");
    }
    let r = lab.run(&mut lab.up(&["--once", "--color", "always"]));
    assert!(r.stdout.contains("\x1b[31m"), "{r}");
    let r = lab.run(&mut lab.up(&["--once", "-q", "-o", "json"]));
    let json: serde_json::Value = serde_json::from_str(&r.stdout).unwrap();
    assert_eq!(r.stderr, "", "quiet");
    let units = json["units"].as_array().unwrap();
    assert_eq!(units.len(), 3);
    let bad = units.iter().find(|u| u["unit"] == "Kustomization/flux-system/bad").unwrap();
    assert_eq!(bad["errors"][0]["file"], "cluster/units.yaml");
    let r = lab.run(&mut lab.up(&["--once", "-o", "yaml"]));
    let docs = druse_object::yaml::documents(&r.stdout, druse_object::yaml::Dialect::Sigs);
    let docs: Vec<_> = docs.into_iter().map(|d| d.expect("YAML")).collect();
    assert_eq!(docs[0].value["units"].items().len(), 3, "{r}");
}

#[test]
fn a_reader_that_goes_away_is_no_fault() {
    let lab = Lab::new("");
    let shell = |script: &str| {
        let mut c = Command::new("sh");
        c.args(["-c", script, "sh", env!("CARGO_BIN_EXE_druse")]).current_dir(lab.tree());
        let out = c.env("DRUSE_CACHE", lab.path("cache")).stdin(Stdio::null()).output().unwrap();
        let text = String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr);
        assert!(!text.contains("panicked"), "{script}: {text}");
        text
    };
    lab.file("bad/Chart.yaml", "apiVersion: v2\nname: bad\nversion: 1.0.0\n");
    for script in [
        "\"$1\" completion bash | head -1",
        "\"$1\" render . --offline | head -1",
        "\"$1\" render . --offline 2>&1 | true",
        "\"$1\" tree . --offline 2>&1 | true",
        "\"$1\" template x bad 2>&1 | true",
        "\"$1\" kustomize nowhere 2>&1 | true",
        "\"$1\" --help 2>&1 | true",
        "\"$1\" up . --once --offline --listen 127.0.0.1:0 --data ../data 2>/dev/null | true",
        "\"$1\" up . --once --offline --listen 127.0.0.1:0 --data ../data 2>&1 | true",
    ] {
        shell(script);
    }
    let code = shell("\"$1\" up . --once --offline --listen 127.0.0.1:0 --data ../data >&- 2>&-; echo code $?");
    assert!(code.contains("code 0"), "{code}");
}

#[test]
fn completion_and_help_name_every_command() {
    let lab = Lab::bare();
    let help = lab.run(&mut lab.druse(&["--help"])).stdout;
    for command in ["up", "render", "tree", "template", "kustomize", "mirror", "api", "controllers", "completion"] {
        let line = help.lines().find(|l| l.trim_start().starts_with(&format!("{command} ")));
        let about = line.unwrap_or_else(|| panic!("{command} is not in the help:\n{help}")).trim_start();
        assert!(about[command.len()..].trim().len() > 10, "{about}");
        for shell in ["bash", "zsh", "fish"] {
            let script = lab.run(&mut lab.druse(&["completion", shell]));
            assert!(script.code() == 0 && script.stdout.contains(command), "{shell} does not know {command}");
        }
    }
}
