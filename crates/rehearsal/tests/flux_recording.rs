//! What Flux's own kustomize-controller made of a tree with every usual fault, step by step: ours must make the same.
//!
//! No pods run here, as none ran there. What differs on purpose is listed in [`differs_on_purpose`].
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::collections::{BTreeMap, BTreeSet};

use druse_object::{Map, Value};
use druse_runtime::{Patch, Resource};
use regex::Regex;
use support::{Cluster, condition, config_maps, deployments, events, folder, kustomizations, shared};

const NS: &str = "flux-system";

fn revision(n: u8) -> String {
    format!("main@sha1:{}", n.to_string().repeat(40))
}

#[tokio::test(flavor = "multi_thread")]
async fn kustomizations_fare_as_under_flux() {
    let Some(shared) = shared() else {
        eprintln!("skipped: the recording is not at hand");
        return;
    };
    let dir = shared.join("flux");
    let observed: Value = serde_json::from_slice(&std::fs::read(dir.join("observed.json")).unwrap()).unwrap();
    let tree = folder(&dir.join("tree"));
    let cluster = Cluster::start(tree.clone(), &revision(1), false).await;
    let text = std::fs::read_to_string(dir.join("kustomizations.yaml")).unwrap();
    let ks = kustomizations();
    let mut faults = Vec::new();
    // Those that depend on `ok` before it, those that need its namespace after it: as it happened in the recording.
    let named = |names: &[&str]| -> String {
        text.split("---")
            .filter(|d| names.iter().any(|n| d.contains(&format!("{{name: {n}, "))))
            .collect::<Vec<_>>()
            .join("---")
    };
    cluster.apply(&named(&["dep-a", "dep-b"])).await;
    for unit in ["dep-a", "dep-b"] {
        cluster.until(&ks, NS, unit, |v| condition(v, "Ready").1 == "DependencyNotReady").await;
    }
    cluster.apply(&named(&["ok"])).await;
    cluster.until(&ks, NS, "ok", |v| condition(v, "Ready").0 == "True").await;
    cluster.apply(&text).await;

    // 1: all have come to their end; the health check takes the shortest timeout there is, half a minute.
    let ready = |v: Option<&Value>| condition(v, "Ready").0 == "True";
    for unit in ["ok", "dep-b", "nokust", "wait-ok"] {
        cluster.until(&ks, NS, unit, ready).await;
    }
    cluster.until(&ks, NS, "health", |v| condition(v, "Ready").0 == "False").await;
    compare(&cluster, &observed, "1-settled", &mut faults).await;

    // 2: drift.
    let edit: Value = serde_json::from_str(r#"{"data":{"k":"edited"}}"#).unwrap();
    cluster.api.patch(&config_maps(), "demo", "one", "", Patch::Merge, &edit).await.unwrap();
    cluster.api.delete(&deployments(), "demo", "web", &Default::default()).await.unwrap();
    ask(&cluster, "ok", "now1").await;
    compare(&cluster, &observed, "2-drift-corrected", &mut faults).await;

    // 3: units are deleted.
    for unit in ["nokust", "suspended"] {
        cluster.api.delete(&ks, NS, unit, &Default::default()).await.unwrap();
        cluster.until(&ks, NS, unit, |v| v.is_none()).await;
    }
    compare(&cluster, &observed, "3-deleted", &mut faults).await;

    // 4 and 5: new revisions, of which the recording told `ok` alone; `health` would take its half minute for each.
    cluster.merge(&ks, NS, "health", r#"{"spec":{"suspend":true}}"#).await;
    let mut pruned = tree.clone();
    let second = "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nnamespace: demo\nresources: [ns.yaml, dep.yaml]\nconfigMapGenerator:\n- name: gen\n  literals: [a=c]\n";
    pruned.insert("ok/kustomization.yaml", second.as_bytes().to_vec());
    cluster.revise(pruned.clone(), &revision(2));
    cluster
        .until(&ks, NS, "ok", |v| v.and_then(|v| v.str_at(["status", "lastAppliedRevision"])) == Some(&revision(2)))
        .await;
    ask(&cluster, "ok", "now2").await;
    compare(&cluster, &observed, "4-pruned", &mut faults).await;

    pruned.insert("ok/kustomization.yaml", b"resources: [\n".to_vec());
    cluster.revise(pruned, &revision(3));
    cluster.until(&ks, NS, "ok", |v| condition(v, "Ready").0 == "False").await;
    ask(&cluster, "ok", "now3").await;
    compare(&cluster, &observed, "5-broken-nothing-pruned", &mut faults).await;

    assert!(faults.is_empty(), "{} differences:\n{}", faults.len(), faults.join("\n"));
}

async fn ask(cluster: &Cluster, unit: &str, when: &str) {
    let patch = format!(r#"{{"metadata":{{"annotations":{{"reconcile.fluxcd.io/requestedAt":"{when}"}}}}}}"#);
    cluster.merge(&kustomizations(), NS, unit, &patch).await;
    cluster
        .until(&kustomizations(), NS, unit, |v| {
            v.and_then(|v| v.str_at(["status", "lastHandledReconcileAt"])) == Some(when)
        })
        .await;
}

/// Compares one step; every difference is a line in `faults`.
async fn compare(cluster: &Cluster, observed: &Value, step: &str, faults: &mut Vec<String>) {
    let want = &observed[step];
    let late = step.starts_with(['4', '5']);
    let mask = Mask::new(late);
    let mut units = BTreeMap::new();
    for v in cluster.list(&kustomizations(), NS).await {
        let mut m = Map::new();
        let mut metadata = Map::new();
        metadata.insert("annotations", v["metadata"]["annotations"].as_map().cloned().unwrap_or_default());
        metadata.insert("finalizers", v["metadata"]["finalizers"].clone());
        metadata.insert("generation", v["metadata"]["generation"].clone());
        m.insert("metadata", metadata);
        m.insert("status", v["status"].clone());
        let name = v.str_at(["metadata", "name"]).unwrap();
        if late && name != "ok" {
            continue;
        }
        let mask = if name == "crd-missing" { &Mask::new(true) } else { &mask };
        units.insert(name.to_owned(), mask.value(&Value::Map(m)));
    }
    let mut wanted_units = want["kustomizations"].clone();
    if late {
        let ok = wanted_units["ok"].clone();
        wanted_units = Value::Map([("ok", ok)].into_iter().collect());
    }
    // On purpose: what waits for a kind looks again whenever something came that may bring it.
    if let Some(waiting) = wanted_units.get_mut("crd-missing") {
        *waiting = Mask::new(true).value(waiting);
    }
    differences(step, "unit", &wanted_units, &units, &mask, faults);

    let mut objects = BTreeMap::new();
    for r in [config_maps(), deployments(), Resource::new("", "v1", "Namespace", "namespaces", false)] {
        for mut v in cluster.list(&r, "").await {
            let key = format!(
                "{}/{}/{}",
                r.gvk.kind,
                v.str_at(["metadata", "namespace"]).unwrap_or_default(),
                v.str_at(["metadata", "name"]).unwrap()
            );
            if v["metadata"]["labels"]["kustomize.toolkit.fluxcd.io/name"].is_null() {
                continue;
            }
            if let Some(m) = v.make_map_at(["metadata"]) {
                m.remove("uid");
                m.remove("resourceVersion");
            }
            objects.insert(key, mask.value(&v));
        }
    }
    differences(step, "object", &want["objects"], &objects, &mask, faults);

    let line = |e: &Value| {
        let mut sorted = e.clone();
        sorted.sort_keys();
        serde_json::to_string(&sorted).unwrap()
    };
    let got: BTreeSet<String> = cluster
        .list(&events(), NS)
        .await
        .iter()
        .filter(|e| e["involvedObject"]["kind"].as_str() == Some("Kustomization"))
        .map(|e| {
            let mut m = Map::new();
            m.insert("annotations", e["metadata"]["annotations"].clone());
            m.insert("message", e["message"].clone());
            m.insert("object", format!("Kustomization/{}", e.str_at(["involvedObject", "name"]).unwrap()));
            m.insert("reason", e["reason"].clone());
            m.insert("type", e["type"].clone());
            line(&mask.value(&Value::Map(m)))
        })
        .collect();
    let wanted: BTreeSet<String> = want["events"].items().iter().map(|e| line(&mask.value(e))).collect();
    faults.extend(
        wanted.difference(&got).filter(|l| !differs_on_purpose(l)).map(|l| format!("{step} event missing {l}")),
    );
    faults.extend(
        got.difference(&wanted).filter(|l| !differs_on_purpose(l)).map(|l| format!("{step} event added   {l}")),
    );
}

/// Later revisions reach every unit here, while the recording told only the one it was about.
fn differs_on_purpose(line: &str) -> bool {
    (line.contains(&revision(2)) || line.contains(&revision(3))) && !line.contains("Kustomization/ok")
}

fn differences(
    step: &str,
    what: &str,
    want: &Value,
    got: &BTreeMap<String, Value>,
    mask: &Mask,
    faults: &mut Vec<String>,
) {
    let want: BTreeMap<String, Value> =
        want.as_map().into_iter().flat_map(|m| m.iter()).map(|(k, v)| (k.to_string(), mask.value(v))).collect();
    let names: BTreeSet<&String> = want.keys().chain(got.keys()).collect();
    for name in names {
        let (w, g) = (want.get(name).cloned().unwrap_or_default(), got.get(name).cloned().unwrap_or_default());
        diff(&format!("{step} {what} {name}"), &w, &g, faults);
    }
}

fn diff(path: &str, want: &Value, got: &Value, faults: &mut Vec<String>) {
    match (want, got) {
        (Value::Map(w), Value::Map(g)) => {
            let keys: BTreeSet<&str> = w.keys().chain(g.keys()).map(|k| k.as_ref()).collect();
            for k in keys {
                diff(
                    &format!("{path}.{k}"),
                    w.get(k).unwrap_or(&Value::Null),
                    g.get(k).unwrap_or(&Value::Null),
                    faults,
                );
            }
        }
        (Value::Array(w), Value::Array(g)) if w.len() == g.len() => {
            for (i, (w, g)) in w.iter().zip(g).enumerate() {
                diff(&format!("{path}[{i}]"), w, g, faults);
            }
        }
        _ if want == got => {}
        _ => faults.push(format!(
            "{path}\n    want {}\n    got  {}",
            serde_json::to_string(want).unwrap(),
            serde_json::to_string(got).unwrap()
        )),
    }
}

/// Masks what differs from run to run, as the recording does; and folders, which are only there in Flux.
struct Mask {
    left_out: &'static [&'static str],
    duration: Regex,
    time: Regex,
}

impl Mask {
    fn new(late: bool) -> Self {
        Self {
            // Told of a revision by its source and by a person at once, a unit may look once or twice.
            left_out: if late {
                &["lastReconciledDuration", "totalReconciliations"]
            } else {
                &["lastReconciledDuration"]
            },
            duration: Regex::new(r"([0-9]+(\.[0-9]+)?(ms|µs|s)|<duration>)").unwrap(),
            time: Regex::new(r"^[0-9]{4}-[0-9-]{5}T[0-9:.]+Z$").unwrap(),
        }
    }

    fn value(&self, v: &Value) -> Value {
        match v {
            Value::Map(m) => Value::Map(
                m.iter()
                    .filter(|(k, _)| !self.left_out.contains(&k.as_str()))
                    .map(|(k, v)| (k.clone(), self.value(v)))
                    .collect(),
            ),
            Value::Array(a) => Value::Array(a.iter().map(|v| self.value(v)).collect()),
            Value::String(_) => {
                let s = v.as_str().unwrap_or_default();
                if self.time.is_match(s) {
                    return "<time>".into();
                }
                let s = self.duration.replace_all(s, "<duration>");
                s.replace("10m<duration>", "<duration>")
                    .replace("1h0m<duration>", "1h<duration>")
                    .replace("<dir>/", "")
                    .as_str()
                    .into()
            }
            other => other.clone(),
        }
    }
}
