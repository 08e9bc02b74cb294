//! The cluster as an identity provider, and pods as its users.
//!
//! Kubernetes signs a token for every ServiceAccount; AWS' STS exchanges it for credentials when it can read the
//! issuer's public key from two documents at the issuer's URL. This crate makes and reads the keys ([`key`]), writes
//! the documents ([`documents`]) and puts them somewhere ([`publish`]), compares what is published with what a cluster
//! signs with ([`verify`]), replaces a key without a moment in which tokens are refused ([`rotate`]), checks tokens as
//! STS does ([`jwt`]), and adds to pods what AWS' SDKs look for ([`webhook`]).
//!
//! It calls no AWS service: what speaks to S3 implements [`publish::Place`].

pub mod documents;
pub mod file;
pub mod jwt;
pub mod key;
pub mod publish;
pub mod rotate;
pub mod seal;
pub mod verify;
pub mod webhook;

pub use documents::IssuerUrl;
pub use key::{PublicKey, SigningKey};

/// Why an identity operation does not go on. The message names what and what would help; it never holds key material
/// or a token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// A file cannot be read or written.
    #[error("{path}: {cause}")]
    File {
        /// Which.
        path: String,
        /// What the system said.
        cause: String,
    },
    /// The key cannot be used, and why.
    #[error("{0}")]
    Key(String),
    /// The key is of a kind that AWS refuses.
    #[error("{what}: AWS' STS accepts RS256 only, and this key signs {algorithm} (Talos makes such keys by default)")]
    NotRsa {
        /// Which key.
        what: String,
        /// What it would sign.
        algorithm: String,
    },
    /// The issuer's URL breaks a rule.
    #[error("issuer {url:?}: {cause}")]
    Issuer {
        /// The URL.
        url: String,
        /// Which rule.
        cause: String,
    },
    /// The place to publish to failed.
    #[error("{0}")]
    Place(String),
    /// A document is not what it should be.
    #[error("{what}: {cause}")]
    Document {
        /// Which.
        what: String,
        /// What is wrong with it.
        cause: String,
    },
    /// A rotation step cannot be taken now.
    #[error("{0}")]
    Rotation(String),
}

impl IdentityError {
    pub(crate) fn file(path: &std::path::Path, cause: impl std::fmt::Display) -> Self {
        Self::File { path: path.display().to_string(), cause: cause.to_string() }
    }

    /// What would help, where something would.
    #[must_use]
    pub fn help(&self) -> Option<&'static str> {
        match self {
            Self::NotRsa { .. } => Some(
                "make an RSA key with `druse identity keygen`, set it as cluster.serviceAccount.key on every control \
                 plane node, and publish its documents; `druse identity rotate` does it without an interruption",
            ),
            _ => None,
        }
    }
}
