//! `helmCharts`: charts whose objects join those of a kustomization. What a chart renders to, and where one that is not
//! in the repository comes from, is the caller's ([`Helm`]); which values it gets is decided here.

use druse_object::{Map, Value, yaml};
use serde::{Deserialize, Serialize};

use crate::docs;
use crate::error::{KustomizeError, Result, fail};
use crate::loader::Loader;
use crate::merge;
use crate::resource::Resource;
use crate::schema::Schemas;
use crate::tree::{self, FileTree, Kind};

/// An entry of `helmCharts`, fields as in kustomize.
#[allow(missing_docs)]
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct HelmChart {
    pub name: String,
    pub version: String,
    pub repo: String,
    pub release_name: String,
    pub namespace: String,
    pub additional_values_files: Vec<String>,
    pub values_file: String,
    pub values_inline: Map,
    pub values_merge: String,
    #[serde(rename = "includeCRDs")]
    pub include_crds: bool,
    pub skip_hooks: bool,
    pub api_versions: Vec<String>,
    pub kube_version: String,
    pub name_template: String,
    pub skip_tests: bool,
    pub debug: bool,
    pub devel: bool,
}

/// `helmGlobals`.
#[allow(missing_docs)]
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct HelmGlobals {
    pub chart_home: String,
    pub config_home: String,
}

/// An entry of the old `helmChartInflationGenerator` field.
#[allow(missing_docs)]
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct OldHelmChart {
    pub chart_name: String,
    pub chart_version: String,
    pub chart_repo_url: String,
    pub chart_home: String,
    pub helm_home: String,
    pub values: String,
    pub values_local: Map,
    pub values_merge: String,
    pub release_name: String,
}

impl OldHelmChart {
    /// The same as an entry of `helmCharts`.
    #[must_use]
    pub fn renewed(self) -> HelmChart {
        HelmChart {
            name: self.chart_name,
            version: self.chart_version,
            repo: self.chart_repo_url,
            values_file: self.values,
            values_inline: self.values_local,
            values_merge: self.values_merge,
            release_name: self.release_name,
            ..HelmChart::default()
        }
    }
}

/// Loads and renders charts.
pub trait Helm: Send + Sync {
    /// Loads a chart: from a folder of a tree where the repository has it, else by its `repo`, `name` and `version`.
    ///
    /// # Errors
    /// A message that says why not.
    fn load(
        &self,
        chart: &HelmChart,
        local: Option<(&dyn FileTree, &str)>,
    ) -> std::result::Result<Box<dyn LoadedChart>, String>;
}

/// A chart that was loaded.
pub trait LoadedChart {
    /// The text of its own `values.yaml`.
    fn values(&self) -> String;

    /// What `helm template` prints for it, with the texts of values files, later ones winning.
    ///
    /// # Errors
    /// Helm's message.
    fn template(&self, chart: &HelmChart, values: &[String]) -> std::result::Result<String, String>;
}

/// The renderer, or the error of a build without one.
pub(crate) fn enabled(helm: Option<&dyn Helm>) -> Result<&dyn Helm> {
    helm.ok_or_else(|| {
        fail!("must specify --enable-helm").help("helmCharts is off here, as it is in Flux: use a HelmRelease")
    })
}

/// The configuration of an entry as kustomize shows it in messages.
pub(crate) fn shown(globals: &HelmGlobals, chart: &HelmChart) -> String {
    let mut all = Map::new();
    for part in [Value::from_typed(globals), Value::from_typed(chart)].into_iter().flatten() {
        for (key, value) in part.as_map().into_iter().flat_map(Map::iter) {
            all.insert(key.clone(), value.clone());
        }
    }
    let mut value = Value::Map(all);
    crate::typed::omit_empty(&mut value);
    yaml::to_string(&value)
}

fn text_of(loader: &Loader<'_>, file: &str) -> Result<String> {
    Ok(String::from_utf8_lossy(&loader.load(file)?.1).into_owned())
}

/// A chart ready to be rendered.
pub(crate) struct Inflation<'h> {
    helm: &'h dyn Helm,
    chart: HelmChart,
    /// The folder charts lie in, relative to the kustomization's folder.
    home: String,
    additional: Vec<String>,
}

impl<'h> Inflation<'h> {
    pub(crate) fn new(helm: &'h dyn Helm, globals: HelmGlobals, chart: HelmChart, loader: &Loader<'_>) -> Result<Self> {
        if chart.name.is_empty() {
            return Err(fail!("chart name cannot be empty"));
        }
        let mut home = if globals.chart_home.is_empty() { "charts".to_string() } else { globals.chart_home };
        if !chart.version.is_empty() && !chart.repo.is_empty() {
            home = format!("{home}/{}-{}", chart.name, chart.version);
        }
        let mut additional = Vec::new();
        for file in &chart.additional_values_files {
            let (_, bytes) = loader.load(file).map_err(|e| e.wrap("could not load additionalValuesFile"))?;
            additional.push(String::from_utf8_lossy(&bytes).into_owned());
        }
        if !matches!(chart.values_merge.as_str(), "" | "merge" | "override" | "replace") {
            return Err(fail!("valuesMerge must be one of [merge override replace]"));
        }
        Ok(Self { helm, chart, home, additional })
    }

    /// Renders the chart and reads what came out.
    pub(crate) fn run(&self, loader: &Loader<'_>) -> Result<Vec<Resource>> {
        let local = tree::join(&loader.dir, &format!("{}/{}", self.home, self.chart.name))
            .filter(|dir| loader.tree.get().kind(dir) == Some(Kind::Dir));
        if local.is_none() && self.chart.repo.is_empty() {
            return Err(fail!("no repo specified for pull, no chart found at ''")
                .help(format!("put the chart into {}/{}, or name its repo", self.home, self.chart.name)));
        }
        let files = local.as_deref().map(|dir| (loader.tree.get(), dir));
        let loaded = self.helm.load(&self.chart, files).map_err(KustomizeError::new)?;
        let own = match (self.chart.values_file.as_str(), &local) {
            ("", None) => loaded.values(),
            ("", Some(_)) => text_of(loader, &format!("{}/{}/values.yaml", self.home, self.chart.name))?,
            (file, _) => text_of(loader, file)?,
        };
        let mut values = vec![self.values(own)?];
        values.extend(self.additional.iter().cloned());
        let text = loaded.template(&self.chart, &values).map_err(KustomizeError::new)?;
        let mut objects = docs::from_text(&text, &format!("{}/{}", self.home, self.chart.name))?;
        for object in &mut objects {
            object.by_helm = true;
        }
        Ok(objects)
    }

    /// The text of the values file: what the file holds and what is written in line, put together as asked.
    fn values(&self, file: String) -> Result<String> {
        if self.chart.values_inline.is_empty() {
            return Ok(file);
        }
        let inline = Value::Map(self.chart.values_inline.clone());
        let merged = if self.chart.values_merge == "replace" {
            Some(inline)
        } else {
            let from_file = yaml::parse(&file, yaml::Dialect::Kyaml)
                .map_err(|e| fail!("could not parse values file into rnode: {}", e.go_text_v3()))?;
            let none = Schemas::default();
            let merged = match self.chart.values_merge.as_str() {
                "merge" => merge::merge(inline, &from_file, &none),
                _ => merge::merge(from_file, &inline, &none),
            };
            merged.map_err(|e| e.wrap("could not merge values"))?
        };
        Ok(yaml::to_string(&merged.unwrap_or_default()))
    }
}
