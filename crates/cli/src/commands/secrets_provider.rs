//! `druse secrets provider`: the AWS provider of a node, under upstream's CSI driver or ours.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use druse_csi::wire::provider::service;
use druse_csi::wire::server::{Socket, serve};
use druse_runtime::Api;
use druse_secrets::provider::serve::{NAME, Served};
use druse_secrets::provider::{ApiCluster, Provider};

use crate::cluster::ClusterArgs;
use crate::error::CliError;
use crate::globals::Globals;

/// The folder that the driver looks for providers in.
const FOLDER: &str = "/var/run/secrets-store-csi-providers";
/// The largest request taken: a class' objects, and the pod's tokens.
const MAX_REQUEST: usize = 4 << 20;

/// Serve the AWS provider of a node to the Secrets Store CSI driver, until interrupted
///
/// Takes the place of aws/secrets-store-csi-driver-provider-aws under upstream's driver or druse's: the same socket, the same
/// SecretProviderClasses. AWS' endpoints, region and retries come from the standard variables (AWS_REGION,
/// AWS_ENDPOINT_URL, AWS_MAX_ATTEMPTS, AWS_CA_BUNDLE and others).
///
/// Its ServiceAccount needs to get pods, serviceaccounts and nodes, and to create serviceaccounts/token where the CSIDriver
/// has no tokenRequests for sts.amazonaws.com.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// Where to serve: unix://PATH [default: aws.sock in the folder of providers]
    #[arg(long, value_name = "ENDPOINT")]
    endpoint: Option<String>,
    /// The folder that the driver looks for providers in
    #[arg(long, value_name = "DIR", default_value = FOLDER)]
    provider_volume: PathBuf,
    /// This node's name in the cluster; pods of other nodes are refused
    #[arg(long, value_name = "NAME", env = "NODE_NAME", required_unless_present = "any_node")]
    node: Option<String>,
    /// Serve pods of any node, for tests
    #[arg(long, conflicts_with = "node")]
    any_node: bool,
    /// Ask for no tokens: take only those that the kubelet passes
    #[arg(long)]
    no_token_requests: bool,
    /// What ServiceAccount annotations start with
    #[arg(long, value_name = "PREFIX", default_value = "eks.amazonaws.com")]
    annotation_prefix: String,
    #[command(flatten)]
    cluster: ClusterArgs,
}

/// Serves until interrupted.
pub fn run(args: &Args, globals: &Globals) -> Result<ExitCode, CliError> {
    let path = match &args.endpoint {
        None => args.provider_volume.join(format!("{NAME}.sock")),
        Some(endpoint) => match endpoint.strip_prefix("unix://") {
            Some(path) if !path.is_empty() => PathBuf::from(path),
            _ => return Err(CliError::new(format!("--endpoint {endpoint}: write unix://PATH"))),
        },
    };
    let mut settings = crate::cloud_place::provider_settings()?;
    settings.node.clone_from(&args.node);
    settings.annotation_prefix.clone_from(&args.annotation_prefix);
    settings.token_requests = !args.no_token_requests;
    let runtime = crate::threads::all()?;
    runtime.block_on(async {
        let client = args.cluster.client().await?;
        let mut interrupt = crate::signals::Interrupt::listen();
        let provider = Provider::new(ApiCluster(Api::new(client)), settings);
        let served = Served::new(provider, env!("CARGO_PKG_VERSION"));
        let socket = Socket::bind(&path, 0o600).map_err(|e| {
            CliError::new(format!("cannot listen at {}: {e}", path.display()))
                .help("the folder must exist and be this process' to write; name another with --endpoint unix://PATH")
        })?;
        if !globals.quiet {
            crate::say::say!("{} provider {NAME} at {}", globals.paint_stderr().green("serving"), path.display());
        }
        serve(socket, vec![service(Arc::new(served), MAX_REQUEST)], async move {
            interrupt.wait().await;
        })
        .await;
        Ok(ExitCode::SUCCESS)
    })
}
