//! What names an object: its group, version and kind, and its key.

use std::fmt;

use crate::value::{Str, Value};

/// Group, version and kind. The core group is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Gvk {
    /// `apps`; empty for the core group.
    pub group: Str,
    /// `v1`
    pub version: Str,
    /// `Deployment`
    pub kind: Str,
}

impl Gvk {
    /// From its three parts.
    pub fn new(group: impl Into<Str>, version: impl Into<Str>, kind: impl Into<Str>) -> Self {
        Self { group: group.into(), version: version.into(), kind: kind.into() }
    }

    /// From an `apiVersion` (`v1`, `apps/v1`) and a kind.
    #[must_use]
    pub fn from_api_version(api_version: &str, kind: &str) -> Self {
        match api_version.split_once('/') {
            Some((group, version)) => Self::new(group, version, kind),
            None => Self::new("", api_version, kind),
        }
    }

    /// The group, version and kind a document says it has.
    #[must_use]
    pub fn of(value: &Value) -> Option<Self> {
        Some(Self::from_api_version(value.get("apiVersion")?.as_str()?, value.get("kind")?.as_str()?))
    }

    /// `v1` or `apps/v1`.
    #[must_use]
    pub fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.to_string() } else { format!("{}/{}", self.group, self.version) }
    }
}

impl fmt::Display for Gvk {
    /// `apps/v1/Deployment`, `v1/ConfigMap`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.group.is_empty() {
            write!(f, "{}/", self.group)?;
        }
        write!(f, "{}/{}", self.version, self.kind)
    }
}

/// What tells one object from another: group and kind (not the version, which is only a way to look at it),
/// namespace (empty when cluster-scoped) and name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectKey {
    /// The group; empty for core.
    pub group: Str,
    /// The kind.
    pub kind: Str,
    /// The namespace; empty for cluster-scoped objects.
    pub namespace: Str,
    /// The name.
    pub name: Str,
}

impl fmt::Display for ObjectKey {
    /// `Deployment/ns/name`, `Namespace/name`: how Flux writes an object in messages.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/", self.kind)?;
        if !self.namespace.is_empty() {
            write!(f, "{}/", self.namespace)?;
        }
        f.write_str(&self.name)
    }
}
