//! What resources the API serves: the built-in ones from a data file, and those that CRDs add while it runs.
//!
//! A [`Resource`] is one stored type (`apps/deployments`) with every version it is served in. The table is replaced
//! as a whole when a CRD comes or goes, so a request sees one state of it throughout.

mod data;

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use druse_object::{Gvk, Str, Value};
use foldhash::fast::RandomState;
use parking_lot::RwLock;

pub use data::{BuiltinError, builtin, storage_hash};

/// One served version of a resource.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Version {
    /// `v1`
    pub name: Str,
    /// The subresources of this version: `status`, `scale`, …
    pub subresources: Vec<Subresource>,
    /// Columns that a CRD declares for tables (without the name, which is always first).
    pub columns: Vec<PrinterColumn>,
    /// JSON paths of fields that may be used in field selectors (`.spec.color`).
    pub selectable: Vec<Str>,
    /// Where the scale subresource finds its numbers.
    pub scale: Option<ScalePaths>,
    /// A message for clients when this version is deprecated.
    pub deprecation: Option<Str>,
}

/// A subresource as discovery lists it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Subresource {
    /// `status`
    pub name: Str,
    /// What kind it answers with, with empty group and version where discovery leaves them out.
    pub kind: Gvk,
    /// `get`, `patch`, `update`, `create`
    pub verbs: Vec<Str>,
}

/// A CRD's `additionalPrinterColumns` entry.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PrinterColumn {
    /// The heading.
    pub name: Str,
    /// `string`, `integer`, `number`, `boolean`, `date`
    pub kind: Str,
    /// An OpenAPI format, or empty.
    pub format: Str,
    /// For people.
    pub description: Str,
    /// 0 is always shown, above only in wide output.
    pub priority: i64,
    /// Where the value is (`.spec.replicas`).
    pub json_path: Str,
}

/// A CRD's scale subresource.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ScalePaths {
    /// `.spec.replicas`
    pub spec_replicas: Str,
    /// `.status.replicas`
    pub status_replicas: Str,
    /// `.status.selector`; empty when there is none.
    pub label_selector: Str,
}

/// A CRD's webhook that converts objects between versions.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Conversion {
    /// The CRD's name.
    pub crd: Str,
    /// Where it is: a `clientConfig`.
    pub config: Value,
    /// The versions of `ConversionReview` it reads, the best one first.
    pub review_versions: Vec<Str>,
}

/// One stored type and how it is served.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Resource {
    /// The API group; empty for core.
    pub group: Str,
    /// `Deployment`
    pub kind: Str,
    /// `DeploymentList`
    pub list_kind: Str,
    /// `deployments`
    pub plural: Str,
    /// `deployment`
    pub singular: Str,
    /// `deploy`
    pub short_names: Vec<Str>,
    /// `all`
    pub categories: Vec<Str>,
    /// Whether objects live in a namespace.
    pub namespaced: bool,
    /// What may be done: `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`.
    pub verbs: Vec<Str>,
    /// Served versions, the preferred one first.
    pub versions: Vec<Version>,
    /// The version objects are stored in.
    pub storage_version: Str,
    /// The stored type's key when another group serves the same objects (`events.k8s.io` events are core's).
    pub stored_as: Str,
    /// The hash discovery shows for it; empty for custom resources (computed).
    pub storage_hash: Str,
    /// Who converts custom objects between versions; without one only `apiVersion` changes.
    pub conversion: Option<Conversion>,
    /// Whether objects may still be stored in another version than [`Self::storage_version`], or under an older schema.
    pub mixed: bool,
    /// Whether a CRD declared it. Lists of custom resources repeat `apiVersion` and `kind` in each item.
    pub custom: bool,
}

impl Resource {
    /// The served version called `name`.
    #[must_use]
    pub fn version(&self, name: &str) -> Option<&Version> {
        self.versions.iter().find(|v| v.name == name)
    }

    /// `apps/v1`, `v1`
    #[must_use]
    pub fn api_version(&self, version: &str) -> String {
        if self.group.is_empty() { version.to_owned() } else { format!("{}/{version}", self.group) }
    }

    /// Group, version and kind in a version.
    #[must_use]
    pub fn gvk(&self, version: &str) -> Gvk {
        Gvk::new(self.group.clone(), version, self.kind.clone())
    }

    /// The group and plural as errors write them: `deployments.apps`.
    #[must_use]
    pub fn qualified(&self) -> String {
        if self.group.is_empty() { self.plural.to_string() } else { format!("{}.{}", self.plural, self.group) }
    }

    /// Whether a verb may be used.
    #[must_use]
    pub fn allows(&self, verb: &str) -> bool {
        self.verbs.iter().any(|v| v == verb)
    }

    /// Whether objects are kept (reviews such as `tokenreviews` only answer).
    #[must_use]
    pub fn is_stored(&self) -> bool {
        self.allows("get")
    }
}

/// One state of the table.
#[derive(Debug, Default)]
pub struct Table {
    /// Every resource, in discovery's order.
    pub resources: Vec<Arc<Resource>>,
    /// Groups in discovery's order with their versions, the preferred one first. Core is the empty group.
    pub groups: Vec<(Str, Vec<Str>)>,
    by_path: HashMap<(Str, Str), Arc<Resource>, RandomState>,
    by_kind: HashMap<(Str, Str), Arc<Resource>, RandomState>,
}

