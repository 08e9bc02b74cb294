//! Why a chart could not be loaded or rendered.

/// What went wrong, in the words Helm uses where Helm has words for it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HelmError {
    /// A chart that cannot be read: a broken archive, a missing `Chart.yaml`, metadata that does not hold.
    #[error("{0}")]
    Load(String),
    /// A file or folder that could not be read.
    #[error("cannot read {path}: {message}")]
    Io {
        /// The path as it was given.
        path: String,
        /// What the operating system said.
        message: String,
    },
    /// Values that cannot be read or merged.
    #[error("{0}")]
    Values(String),
    /// Dependencies that are missing or cannot be processed.
    #[error("{0}")]
    Dependencies(String),
    /// Values that a chart's `values.schema.json` refuses, or a schema that cannot be used.
    #[error("values don't meet the specifications of the schema(s) in the following chart(s):\n{0}")]
    Schema(String),
    /// The chart asks for another Kubernetes version.
    #[error("chart requires kubeVersion: {wanted} which is incompatible with Kubernetes {have}")]
    KubeVersion {
        /// The constraint in `Chart.yaml`.
        wanted: String,
        /// The version that was to be rendered for.
        have: String,
    },
    /// A template that does not parse or fails.
    #[error("{0}")]
    Template(String),
    /// A rendered document that is not YAML; `rendered` holds all output for debugging.
    #[error("YAML parse error on {path}: {message}")]
    Yaml {
        /// The template's path.
        path: String,
        /// What is wrong with it.
        message: String,
        /// All rendered files, as Helm's `--debug` prints them.
        rendered: String,
    },
    /// A release record that cannot be read or written.
    #[error("{0}")]
    Record(String),
    /// A name that Helm does not accept.
    #[error("{0}")]
    Name(String),
}
