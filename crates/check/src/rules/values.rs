//! DR016: values that a chart does not use, such as misspelt ones.
//!
//! Charts take any value; most say nothing of those they do not know. Only what occurs nowhere in a chart, not in its
//! defaults, not in a template, not in a file of it, is sure to do nothing, and only at the top level, as maps further
//! down may be passed on as they are.

use std::sync::{Arc, LazyLock};

use druse_flux::api::HelmRelease;
use druse_flux::config::ConfigData;
use druse_helm::Chart;
use druse_object::Object;
use druse_plan::sources::Lookup;
use rayon::prelude::*;
use regex::Regex;

use crate::context::Context;
use crate::finding::Finding;
use crate::position::Step;
use crate::words::nearest;

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
                for key in values.keys() {
                    if let Some(like) = unused(&chart, key) {
                        let path = ["spec", "values", key.as_str()].map(Step::from);
                        let name = chart.name();
                        let mut finding =
                            cx.unit(unit, &path, "DR016", format!("chart {name} does not use a value {key}"));
                        if let Some(like) = like {
                            finding = finding.help(format!("correct the name ({like} is one), or remove it"));
                        }
                        found.push(finding);
                    }
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

/// Whether a word is anywhere in a chart, or the chart passes on all values.
fn occurs(chart: &Chart, word: &str) -> bool {
    chart.templates.iter().chain(&chart.files).any(|f| {
        memchr::memmem::find(&f.data, word.as_bytes()).is_some()
            || f.name.starts_with("templates/") && WHOLE.is_match(&f.text())
    }) || chart.dependencies.iter().any(|d| d.values.get(word).is_some() || occurs(d, word))
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
    fn templates_that_take_all_values_are_recognised() {
        assert!(WHOLE.is_match("{{ toYaml .Values }}") && WHOLE.is_match("{{- range $k, $v := .Values }}"));
        assert!(!WHOLE.is_match("{{ toYaml .Values.resources }}"));
    }
}
