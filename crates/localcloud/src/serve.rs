//! HTTP around the local cloud.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use tokio::net::TcpListener;

use crate::{Cloud, Request};

/// The largest body taken.
const MAX_BODY: usize = 8 << 20;

/// Serves until `stop` is done. Plain HTTP: it is meant for this machine, and says so to whoever asks from elsewhere by
/// not being there.
pub async fn serve(cloud: Arc<Cloud>, listener: TcpListener, stop: impl Future<Output = ()>) {
    druse_accept::http1(listener, stop, service_fn(move |r| answer(cloud.clone(), r))).await;
}

async fn answer(
    cloud: Arc<Cloud>,
    request: hyper::Request<Incoming>,
) -> Result<hyper::Response<Full<Bytes>>, Infallible> {
    let (parts, body) = request.into_parts();
    let plain = |status: u16| {
        let mut r = hyper::Response::new(Full::default());
        *r.status_mut() = hyper::StatusCode::from_u16(status).unwrap_or(hyper::StatusCode::INTERNAL_SERVER_ERROR);
        r
    };
    let Ok(body) = Limited::new(body, MAX_BODY).collect().await else { return Ok(plain(413)) };
    let headers = parts.headers.iter();
    let request = Request {
        method: parts.method.as_str().to_string(),
        path: parts.uri.path().to_string(),
        query: parts.uri.query().unwrap_or_default().to_string(),
        headers: headers
            .map(|(k, v)| (k.as_str().to_string(), String::from_utf8_lossy(v.as_bytes()).into_owned()))
            .collect(),
        body: body.to_bytes().to_vec(),
    };
    let head = request.method == "HEAD";
    // Policies and seals take little time, the disk may take more.
    let Ok(answer) = tokio::task::spawn_blocking(move || cloud.handle(&request)).await else { return Ok(plain(500)) };
    let mut response = plain(answer.status);
    for (k, v) in &answer.headers {
        if let Ok(v) = v.parse() {
            response.headers_mut().insert(*k, v);
        }
    }
    if head {
        response.headers_mut().insert(hyper::header::CONTENT_LENGTH, answer.body.len().into());
    } else {
        *response.body_mut() = Full::from(answer.body.to_vec());
    }
    Ok(response)
}
