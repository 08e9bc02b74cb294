//! Silences: findings that a person has looked at and accepts, with the reason.
//!
//! In a YAML file, `# druse:ignore DR021 made by hand on first install` at the end of a line silences findings of that
//! code on that line; on a line of its own it silences them for what comes next: the field with all below it, or the
//! whole document when it stands before or at its start. In `.druse.yaml`, `check.ignore` silences codes for paths.
//! A silence without a reason still holds, but is a finding itself, as is one that silences nothing.

use std::cell::Cell;

use regex::Regex;

use crate::codes;
use crate::config::Config;
use crate::files::{File, Files};
use crate::finding::{Finding, Place};

const MARK: &str = "druse:ignore";

struct Silence {
    place: Place,
    codes: Vec<String>,
    what: Scope,
    used: Cell<bool>,
}

enum Scope {
    /// These lines of the place's file.
    Lines(u32, u32),
    /// Files that match one of these.
    Paths(Vec<Regex>),
}

impl Silence {
    fn covers(&self, finding: &Finding) -> bool {
        self.codes.iter().any(|c| c.eq_ignore_ascii_case(&finding.code.code))
            && match &self.what {
                Scope::Lines(from, to) => {
                    self.place.file == finding.place.file && (*from..=*to).contains(&finding.place.line)
                }
                Scope::Paths(paths) => paths.iter().any(|p| p.is_match(&finding.place.file)),
            }
    }
}

/// Takes silenced findings out, and adds those about silences. Returns how many were silenced.
pub(crate) fn apply(findings: &mut Vec<Finding>, files: &Files, config: &Config, all_known: bool) -> usize {
    let mut silences = Vec::new();
    let mut faults = Vec::new();
    for file in files.iter().filter(|f| memchr::memmem::find(f.text().as_bytes(), MARK.as_bytes()).is_some()) {
        comments(file, &mut silences, &mut faults);
    }
    for entry in &config.ignore {
        let place = entry.place.clone();
        judge(&entry.codes, &entry.reason, &place, &mut faults);
        let paths = entry.paths.iter().filter_map(|p| glob(p)).collect();
        silences.push(Silence { place, codes: entry.codes.clone(), what: Scope::Paths(paths), used: Cell::new(false) });
    }
    let before = findings.len();
    findings.retain(|f| {
        let mut kept = true;
        for silence in silences.iter().filter(|s| s.covers(f)) {
            silence.used.set(true);
            kept = false;
        }
        kept
    });
    let silenced = before - findings.len();
    // What a silence is for may be in what did not render.
    for silence in silences.iter().filter(|s| all_known && !s.used.get()) {
        let known: Vec<&str> = silence.codes.iter().filter(|c| codes::find(c).is_some()).map(String::as_str).collect();
        if !known.is_empty() {
            let message = format!("there is no {} here to silence", known.join(" or "));
            faults.push(Finding::new("DR096", silence.place.clone(), message));
        }
    }
    findings.append(&mut faults);
    silenced
}

fn judge(codes: &[String], reason: &str, place: &Place, faults: &mut Vec<Finding>) {
    for code in codes.iter().filter(|c| codes::find(c).is_none()) {
        faults.push(Finding::new("DR097", place.clone(), format!("{code:?} is no code of a finding")));
    }
    if codes.is_empty() {
        faults.push(Finding::new("DR097", place.clone(), "the silence names no code"));
    } else if reason.trim().is_empty() {
        let message = format!("{} is silenced without a reason", codes.join(", "));
        faults.push(Finding::new("DR095", place.clone(), message));
    }
}

fn comments(file: &File, silences: &mut Vec<Silence>, faults: &mut Vec<Finding>) {
    let lines: Vec<&str> = file.text().lines().collect();
    for (i, line) in lines.iter().enumerate() {
        let Some((before, rest)) = line.split_once(MARK) else { continue };
        let Some(content) =
            before.trim_end().strip_suffix('#').filter(|c| c.is_empty() || c.ends_with(char::is_whitespace))
        else {
            continue;
        };
        let mut words = rest.trim().splitn(2, char::is_whitespace);
        let mut codes: Vec<String> = Vec::new();
        let mut reason = rest.trim();
        // Codes may be set apart by commas or spaces.
        while let Some(first) = words.next().filter(|w| w.split(',').any(is_code)) {
            codes.extend(first.split(',').filter(|c| !c.is_empty()).map(str::to_string));
            reason = words.next().unwrap_or_default().trim();
            words = reason.splitn(2, char::is_whitespace);
        }
        let at = u32::try_from(i + 1).unwrap_or(u32::MAX);
        let place = Place::new(&file.path, at);
        judge(&codes, reason.trim_start_matches([':', '-', ' ']), &place, faults);
        let what = if content.trim().is_empty() { next(file, &lines, i) } else { Scope::Lines(at, at) };
        silences.push(Silence { place, codes, what, used: Cell::new(false) });
    }
}

fn is_code(word: &str) -> bool {
    word.len() == 5
        && word.get(..2).is_some_and(|d| d.eq_ignore_ascii_case("dr"))
        && word.bytes().skip(2).all(|b| b.is_ascii_digit())
}

/// What follows a comment on a line of its own.
fn next(file: &File, lines: &[&str], comment: usize) -> Scope {
    let number = |i: usize| u32::try_from(i + 1).unwrap_or(u32::MAX);
    let text = |i: usize| lines.get(i).map(|l| l.trim_start()).unwrap_or_default();
    let Some(first) =
        (comment + 1..lines.len()).find(|i| !matches!(text(*i).chars().next(), None | Some('#')) && text(*i) != "---")
    else {
        return Scope::Lines(number(comment), number(comment));
    };
    if let Some(document) = file.documents().iter().find(|d| d.line == number(first)) {
        return Scope::Lines(document.line, document.end);
    }
    let indent = |i: usize| lines.get(i).map_or(0, |l| l.len() - l.trim_start().len());
    let last = (first + 1..lines.len())
        .take_while(|i| text(*i).is_empty() || indent(*i) > indent(first))
        .last()
        .unwrap_or(first);
    Scope::Lines(number(first), number(last))
}

/// A path pattern: `*` within a name, `**` over folders; a folder stands for all in it.
pub(crate) fn glob(pattern: &str) -> Option<Regex> {
    let pattern = pattern.trim_start_matches("./").trim_end_matches('/');
    let mut out = String::from("^");
    let mut rest = pattern;
    while let Some(c) = rest.chars().next() {
        if let Some(more) = rest.strip_prefix("**/") {
            out.push_str("(.*/)?");
            rest = more;
        } else if let Some(more) = rest.strip_prefix("**") {
            out.push_str(".*");
            rest = more;
        } else {
            match c {
                '*' => out.push_str("[^/]*"),
                '?' => out.push_str("[^/]"),
                c => out.push_str(&regex::escape(c.encode_utf8(&mut [0; 4]))),
            }
            rest = rest.get(c.len_utf8()..).unwrap_or_default();
        }
    }
    out.push_str("(/.*)?$");
    Regex::new(&out).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_files_and_all_in_folders() {
        let fits = |p: &str, path: &str| glob(p).unwrap().is_match(path);
        assert!(fits("kubernetes/archive", "kubernetes/archive/a/b.yaml"));
        assert!(fits("kubernetes/*/secret.yaml", "kubernetes/a/secret.yaml"));
        assert!(!fits("kubernetes/*/secret.yaml", "kubernetes/a/b/secret.yaml"));
        assert!(fits("**/secret.yaml", "secret.yaml") && fits("**/secret.yaml", "a/b/secret.yaml"));
        assert!(!fits("a", "ab"));
    }
}
