//! What kustomize knows an object by: group, version, kind, name, namespace, and whether the kind has namespaces.

use std::collections::HashSet;
use std::fmt;
use std::sync::LazyLock;

use druse_object::{Str, Value};
use serde::Deserialize;

/// Group, version and kind, any of them empty for "any" in a selector.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(from = "GvkTexts")]
pub struct Gvk {
    /// The group; empty is core in an object and any in a selector.
    pub group: Str,
    /// The version.
    pub version: Str,
    /// The kind.
    pub kind: Str,
}

/// A [`Gvk`] as it is written.
#[derive(Default, Deserialize)]
#[serde(default)]
struct GvkTexts {
    group: String,
    version: String,
    kind: String,
}

impl From<GvkTexts> for Gvk {
    fn from(texts: GvkTexts) -> Self {
        Self { group: texts.group.into(), version: texts.version.into(), kind: texts.kind.into() }
    }
}

static CLUSTER_SCOPED: LazyLock<HashSet<(&'static str, &'static str)>> = LazyLock::new(|| {
    include_str!("../data/cluster-scoped.tsv")
        .lines()
        .filter(|l| !l.starts_with('#'))
        .filter_map(|l| l.split_once('\t'))
        .collect()
});

/// Whether kustomize is certain that a kind has no namespace; kinds it does not know count as having one.
#[must_use]
pub fn is_cluster_scoped(api_version: &str, kind: &str) -> bool {
    CLUSTER_SCOPED.contains(&(api_version, kind))
}

/// Kinds that sort first, in this order, when kustomize orders by kind.
pub const ORDER_FIRST: [&str; 22] = [
    "Namespace",
    "ResourceQuota",
    "StorageClass",
    "CustomResourceDefinition",
    "ServiceAccount",
    "PodSecurityPolicy",
    "Role",
    "ClusterRole",
    "RoleBinding",
    "ClusterRoleBinding",
    "ConfigMap",
    "Secret",
    "Endpoints",
    "Service",
    "LimitRange",
    "PriorityClass",
    "PersistentVolume",
    "PersistentVolumeClaim",
    "Deployment",
    "StatefulSet",
    "CronJob",
    "PodDisruptionBudget",
];
/// Kinds that sort last, in this order.
pub const ORDER_LAST: [&str; 2] = ["MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"];

impl Gvk {
    /// From an `apiVersion` and a kind.
    pub fn from_api_version(api_version: &str, kind: &str) -> Self {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        Self { group: group.into(), version: version.into(), kind: kind.into() }
    }

    /// Whether this kind is what the selector asks for (empty parts of the selector ask for nothing).
    pub fn is_selected(&self, selector: &Gvk) -> bool {
        (selector.group.is_empty() || self.group == selector.group)
            && (selector.version.is_empty() || self.version == selector.version)
            && (selector.kind.is_empty() || self.kind == selector.kind)
    }

    /// The key by which field specs are ordered.
    pub fn sort_key(&self) -> (i32, String) {
        let or = |s: &str, other: &str| if s.is_empty() { other.to_string() } else { s.to_string() };
        (
            kind_rank(&self.kind, &ORDER_FIRST, &ORDER_LAST),
            format!("{}_{}_{}", or(&self.group, "~G"), or(&self.version, "~V"), or(&self.kind, "~K")),
        )
    }
}

/// Where a kind sorts among others: below 0 for the first ones, above 0 for the last ones.
pub fn kind_rank(kind: &str, first: &[impl AsRef<str>], last: &[impl AsRef<str>]) -> i32 {
    let index = |i: usize| i32::try_from(i).unwrap_or(i32::MAX - 1);
    // A kind named twice counts where it was named last.
    if let Some(i) = last.iter().rposition(|k| k.as_ref() == kind) {
        return 1 + index(i);
    }
    match first.iter().rposition(|k| k.as_ref() == kind) {
        Some(i) => index(i) - index(first.len()),
        None => 0,
    }
}

