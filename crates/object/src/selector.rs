//! Label selectors as objects write them: maps of labels, and `matchLabels` with `matchExpressions`.

use crate::value::Value;

/// Whether a label selector chooses labels (null where there are none). An empty one chooses all, one that is absent
/// (null) none, and so does one with an operator that Kubernetes does not know.
#[must_use]
pub fn selects(selector: &Value, labels: &Value) -> bool {
    let value = |key: &str| labels.get(key).and_then(Value::as_str);
    !selector.is_null()
        && has_all(&selector["matchLabels"], labels)
        && selector["matchExpressions"].items().iter().all(|e| {
            let found = e.str_at(["key"]).and_then(value);
            let listed = || e["values"].items().iter().any(|v| v.as_str() == found);
            match e.str_at(["operator"]) {
                Some("In") => found.is_some() && listed(),
                Some("NotIn") => found.is_none() || !listed(),
                Some("Exists") => found.is_some(),
                Some("DoesNotExist") => found.is_none(),
                _ => false,
            }
        })
}

/// Whether labels have all entries of a map; an empty or absent one asks for nothing.
#[must_use]
pub fn has_all(wanted: &Value, labels: &Value) -> bool {
    wanted.as_map().is_none_or(|m| m.iter().all(|(k, v)| labels.get(k) == Some(v)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::yaml;

    #[test]
    fn selectors_choose_as_kubernetes_reads_them() {
        let y = |text: &str| yaml::parse(text, yaml::Dialect::Sigs).unwrap_or_default();
        let labels = y("{app: web, tier: front}");
        for (selector, chosen) in [
            ("{}", true),
            ("null", false),
            ("{matchLabels: {app: web}}", true),
            ("{matchLabels: {app: db}}", false),
            ("{matchExpressions: [{key: app, operator: In, values: [db, web]}]}", true),
            ("{matchExpressions: [{key: app, operator: NotIn, values: [web]}]}", false),
            ("{matchExpressions: [{key: none, operator: NotIn, values: [web]}]}", true),
            ("{matchExpressions: [{key: none, operator: In, values: ['']}]}", false),
            ("{matchExpressions: [{key: tier, operator: Exists}, {key: none, operator: DoesNotExist}]}", true),
            ("{matchExpressions: [{key: tier, operator: Near}]}", false),
        ] {
            assert_eq!(selects(&y(selector), &labels), chosen, "{selector}");
        }
        assert!(selects(&y("{}"), &Value::Null) && !selects(&y("{matchLabels: {a: b}}"), &Value::Null));
    }
}
