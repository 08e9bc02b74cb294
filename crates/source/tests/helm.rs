//! Helm repositories over HTTP: what is asked for, what is kept, and how failures of real networks end.
#![allow(clippy::unwrap_used)]

mod support;

use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use druse_source::{Auth, ChartRequest, Fetcher, FetcherOptions, NetOptions, Origin, SourceError};
use support::{Request, Response, Server, chart, dead_address, fast, sha256};

fn fetcher(cache: Option<&Path>, net: NetOptions) -> Fetcher {
    let options = FetcherOptions { cache: cache.map(Into::into), ..FetcherOptions::default() };
    Fetcher::new(options).unwrap().with_network(net).unwrap()
}

fn request(repository: impl Into<String>, version: &str) -> ChartRequest {
    ChartRequest { repository: repository.into(), name: "a".into(), version: version.into(), ..ChartRequest::default() }
}

fn index() -> String {
    let mut text = String::from("apiVersion: v1\nentries:\n  a:\n");
    for version in ["1.0.0", "1.2.0", "2.0.0"] {
        let digest = sha256(&chart("a", version));
        text.push_str(&format!("  - version: {version}\n    urls: [files/a-{version}.tgz]\n    digest: {digest}\n"));
    }
    text
}

/// A repository at `/r` that knows `ETag`s.
fn repository(request: &Request) -> Response {
    match request.path.as_str() {
        "/r/index.yaml" if request.header("if-none-match") == "\"1\"" => Response::new(304, ""),
        "/r/index.yaml" => Response::new(200, index()).header("etag", "\"1\""),
        path => match path.strip_prefix("/r/files/a-").and_then(|p| p.strip_suffix(".tgz")) {
            Some(version) => Response::new(200, chart("a", version)),
            None => Response::new(404, ""),
        },
    }
}

#[test]
fn a_version_or_range_is_fetched_and_the_index_is_read_once() {
    let server = Server::start(repository);
    let f = fetcher(None, fast());
    let got = f.chart(&request(server.url("/r"), "1.x")).unwrap();
    assert_eq!(got.artifact.revision, "1.2.0");
    assert_eq!(*got.bytes.read().unwrap(), chart("a", "1.2.0"));
    assert_eq!(got.artifact.origin, Origin::Network(server.url("/r/files/a-1.2.0.tgz")));
    assert_eq!(f.chart(&request(server.url("/r/"), "2.0.0")).unwrap().artifact.revision, "2.0.0");
    assert_eq!(f.chart(&request(server.url("/r"), "1.0.0")).unwrap().artifact.revision, "1.0.0");
    let indexes = server.seen().iter().filter(|s| s.ends_with("index.yaml")).count();
    assert_eq!(indexes, 1, "{:?}", server.seen());
}

#[test]
fn a_fixed_version_comes_from_the_cache_without_the_network_and_an_index_is_revalidated() {
    let server = Server::start(repository);
    let dir = tempfile::tempdir().unwrap();
    fetcher(Some(dir.path()), fast()).chart(&request(server.url("/r"), "1.2.0")).unwrap();
    let before = server.seen().len();
    let f = fetcher(Some(dir.path()), fast());
    assert_eq!(f.chart(&request(server.url("/r"), "1.2.0")).unwrap().artifact.origin, Origin::Cache);
    assert_eq!(server.seen().len(), before);
    // A range asks whether the index has changed; the chart it means is there already.
    let got = f.chart(&request(server.url("/r"), "~1.2")).unwrap();
    assert_eq!((got.artifact.revision.as_str(), got.artifact.origin), ("1.2.0", Origin::Cache));
    let last = server.requests().last().unwrap().clone();
    assert_eq!((last.path.as_str(), last.header("if-none-match")), ("/r/index.yaml", "\"1\""));
    assert_eq!(server.seen().len(), before + 1);
}

