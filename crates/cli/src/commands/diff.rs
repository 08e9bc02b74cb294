//! `druse diff`: what differs between two revisions of a tree, and what is dangerous about it.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::ValueEnum;
use druse_diff::model::{Revision, Severity};
use druse_diff::output::{self, Style};
use druse_diff::{Diff, Side};
use druse_plan::sources::Sources;
use druse_plan::{Located, Memo, Plan, PlanOptions, SecretValues, TreeInput, UnitId, locate, plan_with};

use crate::error::CliError;
use crate::globals::Globals;
use crate::planning::{TreeArgs, fetcher, memo};

/// How a diff is printed.
#[derive(Clone, Copy, Debug, ValueEnum, PartialEq, Eq)]
pub enum Output {
    /// For a terminal
    Text,
    /// For scripts
    Json,
    /// For the comment under a pull request, as long as one may be
    Markdown,
    /// One page for a browser, with everything in it
    Html,
}

/// From which severity on a danger fails the command.
#[derive(Clone, Copy, Debug, ValueEnum, PartialEq, Eq)]
pub enum FailOn {
    /// Lost data, refused changes, full control given away
    Danger,
    /// These, and what may break or opens something up
    Warning,
    /// Everything worth knowing
    Notice,
}

/// Show what changes in the cluster between two revisions: units, objects, fields, images, and what is dangerous
///
/// Both revisions are rendered from Git's object database; nothing is checked out. What cannot be rendered on a side
/// is named, and never taken for a deletion. Values of Secrets are not shown.
///
/// Exits with 0, with or without differences; with 1 when --exit-code or --fail-on asks for it, with 2 on errors.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// A folder of the homelab's repository
    #[arg(default_value = ".", value_name = "PATH")]
    pub path: PathBuf,
    /// The older side: anything that names a commit (branch, tag, HEAD~1)
    #[arg(long, value_name = "REV", default_value = "HEAD")]
    pub base: String,
    /// The newer side [default: the files on disk]
    #[arg(long, value_name = "REV")]
    pub head: Option<String>,
    /// Take the common ancestor of base and head for the older side: what a branch changes, as a pull request shows it
    #[arg(long)]
    pub merge_base: bool,
    /// Take this folder for the older side instead of a revision
    #[arg(long, value_name = "DIR", conflicts_with_all = ["base", "merge_base"])]
    pub base_path: Option<PathBuf>,
    /// Only this unit: Kustomization/NAMESPACE/NAME or HelmRelease/NAMESPACE/NAME (repeatable)
    #[arg(long, value_name = "UNIT")]
    pub unit: Vec<UnitId>,
    /// The output's form
    #[arg(short, long, value_enum, default_value = "text", value_name = "FORM")]
    pub output: Output,
    /// In text, leave nothing out: echoes of other changes, whole objects that came or went, all notices
    #[arg(long)]
    pub all: bool,
    /// Exit with 1 when there are differences
    #[arg(long)]
    pub exit_code: bool,
    /// Exit with 1 when there is a danger of this severity, or a worse one
    #[arg(long, value_enum, value_name = "SEVERITY")]
    pub fail_on: Option<FailOn>,
    /// Explain one kind of danger
    #[arg(long, value_name = "CODE", conflicts_with = "list")]
    pub explain: Option<String>,
    /// List all kinds of dangers
    #[arg(long)]
    pub list: bool,
    /// Fail units whose chart or source is not at hand, even where a component could do their work
    #[arg(long)]
    pub no_stand_ins: bool,
    /// The Kubernetes version charts are rendered for
    #[arg(long, value_name = "VERSION", default_value = druse_plan::model::DEFAULT_KUBE_VERSION)]
    pub kube_version: String,
}

