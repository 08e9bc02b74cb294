//! Paths that name no resource: health, version, discovery, schemas, the issuer's documents.

use std::sync::Arc;

use druse_object::{Map, Value};
use http::{HeaderMap, Method};

use super::{Answer, discovery};
use crate::negotiate;
use crate::request::RequestInfo;
use crate::response;
use crate::server::Shared;
use crate::status::Status;

/// The Kubernetes version whose API this is.
const MINOR: &str = "36";
const GIT_VERSION: &str = "v1.36.3";

/// Answers a request for such a path.
pub async fn path(shared: &Arc<Shared>, info: &RequestInfo, method: &Method, headers: &HeaderMap) -> Answer {
    let path = info.path.trim_end_matches('/');
    let segments: Vec<&str> = path.split('/').filter(|s| !s.is_empty()).collect();
    let checked = matches!(segments.first(), Some(&("healthz" | "livez" | "readyz")));
    if !matches!(*method, Method::GET | Method::HEAD) && !checked {
        return Err(match segments.first() {
            Some(&("api" | "apis" | "version" | "openapi")) => Status::method_not_supported(),
            _ => Status::no_path(),
        });
    }
    let json = |v: &Value| -> Answer {
        let accepted = negotiate::accept(headers, info.query.flag("pretty"), negotiate::Asked::Document)?;
        Ok(response::value(200, v, accepted.format))
    };
    match segments.as_slice() {
        [] => json(&index(shared)),
        ["healthz" | "livez" | "readyz"] | ["healthz" | "livez" | "readyz", "ping" | "log" | "etcd" | "store"] => {
            Ok(health(shared, info, &segments))
        }
        ["version"] => json(&version()),
        ["api"] if discovery::wants_aggregated(headers) => discovery::aggregated(shared, headers, true),
        ["apis"] if discovery::wants_aggregated(headers) => discovery::aggregated(shared, headers, false),
        ["api"] => json(&discovery::core_versions(shared)),
        ["apis"] => json(&discovery::groups(shared)),
        ["apis", group] => json(&discovery::group(shared, group)?),
        ["api", v] => json(&discovery::resources(shared, "", v)?),
        ["apis", group, v] => json(&discovery::resources(shared, group, v)?),
        ["openapi", rest @ ..] => crate::openapi::serve(shared, rest, headers).await,
        [".well-known", "openid-configuration"] => {
            let uri = format!("https://{}/openid/v1/jwks", shared.address.read());
            Ok(response::value(200, &shared.issuer.discovery(&uri), negotiate::Format::Json))
        }
        ["openid", "v1", "jwks"] => {
            const KEYS: &str = "application/jwk-set+json";
            let wanted = |v: &http::HeaderValue| v.to_str().is_ok_and(|v| v.contains(KEYS) || v.contains("*/*"));
            let mut accepts = headers.get_all(http::header::ACCEPT).iter().peekable();
            if accepts.peek().is_some() && !accepts.any(wanted) {
                return Err(Status::not_acceptable(KEYS));
            }
            let shared = shared.clone();
            let set = tokio::task::spawn_blocking(move || shared.issuer.jwks())
                .await
                .map_err(Status::internal)?
                .map_err(Status::internal)?;
            let text = druse_object::json::to_string(&set);
            Ok(response::text(200, "application/jwk-set+json", text))
        }
        // No API of Kubernetes: a backup of a running server. Only who may get this path gets it.
        ["druse", "snapshot"] => {
            let store = shared.store.clone();
            let made = tokio::task::spawn_blocking(move || crate::store::snapshot(&*store)).await;
            let made =
                made.map_err(Status::internal)?.map_err(|e| Status::new(503, "ServiceUnavailable", e.to_string()))?;
            Ok(response::text(200, "application/octet-stream", made))
        }
        ["metrics"] => Ok(response::text(200, "text/plain; version=0.0.4; charset=utf-8", metrics(shared))),
        _ => Err(Status::no_path()),
    }
}

fn index(shared: &Shared) -> Value {
    let table = shared.registry.table();
    let mut paths = vec![".well-known/openid-configuration".to_owned(), "api".into(), "api/v1".into(), "apis".into()];
    for (group, versions) in table.groups.iter().filter(|(g, _)| !g.is_empty()) {
        paths.push(format!("apis/{group}"));
        paths.extend(versions.iter().map(|v| format!("apis/{group}/{v}")));
    }
    paths.extend(
        ["healthz", "livez", "metrics", "openapi/v2", "openapi/v3", "openid/v1/jwks", "readyz", "version"]
            .map(String::from),
    );
    let mut m = Map::new();
    m.insert("paths", paths.into_iter().map(|p| format!("/{p}")).collect::<Value>());
    Value::Map(m)
}

fn health(shared: &Shared, info: &RequestInfo, segments: &[&str]) -> http::Response<crate::body::Body> {
    let stopping = *shared.closing.borrow() && segments.first() == Some(&"readyz");
    if stopping {
        return response::text(500, "text/plain; charset=utf-8", "[-]shutdown failed: the server is stopping\n");
    }
    if info.query.get("verbose").is_some() {
        let name = segments.first().copied().unwrap_or_default();
        return response::text(
            200,
            "text/plain; charset=utf-8",
            format!("[+]ping ok\n[+]store ok\n{name} check passed\n"),
        );
    }
    response::text(200, "text/plain; charset=utf-8", "ok")
}

fn version() -> Value {
    let mut m = Map::new();
    m.insert("major", "1");
    m.insert("minor", MINOR);
    m.insert("emulationMajor", "1");
    m.insert("emulationMinor", MINOR);
    m.insert("minCompatibilityMajor", "1");
    m.insert("minCompatibilityMinor", "35");
    m.insert("gitVersion", GIT_VERSION);
    m.insert("gitCommit", "");
    m.insert("gitTreeState", "clean");
    m.insert("buildDate", "1970-01-01T00:00:00Z");
    m.insert("goVersion", "");
    m.insert("compiler", concat!("druse-", env!("CARGO_PKG_VERSION")));
    m.insert("platform", format!("{}/{}", std::env::consts::OS, platform()));
    Value::Map(m)
}

/// The processor's name as Go says it.
fn platform() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn metrics(shared: &Shared) -> String {
    let mut out = String::from("# TYPE apiserver_resource_objects gauge\n");
    for r in shared.registry.table().resources.iter().filter(|r| r.is_stored()) {
        let n = shared.store.count(&r.stored_as);
        out.push_str(&format!("apiserver_resource_objects{{group=\"{}\",resource=\"{}\"}} {n}\n", r.group, r.plural));
    }
    out.push_str(&format!("# TYPE druse_store_revision counter\ndruse_store_revision {}\n", shared.store.revision()));
    out
}
