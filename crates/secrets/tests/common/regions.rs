//! AWS by its own names, over TLS: each region's endpoints lead to a cloud of its own, or to nobody.

use std::net::SocketAddr;
use std::sync::Arc;

use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::net::{TcpListener, TcpStream};

pub struct Regions;

impl Regions {
    /// A client for which `sts`, `ssm` and `secretsmanager` of each region are this cloud (`http://HOST:PORT`); of a region
    /// without one, nobody listens.
    pub fn client<'a>(regions: impl Iterator<Item = (&'a str, Option<&'a str>)>) -> reqwest::Client {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut roots = rustls::RootCertStore::empty();
        let mut names: Vec<(String, SocketAddr)> = Vec::new();
        for (region, cloud) in regions {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let at = listener.local_addr().unwrap();
            let hosts: Vec<String> =
                ["sts", "ssm", "secretsmanager"].iter().map(|s| format!("{s}.{region}.amazonaws.com")).collect();
            names.extend(hosts.iter().map(|h| (h.clone(), at)));
            let made = rcgen::generate_simple_self_signed(hosts).unwrap();
            roots.add(made.cert.der().clone()).unwrap();
            // Without a cloud the listener is dropped here, and connections are refused.
            let Some(cloud) = cloud else { continue };
            let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
            let config = rustls::ServerConfig::builder_with_provider(provider.clone())
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_no_client_auth()
                .with_single_cert(vec![made.cert.der().clone()], key)
                .unwrap();
            let cloud = cloud.trim_start_matches("http://").to_owned();
            tokio::spawn(forward(listener, tokio_rustls::TlsAcceptor::from(Arc::new(config)), cloud));
        }
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let builder = reqwest::Client::builder().no_proxy().tls_backend_preconfigured(config);
        names.iter().fold(builder, |b, (host, at)| b.resolve(host, *at)).build().unwrap()
    }
}

async fn forward(listener: std::net::TcpListener, acceptor: tokio_rustls::TlsAcceptor, cloud: String) {
    listener.set_nonblocking(true).unwrap();
    let listener = TcpListener::from_std(listener).unwrap();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let (acceptor, cloud) = (acceptor.clone(), cloud.clone());
        tokio::spawn(async move {
            let mut inner = acceptor.accept(stream).await?;
            let mut outer = TcpStream::connect(cloud).await?;
            tokio::io::copy_bidirectional(&mut inner, &mut outer).await
        });
    }
}
