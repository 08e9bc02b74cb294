//! Where pods may run: affinity, node selectors, tolerations, spreading (`k8s.io/kubernetes/pkg/apis/core/validation`).

use druse_object::{Map, Value};

use super::at::{At, Errors};
use super::meta::label_selector;
use super::names::{NameRule, label_value_errors};

const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";

/// A pod's affinity to nodes and other pods.
pub(crate) fn affinity(a: &At, out: &mut Errors) {
    if let Some(n) = a.get("nodeAffinity") {
        if let Some(r) = n.get(REQUIRED) {
            node_selector(&r, out);
        }
        for t in n.child(PREFERRED).items() {
            weight(&t, out);
            node_term(&t.child("preference"), false, out);
        }
    }
    for kind in ["podAffinity", "podAntiAffinity"] {
        let Some(p) = a.get(kind) else { continue };
        p.child(REQUIRED).items().for_each(|t| pod_term(&t, out));
        for t in p.child(PREFERRED).items() {
            weight(&t, out);
            pod_term(&t.child("podAffinityTerm"), out);
        }
    }
}

fn weight(t: &At, out: &mut Errors) {
    let n = t.int_of("weight");
    if !(1..=100).contains(&n) {
        t.child("weight").bad(n, "must be in the range 1-100", out);
    }
}

/// A node selector: at least one term.
pub(crate) fn node_selector(s: &At, out: &mut Errors) {
    let terms = s.child("nodeSelectorTerms");
    if terms.len() == 0 {
        terms.required("must have at least one node selector term", out);
    }
    terms.items().for_each(|t| node_term(&t, true, out));
}

