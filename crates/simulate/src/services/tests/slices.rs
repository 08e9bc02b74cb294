//! EndpointSlices of Services.

use std::sync::Arc;

use druse_object::{Map, Value};

use super::super::slices::{Behind, Plan, plan};
use super::{many, pods, service};
use crate::testing::value;

/// What an API and a controller make of plans: the slices, under the names they got.
#[derive(Default)]
struct Cluster {
    slices: Vec<Arc<Value>>,
    named: usize,
}

impl Cluster {
    fn plan(&self, service: &Value, pods: &[Arc<Value>]) -> Plan {
        let node = |name: &str| {
            let node = value("{metadata: {labels: {topology.kubernetes.io/zone: east}}}");
            (name == "n1").then(|| Arc::new(node))
        };
        plan(&Behind { service, pods, node: &node }, &self.slices, "2026-01-01T00:05:00Z".parse().ok())
    }

    /// Does what is planned, and says it: `+2` makes a slice of two endpoints, `a=2` gives slice `a` two, `-a` deletes it.
    fn sync(&mut self, service: &Value, pods: &[Arc<Value>]) -> String {
        let plan = self.plan(service, pods);
        assert_eq!(plan.failures, Vec::<String>::new());
        let mut said = Vec::new();
        let size = |s: &Value| s["endpoints"].items().len();
        for old in &plan.delete {
            said.push(format!("-{}", name(old)));
            self.slices.retain(|s| name(s) != name(old));
        }
        for slice in plan.update {
            said.push(format!("{}={}", name(&slice), size(&slice)));
            let place = self.slices.iter().position(|s| name(s) == name(&slice)).unwrap();
            self.slices[place] = Arc::new(slice);
        }
        for mut slice in plan.create {
            said.push(format!("+{}", size(&slice)));
            let letter = char::from(b'a' + u8::try_from(self.named).unwrap());
            self.named += 1;
            slice.make_map_at(["metadata"]).unwrap().insert("name", letter.to_string());
            self.slices.push(Arc::new(slice));
        }
        said.sort();
        said.join(" ")
    }

    fn slice(&self, of: &str) -> &Value {
        self.slices.iter().find(|s| name(s) == of).unwrap()
    }
}

fn name(slice: &Value) -> String {
    slice.str_at(["metadata", "name"]).unwrap().to_owned()
}

#[test]
fn an_endpoint_says_where_its_pod_is_and_how_it_does() {
    let mut cluster = Cluster::default();
    assert_eq!(cluster.sync(&service(""), &pods("a ready")), "+1");
    let mut slice = cluster.slice("a").clone();
    slice.as_map_mut().unwrap().remove("metadata");
    let expected = value(
        "apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
addressType: IPv4
endpoints:
- addresses: [10.0.0.1]
  conditions: {ready: true, serving: true, terminating: false}
  nodeName: n1
  zone: east
  targetRef: {kind: Pod, namespace: home, name: a, uid: u-a}
ports: [{name: http, port: 8080, protocol: TCP}]
",
    );
    assert_eq!(slice, expected);
}

#[test]
fn a_slice_belongs_to_its_service_and_has_its_labels() {
    let mut cluster = Cluster::default();
    cluster.sync(&service(""), &[]);
    let mut metadata = cluster.slice("a")["metadata"].clone();
    metadata.as_map_mut().unwrap().remove("name");
    let expected = value(
        "generateName: web-
namespace: home
labels:
  team: a
  kubernetes.io/service-name: web
  endpointslice.kubernetes.io/managed-by: endpointslice-controller.k8s.io
ownerReferences: [{apiVersion: v1, kind: Service, name: web, uid: s, controller: true, blockOwnerDeletion: true}]
annotations: {endpoints.kubernetes.io/last-change-trigger-time: '2026-01-01T00:05:00Z'}
",
    );
    assert_eq!(metadata, expected);
    // Labels of the controller's own do not come from the Service.
    let mut other = service("clusterIP: None");
    let labels = other.make_map_at(["metadata", "labels"]).unwrap();
    labels.insert("endpointslice.kubernetes.io/managed-by", "me");
    labels.remove("team");
    assert_eq!(cluster.sync(&other, &[]), "a=0");
    let expected = value(
        "service.kubernetes.io/headless: ''
kubernetes.io/service-name: web
endpointslice.kubernetes.io/managed-by: endpointslice-controller.k8s.io
",
    );
    assert_eq!(cluster.slice("a")["metadata"]["labels"], expected);
}

