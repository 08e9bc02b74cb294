//! From a HelmRelease to its chart: found by its source, parsed once and shared by all that use it.

use std::collections::BTreeSet;
use std::sync::Arc;

use druse_flux::api::{HelmChart, HelmChartSpec, HelmRelease, HelmRepository};
use druse_flux::generator::clean_path;
use druse_helm::{Chart, File, Values};
use druse_kustomize::tree::{FileTree, Kind};
use druse_object::{Object, Value};
use druse_source::{ChartArtifact, ChartBytes, ChartRequest, Origin};

use crate::memo::once;
use crate::model::{ChartInfo, Fault, SourceInfo, UnitError};
use crate::sources::{Lookup, Result, SourceChart, SourceFailure, SourceTree, Sources};

/// The largest chart read from a folder, in bytes.
const MAX_CHART_FOLDER: u64 = 64 * 1024 * 1024;
/// How deep a chart's folders may be.
const MAX_DEPTH: usize = 32;

/// A chart that was found and need not be parsed yet.
pub(crate) struct FoundChart {
    pub(crate) info: ChartInfo,
    pub(crate) source: SourceInfo,
    /// What tells it from all other charts; `None` when that is not known.
    pub(crate) identity: Option<String>,
    /// What is to be said of how it was found.
    pub(crate) notes: Vec<String>,
    content: Content,
}

enum Content {
    Archive(Archive),
    Chart(Arc<Chart>),
}

struct Archive {
    bytes: ChartBytes,
    /// What errors call it.
    called: String,
    values_files: Vec<String>,
    ignore_missing: bool,
}

impl Sources {
    /// The chart of a HelmRelease.
    ///
    /// # Errors
    /// When its source is not defined, or the chart cannot be fetched or loaded.
    pub fn chart(&self, lookup: &dyn Lookup, hr: &HelmRelease) -> Result<SourceChart> {
        let found = self.find_chart(lookup, hr)?;
        let chart = self.load_chart(&found)?;
        let info = ChartInfo { app_version: chart.metadata.app_version.clone(), ..found.info };
        Ok(SourceChart { info, source: found.source, chart })
    }

    /// Finds out which chart a HelmRelease means, without parsing it where that is not needed.
    ///
    /// # Errors
    /// When its source is not defined, or the chart cannot be fetched.
    pub(crate) fn find_chart(&self, lookup: &dyn Lookup, hr: &HelmRelease) -> Result<FoundChart> {
        if let Some(reference) = &hr.spec.chart_ref {
            let namespace = reference.namespace.as_deref().filter(|n| !n.is_empty()).unwrap_or(&hr.namespace);
            let id = format!("{}/{namespace}/{}", reference.kind, reference.name);
            if reference.kind == "ExternalArtifact" {
                // What an ArtifactGenerator copies together: a chart's folder.
                let source = self.tree(lookup, reference, namespace)?;
                let spec = HelmChartSpec { chart: chart_folder(&*source.tree).into(), ..HelmChartSpec::default() };
                return self.chart_in_tree(source, &spec, &[]);
            }
            let object = lookup.get(&reference.kind, namespace, &reference.name).ok_or_else(|| {
                SourceFailure::new(
                    UnitError::new(format!("chartRef names {id}, which no unit of the tree defines"))
                        .help("add it to the tree, or correct the reference's kind, name or namespace")
                        .fault(Fault::Source),
                )
            })?;
            return match reference.kind.as_str() {
                "HelmChart" => {
                    let chart = HelmChart::read(&object)
                        .map_err(|e| SourceFailure::new(UnitError::new(e).at(&object.provenance)))?;
                    self.helm_chart(lookup, &chart.spec, namespace)
                }
                "OCIRepository" => self.oci_chart(lookup, &object, id),
                other => Err(SourceFailure::new(
                    UnitError::new(format!("chartRef names {id}: charts from a {other} are not supported"))
                        .help("use a HelmChart, an OCIRepository or an ExternalArtifact")
                        .fault(Fault::Source),
                )),
            };
        }
        match &hr.spec.chart {
            Some(template) => self.helm_chart(lookup, &template.spec, &hr.namespace),
            None => Err(SourceFailure::new(
                UnitError::new("the HelmRelease names no chart").help("set spec.chart or spec.chartRef"),
            )),
        }
    }