#[test]
fn a_range_is_answered_as_the_last_time_when_the_network_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let up = Arc::new(AtomicUsize::new(1));
    let flag = Arc::clone(&up);
    let server = Server::on(listener, None, move |r| {
        if flag.load(Ordering::SeqCst) == 1 { repository(r) } else { Response::new(503, "") }
    });
    fetcher(Some(dir.path()), fast()).chart(&request(server.url("/r"), "1.x")).unwrap();
    up.store(0, Ordering::SeqCst);
    let got = fetcher(Some(dir.path()), fast()).chart(&request(server.url("/r"), "1.x")).unwrap();
    assert_eq!((got.artifact.revision.as_str(), got.artifact.origin), ("1.2.0", Origin::Cache));
    // And when it is not asked at all.
    let offline =
        Fetcher::new(FetcherOptions { cache: Some(dir.path().into()), offline: true, ..Default::default() }).unwrap();
    let offline = offline.with_network(fast()).unwrap();
    assert_eq!(offline.chart(&request(server.url("/r"), "1.x")).unwrap().artifact.revision, "1.2.0");
    let e = offline.chart(&request(server.url("/r"), "2.0.0")).unwrap_err();
    assert!(e.is_not_at_hand() && e.to_string().contains("the network was not asked (offline)"), "{e}");
}

#[test]
fn a_version_that_is_not_there_says_what_is() {
    let server = Server::start(repository);
    let f = fetcher(None, fast());
    let e = f.chart(&request(server.url("/r"), "1.2.1")).unwrap_err();
    assert!(e.is_not_at_hand());
    assert!(e.to_string().contains("has 2.0.0, 1.2.0, 1.0.0"), "{e}");
    let e = f.chart(&ChartRequest { name: "b".into(), ..request(server.url("/r"), "") }).unwrap_err();
    assert!(e.to_string().contains("has no chart of that name"), "{e}");
}

#[test]
fn what_does_not_match_its_digest_is_refused_and_not_kept() {
    let server = Server::start(|r| match r.path.as_str() {
        "/r/files/a-1.0.0.tgz" => Response::new(200, chart("a", "6.6.6")),
        _ => repository(r),
    });
    let dir = tempfile::tempdir().unwrap();
    for _ in 0..2 {
        let e = fetcher(Some(dir.path()), fast()).chart(&request(server.url("/r"), "1.0.0")).unwrap_err();
        assert!(matches!(&e, SourceError::Digest { what, .. } if what.contains("/r/files/a-1.0.0.tgz")), "{e}");
        assert!(!e.is_not_at_hand());
    }
}

#[test]
fn a_damaged_cache_entry_is_fetched_anew() {
    let server = Server::start(repository);
    let dir = tempfile::tempdir().unwrap();
    let got = fetcher(Some(dir.path()), fast()).chart(&request(server.url("/r"), "1.0.0")).unwrap();
    let hex = got.artifact.digest.trim_start_matches("sha256:");
    std::fs::write(dir.path().join("blobs/sha256").join(&hex[..2]).join(&hex[2..]), "damage").unwrap();
    let again = fetcher(Some(dir.path()), fast()).chart(&request(server.url("/r"), "1.0.0")).unwrap();
    assert!(matches!(again.artifact.origin, Origin::Network(_)));
    assert_eq!(again.bytes.read().unwrap(), got.bytes.read().unwrap());
}

#[test]
fn failures_that_stay_are_not_tried_again() {
    for status in [401, 403, 404] {
        let server = Server::start(move |_| Response::new(status, "no"));
        let e = fetcher(None, fast()).chart(&request(server.url("/r"), "1.0.0")).unwrap_err();
        assert_eq!(server.seen().len(), 1, "{status}");
        assert!(e.to_string().contains(&format!("the server answered {status}")), "{e}");
        assert!(e.to_string().contains(&server.url("/r/index.yaml")), "{e}");
        assert_eq!(e.is_not_at_hand(), status == 404, "{status}");
    }
}

