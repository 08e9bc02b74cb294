//! `druse up`: rehearse a tree.

use std::io::{IsTerminal, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use druse_rehearsal::{Options, Rehearsal, Report, UnitState};
use druse_simulate::nodes::Node;
use druse_source::{Fetcher, FetcherOptions};

use crate::error::CliError;
use crate::globals::{Globals, Paint};

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
    let input = druse_plan::locate(&args.path).map_err(CliError::new)?;
    let fetcher = Fetcher::new(FetcherOptions {
        mirrors: globals.mirror.clone(),
        cache: globals.cache_dir(),
        offline: globals.offline,
        ..FetcherOptions::default()
    })
    .map_err(CliError::new)?;
    if args.fresh {
        clear(&args.data)?;
    }
    let options = Options {
        input,
        fetcher: Arc::new(fetcher),
        stand_ins: !args.no_stand_ins,
        data_dir: Some(args.data.clone()),
        listen: args.listen,
        nodes: Node::numbered(args.nodes.max(1)),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|e| CliError::new(format!("cannot start threads: {e}")))?;
    let code = runtime.block_on(rehearse(args, globals, options));
    // Fetches from the network that nobody waits for any more must not hold the process.
    runtime.shutdown_timeout(Duration::from_secs(1));
    code
}

/// Empties a data directory; refuses a folder that does not look like one.
fn clear(dir: &Path) -> Result<(), CliError> {
    if !dir.exists() {
        return Ok(());
    }
    let ours = ["store.redb", "admin.token", "kubeconfig"].iter().any(|f| dir.join(f).exists());
    let empty = std::fs::read_dir(dir).is_ok_and(|mut d| d.next().is_none());
    if !ours && !empty {
        return Err(CliError::new(format!("{} holds no rehearsal, so --fresh does not empty it", dir.display()))
            .help("give --data a folder of its own"));
    }
    std::fs::remove_dir_all(dir).map_err(|e| CliError::new(format!("cannot empty {}: {e}", dir.display())))
}

