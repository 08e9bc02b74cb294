//! Terraform as declared data: what a tree's configuration says about AWS, without running Terraform.
//!
//! [`declared`] reads every root module of a tree (a folder with `.tf` files that no other module uses) and evaluates
//! what bears on the secrets path: roles, policies and their attachments, OIDC providers, parameters, secrets, keys, buckets.
//! Expressions are evaluated as Terraform does, so far as that needs no provider: variables with defaults and
//! `terraform.tfvars`, locals, `for_each` and `count`, local modules, templates, common functions. What cannot be
//! resolved (a data source, a random name, a remote module, a function not known here) is *unknown*: a hole in a text or
//! a whole value, never an error. Every value keeps the file and line where it is written.
//!
//! Not read: `.tf.json`, override files, provider functions, remote state.

mod aws;
mod eval;
mod functions;
pub mod kms;
mod load;
mod policy;
mod scope;
mod template;
mod value;

pub use aws::{Bucket, Declared, Parameter, Provider, Role, RolePolicy, Secret, declared};
pub use load::{LoadError, roots};
pub use policy::Document;
pub use value::{Kind, Place, Value};

/// What is known about the account besides what the configuration says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// The account's id, where the configuration does not settle it (`allowed_account_ids` does).
    pub account_id: Option<String>,
    /// The region, where no provider names one.
    pub region: Option<String>,
}
