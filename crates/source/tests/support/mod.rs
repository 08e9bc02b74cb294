//! A small HTTP server for tests: answers with a function, remembers what it was asked, and can misbehave.
#![allow(dead_code, clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::io::{BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use druse_source::NetOptions;

/// What was asked.
#[derive(Clone, Debug)]
pub struct Request {
    pub method: String,
    pub path: String,
    pub query: String,
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
}

impl Request {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }
}

/// What is answered.
#[derive(Clone, Debug)]
pub struct Response {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// Says that there is more than is sent, and hangs up.
    pub truncated: bool,
    /// Says that it is at least so large.
    pub claims: usize,
    /// Sends nothing and waits until the other side hangs up.
    pub silent: bool,
}

impl Response {
    pub fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self { status, headers: Vec::new(), body: body.into(), truncated: false, claims: 0, silent: false }
    }

    pub fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_string(), value.into()));
        self
    }
}

/// A running server; it stops with the test.
pub struct Server {
    pub address: SocketAddr,
    seen: Arc<Mutex<Vec<Request>>>,
}

type Handler = dyn Fn(&Request) -> Response + Send + Sync;

impl Server {
    pub fn start(handler: impl Fn(&Request) -> Response + Send + Sync + 'static) -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").unwrap(), None, handler)
    }

    pub fn tls(config: rustls::ServerConfig, handler: impl Fn(&Request) -> Response + Send + Sync + 'static) -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").unwrap(), Some(Arc::new(config)), handler)
    }

    pub fn on(
        listener: TcpListener,
        tls: Option<Arc<rustls::ServerConfig>>,
        handler: impl Fn(&Request) -> Response + Send + Sync + 'static,
    ) -> Self {
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let handler: Arc<Handler> = Arc::new(handler);
        let all = Arc::clone(&seen);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (handler, seen, tls) = (Arc::clone(&handler), Arc::clone(&all), tls.clone());
                std::thread::spawn(move || match tls {
                    None => serve(stream, &*handler, &seen),
                    Some(config) => {
                        let connection = rustls::ServerConnection::new(config).unwrap();
                        serve(rustls::StreamOwned::new(connection, stream), &*handler, &seen);
                    }
                });
            }
        });
        Self { address, seen }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// `METHOD PATH` of everything asked.
    pub fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap().iter().map(|r| format!("{} {}", r.method, r.path)).collect()
    }

    pub fn requests(&self) -> Vec<Request> {
        self.seen.lock().unwrap().clone()
    }
}

fn serve(stream: impl Read + Write, handler: &Handler, seen: &Mutex<Vec<Request>>) {
    let mut stream = BufReader::new(stream);
    while let Some(request) = read(&mut stream) {
        seen.lock().unwrap().push(request.clone());
        let response = handler(&request);
        if response.silent {
            let _ = stream.read(&mut [0]);
            return;
        }
        let length = response.claims.max(response.body.len() + if response.truncated { 100 } else { 0 });
        let mut out = format!("HTTP/1.1 {} X\r\ncontent-length: {length}\r\n", response.status).into_bytes();
        for (name, value) in &response.headers {
            out.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
        }
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(&response.body);
        if stream.get_mut().write_all(&out).and_then(|()| stream.get_mut().flush()).is_err() || response.truncated {
            return;
        }
    }
}

fn read(stream: &mut impl std::io::BufRead) -> Option<Request> {
    // A TLS hello is answered by hanging up.
    if !stream.fill_buf().ok()?.first()?.is_ascii_uppercase() {
        return None;
    }
    let mut line = || {
        let mut line = String::new();
        stream.read_line(&mut line).ok()?;
        Some(line.trim_end().to_string())
    };
    let first = line()?;
    let mut words = first.split(' ');
    let (method, target) = (words.next()?.to_string(), words.next()?.to_string());
    let mut headers = BTreeMap::new();
    loop {
        let line = line()?;
        let Some((name, value)) = line.split_once(':') else { break };
        headers.insert(name.to_lowercase(), value.trim().to_string());
    }
    let length = headers.get("content-length").and_then(|l| l.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    Some(Request { method, path: path.to_string(), query: query.to_string(), headers, body })
}

/// Options under which failures come fast.
pub fn fast() -> NetOptions {
    let ms = std::time::Duration::from_millis;
    NetOptions {
        connect_timeout: ms(2000),
        idle_timeout: ms(2000),
        total_timeout: ms(20_000),
        backoff: ms(1),
        ..NetOptions::default()
    }
}

/// A port on which nobody listens.
pub fn dead_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

pub fn sha256(bytes: &[u8]) -> String {
    use sha2::Digest as _;
    hex(&sha2::Sha256::digest(bytes))
}

/// A gzipped tar of files.
pub fn tgz(files: &[(&str, &str)]) -> Vec<u8> {
    let mut tar = tar::Builder::new(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast()));
    for (path, text) in files {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_size(text.len() as u64);
        tar.append_data(&mut header, path, text.as_bytes()).unwrap();
    }
    tar.into_inner().unwrap().finish().unwrap()
}

/// A chart's archive.
pub fn chart(name: &str, version: &str) -> Vec<u8> {
    tgz(&[(&format!("{name}/Chart.yaml"), &format!("apiVersion: v2\nname: {name}\nversion: {version}\n"))])
}

/// Whether a TCP connection to an address can be made, to be sure that a server is up.
pub fn is_up(address: SocketAddr) -> bool {
    TcpStream::connect(address).is_ok()
}
