//! Claims and persistent volumes (`k8s.io/kubernetes/pkg/apis/core/validation`).

use druse_object::{Map, Quantity, Value};

use super::at::{At, Errors};
use super::dump;
use super::limits::native;
use super::meta::label_selector;
use super::names::is_qualified_name;
use super::scheduling::node_selector;
use super::volumes::{PERSISTENT_SOURCES, Place, persistent_source, sources};
use crate::field::FieldError;

const ACCESS_MODES: [&str; 4] = ["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];
const VOLUME_MODES: [&str; 2] = ["Block", "Filesystem"];

fn access_modes(list: &At, out: &mut Errors) {
    let modes: Vec<&str> = list.value().items().iter().filter_map(Value::as_str).collect();
    for mode in modes.iter().filter(|m| !ACCESS_MODES.contains(m)) {
        out.push(FieldError::not_supported(list.path(), *mode, &ACCESS_MODES));
    }
    let other = |m: &&&str| ACCESS_MODES.contains(m) && **m != "ReadWriteOncePod";
    if modes.contains(&"ReadWriteOncePod") && modes.iter().any(|m| other(&m)) {
        list.forbidden("may not use ReadWriteOncePod with other access modes", out);
    }
}

/// What a claim asks for, in a claim or a template of one.
pub(crate) fn claim_spec(spec: &At, out: &mut Errors) {
    let modes = spec.child("accessModes");
    if modes.len() == 0 {
        modes.required("at least 1 access mode is required", out);
    }
    if let Some(s) = spec.get("selector") {
        label_selector(s.value(), &s.path(), out);
    }
    access_modes(&modes, out);
    let resources = spec.child("resources");
    let asked = &spec.value()["resources"]["requests"]["storage"];
    let storage = resources.entry("storage");
    match Quantity::of(asked).filter(|_| !asked.is_null()) {
        None => storage.required("", out),
        Some(q) if q.is_negative() || q.is_zero() => storage.bad(asked.clone(), "must be greater than zero", out),
        Some(_) => {}
    }
    class_name(&spec.child("storageClassName"), out);
    spec.child("volumeMode").any_of(&VOLUME_MODES, out);
    let (source, reference) = (spec.get("dataSource"), spec.get("dataSourceRef"));
    if let Some(s) = &source {
        data_source(s, out);
    }
    if let Some(r) = &reference {
        data_source(r, out);
        if !r.text_of("namespace").is_empty() {
            r.child("namespace").label(out);
        }
    }
    if let (Some(s), Some(r)) = (&source, &reference) {
        // Upstream shows the way to the field as the value.
        if !r.text_of("namespace").is_empty() {
            spec.bad(Map::new(), "may not be specified when dataSourceRef.namespace is specified", out);
        } else if ["apiGroup", "kind", "name"].iter().any(|k| s.value()[*k] != r.value()[*k]) {
            spec.bad(Map::new(), "must match dataSourceRef", out);
        }
    }
    class_name(&spec.child("volumeAttributesClassName"), out);
}

fn class_name(at: &At, out: &mut Errors) {
    if !at.text().is_empty() {
        at.subdomain(out);
    }
}

fn data_source(s: &At, out: &mut Errors) {
    s.child("name").need(out);
    s.child("kind").need(out);
    let (group, kind) = (s.child("apiGroup"), s.text_of("kind"));
    if !group.text().is_empty() {
        group.subdomain(out);
    } else if kind != "PersistentVolumeClaim" {
        s.bad(kind, "must be 'PersistentVolumeClaim' when referencing the default apiGroup", out);
    }
}

/// Persistent volume claims.
pub(crate) fn claim(new: &Value, old: Option<&Value>, out: &mut Errors) {
    let root = At::new(new, "");
    let spec = root.child("spec");
    claim_spec(&spec, out);
    let Some(old) = old else { return };
    let (was, is) = (&old["spec"], spec.value());
    const CLASS: &str = "volume.beta.kubernetes.io/storage-class";
    let annotation = |v: &Value| v.str_at(["metadata", "annotations", CLASS]).unwrap_or_default().to_owned();
    let (had, has) = (annotation(old), annotation(new));
    // An annotation may become the field that came in its place.
    let moved = !had.is_empty() && has.is_empty() && is.str_at(["storageClassName"]) == Some(&had);
    if had != has && !moved {
        let path = format!("metadata.annotations.{CLASS}");
        out.push(FieldError::invalid(path, has, "field is immutable"));
    }
    // The volume is chosen once; what a bound claim asks for may grow.
    let (mut before, mut after) = (was.clone(), is.clone());
    let keep = |v: &mut Value, from: &Value, key: &str| {
        let Some(m) = v.as_map_mut() else { return };
        match from.get(key) {
            Some(x) => _ = m.insert(key, x.clone()),
            None => _ = m.remove(key),
        }
    };
    if was["volumeName"].as_str().unwrap_or_default().is_empty() {
        keep(&mut before, is, "volumeName");
    }
    if was["storageClassName"].is_null() {
        keep(&mut after, was, "storageClassName");
    }
    let bound = new.str_at(["status", "phase"]) == Some("Bound");
    let storage = |v: &Value| v.at(["resources", "requests", "storage"]).cloned().unwrap_or_default();
    if bound {
        keep(&mut after, was, "volumeAttributesClassName");
        if let Some(m) = after.make_map_at(["resources", "requests"]) {
            m.insert("storage", storage(was));
        }
    }
    if after != before {
        let why =
            "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims";
        let difference = dump::difference_of("PersistentVolumeClaimSpec", &before, &after);
        spec.forbidden(format!("{why}\n{difference}"), out);
    }
    let has = old.at(["status", "capacity", "storage"]).and_then(Quantity::of).unwrap_or_default();
    if let (Some(wanted), Some(asked)) = (Quantity::of(&storage(is)), Quantity::of(&storage(was)))
        && wanted < asked
        && wanted <= has
    {
        spec.as_if("resources.requests.storage").forbidden("field can not be less than status.capacity", out);
    }
    unchanged("volumeMode", is, was, out);
    let class = spec.child("volumeAttributesClassName");
    if *class.value() != was["volumeAttributesClassName"]
        && old.at(["status", "currentVolumeAttributesClassName"]).is_some()
    {
        let to = match class.value().as_str() {
            None => "nil",
            Some("") => "empty string",
            Some(_) => return,
        };
        let why = format!("update to {to} is forbidden when status.currentVolumeAttributesClassName is not nil");
        class.forbidden(why, out);
    }
}

/// A field that may not change, told without what it is part of.
fn unchanged(key: &str, new: &Value, old: &Value, out: &mut Errors) {
    At::new(&new[key], key).unchanged(&old[key], out);
}

/// What a claim's status may say.
pub(crate) fn claim_status(new: &Value, out: &mut Errors) {
    const RESIZING: [&str; 5] = [
        "ControllerResizeInProgress",
        "ControllerResizeInfeasible",
        "NodeResizeInProgress",
        "NodeResizeInfeasible",
        "NodeResizePending",
    ];
    let root = At::new(new, "");
    let status = root.child("status");
    for (_, q) in status.child("capacity").entries() {
        whole_amount(&q, out);
    }
    let statuses = status.child("allocatedResourceStatuses");
    for (k, v) in statuses.entries() {
        claim_amount(k, &statuses, out);
        if !RESIZING.contains(&v.text()) {
            let mut sorted = RESIZING;
            sorted.sort_unstable();
            out.push(FieldError::not_supported(statuses.path(), k, &sorted));
        }
    }
    let allocated = status.child("allocatedResources");
    for (k, q) in allocated.entries() {
        if claim_amount(k, &allocated, out) {
            whole_amount(&q, out);
        }
    }
}

fn whole_amount(q: &At, out: &mut Errors) {
    if let Some(n) = q.quantity().filter(|n| n.is_negative()) {
        q.bad(n.value(), "must be a valid resource quantity", out);
    }
}

fn claim_amount(name: &str, list: &At, out: &mut Errors) -> bool {
    let wrong = is_qualified_name(name);
    let fits = wrong.is_empty() && (!native(name) || name == "storage");
    if wrong.is_empty() && !fits {
        out.push(FieldError::not_supported(list.path(), name, &["storage"]));
    }
    list.each_of(name, wrong, out);
    fits
}

/// A persistent volume's specification; `inline` is one that only an attachment has.
pub(super) fn volume_spec(spec: &At, name: &str, inline: bool, out: &mut Errors) {
    const INLINE: &str = "may not be specified in the context of inline volumes";
    let capacity = spec.child("capacity");
    if inline {
        for key in ["claimRef", "capacity"] {
            if let Some(v) = spec.get(key) {
                v.forbidden(INLINE, out);
            }
        }
        if spec.get("csi").is_none() {
            spec.child("csi").required("has to be specified in the context of inline volumes", out);
        }
    }
    let modes = spec.child("accessModes");
    modes.need(out);
    access_modes(&modes, out);
    if !inline {
        if capacity.len() == 0 {
            capacity.required("", out);
        }
        if capacity.value().get("storage").is_none() || capacity.len() > 1 {
            let shown = capacity.value().clone();
            out.push(FieldError::not_supported(capacity.path(), shown, &["storage"]));
        }
        for (_, q) in capacity.entries() {
            whole_amount(&q, out);
            if q.quantity().is_some_and(|n| n.is_negative() || n.is_zero()) {
                q.invalid("must be greater than zero", out);
            }
        }
    }
    let policy = spec.child("persistentVolumeReclaimPolicy");
    match policy.text() {
        "" | "Retain" => {}
        _ if inline => policy.forbidden("may only be Retain in the context of inline volumes", out),
        _ => policy.any_of(&["Delete", "Recycle", "Retain"], out),
    }
    let affinity = spec.get("nodeAffinity");
    match &affinity {
        Some(a) if inline => a.forbidden(INLINE, out),
        Some(a) => match a.get("required") {
            Some(r) => node_selector(&r, out),
            None => a.child("required").required("must specify required node constraints", out),
        },
        None => {}
    }
    volume_source(spec, name, affinity.is_some() && !inline, out);
    let host = spec.value().str_at(["hostPath", "path"]).unwrap_or_default();
    let root = host.starts_with('/') && host.split('/').all(|p| matches!(p, "" | "." | ".."));
    if root && policy.text() == "Recycle" {
        policy.forbidden("may not be 'recycle' for a hostPath mount of '/'", out);
    }
    let class = spec.child("storageClassName");
    if inline && !class.text().is_empty() {
        class.forbidden(INLINE, out);
    } else {
        class_name(&class, out);
    }
    let mode = spec.child("volumeMode");
    if inline && !matches!(mode.text(), "" | "Filesystem") {
        mode.forbidden("may not specify volumeMode other than Filesystem in the context of inline volumes", out);
    } else if !inline {
        mode.any_of(&VOLUME_MODES, out);
    }
    if let Some(class) = spec.get("volumeAttributesClassName") {
        if inline {
        } else if class.text().is_empty() {
            class.required("an empty string is disallowed", out);
        } else {
            class.subdomain(out);
        }
    }
}

/// The one source of a persistent volume; a local one says on which nodes.
fn volume_source(spec: &At, name: &str, placed: bool, out: &mut Errors) {
    let first = PERSISTENT_SOURCES.iter().find(|k| spec.get(k).is_some());
    if first == Some(&"local") && !placed {
        // Told right after what is wrong with the source itself.
        let (only, rest) = (["local"], &PERSISTENT_SOURCES);
        sources(spec, &only, &Place::Persistent(name), out);
        spec.child("nodeAffinity").required("Local volume requires node affinity", out);
        for kind in rest.iter().skip_while(|k| **k != "local").skip(1) {
            if let Some(other) = spec.get(kind) {
                other.forbidden("may not specify more than 1 volume type", out);
            }
        }
    } else {
        sources(spec, &PERSISTENT_SOURCES, &Place::Persistent(name), out);
    }
}

/// Persistent volumes.
pub(crate) fn volume(new: &Value, old: Option<&Value>, out: &mut Errors) {
    let root = At::new(new, "");
    let spec = root.child("spec");
    let name = new.str_at(["metadata", "name"]).unwrap_or_default();
    volume_spec(&spec, name, false, out);
    let Some(was) = old.map(|o| &o["spec"]) else { return };
    // Upstream judges a change twice over.
    volume_spec(&spec, name, false, out);
    let before = persistent_source(was);
    let mut after = persistent_source(spec.value());
    // A secret for growing may be told later.
    let grows = |m: &Map| m.get("csi").is_some_and(|c| c.get("controllerExpandSecretRef").is_some());
    if before.contains_key("csi")
        && !grows(&before)
        && let Some(csi) = after.get_mut("csi").and_then(Value::as_map_mut)
    {
        csi.remove("controllerExpandSecretRef");
    }
    if before != after {
        let (before, after) = (Value::Map(before), Value::Map(after));
        let difference = dump::difference_of("PersistentVolumeSource", &before, &after);
        let why = format!("spec.persistentvolumesource is immutable after creation\n{difference}");
        spec.as_if("persistentvolumesource").forbidden(why, out);
    }
    unchanged("volumeMode", spec.value(), was, out);
    let affinity = &was["nodeAffinity"];
    if !affinity.is_null() && !same_but_renamed(&spec.value()["nodeAffinity"], affinity) {
        let shown = dump::internal("VolumeNodeAffinity", &spec.value()["nodeAffinity"]);
        let why = "field is immutable, except for updating from beta label to GA";
        out.push(FieldError::invalid("nodeAffinity", shown, why));
    }
    let class = spec.child("volumeAttributesClassName");
    if !class.is_given() && was.get("volumeAttributesClassName").is_some() {
        class.forbidden("update from non-nil value to nil is forbidden", out);
    }
}

/// Labels that once were beta, and their names since.
const RENAMED: [(&str, &str); 5] = [
    ("failure-domain.beta.kubernetes.io/zone", "topology.kubernetes.io/zone"),
    ("failure-domain.beta.kubernetes.io/region", "topology.kubernetes.io/region"),
    ("beta.kubernetes.io/os", "kubernetes.io/os"),
    ("beta.kubernetes.io/arch", "kubernetes.io/arch"),
    ("beta.kubernetes.io/instance-type", "node.kubernetes.io/instance-type"),
];

fn same_but_renamed(new: &Value, old: &Value) -> bool {
    match (new, old) {
        (Value::Map(n), Value::Map(o)) => {
            n.len() == o.len() && n.iter().all(|(k, v)| o.get(k).is_some_and(|w| renamed(k, v, w)))
        }
        (Value::Array(n), Value::Array(o)) => {
            n.len() == o.len() && n.iter().zip(o).all(|(n, o)| same_but_renamed(n, o))
        }
        (n, o) => n == o,
    }
}

fn renamed(key: &str, new: &Value, old: &Value) -> bool {
    let (n, o) = (new.as_str().unwrap_or_default(), old.as_str().unwrap_or_default());
    same_but_renamed(new, old) || key == "key" && RENAMED.contains(&(o, n))
}
