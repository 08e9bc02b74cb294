//! From a unit's source reference to files or a chart: which sources are the tree itself, artifacts under their ignore
//! rules, charts parsed once and shared.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::Hash;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use druse_flux::api::{
    Bucket, FluxSpec as _, GitRepository, GitRepositorySpec, HelmChart, HelmChartSpec, HelmRelease, HelmRepository,
    Kustomization, OciRepository, OciRepositorySpec, SourceRef,
};
use druse_flux::config::ConfigData;
use druse_flux::generator::clean_path;
use druse_flux::sourceignore::ArtifactTree;
use druse_helm::{Chart, File, Values};
use druse_kustomize::tree::{FileTree, Kind};
use druse_object::{Object, Value};
use druse_source::mirror::source_folder;
use druse_source::{
    Auth, ChartRequest, Fetcher, GitReference, GitRequest, OciReference, OciRequest, Origin, SourceError,
};

use crate::locate::TreeInput;
use crate::model::{ChartInfo, Fault, SourceInfo, TreeSource, UnitError};
use crate::scan::{Scan, scan};

/// The largest chart read from a folder, in bytes.
const MAX_CHART_FOLDER: u64 = 64 * 1024 * 1024;
/// How deep a chart's folders may be.
const MAX_DEPTH: usize = 32;

/// Where source objects are looked up: the plan's own objects, or a cluster's.
pub trait Lookup: Sync {
    /// A source object (`GitRepository`, `HelmRepository`, …) by kind, namespace and name.
    fn get(&self, kind: &str, namespace: &str, name: &str) -> Option<Arc<Object>>;
    /// The entries of a Secret with credentials.
    fn secret(&self, namespace: &str, name: &str) -> Option<ConfigData>;
}

/// Files for a Kustomization.
#[derive(Clone)]
pub struct SourceTree {
    /// What is known of the source.
    pub info: SourceInfo,
    /// The artifact: ignore rules are applied.
    pub tree: Arc<dyn FileTree>,
    /// Put before file names in provenances, where they are not the tree's own.
    pub prefix: String,
}

/// A chart for a HelmRelease.
#[derive(Clone)]
pub struct SourceChart {
    /// What is known of the chart.
    pub info: ChartInfo,
    /// What is known of its source.
    pub source: SourceInfo,
    /// The chart, parsed; shared by all that use it.
    pub chart: Arc<Chart>,
}

/// Why there are no files or no chart.
#[derive(Clone, Debug)]
pub struct SourceFailure {
    /// What is wrong.
    pub error: UnitError,
    /// Whether it is only that nobody had it.
    pub not_at_hand: bool,
    /// The chart that was asked for.
    pub chart: Option<ChartInfo>,
    /// The source that was asked.
    pub source: Option<SourceInfo>,
}

impl SourceFailure {
    fn new(error: UnitError) -> Self {
        Self { error, not_at_hand: false, chart: None, source: None }
    }

    fn fetch(e: &SourceError) -> Self {
        let mut error = UnitError::new(e);
        if e.is_not_at_hand() {
            error = error.help("fetch it while online, or give a mirror that has it (--mirror DIR)");
            error = error.fault(Fault::NotAtHand);
        }
        Self { not_at_hand: e.is_not_at_hand(), ..Self::new(error) }
    }
}

type Result<T> = std::result::Result<T, SourceFailure>;
type Memo<K, V> = Mutex<HashMap<K, Arc<OnceLock<V>>>>;

/// How sources become files and charts, for one tree. Answers are kept; [`Sources::forget`] asks anew.
pub struct Sources {
    input: TreeInput,
    fetcher: Arc<Fetcher>,
    pub(crate) scan: Scan,
    pub(crate) is_tree: TreeUrls,
    artifacts: Memo<String, Arc<dyn FileTree>>,
    charts: Memo<String, std::result::Result<Arc<Chart>, UnitError>>,
}

fn memo<K: Eq + Hash + Clone, V: Clone>(memo: &Memo<K, V>, key: &K, make: impl FnOnce() -> V) -> V {
    let cell = Arc::clone(memo.lock().unwrap_or_else(PoisonError::into_inner).entry(key.clone()).or_default());
    cell.get_or_init(make).clone()
}

