//! The keyless secrets path.
//!
//! [`class`] reads what a SecretProviderClass asks of AWS; [`proof`] follows every CSI volume of a tree through
//! Kubernetes and Terraform to the parameter it reads, and says where the way breaks: both are given objects and
//! declarations, and read nothing. [`provider`] walks the way for real, for one pod with that pod's own token, and
//! [`trace`] does so step by step; [`token`] and [`cause`] say what a token tells of itself and why AWS refuses,
//! [`jmespath`] takes values apart. [`keep`] is the work of the person who keeps the values: what the tree needs of the
//! stores, what they hold, and setting it. [`manifests`] is what a real cluster needs for all of it.

pub mod cause;
pub mod class;
pub mod jmespath;
pub mod keep;
pub mod manifests;
pub mod proof;
pub mod provider;
pub mod token;
pub mod trace;
mod trust;
