//! Values nobody has to think of.

use ring::rand::{SecureRandom as _, SystemRandom};
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
            Self::Alphanumeric => b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789",
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
    let letters = alphabet.letters();
    // What is left of 256 after whole alphabets would make the first letters likelier.
    let fair = 256 - 256 % letters.len();
    let source = SystemRandom::new();
    let mut out = Zeroizing::new(String::with_capacity(length));
    let mut bytes = Zeroizing::new([0u8; 64]);
    while out.len() < length {
        source.fill(bytes.as_mut_slice()).map_err(|_| KeepError::Random)?;
        let drawn = bytes.iter().map(|b| usize::from(*b)).filter(|b| *b < fair);
        for b in drawn.take(length - out.len()) {
            out.push(char::from(letters[b % letters.len()]));
        }
    }
    Ok(out)
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
