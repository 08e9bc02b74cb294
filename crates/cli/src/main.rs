//! The `druse` binary: parses arguments, sets up logging, runs one command and turns its error into a report.
//!
//! One file a command under `commands/`: its arguments with their help text, and a function that calls the libraries.

mod charts;
mod closing;
mod cloud_place;
mod cluster;
mod commands;
mod error;
mod globals;
mod keys;
mod network;
mod planning;
mod progress;
mod say;
mod secrets_path;
mod signals;
mod table;
mod threads;
mod values_file;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use crate::globals::Globals;

/// Compile a homelab's Git repository into Kubernetes objects, prove them, and make them true.
#[derive(Parser)]
#[command(name = "druse", version, max_term_width = 110)]
struct Cli {
    #[command(flatten)]
    globals: Globals,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Up(commands::up::Args),
    Render(commands::render::Args),
    Tree(commands::tree::Args),
    Check(commands::check::Args),
    Diff(commands::diff::Args),
    Template(Box<commands::template::Args>),
    Kustomize(commands::kustomize::Args),
    Mirror(commands::mirror::Args),
    Api(commands::api::Args),
    Controllers(commands::controllers::Args),
    #[command(subcommand)]
    Identity(commands::identity::Command),
    #[command(subcommand)]
    Secrets(commands::secrets::Command),
    Cloud(commands::cloud::Args),
    Csi(Box<commands::csi::Args>),
    /// Print a shell completion script
    Completion {
        /// The shell to complete for
        shell: clap_complete::Shell,
    },
}

fn main() -> ExitCode {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        // Damaged data, which is reported as an error with its remedy.
        if std::thread::current().name() != Some(druse_apiserver::store::OPENING) {
            hook(info);
        }
    }));
    let cli = Cli::parse();
    cli.globals.init_logging();
    let globals = &cli.globals;
    if matches!(
        cli.command,
        Command::Up(_) | Command::Render(_) | Command::Tree(_) | Command::Check(_) | Command::Diff(_)
    ) {
        // Charts are rendered where they are planned: a thread for each would cost more than many of them.
        let threads = rayon::ThreadPoolBuilder::new().stack_size(druse_helm::STACK_BYTES);
        if let Err(e) = threads.start_handler(|_| druse_helm::claim_stack()).build_global() {
            tracing::debug!("threads as they come: {e}");
        }
    }
    let result = match cli.command {
        Command::Controllers(args) => commands::controllers::run(&args, globals),
        Command::Identity(command) => commands::identity::run(&command, globals),
        Command::Secrets(command) => commands::secrets::run(&command, globals),
        Command::Cloud(args) => commands::cloud::run(&args, globals),
        Command::Csi(args) => commands::csi::run(&args, globals),
        Command::Up(args) => commands::up::run(&args, globals),
        Command::Kustomize(args) => commands::kustomize::run(&args, globals),
        Command::Mirror(args) => commands::mirror::run(&args, globals),
        Command::Render(args) => commands::render::run(&args, globals),
        Command::Tree(args) => commands::tree::run(&args, globals),
        Command::Check(args) => commands::check::run(&args, globals),
        Command::Diff(args) => commands::diff::run(&args, globals),
        Command::Template(args) => commands::template::run(&args, globals),
        Command::Api(args) => commands::api::run(&args, globals),
        Command::Completion { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "druse", &mut script);
            say::print(&String::from_utf8_lossy(&script)).map(|()| ExitCode::SUCCESS)
        }
    };
    result.unwrap_or_else(|e| error::report(globals, &e))
}
