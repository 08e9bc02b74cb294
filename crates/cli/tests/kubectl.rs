//! The real kubectl against `druse up`. Skipped where there is none (`DRUSE_KUBECTL`, else `kubectl` on the path).

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::print_stderr)]

mod common;

use std::path::PathBuf;
use std::process::Command;

use common::{Lab, Ran, Running, deployment, kustomization};

const WIDGETS: &str = "---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: widgets.example.org}
spec:
  group: example.org
  scope: Namespaced
  names: {kind: Widget, plural: widgets, singular: widget, listKind: WidgetList, shortNames: [wd]}
  versions:
  - name: v1
    served: true
    storage: true
    subresources: {status: {}}
    additionalPrinterColumns: [{name: Size, type: integer, jsonPath: .spec.size}]
    schema:
      openAPIV3Schema:
        type: object
        properties:
          spec:
            type: object
            description: What the widget is like.
            properties: {size: {type: integer, minimum: 1, description: How large it is.}}
";

struct Cluster {
    lab: Lab,
    up: Running,
    kubectl: PathBuf,
}

/// A rehearsal of a small tree that stays, or nothing where there is no kubectl.
fn cluster() -> Option<Cluster> {
    cluster_with(&(deployment("web") + WIDGETS))
}

fn cluster_with(more: &str) -> Option<Cluster> {
    let kubectl = std::env::var_os("DRUSE_KUBECTL")
        .filter(|v| !v.is_empty())
        .map(PathBuf::from)
        .or_else(|| std::env::split_paths(&std::env::var_os("PATH")?).map(|d| d.join("kubectl")).find(|p| p.is_file()));
    let Some(kubectl) = kubectl else {
        eprintln!("skipped: no kubectl (set DRUSE_KUBECTL)");
        return None;
    };
    let lab = Lab::new(&kustomization("more", "./more", ""));
    lab.file("more/all.yaml", more);
    let mut up = Running::start(&lab, &mut lab.up(&[]));
    up.until_settled();
    Some(Cluster { lab, up, kubectl })
}

impl Cluster {
    fn command(&self, args: &[&str]) -> Command {
        let mut c = Command::new(&self.kubectl);
        c.args(args).current_dir(self.lab.path(""));
        c.env("KUBECONFIG", self.lab.kubeconfig()).env("HOME", self.lab.path("home"));
        c
    }

    fn run(&self, args: &[&str]) -> Ran {
        self.lab.run(&mut self.command(args))
    }

    /// Runs kubectl and asserts that it succeeds and says all of `words`.
    fn ok(&self, args: &[&str], words: &[&str]) -> String {
        let ran = self.run(args);
        ran.says(0, words);
        ran.stdout
    }

    fn write(&self, name: &str, text: &str) -> String {
        let path = self.lab.path(name);
        common::write(&path, text.as_bytes());
        path.display().to_string()
    }

    fn end(self) {
        self.up.signal("INT");
        self.up.end().says(0, &[]);
    }
}

fn mine(value: &str) -> String {
    format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: mine, namespace: default}}\ndata: {{a: '{value}'}}\n")
}

#[test]
fn reading() {
    let Some(c) = cluster() else { return };
    c.ok(
        &["get", "kustomizations,helmreleases,pods", "-A"],
        &[
            "kustomization.kustomize.toolkit.fluxcd.io/cluster",
            "kustomization.kustomize.toolkit.fluxcd.io/more",
            "True",
            "pod/web-",
            "Running",
        ],
    );
    c.ok(&["get", "deployments"], &["NAME", "READY", "UP-TO-DATE", "AVAILABLE", "web", "1/1"]);
    c.ok(&["get", "pods", "-o", "wide"], &["NODE", "NOMINATED NODE", "READINESS GATES", "node-"]);
    c.ok(&["get", "nodes", "-o", "wide"], &["node-1", "Ready", "control-plane", "simulated"]);
    let json: serde_json::Value =
        serde_json::from_str(&c.ok(&["get", "deployment", "web", "-o", "json"], &[])).unwrap();
    assert_eq!(json["status"]["readyReplicas"], 1);
    c.ok(
        &["get", "kustomization", "-n", "flux-system", "good", "-o", "yaml"],
        &["kind: Kustomization", "reason: ReconciliationSucceeded", "inventory:"],
    );
    c.ok(&["get", "pods", "-l", "app=web", "-o", "name"], &["pod/web-"]);
    c.ok(&["get", "pods", "-l", "app=nothing"], &["No resources found in default namespace."]);
    c.ok(&["get", "pods", "-A", "--field-selector", "spec.nodeName=node-1"], &[]);
    c.ok(
        &["describe", "deployment", "web"],
        &["Replicas:               1 desired | 1 updated | 1 total | 1 available | 0 unavailable"],
    );
    c.ok(
        &["describe", "pod", "-l", "app=web"],
        &["Controlled By:  ReplicaSet/web-", "simulated", "Ready                       True"],
    );
    c.ok(&["describe", "node", "node-1"], &["Container Runtime Version:  simulated", "Non-terminated Pods:"]);
    c.ok(
        &["describe", "kustomization", "-n", "flux-system", "good"],
        &["Applied revision: worktree", "ReconciliationSucceeded"],
    );
    c.run(&["get", "pod", "nobody"]).says(1, &["Error from server (NotFound): pods \"nobody\" not found"]);
    c.run(&["get", "nothings"]).says(1, &["the server doesn't have a resource type \"nothings\""]);
    c.end();
}

