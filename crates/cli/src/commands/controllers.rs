//! `druse controllers`: the Flux-compatible controllers against any Kubernetes API.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use druse_controllers::{Options, Randomness};
use druse_kustomize::tree::MemoryTree;
use druse_plan::TreeInput;
use druse_plan::sources::Sources;
use druse_runtime::{Api, Caches, Manager};

use crate::cluster::ClusterArgs;
use crate::error::CliError;
use crate::globals::Globals;

/// Reconcile a real cluster: the Flux-compatible controllers against any Kubernetes API
///
/// They serve Flux's own custom resources (source, kustomize and helm toolkit); those must be installed, and Flux's
/// controllers for them must not run beside these. Runs until interrupted.
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(flatten)]
    cluster: ClusterArgs,
    /// How many units are worked on at once
    #[arg(long, value_name = "N", default_value_t = 4)]
    concurrent: usize,
}

/// Runs the command.
pub fn run(args: &Args, globals: &Globals) -> Result<ExitCode, CliError> {
    let fetcher = crate::planning::fetcher(globals)?;
    let runtime = crate::threads::all()?;
    runtime.block_on(async {
        let client = args.cluster.client().await?;
        let api = Api::new(client);
        let version = api.request(http::Method::GET, "/version", None, None).await.map_err(|e| {
            CliError::new(format!("the cluster does not answer: {e}")).help("check --kubeconfig and the network")
        })?;
        if !globals.quiet {
            let version = version["gitVersion"].as_str().unwrap_or("unknown");
            {
                crate::say::say!("reconciling a cluster of Kubernetes {version}; Ctrl-C ends");
            }
        }
        let caches = Caches::new(api);
        let manager = Manager::new();
        let definitions = druse_runtime::Resource::new(
            "apiextensions.k8s.io",
            "v1",
            "CustomResourceDefinition",
            "customresourcedefinitions",
            false,
        );
        caches.retry_missing_on(&manager, &definitions);
        // No tree is at hand here: every source is fetched.
        let sources = Sources::new(TreeInput::new(MemoryTree::new()), fetcher);
        druse_controllers::start(
            &manager,
            &caches,
            Options {
                sources: Arc::new(sources),
                stand_ins: None,
                capabilities: None,
                strict_substitution: true,
                lenient: false,
                keys: crate::keys::age_keys()?,
                keep_own_kinds: false,
                randomness: Randomness::True,
                concurrency: args.concurrent,
                dependency_requeue: Duration::from_secs(30),
            },
        );
        crate::signals::Interrupt::listen().wait().await;
        drop(manager);
        Ok(ExitCode::SUCCESS)
    })
}
