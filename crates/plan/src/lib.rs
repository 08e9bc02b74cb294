//! From a tree to a plan: all units of a homelab's repository in dependency order, every object with its provenance.
//!
//! [`locate()`] finds the tree around a path, [`plan()`] renders it: roots are found ([`scan`]), every unit is rendered
//! with the same code the controllers run (`druse-flux`), and what a unit makes (further units, sources, ConfigMaps,
//! CustomResourceDefinitions) is given to the others until nothing changes any more ([`fixpoint`]). The result is a
//! pure function of the tree, the artifacts and the options: same inputs, same plan, on any number of threads.
//!
//! Knows nothing of any running cluster: what only one could answer is listed as unresolved.

pub mod clusters;
mod fixpoint;
pub mod kinds;
mod locate;
pub mod model;
pub mod render;
pub mod scan;
#[allow(clippy::result_large_err, reason = "a failure is rare and carries all that a report needs")]
pub mod sources;
mod world;

pub use fixpoint::{plan, plan_with};
pub use kinds::Kinds;
pub use locate::{PlanError, TreeInput, locate, locate_revision};
pub use model::{
    ChartInfo, Fault, Plan, PlanOptions, ServedKind, SourceInfo, StandIn, StandIns, TreeSource, Unit, UnitError,
    UnitId, UnitKind, UnitState,
};