#[test]
fn what_the_api_says_of_itself() {
    let Some(c) = cluster() else { return };
    c.ok(&["api-resources"], &["configmaps", "deploy", "kustomizations", "helmreleases", "widgets", "wd"]);
    c.ok(
        &["api-versions"],
        &["apps/v1", "example.org/v1", "kustomize.toolkit.fluxcd.io/v1", "helm.toolkit.fluxcd.io/v2"],
    );
    c.ok(&["explain", "deployment.spec.replicas"], &["FIELD: replicas <integer>", "Number of desired pods."]);
    c.ok(&["explain", "widget.spec"], &["What the widget is like.", "size", "How large it is."]);
    c.ok(&["version"], &["Server Version: v1."]);
    c.ok(&["auth", "whoami"], &["system:masters"]);
    c.ok(&["auth", "can-i", "delete", "nodes"], &["yes"]);
    let anyone = ["auth", "can-i", "create", "pods", "--as", "system:serviceaccount:default:default"];
    c.run(&anyone).says(1, &["no"]);
    c.ok(&["get", "--raw", "/readyz"], &["ok"]);
    c.end();
}

#[test]
fn writing() {
    let Some(c) = cluster() else { return };
    let file = c.write("mine.yaml", &mine("1"));
    c.ok(&["apply", "-f", &file], &["configmap/mine created"]);
    c.ok(&["apply", "-f", &file], &["configmap/mine unchanged"]);
    c.write("mine.yaml", &mine("2"));
    c.run(&["diff", "-f", &file]).says(1, &["-  a: \"1\"", "+  a: \"2\""]);
    c.ok(&["apply", "-f", &file], &["configmap/mine configured"]);
    c.run(&["diff", "-f", &file]).says(0, &[]);
    let other = c.write("other.yaml", &mine("3").replace("mine", "other"));
    c.ok(&["apply", "--server-side", "-f", &other], &["configmap/other serverside-applied"]);
    let conflict = ["apply", "--server-side", "--field-manager", "someone", "-f"];
    c.write("other.yaml", &mine("4").replace("mine", "other"));
    c.run(&[&conflict[..], &[&other]].concat()).says(1, &["conflict", "--force-conflicts"]);
    c.ok(&[&conflict[..], &[&other, "--force-conflicts"]].concat(), &["serverside-applied"]);
    c.ok(&["patch", "cm", "mine", "--type", "merge", "-p", r#"{"data":{"b":"5"}}"#], &["configmap/mine patched"]);
    c.ok(&["patch", "cm", "mine", "--type", "json", "-p", r#"[{"op":"remove","path":"/data/a"}]"#], &["patched"]);
    c.ok(
        &[
            "patch",
            "deployment",
            "web",
            "-p",
            r#"{"spec":{"template":{"spec":{"containers":[{"name":"main","image":"x:2"}]}}}}"#,
        ],
        &["patched"],
    );
    assert_eq!(c.ok(&["get", "cm", "mine", "-o", "jsonpath={.data}"], &[]), r#"{"b":"5"}"#);
    // What an editor does, done by a program.
    let editor = c.write("editor.sh", "sed -i 's/^  b: .*/  b: \"6\"/' \"$1\"\n");
    c.lab
        .run(c.command(&["edit", "cm", "mine"]).env("EDITOR", format!("sh {editor}")))
        .says(0, &["configmap/mine edited"]);
    assert_eq!(c.ok(&["get", "cm", "mine", "-o", "jsonpath={.data.b}"], &[]), "6");
    c.ok(&["rollout", "status", "deployment", "web"], &["successfully rolled out"]);
    assert_eq!(
        c.ok(&["get", "pods", "-l", "app=web", "-o", "jsonpath={.items[0].spec.containers[0].image}"], &[]),
        "x:2"
    );
    c.ok(&["scale", "deployment", "web", "--replicas", "3"], &["scaled"]);
    c.ok(
        &["wait", "deployment", "web", "--for", "jsonpath={.status.readyReplicas}=3", "--timeout", "60s"],
        &["condition met"],
    );
    c.ok(&["wait", "deployment", "web", "--for", "condition=Available", "--timeout", "60s"], &["condition met"]);
    c.ok(&["create", "deployment", "extra", "--image", "x", "--dry-run=server"], &["created (server dry run)"]);
    c.run(&["get", "deployment", "extra"]).says(1, &["NotFound"]);
    c.ok(&["delete", "cm", "mine", "other"], &["configmap \"mine\" deleted"]);
    let widget = c.write("w.yaml", "apiVersion: example.org/v1\nkind: Widget\nmetadata: {name: w}\nspec: {size: 0}\n");
    c.run(&["apply", "-f", &widget]).says(1, &["spec.size", "greater than or equal to 1"]);
    c.write("w.yaml", "apiVersion: example.org/v1\nkind: Widget\nmetadata: {name: w}\nspec: {size: 3}\n");
    c.ok(&["apply", "-f", &widget], &["widget.example.org/w created"]);
    c.ok(&["get", "wd"], &["SIZE", "3"]);
    c.ok(&["create", "namespace", "short"], &["namespace/short created"]);
    c.ok(&["delete", "namespace", "short", "--timeout", "60s"], &["deleted"]);
    c.end();
}

#[test]
fn a_watch_sees_what_happens() {
    let Some(c) = cluster() else { return };
    let mut watch = Running::start(&c.lab, &mut c.command(&["get", "cm", "-w", "--no-headers", "-n", "default"]));
    watch.until("the first list came", |w| w.stdout().contains("good"));
    let file = c.write("mine.yaml", &mine("1"));
    c.ok(&["apply", "-f", &file], &["created"]);
    watch.until("the event came", |w| w.stdout().contains("mine"));
    // A client that watches does not hold the rehearsal.
    c.up.signal("INT");
    let from = std::time::Instant::now();
    c.up.end().says(0, &[]);
    assert!(from.elapsed() < std::time::Duration::from_secs(10));
}

#[test]
fn what_is_simulated_says_so() {
    let Some(c) = cluster() else { return };
    let pod = c.ok(&["get", "pods", "-l", "app=web", "-o", "name"], &[]).trim().to_owned();
    let logs = c.run(&["logs", &pod]);
    assert!(format!("{}{}", logs.stdout, logs.stderr).contains("simulated"), "{logs}");
    c.run(&["exec", &pod, "--", "ls"]).says(1, &["simulated"]);
    c.run(&["port-forward", &pod, ":80"]).says(1, &["simulated"]);
    c.end();
}

#[test]
fn objects_beside_one_whose_kind_is_missing_are_applied_and_the_kind_may_come_later() {
    let widget =
        "---\napiVersion: example.org/v1\nkind: Widget\nmetadata: {name: w, namespace: default}\nspec: {size: 1}\n";
    let Some(c) = cluster_with(&(common::config_map("beside") + widget)) else { return };
    let report = c.up.stdout();
    for word in ["Widget/default/w", "example.org/v1", "more/all.yaml:7", "CustomResourceDefinition", "help:"] {
        assert!(report.contains(word), "does not say {word:?}:\n{report}");
    }
    c.ok(&["get", "cm", "beside"], &[]);
    c.ok(&["get", "cm", "good"], &[]);
    // A person adds what is missing, and the unit goes on by itself.
    let file = c.write("crd.yaml", WIDGETS);
    c.ok(&["apply", "-f", &file], &["created"]);
    c.ok(&["wait", "-n", "flux-system", "ks/more", "--for", "condition=Ready", "--timeout", "60s"], &["condition met"]);
    c.ok(&["get", "widgets"], &["w"]);
    c.end();
}
