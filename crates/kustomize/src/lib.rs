//! Native kustomize build: resources, components, generators, transformers, replacements.
//!
//! Follows kustomize 5.8.1 (`kubectl kustomize` of Kubernetes 1.37): the same objects in the same order, and its
//! messages for what is wrong. Not here: plugins that are programs, rendering charts (see [`Helm`]) and fetching (see
//! [`Remote`]).
//!
//! ```
//! use druse_kustomize::{BuildOptions, MemoryTree, build};
//! let tree: MemoryTree = [
//!     ("app/kustomization.yaml", "namePrefix: my-\nresources: [cm.yaml]\n"),
//!     ("app/cm.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n"),
//! ]
//! .into_iter()
//! .collect();
//! let objects = build(&tree, "app", &BuildOptions::default())?;
//! assert_eq!(objects[0].name(), "my-a");
//! # Ok::<(), druse_kustomize::KustomizeError>(())
//! ```

mod build;
mod config;
mod docs;
mod error;
mod fieldspec;
mod generators;
mod helm;
mod ids;
mod kustomization;
mod loader;
mod merge;
mod origin;
mod plugins;
mod repospec;
mod resource;
mod scalar;
mod schema;
mod selector;
pub mod snapshot;
mod sort;
mod transform;
pub mod tree;
mod typed;

pub use build::{BuildOptions, build, build_with, kustomization_file, to_yaml};
pub use docs::DocCache;
pub use error::KustomizeError;
pub use fieldspec::FieldSpec;
pub use helm::{Helm, HelmChart, HelmGlobals, LoadedChart, OldHelmChart};
pub use ids::is_cluster_scoped;
pub use kustomization::{
    COMPONENT, FILE_NAMES, FieldOptions, GeneratorArgs, GeneratorOptions, Image, Kustomization, Label,
    LegacySortOptions, Patch, PatchOptions, ReplacementField, Replica, Selector, SortOptions, Source, Target, Texts,
    Var, VarField, VarTarget,
};
pub use loader::{LoadRestriction, Remote, RemoteContent, is_remote};
pub use repospec::RepoSpec;
pub use schema::{Schema, Schemas};
pub use snapshot::SnapshotTree;
pub use tree::{ContentId, DiskTree, FileTree, Kind, MemoryTree, OverlayTree, TreeError};
