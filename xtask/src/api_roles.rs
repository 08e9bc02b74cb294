//! Writes the roles and bindings a cluster is born with, from the lists that upstream's own tests hold them to.
//!
//! One thing a line, tab separated, `-` where there is nothing, `,` between words, `""` for the core group:
//! `role NAMESPACE NAME LABELS AGGREGATE` (`key=value`), below it its rules
//! `rule GROUPS RESOURCES NAMES PATHS VERBS`, and
//! `binding NAMESPACE NAME ROLE_KIND ROLE SUBJECTS` (`Kind:NAMESPACE:name`). The label and the annotation that all of
//! them have are left out.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use druse_object::Value;
use druse_object::yaml::{self, Dialect};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// In the folder of upstream's test data; what is made first comes first.
const FILES: [&str; 6] = [
    "cluster-roles.yaml",
    "cluster-role-bindings.yaml",
    "controller-roles.yaml",
    "controller-role-bindings.yaml",
    "namespace-roles.yaml",
    "namespace-role-bindings.yaml",
];
/// What all of them are labelled with.
const COMMON: &str = "kubernetes.io/bootstrapping";

fn text<'a, const N: usize>(v: &'a Value, path: [&str; N]) -> &'a str {
    v.str_at(path).filter(|t| !t.is_empty()).unwrap_or("-")
}

fn words(v: &Value) -> String {
    let list: Vec<&str> =
        v.items().iter().filter_map(Value::as_str).map(|w| if w.is_empty() { "\"\"" } else { w }).collect();
    if list.is_empty() { "-".to_owned() } else { list.join(",") }
}

fn pairs(v: &Value) -> String {
    let all = v.as_map().into_iter().flat_map(|m| m.iter()).filter(|(k, _)| *k != COMMON);
    let list: Vec<String> = all.map(|(k, v)| format!("{k}={}", v.as_str().unwrap_or_default())).collect();
    if list.is_empty() { "-".to_owned() } else { list.join(",") }
}

/// Reads upstream's `bootstrappolicy/testdata` in `from`, writes `to`.
pub fn run(from: &Path, to: &Path) -> Result<()> {
    let mut out = String::new();
    for file in FILES {
        let list = yaml::parse(&fs::read_to_string(from.join(file))?, Dialect::Sigs)?;
        for object in list["items"].items() {
            let (namespace, name) = (text(object, ["metadata", "namespace"]), text(object, ["metadata", "name"]));
            if object.get("roleRef").is_some() {
                let subjects: Vec<String> = object["subjects"]
                    .items()
                    .iter()
                    .map(|s| format!("{}:{}:{}", text(s, ["kind"]), text(s, ["namespace"]), text(s, ["name"])))
                    .collect();
                let subjects = if subjects.is_empty() { "-".to_owned() } else { subjects.join(",") };
                let (kind, role) = (text(object, ["roleRef", "kind"]), text(object, ["roleRef", "name"]));
                writeln!(out, "binding\t{namespace}\t{name}\t{kind}\t{role}\t{subjects}")?;
                continue;
            }
            let labels = pairs(&object["metadata"]["labels"]);
            let selectors = object["aggregationRule"]["clusterRoleSelectors"].items();
            let aggregate = selectors.first().map_or_else(|| "-".to_owned(), |s| pairs(&s["matchLabels"]));
            writeln!(out, "role\t{namespace}\t{name}\t{labels}\t{aggregate}")?;
            for rule in object["rules"].items() {
                let [groups, resources, names, paths, verbs] =
                    ["apiGroups", "resources", "resourceNames", "nonResourceURLs", "verbs"].map(|k| words(&rule[k]));
                writeln!(out, "rule\t{groups}\t{resources}\t{names}\t{paths}\t{verbs}")?;
            }
        }
    }
    fs::write(to, out)?;
    Ok(())
}
