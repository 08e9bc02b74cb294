//! Signature Version 4, both ends: requests are signed, signatures are checked.
//!
//! Follows "Authenticating Requests (AWS Signature Version 4)": the canonical request, the string to sign, the derived
//! key. Signatures in the query (presigned URLs) and signed chunks are not done.

use jiff::Timestamp;
use ring::hmac;
use sha2::{Digest as _, Sha256};

use crate::Credentials;
use crate::encoding::{decode, encode};

/// The hash of an empty body.
pub const EMPTY_SHA256: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
/// How far two clocks may be apart, in seconds.
pub const MAX_SKEW: i64 = 300;

/// A request, as far as signatures look at it.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The method, in capitals.
    pub method: &'a str,
    /// The path as sent, percent-encoded.
    pub path: &'a str,
    /// The query as sent, without `?`.
    pub query: &'a str,
    /// The headers as sent.
    pub headers: &'a [(String, String)],
    /// The body's SHA-256 in hex, or what `x-amz-content-sha256` says.
    pub payload_hash: &'a str,
}

/// The SHA-256 of a body, in hex.
#[must_use]
pub fn sha256_hex(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

fn times(now: i64) -> (String, String) {
    let t = Timestamp::from_second(now).unwrap_or(Timestamp::UNIX_EPOCH);
    (t.strftime("%Y%m%dT%H%M%SZ").to_string(), t.strftime("%Y%m%d").to_string())
}

/// The headers to add to a request: date, payload hash (for S3), session token and authorization. `Host` must be among
/// the request's headers.
#[must_use]
pub fn sign(
    request: &Request<'_>,
    credentials: &Credentials,
    region: &str,
    service: &str,
    now: i64,
) -> Vec<(String, String)> {
    let (time, date) = times(now);
    let mut added = vec![("x-amz-date".to_string(), time.clone())];
    if service == "s3" {
        added.push(("x-amz-content-sha256".into(), request.payload_hash.to_string()));
    }
    if let Some(token) = &credentials.session_token {
        added.push(("x-amz-security-token".into(), token.to_string()));
    }
    let all: Vec<(String, String)> = request.headers.iter().cloned().chain(added.iter().cloned()).collect();
    let mut names: Vec<String> = all.iter().map(|(k, _)| k.to_ascii_lowercase()).collect();
    names.sort();
    names.dedup();
    let request = Request { headers: &all, ..*request };
    let scope = format!("{date}/{region}/{service}/aws4_request");
    let text = string_to_sign(&canonical(&request, &names, service), &time, &scope);
    let key = signing_key(&credentials.secret_access_key, &date, region, service);
    let signature = hex::encode(hmac::sign(&key, text.as_bytes()));
    added.push((
        "authorization".into(),
        format!(
            "AWS4-HMAC-SHA256 Credential={}/{scope}, SignedHeaders={}, Signature={signature}",
            credentials.access_key_id,
            names.join(";")
        ),
    ));
    added
}

/// What an `Authorization` header says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authorization {
    /// Whose key it is signed with.
    pub access_key_id: String,
    /// The day of the scope.
    pub date: String,
    /// The region of the scope.
    pub region: String,
    /// The service of the scope.
    pub service: String,
    signed_headers: Vec<String>,
    signature: Vec<u8>,
    /// When it was signed, in seconds since 1970.
    pub time: i64,
    stamp: String,
}

/// Why a signature is not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// There is none.
    #[error("Missing Authentication Token")]
    Missing,
    /// It cannot be read.
    #[error("the authorization header is malformed: {0}")]
    Malformed(&'static str),
    /// It was made too long ago, or in the future.
    #[error("Signature expired: the request was signed {0} seconds away from this machine's time")]
    Skewed(i64),
    /// It does not fit.
    #[error(
        "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access \
         Key and signing method. Consult the service documentation for details."
    )]
    Mismatch,
}

