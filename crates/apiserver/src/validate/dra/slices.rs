//! What a driver publishes of its devices.

use std::sync::LazyLock;

use druse_object::{Map, Quantity, Value};
use regex::Regex;

use super::super::dump;
use super::super::scheduling::node_selector;
use super::*;

const MOST_DEVICES: usize = 128;
const MOST_ADVANCED_DEVICES: usize = 64;
const MOST_COUNTER_SETS: usize = 8;
const MOST_COUNTERS: usize = 32;
const MOST_CONSUMPTIONS: usize = 2;
const MOST_PROPERTIES: usize = 32;
const MOST_VALUES: usize = 48;
const MOST_TAINTS: usize = 16;
const LONGEST_VALUE: usize = 64;
const LONGEST_KEY: usize = 63 + 1 + LONGEST_ID;
const LONGEST_LABEL: usize = 63;

/// Slices of a pool of devices.
pub(in crate::validate) fn slice(new: &Value, old: Option<&Value>, out: &mut Errors) {
    let root = At::new(new, "");
    let spec = root.child("spec");
    driver_name(&spec.child("driver"), out);
    pool(&spec.child("pool"), out);
    if let Some(old) = old {
        let was = &old["spec"];
        spec.child("pool").child("name").unchanged(&was["pool"]["name"], out);
        spec.child("driver").unchanged(&was["driver"], out);
        spec.child("nodeName").unchanged(&was["nodeName"], out);
    }
    nodes(&spec, out);
    let each_device = spec.is("perDeviceNodeSelection");
    if spec.child("sharedCounters").is_given() && spec.child("devices").is_given() {
        spec.bad("", "only one of `sharedCounters` or `devices` is allowed", out);
    }
    let advanced = |d: &Value| !d["taints"].items().is_empty() || !d["consumesCounters"].items().is_empty();
    let most = match spec.value()["devices"].items().iter().any(advanced) {
        true => MOST_ADVANCED_DEVICES,
        false => MOST_DEVICES,
    };
    set(&spec.child("devices"), most, out, by("name"), |d, out| {
        let before = old.and_then(|o| o["spec"]["devices"].items().iter().find(|o| o["name"] == d.value()["name"]));
        device(d, before, each_device, out);
    });
    set(&spec.child("sharedCounters"), MOST_COUNTER_SETS, out, by("name"), |s, out| counter_set(s, "name", out));
}

fn pool(at: &At, out: &mut Errors) {
    pool_name(&at.child("name"), out);
    let (count, generation) = (at.int_of("resourceSliceCount"), at.int_of("generation"));
    if count <= 0 {
        at.child("resourceSliceCount").bad(count, "must be greater than zero", out);
    }
    if generation < 0 {
        at.child("generation").bad(generation, "must be greater than or equal to zero", out);
    }
}

fn node_name(at: &At, empty: &str, out: &mut Errors) -> bool {
    if !at.is_given() {
        return false;
    }
    if at.text().is_empty() {
        at.invalid(empty, out);
        return false;
    }
    at.subdomain(out);
    true
}

fn only_true(at: &At, out: &mut Errors) -> bool {
    if at.value().as_bool() == Some(false) {
        at.invalid("must be either unset or set to true", out);
    }
    at.value().as_bool() == Some(true)
}

/// Where the devices can be used: said in exactly one way.
fn nodes(spec: &At, out: &mut Errors) {
    const ONE: &str = "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required";
    let mut given = Vec::new();
    if node_name(&spec.child("nodeName"), "must be either unset or set to a non-empty string", out) {
        given.push("`nodeName`");
    }
    if let Some(s) = spec.get("nodeSelector") {
        given.push("`nodeSelector`");
        node_selector(&s, out);
        let terms = s.child("nodeSelectorTerms");
        if terms.len() != 1 {
            let shown: Value = terms.value().items().iter().map(|t| dump::internal("NodeSelectorTerm", t)).collect();
            let shown = if terms.is_given() { shown } else { Value::Null };
            terms.bad(shown, "must have exactly one node selector term", out);
        }
    }
    if only_true(&spec.child("allNodes"), out) {
        given.push("`allNodes`");
    }
    if only_true(&spec.child("perDeviceNodeSelection"), out) {
        given.push("`perDeviceNodeSelection`");
    }
    match given.len() {
        0 => spec.required(ONE, out),
        1 => {}
        _ => {
            let why = format!("{ONE}, but multiple fields are set");
            spec.bad(format!("{{{}}}", given.join(", ")), why, out);
        }
    }
}

