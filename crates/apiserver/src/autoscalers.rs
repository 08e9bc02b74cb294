//! Autoscalers in their first version, which knows a target for the processor and nothing else: the other metrics, the
//! behavior and the conditions are kept in annotations (`k8s.io/kubernetes/pkg/apis/autoscaling/v1/conversion.go`).

use druse_object::{Map, Quantity, Value, json};

/// Autoscalers as they are stored.
pub(crate) const STORED: &str = "horizontalpodautoscalers.autoscaling";
const METRICS: &str = "autoscaling.alpha.kubernetes.io/metrics";
const CURRENT: &str = "autoscaling.alpha.kubernetes.io/current-metrics";
const CONDITIONS: &str = "autoscaling.alpha.kubernetes.io/conditions";
const BEHAVIOR: &str = "autoscaling.alpha.kubernetes.io/behavior";
/// The annotations that carry what an older version cannot say.
pub(crate) const KEPT: [&str; 6] = [
    METRICS,
    CURRENT,
    CONDITIONS,
    BEHAVIOR,
    "autoscaling.alpha.kubernetes.io/scale-down-tolerance",
    "autoscaling.alpha.kubernetes.io/scale-up-tolerance",
];
/// What the processor's target is when nothing is measured.
const USUAL: i64 = 80;

/// An object as upstream has it once it is read: what annotations say is in its fields.
pub(crate) fn normalize(version: &str, v: &mut Value) {
    let Some(m) = v.as_map_mut() else { return };
    if version == "v1" {
        second(m);
        first(m);
    } else {
        _ = take_annotations(m);
    }
}

/// An autoscaler in the words of a version.
pub(crate) fn told(api_version: &str, v: &Value) -> Value {
    let mut v = v.clone();
    if v.str_at(["apiVersion"]) != Some(api_version)
        && let Some(m) = v.as_map_mut()
    {
        if api_version.ends_with("/v1") {
            first(m);
        } else {
            second(m);
        }
        m.insert("apiVersion", api_version);
    }
    v
}

/// Takes what is kept in annotations out of them.
fn take_annotations(m: &mut Map) -> Map {
    let mut kept = Map::new();
    let Some(meta) = m.get_mut("metadata").and_then(Value::as_map_mut) else { return kept };
    let Some(annotations) = meta.get_mut("annotations").and_then(Value::as_map_mut) else { return kept };
    for key in KEPT {
        if let Some(text) = annotations.remove(key) {
            kept.insert(key, text);
        }
    }
    if annotations.is_empty() && !kept.is_empty() {
        meta.remove("annotations");
    }
    kept
}

fn object<'a>(entries: impl IntoIterator<Item = (&'a str, Value)>) -> Value {
    let mut m = Map::new();
    for (k, v) in entries {
        if !v.is_null() {
            m.insert(k, v);
        }
    }
    Value::Map(m)
}

/// An amount that is written even where there is none.
fn amount(v: &Value) -> Value {
    if v.is_null() { "0".into() } else { v.clone() }
}

fn is_cpu(metric: &Value) -> bool {
    metric.str_at(["type"]) == Some("Resource") && metric.str_at(["resource", "name"]) == Some("cpu")
}

/// A kind of metric: its field, and what the first version says of it, given the target or the present value.
fn older_metric(metric: &Value, wanted: bool) -> Value {
    let measured = |source: &Value| source[if wanted { "target" } else { "current" }].clone();
    let names = |plain: &'static str, average: &'static str| {
        if wanted { (plain, average) } else { ("currentValue", "currentAverageValue") }
    };
    let named = |s: &Value| (s["metric"]["name"].clone(), s["metric"]["selector"].clone());
    let resource = |s: &Value, container: Value| {
        let m = measured(s);
        let (utilization, value) = match wanted {
            true => ("targetAverageUtilization", "targetAverageValue"),
            false => ("currentAverageUtilization", "currentAverageValue"),
        };
        let average = if wanted { m["averageValue"].clone() } else { amount(&m["averageValue"]) };
        object([
            ("name", s["name"].clone()),
            (utilization, m["averageUtilization"].clone()),
            (value, average),
            ("container", container),
        ])
    };
    let mut out = vec![("type", metric["type"].clone())];
    if let Some(s) = metric.get("object").filter(|s| !s.is_null()) {
        let ((name, selector), m) = (named(s), measured(s));
        let d = &s["describedObject"];
        let target =
            object([("kind", d["kind"].clone()), ("name", d["name"].clone()), ("apiVersion", d["apiVersion"].clone())]);
        let value = if wanted { "targetValue" } else { "currentValue" };
        out.push((
            "object",
            object([
                ("target", target),
                ("metricName", name),
                (value, amount(&m["value"])),
                ("selector", selector),
                ("averageValue", m["averageValue"].clone()),
            ]),
        ));
    }
    if let Some(s) = metric.get("pods").filter(|s| !s.is_null()) {
        let ((name, selector), m) = (named(s), measured(s));
        let value = if wanted { "targetAverageValue" } else { "currentAverageValue" };
        out.push(("pods", object([("metricName", name), (value, amount(&m["averageValue"])), ("selector", selector)])));
    }
    if let Some(s) = metric.get("resource").filter(|s| !s.is_null()) {
        out.push(("resource", resource(s, Value::Null)));
    }
    if let Some(s) = metric.get("containerResource").filter(|s| !s.is_null()) {
        out.push(("containerResource", resource(s, s["container"].clone())));
    }
    if let Some(s) = metric.get("external").filter(|s| !s.is_null()) {
        let ((name, selector), m) = (named(s), measured(s));
        let (plain, average) = names("targetValue", "targetAverageValue");
        let value = if wanted { m["value"].clone() } else { amount(&m["value"]) };
        out.push((
            "external",
            object([
                ("metricName", name),
                ("metricSelector", selector),
                (plain, value),
                (average, m["averageValue"].clone()),
            ]),
        ));
    }
    object(out)
}

