//! `druse csi`: the Secrets Store CSI driver of a node.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::builder::TypedValueParser as _;
use druse_csi::driver::{self, Identity, Registrar};
use druse_csi::mount::Mounts;
use druse_csi::node::{Node, Settings};
use druse_csi::providers::{self, Providers};
use druse_runtime::{Api, Caches, Manager};
use tokio::sync::watch;

use crate::cluster::ClusterArgs;
use crate::error::CliError;
use crate::globals::Globals;

/// Mount secrets into pods: the Secrets Store CSI driver of a node, until interrupted
///
/// Takes the place of kubernetes-sigs/secrets-store-csi-driver with the same flags, objects and providers. It must run as
/// root to mount; without that right, volumes are folders on the disk (simulated).
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Where to serve CSI: unix://PATH
    #[arg(long, value_name = "ENDPOINT", env = "CSI_ENDPOINT", default_value = "unix:///tmp/csi.sock")]
    endpoint: String,
    /// This node's name in the cluster
    #[arg(long, value_name = "NAME", env = "KUBE_NODE_NAME")]
    nodeid: String,
    /// The driver's name, as volumes name it
    #[arg(long, value_name = "NAME", default_value = druse_csi::kubelet::DRIVER)]
    drivername: String,
    /// The folder that providers have their sockets in
    #[arg(long, value_name = "DIR", default_value = providers::FOLDER)]
    provider_volume: PathBuf,
    /// Further such folders, looked into first; separated by commas
    #[arg(long, value_name = "DIRS", value_delimiter = ',', default_value = providers::OLD_FOLDER,
          value_parser = clap::builder::OsStringValueParser::new().map(PathBuf::from))]
    additional_provider_volume_paths: Vec<PathBuf>,
    /// Where to serve /metrics and /healthz: HOST:PORT, or :PORT for every address; empty for nowhere
    #[arg(long, value_name = "ADDR", default_value = ":8095")]
    metrics_addr: String,
    /// Renew published volumes
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value_t = false,
          default_missing_value = "true", action = clap::ArgAction::Set)]
    enable_secret_rotation: bool,
    /// How often to renew published volumes, give or take a tenth
    #[arg(long, value_name = "DURATION", default_value = "2m", value_parser = duration)]
    rotation_poll_interval: Duration,
    /// The largest answer of a provider, in bytes
    #[arg(long, value_name = "BYTES", default_value_t = providers::MAX_RESPONSE)]
    max_call_recv_msg_size: usize,
    /// Ask providers from time to time whether they are well, and log those that are not
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value_t = false,
          default_missing_value = "true", action = clap::ArgAction::Set)]
    provider_health_check: bool,
    /// How often to ask providers whether they are well
    #[arg(long, value_name = "DURATION", default_value = "2m", value_parser = duration)]
    provider_health_check_interval: Duration,
    /// How long a provider may take for a volume
    #[arg(long, value_name = "DURATION", default_value = "90s", value_parser = duration)]
    provider_timeout: Duration,
    /// Make the driver known to the kubelet through this folder of its (plugins_registry), which upstream leaves to
    /// node-driver-registrar
    #[arg(long, value_name = "DIR")]
    plugin_registration_path: Option<PathBuf>,
    /// The driver's socket as the kubelet sees it [default: that of --endpoint]
    #[arg(long, value_name = "PATH", requires = "plugin_registration_path")]
    kubelet_registration_path: Option<PathBuf>,
    /// Keep volumes in folders on the disk although this process may mount (simulated)
    #[arg(long)]
    no_tmpfs: bool,
    #[command(flatten)]
    cluster: ClusterArgs,
}

/// Serves until interrupted.
pub fn run(args: &Args, globals: &Globals) -> Result<ExitCode, CliError> {
    let socket = socket(&args.endpoint)?;
    if args.nodeid.is_empty() {
        return Err(CliError::new("--nodeid is empty").help("name the node as `kubectl get nodes` does"));
    }
    let runtime = crate::threads::all()?;
    runtime.block_on(async {
        let mut interrupt = crate::signals::Interrupt::listen();
        let (stop, stopped) = watch::channel(false);
        tokio::spawn(async move {
            interrupt.wait().await;
            stop.send_replace(true);
        });
        serve(args, globals, &socket, stopped).await
    })
}

