//! Findings that people accept: at a line, for an object, for paths; each with its reason.
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

mod common;

use common::{check_tree, found, homelab};

const DEPLOYMENT: &str = "apps/web/deployment.yaml";

fn unpinned(edit: impl Fn(&str) -> String) -> Vec<String> {
    let mut tree = homelab();
    let text = tree.get_mut(DEPLOYMENT).unwrap();
    *text = edit(&text.replace("web:1.2.3", "web:latest"));
    found(&check_tree(&tree))
}

#[test]
fn a_comment_silences_its_line_what_follows_it_or_the_object() {
    assert_eq!(
        unpinned(|t| t.replace("web:latest", "web:latest # druse:ignore DR070 built here")),
        Vec::<String>::new()
    );
    assert_eq!(
        unpinned(|t| t.replace("      containers:", "      # druse:ignore DR070 built here\n      containers:")),
        Vec::<String>::new()
    );
    assert_eq!(unpinned(|t| format!("# druse:ignore DR070,DR082 built here\n{t}")), Vec::<String>::new());
}

#[test]
fn a_comment_silences_only_its_codes() {
    let got = unpinned(|t| t.replace("web:latest", "web:latest # druse:ignore DR013 wrong code"));
    assert_eq!(got.len(), 2, "{got:?}");
    assert!(got[0].starts_with("DR070") && got[1].starts_with("DR096"), "{got:?}");
}

#[test]
fn the_configuration_silences_paths_and_sets_how_bad_things_are() {
    let with = |config: &str| {
        let mut tree = homelab();
        let text = tree.get_mut(DEPLOYMENT).unwrap();
        *text = text.replace("web:1.2.3", "web:latest");
        tree.insert(".druse.yaml".into(), config.into());
        let report = check_tree(&tree);
        (found(&report), report.silenced)
    };
    let ignore = "check:\n  ignore:\n    - codes: [DR070]\n      paths: [apps/web]\n      reason: built here\n";
    assert_eq!(with(ignore), (Vec::new(), 1));
    let (got, _) = with(&ignore.replace("apps/web", "apps/base"));
    assert_eq!(
        got,
        [".druse.yaml:3", "apps/web/deployment.yaml:28"]
            .map(|p| format!("{} {p}", if p.starts_with('.') { "DR096" } else { "DR070" }))
    );
    assert_eq!(with("check:\n  severity: {DR070: off}\n").0, Vec::<String>::new());
    assert_eq!(with("check:\n  severity: {DR070: off}\n  ignroe: []\n").0, ["DR097 .druse.yaml:3"]);
    let (got, _) = with("check:\n  ignore:\n    - codes: [DR070]\n      paths: [apps/web]\n");
    assert_eq!(got, ["DR095 .druse.yaml:3"]);
}
