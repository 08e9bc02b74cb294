//! What every command that plans a tree shares: its arguments, the components that stand in, the report of failures.

use std::path::PathBuf;
use std::sync::Arc;

use druse_plan::sources::Sources;
use druse_plan::{
    Memo, Plan, PlanOptions, SecretValues, ServedKind, StandIn, StandIns, TreeInput, UnitState, locate,
    locate_revision, plan_with,
};
use druse_source::{Fetcher, FetcherOptions};

use crate::error::CliError;
use crate::globals::Globals;

/// Which tree, and how it is planned.
#[derive(clap::Args, Clone, Debug)]
pub struct TreeArgs {
    /// A folder of the homelab's repository
    #[arg(default_value = ".", value_name = "PATH")]
    pub path: PathBuf,
    /// Plan this revision (commit, branch, tag) instead of the files on disk
    #[arg(long, value_name = "REV")]
    pub rev: Option<String>,
    /// Fail units whose chart or source is not at hand, even where a component could do their work
    #[arg(long)]
    pub no_stand_ins: bool,
    /// The Kubernetes version charts are rendered for
    #[arg(long, value_name = "VERSION", default_value = druse_plan::model::DEFAULT_KUBE_VERSION)]
    pub kube_version: String,
}

impl TreeArgs {
    /// The tree.
    ///
    /// # Errors
    /// When the path is no folder, or there is no such revision.
    pub fn input(&self) -> Result<TreeInput, CliError> {
        match &self.rev {
            None => locate(&self.path),
            Some(rev) => locate_revision(&self.path, rev),
        }
        .map_err(CliError::new)
    }

    /// The options of the plan.
    ///
    /// # Errors
    /// When the Kubernetes version is none.
    pub fn options(&self) -> Result<PlanOptions, CliError> {
        Ok(PlanOptions {
            kube_version: druse_helm::KubeVersion::parse(&self.kube_version).map_err(CliError::new)?,
            stand_ins: Arc::new(Components { stand_in: !self.no_stand_ins }),
            keys: crate::keys::age_keys()?,
            ..PlanOptions::default()
        })
    }

    /// The plan of the tree.
    ///
    /// # Errors
    /// When the tree cannot be read at all, or a mirror is none. Failed units are part of the plan.
    pub fn plan(&self, globals: &Globals, secrets: SecretValues) -> Result<Plan, CliError> {
        self.plan_with(globals, secrets, &memo(globals, Memo::default))
    }

    /// The plan of the tree, with what a memo holds.
    ///
    /// # Errors
    /// As [`TreeArgs::plan`].
    pub fn plan_with(&self, globals: &Globals, secrets: SecretValues, memo: &Arc<Memo>) -> Result<Plan, CliError> {
        self.plan_of(self.input()?, globals, secrets, memo)
    }

    /// The plan of the tree, and the tree.
    ///
    /// # Errors
    /// As [`TreeArgs::plan`].
    pub fn plan_and_tree(&self, globals: &Globals, secrets: SecretValues) -> Result<(Plan, TreeInput), CliError> {
        let input = self.input()?;
        let plan = self.plan_of(input.clone(), globals, secrets, &memo(globals, Memo::default))?;
        Ok((plan, input))
    }

    fn plan_of(
        &self,
        input: TreeInput,
        globals: &Globals,
        secrets: SecretValues,
        memo: &Arc<Memo>,
    ) -> Result<Plan, CliError> {
        let sources = Sources::with_memo(input, fetcher(globals)?, Arc::clone(memo));
        Ok(plan_with(&sources, &PlanOptions { secrets, ..self.options()? }))
    }
}

/// What units rendered to in earlier runs, where there is a cache; otherwise another memo.
pub fn memo(globals: &Globals, otherwise: impl FnOnce() -> Memo) -> Arc<Memo> {
    Arc::new(match (globals.cache_dir(), build()) {
        (Some(folder), Some(build)) => Memo::in_folder(&folder, &build),
        _ => otherwise(),
    })
}

/// What tells this program from another build of it: its version, and the length and time of its file.
fn build() -> Option<String> {
    let file = std::env::current_exe().and_then(std::fs::metadata).ok()?;
    let at = file.modified().ok()?.duration_since(std::time::UNIX_EPOCH).ok()?;
    Some(format!("{} {} {}", env!("CARGO_PKG_VERSION"), file.len(), at.as_nanos()))
}

