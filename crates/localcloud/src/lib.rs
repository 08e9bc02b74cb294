//! AWS on one machine, as far as the secrets path and its administration need it: STS, the Parameter Store, Secrets
//! Manager, and the public bucket that holds the issuer's documents.
//!
//! Signatures are checked, sessions expire, trust and permission policies are evaluated by the same code that proves
//! them statically, and values are encrypted at rest with a key beside the store. Roles, policies, providers, buckets
//! and the names of parameters come from Terraform; values come from elsewhere. Error codes and texts are AWS'.
//!
//! It is simulated in what it is not: one account, one region, no KMS keys of one's own (a role still needs
//! `kms:Decrypt` where a parameter names a key), no limits on rates, sessions forgotten with the process.

mod answer;
mod auth;
mod cloud;
mod request;
mod s3;
mod secretsmanager;
mod serve;
mod ssm;
mod store;
mod sts;

pub use answer::Response;
pub use cloud::{Cloud, Config, Generated};
pub use request::Request;
pub use serve::serve;

/// Why the local cloud cannot start or keep its state.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CloudError {
    /// A file cannot be read or written.
    #[error("{path}: {cause}")]
    File {
        /// Which.
        path: String,
        /// What is wrong.
        cause: String,
    },
    /// The store cannot be decrypted with the key beside it.
    #[error("{0}: this value was not encrypted with the key beside the store; the key file or the store was replaced")]
    Seal(String),
    /// The values cannot be used.
    #[error("{0}")]
    Values(String),
}

impl From<druse_identity::seal::SealError> for CloudError {
    fn from(e: druse_identity::seal::SealError) -> Self {
        use druse_identity::seal::SealError;
        match e {
            SealError::File { path, cause } => Self::File { path, cause },
            SealError::Random | SealError::Foreign => Self::Values(e.to_string()),
        }
    }
}

impl CloudError {
    pub(crate) fn file(path: &std::path::Path, cause: impl std::fmt::Display) -> Self {
        Self::File { path: path.display().to_string(), cause: cause.to_string() }
    }
}
