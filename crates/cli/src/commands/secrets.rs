//! `druse secrets`: the keyless path from a pod to its parameters.

use std::fmt::Write as _;
use std::process::ExitCode;

use clap::ValueEnum;
use druse_secrets::proof::{Finding, Proof, Severity, prove};
use serde_json::json;

use crate::error::CliError;
use crate::globals::Globals;
use crate::planning::{TreeArgs, report};

/// Prove and follow the way from a pod to its parameters
#[derive(clap::Subcommand, Clone, Debug)]
pub enum Command {
    Check(Check),
    Trace(super::secrets_trace::Args),
    Provider(super::secrets_provider::Args),
    Manifests(super::secrets_manifests::Args),
    List(super::secrets_keep::List),
    Put(super::secrets_keep::Put),
    Rotate(super::secrets_keep::Rotate),
    Diff(super::secrets_keep::Diff),
}

/// How findings are printed.
#[derive(Clone, Copy, Debug, ValueEnum, PartialEq, Eq)]
pub enum Output {
    /// One finding after another
    Text,
    /// JSON
    Json,
}

/// Prove from the tree alone that every secrets volume can be mounted
///
/// Follows each CSI volume across Kubernetes and Terraform: SecretProviderClass, ServiceAccount, role, trust policy,
/// permissions, parameter; and looks back for roles, classes and parameters nobody uses, and for permissions wider than
/// needed. What the tree leaves open is unknown, not a fault. Exits with 1 when a way is broken.
#[derive(clap::Args, Clone, Debug)]
pub struct Check {
    #[command(flatten)]
    pub tree: TreeArgs,
    /// What ServiceAccount annotations start with
    #[arg(long, value_name = "PREFIX", default_value = "eks.amazonaws.com")]
    pub annotation_prefix: String,
    /// The output's form
    #[arg(short, long, value_enum, default_value = "text", value_name = "FORM")]
    pub output: Output,
}

/// Runs the command.
pub fn run(command: &Command, globals: &Globals) -> Result<ExitCode, CliError> {
    match command {
        Command::Check(args) => check(args, globals),
        Command::Trace(args) => super::secrets_trace::run(args, globals),
        Command::Provider(args) => super::secrets_provider::run(args, globals),
        Command::Manifests(args) => super::secrets_manifests::run(args),
        Command::List(args) => super::secrets_keep::list(args, globals),
        Command::Put(args) => super::secrets_keep::put(args, globals),
        Command::Rotate(args) => super::secrets_keep::rotate(args, globals),
        Command::Diff(args) => super::secrets_keep::diff(args, globals),
    }
}

fn check(args: &Check, globals: &Globals) -> Result<ExitCode, CliError> {
    let (plan, tree) = args.tree.plan_and_tree(globals, druse_plan::SecretValues::NotNeeded)?;
    let declared = crate::secrets_path::terraform(&plan, &tree, &args.annotation_prefix);
    let input = crate::secrets_path::input(&plan, &tree, &declared, &args.annotation_prefix);
    let mut proof = prove(&input);
    proof.find_lines(|file| String::from_utf8(tree.tree.read(file).ok()?.to_vec()).ok());
    match args.output {
        Output::Text => crate::say::print(&text(&proof, globals))?,
        Output::Json => crate::say::print(&format!("{:#}\n", as_json(&proof)))?,
    }
    if globals.verbose > 0 {
        report(&plan, plan.units.iter().filter(|u| !u.errors.is_empty()), globals);
    }
    let broken = proof.findings.iter().any(|f| f.severity == Severity::Error);
    Ok(if broken { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn word(f: &Finding) -> &'static str {
    match f.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
        Severity::Unknown => "unknown",
    }
}

fn text(proof: &Proof, globals: &Globals) -> String {
    let paint = globals.paint_stdout();
    let mut out = String::new();
    for f in &proof.findings {
        let head = match f.severity {
            Severity::Error => paint.red("error"),
            Severity::Warning => paint.yellow("warning"),
            Severity::Unknown => paint.dim("unknown"),
        };
        let _ = writeln!(out, "{head}[{}]: {}", f.code, f.message);
        for place in f.from.iter().chain(&f.to) {
            let _ = writeln!(out, "  {} {place}", paint.cyan("-->"));
        }
        if !f.remedy.is_empty() {
            let _ = writeln!(out, "  {} {}", paint.cyan("help:"), f.remedy);
        }
    }
    let count = |s: Severity| proof.findings.iter().filter(|f| f.severity == s).count();
    let _ = writeln!(
        out,
        "{} of {} secrets volumes proven ({} objects); {} errors, {} warnings, {} unknown",
        proof.proven,
        proof.volumes,
        proof.objects,
        count(Severity::Error),
        count(Severity::Warning),
        count(Severity::Unknown)
    );
    out
}

fn as_json(proof: &Proof) -> serde_json::Value {
    let place = |p: &Option<druse_terraform::Place>| p.as_ref().map(|p| json!({ "file": &*p.file, "line": p.line }));
    let findings: Vec<serde_json::Value> = proof
        .findings
        .iter()
        .map(|f| {
            json!({
                "severity": word(f),
                "code": f.code,
                "message": f.message,
                "from": place(&f.from),
                "to": place(&f.to),
                "remedy": f.remedy,
            })
        })
        .collect();
    json!({ "volumes": proof.volumes, "proven": proof.proven, "objects": proof.objects, "findings": findings })
}
