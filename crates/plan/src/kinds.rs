//! Which kinds the settled cluster serves: Kubernetes' own (`data/resources.tsv`, made by `xtask api-resources` from a
//! server's discovery documents), those of all CustomResourceDefinitions of the plan, and those that components bring.

use std::collections::{BTreeMap, BTreeSet};

use druse_helm::ApiVersions;
use druse_object::yaml::{self, Dialect};
use druse_object::{Object, Value};

use crate::model::ServedKind;

const BUILT_IN: &str = include_str!("../data/resources.tsv");

/// Groups that Flux' own objects are in. They are served wherever a plan runs, as Flux (or druse) runs there.
const FLUX: &[(&str, &str, &[&str])] = &[
    ("kustomize.toolkit.fluxcd.io", "Kustomization", &["v1", "v1beta2"]),
    ("helm.toolkit.fluxcd.io", "HelmRelease", &["v2", "v2beta2"]),
    ("source.toolkit.fluxcd.io", "GitRepository", &["v1", "v1beta2"]),
    ("source.toolkit.fluxcd.io", "OCIRepository", &["v1", "v1beta2"]),
    ("source.toolkit.fluxcd.io", "HelmRepository", &["v1", "v1beta2"]),
    ("source.toolkit.fluxcd.io", "HelmChart", &["v1", "v1beta2"]),
    ("source.toolkit.fluxcd.io", "Bucket", &["v1", "v1beta2"]),
    ("source.toolkit.fluxcd.io", "ExternalArtifact", &["v1"]),
    ("notification.toolkit.fluxcd.io", "Alert", &["v1beta3"]),
    ("notification.toolkit.fluxcd.io", "Provider", &["v1beta3"]),
    ("notification.toolkit.fluxcd.io", "Receiver", &["v1"]),
    ("image.toolkit.fluxcd.io", "ImageRepository", &["v1"]),
    ("image.toolkit.fluxcd.io", "ImagePolicy", &["v1"]),
    ("image.toolkit.fluxcd.io", "ImageUpdateAutomation", &["v1"]),
];

/// A set of served kinds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kinds {
    /// Whether namespaced, and the versions, by group and kind.
    kinds: BTreeMap<(String, String), (bool, BTreeSet<String>)>,
    /// Kinds that only subresources have; they count as served for `.Capabilities`.
    extra: BTreeSet<String>,
}

impl Kinds {
    /// What Kubernetes and Flux serve.
    #[must_use]
    pub fn built_in() -> Self {
        let mut out = Self::default();
        for line in BUILT_IN.lines().filter(|l| !l.starts_with('#')) {
            let fields: Vec<&str> = line.split('\t').collect();
            let [group, version, _plural, _singular, kind, scope, rest @ ..] = fields.as_slice() else { continue };
            let group = if *group == "-" { "" } else { group };
            out.add(&ServedKind {
                group: group.to_string(),
                versions: vec![(*version).to_string()],
                kind: (*kind).to_string(),
                namespaced: *scope == "N",
            });
            let gv = api_version(group, version);
            for sub in rest.last().into_iter().filter(|s| **s != "-").flat_map(|s| s.split(';')) {
                if let Some(kind) = sub.split('=').nth(1).and_then(|k| k.rsplit('/').next()) {
                    out.extra.insert(format!("{gv}/{kind}"));
                }
            }
        }
        for (group, kind, versions) in FLUX {
            out.add(&ServedKind {
                group: (*group).to_string(),
                versions: versions.iter().map(|v| (*v).to_string()).collect(),
                kind: (*kind).to_string(),
                namespaced: true,
            });
        }
        out
    }

    /// Adds a kind.
    pub fn add(&mut self, kind: &ServedKind) {
        let entry =
            self.kinds.entry((kind.group.clone(), kind.kind.clone())).or_insert((kind.namespaced, BTreeSet::new()));
        entry.0 = kind.namespaced;
        entry.1.extend(kind.versions.iter().cloned());
    }

    /// Adds what a CustomResourceDefinition makes the API serve; anything else adds nothing.
    pub fn add_crd(&mut self, object: &Object) {
        if let Some(kind) = crd_kind(object) {
            self.add(&kind);
        }
    }

    /// Whether objects of a kind have a namespace; `None` when nothing serves the kind.
    #[must_use]
    pub fn is_namespaced(&self, group: &str, kind: &str) -> Option<bool> {
        self.kinds.get(&(group.to_string(), kind.to_string())).map(|(namespaced, _)| *namespaced)
    }

    /// Whether a kind is served in a version.
    #[must_use]
    pub fn serves(&self, group: &str, version: &str, kind: &str) -> bool {
        self.kinds.get(&(group.to_string(), kind.to_string())).is_some_and(|(_, versions)| versions.contains(version))
    }

    /// The versions a kind is served in.
    pub fn versions(&self, group: &str, kind: &str) -> impl Iterator<Item = &str> {
        self.kinds
            .get(&(group.to_string(), kind.to_string()))
            .into_iter()
            .flat_map(|(_, versions)| versions.iter().map(String::as_str))
    }

    /// All kinds.
    pub fn iter(&self) -> impl Iterator<Item = ServedKind> + '_ {
        self.kinds.iter().map(|((group, kind), (namespaced, versions))| ServedKind {
            group: group.clone(),
            versions: versions.iter().cloned().collect(),
            kind: kind.clone(),
            namespaced: *namespaced,
        })
    }

    /// `.Capabilities.APIVersions`: every `group/version` and `group/version/Kind`, sorted.
    #[must_use]
    pub fn api_versions(&self, more: &[String]) -> ApiVersions {
        let mut all: BTreeSet<String> = self.extra.clone();
        all.extend(more.iter().cloned());
        for ((group, kind), (_, versions)) in &self.kinds {
            for version in versions {
                let gv = api_version(group, version);
                all.insert(format!("{gv}/{kind}"));
                all.insert(gv);
            }
        }
        ApiVersions::new(all)
    }
}

