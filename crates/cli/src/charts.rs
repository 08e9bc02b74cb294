//! The charts of a kustomization's `helmCharts`, loaded and rendered natively.

use std::sync::Arc;

use druse_helm::output::{Show, template_text};
use druse_helm::render::{name_from_template, validate_release_name};
use druse_helm::{Capabilities, Chart, HelmError, KubeVersion, Release, RenderOptions, SeededHost, Values, render};
use druse_kustomize::{FileTree, Helm, HelmChart, LoadedChart};
use druse_source::{ChartRequest, Fetcher};

/// Charts from the tree, from mirrors and from the network.
pub struct Charts {
    /// Where charts come from that the tree does not have.
    pub fetcher: Arc<Fetcher>,
    /// The Kubernetes version that counts above what entries say.
    pub kube_version: String,
    /// API versions that count above what entries say.
    pub api_versions: Vec<String>,
}

struct Loaded {
    chart: Arc<Chart>,
    kube_version: String,
    api_versions: Vec<String>,
}

impl Helm for Charts {
    fn load(&self, chart: &HelmChart, local: Option<(&dyn FileTree, &str)>) -> Result<Box<dyn LoadedChart>, String> {
        let loaded = match local {
            Some((tree, dir)) => Chart::from_files(druse_plan::chart_files(tree, dir)?),
            None => {
                let request = ChartRequest {
                    repository: chart.repo.clone(),
                    name: chart.name.clone(),
                    version: chart.version.clone(),
                    ..ChartRequest::default()
                };
                let found = self.fetcher.chart(&request).and_then(|found| found.bytes.read());
                Chart::from_archive(&found.map_err(|e| e.to_string())?)
            }
        };
        Ok(Box::new(Loaded {
            chart: Arc::new(loaded.map_err(|e| e.to_string())?),
            kube_version: self.kube_version.clone(),
            api_versions: self.api_versions.clone(),
        }))
    }
}

impl LoadedChart for Loaded {
    fn values(&self) -> String {
        match &self.chart.values {
            values if values.is_null() => String::new(),
            values => druse_object::yaml::to_string(values),
        }
    }

    fn template(&self, chart: &HelmChart, values: &[String]) -> Result<String, String> {
        self.rendered(chart, values).map_err(|e| e.to_string())
    }
}

impl Loaded {
    fn rendered(&self, chart: &HelmChart, values: &[String]) -> Result<String, HelmError> {
        self.chart.check_installable()?;
        let name = match (chart.release_name.as_str(), chart.name_template.as_str()) {
            // What Helm makes up for `--generate-name` changes with the clock; here it is the name it shows itself.
            ("", "") => "release-name".to_string(),
            ("", template) => name_from_template(template, &SeededHost::new("name-template"))?,
            (name, _) => name.to_string(),
        };
        validate_release_name(&name)?;
        let mut all = Values::default();
        for text in values {
            all.merge(Values::from_yaml(text)?);
        }
        let own_or = |own: &str, entry: &str| if own.is_empty() { entry.to_string() } else { own.to_string() };
        let api_versions = if self.api_versions.is_empty() { &chart.api_versions } else { &self.api_versions };
        let mut capabilities = Capabilities::default().with_api_versions(api_versions);
        let kube_version = own_or(&self.kube_version, &chart.kube_version);
        if !kube_version.is_empty() {
            capabilities.kube_version = KubeVersion::parse(&kube_version)?;
        }
        let namespace = own_or(&chart.namespace, "default");
        let release = Release::install(&name, &namespace);
        let host = SeededHost::new(&name);
        let rendered = render(&self.chart, &all, &release, &capabilities, &host, &RenderOptions::default())?;
        for warning in &rendered.warnings {
            tracing::warn!("{warning}");
        }
        let show = Show {
            include_crds: chart.include_crds,
            skip_tests: chart.skip_tests,
            no_hooks: chart.skip_hooks,
            only: Vec::new(),
        };
        template_text(&rendered, &show)
    }
}
