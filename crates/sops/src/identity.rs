//! age keys (X25519), as `age-keygen` writes them.

use std::fmt;

use sha2::{Digest, Sha256};
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroizing;

use crate::bech32;
use crate::error::SopsError;

/// The human-readable parts of keys.
const SECRET: &str = "age-secret-key-";
const PUBLIC: &str = "age";

/// One key.
#[derive(Clone)]
pub(crate) struct Identity {
    pub(crate) secret: StaticSecret,
    pub(crate) public: [u8; 32],
}

/// The keys that documents are decrypted with. Zeroed when dropped; never printed.
#[derive(Clone, Default)]
pub struct Identities {
    pub(crate) keys: Vec<Identity>,
}

impl Identities {
    /// Reads a key file: one identity a line, `#` starts a comment line.
    ///
    /// # Errors
    /// When a line is no X25519 identity; the message says the line and what it looks like, never what it holds.
    pub fn parse(text: &str) -> Result<Self, SopsError> {
        let mut out = Self::default();
        for (i, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let fail = |message: &str| SopsError::Identity { line: i + 1, message: message.to_string() };
            let upper = line.to_ascii_uppercase();
            if upper.starts_with("AGE-PLUGIN-") {
                return Err(fail("keys of age plugins are not supported; use an X25519 identity (age-keygen)"));
            }
            if upper.starts_with("AGE-SECRET-KEY-PQ-1") {
                return Err(fail("post-quantum age keys are not supported; use an X25519 identity (age-keygen)"));
            }
            if line.starts_with("-----BEGIN") || line.starts_with("age-encryption.org/") {
                return Err(fail("SSH keys and encrypted identity files are not supported; decrypt the file first"));
            }
            let bytes = Zeroizing::new(
                bech32::decode(SECRET, line)
                    .ok_or_else(|| fail("this is no age identity (AGE-SECRET-KEY-1…), or it is damaged"))?,
            );
            let secret = StaticSecret::from(*bytes);
            let public = PublicKey::from(&secret).to_bytes();
            out.keys.push(Identity { secret, public });
        }
        Ok(out)
    }

    /// Adds the keys of another set.
    pub fn extend(&mut self, other: &Self) {
        for key in &other.keys {
            if !self.keys.iter().any(|k| k.public == key.public) {
                self.keys.push(key.clone());
            }
        }
    }

    /// Whether there is no key.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The recipients (public keys) of these keys: `age1…`.
    #[must_use]
    pub fn recipients(&self) -> Vec<String> {
        self.keys.iter().map(|k| bech32::encode(PUBLIC, &k.public)).collect()
    }

    /// A digest of the public keys: two sets with the same one decrypt the same documents.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        let mut publics: Vec<&[u8; 32]> = self.keys.iter().map(|k| &k.public).collect();
        publics.sort();
        let mut hash = Sha256::new();
        for p in publics {
            hash.update(p);
        }
        hex::encode(hash.finalize())
    }
}

impl fmt::Debug for Identities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Identities").field(&self.recipients()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_files_are_read_and_their_faults_named_without_the_key() {
        // From `age-keygen`.
        let text = "# created: 2024-01-01T00:00:00Z\n# public key: age1zvkyg2lqzraa2lnjvqej32nkuu0ues2s82hzrye869xeexvn73equnujwj\n\
                    AGE-SECRET-KEY-1GFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPQ4EGAEX\n";
        let ids = Identities::parse(text).unwrap();
        assert_eq!(ids.recipients(), ["age1zvkyg2lqzraa2lnjvqej32nkuu0ues2s82hzrye869xeexvn73equnujwj"]);
        assert!(!format!("{ids:?}").contains("SECRET"));
        for (bad, why) in [
            ("AGE-SECRET-KEY-1GFPYYSJZ", "no age identity"),
            ("\n\nAGE-PLUGIN-YUBIKEY-1XYZ", "plugins"),
            ("AGE-SECRET-KEY-PQ-1ABC", "post-quantum"),
            ("-----BEGIN OPENSSH PRIVATE KEY-----", "SSH keys"),
        ] {
            let e = Identities::parse(bad).unwrap_err().to_string();
            assert!(e.contains(why) && !e.contains("GFPY"), "{e}");
        }
        assert!(Identities::parse("").unwrap().is_empty());
    }
}
