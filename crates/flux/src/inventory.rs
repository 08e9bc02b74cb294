//! How a unit remembers the objects it applied: `status.inventory.entries`.

use druse_object::{Gvk, ObjectKey};
use serde::{Deserialize, Serialize};

/// One applied object.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct InventoryEntry {
    /// `namespace_name_group_kind`, with `:` in RBAC names written `__` (fluxcd/cli-utils `ObjMetadata`).
    pub id: String,
    /// The API version's last part: `v1`.
    #[serde(rename = "v")]
    pub version: String,
}

impl InventoryEntry {
    /// The entry of an object.
    #[must_use]
    pub fn new(key: &ObjectKey, version: &str) -> Self {
        Self { id: id(key), version: version.to_string() }
    }

    /// What the entry names; `None` when it is malformed.
    #[must_use]
    pub fn key(&self) -> Option<ObjectKey> {
        parse_id(&self.id)
    }

    /// Group, version and kind.
    #[must_use]
    pub fn gvk(&self) -> Option<Gvk> {
        let key = self.key()?;
        Some(Gvk::new(key.group, self.version.as_str(), key.kind))
    }
}

/// The inventory id of an object.
#[must_use]
pub fn id(key: &ObjectKey) -> String {
    let name =
        if key.group == "rbac.authorization.k8s.io" { key.name.replace(':', "__") } else { key.name.to_string() };
    format!("{}_{}_{}_{}", key.namespace, name, key.group, key.kind)
}

/// What an inventory id names; `None` when it is malformed.
#[must_use]
pub fn parse_id(id: &str) -> Option<ObjectKey> {
    let (namespace, rest) = id.split_once('_')?;
    let (rest, kind) = rest.rsplit_once('_')?;
    let (name, group) = rest.rsplit_once('_')?;
    Some(ObjectKey {
        group: group.into(),
        kind: kind.into(),
        namespace: namespace.into(),
        name: name.replace("__", ":").into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_go_there_and_back() {
        for (group, kind, ns, name, want) in [
            ("apps", "Deployment", "web", "a-b", "web_a-b_apps_Deployment"),
            ("", "Namespace", "", "web", "_web__Namespace"),
            (
                "rbac.authorization.k8s.io",
                "ClusterRole",
                "",
                "system:x",
                "_system__x_rbac.authorization.k8s.io_ClusterRole",
            ),
        ] {
            let key = ObjectKey { group: group.into(), kind: kind.into(), namespace: ns.into(), name: name.into() };
            assert_eq!(id(&key), want);
            assert_eq!(parse_id(want), Some(key));
        }
        assert_eq!(parse_id("x"), None);
    }
}