fn node_term(t: &At, judge_values: bool, out: &mut Errors) {
    for r in t.child("matchExpressions").items() {
        let (operator, values) = (r.child("operator"), r.child("values"));
        match operator.text() {
            "In" | "NotIn" if values.len() == 0 => {
                values.required("must be specified when `operator` is 'In' or 'NotIn'", out);
            }
            "Exists" | "DoesNotExist" if values.len() > 0 => {
                values.forbidden("may not be specified when `operator` is 'Exists' or 'DoesNotExist'", out);
            }
            "Gt" | "Lt" if values.len() != 1 => {
                values.required("must be specified single value when `operator` is 'Lt' or 'Gt'", out);
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" | "Gt" | "Lt" => {}
            other => operator.bad(other, "not a valid selector operator", out),
        }
        r.child("key").qualified(out);
        if judge_values {
            values.items().for_each(|v| v.each(label_value_errors(v.text()), out));
        }
    }
    for r in t.child("matchFields").items() {
        let (operator, values, key) = (r.child("operator"), r.child("values"), r.child("key"));
        match operator.text() {
            "In" | "NotIn" if values.len() != 1 => values
                .required("must be only one value when `operator` is 'In' or 'NotIn' for node field selector", out),
            "In" | "NotIn" => {}
            other => operator.bad(other, "not a valid selector operator", out),
        }
        if key.text() == "metadata.name" {
            values.items().for_each(|v| v.subdomain(out));
        } else {
            key.bad(key.text(), "not a valid field selector key", out);
        }
    }
}

fn pod_term(t: &At, out: &mut Errors) {
    for key in ["labelSelector", "namespaceSelector"] {
        if let Some(s) = t.get(key) {
            label_selector(s.value(), &s.path(), out);
        }
    }
    for ns in t.child("namespaces").value().items().iter().filter_map(Value::as_str) {
        t.child("namespace").each_of(ns, NameRule::Label.errors(ns, false), out);
    }
    label_keys(t, out);
    let key = t.child("topologyKey");
    if key.text().is_empty() {
        key.required("can not be empty", out);
    }
    key.qualified(out);
}

/// Keys of labels whose values a pod's own labels give: not said again in the selector, and not both wanted and unwanted.
fn label_keys(t: &At, out: &mut Errors) {
    let selector = t.child("labelSelector");
    let (wanted, unwanted) = (t.child("matchLabelKeys"), t.child("mismatchLabelKeys"));
    for list in [&wanted, &unwanted] {
        if list.len() == 0 {
        } else if selector.is_given() {
            list.items().for_each(|k| k.qualified(out));
        } else {
            list.forbidden("must not be specified when labelSelector is not set", out);
        }
    }
    let keys: Vec<&str> = wanted.value().items().iter().filter_map(Value::as_str).collect();
    let plain = selector.child("matchLabels");
    let mut said: Vec<&str> = plain.value().as_map().into_iter().flat_map(Map::keys).map(|k| k.as_str()).collect();
    for e in selector.child("matchExpressions").value().items() {
        let key = e.str_at(["key"]).unwrap_or_default();
        if let Some(i) = keys.iter().rposition(|k| *k == key)
            && said.contains(&key)
        {
            let why = "exists in both matchLabelKeys and labelSelector";
            out.push(crate::field::FieldError::invalid(format!("{}[{i}]", t.path()), key, why));
        }
        said.push(key);
    }
    for k in wanted.items() {
        if unwanted.value().items().contains(k.value()) {
            k.invalid("exists in both matchLabelKeys and mismatchLabelKeys", out);
        }
    }
}

/// How pods spread over nodes.
pub(crate) fn spread(list: &At, out: &mut Errors) {
    const ACTIONS: [&str; 2] = ["DoNotSchedule", "ScheduleAnyway"];
    for (i, c) in list.items().enumerate() {
        positive(&c.child("maxSkew"), out);
        let (key, when) = (c.child("topologyKey"), c.child("whenUnsatisfiable"));
        if key.text().is_empty() {
            key.required("can not be empty", out);
        }
        if !ACTIONS.contains(&when.text()) {
            when.unsupported(&ACTIONS, out);
        }
        let same = |o: &Value| {
            o.get("topologyKey") == c.value().get("topologyKey")
                && o.get("whenUnsatisfiable") == c.value().get("whenUnsatisfiable")
        };
        if list.value().items().iter().skip(i + 1).any(same) {
            let shown = format!("{{{}, {}}}", key.text(), when.text());
            c.as_if("{topologyKey, whenUnsatisfiable}").duplicate(shown, out);
        }
        if let Some(domains) = c.get("minDomains") {
            positive(&domains, out);
            if when.text() != "DoNotSchedule" {
                let why = format!("can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {}", when.text());
                domains.invalid(why, out);
            }
        }
        for policy in ["nodeAffinityPolicy", "nodeTaintsPolicy"] {
            c.child(policy).any_of(&["Honor", "Ignore"], out);
        }
        label_keys(&c, out);
        if let Some(s) = c.get("labelSelector") {
            label_selector(s.value(), &s.path(), out);
        }
    }
}

fn positive(at: &At, out: &mut Errors) {
    let n = at.int().unwrap_or(0);
    if n <= 0 {
        at.bad(n, "must be greater than zero", out);
    }
}

/// Which taints of nodes a pod bears.
pub(crate) fn tolerations(list: &At, out: &mut Errors) {
    for t in list.items() {
        let (key, operator, value, effect) = (t.child("key"), t.child("operator"), t.child("value"), t.child("effect"));
        if !key.text().is_empty() {
            key.qualified(out);
        }
        if key.text().is_empty() && operator.text() != "Exists" {
            let why = "operator must be Exists when `key` is empty, which means \"match all values and all keys\"";
            operator.bad(operator.text(), why, out);
        }
        if t.get("tolerationSeconds").is_some() && effect.text() != "NoExecute" {
            effect.bad(effect.text(), "effect must be 'NoExecute' when `tolerationSeconds` is set", out);
        }
        match operator.text() {
            "" | "Equal" => {
                let wrong = label_value_errors(value.text());
                if !wrong.is_empty() {
                    operator.bad(value.text(), wrong.join(";"), out);
                }
            }
            "Exists" => {
                if !value.text().is_empty() {
                    operator.bad(value.text(), "value must be empty when `operator` is 'Exists'", out);
                }
            }
            // Known, and waiting for a feature that is off.
            "Lt" | "Gt" => operator.unsupported(&["Equal", "Exists", "Lt", "Gt"], out),
            _ => operator.unsupported(&["Equal", "Exists"], out),
        }
        if !effect.text().is_empty() {
            effect.any_of(&["NoSchedule", "PreferNoSchedule", "NoExecute"], out);
        }
    }
}