/// Which sources are the tree itself.
#[derive(Clone, Debug, Default)]
pub(crate) struct TreeUrls {
    /// `HOST/OWNER/NAME` of URLs that are the tree.
    urls: BTreeSet<String>,
    /// Sources that no object defines, and that are taken to be the tree.
    undefined: BTreeSet<(String, String, String)>,
    pub(crate) found: Vec<TreeSource>,
}

/// Finds out which sources are the tree: those at one of its repository's remotes, or, when none is, the one source
/// whose Kustomizations' paths exist in the tree most often.
pub(crate) fn identify_tree(input: &TreeInput, scan: &Scan) -> TreeUrls {
    let remotes: BTreeSet<String> = input.remotes.iter().filter_map(|u| source_folder(u)).collect();
    let sources: BTreeMap<(String, String, String), &Arc<Object>> = scan
        .objects
        .iter()
        .map(|o| ((o.kind().to_string(), o.namespace().to_string(), o.name().to_string()), o))
        .collect();
    // Per source: how many Kustomizations have their path in the tree, and how many of these paths say something.
    let mut votes: BTreeMap<(String, String, String), (usize, usize)> = BTreeMap::new();
    for k in scan.objects.iter().filter(|o| Kustomization::is(o)) {
        let reference = |field| k.value.str_at(["spec", "sourceRef", field]).unwrap_or_default();
        let namespace = if reference("namespace").is_empty() { k.namespace() } else { reference("namespace") };
        let id = (reference("kind").to_string(), namespace.to_string(), reference("name").to_string());
        let path = clean_path(k.value.str_at(["spec", "path"]).unwrap_or_default());
        let vote = votes.entry(id).or_default();
        if input.tree.kind(&path) == Some(Kind::Dir) {
            vote.0 += 1;
            vote.1 += usize::from(!path.is_empty());
        }
    }
    let mut out = TreeUrls::default();
    let url_of = |id: &(String, String, String)| {
        sources.get(id).and_then(|o| o.value.str_at(["spec", "url"])).map(str::to_string)
    };
    let mut add = |id: &(String, String, String), reason: &str| {
        let url = url_of(id);
        match url.as_deref().and_then(source_folder) {
            Some(folder) => {
                out.urls.insert(folder);
            }
            None => {
                out.undefined.insert(id.clone());
            }
        }
        out.found.push(TreeSource {
            id: format!("{}/{}/{}", id.0, id.1, id.2),
            url: url.unwrap_or_default(),
            reason: reason.to_string(),
        });
    };
    let mut matched = false;
    for id in sources.keys().filter(|id| id.0 == GitRepositorySpec::KIND) {
        if url_of(id).as_deref().and_then(source_folder).is_some_and(|f| remotes.contains(&f)) {
            add(id, "its URL is a remote of the tree's repository");
            matched = true;
        }
    }
    if !matched {
        let best = votes.iter().filter(|(_, v)| v.0 > 0).max_by(|a, b| {
            let key =
                |(id, v): &(&(String, String, String), &(usize, usize))| (v.1, v.0, std::cmp::Reverse((*id).clone()));
            key(a).cmp(&key(b))
        });
        if let Some((id, (_, named))) = best
            && (*named > 0 || votes.len() == 1)
        {
            let reason = if sources.contains_key(id) {
                "the paths of its Kustomizations are in the tree, and nothing else could be meant"
            } else {
                "nothing defines it, the paths of its Kustomizations are in the tree"
            };
            add(id, reason);
        }
    }
    out
}

impl std::fmt::Debug for Sources {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sources").field("input", &self.input).finish_non_exhaustive()
    }
}

impl Sources {
    /// The sources of a tree: reads all its YAML to find out which of them are the tree itself.
    #[must_use]
    pub fn new(input: TreeInput, fetcher: Arc<Fetcher>) -> Self {
        let scan = scan(&*input.tree);
        let is_tree = identify_tree(&input, &scan);
        Self { input, fetcher, scan, is_tree, artifacts: Mutex::default(), charts: Mutex::default() }
    }

    /// The tree.
    #[must_use]
    pub fn input(&self) -> &TreeInput {
        &self.input
    }

    /// All Flux objects that the tree's files hold, whoever applies them.
    #[must_use]
    pub fn scanned(&self) -> &[Arc<Object>] {
        &self.scan.objects
    }

