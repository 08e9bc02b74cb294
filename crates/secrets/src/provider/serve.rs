//! The provider under a driver: `v1alpha1.CSIDriverProvider`, as upstream's driver and ours call it.
//!
//! The driver writes the files: they come back in the answer, and the provider needs no access to any mount.

use druse_csi::wire::provider as contract;
use druse_csi::wire::{Code, Status};

use super::{Cluster, Mounted, Provider, ProviderError, Request, Step};
use crate::cause::Reason;

/// As the driver finds it: `aws.sock` in the folder of providers.
pub const NAME: &str = "aws";

/// The contract served by a provider.
pub struct Served<C> {
    provider: Provider<C>,
    version: String,
}

impl<C> std::fmt::Debug for Served<C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Served").field("version", &self.version).finish_non_exhaustive()
    }
}

impl<C: Cluster> Served<C> {
    /// A provider that names itself with this version.
    #[must_use]
    pub fn new(provider: Provider<C>, version: impl Into<String>) -> Self {
        Self { provider, version: version.into() }
    }
}

impl<C: Cluster + 'static> contract::Provider for Served<C> {
    async fn version(&self, _: contract::VersionRequest) -> Result<contract::VersionResponse, Status> {
        Ok(contract::VersionResponse {
            version: contract::VERSION.into(),
            runtime_name: "druse-provider-aws".into(),
            runtime_version: self.version.clone(),
        })
    }

    async fn mount(&self, request: contract::MountRequest) -> Result<contract::MountResponse, Status> {
        let asked = Request::of_driver(&request.attributes, &request.permission).map_err(|e| status(&e))?;
        // Zeroed here already: STS and the values may take their time.
        drop(request);
        match self.provider.mount(&asked).await {
            Ok(mounted) => {
                tracing::info!("{}: {} files", asked.pod, mounted.files.len());
                Ok(response(mounted))
            }
            Err(e) => {
                tracing::warn!("{e}");
                Err(status(&e))
            }
        }
    }
}

fn response(mounted: Mounted) -> contract::MountResponse {
    let files = mounted.files.into_iter().map(|mut f| contract::File {
        path: std::mem::take(&mut f.path),
        mode: i32::try_from(f.mode).unwrap_or(0o400),
        contents: std::mem::take(&mut *f.contents),
    });
    let versions = mounted.versions.into_iter().map(|(id, version)| contract::ObjectVersion { id, version });
    contract::MountResponse { files: files.collect(), object_version: versions.collect(), error: None }
}

/// The code that tells the driver's metrics, and people, what kind of failure it is.
fn status(e: &ProviderError) -> Status {
    let first = e.problems.first();
    let code = match (e.step(), first.and_then(|p| p.cause.as_ref()).map(|c| c.reason)) {
        // Not Unavailable, which a driver takes for a provider that is away.
        (_, Some(reason)) if reason.is_passing() => Code::Aborted,
        (_, Some(Reason::NotFound)) => Code::NotFound,
        (_, Some(Reason::TrustDenied | Reason::PermissionDenied | Reason::KmsDenied)) => Code::PermissionDenied,
        (Step::Assume | Step::Token, _) => Code::Unauthenticated,
        (Step::Request, _) => Code::InvalidArgument,
        (Step::Pod, _) => Code::PermissionDenied,
        _ => Code::FailedPrecondition,
    };
    Status::new(code, e.to_string())
}
