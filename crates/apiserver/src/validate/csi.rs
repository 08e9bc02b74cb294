//! Kinds of `storage.k8s.io`: classes of storage, drivers, what is attached to where
//! (`k8s.io/kubernetes/pkg/apis/storage/validation`).

use std::collections::{BTreeMap, BTreeSet, HashSet};

use druse_object::{Map, Quantity, Value};

use super::at::{At, Errors};
use super::dump;
use super::meta::label_selector;
use super::names::is_qualified_name;
use super::storage::volume_spec;
use super::volumes::{driver_name, token_lifetime};
use crate::field::FieldError;

fn provisioner(at: &At, out: &mut Errors) {
    if at.text().is_empty() {
        return;
    }
    let lower = at.text().to_lowercase();
    at.each_of(&lower, is_qualified_name(&lower), out);
}

fn parameters(at: &At, may_be_empty: bool, out: &mut Errors) {
    const MOST: usize = 512;
    const LARGEST: usize = 256 * 1024;
    if at.len() > MOST {
        return at.too_long(MOST, out);
    }
    let entries = || at.value().as_map().into_iter().flat_map(Map::iter);
    if entries().any(|(k, _)| k.is_empty()) {
        at.bad("", "field can not be empty.", out);
    }
    if entries().map(|(k, v)| k.len() + v.as_str().map_or(0, str::len)).sum::<usize>() > LARGEST {
        at.too_long(LARGEST, out);
    }
    if !may_be_empty && at.len() == 0 {
        at.required("must contain at least one key/value pair", out);
    }
}

/// Storage classes.
pub(crate) fn storage_class(new: &Value, old: Option<&Value>, out: &mut Errors) {
    let root = At::new(new, "");
    provisioner(&root.child("provisioner"), out);
    parameters(&root.child("parameters"), true, out);
    if !root.text_of("reclaimPolicy").is_empty() {
        root.child("reclaimPolicy").any_of(&["Delete", "Retain"], out);
    }
    root.child("volumeBindingMode").one_of(&["Immediate", "WaitForFirstConsumer"], out);
    topologies(&root.child("allowedTopologies"), out);
    root.child("provisioner").need(out);
    for key in ["parameters", "provisioner", "reclaimPolicy", "volumeBindingMode"] {
        if let Some(old) = old {
            root.child(key).unchanged(&old[key], out);
        }
    }
}

fn topologies(list: &At, out: &mut Errors) {
    let mut seen: Vec<BTreeMap<&str, BTreeSet<&str>>> = Vec::new();
    for term in list.items() {
        let expressions = term.child("matchLabelExpressions");
        let mut all: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for e in expressions.items() {
            let (key, values) = (e.child("key"), e.child("values"));
            values.need(out);
            let mut set = BTreeSet::new();
            for v in values.items() {
                if !set.insert(v.text()) {
                    v.duplicate(v.text(), out);
                }
            }
            key.qualified(out);
            if all.insert(key.text(), set).is_some() {
                key.duplicate(key.text(), out);
            }
        }
        for _ in seen.iter().filter(|s| **s == all) {
            expressions.duplicate("", out);
        }
        seen.push(all);
    }
}

/// What the nodes' drivers of a storage can do.
pub(crate) fn csi_driver(new: &Value, old: Option<&Value>, out: &mut Errors) {
    let root = At::new(new, "");
    let spec = root.child("spec");
    for (key, shown) in [
        ("attachRequired", "attachedRequired"),
        ("podInfoOnMount", "podInfoOnMount"),
        ("storageCapacity", "storageCapacity"),
    ] {
        if spec.get(key).is_none() {
            spec.as_if(shown).required("", out);
        }
    }
    spec.child("fsGroupPolicy").any_of(&["File", "None", "ReadWriteOnceWithFSType"], out);
    let mut audiences = HashSet::new();
    for t in spec.child("tokenRequests").items() {
        let audience = t.child("audience");
        if audiences.insert(audience.text()) {
            token_lifetime(&t.child("expirationSeconds"), out);
        } else {
            audience.duplicate(audience.text(), out);
        }
    }
    let modes = spec.child("volumeLifecycleModes");
    for m in modes.value().items().iter().filter_map(Value::as_str) {
        if !["Persistent", "Ephemeral"].contains(&m) {
            out.push(FieldError::not_supported(modes.path(), m, &["Persistent", "Ephemeral"]));
        }
    }
    if spec.get("seLinuxMount").is_none() {
        spec.child("seLinuxMount").required("", out);
    }
    let period = spec.child("nodeAllocatableUpdatePeriodSeconds");
    if period.int().is_some_and(|n| n < 10) {
        period.invalid("must be greater than or equal to 10 seconds", out);
    }
    let token = spec.child("serviceAccountTokenInSecrets");
    if token.is_given() && spec.child("tokenRequests").len() == 0 {
        token.invalid("serviceAccountTokenInSecrets is set but no tokenRequests are specified", out);
    }
    if let Some(was) = old.map(|o| &o["spec"]) {
        spec.child_as("attachRequired", "attachedRequired").unchanged(&was["attachRequired"], out);
        modes.unchanged(&was["volumeLifecycleModes"], out);
    }
}

