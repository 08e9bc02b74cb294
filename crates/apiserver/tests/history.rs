//! Concurrent clients of one object: their history is linearizable. Every state has a resource version of its own, so a
//! history is checked exactly: what ended before something began comes before it, and a conditional write replaces
//! exactly the state it named.

#![allow(clippy::unwrap_used)]

mod common;

use std::sync::{Arc, Mutex};
use std::time::Instant;

use common::{bare, send};
use druse_apiserver::ApiService;
use druse_object::{Value, json};

const PATH: &str = "/api/v1/namespaces/default/configmaps/x";

#[derive(Clone, Debug)]
struct Operation {
    began: Instant,
    ended: Instant,
    /// The state read, or made.
    version: u64,
    value: String,
    /// For a write, the state it was to replace.
    replaced: Option<u64>,
}

fn version(v: &Value) -> u64 {
    v.str_at(["metadata", "resourceVersion"]).unwrap().parse().unwrap()
}

async fn client(s: ApiService, id: usize, log: Arc<Mutex<Vec<Operation>>>) {
    for i in 0..60 {
        let began = Instant::now();
        let (_, mut read) = send(&s, "GET", PATH, "").await;
        let value = |v: &Value| v.str_at(["data", "v"]).unwrap_or_default().to_owned();
        let seen = version(&read);
        log.lock().unwrap().push(Operation {
            began,
            ended: Instant::now(),
            version: seen,
            value: value(&read),
            replaced: None,
        });
        read.make_map_at(["data"]).unwrap().insert("v", format!("{id}-{i}"));
        let began = Instant::now();
        let (code, made) = send(&s, "PUT", PATH, &json::to_string(&read)).await;
        match code {
            200 => log.lock().unwrap().push(Operation {
                began,
                ended: Instant::now(),
                version: version(&made),
                value: value(&made),
                replaced: Some(seen),
            }),
            409 => {}
            other => panic!("{other}: {made:?}"),
        }
    }
}

fn judge(history: &[Operation]) {
    let mut writes: Vec<&Operation> = history.iter().filter(|o| o.replaced.is_some()).collect();
    writes.sort_by_key(|o| o.version);
    for pair in writes.windows(2) {
        let (a, b) = (pair[0], pair[1]);
        assert_eq!(
            b.replaced,
            Some(a.version),
            "a write replaced a state that was not the last one: {b:?} after {a:?}"
        );
    }
    for a in history {
        for b in history {
            let later = a.ended < b.began;
            assert!(!later || b.version >= a.version, "{b:?} began after {a:?} ended and saw an older state");
            assert!(!later || b.replaced.is_none() || b.version > a.version, "{b:?} made a state older than {a:?}");
            assert!(a.version != b.version || a.value == b.value, "one version, two states: {a:?}, {b:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_history_of_one_object_is_linearizable() {
    let dir = tempfile::tempdir().unwrap();
    let durable =
        druse_apiserver::ApiServer::builder().bare(true).data_dir(dir.path().join("d")).build().await.unwrap();
    for server in [bare().await, durable] {
        let s = server.service();
        send(&s, "POST", "/api/v1/namespaces/default/configmaps", r#"{"metadata":{"name":"x"}}"#).await;
        let log: Arc<Mutex<Vec<Operation>>> = Arc::default();
        let tasks: Vec<_> = (0..8).map(|id| tokio::spawn(client(s.clone(), id, log.clone()))).collect();
        for t in tasks {
            t.await.unwrap();
        }
        let history = log.lock().unwrap().clone();
        assert!(history.iter().filter(|o| o.replaced.is_some()).count() >= 60, "hardly anybody wrote");
        judge(&history);
    }
}

#[test]
#[should_panic(expected = "saw an older state")]
fn a_history_that_is_not_linearizable_is_found_out() {
    let now = Instant::now();
    let at = |ms: u64| now + std::time::Duration::from_millis(ms);
    let read = |from, to, version| Operation {
        began: at(from),
        ended: at(to),
        version,
        value: version.to_string(),
        replaced: None,
    };
    judge(&[read(0, 1, 5), read(2, 3, 4)]);
}
