//! API services (`k8s.io/kube-aggregator/pkg/apis/apiregistration/validation`).

use druse_object::Value;

use super::at::{At, Errors};
use super::names::{NameRule, is_dns1123_subdomain};

/// An API service's own fields, and its name, which they decide.
pub(super) fn service(new: &Value, out: &mut Errors) {
    let spec = At::new(&new["spec"], "spec");
    let (group, version) = (spec.text_of("group"), spec.text_of("version"));
    let metadata = At::new(&new["metadata"], "metadata");
    let (wanted, name) = (format!("{version}.{group}"), metadata.child("name"));
    for named in [metadata.child("generateName"), name] {
        let given = named.text();
        if !given.is_empty() && given != wanted && NameRule::PathSegment.errors(given, false).is_empty() {
            named.invalid(format!("must be `spec.version+\".\"+spec.group`: {}", crate::field::go_quote(&wanted)), out);
        }
    }
    if group.is_empty() && version != "v1" {
        spec.child("group").required("only v1 may have an empty group and it better be legacy kube", out);
    }
    if !group.is_empty() {
        spec.child("group").each(is_dns1123_subdomain(group), out);
    }
    for why in NameRule::Label1035.errors(version, false) {
        spec.child("version").bad(version, why, out);
    }
    for (key, most) in [("groupPriorityMinimum", 20_000), ("versionPriority", 1_000)] {
        let n = spec.int_of(key);
        if !(1..=most).contains(&n) {
            spec.child(key).bad(n, format!("must be positive and less than {most}"), out);
        }
    }
    let skips = spec.is("insecureSkipTLSVerify");
    let bundle = spec.text_of("caBundle");
    let Some(service) = spec.get("service") else {
        if !bundle.is_empty() {
            let bytes = bundle.trim_end_matches('=').len() * 3 / 4;
            spec.child("caBundle").bad(format!("{bytes} bytes"), "local APIServices may not have a caBundle", out);
        }
        if skips {
            let why = "local APIServices may not have insecureSkipTLSVerify";
            spec.child("insecureSkipTLSVerify").bad(true, why, out);
        }
        return;
    };
    for key in ["namespace", "name"] {
        if service.text_of(key).is_empty() {
            service.child(key).required("", out);
        }
    }
    let port = service.child("port").int().unwrap_or(443);
    if !(1..=65_535).contains(&port) {
        service.child("port").bad(port, "port is not valid: must be between 1 and 65535, inclusive", out);
    }
    if skips && !bundle.is_empty() {
        spec.child("insecureSkipTLSVerify").bad(true, "may not be true if caBundle is present", out);
    }
}
