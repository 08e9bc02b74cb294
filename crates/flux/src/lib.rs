//! What Flux means by its objects: the API types and every rule that decides what a unit renders to.
//!
//! - [`api`]: typed, tolerant views of Flux' custom resources.
//! - [`generator`]: the `kustomization.yaml` a Flux Kustomization really builds (made when absent, merged with the spec).
//! - [`sourceignore`]: which files of a source become part of its artifact.
//! - [`decrypt`]: SOPS documents, opened with the keys at hand or masked.
//! - [`envsubst`] and [`substitute`]: `postBuild` variables.
//! - [`release`]: names, values and post-rendering of a HelmRelease.
//! - [`labels`] and [`inventory`]: what is written on applied objects, and how a unit remembers them.
//! - [`graph`]: `dependsOn`, with cycles found.
//! - [`kstatus`]: whether any object has become what it was declared to be.
//!
//! The plan and the controllers both call this code, so what was rehearsed is what runs. Knows nothing of the network
//! and of any API client: ConfigMaps and Secrets come through [`config::ConfigSource`].

pub mod api;
pub mod config;
pub mod decrypt;
pub mod duration;
pub mod envsubst;
mod error;
pub mod generator;
pub mod glob;
pub mod graph;
pub mod inventory;
pub mod kstatus;
pub mod labels;
pub mod release;
pub mod sourceignore;
pub mod substitute;

pub use error::FluxError;
