//! `druse mirror`: fetches everything a tree names into a folder that stands in for the network.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::ValueEnum;
use druse_plan::{UnitState, plan};
use druse_source::net::shown;
use druse_source::{Fetcher, MirrorWriter, Origin, Progress, Put, SourceError};
use serde_json::json;

use crate::error::CliError;
use crate::globals::{Globals, Paint};
use crate::planning::{TreeArgs, new_fetcher, report};

/// How many things are fetched at a time.
const AT_A_TIME: usize = 12;

/// How the summary is printed.
#[derive(Clone, Copy, Debug, ValueEnum, PartialEq, Eq)]
pub enum Output {
    /// A table
    Table,
    /// JSON
    Json,
}

/// Fetch everything a tree names into a mirror, for machines without a network
///
/// Charts go to DIR/charts, a Helm repository; files of Git and OCI sources to DIR/sources/HOST/OWNER/NAME/REF. What is
/// there already stays; the command can be run again at any time, also after it was cut off. Exits with 1 when something
/// could not be fetched. Use the result with --mirror DIR, or with Helm as a repository.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    #[command(flatten)]
    pub tree: TreeArgs,
    /// The mirror's folder; made when it does not exist
    #[arg(long, value_name = "DIR")]
    pub to: PathBuf,
    /// The summary's form
    #[arg(short, long, value_enum, default_value = "table", value_name = "FORM")]
    pub output: Output,
}

/// One line of the summary.
struct Item {
    kind: &'static str,
    name: String,
    /// The revision, or what was asked for.
    version: String,
    url: String,
    origin: String,
    result: Result<Put, SourceError>,
}

impl Item {
    fn status(&self) -> &'static str {
        match self.result {
            Ok(Put::Written) => "written",
            Ok(Put::Unchanged) => "unchanged",
            Ok(Put::Replaced) => "replaced",
            Err(_) => "failed",
        }
    }
}

