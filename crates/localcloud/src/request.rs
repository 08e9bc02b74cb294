//! A request, and which service it is for.

use druse_aws::encoding::{decode, pairs};
use druse_aws::sigv4;

/// A request as it came.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// The method.
    pub method: String,
    /// The path as sent.
    pub path: String,
    /// The query as sent.
    pub query: String,
    /// The headers.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

/// What a request is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// A JSON call: `AmazonSSM.GetParameter`.
    Json(String),
    /// A query call: its parameters.
    Query(Vec<(String, String)>),
    /// A bucket and a key.
    Object(String, String),
}

impl Request {
    /// A header's value.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(k, _)| k.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str())
    }

    pub(crate) fn signed(&self) -> sigv4::Request<'_> {
        sigv4::Request {
            method: &self.method,
            path: &self.path,
            query: &self.query,
            headers: &self.headers,
            payload_hash: self.header("x-amz-content-sha256").unwrap_or_default(),
        }
    }

    /// `known` says whether a name is a bucket's.
    pub(crate) fn target(&self, known: impl Fn(&str) -> bool) -> Target {
        if let Some(t) = self.header("x-amz-target") {
            return Target::Json(t.to_string());
        }
        let form = self.header("content-type").is_some_and(|t| t.starts_with("application/x-www-form-urlencoded"));
        if self.method == "POST" && form {
            return Target::Query(pairs(&String::from_utf8_lossy(&self.body)));
        }
        if self.path == "/" && self.query.contains("Action=") {
            return Target::Query(pairs(&self.query));
        }
        let host = self.header("host").unwrap_or_default().split(':').next().unwrap_or_default();
        let path = decode(self.path.trim_start_matches('/'), false);
        // `bucket.s3.region.amazonaws.com/key` or `bucket.localhost/key`, else `/bucket/key`. A bucket's name may hold
        // dots.
        let labels: Vec<usize> = host.match_indices('.').map(|(i, _)| i).collect();
        if let Some(bucket) = labels.into_iter().rev().map(|i| &host[..i]).find(|b| known(b)) {
            return Target::Object(bucket.to_string(), path);
        }
        let (bucket, key) = path.split_once('/').unwrap_or((&path, ""));
        Target::Object(bucket.to_string(), key.to_string())
    }
}
