//! DR043: namespaces that objects are in and nothing creates.

use std::collections::BTreeSet;

use druse_kustomize::tree::parent;
use druse_plan::UnitKind;

use crate::context::Context;
use crate::finding::{Finding, Severity};
use crate::index::{Existence, Origin};
use crate::position::Step;

pub(super) fn check(cx: &Context<'_>, out: &mut Vec<Finding>) {
    // Flux itself, and what it is started with, is put there by hand.
    let given: BTreeSet<&str> =
        cx.plan.units.iter().filter(|u| u.is_root).map(|u| u.id.namespace.as_str()).chain(["flux-system"]).collect();
    let missing = |namespace: &str| {
        !namespace.is_empty()
            && !given.contains(namespace)
            && !namespace.contains("${")
            && cx.index.exists("", "Namespace", "", namespace) == Existence::Missing
    };
    let dirs: BTreeSet<&str> = cx.files.read().iter().map(|p| parent(p)).collect();
    let mut seen = BTreeSet::new();
    // Units that are told to use a namespace make one finding together.
    let mut told: BTreeSet<&str> = BTreeSet::new();
    for entry in cx.own().filter(|e| e.origin == Origin::Tree) {
        let namespace = entry.object.namespace();
        if !missing(namespace) || !seen.insert((&entry.unit.id, namespace)) {
            continue;
        }
        let path = ["metadata", "namespace"].map(Step::from);
        let message = format!("nothing creates namespace {namespace}");
        let finding = if entry.unit.definition.value.str_at(["spec", "targetNamespace"]) == Some(namespace) {
            if !told.insert(namespace) {
                continue;
            }
            cx.unit(entry.unit, &["spec", "targetNamespace"].map(Step::from), "DR043", message)
        } else {
            cx.at(entry, &path, &[], "DR043", message)
        };
        // A bootstrap in the repository, which is no unit, may do it.
        let lines = [format!("namespace: {namespace}"), format!("name: {namespace}")];
        let elsewhere = cx
            .files
            .iter()
            .filter(|f| !cx.files.was_read(&f.path))
            // Manifests are in a namespace, and make none unless they say so; what lies beside those that are read is
            // forgotten.
            .filter(|f| {
                !f.text().contains("apiVersion:")
                    || f.text().contains("kind: Namespace") && !dirs.contains(parent(&f.path))
            })
            .any(|f| f.text().lines().any(|l| lines.iter().any(|n| l.trim_start().trim_start_matches("- ") == n)));
        out.push(if elsewhere { finding.severity(Severity::Warning) } else { finding });
    }
    for unit in &cx.plan.units {
        let spec = &unit.definition.value["spec"];
        let Some(namespace) = spec.str_at(["targetNamespace"]) else { continue };
        if missing(namespace) && !seen.iter().any(|(id, ns)| **id == unit.id && *ns == namespace) {
            let path = ["spec", "targetNamespace"].map(Step::from);
            let mut finding = cx.unit(unit, &path, "DR043", format!("nothing creates namespace {namespace}"));
            if unit.id.kind == UnitKind::HelmRelease {
                finding = finding.help("add the Namespace to a unit, or set spec.install.createNamespace");
            }
            out.push(finding);
        }
    }
}
