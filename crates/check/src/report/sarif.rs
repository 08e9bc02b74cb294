//! SARIF 2.1.0 (OASIS), which code hosts and editors read.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::in_repository;
use crate::finding::{Finding, Severity};
use crate::{Report, codes};

/// One log with the findings that are at least this bad. `prefix` is the tree's folder in its repository, `version` that
/// of the program.
#[must_use]
pub fn sarif(report: &Report, least: Severity, prefix: &str, version: &str) -> String {
    let rules: Vec<Value> = codes::all()
        .iter()
        .map(|c| {
            json!({
                "id": c.code,
                "name": name(&c.title),
                "shortDescription": {"text": c.title},
                "fullDescription": {"text": c.why},
                "help": {"text": c.remedy},
                "defaultConfiguration": {"level": level(c.severity), "enabled": !c.off},
            })
        })
        .collect();
    let results: Vec<Value> =
        report.findings.iter().filter(|f| f.severity >= least).map(|f| result(f, prefix)).collect();
    let log = json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": {"driver": {
                "name": "druse",
                "semanticVersion": version,
                "rules": rules,
            }},
            "columnKind": "unicodeCodePoints",
            "results": results,
        }],
    });
    format!("{log:#}\n")
}

fn level(severity: Severity) -> &'static str {
    match severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
        Severity::Info => "note",
    }
}

/// A title as one word.
fn name(title: &str) -> String {
    title
        .split(|c: char| !c.is_ascii_alphanumeric())
        .filter(|w| !w.is_empty())
        .map(|w| {
            let (first, rest) = w.split_at(1);
            format!("{}{rest}", first.to_uppercase())
        })
        .collect()
}

fn result(f: &Finding, prefix: &str) -> Value {
    let mut properties = serde_json::Map::new();
    for (key, value) in [("unit", &f.unit), ("object", &f.object), ("field", &f.field), ("template", &f.template)] {
        if let Some(value) = value {
            properties.insert(key.into(), json!(value));
        }
    }
    let index = codes::all().iter().position(|c| c.code == f.code.code).unwrap_or(0);
    let mut out = json!({
        "ruleId": f.code.code,
        "ruleIndex": index,
        "level": level(f.severity),
        "message": {"text": format!("{}\n{}", f.message, f.what_to_do())},
        "properties": properties,
    });
    if let Some(out) = out.as_object_mut()
        && !f.place.file.is_empty()
    {
        let uri = encoded(&in_repository(prefix, &f.place.file));
        out.insert(
            "locations".into(),
            json!([{"physicalLocation": {
                "artifactLocation": {"uri": uri, "uriBaseId": "%SRCROOT%"},
                "region": {"startLine": f.place.line.max(1)},
            }}]),
        );
    }
    out
}

/// A path as a relative URI.
fn encoded(path: &str) -> String {
    let mut out = String::new();
    for b in path.bytes() {
        if b.is_ascii_alphanumeric() || b"/-._~".contains(&b) {
            out.push(char::from(b));
        } else {
            let _ = write!(out, "%{b:02X}");
        }
    }
    out
}