#[test]
fn failures_that_may_pass_are_tried_again() {
    for (status, truncated) in [(429, false), (503, false), (200, true)] {
        let count = AtomicUsize::new(0);
        let server = Server::start(move |r| {
            if r.path == "/r/index.yaml" && count.fetch_add(1, Ordering::SeqCst) < 2 {
                let mut response = Response::new(status, "apiVersion: v1\n").header("retry-after", "0");
                response.truncated = truncated;
                return response;
            }
            repository(r)
        });
        fetcher(None, fast()).chart(&request(server.url("/r"), "1.0.0")).unwrap();
        assert_eq!(server.seen().len(), 4);
    }
    let server = Server::start(|_| Response::new(502, ""));
    let e = fetcher(None, fast()).chart(&request(server.url("/r"), "1.0.0")).unwrap_err();
    assert_eq!(server.seen().len(), 4, "the first and three more");
    assert!(e.is_not_at_hand() && e.to_string().contains("502"), "{e}");
    // A server that asks for more patience than we have is not waited for.
    let server = Server::start(|_| Response::new(429, "").header("retry-after", "3600"));
    let e = fetcher(None, fast()).chart(&request(server.url("/r"), "1.0.0")).unwrap_err();
    assert_eq!(server.seen().len(), 1);
    assert!(e.to_string().contains("too many requests"), "{e}");
}

#[test]
fn an_answer_that_breaks_off_is_never_taken() {
    let server = Server::start(|r| {
        let mut response = repository(r);
        response.truncated = r.path.ends_with(".tgz");
        response
    });
    let e = fetcher(None, fast()).chart(&request(server.url("/r"), "1.0.0")).unwrap_err();
    assert!(e.is_not_at_hand() && e.to_string().contains("the answer broke off after"), "{e}");
}

#[test]
fn a_silent_server_is_given_up() {
    let server = Server::start(|_| Response { silent: true, ..Response::new(200, "") });
    let options = NetOptions { idle_timeout: std::time::Duration::from_millis(50), ..fast() };
    let e = fetcher(None, options).chart(&request(server.url("/r"), "1.0.0")).unwrap_err();
    assert!(e.is_not_at_hand() && e.to_string().contains("silent"), "{e}");
    assert_eq!(server.seen().len(), 2);
}

#[test]
fn a_host_that_refuses_is_remembered_until_all_is_forgotten() {
    let address = dead_address();
    let f = fetcher(None, fast());
    let ask = |version: &str| f.chart(&request(format!("http://{address}/r"), version));
    let e = ask("1.0.0").unwrap_err();
    assert!(e.is_not_at_hand() && e.to_string().contains("no connection can be made"), "{e}");
    let server = Server::on(TcpListener::bind(address).unwrap(), None, repository);
    assert!(ask("1.2.0").is_err());
    assert!(server.seen().is_empty());
    f.forget();
    assert_eq!(ask("1.2.0").unwrap().artifact.revision, "1.2.0");
}

#[test]
fn hosts_without_a_name_are_not_at_hand() {
    // Names that are reserved never to exist; whether the name server says so or is not there is the same to us.
    let options = NetOptions { connect_timeout: std::time::Duration::from_millis(200), ..fast() };
    let f = fetcher(None, options);
    let errors: Vec<String> = (0..15)
        .map(|i| f.chart(&request(format!("https://host{i}.invalid/r"), "1.0.0")).unwrap_err())
        .inspect(|e| assert!(e.is_not_at_hand(), "{e}"))
        .map(|e| e.to_string())
        .collect();
    assert!(errors[0].contains("https://host0.invalid/r/index.yaml"), "{}", errors[0]);
    assert!(errors[14].contains("https://host14.invalid/r/index.yaml"), "{}", errors[14]);
}

