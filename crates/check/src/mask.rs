//! Keeps what Secrets hold out of findings: messages of others may quote a value.

use druse_flux::config::config_data;
use druse_plan::Plan;

use crate::finding::Finding;

/// What stands in a secret's place.
const MASK: &str = "***";
/// Shorter values are words, or no secrets.
const SHORTEST: usize = 8;

/// Puts a mask over every value of a Secret that a finding quotes.
pub(crate) fn apply(findings: &mut [Finding], plan: &Plan) {
    let objects = plan.units.iter().flat_map(|u| u.objects.iter().chain(u.hooks.iter().map(|h| &h.object)));
    let mut values: Vec<String> = objects
        .filter(|o| o.is_secret() && o.value.get("sops").is_none())
        .flat_map(|o| config_data(&o.value).into_values())
        .filter_map(|bytes| String::from_utf8(bytes).ok())
        .map(|text| text.trim().to_string())
        .filter(|text| text.len() >= SHORTEST && !is_name(text) && !text.starts_with(druse_sops::PLACEHOLDER_PREFIX))
        .collect();
    values.sort_by_key(|v| std::cmp::Reverse(v.len()));
    values.dedup();
    for finding in findings {
        for value in &values {
            for text in [Some(&mut finding.message), finding.remedy.as_mut()].into_iter().flatten() {
                if text.contains(value.as_str()) {
                    *text = text.replace(value.as_str(), MASK);
                }
            }
        }
    }
}

/// Whether a text is what things are called: small letters and hyphens only.
fn is_name(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_lowercase() || b == b'-')
}