    fn oci_chart(&self, lookup: &dyn Lookup, object: &Arc<Object>, id: String) -> Result<FoundChart> {
        let (request, _) = self.oci_request(lookup, object)?;
        let (repository, name) = request.url.rsplit_once('/').unwrap_or((&request.url, ""));
        let version = match (&request.reference.digest, &request.reference.semver, &request.reference.tag) {
            (Some(v), ..) | (_, Some(v), _) | (_, _, Some(v)) => v.clone(),
            _ => "latest".to_string(),
        };
        let chart = ChartRequest {
            repository: repository.to_string(),
            name: name.to_string(),
            version,
            auth: request.auth.clone(),
            pass_credentials: false,
            insecure: request.insecure,
        };
        // Flux goes by the digest; a mirror has charts by version only, and the tag beside the digest says which.
        if let (Some(digest), Some(tag)) = (&request.reference.digest, &request.reference.tag)
            && let Some(found) = self.fetcher.mirrored_chart(name, tag)
        {
            let note = format!("chart {name} {tag} is a mirror's: whether it is {digest}, as {id} asks, is not known");
            let (info, source) = asked(&chart, id);
            return Ok(FoundChart { notes: vec![note], ..archived(found, info, source, &[], false) });
        }
        self.fetch_chart(&chart, &[], false, id)
    }

    fn helm_chart(&self, lookup: &dyn Lookup, spec: &HelmChartSpec, namespace: &str) -> Result<FoundChart> {
        let reference = &spec.source_ref;
        let namespace = reference.namespace.as_deref().filter(|n| !n.is_empty()).unwrap_or(namespace);
        let id = format!("{}/{namespace}/{}", reference.kind, reference.name);
        let version = spec.version.as_deref().unwrap_or_default().to_string();
        let files: Vec<String> = spec
            .values_files
            .iter()
            .chain(&spec.values_file)
            .map(ToString::to_string)
            .filter(|f| !f.is_empty())
            .collect();
        if matches!(reference.kind.as_str(), "GitRepository" | "Bucket" | "OCIRepository") {
            let source = self.tree(lookup, reference, namespace)?;
            return self.chart_in_tree(source, spec, &files);
        }
        if reference.kind != "HelmRepository" {
            return Err(SourceFailure::new(
                UnitError::new(format!(
                    "the chart's sourceRef names {id}: charts do not come from a {}",
                    reference.kind
                ))
                .help("use a HelmRepository, GitRepository or Bucket")
                .fault(Fault::Source),
            ));
        }
        let info = ChartInfo {
            name: spec.chart.to_string(),
            wanted: version.clone(),
            version: String::new(),
            digest: String::new(),
            app_version: String::new(),
        };
        let object = lookup.get("HelmRepository", namespace, &reference.name).ok_or_else(|| SourceFailure {
            chart: Some(info),
            ..SourceFailure::new(
                UnitError::new(format!("the chart's sourceRef names {id}, which no unit of the tree defines"))
                    .help("add it to the tree, or correct the reference's name or namespace")
                    .fault(Fault::Source),
            )
        })?;
        let repository =
            HelmRepository::read(&object).map_err(|e| SourceFailure::new(UnitError::new(e).at(&object.provenance)))?;
        let auth = self.auth(lookup, repository.spec.secret_ref.as_ref().map(|r| r.name.as_str()), object.namespace());
        let request = ChartRequest {
            repository: repository.spec.url.to_string(),
            name: spec.chart.to_string(),
            version,
            auth,
            pass_credentials: repository.spec.pass_credentials,
            insecure: repository.spec.insecure,
        };
        self.fetch_chart(&request, &files, spec.ignore_missing_values_files, id)
    }

