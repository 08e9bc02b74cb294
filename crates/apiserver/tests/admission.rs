//! Built-in admission: Pod Security, LimitRanges, ResourceQuotas, certificate requests, aggregated roles.

#![allow(clippy::unwrap_used)]

mod common;

use base64::Engine as _;
use common::{bare, send, until};
use druse_apiserver::auth::User;
use druse_apiserver::{ApiServer, ApiService};
use http_body_util::Full;
use tower::ServiceExt as _;

const PODS: &str = "/api/v1/namespaces/default/pods";

async fn furnished() -> ApiServer {
    ApiServer::builder().token("admin").build().await.unwrap()
}

fn pod(name: &str, container: &str) -> String {
    format!(r#"{{"metadata":{{"name":"{name}"}},"spec":{{"containers":[{{"name":"c","image":"i"{container}}}]}}}}"#)
}

/// Sends a request and answers what the client is warned of.
async fn warned(s: &ApiService, method: &str, path: &str, body: &str) -> Vec<String> {
    let kind = if method == "PATCH" { "application/merge-patch+json" } else { "application/json" };
    let request = http::Request::builder()
        .method(method)
        .uri(path)
        .header("content-type", kind)
        .body(Full::new(bytes::Bytes::copy_from_slice(body.as_bytes())))
        .unwrap();
    let response = s.clone().oneshot(request).await.unwrap();
    response.headers().get_all("warning").iter().map(|v| v.to_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn pod_security_enforces_and_warns_in_upstreams_words() {
    let server = furnished().await;
    let s = server.service();
    assert_eq!(send(&s, "POST", PODS, &pod("before", "")).await.0, 201);
    let label = r#"{"metadata":{"labels":{"pod-security.kubernetes.io/enforce":"restricted"}}}"#;
    let warnings = warned(&s, "PATCH", "/api/v1/namespaces/default", label).await;
    assert_eq!(
        warnings,
        [
            r#"299 - "existing pods in namespace \"default\" violate the new PodSecurity enforce level \"restricted:latest\"""#,
            r#"299 - "before: allowPrivilegeEscalation != false, unrestricted capabilities, runAsNonRoot != true, seccompProfile""#
        ]
    );
    let (code, no) = send(&s, "POST", PODS, &pod("p", "")).await;
    let words = "pods \"p\" is forbidden: violates PodSecurity \"restricted:latest\": allowPrivilegeEscalation != false (container \"c\" must set securityContext.allowPrivilegeEscalation=false), unrestricted capabilities (container \"c\" must set securityContext.capabilities.drop=[\"ALL\"]), runAsNonRoot != true (pod or container \"c\" must set securityContext.runAsNonRoot=true), seccompProfile (pod or container \"c\" must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\")";
    assert_eq!((code, no.str_at(["message"])), (403, Some(words)));
    let good = r#","securityContext":{"allowPrivilegeEscalation":false,"runAsNonRoot":true,"capabilities":{"drop":["ALL"]},"seccompProfile":{"type":"RuntimeDefault"}}"#;
    assert_eq!(send(&s, "POST", PODS, &pod("good", good)).await.0, 201);
    let deployment = r#"{"metadata":{"name":"d"},"spec":{"selector":{"matchLabels":{"a":"b"}},"template":{"metadata":{"labels":{"a":"b"}},"spec":{"hostNetwork":true,"containers":[{"name":"c","image":"i"}]}}}}"#;
    let warnings = warned(&s, "POST", "/apis/apps/v1/namespaces/default/deployments", deployment).await;
    let start =
        r#"299 - "would violate PodSecurity \"restricted:latest\": host namespaces (hostNetwork=true), allowPriv"#;
    assert!(warnings[0].starts_with(start), "{warnings:?}");
    let wrong = r#"{"metadata":{"labels":{"pod-security.kubernetes.io/enforce":"strict"}}}"#;
    let (code, no) = send(&s, "PATCH", "/api/v1/namespaces/default", wrong).await;
    let words = "Namespace \"default\" is invalid: metadata.labels[pod-security.kubernetes.io/enforce]: Invalid value: \"strict\": must be one of privileged, baseline, restricted";
    assert_eq!((code, no.str_at(["message"])), (422, Some(words)));
}

#[tokio::test(flavor = "multi_thread")]
async fn limit_ranges_fill_in_and_bound() {
    let server = furnished().await;
    let s = server.service();
    let range = r#"{"metadata":{"name":"r"},"spec":{"limits":[{"type":"Container","default":{"cpu":"500m"},"defaultRequest":{"cpu":"100m"},"max":{"cpu":"1"}}]}}"#;
    assert_eq!(send(&s, "POST", "/api/v1/namespaces/default/limitranges", range).await.0, 201);
    let (_, made) = send(&s, "POST", PODS, &pod("a", "")).await;
    let resources = &made["spec"]["containers"].items()[0]["resources"];
    assert_eq!(resources.str_at(["limits", "cpu"]), Some("500m"));
    assert_eq!(resources.str_at(["requests", "cpu"]), Some("100m"));
    let said = made["metadata"]["annotations"]["kubernetes.io/limit-ranger"].as_str();
    assert_eq!(said, Some("LimitRanger plugin set: cpu request for container c; cpu limit for container c"));
    let (code, no) = send(&s, "POST", PODS, &pod("b", r#","resources":{"limits":{"cpu":"2"}}"#)).await;
    let words = "pods \"b\" is forbidden: maximum cpu usage per Container is 1, but limit is 2";
    assert_eq!((code, no.str_at(["message"])), (403, Some(words)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quota_is_not_exceeded_by_requests_side_by_side_and_is_given_back() {
    let server = furnished().await;
    let s = server.service();
    let quota = r#"{"metadata":{"name":"q"},"spec":{"hard":{"pods":"3","count/configmaps":"2"}}}"#;
    let quotas = "/api/v1/namespaces/default/resourcequotas";
    assert_eq!(send(&s, "POST", quotas, quota).await.0, 201);
    // `kube-root-ca.crt` is one already.
    let used = |want: &'static str| {
        let s = s.clone();
        async move {
            let path = format!("{quotas}?watch=1&timeoutSeconds=20");
            let seen = until(&s, &path, |_, o| o.str_at(["status", "used", "pods"]) == Some(want)).await;
            assert_eq!(seen.last().unwrap().1.str_at(["status", "used", "pods"]), Some(want));
        }
    };
    used("0").await;
    let tasks: Vec<_> = (0..10)
        .map(|i| {
            let s = s.clone();
            tokio::spawn(async move { send(&s, "POST", PODS, &pod(&format!("p{i}"), "")).await })
        })
        .collect();
    let mut made = Vec::new();
    let mut refused = String::new();
    for t in tasks {
        match t.await.unwrap() {
            (201, o) => made.push(o.str_at(["metadata", "name"]).unwrap().to_owned()),
            (_, no) => refused = no.str_at(["message"]).unwrap().to_owned(),
        }
    }
    assert_eq!(made.len(), 3);
    assert!(refused.ends_with("exceeded quota: q, requested: pods=1, used: pods=3, limited: pods=3"), "{refused}");
    let maps = "/api/v1/namespaces/default/configmaps";
    assert_eq!(send(&s, "POST", maps, r#"{"metadata":{"name":"a"}}"#).await.0, 201);
    assert_eq!(send(&s, "POST", maps, r#"{"metadata":{"name":"b"}}"#).await.0, 403);
    send(&s, "DELETE", &format!("{PODS}/{}", made[0]), "").await;
    used("2").await;
    assert_eq!(send(&s, "POST", PODS, &pod("again", "")).await.0, 201);
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_are_handed_out_when_approved_by_whoever_may() {
    let server = bare().await;
    let s = server.service();
    let key = rcgen::KeyPair::generate().unwrap();
    let request = |organisation: &str| {
        let mut p = rcgen::CertificateParams::default();
        p.distinguished_name = rcgen::DistinguishedName::new();
        p.distinguished_name.push(rcgen::DnType::CommonName, "bob");
        p.distinguished_name.push(rcgen::DnType::OrganizationName, organisation);
        base64::engine::general_purpose::STANDARD.encode(p.serialize_request(&key).unwrap().pem().unwrap())
    };
    let csrs = "/apis/certificates.k8s.io/v1/certificatesigningrequests";
    let body = |name: &str, organisation: &str| {
        format!(
            r#"{{"metadata":{{"name":"{name}"}},"spec":{{"request":"{}","signerName":"kubernetes.io/kube-apiserver-client","usages":["client auth"],"username":"somebody else"}}}}"#,
            request(organisation)
        )
    };
    let (code, no) = send(&s, "POST", csrs, &body("root", "system:masters")).await;
    assert_eq!(code, 403);
    assert!(no.str_at(["message"]).unwrap().contains("with system:masters group is not allowed"), "{no:?}");
    let (code, made) = send(&s, "POST", csrs, &body("bob", "devs")).await;
    assert_eq!((code, made.str_at(["spec", "username"])), (201, Some("system:admin")));
    let path = format!("{csrs}/bob/approval");
    let approve = r#"{"status":{"conditions":[{"type":"Approved","status":"True","reason":"R","message":"m"}]}}"#;
    let nobody = server.service_as(User::new("eve", &["system:authenticated"]));
    assert_eq!(send(&nobody, "PATCH", &path, approve).await.0, 403);
    assert_eq!(send(&s, "PATCH", &path, approve).await.0, 200);
    let watch = format!("{csrs}?watch=1&timeoutSeconds=20");
    let seen = until(&s, &watch, |_, o| o.str_at(["status", "certificate"]).is_some()).await;
    let pem = seen.last().unwrap().1.str_at(["status", "certificate"]).unwrap().to_owned();
    let pem = base64::engine::general_purpose::STANDARD.decode(pem).unwrap();
    let user = druse_apiserver::auth::subject(pem::parse(pem).unwrap().contents()).unwrap();
    assert_eq!((user.name.as_str(), user.groups[0].as_str()), ("bob", "devs"));
}

#[tokio::test(flavor = "multi_thread")]
async fn aggregated_roles_gather_what_is_labelled_for_them() {
    let server = bare().await;
    let s = server.service();
    let roles = "/apis/rbac.authorization.k8s.io/v1/clusterroles";
    let (_, view) = send(&s, "GET", &format!("{roles}/view"), "").await;
    assert!(!view["rules"].items().is_empty());
    let more = r#"{"metadata":{"name":"widgets","labels":{"rbac.authorization.k8s.io/aggregate-to-view":"true"}},"rules":[{"apiGroups":["example.com"],"resources":["widgets"],"verbs":["get"]}]}"#;
    assert_eq!(send(&s, "POST", roles, more).await.0, 201);
    // `view` is part of `edit`, and `edit` of `admin`.
    let path = format!("{roles}?watch=1&timeoutSeconds=20&fieldSelector=metadata.name%3Dadmin");
    let has = |o: &druse_object::Value| {
        o["rules"].items().iter().any(|r| r["resources"].items().iter().any(|x| x.as_str() == Some("widgets")))
    };
    let seen = until(&s, &path, |_, o| has(o)).await;
    assert!(has(&seen.last().unwrap().1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bound_pod_knows_its_nodes_zone_and_is_the_one_that_was_meant() {
    let server = furnished().await;
    let s = server.service();
    let zone = "topology.kubernetes.io/zone";
    let node = format!(r#"{{"metadata":{{"name":"n","labels":{{"{zone}":"z","other":"o"}}}}}}"#);
    assert_eq!(send(&s, "POST", "/api/v1/nodes", &node).await.0, 201);
    let (_, made) = send(&s, "POST", PODS, &pod("p", "")).await;
    let binding = |meta: &str| format!(r#"{{"metadata":{{"name":"p"{meta}}},"target":{{"kind":"Node","name":"n"}}}}"#);
    let to = format!("{PODS}/p/binding");
    let (code, no) = send(&s, "POST", &to, &binding(r#","uid":"another""#)).await;
    assert!(code == 409 && no.str_at(["message"]).unwrap().contains("Precondition failed: UID"), "{no:?}");
    let nominated = r#"{"status":{"nominatedNodeName":"n"}}"#;
    assert_eq!(send(&s, "PATCH", &format!("{PODS}/p/status"), nominated).await.0, 200);
    let uid = format!(r#","uid":"{}""#, made["metadata"]["uid"].as_str().unwrap());
    assert_eq!(send(&s, "POST", &to, &binding(&uid)).await.0, 201);
    let (_, bound) = send(&s, "GET", &format!("{PODS}/p"), "").await;
    assert_eq!(bound.str_at(["spec", "nodeName"]), Some("n"));
    assert_eq!(bound.at(["status", "nominatedNodeName"]), None);
    let labels = bound["metadata"]["labels"].as_map().unwrap();
    assert_eq!((labels.len(), labels.get(zone).and_then(|z| z.as_str())), (1, Some("z")));

    let gated = r#"{"metadata":{"name":"g"},"spec":{"schedulingGates":[{"name":"a"}],"containers":[{"name":"c","image":"i"}]}}"#;
    assert_eq!(send(&s, "POST", PODS, gated).await.0, 201);
    let (code, no) = send(&s, "POST", &format!("{PODS}/g/binding"), &binding("").replace("\"p\"", "\"g\"")).await;
    let words = "Operation cannot be fulfilled on pods/binding \"g\": pod g has non-empty .spec.schedulingGates";
    assert_eq!((code, no.str_at(["message"])), (409, Some(words)));
}
