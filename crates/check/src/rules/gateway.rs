//! DR036: routes that no Gateway takes, and references into other namespaces that nobody there grants.
//!
//! A route is taken by a listener that allows its namespace (by default only that of the Gateway). A backend or
//! certificate in another namespace needs a ReferenceGrant there.

use druse_object::Value;

use crate::context::Context;
use crate::finding::Finding;
use crate::index::{Entry, Existence};
use crate::pods;
use crate::position::Step;
use crate::rules::references::is_meant;

pub(super) const GROUP: &str = "gateway.networking.k8s.io";

pub(super) fn check(cx: &Context<'_>, entry: &Entry<'_>, out: &mut Vec<Finding>) {
    listeners(cx, entry, out);
    for rule in ["rules", "listeners"] {
        for (i, item) in entry.object.value["spec"][rule].items().iter().enumerate() {
            let (list, path): (_, &[&str]) = if rule == "rules" {
                (&item["backendRefs"], &["backendRefs"])
            } else {
                (&item["tls"]["certificateRefs"], &["tls", "certificateRefs"])
            };
            for (j, reference) in list.items().iter().enumerate() {
                let mut at = vec![Step::from("spec"), Step::from(rule), Step::Index(i)];
                at.extend(path.iter().map(|p| Step::from(*p)));
                at.push(Step::Index(j));
                granted(cx, entry, reference, if rule == "rules" { "Service" } else { "Secret" }, at, out);
            }
        }
    }
}

/// The listeners of the Gateways that a route names: one must be there, and allow the route's namespace.
fn listeners(cx: &Context<'_>, entry: &Entry<'_>, out: &mut Vec<Finding>) {
    for (i, parent) in entry.object.value["spec"]["parentRefs"].items().iter().enumerate() {
        let Some(name) = parent.str_at(["name"]) else { continue };
        if parent.str_at(["kind"]).is_some_and(|k| k != "Gateway") {
            continue;
        }
        let own = entry.object.namespace();
        let namespace = parent.str_at(["namespace"]).unwrap_or(own);
        let all: Vec<&Value> = cx
            .index
            .named(GROUP, "Gateway", namespace, name)
            .flat_map(|g| g.object.value["spec"]["listeners"].items())
            .collect();
        // Others may add listeners to it.
        if all.is_empty() {
            continue;
        }
        let at = |field: &str| [Step::from("spec"), Step::from("parentRefs"), Step::Index(i), Step::from(field)];
        let section = parent.str_at(["sectionName"]);
        let meant: Vec<&Value> =
            all.iter().filter(|l| section.is_none_or(|s| l.str_at(["name"]) == Some(s))).copied().collect();
        if let (Some(section), true) = (section, meant.is_empty()) {
            if is_meant(cx, entry, section) {
                let names: Vec<&str> = all.iter().filter_map(|l| l.str_at(["name"])).collect();
                let message =
                    format!("Gateway {namespace}/{name} has no listener {section}; it has {}", names.join(", "));
                out.push(cx.at(entry, &at("sectionName"), &[section], "DR036", message));
            }
            continue;
        }
        if own.is_empty() || !is_meant(cx, entry, name) || meant.iter().any(|l| allows(cx, l, namespace, own)) {
            continue;
        }
        let message = format!("no listener of Gateway {namespace}/{name} takes routes of namespace {own}");
        let finding = cx.at(entry, &at("name"), &[name], "DR036", message);
        out.push(finding.help("set allowedRoutes.namespaces of the listener: by default it takes its own namespace's"));
    }
}

/// Whether a listener takes routes of a namespace, as far as is known.
fn allows(cx: &Context<'_>, listener: &Value, gateway: &str, route: &str) -> bool {
    let namespaces = &listener["allowedRoutes"]["namespaces"];
    match namespaces.str_at(["from"]).unwrap_or("Same") {
        "Same" => gateway == route,
        "None" => false,
        "Selector" => {
            let mut all = cx.index.named("", "Namespace", "", route).peekable();
            all.peek().is_none()
                || all.any(|n| {
                    let mut labels = n.object.value["metadata"]["labels"].as_map().cloned().unwrap_or_default();
                    labels.insert("kubernetes.io/metadata.name", route);
                    pods::selects(&namespaces["selector"], &Value::Map(labels))
                })
        }
        _ => true,
    }
}

/// A reference into another namespace: a ReferenceGrant there must allow it.
fn granted(
    cx: &Context<'_>,
    entry: &Entry<'_>,
    reference: &Value,
    usual: &str,
    mut path: Vec<Step>,
    out: &mut Vec<Finding>,
) {
    let (own, kind) = (entry.object.namespace(), reference.str_at(["kind"]).unwrap_or(usual));
    let Some(other) = reference.str_at(["namespace"]).filter(|n| !n.is_empty() && *n != own && !n.contains("${"))
    else {
        return;
    };
    let (group, name) =
        (reference.str_at(["group"]).unwrap_or_default(), reference.str_at(["name"]).unwrap_or_default());
    let allowed = |grant: &Entry<'_>| {
        let spec = &grant.object.value["spec"];
        grant.object.namespace() == other
            && spec["from"].items().iter().any(|f| {
                f.str_at(["group"]) == Some(GROUP)
                    && f.str_at(["kind"]) == Some(entry.gvk.kind.as_str())
                    && f.str_at(["namespace"]) == Some(own)
            })
            && spec["to"].items().iter().any(|t| {
                t.str_at(["group"]).unwrap_or_default() == group
                    && t.str_at(["kind"]) == Some(kind)
                    && t.str_at(["name"]).is_none_or(|n| n == name)
            })
    };
    if cx.index.of_kind(GROUP, "ReferenceGrant").any(allowed) || cx.index.is_open(other) || !is_meant(cx, entry, other)
    {
        return;
    }
    // What does not exist is a finding of its own.
    if cx.index.exists(group, kind, other, name) == Existence::Missing {
        return;
    }
    path.push(Step::from("namespace"));
    let message = format!("no ReferenceGrant in namespace {other} lets {} use its {kind} {name}", entry.key());
    out.push(cx.at(entry, &path, &[other], "DR036", message));
}