impl Authorization {
    /// Reads it from a request's headers.
    ///
    /// # Errors
    /// When there is none, or it cannot be read.
    pub fn read(headers: &[(String, String)]) -> Result<Self, SignatureError> {
        let header = |name: &str| headers.iter().find(|(k, _)| k.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str());
        let bad = SignatureError::Malformed;
        let text = header("authorization").ok_or(SignatureError::Missing)?;
        let rest = text.strip_prefix("AWS4-HMAC-SHA256").ok_or(bad("it is not AWS4-HMAC-SHA256"))?;
        let (mut credential, mut signed, mut signature) = (None, None, None);
        for part in rest.split(',') {
            match part.trim().split_once('=') {
                Some(("Credential", v)) => credential = Some(v),
                Some(("SignedHeaders", v)) => signed = Some(v),
                Some(("Signature", v)) => signature = Some(v),
                _ => return Err(bad("it has an unknown part")),
            }
        }
        let credential: Vec<&str> = credential.ok_or(bad("Credential is missing"))?.split('/').collect();
        let [key, date, region, service, "aws4_request"] = credential.as_slice() else {
            return Err(bad("the credential has no scope"));
        };
        let signed_headers: Vec<String> =
            signed.ok_or(bad("SignedHeaders is missing"))?.split(';').map(str::to_string).collect();
        if !signed_headers.iter().any(|h| h == "host") {
            return Err(bad("host is not signed"));
        }
        let unsigned = headers
            .iter()
            .map(|(k, _)| k.to_ascii_lowercase())
            .find(|k| k.starts_with("x-amz-") && !signed_headers.contains(k));
        if unsigned.is_some() {
            return Err(bad("a header x-amz-… is not signed"));
        }
        let stamp = header("x-amz-date").ok_or(bad("x-amz-date is missing"))?;
        let time = read_time(stamp).ok_or(bad("x-amz-date is no time"))?;
        if !stamp.starts_with(date) {
            return Err(bad("the scope's day is not that of x-amz-date"));
        }
        Ok(Self {
            access_key_id: (*key).to_string(),
            date: (*date).to_string(),
            region: (*region).to_string(),
            service: (*service).to_string(),
            signed_headers,
            signature: hex::decode(signature.ok_or(bad("Signature is missing"))?)
                .map_err(|_| bad("the signature is no hex"))?,
            time,
            stamp: stamp.to_string(),
        })
    }

    /// Checks it against a request and the secret of its key.
    ///
    /// # Errors
    /// When the clocks are too far apart, or it does not fit.
    pub fn check(&self, request: &Request<'_>, secret: &str, now: i64) -> Result<(), SignatureError> {
        if (now - self.time).abs() > MAX_SKEW {
            return Err(SignatureError::Skewed((now - self.time).abs()));
        }
        let scope = format!("{}/{}/{}/aws4_request", self.date, self.region, self.service);
        let text = string_to_sign(&canonical(request, &self.signed_headers, &self.service), &self.stamp, &scope);
        let key = signing_key(secret, &self.date, &self.region, &self.service);
        hmac::verify(&key, text.as_bytes(), &self.signature).map_err(|_| SignatureError::Mismatch)
    }
}

fn read_time(stamp: &str) -> Option<i64> {
    let t = jiff::civil::DateTime::strptime("%Y%m%dT%H%M%SZ", stamp).ok()?;
    Some(t.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp().as_second())
}

fn signing_key(secret: &str, date: &str, region: &str, service: &str) -> hmac::Key {
    let start = zeroize::Zeroizing::new(format!("AWS4{secret}"));
    let mut key = hmac::Key::new(hmac::HMAC_SHA256, start.as_bytes());
    for part in [date, region, service, "aws4_request"] {
        key = hmac::Key::new(hmac::HMAC_SHA256, hmac::sign(&key, part.as_bytes()).as_ref());
    }
    key
}

fn string_to_sign(canonical: &str, time: &str, scope: &str) -> String {
    format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{}", sha256_hex(canonical.as_bytes()))
}

