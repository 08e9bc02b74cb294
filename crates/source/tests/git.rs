//! Git: references of all kinds over HTTP (against `git http-backend`) and from a folder.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod support;

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use druse_kustomize::tree::FileTree as _;
use druse_source::{Auth, Fetcher, FetcherOptions, GitReference, GitRequest, Origin, SourceError};
use support::{Request, Response, Server, fast};

struct Repository {
    dir: tempfile::TempDir,
    first: String,
    second: String,
}

fn git(dir: &Path, args: &[&str]) -> Option<String> {
    let out = Command::new("git")
        .args(["-c", "user.name=a", "-c", "user.email=a@b", "-c", "init.defaultBranch=main"])
        .args(args)
        .current_dir(dir)
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .output()
        .ok()?;
    assert!(out.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&out.stderr));
    Some(String::from_utf8_lossy(&out.stdout).trim().to_string())
}

/// Two commits on `main`, tags v1.0.0 (annotated) and v1.1.0, a branch `old`; `None` without git.
fn repository() -> Option<Repository> {
    if Command::new("git").arg("--version").output().is_err() {
        eprintln!("skipped: there is no git");
        return None;
    }
    let dir = tempfile::tempdir().unwrap();
    let work = dir.path().join("r.git");
    std::fs::create_dir_all(work.join("apps/base")).unwrap();
    git(&work, &["init", "-q"])?;
    // Similar files, so that the pack has deltas.
    let text: String = (0..400).map(|i| format!("line: {}\n", i * 7919)).collect();
    for i in 0..5 {
        std::fs::write(work.join(format!("apps/base/{i}.yaml")), format!("{text}last: {i}\n")).unwrap();
    }
    #[cfg(unix)]
    std::os::unix::fs::symlink("base", work.join("apps/link")).unwrap();
    git(&work, &["add", "-A"])?;
    git(&work, &["commit", "-q", "-m", "one"])?;
    git(&work, &["tag", "-a", "v1.0.0", "-m", "t"])?;
    git(&work, &["branch", "old"])?;
    std::fs::write(work.join("new.yaml"), "new: 1\n").unwrap();
    git(&work, &["add", "-A"])?;
    git(&work, &["commit", "-q", "-m", "two"])?;
    git(&work, &["tag", "v1.1.0"])?;
    let first = git(&work, &["rev-parse", "HEAD~1"])?;
    let second = git(&work, &["rev-parse", "HEAD"])?;
    Some(Repository { dir, first, second })
}

/// Runs `git http-backend` for a request.
fn backend(root: &Path, request: &Request, protocol: &str) -> Response {
    let mut child = Command::new("git")
        .arg("http-backend")
        .env("GIT_PROJECT_ROOT", root)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("PATH_INFO", &request.path)
        .env("QUERY_STRING", &request.query)
        .env("REQUEST_METHOD", &request.method)
        .env("CONTENT_TYPE", request.header("content-type"))
        .env("GIT_PROTOCOL", protocol)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(&request.body).unwrap();
    let out = child.wait_with_output().unwrap().stdout;
    let at = out.windows(4).position(|w| w == b"\r\n\r\n").unwrap();
    let mut response = Response::new(200, &out[at + 4..]);
    for line in String::from_utf8_lossy(&out[..at]).lines() {
        let (name, value) = line.split_once(": ").unwrap();
        match name {
            "Status" => response.status = value[..3].parse().unwrap(),
            name => response = response.header(name, value),
        }
    }
    response
}

fn serve(repository: &Repository, version_2: bool) -> Server {
    let root = repository.dir.path().to_path_buf();
    Server::start(move |r| backend(&root, r, if version_2 { r.header("git-protocol") } else { "" }))
}

fn fetcher(cache: Option<&Path>) -> Fetcher {
    let options = FetcherOptions { cache: cache.map(Into::into), ..FetcherOptions::default() };
    Fetcher::new(options).unwrap().with_network(fast()).unwrap()
}

