//! Services and the pods behind them → EndpointSlices and Endpoints.

mod endpoints;
mod mirror;
mod slices;

use std::sync::Arc;

use druse_object::Value;

use crate::testing::{list, value};

/// A Service of the name `web` with one port that leads to the pods' port of the name `http`, unless `spec` has others.
fn service(spec: &str) -> Value {
    value(&format!(
        "apiVersion: v1
kind: Service
metadata: {{name: web, namespace: home, uid: s, creationTimestamp: '2026-01-01T00:00:00Z', labels: {{team: a}}}}
spec:
  {{clusterIP: 10.96.0.1, ipFamilies: [IPv4], selector: {{app: web}}, \
   ports: [{{name: http, port: 80, targetPort: http, protocol: TCP}}], {spec}}}"
    ))
}

/// Pods as `name state`, where a state is `ready`, `pending` (not ready), `going`, `dying` (going and not ready any more),
/// `done` or `new` (without an address); `name state PORT` listens on another port than 8080.
fn pods(text: &str) -> Vec<Arc<Value>> {
    let pods = text.split(", ").filter(|t| !t.is_empty()).enumerate().map(|(i, t)| {
        let parts: Vec<&str> = t.split(' ').collect();
        let state = parts[1];
        let going = if matches!(state, "going" | "dying") { "deletionTimestamp: x, " } else { "" };
        let ready = if matches!(state, "ready" | "going") { "True" } else { "False" };
        let phase = if state == "done" { "Succeeded" } else { "Running" };
        let ips = format!("podIPs: [{{ip: 10.0.{}.{}}}, {{ip: 'fd00::{i:x}'}}], ", i / 250, i % 250 + 1);
        format!(
            "{{metadata: {{name: {0}, namespace: home, uid: u-{0}, {going}labels: {{app: web}}}}, \
             spec: {{nodeName: n1, containers: [{{ports: [{{name: http, containerPort: {1}, protocol: TCP}}]}}]}}, \
             status: {{phase: {phase}, {2}conditions: [{{type: Ready, status: '{ready}'}}]}}}}",
            parts[0],
            parts.get(2).unwrap_or(&"8080"),
            if state == "new" { "" } else { &ips },
        )
    });
    list(&format!("[{}]", pods.collect::<Vec<_>>().join(", ")))
}

/// As many ready pods, from a number on.
fn many(from: usize, to: usize) -> Vec<Arc<Value>> {
    pods(&(0..to).map(|n| format!("p{n:04} ready")).collect::<Vec<_>>().join(", ")).split_off(from)
}
