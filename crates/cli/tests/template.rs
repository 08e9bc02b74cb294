//! `druse template`: what is written where.

use std::path::Path;
use std::process::Command;

fn chart() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a folder");
    let write = |path: &str, text: &str| {
        let path = dir.path().join("demo").join(path);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("made");
        std::fs::write(path, text).expect("written");
    };
    write("Chart.yaml", "apiVersion: v2\nname: demo\nversion: 1.0.0\n");
    write("crds/thing.yaml", "kind: CustomResourceDefinition\n");
    write("templates/two.yaml", "kind: ConfigMap\nmetadata: {name: a}\n---\nkind: Secret\nmetadata: {name: b}\n");
    write(
        "templates/mixed.yaml",
        "kind: Service\nmetadata: {name: c}\n---\nkind: Job\nmetadata: {name: d, annotations: {helm.sh/hook: test}}\n",
    );
    write("templates/hook.yaml", "kind: Pod\nmetadata: {name: e, annotations: {helm.sh/hook: test}}\n");
    dir
}

fn template(dir: &Path, args: &[&str]) -> String {
    let out = Command::new(env!("CARGO_BIN_EXE_druse"))
        .current_dir(dir)
        .args(["template", "named", "demo", "--output-dir", "out"])
        .args(args)
        .output()
        .expect("it runs");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).expect("text")
}

fn documents(path: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(path).expect("it was written");
    text.split("---\n").skip(1).map(|d| d.lines().nth(1).unwrap_or_default().to_owned()).collect()
}

#[test]
fn each_document_goes_to_the_file_of_its_template_and_is_named_when_it_is_written() {
    let dir = chart();
    assert_eq!(
        template(dir.path(), &["--include-crds", "--release-name"]),
        "wrote out/demo/crds/thing.yaml\n\
         wrote out/named/demo/templates/two.yaml\n\
         wrote out/named/demo/templates/two.yaml\n\
         wrote out/named/demo/templates/mixed.yaml\n\
         wrote out/named/demo/templates/hook.yaml\n\
         wrote out/named/demo/templates/mixed.yaml\n\n"
    );
    let templates = dir.path().join("out/named/demo/templates");
    assert_eq!(documents(&templates.join("two.yaml")), ["kind: Secret", "kind: ConfigMap"]);
    assert_eq!(documents(&templates.join("mixed.yaml")), ["kind: Service", "kind: Job"]);
}

#[test]
fn a_second_run_begins_files_anew_but_adds_its_hooks_to_what_is_there() {
    let dir = chart();
    template(dir.path(), &[]);
    template(dir.path(), &[]);
    let templates = dir.path().join("out/demo/templates");
    assert_eq!(documents(&templates.join("two.yaml")), ["kind: Secret", "kind: ConfigMap"]);
    assert_eq!(documents(&templates.join("mixed.yaml")), ["kind: Service", "kind: Job"]);
    assert_eq!(documents(&templates.join("hook.yaml")), ["kind: Pod", "kind: Pod"]);
}
