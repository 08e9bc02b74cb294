//! Nodes, namespaces and runtime classes (`ValidateNode`, `ValidateNamespace`, `pkg/apis/node/validation`).

use std::collections::HashSet;

use druse_object::{Map, Quantity, Value};

use super::at::{At, Errors, each, text};
use super::ip::Cidr;
use super::limits::container_resource;
use super::meta::immutable;
use super::names::{is_dns1123_label, is_qualified_name, label_value_errors};
use super::scheduling::tolerations;
use crate::field::FieldError;

/// Nodes.
pub(super) fn node(new: &Value, old: Option<&Value>, out: &mut Errors) {
    let spec = &new["spec"];
    taints(spec["taints"].items(), out);
    let path = "spec.podCIDRs";
    let ranges = spec["podCIDRs"].items();
    let mut families = Vec::new();
    for (i, c) in ranges.iter().filter_map(Value::as_str).enumerate() {
        families.extend(Cidr::legacy(c, &format!("{path}[{i}]"), out).map(|c| c.address.is_ipv4()));
    }
    if ranges.len() > 2 || matches!(families.as_slice(), [a, b] if a == b) {
        let why = "may specify no more than one CIDR for each IP family";
        out.push(FieldError::invalid(path, spec["podCIDRs"].clone(), why));
    }
    let Some(old) = old.map(|o| &o["spec"]) else { return };
    if !old["podCIDRs"].items().is_empty() && old["podCIDRs"] != spec["podCIDRs"] {
        let why = "node updates may not change podCIDR except from \"\" to valid";
        out.push(FieldError::forbidden(path, why));
    }
    if !text(old, "providerID").is_empty() && old["providerID"] != spec["providerID"] {
        let why = "node updates may not change providerID except from \"\" to valid";
        out.push(FieldError::forbidden("spec.providerID", why));
    }
    // Upstream looks at the taints of changed nodes twice.
    taints(spec["taints"].items(), out);
    if old["externalID"] != spec["externalID"] {
        out.push(FieldError::forbidden("spec.externalID", "may not be updated"));
    }
}

fn taints(taints: &[Value], out: &mut Errors) {
    let mut seen = HashSet::new();
    for (i, t) in taints.iter().enumerate() {
        // Upstream names metadata here.
        let path = format!("metadata.taints[{i}]");
        let (key, value, effect) = (text(t, "key"), text(t, "value"), text(t, "effect"));
        let at = format!("{path}.key");
        each(is_qualified_name(key), &at, key, out);
        let wrong = label_value_errors(value);
        if !wrong.is_empty() {
            out.push(FieldError::invalid(format!("{path}.value"), value, wrong.join(";")));
        }
        let effects = ["NoSchedule", "PreferNoSchedule", "NoExecute"];
        if effect.is_empty() {
            out.push(FieldError::required(format!("{path}.effect"), ""));
        } else if !effects.contains(&effect) {
            out.push(FieldError::not_supported(format!("{path}.effect"), effect, &effects));
        }
        if !seen.insert((key, effect)) {
            // Shown as the Go struct.
            let mut shown = Map::new();
            for (name, v) in [("Key", key), ("Value", value), ("Effect", effect)] {
                shown.insert(name, v);
            }
            shown.insert("TimeAdded", t["timeAdded"].clone());
            let mut e = FieldError::duplicate(path, shown);
            e.detail = "taints must be unique by key and effect pair".into();
            out.push(e);
        }
    }
}

/// Namespaces: what has to happen before they end.
pub(super) fn namespace(new: &Value, out: &mut Errors) {
    new["spec"]["finalizers"].items().iter().for_each(|f| finalizer(f, "spec.finalizers", out));
}

/// What still has to happen before a namespace ends.
pub(super) fn finalized(new: &Value, out: &mut Errors) {
    for (i, f) in new["spec"]["finalizers"].items().iter().enumerate() {
        finalizer(f, &format!("spec.finalizers[{i}]"), out);
    }
}

fn finalizer(f: &Value, path: &str, out: &mut Errors) {
    let f = f.as_str().unwrap_or_default();
    each(is_qualified_name(f), path, f, out);
    if !f.contains('/') && f != "kubernetes" {
        let why = "name is neither a standard finalizer name nor is it fully qualified";
        out.push(FieldError::invalid(path, f, why));
    }
}

/// Only a namespace that is deleted ends.
pub(super) fn namespace_status(new: &Value, out: &mut Errors) {
    let phase = text(&new["status"], "phase");
    let (wanted, state) = match new.str_at(["metadata", "deletionTimestamp"]) {
        None => ("Active", "empty"),
        Some(_) => ("Terminating", "not empty"),
    };
    if phase != wanted {
        let why = format!("may only be '{wanted}' if `deletionTimestamp` is {state}");
        out.push(FieldError::invalid("status.Phase", phase, why));
    }
}

/// Runtime classes.
pub(super) fn runtime_class(new: &Value, old: Option<&Value>, out: &mut Errors) {
    let handler = text(new, "handler");
    if let Some(old) = old {
        immutable(&new["handler"], &old["handler"], "handler", out);
    } else if handler.is_empty() {
        out.push(FieldError::required("handler", ""));
    } else {
        each(is_dns1123_label(handler), "handler", handler, out);
    }
    for (name, v) in new["overhead"]["podFixed"].as_map().into_iter().flat_map(Map::iter) {
        // Upstream judges the overhead as limits.
        let path = format!("overhead.limits[{name}]");
        container_resource(name, &path, out);
        if Quantity::of(v).is_some_and(Quantity::is_negative) {
            out.push(FieldError::invalid(path, v.clone(), "must be greater than or equal to 0"));
        }
    }
    let scheduling = &new["scheduling"];
    super::meta::labels(scheduling.get("nodeSelector"), "scheduling.nodeSelector", out);
    tolerations(&At::new(&scheduling["tolerations"], "scheduling.tolerations"), out);
    let all = scheduling["tolerations"].items();
    for (i, t) in all.iter().enumerate().filter(|(i, t)| all.iter().take(*i).any(|o| o == *t)) {
        // Shown as the Go struct.
        let mut shown = Map::new();
        for (name, key) in [("Key", "key"), ("Operator", "operator"), ("Value", "value"), ("Effect", "effect")] {
            shown.insert(name, text(t, key));
        }
        shown.insert("TolerationSeconds", t["tolerationSeconds"].clone());
        out.push(FieldError::duplicate(format!("scheduling.tolerations[{i}]"), shown));
    }
}