impl fmt::Display for Gvk {
    /// `Deployment.v1.apps`, `ConfigMap.v1.[noGrp]`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let or = |s: &Str, other: &str| if s.is_empty() { Str::from(other) } else { s.clone() };
        write!(f, "{}.{}.{}", or(&self.kind, "[noKind]"), or(&self.version, "[noVer]"), or(&self.group, "[noGrp]"))
    }
}

/// The namespace that stands for "has none".
const NO_NAMESPACE: &str = "_non_namespaceable_";

/// What kustomize tells objects apart by.
#[derive(Clone, Debug, Default)]
pub struct ResId {
    /// Group, version, kind.
    pub gvk: Gvk,
    /// The name.
    pub name: Str,
    /// The namespace as written; empty when not.
    pub namespace: Str,
    /// Whether the kind is known to have no namespace.
    pub cluster: bool,
}

impl ResId {
    /// The identity that an object shows now.
    pub fn of(value: &Value) -> Self {
        let api_version = value.get("apiVersion").map_or_else(Str::default, text);
        let kind = value.get("kind").map_or_else(Str::default, text);
        Self {
            cluster: is_cluster_scoped(&api_version, &kind),
            gvk: Gvk::from_api_version(&api_version, &kind),
            name: meta_text(value, "name"),
            namespace: meta_text(value, "namespace"),
        }
    }

    /// The namespace it counts in: an absent one is `default`.
    pub fn effective_namespace(&self) -> &str {
        if self.cluster {
            NO_NAMESPACE
        } else if self.namespace.is_empty() {
            "default"
        } else {
            &self.namespace
        }
    }

    /// Whether both name the same object.
    pub fn same(&self, other: &ResId) -> bool {
        self.same_gvkn(other) && self.effective_namespace() == other.effective_namespace()
    }

    /// Whether both have the same kind and name.
    pub fn same_gvkn(&self, other: &ResId) -> bool {
        self.name == other.name && self.gvk == other.gvk
    }

    /// The identity as a hashable key.
    pub fn key(&self) -> IdKey {
        IdKey { gvk: self.gvk.clone(), name: self.name.clone(), namespace: self.effective_namespace().into() }
    }
}

impl fmt::Display for ResId {
    /// `ConfigMap.v1.[noGrp]/name.[noNs]`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let or = |s: &Str, other: &str| if s.is_empty() { Str::from(other) } else { s.clone() };
        write!(f, "{}/{}.{}", self.gvk, or(&self.name, "[noName]"), or(&self.namespace, "[noNs]"))
    }
}

/// A [`ResId`] by which equal objects are equal.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct IdKey {
    gvk: Gvk,
    name: Str,
    namespace: Str,
}

/// The text of a scalar as it would stand in YAML; empty for null, lists and maps.
pub fn text(value: &Value) -> Str {
    match value {
        Value::String(s) => s.clone(),
        Value::Bool(b) => if *b { "true" } else { "false" }.into(),
        Value::Int(i) => i.to_string().into(),
        Value::UInt(u) => u.to_string().into(),
        Value::Float(f) => f.to_string().into(),
        Value::Null | Value::Array(_) | Value::Map(_) => Str::default(),
    }
}

/// A text in an object's metadata.
pub fn meta_text(value: &Value, field: &str) -> Str {
    value.at(["metadata", field]).map_or_else(Str::default, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_kinds_count_as_namespaced() {
        assert!(is_cluster_scoped("rbac.authorization.k8s.io/v1", "ClusterRole"));
        assert!(!is_cluster_scoped("apps/v1", "Deployment"));
        assert!(!is_cluster_scoped("example.org/v1", "ClusterThing"));
    }

    #[test]
    fn ids_are_written_as_kustomize_writes_them() {
        let id = ResId { gvk: Gvk::from_api_version("v1", "ConfigMap"), name: "a".into(), ..ResId::default() };
        assert_eq!(id.to_string(), "ConfigMap.v1.[noGrp]/a.[noNs]");
        assert!(id.same(&ResId { namespace: "default".into(), ..id.clone() }));
    }
}
