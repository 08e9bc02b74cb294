//! One module a command.

pub mod api;
pub mod check;
pub mod cloud;
pub mod controllers;
pub mod csi;
pub mod diff;
pub mod identity;
pub mod kustomize;
pub mod mirror;
pub mod render;
pub mod secrets;
pub mod secrets_keep;
pub mod secrets_manifests;
pub mod secrets_provider;
pub mod secrets_trace;
pub mod template;
pub mod tree;
pub mod up;