#[test]
fn a_proxy_that_refuses_is_told_apart_and_loopback_can_be_excepted() {
    let proxy = Server::start(|_| Response::new(403, ""));
    let options = NetOptions { https_proxy: Some(proxy.url("")), ..fast() };
    let e = fetcher(None, options).chart(&request("https://charts.invalid/r", "1.0.0")).unwrap_err();
    assert!(e.is_not_at_hand() && e.to_string().contains("proxy"), "{e}");
    assert!(proxy.seen().iter().all(|s| s.starts_with("CONNECT")), "{:?}", proxy.seen());
    assert!(proxy.seen().len() <= 2);
    let server = Server::start(repository);
    let options = NetOptions { http_proxy: Some(proxy.url("")), no_proxy: Some("127.0.0.1".into()), ..fast() };
    fetcher(None, options).chart(&request(server.url("/r"), "1.0.0")).unwrap();
    let options = NetOptions { http_proxy: Some(proxy.url("")), ..fast() };
    assert!(fetcher(None, options).chart(&request(server.url("/r"), "1.0.0")).is_err());
    assert!(fetcher_fails_without_showing("ht tp://u:geheim@x"));
}

fn fetcher_fails_without_showing(proxy: &str) -> bool {
    let options = NetOptions { https_proxy: Some(proxy.into()), ..fast() };
    let e = Fetcher::new(FetcherOptions::default()).unwrap().with_network(options).unwrap_err();
    !e.to_string().contains("geheim")
}

#[test]
fn options_that_are_none_are_refused_before_anything_is_asked() {
    let broken = "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n";
    let options = NetOptions { extra_roots: Some(broken.into()), ..fast() };
    let e = Fetcher::new(FetcherOptions::default()).unwrap().with_network(options).unwrap_err();
    assert!(e.to_string().contains("no PEM"), "{e}");
}

#[test]
fn credentials_stay_with_the_repository_unless_told_otherwise() {
    let other = Server::start(|_| Response::new(200, chart("a", "1.0.0")));
    let elsewhere = other.url("/a.tgz");
    let server = Server::start(move |r| match r.path.as_str() {
        _ if r.header("authorization").is_empty() => Response::new(401, ""),
        "/r/index.yaml" => {
            let index = format!(
                "apiVersion: v1\nentries:\n  a:\n  - {{version: 1.0.0, urls: ['{elsewhere}']}}\n  - {{version: 1.1.0, urls: [a.tgz]}}\n"
            );
            Response::new(200, index)
        }
        _ => Response::new(200, chart("a", "1.1.0")),
    });
    let auth = Some(Auth { username: "u".into(), password: "p".into() });
    for pass_credentials in [false, true] {
        let request = ChartRequest { auth: auth.clone(), pass_credentials, ..request(server.url("/r"), "1.0.0") };
        fetcher(None, fast()).chart(&request).unwrap();
        let sent = other.requests().last().unwrap().header("authorization").to_string();
        assert_eq!(sent, if pass_credentials { "Basic dTpw" } else { "" });
    }
    let with = server.url("/r").replace("http://", "http://u:p@");
    let got = fetcher(None, fast()).chart(&request(with, "1.1.0")).unwrap();
    assert_eq!(got.artifact.origin, Origin::Network(server.url("/r/a.tgz")));
    let e = fetcher(None, fast()).chart(&request(server.url("/r").replace("http://", "http://u:@"), "9")).unwrap_err();
    assert!(!e.to_string().contains("u:@"), "{e}");
}

#[test]
fn redirects_are_followed_without_credentials_and_not_for_ever() {
    let other = Server::start(|r| repository(&Request { path: r.path.replace("/s", "/r"), ..r.clone() }));
    let to = other.url("/s");
    let server = Server::start(move |r| Response::new(302, "").header("location", r.path.replace("/r", &to)));
    let auth = Some(Auth { username: "u".into(), password: "p".into() });
    let f = fetcher(None, fast());
    f.chart(&ChartRequest { auth, ..request(server.url("/r"), "1.0.0") }).unwrap();
    assert!(other.requests().iter().all(|r| r.header("authorization").is_empty()));
    let circle = Server::start(|_| Response::new(302, "").header("location", "/r/index.yaml"));
    let e = f.chart(&request(circle.url("/r"), "1.0.0")).unwrap_err();
    assert!(e.to_string().contains("redirects more than"), "{e}");
}