/// Runs the command.
pub fn run(args: &Args, globals: &Globals) -> Result<ExitCode, CliError> {
    let writer = MirrorWriter::open(&args.to).map_err(CliError::new)?;
    let fetcher = Arc::new(new_fetcher(globals)?.with_progress(progress(globals)));
    // A stand-in would hide what is missing, and all that comes with it.
    let tree = TreeArgs { no_stand_ins: true, ..args.tree.clone() };
    let (input, options) = (tree.input()?, tree.options()?);
    // Fetching is waiting: more threads than processors.
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(AT_A_TIME)
        .build()
        .map_err(|e| CliError::new(format!("threads cannot be started: {e}")))?;
    let plan = pool.install(|| plan(&input, &fetcher, &options));
    let items = write(&writer, &fetcher);
    writer.finish().map_err(CliError::new)?;
    let text = match args.output {
        Output::Table => table(&items, globals.paint_stdout()),
        Output::Json => json(&items),
    };
    crate::say::print(&text)?;
    let failed = || plan.units.iter().filter(|u| u.state == UnitState::Failed);
    report(&plan, failed(), globals);
    summary(&items, failed().count(), args, globals);
    let good = items.iter().all(|i| i.result.is_ok()) && !plan.has_failures();
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn progress(globals: &Globals) -> impl Fn(Progress<'_>) + Send + Sync + 'static {
    let (quiet, paint) = (globals.quiet, globals.paint_stderr());
    move |event| match event {
        Progress::Answered { what, result: Ok(artifact) } if !quiet => {
            let from = if artifact.origin == Origin::Cache { " (from the cache)" } else { "" };
            crate::say::say!("{} {what}{}", paint.green("fetched"), paint.dim(from));
        }
        Progress::Answered { what, result: Err(_) } if !quiet => crate::say::say!("{} {what}", paint.red("failed")),
        _ => {}
    }
}

fn summary(items: &[Item], failed_units: usize, args: &Args, globals: &Globals) {
    let paint = globals.paint_stderr();
    // What was not fetched is reported with the units that name it; here is what was, and cannot be kept.
    for item in items.iter().filter(|i| !i.origin.is_empty()) {
        if let Err(e) = &item.result {
            crate::say::say!("{} {} {} {}: {e}", paint.red("error:"), item.kind, item.name, item.version);
        }
    }
    let failed = items.iter().filter(|i| i.result.is_err()).count();
    if failed + failed_units > 0 {
        crate::say::say!(
            "{} {} is incomplete: {failed} of {} not fetched, {failed_units} units failed, what they would name is not known; run the command again when that is mended",
            paint.yellow("warning:"),
            args.to.display(),
            items.len(),
        );
    } else if !globals.quiet {
        crate::say::say!("{} holds all {} that the tree names", args.to.display(), items.len());
    }
}

/// Writes all that was asked for while the tree was planned.
fn write(writer: &MirrorWriter, fetcher: &Fetcher) -> Vec<Item> {
    let origin = |o: &Origin| match o {
        Origin::Mirror(dir) => format!("mirror {dir}"),
        Origin::Cache => "cache".to_string(),
        Origin::Network(url) => url.clone(),
        Origin::Tree => "tree".to_string(),
    };
    let mut items = Vec::new();
    for (request, found) in fetcher.asked_charts() {
        let (version, from) = match &found {
            Ok(found) => (found.artifact.revision.clone(), origin(&found.artifact.origin)),
            Err(_) => (request.version.clone(), String::new()),
        };
        let result = found.and_then(|found| writer.put_chart(&request, &found));
        let url = shown(&request.repository);
        items.push(Item { kind: "chart", name: request.name, version, url, origin: from, result });
    }
    for (request, found) in fetcher.asked_gits() {
        let (version, from) = match &found {
            Ok(found) => (found.artifact.revision.clone(), origin(&found.artifact.origin)),
            Err(_) => (request.reference.to_string(), String::new()),
        };
        let result = found.and_then(|found| writer.put_git(&request, &found));
        items.push(source("git", &request.url, version, from, result));
    }
    for (request, found) in fetcher.asked_ocis() {
        let (version, from) = match &found {
            Ok(found) => (found.artifact.revision.clone(), origin(&found.artifact.origin)),
            Err(_) => (request.reference.to_string(), String::new()),
        };
        let result = found.and_then(|found| writer.put_oci(&request, &found));
        items.push(source("oci", &request.url, version, from, result));
    }
    items.sort_by(|a, b| (a.kind, &a.name, &a.version, &a.url).cmp(&(b.kind, &b.name, &b.version, &b.url)));
    items
}

fn source(kind: &'static str, url: &str, version: String, origin: String, result: Result<Put, SourceError>) -> Item {
    let name = druse_source::mirror::source_folder(url).unwrap_or_else(|| shown(url));
    Item { kind, name, version, url: shown(url), origin, result }
}

fn table(items: &[Item], paint: Paint) -> String {
    let rows: Vec<[String; 5]> = items
        .iter()
        .map(|i| {
            let from = if i.origin.is_empty() { &i.url } else { &i.origin };
            [i.kind.to_string(), i.name.clone(), i.version.clone(), i.status().to_string(), from.clone()]
        })
        .collect();
    crate::table::table(["KIND", "NAME", "VERSION", "STATUS", "FROM"], &rows, paint, |column, cell| {
        match (column, cell) {
            (3, "failed") => paint.red(cell),
            (3, "unchanged") => paint.dim(cell),
            (3, _) => paint.green(cell),
            _ => cell.to_string(),
        }
    })
}

fn json(items: &[Item]) -> String {
    let items: Vec<serde_json::Value> = items
        .iter()
        .map(|i| {
            json!({
                "kind": i.kind, "name": i.name, "version": i.version, "url": i.url, "status": i.status(), "from": i.origin,
                "error": i.result.as_ref().err().map(ToString::to_string),
            })
        })
        .collect();
    format!("{:#}\n", serde_json::Value::from(items))
}
