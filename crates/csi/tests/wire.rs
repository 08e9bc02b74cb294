//! The contracts on the wire: bytes as the `.proto` files say, both ends over a real unix socket, and what happens when
//! the other side hangs, dies or is not what it should be.

#![allow(clippy::unwrap_used)] // helpers of tests

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use druse_csi::wire::csi::NodePublishVolumeRequest;
use druse_csi::wire::provider::{self, Client, File, MountRequest, MountResponse, ObjectVersion, Provider};
use druse_csi::wire::provider::{VersionRequest, VersionResponse};
use druse_csi::wire::server::{Socket, serve};
use druse_csi::wire::{Code, Status};
use prost::Message as _;
use tokio::sync::oneshot;

const LONG: Duration = Duration::from_secs(20);
const MIB: usize = 1 << 20;

/// Answers each request with one file that holds the request's attributes; hangs when they are `hang`.
struct Echo;

impl Provider for Echo {
    async fn version(&self, request: VersionRequest) -> Result<VersionResponse, Status> {
        Ok(VersionResponse { version: request.version, runtime_name: "echo".into(), runtime_version: "1.0.0".into() })
    }
    async fn mount(&self, request: MountRequest) -> Result<MountResponse, Status> {
        match request.attributes.as_str() {
            "hang" => std::future::pending().await,
            "panic" => panic!("on purpose"),
            "refuse" => Err(Status::permission_denied("not yours")),
            other => Ok(MountResponse {
                object_version: request.current_object_version.clone(),
                error: None,
                files: vec![File { path: "echo".into(), mode: 0o400, contents: other.into() }],
            }),
        }
    }
}

struct Running {
    stop: Option<oneshot::Sender<()>>,
    task: tokio::task::JoinHandle<()>,
}

impl Running {
    fn start(path: &Path, max_request: usize) -> Self {
        let socket = Socket::bind(path, 0o600).unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let services = vec![provider::service(Arc::new(Echo), max_request)];
        let task = tokio::spawn(serve(socket, services, async {
            let _ = stopped.await;
        }));
        Self { stop: Some(stop), task }
    }
    async fn stop(mut self) {
        self.stop.take();
        self.task.await.unwrap();
    }
}

fn ask(attributes: &str) -> MountRequest {
    let mut request = MountRequest::default();
    request.attributes.push_str(attributes);
    request.current_object_version.push(ObjectVersion { id: "a".into(), version: "1".into() });
    request
}

#[test]
fn messages_are_the_bytes_of_the_contract() {
    let request = MountRequest {
        attributes: "{}".into(),
        secrets: "null".into(),
        target_path: "/t".into(),
        permission: "420".into(),
        current_object_version: vec![ObjectVersion { id: "a".into(), version: "1".into() }],
    };
    let bytes = b"\x0a\x02{}\x12\x04null\x1a\x02/t\x22\x03420\x2a\x06\x0a\x01a\x12\x011";
    assert_eq!(request.encode_to_vec(), bytes);
    let response = MountResponse {
        object_version: vec![],
        error: Some(provider::Error { code: "E".into() }),
        files: vec![File { path: "f".into(), mode: 0o644, contents: vec![0, 255] }],
    };
    assert_eq!(response.encode_to_vec(), b"\x12\x03\x0a\x01E\x1a\x0a\x0a\x01f\x10\xa4\x03\x1a\x02\x00\xff");

    // publish_context (2) is skipped, secrets are 7, the volume's context is 8.
    let bytes =
        b"\x0a\x01v\x12\x06\x0a\x01p\x12\x01q\x22\x02/t\x2a\x04\x12\x00\x1a\x00\x30\x01\x3a\x06\x0a\x01k\x12\x01s\x42\x06\x0a\x01c\x12\x01d";
    let publish = NodePublishVolumeRequest::decode(bytes.as_slice()).unwrap();
    assert_eq!(publish.volume_id, "v");
    assert_eq!(publish.target_path, "/t");
    assert!(publish.readonly);
    assert!(publish.volume_capability.is_some());
    assert_eq!(publish.secrets, BTreeMap::from([("k".into(), "s".into())]));
    assert_eq!(publish.volume_context, BTreeMap::from([("c".into(), "d".into())]));
}

#[test]
fn debug_output_shows_no_value_and_no_token() {
    let mut mount = MountRequest::default();
    mount.attributes.push_str("CANARY");
    mount.secrets.push_str("CANARY");
    let response = MountResponse {
        files: vec![File { path: "f".into(), mode: 0, contents: b"CANARY".to_vec() }],
        ..MountResponse::default()
    };
    let mut publish = NodePublishVolumeRequest::default();
    publish.secrets.insert("k".into(), "CANARY".into());
    publish.volume_context.insert(druse_csi::wire::csi::TOKENS.into(), "CANARY".into());
    publish.volume_context.insert("csi.storage.k8s.io/pod.name".into(), "web".into());
    let shown = format!("{mount:?} {response:?} {publish:?}");
    assert!(!shown.contains("CANARY"), "{shown}");
    assert!(!shown.contains("67, 65"), "{shown}");
    assert!(shown.contains("web"), "{shown}");
}