/// A metric of the first version as the second says it.
fn newer_metric(metric: &Value, wanted: bool) -> Value {
    let key = if wanted { "target" } else { "current" };
    let quantity = |v: &Value| Quantity::of(v).map_or(Value::Null, |q| q.to_string().into());
    let typed = |kind: &str| if wanted { Value::from(kind) } else { Value::Null };
    let named =
        |s: &Value, selector: &str| object([("name", s["metricName"].clone()), ("selector", s[selector].clone())]);
    let resource = |s: &Value| {
        let (utilization, value) = match wanted {
            true => (s["targetAverageUtilization"].clone(), quantity(&s["targetAverageValue"])),
            false => (s["currentAverageUtilization"].clone(), quantity(&amount(&s["currentAverageValue"]))),
        };
        let kind = if utilization.is_null() { "AverageValue" } else { "Utilization" };
        let measured = object([("type", typed(kind)), ("averageValue", value), ("averageUtilization", utilization)]);
        object([("name", s["name"].clone()), ("container", s["container"].clone()), (key, measured)])
    };
    let mut out = vec![("type", metric["type"].clone())];
    if let Some(s) = metric.get("object").filter(|s| !s.is_null()) {
        let (value, average) =
            (quantity(&amount(&s[if wanted { "targetValue" } else { "currentValue" }])), quantity(&s["averageValue"]));
        let none = wanted && !average.is_null() && value.as_str() == Some("0");
        let kind = if average.is_null() { "Value" } else { "AverageValue" };
        let value = if none { Value::Null } else { value };
        let measured = object([("type", typed(kind)), ("value", value), ("averageValue", average)]);
        out.push((
            "object",
            object([("describedObject", s["target"].clone()), (key, measured), ("metric", named(s, "selector"))]),
        ));
    }
    if let Some(s) = metric.get("pods").filter(|s| !s.is_null()) {
        let value = quantity(&amount(&s[if wanted { "targetAverageValue" } else { "currentAverageValue" }]));
        let measured = object([("type", typed("AverageValue")), ("averageValue", value)]);
        out.push(("pods", object([("metric", named(s, "selector")), (key, measured)])));
    }
    if let Some(s) = metric.get("resource").filter(|s| !s.is_null()) {
        out.push(("resource", resource(s)));
    }
    if let Some(s) = metric.get("containerResource").filter(|s| !s.is_null()) {
        out.push(("containerResource", resource(s)));
    }
    if let Some(s) = metric.get("external").filter(|s| !s.is_null()) {
        let (value, average) = match wanted {
            true => (quantity(&s["targetValue"]), quantity(&s["targetAverageValue"])),
            false => (quantity(&amount(&s["currentValue"])), quantity(&s["currentAverageValue"])),
        };
        let kind = if value.is_null() { "AverageValue" } else { "Value" };
        let measured = object([("type", typed(kind)), ("value", value), ("averageValue", average)]);
        out.push(("external", object([("metric", named(s, "metricSelector")), (key, measured)])));
    }
    object(out)
}

/// A field of upstream's internal types by the name of its Go field, which JSON is read by in any case.
fn go_field<'v>(v: &'v Value, name: &str) -> &'v Value {
    static NULL: Value = Value::Null;
    let entries = v.as_map().into_iter().flat_map(Map::iter);
    entries.into_iter().find(|(k, _)| k.eq_ignore_ascii_case(name)).map_or(&NULL, |(_, v)| v)
}

