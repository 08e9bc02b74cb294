//! Output whose reader may have gone: `druse render | head -1` ends quietly, and nothing panics.

use std::io::Write as _;

use crate::error::CliError;

/// Writes a line to standard error; nobody may be reading any more.
macro_rules! say {
    ($($arg:tt)*) => {{
        use ::std::io::Write as _;
        let _nobody_listens = ::std::writeln!(::std::io::stderr(), $($arg)*);
    }};
}
pub(crate) use say;

/// Writes a command's result to standard output. A reader that has seen enough is no error.
///
/// # Errors
/// When the output cannot be written for another reason, such as a full disk.
pub fn print(text: &str) -> Result<(), CliError> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(CliError::new(format!("cannot write to standard output: {e}")))
        }
        _ => Ok(()),
    }
}
