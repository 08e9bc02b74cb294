//! Claims of devices that others use: only in namespaces that are marked for it
//! (`k8s.io/kubernetes/pkg/registry/resource/utils.go`).

use druse_object::Value;

use super::Call;
use crate::field::FieldError;

const MARK: &str = "resource.kubernetes.io/admin-access";

/// What is wrong with asking, or being given, access for administration here. `old` is what a change began with.
pub(super) fn admin_access(call: &Call, subresource: &str, new: &Value, old: Option<&Value>) -> Option<FieldError> {
    let asks = |list: &Value, field: &dyn Fn(&Value) -> Value| {
        list.items().iter().position(|v| field(v)["adminAccess"].as_bool() == Some(true))
    };
    let exactly = |r: &Value| r["exactly"].clone();
    let itself = |r: &Value| r.clone();
    let results = |v: &Value| v["status"]["allocation"]["devices"]["results"].clone();
    let path = match (call.resource.stored_as.as_str(), subresource, old) {
        ("resourceclaims.resource.k8s.io", "", None) => {
            let i = asks(&new["spec"]["devices"]["requests"], &exactly)?;
            format!("spec.devices.requests[{i}].adminAccess")
        }
        ("resourceclaimtemplates.resource.k8s.io", "", None) => {
            let i = asks(&new["spec"]["spec"]["devices"]["requests"], &exactly)?;
            format!("spec.devices.requests[{i}].adminAccess")
        }
        ("resourceclaims.resource.k8s.io", "status", Some(old)) if asks(&results(old), &itself).is_none() => {
            let i = asks(&results(new), &itself)?;
            format!("status.allocation.devices.results[{i}].adminAccess")
        }
        _ => return None,
    };
    let namespace = call.shared.object("namespaces", "", call.namespace()).unwrap_or_default();
    if namespace["metadata"]["labels"][MARK].as_str() == Some("true") {
        return None;
    }
    let why = format!("admin access to devices requires the `{MARK}: true` label on the containing namespace");
    Some(FieldError::forbidden(path, why))
}
