//! For programs.

use serde_json::json as value;

use crate::Report;
use crate::finding::Severity;

/// One document with the findings that are at least this bad, and a summary.
#[must_use]
pub fn json(report: &Report, least: Severity) -> String {
    let findings: Vec<serde_json::Value> = report
        .findings
        .iter()
        .filter(|f| f.severity >= least)
        .map(|f| {
            value!({
                "code": f.code.code,
                "title": f.code.title,
                "severity": f.severity,
                "file": f.place.file,
                "line": f.place.line,
                "unit": f.unit,
                "object": f.object,
                "field": f.field,
                "template": f.template,
                "message": f.message,
                "why": f.code.why,
                "remedy": f.what_to_do(),
            })
        })
        .collect();
    let all = value!({
        "findings": findings,
        "summary": {
            "errors": report.count(Severity::Error),
            "warnings": report.count(Severity::Warning),
            "notes": report.count(Severity::Info),
            "silenced": report.silenced,
            "units": report.units,
            "objects": report.objects,
            "files": report.files,
        },
    });
    format!("{all:#}\n")
}
