//! Sessions of kubectl as files.
//!
//! `$ kubectl …` is run, the lines below it are what it prints, `! …` what it prints as errors and warnings, `= N` its exit
//! status when it is not 0. In a line `*` stands for any text and blanks for any blanks; a line `...` stands for any lines.
//! `@file NAME` up to `@end` is a file the commands may name. Nothing else may be printed, so a warning that a real server
//! would not give fails.

use std::path::Path;
use std::process::Command;

/// One command and what is expected of it.
#[derive(Debug, Default)]
struct Step {
    line: usize,
    command: Vec<String>,
    out: Vec<String>,
    errors: Vec<String>,
    code: i32,
}

/// Splits a command line as a shell does, as far as quotes go.
fn words(text: &str) -> Vec<String> {
    let (mut out, mut word, mut quote) = (Vec::new(), None::<String>, None);
    for c in text.chars() {
        match (quote, c) {
            (Some(q), c) if q == c => quote = None,
            (Some(_), c) => word.get_or_insert_default().push(c),
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, ' ') => out.extend(word.take()),
            (None, c) => word.get_or_insert_default().push(c),
        }
    }
    out.extend(word);
    out
}

/// Reads a session, and writes its files into `folder`.
fn read(text: &str, folder: &Path) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let mut lines = text.lines().enumerate();
    while let Some((i, line)) = lines.next() {
        if let Some(name) = line.strip_prefix("@file ") {
            let body: Vec<&str> = lines.by_ref().map(|(_, l)| l).take_while(|l| *l != "@end").collect();
            std::fs::write(folder.join(name), body.join("\n") + "\n").unwrap();
        } else if let Some(command) = line.strip_prefix("$ kubectl ") {
            steps.push(Step { line: i + 1, command: words(command), ..Step::default() });
        } else if !line.starts_with('#')
            && !line.is_empty()
            && let Some(step) = steps.last_mut()
        {
            if let Some(code) = line.strip_prefix("= ") {
                step.code = code.parse().unwrap();
            } else if let Some(error) = line.strip_prefix("! ") {
                step.errors.push(error.to_owned());
            } else {
                step.out.push(line.to_owned());
            }
        }
    }
    steps
}

fn blanks(line: &str) -> String {
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn line_matches(pattern: &str, line: &str) -> bool {
    let (pattern, line) = (blanks(pattern), blanks(line));
    let mut parts = pattern.split('*');
    let Some(mut rest) = line.strip_prefix(parts.next().unwrap_or_default()) else { return false };
    let parts: Vec<&str> = parts.collect();
    let Some((last, middle)) = parts.split_last() else { return rest.is_empty() };
    for p in middle {
        let Some(at) = rest.find(p) else { return false };
        rest = &rest[at + p.len()..];
    }
    rest.ends_with(last)
}

fn lines_match(patterns: &[String], lines: &[&str]) -> bool {
    match (patterns, lines) {
        ([], []) => true,
        ([p, more @ ..], lines) if p == "..." => (0..=lines.len()).any(|n| lines_match(more, &lines[n..])),
        ([p, more @ ..], [l, rest @ ..]) => line_matches(p, l) && lines_match(more, rest),
        _ => false,
    }
}

/// Plays a session; answers what went otherwise.
pub fn play(kubectl: &Path, folder: &Path, text: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    for step in read(text, folder) {
        let done = Command::new(kubectl)
            .args(&step.command)
            .current_dir(folder)
            .env("KUBECONFIG", folder.join("kubeconfig"))
            .env("HOME", folder)
            // An editor that needs nobody.
            .env("KUBE_EDITOR", "sed -i s/blue/green/")
            .output()
            .unwrap();
        let (out, errors) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
        let shown =
            |text: &str| -> Vec<String> { text.lines().filter(|l| !l.trim().is_empty()).map(str::to_owned).collect() };
        let (out, errors) = (shown(&out), shown(&errors));
        let fits = |patterns: &[String], lines: &[String]| {
            lines_match(patterns, &lines.iter().map(String::as_str).collect::<Vec<_>>())
        };
        let code = done.status.code().unwrap_or(-1);
        if code != step.code || !fits(&step.out, &out) || !fits(&step.errors, &errors) {
            let errors: Vec<String> = errors.iter().map(|e| format!("! {e}")).collect();
            wrong.push(format!(
                "line {}: kubectl {}\n{}\n{}\n= {code}\n",
                step.line,
                step.command.join(" "),
                out.join("\n"),
                errors.join("\n")
            ));
        }
    }
    wrong
}
