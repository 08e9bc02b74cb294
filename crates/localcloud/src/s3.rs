//! The public bucket: objects put by the administrator, read by anybody.

use crate::answer::{Fault, Form, Response};
use crate::auth::{Caller, caller};
use crate::cloud::Cloud;
use crate::request::Request;
use crate::store::Stored;
use zeroize::Zeroizing;

pub(crate) fn call(cloud: &Cloud, bucket: &str, key: &str, request: &Request) -> Result<Response, Fault> {
    if !cloud.buckets.iter().any(|(b, _)| b == bucket) {
        return Err(Fault::new(404, "NoSuchBucket", "The specified bucket does not exist"));
    }
    let at = (bucket.to_string(), key.to_string());
    match request.method.as_str() {
        "GET" | "HEAD" if !key.is_empty() => {
            let missing = || Fault::new(404, "NoSuchKey", "The specified key does not exist.");
            let state = cloud.state.lock();
            let o = state.store.objects.get(&at).ok_or_else(missing)?;
            let mut headers = vec![
                ("content-type", o.content_type.clone()),
                ("etag", etag(&o.body)),
                ("last-modified", http_date(o.at)),
            ];
            if !o.cache_control.is_empty() {
                headers.push(("cache-control", o.cache_control.clone()));
            }
            if request.header("if-none-match") == Some(etag(&o.body).as_str()) {
                return Ok(Response { status: 304, headers, body: Zeroizing::default() });
            }
            Ok(Response { status: 200, headers, body: Zeroizing::new(o.body.clone()) })
        }
        "PUT" if !key.is_empty() => {
            administrator(cloud, request)?;
            let stored = Stored {
                body: request.body.clone(),
                content_type: request.header("content-type").unwrap_or("binary/octet-stream").to_string(),
                cache_control: request.header("cache-control").unwrap_or_default().to_string(),
                at: cloud.now(),
            };
            let tag = etag(&stored.body);
            let mut state = cloud.state.lock();
            state.store.objects.insert(at, stored);
            state.store.save().map_err(Fault::internal)?;
            Ok(Response { status: 200, headers: vec![("etag", tag)], body: Zeroizing::default() })
        }
        "DELETE" if !key.is_empty() => {
            administrator(cloud, request)?;
            let mut state = cloud.state.lock();
            state.store.objects.remove(&at);
            state.store.save().map_err(Fault::internal)?;
            Ok(Response { status: 204, headers: Vec::new(), body: Zeroizing::default() })
        }
        "HEAD" => Ok(Response { status: 200, headers: Vec::new(), body: Zeroizing::default() }),
        method => Err(Fault::new(501, "NotImplemented", format!("{method} is not served here"))),
    }
}

fn administrator(cloud: &Cloud, request: &Request) -> Result<(), Fault> {
    match caller(cloud, request, "s3", Form::S3)? {
        Caller::Administrator => Ok(()),
        Caller::Session { .. } => Err(Fault::new(403, "AccessDenied", "Access Denied")),
    }
}

fn etag(body: &[u8]) -> String {
    format!("\"{}\"", &druse_aws::sigv4::sha256_hex(body)[..32])
}

fn http_date(at: i64) -> String {
    let t = jiff::Timestamp::from_second(at).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    t.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
}
