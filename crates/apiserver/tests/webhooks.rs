//! Admission and conversion webhooks: real ones, over TLS on this machine, and simulated ones.

#![allow(clippy::unwrap_used)]

mod common;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use common::{bare, send};
use druse_apiserver::{ApiServer, ApiService};
use druse_object::{Value, json};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};

const B64: base64::engine::GeneralPurpose = base64::engine::general_purpose::STANDARD;

/// A webhook server that answers with what a closure makes of the path and the review.
struct Hook {
    address: SocketAddr,
    ca_bundle: String,
    /// Paths and reviews, in order.
    asked: Arc<Mutex<Vec<(String, Value)>>>,
}

impl Hook {
    async fn start(answer: impl Fn(&str, &Value) -> String + Send + Sync + 'static) -> Self {
        let [authority, certificate, key] = Self::certificates();
        Self::with(&authority, &certificate, &key, answer).await
    }

    /// An authority, a certificate that it has signed, and the key of this one: PEM.
    fn certificates() -> [String; 3] {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut authority = rcgen::CertificateParams::default();
        authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let ca = authority.self_signed(&key).unwrap();
        let issuer = rcgen::Issuer::new(authority, key);
        let names = ["localhost".to_owned(), "hook.default.svc".to_owned()];
        let own = rcgen::KeyPair::generate().unwrap();
        let certificate = rcgen::CertificateParams::new(names).unwrap().signed_by(&own, &issuer).unwrap();
        [ca.pem(), certificate.pem(), own.serialize_pem()]
    }

    /// Serves with a certificate; clients are told to trust `trusted`.
    async fn with(
        trusted: &str,
        certificate: &str,
        key: &str,
        answer: impl Fn(&str, &Value) -> String + Send + Sync + 'static,
    ) -> Self {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()],
                PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap(),
            )
            .unwrap();
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let asked: Arc<Mutex<Vec<(String, Value)>>> = Arc::default();
        let (log, answer) = (asked.clone(), Arc::new(answer));
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (acceptor, log, answer) = (acceptor.clone(), log.clone(), answer.clone());
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let service = hyper::service::service_fn(move |r: http::Request<hyper::body::Incoming>| {
                        let (log, answer) = (log.clone(), answer.clone());
                        async move {
                            let path = r.uri().path().to_owned();
                            let body = r.into_body().collect().await.unwrap().to_bytes();
                            let review = json::parse(&body).unwrap();
                            let text = answer(&path, &review);
                            log.lock().unwrap().push((path, review));
                            Ok::<_, std::convert::Infallible>(http::Response::new(Full::new(bytes::Bytes::from(text))))
                        }
                    });
                    let builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
                    let _ = builder.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Self { address, ca_bundle: B64.encode(trusted), asked }
    }

    fn url(&self, path: &str) -> String {
        format!(r#"{{"url":"https://localhost:{}{path}","caBundle":"{}"}}"#, self.address.port(), self.ca_bundle)
    }

    fn asked(&self) -> Vec<(String, Value)> {
        self.asked.lock().unwrap().clone()
    }
}

/// An `AdmissionReview` that answers another.
fn verdict(review: &Value, rest: &str) -> String {
    let uid = review.str_at(["request", "uid"]).unwrap();
    format!(r#"{{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","response":{{"uid":"{uid}",{rest}}}}}"#)
}

fn patched(review: &Value, patch: &str) -> String {
    verdict(review, &format!(r#""allowed":true,"patchType":"JSONPatch","patch":"{}""#, B64.encode(patch)))
}

async fn configure(s: &ApiService, kind: &str, name: &str, config: &str, more: &str) {
    let plural = kind.to_lowercase() + "s";
    let body = format!(
        r#"{{"metadata":{{"name":"{name}"}},"webhooks":[{{"name":"{name}.example.com","clientConfig":{config},
        "admissionReviewVersions":["v1"],"sideEffects":"None",
        "rules":[{{"apiGroups":[""],"apiVersions":["v1"],"operations":["CREATE","UPDATE","DELETE"],"resources":["configmaps","services"]}}]{more}}}]}}"#
    );
    let path = format!("/apis/admissionregistration.k8s.io/v1/{plural}");
    let (code, answer) = send(s, "POST", &path, &body).await;
    assert_eq!(code, 201, "{answer:?}");
}

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const MUTATING: &str = "MutatingWebhookConfiguration";
const VALIDATING: &str = "ValidatingWebhookConfiguration";

