//! DR018: CEL expressions of Flux units: when their objects are healthy (`healthCheckExprs`) and when what they depend
//! on is ready (`readyExpr`). Flux reads them before it applies anything.

use druse_apiserver::cel::Program;
use druse_object::Value;

use crate::context::Context;
use crate::finding::Finding;
use crate::position::{Step, show};

/// The lists in a unit's specification whose items hold expressions, and the fields that do.
const EXPRESSIONS: &[(&str, &[&str])] =
    &[("healthCheckExprs", &["current", "inProgress", "failed"]), ("dependsOn", &["readyExpr"])];

pub(super) fn check(cx: &Context<'_>, out: &mut Vec<Finding>) {
    for unit in &cx.plan.units {
        for (list, fields) in EXPRESSIONS {
            for (i, item) in unit.definition.value["spec"][*list].items().iter().enumerate() {
                for field in *fields {
                    let Some(text) = item.get(field).and_then(Value::as_str) else { continue };
                    let Err(fault) = Program::compile(text) else { continue };
                    let path = [Step::from("spec"), Step::from(*list), Step::Index(i), Step::from(*field)];
                    let message = format!("{} is no expression: {fault}", show(&path));
                    out.push(cx.unit(unit, &path, "DR018", message));
                }
            }
        }
    }
}
