//! One module a command.

pub mod api;
pub mod check;
pub mod controllers;
pub mod diff;
pub mod kustomize;
pub mod mirror;
pub mod render;
pub mod template;
pub mod tree;
pub mod up;
