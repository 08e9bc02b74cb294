//! Who asks, and may they: the authenticate and authorize layers around the handlers.

mod layers;
pub mod rbac;
mod token;
mod x509;

use druse_object::{Map, Str, Value};

pub use layers::{Authenticate, Authorize, PeerUser};
pub use rbac::{Attributes, Authorizer, Decision};
pub use token::{Claims, Issuer, IssuerError, TokenError};
pub use x509::{is_request, malformed_certificate, request_subject, subject, validity};

/// Who makes a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    /// `system:serviceaccount:ns:name`, …
    pub name: Str,
    /// The UID, when there is one.
    pub uid: Str,
    /// Groups, `system:authenticated` included.
    pub groups: Vec<Str>,
    /// Further facts (`authentication.kubernetes.io/pod-name`).
    pub extra: Vec<(Str, Vec<Str>)>,
}

impl User {
    /// A user with groups.
    #[must_use]
    pub fn new(name: &str, groups: &[&str]) -> Self {
        Self { name: name.into(), groups: groups.iter().map(|g| Str::from(*g)).collect(), ..Self::default() }
    }

    /// Who may do everything: the administrator's token and in-process callers.
    #[must_use]
    pub fn admin() -> Self {
        Self::new("system:admin", &["system:masters", "system:authenticated"])
    }

    /// A request without credentials.
    #[must_use]
    pub fn anonymous() -> Self {
        Self::new("system:anonymous", &["system:unauthenticated"])
    }

    /// The server's own controllers.
    #[must_use]
    pub fn controller(name: &str) -> Self {
        let account = format!("system:serviceaccount:kube-system:{name}");
        Self::new(&account, &["system:masters", "system:serviceaccounts", "system:authenticated"])
    }

    /// As reviews show it.
    #[must_use]
    pub fn to_value(&self) -> Value {
        let mut m = Map::new();
        m.insert("username", self.name.clone());
        if !self.uid.is_empty() {
            m.insert("uid", self.uid.clone());
        }
        m.insert("groups", self.groups.iter().cloned().collect::<Value>());
        if !self.extra.is_empty() {
            let extra: Map =
                self.extra.iter().map(|(k, v)| (k.clone(), v.iter().cloned().collect::<Value>())).collect();
            m.insert("extra", extra);
        }
        Value::Map(m)
    }
}
