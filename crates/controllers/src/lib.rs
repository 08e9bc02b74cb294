//! Flux-compatible controllers against any Kubernetes API.
//!
//! They call the same render code as the command line: what was rehearsed is what runs. Knows nothing of which API it
//! talks to.

pub mod conditions;
pub mod events;
pub mod inventory;
pub mod ssa;
