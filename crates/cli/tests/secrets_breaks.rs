//! Breaks planted one at a time in copies of the reference homelab: each link of the way from a pod to its parameter, in
//! Kubernetes and in Terraform, in each of the three ways to write a role. Each must be one finding with both its ends.
#![allow(clippy::unwrap_used, clippy::expect_used)] // helpers of tests

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::{Lab, git};
use druse_object::{Value, json, yaml};

const BREAKS: &str = include_str!("breaks/homelab.breaks");
const READERS: &str = "homelab/terraform/aws/readers.tf";

/// A copy of the homelab whose roles are written in one of the ways.
fn homelab(way: &str) -> Lab {
    fn copy(from: &Path, to: &Path) {
        fs::create_dir_all(to).unwrap();
        for entry in fs::read_dir(from).unwrap() {
            let (from, to) = (entry.as_ref().unwrap().path(), to.join(entry.unwrap().file_name()));
            match from.is_dir() {
                true => copy(&from, &to),
                false => fs::write(to, fs::read(from).unwrap()).unwrap(),
            }
        }
    }
    let lab = Lab::bare();
    copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../homelab"), &lab.tree().join("homelab"));
    match way {
        "jsonencode" => {}
        "document" => lab.file(READERS, include_str!("breaks/document.tf.txt")),
        "module" => {
            lab.file(READERS, include_str!("breaks/module.tf.txt"));
            lab.file("homelab/terraform/modules/reader/main.tf", include_str!("breaks/module-reader.tf.txt"));
        }
        other => panic!("{other} is no way to write a role"),
    }
    // Charts and units are named from the repository's root.
    assert!(git(&lab.tree(), &["init"]), "this needs git");
    lab
}

/// Proven volumes, and the findings as `severity code from to message`.
fn proof(lab: &Lab) -> (i64, Vec<String>) {
    let mut c = lab.druse(&["secrets", "check", "-o", "json", "--offline"]);
    let ran = lab.run(c.arg(lab.tree().join("homelab")));
    let out = json::parse(ran.stdout.as_bytes()).unwrap_or_else(|e| panic!("{e}\n{ran}"));
    let findings = out["findings"].items().iter();
    let place = |p: &Value| match (p.str_at(["file"]), p["line"].as_i64()) {
        (Some(file), Some(line)) => format!("{}:{line}", file.strip_prefix("homelab/").unwrap_or(file)),
        _ => "-".into(),
    };
    let text = |f: &Value, n: &str| f.str_at([n]).unwrap_or_default().to_owned();
    let shown = findings.map(|f| {
        let (severity, code, message) = (text(f, "severity"), text(f, "code"), text(f, "message"));
        format!("{severity} {code} {} {} {message}", place(&f["from"]), place(&f["to"]))
    });
    let errors = shown.clone().filter(|f| f.starts_with("error ")).count();
    assert_eq!(ran.code(), i32::from(errors > 0), "{ran}");
    (out["proven"].as_i64().unwrap(), shown.collect())
}

/// Plants a break; what undoes it.
fn plant(lab: &Lab, planted: &Value) -> Vec<(PathBuf, String)> {
    let mut before = Vec::new();
    for change in planted["change"].items() {
        let text = |n: &str| change.str_at([n]).unwrap_or_else(|| panic!("{n} of {planted:?}"));
        let path = lab.tree().join("homelab").join(text("file"));
        let old = fs::read_to_string(&path).unwrap();
        assert!(old.contains(text("for")), "{:?} is not in {}", text("for"), path.display());
        let times = if change["first"].as_bool() == Some(true) { 1 } else { usize::MAX };
        fs::write(&path, old.replacen(text("for"), text("put"), times)).unwrap();
        before.push((path, old));
    }
    before
}

fn each_is_one_finding(way: &str) {
    let all = yaml::parse_strict(BREAKS).unwrap();
    let breaks = all[way].items();
    assert!(breaks.len() >= 20, "{way} has {} breaks", breaks.len());
    let lab = homelab(way);
    assert_eq!(proof(&lab), (2, Vec::new()), "the homelab as it is, {way}");
    let mut wrong = Vec::new();
    for planted in breaks {
        let text = |n: &str| planted.str_at([n]).unwrap_or_else(|| panic!("{n} of {planted:?}"));
        let wanted = format!("{} {} {} ", text("find"), text("from"), text("to"));
        let undo = plant(&lab, planted);
        let (proven, found) = proof(&lab);
        let as_wanted = matches!(found.as_slice(), [one] if one.starts_with(&wanted));
        if !as_wanted || Some(proven) != planted["proven"].as_i64() {
            wrong.push(format!("{}: {wanted}\n  found {proven} proven, {found:#?}", text("what")));
        }
        for (path, old) in undo.into_iter().rev() {
            fs::write(path, old).unwrap();
        }
    }
    assert!(wrong.is_empty(), "{way}: {} of {}\n{}", wrong.len(), breaks.len(), wrong.join("\n"));
}

#[test]
fn breaks_in_kubernetes_and_where_roles_are_written_with_jsonencode() {
    each_is_one_finding("jsonencode");
}

#[test]
fn breaks_where_roles_are_written_with_policy_documents() {
    each_is_one_finding("document");
}

#[test]
fn breaks_where_roles_are_written_by_a_local_module() {
    each_is_one_finding("module");
}