fn references(r: &Repository) -> Vec<(GitReference, String, bool)> {
    let none = GitReference::default;
    let text = |s: &str| Some(s.to_string());
    let (first, second) = (&r.first, &r.second);
    vec![
        (GitReference { branch: text("main"), ..none() }, format!("main@sha1:{second}"), true),
        (GitReference { branch: text("old"), ..none() }, format!("old@sha1:{first}"), false),
        (GitReference { tag: text("v1.0.0"), ..none() }, format!("v1.0.0@sha1:{first}"), false),
        (GitReference { semver: text(">=1.0.0"), ..none() }, format!("v1.1.0@sha1:{second}"), true),
        (GitReference { semver: text("~1.0"), ..none() }, format!("v1.0.0@sha1:{first}"), false),
        (GitReference { name: text("refs/heads/main"), ..none() }, format!("refs/heads/main@sha1:{second}"), true),
        (GitReference { commit: text(second), ..none() }, format!("sha1:{second}"), true),
    ]
}

fn check(f: &Fetcher, url: &str, r: &Repository, references: &[(GitReference, String, bool)]) {
    let mut digests = std::collections::BTreeMap::new();
    for (reference, revision, has_new) in references {
        let request = GitRequest { url: url.into(), reference: reference.clone(), auth: None };
        let got = f.git(&request).unwrap_or_else(|e| panic!("{reference}: {e}"));
        assert_eq!(got.artifact.revision, *revision);
        assert_eq!(got.tree.read("new.yaml").is_ok(), *has_new, "{reference}");
        assert!(got.tree.read("apps/base/4.yaml").unwrap().ends_with(b"last: 4\n"));
        assert_eq!(got.tree.list("apps/base").unwrap().len(), 5);
        #[cfg(unix)]
        {
            assert!(got.tree.read("apps/link/0.yaml").is_ok());
            assert_eq!(got.tree.canonical("apps/link"), "apps/base");
        }
        let digest = digests.entry(*has_new).or_insert_with(|| got.artifact.digest.clone());
        assert_eq!(*digest, got.artifact.digest, "same commit, same content: {reference}");
    }
    for reference in [
        GitReference { branch: Some("none".into()), ..GitReference::default() },
        GitReference { tag: Some("v9".into()), ..GitReference::default() },
        GitReference { semver: Some(">=9".into()), ..GitReference::default() },
        GitReference::default(),
    ] {
        let e = f.git(&GitRequest { url: url.into(), reference: reference.clone(), auth: None }).unwrap_err();
        assert!(e.is_not_at_hand(), "{reference}: {e}");
    }
    let commit = GitReference { commit: Some(r.first.chars().rev().collect()), ..GitReference::default() };
    assert!(f.git(&GitRequest { url: url.into(), reference: commit, auth: None }).is_err());
}

#[test]
fn references_of_all_kinds_over_http() {
    let Some(r) = repository() else { return };
    let server = serve(&r, true);
    check(&fetcher(None), &server.url("/r.git"), &r, &references(&r));
}

#[test]
fn references_of_all_kinds_from_an_old_server() {
    let Some(r) = repository() else { return };
    let server = serve(&r, false);
    check(&fetcher(None), &server.url("/r.git"), &r, &references(&r));
}

#[test]
fn references_of_all_kinds_from_a_folder() {
    let Some(r) = repository() else { return };
    let url = format!("file://{}", r.dir.path().join("r.git").display());
    check(&fetcher(None), &url, &r, &references(&r));
}

