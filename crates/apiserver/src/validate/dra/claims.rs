//! Claims of devices, their templates and statuses, and classes of devices.

use std::collections::BTreeMap;

use druse_object::{Map, Value};

use super::super::dump;
use super::super::limits;
use super::super::meta::template_metadata;
use super::super::scheduling::node_selector;
use super::super::workload::conditions;
use super::*;
use crate::validate::ip::interface_address;

const MOST_REQUESTS: usize = 32;
const MOST_CONSTRAINTS: usize = 32;
const MOST_ALTERNATIVES: usize = 8;
const MOST_USERS: usize = 256;
const MOST_CONDITIONS: usize = 8;
const MOST_ADDRESSES: usize = 16;

/// The names of a claim's requests, with those of their alternatives.
struct Names<'v>(BTreeMap<&'v str, Vec<&'v str>>);

impl<'v> Names<'v> {
    fn of(devices: &'v Value) -> Self {
        let named = |v: &'v Value| v.str_at(["name"]).unwrap_or_default();
        let requests = devices["requests"].items().iter();
        Self(requests.map(|r| (named(r), r["firstAvailable"].items().iter().map(named).collect())).collect())
    }

    fn has(&self, name: &str) -> bool {
        match name.split_once('/') {
            None => self.0.contains_key(name),
            Some((_, rest)) if rest.contains('/') => false,
            Some((request, sub)) => self.0.get(request).is_some_and(|subs| subs.contains(&sub)),
        }
    }
}

/// Claims.
pub(in crate::validate) fn claim(new: &Value, old: Option<&Value>, out: &mut Errors) {
    let root = At::new(new, "");
    let spec = root.child("spec");
    match old {
        None => devices(&spec.child("devices"), out),
        Some(old) => unchanged(&spec, &old["spec"], "ResourceClaimSpec", out),
    }
}

/// A value that may not differ from what it was, shown as its internal type.
fn unchanged(at: &At, old: &Value, name: &'static str, out: &mut Errors) {
    let (new, old) = (dump::internal(name, at.value()), dump::internal(name, old));
    if new != old {
        at.bad(new, "field is immutable", out);
    }
}

/// Templates of claims.
pub(in crate::validate) fn template(new: &Value, old: Option<&Value>, out: &mut Errors) {
    let root = At::new(new, "");
    let spec = root.child("spec");
    template_metadata(&spec.child("metadata"), out);
    devices(&spec.child("spec").child("devices"), out);
    if let Some(old) = old {
        let flat = |spec: &Value| {
            let mut m = spec.at(["metadata"]).and_then(Value::as_map).cloned().unwrap_or_default();
            m.insert("spec", spec["spec"].clone());
            Value::Map(m)
        };
        let (new, old) = (internal_template(&flat(spec.value())), internal_template(&flat(&old["spec"])));
        if new != old {
            spec.bad(new, "field is immutable", out);
        }
    }
}

/// A template's specification as Go shows it: the metadata is a part of it.
fn internal_template(flat: &Value) -> Value {
    let mut m = flat.as_map().cloned().unwrap_or_default();
    let spec = m.remove("spec").unwrap_or_default();
    m.insert("Spec", dump::internal("ResourceClaimSpec", &spec));
    Value::Map(m)
}

fn devices(at: &At, out: &mut Errors) {
    let names = Names::of(at.value());
    set(&at.child("requests"), MOST_REQUESTS, out, by("name"), request);
    list(&at.child("constraints"), MOST_CONSTRAINTS, out, |c, out| constraint(c, &names, out));
    list(&at.child("config"), MOST_CONFIGS, out, |c, out| {
        request_names(&c.child("requests"), &names, out);
        configuration(c, false, out);
    });
}

fn request(at: &At, out: &mut Errors) {
    at.child("name").label(out);
    let (exactly, alternatives) = (at.child("exactly"), at.child("firstAvailable"));
    match (exactly.is_given(), alternatives.len() > 0) {
        (false, false) => at.required("exactly one of `exactly` or `firstAvailable` is required", out),
        (true, true) => {
            let why = "exactly one of `exactly` or `firstAvailable` is required, but multiple fields are set";
            at.bad(Value::Null, why, out);
        }
        (true, false) => wanted(&exactly, out),
        (false, true) => set(&alternatives, MOST_ALTERNATIVES, out, by("name"), |sub, out| {
            sub.child("name").label(out);
            wanted(sub, out);
        }),
    }
}

/// Which devices a request is for, and how many.
fn wanted(at: &At, out: &mut Errors) {
    let class = at.child("deviceClassName");
    if class.need(out) {
        class.subdomain(out);
    }
    selectors(&at.child("selectors"), out);
    let (mode, count) = (at.child("allocationMode"), at.child("count"));
    let n = at.int_of("count");
    match mode.text() {
        "All" if n != 0 => count.bad(n, "must not be specified when allocationMode is 'All'", out),
        "ExactCount" if n <= 0 => count.bad(n, "must be greater than zero", out),
        "All" | "ExactCount" => {}
        _ => mode.unsupported(&["All", "ExactCount"], out),
    }
    at.child("tolerations").items().for_each(|t| toleration(&t, out));
}

fn constraint(at: &At, names: &Names, out: &mut Errors) {
    request_names(&at.child("requests"), names, out);
    if let Some(name) = at.get("matchAttribute").or_else(|| at.get("distinctAttribute")) {
        full_name(&name, out);
    } else {
        let why = "exactly one of \"matchAttribute\" or \"distinctAttribute\" is required, but multiple fields are set";
        at.required(why, out);
    }
}

