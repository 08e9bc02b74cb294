//! DR003, DR005: what kustomizations list, and what lies beside them unlisted.

use std::collections::{BTreeMap, BTreeSet};

use druse_kustomize::tree::join;
use druse_object::{Value, yaml};
use druse_plan::{UnitKind, UnitState};

use crate::context::Context;
use crate::files::{File, is_kustomization, is_put_aside};
use crate::finding::{Finding, Place, Severity};
use crate::position::{Step, locate};

pub(super) fn check(cx: &Context<'_>, out: &mut Vec<Finding>) {
    for file in cx.files.iter().filter(|f| is_kustomization(&f.path) && cx.files.was_read(&f.path)) {
        twice(file, out);
    }
    unread(cx, out);
}

fn dir_of(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(d, _)| d)
}

/// Entries that a kustomization lists twice.
fn twice(file: &File, out: &mut Vec<Finding>) {
    let Some(document) = file.documents().first() else { return };
    for field in ["resources", "components", "configurations", "crds", "patchesStrategicMerge"] {
        let mut seen: BTreeMap<String, usize> = BTreeMap::new();
        for (i, entry) in document.value[field].items().iter().enumerate() {
            let Some(entry) = entry.as_str().filter(|e| !e.contains('\n')) else { continue };
            let path = join(dir_of(&file.path), entry).unwrap_or_else(|| entry.to_string());
            if let Some(first) = seen.insert(path, i) {
                let line = |i: usize| locate(file.text(), document.line, &[Step::from(field), Step::Index(i)]).line;
                let message = format!("{entry} is listed twice in {field}, first in line {}", line(first));
                out.push(Finding::new("DR005", Place::new(&file.path, line(i)), message));
            }
        }
    }
}

/// Manifests that lie where units read, and that no unit reads.
fn unread(cx: &Context<'_>, out: &mut Vec<Finding>) {
    let read = cx.files.read();
    let dirs: BTreeSet<&str> = read.iter().map(|p| dir_of(p)).collect();
    let units: Vec<(String, bool)> = cx
        .plan
        .units
        .iter()
        .filter(|u| u.id.kind == UnitKind::Kustomization && u.source.as_ref().is_none_or(|s| s.is_tree))
        .map(|u| {
            let folder =
                druse_flux::generator::clean_path(u.definition.value.str_at(["spec", "path"]).unwrap_or_default());
            (folder, matches!(u.state, UnitState::Suspended) || u.objects.is_empty() && !u.errors.is_empty())
        })
        .collect();
    let within =
        |path: &str, folder: &str| folder.is_empty() || path.strip_prefix(folder).is_some_and(|r| r.starts_with('/'));
    // Nor what a folder holds whose kustomization cannot be read, of whatever unit.
    let broken: BTreeSet<&str> = cx
        .plan
        .units
        .iter()
        .flat_map(|u| &u.errors)
        .filter_map(|e| e.file.as_deref())
        .filter(|f| is_kustomization(f))
        .map(dir_of)
        .collect();
    let mut reported: Vec<String> = Vec::new();
    for file in cx.files.iter().filter(|f| !cx.files.was_read(&f.path)) {
        let dir = dir_of(&file.path);
        // In a folder that units read, or one below such a folder.
        let beside = dirs.contains(dir) && !dir.is_empty();
        let below = !dir_of(dir).is_empty() && dirs.contains(dir_of(dir));
        if !beside && !below || reported.iter().any(|r| within(&file.path, r)) {
            continue;
        }
        // What a unit that does not render would have read is not known.
        if units.iter().any(|(folder, unknown)| *unknown && within(&file.path, folder)) || broken.contains(dir) {
            continue;
        }
        if is_put_aside(&file.path) {
            continue;
        }
        if file.path.split('/').any(|p| {
            p.starts_with('.') || matches!(p, "bootstrap" | "templates" | "charts" | "tests" | "docs" | "resources")
        }) {
            continue;
        }
        let name = file.path.rsplit('/').next().unwrap_or_default();
        if [".tmpl.", ".template.", ".tpl.", ".example.", ".sample.", ".j2.", ".disabled."]
            .iter()
            .any(|m| name.contains(m))
        {
            continue;
        }
        if !is_manifest(file) {
            continue;
        }
        let (what, listed) = if beside { (file.path.clone(), dir) } else { (dir.to_string(), dir_of(dir)) };
        let deliberate = is_commented_out(cx, listed, &what);
        if !beside {
            reported.push(dir.to_string());
        }
        let shown =
            if beside { "no unit reads this file".to_string() } else { format!("no unit reads anything in {dir}") };
        let mut finding = Finding::new("DR003", Place::new(&file.path, 1), shown);
        if deliberate {
            finding = finding.severity(Severity::Info);
            finding.message.push_str("; its entry in the kustomization is commented out");
        }
        out.push(finding);
    }
}

/// Whether a file holds Kubernetes objects (or is a kustomization).
fn is_manifest(file: &File) -> bool {
    if is_kustomization(&file.path) {
        return true;
    }
    let text = file.text();
    if !text.contains("apiVersion:") || !text.contains("kind:") {
        return false;
    }
    yaml::documents(text, yaml::Dialect::Sigs).iter().flatten().any(|d| {
        let text = |k: &str| d.value.get(k).and_then(Value::as_str).unwrap_or_default();
        let api = text("apiVersion");
        !text("kind").is_empty()
            && (api == "v1" || api.contains('/'))
            && !api.starts_with("talos.dev")
            && !matches!(text("kind"), "Component")
            && !d.value.get("metadata").is_none_or(Value::is_null)
    })
}

fn is_commented_out(cx: &Context<'_>, dir: &str, what: &str) -> bool {
    let name = what.rsplit('/').next().unwrap_or(what);
    druse_kustomize::FILE_NAMES.iter().filter_map(|n| cx.files.get(&format!("{dir}/{n}"))).any(|f| {
        f.text().lines().any(|l| {
            let l = l.trim_start();
            l.starts_with('#') && l.contains(name)
        })
    })
}
