//! What the tests share: a server in memory or in a folder, requests to it without a network, and one that listens.
#![allow(dead_code, clippy::unwrap_used)]

pub mod replay;

use std::net::SocketAddr;
use std::sync::Arc;

use druse_apiserver::{ApiServer, ApiService, Error};
use druse_object::{Value, json};
use http::Request;
use http_body_util::{BodyExt as _, Full};
use tokio::task::JoinHandle;
use tower::ServiceExt as _;

/// A server in memory that gives namespaces nothing.
pub async fn bare() -> ApiServer {
    ApiServer::builder().bare(true).token("admin").build().await.unwrap()
}

/// A server that other programs reach over TLS on the loopback interface.
pub struct Served {
    pub server: Arc<ApiServer>,
    pub address: SocketAddr,
    task: JoinHandle<Result<(), Error>>,
}

impl Served {
    pub async fn start(server: ApiServer) -> Self {
        let server = Arc::new(server);
        let listener = server.listen("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = server.clone();
        Self { server, address, task: tokio::spawn(async move { serving.serve(listener).await }) }
    }

    pub fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    pub async fn stop(self) {
        self.server.close();
        self.task.await.unwrap().unwrap();
    }
}

/// Sends a request with JSON (or, for PATCH, a merge patch).
pub async fn send(service: &ApiService, method: &str, path: &str, body: &str) -> (u16, Value) {
    let kind = if method == "PATCH" { "application/merge-patch+json" } else { "application/json" };
    send_as(service, method, path, kind, body).await
}

/// Sends a request with a content type.
pub async fn send_as(service: &ApiService, method: &str, path: &str, kind: &str, body: &str) -> (u16, Value) {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("content-type", kind)
        .body(Full::new(bytes::Bytes::copy_from_slice(body.as_bytes())))
        .unwrap();
    let response = service.clone().oneshot(request).await.unwrap();
    let code = response.status().as_u16();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    (code, json::parse(&bytes).unwrap_or_else(|_| Value::from(String::from_utf8_lossy(&bytes).into_owned())))
}

/// Follows a watch until an event satisfies `f`; the answers so far when it ends first.
pub async fn until(service: &ApiService, path: &str, mut f: impl FnMut(&str, &Value) -> bool) -> Vec<(String, Value)> {
    let request = Request::builder().uri(path).body(Full::new(bytes::Bytes::new())).unwrap();
    let mut body = service.clone().oneshot(request).await.unwrap().into_body();
    let mut seen = Vec::new();
    let mut buffer = Vec::new();
    while let Some(Ok(frame)) = body.frame().await {
        buffer.extend_from_slice(&frame.into_data().unwrap_or_default());
        while let Some(end) = buffer.iter().position(|b| *b == b'\n') {
            let line: Vec<u8> = buffer.drain(..=end).collect();
            let event = json::parse(&line).unwrap();
            let kind = event["type"].as_str().unwrap().to_owned();
            let done = f(&kind, &event["object"]);
            seen.push((kind, event["object"].clone()));
            if done {
                return seen;
            }
        }
    }
    seen
}

/// The folder with recordings, when this checkout has one.
pub fn shared() -> Option<std::path::PathBuf> {
    let dir = std::env::var_os("DRUSE_SHARED")
        .map(std::path::PathBuf::from)
        .unwrap_or_else(|| std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared"));
    dir.join("kubernetes/transcripts").is_dir().then_some(dir)
}
