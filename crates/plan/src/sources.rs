//! From a unit's source reference to files: which sources are the tree itself, artifacts under their ignore rules.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use druse_flux::api::{
    Bucket, FluxSpec as _, GitRepository, GitRepositorySpec, Kustomization, OciRepository, OciRepositorySpec, SourceRef,
};
use druse_flux::config::ConfigData;
use druse_flux::generator::clean_path;
use druse_flux::sourceignore::ArtifactTree;
use druse_helm::Chart;
use druse_kustomize::tree::{FileTree, Kind};
use druse_object::{Object, Value};
use druse_source::mirror::source_folder;
use druse_source::{Auth, Fetcher, GitReference, GitRequest, OciReference, OciRequest, SourceError, TreeArtifact};

use crate::clusters::is_put_aside;
use crate::copied::{self, CopiedTree, Subtree};
use crate::instance;
use crate::locate::TreeInput;
use crate::memo::{Cells, Memo, once};
use crate::model::{ChartInfo, Fault, SourceInfo, TreeSource, UnitError};
use crate::scan::{Scan, scan};

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
    /// What tells its files from others: its digest and ignore rules. Of the tree itself, which is at hand to compare,
    /// only the rules.
    pub(crate) identity: String,
    /// Where its files were copied from, if they were.
    pub(crate) copied: Option<Arc<CopiedTree>>,
}

impl SourceTree {
    /// How a provenance names one of its files.
    pub(crate) fn place(&self, file: &str) -> String {
        let file = self.copied.as_ref().and_then(|c| c.origin(file)).unwrap_or(file);
        format!("{}{file}", self.prefix)
    }
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
    pub(crate) fn new(error: UnitError) -> Self {
        Self { error, not_at_hand: false, chart: None, source: None }
    }

    pub(crate) fn fetch(e: &SourceError) -> Self {
        let mut error = UnitError::new(e);
        if e.is_not_at_hand() {
            error = error.help("fetch it while online, or give a mirror that has it (--mirror DIR)");
            error = error.fault(Fault::NotAtHand);
        }
        Self { not_at_hand: e.is_not_at_hand(), ..Self::new(error) }
    }
}

pub(crate) type Result<T> = std::result::Result<T, SourceFailure>;

/// How sources become files and charts, for one tree. Answers are kept; [`Sources::forget`] asks anew.
pub struct Sources {
    input: TreeInput,
    pub(crate) fetcher: Arc<Fetcher>,
    pub(crate) scan: Scan,
    pub(crate) is_tree: TreeUrls,
    artifacts: Cells<String, Arc<dyn FileTree>>,
    memo: Arc<Memo>,
}

/// Which sources are the tree itself.
#[derive(Clone, Debug, Default)]
pub(crate) struct TreeUrls {
    /// `HOST/OWNER/NAME` of URLs that are the tree.
    urls: BTreeSet<String>,
    /// Branches of the tree's repository that hold other files than the tree: `HOST/OWNER/NAME` and the branch.
    other_branches: BTreeSet<(String, String)>,
    /// Sources that no object defines, and that are taken to be the tree, or this folder of it.
    undefined: BTreeMap<(String, String, String), String>,
    pub(crate) found: Vec<TreeSource>,
}

