//! `druse tree`: the units of a tree, what each needs and makes.

use std::fmt::Write as _;
use std::process::ExitCode;

use clap::ValueEnum;
use druse_plan::{Plan, Unit, UnitState};
use serde_json::json;

use crate::error::CliError;
use crate::globals::Globals;
use crate::planning::{TreeArgs, report};

/// How units are printed.
#[derive(Clone, Copy, Debug, ValueEnum, PartialEq, Eq)]
pub enum Output {
    /// A table
    Table,
    /// JSON
    Json,
    /// A graph for Graphviz
    Dot,
}

/// Show the units of a tree: what each is made by, needs and makes
///
/// Exits with 1 when a unit could not be rendered.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    #[command(flatten)]
    pub tree: TreeArgs,
    /// The output's form
    #[arg(short, long, value_enum, default_value = "table", value_name = "FORM")]
    pub output: Output,
}

/// Runs the command.
pub fn run(args: &Args, globals: &Globals) -> Result<ExitCode, CliError> {
    let plan = args.tree.plan(globals, druse_plan::SecretValues::NotNeeded)?;
    let text = match args.output {
        Output::Table => table(&plan, globals),
        Output::Json => json(&plan),
        Output::Dot => dot(&plan),
    };
    crate::say::print(&text)?;
    report(&plan, plan.units.iter(), globals);
    Ok(if plan.has_failures() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn state(unit: &Unit) -> &'static str {
    match unit.state {
        UnitState::Ok => "ok",
        UnitState::Failed => "failed",
        UnitState::StandIn { .. } => "stand-in",
        UnitState::Waiting { .. } => "waiting",
        UnitState::Suspended => "suspended",
    }
}

/// `name version` of a release's chart, or the source of a Kustomization.
fn made_from(unit: &Unit) -> String {
    match (&unit.chart, &unit.source) {
        (Some(chart), _) => {
            let version = if chart.version.is_empty() { &chart.wanted } else { &chart.version };
            format!("{} {version}", chart.name)
        }
        (None, Some(source)) if source.is_tree => {
            let path = unit.definition.value.str_at(["spec", "path"]).unwrap_or("/");
            format!("this tree: {path}")
        }
        (None, Some(source)) => format!("{} {}", source.url, source.revision.split('@').next().unwrap_or_default()),
        (None, None) => String::new(),
    }
}

fn table(plan: &Plan, globals: &Globals) -> String {
    let paint = globals.paint_stdout();
    let rows: Vec<[String; 5]> = plan
        .units
        .iter()
        .map(|u| {
            let needs: Vec<String> = u.depends_on.iter().map(ToString::to_string).collect();
            let unit = if u.is_root { format!("{} (root)", u.id) } else { u.id.to_string() };
            [unit, state(u).to_string(), (u.objects.len() + u.hooks.len()).to_string(), made_from(u), needs.join(", ")]
        })
        .collect();
    crate::table::table(["UNIT", "STATE", "OBJECTS", "FROM", "NEEDS"], &rows, paint, |column, cell| {
        match (column, cell) {
            (1, "ok") => paint.green(cell),
            (1, "failed") => paint.red(cell),
            (1, _) => paint.yellow(cell),
            _ => cell.to_string(),
        }
    })
}

fn json(plan: &Plan) -> String {
    let units: Vec<serde_json::Value> = plan
        .units
        .iter()
        .map(|u| {
            let (component, reason) = match &u.state {
                UnitState::StandIn { component, reason } => (Some(component), Some(reason)),
                _ => (None, None),
            };
            let ids = |ids: &[druse_plan::UnitId]| ids.iter().map(ToString::to_string).collect::<Vec<_>>();
            json!({
                "unit": u.id.to_string(),
                "state": state(u),
                "root": u.is_root,
                "file": u.definition.provenance.file.as_deref(),
                "line": u.definition.provenance.line,
                "madeBy": ids(&u.made_by),
                "dependsOn": ids(&u.depends_on),
                "waitsFor": match &u.state { UnitState::Waiting { on } => ids(on), _ => Vec::new() },
                "source": u.source,
                "chart": u.chart,
                "standIn": component,
                "standInReason": reason,
                "objects": u.objects.iter().map(|o| o.key().to_string()).collect::<Vec<_>>(),
                "hooks": u.hooks.iter().map(|h| h.object.key().to_string()).collect::<Vec<_>>(),
                "errors": u.errors,
                "warnings": u.warnings,
                "unresolved": u.unresolved,
            })
        })
        .collect();
    let all = json!({ "units": units, "treeSources": plan.tree_sources, "warnings": plan.warnings });
    format!("{all:#}\n")
}

fn dot(plan: &Plan) -> String {
    let mut out = String::from("digraph units {\n  rankdir=LR;\n  node [shape=box, fontname=sans];\n");
    let quote = |s: String| format!("\"{}\"", s.replace('\\', "\\\\").replace('"', "\\\""));
    for u in &plan.units {
        let color = match u.state {
            UnitState::Ok => "black",
            UnitState::Failed => "red",
            _ => "orange",
        };
        let label = quote(format!("{}\n{}", u.id, made_from(u))).replace('\n', "\\n");
        let _ = writeln!(out, "  {} [label={label}, color={color}];", quote(u.id.to_string()));
        for by in u.made_by.iter().filter(|by| **by != u.id) {
            let _ = writeln!(out, "  {} -> {} [label=makes];", quote(by.to_string()), quote(u.id.to_string()));
        }
        for on in &u.depends_on {
            let _ = writeln!(
                out,
                "  {} -> {} [label=needs, style=dashed];",
                quote(u.id.to_string()),
                quote(on.to_string())
            );
        }
    }
    out.push_str("}\n");
    out
}
