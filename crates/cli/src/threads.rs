//! The threads that asynchronous work runs on.

use tokio::runtime::{Builder, Runtime};

use crate::error::CliError;

/// As many as there are processors: for what serves until it is stopped.
///
/// # Errors
/// When threads cannot be started.
pub fn all() -> Result<Runtime, CliError> {
    build(&mut Builder::new_multi_thread())
}

/// One, for a few calls.
///
/// # Errors
/// When it cannot be started.
pub fn few() -> Result<Runtime, CliError> {
    build(Builder::new_multi_thread().worker_threads(1))
}

fn build(builder: &mut Builder) -> Result<Runtime, CliError> {
    builder.enable_all().build().map_err(|e| CliError::new(format!("cannot start threads: {e}")))
}