fn request_names(at: &At, names: &Names, out: &mut Errors) {
    set(at, MOST_REQUESTS, out, by_text, |name, out| request_name(name, names, out));
}

fn request_name(at: &At, names: &Names, out: &mut Errors) {
    const WHY: &str =
        "must be the name of a request in the claim or the name of a request and a subrequest separated by '/'";
    let parts: Vec<&str> = at.text().split('/').collect();
    if parts.len() > 2 {
        return at.bad(at.text(), WHY, out);
    }
    for part in parts {
        at.each_of(part, crate::validate::is_dns1123_label(part), out);
    }
    if !names.has(at.text()) {
        at.bad(at.text(), WHY, out);
    }
}

/// Which device, of what driver and pool, in which share.
fn device_id(v: &Value) -> String {
    let text = |key: &str| v.str_at([key]).unwrap_or_default();
    let device = format!("{}/{}/{}", text("driver"), text("pool"), text("device"));
    match v.str_at(["shareID"]) {
        Some(share) => format!("{device}/{share}"),
        None => device,
    }
}

/// What a claim came to: what it was given, who uses it, and how its devices are.
pub(in crate::validate) fn status(new: &Value, old: &Value, out: &mut Errors) {
    let root = At::new(new, "");
    let status = root.child("status");
    let names = Names::of(&new["spec"]["devices"]);
    let users = status.child("reservedFor");
    set(&users, MOST_USERS, out, by("uid"), |user, out| {
        for key in ["resource", "name", "uid"] {
            user.child(key).need(out);
        }
    });
    let allocation = status.child("allocation");
    let given: Vec<String> = allocation.value()["devices"]["results"].items().iter().map(device_id).collect();
    let key = |d: &At| internal_id(d.value());
    set(&status.child("devices"), usize::MAX, out, key, |d, out| device_status(d, &given, out));
    if users.len() > 0 {
        if !allocation.is_given() {
            users.forbidden("may not be specified when `allocated` is not set", out);
        } else if new.str_at(["metadata", "deletionTimestamp"]).is_some() {
            let before = old["status"]["reservedFor"].items();
            if users.value().items().iter().any(|u| !before.contains(u)) {
                let why = "new entries may not be added while `deallocationRequested` or `deletionTimestamp` are set";
                users.forbidden(why, out);
            }
        }
    }
    let before = &old["status"]["allocation"];
    if allocation.is_given() && !before.is_null() {
        unchanged(&allocation, before, "AllocationResult", out);
    } else if allocation.is_given() {
        allocated(&allocation, &names, out);
    }
}

/// A device's name as Go shows the struct.
fn internal_id(v: &Value) -> Value {
    let text = |key: &str| Value::from(v.str_at([key]).unwrap_or_default());
    let mut m = Map::new();
    for (go, key) in [("Driver", "driver"), ("Pool", "pool"), ("Device", "device"), ("ShareID", "shareID")] {
        m.insert(go, text(key));
    }
    Value::Map(m)
}

fn allocated(at: &At, names: &Names, out: &mut Errors) {
    let devices = at.child("devices");
    list(&devices.child("results"), MOST_REQUESTS, out, |r, out| {
        request_name(&r.child("request"), names, out);
        driver_name(&r.child("driver"), out);
        pool_name(&r.child("pool"), out);
        r.child("device").label(out);
        binding_conditions(r, out);
        if let Some(share) = r.get("shareID") {
            uid(&share, out);
        }
    });
    // As many of the class as of the claim.
    list(&devices.child("config"), 2 * MOST_CONFIGS, out, |c, out| {
        c.child("source").one_of(&["FromClaim", "FromClass"], out);
        request_names(&c.child("requests"), names, out);
        configuration(c, false, out);
    });
    if let Some(nodes) = at.get("nodeSelector") {
        node_selector(&nodes, out);
    }
}

fn device_status(at: &At, given: &[String], out: &mut Errors) {
    const LONGEST_DATA: usize = 10 * 1024;
    driver_name(&at.child("driver"), out);
    pool_name(&at.child("pool"), out);
    at.child("device").label(out);
    if let Some(share) = at.get("shareID") {
        uid(&share, out);
    }
    if !given.contains(&device_id(at.value())) {
        at.bad(internal_id(at.value()), "must be an allocated device in the claim", out);
    }
    let list = at.child("conditions");
    if list.len() > MOST_CONDITIONS {
        list.too_many(MOST_CONDITIONS, out);
    }
    conditions(&list, out);
    if let Some(data) = at.get("data") {
        raw(&data, false, LONGEST_DATA, out);
    }
    let Some(network) = at.get("networkData") else { return };
    for (key, most) in [("interfaceName", 256), ("hardwareAddress", 128)] {
        let text = network.child(key);
        if text.text().len() > most {
            text.too_long(most, out);
        }
    }
    set(&network.child("ips"), MOST_ADDRESSES, out, by_text, interface_address);
}

/// Classes of devices.
pub(in crate::validate) fn class(new: &Value, old: Option<&Value>, out: &mut Errors) {
    let root = At::new(new, "");
    let spec = root.child("spec");
    // What is just as it was may be as it is.
    let stored = |key: &str| old.is_some_and(|o| o["spec"][key] == new["spec"][key]);
    selectors(&spec.child("selectors"), out);
    list(&spec.child("config"), MOST_CONFIGS, out, |c, out| configuration(c, stored("config"), out));
    if let Some(name) = spec.get("extendedResourceName")
        && !limits::extended(name.text())
    {
        name.invalid("must be a valid extended resource name", out);
    }
}