    fn fetch_chart(
        &self,
        request: &ChartRequest,
        values_files: &[String],
        ignore_missing: bool,
        id: String,
    ) -> Result<FoundChart> {
        let (info, source) = asked(request, id);
        let found = self.fetcher.chart(request).map_err(|e| SourceFailure {
            chart: Some(info.clone()),
            source: Some(source.clone()),
            ..SourceFailure::fetch(&e)
        })?;
        Ok(archived(found, info, source, values_files, ignore_missing))
    }

    /// The chart that was found, parsed.
    ///
    /// # Errors
    /// When it is broken, or lacks a values file.
    pub(crate) fn load_chart(&self, found: &FoundChart) -> Result<Arc<Chart>> {
        let archive = match &found.content {
            Content::Archive(archive) => archive,
            Content::Chart(chart) => return Ok(Arc::clone(chart)),
        };
        let load = || {
            let broken = |message: String| {
                UnitError::new(format!("{}: {message}", archive.called))
                    .help("replace the archive with the one that the chart's repository publishes")
            };
            let bytes = archive.bytes.read().map_err(|e| broken(e.to_string()))?;
            let mut chart = Chart::from_archive(&bytes).map_err(|e| broken(e.to_string()))?;
            use_values_files(&mut chart, &archive.values_files, archive.ignore_missing).map_err(broken)?;
            Ok(Arc::new(chart))
        };
        let key = found.identity.clone().unwrap_or_default();
        once(&self.memo().charts, &key, load).map_err(|e| SourceFailure {
            chart: Some(found.info.clone()),
            source: Some(found.source.clone()),
            ..SourceFailure::new(e)
        })
    }

    /// A chart that is a folder (or archive) of a file source.
    fn chart_in_tree(&self, source: SourceTree, spec: &HelmChartSpec, values_files: &[String]) -> Result<FoundChart> {
        let dir = clean_path(&spec.chart);
        let mut info = ChartInfo {
            name: spec.chart.to_string(),
            wanted: String::new(),
            version: String::new(),
            digest: String::new(),
            app_version: String::new(),
        };
        let fail = |e: UnitError| SourceFailure {
            chart: Some(info.clone()),
            source: Some(source.info.clone()),
            ..SourceFailure::new(e)
        };
        let tree = &*source.tree;
        let files = match tree.kind(&dir) {
            Some(Kind::File) => None,
            Some(Kind::Dir) => Some(chart_files(tree, &dir).map_err(|e| fail(UnitError::new(e)))?),
            None => {
                return Err(fail(
                    UnitError::new(format!("{} has no chart {dir:?}", source.info.id))
                        .help("correct spec.chart: a path in the source")
                        .fault(Fault::Source),
                ));
            }
        };
        let key = match &files {
            Some(files) => {
                let memory: druse_kustomize::tree::MemoryTree =
                    files.iter().map(|f| (f.name.as_str(), f.data.clone())).collect();
                druse_source::cache::tree_digest(&memory).map_err(|e| fail(UnitError::new(e)))?
            }
            None => {
                let id = tree.content_id(&dir).map_err(|e| fail(UnitError::new(e)))?;
                format!("blob:{}", hex::encode(id.0))
            }
        };
        let place = format!("{}{dir}", source.prefix);
        let ignore_missing = spec.ignore_missing_values_files;
        let identity = format!("{key}\n{place}\n{ignore_missing}\n{}", values_files.join("\n"));
        let packed_file = files.is_none();
        let packed: Vec<String> =
            (files.iter().flatten()).filter_map(|f| f.name.strip_prefix("charts/").map(str::to_string)).collect();
        let chart = once(&self.memo().charts, &identity, || {
            let broken = |message: String| UnitError { file: Some(place.clone()), ..UnitError::new(message) };
            let mut chart = match files {
                None => {
                    let bytes = tree.read(&dir).map_err(|e| broken(e.to_string()))?;
                    Chart::from_archive(&bytes).map_err(|e| e.to_string())
                }
                Some(files) => self.with_dependencies(tree, &dir, files),
            }
            .map_err(broken)?;
            use_values_files(&mut chart, values_files, ignore_missing).map_err(broken)?;
            Ok(Arc::new(chart))
        })
        .map_err(fail)?;
        info.name = chart.name().to_string();
        info.version.clone_from(&chart.metadata.version);
        info.digest = if packed_file { String::new() } else { key };
        // What lies beside it or elsewhere is not in its digest.
        let identity = (packed_file || is_packed(&chart, &packed)).then_some(identity);
        Ok(FoundChart { info, source: source.info, identity, notes: Vec::new(), content: Content::Chart(chart) })
    }