/// Which drivers a node has.
pub(crate) fn csi_node(new: &Value, old: Option<&Value>, out: &mut Errors) {
    const LONGEST_ID: usize = 256;
    let root = At::new(new, "");
    let spec = root.child("spec");
    let drivers = spec.child("drivers");
    let mut names = HashSet::new();
    for d in drivers.items() {
        let (name, id) = (d.child("name"), d.child("nodeID"));
        driver_name(&name, out);
        id.need(out);
        if id.text().len() > LONGEST_ID {
            id.invalid(format!("must be {LONGEST_ID} characters or less"), out);
        }
        d.child("allocatable").child("count").nonnegative(out);
        if !names.insert(name.text()) {
            name.duplicate(name.text(), out);
        }
        let mut keys = HashSet::new();
        for key in d.child("topologyKeys").value().items().iter().filter_map(Value::as_str) {
            if key.is_empty() {
                d.required("", out);
            }
            if !keys.insert(key) {
                d.duplicate(key, out);
            }
            d.each_of(key, is_qualified_name(key), out);
        }
    }
    let before = old.and_then(|o| o.at(["spec", "drivers"])).map(Value::items).unwrap_or_default();
    let fixed = |d: &Value| {
        let mut m = d.as_map().cloned().unwrap_or_default();
        m.remove("allocatable");
        m
    };
    for was in before {
        for is in drivers.value().items().iter().filter(|d| d.get("name") == was.get("name")) {
            if fixed(is) != fixed(was) {
                let shown = dump::internal("CSINodeDriver", &Value::Map(fixed(is)));
                drivers.bad(shown, "field is immutable", out);
            }
        }
    }
}

/// How much room a storage class has in a part of the cluster.
pub(crate) fn csi_capacity(new: &Value, old: Option<&Value>, out: &mut Errors) {
    let root = At::new(new, "");
    let (nodes, class) = (root.child("nodeTopology"), root.child("storageClassName"));
    if nodes.is_given() {
        label_selector(nodes.value(), "nodeTopology", out);
    }
    class.subdomain(out);
    let capacity = root.child("capacity");
    if capacity.quantity().is_some_and(Quantity::is_negative) {
        capacity.invalid("must be greater than or equal to 0", out);
    }
    for at in [&nodes, &class] {
        if let Some(old) = old {
            at.unchanged(&old[at.path().as_str()], out);
        }
    }
}

/// A volume attached to a node.
pub(crate) fn attachment(new: &Value, old: Option<&Value>, out: &mut Errors) {
    let root = At::new(new, "");
    let spec = root.child("spec");
    let (source, attacher) = (spec.child("source"), spec.child("attacher"));
    attacher.need(out);
    match (source.get("inlineVolumeSpec"), source.get("persistentVolumeName")) {
        (None, None) => {
            source.required("must specify exactly one of inlineVolumeSpec and persistentVolumeName", out);
        }
        (Some(_), Some(_)) => {
            source.forbidden("must specify exactly one of inlineVolumeSpec and persistentVolumeName", out);
        }
        (None, Some(name)) if name.text().is_empty() => {
            name.required("must specify non empty persistentVolumeName", out);
        }
        (Some(inline), None) => volume_spec(&inline, "", true, out),
        (None, Some(_)) => {}
    }
    spec.child("nodeName").subdomain(out);
    attachment_status(new, out);
    if let Some(name) = source.get("persistentVolumeName") {
        name.subdomain(out);
    }
    // These come from the type's own rules, after all others.
    if !attacher.text().is_empty() {
        driver_name(&attacher, out);
    }
    if let Some(was) = old.map(|o| &o["spec"])
        && spec.value() != was
    {
        spec.bad(dump::internal("VolumeAttachmentSpec", spec.value()), "field is immutable", out);
    }
}

/// What an attachment's status may say.
pub(crate) fn attachment_status(new: &Value, out: &mut Errors) {
    const LARGEST: usize = 256 * 1024;
    const LONGEST: usize = 1024;
    let root = At::new(new, "");
    let status = root.child("status");
    let metadata = status.child("attachmentMetadata");
    let size = |m: &At| m.entries().map(|(k, v)| k.len() + v.text().len()).sum::<usize>();
    if size(&metadata) > LARGEST {
        metadata.too_long(LARGEST, out);
    }
    for key in ["attachError", "detachError"] {
        let e = status.child(key);
        if e.text_of("message").len() > LONGEST {
            e.child("message").too_long(LARGEST, out);
        }
        e.child("errorCode").within(0, i64::from(i32::MAX), out);
    }
}

/// Classes of what volumes can be asked for beside size.
pub(crate) fn attributes_class(new: &Value, old: Option<&Value>, out: &mut Errors) {
    let root = At::new(new, "");
    let (driver, list) = (root.child("driverName"), root.child("parameters"));
    if let Some(old) = old {
        for at in [&driver, &list] {
            let key = at.path();
            if *at.value() != old[key.as_str()] {
                at.forbidden(format!("updates to {key} are forbidden."), out);
            }
        }
    }
    driver.need(out);
    provisioner(&driver, out);
    parameters(&list, false, out);
}
