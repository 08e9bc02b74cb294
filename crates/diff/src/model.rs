//! What a diff is: units touched and why, their objects and fields, images, charts, dangers, and what could not be
//! rendered. Serialised, it is the JSON that `druse diff -o json` prints.

use std::fmt;

use serde::Serialize;

use crate::fields::flat::FieldChange;

/// What happened to a unit or an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ChangeKind {
    /// Only head has it.
    Added,
    /// Only base has it.
    Removed,
    /// Both have it, and it differs.
    Changed,
}

impl ChangeKind {
    /// `+`, `-` or `~`.
    #[must_use]
    pub fn sign(self) -> char {
        match self {
            Self::Added => '+',
            Self::Removed => '-',
            Self::Changed => '~',
        }
    }

    /// `added`, `removed` or `changed`.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Removed => "removed",
            Self::Changed => "changed",
        }
    }
}

/// One of the two sides of a diff.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SideName {
    /// The older one.
    Base,
    /// The newer one.
    Head,
}

impl fmt::Display for SideName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Base => "base",
            Self::Head => "head",
        })
    }
}

/// A file and a line of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Place {
    /// The file, in the tree (or `SOURCE@REVISION:FILE` in another source).
    pub file: String,
    /// The line, from 1; 0 when not known.
    pub line: u32,
    /// For an object of a chart, the template it comes from; the file is then that of its release.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if self.line > 0 {
            write!(f, ":{}", self.line)?;
        }
        match &self.template {
            Some(template) => write!(f, " ({template})"),
            None => Ok(()),
        }
    }
}

/// Why a unit was touched.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Cause {
    /// Fields of its own definition changed.
    Spec {
        /// Their paths within `spec`.
        fields: Vec<String>,
    },
    /// Its inline values changed.
    Values {
        /// Their paths within `spec.values`.
        fields: Vec<String>,
    },
    /// Its chart is another one, or another version.
    Chart {
        /// `name version` in base.
        from: String,
        /// `name version` in head.
        to: String,
    },
    /// The chart has the same version, but another content.
    ChartContent {
        /// Its name and version.
        chart: String,
    },
    /// Its source is another one, or at another revision.
    Source {
        /// In base.
        from: String,
        /// In head.
        to: String,
    },
    /// A file it reads changed.
    File {
        /// Its path.
        path: String,
        /// What happened to it.
        change: ChangeKind,
    },
    /// Variables that are substituted in it changed.
    Variables {
        /// Their names.
        names: Vec<String>,
        /// Where their values come from: `ConfigMap/ns/name`, `spec.postBuild.substitute`.
        from: String,
        /// The unit that makes this.
        #[serde(skip_serializing_if = "Option::is_none")]
        made_by: Option<String>,
    },
    /// A ConfigMap or Secret that its values come from changed.
    ValuesFrom {
        /// `ConfigMap/ns/name`.
        object: String,
        /// The keys that changed.
        keys: Vec<String>,
        /// The unit that makes this.
        #[serde(skip_serializing_if = "Option::is_none")]
        made_by: Option<String>,
    },
    /// It is suspended now.
    Suspended,
    /// It is not suspended any more.
    Resumed,
    /// It does not render now.
    FailsNow,
    /// It renders again.
    RendersAgain,
    /// It waits for other units now, or for others than before, or for none any more.
    Dependencies,
    /// The kinds that the cluster would serve changed, and its chart asks for them.
    ServedKinds,
    /// A unit that makes it is gone.
    MakerRemoved {
        /// That unit.
        unit: String,
    },
}

/// A unit that differs.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct UnitChange {
    /// `Kustomization/ns/name` or `HelmRelease/ns/name`.
    pub unit: String,
    /// What happened to it.
    pub change: ChangeKind,
    /// Where it is defined.
    pub place: Place,
    /// Why it differs.
    pub causes: Vec<Cause>,
    /// Its objects that differ, in head's order, those removed last.
    pub objects: Vec<ObjectChange>,
    /// Why its objects are not compared, when they are not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_compared: Option<String>,
}

impl UnitChange {
    /// How many of its objects were added, changed and removed.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let mut out = Counts::default();
        self.objects.iter().for_each(|o| out.add(o.change));
        out
    }
}

/// An object that differs.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ObjectChange {
    /// `Deployment/ns/name`, as in head, or in base when it is removed.
    pub object: String,
    /// `apps/v1`.
    pub api_version: String,
    /// What happened to it.
    pub change: ChangeKind,
    /// Where it comes from.
    pub place: Place,
    /// The name it had, when that ended with a hash of its content.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub renamed_from: Option<String>,
    /// The unit it was part of, when that was another one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub moved_from: Option<String>,
    /// Whether it is a hook of a release.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub hook: bool,
    /// What becomes of a removed object, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fate: Option<String>,
    /// Its fields that differ.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub fields: Vec<FieldChange>,
    /// The whole object as YAML when it is added or removed, Secret values left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub yaml: Option<String>,
}

impl ObjectChange {
    /// Whether everything that differs only echoes other changes.
    #[must_use]
    pub fn is_mechanical(&self) -> bool {
        self.change == ChangeKind::Changed
            && self.renamed_from.is_none()
            && self.moved_from.is_none()
            && !self.fields.is_empty()
            && self.fields.iter().all(|f| f.mechanical.is_some())
    }
}

/// How much changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Only in head.
    pub added: usize,
    /// In both, and different.
    pub changed: usize,
    /// Only in base.
    pub removed: usize,
}

