//! Artifacts: charts and file trees from Helm repositories, OCI registries and Git, from offline mirrors and the cache.
//!
//! [`Fetcher`] is the way in: it asks the mirrors, then the cache, then the network (when it was given one and is not
//! offline), and when nobody has what was asked for its error says what was looked for and where. Mirrors are read by
//! [`mirror`] and filled by [`mirror_writer`]; the network is in [`net`]. A revision of a local Git repository as a file
//! tree: [`git_tree`]. Knows nothing of Kubernetes.
//!
//! What means one thing for ever (a chart's version, a commit, a digest) comes from the cache without the network; what
//! moves (ranges, branches, tags) is looked up once in a [`Fetcher`]'s life, and when the network is not there, the last
//! answer is used.
//!
//! Not supported, and said so by the error: Git over SSH, buckets. Not done: submodules, Git LFS, signature
//! verification, credential helpers of registries.

mod archive;
mod bases;
pub mod cache;
mod chart_bytes;
mod error;
pub mod fetcher;
pub mod git_tree;
pub mod index;
pub mod mirror;
pub mod mirror_writer;
pub mod net;
pub mod request;

pub use chart_bytes::ChartBytes;
pub use error::SourceError;
pub use fetcher::{Fetcher, FetcherOptions, Progress};
pub use mirror::Mirror;
pub use mirror_writer::{MirrorWriter, Put};
pub use net::NetOptions;
pub use request::{
    Artifact, Auth, ChartArtifact, ChartRequest, GitReference, GitRequest, OciReference, OciRequest, Origin,
    TreeArtifact,
};