    /// The sources that were taken to be the tree itself.
    #[must_use]
    pub fn tree_sources(&self) -> &[TreeSource] {
        &self.is_tree.found
    }

    /// Whether a reference to an object that does not exist is taken to mean the tree.
    #[must_use]
    pub fn stands_for(&self, reference: &SourceRef, namespace: &str) -> bool {
        let namespace = reference.namespace.as_deref().filter(|n| !n.is_empty()).unwrap_or(namespace);
        let key = (reference.kind.to_string(), namespace.to_string(), reference.name.to_string());
        self.is_tree.undefined.contains(&key)
    }

    /// Forgets what was fetched, so that what can change is looked up anew. Parsed charts are kept, by digest.
    pub fn forget(&self) {
        self.fetcher.forget();
        self.artifacts.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// The files that a Kustomization's source reference means, in whose namespace it is.
    ///
    /// # Errors
    /// When the source is not defined, is of the wrong kind, or cannot be fetched.
    pub fn tree(&self, lookup: &dyn Lookup, reference: &SourceRef, namespace: &str) -> Result<SourceTree> {
        let namespace = reference.namespace.as_deref().filter(|n| !n.is_empty()).unwrap_or(namespace);
        let id = format!("{}/{namespace}/{}", reference.kind, reference.name);
        let Some(object) = lookup.get(&reference.kind, namespace, &reference.name) else {
            let key = (reference.kind.to_string(), namespace.to_string(), reference.name.to_string());
            if self.is_tree.undefined.contains(&key) {
                return Ok(self.own(id, String::new(), self.artifact("tree", &self.input.tree, None)));
            }
            return Err(SourceFailure::new(
                UnitError::new(format!("sourceRef names {id}, which no unit of the tree defines"))
                    .help("add it to the tree, or correct the reference's kind, name or namespace")
                    .fault(Fault::Source),
            ));
        };
        match reference.kind.as_str() {
            "GitRepository" => self.git(lookup, &object, id),
            "OCIRepository" => self.oci(lookup, &object, id),
            "Bucket" => {
                let url = Bucket::read(&object).map(|b| format!("{}/{}", b.spec.endpoint, b.spec.bucket_name));
                let url = url.map_err(|e| SourceFailure::new(UnitError::new(e).at(&object.provenance)))?;
                Err(SourceFailure {
                    not_at_hand: true,
                    source: Some(SourceInfo { id: id.clone(), url, revision: String::new(), is_tree: false }),
                    ..SourceFailure::new(UnitError::new(format!("{id}: buckets are not fetched by this version")))
                })
            }
            other => Err(SourceFailure::new(
                UnitError::new(format!("sourceRef names {id}: a {other} holds no files for a Kustomization"))
                    .help("use a GitRepository, OCIRepository or Bucket")
                    .fault(Fault::Source),
            )),
        }
    }

    fn own(&self, id: String, url: String, tree: Arc<dyn FileTree>) -> SourceTree {
        let info = SourceInfo { id, url, revision: self.input.revision.clone(), is_tree: true };
        SourceTree { info, tree, prefix: String::new() }
    }

    fn git(&self, lookup: &dyn Lookup, object: &Arc<Object>, id: String) -> Result<SourceTree> {
        let git =
            GitRepository::read(object).map_err(|e| SourceFailure::new(UnitError::new(e).at(&object.provenance)))?;
        let reference = git.spec.reference.clone().unwrap_or_default();
        let text = |v: &Option<druse_object::Str>| v.as_deref().filter(|t| !t.is_empty()).map(str::to_string);
        let reference = GitReference {
            commit: text(&reference.commit),
            name: text(&reference.name),
            semver: text(&reference.semver),
            tag: text(&reference.tag),
            branch: text(&reference.branch),
        };
        let url = git.spec.url.to_string();
        let fixed = reference.commit.is_some() || reference.semver.is_some() || reference.tag.is_some();
        if !fixed && source_folder(&url).is_some_and(|f| self.is_tree.urls.contains(&f)) {
            let tree = self.artifact("tree", &self.input.tree, git.spec.ignore.as_deref());
            return Ok(self.own(id, url, tree));
        }
        let failed_info = SourceInfo { id: id.clone(), url: url.clone(), revision: String::new(), is_tree: false };
        if !git.spec.include.is_empty() {
            return Err(SourceFailure::new(
                UnitError::new(format!("{id}: spec.include is not supported")).at(&object.provenance),
            ));
        }
        let auth = self.auth(lookup, git.spec.secret_ref.as_ref().map(|r| r.name.as_str()), object.namespace());
        let request = GitRequest { url: url.clone(), reference: reference.clone(), auth };
        let found = self.fetcher.git(&request).map_err(|e| self.failed(&e, object, failed_info))?;
        let tree = self.artifact(&found.artifact.digest, &found.tree, git.spec.ignore.as_deref());
        Ok(fetched(id, url, found.artifact.revision, tree))
    }

    fn oci(&self, lookup: &dyn Lookup, object: &Arc<Object>, id: String) -> Result<SourceTree> {
        let (request, spec) = self.oci_request(lookup, object)?;
        let failed_info =
            SourceInfo { id: id.clone(), url: request.url.clone(), revision: String::new(), is_tree: false };
        let found = self.fetcher.oci(&request).map_err(|e| self.failed(&e, object, failed_info))?;
        let tree = self.artifact(&found.artifact.digest, &found.tree, spec.ignore.as_deref());
        Ok(fetched(id, request.url, found.artifact.revision, tree))
    }

    fn oci_request(&self, lookup: &dyn Lookup, object: &Arc<Object>) -> Result<(OciRequest, OciRepositorySpec)> {
        let oci =
            OciRepository::read(object).map_err(|e| SourceFailure::new(UnitError::new(e).at(&object.provenance)))?;
        let reference = oci.spec.reference.clone().unwrap_or_default();
        let text = |v: &Option<druse_object::Str>| v.as_deref().filter(|t| !t.is_empty()).map(str::to_string);
        let request = OciRequest {
            url: oci.spec.url.to_string(),
            reference: OciReference {
                digest: text(&reference.digest),
                semver: text(&reference.semver),
                tag: text(&reference.tag),
            },
            media_type: oci.spec.layer_selector.as_ref().and_then(|l| text(&l.media_type)),
            auth: self.auth(lookup, oci.spec.secret_ref.as_ref().map(|r| r.name.as_str()), object.namespace()),
            insecure: oci.spec.insecure,
        };
        Ok((request, oci.spec))
    }

    fn failed(&self, e: &SourceError, object: &Object, source: SourceInfo) -> SourceFailure {
        let mut failure = SourceFailure::fetch(e);
        failure.error = failure.error.at(&object.provenance);
        failure.source = Some(source);
        failure
    }

    /// An artifact: a tree under its ignore rules, which are read once.
    fn artifact(&self, digest: &str, tree: &Arc<dyn FileTree>, ignore: Option<&str>) -> Arc<dyn FileTree> {
        memo(&self.artifacts, &format!("{digest}\n{}", ignore.unwrap_or_default()), || {
            Arc::new(ArtifactTree::new(Arc::clone(tree), ignore))
        })
    }

    fn auth(&self, lookup: &dyn Lookup, secret: Option<&str>, namespace: &str) -> Option<Auth> {
        let data = lookup.secret(namespace, secret?)?;
        let text = |key: &str| data.get(key).map(|v| String::from_utf8_lossy(v).into_owned()).unwrap_or_default();
        let auth = Auth { username: text("username"), password: text("password") };
        (!auth.username.is_empty() || !auth.password.is_empty()).then_some(auth)
    }

    /// The chart of a HelmRelease.
    ///
    /// # Errors
    /// When its source is not defined, or the chart cannot be fetched or loaded.
    pub fn chart(&self, lookup: &dyn Lookup, hr: &HelmRelease) -> Result<SourceChart> {
        if let Some(reference) = &hr.spec.chart_ref {
            let namespace = reference.namespace.as_deref().filter(|n| !n.is_empty()).unwrap_or(&hr.namespace);
            let id = format!("{}/{namespace}/{}", reference.kind, reference.name);
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
                        .help("use a HelmChart or an OCIRepository")
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

    fn oci_chart(&self, lookup: &dyn Lookup, object: &Arc<Object>, id: String) -> Result<SourceChart> {
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
        self.fetch_chart(&chart, &[], false, id)
    }

    fn helm_chart(&self, lookup: &dyn Lookup, spec: &HelmChartSpec, namespace: &str) -> Result<SourceChart> {
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
    ) -> Result<SourceChart> {
        let mut info = ChartInfo {
            name: request.name.clone(),
            wanted: request.version.clone(),
            version: String::new(),
            digest: String::new(),
            app_version: String::new(),
        };
        let mut source = SourceInfo { id, url: request.repository.clone(), revision: String::new(), is_tree: false };
        let found = self.fetcher.chart(request).map_err(|e| SourceFailure {
            chart: Some(info.clone()),
            source: Some(source.clone()),
            ..SourceFailure::fetch(&e)
        })?;
        info.version.clone_from(&found.artifact.revision);
        info.digest.clone_from(&found.artifact.digest);
        source.revision.clone_from(&found.artifact.revision);
        let key = format!("{}\n{}", found.artifact.digest, values_files.join("\n"));
        let chart = memo(&self.charts, &key, || {
            let broken = |message: String| {
                let from = match &found.artifact.origin {
                    Origin::Mirror(dir) => format!("mirror {dir}"),
                    Origin::Network(url) => url.clone(),
                    Origin::Cache => "the cache".to_string(),
                    Origin::Tree => "the tree".to_string(),
                };
                UnitError::new(format!("chart {} {} from {from}: {message}", request.name, found.artifact.revision))
                    .help("replace the archive with the one that the chart's repository publishes")
            };
            let mut chart = Chart::from_archive(&found.bytes).map_err(|e| broken(e.to_string()))?;
            use_values_files(&mut chart, values_files, ignore_missing).map_err(broken)?;
            Ok(Arc::new(chart))
        })
        .map_err(|e| SourceFailure {
            chart: Some(info.clone()),
            source: Some(source.clone()),
            ..SourceFailure::new(e)
        })?;
        info.app_version.clone_from(&chart.metadata.app_version);
        Ok(SourceChart { info, source, chart })
    }

    /// A chart that is a folder (or archive) of a file source.
    fn chart_in_tree(&self, source: SourceTree, spec: &HelmChartSpec, values_files: &[String]) -> Result<SourceChart> {
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
            None => String::new(),
        };
        let place = format!("{}{dir}", source.prefix);
        let chart = memo(&self.charts, &format!("{key}\n{place}\n{}", values_files.join("\n")), || {
            let broken = |message: String| UnitError { file: Some(place.clone()), ..UnitError::new(message) };
            let mut chart = match files {
                None => {
                    let bytes = tree.read(&dir).map_err(|e| broken(e.to_string()))?;
                    Chart::from_archive(&bytes).map_err(|e| e.to_string())
                }
                Some(files) => self.with_dependencies(tree, &dir, files),
            }
            .map_err(broken)?;
            use_values_files(&mut chart, values_files, spec.ignore_missing_values_files).map_err(broken)?;
            Ok(Arc::new(chart))
        })
        .map_err(fail)?;
        info.name = chart.name().to_string();
        info.version.clone_from(&chart.metadata.version);
        info.digest = key;
        info.app_version.clone_from(&chart.metadata.app_version);
        Ok(SourceChart { info, source: source.info, chart })
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
                version: dependency.version.clone(),
                ..ChartRequest::default()
            };
            let found = self.fetcher.chart(&request).map_err(|e| format!("dependency {}: {e}", dependency.name))?;
            added.push(File { name: format!("charts/{}.tgz", dependency.name), data: found.bytes.to_vec() });
        }
        files.extend(added);
        Chart::from_files(files).map_err(|e| e.to_string())
    }
}

fn fetched(id: String, url: String, revision: String, tree: Arc<dyn FileTree>) -> SourceTree {
    let folder = source_folder(&url).unwrap_or_else(|| url.clone());
    let reference = revision.split('@').next().unwrap_or_default();
    let prefix = format!("{folder}@{reference}:");
    SourceTree { info: SourceInfo { id, url, revision, is_tree: false }, tree, prefix }
}

/// The files of a chart's folder, `.helmignore` obeyed, named relative to it.
fn chart_files(tree: &dyn FileTree, dir: &str) -> std::result::Result<Vec<File>, String> {
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
