//! `druse render`: every object of a tree's plan.

use std::borrow::Cow;
use std::io::{BufWriter, Write as _};
use std::process::ExitCode;

use clap::ValueEnum;
use druse_object::object::{has_secrets, withhold_secrets};
use druse_object::{Map, Object, Value, yaml};
use druse_plan::{Memo, SecretValues, Unit, UnitId};
use rayon::prelude::*;

use crate::error::CliError;
use crate::globals::Globals;
use crate::planning::{TreeArgs, memo, report};

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
    let memo = memo(globals, Memo::default);
    let plan = args.tree.plan_with(globals, secrets, &memo)?;
    if let Some(missing) = args.unit.iter().find(|id| plan.unit(id).is_none()) {
        return Err(CliError::new(format!("{missing} is no unit of the tree")).help("`druse tree` lists the units"));
    }
    let meant = |u: &&Unit| args.unit.is_empty() || args.unit.contains(&u.id);
    let units: Vec<&Unit> = plan.units.iter().filter(meant).collect();
    print(&units, args, &memo).or_else(|e| {
        // Whoever reads the output may have had enough of it.
        if e.kind() == std::io::ErrorKind::BrokenPipe {
            Ok(())
        } else {
            Err(CliError::new(format!("standard output: {e}")))
        }
    })?;
    report(&plan, units.iter().copied(), globals);
    let failed = units.iter().any(|u| !u.errors.is_empty());
    memo.tidy();
    // The process ends: giving its memory back piece by piece would only take time.
    std::mem::forget((plan, memo));
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
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
    if show_secrets || !has_secrets(&object.value) {
        return Cow::Borrowed(&object.value);
    }
    let mut value = object.value.clone();
    withhold_secrets(&mut value, REDACTED);
    Cow::Owned(value)
}

/// How many units become text at once, on all cores; so many texts are in memory before they are written in order.
const BATCH: usize = 8;

/// A unit's objects as YAML: as they were printed in an earlier run, where they are the same.
fn yaml_of(unit: &Unit, memo: &Memo, show_secrets: bool, text: &mut Vec<u8>) {
    if !show_secrets && memo.text(unit, text) {
        return;
    }
    text.clear();
    let objects: Vec<_> = all_objects(unit).collect();
    let document = |(object, hook): &(&Object, Option<&[String]>)| {
        let hook = hook.map(|events| format!("# hook: {}\n", events.join(", "))).unwrap_or_default();
        let mut text = format!("---\n# {}\n{hook}", object.provenance);
        yaml::write_into(&mut text, &shown(object, show_secrets));
        text
    };
    for document in objects.par_iter().map(document).collect::<Vec<_>>() {
        text.extend_from_slice(document.as_bytes());
    }
    if !show_secrets {
        memo.keep_text(unit, text);
    }
}

fn print(units: &[&Unit], args: &Args, memo: &Memo) -> std::io::Result<()> {
    let mut out = BufWriter::new(std::io::stdout().lock());
    match args.output {
        Output::Yaml => {
            // The same room for each batch: asking the system for more takes as long as filling it.
            let mut texts: Vec<Vec<u8>> = vec![Vec::new(); BATCH];
            for batch in units.chunks(BATCH) {
                let each = texts.par_iter_mut().zip(batch).with_max_len(1);
                each.for_each(|(text, unit)| yaml_of(unit, memo, args.show_secrets, text));
                for text in texts.iter().take(batch.len()) {
                    out.write_all(text)?;
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