fn api_version(group: &str, version: &str) -> String {
    if group.is_empty() { version.to_string() } else { format!("{group}/{version}") }
}

/// The kind that a CustomResourceDefinition defines; `None` when the object is none or is malformed.
#[must_use]
pub fn crd_kind(object: &Object) -> Option<ServedKind> {
    if object.kind() != "CustomResourceDefinition" || object.gvk().group != "apiextensions.k8s.io" {
        return None;
    }
    let spec = object.value.get("spec")?;
    let served = |v: &Value| v.get("served").and_then(Value::as_bool).unwrap_or(true);
    let mut versions: Vec<String> = spec["versions"]
        .items()
        .iter()
        .filter(|v| served(v))
        .filter_map(|v| v.str_at(["name"]).map(str::to_string))
        .collect();
    if versions.is_empty() {
        versions.extend(spec.str_at(["version"]).map(str::to_string));
    }
    Some(ServedKind {
        group: spec.str_at(["group"])?.to_string(),
        versions,
        kind: spec.str_at(["names", "kind"])?.to_string(),
        namespaced: spec.str_at(["scope"]) != Some("Cluster"),
    })
}

/// The kinds that the CustomResourceDefinitions of a file define; documents that are no YAML define none.
///
/// Nearly all of such a file is schemas, which say nothing of this: they are left out before it is read. Where what is left
/// is no YAML (a schema that is not laid out as a block), all of it is read.
#[must_use]
pub(crate) fn crd_kinds(text: &str) -> Vec<ServedKind> {
    let read = |text: &str| yaml::documents(text, Dialect::Sigs);
    let mut documents = read(&without_schemas(text));
    if documents.iter().any(Result::is_err) {
        documents = read(text);
    }
    documents.into_iter().flatten().filter_map(|doc| crd_kind(&Object::new(doc.value))).collect()
}

/// The text without the lines below each `schema:` that are indented further than it.
fn without_schemas(text: &str) -> String {
    let mut out = String::new();
    let mut below = None;
    for line in text.split_inclusive('\n') {
        // Nearly all lines end here: a schema is indented by little.
        if below.is_some_and(|schema| line.len() > schema + 1 && line.bytes().take(schema + 1).all(|c| c == b' ')) {
            continue;
        }
        let said = line.trim_start_matches(' ');
        let indent = line.len() - said.len();
        let nothing = matches!(said.as_bytes().first(), None | Some(b'#' | b'\n' | b'\r'));
        if below.is_some() && nothing {
            continue;
        }
        below = (said.trim_end() == "schema:").then_some(indent);
        out.push_str(line);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_read_past_schemas_however_those_are_laid_out() {
        let crd = |schema: &str| {
            let head = "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nspec:\n  group: x.io\n";
            format!(
                "{head}  versions:\n  - name: v1\n    schema:{schema}\n    served: true\n  - name: v2\n  scope: Cluster\n  names: {{kind: X}}\n"
            )
        };
        let block = "\n      openAPIV3Schema:\n# aside\n        description: |-\n          names:\n\n            kind: Y\n        type: object";
        let texts =
            [block, " {openAPIV3Schema: {\n type: object}}", "\n      \"a\n    b\"", " &a\n      x: 1\n    also: *a"];
        for text in texts.map(crd) {
            let kinds = crd_kinds(&text);
            let read: Vec<_> = yaml::documents(&text, Dialect::Sigs).into_iter().flatten().collect();
            assert_eq!(
                kinds,
                read.into_iter().filter_map(|doc| crd_kind(&Object::new(doc.value))).collect::<Vec<_>>(),
                "{text}"
            );
            assert_eq!(kinds.len(), 1, "{text}");
            assert_eq!((&*kinds[0].kind, kinds[0].versions.len()), ("X", 2), "{text}");
        }
        assert_eq!(crd_kinds(&format!("{}---\n- [\n---\n{}", crd(block), crd(block))).len(), 2);
        assert!(!without_schemas(&crd(block)).contains("openAPIV3Schema"), "what is laid out as a block is not read");
    }

    #[test]
    fn kubernetes_and_flux_are_served_and_crds_add_to_them() {
        let mut kinds = Kinds::built_in();
        assert_eq!(kinds.is_namespaced("apps", "Deployment"), Some(true));
        assert_eq!(kinds.is_namespaced("", "Namespace"), Some(false));
        assert_eq!(kinds.is_namespaced("kustomize.toolkit.fluxcd.io", "Kustomization"), Some(true));
        assert_eq!(kinds.is_namespaced("x.io", "X"), None);
        let crd = druse_object::json::parse(
            br#"{"apiVersion":"apiextensions.k8s.io/v1","kind":"CustomResourceDefinition","spec":{"group":"x.io",
            "scope":"Cluster","names":{"kind":"X"},"versions":[{"name":"v1","served":true},{"name":"v0","served":false}]}}"#,
        )
        .unwrap();
        kinds.add_crd(&Object::new(crd));
        assert_eq!(kinds.is_namespaced("x.io", "X"), Some(false));
        assert!(kinds.serves("x.io", "v1", "X") && !kinds.serves("x.io", "v0", "X"));
        let api = kinds.api_versions(&["extra/v1".to_string()]);
        for v in ["v1", "v1/Pod", "apps/v1", "apps/v1/Deployment", "apps/v1/Scale", "x.io/v1", "x.io/v1/X", "extra/v1"]
        {
            assert!(api.has(v), "{v}");
        }
        assert!(!api.has("x.io/v0"));
    }
}
