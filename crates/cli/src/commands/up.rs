//! `druse up`: rehearse a tree.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use druse_csi::mount::unmount_below;
use druse_rehearsal::{Mounts, Options, Rehearsal, RehearsalError, Report};
use druse_simulate::nodes::Node;

use crate::closing;
use crate::error::CliError;
use crate::globals::Globals;
use crate::progress::Progress;
use crate::say::{print, say};
use crate::signals::Interrupt;

/// Rehearse the tree: an embedded Kubernetes API and the controllers in this process bring all of it up
///
/// Nodes, container processes and whatever a component says so of are simulated; everything else is real. Stays until
/// interrupted, so that kubectl can look around; with --once it ends when everything has settled: 0 when all units are
/// ready, 1 when something is not.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Any folder of the repository
    #[arg(default_value = ".")]
    path: PathBuf,
    /// End when everything has settled
    #[arg(long)]
    once: bool,
    /// Where the API keeps its state over restarts
    #[arg(long, value_name = "DIR", default_value = ".druse")]
    data: PathBuf,
    /// Start with an empty state
    #[arg(long)]
    fresh: bool,
    /// Where the API listens; port 0 takes a free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:6443")]
    listen: SocketAddr,
    /// How many nodes to simulate
    #[arg(long, value_name = "N", default_value_t = 3)]
    nodes: usize,
    /// Let no component stand in for charts and sources that are not at hand
    #[arg(long)]
    no_stand_ins: bool,
    /// Keep secrets volumes in folders on the disk, also where this process may mount a tmpfs for each (root may)
    #[arg(long)]
    no_tmpfs: bool,
    /// Sign ServiceAccount tokens with this key (of `druse identity keygen`) instead of one made for the rehearsal
    #[arg(long, value_name = "FILE")]
    service_account_key: Option<PathBuf>,
    /// The closing report
    #[arg(short, long, value_enum, default_value = "table", value_name = "FORMAT")]
    output: Format,
}

/// How the closing report is written.
#[derive(Clone, Copy, Debug, clap::ValueEnum, PartialEq, Eq)]
enum Format {
    /// For people
    Table,
    /// For programs
    Json,
    /// For programs, in YAML
    Yaml,
}

/// Runs the command.
pub fn run(args: &Args, globals: &Globals) -> Result<ExitCode, CliError> {
    let input = druse_plan::locate(&args.path)
        .map_err(|e| CliError::new(e).help("give a folder of the repository that holds the homelab"))?;
    let fetcher = crate::planning::fetcher(globals)?;
    let options = Options {
        input,
        fetcher,
        stand_ins: !args.no_stand_ins,
        keys: crate::keys::age_keys()?,
        signing_key: args.service_account_key.as_deref().map(crate::keys::signing_key).transpose()?,
        data_dir: Some(args.data.clone()),
        listen: args.listen,
        nodes: Node::numbered(args.nodes.max(1)),
        mounts: if args.no_tmpfs { Mounts::Folder } else { Mounts::detect() },
    };
    let runtime = crate::threads::all()?;
    let code = runtime.block_on(async {
        let interrupt = Interrupt::listen();
        if args.fresh {
            // Only a rehearsal that can start may empty the old one's state.
            drop(tokio::net::TcpListener::bind(args.listen).await.map_err(|e| listen_error(args, &e))?);
            clear(&args.data)?;
        }
        rehearse(args, globals, options, interrupt).await
    });
    // Fetches from the network that nobody waits for any more must not hold the process.
    runtime.shutdown_timeout(Duration::from_millis(500));
    code
}

fn listen_error(args: &Args, e: &dyn std::fmt::Display) -> CliError {
    CliError::new(format!("cannot listen on {}: {e}", args.listen)).help(LISTEN_HELP)
}

const LISTEN_HELP: &str = "stop what uses the address, or choose another with --listen (127.0.0.1:0 takes a free port)";

/// Empties a data directory; refuses a folder that does not look like one, and one that is in use.
fn clear(dir: &Path) -> Result<(), CliError> {
    let store = dir.join("store.redb");
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(e) => {
            return Err(CliError::new(format!("cannot read the data directory {}: {e}", dir.display()))
                .help("give another folder with --data"));
        }
    };
    let ours = ["store.redb", "admin.token", "kubeconfig"].iter().any(|f| dir.join(f).exists());
    if !ours && entries.count() > 0 {
        return Err(CliError::new(format!("{} holds no rehearsal, so --fresh does not empty it", dir.display()))
            .help("give --data a folder of its own"));
    }
    if let Ok(file) = std::fs::File::open(&store)
        && matches!(file.try_lock(), Err(std::fs::TryLockError::WouldBlock))
    {
        return Err(CliError::new(format!("{} is used by another process", dir.display()))
            .help("stop it, or give another folder with --data"));
    }
    let cannot = |e: &dyn std::fmt::Display| {
        CliError::new(format!("cannot empty {}: {e}", dir.display())).help("give another folder with --data")
    };
    // Of a rehearsal that was killed, secrets volumes are still mounted.
    unmount_below(dir).map_err(|e| cannot(&e))?;
    std::fs::remove_dir_all(dir).map_err(|e| cannot(&e))
}

