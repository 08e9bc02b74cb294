//! The server's issuer: RS256 key, ServiceAccount tokens, JWKS and the discovery document.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use druse_identity::jwt::{self, Expect, Refusal, Unverified};
use druse_identity::{SigningKey, documents};
use druse_object::{Map, Str, Value};
use parking_lot::{Condvar, Mutex};

/// Why there is no issuer.
#[derive(Clone, Debug, thiserror::Error)]
pub enum IssuerError {
    /// The key file cannot be read or written.
    #[error("issuer key {path}: {cause}")]
    File {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        cause: String,
    },
    /// The key is unusable.
    #[error("issuer key: {0}")]
    Key(String),
}

/// Why a token is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Not a token of this issuer at all (another authenticator may know it).
    #[error("not a token of this issuer")]
    Foreign,
    /// The signature does not fit.
    #[error("go-jose/go-jose: error in cryptographic primitive")]
    Signature,
    /// It is signed with a key that is none of this issuer's.
    #[error("invalid signature, no keys found")]
    Key,
    /// Its time is over.
    #[error("service account token has expired")]
    Expired,
    /// Its time has not begun.
    #[error("service account token is not valid yet")]
    NotYet,
    /// It is for somebody else.
    #[error("token is for another audience")]
    Audience,
    /// Its claims are incomplete.
    #[error("claims are malformed")]
    Claims,
}

enum Slot {
    Making,
    Ready(Arc<SigningKey>),
    Failed(IssuerError),
}

/// Issues and checks ServiceAccount tokens.
pub struct Issuer {
    url: Str,
    /// What tokens are for when nothing else is asked, and what this API accepts.
    audience: Str,
    slot: Arc<(Mutex<Slot>, Condvar)>,
}

impl std::fmt::Debug for Issuer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Issuer").field("url", &self.url).finish_non_exhaustive()
    }
}

/// What a token says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Claims {
    /// All claims.
    pub all: Value,
}

/// The issuer of tokens that last as long as their Secret.
const LASTING: &str = "kubernetes/serviceaccount";

impl Claims {
    /// What the token in a Secret of type `kubernetes.io/service-account-token` says.
    #[must_use]
    pub fn lasting(namespace: &str, account: &str, uid: &str, secret: &str) -> Value {
        let mut m = Map::new();
        m.insert("iss", LASTING);
        m.insert("kubernetes.io/serviceaccount/namespace", namespace);
        m.insert("kubernetes.io/serviceaccount/secret.name", secret);
        m.insert("kubernetes.io/serviceaccount/service-account.name", account);
        m.insert("kubernetes.io/serviceaccount/service-account.uid", uid);
        m.insert("sub", format!("system:serviceaccount:{namespace}:{account}"));
        Value::Map(m)
    }

    /// The claims of such a token in the form of the others.
    fn from_lasting(claims: &Value) -> Value {
        let text = |k: &str| claims[format!("kubernetes.io/serviceaccount/{k}").as_str()].as_str().unwrap_or_default();
        let mut account = Map::new();
        account.insert("name", text("service-account.name"));
        account.insert("uid", text("service-account.uid"));
        let mut secret = Map::new();
        secret.insert("name", text("secret.name"));
        let mut bound = Map::new();
        bound.insert("namespace", text("namespace"));
        bound.insert("serviceaccount", account);
        bound.insert("secret", secret);
        let mut m = Map::new();
        m.insert("kubernetes.io", bound);
        Value::Map(m)
    }

    /// Whether the token lasts as long as the Secret it is kept in: it counts only while it is there.
    #[must_use]
    pub fn kept_in_secret(&self) -> bool {
        self.all.get("iss").is_none()
    }

    /// The namespace of the ServiceAccount.
    #[must_use]
    pub fn namespace(&self) -> &str {
        self.all.str_at(["kubernetes.io", "namespace"]).unwrap_or_default()
    }
    /// The ServiceAccount's name.
    #[must_use]
    pub fn account(&self) -> &str {
        self.all.str_at(["kubernetes.io", "serviceaccount", "name"]).unwrap_or_default()
    }
    /// The ServiceAccount's UID.
    #[must_use]
    pub fn account_uid(&self) -> &str {
        self.all.str_at(["kubernetes.io", "serviceaccount", "uid"]).unwrap_or_default()
    }
    /// An object the token is bound to: `pod`, `secret` or `node` → name and UID.
    #[must_use]
    pub fn bound(&self, kind: &str) -> Option<(&str, &str)> {
        let o = self.all.at(["kubernetes.io"])?.get(kind)?;
        Some((o.str_at(["name"])?, o.str_at(["uid"]).unwrap_or_default()))
    }
}

impl Issuer {
    /// An issuer whose key is kept in `dir` (made there when missing), or lives only as long as this value.
    ///
    /// The key is made on a thread of its own: making one takes a moment, and nothing needs it until a token does.
    #[must_use]
    pub fn open(dir: Option<&Path>, url: &str) -> Self {
        let slot = Arc::new((Mutex::new(Slot::Making), Condvar::new()));
        let path = dir.map(|d| d.join("issuer.key"));
        let shared = slot.clone();
        let made = std::thread::Builder::new().name("issuer-key".into()).spawn(move || {
            let result = load_or_make(path.as_deref());
            *shared.0.lock() = match result {
                Ok(k) => Slot::Ready(Arc::new(k)),
                Err(e) => Slot::Failed(e),
            };
            shared.1.notify_all();
        });
        if let Err(e) = made {
            *slot.0.lock() = Slot::Failed(IssuerError::Key(e.to_string()));
        }
        Self { url: url.into(), audience: url.into(), slot }
    }

