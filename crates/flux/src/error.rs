//! The one error type of this crate.

use crate::envsubst::EnvsubstError;

/// Why a Flux object cannot be read or worked out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FluxError {
    /// The object does not have the shape of its kind.
    #[error("{kind} {namespace}/{name}: {message}")]
    Shape {
        /// The object's kind.
        kind: String,
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
        /// What does not fit.
        message: String,
    },
    /// An API version this build does not know.
    #[error("{kind} has no version {version:?} that is understood here (known: {known})")]
    Version {
        /// The object's kind.
        kind: String,
        /// What it says.
        version: String,
        /// What is known.
        known: String,
    },
    /// A chart makes the same object twice.
    #[error("error while running post render on files: may not add resource with an already registered id: {0}")]
    RenderedTwice(String),
    /// A variable's name is not one.
    #[error("'{0}' var name is invalid, must match '^[_[:alpha:]][_[:alpha:][:digit:]]*$'")]
    VarName(String),
    /// A substitution expression is malformed or, in strict mode, names a variable that is not set.
    #[error("post build failed for '{object}': envsubst error: variable substitution failed: {source}")]
    Substitution {
        /// The object, as `Kind.version.group/name`.
        object: String,
        /// What is wrong.
        source: EnvsubstError,
    },
    /// The substituted text is no longer YAML.
    #[error("post build failed for '{object}': the text is not YAML after substitution: {message}")]
    SubstitutedYaml {
        /// The object, as `Kind.version.group/name`.
        object: String,
        /// What is wrong, with line and column in the substituted text.
        message: String,
    },
    /// A ConfigMap or Secret that must exist does not.
    #[error("{field} names {kind} {namespace}/{name}, which does not exist")]
    ConfigNotFound {
        /// The field with the reference: `substituteFrom` or `valuesFrom`.
        field: &'static str,
        /// `ConfigMap` or `Secret`.
        kind: String,
        /// Where it was looked for.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// A ConfigMap or Secret lacks a key.
    #[error("valuesFrom names key '{key}' of {kind} {namespace}/{name}, which has no such key")]
    KeyNotFound {
        /// `ConfigMap` or `Secret`.
        kind: String,
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
        /// The key.
        key: String,
    },
    /// A reference to something that is neither ConfigMap nor Secret.
    #[error("{field} names a {kind}; only ConfigMap and Secret can be read")]
    ReferenceKind {
        /// The field with the reference.
        field: &'static str,
        /// What it names.
        kind: String,
    },
    /// Values that cannot be read or put in their place.
    #[error("values from key '{key}' of {kind} {namespace}/{name}: {message}")]
    Values {
        /// `ConfigMap` or `Secret`.
        kind: String,
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
        /// The key.
        key: String,
        /// What is wrong.
        message: String,
    },
    /// The folder a Kustomization names is not in its source.
    #[error("kustomization path not found: stat {0}: no such file or directory")]
    PathNotFound(String),
    /// The kustomization of a Flux Kustomization cannot be made.
    #[error("{0}")]
    Generator(String),
    /// A manifest of a folder without kustomization is not YAML.
    #[error("failed to decode Kubernetes YAML from {file}: {message}")]
    Decode {
        /// The file, in the source.
        file: String,
        /// The line, from 1; 0 when not known.
        line: u32,
        /// What is wrong.
        message: String,
    },
    /// A folder's own kustomization is not YAML.
    #[error("{message}")]
    Kustomization {
        /// The file, in the source.
        file: String,
        /// The line, from 1; 0 when not known.
        line: u32,
        /// What is wrong.
        message: String,
    },
    /// Something encrypted does not open.
    #[error("failed to decrypt {what}: {source}")]
    Decryption {
        /// The object, entry or file.
        what: String,
        /// Why not.
        source: druse_sops::SopsError,
    },
    /// A kustomize build failed.
    #[error("kustomize build failed: {0}")]
    Build(Box<druse_kustomize::KustomizeError>),
    /// A kustomize build made something that is no Kubernetes object.
    #[error("failed to decode Kubernetes apiVersion, kind and name from: {0}")]
    NotAnObject(String),
    /// A chart cannot be rendered.
    #[error("{0}")]
    Helm(#[from] druse_helm::HelmError),
    /// Objects wait for each other in a circle.
    #[error("dependsOn goes round in a circle: {}", .0.join(" -> "))]
    Cycle(Vec<String>),
}
