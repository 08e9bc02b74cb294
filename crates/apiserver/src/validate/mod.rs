//! What built-in kinds mean beyond their schemas: defaults, and the rules an object and a change to it must obey.
//!
//! Defaults are data by type (`data/defaults.json`), applied wherever the type occurs, with a few conditional ones in
//! [`defaults`]. Rules follow upstream's validation functions in order, field paths and words; the kinds people
//! meet most are covered in full, the rest by their metadata, required text fields and enumerations.

mod apiservice;
mod at;
mod certificates;
mod containers;
mod core;
mod csi;
mod defaults;
mod difflib;
mod dra;
mod dump;
mod event;
mod expressions;
mod flow;
pub(crate) mod ip;
mod job;
mod job_status;
mod kinds;
mod limits;
mod meta;
pub(crate) mod names;
mod network;
mod node;
mod pod;
mod pod_update;
mod resources;
mod scheduling;
mod schema_rules;
pub(crate) mod security;
mod service;
mod status;
mod storage;
mod table;
#[cfg(test)]
mod tests;
mod volumes;
mod webhooks;
mod workload;

pub(crate) use at::At;
pub(crate) use core::is_system_priority;
pub use defaults::default_object;
pub(crate) use defaults::pod_range;
pub use kinds::{validate_create, validate_sent, validate_subresource, validate_update};
pub(crate) use meta::{embedded_metadata, label_requirement, selector_operator};
pub use meta::{validate_metadata, validate_metadata_update};
pub use names::{NameRule, is_dns1123_label, is_dns1123_subdomain, is_qualified_name, label_value_errors};
pub(crate) use webhooks::client as webhook_client;
