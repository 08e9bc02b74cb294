//! The embedded Kubernetes API and its store.
//!
//! A request passes Tower layers in upstream's order: authenticate and authorize ([`auth`]), then the handlers, which
//! admit ([`admission`]) and store ([`store`]). What resources exist is data ([`registry`]); what an object of a kind
//! may hold comes from schemas ([`schema`], [`validate`], [`crd`]); field ownership is [`apply`]'s. The whole is one
//! `tower::Service` ([`ApiServer::service`]), used in process or served over TLS ([`serve`]).
//! Knows nothing of Flux, files outside its data directory, or the terminal.

pub mod admission;
mod alloc;
mod api;
pub mod apply;
pub mod auth;
mod autoscalers;
mod body;
mod bootstrap;
mod callout;
pub mod cel;
mod controllers;
mod convert;
pub mod crd;
pub mod field;
mod handlers;
mod json_error;
mod managed;
mod meta;
mod negotiate;
mod openapi;
mod prepare;
mod protobuf;
mod quota;
pub mod registry;
mod request;
mod response;
pub mod schema;
mod selector;
pub mod serve;
pub mod server;
pub mod status;
pub mod store;
mod strategy;
mod table;
mod trust;
pub mod validate;
mod warnings;

pub use api::{ApiServer, ApiService, Builder, Error};
pub use body::Body;
pub use field::{FieldError, FieldErrorKind};
pub use request::RequestInfo;
pub use selector::LabelSelector;
pub use status::Status;
