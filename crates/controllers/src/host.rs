//! What templates see of a cluster: objects by `lookup`, served kinds, true randomness and the clock.

use std::sync::Arc;

use druse_gotemplate::env::Host;
use druse_helm::{ApiVersions, Capabilities, KubeVersion};
use druse_object::{Gvk, Map, Value};
use druse_runtime::{Api, ApiError, ListOptions, clock};
use tokio::runtime::Handle;

/// Answers templates from a cluster. Used from blocking threads only.
pub(crate) struct ClusterHost {
    api: Api,
    runtime: Handle,
}

impl ClusterHost {
    pub fn new(api: Api, runtime: Handle) -> Self {
        Self { api, runtime }
    }

    /// `lookup`: one object, or a list when no name is given; an empty map when there is none.
    pub fn find(&self, api_version: &str, kind: &str, namespace: &str, name: &str) -> Result<Value, String> {
        let gvk = Gvk::from_api_version(api_version, kind);
        let empty = || Value::Map(Map::new());
        self.runtime.block_on(async {
            let r = match self.api.resource(&gvk).await {
                Ok(r) => r,
                Err(ApiError::NoMatch(_)) => return Ok(empty()),
                Err(e) => return Err(e.to_string()),
            };
            if !name.is_empty() {
                let found = self.api.get(&r, namespace, name).await.map_err(|e| e.to_string())?;
                return Ok(found.unwrap_or_else(empty));
            }
            let (items, version) =
                self.api.list(&r, namespace, &ListOptions::default()).await.map_err(|e| e.to_string())?;
            let mut list = Map::new();
            list.insert("apiVersion", api_version);
            list.insert("kind", format!("{kind}List"));
            list.insert("items", items);
            list.insert("metadata", [("resourceVersion", version)].into_iter().collect::<Map>());
            Ok(Value::Map(list))
        })
    }
}

impl Host for ClusterHost {
    fn random(&self, _: &str, _: &str, _: u32, out: &mut [u8]) {
        use rand::TryRng as _;
        if rand::rngs::SysRng.try_fill_bytes(out).is_err() {
            // Without the system's randomness no secret may be made: zeros would be one everybody knows.
            tracing::error!("the system gives no randomness");
            std::process::abort();
        }
    }
    fn now_unix_nanos(&self) -> i128 {
        clock::unix_nanos()
    }
    fn lookup(&self, api_version: &str, kind: &str, namespace: &str, name: &str) -> Result<Value, String> {
        self.find(api_version, kind, namespace, name)
    }
    fn resolve_host(&self, _: &str) -> String {
        String::new()
    }
}

/// What a running cluster serves, as `.Capabilities` shows it.
pub(crate) async fn live_capabilities(api: &Api) -> Result<Capabilities, ApiError> {
    let get = |path: String| async move { api.request(http::Method::GET, &path, None, None).await };
    let version = get("/version".to_owned()).await?;
    let mut served = Vec::new();
    let mut group_versions = vec![("/api/v1".to_owned(), "v1".to_owned())];
    for group in get("/apis".to_owned()).await?["groups"].items() {
        for v in group["versions"].items() {
            let gv = v["groupVersion"].as_str().unwrap_or_default();
            group_versions.push((format!("/apis/{gv}"), gv.to_owned()));
        }
    }
    for (path, gv) in group_versions {
        // An aggregated API that is down must not keep all releases from rendering.
        let Ok(list) = get(path).await else { continue };
        served.extend(list["resources"].items().iter().filter_map(|r| Some(format!("{gv}/{}", r["kind"].as_str()?))));
        served.push(gv);
    }
    let git = version["gitVersion"].as_str().unwrap_or("v1.36.0");
    let kube_version = KubeVersion::parse(git).map_err(|e| ApiError::Transport(e.to_string()))?;
    Ok(Capabilities { kube_version, api_versions: Arc::new(ApiVersions::new(served)) })
}
