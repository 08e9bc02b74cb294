//! A `kube::Client` straight on the service: the way the controllers use it.

mod common;

use druse_apiserver::ApiServer;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, ServiceAccount};
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams};
use kube::core::{ApiResource, DynamicObject, GroupVersionKind};

#[tokio::test(flavor = "multi_thread")]
async fn a_client_reads_writes_applies_and_watches() {
    let server = ApiServer::builder().build().await.unwrap();
    let client = kube::Client::new(server.service(), "default");
    let accounts: Api<ServiceAccount> = Api::default_namespaced(client.clone());
    assert_eq!(accounts.get("default").await.unwrap().metadata.name.as_deref(), Some("default"));

    let maps: Api<ConfigMap> = Api::default_namespaced(client.clone());
    let made = maps
        .create(
            &PostParams::default(),
            &serde_json::from_value(serde_json::json!({"metadata":{"name":"a"},"data":{"k":"1"}})).unwrap(),
        )
        .await
        .unwrap();
    let version = made.metadata.resource_version.clone().unwrap();
    let applied = serde_json::json!({"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a"},"data":{"x":"2"}});
    let after = maps.patch("a", &PatchParams::apply("test"), &Patch::Apply(&applied)).await.unwrap();
    assert_eq!(after.data.unwrap().len(), 2);

    let mut events = Box::pin(maps.watch(&WatchParams::default().timeout(5), &version).await.unwrap());
    let first = futures::StreamExt::next(&mut events).await.unwrap().unwrap();
    assert!(matches!(first, WatchEvent::Modified(m) if m.metadata.name.as_deref() == Some("a")));
    maps.delete("a", &DeleteParams::default()).await.unwrap();
    assert!(matches!(maps.get("a").await, Err(kube::Error::Api(e)) if e.code == 404));

    let namespaces: Api<Namespace> = Api::all(client.clone());
    assert_eq!(namespaces.list(&ListParams::default()).await.unwrap().items.len(), 4);
    let kinds = kube::discovery::Discovery::new(client).run().await.unwrap();
    assert!(kinds.has_group("apps"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crd_is_served_as_soon_as_its_creation_is_answered() {
    let server = ApiServer::builder().build().await.unwrap();
    let client = kube::Client::new(server.service(), "default");
    let crds: Api<DynamicObject> = Api::all_with(
        client.clone(),
        &ApiResource::from_gvk(&GroupVersionKind::gvk("apiextensions.k8s.io", "v1", "CustomResourceDefinition")),
    );
    let crd = serde_json::json!({
        "apiVersion":"apiextensions.k8s.io/v1","kind":"CustomResourceDefinition","metadata":{"name":"things.example.org"},
        "spec":{"group":"example.org","scope":"Namespaced","names":{"plural":"things","singular":"thing","kind":"Thing","listKind":"ThingList"},
        "versions":[{"name":"v1","served":true,"storage":true,"schema":{"openAPIV3Schema":{"type":"object","properties":{"spec":{"type":"object","properties":{"n":{"type":"integer","default":3}}}}}}}]}});
    crds.create(&PostParams::default(), &serde_json::from_value(crd).unwrap()).await.unwrap();
    common::until(
        &server.service(),
        "/apis/apiextensions.k8s.io/v1/customresourcedefinitions?watch=1&timeoutSeconds=10",
        |_, o| {
            o["status"]["conditions"]
                .items()
                .iter()
                .any(|c| c.str_at(["type"]) == Some("Established") && c.str_at(["status"]) == Some("True"))
        },
    )
    .await;
    let things: Api<DynamicObject> = Api::default_namespaced_with(
        client,
        &ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk("example.org", "v1", "Thing"), "things"),
    );
    let thing =
        serde_json::json!({"apiVersion":"example.org/v1","kind":"Thing","metadata":{"name":"a"},"spec":{"unknown":1}});
    let made = things.create(&PostParams::default(), &serde_json::from_value(thing).unwrap()).await.unwrap();
    assert_eq!(made.data["spec"], serde_json::json!({"n":3}));
    crds.delete("things.example.org", &DeleteParams::default()).await.unwrap();
    let gone = common::until(
        &server.service(),
        "/apis/apiextensions.k8s.io/v1/customresourcedefinitions?watch=1&timeoutSeconds=10",
        |kind, _| kind == "DELETED",
    )
    .await;
    // A watch from the present state may begin after the end.
    assert!(gone.is_empty() || gone.last().unwrap().0 == "DELETED");
    assert!(matches!(things.get("a").await, Err(kube::Error::Api(e)) if e.code == 404));
}
