//! One module a command.

pub mod kustomize;
pub mod template;
