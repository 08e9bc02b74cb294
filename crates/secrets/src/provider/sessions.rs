//! Credentials and tokens that are kept: each for exactly one token or pod, never across.

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;

use druse_aws::{AwsError, Credentials};
use parking_lot::Mutex;
use zeroize::Zeroizing;

/// Whose credentials: of one ServiceAccount, one role, one region's STS, got with one token. Whoever shows another
/// token asks STS again, so that a forged or foreign one never meets what a true one has got.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) account_uid: String,
    pub(super) role: String,
    pub(super) region: String,
    /// The token's SHA-256.
    pub(super) token: [u8; 32],
}

/// One place a key, locked while STS is asked: many mounts of one pod ask once.
type Place = Arc<tokio::sync::Mutex<Option<Credentials>>>;

/// Credentials by key.
#[derive(Default)]
pub(super) struct Sessions(Mutex<HashMap<Key, (Place, i64)>>);

/// Credentials with less time than this are renewed, in seconds.
const MARGIN: i64 = 300;
/// With less than this they are not used even where STS does not answer.
const LEAST: i64 = 30;

impl Sessions {
    /// Kept credentials, else those that `assume` gets. `until` is when the token is over: no entry outlives it.
    pub(super) async fn get(
        &self,
        key: Key,
        now: i64,
        until: i64,
        assume: impl Future<Output = Result<Credentials, AwsError>>,
    ) -> Result<Credentials, AwsError> {
        let place = {
            let mut all = self.0.lock();
            if !all.contains_key(&key) {
                all.retain(|_, (_, until)| *until > now);
            }
            all.entry(key).or_insert_with(|| (Place::default(), until)).0.clone()
        };
        let mut kept = place.lock().await;
        let left = |c: &Credentials| c.expires.unwrap_or(i64::MAX).saturating_sub(now);
        if let Some(c) = kept.as_ref().filter(|c| left(c) > MARGIN) {
            return Ok(c.clone());
        }
        match assume.await {
            Ok(c) => {
                *kept = Some(c.clone());
                Ok(c)
            }
            // Renewing may wait while what is kept still works.
            Err(e) => match kept.as_ref().filter(|c| e.is_passing() && left(c) > LEAST) {
                Some(c) => Ok(c.clone()),
                None => Err(e),
            },
        }
    }
}

/// A token that was asked for, and until when it is used.
struct Token {
    account_uid: String,
    text: Zeroizing<String>,
    until: i64,
}

/// Tokens by pod UID.
#[derive(Default)]
pub(super) struct Tokens(Mutex<HashMap<String, Token>>);

impl Tokens {
    pub(super) fn get(&self, pod_uid: &str, account_uid: &str, now: i64) -> Option<Zeroizing<String>> {
        let all = self.0.lock();
        let token = all.get(pod_uid).filter(|t| t.account_uid == account_uid && t.until > now)?;
        Some(token.text.clone())
    }

    pub(super) fn keep(&self, pod_uid: &str, account_uid: &str, token: &Zeroizing<String>, now: i64, until: i64) {
        let mut all = self.0.lock();
        all.retain(|_, t| t.until > now);
        let token = Token { account_uid: account_uid.into(), text: token.clone(), until };
        all.insert(pod_uid.into(), token);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use druse_aws::error::TransportKind;

    fn key(token: u8) -> Key {
        Key { account_uid: "a".into(), role: "r".into(), region: "x".into(), token: [token; 32] }
    }

    fn until(expires: i64) -> Credentials {
        Credentials { expires: Some(expires), ..Credentials::new(format!("K{expires}"), "s") }
    }

    fn away() -> AwsError {
        let (operation, url, cause) = ("x".into(), "u".into(), "c".into());
        AwsError::Transport { service: "sts", operation, url, kind: TransportKind::Connect, cause }
    }

    #[tokio::test]
    async fn credentials_are_kept_for_one_token_and_renewed_before_they_end() {
        let s = Sessions::default();
        let never = async { Err(away()) };
        assert_eq!(s.get(key(1), 0, 9000, async { Ok(until(3600)) }).await.unwrap().expires, Some(3600));
        assert_eq!(s.get(key(1), 3000, 9000, never).await.unwrap().expires, Some(3600), "still good");
        assert!(s.get(key(2), 3000, 9000, async { Err(away()) }).await.is_err(), "another token");
        let other_role = Key { role: "q".into(), ..key(1) };
        assert!(s.get(other_role, 3000, 9000, async { Err(away()) }).await.is_err(), "another role");
        assert_eq!(s.get(key(1), 3400, 9000, async { Err(away()) }).await.unwrap().expires, Some(3600), "not yet over");
        assert_eq!(s.get(key(1), 3400, 9000, async { Ok(until(7000)) }).await.unwrap().expires, Some(7000), "renewed");
        assert!(s.get(key(1), 6990, 9000, async { Err(away()) }).await.is_err(), "nearly over");
    }

    #[tokio::test]
    async fn what_is_over_is_forgotten() {
        let s = Sessions::default();
        s.get(key(1), 0, 100, async { Ok(until(3600)) }).await.unwrap();
        s.get(key(2), 200, 300, async { Ok(until(3600)) }).await.unwrap();
        assert_eq!(s.0.lock().len(), 1);
        let t = Tokens::default();
        t.keep("p", "a", &Zeroizing::new("t".into()), 0, 10);
        assert_eq!(t.get("p", "a", 9).as_deref().map(String::as_str), Some("t"));
        assert!(t.get("p", "b", 9).is_none() && t.get("p", "a", 10).is_none());
    }
}
