//! The two documents an OpenID provider publishes, as kube-apiserver serves them.
//!
//! Follows kube-apiserver's `pkg/serviceaccount/openidmetadata.go` (fields and their order, issuer rules) and, where
//! AWS asks for more (no port in the URL, RS256 keys only), IAM's rules for OIDC providers.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use druse_object::{Map, Value, json};

use crate::{IdentityError, PublicKey};

/// Where the discovery document is, below the issuer.
pub const DISCOVERY_PATH: &str = ".well-known/openid-configuration";
/// Where the key set is, below the issuer, unless told otherwise; kube-apiserver's own path.
pub const JWKS_PATH: &str = "openid/v1/jwks";

/// An issuer's URL that kube-apiserver and AWS accept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssuerUrl(String);

impl IssuerUrl {
    /// Checks a URL.
    ///
    /// # Errors
    /// When it is not https, has a query, a fragment, credentials or a port, or is longer than 255 characters.
    pub fn parse(url: &str) -> Result<Self, IdentityError> {
        let wrong = |cause: &str| Err(IdentityError::Issuer { url: url.to_string(), cause: cause.to_string() });
        let Some(rest) = url.strip_prefix("https://") else {
            return wrong("an issuer's URL starts with https://");
        };
        if rest.contains('?') {
            return wrong("an issuer's URL has no query");
        }
        if rest.contains('#') {
            return wrong("an issuer's URL has no fragment");
        }
        let host = rest.split('/').next().unwrap_or_default();
        if host.is_empty() || host.starts_with('.') || rest.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return wrong("there is no host in it");
        }
        if host.contains('@') {
            return wrong("an issuer's URL has no user name");
        }
        if host.contains(':') {
            return wrong("AWS takes no port in an issuer's URL: serve the documents on port 443");
        }
        if url.len() > 255 {
            return wrong("AWS takes no issuer URL longer than 255 characters");
        }
        Ok(Self(url.to_string()))
    }

    /// As written: the `iss` of tokens, which STS compares byte by byte.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Host and path, the name of the IAM provider and of its condition keys.
    #[must_use]
    pub fn host_path(&self) -> &str {
        self.0.trim_start_matches("https://").trim_end_matches('/')
    }

    /// The URL of a document below it.
    #[must_use]
    pub fn join(&self, path: &str) -> String {
        format!("{}/{path}", self.0.trim_end_matches('/'))
    }
}

impl std::fmt::Display for IssuerUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// One document to publish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// Its path below the issuer.
    pub path: String,
    /// Its text.
    pub text: String,
    /// Its media type, as kube-apiserver serves it.
    pub content_type: &'static str,
    /// How long it may be cached: an hour, as kube-apiserver says.
    pub cache_control: &'static str,
}

/// For how many seconds published documents may be cached.
pub const MAX_AGE: i64 = 3600;
const CACHE_CONTROL: &str = "public, max-age=3600";

/// The discovery document as a value.
#[must_use]
pub fn discovery(issuer: &str, jwks_uri: &str) -> Value {
    let one = |s: &str| Value::Array(vec![Value::from(s)]);
    let mut m = Map::new();
    m.insert("issuer", issuer);
    m.insert("jwks_uri", jwks_uri);
    m.insert("response_types_supported", one("id_token"));
    m.insert("subject_types_supported", one("public"));
    m.insert("id_token_signing_alg_values_supported", one("RS256"));
    Value::Map(m)
}

/// The key set as a value, the keys in the order given.
#[must_use]
pub fn jwks<'a>(keys: impl IntoIterator<Item = &'a PublicKey>) -> Value {
    let keys = keys.into_iter().map(|k| {
        let mut m = Map::new();
        m.insert("use", "sig");
        m.insert("kty", "RSA");
        m.insert("kid", k.id());
        m.insert("alg", "RS256");
        m.insert("n", k.n());
        m.insert("e", k.e());
        Value::Map(m)
    });
    let mut set = Map::new();
    set.insert("keys", keys.collect::<Value>());
    Value::Map(set)
}

/// Both documents. A key given twice is written once. The key set comes first, so that whoever writes them in order
/// never points at keys that are not there.
#[must_use]
pub fn documents(issuer: &IssuerUrl, keys: &[PublicKey]) -> Vec<Document> {
    let mut distinct: Vec<&PublicKey> = Vec::new();
    for k in keys {
        if distinct.iter().all(|d| d.id() != k.id()) {
            distinct.push(k);
        }
    }
    let document = |path: &str, value: &Value, content_type| Document {
        path: path.to_string(),
        text: json::to_string(value),
        content_type,
        cache_control: CACHE_CONTROL,
    };
    vec![
        document(JWKS_PATH, &jwks(distinct), "application/jwk-set+json"),
        document(DISCOVERY_PATH, &discovery(issuer.as_str(), &issuer.join(JWKS_PATH)), "application/json"),
    ]
}

