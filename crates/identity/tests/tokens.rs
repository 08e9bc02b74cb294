//! Tokens under attack: what STS must refuse is refused, with a reason that does not hold the token.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as B64;
use druse_identity::jwt::{Expect, Refusal, Unverified, sign, verify};
use druse_identity::{PublicKey, SigningKey};
use druse_object::{Value, json};
use proptest::prelude::*;
use std::sync::OnceLock;

const ISSUER: &str = "https://oidc.example";
const NOW: i64 = 1_700_000_000;

fn key() -> &'static SigningKey {
    static KEY: OnceLock<SigningKey> = OnceLock::new();
    KEY.get_or_init(|| SigningKey::parse(include_str!("data/rsa.pem"), "test").unwrap())
}

fn other_key() -> &'static SigningKey {
    static KEY: OnceLock<SigningKey> = OnceLock::new();
    KEY.get_or_init(|| SigningKey::generate(2048).unwrap())
}

fn claims(change: impl FnOnce(&mut Value)) -> Value {
    let text = format!(
        r#"{{"iss":"{ISSUER}","aud":["sts.amazonaws.com"],"sub":"system:serviceaccount:ns:app","exp":{},"nbf":{NOW},"iat":{NOW}}}"#,
        NOW + 600
    );
    let mut claims = json::parse(text.as_bytes()).unwrap();
    change(&mut claims);
    claims
}

fn set(name: &'static str, value: impl Into<Value>) -> impl FnOnce(&mut Value) {
    let value = value.into();
    move |c| drop(c.make_map().unwrap().insert(name, value))
}

const EXPECT: Expect<'_> = Expect { issuer: ISSUER, audiences: &["sts.amazonaws.com"], now: NOW, leeway: 60 };

fn check(token: &str) -> Result<Value, Refusal> {
    let refused = verify(token, std::slice::from_ref(key().public()), &EXPECT);
    if let Err(e) = &refused {
        let signature = token.rsplit('.').next().unwrap_or_default();
        assert!(signature.len() < 20 || !e.to_string().contains(signature), "a reason never holds the token");
    }
    refused
}

/// A token with any header, signed by whatever `signature` makes of the signed text.
fn forged(header: &str, claims: &Value, signature: impl FnOnce(&[u8]) -> Vec<u8>) -> String {
    let text = format!("{}.{}", B64.encode(header), B64.encode(json::to_string(claims)));
    format!("{text}.{}", B64.encode(signature(text.as_bytes())))
}

#[test]
fn a_good_token_is_accepted() {
    let good = claims(|_| {});
    assert_eq!(check(&sign(key(), &good).unwrap()), Ok(good));
    let one_audience = claims(set("aud", "sts.amazonaws.com"));
    assert!(check(&sign(key(), &one_audience).unwrap()).is_ok());
}

