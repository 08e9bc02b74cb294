//! Keys: made, read, written as Talos wants them, named as Kubernetes names them.
//!
//! Key ids follow kube-apiserver (`pkg/serviceaccount/jwt.go`, `keyIDFromPublicKey`): the SHA-256 of the public key's
//! DER (SubjectPublicKeyInfo), base64url without padding.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::rand::SystemRandom;
use ring::rsa::KeyPair;
use ring::signature::{RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256, RsaPublicKeyComponents};
use rsa::pkcs1::{DecodeRsaPrivateKey as _, EncodeRsaPrivateKey as _};
use rsa::pkcs8::{
    DecodePrivateKey as _, DecodePublicKey as _, EncodePrivateKey as _, EncodePublicKey as _, LineEnding,
};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::IdentityError;
use crate::file::write_private;

/// The smallest key made.
pub const MIN_BITS: usize = 2048;
/// The largest key made: larger ones make every token slow, and AWS takes none.
pub const MAX_BITS: usize = 4096;

/// `id-ecPublicKey`, as DER writes it.
const EC_OID: &[u8] = &[0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
/// Ed25519, as DER writes it.
const ED25519_OID: &[u8] = &[0x06, 0x03, 0x2b, 0x65, 0x70];

/// A private key that signs ServiceAccount tokens.
pub struct SigningKey {
    private: rsa::PrivateKey,
    signing: KeyPair,
    public: PublicKey,
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SigningKey").field("id", &self.public.id).finish_non_exhaustive()
    }
}

impl SigningKey {
    /// A new key.
    ///
    /// # Errors
    /// When the size is not between 2048 and 4096 in steps of eight bits, or the system has no randomness.
    pub fn generate(bits: usize) -> Result<Self, IdentityError> {
        if !(MIN_BITS..=MAX_BITS).contains(&bits) || !bits.is_multiple_of(8) {
            return Err(IdentityError::Key(format!(
                "a key of {bits} bits is not made: choose 2048, 3072 or 4096 (2048 is what Kubernetes and AWS expect)"
            )));
        }
        let private = rsa::PrivateKey::new(&mut rand::rng(), bits)
            .map_err(|e| IdentityError::Key(format!("no key was made: {e}")))?;
        Self::of(private, "the new key")
    }

    /// Reads a private key: PEM in PKCS#1 or PKCS#8, plain or base64-encoded once more as Talos keeps it.
    ///
    /// `what` names it in errors.
    ///
    /// # Errors
    /// When it is none, is too small, or is of a kind that AWS refuses.
    pub fn parse(text: &str, what: &str) -> Result<Self, IdentityError> {
        let block = pem_block(text, what)?;
        let bytes = Zeroizing::new(block.contents().to_vec());
        let private = match block.tag() {
            "RSA PRIVATE KEY" => rsa::PrivateKey::from_pkcs1_der(&bytes).map_err(|e| e.to_string()),
            "PRIVATE KEY" if contains(&bytes, EC_OID) => return Err(not_rsa(what, "ES256")),
            "PRIVATE KEY" if contains(&bytes, ED25519_OID) => return Err(not_rsa(what, "EdDSA")),
            "PRIVATE KEY" => rsa::PrivateKey::from_pkcs8_der(&bytes).map_err(|e| e.to_string()),
            "EC PRIVATE KEY" => return Err(not_rsa(what, "ES256")),
            "PUBLIC KEY" | "RSA PUBLIC KEY" => Err("this is a public key; the private one is needed".to_string()),
            other => Err(format!("a PEM block {other:?} is no private key; RSA PRIVATE KEY or PRIVATE KEY is")),
        }
        .map_err(|cause| IdentityError::Key(format!("{what}: {cause}")))?;
        Self::of(private, what)
    }

