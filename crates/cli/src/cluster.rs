//! A client for a real cluster, as kubectl finds one.

use std::path::PathBuf;

use kube::config::{Config, KubeConfigOptions, Kubeconfig};

use crate::error::CliError;

/// Which cluster.
#[derive(clap::Args, Clone, Debug)]
pub struct ClusterArgs {
    /// The cluster [default: $KUBECONFIG, ~/.kube/config, or the pod's own service account]
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// The kubeconfig's context to use
    #[arg(long, value_name = "NAME")]
    pub context: Option<String>,
}

impl ClusterArgs {
    /// The client of `--kubeconfig` and `--context`, else of the environment (`KUBECONFIG`, `~/.kube/config`, the pod).
    ///
    /// # Errors
    /// When there is none, or the file is no kubeconfig.
    pub async fn client(&self) -> Result<kube::Client, CliError> {
        let options = KubeConfigOptions { context: self.context.clone(), ..KubeConfigOptions::default() };
        let config = match &self.kubeconfig {
            Some(path) => {
                let file = Kubeconfig::read_from(path)
                    .map_err(|e| CliError::new(format!("cannot read kubeconfig {}: {e}", path.display())))?;
                Config::from_custom_kubeconfig(file, &options).await.map_err(CliError::new)?
            }
            None if self.context.is_some() => Config::from_kubeconfig(&options).await.map_err(CliError::new)?,
            None => {
                Config::infer().await.map_err(|e| CliError::new(e).help("name the cluster with --kubeconfig FILE"))?
            }
        };
        kube::Client::try_from(config).map_err(CliError::new)
    }
}