impl Counts {
    /// Counts one more.
    pub fn add(&mut self, change: ChangeKind) {
        match change {
            ChangeKind::Added => self.added += 1,
            ChangeKind::Changed => self.changed += 1,
            ChangeKind::Removed => self.removed += 1,
        }
    }

    /// All together.
    #[must_use]
    pub fn total(self) -> usize {
        self.added + self.changed + self.removed
    }
}

/// How one version stands to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Step {
    /// Newer in the first number that is not zero.
    Major,
    /// Newer in the second.
    Minor,
    /// Newer in the third.
    Patch,
    /// Older.
    Downgrade,
    /// Neither can be said to be newer.
    Other,
}

/// A container's image that is another one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageChange {
    /// Without tag and digest, as in head.
    pub image: String,
    /// Without tag and digest in base, when that is another one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_from: Option<String>,
    /// Tag and digest in base.
    pub from: String,
    /// Tag and digest in head.
    pub to: String,
    /// How the one version stands to the other.
    pub step: Step,
    /// What runs it: object and container, with the unit.
    pub used_by: Vec<ImageUse>,
}

/// Where an image is used.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct ImageUse {
    /// The unit.
    pub unit: String,
    /// The object.
    pub object: String,
    /// The container's name, or the field's.
    pub container: String,
}

/// A release's chart that is another one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ChartChange {
    /// The release.
    pub unit: String,
    /// The chart's name in head.
    pub chart: String,
    /// Its name in base, when that is another one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chart_from: Option<String>,
    /// Its version in base.
    pub from: String,
    /// Its version in head.
    pub to: String,
    /// The application's version in base, as the chart says.
    pub app_from: String,
    /// The application's version in head.
    pub app_to: String,
    /// How the one version stands to the other.
    pub step: Step,
    /// Where the release is defined.
    pub place: Place,
}

/// How bad a danger is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth knowing.
    Notice,
    /// May break something, or opens something up.
    Warning,
    /// Loses data, is refused by the cluster, or gives full control away.
    Danger,
}

impl Severity {
    /// The word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Notice => "notice",
            Self::Warning => "warning",
            Self::Danger => "danger",
        }
    }
}

/// Something to look at before this is merged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Danger {
    /// What names this kind of danger, for filters and scripts: `pvc-removed`.
    pub code: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// What kind of harm: `data loss`.
    pub category: &'static str,
    /// What happens, in one sentence without full stop.
    pub title: String,
    /// The object, when it is about one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub object: Option<String>,
    /// The unit.
    pub unit: String,
    /// Where to look.
    pub place: Place,
    /// The field, when it is about one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// Why it matters.
    pub why: String,
    /// What to do.
    pub remedy: String,
}

/// A unit that is not rendered on a side, so that nothing is said about its objects there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NotRendered {
    /// The side.
    pub side: SideName,
    /// The unit.
    pub unit: String,
    /// `failed`, `stand-in`, `suspended`, or `unknown` where what makes it is not rendered.
    pub state: String,
    /// Why, with places.
    pub reasons: Vec<String>,
    /// Whether it is so on both sides.
    #[serde(rename = "bothSides")]
    pub both: bool,
}

/// How a side is named.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Revision {
    /// As it was asked for: `main`, `working tree`.
    pub name: String,
    /// The commit, when it is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
}

impl fmt::Display for Revision {
    /// `main (1a2b3c4d5)`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        match &self.commit {
            Some(c) if !c.starts_with(&self.name) => write!(f, " ({})", c.get(..9).unwrap_or(c)),
            _ => Ok(()),
        }
    }
}

/// What differs between two revisions of a homelab.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Diff {
    /// The older side.
    pub base: Revision,
    /// The newer side.
    pub head: Revision,
    /// What to look at first, the worst first.
    pub dangers: Vec<Danger>,
    /// The units that differ, in the order in which they can go.
    pub units: Vec<UnitChange>,
    /// The images that differ.
    pub images: Vec<ImageChange>,
    /// The charts that differ.
    pub charts: Vec<ChartChange>,
    /// What could not be rendered and is therefore not compared.
    pub not_rendered: Vec<NotRendered>,
}

impl Diff {
    /// Whether nothing differs.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.units.is_empty()
    }

    /// Leaves only what is about some units.
    pub fn retain_units(&mut self, keep: impl Fn(&str) -> bool) {
        self.dangers.retain(|d| keep(&d.unit));
        self.units.retain(|u| keep(&u.unit));
        self.charts.retain(|c| keep(&c.unit));
        self.not_rendered.retain(|n| keep(&n.unit));
        for image in &mut self.images {
            image.used_by.retain(|u| keep(&u.unit));
        }
        self.images.retain(|i| !i.used_by.is_empty());
    }

    /// How many objects were added, changed and removed.
    #[must_use]
    pub fn object_counts(&self) -> Counts {
        let mut out = Counts::default();
        self.units.iter().flat_map(|u| &u.objects).for_each(|o| out.add(o.change));
        out
    }

    /// How many units were added, changed and removed.
    #[must_use]
    pub fn unit_counts(&self) -> Counts {
        let mut out = Counts::default();
        self.units.iter().for_each(|u| out.add(u.change));
        out
    }

    /// How many dangers of a severity there are.
    #[must_use]
    pub fn count(&self, severity: Severity) -> usize {
        self.dangers.iter().filter(|d| d.severity == severity).count()
    }
}