/// Finds out which sources are the tree: those at one of its repository's remotes, or, when none is, the one source
/// whose Kustomizations' paths exist in the tree most often.
pub(crate) fn identify_tree(input: &TreeInput, scan: &Scan) -> TreeUrls {
    let remotes: BTreeSet<String> = input.remotes.iter().filter_map(|u| source_folder(u)).collect();
    // A template of a source may stand beside it in the tree: a source is what any of its definitions says.
    let mut sources: BTreeMap<(String, String, String), Vec<&Arc<Object>>> = BTreeMap::new();
    for o in &scan.objects {
        let id = (o.kind().to_string(), o.namespace().to_string(), o.name().to_string());
        sources.entry(id).or_default().push(o);
    }
    // Per source: how many Kustomizations have their path in the tree, how many of these paths say something, and how
    // many Kustomizations there are.
    let mut votes: BTreeMap<(String, String, String), (usize, usize, usize)> = BTreeMap::new();
    let mut paths: BTreeMap<(String, String, String), BTreeSet<String>> = BTreeMap::new();
    // What was put aside may have been written for other folders.
    let in_use = |o: &Object| !is_put_aside(o.provenance.file.as_deref().unwrap_or_default(), &input.focus);
    for k in scan.objects.iter().filter(|o| Kustomization::is(o) && in_use(o)) {
        let reference = |field| k.value.str_at(["spec", "sourceRef", field]).unwrap_or_default();
        let namespace = if reference("namespace").is_empty() { k.namespace() } else { reference("namespace") };
        let id = (reference("kind").to_string(), namespace.to_string(), reference("name").to_string());
        let path = clean_path(k.value.str_at(["spec", "path"]).unwrap_or_default());
        // Where a parent puts the reference in, the files do not say which.
        if id.2.is_empty() || id.0 == "ExternalArtifact" {
            continue;
        }
        if !path.is_empty() {
            paths.entry(id.clone()).or_default().insert(path.clone());
        }
        let vote = votes.entry(id).or_default();
        vote.2 += 1;
        if input.tree.kind(&path) == Some(Kind::Dir) {
            vote.0 += 1;
            vote.1 += usize::from(!path.is_empty());
        }
    }
    // An ArtifactGenerator names what it copies as a Kustomization names its path.
    for g in scan.objects.iter().filter(|o| o.kind() == "ArtifactGenerator" && in_use(o)) {
        for (id, path) in copied::read_by(g) {
            let vote = votes.entry(id).or_default();
            vote.2 += 1;
            if !path.is_empty() && input.tree.kind(&path).is_some() {
                vote.0 += 1;
                vote.1 += 1;
            }
        }
    }
    let mut out = TreeUrls::default();
    let urls_of = |id: &(String, String, String)| -> Vec<&str> {
        sources.get(id).into_iter().flatten().filter_map(|o| o.value.str_at(["spec", "url"])).collect()
    };
    let mut add = |id: &(String, String, String), reason: &str| {
        let urls = urls_of(id);
        let folders: Vec<String> = urls.iter().filter_map(|u| source_folder(u)).collect();
        if folders.is_empty() {
            out.undefined.insert(id.clone(), String::new());
        }
        out.urls.extend(folders);
        out.found.push(TreeSource {
            id: format!("{}/{}/{}", id.0, id.1, id.2),
            url: urls.first().copied().unwrap_or_default().to_string(),
            reason: reason.to_string(),
        });
    };
    let mut matched = false;
    for id in sources.keys().filter(|id| id.0 == GitRepositorySpec::KIND) {
        if urls_of(id).iter().filter_map(|u| source_folder(u)).any(|f| remotes.contains(&f)) {
            add(id, "its URL is a remote of the tree's repository");
            matched = true;
        }
    }
    // A Flux Operator or a bootstrap makes the tree's own source, and an artifact may be pushed from the tree.
    let is_defined =
        |id: &(String, String, String)| sources.get(id).is_some_and(|all| all.iter().any(|o| !instance::is_made(o)));
    let most = votes.values().map(|v| v.1).max().unwrap_or_default();
    let mut sure = BTreeSet::new();
    for (id, (found, named, all)) in votes.iter().filter(|(_, v)| v.1 > 0) {
        let defined = is_defined(id);
        // One that few name is more likely misspelt.
        let usual = id.2 == "flux-system" || *named == most;
        if !defined && usual {
            add(id, "nothing defines it, the paths of its Kustomizations are in the tree");
        } else if defined && id.0 == OciRepositorySpec::KIND && found * 10 >= all * 9 && named * 2 > *all {
            add(id, "the paths of its Kustomizations are in the tree: it is pushed from there");
        } else {
            continue;
        }
        sure.insert(id.clone());
    }
    // An artifact may be pushed from a folder of the tree, and its paths are those in that.
    let others = paths.iter().filter(|(id, all)| !is_defined(id) && !sure.contains(*id) && all.len() > 1);
    let pushed: Vec<_> = others.filter_map(|(id, all)| Some((id, folder_with(&*input.tree, all)?))).collect();
    if !matched && sure.is_empty() && pushed.is_empty() {
        let best = votes.iter().filter(|(_, v)| v.0 > 0).max_by(|a, b| {
            let key = |(id, v): &(&(String, String, String), &(usize, usize, usize))| {
                (v.1, v.0, std::cmp::Reverse((*id).clone()))
            };
            key(a).cmp(&key(b))
        });
        if let Some((id, (_, named, _))) = best
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
    out.other_branches = other_branches(&sources, &votes, &out.urls);
    for (id, folder) in pushed {
        out.found.push(TreeSource {
            id: format!("{}/{}/{}", id.0, id.1, id.2),
            url: String::new(),
            reason: format!("nothing defines it, the paths of its Kustomizations are in the tree's folder {folder}"),
        });
        out.undefined.insert(id.clone(), folder);
    }
    out
}

/// The branches beside the main one that a source names and of which no Kustomization's path is in the tree, while paths of
/// other sources are: a tenant's files on a branch of their own in the same repository.
fn other_branches(
    sources: &BTreeMap<(String, String, String), Vec<&Arc<Object>>>,
    votes: &BTreeMap<(String, String, String), (usize, usize, usize)>,
    own: &BTreeSet<String>,
) -> BTreeSet<(String, String)> {
    let mut found: BTreeMap<(String, String), (usize, usize)> = BTreeMap::new();
    for (id, objects) in sources.iter().filter(|(id, _)| id.0 == GitRepositorySpec::KIND) {
        let (there, _, all) = votes.get(id).copied().unwrap_or_default();
        for o in objects {
            let folder = o.value.str_at(["spec", "url"]).and_then(source_folder).filter(|f| own.contains(f));
            let branch = o.value.str_at(["spec", "ref", "branch"]).filter(|b| !matches!(*b, "main" | "master"));
            if let (Some(folder), Some(branch)) = (folder, branch) {
                let of = found.entry((folder, branch.to_string())).or_default();
                *of = (of.0 + there, of.1 + all);
            }
        }
    }
    let elsewhere = |branch: &(usize, usize)| votes.values().map(|v| v.0).sum::<usize>() > branch.0;
    found.into_iter().filter(|(_, of)| of.0 == 0 && of.1 > 0 && elsewhere(of)).map(|(branch, _)| branch).collect()
}

/// The folder at the top of a tree, or one below such a folder, in which all of some paths are folders.
fn folder_with(tree: &dyn FileTree, paths: &BTreeSet<String>) -> Option<String> {
    let folders = |dir: &str| -> Vec<String> {
        let names = tree.list(dir).unwrap_or_default();
        let all = names.iter().filter(|n| !n.starts_with('.')).filter_map(|n| druse_kustomize::tree::join(dir, n));
        all.filter(|p| tree.kind(p) == Some(Kind::Dir)).collect()
    };
    let top = folders("");
    let below: Vec<String> = top.iter().flat_map(|dir| folders(dir)).collect();
    top.into_iter().chain(below).find(|dir| {
        let is_there =
            |path: &String| druse_kustomize::tree::join(dir, path).is_some_and(|p| tree.kind(&p) == Some(Kind::Dir));
        paths.iter().all(is_there)
    })
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
        Self::with_memo(input, fetcher, Arc::new(Memo::default()))
    }

    /// As [`Sources::new`], sharing with others what a memo keeps: of two revisions of a tree, the second renders only
    /// what it reads otherwise.
    #[must_use]
    pub fn with_memo(input: TreeInput, fetcher: Arc<Fetcher>, memo: Arc<Memo>) -> Self {
        let scan = scan(&*input.tree, &input.root, &memo);
        let is_tree = identify_tree(&input, &scan);
        Self { input, fetcher, scan, is_tree, artifacts: Mutex::default(), memo }
    }

    pub(crate) fn memo(&self) -> &Memo {
        &self.memo
    }

    /// What fetches artifacts.
    #[must_use]
    pub fn fetcher(&self) -> &Arc<Fetcher> {
        &self.fetcher
    }

    /// How surely a Kustomization's source is the tree: 0 when it is at one of the repository's remotes, 1 when it is
    /// taken to be the tree, 2 when it is an artifact taken to be that, 3 when it is none.
    pub(crate) fn nearness(&self, definition: &Object) -> u8 {
        let reference = |field| definition.value.str_at(["spec", "sourceRef", field]).unwrap_or_default();
        let namespace = if reference("namespace").is_empty() { definition.namespace() } else { reference("namespace") };
        let id = format!("{}/{namespace}/{}", reference("kind"), reference("name"));
        match self.is_tree.found.iter().find(|s| s.id == id) {
            Some(source) if !source.url.is_empty() && !source.url.starts_with("oci://") => 0,
            Some(source) if !source.id.starts_with("OCIRepository/") => 1,
            Some(_) => 2,
            None => 3,
        }
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
        self.is_tree.undefined.contains_key(&key)
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
        let key = (reference.kind.to_string(), namespace.to_string(), reference.name.to_string());
        // What an operator makes is the tree, or a folder of it, where that was found out.
        let own = |o: &Arc<Object>| instance::is_made(o) && self.is_tree.undefined.contains_key(&key);
        let Some(object) = lookup.get(&reference.kind, namespace, &reference.name).filter(|o| !own(o)) else {
            match self.is_tree.undefined.get(&key) {
                Some(folder) if folder.is_empty() => return Ok(self.own(id, String::new(), None)),
                Some(folder) => {
                    let own = self.own(id, String::new(), None);
                    let tree: Arc<dyn FileTree> = Arc::new(Subtree::new(own.tree, folder));
                    return Ok(SourceTree { tree, prefix: format!("{folder}/"), ..own });
                }
                None => {}
            }
            if let Some((generator, artifact)) = copied::generator(&self.scan.objects, namespace, &reference.name)
                && reference.kind == "ExternalArtifact"
            {
                return self.generated(lookup, generator, artifact, namespace, id);
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

    /// An artifact that an ArtifactGenerator makes of other sources.
    fn generated(
        &self,
        lookup: &dyn Lookup,
        generator: &Arc<Object>,
        artifact: &Value,
        namespace: &str,
        id: String,
    ) -> Result<SourceTree> {
        let failed = |message: String| {
            let error = UnitError::new(format!("{id}: {message}")).at(&generator.provenance);
            SourceFailure::new(error.fault(Fault::Source))
        };
        let mut sources: BTreeMap<&str, SourceTree> = BTreeMap::new();
        for source in generator.value["spec"]["sources"].items() {
            let text = |key: &str| source.str_at([key]).unwrap_or_default();
            if !matches!(text("kind"), "GitRepository" | "OCIRepository") {
                return Err(failed(format!("a {} is not read for artifacts by this version", text("kind"))));
            }
            let of = SourceRef {
                kind: text("kind").into(),
                name: text("name").into(),
                namespace: source.str_at(["namespace"]).map(Into::into),
                ..SourceRef::default()
            };
            sources.insert(text("alias"), self.tree(lookup, &of, namespace)?);
        }
        let mut tree = CopiedTree::default();
        for operation in artifact["copy"].items() {
            tree.copy(operation, &|alias| sources.get(alias).map(|s| Arc::clone(&s.tree))).map_err(failed)?;
        }
        let mut identity = druse_object::json::to_string(artifact);
        for (alias, source) in &sources {
            identity.push_str(&format!("\n{alias} {} {}", source.prefix, source.identity));
        }
        let tree = Arc::new(tree);
        // Of several sources it is not said which a file is of; mostly there is one.
        let prefix = sources.values().next().map(|s| s.prefix.clone()).unwrap_or_default();
        let info = SourceInfo {
            id,
            url: String::new(),
            revision: sources.values().next().map(|s| s.info.revision.clone()).unwrap_or_default(),
            is_tree: sources.values().all(|s| s.info.is_tree),
        };
        Ok(SourceTree { info, tree: Arc::clone(&tree) as _, prefix, identity, copied: Some(tree) })
    }

    fn own(&self, id: String, url: String, ignore: Option<&str>) -> SourceTree {
        let info = SourceInfo { id, url, revision: self.input.revision.clone(), is_tree: true };
        let tree = self.artifact("tree", &self.input.tree, ignore);
        SourceTree {
            info,
            tree,
            prefix: String::new(),
            identity: format!("tree\n{}", ignore.unwrap_or_default()),
            copied: None,
        }
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
        let branch = reference.branch.clone().unwrap_or_default();
        let own =
            |f: String| self.is_tree.urls.contains(&f) && !self.is_tree.other_branches.contains(&(f, branch.clone()));
        if !fixed && source_folder(&url).is_some_and(own) {
            return Ok(self.own(id, url, git.spec.ignore.as_deref()));
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
        Ok(self.fetched(id, url, &found, git.spec.ignore.as_deref()))
    }

    fn fetched(&self, id: String, url: String, found: &TreeArtifact, ignore: Option<&str>) -> SourceTree {
        let (digest, revision) = (&found.artifact.digest, found.artifact.revision.clone());
        let folder = source_folder(&url).unwrap_or_else(|| url.clone());
        let prefix = format!("{folder}@{}:", revision.split('@').next().unwrap_or_default());
        let tree = self.artifact(digest, &found.tree, ignore);
        let identity = format!("{digest}\n{}", ignore.unwrap_or_default());
        SourceTree { info: SourceInfo { id, url, revision, is_tree: false }, tree, prefix, identity, copied: None }
    }

    fn oci(&self, lookup: &dyn Lookup, object: &Arc<Object>, id: String) -> Result<SourceTree> {
        let (request, spec) = self.oci_request(lookup, object)?;
        if source_folder(&request.url).is_some_and(|f| self.is_tree.urls.contains(&f)) {
            return Ok(self.own(id, request.url, spec.ignore.as_deref()));
        }
        let failed_info =
            SourceInfo { id: id.clone(), url: request.url.clone(), revision: String::new(), is_tree: false };
        let found = self.fetcher.oci(&request).map_err(|e| self.failed(&e, object, failed_info))?;
        Ok(self.fetched(id, request.url, &found, spec.ignore.as_deref()))
    }

    pub(crate) fn oci_request(
        &self,
        lookup: &dyn Lookup,
        object: &Arc<Object>,
    ) -> Result<(OciRequest, OciRepositorySpec)> {
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
        once(&self.artifacts, &format!("{digest}\n{}", ignore.unwrap_or_default()), || {
            Arc::new(ArtifactTree::new(Arc::clone(tree), ignore))
        })
    }

    pub(crate) fn auth(&self, lookup: &dyn Lookup, secret: Option<&str>, namespace: &str) -> Option<Auth> {
        let data = lookup.secret(namespace, secret?)?;
        let text = |key: &str| data.get(key).map(|v| String::from_utf8_lossy(v).into_owned()).unwrap_or_default();
        let auth = Auth { username: text("username"), password: text("password") };
        (!auth.username.is_empty() || !auth.password.is_empty()).then_some(auth)
    }
}