/// Runs the command.
pub fn run(args: &Args, globals: &Globals) -> Result<ExitCode, CliError> {
    let style = Style { color: globals.paint_stdout().0, all: args.all };
    if args.list {
        return crate::say::print(&output::list(style)).map(|()| ExitCode::SUCCESS);
    }
    if let Some(code) = &args.explain {
        let text = output::explain(code, style).ok_or_else(|| CliError {
            code: 2,
            ..CliError::new(format!("{code:?} is no code of a danger")).help("`druse diff --list` shows all codes")
        })?;
        return crate::say::print(&text).map(|()| ExitCode::SUCCESS);
    }
    // As with diff and git, 1 says that there are differences.
    let diff = make(args, globals).map_err(|e| CliError { code: 2, ..e })?;
    let text = match args.output {
        Output::Text => output::text(&diff, style),
        Output::Json => output::json(&diff),
        Output::Markdown => output::markdown(&diff),
        Output::Html => output::html(&diff),
    };
    if text.is_empty() && !diff.not_rendered.is_empty() && !globals.quiet {
        let units: Vec<&str> = diff.not_rendered.iter().map(|n| n.unit.as_str()).collect();
        crate::say::say!(
            "{} nothing differs; not compared, as neither side renders: {}",
            globals.paint_stderr().yellow("note:"),
            units.join(", ")
        );
    }
    crate::say::print(&text).map_err(|e| CliError { code: 2, ..e })?;
    let least = args.fail_on.map(|s| match s {
        FailOn::Danger => Severity::Danger,
        FailOn::Warning => Severity::Warning,
        FailOn::Notice => Severity::Notice,
    });
    let fails = least.is_some_and(|least| diff.dangers.iter().any(|d| d.severity >= least));
    Ok(if fails || (args.exit_code && !diff.is_empty()) { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn make(args: &Args, globals: &Globals) -> Result<Diff, CliError> {
    let tree = TreeArgs {
        path: args.path.clone(),
        rev: None,
        no_stand_ins: args.no_stand_ins,
        kube_version: args.kube_version.clone(),
    };
    let options = tree.options()?;
    let fetcher = fetcher(globals)?;
    let memo = memo(globals, Memo::new);
    let sources = |input: &TreeInput| Sources::with_memo(input.clone(), Arc::clone(&fetcher), Arc::clone(&memo));
    let place = Located::around(&args.path).map_err(CliError::new)?;
    let head_input = match &args.head {
        Some(rev) => place.at(rev),
        None => place.on_disk(),
    };
    let head_input = head_input.map_err(CliError::new)?;
    // Files are read while the folders of the older revision are unpacked.
    let (head_sources, base) = rayon::join(|| sources(&head_input), || older_side(args, &place));
    let (base_input, base_name) = base?;
    let head_name = args.head.clone().unwrap_or_else(|| "working tree".into());
    // What is on disk has been read already: of the other only what differs must be.
    let base_sources = sources(&base_input);
    // The second renders only what it reads otherwise than the first.
    let plans = |secrets: SecretValues| {
        let options = PlanOptions { secrets, ..options.clone() };
        (plan_with(&base_sources, &options), plan_with(&head_sources, &options))
    };
    let (mut base, mut head) = plans(SecretValues::NotNeeded);
    let needed = druse_diff::secrets_needed(
        &side(&base, &base_input, base_name.clone()),
        &side(&head, &head_input, head_name.clone()),
    );
    if !needed.is_empty() {
        (base, head) = plans(SecretValues::NeededOf(Arc::new(needed)));
    }
    if let Some(missing) = args.unit.iter().find(|id| base.unit(id).is_none() && head.unit(id).is_none()) {
        return Err(CliError::new(format!("{missing} is no unit on either side")).help("`druse tree` lists the units"));
    }
    let mut diff = druse_diff::compare(&side(&base, &base_input, base_name), &side(&head, &head_input, head_name));
    memo.tidy();
    if !args.unit.is_empty() {
        let names: Vec<String> = args.unit.iter().map(ToString::to_string).collect();
        diff.retain_units(|unit| names.iter().any(|n| n == unit));
    }
    // The process ends soon: giving its memory back piece by piece would only take time.
    std::mem::forget((base, head, base_sources, head_sources, memo));
    Ok(diff)
}

/// The tree that changes are shown from, and what it is called.
fn older_side(args: &Args, place: &Located) -> Result<(TreeInput, String), CliError> {
    if let Some(path) = &args.base_path {
        return Ok((locate(path).map_err(CliError::new)?, path.display().to_string()));
    }
    if !args.merge_base {
        return Ok((place.at(&args.base).map_err(CliError::new)?, args.base.clone()));
    }
    let head = args.head.as_deref().unwrap_or("HEAD");
    let base = druse_source::git_tree::merge_base(&args.path, &args.base, head).map_err(CliError::new)?;
    Ok((place.at(&base).map_err(CliError::new)?, format!("merge base of {} and {head}", args.base)))
}

fn side<'a>(plan: &'a Plan, input: &'a TreeInput, name: String) -> Side<'a> {
    let commit = input.revision.split_once("@sha1:").map(|(_, commit)| commit.to_string());
    Side::new(plan, &*input.tree, Revision { name, commit })
}
