//! What can be asked for, and what comes back.

use std::sync::Arc;

use druse_kustomize::tree::FileTree;

use crate::chart_bytes::ChartBytes;

/// Credentials for a server.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct Auth {
    /// User name; empty with a token.
    pub username: String,
    /// Password or token.
    pub password: String,
}

impl std::fmt::Debug for Auth {
    /// Never shows the password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Auth({}, …)", self.username)
    }
}

/// A chart from a Helm repository or registry.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ChartRequest {
    /// The repository's URL; `oci://` for a registry, in which the chart's name is appended.
    pub repository: String,
    /// The chart's name.
    pub name: String,
    /// A version or range; any when empty.
    pub version: String,
    /// Credentials.
    pub auth: Option<Auth>,
    /// Whether credentials go to other hosts that the index names.
    pub pass_credentials: bool,
    /// Whether plain HTTP is allowed (registries).
    pub insecure: bool,
}

/// Which commit of a Git repository; the first that is set decides, in the order of the fields.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct GitReference {
    /// A commit.
    pub commit: Option<String>,
    /// A full reference name.
    pub name: Option<String>,
    /// A range of tags.
    pub semver: Option<String>,
    /// A tag.
    pub tag: Option<String>,
    /// A branch.
    pub branch: Option<String>,
}

impl std::fmt::Display for GitReference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (word, value) = match (&self.commit, &self.name, &self.semver, &self.tag, &self.branch) {
            (Some(v), ..) => ("commit", v.as_str()),
            (_, Some(v), ..) => ("reference", v.as_str()),
            (_, _, Some(v), ..) => ("tags", v.as_str()),
            (_, _, _, Some(v), _) => ("tag", v.as_str()),
            (_, _, _, _, Some(v)) => ("branch", v.as_str()),
            _ => ("branch", "master"),
        };
        write!(f, "{word} {value}")
    }
}

/// The tree of a Git repository.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct GitRequest {
    /// Where the repository is.
    pub url: String,
    /// Which commit.
    pub reference: GitReference,
    /// Credentials.
    pub auth: Option<Auth>,
}

/// Which artifact of an OCI repository; the first that is set decides, in the order of the fields.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct OciReference {
    /// A digest.
    pub digest: Option<String>,
    /// A range of tags.
    pub semver: Option<String>,
    /// A tag.
    pub tag: Option<String>,
}

impl std::fmt::Display for OciReference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (&self.digest, &self.semver, &self.tag) {
            (Some(d), ..) => write!(f, "digest {d}"),
            (_, Some(s), _) => write!(f, "tags {s}"),
            (_, _, Some(t)) => write!(f, "tag {t}"),
            _ => f.write_str("tag latest"),
        }
    }
}

/// An artifact of an OCI repository.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct OciRequest {
    /// Where it is: `oci://host/path`.
    pub url: String,
    /// Which one.
    pub reference: OciReference,
    /// The media type of the layer to take; the first layer when absent.
    pub media_type: Option<String>,
    /// Credentials.
    pub auth: Option<Auth>,
    /// Whether plain HTTP is allowed.
    pub insecure: bool,
}

/// Who had an artifact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A mirror, by its folder.
    Mirror(String),
    /// The cache.
    Cache,
    /// The network, by address.
    Network(String),
    /// The tree that is being planned.
    Tree,
}

/// What is known of an artifact besides its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Artifact {
    /// How Flux writes its revision: a version, `tag@sha256:…`, `branch@sha1:…`.
    pub revision: String,
    /// `sha256:` and hex, of its content.
    pub digest: String,
    /// Who had it.
    pub origin: Origin,
}

/// A chart's archive.
#[derive(Clone, Debug)]
pub struct ChartArtifact {
    /// What is known of it; the revision is the chart's version.
    pub artifact: Artifact,
    /// The `.tgz`.
    pub bytes: ChartBytes,
}

/// A file tree.
#[derive(Clone)]
pub struct TreeArtifact {
    /// What is known of it.
    pub artifact: Artifact,
    /// The files, before ignore rules.
    pub tree: Arc<dyn FileTree>,
}

impl std::fmt::Debug for TreeArtifact {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TreeArtifact").field("artifact", &self.artifact).finish_non_exhaustive()
    }
}