impl Table {
    fn build(resources: Vec<Arc<Resource>>) -> Self {
        let mut t = Table::default();
        for r in resources {
            match t.groups.iter_mut().find(|(g, _)| *g == r.group) {
                Some((_, versions)) => {
                    for v in &r.versions {
                        if !versions.contains(&v.name) {
                            versions.push(v.name.clone());
                        }
                    }
                }
                None => t.groups.push((r.group.clone(), r.versions.iter().map(|v| v.name.clone()).collect())),
            }
            t.by_path.insert((r.group.clone(), r.plural.clone()), r.clone());
            t.by_kind.entry((r.group.clone(), r.kind.clone())).or_insert_with(|| r.clone());
            t.resources.push(r);
        }
        for (_, versions) in &mut t.groups {
            versions.sort_by(|a, b| version_rank(b).cmp(&version_rank(a)).then_with(|| a.cmp(b)));
        }
        t
    }

    /// The resource at a group and plural.
    #[must_use]
    pub fn get(&self, group: &str, plural: &str) -> Option<&Arc<Resource>> {
        self.by_path.get(&(group.into(), plural.into()))
    }

    /// The resource of a group and kind.
    #[must_use]
    pub fn for_kind(&self, group: &str, kind: &str) -> Option<&Arc<Resource>> {
        self.by_kind.get(&(group.into(), kind.into()))
    }

    /// The versions of a group, the preferred one first.
    #[must_use]
    pub fn group_versions(&self, group: &str) -> Option<&[Str]> {
        self.groups.iter().find(|(g, _)| g == group).map(|(_, v)| v.as_slice())
    }
}

/// Orders versions as upstream does: GA before beta before alpha, higher numbers first, anything else last.
#[must_use]
pub fn version_rank(version: &str) -> (u8, u64, u64) {
    let parse = || -> Option<(u8, u64, u64)> {
        let rest = version.strip_prefix('v')?;
        let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let (major, tail) = rest.split_at(end);
        let major = major.parse().ok()?;
        if tail.is_empty() {
            return Some((3, major, 0));
        }
        let (level, minor) = match (tail.strip_prefix("beta"), tail.strip_prefix("alpha")) {
            (Some(m), _) => (2, m),
            (_, Some(m)) => (1, m),
            _ => return None,
        };
        Some((level, major, if minor.is_empty() { 1 } else { minor.parse().ok()? }))
    };
    parse().unwrap_or((0, 0, 0))
}

/// The built-in resources alone; `None` when the shipped data cannot be read, which a test rules out.
pub(crate) fn builtin_table() -> Option<&'static Table> {
    static TABLE: LazyLock<Option<Table>> =
        LazyLock::new(|| Some(Table::build(builtin().ok()?.into_iter().map(Arc::new).collect())));
    TABLE.as_ref()
}

/// The resources served now; shared, replaced as a whole.
#[derive(Debug)]
pub struct Registry {
    builtin: Vec<Arc<Resource>>,
    state: RwLock<State>,
}

#[derive(Debug)]
struct State {
    custom: Vec<(Str, Arc<Resource>)>,
    table: Arc<Table>,
    generation: u64,
}

impl Registry {
    /// With the built-in resources only.
    ///
    /// # Errors
    /// When the shipped data cannot be read, which a test rules out.
    pub fn new() -> Result<Self, BuiltinError> {
        let builtin: Vec<_> = builtin()?.into_iter().map(Arc::new).collect();
        let table = Arc::new(Table::build(builtin.clone()));
        Ok(Self { builtin, state: RwLock::new(State { custom: Vec::new(), table, generation: 1 }) })
    }

    /// The table as it is now.
    #[must_use]
    pub fn table(&self) -> Arc<Table> {
        self.state.read().table.clone()
    }

    /// A number that changes whenever the table does.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.state.read().generation
    }

    /// Serves (or serves differently) what the CRD called `crd` declares.
    pub fn set_custom(&self, crd: &str, resource: Resource) {
        let mut s = self.state.write();
        match s.custom.iter_mut().find(|(n, _)| n == crd) {
            Some((_, old)) if **old == resource => return,
            Some((_, old)) => *old = Arc::new(resource),
            None => s.custom.push((crd.into(), Arc::new(resource))),
        }
        self.rebuild(&mut s);
    }

    /// Stops serving what the CRD called `crd` declared.
    pub fn remove_custom(&self, crd: &str) {
        let mut s = self.state.write();
        let before = s.custom.len();
        s.custom.retain(|(n, _)| n != crd);
        if s.custom.len() != before {
            self.rebuild(&mut s);
        }
    }

    fn rebuild(&self, s: &mut State) {
        let mut custom: Vec<_> = s.custom.iter().map(|(_, r)| r.clone()).collect();
        custom.sort_by(|a, b| (&a.group, &a.plural).cmp(&(&b.group, &b.plural)));
        s.table = Arc::new(Table::build(self.builtin.iter().cloned().chain(custom).collect()));
        s.generation += 1;
    }
}
