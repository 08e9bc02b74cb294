//! `druse kustomize`: builds one kustomization, with the output of `kubectl kustomize`.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use druse_kustomize::{BuildOptions, DiskTree, LoadRestriction, build, deprecations, to_yaml};

use crate::error::CliError;
use crate::globals::Globals;

/// Build one kustomization, as `kubectl kustomize` does
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// The folder with the kustomization file
    #[arg(default_value = ".", value_name = "DIR")]
    pub dir: PathBuf,
    /// Which files may be read: those in and below the folder (LoadRestrictionsRootOnly), or any
    /// (LoadRestrictionsNone, as Flux allows)
    #[arg(long, value_name = "RULE", default_value = "LoadRestrictionsRootOnly",
          value_parser = ["LoadRestrictionsRootOnly", "LoadRestrictionsNone"])]
    pub load_restrictor: String,
    /// Write to a file instead of standard output
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// Runs the command.
pub fn run(args: &Args, _globals: &Globals) -> Result<ExitCode, CliError> {
    let shown = args.dir.display();
    let dir = std::fs::canonicalize(&args.dir)
        .map_err(|e| CliError::new(format_args!("cannot read the folder {shown}: {e}")))?;
    // As with kubectl, a base may be anywhere.
    let tree = DiskTree::new("/").map_err(CliError::new)?;
    let path = dir
        .strip_prefix("/")
        .ok()
        .and_then(|p| p.to_str())
        .ok_or_else(|| CliError::new(format_args!("the path of {shown} is not valid UTF-8")))?;
    let restriction = match args.load_restrictor.as_str() {
        "LoadRestrictionsNone" => LoadRestriction::None,
        _ => LoadRestriction::RootOnly,
    };
    let mut warnings = std::io::stderr().lock();
    for warning in deprecations(&tree, path) {
        let _ = writeln!(warnings, "{warning}");
    }
    drop(warnings);
    let options = BuildOptions { restriction, shown_root: "/", ..BuildOptions::default() };
    let objects = build(&tree, path, &options).map_err(|e| {
        let place = match (&e.file, e.line) {
            (Some(file), 0) if !file.is_empty() => format!("\n  at /{file}"),
            (Some(file), line) if !file.is_empty() => format!("\n  at /{file}:{line}"),
            _ => String::new(),
        };
        let error = CliError::new(format_args!("{}{place}", e.message.trim_end()));
        match e.remedy {
            Some(remedy) => error.help(remedy),
            None => error,
        }
    })?;
    let text = to_yaml(&objects);
    match &args.output {
        Some(file) => std::fs::write(file, text)
            .map_err(|e| CliError::new(format_args!("cannot write {}: {e}", file.display())))?,
        None => crate::say::print(&text)?,
    }
    Ok(ExitCode::SUCCESS)
}
