//! Where artifacts come from: the mirrors in their order, then the cache, then the network.

use std::collections::HashMap;
use std::hash::Hash;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use crate::cache::{self, Cache};
use crate::error::SourceError;
use crate::mirror::{self, Mirror};
use crate::net::{self, NetOptions, Network, shown};
use crate::request::{Artifact, ChartArtifact, ChartRequest, GitRequest, OciRequest, Origin, TreeArtifact};

/// Where to look.
#[derive(Clone, Debug, Default)]
pub struct FetcherOptions {
    /// Mirrors, in the order in which they are asked.
    pub mirrors: Vec<PathBuf>,
    /// The cache folder; none is used when absent.
    pub cache: Option<PathBuf>,
    /// Whether the network is left alone, also when [`Fetcher::with_network`] gives one.
    pub offline: bool,
}

/// What a [`Fetcher`] reports while it works.
#[derive(Clone, Copy, Debug)]
pub enum Progress<'a> {
    /// Something is asked for that no mirror has, so that it may take a while.
    Asked {
        /// What: `chart NAME VERSION of URL`.
        what: &'a str,
    },
    /// There is an answer to what was asked for.
    Answered {
        /// What, as in `Asked`.
        what: &'a str,
        /// What came, or why nothing did.
        result: Result<&'a Artifact, &'a SourceError>,
    },
}

type OnProgress = dyn Fn(Progress<'_>) + Send + Sync;

type Memo<K, V> = Mutex<HashMap<K, Arc<OnceLock<Result<V, SourceError>>>>>;

/// Fetches artifacts. The same question is asked once; [`Fetcher::forget`] makes it ask anew. May be used from any
/// number of threads; calls block until there is an answer.
pub struct Fetcher {
    mirrors: Vec<Mirror>,
    cache: Option<Cache>,
    offline: bool,
    network: Option<Network>,
    progress: Option<Box<OnProgress>>,
    charts: Memo<ChartRequest, ChartArtifact>,
    gits: Memo<GitRequest, TreeArtifact>,
    ocis: Memo<OciRequest, TreeArtifact>,
}

impl std::fmt::Debug for Fetcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fetcher")
            .field("mirrors", &self.mirrors)
            .field("offline", &self.offline)
            .finish_non_exhaustive()
    }
}

impl Fetcher {
    /// A fetcher.
    ///
    /// # Errors
    /// When a mirror is none.
    pub fn new(options: FetcherOptions) -> Result<Self, SourceError> {
        Ok(Self {
            mirrors: options.mirrors.into_iter().map(Mirror::open).collect::<Result<_, _>>()?,
            cache: options.cache.map(Cache::new),
            offline: options.offline,
            network: None,
            progress: None,
            charts: Mutex::default(),
            gits: Mutex::default(),
            ocis: Mutex::default(),
        })
    }

    /// Lets it use the network, unless it is offline. Without this it knows mirrors and the cache only. Nothing of the
    /// network is made ready before something is asked for that neither has.
    ///
    /// # Errors
    /// When a proxy's URL or a certificate of the options is none.
    pub fn with_network(mut self, options: NetOptions) -> Result<Self, SourceError> {
        if !self.offline {
            self.network = Some(Network::new(options)?);
        }
        Ok(self)
    }

    pub(crate) fn network(&self) -> Option<&Network> {
        self.network.as_ref()
    }

