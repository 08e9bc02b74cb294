//! Certificate signing requests (`k8s.io/kubernetes/pkg/apis/certificates/validation`).

use base64::Engine as _;
use druse_object::Value;

use super::names::{is_dns1123_label, is_dns1123_subdomain};
use crate::field::FieldError;

/// The usages a certificate may be asked for, sorted.
const USAGES: [&str; 23] = [
    "any",
    "cert sign",
    "client auth",
    "code signing",
    "content commitment",
    "crl sign",
    "data encipherment",
    "decipher only",
    "digital signature",
    "email protection",
    "encipher only",
    "ipsec end system",
    "ipsec tunnel",
    "ipsec user",
    "key agreement",
    "key encipherment",
    "microsoft sgc",
    "netscape sgc",
    "ocsp signing",
    "s/mime",
    "server auth",
    "signing",
    "timestamping",
];

/// What an approver or a signer says of a request (`validateCertificateSigningRequestUpdate`).
pub(crate) fn decision(new: &Value, old: &Value, approves: bool, out: &mut Vec<FieldError>) {
    const PATH: &str = "status.conditions";
    let of = |csr: &Value, kind: &str| -> Vec<Value> {
        csr["status"]["conditions"].items().iter().filter(|c| c["type"].as_str() == Some(kind)).cloned().collect()
    };
    let kinds = |csr: &Value| -> Vec<String> {
        let types = csr["status"]["conditions"].items().iter();
        types.map(|c| c["type"].as_str().unwrap_or_default().to_owned()).collect()
    };
    // What was wrong before may stay.
    let before = kinds(old);
    let repeated = |kinds: &[String]| kinds.iter().enumerate().any(|(i, k)| kinds.iter().take(i).any(|l| l == k));
    let both = |kinds: &[String]| ["Approved", "Denied"].iter().all(|k| kinds.iter().any(|l| l == k));
    let mut seen: Vec<&str> = Vec::new();
    for (i, c) in new["status"]["conditions"].items().iter().enumerate() {
        let kind = c["type"].as_str().unwrap_or_default();
        if kind.is_empty() && !before.iter().any(String::is_empty) {
            out.push(FieldError::required(format!("{PATH}[{i}].type"), ""));
        }
        let only_true = ["Approved", "Denied", "Failed"].contains(&kind);
        let allowed: &[&str] = if only_true { &["True"] } else { &["False", "True", "Unknown"] };
        match c["status"].as_str().unwrap_or_default() {
            "" => out.push(FieldError::required(format!("{PATH}[{i}].status"), "")),
            s if !allowed.contains(&s) => {
                out.push(FieldError::not_supported(format!("{PATH}[{i}].status"), s, allowed));
            }
            _ => {}
        }
        let other = match kind {
            "Approved" => Some("Denied"),
            "Denied" => Some("Approved"),
            _ => None,
        };
        if !both(&before) && other.is_some_and(|o| seen.contains(&o)) {
            out.push(FieldError::invalid(PATH, kind, "Approved and Denied conditions are mutually exclusive"));
        }
        if !repeated(&before) && seen.contains(&kind) {
            out.push(FieldError::duplicate(format!("{PATH}[{i}].type"), kind));
        }
        seen.push(kind);
    }
    for kind in ["Approved", "Denied", "Failed"] {
        if of(new, kind).len() < of(old, kind).len() {
            out.push(FieldError::forbidden(PATH, format!("updates may not remove a condition of type \"{kind}\"")));
        }
    }
    certificate(new, old, approves, out);
    if !approves {
        for kind in ["Approved", "Denied"] {
            if of(new, kind).len() > of(old, kind).len() {
                out.push(FieldError::forbidden(PATH, format!("updates may not add a condition of type \"{kind}\"")));
            }
        }
    }
}

/// A certificate is made by the signer, once.
fn certificate(new: &Value, old: &Value, approves: bool, out: &mut Vec<FieldError>) {
    const PATH: &str = "status.certificate";
    let of = |csr: &Value| csr.str_at(["status", "certificate"]).unwrap_or_default().to_owned();
    let (given, was) = (of(new), of(old));
    if given == was {
        return;
    }
    if unreadable_certificate(&was).is_none()
        && let Some(why) = unreadable_certificate(&given)
    {
        out.push(FieldError::invalid(PATH, "<certificate data>", why));
    }
    if approves {
        out.push(FieldError::forbidden(PATH, "updates may not set certificate content"));
    } else if !was.is_empty() {
        out.push(FieldError::forbidden(PATH, "updates may not modify existing certificate content"));
    }
}

