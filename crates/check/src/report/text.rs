//! For people.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use crate::Report;
use crate::codes::{self, Code};
use crate::finding::{Finding, Severity};

/// How text is coloured: a style (`error`, `warning`, `info`, `dim`, `bold`, `help`) put on a text.
pub type Paint<'a> = &'a dyn Fn(&str, &str) -> String;

/// The findings that are at least this bad, and what they come to.
#[must_use]
pub fn text(report: &Report, least: Severity, paint: Paint<'_>) -> String {
    let mut out = String::new();
    let mut explained: BTreeSet<&str> = BTreeSet::new();
    for finding in report.findings.iter().filter(|f| f.severity >= least) {
        one(&mut out, finding, explained.insert(&finding.code.code), paint);
    }
    let count = |s: Severity, one: &str, many: &str| {
        let n = report.count(s);
        format!("{n} {}", if n == 1 { one } else { many })
    };
    let mut line = format!(
        "{}, {}, {}",
        count(Severity::Error, "error", "errors"),
        count(Severity::Warning, "warning", "warnings"),
        count(Severity::Info, "note", "notes")
    );
    if report.units == 0 {
        line.push_str("; there is no Flux Kustomization or HelmRelease to check");
    }
    if report.silenced > 0 {
        let _ = write!(line, ", {} silenced", report.silenced);
    }
    let _ = write!(line, " in {} units, {} objects, {} files", report.units, report.objects, report.files);
    // What nobody looked at is said, even where it is only worth knowing.
    let hidden = report.findings.iter().filter(|f| f.code.code == "DR008" && f.severity < least).count();
    if hidden > 0 {
        let (charts, they) =
            if hidden == 1 { ("one chart or source is", "it makes") } else { ("charts or sources are", "they make") };
        let many = if hidden == 1 { String::new() } else { format!("{hidden} ") };
        let _ =
            write!(line, "; {many}{charts} not at hand, and what {they} is not checked (run online or with --mirror)");
    }
    if least > Severity::Info && report.count(Severity::Info) > 0 {
        line.push_str("; --severity info shows the notes");
    }
    let style = report.worst().map_or("bold", Severity::as_str);
    let _ = writeln!(out, "{}", paint(style, &line));
    out
}

fn one(out: &mut String, f: &Finding, first: bool, paint: Paint<'_>) {
    let head = format!("{}[{}]", f.severity, f.code.code);
    let mut lines = f.message.lines();
    let _ = writeln!(out, "{}: {}", paint(f.severity.as_str(), &head), paint("bold", lines.next().unwrap_or_default()));
    for line in lines {
        let _ = writeln!(out, "    {line}");
    }
    let _ = writeln!(out, "  {} {}", paint("dim", "-->"), f.place);
    let mut about: Vec<String> = Vec::new();
    about.extend(f.unit.clone());
    about.extend(f.object.clone().filter(|o| !f.message.contains(o.as_str())));
    about.extend(f.field.clone().filter(|x| !f.message.contains(x.as_str())));
    about.extend(f.template.clone());
    if !about.is_empty() {
        let _ = writeln!(out, "  {} {}", paint("dim", "in"), about.join(" · "));
    }
    if first {
        let _ = writeln!(out, "  {} {}", paint("dim", "why:"), f.code.why);
    }
    let _ = writeln!(out, "  {} {}", paint("help", "help:"), f.what_to_do());
    out.push('\n');
}

/// A code in full.
#[must_use]
pub fn explain(code: &Code) -> String {
    let off = if code.off {
        "\nIt is looked for only when asked for: with --also, or check.severity in .druse.yaml.\n"
    } else {
        ""
    };
    format!(
        "{} ({}): {}\n\n{}\n\nWhat to do: {}\n{off}\nTo accept one, say why at the line or above it:\n  # druse:ignore {} because …\n",
        code.code, code.severity, code.title, code.why, code.remedy, code.code
    )
}

/// All codes, one a line.
#[must_use]
pub fn list() -> String {
    let mut out = String::new();
    for c in codes::all() {
        let off = if c.off { " (off)" } else { "" };
        let _ = writeln!(out, "{}  {:<8} {}{off}", c.code, c.severity.as_str(), c.title);
    }
    out
}
