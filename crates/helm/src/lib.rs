//! Helm charts (Helm 4.3): load, dependencies, values, schema, render, hooks, release records.
//!
//! A [`Chart`] is loaded once from a folder or an archive and shared; [`render()`] turns it, with [`Values`], a
//! [`Release`] and [`Capabilities`], into [`Rendered`] manifests, hooks, CRDs and notes. Rendering is a pure function of
//! its arguments when the host is (see [`SeededHost`]). Knows nothing of Flux, and of no network: charts are handed in.
//!
//! Not here: fetching charts, talking to a cluster, running hooks.

pub mod archive;
pub mod capabilities;
pub mod chart;
mod coalesce;
mod dependencies;
pub mod error;
mod files;
pub mod host;
pub mod ignore;
pub mod manifest;
pub mod metadata;
mod node;
pub mod output;
pub mod release;
pub mod render;
mod schema;
mod strvals;
mod templates;
pub mod values;
pub mod version;

pub use capabilities::{ApiVersions, Capabilities, KubeVersion};
pub use chart::{Chart, File};
pub use error::HelmError;
pub use host::SeededHost;
pub use manifest::{Crd, Hook, Manifest};
pub use metadata::Metadata;
pub use release::ReleaseRecord;
pub use render::{Release, RenderOptions, Rendered, render};
pub use values::Values;

pub use druse_gotemplate::{STACK_BYTES, claim_stack, with_stack};