#[test]
fn readiness_end_and_what_the_service_publishes_make_the_conditions() {
    let conditions = |spec: &str, state: &str| {
        let mut cluster = Cluster::default();
        cluster.sync(&service(spec), &pods(&format!("a {state}")));
        let endpoints = cluster.slice("a")["endpoints"].items();
        let of = |e: &Value| ["ready", "serving", "terminating"].map(|c| e["conditions"][c].as_bool().unwrap());
        endpoints.first().map(of)
    };
    let all = "publishNotReadyAddresses: true";
    for (spec, state, expected) in [
        ("", "ready", Some([true, true, false])),
        ("", "pending", Some([false, false, false])),
        ("", "going", Some([false, true, true])),
        ("", "dying", Some([false, false, true])),
        ("", "done", None),
        ("", "new", None),
        (all, "pending", Some([true, false, false])),
        (all, "dying", Some([true, false, true])),
        (all, "done", None),
    ] {
        assert_eq!(conditions(spec, state), expected, "{spec} {state}");
    }
}

#[test]
fn a_service_with_nothing_behind_it_has_one_empty_slice_which_is_used_for_what_comes() {
    let mut cluster = Cluster::default();
    assert_eq!(cluster.sync(&service(""), &pods("a new")), "+0");
    assert_eq!(cluster.slice("a")["ports"].items(), []);
    assert_eq!(cluster.sync(&service(""), &[]), "");
    assert_eq!(cluster.sync(&service(""), &pods("a ready")), "a=1");
    assert_eq!(cluster.slice("a")["ports"].items().len(), 1);
    assert_eq!(cluster.sync(&service(""), &pods("a done")), "a=0");
    assert_eq!(cluster.sync(&service(""), &[]), "");
}

#[test]
fn endpoints_stay_where_they_are_and_new_ones_go_where_least_is_written() {
    let mut cluster = Cluster::default();
    assert_eq!(cluster.sync(&service(""), &many(0, 250)), "+100 +100 +50");
    assert_eq!(cluster.sync(&service(""), &many(0, 250)), "");
    // The slice with room takes what fits.
    assert_eq!(cluster.sync(&service(""), &many(0, 260)), "c=60");
    // A slice that changes anyhow is filled first.
    assert_eq!(cluster.sync(&service(""), &many(5, 265)), "a=100");
    // What does not fit into one slice gets a new one.
    assert_eq!(cluster.sync(&service(""), &many(5, 310)), "+45");
    // Slices are not merged; those that are empty go.
    assert_eq!(cluster.sync(&service(""), &many(250, 310)), "-b a=5 c=10");
    assert_eq!(cluster.slices.len(), 3);
}

#[test]
fn pods_that_listen_elsewhere_and_other_families_have_slices_of_their_own() {
    let mut cluster = Cluster::default();
    let two = pods("a ready, b ready 9090, c ready");
    assert_eq!(cluster.sync(&service(""), &two), "+1 +2");
    assert_eq!(cluster.sync(&service("ipFamilies: [IPv6, IPv4]"), &two), "+1 +2");
    let families: Vec<_> = cluster.slices.iter().map(|s| s["addressType"].as_str().unwrap()).collect();
    assert_eq!(families, ["IPv4", "IPv4", "IPv6", "IPv6"]);
    assert_eq!(cluster.slice("c")["endpoints"].items()[0]["addresses"], value("['fd00::']"));
    assert_eq!(cluster.sync(&service("ipFamilies: [IPv6]"), &two), "-a -b");
    // A port that a pod does not have is left out of its slice.
    let ports = "ports: [{name: http, port: 80, targetPort: http}, {name: metrics, port: 9, targetPort: metrics}]";
    assert_eq!(cluster.sync(&service(&format!("ipFamilies: [IPv6], {ports}")), &two), "");
    // Another port makes another set, in the slice that was there.
    let ports = "ports: [{name: http, port: 80, targetPort: 80}]";
    assert_eq!(cluster.sync(&service(&format!("ipFamilies: [IPv6], {ports}")), &two), "-d c=3");
}

