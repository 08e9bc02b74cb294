//! The one error type of this crate.

/// Why an artifact could not be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    /// Nobody that was asked has it.
    #[error("{what} was not found; looked in {}", .looked.join("; "))]
    NotFound {
        /// What was looked for: `chart NAME VERSION (URL)`.
        what: String,
        /// Each place, with what it has instead.
        looked: Vec<String>,
    },
    /// This build cannot do it.
    #[error("{what}: {why}")]
    Unsupported {
        /// What was asked for.
        what: String,
        /// Why not, and what helps.
        why: String,
    },
    /// A server could not be reached, or answered with an error.
    #[error("{url}: {message}")]
    Fetch {
        /// The address.
        url: String,
        /// What happened.
        message: String,
        /// The HTTP status, when there was one.
        status: Option<u16>,
        /// Whether trying again may help.
        transient: bool,
    },
    /// What came is not what its digest says.
    #[error("{what} has digest {got}, {wanted} was expected: it was changed or damaged on the way")]
    Digest {
        /// The artifact.
        what: String,
        /// The digest expected.
        wanted: String,
        /// The digest found.
        got: String,
    },
    /// A file that cannot be read as what it should be.
    #[error("{what}: {message}")]
    Broken {
        /// The file or answer.
        what: String,
        /// What is wrong with it.
        message: String,
    },
    /// A local file or folder that cannot be read or written.
    #[error("{path}: {message}")]
    Io {
        /// The path.
        path: String,
        /// What the system says.
        message: String,
    },
    /// A version or range that is none.
    #[error("{0:?} is neither a version nor a range of versions")]
    Version(String),
}

impl SourceError {
    /// Whether the artifact is merely not at hand, so that a stand-in may take its place: nobody has it, or nobody could
    /// be reached.
    #[must_use]
    pub fn is_not_at_hand(&self) -> bool {
        match self {
            Self::NotFound { .. } | Self::Unsupported { .. } => true,
            Self::Fetch { transient, status, .. } => *transient || *status == Some(404),
            _ => false,
        }
    }

    pub(crate) fn io(path: &std::path::Path, e: &std::io::Error) -> Self {
        Self::Io { path: path.display().to_string(), message: e.to_string() }
    }
}