/// The behavior as Go writes its internal type, and back.
const RULES: [(&str, &str); 4] = [
    ("StabilizationWindowSeconds", "stabilizationWindowSeconds"),
    ("SelectPolicy", "selectPolicy"),
    ("Policies", "policies"),
    ("Tolerance", "tolerance"),
];
const POLICY: [(&str, &str); 3] = [("Type", "type"), ("Value", "value"), ("PeriodSeconds", "periodSeconds")];
const DIRECTIONS: [(&str, &str); 2] = [("ScaleUp", "scaleUp"), ("ScaleDown", "scaleDown")];

fn go_behavior(behavior: &Value) -> Value {
    let all = |v: &Value, fields: &[(&'static str, &'static str)], each: &dyn Fn(&str, &Value) -> Value| -> Value {
        if v.is_null() {
            return Value::Null;
        }
        let mut m = Map::new();
        for (go, key) in fields {
            m.insert(*go, each(go, &v[*key]));
        }
        Value::Map(m)
    };
    let policies = |list: &Value| -> Value {
        match list.as_array() {
            Some(l) => l.iter().map(|p| all(p, &POLICY, &|_, v| v.clone())).collect(),
            None => Value::Null,
        }
    };
    all(behavior, &DIRECTIONS, &|_, rules| {
        all(rules, &RULES, &|go, v| if go == "Policies" { policies(v) } else { v.clone() })
    })
}

fn behavior_of(go: &Value) -> Value {
    let rules = |v: &Value| {
        if v.as_map().is_none() {
            return Value::Null;
        }
        let policies = go_field(v, "Policies");
        let list: Value =
            policies.items().iter().map(|p| object(POLICY.map(|(n, k)| (k, go_field(p, n).clone())))).collect();
        let list = if policies.is_null() { Value::Null } else { list };
        object(RULES.map(|(n, k)| (k, if k == "policies" { list.clone() } else { go_field(v, n).clone() })))
    };
    object(DIRECTIONS.map(|(n, k)| (k, rules(go_field(go, n)))))
}

/// Makes an autoscaler of the second version one of the first.
pub(crate) fn first(m: &mut Map) {
    _ = take_annotations(m);
    let mut kept: Vec<(&str, Value)> = Vec::new();
    if let Some(spec) = m.get_mut("spec").and_then(Value::as_map_mut) {
        let utilization = |v: &Value| v["resource"]["target"]["averageUtilization"].clone();
        let of_cpu = |v: &&Value| is_cpu(v) && !utilization(v).is_null();
        let metrics = spec.remove("metrics").unwrap_or_default();
        let others: Vec<Value> = metrics.items().iter().filter(|v| !of_cpu(v)).map(|v| older_metric(v, true)).collect();
        if let Some(cpu) = metrics.items().iter().find(of_cpu) {
            spec.insert("targetCPUUtilizationPercentage", utilization(cpu));
        }
        if !others.is_empty() {
            kept.push((METRICS, Value::Array(others)));
        }
        if let Some(behavior) = spec.remove("behavior").filter(|b| !b.is_null()) {
            kept.push((BEHAVIOR, go_behavior(&behavior)));
        }
    }
    if let Some(status) = m.get_mut("status").and_then(Value::as_map_mut) {
        let current = status.remove("currentMetrics").unwrap_or_default();
        if !current.items().is_empty() {
            kept.push((CURRENT, current.items().iter().map(|v| older_metric(v, false)).collect()));
        }
        let measured = current.items().iter().filter(|v| is_cpu(v));
        let mut measured = measured.map(|v| v["resource"]["current"]["averageUtilization"].clone());
        if let Some(cpu) = measured.rfind(|v| !v.is_null()) {
            status.insert("currentCPUUtilizationPercentage", cpu);
        }
        let conditions = status.remove("conditions").unwrap_or_default();
        if !conditions.items().is_empty() {
            let one = |c: &Value| {
                let mut m = Map::new();
                for key in ["type", "status", "lastTransitionTime", "reason", "message"] {
                    let v = c[key].clone();
                    if key == "lastTransitionTime" || v.as_str().is_some_and(|t| !t.is_empty()) {
                        m.insert(key, v);
                    }
                }
                Value::Map(m)
            };
            kept.push((CONDITIONS, conditions.items().iter().map(one).collect()));
        }
        for key in ["currentReplicas", "desiredReplicas"] {
            if status.get(key).is_none_or(Value::is_null) {
                status.insert(key, 0i64);
            }
        }
    }
    if !kept.is_empty()
        && let Some(annotations) = m.entry_or_null("metadata").make_map_at(["annotations"])
    {
        for (key, v) in kept {
            annotations.insert(key, json::to_string(&v));
        }
    }
}

