//! The provider of a rehearsal: the real one, and made-up files where the tree does not say what a role may do.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use druse_aws::endpoint::Endpoints;
use druse_csi::wire::Status;
use druse_csi::wire::provider::{
    File, MountRequest, MountResponse, ObjectVersion, Provider as Contract, VersionRequest, VersionResponse,
};
use druse_runtime::Api;
use druse_secrets::class::Class;
use druse_secrets::provider::serve::Served;
use druse_secrets::provider::{ApiCluster, Cluster as _, Provider, Request, Settings};
use parking_lot::Mutex;

use super::aws::{Aws, made_up};
use super::{Asked, Changes};
use crate::RehearsalError;

/// The local cloud while it is served.
pub(super) struct LocalCloud {
    pub(super) serving: tokio::task::JoinHandle<()>,
    /// Where.
    pub(super) address: SocketAddr,
    pub(super) changes: Changes,
}

/// The provider `aws` of the simulated nodes.
pub(super) struct Rehearsed {
    aws: Aws,
    cluster: ApiCluster,
    /// The real one; absent where no cloud could be made.
    served: Option<Served<ApiCluster>>,
    /// Why files were made up, by pod UID.
    simulated: Mutex<BTreeMap<String, String>>,
}

impl Rehearsed {
    /// Starts the local cloud on a port of this machine's own, and the provider that asks it.
    pub(super) async fn start(
        api: &Api,
        aws: Aws,
        asked: &Asked,
        data_dir: Option<&Path>,
    ) -> Result<(Self, Option<LocalCloud>), RehearsalError> {
        let internal = |e: String| RehearsalError::Internal(format!("the secrets path: {e}"));
        let cluster = ApiCluster(api.clone());
        let alone = |aws, cluster| Self { aws, cluster, served: None, simulated: Mutex::default() };
        if asked.parameters.is_empty() {
            return Ok((alone(aws, cluster), None));
        }
        let set = api.request(http::Method::GET, "/openid/v1/jwks", None, None).await;
        let set = set.map_err(|e| internal(format!("the API's keys: {e}")))?;
        let keys =
            druse_identity::documents::read_jwks(druse_object::json::to_string(&set).as_bytes(), "the API's keys");
        let keys = keys.map_err(|e| internal(e.to_string()))?.into_iter().filter_map(|k| k.key.ok()).collect();
        let classes: Vec<Class> = asked.parameters.iter().filter_map(|p| Class::parse(p).ok()).collect();
        let Some(cloud) = aws.cloud(&classes, keys, data_dir)? else { return Ok((alone(aws, cluster), None)) };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.map_err(|e| internal(e.to_string()))?;
        let at = listener.local_addr().map_err(|e| internal(e.to_string()))?;
        let changes = cloud.changes();
        let serving = tokio::spawn(druse_localcloud::serve(Arc::new(cloud), listener, std::future::pending()));
        let cloud = LocalCloud { serving, address: at, changes };
        let http = druse_source::net::plain_client(&druse_source::NetOptions::default());
        let http = http.map_err(|e| internal(e.to_string()))?;
        let mut settings = Settings::new(http, Endpoints::all(format!("http://{at}")));
        settings.region = Some(aws.region());
        let served = Served::new(Provider::new(cluster.clone(), settings), "rehearsal");
        Ok((Self { aws, cluster, served: Some(served), simulated: Mutex::default() }, Some(cloud)))
    }

    /// Why a pod's files were made up.
    pub(super) fn simulated(&self, pod_uid: &str) -> Option<String> {
        self.simulated.lock().get(pod_uid).cloned()
    }

    /// Why it is not known what the role of a request's pod may do.
    async fn open(&self, request: &Request) -> Option<String> {
        let account = self.cluster.get("serviceaccounts", &request.pod.namespace, &request.pod.account).await;
        let account = account.ok().flatten()?;
        let role = account["metadata"]["annotations"]["eks.amazonaws.com/role-arn"].as_str()?;
        self.aws.open(role)
    }

    /// Made-up files of a class.
    fn make_up(request: &Request) -> Result<MountResponse, Status> {
        let class = Class::parse(&request.parameters).map_err(|e| Status::failed_precondition(e.join("; ")))?;
        let mut answer = MountResponse::default();
        for d in &class.objects {
            let own = (d.file(class.translation), made_up(d));
            let parts = d.parts.iter().map(|p| {
                let part = druse_secrets::class::Descriptor { parts: Vec::new(), ..d.clone() };
                (class.translation.file(&p.alias), made_up(&part))
            });
            for (path, value) in std::iter::once(own).chain(parts) {
                let mode = d.permission.and_then(|m| i32::try_from(m).ok()).unwrap_or(0o644);
                answer.object_version.push(ObjectVersion { id: path.clone(), version: "simulated".into() });
                answer.files.push(File { path, mode, contents: value.as_bytes().to_vec() });
            }
        }
        Ok(answer)
    }
}

impl Contract for Rehearsed {
    async fn version(&self, request: VersionRequest) -> Result<VersionResponse, Status> {
        match &self.served {
            Some(served) => served.version(request).await,
            None => Ok(VersionResponse { version: request.version, ..VersionResponse::default() }),
        }
    }

    async fn mount(&self, request: MountRequest) -> Result<MountResponse, Status> {
        let asked = Request::of_driver(&request.attributes, &request.permission)
            .map_err(|e| Status::invalid_argument(e.to_string()))?;
        let why = self.open(&asked).await;
        match (&self.served, why) {
            (Some(served), None) => {
                self.simulated.lock().remove(&asked.pod.uid);
                served.mount(request).await
            }
            (_, why) => {
                let why = why.unwrap_or_else(|| "the tree's Terraform declares no OIDC provider".into());
                let made = Self::make_up(&asked)?;
                self.simulated.lock().insert(asked.pod.uid.clone(), why);
                Ok(made)
            }
        }
    }
}

/// A provider of another system than AWS: it has nothing to read here, and its volumes hold one file that says so.
pub(super) struct Foreign(pub(super) String);

impl Contract for Foreign {
    async fn version(&self, request: VersionRequest) -> Result<VersionResponse, Status> {
        Ok(VersionResponse { version: request.version, runtime_name: self.0.clone(), ..VersionResponse::default() })
    }

    async fn mount(&self, _: MountRequest) -> Result<MountResponse, Status> {
        let contents = format!("simulated: provider {} is not rehearsed\n", self.0).into_bytes();
        Ok(MountResponse {
            object_version: vec![ObjectVersion { id: "simulated".into(), version: "simulated".into() }],
            files: vec![File { path: "simulated".into(), mode: 0o644, contents }],
            error: None,
        })
    }
}
