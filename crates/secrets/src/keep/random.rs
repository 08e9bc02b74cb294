//! Values nobody has to think of.

use druse_aws::random::ALPHANUMERIC;
use zeroize::Zeroizing;

use super::KeepError;

/// What a made value is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alphabet {
    /// Letters and digits: safe in URLs, shells and connection strings.
    Alphanumeric,
    /// `0` to `f`.
    Hex,
    /// Letters, digits and `!#%*+-.:=?@^_~`.
    Symbols,
}

impl Alphabet {
    fn letters(self) -> &'static [u8] {
        match self {
            Self::Alphanumeric => ALPHANUMERIC,
            Self::Hex => b"0123456789abcdef",
            Self::Symbols => b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789!#%*+-.:=?@^_~",
        }
    }
}

/// A value of so many letters, each as likely as any other.
///
/// # Errors
/// When the system has no randomness.
pub fn random(alphabet: Alphabet, length: usize) -> Result<Zeroizing<String>, KeepError> {
    druse_aws::random::text(alphabet.letters(), length).ok_or(KeepError::Random)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_letter_is_drawn_and_no_other() {
        for alphabet in [Alphabet::Alphanumeric, Alphabet::Hex, Alphabet::Symbols] {
            let drawn = random(alphabet, 20_000).unwrap();
            assert_eq!(drawn.len(), 20_000);
            let mut seen: Vec<u8> = drawn.bytes().collect();
            seen.sort_unstable();
            seen.dedup();
            let mut letters = alphabet.letters().to_vec();
            letters.sort_unstable();
            assert_eq!(seen, letters);
        }
        assert_ne!(random(Alphabet::Hex, 32).unwrap(), random(Alphabet::Hex, 32).unwrap());
    }
}