/// Where artifacts come from, as the global options and the environment say.
///
/// # Errors
/// When a mirror is none, or a proxy's address.
pub fn fetcher(globals: &Globals) -> Result<Arc<Fetcher>, CliError> {
    new_fetcher(globals).map(Arc::new)
}

/// As [`fetcher`], not shared yet.
///
/// # Errors
/// As [`fetcher`].
pub fn new_fetcher(globals: &Globals) -> Result<Fetcher, CliError> {
    let options =
        FetcherOptions { mirrors: globals.mirror.clone(), cache: globals.cache_dir(), offline: globals.offline };
    Fetcher::new(options)
        .map_err(|e| {
            CliError::new(e)
                .help("a mirror is a folder with charts/ (a Helm repository) or sources/HOST/OWNER/NAME/REF/")
        })?
        .with_network(crate::network::options())
        .map_err(CliError::new)
}

/// The components of this build, as the plan asks for them.
pub struct Components {
    /// Whether they stand in for what was not fetched.
    pub stand_in: bool,
}

fn kinds(component: &druse_component::Component) -> Vec<ServedKind> {
    component
        .crds
        .iter()
        .map(|c| ServedKind {
            group: c.group.clone(),
            versions: c.versions.clone(),
            kind: c.kind.clone(),
            namespaced: c.scope != "Cluster",
        })
        .collect()
}

impl StandIns for Components {
    fn for_chart(&self, chart: &str) -> Option<StandIn> {
        let component = druse_component::for_chart(chart).filter(|_| self.stand_in)?;
        Some(StandIn { component: component.name.clone(), kinds: kinds(component) })
    }

    fn for_source(&self, url: &str) -> Option<StandIn> {
        let component = druse_component::for_source(url).filter(|_| self.stand_in)?;
        Some(StandIn { component: component.name.clone(), kinds: kinds(component) })
    }

    fn registered_by(&self, chart: &str) -> Vec<ServedKind> {
        druse_component::for_chart(chart).filter(|c| c.registers_its_own_crds).map(kinds).unwrap_or_default()
    }

    fn always_served(&self) -> Vec<ServedKind> {
        druse_component::all().iter().filter(|c| c.always_present).flat_map(kinds).collect()
    }
}

/// Writes to standard error what is wrong with the units of a plan that are meant: errors with places and remedies, and
/// unless `quiet`, what is not resolved and what is worth knowing.
pub fn report<'a>(plan: &Plan, units: impl Iterator<Item = &'a druse_plan::Unit>, globals: &Globals) {
    let paint = globals.paint_stderr();
    for unit in units {
        for e in &unit.errors {
            crate::say::say!("{} {}: {e}", paint.red("error:"), unit.id);
            if let Some(remedy) = &e.remedy {
                crate::say::say!("  {} {remedy}", paint.cyan("help:"));
            }
        }
        if globals.quiet {
            continue;
        }
        match &unit.state {
            UnitState::StandIn { component, reason } => {
                crate::say::say!(
                    "{} {}: stand-in: {component} does its work: {reason}",
                    paint.yellow("note:"),
                    unit.id
                );
            }
            UnitState::Waiting { on } => {
                let on: Vec<String> = on.iter().map(ToString::to_string).collect();
                crate::say::say!("{} {}: waits for {}", paint.yellow("note:"), unit.id, on.join(", "));
            }
            UnitState::Suspended => {
                crate::say::say!("{} {}: suspended, nothing applies it", paint.yellow("note:"), unit.id);
            }
            UnitState::Ok | UnitState::Failed => {}
        }
        for u in &unit.unresolved {
            crate::say::say!("{} {}: unresolved: {u}", paint.yellow("note:"), unit.id);
        }
        if globals.verbose > 0 {
            for w in &unit.warnings {
                crate::say::say!("{} {}: {w}", paint.yellow("warning:"), unit.id);
            }
        }
    }
    if globals.quiet {
        return;
    }
    for w in &plan.warnings {
        crate::say::say!("{} {w}", paint.yellow("warning:"));
    }
    if globals.verbose > 0 {
        for s in &plan.tree_sources {
            crate::say::say!("{} {} {} is this tree: {}", paint.dim("note:"), s.id, s.url, s.reason);
        }
    }
}
