//! Fields that the API server refuses to change, from a table (`data/immutable.json`) of what it and the validation of
//! each built-in kind say; for custom resources only what their schemas are known to refuse.

use std::sync::LazyLock;

use druse_object::{Object, Value};
use druse_plan::UnitKind;

use super::{Found, Subject, at, change, data, text_at};
use crate::model::Severity;

/// Fields of some kinds that cannot be changed.
#[derive(serde::Deserialize)]
struct Rule {
    group: String,
    kinds: Vec<String>,
    fields: Vec<String>,
    /// What the API server sets when the field is left out.
    default: Option<String>,
    /// `both-set`: only a change from one value to another counts, for the cluster fills the field in.
    when: Option<String>,
}

static RULES: LazyLock<Vec<Rule>> =
    LazyLock::new(|| serde_json::from_str(include_str!("../../data/immutable.json")).unwrap_or_default());

pub(super) fn check(found: &mut Found<'_>, subject: &Subject<'_>) {
    // A hook is deleted before it is made again, and what moves or is renamed is made anew.
    let Some((old, new)) = subject.both().filter(|_| !subject.pair.hook && !subject.pair.renamed()) else { return };
    let gvk = new.gvk();
    for rule in RULES.iter().filter(|r| r.group == gvk.group.as_str() && r.kinds.iter().any(|k| k == gvk.kind.as_str()))
    {
        for field in &rule.fields {
            if changes(rule, field, &old.value, &new.value) {
                report(found, subject, new, field, &change(at(&old.value, field), at(&new.value, field)));
            }
        }
    }
    // A Service without clusterIP has been given one; only `None` in its place is refused then.
    if subject.is("", &["Service"])
        && text_at(&old.value, "spec.clusterIP").is_none()
        && text_at(&new.value, "spec.clusterIP") == Some("None")
        && text_at(&old.value, "spec.type").is_none_or(|t| t != "ExternalName")
    {
        report(found, subject, new, "spec.clusterIP", "from an address of the cluster to None");
    }
    if subject.is("", &["ConfigMap", "Secret"]) && at(&old.value, "immutable").and_then(Value::as_bool) == Some(true) {
        let differ: Vec<&str> = ["data", "stringData", "binaryData", "immutable"]
            .into_iter()
            .filter(|f| at(&old.value, f) != at(&new.value, f))
            .collect();
        if let Some(first) = differ.first() {
            report(found, subject, new, first, "though it says immutable: true");
        }
    }
}

fn changes(rule: &Rule, field: &str, old: &Value, new: &Value) -> bool {
    let default = rule.default.as_deref().map(Value::from);
    let (from, to) = (at(old, field), at(new, field));
    if rule.when.as_deref() == Some("both-set") && (from.is_none() || to.is_none()) {
        return false;
    }
    let (from, to) = (from.or(default.as_ref()), to.or(default.as_ref()));
    // Null and nothing are the same to the API server, and so are empty collections.
    let is_empty = |v: Option<&Value>| match v {
        None | Some(Value::Null) => true,
        Some(Value::Map(m)) => m.is_empty(),
        Some(Value::Array(a)) => a.is_empty(),
        _ => false,
    };
    from != to && !(is_empty(from) && is_empty(to))
}

fn report(found: &mut Found<'_>, subject: &Subject<'_>, new: &Object, field: &str, how: &str) {
    let what = format!("{field} changes {how}");
    let forced = subject.pair.head.is_some_and(|h| {
        h.unit.id.kind == UnitKind::Kustomization
            && (at(&h.unit.definition.value, "spec.force").and_then(Value::as_bool) == Some(true)
                || new
                    .annotation("kustomize.toolkit.fluxcd.io/force")
                    .is_some_and(|v| v.eq_ignore_ascii_case("enabled")))
    });
    if forced {
        let severity = if data::holds_data(new) { Severity::Danger } else { Severity::Warning };
        let title = format!("{what}: it is deleted and made anew");
        found.pair("recreated-by-force", &subject.pair, title).map(|d| d.field(field).severity(severity));
        return;
    }
    let Some(danger) = found.pair("immutable-field", &subject.pair, format!("{what}, which is refused")) else {
        return;
    };
    let old = subject.pair.base.map(|b| &b.object.value);
    danger.field(&super::deepest(field, old.and_then(|o| at(o, field)), at(&new.value, field)));
    if subject.pair.head.is_some_and(|h| h.unit.id.kind == UnitKind::HelmRelease) {
        danger.remedy = "Delete the object right before the upgrade, so that it is made anew, or give the changed object another name.".into();
    }
    if new.kind() == "Job" && at(&new.value, "spec.ttlSecondsAfterFinished").is_some() {
        danger.severity(Severity::Warning).also("It has ttlSecondsAfterFinished, so it may be gone by then.");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_read() {
        assert!(RULES.len() > 15);
    }
}
