//! A client for a real cluster, as kubectl finds one.

use std::path::Path;

use kube::config::{Config, KubeConfigOptions, Kubeconfig};

use crate::error::CliError;

/// The client of `--kubeconfig` and `--context`, else of the environment (`KUBECONFIG`, `~/.kube/config`, the pod).
///
/// # Errors
/// When there is none, or the file is no kubeconfig.
pub async fn client(kubeconfig: Option<&Path>, context: Option<&str>) -> Result<kube::Client, CliError> {
    let options = KubeConfigOptions { context: context.map(str::to_string), ..KubeConfigOptions::default() };
    let config = match kubeconfig {
        Some(path) => {
            let file = Kubeconfig::read_from(path)
                .map_err(|e| CliError::new(format!("cannot read kubeconfig {}: {e}", path.display())))?;
            Config::from_custom_kubeconfig(file, &options).await.map_err(CliError::new)?
        }
        None if context.is_some() => Config::from_kubeconfig(&options).await.map_err(CliError::new)?,
        None => Config::infer().await.map_err(|e| CliError::new(e).help("name the cluster with --kubeconfig FILE"))?,
    };
    kube::Client::try_from(config).map_err(CliError::new)
}
