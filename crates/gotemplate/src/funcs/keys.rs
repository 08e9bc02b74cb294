//! Private keys as sprig makes, writes and reads them, and the little DER that certificates need.

use ed25519_dalek::Signer as _;
use rand::Rng as _;
use rand_chacha::ChaCha20Rng;
use rsa::PrivateKey as RsaPrivateKey;
use rsa::pkcs1::{DecodeRsaPrivateKey as _, EncodeRsaPrivateKey as _, EncodeRsaPublicKey as _};
use rsa::signature::SignatureEncoding as _;

use crate::env::FuncError;

use super::args::err;
use super::primes::rsa_key;

/// A private key.
pub enum Key {
    /// RSA.
    Rsa(Box<RsaPrivateKey>),
    /// ECDSA on P-256.
    Ec(p256::SecretKey),
    /// Ed25519.
    Ed(ed25519_dalek::SigningKey),
}

/// The encoded object identifiers used here.
mod oid {
    pub const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1];
    pub const RSA_SHA256: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 11];
    pub const EC: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1];
    pub const P256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7];
    pub const ECDSA_SHA256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2];
    pub const ED25519: &[u8] = &[0x2b, 0x65, 0x70];
}

/// One DER element.
#[must_use]
pub fn der(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let len: usize = parts.iter().map(|p| p.len()).sum();
    let mut out = vec![tag];
    if len < 0x80 {
        out.push(len as u8);
    } else {
        let bytes = len.to_be_bytes();
        let significant = bytes.iter().position(|b| *b != 0).and_then(|i| bytes.get(i..)).unwrap_or(&[]);
        out.push(0x80 | significant.len() as u8);
        out.extend_from_slice(significant);
    }
    parts.iter().for_each(|p| out.extend_from_slice(p));
    out
}

/// DER sequence.
#[must_use]
pub fn seq(parts: &[&[u8]]) -> Vec<u8> {
    der(0x30, parts)
}

/// DER object identifier from its encoded form.
#[must_use]
pub fn oid(encoded: &[u8]) -> Vec<u8> {
    der(6, &[encoded])
}

/// The first element of some DER.
pub struct Element<'a> {
    /// Its tag.
    pub tag: u8,
    /// Its content.
    pub content: &'a [u8],
    /// All of it, tag and length included.
    pub whole: &'a [u8],
    /// What follows it.
    pub rest: &'a [u8],
}

/// Reads the first element of some DER.
pub fn read(data: &[u8]) -> Option<Element<'_>> {
    let tag = *data.first()?;
    let first = usize::from(*data.get(1)?);
    let (len, header) = if first < 0x80 {
        (first, 2)
    } else {
        let n = first & 0x7f;
        if n == 0 || n > 4 {
            return None;
        }
        (data.get(2..2 + n)?.iter().fold(0usize, |l, b| (l << 8) | usize::from(*b)), 2 + n)
    };
    let end = header.checked_add(len)?;
    Some(Element { tag, content: data.get(header..end)?, whole: data.get(..end)?, rest: data.get(end..)? })
}

/// The content of the first element if it has that tag, and what follows.
pub fn expect(data: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let first = read(data)?;
    (first.tag == tag).then_some((first.content, first.rest))
}

/// A PEM block as Go writes it.
#[must_use]
pub fn to_pem(tag: &str, data: Vec<u8>) -> String {
    pem::encode_config(&pem::Pem::new(tag, data), pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF))
}

impl Key {
    /// A new RSA key.
    pub fn rsa(rng: &mut ChaCha20Rng, bits: usize) -> Result<Self, FuncError> {
        match rsa_key(rng, bits) {
            Ok(k) => Ok(Self::Rsa(Box::new(k))),
            Err(e) => err(format!("error generating rsa key: {e}")),
        }
    }

    /// A new key on P-256.
    pub fn ec(rng: &mut ChaCha20Rng) -> Self {
        loop {
            let mut secret = [0u8; 32];
            rng.fill_bytes(&mut secret);
            // All but a few of 2^32 texts are keys.
            if let Ok(key) = p256::SecretKey::from_slice(&secret) {
                return Self::Ec(key);
            }
        }
    }

    /// A new Ed25519 key.
    pub fn ed(rng: &mut ChaCha20Rng) -> Self {
        let mut secret = [0u8; 32];
        rng.fill_bytes(&mut secret);
        Self::Ed(ed25519_dalek::SigningKey::from_bytes(&secret))
    }

    /// Go's `pemBlockForKey`: PKCS#1, SEC 1 or PKCS#8.
    pub fn pem(&self) -> Result<String, FuncError> {
        Ok(match self {
            Self::Rsa(k) => match k.to_pkcs1_der() {
                Ok(d) => to_pem("RSA PRIVATE KEY", d.as_bytes().to_vec()),
                Err(e) => return err(format!("failed to generate private key: {e}")),
            },
            Self::Ec(k) => {
                let public = self.public_bits()?;
                let data = seq(&[
                    &der(2, &[&[1]]),
                    &der(4, &[&k.to_bytes()]),
                    &der(0xa0, &[&oid(oid::P256)]),
                    &der(0xa1, &[&der(3, &[&[0], &public])]),
                ]);
                to_pem("EC PRIVATE KEY", data)
            }
            Self::Ed(k) => {
                let secret = der(4, &[&der(4, &[k.as_bytes()])]);
                to_pem("PRIVATE KEY", seq(&[&der(2, &[&[0]]), &seq(&[&oid(oid::ED25519)]), &secret]))
            }
        })
    }

