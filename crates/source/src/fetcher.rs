//! Where artifacts come from: the mirrors in their order, then the cache, then the network.

use std::collections::HashMap;
use std::hash::Hash;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use crate::cache::{self, Cache};
use crate::error::SourceError;
use crate::mirror::{self, Mirror};
use crate::request::{Artifact, ChartArtifact, ChartRequest, GitRequest, OciRequest, Origin, TreeArtifact};

/// Where to look.
#[derive(Clone, Debug, Default)]
pub struct FetcherOptions {
    /// Mirrors, in the order in which they are asked.
    pub mirrors: Vec<PathBuf>,
    /// The cache folder; none is used when absent.
    pub cache: Option<PathBuf>,
    /// Whether the network is left alone.
    pub offline: bool,
}

type Memo<K, V> = Mutex<HashMap<K, Arc<OnceLock<Result<V, SourceError>>>>>;

/// Fetches artifacts. The same question is asked once; [`Fetcher::forget`] makes it ask anew. May be used from any
/// number of threads; calls block until there is an answer.
pub struct Fetcher {
    mirrors: Vec<Mirror>,
    cache: Option<Cache>,
    offline: bool,
    charts: Memo<ChartRequest, ChartArtifact>,
    gits: Memo<GitRequest, TreeArtifact>,
    ocis: Memo<OciRequest, TreeArtifact>,
}

impl std::fmt::Debug for Fetcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fetcher").field("mirrors", &self.mirrors).field("offline", &self.offline).finish_non_exhaustive()
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
            charts: Mutex::default(),
            gits: Mutex::default(),
            ocis: Mutex::default(),
        })
    }

    /// Forgets all answers, so that what can change is looked up anew.
    pub fn forget(&self) {
        self.charts.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.gits.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.ocis.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// The chart that a request means.
    ///
    /// # Errors
    /// When nobody has it (the error says who was asked and what they have), or it is broken.
    pub fn chart(&self, request: &ChartRequest) -> Result<ChartArtifact, SourceError> {
        once(&self.charts, request, || {
            let mut looked = Vec::new();
            for m in &self.mirrors {
                match m.chart(&request.name, &request.version)? {
                    mirror::Answer::Found(found) => return Ok(found),
                    mirror::Answer::Lacks(has) => looked.push(has),
                }
            }
            let question = format!("chart {} {} {}", request.repository, request.name, request.version);
            if let Some(cache) = &self.cache {
                if let Some((answer, bytes)) = cache.answer(&question) {
                    return Ok(ChartArtifact {
                        artifact: Artifact { revision: answer.revision, digest: answer.digest, origin: Origin::Cache },
                        bytes: bytes.into(),
                    });
                }
                looked.push(format!("cache {}", cache.root().display()));
            }
            let mut what = format!("chart {}", request.name);
            if !request.version.is_empty() {
                what.push_str(&format!(" {}", request.version));
            }
            what.push_str(&format!(" of {}", request.repository));
            Err(self.not_found(what, looked))
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
            Err(self.not_found(format!("Git repository {} ({})", request.url, request.reference), looked))
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
            Err(self.not_found(format!("OCI artifact {} ({})", request.url, request.reference), looked))
        })
    }

    fn not_found(&self, what: String, mut looked: Vec<String>) -> SourceError {
        looked.push(if self.offline { "the network was not asked (offline)".into() } else { "the network".into() });
        SourceError::NotFound { what, looked }
    }
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
