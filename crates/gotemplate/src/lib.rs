//! Go's `text/template` (go1.26) with the function set Helm v4 exposes (sprig v3 and Helm's own).
//!
//! Text goes through [`parse`](mod@parse) (lexer, parser) once into an immutable, shareable tree; [`exec`] runs it
//! over [`Val`]s, which have Go's semantics (maps by reference and ranged in key order, int against float64, nil
//! against missing). [`funcs`] holds the functions as tables of [`NativeFn`]s. Knows nothing of charts.

pub mod env;
pub mod exec;
pub mod funcs;
pub mod parse;
pub mod printf;
pub mod semver;
mod stack;
pub mod strconv;
pub mod val;

/// Maps that are looked up far more often than they are made.
pub(crate) type Table<K, V> = std::collections::HashMap<K, V, foldhash::fast::RandomState>;

pub use env::{Env, Executor, FuncError, Host, NativeFn};
pub use exec::{FuncMap, Options, TemplateError, TemplateSet};
pub use stack::{STACK_BYTES, claim_stack, with_stack};
pub use val::{GoObject, List, MapRef, Val};
