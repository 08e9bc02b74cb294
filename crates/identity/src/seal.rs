//! Values at rest: AES-256-GCM under a key in a file that only its owner may read.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom as _, SystemRandom};
use zeroize::Zeroizing;

use crate::file::write_private;

/// Why something cannot be sealed or opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// The key's file cannot be used.
    #[error("{path}: {cause}")]
    File {
        /// Which.
        path: String,
        /// What is wrong.
        cause: String,
    },
    /// The system has no randomness.
    #[error("the system has no randomness")]
    Random,
    /// It was sealed with another key or for another name, or was changed.
    #[error("it was not sealed with this key, or not for this name, or was changed since")]
    Foreign,
}

impl SealError {
    fn file(path: &Path, cause: impl std::fmt::Display) -> Self {
        Self::File { path: path.display().to_string(), cause: cause.to_string() }
    }
}

/// Seals and opens values. What a value is for is authenticated with it: a sealed value moved to another name does not
/// open.
pub struct Sealer {
    key: LessSafeKey,
    random: SystemRandom,
}

impl std::fmt::Debug for Sealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sealer").finish_non_exhaustive()
    }
}

impl Sealer {
    /// With the key of a file, which is made when it is missing.
    ///
    /// # Errors
    /// When the file cannot be read or written, is no key, or may be read by others.
    pub fn open(path: &Path) -> Result<Self, SealError> {
        let wrong = |cause: &str| SealError::file(path, cause);
        if !path.exists() {
            let mut bytes = Zeroizing::new([0u8; 32]);
            SystemRandom::new().fill(bytes.as_mut()).map_err(|_| wrong("the system has no randomness"))?;
            let text = Zeroizing::new(STANDARD.encode(bytes.as_ref()));
            write_private(path, text.as_bytes()).map_err(|e| SealError::file(path, e))?;
        }
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let mode = std::fs::metadata(path).map_err(|e| SealError::file(path, e))?.permissions().mode();
            if mode & 0o077 != 0 {
                return Err(wrong("others may read this key; chmod 600 it, and replace the values that it protected"));
            }
        }
        let text = Zeroizing::new(std::fs::read_to_string(path).map_err(|e| SealError::file(path, e))?);
        let bytes = Zeroizing::new(STANDARD.decode(text.trim()).map_err(|_| wrong("this is no key"))?);
        Self::new(&bytes).ok_or_else(|| wrong("this is no key of 32 bytes"))
    }

    /// With a key that lives only as long as this value.
    ///
    /// # Errors
    /// When the system has no randomness.
    pub fn ephemeral() -> Result<Self, SealError> {
        let mut bytes = Zeroizing::new([0u8; 32]);
        SystemRandom::new().fill(bytes.as_mut()).map_err(|_| SealError::Random)?;
        Self::new(bytes.as_ref()).ok_or(SealError::Random)
    }

    fn new(bytes: &[u8]) -> Option<Self> {
        let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, bytes).ok()?);
        Some(Self { key, random: SystemRandom::new() })
    }

    /// Seals a value for a name.
    ///
    /// # Errors
    /// When the system has no randomness.
    pub fn seal(&self, value: &[u8], name: &[u8]) -> Result<Vec<u8>, SealError> {
        let mut nonce = [0u8; NONCE_LEN];
        self.random.fill(&mut nonce).map_err(|_| SealError::Random)?;
        let mut buffer = Zeroizing::new(value.to_vec());
        // In place: nothing of the value is left where it was.
        let tag = self
            .key
            .seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), Aad::from(name), &mut buffer)
            .map_err(|_| SealError::Random)?;
        Ok([&nonce, buffer.as_slice(), tag.as_ref()].concat())
    }

    /// Opens what was sealed for a name.
    ///
    /// # Errors
    /// When it was sealed with another key or for another name, or was changed.
    pub fn open_sealed(&self, sealed: &[u8], name: &[u8]) -> Result<Zeroizing<Vec<u8>>, SealError> {
        let (nonce, rest) = sealed.split_at_checked(NONCE_LEN).ok_or(SealError::Foreign)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| SealError::Foreign)?;
        let mut buffer = Zeroizing::new(rest.to_vec());
        let opened = self.key.open_in_place(nonce, Aad::from(name), &mut buffer);
        let length = opened.map_err(|_| SealError::Foreign)?.len();
        buffer.truncate(length);
        Ok(buffer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_open_only_with_their_key_and_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        let s = Sealer::open(&path).unwrap();
        let sealed = s.seal(b"value", b"a").unwrap();
        assert_eq!(*Sealer::open(&path).unwrap().open_sealed(&sealed, b"a").unwrap(), b"value");
        assert_eq!(s.open_sealed(&sealed, b"b"), Err(SealError::Foreign));
        assert!(Sealer::ephemeral().unwrap().open_sealed(&sealed, b"a").is_err());
        assert!(s.open_sealed(b"AAAA", b"a").is_err() && s.open_sealed(&[0; 40], b"a").is_err());
        assert_ne!(sealed, s.seal(b"value", b"a").unwrap());
    }

    #[cfg(unix)]
    #[test]
    fn a_key_that_others_may_read_is_refused() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        Sealer::open(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(Sealer::open(&path).unwrap_err().to_string().contains("chmod 600"));
    }
}
