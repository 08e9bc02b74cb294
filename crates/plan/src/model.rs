//! What a plan is: units with their objects, states and stories.

use std::fmt;
use std::sync::Arc;

use druse_flux::release::ReleaseHook;
use druse_helm::KubeVersion;
use druse_object::{Object, Provenance, Str};
use serde::Serialize;

use crate::kinds::Kinds;
use crate::memo::Kept;
use crate::shared::Objects;
use crate::trace::Asked;

/// The two kinds of units.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub enum UnitKind {
    /// A Flux Kustomization.
    Kustomization,
    /// A HelmRelease.
    HelmRelease,
}

impl UnitKind {
    /// The kind's name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Kustomization => "Kustomization",
            Self::HelmRelease => "HelmRelease",
        }
    }
}

/// What names a unit.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UnitId {
    /// Its kind.
    pub kind: UnitKind,
    /// Its namespace.
    pub namespace: Str,
    /// Its name.
    pub name: Str,
}

impl fmt::Display for UnitId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.kind.as_str(), self.namespace, self.name)
    }
}

impl std::str::FromStr for UnitId {
    type Err = String;
    /// `Kustomization/NS/NAME` or `HelmRelease/NS/NAME`, the kind in any letter case, `ks` and `hr` for short.
    fn from_str(text: &str) -> Result<Self, String> {
        let parts: Vec<&str> = text.split('/').collect();
        let [kind, namespace, name] = parts.as_slice() else {
            return Err(format!(
                "{text:?} names no unit: write Kustomization/NAMESPACE/NAME or HelmRelease/NAMESPACE/NAME"
            ));
        };
        let kind = match kind.to_lowercase().as_str() {
            "kustomization" | "ks" => UnitKind::Kustomization,
            "helmrelease" | "hr" => UnitKind::HelmRelease,
            other => return Err(format!("{other:?} is no kind of unit: Kustomization and HelmRelease are")),
        };
        Ok(Self { kind, namespace: (*namespace).into(), name: (*name).into() })
    }
}

/// What kind of fault an error is about, for those that treat some of them in their own way.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Fault {
    /// Any other.
    #[default]
    Other,
    /// A file that is not YAML.
    Yaml,
    /// A kustomize build.
    Build,
    /// The folder that a Kustomization names.
    Path,
    /// A source that nothing defines, or of the wrong kind.
    Source,
    /// An artifact that was not found where it was looked for.
    NotAtHand,
    /// A variable that is not set.
    Variable(String),
    /// A ConfigMap or Secret (or a key of one) that a unit's definition names.
    Config {
        /// `substituteFrom` or `valuesFrom`.
        field: &'static str,
        /// Its name.
        name: String,
    },
    /// Values that do not fit a chart's schema.
    ValuesSchema,
    /// A dependency on what no unit is.
    Dependency(UnitId),
    /// Dependencies in a circle.
    Cycle(Vec<UnitId>),
    /// An object without a namespace where it needs one.
    NoNamespace,
    /// An encrypted object that nothing says how to decrypt.
    Encrypted,
}

/// Something that keeps a unit from rendering or applying.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct UnitError {
    /// Which kind of fault it is.
    #[serde(skip)]
    pub fault: Fault,
    /// What is wrong.
    pub message: String,
    /// The file, where one is at fault.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// The line in it, from 1; 0 when not known.
    pub line: u32,
    /// What would help.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

impl UnitError {
    /// An error without a place.
    #[must_use]
    pub fn new(message: impl fmt::Display) -> Self {
        Self { fault: Fault::Other, message: message.to_string(), file: None, line: 0, remedy: None }
    }

    /// The same error at a place, unless it has one.
    #[must_use]
    pub fn at(mut self, provenance: &Provenance) -> Self {
        if self.file.is_none() {
            self.file = provenance.file.as_deref().map(str::to_string);
            self.line = provenance.line;
        }
        self
    }

    /// The same error, said to be of this kind.
    #[must_use]
    pub fn fault(mut self, fault: Fault) -> Self {
        self.fault = fault;
        self
    }

    /// The same error with what would help.
    #[must_use]
    pub fn help(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }
}

impl fmt::Display for UnitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.file, self.line) {
            (Some(file), 0) => write!(f, "{file}: ")?,
            (Some(file), line) => write!(f, "{file}:{line}: ")?,
            (None, _) => {}
        }
        f.write_str(&self.message)
    }
}

/// How a unit stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UnitState {
    /// It rendered, and all it waits for did.
    Ok,
    /// It did not; its errors say why.
    Failed,
    /// Its chart or source is not at hand, and a component does its work.
    StandIn {
        /// The component.
        component: String,
        /// What was not fetched, and where it was looked for.
        reason: String,
    },
    /// It rendered, but waits for units that fail or wait themselves.
    Waiting {
        /// Those units.
        on: Vec<UnitId>,
    },
    /// It is suspended: nobody applies it.
    Suspended,
}

/// Where a unit's files come from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SourceInfo {
    /// `GitRepository/ns/name`.
    pub id: String,
    /// Its URL.
    pub url: String,
    /// The revision, as Flux writes it.
    pub revision: String,
    /// Whether it is the tree itself.
    pub is_tree: bool,
}

/// A release's chart.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ChartInfo {
    /// Its name.
    pub name: String,
    /// The version asked for.
    pub wanted: String,
    /// The version found; empty when none was.
    pub version: String,
    /// The archive's digest; empty when none was found.
    pub digest: String,
    /// The version of the application in it, as the chart says; empty when it does not, or none was found.
    #[serde(rename = "appVersion")]
    pub app_version: String,
}

