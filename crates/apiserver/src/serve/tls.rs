//! The server's certificate authority and certificate, kept in the data directory.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    SanType,
};
use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use rustls::server::WebPkiClientVerifier;

use super::write_private;

/// Why there is no TLS.
#[derive(Clone, Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read or written.
    #[error("certificate file {path}: {cause}")]
    File {
        /// Which.
        path: PathBuf,
        /// What the system said.
        cause: String,
    },
    /// A certificate cannot be made or used.
    #[error("certificate: {0}")]
    Certificate(String),
}

fn wrong(e: impl std::fmt::Display) -> TlsError {
    TlsError::Certificate(e.to_string())
}

/// A certificate authority, and the server's certificate under it.
#[derive(Clone)]
pub struct Certificates {
    /// The authority's certificate, PEM.
    pub ca_pem: String,
    /// The server's certificate, PEM.
    pub certificate_pem: String,
    key_pem: String,
    ca_key_pem: String,
}

impl std::fmt::Debug for Certificates {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Certificates")
    }
}

/// The name of the authority that signs for the server and its clients.
const AUTHORITY: &str = "druse";

fn authority(name: &str) -> CertificateParams {
    let mut p = CertificateParams::default();
    p.distinguished_name.push(DnType::CommonName, name);
    p.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    p.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
    p.not_before = rcgen::date_time_ymd(2020, 1, 1);
    p.not_after = rcgen::date_time_ymd(2060, 1, 1);
    p
}

/// The certificate of an authority whose key nobody has, PEM: for those who must be told of one and shall trust nobody.
///
/// # Errors
/// When no key can be made.
pub fn keyless_authority(name: &str) -> Result<String, TlsError> {
    let key = KeyPair::generate().map_err(wrong)?;
    Ok(authority(name).self_signed(&key).map_err(wrong)?.pem())
}

fn key_usage(name: &str) -> Option<KeyUsagePurpose> {
    Some(match name {
        "signing" | "digital signature" => KeyUsagePurpose::DigitalSignature,
        "content commitment" => KeyUsagePurpose::ContentCommitment,
        "key encipherment" => KeyUsagePurpose::KeyEncipherment,
        "key agreement" => KeyUsagePurpose::KeyAgreement,
        "data encipherment" => KeyUsagePurpose::DataEncipherment,
        "cert sign" => KeyUsagePurpose::KeyCertSign,
        "crl sign" => KeyUsagePurpose::CrlSign,
        "encipher only" => KeyUsagePurpose::EncipherOnly,
        "decipher only" => KeyUsagePurpose::DecipherOnly,
        _ => return None,
    })
}

fn extended_usage(name: &str) -> Option<ExtendedKeyUsagePurpose> {
    Some(match name {
        "any" => ExtendedKeyUsagePurpose::Any,
        "server auth" => ExtendedKeyUsagePurpose::ServerAuth,
        "client auth" => ExtendedKeyUsagePurpose::ClientAuth,
        "code signing" => ExtendedKeyUsagePurpose::CodeSigning,
        "email protection" => ExtendedKeyUsagePurpose::EmailProtection,
        "timestamping" => ExtendedKeyUsagePurpose::TimeStamping,
        "ocsp signing" => ExtendedKeyUsagePurpose::OcspSigning,
        _ => return None,
    })
}

