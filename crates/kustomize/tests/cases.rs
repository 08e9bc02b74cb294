//! Small trees, one a field or fault, each with what `kubectl kustomize` 1.37.1 (kustomize 5.8.1) makes of it.
//!
//! A case is a file: its tree's files after `=== PATH` lines, then `=== expected` (objects) or `=== error` (message,
//! the tree's path as `<dir>`). With DRUSE_RECORD set and a kubectl, the last part is written anew. `=== differs`
//! instead says on purpose what we answer where it is not kubectl's answer.

#![allow(clippy::unwrap_used)]

mod common;

use std::path::Path;

use druse_kustomize::{BuildOptions, MemoryTree, build, to_yaml};

struct Case {
    files: Vec<(String, Vec<u8>)>,
    /// The heading of the last part and its text.
    expected: Option<(String, String)>,
}

fn read(text: &str) -> Case {
    let mut case = Case { files: Vec::new(), expected: None };
    let mut parts: Vec<(String, String)> = Vec::new();
    for line in text.split_inclusive('\n') {
        match (line.strip_prefix("=== "), parts.last_mut()) {
            (Some(path), _) => parts.push((path.trim().to_string(), String::new())),
            (None, Some((_, content))) => content.push_str(line),
            (None, None) => {}
        }
    }
    for (path, content) in parts {
        match path.as_str() {
            "expected" | "error" | "differs" => case.expected = Some((path, content)),
            _ => {
                let bytes = match content.trim_end().strip_prefix("binary:") {
                    Some(hex) => hex
                        .as_bytes()
                        .chunks(2)
                        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
                        .collect(),
                    None => content.into_bytes(),
                };
                case.files.push((path, bytes));
            }
        }
    }
    case
}

fn record(file: &Path, case: &Case, kubectl: &Path) -> (String, String) {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().canonicalize().unwrap();
    for (path, content) in &case.files {
        let path = root.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }
    let start = if root.join("k").is_dir() { root.join("k") } else { root.clone() };
    let (heading, text) = match common::kustomize(kubectl, &start) {
        Ok(text) => ("expected", text),
        Err(text) => ("error", text.replace(&root.display().to_string(), "<dir>")),
    };
    if std::env::var_os("DRUSE_RECORD").is_some() {
        let old = std::fs::read_to_string(file).unwrap();
        if !old.contains("\n=== differs\n") {
            let end =
                ["\n=== expected\n", "\n=== error\n"].iter().find_map(|h| old.find(h)).map_or(old.len(), |i| i + 1);
            let new = format!("{}=== {heading}\n{}\n", &old[..end], text.trim_end());
            std::fs::write(file, new).unwrap();
        }
    }
    (heading.to_string(), text)
}

#[test]
fn every_case_builds_as_with_kubectl() {
    let kubectl = common::kubectl();
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases");
    let mut files: Vec<_> = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).collect();
    files.sort();
    let mut problems = Vec::new();
    for file in &files {
        let name = file.file_stem().unwrap().to_str().unwrap();
        let case = read(&std::fs::read_to_string(file).unwrap());
        let tree: MemoryTree = case.files.iter().map(|(p, c)| (p, c.clone())).collect();
        let start = if case.files.iter().any(|(p, _)| p.starts_with("k/")) { "k" } else { "" };
        let options = BuildOptions { shown_root: "<dir>", ..BuildOptions::default() };
        let ours = build(&tree, start, &options);
        let live = kubectl.as_ref().map(|k| record(file, &case, k));
        let differs = case.expected.as_ref().is_some_and(|(heading, _)| heading == "differs");
        for (heading, text) in case.expected.into_iter().chain(live.filter(|_| !differs)) {
            let theirs = match heading.as_str() {
                "error" => Err(text),
                "differs" if ours.is_err() => Err(text),
                _ => Ok(text),
            };
            let mut difference = common::difference(&ours, &theirs);
            if let (None, Ok(ours), Ok(theirs)) = (&difference, &ours, &theirs)
                && to_yaml(ours).trim() != theirs.trim()
            {
                difference = Some(format!("bytes differ\n--- ours\n{}--- theirs\n{theirs}", to_yaml(ours)));
            }
            if let Some(difference) = difference {
                problems.push(format!("##### {name}: {difference}"));
                break;
            }
        }
    }
    assert!(problems.is_empty(), "{} of {} cases:\n{}", problems.len(), files.len(), problems.join("\n"));
}
