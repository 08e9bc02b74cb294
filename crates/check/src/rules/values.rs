//! DR016: values that a chart does not use, such as misspelt ones.
//!
//! Charts take any value; most say nothing of those they do not know. Only what occurs nowhere in a chart, not in its
//! defaults, not in a template, not in a file of it, is sure to do nothing. Further down it must be beside values that
//! the chart has, in a map that no template takes as a whole.

use std::sync::{Arc, LazyLock};

use druse_flux::api::HelmRelease;
use druse_flux::config::ConfigData;
use druse_helm::Chart;
use druse_object::{Object, Value};
use druse_plan::sources::Lookup;
use rayon::prelude::*;
use regex::Regex;

use crate::context::Context;
use crate::finding::Finding;
use crate::position::{self, Step};
use crate::words::nearest;

/// How deep values are looked into.
const MAX_DEPTH: usize = 8;

/// Templates that take all values as they are.
#[allow(clippy::unwrap_used, reason = "the pattern is a constant; a test compiles it")]
static WHOLE: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"(toYaml|toJson|range|tpl|merge\w*)[^{}]*\.Values\s*[)|}]").unwrap());

pub(super) fn check(cx: &Context<'_>, out: &mut Vec<Finding>) {
    let found: Vec<Finding> = cx
        .plan
        .units
        .par_iter()
        .filter(|u| u.chart.as_ref().is_some_and(|c| !c.version.is_empty()))
        .flat_map_iter(|unit| {
            let mut found = Vec::new();
            let hr = HelmRelease::read(&unit.definition).ok();
            let chart = hr.and_then(|hr| cx.sources.chart(&Known(cx), &hr).ok()).map(|c| c.chart);
            let values = unit.definition.value["spec"]["values"].as_map();
            if let (Some(chart), Some(values)) = (chart, values) {
                let mut all: Vec<(Vec<String>, Option<String>)> = Vec::new();
                for key in values.keys() {
                    match unused(&chart, key) {
                        Some(like) => all.push((vec![key.to_string()], like)),
                        None => deeper(
                            &chart,
                            &mut vec![key.to_string()],
                            values.get(key).unwrap_or(&Value::Null),
                            &mut all,
                        ),
                    }
                }
                for (path, like) in all {
                    let key = path.join(".");
                    let path: Vec<Step> =
                        ["spec", "values"].into_iter().chain(path.iter().map(String::as_str)).map(Step::from).collect();
                    let name = chart.name();
                    let mut finding = cx.unit(unit, &path, "DR016", format!("chart {name} does not use a value {key}"));
                    if let Some(like) = like {
                        finding = finding.help(format!("correct the name ({like} is one), or remove it"));
                    }
                    found.push(finding);
                }
            }
            found
        })
        .collect();
    out.extend(found);
}

/// Whether a chart has nothing to do with a value; if so, the value that may have been meant.
fn unused(chart: &Chart, key: &str) -> Option<Option<String>> {
    let known = chart.values.get(key).is_some()
        || matches!(key, "global" | "tags")
        || key.starts_with(['x', '_', '.']) && !key.chars().all(char::is_alphanumeric)
        || chart.metadata.dependencies.iter().flatten().any(|d| d.name == key || d.alias == key);
    if known || occurs(chart, key) {
        return None;
    }
    let names: Vec<&str> = chart.values.as_map().into_iter().flat_map(|m| m.keys()).map(|k| k.as_str()).collect();
    Some(nearest(key, names.into_iter()).map(str::to_string))
}

/// Values below one that the chart has, which it does not use.
fn deeper(chart: &Chart, path: &mut Vec<String>, value: &Value, out: &mut Vec<(Vec<String>, Option<String>)>) {
    let steps: Vec<Step> = path.iter().map(|k| Step::from(k.as_str())).collect();
    let default = position::at(&chart.values, &steps).and_then(Value::as_map).filter(|m| !m.is_empty());
    let (Some(default), Some(map)) = (default, value.as_map()) else { return };
    if path.len() > MAX_DEPTH || is_passed_on(chart, path) {
        return;
    }
    for (key, value) in map.iter() {
        path.push(key.to_string());
        if default.contains_key(key) {
            deeper(chart, path, value, out);
        } else if !occurs(chart, key) {
            out.push((path.clone(), nearest(key, default.keys().map(|k| k.as_str())).map(str::to_string)));
        }
        path.pop();
    }
}

/// Whether a template takes a map of the values, or one around it, as a whole.
fn is_passed_on(chart: &Chart, path: &[String]) -> bool {
    let Some(first) = path.first() else { return true };
    // What is no word is taken with `index`, from a map as a whole.
    if path.iter().any(|k| !k.bytes().all(|b| b == b'_' || b.is_ascii_alphanumeric())) {
        return true;
    }
    if chart.metadata.dependencies.iter().flatten().any(|d| d.name == *first || d.alias == *first) {
        return true;
    }
    (1..=path.len()).any(|n| {
        let whole = format!(".Values.{}", path.get(..n).unwrap_or_default().join("."));
        chart.templates.iter().any(|f| {
            let text = f.text();
            text.match_indices(&whole).any(|(i, w)| {
                let next = text.get(i + w.len()..).and_then(|rest| rest.chars().next());
                let asked = text.get(..i).is_some_and(|before| before.ends_with("hasKey "));
                !asked && next.is_none_or(|c| c != '.' && c != '_' && !c.is_alphanumeric())
            })
        })
    })
}

/// Whether a text has a word that is no part of a longer one.
fn has_word(text: &[u8], word: &str) -> bool {
    let inside = |b: Option<&u8>| b.is_some_and(|b| *b == b'_' || b.is_ascii_alphanumeric());
    memchr::memmem::find_iter(text, word.as_bytes())
        .any(|i| !inside(i.checked_sub(1).and_then(|i| text.get(i))) && !inside(text.get(i + word.len())))
}

/// Whether a word is anywhere in a chart, or the chart passes on all values.
fn occurs(chart: &Chart, word: &str) -> bool {
    chart
        .templates
        .iter()
        .chain(&chart.files)
        .any(|f| has_word(&f.data, word) || f.name.starts_with("templates/") && WHOLE.is_match(&f.text()))
        || chart.dependencies.iter().any(|d| d.values.get(word).is_some() || occurs(d, word))
}

/// Sources among the plan's objects, or that were applied by hand to begin with.
struct Known<'c, 'p>(&'c Context<'p>);

impl Lookup for Known<'_, '_> {
    fn get(&self, kind: &str, namespace: &str, name: &str) -> Option<Arc<Object>> {
        if let Some(found) = self.0.index.named("source.toolkit.fluxcd.io", kind, namespace, name).next() {
            return Some(Arc::new(found.object.clone()));
        }
        let same = |o: &&Arc<Object>| o.kind() == kind && o.namespace() == namespace && o.name() == name;
        self.0.sources.scanned().iter().find(same).cloned()
    }
    fn secret(&self, _: &str, _: &str) -> Option<ConfigData> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_no_part_of_another() {
        assert!(has_word(b"{{ .Values.manageCRDs }}", "manageCRDs") && has_word(b"key", "key"));
        assert!(!has_word(b"{{ .Values.manageCRDs }}", "manageCRD") && !has_word(b"", "x"));
    }

    #[test]
    fn templates_that_take_all_values_are_recognised() {
        assert!(WHOLE.is_match("{{ toYaml .Values }}") && WHOLE.is_match("{{- range $k, $v := .Values }}"));
        assert!(!WHOLE.is_match("{{ toYaml .Values.resources }}"));
    }
}
