//! Endpoints mirrored as EndpointSlices.

use std::sync::Arc;

use druse_object::Value;

use super::super::mirror::plan;
use crate::testing::value;

fn endpoints(subsets: &str) -> Value {
    value(&format!(
        "apiVersion: v1
kind: Endpoints
metadata:
  name: db
  namespace: home
  uid: e
  labels: {{team: a}}
  annotations:
    note: kept
    kubectl.kubernetes.io/last-applied-configuration: '{{}}'
    endpoints.kubernetes.io/last-change-trigger-time: x
subsets: [{subsets}]"
    ))
}

/// The slice that is made, with a name.
fn only(subsets: &str) -> Arc<Value> {
    let mut made = plan(&endpoints(subsets), &[]).plan.create;
    assert_eq!(made.len(), 1);
    made[0].make_map_at(["metadata"]).unwrap().insert("name", "db-1");
    Arc::new(made.remove(0))
}

const PORTS: &str = "ports: [{name: '', port: 5432, protocol: TCP}]";

#[test]
fn a_slice_says_what_its_endpoints_say() {
    let mut made = (*only(&format!(
        "{{addresses: [{{ip: 10.1.0.1, hostname: one}}], notReadyAddresses: [{{ip: 10.1.0.2, nodeName: n1}}], {PORTS}}}"
    )))
    .clone();
    made.make_map_at(["metadata"]).unwrap().remove("name");
    let expected = value(
        "apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  generateName: db-
  namespace: home
  labels:
    team: a
    kubernetes.io/service-name: db
    endpointslice.kubernetes.io/managed-by: endpointslicemirroring-controller.k8s.io
  annotations: {note: kept}
  ownerReferences: [{apiVersion: v1, kind: Endpoints, name: db, uid: e, controller: true, blockOwnerDeletion: true}]
addressType: IPv4
endpoints:
- {addresses: [10.1.0.1], hostname: one, conditions: {ready: true}}
- {addresses: [10.1.0.2], nodeName: n1, conditions: {ready: false}}
ports: [{name: '', port: 5432, protocol: TCP}]
",
    );
    assert_eq!(made, expected);
}

#[test]
fn each_family_and_set_of_ports_has_a_slice() {
    let two = format!(
        "{{addresses: [{{ip: 10.1.0.1}}, {{ip: 'fd00::1'}}], {PORTS}}}, \
         {{addresses: [{{ip: 10.1.0.9}}], ports: [{{name: x, port: 1, protocol: TCP}}]}}"
    );
    let made = plan(&endpoints(&two), &[]).plan.create;
    let mut said: Vec<_> = made
        .iter()
        .map(|s| (s["addressType"].as_str().unwrap(), s["ports"].items()[0]["port"].as_i64().unwrap()))
        .collect();
    said.sort_unstable();
    assert_eq!(said, [("IPv4", 1), ("IPv4", 5432), ("IPv6", 5432)]);
}

#[test]
fn nothing_is_written_unless_something_differs_and_slices_are_used_again() {
    let one = format!("{{addresses: [{{ip: 10.1.0.1}}], {PORTS}}}");
    let there = only(&one);
    let acts = |endpoints: &Value| {
        let plan = plan(endpoints, std::slice::from_ref(&there)).plan;
        (plan.create.len(), plan.update.len(), plan.delete.len())
    };
    assert_eq!(acts(&endpoints(&one)), (0, 0, 0));
    assert_eq!(acts(&endpoints(&one.replace("10.1.0.1", "10.1.0.2"))), (0, 1, 0));
    assert_eq!(acts(&endpoints(&one.replace("5432", "5433"))), (0, 1, 0), "another port, in the same slice");
    assert_eq!(acts(&endpoints(&one.replace("10.1.0.1", "fd00::1"))), (1, 0, 1), "another family");
    assert_eq!(acts(&endpoints("")), (0, 0, 1));
    let mut relabelled = endpoints(&one);
    relabelled.make_map_at(["metadata", "labels"]).unwrap().insert("team", "b");
    assert_eq!(acts(&relabelled), (0, 1, 0));
    let mut again = endpoints(&one);
    again.make_map_at(["metadata"]).unwrap().insert("uid", "f");
    assert_eq!(acts(&again), (0, 1, 0), "the owner is another object of the name");
}

#[test]
fn addresses_that_are_none_and_those_over_a_thousand_are_left_out_and_told_of() {
    let addresses: Vec<_> = (0..1003).map(|n| format!("{{ip: 10.1.{}.{}}}", n / 250, n % 250)).collect();
    let many = format!("{{addresses: [{}, {{ip: nowhere}}], {PORTS}}}", addresses.join(", "));
    let mirror = plan(&endpoints(&many), &[]);
    assert_eq!(mirror.plan.create[0]["endpoints"].items().len(), 1000);
    let told = format!("{:?}", mirror.notes);
    assert!(told.contains("A max of 1000 addresses can be mirrored to EndpointSlices per Endpoints subset."), "{told}");
    let few = format!("{{addresses: [{{ip: nowhere}}, {{ip: 10.1.0.1}}], {PORTS}}}");
    let mirror = plan(&endpoints(&few), &[]);
    assert_eq!(mirror.plan.create[0]["endpoints"].items().len(), 1);
    let told = format!("{:?}", mirror.notes);
    assert!(told.contains("Skipped 1 invalid IP addresses when mirroring to EndpointSlices"), "{told}");
}
