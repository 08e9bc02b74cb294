//! Is what is published what the cluster signs with?

use crate::documents::{PublishedKey, read_discovery, read_jwks};
use crate::{IdentityError, IssuerUrl};

/// How serious a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// STS refuses tokens.
    Error,
    /// It works, and something should be looked at.
    Warning,
}

/// One thing that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How serious it is.
    pub severity: Severity,
    /// What is wrong.
    pub message: String,
    /// What would help.
    pub remedy: String,
}

/// What was read at the issuer.
#[derive(Clone, Debug, Default)]
pub struct Published {
    /// The discovery document.
    pub discovery: Vec<u8>,
    /// The key set that it names.
    pub jwks: Vec<u8>,
}

/// Where the issuer says its keys are.
///
/// # Errors
/// When the document is none, or is of another issuer (STS compares byte by byte).
pub fn jwks_uri(issuer: &IssuerUrl, discovery: &[u8]) -> Result<String, IdentityError> {
    let what = issuer.join(crate::documents::DISCOVERY_PATH);
    let (found, uri) = read_discovery(discovery, &what)?;
    if found != issuer.as_str() {
        return Err(IdentityError::Document {
            what,
            cause: format!(
                "it is of the issuer {found}, not {issuer}; STS compares byte by byte, a slash at the end included"
            ),
        });
    }
    if !uri.starts_with("https://") {
        return Err(IdentityError::Document { what, cause: format!("jwks_uri {uri} does not start with https://") });
    }
    Ok(uri)
}

/// Compares the published keys with those a cluster signs with (by id, as its own `/openid/v1/jwks` or its key file
/// give them).
///
/// # Errors
/// When the published text is no key set.
pub fn compare(published: &[u8], signing: &[PublishedKey], what: &str) -> Result<Vec<Finding>, IdentityError> {
    let keys = read_jwks(published, what)?;
    let mut findings = Vec::new();
    let mut error = |message: String, remedy: &str| {
        findings.push(Finding { severity: Severity::Error, message, remedy: remedy.to_string() });
    };
    for k in &keys {
        match &k.key {
            Err(kind) => error(format!("published key {} is {kind}", k.id), "publish RSA keys only"),
            Ok(key) if key.id() != k.id => error(
                format!("published key {} has the content of key {}: ids and keys were mixed up", k.id, key.id()),
                "publish the documents that `druse identity documents` writes",
            ),
            Ok(_) => {}
        }
    }
    for s in signing {
        match &s.key {
            Err(kind) => error(
                format!("the cluster signs with key {}, {kind}", s.id),
                "make an RSA key with `druse identity keygen` and set it as cluster.serviceAccount.key",
            ),
            Ok(_) if keys.iter().all(|k| k.id != s.id) => error(
                format!(
                    "the cluster's key {} is not published; STS answers InvalidIdentityToken to every token of it",
                    s.id
                ),
                "publish it with `druse identity publish`",
            ),
            Ok(_) => {}
        }
    }
    for k in keys.iter().filter(|k| signing.iter().all(|s| s.id != k.id)) {
        findings.push(Finding {
            severity: Severity::Warning,
            message: format!("published key {} is none of the cluster's keys", k.id),
            remedy: "when no rotation is under way and no other cluster uses this issuer, take it out".into(),
        });
    }
    Ok(findings)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::documents::{documents, jwks};
    use crate::{PublicKey, SigningKey};
    use druse_object::json;

    fn key() -> PublicKey {
        SigningKey::parse(include_str!("../tests/data/rsa.pem"), "test").unwrap().public().clone()
    }

    fn published(k: &PublicKey) -> PublishedKey {
        PublishedKey { id: k.id().into(), key: Ok(k.clone()) }
    }

    #[test]
    fn a_key_that_is_not_published_and_one_too_many_are_told_apart() {
        let other = SigningKey::generate(2048).unwrap().public().clone();
        let set = json::to_string(&jwks([&key()]));
        assert_eq!(compare(set.as_bytes(), &[published(&key())], "set").unwrap(), []);
        let findings = compare(set.as_bytes(), &[published(&other)], "set").unwrap();
        assert_eq!(findings.iter().map(|f| f.severity).collect::<Vec<_>>(), [Severity::Error, Severity::Warning]);
        assert!(findings[0].message.contains(other.id()) && findings[1].message.contains(key().id()));
    }

    #[test]
    fn swapped_ids_are_found() {
        let other = SigningKey::generate(2048).unwrap().public().clone();
        let set = json::to_string(&jwks([&key()])).replace(key().id(), other.id());
        let findings = compare(set.as_bytes(), &[published(&other)], "set").unwrap();
        assert!(findings[0].message.contains("mixed up"), "{findings:?}");
    }

    #[test]
    fn a_document_of_another_issuer_is_refused() {
        let issuer = IssuerUrl::parse("https://oidc.example").unwrap();
        let doc = &documents(&issuer, &[key()])[1];
        assert_eq!(jwks_uri(&issuer, doc.text.as_bytes()).unwrap(), "https://oidc.example/openid/v1/jwks");
        let slash = IssuerUrl::parse("https://oidc.example/").unwrap();
        assert!(jwks_uri(&slash, doc.text.as_bytes()).unwrap_err().to_string().contains("byte by byte"));
    }
}
