//! gRPC calls over a unix socket: one HTTP/2 connection, made when first needed and again when it is gone.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::uri::PathAndQuery;
use hyper::body::Incoming;
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use parking_lot::Mutex;
use tokio::net::UnixStream;
use tonic::body::Body;
use tonic::client::Grpc;
use tonic::{Request, Status};
use tonic_prost::ProstCodec;
use tower::Service;

/// A connection to a unix socket. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Channel {
    socket: Arc<Path>,
    max_response: usize,
    connection: Arc<Mutex<Option<SendRequest<Body>>>>,
}

impl Channel {
    /// To `socket`; nothing is connected yet. Answers larger than `max_response` bytes are refused.
    #[must_use]
    pub fn new(socket: &Path, max_response: usize) -> Self {
        Self { socket: PathBuf::from(socket).into(), max_response, connection: Arc::default() }
    }

    /// The socket connected to.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// One call. `path` is `/PACKAGE.SERVICE/METHOD`; `timeout` covers the connection too, and is told to the server.
    ///
    /// # Errors
    /// `UNAVAILABLE` when nobody listens or the connection breaks, `DEADLINE_EXCEEDED` when there is no answer in
    /// `timeout`; otherwise the server's own.
    pub async fn unary<Q, A>(&self, path: &'static str, message: Q, timeout: Duration) -> Result<A, Status>
    where
        Q: prost::Message + 'static,
        A: prost::Message + Default + 'static,
    {
        let call = async {
            let connection = self.connect().await?;
            let mut grpc = Grpc::new(Connection(connection)).max_decoding_message_size(self.max_response);
            let mut request = Request::new(message);
            request.set_timeout(timeout);
            let codec = ProstCodec::<Q, A>::default();
            Ok(grpc.unary(request, PathAndQuery::from_static(path), codec).await?.into_inner())
        };
        match tokio::time::timeout(timeout, call).await {
            Ok(answer) => answer,
            Err(_) => {
                // A server that hangs may be one that was suspended: the next call starts afresh.
                *self.connection.lock() = None;
                Err(Status::deadline_exceeded(format!("no answer from {} in {timeout:?}", self.socket.display())))
            }
        }
    }

    async fn connect(&self) -> Result<SendRequest<Body>, Status> {
        let open = self.connection.lock().clone();
        if let Some(mut c) = open
            && c.ready().await.is_ok()
        {
            return Ok(c);
        }
        let unavailable = |e: &dyn std::fmt::Display| Status::unavailable(format!("{}: {e}", self.socket.display()));
        let stream = UnixStream::connect(&self.socket).await.map_err(|e| unavailable(&e))?;
        let (sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .map_err(|e| unavailable(&e))?;
        let socket = self.socket.clone();
        tokio::spawn(async move {
            if let Err(e) = connection.await {
                tracing::debug!("{}: {e}", socket.display());
            }
        });
        *self.connection.lock() = Some(sender.clone());
        Ok(sender)
    }
}

/// The connection as tonic wants it.
struct Connection(SendRequest<Body>);

impl Service<http::Request<Body>> for Connection {
    type Response = http::Response<Incoming>;
    type Error = Status;
    type Future = std::pin::Pin<Box<dyn Future<Output = Result<Self::Response, Status>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Status>> {
        self.0.poll_ready(cx).map_err(|e| Status::unavailable(e.to_string()))
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        // The scheme and authority tonic would take from an origin: gRPC over unix sockets says localhost.
        let mut parts = std::mem::take(request.uri_mut()).into_parts();
        parts.scheme = Some(http::uri::Scheme::HTTP);
        parts.authority = Some(http::uri::Authority::from_static("localhost"));
        let uri = http::Uri::from_parts(parts);
        let sent = uri.map(|uri| {
            *request.uri_mut() = uri;
            self.0.send_request(request)
        });
        Box::pin(async move {
            match sent {
                Ok(answer) => answer.await.map_err(|e| Status::unavailable(e.to_string())),
                Err(e) => Err(Status::internal(e.to_string())),
            }
        })
    }
}
