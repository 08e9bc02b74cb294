//! The one error of this crate: kustomize's own message, with the file, the line and a remedy where they are known.

use std::fmt;

/// A build that failed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KustomizeError {
    /// The file at fault, relative to the tree's root, as far as known.
    pub file: Option<String>,
    /// The line in that file, from 1; 0 when not known.
    pub line: u32,
    /// What is wrong, in kustomize's words where kustomize has words for it.
    pub message: String,
    /// What would help, when there is something to say.
    pub remedy: Option<String>,
}

impl fmt::Display for KustomizeError {
    /// The message alone: it is what kustomize prints and what Flux puts in a status.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for KustomizeError {}

impl KustomizeError {
    /// An error with a message only.
    #[must_use]
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), ..Self::default() }
    }

    /// The same error with `prefix: ` before its message.
    #[must_use]
    pub fn wrap(mut self, prefix: impl fmt::Display) -> Self {
        self.message = format!("{prefix}: {}", self.message);
        self
    }

    /// The same error placed in a file, unless it is placed already.
    #[must_use]
    pub fn at(mut self, file: &str, line: u32) -> Self {
        if self.file.is_none() {
            self.file = Some(file.to_string());
            self.line = line;
        }
        self
    }

    /// The same error with a remedy, unless it has one.
    #[must_use]
    pub fn help(mut self, remedy: impl Into<String>) -> Self {
        if self.remedy.is_none() {
            self.remedy = Some(remedy.into());
        }
        self
    }
}

pub(crate) type Result<T> = std::result::Result<T, KustomizeError>;

/// An error from a format string.
macro_rules! fail {
    ($($arg:tt)*) => { $crate::error::KustomizeError::new(format!($($arg)*)) };
}
pub(crate) use fail;

pub(crate) use druse_object::go::quote as go_quote;