/// A key of a published set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublishedKey {
    /// The id the set gives it.
    pub id: String,
    /// The key, unless it is of another kind than RSA.
    pub key: Result<PublicKey, String>,
}

/// Reads a key set.
///
/// # Errors
/// When the text is no key set at all. Keys of other kinds are in the result, with what they are.
pub fn read_jwks(text: &[u8], what: &str) -> Result<Vec<PublishedKey>, IdentityError> {
    let wrong = |cause: String| IdentityError::Document { what: what.to_string(), cause };
    let value = json::parse(text).map_err(|e| wrong(format!("this is no JSON: {e}")))?;
    let Some(Value::Array(keys)) = value.get("keys") else {
        return Err(wrong("a key set has a list `keys`".into()));
    };
    Ok(keys
        .iter()
        .map(|k| {
            let id = k.str_at(["kid"]).unwrap_or_default().to_string();
            let key = match (k.str_at(["kty"]), k.str_at(["n"]), k.str_at(["e"])) {
                (Some("RSA"), Some(n), Some(e)) => {
                    PublicKey::from_components(n, e, &format!("key {id}")).map_err(|e| e.to_string())
                }
                (Some("RSA"), ..) => Err("an RSA key without n or e".into()),
                (Some("EC"), ..) => Err("an elliptic curve key; AWS' STS accepts RS256 only".into()),
                (kty, ..) => Err(format!("a key of kind {:?}", kty.unwrap_or_default())),
            };
            PublishedKey { id, key }
        })
        .collect())
}

/// The issuer and the key set's URL of a discovery document.
///
/// # Errors
/// When the text is no discovery document.
pub fn read_discovery(text: &[u8], what: &str) -> Result<(String, String), IdentityError> {
    let wrong = |cause: String| IdentityError::Document { what: what.to_string(), cause };
    let value = json::parse(text).map_err(|e| wrong(format!("this is no JSON: {e}")))?;
    let field = |name: &str| {
        value.str_at([name]).map(str::to_string).ok_or_else(|| wrong(format!("a discovery document has {name}")))
    };
    Ok((field("issuer")?, field("jwks_uri")?))
}

/// Decodes base64url with or without padding.
pub(crate) fn base64url(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SigningKey;

    fn key() -> PublicKey {
        SigningKey::parse(include_str!("../tests/data/rsa.pem"), "test").unwrap().public().clone()
    }

    #[test]
    fn documents_read_as_kube_apiserver_prints_them() {
        let issuer = IssuerUrl::parse("https://oidc.example/cluster").unwrap();
        let documents = documents(&issuer, &[key(), key()]);
        let (k, n) = (key().id().to_string(), key().n());
        assert_eq!(documents[0].path, "openid/v1/jwks");
        assert_eq!(
            documents[0].text,
            format!(
                "{{\"keys\":[{{\"use\":\"sig\",\"kty\":\"RSA\",\"kid\":\"{k}\",\"alg\":\"RS256\",\"n\":\"{n}\",\"e\":\"AQAB\"}}]}}"
            )
        );
        assert_eq!(
            documents[1].text,
            "{\"issuer\":\"https://oidc.example/cluster\",\"jwks_uri\":\"https://oidc.example/cluster/openid/v1/jwks\",\
             \"response_types_supported\":[\"id_token\"],\"subject_types_supported\":[\"public\"],\
             \"id_token_signing_alg_values_supported\":[\"RS256\"]}"
        );
        assert_eq!(documents[0].content_type, "application/jwk-set+json");
        assert_eq!(documents[1].content_type, "application/json");
        let read = read_jwks(documents[0].text.as_bytes(), "set").unwrap();
        assert_eq!(read, [PublishedKey { id: k, key: Ok(key()) }]);
        assert_eq!(
            read_discovery(documents[1].text.as_bytes(), "doc").unwrap().1,
            "https://oidc.example/cluster/openid/v1/jwks"
        );
    }

    #[test]
    fn an_issuer_breaks_no_rule_of_kubernetes_or_aws() {
        for (url, rule) in [
            ("http://oidc.example", "https"),
            ("oidc.example", "https"),
            ("https://", "host"),
            ("https://oidc.example?x=1", "query"),
            ("https://oidc.example#x", "fragment"),
            ("https://oidc.example:8443", "port"),
            ("https://me@oidc.example", "user"),
            ("https://oidc example", "host"),
        ] {
            let e = IssuerUrl::parse(url).unwrap_err().to_string();
            assert!(e.contains(rule), "{url}: {e}");
        }
        let with_slash = IssuerUrl::parse("https://oidc.example/a/").unwrap();
        assert_eq!(with_slash.as_str(), "https://oidc.example/a/");
        assert_eq!(with_slash.join(DISCOVERY_PATH), "https://oidc.example/a/.well-known/openid-configuration");
        assert_eq!(with_slash.host_path(), "oidc.example/a");
    }
}
