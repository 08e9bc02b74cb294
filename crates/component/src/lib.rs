//! Components: druse's embedded implementation of each third-party system's contract on one machine.
//!
//! Each is a file under `data/`: the charts (and sources) it can stand in for when they are not fetched, the custom
//! resources the system serves, and the stages that make those resources ready. What a stage does is *simulated* and says
//! so in the object. On a real cluster the upstream system does this work; components stay out of the way.
//!
//! Knows nothing of Flux, files and the network.

mod schema;

use std::sync::LazyLock;

use druse_object::{Map, Object, Value, yaml};
use serde::Deserialize;

/// The annotation on everything that is simulated, or that stands in for something.
pub const SIMULATED: &str = "druse.dev/simulated";

/// A system druse has an embedded implementation of.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Component {
    /// Its name.
    pub name: String,
    /// What it does, in a sentence.
    pub does: String,
    /// The charts it can stand in for.
    #[serde(default)]
    pub charts: Vec<String>,
    /// The source URLs it can stand in for.
    #[serde(default)]
    pub sources: Vec<String>,
    /// Its resources are registered by the system itself when it runs, not by its chart.
    #[serde(default)]
    pub registers_its_own_crds: bool,
    /// Part of every rehearsal, whether the tree names it or not.
    #[serde(default)]
    pub always_present: bool,
    /// The resources it serves.
    #[serde(default)]
    pub crds: Vec<Crd>,
    /// Objects of its chart that others look for, made only where the component stands in for it.
    #[serde(default)]
    pub objects: Vec<Value>,
    /// Stages for its resources, as YAML text.
    #[serde(default)]
    pub stages: String,
}

/// A custom resource of a component, by name and version.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Crd {
    /// Group.
    pub group: String,
    /// Kind.
    pub kind: String,
    /// Plural name.
    pub plural: String,
    /// Versions served, the stored one first.
    pub versions: Vec<String>,
    /// `Namespaced` or `Cluster`.
    #[serde(default = "namespaced")]
    pub scope: String,
    /// Short names.
    #[serde(default)]
    pub short_names: Vec<String>,
    /// Categories.
    #[serde(default)]
    pub categories: Vec<String>,
    /// Whether its status is a subresource.
    #[serde(default = "yes")]
    pub status_subresource: bool,
    /// Printer columns.
    #[serde(default)]
    pub columns: Vec<Value>,
}

fn namespaced() -> String {
    "Namespaced".to_owned()
}

fn yes() -> bool {
    true
}

/// The data files, one a component.
const FILES: &[(&str, &str)] = &[
    ("amazon-eks-pod-identity-webhook", include_str!("../data/amazon-eks-pod-identity-webhook.yaml")),
    ("cert-manager", include_str!("../data/cert-manager.yaml")),
    ("cilium", include_str!("../data/cilium.yaml")),
    ("cloudflared", include_str!("../data/cloudflared.yaml")),
    ("cloudnative-pg", include_str!("../data/cloudnative-pg.yaml")),
    ("external-secrets", include_str!("../data/external-secrets.yaml")),
    ("flux", include_str!("../data/flux.yaml")),
    ("grafana", include_str!("../data/grafana.yaml")),
    ("ingress-nginx", include_str!("../data/ingress-nginx.yaml")),
    ("kyverno", include_str!("../data/kyverno.yaml")),
    ("metallb", include_str!("../data/metallb.yaml")),
    ("rook-ceph", include_str!("../data/rook-ceph.yaml")),
    ("secrets-store-csi-driver", include_str!("../data/secrets-store-csi-driver.yaml")),
    ("secrets-store-csi-driver-provider-aws", include_str!("../data/secrets-store-csi-driver-provider-aws.yaml")),
    ("talos", include_str!("../data/talos.yaml")),
    ("tuppr", include_str!("../data/tuppr.yaml")),
    ("volsync", include_str!("../data/volsync.yaml")),
];

static ALL: LazyLock<Vec<Component>> = LazyLock::new(|| FILES.iter().filter_map(|(_, text)| read(text).ok()).collect());

fn read(text: &str) -> Result<Component, String> {
    let value = yaml::parse(text, yaml::Dialect::Sigs).map_err(|e| e.to_string())?;
    value.to_typed().map_err(|e| e.to_string())
}

/// All components, in name order.
#[must_use]
pub fn all() -> &'static [Component] {
    &ALL
}

/// The component that can stand in for a chart of this name.
#[must_use]
pub fn for_chart(chart: &str) -> Option<&'static Component> {
    all().iter().find(|c| c.charts.iter().any(|n| n == chart))
}

/// The component that can stand in for a source of this URL.
#[must_use]
pub fn for_source(url: &str) -> Option<&'static Component> {
    let plain = |u: &str| u.trim_end_matches('/').trim_end_matches(".git").to_owned();
    all().iter().find(|c| c.sources.iter().any(|s| plain(s) == plain(url)))
}

