//! Running templates: the functions they may call ([`FuncMap`]), sets of named templates ([`TemplateSet`]) and the
//! executor of Go's `text/template/exec.go`.

mod call;
mod error;
mod func;
mod run;
mod set;

pub use error::TemplateError;
pub use func::{Func, FuncMap};
pub(crate) use run::truth;
pub use set::{Options, TemplateSet};
