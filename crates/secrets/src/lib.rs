//! The keyless secrets path.
//!
//! [`class`] reads what a SecretProviderClass asks of AWS; [`proof`] follows every CSI volume of a tree through
//! Kubernetes and Terraform to the parameter it reads, and says where the way breaks. Both are pure: they are given
//! objects and declarations, and read nothing.

pub mod class;
pub mod proof;
