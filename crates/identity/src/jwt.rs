//! Tokens: signed, and checked as strictly as STS does.
//!
//! Only RS256 is accepted: `none`, HS256 (with whatever secret, the public key's text included) and ES256 are refused by
//! name before anything else is looked at. Reasons name what was wrong, never the token.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use druse_object::{Value, json};

use crate::documents::base64url;
use crate::{IdentityError, PublicKey, SigningKey};

/// The largest token looked at.
const MAX_TOKEN: usize = 16 * 1024;

/// Why a token is not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It is no token.
    #[error("the token is malformed: {0}")]
    Malformed(&'static str),
    /// It is signed with something else than RS256.
    #[error("the token is signed with {0}; only RS256 is accepted")]
    Algorithm(String),
    /// It names no key.
    #[error("the token names no key (kid)")]
    NoKeyId,
    /// It names a key that is not published.
    #[error("the token's key {0} is not among the issuer's published keys")]
    UnknownKey(String),
    /// The signature does not fit the key that it names.
    #[error("the token's signature does not fit key {0}")]
    Signature(String),
    /// It is of another issuer.
    #[error("the token's issuer is {found}, not {wanted}")]
    Issuer {
        /// The token's.
        found: String,
        /// Which was wanted.
        wanted: String,
    },
    /// It is for somebody else.
    #[error("the token's audience is {found}, and none of it is accepted here")]
    Audience {
        /// The token's.
        found: String,
    },
    /// It has no time, or its time is over.
    #[error("the token has expired {by} seconds ago")]
    Expired {
        /// Since how many seconds.
        by: i64,
    },
    /// Its time has not begun: one of the two clocks is wrong.
    #[error("the token becomes valid in {by} seconds; compare the clocks of the signer and of this machine")]
    NotYet {
        /// In how many seconds.
        by: i64,
    },
}

/// What is wanted of a token.
#[derive(Clone, Copy, Debug)]
pub struct Expect<'a> {
    /// Its issuer, byte by byte.
    pub issuer: &'a str,
    /// One of these audiences.
    pub audiences: &'a [&'a str],
    /// The time, in seconds since 1970.
    pub now: i64,
    /// How many seconds a clock may be ahead.
    pub leeway: i64,
}

/// A token taken apart, not yet checked.
#[derive(Clone, Debug)]
pub struct Unverified<'a> {
    /// The signing algorithm it names.
    pub algorithm: String,
    /// The key it names.
    pub key_id: Option<String>,
    /// Its claims. Nobody vouches for them.
    pub claims: Value,
    signed: &'a str,
    signature: Vec<u8>,
}

impl<'a> Unverified<'a> {
    /// Takes a token apart.
    ///
    /// # Errors
    /// When it is none.
    pub fn parse(token: &'a str) -> Result<Self, Refusal> {
        if token.len() > MAX_TOKEN {
            return Err(Refusal::Malformed("it is too large"));
        }
        let mut parts = token.split('.');
        let (Some(header), Some(body), Some(signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(Refusal::Malformed("it does not have three parts"));
        };
        let object = |text: &str, what| {
            let value = base64url(text).and_then(|b| json::parse(&b).ok()).ok_or(Refusal::Malformed(what))?;
            if value.as_map().is_none() { Err(Refusal::Malformed(what)) } else { Ok(value) }
        };
        let header = object(header, "its header is no JSON object")?;
        let claims = object(body, "its claims are no JSON object")?;
        let Some(algorithm) = header.str_at(["alg"]).map(shown) else {
            return Err(Refusal::Malformed("its header names no algorithm"));
        };
        if header.get("crit").is_some() {
            return Err(Refusal::Malformed("its header has critical extensions"));
        }
        let signed = &token[..token.len() - signature.len() - 1];
        let signature = base64url(signature).ok_or(Refusal::Malformed("its signature is no base64url"))?;
        let key_id = header.str_at(["kid"]).map(shown).filter(|k| !k.is_empty());
        Ok(Self { algorithm, key_id, claims, signed, signature })
    }

    /// The token's issuer as it claims.
    #[must_use]
    pub fn issuer(&self) -> &str {
        self.claims.str_at(["iss"]).unwrap_or_default()
    }

    /// The audiences it names.
    #[must_use]
    pub fn audiences(&self) -> Vec<&str> {
        match self.claims.get("aud") {
            Some(Value::String(s)) => vec![s.as_str()],
            Some(v) => v.items().iter().filter_map(Value::as_str).collect(),
            None => Vec::new(),
        }
    }

    /// Checks algorithm, key and signature alone: nothing of what the token claims.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn check_signature(&self, keys: &[PublicKey]) -> Result<(), Refusal> {
        if self.algorithm != "RS256" {
            return Err(Refusal::Algorithm(self.algorithm.clone()));
        }
        let id = self.key_id.as_deref().ok_or(Refusal::NoKeyId)?;
        let key = keys.iter().find(|k| k.id() == id).ok_or_else(|| Refusal::UnknownKey(id.to_string()))?;
        if !key.verifies(self.signed.as_bytes(), &self.signature) {
            return Err(Refusal::Signature(id.to_string()));
        }
        Ok(())
    }

    /// Checks algorithm, key, signature, issuer, time and audience, in this order; returns the claims.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn verify(&self, keys: &[PublicKey], expect: &Expect<'_>) -> Result<&Value, Refusal> {
        self.check_signature(keys)?;
        if self.issuer() != expect.issuer {
            return Err(Refusal::Issuer { found: shown(self.issuer()), wanted: expect.issuer.to_string() });
        }
        let time = |name: &str| match self.claims.get(name) {
            None => Ok(None),
            Some(v) => match v.as_i64().or_else(|| v.as_f64().map(whole_seconds)) {
                Some(t) => Ok(Some(t)),
                None => Err(Refusal::Malformed("a time in its claims is no number")),
            },
        };
        let Some(expires) = time("exp")? else { return Err(Refusal::Malformed("it never expires")) };
        if expires <= expect.now {
            return Err(Refusal::Expired { by: expect.now.saturating_sub(expires) });
        }
        for begins in [time("nbf")?, time("iat")?].into_iter().flatten() {
            if begins > expect.now.saturating_add(expect.leeway) {
                return Err(Refusal::NotYet { by: begins.saturating_sub(expect.now) });
            }
        }
        let audiences = self.audiences();
        if !audiences.iter().any(|a| expect.audiences.contains(a)) {
            return Err(Refusal::Audience { found: shown(&audiences.join(", ")) });
        }
        Ok(&self.claims)
    }
}

/// Checks a token; returns its claims.
///
/// # Errors
/// Why it is refused, without the token.
pub fn verify(token: &str, keys: &[PublicKey], expect: &Expect<'_>) -> Result<Value, Refusal> {
    let token = Unverified::parse(token)?;
    token.verify(keys, expect)?;
    Ok(token.claims)
}

/// Signs claims with RS256, the header as kube-apiserver writes it.
///
/// # Errors
/// When the key does not sign.
pub fn sign(key: &SigningKey, claims: &Value) -> Result<String, IdentityError> {
    let header = format!("{{\"alg\":\"RS256\",\"kid\":\"{}\"}}", key.public().id());
    let text =
        format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(json::to_string(claims).as_bytes()));
    let signature = key.sign(text.as_bytes())?;
    Ok(format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature)))
}

#[expect(clippy::cast_possible_truncation, reason = "saturates, as a time out of range should")]
fn whole_seconds(t: f64) -> i64 {
    t as i64
}

/// What a stranger wrote, short enough and clean enough for a log.
fn shown(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).take(256).collect()
}