async fn rehearse(
    args: &Args,
    globals: &Globals,
    options: Options,
    mut interrupt: Interrupt,
) -> Result<ExitCode, CliError> {
    let mut progress = Progress::new(globals);
    progress.planning(&args.path);
    let started = tokio::select! {
        started = Rehearsal::start(options) => started,
        code = interrupt.wait() => {
            progress.clear();
            return Ok(ExitCode::from(code));
        }
    };
    let rehearsal = started.map_err(|e| {
        progress.clear();
        let error = CliError::new(&e);
        match remedy(&e, args) {
            Some(help) => error.help(help),
            None => error,
        }
    })?;
    let kubeconfig = args.data.join("kubeconfig");
    druse_apiserver::serve::write_private(&kubeconfig, rehearsal.kubeconfig().as_bytes())
        .map_err(|e| CliError::new(format!("cannot write {}: {e}", kubeconfig.display())))?;
    let kubeconfig = std::path::absolute(&kubeconfig).unwrap_or(kubeconfig);
    progress.serving(&rehearsal, &kubeconfig);
    let mut ticks = tokio::time::interval(Duration::from_millis(100));
    let (report, ended) = {
        let settled = rehearsal.settled();
        tokio::pin!(settled);
        loop {
            tokio::select! {
                report = &mut settled => {
                    progress.show(&report);
                    break (report, None);
                }
                _ = ticks.tick() => progress.show(&rehearsal.report()),
                code = interrupt.wait() => break (rehearsal.report(), Some(code)),
            }
        }
    };
    progress.clear();
    let shown = show(args, globals, &report);
    if ended.is_none() && !args.once && shown.is_ok() {
        if !globals.quiet {
            hint(globals, &kubeconfig, rehearsal.cloud_address());
        }
        interrupt.wait().await;
    }
    if ended.is_some() && !globals.quiet {
        say!(
            "interrupted before all had settled; {} keeps the state, the same command goes on from it",
            args.data.display()
        );
    }
    // A client that does not let go must not hold the process; what was acknowledged is on disk.
    let _late = tokio::time::timeout(Duration::from_secs(2), rehearsal.stop()).await;
    shown?;
    Ok(match ended {
        Some(code) => ExitCode::from(code),
        None if report.all_ready() || !args.once => ExitCode::SUCCESS,
        None => ExitCode::from(1),
    })
}

fn remedy(e: &RehearsalError, args: &Args) -> Option<String> {
    use druse_apiserver::Error;
    use druse_apiserver::store::StoreError;
    match e {
        RehearsalError::Api(Error::Listen { .. }) => Some(LISTEN_HELP.to_owned()),
        RehearsalError::Api(Error::Store(StoreError::Corrupt(_))) => Some(format!(
            "--fresh starts {} empty (what was brought up by hand is lost), --data uses another folder",
            args.data.display()
        )),
        RehearsalError::Api(Error::Store(StoreError::Locked(_))) => {
            Some("stop the other druse, or give this one a folder of its own with --data".to_owned())
        }
        RehearsalError::Api(_) => {
            Some("check that the folder can be written, or choose another with --data".to_owned())
        }
        RehearsalError::Empty(_) => Some("give the path of a repository that declares Flux units".to_owned()),
        _ => None,
    }
}

fn show(args: &Args, globals: &Globals, report: &Report) -> Result<(), CliError> {
    print(&match args.output {
        Format::Table => {
            let style = closing::Style {
                paint: globals.paint_stdout(),
                width: crate::globals::width(),
                all: globals.verbose > 0,
            };
            closing::text(report, &style)
        }
        Format::Json => format!("{}\n", serde_json::to_string_pretty(report).map_err(CliError::new)?),
        Format::Yaml => {
            let value = druse_object::Value::from_typed(report).map_err(CliError::new)?;
            druse_object::yaml::to_string_ordered(&value)
        }
    })
}

fn hint(globals: &Globals, kubeconfig: &Path, cloud: Option<SocketAddr>) {
    let paint = globals.paint_stderr();
    let trace = cloud.map(|at| format!("\n  AWS_ENDPOINT_URL=http://{at} druse secrets trace NAMESPACE/POD"));
    say!(
        "\n{}\n  export KUBECONFIG={}\n  kubectl get kustomizations,helmreleases,pods -A{}\n{}",
        paint.bold("Look around:"),
        kubeconfig.display(),
        trace.unwrap_or_default(),
        paint.dim("Ctrl-C ends the rehearsal; its state stays for the next one."),
    );
}
