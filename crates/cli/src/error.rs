//! The one place that turns errors into messages: what happened, where, and what helps.

use std::process::ExitCode;

use crate::globals::Globals;

/// A command that failed.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct CliError {
    /// What happened, to what, where.
    pub message: String,
    /// What would help, when something would.
    pub help: Option<String>,
    /// The process' exit code.
    pub code: u8,
}

impl CliError {
    /// A failure with exit code 1.
    pub fn new(message: impl std::fmt::Display) -> Self {
        Self { message: message.to_string(), help: None, code: 1 }
    }

    /// Adds what would help.
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

/// Writes an error to standard error and returns its exit code.
pub fn report(globals: &Globals, e: &CliError) -> ExitCode {
    let paint = globals.paint_stderr();
    {
        crate::say::say!("{} {}", paint.red("error:"), e.message);
        if let Some(help) = &e.help {
            crate::say::say!("  {} {help}", paint.cyan("help:"));
        }
    }
    ExitCode::from(e.code)
}
