//! Admission: what may change or refuse a write after it has been read and before it is stored.
//!
//! Plugins run in upstream's order: all mutating ones first, then the mutating policies, then the mutating webhooks. A
//! plugin is asynchronous because webhooks are.

mod authorizer;
mod certificates;
mod escalation;
mod limits;
pub(crate) mod matching;
mod mutations;
mod namespace;
mod nodes;
mod pod_security;
mod pods;
mod policies;
mod quotas;
mod storage;
mod webhooks;

pub use pod_security::forbidden;

use druse_object::Value;
use futures::future::BoxFuture;
use parking_lot::Mutex;

use crate::auth::User;
use crate::registry::Resource;
use crate::request::RequestInfo;
use crate::server::Shared;
use crate::status::Status;

/// What is being done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// A new object.
    Create,
    /// A changed object.
    Update,
    /// A deletion.
    Delete,
    /// A connection (exec, proxy).
    Connect,
}

/// A write under review.
#[derive(Debug)]
pub struct Review<'a> {
    /// What is being done.
    pub operation: Operation,
    /// To which resource.
    pub resource: &'a Resource,
    /// In which version.
    pub version: &'a str,
    /// On which subresource; empty for none.
    pub subresource: &'a str,
    /// In which namespace; empty when cluster-scoped.
    pub namespace: &'a str,
    /// Its name.
    pub name: &'a str,
    /// The new state, in the version asked for; `None` for deletions.
    pub object: Option<&'a mut Value>,
    /// The state before; `None` for creations.
    pub old: Option<&'a Value>,
    /// Whether `object` has the subresource's form (an `Eviction`), not the resource's.
    pub object_is_subresource: bool,
    /// Who asks.
    pub user: &'a User,
    /// Whether nothing will be kept.
    pub dry_run: bool,
    /// The request's options.
    pub info: &'a RequestInfo,
    /// What the client shall be told beside the verdict.
    pub warnings: &'a Mutex<Vec<String>>,
}

impl Review<'_> {
    /// Whether this creates an object of a built-in type (its main resource).
    #[must_use]
    pub fn creates(&self, stored_as: &str) -> bool {
        self.operation == Operation::Create && self.subresource.is_empty() && self.resource.stored_as == stored_as
    }
}

/// One admission plugin.
pub trait Plugin: Send + Sync {
    /// Its upstream name.
    fn name(&self) -> &'static str;
    /// Changes the object, or refuses.
    fn mutate<'a>(&'a self, _shared: &'a Shared, _review: &'a mut Review<'_>) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(futures::future::ready(Ok(())))
    }
    /// Refuses, or not.
    fn validate<'a>(&'a self, _shared: &'a Shared, _review: &'a mut Review<'_>) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(futures::future::ready(Ok(())))
    }
}

/// The plugins in order.
#[derive(Default)]
pub struct Chain {
    plugins: Vec<Box<dyn Plugin>>,
    mutations: mutations::Mutations,
    webhooks: webhooks::Mutating,
}

impl Chain {
    /// The built-in plugins.
    #[must_use]
    pub fn builtin() -> Self {
        Self {
            plugins: vec![
                Box::new(namespace::Lifecycle),
                Box::new(limits::LimitRanger),
                Box::new(pods::ServiceAccount),
                Box::new(nodes::TaintNodesByCondition),
                Box::new(pod_security::PodSecurity),
                Box::new(pods::Priority),
                Box::new(pods::DefaultTolerationSeconds),
                Box::new(storage::DefaultClasses),
                Box::new(storage::InUseProtection),
                Box::new(storage::ClaimResize),
                Box::new(pods::RuntimeClass),
                Box::new(certificates::Certificates),
                Box::new(nodes::PodTopologyLabels),
                Box::new(escalation::Escalation),
                Box::new(policies::Policies::default()),
                Box::new(webhooks::Validating::default()),
                Box::new(quotas::ResourceQuota),
            ],
            mutations: mutations::Mutations::default(),
            webhooks: webhooks::Mutating::default(),
        }
    }

    /// Adds a plugin after the others.
    pub fn push(&mut self, plugin: Box<dyn Plugin>) {
        self.plugins.push(plugin);
    }

    /// Lets every plugin change the object, then the webhooks; when one of those did, everybody looks once more.
    ///
    /// # Errors
    /// The first refusal.
    pub async fn mutate(&self, shared: &Shared, review: &mut Review<'_>) -> Result<(), Status> {
        let mut rounds = webhooks::Rounds::default();
        for second in [false, true] {
            for p in &self.plugins {
                p.mutate(shared, review).await?;
            }
            self.mutations.round(shared, review, second)?;
            if !self.webhooks.round(shared, review, &mut rounds, second).await? {
                break;
            }
        }
        Ok(())
    }

    /// Asks every plugin.
    ///
    /// # Errors
    /// The first refusal.
    pub async fn validate(&self, shared: &Shared, review: &mut Review<'_>) -> Result<(), Status> {
        for p in &self.plugins {
            p.validate(shared, review).await?;
        }
        Ok(())
    }
}
