//! A pod's way to its secrets as `druse secrets trace` tells it, against an API that answers from memory.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::convert::Infallible;
use std::sync::atomic::Ordering;

use common::{ISSUER, NODE, REGION, Shared, TERRAFORM, World, declared};
use druse_aws::endpoint::Endpoints;
use druse_identity::documents::documents;
use druse_identity::{IssuerUrl, SigningKey};
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
        Self::of(TERRAFORM).await
    }

    async fn of(terraform: &str) -> Self {
        let world = World::local_of(terraform, REGION, None).await;
        let tracer = Self::tracer(&world, Endpoints::all(&world.url));
        let lab = Self { world, tracer };
        lab.pod("app");
        lab.driver(r#"{"spec":{"podInfoOnMount":true,"tokenRequests":[{"audience":"sts.amazonaws.com"}]}}"#);
        lab.class("- {objectName: /home/app/db, objectType: ssmparameter, objectAlias: db}");
        lab
    }

    /// One that finds AWS elsewhere.
    fn tracer(world: &World, endpoints: Endpoints) -> Tracer {
        let api = Shared(world.api.clone());
        let client = kube::Client::new(tower::service_fn(move |r| answer(api.clone(), r)), "default");
        let mut settings = world.settings();
        (settings.node, settings.endpoints) = (None, endpoints);
        Tracer::new(Api::new(client), settings)
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

/// Where it stopped first: the step, the cause's short name, and the cause with what would help.
fn stopped(t: &Trace) -> (&'static str, &'static str, String) {
    let s = t.steps.iter().find(|s| s.outcome == Outcome::Failed).unwrap_or_else(|| panic!("{t:#?}"));
    (s.step, s.reason.unwrap_or_default(), format!("{}; {}", s.cause, s.remedy))
}

fn set(claims: &mut Value, name: &str, value: impl Into<Value>) {
    claims.make_map().unwrap().insert(name, value);
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

#[tokio::test(flavor = "multi_thread")]
async fn what_sts_does_not_say_of_a_trust_policy_the_tree_does() {
    let lab = Lab::new().await;
    lab.pod("db");
    let mut t = lab.trace().await;
    assert_eq!(t.refused_role(), Some("arn:aws:iam::111122223333:role/db"));
    let told = async |t: &mut Trace, terraform: &str| {
        t.compare(&declared(terraform));
        let step = t.steps.iter().find(|s| s.outcome == Outcome::Failed).unwrap();
        (step.reason.unwrap(), step.cause.clone())
    };
    let (reason, cause) = told(&mut t, TERRAFORM).await;
    assert_eq!(reason, "trust-subject", "{cause}");
    assert!(cause.contains("trusts system:serviceaccount:other:db, but the pod runs as system:serviceaccount:ns:app"));
    assert!(cause.ends_with("(main.tf:16)"), "{cause}");

    let subject = TERRAFORM.replace("system:serviceaccount:${each.key}", "system:serviceaccount:ns:app");
    let audience = subject.replace(":aud\" = \"sts.amazonaws.com\"", ":aud\" = \"elsewhere\"");
    assert_eq!(told(&mut t, &audience).await.0, "trust-audience");
    assert_eq!(told(&mut t, &subject).await.0, "not-applied", "the tree would let it in");
    let renamed =
        TERRAFORM.replace("name     = split(\":\", each.key)[1]", "name = \"x-${split(\":\", each.key)[1]}\"");
    assert_eq!(told(&mut t, &renamed).await.0, "role-missing");
    let issuer = TERRAFORM.replace("bucket = \"home-oidc\"", "bucket = \"other-oidc\"");
    assert_eq!(told(&mut t, &issuer).await.0, "issuer");

    // Where the tree says nothing, what is said without it stays.
    let mut t = lab.trace().await;
    let before = t.clone();
    t.compare(&declared(""));
    assert_eq!(t, before);
    lab.pod("app");
    assert_eq!(lab.trace().await.refused_role(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_of_another_algorithm_is_told_and_not_taken_for_an_unpublished_one() {
    let lab = Lab::new().await;
    let forged = Lab::new().await;
    *forged.world.api.algorithm.lock() = Some("ES256");
    let key = lab.world.api.key.public().clone();
    let documents = documents(&IssuerUrl::parse(ISSUER).unwrap(), std::slice::from_ref(&key));
    let publish = async |lab: &Lab, jwks: &str| {
        let client = lab.world.client();
        for d in &documents {
            let text = if d.path.ends_with("jwks") { jwks } else { &d.text };
            let headers = [("content-type", d.content_type)];
            client.put_object("home-oidc", &d.path, text.as_bytes(), &headers, &lab.world.admin).await.unwrap();
        }
    };
    let issuer = |t: &Trace| t.steps.iter().find(|s| s.step == "issuer").unwrap().clone();
    publish(&lab, &documents[0].text).await;
    let step = issuer(&lab.trace().await);
    assert_eq!((step.outcome, step.remedy.as_str()), (Outcome::Ok, ""), "{step:?}");

    let elliptic = format!(r#"{{"keys":[{{"kty":"EC","kid":"{}","crv":"P-256","x":"AA","y":"AA"}}]}}"#, key.id());
    for (jwks, words) in
        [(elliptic.as_str(), "is published as an elliptic curve key"), (r#"{"keys":[]}"#, "it signs ES256")]
    {
        publish(&forged, jwks).await;
        let t = forged.trace().await;
        let step = issuer(&t);
        assert!(step.answered.contains(words) && step.remedy.contains("STS takes RS256 only"), "{step:?}");
        let stopped = t.steps.iter().find(|s| s.outcome == Outcome::Failed).unwrap();
        assert_eq!((stopped.step, stopped.reason), ("assume", Some("algorithm")), "{stopped:?}");
    }
}

/// What STS answers with one and the same code, and what is no answer at all, each told by its own name.
#[tokio::test(flavor = "multi_thread")]
async fn what_people_lose_days_over_is_told_apart() {
    let lab = Lab::new().await;
    let told = async |lab: &Lab, change: fn(&mut Value), words: &str| {
        *lab.world.api.change.lock() = Some(change);
        // Tokens and credentials are kept for a while: each walk is one of its own, as the command's is.
        let tracer = Lab::tracer(&lab.world, Endpoints::all(&lab.world.url));
        let (step, reason, text) = stopped(&tracer.trace("ns", "app-1").await);
        assert!(text.contains(words), "{reason}: {text}");
        (step, reason)
    };
    let same: fn(&mut Value) = |_| {};

    // InvalidIdentityToken, five times.
    let foreign = told(&lab, |c| set(c, "iss", "https://evil.example"), "no IAM OIDC provider for the token's issuer");
    assert_eq!(foreign.await, ("assume", "issuer-unknown"));
    lab.world.cloud().trust(ISSUER, vec![SigningKey::generate(2048).unwrap().public().clone()]);
    assert_eq!(told(&lab, same, "does not publish the key").await, ("assume", "key-not-published"));
    lab.world.cloud().trust(ISSUER, vec![lab.world.api.key.public().clone()]);
    *lab.world.api.algorithm.lock() = Some("ES256");
    assert_eq!(told(&lab, same, "druse identity keygen").await, ("assume", "algorithm"));
    *lab.world.api.algorithm.lock() = None;
    let clients = TERRAFORM.replace("[\"sts.amazonaws.com\", \"elsewhere\"]", "[\"elsewhere\"]");
    let closed = Lab::of(&clients).await;
    assert_eq!(told(&closed, same, "add sts.amazonaws.com to client_id_list").await, ("assume", "audience-unknown"));
    let early = told(&lab, |c| set(c, "nbf", 4_000_000_000_i64), "the clock of the API server and AWS' are apart");
    assert_eq!(early.await, ("assume", "clock-skew"));

    // ExpiredTokenException: by AWS' clock alone, and by everybody's but the API server's.
    lab.world.cloud_ahead.store(7200, Ordering::Relaxed);
    assert_eq!(told(&lab, same, "by this machine's clock the token is valid").await, ("assume", "clock-skew"));
    lab.world.cloud_ahead.store(0, Ordering::Relaxed);
    assert_eq!(told(&lab, |c| set(c, "exp", 1000), "the clock of the API server").await, ("token", "clock-skew"));

    // AccessDenied, which the tree's trust policy explains (above), and which no other is taken for.
    lab.pod("db");
    assert_eq!(told(&lab, same, "home-oidc.s3.us-west-2.amazonaws.com:sub").await, ("assume", "trust-denied"));
    lab.pod("app");

    // The Parameter Store lets the role in and keeps it from the parameter, or from its key.
    lab.class("- {objectName: /home/other/db, objectType: ssmparameter}");
    assert_eq!(told(&lab, same, "allow ssm:GetParameters on its ARN").await, ("read", "permission-denied"));
    lab.world
        .ssm("PutParameter", r#"{"Name":"/home/app/key","Value":"v","Type":"SecureString","KeyId":"alias/home"}"#)
        .await;
    lab.class("- {objectName: /home/app/key, objectType: ssmparameter}");
    assert_eq!(told(&lab, same, "allow kms:Decrypt on that key").await, ("read", "kms-denied"));
    lab.class("- {objectName: /home/app/none, objectType: ssmparameter}");
    assert_eq!(told(&lab, same, "compare name, account, region and version").await, ("read", "not-found"));

    // Nobody answers: STS, or only the Parameter Store; the name, or only the way.
    lab.class("- {objectName: /home/app/db, objectType: ssmparameter}");
    let sts = lab.world.url.clone();
    for (elsewhere, reason, words) in [
        ("http://127.0.0.1:1", "no-route", "network policies and firewall"),
        // RFC 6761: a name that never is.
        ("http://aws.invalid", "no-name", "DNS from this node"),
    ] {
        let sts = sts.clone();
        let only_sts = move |name: &str| match name {
            "AWS_ENDPOINT_URL_STS" => Some(sts.clone()),
            "AWS_ENDPOINT_URL" => Some(elsewhere.into()),
            _ => None,
        };
        for (endpoints, step) in
            [(Endpoints::all(elsewhere), "assume"), (Endpoints::from_environment(only_sts), "read")]
        {
            let t = Lab::tracer(&lab.world, endpoints).trace("ns", "app-1").await;
            let (at, why, text) = stopped(&t);
            assert_eq!((at, why), (step, reason), "{text}");
            assert!(text.contains(words), "{text}");
        }
    }
}
