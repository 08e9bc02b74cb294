//! The registry of codes: what kinds of faults are found, how bad each is, why it matters and what to do.
//!
//! The table is `data/codes.yaml`. A code is never given another meaning.

use std::sync::LazyLock;

use druse_object::{Value, yaml};
use serde::Deserialize;

use crate::finding::Severity;

/// A kind of fault.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Code {
    /// `DR0xx`.
    pub code: String,
    /// What it is about, in a few words.
    pub title: String,
    /// How bad it is unless a finding says otherwise.
    #[serde(deserialize_with = "severity")]
    pub severity: Severity,
    /// Whether it is only looked for when asked for.
    #[serde(default)]
    #[serde(rename = "onRequest")]
    pub off: bool,
    /// Why it matters.
    pub why: String,
    /// What to do.
    pub remedy: String,
}

fn severity<'de, D: serde::Deserializer<'de>>(d: D) -> Result<Severity, D::Error> {
    String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
}

static ALL: LazyLock<Vec<Code>> = LazyLock::new(|| {
    yaml::parse(include_str!("../data/codes.yaml"), yaml::Dialect::Sigs)
        .ok()
        .as_ref()
        .map(Value::items)
        .unwrap_or_default()
        .iter()
        .filter_map(|v| v.to_typed().ok())
        .collect()
});

static UNKNOWN: LazyLock<Code> = LazyLock::new(|| Code {
    code: "DR002".into(),
    title: "fault".into(),
    severity: Severity::Error,
    off: false,
    why: String::new(),
    remedy: String::new(),
});

/// All codes, in order.
#[must_use]
pub fn all() -> &'static [Code] {
    &ALL
}

/// The code with this name, in any letter case.
#[must_use]
pub fn find(code: &str) -> Option<&'static Code> {
    all().iter().find(|c| c.code.eq_ignore_ascii_case(code))
}

pub(crate) fn get(code: &str) -> &'static Code {
    find(code).unwrap_or(&UNKNOWN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_entry_of_the_table_is_read_once_and_says_what_to_do() {
        let entries = yaml::parse(include_str!("../data/codes.yaml"), yaml::Dialect::Sigs).unwrap().items().len();
        assert_eq!(all().len(), entries);
        for pair in all().windows(2) {
            assert!(pair[0].code < pair[1].code, "{} comes twice or out of order", pair[1].code);
        }
        for code in all() {
            assert!(code.code.starts_with("DR0") && code.code.len() == 5, "{}", code.code);
            assert!(!code.title.is_empty() && !code.why.is_empty() && !code.remedy.is_empty(), "{}", code.code);
        }
    }
}
