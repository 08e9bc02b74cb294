//! Services in a running cluster: what is written for them, and when.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::time::Duration;

use druse_kustomize::tree::MemoryTree;
use druse_object::Value;
use druse_runtime::{DeleteOptions, Resource};
use support::{Cluster, deployments, pods};
use tokio::time::timeout;

const WEB: &str = "apiVersion: v1
kind: Service
metadata: {name: web, namespace: default}
spec: {selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: default}
spec:
  replicas: 3
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: main, image: x}]}
";

fn endpoints() -> Resource {
    Resource::new("", "v1", "Endpoints", "endpoints", true)
}

fn slices() -> Resource {
    Resource::new("discovery.k8s.io", "v1", "EndpointSlice", "endpointslices", true)
}

fn services() -> Resource {
    Resource::new("", "v1", "Service", "services", true)
}

async fn slices_of(cluster: &Cluster, service: &str) -> Vec<Value> {
    let mut all = cluster.list(&slices(), "default").await;
    all.retain(|s| s.at(["metadata", "labels"]).unwrap()["kubernetes.io/service-name"].as_str() == Some(service));
    all
}

/// Waits until the slices of a Service are as wished.
async fn until(cluster: &Cluster, service: &str, wish: impl Fn(&[Value]) -> bool) {
    let there = async {
        while !wish(&slices_of(cluster, service).await) {
            let _looked_at_again_anyway = timeout(Duration::from_millis(20), cluster.manager.moved()).await;
        }
    };
    timeout(Duration::from_secs(30), there).await.expect("the slices become what they should be");
    cluster.idle().await;
}

fn ready(slices: &[Value]) -> usize {
    let endpoints = slices.iter().flat_map(|s| s["endpoints"].items());
    endpoints.filter(|e| e["conditions"]["ready"].as_bool() == Some(true)).count()
}

fn version(v: &Value) -> String {
    v.str_at(["metadata", "resourceVersion"]).unwrap().to_owned()
}

/// The versions of all that is written for the Service.
async fn versions(cluster: &Cluster) -> Vec<String> {
    let mut all: Vec<String> = slices_of(cluster, "web").await.iter().map(version).collect();
    all.extend(cluster.get(&endpoints(), "default", "web").await.as_ref().map(version));
    all
}

async fn web() -> Cluster {
    let cluster = Cluster::start(MemoryTree::new(), "main@sha1:0", true).await;
    cluster.apply(WEB).await;
    until(&cluster, "web", |s| ready(s) == 3).await;
    cluster
}

#[tokio::test(flavor = "multi_thread")]
async fn what_changes_nothing_of_its_endpoints_writes_nothing() {
    let cluster = web().await;
    let before = versions(&cluster).await;
    assert_eq!(before.len(), 2, "a slice and the Endpoints");
    let note = r#"{"metadata":{"annotations":{"note":"1"}}}"#;
    for pod in cluster.list(&pods(), "default").await {
        cluster.merge(&pods(), "default", pod.str_at(["metadata", "name"]).unwrap(), note).await;
    }
    cluster.merge(&services(), "default", "web", note).await;
    cluster.merge(&deployments(), "default", "web", note).await;
    cluster.idle().await;
    assert_eq!(versions(&cluster).await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_takes_away_is_made_again() {
    let cluster = web().await;
    let slice = slices_of(&cluster, "web").await.remove(0);
    let name = slice.str_at(["metadata", "name"]).unwrap();
    let options = DeleteOptions::default();
    cluster.api.delete(&slices(), "default", name, &options).await.unwrap();
    cluster.api.delete(&endpoints(), "default", "web", &options).await.unwrap();
    until(&cluster, "web", |s| s.iter().all(|s| s.str_at(["metadata", "name"]) != Some(name)) && ready(s) == 3).await;
    let addresses = |e: Option<&Value>| e.is_some_and(|e| e["subsets"].items()[0]["addresses"].items().len() == 3);
    cluster.until(&endpoints(), "default", "web", addresses).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_takes_its_endpoints_with_it_and_leaves_those_of_others() {
    let cluster = web().await;
    let other = WEB.split("---").next().unwrap().replace("name: web,", "name: other,");
    cluster.apply(&other).await;
    until(&cluster, "other", |s| ready(s) == 3).await;
    cluster.api.delete(&services(), "default", "web", &DeleteOptions::default()).await.unwrap();
    until(&cluster, "web", <[Value]>::is_empty).await;
    cluster.until(&endpoints(), "default", "web", |e| e.is_none()).await;
    assert_eq!(ready(&slices_of(&cluster, "other").await), 3);
    assert!(cluster.get(&endpoints(), "default", "other").await.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_that_go_are_no_endpoints_any_more_and_those_that_come_are() {
    let cluster = web().await;
    cluster.merge(&deployments(), "default", "web", r#"{"spec":{"replicas":120}}"#).await;
    until(&cluster, "web", |s| ready(s) == 120).await;
    let sizes = |s: &[Value]| s.iter().map(|s| s["endpoints"].items().len()).collect::<Vec<_>>();
    let full = slices_of(&cluster, "web").await;
    assert!(sizes(&full).iter().all(|n| *n <= 100) && full.len() >= 2, "{:?}", sizes(&full));
    cluster.merge(&deployments(), "default", "web", r#"{"spec":{"replicas":1}}"#).await;
    until(&cluster, "web", |s| sizes(s).iter().sum::<usize>() == 1).await;
    let listed = cluster.get(&endpoints(), "default", "web").await.unwrap();
    assert_eq!(listed["subsets"].items()[0]["addresses"].items().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn endpoints_written_by_hand_are_found_as_slices() {
    let cluster = Cluster::start(MemoryTree::new(), "main@sha1:0", true).await;
    let db = "apiVersion: v1
kind: Endpoints
metadata: {name: db, namespace: default}
subsets: [{addresses: [{ip: 203.0.113.7}], ports: [{port: 5432}]}]
---
apiVersion: v1
kind: Service
metadata: {name: db, namespace: default}
spec: {ports: [{port: 5432}]}
";
    cluster.apply(db).await;
    until(&cluster, "db", |s| ready(s) == 1).await;
    cluster.apply(&db.replace("203.0.113.7", "203.0.113.8")).await;
    let there = |s: &[Value]| {
        s.len() == 1 && s[0]["endpoints"].items()[0]["addresses"].items()[0].as_str() == Some("203.0.113.8")
    };
    until(&cluster, "db", there).await;
    // A Service that selects its pods needs no mirror; a real one makes the slices.
    cluster.merge(&services(), "default", "db", r#"{"spec":{"selector":{"app":"db"}}}"#).await;
    let by = |s: &Value| s.at(["metadata", "labels"]).unwrap()["endpointslice.kubernetes.io/managed-by"].clone();
    until(&cluster, "db", |s| s.len() == 1 && by(&s[0]).as_str() == Some("endpointslice-controller.k8s.io")).await;
}
