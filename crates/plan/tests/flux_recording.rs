//! What Flux' own kustomize-controller made of a small tree with every usual fault, recorded from a cluster: the plan
//! makes the same objects, the same inventory, and says the same about what cannot be built. Needs the shared recording.

#![allow(clippy::print_stderr)]

use std::path::PathBuf;
use std::sync::Arc;

use druse_flux::inventory;
use druse_kustomize::tree::{DiskTree, FileTree, Kind, MemoryTree};
use druse_object::{Map, Value, json};
use druse_plan::{Plan, PlanOptions, TreeInput, UnitId, UnitKind, plan};
use druse_source::{Fetcher, FetcherOptions};

const SOURCE: &str = "apiVersion: source.toolkit.fluxcd.io/v1\nkind: GitRepository\nmetadata: {name: tree, namespace: flux-system}\nspec: {url: https://example.org/x/tree}\n";

fn recording() -> Option<PathBuf> {
    let shared = std::env::var_os("DRUSE_SHARED")
        .map(PathBuf::from)
        .unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared"));
    let dir = shared.join("flux");
    if dir.join("observed.json").is_file() {
        return Some(dir);
    }
    eprintln!("skipped: no shared recording (set DRUSE_SHARED)");
    None
}

fn copy(from: &DiskTree, dir: &str, to: &mut MemoryTree) {
    for name in from.list(dir).expect("a folder") {
        let path = if dir.is_empty() { name } else { format!("{dir}/{name}") };
        match from.kind(&path) {
            Some(Kind::Dir) => copy(from, &path, to),
            _ => to.insert(&path, from.read(&path).expect("a file")),
        }
    }
}

fn make(dir: &std::path::Path) -> Plan {
    let mut tree = MemoryTree::new();
    copy(&DiskTree::new(dir.join("tree")).expect("a tree"), "", &mut tree);
    let units = std::fs::read_to_string(dir.join("kustomizations.yaml")).expect("the units");
    tree.insert("cluster.yaml", format!("{SOURCE}{units}").into_bytes());
    let fetcher = Fetcher::new(FetcherOptions { offline: true, ..FetcherOptions::default() }).expect("a fetcher");
    plan(&TreeInput::new(tree), &Arc::new(fetcher), &PlanOptions::default())
}

/// Whether all of `ours` is in what the cluster holds (which has defaults and times besides).
fn is_in(ours: &Value, theirs: &Value) -> bool {
    match (ours, theirs) {
        (Value::Map(a), Value::Map(b)) => a.iter().all(|(k, v)| b.get(k).is_some_and(|w| is_in(v, w))),
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(v, w)| is_in(v, w)),
        // The API drops empty maps where defaults need none.
        (a, b) => a == b,
    }
}

#[test]
fn the_plan_agrees_with_the_controller() {
    let Some(dir) = recording() else { return };
    let plan = make(&dir);
    let observed = json::parse(&std::fs::read(dir.join("observed.json")).expect("the recording")).expect("JSON");
    let settled = &observed["1-settled"];
    let mut compared = 0;
    for (name, theirs) in settled["kustomizations"].as_map().expect("a map").iter() {
        let id = UnitId { kind: UnitKind::Kustomization, namespace: "flux-system".into(), name: name.clone() };
        let unit = plan.unit(&id).expect("a unit");
        let entries = theirs.at(["status", "inventory", "entries"]).map(Value::items).unwrap_or_default();
        // Units that applied something list it in the order in which they sorted it; the set is what counts.
        if !entries.is_empty() {
            let mut wanted: Vec<&str> = entries.iter().filter_map(|e| e.str_at(["id"])).collect();
            let mut ours: Vec<String> = unit.objects.iter().map(|o| inventory::id(&o.key())).collect();
            wanted.sort_unstable();
            ours.sort();
            assert_eq!(ours, wanted, "{name}");
            compared += 1;
        }
        let conditions = theirs.at(["status", "conditions"]).map(Value::items).unwrap_or_default();
        let ready = conditions.iter().find(|c| c.str_at(["type"]) == Some("Ready"));
        let (reason, message) = ready.map_or(("", ""), |c| {
            (c.str_at(["reason"]).unwrap_or_default(), c.str_at(["message"]).unwrap_or_default())
        });
        let ours: String = unit.errors.iter().map(|e| e.message.clone()).collect::<Vec<_>>().join("\n");
        match (reason, name.as_str()) {
            ("BuildFailed", _) | ("ArtifactFailed", "missing-path") => {
                assert_eq!(ours, message.replace("<dir>/", if name == "missing-path" { "/" } else { "" }), "{name}");
            }
            ("ReconciliationSucceeded", _) => assert_eq!(ours, "", "{name}"),
            ("DependencyNotReady" | "ArtifactFailed", _) => assert_ne!(ours, "", "{name}"),
            // What the API refuses, a plan without an API cannot know.
            _ => {}
        }
    }
    assert!(compared >= 5, "only {compared} inventories were compared");
    let objects: &Map = settled["objects"].as_map().expect("a map");
    for name in ["ok", "dep-b", "nokust", "wait-ok"] {
        let id = UnitId { kind: UnitKind::Kustomization, namespace: "flux-system".into(), name: name.into() };
        for o in &plan.unit(&id).expect("a unit").objects {
            // Namespaced objects were recorded, and only those.
            let Some(theirs) = objects.get(&o.key().to_string()) else {
                assert_eq!(o.namespace(), "", "{} was not recorded", o.key());
                continue;
            };
            assert!(is_in(&o.value, theirs), "{name}: {}\n{}", json::to_string(&o.value), json::to_string(theirs));
        }
    }
}