    /// An issuer that signs with this key.
    #[must_use]
    pub fn with(key: SigningKey, url: &str) -> Self {
        let slot = Arc::new((Mutex::new(Slot::Ready(Arc::new(key))), Condvar::new()));
        Self { url: url.into(), audience: url.into(), slot }
    }

    fn keys(&self) -> Result<Arc<SigningKey>, IssuerError> {
        let mut slot = self.slot.0.lock();
        loop {
            match &*slot {
                Slot::Ready(k) => return Ok(k.clone()),
                Slot::Failed(e) => return Err(e.clone()),
                Slot::Making => self.slot.1.wait(&mut slot),
            }
        }
    }

    /// The issuer's URL, the `iss` of its tokens.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The audience of this API.
    #[must_use]
    pub fn audience(&self) -> &str {
        &self.audience
    }

    /// Signs claims. May wait for the key being made.
    ///
    /// # Errors
    /// When there is no usable key.
    pub fn sign(&self, claims: &Value) -> Result<String, IssuerError> {
        jwt::sign(&*self.keys()?, claims).map_err(|e| IssuerError::Key(e.to_string()))
    }

    /// Checks a token's signature, issuer, time and audience; `audiences` empty means this API's.
    ///
    /// # Errors
    /// Why it is not accepted.
    pub fn verify(&self, token: &str, audiences: &[&str], now: i64) -> Result<(Claims, Vec<Str>), TokenError> {
        let Ok(parsed) = Unverified::parse(token) else {
            // What is signed by nothing may still say that it is ours.
            let unsigned = token.rsplit_once('.').map(|(claims, _)| format!("{claims}.AAAA")).unwrap_or_default();
            let ours = Unverified::parse(&unsigned).is_ok_and(|p| p.issuer() == self.url.as_str());
            return Err(if ours { TokenError::Signature } else { TokenError::Foreign });
        };
        let lasting = parsed.issuer() == LASTING;
        if parsed.issuer() != self.url.as_str() && !lasting {
            return Err(TokenError::Foreign);
        }
        let keys = self.keys().map_err(|_| TokenError::Signature)?;
        let keys = std::slice::from_ref(keys.public());
        if lasting {
            parsed.check_signature(keys).map_err(|_| TokenError::Signature)?;
            // They name no audience and are this API's.
            return match audiences.is_empty() || audiences.contains(&self.audience.as_str()) {
                true => Ok((Claims { all: Claims::from_lasting(&parsed.claims) }, vec![self.audience.clone()])),
                false => Err(TokenError::Audience),
            };
        }
        let wanted: &[&str] = if audiences.is_empty() { &[self.audience.as_str()] } else { audiences };
        let expect = Expect { issuer: &self.url, audiences: wanted, now, leeway: 60 };
        parsed.verify(keys, &expect).map_err(|refusal| match refusal {
            Refusal::Expired { .. } => TokenError::Expired,
            Refusal::NotYet { .. } => TokenError::NotYet,
            Refusal::NoKeyId | Refusal::UnknownKey(_) => TokenError::Key,
            Refusal::Audience { .. } => TokenError::Audience,
            Refusal::Malformed(_) => TokenError::Claims,
            _ => TokenError::Signature,
        })?;
        let common: Vec<Str> = parsed.audiences().into_iter().filter(|a| wanted.contains(a)).map(Str::from).collect();
        Ok((Claims { all: parsed.claims }, common))
    }

    /// The key set document.
    ///
    /// # Errors
    /// When there is no usable key.
    pub fn jwks(&self) -> Result<Value, IssuerError> {
        Ok(documents::jwks([self.keys()?.public()]))
    }

    /// The public key as PEM.
    ///
    /// # Errors
    /// When there is no usable key.
    pub fn public_pem(&self) -> Result<String, IssuerError> {
        Ok(self.keys()?.public().pem().to_string())
    }

    /// The OpenID discovery document.
    #[must_use]
    pub fn discovery(&self, jwks_uri: &str) -> Value {
        documents::discovery(&self.url, jwks_uri)
    }
}

fn load_or_make(path: Option<&Path>) -> Result<SigningKey, IssuerError> {
    let file =
        |p: &Path, cause: &dyn std::fmt::Display| IssuerError::File { path: p.to_owned(), cause: cause.to_string() };
    if let Some(p) = path.filter(|p| p.exists()) {
        let text = fs::read_to_string(p).map_err(|e| file(p, &e))?;
        return SigningKey::parse(&text, "the issuer's key").map_err(|e| file(p, &e));
    }
    let wrong = |e: druse_identity::IdentityError| IssuerError::Key(e.to_string());
    let key = SigningKey::generate(2048).map_err(wrong)?;
    if let Some(p) = path {
        let pem = key.to_pkcs8_pem().map_err(wrong)?;
        crate::serve::write_private(p, pem.as_bytes()).map_err(|e| file(p, &e))?;
    }
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use druse_object::json;

    #[test]
    fn a_token_is_accepted_for_its_audience_and_time_only() {
        let issuer = Issuer::open(None, "https://issuer.example");
        let claims = json::parse(br#"{"iss":"https://issuer.example","aud":["a"],"exp":100,"sub":"x"}"#).unwrap();
        let token = issuer.sign(&claims).unwrap();
        assert_eq!(issuer.verify(&token, &["a"], 50).unwrap().1, ["a"]);
        assert_eq!(issuer.verify(&token, &["b"], 50), Err(TokenError::Audience));
        assert_eq!(issuer.verify(&token, &["a"], 100), Err(TokenError::Expired));
        let forged = format!("{}AA", &token[..token.len() - 2]);
        assert_eq!(issuer.verify(&forged, &["a"], 50), Err(TokenError::Signature));
        assert_eq!(issuer.verify("admin", &[], 50), Err(TokenError::Foreign));
    }
}
