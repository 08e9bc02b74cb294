//! From a tree to a plan: all units of a homelab's repository in dependency order, every object with its provenance.
//!
//! [`locate()`] finds the tree around a path, [`plan()`] renders it: roots are found ([`scan`]), every unit is rendered
//! with the same code the controllers run (`druse-flux`), and what a unit makes (further units, sources, ConfigMaps,
//! CustomResourceDefinitions) is given to the others until nothing changes any more ([`fixpoint`]). The result is a
//! pure function of the tree, the artifacts and the options: same inputs, same plan, on any number of threads.
//!
//! Several revisions are planned with one [`Memo`]: what a unit rendered to is kept under everything it read, absences
//! included, so that of the second revision only the units are rendered that read something else. Unchanged units hold
//! the very same objects ([`Shared::is_same`]), which spares comparing them. [`Memo::in_folder`] keeps renderings
//! between runs, too.
//!
//! ```no_run
//! # use std::{path::Path, sync::Arc};
//! # use druse_plan::{Memo, PlanOptions, locate_revision, plan_with, sources::Sources};
//! # fn both(fetcher: Arc<druse_source::Fetcher>) -> Result<(), druse_plan::PlanError> {
//! let memo = Arc::new(Memo::new());
//! let plan = |revision: &str| {
//!     let input = locate_revision(Path::new("."), revision)?;
//!     let sources = Sources::with_memo(input, Arc::clone(&fetcher), Arc::clone(&memo));
//!     Ok::<_, druse_plan::PlanError>(plan_with(&sources, &PlanOptions::default()))
//! };
//! let (base, head) = (plan("main")?, plan("HEAD")?);
//! for unit in &head.units {
//!     let same = base.unit(&unit.id).is_some_and(|b| b.objects.is_same(&unit.objects));
//!     println!("{} {}", unit.id, if same { "is unchanged" } else { "is to be compared" });
//! }
//! # Ok(()) }
//! ```
//!
//! Values of Secrets are never kept on disk. Who does not need them says so with [`SecretValues`], and asks once more
//! for those units that turned out to differ ([`SecretValues::NeededOf`]).
//!
//! Knows nothing of any running cluster: what only one could answer is listed as unresolved.

#[allow(clippy::result_large_err, reason = "as in sources")]
mod charts;
pub use charts::chart_files;
pub mod clusters;
mod codec;
mod copied;
mod entry;
mod finish;
mod fixpoint;
pub mod instance;
pub mod kinds;
mod locate;
pub mod memo;
pub mod model;
pub mod remote;
pub mod render;
pub mod scan;
mod secrets;
pub mod shared;
#[allow(clippy::result_large_err, reason = "a failure is rare and carries all that a report needs")]
pub mod sources;
mod store;
mod trace;
mod world;

pub use fixpoint::{plan, plan_with};
pub use kinds::Kinds;
pub use locate::{Located, PlanError, TreeInput, locate, locate_revision};
pub use memo::{Kept, Memo};
pub use model::{
    ChartInfo, Fault, Plan, PlanOptions, SecretValues, ServedKind, SourceInfo, StandIn, StandIns, TreeSource, Unit,
    UnitError, UnitId, UnitKind, UnitState,
};
pub use shared::{Objects, Shared};
pub use trace::Asked;
