//! OCI registries: tokens, tags with pages, charts and Flux artifacts, digests.
#![allow(clippy::unwrap_used)]

mod support;

use std::path::Path;
use std::sync::Arc;

use druse_kustomize::tree::FileTree as _;
use druse_source::{
    Auth, ChartRequest, Fetcher, FetcherOptions, NetOptions, OciReference, OciRequest, Origin, SourceError,
};
use support::{Request, Response, Server, chart, fast, sha256, tgz};

const CHART: &str = "application/vnd.cncf.helm.chart.content.v1.tar+gzip";
const FLUX: &str = "application/vnd.cncf.flux.content.v1.tar+gzip";

fn manifest(media_type: &str, layer: &[u8]) -> String {
    format!(
        r#"{{"schemaVersion":2,"config":{{"mediaType":"x","digest":"sha256:00","size":2}},"layers":[{{"mediaType":"application/provenance","digest":"sha256:11","size":1}},{{"mediaType":"{media_type}","digest":"sha256:{}","size":{}}}]}}"#,
        sha256(layer),
        layer.len()
    )
}

fn files() -> Vec<u8> {
    tgz(&[("kustomization.yaml", "resources: [a.yaml]\n"), ("./a.yaml", "kind: A\n")])
}

/// A registry: charts `charts/a` with tags on two pages, the artifact `flux/a`; all behind a token.
fn registry(request: &Request) -> Response {
    let host = request.header("host").to_string();
    if request.path == "/token" {
        let private = request.query.contains("private");
        if private && request.header("authorization") != "Basic dTpw" {
            return Response::new(401, r#"{"errors":[{"code":"UNAUTHORIZED","message":"who are you"}]}"#);
        }
        return Response::new(200, r#"{"token":"t"}"#);
    }
    if request.header("authorization") != "Bearer t" {
        let name = if request.path.contains("private") { "private" } else { "charts/a" };
        let challenge = format!(r#"Bearer realm="http://{host}/token",service="s",scope="repository:{name}:pull""#);
        return Response::new(401, "").header("www-authenticate", challenge);
    }
    let chart_of = |version: &str| manifest(CHART, &chart("a", version));
    let by_digest = |rest: &str, wanted: &[(String, Vec<u8>)]| {
        wanted.iter().find(|(d, _)| rest == d).map_or(Response::new(404, ""), |(_, b)| Response::new(200, b.clone()))
    };
    let path = request.path.strip_prefix("/v2/").unwrap_or_default();
    match path {
        "charts/a/tags/list" if request.query.contains("last=") => {
            Response::new(200, r#"{"tags":["1.10.0","v3.0.1","2.0.0_b1"]}"#)
        }
        "charts/a/tags/list" => Response::new(200, r#"{"tags":["latest","1.2.0"]}"#)
            .header("link", r#"</v2/charts/a/tags/list?last=1.2.0&n=2>; rel="next""#),
        "flux/a/tags/list" => Response::new(200, r#"{"tags":["v1.0.0","v1.1.0"]}"#),
        "charts/wrong/manifests/1.0.0" => Response::new(200, chart_of("1.2.0"))
            .header("docker-content-digest", format!("sha256:{}", sha256(b"other"))),
        "charts/damaged/manifests/1.0.0" => Response::new(200, chart_of("1.2.0")),
        "charts/index/manifests/1.2.0" => Response::new(
            200,
            format!(
                r#"{{"manifests":[{{"digest":"sha256:00","platform":{{"os":"windows","architecture":"amd64"}}}},{{"digest":"sha256:{}","platform":{{"os":"linux","architecture":"amd64"}}}}]}}"#,
                sha256(chart_of("1.2.0").as_bytes())
            ),
        ),
        "flux/a/manifests/v1.1.0" | "flux/a/manifests/latest" => Response::new(200, manifest(FLUX, &files())),
        _ => {
            if path.starts_with("charts/damaged/blobs/") {
                return Response::new(200, "something else");
            }
            if let Some((_, rest)) = path.split_once("/manifests/") {
                if let Some(version) = ["1.2.0", "1.10.0", "v3.0.1", "2.0.0_b1", "latest"].iter().find(|v| **v == rest)
                {
                    let version = version.replace('_', "+").replace("latest", "1.2.0");
                    return Response::new(200, chart_of(&version));
                }
                let all =
                    ["1.2.0"].map(|v| (format!("sha256:{}", sha256(chart_of(v).as_bytes())), chart_of(v).into_bytes()));
                return by_digest(rest, &all);
            }
            if let Some((_, rest)) = path.split_once("/blobs/") {
                let mut all: Vec<(String, Vec<u8>)> = ["1.2.0", "1.10.0", "v3.0.1", "2.0.0+b1"]
                    .map(|v| (format!("sha256:{}", sha256(&chart("a", v))), chart("a", v)))
                    .to_vec();
                all.push((format!("sha256:{}", sha256(&files())), files()));
                return by_digest(rest, &all);
            }
            Response::new(404, r#"{"errors":[{"code":"NAME_UNKNOWN"}]}"#)
        }
    }
}

fn fetcher(cache: Option<&Path>, net: NetOptions) -> Fetcher {
    let options = FetcherOptions { cache: cache.map(Into::into), ..FetcherOptions::default() };
    Fetcher::new(options).unwrap().with_network(net).unwrap()
}

fn oci(server: &Server, path: &str) -> String {
    server.url(path).replace("http://", "oci://")
}

fn request(server: &Server, path: &str, name: &str, version: &str) -> ChartRequest {
    ChartRequest {
        repository: oci(server, path),
        name: name.into(),
        version: version.into(),
        ..ChartRequest::default()
    }
}

#[test]
fn charts_come_by_version_range_tag_and_digest_through_the_token_flow() {
    let server = Server::start(registry);
    let f = fetcher(None, fast());
    let manifest_digest = format!("sha256:{}", sha256(manifest(CHART, &chart("a", "1.2.0")).as_bytes()));
    for (wanted, want) in [
        ("1.2.0", "1.2.0"),
        ("1.x", "1.10.0"),
        ("2.0.0+b1", "2.0.0+b1"),
        ("3.0.1", "v3.0.1"),
        ("", "v3.0.1"),
        ("latest", "1.2.0"),
        (manifest_digest.as_str(), "1.2.0"),
    ] {
        let got = f.chart(&request(&server, "/charts", "a", wanted)).unwrap();
        assert_eq!(got.artifact.revision, want, "{wanted}");
        assert_eq!(*got.bytes.read().unwrap(), chart("a", want), "{wanted}");
    }
    let tokens = server.seen().iter().filter(|s| *s == "GET /token").count();
    assert_eq!(tokens, 1, "a token is used again");
    let e = f.chart(&request(&server, "/charts", "a", "4.0.0")).unwrap_err();
    assert!(e.is_not_at_hand() && e.to_string().contains("has v3.0.1, 2.0.0+b1, 1.10.0, 1.2.0"), "{e}");
    let e = f.chart(&request(&server, "/charts", "none", "4.0.0")).unwrap_err();
    assert!(e.is_not_at_hand() && e.to_string().contains("is not there"), "{e}");
}

#[test]
fn an_index_of_manifests_means_the_usual_platform() {
    let server = Server::start(registry);
    let got = fetcher(None, fast()).chart(&request(&server, "/charts", "index", "1.2.0")).unwrap();
    assert_eq!(*got.bytes.read().unwrap(), chart("a", "1.2.0"));
}

#[test]
fn wrong_digests_are_refused() {
    let server = Server::start(registry);
    let f = fetcher(None, fast());
    for name in ["wrong", "damaged"] {
        let e = f.chart(&request(&server, "/charts", name, "1.0.0")).unwrap_err();
        assert!(matches!(&e, SourceError::Digest { .. }), "{e}");
    }
}

#[test]
fn credentials_come_from_the_request_or_from_docker() {
    let server = Server::start(registry);
    let place = request(&server, "/charts", "private", "1.2.0");
    let e = fetcher(None, fast()).chart(&place).unwrap_err();
    assert!(!e.is_not_at_hand() && e.to_string().contains("401") && e.to_string().contains("who are you"), "{e}");
    let auth = Some(Auth { username: "u".into(), password: "p".into() });
    fetcher(None, fast()).chart(&ChartRequest { auth, ..place.clone() }).unwrap();
    let config = format!(r#"{{"auths":{{"{}":{{"auth":"dTpw"}}}}}}"#, server.address);
    let options = NetOptions { registry_configs: vec![config], ..fast() };
    fetcher(None, options).chart(&place).unwrap();
}

#[test]
fn a_fixed_version_is_served_from_the_cache_without_the_network() {
    let server = Server::start(registry);
    let dir = tempfile::tempdir().unwrap();
    fetcher(Some(dir.path()), fast()).chart(&request(&server, "/charts", "a", "1.x")).unwrap();
    let before = server.seen().len();
    let got = fetcher(Some(dir.path()), fast()).chart(&request(&server, "/charts", "a", "1.10.0")).unwrap();
    assert_eq!((got.artifact.origin, server.seen().len()), (Origin::Cache, before));
}

#[test]
fn flux_artifacts_become_trees_and_tags_are_looked_up_anew() {
    let server = Server::start(registry);
    let dir = tempfile::tempdir().unwrap();
    let ask = |reference: OciReference| OciRequest {
        url: oci(&server, "/flux/a"),
        reference,
        media_type: Some(FLUX.into()),
        ..OciRequest::default()
    };
    let range = ask(OciReference { semver: Some(">=1.0.0".into()), ..OciReference::default() });
    let got = fetcher(Some(dir.path()), fast()).oci(&range).unwrap();
    let digest = sha256(manifest(FLUX, &files()).as_bytes());
    assert_eq!(got.artifact.revision, format!("v1.1.0@sha256:{digest}"));
    assert_eq!(got.tree.list("").unwrap(), ["a.yaml", "kustomization.yaml"]);
    assert_eq!(&*got.tree.read("a.yaml").unwrap(), b"kind: A\n");
    // The tag is asked for again, its layer is not.
    let blobs = |s: &Server| s.seen().iter().filter(|p| p.contains("/blobs/")).count();
    let got = fetcher(Some(dir.path()), fast()).oci(&ask(OciReference::default())).unwrap();
    assert_eq!(got.artifact.revision, format!("latest@sha256:{digest}"));
    assert_eq!((got.artifact.origin, blobs(&server)), (Origin::Cache, 1));
    // Without the network the last answer is used.
    let offline = Fetcher::new(FetcherOptions { cache: Some(dir.path().into()), ..Default::default() }).unwrap();
    assert_eq!(offline.oci(&range).unwrap().artifact.revision, format!("v1.1.0@sha256:{digest}"));
    let other = OciRequest { media_type: Some("x/y".into()), ..range };
    let e = fetcher(None, fast()).oci(&other).unwrap_err();
    assert!(e.to_string().contains("no layer of media type x/y; it has: application/provenance"), "{e}");
}

#[test]
fn plain_http_is_not_spoken_to_registries_elsewhere() {
    let f = fetcher(None, NetOptions { connect_timeout: std::time::Duration::from_millis(200), ..fast() });
    let place = ChartRequest {
        repository: "oci://registry.invalid/charts".into(),
        name: "a".into(),
        version: "1.0.0".into(),
        ..ChartRequest::default()
    };
    let e = f.chart(&place).unwrap_err();
    assert!(e.to_string().contains("https://registry.invalid/v2/charts/a/manifests/1.0.0"), "{e}");
}

#[test]
fn a_helm_repository_may_name_charts_in_a_registry() {
    let server = Server::start(registry);
    let place = oci(&server, "/charts/a");
    let index = Arc::new(format!("apiVersion: v1\nentries:\n  a:\n  - {{version: 1.2.0, urls: ['{place}:1.2.0']}}\n"));
    let helm = Server::start(move |_| Response::new(200, index.as_bytes()));
    let place = ChartRequest {
        repository: helm.url("/r"),
        name: "a".into(),
        version: "1.2.0".into(),
        ..ChartRequest::default()
    };
    let dir = tempfile::tempdir().unwrap();
    let got = fetcher(Some(dir.path()), fast()).chart(&place).unwrap();
    assert_eq!(*got.bytes.read().unwrap(), chart("a", "1.2.0"));
    let again = fetcher(Some(dir.path()), NetOptions::default()).chart(&place).unwrap();
    assert_eq!(again.artifact.origin, Origin::Cache);
}
