//! `druse check`, end to end: what is printed, for whom, and how it exits.

#![allow(clippy::expect_used, clippy::unwrap_used)]

mod common;

use common::{Lab, deployment};

fn faulty() -> Lab {
    let lab = Lab::new("");
    let image = deployment("good").replace("example.org/good:1", "example.org/good:latest");
    let wrong = image.replace("containers: [", "serviceAccountName: nobody, containers: [");
    lab.file("good/all.yaml", wrong);
    lab
}

#[test]
fn a_tree_without_faults_exits_with_0_and_one_with_errors_with_1() {
    let lab = Lab::new("");
    lab.run(&mut lab.druse(&["check", ".", "--offline"])).says(0, &["0 errors, 0 warnings"]);
    let lab = faulty();
    let r = lab.run(&mut lab.druse(&["check", ".", "--offline"]));
    r.says(
        1,
        &["error[DR023]: ServiceAccount default/nobody does not exist", "--> good/all.yaml:", "1 error, 1 warning"],
    );
    lab.run(&mut lab.druse(&["check", ".", "--offline", "--fail-on", "never"])).says(0, &["DR023"]);
    let r = lab.run(&mut lab.druse(&["check", ".", "--offline", "--severity", "error"]));
    r.says(1, &["DR023"]);
    assert!(!r.stdout.contains("DR070"), "{r}");
}

#[test]
fn programs_get_documents_and_github_annotations() {
    let lab = faulty();
    let r = lab.run(lab.druse(&["check", ".", "--offline", "-o", "sarif"]).env("GITHUB_ACTIONS", "true"));
    let sarif: serde_json::Value = serde_json::from_str(&r.stdout).unwrap();
    assert_eq!(sarif["runs"][0]["results"].as_array().map(Vec::len), Some(2));
    assert!(r.stderr.contains("::error file=good/all.yaml,line="), "{r}");
    let r = lab.run(&mut lab.druse(&["check", ".", "--offline", "-o", "json"]));
    let json: serde_json::Value = serde_json::from_str(&r.stdout).unwrap();
    assert_eq!(json["summary"]["errors"], 1);
    let r = lab.run(lab.druse(&["check", ".", "--offline"]).env("GITHUB_ACTIONS", "true"));
    assert!(r.stdout.contains("\n::warning file=good/all.yaml,line="), "{r}");
}

#[test]
fn codes_are_listed_and_explained() {
    let lab = Lab::bare();
    lab.run(&mut lab.druse(&["check", "--list"])).says(0, &["DR001", "DR097"]);
    lab.run(&mut lab.druse(&["check", "--explain", "dr042"])).says(0, &["DR042", "one object in two units"]);
    lab.run(&mut lab.druse(&["check", "--explain", "DR999"])).says(1, &["--list"]);
}