    /// Loads a chart from its files; dependencies that are not packed in it are fetched, or taken from beside it.
    fn with_dependencies(
        &self,
        tree: &dyn FileTree,
        dir: &str,
        mut files: Vec<File>,
    ) -> std::result::Result<Chart, String> {
        let chart = Chart::from_files(files.clone()).map_err(|e| e.to_string())?;
        if chart.check_installable().is_ok() {
            return Ok(chart);
        }
        let packed: BTreeSet<&str> = chart.dependencies.iter().map(|d| d.name()).collect();
        let mut added = Vec::new();
        // What the chart was locked to is what Flux builds it with.
        let locked = |name: &str| {
            let lock = chart.lock.as_ref()?.get("dependencies")?;
            let entry = lock.items().iter().find(|d| d.str_at(["name"]) == Some(name))?;
            entry.str_at(["version"]).map(str::to_string)
        };
        for dependency in chart.metadata.dependencies.iter().flatten().filter(|d| !packed.contains(d.name.as_str())) {
            if let Some(path) = dependency.repository.strip_prefix("file://") {
                let beside = druse_kustomize::tree::join(dir, path)
                    .ok_or_else(|| format!("dependency {}: {path} leads out of the source", dependency.name))?;
                for file in chart_files(tree, &beside)? {
                    added.push(File { name: format!("charts/{}/{}", dependency.name, file.name), data: file.data });
                }
                continue;
            }
            let request = ChartRequest {
                repository: dependency.repository.clone(),
                name: dependency.name.clone(),
                version: locked(&dependency.name).unwrap_or_else(|| dependency.version.clone()),
                ..ChartRequest::default()
            };
            let found = self.fetcher.chart(&request).and_then(|found| found.bytes.read());
            let bytes = found.map_err(|e| format!("dependency {}: {e}", dependency.name))?;
            added.push(File { name: format!("charts/{}.tgz", dependency.name), data: bytes.to_vec() });
        }
        files.extend(added);
        Chart::from_files(files).map_err(|e| e.to_string())
    }
}

/// What is known of a chart and its source before it is found.
fn asked(request: &ChartRequest, id: String) -> (ChartInfo, SourceInfo) {
    let info = ChartInfo { name: request.name.clone(), wanted: request.version.clone(), ..ChartInfo::default() };
    (info, SourceInfo { id, url: request.repository.clone(), revision: String::new(), is_tree: false })
}

/// A chart as its repository publishes it.
fn archived(
    found: ChartArtifact,
    mut info: ChartInfo,
    mut source: SourceInfo,
    values_files: &[String],
    ignore_missing: bool,
) -> FoundChart {
    info.version.clone_from(&found.artifact.revision);
    info.digest.clone_from(&found.artifact.digest);
    source.revision.clone_from(&found.artifact.revision);
    let identity = format!("{}\n{ignore_missing}\n{}", found.artifact.digest, values_files.join("\n"));
    let place = match &found.artifact.origin {
        Origin::Mirror(dir) => format!("mirror {dir}"),
        Origin::Network(url) => url.clone(),
        Origin::Cache => "the cache".to_string(),
        Origin::Tree => "the tree".to_string(),
    };
    let archive = Archive {
        bytes: found.bytes,
        called: format!("chart {} {} from {place}", info.name, info.version),
        values_files: values_files.to_vec(),
        ignore_missing,
    };
    FoundChart { info, source, identity: Some(identity), notes: Vec::new(), content: Content::Archive(archive) }
}