/// Why a text in base64 is no certificates.
fn unreadable_certificate(text: &str) -> Option<String> {
    const KIND: &str = "CERTIFICATE";
    if text.is_empty() {
        return None;
    }
    let bytes = base64::engine::general_purpose::STANDARD.decode(text).unwrap_or_default();
    let blocks = pem::parse_many(bytes).unwrap_or_default();
    if blocks.is_empty() {
        return Some("must contain at least one CERTIFICATE PEM block".into());
    }
    blocks.iter().find_map(|block| {
        if block.tag() != KIND {
            let kind = crate::field::go_quote(block.tag());
            return Some(format!("only CERTIFICATE PEM blocks are allowed, found {kind}"));
        }
        if block.headers().iter().next().is_some() {
            return Some("no PEM block headers are permitted".into());
        }
        crate::auth::malformed_certificate(block.contents()).map(str::to_owned)
    })
}

/// A request as it is made; what it asks for cannot change later.
pub(crate) fn request(csr: &Value, old: Option<&Value>, out: &mut Vec<FieldError>) {
    if old.is_some() {
        return;
    }
    let spec = &csr["spec"];
    let given = spec.str_at(["request"]).unwrap_or_default();
    if let Some(why) = unreadable(given) {
        let shown = if given.is_empty() { Value::Null } else { given.into() };
        out.push(FieldError::invalid("spec.request", shown, why));
    }
    let usages: Vec<&str> = spec["usages"].items().iter().filter_map(Value::as_str).collect();
    if usages.is_empty() {
        out.push(FieldError::required("spec.usages", ""));
    }
    for (i, u) in usages.iter().enumerate() {
        if !USAGES.contains(u) {
            out.push(FieldError::not_supported(format!("spec.usages[{i}]"), *u, &USAGES));
        }
    }
    for (i, u) in usages.iter().enumerate().filter(|(i, u)| usages.iter().take(*i).any(|o| o == *u)) {
        out.push(FieldError::duplicate(format!("spec.usages[{i}]"), *u));
    }
    signer_name(spec.str_at(["signerName"]).unwrap_or_default(), out);
    if let Some(seconds) = spec.get("expirationSeconds").and_then(Value::as_i64).filter(|s| *s < 600) {
        let why = "may not specify a duration less than 600 seconds (10 minutes)";
        out.push(FieldError::invalid("spec.expirationSeconds", seconds, why));
    }
}

/// Why a request cannot be read.
fn unreadable(text: &str) -> Option<&'static str> {
    let bytes = base64::engine::general_purpose::STANDARD.decode(text).unwrap_or_default();
    match pem::parse(bytes) {
        Ok(p) if p.tag() == "CERTIFICATE REQUEST" => {
            (!crate::auth::is_request(p.contents())).then_some("asn1: structure error: not a certificate request")
        }
        _ => Some("PEM block type must be CERTIFICATE REQUEST"),
    }
}

fn signer_name(name: &str, out: &mut Vec<FieldError>) {
    let path = "spec.signerName";
    if name == "kubernetes.io/legacy-unknown" {
        let why = "the legacy signerName is not allowed via this API version";
        out.push(FieldError::invalid(path, name, why));
        return;
    }
    if name.is_empty() {
        out.push(FieldError::required(path, ""));
        return;
    }
    let segments: Vec<&str> = name.split('/').collect();
    let [domain, rest] = segments.as_slice() else {
        let why = "must be a fully qualified domain and path of the form 'example.com/signer-name'";
        out.push(FieldError::invalid(path, name, why));
        return;
    };
    let wrong = |label: &str, why: &str| format!("validating label {}: {why}", crate::field::go_quote(label));
    if let Some((l, why)) = domain.split('.').map(|l| (l, is_dns1123_label(l))).find(|(_, why)| !why.is_empty()) {
        out.extend(why.iter().map(|w| FieldError::invalid(path, *domain, wrong(l, w))));
    }
    if !domain.contains('.') {
        let why = "should be a domain with at least two segments separated by dots";
        out.push(FieldError::invalid(path, *domain, why));
    }
    if let Some((l, why)) = rest.split('.').map(|l| (l, is_dns1123_subdomain(l))).find(|(_, why)| !why.is_empty()) {
        out.extend(why.iter().map(|w| FieldError::invalid(path, *rest, wrong(l, w))));
    }
}
