//! The work of the person who keeps the values: what a tree needs of the Parameter Store and Secrets Manager, what they
//! hold, and setting it.
//!
//! [`items`] is pure: every name that the tree declares or reads, and by whom. [`Keeper`] asks the stores. Values are
//! written and compared, never shown, and no text or error of this module holds one.

mod items;
mod keeper;
mod random;

pub use items::{Item, Reader, items, unreadable};
pub use keeper::{Found, Keeper, PutOptions, Stored, Written};
pub use random::{Alphabet, random};

use crate::class::Kind;

/// Why a value cannot be set or compared.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeepError {
    /// A store refused, or did not answer.
    #[error("{0}")]
    Aws(#[from] druse_aws::AwsError),
    /// The value cannot be stored.
    #[error("{0}")]
    Value(String),
    /// There is no randomness.
    #[error("the system has no randomness to make a value of")]
    Random,
}

/// How an item stands, the tree and the stores compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// The stores were not asked.
    Unknown,
    /// It is not in its store.
    Missing,
    /// It holds what the Terraform set in place of a value.
    Placeholder,
    /// It is there, and the tree reads it, but its Terraform does not declare it.
    Undeclared,
    /// It is stored as another type than declared: a secret as plain `String`.
    Type,
    /// It is there, and is another value than the one it is compared with.
    Differs,
    /// It is there, beside those of the tree, and the tree knows nothing of it.
    Foreign,
    /// It is there.
    Set,
}

impl State {
    /// One word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Missing => "missing",
            Self::Placeholder => "placeholder",
            Self::Undeclared => "undeclared",
            Self::Type => "type",
            Self::Differs => "differs",
            Self::Foreign => "foreign",
            Self::Set => "set",
        }
    }
}

/// How an item stands by its name and type alone. Whether it holds a placeholder or another value is known only after
/// reading it.
#[must_use]
pub fn state(item: &Item, stored: Option<&Stored>, any_declared: bool) -> State {
    match stored {
        None => State::Missing,
        Some(s)
            if item.kind == Kind::Parameter && item.declared_type.as_deref().is_some_and(|t| t != s.stored_type) =>
        {
            State::Type
        }
        Some(_) if item.declared.is_none() && any_declared => State::Undeclared,
        Some(_) => State::Set,
    }
}
