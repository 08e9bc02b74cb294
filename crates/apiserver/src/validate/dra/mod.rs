//! Dynamic resource allocation: claims of devices, their templates, classes of devices, and what drivers publish
//! (`k8s.io/kubernetes/pkg/apis/resource/validation`). What all four share is here.

mod claims;
mod device;
mod slices;

use druse_object::{Value, json};

use super::at::{At, Errors};
use super::names::{is_dns1123_subdomain, label_value_errors};
use super::volumes::driver_name;

pub(super) use claims::{claim, class, status, template};
pub(super) use slices::slice;

const MOST_SELECTORS: usize = 32;
const MOST_CONFIGS: usize = 32;
const LONGEST_PARAMETERS: usize = 10 * 1024;
const LONGEST_POOL: usize = 253;
const LONGEST_ID: usize = 32;
const EFFECTS: [&str; 3] = ["NoExecute", "NoSchedule", "None"];

/// Judges each item of a list that may have so many; a longer one is not looked into.
fn list(list: &At, most: usize, out: &mut Errors, mut judge: impl FnMut(&At, &mut Errors)) -> bool {
    if list.len() > most {
        list.too_many(most, out);
        return false;
    }
    list.items().for_each(|item| judge(&item, out));
    true
}

/// As [`list`] where no two items may have the same key.
fn set(at: &At, most: usize, out: &mut Errors, key: impl Fn(&At) -> Value, judge: impl FnMut(&At, &mut Errors)) {
    if !list(at, most, out, judge) {
        return;
    }
    let mut seen: Vec<Value> = Vec::new();
    for item in at.items() {
        let key = key(&item);
        if seen.contains(&key) {
            item.duplicate(key, out);
        } else {
            seen.push(key);
        }
    }
}

/// Items are told apart by a field's text.
fn by(field: &'static str) -> impl Fn(&At) -> Value {
    move |item| item.text_of(field).into()
}

/// Items are told apart by themselves.
fn by_text(item: &At) -> Value {
    item.text().into()
}

/// The name of a pool: subdomains between slashes.
fn pool_name(at: &At, out: &mut Errors) {
    if !at.need(out) {
        return;
    }
    if at.text().len() > LONGEST_POOL {
        at.too_long(LONGEST_POOL, out);
    }
    for part in at.text().split('/') {
        at.each_of(part, is_dns1123_subdomain(part), out);
    }
}

/// The name of an attribute or capacity, errors about which name `at`: with or without the domain it belongs to.
fn qualified_name(name: &str, at: &At, out: &mut Errors) {
    match name.split('/').collect::<Vec<_>>().as_slice() {
        [id] => identifier(id, at, out),
        [domain, id] => {
            if domain.is_empty() {
                at.bad("", "the domain must not be empty", out);
            } else {
                let domain = Value::from(*domain);
                driver_name(&At::new(&domain, &at.path()), out);
            }
            if id.is_empty() {
                at.bad("", "the name must not be empty", out);
            } else {
                identifier(id, at, out);
            }
        }
        // Upstream lets names with more slashes pass.
        _ => {}
    }
}

fn full_name(at: &At, out: &mut Errors) {
    qualified_name(at.text(), at, out);
    if !at.text().contains('/') {
        at.invalid("a fully qualified name must be a domain and a name separated by a slash", out);
    }
}

fn identifier(id: &str, at: &At, out: &mut Errors) {
    const WHY: &str = "a valid C identifier must start with alphabetic character or '_', followed by a string of alphanumeric characters or '_' (e.g. 'my_name',  or 'MY_NAME',  or 'MyName', regex used for validation is '[A-Za-z_][A-Za-z0-9_]*')";
    if id.len() > LONGEST_ID {
        at.too_long(LONGEST_ID, out);
    }
    let first = id.bytes().next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
    if !first || !id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
        at.bad(id, WHY, out);
    }
}

/// Which devices will do: expressions about one.
fn selectors(at: &At, out: &mut Errors) {
    list(at, MOST_SELECTORS, out, |s, out| {
        let cel = s.child("cel");
        if cel.is_given() {
            device::selector(&cel.child("expression"), out);
        } else {
            cel.required("", out);
        }
    });
}

