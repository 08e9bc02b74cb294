//! The functions, as tables by theme.

pub mod builtin;
pub mod bytes;

use crate::env::NativeFn;

/// One function: the name templates call it by, and what runs.
pub type Entry = (&'static str, NativeFn);