#[test]
fn what_is_too_large_is_not_taken() {
    let server = Server::start(|r| match r.path.as_str() {
        path if path.ends_with(".tgz") => Response { claims: 101 << 20, ..repository(r) },
        "/large/index.yaml" => Response { claims: 257 << 20, ..Response::new(200, index()) },
        _ => repository(r),
    });
    for (place, limit) in [("/r", "100 MiB"), ("/large", "256 MiB")] {
        let e = fetcher(None, fast()).chart(&request(server.url(place), "1.0.0")).unwrap_err();
        assert!(e.to_string().contains(&format!("larger than {limit}")), "{e}");
        assert!(!e.is_not_at_hand());
    }
}

#[test]
fn packed_indexes_are_unpacked_and_nonsense_is_refused() {
    let server = Server::start(|r| {
        if r.path == "/r/index.yaml" {
            let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            std::io::Write::write_all(&mut gz, index().as_bytes()).unwrap();
            return Response::new(200, gz.finish().unwrap()).header("content-encoding", "gzip");
        }
        repository(r)
    });
    fetcher(None, fast()).chart(&request(server.url("/r"), "1.0.0")).unwrap();
    let server = Server::start(|r| match r.path.as_str() {
        "/r/index.yaml" => Response::new(200, "apiVersion: v1\nentries:\n  a:\n  - {version: 1.0.0, urls: [x]}\n"),
        "/page/index.yaml" => Response::new(200, "<html>\n"),
        _ => Response::new(200, "<html>"),
    });
    let e = fetcher(None, fast()).chart(&request(server.url("/r"), "1.0.0")).unwrap_err();
    assert!(e.to_string().contains("no gzip archive"), "{e}");
    let e = fetcher(None, fast()).chart(&request(server.url("/page"), "1.0.0")).unwrap_err();
    assert!(e.to_string().contains("no index of a Helm repository"), "{e}");
}

fn tls() -> (rustls::ServerConfig, String) {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_string(), "127.0.0.1".to_string()]).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    (config, made.cert.pem())
}

#[test]
fn certificates_are_checked_and_further_authorities_can_be_trusted() {
    let (config, pem) = tls();
    let server = Server::tls(config, repository);
    let url = server.url("/r").replace("http://", "https://");
    let e = fetcher(None, fast()).chart(&request(url.clone(), "1.0.0")).unwrap_err();
    assert!(e.to_string().contains("TLS failed") && e.to_string().contains("add its authority"), "{e}");
    assert!(!e.is_not_at_hand());
    assert!(server.seen().is_empty());
    let options = NetOptions { extra_roots: Some(pem), ..fast() };
    fetcher(None, options).chart(&request(url, "1.0.0")).unwrap();
}

#[test]
fn many_threads_share_a_cache_and_a_fetcher() {
    let server = Server::start(repository);
    let dir = tempfile::tempdir().unwrap();
    let fetchers = [fetcher(Some(dir.path()), fast()), fetcher(Some(dir.path()), fast())];
    let url = server.url("/r");
    std::thread::scope(|s| {
        for i in 0..16 {
            let (f, url) = (&fetchers[i % 2], url.clone());
            s.spawn(move || {
                let version = ["1.0.0", "1.2.0", "2.0.0"][i % 3];
                assert_eq!(*f.chart(&request(url, version)).unwrap().bytes.read().unwrap(), chart("a", version));
            });
        }
    });
    let offline = Fetcher::new(FetcherOptions { cache: Some(dir.path().into()), ..Default::default() }).unwrap();
    assert_eq!(offline.chart(&request(url, "2.0.0")).unwrap().artifact.origin, Origin::Cache);
}

#[test]
fn calls_work_on_threads_of_an_async_runtime() {
    let server = Server::start(repository);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    let url = server.url("/r");
    let got = runtime.block_on(async move {
        let f = fetcher(None, fast());
        tokio::task::spawn_blocking(move || f.chart(&request(url, "1.0.0"))).await.unwrap()
    });
    assert_eq!(got.unwrap().artifact.revision, "1.0.0");
    // And a fetcher may be dropped there.
    runtime.block_on(async { drop(fetcher(None, fast())) });
}