fn device(at: &At, before: Option<&Value>, each: bool, out: &mut Errors) {
    at.child("name").label(out);
    let (attributes, capacity) = (at.child("attributes"), at.child("capacity"));
    let count = |n: usize| Value::Int(i64::try_from(n).unwrap_or(i64::MAX));
    let total = attributes.len() + capacity.len();
    if total > MOST_PROPERTIES {
        let why = format!("the total number of attributes and capacities must not exceed {MOST_PROPERTIES}");
        at.bad(count(total), why, out);
    }
    if attributes.len() > MOST_VALUES {
        let why = format!("the total number of attribute values must not exceed {MOST_VALUES}");
        at.bad(count(attributes.len()), why, out);
    }
    entries(&attributes, LONGEST_KEY, out, qualified_name, attribute);
    let shared = at.is("allowMultipleAllocations");
    entries(&capacity, LONGEST_KEY, out, qualified_name, |c, out| {
        let Some(policy) = c.get("requestPolicy") else { return };
        if shared {
            request_policy(c.child("value").quantity(), &policy, out);
        } else {
            policy.forbidden("allowMultipleAllocations must be true", out);
        }
    });
    let taints = at.child("taints");
    if before.is_none_or(|b| b["taints"] != *taints.value()) {
        list(&taints, MOST_TAINTS, out, taint);
    }
    set(&at.child("consumesCounters"), MOST_CONSUMPTIONS, out, by("counterSet"), |c, out| {
        counter_set(c, "counterSet", out);
    });
    device_nodes(at, each, out);
    binding_conditions(at, out);
}

/// Where one device can be used, when each of its slice says so for itself.
fn device_nodes(at: &At, each: bool, out: &mut Errors) {
    const ONE: &str = "exactly one of `nodeName`, `nodeSelector`, or `allNodes` is required when `perDeviceNodeSelection` is set to true in the ResourceSlice spec";
    let (name, selector, all) = (at.child("nodeName"), at.child("nodeSelector"), at.child("allNodes"));
    if !each {
        if [name, selector, all].iter().any(At::is_given) {
            let why = "`nodeName`, `nodeSelector` and `allNodes` can only be set if `perDeviceNodeSelection` is set to true in the ResourceSlice spec";
            at.bad(Value::Null, why, out);
        }
        return;
    }
    let mut given = Vec::new();
    if node_name(&name, "must not be empty", out) {
        given.push("`nodeName`");
    }
    if selector.is_given() {
        given.push("`nodeSelector`");
        node_selector(&selector, out);
    }
    if only_true(&all, out) {
        given.push("`allNodes`");
    }
    match given.len() {
        0 => at.required(ONE, out),
        1 => {}
        _ => at.bad(format!("{{{}}}", given.join(", ")), ONE, out),
    }
}

/// Judges the keys and values of a map; keys that are too long are shown by their ends.
fn entries(
    at: &At,
    longest: usize,
    out: &mut Errors,
    key: impl Fn(&str, &At, &mut Errors),
    judge: impl Fn(&At, &mut Errors),
) {
    for (name, entry) in at.entries() {
        key(name, at, out);
        let short = shortened(name, longest);
        if short == name {
            judge(&entry, out);
        } else {
            let mut m = Map::new();
            m.insert(short.as_str(), entry.value().clone());
            let m = Value::Map(m);
            judge(&At::new(&m, &at.path()).entry(&short), out);
        }
    }
}

fn shortened(text: &str, longest: usize) -> String {
    const DOTS: &str = "...";
    if text.len() <= longest {
        return text.to_owned();
    }
    let rest = longest - DOTS.len();
    let cut = |range: std::ops::Range<usize>| String::from_utf8_lossy(&text.as_bytes()[range]).into_owned();
    format!("{}{DOTS}{}", cut(0..rest.div_ceil(2)), cut(text.len() - rest / 2..text.len()))
}

fn attribute(at: &At, out: &mut Errors) {
    static VERSION: LazyLock<Option<Regex>> = LazyLock::new(|| {
        const NUMBER: &str = r"(0|[1-9][0-9]*)";
        const PRE: &str = r"(0|[1-9][0-9]*|[0-9]*[a-zA-Z-][0-9a-zA-Z-]*)";
        const BUILD: &str = "[0-9a-zA-Z-]+";
        let pattern = format!(r"^{NUMBER}\.{NUMBER}\.{NUMBER}(-{PRE}(\.{PRE})*)?(\+{BUILD}(\.{BUILD})*)?$");
        Regex::new(&pattern).ok()
    });
    let limited = |text: &At, out: &mut Errors| {
        if text.text().len() > LONGEST_VALUE {
            text.too_long(LONGEST_VALUE, out);
        }
    };
    if let Some(text) = at.get("string") {
        limited(&text, out);
    }
    if let Some(text) = at.get("version") {
        if !VERSION.as_ref().is_some_and(|r| r.is_match(text.text())) {
            text.invalid("must be a string compatible with semver.org spec 2.0.0", out);
        }
        limited(&text, out);
    }
    match ["bool", "int", "string", "version"].iter().filter(|k| at.child(k).is_given()).count() {
        0 => at.bad("", "exactly one value must be specified", out),
        1 => {}
        _ => at.bad(dump::internal("DeviceAttribute", at.value()), "exactly one value must be specified", out),
    }
}

