//! `druse render`: every object of a tree's plan.

use std::borrow::Cow;
use std::io::{BufWriter, Write as _};
use std::process::ExitCode;

use clap::ValueEnum;
use druse_object::{Map, Object, Value, yaml};
use druse_plan::{SecretValues, Unit, UnitId};
use rayon::prelude::*;

use crate::error::CliError;
use crate::globals::Globals;
use crate::planning::{TreeArgs, report};

/// How objects are printed.
#[derive(Clone, Copy, Debug, ValueEnum, PartialEq, Eq)]
pub enum Output {
    /// YAML documents, each headed by its unit and place
    Yaml,
    /// One JSON list
    Json,
    /// One name a line: Kind.group/namespace/name
    Name,
}

/// Print every object that a tree makes, in the order in which its units can go
///
/// Exits with 1 when a unit could not be rendered; all others are printed. Random and clock functions of charts are
/// seeded, so the same input gives the same output.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    #[command(flatten)]
    pub tree: TreeArgs,
    /// Only this unit: Kustomization/NAMESPACE/NAME or HelmRelease/NAMESPACE/NAME (repeatable)
    #[arg(long, value_name = "UNIT")]
    pub unit: Vec<UnitId>,
    /// Print the values of Secrets; otherwise they are redacted
    #[arg(long)]
    pub show_secrets: bool,
    /// The output's form
    #[arg(short, long, value_enum, default_value = "yaml", value_name = "FORM")]
    pub output: Output,
}

/// Runs the command.
pub fn run(args: &Args, globals: &Globals) -> Result<ExitCode, CliError> {
    // What is redacted need not be made again where the rest of a unit is remembered.
    let secrets = if args.show_secrets { SecretValues::Needed } else { SecretValues::NotNeeded };
    let plan = args.tree.plan(globals, secrets)?;
    if let Some(missing) = args.unit.iter().find(|id| plan.unit(id).is_none()) {
        return Err(CliError::new(format!("{missing} is no unit of the tree")).help("`druse tree` lists the units"));
    }
    let meant = |u: &&Unit| args.unit.is_empty() || args.unit.contains(&u.id);
    let units: Vec<&Unit> = plan.units.iter().filter(meant).collect();
    print(&units, args).or_else(|e| {
        // Whoever reads the output may have had enough of it.
        if e.kind() == std::io::ErrorKind::BrokenPipe {
            Ok(())
        } else {
            Err(CliError::new(format!("standard output: {e}")))
        }
    })?;
    report(&plan, units.iter().copied(), globals);
    Ok(if units.iter().any(|u| !u.errors.is_empty()) { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn all_objects(unit: &Unit) -> impl Iterator<Item = (&Object, Option<&[String]>)> {
    let hooks = unit.hooks.iter().map(|h| (&h.object, Some(h.events.as_slice())));
    unit.objects.iter().map(|o| (o, None)).chain(hooks)
}

/// What stands for a Secret's value.
const REDACTED: &str = "**REDACTED**";

/// An object as it may be shown: a Secret's values are redacted, its keys stay, also where an annotation holds what was
/// applied before.
fn shown(object: &Object, show_secrets: bool) -> Cow<'_, Value> {
    if show_secrets || !object.is_secret() {
        return Cow::Borrowed(&object.value);
    }
    let mut value = object.value.clone();
    for field in ["data", "stringData"] {
        for (_, v) in value.get_mut(field).and_then(Value::as_map_mut).into_iter().flat_map(Map::iter_mut) {
            *v = REDACTED.into();
        }
    }
    let annotations = value.get_mut("metadata").and_then(|m| m.get_mut("annotations")).and_then(Value::as_map_mut);
    if let Some(last) = annotations.and_then(|a| a.get_mut("kubectl.kubernetes.io/last-applied-configuration")) {
        *last = REDACTED.into();
    }
    Cow::Owned(value)
}

/// How many objects become text at once, on all cores; so many texts are in memory before they are written in order.
const BATCH: usize = 256;

fn print(units: &[&Unit], args: &Args) -> std::io::Result<()> {
    let mut out = BufWriter::new(std::io::stdout().lock());
    match args.output {
        Output::Yaml => {
            let objects: Vec<_> = units.iter().flat_map(|u| all_objects(u)).collect();
            for batch in objects.chunks(BATCH) {
                let document = |(object, hook): &(&Object, Option<&[String]>)| {
                    let hook = hook.map(|events| format!("# hook: {}\n", events.join(", "))).unwrap_or_default();
                    let text = yaml::to_string(&shown(object, args.show_secrets));
                    format!("---\n# {}\n{hook}{text}", object.provenance)
                };
                for text in batch.par_iter().map(document).collect::<Vec<_>>() {
                    out.write_all(text.as_bytes())?;
                }
            }
        }
        Output::Json => {
            let mut list = Map::new();
            list.insert("apiVersion", "v1");
            list.insert("kind", "List");
            let items: Vec<Value> = units
                .iter()
                .flat_map(|u| all_objects(u))
                .map(|(o, _)| shown(o, args.show_secrets).into_owned())
                .collect();
            list.insert("items", items);
            serde_json::to_writer_pretty(&mut out, &Value::Map(list)).map_err(std::io::Error::from)?;
            writeln!(out)?;
        }
        Output::Name => {
            for (object, _) in units.iter().flat_map(|u| all_objects(u)) {
                let key = object.key();
                let dot = if key.group.is_empty() { "" } else { "." };
                let slash = if key.namespace.is_empty() { "" } else { "/" };
                writeln!(out, "{}{dot}{}/{}{slash}{}", key.kind, key.group, key.namespace, key.name)?;
            }
        }
    }
    out.flush()
}
