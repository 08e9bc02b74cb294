//! `druse secrets manifests`: what a real cluster needs for the secrets path.

use std::process::ExitCode;

use clap::ValueEnum;
use druse_secrets::manifests::{Cluster, Part};

use crate::error::CliError;

/// Print the manifests that install the secrets path in a real cluster
///
/// The kinds, the driver and the AWS provider, or the parts that --part names; each with a ServiceAccount that may do
/// what its part does and nothing more. druse's driver works with upstream's provider and the other way round, so that
/// one can take the place of upstream's at a time.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// The image to run, with druse as its entry point
    #[arg(long, value_name = "IMAGE")]
    image: String,
    /// A part (repeatable) [default: kinds, driver, provider]
    #[arg(long = "part", value_enum, value_name = "PART")]
    parts: Vec<PartName>,
    /// Where to install; the namespace must admit privileged pods
    #[arg(long, value_name = "NAME", default_value = "kube-system")]
    namespace: String,
    /// The region of classes that name none [default: that of the node's label]
    #[arg(long, value_name = "REGION", default_value = "")]
    region: String,
}

/// The parts by the names they have on the command line.
#[derive(Clone, Copy, Debug, ValueEnum, PartialEq, Eq)]
enum PartName {
    /// The CRDs, which upstream's chart brings too
    Kinds,
    /// The CSI driver: CSIDriver and DaemonSet
    Driver,
    /// The driver's right to make Secrets, for classes with secretObjects
    Sync,
    /// The AWS provider
    Provider,
    /// The pod identity webhook; its certificate is cert-manager's
    Webhook,
}

/// Prints.
pub fn run(args: &Args) -> Result<ExitCode, CliError> {
    let part = |p: &PartName| match p {
        PartName::Kinds => Part::Kinds,
        PartName::Driver => Part::Driver,
        PartName::Sync => Part::Sync,
        PartName::Provider => Part::Provider,
        PartName::Webhook => Part::Webhook,
    };
    let mut parts: Vec<Part> = args.parts.iter().map(part).collect();
    if parts.is_empty() {
        parts = vec![Part::Kinds, Part::Driver, Part::Provider];
    }
    parts.sort();
    parts.dedup();
    let cluster = Cluster { namespace: args.namespace.clone(), image: args.image.clone(), region: args.region.clone() };
    crate::say::print(&cluster.manifests(&parts).map_err(CliError::new)?)?;
    Ok(ExitCode::SUCCESS)
}