#[test]
fn only_rs256_is_accepted() {
    let kid = key().public().id();
    for alg in ["none", "None", "nOnE", "HS256", "ES256", "PS256", "RS384", "RS512", "rs256", ""] {
        let header = format!(r#"{{"alg":"{alg}","kid":"{kid}"}}"#);
        let token = forged(&header, &claims(|_| {}), |text| key().sign(text).unwrap());
        assert_eq!(check(&token), Err(Refusal::Algorithm(alg.into())), "{alg}");
        let bare = forged(&header, &claims(|_| {}), |_| Vec::new());
        assert_eq!(check(&bare), Err(Refusal::Algorithm(alg.into())), "{alg} without signature");
    }
}

#[test]
fn the_public_key_is_no_secret_to_sign_with() {
    let header = format!(r#"{{"alg":"HS256","kid":"{}"}}"#, key().public().id());
    let token = forged(&header, &claims(|_| {}), |text| {
        let secret = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, key().public().pem().as_bytes());
        ring::hmac::sign(&secret, text).as_ref().to_vec()
    });
    assert_eq!(check(&token), Err(Refusal::Algorithm("HS256".into())));
}

#[test]
fn unknown_missing_and_swapped_keys_are_refused() {
    let stranger = sign(other_key(), &claims(|_| {})).unwrap();
    assert_eq!(check(&stranger), Err(Refusal::UnknownKey(other_key().public().id().into())));

    let none = forged(r#"{"alg":"RS256"}"#, &claims(|_| {}), |text| key().sign(text).unwrap());
    assert_eq!(check(&none), Err(Refusal::NoKeyId));

    let header = format!(r#"{{"alg":"RS256","kid":"{}"}}"#, key().public().id());
    let swapped = forged(&header, &claims(|_| {}), |text| other_key().sign(text).unwrap());
    assert_eq!(check(&swapped), Err(Refusal::Signature(key().public().id().into())));
    let both: Vec<PublicKey> = vec![key().public().clone(), other_key().public().clone()];
    assert!(verify(&swapped, &both, &EXPECT).is_err(), "only the key that is named is tried");

    let embedded = format!(
        r#"{{"alg":"RS256","kid":"{}","jwk":{{"kty":"RSA","n":"{}","e":"AQAB"}}}}"#,
        key().public().id(),
        other_key().public().n()
    );
    let token = forged(&embedded, &claims(|_| {}), |text| other_key().sign(text).unwrap());
    assert_eq!(check(&token), Err(Refusal::Signature(key().public().id().into())), "a key in the header is not used");
}

#[test]
fn tampered_claims_are_refused() {
    let token = sign(key(), &claims(|_| {})).unwrap();
    let parts: Vec<&str> = token.split('.').collect();
    let evil = B64.encode(json::to_string(&claims(set("sub", "system:serviceaccount:kube-system:admin"))));
    let token = format!("{}.{evil}.{}", parts[0], parts[2]);
    assert_eq!(check(&token), Err(Refusal::Signature(key().public().id().into())));
}

#[test]
fn wrong_claims_are_told_apart() {
    let refused = |change: Box<dyn FnOnce(&mut Value)>| check(&sign(key(), &claims(change)).unwrap()).unwrap_err();
    assert!(matches!(refused(Box::new(set("iss", "https://oidc.example/"))), Refusal::Issuer { .. }), "byte by byte");
    assert!(matches!(refused(Box::new(set("aud", "vault"))), Refusal::Audience { found } if found == "vault"));
    assert!(matches!(refused(Box::new(set("aud", Value::Null))), Refusal::Audience { .. }));
    assert_eq!(refused(Box::new(set("exp", NOW))), Refusal::Expired { by: 0 });
    assert_eq!(refused(Box::new(set("exp", NOW - 5))), Refusal::Expired { by: 5 });
    assert!(matches!(refused(Box::new(set("exp", "soon"))), Refusal::Malformed(_)));
    assert!(matches!(refused(Box::new(|c| drop(c.make_map().unwrap().remove("exp")))), Refusal::Malformed(_)));
    assert_eq!(refused(Box::new(set("nbf", NOW + 61))), Refusal::NotYet { by: 61 });
    assert_eq!(refused(Box::new(set("iat", NOW + 90))), Refusal::NotYet { by: 90 });
    assert!(check(&sign(key(), &claims(set("nbf", NOW + 60))).unwrap()).is_ok(), "within the leeway");
}

#[test]
fn a_token_of_a_retired_key_is_refused() {
    let token = sign(key(), &claims(|_| {})).unwrap();
    let left = [other_key().public().clone()];
    assert_eq!(verify(&token, &left, &EXPECT), Err(Refusal::UnknownKey(key().public().id().into())));
}

#[test]
fn extensions_that_must_be_understood_are_refused() {
    let header = format!(r#"{{"alg":"RS256","kid":"{}","crit":["exp"]}}"#, key().public().id());
    let token = forged(&header, &claims(|_| {}), |text| key().sign(text).unwrap());
    assert!(matches!(check(&token), Err(Refusal::Malformed(_))));
}

proptest! {
    #[test]
    fn anything_is_refused_without_panicking(token in "\\PC{0,200}") {
        prop_assert!(check(&token).is_err());
    }
    #[test]
    fn any_three_parts_are_refused(a in "[A-Za-z0-9_-]{0,60}", b in "[A-Za-z0-9_-]{0,60}", c in "[A-Za-z0-9_-]{0,60}") {
        let token = [a, b, c].join(".");
        prop_assert!(Unverified::parse(&token).is_err());
    }
    #[test]
    fn a_changed_byte_is_refused(at in 0usize..400, to in "[A-Za-z0-9_.-]") {
        let token = sign(key(), &claims(|_| {})).unwrap();
        let at = at % token.len();
        let mut changed = token.clone();
        changed.replace_range(at..=at, &to);
        // The last character of base64url holds bits that mean nothing; a decoder that is strict refuses those too.
        prop_assert!(changed == token || check(&changed).is_err());
    }
}