    /// Says what it is doing, on whatever thread it is doing it.
    #[must_use]
    pub fn with_progress(mut self, on: impl Fn(Progress<'_>) + Send + Sync + 'static) -> Self {
        self.progress = Some(Box::new(on));
        self
    }

    /// Forgets all answers, and which hosts could not be reached, so that what can change is looked up anew.
    pub fn forget(&self) {
        self.charts.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.gits.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.ocis.lock().unwrap_or_else(PoisonError::into_inner).clear();
        if let Some(network) = &self.network {
            network.forget();
        }
    }

    /// Every chart that was asked for, with the answer; in no order.
    pub fn asked_charts(&self) -> Vec<(ChartRequest, Result<ChartArtifact, SourceError>)> {
        asked(&self.charts)
    }

    /// Every Git tree that was asked for, with the answer; in no order.
    pub fn asked_gits(&self) -> Vec<(GitRequest, Result<TreeArtifact, SourceError>)> {
        asked(&self.gits)
    }

    /// Every OCI artifact that was asked for, with the answer; in no order.
    pub fn asked_ocis(&self) -> Vec<(OciRequest, Result<TreeArtifact, SourceError>)> {
        asked(&self.ocis)
    }

    /// The chart that a request means.
    ///
    /// # Errors
    /// When nobody has it (the error says who was asked and what they have), or it is broken.
    pub fn chart(&self, request: &ChartRequest) -> Result<ChartArtifact, SourceError> {
        once(&self.charts, request, || {
            let mut looked = Vec::new();
            for m in &self.mirrors {
                match m.chart(&request.name, &request.version) {
                    Ok(mirror::Answer::Found(found)) => return Ok(found),
                    Ok(mirror::Answer::Lacks(has)) => looked.push(has),
                    // In a registry there are names that are no versions: digests, `latest`.
                    Err(SourceError::Version(_)) if request.repository.starts_with("oci://") => {
                        looked.push(format!("mirror {} (has charts by version only)", m.root().display()));
                    }
                    Err(e) => return Err(e),
                }
            }
            let mut what = format!("chart {}", request.name);
            if !request.version.is_empty() {
                what.push_str(&format!(" {}", request.version));
            }
            what.push_str(&format!(" of {}", shown(&request.repository)));
            let question = net::helm::chart_question(&request.repository, &request.name, &request.version);
            let cached = || {
                let (answer, bytes) = self.cache.as_ref()?.chart(&question)?;
                let artifact = Artifact { revision: answer.revision, digest: answer.digest, origin: Origin::Cache };
                Some(ChartArtifact { artifact, bytes })
            };
            let ask = |network: &Network| network.chart(request, self.cache.as_ref());
            self.beyond_mirrors(what, looked, net::is_fixed(&request.version), cached, ask, |found| &found.artifact)
        })
    }

    /// The chart of this name and version that a mirror has, whatever repository it is of.
    #[must_use]
    pub fn mirrored_chart(&self, name: &str, version: &str) -> Option<ChartArtifact> {
        self.mirrors.iter().find_map(|m| match m.chart(name, version) {
            Ok(mirror::Answer::Found(found)) => Some(found),
            _ => None,
        })
    }

    /// The tree that a Git request means.
    ///
    /// # Errors
    /// As [`Fetcher::chart`].
    pub fn git(&self, request: &GitRequest) -> Result<TreeArtifact, SourceError> {
        once(&self.gits, request, || {
            let mut looked = Vec::new();
            for m in &self.mirrors {
                match m.git(request)? {
                    mirror::Answer::Found(found) => return Ok(found),
                    mirror::Answer::Lacks(has) => looked.push(has),
                }
            }
            let what = format!("Git repository {} ({})", shown(&request.url), request.reference);
            let cached = || {
                let (answer, bytes) = self.cache.as_ref()?.answer(&net::git::question(request))?;
                net::git::artifact(bytes, answer.revision, Origin::Cache, &request.url).ok()
            };
            let ask = |network: &Network| network.git(request, self.cache.as_ref());
            self.beyond_mirrors(what, looked, request.reference.commit.is_some(), cached, ask, |found| &found.artifact)
        })
    }

    /// The tree that an OCI request means.
    ///
    /// # Errors
    /// As [`Fetcher::chart`].
    pub fn oci(&self, request: &OciRequest) -> Result<TreeArtifact, SourceError> {
        once(&self.ocis, request, || {
            let mut looked = Vec::new();
            for m in &self.mirrors {
                match m.oci(request)? {
                    mirror::Answer::Found(found) => return Ok(found),
                    mirror::Answer::Lacks(has) => looked.push(has),
                }
            }
            let what = format!("OCI artifact {} ({})", shown(&request.url), request.reference);
            let cached = || {
                let (answer, bytes) = self.cache.as_ref()?.answer(&net::oci::question(request))?;
                net::oci::artifact(bytes, answer.revision, Origin::Cache, &request.url).ok()
            };
            let ask = |network: &Network| network.oci(request, self.cache.as_ref());
            self.beyond_mirrors(what, looked, request.reference.digest.is_some(), cached, ask, |found| &found.artifact)
        })
    }

    /// The cache, then the network for what is not there or may have changed, then the cache again for what was the
    /// answer the last time, should the network not be there.
    fn beyond_mirrors<T>(
        &self,
        what: String,
        mut looked: Vec<String>,
        fixed: bool,
        cached: impl Fn() -> Option<T>,
        ask: impl Fn(&Network) -> Result<mirror::Answer<T>, SourceError>,
        artifact: impl Fn(&T) -> &Artifact,
    ) -> Result<T, SourceError> {
        if (fixed || self.network.is_none())
            && let Some(found) = cached()
        {
            return Ok(found);
        }
        if let Some(cache) = &self.cache {
            looked.push(format!("cache {}", cache.root().display()));
        }
        let Some(network) = &self.network else {
            looked.push("the network was not asked (offline)".into());
            return Err(SourceError::NotFound { what, looked });
        };
        self.report(Progress::Asked { what: &what });
        let result = match ask(network) {
            Ok(mirror::Answer::Found(found)) => Ok(found),
            Ok(mirror::Answer::Lacks(has)) => {
                looked.push(has);
                Err(SourceError::NotFound { what: what.clone(), looked })
            }
            Err(e @ SourceError::Fetch { .. }) if e.is_not_at_hand() => match (fixed, cached()) {
                (false, Some(found)) => {
                    tracing::warn!("{e}; for {what} the answer of the last time is used");
                    Ok(found)
                }
                _ => {
                    looked.push(format!("the network ({e})"));
                    Err(SourceError::NotFound { what: what.clone(), looked })
                }
            },
            Err(e) => Err(e),
        };
        self.report(Progress::Answered { what: &what, result: result.as_ref().map(artifact) });
        result
    }

    fn report(&self, progress: Progress<'_>) {
        if let Some(on) = &self.progress {
            on(progress);
        }
    }
}

fn asked<K: Clone, V: Clone>(memo: &Memo<K, V>) -> Vec<(K, Result<V, SourceError>)> {
    let memo = memo.lock().unwrap_or_else(PoisonError::into_inner);
    memo.iter().filter_map(|(k, cell)| Some((k.clone(), cell.get()?.clone()))).collect()
}

/// Answers a question once, however many threads ask it at the same time.
fn once<K: Eq + Hash + Clone, V: Clone>(
    memo: &Memo<K, V>,
    key: &K,
    ask: impl FnOnce() -> Result<V, SourceError>,
) -> Result<V, SourceError> {
    let cell = Arc::clone(memo.lock().unwrap_or_else(PoisonError::into_inner).entry(key.clone()).or_default());
    cell.get_or_init(ask).clone()
}

/// The digest of a tree, as artifacts have it.
///
/// # Errors
/// When a file cannot be read.
pub fn digest(tree: &dyn druse_kustomize::tree::FileTree) -> Result<String, SourceError> {
    cache::tree_digest(tree)
}
