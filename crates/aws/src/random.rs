//! Random text, for keys, tokens and values nobody has to think of.

use ring::rand::{SecureRandom as _, SystemRandom};
use zeroize::Zeroizing;

/// Letters and digits: safe in URLs, shells and connection strings.
pub const ALPHANUMERIC: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

/// So many of these letters (at most 256 of them), each as likely as any other; nothing when the system has no randomness.
#[must_use]
pub fn text(letters: &[u8], length: usize) -> Option<Zeroizing<String>> {
    // What is left of 256 after whole alphabets would make the first letters likelier.
    let fair = 256 - 256 % letters.len().max(1);
    let source = SystemRandom::new();
    let mut out = Zeroizing::new(String::with_capacity(length));
    let mut bytes = Zeroizing::new([0u8; 64]);
    while out.len() < length {
        source.fill(bytes.as_mut_slice()).ok()?;
        let drawn = bytes.iter().map(|b| usize::from(*b)).filter(|b| *b < fair);
        for b in drawn.take(length - out.len()) {
            out.push(char::from(*letters.get(b % letters.len())?));
        }
    }
    Some(out)
}
