//! The embedded Kubernetes API and its store.
//!
//! A request passes Tower layers in upstream's order: authenticate ([`auth`]), authorize, then the handlers, which
//! admit ([`admission`]) and store ([`store`]). What resources exist is data ([`registry`]); what an object of a kind
//! may hold comes from schemas. The whole is one `tower::Service`, used in process or served over TLS ([`serve`]).
//! Knows nothing of Flux, files outside its data directory, or the terminal.

pub mod field;
pub mod registry;
pub mod status;

pub use field::{FieldError, FieldErrorKind};
pub use status::Status;
