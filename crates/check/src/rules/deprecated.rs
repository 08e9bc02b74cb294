//! DR050, DR051: versions that the API stops serving. Which these are is data (`data/deprecations.yaml`).

use std::collections::BTreeSet;

use druse_object::Gvk;
use druse_plan::kinds::crd_kind;

use crate::context::{Context, Minor};
use crate::finding::{Finding, Severity};
use crate::index::Origin;
use crate::position::Step;
use crate::tables::{self, Deprecation};

fn entry_of(gvk: &Gvk) -> Option<&'static Deprecation> {
    let api = gvk.api_version();
    let kind = |d: &Deprecation| d.kinds.is_empty() || d.kinds.iter().any(|k| *k == gvk.kind);
    tables::get().deprecations.iter().find(|d| d.api == api && kind(d))
}

/// Whether a version is one of those that are, or will be, no longer served.
pub(super) fn is_known(gvk: &Gvk) -> bool {
    entry_of(gvk).is_some()
}

/// What is known of a version that is not served for ever; none when it is, or not deprecated yet.
fn of(cx: &Context<'_>, gvk: &Gvk) -> Option<&'static Deprecation> {
    entry_of(gvk).filter(|d| !d.system.is_empty() || Minor::parse(&d.deprecated).is_some_and(|v| cx.kube >= v))
}

pub(super) fn check(cx: &Context<'_>, out: &mut Vec<Finding>) {
    let mut seen: BTreeSet<(String, &str)> = BTreeSet::new();
    let roots = cx.plan.units.iter().filter(|u| u.is_root && u.made_by.is_empty());
    let entries = cx.own().map(|e| (e.unit, e.object, e.gvk.clone(), Some(e)));
    for (unit, object, gvk, entry) in entries.chain(roots.map(|u| (u, &*u.definition, u.definition.gvk(), None))) {
        let Some(d) = of(cx, &gvk) else { continue };
        let chart = entry.is_some_and(|e| e.origin == Origin::Chart);
        // A chart's templates are said once a kind.
        if chart && !seen.insert((unit.id.to_string(), d.api.as_str())) {
            continue;
        }
        let path = ["apiVersion"].map(Step::from);
        let finding = |code: &str, message: String| match entry {
            Some(e) => cx.at(e, &path, &[], code, message),
            None => {
                let mut f = cx.unit(unit, &path, code, message);
                f.object = Some(object.key().to_string());
                f
            }
        };
        let kubernetes = d.system.is_empty();
        let gone = if kubernetes {
            Minor::parse(&d.removed).is_some_and(|v| cx.kube >= v)
        } else {
            // What the tree installs says which versions there are.
            cx.index
                .of_kind("apiextensions.k8s.io", "CustomResourceDefinition")
                .filter_map(|e| crd_kind(e.object))
                .filter(|k| k.group == gvk.group && k.kind == gvk.kind)
                .any(|k| !k.versions.iter().any(|v| *v == gvk.version))
        };
        let system = if kubernetes { "Kubernetes" } else { d.system.as_str() };
        let removed = if d.removed.is_empty() { String::new() } else { format!(" and not served since {}", d.removed) };
        let help = format!("use {}", d.instead);
        out.push(if gone {
            finding("DR050", format!("{} of {} is not served since {system} {}", gvk.kind, d.api, d.removed)).help(help)
        } else {
            let until = if kubernetes && !d.removed.is_empty() { format!(", until {}", d.removed) } else { removed };
            let f = finding(
                "DR051",
                format!("{} of {} is deprecated since {system} {}{until}", gvk.kind, d.api, d.deprecated),
            )
            .help(help);
            if chart { f.severity(Severity::Info) } else { f }
        });
    }
}