async fn serve(
    args: &Args,
    globals: &Globals,
    socket: &Path,
    stopped: watch::Receiver<bool>,
) -> Result<ExitCode, CliError> {
    let client = args.cluster.client().await?;
    let api = Api::new(client);
    let mounts = if args.no_tmpfs { Mounts::Folder } else { Mounts::detect() };
    if mounts == Mounts::Folder {
        crate::say::say!(
            "{} volumes are folders on the disk, not tmpfs (simulated){}",
            globals.paint_stderr().yellow("warning:"),
            if args.no_tmpfs { "" } else { ": this process may not mount; run it as root, in a privileged container" }
        );
    }
    let folders = args.additional_provider_volume_paths.iter().chain([&args.provider_volume]).cloned();
    let folders = folders.filter(|f| !f.as_os_str().is_empty());
    let providers =
        Providers::new(folders).with_timeout(args.provider_timeout).with_max_response(args.max_call_recv_msg_size);
    let rotation = args.enable_secret_rotation.then_some(args.rotation_poll_interval);
    let node = Node::new(Settings { node: args.nodeid.clone(), mounts, rotation }, api.clone(), providers);

    let manager = Manager::new();
    druse_csi::sync::start(&manager, &Caches::new(api), &node);
    manager.keep(tokio::spawn(druse_csi::rotate::run(node.clone())));
    if !args.metrics_addr.is_empty() {
        let address = match args.metrics_addr.strip_prefix(':') {
            Some(port) => format!("0.0.0.0:{port}"),
            None => args.metrics_addr.clone(),
        };
        let listener = tokio::net::TcpListener::bind(&address).await.map_err(|e| {
            CliError::new(format!("cannot listen on {address}: {e}")).help("choose another address with --metrics-addr")
        })?;
        manager.keep(tokio::spawn(driver::metrics(listener, node.clone(), stopped.clone())));
    }
    if args.provider_health_check {
        let (node, every) = (node.clone(), args.provider_health_check_interval);
        manager.keep(tokio::spawn(async move {
            loop {
                tokio::time::sleep(every).await;
                node.providers().check().await;
            }
        }));
    }
    let identity = Identity { name: args.drivername.clone(), version: env!("CARGO_PKG_VERSION").into() };
    let cannot = |what: &Path, e: std::io::Error| CliError::new(format!("cannot serve at {}: {e}", what.display()));
    let serving = driver::run(identity, node, socket, stopped.clone());
    if !globals.quiet {
        crate::say::say!("serving CSI at {}; Ctrl-C ends", socket.display());
    }
    match &args.plugin_registration_path {
        None => serving.await.map_err(|e| cannot(socket, e))?,
        Some(registry) => {
            let registrar = Registrar {
                driver: args.drivername.clone(),
                registry: registry.clone(),
                endpoint: args.kubelet_registration_path.clone().unwrap_or_else(|| socket.into()),
            };
            let at = registrar.socket();
            tokio::try_join!(async { serving.await.map_err(|e| cannot(socket, e)) }, async {
                registrar.run(stopped).await.map_err(|e| cannot(&at, e))
            },)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The socket of an endpoint. As upstream, `unix://tmp/x` is `/tmp/x` too.
fn socket(endpoint: &str) -> Result<PathBuf, CliError> {
    let path = endpoint.strip_prefix("unix://").filter(|p| !p.is_empty()).ok_or_else(|| {
        CliError::new(format!("--endpoint {endpoint}: this is no unix socket")).help("write unix:///csi/csi.sock")
    })?;
    Ok(Path::new("/").join(path))
}

/// A duration as Go writes them: `2m`, `1h30m`, `90s`.
fn duration(text: &str) -> Result<Duration, String> {
    let parsed: jiff::SignedDuration = text.parse().map_err(|_| "write it as 90s, 2m or 1h30m".to_string())?;
    let positive = Duration::try_from(parsed).ok().filter(|d| !d.is_zero());
    positive.ok_or_else(|| "it must be longer than nothing".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_and_durations_are_read_as_upstream_reads_them() {
        for (endpoint, path) in [("unix:///csi/csi.sock", "/csi/csi.sock"), ("unix://tmp/csi.sock", "/tmp/csi.sock")] {
            assert_eq!(socket(endpoint).map_err(|e| format!("{e:?}")).unwrap(), Path::new(path));
        }
        for bad in ["tcp://127.0.0.1:1", "unix://", "/csi.sock", ""] {
            assert!(socket(bad).is_err(), "{bad}");
        }
        assert_eq!(duration("2m").unwrap(), Duration::from_secs(120));
        assert_eq!(duration("1h30m0s").unwrap(), Duration::from_secs(5400));
        assert!(duration("0s").is_err() && duration("-2m").is_err() && duration("soon").is_err());
    }
}
