//! The server's issuer: RS256 key, ServiceAccount tokens, JWKS and the discovery document.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as B64;
use druse_object::{Map, Str, Value, json};
use parking_lot::{Condvar, Mutex};
use ring::rand::SystemRandom;
use ring::rsa::KeyPair;
use ring::signature::{RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256, RsaPublicKeyComponents};
use rsa::pkcs8::{DecodePrivateKey as _, EncodePrivateKey as _, EncodePublicKey as _, LineEnding};
use sha2::{Digest as _, Sha256};

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
    #[error("signature mismatch")]
    Signature,
    /// Its time is over, or has not begun.
    #[error("token has expired")]
    Expired,
    /// It is for somebody else.
    #[error("token is for another audience")]
    Audience,
    /// Its claims are incomplete.
    #[error("claims are malformed")]
    Claims,
}

struct Keys {
    signing: KeyPair,
    modulus: Vec<u8>,
    exponent: Vec<u8>,
    id: String,
    /// SubjectPublicKeyInfo, PEM.
    public_pem: String,
}

enum Slot {
    Making,
    Ready(Arc<Keys>),
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

    fn keys(&self) -> Result<Arc<Keys>, IssuerError> {
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
        let keys = self.keys()?;
        let header = format!("{{\"alg\":\"RS256\",\"kid\":\"{}\"}}", keys.id);
        let text = format!("{}.{}", B64.encode(header), B64.encode(json::to_string(claims)));
        let mut signature = vec![0; keys.signing.public().modulus_len()];
        keys.signing
            .sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), text.as_bytes(), &mut signature)
            .map_err(|_| IssuerError::Key("signing failed".into()))?;
        Ok(format!("{text}.{}", B64.encode(signature)))
    }

    /// Checks a token's signature, issuer, time and audience; `audiences` empty means this API's.
    ///
    /// # Errors
    /// Why it is not accepted.
    pub fn verify(&self, token: &str, audiences: &[&str], now: i64) -> Result<(Claims, Vec<Str>), TokenError> {
        let (text, signature) = token.rsplit_once('.').ok_or(TokenError::Foreign)?;
        let (header, body) = text.split_once('.').ok_or(TokenError::Foreign)?;
        let part = |s: &str| -> Option<Value> { json::parse(&B64.decode(s).ok()?).ok() };
        let claims = part(body).ok_or(TokenError::Foreign)?;
        let lasting = claims.str_at(["iss"]) == Some(LASTING);
        if claims.str_at(["iss"]) != Some(self.url.as_str()) && !lasting {
            return Err(TokenError::Foreign);
        }
        let header = part(header).ok_or(TokenError::Foreign)?;
        if header.str_at(["alg"]) != Some("RS256") {
            return Err(TokenError::Signature);
        }
        let keys = self.keys().map_err(|_| TokenError::Signature)?;
        let signature = B64.decode(signature).map_err(|_| TokenError::Signature)?;
        let public = RsaPublicKeyComponents { n: &keys.modulus, e: &keys.exponent };
        public.verify(&RSA_PKCS1_2048_8192_SHA256, text.as_bytes(), &signature).map_err(|_| TokenError::Signature)?;
        if lasting {
            // They name no audience and are this API's.
            return match audiences.is_empty() || audiences.contains(&self.audience.as_str()) {
                true => Ok((Claims { all: Claims::from_lasting(&claims) }, vec![self.audience.clone()])),
                false => Err(TokenError::Audience),
            };
        }
        let time = |k: &str| claims.get(k).and_then(Value::as_i64);
        if time("exp").is_none_or(|e| e <= now) || time("nbf").is_some_and(|n| n > now + 60) {
            return Err(TokenError::Expired);
        }
        let wanted: &[&str] = if audiences.is_empty() { &[self.audience.as_str()] } else { audiences };
        let granted: Vec<Str> = match claims.get("aud") {
            Some(Value::String(s)) => vec![s.clone()],
            Some(v) => v.items().iter().filter_map(Value::as_str).map(Str::from).collect(),
            None => Vec::new(),
        };
        let common: Vec<Str> = granted.into_iter().filter(|a| wanted.contains(&a.as_str())).collect();
        if common.is_empty() {
            return Err(TokenError::Audience);
        }
        Ok((Claims { all: claims }, common))
    }

    /// The key set document.
    ///
    /// # Errors
    /// When there is no usable key.
    pub fn jwks(&self) -> Result<Value, IssuerError> {
        let keys = self.keys()?;
        let mut key = Map::new();
        key.insert("use", "sig");
        key.insert("kty", "RSA");
        key.insert("kid", keys.id.as_str());
        key.insert("alg", "RS256");
        key.insert("n", B64.encode(&keys.modulus));
        key.insert("e", B64.encode(&keys.exponent));
        let mut set = Map::new();
        set.insert("keys", Value::Array(vec![Value::Map(key)]));
        Ok(Value::Map(set))
    }

    /// The public key as PEM.
    ///
    /// # Errors
    /// When there is no usable key.
    pub fn public_pem(&self) -> Result<String, IssuerError> {
        Ok(self.keys()?.public_pem.clone())
    }

    /// The OpenID discovery document.
    #[must_use]
    pub fn discovery(&self, jwks_uri: &str) -> Value {
        let one = |s: &str| Value::Array(vec![Value::from(s)]);
        let mut m = Map::new();
        m.insert("issuer", self.url.clone());
        m.insert("jwks_uri", jwks_uri);
        m.insert("response_types_supported", one("id_token"));
        m.insert("subject_types_supported", one("public"));
        m.insert("id_token_signing_alg_values_supported", one("RS256"));
        Value::Map(m)
    }
}

fn load_or_make(path: Option<&Path>) -> Result<Keys, IssuerError> {
    let wrong = |e: &dyn std::fmt::Display| IssuerError::Key(e.to_string());
    let private = match path {
        Some(p) if p.exists() => {
            let text =
                fs::read_to_string(p).map_err(|e| IssuerError::File { path: p.to_owned(), cause: e.to_string() })?;
            rsa::PrivateKey::from_pkcs8_pem(&text)
                .map_err(|e| IssuerError::File { path: p.to_owned(), cause: e.to_string() })?
        }
        _ => {
            let key = rsa::PrivateKey::new(&mut rand::rng(), 2048).map_err(|e| wrong(&e))?;
            if let Some(p) = path {
                let pem = key.to_pkcs8_pem(LineEnding::LF).map_err(|e| wrong(&e))?;
                crate::serve::write_private(p, pem.as_bytes())
                    .map_err(|e| IssuerError::File { path: p.to_owned(), cause: e.to_string() })?;
            }
            key
        }
    };
    let der = private.to_pkcs8_der().map_err(|e| wrong(&e))?;
    let signing = KeyPair::from_pkcs8(der.as_bytes()).map_err(|e| wrong(&e))?;
    let public = private.to_public_key();
    let spki = public.to_public_key_der().map_err(|e| wrong(&e))?;
    let components = RsaPublicKeyComponents::<Vec<u8>>::from(signing.public());
    Ok(Keys {
        id: B64.encode(Sha256::digest(spki.as_bytes())),
        public_pem: public.to_public_key_pem(LineEnding::LF).map_err(|e| wrong(&e))?,
        modulus: components.n,
        exponent: components.e,
        signing,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

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
