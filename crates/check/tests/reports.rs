//! Reports hold all that a finding says, in each form.
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

mod common;

use common::{check_tree, homelab};
use druse_check::{Severity, report};

fn faulty() -> druse_check::Report {
    let mut tree = homelab();
    let text = tree.get_mut("apps/web/release.yaml").unwrap();
    *text = text.replace("existingClaim: web-data", "existingClaim: nowhere");
    check_tree(&tree)
}

#[test]
fn text_says_where_why_and_what_to_do() {
    let text = report::text(&faulty(), Severity::Warning, &|_, t| t.to_string());
    for part in [
        "error[DR024]: PersistentVolumeClaim web/nowhere does not exist",
        "--> apps/web/release.yaml:21",
        "HelmRelease/web/demo",
        "demo/templates/deployment.yaml",
        "why: The pod stays Pending.",
        "help: ",
        "1 error, 0 warnings",
    ] {
        assert!(text.contains(part), "no {part:?} in\n{text}");
    }
}

#[test]
fn json_and_sarif_are_documents_with_the_finding() {
    let json: serde_json::Value = serde_json::from_str(&report::json(&faulty(), Severity::Error)).unwrap();
    assert_eq!(json["findings"][0]["code"], "DR024");
    assert_eq!(json["findings"][0]["line"], 21);
    assert_eq!(json["summary"]["errors"], 1);
    let sarif: serde_json::Value =
        serde_json::from_str(&report::sarif(&faulty(), Severity::Error, "home lab", "1.2.3")).unwrap();
    let run = &sarif["runs"][0];
    assert_eq!(sarif["version"], "2.1.0");
    let result = &run["results"][0];
    assert_eq!(result["ruleId"], "DR024");
    let index = usize::try_from(result["ruleIndex"].as_u64().unwrap()).unwrap();
    assert_eq!(run["tool"]["driver"]["rules"][index]["id"], "DR024");
    let place = &result["locations"][0]["physicalLocation"];
    assert_eq!(place["artifactLocation"]["uri"], "home%20lab/apps/web/release.yaml");
    assert_eq!(place["region"]["startLine"], 21);
}

#[test]
fn annotations_are_commands() {
    let text = report::annotations(&faulty(), Severity::Error, "");
    assert!(text.starts_with("::error file=apps/web/release.yaml,line=21,title=DR024 "), "{text}");
}

#[test]
fn the_value_of_a_secret_is_in_no_finding() {
    let mut tree = homelab();
    let text = tree.get_mut("apps/web/extras.yaml").unwrap();
    *text = text.replace("label: abc", "label: S3cret-Value-1");
    text.push_str("---\napiVersion: v1\nkind: Secret\nmetadata:\n  name: s\nstringData:\n  token: S3cret-Value-1\n");
    let report = check_tree(&tree);
    let json = report::json(&report, Severity::Info);
    assert!(json.contains("DR013") && json.contains("DR060"), "{json}");
    assert!(!json.contains("S3cret") && json.contains("***"), "{json}");
}
