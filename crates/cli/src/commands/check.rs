//! `druse check`: what a careful reviewer would find in a tree.

use std::path::Path;
use std::process::ExitCode;

use clap::ValueEnum;
use druse_check::{Options, Severity, codes, report};
use druse_plan::locate_revision;

use crate::error::CliError;
use crate::globals::{Globals, Paint};
use crate::planning::{TreeArgs, fetcher};

/// How findings are printed.
#[derive(Clone, Copy, Debug, ValueEnum, PartialEq, Eq)]
pub enum Output {
    /// For people
    Text,
    /// One JSON document
    Json,
    /// SARIF 2.1.0, for code hosts and editors
    Sarif,
}

/// How bad something is.
#[derive(Clone, Copy, Debug, ValueEnum, PartialEq, Eq)]
pub enum Level {
    /// Anything
    Info,
    /// What is likely a fault
    Warning,
    /// What is a fault
    Error,
    /// Nothing
    Never,
}

impl Level {
    fn severity(self) -> Option<Severity> {
        match self {
            Self::Info => Some(Severity::Info),
            Self::Warning => Some(Severity::Warning),
            Self::Error => Some(Severity::Error),
            Self::Never => None,
        }
    }
}

/// Find what is wrong with a tree: each finding with its place, why it matters and what to do
///
/// Exits with 1 when there is an error (or what --fail-on says). A finding that is accepted is silenced with
/// `# druse:ignore DR0xx REASON` at its line or above, or for whole paths in .druse.yaml. In GitHub Actions every finding
/// is also an annotation.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    #[command(flatten)]
    pub tree: TreeArgs,
    /// The output's form
    #[arg(short, long, value_enum, default_value = "text", value_name = "FORM")]
    pub output: Output,
    /// Print only what is at least this bad
    #[arg(long, value_enum, default_value = "warning", value_name = "LEVEL")]
    pub severity: Level,
    /// Exit with 1 when something is at least this bad
    #[arg(long, value_enum, default_value = "error", value_name = "LEVEL")]
    pub fail_on: Level,
    /// Find also what is dangerous about the change since this revision: what the API refuses, what loses data
    #[arg(long, value_name = "REV")]
    pub base: Option<String>,
    /// Look also for this, which is off otherwise (repeatable)
    #[arg(long, value_name = "CODE")]
    pub also: Vec<String>,
    /// Explain one kind of finding
    #[arg(long, value_name = "CODE", conflicts_with = "list")]
    pub explain: Option<String>,
    /// List all kinds of findings
    #[arg(long)]
    pub list: bool,
}

/// Runs the command.
pub fn run(args: &Args, globals: &Globals) -> Result<ExitCode, CliError> {
    if args.list {
        return crate::say::print(&report::list()).map(|()| ExitCode::SUCCESS);
    }
    let known = |code: &String| {
        codes::find(code).ok_or_else(|| {
            CliError::new(format!("{code:?} is no code of a finding")).help("`druse check --list` shows all codes")
        })
    };
    if let Some(code) = &args.explain {
        return crate::say::print(&report::explain(known(code)?)).map(|()| ExitCode::SUCCESS);
    }
    for code in &args.also {
        known(code)?;
    }
    let input = args.tree.input()?;
    let base =
        args.base.as_ref().map(|rev| locate_revision(&args.tree.path, rev)).transpose().map_err(CliError::new)?;
    let options = Options { plan: args.tree.options()?, also: args.also.clone(), base, ..Options::default() };
    let found = druse_check::check(&input, &fetcher(globals)?, &options);
    let least = args.severity.severity();
    let prefix = folder_in_repository(&input.root);
    if let Some(least) = least {
        let text = match args.output {
            Output::Text => report::text(&found, least, &painter(globals.paint_stdout())),
            Output::Json => report::json(&found, least),
            Output::Sarif => report::sarif(&found, least, &prefix, env!("CARGO_PKG_VERSION")),
        };
        crate::say::print(&text)?;
        if std::env::var_os("GITHUB_ACTIONS").is_some_and(|v| v == "true") {
            let annotations = report::annotations(&found, least, &prefix);
            // Commands are read from both streams; what a program reads must stay whole.
            if args.output == Output::Text {
                crate::say::print(&annotations)?;
            } else {
                crate::say::say!("{}", annotations.trim_end());
            }
        }
    }
    let failed = args.fail_on.severity().is_some_and(|s| found.worst() >= Some(s));
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Where in its repository a tree lies; empty when it is all of it.
fn folder_in_repository(root: &Path) -> String {
    druse_source::git_tree::repository_info(root)
        .and_then(|info| std::fs::canonicalize(info.root).ok())
        .and_then(|top| root.strip_prefix(top).ok().and_then(Path::to_str).map(str::to_string))
        .unwrap_or_default()
}

fn painter(paint: Paint) -> impl Fn(&str, &str) -> String {
    move |style, text| match style {
        "error" => paint.red(text),
        "warning" => paint.yellow(text),
        "info" | "help" => paint.cyan(text),
        "bold" => paint.bold(text),
        _ => paint.dim(text),
    }
}