/// One Kustomization or HelmRelease with what it renders to.
#[derive(Clone, Debug)]
pub struct Unit {
    /// Its id.
    pub id: UnitId,
    /// Its definition, with file and line.
    pub definition: Arc<Object>,
    /// The units that render its definition; empty for a root, itself for one that renders itself.
    pub made_by: Vec<UnitId>,
    /// Whether no other unit renders it.
    pub is_root: bool,
    /// What it waits for (`dependsOn`).
    pub depends_on: Vec<UnitId>,
    /// Where its files come from.
    pub source: Option<SourceInfo>,
    /// Its chart.
    pub chart: Option<ChartInfo>,
    /// How it stands.
    pub state: UnitState,
    /// Its objects as they would be applied, CRDs of a chart first. Those of two plans made with one
    /// [`Memo`](crate::Memo) are the same list where the unit rendered to the same.
    pub objects: Objects,
    /// Whether the values of its Secrets are empty, as it came from the cache and they were not asked for.
    pub secrets_withheld: bool,
    /// What it asked of the tree while it rendered.
    pub asked: Asked,
    /// As what its rendering is kept for further runs.
    pub kept: Kept,
    /// A release's hooks.
    pub hooks: Vec<ReleaseHook>,
    /// What keeps it from rendering or applying.
    pub errors: Vec<UnitError>,
    /// What is worth knowing.
    pub warnings: Vec<String>,
    /// What only a live cluster could answer, by name.
    pub unresolved: Vec<String>,
}

/// A source that was taken to be the tree itself.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct TreeSource {
    /// `GitRepository/ns/name`.
    pub id: String,
    /// Its URL.
    pub url: String,
    /// Why it was taken to be the tree.
    pub reason: String,
}

/// All units of a tree.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The units, each after what it waits for and after what makes it; ties in id order.
    pub units: Vec<Unit>,
    /// The sources that were taken to be the tree.
    pub tree_sources: Vec<TreeSource>,
    /// What is worth knowing about the tree as a whole.
    pub warnings: Vec<String>,
    /// All kinds the settled cluster serves.
    pub kinds: Arc<Kinds>,
}

impl Plan {
    /// A unit by id.
    #[must_use]
    pub fn unit(&self, id: &UnitId) -> Option<&Unit> {
        self.units.iter().find(|u| u.id == *id)
    }

    /// Whether any unit failed.
    #[must_use]
    pub fn has_failures(&self) -> bool {
        self.units.iter().any(|u| u.state == UnitState::Failed)
    }
}

/// A kind that an API serves.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServedKind {
    /// The API group.
    pub group: String,
    /// The versions.
    pub versions: Vec<String>,
    /// The kind.
    pub kind: String,
    /// Whether its objects have a namespace.
    pub namespaced: bool,
}

/// A component that does a chart's or source's work.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StandIn {
    /// The component's name.
    pub component: String,
    /// The kinds it brings.
    pub kinds: Vec<ServedKind>,
}

impl fmt::Display for StandIn {
    /// The component's name.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.component)
    }
}

/// Which components can stand in for what was not fetched.
pub trait StandIns: Send + Sync {
    /// The component that stands in for a chart of this name.
    fn for_chart(&self, chart: &str) -> Option<StandIn>;
    /// The component that stands in for what the source at this URL brings.
    fn for_source(&self, url: &str) -> Option<StandIn>;
    /// Kinds that what a chart installs registers by itself, without the chart saying so.
    fn registered_by(&self, chart: &str) -> Vec<ServedKind> {
        let _ = chart;
        Vec::new()
    }
    /// Kinds that are served whatever the tree installs.
    fn always_served(&self) -> Vec<ServedKind>;
}

/// No component stands in for anything.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoStandIns;

impl StandIns for NoStandIns {
    fn for_chart(&self, _: &str) -> Option<StandIn> {
        None
    }
    fn for_source(&self, _: &str) -> Option<StandIn> {
        None
    }
    fn always_served(&self) -> Vec<ServedKind> {
        Vec::new()
    }
}

/// Whether the values of Secrets must be in a plan. They are never kept on disk: where they are needed, units that make
/// Secrets are rendered anew in every run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum SecretValues {
    /// In all units.
    #[default]
    Needed,
    /// In these units; in all others they may be empty ([`Unit::secrets_withheld`] says where they are).
    NeededOf(Arc<std::collections::BTreeSet<UnitId>>),
    /// Nowhere.
    NotNeeded,
}

/// How a tree is planned.
#[derive(Clone)]
pub struct PlanOptions {
    /// The Kubernetes version charts are rendered for.
    pub kube_version: KubeVersion,
    /// Which components can stand in.
    pub stand_ins: Arc<dyn StandIns>,
    /// Whether a variable without value and default is an error, as it is in Flux unless switched off.
    pub strict_substitution: bool,
    /// Whose Secrets must have their values.
    pub secrets: SecretValues,
    /// The age keys that SOPS documents are opened with. What they do not open gets placeholders and is unresolved.
    pub keys: Arc<druse_sops::Identities>,
    /// API versions served besides those of Kubernetes and of the tree: `group/version` or `group/version/Kind`.
    pub api_versions: Vec<String>,
}

/// The Kubernetes version rendered for unless told otherwise: that of the embedded API.
pub const DEFAULT_KUBE_VERSION: &str = "v1.36.3";

impl Default for PlanOptions {
    fn default() -> Self {
        Self {
            kube_version: KubeVersion::parse(DEFAULT_KUBE_VERSION).unwrap_or_default(),
            stand_ins: Arc::new(NoStandIns),
            strict_substitution: true,
            secrets: SecretValues::Needed,
            keys: Arc::default(),
            api_versions: Vec::new(),
        }
    }
}

impl fmt::Debug for PlanOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PlanOptions").field("kube_version", &self.kube_version).finish_non_exhaustive()
    }
}