    /// Go's `parsePrivateKeyPEM`.
    pub fn parse(text: &str) -> Result<Self, FuncError> {
        let Ok(block) = pem::parse(text) else {
            return err("no PEM data in input");
        };
        let data = block.contents();
        match block.tag() {
            "PRIVATE KEY" => match Self::pkcs8(data) {
                Some(k) => Ok(k),
                None => err("decoding PEM as PKCS#8: the key cannot be read, or is of a type not supported"),
            },
            "RSA PRIVATE KEY" => match RsaPrivateKey::from_pkcs1_der(data) {
                Ok(k) => Ok(Self::Rsa(Box::new(k))),
                Err(e) => err(format!("parsing RSA private key from PEM: {e}")),
            },
            "EC PRIVATE KEY" => match Self::sec1(data) {
                Some(k) => Ok(k),
                None => err("parsing EC private key from PEM: the key cannot be read, or is not on P-256"),
            },
            "DSA PRIVATE KEY" => err("DSA keys are not supported; use rsa, ecdsa or ed25519"),
            tag => match tag.strip_suffix(" PRIVATE KEY") {
                Some(kind) => err(format!("invalid private key type {kind}")),
                None => err(format!("no private key data in PEM block of type {tag}")),
            },
        }
    }

    fn sec1(data: &[u8]) -> Option<Self> {
        let (content, _) = expect(data, 0x30)?;
        let (_, rest) = expect(content, 2)?;
        let (secret, rest) = expect(rest, 4)?;
        if let Some((parameters, _)) = expect(rest, 0xa0)
            && expect(parameters, 6)?.0 != oid::P256
        {
            return None;
        }
        p256::SecretKey::from_slice(secret).ok().map(Self::Ec)
    }

    fn pkcs8(data: &[u8]) -> Option<Self> {
        let (content, _) = expect(data, 0x30)?;
        let (_, rest) = expect(content, 2)?;
        let (algorithm, rest) = expect(rest, 0x30)?;
        let (inner, _) = expect(rest, 4)?;
        let (id, parameters) = expect(algorithm, 6)?;
        match id {
            oid::RSA => RsaPrivateKey::from_pkcs1_der(inner).ok().map(|k| Self::Rsa(Box::new(k))),
            oid::EC if expect(parameters, 6)?.0 == oid::P256 => Self::sec1(inner),
            oid::ED25519 => {
                let secret: [u8; 32] = expect(inner, 4)?.0.try_into().ok()?;
                Some(Self::Ed(ed25519_dalek::SigningKey::from_bytes(&secret)))
            }
            _ => None,
        }
    }

    /// The public key as it stands in a certificate's bit string.
    pub fn public_bits(&self) -> Result<Vec<u8>, FuncError> {
        Ok(match self {
            Self::Rsa(k) => match k.to_public_key().to_pkcs1_der() {
                Ok(d) => d.as_bytes().to_vec(),
                Err(e) => return err(format!("error retrieving public key from signee key: {e}")),
            },
            Self::Ec(k) => k.public_key().to_sec1_bytes().into_vec(),
            Self::Ed(k) => k.verifying_key().as_bytes().to_vec(),
        })
    }

    /// `SubjectPublicKeyInfo`.
    pub fn public_info(&self) -> Result<Vec<u8>, FuncError> {
        let algorithm = match self {
            Self::Rsa(_) => seq(&[&oid(oid::RSA), &[5, 0]]),
            Self::Ec(_) => seq(&[&oid(oid::EC), &oid(oid::P256)]),
            Self::Ed(_) => seq(&[&oid(oid::ED25519)]),
        };
        Ok(seq(&[&algorithm, &der(3, &[&[0], &self.public_bits()?])]))
    }

    /// The identifier of the algorithm this key signs with.
    #[must_use]
    pub fn signature_algorithm(&self) -> Vec<u8> {
        match self {
            Self::Rsa(_) => seq(&[&oid(oid::RSA_SHA256), &[5, 0]]),
            Self::Ec(_) => seq(&[&oid(oid::ECDSA_SHA256)]),
            Self::Ed(_) => seq(&[&oid(oid::ED25519)]),
        }
    }

    /// Signs; every algorithm here is deterministic.
    pub fn sign(&self, data: &[u8]) -> Result<Vec<u8>, FuncError> {
        let failed = |e: &dyn std::fmt::Display| FuncError(format!("error creating certificate: {e}"));
        Ok(match self {
            Self::Rsa(k) => rsa::pkcs1v15::SigningKey::<rsa::sha2::Sha256>::new(k.as_ref().clone())
                .try_sign(data)
                .map_err(|e| failed(&e))?
                .to_vec(),
            Self::Ec(k) => {
                let signature: p256::ecdsa::Signature =
                    p256::ecdsa::SigningKey::from(k).try_sign(data).map_err(|e| failed(&e))?;
                signature.to_der().as_bytes().to_vec()
            }
            Self::Ed(k) => k.try_sign(data).map_err(|e| failed(&e))?.to_bytes().to_vec(),
        })
    }
}
