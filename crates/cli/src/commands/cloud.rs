//! `druse cloud`: AWS on this machine, as far as the secrets path needs it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use druse_localcloud::{Cloud, Config, serve};
use druse_plan::locate;
use druse_terraform::{Options, declared};

use crate::error::CliError;
use crate::globals::Globals;
use crate::values_file;

/// Serve STS, the Parameter Store, Secrets Manager and the public bucket on this machine, until interrupted
///
/// Roles, policies, OIDC providers, buckets and the names of parameters come from the tree's Terraform. Signatures are
/// checked, sessions expire, policies are evaluated, values are encrypted at rest. One account, one region; no AWS.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// A folder of the homelab's repository
    #[arg(default_value = ".", value_name = "PATH")]
    pub path: PathBuf,
    /// Keep everything in this folder (it is made when missing)
    #[arg(long, value_name = "DIR", default_value = ".druse/cloud")]
    pub data: PathBuf,
    /// Where to listen; port 0 takes a free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:4566")]
    pub listen: SocketAddr,
    /// Values of parameters and secrets: YAML with maps `parameters` and `secrets`, name to value; never to be committed
    #[arg(long, value_name = "FILE")]
    pub values: Option<PathBuf>,
    /// Make up a value, marked as such, for every declared parameter and secret that has none
    #[arg(long)]
    pub generate: bool,
    /// The account's id, where the Terraform does not settle it
    #[arg(long, value_name = "ID", default_value = "000000000000")]
    pub account: String,
    /// The region, where the Terraform names none
    #[arg(long, value_name = "REGION", default_value = "us-east-1")]
    pub region: String,
    /// Read an issuer's documents from a folder instead of its bucket (repeatable)
    #[arg(long, value_name = "ISSUER=DIR")]
    pub documents: Vec<String>,
}

/// Serves until interrupted.
pub fn run(args: &Args, globals: &Globals) -> Result<ExitCode, CliError> {
    let tree = locate(&args.path).map_err(CliError::new)?;
    let options = Options { account_id: Some(args.account.clone()), region: Some(args.region.clone()) };
    let declared = declared(&tree.tree, &options);
    for e in &declared.errors {
        crate::say::say!("{} {e}", globals.paint_stderr().yellow("warning:"));
    }
    let documents = args
        .documents
        .iter()
        .map(|d| match d.split_once('=') {
            Some((issuer, dir)) => Ok((issuer.to_string(), PathBuf::from(dir))),
            None => Err(CliError::new(format!("--documents {d}: write ISSUER=DIR"))),
        })
        .collect::<Result<_, _>>()?;
    let of_arn = |n: usize| declared.roles.iter().find_map(|r| r.arn.split(':').nth(n).map(str::to_string));
    let region = declared.regions.first().cloned().unwrap_or_else(|| args.region.clone());
    let cloud = Cloud::open(Config {
        data_dir: Some(args.data.clone()),
        account_id: of_arn(4).filter(|a| a.bytes().all(|b| b.is_ascii_digit())).unwrap_or_else(|| args.account.clone()),
        region,
        declared: declared.clone(),
        documents,
        administrator: None,
    })
    .map_err(CliError::new)?;
    if let Some(file) = &args.values {
        let (parameters, secrets) = values_file::read(file, &tree)?;
        cloud.set_values(&declared, parameters, secrets, "").map_err(CliError::new)?;
    }
    let generated = if args.generate { cloud.generate(&declared).map_err(CliError::new)? } else { Default::default() };
    let runtime = crate::threads::all()?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind(args.listen).await.map_err(|e| {
            CliError::new(format!("cannot listen on {}: {e}", args.listen))
                .help("stop what uses the address, or choose another with --listen (port 0 takes a free one)")
        })?;
        let mut interrupt = crate::signals::Interrupt::listen();
        let at = listener.local_addr().map_err(CliError::new)?;
        if !globals.quiet {
            announce(&cloud, at, args, &generated.names, globals);
        }
        let stop = async move {
            interrupt.wait().await;
        };
        serve(Arc::new(cloud), listener, stop).await;
        Ok(ExitCode::SUCCESS)
    })
}

fn announce(cloud: &Cloud, at: SocketAddr, args: &Args, generated: &[String], globals: &Globals) {
    let paint = globals.paint_stderr();
    let (roles, providers) = cloud.counts();
    crate::say::say!(
        "{} http://{at}: account {}, {}, {roles} roles, {providers} OIDC providers ({}: this is not AWS)",
        paint.green("serving"),
        cloud.account_id(),
        cloud.region(),
        paint.yellow("simulated")
    );
    crate::say::say!(
        "  {} AWS_ENDPOINT_URL=http://{at} AWS_REGION={} AWS_SHARED_CREDENTIALS_FILE={} aws ssm describe-parameters",
        paint.cyan("try:"),
        cloud.region(),
        args.data.join("administrator.credentials").display()
    );
    for note in &cloud.notes {
        crate::say::say!("{} {note}", paint.yellow("note:"));
    }
    if !generated.is_empty() {
        crate::say::say!("{} values made up for: {}", paint.yellow("note:"), generated.join(", "));
    }
}
