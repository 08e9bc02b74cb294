//! The order in which objects are applied (fluxcd/pkg/ssa, sort.go).

use std::collections::BTreeMap;
use std::sync::LazyLock;

use druse_object::Object;

/// Flux' reconcile order: kinds others refer to first, webhook configurations last, ties by group, kind, namespace and
/// name.
pub fn sort_for_apply(objects: &mut [Object]) {
    static RANK: LazyLock<BTreeMap<&'static str, i32>> = LazyLock::new(|| {
        let first = [
            "CustomResourceDefinition",
            "Namespace",
            "ClusterRole",
            "ClusterClass",
            "RuntimeClass",
            "PriorityClass",
            "StorageClass",
            "VolumeSnapshotClass",
            "IngressClass",
            "GatewayClass",
            "ClusterRoleBinding",
            "ResourceQuota",
            "ServiceAccount",
            "Role",
            "RoleBinding",
            "ConfigMap",
            "Secret",
            "Service",
            "LimitRange",
            "Deployment",
            "StatefulSet",
            "CronJob",
            "PodDisruptionBudget",
        ];
        let last = ["MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"];
        (-100..).zip(first).chain((1..).zip(last)).map(|(rank, kind)| (kind, rank)).collect()
    });
    objects.sort_by_cached_key(|o| {
        let key = o.key();
        (RANK.get(key.kind.as_str()).copied().unwrap_or(0), key.group, key.kind, key.namespace, key.name)
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use druse_object::Value;

    fn yaml(text: &str) -> Value {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn definitions_come_first_and_webhooks_last() {
        let mut objects: Vec<Object> = ["Pod", "ValidatingWebhookConfiguration", "Namespace", "Deployment"]
            .iter()
            .map(|k| Object::new(yaml(&format!(r#"{{"apiVersion":"v1","kind":"{k}","metadata":{{"name":"x"}}}}"#))))
            .collect();
        sort_for_apply(&mut objects);
        let kinds: Vec<_> = objects.iter().map(Object::kind).collect();
        assert_eq!(kinds, ["Namespace", "Deployment", "Pod", "ValidatingWebhookConfiguration"]);
    }
}