fn canonical(request: &Request<'_>, signed: &[String], service: &str) -> String {
    let path = if request.path.is_empty() { "/" } else { request.path };
    // S3 signs the path as sent, the others encode it once more.
    let path = if service == "s3" { encode(&decode(path, false), true) } else { encode(path, true) };
    let mut query: Vec<(String, String)> = request
        .query
        .split('&')
        .filter(|p| !p.is_empty())
        .map(|p| {
            let (k, v) = p.split_once('=').unwrap_or((p, ""));
            (encode(&decode(k, false), false), encode(&decode(v, false), false))
        })
        .collect();
    query.sort();
    let query: Vec<String> = query.into_iter().map(|(k, v)| format!("{k}={v}")).collect();
    let mut headers = String::new();
    for name in signed {
        let values: Vec<String> = request
            .headers
            .iter()
            .filter(|(k, _)| k.eq_ignore_ascii_case(name))
            .map(|(_, v)| v.split_whitespace().collect::<Vec<_>>().join(" "))
            .collect();
        headers.push_str(&format!("{name}:{}\n", values.join(",")));
    }
    format!(
        "{}\n{path}\n{}\n{headers}\n{}\n{}",
        request.method,
        query.join("&"),
        signed.join(";"),
        request.payload_hash
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn header(k: &str, v: &str) -> (String, String) {
        (k.into(), v.into())
    }

    /// The example of AWS' documentation of Signature Version 4 (GET ListUsers).
    #[test]
    fn the_documented_example_comes_out() {
        let headers = [
            header("Host", "iam.amazonaws.com"),
            header("Content-Type", "application/x-www-form-urlencoded; charset=utf-8"),
        ];
        let request = Request {
            method: "GET",
            path: "/",
            query: "Action=ListUsers&Version=2010-05-08",
            headers: &headers,
            payload_hash: EMPTY_SHA256,
        };
        let credentials = Credentials::new("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY");
        let added = sign(&request, &credentials, "us-east-1", "iam", 1_440_938_160);
        let authorization = &added.last().unwrap().1;
        assert!(
            authorization.ends_with("Signature=5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7"),
            "{authorization}"
        );
    }

    proptest! {
        #[test]
        fn what_is_signed_is_accepted_and_what_is_changed_is_not(
            path in "/[a-z0-9 /.%-]{0,20}",
            query in "[a-z0-9=&%+]{0,20}",
            service in "s3|ssm|sts",
            body in ".{0,20}",
        ) {
            let hash = sha256_hex(body.as_bytes());
            let mut headers = vec![header("host", "localhost:4566")];
            fn with<'a>(parts: [&'a str; 3], headers: &'a [(String, String)]) -> Request<'a> {
                let [path, query, payload_hash] = parts;
                Request { method: "POST", path, query, headers, payload_hash }
            }
            let parts = [path.as_str(), query.as_str(), hash.as_str()];
            let mut credentials = Credentials::new("AKID", "secret");
            credentials.session_token = Some("token".to_string().into());
            let added = sign(&with(parts, &headers), &credentials, "us-west-2", &service, 1_700_000_000);
            headers.extend(added);
            let auth = Authorization::read(&headers).unwrap();
            prop_assert_eq!(auth.check(&with(parts, &headers), "secret", 1_700_000_100), Ok(()));
            prop_assert_eq!(auth.check(&with(parts, &headers), "other", 1_700_000_100), Err(SignatureError::Mismatch));
            prop_assert_eq!(auth.check(&with(parts, &headers), "secret", 1_700_001_000), Err(SignatureError::Skewed(1000)));
            let other = Request { payload_hash: EMPTY_SHA256, ..with(parts, &headers) };
            if !body.is_empty() {
                prop_assert_eq!(auth.check(&other, "secret", 1_700_000_100), Err(SignatureError::Mismatch));
            }
            headers[0].1 = "evil".into();
            prop_assert_eq!(auth.check(&with(parts, &headers), "secret", 1_700_000_100), Err(SignatureError::Mismatch));
        }
        #[test]
        fn any_header_is_read_without_panicking(text in "\\PC{0,60}") {
            let _ = Authorization::read(&[("authorization".into(), format!("AWS4-HMAC-SHA256 {text}"))]);
        }
    }

    #[test]
    fn headers_of_amazon_must_be_signed() {
        let mut headers = vec![header("host", "h")];
        let request =
            Request { method: "GET", path: "/", query: "", headers: &headers.clone(), payload_hash: EMPTY_SHA256 };
        headers.extend(sign(&request, &Credentials::new("a", "b"), "r", "ssm", 1_700_000_000));
        headers.push(header("X-Amz-Target", "AmazonSSM.DeleteParameter"));
        assert!(matches!(Authorization::read(&headers), Err(SignatureError::Malformed(_))));
    }
}
