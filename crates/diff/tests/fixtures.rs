//! Real homelabs compared: with themselves, and one with the other. Needs the recorded fixtures (`DRUSE_SHARED`).

#![allow(clippy::print_stderr, clippy::expect_used)]

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use druse_diff::model::Revision;
use druse_diff::{Side, compare, fields, output};
use druse_kustomize::{DiskTree, Schemas};
use druse_object::{Object, ObjectKey};
use druse_plan::{Plan, PlanOptions, TreeInput, plan};
use druse_source::{Fetcher, FetcherOptions};

fn shared() -> Option<PathBuf> {
    let shared = std::env::var_os("DRUSE_SHARED").map(PathBuf::from);
    if shared.is_none() {
        eprintln!("skipped: needs DRUSE_SHARED");
    }
    shared
}

fn make(shared: &Path, name: &str) -> (Plan, DiskTree) {
    let tree = DiskTree::new(shared.join("fixtures").join(name)).expect("a fixture");
    let options = FetcherOptions { mirrors: vec![shared.to_path_buf()], offline: true, ..FetcherOptions::default() };
    let fetcher = Arc::new(Fetcher::new(options).expect("a fetcher"));
    (plan(&TreeInput::new(tree.clone()), &fetcher, &PlanOptions::default()), tree)
}

fn side<'a>(made: &'a (Plan, DiskTree), name: &str) -> Side<'a> {
    Side::new(&made.0, &made.1, Revision { name: name.into(), commit: None })
}

#[test]
fn a_homelab_does_not_differ_from_itself() {
    let Some(shared) = shared() else { return };
    for name in ["homelab-2024-04", "homelab-2026-08"] {
        let (one, two) = (make(&shared, name), make(&shared, name));
        let diff = compare(&side(&one, "one"), &side(&two, "two"));
        assert!(diff.is_empty() && diff.dangers.is_empty(), "{name}: {:?}", diff.units);
    }
}

#[test]
fn what_differs_makes_each_object_from_the_one_before() {
    let Some(shared) = shared() else { return };
    let (old, new) = (make(&shared, "homelab-2024-04"), make(&shared, "homelab-2026-08"));
    let all = |plan: &Plan| -> HashMap<ObjectKey, Object> {
        plan.units.iter().flat_map(|u| u.objects.iter()).map(|o| (o.key(), o.clone())).collect()
    };
    let (before, after) = (all(&old.0), all(&new.0));
    let schemas = Schemas::builtin();
    let mut compared = 0;
    for (key, head) in &after {
        let Some(base) = before.get(key) else { continue };
        match fields::compare(&base.value, &head.value, schemas.of(&head.value)) {
            Some(delta) => {
                compared += 1;
                assert_eq!(delta.apply(Some(&base.value)).as_ref(), Some(&head.value), "{key}");
            }
            None => assert_eq!(base.value, head.value, "{key}"),
        }
    }
    assert!(compared > 200, "{compared}");
    let diff = compare(&side(&old, "old"), &side(&new, "new"));
    assert!(output::markdown(&diff).chars().count() < 65_536);
    assert!(output::html(&diff).len() < 16 * 1024 * 1024);
}