async fn rehearse(args: &Args, globals: &Globals, options: Options) -> Result<ExitCode, CliError> {
    let started = tokio::select! {
        started = Rehearsal::start(options) => started,
        () = interrupted() => return Ok(ExitCode::from(130)),
    };
    let rehearsal = started.map_err(|e| CliError::new(&e).help(remedy(&e, args)))?;
    let kubeconfig = args.data.join("kubeconfig");
    druse_apiserver::serve::write_private(&kubeconfig, rehearsal.kubeconfig().as_bytes())
        .map_err(|e| CliError::new(format!("cannot write {}: {e}", kubeconfig.display())))?;
    let kubeconfig = std::path::absolute(&kubeconfig).unwrap_or(kubeconfig);
    let mut progress = Progress::new(globals);
    progress.start(&rehearsal, &kubeconfig);
    let mut ticks = tokio::time::interval(Duration::from_millis(100));
    let (report, settled) = {
        let settled = rehearsal.settled();
        let interrupted = interrupted();
        tokio::pin!(settled, interrupted);
        loop {
            tokio::select! {
                report = &mut settled => break (report, true),
                _ = ticks.tick() => progress.show(&rehearsal.report()),
                () = &mut interrupted => break (rehearsal.report(), false),
            }
        }
    };
    progress.end();
    show(args, globals, &report)?;
    if !settled {
        rehearsal.stop().await;
        return Ok(ExitCode::from(130));
    }
    if !args.once {
        if !globals.quiet {
            hint(globals, &kubeconfig);
        }
        interrupted().await;
    }
    rehearsal.stop().await;
    Ok(if report.all_ready() || !args.once { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

fn remedy(e: &druse_rehearsal::RehearsalError, args: &Args) -> String {
    use druse_rehearsal::RehearsalError as E;
    match e {
        E::Api(druse_apiserver::Error::Listen { .. }) => "give another address with --listen, such as --listen 127.0.0.1:0".to_owned(),
        E::Api(_) => format!("give another folder with --data, or start empty with --fresh (now {})", args.data.display()),
        E::Empty(_) => "give the path of a repository that declares Flux units".to_owned(),
        _ => "run it again with -v for more".to_owned(),
    }
}

/// Ctrl-C, or a request to end.
pub(crate) async fn interrupted() {
    use tokio::signal::unix::{SignalKind, signal};
    let ctrl_c = async {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    match signal(SignalKind::terminate()) {
        Ok(mut term) => {
            tokio::select! { () = ctrl_c => {}, _ = term.recv() => {} }
        }
        Err(_) => ctrl_c.await,
    }
}

/// Live progress on standard error: one line that is redrawn on a terminal, lines of change elsewhere.
struct Progress {
    paint: Paint,
    quiet: bool,
    terminal: bool,
    drawn: bool,
    seen: std::collections::BTreeMap<String, UnitState>,
}

impl Progress {
    fn new(globals: &Globals) -> Self {
        Self {
            paint: globals.paint_stderr(),
            quiet: globals.quiet,
            terminal: std::io::stderr().is_terminal(),
            drawn: false,
            seen: std::collections::BTreeMap::new(),
        }
    }

    fn line(&mut self, text: &str) {
        self.end();
        let _nobody_listens = writeln!(std::io::stderr(), "{text}");
    }

    fn start(&mut self, rehearsal: &Rehearsal, kubeconfig: &Path) {
        if self.quiet {
            return;
        }
        for s in &rehearsal.plan().tree_sources {
            self.line(&self.paint.dim(&format!("the tree stands for {} ({}): {}", s.id, s.url, s.reason)));
        }
        for w in &rehearsal.plan().warnings {
            self.line(&format!("{} {w}", self.paint.yellow("warning:")));
        }
        self.line(&format!("the API serves on {}, kubeconfig {}", rehearsal.address(), kubeconfig.display()));
    }

    fn show(&mut self, report: &Report) {
        if self.quiet {
            return;
        }
        if self.terminal {
            let busy = report.units.iter().find(|u| u.state == UnitState::Progressing);
            let ready = report.count(UnitState::Ready) + report.count(UnitState::StandIn);
            let mut text = format!("{:5.1}s  {ready}/{} units ready", report.seconds, report.units.len());
            for (state, word) in [(UnitState::Failed, "failed"), (UnitState::Waiting, "waiting")] {
                if report.count(state) > 0 {
                    text.push_str(&format!(", {} {word}", report.count(state)));
                }
            }
            if let Some(u) = busy {
                text.push_str(&format!("  {}", u.unit));
            }
            let text: String = text.chars().take(110).collect();
            let mut err = std::io::stderr();
            let _nobody_listens = write!(err, "\r\x1b[2K{text}").and_then(|()| err.flush());
            self.drawn = true;
            return;
        }
        for u in &report.units {
            if u.state == UnitState::Progressing || self.seen.get(&u.unit) == Some(&u.state) {
                continue;
            }
            self.seen.insert(u.unit.clone(), u.state);
            if matches!(u.state, UnitState::Ready | UnitState::StandIn) {
                self.line(&format!("{:5.1}s  {}  {}", report.seconds, u.state.word(), u.unit));
            }
        }
    }

    fn end(&mut self) {
        if self.drawn {
            let _nobody_listens = write!(std::io::stderr(), "\r\x1b[2K");
            self.drawn = false;
        }
    }
}

fn show(args: &Args, globals: &Globals, report: &Report) -> Result<(), CliError> {
    let mut out = std::io::stdout().lock();
    let text = match args.output {
        Format::Table => table(report, globals.paint_stdout()),
        Format::Json => format!("{}\n", serde_json::to_string_pretty(report).map_err(CliError::new)?),
        Format::Yaml => {
            let value = druse_object::Value::from_typed(report).map_err(CliError::new)?;
            druse_object::yaml::to_string_ordered(&value)
        }
    };
    match out.write_all(text.as_bytes()) {
        // The reader has seen enough.
        Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        other => other.map_err(|e| CliError::new(format!("cannot write the report: {e}"))),
    }
}

fn table(report: &Report, paint: Paint) -> String {
    let width = report.units.iter().map(|u| u.unit.len()).max().unwrap_or(4).max(4);
    let mut out = format!("{}\n", paint.bold(&format!("{:width$}  {:16}  {:>7}  MESSAGE", "UNIT", "STATE", "OBJECTS")));
    for u in &report.units {
        let word = format!("{:16}", u.state.word());
        let word = match u.state {
            UnitState::Ready => paint.green(&word),
            UnitState::Failed => paint.red(&word),
            _ => paint.yellow(&word),
        };
        let message = u.message.lines().next().unwrap_or_default();
        out.push_str(&format!("{:width$}  {word}  {:>7}  {message}\n", u.unit, u.objects));
    }
    let failed: Vec<_> = report.units.iter().filter(|u| u.state == UnitState::Failed).collect();
    for u in &failed {
        out.push_str(&format!("\n{} {}", paint.red("failed:"), u.unit));
        if !u.defined.is_empty() {
            out.push_str(&format!(" ({})", u.defined));
        }
        out.push('\n');
        for line in u.message.lines() {
            out.push_str(&format!("    {line}\n"));
        }
    }
    let objects: usize = report.units.iter().map(|u| u.objects).sum();
    out.push_str(&format!(
        "\n{} units, {} ready ({} of them by a stand-in), {} waiting, {} failed; {objects} objects; settled after {:.1} s\n",
        report.units.len(),
        report.count(UnitState::Ready) + report.count(UnitState::StandIn),
        report.count(UnitState::StandIn),
        report.count(UnitState::Waiting),
        report.count(UnitState::Failed),
        report.seconds,
    ));
    out.push_str("simulated: nodes, container processes, storage behind volumes, load balancer addresses, and what a stand-in does\n");
    out
}

fn hint(globals: &Globals, kubeconfig: &Path) {
    let paint = globals.paint_stderr();
    let _nobody_listens = writeln!(
        std::io::stderr(),
        "\n{}\n  export KUBECONFIG={}\n  kubectl get kustomizations,helmreleases,pods -A\n{}",
        paint.bold("Look around:"),
        kubeconfig.display(),
        paint.dim("Ctrl-C ends the rehearsal; its state stays for the next one."),
    );
}
