//! Who may do what: tokens, roles, impersonation, and that nobody grants more than they have.

#![allow(clippy::unwrap_used)]

mod common;

use common::{bare, send, send_as};
use druse_apiserver::auth::User;
use druse_object::Value;

const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";

#[tokio::test(flavor = "multi_thread")]
async fn nobody_grants_more_than_they_have() {
    let server = bare().await;
    let admin = server.service();
    let role = r#"{"metadata":{"name":"writer"},"rules":[{"apiGroups":["rbac.authorization.k8s.io"],"resources":["roles","rolebindings"],"verbs":["*"]},{"apiGroups":[""],"resources":["pods"],"verbs":["get","list"]}]}"#;
    assert_eq!(send(&admin, "POST", &format!("{RBAC}/clusterroles"), role).await.0, 201);
    let binding = r#"{"metadata":{"name":"bob"},"roleRef":{"apiGroup":"rbac.authorization.k8s.io","kind":"ClusterRole","name":"writer"},"subjects":[{"kind":"User","apiGroup":"rbac.authorization.k8s.io","name":"bob"}]}"#;
    assert_eq!(send(&admin, "POST", &format!("{RBAC}/namespaces/default/rolebindings"), binding).await.0, 201);
    let bob = server.service_as(User::new("bob", &["system:authenticated"]));
    let make = |name: &str, verb: &str| {
        format!(
            r#"{{"metadata":{{"name":"{name}"}},"rules":[{{"apiGroups":[""],"resources":["pods"],"verbs":["{verb}"]}}]}}"#
        )
    };
    let roles = format!("{RBAC}/namespaces/default/roles");
    // `roles` with verb `*` includes `escalate`; take that away first.
    let narrow = r#"[{"op":"replace","path":"/rules/0/verbs","value":["create"]}]"#;
    let path = format!("{RBAC}/clusterroles/writer");
    assert_eq!(send_as(&admin, "PATCH", &path, "application/json-patch+json", narrow).await.0, 200);
    assert_eq!(send(&bob, "POST", &roles, &make("reader", "get")).await.0, 201);
    let (code, refused) = send(&bob, "POST", &roles, &make("deleter", "delete")).await;
    assert_eq!(code, 403);
    assert!(
        refused
            .str_at(["message"])
            .unwrap()
            .contains("not currently held:\n{APIGroups:[\"\"], Resources:[\"pods\"], Verbs:[\"delete\"]}"),
        "{refused:?}"
    );
    let cluster = r#"{"metadata":{"name":"up"},"roleRef":{"apiGroup":"rbac.authorization.k8s.io","kind":"ClusterRole","name":"cluster-admin"},"subjects":[]}"#;
    assert_eq!(send(&bob, "POST", &format!("{RBAC}/namespaces/default/rolebindings"), cluster).await.0, 403);
    assert_eq!(send(&bob, "GET", "/api/v1/namespaces/kube-system/pods", "").await.0, 403);
    assert_eq!(send(&bob, "GET", "/api/v1/namespaces/default/pods", "").await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_ends_with_its_service_account() {
    let server = bare().await;
    let admin = server.service();
    let accounts = "/api/v1/namespaces/default/serviceaccounts";
    send(&admin, "POST", accounts, r#"{"metadata":{"name":"a"}}"#).await;
    let (code, answer) = send(&admin, "POST", &format!("{accounts}/a/token"), "{}").await;
    assert_eq!(code, 201, "{answer:?}");
    let review = format!(r#"{{"spec":{{"token":"{}"}}}}"#, answer.str_at(["status", "token"]).unwrap());
    let reviews = "/apis/authentication.k8s.io/v1/tokenreviews";
    let (_, seen) = send(&admin, "POST", reviews, &review).await;
    assert_eq!(seen.str_at(["status", "user", "username"]), Some("system:serviceaccount:default:a"));
    send(&admin, "DELETE", &format!("{accounts}/a"), "").await;
    send(&admin, "POST", accounts, r#"{"metadata":{"name":"a"}}"#).await;
    let (_, seen) = send(&admin, "POST", reviews, &review).await;
    assert_ne!(seen["status"]["authenticated"], Value::Bool(true));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_secret_is_filled_and_its_token_lasts_as_long_as_it() {
    use base64::Engine as _;
    let server = druse_apiserver::ApiServer::builder().token("admin").build().await.unwrap();
    let s = server.service();
    let secrets = "/api/v1/namespaces/default/secrets";
    let body = r#"{"metadata":{"name":"t","annotations":{"kubernetes.io/service-account.name":"default"}},"type":"kubernetes.io/service-account-token"}"#;
    assert_eq!(send(&s, "POST", secrets, body).await.0, 201);
    let filled = common::until(&s, &format!("{secrets}?watch=1&timeoutSeconds=20"), |_, o| {
        o["data"].str_at(["token"]).is_some()
    })
    .await;
    let token = filled.last().unwrap().1["data"].str_at(["token"]).unwrap().to_owned();
    let token = String::from_utf8(base64::engine::general_purpose::STANDARD.decode(token).unwrap()).unwrap();
    let review = format!(r#"{{"spec":{{"token":"{token}"}}}}"#);
    let path = "/apis/authentication.k8s.io/v1/tokenreviews";
    let (_, known) = send(&s, "POST", path, &review).await;
    let name = known.str_at(["status", "user", "username"]);
    assert_eq!(name, Some("system:serviceaccount:default:default"), "{known:?}");
    send(&s, "DELETE", &format!("{secrets}/t"), "").await;
    let (_, unknown) = send(&s, "POST", path, &review).await;
    assert_eq!(unknown.at(["status", "authenticated"]).and_then(Value::as_bool), None, "{unknown:?}");
}

#[tokio::test]
async fn extension_servers_find_whom_they_trust() {
    let server = bare().await;
    let path = "/api/v1/namespaces/kube-system/configmaps";
    let (_, found) = send(&server.service(), "GET", &format!("{path}/extension-apiserver-authentication"), "").await;
    let data = &found["data"];
    assert_eq!(data["client-ca-file"].as_str(), Some(server.ca_pem()));
    assert_eq!(data["requestheader-allowed-names"].as_str(), Some(r#"["front-proxy-client"]"#));
    // Whom they believe what user somebody is, is another authority than that of clients.
    let proxies = data["requestheader-client-ca-file"].as_str().unwrap();
    assert!(proxies.starts_with("-----BEGIN CERTIFICATE-----") && proxies != server.ca_pem());
    let tracking = format!("{path}/kube-apiserver-legacy-service-account-token-tracking");
    let (_, found) = send(&server.service(), "GET", &tracking, "").await;
    assert_eq!(found["data"]["since"].as_str().map(str::len), Some("2026-01-02".len()));
}

#[tokio::test]
async fn a_review_of_rules_answers_with_nothing_of_the_question() {
    let server = bare().await;
    let review = r#"{"metadata":{"name":"a"},"spec":{"namespace":"x"}}"#;
    let path = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews";
    let (code, answer) = send(&server.service(), "POST", path, review).await;
    let empty = |key: &str| answer[key].as_map().is_some_and(|m| m.is_empty());
    assert!(code == 201 && empty("metadata") && empty("spec"), "{answer:?}");
    let all = |rule: &Value| rule["verbs"].items().iter().any(|v| v.as_str() == Some("*"));
    assert!(answer["status"]["resourceRules"].items().iter().any(all));
}
