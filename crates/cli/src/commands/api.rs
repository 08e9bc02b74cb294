//! `druse api`: serves the embedded Kubernetes API alone, for tests and tools; makes and restores backups of its data.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use druse_apiserver::ApiServer;
use druse_apiserver::store::{self, MemStore, Options};
use druse_runtime::{Api, Caches, Manager};
use druse_simulate::nodes::Node;

use crate::error::CliError;
use crate::globals::Globals;

/// Serve the embedded Kubernetes API alone, until interrupted
///
/// What a Kubernetes API server does with nothing beside it: objects are kept, validated, defaulted and watched;
/// namespaces are emptied, dependents collected, CRDs served. Pods are made out of Deployments with --workloads alone.
#[derive(clap::Args, Clone, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Args {
    #[command(subcommand)]
    command: Option<Backup>,
    /// Keep everything in this folder (it is made when missing); in memory when left out
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Where to listen; port 0 takes a free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:6443")]
    pub listen: SocketAddr,
    /// The administrator's bearer token [default: a random one, kept in the data folder]
    #[arg(long, value_name = "TOKEN", env = "DRUSE_API_TOKEN", hide_env_values = true)]
    pub token: Option<String>,
    /// Sign ServiceAccount tokens with this key (of `druse identity keygen`) [default: one made here, kept in the data
    /// folder]
    #[arg(long, value_name = "FILE")]
    pub service_account_key: Option<PathBuf>,
    /// Write a kubeconfig for the administrator to this file
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// Give every namespace its default ServiceAccount and the authority's certificate, as a controller manager does
    #[arg(long)]
    pub furnish: bool,
    /// Run what a controller manager and a scheduler run beside it: Deployments, StatefulSets, DaemonSets, Jobs and
    /// CronJobs make pods, claims are bound, Services get endpoints; simulated nodes run the pods. Implies --furnish
    #[arg(long)]
    pub workloads: bool,
    /// How many nodes to simulate; with none, pods stay pending
    #[arg(long, value_name = "N", default_value_t = 1, requires = "workloads")]
    pub nodes: usize,
}

/// What is done with data that nobody serves.
#[derive(clap::Subcommand, Clone, Debug)]
enum Backup {
    /// Write a backup of a data folder that nobody serves
    ///
    /// Of a server that runs, `kubectl get --raw /druse/snapshot > FILE` writes the same. Keys and tokens are no part of
    /// it: they stay in the data folder. Secrets are, in the clear, while the data folder holds them sealed: only its
    /// owner may read the file.
    Snapshot {
        /// The data folder
        #[arg(long, value_name = "DIR")]
        data: PathBuf,
        /// The file to write
        #[arg(long, value_name = "FILE")]
        to: PathBuf,
    },
    /// Replace the objects of a data folder by those of a backup
    ///
    /// Resource versions go on past all that clients can have seen; older watches are told to start over.
    Restore {
        /// The data folder; made when missing
        #[arg(long, value_name = "DIR")]
        data: PathBuf,
        /// The backup
        #[arg(long, value_name = "FILE")]
        from: PathBuf,
    },
}

impl Backup {
    fn run(&self, globals: &Globals) -> Result<ExitCode, CliError> {
        let said = match self {
            Backup::Snapshot { data, to } => {
                if !data.join("store.redb").is_file() {
                    return Err(CliError::new(format!("{} holds no data of an API server", data.display()))
                        .help("name the folder that --data named when it was served"));
                }
                let store = MemStore::open(Options { dir: Some(data.clone()) }).map_err(CliError::new)?;
                let text = store::snapshot(&store).map_err(CliError::new)?;
                druse_apiserver::serve::write_private(to, &text)
                    .map_err(|e| CliError::new(format!("cannot write the backup {}: {e}", to.display())))?;
                format!("backup of {} written to {}", data.display(), to.display())
            }
            Backup::Restore { data, from } => {
                let file = std::fs::File::open(from)
                    .map_err(|e| CliError::new(format!("cannot read the backup {}: {e}", from.display())))?;
                let (count, revision) =
                    store::restore(data, &mut std::io::BufReader::new(file)).map_err(CliError::new)?;
                format!("{count} objects restored to {}, resource version {revision}", data.display())
            }
        };
        if !globals.quiet {
            crate::say::say!("{said}");
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Serves until interrupted.
pub fn run(args: &Args, globals: &Globals) -> Result<ExitCode, CliError> {
    if let Some(backup) = &args.command {
        return backup.run(globals);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|e| CliError::new(format!("the runtime does not start: {e}")))?;
    runtime.block_on(serve(args, globals))
}

async fn serve(args: &Args, globals: &Globals) -> Result<ExitCode, CliError> {
    // The address is tried first: a port in use shall not touch the data.
    let listener = tokio::net::TcpListener::bind(args.listen).await.map_err(|e| {
        CliError::new(format!("cannot listen on {}: {e}", args.listen))
            .help("stop what uses the address, or choose another with --listen (port 0 takes a free one)")
    })?;
    let address = listener.local_addr().map_err(CliError::new)?;
    let mut builder = ApiServer::builder()
        .bare(!args.furnish && !args.workloads)
        .simulated_pods(args.workloads && args.nodes > 0)
        .addresses([address.ip()]);
    if let Some(dir) = &args.data {
        builder = builder.data_dir(dir);
    }
    if let Some(token) = &args.token {
        builder = builder.token(token);
    }
    if let Some(file) = &args.service_account_key {
        builder = builder.signing_key(crate::keys::signing_key(file)?);
    }
    let server = builder.build().await.map_err(|e| {
        let error = CliError::new(&e);
        match e {
            druse_apiserver::Error::Store(druse_apiserver::store::StoreError::Directory { .. }) => {
                error.help("check that the folder can be written, or choose another with --data")
            }
            _ => error,
        }
    })?;
    let workloads = if args.workloads { Some(Workloads::start(&server, args.nodes).await?) } else { None };
    let config = server.kubeconfig(address);
    if let Some(path) = &args.kubeconfig {
        druse_apiserver::serve::write_private(path, config.as_bytes())
            .map_err(|e| CliError::new(format!("cannot write the kubeconfig {}: {e}", path.display())))?;
    }
    if !globals.quiet {
        let paint = globals.paint_stderr();
        {
            crate::say::say!("{} https://{address}", paint.green("serving"));
            if let Some(path) = &args.kubeconfig {
                crate::say::say!("  {} kubectl --kubeconfig {}", paint.cyan("try:"), path.display());
            }
        }
    }
    let stop = async {
        crate::signals::Interrupt::listen().wait().await;
        if let Some(workloads) = workloads {
            workloads.stop();
        }
        server.close();
        std::future::pending::<()>().await;
    };
    tokio::select! {
        r = server.serve(listener) => r.map_err(CliError::new)?,
        () = stop => {}
    }
    drop(server);
    Ok(ExitCode::SUCCESS)
}

/// The controllers beside the API, in this process.
struct Workloads {
    manager: Manager,
    caches: Caches,
}

impl Workloads {
    async fn start(server: &ApiServer, nodes: usize) -> Result<Self, CliError> {
        let manager = Manager::new();
        let caches = Caches::new(Api::new(kube::Client::new(server.service(), "default")));
        let options = druse_simulate::Options { nodes: Node::numbered(nodes), ..druse_simulate::Options::default() };
        druse_simulate::start(&manager, &caches, options).await.map_err(CliError::new)?;
        Ok(Self { manager, caches })
    }

    /// Before the API goes away.
    fn stop(self) {
        drop(self.manager);
        self.caches.stop();
    }
}
