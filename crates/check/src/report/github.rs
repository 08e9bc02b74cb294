//! Workflow commands of GitHub Actions, which the site shows at the lines of a change.

use std::fmt::Write as _;

use super::in_repository;
use crate::Report;
use crate::finding::Severity;

/// One annotation a line for the findings that are at least this bad. `prefix` is the tree's folder in its repository.
#[must_use]
pub fn annotations(report: &Report, least: Severity, prefix: &str) -> String {
    let mut out = String::new();
    for f in report.findings.iter().filter(|f| f.severity >= least) {
        let command = match f.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
            Severity::Info => "notice",
        };
        let mut properties = Vec::new();
        if !f.place.file.is_empty() {
            properties.push(format!("file={}", property(&in_repository(prefix, &f.place.file))));
            properties.push(format!("line={}", f.place.line.max(1)));
        }
        properties.push(format!("title={}", property(&format!("{} {}", f.code.code, f.code.title))));
        let message = format!("{}\n{}", f.message, f.what_to_do());
        let _ = writeln!(out, "::{command} {}::{}", properties.join(","), data(&message));
    }
    out
}

fn data(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::{Finding, Place};

    #[test]
    fn what_would_end_a_command_is_escaped() {
        let findings = vec![Finding::new("DR001", Place::new("a,b:c.yaml", 0), "50%\nof it").help("mend it")];
        let report = Report { findings, ..Report::default() };
        assert_eq!(
            annotations(&report, Severity::Info, "home"),
            "::error file=home/a%2Cb%3Ac.yaml,line=1,title=DR001 not YAML::50%25%0Aof it%0Amend it\n"
        );
    }
}