    /// Reads a private key from a file.
    ///
    /// # Errors
    /// As [`Self::parse`], and when the file cannot be read.
    pub fn read(path: &Path) -> Result<Self, IdentityError> {
        let text = Zeroizing::new(std::fs::read_to_string(path).map_err(|e| IdentityError::file(path, e))?);
        Self::parse(&text, &path.display().to_string())
    }

    fn of(private: rsa::PrivateKey, what: &str) -> Result<Self, IdentityError> {
        let wrong = |e: &dyn std::fmt::Display| IdentityError::Key(format!("{what}: {e}"));
        let der = private.to_pkcs8_der().map_err(|e| wrong(&e))?;
        let signing = KeyPair::from_pkcs8(der.as_bytes())
            .map_err(|e| wrong(&format!("this key cannot sign ({e}); 2048 to 4096 bits are usual")))?;
        let public = PublicKey::of(&private.to_public_key(), what)?;
        Ok(Self { private, signing, public })
    }

    /// Its public half.
    #[must_use]
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// Its size.
    #[must_use]
    pub fn bits(&self) -> usize {
        self.signing.public().modulus_len() * 8
    }

    /// The key as PKCS#1 PEM.
    ///
    /// # Errors
    /// When it cannot be encoded.
    pub fn to_pkcs1_pem(&self) -> Result<Zeroizing<String>, IdentityError> {
        self.private.to_pkcs1_pem(LineEnding::LF).map_err(|e| IdentityError::Key(e.to_string()))
    }

    /// The key as PKCS#8 PEM.
    ///
    /// # Errors
    /// When it cannot be encoded.
    pub fn to_pkcs8_pem(&self) -> Result<Zeroizing<String>, IdentityError> {
        self.private.to_pkcs8_pem(LineEnding::LF).map_err(|e| IdentityError::Key(e.to_string()))
    }

    /// The key as Talos' `cluster.serviceAccount.key` holds it: PKCS#1 PEM, base64-encoded.
    ///
    /// # Errors
    /// When it cannot be encoded.
    pub fn to_talos(&self) -> Result<Zeroizing<String>, IdentityError> {
        Ok(Zeroizing::new(STANDARD.encode(self.to_pkcs1_pem()?.as_bytes())))
    }

    /// Writes the key as Talos wants it into a file that only its owner may read. An existing file is left alone.
    ///
    /// # Errors
    /// When the file exists or cannot be written.
    pub fn write_new(&self, path: &Path) -> Result<(), IdentityError> {
        if path.exists() {
            return Err(IdentityError::File {
                path: path.display().to_string(),
                cause: "it exists, and a key is not written over: tokens signed with it would be refused at once. \
                        Choose another file, or replace the key with `druse identity rotate`"
                    .into(),
            });
        }
        let mut text = self.to_talos()?;
        text.push('\n');
        write_private(path, text.as_bytes()).map_err(|e| IdentityError::file(path, e))
    }

    /// Signs with RS256.
    ///
    /// # Errors
    /// When the system has no randomness.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, IdentityError> {
        let mut signature = vec![0; self.signing.public().modulus_len()];
        self.signing
            .sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message, &mut signature)
            .map_err(|_| IdentityError::Key("signing failed".into()))?;
        Ok(signature)
    }
}

/// A public key that tokens are checked with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey {
    id: String,
    modulus: Vec<u8>,
    exponent: Vec<u8>,
    pem: String,
}

impl PublicKey {
    /// Reads a public key from PEM: a public key, or the public half of a private one.
    ///
    /// # Errors
    /// When it is none, or is of a kind that AWS refuses.
    pub fn parse(text: &str, what: &str) -> Result<Self, IdentityError> {
        let block = pem_block(text, what)?;
        let wrong = |e: &dyn std::fmt::Display| IdentityError::Key(format!("{what}: {e}"));
        match block.tag() {
            "PUBLIC KEY" if contains(block.contents(), EC_OID) => Err(not_rsa(what, "ES256")),
            "PUBLIC KEY" if contains(block.contents(), ED25519_OID) => Err(not_rsa(what, "EdDSA")),
            "PUBLIC KEY" => {
                Self::of(&rsa::PublicKey::from_public_key_der(block.contents()).map_err(|e| wrong(&e))?, what)
            }
            "RSA PUBLIC KEY" => {
                use rsa::pkcs1::DecodeRsaPublicKey as _;
                Self::of(&rsa::PublicKey::from_pkcs1_der(block.contents()).map_err(|e| wrong(&e))?, what)
            }
            _ => Ok(SigningKey::parse(text, what)?.public),
        }
    }