#[test]
fn ports_are_listed_in_upstreams_order() {
    let mut cluster = Cluster::default();
    let ports = ["a", "b", "c"].map(|n| format!("{{name: {n}, port: 80, targetPort: 8080, protocol: TCP}}"));
    cluster.sync(&service(&format!("ports: [{}]", ports.join(", "))), &pods("a ready"));
    let names: Vec<_> = cluster.slice("a")["ports"].items().iter().map(|p| p["name"].as_str().unwrap()).collect();
    // As upstream's own function sorts them.
    assert_eq!(names, ["c", "b", "a"]);
}

#[test]
fn a_headless_service_needs_no_ports() {
    let mut cluster = Cluster::default();
    let headless = service("clusterIP: None, ports: null");
    assert_eq!(cluster.sync(&headless, &pods("a ready")), "+1");
    assert_eq!(cluster.slice("a")["ports"].items(), []);
    assert_eq!(cluster.sync(&headless, &pods("a done")), "a=0");
    assert_eq!(cluster.sync(&headless, &pods("a ready")), "a=1");
}

#[test]
fn a_pod_is_found_by_its_hosts_name_within_the_services_domain() {
    let host = |subdomain: &str| {
        let mut pod = (*pods("a ready")[0]).clone();
        let spec: Map = [("hostname", "one"), ("subdomain", subdomain), ("nodeName", "n1")].into_iter().collect();
        pod.as_map_mut().unwrap().insert("spec", spec);
        let mut cluster = Cluster::default();
        cluster.sync(&service(""), &[Arc::new(pod)]);
        cluster.slice("a")["endpoints"].items()[0]["hostname"].clone()
    };
    assert_eq!(host("web").as_str(), Some("one"));
    assert_eq!(host("other"), Value::Null);
}

#[test]
fn a_pod_on_a_node_that_is_missing_is_left_out_and_told_of() {
    let mut lost = (*pods("a ready")[0]).clone();
    lost.make_map_at(["spec"]).unwrap().insert("nodeName", "gone");
    let lost = [Arc::new(lost)];
    let cluster = Cluster::default();
    let plan = cluster.plan(&service(""), &lost);
    assert_eq!(plan.failures, ["skipping Pod a for Service home/web: Node gone Not Found"]);
    assert_eq!(plan.create.len(), 1, "the empty one");
    let plan = cluster.plan(&service("publishNotReadyAddresses: true"), &lost);
    assert!(plan.failures.is_empty());
    assert_eq!(plan.create[0]["endpoints"].items().len(), 1);
}

#[test]
fn a_slice_of_an_older_service_of_the_name_is_not_used() {
    let mut cluster = Cluster::default();
    cluster.sync(&service(""), &pods("a ready"));
    let mut again = service("");
    again.make_map_at(["metadata"]).unwrap().insert("uid", "t");
    assert_eq!(cluster.sync(&again, &pods("a ready")), "+1 -a");
}

#[test]
fn near_endpoints_are_hinted_at_where_the_service_asks_for_them() {
    let mut cluster = Cluster::default();
    let running = pods("a ready, b pending");
    cluster.sync(&service(""), &running);
    let zone = value("{forZones: [{name: east}]}");
    let both = value("{forZones: [{name: east}], forNodes: [{name: n1}]}");
    for (spec, said, hints) in [
        ("trafficDistribution: PreferClose", "a=2", &zone),
        ("trafficDistribution: PreferSameZone", "", &zone),
        ("trafficDistribution: PreferSameNode", "a=2", &both),
        ("trafficDistribution: Anything", "a=2", &Value::Null),
        ("", "", &Value::Null),
    ] {
        assert_eq!(cluster.sync(&service(spec), &running), said, "{spec}");
        let endpoints = cluster.slice("a")["endpoints"].items();
        assert_eq!([&endpoints[0]["hints"], &endpoints[1]["hints"]], [hints, &Value::Null], "{spec}");
    }
}
