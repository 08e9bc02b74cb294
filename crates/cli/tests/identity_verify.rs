//! `druse identity verify` against an issuer that is really there: documents over HTTPS, with an authority of its own.
#![allow(clippy::unwrap_used)] // helpers of tests

mod common;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;

use common::Lab;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

const ISSUER: &str = "https://oidc.example.org";

/// Serves a folder over HTTPS as the issuer, behind a proxy, since issuers have no port; the proxy's port, and the
/// certificate to trust.
fn issuer(folder: PathBuf) -> (u16, String) {
    let made = rcgen::generate_simple_self_signed(["oidc.example.org".to_owned()]).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let connection = rustls::ServerConnection::new(config.clone()).unwrap();
            let mut stream = stream.unwrap();
            connect(&mut stream);
            // Who does not trust the certificate goes away.
            let _ = answer(rustls::StreamOwned::new(connection, stream), &folder);
        }
    });
    (port, made.cert.pem())
}

/// Answers as a proxy: from here on the issuer talks.
fn connect(stream: &mut TcpStream) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    assert!(head.starts_with(b"CONNECT oidc.example.org:443 "), "{}", String::from_utf8_lossy(&head));
    stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
}

fn answer<S: std::io::Read + std::io::Write>(stream: S, folder: &std::path::Path) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    let mut first = String::new();
    reader.read_line(&mut first)?;
    let mut line = String::new();
    while reader.read_line(&mut line)? > 2 {
        line.clear();
    }
    let path = first.split(' ').nth(1).unwrap_or_default().trim_start_matches('/');
    let (status, body) = match std::fs::read(folder.join(path)) {
        Ok(body) => ("200 OK", body),
        Err(_) => ("404 Not Found", Vec::new()),
    };
    let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
    let stream = reader.get_mut();
    stream.write_all(head.as_bytes())?;
    stream.write_all(&body)?;
    stream.flush()
}

#[test]
fn an_issuer_is_compared_with_the_key_over_https() {
    let lab = Lab::bare();
    let (port, certificate) = issuer(lab.tree().join("site"));
    let url = ISSUER;
    std::fs::write(lab.path("authority.pem"), certificate).unwrap();
    let run = |args: &[&str], trusted: bool| {
        let mut c = lab.druse(args);
        c.env("HTTPS_PROXY", format!("http://127.0.0.1:{port}"));
        if trusted {
            c.env("SSL_CERT_FILE", lab.path("authority.pem"));
        }
        lab.run(&mut c)
    };
    for key in ["old.key", "new.key"] {
        run(&["identity", "keygen", "--out", key], true).says(0, &[]);
    }
    let verify = |key: &str| run(&["identity", "verify", url, "--key", key], true);
    // Nothing is published yet.
    verify("old.key").says(1, &["HTTP 404", "/.well-known/openid-configuration", "for everybody"]);
    run(&["identity", "publish", "--issuer", url, "--key", "old.key", "--to", "site"], true).says(0, &[]);
    let ok = verify("old.key");
    ok.says(0, &[]);
    assert!(ok.stdout.contains("publishes what the cluster signs with"), "{ok}");
    // The cluster signs with a key that STS will not find.
    let other = verify("new.key");
    assert!(
        other.status.code() == Some(1) && other.stdout.contains("error:") && other.stdout.contains("help:"),
        "{other}"
    );
    // A certificate that nobody vouches for is no issuer's.
    run(&["identity", "verify", url, "--key", "old.key"], false).says(1, &["certificate"]);
    // The documents are of another issuer, by one slash.
    let jwks = lab.tree().join("site/.well-known/openid-configuration");
    let text = std::fs::read_to_string(&jwks).unwrap();
    std::fs::write(&jwks, text.replacen(&format!("\"{url}\""), &format!("\"{url}/\""), 1)).unwrap();
    verify("old.key").says(1, &["byte by byte"]);
    std::fs::write(&jwks, "<html>").unwrap();
    verify("old.key").says(1, &["openid-configuration"]);
}
