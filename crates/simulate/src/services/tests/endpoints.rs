//! Endpoints of Services.

use druse_object::Value;

use super::super::endpoints::plan;
use super::{many, pods, service};
use crate::testing::value;

/// The subsets that a Service's Endpoints get: `ready|not ready:ports`.
fn subsets(spec: &str, running: &str) -> Vec<String> {
    let made = plan(&service(spec), &pods(running), None, None).unwrap();
    let names = |v: &Value| {
        let names = v.items().iter().map(|a| a.str_at(["targetRef", "name"]).unwrap().to_owned());
        names.collect::<Vec<_>>().join(",")
    };
    let ports = |v: &Value| {
        let numbers = v.items().iter().map(|p| p["port"].as_i64().unwrap().to_string());
        numbers.collect::<Vec<_>>().join(",")
    };
    let mut out: Vec<String> = made["subsets"]
        .items()
        .iter()
        .map(|s| format!("{}|{}:{}", names(&s["addresses"]), names(&s["notReadyAddresses"]), ports(&s["ports"])))
        .collect();
    // Subsets are ordered by a hash.
    out.sort();
    out
}

#[test]
fn addresses_are_packed_by_the_ports_they_offer() {
    let two = "ports: [{name: http, port: 80, targetPort: http}, {name: admin, port: 81, targetPort: 9000}]";
    let all = "publishNotReadyAddresses: true";
    for (spec, running, expected) in [
        ("", "", vec![]),
        ("", "a ready, b pending, c new, d going, e done", vec!["a|b:8080"]),
        (all, "a ready, b pending, c new, d dying, e done", vec!["a,b,d|:8080"]),
        ("", "a ready, b ready 9090, c ready", vec!["a,c|:8080", "b|:9090"]),
        (two, "a ready, b ready", vec!["a,b|:8080,9000"]),
        (two, "a ready, b ready 9090", vec!["a,b|:9000", "a|:8080", "b|:9090"]),
        ("clusterIP: None, ports: null", "a ready, b pending", vec!["a|b:"]),
        // Without a port there is no endpoint, unless the Service is headless.
        ("ports: null", "a ready", vec![]),
        ("ipFamilies: [IPv6, IPv4]", "a ready", vec!["a|:8080"]),
    ] {
        assert_eq!(subsets(spec, running), expected, "{spec} {running}");
    }
}

#[test]
fn they_have_the_services_name_labels_and_first_family() {
    let at = "2026-01-01T00:05:00Z".parse().ok();
    let made = plan(&service("ipFamilies: [IPv6, IPv4]"), &pods("a ready"), None, at).unwrap();
    let expected = value(
        "apiVersion: v1
kind: Endpoints
metadata:
  name: web
  namespace: home
  labels: {team: a, endpoints.kubernetes.io/managed-by: endpoint-controller}
  annotations: {endpoints.kubernetes.io/last-change-trigger-time: '2026-01-01T00:05:00Z'}
subsets:
- addresses: [{ip: 'fd00::', nodeName: n1, targetRef: {kind: Pod, namespace: home, name: a, uid: u-a}}]
  ports: [{name: http, port: 8080, protocol: TCP}]
",
    );
    assert_eq!(made, expected);
    let headless = plan(&service("clusterIP: None"), &[], Some(&made), None).unwrap();
    assert_eq!(headless["metadata"]["labels"]["service.kubernetes.io/headless"].as_str(), Some(""));
    assert!(headless["subsets"].is_null());
    assert_eq!(headless["metadata"]["annotations"], value("{}"), "nothing that has a time triggered it");
}

#[test]
fn they_are_written_when_addresses_or_labels_differ_and_not_otherwise() {
    let running = pods("a ready, b pending");
    let made = plan(&service(""), &running, None, None).unwrap();
    let writes = |service: &Value, running: &str| plan(service, &pods(running), Some(&made), None).is_some();
    assert!(!writes(&service(""), "a ready, b pending"));
    assert!(writes(&service(""), "a ready, b ready"));
    let mut relabelled = service("");
    relabelled.make_map_at(["metadata", "labels"]).unwrap().insert("team", "b");
    assert!(writes(&relabelled, "a ready, b pending"));
    // What somebody else packed in another way says the same.
    let mut other = made.clone();
    let target = "targetRef: {kind: Pod, namespace: home, uid";
    let apart = format!(
        "[{{notReadyAddresses: [{{ip: 10.0.0.2, nodeName: n1, {target}: u-b, name: b}}}}], \
           ports: [{{name: http, port: 8080, protocol: TCP}}]}},
          {{addresses: [{{ip: 10.0.0.1, nodeName: n1, {target}: u-a, name: a, resourceVersion: '7'}}}}], \
           ports: [{{name: http, port: 8080, protocol: TCP}}]}}]"
    );
    other.as_map_mut().unwrap().insert("subsets", value(&apart));
    assert!(plan(&service(""), &running, Some(&other), None).is_none());
}

#[test]
fn no_more_than_a_thousand_addresses_are_listed_and_ready_ones_first() {
    let over = |made: &Value| made["metadata"]["annotations"]["endpoints.kubernetes.io/over-capacity"].clone();
    let sizes = |made: &Value| {
        let of = |s: &Value| (s["addresses"].items().len(), s["notReadyAddresses"].items().len());
        made["subsets"].items().iter().map(of).collect::<Vec<_>>()
    };
    let made = plan(&service(""), &many(0, 1005), None, None).unwrap();
    assert_eq!((sizes(&made), over(&made).as_str()), (vec![(1000, 0)], Some("truncated")));
    assert!(plan(&service(""), &many(0, 1005), Some(&made), None).is_none());
    let mut mixed = many(0, 999);
    let waiting = ["x", "y", "z"].map(|n| format!("{n} pending")).join(", ");
    mixed.extend(pods(&waiting).into_iter().enumerate().map(|(i, pod)| {
        let mut pod = (*pod).clone();
        pod.make_map_at(["status"]).unwrap().insert("podIPs", value(&format!("[{{ip: 10.9.0.{i}}}]")));
        std::sync::Arc::new(pod)
    }));
    let made = plan(&service(""), &mixed, Some(&made), None).unwrap();
    assert_eq!((sizes(&made), over(&made).as_str()), (vec![(999, 1)], Some("truncated")));
    let made = plan(&service(""), &many(0, 3), Some(&made), None).unwrap();
    assert_eq!((sizes(&made), over(&made)), (vec![(3, 0)], Value::Null));
}