impl Crd {
    /// The definition to serve: with the fields of its kind where they are known (Flux), and any others accepted (the
    /// system's own schema is in its chart).
    #[must_use]
    pub fn object(&self, component: &str) -> Object {
        let open = || -> Value {
            let mut m = Map::new();
            m.insert("type", "object");
            m.insert("x-kubernetes-preserve-unknown-fields", true);
            Value::Map(m)
        };
        let accepts = match schema::of_kind(&self.group, &self.kind, false) {
            Some(_) => "known fields are checked and others accepted",
            None => "any content is accepted",
        };
        let versions: Vec<Value> = self
            .versions
            .iter()
            .enumerate()
            .map(|(i, version)| {
                let known = schema::of_kind(&self.group, &self.kind, i > 0);
                let mut schema = known.unwrap_or_else(open);
                if let Some(properties) = schema.make_map_at(["properties"]) {
                    for part in ["spec", "status"] {
                        if !properties.contains_key(part) {
                            properties.insert(part, open());
                        }
                    }
                }
                let mut v = Value::default();
                if let Some(m) = v.make_map() {
                    m.insert("name", version.as_str());
                    m.insert("served", true);
                    m.insert("storage", i == 0);
                    if !self.columns.is_empty() {
                        m.insert("additionalPrinterColumns", self.columns.clone());
                    }
                }
                if let Some(m) = v.make_map_at(["schema"]) {
                    m.insert("openAPIV3Schema", schema);
                }
                if self.status_subresource {
                    v.make_map_at(["subresources", "status"]);
                }
                v
            })
            .collect();
        let mut object = Value::default();
        if let Some(m) = object.make_map() {
            m.insert("apiVersion", "apiextensions.k8s.io/v1");
            m.insert("kind", "CustomResourceDefinition");
        }
        if let Some(m) = object.make_map_at(["metadata"]) {
            m.insert("name", format!("{}.{}", self.plural, self.group));
        }
        if let Some(m) = object.make_map_at(["metadata", "annotations"]) {
            m.insert(SIMULATED, format!("definition: made by the {component} component, {accepts}"));
        }
        if let Some(m) = object.make_map_at(["spec"]) {
            m.insert("group", self.group.as_str());
            m.insert("scope", self.scope.as_str());
            m.insert("versions", versions);
        }
        if let Some(m) = object.make_map_at(["spec", "names"]) {
            m.insert("kind", self.kind.as_str());
            m.insert("listKind", format!("{}List", self.kind));
            m.insert("plural", self.plural.as_str());
            m.insert("singular", self.kind.to_lowercase());
            if !self.short_names.is_empty() {
                m.insert("shortNames", self.short_names.iter().map(String::as_str).collect::<Value>());
            }
            if !self.categories.is_empty() {
                m.insert("categories", self.categories.iter().map(String::as_str).collect::<Value>());
            }
        }
        Object::new(object)
    }
}

impl Component {
    /// The definitions of all its resources.
    #[must_use]
    pub fn crd_objects(&self) -> Vec<Object> {
        self.crds.iter().map(|c| c.object(&self.name)).collect()
    }

    /// The objects to make where it stands in for its chart, each saying that it is simulated.
    #[must_use]
    pub fn stand_in_objects(&self) -> Vec<Object> {
        let marked = |o: &Value| {
            let mut object = o.clone();
            if let Some(annotations) = object.make_map_at(["metadata", "annotations"]) {
                annotations.insert(SIMULATED, format!("component {}", self.name));
            }
            Object::new(object)
        };
        self.objects.iter().map(marked).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_data_file_is_read_and_named_as_its_component() {
        for (name, text) in FILES {
            let component = read(text).unwrap_or_else(|e| panic!("{name}: {e}"));
            assert_eq!(component.name, *name);
            assert!(!component.does.is_empty());
        }
        assert_eq!(all().len(), FILES.len());
    }

    #[test]
    fn a_chart_or_source_has_at_most_one_stand_in() {
        let mut charts: Vec<_> = all().iter().flat_map(|c| &c.charts).collect();
        let n = charts.len();
        charts.sort();
        charts.dedup();
        assert_eq!(charts.len(), n);
        assert_eq!(for_chart("mimir-distributed").map(|c| c.name.as_str()), Some("grafana"));
        assert_eq!(for_source("https://github.com/fluxcd/flux2.git").map(|c| c.name.as_str()), Some("flux"));
        assert!(for_chart("argo-events").is_none());
    }

    #[test]
    fn definitions_store_their_first_version() {
        let crds = for_chart("kyverno").unwrap().crd_objects();
        let policy = crds.iter().find(|o| o.name() == "clusterpolicies.kyverno.io").unwrap();
        let versions = policy.value["spec"]["versions"].items();
        assert_eq!(versions[0]["storage"], Value::Bool(true));
        assert_eq!(policy.value.str_at(["spec", "scope"]), Some("Cluster"));
    }
}
