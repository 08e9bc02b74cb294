//! The webhook over HTTPS: it answers reviews, and takes new certificates without being restarted.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::Path;
use std::sync::Arc;

use druse_identity::webhook::Settings;
use druse_identity::webhook::serve::{Accounts, Certificate, serve};
use druse_object::yaml;
use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// Writes a new certificate and key; returns the certificate.
fn issue(dir: &Path) -> CertificateDer<'static> {
    let made = rcgen::generate_simple_self_signed(["localhost".to_string()]).unwrap();
    std::fs::write(dir.join("tls.key"), made.signing_key.serialize_pem()).unwrap();
    std::fs::write(dir.join("tls.crt"), made.cert.pem()).unwrap();
    CertificateDer::from_pem_slice(made.cert.pem().as_bytes()).unwrap()
}

async fn send(port: u16, trusted: &CertificateDer<'static>, request: String) -> Result<String, std::io::Error> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(trusted.clone()).unwrap();
    let config = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = TcpStream::connect(("127.0.0.1", port)).await?;
    let name = ServerName::try_from("localhost").unwrap();
    let mut stream = tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    // The server closes without a farewell when asked to close.
    let _ = stream.read_to_end(&mut answer).await;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

fn post(path: &str, kind: &str, body: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

const REVIEW: &str = r#"{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":"u1","namespace":"ns",
  "object":{"spec":{"serviceAccountName":"app","containers":[{"name":"a"}]}}}}"#;

#[tokio::test]
async fn reviews_are_answered_and_certificates_taken_as_they_change() {
    let dir = tempfile::tempdir().unwrap();
    let first = issue(dir.path());
    let certificate = Certificate::open(&dir.path().join("tls.crt"), &dir.path().join("tls.key")).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let accounts: Accounts = Arc::new(|namespace, name| {
        let text = "metadata: {annotations: {eks.amazonaws.com/role-arn: 'arn:aws:iam::111122223333:role/r'}}";
        ((namespace, name) == ("ns", "app")).then(|| yaml::parse_strict(text).unwrap())
    });
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let serving = tokio::spawn(serve(listener, certificate, Settings::default(), accounts, async {
        let _ = stopped.await;
    }));

    let answer = send(port, &first, post("/mutate", "application/json", REVIEW)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains(r#""patchType":"JSONPatch""#), "{answer}");
    assert!(send(port, &first, post("/mutate", "text/plain", REVIEW)).await.unwrap().starts_with("HTTP/1.1 415"));
    assert!(send(port, &first, post("/mutate", "application/json", "{}")).await.unwrap().starts_with("HTTP/1.1 400"));
    assert!(send(port, &first, post("/else", "application/json", "{}")).await.unwrap().starts_with("HTTP/1.1 404"));

    let second = issue(dir.path());
    assert!(
        send(port, &second, post("/mutate", "application/json", REVIEW)).await.unwrap().starts_with("HTTP/1.1 200")
    );
    assert!(send(port, &first, post("/mutate", "application/json", REVIEW)).await.is_err(), "the old one is gone");

    std::fs::write(dir.path().join("tls.key"), "half written").unwrap();
    let still = send(port, &second, post("/mutate", "application/json", REVIEW)).await.unwrap();
    assert!(still.starts_with("HTTP/1.1 200"), "a pair that does not fit is not taken");

    stop.send(()).unwrap();
    serving.await.unwrap().unwrap();
}
