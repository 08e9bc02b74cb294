//! The data directory: what is kept over restarts, who may use it, what damage does.

#![allow(clippy::unwrap_used)]

mod common;

use common::send;
use druse_apiserver::{ApiServer, Error, store::StoreError};
use druse_object::Value;

async fn open(dir: &std::path::Path) -> ApiServer {
    ApiServer::builder().data_dir(dir).build().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_versions_tokens_and_addresses_survive_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("data");
    let maps = "/api/v1/namespaces/default/configmaps";
    let services = "/api/v1/namespaces/default/services";
    let (before, service, token, ca) = {
        let server = open(&path).await;
        let s = server.service();
        let (_, made) = send(&s, "POST", maps, r#"{"metadata":{"name":"a"},"data":{"k":"v"}}"#).await;
        let (_, service) =
            send(&s, "POST", services, r#"{"metadata":{"name":"s"},"spec":{"ports":[{"port":1}]}}"#).await;
        (made, service, server.token().to_owned(), server.ca_pem().to_owned())
    };
    let server = open(&path).await;
    let s = server.service();
    assert_eq!(send(&s, "GET", &format!("{maps}/a"), "").await.1, before);
    assert_eq!((server.token(), server.ca_pem()), (token.as_str(), ca.as_str()));
    let (_, later) = send(&s, "POST", maps, r#"{"metadata":{"name":"b"}}"#).await;
    let version = |v: &Value| v.str_at(["metadata", "resourceVersion"]).unwrap().parse::<u64>().unwrap();
    assert!(version(&later) > version(&service));
    let taken = format!(
        r#"{{"metadata":{{"name":"t"}},"spec":{{"clusterIP":"{}","ports":[{{"port":1}}]}}}}"#,
        service.str_at(["spec", "clusterIP"]).unwrap()
    );
    assert_eq!(send(&s, "POST", services, &taken).await.0, 422);
    assert_eq!(std::fs::read_to_string(path.join(".gitignore")).unwrap(), "*\n");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_server_on_the_same_directory_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let _first = open(dir.path()).await;
    let second = ApiServer::builder().data_dir(dir.path()).build().await;
    assert!(matches!(second, Err(Error::Store(StoreError::Locked(_)))), "{second:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_file_is_named_not_served() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("data");
    drop(open(&path).await);
    let file = path.join("store.redb");
    let mut bytes = std::fs::read(&file).unwrap();
    // Every object's text: the header and the tree stay readable, the checksums of the objects do not fit.
    let needle = b"\"kind\":\"Namespace\"";
    let mut at = 0;
    while let Some(i) = bytes[at..].windows(needle.len()).position(|w| w == needle) {
        bytes[at + i + 9] = b'X';
        at += i + 1;
    }
    assert!(at > 0);
    std::fs::write(&file, bytes).unwrap();
    let opened = ApiServer::builder().data_dir(&path).build().await;
    assert!(matches!(&opened, Err(Error::Store(StoreError::Corrupt(_)))), "{opened:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_writers_lose_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let server = open(dir.path()).await;
    let s = server.service();
    let maps = "/api/v1/namespaces/default/configmaps";
    send(&s, "POST", maps, r#"{"metadata":{"name":"shared"}}"#).await;
    let mut tasks = Vec::new();
    for w in 0..8 {
        let s = s.clone();
        tasks.push(tokio::spawn(async move {
            for i in 0..10 {
                let (code, _) = send(&s, "POST", maps, &format!(r#"{{"metadata":{{"name":"w{w}-{i}"}}}}"#)).await;
                assert_eq!(code, 201);
                let patch = format!(r#"{{"data":{{"w{w}-{i}":"1"}}}}"#);
                assert_eq!(send(&s, "PATCH", &format!("{maps}/shared"), &patch).await.0, 200);
            }
        }));
    }
    for t in tasks {
        t.await.unwrap();
    }
    let (_, shared) = send(&s, "GET", &format!("{maps}/shared"), "").await;
    assert_eq!(shared["data"].as_map().unwrap().len(), 80);
    let (_, list) = send(&s, "GET", maps, "").await;
    assert_eq!(list["items"].items().len(), 82);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_restores_and_tells_older_watches_to_start_over() {
    let dir = tempfile::tempdir().unwrap();
    let (first, second) = (dir.path().join("a"), dir.path().join("b"));
    let maps = "/api/v1/namespaces/default/configmaps";
    let (backup, kept, seen) = {
        let server = open(&first).await;
        let s = server.service();
        let (_, kept) = send(&s, "POST", maps, r#"{"metadata":{"name":"kept"},"data":{"k":"v\t\n"}}"#).await;
        let backup = druse_apiserver::store::snapshot(&*server.shared().store).unwrap();
        let (_, lost) = send(&s, "POST", maps, r#"{"metadata":{"name":"lost"}}"#).await;
        (backup, kept, lost.str_at(["metadata", "resourceVersion"]).unwrap().to_owned())
    };
    let mut cut = backup.clone();
    let at = cut.len() / 2;
    cut[at] ^= 1;
    for damaged in [&cut[..], &backup[..backup.len() / 2], b"nonsense\n"] {
        let refused = druse_apiserver::store::restore(&second, &mut &damaged[..]);
        assert!(matches!(refused, Err(StoreError::Snapshot(_) | StoreError::Corrupt(_))), "{refused:?}");
    }
    druse_apiserver::store::restore(&second, &mut &backup[..]).unwrap();
    let server = open(&second).await;
    let s = server.service();
    assert_eq!(send(&s, "GET", &format!("{maps}/kept"), "").await.1, kept);
    assert_eq!(send(&s, "GET", &format!("{maps}/lost"), "").await.0, 404);
    let (_, next) = send(&s, "POST", maps, r#"{"metadata":{"name":"next"}}"#).await;
    let version = |v: &str| v.parse::<u64>().unwrap();
    assert!(version(next.str_at(["metadata", "resourceVersion"]).unwrap()) > version(&seen));
    for path in [maps, "/api/v1/namespaces/default/secrets"] {
        let watch = format!("{path}?watch=1&timeoutSeconds=2&resourceVersion={seen}");
        let events = common::until(&s, &watch, |_, _| true).await;
        assert_eq!((events[0].0.as_str(), events[0].1["code"].as_i64()), ("ERROR", Some(410)), "{events:?}");
    }
}
