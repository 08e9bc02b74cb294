//! The rules, one module a subject. Each looks at the whole and adds what it finds; none depends on another.

mod addresses;
mod admission;
mod change;
mod deprecated;
mod duplicates;
mod expressions;
mod files;
mod gateway;
mod graph;
mod kustomize;
mod namespaces;
mod pinning;
mod ports;
mod references;
mod render;
mod schedules;
mod schema;
mod secrets;
mod security;
mod selectors;
mod sources;
mod syntax;
mod unique;
mod unrendered;
mod values;
mod variables;

use rayon::prelude::*;

use crate::context::Context;
use crate::finding::Finding;

/// A rule.
type Rule = fn(&Context<'_>, &mut Vec<Finding>);

/// All rules that look at one state of the tree.
const RULES: &[Rule] = &[
    render::check,
    files::check,
    kustomize::check,
    variables::check,
    schema::check,
    values::check,
    expressions::check,
    references::check,
    unrendered::check,
    graph::check,
    duplicates::check,
    namespaces::check,
    deprecated::check,
    secrets::check,
    pinning::check,
    selectors::check,
    ports::check,
    unique::check,
    security::check,
    admission::check,
    syntax::check,
    schedules::check,
    sources::check,
    addresses::check,
];

pub(crate) use change::check as changes;

/// What all rules find.
pub(crate) fn run(cx: &Context<'_>) -> Vec<Finding> {
    RULES
        .par_iter()
        .map(|rule| {
            let mut out = Vec::new();
            rule(cx, &mut out);
            out
        })
        .flatten_iter()
        .collect()
}