#[tokio::test(flavor = "multi_thread")]
async fn a_mutating_webhook_patches_and_what_it_makes_is_defaulted() {
    let hook = Hook::start(|_, r| {
        patched(r, r#"[{"op":"add","path":"/spec/ports/-","value":{"name":"b","port":2}},{"op":"add","path":"/nonsense","value":1}]"#)
    })
    .await;
    let server = bare().await;
    let s = server.service();
    configure(&s, MUTATING, "m", &hook.url("/mutate"), "").await;
    let body = r#"{"metadata":{"name":"s"},"spec":{"ports":[{"name":"a","port":1}]}}"#;
    let (code, made) = send(&s, "POST", "/api/v1/namespaces/default/services?fieldManager=me", body).await;
    assert_eq!(code, 201, "{made:?}");
    let ports = made["spec"]["ports"].items();
    assert_eq!((ports[1]["targetPort"].as_i64(), ports[1]["protocol"].as_str()), (Some(2), Some("TCP")));
    assert!(made.get("nonsense").is_none());
    let (path, review) = &hook.asked()[0];
    assert_eq!(path, "/mutate");
    let request = &review["request"];
    assert_eq!(request.str_at(["operation"]), Some("CREATE"));
    assert_eq!(request.str_at(["options", "fieldManager"]), Some("me"));
    assert_eq!(request.str_at(["resource", "resource"]), Some("services"));
    assert_eq!(request.str_at(["userInfo", "username"]), Some("system:admin"));
    assert!(request["oldObject"].is_null() && request.str_at(["object", "kind"]) == Some("Service"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_validating_webhook_refuses_in_its_own_words_and_deletions_too() {
    let hook = Hook::start(|_, r| {
        if r.str_at(["request", "object", "data", "ok"]).is_some() {
            return verdict(r, r#""allowed":true,"warnings":["mind the gap"]"#);
        }
        verdict(r, r#""allowed":false,"status":{"code":418,"reason":"Teapot","message":"no tea"}"#)
    })
    .await;
    let server = bare().await;
    let s = server.service();
    configure(&s, VALIDATING, "v", &hook.url("/"), "").await;
    let (code, no) = send(&s, "POST", MAPS, r#"{"metadata":{"name":"a"}}"#).await;
    assert_eq!((code, no.str_at(["reason"])), (418, Some("Teapot")));
    assert_eq!(no.str_at(["message"]), Some("admission webhook \"v.example.com\" denied the request: no tea"));
    assert_eq!(send(&s, "POST", MAPS, r#"{"metadata":{"name":"a"},"data":{"ok":"1"}}"#).await.0, 201);
    assert_eq!(send(&s, "DELETE", &format!("{MAPS}/a"), "").await.0, 418);
    let last = hook.asked().pop().unwrap().1;
    assert_eq!(last.str_at(["request", "oldObject", "metadata", "name"]), Some("a"));
}

#[tokio::test(flavor = "multi_thread")]
async fn warnings_reach_the_client() {
    use tower::ServiceExt as _;
    let hook = Hook::start(|_, r| verdict(r, r#""allowed":true,"warnings":["mind the gap"]"#)).await;
    let server = bare().await;
    let s = server.service();
    configure(&s, VALIDATING, "v", &hook.url("/"), "").await;
    let request =
        http::Request::post(MAPS).body(Full::new(bytes::Bytes::from(r#"{"metadata":{"name":"a"}}"#))).unwrap();
    let response = s.oneshot(request).await.unwrap();
    assert_eq!(response.headers()["warning"], "299 - \"mind the gap\"");
}

#[tokio::test(flavor = "multi_thread")]
async fn conditions_selectors_and_dry_runs_decide_whether_a_webhook_is_asked() {
    let hook = Hook::start(|_, r| verdict(r, r#""allowed":false"#)).await;
    let server = bare().await;
    let s = server.service();
    let condition = r#","matchConditions":[{"name":"c","expression":"object.metadata.name.startsWith('x')"}]"#;
    configure(&s, VALIDATING, "conditional", &hook.url("/"), condition).await;
    assert_eq!(send(&s, "POST", MAPS, r#"{"metadata":{"name":"a"}}"#).await.0, 201);
    let (code, no) = send(&s, "POST", MAPS, r#"{"metadata":{"name":"x"}}"#).await;
    let words = "admission webhook \"conditional.example.com\" denied the request without explanation";
    assert_eq!((code, no.str_at(["message"])), (400, Some(words)));
    let labelled = r#","objectSelector":{"matchLabels":{"watched":"yes"}}"#;
    configure(&s, VALIDATING, "labelled", &hook.url("/"), labelled).await;
    assert_eq!(send(&s, "POST", MAPS, r#"{"metadata":{"name":"b"}}"#).await.0, 201);
    let watched = r#"{"metadata":{"name":"c","labels":{"watched":"yes"}}}"#;
    assert_eq!(send(&s, "POST", MAPS, watched).await.0, 400);
    let before = hook.asked().len();
    // One without side effects is asked about a dry run too; no other kind can be configured.
    assert_eq!(send(&s, "POST", &format!("{MAPS}?dryRun=All"), watched).await.0, 400);
    let asked = hook.asked();
    assert_eq!(asked.len(), before + 1);
    assert_eq!(asked.last().and_then(|(_, r)| r["request"]["dryRun"].as_bool()), Some(true));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_that_cannot_be_reached_fails_as_its_policy_says() {
    let server = bare().await;
    let s = server.service();
    let nowhere = r#"{"service":{"namespace":"default","name":"hook"}}"#;
    configure(&s, VALIDATING, "ignored", nowhere, r#","failurePolicy":"Ignore""#).await;
    assert_eq!(send(&s, "POST", MAPS, r#"{"metadata":{"name":"a"}}"#).await.0, 201);
    configure(&s, VALIDATING, "needed", nowhere, "").await;
    let (code, no) = send(&s, "POST", MAPS, r#"{"metadata":{"name":"b"}}"#).await;
    let words = "Internal error occurred: failed calling webhook \"needed.example.com\": failed to call webhook: service \"hook\" not found";
    assert_eq!((code, no.str_at(["message"])), (500, Some(words)));
    send(&s, "POST", "/api/v1/namespaces/default/services?dryRun=All", r#"{"metadata":{"name":"hook"}}"#).await;
    // What configures webhooks is never held up by them.
    let path = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/needed";
    assert_eq!(send(&s, "DELETE", path, "").await.0, 200);
    assert_eq!(send(&s, "POST", MAPS, r#"{"metadata":{"name":"b"}}"#).await.0, 201);
}

/// A Service without selector, and an EndpointSlice that names where it is.
async fn publish(s: &ApiService, address: SocketAddr, target: &str) {
    let service = r#"{"metadata":{"name":"hook"},"spec":{"ports":[{"name":"https","port":443,"targetPort":9443}]}}"#;
    assert_eq!(send(s, "POST", "/api/v1/namespaces/default/services", service).await.0, 201);
    let slice = format!(
        r#"{{"metadata":{{"name":"hook-1","labels":{{"kubernetes.io/service-name":"hook"}}}},"addressType":"IPv4",
        "endpoints":[{{"addresses":["{}"],"conditions":{{"ready":true}}{target}}}],"ports":[{{"name":"https","port":{}}}]}}"#,
        address.ip(),
        address.port()
    );
    let path = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";
    let (code, answer) = send(s, "POST", path, &slice).await;
    assert_eq!(code, 201, "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_leads_to_the_process_its_endpoints_name() {
    let hook = Hook::start(|_, r| patched(r, r#"[{"op":"add","path":"/data","value":{"seen":"yes"}}]"#)).await;
    let server = bare().await;
    let s = server.service();
    publish(&s, hook.address, "").await;
    let config =
        format!(r#"{{"service":{{"namespace":"default","name":"hook","path":"/m"}},"caBundle":"{}"}}"#, hook.ca_bundle);
    configure(&s, MUTATING, "m", &config, "").await;
    let (code, made) = send(&s, "POST", MAPS, r#"{"metadata":{"name":"a"}}"#).await;
    assert_eq!((code, made.str_at(["data", "seen"])), (201, Some("yes")), "{made:?}");
    assert_eq!(hook.asked()[0].0, "/m");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_of_simulated_pods_is_not_called_and_says_so() {
    let server = ApiServer::builder().build().await.unwrap();
    let s = server.service();
    let pod = r#"{"metadata":{"name":"p","annotations":{"druse.dev/simulated":"containers: no process runs"}},"spec":{"containers":[{"name":"c","image":"i"}]}}"#;
    let (code, made) = send(&s, "POST", "/api/v1/namespaces/default/pods", pod).await;
    assert_eq!(code, 201, "{made:?}");
    let target = r#","targetRef":{"kind":"Pod","name":"p","namespace":"default"}"#;
    publish(&s, "10.244.0.9:9443".parse().unwrap(), target).await;
    configure(&s, VALIDATING, "v", r#"{"service":{"namespace":"default","name":"hook"}}"#, "").await;
    assert_eq!(send(&s, "POST", MAPS, r#"{"metadata":{"name":"a"}}"#).await.0, 201);
    let path = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations?watch=1&timeoutSeconds=10";
    let marked = common::until(&s, path, |_, o| o.at(["metadata", "annotations"]).is_some()).await;
    let mark = &marked.last().unwrap().1["metadata"]["annotations"]["druse.dev/simulated"];
    assert_eq!(mark.as_str(), Some("webhooks: not called, the pods behind them are simulated"));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_wants_to_look_again_is_asked_again_when_something_changed() {
    let hook = Hook::start(|path, r| {
        // The second one changes what the first has seen, once.
        if path == "/second" && r.str_at(["request", "object", "data", "second"]).is_none() {
            return patched(r, r#"[{"op":"add","path":"/data/second","value":"1"}]"#);
        }
        verdict(r, r#""allowed":true"#)
    })
    .await;
    let server = bare().await;
    let s = server.service();
    configure(&s, MUTATING, "first", &hook.url("/first"), r#","reinvocationPolicy":"IfNeeded""#).await;
    configure(&s, MUTATING, "never", &hook.url("/never"), "").await;
    configure(&s, MUTATING, "second", &hook.url("/second"), "").await;
    send(&s, "POST", MAPS, r#"{"metadata":{"name":"a"},"data":{"k":"v"}}"#).await;
    let paths: Vec<String> = hook.asked().into_iter().map(|(p, _)| p).collect();
    assert_eq!(paths, ["/first", "/never", "/second", "/first"]);
    send(&s, "POST", MAPS, r#"{"metadata":{"name":"b"},"data":{"second":"v"}}"#).await;
    assert_eq!(hook.asked().len(), 7, "nothing changed, so nobody is asked again");
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_of_a_crd_are_converted_by_its_webhook() {
    let hook = Hook::start(|_, r| {
        let request = &r["request"];
        let wanted = request.str_at(["desiredAPIVersion"]).unwrap();
        let objects: Vec<Value> = request["objects"]
            .items()
            .iter()
            .map(|o| {
                let mut o = o.clone();
                let m = o.as_map_mut().unwrap();
                m.insert("apiVersion", wanted);
                // v1 says `colour`, v2 `color`.
                let spec = m.get_mut("spec").unwrap().as_map_mut().unwrap();
                for (from, to) in [("colour", "color"), ("color", "colour")] {
                    if wanted.ends_with("v2") == (to == "color")
                        && let Some(v) = spec.remove(from)
                    {
                        spec.insert(to, v);
                        break;
                    }
                }
                o
            })
            .collect();
        let uid = request.str_at(["uid"]).unwrap();
        format!(
            r#"{{"kind":"ConversionReview","apiVersion":"apiextensions.k8s.io/v1","response":{{"uid":"{uid}","result":{{"status":"Success"}},"convertedObjects":{}}}}}"#,
            json::to_string(&Value::Array(objects))
        )
    })
    .await;
    let server = bare().await;
    let s = server.service();
    let version = |name: &str, field: &str, stored: bool| {
        format!(
            r#"{{"name":"{name}","served":true,"storage":{stored},"schema":{{"openAPIV3Schema":{{"type":"object","properties":{{"spec":{{"type":"object","properties":{{"{field}":{{"type":"string"}}}}}}}}}}}}}}"#
        )
    };
    let crd = format!(
        r#"{{"metadata":{{"name":"things.example.com"}},"spec":{{"group":"example.com","scope":"Namespaced","names":{{"plural":"things","kind":"Thing"}},
        "versions":[{},{}],"conversion":{{"strategy":"Webhook","webhook":{{"conversionReviewVersions":["v1"],"clientConfig":{}}}}}}}}}"#,
        version("v1", "colour", false),
        version("v2", "color", true),
        hook.url("/convert")
    );
    let crds = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    let (code, answer) = send(&s, "POST", crds, &crd).await;
    assert_eq!(code, 201, "{answer:?}");
    common::until(&s, &format!("{crds}?watch=1&timeoutSeconds=10"), |_, o| {
        o["status"]["conditions"].items().iter().any(|c| c.str_at(["type"]) == Some("Established"))
    })
    .await;
    let things = |v: &str| format!("/apis/example.com/{v}/namespaces/default/things");
    let body = r#"{"apiVersion":"example.com/v1","kind":"Thing","metadata":{"name":"t"},"spec":{"colour":"red"}}"#;
    let (code, made) = send(&s, "POST", &things("v1"), body).await;
    assert_eq!((code, made.str_at(["spec", "colour"])), (201, Some("red")), "{made:?}");
    let (_, other) = send(&s, "GET", &format!("{}/t", things("v2")), "").await;
    assert_eq!(other.str_at(["spec", "color"]), Some("red"));
    let (_, list) = send(&s, "GET", &things("v1"), "").await;
    assert_eq!(list["items"].items()[0].str_at(["spec", "colour"]), Some("red"));
    assert_eq!(list["items"].items()[0].str_at(["apiVersion"]), Some("example.com/v1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_whose_bundle_is_its_own_certificate_is_trusted() {
    let allow = |_: &str, r: &Value| verdict(r, r#""allowed":true"#);
    let [_, certificate, key] = Hook::certificates();
    // One that is signed by an authority nobody names, and one that could be an authority itself.
    let signed = Hook::with(&certificate, &certificate, &key, allow).await;
    let own_key = rcgen::KeyPair::generate().unwrap();
    let mut own = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
    own.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let pem = own.self_signed(&own_key).unwrap().pem();
    let self_signed = Hook::with(&pem, &pem, &own_key.serialize_pem(), allow).await;
    let server = bare().await;
    let s = server.service();
    configure(&s, VALIDATING, "signed", &signed.url("/"), "").await;
    configure(&s, VALIDATING, "self-signed", &self_signed.url("/"), "").await;
    let (code, made) = send(&s, "POST", MAPS, r#"{"metadata":{"name":"a"}}"#).await;
    assert_eq!(code, 201, "{made:?}");
    assert_eq!((signed.asked().len(), self_signed.asked().len()), (1, 1));

    // It is trusted for its own names and in its own time only.
    let elsewhere = signed.url("/").replace("localhost", "127.0.0.1");
    own.not_after = rcgen::date_time_ymd(2020, 1, 1);
    let old = own.self_signed(&own_key).unwrap().pem();
    let old = Hook::with(&old, &old, &own_key.serialize_pem(), allow).await;
    for (name, config, words) in [
        ("elsewhere", elsewhere, "not valid for name"),
        ("old", old.url("/"), "certificate has expired or is not yet valid"),
    ] {
        configure(&s, VALIDATING, name, &config, "").await;
        let (code, no) = send(&s, "POST", MAPS, &format!(r#"{{"metadata":{{"name":"{name}"}}}}"#)).await;
        assert!(code == 500 && no.str_at(["message"]).unwrap().contains(words), "{no:?}");
        let path = format!("/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/{name}");
        assert_eq!(send(&s, "DELETE", &path, "").await.0, 200);
    }
}
