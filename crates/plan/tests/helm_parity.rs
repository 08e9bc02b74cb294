//! Real Helm agrees with what the plan renders: every HelmRelease of both fixtures, object by object, under the same
//! name, namespace, values and API versions. Needs the shared fixtures, and Helm 4 as `DRUSE_HELM` or on the `PATH`.

#![allow(clippy::print_stderr)]

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use druse_flux::api::HelmRelease;
use druse_flux::config::NoConfig;
use druse_flux::release::{CrdsPolicy, compose_values};
use druse_object::{Object, Value, json, yaml};
use druse_plan::{Plan, PlanOptions, Unit, UnitKind, UnitState, locate, plan};
use druse_source::{ChartRequest, Fetcher, FetcherOptions};
use rayon::prelude::*;

fn shared() -> Option<PathBuf> {
    let dir = std::env::var_os("DRUSE_SHARED")
        .map(PathBuf::from)
        .unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared"));
    dir.join("fixtures").is_dir().then_some(dir)
}

fn helm() -> Option<PathBuf> {
    let path = std::env::var_os("DRUSE_HELM").map_or_else(|| PathBuf::from("helm"), PathBuf::from);
    let answer = Command::new(&path).args(["version", "--short"]).output().ok()?;
    String::from_utf8_lossy(&answer.stdout).starts_with("v4").then_some(path)
}

/// Values that are made at random, or follow from such: not compared.
fn is_random(path: &str) -> bool {
    let last = path.rsplit('/').next().unwrap_or_default();
    matches!(
        last,
        "tls.crt"
            | "tls.key"
            | "ca.crt"
            | "ca.key"
            | "caBundle"
            | "admin-password"
            | "config.yaml"
            | "secretkey"
            | "ca.pem"
            | "cert.pem"
            | "key.pem"
    ) || path.contains("/annotations/checksum")
        || path.contains("rollme")
}