/// Makes an autoscaler of the first version one of the second.
pub(crate) fn second(m: &mut Map) {
    let kept = take_annotations(m);
    let said = |key: &str| kept.get(key).and_then(Value::as_str).and_then(|text| json::parse(text.as_bytes()).ok());
    let list = |key: &str| match said(key) {
        Some(Value::Array(l)) if l.iter().all(|v| v.as_map().is_some()) => Some(l),
        Some(Value::Null) => Some(Vec::new()),
        _ => None,
    };
    let utilization = |key: &str, inner: &str, cpu: Value, kind: Value| {
        let measured = object([("type", kind), ("averageUtilization", cpu)]);
        let resource = object([("name", "cpu".into()), (inner, measured)]);
        object([("type", key.into()), ("resource", resource)])
    };
    if let Some(spec) = m.entry_or_null("spec").make_map() {
        let cpu = spec.remove("targetCPUUtilizationPercentage").filter(|c| !c.is_null());
        let mut metrics: Vec<Value> = list(METRICS).unwrap_or_default().iter().map(|v| newer_metric(v, true)).collect();
        if let Some(cpu) = cpu.or_else(|| metrics.is_empty().then_some(Value::Int(USUAL))) {
            metrics.push(utilization("Resource", "target", cpu, "Utilization".into()));
        }
        spec.insert("metrics", metrics);
        if let Some(go) = said(BEHAVIOR).filter(|b| b.as_map().is_some()) {
            let behavior = behavior_of(&go);
            if behavior.as_map().is_some_and(|m| !m.is_empty()) {
                spec.insert("behavior", behavior);
            }
        }
    }
    let conditions = list(CONDITIONS);
    let current = list(CURRENT);
    if conditions.is_some() || current.is_some() || m.contains_key("status") {
        let Some(status) = m.entry_or_null("status").make_map() else { return };
        let cpu = status.remove("currentCPUUtilizationPercentage").filter(|c| !c.is_null());
        let of_cpu = cpu.map(|cpu| Value::Array(vec![utilization("Resource", "current", cpu, Value::Null)]));
        let current = current.map(|l| l.iter().map(|v| newer_metric(v, false)).collect::<Value>());
        status.insert("currentMetrics", current.or(of_cpu).unwrap_or_default());
        if let Some(list) = conditions {
            status.insert("conditions", list);
        }
        if status.get("currentReplicas").and_then(Value::as_i64) == Some(0) {
            status.remove("currentReplicas");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(text: &str) -> Map {
        json::parse(text.as_bytes()).unwrap().as_map().cloned().unwrap()
    }

    #[test]
    fn what_the_first_version_cannot_say_is_kept_in_annotations_and_comes_back() {
        let spec = r#"{"maxReplicas":3,"metrics":[
            {"type":"Pods","pods":{"metric":{"name":"m"},"target":{"type":"AverageValue","averageValue":"10"}}},
            {"type":"Resource","resource":{"name":"cpu","target":{"type":"Utilization","averageUtilization":50}}}],
            "behavior":{"scaleDown":{"selectPolicy":"Disabled"}}}"#;
        let before = map(&format!(r#"{{"metadata":{{"name":"a"}},"spec":{spec}}}"#));
        let mut m = before.clone();
        first(&mut m);
        let older = Value::Map(m.clone());
        assert_eq!(older["spec"]["targetCPUUtilizationPercentage"].as_i64(), Some(50));
        assert_eq!(
            older["metadata"]["annotations"][METRICS].as_str(),
            Some(r#"[{"type":"Pods","pods":{"metricName":"m","targetAverageValue":"10"}}]"#)
        );
        assert_eq!(
            older["metadata"]["annotations"][BEHAVIOR].as_str(),
            Some(
                r#"{"ScaleUp":null,"ScaleDown":{"StabilizationWindowSeconds":null,"SelectPolicy":"Disabled","Policies":null,"Tolerance":null}}"#
            )
        );
        second(&mut m);
        assert_eq!(Value::Map(m), Value::Map(before));
    }

    #[test]
    fn the_processor_is_measured_when_nothing_is() {
        let mut m = map(r#"{"metadata":{"annotations":{"autoscaling.alpha.kubernetes.io/metrics":"no"}},"spec":{}}"#);
        second(&mut m);
        let v = Value::Map(m);
        assert_eq!(
            v["spec"]["metrics"].items().first().map(|m| m["resource"]["target"]["averageUtilization"].as_i64()),
            Some(Some(USUAL))
        );
        assert!(v["metadata"].get("annotations").is_none());
    }
}
