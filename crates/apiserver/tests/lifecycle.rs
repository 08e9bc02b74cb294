//! Deletion in all its forms, and what the server's own controllers do.

#![allow(clippy::unwrap_used)]

mod common;

use common::{bare, send, send_as, until};
use druse_object::Value;

fn uid(v: &Value) -> &str {
    v.str_at(["metadata", "uid"]).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn dependents_go_with_their_owner_and_stay_when_orphaned() {
    let server = bare().await;
    let s = server.service();
    let maps = "/api/v1/namespaces/default/configmaps";
    for (policy, stays) in [("Background", false), ("Foreground", false), ("Orphan", true)] {
        let (_, owner) = send(&s, "POST", maps, r#"{"metadata":{"name":"owner"}}"#).await;
        let body = format!(
            r#"{{"metadata":{{"name":"child","ownerReferences":[{{"apiVersion":"v1","kind":"ConfigMap","name":"owner","uid":"{}","blockOwnerDeletion":true}}]}}}}"#,
            uid(&owner)
        );
        let (code, child) = send(&s, "POST", maps, &body).await;
        assert_eq!(code, 201);
        let version = child.str_at(["metadata", "resourceVersion"]).unwrap().to_owned();
        let delete = format!(r#"{{"propagationPolicy":"{policy}"}}"#);
        send(&s, "DELETE", &format!("{maps}/owner"), &delete).await;
        let wanted = if stays { "MODIFIED" } else { "DELETED" };
        let path = format!("{maps}?watch=1&timeoutSeconds=10&resourceVersion={version}");
        let seen = until(&s, &path, |kind, o| kind == wanted && o.str_at(["metadata", "name"]) == Some("child")).await;
        assert_eq!(seen.last().unwrap().0, wanted, "{policy}: {seen:?}");
        if stays {
            assert!(seen.last().unwrap().1["metadata"]["ownerReferences"].items().is_empty());
            send(&s, "DELETE", &format!("{maps}/child"), "").await;
        }
        let path = format!("{maps}?watch=1&timeoutSeconds=10&resourceVersion={version}");
        let owner_gone = |kind: &str, o: &Value| kind == "DELETED" && o.str_at(["metadata", "name"]) == Some("owner");
        until(&s, &path, owner_gone).await;
        assert_eq!(send(&s, "GET", &format!("{maps}/owner"), "").await.0, 404, "{policy}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_waits_for_finalizers_in_it_and_says_so() {
    let server = bare().await;
    let s = server.service();
    send(&s, "POST", "/api/v1/namespaces", r#"{"metadata":{"name":"n"}}"#).await;
    let maps = "/api/v1/namespaces/n/configmaps";
    send(&s, "POST", maps, r#"{"metadata":{"name":"held","finalizers":["example.org/hold"]}}"#).await;
    send(&s, "POST", maps, r#"{"metadata":{"name":"free"}}"#).await;
    let (code, ns) = send(&s, "DELETE", "/api/v1/namespaces/n", "").await;
    assert_eq!((code, ns.str_at(["status", "phase"])), (200, Some("Terminating")));
    let watch = "/api/v1/namespaces?watch=1&timeoutSeconds=10&fieldSelector=metadata.name%3Dn";
    let remaining = |_: &str, o: &Value| {
        o["status"]["conditions"].items().iter().any(|c| {
            c.str_at(["type"]) == Some("NamespaceFinalizersRemaining")
                && c.str_at(["message"]).is_some_and(|m| m.ends_with("example.org/hold in 1 resource instances"))
        })
    };
    assert!(remaining("", &until(&s, watch, remaining).await.last().unwrap().1));
    let (code, refused) = send(&s, "POST", maps, r#"{"metadata":{"name":"new"}}"#).await;
    assert_eq!((code, refused.str_at(["reason"])), (403, Some("Forbidden")));
    let (_, ns) = send(&s, "GET", "/api/v1/namespaces/n", "").await;
    let version = ns.str_at(["metadata", "resourceVersion"]).unwrap();
    send(&s, "PATCH", &format!("{maps}/held"), r#"{"metadata":{"finalizers":null}}"#).await;
    until(&s, &format!("{watch}&resourceVersion={version}"), |kind, _| kind == "DELETED").await;
    assert_eq!(send(&s, "GET", "/api/v1/namespaces/n", "").await.0, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_placed_pod_is_deleted_in_two_steps() {
    let server = druse_apiserver::ApiServer::builder().build().await.unwrap();
    let s = server.service();
    let pods = "/api/v1/namespaces/default/pods";
    let pod = r#"{"metadata":{"name":"p"},"spec":{"nodeName":"n","containers":[{"name":"c","image":"i"}]}}"#;
    assert_eq!(send(&s, "POST", pods, pod).await.0, 201);
    let (code, dying) = send(&s, "DELETE", &format!("{pods}/p"), "").await;
    assert_eq!(code, 200);
    assert_eq!(dying["metadata"]["deletionGracePeriodSeconds"], Value::Int(30));
    assert_eq!(send(&s, "GET", &format!("{pods}/p"), "").await.0, 200);
    assert_eq!(send(&s, "DELETE", &format!("{pods}/p"), r#"{"gracePeriodSeconds":0}"#).await.0, 200);
    assert_eq!(send(&s, "GET", &format!("{pods}/p"), "").await.0, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_changes_nothing_makes_no_new_version() {
    let server = bare().await;
    let s = server.service();
    let maps = "/api/v1/namespaces/default/configmaps";
    let (_, made) = send(&s, "POST", maps, r#"{"metadata":{"name":"a"},"data":{"k":"v"}}"#).await;
    let (_, same) = send(&s, "PATCH", &format!("{maps}/a"), r#"{"data":{"k":"v"}}"#).await;
    assert_eq!(made, same);
    let (_, put) = send(&s, "PUT", &format!("{maps}/a"), r#"{"metadata":{"name":"a"},"data":{"k":"v"}}"#).await;
    assert_eq!(made, put);
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_a_list_are_from_one_moment() {
    let server = bare().await;
    let s = server.service();
    let maps = "/api/v1/namespaces/default/configmaps";
    for i in 0..5 {
        send(&s, "POST", maps, &format!(r#"{{"metadata":{{"name":"m{i}"}}}}"#)).await;
    }
    let (_, first) = send(&s, "GET", &format!("{maps}?limit=2"), "").await;
    assert_eq!(first["metadata"]["remainingItemCount"], Value::Int(3));
    send(&s, "DELETE", &format!("{maps}/m3"), "").await;
    send(&s, "POST", maps, r#"{"metadata":{"name":"m9"}}"#).await;
    let token = first.str_at(["metadata", "continue"]).unwrap();
    let (_, rest) = send(&s, "GET", &format!("{maps}?limit=10&continue={token}"), "").await;
    let names: Vec<_> = rest["items"].items().iter().filter_map(|o| o.str_at(["metadata", "name"])).collect();
    assert_eq!(names, ["m2", "m3", "m4"]);
    assert_eq!(rest["metadata"]["resourceVersion"], first["metadata"]["resourceVersion"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn json_patches_that_would_blow_an_object_up_are_refused() {
    let server = bare().await;
    let s = server.service();
    let maps = "/api/v1/namespaces/default/configmaps";
    send(&s, "POST", maps, r#"{"metadata":{"name":"a"},"data":{"k":"v"}}"#).await;
    let path = format!("{maps}/a");
    let doubling: Vec<String> =
        (0..40).map(|i| format!(r#"{{"op":"copy","from":"/data","path":"/data/k{i}"}}"#)).collect();
    let kind = "application/json-patch+json";
    let (code, no) = send_as(&s, "PATCH", &path, kind, &format!("[{}]", doubling.join(","))).await;
    assert_eq!((code, no.str_at(["reason"])), (413, Some("RequestEntityTooLarge")), "{no:?}");
    let many = vec![r#"{"op":"test","path":"/data/k","value":"v"}"#; 10_001];
    let (code, no) = send_as(&s, "PATCH", &path, kind, &format!("[{}]", many.join(","))).await;
    let words = "Request entity too large: The allowed maximum operations in a JSON patch is 10000, got 10001";
    assert_eq!((code, no.str_at(["message"])), (413, Some(words)));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_group_version_has_its_entry_the_core_group_too() {
    let server = bare().await;
    let s = server.service();
    let path = "/apis/apiregistration.k8s.io/v1/apiservices?watch=1&timeoutSeconds=20";
    let mut wanted = vec!["v1.", "v1.apps", "v2.autoscaling"];
    until(&s, path, |_, o| {
        wanted.retain(|n| o.str_at(["metadata", "name"]) != Some(n));
        wanted.is_empty()
    })
    .await;
    assert!(wanted.is_empty(), "{wanted:?}");
}
