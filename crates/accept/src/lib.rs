//! What every server of druse begins with: connections taken one after another until told to stop, and plain HTTP on them.
//!
//! Knows nothing of what is served.

use std::convert::Infallible;
use std::error::Error;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::{Body, Incoming};
use hyper::service::Service;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

/// How long to wait before taking again where the system refused.
const AGAIN: Duration = Duration::from_millis(20);
/// How long a client of plain HTTP may take for a request's headers.
const HEADERS: Duration = Duration::from_secs(60);

/// What connections come from.
pub trait Listen {
    /// A connection.
    type Stream;
    /// The next one.
    fn take(&self) -> impl Future<Output = io::Result<Self::Stream>> + Send;
}

impl Listen for TcpListener {
    type Stream = TcpStream;
    async fn take(&self) -> io::Result<TcpStream> {
        let (stream, _) = self.accept().await?;
        // Answers are small, and waited for. Without it they only come later.
        let _ = stream.set_nodelay(true);
        Ok(stream)
    }
}

impl Listen for UnixListener {
    type Stream = UnixStream;
    async fn take(&self) -> io::Result<UnixStream> {
        Ok(self.accept().await?.0)
    }
}

/// The next connection; `None` once `stop` is done. Where the system refuses (out of file descriptors, most likely) it lets
/// some go and tries again.
pub async fn next<L: Listen, F: Future>(listener: &L, mut stop: Pin<&mut F>) -> Option<L::Stream> {
    loop {
        let taken = tokio::select! {
            taken = listener.take() => taken,
            _ = stop.as_mut() => return None,
        };
        match taken {
            Ok(stream) => return Some(stream),
            Err(_) => tokio::time::sleep(AGAIN).await,
        }
    }
}

/// Serves plain HTTP/1 until `stop` is done; then no connection is taken any more, and those there are go on by themselves.
pub async fn http1<S, B>(listener: TcpListener, stop: impl Future<Output = ()>, service: S)
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    tokio::pin!(stop);
    while let Some(stream) = next(&listener, stop.as_mut()).await {
        let service = service.clone();
        tokio::spawn(async move {
            // A connection's end is the client's affair.
            let _ = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADERS)
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::Full;
    use hyper::body::Bytes;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::sync::oneshot;

    #[tokio::test]
    async fn connections_are_taken_until_the_stop() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let at = listener.local_addr().expect("an address");
        let (stop, stopped) = oneshot::channel::<()>();
        tokio::pin!(stopped);
        let client = TcpStream::connect(at).await.expect("a connection");
        let taken = next(&listener, stopped.as_mut()).await.expect("it is taken");
        assert_eq!(taken.peer_addr().ok(), client.local_addr().ok());
        drop(stop);
        assert!(next(&listener, stopped.as_mut()).await.is_none());
    }

    #[tokio::test]
    async fn requests_are_answered_over_plain_http() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let at = listener.local_addr().expect("an address");
        let (stop, stopped) = oneshot::channel::<()>();
        let service = hyper::service::service_fn(|r: Request<Incoming>| async move {
            Ok(Response::new(Full::new(Bytes::from(format!("path {}", r.uri().path())))))
        });
        let serving = tokio::spawn(http1(listener, async { drop(stopped.await) }, service));
        let mut client = TcpStream::connect(at).await.expect("a connection");
        client.write_all(b"GET /x HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.expect("it is sent");
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.expect("an answer");
        assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("path /x"), "{answer}");
        drop(stop);
        serving.await.expect("it ends");
        assert!(TcpStream::connect(at).await.is_err(), "nobody listens any more");
    }
}