    /// A key from the `n` and `e` of a key set, whatever id the set gives it.
    ///
    /// # Errors
    /// When they are no base64url or no RSA key.
    pub fn from_components(n: &str, e: &str, what: &str) -> Result<Self, IdentityError> {
        let wrong = |m: &dyn std::fmt::Display| IdentityError::Key(format!("{what}: {m}"));
        let part = |s: &str| URL_SAFE_NO_PAD.decode(s.trim_end_matches('=')).map_err(|e| wrong(&e));
        let number = |bytes: &[u8]| rsa::BoxedUint::from_be_slice_vartime(bytes);
        let key = rsa::PublicKey::new(number(&part(n)?), number(&part(e)?)).map_err(|e| wrong(&e))?;
        Self::of(&key, what)
    }

    fn of(key: &rsa::PublicKey, what: &str) -> Result<Self, IdentityError> {
        use rsa::traits::PublicKeyParts as _;
        let wrong = |e: &dyn std::fmt::Display| IdentityError::Key(format!("{what}: {e}"));
        let der = key.to_public_key_der().map_err(|e| wrong(&e))?;
        Ok(Self {
            id: URL_SAFE_NO_PAD.encode(Sha256::digest(der.as_bytes())),
            modulus: trimmed(&key.n().to_be_bytes()),
            exponent: trimmed(&key.e().to_be_bytes()),
            pem: key.to_public_key_pem(LineEnding::LF).map_err(|e| wrong(&e))?,
        })
    }

    /// Its id, as Kubernetes derives it.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The modulus as a key set writes it.
    #[must_use]
    pub fn n(&self) -> String {
        URL_SAFE_NO_PAD.encode(&self.modulus)
    }

    /// The exponent as a key set writes it.
    #[must_use]
    pub fn e(&self) -> String {
        URL_SAFE_NO_PAD.encode(&self.exponent)
    }

    /// The key as PEM.
    #[must_use]
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// Whether a signature is this key's over the message (RS256).
    #[must_use]
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        let key = RsaPublicKeyComponents { n: &self.modulus, e: &self.exponent };
        key.verify(&RSA_PKCS1_2048_8192_SHA256, message, signature).is_ok()
    }
}

fn trimmed(bytes: &[u8]) -> Vec<u8> {
    let start = bytes.iter().position(|b| *b != 0).unwrap_or(bytes.len());
    bytes[start..].to_vec()
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|w| w == needle)
}

fn not_rsa(what: &str, algorithm: &str) -> IdentityError {
    IdentityError::NotRsa { what: what.to_string(), algorithm: algorithm.to_string() }
}

/// The first PEM block that is not mere parameters, from PEM or from base64 of PEM.
fn pem_block(text: &str, what: &str) -> Result<pem::Pem, IdentityError> {
    let wrong = |cause: &str| IdentityError::Key(format!("{what}: {cause}"));
    let decoded: Zeroizing<Vec<u8>>;
    let bytes: &[u8] = if text.contains("-----BEGIN") {
        text.as_bytes()
    } else {
        let compact: Zeroizing<String> = Zeroizing::new(text.split_whitespace().collect());
        decoded = Zeroizing::new(STANDARD.decode(compact.as_bytes()).map_err(|_| {
            wrong("this is no key: PEM was expected, plain or base64-encoded as in Talos' machine configuration")
        })?);
        &decoded
    };
    let blocks = pem::parse_many(bytes).map_err(|_| wrong("the PEM text is damaged"))?;
    blocks.into_iter().find(|b| b.tag() != "EC PARAMETERS").ok_or_else(|| wrong("there is no PEM block in it"))
}

