//! The one error type of this crate. No message ever contains a value, encrypted or not.

use crate::metadata::Recipients;

/// Why a document cannot be decrypted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SopsError {
    /// There is no `sops` metadata.
    #[error("sops metadata not found")]
    NotEncrypted,
    /// The metadata does not have its shape.
    #[error("sops metadata: {0}")]
    Metadata(String),
    /// None of the keys at hand opens the document.
    #[error("no key at hand opens it: it is encrypted for {recipients}")]
    NoKey {
        /// Whom it is encrypted for.
        recipients: Recipients,
    },
    /// The data key is encrypted for one of the keys, but what is written there is damaged.
    #[error("the data key for {recipient} is damaged: {message}")]
    DataKey {
        /// The age recipient.
        recipient: String,
        /// What is wrong.
        message: String,
    },
    /// One value cannot be decrypted: it was changed, or moved from where it was encrypted.
    #[error("could not decrypt the value at {path}: {message}")]
    Value {
        /// Its keys, joined by dots; list indexes are not part of it.
        path: String,
        /// What is wrong.
        message: String,
    },
    /// The file is not of its format.
    #[error("{format}: {message}")]
    Format {
        /// `YAML`, `JSON`, `dotenv`, `binary`, `INI`.
        format: &'static str,
        /// What is wrong.
        message: String,
    },
    /// A key file cannot be read.
    #[error("line {line}: {message}")]
    Identity {
        /// The line, from 1.
        line: usize,
        /// What is wrong with it.
        message: String,
    },
}

impl SopsError {
    /// Whether all that is missing is a key.
    #[must_use]
    pub fn is_no_key(&self) -> bool {
        matches!(self, Self::NoKey { .. })
    }
}