fn differences(path: &str, ours: &Value, theirs: &Value, out: &mut Vec<String>) {
    match (ours, theirs) {
        (Value::Map(a), Value::Map(b)) => {
            for (k, v) in a.iter() {
                match b.get(k) {
                    Some(w) => differences(&format!("{path}/{k}"), v, w, out),
                    None => out.push(format!("{path}/{k}: only ours: {}", json::to_string(v))),
                }
            }
            for (k, w) in b.iter().filter(|(k, _)| !a.contains_key(k)) {
                out.push(format!("{path}/{k}: only Helm's: {}", json::to_string(w)));
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (i, (v, w)) in a.iter().zip(b).enumerate() {
                differences(&format!("{path}/{i}"), v, w, out);
            }
        }
        (a, b) if a == b || is_random(path) => {}
        // Helm ends every document with a line break when it prints; post-renderers, which every Flux release has, read
        // the last document of a file as it is.
        (Value::String(a), Value::String(b)) if a.as_str() == b.trim_end_matches('\n') => {}
        (a, b) => out.push(format!("{path}: ours {} Helm's {}", json::to_string(a), json::to_string(b))),
    }
}

type Key = (String, String, String);

fn key(o: &Object) -> Key {
    (o.gvk().group.to_string() + "/" + o.kind(), o.namespace().to_string(), o.name().to_string())
}

fn compare(helm: &PathBuf, fetcher: &Fetcher, plan: &Plan, unit: &Unit) -> Vec<String> {
    let hr = HelmRelease::read(&unit.definition).expect("a release");
    let chart = unit.chart.as_ref().expect("a chart");
    let source = unit.source.as_ref().expect("a source");
    let request = ChartRequest {
        repository: source.url.clone(),
        name: chart.name.clone(),
        version: chart.wanted.clone(),
        ..ChartRequest::default()
    };
    let bytes = fetcher.chart(&request).expect("the chart, once more").bytes;
    let dir = tempfile::tempdir().expect("a folder");
    let archive = dir.path().join("chart.tgz");
    std::fs::write(&archive, &*bytes.read().expect("read")).expect("written");
    let values = dir.path().join("values.json");
    let composed = compose_values(&hr, &NoConfig).expect("values");
    let mut file = std::fs::File::create(&values).expect("a file");
    file.write_all(json::to_string(&composed.values.to_value()).as_bytes()).expect("written");
    let all = plan.kinds.api_versions(&[]);
    let api_versions: Vec<&str> = all.iter().collect();
    let mut command = Command::new(helm);
    command
        .env("HELM_CACHE_HOME", dir.path())
        .env("HELM_CONFIG_HOME", dir.path())
        .env("HELM_DATA_HOME", dir.path())
        .args(["template", &hr.release_name()])
        .arg(&archive)
        .args(["--namespace", hr.release_namespace(), "--kube-version", "v1.36.3", "--skip-schema-validation"])
        .arg("--values")
        .arg(&values)
        .args(["--api-versions", &api_versions.join(",")]);
    if CrdsPolicy::on_install(&hr.spec) != Some(CrdsPolicy::Skip) {
        command.arg("--include-crds");
    }
    let answer = command.output().expect("Helm runs");
    if !answer.status.success() {
        return vec![format!("Helm fails: {}", String::from_utf8_lossy(&answer.stderr))];
    }
    let text = String::from_utf8_lossy(&answer.stdout);
    let mut theirs: BTreeMap<Key, Object> = BTreeMap::new();
    for doc in yaml::documents(&text, yaml::Dialect::Sigs) {
        let value = doc.expect("Helm writes YAML").value;
        let items: Vec<Value> = match value.get("items") {
            Some(items) if value.str_at(["kind"]).is_some_and(|k| k.ends_with("List")) => items.items().to_vec(),
            _ => vec![value],
        };
        for value in items.into_iter().filter(|v| v.as_map().is_some_and(|m| !m.is_empty())) {
            let mut o = Object::new(value);
            let gvk = o.gvk();
            match plan.kinds.is_namespaced(&gvk.group, &gvk.kind) {
                Some(false) => {
                    o.metadata_mut().map(|m| m.remove("namespace"));
                }
                Some(true) if o.namespace().is_empty() => {
                    o.metadata_mut().map(|m| m.insert("namespace", hr.release_namespace()));
                }
                _ => {}
            }
            theirs.insert(key(&o), o);
        }
    }
    let mut out = Vec::new();
    for o in unit.objects.iter().chain(unit.hooks.iter().map(|h| &h.object)) {
        let Some(mut other) = theirs.remove(&key(o)) else {
            out.push(format!("{:?}: only ours", key(o)));
            continue;
        };
        other.set_label("helm.toolkit.fluxcd.io/name", hr.name.clone());
        other.set_label("helm.toolkit.fluxcd.io/namespace", hr.namespace.clone());
        let mut found = Vec::new();
        differences("", &o.value, &other.value, &mut found);
        out.extend(found.into_iter().map(|d| format!("{}/{}: {d}", o.kind(), o.name())));
    }
    out.extend(theirs.keys().map(|k| format!("{k:?}: only Helm's")));
    out
}

#[test]
fn helm_renders_the_same_objects() {
    let (Some(shared), Some(helm)) = (shared(), helm()) else {
        eprintln!("skipped: needs the shared fixtures and Helm 4 (DRUSE_HELM)");
        return;
    };
    let options = FetcherOptions { mirrors: vec![shared.clone()], offline: true, ..FetcherOptions::default() };
    let fetcher = Arc::new(Fetcher::new(options).expect("a mirror"));
    let mut wrong = Vec::new();
    let mut compared = 0;
    for fixture in ["homelab-2024-04", "homelab-2026-08"] {
        let input = locate(&shared.join("fixtures").join(fixture)).expect("a tree");
        let plan = plan(&input, &fetcher, &PlanOptions::default());
        let units: Vec<&Unit> =
            plan.units.iter().filter(|u| u.id.kind == UnitKind::HelmRelease && u.state == UnitState::Ok).collect();
        compared += units.len();
        wrong.extend(
            units
                .par_iter()
                .flat_map_iter(|u| {
                    compare(&helm, &fetcher, &plan, u).into_iter().map(move |d| format!("{fixture} {}: {d}", u.id))
                })
                .collect::<Vec<_>>(),
        );
    }
    assert!(wrong.is_empty(), "{} differences in {compared} releases:\n{}", wrong.len(), wrong.join("\n"));
    assert!(compared > 60, "only {compared} releases were compared");
}
