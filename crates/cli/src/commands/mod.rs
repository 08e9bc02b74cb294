//! One module a command.

pub mod api;
pub mod controllers;
pub mod kustomize;
pub mod mirror;
pub mod template;
pub mod render;
pub mod tree;
pub mod up;