#[cfg(test)]
mod tests {
    use super::*;

    // Made with: openssl genrsa -traditional 2048; the id with
    // openssl rsa -pubout -outform DER | openssl dgst -sha256 -binary | basenc --base64url.
    const PEM: &str = include_str!("../tests/data/rsa.pem");
    const ID: &str = include_str!("../tests/data/rsa.kid");

    #[test]
    fn the_key_id_is_the_digest_of_the_public_key() {
        let key = SigningKey::parse(PEM, "test").unwrap();
        assert_eq!(key.public().id(), ID.trim());
        assert_eq!(PublicKey::from_components(&key.public().n(), &key.public().e(), "set").unwrap(), *key.public());
        assert_eq!(PublicKey::parse(key.public().pem(), "public").unwrap(), *key.public());
    }

    #[test]
    fn a_key_is_written_as_talos_wants_it_and_read_back() {
        let key = SigningKey::parse(PEM, "test").unwrap();
        let talos = key.to_talos().unwrap();
        let pem = String::from_utf8(STANDARD.decode(talos.as_bytes()).unwrap()).unwrap();
        assert!(pem.starts_with("-----BEGIN RSA PRIVATE KEY-----\n"), "PKCS#1");
        assert_eq!(SigningKey::parse(&talos, "talos").unwrap().public(), key.public());
        let pkcs8 = key.to_pkcs8_pem().unwrap();
        assert_eq!(SigningKey::parse(&pkcs8, "pkcs8").unwrap().public(), key.public());
    }

    #[test]
    fn a_key_file_is_private_and_never_written_over() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sa.key");
        let key = SigningKey::parse(PEM, "test").unwrap();
        key.write_new(&path).unwrap();
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        }
        let before = std::fs::read(&path).unwrap();
        let e = key.write_new(&path).unwrap_err();
        assert!(e.to_string().contains("rotate"), "{e}");
        assert_eq!(std::fs::read(&path).unwrap(), before);
        assert_eq!(SigningKey::read(&path).unwrap().public().id(), key.public().id());
    }

    #[test]
    fn an_elliptic_key_is_refused_with_the_reason_and_the_remedy() {
        for text in [include_str!("../tests/data/ec-sec1.pem"), include_str!("../tests/data/ec-pkcs8.pem")] {
            let e = SigningKey::parse(text, "sa.key").unwrap_err();
            assert!(e.to_string().contains("RS256 only") && e.to_string().contains("ES256"), "{e}");
            assert!(e.help().unwrap().contains("druse identity keygen"));
        }
        let e = PublicKey::parse(include_str!("../tests/data/ec-pub.pem"), "sa.pub").unwrap_err();
        assert!(matches!(e, IdentityError::NotRsa { .. }));
    }

    #[test]
    fn sizes_outside_of_2048_to_4096_are_refused() {
        for bits in [0, 512, 1024, 2047, 2050, 4104, 8192] {
            assert!(SigningKey::generate(bits).is_err(), "{bits}");
        }
        assert_eq!(SigningKey::generate(2048).unwrap().bits(), 2048);
    }

    #[test]
    fn what_is_no_key_is_named_without_showing_it() {
        for text in [
            "",
            "secret words",
            "LS0tLS1CRUdJTg==",
            "-----BEGIN RSA PRIVATE KEY-----\nAAAA\n-----END RSA PRIVATE KEY-----\n",
        ] {
            let e = SigningKey::parse(text, "sa.key").unwrap_err().to_string();
            assert!(e.starts_with("sa.key: "), "{e}");
            assert!(!e.contains("secret words"));
        }
    }
}
