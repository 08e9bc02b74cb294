//! What goes over the unix sockets: messages, services and clients of the contracts, by hand from their `.proto` files.
//!
//! | module | contract |
//! | --- | --- |
//! | [`csi`] | Container Storage Interface 1.11: Identity and Node |
//! | [`registration`] | the kubelet's `pluginregistration` v1 |
//! | [`provider`] | secrets-store providers, `v1alpha1.CSIDriverProvider`: server and client |
//! | [`server`], [`channel`] | gRPC over a unix socket, both ends |
//!
//! Fields nobody here uses are left out of messages; decoders skip them. Messages that carry values of secrets or
//! tokens zero them when dropped, and their `Debug` does not show them.

pub mod channel;
pub mod csi;
pub mod provider;
pub mod registration;
pub mod server;

pub use tonic::{Code, Status};
