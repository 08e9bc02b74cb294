//! The data tables: which fields refer to what, what makes which objects, which APIs are deprecated.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use druse_object::{Gvk, Value, yaml};
use serde::Deserialize;

/// A field that names another object.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reference {
    /// The map that holds the name.
    pub at: String,
    /// The field with the name in it; `^field` of the map around, `.` the thing itself.
    #[serde(default = "name")]
    pub name: String,
    /// The kind named, `Kind.group`; several with `|` between them where `kind` says which (the first by default).
    pub to: String,
    /// A field that says another kind.
    #[serde(default)]
    pub kind: Option<String>,
    /// A field that says another group, or an API version.
    #[serde(default)]
    pub group: Option<String>,
    /// A field that says another namespace.
    #[serde(default)]
    pub namespace: Option<String>,
    /// A field with a key that must exist.
    #[serde(default)]
    pub key: Option<String>,
    /// A field that says nothing need exist.
    #[serde(default)]
    pub optional: Option<String>,
    /// A field beside the name with which it is the name of something else.
    #[serde(default)]
    pub unless: Option<String>,
    /// Fields, `|` between them, with a port of a Service.
    #[serde(default)]
    pub port: Option<String>,
    /// What a missing object is.
    pub code: String,
    /// Whether it is a warning at most.
    #[serde(default)]
    pub soft: bool,
    /// Whether the object may be in a namespace that is not known.
    #[serde(default)]
    pub anywhere: bool,
    /// Whether a missing object is only said to be missing where one is called almost so.
    #[serde(default)]
    pub alike: bool,
}

fn name() -> String {
    "name".into()
}

/// Something that makes objects while the cluster runs.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Producer {
    /// The kind that makes, `Kind.group`.
    pub of: String,
    /// A list in it to go through.
    #[serde(default)]
    pub each: Option<String>,
    /// A field that must be there.
    #[serde(default)]
    pub when: Option<String>,
    /// A field that must not be there.
    #[serde(default)]
    pub unless: Option<String>,
    /// The kind made.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Its namespace.
    #[serde(default)]
    pub namespace: Option<String>,
    /// Its keys.
    #[serde(default)]
    pub keys: Vec<String>,
    /// Where its keys are listed.
    #[serde(default)]
    pub keys_from: Vec<String>,
    /// Fields with which more keys can come.
    #[serde(default)]
    pub keys_open_when: Vec<String>,
}

/// A field that holds a cron schedule.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cron {
    /// The kind, as `Kind.group`.
    pub kind: String,
    /// The field's path.
    pub at: String,
    /// Whether the first of six fields is seconds.
    #[serde(default)]
    pub seconds: bool,
}

/// A version of a kind that the API stops serving.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Deprecation {
    /// `group/version`.
    pub api: String,
    /// The kinds; all of the version when empty.
    #[serde(default)]
    pub kinds: Vec<String>,
    /// The Kubernetes version since which it is deprecated (`1.19`); for other systems, theirs, in words.
    #[serde(default)]
    pub deprecated: String,
    /// The version since which it is not served; empty while it is.
    #[serde(default)]
    pub removed: String,
    /// What to use instead.
    #[serde(default)]
    pub instead: String,
    /// The system whose versions these are; Kubernetes when empty.
    #[serde(default)]
    pub system: String,
}

/// All tables.
#[derive(Debug, Default)]
pub struct Tables {
    /// References in the spec of every pod.
    pub pods: Vec<Reference>,
    /// References of other kinds, by `Kind.group`.
    pub kinds: BTreeMap<String, Vec<Reference>>,
    /// What makes objects.
    pub producers: Vec<Producer>,
    /// What every cluster has, by `Kind` or `Kind/namespace`.
    pub always: BTreeMap<String, Vec<String>>,
    /// Custom kinds known to make nothing that others refer to by a name like theirs.
    pub makes_nothing: BTreeSet<String>,
    /// Charts that bring cluster-scoped objects, by their kind; any chart may where a kind is not listed.
    pub brought_by: BTreeMap<String, Vec<String>>,
    /// Charts that bring objects of any kind, which their values say.
    pub bring_anything: Vec<String>,
    /// Versions that the API stops serving.
    pub deprecations: Vec<Deprecation>,
    /// Fields that hold cron schedules.
    pub schedules: Vec<Cron>,
}

static TABLES: LazyLock<Tables> = LazyLock::new(|| read().unwrap_or_default());

fn read() -> Result<Tables, String> {
    let file = |text: &str| yaml::parse(text, yaml::Dialect::Sigs).map_err(|e| e.to_string());
    fn typed<T: serde::de::DeserializeOwned>(v: &Value) -> Result<T, String> {
        v.to_typed().map_err(|e| e.to_string())
    }
    let references = file(include_str!("../data/references.yaml"))?;
    let producers = file(include_str!("../data/producers.yaml"))?;
    Ok(Tables {
        pods: typed(&references["pods"])?,
        kinds: typed(&references["kinds"])?,
        producers: typed(&producers["producers"])?,
        always: typed(&producers["always"])?,
        makes_nothing: typed(&producers["makesNothing"])?,
        brought_by: typed(&producers["broughtBy"])?,
        bring_anything: typed(&producers["bringAnything"])?,
        deprecations: typed(&file(include_str!("../data/deprecations.yaml"))?)?,
        schedules: typed(&file(include_str!("../data/schedules.yaml"))?)?,
    })
}

/// The tables of this build.
#[must_use]
pub fn get() -> &'static Tables {
    &TABLES
}

/// `Kind.group`, or the kind alone in the core group.
#[must_use]
pub fn kind_name(gvk: &Gvk) -> String {
    if gvk.group.is_empty() { gvk.kind.to_string() } else { format!("{}.{}", gvk.kind, gvk.group) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_table_is_read_and_names_known_codes() {
        let tables = read().unwrap();
        for r in tables.pods.iter().chain(tables.kinds.values().flatten()) {
            assert!(crate::codes::find(&r.code).is_some(), "{}", r.code);
        }
        assert!(tables.producers.len() > 50 && tables.deprecations.len() > 20 && tables.schedules.len() > 5);
    }
}
