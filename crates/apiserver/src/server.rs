//! What all parts of one server share.

use std::sync::Arc;

use druse_object::{Gvk, Value};

use crate::admission::Chain;
use crate::alloc::Allocators;
use crate::auth::{Authorizer, Issuer};
use crate::callout::Callouts;
use crate::registry::{Registry, Resource};
use crate::schema::{SchemaSet, TypeSchema};
use crate::serve::Certificates;
use crate::status::Status;
use crate::store::{Key, Store, StoreError, Stored};

/// The state behind the handlers.
pub struct Shared {
    /// Where objects are.
    pub store: Arc<dyn Store>,
    /// What resources there are.
    pub registry: Registry,
    /// What objects may hold.
    pub schemas: SchemaSet,
    /// Signs and checks tokens.
    pub issuer: Issuer,
    /// Decides by roles.
    pub authorizer: Arc<Authorizer>,
    /// Mutates and refuses writes.
    pub admission: Chain,
    /// Calls webhooks.
    pub callouts: Callouts,
    /// Addresses and ports of Services.
    pub allocators: Allocators,
    /// What quotas have promised.
    pub bookings: crate::quota::Bookings,
    /// The administrator's bearer token.
    pub admin_token: Option<String>,
    /// The certificate authority's certificate, PEM.
    pub ca_pem: String,
    /// Signs client and serving certificates.
    pub certificates: Certificates,
    /// Whether namespaces get a ServiceAccount `default` and the authority's certificate.
    pub furnish: bool,
    /// `host:port` that clients reach this server at.
    pub address: parking_lot::RwLock<String>,
    /// Turns true when the server shuts down: watches end.
    pub closing: tokio::sync::watch::Sender<bool>,
    /// The merged OpenAPI documents.
    pub openapi: crate::openapi::Documents,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

impl Shared {
    /// The stored object of a resource.
    #[must_use]
    pub fn stored(&self, resource: &Resource, namespace: &str, name: &str) -> Option<Arc<Stored>> {
        self.store.get(&Key::new(resource.stored_as.clone(), namespace, name))
    }

    /// The value of a built-in stored object by its type's key.
    #[must_use]
    pub fn object(&self, stored_as: &str, namespace: &str, name: &str) -> Option<Value> {
        self.store.get(&Key::new(stored_as, namespace, name))?.value().ok()
    }

    /// All objects of a stored type, from one moment.
    #[must_use]
    pub fn objects(&self, stored_as: &str, namespace: &str) -> Vec<Value> {
        let page = self.store.list(stored_as, namespace, None, usize::MAX, None);
        page.map(|p| p.items.iter().filter_map(|o| o.value().ok()).collect()).unwrap_or_default()
    }

    /// The type of a kind.
    ///
    /// # Errors
    /// 500 when there is none, which only a CRD removed meanwhile causes.
    pub fn schema(&self, gvk: &Gvk) -> Result<Arc<TypeSchema>, Status> {
        self.schemas.for_gvk(gvk).ok_or_else(|| Status::internal(format!("no type is known for {gvk}")))
    }
}

impl From<StoreError> for Status {
    fn from(e: StoreError) -> Self {
        Status::internal(e)
    }
}

/// This moment as API objects write it.
#[must_use]
pub fn now() -> String {
    timestamp(jiff::Timestamp::now().as_second())
}

/// A moment, in seconds since 1970, as API objects write it.
#[must_use]
pub fn timestamp(seconds: i64) -> String {
    match jiff::Timestamp::from_second(seconds) {
        Ok(t) => t.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        Err(_) => String::new(),
    }
}
