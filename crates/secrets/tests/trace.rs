//! A pod's way to its secrets as `druse secrets trace` tells it, against an API that answers from memory.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::convert::Infallible;

use common::{NODE, Shared, World};
use druse_object::{Value, json};
use druse_runtime::Api;
use druse_secrets::provider::Cluster as _;
use druse_secrets::trace::{Outcome, Trace, Tracer};
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use kube::client::Body;

/// Objects by the last parts of their path; tokens for whoever asks.
async fn answer(api: Shared, request: Request<Body>) -> Result<Response<Full<bytes::Bytes>>, Infallible> {
    let path = request.uri().path().to_string();
    let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    let namespace = parts.iter().position(|p| *p == "namespaces").map_or("", |n| parts[n + 1]);
    let found = match parts.as_slice() {
        [.., "serviceaccounts", account, "token"] => {
            let pod = api.0.pod_of(namespace, account);
            let token = api.token(&pod, "sts.amazonaws.com", 3600).await.unwrap();
            Some(format!(r#"{{"status":{{"token":"{}"}}}}"#, *token))
        }
        [.., "events" | "secretproviderclasspodstatuses"] => Some(r#"{"items":[]}"#.into()),
        [.., "csidrivers", _] => api.get("csidrivers", "", "driver").await.unwrap().map(|v| json::to_string(&v)),
        [.., "secretproviderclasses", name] => {
            api.get("secretproviderclasses", namespace, name).await.unwrap().map(|v| json::to_string(&v))
        }
        [.., "pods", name] => api.get("pods", namespace, name).await.unwrap().map(|v| json::to_string(&v)),
        [.., "serviceaccounts", name] => {
            api.get("serviceaccounts", namespace, name).await.unwrap().map(|v| json::to_string(&v))
        }
        _ => None,
    };
    let (status, body) = match found {
        Some(body) => (StatusCode::OK, body),
        None => (StatusCode::NOT_FOUND, r#"{"kind":"Status","reason":"NotFound","message":"not found"}"#.into()),
    };
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = status;
    Ok(response)
}

struct Lab {
    world: World,
    tracer: Tracer,
}

impl Lab {
    async fn new() -> Self {
        let world = World::local(None).await;
        let api = Shared(world.api.clone());
        let client = kube::Client::new(tower::service_fn(move |r| answer(api.clone(), r)), "default");
        let mut settings = world.settings();
        settings.node = None;
        let tracer = Tracer::new(Api::new(client), settings);
        let lab = Self { world, tracer };
        lab.pod("app");
        lab.driver(r#"{"spec":{"podInfoOnMount":true,"tokenRequests":[{"audience":"sts.amazonaws.com"}]}}"#);
        lab.class("- {objectName: /home/app/db, objectType: ssmparameter, objectAlias: db}");
        lab
    }

    fn pod(&self, role: &str) {
        self.world.api.add_pod("ns", "app-1", "app", &self.world.role(role));
        let volume = r#"{"name":"s","csi":{"driver":"secrets-store.csi.k8s.io","volumeAttributes":{"secretProviderClass":"app"}}}"#;
        let pod = format!(r#"{{"spec":{{"nodeName":"{NODE}","serviceAccountName":"app","volumes":[{volume}]}}}}"#);
        self.world.api.add("pods", "ns", "app-1", &pod);
    }

    fn driver(&self, driver: &str) {
        self.world.api.add("csidrivers", "", "driver", driver);
    }

    fn class(&self, objects: &str) {
        let mut v = json::parse(br#"{"spec":{"provider":"aws","parameters":{"region":"us-west-2"}}}"#).unwrap();
        v.make_map_at(["spec", "parameters"]).unwrap().insert("objects", objects);
        self.world.api.add("secretproviderclasses", "ns", "app", &json::to_string(&v));
    }

    async fn trace(&self) -> Trace {
        let trace = self.tracer.trace("ns", "app-1").await;
        let text = json::to_string(&Value::from_typed(&trace).unwrap());
        for secret in ["second", "of plain", "eyJ"] {
            assert!(!text.contains(secret), "neither a value nor a token is told: {text}");
        }
        trace
    }
}

fn steps(t: &Trace) -> Vec<(&'static str, Outcome)> {
    t.steps.iter().map(|s| (s.step, s.outcome)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_way_is_told_step_by_step() {
    let lab = Lab::new().await;
    let t = lab.trace().await;
    use Outcome::{Ok, Warning};
    assert_eq!(
        steps(&t),
        [
            ("pod", Ok),
            ("driver", Ok),
            ("role", Ok),
            ("token", Ok),
            // The issuer of this test is not on the network.
            ("issuer", Warning),
            ("class", Ok),
            ("assume", Ok),
            ("read", Ok)
        ],
        "{t:#?}"
    );
    assert!(t.is_whole());
    assert!(
        t.steps[3].answered.contains("subject system:serviceaccount:ns:app") && t.steps[3].answered.contains("RS256")
    );
    assert_eq!(t.steps[7].answered, "db (version 2)");
}

#[tokio::test(flavor = "multi_thread")]
async fn where_it_stops_is_told_with_the_likely_cause() {
    let lab = Lab::new().await;
    let last = |t: &Trace| {
        let s = t.steps.iter().find(|s| s.outcome == Outcome::Failed).unwrap_or_else(|| panic!("{t:#?}"));
        (s.step, s.reason, format!("{} {}", s.answered, s.remedy))
    };
    lab.class("- {objectName: /home/app/db, objectType: ssmparameter}\n- {objectName: /home/other/db, objectType: ssmparameter}");
    let t = lab.trace().await;
    let (step, reason, _) = last(&t);
    assert_eq!((step, reason), ("read", Some("permission-denied")));
    let read = t.steps.iter().filter(|s| s.step == "read");
    assert_eq!(read.map(|s| s.outcome).collect::<Vec<_>>(), [Outcome::Ok, Outcome::Failed], "each object by itself");

    lab.pod("db");
    let (step, reason, text) = last(&lab.trace().await);
    assert_eq!((step, reason), ("assume", Some("trust-denied")));
    assert!(text.contains(":sub = system:serviceaccount:ns:app"), "{text}");
    lab.pod("app");

    lab.world.api.remove("secretproviderclasses", "ns", "app");
    assert_eq!(last(&lab.trace().await).0, "class");
    lab.driver(r#"{"spec":{"podInfoOnMount":false}}"#);
    assert!(last(&lab.trace().await).2.contains("podInfoOnMount: true"));
    lab.world.api.remove("pods", "ns", "app-1");
    assert_eq!(steps(&lab.trace().await), [("pod", Outcome::Failed)]);
}