/// A set of counters, or what a device takes of one.
fn counter_set(at: &At, name: &str, out: &mut Errors) {
    let name = at.child(name);
    if name.need(out) {
        name.label(out);
    }
    let counters = at.child("counters");
    if counters.len() == 0 {
        counters.required("", out);
    } else if counters.len() > MOST_COUNTERS {
        counters.too_many(MOST_COUNTERS, out);
    } else {
        let label = |key: &str, at: &At, out: &mut Errors| at.each_of(key, crate::validate::is_dns1123_label(key), out);
        entries(&counters, LONGEST_LABEL, out, label, |_, _| {});
    }
}

/// How much of a capacity may be asked for.
fn request_policy(most: Option<Quantity>, at: &At, out: &mut Errors) {
    let (values, range) = (at.child("validValues"), at.child("validRange"));
    let default = at.child("default");
    let missing = |what: &str, out: &mut Errors| default.required(format!("required when {what} is defined"), out);
    match (values.len() > 0, range.is_given()) {
        (true, true) => {
            let why = "exactly one policy can be specified, cannot specify \"validValues\" and \"validRange\" at the same time";
            at.forbidden(why, out);
        }
        (true, false) if !default.is_given() => missing("validValues", out),
        (false, true) if !default.is_given() => missing("validRange", out),
        (true, false) => valid_values(&default, most, &values, out),
        (false, true) => valid_range(&default, most, &range, out),
        (false, false) => {}
    }
}

fn words_of(at: &At) -> String {
    at.quantity().map(|q| q.to_string()).unwrap_or_default()
}

fn valid_values(default: &At, most: Option<Quantity>, list: &At, out: &mut Errors) {
    const MOST: usize = 10;
    let amounts: Vec<Option<Quantity>> = list.items().map(|v| v.quantity()).collect();
    for (pair, v) in amounts.windows(2).zip(list.items().skip(1)) {
        if pair[0] > pair[1] {
            v.bad(words_of(&v), "values must be sorted in ascending order", out);
        }
    }
    let key = |v: &At| Value::from(v.quantity().map(|q| q.value().to_string()).unwrap_or_default());
    set(list, MOST, out, key, |v, out| {
        if v.quantity() > most {
            let most = most.as_ref().map(ToString::to_string).unwrap_or_default();
            v.bad(words_of(v), format!("option is larger than capacity value: {most}"), out);
        }
    });
    if !amounts.contains(&default.quantity()) {
        list.bad(words_of(default), "default value is not valid according to the requestPolicy", out);
    }
}

fn valid_range(default: &At, most: Option<Quantity>, range: &At, out: &mut Errors) {
    let (min, max, step) = (range.child("min"), range.child("max"), range.child("step"));
    let words = |q: Option<&Quantity>| q.map(ToString::to_string).unwrap_or_default();
    let (Some(least), Some(usual)) = (min.quantity(), default.quantity()) else {
        return min.required("required when validRange is defined", out);
    };
    let whole = words(most.as_ref());
    if Some(&least) > most.as_ref() {
        min.bad(words_of(&min), format!("min is larger than capacity value: {whole}"), out);
    }
    if usual < least {
        min.bad(words_of(default), format!("default is less than min: {least}"), out);
    }
    if let Some(largest) = max.quantity() {
        if least > largest {
            max.bad(words_of(&min), format!("min is larger than max: {largest}"), out);
        }
        if Some(&largest) > most.as_ref() {
            max.bad(words_of(&max), format!("max is larger than capacity value: {whole}"), out);
        }
        if usual > largest {
            max.bad(words_of(default), format!("default is more than max: {largest}"), out);
        }
    }
    let Some(by) = step.quantity() else { return };
    let first = least.plus(by);
    if Some(&first) > most.as_ref() {
        step.bad(words_of(&step), format!("one step {first} is larger than capacity value: {whole}"), out);
    }
    let mut fits = |amount: Quantity| {
        let added = amount.value() - least.value();
        if by.value() == 0 || added % by.value() != 0 {
            let why = format!("value is not a multiple of a given step ({by}) from ({least})");
            step.bad(amount.to_string(), why, out);
        }
    };
    fits(usual);
    if let Some(largest) = max.quantity() {
        fits(largest);
    }
}
