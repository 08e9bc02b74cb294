//! TLS: rustls with ring, and the system's root certificates.
//!
//! The certificates are those of the operating system, through the verifier that the HTTP and Kubernetes clients are
//! built with anyway: who has added a company's or a homelab's own authority to the machine expects it to count, and
//! what the system distrusts stays distrusted. Nothing needs to be installed in the process beforehand.

use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use crate::error::SourceError;

/// The client's TLS settings, and whether the machine has any root certificates.
pub(crate) fn config(extra_roots: Option<&str>) -> Result<(rustls::ClientConfig, bool), SourceError> {
    let extra = extra_certificates(extra_roots)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|e| broken(e.to_string()))?;
    let (mut config, has_roots) = match verifier(extra, provider) {
        Ok(verifier) => {
            let config = builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier)).with_no_client_auth();
            (config, true)
        }
        // A machine without certificates can still fetch over plain HTTP; HTTPS fails with a remedy.
        Err(_) => (builder.with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth(), false),
    };
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok((config, has_roots))
}

/// The certificates of a PEM text.
pub(crate) fn extra_certificates(pem: Option<&str>) -> Result<Vec<CertificateDer<'static>>, SourceError> {
    let Some(pem) = pem else { return Ok(Vec::new()) };
    CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|e| broken(format!("the additional root certificates are no PEM: {e}")))
}

fn broken(message: String) -> SourceError {
    SourceError::Broken { what: "TLS settings".into(), message }
}

#[cfg(not(target_os = "android"))]
fn verifier(
    extra: Vec<CertificateDer<'static>>,
    provider: Arc<rustls::crypto::CryptoProvider>,
) -> Result<rustls_platform_verifier::Verifier, rustls::Error> {
    rustls_platform_verifier::Verifier::new_with_extra_roots(extra, provider)
}

#[cfg(target_os = "android")]
fn verifier(
    _extra: Vec<CertificateDer<'static>>,
    provider: Arc<rustls::crypto::CryptoProvider>,
) -> Result<rustls_platform_verifier::Verifier, rustls::Error> {
    rustls_platform_verifier::Verifier::new(provider)
}
