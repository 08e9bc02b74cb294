//! `druse kustomize`: builds one kustomization, with the output of `kubectl kustomize`.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use druse_kustomize::{
    BuildOptions, DiskTree, FileTree, Helm, LoadRestriction, Remote, RemoteContent, RepoSpec, build, to_yaml,
};

use crate::charts::Charts;
use crate::error::CliError;
use crate::globals::Globals;
use crate::planning::fetcher;

/// Build one kustomization, as `kubectl kustomize` does
///
/// What is named by URL comes from mirrors, the cache and the network, as charts and sources do.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// The folder with the kustomization file, or the URL of one in a Git repository
    #[arg(default_value = ".", value_name = "DIR")]
    pub dir: PathBuf,
    /// Which files may be read: those in and below the folder (LoadRestrictionsRootOnly), or any
    /// (LoadRestrictionsNone, as Flux allows)
    #[arg(long, value_name = "RULE", default_value = "LoadRestrictionsRootOnly",
          value_parser = ["LoadRestrictionsRootOnly", "LoadRestrictionsNone"])]
    pub load_restrictor: String,
    /// Render the charts of `helmCharts`
    #[arg(long)]
    pub enable_helm: bool,
    /// The Kubernetes version for those charts, above what they say themselves
    #[arg(long, value_name = "VERSION", default_value = "")]
    pub helm_kube_version: String,
    /// API versions for those charts, above what they say themselves (comma-separated, repeatable)
    #[arg(long, value_name = "VERSION", value_delimiter = ',')]
    pub helm_api_versions: Vec<String>,
    /// Accepted, without effect: charts are rendered natively
    #[arg(long, hide = true, value_name = "PATH", default_value = "helm")]
    pub helm_command: String,
    /// Refused: plugins that are programs or containers are not run
    #[arg(long, hide = true)]
    pub enable_alpha_plugins: bool,
    /// Write to a file instead of standard output
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// Runs the command.
pub fn run(args: &Args, globals: &Globals) -> Result<ExitCode, CliError> {
    if args.enable_alpha_plugins {
        return Err(CliError::new(
            "--enable-alpha-plugins is not supported: plugins that are programs are not run here",
        )
        .help("the generators and transformers built into kustomize need no flag"));
    }
    let fetcher = fetcher(globals)?;
    let charts = Charts {
        fetcher: fetcher.clone(),
        kube_version: args.helm_kube_version.clone(),
        api_versions: args.helm_api_versions.clone(),
    };
    let warn = |warning: &str| {
        let _ = writeln!(std::io::stderr(), "{warning}");
    };
    let options = BuildOptions {
        restriction: match args.load_restrictor.as_str() {
            "LoadRestrictionsNone" => LoadRestriction::None,
            _ => LoadRestriction::RootOnly,
        },
        warn: Some(&warn),
        remote: Some(&*fetcher),
        helm: args.enable_helm.then_some(&charts as &dyn Helm),
        ..BuildOptions::default()
    };
    let shown = args.dir.display().to_string();
    let text = match RepoSpec::parse(&shown).filter(|_| !args.dir.exists()) {
        Some(_) => match fetcher.get(&shown).map_err(CliError::new)? {
            RemoteContent::Tree { tree, dir } => built(&*tree, &dir, &BuildOptions { shown_root: &shown, ..options })?,
            RemoteContent::File(_) => {
                return Err(CliError::new(format_args!("{shown} is a file; a folder with a kustomization is needed")));
            }
        },
        None => {
            let dir = std::fs::canonicalize(&args.dir)
                .map_err(|e| CliError::new(format_args!("cannot read the folder {shown}: {e}")))?;
            // As with kubectl, a base may be anywhere.
            let tree = DiskTree::new("/").map_err(CliError::new)?;
            let path = dir
                .strip_prefix("/")
                .ok()
                .and_then(|p| p.to_str())
                .ok_or_else(|| CliError::new(format_args!("the path of {shown} is not valid UTF-8")))?;
            built(&tree, path, &BuildOptions { shown_root: "/", ..options })?
        }
    };
    match &args.output {
        Some(file) => std::fs::write(file, text)
            .map_err(|e| CliError::new(format_args!("cannot write {}: {e}", file.display())))?,
        None => crate::say::print(&text)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn built(tree: &dyn FileTree, dir: &str, options: &BuildOptions<'_>) -> Result<String, CliError> {
    let objects = build(tree, dir, options).map_err(|e| {
        let root = options.shown_root.trim_end_matches('/');
        let place = match (&e.file, e.line) {
            (Some(file), 0) if !file.is_empty() => format!("\n  at {root}/{file}"),
            (Some(file), line) if !file.is_empty() => format!("\n  at {root}/{file}:{line}"),
            _ => String::new(),
        };
        let error = CliError::new(format_args!("{}{place}", e.message.trim_end()));
        match e.remedy {
            Some(remedy) => error.help(remedy),
            None => error,
        }
    })?;
    Ok(to_yaml(&objects))
}
