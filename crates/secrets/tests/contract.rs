//! The provider behind its socket, asked as the driver asks.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::World;
use druse_csi::wire::Code;
use druse_csi::wire::provider::{Client, MountRequest, VersionRequest, service};
use druse_csi::wire::server::{Socket, serve};
use druse_identity::jwt;
use druse_object::json;
use druse_secrets::provider::Pod;
use druse_secrets::provider::serve::Served;

const TIME: Duration = Duration::from_secs(20);

/// A request with the attributes that upstream's driver 1.6 sends, its names filled in.
fn recorded(pod: &Pod, objects: &str, token: &str) -> MountRequest {
    let attributes = include_str!("contract/attributes.json")
        .replace("POD_NAMESPACE", &pod.namespace)
        .replace("POD_NAME", &pod.name)
        .replace("POD_UID", &pod.uid)
        .replace("ACCOUNT", &pod.account)
        .replace("TOKEN", token)
        .replace("\"OBJECTS\"", &json::to_string(&druse_object::Value::from(objects)));
    MountRequest {
        attributes,
        secrets: "{}".into(),
        target_path: format!("/var/lib/kubelet/pods/{}/volumes/kubernetes.io~csi/secrets/mount", pod.uid),
        permission: "420".into(),
        current_object_version: Vec::new(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_driver_gets_files_and_versions_or_the_reason_with_its_code() {
    let w = World::local(None).await;
    let pod = w.app();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("aws.sock");
    let socket = Socket::bind(&path, 0o600).unwrap();
    let served = Arc::new(Served::new(w.provider(), "1.2.3"));
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let serving = tokio::spawn(serve(socket, vec![service(served, 4 << 20)], async {
        let _ = stopped.await;
    }));
    let driver = Client::new(&path, 4 << 20);
    let version = driver.version(VersionRequest { version: "v1alpha1".into() }, TIME).await.unwrap();
    assert_eq!((version.version.as_str(), version.runtime_version.as_str()), ("v1alpha1", "1.2.3"));

    let token = jwt::sign(&w.api.key, &w.api.claims(&pod, "sts.amazonaws.com")).unwrap();
    let objects =
        "- objectName: /home/app/db\n  objectType: ssmparameter\n  objectAlias: db\n  filePermission: '0600'\n";
    let answer = driver.mount(recorded(&pod, objects, &token), TIME).await.unwrap();
    let files: Vec<_> = answer.files.iter().map(|f| (f.path.as_str(), f.mode, f.contents.as_slice())).collect();
    assert_eq!(files, [("db", 0o600, b"second".as_slice())]);
    assert_eq!((answer.object_version[0].id.as_str(), answer.object_version[0].version.as_str()), ("db", "2"));
    assert_eq!(w.api.tokens_asked.load(std::sync::atomic::Ordering::Relaxed), 0, "the kubelet's token is used");

    let refused = async |request: MountRequest| {
        let e = driver.mount(request, TIME).await.unwrap_err();
        assert!(!e.message().contains(&token), "{e}");
        (e.code(), e.message().to_string())
    };
    let (code, text) = refused(recorded(&pod, &objects.replace("app/db", "other/db"), &token)).await;
    assert!(code == Code::PermissionDenied && text.contains("/home/other/db"), "{text}");
    let (code, text) = refused(recorded(&pod, &objects.replace("app/db", "app/none"), &token)).await;
    assert!(code == Code::NotFound && text.contains("/home/app/none"), "{text}");
    let (code, _) = refused(recorded(&Pod { uid: "other".into(), ..pod.clone() }, objects, &token)).await;
    assert_eq!(code, Code::PermissionDenied);
    let (code, _) = refused(recorded(&pod, objects, "a.b.c")).await;
    assert_eq!(code, Code::Unauthenticated);
    let mut unnamed = recorded(&pod, objects, &token);
    unnamed.attributes = "{}".into();
    let (code, text) = refused(unnamed).await;
    assert!(code == Code::InvalidArgument && text.contains("podInfoOnMount"), "{text}");
    let (code, _) = refused(recorded(&pod, "- nothing", &token)).await;
    assert_eq!(code, Code::FailedPrecondition);
    drop(driver);
    stop.send(()).unwrap();
    serving.await.unwrap();
    assert!(!path.exists(), "the socket goes with the provider");
}
