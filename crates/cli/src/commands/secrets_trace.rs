//! `druse secrets trace`: a pod's way to its secrets, walked live.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use druse_runtime::Api;
use druse_secrets::trace::{Outcome, Trace, Tracer};
use druse_terraform::{Options, declared};

use super::secrets::Output;
use crate::cluster::ClusterArgs;
use crate::error::CliError;
use crate::globals::Globals;

/// Walk a pod's way to its secrets, and say what each step answers
///
/// Asks the cluster, STS and the Parameter Store as the provider would, with a token of the pod's own ServiceAccount: one
/// step at a time, one object at a time. Shows no value and no token. Exits with 1 where the way is broken. You need the
/// rights to read the pod's objects and to create serviceaccounts/token; AWS' endpoints come from the standard variables.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// The pod, as NAMESPACE/POD
    #[arg(value_name = "NAMESPACE/POD")]
    pod: String,
    /// What ServiceAccount annotations start with
    #[arg(long, value_name = "PREFIX", default_value = "eks.amazonaws.com")]
    annotation_prefix: String,
    /// A folder of the homelab's repository: where STS lets the pod into no role, the trust policy that its Terraform
    /// declares says why
    #[arg(long, value_name = "PATH", default_value = ".")]
    tree: PathBuf,
    /// The output's form
    #[arg(short, long, value_enum, default_value = "text", value_name = "FORM")]
    output: Output,
    #[command(flatten)]
    cluster: ClusterArgs,
}

/// Walks the way.
pub fn run(args: &Args, globals: &Globals) -> Result<ExitCode, CliError> {
    let (namespace, name) = args
        .pod
        .split_once('/')
        .filter(|(ns, name)| !ns.is_empty() && !name.is_empty() && !name.contains('/'))
        .ok_or_else(|| CliError::new(format!("{}: this names no pod", args.pod)).help("write NAMESPACE/POD"))?;
    let mut settings = crate::cloud_place::provider_settings()?;
    settings.annotation_prefix.clone_from(&args.annotation_prefix);
    // Who waits for an answer would rather know.
    settings.retries = settings.retries.min(1);
    let runtime = crate::threads::few()?;
    let mut trace = runtime.block_on(async {
        let client = args.cluster.client().await?;
        Ok::<_, CliError>(Tracer::new(Api::new(client), settings).trace(namespace, name).await)
    })?;
    if let Some(role) = trace.refused_role() {
        let account_id = druse_aws::arn::Arn::parse(role).map(|a| a.account.to_string());
        let tree = druse_plan::locate(&args.tree).map_err(CliError::new)?;
        trace.compare(&declared(&tree.tree, &Options { account_id, region: None }));
    }
    match args.output {
        Output::Text => crate::say::print(&text(&trace, globals))?,
        Output::Json => {
            crate::say::print(&format!("{}\n", serde_json::to_string_pretty(&trace).map_err(CliError::new)?))?;
        }
    }
    Ok(if trace.is_whole() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn text(trace: &Trace, globals: &Globals) -> String {
    let paint = globals.paint_stdout();
    let mut out = String::new();
    let _ = writeln!(out, "{}", paint.bold(&format!("pod {}", trace.pod)));
    for s in &trace.steps {
        let outcome = match s.outcome {
            Outcome::Ok => paint.green("ok     "),
            Outcome::Warning => paint.yellow("warning"),
            Outcome::Failed => paint.red("failed "),
        };
        let _ = writeln!(out, "{outcome}  {:8}{} {}", s.step, paint.dim("asked"), s.asked);
        let _ = writeln!(out, "{:17}{} {}", "", paint.dim("->"), s.answered);
        if !s.cause.is_empty() {
            let _ = writeln!(out, "{:17}{} {}", "", paint.yellow("likely:"), s.cause);
        }
        if !s.remedy.is_empty() {
            let _ = writeln!(out, "{:17}{} {}", "", paint.cyan("help:"), s.remedy);
        }
    }
    let closing = match trace.steps.iter().find(|s| s.outcome == Outcome::Failed) {
        None => paint.green("the way is whole"),
        Some(first) => paint.red(&format!("it stops at: {}", first.step)),
    };
    let _ = writeln!(out, "{closing}");
    out
}
