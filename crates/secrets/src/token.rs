//! ServiceAccount tokens as the path sees them: what a token says of itself, and where it comes from.
//!
//! Nobody vouches for what is read here: STS checks signature and time. It is compared with the pod that a mount is
//! for, and shown where something failed. The token itself is in no error and no `Debug`.

use druse_aws::sealed::Json;
use druse_identity::jwt::Unverified;
use druse_object::Value;
use zeroize::Zeroizing;

/// The audience that STS' identity providers take.
pub const AUDIENCE: &str = "sts.amazonaws.com";
/// The only algorithm of tokens that STS takes.
pub const ALGORITHM: &str = "RS256";

/// What a token says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// The algorithm it names.
    pub algorithm: String,
    /// The key it names.
    pub key_id: String,
    /// Who signed it.
    pub issuer: String,
    /// Whom it is for.
    pub audiences: Vec<String>,
    /// `system:serviceaccount:NAMESPACE:NAME`
    pub subject: String,
    /// Since when it is valid, in seconds since 1970.
    pub issued: i64,
    /// Until when, in seconds since 1970; 0 when it does not say.
    pub expires: i64,
    /// The namespace it is bound to.
    pub namespace: String,
    /// The ServiceAccount's name.
    pub account: String,
    /// The ServiceAccount's UID.
    pub account_uid: String,
    /// The pod's name; empty when it is bound to none.
    pub pod: String,
    /// The pod's UID.
    pub pod_uid: String,
}

impl Facts {
    /// Reads a token.
    ///
    /// # Errors
    /// When it is none; the text does not show it.
    pub fn read(token: &str) -> Result<Self, String> {
        let t = Unverified::parse(token).map_err(|e| e.to_string())?;
        let text = |of: &Value, name: &str| of.str_at([name]).unwrap_or_default().to_string();
        let bound = &t.claims["kubernetes.io"];
        let time = |name: &str| t.claims.get(name).and_then(Value::as_i64).unwrap_or_default();
        Ok(Self {
            algorithm: t.algorithm.clone(),
            key_id: t.key_id.clone().unwrap_or_default(),
            issuer: t.issuer().to_string(),
            audiences: t.audiences().into_iter().map(str::to_string).collect(),
            subject: text(&t.claims, "sub"),
            issued: time("iat"),
            expires: time("exp"),
            namespace: text(bound, "namespace"),
            account: text(&bound["serviceaccount"], "name"),
            account_uid: text(&bound["serviceaccount"], "uid"),
            pod: text(&bound["pod"], "name"),
            pod_uid: text(&bound["pod"], "uid"),
        })
    }
}

/// Takes the token for an audience from what the kubelet passes (`csi.storage.k8s.io/serviceAccount.tokens`): a map of
/// audiences to tokens. `None` when there is none for the audience.
///
/// # Errors
/// When the text is no such map; the error does not show it.
pub fn of_volume_context(text: &str, audience: &str) -> Result<Option<Zeroizing<String>>, String> {
    let all = Json::parse(text.as_bytes()).map_err(|e| format!("the tokens that the kubelet passed are {e}"))?;
    if !matches!(all, Json::Map(_)) {
        return Err("the tokens that the kubelet passed are no map of audiences".into());
    }
    let token = all.get(audience).and_then(|t| t.text_at("token")).filter(|t| !t.is_empty());
    Ok(token.map(|t| Zeroizing::new(t.to_string())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kubelets_tokens_are_read_by_audience() {
        let text =
            r#"{"sts.amazonaws.com":{"token":"a.b.c","expirationTimestamp":"2026-01-01T00:00:00Z"},"x":{"token":""}}"#;
        let of = |audience: &str| of_volume_context(text, audience).unwrap().map(|t| t.to_string());
        assert_eq!(of(AUDIENCE).as_deref(), Some("a.b.c"));
        assert_eq!((of("x"), of("y")), (None, None));
        for bad in ["", "[]", "{", "a.b.c"] {
            let e = of_volume_context(bad, AUDIENCE).unwrap_err();
            assert!(!e.contains("a.b.c"), "{e}");
        }
        assert!(Facts::read("geheim").is_err_and(|e| !e.contains("geheim")));
    }
}