#[test]
fn a_commit_is_fetched_once_and_a_branch_is_looked_up_anew() {
    let Some(r) = repository() else { return };
    let server = serve(&r, true);
    let dir = tempfile::tempdir().unwrap();
    let url = server.url("/r.git");
    let branch = GitReference { branch: Some("main".into()), ..GitReference::default() };
    let request = GitRequest { url: url.clone(), reference: branch, auth: None };
    fetcher(Some(dir.path())).git(&request).unwrap();
    let all = server.seen().len();
    let got = fetcher(Some(dir.path())).git(&request).unwrap();
    assert_eq!((got.artifact.origin, server.seen().len()), (Origin::Cache, all + 2), "only what the branch is now");
    let commit = GitReference { commit: Some(r.second.clone()), ..GitReference::default() };
    let got = fetcher(Some(dir.path())).git(&GitRequest { url: url.clone(), reference: commit, auth: None }).unwrap();
    assert_eq!((got.artifact.origin, server.seen().len()), (Origin::Cache, all + 2), "a commit needs nobody");
    // The branch goes on.
    let work = r.dir.path().join("r.git");
    std::fs::write(work.join("newer.yaml"), "a: 1\n").unwrap();
    git(&work, &["add", "-A"]).unwrap();
    git(&work, &["commit", "-q", "-m", "three"]).unwrap();
    let got = fetcher(Some(dir.path())).git(&request).unwrap();
    assert!(got.tree.read("newer.yaml").is_ok());
    // Offline: as it was seen last; nothing else is left in the cache folder.
    let offline = Fetcher::new(FetcherOptions { cache: Some(dir.path().into()), ..Default::default() }).unwrap();
    assert_eq!(offline.git(&request).unwrap().artifact.revision, got.artifact.revision);
    assert_eq!(std::fs::read_dir(dir.path().join("tmp")).unwrap().count(), 0);
}

#[test]
fn credentials_are_sent_and_stay_with_their_host_on_redirects() {
    let Some(r) = repository() else { return };
    let root = r.dir.path().to_path_buf();
    let inner = Server::start(move |r| {
        if r.header("authorization") != "Basic dTpw" {
            return Response::new(401, "");
        }
        backend(&root, r, r.header("git-protocol"))
    });
    let auth = Some(Auth { username: "u".into(), password: "p".into() });
    let reference = GitReference { branch: Some("main".into()), ..GitReference::default() };
    let request = GitRequest { url: inner.url("/r.git/"), reference, auth };
    fetcher(None).git(&request).unwrap();
    let e = fetcher(None).git(&GitRequest { auth: None, ..request.clone() }).unwrap_err();
    assert!(matches!(&e, SourceError::Fetch { status: Some(401), .. }), "{e}");
    let to = inner.url("/r.git");
    let moved = Server::start(move |r| {
        Response::new(301, "").header("location", format!("{}?{}", r.path.replace("/old", &to), r.query))
    });
    let e = fetcher(None).git(&GitRequest { url: moved.url("/old"), ..request }).unwrap_err();
    assert!(matches!(&e, SourceError::Fetch { status: Some(401), .. }), "{e}");
}

#[test]
fn what_is_no_repository_or_no_protocol_says_so() {
    let server = Server::start(|_| Response::new(200, "<html>").header("content-type", "text/html"));
    let ask = |url: &str| fetcher(None).git(&GitRequest { url: url.into(), ..GitRequest::default() }).unwrap_err();
    let e = ask(&server.url("/x"));
    assert!(e.to_string().contains("no Git repository here"), "{e}");
    for url in ["ssh://git@github.com/a/b", "git@github.com:a/b.git"] {
        let e = ask(url);
        assert!(matches!(&e, SourceError::Unsupported { .. }) && e.to_string().contains("SSH"), "{e}");
        assert!(e.is_not_at_hand());
    }
    assert!(matches!(ask("ftp://h/a"), SourceError::Unsupported { .. }));
    assert!(ask("file:///nowhere/at/all").to_string().contains("no Git repository here"));
    let broken = Server::start(|r| {
        let kind = "application/x-git-upload-pack-advertisement";
        match r.method.as_str() {
            "GET" => Response::new(200, "000eversion 2\n0000").header("content-type", kind),
            _ => Response::new(200, "00ffnot enough"),
        }
    });
    let e = ask(&broken.url("/x"));
    assert!(e.to_string().contains("broke off"), "{e}");
}
