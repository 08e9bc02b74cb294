//! What the provider asks the Kubernetes API: pods, ServiceAccounts and nodes by name, and tokens bound to a pod.

use std::future::Future;

use druse_object::Value;
use druse_runtime::{Api, Resource};
use zeroize::Zeroizing;

use super::Pod;

/// A cluster, as far as the provider needs one. Errors are the API's own words.
pub trait Cluster: Send + Sync {
    /// A core object; `None` when there is none. `plural` is `pods`, `serviceaccounts` or `nodes`.
    fn get(
        &self,
        plural: &'static str,
        namespace: &str,
        name: &str,
    ) -> impl Future<Output = Result<Option<Value>, String>> + Send;

    /// A token for the pod's ServiceAccount, bound to the pod.
    fn token(
        &self,
        pod: &Pod,
        audience: &str,
        seconds: i64,
    ) -> impl Future<Output = Result<Zeroizing<String>, String>> + Send;
}

/// A cluster behind its API.
#[derive(Clone, Debug)]
pub struct ApiCluster(pub Api);

/// A core resource by its path segment.
pub(crate) fn core(plural: &str) -> Resource {
    match plural {
        "nodes" => Resource::new("", "v1", "Node", "nodes", false),
        "serviceaccounts" => Resource::new("", "v1", "ServiceAccount", "serviceaccounts", true),
        _ => Resource::new("", "v1", "Pod", "pods", true),
    }
}

impl Cluster for ApiCluster {
    async fn get(&self, plural: &'static str, namespace: &str, name: &str) -> Result<Option<Value>, String> {
        self.0.get(&core(plural), namespace, name).await.map_err(|e| e.to_string())
    }

    async fn token(&self, pod: &Pod, audience: &str, seconds: i64) -> Result<Zeroizing<String>, String> {
        let bound = (pod.name.as_str(), pod.uid.as_str());
        let answer = self.0.pod_token(&pod.namespace, &pod.account, audience, seconds, bound).await;
        Ok(answer.map_err(|e| e.to_string())?.token)
    }
}