/// Parameters for a driver.
fn configuration(at: &At, stored: bool, out: &mut Errors) {
    let opaque = at.child("opaque");
    if !opaque.is_given() {
        return opaque.required("", out);
    }
    driver_name(&opaque.child("driver"), out);
    raw(&opaque.child("parameters"), stored, LONGEST_PARAMETERS, out);
}

/// An object of any form. `stored` says that it was there before there was a limit.
fn raw(at: &At, stored: bool, most: usize, out: &mut Errors) {
    match at.value() {
        Value::Null => at.required("", out),
        v if !stored && json::to_string(v).len() > most => at.too_long(most, out),
        Value::Map(_) => {}
        _ => at.bad("<value omitted>", "must be a valid JSON object", out),
    }
}

fn toleration(at: &At, out: &mut Errors) {
    let (key, value, operator) = (at.child("key"), at.child("value"), at.child("operator"));
    if !key.text().is_empty() {
        key.qualified(out);
    }
    match operator.text() {
        "Exists" if !value.text().is_empty() => value.invalid("must be empty for operator `Exists`", out),
        "Exists" => {}
        "Equal" => value.each(label_value_errors(value.text()), out),
        "" => operator.required("", out),
        _ => operator.unsupported(&["Equal", "Exists"], out),
    }
    let effect = at.child("effect");
    if !effect.text().is_empty() {
        effect.any_of(&EFFECTS, out);
    }
}

fn taint(at: &At, out: &mut Errors) {
    at.child("key").qualified(out);
    let value = at.child("value");
    if !value.text().is_empty() {
        value.each(label_value_errors(value.text()), out);
    }
    at.child("effect").one_of(&EFFECTS, out);
}

/// Conditions of a device that must hold before its pod is bound, and those that tell that it never will be.
fn binding_conditions(at: &At, out: &mut Errors) {
    const MOST: usize = 4;
    let (good, bad) = (at.child("bindingConditions"), at.child("bindingFailureConditions"));
    for l in [&good, &bad] {
        list(l, MOST, out, |c, out| c.qualified(out));
    }
    let known: Vec<&str> = good.items().map(|c| c.text()).collect();
    for l in [&good, &bad] {
        let mut seen = Vec::new();
        for c in l.items() {
            if seen.contains(&c.text()) {
                c.duplicate(c.text(), out);
            }
            seen.push(c.text());
            if std::ptr::eq(l, &bad) && known.contains(&c.text()) {
                c.invalid("bindingFailureConditions must not overlap with bindingConditions", out);
            }
        }
    }
    if good.len() == 0 && bad.len() > 0 {
        good.invalid("bindingConditions are required to use bindingFailureConditions", out);
    }
    if bad.len() == 0 && good.len() > 0 {
        bad.invalid("bindingFailureConditions are required to use bindingConditions", out);
    }
}

/// Numbers of the form that tells an object from all others, as RFC 4122 writes them.
fn uid(at: &At, out: &mut Errors) {
    let text = at.text();
    let plain = |t: &str| {
        let form = |(i, b): (usize, u8)| match i {
            8 | 13 | 18 | 23 => b == b'-',
            _ => b.is_ascii_hexdigit(),
        };
        t.len() == 36 && t.bytes().enumerate().all(form)
    };
    let why = match text.len() {
        36 if plain(text) => None,
        36 => Some("invalid UUID format".to_owned()),
        45 if !text.to_ascii_lowercase().starts_with("urn:uuid:") => {
            Some(format!("invalid urn prefix: {}", crate::field::go_quote(&text[..9])))
        }
        45 if text.get(9..).is_some_and(plain) => None,
        38 if text.starts_with('{') && text.ends_with('}') && text.get(1..37).is_some_and(plain) => None,
        38 => Some("invalid bracketed UUID format".to_owned()),
        32 if text.bytes().all(|b| b.is_ascii_hexdigit()) => None,
        32 | 45 => Some("invalid UUID format".to_owned()),
        n => Some(format!("invalid UUID length: {n}")),
    };
    if let Some(why) = why {
        at.invalid(format!("error validating uid: {why}"), out);
    } else if !plain(text) || text != text.to_ascii_lowercase() {
        let why = "uid must be in RFC 4122 normalized form, `xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx` with lowercase hexadecimal characters";
        at.invalid(why, out);
    }
}