impl Certificates {
    /// Reads the authority from `dir` or makes one; makes a server certificate for these names and addresses.
    ///
    /// The server's certificate is made anew at each start: its names may have changed, and clients trust the
    /// authority, not it.
    ///
    /// # Errors
    /// When files cannot be read or written, or a key is unusable.
    pub fn open(dir: Option<&Path>, addresses: &[IpAddr]) -> Result<Self, TlsError> {
        let file = |path: &Path, e: std::io::Error| TlsError::File { path: path.to_owned(), cause: e.to_string() };
        let paths = dir.map(|d| (d.join("ca.crt"), d.join("ca.key")));
        let (ca_pem, ca_key_pem) = match &paths {
            Some((certificate, key)) if key.exists() && certificate.exists() => (
                fs::read_to_string(certificate).map_err(|e| file(certificate, e))?,
                fs::read_to_string(key).map_err(|e| file(key, e))?,
            ),
            _ => {
                let key = KeyPair::generate().map_err(wrong)?;
                let made = authority(AUTHORITY).self_signed(&key).map_err(wrong)?;
                if let Some((certificate, key_path)) = &paths {
                    write_private(certificate, made.pem().as_bytes()).map_err(|e| file(certificate, e))?;
                    write_private(key_path, key.serialize_pem().as_bytes()).map_err(|e| file(key_path, e))?;
                }
                (made.pem(), key.serialize_pem())
            }
        };
        let ca_key = KeyPair::from_pem(&ca_key_pem).map_err(wrong)?;
        let issuer = Issuer::new(authority(AUTHORITY), ca_key);
        let key = KeyPair::generate().map_err(wrong)?;
        let names = [
            "localhost",
            "kubernetes",
            "kubernetes.default",
            "kubernetes.default.svc",
            "kubernetes.default.svc.cluster.local",
        ];
        let mut p = CertificateParams::new(names.map(String::from).to_vec()).map_err(wrong)?;
        p.distinguished_name.push(DnType::CommonName, "kube-apiserver");
        p.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        p.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        p.use_authority_key_identifier_extension = true;
        p.not_before = rcgen::date_time_ymd(2020, 1, 1);
        p.not_after = rcgen::date_time_ymd(2060, 1, 1);
        let mut all: Vec<IpAddr> = vec![
            IpAddr::from([127, 0, 0, 1]),
            IpAddr::from(std::net::Ipv6Addr::LOCALHOST),
            IpAddr::from([10, 96, 0, 1]),
        ];
        all.extend(addresses.iter().filter(|a| !a.is_unspecified()));
        all.dedup();
        p.subject_alt_names.extend(all.into_iter().map(SanType::IpAddress));
        let certificate = p.signed_by(&key, &issuer).map_err(wrong)?;
        Ok(Self { ca_pem, certificate_pem: certificate.pem(), key_pem: key.serialize_pem(), ca_key_pem })
    }

    /// A client certificate for a user and groups: certificate and key, PEM.
    ///
    /// # Errors
    /// When the authority's key is unusable.
    pub fn client(&self, user: &str, groups: &[&str]) -> Result<(String, String), TlsError> {
        let issuer = Issuer::new(authority(AUTHORITY), KeyPair::from_pem(&self.ca_key_pem).map_err(wrong)?);
        let key = KeyPair::generate().map_err(wrong)?;
        let mut p = CertificateParams::default();
        p.distinguished_name = rcgen::DistinguishedName::new();
        p.distinguished_name.push(DnType::CommonName, user);
        for g in groups {
            p.distinguished_name.push(DnType::OrganizationName, *g);
        }
        p.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        p.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        p.use_authority_key_identifier_extension = true;
        p.not_before = rcgen::date_time_ymd(2020, 1, 1);
        p.not_after = rcgen::date_time_ymd(2060, 1, 1);
        let certificate = p.signed_by(&key, &issuer).map_err(wrong)?;
        Ok((certificate.pem(), key.serialize_pem()))
    }

    /// Signs a certificate request (PEM) for these usages (`client auth`, …) and this long: the certificate, PEM.
    ///
    /// # Errors
    /// When the request cannot be read, its signature does not fit, or it asks for what is not known.
    pub fn sign(&self, request: &str, usages: &[&str], lasts: Duration) -> Result<String, TlsError> {
        let mut csr = rcgen::CertificateSigningRequestParams::from_pem(request).map_err(wrong)?;
        let p = &mut csr.params;
        // What a certificate may be used for says the object, not the request.
        p.key_usages = usages.iter().filter_map(|u| key_usage(u)).collect();
        p.extended_key_usages = usages.iter().filter_map(|u| extended_usage(u)).collect();
        p.is_ca = IsCa::ExplicitNoCa;
        p.use_authority_key_identifier_extension = true;
        p.serial_number = Some(rcgen::SerialNumber::from(rand::random::<[u8; 16]>().to_vec()));
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let now = rcgen::date_time_ymd(1970, 1, 1) + since;
        // Clocks differ; upstream dates back by five minutes as well.
        p.not_before = now - Duration::from_secs(300);
        p.not_after = now + lasts;
        let issuer = Issuer::new(authority(AUTHORITY), KeyPair::from_pem(&self.ca_key_pem).map_err(wrong)?);
        Ok(csr.signed_by(&issuer).map_err(wrong)?.pem())
    }

    /// How the server speaks TLS: client certificates of this authority are accepted, not required.
    ///
    /// # Errors
    /// When a key or certificate is unusable.
    pub fn server_config(&self) -> Result<rustls::ServerConfig, TlsError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.ca_pem.as_bytes()).map_err(wrong)?).map_err(wrong)?;
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
            .allow_unauthenticated()
            .build()
            .map_err(wrong)?;
        let chain = vec![CertificateDer::from_pem_slice(self.certificate_pem.as_bytes()).map_err(wrong)?];
        let key = PrivateKeyDer::from_pem_slice(self.key_pem.as_bytes()).map_err(wrong)?;
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(wrong)?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain, key)
            .map_err(wrong)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(config)
    }
}
