//! The tree's driver: whether it may make the Secrets that classes ask for.

use druse_csi::kubelet::driver_account;
use druse_object::Value;
use druse_terraform::Place;

use super::Declaration;

/// The driver of a tree that may make no Secrets: where it is declared.
///
/// `None` where it may, and where the tree has no driver of which that could be told.
pub(super) fn without_rights(objects: &[Declaration<'_>]) -> Option<(String, Option<Place>)> {
    let mut sets = objects.iter().filter(|d| d.object.kind() == "DaemonSet");
    let (driver, account) = sets.find_map(|d| Some((d, driver_account(&d.object.value)?)))?;
    let namespace = driver.object.namespace();
    let is_account = |s: &Value| {
        s.str_at(["kind"]) == Some("ServiceAccount")
            && s.str_at(["name"]) == Some(account)
            && s.str_at(["namespace"]) == Some(namespace)
    };
    let bound = objects.iter().filter(|d| matches!(d.object.kind(), "ClusterRoleBinding" | "RoleBinding"));
    let mut bound = bound.filter(|d| d.object.value["subjects"].items().iter().any(is_account));
    let may = bound.any(|binding| {
        let role = &binding.object.value["roleRef"];
        let (kind, name) = (role.str_at(["kind"]), role.str_at(["name"]));
        let is_role = |d: &&Declaration<'_>| {
            Some(d.object.kind()) == kind
                && Some(d.object.name()) == name
                && (d.object.kind() == "ClusterRole" || d.object.namespace() == binding.object.namespace())
        };
        // A role that the tree does not declare may allow it.
        objects.iter().find(is_role).is_none_or(|role| role.object.value["rules"].items().iter().any(makes_secrets))
    });
    (!may).then(|| (format!("DaemonSet {namespace}/{}", driver.object.name()), driver.place.clone()))
}

/// Whether a rule of a role lets Secrets be made.
fn makes_secrets(rule: &Value) -> bool {
    let names = |field: &str, name: &str| {
        rule[field].items().iter().filter_map(Value::as_str).any(|has| has == name || has == "*")
    };
    names("apiGroups", "") && names("resources", "secrets") && names("verbs", "create")
}