#[tokio::test]
async fn a_call_goes_there_and_back() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("echo.sock");
    let server = Running::start(&path, MIB);
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let client = Client::new(&path, MIB);
    let version = client.version(VersionRequest { version: provider::VERSION.into() }, LONG).await.unwrap();
    assert_eq!((version.version.as_str(), version.runtime_name.as_str()), ("v1alpha1", "echo"));
    let answer = client.mount(ask("hello"), LONG).await.unwrap();
    assert_eq!(answer.files[0].contents, b"hello");
    assert_eq!(answer.object_version[0].id, "a");
    let refused = client.mount(ask("refuse"), LONG).await.unwrap_err();
    assert_eq!((refused.code(), refused.message()), (Code::PermissionDenied, "not yours"));
    server.stop().await;
    assert!(!path.exists(), "the socket is removed at the end");
}

#[tokio::test]
async fn many_calls_share_a_connection() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("echo.sock");
    let server = Running::start(&path, MIB);
    let client = Client::new(&path, MIB);
    let calls: Vec<_> = (0..500)
        .map(|i| {
            let client = client.clone();
            tokio::spawn(
                async move { client.mount(ask(&i.to_string()), LONG).await.unwrap().files[0].contents.clone() },
            )
        })
        .collect();
    for (i, call) in calls.into_iter().enumerate() {
        assert_eq!(call.await.unwrap(), i.to_string().into_bytes());
    }
    server.stop().await;
}

#[tokio::test]
async fn a_server_that_hangs_is_left_at_the_deadline_and_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("echo.sock");
    let server = Running::start(&path, MIB);
    let client = Client::new(&path, MIB);
    let late = client.mount(ask("hang"), Duration::from_millis(50)).await.unwrap_err();
    assert_eq!(late.code(), Code::DeadlineExceeded);
    assert!(late.message().contains("echo.sock"), "{late}");
    // Others are served meanwhile and after.
    assert!(client.mount(ask("x"), LONG).await.is_ok());
    server.task.abort();
}

#[tokio::test]
async fn a_handler_that_panics_fails_its_call_only() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("echo.sock");
    let server = Running::start(&path, MIB);
    let client = Client::new(&path, MIB);
    assert_eq!(client.mount(ask("panic"), LONG).await.unwrap_err().code(), Code::Internal);
    assert!(client.mount(ask("x"), LONG).await.is_ok());
    server.stop().await;
}

#[tokio::test]
async fn a_client_finds_a_server_that_was_restarted() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("echo.sock");
    let client = Client::new(&path, MIB);
    let nobody = client.mount(ask("x"), LONG).await.unwrap_err();
    assert_eq!(nobody.code(), Code::Unavailable);
    assert!(nobody.message().contains("echo.sock"), "{nobody}");
    for _ in 0..2 {
        let server = Running::start(&path, MIB);
        assert!(client.mount(ask("x"), LONG).await.is_ok());
        server.stop().await;
    }
}

#[tokio::test]
async fn messages_above_the_limits_are_refused_with_the_size() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("echo.sock");
    let server = Running::start(&path, 64 * MIB);
    let large = "x".repeat(5 * MIB);
    let refused = Client::new(&path, 4 * MIB).mount(ask(&large), LONG).await.unwrap_err();
    assert_eq!(refused.code(), Code::OutOfRange, "{refused}");
    assert!(!refused.message().contains("xxx"), "{refused}");
    let taken = Client::new(&path, 64 * MIB).mount(ask(&large), LONG).await.unwrap();
    assert_eq!(taken.files[0].contents.len(), 5 * MIB);
    server.stop().await;
}

#[tokio::test]
async fn a_socket_left_behind_is_replaced_and_anything_else_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    let first = Socket::bind(&path, 0o600).unwrap();
    // A successor takes over while the first still runs; the first leaves the successor's socket alone.
    let second = Socket::bind(&path, 0o600).unwrap();
    drop(first);
    assert!(path.exists());
    drop(second);
    assert!(!path.exists());
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);

    std::fs::write(&path, "mine").unwrap();
    let refused = Socket::bind(&path, 0o600).unwrap_err();
    assert!(refused.to_string().contains("not a socket"), "{refused}");
    assert_eq!(std::fs::read(&path).unwrap(), b"mine");
}