/// The folder of a chart in an artifact: its root, or the only folder there that is one.
fn chart_folder(tree: &dyn FileTree) -> String {
    let is_chart = |dir: &str| {
        let file = if dir.is_empty() { "Chart.yaml".to_string() } else { format!("{dir}/Chart.yaml") };
        tree.kind(&file) == Some(Kind::File)
    };
    if is_chart("") {
        return String::new();
    }
    tree.list("").unwrap_or_default().into_iter().find(|dir| is_chart(dir)).unwrap_or_default()
}

/// The files of a chart's folder, `.helmignore` obeyed, named relative to it.
///
/// # Errors
/// A message that names the file that cannot be read.
pub fn chart_files(tree: &dyn FileTree, dir: &str) -> std::result::Result<Vec<File>, String> {
    let path_in = |name: &str| if dir.is_empty() { name.to_string() } else { format!("{dir}/{name}") };
    let ignore = tree.read(&path_in(".helmignore")).ok();
    let ignore = ignore.as_deref().map(String::from_utf8_lossy).unwrap_or_default();
    let rules = druse_helm::ignore::Rules::parse(&ignore).map_err(|e| e.to_string())?;
    let mut out = Vec::new();
    let mut left = MAX_CHART_FOLDER;
    collect(tree, dir, "", &rules, 0, &mut left, &mut out)?;
    Ok(out)
}

fn collect(
    tree: &dyn FileTree,
    dir: &str,
    shown: &str,
    rules: &druse_helm::ignore::Rules,
    depth: usize,
    left: &mut u64,
    out: &mut Vec<File>,
) -> std::result::Result<(), String> {
    if depth > MAX_DEPTH {
        return Err(format!("{dir}: folders are nested more than {MAX_DEPTH} deep"));
    }
    for name in tree.list(dir).map_err(|e| e.to_string())? {
        let path = if dir.is_empty() { name.clone() } else { format!("{dir}/{name}") };
        let relative = if shown.is_empty() { name } else { format!("{shown}/{name}") };
        match tree.kind(&path) {
            Some(Kind::Dir) if !rules.ignores(&relative, true) => {
                collect(tree, &path, &relative, rules, depth + 1, left, out)?;
            }
            Some(Kind::File) if !rules.ignores(&relative, false) => {
                let bytes = tree.read(&path).map_err(|e| e.to_string())?;
                *left = left
                    .checked_sub(bytes.len() as u64)
                    .ok_or_else(|| format!("{dir}: a chart of more than {MAX_CHART_FOLDER} bytes is not read"))?;
                out.push(File::new(relative, bytes.to_vec()));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Replaces a chart's default values by its values files, merged in order.
fn use_values_files(chart: &mut Chart, files: &[String], ignore_missing: bool) -> std::result::Result<(), String> {
    if files.is_empty() {
        return Ok(());
    }
    let mut merged = Values::default();
    for name in files {
        let name = clean_path(name);
        let values = if name == "values.yaml" {
            Values::from_document(&chart.values).map_err(|e| e.to_string())?
        } else if let Some(file) = chart.files.iter().find(|f| f.name == name) {
            Values::from_yaml(&file.text()).map_err(|e| format!("{name}: {e}"))?
        } else if ignore_missing {
            continue;
        } else {
            return Err(format!("it has no values file {name:?}"));
        };
        merged.merge(values);
    }
    let values: Value = merged.to_value();
    chart.values = values;
    Ok(())
}

/// Whether files of a chart's folder hold all the charts it depends on.
fn is_packed(chart: &Chart, packed: &[String]) -> bool {
    chart.metadata.dependencies.iter().flatten().all(|d| {
        packed.iter().any(|f| f.strip_prefix(d.name.as_str()).is_some_and(|rest| rest.starts_with(['/', '-', '.'])))
    })
}
